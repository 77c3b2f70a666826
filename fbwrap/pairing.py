"""Which layer of G is corrected by which layer of D, where the user leaves it open.

Example:
    >>> import torch
    >>> from torch import nn
    >>> from fbwrap.probe import look
    >>> up = lambda i, o: nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.ReLU())
    >>> G = nn.Sequential(up(8, 8), up(8, 4), up(4, 3))
    >>> [str(ref) for ref in stages(look(G, (torch.zeros(1, 8, 4, 4),)), 2)]
    ['0', '1']

Sizes decide: each generator stage (the last layer at each resolution) is paired with the D layer whose
number of positions is nearest, and of several equally near ones with the last, after its activation.
"""

import math

from .errors import PairingError
from .naming import Ref
from .probe import Call, Trace
from .signals import Form, form_of

MOST_LINKS = 4
_FARTHEST = math.log(4)  # auto pairs nothing whose side differs by more than a factor of four


def stages(trace: Trace, image_dims: int) -> list[Ref]:
    """Layers of G that deserve a link: the last one at each resolution but that of the output, at
    most four; in a network of one resolution, blocks spread along it."""
    calls = _candidates(trace, image_dims)
    forms = [form_of(_shape(call), call.layout, image_dims) for call in calls]
    output = next(iter(trace.outputs.values())).shape if trace.outputs else ()
    last = [
        call
        for place, call in enumerate(calls)
        if place + 1 == len(calls) or forms[place + 1].spatial != forms[place].spatial
    ]
    inner = [call for call in last if _shape(call)[2:] != tuple(output[2:]) and math.prod(_shape(call)[2:]) > 1]
    chosen = inner[-MOST_LINKS:] or _spread(calls, output)
    if not chosen:
        raise PairingError(
            f"No layer of {type(trace.model).__name__} is fit for layers='auto'. Name the layers: "
            "layers=['NAME', ...] or [('G_LAYER', 'D_LAYER'), ...]; fbwrap.layers(G, *example) lists them."
        )
    return [Ref(call.name) for call in chosen]


def best_source(target: Form, trace: Trace | None, image_dims: int) -> tuple[Ref, float]:
    """The D layer nearest in size to a feature, and how far it is (log of the ratio of sides).

    Raises:
        PairingError: D has no layer with a feature.
    """
    calls = _candidates(trace, image_dims) if trace else []
    calls = [call for call in calls if form_of(_shape(call), call.layout, image_dims).channels > 1]
    if not calls:
        why = f" (it stopped with: {trace.error})" if trace and trace.error else ""
        raise PairingError(
            f"D shows no layer with features to pair with{why}. Name the source of each link: "
            "(G_LAYER, D_LAYER), 'response' or 'image'."
        )

    def distance(call: Call) -> float:
        form = form_of(_shape(call), call.layout, image_dims)
        if bool(form.spatial) != bool(target.spatial):
            return 10.0 + math.prod(form.spatial)
        ratio = math.prod(form.spatial) / max(math.prod(target.spatial), 1)
        return abs(math.log(ratio)) / max(len(target.spatial), 1)

    best = min(calls, key=lambda call: (round(distance(call), 6), -call.end))
    return Ref(best.name), distance(best)


def auto(generator: Trace, critic: Trace | None, image_dims: int) -> list[tuple[Ref, Ref]]:
    """Pairs for ``layers="auto"``."""
    pairs = []
    for target in stages(generator, image_dims):
        call = next(c for c in generator.calls if c.name == target.name)
        form = form_of(_shape(call), call.layout, image_dims)
        source, distance = best_source(form, critic, image_dims)
        if distance <= _FARTHEST:
            pairs.append((target, source))
    if not pairs:
        raise PairingError(
            "layers='auto' found no layer of G and layer of D of similar size. Name them: "
            "layers=[('G_LAYER', 'D_LAYER'), ...]; fbwrap.layers(model, *example) lists sizes."
        )
    return pairs


def _candidates(trace: Trace, image_dims: int) -> list[Call]:
    """Layers called once whose output is one feature, in the order in which they end."""
    found = []
    for call in trace.calls:
        info = call.outputs.get(())
        if not call.done or info is None or not info.is_feature or len(info.shape) > 5:
            continue
        if len(trace.calls_of(call.module)) == 1:
            found.append(call)
    return sorted(found, key=lambda call: call.end)


def _shape(call: Call) -> tuple[int, ...]:
    return call.outputs[()].shape


def _spread(calls: list[Call], output: tuple[int, ...]) -> list[Call]:
    """In a network of one resolution: up to four of its repeated blocks, or its last hidden layer."""
    groups: dict[tuple[int | None, type], list[Call]] = {}
    for call in calls:
        if list(call.module.children()):
            groups.setdefault((call.parent, type(call.module)), []).append(call)
    blocks = max(groups.values(), key=len, default=[])
    if len(blocks) >= 3:
        count = min(MOST_LINKS, len(blocks) - 1)
        return [blocks[(place + 1) * (len(blocks) - 1) // (count + 1)] for place in range(count)]
    hidden = [call for call in calls if tuple(_shape(call)) != tuple(output)]
    return hidden[-1:]
