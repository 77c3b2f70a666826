"""Fourth stage: the modules are made, the schedule is proven, and what will run is described with its cost.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    >>> fbwrap.attach(G, D, [("0", "0")], example=torch.zeros(1, 2)).plan.critic_stops_after
    '0'
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..engine.context import bare, eager, is_compiled
from ..engine.locks import locked
from ..engine.names import INPUT, entry, indexed, modules_of, unwrap
from ..engine.replay import Schedule, Site
from ..engine.state import Snapshot
from ..engine.trace import Trace
from ..engine.training_mode import training_mode
from ..engine.verify import verified
from ..errors import SettingError
from ..feedback.critic import image_of
from ..feedback.facts import Inputs
from ..feedback.links import Connection
from ..feedback.modules import build
from ..feedback.plan import ExecutionPlan, Plan, PlannedLink, schedule, suffix_flops
from ..feedback.transforms import Transform
from .budget import advice, module_flops, within_budget
from .observe import Observed
from .proposals import outside_of
from .request import Request
from .resolve import Resolved, module_of


def make_plan(request: Request, observed: Observed, resolved: Resolved) -> ExecutionPlan:
    """Make the modules, prove the schedule on the example, count the cost."""
    generator_trace, critic_trace = observed.generator_trace, observed.critic_trace
    if request.expected is not None:
        _check_shapes(resolved.connections, request.expected)
    sites = [connection.site for connection in resolved.connections]
    run = entry(observed.generator, generator_trace.method)
    prefix = _prefix(generator_trace, sites, run, observed.example) if request.replay and sites else Schedule()
    connections = _affordable(request, observed, resolved, prefix)
    modules = tuple(_build(connection, generator_trace) for connection in connections)
    first = request.first
    if first is None:
        fal = bool(connections) and all(issubclass(c.spec.default, Transform) for c in connections)
        first = "zeros" if fal else "base"
    plan = _plan_of(observed, replace(resolved, connections=connections), modules, first, prefix)
    plan = replace(plan, notes=(*plan.notes, *advice(request, plan, connections)))
    return ExecutionPlan(connections, modules, first, prefix, plan, unused_layers(critic_trace, connections))


def _affordable(request: Request, observed: Observed, resolved: Resolved, prefix: Schedule) -> tuple[Connection, ...]:
    """The connections with modules that the budget allows."""
    trace = observed.generator_trace
    tapped = _of_the_example(observed, _critic_end(observed.critic_trace, resolved.connections)[1])
    rest = trace.flops + suffix_flops(trace, prefix) + tapped

    def cost(modules: int) -> float:
        return (rest + modules) / max(trace.flops, 1)

    return within_budget(request, resolved.connections, cost, _batch_of(observed))


def _batch_of(observed: Observed) -> int:
    return int(observed.image.shape[observed.generator_trace.batch.axis])


def _of_the_example(observed: Observed, flops: int) -> int:
    """D's FLOPs for the example's samples: it may have seen more, which fill up its packs."""
    batch = _batch_of(observed)
    return flops * batch // (batch + -batch % observed.pack)


def _plan_of(
    observed: Observed, resolved: Resolved, modules: Sequence[nn.Module], first: str, prefix: Schedule
) -> Plan:
    """The description, for the example."""
    generator_trace, critic_trace, connections = observed.generator_trace, observed.critic_trace, resolved.connections
    batch = _batch_of(observed)
    stop, tapped = _critic_end(critic_trace, connections)
    names = {call.module: call.name for call in generator_trace.calls}
    return Plan(
        links=tuple(_planned_link(*pair, batch) for pair in zip(connections, modules, strict=True)),
        first=first,
        replayed=tuple(names[module] for module, _ in prefix.replay),
        critic_stops_after=stop,
        generator_flops=generator_trace.flops,
        suffix_flops=suffix_flops(generator_trace, prefix),
        critic_flops=_of_the_example(observed, critic_trace.flops if critic_trace else 0),
        tapped_flops=_of_the_example(observed, tapped),
        generator_parameters=sum(p.numel() for p in unwrap(generator_trace.model).parameters()),
        random=generator_trace.random,
        batch=batch,
        notes=tuple(_notes(observed, resolved)),
    )


def _planned_link(connection: Connection, module: nn.Module, batch: int) -> PlannedLink:
    """A link with the cost of its module."""
    return PlannedLink(
        target=connection.place,
        feature=connection.form,
        sources=tuple(source.name for source in connection.sources),
        signals=tuple(source.form for source in connection.sources),
        module=connection.spec.kind,
        parameters=sum(p.numel() for p in module.parameters()),
        flops=module_flops(connection, module, batch),
        carry=connection.carry,
    )


def _notes(observed: Observed, resolved: Resolved) -> Iterator[str]:
    """What a user should know, in the order of importance."""
    generator_trace, critic_trace, found = observed.generator_trace, observed.critic_trace, observed.recognised.found
    for what, match in (("G", found.generator), ("D", found.discriminator)):
        if match:
            yield f"{what}: {match}"
    yield from dict.fromkeys(resolved.notes)
    if observed.pack > 1:
        yield (
            f"D judges {observed.pack} samples together (pack=), so these neighbours in the batch get the same "
            "feedback and depend on each other."
        )
    if observed.critic_preset not in (None, "all_outputs"):  # else a user said which D judges
        yield from _pictures(generator_trace)
    if critic_trace is None:
        yield "There is no discriminator: every link reads only G's sample."
    elif critic_trace.random:
        yield (
            "D is random in eval mode (augmentation?), so its features may be shifted against G's. Turn the "
            "randomness off if D has an option for it."
        )
    if generator_trace.attributes:
        yield (
            f"G changes its own attributes ({', '.join(generator_trace.attributes[:3])}) when it runs. In such "
            "calls all of G is computed again at each step. Afterwards the attributes are as after one call "
            "of G."
        )
    if critic_trace and critic_trace.error is not None:
        yield (
            "D fails on G's sample after the last layer that a link reads. Feedback works, but D gives no "
            f"response: {critic_trace.error}"
        )
    for what, trace in (("G", generator_trace), ("D", critic_trace)):
        if trace and trace.outside:
            yield outside_of(what, trace)
        if trace and any(map(is_compiled, modules_of(trace.model))):
            yield f"{what} is compiled: within the loop its eager original runs."


def _pictures(trace: Trace) -> Iterator[str]:
    """A note where G returns several pictures: which of them is the sample."""
    shown = {path: info.shape for path, info in trace.outputs.items() if info.is_feature and len(info.shape) > 3}
    sample = tuple(image_of(trace.output).shape)
    if len(shown) < 2 or len(sample) < 4:
        return
    place = next(path for path, shape in shown.items() if shape == sample)
    named = ", ".join(f"{indexed(path)} {shape}" for path, shape in list(shown.items())[:4])
    yield (
        f"G returns {len(shown)} pictures: {named}. The sample is {indexed(place)}. If D judges others, say with "
        "critic_input= which, a function of all that G returns and is given."
    )


def _last_tap(critic_trace: Trace, connections: Sequence[Connection]) -> tuple[int, str, int] | None:
    """After which D may stop: when, the layer's name, the FLOPs until then. None where a link needs all of D, or no
    layer of it."""
    sources = [source for c in connections for source in c.sources]
    if any(source.name == "response" for source in sources):
        return None
    ends = []
    for ref in [source.ref for source in sources if source.ref]:
        call = critic_trace.calls_of(module_of(critic_trace, ref))[ref.call or 0]
        given = ref.at == "input"
        ends.append((call.start, f"{call.name}{INPUT}", call.flops_before) if given
                    else (call.end, call.name, call.flops_after))  # fmt: skip
    return max(ends, default=None)


def _critic_end(critic_trace: Trace | None, connections: Sequence[Connection]) -> tuple[str | None, int]:
    """The name of D's last tapped layer and the FLOPs up to it, as :class:`Plan` has them."""
    if critic_trace is None or all(source.name == "image" for c in connections for source in c.sources):
        return "", 0
    last = _last_tap(critic_trace, connections)
    return last[1:] if last else (None, critic_trace.flops)


def unused_layers(critic_trace: Trace | None, connections: Sequence[Connection]) -> tuple[str, ...] | None:
    """Names of the D layers that only run after D may stop; None when all of D is needed."""
    stop, _ = _critic_end(critic_trace, connections)
    if critic_trace is None or stop is None:
        return None if critic_trace else ()
    last = _last_tap(critic_trace, connections)
    before = {call.name for call in critic_trace.calls if call.start < (last[0] if last else 0)}
    return tuple(dict.fromkeys(call.name for call in critic_trace.calls if call.name not in before))


def _prefix(
    generator_trace: Trace,
    sites: Sequence[Site],
    run: Callable[..., Any],
    example: Inputs,
) -> Schedule:
    """What later passes leave out, proven on the example in eval mode."""
    modules = modules_of(generator_trace.model)
    with locked(generator_trace.model), bare(generator_trace.model), eager(modules), training_mode(modules, False):
        return verified(
            schedule(generator_trace, sites),
            sites,
            generator_trace,
            run,
            Snapshot(modules, generator_trace.moving),
            example,
        )


def _check_shapes(connections: Sequence[Connection], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse links whose modules have other weights than they should; modules of somebody's own are not asked."""
    if any(connection.spec.factory is not None for connection in connections):
        return
    with torch.device("meta"):
        made = nn.ModuleList(build(c.spec, c.form, tuple(s.form for s in c.sources)) for c in connections)
    shapes = {key: tuple(tensor.shape) for key, tensor in made.state_dict().items()}
    if shapes != dict(expected):
        differ = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
        raise SettingError(
            f"The weights do not fit the links' modules: {differ[0][:100]} is {expected.get(differ[0], 'missing')}, "
            f"and should be {shapes.get(differ[0], 'missing')}."
        )


def _build(connection: Connection, generator_trace: Trace) -> nn.Module:
    module = build(connection.spec, connection.form, tuple(s.form for s in connection.sources))
    call = generator_trace.calls_of(connection.site.module)[connection.site.call]
    infos = call.outputs if connection.at == "output" else call.inputs
    info = infos[connection.site.path]
    dtype = torch.float64 if info.dtype == torch.float64 else torch.float32
    return module.to(device=info.device, dtype=dtype)
