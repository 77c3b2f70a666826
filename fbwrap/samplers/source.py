"""A loop as samplers use it: inputs drawn, samples made and judged, gradients, and a count of what it costs.

Examples:
    >>> source = Source(loop)                                                       # doctest: +SKIP
    >>> inputs = source.draw(16, torch.Generator().manual_seed(0))                  # doctest: +SKIP
    >>> output, response = source.judged(inputs)                                    # doctest: +SKIP
"""

import inspect
import logging
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..engine.context import outside_inference_mode
from ..engine.names import Path, unwrap
from ..engine.pytree import map_tensors, put, tensors
from ..engine.trace import device_of
from ..errors import CriticError, SettingError, UnsupportedError
from ..feedback.critic import image_of
from ..feedback.facts import Inputs
from ..feedback.latents import LABEL, USUAL, distributions, draw
from ..feedback.loop import Loop
from ..heads.inputs import takes_pictures
from .rows import Rows

logger = logging.getLogger("fbwrap")
Held = tuple[Any, Inputs]
"""Samples as G returns them, and the inputs that they were made of."""
_told: "weakref.WeakSet[Loop]" = weakref.WeakSet()  # loops of which it was said that nobody described their latents
_DRAWN = ("normal", "uniform", "truncated")


class Source:
    """Makes samples with a loop and asks its D.

    Args:
        feedback: whether samples are y_T, with feedback as the loop is set; False: G's own.

    Attributes:
        rows: where samples stand in G's inputs and outputs.
        spent: what was run since it was last set to 0, in calls of G for one sample.
    """

    def __init__(self, loop: Loop, feedback: bool = True):
        self.loop, self._feedback = loop, feedback
        batch = loop.traces[0].batch
        self.rows = Rows(batch.axis, batch.rows)
        self.spent = 0.0
        self.row_wise: set[Path] = set()
        self.lock = threading.RLock()  # of all samplers that share it
        self.depends_on_batch: bool | None = None  # None: not tried yet

    # -- inputs -------------------------------------------------------------------------------------

    def latents(self) -> dict[Path, str]:
        """Which of G's inputs are latents, and their distributions.

        Raises:
            SettingError: none is.
        """
        found = self._latents()
        if not found:
            raise SettingError(
                "This G has no latent: its input is given, and there is nothing to draw or to move. "
                "fbwrap.samplers.Collaborative, which moves a layer of G, and DOT(loop, space='sample') work here: "
                "sampler.refine(inputs). If an input is a latent, say so: loop.latents = 'normal'."
            )
        return found

    def has_latents(self) -> bool:
        """Whether any input of G is a latent."""
        return bool(self._latents())

    def _latents(self) -> dict[Path, str]:
        pictures = self._pictures()
        drawn = self._drawn().items()
        return {path: how for path, how in drawn if how.split(":")[0] in _DRAWN and path not in pictures}

    def _pictures(self) -> set[Path]:
        """Pictures among G's inputs, where nobody said that they are drawn."""
        if self.loop.latents is not None:
            return set()
        return {path for path, tensor in tensors(self.loop.facts.example) if takes_pictures((tensor,))}

    def _drawn(self) -> dict[Path, str]:
        return distributions(self.loop.latents, self.loop.facts.example, self.rows.axis)

    def draw(self, count: int, generator: torch.Generator, label: int | None = None) -> Inputs:
        """Inputs for ``count`` samples, on G's device and of its dtype."""
        self.latents()
        if self._pictures():
            raise SettingError(
                "This G takes a picture beside its latent, and a picture cannot be drawn. Give it: "
                "sampler.refine(latents, pictures)."
            )
        if self.loop.latents is None and self.loop not in _told:
            _told.add(self.loop)
            labels = " and labels are 0" if LABEL in self._drawn().values() else ""
            logger.warning(
                "It is not known how this G's latents are distributed: %s numbers are assumed%s. Set loop.latents = "
                "'uniform:-1:1' or ['normal', 'labels:0:9'].", USUAL, labels,
            )  # fmt: skip
        made = draw(self.loop.latents, self.loop.facts.example, count, generator, label, self.rows.axis)
        return self._placed(made)

    def redraw(self, inputs: Inputs, count: int, generator: torch.Generator) -> Inputs:
        """The same inputs with new latents: labels and whatever else was given stay."""
        fresh = dict(tensors(self._placed(draw(
            self.loop.latents, self.loop.facts.example, count, generator, None, self.rows.axis
        ))))  # fmt: skip
        mine = dict(tensors(inputs))
        new = {}
        for path in self.latents():
            if path not in mine or mine[path].shape != fresh[path].shape:
                raise SettingError(
                    f"The inputs hold no latent like the example's {tuple(fresh[path].shape[1:])}: pass G's inputs as "
                    "G takes them."
                )
            new[path] = fresh[path].to(mine[path])
        return placed(inputs, new)

    def example(self) -> Inputs:
        """The loop's example, where G is now and of its dtype."""
        return self._placed(self.loop.facts.example)

    def as_given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
        """A call's inputs in the order of the example: what is passed by name there may be passed in place here."""
        wanted, named = self.loop.facts.example
        if kwargs and not named and len(args) < len(wanted):
            net, method = unwrap(self.loop.generator), self.loop.method
            try:
                bound = inspect.signature(getattr(net, method)).bind(*args, **kwargs)
            except (TypeError, ValueError):
                return args, kwargs
            if not bound.kwargs and len(bound.args) == len(wanted):
                return tuple(bound.args), {}
        return args, kwargs

    def given(self, inputs: Inputs) -> bool:
        """Whether inputs hold what cannot be drawn: a row for each sample that is neither latent nor label."""
        drawn, pictures = self._drawn(), self._pictures()
        return any(path in pictures or path not in drawn for path, _ in tensors(inputs) if path in self.row_wise)

    def like(self, inputs: Inputs, of: int, count: int, generator: torch.Generator) -> Inputs:
        """New latents, and what else was given of rows at random."""
        index = torch.randint(of, (count,), generator=generator)
        chosen = self.pick_inputs(inputs, index, of)
        return self.redraw(chosen, count, generator) if self.has_latents() else chosen

    def count_of(self, inputs: Inputs) -> int:
        """How many samples inputs are for."""
        drawn = self._drawn()
        for path, tensor in tensors(inputs):
            axis = self.rows.axis_of(tensor)
            if path in drawn and tensor.dim() > axis and tensor.shape[axis]:
                return tensor.shape[axis]
        raise SettingError(
            "No input has a row for each sample: pass G's inputs as in the example that the loop was attached with, "
            "one row or more."
        )

    def _placed(self, inputs: Inputs) -> Inputs:
        net = unwrap(self.loop.generator)
        device = device_of(net)
        dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), None)

        def placed(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        return map_tensors(placed, inputs)

    def begin(self, inputs: Inputs | None = None) -> None:
        """Before a call: which inputs have a row for each sample; given inputs may have more than drawn ones."""
        self.row_wise = set(self._drawn())
        if inputs is not None and (count := self.count_of(inputs)) > 1:
            self.row_wise |= {path for path, tensor in tensors(inputs) if self.rows.holds(tensor, count)}

    def pick(self, held: Held, index: Tensor, of: int) -> Held:
        """The samples at ``index``, of ``of``, with their inputs."""
        output, inputs = held
        return self.rows.pick(output, index, of), self.pick_inputs(inputs, index, of)

    def pick_inputs(self, inputs: Inputs, index: Tensor, of: int) -> Inputs:
        """The inputs of the samples at ``index``, of ``of``."""
        return placed(inputs, self.rows.pick(self._row_wise(inputs), index, of))

    def where(self, mask: Tensor, these: Held, others: Held) -> Held:
        """``these`` samples where ``mask`` (N,) is true, else ``others``; with their inputs."""
        inputs = self.rows.where(mask, self._row_wise(these[1]), self._row_wise(others[1]))
        return self.rows.where(mask, these[0], others[0]), placed(these[1], inputs)

    def joined(self, parts: Sequence[Held], counts: Sequence[int]) -> Held:
        """Sets of samples as one, with their inputs."""
        inputs = self.rows.joined([self._row_wise(each) for _, each in parts], counts)
        return self.rows.joined([output for output, _ in parts], counts), placed(parts[0][1], inputs)

    def _row_wise(self, inputs: Inputs) -> dict[Path, Tensor]:
        return {path: tensor for path, tensor in tensors(inputs) if path in self.row_wise}

    # -- samples and answers ------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """T of the samples."""
        return self.loop.steps if self._feedback else 0

    def cost(self, made: int, judged: int, before: int = 0) -> float:
        """What it costs to make and to judge so many samples, in calls of G for one; ``before``: FLOPs of G that are
        left out."""
        plan = self.loop.plan
        return made * plan.share(plan.flops(self.steps) - before) + judged * plan.share(plan.critic_flops)

    @torch.no_grad()
    def made(self, inputs: Inputs) -> Any:
        """Samples."""
        count = self.count_of(inputs)
        self.spent += self.cost(count, 0)
        args, kwargs = map_tensors(Tensor.clone, inputs)  # G may write into them
        output = self.loop.rollout(*args, steps=self.steps, **kwargs).output
        self._count_rows(output, count)
        return output

    def _count_rows(self, output: Any, count: int) -> None:
        """How many rows each sample has: several where frames are folded into the batch."""
        image = image_of(output)
        rows = image.shape[self.rows.axis_of(image)]
        if rows % count:
            raise CriticError(
                f"G makes {rows} rows of {count} inputs: which are one sample's cannot be told, and so not chosen."
            )
        if rows // count != self.rows.each:
            self.rows = replace(self.rows, each=rows // count)

    def judged(self, inputs: Inputs) -> tuple[Any, Tensor]:
        """Samples, and D's response to each, (N, places)."""
        output = self.made(inputs)
        return output, self.response(output, inputs)

    def response(self, output: Any, inputs: Inputs) -> Tensor:
        """D's response to samples that were made of ``inputs``, (N, places)."""
        count = self.count_of(inputs)
        self.spent += self.cost(0, count)
        found = self._per_sample(self.loop.respond(output, *inputs[0], **inputs[1]), count)
        if self.depends_on_batch is None and count > 1:
            self._compare_with_half(output, inputs, found)
        return found

    def _compare_with_half(self, output: Any, inputs: Inputs, found: Tensor) -> None:
        """Say once if D's answer to a sample depends on what else is in its batch."""
        count, half = len(found), len(found) // 2
        index = torch.arange(half)
        part, (args, kwargs) = self.pick((output, inputs), index, count)
        try:
            alone = self._per_sample(self.loop.respond(part, *args, **kwargs), half)
            self.depends_on_batch = not torch.allclose(alone, found[:half], rtol=1e-2, atol=1e-3)
        except CriticError:  # it wants batches of certain sizes
            self.depends_on_batch = True
        if self.depends_on_batch:
            logger.warning(
                "D's answer to a sample depends on the other samples of its batch (minibatch statistics, or batch norm "
                "that uses the batch): what is chosen depends on the batches, and samples are not independent."
            )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within the block torch records graphs, wherever it stands."""
        with outside_inference_mode(), torch.enable_grad():
            yield

    def in_graph(self, inputs: Inputs) -> tuple[Any, Tensor]:
        """Samples and D's response to them, in one graph; within :meth:`recording`."""
        count = self.count_of(inputs)
        self.spent += self.cost(count, count)
        args, kwargs = map_tensors(Tensor.clone, inputs)
        output, response = self.loop.with_response(*args, steps=self.steps, **kwargs)
        self._count_rows(output, count)
        return output, self._per_sample(response, count)

    def gradients(
        self, target: Tensor, of: Mapping[Path, Tensor], *, through_generator: bool = True, before: int = 0
    ) -> dict[Path, Tensor]:
        """∂ Σ target / ∂ each tensor; no other tensor's ``.grad`` is touched. It costs as much as the way there.

        Args:
            before: FLOPs of G that the way back does not reach.

        Raises:
            UnsupportedError: nothing of it reaches them.
        """
        found: tuple[Tensor | None, ...] = ()
        if target.requires_grad:
            self.spent += self.cost(len(target) if through_generator else 0, len(target), before)
            found = torch.autograd.grad(target.sum(), list(of.values()), allow_unused=True)
        if all(gradient is None for gradient in found):
            raise UnsupportedError(
                "D's answer carries no gradient back to what this sampler moves: G or D computes without autograd "
                "(no_grad, NumPy, inference mode). DRS, MHGAN and TopK need none."
            )
        return {
            path: torch.zeros_like(tensor) if gradient is None else gradient
            for (path, tensor), gradient in zip(of.items(), found, strict=True)
        }

    def response_in_graph(self, output: Any, inputs: Inputs) -> Tensor:
        """D's response to a sample that is in a graph; within :meth:`recording`."""
        count = self.count_of(inputs)
        self.spent += self.cost(0, count)
        return self._per_sample(self.loop.ask(output, *inputs[0], **inputs[1]), count)

    def _per_sample(self, response: Tensor, count: int) -> Tensor:
        return per_sample(response, count, self.rows.axis)


def per_sample(response: Tensor, count: int, axis: int = 0) -> Tensor:
    """D's response as one row a sample.

    Args:
        axis: of the samples, where the response is a sequence.

    Raises:
        CriticError: D does not answer for each sample.
    """
    if axis and (response.dim() == 3 or (response.dim() == 2 and response.shape[0] != count)):
        response = response.movedim(axis, 0)
    if response.dim() == 0 or len(response) < count or response.numel() % count:
        raise CriticError(
            f"D gives {len(response) if response.dim() else 1} answers to {count} samples: it looks at several at once "
            "(packed samples, or one answer for a batch). A sampler must know of each sample how real it is."
        )
    return response.reshape(count, -1)


def placed(inputs: Inputs, tensors_at: Mapping[Path, Tensor]) -> Inputs:
    """Inputs with other tensors at these paths."""
    changed: Any = inputs
    for path, tensor in tensors_at.items():
        changed = put(changed, path, tensor)
    return changed[0], changed[1]


def with_image(output: Any, image: Tensor) -> Any:
    """What G returned, with another tensor as its sample."""
    mine = image_of(output)
    path = next(path for path, tensor in tensors(output) if tensor is mine)
    return put(output, path, image)
