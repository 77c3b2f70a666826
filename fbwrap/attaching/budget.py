"""Feedback modules that keep within a budget, and what to do about a loop that costs much.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 1, 4))
    >>> loop = fbwrap.attach(G, D, [("1", "1")], module="auto", budget=4, example=torch.zeros(1, 8, 8, 8))
    >>> loop.connections[0].spec.options["ratio"], loop.plan.cost <= 4
    (2, True)
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from ..engine.flops import FlopCounter
from ..errors import SettingError
from ..feedback.features import FeatureSpec
from ..feedback.links import Connection
from ..feedback.modules import ModuleSpec, build
from ..feedback.plan import Plan
from .request import Request

AUTO = ModuleSpec("fpn", {"ratio": "auto"})  # stands for a module until one is picked
BUDGET = 2.5  # of a sample with one step of feedback, in multiples of G
_MUCH = 3.0
_RATIOS = (1, 2, 4, 8, 16)


@torch.no_grad()
def module_flops(connection: Connection, module: nn.Module, batch: int) -> int:
    """FLOPs of a connection's module, which is run once on zeros."""
    parameter = next(module.parameters(), torch.zeros(0))
    module.eval()
    forms = (connection.form, *(source.form for source in connection.sources))
    if getattr(module, "resize_signals", True):
        forms = tuple(FeatureSpec(form.channels, connection.form.spatial) for form in forms)
    maps = [torch.zeros(batch, f.channels, *f.spatial, dtype=parameter.dtype, device=parameter.device) for f in forms]
    with FlopCounter() as counter:
        module(*maps)
    return counter.total


def within_budget(
    request: Request, connections: Sequence[Connection], cost: Callable[[int], float], batch: int
) -> tuple[Connection, ...]:
    """The connections, with modules in place of :data:`AUTO`: the widest that the budget allows, else the narrowest.

    Args:
        cost: of a sample, in multiples of G, given the modules' FLOPs.
    """
    if request.budget is not None and request.module != "auto":
        raise SettingError("budget= is for module='auto', which picks modules by it.")
    budget = BUDGET if request.budget is None else request.budget
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise SettingError(f"budget={budget!r}: pass a multiple of G's own cost, such as {BUDGET}.")
    if all(connection.spec != AUTO for connection in connections):
        return tuple(connections)
    others = sum(_flops_of(connection, batch) for connection in connections if connection.spec != AUTO)
    for ratio in _RATIOS:
        spec = replace(AUTO, options={"ratio": ratio})
        picked = [replace(connection, spec=spec) for connection in connections if connection.spec == AUTO]
        if cost(others + sum(_flops_of(connection, batch) for connection in picked)) <= budget:
            break
    return tuple(replace(c, spec=spec) if c.spec == AUTO else c for c in connections)


def advice(request: Request, plan: Plan, connections: Sequence[Connection]) -> tuple[str, ...]:
    """What a user should know about a loop that costs much."""
    auto = request.module == "auto"
    if not plan.generator_flops or plan.cost <= ((request.budget or BUDGET) if auto else _MUCH):
        return ()
    rest = plan.cost - plan.share(plan.module_flops)
    text = f"A sample costs {plan.cost:.3g} times G's own FLOPs with one step of feedback ({rest:.3g} without modules)."
    if auto:
        return (
            f"{text} That is more than the budget, even with the smallest modules. Use fewer links, or a higher "
            "budget=.",
        )
    cheap = (
        link.flops if c.spec.factory or c.carry else _flops_of(replace(c, spec=ModuleSpec("fpn")), plan.batch)
        for c, link in zip(connections, plan.links, strict=True)
    )
    cheaper = rest + plan.share(sum(cheap))
    return (text + f" With module='fpn' it would cost {cheaper:.3g}." * (cheaper < 0.9 * plan.cost),)


def _flops_of(connection: Connection, batch: int) -> int:
    """FLOPs of a module that is not there yet; one of the user's own is made once more, of the same random numbers."""
    forms = tuple(source.form for source in connection.sources)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if connection.spec.factory is None else "cpu"):
        return module_flops(connection, build(connection.spec, connection.form, forms), batch)
