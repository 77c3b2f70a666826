"""What of a loop is set by its user: how strongly each link corrects, and how often.

Examples:
    >>> loop.strength, loop.steps = 0.5, 2                          # doctest: +SKIP
    >>> loop["main.5"].strength = 0.0                               # doctest: +SKIP
    >>> with loop.settings(strength={0: 0.3}, steps=3):             # doctest: +SKIP
    ...     y = loop(z)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from torch import Tensor, nn

from ..errors import SettingError
from .links import Connection
from .rollout import LinkHandle
from .settings import Settings, Strength, ThreadSettings, check_steps, check_strength


class Adjustable(nn.Module):
    """Links with their modules, their strengths, and the number of steps."""

    def __init__(self, connections: Sequence[Connection], modules: Sequence[nn.Module], steps: int, strength: Strength):
        super().__init__()
        self.feedback = nn.ModuleList(modules)
        self.connections = tuple(connections)
        strengths = tuple(check_strength(connection.strength) for connection in connections)
        self._settings = ThreadSettings(Settings(check_strength(strength), strengths, check_steps(steps)))

    @property
    def strength(self) -> Strength:
        """α for all links: a number, a tensor with one value per sample, or a spatial mask."""
        return self._settings.now.strength

    @strength.setter
    def strength(self, value: Strength) -> None:
        self._settings.set(replace(self._settings.now, strength=check_strength(value)))

    @property
    def steps(self) -> int:
        """T, the number of feedback steps."""
        return self._settings.now.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._settings.set(replace(self._settings.now, steps=check_steps(value)))

    def __getitem__(self, key: str | int) -> LinkHandle:
        index = self._index(key)
        return LinkHandle(self.connections[index], self.feedback[index], self._settings, index)

    def _index(self, key: str | int) -> int:
        if isinstance(key, int):
            if not -len(self.connections) <= key < len(self.connections):
                raise SettingError(f"There is no link {key}: the loop has {len(self.connections)}.")
            return key % len(self.connections)
        found = [i for i, c in enumerate(self.connections) if key in (str(c.target), c.target.name)]
        if len(found) != 1:
            known = ", ".join(f"{i}: {c.target}" for i, c in enumerate(self.connections))
            many = f"{len(found)} links correct" if found else "No link corrects"
            raise SettingError(f"{many} {key!r}. Use the number of one of the links {known}.")
        return found[0]

    def __len__(self) -> int:
        return len(self.connections)

    @contextmanager
    def settings(
        self,
        *,
        strength: Strength | Mapping[str | int, Strength] | None = None,
        steps: int | None = None,
    ) -> Iterator[Self]:
        """Other settings within a ``with`` block, for the code in it: other threads keep theirs. What was before comes
        back, also after an error.

        Args:
            strength: for all links, or ``{link: strength}`` for some.
            steps: T.
        """
        with self._settings.block():
            if isinstance(strength, Mapping):
                for key, value in strength.items():
                    self[key].strength = value
            elif strength is not None:
                self.strength = strength
            if steps is not None:
                self.steps = steps
            yield self

    def _alphas(self, strength: Strength | Mapping[str | int, Strength] | None) -> list[tuple[Strength, ...]]:
        """The factors of each link's strength, those that are 1 left out."""
        now = self._settings.now
        own, every = list(now.strengths), now.strength
        if isinstance(strength, Mapping):
            for key, value in strength.items():
                own[self._index(key)] = check_strength(value)
        elif strength is not None:
            every = check_strength(strength)
        return [tuple(f for f in (every, mine) if isinstance(f, Tensor) or f != 1.0) for mine in own]
