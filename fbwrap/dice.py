"""The state of the random numbers, so that every pass of a rollout sees the same ones.

Example:
    >>> import torch
    >>> dice = Dice(torch.device("cpu"))
    >>> before = dice.get()
    >>> same_dice(before, dice.get()), torch.rand(1).shape, same_dice(before, dice.get())
    (True, torch.Size([1]), False)
"""

from typing import Any

import torch
from torch import Tensor

from .trees import leaves


class Dice:
    """The state of every source of random numbers that a network on ``devices`` may draw from."""

    def __init__(self, device: torch.device, inputs: Any = ()):
        self._modules: list[Any] = [torch.random]
        if device.type not in ("cpu", "meta"):
            module = torch.get_device_module(device)
            if hasattr(module, "get_rng_state"):
                self._modules.append(module)
        self._generators = [item for item in leaves(inputs) if isinstance(item, torch.Generator)]

    def get(self) -> list[Tensor]:
        """The states now."""
        return [m.get_rng_state() for m in self._modules] + [g.get_state() for g in self._generators]

    def set(self, states: list[Tensor]) -> None:
        """Go back to states that :meth:`get` gave."""
        for module, state in zip(self._modules, states, strict=False):
            module.set_rng_state(state)
        for generator, state in zip(self._generators, states[len(self._modules) :], strict=True):
            generator.set_state(state)


def same_dice(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether no random number was drawn between two readings."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
