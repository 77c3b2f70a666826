"""What will be run: links as pairs of shapes, what is replayed, where D stops, and what it costs.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    >>> D = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 8))
    >>> plan = fbwrap.attach(G, D, [("1", "1")], example=torch.zeros(1, 3, 8, 8)).plan
    >>> plan.replayed, plan.critic_stops_after
    (('0', '1'), '1')

A plan is a frozen description. It touches nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from ..engine.names import Ref, names, unwrap
from ..engine.replay import Key, Schedule, Site
from ..engine.trace import Call, Trace, is_sequential
from ..errors import LayerNotCalledError
from .features import FeatureSpec
from .links import Connection


@dataclass(frozen=True)
class PlannedLink:
    """One link, resolved."""

    target: str
    feature: FeatureSpec
    sources: tuple[str, ...]
    signals: tuple[FeatureSpec, ...]
    module: str
    parameters: int
    flops: int
    carry: bool


@dataclass(frozen=True)
class Plan:
    """What a loop runs, for the example it was attached with.

    Attributes:
        links: the links, in the order in which the generator reaches them.
        first: what the first step sees: ``"base"`` (AFL: y_0 = G(x)) or ``"zeros"`` (FAL).
        replayed: layers of G that later steps do not compute again.
        critic_stops_after: D's last tapped layer; None when all of D runs, ``""`` when none of it.
        generator_flops, suffix_flops, critic_flops, tapped_flops: FLOPs of one call of G, of G from
            the first corrected layer on, of one call of D, and of D up to its last tapped layer.
        random: whether G draws random numbers.
        batch: samples in the example; FLOPs are for all of them.
        notes: what a user should know.
    """

    links: tuple[PlannedLink, ...]
    first: str
    replayed: tuple[str, ...]
    critic_stops_after: str | None
    generator_flops: int
    suffix_flops: int
    critic_flops: int
    tapped_flops: int
    generator_parameters: int
    random: bool
    batch: int
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Parameters of all feedback modules."""
        return sum(link.parameters for link in self.links)

    @property
    def module_flops(self) -> int:
        """FLOPs of all feedback modules in one step."""
        return sum(link.flops for link in self.links)

    def flops(self, steps: int, *, naive: bool = False) -> int:
        """FLOPs of ``steps`` steps; ``naive``: all of G and D anew at each step."""
        if steps == 0 or not self.links:
            return self.generator_flops
        looks = steps if self.first == "base" else steps - 1
        if naive:
            passes = steps + (self.first == "base")
            return passes * self.generator_flops + looks * self.critic_flops + steps * self.module_flops
        again = looks * (self.tapped_flops + self.suffix_flops)
        return self.generator_flops + again + steps * self.module_flops

    def share(self, flops: int) -> float:
        """FLOPs as a multiple of one call of G."""
        return flops / max(self.generator_flops, 1)

    @property
    def cost(self) -> float:
        """What a sample with one step of feedback costs, as a multiple of one call of G."""
        return self.share(self.flops(1))

    def __str__(self) -> str:
        if not self.links:
            return "\n".join(["No links: G runs as it is, and D can be asked (fbwrap.samplers)", *self.notes])
        size = f"{self.parameters:,} parameters (G has {self.generator_parameters:,})"
        lines = [f"{len(self.links)} link(s), {size}, first step sees {self.first}"]
        for link in self.links:
            signals = " + ".join(f"{n} ({f})" for n, f in zip(link.sources, link.signals, strict=True))
            carried = ", carried" if link.carry else ""
            lines.append(
                f"  {link.target} ({link.feature}) <- {link.module} <- {signals}"
                f"   {link.parameters:,} parameters, {_flops(link.flops)} = {self.share(link.flops):.2f} G{carried}"
            )
        lines.append(
            f"G: {_flops(self.generator_flops)}, of which {self.share(self.suffix_flops):.0%} again at each step; "
            f"replayed: {_some(self.replayed) or 'nothing'}"
        )
        where = {None: "runs to its end", "": "is not run"}.get(
            self.critic_stops_after, f"stops after {self.critic_stops_after}"
        )
        lines.append(
            f"D: {where}, {_flops(self.tapped_flops)} of {_flops(self.critic_flops)} = "
            f"{self.share(self.tapped_flops):.2f} G"
        )
        parts = {
            "modules": self.module_flops,
            "D": self.tapped_flops,
            "G's layers from the first corrected one on": (self.suffix_flops),
        }
        step = ", ".join(f"{what} {self.share(flops):.2f}" for what, flops in parts.items())
        lines.append(f"A step costs {self.share(sum(parts.values())):.2f} G: {step}")
        lines.append(f"T    naive        planned      (batch of {self.batch}, as multiples of G)")
        for steps in (1, 2, 3):
            naive, planned = self.share(self.flops(steps, naive=True)), self.share(self.flops(steps))
            lines.append(f"{steps}    {naive:<12.2f} {planned:<12.2f}")
        if self.random:
            lines.append("G draws random numbers: every step of a call sees the same ones.")
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class ExecutionPlan:
    """What a loop will run: modules, and what is left out; :class:`Plan` describes it for people.

    Attributes:
        connections: the links, in the order in which G reaches them.
        modules: the feedback modules, one for each connection.
        first: what the first step sees, ``"base"`` or ``"zeros"``.
        prefix: what later passes of G leave out.
        plan: the same as a description, with its costs.
        critic_unused: layers of D that only run after D may stop; None: all of D is needed.
    """

    connections: tuple[Connection, ...]
    modules: tuple[nn.Module, ...]
    first: Literal["base", "zeros"]
    prefix: Schedule
    plan: Plan
    critic_unused: tuple[str, ...] | None


def with_call(trace: Trace, ref: Ref) -> Ref:
    """The reference with its call, where a layer has several names in one ``nn.Sequential`` and the name tells which
    call is meant: of ``Sequential(up, act, up, act)`` the act ``"3"`` is ``"3#1"``."""
    around, _, own = ref.name.rpartition(".")
    known = names(trace.model)
    module, parent = known[ref.name], known[around] if around else unwrap(trace.model)
    same = [key for key, child in parent._modules.items() if child is module]
    if ref.call is not None or not is_sequential(parent) or len(same) < 2 or len(trace.calls_of(module)) != len(same):
        return ref
    return replace(ref, call=same.index(own))


def call_of(trace: Trace, module: nn.Module, ref: Ref, where: str) -> Call:
    """The one call that a reference means.

    Raises:
        LayerNotCalledError: the layer is never called, or several times with none chosen.
    """
    calls = trace.calls_of(module)
    if not calls:
        why = f" D stopped with: {trace.error}" if trace.error else ""
        raise LayerNotCalledError(
            f"{where} layer {ref.name!r} exists, but the forward pass does not call it (its weights may "
            f"be used by a fused or functional call).{why} Choose a layer that is called: "
            "fbwrap.layers(model, *example) shows the output shape of each that is."
        )
    if ref.call is None and len(calls) > 1:
        raise LayerNotCalledError(
            f"{where} layer {ref.name!r} is called {len(calls)} times in one pass. Say which call is "
            f"meant: '{ref.name}#0' to '{ref.name}#{len(calls) - 1}'."
        )
    if (index := ref.call or 0) >= len(calls):
        raise LayerNotCalledError(
            f"{where} layer {ref.name!r} is called {len(calls)} time(s), counted from 0; there is no call #{index}."
        )
    return calls[index]


def event(trace: Trace, site: Site) -> int:
    """When a correction enters: the end of the call, or its start for one at the input."""
    call = trace.calls_of(site.module)[site.call]
    return call.end if site.at == "output" else call.start


def schedule(trace: Trace, sites: Sequence[Site]) -> Schedule:
    """What need not run again when corrections enter at ``sites``: the top-most calls that are over
    before the first of them."""
    first = min(event(trace, site) for site in sites)
    chosen: list[Call] = []
    for call in trace.calls:
        inside = chosen and call.start < chosen[-1].end
        if call.done and call.end <= first and call.plain and not call.entangled and not inside:
            chosen.append(call)
    modules = {call.module for call in chosen} | {site.module for site in sites}
    visible = {
        module: tuple(
            call.index for call in trace.calls_of(module) if not any(c.start < call.start < c.end for c in chosen)
        )
        for module in modules
    }
    effects = {(call.module, call.index): call.effects for call in chosen}
    return Schedule(tuple(effects), _dead(trace, chosen), visible, effects)


def _dead(trace: Trace, chosen: list[Call]) -> frozenset[Key]:
    """Calls within ``nn.Sequential`` whose successor is replayed too: nothing reads their value."""
    keys = {(call.module, call.index) for call in chosen}
    dead = set()
    for call in chosen:
        parent = trace.model if call.parent is None else trace.calls[call.parent].module
        if not is_sequential(parent):
            continue
        later = [c for c in trace.calls if c.parent == call.parent and c.start > call.start]
        if later and (later[0].module, later[0].index) in keys:
            dead.add((call.module, call.index))
    return frozenset(dead)


def suffix_flops(trace: Trace, plan: Schedule) -> int:
    """FLOPs of a pass that replays ``plan``."""
    keys = set(plan.replay)
    return trace.flops - sum(
        call.flops_after - call.flops_before for call in trace.calls if (call.module, call.index) in keys
    )


def _flops(number: int) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}FLOPs"
    return f"{number} FLOPs"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) < 9 else f"{', '.join(names[:4])}, … {names[-1]} ({len(names)})"
