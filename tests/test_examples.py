"""Every example runs as a stranger would run it, and leaves the picture that it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shortened import PRELUDE

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = {"train_a_head": ["--steps", "20"], "fit_a_head": ["--steps", "2"], "own_module": ["--steps", "20"],
         "upscale": ["--steps", "6"], "cubes": ["--steps", "4"],
         "series": ["--epochs", "4", "--steps", "2"],
         "table": ["--epochs", "2", "--steps", "2"]}  # fmt: skip
NOT_ALONE = {"networks": "what another example imports", "pretrained_mnist": "wants data: run by test_real.py"}
NEEDS = {"table": ["ctgan"], "serve_onnx": ["onnx", "onnxscript", "onnxruntime"]}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_ALONE])
def test_example(name, tmp_path):
    pytest.importorskip("PIL")
    for package in NEEDS.get(name, []):
        pytest.importorskip(package)
    script = str(EXAMPLES / f"{name}.py")
    words = [sys.executable, script, *SMALL.get(name, [])]
    if name in ("fit_a_head", "series"):
        code = f"{PRELUDE}import runpy\nrunpy.run_path({script!r}, run_name='__main__')"
        words = [sys.executable, "-c", code, *SMALL[name]]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (EXAMPLES / f"{name}.py").read_text().split('"""')[1]
    promised = re.findall(r"(?:Writes|and)\s(\w+\.(?:png|gif))", text)
    assert all((tmp_path / file).stat().st_size > 500 for file in promised)
    assert promised or name == "by_name"
