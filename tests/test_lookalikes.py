"""What real repositories showed: each network here has one trait of theirs, in a few lines."""

from collections import OrderedDict
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL
from torch import nn

import fbwrap
from fbwrap.errors import CriticError, ExampleError, SettingError


def up(i, o):
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 3, 1, 1), nn.ReLU())


def deconv():
    """16 latents to (N, 3, 32, 32)."""
    return nn.Sequential(
        nn.ConvTranspose2d(16, 32, 4), nn.ReLU(), up(32, 32), up(32, 16), up(16, 8), nn.Conv2d(8, 3, 1)
    ).eval()


def links(loop):
    return [(str(link.target), *(source.name for source in link.sources)) for link in loop.connections]


class Down(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.conv_r = nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), nn.LeakyReLU(0.2))
        self.conv_s = nn.Conv2d(i, o, 1)

    def forward(self, x):
        return self.conv_r(x) + F.avg_pool2d(self.conv_s(x), 2)


class Body(nn.Module):
    """A D that returns its features, as the first half of text-to-image critics does."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Down(3, 8), Down(8, 16), Down(16, 32)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Joint(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Body(), nn.Conv2d(32, 1, 4)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize(("critic", "prefix"), [(Body, ""), (Joint, "body.")])
def test_a_critic_within_a_container_gives_its_blocks(critic, prefix):
    z = torch.randn(2, 16, 1, 1)
    found = [source for _, source in links(fbwrap.attach(deconv(), critic().eval(), example=z))]
    assert found[-2:] == [f"{prefix}blocks.1", f"{prefix}blocks.0"], "not the shortcut inside the next block"


class WritingNorm(nn.Module):
    """Spectral norm that writes through ``.data`` at every call (SAGAN, many SN-GANs)."""

    def __init__(self, module):
        super().__init__()
        self.module, weight = module, module.weight
        del module._parameters["weight"]
        module.weight_u = nn.Parameter(torch.randn(len(weight)), requires_grad=False)
        module.weight_bar = nn.Parameter(weight.data)

    def forward(self, x):
        m = self.module
        w, u = m.weight_bar.flatten(1), m.weight_u
        v = F.normalize(w.data.t() @ u.data, dim=0)
        u.data = F.normalize(w.data @ v, dim=0)
        m.weight = m.weight_bar / (u @ w @ v)
        return m.forward(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(WritingNorm(nn.Conv2d(4, 8, 3, 1, 1)), nn.ReLU())
        self.soft, self.q = nn.Softmax(-1), nn.Conv2d(8, 8, 1)
        self.last = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 3, 1))

    def forward(self, z):
        h = self.a(z)
        q = self.q(h).flatten(2)
        return self.last(h + torch.bmm(q, self.soft(torch.bmm(q.transpose(1, 2), q))).view_as(h))


def test_attach_moves_no_power_iteration():
    G, D = Attention().eval(), nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 4)).eval()
    before = {name: value.clone() for name, value in G.state_dict().items()}
    fbwrap.attach(G, D, example=torch.randn(2, 4, 8, 8)).detach()
    assert all(torch.equal(value, before[name]) for name, value in G.state_dict().items())


class OwnConv(nn.Conv1d):
    pass


def test_older_weight_norm_on_a_subclass_keeps_its_weight():
    conv = nn.utils.weight_norm(OwnConv(4, 4, 3, 1, 1))
    G = nn.Sequential(conv, nn.ReLU(), nn.Conv1d(4, 4, 1), nn.ReLU(), nn.Conv1d(4, 1, 1)).eval()
    D = nn.Sequential(nn.Conv1d(1, 4, 3, 1, 1), nn.ReLU(), nn.Conv1d(4, 1, 3))
    x = torch.randn(1, 4, 32)
    loop = fbwrap.attach(G, D, [("3", "1")], example=x)
    assert loop.plan.replayed
    assert not any("its own attributes" in note for note in loop.plan.notes)
    loop(x)
    loop.detach()
    nn.utils.remove_weight_norm(conv)


class Pyramid(nn.Module):
    """Returns its pictures from small to large (StackGAN, AttnGAN, MSG-GAN)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.ConvTranspose2d(16, 16, 4), up(16, 16), up(16, 8))
        self.b, self.c = up(8, 8), up(8, 8)
        self.to_a, self.to_b, self.to_c = (nn.Conv2d(8, 3, 1) for _ in range(3))

    def forward(self, z):
        a = self.a(z)
        b = self.b(a)
        c = self.c(b)
        return [self.to_a(a), self.to_b(b), self.to_c(c)]


def test_of_a_pyramid_of_pictures_the_largest_is_the_sample():
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 16))
    z = torch.randn(2, 16, 1, 1)
    loop = fbwrap.attach(Pyramid().eval(), D.eval(), example=z)
    assert loop.traces[0].sample_shape == (2, 3, 64, 64)
    assert [target for target, _ in links(loop)] == ["a.0", "a.1", "a", "b"][-len(links(loop)) :]
    assert loop.rollout(z).responses[1].shape[0] == 2
    assert any("3 pictures" in note for note in loop.plan.notes)


class Tuples(nn.Module):
    """Blocks that return two tensors (StyleMelGAN, WaveNet), behind a branch of noise."""

    class Block(nn.Module):
        def __init__(self, n, times):
            super().__init__()
            self.conv, self.times = nn.Conv2d(n, n, 3, 1, 1), times

        def forward(self, x, c):
            x = F.interpolate(x, scale_factor=self.times) if self.times > 1 else x
            c = F.interpolate(c, size=x.shape[2:])
            return (self.conv(x) + c).relu(), c

    def __init__(self):
        super().__init__()
        self.noise = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 4), nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.LeakyReLU(0.2)
        )
        self.blocks = nn.ModuleList([self.Block(8, 2), self.Block(8, 2), self.Block(8, 1)])
        self.out = nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, z, c):
        x = self.noise(z)
        for block in self.blocks:
            x, c = block(x, c)
        return self.out(x)


def critic32():
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 8)
    ).eval()


def test_blocks_that_return_tuples_are_targets():
    z = (torch.randn(2, 8, 1, 1), torch.randn(2, 8, 4, 4))
    loop = fbwrap.attach(Tuples().eval(), critic32(), example=z)
    assert "blocks.0[0]" in [target for target, _ in links(loop)]


class Transfer(nn.Module):
    """A part that returns several maps, the first of one channel (TTSR's relevance)."""

    class Search(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 1, 1)

        def forward(self, x):
            h = self.conv(x)
            return h.mean(1, keepdim=True).sigmoid(), h

    class Main(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(9, 8, 3, 1, 1), up(8, 8), nn.Conv2d(8, 3, 1)
            self.merge = nn.Conv2d(1, 1, 1)

        def forward(self, weight, h):
            h = self.first(torch.cat([h, self.merge(weight)], 1))
            return self.last(F.interpolate(self.second(h.relu()), scale_factor=2))

    def __init__(self):
        super().__init__()
        self.search, self.main = self.Search(), self.Main()

    def forward(self, x):
        return self.main(*self.search(x))


def test_a_map_of_one_channel_among_several_is_no_target():
    found = links(fbwrap.attach(Transfer().eval(), critic32(), example=torch.randn(1, 3, 8, 8)))
    assert [target for target, _ in found] == ["main.first", "main.second"]


class Sequence(nn.Module):
    """An LSTM and a linear layer (RCGAN)."""

    def __init__(self, i, width, o):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(i, width, 2, batch_first=True), nn.Sequential(nn.Linear(width, o), nn.Tanh())

    def forward(self, x):
        h = self.lstm(x)[0]
        return self.linear(h.contiguous().flatten(0, 1)).view(len(x), x.shape[1], -1)


def test_recurrent_networks_attach_and_their_cost_is_counted():
    x = torch.randn(3, 20, 8)
    G, D = Sequence(8, 16, 2).eval(), Sequence(2, 16, 1).eval()
    loop = fbwrap.attach(G, D, example=x)
    assert links(loop) == [("lstm[0]", "lstm[0]")]
    gates = 2 * 4 * 16 * 20 * 3  # multiplications and additions, four gates of 16, 20 steps of 3 samples
    assert loop.traces[0].flops >= gates * ((8 + 16) + (16 + 16))
    assert torch.equal(loop(x), G(x))


def test_not_the_convolution_before_a_pixel_shuffle():
    shuffle = [nn.Conv2d(16, 64, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU()]
    body = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
    tail = nn.Sequential(*shuffle, nn.Conv2d(16, 64, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU())
    parts = {"head": nn.Conv2d(3, 16, 3, 1, 1), "body": body, "up": tail, "tail": nn.Conv2d(16, 3, 3, 1, 1)}
    G = nn.Sequential(OrderedDict(parts)).eval()
    D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 4))
    loop = fbwrap.attach(G, D.eval(), example=torch.randn(1, 3, 16, 16))
    assert [target for target, _ in links(loop)] == ["body", "up.2"]


def test_a_g_that_ends_at_its_inner_resolution_is_corrected_there():
    def block(i, o, stride=1):
        return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1), nn.BatchNorm2d(o), nn.ReLU())

    parts = {"stem": block(3, 8, 2), "layer1": block(8, 16, 2), "layer2": block(16, 32, 2), "layer3": block(32, 32),
             "layer4": block(32, 32), "classifier": nn.Conv2d(32, 5, 1)}  # fmt: skip
    G = nn.Sequential(OrderedDict(parts)).eval()
    D = nn.Sequential(nn.Conv2d(5, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 1, 4))
    how = {"critic_input": lambda y, x: F.interpolate(y, size=64)}
    loop = fbwrap.attach(G, D.eval(), example=torch.randn(1, 3, 64, 64), **how)
    assert [target for target, _ in links(loop)] == ["layer2", "layer3", "layer4"]


class Graph(nn.Module):
    """Two outputs, each with a last layer of its own (MolGAN)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 64), nn.Tanh())
        self.edges, self.nodes = nn.Linear(64, 405), nn.Linear(64, 45)

    def forward(self, z):
        h = self.layers(z)
        return self.edges(h).view(-1, 9, 9, 5), self.nodes(h).view(-1, 9, 5)


class GraphCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(450, 32), nn.Linear(32, 1)

    def forward(self, edges, nodes):
        return self.b(self.a(torch.cat([edges.flatten(1), nodes.flatten(1)], 1)).relu())


def test_the_head_of_a_second_output_is_no_hidden_layer():
    loop = fbwrap.attach(Graph().eval(), GraphCritic().eval(), example=torch.randn(4, 8), critic_input=lambda y, z: y)
    assert [target for target, _ in links(loop)] == ["layers"]


class SharedActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1), nn.Conv2d(16, 1, 8)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        return self.c3(self.act(self.c2(self.act(self.c1(x)))))


class Twice(nn.Module):
    """Returns an answer and, by the same layers, features (CTAB-GAN)."""

    def __init__(self):
        super().__init__()
        layers = list(critic32())
        self.seq, self.seq_info = nn.Sequential(*layers, nn.Sigmoid()), nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.seq(x), self.seq_info(x)


def test_one_activation_for_all_layers_and_layers_that_run_twice():
    z = torch.randn(2, 16, 1, 1)
    shared = links(fbwrap.attach(deconv(), SharedActivation().eval(), example=z))
    assert [source for _, source in shared][-2:] == ["act#1", "act#0"]
    twice = links(fbwrap.attach(deconv(), Twice().eval(), example=z, response="[0]"))
    assert [source for _, source in twice][-2:] == ["seq.3#0", "seq.1#0"]


class Noise(nn.Module):
    def forward(self, x):
        return 1.0 * x


def test_what_stands_before_ds_first_weights_is_no_feature():
    z = torch.randn(2, 16, 1, 1)
    good = nn.Sequential(Noise(), *critic32()).eval()
    assert [source for _, source in links(fbwrap.attach(deconv(), good, example=z))][-2:] == ["4", "2"]
    wrong = nn.Sequential(Noise(), nn.Conv2d(6, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 8)).eval()
    with pytest.raises(CriticError, match="to have 6 channels"):
        fbwrap.attach(deconv(), wrong, example=z)


class TwoParts(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.c, self.d = nn.Conv2d(4, 1, 3, 1, 1), nn.Conv2d(4, 1, 3, stride, 1)

    def forward(self, x):
        h = self.b(self.a(x).relu()).relu()
        return self.c(h), self.d(h)


class TwoPartsCritic(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.a, self.b, self.e = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 1, 8), nn.Conv2d(1, 1, side)

    seen: ClassVar = []

    def forward(self, sample, other):
        self.seen.append(sample.shape == other.shape and torch.equal(sample, other))
        return self.b(self.a(sample).relu()).flatten(1) + self.e(other).flatten(1)


@pytest.mark.parametrize(("stride", "side"), [(1, 16), (2, 8)])
def test_penalties_move_the_sample_and_not_what_stands_beside_it(stride, side):
    """HA-GAN, StackGAN: D is given two parts of G's output."""
    D = TwoPartsCritic(side).eval()
    D.seen.clear()
    example = torch.randn(2, 1, 16, 16)
    loop = fbwrap.attach(TwoParts(stride).eval(), D, ["b"], example=example, critic_input=lambda y, x: (y[0], y[1]))
    recipe = AFL(loop, loss="hinge", batch=2, held_out=0, r1=1.0)
    real = lambda n: (torch.randn(n, 1, 16, 16), torch.randn(n, 1, side, side))
    recipe.fit(real, lambda n: torch.randn(n, 1, 16, 16), 2, progress=False)
    assert D.seen
    assert not any(D.seen)


# -- what the messages propose ------------------------------------------------------------------------
class Basis(nn.Module):
    """A learned map times a linear layer of the latent (R3GAN)."""

    def __init__(self):
        super().__init__()
        self.basis, self.fc = nn.Parameter(torch.randn(1, 8, 4, 4)), nn.Linear(64, 8)
        self.last = nn.Sequential(nn.Upsample(scale_factor=8), nn.Conv2d(8, 3, 3, 1, 1), nn.ReLU())

    def forward(self, z, y=None):
        return self.last(self.basis * self.fc(z)[..., None, None])


@pytest.mark.parametrize(
    ("make", "proposed"),
    [
        (Basis, "torch.randn(1, 64)"),
        (
            lambda: nn.Sequential(nn.ReflectionPad1d(3), nn.Conv1d(80, 8, 7), nn.Conv1d(8, 1, 1)),
            "torch.randn(1, 80, 32)",
        ),
        (
            lambda: nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(7, 8, 7), nn.Conv2d(8, 3, 1)),
            "torch.randn(1, 7, 64, 64)",
        ),
        (lambda: nn.Sequential(nn.ConvTranspose2d(9, 8, 4), nn.ReLU(), nn.Conv2d(8, 3, 1)), "torch.randn(1, 9, 1, 1)"),
    ],
)
def test_the_example_that_is_proposed_runs(make, proposed):
    G = make().eval()
    with pytest.raises(ExampleError) as told:
        fbwrap.attach(G, critic32(), adapter=None)
    assert f"example={proposed}" in str(told.value)
    assert torch.isfinite(G(eval(proposed))).all()


def test_of_several_inputs_the_names_are_said_with_their_defaults():
    class Text(nn.Module):
        def forward(self, z, words, mask=None):
            return z

    with pytest.raises(ExampleError, match=r"takes z, words, mask=None: pass them as a tuple, example=\(z, words\)"):
        fbwrap.attach(Text(), critic32())


class Labelled(nn.Module):
    def __init__(self, optional=False):
        super().__init__()
        self.c, self.emb, self.fc = critic32()[:4], nn.Embedding(5, 16 * 64), nn.Linear(16 * 64, 1)
        self.optional = optional

    def forward(self, x, y):
        h = self.c(x).flatten(1)
        return self.fc(h) + (h * self.emb(y)).sum(1, True)


class MaybeLabelled(Labelled):
    def forward(self, x, y=None):
        h = self.c(x).flatten(1)
        return self.fc(h) if y is None else self.fc(h) + (h * self.emb(y)).sum(1, True)


class Kinds(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.emb = deconv(), nn.Embedding(5, 16)

    def forward(self, z, y):
        return self.net(z + self.emb(y)[..., None, None])


def test_a_way_to_call_d_is_proposed_that_runs(caplog):
    example = (torch.randn(2, 16, 1, 1), torch.tensor([0, 3]))
    with pytest.raises(CriticError, match="D runs with critic_input='output_and_label'"):
        fbwrap.attach(Kinds().eval(), Labelled().eval(), example=example)
    caplog.clear()
    fbwrap.attach(Kinds().eval(), MaybeLabelled().eval(), example=example)
    assert "D's forward also takes y=None" in caplog.text
    assert "its layer emb did not run" in caplog.text
    caplog.clear()
    fbwrap.attach(Kinds().eval(), MaybeLabelled().eval(), example=example, critic_input="output_and_label")
    assert not caplog.text
    G, D = nn.Conv2d(7, 3, 3, 1, 1).eval(), nn.Sequential(nn.Conv2d(10, 4, 4, 2, 1), nn.Conv2d(4, 1, 8)).eval()
    with pytest.raises(CriticError, match="critic_input='condition_and_output' or critic_input='output_and_condition'"):
        fbwrap.attach(G, D, ["0"], example=torch.zeros(1, 7, 16, 16))


def test_of_several_answers_shapes_are_shown_and_a_response_proposed():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.real, self.kind = critic32()[:4], nn.Conv2d(16, 1, 8), nn.Conv2d(16, 5, 8)

        def forward(self, x):
            h = self.c(x)
            return self.kind(h).flatten(1), self.real(h).flatten(1)

    loop = fbwrap.attach(deconv(), Several().eval(), example=torch.randn(2, 16, 1, 1))
    with pytest.raises(CriticError, match=r"\[0\] \(2, 5\), \[1\] \(2, 1\).*Perhaps response='\[1\]'"):
        loop.rollout(torch.randn(2, 16, 1, 1)).responses  # noqa: B018


def test_layers_outside_of_the_module_tree_are_warned_of(caplog):
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.more = nn.Conv2d(3, 8, 4, 2, 1), [nn.Conv2d(8, 8, 3, 1, 1)]
            self.last = nn.Conv2d(8, 1, 16)

        def forward(self, x):
            return self.last(self.more[0](self.first(x)).relu())

    loop = fbwrap.attach(deconv(), Hidden().eval(), example=torch.randn(2, 16, 1, 1))
    assert "D calls layers that are not registered as submodules (Conv2d" in caplog.text
    assert any("not registered as submodules" in note for note in loop.plan.notes)


def test_networks_whose_eval_returns_none_and_critics_that_draw():
    with pytest.raises(SettingError, match=r"eval\(\) of some networks returns None"):
        fbwrap.attach(None, critic32())
    z = torch.randn(2, 16, 1, 1)
    alone = fbwrap.attach(deconv(), None, example=z)
    assert any("no discriminator" in note for note in alone.plan.notes)

    class Augments(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = critic32()

        def forward(self, x):
            return self.net(x + 0.1 * torch.randn_like(x))

    loop = fbwrap.attach(deconv(), Augments().eval(), example=z)
    assert any("D is random in eval mode" in note for note in loop.plan.notes)
