"""``fbwrap sample``: what it writes, and what it refuses."""

import json

import pytest
import torch
from commandline import command

import fbwrap
from fbwrap.errors import SettingError


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


def test_sample_with_a_sampler(tmp_path):
    """--with: a sampler draws in place of the loop; its cost and what it noted are told."""
    from digits import FOLDER, NETWORKS
    from PIL import Image

    from fbwrap import plots

    words = ["sample", FOLDER / "head", *NETWORKS, "-n", "6", "--seed", "3", "--latents", "normal"]
    for name, more in (
        ("drs", ["--keep", "0.5", "--set", "burn_in=50"]), ("topk", ["--set", "of=2"]), ("plain", []),
        ("dgflow", ["--set", "steps=2", "--set", "divergence=JS", "--loss", "bce"]),
    ):  # fmt: skip
        done = command(*words, "--with", name, *more, "--out", tmp_path / name, "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout.splitlines()[-1])
        assert len(told["files"]) == 6
        assert told["cost"] > 1
        assert plots.facts(told["files"][0])["sampler"].lower() == name
    assert told["diagnostics"]["moved"] > 0
    done = command(*words, "--with", "drs", "--keep", "0.5", "--set", "burn_in=50", "--out", tmp_path / "again")
    assert "acceptance" in done.output
    for place in range(6):
        a, b = (Image.open(tmp_path / where / f"000{place}.png") for where in ("drs", "again"))
        assert a.tobytes() == b.tobytes(), "a seed draws the same"
    for more, sentence in (
        (["--with", "best"], "There are plain, drs"),
        (["--with", "topk", "--keep", "0.5"], "no setting 'keep'"),
        (["--with", "topk", "--set", "of"], "write NAME=VALUE"),
        (["--keep", "0.5"], "--keep needs --with"),
        (["--with", "drs", "--loss", "hinge"], "--real"),
        (["--with", "drs", "--real", tmp_path / "nothing"], "no such folder"),
        (["--with", "drs", "--loss", "gan"], "'wasserstein_gp'"),
    ):
        done = command(*words, *more, "--out", tmp_path / "out")
        assert done.exit_code == 1, done.output
        assert sentence in " ".join(done.output.split()), done.output


def test_sample_calibrates_on_real_images(tmp_path):
    from digits import FOLDER, NETWORKS
    from PIL import Image

    (tmp_path / "real").mkdir()
    for place in range(24):
        Image.new("L", (16, 16), 9 * place).save(tmp_path / "real" / f"{place}.png")
    words = [
        "sample",
        FOLDER / "head",
        *NETWORKS,
        "-n",
        "3",
        "--latents",
        "normal",
        "--with",
        "mhgan",
        "--loss",
        "hinge",
    ]
    done = command(*words, "--set", "length=3", "--real", tmp_path / "real", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "AUC" in done.output
    assert "stayed at a real sample" in done.output


def test_classes_of_held_out_pictures_are_those_of_their_folders(tmp_path):
    """D is called with the class of each picture; the folder tells it, by number or in order."""
    from PIL import Image
    from zoo import LabelCritic

    from fbwrap.app.held_out import held_out

    class ByClass(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.names, self.last = torch.nn.Embedding(3, 4), torch.nn.ConvTranspose2d(4, 1, 8)

        def forward(self, z, y):
            return self.last((z + self.names(y))[..., None, None]).tanh()

    seen = []

    class Watched(LabelCritic):
        def forward(self, x, y):
            seen.append((x.mean((1, 2, 3)).round(decimals=2), y))
            return super().forward(x, y)

    example = (torch.randn(2, 4), torch.tensor([0, 1]))
    loop = fbwrap.attach(ByClass().eval(), Watched(), None, example=example, critic_input="output_and_label")
    loop.latents = ["normal", "labels:0:2"]
    for names in (("0", "1", "2"), ("a cat", "dog", "owl")):
        root = tmp_path / names[0]
        for place in range(24):
            (root / names[place % 3]).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 100 * (place % 3)).save(root / names[place % 3] / f"{place}.png")
        real, inputs = held_out(loop, root, (0.0, 1.0))
        grey = real.mean((1, 2, 3))
        assert torch.equal(inputs[1], (grey * 2.55).round().long()), "each picture's own class"
        seen.clear()
        fbwrap.calibrate(loop, real, inputs=inputs)
        assert any(torch.equal((x * 2.55).round().long(), y) for x, y in seen)
    (root / "flat.png").write_bytes((root / "dog" / "1.png").read_bytes())
    with pytest.raises(SettingError, match="into a subfolder"):
        held_out(loop, root, (0.0, 1.0))


def test_sample_of_pictures_with_a_sampler(tmp_path):
    from PIL import Image
    from test_studio import sr_loop

    from fbwrap.app.sample import sample
    from fbwrap.samplers import Collaborative

    (tmp_path / "in").mkdir()
    for name, size in (("a", (10, 12)), ("b", (20, 8))):
        Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "in" / f"{name}.png")
    loop = sr_loop()
    if loop.discriminator is None:
        pytest.skip("this loop has no D")
    sampler = Collaborative(loop, steps=2, loss="bce")
    made = sample(loop, tmp_path / "out", source=tmp_path / "in", span=(0.0, 1.0), sampler=sampler)
    assert [(p.name, Image.open(p).size) for p in made.files] == [("a.png", (20, 24)), ("b.png", (40, 16))]
