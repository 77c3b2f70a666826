"""Nothing of a run is lost: checkpoints, full disks, kills, folders."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fbwrap.recipes import AFL, FAL, Pairs
from fbwrap.recipes.training import checkpoint as C
from trained import fal_loop, images, latents
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import TrainingError


def test_the_newest_few_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, caplog):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    fit = lambda steps, **more: AFL(loop, batch=4, save_every=1, keep=2, decay="none", loss="bce").fit(
        images(), latents, steps, out=tmp_path, progress=False, **more
    )
    fit(4)
    assert [p.name[11:19] for p in C.found(tmp_path)] == ["00000003", "00000004"]
    C.found(tmp_path)[-1].write_bytes(b"half of a file")
    assert fit(4, resume=True).steps == 4
    assert "the one before it is tried" in caplog.text


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    recipe = lambda: AFL(loop, batch=4, save_every=2, decay="none", loss="bce")
    recipe().fit(images(), latents, 2, out=tmp_path, progress=False)
    kept = {p.name: p.read_bytes() for p in C.found(tmp_path)}

    def full(state, file):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*make room"):
        recipe().fit(images(), latents, 6, out=tmp_path, resume=True, progress=False)
    assert {p.name: p.read_bytes() for p in C.found(tmp_path)} == kept
    assert not list(tmp_path.glob(".*.part*"))


RUN = """
import sys, time, torch
sys.path.insert(0, {tests!r})
from zoo import Deconv, patch
import fbwrap
torch.manual_seed(0)
G, D = Deconv(), patch()
data = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0)).tanh()
def latents(n):
    time.sleep({pause})
    return torch.randn(n, 6, 1, 1)
torch.manual_seed(1)
loop = fbwrap.attach(G, D, ["main.5"], example=torch.randn(2, 6, 1, 1))
recipe = fbwrap.recipes.AFL(loop, loss="bce", batch=4, save_every=3, recalibrate=2)
fit = recipe.fit(data, latents, 30, out={out!r}, resume=True, progress=False)
torch.save([loop.state_dict(), loop.discriminator.state_dict(), fit.steps], {out!r} + "/end.pt")
"""


def run(out, pause):
    out.mkdir(exist_ok=True)
    code = RUN.format(tests=str(Path(__file__).parent), out=str(out), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run ends with."""
    folder = tmp_path_factory.mktemp("whole")
    process = run(folder, 0)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return torch.load(folder / "end.pt", weights_only=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, whole, number):
    process = run(tmp_path / "killed", 0.1)
    deadline = time.monotonic() + 120
    while not C.found(tmp_path / "killed") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode != 0
    reached = torch.load(C.found(tmp_path / "killed")[-1], weights_only=True)["step"]
    assert 3 <= reached < 30
    if number != signal.SIGKILL:
        assert f"Interrupted after step {reached}: saved in" in said
    assert not (tmp_path / "killed" / "end.pt").exists()
    again = run(tmp_path / "killed", 0)
    _, said = again.communicate()
    assert again.returncode == 0, said
    resumed = torch.load(tmp_path / "killed" / "end.pt", weights_only=True)
    assert whole[2] == resumed[2] == 30
    for one, two in zip(whole[:2], resumed[:2], strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_fresh_run_neither_resumes_nor_prunes_an_earlier_one(tmp_path):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    fit = lambda steps, **more: AFL(loop, batch=4, save_every=1, keep=2, **more.pop("o", {}), loss="bce").fit(
        images(), latents, steps, out=tmp_path, progress=False, **more
    )
    fit(5)
    old = {p.name: p.read_bytes() for p in C.found(tmp_path)}
    fit(2)
    assert {p.name: p.read_bytes() for p in C.found(tmp_path / "previous-1")} == old
    assert [p.name[11:19] for p in C.found(tmp_path)] == ["00000001", "00000002"]


def test_a_head_is_not_resumed_on_another_g(tmp_path):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    AFL(loop, batch=4, loss="bce").fit(images(), latents, 2, out=tmp_path, progress=False)
    torch.manual_seed(9)
    other = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    with pytest.raises(TrainingError, match=r"another run\. G's weights: then"):
        AFL(other, batch=4, loss="bce").fit(images(), latents, 4, out=tmp_path, resume=True, progress=False)


def test_fal_on_a_dataset_resumes_to_the_same_numbers(tmp_path):
    from fbwrap.recipes.data import Mapped

    data = Mapped(list(range(9)), lambda i: (images(1, 8, i)[0] + 0.1 * torch.rand(()), images(1, 16, i)[0]))
    states = []
    for name, parts in (("whole", [6]), ("parts", [3, 6])):
        for steps in parts:
            loop = fal_loop(2)
            FAL(loop, batch=3, save_every=3, decay="none", loss="bce").fit(
                Pairs(data), steps=steps, out=tmp_path / name, resume=True, progress=False
            )
        states.append({**loop.generator.state_dict(), **loop.state_dict()})
    assert list((tmp_path / "whole").glob("samples_*.png")), "grids of paired datasets too"
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_two_runs_do_not_share_a_folder(tmp_path):
    refused = []

    def meanwhile(n):
        """A second run, while the first one trains (its sample grids are of 16)."""
        if n == 4:
            loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
            with pytest.raises(TrainingError, match="Another run is training in"):
                AFL(loop, batch=2, loss="bce").fit(images(), latents, 1, out=tmp_path, progress=False)
            refused.append(True)
        return latents(n)

    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    AFL(loop, batch=4, recalibrate=0, loss="bce").fit(images(), meanwhile, 2, out=tmp_path, progress=False)
    assert refused
    again = AFL(loop, batch=4, recalibrate=0, loss="bce")
    assert again.fit(images(), latents, 2, out=tmp_path, resume=False, progress=False).steps == 2, "free afterwards"


def test_a_folder_that_cannot_be_is_said_and_so_are_other_steps_of_feedback(tmp_path):
    def loop(steps=1):
        torch.manual_seed(0)
        return fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2), steps=steps)

    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write to"):
        AFL(loop(), batch=4, loss="bce").fit(images(), latents, 1, out=tmp_path / "file", progress=False)
    AFL(loop(2), batch=4, recalibrate=0, loss="bce").fit(images(), latents, 1, out=tmp_path / "run", progress=False)
    with pytest.raises(TrainingError, match="steps of feedback: then 2, now 1"):
        AFL(loop(), batch=4, recalibrate=0, loss="bce").fit(
            images(), latents, 1, out=tmp_path / "run", resume=True, progress=False
        )
    more = AFL(loop(2), batch=4, accumulate=2, recalibrate=0, loss="bce")
    assert more.fit(images(), latents, 1, out=tmp_path / "run", resume=True, progress=False).steps == 1, "less memory"


def test_the_scale_of_half_precision_is_in_the_checkpoint(tmp_path, monkeypatch):
    """fp16 needs a GPU; its scaler is stood in for."""
    from fbwrap.recipes.training.processes import Processes

    scales = []
    monkeypatch.setattr(Processes, "scale", lambda self: {"scale": 512.0})
    monkeypatch.setattr(Processes, "set_scale", lambda self, state: scales.append(state))
    for steps in (2, 3):
        torch.manual_seed(0)
        loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
        AFL(loop, batch=4, decay="none", loss="bce").fit(
            images(), latents, steps, out=tmp_path, resume=True, progress=False
        )
    assert scales == [{"scale": 512.0}]
