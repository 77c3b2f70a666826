"""Deep copies of networks, whatever they keep.

Examples:
    >>> import types
    >>> from torch import nn
    >>> net = nn.Linear(1, 1)
    >>> net.config = types  # a Python module has no copy
    >>> detached_copy(net).config is types
    True
"""

import copy
import types
from typing import TypeVar

from torch import Tensor, nn

from .attributes import DEPTH, OWN, items_of

Module = TypeVar("Module", bound=nn.Module)


def detached_copy(net: Module) -> Module:
    """A deep copy, also of a network that keeps tensors with a graph (old weight and spectral norm, stored features):
    these are copied without it; and of one that holds what has no copy (a Python module, a lock, a file): that is
    shared."""
    memo: dict[int, object] = {}
    for module in net.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(net, dict(memo))
    except Exception:  # noqa: BLE001 -- anybody's object may refuse
        for module in net.modules():
            for name in vars(module).keys() - OWN:
                _share_what_has_no_copy(vars(module)[name], memo)
        return copy.deepcopy(net, memo)


def _share_what_has_no_copy(value: object, memo: dict[int, object], depth: int = 0) -> None:
    try:
        copy.deepcopy(value, dict(memo))
        return
    except Exception:  # noqa: BLE001 -- likewise
        held = items_of(value) or (vars(value).items() if hasattr(value, "__dict__") else ())
        if depth < DEPTH and not isinstance(value, types.ModuleType):
            for _, item in list(held):
                _share_what_has_no_copy(item, memo, depth + 1)
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # noqa: BLE001 -- likewise
        memo[id(value)] = value
