"""``fbwrap.Heads``: several heads on one generator, switched, weighted, in an order."""

import threading

import pytest
import torch
from helpers import same, state, stir
from zoo import Deconv, patch

import fbwrap
from fbwrap.errors import SettingError
from fbwrap.feedback.features import resize

Z = torch.randn(3, 6, 1, 1, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Deconv().eval(), patch().eval(), patch().eval()


@pytest.fixture
def heads(nets):
    G, D, E = nets
    found = fbwrap.Heads(G)
    for name, critic, link in (("low", D, ("main.2", "3")), ("high", E, ("main.5", "1"))):
        found.add(stir(fbwrap.attach(G, critic, [link], example=Z[:1])), name=name)
    return found


@torch.no_grad()
def test_they_act_one_on_top_of_the_other(nets, heads):
    G = nets[0]
    low, high = heads["low"], heads["high"]
    with low.installed(), high.installed():
        expected = G(Z)
    assert torch.equal(heads(Z), expected)
    assert not torch.equal(heads(Z), low(Z))
    assert not torch.equal(heads(Z), high(Z))
    # by hand: the second one's D looks at what G makes with the first, and its correction enters each pass
    signal = high.discriminator[:2](low(Z))

    def correct(module, given, output):
        return output + high.feedback[0](output, resize(signal, tuple(output.shape[2:])))

    handle = G.main[5].register_forward_hook(correct)
    try:
        assert torch.allclose(low(Z), expected, atol=1e-5)
    finally:
        handle.remove()


@torch.no_grad()
def test_one_alone_is_its_loop_and_none_is_g(nets, heads):
    G = nets[0]
    base = G(Z)
    for name in ("low", "high"):
        assert torch.equal(heads.use(name)(Z), heads[name](Z))
    assert torch.equal(heads.use()(Z), base)
    assert torch.equal(heads.use("low", "high", weights={"low": 0.0, "high": 0.0})(Z), base)
    assert torch.equal(G(Z), base), "G itself runs alone outside of a call"


@torch.no_grad()
def test_order_and_weights(heads):
    one, other = heads.use("low", "high")(Z), heads.use("high", "low")(Z)
    assert not torch.equal(one, other)
    half = heads.use("low", weights={"low": 0.5})(Z)
    assert torch.equal(half, heads["low"].rollout(Z, strength=0.5).output)
    heads["low"].strength = 0.5
    assert torch.equal(heads.use("low", weights={"low": 0.5})(Z), heads["low"].rollout(Z, strength=0.25).output)
    each = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(heads.use("low", weights={"low": each})(Z), heads["low"].rollout(Z, strength=0.5 * each).output)
    assert heads["low"].strength == 0.5, "a call changes no head"


@torch.no_grad()
def test_g_itself_within_a_block(nets, heads):
    G = nets[0]
    expected, base = heads(Z), G(Z)
    with heads.installed():
        assert torch.equal(G(Z), expected)
    assert torch.equal(G(Z), base)


def test_networks_are_as_they_were(nets, heads):
    before = state(*nets)
    heads(Z)
    heads.detach()
    assert same(before, state(*nets))
    assert not heads.loops
    assert torch.equal(heads(Z), nets[0](Z))


def test_from_a_folder_and_from_the_hub(nets, heads, hub, tmp_path):
    G, D, _ = nets
    expected = heads.use("low")(Z)
    heads["low"].save_pretrained(tmp_path / "low")
    heads["low"].push_to_hub("me/low", token=hub.token, pictures=[], private=False)
    found = fbwrap.Heads(G)
    found.add(tmp_path / "low", D, name="here")
    found.add("me/low", D, name="there")
    assert torch.equal(found.use("here")(Z), expected)
    assert torch.equal(found.use("there")(Z), expected)


def test_gradients_reach_the_heads_in_use(heads):
    heads.use("low", "high")(Z).square().mean().backward()
    for name in ("low", "high"):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in heads[name].parameters())


def test_other_threads_run_g_alone(nets, heads):
    G = nets[0]
    with torch.no_grad():
        expected, base, found = heads(Z), G(Z), []

        def other():
            with torch.no_grad():
                found.extend(G(Z) for _ in range(30))

        thread = threading.Thread(target=other)
        thread.start()
        ours = [heads(Z) for _ in range(15)]
        thread.join()
    assert all(torch.equal(y, expected) for y in ours)
    assert all(torch.equal(y, base) for y in found)


def test_what_cannot_be_is_said(nets, heads, tmp_path):
    G, D, _ = nets
    loop = fbwrap.attach(G, D, [("main.2", "3")], example=Z)
    with pytest.raises(SettingError, match="'low' already"):
        heads.add(loop, name="low")
    with pytest.raises(SettingError, match="already has its discriminator"):
        heads.add(loop, D, name="third")
    with pytest.raises(SettingError, match="another generator"):
        heads.add(fbwrap.attach(Deconv().eval(), D, [("main.2", "3")], example=Z), name="third")
    with pytest.raises(SettingError, match=r"no head 'third'. There are: 'low', 'high'"):
        heads.use("third")
    with pytest.raises(SettingError, match="named twice"):
        heads.use("low", "low")
    with pytest.raises(SettingError, match="not in use"):
        heads.use("low", weights={"high": 0.5})
    with pytest.raises(SettingError, match=r"no head 'third'"):
        heads.remove("third")
    assert heads.remove("low") is not None
    assert list(heads.weights) == ["high"]
    assert "high: × 1.0" in repr(heads)


def test_a_network_of_another_method(nets):
    class Decoder(Deconv):
        def decode(self, z):
            return self.forward(z)

    G = Decoder().eval()
    heads = fbwrap.Heads(G)
    heads.add(stir(fbwrap.attach(G, nets[1], [("main.2", "3")], example=Z, method="decode")), name="a")
    assert torch.equal(heads(Z), heads["a"](Z))
    with pytest.raises(SettingError, match="the same method"):
        heads.add(fbwrap.attach(G, nets[1], [("main.2", "3")], example=Z), name="b")


@torch.no_grad()
def test_heads_are_exported_together(nets, heads):
    heads["low"].steps = 2
    heads.use("high", "low", weights={"low": 0.5})
    wanted = heads(Z)
    program = heads.export(Z, dynamic=True)
    assert torch.allclose(program.module()(Z), wanted, atol=1e-5)
    more = torch.randn(5, 6, 1, 1)
    assert torch.allclose(program.module()(more), heads(more), atol=1e-5)
    assert torch.equal(heads(Z), wanted)
    one = heads.use("high", "low", weights={"low": 0.0}).export(Z)
    assert len(one.state_dict) < len(program.state_dict), "a head that does not act is no part of it"
    alone = heads.use().export(Z)
    assert torch.allclose(alone.module()(Z), nets[0](Z), atol=1e-6)


def test_nothing_to_export(nets):
    with pytest.raises(SettingError, match="no head yet"):
        fbwrap.Heads(nets[0]).export(Z)
