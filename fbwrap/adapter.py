"""What an adapter is: all that fbwrap knows about one family of other people's networks, as data.

Examples:
    >>> from torch import nn
    >>> family = GeneratorFamily("Tiny", layers={"up.*": "ConvTranspose2d"}, shapes={"up.0": (None, 8, 2, 2)})
    >>> net = nn.Module()
    >>> net.up = nn.Sequential(nn.ConvTranspose2d(4, 8, 2, 2))
    >>> str(family.verdict(Network(net)))
    'matches: up.* is ConvTranspose2d; up.0 has shape (*, 8, 2, 2)'
    >>> str(family.verdict(Network(nn.Sequential(nn.Linear(4, 8)))))
    'does not match: no layer up.*'

A network is recognised by its layers' names, types and shapes, never by importing its package. An adapter
is found through the entry-point group ``fbwrap.adapters`` (see :mod:`fbwrap.recognition.plugins`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .engine.names import glob_match, names, unwrap
from .engine.trace import Trace, device_of
from .feedback.pairing import spread, stage_names

Shape = tuple[int | None, ...]


class Network:
    """What an adapter may look at: names, types and shapes of layers; sizes, once the network ran."""

    def __init__(self, model: nn.Module, trace: Trace | None = None):
        self.model, self.trace = unwrap(model), trace
        self.layers = names(model)

    def find(self, glob: str) -> list[str]:
        """Names of layers that a glob matches, in the network's order."""
        return glob_match(glob, self.layers)

    def kinds(self, name: str) -> list[str]:
        """A layer's class name and those it inherits, the nearest first; parametrized layers as what they were."""
        found = (kind.__name__.removeprefix("Parametrized") for kind in type(self.layers[name]).__mro__[:-2])
        return list(dict.fromkeys(found))

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Names of the layers that hold no other layers, each once, in the network's order."""
        seen: dict[nn.Module, str] = {}
        for name, module in self.layers.items():
            if "parametrizations" not in name.split(".") and not _inner(module):
                seen.setdefault(module, name)
        return tuple(seen.values())

    @cached_property
    def types(self) -> str:
        """The leaves' types in one line: ``"Conv2d BatchNorm2d ReLU"``; torch's own name where one is inherited."""
        return " ".join(_own_type(self.layers[name]) for name in self.leaves)

    def shape(self, name: str) -> tuple[int, ...]:
        """A layer's shape: (out, in, kernel …) of a convolution, (in, out, kernel …) of a transposed one,
        (out, in) of a linear layer, else its weight's; () without one."""
        layer: Any = self.layers[name]
        if hasattr(layer, "in_channels") and hasattr(layer, "kernel_size"):
            inner, outer, kernel = layer.in_channels, layer.out_channels, tuple(layer.kernel_size)
            return (inner, outer, *kernel) if getattr(layer, "transposed", False) else (outer, inner, *kernel)
        if hasattr(layer, "in_features") and hasattr(layer, "out_features"):
            return (layer.out_features, layer.in_features)
        weight = getattr(layer, "weight", None)
        return tuple(weight.shape) if isinstance(weight, Tensor) else ()

    def leaf(self, kind: str, place: int = 0) -> str:
        """The name of the leaf of a type (a regular expression), counted from 0, or from -1 backwards."""
        return [name for name in self.leaves if re.fullmatch(kind, _own_type(self.layers[name]))][place]

    def noise(self, *shape: int) -> Tensor:
        """Seeded normal noise on the network's device, in its floating-point type."""
        return self._placed(torch.randn(shape, generator=torch.Generator().manual_seed(0)))

    def picture(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Likewise, uniform noise in the range of a picture."""
        return self._placed(low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(0)))

    def _placed(self, tensor: Tensor) -> Tensor:
        like = next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(0))
        return tensor.to(device=device_of(self.model), dtype=like.dtype)

    # -- once it ran --------------------------------------------------------------------------------

    def ran(self) -> Trace:
        """What the network did on its example."""
        if self.trace is None:
            raise ValueError("The network has not run yet: only names, types and shapes are known.")
        return self.trace

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Sizes of the features of layers that are called once: spatial sizes of maps, () of vectors."""
        return {
            call.name: call.outputs[()].shape[2:]
            for call in self.ran().calls
            if call.done and call.alone and () in call.outputs
        }

    def output_sides(self) -> tuple[int, ...]:
        """The spatial size of the samples."""
        return self.ran().sample_shape[2:]

    def stages(self, *sides: int) -> list[str]:
        """The last layer at each resolution below the output's; with ``sides``, at these resolutions only."""
        sizes = self.sizes()
        names = [name for name in stage_names(self.ran()) if name in sizes]
        return [name for name in names if not sides or (sizes[name] and sizes[name][0] in sides)]

    def indices(self, parent: str, *, having: str) -> list[int]:
        """Numbers of the children of a list or Sequential that have a layer of that name."""
        found = (name.removeprefix(f"{parent}.").split(".") for name in self.layers if name.startswith(f"{parent}."))
        return [int(parts[0]) for parts in found if parts[1:] == [having] and parts[0].isdigit()]

    def spread(self, layers: str | Sequence[str], count: int = 4) -> list[str]:
        """Of some layers, or of those that a glob matches, ``count`` spread along the network, the last among
        them (AFL's ESRGAN: after blocks 5, 11, 17 and 22 of 23)."""
        return spread(self.find(layers) if isinstance(layers, str) else layers, count)


@dataclass(frozen=True)
class Verdict:
    """Whether a family matches a network, and why."""

    matches: bool
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return ("matches: " if self.matches else "does not match: ") + "; ".join(self.reasons)


@dataclass(frozen=True)
class Family:
    """How networks of one family are recognised: everything named here must be so.

    Args:
        name: as its users know it, for example the class's name.
        layers: ``{name or glob: type}``: such a layer is there, and (each of them) of this type or a
            subclass of it; a regular expression over class names, ``""`` for any.
        shapes: ``{name: shape}`` as :meth:`Network.shape` has them; None for any number.
        types: a regular expression that the line of all leaves' types (:attr:`Network.types`) contains.
        lacks: names or globs of layers that are not there.
    """

    name: str
    layers: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    types: str | None = None
    lacks: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """How much is asked for: of several families that match, the one that asks for most is taken."""
        return len(self.layers) + len(self.shapes) + len(self.lacks) + (self.types is not None)

    def verdict(self, net: Network) -> Verdict:
        """Whether ``net`` is of this family: all reasons for, or the first against."""
        found: list[str] = []
        for glob, kind in self.layers.items():
            layers = net.find(glob)
            if not layers:
                return Verdict(False, (f"no layer {glob}",))
            for name in layers:
                if kind and not any(re.fullmatch(kind, each) for each in net.kinds(name)):
                    return Verdict(False, (f"{name} is {net.kinds(name)[0]}, not {kind}",))
            found.append(f"{glob} is {kind}" if kind else f"{glob} is there")
        for name, shape in self.shapes.items():
            if name not in net.layers:
                return Verdict(False, (f"no layer {name}",))
            actual = net.shape(name)
            fits = len(actual) == len(shape) and all(b in (None, a) for a, b in zip(actual, shape, strict=True))
            if not fits:
                return Verdict(False, (f"{name} has shape {_shown(actual)}, not {_shown(shape)}",))
            found.append(f"{name} has shape {_shown(shape)}")
        for glob in self.lacks:
            if net.find(glob):
                return Verdict(False, (f"it has {net.find(glob)[0]}",))
            found.append(f"no {glob}")
        if self.types is not None:
            if not re.search(self.types, net.types):
                return Verdict(False, (f"its layers stand in another order: {_first(net.types)}",))
            found.append("layers' types in the known order")
        return Verdict(bool(found), tuple(found) or ("nothing is asked for",))


Targets = Sequence[str] | Callable[[Network], Sequence[str]]


@dataclass(frozen=True)
class GeneratorFamily(Family):
    """A family of generators, and how feedback is attached to them.

    Args:
        example: ``f(network)``: inputs for one forward pass, as :func:`fbwrap.attach` takes them.
        targets: the layers to correct: names and globs, or ``f(network)`` of the network that ran. None:
            the last layer of each resolution.
        placements: other sets of layers by name, for ``layers="auto:NAME"``.
        module: the kind of feedback module, as in :func:`fbwrap.attach`.
        steps: T, as in the paper.
        method: the method that generates, if it is not calling the network: ``"decode"`` of a VAE.
        value_range: of its samples.
    """

    example: Callable[[Network], object] | None = None
    targets: Targets | None = None
    placements: Mapping[str, Targets] = field(default_factory=dict)
    module: Any = "dual"
    steps: int = 1
    method: str = "forward"
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class CriticFamily(Family):
    """A family of discriminators, and how they are asked.

    Args:
        sources: the layers whose features say most: names and globs. Each target is paired with the one
            nearest in size. None: any layer.
        critic_input: a preset's name, or ``f(generator, critic)``, networks that return one.
        response: the path to its response, as in :func:`fbwrap.attach`.
        loss: the adversarial loss that its paper trained it with, by the recipes' name (``fbwrap.recipes.LOSSES``), or
            ``f(critic)``; None: papers differ, and the user is asked.
        size: an attribute that holds the only height that it takes, though the layers before ``sources``
            take any: while it is read it holds that of the sample.
        pack: an attribute that holds how many samples it judges as one (CTGAN's ``pac``).
    """

    sources: Sequence[str] | None = None
    critic_input: str | Callable[[Network, Network], str] = "output"
    response: str | None = None
    loss: str | Callable[[Network], str | None] | None = None
    size: str | None = None
    pack: str | None = None


@dataclass(frozen=True)
class Adapter:
    """What is known about the networks of one paper, repository or package.

    Args:
        name: short, as in ``fbwrap.attach(..., adapter=name)``.
        citation: where the networks come from.
        generators, critics: the families.
        holders: ``{class name: attribute}``: objects that are not modules, but hold the generator.
        build: for critics made by name, ``"NAME:SPEC"``: ``f(SPEC, value_range, bare)`` returns the critic; with
            ``bare`` its weights are about to be loaded. ``critic.reproducible`` says whether it is the same each time,
            ``critic.no_response`` (a text) why its response means nothing.
        load: for generators by name, ``"NAME:FILE"``: ``f(FILE)`` returns the generator.
        files: for those on the Hub, ``"NAME:user/name/INSIDE"``: ``f(INSIDE)`` says which files it wants of that
            repository, safetensors and ``config.json`` alone, the weights last; ``load`` then gets INSIDE's path on
            disk.
    """

    name: str
    citation: str
    generators: tuple[GeneratorFamily, ...] = ()
    critics: tuple[CriticFamily, ...] = ()
    holders: Mapping[str, str] = field(default_factory=dict)
    build: Callable[[str, tuple[float, float], bool], nn.Module] | None = None
    load: Callable[[str], nn.Module] | None = None
    files: Callable[[str], tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        for what, kind in (("generators", GeneratorFamily), ("critics", CriticFamily)):
            families = getattr(self, what)
            if not isinstance(families, tuple) or not all(isinstance(family, kind) for family in families):
                raise TypeError(f"Adapter {self.name!r}: {what} must be a tuple of {kind.__name__}, not {families!r}.")


def _inner(module: nn.Module) -> bool:
    return any(name != "parametrizations" for name, child in module.named_children() if child is not None)


def _own_type(module: nn.Module) -> str:
    """The class's name, or that of torch's own class that it inherits."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.nn.modules.") and kind is not nn.Module:
            return kind.__name__
    return type(module).__name__.removeprefix("Parametrized")


def _first(types: str, count: int = 6) -> str:
    listed = types.split()
    return " ".join(listed[:count]) + " …" * (len(listed) > count)


def _shown(shape: Shape) -> str:
    return f"({', '.join('*' if n is None else str(n) for n in shape)})"
