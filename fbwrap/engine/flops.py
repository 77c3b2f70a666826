"""Floating-point operations of a block of code, counted where they are dispatched.

Examples:
    >>> import torch
    >>> with FlopCounter() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counter.total
    48

torch's ``FlopCounterMode`` follows modules too, by hooks on tensors, and fails under ``no_grad`` where a view of a
parameter is handed to a layer; here nothing is followed. The formulas are torch's own.
"""

from collections.abc import Iterable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class FlopCounter(TorchDispatchMode):
    """Counts within a ``with`` block; ``total`` is the count so far."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.total = 0
        self._formulas = flop_registry

    def __torch_dispatch__(
        self, function: Any, kinds: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Run an operation and count it."""
        output = function(*args, **(kwargs or {}))
        formula = self._formulas.get(getattr(function, "_overloadpacket", None))
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=output))
        return output
