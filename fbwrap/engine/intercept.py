"""The only file that touches somebody else's modules: their ``forward`` is wrapped for the duration of a block.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> with wrapped({net[1]: lambda forward, args, kwargs: forward(*args, **kwargs) + 1}):
    ...     y = net(torch.zeros(1, 2))
    >>> "forward" in vars(net[1])
    False

Between rollouts a network carries nothing of fbwrap, so that hook counts, ``deepcopy`` and ``pickle`` are those of the
plain model. Other people's hooks run as they always do, around the wrapped ``forward``. A wrapper acts only in the
thread that set it.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import PairingError
from .names import Path
from .pytree import copy_tensors, tensors

Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
_ABSENT = object()


class _Wrapped:
    """Stands in for one module's ``forward`` (or other method). Copies and pickles as the class's own."""

    __slots__ = ("around", "method", "module", "original", "own", "rank", "thread")

    def __init__(self, module: nn.Module, around: Around, any_thread: bool, method: str, rank: float):
        self.module, self.around, self.method, self.rank = module, around, method, rank
        self.own: object = _ABSENT  # what stood at this place, and what it runs
        self.original: Any = None
        anywhere = any_thread or torch.compiler.is_compiling()
        self.thread = None if anywhere else threading.get_ident()
        self._link()

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if self.thread is not None and threading.get_ident() != self.thread:
            return self.original(*args, **kwargs)
        return self.around(self.original if self.thread is not None else self.inner, args, kwargs)

    def inner(self, *args: object, **kwargs: object) -> Any:
        """What stands within this wrapper at the time of the call."""
        return self.original(*args, **kwargs)

    def __reduce__(self) -> tuple[object, ...]:
        if getattr(self.original, "__func__", None) is getattr(type(self.module), self.method):
            return getattr, (self.module, self.method)
        return functools.partial, (self.original,)  # somebody's own instance-level forward

    def _link(self) -> None:
        """Enter the chain of wrappers: within those of a higher rank, around all others."""
        attributes = self.module.__dict__
        above: _Wrapped | None = None
        inner = attributes.get(self.method)
        while isinstance(inner, _Wrapped) and inner.rank > self.rank:
            above, inner = inner, inner.own
        self.own = attributes.get(self.method, _ABSENT) if above is None else above.own
        self.original = getattr(self.module, self.method) if above is None else above.original
        if above is None:
            attributes[self.method] = self
        else:
            above.own = above.original = self

    def unlink(self) -> None:
        """Leave the chain, wherever in it this one stands by now."""
        outer = self.module.__dict__.get(self.method)
        if outer is self:
            if self.own is _ABSENT:
                del self.module.__dict__[self.method]
            else:
                self.module.__dict__[self.method] = self.own
            return
        while isinstance(outer, _Wrapped) and outer.own is not self:
            outer = outer.own
        if isinstance(outer, _Wrapped):
            outer.original, outer.own = self.original, self.own


_chains = threading.RLock()


def _changing() -> AbstractContextManager[object]:
    """Chains of wrappers are changed by one thread at a time; a compiler's trace knows no threads."""
    return nullcontext() if torch.compiler.is_compiling() else _chains


@contextmanager
def wrapped(
    around: Mapping[nn.Module, Around], *, any_thread: bool = False, method: str = "forward", rank: float = 0.0
) -> Iterator[None]:
    """Wrap the ``forward`` of each module; on exit each gets back exactly what it had. Nests.

    Args:
        any_thread: act in every thread, not only in this one.
        method: another method than ``forward``.
        rank: a wrapper of a higher rank stands around this one, though it came before.
    """
    mine: list[_Wrapped] = []
    try:
        for module, action in around.items():
            with _changing():
                mine.append(_Wrapped(module, action, any_thread, method, rank))
        yield
    finally:
        for wrapper in reversed(mine):
            with _changing():
                wrapper.unlink()


# -- the critic: capture and stop ---------------------------------------------------------------------


class Stop(BaseException):
    """Ends a forward pass early. Not an Exception, so that no ``except Exception`` swallows it."""


@dataclass(frozen=True)
class Tap:
    """A tensor to read: at ``path`` in the output of the ``call``-th call of ``module``, or in ``(args, kwargs)``."""

    module: nn.Module
    call: int
    path: Path = ()
    at: Literal["output", "input"] = "output"


def read(run: Callable[[], Any], taps: Sequence[Tap], stop: bool) -> tuple[dict[Tap, Tensor], Any]:
    """Run a network once and read its taps; with ``stop``, end it after the last of them.

    A tap's tensor is a copy of what the layer returned, or was given: later operations in place do not reach it. Hooks
    that others have on the layer where the network stops, and on those behind it, do not run.
    """
    by_key: dict[tuple[nn.Module, int], list[Tap]] = {}
    for tap in taps:
        by_key.setdefault((tap.module, tap.call), []).append(tap)
    seen: dict[nn.Module, int] = dict.fromkeys((tap.module for tap in taps), 0)
    found: dict[Tap, Tensor] = {}
    wanted = len(set(taps))

    def note(value: object, at: str, taps: Sequence[Tap]) -> None:
        for tap in taps:
            if tap.at == at:
                tensor = _follow_tensors(value, tap)
                copied = None if torch.compiler.is_compiling() else copy_tensors(tensor)
                found[tap] = tensor.clone() if copied is None else copied
        if stop and len(found) == wanted:
            raise Stop

    def capture(module: nn.Module) -> Around:
        def around(forward: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
            call, seen[module] = seen[module], seen[module] + 1
            mine = by_key.get((module, call), ())
            note((args, kwargs), "input", mine)
            output = forward(*args, **kwargs)
            note(output, "output", mine)
            return output

        return around

    output = None
    try:
        with wrapped({module: capture(module) for module in seen}):
            output = run()
    except Stop:
        pass
    return found, output


def _follow_tensors(output: object, tap: Tap) -> Tensor:
    found = dict(tensors(output))
    if tap.path in found:
        return found[tap.path]
    raise PairingError(
        f"The {tap.at} of {type(tap.module).__name__} has no tensor at {list(tap.path)}; "
        f"it has {[list(path) for path in found]}."
    )
