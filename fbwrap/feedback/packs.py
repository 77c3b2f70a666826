"""Discriminators that judge several samples as one (PacGAN, CTGAN).

Examples:
    >>> import torch
    >>> filled(torch.tensor([[1], [2], [3]]), 3, 2).flatten().tolist()      # filled with its first
    [1, 2, 3, 1]
    >>> of_samples(torch.tensor([[10], [20]]), 3, 2).flatten().tolist()     # as its pack has
    [10, 10, 20]

A pack is ``pack`` neighbours in the batch. A batch that is no multiple of it is filled up with its own first samples
before D sees it.
"""

from typing import Any

import torch
from torch import Tensor

from ..engine.pytree import map_tensors


def filled(tree: Any, samples: int, pack: int) -> Any:
    """The same for whole packs: every tensor with a row for each sample gets its first rows again at the end."""
    missing = -samples % pack
    if not missing:
        return tree

    def longer(tensor: Tensor) -> Tensor:
        if not tensor.dim() or len(tensor) != samples:
            return tensor
        again = -(-missing // samples)
        return torch.cat([tensor, torch.cat([tensor] * again)[:missing]])

    return map_tensors(longer, tree)


def of_samples(signal: Tensor, samples: int, pack: int) -> Tensor:
    """A row for each sample, from one for each pack."""
    return signal.repeat_interleave(pack, 0)[:samples] if pack > 1 else signal
