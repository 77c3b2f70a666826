"""Where a rollout runs: one thread at a time per generator, eager, outside inference mode.

Example:
    >>> from torch import nn
    >>> net = nn.Identity()
    >>> with lock_of(net):
    ...     pass
"""

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .trees import map_tensors, tensors

_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


def lock_of(net: nn.Module) -> threading.RLock:
    """The lock of a generator: loops on the same one take turns."""
    with _locks_guard:
        return _locks.setdefault(net, threading.RLock())


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


@contextmanager
def eager(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Compiled parts of G and D run as they were written: compiled code knows nothing of the loop."""
    if any(m._compiled_call_impl is not None or "_orig_mod" in m._modules for m in modules):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
