"""The state of the random numbers, so that every pass of a rollout sees the same ones.

Example:
    >>> import torch
    >>> dice = Dice(torch.device("cpu"))
    >>> before = dice.get()
    >>> same_dice(before, dice.get()), torch.rand(1).shape, same_dice(before, dice.get())
    (True, torch.Size([1]), False)
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .trees import leaves

Source = tuple[Callable[[], Any], Callable[[Any], Any]]


class Dice:
    """The state of every source of random numbers that a network on ``device`` may draw from: torch's, of its
    inputs' generators, Python's and (where it is in use) NumPy's."""

    def __init__(self, device: torch.device, inputs: Any = ()):
        self._sources: list[Source] = [(torch.get_rng_state, torch.set_rng_state), (random.getstate, _set_python)]
        if device.type not in ("cpu", "meta"):
            module = torch.get_device_module(device)
            if hasattr(module, "get_rng_state"):
                self._sources.append((module.get_rng_state, module.set_rng_state))
        generators = [item for item in leaves(inputs) if isinstance(item, torch.Generator)]
        self._sources += [(generator.get_state, generator.set_state) for generator in generators]
        if "numpy.random" in sys.modules:
            self._sources.append((_get_numpy, sys.modules["numpy.random"].set_state))

    def get(self) -> list[Any]:
        """The states now: plain data and tensors."""
        return [get() for get, _ in self._sources]

    def set(self, states: list[Any]) -> None:
        """Go back to states that :meth:`get` gave."""
        for (_, put), state in zip(self._sources, states, strict=False):
            put(state)


def same_dice(first: list[Any], second: list[Any]) -> bool:
    """Whether no random number was drawn between two readings."""
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(first, second, strict=True))


def _set_python(state: Any) -> None:
    version, numbers, gauss = state
    random.setstate((version, tuple(numbers), gauss))


def _get_numpy() -> tuple[Any, ...]:
    name, keys, *rest = sys.modules["numpy.random"].get_state()
    return (name, keys.tolist(), *rest)
