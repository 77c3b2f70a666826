"""docs/support.md, written from what the matrix in ``test_adapters.py`` found."""

from pathlib import Path

import torch

CHECKS = ("recognised", "identity", "exact", "detach", "trains", "round_trip", "cost")

TRAITS = (
    *("in place", "shared", "random", "restless", "nested", "flat", "method"),
    *("stops early", "ends there"),
)

HEAD = """# Supported networks

Written by `pytest tests/test_adapters.py --support`, and compared with what the tests find whenever they run: a row
is here because `fbwrap.attach(G, D)`, with nothing more than what stands under *said*, passed every check on it.

The checks: it is *recognised*, with the links below; a fresh loop is the *identity* (`torch.equal` to G); two steps
of a head with random weights are *exactly* (`torch.equal`) those of a loop written by hand with torch's own hooks
that runs all of G and D anew; *detach* restores everything; it *trains*; its head *round-trips*; its *cost* is told.
"Tiny" networks: real classes of the named packages with few channels, or look-alikes of repositories that are not
packages (same layer names, types and traits). Cost: FLOPs of one step, as a multiple of G, planned (and naive);
parameters of the head as a multiple of G's, which for tiny networks says little.

The traits, of G, of D or of both: it overwrites features *in place*; layers are *shared* by several calls; it draws
*random* numbers in eval mode; it is *restless* (moves weights or buffers in eval mode); its output is *nested* in
lists, tuples or objects, or *flat* (no channel axis); G is a *method*; D *stops early*, after its last tap, and (*ends
there*) could not go on, for want of a label or of the one image size it was built for.

"""


def row_of(entry, loop):
    """What the page says about a pair."""
    plan = loop.plan
    unit = max(plan.generator_flops, 1)
    planned, naive = plan.flops(loop.steps) / unit, plan.flops(loop.steps, naive=True) / unit
    traits = {title: [] for title in TRAITS}
    for who, what in zip("GD", loop.traces, strict=True):
        if what is None:
            continue
        found = (
            any(call.effects.overwritten for call in what.calls),
            any(not call.alone for call in what.calls),
            what.random,
            bool(what.moving),
            list(what.outputs) != [()] and what.error is None,
            who == "G" and len(what.sample_shape) > len(next(iter(what.outputs.values())).shape),
            what.method != "forward",
            who == "D" and plan.critic_stops_after not in (None, ""),
            what.error is not None,
        )
        for title, holds in zip(TRAITS, found, strict=True):
            traits[title] += [who] * holds
    dims = len(loop.connections[0].form.spatial)
    return {
        "networks": entry.source or "look-alike",
        "said": ", ".join(f"`{key}`" for key in entry.options),
        "generator": entry.generator or '(unknown: `layers="auto"`)',
        "discriminator": entry.critic or ("none" if loop.discriminator is None else "(unknown)"),
        "links": "<br>".join(f"`{c}`" for c in loop.connections),
        "dims": f"{dims}-D" if dims else "vectors",
        **{title: " ".join(who) for title, who in traits.items()},
        "cost": f"{planned:.2f} ({naive:.2f}), T = {loop.steps}",
        "head": f"{plan.parameters / max(plan.generator_parameters, 1):.2f}",
    }


def render(results):
    """The page."""
    columns = ("networks", "said", "generator", "discriminator", "links", "dims", *TRAITS, "cost", "head")
    lines = ["| pair | " + " | ".join(columns) + " | checks |", "|" + " --- |" * (len(columns) + 2)]
    for name, found in results.items():
        cells = [found[column] for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(CHECKS)} of {len(CHECKS)} |")
    return HEAD + "\n".join(lines) + f"\n\n{len(results)} pairs, torch {torch.__version__.split('+')[0]}.\n"


def support_page():
    """Where it lies."""
    return Path(__file__).parent.parent / "docs" / "support.md"
