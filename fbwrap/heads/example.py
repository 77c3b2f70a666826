"""An example input as data: shapes and types, so that loading a head can make one like it.

Examples:
    >>> import torch
    >>> spec_of_example((torch.zeros(2, 3), {"scale": 0.5}))
    [{'shape': [2, 3], 'dtype': 'float32'}, {'mapping': {'scale': {'value': 0.5}}}]
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import HeadError
from ..feedback.latents import USUAL, Latents, code_of, read_latents

_MOST_NUMBERS = 1 << 20
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}


def spec_of_example(value: object) -> Any:
    """Shapes and types of an example, so that loading can make one like it."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"shape": list(value.shape), "dtype": kind}
    if isinstance(value, tuple | list):
        return [spec_of_example(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": {str(key): spec_of_example(item) for key, item in value.items()}}
    if value is None or isinstance(value, str | int | float | bool):
        return {"value": value}
    return {"opaque": type(value).__name__}


def example_of_spec(spec: object, device: torch.device) -> Any:
    """An example like the one that a spec describes: seeded noise, or zeros for whole numbers."""
    if _numbers(spec) > _MOST_NUMBERS:
        raise HeadError(
            f"The head was made with an example of more than {_MOST_NUMBERS:,} numbers. If that is right, pass one, "
            "example=."
        )
    return _made(spec, device)


def _numbers(spec: Any) -> int:
    """How many numbers an example has."""
    if isinstance(spec, list):
        return sum(map(_numbers, spec))
    if "mapping" in spec:
        return sum(map(_numbers, spec["mapping"].values()))
    return math.prod(spec["shape"]) if "shape" in spec else 0


def _made(spec: Any, device: torch.device) -> object:
    if isinstance(spec, list):
        return tuple(_made(item, device) for item in spec)
    if "mapping" in spec:
        return {key: _made(item, device) for key, item in spec["mapping"].items()}
    if "value" in spec:
        return spec["value"]
    if "opaque" in spec:
        raise HeadError(
            f"The head was made with an input of type {spec['opaque']}, which a head cannot store. Pass "
            "example= to from_pretrained."
        )
    dtype = _DTYPES[spec["dtype"]]
    if dtype.is_floating_point:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(spec["shape"], generator=generator).to(device=device, dtype=dtype)
    return torch.zeros(spec["shape"], dtype=dtype, device=device)


def code_of_example(
    spec: Any, rows: int | None = None, rng: str = "", label: int = 0, latents: Latents | None = None
) -> str | None:
    """Inputs like those of an example, ``[positional, {"mapping": named}]``, as the arguments of a call in Python.

    Args:
        rows: samples, in place of the example's.
        rng: a name of a ``torch.Generator`` in the code.
        label: what whole numbers are.
        latents: how the inputs are distributed; None: normal numbers.

    Returns:
        Code that makes seeded noise and calls nothing but torch; None where an input cannot be written so.
    """
    try:
        positional, named = spec[0], spec[1]["mapping"]
        held = _rows(spec)
        described = read_latents(latents) if latents is not None else USUAL
        each = iter(described.values() if isinstance(described, dict) else described)
        how = described if isinstance(described, str) else None
        parts = [_code(item, held, rows, rng, label, how or next(each, USUAL)) for item in positional]
        for key, item in named.items():
            if not key.isidentifier():
                return None
            mine = described.get(key, USUAL) if isinstance(described, dict) else how or next(each, USUAL)
            parts.append(f"{key}={_code(item, held, rows, rng, label, mine)}")
        return ", ".join(parts) or None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        return None


def _rows(spec: Any) -> int:
    """Samples in an example: those of its first tensor."""
    if isinstance(spec, list):
        return next((rows for rows in map(_rows, spec) if rows), 0)
    if "mapping" in spec:
        return _rows(list(spec["mapping"].values()))
    return int(spec["shape"][0]) if spec.get("shape") else 0


def _code(spec: Any, held: int, rows: int | None, rng: str, label: int, how: str) -> str:
    if isinstance(spec, list):
        return f"[{', '.join(_code(item, held, rows, rng, label, how) for item in spec)}]"
    if "mapping" in spec:
        parts = (f"{key!r}: {_code(item, held, rows, rng, label, how)}" for key, item in spec["mapping"].items())
        return f"{{{', '.join(parts)}}}"
    if "value" in spec and isinstance(spec["value"], str | int | float | bool | None):
        return repr(spec["value"])
    shape, dtype = list(spec["shape"]), spec["dtype"]
    if any(type(side) is not int for side in shape) or dtype not in _DTYPES:
        raise ValueError(shape)
    if shape and shape[0] == held and rows is not None:
        shape[0] = rows
    sizes, kind = ", ".join(map(str, shape)), "" if dtype == "float32" else f", dtype=torch.{dtype}"
    if _DTYPES[dtype].is_floating_point:
        return code_of(USUAL if how.startswith(("labels", "example")) else how, sizes or "()", kind, rng)
    return f"torch.full(({sizes},), {label}{kind})"
