"""Each of the papers' experiments in its smoke size, from the command line, on data made here."""

import numpy as np
import pytest
import torch
from fbwrap.recipes.experiments import EXPERIMENTS, networks_of, run
from PIL import Image

import fbwrap
from fbwrap.errors import SettingError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One folder with every layout in it."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)

    def save(path, *shape):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)

    for i in range(6):
        save(root / "images" / f"{i}.png", 64, 72, 3)
        frame = root / "cityscapes" / "{}" / "train" / "aachen"
        save(frame.parents[2] / "gtFine" / "train" / "aachen" / f"aachen_{i}_gtFine_color.png", 32, 64, 3)
        save(frame.parents[2] / "leftImg8bit" / "train" / "aachen" / f"aachen_{i}_leftImg8bit.png", 32, 64, 3)
        save(root / "nyu" / "train" / "rgb" / f"{i}.png", 32, 44, 3)
        save(root / "nyu" / "train" / "depth" / f"{i}.png", 32, 44)
        save(root / "nyu" / "train" / "labels" / f"{i}.png", 32, 44)
    np.savez(root / "voxels.npz", x=random.integers(0, 2, (6, 32, 32, 32), dtype=np.uint8))
    return root


WHERE = {"swiss_roll": None, "cityscapes_fal": "cityscapes", "nyu_fal": "nyu", "shapenet_fal": "voxels.npz"}


def invoke(*arguments):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app

    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_smoke(name, data, tmp_path):
    where = WHERE.get(name, "images")
    given = ["--data", data / where] if where else []
    done = invoke(name, *given, "--out", tmp_path, "--smoke")
    assert done.exit_code == 0, done.output
    assert "2 steps" in done.output
    config = EXPERIMENTS[name].small()
    torch.manual_seed(0)
    torch.manual_seed(1)  # other ones: all that the head needs is beside it
    G, D = config.networks(config)
    fbwrap.load_weights(G, tmp_path / "head" / "generator.safetensors")
    loop = fbwrap.from_pretrained(tmp_path / "head", G, D)
    assert loop.steps == config.feedback_steps
    assert loop.facts.trained_on["recipe"] == config.recipe
    assert len(loop) == {"celeba_dcgan": 4, "esrgan_x4": 4}.get(name, 1), "as many modules as in the paper"
    for start, size in {"cifar10": (8, 8), "shapenet": (16, 16, 16)}.items():
        if name.startswith(start):
            assert loop.connections[0].form.spatial == size
    again = invoke(name, *given, "--out", tmp_path, "--smoke")
    assert again.exit_code == 0, "a finished run is resumed at its end"


def test_fal_answers_with_maps_of_the_papers_sizes():
    for name, response in (("celeba_fal", (8, 8)), ("shapenet_fal", (4, 4, 4))):
        config = EXPERIMENTS[name].changed({"width": 2})
        G, D = config.networks(config)
        with torch.no_grad():
            made = G.eval()(torch.randn(1, *config.latent(config)))
            assert D.eval()(made).shape == (1, 1, *response)


def test_settings_reach_the_run_and_wrong_ones_are_said(tmp_path):
    config = EXPERIMENTS["swiss_roll"].small().changed({"head.lr": "0.5", "steps": "3", "layers": "[('3', '3')]"})
    loop, fit = run(config, None, tmp_path, progress=False)
    assert fit.steps == 3
    assert loop.facts.trained_on["options"]["lr"] == 0.5
    assert [str(c) for c in loop.connections] == ["3 <- dual <- 3"]
    with pytest.raises(SettingError, match="There is no setting 'nonsense'"):
        config.changed({"nonsense": 1})
    for words, sentence in (
        (["cifar10_dcgan", "--smoke"], "needs data"),
        (["cifar10_dcgan", "--data", "nowhere"], "There is no folder nowhere"),
        (["swiss_roll", "--set", "steps"], "write KEY=VALUE"),
        (["swiss_roll", "--set", "head.nonsense=1", "--smoke", "--out", str(tmp_path / "x")], "nonsense"),
    ):
        done = invoke(*words)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert sentence in done.output
    done = invoke("nothing")
    assert done.exit_code == 2, "wrong usage"
    assert "There are:" in done.output


@pytest.mark.parametrize(("phase", "step"), [("base", 4), ("head", 4)])
def test_a_run_that_was_killed_in_either_phase_ends_the_same(phase, step, tmp_path, monkeypatch):
    from fbwrap.recipes.training import checkpoint

    every = {"base_steps": 6, "steps": 6, "base.save_every": 2, "head.save_every": 2}
    config = EXPERIMENTS["swiss_roll"].small().changed(every)
    whole, _ = run(config, None, tmp_path / "whole", progress=False)
    save = checkpoint.save

    def killed(state, folder, done, keep):
        if (folder.name == "base") is (phase == "base") and done == step:
            raise SystemExit
        return save(state, folder, done, keep)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(SystemExit):
        run(config, None, tmp_path / "again", progress=False)
    monkeypatch.setattr(checkpoint, "save", save)
    again, fit = run(config, None, tmp_path / "again", progress=False)
    assert fit.steps == 6
    for one, two in ((whole, again), (whole.generator, again.generator)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name]), name


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"head.batc": 4}, "Did you mean batch"),
        ({"head.lr": "fast"}, "lr='fast'"),
        ({"module": "nonsense"}, "nonsense"),
        ({"layers": "[('77', '3')]"}, "77"),
    ],
)
def test_what_phase_2_would_refuse_is_refused_before_phase_1(settings, says, tmp_path):
    with pytest.raises(fbwrap.FbwrapError, match=says):
        run(EXPERIMENTS["swiss_roll"].small().changed(settings), None, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("swiss_roll", {"strength": "abc"}, "strength"),
        ("swiss_roll", {"base_steps": "-5"}, "base_steps=-5"),
        ("cityscapes_fal", {"size": "64"}, "a height and a width"),
        ("swiss_roll", {"width": "x"}, "width='x'"),
    ],
)
def test_settings_of_a_wrong_kind(name, settings, says):
    with pytest.raises(SettingError, match=says):
        EXPERIMENTS[name].changed(settings)


def test_sizes_that_do_not_double_are_said_and_files_are_passed_over_when_asked(data, tmp_path):
    for name, size in (("cifar10_dcgan", 48), ("celeba_fal", 100), ("shapenet_fal", 48)):
        with pytest.raises(SettingError, match=f"size={size}: these networks double"):
            run(EXPERIMENTS[name].small().changed({"size": size}), data / "images", tmp_path, progress=False)
    folder = tmp_path / "images"
    folder.mkdir()
    for path in (data / "images").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "0.png").write_bytes(b"nothing")
    given = (["cifar10_dcgan", "--data", folder, "--smoke"], ["--set", "data.on_error=skip", "--out", tmp_path / "run"])
    assert invoke(*given[0], "--set", "data.nonsense=1", "--out", tmp_path / "no").exit_code == 1
    assert invoke(*given[0], *given[1], "--resume").exit_code == 0


def test_a_g_without_feedback_needs_no_option_of_the_recipe(data, tmp_path):
    from fbwrap.recipes.experiments import train_without
    from fbwrap.recipes.studies.ablation import varied

    config = EXPERIMENTS["shapenet_fal"].small()
    assert varied(config, "film").module == {"kind": "film", "scale": 1 / 30}
    config = config.changed({"head.train_generator": "False"})
    train_without(config, data / "voxels.npz", tmp_path, progress=False)


def test_recipes_arguments_and_defaults_are_settings_too_and_d_is_always_kept(tmp_path):
    from dataclasses import replace

    config = EXPERIMENTS["swiss_roll"].small().changed({"base.generator_mode": "eval", "head.critic_ema": "1"})
    config = replace(config, head={key: value for key, value in config.head.items() if key != "lr"})
    run(config, None, tmp_path, progress=False)
    G, D, _ = networks_of(config)
    fbwrap.load_weights(G, tmp_path / "head" / "generator.safetensors")
    fbwrap.from_pretrained(tmp_path / "head", G, D)
    assert (tmp_path / "head" / "discriminator.safetensors").exists()
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(SettingError, match="own files hold images of 32x32"):
        run(EXPERIMENTS["cifar10_dcgan"].small().changed({"size": 64}), tmp_path, tmp_path / "run", progress=False)
    run(EXPERIMENTS["cifar10_dcgan"].small(), tmp_path, tmp_path / "run", progress=False)


def test_each_process_takes_its_own_gpu(monkeypatch):
    from fbwrap.app.devices import device_of

    assert device_of("auto") in ("cpu", "mps", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(
            SettingError, match=r"--device cuda: there is no such device here \(.*\)\. Pass auto, or cpu"
        ):
            device_of("cuda")
    monkeypatch.setattr("torch.empty", lambda *args, device: None)
    assert [device_of(device) for device in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of("auto") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [device_of(device) for device in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda:3", "cpu", "cuda:3", "cuda:1"]


# -- ablations ----------------------------------------------------------------------------------------
def test_ablations_train_each_variant_once_and_measure_the_same_inputs(data, tmp_path):
    from fbwrap.recipes.studies.ablation import NAMES, ablation

    config = EXPERIMENTS["celeba_fal"].small()
    z = torch.randn(5, *config.latent(config), generator=torch.Generator().manual_seed(0))
    seen = []

    def measure(samples):
        seen.append(samples)
        return {"mean": float(samples.mean())}

    study = ablation(config, data / "images", tmp_path, z, measure, progress=False)
    assert [row["variant"] for row in study.rows] == list(NAMES["FAL"])
    assert all(y.shape == (5, 3, 32, 32) for y in seen)
    assert len({round(row["mean"], 7) for row in study.rows}) == len(study.rows), "each is another model"
    again = ablation(config, data / "images", tmp_path, z, measure, ["film", "no feedback"], progress=False)
    by_name = {row["variant"]: row["mean"] for row in study.rows}
    for row in again.rows:
        assert row["mean"] == pytest.approx(by_name[row["variant"]], abs=1e-6)
    assert again.rows[0]["variant"] == "film"
    for wrong in ("nonsense", "dual"):
        with pytest.raises(SettingError, match=f"There is no variant '{wrong}' of FAL"):
            ablation(config, data / "images", tmp_path / "wrong", z, measure, ["film", wrong])
    assert not (tmp_path / "wrong").exists(), "said before anything is trained"


def test_afls_variants_share_one_base(data, tmp_path):
    from fbwrap.recipes.studies.ablation import ablation, varied

    config = EXPERIMENTS["cifar10_dcgan"].small()
    z = torch.randn(4, *config.latent(config))
    measure = lambda y: {"mean": float(y.mean())}
    study = ablation(config, data / "images", tmp_path, z, measure, progress=False)
    assert study.rows[0]["variant"] == "no feedback"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir())[0] == "base"
    assert not list(tmp_path.glob("*/base")), "phase 1 is trained once"
    dual = varied(EXPERIMENTS["esrgan_x4"].small(), "basic").module
    assert dual == {"kind": "basic", "norm": "none", "convs": 3}, "all else alike"
    only = varied(config, "image only").layers
    assert [(link.target, link.source) for link in only] == [("main.1", ("image",))]
    loop, _ = run(
        varied(config, "response only"), data / "images", tmp_path / "x", base=tmp_path / "base", progress=False
    )
    assert [source.name for source in loop.connections[0].sources] == ["response"]


def test_a_perceptual_loss_from_the_command_line(data, tmp_path):
    (tmp_path / "backbone.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))\n"
    )
    words = ["esrgan_x4", "--smoke", "--data", data / "images", "--perceptual", f"{tmp_path / 'backbone.py'}:Net()"]
    heads = []
    for name, more in (("with", ["--perceptual-layer", "2"]), ("without", None)):
        done = invoke(*(words + more if more else words[:4]), "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
        heads.append((tmp_path / name / "head" / "feedback.safetensors").read_bytes())
    assert heads[0] != heads[1], "the loss is felt"
    done = invoke(*words, "--out", tmp_path / "x")
    assert done.exit_code == 1
    assert "--perceptual needs --perceptual-layer" in done.output
