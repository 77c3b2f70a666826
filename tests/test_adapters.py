"""The support matrix: every family attaches without help, exactly, learns, and round-trips."""

import copy
import random

import pytest
import torch
from families import FAMILIES
from helpers import clone, first, same, state, stir
from naive import naive
from support import CHECKS, render, row_of, support_page
from torch import nn

import fbwrap

RESULTS: dict[str, set[str]] = {}
ROWS: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module", params=FAMILIES, ids=list(FAMILIES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def untouched(name):
    """One loop for the checks that change nothing."""
    return attached(name)


def attached(name, **more):
    """G's network, D, the loop, and inputs other than those of the example."""
    entry = FAMILIES[name]
    held, net, critic = entry.build()
    loop = fbwrap.attach(held, critic, **{**entry.options, **more})
    args, kwargs = loop.facts.example
    assert not kwargs
    return net, loop.discriminator, loop, other(args)


def other(tree, seed=5):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(tree, torch.Tensor):
        return torch.rand(tree.shape, generator=generator) if tree.is_floating_point() else tree
    return type(tree)(other(item) for item in tree) if isinstance(tree, list | tuple) else tree


def seeded(function, *args, seed=3):
    torch.manual_seed(seed)
    random.seed(seed)
    with torch.no_grad():
        return function(*args)


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [leaf for item in items for leaf in leaves(item)]


def equal(a, b):
    a, b = leaves(a), leaves(b)
    return len(a) == len(b) > 0 and all(map(torch.equal, a, b))


def plain_attributes(parts):
    """Numbers and flags that modules hold, such as the one height that D takes."""
    return [
        (name, key, value)
        for part in parts
        for name, module in part.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, int | str | tuple)
    ]


def plain(net, loop):
    return getattr(net, loop.method) if loop.method != "forward" else net


@pytest.fixture
def passed(name, request):
    """Notes in the matrix that this check passed."""
    yield
    check = request.node.originalname.removeprefix("test_")
    if request.node.rep_call.passed:
        RESULTS.setdefault(name, set()).add(check)


def test_recognised(name, untouched, passed):
    entry, loop = FAMILIES[name], untouched[2]
    facts = loop.facts.adapter
    assert (facts["generator"], facts["discriminator"]) == (entry.generator, entry.critic)
    if entry.links is not None:
        assert [str(c) for c in loop.connections] == entry.links
    ROWS[name] = row_of(entry, loop)


def test_identity(untouched, passed):
    net, _, loop, args = untouched
    assert equal(seeded(loop, *clone(args)), seeded(plain(net, loop), *clone(args)))
    assert equal(
        seeded(lambda *a: loop.rollout(*a, steps=0).output, *clone(args)), seeded(plain(net, loop), *clone(args))
    )


def test_exact(name, passed):
    """Replay and early exit give what all of G and D anew give, bit for bit; and the head does something."""
    net, D, loop, args = attached(name)
    stir(loop, FAMILIES[name].std)
    loop.eval()
    base = seeded(plain(net, loop), *clone(args))
    ours = seeded(lambda *a: loop.rollout(*a, steps=2).outputs, *clone(args))
    torch.manual_seed(3)
    random.seed(3)
    with torch.no_grad():
        theirs = naive(loop, net, D, args, 2)
    for mine, hand in zip(ours[1:], theirs[1:], strict=True):
        assert equal(mine, hand)
        assert torch.isfinite(first(mine)).all()
    assert not equal(ours[-1], base)


def test_detach(name, passed):
    entry = FAMILIES[name]
    held, net, critic = entry.build()
    loop = fbwrap.attach(held, critic, **entry.options)
    args = other(loop.facts.example[0])
    parts = [part for part in (net, loop.discriminator) if part is not None]
    before, expected = [*state(*parts), *plain_attributes(parts)], seeded(plain(net, loop), *clone(args))
    stir(loop, entry.std)
    seeded(loop, *clone(args))
    loop.install()
    assert not equal(seeded(plain(net, loop), *clone(args)), expected), "installed: G itself runs the loop"
    loop.detach()
    assert same(before, [*state(*parts), *plain_attributes(parts)])
    assert equal(seeded(plain(net, loop), *clone(args)), expected)


def test_trains(name, passed):
    """One optimizer step on G's output moves the head, and nothing else."""
    net, D, loop, args = attached(name)
    net.requires_grad_(False)
    judged = state(D) if D is not None else []
    before = [p.clone() for p in loop.parameters()]
    optimizer = torch.optim.Adam(loop.parameters(), 1e-3)
    loop.train()
    many = tuple(torch.cat([a, a]) if isinstance(a, torch.Tensor) else a for a in args)
    for _ in range(3):  # zero-started: the first step moves only the last layer
        optimizer.zero_grad()
        first(loop(*clone(many))).square().mean().backward()
        optimizer.step()
    grads = [p.grad for p in loop.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(g).all() for g in grads)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, loop.parameters(), strict=True))
    assert moved > len(before) // 2
    assert all(p.grad is None for p in net.parameters())
    assert same(judged, state(D) if D is not None else [])


def test_round_trip(name, passed, tmp_path):
    entry = FAMILIES[name]
    net, _, loop, args = attached(name)
    stir(loop, entry.std)
    loop.save_pretrained(tmp_path / "head")
    held, _, critic = entry.build()
    own = entry.options.get("critic_input")  # a function is no part of a head
    how = {"critic_input": own} if callable(own) else {}
    again = fbwrap.from_pretrained(tmp_path / "head", held, None if isinstance(critic, str) else critic, **how)
    assert [str(c) for c in again.connections] == [str(c) for c in loop.connections]
    assert again.method == loop.method
    assert again.facts.adapter == loop.facts.adapter
    assert equal(seeded(again, *clone(args)), seeded(loop, *clone(args)))


def test_cost(untouched, passed):
    plan = untouched[2].plan
    assert "naive" in str(plan)
    for steps in (1, 2, 3):
        assert plan.generator_flops < plan.flops(steps) <= plan.flops(steps, naive=True)


def test_the_support_page_is_what_these_tests_found(request):
    """docs/support.md is written by ``pytest tests/test_adapters.py --support``; here it is compared."""
    page = render({name: row for name, row in ROWS.items() if set(CHECKS) == RESULTS.get(name)})
    if request.config.getoption("--support"):
        support_page().write_text(page)
    missing = [name for name in FAMILIES if set(CHECKS) != RESULTS.get(name)]
    if missing:
        pytest.skip(f"not every pair ran all checks: {', '.join(missing[:3])} …")
    assert support_page().read_text() == page, "run pytest tests/test_adapters.py --support"


def test_an_unknown_model_attaches_or_says_what_to_pass():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Bilinear(4, 4, 12), nn.Linear(12, 4)

        def forward(self, x):
            return self.b(torch.relu(self.a(x, x)))

    G, D = Odd(), nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    with pytest.raises(fbwrap.errors.ExampleError, match=r"forward takes x\. Pass a tensor.*fbwrap\.explain"):
        fbwrap.attach(G, D)
    loop = fbwrap.attach(G, D, example=torch.randn(2, 4))
    assert str(loop.connections[0].target) == "a"
    assert copy.deepcopy(loop.facts.adapter)["generator"] is None
