"""The feedback networks: AFL's basic and dual module, a light one, pyramids, FAL's AST and ablations.

Examples:
    >>> import torch
    >>> module = build("dual", FeatureSpec(64, (8, 8)), (FeatureSpec(128, (8, 8)),))
    >>> correction = module(torch.randn(2, 64, 8, 8), torch.randn(2, 128, 8, 8))
    >>> correction.shape, float(correction.abs().sum())
    (torch.Size([2, 64, 8, 8]), 0.0)

Every module takes the target's feature and the signals as ``(N, C, *spatial)`` maps (0 to 3 spatial
dimensions) and returns a *correction* of the feature's shape. With ``init="zero"``, the default, the
last layer starts at zero, so that a fresh module changes nothing; ``init="paper"`` starts as the
papers do. Anyone's own module: subclass :class:`FeedbackModule`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from ..errors import SettingError
from .afl_modules import Basic, Dual, Light
from .blocks import FeedbackModule
from .features import FeatureSpec
from .pyramids import FPN, Pyramid
from .transforms import AST, Add, Concat, FiLM

KINDS: Mapping[str, type[FeedbackModule]] = {
    "basic": Basic,
    "dual": Dual,
    "light": Light,
    "pyramid": Pyramid,
    "fpn": FPN,
    "ast": AST,
    "film": FiLM,
    "concat": Concat,
    "add": Add,
}


@dataclass(frozen=True)
class ModuleSpec:
    """A module as data: its kind's name and its options, as a head stores them."""

    kind: str
    options: Mapping[str, object] = field(default_factory=dict)
    factory: Callable[..., nn.Module] | None = None

    @property
    def default(self) -> type[FeedbackModule]:
        """The class whose defaults (carry, source, resizing) hold for this module."""
        if isinstance(self.factory, type) and issubclass(self.factory, FeedbackModule):
            return self.factory
        return KINDS.get(self.kind, FeedbackModule)


def spec_of(choice: object) -> ModuleSpec:
    """Read ``module=``: a kind's name, ``{"kind": name, option: value}``, or a class of one's own.

    Raises:
        SettingError: an unknown kind, or something that is none of these.
    """
    if isinstance(choice, ModuleSpec):
        return choice
    if isinstance(choice, str):
        choice = {"kind": choice}
    if isinstance(choice, Mapping):
        options = {str(key): value for key, value in choice.items() if key != "kind"}
        kind = choice.get("kind")
        if kind in KINDS:
            return ModuleSpec(str(kind), options)
        raise SettingError(
            f"There is no feedback module {kind!r}. There are {', '.join(KINDS)}; for one of your own "
            "pass the class, a subclass of fbwrap.FeedbackModule."
        )
    if isinstance(choice, nn.Module):
        raise SettingError(
            f"module={type(choice).__name__}(...) is one module, but each link needs its own. Pass the "
            "class itself: it is called with the form of the feature and of each signal."
        )
    if callable(choice):
        return ModuleSpec(getattr(choice, "__name__", type(choice).__name__), {}, choice)
    raise SettingError(f"module={choice!r} is neither a kind's name nor a module class.")


def build(choice: object, feature: FeatureSpec, signals: tuple[FeatureSpec, ...]) -> nn.Module:
    """Make one feedback module for a feature and its signals."""
    spec = spec_of(choice)
    factory = spec.factory or KINDS[spec.kind]
    try:
        return factory(feature, *signals, **spec.options)
    except TypeError as error:
        raise SettingError(
            f"The feedback module {spec.kind!r} cannot be made with options {dict(spec.options)}: {error}."
        ) from error
