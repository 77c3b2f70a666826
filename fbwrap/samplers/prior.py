"""The distribution of a latent as samplers that move it need it: its slope, its range, what keeps to it.

Examples:
    >>> import torch
    >>> Prior("normal").score(torch.tensor([2.0]))
    tensor([-2.])
    >>> Prior("uniform:-1:1").reflected(torch.tensor([1.25, -3.5]))
    tensor([0.7500, 0.5000])
"""

import math

import torch
from torch import Tensor


class Prior:
    """One latent's distribution.

    Args:
        how: its description (:mod:`fbwrap.feedback.latents`): ``normal``, ``uniform`` or ``truncated``.
    """

    def __init__(self, how: str):
        kind, *figures = how.split(":")
        numbers = [float(figure) for figure in figures]
        self.kind, self.mean, self.deviation = kind, 0.0, math.inf
        self.range = (-math.inf, math.inf)
        if kind == "uniform":
            self.range = (numbers[0], numbers[1])
        elif kind == "truncated":
            self.deviation, self.range = numbers[0], (-2 * numbers[0], 2 * numbers[0])
        else:
            self.mean, self.deviation = (numbers[0], numbers[1]) if numbers else (0.0, 1.0)

    def score(self, z: Tensor) -> Tensor:
        """∇ log p(z), within the range."""
        return (self.mean - z) / self.deviation**2

    def cut(self, z: Tensor) -> Tensor:
        """What lies outside the range brought to its ends."""
        return z.clamp(*self.range) if math.isfinite(self.range[0]) else z

    def reflected(self, z: Tensor) -> Tensor:
        """What lies outside the range reflected at its ends."""
        low, high = self.range
        if not math.isfinite(low):
            return z
        wide = high - low
        place = torch.remainder(z - low, 2 * wide)
        return low + torch.minimum(place, 2 * wide - place)

    def tangential(self, gradient: Tensor, z: Tensor, axis: int = 0) -> Tensor:
        """A gradient without its part along z, where z is normal: g − (g·z) z / ‖z‖²; ``axis``: of the samples."""
        if self.kind != "normal":
            return gradient
        g, centred = gradient.movedim(axis, 0), z.movedim(axis, 0) - self.mean
        along = (g * centred).flatten(1).sum(1) / centred.flatten(1).square().sum(1).clamp(min=1e-12)
        return (g - centred * along.view(-1, *[1] * (z.dim() - 1))).movedim(0, axis)
