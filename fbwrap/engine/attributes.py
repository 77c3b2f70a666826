"""What other people's modules keep in plain attributes: noted, compared, put back.

Examples:
    >>> from torch import nn
    >>> net = type("Counting", (nn.Module,), {"__module__": "mine"})()
    >>> net.calls = 0
    >>> before = plain_state(net)
    >>> net.calls += 1
    >>> before["calls"].changed(net.calls), before["calls"].restored()
    (True, 0)
"""

import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .names import is_scripted
from .pytree import same_bits, version_of
from .training_mode import MODES

OWN = frozenset(vars(nn.Module())) | {MODES, "_is_full_backward_hook", "forward"}
DEPTH = 3


def is_torchs(module: nn.Module) -> bool:
    """Whether a module's class is torch's own."""
    return type(module).__module__.startswith("torch.")


def may_hold_state(module: nn.Module) -> bool:
    """torch's own layers keep none; those of other people may."""
    return not is_torchs(module) and not is_scripted(module)


def names_of(module: nn.Module) -> set[str]:
    """Of a module's attributes those that may hold state: not the weights that torch's older norms compute before each
    pass."""
    computed = {getattr(hook, "name", None) for hook in module._forward_pre_hooks.values()}
    return {
        name
        for name, value in vars(module).items()
        if name not in OWN | computed and not callable(value) and not isinstance(value, types.ModuleType)
    }


def plain_state(module: nn.Module) -> "dict[str, Note]":
    """What a module keeps in attributes."""
    attributes = vars(module)
    return {name: Note(attributes[name]) for name in names_of(module)}


class Note:
    """One value as it was: what it holds, some levels deep."""

    __slots__ = ("copy", "inner", "value", "version")

    def __init__(self, value: Any, depth: int = 0):
        self.value = value
        self.copy: Tensor | None = None
        self.version = 0
        self.inner: dict[object, Note] | None = None
        if isinstance(value, Tensor) and not value.is_meta:
            self.version, self.copy = version_of(value), value.detach().clone()
        elif (items := items_of(value)) is not None and depth < DEPTH:
            self.inner = {key: Note(item, depth + 1) for key, item in items}

    def changed(self, now: Any) -> bool:
        """Whether a value differs from the one that was noted."""
        if isinstance(now, bool | int | float | complex | str) and type(now) is type(self.value):
            return bool(now != self.value)
        if now is not self.value:
            return True
        if self.copy is not None:
            return version_of(now) != self.version or not same_bits(now, self.copy)
        if self.inner is None:
            return False
        items = dict(items_of(now) or ())
        return items.keys() != self.inner.keys() or any(self.inner[key].changed(items[key]) for key in items)

    def restored(self) -> Any:
        """The value that was noted, its content as it was."""
        value = self.value
        if self.copy is not None:
            if not same_bits(value, self.copy):
                value.data.copy_(self.copy)
            self.version = version_of(value)
        if self.inner is not None and self.changed(value):
            held = {key: note.restored() for key, note in self.inner.items()}
            if isinstance(value, dict):
                value.clear()
                value.update(held)
            elif isinstance(value, list):
                value[:] = held.values()
            elif isinstance(value, deque):
                value.clear()
                value.extend(held.values())
            elif isinstance(value, set):
                value.clear()
                value.update(held)
        return value


def items_of(value: object) -> list[tuple[Any, Any]] | None:
    """What a container holds, with a key each; None for what is no container."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple | deque) and not isinstance(value, torch.Size):
        return list(enumerate(value))
    return [(each, each) for each in value] if isinstance(value, set) else None


def tensors_in(value: object, depth: int = 0) -> Iterator[Tensor]:
    """Tensors in a value, some levels deep."""
    if isinstance(value, Tensor):
        yield value
    elif depth < DEPTH:
        for _, item in items_of(value) or ():
            yield from tensors_in(item, depth + 1)
