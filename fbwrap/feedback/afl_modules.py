"""AFL's basic and dual module, and a light one.

Examples:
    >>> import torch
    >>> module = Dual(FeatureSpec(64, (8, 8)), FeatureSpec(128, (8, 8)))
    >>> module(torch.randn(2, 64, 8, 8), torch.randn(2, 128, 8, 8)).shape
    torch.Size([2, 64, 8, 8])
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .blocks import FeedbackModule, conv, norm_layers, start
from .features import FeatureSpec


class Basic(FeedbackModule):
    """AFL's basic module f(θ) (§3.1, footnote 1): ``convs`` times conv 3x3 and norm, ReLU between.

    Args:
        feature: the target's form.
        signals: the sources' forms; several are concatenated on channels.
        convs: 2 as in AFL, or 3 as in its super-resolution experiment.
        norm: ``"batch"`` (AFL), ``"group"``, ``"instance"`` or ``"none"`` (AFL on ESRGAN).
        hidden: channels between the convolutions; the feature's by default.
        init: ``"zero"`` or ``"paper"`` (PyTorch's own initialisation, scale of the last norm 1).
    """

    sees_feature: ClassVar[bool] = False

    def __init__(
        self,
        feature: FeatureSpec,
        *signals: FeatureSpec,
        convs: int = 2,
        norm: str = "batch",
        hidden: int | None = None,
        init: str = "zero",
    ):
        super().__init__()
        if convs < 1:
            raise SettingError(f"convs={convs}: a feedback module needs at least one convolution.")
        dims, width = len(feature.spatial), hidden or feature.channels
        layers: list[nn.Module] = []
        inside = self._channels_in(feature, signals)
        for index in range(convs):
            last = index == convs - 1
            outside = feature.channels if last else width
            layers += [conv(dims, inside, outside), *norm_layers(norm, dims, outside)]
            layers += [] if last else [nn.ReLU(inplace=True)]
            inside = outside
        self.body = start(nn.Sequential(*layers), init)

    def _channels_in(self, feature: FeatureSpec, signals: tuple[FeatureSpec, ...]) -> int:
        return sum(s.channels for s in signals) + feature.channels * self.sees_feature

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f(θ), or f([θ, φ]) in the dual form."""
        seen = (*signals, feature) if self.sees_feature else signals
        correction: Tensor = self.body(torch.cat(seen, 1) if len(seen) > 1 else seen[0])
        return correction


class Dual(Basic):
    """AFL's dual-input module f([θ, φ]) (Eq. 2): as :class:`Basic`, and sees the target's feature.

    Which φ it sees is the link's choice: of the current pass, as in the authors' code (default), or
    of the previous one, φ(y_{t-1}) as in Eq. 5 (``Link(feature="previous")``).
    """

    sees_feature: ClassVar[bool] = True


class Light(FeedbackModule):
    """A cheap dual-input module: conv 1x1 to C/ratio, conv 3x3 there, conv 1x1 back (a bottleneck).

    Args:
        ratio: C over the width of the bottleneck.
        norm, init: as in :class:`Basic`.
    """

    def __init__(
        self,
        feature: FeatureSpec,
        *signals: FeatureSpec,
        ratio: int = 4,
        norm: str = "batch",
        init: str = "zero",
    ):
        super().__init__()
        dims, width = len(feature.spatial), max(1, feature.channels // ratio)
        inside = feature.channels + sum(s.channels for s in signals)
        self.body = start(
            nn.Sequential(
                *(conv(dims, inside, width, 1), *norm_layers(norm, dims, width), nn.ReLU(True)),
                *(conv(dims, width, width), *norm_layers(norm, dims, width), nn.ReLU(True)),
                *(conv(dims, width, feature.channels, 1),),
                *norm_layers(norm, dims, feature.channels),
            ),
            init,
        )

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f([θ, φ]) through the bottleneck."""
        correction: Tensor = self.body(torch.cat((*signals, feature), 1))
        return correction
