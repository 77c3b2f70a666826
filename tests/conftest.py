"""A zoo of tiny networks, one hard trait each, and the naive loop written out by hand."""

import os
import random
import socket
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fbwrap
from fbwrap.feedback.features import from_map, resize, to_map

torch.set_num_threads(1)  # tiny networks
DEVICE = os.environ.get("FBWRAP_TEST_DEVICE", "cpu")  # of the zoo: with "cuda" the invariants are those of a GPU
if DEVICE != "cpu":
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
if "FBWRAP_TEST_HUB" not in os.environ:  # where test_hub.py serves, for its subprocesses too
    with socket.socket() as _free:
        _free.bind(("127.0.0.1", 0))
        os.environ["FBWRAP_TEST_HUB"] = f"http://127.0.0.1:{_free.getsockname()[1]}"
os.environ["HF_ENDPOINT"] = os.environ["FBWRAP_TEST_HUB"]  # huggingface_hub reads it once, when it is imported


def _stand_in_for_torchvisions_operators():
    """Beside a CPU torch, the torchvision of PyPI (a CUDA build) fails to import for want of two operators'
    schemas: for the tests, they are declared."""
    try:
        import torchvision
    except ImportError:
        return None
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        return library
    return None


_LIBRARY = _stand_in_for_torchvisions_operators()  # the declarations live as long as it does
if "torchvision" in sys.modules:
    from torchvision.transforms import functional

    # basicsr imports a module that torchvision dropped
    moved = types.ModuleType("torchvision.transforms.functional_tensor")
    moved.rgb_to_grayscale = functional.rgb_to_grayscale
    sys.modules.setdefault(moved.__name__, moved)

collect_ignore_glob = ["cookbook/*"]  # scripts that test_cookbook.py runs


def pytest_addoption(parser):
    parser.addoption("--support", action="store_true", help="write docs/support.md from what the tests find")
    parser.addoption("--networks", type=int, default=300, help="random networks to check (tests/test_random_nets.py)")
    parser.addoption("--seed", type=int, default=0, help="of the first of them")
    parser.addoption("--heads", type=int, default=300, help="mutated heads to load (tests/test_mutated_heads.py)")
    parser.addoption("--calls", type=int, default=60, help="calls in each thread (tests/test_threads.py)")


def pytest_terminal_summary(terminalreporter, config):
    from test_random_nets import ROLLOUTS

    if rollouts := config.stash.get(ROLLOUTS, 0):
        terminalreporter.write_line(f"{rollouts} rollouts of random networks were equal to whole passes by hand")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Fixtures may ask how their test went: ``request.node.rep_call``."""
    report = (yield).get_result()
    setattr(item, f"rep_{report.when}", report)


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


@pytest.fixture(params=ZOO, ids=list(ZOO))
def case(request):
    return ZOO[request.param]


@pytest.fixture
def dcgan():
    return ZOO["dcgan"].build()


# -- helpers ------------------------------------------------------------------------------------------
def clone(tree):
    if isinstance(tree, Tensor):
        return tree.clone()
    return type(tree)(clone(a) for a in tree) if isinstance(tree, list | tuple) else tree


def first(output):
    if isinstance(output, Tensor):
        return output
    return first(next(iter(output.values() if isinstance(output, dict) else output)))


def stir(loop, std=0.3, seed=1):
    """Give every parameter of the head a random value, so that it does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in loop.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, device="cpu") * std)
    return loop


def dice():
    """The state of torch's random numbers, here and on a GPU."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def throw(states):
    """Go back to a state of :func:`dice`."""
    torch.set_rng_state(states[0])
    if states[1]:
        torch.cuda.set_rng_state_all(states[1])


def state(*models):
    """All that must not change: values, modes, requires_grad, hooks, attributes."""
    found = []
    for model in models:
        found += [(k, v.clone()) for k, v in model.state_dict().items()]
        for name, module in model.named_modules():
            counts = (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            found.append((name, module.training, counts, sorted(vars(module))))
        found += [(name, p.requires_grad) for name, p in model.named_parameters()]
    return found


def same(before, after):
    return len(before) == len(after) and all(
        a[0] == b[0] and (torch.equal(a[1], b[1]) if isinstance(a[1], Tensor) else a == b)
        for a, b in zip(before, after, strict=True)
    )


def naive(loop, G, D, args, steps, kwargs=None, strength=1.0):
    """AFL Eq. 3 and FAL Eq. 6–10 by hand, with torch's own hooks, all of G and D anew at each step."""
    kwargs = kwargs or {}
    connections, modules = loop.connections, loop.feedback
    previous, carried = {}, {}
    before, host = dice(), random.getstate()
    start = {k: v.clone() for k, v in G.state_dict().items()}

    def layer(net, name):
        return dict(net.named_modules(remove_duplicate=False))[name]

    def generate(signals, t):
        """One full run of G; ``signals``: per link, or None for the base pass."""
        counts, handles, now = {}, [], {}

        def hook(module, given, output, links, at):
            place = counts.get((module, at), 0)
            counts[module, at] = place + 1
            for i in links:
                c = connections[i]
                if c.site.call == place:
                    output = put(output, c.site.path if at == "output" else (), lambda x, i=i: correct(i, x))
            return output

        def correct(i, x):
            c = connections[i]
            if signals is None:
                previous[i] = x.clone()  # layers behind may write into it
                return x
            base = carried.get(i, x) if c.carry else x
            seen = previous.get(i, x) if c.feature_of == "previous" else base
            phi = to_map(seen, c.form)
            s = signals[i]
            if s is None:
                scale = [a / b for a, b in zip(phi.shape[2:], c.form.spatial, strict=True)]
                s = []
                for form in (q.form for q in c.sources):
                    size = form.spatial
                    if len(size) == len(scale):
                        size = [round(n * f) for n, f in zip(size, scale, strict=True)]
                    s.append(torch.zeros(len(phi), form.channels, *size, dtype=phi.dtype, device=phi.device))
            if getattr(modules[i], "resize_signals", True):
                s = [resize(q, tuple(phi.shape[2:])) for q in s]
            corrected = base + strength * from_map(modules[i](phi, *s), c.form, base)
            now[i] = corrected.clone()
            return corrected

        by_module = {}
        for i, c in enumerate(connections):
            by_module.setdefault((layer(G, c.target.name), c.at), []).append(i)
        for (module, at), links in by_module.items():
            if at == "output":
                handles.append(
                    module.register_forward_hook(lambda m, a, o, links=links: hook(m, a, o, links, "output"))
                )
            else:
                handles.append(
                    module.register_forward_pre_hook(
                        lambda m, a, links=links: (hook(m, a, a[0], links, "input"), *a[1:])
                    )
                )
        throw(before)
        random.setstate(host)
        G.load_state_dict(start)
        try:
            output = (
                getattr(G, loop.method)(*clone(args), **kwargs)
                if loop.method != "forward"
                else G(*clone(args), **kwargs)
            )
        finally:
            for handle in handles:
                handle.remove()
        carried.update(now)
        previous.update(now)
        return output

    def look(output):
        """All of D on an output: every source of every link."""
        values, handles, counts = {}, [], {}
        wanted = {s.name: s for c in connections for s in c.sources if s.ref is not None}

        def grab(module, given, output, mine):
            place = counts.get(module, 0)
            counts[module] = place + 1
            for s in mine:
                if (s.ref.call or 0) == place:
                    value = output
                    for key in s.ref.path:
                        value = value[key]
                    values[s.name] = value.detach().clone()

        by_module = {}
        for s in wanted.values():
            by_module.setdefault(layer(D, s.ref.name), []).append(s)
        for module, mine in by_module.items():
            handles.append(module.register_forward_hook(lambda m, a, o, mine=mine: grab(m, a, o, mine)))
        if D is None:
            return {i: [to_map(first(output).detach(), s.form) for s in c.sources] for i, c in enumerate(connections)}
        shown = output.clone() if isinstance(output, Tensor) else output
        given = loop.critic_input(shown, *args, **kwargs)
        size = getattr(D, "input_size", None)
        if size is not None:
            D.input_size = first(output).shape[2]
        was = [(m, m.training) for m in D.modules()]
        if loop.critic_mode == "eval":
            D.eval()
        kept = {k: v.clone() for k, v in D.state_dict().items()}
        try:
            with torch.no_grad():
                answer = D(*given) if isinstance(given, tuple) else D(given)
            for key in (loop.response or "")[1:-1].split("][") if loop.response else ():
                answer = answer[int(key)]
            if isinstance(answer, Tensor):
                values["response"] = answer.reshape(-1, 1) if answer.dim() < 2 else answer
        except (RuntimeError, TypeError):
            assert set(wanted) <= set(values), "D may only fail behind what is looked at"
        finally:
            values["image"] = first(output).detach()
            if size is not None:
                D.input_size = size
            for handle in handles:
                handle.remove()
            for m, mode in was:
                m.training = mode
            D.load_state_dict(kept)
        return {i: [to_map(values[s.name], s.form) for s in c.sources] for i, c in enumerate(connections)}

    if loop.plan.first == "zeros":
        outputs = [None, generate(dict.fromkeys(range(len(connections))), 1)]
    else:
        outputs = [generate(None, 0)]
    while len(outputs) <= steps:
        outputs.append(generate(look(outputs[-1]), len(outputs)))
    return outputs


def put(tree, path, change):
    if not path:
        return change(tree)
    if isinstance(tree, tuple | list):
        items = list(tree)
        items[path[0]] = put(items[path[0]], path[1:], change)
        return type(tree)(items)
    return {**tree, path[0]: put(tree[path[0]], path[1:], change)}


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Chromium, for the tests of the page."""
    from test_page import CHROMIUM, DRIVER, FLAGS, REQUIRED

    if not REQUIRED:
        pytest.importorskip("selenium")
        pytest.importorskip("gradio")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    assert CHROMIUM, "FBWRAP_BROWSER=required, and there is no Chromium"
    assert DRIVER, "FBWRAP_BROWSER=required, and there is no chromedriver"
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()
