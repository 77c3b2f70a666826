"""One rollout at a time for each network, whatever the thread; and no fork of the process in the midst of one.

Examples:
    >>> from torch import nn
    >>> net = nn.Identity()
    >>> with locked(net, None):
    ...     pass
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

_locks: "weakref.WeakKeyDictionary[nn.Module, threading.RLock]" = weakref.WeakKeyDictionary()
_guard = threading.RLock()  # the collector may end an abandoned block of this thread, which takes it again
_quiet = threading.Condition()
_running: dict[int, int] = {}  # blocks by thread
_LONGEST_WAIT = 60.0  # seconds that a fork waits for the rollouts of other threads


@contextmanager
def locked(*networks: nn.Module | None) -> Iterator[None]:
    """Hold the locks of some networks; always taken in one order, so that nobody waits for each other.

    A fork in another thread waits for the end of the block: the child then finds networks as they are between
    rollouts, and locks that nobody holds.
    """
    with ExitStack() as stack:
        for net in sorted({net for net in networks if net is not None}, key=id):
            with _guard:
                lock = _locks.setdefault(net, threading.RLock())
            stack.enter_context(lock)
        me = threading.get_ident()
        with _quiet:
            _running[me] = _running.get(me, 0) + 1
        try:
            yield
        finally:
            with _quiet:
                _running[me] -= 1
                if not _running[me]:
                    del _running[me]
                _quiet.notify_all()


def _before_fork() -> None:
    _quiet.acquire()
    me = threading.get_ident()
    _quiet.wait_for(lambda: not _running.keys() - {me}, _LONGEST_WAIT)
    _guard.acquire()


def _after_fork() -> None:
    _guard.release()
    _quiet.release()


def _after_fork_in_child() -> None:
    """The threads that held or waited for locks are not in the child; the one that forked keeps its own."""
    for net, lock in list(_locks.items()):
        if not lock._is_owned():  # type: ignore[attr-defined]
            del _locks[net]
    for thread in _running.keys() - {threading.get_ident()}:
        del _running[thread]
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
