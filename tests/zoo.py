"""A zoo of tiny networks, one hard trait each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from helpers import clone
from torch import nn

import fbwrap

torch.set_num_threads(1)  # tiny networks, and the same bits in every process that imports them


# -- generators ---------------------------------------------------------------------------------------
class Deconv(nn.Module):
    """DCGAN: z (N, 6, 1, 1) → (N, 3, 16, 16), in-place activations."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d, wrap=lambda m: m):
        super().__init__()
        self.main = nn.Sequential(
            wrap(nn.ConvTranspose2d(6, 8, 4, 1, 0)), norm(8), nn.ReLU(True),
            wrap(nn.ConvTranspose2d(8, 8, 4, 2, 1)), norm(8), nn.ReLU(True),
            nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z):
        return self.main(z)


class Functional(nn.Module):
    """Functional activations, a functional long skip, and a functional in-place op on a layer's output."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        a = self.first(x)
        b = F.relu(self.second(a))
        a += 0.5  # after second has seen it, before the skip
        c = self.third(b)
        return torch.tanh(self.last(F.leaky_relu(c, 0.2, inplace=True) + a))


class Entangled(nn.Module):
    """In-place and identity layers on tensors that are used again behind them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1)
        self.act, self.same = nn.ReLU(True), nn.Identity()
        self.block = nn.Sequential(nn.LeakyReLU(0.1, True), nn.Conv2d(6, 6, 1), nn.ReLU(True))

    def forward(self, x):
        h = self.a(x)
        kept, alias = h - 0.5, self.same(h)
        r = self.act(kept)
        h += 1
        t = self.block(h)
        return self.c(self.b(r) + kept + alias + h + t)


class Appending(nn.Module):
    """An encoder that returns one value and leaves others in a list; a hook that does so too."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

        def forward(self, x, seen):
            h = self.a(x)
            seen.append(h)
            return self.b(h)

    def __init__(self):
        super().__init__()
        self.encoder, self.mid, self.out = self.Encoder(), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        seen = []
        h = self.mid(self.encoder(x, seen))
        for other in seen:
            h = h + other
        return self.out(h)


class Restless(nn.Module):
    """Moves a parameter and a buffer in eval mode (a hand-written spectral norm, a running mean)."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.u = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.u.data = 0.9 * self.u.data + 0.1
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        return self.net(x * self.u.sum() / 3 + self.mean)


class InPlaceCritic(nn.Module):
    """Writes into its input."""

    def __init__(self):
        super().__init__()
        self.net = patch()

    def forward(self, x):
        return self.net(x.mul_(0.5))


class SharedActivation(nn.Module):
    """One activation object for all layers, one of them inside a block."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), self.act)
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.late = nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        h = self.act(self.mid(self.block(x)))
        return self.out(self.act(self.late(h)))


class UNetBlock(nn.Module):
    """pix2pix: nested, in place, with a skip by concatenation and dropout."""

    def __init__(self, outer, inner, sub=None, outermost=False):
        super().__init__()
        self.outermost = outermost
        down = [nn.LeakyReLU(0.2, True), nn.Conv2d(outer, inner, 4, 2, 1)]
        up = [nn.ReLU(True), nn.ConvTranspose2d(inner * (2 if sub else 1), outer, 4, 2, 1)]
        if outermost:
            self.model = nn.Sequential(nn.Conv2d(3, inner, 4, 2, 1), sub, nn.ReLU(True),
                                       nn.ConvTranspose2d(2 * inner, 3, 4, 2, 1), nn.Tanh())  # fmt: skip
        elif sub is None:
            self.model = nn.Sequential(*down, *up, nn.BatchNorm2d(outer))
        else:
            self.model = nn.Sequential(*down, sub, *up, nn.Dropout(0.5))

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


def unet():
    return UNetBlock(3, 4, UNetBlock(4, 8, UNetBlock(8, 8)), outermost=True)


class Trees(nn.Module):
    """Layers that return a tuple, a dict and a list; the whole returns a tuple."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)

        def forward(self, x):
            return self.a(x), {"skip": self.b(x), "note": "kept"}

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(4, 5, 3, padding=1)

        def forward(self, x):
            return [self.c(x), x]

    def __init__(self):
        super().__init__()
        self.pair, self.listed = self.Pair(), self.Listed()
        self.out = nn.Conv2d(11, 3, 1)

    def forward(self, x):
        a, more = self.pair(x)
        c, _ = self.listed(a)
        return self.out(torch.cat([c, more["skip"]], 1)), a.mean()


class Conditional(nn.Module):
    """G(z, y) with labels, as a keyword too."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 5)
        self.fc = nn.Linear(6 + 5, 8 * 4 * 4)
        self.up = nn.Sequential(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1))

    def forward(self, z, y=None):
        return self.up(self.fc(torch.cat([z, self.embed(y)], 1)).view(-1, 8, 4, 4))


class Noisy(nn.Module):
    """Dropout that is always on, noise between layers, and noise drawn early but used late."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        h = F.dropout(self.a(x), 0.2, training=True)
        early = torch.randn_like(h)
        h = self.b(self.drop(h)) + torch.randn_like(h)
        h = F.relu(self.c(h))
        return self.out(F.dropout(h, 0.2, training=True) + 0.1 * early)


class Recurrent(nn.Module):
    """One block called three times."""

    def __init__(self):
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(True))

    def forward(self, x):
        h = self.head(x)
        for _ in range(3):
            h = h + self.block(h)
        return self.tail(h)


class Residual(nn.Module):
    """Long skip over in-place blocks, fully convolutional, ×2 (super-resolution)."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.2, True)) for _ in range(4))
        )
        self.tail = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x):
        h = self.head(x)
        return F.pixel_shuffle(self.tail(h + 0.2 * self.body(h)), 2)


class MutatesInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.act, self.a, self.b = nn.ReLU(True), nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x -= 0.25
        return self.b(self.a(self.act(x)))


class Tokens(nn.Module):
    """A transformer generator: (N, 3, 8, 8) → patches → tokens with a class token → image."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2)
        )
        self.head = nn.Linear(8, 12)

    def forward(self, x):
        h = self.patch(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.cls.expand(len(h), -1, -1), h], 1)
        for block in self.block:
            h = h + block(h)
        return F.pixel_shuffle(self.head(h[:, 1:]).transpose(1, 2).unflatten(2, (4, 4)), 2)


def mlp(inside, width, outside):
    first, second = nn.Linear(inside, width), nn.Linear(width, width)
    return nn.Sequential(first, nn.ReLU(True), second, nn.ReLU(True), nn.Linear(width, outside))


# -- discriminators -----------------------------------------------------------------------------------
def patch(inside=3, wrap=lambda m: m, norm=None):
    middle = [norm(8)] if norm else []
    first, second = wrap(nn.Conv2d(inside, 4, 4, 2, 1)), wrap(nn.Conv2d(4, 8, 4, 2, 1))
    act = [nn.LeakyReLU(0.2, True), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(first, act[0], second, *middle, act[1], nn.Conv2d(8, 1, 3, padding=1))


class FixedHead(nn.Module):
    """VGG style: a linear head for 16×16 images only."""

    def __init__(self):
        super().__init__()
        self.features = patch()[:4]
        self.fc = nn.Linear(8 * 4 * 4, 1)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


class MultiScale(nn.Module):
    """pix2pixHD style: a list of lists."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList([patch(), patch()])

    def forward(self, x):
        answers = []
        for net in self.nets:
            answers.append([net[:2](x), net(x)])
            x = F.avg_pool2d(x, 2)
        return answers


class LabelCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2))
        self.embed, self.fc = nn.Embedding(4, 8), nn.Linear(8, 1)

    def forward(self, x, y):
        return torch.sigmoid(self.fc(self.conv(x).mean((2, 3)) + self.embed(y)))


class Noisy1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 6, 5, 2, 2), nn.LeakyReLU(0.2), nn.Conv1d(6, 1, 3, padding=1))

    def forward(self, x):
        return self.net(x)


class Mine(fbwrap.FeedbackModule):
    """Somebody's own feedback module."""

    def __init__(self, feature, *signals):
        super().__init__()
        self.net = nn.Conv2d(signals[0].channels, feature.channels, 1)

    def forward(self, feature, *signals):
        return self.net(signals[0])


# -- cases --------------------------------------------------------------------------------------------
@dataclass
class Case:
    """One pair with its example, links and options."""

    make: Callable[[], tuple[nn.Module, nn.Module]]
    args: Callable[[], tuple[Any, ...]]
    layers: Any
    options: dict[str, Any] = field(default_factory=dict)
    train: bool = False

    def build(self, seed=0, dtype=torch.float32):
        torch.manual_seed(seed)
        G, D = self.make()
        for module in (*G.modules(), *D.modules()):
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
        G, D = G.to(dtype).train(self.train), D.to(dtype).train(self.train)
        args = tuple(a.to(dtype) if a.is_floating_point() else a for a in self.args())
        loop = fbwrap.attach(G, D, self.layers, example=clone(args), **self.options)
        return G, D, args, loop


def z(n=3):
    return (torch.randn(n, 6, 1, 1),)


def image(size=16, n=3, channels=3):
    return (torch.randn(n, channels, size, size),)


OLD_SN = torch.nn.utils.spectral_norm
SN = torch.nn.utils.parametrizations.spectral_norm
WN = torch.nn.utils.parametrizations.weight_norm

ZOO: dict[str, Case] = {
    "dcgan": Case(lambda: (Deconv(), patch(norm=nn.BatchNorm2d)), z, [("main.2", "4"), ("main.5", "1")]),
    "dcgan_auto": Case(lambda: (Deconv(), patch()), z, "auto"),
    "dcgan_train": Case(lambda: (Deconv(), patch(norm=nn.BatchNorm2d)), z, [("main.3", "3")], train=True),
    "inherit": Case(
        lambda: (Deconv(), patch(norm=nn.BatchNorm2d)), z, [("main.3", "3")], {"critic_mode": "inherit"}, True
    ),
    "before_inplace": Case(lambda: (Deconv(), patch()), z, [("main.1", "0"), ("main.4", "2")]),
    "glob": Case(lambda: (Residual(), patch()), lambda: image(8), ["body.*"], {"module": "light"}),
    "functional": Case(lambda: (Functional(), patch()), image, [("third", "2"), ("second", "0")]),
    "appending": Case(lambda: (Appending(), patch()), image, [("mid", "1")], {"steps": 2}),
    "restless": Case(lambda: (Residual(), Restless(patch())), lambda: image(8), [("body.1", "net.1")]),
    "in_place_critic": Case(
        lambda: (Residual(), InPlaceCritic()), lambda: image(8), [("body.1", ["net.1", "image"])], {"steps": 2}
    ),
    "entangled": Case(lambda: (Entangled(), patch()), image, [("b", "1")], {"steps": 2}),
    "entangled_block": Case(lambda: (Entangled(), patch()), image, [("block", "1")], {"steps": 2}),
    "entangled_act": Case(lambda: (Entangled(), patch()), image, [("act", "1")], {"steps": 2}),
    "shared_activation": Case(lambda: (SharedActivation(), patch()), image, [("act#1", "1"), ("act#2", "1")]),
    "shared_block_first": Case(lambda: (SharedActivation(), patch()), image, [("late", "1")]),
    "unet": Case(
        lambda: (unet(), patch(6)), image, [("model.1.model.2", "2")], {"critic_input": "condition_and_output"}
    ),
    "unet_train": Case(
        lambda: (unet(), patch(6)), image, [("model.1.model.4", "0")], {"critic_input": "output_and_condition"}, True
    ),
    "tuple": Case(lambda: (Trees(), patch()), image, [("pair[0]", "1")]),
    "dict": Case(lambda: (Trees(), patch()), image, [("pair[1][skip]", "1")]),
    "list": Case(lambda: (Trees(), patch()), image, [("listed[0]", "1")]),
    "labels": Case(
        lambda: (Conditional(), LabelCritic()),
        lambda: (torch.randn(3, 6), torch.tensor([0, 2, 3])),
        [("up.1", "conv.1")],
        {"critic_input": "output_and_label"},
    ),
    "fixed_head": Case(lambda: (Residual(), FixedHead()), lambda: image(8), [("body.1", "features.3")]),
    "list_of_responses": Case(
        lambda: (Residual(), MultiScale()),
        lambda: image(8),
        [("body.1", ["nets.0.2", "response"])],
        {"response": "[0][1]"},
    ),
    "noise": Case(lambda: (Noisy(), patch()), image, [("c", "1")], {"steps": 2}),
    "noise_early": Case(lambda: (Noisy(), patch()), image, [("b", "1")], {"steps": 2}),
    "noise_train": Case(lambda: (Noisy(), patch()), image, [("drop", "1")], {"steps": 2}, True),
    "old_spectral_norm": Case(
        lambda: (Deconv(wrap=OLD_SN), patch(wrap=OLD_SN)), z, [("main.5", "1")], {"critic_mode": "inherit"}, True
    ),
    "spectral_norm": Case(
        lambda: (Deconv(wrap=SN), patch(wrap=SN)), z, [("main.5", "1")], {"critic_mode": "inherit"}, True
    ),
    "weight_norm": Case(lambda: (Deconv(wrap=WN), patch(wrap=WN)), z, [("main.5", "1")]),
    "reused": Case(lambda: (Recurrent(), patch()), image, [("block#1", "1")]),
    "reused_inside": Case(lambda: (Recurrent(), patch()), image, [("block.0#2", "1")]),
    "input": Case(lambda: (Residual(), patch()), lambda: image(8), [fbwrap.Link("tail", "1", at="input")]),
    "mutates_input": Case(lambda: (MutatesInput(), patch()), image, [("a", "1")], {"steps": 2}),
    "previous": Case(lambda: (Deconv(), patch()), z, [fbwrap.Link("main.2", "4", feature="previous"), "main.5"]),
    "one_dim": Case(
        lambda: (
            nn.Sequential(nn.ConvTranspose1d(6, 8, 8), nn.ReLU(True), nn.ConvTranspose1d(8, 1, 4, 2, 1)),
            Noisy1d(),
        ),
        lambda: (torch.randn(3, 6, 1),),
        ["1"],
    ),
    "three_dim": Case(
        lambda: (
            nn.Sequential(
                nn.ConvTranspose3d(6, 8, 4), nn.BatchNorm3d(8), nn.ReLU(True), nn.ConvTranspose3d(8, 1, 4, 2, 1)
            ),
            nn.Sequential(nn.Conv3d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv3d(4, 1, 4)),
        ),
        lambda: (torch.randn(2, 6, 1, 1, 1),),
        ["2"],
    ),
    "tokens": Case(lambda: (Tokens(), Tokens()), lambda: image(8), [("block.0", "block.1")]),
    "tokens_from_map": Case(lambda: (Tokens(), patch()), lambda: image(8), [("block.0", "1")]),
    "vector": Case(lambda: (mlp(2, 8, 2), mlp(2, 8, 1)), lambda: (torch.randn(5, 2),), [("3", "1")]),
    "ast": Case(lambda: (Residual(), patch()), lambda: image(8), ["body.1"], {"module": "ast", "steps": 3}),
    "ast_from_base": Case(
        lambda: (Residual(), patch()), lambda: image(8), ["body.1"], {"module": "ast", "first": "base", "steps": 2}
    ),
    "film": Case(lambda: (Residual(), patch()), lambda: image(8), ["body.2"], {"module": "film", "steps": 2}),
    "concat": Case(lambda: (Residual(), patch()), lambda: image(8), ["body.2"], {"module": "concat", "steps": 2}),
    "add": Case(lambda: (Residual(), patch()), lambda: image(8), ["body.2"], {"module": "add", "steps": 2}),
}  # fmt: skip
