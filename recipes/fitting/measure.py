"""How far a generator's samples are from real ones, and how sure that is.

Examples:
    >>> import torch
    >>> made = torch.Generator().manual_seed(0)
    >>> real, near, far = (torch.randn(400, 8, generator=made) + apart for apart in (0.0, 0.1, 1.0))
    >>> Part(real, [], lambda samples: samples).ratio(near, far).high < 1
    True
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fbwrap.feedback.critic import image_of

from ..metrics.distances import precision_and_recall
from ..training.steps import as_inputs
from .space import distance, paired_errors

Generator = Callable[..., Any]
RESAMPLES = 100
_COMPARED = 2000  # samples of precision and recall
_GLANCE, _BRIEF = 1000, 5000  # samples: to choose a strength, to compare networks, while training goes on
_TINY = 1e-12


@dataclass(frozen=True)
class Interval:
    """A number, and what 95 % of bootstrap resamples lie between."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


class Part:
    """A held-out part: real samples, and inputs of G that are always the same. The distance is Fréchet's.

    Args:
        real: (N, …) real samples.
        inputs: batches of G's inputs.
        space: samples to features (N, D).
    """

    def __init__(self, real: Tensor, inputs: Sequence[Any], space: Callable[[Tensor], Tensor]) -> None:
        self.inputs, self.space = list(inputs), space
        self.real = space(real)

    @torch.no_grad()
    def samples(self, generate: Generator, most: int | None = None) -> Iterator[Tensor]:
        """What ``generate`` makes of each batch of the inputs, of the first ``most`` samples' alone if that is said."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            done = 0
            for batch in self.inputs:
                args, kwargs = as_inputs(batch)
                yield (made := image_of(generate(*args, **kwargs)))
                done += len(made)
                if most is not None and done >= most:
                    return

    def look(self, generate: Generator, most: int | None = None) -> Tensor:
        """What the measures below are of: features of the samples."""
        return torch.cat([self.space(samples) for samples in self.samples(generate, most)])

    def distance(self, generate: Generator, most: int | None = None) -> float:
        """To the real samples; infinite where a sample is not finite."""
        seen = self.look(generate, most)
        return self.value(seen) if torch.isfinite(seen).all() else float("inf")

    def brief(self, generate: Generator) -> float:
        """The distance of fewer samples, for what is compared often; only to be compared with its like."""
        return self.distance(generate, _BRIEF)

    def best_of(self, generators: Mapping[float, Generator]) -> tuple[float, float]:
        """Which of several generators that are much alike is the best, and its :meth:`brief` distance: chosen by fewer
        samples still, and measured anew."""
        glances = {key: self.distance(generate, _GLANCE) for key, generate in generators.items()}
        best = min(glances, key=lambda key: glances[key])
        return best, self.brief(generators[best])

    def value(self, seen: Tensor) -> float:
        """The distance of what :meth:`look` gave."""
        return distance(self.space, seen, self.real)

    def interval(self, seen: Tensor) -> Interval:
        """The distance with its interval, samples and real ones drawn anew."""
        values = [distance(self.space, a, b) for a, b in _resampled((seen,), self.real)]
        return _between(self.value(seen), values)

    def ratio(self, seen: Tensor, others: Tensor) -> Interval:
        """The distance over that of ``others``, made from the same inputs, with its interval."""
        values = []
        for a, b, target in _resampled((seen, others), self.real):
            values.append(distance(self.space, a, target) / max(distance(self.space, b, target), _TINY))
        return _between(self.value(seen) / max(self.value(others), _TINY), values)

    def beside(self, seen: Tensor) -> dict[str, float]:
        """Further measures, by name."""
        precision, recall = precision_and_recall(seen[:_COMPARED], self.real[:_COMPARED])
        return {"precision": precision, "recall": recall}


class PairedPart(Part):
    """A held-out part of pairs: inputs of G, and what it should make of them. The distance is the mean error.

    Args:
        targets: (N, …), in the order of the inputs.
        repeats: rows that come from one item of the data; those of an item stand together.
    """

    def __init__(
        self, targets: Tensor, inputs: Sequence[Any], space: Callable[[Tensor], Tensor], repeats: int = 1
    ) -> None:
        self.inputs, self.space, self.targets, self._repeats = list(inputs), space, targets, repeats

    def look(self, generate: Generator, most: int | None = None) -> Tensor:
        """(N, 2): of each item, always of all, the error in the space, and its mean squared error."""
        found, begin = [], 0
        for samples in self.samples(generate):
            targets = self.targets[begin : begin + len(samples)].to(samples)
            begin += len(samples)
            squared = (samples - targets).flatten(1).square().mean(1)
            found.append(torch.stack([paired_errors(self.space, samples, targets), squared.cpu()], 1))
        return torch.cat(found).double().unflatten(0, (-1, self._repeats)).mean(1)

    def best_of(self, generators: Mapping[float, Generator]) -> tuple[float, float]:
        """The same by all items, once."""
        found = {key: self.distance(generate) for key, generate in generators.items()}
        best = min(found, key=lambda key: found[key])
        return best, found[best]

    def value(self, seen: Tensor) -> float:
        """The mean error."""
        return float(seen[:, 0].mean())

    def interval(self, seen: Tensor) -> Interval:
        """The mean error with its interval, items drawn anew."""
        return _between(self.value(seen), [self.value(seen[rows]) for rows in _rows(len(seen))])

    def ratio(self, seen: Tensor, others: Tensor) -> Interval:
        """The mean error over that of ``others``, of the same inputs, with its interval."""

        def over(a: Tensor, b: Tensor) -> float:
            return self.value(a) / max(self.value(b), _TINY)

        return _between(over(seen, others), [over(seen[rows], others[rows]) for rows in _rows(len(seen))])

    def beside(self, seen: Tensor) -> dict[str, float]:
        """The root of the mean squared error, in G's own units."""
        return {"RMSE": float(seen[:, 1].mean().sqrt())}


def _rows(many: int) -> Iterator[Tensor]:
    """Rows drawn with replacement."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(RESAMPLES):
        yield torch.randint(many, (many,), generator=generator)


def _resampled(sets: tuple[Tensor, ...], real: Tensor) -> Iterator[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
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
