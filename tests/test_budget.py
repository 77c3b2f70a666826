"""What a loop costs, as the plan tells it; modules that are picked by a budget."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import fbwrap
from fbwrap.engine.flops import FlopCounter
from fbwrap.errors import SettingError

WIDE = nn.Sequential(nn.Conv2d(4, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 3, 1))
CRITIC = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.Conv2d(16, 1, 4))
X = torch.randn(2, 4, 16, 16)


def attached(**options):
    return fbwrap.attach(WIDE.eval(), CRITIC, [("2", ["0", "2"])], example=X, **options)


def stages(*channels):
    """Transposed convolutions, each to twice the size."""
    first = nn.ConvTranspose2d(channels[0], channels[1], 4)
    more = [nn.ConvTranspose2d(i, o, 4, 2, 1) for i, o in pairwise(channels[1:])]
    return [nn.Sequential(layer, nn.ReLU()) for layer in (first, *more)]


def test_the_plan_tells_costs_in_multiples_of_g():
    with attached(module="dual") as loop:
        plan = loop.plan
        with FlopCounter() as counter, torch.no_grad():
            loop(X)
        assert counter.total == plan.flops(1), "the plan's FLOPs are those that run"
        assert plan.cost == pytest.approx(plan.flops(1) / plan.generator_flops)
        text = str(plan)
        assert f"= {plan.module_flops / plan.generator_flops:.2f} G" in text
        parts = plan.module_flops + plan.tapped_flops + plan.suffix_flops
        assert f"A step costs {parts / plan.generator_flops:.2f} G: modules" in text


def test_the_widest_modules_within_the_budget():
    ratios = {}
    for budget in (9, 2, 1.5, 1.3):
        with attached(module="auto", budget=budget) as loop:
            assert loop.plan.cost <= budget
            ratios[budget] = loop.connections[0].spec.options["ratio"]
    assert sorted(ratios.values()) == list(ratios.values()), "less budget, narrower modules"
    assert ratios[9] == 1
    assert ratios[1.3] > 2
    with attached(module={"kind": "fpn", "ratio": ratios[2] // 2}) as wider:
        assert wider.plan.cost > 2, "the next wider one does not fit"
    with attached(module="auto") as loop:
        assert loop.plan.cost <= 2.5


def test_a_budget_that_nothing_keeps_takes_the_narrowest_and_says_so():
    with attached(module="auto", budget=1) as loop:
        assert loop.connections[0].spec.options["ratio"] == 16
        assert "more than the budget, even with the smallest modules" in str(loop.plan)


def test_a_loop_that_costs_much_names_a_cheaper_choice():
    with attached(module="pyramid") as much, attached(module="fpn") as cheap, attached(module="light") as little:
        assert much.plan.cost > 3 > cheap.plan.cost
        assert f"With module='fpn' it would cost {cheap.plan.cost:.3g}." in str(much.plan)
        assert "would cost" not in str(cheap.plan)
        assert "would cost" not in str(little.plan)


def test_auto_for_both_is_one_link_from_all_that_links_would_see():
    G, D = (
        nn.Sequential(*stages(8, 16, 8, 3)),
        nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1), nn.Conv2d(16, 1, 4)),
    )
    z = torch.randn(2, 8, 1, 1)
    with fbwrap.attach(G, D, "auto", module="dual", example=z) as several:
        last, seen = several.connections[-1], {s.name for c in several.connections for s in c.sources}
        assert len(several.connections) > 1
    with fbwrap.attach(G, D, "auto", module="auto", budget=100, example=z) as loop:
        (one,) = loop.connections
        assert str(one.target) == str(last.target)
        assert {source.name for source in one.sources} == seen
        assert torch.equal(loop(z), G(z))


def test_links_keep_their_own_modules():
    links = [fbwrap.Link("0", "0", module="light"), fbwrap.Link("2", "2")]
    with fbwrap.attach(WIDE.eval(), CRITIC, links, module="auto", example=X) as loop:
        assert [c.spec.kind for c in loop.connections] == ["light", "fpn"]


def test_a_head_of_auto_loads_as_what_was_picked(tmp_path):
    with attached(module="auto", budget=1.5) as loop, torch.no_grad():
        for parameter in loop.parameters():
            parameter.normal_(std=0.1)
        loop.save_pretrained(tmp_path)
        expected = loop(X)
        assert not torch.equal(expected, WIDE(X))
    with fbwrap.from_pretrained(tmp_path, WIDE, CRITIC) as loaded:
        assert torch.equal(loaded(X), expected)


def test_what_is_no_budget_is_refused():
    with pytest.raises(SettingError, match="budget= is for module='auto'"):
        attached(module="dual", budget=2)
    for wrong in (0, -1, float("nan"), "2", True):
        with pytest.raises(SettingError, match=f"budget={wrong!r}: pass a multiple of G's own cost"):
            attached(module="auto", budget=wrong)
