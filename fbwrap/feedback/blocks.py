"""What feedback modules are made of, and :class:`FeedbackModule`, the base of them all.

Examples:
    >>> conv(2, 3, 8)
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
"""

import math
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors import SettingError
from .features import FeatureSpec

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH: dict[int, Any] = {
    0: nn.BatchNorm1d,
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
_INSTANCE: dict[int, Any] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
NORMS = ("batch", "group", "instance", "none")
INITS = ("zero", "paper")


def conv(dims: int, inside: int, outside: int, kernel: int = 3) -> nn.Module:
    """A convolution that keeps the size, in 1, 2 or 3 dimensions; a linear layer for vectors."""
    if dims == 0:
        return nn.Linear(inside, outside)
    layer: nn.Module = CONV[dims](inside, outside, kernel, padding=kernel // 2)
    return layer


def norm_layers(kind: str, dims: int, channels: int) -> list[nn.Module]:
    """A normalisation with scale and shift, or nothing."""
    if kind not in NORMS:
        raise SettingError(f"norm={kind!r} is not one of {', '.join(NORMS)}.")
    if kind == "none":
        return []
    if kind == "batch":
        return [_BATCH[dims](channels)]
    if kind == "instance" and dims > 0:
        return [_INSTANCE[dims](channels, affine=True)]
    groups = math.gcd(channels, 32) if kind == "group" else 1
    return [nn.GroupNorm(groups, channels)]


def start(body: nn.Sequential, init: str) -> nn.Sequential:
    """``"zero"``: the last layer (a normalisation's scale, or a convolution) starts at zero."""
    if init not in INITS:
        raise SettingError(f"init={init!r} is not one of {', '.join(INITS)}.")
    if init == "zero":
        for parameter in body[-1].parameters():
            nn.init.zeros_(parameter)
    return body


class FeedbackModule(nn.Module):
    """Base of every feedback module, and of anyone's own.

    Examples:
        >>> class Gate(FeedbackModule):
        ...     def __init__(self, feature, *signals):
        ...         super().__init__()
        ...         self.net = nn.Conv2d(signals[0].channels, feature.channels, 1)
        ...         nn.init.zeros_(self.net.weight)
        ...         nn.init.zeros_(self.net.bias)
        ...
        ...     def forward(self, feature, *signals):
        ...         return self.net(signals[0])

    ``fbwrap.attach(G, D, layers, module=Gate)`` calls ``Gate(feature, *signals)`` with the
    :class:`~fbwrap.feedback.features.FeatureSpec` of each, once per link, and then ``forward`` with tensors.

    Attributes:
        resize_signals: whether signals arrive in the feature's spatial size (the default).
        carry: whether the corrected feature is carried from step to step (FAL's h).
        source: where the signals come from when the link names no source; None pairs by size.
    """

    resize_signals: ClassVar[bool] = True
    carry: ClassVar[bool] = False
    source: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, *forms: FeatureSpec):
        super().__init__()

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """The correction for ``feature``; same shape."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(feature, *signals) -> correction.")
