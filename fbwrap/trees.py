"""Nested tuples, lists, mappings and dataclasses that hold tensors: what layers take and return.

Example:
    >>> import torch
    >>> tree = (torch.zeros(1), {"skip": torch.ones(2)})
    >>> [(path, tuple(tensor.shape)) for path, tensor in tensors(tree)]
    [((0,), (1,)), ((1, 'skip'), (2,))]
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .naming import Path


def tensors(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in a nested structure, with the path to it."""
    if isinstance(tree, Tensor):
        yield path, tree
    else:
        for key, value in _children(tree):
            yield from tensors(value, (*path, key))


def is_plain(tree: Any) -> bool:
    """Whether all that a structure holds can be seen: what cannot is never replayed."""
    if isinstance(tree, Tensor | str | int | float | bool | complex | type(None)):
        return True
    if isinstance(tree, torch.dtype | torch.device | torch.Size):
        return True
    known = type(tree) in (tuple, list) or isinstance(tree, dict) or hasattr(tree, "_fields")
    if not known and not _is_instance_of_dataclass(tree):
        return False
    return all(is_plain(value) for _, value in _children(tree))


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """The same structure, new containers, with ``function`` of each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    for key, value in list(_children(tree)):
        tree = put(tree, (key,), map_tensors(function, value))
    return list(tree) if type(tree) is list else tree


def put(tree: Any, path: Path, value: Any) -> Any:
    """A copy of ``tree`` with ``value`` at ``path``; nothing on the way is changed in place."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(tree, tuple):
        position = tree._fields.index(key) if isinstance(key, str) else key  # type: ignore[attr-defined]
        items = list(tree)
        items[position] = put(items[position], rest, value)
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        copied = list(tree)
        copied[key] = put(copied[key], rest, value)  # type: ignore[index,call-overload]
        return copied
    if isinstance(tree, dict):
        fresh = copy.copy(tree)
        fresh[key] = put(fresh[key], rest, value)
        return fresh
    return replace(tree, **{str(key): put(getattr(tree, str(key)), rest, value)})


def _is_instance_of_dataclass(tree: Any) -> bool:
    return is_dataclass(tree) and not isinstance(tree, type)


def _children(tree: Any) -> list[tuple[int | str, Any]]:
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return list(enumerate(tree))
    if _is_instance_of_dataclass(tree):
        return [(name, getattr(tree, name)) for name in tree.__dataclass_fields__]
    return []


def leaves(tree: Any) -> Iterator[Any]:
    """Everything in a nested structure that is not a container."""
    inner = _children(tree)
    if not inner:
        yield tree
    for _, value in inner:
        yield from leaves(value)
