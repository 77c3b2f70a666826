"""Several processes, parts of a batch, mixed precision, trackers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fbwrap.recipes import AFL, FAL, Options, Pairs
from fbwrap.recipes.training import checkpoint as C
from trained import fal_loop, images, latents
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import SettingError

SEVERAL = """
import gc, os, signal, sys, torch
sys.path.insert(0, {tests!r})
from zoo import Deconv, patch
import fbwrap
torch.manual_seed(0)
G, D = Deconv(), patch()
data = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(0)).tanh()
loop = fbwrap.attach(G, D, ["main.5"], module={{"kind": "dual", "norm": "none"}}, example=torch.randn(2, 6, 1, 1))
few = dict(warmup=0, held_out=0, critic_steps=1)
recipe = fbwrap.recipes.AFL(loop, batch=8, lr=1e-3, r1_every=2, **{{**few, **dict({more})}})
def latents(n):
    latents.drawn += 1
    if latents.drawn == 7 and os.environ.get("RANK") == os.environ.get("STOP", "nobody"):
        signal.raise_signal(signal.SIGTERM)
    return torch.randn(n, 6, 1, 1)
latents.drawn = 0
recipe.fit(data, latents, 12, out={out!r}, resume=True, progress=False)
del recipe, loop, G, D
gc.collect()
import torch.distributed as dist
if dist.is_initialized():
    dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", ['loss="wasserstein_gp", critic_steps=2, accumulate=2'])
def test_two_processes_train_to_the_same_head_as_one(tmp_path, more):
    """And where one of the two is told to stop, both do, and go on from there."""

    def launched(name, launch, **env):
        script = tmp_path / f"{name}.py"
        script.write_text(SEVERAL.format(tests=str(Path(__file__).parent), out=str(tmp_path / name), more=more))
        return subprocess.run(
            [sys.executable, *launch, str(script)],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        )  # fmt: skip

    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    stopped = launched("two", two, STOP="1")
    assert stopped.returncode != 0
    assert "saved in" in stopped.stderr
    begun = torch.load(C.found(tmp_path / "two")[-1], weights_only=True)["step"]
    assert 2 <= begun <= 7
    for done in (launched("one", []), launched("two", two)):
        assert done.returncode == 0, done.stderr[-2000:]
    from safetensors.torch import load_file

    for file in ("feedback.safetensors", "discriminator.safetensors"):
        a, b = (load_file(tmp_path / name / "head" / file) for name in ("one", "two"))
        assert a.keys() == b.keys()
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=2e-3, atol=2e-5)
    assert (tmp_path / "two" / "head" / "config.json").exists()


@pytest.mark.parametrize("loss", ["bce", "wasserstein_gp", "least_squares"])
def test_a_batch_in_parts_trains_to_the_same_head(loss):
    """Accumulated gradients: the same numbers to rounding, with less held at once."""
    heads, most = [], []
    for parts in (1, 4):
        torch.manual_seed(0)
        loop = fbwrap.attach(
            *(Deconv(), patch(), ["main.5"]), module={"kind": "dual", "norm": "none"}, example=latents(2), steps=2
        )
        seen: list[int] = []
        loop.feedback[0].register_forward_hook(lambda m, a, y, seen=seen: seen.append(len(y)))
        recipe = AFL(loop, loss=loss, batch=8, accumulate=parts, critic_steps=2, r1_every=2, lr=1e-3, recalibrate=0)
        fit = recipe.fit(images(), latents, 5, progress=False)
        heads.append([*loop.state_dict().values(), *loop.discriminator.state_dict().values()])
        most.append(min(seen))
        assert fit.samples == 40
    assert most == [8, 2]
    for a, b in zip(*heads, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-5)


def test_pairs_in_parts_and_parts_that_do_not_divide():
    heads = []
    for parts in (1, 2):
        torch.manual_seed(0)
        loop = fal_loop()
        options = {"loss": "least_squares", "reconstruction": 1.0, "batch": 4, "r1": 0.0, "reconstruction_norm": "l2"}
        x, y = images(20, 8), images(20)
        FAL(loop, accumulate=parts, **options).fit(Pairs(x, y), steps=3, progress=False)
        heads.append([*loop.state_dict().values(), *loop.generator.state_dict().values()])
    for a, b in zip(*heads, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-5)
    with pytest.raises(SettingError, match="does not divide into accumulate=3"):
        Options(batch=8, accumulate=3)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_learns_in_full_precision_weights(precision):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    seen = []
    loop.discriminator[0].register_forward_hook(lambda m, a, y: seen.append(y.dtype))
    fit = AFL(loop, batch=4, mixed_precision=precision, critic_ema=0.0, train_critic=False, loss="bce").fit(
        images(), latents, 3, progress=False
    )
    assert torch.bfloat16 in seen
    assert all(p.dtype == torch.float32 for p in loop.parameters())
    assert all(torch.isfinite(torch.tensor(row["player"])) for row in fit.history)
    after = AFL(loop, batch=4, loss="bce").fit(images(), latents, 1, progress=False)
    assert after.steps == 1, "another precision in the same process"


def test_losses_go_to_any_tracker(tmp_path):
    from accelerate.tracking import GeneralTracker

    class Mine(GeneralTracker):
        name, requires_logging_directory = "mine", False

        def __init__(self):
            super().__init__()
            self.seen = []

        @property
        def tracker(self):
            return self

        def store_init_configuration(self, values):
            self.config = values

        def log(self, values, step=None, **more):
            self.seen.append((step, set(values)))

    mine = Mine()
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    AFL(loop, batch=4, trackers=mine, loss="bce").fit(images(), latents, 2, progress=False)
    assert mine.seen == [(0, {"player", "critic"}), (1, {"player", "critic"})]
    assert mine.config["lr"] == 1e-4
    pytest.importorskip("tensorboard")
    AFL(loop, batch=4, loss="bce").fit(images(), latents, 2, out=tmp_path / "usual", progress=False)
    assert list((tmp_path / "usual").rglob("events.out.tfevents.*"))
    AFL(loop, batch=4, trackers="none", loss="bce").fit(images(), latents, 2, out=tmp_path / "none", progress=False)
    assert not list((tmp_path / "none").rglob("events.out.tfevents.*"))
