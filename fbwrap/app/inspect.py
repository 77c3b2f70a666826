"""``fbwrap inspect``: what fbwrap sees in somebody's networks, before anything is trained.

Examples:
    >>> from torch import nn
    >>> G = nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 1, 0), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh())
    >>> print(report(G, None, layers=False)[0].splitlines()[0])
    generator: dcgan: transposed convolutions
"""

from typing import Any

import torch
from torch import nn

from fbwrap import attach, explain
from fbwrap.engine.layer_table import table_of
from fbwrap.errors import SettingError
from fbwrap.loop import FeedbackLoop


def report(
    generator: nn.Module,
    discriminator: nn.Module | str | None,
    *,
    links: Any = "auto",
    layers: bool = True,
    **options: Any,
) -> tuple[str, dict[str, Any]]:
    """What is recognised, every layer with its shapes, the links, and what steps of feedback cost.

    Args:
        links, options: as :func:`fbwrap.attach` takes them.
        layers: whether to list every layer.
    """
    loop = attach(generator, discriminator, links, **options)
    seen = explain(generator, loop.discriminator)
    parts = ["\n".join(str(seen).splitlines()[:2])]
    parts += ["\n".join(each) for each in [(loop.facts.adapter or {}).get("citations")] if each]
    for what, trace in zip(("generator", "discriminator"), loop.traces, strict=True):
        if layers and trace is not None:
            parts.append(f"{what}, {type(trace.model).__name__}\n{table_of(trace.model, trace)}")
    return "\n\n".join([*parts, str(loop.plan)]), _facts(loop, str(parts[0]))


def _facts(loop: FeedbackLoop, seen: str) -> dict[str, object]:
    """The same as plain data."""
    traces = zip(("generator", "discriminator"), loop.traces, strict=True)
    return {
        "recognised": seen.splitlines(),
        "links": [
            {"target": link.place, "sources": [source.name for source in link.sources], "module": link.spec.kind}
            for link in loop.connections
        ],
        "cost": round(loop.plan.cost, 4),
        "parameters": sum(p.numel() for p in loop.parameters()),
        "layers": {
            what: [
                {"name": row.name, "type": row.kind, "shapes": list(row.shapes)} for row in table_of(trace.model, trace)
            ]
            for what, trace in traces
            if trace is not None
        },
    }


def example_of(text: str | None) -> object:
    """``"1x100x1x1"`` as noise of that shape; several inputs are separated by commas."""
    if text is None:
        return None
    made = []
    for part in text.split(","):
        try:
            shape = [int(number) for number in part.strip().split("x")]
            made.append(torch.randn(shape))
        except (ValueError, RuntimeError) as error:
            raise SettingError(f"--example {text!r}: write shapes such as 1x100x1x1, or 1x3x64x64,1x10.") from error
    return tuple(made)
