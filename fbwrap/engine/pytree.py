"""Nested tuples, lists, mappings and dataclasses that hold tensors: what layers take and return.

Examples:
    >>> import torch
    >>> tree = (torch.zeros(1), {"skip": torch.ones(2)})
    >>> [(path, tuple(tensor.shape)) for path, tensor in tensors(tree)]
    [((0,), (1,)), ((1, 'skip'), (2,))]
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .names import Path

T = TypeVar("T")


def tensors(tree: object, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every tensor in a nested structure, with the path to it."""
    if isinstance(tree, Tensor):
        yield path, tree
    else:
        for key, value in _children(tree):
            yield from tensors(value, (*path, key))


def lengths(tree: object, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """How many items each tuple and list in a nested structure has, with the path to it."""
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        yield path, len(tree)
    for key, value in _children(tree):
        yield from lengths(value, (*path, key))


def is_plain(tree: object) -> bool:
    """Whether all that a structure holds can be seen: what cannot is never replayed."""
    if isinstance(tree, Tensor | str | int | float | bool | complex | type(None)):
        return True
    if isinstance(tree, torch.dtype | torch.device | torch.Size):
        return True
    known = type(tree) in (tuple, list) or isinstance(tree, Mapping) or hasattr(tree, "_fields")
    if not known and not _is_instance_of_dataclass(tree):
        return False
    return all(is_plain(value) for _, value in _children(tree))


def map_tensors(function: Callable[[Tensor], Tensor], tree: T) -> T:
    """The same structure, new containers, with ``function`` of each tensor."""
    if isinstance(tree, Tensor):
        return cast(T, function(tree))
    for key, value in list(_children(tree)):
        tree = put(tree, (key,), map_tensors(function, value))
    return cast(T, list(cast(list[object], tree))) if type(tree) is list else tree  # a new one, also where it is empty


def put(tree: T, path: Path, value: object) -> T:
    """A copy of ``tree`` with ``value`` at ``path``; nothing on the way is changed in place."""
    return cast(T, _put(tree, path, value))


def _put(tree: Any, path: Path, value: object) -> object:
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(tree, tuple):
        position = tree._fields.index(key) if isinstance(key, str) else key  # type: ignore[attr-defined]
        items = list(tree)
        items[position] = _put(items[position], rest, value)
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        copied = list(tree)
        copied[key] = _put(copied[key], rest, value)  # type: ignore[index]
        return copied
    if isinstance(tree, Mapping):
        fresh: Any = copy.copy(tree)
        fresh[key] = _put(fresh[key], rest, value)
        return fresh
    return replace(tree, **{str(key): _put(getattr(tree, str(key)), rest, value)})


def batch_size(tree: object) -> int:
    """Samples in a batch of inputs: the rows of the first tensor that has any; 0 where there is none."""
    return next((len(tensor) for _, tensor in tensors(tree) if tensor.dim()), 0)


def take_rows(tree: T, begin: int, end: int, of: int) -> T:
    """Some samples of inputs: these rows of every tensor that has ``of`` of them; other tensors as they are."""
    return map_tensors(lambda tensor: tensor[begin:end] if tensor.dim() and len(tensor) == of else tensor, tree)


def copy_tensors(tree: T) -> T | None:
    """A copy whose tensors have the strides and the offset of the originals, and share memory where those do; with a
    graph they are differentiable. None where that cannot be: overlapping memory, or sharing within a graph."""
    held = [tensor for _, tensor in tensors(tree)]
    if any(_overlaps(tensor) for tensor in held):
        return None
    if not any(tensor.requires_grad for tensor in held):
        storages: dict[int, torch.UntypedStorage] = {}

        def alike(tensor: Tensor) -> Tensor:
            if not _has_storage(tensor):
                return tensor.clone()
            memory = tensor.untyped_storage()
            held = storages.setdefault(memory._cdata, memory.clone())
            return tensor.new_empty(0).set_(held, tensor.storage_offset(), tensor.size(), tensor.stride())

        return map_tensors(alike, tree)
    if len({storage_of(tensor) for tensor in held}) < len(held):
        return None
    return map_tensors(_copied_within_graph, tree)


def _copied_within_graph(tensor: Tensor) -> Tensor:
    if tensor.storage_offset() == 0:
        fresh = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    else:
        many = tensor.untyped_storage().nbytes() // tensor.element_size()
        flat = torch.empty(many, dtype=tensor.dtype, device=tensor.device)
        fresh = flat.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
    return fresh.copy_(tensor)


def storage_of(tensor: Tensor) -> int:
    """What memory a tensor stands on; tensors with one number share theirs."""
    return tensor.untyped_storage()._cdata if _has_storage(tensor) else id(tensor)


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written in place; views count with their base. Inference tensors are not counted."""
    return -1 if tensor.is_inference() else tensor._version


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of any kind hold the same values, bit for bit; what cannot be compared is taken to."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_meta or b.is_meta:
        return True
    return torch.equal(bits_of(a), bits_of(b))


def bits_of(tensor: Tensor) -> Tensor:
    """A tensor's values as bytes on one axis, on its device: also of conjugated, sparse and quantised ones."""
    held = tensor.detach()
    if held.layout != torch.strided:
        held = held.to_dense()
    if held.is_quantized:
        held = held.dequantize()
    return held.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_quantized


def _overlaps(tensor: Tensor) -> bool:
    """Whether two places of a tensor are one place in memory, as after ``expand``."""
    if not _has_storage(tensor):
        return False
    sides = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.size(), strict=True) if size > 1)
    reach = 1
    for stride, size in sides:
        if stride < reach:
            return True
        reach = stride * (size - 1) + reach
    return False


def _is_instance_of_dataclass(tree: object) -> bool:
    return is_dataclass(tree) and not isinstance(tree, type)


def _children(tree: Any) -> list[tuple[int | str, object]]:
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return list(enumerate(tree))
    if _is_instance_of_dataclass(tree):
        return [(name, getattr(tree, name)) for name in tree.__dataclass_fields__]
    return []


def leaves(tree: object) -> Iterator[Any]:
    """Everything in a nested structure that is not a container."""
    inner = _children(tree)
    if not inner:
        yield tree
    for _, value in inner:
        yield from leaves(value)
