"""Distances between sets of samples.

Example:
    >>> import torch
    >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(x, x), 6), round(frechet_distance(x, x + 1), 3)
    (0.0, 4.0)
"""

from collections.abc import Callable

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(C_a + C_b − 2 (C_a C_b)^½): the distance of FID, in any feature space.

    Args:
        a, b: features, a row a sample. The space must be named wherever the number is.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + cov_a.trace() + cov_b.trace() - 2 * mixed)


@torch.no_grad()
def features(net: Callable[[Tensor], Tensor], samples: Tensor, batch: int = 500) -> Tensor:
    """``net`` of all samples, in batches, one row each."""
    return torch.cat([net(part).flatten(1) for part in samples.split(batch)])
