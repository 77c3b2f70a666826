"""The benchmarks' scripts run from end to end, with next to no data and steps: the numbers mean nothing here."""

import io
import json
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


@pytest.fixture
def data(tmp_path):
    dice = np.random.default_rng(0)

    def file(name, height, width, kind="PNG"):
        held = io.BytesIO()
        Image.fromarray(dice.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(held, kind)
        return name, held.getvalue()

    def archive(name, files):
        with zipfile.ZipFile(tmp_path / name, "w") as target:
            for path, content in files:
                target.writestr(path, content)

    digits = {f"x_{part}": dice.integers(0, 256, (120, 28, 28), dtype=np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(120, dtype=np.uint8) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "fashion_mnist.npz", **digits, **labels)
    jpegs = {}
    for part in ("train", "test"):
        each = [np.frombuffer(file(str(i), 32, 32, "JPEG")[1], dtype=np.uint8) for i in range(70)]
        jpegs |= {f"jpeg_{part}": np.concatenate(each), f"offset_{part}": np.cumsum([0, *map(len, each)])}
        jpegs |= {f"y_{part}": np.arange(70, dtype=np.uint8) % 10}
    np.savez(tmp_path / "cifar10_jpeg.npz", **jpegs)
    cubes = {f"x_{part}": dice.integers(0, 256, (24, 32, 32, 4), dtype=np.uint8) for part in ("train", "test")}
    kinds = {f"y_{part}": np.arange(24, dtype=np.uint8) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "voxels_modelnet10_32.npz", **cubes, **kinds, class_names=np.array(["bed", "chair"]))
    archive("facades.zip", [file(f"{part}/{i}.jpg", 256, 512, "JPEG") for part in ("train", "val") for i in range(4)])
    archive("sr_train_bsds.zip", [file(f"{i}.jpg", 80, 72, "JPEG") for i in range(2)])
    sides = (("HR", 208, 112), ("LRx4", 52, 28))
    archive(
        "sr_test_set5_set14.zip", [file(f"{s}/{n}/img_001.png", h, w) for s in ("Set5", "Set14") for n, h, w in sides]
    )
    return tmp_path


def run(module, monkeypatch, out, *arguments):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", [module.__name__, "--out", str(out), *map(str, arguments)])
    try:
        module.main()
    finally:
        torch.set_num_threads(threads)
    return {json.loads(path.read_text())["row"] for path in (out / "rows").glob("*.json")}


def test_swiss_roll(monkeypatch, tmp_path, capsys):
    import swiss_roll as module

    monkeypatch.setattr(module, "measured", partial(module.measured, samples=500))
    rows = run(module, monkeypatch, tmp_path, "--steps", 2, "--seeds", 0, 1)
    controls = {"noise", "a constant", "another sample"}
    assert rows == {"real points", "base", module.ORACLE, "AFL", "G trained on", *controls}
    assert module.to_curve(module.moved(2 * torch.randn(500, 2))) == pytest.approx(0.0267, abs=0.004), "as real points"
    said = capsys.readouterr().out
    assert said.count("| AFL |") == 2
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    run(module, monkeypatch, tmp_path, "--steps", 2, "--seeds", 0, 1)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}, "done once"


def test_images(monkeypatch, data, tmp_path):
    import images as module

    monkeypatch.setattr(module, "SAMPLES", 30)
    monkeypatch.setattr(module, "WARMUP", 2)
    for options in (module.BASE, module.PHASE_2, module.SNGAN):
        for name, value in (("recalibrate", 1), ("batch", 4), ("mixed_precision", "no")):
            monkeypatch.setitem(options, name, value)
    words = ["--data", data, "--base-steps", 2, "--steps", 2, "--seeds", 0]
    rows = run(module, monkeypatch, tmp_path / "out", *words)
    rest = {"noise", "a constant", "zeros", "another sample", "plain D"}
    assert rows == {"training images", "base", "AFL", "G trained on", *rest}
    rows = run(module, monkeypatch, tmp_path / "sngan", *words, "--base", "sngan")
    assert rows == {"training images", "base", "AFL", "G trained on", *rest} - {"plain D"}


@pytest.mark.parametrize(("kind", "links"), [("sngan", "all"), ("wgangp", "one")])
def test_cifar10(kind, links, monkeypatch, data, tmp_path):
    import cifar10 as module

    monkeypatch.setattr(module, "SAMPLES", 30)
    monkeypatch.setattr(module, "classifier", partial(module.classifier, steps=2))
    monkeypatch.setitem(module.PHASE_2, "recalibrate", 1)
    monkeypatch.setitem(module.PHASE_2, "batch", 8)
    words = [
        "--data",
        data,
        "--width",
        4,
        "--base-steps",
        2,
        "--steps",
        2,
        "--seeds",
        0,
        "--bases",
        kind,
        "--mixed-precision",
        "bf16",
    ]
    rows = run(module, monkeypatch, tmp_path / "out", *words, "--links", links)
    each = ("base", "AFL", "G trained on", "noise", "a constant", "zeros", "another sample")
    assert rows == {"training images", *(f"{kind}: {row}" for row in each)}


def test_a_base_learns_by_a_plain_loop_and_ends_as_its_average():
    import bases as module

    torch.manual_seed(0)
    G, D, real = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1)), torch.full((8, 1), 3.0)
    off = lambda: abs(G(torch.randn(100, 1)).mean().item() - 3)
    before = off()
    module.pretrain(
        *(G, D, real, 150),
        loss="least_squares",
        betas=(0.5, 0.9),
        latents=lambda n: torch.randn(n, 1),
        lr=0.02,
        ema=0.9,
    )
    assert not any(net.training for net in (G, D))
    assert all(p.requires_grad for p in D.parameters())
    assert off() < before / 3


def test_overlaps_of_voxels_by_hand():
    import voxels as module

    one, two = torch.zeros(1, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2)
    one[0, 0, 0] = 1  # four voxels
    two[0, 0, 0, 0] = 1  # two of them
    assert torch.equal(module.overlaps(one, two), torch.tensor([[0.5, 0.0]]))
    assert torch.equal(module.overlaps(two, two), torch.tensor([[1.0, 0.0], [0.0, 0.0]])), "two empty cubes: 0"


def test_voxels(monkeypatch, data, tmp_path):
    import voxels as module

    monkeypatch.setattr(module, "SAMPLES", 30)
    monkeypatch.setattr(module, "classifier", partial(module.classifier, steps=2))
    for name, value in (("batch", 4), ("recalibrate", 1)):
        monkeypatch.setitem(module.OPTIONS, name, value)
    words = ("--data", data, "--classes", "chair", "--steps", 2, 4, "--base-steps", 2, "--width", 2)
    run(
        module, monkeypatch, tmp_path / "small", *words, "--size", 16, "--mixed-precision", "bf16", "--rows", "VoxelGAN"
    )
    rows = run(module, monkeypatch, tmp_path / "out", *words)
    for_fal = [(row, n, t) for row in module.ROWS[1:] for n in (2, 4) for t in range(1, 6)]
    expected = {f"chair: {row}, {n} steps, t = {t}" for row, n, t in for_fal if (row, n) != ("FAL after VoxelGAN", 2)}
    assert rows == {"chair: test cubes", "chair: VoxelGAN, 2 steps", "chair: VoxelGAN, 4 steps"} | expected


def test_pix2pix(monkeypatch, data, tmp_path):
    pytest.importorskip("torchmetrics")
    import pix2pix as module

    monkeypatch.setattr(module, "WIDTH", 4)
    monkeypatch.setattr(module, "segmenter", partial(module.segmenter, steps=2))
    rows = run(module, monkeypatch, tmp_path / "out", "--data", data, "--steps", 2, "--size", 32)
    assert rows == {"true photographs", "pix2pix", "pix2pix, same time", *(f"FAL t = {t}" for t in range(1, 7))}


def test_super_resolution(monkeypatch, data, tmp_path):
    pytest.importorskip("torchmetrics")
    pytest.importorskip("basicsr")
    import super_resolution as module

    words = ["--data", data, "--l1-steps", 2, "--base-steps", 2, "--steps", 2]
    rows = run(module, monkeypatch, tmp_path / "out", *words, "--rows", "AFL", "G trained on", "noise")
    assert rows == {"bicubic", "L1 alone", "base", "AFL", "G trained on", "noise"}


@pytest.fixture
def networks_of_benchmarks(monkeypatch):
    """The examples have a file of that name, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    others = sys.modules.pop("networks", None)
    yield
    sys.modules.pop("networks", None)
    if others is not None:
        sys.modules["networks"] = others


def test_a_training_step_is_timed_and_taken_apart(networks_of_benchmarks):
    """Every part that is named runs in a head's step."""
    import training_step

    name = next(iter(training_step.CASES))
    for which in ("plain", *training_step.HEADS):
        assert training_step.timed(training_step.runners(name, which), 1) > 0
    rows = training_step.profile(name, '`module="auto"`', 2)
    assert {row.split("|")[1].strip() for row in rows} == set(training_step.PARTS)


def test_samplers_beside_a_head(monkeypatch, data, tmp_path):
    """Every D and every method has its row; a second call measures nothing again."""
    import samplers as module
    from fbwrap.recipes.fitting import head_run, measure, problem, space

    class Case:
        def __init__(self, name, *folders):
            torch.manual_seed(0)
            self.name, self.how = name, {}
            self.G = nn.Sequential(
                nn.Sequential(nn.ConvTranspose2d(4, 8, 4), nn.ReLU()), nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1)),
                nn.Sequential(nn.ConvTranspose2d(6, 1, 4, 2, 1), nn.Tanh()),
            )  # fmt: skip
            self.D = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 8))
            self.real, self.latents = torch.rand(200, 1, 16, 16) * 2 - 1, lambda n: torch.randn(n, 4, 1, 1)
            self.space = nn.Flatten()
            self._test = torch.rand(50, 256)

    monkeypatch.setattr(module, "Case", Case)
    monkeypatch.setattr(module, "LAYERS", {"wgangp_mnist": ("0", "1")})
    every = module.grids
    first = lambda *given: {method: (method, how, make) for method, how, make in reversed(list(every(*given)))}.values()
    for name, value in (("MEASURED", 20), ("CHOSEN_ON", 20), ("ROUND", 1), ("grids", first)):
        monkeypatch.setattr(module, name, value)
    for where, name, value in (
        (head_run, "WARMUP", 1), (problem, "_BATCH", (4, 4)), (problem, "_FEWEST_SAMPLES", 30), (space, "_STEPS", 1),
        (measure, "RESAMPLES", 2),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, value)
    words = ["--data", data, "--weights", data, "--steps", 1]
    rows = run(module, monkeypatch, tmp_path / "out", *words)
    critics = {"published D", *module.WAYS}
    assert rows == {"base", "head", "head, its D", *critics, *(f"head, {kind}" for kind in module.WAYS)}


def test_facades_are_measured_by_their_true_photographs(monkeypatch, data, tmp_path):
    pytest.importorskip("torchmetrics")
    import defaults
    import pix2pix

    monkeypatch.setattr(pix2pix, "WIDTH", 4)
    monkeypatch.setattr(pix2pix, "segmenter", partial(pix2pix.segmenter, steps=2))
    monkeypatch.setattr(defaults.Case._facades, "__defaults__", (1,))
    case = defaults.Case("facades", data, data, tmp_path)
    true = iter(pix2pix.facades(data / "facades.zip", "val", 128)[1])
    assert case.distance(lambda x: next(true)[None]) == 0
    assert case.distance(case.G) > 0
    assert [len(part) for part in case.real] == [4, 4]


def test_a_head_is_rehearsed_on_a_hub_of_this_machine(hub, tmp_path, monkeypatch):
    import rehearse

    import fbwrap

    monkeypatch.setenv("HF_TOKEN", hub.token)
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    loop = fbwrap.attach(G, None, [fbwrap.Link("1", "image")], example=torch.randn(2, 3))
    for parameter in loop.parameters():
        nn.init.normal_(parameter)
    loop.save_pretrained(tmp_path / "head", trained_on={"verdict": "publish"})
    said = rehearse.rehearsed(hub, tmp_path / "head", "me/rehearsed", G, torch.randn(4, 3))
    assert "publish; " in said
    assert said.endswith("the same samples, bit for bit")


def test_tables_from_end_to_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ctgan")
    pytest.importorskip("sklearn")
    import tables

    run(tables, monkeypatch, tmp_path, "--tables", "wine", "--seeds", 0, "--epochs", 2, "--steps", 1)
    said = capsys.readouterr().out
    for row in ("real training rows", "base", "head", "same modules on zeros", "G trained on"):
        assert f"| wine, {row} |" in said


def test_exported_files_are_compared(monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import export

    monkeypatch.setattr(export, "SAVES", {key: value for key, value in export.SAVES.items() if "ahead" not in key})
    name = next(name for name in export.CASES if name.startswith("3-D"))
    rows = export.rows(name, 1)
    assert [row.split("|")[2].strip() for row in rows] == ["program (.pt2)", "ONNX Runtime"]
