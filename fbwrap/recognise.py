"""Which adapter knows a generator and a discriminator, and what it says: ``fbwrap.explain``.

Example:
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

from .adapter import Adapter, CriticFamily, Family, GeneratorFamily, Network, Verdict
from .bases import held
from .critic import critic_input_of
from .errors import SettingError
from .links import Link
from .naming import names, unwrap
from .pairing import auto, best_source, targets_of
from .plugins import adapters, broken, tried
from .probe import Batch, Trace
from .signals import form_of

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


def explain(generator: Any = None, discriminator: nn.Module | None = None) -> Explanation:
    """Say for each adapter why it did or did not match; neither network is run.

    Args:
        generator: as for :func:`fbwrap.attach`; None: only the discriminator is looked at.
        discriminator: a module, or None.

    Returns:
        A report that prints, with what was recognised in ``.generator`` and ``.discriminator``.
    """
    net, _ = held(generator)
    for what, network in (("generator", net), ("discriminator", discriminator)):
        if not isinstance(network, nn.Module | None):
            raise SettingError(f"{what}={network!r} is not a torch.nn.Module.")
    return _asked(net, discriminator, adapters())


def _asked(generator: nn.Module | None, critic: nn.Module | None, known: Sequence[Adapter]) -> Explanation:
    verdicts: list[tuple[str, str, str, Verdict]] = []
    best: dict[str, Match] = {}
    for role, model in (("generator", generator), ("discriminator", critic)):
        if model is None:
            continue
        net = Network(model)
        for adapter in known:
            families: Sequence[Family] = adapter.generators if role == "generator" else adapter.critics
            for family in families:
                verdict = tried(adapter, "verdict", family.verdict, net) or Verdict(False, ("the adapter failed",))
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
        self.found = _asked(generator, critic, _chosen(adapter))
        made, asked = self.found.generator, self.found.discriminator
        family = made.family if made else None
        self._made = family if isinstance(family, GeneratorFamily) else GeneratorFamily("")
        family = asked.family if asked else None
        self._asked = family if isinstance(family, CriticFamily) else CriticFamily("")

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
        return self._made.module

    @property
    def steps(self) -> int:
        """T."""
        return self._made.steps

    @property
    def method(self) -> str:
        """The method of G that generates."""
        match, name = self.found.generator, self._made.method
        if match and not callable(getattr(unwrap(self._generator), name, None)):
            return str(tried(match.adapter, "method", getattr, unwrap(self._generator), name) or "forward")
        return name

    @property
    def response(self) -> str | None:
        """Where D's response is."""
        return self._asked.response

    @property
    def loss(self) -> str | None:
        """The loss that D was trained with."""
        match, loss = self.found.discriminator, self._asked.loss
        if match is None or self._critic is None or not callable(loss):
            return loss if isinstance(loss, str) else None
        net = Network(self._critic)
        return tried(match.adapter, "loss", lambda: loss(net))

    @property
    def size(self) -> str | None:
        """The attribute of D that holds the only height that it takes."""
        return self._asked.size

    def value_range(self, made: Trace) -> tuple[float, float] | None:
        """Of G's samples: as its last layer tells, else as its family is known to have it; None where neither does."""
        ended = sorted((call for call in made.calls if call.done), key=lambda call: -call.end)
        last = next((call for call in ended if not list(call.module.children())), None)
        return _RANGES.get(type(last.module).__name__ if last else "") or self._made.value_range

    def example(self) -> Any:
        """Inputs of G; None where nobody knows."""
        match = self.found.generator
        if match is None or self._made.example is None:
            return None
        return tried(match.adapter, "example", self._made.example, Network(self._generator))

    def critic_input(self, made: Trace) -> str:
        """The preset with which D is called."""
        match, how = self.found.discriminator, self._asked.critic_input
        if match is None or isinstance(how, str) or self._critic is None:
            return how if isinstance(how, str) else "output"
        pair = Network(self._generator, made), Network(self._critic)
        return tried(match.adapter, "critic_input", lambda: critic_input_of(str(how(*pair)))[0]) or "output"

    def links(
        self, placement: str, made: Trace, asked: Trace | None, image_dims: int, source: tuple[str, ...] | None
    ) -> list[Link]:
        """The links of ``layers="auto"`` and ``"auto:PLACEMENT"``.

        Args:
            source: where the module kind takes its signals from; None: from D's layers.
        """
        targets = self._targets(made, placement)
        if source is not None or asked is None:
            wanted = ("image",) if asked is None else source
            return [Link(target, wanted) for target in targets or targets_of(made)]
        if not targets:
            return [Link(g, d) for g, d in auto(made, asked, image_dims, self._asked.sources)]
        return [Link(target, self._source(made, target, asked, image_dims)) for target in targets]

    def _targets(self, made: Trace, placement: str) -> list[str]:
        match, wanted = self.found.generator, self._made.targets
        if placement:
            if placement not in self._made.placements:
                known = ", ".join(f"'auto:{name}'" for name in self._made.placements) or "none"
                raise SettingError(f"layers='auto:{placement}': for this generator adapters know {known}.")
            wanted = self._made.placements[placement]
        if match is None or wanted is None:
            return []
        net, how = Network(self._generator, made), wanted
        called = {call.name for call in made.calls if call.done}

        def targets() -> list[str]:
            globs = how(net) if callable(how) else how
            return [name for glob in globs for name in net.find(glob) if name in called]

        return tried(match.adapter, "targets", targets) or []

    def _source(self, made: Trace, target: str, asked: Trace, image_dims: int) -> str:
        call = made.calls_of(names(made.model)[target])[0]
        path, info = next(iter(call.outputs.items()))
        batch = call.batches.get(path, None) or Batch()
        form = form_of(info.shape, call.layout, image_dims, batch.axis)
        return str(best_source(form, asked, image_dims, self._asked.sources)[0])

    def facts(self, ran: Trace) -> dict[str, Any]:
        """What a head says about the networks that it was made for."""
        made, asked = self.found.generator, self.found.discriminator
        matches, span = [match for match in (made, asked) if match], self.value_range(ran)
        return {
            "generator": str(made) if made else None,
            "discriminator": str(asked) if asked else None,
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
