"""Third stage: from what the user wrote in ``layers=`` to connections of real modules and shapes.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)), nn.Sequential(nn.Conv2d(1, 4, 1))
    >>> loop = fbwrap.attach(G, D, [("0", ["0", "image"])], example=torch.zeros(1, 1, 4, 4))
    >>> str(loop.connections[0])
    '0 <- dual <- 0 + image'
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..engine.names import Path, Ref, module_named, references
from ..engine.pytree import tensors
from ..engine.replay import Site
from ..engine.trace import Batch, Call, TensorInfo, Trace, info_of, sample_layout
from ..errors import CriticError, PairingError, SettingError
from ..feedback.batch_axis import BatchAxes
from ..feedback.critic import response_of
from ..feedback.features import FRAMES, FeatureSpec, feature_spec_of
from ..feedback.links import Connection, Layer, Link, Source
from ..feedback.modules import ModuleSpec, spec_of
from ..feedback.pairing import best_source
from ..feedback.plan import call_of, event, with_call
from ..feedback.settings import check_strength
from ..feedback.time_axis import settle_time
from ..recognition.detect import Recognised
from .budget import AUTO
from .observe import Observed
from .request import Request


@dataclass(frozen=True)
class Resolved:
    """The links of a loop, in the order in which G reaches them, and what a user should know about them."""

    connections: tuple[Connection, ...]
    notes: tuple[str, ...]


def resolve(request: Request, observed: Observed) -> Resolved:
    """Every link of a request as connections of real modules and shapes."""
    generator_trace, critic_trace, known = observed.generator_trace, observed.critic_trace, observed.recognised
    module = request.module
    if module is None:
        module = known.module if request.auto else "dual"
    axes = BatchAxes(
        observed.generator,
        observed.discriminator,
        generator_trace,
        critic_trace,
        observed.critic_input,
        observed.example,
        observed.pack,
    )
    resolver = Resolver(
        generator_trace, critic_trace, observed.image, observed.response, _spec_of(module), known, axes, observed.pack
    )
    _settle_time(observed)
    connections = sorted(
        (c for link in resolver.links(request) for c in resolver.connect(link)),
        key=lambda c: event(generator_trace, c.site),
    )
    if request.auto and request.module == "auto":
        connections = [_joined(connections)]
    if critic_trace is None and any(s.name != "image" for c in connections for s in c.sources):
        raise PairingError("Without a discriminator every link's source must be 'image'.")
    _refuse_two_carried(connections)
    return Resolved(tuple(connections), tuple(resolver.notes))


def _settle_time(observed: Observed) -> None:
    """Tell spectrograms from other maps in a D of signals (N, C, L), if G itself works on signals, too."""
    made, asked, D = observed.generator_trace, observed.critic_trace, observed.discriminator
    y = observed.image
    signal = y.dim() == len(made.sample_shape) == 3 and y.is_floating_point() and made.layout == "channels_first"
    maps = any(call.layout_known and len(info.shape) == 4 for call in made.calls for info in call.outputs.values())
    if signal and not maps and asked is not None and D is not None and not made.batch.axis and observed.pack == 1:
        settle_time(D, asked, observed.critic_input, made.output, observed.example)


def _spec_of(module: object) -> ModuleSpec:
    return AUTO if module == "auto" else spec_of(module)


def _joined(connections: Sequence[Connection]) -> Connection:
    """One connection in place of all: at the last layer of G, from what all of them see in D."""
    last = connections[-1]
    seen = {source.name: source for c in connections if c.form.rows == last.form.rows for source in c.sources}
    return replace(last, sources=tuple(seen.values()))


def _refuse_two_carried(connections: Sequence[Connection]) -> None:
    places = [(c.target, c.at) for c in connections if c.carry]
    for target, at in places:
        if places.count((target, at)) > 1:
            raise PairingError(
                f"Two carried links correct the {at} of {str(target)!r}: each would carry on from the other's "
                "feature. Give one link both sources, or pass carry=False for one of them."
            )


class Resolver:
    """Turns what the user wrote into connections."""

    def __init__(
        self,
        generator_trace: Trace,
        critic_trace: Trace | None,
        image: Tensor,
        response: Any,
        module: ModuleSpec,
        known: Recognised,
        axes: BatchAxes,
        pack: int,
    ):
        self._known, self._axes, self._pack = known, axes, pack
        self.notes: list[str] = []
        self._generator_trace, self._critic_trace = generator_trace, critic_trace
        self._response, self._module = response, module
        self._image = image
        generator_trace.layout = sample_layout(tuple(image.shape), generator_trace, critic_trace)
        axes.settle_sample(image, generator_trace.layout)
        self._sample = generator_trace.sample_shape or tuple(image.shape)
        self._dims = len(self._sample) - 2

    def links(self, request: Request) -> list[Link]:
        """Every item of ``layers`` as a Link."""
        layers = request.layers
        if layers is None:
            if self._critic_trace is not None and self._critic_trace.error:
                raise CriticError(
                    f"D refuses its input: {self._critic_trace.error}. Pass critic_input=, which makes D's "
                    "input, such as 'output_and_label'."
                )
            return []
        if request.auto:
            placement = str(layers).partition(":")[2]
            for trace in (self._generator_trace, self._critic_trace):
                if trace is not None:
                    self._axes.settle(trace)
            return self._known.links(
                placement, self._generator_trace, self._critic_trace, self._dims, self._module.default.source
            )
        items = [layers] if isinstance(layers, str | Link | nn.Module) else list(layers)
        if not items:
            raise SettingError(
                "layers=[] attaches nothing. Pass 'auto', names, pairs or Links; or None: G without feedback, for "
                "fbwrap.samplers."
            )
        return [self._link(item) for item in items]

    def _link(self, item: object) -> Link:
        if isinstance(item, Link):
            return item
        if isinstance(item, str | nn.Module):
            return Link(item)
        if isinstance(item, tuple | list) and len(item) == 2:
            return Link(item[0], item[1])
        raise SettingError(
            f"layers contains {item!r}. Each item is a layer name or glob, a module, a pair "
            "(generator_layer, discriminator_layer), or a fbwrap.Link."
        )

    def connect(self, link: Link) -> list[Connection]:
        """A link's connections: one, or as many as its glob matches."""
        refs = references(self._generator_trace.model, link.target)
        if isinstance(link.target, str) and ("*" in link.target or "?" in link.target):
            calls = [ref for ref in refs if self._generator_trace.calls_of(self._module_of(ref))]
            refs = calls or refs
        return [self._connect(link, ref) for ref in refs]

    def _module_of(self, ref: Ref) -> nn.Module:
        return module_of(self._generator_trace, ref)

    def _connect(self, link: Link, ref: Ref) -> Connection:
        if ref.at == "input":  # NAME:input is the same as at="input"
            link, ref = replace(link, at="input"), replace(ref, at="output")
        module = self._module_of(ref)
        if not isinstance(link.target, nn.Module):  # a module has no name that tells its call
            ref = with_call(self._generator_trace, ref)
        found = call_of(self._generator_trace, module, ref, "Generator")
        infos = found.outputs if link.at == "output" else found.inputs
        path, info = _pick(ref, infos, link.at, "generator", found)
        form = self._form_in(
            self._generator_trace, found, path, info, link.target_layout, link.at, f"G's layer {str(ref)!r}"
        )
        spec = self._module if link.module is None else spec_of(link.module)
        form, sources = self._with_sources(link, spec, form, info)
        name = Ref(ref.name, ref.call, ref.path)
        site = Site(module, found.index, path, link.at, str(name), ref.call is None)
        carry = spec.default.carry if link.carry is None else link.carry
        strength = check_strength(link.strength)
        return Connection(name, link.at, site, form, sources, spec, strength, carry, link.feature)

    def _with_sources(
        self, link: Link, spec: ModuleSpec, form: FeatureSpec, info: TensorInfo
    ) -> tuple[FeatureSpec, tuple[Source, ...]]:
        """The target's form, and the sources. Frames that are folded into the batch are taken one by one where D sees
        them so; as videos, where it sees videos."""
        forms = [form]
        folded = form.rows > 1 and form.layout == "channels_first" and len(form.spatial) == self._dims - 1
        if folded and link.target_layout is None:
            video = feature_spec_of(info.shape, FRAMES, self._dims, frames=form.rows)
            forms = [video, form] if link.source is None else [form, video]
        errors: list[PairingError] = []
        for each in forms:
            rows = len(self._image) if each.layout == FRAMES else info.shape[each.batch_axis]
            try:
                return each, self._sources(link, spec, each, rows)
            except PairingError as error:
                errors.append(error)
        raise errors[forms.index(form)]

    def _sources(self, link: Link, spec: ModuleSpec, form: FeatureSpec, batch: int) -> tuple[Source, ...]:
        wanted: Any = link.source
        if wanted is None:
            wanted = spec.default.source
        if wanted is None and self._critic_trace is None:
            wanted = "image"
        if wanted is None and self._critic_trace is not None:
            self._axes.settle(self._critic_trace)
            wanted = (str(best_source(form, self._critic_trace, self._dims)[0]),)
        if isinstance(wanted, str | nn.Module):
            wanted = (wanted,)
        sources = [s for item in wanted for s in self._source(item, link.source_layout, batch)]
        if not sources:
            raise PairingError(f"The link to {link.target!r} has no source.")
        return tuple(sources)

    def _source(self, item: Layer, layout: str | None, batch: int) -> list[Source]:
        if isinstance(item, str) and item == "image":
            form = self._image_form(layout)
            return [self._checked(Source("image", None, form), info_of(self._image), batch)]
        if self._critic_trace is None:
            raise PairingError(f"The source {item!r} needs a discriminator, and there is none.")
        if isinstance(item, str) and item == "response":
            if self._critic_trace.error is not None:
                raise CriticError(
                    f"The source 'response' needs all of D, but D refuses G's output: {self._critic_trace.error}."
                )
            response = response_of(self._critic_trace.output, self._response)
            form = self._response_form(response, layout)
            return [self._checked(Source("response", None, form), info_of(response), batch)]
        found = []
        for ref in references(self._critic_trace.model, item):
            ref = ref if isinstance(item, nn.Module) else with_call(self._critic_trace, ref)
            called = call_of(self._critic_trace, module_of(self._critic_trace, ref), ref, "Discriminator")
            path, info = _pick(
                ref, called.inputs if ref.at == "input" else called.outputs, ref.at, "discriminator", called
            )
            call = called.index if ref.call is not None else None
            name = str(Ref(ref.name, call, path if ref.at == "output" else _short(path, called), ref.at))
            form = self._form_in(self._critic_trace, called, path, info, layout, ref.at, f"D's layer {name!r}")
            found.append(self._checked(Source(name, Ref(ref.name, call, path, ref.at), form), info, batch))
            if ref.at == "input" and called.activates is not None:
                before = self._critic_trace.calls[called.activates].name
                self.notes.append(
                    f"D's {name} is the output of {before} after its activation, which is a function and not a module."
                )
        return found

    def _image_form(self, layout: str | None) -> FeatureSpec:
        if len(self._sample) > self._image.dim():
            return replace(feature_spec_of(self._sample, "channels_first", self._dims), layout="reshaped")
        shape = tuple(self._image.shape)
        return feature_spec_of(
            shape, layout or self._generator_trace.layout, self._dims, 0 if layout else self._generator_trace.batch.axis
        )

    def _response_form(self, response: Tensor, layout: str | None) -> FeatureSpec:
        """The form of D's response: laid out as the sample is, where it is a sequence as that is."""
        asked, shape = self._critic_trace, tuple(response.shape)
        if layout is not None or asked is None:
            return feature_spec_of(shape, layout or "channels_first", self._dims)
        path = next((path for path, tensor in tensors(asked.output) if tensor is response), ())
        batch = asked.answers.get(path, Batch()) or Batch()
        alike = len(shape) == self._image.dim() == 3
        return feature_spec_of(
            shape, self._generator_trace.layout if alike else "channels_first", self._dims, batch.axis
        )

    def _form_in(
        self, trace: Trace, call: Call, path: Path, info: TensorInfo, layout: str | None, at: str, where: str
    ) -> FeatureSpec:
        """The form of a feature; what the layers around do not tell is said in the plan."""
        if layout is not None:
            rows = max(1, info.shape[0] // len(self._image)) if trace is self._generator_trace else 1
            if layout == FRAMES:
                return feature_spec_of(info.shape, layout, self._dims, frames=rows)
            return replace(feature_spec_of(info.shape, layout, self._dims), rows=1 if layout == "time_first" else rows)
        seen = (
            path if at == "output" else next((p for p, i in call.outputs.items() if i.shape[:2] == info.shape[:2]), ())
        )
        batch = self._axes.of(trace, call, seen)
        if batch is None:
            rows, count = info.shape[0], len(self._image)
            packed = f" If D judges {count // rows} samples as one, pass pack={count // rows}."
            raise PairingError(
                f"fbwrap cannot find the batch axis of {where}, shape {info.shape}. Choose another layer, or "
                "pass its layout, Link(target_layout=…) for G or source_layout= for D: 'channels_first' (N, "
                "C, T), 'channels_last' (N, T, C) or 'time_first' (T, N, C). For frames in the batch, (N·T, "
                "C, H, W): target_layout='frames'."
                + packed
                * (trace is self._critic_trace and rows < count and count % rows == 0)
            )
        flattened = _flattened(trace, call, info) if at == "input" else None
        if flattened is not None:
            return replace(feature_spec_of(flattened, "channels_first", self._dims), layout="reshaped")
        form = replace(feature_spec_of(info.shape, call.layout, self._dims, batch.axis), rows=batch.rows)
        if len(info.shape) == 3 and not call.layout_known and not batch.axis:
            self.notes.append(
                f"{where}, shape {info.shape}, is assumed to be channels first, (N, C, T). If that is wrong, "
                "pass Link(target_layout='channels_last') for a layer of G, or source_layout= for one of D."
            )
        return form

    def _checked(self, source: Source, info: TensorInfo, batch: int) -> Source:
        if not info.finite:
            raise CriticError(
                f"D's {source.name!r} is NaN or infinite on G's output for the example. Check D's weights, and "
                "that G's value range is the one D was trained on."
            )
        rows = info.shape[source.form.batch_axis]
        packs = self._pack > 1 and source.name != "image" and not source.form.batch_axis
        if packs and rows == -(-batch // self._pack):
            return source
        if rows != batch and source.name == "image":
            raise PairingError(
                f"The source 'image' has {rows} samples (shape {info.shape}), but the target {batch} rows: several of "
                "a sample (frames, say) are folded into its batch. Choose a target with one row for each sample."
            )
        if rows != batch:
            packed = f" If it judges {batch // rows} samples as one, pass pack={batch // rows}." * (batch % rows == 0)
            raise PairingError(
                f"The source {source.name!r} has batch size {rows} (shape {info.shape}), but the "
                f"target {batch}: D does not answer per sample there. Choose an earlier D layer, or pass "
                f"response= for the right part of D's answer.{packed}"
            )
        return source


def module_of(trace: Trace, ref: Ref) -> nn.Module:
    """The module that a reference names in a traced network."""
    return module_named(trace.model, ref)


def _flattened(trace: Trace, call: Call, info: TensorInfo) -> tuple[int, ...] | None:
    """The shape of the map that a layer is given flattened, behind a nonlinearity; None where that is not so."""
    before = trace.calls[call.activates] if call.activates is not None else None
    if before is None or before.layout != "channels_first":
        return None
    shape = before.outputs[()].shape
    return shape if len(shape) > 2 and info.shape == (shape[0], math.prod(shape[1:])) else None


def _short(path: Path, call: Call) -> Path:
    """A path into a layer's input as a user writes it: nothing where the input is one feature alone."""
    features = [each for each, info in call.inputs.items() if info.is_feature]
    return () if features == [path] else path[1:]


def _from_the_front(path: Path, call: Call, at: str) -> Path:
    """A path in which places that were counted from the end are counted from the beginning: ``[-1]``."""
    found: list[int | str] = []
    for key in path:
        whole = ("", 0, *found) if at == "input" else tuple(found)
        if at == "input" and not found:
            whole = ("", 0)
        many = call.lengths.get(whole)
        found.append(key + many if isinstance(key, int) and key < 0 and many is not None else key)
    return tuple(found)


def _pick(
    ref: Ref, infos: Mapping[tuple[int | str, ...], TensorInfo], at: str, where: str, call: Call
) -> tuple[tuple[int | str, ...], TensorInfo]:
    """The tensor that is meant in a layer's output or input: the one at the path, or the only one."""
    features = {path: info for path, info in infos.items() if info.is_feature}
    # inputs are kept as (positional, keyword); a user writes NAME[0] or NAME[keyword]
    shown = {path[1:] if at == "input" else path: path for path in features}
    if not ref.path and len(features) == 1:
        return next(iter(features.items()))
    meant = _from_the_front(ref.path, call, at)
    wanted = next((path for path in shown if [*map(str, path)] == [*map(str, meant)]), None)
    if wanted is not None:
        return shown[wanted], features[shown[wanted]]
    listed = ", ".join(f"{Ref(ref.name, ref.call, short)} {features[whole].shape}" for short, whole in shown.items())
    what = f"has no feature at {ref}" if ref.path else f"has {len(features)} features"
    raise PairingError(
        f"The {at} of {where} layer {ref.name!r} {what}: {listed or 'none'}. A feature is a "
        "floating-point tensor with a batch and channels. Name one with its path, or choose another layer."
    )
