"""Samplers on networks that are not one latent to one picture: what a review with fresh eyes found, and more."""

import threading

import pytest
import torch
from test_samplers import images, toy
from torch import nn

import fbwrap
from fbwrap.errors import CriticError, SettingError, UnsupportedError
from fbwrap.samplers import DDLS, DOT, DRS, MHGAN, Collaborative, DGFlow, Plain, TopK
from fbwrap.samplers.calibration import Calibration, isotonic


def held(G, D, example, latents="normal", **options):
    loop = fbwrap.attach(G, D, None, example=example, **options)
    loop.latents = latents
    return loop


# -- gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["0", "1", "2", "3"])
@pytest.mark.parametrize("steps", [1, 2])
def test_any_layer_of_a_loop_with_feedback_is_moved_as_without_replay(layer, steps):
    loop = images()
    loop.steps = steps
    z = torch.rand(3, 6, 1, 1)
    found = []
    for replay in (True, False):
        loop.replay = replay
        found.append(Collaborative(loop, layer=layer, loss="bce", steps=4).refine(z))
    assert torch.allclose(*found, atol=1e-6)
    assert not torch.allclose(found[0], loop(z))


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    @torch.no_grad()
    def forward(self, z):
        return self.out(z)


def test_a_g_without_autograd_is_told_and_not_left_as_it_is():
    D = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    loop = held(Silent(), D, torch.zeros(2, 4))
    for sampler in (DGFlow(loop, loss="bce"), DDLS(loop, loss="bce"), Collaborative(loop, layer="out", loss="bce")):
        with pytest.raises(UnsupportedError, match="no gradient"):
            sampler.refine(torch.randn(3, 4))
    assert TopK(loop, loss="bce")(3).shape == (3, 2)


class Writing(nn.Module):
    def forward(self, z):
        return z.mul_(2)


def test_a_g_that_writes_into_its_input():
    loop = held(Writing(), nn.Linear(3, 1), torch.zeros(2, 3))
    for sampler in (Plain(loop), DGFlow(loop, loss="bce", steps=2), TopK(loop, of=2)):
        drawn = sampler.draw(4)
        assert torch.allclose(drawn.output, 2 * drawn.args[0], atol=1e-5), sampler
    z = torch.randn(3, 3)
    kept = z.clone()
    DDLS(loop, loss="bce", steps=2).refine(z)
    assert torch.equal(z, kept)


# -- D's answers ---------------------------------------------------------------------------------------


def line(slope, offset):
    D = nn.Linear(1, 1)
    D.weight.data.fill_(slope)
    D.bias.data.fill_(offset)
    return D


def test_answers_of_least_squares_beyond_their_range_keep_their_order_and_gradient():
    loop = held(nn.Identity(), line(1.0, -2.0), torch.zeros(2, 1))
    assert float(TopK(loop, of=4, loss="least_squares", batch=1000)(8000).mean()) == pytest.approx(1.029, abs=0.04)
    z = torch.randn(50, 1)
    assert (DGFlow(loop, loss="least_squares", noise=0.0, steps=1).refine(z) != z).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sigmoid_that_saturates_is_finite(dtype):
    D = nn.Sequential(line(8.0, 0.0), nn.Sigmoid()).to(dtype)
    loop = held(nn.Linear(1, 1).to(dtype), D, torch.zeros(2, 1, dtype=dtype))
    loop.generator.weight.data.fill_(3.0)
    assert DRS(loop, keep=0.5, burn_in=100)(16).shape == (16, 1)
    assert torch.isfinite(DDLS(loop, steps=3)(16).float()).all()


class SilentSigmoid(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(line(1.0, 0.0), nn.Sigmoid())

    @torch.no_grad()
    def forward(self, y):
        return self.net(y)


def test_a_sigmoid_without_autograd_is_still_a_sigmoid():
    sampler = TopK(held(nn.Identity(), SilentSigmoid(), torch.zeros(2, 1)))
    assert torch.allclose(sampler._potential(torch.tensor([[0.1], [0.9]])), torch.tensor([-2.1972, 2.1972]), atol=1e-3)


def test_isotonic_odds_never_fall_and_ties_are_one():
    odd = torch.zeros(101)
    odd[1] = 1
    _, odds = isotonic(torch.arange(101.0), odd)
    assert (odds.diff() >= 0).all()
    for seed in range(20):
        dice = torch.Generator().manual_seed(seed)
        real = torch.arange(400) < 200
        _, odds = isotonic(torch.randn(400, generator=dice) + real, real)
        assert (odds.diff() >= 0).all()
    answers, labels = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([0, 0, 1, 1])
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 0, 1]):
        x, odds = isotonic(answers[order], labels[order])
        assert x.tolist() == [1.0, 2.0, 3.0]
        assert [round(value, 2) for value in odds.tolist()] == [-1.1, 0.0, 1.1]


def test_knots_are_read_in_full_precision():
    near = Calibration(
        "isotonic", "mean", knots=(torch.tensor([1.0, 1.001]).double(), torch.tensor([-1.0, 1.0]).double())
    )
    assert torch.isfinite(near(torch.ones(3, 1, dtype=torch.bfloat16))).all()


# -- sequences and folded frames ----------------------------------------------------------------------


class Recurrent(nn.Module):
    """Noise (T, N, 2) to a series (T, N, 3)."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 6), nn.Linear(6, 3)

    def forward(self, z):
        return self.out(self.rnn(z)[0])


class PerStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4), nn.Linear(4, 1)

    def forward(self, y):
        return self.out(self.rnn(y)[0])


@pytest.fixture
def series():
    torch.manual_seed(0)
    return held(Recurrent().eval(), PerStep().eval(), torch.randn(8, 2, 2))


def test_a_sequences_samples_stand_on_its_second_axis(series):
    z = torch.randn(8, 4, 2)
    y = series(z)
    sampler = TopK(series, of=2, loss="hinge")
    sampler._source.begin((((z),), {}))
    answers = sampler._potential(sampler._source.response(y, ((z,), {})))
    assert torch.allclose(answers, series.discriminator(y).mean((0, 2)), atol=1e-6)
    assert sampler(5).shape == (8, 5, 3)


def test_sequences_are_refined_each_by_itself(series):
    z = torch.randn(8, 5, 2)
    for sampler in (
        DOT(series, loss="hinge", steps=4, slope=0.5), DGFlow(series, loss="bce", steps=3, noise=0.0),
        Collaborative(series, layer="out", loss="bce", steps=3),
    ):  # fmt: skip
        together = sampler.refine(z)
        alone = torch.cat([sampler.refine(z[:, i : i + 1]) for i in range(5)], 1)
        assert torch.allclose(together, alone, atol=1e-5), sampler


def test_sequences_are_calibrated(series):
    real = torch.randn(8, 60, 3)
    calibration = fbwrap.calibrate(series, real, samples=40)
    assert DRS(series, calibration=calibration, burn_in=20)(3).shape == (8, 3, 3)
    with pytest.raises(SettingError, match="8 real samples"):
        fbwrap.calibrate(series, torch.randn(60, 8, 3))


class Video(nn.Module):
    """A latent to four frames, folded into the batch."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 4 * 3 * 64)

    def forward(self, z):
        return self.out(z).view(-1, 3, 8, 8)


class OneAVideo(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4 * 3 * 64, 1)

    def forward(self, y):
        return self.out(y.reshape(-1, 4 * 3 * 64))


def test_frames_stay_with_their_video():
    torch.manual_seed(0)
    loop = held(Video(), OneAVideo(), torch.zeros(2, 4))
    assert Plain(loop, batch=4)(6).shape == (24, 3, 8, 8)
    sampler = TopK(loop, of=20, loss="hinge", batch=4)
    try:
        drawn = sampler.draw(6)
    except CriticError:  # D gives fewer answers than rows: refused
        return
    assert torch.allclose(drawn.output, loop(*drawn.args), atol=1e-6)
    assert float(loop.discriminator(drawn.output).mean()) > float(loop.discriminator(loop(torch.randn(200, 4))).mean())


class Repeats(nn.Module):
    def forward(self, z):
        return torch.cat([z, z[:1]])


def test_rows_that_belong_to_nobody_are_refused():
    loop = held(Repeats(), nn.Linear(3, 1), torch.zeros(2, 3))
    with pytest.raises(CriticError, match="cannot be told"):
        Plain(loop)(5)


# -- samplers in samplers ------------------------------------------------------------------------------


def test_what_moves_samples_of_a_loop_takes_no_sampler():
    loop = toy()
    inner = TopK(loop, of=50, loss="bce")
    for made in (DDLS, DGFlow, DOT):
        with pytest.raises(SettingError, match="put it inside"):
            made(inner, loss="bce")
    with pytest.raises(SettingError, match="inside"):
        TopK(Plain(loop), feedback=False, loss="bce")
    with pytest.raises(SettingError, match="sampler that is given"):
        fbwrap.calibrate(inner, torch.randn(40, 2), feedback=False)
    assert not torch.equal(Plain(TopK(loop, of=50, loss="bce"))(6), Plain(loop)(6))


def test_many_samples_are_no_reason_to_give_up():
    loop = toy()
    sampler = DRS(loop, loss="bce", keep=0.25, batch=500)
    assert sampler.refine(torch.randn(9000, 4)).shape == (9000, 2)
    outer = TopK(DRS(loop, loss="bce", keep=0.25), of=4, loss="bce")
    for _ in range(12):
        outer(64)
    assert outer._first.diagnostics["proposed"] < 3000, "of one call"


def test_two_samplers_on_one_inner_sampler_count_for_themselves():
    loop = images()
    inner = Plain(loop)
    outer = [TopK(inner, of=2, loss="bce") for _ in range(2)]
    outer[0](8)
    right, seen = outer[0].cost, []

    def work(sampler):
        for _ in range(10):
            sampler(8)
            seen.append(sampler.cost)

    threads = [threading.Thread(target=work, args=(each,)) for each in outer]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 20
    assert set(seen) == {right}


# -- inputs --------------------------------------------------------------------------------------------


class Guided(nn.Module):
    """A latent and a picture."""

    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(3, 3, 3, padding=1)
        self.noise = nn.Linear(4, 3)
        self.seen = None

    def forward(self, z, picture):
        SEEN.append(float(picture.std()))
        return self.out(picture) + self.noise(z)[:, :, None, None]


SEEN = []


def guided(latents):
    torch.manual_seed(0)
    D = nn.Sequential(nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 8))
    example = (torch.zeros(2, 4), torch.rand(2, 3, 16, 16))
    return held(Guided(), D, example, latents, critic_input="condition_and_output")


@pytest.mark.parametrize("latents", [None, ["normal", "example"]])
def test_pictures_that_are_given_are_what_everything_is_measured_on(latents):
    loop = guided(latents)
    z, flat = torch.randn(6, 4), torch.full((6, 3, 16, 16), 0.3)
    samplers = [DRS(loop, loss="bce", burn_in=12), DOT(loop, loss="bce", steps=2), MHGAN(loop, loss="bce", length=2)]
    SEEN.clear()
    for sampler in samplers:
        assert sampler.refine(z, flat).shape == (6, 3, 16, 16)
    real, given = torch.rand(30, 3, 16, 16), torch.full((30, 3, 16, 16), 0.3)
    calibration = fbwrap.calibrate(loop, real, inputs=(torch.randn(30, 4), given))
    assert calibration(torch.randn(2, 1)).shape == (2,)
    of_the_example = float(loop.facts.example[1 - 1][1].std())
    assert all(std < 1e-6 or std == pytest.approx(of_the_example, abs=1e-6) for std in SEEN), "no drawn picture"
    if latents is None:
        with pytest.raises(SettingError, match="picture cannot be drawn"):
            samplers[0](4)


def test_super_resolution_is_calibrated_on_its_inputs():
    from test_samplers import upscaler

    loop, low = upscaler(), torch.rand(40, 3, 8, 8)
    calibration = fbwrap.calibrate(loop, torch.rand(40, 3, 16, 16), inputs=low)
    assert Collaborative(loop, layer="0", calibration=calibration, steps=2).refine(low[:2]).shape == (2, 3, 16, 16)


def test_one_picture_alone_is_transported_too():
    from test_samplers import upscaler

    loop, low = upscaler(), torch.rand(3, 3, 8, 8)
    sampler = DOT(loop, space="sample", loss="bce", steps=3)
    a = sampler.refine(low[:1])
    sampler.refine(low)
    assert torch.equal(sampler.refine(low[:1]), a), "nothing of an earlier call is left"


def test_slopes_are_measured_in_batches():
    seen = []

    class G(nn.Linear):
        def forward(self, z):
            seen.append(len(z))
            return super().forward(z)

    loop = held(G(4, 2), nn.Linear(2, 1), torch.zeros(2, 4))
    sampler = DOT(loop, loss="bce", batch=4, space="sample")
    sampler(2)
    slope = sampler.slope
    sampler(6)
    assert max(seen) <= 4
    assert sampler.slope == slope


def test_inputs_by_name_where_the_example_has_them_in_place():
    from test_samplers import conditional

    loop = conditional()
    z, y = torch.randn(4, 3), torch.tensor([3, 1, 2, 0])
    wanted = Plain(loop).refine(z, y)
    assert torch.equal(Plain(loop).refine(z, y=y), wanted)
    assert torch.equal(Plain(loop).refine(y=y, z=z), wanted)
    for nothing in (torch.zeros(0, 3),):
        with pytest.raises(SettingError, match="one row or more"):
            Plain(loop).refine(nothing, y[:0])


def test_networks_that_were_moved_after_they_were_attached():
    loop = held(nn.Linear(4, 2), nn.Linear(2, 1), torch.zeros(2, 4))
    loop.generator.double(), loop.discriminator.double()
    for sampler in (TopK(loop, loss="hinge"), DRS(loop, loss="bce", burn_in=10), DOT(loop, loss="hinge", steps=2)):
        assert sampler(3).dtype == torch.float64


def test_settings_first_among_named_inputs():
    class G(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, *, scale, noise):
            return self.out(noise) * scale

    loop = held(
        G(),
        nn.Linear(2, 1),
        {"scale": torch.ones(1), "noise": torch.zeros(3, 4)},
        {"scale": "example", "noise": "normal"},
    )
    assert fbwrap.calibrate(loop, torch.randn(60, 2)).method == "platt"
