"""Strength, steps and how D is asked: set on a loop, for a block, for a rollout, per link and per sample."""

import dataclasses

import pytest
import torch
from helpers import stir
from small import X, attach, pair
from zoo import ZOO, Deconv, patch

import fbwrap


def test_handles_stay_good_after_settings_and_rollouts():
    loop = attach(*pair())
    handle = loop[0]
    loop.rollout(X, strength=0.5)
    with loop.settings(strength=0.5):
        pass
    handle.strength = 0.0
    assert loop[0].strength == 0.0
    assert torch.equal(loop(X), loop.generator(X))


def test_rollouts_with_their_own_strength_do_not_touch_the_loops():
    loop = attach(*pair())
    seen = []
    loop.feedback[0].register_forward_hook(lambda *a: seen.append((loop.strength, loop.steps)))
    a = loop.rollout(X, strength=0.2, steps=2).output
    assert seen == [(1.0, 1)] * 2
    with loop.settings(strength=0.2, steps=2):
        assert torch.equal(loop(X), a)


def test_strength_of_one_value_per_sample_in_every_shape():
    G, D, (x,), loop = ZOO["glob"].build()
    stir(loop)
    alpha = torch.tensor([0.0, 1.0, 0.5])
    wanted = loop.rollout(x, strength=alpha).output
    for shape in ((3, 1), (3, 1, 1), (3, 1, 1, 1)):
        assert torch.equal(loop.rollout(x, strength=alpha.reshape(shape)).output, wanted)
    G, D, (z,), loop = ZOO["vector"].build()
    stir(loop)
    half = loop.rollout(z, strength=0.5).output
    assert torch.allclose(loop.rollout(z, strength=torch.full((5, 1, 4, 4), 0.5)).output, half, atol=1e-6)
    assert torch.allclose(loop.rollout(z, strength=torch.full((4, 4), 0.5)).output, half, atol=1e-6)


def test_how_d_is_asked_can_be_set_on_a_loop():
    torch.manual_seed(0)
    z = torch.randn(2, 6, 1, 1)
    loop = stir(fbwrap.attach(Deconv().eval(), patch(), [("main.5", "0")], example=z))
    calls = []

    def twice(output, *args):
        calls.append(len(output))
        return output * 2

    y, ask = loop(z), loop.critic_input
    loop.critic_input = twice
    assert not torch.equal(loop(z), y)
    assert calls
    loop.critic_input = ask
    assert torch.equal(loop(z), y)
    loop.critic_call = dataclasses.replace(loop.critic_call, detach_signals=False)
    assert loop.detach_signals is False
    loop.detach_signals, loop.critic_mode = True, "inherit"
    assert (loop.critic_call.detach_signals, loop.critic_call.mode) == (True, "inherit")
    loop.use_discriminator(patch())
    assert loop.critic_mode == "inherit", "another D is asked in the same way"


def test_strength_per_sample_mask_and_link(sr):
    G, _, (x,), loop = sr
    base, full = G(x), loop(x)
    per_sample = torch.tensor([0.0, 1.0, 0.0])
    with loop.settings(strength=per_sample):
        y = loop(x)
    assert torch.equal(y[0], base[0])
    assert torch.allclose(y[1], full[1], atol=1e-6)
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    with loop.settings(strength={"body.3": 1.0, "body.0": 0.0, "body.1": 0.0, "body.2": 0.0}):
        only = loop(x)
        with loop.settings(strength=mask):
            masked = loop(x)
        with loop.settings(strength=mask[None, None].expand(3, 1, 16, 16)):
            assert torch.allclose(loop(x), masked)
    assert torch.equal(masked[..., :6], base[..., :6]), "nothing far from the mask changes"
    assert torch.allclose(masked[..., 12:], only[..., 12:], atol=1e-6)
    loop["body.1"].strength = 0.5
    assert loop[1].strength == 0.5
    with pytest.raises(RuntimeError), loop.settings(strength=0.1, steps=7):
        with loop.settings(steps=2):
            assert (loop.strength, loop.steps) == (0.1, 2)
        assert loop.steps == 7
        raise RuntimeError
    assert (loop.strength, loop.steps) == (1.0, 1)
