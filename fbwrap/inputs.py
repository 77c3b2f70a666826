"""Inputs like those that a head was made with, when nobody writes code: seeded noise in the shape of its example.

Example:
    >>> import torch
    >>> takes_pictures((torch.zeros(2, 100, 1, 1),)), takes_pictures((torch.zeros(1, 3, 16, 16),))
    (False, True)
"""

from typing import Any

import torch
from torch import Tensor

from .errors import SettingError
from .loop import FeedbackLoop
from .probe import device_of
from .trees import map_tensors, tensors

SMALLEST = 8  # an input of one or three channels and this side is a picture, a smaller one a latent


def takes_pictures(args: tuple[Any, ...]) -> bool:
    """Whether G's first input is a picture, grey or RGB."""
    first = args[0] if args else None
    if not isinstance(first, Tensor):
        return False
    return first.dim() == 4 and first.shape[1] in (1, 3) and min(first.shape[2:]) >= SMALLEST


def span_of(loop: FeedbackLoop) -> tuple[float, float]:
    """What is black and white in G's samples: what its adapter knew, else -1 and 1."""
    known = (loop.facts.get("adapter") or {}).get("value_range") or (-1.0, 1.0)
    return float(known[0]), float(known[1])


def drawn(loop: FeedbackLoop, count: int, seed: int, label: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs like the head's example, for ``count`` samples: seeded normal noise; whole numbers are the label."""
    example = loop.facts["example"]
    rows = next((len(tensor) for _, tensor in tensors(example) if tensor.dim()), 1)
    dice, device = torch.Generator().manual_seed(seed), device_of(loop.generator)

    def fresh(tensor: Tensor) -> Tensor:
        if not tensor.dim() or len(tensor) != rows:
            return tensor.to(device)
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            return torch.randn(shape, generator=dice).to(device=device, dtype=tensor.dtype)
        return torch.full(shape, label, dtype=tensor.dtype, device=device)

    if any(takes_pictures((value,)) for value in example[1].values()):
        raise SettingError("This head's G takes a picture by keyword: use it in Python, loop(name=picture).")
    args, kwargs = map_tensors(fresh, example)
    return args, kwargs
