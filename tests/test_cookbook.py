"""Each recipe of docs/cookbook.md is applied to a script of its repository's shape, and run."""

import random
import re
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
COOKBOOK = (HERE.parent / "docs" / "cookbook.md").read_text()
RECIPES = dict(re.findall(r"<!-- test: (\w+) -->\n```diff\n(.*?)```", COOKBOOK, re.DOTALL))
PACKAGES = ("basicsr", "diffusers", "spandrel", "timm", "torchgan")  # of the extra "integration"
TRAINED = [name for name in RECIPES if name.endswith("_train")]


def patched(name):
    """The script with the recipe's lines in it."""
    script = (HERE / "cookbook" / f"{name}.py").read_text().splitlines()
    place = 0
    for line in RECIPES[name].splitlines():
        mark, text = line[:1], line[1:]
        if text.strip() == "...":
            continue
        if mark == "+":
            script.insert(place, text)
            place += 1
            continue
        assert text in script[place:], f"{name}: the script has no further line {text!r}"
        place = script.index(text, place)
        if mark == "-":
            del script[place]
        else:
            place += 1
    return "\n".join(script)


def run(code, seed=0):
    torch.manual_seed(seed)
    random.seed(seed)
    scope = {"__name__": "__main__"}
    try:
        exec(compile(code, "<recipe>", "exec"), scope)
    except ModuleNotFoundError as error:
        if error.name in PACKAGES:
            pytest.skip(f"needs {error.name}")
        raise
    return scope


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_script_has_its_recipe():
    scripts = {path.stem for path in (HERE / "cookbook").glob("*_*.py")} - {"__init__"}
    assert scripts == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_at_most_five_lines(name):
    assert 0 < sum(line.startswith("+") for line in RECIPES[name].splitlines()) <= 5


@pytest.mark.parametrize("name", TRAINED)
def test_training(name, folder):
    scope = run(patched(name))
    loop = scope["loop"]
    assert (folder / "head" / "feedback.safetensors").exists()
    assert loop.plan.parameters > 0
    last = [p for p in loop.parameters() if p.requires_grad]
    assert any(p.grad is not None and p.grad.any() for p in last)
    loop.uninstall()
    loop.eval()
    args, _ = loop.facts.example
    outputs = loop.rollout(*args, steps=1).outputs
    from helpers import first

    with torch.no_grad():
        base = first(loop.rollout(*args, steps=0).output)
    assert not torch.equal(first(outputs[-1]), base), "the head has learned to do something"
    sample = name.replace("_train", "_sample")
    if sample in RECIPES:
        fed, plain = run(patched(sample))["result"], run((HERE / "cookbook" / f"{sample}.py").read_text())["result"]
        assert fed.shape == plain.shape
        assert not torch.equal(fed, plain)


@pytest.mark.parametrize("name", [n for n in RECIPES if n.endswith("_sampler")])
def test_samplers(name, folder):
    scope = run(patched(name))
    plain = run((HERE / "cookbook" / f"{name}.py").read_text())["result"]
    assert scope["result"].shape == plain.shape
    assert not torch.equal(scope["result"], plain)
    assert all("forward" not in vars(module) for module in scope["loop"].generator.modules())


@pytest.mark.parametrize(
    "name", [n for n in RECIPES if n.endswith("_sample") and n.replace("_sample", "_train") not in RECIPES]
)
def test_inference(name, folder):
    fed, plain = run(patched(name))["result"], run((HERE / "cookbook" / f"{name}.py").read_text())["result"]
    assert fed.shape == plain.shape
    assert not torch.equal(fed, plain)
