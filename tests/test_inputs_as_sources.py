"""``"conv2:input"``: what a D layer is given, where the activation before it has no module of its own."""

import pytest
import torch
import torch.nn.functional as F
from helpers import stir
from torch import nn
from zoo import Deconv

import fbwrap
from fbwrap.errors import LayerNotFoundError, PairingError

RUN = []  # outside of D: the loop puts back what D keeps


class Functional(nn.Module):
    """Activations in ``forward``, as in SN-GANs and AFL's own code."""

    def __init__(self, in_place=False):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1), nn.Conv2d(6, 1, 4)
        self.in_place = in_place

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.2)
        RUN.append("conv1")
        x = F.leaky_relu(self.conv2(x), 0.2, inplace=self.in_place)
        RUN.append("conv2")
        return self.conv3(x)


class Modules(nn.Module):
    """The same with modules."""

    def __init__(self, other):
        super().__init__()
        self.net = nn.Sequential(
            other.conv1, nn.LeakyReLU(0.2), other.conv2, nn.LeakyReLU(0.2), other.conv3,
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Deconv().eval(), Functional().eval()


Z = torch.randn(3, 6, 1, 1, generator=torch.Generator().manual_seed(2))


def pair_of_loops(G, D, sources, **options):
    loops = []
    for critic, names in ((D, [f"{name}:input" for name in sources]), (Modules(D).eval(), list(sources.values()))):
        torch.manual_seed(1)
        loops.append(stir(fbwrap.attach(G, critic, [fbwrap.Link("main.5", names)], example=Z[:2], **options)))
    loops[1].feedback.load_state_dict(loops[0].feedback.state_dict())
    return loops


@pytest.mark.parametrize("sources", [{"conv2": "net.1"}, {"conv3": "net.3"}, {"conv2": "net.1", "conv3": "net.3"}])
@pytest.mark.parametrize("detach", [True, False])
def test_it_is_the_module_that_is_not_there(nets, sources, detach):
    G, D = nets
    a, b = pair_of_loops(G, D, sources, detach_signals=detach)
    z = Z.clone().requires_grad_()
    for steps in (1, 2):
        ya, yb = (loop.rollout(z, steps=steps).output for loop in (a, b))
        assert torch.equal(ya, yb)
        (ga,), (gb,) = (torch.autograd.grad(y.square().sum(), z) for y in (ya, yb))
        assert torch.equal(ga, gb)
    assert not torch.equal(a(Z), G(Z))


def test_d_stops_before_the_layer_itself(nets):
    G, D = nets
    loop = fbwrap.attach(G, D, [("main.5", "conv2:input")], example=Z[:2])
    RUN.clear()
    stir(loop)(Z)
    assert RUN == ["conv1"]
    assert loop.plan.critic_stops_after == "conv2:input"
    assert 0 < loop.plan.tapped_flops < fbwrap.attach(G, D, [("main.5", "conv2")], example=Z[:2]).plan.tapped_flops
    assert "conv2:input" in str(loop.plan)
    assert loop.connections[0].sources[0].name == "conv2:input"


def test_an_activation_in_place_is_read_before_it_is_overwritten(nets):
    G, _ = nets
    torch.manual_seed(3)
    D = Functional(in_place=True).eval()
    a, b = pair_of_loops(G, D, {"conv3": "net.3"})
    assert torch.equal(a(Z), b(Z))
    torch.manual_seed(1)
    before = stir(fbwrap.attach(G, D, [fbwrap.Link("main.5", "conv2")], example=Z[:2]))
    before.feedback.load_state_dict(a.feedback.state_dict())
    assert not torch.equal(before(Z), a(Z)), "conv2 itself is the value before the activation"


def test_a_head_keeps_it_and_ships_the_layers_before_it_alone(nets, tmp_path):
    G, D = nets
    loop = stir(fbwrap.attach(G, D, [("main.5", "conv2:input")], example=Z[:2]))
    y = loop(Z)
    with torch.no_grad():
        D.conv1.weight.mul_(1.1)
    changed = loop(Z)
    assert not torch.equal(y, changed)
    loop.save_pretrained(tmp_path)
    from safetensors.torch import load_file

    assert {name.split(".")[0] for name in load_file(tmp_path / "discriminator.safetensors")} == {"conv1"}
    loop.detach()
    with torch.no_grad():
        D.conv1.weight.div_(1.1)
    assert torch.allclose(fbwrap.from_pretrained(tmp_path, G, D)(Z), changed, atol=1e-5)


def test_compiled_and_exported_loops_hold_it(nets):
    G, D = nets
    loop = stir(fbwrap.attach(G, D, [("main.5", "conv2:input")], example=Z[:2]))
    D.forward = lambda x: D.conv3(F.leaky_relu(D.conv2(F.leaky_relu(D.conv1(x), 0.2)), 0.2))
    with torch.no_grad():
        assert torch.allclose(loop.export(Z).module()(Z), loop(Z), atol=1e-5)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.joined = nn.Conv2d(3, 4, 4, 2, 1), Joined()

    def forward(self, x):
        h = self.first(x)
        return self.joined(h, skip=h.relu())


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Conv2d(8, 1, 8)

    def forward(self, h, skip):
        return self.out(torch.cat([h, skip], 1))


def test_one_of_several_inputs_has_a_path(nets):
    G, _ = nets
    D = Two().eval()
    with pytest.raises(PairingError, match=r"joined\[skip\]"):
        fbwrap.attach(G, D, [("main.5", "joined:input")], example=Z[:2])
    loop = fbwrap.attach(G, D, [("main.5", "joined[skip]:input"), ("main.2", "joined[0]:input")], example=Z[:2])
    names = {source.name for connection in loop.connections for source in connection.sources}
    assert names == {"joined[skip]:input", "joined[0]:input"}
    assert loop.plan.critic_stops_after == "joined:input"


def test_a_layer_that_is_called_twice_is_counted(nets):
    G, _ = nets

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.same, self.out = nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 1, 8)

        def forward(self, x):
            return self.out(self.same(self.same(self.first(x)).relu()))

    D = Shared().eval()
    loop = stir(fbwrap.attach(G, D, [("main.5", "same#1:input")], example=Z[:2]))
    seen = D.same(D.first(loop.rollout(Z, steps=0).output)).relu()
    with torch.no_grad():
        signals = loop._critic_runner.signals(
            {0: loop.connections[0].sources}, loop.rollout(Z, steps=0).output, (Z,), {}
        )
    assert torch.allclose(signals[0][0], seen)


def test_a_target_may_be_written_so_too(nets):
    G, D = nets
    a = fbwrap.attach(G, D, [("main.3:input", "conv2:input")], example=Z[:2])
    assert a.connections[0].at == "input"
    assert str(a.connections[0].target) == "main.3"


def test_names_that_are_none(nets):
    G, D = nets
    with pytest.raises(LayerNotFoundError, match="conv2"):
        fbwrap.attach(G, D, [("main.5", "conv9:input")], example=Z[:2])
    with pytest.raises(LayerNotFoundError, match="NAME:input"):
        fbwrap.attach(G, D, [("main.5", "conv2[:input")], example=Z[:2])
