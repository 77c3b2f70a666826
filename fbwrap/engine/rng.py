"""The state of the random numbers, so that every pass of a rollout sees the same ones.

Examples:
    >>> import torch
    >>> rng = RngState(torch.device("cpu"))
    >>> before = rng.get()
    >>> same_rng(before, rng.get()), torch.rand(1).shape, same_rng(before, rng.get())
    (True, torch.Size([1]), False)
"""

import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .pytree import leaves

Source = tuple[Callable[[], Any], Callable[[Any], Any]]


class RngState:
    """The state of every source of random numbers that a network on ``device`` may draw from: torch's, of its
    inputs' generators, Python's and (where it is in use) NumPy's."""

    def __init__(self, device: torch.device, inputs: object = ()):
        self._sources: dict[str, Source] = {
            "torch": (torch.get_rng_state, torch.set_rng_state),
            "python": (random.getstate, _set_python),
        }
        if device.type not in ("cpu", "meta"):
            module = torch.get_device_module(device)
            if hasattr(module, "get_rng_state"):
                self._sources[device.type] = _of_device(module, device)
        generators = [item for item in leaves(inputs) if isinstance(item, torch.Generator)]
        for number, generator in enumerate(generators):
            self._sources[f"generator {number}"] = (generator.get_state, generator.set_state)
        if "numpy.random" in sys.modules:
            self._sources["numpy"] = (_get_numpy, sys.modules["numpy.random"].set_state)

    def get(self) -> dict[str, Any]:
        """The states now, by source: plain data and tensors."""
        return {name: get() for name, (get, _) in self._sources.items()}

    def set(self, states: dict[str, object]) -> None:
        """Go back to states that :meth:`get` gave; a source that one side alone has stays."""
        for name, (_, put) in self._sources.items():
            if name in states:
                put(states[name])


def same_rng(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether no random number was drawn between two readings."""
    pairs = zip(first.values(), second.values(), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def _of_device(module: Any, device: torch.device) -> Source:
    """A device's own state: the second of two GPUs has one too."""
    if device.index is None or device.type == "mps":
        return module.get_rng_state, module.set_rng_state
    return partial(module.get_rng_state, device), lambda state: module.set_rng_state(state, device)


def _set_python(state: Any) -> None:
    version, numbers, gauss = state
    random.setstate((version, tuple(numbers), gauss))


def _get_numpy() -> tuple[object, ...]:
    name, keys, *rest = sys.modules["numpy.random"].get_state()
    return (name, keys.tolist(), *rest)
