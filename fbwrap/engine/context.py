"""Where a rollout runs: eager, outside inference mode, and never inside its own pass.

Examples:
    >>> from torch import nn
    >>> net = nn.Identity()
    >>> with rolling(net, 7):
    ...     [mark.loop for mark in rolling_on(net)]
    [7]
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from .pytree import T, map_tensors, tensors

_here = threading.local()


ALONE = 0.0  # the rank of a loop that is called by itself: it runs on the plain generator


class Rolling(NamedTuple):
    """A loop that this thread runs: on which generator, its number, and ``ALONE`` or its rank in the order of
    installing, with which it runs on the generator with all loops that were installed before."""

    net: nn.Module
    loop: int
    rank: float


@contextmanager
def rolling(net: nn.Module, loop: int, rank: float = ALONE) -> Iterator[None]:
    """Mark that this thread runs a loop."""
    marks: list[Rolling] = _here.__dict__.setdefault("rolling", [])
    marks.append(Rolling(net, loop, rank))
    try:
        yield
    finally:
        marks.pop()


def rolling_on(net: nn.Module) -> list[Rolling]:
    """The loops that this thread runs on a generator, the outermost first."""
    return [mark for mark in _here.__dict__.get("rolling", ()) if mark.net is net]


@contextmanager
def bare(net: nn.Module) -> Iterator[None]:
    """Within the block, in this thread, loops that are installed on a generator stand aside: it runs alone."""
    marks: list[nn.Module] = _here.__dict__.setdefault("bare", [])
    marks.append(net)
    try:
        yield
    finally:
        marks.pop()


def is_bare(net: nn.Module) -> bool:
    """Whether installed loops stand aside."""
    return any(other is net for other in _here.__dict__.get("bare", ()))


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Inference tensors have no version counter, and replay must know that nothing was overwritten."""
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


def usable(inputs: T) -> T:
    """Inputs that may be used outside inference mode."""
    if not torch.compiler.is_compiling() and any(tensor.is_inference() for _, tensor in tensors(inputs)):
        with torch.inference_mode(False):
            return map_tensors(lambda t: t.clone() if t.is_inference() else t, inputs)
    return inputs


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is, or wraps, compiled code."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


_counting = threading.RLock()  # as in locks
_blocks = 0
_stance: Any = None


@contextmanager
def eager_while() -> Iterator[None]:
    """Within the block compiled code runs as it was written, in the whole process; blocks of several threads may end
    in any order, and the last one gives the process back its own stance."""
    global _blocks, _stance
    with _counting:
        if not _blocks:
            _stance = torch.compiler.set_stance("force_eager")
            _stance.__enter__()
        _blocks += 1
    try:
        yield
    finally:
        with _counting:
            _blocks -= 1
            if not _blocks:
                _stance.__exit__(None, None, None)


@contextmanager
def eager(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Compiled parts of G and D run as they were written: compiled code knows nothing of the loop."""
    if any(map(is_compiled, modules)):
        with eager_while():
            yield
    else:
        yield
