"""Which network a head was made for: its structure and its weights, as two hashes.

Example:
    >>> from torch import nn
    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> fingerprint(a)["structure"] == fingerprint(b)["structure"], fingerprint(a) == fingerprint(b)
    (True, False)
"""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from .naming import unwrap


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Class name, and hashes of the names and shapes (structure) and of the values (weights).

    Integer buffers (BN's step counter) are left out of the weights' hash: they do not change outputs.
    """
    net = unwrap(model)
    structure, weights = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not isinstance(tensor, Tensor):
            continue
        structure.update(f"{name}{tuple(tensor.shape)}".encode())
        if tensor.is_floating_point() or tensor.is_complex():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            weights.update(f"{name}{tensor.dtype}".encode())
            if flat.numel():
                weights.update(flat.view(torch.uint8).numpy().data)
    return {
        "class": type(net).__name__,
        "structure": structure.hexdigest(),
        "weights": weights.hexdigest(),
    }
