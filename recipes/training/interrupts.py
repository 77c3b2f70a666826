"""Ctrl-C and SIGTERM, heard between two steps.

Examples:
    >>> with interrupt_between_steps() as stop:
    ...     stop.is_set()
    False
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupt_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM are heard when a step is whole; a second Ctrl-C at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
