"""How D's answer is turned into a density ratio by measuring: on real samples and generated ones, held out.

Examples:
    >>> calibration = fbwrap.calibrate(loop, real)                       # doctest: +SKIP
    >>> print(calibration)                                               # doctest: +SKIP
    >>> fbwrap.samplers.DRS(loop, calibration=calibration)(16)           # doctest: +SKIP

A classifier of real against generated samples whose probabilities are right knows the ratio of their densities:
log p/q = log P/(1 − P) for as many of each. Platt's scaling fits P = σ(a r + b) to D's answers r; isotonic regression
fits the best function that never falls.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import SettingError


@dataclass(frozen=True, eq=False)
class Calibration:
    """Log density ratios log p/q of D's responses: ``calibration(response)``, (N, …) to (N,).

    Attributes:
        method: ``"platt"`` or ``"isotonic"``.
        places: ``"mean"``: the mean of a response map is calibrated; ``"each"``: each place, and the mean of the
            ratios is the sample's.
        slope, offset: Platt's a and b.
        knots: isotonic: D's answers, and the log ratio at each; straight lines between.
        auc: of D's answers on the held-out half: 0.5 tells nothing, 1 everything.
        error: the expected calibration error there: how far P is from the share of real samples, on average.
        curve: the reliability diagram: a row a tenth of the samples, (mean P, share of real ones, samples).
        real: log ratios of the held-out real samples.
    """

    method: Literal["platt", "isotonic"]
    places: Literal["mean", "each"]
    slope: float = 1.0
    offset: float = 0.0
    knots: tuple[Tensor, Tensor] | None = None
    auc: float = math.nan
    error: float = math.nan
    curve: tuple[tuple[float, float, int], ...] = ()
    real: Tensor | None = None

    def __call__(self, response: Tensor) -> Tensor:
        """Log ratios, (N,), in a graph where the response is in one."""
        values = response.flatten(1)
        values = values if values.dtype == torch.float64 else values.float()
        if self.places == "mean":
            values = values.mean(1, keepdim=True)
        return self._ratios(values).mean(1)

    def _ratios(self, values: Tensor) -> Tensor:
        if self.knots is None:
            return self.slope * values + self.offset
        x, y = (knots.to(values) for knots in self.knots)
        place = torch.searchsorted(x, values.contiguous()).clamp(1, len(x) - 1)
        low, high = x[place - 1], x[place]
        share = ((values - low) / (high - low)).clamp(0, 1)
        return y[place - 1] + share * (y[place] - y[place - 1])

    def __str__(self) -> str:
        lines = [f"{self.method}, AUC {self.auc:.3f}, calibration error {self.error:.3f} (held-out samples)"]
        if self.knots is None:
            lines.append(f"log p/q = {self.slope:.4g} r {self.offset:+.4g}")
        lines.append("P(real)  share of real ones  samples")
        lines += [f"{p:7.2f}  {share:18.2f}  {count:7}" for p, share, count in self.curve]
        return "\n".join(lines)


def platt(answers: Tensor, real: Tensor) -> tuple[float, float]:
    """a and b of P = σ(a r + b), by Newton's method, with Platt's (1999) targets, which keep a finite.

    Examples:
        >>> r = torch.linspace(-4, 4, 2001)
        >>> real = torch.rand(2001, generator=torch.Generator().manual_seed(0)) < torch.sigmoid(2 * r - 1)
        >>> [round(value, 1) for value in platt(r, real)]
        [2.0, -1.0]
    """
    answers, real = answers.double(), real.bool()
    mean, deviation = answers.mean(), answers.std(correction=0)
    if not float(deviation) > 0:
        raise SettingError("D answers the same to all samples: there is nothing to calibrate.")
    r = (answers - mean) / deviation
    positive, negative = int(real.sum()), int((~real).sum())
    target = torch.where(real, (positive + 1) / (positive + 2), 1 / (negative + 2)).double()
    x = torch.stack([r, torch.ones_like(r)], 1)
    weights = torch.zeros(2, dtype=torch.float64)

    def loss(w: Tensor) -> float:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(x @ w, target))

    for _ in range(100):
        p = torch.sigmoid(x @ weights)
        gradient = x.T @ (p - target) / len(r)
        curvature = x.T @ (x * (p * (1 - p)).unsqueeze(1)) / len(r) + 1e-12 * torch.eye(2, dtype=torch.float64)
        step, rate, now = torch.linalg.solve(curvature, gradient), 1.0, loss(weights)
        while loss(weights - rate * step) > now and rate > 1e-6:
            rate /= 2
        weights = weights - rate * step
        if float((rate * step).abs().max()) < 1e-10:
            break
    slope = float(weights[0] / deviation)
    return slope, float(weights[1]) - slope * float(mean)


def isotonic(answers: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """The log odds that never fall and fit best (pool adjacent violators), as knots: answers and log odds. Each pool
    counts half a real and half a generated sample more than it holds, so that no odds are infinite.

    Examples:
        >>> x, odds = isotonic(torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([0, 1, 0, 1]))
        >>> x.tolist(), [round(value, 2) for value in odds.tolist()]
        ([0.0, 1.5, 3.0], [-1.1, 0.0, 1.1])
    """
    values, place = answers.double().unique(return_inverse=True)  # equal answers are one
    samples = torch.bincount(place).double()
    positive = torch.zeros_like(samples).index_add(0, place, real.double())
    pools: list[list[float]] = []  # real ones, samples, sum of answers
    for value, of, every in zip(values.tolist(), positive.tolist(), samples.tolist(), strict=True):
        pools.append([of, every, value * every])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [mine + other for mine, other in zip(pools[-1], last, strict=True)]
    if len(pools) < 2:
        raise SettingError("D's answers do not rise from generated to real samples: there is nothing to calibrate.")
    held = torch.tensor(pools, dtype=torch.float64)
    odds = ((held[:, 0] + 0.5) / (held[:, 1] - held[:, 0] + 0.5)).log()
    return held[:, 2] / held[:, 1], odds.cummax(0).values  # a small pool's half samples may not make it fall


def auc(answers: Tensor, real: Tensor) -> float:
    """The probability that D answers more to a real sample than to a generated one; ties count half.

    Examples:
        >>> auc(torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.tensor([False, False, True, True]))
        0.875
    """
    fake, true = answers[~real.bool()].double().sort().values, answers[real.bool()].double()
    below = torch.searchsorted(fake, true, right=False) + torch.searchsorted(fake, true, right=True)
    return float(below.double().mean() / 2 / len(fake))


def reliability(odds: Tensor, real: Tensor, rows: int = 10) -> tuple[float, tuple[tuple[float, float, int], ...]]:
    """The expected calibration error, and the diagram: samples in order of P, in as many rows of the same size."""
    order = odds.argsort()
    curve = [
        (float(odds[part].sigmoid().mean()), float(real[part].double().mean()), len(part)) for part in order.chunk(rows)
    ]
    error = sum(abs(p - share) * count for p, share, count in curve) / len(odds)
    return error, tuple(curve)
