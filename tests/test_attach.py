"""What ``attach`` takes: links in every notation, own modules, methods of G, and what it refuses."""

import pytest
import torch
from helpers import clone, stir
from lookalikes import latent
from small import Codec, Tiny, X, pair, tiny_critic
from torch import nn
from zoo import ZOO, Mine, Residual, patch

import fbwrap
from fbwrap import errors
from fbwrap.errors import ExampleError, LayerNotCalledError, SettingError


def test_two_carried_links_on_one_layer_are_refused():
    G, D = pair()
    links = [fbwrap.Link("body.1", module="ast"), fbwrap.Link("body.1", "1", carry=True)]
    with pytest.raises(errors.PairingError, match="Two carried links"):
        fbwrap.attach(G, D, links, example=X)


def test_keyword_inputs_and_number_like_keys():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 3, 1)

        def forward(self, a, *, b):
            return {"0": self.conv(a + b), "1": a}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.two = nn.Conv2d(3, 8, 1), Two()

        def forward(self, x):
            return self.two(self.head(x), b=self.head(x * 2))["0"]

    G, x = Net(), torch.randn(2, 3, 16, 16)
    with pytest.raises(errors.PairingError, match=r"two\[0\].*two\[b\]"):
        fbwrap.attach(G, patch(), [fbwrap.Link("two", "1", at="input")], example=x)
    for link in (fbwrap.Link("two[b]", "1", at="input"), fbwrap.Link("two[0]", "1", at="input"), ("two[0]", "1")):
        loop = stir(fbwrap.attach(G, patch(), [link], example=x))
        assert not torch.equal(loop(x), G(x))


def test_question_marks_leave_out_layers_that_are_not_called():
    G = Residual()
    G.body.append(nn.Conv2d(1, 1, 1))
    forward = G.body.forward
    G.body.forward = lambda x: nn.Sequential(*list(G.body)[:4])(x)
    loop = fbwrap.attach(G, patch(), ["body.?"], example=X)
    assert [str(c.target) for c in loop.connections] == ["body.0", "body.1", "body.2", "body.3"]
    assert forward is not None
    assert clone((X,))[0] is not X


def test_own_module_plain_function_and_bad_shape():
    class Wrong(Mine):
        def forward(self, feature, *signals):
            return self.net(signals[0])[:, :1, :2]

    G, D, args, _ = ZOO["glob"].build()
    loop = fbwrap.attach(G, D, ["body.1"], module=Mine, example=args)
    assert not torch.equal(loop(*args), G(*args))
    with pytest.raises(fbwrap.FbwrapError, match="shape"):
        fbwrap.attach(G, D, ["body.1"], module=Wrong, example=args)(*args)


def test_auto_prefers_equal_sizes():
    _, _, _, loop = ZOO["dcgan_auto"].build()
    assert [(str(c.target), c.sources[0].name) for c in loop.connections] == [("main.2", "4"), ("main.5", "1")] or [
        (c.form.spatial, c.sources[0].form.spatial) for c in loop.connections
    ] == [((4, 4), (4, 4)), ((8, 8), (8, 8))]


def test_the_generator_may_be_a_method():
    from helpers import stir

    torch.manual_seed(0)
    net, D = Codec(), tiny_critic()
    z, x = torch.randn(2, 4, 4, 4), torch.randn(2, 3, 16, 16)
    loop = stir(fbwrap.attach(net, D, [("mid", "1")], example=z, method="decode"))
    plain = net.decode(z)["sample"]
    y = loop(z)["sample"]
    assert not torch.equal(y, plain)
    with loop.installed():
        assert torch.equal(net.decode(z)["sample"], y)
        assert torch.equal(net(x), loop(net.encoder(x))["sample"]), "its own forward decodes with feedback"
        assert torch.equal(torch.utils._pytree.tree_leaves(net.decode(z=z))[0], y)
    assert torch.equal(net.decode(z)["sample"], plain)
    assert "decode" not in vars(net)
    with pytest.raises(LayerNotCalledError, match=r"called mid 2 times this time.*slices or tiles"):
        loop(z, slices=2)
    with pytest.raises(SettingError, match="has no such method"):
        fbwrap.attach(net, D, example=z, method="nonsense")
    with pytest.raises(ExampleError, match="in its method 'decode'"):
        fbwrap.attach(net, D, example=x, method="decode")


def test_a_d_that_cannot_go_on_is_noted_in_the_plan():
    loop = fbwrap.attach(latent.BigGanG(), latent.BigGanD())
    assert "D fails on G's sample after the last layer that a link reads" in str(loop.plan)


def test_a_response_path_ends_at_a_tensor():
    from fbwrap.errors import CriticError

    G, D = Tiny(), tiny_critic()
    loop = fbwrap.attach(G, D, [("grow", "1")], example=torch.randn(2, 4, 1, 1), response="[0]")
    with pytest.raises(CriticError, match="nothing at response"):
        loop.respond(torch.zeros(2, 3, 8, 8), torch.randn(2, 4, 1, 1))


@pytest.mark.parametrize(
    ("last", "span"), [(nn.Tanh(), (-1.0, 1.0)), (nn.Sigmoid(), (0.0, 1.0)), (nn.Identity(), None)]
)
def test_the_range_is_that_of_the_layer_that_ran_last(last, span):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.up, self.last = nn.Linear(8, 128), nn.ConvTranspose2d(8, 3, 4, 2, 1), last
            self.gate = nn.Sigmoid()  # defined last, runs in the midst

        def forward(self, z):
            return self.last(self.up(self.gate(self.fc(z)).view(-1, 8, 4, 4)))

    loop = fbwrap.attach(Gated(), tiny_critic(), [("fc", "1")], example=torch.randn(1, 8))
    found = loop.facts.adapter["value_range"]
    assert (tuple(found) if found else None) == span


def test_explain_takes_modules_and_says_so():
    with pytest.raises(SettingError, match="discriminator='timm:x' is not a"):
        fbwrap.explain(Tiny(), "timm:x")
