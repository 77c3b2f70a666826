"""Strengths and steps that make sense.

Example:
    >>> check_strength(1), check_steps(3), is_zero((0.5, 0.0))
    (1.0, 3, True)
"""

import math

import torch
from torch import Tensor

from .errors import SettingError

Strength = float | Tensor


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
