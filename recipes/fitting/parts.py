"""Training, validation and test part of the data, by a seed: nothing is ever chosen on the test part.

Examples:
    >>> import torch
    >>> parts = split(torch.arange(200.0)[:, None], seed=0)
    >>> [len(part) for part in (parts.training, parts.validation, parts.test)]
    [140, 30, 30]
    >>> bool(torch.isin(parts.test, parts.training).any())
    False
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fbwrap.engine.pytree import batch_size, map_tensors, tensors
from fbwrap.errors import SettingError

SHARE, MOST, FEWEST = 0.15, 5000, 16  # of the data in each of the two held-out parts; samples
_READ, _BYTES = 20_000, 2 << 30  # items of a dataset that are read into memory, and what they may take there


Samples = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Parts:
    """The three parts: each a tensor, or a tuple of tensors with a sample a row."""

    training: Samples
    validation: Samples
    test: Samples


def split(data: Any, seed: int) -> Parts:
    """Split what the user has.

    Args:
        data: a tensor, a tuple of tensors of one length, or a dataset of items (read once).

    Raises:
        SettingError: too few samples.
    """
    samples: Samples = data if isinstance(data, Tensor | tuple) else _read(data, seed)
    many = batch_size(samples)
    held = min(MOST, int(SHARE * many))
    if held < FEWEST:
        raise SettingError(
            f"{many} samples are too few to train on some and to measure with others: pass {int(FEWEST / SHARE) + 1} "
            "or more."
        )
    order = torch.randperm(many, generator=torch.Generator().manual_seed(seed))
    rows = (order[2 * held :], order[:held], order[held : 2 * held])
    return Parts(*(map_tensors(_taking(each), samples) for each in rows))


def _taking(rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[rows.to(tensor.device)]


def _read(dataset: Any, seed: int) -> Samples:
    """Items of a dataset as tensors: all of them, or as many at random as memory should hold."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise SettingError(
            f"{type(dataset).__name__} cannot be split: pass a tensor, a tuple of tensors, or a dataset with a length "
            "and items, such as fbwrap.recipes.data.Images(folder, size=64)."
        )
    each = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors(dataset[0]))
    most = min(_READ, max(1, _BYTES // max(each, 1)))
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:most]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        items = [dataset[int(i)] for i in order]
    if isinstance(items[0], tuple | list):
        return tuple(torch.stack([torch.as_tensor(each) for each in column]) for column in zip(*items, strict=True))
    return torch.stack(items)
