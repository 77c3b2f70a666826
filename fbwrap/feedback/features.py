"""Features of every layout as channel-first maps, and signals brought to the size of their target.

Examples:
    >>> import torch
    >>> form = FeatureSpec(channels=8, spatial=(4, 4), layout="channels_last", tokens=(1, 16))
    >>> to_map(torch.zeros(2, 17, 8), form).shape        # 1 class token and a 4x4 grid
    torch.Size([2, 8, 4, 4])
    >>> resize(torch.zeros(2, 3, 7, 7), (14, 14)).shape
    torch.Size([2, 3, 14, 14])

A module sees ``(N, C)`` vectors, ``(N, C, L)``, ``(N, C, H, W)`` or ``(N, C, D, H, W)`` maps, whatever
layout the network itself uses.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PairingError

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_POOL: dict[int, Any] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_PREFIX_TOKENS = (0, 1, 2, 5)
SPECTROGRAMS, FRAMES = ("frequency_time", "time_frequency"), "frames"
OTHER_LENGTH = (
    "{} frames in a batch are no videos of {} frames, as they were when the loop was attached. Attach again with an "
    "example of this length."
)
_BANDS = 4  # of frequency, that a sequence keeps apart


@dataclass(frozen=True)
class FeatureSpec:
    """How one feature is laid out.

    Args:
        channels: the number of channels.
        spatial: its size as a map; ``()`` for a vector.
        layout: ``"channels_first"``, or ``"channels_last"`` for ``(N, H, W, C)`` maps, sequences and tokens; of a
            sample without its channel axis, or flat: ``"reshaped"``; of a spectrogram ``"frequency_time"``
            (N, C, F, T) or ``"time_frequency"`` (N, C, T, F): a sequence whose channels are those of four bands;
            ``"frames"`` (N·T, C, H, W): the frames of each video follow each other in the batch, and a module sees
            (N, C, T, H, W).
        tokens: for a token sequence that holds a 2-D grid: the number of leading tokens that are not
            part of it (class and register tokens), and the number that are. None otherwise.
        batch_axis: where the batch is: 1 in time-first sequences (T, N, C).
        rows: rows of the batch for each sample: more than one where frames are folded into it, and each is taken for
            itself.
    """

    channels: int
    spatial: tuple[int, ...] = ()
    layout: str = "channels_first"
    tokens: tuple[int, int] | None = None
    batch_axis: int = 0
    rows: int = 1

    @property
    def layout_name(self) -> str:
        """The layout as a user says it: ``"time_first"`` is (T, N, C)."""
        return "time_first" if self.batch_axis else self.layout

    def __str__(self) -> str:
        size = "x".join(map(str, self.spatial)) or "vector"
        kind = " tokens" if self.tokens else " channels last" if self.layout != "channels_first" else ""
        kind = " spectrogram" if self.layout in SPECTROGRAMS else " frames" if self.layout == FRAMES else kind
        return f"{self.channels} @ {size}{' time first' if self.batch_axis else kind}"


def feature_spec_of(
    shape: tuple[int, ...], layout: str, image_dims: int, batch_axis: int = 0, frames: int = 1
) -> FeatureSpec:
    """How a feature of ``shape`` is laid out.

    Args:
        shape: as it is.
        layout: where the channels are, see :class:`FeatureSpec`; ``"time_first"``: (T, N, C).
        image_dims: spatial dimensions of the generated sample; a token sequence is read as a square
            grid only where these are 2 (a sentence of 16 words is not a 4x4 picture).
        batch_axis: where the batch is: 0, or 1 for time-first sequences (T, N, C) and states (layers, N, C).
        frames: of each video, of ``"frames"``.
    """
    if layout == FRAMES:
        if not 3 <= len(shape) <= 4:
            raise PairingError(f"A feature of shape {shape} is no batch of frames, (N·T, C, H, W) or (N·T, C, L).")
        return FeatureSpec(shape[1], (frames, *shape[2:]), layout)
    if layout == "time_first":
        layout, batch_axis = "channels_last", 1
    if batch_axis:
        if len(shape) != 3 or batch_axis != 1:
            raise PairingError(
                f"A feature of shape {shape} has its batch on axis {batch_axis}, which is supported only for "
                "sequences (T, N, C). Choose a layer that returns the batch first."
            )
        return FeatureSpec(shape[2], (shape[0],), "channels_last", None, 1)
    if len(shape) == 2:
        return FeatureSpec(shape[1])
    if not 3 <= len(shape) <= 5:
        raise PairingError(
            f"A feature of shape {shape} is neither a vector (N, C) nor a map with 1 to 3 spatial "
            "dimensions. Choose a layer with such an output: fbwrap.layers(model, *example)."
        )
    if layout == "channels_first":
        return FeatureSpec(shape[1], shape[2:])
    if layout in SPECTROGRAMS:
        if len(shape) != 4:
            raise PairingError(f"A feature of shape {shape} is no spectrogram, (N, C, F, T) or (N, C, T, F).")
        time, frequencies = shape[::-1][:2] if layout == "frequency_time" else shape[2:]
        return FeatureSpec(shape[1] * min(_BANDS, frequencies), (time,), layout)
    if len(shape) == 3 and image_dims == 2:
        for prefix in _PREFIX_TOKENS:
            side = math.isqrt(max(shape[1] - prefix, 0))
            if side > 1 and side * side == shape[1] - prefix:
                return FeatureSpec(shape[2], (side, side), layout, (prefix, side * side))
    return FeatureSpec(shape[-1], shape[1:-1], layout)


def to_map(feature: Tensor, form: FeatureSpec) -> Tensor:
    """A feature as ``(N, C, *spatial)``; leading tokens that are not part of the grid are left out."""
    if form.batch_axis:
        return feature.movedim(form.batch_axis, 0).movedim(-1, 1)
    if form.layout == "channels_first":
        return feature
    if form.layout == FRAMES:
        if len(feature) % form.spatial[0]:
            raise PairingError(OTHER_LENGTH.format(len(feature), form.spatial[0]))
        return feature.unflatten(0, (-1, form.spatial[0])).movedim(1, 2)
    if form.layout == "reshaped":
        squeezed = form.channels == 1 and feature.dim() == len(form.spatial) + 1
        return feature.unsqueeze(1) if squeezed else feature.reshape(len(feature), form.channels, *form.spatial)
    if form.layout in SPECTROGRAMS:
        across = feature if form.layout == "frequency_time" else feature.transpose(2, 3)
        bands = form.channels // feature.shape[1]
        return F.adaptive_avg_pool2d(across, (bands, across.shape[3])).flatten(1, 2)
    first = feature.movedim(-1, 1)
    if form.tokens is None:
        return first
    prefix = form.tokens[0]
    side = math.isqrt(first.shape[2] - prefix)
    if side * side != first.shape[2] - prefix:
        raise PairingError(
            f"A layer returned {first.shape[2]} tokens, which are not {prefix} + a square grid as at attach. "
            "Attach again with an example of this size."
        )
    return first[:, :, prefix:].unflatten(2, (side, side))


def from_map(correction: Tensor, form: FeatureSpec, like: Tensor) -> Tensor:
    """The way back: a correction in the layout of the feature ``like``; extra tokens get zero."""
    if form.batch_axis:
        return correction.movedim(1, -1).movedim(0, form.batch_axis)
    if form.layout == "channels_first":
        return correction
    if form.layout == FRAMES:
        return correction.movedim(2, 1).flatten(0, 1)
    if form.tokens is None:
        return correction.movedim(1, -1)
    last = correction.flatten(2).movedim(1, -1)
    return F.pad(last, (0, 0, like.shape[1] - last.shape[1], 0))


def resize(signal: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Bring a ``(N, C, *any)`` signal to ``(N, C, *spatial)``.

    Where the number of dimensions agrees: linear, bilinear or trilinear interpolation to grow, area
    averaging to shrink. A vector is repeated over the map; a map becomes a vector by its mean. A 2-D
    or 3-D signal for a 1-D target is read in memory order as a sequence (audio discriminators fold
    time into two axes); a 1-D signal for a map is resized to as many values; 2-D and 3-D meet by
    adding or averaging the first spatial axis.
    """
    have, want = tuple(signal.shape[2:]), tuple(spatial)
    if have == want:
        return signal
    if not want:
        return signal.flatten(2).mean(2)
    if not have:
        return signal.reshape(*signal.shape, *(1,) * len(want)).expand(*signal.shape, *want)
    if len(have) != len(want):
        if len(want) == 1:
            signal = signal.flatten(2)
        elif len(have) == 1:
            return resize(signal, (math.prod(want),)).unflatten(2, want)
        else:
            signal = signal.unsqueeze(2) if len(have) < len(want) else signal.mean(2)
    smaller = tuple(min(h, w) for h, w in zip(signal.shape[2:], want, strict=True))
    if smaller != tuple(signal.shape[2:]):
        signal = _POOL[len(want)](signal, smaller)
    if smaller != want:
        signal = F.interpolate(signal, size=want, mode=_LINEAR[len(want)], align_corners=False)
    return signal


def broadcast(strength: float | Tensor, feature: Tensor, dims: int = 2, rows: int = 1) -> float | Tensor:
    """A strength that broadcasts over a ``(N, C, *spatial)`` feature.

    What a tensor means is told by its own shape, never by the size of the batch. (N,), (N, 1), (N, 1, 1) … are a value
    for each sample. Any other is a mask over the sample's spatial dimensions: (H, W) for all samples, (N, H, W) or
    (N, 1, H, W) for each. A mask is resized to the feature; a vector takes its mean.

    Args:
        dims: spatial dimensions of the sample; of a vector any mask is two-dimensional.
        rows: rows of the feature for each sample, where frames are folded into its batch.
    """
    if not isinstance(strength, Tensor):
        return strength
    strength = strength.to(device=feature.device, dtype=feature.dtype)
    if strength.dim() == 0:
        return strength
    if all(side == 1 for side in strength.shape[1:]):
        each = strength.reshape(-1, *(1,) * (feature.dim() - 1))
    else:
        dims = dims or 2
        extra = strength.dim() - dims
        if extra not in (0, 1, 2) or (extra == 2 and strength.shape[1] != 1):
            shapes = "(N, L) or (N, 1, L)" if dims == 1 else "(H, W), (N, H, W) or (N, 1, H, W)"
            raise PairingError(
                f"A strength of shape {tuple(strength.shape)} does not fit samples with {dims} spatial dimension(s): "
                f"pass a number, one value per sample (N,), or a mask {shapes} over the sample's spatial dimensions."
            )
        lead = ((1, 1), (strength.shape[0], 1), tuple(strength.shape[:2]))[extra]
        each = resize(strength.reshape(*lead, *strength.shape[extra:]), tuple(feature.shape[2:]))
    samples = feature.shape[0] // rows
    if each.shape[0] not in (1, samples):
        raise PairingError(f"A strength for {each.shape[0]} samples does not fit a batch of {samples}.")
    return each if each.shape[0] == 1 else each.repeat_interleave(rows, 0)


def zeros(form: FeatureSpec, batch: int, scale: tuple[float, ...], like: Tensor) -> Tensor:
    """FAL's signal at t = 1, as a map, for an input ``scale`` times as large as the example."""
    spatial = form.spatial
    if len(scale) == len(spatial):
        spatial = tuple(max(1, round(n * s)) for n, s in zip(spatial, scale, strict=True))
    return torch.zeros(batch, form.channels, *spatial, dtype=like.dtype, device=like.device)
