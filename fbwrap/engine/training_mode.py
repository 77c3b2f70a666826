"""Train and eval mode for the duration of a block, seen by the thread that asked for it alone.

Examples:
    >>> from torch import nn
    >>> net = nn.BatchNorm1d(2)
    >>> with training_mode([net], False):
    ...     net.training
    False
    >>> net.training
    True
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

from .names import is_scripted

MODES = "_fbwrap_modes"  # in the attributes of a module, while a block lasts
_guard = threading.RLock()  # the collector may end an abandoned block of this thread, which takes it again


@contextmanager
def training_mode(modules: Sequence[nn.Module], training: bool) -> Iterator[None]:
    """Put modules into train or eval mode, for this thread; every other thread sees the mode that they are in.

    While the block lasts, the class of a module whose mode differs is a subclass with ``training`` as a property.
    """
    changed = [module for module in modules if module.training is not training]
    own = not torch.compiler.is_compiling()
    try:
        for module in changed:
            if not (own and _enter(module, training)):
                _set(module, training)
        yield
    finally:
        for module in changed:
            if not (own and _leave(module)):
                _set(module, not training)


def _set(module: nn.Module, training: bool) -> None:
    if is_scripted(module):
        module.train(training)  # with all that is inside it
    else:
        module.training = training


def _enter(module: nn.Module, training: bool) -> bool:
    if is_scripted(module):
        return False
    with _guard:
        held = vars(module).get(MODES)
        if held is None:
            try:
                module.__class__ = _with_own_mode(type(module))  # type: ignore[arg-type] # classes can be hashed
            except TypeError:  # a class that cannot be inherited, or of another layout
                return False
            held = vars(module)[MODES] = {}
        held.setdefault(threading.get_ident(), []).append(training)
    return True


def _leave(module: nn.Module) -> bool:
    with _guard:
        held = None if is_scripted(module) else vars(module).get(MODES)
        if held is None:
            return False
        mine = held[threading.get_ident()]
        mine.pop()
        if not mine:
            del held[threading.get_ident()]
        if not held:
            module.__class__ = type(module).__bases__[0]
            del vars(module)[MODES]
    return True


@cache
def _with_own_mode(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass of a module's class whose ``training`` is what this thread asked for; copies and pickles are plain.

    ``__class__`` is the plain class throughout: a pickler reads it after the reduction, when a block of another thread
    may have begun or ended."""

    def get(self: nn.Module) -> bool:
        held = vars(self).get(MODES, {}).get(threading.get_ident())
        return bool(held[-1] if held else vars(self)["training"])

    def put(self: nn.Module, value: bool) -> None:
        vars(self)["training"] = value

    def reduce(self: nn.Module, protocol: Any) -> Any:
        made: Any = kind.__reduce_ex__(self, protocol)
        arguments = tuple(kind if each is found else each for each in made[1])
        state = made[2] if len(made) > 2 else None
        if isinstance(state, dict):
            state = {key: value for key, value in state.items() if key != MODES}
        return (made[0], arguments, state, *made[3:])

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    own = {"training": property(get, put), "__reduce_ex__": reduce, "__class__": property(lambda self: kind, _become)}
    meta: Any = type(kind)
    found: type[nn.Module] = meta(kind.__name__, (kind,), {**names, **own})
    return found


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    object.__dict__["__class__"].__set__(module, kind)
