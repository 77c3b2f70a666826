"""Floating-point operations of a block of code, counted where they are dispatched.

Examples:
    >>> import torch
    >>> with FlopCounter() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counter.total
    48

torch's ``FlopCounterMode`` follows modules too, by hooks on tensors, and fails under ``no_grad`` where a view of a
parameter is handed to a layer; here nothing is followed. The formulas are torch's own, but for recurrent layers.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def _recurrent() -> dict[Any, Any]:
    """Formulas of LSTMs, which torch has none for: every weight is used once for each sample and point in time."""

    def count(given: Tensor, weights: Iterable[Tensor]) -> int:
        rows = given.numel() // given.shape[-1]
        return 2 * rows * sum(weight.numel() for weight in weights if weight.dim() == 2)

    def on_cpu(given: Tensor, *more: Any, **named: Any) -> int:
        return count(given, [each for each in more[:4] if isinstance(each, Tensor)])

    def on_gpu(given: Tensor, weights: list[Tensor], *more: Any, **named: Any) -> int:
        return count(given, weights)

    formulas = {"mkldnn_rnn_layer": on_cpu, "_cudnn_rnn": on_gpu, "miopen_rnn": on_gpu}
    return {
        getattr(torch.ops.aten, name): formula for name, formula in formulas.items() if hasattr(torch.ops.aten, name)
    }


class FlopCounter(TorchDispatchMode):
    """Counts within a ``with`` block; ``total`` is the count so far."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.total = 0
        self._formulas = {**flop_registry, **_recurrent()}

    def __torch_dispatch__(
        self, function: Any, kinds: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Run an operation and count it."""
        output = function(*args, **(kwargs or {}))
        formula = self._formulas.get(getattr(function, "_overloadpacket", None))
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=output))
        return output
