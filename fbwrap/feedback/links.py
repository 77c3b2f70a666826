"""Links: what the user asks for (:class:`Link`) and what it became (:class:`Connection`).

Examples:
    >>> Link("main.5", "main.2", module="dual", strength=0.5).target
    'main.5'
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from ..engine.names import Ref
from ..engine.replay import Site
from ..errors import SettingError
from .features import FRAMES, SPECTROGRAMS, FeatureSpec
from .modules import ModuleSpec

Layer = str | nn.Module
LAYOUTS = ("channels_first", "channels_last", "time_first")  # and "frames" of a target


@dataclass(frozen=True)
class Link:
    """One connection: source in D → feedback module → target layer in G.

    Args:
        target: the layer of G to correct: a name, ``"NAME#CALL"``, ``"NAME[KEY]"``, or the module.
        source: a D layer (likewise; ``"conv4:input"``: what it is given, where an activation has no module of its
            own), ``"response"``, ``"image"``, or several of these. None pairs by spatial size, or takes what the module
            asks for (AST: image and response).
        module: a kind's name as :func:`fbwrap.attach` takes it, a dict with options such as
            ``{"kind": "dual", "convs": 3, "norm": "none"}``, or a class of your own. None takes the one
            given to :func:`fbwrap.attach`.
        strength: α of this link.
        carry: whether the corrected feature is carried from step to step (FAL); None: the module's way.
        at: ``"output"`` of the layer, or its ``"input"``.
        feature: which φ the module sees: of the ``"current"`` pass (default, as the AFL authors' code)
            or of the ``"previous"`` one (AFL Eq. 5).
        target_layout, source_layout: ``"channels_first"`` (N, C, …), ``"channels_last"`` (N, …, C) or ``"time_first"``
            (T, N, C), where what the layers around tell is wrong (``print(loop.plan)`` says what was taken). A source
            may be a spectrogram, ``"frequency_time"`` (N, C, F, T) or ``"time_frequency"`` (N, C, T, F). A target may
            be ``"frames"`` (N·T, C, H, W) of videos, whose frames follow each other in the batch.
    """

    target: Layer
    source: Layer | Sequence[Layer] | None = None
    module: Any = None
    strength: float | Tensor = 1.0
    carry: bool | None = None
    at: Literal["output", "input"] = "output"
    feature: Literal["current", "previous"] = "current"
    target_layout: str | None = None
    source_layout: str | None = None

    def __post_init__(self) -> None:
        if self.at not in ("output", "input"):
            raise SettingError(f"Link(at={self.at!r}): pass 'output' or 'input'.")
        if self.feature not in ("current", "previous"):
            raise SettingError(f"Link(feature={self.feature!r}): pass 'current' or 'previous'.")
        targets, sources = (*LAYOUTS, FRAMES), (*LAYOUTS, *SPECTROGRAMS)
        for layout, known in ((self.target_layout, targets), (self.source_layout, sources)):
            if layout not in (None, *known):
                raise SettingError(f"Layout {layout!r}: pass {', '.join(map(repr, known[:-1]))} or {known[-1]!r}.")


@dataclass(frozen=True)
class Source:
    """A resolved source: its name, the D layer (None for the response and the image), its form."""

    name: str
    ref: Ref | None
    form: FeatureSpec


@dataclass(frozen=True)
class Connection:
    """A link resolved against a G and a D."""

    target: Ref
    at: str
    site: Site
    form: FeatureSpec
    sources: tuple[Source, ...]
    spec: ModuleSpec
    strength: float | Tensor
    carry: bool
    feature_of: str

    @property
    def place(self) -> str:
        """The layer of G as a user names it: ``"up1"``, ``"head:input"``."""
        return str(self.target if self.at == "output" else replace(self.target, at="input"))

    def __str__(self) -> str:
        return f"{self.place} <- {self.spec.kind} <- {' + '.join(s.name for s in self.sources)}"

    def to_config(self) -> Mapping[str, Any]:
        """This link as plain data, for a head's config."""
        return {
            "target": str(self.target),
            "at": self.at,
            "sources": [source.name for source in self.sources],
            "module": {"kind": self.spec.kind, **self.spec.options},
            "own_module": self.spec.factory is not None,
            "carry": self.carry,
            "feature": self.feature_of,
            "target_layout": self.form.layout_name,
            "source_layouts": [source.form.layout_name for source in self.sources],
        }
