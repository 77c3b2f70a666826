"""Loops as files: ``loop.export`` with open sizes, ``fbwrap export``, and what runs where fbwrap is not."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from digits import FOLDER, PAIR
from helpers import stir
from torch import Tensor, nn
from typer.testing import CliRunner
from zoo import Deconv, Residual, patch

import fbwrap
from fbwrap.app import exporting
from fbwrap.app.cli import app
from fbwrap.errors import SettingError, UnsupportedError
from fbwrap.feedback.export import dynamic_axes

HEAD = (
    *(str(FOLDER / "head"), "-g", "fbwrap.app.digits:Generator", "-d", "fbwrap.app.digits:Discriminator"),
    *("--weights", str(PAIR / "generator.safetensors")),
)


def run(*words: object):
    return CliRunner().invoke(app, list(map(str, words)))


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(4, 5), nn.Linear(10, 6 * 16)
        self.up = nn.ConvTranspose2d(6, 3, 4, 2, 1)

    def forward(self, z: Tensor, *, label: Tensor) -> Tensor:
        return self.up(self.fc(torch.cat([z, self.embed(label)], 1)).view(-1, 6, 4, 4).relu()).tanh()


def of_noise(count: int) -> tuple[tuple, dict]:
    return (torch.randn(count, 6, 1, 1),), {}


def of_pictures(count: int, side: int = 8) -> tuple[tuple, dict]:
    return (torch.randn(count, 3, side, side),), {}


def of_labels(count: int) -> tuple[tuple, dict]:
    return (torch.randn(count, 5),), {"label": torch.arange(count) % 4}


CASES = {
    "noise": (Deconv, [("main.5", "1")], of_noise),
    "pictures": (Residual, [("body.1", "1")], of_pictures),
    "by keyword": (Labelled, [("up", "1")], of_labels),
}


def loop_of(name: str, steps: int = 2) -> tuple[fbwrap.FeedbackLoop, object]:
    torch.manual_seed(0)
    make, links, draw = CASES[name]
    args, kwargs = draw(1)
    example = kwargs | {"z": args[0]} if kwargs else args
    G = make().eval()
    return stir(fbwrap.attach(G, patch().eval(), links, example=example, steps=steps)), draw


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_samples_from_one_graph(name):
    loop, draw = loop_of(name)
    args, kwargs = draw(1)
    whole = loop.export(*args, dynamic=True, **kwargs).module()
    for count in (1, 2, 3, 7):
        args, kwargs = draw(count)
        assert torch.allclose(whole(*args, **kwargs), loop(*args, **kwargs), atol=1e-6)


def test_pictures_of_any_size_from_one_graph():
    loop, draw = loop_of("pictures")
    program = loop.export(*draw(1)[0], dynamic=True)
    assert dynamic_axes(program) == {"x": (0, 2, 3)}
    for size in ((8, 8), (12, 8), (9, 15)):
        x = torch.randn(2, 3, *size)
        assert torch.allclose(program.module()(x), loop(x), atol=1e-5)


def test_an_input_that_all_samples_share_stays_one_row():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 3, 3, 1, 1)

        def forward(self, x: Tensor, style: Tensor) -> Tensor:
            return self.b(self.a(x) * style)

    style = torch.randn(1, 4, 1, 1)
    loop = stir(fbwrap.attach(Shared().eval(), patch().eval(), [("a", "1")], example=(torch.randn(2, 3, 8, 8), style)))
    program = loop.export(torch.randn(2, 3, 8, 8), style, dynamic=True)
    assert dynamic_axes(program) == {"x": (0, 2, 3), "style": ()}
    x = torch.randn(5, 3, 8, 8)
    assert torch.allclose(program.module()(x, style), loop(x, style), atol=1e-5)


def test_without_it_every_size_is_fixed():
    loop, draw = loop_of("noise")
    program = loop.export(*draw(2)[0])
    assert dynamic_axes(program) == {"z": ()}
    with pytest.raises(AssertionError):
        program.module()(*draw(3)[0])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_strength_as_an_input(name, dynamic):
    loop, draw = loop_of(name)
    args, kwargs = draw(2)
    whole = loop.export(*args, dynamic=dynamic, strength_input=True, **kwargs).module()
    outputs = []
    for strength in (0.0, 0.3, 1.0):
        expected = loop.rollout(*args, strength=torch.tensor(strength), **kwargs).output
        outputs.append(whole(*args, **kwargs, strength=torch.tensor(strength)))
        assert torch.allclose(outputs[-1], expected, atol=1e-6)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def test_strength_that_is_an_input_of_g_already():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 3, 3, 1, 1)

        def forward(self, x: Tensor, *, strength: Tensor) -> Tensor:
            return self.b(self.a(x) * strength)

    example = {"x": torch.randn(2, 3, 8, 8), "strength": torch.ones(2, 1, 1, 1)}
    loop = stir(fbwrap.attach(Named().eval(), patch().eval(), [("a", "1")], example=example))
    with pytest.raises(SettingError, match="input of that name"):
        loop.export(**example, strength_input=True)
    assert torch.allclose(loop.export(**example).module()(**example), loop(**example), atol=1e-6)


def test_the_loop_is_as_it_was():
    loop, draw = loop_of("noise")
    args, _ = draw(2)
    before, modes = loop(*args), [module.training for module in loop.generator.modules()]
    loop.export(*args, dynamic=True, strength_input=True)
    assert torch.equal(loop(*args), before)
    assert [module.training for module in loop.generator.modules()] == modes


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_the_command_writes_a_file_that_it_has_compared(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    found = run("export", *HEAD, "--to", tmp_path / f"loop.{kind}", "--json")
    assert found.exit_code == 0, found.output
    data = json.loads(found.stdout.splitlines()[-1])
    assert data["inputs"] == {"z": [0]}
    assert [check["shapes"] for check in data["checks"]] == [[[2, 16]], [[3, 16]]]
    assert all(check["difference"] < 1e-4 for check in data["checks"])
    assert data["size"] == (tmp_path / f"loop.{kind}").stat().st_size > 100_000


def alone(script: str, blocked: tuple[str, ...], *arguments: object) -> str:
    """Run a script in a Python that has none of some packages."""
    block = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_program_runs_without_fbwrap(tmp_path):
    file = tmp_path / "loop.pt2"
    assert run("export", *HEAD, "--to", file, "--strength-input").exit_code == 0
    script = (
        "import torch\nwhole = torch.export.load(sys.argv[1]).module()\n"
        "y = whole(torch.zeros(4, 16), strength=torch.tensor(0.5))\nprint(tuple(y.shape))"
    )
    assert alone(script, ("fbwrap",), file).strip() == "(4, 1, 8, 8)"


def test_onnx_runs_without_fbwrap_and_without_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "loop.onnx"
    assert run("export", *HEAD, "--to", file, "--strength-input", "--steps", 2).exit_code == 0
    script = (
        "import numpy as np, onnxruntime\nsession = onnxruntime.InferenceSession(sys.argv[1])\n"
        "given = {'z': np.zeros((5, 16), np.float32), 'strength': np.array(0.5, np.float32)}\n"
        "print(session.run(None, given)[0].shape)"
    )
    assert alone(script, ("fbwrap", "torch"), file).strip() == "(5, 1, 8, 8)"


@pytest.mark.slow
def test_ahead_of_time(tmp_path):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("there is no C++ compiler")
    loop, _ = loop_of("noise", steps=1)
    loop.latents = "normal"
    made = exporting.write(loop, tmp_path / "loop.pt2", ahead_of_time=True)
    assert all(check.difference < 1e-4 for check in made.checks)
    assert made.inputs == {"z": (0,)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "loop.pth"], "ends in .onnx or .pt2"),
        (["--to", "loop.onnx", "--ahead-of-time"], "needs --to FILE.pt2"),
    ],
)
def test_what_cannot_be_is_said(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run("export", *HEAD, *arguments)
    assert found.exit_code == 1
    assert says in found.output
    assert not list(tmp_path.iterdir())


def test_a_file_that_gives_something_else_is_not_kept(tmp_path, monkeypatch):
    loop, _ = loop_of("noise")
    loop.latents = "normal"
    save = exporting._save_program
    monkeypatch.setattr(
        exporting, "_save_program", lambda program, path: lambda *given: save(program, path)(*given) + 0.1
    )
    with pytest.raises(UnsupportedError, match=r"differ by 0\.1"):
        exporting.write(loop, tmp_path / "loop.pt2")
    assert not list(tmp_path.iterdir())


def test_pictures_are_checked_at_another_size(tmp_path):
    loop, _ = loop_of("pictures")
    made = exporting.write(loop, tmp_path / "loop.pt2")
    assert made.inputs == {"x": (0, 2, 3)}
    assert [check.shapes[0] for check in made.checks] == [(1, 3, 8, 8), (2, 3, 8, 8), (1, 3, 16, 16)]


def test_fixed_sizes_are_checked_as_they_are(tmp_path):
    loop, _ = loop_of("pictures")
    made = exporting.write(loop, tmp_path / "loop.pt2", dynamic=False)
    assert made.inputs == {"x": ()}
    assert len(made.checks) == 1


def test_a_generator_that_draws_is_refused_in_one_sentence(tmp_path):
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 3, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            return self.b(h + torch.randn_like(h))

    loop = fbwrap.attach(Noisy().eval(), patch().eval(), [("a", "1")], example=torch.randn(1, 3, 8, 8))
    with pytest.raises(UnsupportedError, match="random numbers"):
        exporting.write(loop, tmp_path / "loop.pt2")
