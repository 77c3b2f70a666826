"""The papers' algorithm: G, then D's features correct G, T times.

Examples:
    >>> request = RolloutRequest(((z,), {}), steps=2, alphas=alphas)                         # doctest: +SKIP
    >>> outputs, from_zeros = unroller.run(G, modules, critic_runner, request)               # doctest: +SKIP

AFL (Eq. 3, 6):  y_0 = G(x),  y_t = G(x, α·E(y_{t-1})).
FAL (Eq. 6, 10): h_0 = G_e(x),  h_t = h_{t-1} + α·f(h_{t-1}, y_{t-1}, r_{t-1}),  y_t = G_d(h_t).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.context import ALONE, rolling_on, usable
from ..engine.intercept import wrapped
from ..engine.names import modules_of, unwrap
from ..engine.pytree import copy_tensors, map_tensors, tensors
from ..engine.replay import Replay, Schedule
from ..engine.rng import RngState
from ..engine.state import Moving, Snapshot
from ..engine.trace import Trace, device_of
from ..engine.verify import verified
from ..errors import UnsupportedError
from .corrections import Corrections
from .critic_runner import CriticRunner
from .install import others_within, refuse_together
from .links import Connection
from .plan import schedule
from .settings import Strength, is_zero

Generate = Callable[..., Any]


@dataclass(frozen=True)
class RolloutRequest:
    """One rollout, as it is asked for.

    Attributes:
        inputs: G's, positional and by keyword.
        steps: T.
        alphas: the factors of each link's strength.
        reference: what D looks at in place of the samples, if anything.
        keep: whether all outputs are wanted, or the last one alone.
        update_statistics: whether running statistics move in train mode, as in one pass of G.
    """

    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    steps: int
    alphas: list[tuple[Strength, ...]]
    reference: Any = None
    keep: bool = True
    update_statistics: bool = False


class Unroller:
    """Unrolls the loop on one generator.

    Args:
        generator: the user's.
        trace: what it did on the example.
        connections: the links, in the order in which the generator reaches them.
        first: ``"base"`` (AFL) or ``"zeros"`` (FAL).
        prefix: what need not run again with all links, in eval mode.
        replay: whether anything is left out at all.
    """

    def __init__(
        self,
        generator: nn.Module,
        trace: Trace,
        connections: Sequence[Connection],
        first: str,
        prefix: Schedule,
        replay: bool,
    ):
        self._net, self._trace = unwrap(generator), trace
        self._connections, self._first = connections, first
        self._moving = Moving(modules_of(self._net), trace.moving)
        everything = tuple(range(len(connections)))
        self._schedules = {(everything, (False,) * len(self._moving.modes())): prefix}
        self.replay = replay

    def run(
        self,
        generate: Generate,
        modules: nn.ModuleList,
        critic_runner: CriticRunner,
        request: RolloutRequest,
    ) -> tuple[list[Any], bool]:
        """The outputs y_0 … y_T (without ``keep`` None in place of all but y_T), and whether y_0 is zeros."""
        steps, alphas = request.steps, request.alphas
        args, kwargs, reference = usable((*request.inputs, request.reference))
        reference = _one_each(reference, args, kwargs, self._trace.batch.axis)
        state = self._moving.note()
        active = tuple(i for i, alpha in enumerate(alphas) if not is_zero(alpha))
        try:
            if steps == 0 or not active:
                output = _own(generate(*args, **kwargs), state)
                once = state.after_one_pass()
                outputs, from_zeros = [output] * (steps + 1), False
            else:
                feedback = Corrections(self._connections, modules, active, alphas, len(self._trace.sample_shape) - 2)
                wanted = {i: self._connections[i].sources for i in active}
                from_zeros = self._first == "zeros"
                whole = self._passes(generate, active, args, kwargs, state)
                with whole as passes, critic_runner.one_rollout() as critic:
                    if from_zeros:
                        if reference is not None:
                            feedback.signals = critic.signals(wanted, reference, args, kwargs)
                        y = _own(feedback.run(passes.first), state, passes)
                        outputs = [map_tensors(torch.zeros_like, y), y]
                    else:
                        previous = feedback.seen_before
                        y = passes.first(feedback.observe if previous else None, previous)
                        outputs = [_own(y, state, passes)]
                    once = state.after_one_pass()
                    while len(outputs) <= steps:
                        if reference is None or not feedback.signals:
                            seen = outputs[-1] if reference is None else reference
                            feedback.signals = critic.signals(wanted, seen, args, kwargs)
                        state.restore()
                        y = _own(feedback.run(passes.again), state, passes)
                        outputs = [*outputs, y] if request.keep else [None] * len(outputs) + [y]
                self.replay &= not passes.unexpected
            self._moving.learn(state)
        finally:
            state.restore()
        once.repeat(statistics=request.update_statistics)
        return outputs, from_zeros

    @contextmanager
    def _passes(
        self,
        generate: Generate,
        active: tuple[int, ...],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        state: Snapshot,
    ) -> Iterator[Replay]:
        """G's passes of one rollout. The first one is given the user's inputs, every other one copies of them as they
        were, for G may write into them."""
        fresh, untouched = [(args, kwargs)], _copy((args, kwargs))

        def run() -> Any:
            positional, named = fresh[0]
            fresh[0] = _copy(untouched)
            return generate(*positional, **named)

        sites = [self._connections[i].site for i in active]
        marks = [] if torch.compiler.is_compiling() else rolling_on(self._net)
        others = others_within(self._net) if marks else []
        refuse_together([self._connections[i] for i in active], others)
        if torch.compiler.is_compiling():
            if self._trace.random:
                raise UnsupportedError(
                    "G draws random numbers, and in one compiled graph every step would see other ones. Run the "
                    "loop eagerly, or give G its noise as an input."
                )
            plan, rng = self._schedule_in_trace(active), None
        else:
            alone = not others and len(marks) == 1
            plan = self._schedule(active, generate, untouched, state) if alone and self.replay else Schedule()
            rng = RngState(device_of(self._net), (args, kwargs))
        random = self._trace.random or any(self._moving.modes())
        passes = Replay(run, sites, plan, rng, random, state, marks[-1].rank if marks else ALONE)
        with ExitStack() as stack:
            if others:  # each of them runs G several times within one pass of this loop

                def counted(forward: Generate, positional: tuple[object, ...], named: dict[str, object]) -> Any:
                    passes.begin_pass()
                    return forward(*positional, **named)

                stack.enter_context(wrapped({self._net: counted}, method=self._trace.method, rank=float("-inf")))
            stack.enter_context(passes.installed())
            yield passes

    def _schedule_in_trace(self, active: tuple[int, ...]) -> Schedule:
        """What a compiler's trace may leave out: what is proven already, of a G that moves nothing."""
        if not self.replay or self._trace.moving:
            return Schedule()
        return self._schedules.get((active, self._moving.modes()), Schedule())

    def _schedule(
        self,
        active: tuple[int, ...],
        generate: Generate,
        inputs: tuple[tuple[object, ...], dict[str, object]],
        state: Snapshot,
    ) -> Schedule:
        """What need not run again for these links in these modes; proven once, on the first inputs."""
        key = (active, self._moving.modes())
        if key not in self._schedules:
            sites = [self._connections[i].site for i in active]
            plan = schedule(self._trace, sites)
            self._schedules[key] = verified(plan, sites, self._trace, generate, state, inputs)
        return self._schedules[key]


def _own(output: object, state: Snapshot, passes: Replay | None = None) -> object:
    """An output that later passes, and putting back what G moved, do not reach: it may be one of G's buffers."""
    if torch.compiler.is_compiling():
        return output
    held = state.shares_memory(output) or (passes is not None and passes.shares_memory(output))
    return _copy(output) if held else output


def _one_each(reference: object, args: tuple[object, ...], kwargs: dict[str, object], axis: int) -> object:
    """A reference of one row, as many times as G's inputs have rows."""
    if reference is None:
        return None
    rows = max([1, *(t.shape[axis] for _, t in tensors((args, kwargs)) if t.dim() > axis)])

    def repeated(tensor: Tensor) -> Tensor:
        if rows == 1 or tensor.dim() <= axis or tensor.shape[axis] != 1:
            return tensor
        return tensor.expand(*(rows if i == axis else -1 for i in range(tensor.dim())))

    return map_tensors(repeated, reference)


def _copy(tree: object) -> Any:
    copied = None if torch.compiler.is_compiling() else copy_tensors(tree)
    return map_tensors(Tensor.clone, tree) if copied is None else copied
