"""Which axis of D's maps is time, where the sample is a signal: spectrograms, and signals folded into rows.

Examples:
    >>> import torch
    >>> step = torch.zeros(4, 8, dtype=torch.bool)
    >>> step[:, 6:] = True                # what changed when the end of the signal did: of 8 columns the last ones
    >>> layout_of(step, step)
    'frequency_time'

A discriminator of audio looks at maps of two kinds. One folds the signal into rows, a period each (HiFi-GAN): read row
by row, its values stand in the order of time. The other looks at a spectrogram (UnivNet, BigVGAN): one axis is
frequency, and the row after a row is another frequency, not a later time. Shapes do not tell them apart, so D is asked:
once with another end of the signal, once with one other value in it.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.intercept import Tap
from ..engine.names import unwrap
from ..engine.trace import Call, Trace
from .batch_axis import read_in_eval
from .critic import CriticInput
from .critic import call as ask_critic
from .features import SPECTROGRAMS

logger = logging.getLogger("fbwrap")
_LARGE = 10.0  # deviations of the signal: the one other value
_NEARLY_ALL = 0.9


def settle_time(critic: nn.Module, trace: Trace, ask: CriticInput, sample: Tensor, inputs: tuple[Any, Any]) -> None:
    """Note in D's calls which of their maps are spectrograms.

    Args:
        sample: (N, C, L), as G made it of ``inputs``.
    """
    maps = [call for call in trace.calls if call.done and _is_map(call)]
    if not maps or sample.shape[-1] < 8:
        return
    taps = [Tap(call.module, call.index, ()) for call in maps]
    args, kwargs = inputs
    length = sample.shape[-1]
    spread = float(sample.std()) or 1.0
    end, one = sample.clone(), sample.clone()
    random = torch.Generator().manual_seed(0)
    late = end[..., 3 * length // 4 :]
    late += spread * torch.randn(late.shape, generator=random).to(late)
    one[..., 3 * length // 4] += _LARGE * spread
    D = unwrap(critic)
    found = [
        read_in_eval(D, lambda shown: ask_critic(D, shown), ((ask(y, *args, **kwargs),), {}), taps, trace.moving)[0]
        for y in (sample, end, one)
    ]
    told: list[Call] = []
    for call, tap in zip(maps, taps, strict=True):
        if all(tap in each for each in found):
            step, impulse = (_changed(found[0][tap], other[tap]) for other in found[1:])
            if (layout := layout_of(step, impulse)) is not None:
                call.layout = layout
                told.append(call)
    for call in maps:
        if call not in told and (before := _told_before(call, told, trace.calls)) is not None:
            call.layout = before.layout


def layout_of(step: Tensor, impulse: Tensor) -> str | None:
    """The layout of a map, from which of its places changed.

    Args:
        step: (H, W), where another end of the signal was seen.
        impulse: (H, W), where one other value was seen.

    Returns:
        ``"frequency_time"``: time runs along W; ``"time_frequency"``: along H, and each value is in all of a row;
        ``"channels_first"``: along H, and a value is in a part of a row: the signal is folded into rows; None: nothing
        tells, as where a place sees all of the time.
    """
    if not step.any():
        return None
    height, width = step.shape
    if width > 3 and not step[:, : width // 4].any():
        return SPECTROGRAMS[0]
    if height > 3 and not step[: height // 4].any():
        broad = width > 3 and impulse.any(0).double().mean() >= _NEARLY_ALL
        return SPECTROGRAMS[1] if broad else "channels_first"
    return None


def _told_before(call: Call, told: list[Call], calls: list[Call]) -> Call | None:
    """The last map before it, in the smallest block around both, of which it is known."""
    for ancestor in _ancestors(call, calls):
        before = [each for each in told if each.start < call.start and ancestor in _ancestors(each, calls)]
        if before:
            return before[-1]
    return None


def _ancestors(call: Call, calls: list[Call]) -> list[int | None]:
    """The calls around it, from the inside; None, D itself, for what is in no other."""
    found: list[int | None] = []
    place = call.parent
    while place is not None:
        found.append(place)
        place = calls[place].parent
    return found or [None]


def _is_map(call: Call) -> bool:
    info = call.outputs.get(())
    return info is not None and len(info.shape) == 4 and call.layout == "channels_first"


def _changed(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        return torch.zeros(a.shape[2:], dtype=torch.bool)
    wide = a.double()
    return ((wide - b.double()).abs() > 1e-4 * wide.abs().max()).flatten(0, 1).any(0).cpu()
