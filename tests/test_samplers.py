"""Samplers, on a toy whose density ratio is known: each method against its closed form or its equation."""

import math
import threading

import pytest
import torch
from helpers import stir
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import fbwrap
from fbwrap.engine.flops import FlopCounter
from fbwrap.errors import CriticError, DetachedError, HeadError, LayerNotFoundError, SettingError, UnsupportedError
from fbwrap.samplers import DDLS, DOT, DRS, MHGAN, SAMPLERS, Collaborative, DGFlow, Plain, TopK

CENTRES = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])
WEIGHTS = torch.tensor([0.55, 0.25, 0.15, 0.05])
NARROW, WIDE = 0.4, 1.0


def mixture(weights, width, dtype=torch.float32):
    parts = Independent(Normal(CENTRES.to(dtype), torch.full((4, 2), width, dtype=dtype), validate_args=False), 1)
    return MixtureSameFamily(Categorical(weights.to(dtype)), parts, validate_args=False)


class Modes(nn.Module):
    """Four wide Gaussians of equal weight: the signs of two latents choose, two others are the place."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(WIDE))

    def forward(self, z):
        which = 2 * (z[:, 2] < 0) + (z[:, 3] < 0)
        return CENTRES.to(z)[which] + self.scale * z[:, :2]


class Ratio(nn.Module):
    """The exact log p/q, scaled and shifted."""

    def __init__(self, slope=1.0, offset=0.0):
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(offset))
        self.at(torch.float32)

    def at(self, dtype):
        self.real, self.fake = mixture(WEIGHTS, NARROW, dtype), mixture(torch.full((4,), 0.25), WIDE, dtype)

    def forward(self, y):
        return (self.slope * (self.real.log_prob(y) - self.fake.log_prob(y)) + self.offset).unsqueeze(1)


def toy(slope=1.0, offset=0.0):
    loop = fbwrap.attach(Modes(), Ratio(slope, offset), None, example=torch.zeros(2, 4))
    loop.latents = "normal"
    return loop


def real_samples(count, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return mixture(WEIGHTS, NARROW).sample((count,))


def sliced(a, b):
    """Squared sliced Wasserstein distance."""
    angles = torch.arange(32) / 32 * math.pi
    ways = torch.stack([angles.cos(), angles.sin()])
    return float((((a @ ways).sort(0).values - (b @ ways).sort(0).values) ** 2).mean())


def weights_and_width(y):
    which = torch.cdist(y, CENTRES).argmin(1)
    shares = torch.bincount(which, minlength=4) / len(y)
    return shares, float((y - CENTRES[which]).square().mean().sqrt())


@pytest.fixture(scope="module")
def real():
    return real_samples(4000)


def test_the_toy_is_off_and_real_samples_are_not(real):
    assert sliced(Plain(toy(), batch=1000)(4000), real) > 0.3
    assert sliced(real_samples(4000, 1), real) < 0.03


def test_exact_rejection_draws_the_data_at_the_expected_rate(real):
    sampler = DRS(toy(), loss="bce", keep=None, burn_in=20000, batch=2000)
    y = sampler(4000)
    largest = float(toy().discriminator(CENTRES).detach().max())  # the ratio is largest at (near) the heaviest centre
    assert sampler.diagnostics["acceptance"] == pytest.approx(math.exp(-largest), rel=0.1)
    shares, width = weights_and_width(y)
    assert torch.allclose(shares, WEIGHTS, atol=0.03)
    assert width == pytest.approx(NARROW, abs=0.02)
    assert sliced(y, real) < 0.03


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept_is_what_was_asked_for(keep):
    sampler = DRS(toy(), loss="bce", keep=keep, burn_in=5000, batch=1000)
    sampler(2000)
    assert sampler.diagnostics["acceptance"] == pytest.approx(keep, abs=0.03)


@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_the_share_is_kept_also_where_ever_larger_ratios_come(keep):
    """D's answer has a heavy tail: d_M goes on rising after the first samples, and γ follows."""

    class Heavy(nn.Module):
        def __init__(self):
            super().__init__()
            self.power = nn.Parameter(torch.tensor(3.0))

        def forward(self, y):
            return y[:, :1].abs() ** self.power

    loop = fbwrap.attach(Modes(), Heavy(), None, example=torch.zeros(2, 4))
    loop.latents = "normal"
    sampler = DRS(loop, loss="bce", keep=keep, burn_in=300, batch=100)
    sampler._prepare()
    begun = sampler._largest
    sampler(4000)
    assert sampler.diagnostics["largest log ratio"] > begun + 20, "it has risen"
    assert sampler.diagnostics["acceptance"] == pytest.approx(keep, abs=0.05)


def test_what_samplers_note(real):
    loop = toy()
    calibration = fbwrap.calibrate(loop, real[:500])
    noted = lambda made: set((made(4), made.diagnostics)[1])
    known = {"calibration AUC", "calibration error"}
    assert noted(TopK(loop, of=2)) == {"D's answer at first", "D's answer at best"}
    assert noted(MHGAN(loop, loss="bce", length=2)) == {"acceptance", "chains that never moved"}
    assert noted(MHGAN(loop, calibration=calibration, length=2)) > known
    moved = {"D's answer at first", "D's answer at last", "moved", "steps"}
    assert noted(DDLS(loop, calibration=calibration, steps=2)) == {*moved, *known}
    sampler = MHGAN(loop, loss="bce", length=1)
    sampler(4)
    assert sampler.diagnostics["chains that never moved"] == 1


def test_rejection_accepts_what_the_papers_rule_accepts():
    """The rule of Azadi et al., sample by sample, as in the code of MH-GAN's authors."""
    sampler = DRS(toy(), loss="bce", keep=None, burn_in=50)
    sampler._prepare()
    response = toy().discriminator(real_samples(200, 3)).detach()
    largest, u = sampler._largest, torch.rand(200, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    sampler._generator.manual_seed(5)
    found, expected = sampler._accepted(response), []
    for d, draw in zip(response.double().flatten().tolist(), u.tolist(), strict=True):
        largest = max(largest, d)
        shifted = d - largest - math.log(1 - math.exp(d - largest - 1e-8))
        expected.append(draw <= 1 / (1 + math.exp(-shifted)))
    assert found.tolist() == expected
    assert 0 < sum(expected) < 200


def test_a_chain_ends_at_the_data(real):
    long, short = MHGAN(toy(), loss="bce", length=100, batch=2000), MHGAN(toy(), loss="bce", length=5, batch=2000)
    y = long(4000)
    shares, width = weights_and_width(y)
    assert torch.allclose(shares, WEIGHTS, atol=0.04)
    assert width == pytest.approx(NARROW, abs=0.03)
    assert sliced(y, real) < 0.04 < sliced(short(4000), real)
    assert 0 < long.diagnostics["acceptance"] < 0.5


def test_a_chain_moves_as_the_papers_rule_moves():
    sampler = MHGAN(toy(), loss="bce", length=20, seed=3)
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    found = sampler.refine(z)
    rng, G, D = torch.Generator().manual_seed(3), toy().generator, toy().discriminator
    now = G(z)
    for _ in range(19):
        fresh = G(torch.randn(1, 4, generator=rng))
        odds = [float(D(each).sigmoid()) for each in (now, fresh)]
        accept = min(1.0, (1 / odds[0] - 1) / (1 / odds[1] - 1))  # Eq. 4
        if float(torch.rand(1, generator=rng, dtype=torch.float64)) <= accept:
            now = fresh
    assert torch.allclose(found, now)


def test_calibration_finds_slope_and_offset(real):
    loop = toy(slope=3.0, offset=2.0)
    off = sliced(MHGAN(loop, loss="bce", length=100, batch=2000)(4000), real)
    calibration = fbwrap.calibrate(loop, real_samples(8000, 2), batch=2000)
    assert calibration.slope == pytest.approx(1 / 3, rel=0.1)
    assert calibration.offset == pytest.approx(-2 / 3, abs=0.15)
    assert calibration.auc > 0.8
    assert calibration.error < 0.03
    assert "AUC" in str(calibration)
    assert len(calibration.curve) == 10
    sampler = MHGAN(loop, calibration=calibration, length=100, batch=2000)
    y = sampler(4000)
    assert sliced(y, real) < 0.05 < off
    assert 0 <= sampler.diagnostics["stayed at a real sample"] < 0.05, "chains begin at real samples' answers"


def test_isotonic_calibration_undoes_any_rising_function(real):
    loop = toy()
    loop.discriminator.forward = lambda y: torch.tanh(Ratio.forward(loop.discriminator, y) / 4)
    calibration = fbwrap.calibrate(loop, real_samples(8000, 2), method="isotonic", batch=2000)
    assert calibration.error < 0.03
    off = sliced(DRS(loop, loss="bce", keep=None, batch=2000)(4000), real)
    assert sliced(DRS(loop, calibration=calibration, keep=None, batch=2000)(4000), real) < 0.12 < off
    with pytest.raises(SettingError, match="platt"):
        DDLS(loop, calibration=calibration)


def test_unequal_numbers_of_samples_change_no_ratio():
    loop, data = toy(slope=2.0), real_samples(6000, 2)
    few = fbwrap.calibrate(loop, data, samples=1500, batch=2000)
    assert few.slope == pytest.approx(0.5, rel=0.15)
    assert few.offset == pytest.approx(0, abs=0.3)


def test_langevin_dynamics_mend_the_width_and_not_the_weights():
    sampler = DDLS(toy(), loss="bce", steps=200, batch=2000)
    shares, width = weights_and_width(sampler(2000))
    assert width == pytest.approx(NARROW, abs=0.03)
    assert float(shares.max()) < 0.4, "no gradient leads from one mode to another"
    assert sampler.diagnostics["D's answer at last"] > sampler.diagnostics["D's answer at first"]


def test_one_langevin_step_is_the_equation():
    loop, e = toy(), 0.01
    sampler = DDLS(loop, loss="bce", steps=1, step_size=e, seed=7)
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    energy = z.square().sum(1) / 2 - loop.discriminator(loop.generator(z)).flatten()
    (slope,) = torch.autograd.grad(energy.sum(), z)
    noise = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    expected = loop.generator(z - e / 2 * slope + e**0.5 * noise)
    assert torch.allclose(sampler.refine(z.detach()), expected, atol=1e-6)


@pytest.mark.parametrize("divergence", ["KL", "JS", "logD"])
def test_the_gradient_flow_is_the_authors(divergence):
    """Three steps by their code: s of exp(d), η v + √(2η) √γ ξ."""
    loop, eta, gamma = toy(), 0.1, 0.01
    sampler = DGFlow(loop, loss="bce", divergence=divergence, steps=3, seed=7)
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    expected, rng = z.clone(), torch.Generator().manual_seed(7)
    for _ in range(3):
        at = expected.clone().requires_grad_()
        d = loop.discriminator(loop.generator(at))
        weight = {"KL": torch.ones_like(d), "logD": 1 / (1 + d.exp()), "JS": 1 / (1 + 1 / d.exp())}[divergence]
        d.backward(torch.ones_like(d))
        expected = expected + eta * weight.detach() * at.grad
        expected = expected + math.sqrt(2 * eta) * math.sqrt(gamma) * torch.randn(5, 4, generator=rng)
    assert torch.allclose(sampler.refine(z), loop.generator(expected), atol=1e-5)


def test_the_gradient_flows_end_is_the_closed_form():
    """With γ = 1 the flow of KL ends at exp(d): in z a Gaussian of the precision (σ_q/σ_p)² − 1."""
    y = DGFlow(toy(), loss="bce", steps=200, step_size=0.02, noise=1.0, batch=1000)(1000)
    _, width = weights_and_width(y)
    assert width == pytest.approx(1 / math.sqrt((WIDE / NARROW) ** 2 - 1), abs=0.04)


class Circle(nn.Module):
    def forward(self, z):
        return 2 * z / z.norm(dim=1, keepdim=True)


class Potential(nn.Module):
    """Wasserstein's own for the circle of radius 1, of slope 1."""

    def forward(self, y):
        return -(y.norm(dim=1, keepdim=True) - 1).abs()


def circle():
    loop = fbwrap.attach(Circle(), Potential(), None, example=torch.zeros(2, 2) + 1)
    loop.latents = "normal"
    return loop


def test_optimal_transport_takes_a_circle_to_its_data():
    loop = circle()
    sampler = DOT(loop, space="sample", steps=150, step_size=0.01, slope=0.5, loss="wasserstein_gp")
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    before, after = loop(z), sampler.refine(z)
    assert before.norm(dim=1).mean() == pytest.approx(2.0, abs=1e-4)
    assert after.norm(dim=1).mean() == pytest.approx(1.0, abs=0.03)
    turned = torch.nn.functional.cosine_similarity(before, after)
    assert float(turned.min()) > 0.99, "the shortest way is along the radius"


def test_latent_optimal_transport_is_its_equation():
    """Two steps as in the authors' code, but for the part along z, which is taken out."""
    loop = toy()
    sampler = DOT(loop, loss="bce", steps=2, step_size=0.05, slope=3.0)
    z0 = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    z = z0.clone()
    for _ in range(2):
        at = z.clone().requires_grad_()
        value = -loop.discriminator(loop.generator(at)).flatten() / 3.0 + (at - z0 + 0.001).square().sum(1).sqrt()
        (g,) = torch.autograd.grad(value.sum(), at)
        g = g - z * (g * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True)
        z = z - 0.05 * g
    assert torch.allclose(sampler.refine(z0), loop.generator(z), atol=1e-6)


def test_latents_of_optimal_transport_do_not_run_away():
    """With the paper's division by √n they do, in 64 dimensions, at these settings."""
    loop = fbwrap.attach(nn.Linear(64, 2), nn.Linear(2, 1), None, example=torch.zeros(2, 64))
    loop.latents = "normal"
    z = DOT(loop, loss="bce", steps=50, step_size=0.2).draw(8).args[0]
    assert float(z.norm(dim=1).max()) < 20


def test_the_slope_is_the_largest_between_pairs():
    sampler = DOT(toy(), loss="bce", steps=1)
    sampler(2)
    assert 1 < sampler.slope < 1000


def test_the_best_of_n_has_the_mean_of_an_order_statistic():
    loop = fbwrap.attach(nn.Identity(), nn.Flatten(), None, example=torch.zeros(2, 1))
    loop.latents = "normal"
    found = TopK(loop, of=4, batch=1000)(20000)
    assert float(found.mean()) == pytest.approx(1.0294, abs=0.02)


def test_collaborative_steps_are_gradient_steps_on_the_layer():
    G = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    D = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    loop = fbwrap.attach(G, D, None, example=torch.zeros(2, 3))
    z = torch.randn(4, 3)
    found = Collaborative(loop, layer="1", loss="bce", steps=5, step_size=0.3).refine(z)
    h, speed = G[:2](z).detach(), 0
    best, answer = G[2:](h), D(G[2:](h))
    for _ in range(5):
        at = h.clone().requires_grad_()
        (g,) = torch.autograd.grad(nn.functional.softplus(-D(G[2:](at))).sum(), at)
        speed = 0.9 * speed + 0.3 * g
        h = h - speed
        y = G[2:](h)
        better = D(y) > answer
        best, answer = torch.where(better, y, best), torch.where(better, D(y), answer)
    assert torch.allclose(found, best, atol=1e-5)
    assert not torch.allclose(found, G(z))


# -- networks of all kinds -----------------------------------------------------------------------------


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(4, 3), nn.Linear(6, 2)

    def forward(self, z, y):
        return self.out(torch.cat([z, self.embed(y)], 1))


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(4, 3), nn.Linear(5, 1)

    def forward(self, x, y):
        return self.out(torch.cat([x, self.embed(y)], 1))


def conditional():
    torch.manual_seed(0)
    example = (torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    loop = fbwrap.attach(Conditional(), Judge(), None, example=example, critic_input="output_and_label")
    loop.latents = ["normal", "labels:0:3"]
    return loop


def images(strength=1.0):
    torch.manual_seed(0)
    G = nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()
    )
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3, 1, 1))
    loop = fbwrap.attach(G.eval(), D.eval(), [("2", "1")], example=torch.randn(2, 6, 1, 1), strength=strength)
    stir(loop)
    loop.latents = "uniform:-1:1"
    return loop


def all_samplers(loop, **options):
    few = {"mhgan": {"length": 3}, "ddls": {"steps": 2}, "dgflow": {"steps": 2}, "dot": {"steps": 2}}
    few |= {"topk": {"of": 2}, "collaborative": {"steps": 2}, "drs": {"burn_in": 8}}
    layer = {} if loop.connections else {"layer": "out"}
    return [
        made(loop, loss="bce", batch=4, **few.get(name, {}), **(layer if name == "collaborative" else {}), **options)
        for name, made in SAMPLERS.items()
    ]


def test_every_sampler_draws_and_refines_with_labels():
    loop = conditional()
    y = torch.tensor([3, 1, 2, 0, 1, 1])
    for sampler in all_samplers(loop):
        drawn = sampler.draw(6, label=2)
        assert drawn.output.shape == (6, 2), sampler
        assert drawn.args[1].tolist() == [2] * 6, sampler
        assert sampler.draw(40).args[1].unique().numel() > 1, "labels are drawn"
        assert sampler.refine(torch.randn(6, 3), y).shape == (6, 2)


def test_refined_samples_keep_their_labels():
    loop = conditional()
    loop.generator.out.weight.data[:, :3] = 0  # the latent does nothing: a sample is its label's
    z, y = torch.randn(6, 3), torch.tensor([3, 1, 2, 0, 1, 1])
    for sampler in all_samplers(loop):
        if not isinstance(sampler, Collaborative | DRS):
            assert torch.allclose(sampler.refine(z, y), loop(z, y), atol=1e-6), sampler
    kept = DRS(loop, loss="bce", keep=1.0, burn_in=8, batch=4).refine(z, y)
    assert torch.allclose(kept, loop(z, y), atol=1e-6)


def test_every_sampler_takes_feedback_or_leaves_it():
    loop = images()
    z = torch.rand(5, 6, 1, 1) * 2 - 1
    assert not torch.allclose(loop(z), loop.generator(z))
    for with_feedback, without in zip(all_samplers(loop), all_samplers(loop, feedback=False), strict=True):
        a, b = with_feedback(5), without(5)
        assert a.shape == b.shape == (5, 3, 8, 8)
        assert not torch.allclose(a, b)
        assert with_feedback.cost > without.cost, with_feedback
    assert torch.equal(Plain(loop, feedback=False).refine(z), loop.generator(z))
    assert torch.equal(Plain(loop).refine(z), loop(z))


def test_gradients_go_through_the_whole_loop():
    """D's features are without a graph in the loop; a sampler's gradient is of y_T, theirs too."""
    loop = images()
    whole = fbwrap.attach(
        loop.generator, loop.discriminator, [("2", "1")], example=torch.randn(2, 6, 1, 1), detach_signals=False
    )
    whole.load_state_dict(loop.state_dict())
    z = torch.rand(3, 6, 1, 1, requires_grad=True)
    _, response = loop.with_response(z)
    (found,) = torch.autograd.grad(response.sum(), z)
    (expected,) = torch.autograd.grad(loop.discriminator(whole(z)).sum(), z)
    (partly,) = torch.autograd.grad(loop.discriminator(loop(z)).sum(), z)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, partly, rtol=1e-3)


@pytest.mark.parametrize("mode", [True, False])
def test_networks_random_numbers_and_gradients_stay(mode):
    loop = images()
    nets = [loop.generator.train(mode), loop.discriminator.train(mode), loop.feedback]
    for net in nets:
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
    z, state = torch.rand(5, 6, 1, 1), torch.get_rng_state()
    for sampler in all_samplers(loop):
        sampler(5)
        sampler.refine(z)
        assert not sampler(2).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    for net, was in zip(nets, before, strict=True):
        assert all(torch.equal(value, was[key]) for key, value in net.state_dict().items())
        assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
        assert all("forward" not in vars(module) for module in net.modules())
    assert nets[0].training is mode
    assert nets[1].training is mode


def test_the_cost_is_what_was_run():
    """Against a count of what is dispatched, in calls of G for one sample."""
    loop = images()
    for sampler in all_samplers(loop):
        sampler(4)  # what is measured once
        with FlopCounter() as counter:
            sampler(8)
        ran = counter.total / loop.plan.generator_flops * loop.plan.batch / 8
        assert sampler.cost == pytest.approx(ran, rel=0.1), sampler


def test_the_same_seed_draws_the_same_samples_and_a_second_call_others():
    for first, again, other in zip(
        all_samplers(images()), all_samplers(images()), all_samplers(images(), seed=1), strict=True
    ):
        a = first(5)
        assert torch.equal(a, again(5)), first
        assert not torch.equal(a, other(5)), first
        assert not torch.equal(a, first(5)), first


def test_samplers_work_wherever_they_are_called():
    for sampler in all_samplers(images()):
        with torch.no_grad():
            assert sampler(2).shape[0] == 2
        with torch.inference_mode():
            assert sampler(2).shape[0] == 2


def test_an_exception_leaves_nothing_behind_and_a_detached_loop_is_refused():
    loop = images()
    samplers = all_samplers(loop)
    forward = type(loop.discriminator[2]).forward

    def fails(self, x):
        raise RuntimeError("no")

    for sampler in samplers[1:]:
        sampler(2)
        loop.discriminator[2].forward = fails.__get__(loop.discriminator[2])
        with pytest.raises(CriticError):
            sampler(2)
        del loop.discriminator[2].forward
        assert all("forward" not in vars(module) for module in loop.generator.modules())
        assert sampler(2).shape[0] == 2
    assert type(loop.discriminator[2]).forward is forward
    loop.detach()
    for sampler in samplers:
        with pytest.raises(DetachedError):
            sampler(2)


def test_threads_share_a_loop():
    loop = images()
    expected = [sampler(5) for sampler in all_samplers(loop)]
    found = {}

    def work(place, sampler):
        found[place] = sampler(5)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(all_samplers(loop))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[place], y) for place, y in enumerate(expected))


def test_samplers_choose_among_what_another_one_made():
    loop = images()
    inner = Collaborative(loop, steps=3, loss="bce")
    sampler = DRS(inner, loss="bce", keep=0.5, burn_in=16, batch=8)
    y = sampler(6)
    assert y.shape == (6, 3, 8, 8)
    assert sampler.cost > 10
    assert sampler.diagnostics["proposed"] >= 6
    assert TopK(inner, of=2).refine(torch.rand(3, 6, 1, 1)).shape == (3, 3, 8, 8)


def test_double_precision_stays():
    loop = fbwrap.attach(Modes().double(), nn.Linear(2, 1).double(), None, example=torch.zeros(2, 4).double())
    loop.latents = "normal"
    for sampler in (Plain(loop), DRS(loop, loss="bce", burn_in=10), DDLS(loop, loss="bce", steps=1)):
        assert sampler(3).dtype == torch.float64


def test_a_generator_that_was_moved_to_double_gets_such_latents():
    loop = toy()
    loop.generator.double(), loop.discriminator.double()
    loop.discriminator.at(torch.float64)
    assert DGFlow(loop, loss="bce", steps=1)(3).dtype == torch.float64


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, *, noise, scale):
        return {"sample": self.out(noise) * scale, "extra": [noise]}


def test_inputs_by_name_and_outputs_of_several_tensors():
    example = {"noise": torch.zeros(3, 4), "scale": torch.ones(1)}
    loop = fbwrap.attach(Named(), nn.Linear(2, 1), None, example=example)
    loop.latents = {"noise": "normal", "scale": "example"}
    for sampler in all_samplers(loop):
        drawn = sampler.draw(7)
        assert drawn.output["sample"].shape == (7, 2)
        assert drawn.output["extra"][0].shape == (7, 4)
        assert drawn.kwargs["scale"].shape == (1,)
        if not isinstance(sampler, Collaborative):
            assert torch.allclose(loop(**drawn.kwargs)["sample"], drawn.output["sample"], atol=1e-5), sampler


def test_latents_of_a_range_stay_in_it():
    loop = images()
    for sampler in (DDLS(loop, loss="bce", steps=5, step_size=0.5), DGFlow(loop, loss="bce", step_size=5.0, steps=5)):
        z = sampler.draw(8).args[0]
        assert float(z.abs().max()) <= 1
    assert DOT(loop, loss="bce", step_size=5.0, steps=3).draw(4).args[0].abs().max() <= 1


# -- D's of all kinds ----------------------------------------------------------------------------------


def with_critic(D, **options):
    loop = fbwrap.attach(Modes(), D, None, example=torch.zeros(4, 4), **options)
    loop.latents = "normal"
    return loop


def test_a_probability_is_read_as_its_logit(real):
    plain = toy()
    loop = with_critic(nn.Sequential(Ratio(), nn.Sigmoid()))
    z = torch.randn(6, 4)
    kept = [DRS(each, keep=None, batch=2000, burn_in=4000, loss="bce")(500) for each in (loop, plain)]
    assert sliced(*kept) < 0.02
    a, b = (DGFlow(each, loss="bce", steps=3).refine(z) for each in (loop, plain))
    assert torch.allclose(a, b, atol=1e-2)


class Naming(nn.Module):
    """A probability beside something else: AC-GAN's."""

    def forward(self, y):
        return torch.sigmoid(y[:, :1]), y.softmax(1)


def test_a_sigmoid_tells_the_loss_wherever_d_keeps_it():
    assert DRS(with_critic(Naming(), response="[0]"), burn_in=20)(2).shape == (2, 2)


class Fours(nn.Module):
    """Minibatch statistics in groups of four: other sizes are refused."""

    def forward(self, y):
        return y[:, :1] - y.view(4, -1, 2).std(0).mean()


def test_a_d_that_wants_certain_batches_is_told_about(caplog):
    TopK(with_critic(Fours()), batch=4)(4)
    assert "other samples of its batch" in caplog.text


def test_a_d_that_refuses_is_told_at_once():
    with pytest.raises(CriticError, match="critic_input="):
        with_critic(Judge())


def test_least_squares_answers_are_probabilities():
    a = DRS(with_critic(nn.Sequential(Ratio(), nn.Sigmoid())), loss="least_squares", keep=None, burn_in=4000, batch=500)
    b = DRS(toy(), loss="bce", keep=None, burn_in=4000, batch=500)
    a(200), b(200)
    assert a.diagnostics["acceptance"] == pytest.approx(b.diagnostics["acceptance"], rel=0.3)


@pytest.mark.parametrize("loss", ["hinge", "wasserstein_gp", "relativistic"])
def test_a_d_that_is_no_ratio_is_refused_with_the_reason(loss):
    for made in (DRS, MHGAN, DDLS, DGFlow):
        with pytest.raises(SettingError, match="calibrate"):
            made(toy(), loss=loss)
    calibration = fbwrap.calibrate(toy(), real_samples(400), batch=400)
    assert DRS(toy(), loss=loss, calibration=calibration, burn_in=20)(2).shape == (2, 2)
    for made in (DOT, TopK):
        assert made(toy(), loss=loss)(2).shape == (2, 2)


def test_without_a_loss_it_is_asked_for():
    with pytest.raises(SettingError, match="which loss D was trained with"):
        DRS(toy())
    with pytest.raises(SettingError, match="one of"):
        DRS(toy(), loss="gan")
    loop = toy()
    loop.note(trained_on={"options": {"loss": "bce"}})
    assert DRS(loop, burn_in=20)(2).shape == (2, 2), "a head says what its D was trained with"


def test_a_d_that_looks_at_several_samples_is_refused():
    packed = nn.Sequential(nn.Unflatten(0, (-1, 2)), nn.Flatten(), nn.Linear(4, 1))
    with pytest.raises(CriticError, match="several at once"):
        TopK(with_critic(packed))(4)


class Statistics(nn.Module):
    def forward(self, y):
        return y.sum(1, keepdim=True) - y.mean()


def test_a_d_that_uses_its_batch_is_told_about(caplog):
    sampler = TopK(with_critic(Statistics()))
    sampler(4)
    assert "other samples of its batch" in caplog.text
    assert sampler._source.depends_on_batch
    caplog.clear()
    sampler(4)
    assert not caplog.text
    assert TopK(toy())(4) is not None
    assert "batch" not in caplog.text


def test_response_maps_are_read_as_their_mean_or_place_by_place():
    loop = images()
    data = torch.rand(64, 3, 8, 8) * 2 - 1
    for places in ("mean", "each"):
        calibration = fbwrap.calibrate(loop, data, places=places)
        assert calibration(torch.randn(3, 1, 4, 4)).shape == (3,)
        assert DRS(loop, calibration=calibration, burn_in=20)(3).shape == (3, 3, 8, 8)


def test_calibration_with_labels_wants_those_of_the_real_samples():
    loop, data = conditional(), torch.randn(60, 2)
    with pytest.raises(SettingError, match="inputs="):
        fbwrap.calibrate(loop, data)
    labels = torch.randint(0, 4, (60,))
    assert fbwrap.calibrate(loop, data, inputs=(torch.zeros(60, 3), labels)).method == "platt"
    with pytest.raises(SettingError, match="a row for each"):
        fbwrap.calibrate(loop, data, inputs=(torch.zeros(6, 3), labels[:6]))


def test_calibration_says_what_cannot_be():
    loop = toy()
    for settings, words in (
        ({"method": "beta"}, "isotonic"), ({"places": "all"}, "each"), ({"samples": 3}, "too few"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=words):
            fbwrap.calibrate(loop, real_samples(100), **settings)
    with pytest.raises(SettingError, match="not finite"):
        fbwrap.calibrate(loop, real_samples(100) * float("nan"))
    constant = with_critic(nn.Sequential(nn.Linear(2, 1), nn.Threshold(1e9, 0.0)))
    with pytest.raises(SettingError, match="same to all"):
        fbwrap.calibrate(constant, real_samples(100))


def test_a_d_that_knows_nothing_is_told_about(caplog):
    D = nn.Linear(2, 1)
    D.weight.data.zero_()
    D.weight.data[0, 0] = 1e-3
    loop = with_critic(D)
    fbwrap.calibrate(loop, Plain(loop, seed=5)(400))
    assert "hardly tells" in caplog.text


# -- what cannot be ------------------------------------------------------------------------------------


def upscaler():
    torch.manual_seed(0)
    G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))
    D = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, 1, 1))
    return fbwrap.attach(G, D, None, example=torch.rand(2, 3, 16, 16))


def test_super_resolution_has_no_latent_and_two_ways():
    loop, low = upscaler(), torch.rand(3, 3, 16, 16)
    for name in ("drs", "mhgan", "topk", "ddls", "dgflow", "dot"):
        with pytest.raises(SettingError, match="no latent"):
            SAMPLERS[name](loop, loss="bce")
    D = loop.discriminator
    assert torch.equal(Plain(loop).refine(low), loop(low))
    with pytest.raises(SettingError, match="no latent"):
        Plain(loop)(2)
    for sampler in (Collaborative(loop, layer="0", loss="bce", steps=5), DOT(loop, space="sample", loss="bce")):
        better = sampler.refine(low)
        assert better.shape == (3, 3, 32, 32)
        assert (D(better).mean((1, 2, 3)) > D(loop(low)).mean((1, 2, 3))).all()
        with pytest.raises(SettingError, match="no latent"):
            sampler(2)


def test_settings_that_cannot_be_are_one_sentence():
    loop = toy()
    for made, wrong in (
        (DRS, {"keep": 0}), (DRS, {"keep": 2}), (DRS, {"burn_in": 1}), (MHGAN, {"length": 0}), (TopK, {"of": 0}),
        (DDLS, {"steps": -1}), (DDLS, {"step_size": 0}), (DGFlow, {"divergence": "TV"}), (DGFlow, {"noise": -1}),
        (DOT, {"space": "pixel"}), (DOT, {"slope": 0}), (Plain, {"batch": 0}), (Collaborative, {}),
        (Collaborative, {"layer": "", "momentum": 1}),
    ):  # fmt: skip
        with pytest.raises(SettingError):
            made(loop, loss="bce", **wrong)
    with pytest.raises(SettingError, match="1 or more"):
        Plain(loop)(0)
    with pytest.raises(SettingError, match="needs a loop"):
        DRS(loop.generator)
    with pytest.raises(LayerNotFoundError, match="9"):
        Collaborative(images(), layer="9")
    with pytest.raises(SettingError, match="asks D"):
        TopK(fbwrap.attach(Modes(), None, None, example=torch.zeros(2, 4)))


def test_rejection_that_accepts_nothing_says_so():
    loop = toy(slope=400.0)
    sampler = DRS(loop, loss="bce", keep=None, burn_in=5000, batch=5)
    with pytest.raises(SettingError, match="accepted"):
        sampler(5)


class Detaching(nn.Module):
    def forward(self, y):
        return y.detach().sum(1, keepdim=True)


def test_a_d_without_a_gradient_is_told():
    with pytest.raises(UnsupportedError, match="no gradient"):
        DGFlow(with_critic(Detaching()), loss="bce")(2)


def test_a_head_with_part_of_its_d_says_what_is_missing(tmp_path):
    loop = images()
    with torch.no_grad():
        loop.discriminator[0].weight.add_(0.1)
    loop.save_pretrained(tmp_path)
    other = images()
    loaded = fbwrap.from_pretrained(tmp_path, other.generator, other.discriminator)
    with pytest.raises(HeadError, match="discriminator='all'"):
        TopK(loaded)(2)
    loop.save_pretrained(tmp_path, discriminator="all")
    whole = fbwrap.from_pretrained(tmp_path, other.generator, other.discriminator)
    assert TopK(whole)(2).shape == (2, 3, 8, 8)


def test_a_loop_without_links_is_g_and_is_no_head(tmp_path):
    loop = toy()
    z = torch.randn(3, 4)
    assert torch.equal(loop(z), loop.generator(z))
    assert "No links" in str(loop.plan)
    assert loop.plan.cost == 1.0 or loop.plan.generator_flops == 0
    with pytest.raises(HeadError, match="no links"):
        loop.save_pretrained(tmp_path)
    with pytest.raises(SettingError, match="samplers"):
        fbwrap.attach(Modes(), Ratio(), [], example=z)
