"""docs/support.md, written from what the matrix in ``test_adapters.py`` found."""

from pathlib import Path

import torch

CHECKS = ("recognised", "identity", "exact", "detach", "trains", "round_trip", "cost")

TRAITS = (
    *("in place", "shared", "random", "restless", "nested", "flat", "method"),
    *("stops early", "ends there"),
)

HEAD = """# Supported networks

fbwrap knows the networks in this table. For these, `fbwrap.attach(G, D)` needs nothing more than what stands under
*pass*. Other networks work too, if you name the layers ([FAQ](faq.md)).

This page is written by `pytest tests/test_adapters.py --support`. Every row passed seven checks:

| check | what is tested |
| --- | --- |
| recognised | the networks are recognised, and the links are those of the table |
| identity | a new loop gives exactly what G gives |
| exact | two steps with random modules equal a loop that runs all of G and D with torch's own hooks, bit for bit |
| detach | after `detach()` everything is as before |
| trains | the modules get gradients and learn |
| round-trip | a saved head gives the same after loading |
| cost | the plan says what it costs |

The networks are small: real classes of the named packages with few channels, or *look-alikes*: networks with the layer
names, types and peculiarities of a repository that is not a package. *Cost* is that of a sample with T feedback steps,
in calls of G (in brackets: if nothing were reused). For such small networks it says little about large ones.

*Peculiarities* are what makes a network hard to hook, of G, of D, or of both:

| word | meaning |
| --- | --- |
| in place | overwrites its features |
| shared | calls a layer several times |
| random | draws random numbers in eval mode |
| restless | changes weights or buffers in eval mode |
| nested | returns lists, tuples or objects |
| flat | its samples have no channel axis |
| method | is called by a method other than `forward` |
| stops early | the loop stops D after the last layer that it needs |
| ends there | D could not run further: it lacks a label, or was built for another image size |

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
    found = [f"{title} ({' '.join(who)})" for title, who in traits.items() if who]
    generator = entry.generator or 'unknown, `layers="auto"`'
    discriminator = entry.critic or ("none" if loop.discriminator is None else "unknown")
    return {
        "pass": ", ".join(f"`{key}=`" for key in entry.options),
        "recognised as": f"G: {generator}<br>D: {discriminator}",
        "links": "<br>".join(f"`{c}`" for c in loop.connections),
        "cost": f"{planned:.2f} ({naive:.2f}), T = {loop.steps}",
        "peculiarities": ", ".join(found),
        "networks": entry.source or "look-alike",
    }


def render(results):
    """The page."""
    columns = ("pass", "recognised as", "links", "cost", "peculiarities", "networks")
    lines = ["| pair | " + " | ".join(columns) + " |", "|" + " --- |" * (len(columns) + 1)]
    lines += [
        f"| {name} | " + " | ".join(found[column] for column in columns) + " |" for name, found in results.items()
    ]
    version = torch.__version__.split("+")[0]
    return HEAD + "\n".join(lines) + f"\n\n{len(results)} pairs, torch {version}, {len(CHECKS)} checks each.\n"


def support_page():
    """Where it lies."""
    return Path(__file__).parent.parent / "docs" / "support.md"
