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

from .critic import response_of
from .errors import CriticError, PairingError, SettingError
from .links import Connection, Layer, Link, Source
from .modules import ModuleSpec, spec_of
from .naming import Ref, module_named, resolve
from .pairing import best_source
from .plan import call_of
from .probe import TensorInfo, Trace, info_of
from .recognise import Recognised
from .replay import Site
from .settings import check_strength
from .signals import Form, form_of

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
    ):
        self._known = known
        self._made, self._asked = made, asked
        self._response, self._module = response, module
        self._image = image
        self._sample = made.sample_shape or tuple(image.shape)
        self._dims = len(self._sample) - 2

    def links(self, layers: Layers) -> list[Link]:
        """Every item of ``layers`` as a Link."""
        if is_auto(layers):
            placement = str(layers).partition(":")[2]
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
        path, info = _pick(ref, infos, link.at, "generator")
        form = form_of(info.shape, link.target_layout or found.layout, self._dims)
        spec = self._module if link.module is None else spec_of(link.module)
        sources = self._sources(link, spec, form, info.shape[0])
        name = Ref(ref.name, ref.call, ref.path)
        site = Site(module, found.index, path, link.at, str(name), ref.call is None)
        carry = spec.default.carry if link.carry is None else link.carry
        strength = check_strength(link.strength)
        return Connection(name, link.at, site, form, sources, spec, strength, carry, link.feature)

    def _sources(self, link: Link, spec: ModuleSpec, form: Form, batch: int) -> tuple[Source, ...]:
        wanted: Any = link.source
        if wanted is None:
            wanted = spec.default.source
        if wanted is None:
            wanted = (str(best_source(form, self._asked, self._dims)[0]),)
        if isinstance(wanted, str | nn.Module):
            wanted = (wanted,)
        sources = [s for item in wanted for s in self._source(item, link.source_layout, batch)]
        if not sources:
            raise PairingError(f"The link to {link.target!r} has no source.")
        return tuple(sources)

    def _source(self, item: Layer, layout: str | None, batch: int) -> list[Source]:
        if isinstance(item, str) and item == "image":
            return [Source("image", None, self._image_form(layout))]
        if self._asked is None:
            raise PairingError(f"The source {item!r} needs a discriminator, and there is none.")
        if isinstance(item, str) and item == "response":
            if self._asked.error is not None:
                raise CriticError(
                    f"The source 'response' needs all of D, but D refuses G's output: {self._asked.error}."
                )
            info = info_of(response_of(self._asked.output, self._response))
            return [self._checked(Source("response", None, self._form(info, layout)), info, batch)]
        found = []
        for ref in resolve(self._asked.model, item):
            called = call_of(self._asked, module_of(self._asked, ref), ref, "Discriminator")
            path, info = _pick(ref, called.outputs, "output", "discriminator")
            ref = Ref(ref.name, called.index if ref.call is not None else None, path)
            form = self._form(info, layout or called.layout)
            found.append(self._checked(Source(str(ref), ref, form), info, batch))
        return found

    def _image_form(self, layout: str | None) -> Form:
        if len(self._sample) > self._image.dim():
            return replace(form_of(self._sample, "channels_first", self._dims), layout="reshaped")
        return form_of(tuple(self._image.shape), layout or "channels_first", self._dims)

    def _form(self, info: TensorInfo, layout: str | None) -> Form:
        return form_of(info.shape, layout or "channels_first", self._dims)

    def _checked(self, source: Source, info: TensorInfo, batch: int) -> Source:
        if not info.finite:
            raise CriticError(
                f"D's {source.name!r} is NaN or infinite on G's output for the example. Check D's weights, and "
                "that G's value range is the one D was trained on."
            )
        if info.shape[0] != batch:
            raise PairingError(
                f"The source {source.name!r} has batch size {info.shape[0]} (shape {info.shape}), but the "
                f"target {batch}: D does not answer per sample there. Choose an earlier D layer, or pass "
                "response= for the right part of D's answer."
            )
        return source


def module_of(trace: Trace, ref: Ref) -> nn.Module:
    """The module that a reference names in a traced network."""
    return module_named(trace.model, ref)


def _pick(
    ref: Ref, infos: Mapping[tuple[int | str, ...], TensorInfo], at: str, where: str
) -> tuple[tuple[int | str, ...], TensorInfo]:
    """The tensor that is meant in a layer's output or input: the one at the path, or the only one."""
    features = {path: info for path, info in infos.items() if info.is_feature}
    # inputs are kept as (positional, keyword); a user writes NAME[0] or NAME[keyword]
    shown = {path[1:] if at == "input" else path: path for path in features}
    if not ref.path and len(features) == 1:
        return next(iter(features.items()))
    wanted = next((path for path in shown if [*map(str, path)] == [*map(str, ref.path)]), None)
    if wanted is not None:
        return shown[wanted], features[shown[wanted]]
    listed = ", ".join(f"{Ref(ref.name, ref.call, short)} {features[whole].shape}" for short, whole in shown.items())
    what = f"has no feature at {ref}" if ref.path else f"has {len(features)} features"
    raise PairingError(
        f"The {at} of {where} layer {ref.name!r} {what}: {listed or 'none'}. A feature is a "
        "floating-point tensor with a batch and channels. Name one with its path, or choose another layer."
    )
