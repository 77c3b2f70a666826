"""The command line: the quickstart from start to end in small, interrupted and resumed, and wrong use."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import fbwrap
from fbwrap.app.digits import Discriminator, Generator, latents


def run(*words, **options):
    command = [sys.executable, "-c", "from fbwrap.app.cli import main; main()", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_help_and_version_and_wrong_use():
    out, _ = run("--help").communicate()
    assert "quickstart" in out
    assert run("version").communicate()[0].strip() == fbwrap.__version__
    process = run("quickstart", "--steps", "none")
    process.communicate()
    assert process.returncode == 2


def test_short_help_version_and_python_m():
    for words in (["-h"], ["sample", "-h"]):
        out, error = run(*words).communicate()
        assert "Usage:" in out, error
    assert run("--version").communicate()[0].strip() == fbwrap.__version__
    done = subprocess.run(
        [sys.executable, "-m", "fbwrap", "--version"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stdout.strip() == fbwrap.__version__, done.stderr


def test_an_error_as_json_says_it_once_and_hints_are_options(tmp_path):
    done = command("sample", tmp_path / "nowhere", "--json")
    told = json.loads(done.output.strip().splitlines()[-1])
    assert not told["error"].startswith("Error")
    from fbwrap.app.terms import as_options

    assert as_options("Pass value_range=, or latents=.", {"latents"}) == "Pass value_range=, or --latents."


def test_latents_of_sample_are_as_told_and_as_the_head_keeps_them(tmp_path, caplog):
    """Uniform numbers from --latents; the head's own description without; an assumption is said where there is none."""
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class G(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.up = nn.ConvTranspose2d(6, 8, 4)\n"
        "        self.out = nn.ConvTranspose2d(8, 3, 4, 2, 1)\n"
        "    def forward(self, z):\n        torch.save(z, SEEN)\n"
        f"        return self.out(self.up(z).relu()).tanh()\nSEEN = {str(tmp_path / 'seen.pt')!r}\n"
    )
    from fbwrap.app.models import load_model

    spec = f"{tmp_path / 'nets.py'}:G"
    torch.manual_seed(0)
    net = load_model(spec)
    torch.save(net.state_dict(), tmp_path / "g.pth")
    loop = fbwrap.attach(net, None, [fbwrap.Link("up", "image")], example=torch.randn(1, 6, 1, 1))
    loop.save_pretrained(tmp_path / "silent")
    loop.latents = "uniform:2:3"
    loop.save_pretrained(tmp_path / "told")

    def drawn(head, *more):
        caplog.clear()
        words = ["sample", tmp_path / head, "-g", spec, "--weights", tmp_path / "g.pth", "-n", "4"]
        done = command(*words, "--out", tmp_path / "out", *more)
        assert done.exit_code == 0, done.output
        return done.output + caplog.text, torch.load(tmp_path / "seen.pt")

    said, z = drawn("silent")
    assert "normal numbers are assumed" in said
    assert z.min() < 0
    said, z = drawn("silent", "--latents", "uniform:5:6")
    assert "assumed" not in said
    assert 5 <= z.min() <= z.max() <= 6
    said, z = drawn("told")
    assert "assumed" not in said
    assert 2 <= z.min() <= z.max() <= 3
    words = ["-g", spec, "--weights", tmp_path / "g.pth", "--latents", "gauss"]
    done = command("sample", tmp_path / "told", *words)
    assert done.exit_code == 1
    assert "truncated:0.5" in done.output


def test_a_folder_that_cannot_be_written_ends_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    process = run("quickstart", "--out", str(tmp_path / "file"), "--steps", "2")
    _, error = process.communicate()
    assert process.returncode == 1
    assert "Traceback" not in error
    assert str(tmp_path / "file") in error


@pytest.mark.slow
def test_quickstart_interrupted_and_resumed(tmp_path):
    """SIGINT in the midst of training, then the same command: report, head and pictures are there."""
    out = tmp_path / "out"
    first = run("quickstart", "--out", str(out), "--steps", "700")
    deadline = time.monotonic() + 120
    while not list((out / "gan").glob("checkpoint-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate()
    assert first.returncode == 130, error
    assert "goes on where it was" in error
    step = torch.load(max((out / "gan").glob("checkpoint-*.pt")), weights_only=True)["step"]
    assert step >= 250
    shrunk = run("quickstart", "--out", str(out), "--steps", str(step + 4))
    table, error = shrunk.communicate()
    assert shrunk.returncode == 0, error
    assert "G trained on" in table
    assert table.count("head ") >= 9
    rows = json.loads((out / "report.json").read_text())
    assert [row["model"] for row in rows[:2]] == ["base", "G trained on"]
    assert (out / "report.png").stat().st_size > 10_000
    assert any(name.startswith("samples_") for name in os.listdir(out / "head_run"))
    G, D = Generator().eval(), Discriminator().eval()
    G.load_state_dict(load_file(out / "generator.safetensors"))
    D.load_state_dict(load_file(out / "discriminator.safetensors"))
    loop = fbwrap.from_pretrained(out / "head", G, D)
    assert loop(latents(2)).shape == (2, 1, 8, 8)


# -- inspect ------------------------------------------------------------------------------------------
NETS = """
import torch
from torch import nn
from neighbour import WIDTH


class G(nn.Module):
    def __init__(self, z=8, width=WIDTH):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(z, width, 4, 1, 0), nn.ReLU(True), nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()
        )

    def forward(self, x):
        return self.main(x)


class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 6, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(6, 1, 4))

    def forward(self, x):
        return self.net(x)


not_a_class = 3
"""


@pytest.fixture
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "neighbour.py").write_text("WIDTH = 4\n")
    return f"{tmp_path / 'nets.py'}:"


def inspect(*arguments):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app

    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_inspect_tells_layers_links_and_cost(nets, tmp_path):
    import torch

    from fbwrap.app.models import load_model

    G = load_model(nets + "G(8, width=6)")
    torch.save({"netG": {f"module.{k}": v for k, v in G.state_dict().items()}}, tmp_path / "g.pth")
    done = inspect(nets + "G(8, width=6)", "-d", nets + "D()", "--weights", tmp_path / "g.pth", "--why")
    assert done.exit_code == 0, done.output
    for piece in (
        "generator: dcgan: transposed convolutions",
        "pix2pix: UnetGenerator",  # why not
        "no layer model.model.0",
        "main.1  ReLU             (1, 6, 4, 4)",
        "main.1 (6 @ 4x4) <- dual <- net.1 (6 @ 4x4)",
        "T    naive        planned",
    ):
        assert piece in done.output
    done = inspect(nets + "G", "-d", nets + "D", "-l", "main.0=net.0", "--module", "light", "--no-layers")
    assert "main.0 (4 @ 4x4) <- light <- net.0 (6 @ 4x4)" in done.output
    assert "ConvTranspose2d" not in done.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nets"], "names no model"),
        (["@Nothing()"], "has no 'Nothing'. Its classes: G, D"),
        (["@not_a_class"], "not a torch.nn.Module"),
        (["@G(wrong=1)"], "cannot be made: TypeError"),
        (["@G(z=len('x'))"], "cannot be read"),
        (["nowhere.py:G"], "There is no file nowhere.py"),
        (["no_such_package:G"], "cannot be imported: ModuleNotFoundError"),
        (["@G", "--weights", "nowhere.pth"], "There is no weights file"),
        (["@G", "--example", "2xa"], "write shapes such as"),
        (["@G", "-l", "nonsense", "-d", "@D"], "There is no layer named 'nonsense'"),
        (["@D", "--example", "1x4x8x8"], "refuses the example"),
    ],
)
def test_inspect_says_what_is_wrong_in_one_sentence(nets, arguments, sentence):
    done = inspect(*(item.replace("@", nets) for item in arguments))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert sentence in done.output
    assert "Traceback" not in done.output


def test_inspect_without_a_model_is_wrong_usage():
    assert inspect().exit_code == 2


# -- study, eval --------------------------------------------------------------------------------------
def command(*arguments):
    from typer.testing import CliRunner

    from fbwrap.app.cli import app

    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def head(nets, tmp_path):
    from conftest import stir

    from fbwrap.app.models import load_model

    torch.manual_seed(0)
    G, D = load_model(nets + "G"), load_model(nets + "D")
    torch.save(G.state_dict(), tmp_path / "g.pth")
    torch.save(D.state_dict(), tmp_path / "d.pth")
    stir(fbwrap.attach(G, D)).save_pretrained(tmp_path / "head")
    return [tmp_path / "head", "-g", nets + "G", "-d", nets + "D", "--weights", tmp_path / "g.pth",
            "--critic-weights", tmp_path / "d.pth", "--latent", "8x1x1", "--samples", "12"]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["strength", "modules", "controls", "switching", "variance", "beyond", "fooling", "eval"]
)
def test_studies_from_the_command_line(head, name, tmp_path):
    done = command(*(["eval"] if name == "eval" else ["study", name]), *head)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head" / "studies" / f"{name}.csv").stat().st_size > 20
    assert (tmp_path / "head" / "studies" / f"{name}.png").exists()


def test_a_study_in_a_feature_space_and_wrong_ones(head, nets, tmp_path):
    from PIL import Image

    for i in range(5):
        (tmp_path / "real").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (i * 40, 0, 90)).save(tmp_path / "real" / f"{i}.png")
    done = command("study", "switching", *head, "--reference", tmp_path / "real" / "1.png")
    assert done.exit_code == 0, done.output
    assert "the reference" in done.output
    space = ["--features", "torch.nn:Flatten()", "--real", tmp_path / "real", "--size", "8"]
    done = command("eval", *head, *space)
    assert done.exit_code == 0, done.output
    assert "frechet[torch.nn:Flatten()]" in done.output
    assert "D's probability" in done.output
    done = command("study", "strength", *head, "--at", "0,0.5")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "head" / "studies" / "strength.csv").read_text().count("\n") == 1 + 2 * 3
    for words, sentence in (
        (["study", "nonsense", *head], "There is no study 'nonsense'"),
        (["study", "strength", *head, "--at", "0;1"], "--at 0;1: write numbers"),
        (["study", "beyond", *head, "--at", "0,1"], "--at is for the studies"),
        (["study", "beyond", *head, "--reference", "x.png"], "--reference is for the study switching"),
        (["eval", *head, "--features", "inception"], "go together"),
        (["eval", *head, "--label", "1"], "--label wants --classifier"),
        (["eval", *head, "--real", "nowhere", "--features", "torch.nn:Flatten()"], "there is no such file or folder"),
        (["study", "switching", *head, "--reference", "nowhere.png"], "nowhere.png"),
        (["eval", *head, "--features", "torch.nn:Flatten()"], "go together"),
        (["eval", *head[:-3], "8xx", "--samples", "4"], "--latent '8xx'"),
        (["eval", tmp_path / "nowhere", *head[1:]], "There is no head at"),
    ):
        done = command(*words)
        assert done.exit_code == (2 if "nonsense" in words else 1), done.output
        assert sentence in done.output


def test_real_images_are_of_the_samples_size_and_of_all_classes(tmp_path):
    """The samples themselves, as a folder, are at distance zero whatever --size says; a part of it is of each class."""
    from fbwrap.app.study import measure_of

    y = (torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 127.5 - 1).float()
    y[20:] = y[20:].clamp(-1, -0.5)
    y = ((y + 1) * 127.5).round() / 127.5 - 1
    from PIL import Image

    for i, image in enumerate(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1)):
        path = tmp_path / "real" / "ab"[i // 20] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(path)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    given = {"real": tmp_path / "real", "features": "pool", "samples": 40, "size": 64, "pairs": None, "packed": False}
    found = measure_of(given, {"features": net})(y)
    assert found["frechet[pool]"] == pytest.approx(0.0, abs=1e-6)
    assert (found["precision[pool]"], found["recall[pool]"]) == (1.0, 1.0)
    seen = []
    few = measure_of({**given, "samples": 10}, {"features": lambda x: seen.append(x) or net(x)})
    few(y)
    means = seen[-1].mean((1, 2, 3))
    assert 0 < (means < -0.5).sum() < 10, "both classes"


def test_what_networks_read_is_held_against_labels_and_depths_where_they_are_known(tmp_path):
    pytest.importorskip("torchmetrics")
    import numpy as np
    from fbwrap.recipes import quality
    from PIL import Image

    from fbwrap.app.study import measure_of, pairs_of, truths_of
    from fbwrap.errors import DataError

    dice = np.random.default_rng(0)

    def save(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    known, root = {}, tmp_path / "city"
    for i in (2, 1):
        frame = f"val/ulm/ulm_{i}"
        known[i] = dice.integers(0, 34, (8, 16), dtype=np.uint8)
        save(root / "gtFine" / f"{frame}_gtFine_labelIds.png", known[i])
        save(root / "gtFine" / f"{frame}_gtFine_color.png", dice.integers(0, 256, (8, 16, 3), dtype=np.uint8))
        save(root / "leftImg8bit" / f"{frame}_leftImg8bit.png", dice.integers(0, 256, (8, 16, 3), dtype=np.uint8))
    text = f"cityscapes:{root}"
    given = {"pairs": text, "segmenter": "roads", "samples": 10, "size": 8}
    truth = truths_of(given)["segmenter"]
    assert truth.shape == (2, 8, 16)
    named = {7: 0, 8: 1, 19: 6, 26: 13, 33: 18, 0: 255, 9: 255, 29: 255}  # road, sidewalk, light, car, bicycle, none
    for number, name in named.items():
        assert (truth[0].numpy()[known[1] == number] == name).all()

    class Roads(torch.nn.Module):
        def forward(self, y):  # at half the size, as many networks answer
            return torch.eye(19)[0].view(1, 19, 1, 1).expand(len(y), -1, 4, 8)

    y, targets = pairs_of(text, 8, 10, (-1.0, 1.0))
    found = measure_of(given, {"segmenter": Roads()}, targets, truths_of(given))(y)
    half = truth[:, ::2, ::2]
    assert found["pixels[roads]"] == pytest.approx(quality.segmentation(torch.zeros_like(half), half, 19)["pixels"])
    assert truths_of({**given, "segmenter": None}) == {}
    few = measure_of(given, {"segmenter": torch.nn.Conv2d(3, 5, 1)}, targets, truths_of(given))(targets)
    assert few["pixels[roads]"] == 1.0, "of other classes than the labels': what it reads in the photographs"
    (root / "gtFine" / "val" / "ulm" / "ulm_2_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match="ulm_2 has no gtFine_labelIds"):
        truths_of(given)
    (root / "gtFine" / "val" / "ulm" / "ulm_1_gtFine_labelIds.png").unlink()
    assert truths_of(given) == {}

    save(tmp_path / "nyu" / "val" / "rgb" / "1.png", dice.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    save(tmp_path / "nyu" / "val" / "labels" / "1.png", dice.integers(0, 37, (6, 8), dtype=np.uint8))
    far = np.full((6, 8), 4000, dtype=np.uint16)
    far[:2] = 0  # not known
    save(tmp_path / "nyu" / "val" / "depth" / "1.png", far)
    for part in ("rgb", "depth"):  # a frame without labels is no pair
        save(
            tmp_path / "nyu" / "val" / part / "0.png",
            np.full((6, 8), 9, dtype=np.uint16 if part == "depth" else np.uint8),
        )
    text = f"nyu:{tmp_path / 'nyu'}"
    y, targets = pairs_of(text, 8, 10, (-1.0, 1.0))
    assert (y.shape, targets.shape) == ((1, 2, 6, 8), (1, 3, 6, 8))

    class Five(torch.nn.Module):
        def forward(self, y):
            return torch.full((len(y), 1, 3, 4), 5.0)

    given = {"pairs": text, "depth": "five", "samples": 10, "size": 8}
    found = measure_of(given, {"depth": Five()}, targets, truths_of(given))(targets)
    assert found["rel[five]"] == pytest.approx(0.25, abs=1e-6)
    for path in (tmp_path / "nyu" / "val" / "labels").iterdir():
        path.unlink()
    (tmp_path / "nyu" / "val" / "labels").rmdir()
    assert pairs_of(text, 8, 10, (-1.0, 1.0))[0].shape == (2, 1, 6, 8)
    save(tmp_path / "nyu" / "val" / "depth" / "0.png", far.astype(np.uint8))
    with pytest.raises(DataError, match="has eight bits"):
        truths_of(given)


def test_networks_of_torchvision_see_samples_as_imagenets_images():
    from fbwrap.app.models import as_trained

    class Spy(torch.nn.Module):
        def forward(self, x):
            return x

    x = torch.linspace(-1, 1, 2 * 12).view(2, 3, 2, 2)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(as_trained(Spy(), "timm:x", (-1.0, 1.0))(x), ((x + 1) / 2 - mean) / std)
    torch.testing.assert_close(
        as_trained(Spy(), "torchvision.models:x", (0.0, 1.0))(x[:, :1].clamp(0, 1)), (x[:, :1].clamp(0, 1) - mean) / std
    )
    assert as_trained(spy := Spy(), "nets.py:Own()", (-1.0, 1.0)) is spy


def test_eval_of_pairs_voxels_and_readers(tmp_path):
    """Image to image: nearness to the targets and what networks read; voxels: a distance and a classifier."""
    pytest.importorskip("torchmetrics")
    import numpy as np
    from conftest import stir
    from PIL import Image

    (tmp_path / "translate.py").write_text(
        "from torch import nn\n"
        "class G(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, 1, 1))\n"
        "class D(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 3, 1, 1))\n"
        "class Classes(nn.Conv2d):\n"
        "    def __init__(self): super().__init__(3, 5, 3, 1, 1)\n"
        "class Depth(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv2d(3, 1, 3, 1, 1), nn.Softplus())\n"
        "class VG(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.ConvTranspose3d(4, 4, 4), nn.ReLU(), nn.Conv3d(4, 1, 3, 1, 1))\n"
        "class VD(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Conv3d(1, 2, 3, 1, 1), nn.ReLU(), nn.Conv3d(2, 1, 4))\n"
        "class Kinds(nn.Sequential):\n"
        "    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 3))\n"
    )
    spec = f"{tmp_path / 'translate.py'}:"
    from fbwrap.app.models import load_model

    dice = np.random.default_rng(0)
    (tmp_path / "val").mkdir()
    for i in range(4):
        pixels = dice.integers(0, 256, (32, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / f"{i}.png")
    np.save(tmp_path / "cubes.npy", dice.integers(0, 2, (9, 4, 4, 4), dtype=np.uint8))
    torch.manual_seed(0)
    heads = {}
    for name, g, d, link, example in (
        ("image", "G()", "D()", ("1", "1"), torch.zeros(1, 3, 32, 32)),
        ("voxel", "VG()", "VD()", ("1", "1"), torch.zeros(2, 4, 1, 1, 1)),
    ):
        G, D = load_model(spec + g), load_model(spec + d)
        torch.save(G.state_dict(), tmp_path / f"{name}_g.pth")
        torch.save(D.state_dict(), tmp_path / f"{name}_d.pth")
        stir(fbwrap.attach(G, D, [link], example=example)).save_pretrained(tmp_path / name)
        heads[name] = [tmp_path / name, "-g", spec + g, "-d", spec + d, "--weights", tmp_path / f"{name}_g.pth",
                       "--critic-weights", tmp_path / f"{name}_d.pth"]  # fmt: skip
    pairs = ["--pairs", f"right:{tmp_path / 'val'}", "--size", "32"]
    readers = ["--segmenter", spec + "Classes()", "--depth", spec + "Depth()"]
    done = command("eval", *heads["image"], *pairs, *readers)
    assert done.exit_code == 0, done.output
    for column in ("rmse", "ssim", f"IoU[{spec}Classes()]", f"δ1[{spec}Depth()]"):
        assert column in done.output
    from fbwrap.app.study import pairs_of

    for span in ((-1.0, 1.0), (0.0, 1.0)):
        targets = pairs_of(f"right:{tmp_path / 'val'}", 32, 4, span)[1]
        assert abs(float(targets.min()) - span[0]) < 0.1, "noise: the whole range"
    done = command("study", "response", *heads["image"], *pairs)
    assert done.exit_code == 0, done.output
    cubes = ["--latent", "4x1x1x1", "--samples", "8", "--real", tmp_path / "cubes.npy"]
    flat = ["--features", "torch.nn:Flatten()", "--classifier", spec + "Kinds()", "--label", "1"]
    done = command("eval", *heads["voxel"], *cubes, *flat)
    assert done.exit_code == 0, done.output
    for column in ("frechet[torch.nn:Flatten()]", f"accuracy[{spec}Kinds()]", f"inception score[{spec}Kinds()]"):
        assert column in done.output
    for words, sentence in (
        (["eval", *heads["image"]], "Pass --latent SHAPE or --pairs"),
        (["eval", *heads["image"], "--pairs", "up:x"], "KIND one of left"),
        (["eval", *heads["image"], "--pairs", "folders:x"], "write two folders"),
        (["eval", *heads["voxel"], *cubes[:4], *readers[:2]], "--segmenter wants --pairs"),
        (["eval", *heads["voxel"], *cubes[:4], "--lpips"], "--lpips wants --pairs"),
        (["study", "variance", *heads["image"], *pairs], "scales G's latents"),
        (["ablate", "cityscapes_fal", "--smoke"], "pass --pairs"),
        (["ablate", "swiss_roll", "--smoke", *pairs[:2]], "leave out --pairs"),
        (["study", "response", *heads["voxel"], *cubes[:4]], "there is no map to show"),
    ):
        done = command(*words)
        assert done.exit_code == 1, done.output
        assert sentence in done.output, done.output


def test_ablate_from_the_command_line(tmp_path):
    words = ["ablate", "swiss_roll", "--smoke", "--samples", "8", "--out", tmp_path, "--variant", "no feedback"]
    done = command(*words, "--variant", "basic", "--variant", "image only")
    assert done.exit_code == 0, done.output
    assert "no feedback" in done.output
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 4
    done = command("ablate", "nothing")
    assert done.exit_code == 2
    assert "There is no experiment 'nothing'" in done.output


def test_sample_writes_pictures_that_say_how_they_were_made(tmp_path):
    from digits import FOLDER, NETWORKS

    from fbwrap import plots

    words = ["sample", FOLDER / "head", *NETWORKS, "-n", "5", "--seed", "3", "--strength", "0.5", "--steps", "2"]
    done = command(*words, "--out", tmp_path / "a", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["files"]) == 5
    assert plots.facts(told["files"][0]) == {"seed": "3", "strength": "0.5", "steps": "2"}
    assert plots.facts(told["overview"])["seed"] == "3"
    from digits import loaded
    from PIL import Image

    with loaded() as loop, loop.settings(strength=0.5, steps=2), torch.no_grad():
        wanted = loop(torch.randn(5, 16, generator=torch.Generator().manual_seed(3)))
    import numpy as np

    shown = np.asarray(Image.open(told["files"][4]))
    assert (shown == plots.unit(wanted, (-1, 1))[4, 0].mul(255).round().byte().numpy()).all()
    for more, sentence in (
        (["--input", tmp_path], "G takes no pictures"),
        (["--steps", "-1"], "greater than or equal to 0"),
        (["--out", FOLDER / "head" / "config.json"], "config.json"),
    ):
        done = command(*words[:2], *NETWORKS, *more)
        assert done.exit_code in (1, 2), done.output
        assert sentence in " ".join(done.output.split()), done.output


def test_sample_of_pictures_and_of_what_is_none(tmp_path):
    from PIL import Image
    from safetensors.torch import load_file as load
    from test_studio import sr_loop

    from fbwrap.app.sample import sample

    loop = sr_loop()
    (tmp_path / "in").mkdir()
    for name, size in (("a", (10, 12)), ("b", (20, 8))):
        Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "in" / f"{name}.png")
    made = sample(loop, tmp_path / "out", source=tmp_path / "in", span=(0.0, 1.0))
    assert [(p.name, Image.open(p).size) for p in made.files] == [("a.png", (20, 24)), ("b.png", (40, 16))]
    with pytest.raises(fbwrap.FbwrapError, match="pass --input"):
        sample(loop, tmp_path / "out")
    with pytest.raises(fbwrap.FbwrapError, match="holds no picture"):
        sample(loop, tmp_path / "out", source=tmp_path)
    (tmp_path / "in" / "c.png").write_bytes(b"nothing")
    with pytest.raises(fbwrap.FbwrapError, match="cannot be read as a picture"):
        sample(loop, tmp_path / "out", source=tmp_path / "in" / "c.png")
    from torch import nn

    G = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))
    points = fbwrap.attach(G, None, [fbwrap.Link("1", "image")], example=torch.randn(2, 4))
    made = sample(points, tmp_path / "points", count=20, seed=1)
    wanted = points(torch.randn(20, 4, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(load(made.files[0])["samples"], wanted.detach())


@pytest.mark.parametrize(
    "words", [["version"], ["inspect", "torch.nn:Linear(2, 3)"], ["pull", "nothing"], ["train", "nonsense"]]
)
def test_json_is_one_line_of_it(words):
    done = command(*words, "--json")
    lines = done.stdout.strip().splitlines()
    told = json.loads(lines[-1])
    assert done.exit_code == (2 if "nonsense" in words else 1 if words[0] in ("pull", "inspect") else 0)
    assert ("error" in told) is (done.exit_code > 0)
    assert "Error:" not in told.get("error", "")
    assert len(lines) == 1


def test_inspect_as_json(nets):
    done = command("inspect", nets + "G", "-d", nets + "D", "--json")
    told = json.loads(done.stdout)
    assert told["links"][0]["module"] == "dual"
    assert set(told["links"][0]["sources"]) <= {row["name"] for row in told["layers"]["discriminator"]}
    assert {row["name"] for row in told["layers"]["generator"]} >= {told["links"][0]["target"]}
    assert told["parameters"] > 0


def test_debug_shows_where(tmp_path):
    process = run("sample", str(tmp_path), "-g", "torch.nn:Linear(2, 3)", "--debug")
    _, error = process.communicate()
    assert "Traceback" in error
    process = run("sample", str(tmp_path), "-g", "torch.nn:Linear(2, 3)")
    _, error = process.communicate()
    assert process.returncode == 1
    assert error.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in error


COMMANDS = ("version", "quickstart", "inspect", "train", "study", "eval", "ablate", "sample", "push", "pull", "ui")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_an_example_with_options_that_exist(name):
    import re

    from typer.main import get_command

    from fbwrap.app.cli import app

    group = get_command(app)
    assert set(group.commands) == set(COMMANDS)
    one = group.commands[name]
    example = re.search(r"Example: (fbwrap .*)", one.help)[1]
    assert example.split()[1] == name
    known = {flag for parameter in one.params for flag in [*parameter.opts, *parameter.secondary_opts]}
    assert {word for word in example.split() if word.startswith("-")} <= known
    assert {"--json", "--debug"} <= known


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    words = {"bash": {"COMP_WORDS": "fbwrap train celeb", "COMP_CWORD": "2"}}
    env = {**os.environ, "_FBWRAP_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "fbwrap train celeb",
           "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words.get(shell, {})}  # fmt: skip
    code = "import sys; sys.argv = ['fbwrap']; from fbwrap.app.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "celeba_dcgan" in done.stdout, done.stderr
    assert "cityscapes" not in done.stdout


READ_ONLY = "/proc/fbwrap"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "nowhere.py:G"], "There is no file nowhere.py"),
        (["inspect", "torch.nn:Linear(2, 3)", "--weights", "nowhere.pth"], "nowhere.pth"),
        (["inspect", "torch.nn:Linear(2, 3)", "--example", "1x5"], "1x5|refuses|mat1"),
        (["inspect", "torch.nn:Linear(2, 3)", "--example", "1x2", "-l", "nolayer"], "nolayer"),
        (["train", "swiss_roll", "--set", "stepz=3"], "stepz"),
        (["train", "celeba_dcgan", "--data", "nowhere", "--smoke"], "nowhere"),
        (["train", "swiss_roll", "--smoke", "--out", READ_ONLY], READ_ONLY),
        (["quickstart", "--steps", "2", "--out", READ_ONLY], READ_ONLY),
        (["ablate", "nonsense"], "no experiment"),
        (["eval", "nowhere", "-g", "torch.nn:Linear(2, 3)"], "There is no head at nowhere"),
        (["study", "beyond", "nowhere"], "There is no head at nowhere"),
        (["sample", "HEAD", "--out", "x"], "does not say where its generator"),
        (["sample", "HEAD", "-g", "torch.nn:Linear(2, 3)"], "This head is for another generator"),
        (["sample", "HEAD", *["NETWORKS"], "--out", READ_ONLY], READ_ONLY),
        (["push", "nowhere", "me/head"], "There is no head at nowhere"),
        (["push", "HEAD", "name"], "write user/name"),
        (["push", "HEAD", "me/head", "--picture", "none.png"], "There is no picture"),
        (["push", "HEAD", "me/head"], "not in the cache|could not be asked|Hub"),
        (["pull", "me/head"], "not in the cache|could not be asked|Hub"),
        (["ui", "nowhere", "-g", "torch.nn:Linear(2, 3)"], "There is no head at nowhere"),
    ],
)
def test_wrong_use_ends_in_one_sentence_and_nothing_is_half_written(words, sentence, tmp_path, monkeypatch):
    import re

    from digits import FOLDER, NETWORKS

    monkeypatch.chdir(tmp_path)
    given = [word for each in words for word in (NETWORKS if each == "NETWORKS" else [each])]
    done = command(*[FOLDER / "head" if word == "HEAD" else word for word in given])
    assert done.exit_code == (2 if "nonsense" in words else 1), done.output
    assert re.search(sentence, done.output), done.output
    assert "Traceback" not in done.output
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_models_are_named_by_paths_with_spaces_letters_and_drives(tmp_path):
    from fbwrap.app.models import _SPEC, load_model

    folder = tmp_path / "schöne Netze"
    folder.mkdir()
    (folder / "nets v1.py").write_text("from torch import nn\nG = nn.Linear(2, 3)\n")
    assert load_model(f"{folder / 'nets v1.py'}:G").out_features == 3
    for spec, where, call in (
        (r"C:\nets\gan.py:G(1)", r"C:\nets\gan.py", "G(1)"),
        ("C:/nets/gan.py:G", "C:/nets/gan.py", "G"),
        ("nets.gan:G(name='a:b')", "nets.gan", "G(name='a:b')"),
    ):
        found = _SPEC.fullmatch(spec)
        assert (found["where"], found["call"]) == (where, call)
    with pytest.raises(fbwrap.FbwrapError, match="names no model"):
        load_model("nets.gan")


def test_sample_overwrites_no_picture(tmp_path):
    from PIL import Image
    from test_studio import sr_loop

    from fbwrap.app.sample import sample

    loop, folder = sr_loop(), tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "overview.png"):
        Image.new("RGB", (10, 12), (9, 99, 200)).save(folder / name)
    with pytest.raises(fbwrap.FbwrapError, match="would be overwritten"):
        sample(loop, folder, source=folder, span=(0.0, 1.0))
    made = sample(loop, tmp_path / "out", source=folder, span=(0.0, 1.0))
    assert len(set(made.files)) == 3
    assert made.overview not in made.files
    with pytest.raises(fbwrap.FbwrapError, match="black, then as white"):
        sample(loop, tmp_path / "out", source=folder, span=(1.0, 1.0))


def test_devices_weights_and_files_are_not_dropped_silently():
    from digits import FOLDER

    for words, sentence in (
        (["--weights", "x.pth"], "--weights wants --generator"),
        (["-g", "torch.nn:Linear(1, 1)", "--critic-weights", "x.pth"], "--critic-weights wants --discriminator"),
    ):
        done = command("sample", FOLDER / "head", *words)
        assert done.exit_code == 1
        assert sentence in done.output
    done = command("sample", FOLDER / "head" / "config.json", "-g", "torch.nn:Linear(1, 1)")
    assert "is a file" in done.output


def test_json_is_json_where_networks_print_and_numbers_are_none(tmp_path):
    from fbwrap.app.terms import _finite

    assert _finite({"a": [float("nan"), 1.5], "b": float("inf")}) == {"a": [None, 1.5], "b": None}
    (tmp_path / "loud.py").write_text(
        "from torch import nn\nprint('loading')\nG = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))\n"
    )
    from fbwrap.app.models import load_model

    G = load_model(f"{tmp_path / 'loud.py'}:G")
    torch.save(G.state_dict(), tmp_path / "g.pth")
    fbwrap.attach(G, None, [fbwrap.Link("1", "image")], example=torch.randn(2, 4)).save_pretrained(tmp_path / "head")
    words = ["eval", tmp_path / "head", "-g", f"{tmp_path / 'loud.py'}:G", "--weights", tmp_path / "g.pth"]
    done = run(*map(str, [*words, "--samples", "4", "--json"]))
    out, error = done.communicate()
    assert done.returncode == 0, error
    assert len(json.loads(out)["rows"]) == 2
    assert "loading" in error


def test_scripts_that_leave_and_neighbours_of_one_name(tmp_path):
    from fbwrap.app.models import load_model

    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(2)\n")
    with pytest.raises(fbwrap.FbwrapError, match="cannot be imported: SystemExit"):
        load_model(f"{tmp_path / 'leaves.py'}:G")
    for folder, size in (("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_layers.py").write_text(f"SIZE = {size}\n")
        (tmp_path / folder / "net.py").write_text(
            "import my_layers\nfrom torch import nn\nG = nn.Linear(1, my_layers.SIZE)\n"
        )
        assert load_model(f"{tmp_path / folder / 'net.py'}:G").out_features == size


@pytest.mark.parametrize("settings", ["steps=-3", "steps=abc", "width=0", "steps=1.5"])
def test_settings_that_cannot_be(settings, tmp_path):
    done = command("train", "swiss_roll", "--smoke", "--out", tmp_path / "run", "--set", settings)
    assert done.exit_code == 1
    assert "pass a whole number, 1 or more" in done.output


def test_without_typer_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['typer'] = None; from fbwrap.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'fbwrap[app]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_numbers_of_other_weights_do_not_go_into_a_card(head, tmp_path, caplog):
    from fbwrap.app.sharing import _of_this_head

    assert command("eval", *head).exit_code == 0
    folder = tmp_path / "head"
    assert _of_this_head(folder) == ["eval"]
    (folder / "feedback.safetensors").write_bytes(b"others")
    assert _of_this_head(folder) == []
    assert "of other weights" in caplog.text


@pytest.mark.parametrize(
    "spec",
    ["shutil:rmtree('kept')", "nets.py:rmtree('kept')", "nets.py:shutil.rmtree('kept')", "os:rmdir('kept')",
     "subprocess:run('rmdir kept')", "builtins:exec('1')", "torch.hub:load('a/b', 'c')", "torch:load('nets.py')",
     "pathlib:Path.rmdir('kept')", "nets.py:Holder()", "nets.py:removing('kept')",
     "huggingface_hub:snapshot_download('a/b')"],
)  # fmt: skip
def test_what_makes_no_network_is_not_called(spec, tmp_path, monkeypatch):
    from fbwrap.app.models import load_model

    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "nets.py").write_text(
        "import functools, shutil\nfrom shutil import rmtree\nfrom torch import nn\n"
        "class Net(nn.Module):\n    @classmethod\n    def from_pretrained(cls): return cls()\n"
        "class Holder:\n    def __init__(self): shutil.rmtree('kept')\n"
        "def make(n=1): return nn.Linear(1, n)\npart = functools.partial(nn.Linear, 1)\ninstance = nn.Linear(1, 1)\n"
        "removing = functools.partial(rmtree)\n"
    )
    with pytest.raises(
        fbwrap.errors.SettingError, match=r"is not called: .* neither a class of networks nor a function of your own"
    ):
        load_model(spec)
    assert (tmp_path / "kept").is_dir()
    for fine in ("Net()", "Net.from_pretrained()", "make(2)", "part(3)", "instance"):
        assert isinstance(load_model(f"nets.py:{fine}"), torch.nn.Module)
