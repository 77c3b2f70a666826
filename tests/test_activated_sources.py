"""``layers="auto"`` takes D's activation after its nonlinearity, also where no layer is that nonlinearity."""

import pytest
import torch
import torch.nn.functional as F
from helpers import stir
from torch import Tensor, nn

import fbwrap
from fbwrap.engine.activations import is_activation
from fbwrap.feedback.links import Link


class Critic(nn.Module):
    """Two stages; the nonlinearity stands in ``forward``."""

    def __init__(self, act, last=None) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 4, 2, 1), nn.Conv2d(6, 8, 4, 2, 1)
        self.conv3 = nn.Conv2d(8, 1, 4)
        self.act, self.last = act, last or act

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.last(self.conv2(self.act(self.conv1(x))))).flatten(1)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.ConvTranspose2d(5, 8, 4), nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.c = nn.ConvTranspose2d(6, 3, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.c(F.relu(self.b(F.relu(self.a(z))))))


def sources_of(D: nn.Module) -> list[str]:
    with fbwrap.attach(Generator(), D, "auto", example=torch.randn(2, 5, 1, 1)) as loop:
        return [source.name for link in loop.connections for source in link.sources]


ACTIVATIONS = {
    "relu": F.relu,
    "leaky": lambda x: F.leaky_relu(x, 0.2),
    "in place": lambda x: F.leaky_relu(x, 0.1, inplace=True),
    "with a gain": lambda x: F.leaky_relu(x, 0.2) * 2**0.5,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_the_next_layers_input_is_taken_where_no_layer_is_the_nonlinearity(act):
    assert sources_of(Critic(act)) == ["conv3:input", "conv2:input"]


OTHERS = {
    "none": lambda x: x,
    "a gain": lambda x: 2 * x,
    "a bias": lambda x: x + 1,
    "noise": lambda x: x + torch.randn_like(x),
    "a square": torch.square,
    "a pool of the same size": lambda x: F.max_pool2d(x, 3, 1, 1),
    "a norm": lambda x: F.relu(F.layer_norm(x, x.shape[1:])),
    "dropout in eval": lambda x: F.dropout(x, training=False),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_no_nonlinearity_of_the_layer_is_not_taken_for_one(other):
    assert sources_of(Critic(other)) == ["conv2", "conv1"]


class Flat(nn.Module):
    """Ends in a linear layer, as SN-GAN's and AFL's own D for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 4, 2, 1), nn.Conv2d(6, 8, 4, 2, 1), nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv2(F.relu(self.conv1(x)))).view(-1, 128))


def test_a_map_that_is_flattened_is_a_map(tmp_path):
    G, D, z = Generator().eval(), Flat().eval(), torch.randn(2, 5, 1, 1)
    assert sources_of(D) == ["fc:input", "conv2:input"]
    layers = nn.Sequential(D.conv1, nn.ReLU(), D.conv2, nn.ReLU(), nn.Flatten(), D.fc).eval()
    outputs = []
    for critic in (D, layers):
        torch.manual_seed(1)
        with fbwrap.attach(G, critic, "auto", example=z) as loop:
            assert [str(link.sources[0].form.spatial) for link in loop.connections] == ["(4, 4)", "(8, 8)"]
            outputs.append(stir(loop)(z))
            loop.save_pretrained(tmp_path / type(critic).__name__)
    assert torch.equal(*outputs)
    with fbwrap.from_pretrained(tmp_path / "Flat", G, D) as loop:
        assert torch.equal(loop(z), outputs[0])


def test_each_stage_is_told_apart_alone():
    assert sources_of(Critic(F.relu, last=lambda x: x)) == ["conv2", "conv2:input"]


def test_a_nonlinearity_that_is_a_layer_keeps_its_own_name():
    assert sources_of(Critic(nn.LeakyReLU(0.2), last=nn.ReLU())) == ["last", "act"]


def test_a_source_without_a_name_is_found_in_the_same_way():
    with fbwrap.attach(Generator(), Critic(F.relu), [Link("b")], example=torch.randn(2, 5, 1, 1)) as loop:
        assert str(loop.connections[0]) == "b <- dual <- conv2:input"


def test_what_feedback_sees_is_the_value_after():
    G, D, z = Generator().eval(), Critic(F.relu).eval(), torch.randn(2, 5, 1, 1)
    layers = nn.Sequential(D.conv1, nn.ReLU(), D.conv2, nn.ReLU(), D.conv3).eval()
    outputs = []
    for critic in (D, layers):
        torch.manual_seed(1)
        with fbwrap.attach(G, critic, "auto", example=z) as loop:
            outputs.append(stir(loop)(z))
    assert torch.equal(*outputs)


def test_the_plan_says_it():
    with fbwrap.attach(Generator(), Critic(F.relu), "auto", example=torch.randn(2, 5, 1, 1)) as loop:
        assert "conv2:input is the output of conv1 after its activation" in str(loop.plan)


def test_residual_blocks_stay_whole():
    class Block(nn.Module):
        def __init__(self, i: int, o: int) -> None:
            super().__init__()
            self.a, self.b, self.skip = nn.Conv2d(i, o, 3, 1, 1), nn.Conv2d(o, o, 3, 1, 1), nn.Conv2d(i, o, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(self.b(F.relu(self.a(F.relu(x)))) + self.skip(x), 2)

    D = nn.Sequential(Block(3, 6), Block(6, 8), nn.Flatten(), nn.Linear(128, 1))
    assert sources_of(D) == ["1", "0"]


def test_a_head_finds_its_source_again(tmp_path):
    G, D, z = Generator().eval(), Critic(F.relu).eval(), torch.randn(2, 5, 1, 1)
    with fbwrap.attach(G, D, "auto", example=z) as loop:
        expected = stir(loop)(z)
        loop.save_pretrained(tmp_path / "head")
    with fbwrap.from_pretrained(tmp_path / "head", G, D) as loop:
        assert torch.equal(loop(z), expected)


@pytest.mark.parametrize("value", [torch.ones(3, 4), torch.zeros(3, 4), -torch.ones(3, 4), torch.randn(0, 4)])
def test_nothing_is_said_of_values_of_one_side(value):
    assert not is_activation(torch.relu(value), value)


def test_nothing_is_said_of_values_that_are_not_finite():
    value = torch.tensor([-1.0, 2.0, float("inf")])
    assert not is_activation(torch.relu(value), value)
