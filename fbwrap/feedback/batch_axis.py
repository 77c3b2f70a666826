"""Which axis is the batch: tried out where shapes do not tell, so that a sample never depends on its neighbours.

Examples:
    >>> import torch
    >>> x = torch.zeros(5, 3, 2)
    >>> y = x.clone()
    >>> y[:, 1] = 1                       # of three samples the second changed: they stand on axis 1
    >>> batch_of(x, y, 3)
    Batch(axis=1, rows=1)

A map that a convolution made, with as many rows as G's input, has its batch first: nothing is tried. Sequences
(time-first or not), states of recurrent layers (layers, N, C) and frames folded into the batch look alike, and are told
apart by running G and D twice, on inputs that differ in one sample: where one row changed, and no other, the batch is.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..engine.context import bare, eager
from ..engine.intercept import Tap, read
from ..engine.locks import locked
from ..engine.names import Path, entry, modules_of, unwrap
from ..engine.pytree import map_tensors, tensors
from ..engine.rng import RngState
from ..engine.state import Place, Snapshot
from ..engine.trace import Batch, Call, Trace, device_of
from ..engine.training_mode import training_mode
from .critic import CriticInput, image_of
from .critic import call as ask_critic

logger = logging.getLogger("fbwrap")
Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Places = dict[tuple[int, Path], Batch | None]  # by the number of a call, and the path in its output


class _Trial(NamedTuple):
    sample: Batch
    batches: tuple[Places, Places]
    answers: dict[Path, Batch | None]
    answered: bool | None  # whether D's answer has a row for each sample; None: it does not tell


def _samples(inputs: object, sample: Tensor) -> int:
    """How many samples the example has: as many as maps were made, else rows of the first floating-point input."""
    if sample.dim() > 3:
        return len(sample)
    held = [tensor for _, tensor in tensors(inputs) if tensor.dim()]
    first = next((tensor for tensor in held if tensor.is_floating_point()), held[0] if held else None)
    return len(first) if first is not None else 1


def in_doubt(call: Call, path: Path, samples: int) -> bool:
    """Whether the shape of what a call returned leaves open which axis is the batch."""
    shape = call.outputs[path].shape
    convolved = call.layout_known and call.layout == "channels_first"
    return shape[0] != samples or (len(shape) == 3 and not convolved)


class BatchAxes:
    """Where the batch is in what G and D return, for the example.

    Args:
        generator, critic: the networks; critic None: there is none.
        generator_trace, critic_trace: what they did. Answers are noted in their calls.
        ask: how D is called.
        inputs: the example.
        pack: samples that D judges as one: then the shapes of what it returns decide.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module | None,
        generator_trace: Trace,
        critic_trace: Trace | None,
        ask: CriticInput,
        inputs: Inputs,
        pack: int = 1,
    ):
        self._generator, self._ask, self._pack = unwrap(generator), ask, pack
        self._critic = critic if pack == 1 else None
        self._generator_trace, self._critic_trace, self._inputs = generator_trace, critic_trace, inputs
        self._samples = _samples(inputs, image_of(generator_trace.output))
        self._settled = False

    def settle_sample(self, sample: Tensor, layout: str) -> None:
        """Find the batch of G's samples, if their shape leaves it open."""
        flat = sample.dim() == 2 or (sample.dim() == 3 and layout == "channels_first")
        if len(sample) == self._samples and (sample.dim() > 3 or flat):
            return
        self._settle()

    def of(self, trace: Trace, call: Call, path: Path) -> Batch | None:
        """The batch of what a call returned; None where that cannot be told."""
        if path in call.outputs and in_doubt(call, path, self._rows(trace)):
            self._settle()
            return call.batches.get(path)
        return Batch()

    def settle(self, trace: Trace) -> None:
        """Find the batch of everything that a network returns and whose shape leaves it open."""
        rows = self._rows(trace)
        if any(call.done and in_doubt(call, path, rows) for call in trace.calls for path in _features(call)):
            self._settle()

    def _rows(self, trace: Trace) -> int:
        if trace is self._generator_trace:
            return self._samples
        sample = image_of(self._generator_trace.output)
        return -(-int(sample.shape[self._generator_trace.batch.axis]) // self._pack)

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        trials = [trial for axis in (0, 1) if (trial := self._tried(axis)) is not None]
        if not trials:
            logger.debug("No input tells which axis is the batch: shapes decide.")
            self._by_shape(self._generator_trace, self._samples)
            self._critic_by_shape()
            return
        # D looks at a sample as a whole: where its answer too has a row for each, it is no point in time
        best = min(trials, key=lambda trial: {True: 0, None: 1, False: 2}[trial.answered])
        self._generator_trace.batch = best.sample
        for trace, batches in zip((self._generator_trace, self._critic_trace), best.batches, strict=True):
            if trace is not None:
                for (call, path), batch in batches.items():
                    trace.calls[call].batches[path] = batch
        if self._critic_trace is not None:
            self._critic_trace.answers.update(best.answers)
        if self._pack > 1:
            self._critic_by_shape()

    def _tried(self, axis: int) -> "_Trial | None":
        """Run both networks on two inputs that differ in one sample, if samples stand on that axis; None where G's
        output then has no row of each."""
        pair = _two_inputs(self._inputs, axis, self._samples)
        if pair is None:
            return None
        first, second, rows = pair
        try:
            run = entry(self._generator, self._generator_trace.method)
            taps = _taps(self._generator_trace, self._samples)
            moving = self._generator_trace.moving
            a, y = read_in_eval(self._generator, run, first, taps, moving)
            b, z = read_in_eval(self._generator, run, second, taps, moving)
            sample = batch_of(image_of(y), image_of(z), rows)
        except Exception:
            logger.debug("G refuses a trial batch.", exc_info=True)
            return None
        if not isinstance(sample, Batch):
            return None
        found, asked = _places(self._generator_trace, a, b, rows), self._critic_trace
        if asked is None or self._critic is None:
            return _Trial(sample, (found, {}), {}, None)
        critic = unwrap(self._critic)
        taps = _taps(asked, self._rows(self._generator_trace))
        given = [self._ask(output, *args, **kwargs) for output, (args, kwargs) in ((y, first), (z, second))]
        (c, answer), (d, other) = (
            read_in_eval(critic, lambda each: ask_critic(critic, each), ((each,), {}), taps, asked.moving)
            for each in given
        )
        one, two = dict(tensors(answer)), dict(tensors(other))
        seen = {path: batch_of(one[path], two[path], rows) for path in one.keys() & two.keys()}
        answers = {path: batch if isinstance(batch, Batch) else None for path, batch in seen.items()}
        known = [isinstance(batch, Batch) for batch in seen.values() if batch != "unknown"]
        return _Trial(sample, (found, _places(asked, c, d, rows)), answers, any(known) if known else None)

    def _critic_by_shape(self) -> None:
        if self._critic_trace is not None:
            self._by_shape(self._critic_trace, self._rows(self._critic_trace))

    @staticmethod
    def _by_shape(trace: Trace, samples: int) -> None:
        for call in trace.calls:
            for path in _features(call):
                shape = call.outputs[path].shape
                own = getattr(call.module, "batch_first", None)
                axis = 1 if own is False and len(shape) == 3 else 0
                call.batches[path] = Batch(axis) if shape[axis] == samples else None


def _features(call: Call) -> list[Path]:
    return [path for path, info in call.outputs.items() if info.is_feature]


def _taps(trace: Trace, samples: int) -> list[Tap]:
    return [
        Tap(call.module, call.index, path)
        for call in trace.calls
        if call.done
        for path in _features(call)
        if in_doubt(call, path, samples)
    ]


def _places(trace: Trace, a: dict[Tap, Tensor], b: dict[Tap, Tensor], rows: int) -> Places:
    found: Places = {}
    numbers = {(call.module, call.index): number for number, call in enumerate(trace.calls)}
    for tap in a.keys() & b.keys():
        batch = batch_of(a[tap], b[tap], rows)
        if batch == "unknown":  # nothing reaches it: by its shape
            batch = Batch() if len(a[tap]) == rows else "mixed"
        found[numbers[tap.module, tap.call], tap.path] = batch if isinstance(batch, Batch) else None
    return found


def read_in_eval(
    net: nn.Module, run: Callable[..., Any], inputs: Inputs, taps: Sequence[Tap], moving: Sequence[Place]
) -> tuple[dict[Tap, Tensor], object]:
    """One pass in eval mode that leaves no trace, on the random numbers that are next.

    Args:
        moving: parameters and buffers that a pass is known to move.
    """
    modules = modules_of(net)
    rng = RngState(device_of(net), inputs)
    before, state = rng.get(), Snapshot(modules, moving)
    args, kwargs = map_tensors(Tensor.clone, inputs)
    answer: list[object] = [None]

    def guarded() -> None:
        try:
            answer[0] = run(*args, **kwargs)
        except Exception:  # D may refuse the sample behind its last tap
            logger.debug("A trial pass ended early.", exc_info=True)

    try:
        with locked(net), bare(net), eager(modules), torch.no_grad(), training_mode(modules, False):
            found, _ = read(guarded, taps, stop=False)
            return found, map_tensors(Tensor.clone, answer[0])
    finally:
        state.restore()
        rng.set(before)


def _two_inputs(inputs: Inputs, axis: int, samples: int) -> tuple[Inputs, Inputs, int] | None:
    """Two batches of at least three samples that stand on an axis, alike but for the second sample; and how many they
    are. None where no input has such an axis."""
    floats = [t for _, t in tensors(inputs) if t.is_floating_point() and t.dim() > axis]
    if not floats:
        return None
    sides = [tensor.shape[axis] for tensor in floats]
    many = samples if axis == 0 and samples in sides else sides[0]
    rows = max(many, 3)

    def batched(tensor: Tensor) -> bool:
        return tensor.dim() > axis and tensor.shape[axis] == many

    def grown(tensor: Tensor) -> Tensor:
        return torch.cat([tensor] * 3, axis).narrow(axis, 0, rows).clone() if batched(tensor) else tensor.clone()

    generator = torch.Generator().manual_seed(0)

    def other(tensor: Tensor) -> Tensor:
        fresh = grown(tensor)
        if batched(tensor) and tensor.is_floating_point():
            second = fresh.narrow(axis, 1, 1)
            spread = float(tensor.std()) if tensor.numel() > 1 else 0.0
            second += torch.randn(second.shape, generator=generator).to(second) * (spread or 1.0)
        return fresh

    return map_tensors(grown, inputs), map_tensors(other, inputs), rows


def batch_of(a: Tensor, b: Tensor, rows: int) -> "Batch | str":
    """Where the batch is in two tensors that were made of inputs which differ in the second of ``rows`` samples alone.

    Returns:
        The batch; ``"mixed"``: other samples changed too; ``"unknown"``: nothing changed at all.
    """
    if a.shape != b.shape:
        return "mixed"
    if a.is_floating_point():
        wide = a.double()
        changed = (wide - b.double()).abs() > 1e-4 * wide.abs().max()
    else:
        changed = a != b
    if not bool(changed.any()):
        return "unknown"
    found = []
    for axis in range(a.dim()):
        side, rest = divmod(a.shape[axis], rows)
        if side and not rest:
            slices = changed.movedim(axis, 0).reshape(a.shape[axis], -1).any(1)
            mine = slices[side : 2 * side]
            if bool(mine.any()) and int(slices.sum()) == int(mine.sum()):
                found.append(Batch(axis, side))
    return min(found, key=lambda batch: (batch.rows > 1, batch.axis)) if found else "mixed"
