"""Property-based: random small generators, random links, against the naive computation by hand."""

import torch
from conftest import first, naive, patch, stir
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fbwrap


class Random(nn.Module):
    """A chain of layers with random kinds, in-place ops, shared modules and skips."""

    def __init__(self, kinds, skips, shared):
        super().__init__()
        act = nn.ReLU(inplace=True)
        make = {
            "conv": lambda: nn.Conv2d(6, 6, 3, padding=1),
            "relu": lambda: act if shared else nn.ReLU(inplace=True),
            "norm": lambda: nn.BatchNorm2d(6),
            "drop": lambda: nn.Dropout(0.4),
            "block": lambda: nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), act if shared else nn.ReLU(True)),
            "identity": nn.Identity,
        }
        layers = [make[kind]() for kind in kinds]
        self.head, self.body, self.tail = nn.Conv2d(3, 6, 3, padding=1), nn.ModuleList(layers), nn.Conv2d(6, 3, 1)
        self.skips = skips

    def forward(self, x):
        h = self.head(x)
        kept = [h]
        for place, layer in enumerate(self.body):
            h = layer(h)
            if self.skips[place] < len(kept):
                h = h + kept[self.skips[place]]
            kept.append(h)
        return self.tail(h)


KINDS = st.sampled_from(["conv", "relu", "norm", "drop", "block", "identity"])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_net_any_links(data):
    kinds = data.draw(st.lists(KINDS, min_size=2, max_size=7), label="kinds")
    skips = [data.draw(st.integers(0, 9), label="skip") for _ in kinds]
    shared, train = data.draw(st.booleans(), label="shared"), data.draw(st.booleans(), label="train")
    torch.manual_seed(data.draw(st.integers(0, 9), label="seed"))
    G, D = Random(kinds, skips, shared).train(train), patch()
    x = torch.randn(2, 3, 8, 8)
    table = {row.name: row for row in fbwrap.layers(G, x)}
    names = [n for n, row in table.items() if n not in ("body", "tail") and row.shapes != ("(not called)",)]
    targets = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True), label="targets")
    links = []
    for name in targets:
        calls = len(table[name].shapes)
        which = f"#{data.draw(st.integers(0, calls - 1), label='call')}" if calls > 1 else ""
        kind = data.draw(st.sampled_from(["basic", "dual", "light", "ast"]), label="module")
        at = data.draw(st.sampled_from(["output", "output", "input"]), label="at")
        source = None if kind == "ast" else data.draw(st.sampled_from(["0", "1", "3", "response", "image"]))
        feature = data.draw(st.sampled_from(["current", "previous"]))
        links.append(fbwrap.Link(name + which, source, module=kind, feature=feature, at=at))
    loop = stir(fbwrap.attach(G, D, links, example=x, first=data.draw(st.sampled_from(["base", "zeros"]))))
    steps = data.draw(st.integers(1, 3), label="steps")
    torch.manual_seed(3)
    start = {k: v.clone() for k, v in G.named_buffers()}
    expected = naive(loop, G, D, (x,), steps)
    for k, v in G.named_buffers():
        v.copy_(start[k])
    torch.manual_seed(3)
    got = loop.rollout(x, steps=steps).outputs
    for t in range(1, steps + 1):
        assert torch.equal(first(got[t]), first(expected[t])), f"y_{t} of {links}"
