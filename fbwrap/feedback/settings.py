"""Strengths and steps that make sense; and those that hold within a ``with`` block, for the code that runs there.

Examples:
    >>> check_strength(1), check_steps(3), is_zero((0.5, 0.0))
    (1.0, 3, True)
"""

import itertools
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import SettingError

Strength = float | Tensor


@dataclass(frozen=True)
class Settings:
    """α of all links, α of each link, and T."""

    strength: Strength
    strengths: tuple[Strength, ...]
    steps: int


_numbers = itertools.count(1)
_within: ContextVar[Mapping[int, Settings]] = ContextVar("fbwrap settings")  # by the number of a holder; no default


class ThreadSettings:
    """A loop's settings: its own, and those of the ``with`` blocks that this thread (or task) is in."""

    def __init__(self, own: Settings):
        self.own = own
        self.number = next(_numbers)
        self._blocks = 0
        self._last = own
        self._lock = threading.RLock()

    @property
    def now(self) -> Settings:
        """What holds here."""
        if not self._blocks:
            return self.own
        if torch.compiler.is_compiling():  # a compiler's trace knows no threads: the block entered last
            return self._last
        return _within.get({}).get(self.number, self.own)

    def set(self, settings: Settings) -> None:
        """Change what holds here: within a block until its end, else for good."""
        if self._blocks and self.number in (within := _within.get({})):
            _within.set({**within, self.number: settings})
            self._last = settings
        else:
            self.own = settings

    @contextmanager
    def block(self) -> Iterator[None]:
        """What is set within the block holds until its end, for the code that runs within it alone."""
        before, last = self.now, self._last
        inner = self.number in _within.get({})
        _within.set({**_within.get({}), self.number: before})
        with self._lock:
            self._blocks, self._last = self._blocks + 1, before
        try:
            yield
        finally:
            with self._lock:
                self._blocks, self._last = self._blocks - 1, last
            others = {number: held for number, held in _within.get({}).items() if number != self.number}
            _within.set({**others, self.number: before} if inner else others)

    def __getstate__(self) -> dict[str, object]:
        return {"own": self.now}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["own"])  # type: ignore[misc] # a copy is a holder of its own


def check_strength(value: Strength) -> Strength:
    """A strength that makes sense: a finite number, or a floating-point tensor."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.dtype in (torch.bool, torch.int64, torch.uint8):
            return value
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise SettingError(
        f"strength={value!r}: pass a finite number, a tensor with one value per sample, or a spatial mask."
    )


def check_steps(value: int) -> int:
    """A number of steps that makes sense."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise SettingError(f"steps={value!r}: pass a whole number, 0 (only G) or more.")


def is_zero(alpha: tuple[Strength, ...]) -> bool:
    """Whether a product of strengths is zero for certain, so that its link need not run."""
    return any(not isinstance(factor, Tensor) and factor == 0.0 for factor in alpha)
