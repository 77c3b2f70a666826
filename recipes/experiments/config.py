"""One experiment as a value: networks, data, links, options, and the size that runs in seconds.

Examples:
    >>> from fbwrap.recipes.experiments import EXPERIMENTS
    >>> config = EXPERIMENTS["cifar10_dcgan"]
    >>> config.head["lr"], config.changed({"head.lr": "1e-3", "width": "8"}).width
    (0.0002, 8)
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fbwrap.errors import SettingError
from fbwrap.feedback.settings import check_strength

Networks = tuple[nn.Module, nn.Module]


@dataclass(frozen=True)
class Experiment:
    """One experiment of the papers.

    Args:
        about: where it is from.
        recipe: ``"AFL"`` or ``"FAL"``.
        networks: ``f(config)`` gives G and D.
        data: ``f(folder, config)`` gives real data, or :class:`~fbwrap.recipes.Pairs`.
        example: ``f(config)`` gives G's inputs for one sample; and, where data is not paired, its latents' shape.
        layers, module, feedback_steps: as ``layers``, ``module`` and ``steps`` of :func:`fbwrap.attach`.
        critic_input: as there.
        strength: α that the head is saved with; in training it is 1. (With ``head.held_out`` it is chosen.)
        size, z, width, blocks: of the networks.
        base_steps, steps: optimizer steps of both phases.
        reading: further arguments of the data's source: ``data.on_error=skip``, of voxels ``data.packed=True``.
        base, head: options of both phases.
        smoke: what a run in seconds changes.
    """

    about: str
    recipe: str
    networks: Callable[["Experiment"], Networks]
    data: Callable[[Path | None, "Experiment"], Any]
    latent: Callable[["Experiment"], tuple[int, ...]] | None = None
    example: Callable[["Experiment"], Tensor] | None = None
    layers: Any = "auto"
    module: Any = "dual"
    feedback_steps: int = 1
    critic_input: str | None = None
    size: int | tuple[int, int] = 32
    strength: float = 1.0
    z: int = 128
    width: int = 64
    blocks: int = 9
    base_steps: int = 0
    steps: int = 100_000
    reading: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, object] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    smoke: Mapping[str, object] = field(default_factory=dict)

    @property
    def side(self) -> int:
        """The height of its images, or the side of its cubes."""
        return self.size if isinstance(self.size, int) else self.size[0]

    def changed(self, settings: Mapping[str, object]) -> "Experiment":
        """With other settings: ``{"steps": 10, "head.lr": "1e-3"}``; text is read as a literal.

        Raises:
            SettingError: there is no such setting.
        """
        new: Experiment = self
        for key, value in settings.items():
            group, dot, name = key.partition(".")
            given = _literal(value)
            change: dict[str, Any] = {key: given}
            if dot and group in ("base", "head", "data"):
                group = "reading" if group == "data" else group
                change = {group: {**getattr(new, group), name: given}}
                new = replace(new, **change)
            elif not dot and key in ("size", "z", "width", "blocks", "base_steps", "steps", "layers", "module",
                                     "feedback_steps", "strength"):  # fmt: skip
                _check(key, given, getattr(new, key))
                new = replace(new, **change)
            else:
                raise SettingError(
                    f"There is no setting {key!r}. There are size, z, width, blocks, base_steps, steps, layers, "
                    "module, feedback_steps, strength, the options of both phases: base.lr, head.batch, …, and of "
                    "reading the data: data.on_error, …"
                )
        return new

    def small(self) -> "Experiment":
        """The smoke size."""
        return self.changed({"base_steps": min(self.base_steps, 2), "steps": 2, "head.recalibrate": 1, **self.smoke})


def _check(key: str, given: Any, before: object) -> None:
    """Refuse a setting of another kind than what it was."""
    if key == "base_steps":
        if type(given) is not int or given < 0:
            raise SettingError(f"base_steps={given!r}: pass a whole number, 0 or more.")
    elif key == "strength":
        check_strength(given)
    elif key == "size" and isinstance(before, tuple):
        if not isinstance(given, tuple | list) or len(given) != len(before) or not all(map(_positive, given)):
            raise SettingError(f"{key}={given!r}: pass a height and a width, such as '{before}'.")
    elif isinstance(before, int) and not _positive(given):
        raise SettingError(f"{key}={given!r}: pass a whole number, 1 or more.")


def _positive(given: object) -> bool:
    return type(given) is int and given >= 1


def _literal(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value
