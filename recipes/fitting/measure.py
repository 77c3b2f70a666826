"""How far a generator's samples are from real ones, and how sure that is.

Examples:
    >>> import torch
    >>> made = torch.Generator().manual_seed(0)
    >>> real, near, far = (torch.randn(400, 8, generator=made) + apart for apart in (0.0, 0.1, 1.0))
    >>> interval = ratio_interval(near, far, real)
    >>> interval.high < 1
    True
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fbwrap.feedback.critic import image_of

from ..metrics.distances import frechet_distance, precision_and_recall
from ..training.steps import as_inputs

Generator = Callable[..., Any]
RESAMPLES = 100
_COMPARED = 2000  # samples of precision and recall


@dataclass(frozen=True)
class Interval:
    """A number, and what 95 % of bootstrap resamples lie between."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


class Part:
    """A held-out part: real samples, and inputs of G that are always the same.

    Args:
        real: (N, …) real samples.
        inputs: batches of G's inputs.
        space: samples to features (N, D).
    """

    def __init__(self, real: Tensor, inputs: Sequence[Any], space: Callable[[Tensor], Tensor]) -> None:
        self.inputs, self.space = list(inputs), space
        self.real = space(real)

    @torch.no_grad()
    def features(self, generate: Generator, most: int | None = None) -> Tensor:
        """Features of what ``generate`` makes of the inputs, of the first ``most`` of them."""
        found: list[Tensor] = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for batch in self.inputs:
                args, kwargs = as_inputs(batch)
                found.append(self.space(image_of(generate(*args, **kwargs))))
                if most is not None and sum(map(len, found)) >= most:
                    break
        return torch.cat(found)

    def distance(self, generate: Generator, most: int | None = None) -> float:
        """Fréchet's, to the real samples."""
        features = self.features(generate, most)
        return frechet_distance(features, self.real) if torch.isfinite(features).all() else float("inf")

    def precision_and_recall(self, features: Tensor) -> tuple[float, float]:
        """Of features that :meth:`features` gave."""
        return precision_and_recall(features[:_COMPARED], self.real[:_COMPARED])


def interval(features: Tensor, real: Tensor, seed: int = 0) -> Interval:
    """A Fréchet distance with its interval, samples and real ones drawn anew."""
    values = [frechet_distance(a, b) for a, b in _resampled((features,), real, seed)]
    return _between(frechet_distance(features, real), values)


def ratio_interval(features: Tensor, others: Tensor, real: Tensor, seed: int = 0) -> Interval:
    """The distance of ``features`` over that of ``others``, made from the same inputs, with its interval."""
    values = []
    for a, b, target in _resampled((features, others), real, seed):
        values.append(frechet_distance(a, target) / max(frechet_distance(b, target), 1e-12))
    now = frechet_distance(features, real) / max(frechet_distance(others, real), 1e-12)
    return _between(now, values)


def _resampled(sets: tuple[Tensor, ...], real: Tensor, seed: int) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(RESAMPLES):
        rows = torch.randint(len(sets[0]), (len(sets[0]),), generator=generator)
        targets = torch.randint(len(real), (len(real),), generator=generator)
        yield (*(each[rows] for each in sets), real[targets])


def _between(value: float, values: list[float]) -> Interval:
    """The interval, moved to stand around the value: a bootstrapped Fréchet distance is biased upwards."""
    found = torch.tensor(values, dtype=torch.float64)
    shift = value - float(found.mean())
    low, high = (float(found.quantile(q)) + shift for q in (0.025, 0.975))
    return Interval(value, low, high)
