"""Pseudo-classes of real data, for a D that is to name them: k-means on principal components, without labels.

Examples:
    >>> import torch
    >>> made = torch.Generator().manual_seed(0)
    >>> real = torch.cat([torch.randn(60, 1, 8, 8, generator=made) + 9, torch.randn(60, 1, 8, 8, generator=made) - 9])
    >>> found = pseudo_classes(real, count=2)
    >>> found.shape, len(set(found[:60].tolist())), len(set(found[60:].tolist())), bool(found[0] == found[-1])
    (torch.Size([120]), 1, 1, False)
"""

import torch
from torch import Tensor

from ..metrics.pixel_space import principal_components

COUNT = 50
_FITTED = 10_000  # samples that the components and the centres are fitted to
_FEWEST = 20  # samples a class
_ROUNDS = 30


@torch.no_grad()
def pseudo_classes(real: Tensor, count: int = COUNT, seed: int = 0) -> Tensor:
    """A class for each sample, (N,) in 0 to count - 1.

    Args:
        real: (N, …) samples; few of them make fewer classes.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(real), generator=generator)[:_FITTED]
    components = principal_components(real[chosen])
    points = components(real[chosen])
    count = max(1, min(count, len(points) // _FEWEST))
    centres = _spread_out(points, count, generator)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        many = torch.bincount(nearest, minlength=count)
        centres = torch.where(many[:, None] > 0, sums / many.clamp(min=1)[:, None], centres)
    return torch.cat([torch.cdist(components(part), centres).argmin(1) for part in real.split(1000)])


def _spread_out(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means++: each further centre is a point drawn by its squared distance to those before."""
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = (points - points[chosen[0]]).square().sum(1)
    for _ in range(count - 1):
        weights = nearest if float(nearest.sum()) > 0 else torch.ones_like(nearest)
        chosen.append(int(torch.multinomial(weights.cpu(), 1, generator=generator)))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    return points[chosen]
