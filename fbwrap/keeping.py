"""Modes, buffers and parameters that are put back as they were; copies that leave nothing behind.

Example:
    >>> from torch import nn
    >>> net = nn.BatchNorm1d(2)
    >>> with modes([net], False):
    ...     net.training
    False
    >>> net.training
    True
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def modes(modules: Sequence[nn.Module], training: bool) -> Iterator[None]:
    """Put modules into train or eval mode; every one that changed is put back, one by one."""
    changed = [module for module in modules if module.training is not training]
    try:
        for module in changed:
            module.training = training
        yield
    finally:
        for module in changed:
            module.training = not training


Restless = Sequence[tuple[nn.Module, str]]
Values = list[tuple[dict[str, Any], str, Tensor, Tensor]]


def values_of(modules: Sequence[nn.Module], restless: Restless = ()) -> Values:
    """Every buffer of ``modules`` (running statistics and the like), and the parameters and buffers that
    are known to move, each with a copy of its value."""
    places: list[tuple[Any, str]] = [(module._buffers, name) for module in modules for name in module._buffers]
    for module, name in restless:
        places.append((module._parameters if name in module._parameters else module._buffers, name))
    found = [(holder, name, holder[name]) for holder, name in places]
    return [(holder, name, tensor, tensor.detach().clone()) for holder, name, tensor in found if tensor is not None]


def put_back(values: Values) -> None:
    """Give buffers and parameters the values they had: the same tensors, changed in place."""
    for holder, name, tensor, value in values:
        if holder.get(name) is not tensor:
            holder[name] = tensor
        tensor.data.copy_(value)  # .data: a graph that saved the tensor must stay usable


@contextmanager
def put_back_on_error(values: Values) -> Iterator[None]:
    """Put values back if the block fails."""
    try:
        yield
    except BaseException:
        put_back(values)
        raise


@contextmanager
def kept(modules: Sequence[nn.Module], restless: Restless = ()) -> Iterator[None]:
    """Put back, in place, what the block changes of :func:`values_of`."""
    values = values_of(modules, restless)
    try:
        yield
    finally:
        put_back(values)


def copied(net: Module) -> Module:
    """A deep copy, also of a network that keeps tensors with a graph (old weight and spectral norm, stored features):
    these are copied without it."""
    kept = [value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(net, {id(value): value.detach().clone() for value in kept if not value.is_leaf})
