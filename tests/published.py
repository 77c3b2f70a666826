"""What is published, as a stranger gets it: sdist and wheel are built, and the wheel alone is installed.

    python tests/published.py CONSTRAINTS [--quick | --few] [--keep FOLDER]

In an empty environment outside the repository, step by step: with nothing but the declared dependencies a loop is
attached, run, saved and loaded; with the extra ``recipes`` it is trained for two steps; with ``app`` README's first
lines run as they stand, and every command says what it does. Last the tests of the unpacked sdist, without the slow
ones, run against the installed wheel: not with ``--quick``, and with ``--few`` those of a few files (all of them run
in the checkout, too). Anything that fails ends the program with its output. ``--keep``: a folder for both files.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
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
FEW = ("test_import", "test_attach", "test_saving")
BARE = "for name in ('accelerate', 'typer', 'matplotlib', 'PIL'):\n    assert name not in sys.modules, name\n"
TRAIN = """
images = torch.randn(32, 3, 8, 8).tanh()
fit = fbwrap.recipes.AFL(again, loss="hinge", batch=4).fit(images, lambda n: torch.randn(n, 6, 1, 1), 2, out="run")
assert fit.steps == 2
G.eval()
assert torch.equal(fbwrap.from_pretrained("run/head", G, D)(z), again(z))
"""


def run(*words: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **env}
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)[:300]}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done.stdout


def main() -> None:
    constraints, quick = Path(sys.argv[1]).resolve(), "--quick" in sys.argv
    kept = Path(sys.argv[sys.argv.index("--keep") + 1]).resolve() if "--keep" in sys.argv else None
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run(sys.executable, "-m", "build", "--outdir", str(folder), str(root), cwd=folder)
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        venv.create(folder / "env", with_pip=True)
        python = str(folder / "env" / "bin" / "python")

        def install(extra: str = "") -> None:
            run(python, "-m", "pip", "install", "-q", "-c", str(constraints), f"{wheel}{extra}", cwd=folder)

        install()
        run(python, "-m", "pip", "check", cwd=folder)
        run(python, "-W", "error::ImportWarning", "-c", ATTACH + BARE, cwd=folder)
        print("the wheel alone: attached, saved, loaded", flush=True)
        install("[recipes]")
        run(python, "-c", ATTACH + TRAIN, cwd=folder)
        print("with recipes: two steps trained, saved, loaded", flush=True)
        install("[app]")
        said = run(python, "-m", "fbwrap", "--help", cwd=folder, COLUMNS="200", NO_COLOR="1")
        commands = re.findall(r"^│ ([a-z]+(?:-[a-z]+)*) ", said, re.MULTILINE)
        if len(commands) < 8:
            sys.exit(f"No commands were found in:\n{said}")
        for command in commands:
            run(python, "-m", "fbwrap", command, "--help", cwd=folder)
        readme = (root / "README.md").read_text()
        run(python, "-c", readme.split("```python\n")[1].split("```")[0], cwd=folder)
        print("with app: README's first lines run as they stand", flush=True)
        print(f"with app: --help of {', '.join(commands)}", flush=True)
        if quick:
            return
        install("[test]")
        with tarfile.open(sdist) as held:
            held.extractall(folder, filter="data")
        (source,) = (path for path in folder.iterdir() if path.name.startswith("fbwrap-") and path.is_dir())
        chosen = [f"tests/{name}.py" for name in FEW] if "--few" in sys.argv else []
        run(str(folder / "env" / "bin" / "pytest"), "-m", "not slow", "-q", *chosen, cwd=source, PYTHONSAFEPATH="1")
        print("the sdist's own tests pass", flush=True)
        if kept is not None:
            kept.mkdir(exist_ok=True)
            for file in (wheel, sdist):
                shutil.copy2(file, kept)


if __name__ == "__main__":
    main()
