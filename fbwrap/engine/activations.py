"""Which layer's output the next layer is given after a nonlinearity that no module holds.

Examples:
    >>> activations = Activations()
    >>> value = torch.tensor([[-1.0, 2.0, -3.0]])
    >>> activations.ended(3, parent=0, output=value)
    >>> activations.behind(0, torch.relu(value)), activations.behind(0, value + 1)
    (3, None)

``F.relu(self.conv1(x))`` has no name of its own: what ``conv1`` returns is the value before, and what the next layer
is given the value after it, as a map or flattened. Two layers with the same caller are compared, by their values in
one pass.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_CURVES: tuple[Callable[[Tensor], Tensor], ...] = (F.silu, F.gelu, F.elu, F.mish, F.softplus, torch.tanh, torch.sigmoid)
_TOLERANCE = 1e-5


class Activations:
    """The output of the layer that ended last, for each caller."""

    def __init__(self) -> None:
        self._last: dict[int | None, tuple[int, Tensor]] = {}

    def ended(self, place: int, parent: int | None, output: object) -> None:
        """A call has returned; ``place`` and ``parent`` are its own and its caller's number."""
        self._last.pop(place, None)  # what it called itself
        if isinstance(output, Tensor) and output.is_floating_point():
            self._last[parent] = (place, output.detach().clone())  # F.relu(x, inplace=True) overwrites it
        else:
            self._last.pop(parent, None)

    def behind(self, parent: int | None, given: object) -> int | None:
        """The call whose output, after a nonlinearity, a call is about to be given; None where it is not."""
        place, value = self._last.get(parent, (None, None))
        if value is None or not isinstance(given, Tensor) or given.dtype != value.dtype:
            return None
        if given.shape not in (value.shape, value.flatten(1).shape if value.dim() > 1 else None):
            return None
        return place if is_activation(given.detach().reshape(value.shape), value) else None


def is_activation(after: Tensor, before: Tensor) -> bool:
    """Whether one tensor is the other after a common nonlinearity: straight lines through zero on both sides, of
    different slopes (ReLU, leaky ReLU, with a gain or without), or a curve such as SiLU."""
    after, before = after.double(), before.double()
    if not (torch.isfinite(after).all() and torch.isfinite(before).all()):
        return False
    above, below = before > 0, before < 0
    if not (above.any() and below.any()):  # a ReLU looks like nothing at all
        return False
    slopes = [_slope(after[side], before[side]) for side in (above, below)]
    if None not in slopes:
        return slopes[0] != slopes[1] and not after[before == 0].any()
    return any(torch.allclose(after, curve(before), rtol=_TOLERANCE, atol=_TOLERANCE) for curve in _CURVES)


def _slope(after: Tensor, before: Tensor) -> float | None:
    """The factor that is the same everywhere, rounded; None where there is none."""
    slope = float((after * before).sum() / before.square().sum())
    same = torch.allclose(after, slope * before, rtol=_TOLERANCE, atol=_TOLERANCE * float(before.abs().max()))
    return round(slope, 4) if same else None
