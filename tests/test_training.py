"""FAL, paired data, the losses by hand, steps in one's own loop, runs that are killed, and several processes."""

import copy

import pytest
import torch
from fbwrap.recipes import AFL, FAL, Critic, Options, Pairs, afl_step, fal_step
from fbwrap.recipes.training.ema import EMA
from helpers import same, state
from torch import nn
from trained import attached_twice, fal_loop, images, latents
from zoo import Deconv, Residual, patch

import fbwrap
from fbwrap.errors import SettingError, TrainingError


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
    real, options = images(2), Options(loss="least_squares", r1=0.0, loss_steps="last")
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
        loss_steps="last",
        lr=0.0,
        critic_lr=0.0,
        batch=2,
        critic_ema=0.0,
        critic_steps=2,
    )
    fit = recipe.fit(real, x, 1, progress=False)
    assert fit.history[0]["player"] == pytest.approx(float(player), rel=1e-4)
    assert fit.history[0]["critic"] == pytest.approx(float(critic), rel=1e-4)


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


def test_steps_are_those_of_the_plain_formulation():
    """Three steps written out in plain torch, with everything computed anew: the same losses and weights. The library
    shares the generated batch between D and the head, and builds no graph before the first corrected layer."""
    torch.manual_seed(0)
    G, D = Deconv().eval().requires_grad_(False), patch()
    loop = fbwrap.attach(G, D, [("main.5", "1")], module={"kind": "dual", "norm": "none"}, example=latents(2)).train()
    for parameter in loop.parameters():
        nn.init.normal_(parameter, std=0.05)
    module, plain_D, options = copy.deepcopy(loop.feedback[0]), copy.deepcopy(D), Options(loss="bce", r1_every=2)
    batches = [(latents(4), images(4)) for _ in range(3)]
    critic = Critic(D, loop.critic_input, loop.response)
    optimizers = torch.optim.Adam(loop.parameters(), 1e-3), torch.optim.Adam(D.parameters(), 1e-3)
    found = [afl_step(loop, critic, z, y, *optimizers, options, step) for step, (z, y) in enumerate(batches)]

    softplus = nn.functional.softplus
    mine = torch.optim.Adam(module.parameters(), 1e-3), torch.optim.Adam(plain_D.parameters(), 1e-3)

    def corrected(z):
        with torch.no_grad():
            signal = plain_D[:2](G(z))
        phi = G.main[:6](z)
        return G.main[6:](phi + module(phi, nn.functional.interpolate(signal, phi.shape[2:], mode="nearest")))

    for step, (z, y) in enumerate(batches):
        player = softplus(-plain_D(corrected(z))).mean()
        mine[0].zero_grad()
        player.backward()
        with torch.no_grad():
            fake = corrected(z)
        mine[0].step()
        mine[1].zero_grad()
        judged = softplus(-plain_D(y)).mean() + softplus(plain_D(fake)).mean()
        total = judged
        if step % 2 == 0:
            x = y.clone().requires_grad_()
            (slope,) = torch.autograd.grad(plain_D(x).flatten(1).mean(1).sum(), x, create_graph=True)
            total = judged + 2 * 0.5 * slope.flatten(1).square().sum(1).mean()
        total.backward()
        mine[1].step()
        assert found[step] == pytest.approx({"player": float(player), "critic": float(judged)}, rel=1e-5)
    for ours, theirs in ((loop.feedback[0], module), (D, plain_D)):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-5, rtol=1e-4)


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


@pytest.mark.parametrize(
    ("decay", "wanted"),
    [("none", [1, 1, 1]), ("linear", [1, 0.6, 0.2]), ("cosine", [1, 0.6, 0.2]), ("exponential", [1, 0.2**0.5, 0.2])],
)
def test_rates_fall_to_the_share_asked_for(decay, wanted):
    loop = fbwrap.attach(Deconv(), patch(), ["main.5"], example=latents(2))
    recipe = AFL(loop, lr=1e-3, critic_lr=2e-3, decay=decay, decay_to=0.2, loss="bce")
    from fbwrap.recipes.training.steps import Head
    from fbwrap.recipes.training.trainer import Trainer

    trainer = Trainer(Head(loop), recipe._critic, recipe.options)
    head, critic = (torch.optim.Adam(net.parameters()) for net in (loop, loop.discriminator))
    trainer.optimizer, trainer.critic_optimizer = head, critic
    for done, share in zip((0.0, 0.5, 1.0), wanted, strict=True):
        trainer._set_rates(done)
        assert head.param_groups[0]["lr"] == pytest.approx(1e-3 * share)
        assert critic.param_groups[0]["lr"] == pytest.approx(2e-3 * share)
    with pytest.raises(SettingError, match=r"decay_to=0\.0"):
        Options(decay="exponential")
