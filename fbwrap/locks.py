"""One rollout at a time for each network, whatever the thread.

Example:
    >>> from torch import nn
    >>> net = nn.Identity()
    >>> with locked(net, None):
    ...     pass
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
_guard = threading.Lock()


@contextmanager
def locked(*networks: nn.Module | None) -> Iterator[None]:
    """Hold the locks of some networks; always taken in one order, so that nobody waits for each other."""
    with ExitStack() as stack:
        for net in sorted({net for net in networks if net is not None}, key=id):
            with _guard:
                lock = _locks.setdefault(net, threading.RLock())
            stack.enter_context(lock)
        yield
