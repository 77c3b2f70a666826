"""The README and the documentation: every snippet runs, every command of the tutorial, and the site builds."""

import functools
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shortened
import torch
from digits import FOLDER, PAIR
from fbwrap.recipes.networks import dcgan

import fbwrap

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("index", "concepts", "fit", "samplers", "export", "heads", "faq", "cli")
    ),
]
BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
NOT_ON_PAGES = {
    "docs/design.md",
    "docs/support.md",
    "docs/cookbook.md",
    "docs/tutorial.md",
}  # tested elsewhere, or none


def blocks(path):
    return BLOCK.findall(path.read_text())


def networks():
    torch.manual_seed(0)
    G, D = dcgan.Generator(16, 8, 32), dcgan.Discriminator(8, 32, "none")  # as constructed: pages say where eval() goes
    z = torch.randn(2, 16, 1, 1)
    scope = {"G": G, "D": D, "z": z, "images": torch.rand(140, 3, 32, 32) * 2 - 1, "torch": torch, "fbwrap": fbwrap,
            "held_out": torch.rand(60, 3, 32, 32) * 2 - 1,
            "latents": lambda n: torch.randn(n, 16, 1, 1)}  # fmt: skip
    scope["somebody_elses_pipeline"] = lambda G: G(scope["z"])
    return scope


def shorten_fit(monkeypatch):
    """What takes minutes takes seconds: the lines are those of the page all the same."""
    whole = fbwrap.fit
    monkeypatch.setattr(fbwrap, "fit", functools.partial(whole, steps=2), raising=False)
    shortened.shorten_fit(monkeypatch.setattr, batch=4)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_snippet_runs(page, tmp_path, monkeypatch, caplog):
    """In order, in one scope, with G, D, z, images and latents there; nothing is said about a mode of G."""
    monkeypatch.chdir(tmp_path)
    shorten_fit(monkeypatch)
    scope = networks()
    for kind, code in blocks(page):
        if kind == "python":
            if page.stem == "README":  # "make published" runs it as it stands
                code = code.replace("steps=200", "steps=20")
            exec(compile(code, str(page), "exec"), scope)
            continue
        for line in code.strip().splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            elif words[:1] == ["fbwrap"]:
                shell(line, tmp_path)
            else:
                assert words[0] in ("pip", "git"), line
    assert not [each.message for each in caplog.records if "mode, and this head" in each.message]


def test_every_page_with_snippets_is_tested():
    held = {path for path in ROOT.glob("docs/*.md") if any(kind == "python" for kind, _ in blocks(path))}
    assert {str(path.relative_to(ROOT)) for path in held - set(PAGES)} <= NOT_ON_PAGES


def shell(code, folder, **env):
    program = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", code], cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PATH": program, "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_from_start_to_end(tmp_path, request):
    """Each block in a process of its own; the Hub is one on this machine; the page is opened and a slider moved."""
    pytest.importorskip("sklearn")
    from hubserver import Hub

    for file in (*FOLDER.glob("*.safetensors"), *PAIR.glob("*.safetensors")):
        shutil.copy(file, tmp_path)
    hub = Hub()
    env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    said = []
    try:
        for kind, code in blocks(ROOT / "docs" / "tutorial.md"):
            if kind == "python":
                if "fbwrap.fit(" in code:  # its 200 steps are those of examples/fit_a_head.py
                    code = shortened.PRELUDE + code.replace("steps=200", "steps=4")
                (tmp_path / "block.py").write_text(code)
                said.append(shell(f"{sys.executable} block.py", tmp_path, **env))
            elif code.startswith("fbwrap ui"):
                open_the_page(code, tmp_path, env, request)
            else:
                said.append(shell(code.replace("--samples 1500", "--samples 700"), tmp_path, **env))
        files = hub.repos["me/digits-feedback"].at("main")[1]
    finally:
        hub.close()
    text = "\n".join(said)
    assert "generator: dcgan: linear, then convolutions" in text
    assert "what D sees" in text
    assert len(list((tmp_path / "samples").glob("0*.png"))) == 16
    card = files["README.md"].decode()
    assert "name: frechet[fbwrap.app.digits:Classifier]" in card
    assert {"config.json", "feedback.safetensors", "discriminator.safetensors", "strength.png", "eval.png"} <= set(
        files
    )
    rows = (tmp_path / "head" / "studies" / "eval.csv").read_text().splitlines()
    column = rows[0].split(",").index("frechet[fbwrap.app.digits:Classifier]")
    base, corrected = (float(row.split(",")[column]) for row in (rows[1], rows[-1]))
    assert corrected < 0.8 * base, "the tutorial's head is worth having"


def open_the_page(code, folder, env, request):
    from test_page import CHROMIUM, DRIVER, REQUIRED, Page

    if not (CHROMIUM and DRIVER) and not REQUIRED:
        return  # the tests of the page say that they are skipped
    driver = request.getfixturevalue("driver")
    words = shell(code.replace("fbwrap ui", "echo"), folder, **env).split()
    page = Page(driver, *words, cwd=folder, **env)
    try:
        base = page.pixels("base")
        page.slide("strength", 0.0)
        page.wait(lambda: (page.pixels("feedback") == base).all(), "at strength 0 the base is left")
    finally:
        page.close()


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("index.html")}
    assert {"index.html", "tutorial/index.html", "api/core/index.html"} <= pages
    text = (tmp_path / "site" / "api" / "core" / "index.html").read_text()
    assert "push_to_hub" in text
    text = (tmp_path / "site" / "examples" / "index.html").read_text()
    shown = set(re.findall(r"<summary>examples/(\w+)\.py</summary>", text))
    assert shown == {path.stem for path in (ROOT / "examples").glob("*.py")} - {"networks"}, "each example's code"
    for name in ("core", "recipes", "plots"):
        text = (tmp_path / "site" / "api" / name / "index.html").read_text()
        assert 'class="gp">&gt;&gt;&gt;' in text, f"no example of {name} is a block of code"
        assert not re.search(r"<p>[^<]*&gt;&gt;&gt;", text), f"an example of {name} is running text"
    for name in ("core", "recipes", "plots", "adapters"):
        text = (tmp_path / "site" / "api" / name / "index.html").read_text()
        headings = re.findall(r'<h3 id="([\w.]+)" class="doc', text)
        assert headings
        for path in headings:  # import paths, as a user writes them
            assert path.startswith("fbwrap.")
            assert pkgutil.resolve_name(path) is not None
    text = (tmp_path / "site" / "api" / "core" / "index.html").read_text()
    assert re.search(r"steps.*?: .*?int", re.sub(r"<[^>]+>", "", text)), "signatures have types"
    for path in (tmp_path / "site").rglob("*.html"):
        outside = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', path.read_text())
        assert not outside, f"{path} asks another host for {outside}"


def test_the_figures_are_those_that_the_script_draws(tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copy(ROOT / "docs" / "figures" / "draw.py", tmp_path)
    subprocess.run([sys.executable, "draw.py"], cwd=tmp_path, check=True)
    drawn = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name: path.read_text() for path in (ROOT / "docs" / "figures").glob("*.svg")}


def test_the_table_of_commands_is_whole():
    from fbwrap.app.cli import app

    told = set(re.findall(r"^\| `fbwrap (\w+)", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    from typer.main import get_command

    assert told == set(get_command(app).commands)
