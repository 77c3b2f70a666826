"""An example input as data: shapes and types, so that loading a head can make one like it.

Example:
    >>> import torch
    >>> spec_of_example((torch.zeros(2, 3), {"scale": 0.5}))
    [{'shape': [2, 3], 'dtype': 'float32'}, {'mapping': {'scale': {'value': 0.5}}}]
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import HeadError

_MOST_NUMBERS = 1 << 28
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}


def spec_of_example(value: Any) -> Any:
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


def example_of_spec(spec: Any, device: torch.device) -> Any:
    """An example like the one that a spec describes: seeded noise, or zeros for whole numbers."""
    if isinstance(spec, list):
        return tuple(example_of_spec(item, device) for item in spec)
    if "mapping" in spec:
        return {key: example_of_spec(item, device) for key, item in spec["mapping"].items()}
    if "value" in spec:
        return spec["value"]
    if "opaque" in spec:
        raise HeadError(
            f"The head was made with an input of type {spec['opaque']}, which a head cannot store. Pass "
            "example= to from_pretrained."
        )
    dtype = _DTYPES[spec["dtype"]]
    if math.prod(spec["shape"]) > _MOST_NUMBERS:
        raise HeadError(f"The head asks for an example of {spec['shape']}, larger than any head's. Pass example=.")
    if dtype.is_floating_point:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(spec["shape"], generator=generator).to(device=device, dtype=dtype)
    return torch.zeros(spec["shape"], dtype=dtype, device=device)
