"""What all samplers share: how they are called, their random numbers, their cost and what they noted.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    >>> loop = fbwrap.attach(G, D, None, example=torch.zeros(1, 2))
    >>> loop.latents = "normal"
    >>> sampler = Plain(loop, seed=0)
    >>> sampler(5).shape, sampler.cost
    (torch.Size([5, 2]), 1.0)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..engine.context import outside_inference_mode, usable
from ..errors import SettingError
from ..feedback.critic import image_of
from ..feedback.facts import Inputs
from ..feedback.loop import Loop
from ..recognition.trained_with import ends_in_sigmoid, last_is_sigmoid
from .calibration import Calibration
from .ratio import RATIOS, Ratio, check_loss, loss_behind, mean_of, ratio_of
from .source import Held, Source, with_image


@dataclass(frozen=True)
class Drawn:
    """Samples, and what they were made of.

    Attributes:
        output: as G returns it, all samples in one batch.
        args, kwargs: G's inputs for them: latents as they were at the end, labels as drawn.
    """

    output: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Sampler(ABC):
    """Draws samples with the help of D; G, D and the feedback modules stay as they are.

    ``sampler(16)`` draws 16 samples and returns them as G returns a batch; ``sampler.refine(z)`` (or ``refine(z, y)``:
    G's own inputs) returns one sample for each row, and keeps what is no latent, such as labels.

    Args:
        loop: made by :func:`fbwrap.attach` or loaded; ``fbwrap.attach(G, D, None)`` has no feedback. Samplers that
            choose among samples take another sampler too, and choose among its samples.
        feedback: whether what is chosen from or moved are y_T, with feedback as the loop is set; False: G's own
            samples.
        loss: the loss that D was trained with, ``"bce"``, ``"hinge"``, ``"least_squares"``, ``"wasserstein_gp"`` or
            ``"relativistic"``. None: what the head or the networks tell.
        calibration: log density ratios in place of D's bare answer: what :func:`fbwrap.calibrate` returned.
        batch: how many samples are made at once.
        seed: of the sampler's own random numbers; torch's are not touched. Two calls draw other samples, a new sampler
            of the same seed the same.

    Attributes:
        cost: of the last call, for each sample that it returned, in calls of G for one sample (by FLOPs, the way back
            through the networks counted like the way there); what was measured once before, for all calls to come, is
            not in it. None: before the first call, or where G's FLOPs cannot be counted.
        diagnostics: what the last call noted, by name.
    """

    moves_latents = True  # whether G must have a latent
    asks_critic = True
    wants_ratio = False  # whether D's answer must be a density ratio
    chooses = False  # whether it chooses among samples, which another sampler may make

    def __init__(
        self,
        loop: "Loop | Sampler",
        *,
        feedback: bool = True,
        loss: str | None = None,
        calibration: Calibration | None = None,
        batch: int = 64,
        seed: int = 0,
    ):
        if not isinstance(loop, Loop | Sampler):
            raise SettingError(
                f"{type(self).__name__} needs a loop, not {type(loop).__name__}: fbwrap.attach(G, D, None) makes one "
                "without feedback, fbwrap.load_pretrained(head) one with."
            )
        if batch < 1:
            raise SettingError(f"batch={batch}: pass 1 or more.")
        check_loss(loss)
        self._first = loop if isinstance(loop, Sampler) else None
        if self._first is not None and not self.chooses:
            raise SettingError(
                f"{type(self).__name__} moves samples of a loop. To choose among what it makes, put it inside: "
                f"DRS({type(self).__name__}(loop))."
            )
        if self._first is not None and not feedback:
            raise SettingError("feedback= belongs to the sampler inside, whose samples are chosen from.")
        self._source: Source = loop._source if isinstance(loop, Sampler) else Source(loop, feedback)
        if self.loop.discriminator is None and self.asks_critic:
            raise SettingError(f"{type(self).__name__} asks D, and this loop has none. Attach with one.")
        self._loss, self.calibration = loss, calibration
        self._batch, self._generator = batch, torch.Generator().manual_seed(seed)
        self.cost: float | None = None
        self.diagnostics: dict[str, Any] = {}
        self._sums: dict[str, tuple[float, int]] = {}
        if self.moves_latents and self._first is None:
            self._source.latents()
        if self.wants_ratio:
            _ = self._ratio  # raises where there is none

    @property
    def loop(self) -> Loop:
        """The loop whose samples these are."""
        return self._source.loop

    def __call__(self, count: int, *, label: int | None = None) -> Any:
        """``count`` samples, as G returns a batch of them.

        Args:
            label: what whole numbers among G's inputs are; None: drawn as ``loop.latents`` says.
        """
        return self.draw(count, label=label).output

    def draw(self, count: int, *, label: int | None = None) -> Drawn:
        """Samples with the inputs that they were made of; arguments as of a call."""
        if count < 1:
            raise SettingError(f"{count} samples: pass 1 or more.")
        with self._call(count):
            output, (args, kwargs) = self._drawn(count, label)
        return Drawn(output, args, kwargs)

    def refine(self, *args: Any, **kwargs: Any) -> Any:
        """One sample for each row of G's inputs, as G returns a batch; all that is no latent stays as it is given."""
        inputs: Inputs = usable(self._source.as_given(args, kwargs))
        count = self._source.count_of(inputs)
        with self._call(count, inputs):
            return self._of_all(inputs, count)[0]

    # -- for the methods ----------------------------------------------------------------------------

    @abstractmethod
    def _refined(self, inputs: Inputs, count: int) -> Held:
        """One sample for each row of one batch of inputs, and the inputs that they were made of."""

    def _of_all(self, inputs: Inputs, count: int) -> Held:
        """One sample for each row, in batches."""
        source, batches = self._source, torch.arange(count).split(self._batch)
        parts = [self._refined(source.pick_inputs(inputs, index, count), len(index)) for index in batches]
        return source.joined(parts, list(map(len, batches)))

    def _drawn(self, count: int, label: int | None) -> Held:
        """New samples, and the inputs that they were made of."""
        sizes = list(map(len, torch.arange(count).split(self._batch)))
        parts = [self._refined(self._source.draw(size, self._generator, label), size) for size in sizes]
        return self._source.joined(parts, sizes)

    def _candidates(self, inputs: Inputs, count: int) -> Held:
        """Samples to choose from: the loop's, or those of another sampler."""
        if self._first is not None:
            return self._first._refined(inputs, count)
        return self._source.made(inputs), inputs

    def _judged(self, inputs: Inputs, count: int) -> tuple[Any, Inputs, Tensor]:
        """Samples to choose from, their inputs and D's response to each."""
        output, inputs = self._candidates(inputs, count)
        return output, inputs, self._source.response(output, inputs)

    @cached_property
    def _loss_of_critic(self) -> str | None:
        """The loss that D was trained with: as said, as the head or the networks tell, or as a sigmoid at D's end."""
        return self._loss or loss_behind(self.loop) or ("bce" if self._sigmoid else None)

    @property
    def _knows_ratio(self) -> bool:
        """Whether D's answer is a density ratio."""
        return self.calibration is not None or self._loss_of_critic in RATIOS

    @cached_property
    def _ratio(self) -> Ratio:
        """Log density ratios of D's responses."""
        if self.calibration is not None:
            return self.calibration
        return ratio_of(self._loss_of_critic, sigmoid=self._sigmoid)

    @cached_property
    def _potential(self) -> Ratio:
        """What rises with how real D finds a sample: the log ratio where D's answer is one, else its bare mean."""
        if self._knows_ratio:
            return self._ratio
        return ratio_of("bce", sigmoid=True) if self._sigmoid else mean_of

    @cached_property
    def _sigmoid(self) -> bool:
        """Whether D ends in a sigmoid, tried on the example."""
        args, kwargs = self._source.example()
        with self._source.recording():
            output = self.loop.rollout(*args, steps=0, **kwargs).output
            leaf = with_image(output, image_of(output).detach().clone().requires_grad_())
            response = self.loop.ask(leaf, *args, **kwargs)
        if response.grad_fn is None and self.loop.discriminator is not None:  # D computes without autograd
            return last_is_sigmoid(self.loop.discriminator)
        return ends_in_sigmoid(response)

    def _tally(self, name: str, total: float, of: int) -> None:
        """A mean over all batches of a call, for ``diagnostics``."""
        before, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (before + total, count + of)
        self.diagnostics[name] = (before + total) / (count + of)

    def _tally_mean(self, name: str, values: Tensor) -> None:
        """The same of a batch's values, one a sample."""
        self._tally(name, float(values.detach().cpu().double().sum()), len(values))

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator).to(like)

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)

    def _prepare(self, inputs: Inputs | None = None, count: int = 0) -> None:
        """What is measured before a call: once, or on what is given where that cannot be drawn."""
        if self._first is not None:
            self._first._prepare(inputs, count)
        if self.asks_critic:
            _ = self._potential

    def _like_a_call(self, size: int, inputs: Inputs | None, count: int) -> Inputs:
        """Inputs to measure with: like those of the call."""
        if inputs is not None and self._source.given(inputs):
            return self._source.like(inputs, count, size, self._generator)
        return self._source.draw(size, self._generator)

    def _forget(self) -> None:
        """Before a call: nothing noted yet."""
        if self._first is not None:
            self._first._forget()
        self.cost, self.diagnostics, self._sums = None, {}, {}

    @contextmanager
    def _call(self, count: int, inputs: Inputs | None = None) -> Iterator[None]:
        """One call: alone on its sampler, its cost counted."""
        with self._source.lock, outside_inference_mode():
            self._source.begin(inputs)
            self._forget()
            self._prepare(inputs, count)
            self._forget()
            self._source.spent = 0.0
            yield
            if self.calibration is not None:
                told = {"calibration AUC": self.calibration.auc, "calibration error": self.calibration.error}
                self.diagnostics |= {name: value for name, value in told.items() if math.isfinite(value)}
            if self.loop.plan.generator_flops > 0:
                self.cost = self._source.spent / count


class Plain(Sampler):
    """The loop's samples as they are, drawn like any sampler's: what all others are compared with.

    Examples:
        >>> fbwrap.samplers.Plain(loop, feedback=False)(16)              # doctest: +SKIP
    """

    asks_critic = moves_latents = False
    chooses = True

    def _refined(self, inputs: Inputs, count: int) -> Held:
        return self._candidates(inputs, count)
