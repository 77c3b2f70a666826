"""Which adapter knows a generator and a discriminator, and what it says: ``fbwrap.explain``.

Examples:
    >>> import fbwrap
    >>> from torch import nn
    >>> G = nn.Sequential(nn.ConvTranspose2d(8, 4, 4, 1, 0), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh())
    >>> print(fbwrap.explain(G).generator)
    dcgan: transposed convolutions
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..adapter import Adapter, CriticFamily, Family, GeneratorFamily, Network, Verdict
from ..engine.names import names, unwrap
from ..engine.trace import Batch, Trace
from ..errors import SettingError
from ..feedback.critic import critic_input_of
from ..feedback.features import feature_spec_of
from ..feedback.links import Link
from ..feedback.pairing import auto, best_source, targets_of
from .named import resolve_generator
from .plugins import adapters, ask, broken

_RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}


@dataclass(frozen=True)
class Match:
    """The family that a network was recognised as, and its adapter."""

    adapter: Adapter
    family: Family

    def __str__(self) -> str:
        return f"{self.adapter.name}: {self.family.name}"


@dataclass(frozen=True)
class Explanation:
    """What was recognised, and of every adapter why it did or did not match; prints as a report.

    Attributes:
        generator, discriminator: what was recognised; None: no adapter knows it.
        verdicts: one ``(role, adapter, family, verdict)`` for each family that was asked.
        broken: plugins that could not be loaded, and why.
    """

    generator: Match | None
    discriminator: Match | None
    verdicts: tuple[tuple[str, str, str, Verdict], ...] = ()
    broken: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        asked = {who for who, *_ in self.verdicts}
        lines = [
            f"{who}: {match or ('no adapter knows it' if who in asked else 'none')}"
            for who, match in (("generator", self.generator), ("discriminator", self.discriminator))
        ]
        for role in ("generator", "discriminator"):
            mine = [(f"{adapter}: {family}", verdict) for who, adapter, family, verdict in self.verdicts if who == role]
            width = max((len(name) for name, _ in mine), default=0)
            lines += ["", f"as a {role}:"] * bool(mine)
            lines += [f"  {name:<{width}}  {verdict}" for name, verdict in mine]
        lines += [f"broken plugin {name}: {why}" for name, why in self.broken.items()]
        return "\n".join(lines)


def explain(generator: object = None, discriminator: nn.Module | None = None) -> Explanation:
    """Say for each adapter why it did or did not match; neither network is run.

    Args:
        generator: as for :func:`fbwrap.attach`; None: only the discriminator is looked at.
        discriminator: a module, or None.

    Returns:
        A report that prints, with what was recognised in ``.generator`` and ``.discriminator``.
    """
    net, _ = resolve_generator(generator)
    for what, network in (("generator", net), ("discriminator", discriminator)):
        if not isinstance(network, nn.Module | None):
            raise SettingError(f"{what}={network!r} is not a torch.nn.Module.")
    return _explained(net, discriminator, adapters())


def _explained(generator: nn.Module | None, critic: nn.Module | None, known: Sequence[Adapter]) -> Explanation:
    verdicts: list[tuple[str, str, str, Verdict]] = []
    best: dict[str, Match] = {}
    for role, model in (("generator", generator), ("discriminator", critic)):
        if model is None:
            continue
        net = Network(model)
        for adapter in known:
            families: Sequence[Family] = adapter.generators if role == "generator" else adapter.critics
            for family in families:
                verdict = ask(adapter, "verdict", family.verdict, net) or Verdict(False, ("the adapter failed",))
                verdicts.append((role, adapter.name, family.name, verdict))
                if verdict.matches and (role not in best or family.weight > best[role].family.weight):
                    best[role] = Match(adapter, family)
    return Explanation(best.get("generator"), best.get("discriminator"), tuple(verdicts), broken())


class Recognised:
    """What adapters know about one pair; every question has an answer where none knows it.

    Args:
        adapter: ``"auto"``: all that are installed; a name or an :class:`Adapter`: that one; None: none.
    """

    def __init__(self, generator: nn.Module, critic: nn.Module | None, adapter: str | Adapter | None):
        self._generator, self._critic = generator, critic
        self._adapter = adapter
        self.found = _explained(generator, critic, _chosen(adapter))
        generator_match, critic_match = self.found.generator, self.found.discriminator
        family = generator_match.family if generator_match else None
        self._generator_family = family if isinstance(family, GeneratorFamily) else GeneratorFamily("")
        family = critic_match.family if critic_match else None
        self._critic_family = family if isinstance(family, CriticFamily) else CriticFamily("")

    def check(self) -> None:
        """Refuse an adapter that was asked for and knows neither network."""
        if self._adapter not in ("auto", None) and not (self.found.generator or self.found.discriminator):
            raise SettingError(
                f"The adapter {getattr(self._adapter, 'name', self._adapter)!r} does not know these networks:\n"
                f"{self.found}\nPass adapter='auto', or name layers, example and critic_input yourself."
            )

    @property
    def module(self) -> Any:
        """The kind of feedback module."""
        return self._generator_family.module

    @property
    def steps(self) -> int:
        """T."""
        return self._generator_family.steps

    @property
    def method(self) -> str:
        """The method of G that generates."""
        match, name = self.found.generator, self._generator_family.method
        if match and not callable(getattr(unwrap(self._generator), name, None)):
            return str(ask(match.adapter, "method", getattr, unwrap(self._generator), name) or "forward")
        return name

    @property
    def response(self) -> str | None:
        """Where D's response is."""
        return self._critic_family.response

    @property
    def loss(self) -> str | None:
        """The loss that D was trained with."""
        match, loss = self.found.discriminator, self._critic_family.loss
        if match is None or self._critic is None or not callable(loss):
            return loss if isinstance(loss, str) else None
        net = Network(self._critic)
        return ask(match.adapter, "loss", lambda: loss(net))

    @property
    def size(self) -> str | None:
        """The attribute of D that holds the only height that it takes."""
        return self._critic_family.size

    @property
    def pack(self) -> int:
        """How many samples D judges as one."""
        name = self._critic_family.pack
        held = getattr(unwrap(self._critic), name, 1) if name and self._critic is not None else 1
        return held if isinstance(held, int) and held > 0 else 1

    def value_range(self, generator_trace: Trace) -> tuple[float, float] | None:
        """Of G's samples: as its last layer tells, else as its family is known to have it; None where neither does."""
        ended = sorted((call for call in generator_trace.calls if call.done), key=lambda call: -call.end)
        last = next((call for call in ended if not list(call.module.children())), None)
        return _RANGES.get(type(last.module).__name__ if last else "") or self._generator_family.value_range

    def example(self) -> Any:
        """Inputs of G; None where nobody knows."""
        match = self.found.generator
        if match is None or self._generator_family.example is None:
            return None
        return ask(match.adapter, "example", self._generator_family.example, Network(self._generator))

    def critic_input(self, generator_trace: Trace) -> str:
        """The preset with which D is called."""
        match, how = self.found.discriminator, self._critic_family.critic_input
        if match is None or isinstance(how, str) or self._critic is None:
            return how if isinstance(how, str) else "output"
        pair = Network(self._generator, generator_trace), Network(self._critic)
        return ask(match.adapter, "critic_input", lambda: critic_input_of(str(how(*pair)))[0]) or "output"

    def links(
        self,
        placement: str,
        generator_trace: Trace,
        critic_trace: Trace | None,
        image_dims: int,
        source: tuple[str, ...] | None,
    ) -> list[Link]:
        """The links of ``layers="auto"`` and ``"auto:PLACEMENT"``.

        Args:
            source: where the module kind takes its signals from; None: from D's layers.
        """
        targets = self._targets(generator_trace, placement)
        if source is not None or critic_trace is None:
            wanted = ("image",) if critic_trace is None else source
            return [Link(target, wanted) for target in targets or targets_of(generator_trace)]
        if not targets:
            return [Link(g, d) for g, d in auto(generator_trace, critic_trace, image_dims, self._critic_family.sources)]
        return [Link(target, self._source(generator_trace, target, critic_trace, image_dims)) for target in targets]

    def _targets(self, generator_trace: Trace, placement: str) -> list[str]:
        match, wanted = self.found.generator, self._generator_family.targets
        if placement:
            if placement not in self._generator_family.placements:
                known = ", ".join(["'auto'", *(f"'auto:{name}'" for name in self._generator_family.placements)])
                raise SettingError(
                    f"layers='auto:{placement}': this generator has no such set of links. Pass one of: {known}."
                )
            wanted = self._generator_family.placements[placement]
        if match is None or wanted is None:
            return []
        net, how = Network(self._generator, generator_trace), wanted
        called = {call.name for call in generator_trace.calls if call.done}

        def targets() -> list[str]:
            globs = how(net) if callable(how) else how
            return [name for glob in globs for name in net.find(glob) if name in called]

        return ask(match.adapter, "targets", targets) or []

    def _source(self, generator_trace: Trace, target: str, critic_trace: Trace, image_dims: int) -> str:
        call = generator_trace.calls_of(names(generator_trace.model)[target])[0]
        path, info = next(iter(call.outputs.items()))
        batch = call.batches.get(path, None) or Batch()
        form = feature_spec_of(info.shape, call.layout, image_dims, batch.axis)
        return str(best_source(form, critic_trace, image_dims, self._critic_family.sources)[0])

    def facts(self, ran: Trace) -> dict[str, Any]:
        """What a head says about the networks that it was made for."""
        found = self.found
        matches, span = [match for match in (found.generator, found.discriminator) if match], self.value_range(ran)
        return {
            "generator": str(found.generator) if found.generator else None,
            "discriminator": str(found.discriminator) if found.discriminator else None,
            "value_range": list(span) if span else None,
            "citations": list(dict.fromkeys(match.adapter.citation for match in matches)),
        }


def _chosen(adapter: str | Adapter | None) -> tuple[Adapter, ...]:
    if adapter is None:
        return ()
    if isinstance(adapter, Adapter):
        return (adapter,)
    if adapter == "auto":
        return adapters()
    named = tuple(each for each in adapters() if each.name == adapter)
    if not named:
        known = ", ".join(each.name for each in adapters())
        raise SettingError(f"There is no adapter {adapter!r}. There are: {known}. Or pass an fbwrap.adapter.Adapter.")
    return named


def build_critic(spec: str, span: tuple[float, float] | None, *, bare: bool = False) -> nn.Module:
    """A critic made by name: ``"timm:resnet18"``.

    Args:
        bare: its weights will be loaded, and none need be fetched.
        span: the range of the samples that it will see; None: nobody knows.

    Raises:
        SettingError: no adapter makes such critics, or the range is not known.
    """
    name, colon, rest = spec.partition(":")
    builders = {adapter.name: adapter.build for adapter in adapters() if adapter.build}
    build = builders.get(name) if colon else None
    if build is None:
        raise SettingError(
            f"discriminator={spec!r}: pass a torch.nn.Module, None, or 'NAME:SPEC' with NAME one of "
            f"{', '.join(builders) or '(no adapter makes critics)'}, for example 'timm:resnet18'."
        )
    if span is None:
        raise SettingError(
            f"discriminator={spec!r} needs to know the range of G's samples, and neither an adapter nor G's last "
            "layer tells it. Pass value_range=, for example value_range=(-1, 1)."
        )
    return build(rest, span, bare)
