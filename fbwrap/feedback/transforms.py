"""FAL's adaptive spatial transform and the ways to merge that its ablation compares.

Examples:
    >>> import torch
    >>> module = AST(FeatureSpec(64, (8, 8)), FeatureSpec(3, (32, 32)), FeatureSpec(1, (4, 4)))
    >>> module(torch.randn(2, 64, 8, 8), torch.randn(2, 3, 32, 32), torch.randn(2, 1, 4, 4)).shape
    torch.Size([2, 64, 8, 8])
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from .blocks import CONV, FeedbackModule, conv, norm_layers, start
from .features import FeatureSpec, resize


class FeedbackEncoder(nn.Module):
    """FAL's F_e (Eq. 8): signals of any size to f, which has the dimension of h.

    Signals are brought to the size of the first of them (the response map is upsampled to the image)
    and concatenated; convolutions with stride 2 go down to the feature's size, one per power of two.

    Args:
        feature: the form of h; f has its channels and size.
        width: channels of the first convolution; doubled at each stage, up to the feature's.
        scale: factor on every signal but the first, the image.
    """

    def __init__(
        self, feature: FeatureSpec, *signals: FeatureSpec, norm: str = "instance", width: int = 32, scale: float = 1.0
    ):
        super().__init__()
        self._scale = scale
        dims = len(feature.spatial)
        channels = sum(s.channels for s in signals)
        stages = 0
        if dims and len(signals[0].spatial) == dims:
            ratio = min(a / b for a, b in zip(signals[0].spatial, feature.spatial, strict=True))
            stages = max(0, round(math.log2(ratio))) if ratio > 1 else 0
        inside, outside = channels, min(feature.channels, width) if stages else feature.channels
        layers: list[nn.Module] = []
        for _ in range(stages):
            down = CONV[dims](inside, outside, 4, stride=2, padding=1)
            layers += [down, *norm_layers(norm, dims, outside), nn.ReLU(inplace=True)]
            inside, outside = outside, min(feature.channels, 2 * outside)
        layers += [conv(dims, inside, feature.channels), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self._same_dims = not signals or len(signals[0].spatial) == dims

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f_{t-1} = F_e(y_{t-1}, r_{t-1})."""
        size = tuple(signals[0].shape[2:]) if self._same_dims else tuple(feature.shape[2:])
        image, *rest = (resize(signal, size) for signal in signals)
        seen: Tensor = self.body(torch.cat([image, *(self._scale * signal for signal in rest)], 1))
        return resize(seen, tuple(feature.shape[2:]))


class Transform(FeedbackModule):
    """Base of FAL's ways to merge f into h: an encoder F_e, a merge, h carried from step to step.

    Args:
        norm, hidden, init: as in :class:`Basic`.
        scale: factor on the response (every signal but the first). A Wasserstein critic's has no bounds, and stands at
            tens to hundreds beside an image of order 1: 1/30, say.
    """

    resize_signals: ClassVar[bool] = False
    carry: ClassVar[bool] = True
    source: ClassVar[tuple[str, ...] | None] = ("image", "response")

    def __init__(
        self,
        feature: FeatureSpec,
        *signals: FeatureSpec,
        norm: str = "instance",
        hidden: int | None = None,
        init: str = "zero",
        scale: float = 1.0,
    ):
        super().__init__()
        self.encoder = FeedbackEncoder(feature, *signals, norm=norm, scale=scale)
        self.decoder = self._decoder(feature, norm, hidden or feature.channels, init)

    def _decoder(self, feature: FeatureSpec, kind: str, hidden: int, init: str) -> nn.Sequential:
        dims, inside, outside = len(feature.spatial), 2 * feature.channels, self._outputs(feature)
        first = [conv(dims, inside, hidden), *norm_layers(kind, dims, hidden), nn.ReLU(True)]
        return start(nn.Sequential(*first, conv(dims, hidden, outside)), init)

    def _outputs(self, feature: FeatureSpec) -> int:
        return 2 * feature.channels

    def merged(self, feature: Tensor, signals: tuple[Tensor, ...]) -> Tensor:
        """F_d([h, f])."""
        f = self.encoder(feature, *signals)
        decoded: Tensor = self.decoder(torch.cat((feature, f), 1))
        return decoded


class AST(Transform):
    """FAL's adaptive spatial transform (Eq. 8–10): h ← γ∘h + β with γ, β of h's own shape.

    The correction is Δγ∘h + β with γ = 1 + Δγ, and F_d gives (Δγ, β).
    """

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """(γ − 1)∘h + β."""
        gamma, beta = self.merged(feature, signals).chunk(2, 1)
        return gamma * feature + beta


class FiLM(Transform):
    """Ablation: γ and β are one value per channel (Eq. 7), the mean of F_d's over space."""

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """(γ − 1)·h + β, per channel."""
        decoded = self.merged(feature, signals)
        if decoded.dim() > 2:
            decoded = decoded.mean(tuple(range(2, decoded.dim())), keepdim=True)
        gamma, beta = decoded.chunk(2, 1)
        return gamma * feature + beta


class Concat(Transform):
    """Ablation: h and f are concatenated and convolved: the correction is F_d([h, f])."""

    def _outputs(self, feature: FeatureSpec) -> int:
        return feature.channels

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """F_d([h, f])."""
        return self.merged(feature, signals)


class Add(Transform):
    """Ablation: f itself is the correction, h ← h + F(f), with no look at h."""

    def _decoder(self, feature: FeatureSpec, kind: str, hidden: int, init: str) -> nn.Sequential:
        dims = len(feature.spatial)
        first = [conv(dims, feature.channels, hidden), *norm_layers(kind, dims, hidden)]
        return start(nn.Sequential(*first, nn.ReLU(True), conv(dims, hidden, feature.channels)), init)

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """F(f)."""
        correction: Tensor = self.decoder(self.encoder(feature, *signals))
        return correction
