"""Modules that join several of D's layers, each at its own size: a pyramid, and a cheap one.

Examples:
    >>> import torch
    >>> forms = FeatureSpec(64, (16, 16)), FeatureSpec(32, (16, 16)), FeatureSpec(128, (4, 4))
    >>> [sum(p.numel() for p in kind(*forms).parameters()) for kind in (Pyramid, FPN)]
    [424896, 191808]
"""

import math
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .afl_modules import Dual
from .blocks import FeedbackModule, conv, norm_layers, start
from .features import FeatureSpec, resize


class Pyramid(FeedbackModule):
    """From coarse to fine: each signal is joined at its own size, coarsest first, with the feature.

    Not from the papers: several D layers see a sample at several scales, and a signal that is first
    resized to the feature loses what a small convolution could still see at its own size. At every
    level: conv 3x3, norm, ReLU of [what the coarser levels found, the signal, the feature]; at the
    feature's size :class:`Dual`'s convolutions. With no signal smaller than the feature it is a dual
    module.

    Args:
        convs, norm, init: as in :class:`Basic`.
    """

    resize_signals: ClassVar[bool] = False

    def __init__(
        self, feature: FeatureSpec, *signals: FeatureSpec, convs: int = 3, norm: str = "batch", init: str = "zero"
    ):
        super().__init__()
        dims, width = len(feature.spatial), feature.channels
        size = math.prod(feature.spatial)
        maps = [i for i, s in enumerate(signals) if len(s.spatial) == dims]
        coarse = [i for i in maps if math.prod(signals[i].spatial) < size]
        self.order = sorted(coarse, key=lambda i: math.prod(signals[i].spatial))
        found, self.levels = 0, nn.ModuleList()
        for place, index in enumerate(self.order):
            outside = round(width * (2 - place / len(self.order)))
            inside = found + signals[index].channels + width
            layers = [conv(dims, inside, outside), *norm_layers(norm, dims, outside), nn.ReLU(True)]
            self.levels.append(nn.Sequential(*layers))
            found = outside
        fine = tuple(s for i, s in enumerate(signals) if i not in self.order)
        joined = (FeatureSpec(found, feature.spatial), *fine) if found else fine
        self.last = Dual(feature, *joined, convs=convs, norm=norm, init=init)

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f([θ_1, …, θ_n, φ])."""
        found: list[Tensor] = []
        for index, level in zip(self.order, self.levels, strict=True):
            size = tuple(signals[index].shape[2:])
            found = [level(torch.cat([*(resize(x, size) for x in (*found, signals[index], feature))], 1))]
        fine = [signal for i, signal in enumerate(signals) if i not in self.order]
        correction: Tensor = self.last(feature, *(resize(x, tuple(feature.shape[2:])) for x in (*found, *fine)))
        return correction


class FPN(FeedbackModule):
    """A narrow feature pyramid network (Lin et al. 2017): the cheap form of :class:`Pyramid`, as good for a seventh
    of its FLOPs (docs/results/cost.md).

    Not from the papers. It has a level for each size of D's features, from coarse to fine. At a level D's features,
    what the coarser level found and G's feature are projected by 1x1 convolutions and added; then come norm, ReLU and
    a 3x3 convolution. The finest level has half of the feature's channels. Channels double where the side is halved, so
    that every level costs about the same. A projection runs on the smaller map: before a feature is enlarged, and after
    it is shrunk.

    Args:
        ratio: channels of the feature over those of the finest level.
        convs: 3x3 convolutions at the finest level; one at every other.
        norm, init: as in :class:`Basic`.
    """

    resize_signals: ClassVar[bool] = False

    def __init__(
        self,
        feature: FeatureSpec,
        *signals: FeatureSpec,
        ratio: int = 2,
        convs: int = 1,
        norm: str = "batch",
        init: str = "zero",
    ):
        super().__init__()
        if ratio < 1:
            raise SettingError(f"ratio={ratio}: pass 1 or more.")
        dims, channels = len(feature.spatial), feature.channels
        at: dict[int, list[int]] = {0: []}
        for index, signal in enumerate(signals):
            at.setdefault(_halvings(feature, signal), []).append(index)
        coarse_first = sorted(at, reverse=True)
        self._levels = [tuple(at[halvings]) for halvings in coarse_first]
        self.lateral, self.merge = nn.ModuleList(), nn.ModuleList()
        narrow, found = max(min(channels, 8), channels // ratio), 0
        for halvings, level in zip(coarse_first, self._levels, strict=True):
            width = min(narrow * 2**halvings, 4 * channels)
            inside = [*([found] if found else []), *(signals[i].channels for i in level), channels]
            self.lateral.append(nn.ModuleList(conv(dims, each, width, 1) for each in inside))
            point = halvings > 0 and all(math.prod(signals[i].spatial) == 1 for i in level)
            # one position: nothing to normalise over, nothing for a larger kernel to see
            kind, kernel = ("none", 1) if point else (norm, 3)
            layers: list[nn.Module] = [*norm_layers(kind, dims, width), nn.ReLU(True)]
            for _ in range(1 if halvings else convs):
                layers += [conv(dims, width, width, kernel), *norm_layers(kind, dims, width), nn.ReLU(True)]
            self.merge.append(nn.Sequential(*layers))
            found = width
        self.last = start(nn.Sequential(conv(dims, found, channels, 1), *norm_layers(norm, dims, channels)), init)

    def forward(self, feature: Tensor, *signals: Tensor) -> Tensor:
        """f([θ_1, …, θ_n, φ])."""
        finest = tuple(feature.shape[2:])
        found: list[Tensor] = []
        for level, lateral, merge in zip(self._levels, self.lateral, self.merge, strict=True):
            here = [signals[i] for i in level]
            size = finest
            if level is not self._levels[-1]:  # that of its largest signal
                size = max((tuple(x.shape[2:]) or (1,) * len(finest) for x in here), key=math.prod)
            seen = (*found, *here, feature)
            projected = [_projected(layer, x, size) for layer, x in zip(lateral.children(), seen, strict=True)]
            found = [merge(reduce(torch.add, projected))]
        correction: Tensor = self.last(found[0])
        return correction


def _halvings(feature: FeatureSpec, signal: FeatureSpec) -> int:
    """How often the feature's side is halved to come to the signal's; a vector's is 1."""
    dims = len(feature.spatial)
    if not dims or len(signal.spatial) not in (0, dims):
        return 0
    return max(0, round(math.log2(math.prod(feature.spatial) / math.prod(signal.spatial)) / dims))


def _projected(layer: nn.Module, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """A 1x1 convolution of a map, resized."""
    if x.dim() == 2 and size:
        x = x.reshape(*x.shape, *(1,) * len(size))
    if x.dim() == len(size) + 2 and math.prod(x.shape[2:]) < math.prod(size):
        return resize(layer(x), size)
    projected: Tensor = layer(resize(x, size))
    return projected
