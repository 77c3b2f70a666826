"""What a run leaves alone, what it refuses, and what it counts: random numbers, accelerate's state, networks that do
not learn, options that are no such thing, data that is none."""

import copy
import os
import random
import signal

import numpy as np
import pytest
import torch
from fbwrap.recipes import AFL, FAL, GAN, Critic, Options, Pairs, Perceptual, train_discriminator
from fbwrap.recipes.data import Batches, Stream
from fbwrap.recipes.training import checkpoint as C
from fbwrap.recipes.training.losses import content_loss
from fbwrap.recipes.training.steps import all_of, critic_step
from helpers import same, state
from torch import nn
from zoo import Deconv, Residual, patch

import fbwrap
from fbwrap.errors import SettingError, TrainingError


def latents(n):
    return torch.randn(n, 6, 1, 1)


def images(n=24, size=16):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0)).tanh()


def pair(seed=0):
    torch.manual_seed(seed)
    return Deconv(), patch()


def attached(seed=0, **options):
    nets = pair(seed)
    torch.manual_seed(1)
    return fbwrap.attach(*nets, ["main.5"], example=latents(2), **options)


def fit(recipe, steps=2, real=None, given=latents, **options):
    return recipe.fit(images() if real is None else real, given, steps, progress=False, **options)


# -- what it leaves alone -------------------------------------------------------------------------------
def test_random_numbers_of_torch_python_and_numpy_go_on(tmp_path):
    fit(AFL(attached(), batch=4, loss="bce"), out=tmp_path)
    recipe = AFL(attached(), batch=4, loss="bce")
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    wanted = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    fit(recipe, 3, out=tmp_path, resume=True)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == wanted[:2]
    assert torch.equal(torch.get_rng_state(), wanted[2])


def test_a_checkpoint_of_an_older_version_is_said(tmp_path):
    fit(AFL(attached(), batch=4, loss="bce"), out=tmp_path)
    path = C.found(tmp_path)[-1]
    held = torch.load(path, weights_only=True)
    del held["same"]
    torch.save(held, path)
    with pytest.raises(TrainingError, match="by an older fbwrap"):
        fit(AFL(attached(), batch=4, loss="bce"), 3, out=tmp_path, resume=True)


def test_a_checkpoint_of_a_machine_with_other_random_numbers_resumes(tmp_path):
    fit(AFL(attached(), batch=4, loss="bce"), out=tmp_path)
    path = C.found(tmp_path)[-1]
    held = torch.load(path, weights_only=True)
    held["random"]["cuda"] = torch.zeros(16, dtype=torch.uint8)
    del held["random"]["numpy"]
    torch.save(held, path)
    assert fit(AFL(attached(), batch=4, loss="bce"), 3, out=tmp_path, resume=True).steps == 3


def test_accelerates_state_is_the_users_again():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = (AcceleratorState, GradientState, PartialState)
    before = [dict(each._shared_state) for each in states]
    try:
        for each in states:
            each._shared_state.clear()
        theirs = Accelerator(mixed_precision="bf16", cpu=True)
        theirs.gradient_state._set_sync_gradients(False)  # as within their accumulate()
        loop = attached()
        fresh = copy.deepcopy(loop.state_dict())
        fit(AFL(loop, batch=4, recalibrate=0, loss="bce"))
        assert any(not torch.equal(value, fresh[name]) for name, value in loop.state_dict().items())
        assert theirs.mixed_precision == "bf16"
        assert not theirs.gradient_state.sync_gradients
        with pytest.raises(TrainingError):  # a run that fails gives it back too
            fit(AFL(attached(), batch=4, lr=1e30, critic_lr=1e30, loss="bce"), 20)
        assert theirs.mixed_precision == "bf16"
        with pytest.raises(ValueError, match="nonsense"):
            fit(AFL(attached(), batch=4, trackers="nonsense", loss="bce"))
        assert theirs.mixed_precision == "bf16"
    finally:
        for each, held in zip(states, before, strict=True):
            each._shared_state.clear()
            each._shared_state.update(held)


def test_a_refused_resume_changes_nothing(tmp_path):
    G, D = pair()
    fit(GAN(G, D, batch=4, loss="bce"), out=tmp_path)
    other, D = nn.Sequential(Deconv()), patch()
    before = state(other, D)
    with pytest.raises(TrainingError, match=r"another model.*of another shape, or missing"):
        fit(GAN(other, D, batch=4, loss="bce"), 3, out=tmp_path, resume=True)
    assert same(before, state(other, D))


def test_the_published_d_gets_no_gradient():
    loop = attached(detach_signals=False)
    D = loop.discriminator
    fit(AFL(loop, batch=4, critic_ema=1.0, recalibrate=0, loss="bce"))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in D.parameters())


# -- what must be the same when it is resumed ----------------------------------------------------------
@pytest.mark.parametrize("how", [{"critic_ema": 1.0}, {"train_critic": False}])
def test_a_run_is_not_resumed_with_another_d_that_gives_the_feedback(how, tmp_path):
    G, D = pair()
    torch.manual_seed(1)
    fit(AFL(fbwrap.attach(G, D, ["main.5"], example=latents(2)), batch=4, **how, loss="bce"), out=tmp_path)
    torch.manual_seed(1)
    loop = fbwrap.attach(G, pair(7)[1], ["main.5"], example=latents(2))
    with pytest.raises(TrainingError, match=r"another run\. D's weights: then"):
        fit(AFL(loop, batch=4, **how, loss="bce"), 3, out=tmp_path, resume=True)


def test_a_d_is_not_taught_on_against_another_g(tmp_path):
    (G, D), (other, _) = pair(), pair(7)
    how = {"batch": 4, "progress": False, "out": tmp_path}
    train_discriminator(G, D, images(), latents, 2, **how, loss="bce")
    with pytest.raises(TrainingError, match=r"another run\. G's weights: then"):
        train_discriminator(other, D, images(), latents, 3, resume=True, **how, loss="bce")


def test_a_run_that_had_ended_hears_ctrl_c_too(tmp_path, monkeypatch):
    fit(AFL(attached(), batch=4, loss="bce"), out=tmp_path)
    newest = C.newest

    def slow(folder):
        signal.raise_signal(signal.SIGINT)
        return newest(folder)

    monkeypatch.setattr(C, "newest", slow)
    with pytest.raises(KeyboardInterrupt):
        fit(AFL(attached(), batch=4, loss="bce"), out=tmp_path, resume=True)


def test_the_checkpoint_just_written_is_kept_beside_damaged_newer_ones(tmp_path):
    for step in (1, 2, 9):
        C.save({"step": step}, tmp_path, step, keep=5)
    (tmp_path / "checkpoint-00000009.pt").write_bytes(b"cut off")
    assert C.newest(tmp_path) == {"step": 2}
    C.save({"step": 3}, tmp_path, 3, keep=1)
    assert [path.name for path in C.found(tmp_path)] == ["checkpoint-00000003.pt"]
    assert (tmp_path / "checkpoint-00000009.damaged").exists()


def test_a_checkpoint_that_is_interrupted_leaves_no_part(tmp_path, monkeypatch):
    def stop(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        C.save({"step": 1}, tmp_path, 1, keep=1)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_an_options_old_name_is_resumed(tmp_path):
    fit(GAN(*pair(), batch=4, loss="bce"), 2, out=tmp_path)
    path = C.found(tmp_path)[-1]
    state = torch.load(path, weights_only=True)
    state["options"]["judged"] = state["options"].pop("loss_steps")
    torch.save(state, path)
    assert fit(GAN(*pair(), batch=4, loss="bce"), 3, out=tmp_path, resume=True).steps == 3
    state["options"]["judged"] = "last"
    C.set_aside(tmp_path)
    torch.save(state, path)
    with pytest.raises(TrainingError, match=r"other options.*loss_steps"):
        fit(GAN(*pair(), batch=4, loss="bce"), 3, out=tmp_path, resume=True)


def test_our_own_checkpoints_are_read_as_weights_the_average_first(tmp_path):
    G, D = pair()
    fit(GAN(G, D, batch=4, lr=1e-2, loss="bce"), 3, out=tmp_path)
    held = torch.load(C.found(tmp_path)[-1], weights_only=True)
    fresh = pair(5)[0]
    assert fbwrap.load_weights(fresh, C.found(tmp_path)[-1]).keys == ("average",)
    assert same(state(fresh), state(G))
    assert any(not torch.equal(held["learner"][name], held["average"][name]) for name in held["average"])


# -- what it counts and reads --------------------------------------------------------------------------
def test_samples_are_those_that_were_made():
    loop = attached()
    batches = [(torch.randn(4, 6, 1, 1), images(4)) for _ in range(3)]
    assert (
        fit(AFL(loop, batch=64, recalibrate=0, reconstruction=1.0, loss="bce"), 3, Pairs(batches), None).samples == 12
    )


def test_statistics_come_from_all_of_a_paired_dataset():
    """A dataset gives the statistics that the same data as tensors gives."""

    class Rows:
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return z[i], y[i]

    z, y, found = torch.randn(40, 6, 1, 1), images(40), []
    for data in (Pairs(z, y), Pairs(Rows())):
        torch.manual_seed(2)
        loop = attached(module={"kind": "basic", "norm": "batch"})
        fit(AFL(loop, batch=8, recalibrate=50, reconstruction=1.0, loss="bce"), 2, data, None)
        found.append(next(m for m in loop.feedback.modules() if isinstance(m, nn.BatchNorm2d)).running_var.clone())
    torch.testing.assert_close(*found, rtol=0.02, atol=1e-4)


def test_r1_is_lazy_where_steps_are_counted_and_plain_where_they_are_not():
    torch.manual_seed(0)
    D, real, fake = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    found, options = {}, Options(loss="bce", r1=2.0)
    for step in (None, 0, 1, 8):
        net = copy.deepcopy(D)
        critic_step(Critic(net, lambda y: y), real, fake, torch.optim.SGD(net.parameters(), 1.0), options, step)
        found[step] = D[1].weight.detach() - net[1].weight.detach()
    plain = found[1]
    penalty = 2.0 * D[1].weight.detach()  # of r1 / 2 |w|²
    torch.testing.assert_close(found[None] - plain, penalty)
    torch.testing.assert_close(found[0] - plain, 8 * penalty)
    torch.testing.assert_close(found[8], found[0])


def test_penalties_are_of_the_sample_wherever_it_stands_in_ds_input():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.of_image, self.of_condition = nn.Linear(3, 1, bias=False), nn.Linear(2, 1, bias=False)

        def forward(self, condition, image):
            return self.of_image(image) + self.of_condition(condition)

    torch.manual_seed(0)
    D, z, y = Both(), torch.randn(5, 2), torch.randn(5, 3)
    critic = Critic(D, lambda output, condition: (condition, output))
    fake = critic.on_output(torch.randn(5, 3), (z,), {})
    assert torch.equal(critic(fake), critic(fake.given)), "what it gives, it takes"
    start = copy.deepcopy(D)
    critic_step(critic, (z, y), fake, torch.optim.SGD(D.parameters(), 1.0), Options(r1=2.0, loss="hinge"))
    plain = copy.deepcopy(start)
    critic.net = plain
    critic_step(critic, (z, y), fake, torch.optim.SGD(plain.parameters(), 1.0), Options(r1=0.0, loss="hinge"))
    moved = plain.of_image.weight - D.of_image.weight
    torch.testing.assert_close(moved.detach(), 2.0 * start.of_image.weight.detach())
    assert torch.equal(plain.of_condition.weight, D.of_condition.weight)


class Drawn:
    """Items that draw from every source of random numbers."""

    def __len__(self):
        return 7

    def __getitem__(self, i):
        return torch.tensor([float(i), torch.rand(()), random.random(), np.random.rand()])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_datasets_items_are_the_same_read_ahead_resumed_in_parts_and_by_others(workers):
    def drawn(begin, end, share=lambda batch: batch, how=workers):
        batches = Batches(Drawn(), 3, workers=how)
        batches.restore([4 * begin, begin])
        found = [batches.next(4, share) for _ in range(begin, end)]
        batches.close()
        return torch.cat(found)

    random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), torch.get_rng_state()
    whole = drawn(0, 6, how=0)
    assert torch.equal(drawn(0, 6), whole)
    assert torch.equal(drawn(2, 6), whole[8:])
    assert torch.equal(drawn(0, 6, lambda batch: batch[2:]), whole.view(6, 4, 4)[:, 2:].reshape(-1, 4))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert sorted(whole[:7, 0].tolist()) == list(range(7))
    assert len({tuple(row) for row in whole[:, 1:].tolist()}) == 24, "other ones in every epoch"
    batches = Batches(Drawn(), 3, workers=workers)
    assert torch.equal(torch.cat([batches.next(4), batches.next(2), batches.next(2)]), whole[:8])


def test_an_items_numbers_leave_a_gpus_alone(monkeypatch):
    moved = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", moved.append)
    Batches(Drawn(), 3).next(4)
    assert not moved


def test_numpys_numbers_are_an_items_own_from_the_first_on():
    import subprocess
    import sys

    code = (
        "from fbwrap.recipes.data import Batches\n"
        "class Lazy:\n"
        "    def __len__(self): return 3\n"
        "    def __getitem__(self, i):\n"
        "        import numpy.random, torch\n"
        "        return torch.tensor(numpy.random.rand())\n"
        "print(*[Batches(Lazy()).next(1).item() for _ in range(2)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first == second


def test_a_run_with_workers_is_the_run_without(tmp_path):
    class Pictures:
        def __len__(self):
            return 9

        def __getitem__(self, i):
            return images(9)[i] + 0.1 * torch.randn(3, 16, 16)

    found = []
    for name, workers in (("none", (0, 0)), ("two", (2, 1))):
        for steps, many in ((2, workers[0]), (4, workers[1])):
            loop = attached()
            fit(AFL(loop, batch=4, workers=many, loss="bce"), steps, Pictures(), out=tmp_path / name, resume=True)
        found.append(loop.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_settings_without_a_dimension_stay_in_ds_input():
    given = all_of([(torch.ones(2, 3), torch.tensor(0.5)), (torch.zeros(2, 3), torch.tensor(0.5))])
    assert given[0].shape == (4, 3)
    assert given[1] == 0.5


def test_a_perceptual_loss_runs_its_net_once_an_image():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, 4, 3))
    loss, passes = Perceptual(net, ["0", "2"]), []
    loss(images(2), images(2))
    net[0].register_forward_hook(lambda *a: passes.append(1))
    loss(images(2), images(2))
    assert len(passes) == 2


# -- what it refuses -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lr": "fast"}, "lr='fast': pass a number"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": -1.0}, "lr=-1.0: pass 0 or more"),
        ({"batch": 2.5}, "batch=2.5: pass a whole number"),
        ({"batch": True}, "batch=True: pass a whole number"),
        ({"train_critic": "false"}, "train_critic='false': pass True or False"),
        ({"betas": 0.5}, "betas=0.5: pass 2 numbers"),
        ({"warmup": -2}, "warmup=-2: pass 0 or more"),
    ],
)
def test_options_of_a_wrong_kind(wrong, says):
    with pytest.raises(SettingError, match=says.replace("(", r"\(")):
        Options.of(wrong)


def test_numpys_numbers_are_plain_ones_and_resume(tmp_path):
    options = Options(lr=np.float64(1e-3), batch=np.int64(4), betas=[0.5, np.float32(0.5)])
    assert [type(each) for each in (options.lr, options.batch, *options.betas)] == [float, int, float, float]
    fit(AFL(attached(), lr=np.float64(1e-3), batch=4, loss="bce"), out=tmp_path)
    assert fit(AFL(attached(), lr=1e-3, batch=4, loss="bce"), 3, out=tmp_path, resume=True).steps == 3


def test_losses_without_targets_and_precisions_without_a_gpu():
    for how in ({"reconstruction": 1.0}, {"perceptual": nn.Identity()}):
        with pytest.raises(SettingError, match=r"needs targets: pass Pairs"):
            fit(AFL(attached(), batch=4, **how, loss="bce"))
    with pytest.raises(SettingError, match="fp16' needs a GPU"):
        fit(AFL(attached(), batch=4, mixed_precision="fp16", loss="bce"))


def test_loops_that_cannot_learn(tmp_path):
    loop = attached()
    loop.strength = 0.0
    with pytest.raises(SettingError, match="strength is 0"):
        fit(AFL(loop, batch=4, loss="bce"))
    loop.strength = 1.0
    fit(AFL(loop, batch=4, loss="bce"))
    loop.save_pretrained(tmp_path, discriminator="auto")
    again = fbwrap.from_pretrained(tmp_path, *pair())
    with pytest.raises(SettingError, match=r"only the first layers.*use_discriminator"):
        AFL(again, loss="bce")
    again.use_discriminator(pair()[1])
    AFL(again, loss="bce")
    with pytest.raises(SettingError, match="generator_mode='Train'"):
        GAN(*pair(), generator_mode="Train", loss="bce")
    G = Residual().requires_grad_(False)
    loop = fbwrap.attach(G, patch(), ["body.1"], module="ast", example=torch.zeros(2, 3, 8, 8))
    with pytest.raises(SettingError, match="All parameters of G are frozen"):
        FAL(loop, loss="bce")
    FAL(loop, train_generator=False, loss="bce")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ((np.zeros(3), np.zeros(3)), "no tensor: pass torch tensors"),
        ({"x": np.zeros(3)}, "no tensor: pass torch tensors"),
        (torch.tensor(1.0), r"have \[0\] rows"),
        ((torch.zeros(2) for _ in range(2)), "no more than 2 batches and does not begin again"),
    ],
)
def test_data_that_is_none(source, says):
    with pytest.raises(SettingError, match=says):
        batches = Batches(source)
        for _ in range(3):
            batches.next(2)


def test_items_that_do_not_fit_and_pairs_that_are_none():
    class Sizes:
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return torch.zeros(3, 4 + i, 4)

    with pytest.raises(SettingError, match="do not go into one batch"):
        Batches(Sizes()).next(2)
    stream = Stream(Pairs([{"lq": images(2), "gt": images(2)}]), None, 0, torch.device("cpu"), lambda batch: batch)
    with pytest.raises(SettingError, match="a dict of lq, gt"):
        stream.next(2, lambda y, x: y)
    with pytest.raises(TrainingError, match="they must be alike"):
        content_loss(images(2), images(2)[:, :1], Options(reconstruction=1.0))
    critic = Critic(nn.Linear(2, 1), lambda y: y)
    with pytest.raises(SettingError, match="do not pair"):
        critic_step(critic, torch.zeros(5, 2), torch.zeros(3, 2), None, Options(loss="wasserstein_gp"))


def test_an_interrupt_in_the_midst_of_a_step_is_heard_between_steps(tmp_path):
    def run(out, interrupt):
        torch.manual_seed(0)
        G, D = Residual(), patch()
        torch.manual_seed(3)
        loop = fbwrap.attach(G, D, [("body.1", "1")], example=torch.zeros(2, 3, 8, 8))
        recipe = AFL(loop, batch=2, save_every=50, loss="bce")
        if interrupt:
            calls = []

            def hook(*a):
                calls.append(1)
                if len(calls) == 9:
                    os.kill(os.getpid(), signal.SIGINT)

            handle = recipe._critic.net[0].register_forward_pre_hook(hook)
            with pytest.raises(KeyboardInterrupt):
                fit_on(recipe, out)
            handle.remove()
        return fit_on(recipe, out, resume=True), loop

    def fit_on(recipe, out, resume=False):
        data = [torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(k)) for k in range(3)]
        inputs = lambda n: torch.randn(n, 3, 8, 8)
        return recipe.fit(data, inputs, 6, out=out, resume=resume, progress=False)

    (one, a), (two, b) = run(tmp_path / "a", False), run(tmp_path / "b", True)
    assert (one.steps, two.steps) == (6, 6)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)
