"""From what the user wrote in ``layers=`` to connections of real modules and shapes.

Example:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)), nn.Sequential(nn.Conv2d(1, 4, 1))
    >>> loop = fbwrap.attach(G, D, [("0", ["0", "image"])], example=torch.zeros(1, 1, 4, 4))
    >>> str(loop.connections[0])
    '0 <- dual <- 0 + image'
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .axes import Axes
from .critic import response_of
from .errors import CriticError, PairingError, SettingError
from .links import Connection, Layer, Link, Source
from .modules import ModuleSpec, spec_of
from .naming import Path, Ref, module_named, resolve
from .pairing import best_source
from .plan import call_of
from .probe import Batch, Call, TensorInfo, Trace, info_of, sample_layout
from .recognise import Recognised
from .replay import Site
from .settings import check_strength
from .signals import Form, form_of
from .trees import tensors

Layers = str | Sequence[Any]


def is_auto(layers: Layers) -> bool:
    """Whether the links are left open: ``"auto"`` or ``"auto:PLACEMENT"``."""
    return isinstance(layers, str) and layers.partition(":")[0] == "auto"


class Resolver:
    """Turns what the user wrote into connections."""

    def __init__(
        self,
        made: Trace,
        asked: Trace | None,
        image: Tensor,
        response: Any,
        module: ModuleSpec,
        known: Recognised,
        axes: Axes,
    ):
        self._known, self._axes = known, axes
        self.notes: list[str] = []
        self._made, self._asked = made, asked
        self._response, self._module = response, module
        self._image = image
        made.layout = sample_layout(tuple(image.shape), made, asked)
        axes.settle_sample(image, made.layout)
        self._sample = made.sample_shape or tuple(image.shape)
        self._dims = len(self._sample) - 2

    def links(self, layers: Layers) -> list[Link]:
        """Every item of ``layers`` as a Link."""
        if is_auto(layers):
            placement = str(layers).partition(":")[2]
            for trace in (self._made, self._asked):
                if trace is not None:
                    self._axes.settle(trace)
            return self._known.links(placement, self._made, self._asked, self._dims, self._module.default.source)
        items = [layers] if isinstance(layers, str | Link | nn.Module) else list(layers)
        if not items:
            raise SettingError("layers=[] attaches nothing. Pass 'auto', names, pairs or Links.")
        return [self._link(item) for item in items]

    def _link(self, item: Any) -> Link:
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
        refs = resolve(self._made.model, link.target)
        if isinstance(link.target, str) and ("*" in link.target or "?" in link.target):
            calls = [ref for ref in refs if self._made.calls_of(self._module_of(ref))]
            refs = calls or refs
        return [self._connect(link, ref) for ref in refs]

    def _module_of(self, ref: Ref) -> nn.Module:
        return module_of(self._made, ref)

    def _connect(self, link: Link, ref: Ref) -> Connection:
        module = self._module_of(ref)
        found = call_of(self._made, module, ref, "Generator")
        infos = found.outputs if link.at == "output" else found.inputs
        path, info = _pick(ref, infos, link.at, "generator", found)
        form = self._form_in(self._made, found, path, info, link.target_layout, link.at, f"G's layer {str(ref)!r}")
        spec = self._module if link.module is None else spec_of(link.module)
        sources = self._sources(link, spec, form, info.shape[form.batch_axis])
        name = Ref(ref.name, ref.call, ref.path)
        site = Site(module, found.index, path, link.at, str(name), ref.call is None)
        carry = spec.default.carry if link.carry is None else link.carry
        strength = check_strength(link.strength)
        return Connection(name, link.at, site, form, sources, spec, strength, carry, link.feature)

    def _sources(self, link: Link, spec: ModuleSpec, form: Form, batch: int) -> tuple[Source, ...]:
        wanted: Any = link.source
        if wanted is None:
            wanted = spec.default.source
        if wanted is None and self._asked is None:
            wanted = "image"
        if wanted is None and self._asked is not None:
            self._axes.settle(self._asked)
            wanted = (str(best_source(form, self._asked, self._dims)[0]),)
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
        if self._asked is None:
            raise PairingError(f"The source {item!r} needs a discriminator, and there is none.")
        if isinstance(item, str) and item == "response":
            if self._asked.error is not None:
                raise CriticError(
                    f"The source 'response' needs all of D, but D refuses G's output: {self._asked.error}."
                )
            response = response_of(self._asked.output, self._response)
            form = self._response_form(response, layout)
            return [self._checked(Source("response", None, form), info_of(response), batch)]
        found = []
        for ref in resolve(self._asked.model, item):
            called = call_of(self._asked, module_of(self._asked, ref), ref, "Discriminator")
            path, info = _pick(ref, called.outputs, "output", "discriminator", called)
            ref = Ref(ref.name, called.index if ref.call is not None else None, path)
            form = self._form_in(self._asked, called, path, info, layout, "output", f"D's layer {str(ref)!r}")
            found.append(self._checked(Source(str(ref), ref, form), info, batch))
        return found

    def _image_form(self, layout: str | None) -> Form:
        if len(self._sample) > self._image.dim():
            return replace(form_of(self._sample, "channels_first", self._dims), layout="reshaped")
        shape = tuple(self._image.shape)
        return form_of(shape, layout or self._made.layout, self._dims, 0 if layout else self._made.batch.axis)

    def _response_form(self, response: Tensor, layout: str | None) -> Form:
        """The form of D's response: laid out as the sample is, where it is a sequence as that is."""
        asked, shape = self._asked, tuple(response.shape)
        if layout is not None or asked is None:
            return form_of(shape, layout or "channels_first", self._dims)
        path = next((path for path, tensor in tensors(asked.output) if tensor is response), ())
        batch = asked.answers.get(path, Batch()) or Batch()
        alike = len(shape) == self._image.dim() == 3
        return form_of(shape, self._made.layout if alike else "channels_first", self._dims, batch.axis)

    def _form_in(
        self, trace: Trace, call: Call, path: Path, info: TensorInfo, layout: str | None, at: str, where: str
    ) -> Form:
        """The form of a feature; what the layers around do not tell is said in the plan."""
        if layout is not None:
            return form_of(info.shape, layout, self._dims)
        seen = (
            path if at == "output" else next((p for p, i in call.outputs.items() if i.shape[:2] == info.shape[:2]), ())
        )
        batch = self._axes.of(trace, call, seen)
        if batch is None:
            raise PairingError(
                f"Which axis of {where}, shape {info.shape}, is the batch cannot be told: no part of it is of one "
                "sample alone. Choose another layer, or say how it is laid out: Link(target_layout=…, source_layout=…) "
                "with 'channels_first' (N, C, T), 'channels_last' (N, T, C) or 'time_first' (T, N, C)."
            )
        form = replace(form_of(info.shape, call.layout, self._dims, batch.axis), rows=batch.rows)
        if len(info.shape) == 3 and not call.told and not batch.axis:
            self.notes.append(
                f"{where}, shape {info.shape}, is taken as channels first, (N, C, T): no layer around tells. If it is "
                "not, say Link(target_layout='channels_last'), or source_layout=."
            )
        return form

    def _checked(self, source: Source, info: TensorInfo, batch: int) -> Source:
        if not info.finite:
            raise CriticError(
                f"D's {source.name!r} is NaN or infinite on G's output for the example. Check D's weights, and "
                "that G's value range is the one D was trained on."
            )
        rows = info.shape[source.form.batch_axis]
        if rows != batch and source.name == "image":
            raise PairingError(
                f"The source 'image' has {rows} samples (shape {info.shape}), but the target {batch} rows: several of "
                "a sample (frames, say) are folded into its batch. Choose a target with one row for each sample."
            )
        if rows != batch:
            raise PairingError(
                f"The source {source.name!r} has batch size {rows} (shape {info.shape}), but the "
                f"target {batch}: D does not answer per sample there. Choose an earlier D layer, or pass "
                "response= for the right part of D's answer."
            )
        return source


def module_of(trace: Trace, ref: Ref) -> nn.Module:
    """The module that a reference names in a traced network."""
    return module_named(trace.model, ref)


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
