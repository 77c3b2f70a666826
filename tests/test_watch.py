"""Training that does no harm: the loss is D's own, data is looked at first, and a head is compared with its base."""

import logging

import pytest
import torch
from fbwrap.recipes import AFL, FAL, GAN, Pairs, train_discriminator
from fbwrap.recipes.data import Batches
from fbwrap.recipes.metrics import PixelSpace
from fbwrap.recipes.training.steps import Critic
from torch import nn
from zoo import Deconv, Residual, patch

import fbwrap
from fbwrap.errors import SettingError
from fbwrap.recognition.trained_with import loss_of


def latents(n):
    return torch.randn(n, 6, 1, 1)


def images(n=24, seed=0):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).tanh()


def attached(D=None, **how):
    torch.manual_seed(0)
    G = Deconv().eval()
    return fbwrap.attach(G, D or patch(), [("main.5", "1")], example=latents(2), **how)


# -- the loss -----------------------------------------------------------------------------------------
def test_a_loss_that_nobody_knows_is_asked_for():
    loop = attached()
    for recipe in (
        lambda: AFL(loop, batch=4).fit(images(), latents, 1, progress=False),
        lambda: GAN(Deconv(), patch(), batch=4).fit(images(), latents, 1, progress=False),
        lambda: train_discriminator(Deconv(), patch(), images(), latents, 1),
    ):
        with pytest.raises(
            SettingError, match=r"cannot find out which loss D was trained with.*'bce'.*'wasserstein_gp' \(WGAN-GP\)"
        ):
            recipe()
    assert AFL(loop, loss="hinge").options.critic_steps == 2
    assert AFL(loop, loss="wasserstein_gp").options.critic_steps == 5
    assert AFL(loop, loss="wasserstein_gp", critic_steps=1).options.critic_steps == 1


def test_adapters_and_a_last_sigmoid_tell_the_loss():
    def critic(norm):
        net = nn.Module()
        net.model = nn.Sequential(
            nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), norm(16), nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 1, 1), norm(32), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 4, 1, 1),
        )  # fmt: skip
        return net

    assert loss_of(Deconv(), critic(nn.BatchNorm2d)) == "bce", "pix2pix"
    assert loss_of(Deconv(), critic(nn.InstanceNorm2d)) == "least_squares", "CycleGAN"
    assert loss_of(Deconv(), nn.Sequential(nn.Flatten(), nn.Linear(768, 1), nn.Sigmoid())) == "bce"


def test_a_sigmoids_answer_is_read_as_its_logit():
    """The same head from a D that answers with logits and one that answers with probabilities."""
    heads = []
    for ending in (nn.Flatten(), nn.Sequential(nn.Flatten(), nn.Sigmoid())):
        torch.manual_seed(0)
        loop = attached(nn.Sequential(*patch(), ending))
        AFL(loop, loss="bce", batch=4, lr=1e-3).fit(images(), latents, 5, progress=False)
        heads.append(torch.cat([p.detach().flatten() for p in loop.parameters()]))
    torch.testing.assert_close(*heads, rtol=1e-3, atol=1e-5)


# -- data ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("real", "says"),
    [
        ((images() * 127 + 128).to(torch.uint8), r"of type uint8.*\(4, 3, 16, 16\) uint8 from 1 to 254.*127\.5 - 1"),
        (
            images() * 127.5 + 127.5,
            r"outside the range of G's samples, -1 to 1.*what G makes is \(4, 3, 16, 16\) float32",
        ),
        (images()[:, :1], r"1 channels, G's samples 3"),
        (list(images()), r"3 dimensions, G's samples 4.*torch\.stack"),
        ((images(), torch.zeros(24)), r"D fails on this data: TypeError.*sources\.Mapped"),
        ("photos", r"'photos' is text, not data.*data\.Images"),
    ],
)
def test_data_that_d_cannot_take_is_refused_before_the_first_step(real, says):
    loop = attached()
    before = [p.detach().clone() for p in loop.parameters()]
    with pytest.raises(SettingError, match=says) as caught:
        AFL(loop, loss="bce", batch=4).fit(real, latents, 5, progress=False)
    assert len(str(caught.value)) < 400
    assert all(torch.equal(a, b) for a, b in zip(before, loop.parameters(), strict=True))


def test_pixels_of_0_to_255_are_refused_where_the_range_is_not_known_and_not_said():
    pixels, small = images() * 127.5 + 127.5, torch.rand(4, 3, 8, 8)
    loop = fbwrap.attach(Residual(), patch(), [("body.1", "1")], example=small[:2])
    with pytest.raises(SettingError, match=r"looks like pixels from 0 to 255.*value_range=\(0, 255\)"):
        AFL(loop, loss="bce", batch=4).fit(pixels, lambda n: small[:n], 1, progress=False)
    for known in (loop, attached()):  # of the other, an adapter knows the range
        draw = (lambda n: small[:n]) if known is loop else latents
        said = AFL(known, loss="bce", batch=4, value_range=(0.0, 255.0))
        assert said.fit(pixels, draw, 1, progress=False).steps == 1


def test_a_data_loaders_lists_are_tuples():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images()), batch_size=4)
    assert AFL(attached(), loss="bce", batch=4).fit(loader, latents, 2, progress=False).steps == 2


def test_held_out_rows_are_not_trained_on():
    rows = torch.arange(400.0)
    whole = Batches(rows)
    held = whole.hold_out(100)
    seen = {float(v) for _ in range(12) for v in whole.next(50)}
    out = {float(v) for _ in range(4) for v in held.next(50)}
    assert (len(seen), len(out)) == (300, 100)
    assert not seen & out
    few = Batches(rows[:40])
    assert few.hold_out(100) is not None
    assert len({float(v) for v in few.next(40)}) == 40, "too few rows: none is taken away"
    assert Batches(iter([rows])).hold_out(10) is None, "what can be read once is training's"


# -- does the head do harm? ---------------------------------------------------------------------------
def test_the_pixel_space_sees_what_is_nearer():
    real = images(256)
    space = PixelSpace(real)
    near, far = images(256, 1), images(256, 1) * 0.7 + 0.1
    assert space.ratio(far, near) > 1.2
    assert space.ratio(near, near) == 1.0
    assert space.ratio(near * torch.nan, near) == float("inf")
    assert PixelSpace(torch.randn(64, 5)).ratio(torch.zeros(64, 5), torch.randn(64, 5)) > 1


def test_a_head_that_does_nothing_yet_keeps_its_strength():
    loop = attached()
    fit = AFL(loop, loss="bce", batch=4).fit(images(300), latents, 3, progress=False)
    assert loop.strength == 1.0
    assert set(fit.held_out) == {0.1, 0.25, 0.5, 1.0}
    assert all(abs(ratio - 1) < 0.05 for ratio in fit.held_out.values())
    assert loop.facts.trained_on["held_out"]["1.0"] == fit.held_out[1.0]


@pytest.mark.slow
def test_a_run_that_diverges_stops_goes_back_and_says_so(caplog, tmp_path):
    """G's own samples are the real data: the base cannot be bettered, and a head at a mad rate ruins it."""
    torch.manual_seed(0)
    G = Deconv().eval()
    with torch.no_grad():
        real = G(latents(400))
    loop = fbwrap.attach(G, patch(), [("main.2", "3"), ("main.5", "1")], example=latents(2))
    with caplog.at_level(logging.WARNING, "fbwrap"):
        recipe = AFL(loop, loss="wasserstein_gp", batch=8, lr=0.5, critic_steps=1, ema=0.0, decay="none", warmup=0)
        fit = recipe.fit(real, latents, 900, out=tmp_path, progress=False)
    assert "diverged" in fit.stopped
    assert fit.steps < 900
    assert "The head was set back to step" in caplog.text
    z = latents(64)
    space = PixelSpace(real)
    with torch.no_grad():
        assert space.ratio(loop(z), G(z)) <= 1.02
        assert torch.equal(fbwrap.from_pretrained(tmp_path / "head", G, patch())(z), loop(z))


def test_a_head_that_is_worse_at_every_strength_is_kept_at_none(caplog):
    torch.manual_seed(0)
    G = Deconv().eval()
    with torch.no_grad():
        real = G(latents(400))
    loop = fbwrap.attach(G, patch(), [("main.5", "1")], example=latents(2))
    with caplog.at_level(logging.WARNING, "fbwrap"):
        AFL(loop, loss="wasserstein_gp", batch=8, lr=1.0, ema=0.0, warmup=0, r1=0.0).fit(
            real, latents, 6, progress=False
        )
    assert loop.strength == 0
    assert "no gain: the head is worse than the base" in caplog.text
    z = latents(3)
    assert torch.equal(loop(z), G(z))


def test_a_resumed_run_ends_at_the_same_strength(tmp_path):
    def run(steps):
        loop = attached()
        recipe = AFL(loop, loss="bce", batch=4, lr=0.05, decay="none", warmup=1, save_every=3)
        return loop, recipe.fit(images(300), latents, steps, out=tmp_path, resume=True, progress=False)

    run(4)
    loop, fit = run(7)
    again, read = run(7)
    assert not read.trained
    assert "nothing trained in this call" in repr(read)
    assert (again.strength, read.held_out) == (loop.strength, fit.held_out)


def test_without_a_comparison_the_strength_stays():
    loop = attached()
    assert AFL(loop, loss="bce", batch=4, lr=0.5, held_out=0).fit(images(), latents, 3, progress=False).held_out == {}
    assert loop.strength == 1.0
    ast = fbwrap.attach(Deconv(), patch(), ["main.5"], module="ast", steps=2, example=latents(2))
    assert FAL(ast, loss="hinge", batch=4).fit(images(), latents, 2, progress=False).held_out == {}, "G learns too"


# -- the mode of G ------------------------------------------------------------------------------------
def test_a_g_in_another_mode_than_the_heads_is_said_once(caplog, tmp_path):
    loop = attached()
    G = loop.generator
    AFL(loop, loss="bce", batch=4).fit(images(), latents, 2, progress=False)
    loop.save_pretrained(tmp_path)
    loop(latents(2))
    assert not [each for each in caplog.messages if "G.eval()" in each]
    G.train()
    statistics = {name: value.clone() for name, value in G.state_dict().items()}
    for _ in range(2):
        loop(latents(2))
    told = [
        each for each in caplog.messages if "G is in train mode, and this head was trained with G in eval mode" in each
    ]
    assert len(told) == 1
    assert told[0].endswith("add G.eval().")
    assert G.training, "a user's mode is the user's"
    assert all(torch.equal(value, statistics[name]) for name, value in G.state_dict().items()), "no statistic moves"
    loop.detach()
    caplog.clear()
    again = fbwrap.from_pretrained(tmp_path, G, patch())
    again(latents(2))
    assert "add G.eval()" in caplog.text


def test_a_head_may_be_trained_with_g_in_train_mode(caplog):
    loop = attached()
    AFL(loop, loss="bce", batch=4, generator_mode="train").fit(images(), latents, 2, progress=False)
    assert not loop.generator.training
    loop(latents(2))
    assert "this head was trained with G in train mode" in caplog.text
    with pytest.raises(SettingError, match="pass 'train' or 'eval'"):
        AFL(loop, loss="bce", generator_mode="both")


# -- context -------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_training_within_inference_mode_and_no_grad(mode):
    torch.manual_seed(0)
    G, D = Deconv().eval(), patch()
    with mode():
        loop = fbwrap.attach(G, D, [("main.5", "1")], example=latents(2))
        before = [p.detach().clone() for p in loop.parameters()]
        fit = AFL(loop, loss="bce", batch=4, lr=1e-2).fit(images().clone(), latents, 3, progress=False)
    assert fit.steps == 3
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.parameters(), strict=True))
    with torch.inference_mode():
        loop = fbwrap.attach(Deconv(), D, [("main.5", "1")], example=latents(2))
    with pytest.raises(SettingError, match=r"G's weights were made within torch\.inference_mode.*Make it outside"):
        AFL(loop, loss="bce")


def test_penalties_are_of_all_places_of_the_sample():
    """D(y, y), as HiFi-GAN's is called: the gradient flows through both."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 4, 3)

        def forward(self, y, made):
            return self.c(y).relu().mean((1, 2, 3)), self.c(made).relu().mean((1, 2, 3))

    torch.manual_seed(0)
    loop = fbwrap.attach(
        Deconv().eval(), Both(), [("main.5", "c#1")], example=latents(2), critic_input="output_twice", response="[1]"
    )
    real = images()
    assert AFL(loop, loss="least_squares", batch=4).fit((real, real), latents, 2, progress=False).steps == 2
    critic = Critic(Both(), loop.critic_input, "[1]")
    y = images(2)
    given = critic.on_output(y, (), {})
    x = y.clone().requires_grad_()
    critic.on_sample(given, x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_recipes_and_results_have_short_reprs():
    loop = attached()
    recipe = AFL(loop, loss="bce", batch=4)
    assert repr(recipe) == "AFL(1 link(s), T = 1, loss='bce', batch=4, critic_steps=2)"
    assert repr(GAN(Deconv(), patch(), loss="hinge")) == "GAN(loss='hinge', critic_steps=1)"
    assert len(repr(recipe.fit(images(), latents, 2, progress=False))) < 120


def test_pairs_are_compared_on_held_out_pairs():
    from zoo import Residual

    torch.manual_seed(0)
    x = torch.randn(300, 3, 8, 8).tanh()
    loop = fbwrap.attach(Residual().eval(), patch(), [("body.1", "1")], example=x[:2])
    fit = AFL(loop, loss="bce", batch=4, reconstruction=1.0).fit(Pairs(x, images(300)), steps=2, progress=False)
    assert fit.held_out


# -- what a run says of its data ----------------------------------------------------------------------
def test_latents_as_a_description_are_drawn_and_kept(tmp_path):
    loop = attached()
    seen = []
    loop.generator.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    AFL(loop, loss="bce", batch=4).fit(images(), "uniform:-1:1", 2, out=tmp_path, progress=False)
    assert loop.latents == "uniform:-1:1"
    assert all(z.abs().max() <= 1 for z in seen)
    again = fbwrap.from_pretrained(tmp_path / "head", loop.generator, patch())
    assert again.latents == "uniform:-1:1"
    assert AFL(again, loss="bce", batch=4).fit(images(), steps=2, progress=False).steps == 2, (
        "as the loop's latents say"
    )


def test_other_data_on_resume_is_told(tmp_path, caplog):
    def run(real, steps):
        AFL(attached(), loss="bce", batch=4, decay="none", warmup=1).fit(
            real, latents, steps, out=tmp_path, resume=True, progress=False
        )

    run(images(), 2)
    run(images(), 3)
    assert "other data" not in caplog.text
    run(images(seed=1), 4)
    assert "The run goes on with other data: it was (24, 3, 16, 16) float32 beginning" in caplog.text


def test_a_preview_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fbwrap.recipes.afl.save_grid", full)
    recipe = AFL(attached(), loss="bce", batch=4, save_every=1)
    assert recipe.fit(images(), latents, 3, out=tmp_path, progress=False).steps == 3
    assert "could not be written (" in caplog.text
