"""What a loop hands out: the sequence y_0 … y_T of one call, and a handle on one link.

Examples:
    >>> rollout = loop.rollout(z, steps=3)                     # doctest: +SKIP
    >>> rollout.output, rollout.responses[0]                   # doctest: +SKIP
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .links import Connection
from .settings import Strength, ThreadSettings, check_strength


@dataclass
class Rollout:
    """The whole sequence y_0 … y_T of one call.

    Attributes:
        outputs: what G returned at t = 0 … T. With a FAL loop (``first="zeros"``) y_0 is zeros.
        starts_from_zeros: whether it is so.
    """

    outputs: tuple[Any, ...]
    _respond: Callable[[object], Tensor]
    starts_from_zeros: bool = False

    @property
    def output(self) -> Any:
        """y_T."""
        return self.outputs[-1]

    @cached_property
    def responses(self) -> tuple[Tensor, ...]:
        """D's response r_t = D(y_t) to each output, without a graph.

        Computed when first asked for (the loop itself stops D early), with D as it is then.
        """
        if self.starts_from_zeros:  # FAL: y_0 and r_0 are zeros
            later = [self._respond(output) for output in self.outputs[1:]]
            return (torch.zeros_like(later[0]), *later)
        return tuple(self._respond(output) for output in self.outputs)


class LinkHandle:
    """One link of an attached loop: ``loop["main.5"]``. Its ``strength`` can be set at any time."""

    def __init__(self, connection: Connection, module: nn.Module, settings: ThreadSettings, index: int):
        self._connection, self._settings, self._index = connection, settings, index
        self.module = module

    @property
    def target(self) -> str:
        """The corrected layer of G."""
        return str(self._connection.target)

    @property
    def strength(self) -> Strength:
        """This link's α; multiplied by ``loop.strength``."""
        return self._settings.now.strengths[self._index]

    @strength.setter
    def strength(self, value: Strength) -> None:
        now = self._settings.now
        strengths = [*now.strengths]
        strengths[self._index] = check_strength(value)
        self._settings.set(replace(now, strengths=tuple(strengths)))

    def __repr__(self) -> str:
        return f"{self._connection} strength={self.strength}"
