"""What a forward pass may move besides its output: buffers, parameters, plain attributes; noted and put back.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> net = nn.BatchNorm1d(2)
    >>> before = Snapshot([net])
    >>> _ = net(torch.ones(3, 2))
    >>> before.restore()
    >>> net.running_mean
    tensor([0., 0.])
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from .attributes import is_torchs, may_hold_state, names_of, plain_state, tensors_in
from .names import is_scripted
from .pytree import same_bits, storage_of, tensors, version_of

Place = tuple[nn.Module, str]
Moved = tuple[dict[str, Any], str, Tensor, Tensor]  # where it stands, the tensor there, and its value


class Snapshot:
    """Buffers, parameters that are known to move, and plain attributes of some modules, with copies of their values.

    What moved is told by identities, counters of writes in place, and values: writes through ``.data``, and those of
    batch norm's own kernel, are not counted.

    Args:
        modules: whose buffers and attributes are noted. Running statistics of torch's own norms are left out in eval
            mode, in which they cannot move.
        moving: parameters and buffers that are known to move, or may.
    """

    def __init__(self, modules: Sequence[nn.Module], moving: Sequence[Place] = ()):
        known = dict.fromkeys(moving)
        others = dict.fromkeys(
            (module, name) for module in modules if not _is_still(module) for name in _buffers(module)
        )
        held = [place for place in {**known, **others} if _holder(place).get(place[1]) is not None]
        self._values = [_Value(place, place in known) for place in held]
        self._keepers = [module for module in modules if may_hold_state(module)]
        self._attributes = [(module, plain_state(module)) for module in self._keepers]

    def moved(self) -> list[Place]:
        """What did move."""
        return [value.place for value in self._values if value.moved()]

    def moved_unexpectedly(self) -> bool:
        """Whether anything moved that was not known to."""
        return any(value.moved() for value in self._values if not value.known)

    def attributes_changed(self) -> bool:
        """Whether a plain attribute was set, or its content changed."""
        return any(True for _ in self.changed_attributes())

    def changed_attributes(self) -> Iterator[str]:
        """Names of plain attributes that were set, or whose content changed."""
        for module, before in self._attributes:
            attributes, names = vars(module), names_of(module)
            yield from sorted(names ^ before.keys())
            yield from (name for name in before if name in names and before[name].changed(attributes[name]))

    def restore(self) -> None:
        """Put back what moved: the same tensors, changed in place."""
        for value in self._values:
            value.restore()
        for module, before in self._attributes:
            attributes = vars(module)
            for name in names_of(module) - before.keys():
                del attributes[name]
            for name, note in before.items():
                attributes[name] = note.restored()

    def attributes_now(self) -> "Snapshot":
        """The plain attributes as they are now, of the same modules."""
        now = Snapshot(())
        now._attributes = [(module, plain_state(module)) for module in self._keepers]
        return now

    def after_one_pass(self) -> "OnePass":
        """What one pass moved, if nothing was put back since it began."""
        moved = [value.now() for value in self._values if value.moved()]
        return OnePass(moved, self.attributes_now() if self.attributes_changed() else None)

    def newly_moved(self) -> list[Moved]:
        """What moved since this was last asked, with a copy of where it is now."""
        return [value.now() for value in self._values if value.newly_moved()]

    def moved_storages(self) -> set[int]:
        """The memory of buffers and parameters that moved."""
        moved = [value for value in self._values if value.moved()]
        held = [each for value in moved for each in (value.tensor, value.holder.get(value.place[1]))]
        return {storage_of(tensor) for tensor in held if isinstance(tensor, Tensor)}

    def shares_memory(self, output: object) -> bool:
        """Whether part of an output stands where something may be put back: in a buffer, or in a tensor that a module
        keeps."""
        held = self.moved_storages()
        for module, _ in self._attributes:
            held |= {storage_of(each) for name in names_of(module) for each in tensors_in(vars(module)[name])}
        return bool(held) and any(storage_of(tensor) in held for _, tensor in tensors(output))


@dataclass(frozen=True)
class OnePass:
    """What one pass of a network moved."""

    moved: list[Moved]
    attributes: Snapshot | None

    def repeat(self, *, statistics: bool) -> None:
        """Move plain attributes again as the pass did; with ``statistics`` buffers and parameters too."""
        if statistics:
            put(self.moved)
        if self.attributes is not None:
            self.attributes.restore()


def put(moved: Sequence[Moved]) -> None:
    """Give buffers and parameters the tensors and values that they had."""
    for holder, name, tensor, value in moved:
        holder[name] = tensor
        tensor.data.copy_(value)


class _Value:
    """One buffer or parameter, and a copy of its value.

    ``known``: it is known to move. Of all others :meth:`newly_moved` sees what counters of writes tell.
    """

    __slots__ = ("before", "copy", "holder", "known", "last", "place", "seen", "tensor")

    def __init__(self, place: Place, known: bool):
        self.place, self.known = place, known
        self.holder = _holder(place)
        self.tensor = self.holder[place[1]]
        self.copy = self.last = self.tensor.detach().clone()
        self.before = self.seen = _mark(self.tensor)

    def moved(self) -> bool:
        now = self.holder.get(self.place[1])
        return _mark(now) != self.before or (now is not None and not same_bits(now, self.copy))

    def newly_moved(self) -> bool:
        now = self.holder.get(self.place[1])
        return _mark(now) != self.seen or (self.known and now is not None and not same_bits(now, self.last))

    def now(self) -> Moved:
        now = self.holder[self.place[1]]
        self.seen, self.last = _mark(now), now.detach().clone()
        return self.holder, self.place[1], now, self.last

    def restore(self) -> None:
        if self.moved():
            self.holder[self.place[1]] = self.tensor
            if not same_bits(self.tensor, self.copy):
                self.tensor.data.copy_(self.copy)  # .data: a graph that saved the tensor must stay usable
            self.before = self.seen = _mark(self.tensor)
            self.last = self.copy


class Moving:
    """Which parameters and buffers of a network its forward moves, learned once for each combination of modes.

    Args:
        modules: the network's.
        moving: what moves when all of them are in eval mode.
    """

    def __init__(self, modules: Sequence[nn.Module], moving: Sequence[Place]):
        self._modules = list(modules)
        self._in_eval = moving
        self._known: dict[tuple[bool, ...], Sequence[Place]] = {(False,) * len(self._modules): moving}

    def note(self) -> Snapshot:
        """The state now; in modes that are new, all of it."""
        if torch.compiler.is_compiling():
            return TracedSnapshot(self._modules, self._in_eval)
        known = self._known.get(self.modes())
        return Snapshot(self._modules, every_place(self._modules) if known is None else known)

    def learn(self, snapshot: Snapshot) -> None:
        """Take from the state before a pass, once the pass is over, what moves in these modes."""
        if torch.compiler.is_compiling():
            return
        modes = self.modes()
        if modes not in self._known:
            self._known[modes] = snapshot.moved()
        elif snapshot.moved_unexpectedly():
            self._known[modes] = list(dict.fromkeys([*self._known[modes], *snapshot.moved()]))

    def modes(self) -> tuple[bool, ...]:
        """The mode of each module."""
        return tuple(module.training for module in self._modules)


class TracedSnapshot(Snapshot):
    """What a compiler's trace can follow of a snapshot: buffers of modules that train, and what is known to move."""

    def __init__(self, modules: Sequence[nn.Module], moving: Sequence[Place] = ()):
        places = [(module, name) for module in modules if module.training for name in module._buffers]
        held = [(_holder(place), place[1]) for place in [*places, *moving]]
        self._moved = [(h, name, h[name], h[name].clone()) for h, name in held if h[name] is not None]

    def restore(self) -> None:
        """Put back all of it."""
        put(self._moved)

    def attributes_changed(self) -> bool:
        """Cannot be told."""
        return False

    def after_one_pass(self) -> OnePass:
        """What was noted, as it is now."""
        return OnePass([(h, name, h[name], h[name].clone()) for h, name, *_ in self._moved], None)


def every_place(modules: Sequence[nn.Module]) -> list[Place]:
    """All parameters and buffers of some modules."""
    return [
        (module, name)
        for module in modules
        for held in (_parameters(module), _buffers(module))
        for name, tensor in held.items()
        if tensor is not None
    ]


def _buffers(module: nn.Module) -> dict[str, Any]:
    """A module's own buffers; of a scripted one those inside it too."""
    return dict(module.named_buffers()) if is_scripted(module) else module._buffers


def _parameters(module: nn.Module) -> dict[str, Any]:
    return dict(module.named_parameters()) if is_scripted(module) else module._parameters


def _holder(place: Place) -> dict[str, Any]:
    module, name = place
    if is_scripted(module):
        return {**_parameters(module), **_buffers(module)}
    held: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
    return held


def _mark(tensor: Tensor | None) -> tuple[int, int, int]:
    """What differs once a tensor is another one, was written in place, or got other memory."""
    if tensor is None:
        return (0, 0, 0)
    plain = tensor.layout == torch.strided and not tensor.is_meta
    return (id(tensor), version_of(tensor), tensor.data_ptr() if plain else 0)


def _is_still(module: nn.Module) -> bool:
    """Whether a module is one of torch's own norms in eval mode."""
    return isinstance(module, _BatchNorm | _InstanceNorm) and is_torchs(module) and not module.training
