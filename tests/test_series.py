"""Time series, trees and transformers: what real repositories of them showed, in a few lines each."""

import math

import pytest
import torch
from fbwrap.recipes import AFL
from helpers import stir
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fbwrap
from fbwrap.errors import LayerNotCalledError


def links(loop):
    return [str(connection) for connection in loop.connections]


class Attention(nn.Module):
    """As in TTS-GAN: the weights are a function's, with dropout as a layer behind it."""

    def __init__(self, width, heads=2):
        super().__init__()
        self.heads, self.qkv, self.att_drop = heads, nn.Linear(width, 3 * width), nn.Dropout(0.5)
        self.projection = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in self.qkv(x).chunk(3, 2))
        weights = self.att_drop((q @ k.transpose(2, 3) / math.sqrt(x.shape[2])).softmax(-1))
        return self.projection((weights @ v).transpose(1, 2).flatten(2))


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return x + self.fn(x)


def encoder(width, depth=3):
    block = lambda: nn.Sequential(Residual(nn.Sequential(nn.LayerNorm(width), Attention(width), nn.Dropout(0.5))))
    return nn.Sequential(*[block() for _ in range(depth)])


class TransformerG(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.blocks, self.deconv = nn.Linear(6, 60 * 8), encoder(8), nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = self.blocks(self.l1(z).unflatten(1, (60, 8)))
        return self.deconv(x.transpose(1, 2)[:, :, None])


class TransformerD(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.blocks, self.head = nn.Linear(3 * 15, 8), encoder(8), nn.Linear(8, 1)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x):
        patches = x[:, :, 0].unflatten(2, (4, 15)).transpose(1, 2).flatten(2)
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(patches)], 1)
        return self.head(self.blocks(x).mean(1))


def test_weights_of_attention_are_no_feature():
    """A 5x5 map of them is nearer in size to 60 points than a sequence of 5 is."""
    z = torch.randn(3, 6)
    with fbwrap.attach(TransformerG().eval(), TransformerD().eval(), example=z) as loop:
        assert links(loop) == ["blocks <- dual <- blocks"]


class Tree(nn.Module):
    """As in TreeGAN: a level is appended to the list that it was given."""

    def __init__(self, width, out, degree, last=False):
        super().__init__()
        self.degree, self.loop = degree, nn.Sequential(nn.Linear(width, 4 * width), nn.Linear(4 * width, out))
        self.leaky_relu, self.last = nn.LeakyReLU(0.2), last

    def forward(self, tree):
        branch = self.loop(self.leaky_relu(tree[-1]).repeat_interleave(self.degree, 1))
        tree.append(branch if self.last else self.leaky_relu(branch))
        return tree


class TreeG(nn.Module):
    def __init__(self):
        super().__init__()
        self.gcn = nn.Sequential(Tree(6, 8, 2), Tree(8, 8, 4), Tree(8, 3, 8, last=True))

    def forward(self, z):
        return self.gcn([z[:, None]])[-1]


class PointsD(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_layers = nn.ModuleList([nn.Conv1d(3, 8, 1), nn.Conv1d(8, 16, 1)])
        self.leaky_relu, self.final_layer = nn.LeakyReLU(0.2), nn.Linear(16, 1)

    def forward(self, points):
        x = points.transpose(1, 2)
        for layer in self.fc_layers:
            x = self.leaky_relu(layer(x))
        return self.final_layer(x.amax(2))


def test_of_a_list_that_grows_the_new_tensor_is_the_feature():
    """And where no layer of D is similar in size, the nearest is taken: 8 nodes, 64 points."""
    z = torch.randn(3, 6)
    G, D = TreeG().eval(), PointsD().eval()
    with fbwrap.attach(G, D, example=z) as loop:
        assert links(loop) == ["gcn.1[2] <- dual <- leaky_relu#1"]
        stir(loop)
        assert not torch.equal(loop(z), G(z))


def test_a_second_name_tells_which_call_of_a_shared_layer_is_meant():
    act = nn.ReLU()
    G = nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4), act, nn.ConvTranspose2d(8, 4, 4, 2, 1), act, nn.ConvTranspose2d(4, 3, 4, 2, 1)
    ).eval()
    leaky = nn.LeakyReLU(0.2)
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), leaky, nn.Conv2d(8, 8, 4, 2, 1), leaky, nn.Conv2d(8, 1, 4)).eval()
    z = torch.randn(2, 6, 1, 1)
    with fbwrap.attach(G, D, [("1", "3"), ("3", "1")], example=z) as loop:
        assert links(loop) == ["1#0 <- dual <- 3#1", "3#1 <- dual <- 1#0"]
        assert [link.form.spatial for link in loop.connections] == [(4, 4), (8, 8)]
        assert [link.sources[0].form.spatial for link in loop.connections] == [(4, 4), (8, 8)]
    for layers in ([(act, "3")], [("1", leaky)]):  # the module itself does not tell
        with pytest.raises(LayerNotCalledError, match="is called 2 times in one pass"):
            fbwrap.attach(G, D, layers, example=z)


class PackedG(nn.Module):
    """As in TimeGAN: sequences are packed, and unpacked before the last layer."""

    def __init__(self, inside=6, hidden=12, outside=5):
        super().__init__()
        self.rnn, self.linear = nn.GRU(inside, hidden, 2, batch_first=True), nn.Linear(hidden, outside)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.linear(out)


def test_where_no_layer_returns_a_feature_what_a_layer_is_given_is_taken():
    G, D, inputs = PackedG().eval(), PackedG(5, 12, 1).eval(), (torch.randn(3, 16, 6), torch.tensor([16, 16, 9]))
    loop = fbwrap.attach(G, D, example=inputs, critic_input=lambda y, x, lengths: (y, lengths))
    assert links(loop) == ["linear:input <- dual <- linear:input"]
    assert "linear:input (12 @ 16 channels last)" in str(loop.plan)
    assert torch.equal(loop(*inputs), G(*inputs))
    stir(loop)
    assert not torch.equal(loop(*inputs), G(*inputs))
    before = [parameter.clone() for parameter in loop.parameters()]
    real = [(torch.randn(8, 16, 5).cumsum(1) * 0.1, torch.full((8,), 16)) for _ in range(4)]  # what D is called with
    AFL(loop, loss="bce", trackers="none", batch=8).fit(
        real, lambda n: (torch.randn(n, 16, 6), torch.full((n,), 16)), 2, progress=False
    )
    assert not all(map(torch.equal, before, loop.parameters()))
