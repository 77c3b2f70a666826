"""A row of an AFL benchmark on images: a head (or G itself) is trained from a pair, and measured at several strengths.

Example:
    >>> numbers = trained_row("AFL", G, D, real, out, steps, seed, measured, **recipes)  # doctest: +SKIP
    >>> numbers["frechet"], numbers["α = 0.5"]                                          # doctest: +SKIP
    (24.9, 21.7)
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from fbwrap.recipes import AFL, GAN
from fbwrap.recipes.studies import replaced_signals
from torch import Tensor, nn

import fbwrap

CONTROLS = ("noise", "a constant", "zeros", "another sample")
Measure = Callable[[Callable[[Tensor], Tensor]], dict[str, float]]


def trained_row(
    row: str,
    G: nn.Module,
    D: nn.Module,
    real: Any,
    latents: Callable[[int], Tensor],
    out: Path,
    steps: int,
    seed: int,
    measured: Measure,
    *,
    whole: Callable[[nn.Module, nn.Module], GAN],
    attach: Callable[[], fbwrap.FeedbackLoop],
    head: Callable[[fbwrap.FeedbackLoop], AFL],
) -> dict[str, float]:
    """Train one row from the pair, and measure it.

    Args:
        row: ``"G trained on"``: a copy of G learns, by the recipe that ``whole`` makes. Else the head of the loop that
            ``attach`` makes learns by ``head``'s recipe, fed by D, or as one of ``CONTROLS`` says, in training and in
            the test.
        seed: of the head's first weights, and of the folder's name.
    """
    torch.manual_seed(seed)
    fit = {"steps": steps, "out": out / f"{row.replace(' ', '_')}_{seed}", "resume": True, "progress": False}
    if row == "G trained on":
        net = copy.deepcopy(G)
        whole(net, copy.deepcopy(D)).fit(real, latents, **fit)
        return measured(net.eval())
    loop = attach()
    with loop, replaced_signals(loop, row) if row in CONTROLS else nullcontext():
        head(loop).fit(real, latents, **fit)
        return strengths(loop, measured)


def strengths(loop: fbwrap.FeedbackLoop, measured: Measure) -> dict[str, float]:
    """At α = 1 all measures, at others the Fréchet distance."""
    found = measured(loop)
    for alpha in (0.25, 0.5, 0.75):
        with loop.settings(strength=alpha):
            found |= {f"α = {alpha}": measured(loop)["frechet"]}
    return found


@torch.no_grad()
def samples(generate: Callable[[Tensor], Tensor], latents: Callable[[int], Tensor], many: int) -> Tensor:
    """Samples of the same latents for every row."""
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        return torch.cat([generate(z) for z in latents(many).split(500)])
