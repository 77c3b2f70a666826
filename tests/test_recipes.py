"""Training: what moves and what does not, resuming to the same numbers, honest failures."""

import copy

import pytest
import torch
from fbwrap.recipes import AFL, GAN, LOSSES, Options, frechet_distance, train_discriminator
from fbwrap.recipes.training import losses as L
from helpers import same, state
from torch import nn
from zoo import Conditional, Deconv, LabelCritic, patch

import fbwrap
from fbwrap.errors import SettingError, TrainingError


def latents(n):
    return torch.randn(n, 6, 1, 1)


def pair(seed=0):
    torch.manual_seed(seed)
    return Deconv(), patch(norm=nn.BatchNorm2d)


DATA = torch.randn(50, 3, 16, 16, generator=torch.Generator().manual_seed(0)).tanh()
FEW = {"loss": "bce", "critic_steps": 1, "held_out": 0}  # calls for data and latents are counted
FAST = {"batch": 4, "progress": False}


def fit(recipe, steps, **options):
    return recipe.fit(DATA, latents, steps, progress=False, **options)


@pytest.mark.parametrize("loss", LOSSES)
def test_afl_moves_the_head_and_its_own_d_and_nothing_else(loss):
    G, D = pair()
    G.train()
    G.main[0].weight.requires_grad_(False)
    loop = fbwrap.attach(G, D, [("main.2", "3"), ("main.5", "1")], example=latents(2), steps=2)
    before, head = state(G, D), copy.deepcopy(loop.state_dict())
    dice = torch.get_rng_state()
    result = fit(AFL(loop, loss=loss, batch=4), 3)
    assert same(before, state(G, D))
    assert torch.equal(dice, torch.get_rng_state())
    assert not loop.training
    assert any(not torch.equal(a, b) for a, b in zip(head.values(), loop.state_dict().values(), strict=True))
    assert loop.discriminator is not D
    assert not torch.equal(loop.discriminator[0].weight, D[0].weight)
    assert torch.equal(loop.discriminator[3].running_mean, D[3].running_mean), "D's statistics stay in eval mode"
    assert (result.steps, result.samples, len(result.history)) == (3, 12, 3)
    assert all(torch.isfinite(torch.tensor(row["player"])) for row in result.history)
    assert not torch.equal(loop(latents(2)), G.eval()(latents(2)))


def test_a_frozen_d_stays_the_users_own():
    G, D = pair()
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    before = state(D)
    result = fit(AFL(loop, train_critic=False, batch=4, loss="bce"), 2)
    assert loop.discriminator is D
    assert same(before, state(D))
    assert "critic" not in result.history[0]


def test_no_graph_where_none_is_needed():
    """G's prefix, the base pass and D's features build no graph: only the suffix and the modules do."""
    G, D = pair()
    seen = []
    for net, name in ((G.main[0], "prefix"), (G.main[6], "suffix"), (D[0], "d")):
        net.register_forward_hook(lambda m, a, y, name=name: seen.append((name, y.requires_grad)))
    loop = fbwrap.attach(G, D, [("main.5", "3")], example=latents(2)).train()
    for p in G.parameters():
        p.requires_grad_(False)
    loop(latents(2))  # the first call in these modes proves what may be left out
    seen.clear()
    loop(latents(2)).sum().backward()
    base, again = [("prefix", False), ("suffix", False)], [("prefix", False), ("suffix", True)]
    assert seen == [*base, ("d", False), *again], "the prefix is replayed: it has no graph the second time either"
    assert all(p.grad is not None for p in loop.parameters())


def test_a_resumed_run_gives_the_same_numbers(tmp_path):
    def run(out, parts, **options):
        G, D = pair()
        torch.manual_seed(5)
        loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
        for steps in parts:
            recipe = AFL(loop, batch=4, save_every=2, decay="none", warmup=1, **options, **FEW)
            result = fit(recipe, steps, out=out, resume=True)
        return loop, result

    whole, one = run(tmp_path / "a", [7])
    G, D = pair()
    torch.manual_seed(5)
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    calls: list[int] = []

    def interrupted(n):
        calls.append(n)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return latents(n)

    recipe = AFL(loop, batch=4, save_every=2, decay="none", warmup=1, **FEW)
    with pytest.raises(KeyboardInterrupt):
        recipe.fit(DATA, interrupted, 7, out=tmp_path / "b", progress=False)
    assert (tmp_path / "b" / "checkpoint-00000002.pt").exists()
    again, two = run(tmp_path / "b", [7])
    assert (one.steps, two.steps) == (7, 7)
    whole2, _ = run(tmp_path / "c", [3, 7])
    for a, b in zip(whole.state_dict().values(), whole2.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.discriminator.state_dict().values(), whole2.discriminator.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "a" / "samples_000002.png").stat().st_size > 100
    G, D = pair()
    z = latents(3)
    whole.generator.eval()
    assert torch.equal(fbwrap.from_pretrained(tmp_path / "a" / "head", G.eval(), D)(z), whole(z))


def test_resume_with_other_options_or_another_model_is_refused(tmp_path):
    G, D = pair()
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    fit(AFL(loop, batch=4, loss="bce"), 1, out=tmp_path)
    with pytest.raises(TrainingError, match=r"other options: \{'lr'"):
        fit(AFL(loop, batch=4, lr=9.0, loss="bce"), 2, out=tmp_path, resume=True)
    other = fbwrap.attach(G, D, ["main.2"], module="light", example=latents(2))
    with pytest.raises(TrainingError, match=r"another run. links: then \['main.5 <- dual <- 1'\], now"):
        fit(AFL(other, batch=4, loss="bce"), 2, out=tmp_path, resume=True)
    for path in tmp_path.glob("checkpoint-*.pt"):
        path.write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match="not a checkpoint"):
        fit(AFL(loop, batch=4, loss="bce"), 2, out=tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    G, D = pair()
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    fit(AFL(loop, batch=4, loss="bce"), 2, out=tmp_path)
    before = (tmp_path / "checkpoint-00000002.pt").read_bytes()
    with pytest.raises(TrainingError, match="not finite at step"):
        AFL(loop, batch=4, loss="bce").fit(DATA * torch.inf, latents, 4, out=tmp_path, resume=True, progress=False)
    assert (tmp_path / "checkpoint-00000002.pt").read_bytes() == before
    assert not loop.training
    assert G.main[0].weight.requires_grad


def test_options_and_data_that_make_no_sense():
    G, D = pair()
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    for wrong in (
        {"loss": "wgan"},
        {"batch": 0},
        {"ema": 1.0},
        {"critic_mode": "x"},
        {"decay": "x"},
        {"loss_steps": "x"},
    ):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            AFL(loop, **{"loss": "bce", **wrong})
    for data, words in ((7, "no source"), ([], "empty"), ((DATA, DATA[:3]), "rows")):
        with pytest.raises(SettingError, match=words):
            AFL(loop, batch=4, loss="bce").fit(data, latents, 1, progress=False)
    with loop.settings(steps=0), pytest.raises(SettingError, match="steps=0"):
        AFL(loop, loss="bce")
    alone = fbwrap.attach(G, None, [("main.5", "image")], example=latents(2))
    with pytest.raises(SettingError, match="train_discriminator"):
        AFL(alone, loss="bce")


def test_iterables_of_batches_and_latents():
    G, D = pair()
    loop = fbwrap.attach(G, D, ["main.5"], example=latents(2))
    result = AFL(loop, batch=4, loss="bce").fit(
        list(DATA.split(4)[:3]), [latents(4) for _ in range(2)], 5, progress=False
    )
    assert result.steps == 5


def test_conditional_pairs_learn_with_their_labels():
    torch.manual_seed(0)
    G, D = Conditional(), LabelCritic()
    example = (torch.randn(2, 6), torch.tensor([0, 1]))
    loop = fbwrap.attach(G, D, [("up.1", "conv.1")], critic_input="output_and_label", example=example)
    real = (torch.randn(20, 1, 16, 16), torch.randint(0, 4, (20,)))
    inputs = lambda n: (torch.randn(n, 6), torch.randint(0, 4, (n,)))
    with loop.settings(steps=2):
        AFL(loop, batch=6, loss="bce").fit(real, inputs, 3, progress=False)
    assert loop(*example).shape == (2, 1, 16, 16)


def test_train_discriminator_learns_the_difference_and_leaves_g():
    G, D = pair()[0], patch()
    before = state(G)
    result = train_discriminator(G, D, DATA, latents, 60, batch=8, critic_lr=1e-2, progress=False, loss="bce")
    assert same(before, state(G))
    assert result.history[-1]["critic"] < 0.5 < result.history[0]["critic"]
    with torch.no_grad():
        assert D(DATA).mean() > D(G.eval()(latents(20))).mean()


def test_gan_trains_g_in_place_in_the_mode_asked_for():
    for mode, moves in (("train", True), ("eval", False)):
        G, D = pair()
        kept, weight = G.main[1].running_mean.clone(), G.main[0].weight.clone()
        fit(GAN(G, D, generator_mode=mode, batch=4, loss="bce"), 2)
        assert not torch.equal(G.main[0].weight, weight)
        assert torch.equal(G.main[1].running_mean, kept) is not moves


def test_auxiliary_loss_sees_ds_answer_and_the_real_batch():
    G, D = pair()
    seen = []

    def auxiliary(answer, real):
        seen.append((answer.shape[0], real.shape[0]))
        return answer.square().mean()

    fit(GAN(G, D, batch=4, auxiliary=auxiliary, loss="bce"), 2)
    assert seen == [(4, 4)] * 2


def test_penalties_by_hand():
    critic = lambda x: (x**2).sum(1, keepdim=True) * 3
    x = torch.tensor([[1.0, 2.0], [0.0, 0.5]])
    assert torch.allclose(L.r1(critic, x), 0.5 * (36 * x.square().sum(1)).mean())
    torch.manual_seed(0)
    u = torch.rand(2, 1)
    torch.manual_seed(0)
    between = u * x + (1 - u) * (x + 1)
    wanted = ((6 * between.norm(dim=1) - 1) ** 2).mean()
    assert torch.allclose(L.gradient_penalty(critic, x, x + 1), wanted)


def test_frechet_distance_is_scipys():
    from scipy.linalg import sqrtm

    torch.manual_seed(0)
    a, b = torch.randn(300, 6).double() @ torch.randn(6, 6).double(), torch.randn(200, 6).double() + 0.3
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    root = torch.from_numpy(sqrtm((ca @ cb).numpy()).real)
    wanted = (a.mean(0) - b.mean(0)).square().sum() + (ca + cb - 2 * root).trace()
    assert frechet_distance(a, b) == pytest.approx(float(wanted), rel=1e-6)


def test_every_option_has_a_place():
    assert Options(betas=(0.0, 0.9)).betas == (0.0, 0.9)


def test_statistics_are_those_of_the_averaged_weights():
    G, D = pair()
    G.eval()
    loop = fbwrap.attach(G, D, [("main.5", "1")], module="basic", example=latents(2))
    fit(AFL(loop, batch=8, recalibrate=100, loss="bce"), 2)
    norm = loop.feedback[0].body[1]
    seen = []
    norm.register_forward_hook(lambda m, a, y: seen.append(a[0]))
    with torch.no_grad():
        loop(latents(400))
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=0.02)
    assert norm.momentum == 0.1
