"""FAL, paired data, the losses by hand, steps in one's own loop, runs that are killed, and several processes."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Deconv, Residual, patch, same, state, stir
from fbwrap.recipes import AFL, FAL, Critic, Options, Pairs, Perceptual, afl_step, fal_step
from fbwrap.recipes import checkpoint as C
from fbwrap.recipes import losses as L
from fbwrap.recipes.ema import EMA
from torch import nn

import fbwrap
from fbwrap.errors import SettingError, TrainingError


def latents(n):
    return torch.randn(n, 6, 1, 1)


def images(n=24, size=16, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).tanh()


def fal_loop(steps=3, **options):
    torch.manual_seed(0)
    return fbwrap.attach(
        Residual(), patch(), ["body.1"], module="ast", steps=steps, example=torch.zeros(2, 3, 8, 8), **options
    )


# -- losses -------------------------------------------------------------------------------------------
def test_relativistic_loss_by_hand():
    real, fake = torch.tensor([1.0, 2.0, -0.5]), torch.tensor([0.3, -1.0, 0.8])
    ones, zeros = torch.ones(3), torch.zeros(3)
    bce = F.binary_cross_entropy_with_logits
    d = (bce(real - fake.mean(), ones) + bce(fake - real.mean(), zeros)) / 2
    g = (bce(fake - real.mean(), ones) + bce(real - fake.mean(), zeros)) / 2
    assert torch.allclose(L.LOSSES["relativistic"][0](real, fake), d)
    assert torch.allclose(L.LOSSES["relativistic"][1](fake, real), g)
    with pytest.raises(TrainingError, match="pass real="):
        L.LOSSES["relativistic"][1](fake)


def test_perceptual_loss_by_hand_and_its_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, 5, 3, stride=2))
    loss = Perceptual(net, ["0", "2"], [1.0, 0.5], (-1.0, 1.0), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    x, y = images(2).requires_grad_(), images(2, seed=1)

    def features(image):
        image = ((image + 1) / 2 - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
            1, 3, 1, 1
        )
        first = net[0](image)
        return first, net[2](first.relu())

    by_hand = sum(w * (a - b).abs().mean() for w, a, b in zip((1, 0.5), features(x), features(y), strict=True))
    value = loss(x, y)
    assert torch.allclose(value, by_hand)
    value.backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def test_content_loss_by_hand():
    x, y = images(3), images(3, seed=1)
    assert torch.allclose(L.content_loss(x, y, Options(reconstruction=2.0)), 2 * (x - y).abs().mean())
    both = Options(reconstruction=3.0, reconstruction_norm="l2", perceptual=0.5)
    other = nn.Module()
    other.forward = lambda a, b: (a - b).sum()
    assert torch.allclose(L.content_loss(x, y, both, other), 3 * ((x - y) ** 2).mean() + 0.5 * (x - y).sum())


def test_a_response_that_does_not_depend_on_the_sample_is_said():
    with pytest.raises(TrainingError, match="Set r1=0"):
        L.r1(lambda x: torch.zeros(2, 1, requires_grad=True) * 1, images(2))


# -- whose feedback it is -------------------------------------------------------------------------------
def test_average_by_hand():
    """The decay ramps up, counters are copied, and the average is of weights and statistics alike."""
    net = nn.BatchNorm1d(2)
    average, held = EMA(net, 0.3), {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for step in (1, 2, 3):
        net.weight.data += step
        net(torch.randn(4, 2))
        average.update(net)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, tensor in net.state_dict().items():
            held[name] = decay * held[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor.clone()
    for name, tensor in average.module.state_dict().items():
        torch.testing.assert_close(tensor, held[name])
    assert average.module.num_batches_tracked == 3


def test_feedback_of_the_published_d_while_a_copy_judges(tmp_path):
    """critic_ema=1: what the head reads does not move, D learns all the same, and no D is shipped."""

    torch.manual_seed(0)
    D = patch()
    before = state(D)
    loop = fbwrap.attach(Deconv(), D, [("main.3", "3")], example=torch.zeros(2, 6, 1, 1))
    recipe = AFL(loop, batch=4, critic_ema=1.0, loss="bce")
    recipe.fit(images(), latents, 3, out=tmp_path, progress=False)
    assert loop.discriminator is D
    assert same(before, state(D))
    assert not same(before, state(recipe._critic.net)), "a copy of D learns"
    assert not (tmp_path / "head" / "discriminator.safetensors").exists()
    z = latents(2)
    again = fbwrap.from_pretrained(tmp_path / "head", loop.generator, D)
    assert torch.equal(again(z), loop(z))
    with pytest.raises(fbwrap.errors.HeadError):
        fbwrap.from_pretrained(tmp_path / "head", loop.generator, patch())


def test_an_average_of_d_is_between_d_itself_and_d_as_it_came():
    for wrong in (-0.1, 1.1):
        with pytest.raises(SettingError, match="1 \\(D as it came\\)"):
            Options(critic_ema=wrong)
    with pytest.raises(SettingError, match="below 1"):
        Options(ema=1.0)


# -- FAL ----------------------------------------------------------------------------------------------
def test_fal_trains_g_d_and_the_head_together(tmp_path):
    loop = fal_loop()
    G, D = loop.generator, loop.discriminator
    before, d_before, head = copy.deepcopy(G.state_dict()), state(D), copy.deepcopy(loop.state_dict())
    x, y = images(20, 8), images(20)
    options = {"loss": "least_squares", "reconstruction": 10.0, "batch": 4, "r1": 0.0}
    fit = FAL(loop, **options).fit(Pairs(x, y), steps=3, out=tmp_path, progress=False)
    assert fit.steps == 3
    assert all(not torch.equal(value, before[name]) for name, value in G.state_dict().items() if "weight" in name)
    assert any(not torch.equal(value, head[name]) for name, value in loop.state_dict().items())
    assert same(d_before, state(D)), "the user's D stays"
    fresh = Residual()
    from safetensors.torch import load_file

    fresh.load_state_dict(load_file(tmp_path / "head" / "generator.safetensors"))
    again = fbwrap.from_pretrained(tmp_path / "head", fresh.eval(), patch())
    assert torch.equal(again(x[:2]), loop(x[:2]))
    assert again.facts.trained_on["recipe"] == "FAL"


def test_fal_keeps_a_pretrained_g_when_asked():
    loop = fal_loop()
    before = state(loop.generator)
    FAL(loop, train_generator=False, batch=4, loss="bce").fit(Pairs(images(20, 8), images(20)), steps=2, progress=False)
    assert same(before, state(loop.generator))
    base = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    with pytest.raises(SettingError, match="FAL starts from zeros"):
        FAL(base, loss="bce")


def test_fals_loss_is_the_mean_over_its_steps():
    """One player step by hand: the mean over y_1 … y_T of the adversarial and the reconstruction loss."""
    loop = fal_loop().train()
    x, y, D = images(2, 8), images(2), loop.discriminator
    options = Options(loss="least_squares", reconstruction=10.0, r1=0.0)
    with torch.no_grad():
        outputs = loop.rollout(x).outputs[1:]
        wanted = sum(((D.eval()(o) - 1) ** 2).mean() + 10 * (o - y).abs().mean() for o in outputs) / 3
    critic = Critic(D, loop.critic_input)
    optimizers = [torch.optim.SGD(net.parameters(), 0.0) for net in (loop, D)]
    losses = fal_step(loop, critic, x, y, *optimizers, options, target=y)
    assert losses["player"] == pytest.approx(float(wanted), rel=1e-5)
    assert len(outputs) == 3


@pytest.mark.parametrize("make", [fal_loop, lambda steps: attached_twice(steps)])
def test_the_last_step_alone_is_judged_when_asked(make):
    """By hand: both losses are of y_T, D's too; the recipes hand it on."""
    loop = make(3).train()
    D, x = loop.discriminator.eval(), images(2, 8) if loop.plan.first == "zeros" else latents(2)
    real, options = images(2), Options(loss="least_squares", r1=0.0, judged="last")
    with torch.no_grad():
        last = loop.rollout(x).outputs[-1]
        player, critic = ((D(last) - 1) ** 2).mean(), ((D(real) - 1) ** 2).mean() + (D(last) ** 2).mean()
    optimizers = [torch.optim.SGD(net.parameters(), 0.0) for net in (loop, D)]
    losses = afl_step(loop, Critic(D, loop.critic_input), x, real, *optimizers, options)
    assert losses == pytest.approx({"player": float(player), "critic": float(critic)}, rel=1e-5)
    recipe = (FAL if loop.plan.first == "zeros" else AFL)(
        loop,
        loss="least_squares",
        r1=0.0,
        judged="last",
        lr=0.0,
        critic_lr=0.0,
        batch=2,
        critic_ema=0.0,
        critic_steps=2,
    )
    fit = recipe.fit(real, x, 1, progress=False)
    assert fit.history[0]["player"] == pytest.approx(float(player), rel=1e-4)
    assert fit.history[0]["critic"] == pytest.approx(float(critic), rel=1e-4)


def attached_twice(steps):
    torch.manual_seed(0)
    module = {"kind": "dual", "norm": "none"}
    return stir(fbwrap.attach(Deconv().eval(), patch(), ["main.5"], module=module, steps=steps, example=latents(2)))


# -- paired data, own loops ---------------------------------------------------------------------------
def test_pairs_reach_g_d_and_the_target_together():
    torch.manual_seed(0)
    x = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 8, 8).contiguous() / 16
    y = x.repeat_interleave(2, 2).repeat_interleave(2, 3) * 10
    seen = []

    def critic_input(output, condition):
        seen.append((output.detach().mean((1, 2, 3)), condition.mean((1, 2, 3))))
        return output

    loop = fbwrap.attach(Residual(), patch(), [("body.1", "1")], example=x[:2], critic_input=critic_input)
    targets = []
    perceptual = nn.Module()
    perceptual.forward = lambda output, target: (targets.append(target.mean((1, 2, 3))), output.mean() * 0)[1]
    seen.clear()
    AFL(loop, perceptual=perceptual, batch=4, r1=0.0, loss="bce", critic_steps=1, held_out=0).fit(
        Pairs(x, y), steps=2, progress=False
    )
    real = [(o, c) for o, c in seen if torch.allclose(o, 10 * c)][
        1:
    ]  # the first one is looked at before the first step
    assert len(real) == 2
    assert all(torch.equal(t, o) for t, (o, _) in zip(targets, real, strict=True))
    result = AFL(loop, batch=4, loss="bce").fit(Pairs([(x[:4], y[:4]), (x[4:8], y[4:8])]), steps=3, progress=False)
    assert result.steps == 3
    for wrong in ((Pairs(x, y), latents), (y, None)):
        with pytest.raises(SettingError, match="Pairs"):
            AFL(loop, batch=4, loss="bce").fit(*wrong, steps=1, progress=False)


def test_a_step_in_a_loop_of_ones_own():
    torch.manual_seed(0)
    G, D = Deconv().eval().requires_grad_(False), patch()
    loop = fbwrap.attach(G, D, [("main.5", "1")], example=latents(2)).train()
    critic = Critic(D, loop.critic_input, loop.response)
    optimizers = torch.optim.Adam(loop.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)
    head, d = copy.deepcopy(loop.state_dict()), copy.deepcopy(D.state_dict())
    for step in range(2):
        losses = afl_step(loop, critic, latents(4), images(4), *optimizers, Options(loss="bce"), step)
    assert set(losses) == {"player", "critic"}
    assert any(not torch.equal(v, head[k]) for k, v in loop.state_dict().items())
    assert any(not torch.equal(v, d[k]) for k, v in D.state_dict().items())
    with pytest.raises(SettingError, match="starts from zeros"):
        fal_step(loop, critic, latents(4), images(4), *optimizers)


# -- nothing is lost ----------------------------------------------------------------------------------
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
    assert not list(tmp_path.glob(".*.part"))


RUN = """
import sys, time, torch
sys.path.insert(0, {tests!r})
from conftest import Deconv, patch
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, number):
    whole = run(tmp_path / "whole", 0)
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
    for again in (run(tmp_path / "killed", 0), whole):
        _, said = again.communicate()
        assert again.returncode == 0, said
    a, b = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "killed"))
    assert a[2] == b[2] == 30
    for one, two in zip(a[:2], b[:2], strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


# -- accelerate ---------------------------------------------------------------------------------------
SEVERAL = """
import gc, os, signal, sys, torch
sys.path.insert(0, {tests!r})
from conftest import Deconv, patch
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
@pytest.mark.parametrize("more", ['loss="bce"', 'loss="wasserstein_gp", critic_steps=2, accumulate=2'])
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


# -- what a review found ------------------------------------------------------------------------------
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_d_sees_the_outputs_of_every_step(critic_steps):
    loop = fal_loop()
    seen = []
    critic_input = loop.critic_input
    recipe = FAL(loop, batch=1, critic_steps=critic_steps, r1=0.0, lr=0.0, critic_lr=0.0, ema=0.0, loss="bce")
    recipe._critic.net.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach().clone()))
    x = images(1, 8)
    recipe.fit(Pairs(x, images(1)), steps=1, progress=False)
    with torch.no_grad():
        wanted = loop.rollout(x).outputs[1:]
    fakes = [given for given in seen if len(given) == 3]
    assert len(fakes) == critic_steps, "each of D's steps looks at all T outputs"
    for fake in fakes:
        torch.testing.assert_close(fake, torch.cat(wanted), atol=1e-4, rtol=1e-3)
    assert critic_input is loop.critic_input


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
    with pytest.raises(TrainingError, match="another run: G's weights were"):
        AFL(other, batch=4, loss="bce").fit(images(), latents, 4, out=tmp_path, resume=True, progress=False)


def test_a_penalty_that_is_not_finite_moves_nothing():
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    recipe = AFL(loop, batch=4, auxiliary=lambda answer, real: answer.mean() * torch.nan, loss="bce")
    before = copy.deepcopy(recipe._critic.net.state_dict())
    with pytest.raises(TrainingError, match="not finite at step 0"):
        recipe.fit(images(), latents, 3, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in recipe._critic.net.state_dict().items())


def test_previews_change_nothing_in_fal(tmp_path):
    class Normed(nn.Sequential):
        def __init__(self):
            super().__init__(
                nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, 2, 1), nn.Tanh()
            )

    states = []
    for every in (1, 100):
        torch.manual_seed(0)
        loop = fbwrap.attach(Normed(), patch(), ["0"], module="ast", steps=2, example=torch.zeros(2, 3, 8, 8))
        FAL(loop, batch=4, save_every=every, loss="bce").fit(
            Pairs(images(8, 8), images(8)), steps=4, out=tmp_path / str(every), progress=False
        )
        states.append({**loop.generator.state_dict(), **loop.state_dict()})
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert list((tmp_path / "1").glob("samples_*.png"))


def test_fal_on_a_dataset_resumes_to_the_same_numbers(tmp_path):
    from fbwrap.recipes.sources import Mapped

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


@pytest.mark.parametrize("sn", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_goes_on_where_d_is_in_eval_mode(sn):
    torch.manual_seed(0)
    D = nn.Sequential(sn(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2), sn(nn.Conv2d(8, 1, 8)))
    loop = fbwrap.attach(Deconv(), D.eval(), [("main.5", "1")], example=latents(2))
    recipe = AFL(loop, batch=4, critic_lr=1e-2, decay="none", loss="bce")
    recipe.fit(images(), latents, 60, progress=False)
    for layer in (recipe._critic.net[0], recipe._critic.net[2]):
        sigma = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        assert float(sigma) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("sn", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_an_average_keeps_unit_vectors_and_takes_tied_weights_once(sn):
    torch.manual_seed(0)
    net = nn.Sequential(sn(nn.Linear(6, 5)), nn.Linear(5, 5), nn.Linear(5, 5))
    net[2].weight = net[1].weight
    before, average = net[1].weight.detach().clone(), EMA(net, 0.5)
    average.count = 100  # the decay is .5 from here on
    for _ in range(3):
        for parameter in net.parameters():
            parameter.data += torch.randn(parameter.shape)
        net(torch.randn(2, 6))
        average.update(net)
        before = (before + net[1].weight) / 2
    vectors = [tensor for name, tensor in average.module.state_dict().items() if name.endswith(("_u", "_v"))]
    assert [float(vector.norm()) for vector in vectors] == pytest.approx([1.0, 1.0])
    torch.testing.assert_close(average.module[2].weight, before)


def test_a_d_that_may_not_learn_is_said():
    loop = fbwrap.attach(Deconv(), patch().requires_grad_(False), ["main.5"], example=latents(2))
    with pytest.raises(SettingError, match="requires_grad is False"):
        AFL(loop, batch=4, loss="bce").fit(images(), latents, 1, progress=False)


# -- rates, locks, scales -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("decay", "wanted"),
    [("none", [1, 1, 1]), ("linear", [1, 0.6, 0.2]), ("cosine", [1, 0.6, 0.2]), ("exponential", [1, 0.2**0.5, 0.2])],
)
def test_rates_fall_to_the_share_asked_for(decay, wanted):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    recipe = AFL(loop, lr=1e-3, critic_lr=2e-3, decay=decay, decay_to=0.2, loss="bce")
    from fbwrap.recipes.steps import Head
    from fbwrap.recipes.trainer import Trainer

    trainer = Trainer(Head(loop), recipe._critic, recipe.options)
    head, critic = (torch.optim.Adam(net.parameters()) for net in (loop, loop.discriminator))
    trainer.optimizer, trainer.critic_optimizer = head, critic
    for done, share in zip((0.0, 0.5, 1.0), wanted, strict=True):
        trainer._set_rates(done)
        assert head.param_groups[0]["lr"] == pytest.approx(1e-3 * share)
        assert critic.param_groups[0]["lr"] == pytest.approx(2e-3 * share)
    with pytest.raises(SettingError, match=r"decay_to=0\.0"):
        Options(decay="exponential")


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
    with pytest.raises(TrainingError, match="steps of feedback were 2, and are 1"):
        AFL(loop(), batch=4, recalibrate=0, loss="bce").fit(
            images(), latents, 1, out=tmp_path / "run", resume=True, progress=False
        )
    more = AFL(loop(2), batch=4, accumulate=2, recalibrate=0, loss="bce")
    assert more.fit(images(), latents, 1, out=tmp_path / "run", resume=True, progress=False).steps == 1, "less memory"


def test_the_scale_of_half_precision_is_in_the_checkpoint(tmp_path, monkeypatch):
    """fp16 needs a GPU; its scaler is stood in for."""
    from fbwrap.recipes.processes import Processes

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
