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
from torch.utils.data import Subset

from fbwrap.engine.pytree import batch_size, map_tensors, tensors
from fbwrap.errors import SettingError

SHARE, MOST, FEWEST = 0.15, 5000, 16  # of the data in each of the two held-out parts; samples
_READ, _BYTES = 20_000, 2 << 30  # items of a dataset that are read into memory, and what they may take there
_CROPS = 200  # of a dataset whose items are random crops: as many in a held-out part, from all its items

Samples = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Parts:
    """The three parts: each a tensor, or a tuple of tensors with a sample a row.

    Attributes:
        stream: what is trained on: ``training``, or the dataset's items themselves, where each reading of one gives
            something else (a random crop).
        repeats: rows of a held-out part that come from one item; those of an item stand together.
    """

    training: Samples
    validation: Samples
    test: Samples
    stream: Any
    repeats: int = 1


def split(data: Any, seed: int) -> Parts:
    """Split what the user has.

    Args:
        data: a tensor, a tuple of tensors of one length, or a dataset of items.

    Raises:
        SettingError: too few samples.
    """
    if isinstance(data, Tensor | tuple):
        held, order = _order(batch_size(data), seed)
        rows = (order[2 * held :], order[:held], order[held : 2 * held])
        training, validation, test = (map_tensors(_taking(each), data) for each in rows)
        return Parts(training, validation, test, stream=training)
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise SettingError(
            f"{type(data).__name__} cannot be split: pass a tensor, a tuple of tensors, or a dataset with a length "
            "and items, such as fbwrap.recipes.data.Images(folder, size=64)."
        )
    return _split_dataset(data, seed)


def _order(many: int, seed: int) -> tuple[int, Tensor]:
    """How many samples each held-out part has, and the order in which the parts are cut off."""
    held = min(MOST, int(SHARE * many))
    if held < FEWEST:
        raise SettingError(
            f"{many} samples are too few to train on some and to measure with others: pass {int(FEWEST / SHARE) + 1} "
            "or more."
        )
    return held, torch.randperm(many, generator=torch.Generator().manual_seed(seed))


def _split_dataset(dataset: Any, seed: int) -> Parts:
    """A dataset's items: all of them, or as many at random as memory should hold."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = dataset[0]
        each = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors(first))
        most = min(_READ, max(1, _BYTES // max(each, 1)))
        held, order = _order(min(len(dataset), most), seed)
        if len(dataset) > most:
            order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:most]
        rows = (order[2 * held :], order[:held], order[held : 2 * held])
        varied = isinstance(first, tuple | list) and not _same(first, dataset[0])
        repeats = max(1, _CROPS // held) if varied else 1
        training, validation, test = (_read(dataset, part, repeats) for part in rows)
    return Parts(training, validation, test, Subset(dataset, rows[0].tolist()) if varied else training, repeats)


def _same(first: Any, second: Any) -> bool:
    pairs = zip(tensors(first), tensors(second), strict=True)
    return all(a.shape == b.shape and torch.equal(a, b) for (_, a), (_, b) in pairs)


def _taking(rows: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[rows.to(tensor.device)]


def _read(dataset: Any, rows: Tensor, repeats: int) -> Samples:
    items = [dataset[int(i)] for i in rows for _ in range(repeats)]
    if isinstance(items[0], tuple | list):
        return tuple(torch.stack([torch.as_tensor(each) for each in column]) for column in zip(*items, strict=True))
    return torch.stack(items)
