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
from ..engine.pytree import map_tensors
from ..engine.trace import Call, Trace
from .batch_axis import read_in_eval
from .critic import CriticInput, image_of
from .critic import call as ask_critic
from .features import SPECTROGRAMS

logger = logging.getLogger("fbwrap")
_LARGE = 10.0  # deviations of the signal: the one other value
_NEARLY_ALL = 0.9


def settle_time(critic: nn.Module, trace: Trace, ask: CriticInput, output: object, inputs: tuple[Any, Any]) -> None:
    """Note in D's calls which of their maps are spectrograms; where D refuses a trial, none is.

    Args:
        output: of G, whose sample is (N, C, L), as it made it of ``inputs``.
    """
    maps = [call for call in trace.calls if call.done and _is_map(call)]
    sample = image_of(output)
    if not maps or sample.shape[-1] < 8:
        return
    try:
        seen = [_looked(critic, trace, ask, shown, inputs, maps) for shown in _variants(output, sample)]
    except Exception:
        logger.debug("D refuses a trial of other signals.", exc_info=True)
        return
    told: dict[int | None, str] = {}
    for call, base, step, impulse in zip(maps, *seen, strict=True):
        if base is not None and step is not None and impulse is not None:
            layout = layout_of(_changed(base, step), _changed(base, impulse))
            if layout is not None:
                told.setdefault(_network_of(call, trace.calls), layout)
    for call in maps:
        call.layout = told.get(_network_of(call, trace.calls), call.layout)


def layout_of(step: Tensor, impulse: Tensor) -> str | None:
    """The layout of a map, from which of its places changed.

    Args:
        step: (H, W), where another end of the signal was seen.
        impulse: (H, W), where one other value was seen.

    Returns:
        ``"frequency_time"``: time runs along W, and one value is in all of a column; ``"time_frequency"``: along H, and
        it is in all of a row; ``"channels_first"``: it is in a part of them, so the signal is folded; None: nothing
        tells, as where a place sees all of the time.
    """
    for layout, late, one in ((SPECTROGRAMS[0], step, impulse), (SPECTROGRAMS[1], step.T, impulse.T)):
        across, along = late.shape
        if along > 3 and late.any() and not late[:, : along // 4].any():
            broad = across > 3 and one.any(1).double().mean() >= _NEARLY_ALL
            return layout if broad else "channels_first"
    return None


def _variants(output: object, sample: Tensor) -> list[object]:
    """What G made; the same with another end; the same with one other value."""
    length, spread = sample.shape[-1], float(sample.std()) or 1.0
    end, one = sample.clone(), sample.clone()
    random = torch.Generator().manual_seed(0)
    late = end[..., 3 * length // 4 :]
    late += spread * torch.randn(late.shape, generator=random).to(late)
    one[..., 3 * length // 4] += _LARGE * spread

    def with_sample(new: Tensor) -> object:
        return map_tensors(lambda tensor: new if tensor is sample else tensor, output)

    return [with_sample(new) for new in (sample, end, one)]


def _looked(
    critic: nn.Module, trace: Trace, ask: CriticInput, output: object, inputs: tuple[Any, Any], maps: list[Call]
) -> list[Tensor | None]:
    """The maps of one look, on equal random numbers."""
    D, (args, kwargs) = unwrap(critic), inputs
    taps = [Tap(call.module, call.index, ()) for call in maps]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = ask(output, *args, **kwargs)
    found, _ = read_in_eval(D, lambda shown: ask_critic(D, shown), ((given,), {}), taps, trace.moving)
    return [found.get(tap) for tap in taps]


def _network_of(call: Call, calls: list[Call]) -> int | None:
    """The innermost call around it that was given a signal: one of several discriminators; None: D itself."""
    place = call.parent
    while place is not None:
        around = calls[place]
        if any(len(info.shape) == 3 for info in around.inputs.values()):
            return place
        place = around.parent
    return None


def _is_map(call: Call) -> bool:
    info = call.outputs.get(())
    return info is not None and len(info.shape) == 4 and call.layout == "channels_first"


def _changed(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        return torch.zeros(a.shape[2:], dtype=torch.bool)
    wide = a.double()
    return ((wide - b.double()).abs() > 1e-4 * wide.abs().max()).flatten(0, 1).any(0).cpu()
