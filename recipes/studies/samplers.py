"""Feedback beside the samplers: quality against cost, of G alone, of a head, and of each sampler on either.

Examples:
    >>> study = samplers(loop, measure, real=real, count=2000)                           # doctest: +SKIP
    >>> study.save("studies")           # studies/samplers.csv and .png                  # doctest: +SKIP
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fbwrap
from fbwrap.errors import CriticError, SettingError, UnsupportedError
from fbwrap.feedback.critic import image_of
from fbwrap.loop import FeedbackLoop
from fbwrap.plots import figure_class
from fbwrap.samplers import SAMPLERS

from .sweeps import Measure, Study

logger = logging.getLogger("fbwrap")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "plain": {}, "drs": {"keep": 0.25}, "mhgan": {"length": 20}, "topk": {"of": 4}, "dgflow": {"steps": 25},
    "dot": {"steps": 20}, "ddls": {"steps": 50}, "collaborative": {"steps": 10},
}  # fmt: skip
REPEATS, _SHOWN = 3, 6


@dataclass(frozen=True)
class SamplerStudy(Study):
    """Rows of :func:`samplers`; its plot has the cost along its axis, and whiskers."""

    @property
    def measured(self) -> list[str]:
        """Columns that hold measured numbers."""
        ends = (", least", ", most")
        return [key for key in super().measured if key != "cost" and not key.endswith(ends)]

    def plot(self) -> Any:
        """A matplotlib figure: each measured number over the cost of a sample, a point a row."""
        names = self.measured
        figure = figure_class()(figsize=(5.5 * len(names), 4), layout="constrained")
        for place, name in enumerate(names):
            axes = figure.add_subplot(1, len(names), place + 1)
            for row in self.rows:
                low, high = (abs(row[f"{name}, {end}"] - row[name]) for end in ("least", "most"))
                mark = "s" if str(row["samples"]).startswith("head") else "o"
                axes.errorbar([row["cost"]], [row[name]], [[low], [high]], marker=mark, capsize=2)
                label = f"{row['samples']}, {row['sampler']}".removesuffix(", plain")
                axes.annotate(label, (row["cost"], row[name]), fontsize=7, xytext=(4, 3), textcoords="offset points")
            axes.set_xscale("log")
            axes.margins(x=0.25)  # names stand to the right of their points
            axes.set_xlabel("cost of a sample, in calls of G", fontsize=8)
            axes.set_title(name, fontsize=9)
        return figure


def samplers(
    loop: FeedbackLoop,
    measure: Measure,
    *,
    real: Tensor | None = None,
    inputs: object = None,
    loss: str | None = None,
    count: int = 1000,
    seed: int = 0,
    label: int | None = None,
    only: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] = SETTINGS,
    repeats: int = REPEATS,
) -> SamplerStudy:
    """Each sampler on G's samples and on the head's, with the loop's D.

    Args:
        real: samples that neither G nor D nor the head was trained on: D is calibrated on them (Platt). None: D's
            answer is taken as its loss makes it, and samplers that need a ratio are left out where it makes none.
        inputs: G's inputs that belong to them, where D is asked with labels or a condition.
        loss: that D was trained with; None: what the head or the networks tell.
        count: samples in a measurement; ``repeats`` of them with other random numbers give the mean and the ends.
        only: samplers, by name; None: all.
        settings: of each sampler.
    """
    names = list(settings if only is None else dict.fromkeys(["plain", *only]))
    if unknown := [name for name in names if name not in SAMPLERS]:
        raise SettingError(f"There is no sampler {unknown[0]!r}. There are {', '.join(SAMPLERS)}.")
    rows, shown = [], {}
    for which, feedback in (("G", False), ("head", True)):
        if feedback and not loop.connections:
            continue
        calibration = None
        if real is not None:
            calibration = fbwrap.calibrate(loop, real, inputs=inputs, feedback=feedback, seed=seed)
        for name in names:
            how = {**settings.get(name, {}), "calibration": calibration, "loss": loss, "feedback": feedback}
            try:
                made = [_measured(_made(name, loop, how, seed + at), measure, count, label) for at in range(repeats)]
            except (SettingError, UnsupportedError, CriticError) as error:
                if name == "plain":
                    raise
                logger.warning("%s on %s is left out: %s", name, which, error)
                continue
            rows.append({"samples": which, "sampler": name, **_spread([numbers for numbers, _ in made])})
            shown[f"{which}, {name}".removesuffix(", plain")] = made[0][1]
    return SamplerStudy("samplers", "sampler", tuple(rows), shown)


def _made(name: str, loop: FeedbackLoop, how: Mapping[str, Any], seed: int) -> Callable[[int, int | None], Any]:
    sampler = SAMPLERS[name](loop, seed=seed, **how)

    def draw(count: int, label: int | None) -> tuple[Any, float]:
        output = sampler(count, label=label)
        return output, float("nan") if sampler.cost is None else sampler.cost

    return draw


def _measured(
    draw: Callable[[int, int | None], Any], measure: Measure, count: int, label: int | None
) -> tuple[dict[str, float], Tensor]:
    output, cost = draw(count, label)
    y = image_of(output).detach().float().cpu()
    return {"cost": cost, **measure(y)}, y[:_SHOWN] if y.dim() != 2 else y[:1000]


def _spread(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means, and of all but the cost the least and the most."""
    spread: dict[str, float] = {}
    for key in found[0]:
        values = torch.tensor([numbers[key] for numbers in found], dtype=torch.float64)
        spread[key] = float(values.mean())
        if key != "cost":
            spread |= {f"{key}, least": float(values.min()), f"{key}, most": float(values.max())}
    return spread
