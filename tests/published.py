"""What is published, as a stranger gets it: sdist and wheel are built, and installed alone.

    python tests/published.py CONSTRAINTS [--few] [--keep FOLDER]

In an empty environment outside the repository, step by step: with nothing but the declared dependencies a loop is
attached, run, saved and loaded (with ``--few`` that is all: CI runs the rest in the checkout); with the extra
``recipes`` it is trained for two steps; with ``app`` README's first lines run as they stand, and every command says
what it does; with ``onnx`` their head is exported, and run by ONNX Runtime alone. The sdist is installed in a second
empty environment, and its own tests, without the slow ones, run against the installed wheel. Anything that fails ends
the program with its output. Printed are the seconds of each step, and the sizes of the files. ``--keep``: a folder for
both files.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ATTACH = """
import sys, torch, fbwrap
from torch import nn
torch.manual_seed(0)
G = nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()).eval()
D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4))
z = torch.randn(4, 6, 1, 1)
loop = fbwrap.attach(G, D, [("0", "1")], example=z)
assert torch.equal(loop(z), G(z))
loop.save_pretrained("head")
loop.detach()
again = fbwrap.from_pretrained("head", G, D)
assert torch.equal(again(z), G(z))
"""
PIP = ("-m", "pip", "install", "-q", "--no-compile")
HELP = """
import sys
from typer.testing import CliRunner
from fbwrap.app.cli import app
for command in sys.argv[1:]:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
"""
BARE = "for name in ('accelerate', 'typer', 'matplotlib', 'PIL'):\n    assert name not in sys.modules, name\n"
TRAIN = """
images = torch.randn(32, 3, 8, 8).tanh()
fit = fbwrap.recipes.AFL(again, loss="hinge", batch=4).fit(images, lambda n: torch.randn(n, 6, 1, 1), 2, out="run")
assert fit.steps == 2
G.eval()
assert torch.equal(fbwrap.from_pretrained("run/head", G, D)(z), again(z))
"""

NETWORKS = "from fbwrap.app.digits import pretrained\nG, D = pretrained()\n"
SERVE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession("loop.onnx", providers=["CPUExecutionProvider"])
made = session.run(None, {session.get_inputs()[0].name: numpy.zeros((5, 16), "float32")})[0]
assert made.shape == (5, 1, 8, 8) and "fbwrap" not in sys.modules and "torch" not in sys.modules
"""


def run(*words: str, cwd: Path, **env: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**inherited, "OMP_NUM_THREADS": "1", **env}
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)[:300]}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def empty(place: Path) -> str:
    """A new environment; its Python."""
    venv.create(place, with_pip=True)
    return str(place / "bin" / "python")


def main() -> None:
    constraints, few = Path(sys.argv[1]).resolve(), "--few" in sys.argv
    kept = Path(sys.argv[sys.argv.index("--keep") + 1]).resolve() if "--keep" in sys.argv else None
    root, begun = Path(__file__).parent.parent, time.monotonic()

    def done(what: str) -> None:
        nonlocal begun
        print(f"{what} ({time.monotonic() - begun:.0f} s)", flush=True)
        begun = time.monotonic()

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run(sys.executable, "-m", "build", "--outdir", str(folder), str(root), cwd=folder)
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        done("built: " + ", ".join(f"{file.name} {file.stat().st_size / 2**20:.1f} MiB" for file in (wheel, sdist)))
        python = empty(folder / "env")

        def install(extra: str = "") -> None:
            run(python, *PIP, "-c", str(constraints), f"{wheel}{extra}", cwd=folder)

        install()
        done("the wheel is installed, with the packages that it needs")
        run(python, "-m", "pip", "check", cwd=folder)
        run(python, "-W", "error::ImportWarning", "-c", ATTACH + BARE, cwd=folder)
        done("the wheel alone: attached, saved, loaded")
        if few:
            return
        install("[recipes]")
        run(python, "-c", ATTACH + TRAIN, cwd=folder)
        done("with recipes: two steps trained, saved, loaded")
        install("[app]")
        said = run(python, "-m", "fbwrap", "--help", cwd=folder, COLUMNS="200", NO_COLOR="1")
        commands = re.findall(r"^│ ([a-z]+(?:-[a-z]+)*) ", said, re.MULTILINE)
        if len(commands) < 8:
            sys.exit(f"No commands were found in:\n{said}")
        run(python, "-c", HELP, *commands, cwd=folder)
        lines = (root / "README.md").read_text().split("```python\n")[1].split("```")[0]
        run(python, "-c", lines, cwd=folder)
        done(f"with app: --help of {', '.join(commands)}; README's first lines run as they stand")
        install("[onnx]")
        (folder / "nets.py").write_text(NETWORKS)
        networks = ("-g", "nets.py:G", "-d", "nets.py:D")
        run(python, "-m", "fbwrap", "export", "head", *networks, "--to", "loop.onnx", cwd=folder)
        run(python, "-c", SERVE, cwd=folder)
        size = (folder / "loop.onnx").stat().st_size / 2**20
        done(f"with onnx: exported ({size:.1f} MiB), run by ONNX Runtime without fbwrap and torch")
        other = empty(folder / "other")
        run(other, *PIP, "-c", str(constraints), str(sdist), cwd=folder)
        run(other, "-W", "error::ImportWarning", "-c", ATTACH + BARE, cwd=folder)
        done("the sdist in another empty environment: attached, saved, loaded")
        install("[test]")
        with tarfile.open(sdist) as held:
            held.extractall(folder, filter="data")
        (source,) = (path for path in folder.iterdir() if path.name.startswith("fbwrap-") and path.is_dir())
        run(str(folder / "env" / "bin" / "pytest"), "-m", "not slow", "-q", cwd=source, PYTHONSAFEPATH="1")
        done("the sdist's own tests pass")
        if kept is not None:
            kept.mkdir(exist_ok=True)
            for file in (wheel, sdist):
                shutil.copy2(file, kept)


if __name__ == "__main__":
    main()
