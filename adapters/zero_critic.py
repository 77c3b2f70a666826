"""A D that sees nothing: its layers return zeros of given shapes. It stands in for a D that is never asked.

Modules that help without D are saved by ``fbwrap.fit`` with such a one, by its name ``"fresh:zeros([64, 14, 14])"``:
their head holds no D, and whoever loads it passes none.

Examples:
    >>> import torch
    >>> D = ZeroCritic([64, 14, 14], [128])
    >>> D.sources, D(torch.ones(2, 1, 28, 28)).shape, D.features[0](torch.ones(2, 1, 28, 28)).shape
    (['features.0', 'features.1'], torch.Size([2, 1]), torch.Size([2, 64, 14, 14]))
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fbwrap.engine.pytree import tensors
from fbwrap.errors import SettingError

_LAYERS, _MOST = 64, 2**26  # layers; numbers in all features of a sample: more is no D


class ZeroCritic(nn.Module):
    """Any sample to a response of zeros (N, 1).

    Args:
        shapes: of the layers' features, of one sample each: channels, then up to three sides.

    Raises:
        SettingError: something else than shapes.
    """

    reproducible = True  # it is the same each time it is made
    no_response = (
        "These modules were trained without D, and never ask it. To train or to sample with D, attach the one that G "
        "was trained with."
    )

    def __init__(self, *shapes: Sequence[int]) -> None:
        super().__init__()
        fine = 1 <= len(shapes) <= _LAYERS and all(map(_is_shape, shapes))
        if not fine or sum(map(math.prod, shapes)) > _MOST:
            raise SettingError(
                "'fresh:zeros(…)': write the shape of each layer's feature, channels first, with up to three sides: "
                "fresh:zeros([64, 14, 14], [128, 7, 7])."
            )
        self.spec = f"fresh:zeros({', '.join(str(list(shape)) for shape in shapes)})"
        self.features = nn.ModuleList(_Zeros(shape) for shape in shapes)

    @property
    def sources(self) -> list[str]:
        """Names of the layers, in the order of the shapes."""
        return [f"features.{place}" for place in range(len(self.features))]

    def forward(self, x: Any, *others: object) -> Tensor:
        """Zeros (N, 1); x is a tensor, or holds some."""
        first = next(tensor for _, tensor in tensors(x))
        for layer in self.features:
            layer(first)
        return _zeros(first, (1,))


class _Zeros(nn.Module):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return _zeros(x, self.shape)

    def extra_repr(self) -> str:
        return str(self.shape)


def _zeros(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return x.new_zeros((len(x), *shape), dtype=dtype)


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, list | tuple):
        return False
    return 1 <= len(shape) <= 4 and all(type(size) is int and size > 0 for size in shape)
