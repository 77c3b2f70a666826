"""The feedback networks: AFL's basic and dual module, a light one, a pyramid, FAL's AST and ablations.

Examples:
    >>> import torch
    >>> module = build("dual", FeatureSpec(64, (8, 8)), (FeatureSpec(128, (8, 8)),))
    >>> correction = module(torch.randn(2, 64, 8, 8), torch.randn(2, 128, 8, 8))
    >>> correction.shape, float(correction.abs().sum())
    (torch.Size([2, 64, 8, 8]), 0.0)

Every module takes the target's feature and the signals as ``(N, C, *spatial)`` maps (0 to 3 spatial
dimensions) and returns a *correction* of the feature's shape. With ``init="zero"``, the default, the
last layer starts at zero, so that a fresh module changes nothing; ``init="paper"`` starts as the
papers do. Anyone's own module: subclass :class:`FeedbackModule`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import SettingError
from .features import FeatureSpec, resize

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
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
    layer: nn.Module = _CONV[dims](inside, outside, kernel, padding=kernel // 2)
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
            down = _CONV[dims](inside, outside, 4, stride=2, padding=1)
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


KINDS: Mapping[str, type[FeedbackModule]] = {
    "basic": Basic,
    "dual": Dual,
    "light": Light,
    "pyramid": Pyramid,
    "ast": AST,
    "film": FiLM,
    "concat": Concat,
    "add": Add,
}


@dataclass(frozen=True)
class ModuleSpec:
    """A module as data: its kind's name and its options, as a head stores them."""

    kind: str
    options: Mapping[str, object] = field(default_factory=dict)
    factory: Callable[..., nn.Module] | None = None

    @property
    def default(self) -> type[FeedbackModule]:
        """The class whose defaults (carry, source, resizing) hold for this module."""
        if isinstance(self.factory, type) and issubclass(self.factory, FeedbackModule):
            return self.factory
        return KINDS.get(self.kind, FeedbackModule)


def spec_of(choice: object) -> ModuleSpec:
    """Read ``module=``: a kind's name, ``{"kind": name, option: value}``, or a class of one's own.

    Raises:
        SettingError: an unknown kind, or something that is none of these.
    """
    if isinstance(choice, ModuleSpec):
        return choice
    if isinstance(choice, str):
        choice = {"kind": choice}
    if isinstance(choice, Mapping):
        options = {str(key): value for key, value in choice.items() if key != "kind"}
        kind = choice.get("kind")
        if kind in KINDS:
            return ModuleSpec(str(kind), options)
        raise SettingError(
            f"There is no feedback module {kind!r}. There are {', '.join(KINDS)}; for one of your own "
            "pass the class, a subclass of fbwrap.FeedbackModule."
        )
    if isinstance(choice, nn.Module):
        raise SettingError(
            f"module={type(choice).__name__}(...) is one module, but each link needs its own. Pass the "
            "class itself: it is called with the form of the feature and of each signal."
        )
    if callable(choice):
        return ModuleSpec(getattr(choice, "__name__", type(choice).__name__), {}, choice)
    raise SettingError(f"module={choice!r} is neither a kind's name nor a module class.")


def build(choice: object, feature: FeatureSpec, signals: tuple[FeatureSpec, ...]) -> nn.Module:
    """Make one feedback module for a feature and its signals."""
    spec = spec_of(choice)
    factory = spec.factory or KINDS[spec.kind]
    try:
        return factory(feature, *signals, **spec.options)
    except TypeError as error:
        raise SettingError(
            f"The feedback module {spec.kind!r} cannot be made with options {dict(spec.options)}: {error}."
        ) from error
