"""Which network a head was made for: its structure and its weights, as two hashes.

Examples:
    >>> from torch import nn
    >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> fingerprint(a)["structure"] == fingerprint(b)["structure"], fingerprint(a) == fingerprint(b)
    (True, False)
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

from .names import modules_of, unwrap
from .pytree import bits_of, tensors
from .state import Place

_NEW = "parametrizations.weight"


def fingerprint(
    model: nn.Module, unused: Sequence[str] | None = None, moving: Sequence[str] | None = None
) -> dict[str, Any]:
    """Class name, and hashes of the names and shapes (structure) and of the values (weights).

    Integer buffers (BN's step counter) are left out of the weights' hash: they do not change outputs.

    Args:
        unused: names of layers whose weights do not matter, and are left out of their hash; noted.
        moving: names of tensors that the network itself moves in eval mode; likewise.
    """
    net = unwrap(model)
    structure, weights = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(_folded(net).items()):
        structure.update(f"{name}{tuple(tensor.shape)}".encode())
        if belongs(name, unused or ()) or name in (moving or ()):
            continue
        if tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized:
            weights.update(f"{name}{tensor.dtype}".encode())
            if tensor.numel():
                weights.update(bits_of(tensor).cpu().numpy().data)
    return {
        "class": type(net).__name__,
        "structure": structure.hexdigest(),
        "weights": weights.hexdigest(),
        **({"unused": list(unused)} if unused else {}),
        **({"moving": list(moving)} if moving else {}),
    }


def structure_of(model: nn.Module) -> str:
    """The hash of the names and shapes alone, also of a network without weights (on the meta device)."""
    found = hashlib.sha256()
    for name, tensor in sorted(_folded(unwrap(model)).items()):
        found.update(f"{name}{tuple(tensor.shape)}".encode())
    return found.hexdigest()


def names_of_places(net: nn.Module, places: Sequence[Place]) -> list[str]:
    """Parameters and buffers of a network as its state dict names them."""
    prefixes: dict[nn.Module, str] = {}
    for name, module in net.named_modules():
        prefixes.setdefault(module, f"{name}." if name else "")
    return [prefixes[module] + name for module, name in places if module in prefixes]


def _folded(net: nn.Module) -> dict[str, Tensor]:
    """A state dict in which weight norm, old or new, is folded into the weight, as ``remove_weight_norm`` does; and in
    which packed (quantised) weights stand one by one."""
    state = {
        key + "".join(f"[{part}]" for part in path): tensor
        for key, value in net.state_dict().items()
        for path, tensor in tensors(value)
    }
    named = {module: name for name, module in net.named_modules()}
    for module in modules_of(net):
        dot = f"{named[module]}." if named[module] else ""
        old = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)]
        for hook in old:
            del state[f"{dot}{hook.name}_g"], state[f"{dot}{hook.name}_v"]
            state[dot + hook.name] = hook.compute_weight(module)
        if state.pop(f"{dot}{_NEW}.original1", None) is not None:
            del state[f"{dot}{_NEW}.original0"]
            state[f"{dot}weight"] = module.weight  # type: ignore[assignment]
    return state


def belongs(key: str, layers: Sequence[str]) -> bool:
    """Whether a tensor of a state dict is owned by one of the layers. What no layer's call explains is owned by
    none: weights may be used by a fused or functional call."""
    return any(key == layer or key.startswith(f"{layer}.") for layer in layers)
