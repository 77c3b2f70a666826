"""A loop as one graph.

Examples:
    >>> program = loop.export(z)                               # doctest: +SKIP
    >>> y = program.module()(z)                                # doctest: +SKIP
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..engine.names import unwrap
from ..errors import FbwrapError, UnsupportedError, short


class _Whole(nn.Module):
    """G, D and the head registered in one module: what is exported must own its parameters."""

    def __init__(self, run: Callable[..., Any], head: nn.Module, generator: nn.Module, critic: nn.Module | None):
        super().__init__()
        self.head, self.generator, self.discriminator = head, unwrap(generator), critic
        self._run = [run]  # in a list: the loop itself must not be registered

    def forward(self, *args: object, **kwargs: object) -> Any:
        return self._run[0](*args, **kwargs)


def export(
    run: Callable[..., Any],
    head: nn.Module,
    generator: nn.Module,
    critic: nn.Module | None,
    example: tuple[object, ...],
    named: dict[str, object],
) -> torch.export.ExportedProgram:
    """A ``torch.export`` program of ``run(*example, **named)``.

    Raises:
        UnsupportedError: torch.export cannot follow G or D.
    """
    try:
        return torch.export.export(_Whole(run, head, generator, critic), example, named or None)
    except FbwrapError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"torch.export cannot make one graph of this loop: {type(error).__name__}: {short(error, 160)}. A layer "
            "that moves its tensors through .data or attributes, or branches on values, is the usual cause. Run the "
            "loop eagerly, or mend that layer (torch.nn.utils.parametrizations.spectral_norm, say)."
        ) from error
