"""Whether a head does harm: compared with its base on held-out data while it trains; its strength chosen in the end.

Examples:
    >>> fit = fbwrap.recipes.AFL(loop, loss="hinge").fit(images, latents, steps=2000)    # doctest: +SKIP
    >>> loop.strength, fit.held_out                                                      # doctest: +SKIP
    (0.5, {0.1: 0.978, 0.25: 0.963, 0.5: 0.955, 1.0: 1.339})

``held_out`` gives, for each share of the strength that the head was trained at, how far its samples are from real
ones, as a ratio to the base's distance, for the same latents (:class:`~fbwrap.recipes.metrics.PixelSpace`). It
needs no label and no pretrained network. What follows from it:

* A head that is worse than the base at every strength, or more than twice as far at the full one, is of no use at any:
  such a distance is too coarse to trust what remains at a tenth. Found so three times running, the run stops.
* The head that is kept is the last one, or the best one seen where the last is worse than that.
* Its strength is the one at which it trained where that is as good as any; else the best of the shares; 0 where none
  is better than the base.

Real samples are rows of the data that training does not see, where the data has rows enough (a tensor or a dataset with
four times ``held_out`` of them). Of a function, an iterable or fewer rows they are drawn as those of training are.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from fbwrap.engine.rng import RngState
from fbwrap.feedback.critic import image_of
from fbwrap.loop import FeedbackLoop

from ..metrics.pixel_space import PixelSpace
from .checkpoint import load_state, state_of
from .steps import as_inputs

logger = logging.getLogger("fbwrap")
SHARES = (0.1, 0.25, 0.5, 1.0)
_SAME = 0.01  # of the base's distance: differences below it say nothing
_FAR = 2.0  # times the base's distance
_PATIENCE = 3
_FEWEST = 16  # samples


class Watch:
    """Compares a loop's head with its base.

    Args:
        loop: the loop that is trained; at strength 0 it is the base.
        networks: what is kept of a run, by name: the averaged head, the feedback's D where it learns.
        showing: ``f()``: a block within which the loop's head is that average, in eval mode.
        mean: ``f(values)``: the mean over the processes, so that all decide alike.
    """

    def __init__(
        self,
        loop: FeedbackLoop,
        networks: Mapping[str, nn.Module],
        showing: Callable[[], AbstractContextManager[object]],
        mean: Callable[[dict[str, float]], dict[str, float]] = dict,
    ):
        self.loop, self._networks, self._showing, self._mean = loop, networks, showing, mean
        self.trained_at = loop.strength
        self.best: dict[str, Any] | None = None
        self.worse = 0
        self._space: PixelSpace | None = None

    def begin(self, real: Tensor, inputs: Sequence[object]) -> None:
        """Take what is compared: (N, …) held-out real samples and held-out inputs of G, a batch each. Too few of them,
        or what is no finite numbers, gives no comparison."""
        self._inputs = list(inputs)
        with self._showing():
            self._base = self._samples(0.0)
        sets = (real, self._base)
        if all(len(each) >= _FEWEST and each.is_floating_point() and torch.isfinite(each).all() for each in sets):
            self._space = PixelSpace(real)

    def check(self, step: int) -> bool:
        """Compare now; True where the run has diverged."""
        if self._space is None:
            return False
        with self._showing():
            ratio = _score(self._ratios(self._space))
        if self.best is None or ratio < self.best["ratio"]:
            state = {name: {k: _copied(v) for k, v in state_of(net).items()} for name, net in self._networks.items()}
            self.best = {"ratio": ratio, "step": step, "state": state}
        self.worse = 0 if ratio <= 1 + _SAME else self.worse + 1
        return self.worse >= _PATIENCE

    def restore_best(self, reason: str) -> bool:
        """Put the best state back, saying why; False where there is none."""
        if self.best is None:
            return False
        for name, net in self._networks.items():
            load_state(net, self.best["state"][name])
        logger.warning(
            (
                "%s The head was set back to step %d, where its distance to held-out data was %.2f times that of "
                "G alone."
            ),
            reason, self.best["step"], self.best["ratio"],
        )  # fmt: skip
        return True

    def choose(self, head: nn.Module) -> dict[float, float]:
        """Keep the best head, in ``head`` and among what is kept, and set the loop's strength.

        Returns:
            The ratio at each share of the strength; empty where there was nothing to compare with.
        """
        if self._space is None:
            return {}
        ratios = self._ratios(self._space)
        if self.best is not None and _score(ratios) > self.best["ratio"] + 2 * _SAME:
            self.restore_best("The end of the run is not its best.")
            load_state(head, self.best["state"]["head"])
            ratios = self._ratios(self._space)
        best = min(ratios, key=lambda share: ratios[share])
        share = best if _score(ratios) < 1 else 0.0  # less than the full strength has to be worth it
        if ratios[1.0] <= min(ratios[best], 1.0) + _SAME:
            share = 1.0
        self.loop.strength = self.trained_at * share
        if share < 1:
            listed = ", ".join(f"{at:g}: {ratio:.3f}" for at, ratio in ratios.items())
            why = "the best one" if share else "no gain: the head is worse than the base"
            logger.warning(
                "The head's strength was set to %g times its strength in training (%s). Distance to held-out "
                "data by strength, divided by that of G alone: %s.", share, why, listed,
            )  # fmt: skip
        return ratios

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "worse": self.worse, "trained_at": self.trained_at}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self.worse = state["best"], state["worse"]
        self.trained_at = self.loop.strength = state["trained_at"]

    def _ratios(self, space: PixelSpace) -> dict[float, float]:
        found = {str(share): space.ratio(self._samples(share), self._base) for share in SHARES}
        return {float(share): ratio for share, ratio in self._mean(found).items()}

    @torch.no_grad()
    def _samples(self, share: float) -> Tensor:
        rng = RngState(next(iter(self.loop.feedback.parameters())).device)
        before, made = rng.get(), []
        try:
            torch.manual_seed(0)
            for batch in self._inputs:
                args, kwargs = as_inputs(batch)
                made.append(image_of(self.loop.rollout(*args, strength=self.trained_at * share, **kwargs).output))
        finally:
            rng.set(before)
        return torch.cat(made)


def _score(ratios: Mapping[float, float]) -> float:
    """The ratio at the best strength; infinite where the full one is far off."""
    return min(ratios.values()) if ratios[1.0] <= _FAR else math.inf


def _copied(value: object) -> object:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)
