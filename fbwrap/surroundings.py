"""Where a rollout runs: eager, outside inference mode, and never inside another one's pass.

Example:
    >>> from torch import nn
    >>> net = nn.Identity()
    >>> with rolling(net):
    ...     is_rolling(net)
    True
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .trees import map_tensors, tensors

_here = threading.local()


@contextmanager
def rolling(net: nn.Module) -> Iterator[None]:
    """Mark that this thread runs a loop on a generator."""
    nets: list[nn.Module] = _here.__dict__.setdefault("nets", [])
    nets.append(net)
    try:
        yield
    finally:
        nets.pop()


def is_rolling(net: nn.Module) -> bool:
    """Whether this thread runs a loop on the generator."""
    return any(other is net for other in _here.__dict__.get("nets", ()))


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Inference tensors have no version counter, and replay must know that nothing was overwritten."""
    if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield


def usable(inputs: Any) -> Any:
    """Inputs that may be used outside inference mode."""
    if not torch.compiler.is_compiling() and any(tensor.is_inference() for _, tensor in tensors(inputs)):
        return map_tensors(lambda t: t.clone() if t.is_inference() else t, inputs)
    return inputs


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is, or wraps, compiled code."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


_everywhere: list[ExitStack] = []  # one per block within eager_while; the first holds the stance
_counting = threading.Lock()


@contextmanager
def eager_while() -> Iterator[None]:
    """Within the block compiled code runs as it was written, in the whole process; blocks may end in any order."""
    with _counting:
        if not _everywhere:
            _everywhere.append(ExitStack())
            _everywhere[0].enter_context(torch.compiler.set_stance("force_eager"))
        else:
            _everywhere.append(ExitStack())
    try:
        yield
    finally:
        with _counting:
            last = _everywhere.pop() if len(_everywhere) > 1 else None
            if last is None:
                _everywhere.pop().close()


@contextmanager
def eager(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Compiled parts of G and D run as they were written: compiled code knows nothing of the loop."""
    if any(map(is_compiled, modules)):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
