"""The plan of a loop: what was resolved, put into one description; and how much of D it needs.

Example:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    >>> fbwrap.attach(G, D, [("0", "0")], example=torch.zeros(1, 2)).plan.critic_stops_after
    '0'
"""

from collections.abc import Sequence

import torch
from torch import nn

from .flops import FlopCounter
from .links import Connection
from .naming import modules_of, unwrap
from .plan import Plan, PlannedLink, suffix_flops
from .probe import Call, Trace
from .recognise import Recognised
from .replay import Schedule
from .resolve import module_of
from .signals import Form
from .surroundings import is_compiled


def plan_of(
    made: Trace,
    asked: Trace | None,
    connections: Sequence[Connection],
    modules: Sequence[nn.Module],
    first: str,
    prefix: Schedule,
    batch: int,
    recognised: Recognised,
    told: Sequence[str],
) -> Plan:
    """What a loop will run, for the example.

    Args:
        made, asked: what G and D did; connections, modules: the links; first, prefix: as of the loop.
        batch: samples in the example.
        recognised: what adapters know; told: what a user should know.
    """
    planned = []
    for connection, module in zip(connections, modules, strict=True):
        parameter = next(module.parameters(), torch.zeros(0))
        with torch.no_grad(), FlopCounter() as counter:
            module.eval()
            forms = (connection.form, *(source.form for source in connection.sources))
            if getattr(module, "resize_signals", True):
                forms = tuple(Form(form.channels, connection.form.spatial) for form in forms)
            maps = [
                torch.zeros(batch, f.channels, *f.spatial, dtype=parameter.dtype, device=parameter.device)
                for f in forms
            ]
            module(*maps)
        planned.append(
            PlannedLink(
                str(connection.target),
                connection.form,
                tuple(source.name for source in connection.sources),
                tuple(source.form for source in connection.sources),
                connection.spec.kind,
                sum(p.numel() for p in module.parameters()),
                counter.total,
                connection.carry,
            )
        )
    known = {call.module: call.name for call in made.calls}
    stop, tapped = _critic_end(asked, connections)
    notes = [
        f"{what}: {match}"
        for what, match in (("G", recognised.found.generator), ("D", recognised.found.discriminator))
        if match
    ]
    notes += dict.fromkeys(told)
    if made.attributes:
        notes.append(
            f"G keeps state in plain attributes ({', '.join(made.attributes[:3])}): nothing is replayed in calls that "
            "change it, every step starts from the state before the call, and it is left as one call of G leaves it."
        )
    if asked and asked.error is not None:
        notes.append(f"D refuses the sample behind its last tap, so it has no response: {asked.error}")
    notes += [
        f"{what} is compiled: within the loop its eager original runs."
        for what, trace in (("G", made), ("D", asked))
        if trace and any(map(is_compiled, modules_of(trace.model)))
    ]
    return Plan(
        tuple(planned),
        first,
        tuple(known[module] for module, _ in prefix.replay),
        stop,
        made.flops,
        suffix_flops(made, prefix),
        asked.flops if asked else 0,
        tapped,
        sum(p.numel() for p in unwrap(made.model).parameters()),
        made.random,
        batch,
        tuple(notes),
    )


def _last_tap(asked: Trace, connections: Sequence[Connection]) -> Call | None:
    """The call after which D may stop; None where a link needs all of D, or no layer of it."""
    sources = [source for c in connections for source in c.sources]
    if any(source.name == "response" for source in sources):
        return None
    calls = [asked.calls_of(module_of(asked, s.ref))[s.ref.call or 0] for s in sources if s.ref]
    return max(calls, key=lambda call: call.end, default=None)


def _critic_end(asked: Trace | None, connections: Sequence[Connection]) -> tuple[str | None, int]:
    """The name of D's last tapped layer and the FLOPs up to it, as :class:`Plan` has them."""
    if asked is None or all(source.name == "image" for c in connections for source in c.sources):
        return "", 0
    last = _last_tap(asked, connections)
    return (last.name, last.flops_after) if last else (None, asked.flops)


def unused_layers(asked: Trace | None, connections: Sequence[Connection]) -> tuple[str, ...] | None:
    """Names of the D layers that only run after D may stop; None when all of D is needed."""
    stop, _ = _critic_end(asked, connections)
    if asked is None or stop is None:
        return None if asked else ()
    last = _last_tap(asked, connections)
    before = {call.name for call in asked.calls if call.start < (last.end if last else 0)}
    return tuple(dict.fromkeys(call.name for call in asked.calls if call.name not in before))
