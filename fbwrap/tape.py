"""The only file that touches somebody else's modules: capture, inject, replay, stop.

Example:
    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> with wrapped({net[1]: lambda forward, args, kwargs: forward(*args, **kwargs) + 1}):
    ...     y = net(torch.zeros(1, 2))
    >>> "forward" in vars(net[1])
    False

One mechanism serves all four: for the duration of a ``with`` block, the ``forward`` of a few modules
is wrapped. Between rollouts a network carries nothing of fbwrap, so that hook counts, ``deepcopy``
and ``pickle`` are those of the plain model. Other people's hooks run as they always do, around the
wrapped ``forward``. A wrapper acts only in the thread that set it.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .dice import Dice, same_dice
from .errors import LayerNotCalledError, PairingError
from .naming import Path
from .trees import map_tensors, put, tensors

Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
Key = tuple[nn.Module, int]
_ABSENT = object()


class _Wrapped:
    """Stands in for one module's ``forward`` (or other method). Copies and pickles as the class's own."""

    __slots__ = ("around", "method", "module", "original", "own", "thread")

    def __init__(self, module: nn.Module, around: Around, any_thread: bool, method: str):
        self.module, self.around, self.method = module, around, method
        self.own = module.__dict__.get(method, _ABSENT)
        self.original = getattr(module, method)
        anywhere = any_thread or torch.compiler.is_compiling()
        self.thread = None if anywhere else threading.get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.thread is not None and threading.get_ident() != self.thread:
            return self.original(*args, **kwargs)
        return self.around(self.original, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        if getattr(self.original, "__func__", None) is getattr(type(self.module), self.method):
            return getattr, (self.module, self.method)
        return functools.partial, (self.original,)  # somebody's own instance-level forward

    def unlink(self) -> None:
        """Leave the chain of wrappers, wherever in it this one stands by now."""
        outer = self.module.__dict__.get(self.method)
        if outer is self:
            if self.own is _ABSENT:
                del self.module.__dict__[self.method]
            else:
                self.module.__dict__[self.method] = self.own
            return
        while isinstance(outer, _Wrapped) and outer.original is not self:
            outer = outer.original
        if isinstance(outer, _Wrapped):
            outer.original, outer.own = self.original, self.own


@contextmanager
def wrapped(around: Mapping[nn.Module, Around], *, any_thread: bool = False, method: str = "forward") -> Iterator[None]:
    """Wrap the ``forward`` of each module; on exit each gets back exactly what it had. Nests.

    Args:
        any_thread: act in every thread, not only in this one.
        method: another method than ``forward``.
    """
    mine: list[_Wrapped] = []
    try:
        for module, action in around.items():
            mine.append(_Wrapped(module, action, any_thread, method))
            module.__dict__[method] = mine[-1]
        yield
    finally:
        for wrapper in reversed(mine):
            wrapper.unlink()


# -- the critic: capture and stop ---------------------------------------------------------------------


class Stop(BaseException):
    """Ends a forward pass early. Not an Exception, so that no ``except Exception`` swallows it."""


@dataclass(frozen=True)
class Tap:
    """A tensor to read: at ``path`` in the output of the ``call``-th call of ``module``."""

    module: nn.Module
    call: int
    path: Path = ()


def read(run: Callable[[], Any], taps: Sequence[Tap], mutated: set[Key], stop: bool) -> tuple[dict[Tap, Tensor], Any]:
    """Run a network and read its taps; with ``stop``, end it after the last of them.

    A tensor that a later in-place operation overwrites is read as it was: copied when ``mutated``
    says so, and otherwise found out by its version counter, noted there, and read again. Hooks that
    others have on the layer where D stops, and on those behind it, do not run.
    """
    by_key: dict[Key, list[Tap]] = {}
    for tap in taps:
        by_key.setdefault((tap.module, tap.call), []).append(tap)
    seen: dict[nn.Module, int] = dict.fromkeys((tap.module for tap in taps), 0)
    read_here: dict[Tap, Tensor] = {}
    versions: list[tuple[Key, Tensor, int]] = []
    wanted = len(set(taps))

    def capture(module: nn.Module) -> Around:
        def around(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            call, seen[module] = seen[module], seen[module] + 1
            output = forward(*args, **kwargs)
            key = (module, call)
            for tap in by_key.get(key, ()):
                value = _follow_tensors(output, tap)
                if key in mutated or torch.compiler.is_compiling():
                    value = value.clone()
                else:
                    versions.append((key, value, value._version))
                read_here[tap] = value
            if stop and len(read_here) == wanted:
                raise Stop
            return output

        return around

    output = None
    try:
        with wrapped({module: capture(module) for module in seen}):
            output = run()
    except Stop:
        pass
    late = {key for key, value, version in versions if value._version != version}
    if late:
        mutated |= late
        return read(run, taps, mutated, stop)
    return read_here, output


def _follow_tensors(output: Any, tap: Tap) -> Tensor:
    found = dict(tensors(output))
    if tap.path in found:
        return found[tap.path]
    raise PairingError(
        f"The output of {type(tap.module).__name__} has no tensor at {list(tap.path)}; "
        f"it has {[list(path) for path in found]}."
    )


# -- the generator: inject and replay -----------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Where a correction enters: a tensor in the output (or input) of one call of a module.

    ``only``: the module is called once in a pass, and a pass that calls it again is refused.
    """

    module: nn.Module
    call: int
    path: Path = ()
    at: str = "output"
    name: str = ""
    only: bool = False


@dataclass(frozen=True)
class Schedule:
    """What a pass with feedback need not compute again, known from one look at the call order.

    replay: calls that return what they returned the first time, in their order.
    dead: those of them whose value nothing reads any more.
    visible: for their modules and those of the sites, which calls a pass that skips them still sees.
    """

    replay: tuple[Key, ...] = ()
    dead: frozenset[Key] = frozenset()
    visible: Mapping[nn.Module, tuple[int, ...]] = field(default_factory=dict)


class _Diverged(BaseException):
    """The pass does not follow the recorded order."""


@dataclass
class _Kept:
    value: Any
    copied: bool
    versions: list[tuple[Tensor, int]]
    dice: dict[str, Any] | None


Correct = Callable[[int, Tensor], Tensor]


class Replay:
    """A generator's passes within one rollout: the first is recorded, the others replay its prefix.

    Args:
        run: calls the generator with the user's inputs.
        sites: where corrections enter; ``correct(i, feature)`` is asked for each one in every pass.
        schedule: what to replay; empty means that every pass runs all of the generator.
        mutated: calls whose output a later in-place operation overwrites; added to when one is found.
        dice: the random numbers' state; every pass sees those of the first one.
        random: whether the generator is known to draw random numbers.
    """

    def __init__(
        self,
        run: Callable[[], Any],
        sites: Sequence[Site],
        schedule: Schedule,
        mutated: set[Key],
        dice: Dice | None,
        random: bool,
    ):
        self._run, self._sites, self._schedule = run, sites, schedule
        self._mutated, self._dice, self._random = mutated, dice, random
        self._wanted = set(schedule.replay)
        self._kept: dict[Key, _Kept] = {}
        self._order: list[Key] = []
        self._at: dict[tuple[nn.Module, int, str], list[int]] = {}
        for index, site in enumerate(sites):
            self._at.setdefault((site.module, site.call, site.at), []).append(index)
        self._modules = dict.fromkeys([s.module for s in sites] + [m for m, _ in schedule.replay])
        self._start: dict[str, Any] | None = None
        self._dead: set[Key] = set()
        self.replaying = False
        self.recorded = False
        self._passing = False

    @contextmanager
    def installed(self) -> Iterator["Replay"]:
        """Wrap the modules concerned for all passes of one rollout."""
        chain = self._schedule.replay
        watched = {key for key in chain if key[0]._forward_hooks or key[0]._forward_pre_hooks}
        self._dead = {
            key
            for key, following in itertools.pairwise(chain)
            if key in self._schedule.dead and not watched & {key, following}
        }
        with wrapped({module: self._around(module) for module in self._modules}):
            yield self

    def first(self, correct: Correct | None) -> Any:
        """The first pass, recorded."""
        self._start = self._dice.get() if self._dice else None
        output = self._pass(correct, recording=True)
        drew = bool(self._dice and not same_dice(self._start or {}, self._dice.get()))
        in_order = tuple(self._order) == self._schedule.replay
        self.recorded = bool(self._wanted) and in_order and self._unspoilt()
        if drew and not self._random:
            self.recorded = False  # nobody expected it: states inside the pass were not kept
        return output

    def again(self, correct: Correct) -> Any:
        """A later pass: the recorded prefix is not computed again, where that is exact."""
        if self._dice and self._start is not None:
            self._dice.set(self._start)
        if self.recorded:
            try:
                self.replaying = True
                output = self._pass(correct, recording=False)
                self.recorded = self._unspoilt()
                return output
            except _Diverged:
                self.recorded = False
                if self._dice and self._start is not None:
                    self._dice.set(self._start)
            finally:
                self.replaying = False
        return self._pass(correct, recording=False)

    def _pass(self, correct: Correct | None, recording: bool) -> Any:
        self._seen = dict.fromkeys(self._modules, 0)
        self._passing = True
        self._played: list[Key] = []
        self._reached: set[int] = set()
        self._correct, self._recording = correct, recording
        try:
            output = self._run()
        finally:
            self._passing = False  # D may share layers with G: its calls are not of this pass
        if correct is not None and len(self._reached) < len(self._sites):
            missing = [site.name for i, site in enumerate(self._sites) if i not in self._reached]
            if self.replaying:
                raise _Diverged
            raise LayerNotCalledError(
                f"The generator did not reach {', '.join(missing)} in this pass, though it did when "
                "the loop was attached: its path depends on its input or mode. Attach with an "
                "example that takes the same path, or inject at a layer that is always called."
            )
        if self.replaying and len(self._played) != len(self._schedule.replay):
            raise _Diverged
        often = [s for s in self._sites if s.only and self._seen[s.module] > 1]
        if often and not self.replaying:
            raise LayerNotCalledError(
                f"The generator called {often[0].name} {self._seen[often[0].module]} times in this pass, and once "
                "when the loop was attached (does it work in slices or tiles now?). Turn that off, attach to the "
                "part that is called for each of them, or say which call is meant: 'NAME#0'."
            )
        return output

    def _around(self, module: nn.Module) -> Around:
        visible = self._schedule.visible.get(module)

        def around(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not self._passing:
                return forward(*args, **kwargs)
            count, self._seen[module] = self._seen[module], self._seen[module] + 1
            if self.replaying and visible is not None:
                if count >= len(visible):
                    raise _Diverged
                count = visible[count]
            key = (module, count)
            if (module, count, "input") in self._at:
                args, kwargs = self._inject_input(key, args, kwargs)
            if self.replaying and key in self._kept:
                output = self._play(key, args)
            else:
                output = forward(*args, **kwargs)
                if self._recording and key in self._wanted:
                    self._keep(key, output)
            for index in self._at.get((module, count, "output"), ()):
                output = self._inject(index, output)
            return output

        return around

    def _keep(self, key: Key, output: Any) -> None:
        if self._reached:
            return  # out of order; the missing entry in _order tells
        self._order.append(key)
        copied, read = key in self._mutated, key not in self._dead
        value = map_tensors(Tensor.clone if copied else _itself, output) if read else None
        versions = [] if copied or not read else [(t, t._version) for _, t in tensors(output)]
        dice = self._dice.get() if self._dice and self._random else None
        self._kept[key] = _Kept(value, copied, versions, dice)

    def _play(self, key: Key, args: tuple[Any, ...]) -> Any:
        self._played.append(key)
        kept = self._kept[key]
        if self._dice and kept.dice is not None:
            self._dice.set(kept.dice)
        if key in self._dead:
            return args[0] if args else None
        return map_tensors(Tensor.clone if kept.copied else _itself, kept.value)

    def _unspoilt(self) -> bool:
        """Whether no recorded tensor was overwritten since; those that were are noted."""
        spoilt = {
            key
            for key, kept in self._kept.items()
            if any(tensor._version != version for tensor, version in kept.versions)
        }
        self._mutated |= spoilt
        return not spoilt

    def _inject(self, index: int, output: Any) -> Any:
        self._reached.add(index)
        if self._correct is None:
            return output
        site = self._sites[index]
        found = dict(tensors(output))
        if site.path not in found:
            raise PairingError(
                f"The output of {site.name} has no tensor at {list(site.path)} in this pass; it has "
                f"{[list(path) for path in found]}."
            )
        drawn = self._dice.get() if self._dice and self._random else None
        corrected = self._correct(index, found[site.path])
        if self._dice and drawn is not None:
            self._dice.set(drawn)  # what a module draws must not shift what G draws
        return put(output, site.path, corrected)

    def _inject_input(
        self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        both: Any = (args, kwargs)
        for index in self._at[(*key, "input")]:
            both = self._inject(index, both)
        return both


def _itself(tensor: Tensor) -> Tensor:
    return tensor
