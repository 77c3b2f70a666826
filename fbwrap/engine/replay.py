"""A generator's passes within one rollout: corrections enter, and what cannot change is not computed again.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> passes = Replay(lambda: net(torch.ones(1, 2)), [Site(net[1], 0)], Schedule(((net[0], 0),)), None, False)
    >>> with passes.installed(), torch.no_grad():
    ...     first, second = passes.first(None), passes.again(lambda index, feature: feature)
    >>> passes.recorded, torch.equal(first, second)
    (True, True)

The first pass is recorded and watched. Whatever a call did besides returning its values, if that was not so when the
network was looked at (it wrote into an input, returned part of one, moved a buffer that nobody expected, a recorded
value was overwritten), spoils the recording: the other passes then run as a whole. See docs/design.md, "Replay".
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LayerNotCalledError, PairingError
from .intercept import Around, wrapped
from .names import Path
from .pytree import copy_tensors, is_plain, lengths, map_tensors, put, storage_of, tensors, version_of
from .rng import RngState, same_rng
from .state import Moved, Snapshot
from .state import put as put_state

Key = tuple[nn.Module, int]


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
class Effects:
    """What one call does to tensors that others hold: the inputs that it writes into, those whose memory it returns,
    and how often each tensor of its output is written after it returned."""

    writes: frozenset[Path] = frozenset()
    returns: frozenset[Path] = frozenset()
    later_writes: Mapping[Path, int] = field(default_factory=dict)

    @property
    def overwritten(self) -> bool:
        """Whether its output is written after it returned."""
        return any(self.later_writes.values())


NONE = Effects()
ARGUMENTS: Path = ("containers",)


class Watch:
    """Around one call: what it did to the tensors that it was given."""

    def __init__(self, args: tuple[object, ...], kwargs: dict[str, object]):
        self._given = (args, kwargs)
        self._tensors = [(path, tensor, version_of(tensor)) for path, tensor in tensors(self._given)]
        self._lengths = list(lengths(self._given))

    def effects(self, output: object) -> Effects:
        """The inputs that were written (a list that grew counts), and those whose memory ``output`` stands on."""
        writes = {path for path, tensor, version in self._tensors if version_of(tensor) != version}
        now = [(path, id(tensor)) for path, tensor in tensors(self._given)]
        same = now == [(path, id(tensor)) for path, tensor, _ in self._tensors]
        if not same or self._lengths != list(lengths(self._given)):
            writes.add(ARGUMENTS)
        returned = {storage_of(tensor) for _, tensor in tensors(output)}
        returns = {path for path, tensor, _ in self._tensors if storage_of(tensor) in returned}
        return Effects(frozenset(writes), frozenset(returns))

    def storages(self, effects: Effects) -> set[int]:
        """The memory of the inputs that were written or returned."""
        touched = effects.writes | effects.returns
        return {storage_of(tensor) for path, tensor, _ in self._tensors if path in touched}


@dataclass(frozen=True)
class Schedule:
    """What a pass with feedback need not compute again, known from one look at the call order.

    replay: calls that return what they returned the first time, in their order.
    dead: those of them whose value nothing reads any more.
    visible: for their modules and those of the sites, which calls a pass that skips them still sees.
    effects: what each of them did to tensors that others hold, when it was looked at.
    """

    replay: tuple[Key, ...] = ()
    dead: frozenset[Key] = frozenset()
    visible: Mapping[nn.Module, tuple[int, ...]] = field(default_factory=dict)
    effects: Mapping[Key, Effects] = field(default_factory=dict)


class _Diverged(BaseException):
    """The pass does not follow the recorded order."""


@dataclass
class _Recorded:
    """What a call returned: a copy if it is overwritten later, and what else the call moved."""

    value: Any
    copied: bool
    versions: list[tuple[Path, Tensor, int]]
    rng: dict[str, object] | None
    moved: list[Moved]


Correct = Callable[[int, Tensor], Tensor]


class Replay:
    """A generator's passes within one rollout: the first is recorded, the others replay its prefix.

    Args:
        run: calls the generator with the user's inputs.
        sites: where corrections enter; ``correct(i, feature)`` is asked for each one in every pass.
        schedule: what to replay; empty means that every pass runs all of the generator.
        rng: the random numbers' state; every pass sees those of the first one.
        random: whether the generator is known to draw random numbers.
        state: what the generator may move, as it was before the first pass.
        rank: see :func:`~fbwrap.engine.intercept.wrapped`.
    """

    def __init__(
        self,
        run: Callable[[], Any],
        sites: Sequence[Site],
        schedule: Schedule,
        rng: RngState | None,
        random: bool,
        state: Snapshot | None = None,
        rank: float = 0.0,
    ):
        self._run, self._sites, self._schedule = run, sites, schedule
        self._rng, self._random, self._state, self._rank = rng, random, state, rank
        self._wanted = set(schedule.replay)
        self._recordings: dict[Key, _Recorded] = {}
        self._storages: dict[int, Key] = {}
        self._order: list[Key] = []
        self._at: dict[tuple[nn.Module, int, str], list[int]] = {}
        for index, site in enumerate(sites):
            self._at.setdefault((site.module, site.call, site.at), []).append(index)
        self._modules = dict.fromkeys([s.module for s in sites] + [m for m, _ in schedule.replay])
        self._start: dict[str, object] | None = None
        self._dead: set[Key] = set()
        self.replaying = False
        self.recorded = False  # the prefix can be replayed in this rollout
        self.unexpected = False  # a call did more than was known: never again
        self._in_order = True
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
        with wrapped({module: self._around(module) for module in self._modules}, rank=self._rank):
            yield self

    def first(self, correct: Correct | None, required: Collection[int] | None = None) -> Any:
        """The first pass, recorded.

        Args:
            required: the sites that it must reach; None: all, if there is something to correct.
        """
        self._start = self._rng.get() if self._rng else None
        output = self._pass(correct, recording=True, required=required)
        if not self._wanted:
            return output
        if torch.compiler.is_compiling():
            self.recorded = self._in_order and tuple(self._order) == self._schedule.replay
            return output
        drew = bool(self._rng and not same_rng(self._start or {}, self._rng.get()))
        if drew and not self._random:
            self.unexpected = True  # nobody expected it: states inside the pass were not kept
        in_order = self._in_order and tuple(self._order) == self._schedule.replay
        if in_order:
            self.unexpected |= self._overwritten()
        if self._state is not None:
            in_order &= not (self._state.attributes_changed() or self._state.moved_unexpectedly())
            self.unexpected |= not self._state.moved_storages().isdisjoint(self._storages)
        self.recorded = in_order and not self.unexpected
        return output

    def again(self, correct: Correct) -> Any:
        """A later pass: the recorded prefix is not computed again, where that is exact."""
        if self._rng and self._start is not None:
            self._rng.set(self._start)
        if self.recorded:
            try:
                self.replaying = True
                output = self._pass(correct, recording=False)
                if self._written_since():
                    self.recorded, self.unexpected = False, True
                return output
            except _Diverged:
                self.recorded = False
                if self._state is not None:
                    self._state.restore()
                if self._rng and self._start is not None:
                    self._rng.set(self._start)
            finally:
                self.replaying = False
        return self._pass(correct, recording=False)

    def shares_memory(self, output: object) -> bool:
        """Whether part of an output is a recorded tensor, which later passes may overwrite."""
        return bool(self._storages) and any(storage_of(tensor) in self._storages for _, tensor in tensors(output))

    def begin_pass(self) -> None:
        """Calls are counted from here: a pass begins, or (a loop within a loop) the generator is called again."""
        self._seen = dict.fromkeys(self._modules, 0)

    def _pass(self, correct: Correct | None, recording: bool, required: Collection[int] | None = None) -> object:
        self.begin_pass()
        self._passing = True
        self._played: list[Key] = []
        self._reached: set[int] = set()
        self._correct, self._recording = correct, recording
        try:
            output = self._run()
        finally:
            self._passing = False  # D may share layers with G: its calls are not of this pass
        needed = () if correct is None else range(len(self._sites)) if required is None else required
        missing = [self._sites[i].name for i in needed if i not in self._reached]
        if missing:
            if self.replaying:
                raise _Diverged
            raise LayerNotCalledError(
                f"G did not call {', '.join(missing)} this time, but did when the loop was attached: which "
                "layers run depends on G's input or mode. Attach with a similar input as example=, or link to "
                "a layer that G always calls."
            )
        if self.replaying and len(self._played) != len(self._schedule.replay):
            raise _Diverged
        often = [s for s in self._sites if s.only and self._seen[s.module] > 1]
        if often and not self.replaying:
            raise LayerNotCalledError(
                f"G called {often[0].name} {self._seen[often[0].module]} times this time, but once when the "
                "loop was attached. If G works in slices or tiles, turn that off or attach to the network "
                "that runs on one tile. Or choose one call: 'NAME#0'."
            )
        return output

    def _around(self, module: nn.Module) -> Around:
        visible = self._schedule.visible.get(module)

        def around(forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
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
            if self.replaying and key in self._recordings:
                output = self._play(key, args)
            elif self._recording and key in self._wanted and not self.unexpected:
                output = self._record(key, forward, args, kwargs)
            else:
                output = forward(*args, **kwargs)
            for index in self._at.get((module, count, "output"), ()):
                output = self._inject(index, output)
            return output

        return around

    # -- recording ----------------------------------------------------------------------------------

    def _record(
        self, key: Key, forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if torch.compiler.is_compiling():
            return self._record_in_trace(key, forward, args, kwargs)
        expected = self._schedule.effects.get(key, NONE)
        watch = Watch(args, kwargs)
        output = forward(*args, **kwargs)
        found = watch.effects(output)
        if self._reached:
            self._in_order = False
            return output
        if not (is_plain(output) and found.writes <= expected.writes and found.returns <= expected.returns):
            self.unexpected = True
            return output
        self._order.append(key)
        rng = self._rng.get() if self._rng and self._random else None
        moved = self._state.newly_moved() if self._state is not None else []  # playing the call moves them too
        if key in self._dead:
            self._recordings[key] = _Recorded(None, False, [], rng, moved)
            return output
        copied, held = expected.overwritten, {storage_of(tensor) for _, tensor in tensors(output)}
        value = copy_tensors(output) if copied else map_tensors(_itself, output)
        shared = [self._storages[memory] for memory in held if memory in self._storages]
        if value is None or (shared and (copied or any(self._recordings[other].copied for other in shared))):
            self.unexpected = True  # copies one by one would no longer share their memory
            return output
        self._storages |= dict.fromkeys(held, key)
        versions = [(path, tensor, version_of(tensor)) for path, tensor in tensors(output)]
        self._recordings[key] = _Recorded(value, copied, versions, rng, moved)
        return output

    def _record_in_trace(
        self, key: Key, forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """What a compiler's trace can follow of :meth:`_record`: the schedule was proven when the loop was attached,
        and nothing is watched. Outputs are single tensors."""
        output = forward(*args, **kwargs)
        if self._reached or not isinstance(output, Tensor):
            self._in_order = False
            return output
        self._order.append(key)
        copied = self._schedule.effects.get(key, NONE).overwritten
        value = None if key in self._dead else output.clone() if copied else output
        self._recordings[key] = _Recorded(value, copied, [], None, [])
        return output

    def _overwritten(self) -> bool:
        """Whether a recorded value was written more or less often than expected; originals of copies are let go."""
        for key, kept in self._recordings.items():
            expected = self._schedule.effects.get(key, NONE).later_writes
            for path, tensor, version in kept.versions:
                if version_of(tensor) - version != expected.get(path, 0):
                    return True
            if kept.copied:
                kept.versions = []
        return False

    def _written_since(self) -> bool:
        return any(
            version_of(tensor) != version for kept in self._recordings.values() for _, tensor, version in kept.versions
        )

    # -- playing ------------------------------------------------------------------------------------

    def _play(self, key: Key, args: tuple[object, ...]) -> object:
        self._played.append(key)
        kept = self._recordings[key]
        if self._rng and kept.rng is not None:
            self._rng.set(kept.rng)
        put_state(kept.moved)
        if key in self._dead:
            return args[0] if args else None
        if torch.compiler.is_compiling():
            return kept.value.clone() if kept.copied else kept.value
        return copy_tensors(kept.value) if kept.copied else map_tensors(_itself, kept.value)

    def _inject(self, index: int, output: object) -> object:
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
        drawn = self._rng.get() if self._rng and self._random else None
        corrected = self._correct(index, found[site.path])
        if self._rng and drawn is not None:
            self._rng.set(drawn)  # what a module draws must not shift what G draws
        return put(output, site.path, corrected)

    def _inject_input(
        self, key: Key, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        both: Any = (args, kwargs)
        for index in self._at[(*key, "input")]:
            both = self._inject(index, both)
        return both


def _itself(tensor: Tensor) -> Tensor:
    return tensor
