"""What a fit says while it runs: rates, the distance so far, the time left.

Examples:
    >>> progress = Progress(base=97.7)
    >>> progress.expect("clusters", 600)
    >>> print(progress.line("clusters", Score(200, 30.0, 57.1, 1.0), lr=3e-4))
    clusters: step 200, distance 57.1 of 97.7 at strength 1, rate 0.0003; about 1 min left
"""

from collections.abc import Callable, Sequence

from .rounds import Score


class Progress:
    """Steps that are expected, and the time that those took which are done.

    Args:
        base: the distance of G alone.
        callbacks: called with what is trained and its :class:`~fbwrap.recipes.fitting.rounds.Score`.
        say: takes a line.
    """

    def __init__(
        self,
        base: float,
        callbacks: Sequence[Callable[[str, Score], None]] = (),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.base, self._callbacks, self._say = base, callbacks, say
        self._expected: dict[str, int] = {}
        self._taken: dict[str, tuple[int, float]] = {}

    def expect(self, name: str, steps: int) -> None:
        """That ``name`` will be trained until ``steps`` in all; what was expected of it before is forgotten."""
        self._expected[name] = steps

    def tell(self, name: str, score: Score, lr: float) -> None:
        """Say a comparison, and call the callbacks."""
        self._say(self.line(name, score, lr))
        for callback in self._callbacks:
            callback(name, score)

    def line(self, name: str, score: Score, lr: float) -> str:
        """A comparison in words."""
        self._taken[name] = (score.step, score.seconds)
        return (
            f"{name}: step {score.step}, distance {score.distance:.3g} of {self.base:.3g} at strength "
            f"{score.strength:g}, rate {lr:g}; about {max(1, round(self.seconds_left() / 60))} min left"
        )

    def seconds_left(self) -> float:
        """An estimate: what was not trained yet takes as long a step as what was."""
        steps = sum(step for step, _ in self._taken.values())
        each = sum(seconds for _, seconds in self._taken.values()) / max(steps, 1)
        left = 0.0
        for name, expected in self._expected.items():
            done, seconds = self._taken.get(name, (0, 0.0))
            left += max(0, expected - done) * (seconds / done if done else each)
        return left
