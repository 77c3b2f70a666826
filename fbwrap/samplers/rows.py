"""Samples in nested structures: some of them, several sets joined, some replaced.

Examples:
    >>> import torch
    >>> rows = Rows()
    >>> tree = (torch.arange(3.0), {"setting": torch.zeros(5)})
    >>> rows.pick(tree, torch.tensor([2, 0]), of=3)[0]
    tensor([2., 0.])
    >>> rows.where(torch.tensor([True, False, True]), torch.zeros(3), tree[0])
    tensor([0., 1., 0.])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..engine.pytree import T, map_tensors, put, tensors


@dataclass(frozen=True)
class Rows:
    """Where samples stand in the tensors of one generator.

    Attributes:
        axis: the batch axis of sequences of three dimensions; of all else it is the first.
        each: how many rows a sample may have, where frames are folded into the batch.
    """

    axis: int = 0
    each: int = 1

    def axis_of(self, tensor: Tensor) -> int:
        """The batch axis of a tensor."""
        return self.axis if tensor.dim() == 3 else 0

    def holds(self, tensor: Tensor, of: int) -> bool:
        """Whether a tensor has rows for each of ``of`` samples."""
        axis = self.axis_of(tensor)
        return tensor.dim() > axis and tensor.shape[axis] in (of, of * self.each)

    def pick(self, tree: T, index: Tensor, of: int) -> T:
        """The samples at ``index``, of ``of``."""

        def picked(tensor: Tensor) -> Tensor:
            if not self.holds(tensor, of):
                return tensor
            axis = self.axis_of(tensor)
            split = tensor.unflatten(axis, (of, -1)).index_select(axis, index.to(tensor.device))
            return split.flatten(axis, axis + 1)

        return map_tensors(picked, tree)

    def where(self, mask: Tensor, these: T, others: T) -> T:
        """``these`` where ``mask`` (N,) is true, else ``others``."""
        count = len(mask)
        second = dict(tensors(others))

        for path, tensor in list(tensors(these)):
            if self.holds(tensor, count):
                axis = self.axis_of(tensor)
                shape = [1] * tensor.dim()
                shape[axis] = tensor.shape[axis]
                repeated = mask.to(tensor.device).repeat_interleave(tensor.shape[axis] // count).view(shape)
                these = put(these, path, torch.where(repeated, tensor, second[path]))
        return these

    def joined(self, trees: Sequence[T], counts: Sequence[int]) -> T:
        """Sets of samples as one."""
        first = trees[0]
        if len(trees) == 1:
            return first
        held = [dict(tensors(tree)) for tree in trees]
        for path, tensor in list(tensors(first)):
            if self.holds(tensor, counts[0]):
                first = put(first, path, torch.cat([each[path] for each in held], self.axis_of(tensor)))
        return first
