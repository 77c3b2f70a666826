"""``fbwrap.calibrate``: D's answers to real and generated samples, and the density ratio that they tell.

Examples:
    >>> calibration = fbwrap.calibrate(loop, real)                       # doctest: +SKIP
"""

import logging
import math
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import SettingError
from ..feedback.critic import image_of
from ..feedback.facts import Inputs, inputs_of
from ..feedback.loop import Loop
from .base import Plain, Sampler
from .calibration import Calibration, auc, isotonic, platt, reliability
from .source import with_image

logger = logging.getLogger("fbwrap")
_FEWEST = 20


def calibrate(
    loop: Loop | Sampler,
    real: Tensor,
    *,
    inputs: object = None,
    method: Literal["platt", "isotonic"] = "platt",
    places: Literal["mean", "each"] = "mean",
    samples: int | None = None,
    feedback: bool = True,
    batch: int = 64,
    seed: int = 0,
) -> Calibration:
    """Measure the density ratio that D's answer stands for; D of any loss will do.

    Examples:
        >>> import torch, fbwrap
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> G, D = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 1)
        >>> loop = fbwrap.attach(G, D, None, example=torch.zeros(1, 2))
        >>> loop.latents = "normal"
        >>> real = torch.randn(200, 2) + 3 * D.weight.detach() / D.weight.norm()
        >>> calibration = fbwrap.calibrate(loop, real)
        >>> calibration.auc > 0.6, calibration(D(G(torch.randn(3, 2)))).shape
        (True, torch.Size([3]))

    Args:
        loop: what makes the generated samples and whose D is asked: a loop, or another sampler, if what *it* makes is
            to be chosen from.
        real: samples of the data that G and D were not trained on, (N, …), in G's range. One half fits, the other
            measures.
        inputs: G's inputs that belong to each real sample, where D is asked with them (labels, conditions) or G is
            given what cannot be drawn (pictures): as of a call of G, latents of any value. Generated samples are then
            made of these, with new latents. None: all is drawn, and D looks at the sample alone.
        method: ``"platt"``, two numbers and a gradient, or ``"isotonic"``, any rising function.
        places: of a response map: calibrate its ``"mean"``, or ``"each"`` place.
        samples: how many are generated; None: as many as there are real ones.
        feedback: whether they are y_T; as of the sampler that will use it.
        batch, seed: of generating.

    Returns:
        The calibration, for ``calibration=`` of any sampler; it prints, and ``fbwrap.plots.reliability`` draws it.

    Raises:
        SettingError: too few samples; D tells nothing; D wants inputs.

    Source: Turner et al., ICML 2019, §3.2; Platt 1999.
    """
    if method not in ("platt", "isotonic"):
        raise SettingError(f"method={method!r}: pass 'platt' or 'isotonic'.")
    if places not in ("mean", "each"):
        raise SettingError(f"places={places!r}: pass 'mean' or 'each'.")
    if isinstance(loop, Sampler) and not feedback:
        raise SettingError("feedback= belongs to the sampler that is given.")
    known = loop.loop if isinstance(loop, Sampler) else loop
    if inputs is None and known.facts.critic_input != "output":
        raise SettingError(
            "D is asked with G's inputs (labels, a condition), so it must be told those of the real samples: pass "
            "inputs=, as G takes them, a row a sample."
        )
    sampler = loop if isinstance(loop, Sampler) else Plain(loop, feedback=feedback, batch=batch, seed=seed)
    there = real.shape[sampler._source.rows.axis_of(real)]
    count = there if samples is None else samples
    if min(count, there) < _FEWEST:
        raise SettingError(
            f"{there} real samples and {count} generated ones are too few: pass {_FEWEST} or more, better thousands."
        )
    rng = torch.Generator().manual_seed(seed)
    given = _given(sampler, inputs, there) if inputs is not None else None
    fake = _asked_of_generated(sampler, given, there, count, batch, rng)
    true = _asked_of_real(sampler, real, given, there, batch, rng)
    for what, answers in (("real", true), ("generated", fake)):
        if not torch.isfinite(answers).all():
            raise SettingError(f"D's answer to some {what} samples is not finite: there is nothing to calibrate.")
    return _fitted(true, fake, method, places, rng)


def _given(sampler: Sampler, inputs: object, count: int) -> Inputs:
    """G's inputs for the real samples, as the loop's example has them."""
    source = sampler._source
    given = source.as_given(*inputs_of(inputs))
    if (rows := source.count_of(given)) != count:
        raise SettingError(f"{count} real samples and inputs for {rows}: pass a row for each.")
    return given


def _asked_of_generated(
    sampler: Sampler, given: Inputs | None, there: int, count: int, batch: int, rng: torch.Generator
) -> Tensor:
    """D's responses to samples that the sampler makes; of the inputs that were given, with new latents."""
    if given is None:
        drawn = sampler.draw(count)
        return _asked(sampler, drawn.output, (drawn.args, drawn.kwargs), count, batch)
    with sampler._call(there, given):
        output, made_of = sampler._of_all(sampler._source.like(given, there, count, rng), count)
    return _asked(sampler, output, made_of, count, batch)


def _asked(sampler: Sampler, output: Any, inputs: Inputs, count: int, batch: int) -> Tensor:
    """D's responses to all samples, in batches, on the CPU."""
    source, found = sampler._source, []
    source.begin(inputs)
    for index in torch.arange(count).split(batch):
        held, made_of = source.pick((output, inputs), index, count)
        found.append(source.response(held, made_of).cpu().double())
    return torch.cat(found)


@torch.no_grad()
def _asked_of_real(
    sampler: Sampler, real: Tensor, given: Inputs | None, count: int, batch: int, rng: torch.Generator
) -> Tensor:
    """D's responses to real samples, as if G had made them of the inputs that were given."""
    source, axis = sampler._source, sampler._source.rows.axis_of(real)
    inputs = given if given is not None else source.draw(count, rng)
    source.begin(inputs)
    template = source.made(source.pick_inputs(inputs, torch.arange(1), count))  # what G's output looks like
    found = []
    for index in torch.arange(count).split(batch):
        shown = with_image(template, real.index_select(axis, index.to(real.device)).to(image_of(template)))
        found.append(source.response(shown, source.pick_inputs(inputs, index, count)).cpu().double())
    return torch.cat(found)


def _fitted(
    true: Tensor,
    fake: Tensor,
    method: Literal["platt", "isotonic"],
    places: Literal["mean", "each"],
    rng: torch.Generator,
) -> Calibration:
    """One half of the answers fits, the other measures."""
    halves: dict[str, list[Tensor]] = {"fit": [], "held out": []}
    for answers in (true, fake):
        order = torch.randperm(len(answers), generator=rng)
        for name, part in zip(halves, order.chunk(2), strict=True):
            halves[name].append(answers[part])
    values = [part if places == "each" else part.mean(1, keepdim=True) for part in halves["fit"]]
    labels = torch.cat([torch.full((part.numel(),), label) for part, label in zip(values, (True, False), strict=True)])
    answers = torch.cat([part.flatten() for part in values])
    prior = math.log(values[0].numel() / values[1].numel())
    made: dict[str, Any] = {"method": method, "places": places}
    if method == "platt":
        slope, offset = platt(answers, labels)
        made |= {"slope": slope, "offset": offset - prior}
    else:
        x, odds = isotonic(answers, labels)
        made |= {"knots": (x, odds - prior)}
    rough = Calibration(**made)
    ratios = [rough(part) for part in halves["held out"]]
    means = torch.cat([part.mean(1) for part in halves["held out"]])
    real = torch.cat([torch.full((len(part),), label) for part, label in zip(ratios, (True, False), strict=True)])
    found = auc(means, real)
    error, curve = reliability(torch.cat(ratios) + math.log(len(ratios[0]) / len(ratios[1])), real)
    if found < 0.55:
        logger.warning(
            "D hardly tells real samples from generated ones (AUC %.2f; 0.5 is chance): its ratio is worth little%s.",
            found, "" if found > 0.45 else ", and it prefers generated ones",
        )  # fmt: skip
    return Calibration(**made, auc=found, error=error, curve=curve, real=ratios[0])
