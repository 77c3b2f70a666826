"""Which layer of G is corrected by which layer of D, where the user leaves it open.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> from fbwrap.engine.trace import trace_forward
    >>> up = lambda i, o: nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.ReLU())
    >>> G = nn.Sequential(up(8, 8), up(8, 4), up(4, 3))
    >>> stage_names(trace_forward(G, (torch.zeros(1, 8, 4, 4),)))
    ['0', '1']

Sizes decide: each generator stage (the last layer at each resolution) is paired with the D layer whose
number of positions is nearest, and of several equally near ones with the last, after its nonlinearity (where that is
no layer: what the next layer is given, ``"conv4:input"``). Whole blocks are preferred to layers inside them.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from ..engine.names import INPUT, Path, Ref, glob_match, parse
from ..engine.trace import Batch, Call, Trace
from ..errors import PairingError
from .features import FeatureSpec, feature_spec_of

Item = TypeVar("Item")

MOST_LINKS = 4
_FARTHEST = math.log(4)  # auto pairs nothing whose side differs by more than a factor of four


def stage_names(trace: Trace) -> list[str]:
    """The last layer of a generator at each resolution but that of its output; of layers on its trunk (not
    inside a block of its own kind), where these are at half of the resolutions or more."""
    every = _candidates(trace)
    trunk = _stages([call for call in every if call.trunk], trace)
    inner = _stages(every, trace)
    return trunk if 2 * len(trunk) >= len(inner) else inner


def _stages(calls: list[Call], trace: Trace) -> list[str]:
    output = trace.sample_shape
    forms = [feature_spec_of_call(call, len(output) - 2) for call in calls]
    # what has no more channels than the sample (a skip in RGB) is no feature, nor what has other dimensions
    same = [len(form.spatial) == len(output) - 2 and form.channels > output[1] for form in forms]
    calls = list(itertools.compress(calls, same)) or calls
    sizes = [feature_spec_of_call(call, len(output) - 2).spatial for call in calls]
    last = dict(zip(sizes, calls, strict=True))
    inner = {size: call for size, call in last.items() if size != tuple(output[2:]) and math.prod(size) > 1}
    # a size that is no part of the sample's is mostly that of a padded map
    whole = [size for size in inner if not any(a % b for a, b in zip(output[2:], size, strict=False))]
    chosen = [inner[size] for size in whole or inner]
    return [call.name for call in sorted(chosen, key=lambda call: call.end)]


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of the items spread evenly, the last one among them: of 23 blocks 5, 11, 17 and 22."""
    stride = math.ceil(len(items) / count)
    places = dict.fromkeys(min((place + 1) * stride, len(items)) - 1 for place in range(count))
    return [items[place] for place in places] if items else []


def targets_of(trace: Trace) -> list[str]:
    """Layers of G that deserve a link: the last one at each resolution but that of the output, at
    most four; in a network of one resolution, blocks spread along it."""
    chosen = stage_names(trace)[-MOST_LINKS:] or _blocks(trace)
    if not chosen:
        raise PairingError(
            f"No layer of {type(trace.model).__name__} is fit for layers='auto'. Name the layers: "
            "layers=['NAME', ...] or [('G_LAYER', 'D_LAYER'), ...]; fbwrap.layers(G, *example) lists them."
        )
    return chosen


def best_source(
    target: FeatureSpec, trace: Trace | None, image_dims: int, among: Sequence[str] | None = None
) -> tuple[Ref, float]:
    """The D layer nearest in size to a feature, after its nonlinearity, and how far it is (log of the ratio of sides).

    Args:
        among: names and globs of the D layers to choose from; None: all.

    Raises:
        PairingError: D has no layer with a feature.
    """
    every = _candidates(trace, shared=True) if trace else []
    every = [call for call in every if feature_spec_of_call(call, image_dims).channels > 1]
    calls = [call for call in every if call.alone] or every
    if among is not None:
        named = {_label(call): call for call in (_candidates(trace, shared=True) if trace else [])}
        chosen = {label for glob in among for label in glob_match(glob, named)}
        calls = [call for label, call in named.items() if label in chosen] or calls
    if not calls:
        why = f" (it stopped with: {trace.error})" if trace and trace.error else ""
        raise PairingError(
            f"D shows no layer with features to pair with{why}. Name the source of each link: "
            "(G_LAYER, D_LAYER), 'response' or 'image'."
        )

    def distance(call: Call) -> float:
        form = feature_spec_of_call(call, image_dims)
        if bool(form.spatial) != bool(target.spatial):
            return 10.0 + math.prod(form.spatial)
        ratio = math.prod(form.spatial) / max(math.prod(target.spatial), 1)
        return abs(math.log(ratio)) / max(len(target.spatial), 1)

    best = min(calls, key=lambda call: (round(distance(call), 6), not call.trunk, -call.end))
    return parse(_activated(best, trace) or _label(best)), distance(best)


def auto(generator: Trace, critic: Trace, image_dims: int, among: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Pairs for ``layers="auto"`` where no adapter knows the generator's targets."""
    pairs = []
    for target in targets_of(generator):
        call = next(c for c in generator.calls if c.name == target)
        form = feature_spec_of_call(call, image_dims)
        source, distance = best_source(form, critic, image_dims, among)
        if distance <= _FARTHEST:
            pairs.append((target, str(source)))
    if not pairs:
        raise PairingError(
            "layers='auto' found no layer of G and layer of D of similar size. Name them: "
            "layers=[('G_LAYER', 'D_LAYER'), ...]; fbwrap.layers(model, *example) lists sizes."
        )
    return pairs


def _activated(call: Call, trace: Trace | None) -> str | None:
    """The next layer's input, where that is what the call returned, after a nonlinearity that no layer is."""
    calls = trace.calls if trace else []
    following = (other for other in calls if other.activates is not None and calls[other.activates] is call)
    return next(
        (f"{_label(other)}{INPUT}" for other in following if other.done and len(_features_in(other)) == 1), None
    )


def _features_in(call: Call) -> list[Path]:
    return [path for path, info in call.inputs.items() if info.is_feature]


def _label(call: Call) -> str:
    return call.name if call.alone else f"{call.name}#{call.index}"


def _candidates(trace: Trace, *, shared: bool = False) -> list[Call]:
    """Layers called once (or ``shared``, too) whose output is one feature, in the order in which they end."""
    found = []
    for call in trace.calls:
        info = call.outputs.get(())
        batch = call.batches.get((), Batch())
        if not call.done or info is None or not info.is_feature or len(info.shape) > 5:
            continue
        if batch is None or batch.rows > 1 or (batch.axis and len(info.shape) != 3):  # no sample a row
            continue
        if call.alone or shared:
            found.append(call)
    return sorted(found, key=lambda call: call.end)


def feature_spec_of_call(call: Call, image_dims: int) -> FeatureSpec:
    """How the feature that a call returned is laid out."""
    batch = call.batches.get((), None) or Batch()
    return feature_spec_of(_shape(call), call.layout, image_dims, batch.axis)


def _shape(call: Call) -> tuple[int, ...]:
    return call.outputs[()].shape


def _blocks(trace: Trace) -> list[str]:
    """In a network of one resolution: up to four of its repeated blocks, or its last hidden layer."""
    calls = _candidates(trace)
    groups: dict[tuple[int | None, type], list[Call]] = {}
    for call in calls:
        if list(call.module.children()):
            groups.setdefault((call.parent, type(call.module)), []).append(call)
    blocks = max(groups.values(), key=len, default=[])
    if len(blocks) >= 3:
        return [call.name for call in spread(blocks, MOST_LINKS)]
    many = math.prod(trace.sample_shape)  # the sample itself, flat or not, is no hidden layer
    return [call.name for call in calls if math.prod(_shape(call)) != many][-1:]
