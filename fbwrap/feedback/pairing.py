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
no layer: what the next layer is given, ``"conv4:input"``). Whole blocks are preferred to layers inside them. A layer
that returns several tensors (an LSTM its features and its state) stands for the first of them, ``"lstm[0]"``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from ..engine.names import Path, Ref, glob_match, parse
from ..engine.trace import Batch, Call, TensorInfo, Trace, is_sequential
from ..errors import PairingError
from .features import FRAMES, FeatureSpec, feature_spec_of

Item = TypeVar("Item")

MOST_LINKS = 4
_FARTHEST = math.log(4)  # auto pairs nothing whose side differs by more than a factor of four, if it finds any
_ANOTHER_KIND = 9.0  # vectors and maps are farther apart


@dataclass(frozen=True, eq=False)
class Place:
    """A feature that a layer returned: all of its output, or the first tensor of several; or that it was given."""

    call: Call
    path: Path = ()
    given: bool = False

    @property
    def name(self) -> str:
        """As a user writes it."""
        index = None if self.call.alone else self.call.index
        return str(Ref(self.call.name, index, at="input") if self.given else Ref(self.call.name, index, self.path))

    @property
    def info(self) -> TensorInfo:
        """The tensor's shape and type."""
        return (self.call.inputs if self.given else self.call.outputs)[self.path]

    def form(self, image_dims: int) -> FeatureSpec:
        """How it is laid out."""
        if self.given:
            return feature_spec_of(self.info.shape, self.call.layout, image_dims)
        batch = self.call.batches.get(self.path, None) or Batch()
        layout = FRAMES if batch.rows > 1 else self.call.layout
        return feature_spec_of(self.info.shape, layout, image_dims, batch.axis, batch.rows)


def stage_names(trace: Trace) -> list[str]:
    """The last layer of a generator at each resolution but that of its output; of layers on its trunk (not
    inside a block of its own kind), where these are at half of the resolutions or more."""
    return [place.name for place in _stages(trace)]


def _stages(trace: Trace) -> list[Place]:
    every = [place for place in _places(trace) if place.call not in _shuffled(trace) and not _pools(place.call)]
    trunk = _last_at_each_size([place for place in every if place.call.trunk], trace)
    inner = _last_at_each_size(every, trace)
    return trunk if 2 * len(trunk) >= len(inner) else inner


def _last_at_each_size(places: list[Place], trace: Trace) -> list[Place]:
    output = trace.sample_shape
    dims, sides = len(output) - 2, tuple(output[2:])
    forms = [(place, place.form(dims)) for place in places]
    # what has no more channels than the sample (a skip in RGB) is no feature, nor what has other dimensions
    same = [(place, form) for place, form in forms if len(form.spatial) == dims and form.channels > output[1]]
    whole_outputs = [(place, form) for place, form in forms if not place.path]
    last = {form.spatial: place for place, form in same or whole_outputs}
    if sides:  # what is larger than the sample is the way down to a smaller one, or padded
        last = {size: place for size, place in last.items() if math.prod(size) <= math.prod(sides)}
    inner = {size: place for size, place in last.items() if size != sides and math.prod(size) > 1}
    # a size that is no part of the sample's is mostly that of a padded map
    whole = [size for size in inner if not any(a % b for a, b in zip(sides, size, strict=False))]
    return sorted((inner[size] for size in whole or inner), key=lambda place: place.call.end)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of the items spread evenly, the last one among them: of 23 blocks 5, 11, 17 and 22."""
    stride = math.ceil(len(items) / count)
    places = dict.fromkeys(min((place + 1) * stride, len(items)) - 1 for place in range(count))
    return [items[place] for place in places] if items else []


def targets_of(trace: Trace) -> list[str]:
    """Layers of G that deserve a link: the last one at each resolution but that of the output, at
    most four; in a network of one resolution, blocks spread along it."""
    return [place.name for place in _targets(trace)]


def _targets(trace: Trace) -> list[Place]:
    chosen = _stages(trace)[-MOST_LINKS:] or _blocks(trace) or _given_last(trace)
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
    every = _places(trace, shared=True) if trace else []
    learned = first_learned(trace) if trace else 0  # before it there is the sample itself
    places = [each for each in every if each.form(image_dims).channels > 1 and each.call.end >= learned]
    if among is not None:
        named = {place.name: place for place in every}
        chosen = {label for glob in among for label in glob_match(glob, named)}
        places = [place for label, place in named.items() if label in chosen] or places
    if not places and trace is not None and among is None:
        places = [each for each in _given(trace) if each.form(image_dims).channels > 1]
    if not places or trace is None:
        why = f" (it stopped with: {trace.error})" if trace and trace.error else ""
        raise PairingError(
            f"D shows no layer with features to pair with{why}. Name the source of each link: "
            "(G_LAYER, D_LAYER), 'response' or 'image'."
        )

    def order(place: Place) -> tuple[float, bool, int, int]:
        again = bool(place.form(image_dims).spatial) and _is_repeated(place.call, trace)
        return (round(_distance(place.form(image_dims), target), 6), again, _depth(place.call, trace), -place.call.end)

    best = min(places, key=order)
    activated = None if best.given else _activated(best.call, trace)
    return parse(activated or best.name), _distance(best.form(image_dims), target)


def _distance(form: FeatureSpec, target: FeatureSpec) -> float:
    if bool(form.spatial) != bool(target.spatial):
        return 10.0 + math.prod(form.spatial)
    ratio = math.prod(form.spatial) / max(math.prod(target.spatial), 1)
    return abs(math.log(ratio)) / max(len(target.spatial), 1)


def auto(generator: Trace, critic: Trace, image_dims: int, among: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Pairs for ``layers="auto"`` where no adapter knows the generator's targets."""
    pairs = _paired(_targets(generator), critic, image_dims, among)
    pairs = pairs or _paired(_blocks(generator), critic, image_dims, among)
    pairs = pairs or _paired(_targets(generator)[-1:], critic, image_dims, among, _ANOTHER_KIND)
    if not pairs:
        raise PairingError(
            "layers='auto' found no layer of G and layer of D of similar size. Name them: "
            "layers=[('G_LAYER', 'D_LAYER'), ...]; fbwrap.layers(model, *example) lists sizes."
        )
    return pairs


def _paired(
    targets: list[Place], critic: Trace, image_dims: int, among: Sequence[str] | None, farthest: float = _FARTHEST
) -> list[tuple[str, str]]:
    found = [(place.name, *best_source(place.form(image_dims), critic, image_dims, among)) for place in targets]
    return [(name, str(source)) for name, source, distance in found if distance <= farthest]


def _activated(call: Call, trace: Trace | None) -> str | None:
    """The next layer's input, where that is what the call returned, after a nonlinearity that no layer is."""
    calls = trace.calls if trace else []
    following = (other for other in calls if other.activates is not None and calls[other.activates] is call)
    return next(
        (
            str(Ref(other.name, None if other.alone else other.index, at="input"))
            for other in following
            if other.done and len(_features_in(other)) == 1
        ),
        None,
    )


def _features_in(call: Call) -> list[Path]:
    return [path for path, info in call.inputs.items() if info.is_feature]


def has_weights(call: Call) -> bool:
    """Whether a layer has parameters."""
    return any(True for _ in call.module.parameters())


def first_learned(trace: Trace) -> int:
    """When the first layer with parameters ended; 0 where none did."""
    return min((call.end for call in trace.calls if call.done and has_weights(call)), default=0)


def _is_repeated(call: Call, trace: Trace) -> bool:
    """Whether what a call returned was made by a layer with weights that had run before: D runs its layers twice."""
    ended = (other for other in trace.calls if other.done and other.end <= call.end)
    made = [other for other in ended if any(True for _ in other.module.parameters(recurse=False))]
    return max(made, key=lambda other: other.end).index > 0 if made else False


def _depth(call: Call, trace: Trace) -> int:
    """In how many blocks a layer stands, ``nn.Sequential`` not counted."""
    depth, parent = 0, call.parent
    while parent is not None:
        depth += not is_sequential(trace.calls[parent].module)
        parent = trace.calls[parent].parent
    return depth


def _pools(call: Call) -> bool:
    """Whether a layer brings a feature to a size of its own: what follows weighs channels (squeeze and excitation)."""
    return "AdaptiveAvgPool" in type(call.module).__name__


def _weighs(call: Call, trace: Trace) -> bool:
    """Whether a layer returns weights of attention: a softmax, or dropout of what no layer beside it made."""
    if isinstance(call.module, nn.Softmax):
        return True
    if not isinstance(call.module, nn.Dropout) or not call.inputs:
        return False
    given = next(iter(call.inputs.values())).shape
    beside = (other for other in trace.calls if other.parent == call.parent and other.done and other.end < call.start)
    return not any(info.shape == given and has_weights(other) for other in beside for info in other.outputs.values())


def _shuffled(trace: Trace) -> list[Call]:
    """Layers that only widen a feature for the PixelShuffle behind them: the convolution, and what follows it."""
    found: list[Call] = []
    done = sorted((call for call in trace.calls if call.done and () in call.outputs), key=lambda call: -call.end)
    for shuffle in (call for call in done if "PixelShuffle" in type(call.module).__name__):
        given = next((info.shape for info in shuffle.inputs.values()), ())
        run: list[Call] = []
        for call in done:
            if call.end > shuffle.start:
                continue
            if call.outputs[()].shape != given:
                break
            run.append(call)
            before = next((info.shape for info in call.inputs.values() if info.is_feature), given)
            if before[1] < given[1]:
                found += run
                break
    return found


def _places(trace: Trace, *, shared: bool = False) -> list[Place]:
    """Features that layers called once (or ``shared``, too) returned, in the order in which they end."""
    found = []
    for call in trace.calls:
        if not call.done or not (call.alone or shared) or _weighs(call, trace):
            continue
        # of several tensors the first, where no layer inside made it; in G another layer has to take it
        path = () if () in call.outputs else call.made if shared or call.handed_on else None
        info = call.outputs.get(path) if path is not None else None
        if path is None or info is None or not info.is_feature or len(info.shape) > 5:
            continue
        batch = call.batches.get(path, Batch())
        # frames in the batch are those of a video that G makes
        frames = (
            batch is not None and batch.rows > 1 and not shared and len(info.shape) + 1 == len(trace.sample_shape) == 5
        )
        if batch is None or (batch.rows > 1 and not frames) or (batch.axis and len(info.shape) != 3):  # no sample a row
            continue
        found.append(Place(call, path))
    return sorted(found, key=lambda place: place.call.end)


def _given(trace: Trace) -> list[Place]:
    """Features that layers with weights, called once, are given, behind the first of them: what is left where no layer
    returns one (packed sequences, say, that are unpacked before the last layer)."""
    return [
        Place(call, _features_in(call)[0], given=True)
        for call in trace.calls
        if call.done and call.alone and call.start > first_learned(trace)
        if has_weights(call) and len(_features_in(call)) == 1
    ]


def _given_last(trace: Trace) -> list[Place]:
    """What the last layer with weights is given, if it is called once."""
    ends = [call.end for call in trace.calls if call.done and any(True for _ in call.module.parameters(recurse=False))]
    return [place for place in _given(trace) if place.call.end == max(ends)]


def _blocks(trace: Trace) -> list[Place]:
    """In a network of one resolution: up to four of its repeated blocks, or its last hidden layer."""
    places, dims = _places(trace), len(trace.sample_shape) - 2
    groups: dict[tuple[int | None, type], list[Place]] = {}
    for place in places:
        if list(place.call.module.children()):
            groups.setdefault((place.call.parent, type(place.call.module)), []).append(place)
    blocks = max(groups.values(), key=len, default=[])
    if len(blocks) >= 3:
        full = [place for place in blocks if place.form(dims).spatial == tuple(trace.sample_shape[2:])]
        return spread(full or blocks, MOST_LINKS)
    # what G returns, flat or not, is no hidden layer
    returned = {math.prod(shape) for shape in (trace.sample_shape, *(info.shape for info in trace.outputs.values()))}
    hidden = [place for place in places if math.prod(place.info.shape) not in returned]
    return ([place for place in hidden if place.call.trunk] or hidden)[-1:]
