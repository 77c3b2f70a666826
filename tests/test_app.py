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
    while not (out / "gan" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate()
    assert first.returncode == 130, error
    assert "goes on where it was" in error
    step = torch.load(out / "gan" / "checkpoint.pt", weights_only=True)["step"]
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
