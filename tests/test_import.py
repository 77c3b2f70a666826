"""What ``import fbwrap`` brings in, and that the layers stay apart."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ORDER = [
    "errors", "naming", "trees", "dice", "locks", "modes", "attributes", "copies", "state", "intercept", "replay",
    "flops", "surroundings", "probe", "signals", "modules", "critic", "settings", "latents", "links", "axes",
    "pairing", "checks", "plan", "corrections", "fingerprint", "observer", "proof", "hosting", "unroll", "rollout",
    "export", "loop", "table", "spec", "weightsfile", "weights", "adapter", "plugins", "fetching", "bases",
    "recognise", "resolve", "planning", "attach", "example", "headconfig", "headfiles", "head", "card", "inputs",
    "plots", "hub",
]  # fmt: skip


def test_import_brings_only_torch():
    code = "import sys, torch; before = set(sys.modules); import fbwrap; print('\\n'.join(set(sys.modules) - before))"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in new} - {"fbwrap", *sys.stdlib_module_names}
    assert not any(name.startswith(("fbwrap.recipes", "fbwrap.adapters", "fbwrap.app")) for name in new)


def test_recipes_come_when_asked_for():
    code = "import fbwrap; print(fbwrap.recipes.AFL.__name__, hasattr(fbwrap, 'nonsense'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["AFL", "False"]


def imports(path):
    """Modules of the core that a file imports at its top."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            yield node.module


def test_each_file_knows_only_what_stands_left_of_it():
    for place, name in enumerate(ORDER):
        assert set(imports(ROOT / "fbwrap" / f"{name}.py")) <= set(ORDER[:place]), name
    assert {p.stem for p in (ROOT / "fbwrap").glob("*.py")} == {*ORDER, "__init__", "__main__"}


def test_only_intercept_touches_other_peoples_modules():
    for path in [*(ROOT / "fbwrap").glob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        text = path.read_text()
        if path.stem != "intercept":
            assert "register_forward" not in text, path
            assert '["forward"]' not in text, path


def test_files_stay_small():
    for path in [*(ROOT / "fbwrap").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 450, path
