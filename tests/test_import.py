"""What ``import fbwrap`` brings in, and that the layers stay apart."""

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fbwrap
from fbwrap import moved
from fbwrap.errors import SettingError

ROOT = Path(__file__).parent.parent
# rooms (folders) and doors (files) of the core: each may use what stands before it in this list, and itself
ROOMS = [
    "errors", "version", "moved", "engine", "files", "weights", "feedback", "adapter", "recognition", "plots", "heads",
    "samplers", "loop", "attaching", "attach", "pretrained", "several", "__init__", "app", "__main__",
]  # fmt: skip
RECIPES = [
    "networks",
    "data",
    "metrics",
    "training",
    "gan",
    "afl",
    "fal",
    "experiments",
    "studies",
    "fitting",
    "__init__",
]


def test_import_brings_only_torch():
    code = "import sys, torch; before = set(sys.modules); import fbwrap; print('\\n'.join(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in new} - {"fbwrap", *sys.stdlib_module_names}
    assert not any(name.startswith(("fbwrap.recipes", "fbwrap.adapters", "fbwrap.app")) for name in new)


def test_recipes_come_when_asked_for():
    code = "import fbwrap; print(fbwrap.recipes.AFL.__name__, hasattr(fbwrap, 'nonsense'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["AFL", "False"]


def modules(folder="fbwrap"):
    """Each module of the core (or of the recipes) by its dotted name below the package."""
    for path in (ROOT / folder).rglob("*.py"):
        yield ".".join(path.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__"), path


def imported(name, path, known, root):
    """Modules of its package that a module imports, wherever it does so: at its top, in a function, for types."""
    package = name.split(".") if path.stem == "__init__" and name != "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [
                alias.name.removeprefix(root).removeprefix(".").split(".")
                for alias in node.names
                if f"{alias.name}.".startswith(f"{root}.")
            ]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else None
            parts = node.module.split(".") if node.module else []
            if above is None and not f"{node.module}.".startswith(f"{root}."):
                continue
            base = above + parts if above is not None else parts[root.count(".") + 1 :]
            found = [[*base, alias.name] if ".".join([*base, alias.name]) in known else base for alias in node.names]
        for each in found:
            if ".".join(each) in known:
                yield ".".join(each)
            elif not any(each):
                yield "__init__"


def graph(folder="fbwrap"):
    files, root = dict(modules(folder)), {"fbwrap": "fbwrap", "recipes": "fbwrap.recipes"}[folder]
    return {name: set(imported(name, path, files, root)) - {name} for name, path in files.items()}


@pytest.mark.parametrize(("folder", "rooms"), [("fbwrap", ROOMS), ("recipes", RECIPES)])
def test_each_room_knows_only_those_before_it(folder, rooms):
    assert {name.split(".")[0] for name, _ in modules(folder)} == set(rooms)
    place = {room: i for i, room in enumerate(rooms)}
    wrong = [
        f"{name} imports {other}"
        for name, others in graph(folder).items()
        for other in others
        if place[other.split(".")[0]] > place[name.split(".")[0]]
    ]
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter(graph()).prepare()  # raises where there is a circle
    TopologicalSorter(graph("recipes")).prepare()


def test_the_core_knows_recipes_and_adapters_by_name_only():
    for name, path in modules():
        if name.split(".")[0] != "app":
            assert not re.search(r"^\s*(from|import) fbwrap\.(recipes|adapters)", path.read_text(), re.MULTILINE), name


def test_only_intercept_touches_other_peoples_modules():
    for path in [*(ROOT / "fbwrap").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]:
        text = path.read_text()
        if path.stem != "intercept":
            assert "register_forward" not in text, path
            assert '["forward"]' not in text, path


def test_files_stay_small():
    for path in [*(ROOT / "fbwrap").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 450, path


def test_paths_of_before_the_rooms_still_work():
    for old, new in moved.MOVED.items():
        sys.modules.pop(f"fbwrap.{old}", None)
        with pytest.warns(DeprecationWarning, match=f"fbwrap.{old} is fbwrap.{new} now"):
            importlib.import_module(f"fbwrap.{old}")
    from fbwrap.head import from_folder, save_pretrained
    from fbwrap.hub import from_pretrained, push_folder
    from fbwrap.signals import spread

    assert from_pretrained is fbwrap.from_pretrained
    assert from_folder.__module__ == "fbwrap.attaching.loading"
    assert save_pretrained.__module__ == "fbwrap.heads.saving"
    names = {name for old, new in moved.MOVED.items() for name in vars(importlib.import_module(f"fbwrap.{new}"))}
    assert set(moved.RENAMED.values()) <= names
    assert push_folder is importlib.import_module("fbwrap.heads.hub").push_folder
    assert spread is importlib.import_module("fbwrap.feedback.features").broadcast


def test_other_peoples_names_are_left_alone():
    finder = moved.OldPaths()
    for old in moved.MOVED:
        assert finder.find_spec(old) is None, f"import {old} is not ours"
        assert finder.find_spec(f"somebody.{old}") is None
        assert finder.find_spec(f"fbwrap.{old}") is not None


def test_functions_stay_short():
    """At most 60 lines of code, the docstring apart."""
    for path in [p for folder in ("fbwrap", "recipes", "adapters") for p in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                assert node.end_lineno - first.lineno < 60, f"{path}: {node.name}"


def test_old_names_of_options_and_studies_still_work():
    from fbwrap.recipes import Options, studies

    with pytest.warns(DeprecationWarning, match="judged is loss_steps now"):
        assert Options(judged="last").loss_steps == "last"
    with pytest.warns(DeprecationWarning, match="judged is loss_steps now"):
        assert Options.of({"judged": "last"}) == Options(loss_steps="last")
    with pytest.warns(DeprecationWarning, match="fed is replaced_signals now"):
        assert studies.fed is studies.replaced_signals
    with pytest.warns(DeprecationWarning, match="beyond is more_steps now"):
        assert studies.beyond is studies.more_steps
    with pytest.raises(SettingError, match="one option twice"):
        Options(judged="all", loss_steps="last")
    with pytest.warns(DeprecationWarning, match="whole is"):
        assert fbwrap.plots.whole.__name__ == "atomic_write"
    from fbwrap.recipes.networks.residual import Plain, Translator

    assert (Plain.__name__, Translator.__name__) == ("ConvBlock", "TranslationGenerator")


def test_subpackages_of_recipes_need_no_import_of_their_own():
    code = "import fbwrap; print([getattr(fbwrap.recipes, n).__name__ for n in ('studies', 'networks', 'experiments')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fbwrap.recipes.studies" in done.stdout
    with pytest.raises(AttributeError, match="no attribute 'study'"):
        _ = fbwrap.recipes.study
