"""What drawn inputs tell of their distribution, and heads that keep it."""

import pytest
import torch
import torch.nn.functional as F
from fbwrap.recipes import AFL
from zoo import Deconv, patch

import fbwrap
from fbwrap.feedback.seen_latents import seen_in

DRAWS = {
    "normal": (lambda n: torch.randn(n, 16), "normal"),
    "maps": (lambda n: torch.randn(n, 8, 1, 1), "normal"),
    "uniform": (lambda n: torch.rand(n, 16) * 2 - 1, "uniform:-1:1"),
    "from 0 to 1": (lambda n: torch.rand(n, 16), "uniform:0:1"),
    "half precision": (lambda n: torch.randn(n, 64).half(), "normal"),
    "wider": (lambda n: 1.2 * torch.randn(n, 16), None),
    "moved": (lambda n: 0.1 + torch.randn(n, 16), None),
    "truncated": (lambda n: torch.nn.init.trunc_normal_(torch.empty(n, 16)), None),
    "on a sphere": (lambda n: 4 * F.normalize(torch.randn(n, 16)), None),
    "one number a sample": (lambda n: torch.randn(n, 1).expand(-1, 16), None),
    "signs": (lambda n: torch.randn(n, 16).sign(), None),
    "uniform to 2": (lambda n: 2 * torch.rand(n, 16), None),
    "constant": (lambda n: torch.zeros(n, 16), None),
    "labels": (lambda n: (torch.randn(n, 16), torch.randint(0, 10, (n,))), ["normal", "labels:0:9"]),
    "rare labels": (lambda n: (torch.randn(n, 16), (torch.rand(n) < 0.1).long()), None),
    "by name": (
        lambda n: {"z": torch.randn(n, 16), "y": torch.randint(3, 6, (n,))}, {"z": "normal", "y": "labels:3:5"}
    ),
    "a number beside": (lambda n: (torch.randn(n, 16), 0.7), None),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_what_is_drawn_tells_its_distribution_or_nothing(name):
    draw, wanted = DRAWS[name]
    for seed in range(5):
        torch.manual_seed(seed)
        drawn = draw(1000)
        args = () if isinstance(drawn, dict) else drawn if isinstance(drawn, tuple) else (drawn,)
        assert seen_in(args, drawn if isinstance(drawn, dict) else {}) == wanted
    assert seen_in((torch.randn(20, 4),), {}) is None, "too few"


def test_a_head_keeps_what_a_function_drew(tmp_path):
    torch.manual_seed(0)
    G, D = Deconv().eval(), patch().eval()
    real, asked = torch.rand(64, 3, 16, 16), []

    def latents(n):
        asked.append(n)
        return torch.rand(n, 6, 1, 1) * 2 - 1

    loop = fbwrap.attach(G, D, [("main.5", "0")], example=latents(2))
    AFL(loop, loss="bce", trackers="none", batch=8, held_out=0).fit(real, latents, 1, progress=False)
    assert loop.latents == "uniform:-1:1"
    loop.latents = "normal"
    AFL(loop, loss="bce", trackers="none", batch=8, held_out=0).fit(real, latents, 1, progress=False)
    assert loop.latents == "normal", "what a user said stays"
