"""What a fit found: the loop, the verdict, the numbers behind it.

Examples:
    >>> result = fbwrap.fit(G, D, images, latents="normal", example=z)                   # doctest: +SKIP
    >>> result.verdict, result.loop(z)                                                   # doctest: +SKIP
"""

from dataclasses import dataclass, field

from fbwrap.loop import FeedbackLoop

from .measure import Generator, Interval
from .rounds import Score
from .verdict import Verdict


@dataclass(frozen=True)
class Row:
    """One line of the table: a generator's distance to the test part, and that over the base's, with intervals."""

    model: str
    distance: Interval
    over_base: Interval
    beside: dict[str, float]  # precision and recall; with pairs the root of the mean squared error


@dataclass(frozen=True)
class Chosen:
    """What was chosen on the validation part: the way, the step of its best head, its strength, and T; and the way
    whose D trained G further (empty where nothing was compared). The table's head is that one; a head that is no gain
    is saved at strength 0 all the same."""

    way: str
    step: int
    strength: float
    feedback_steps: int
    critic_of_rivals: str = ""


@dataclass
class Result:
    """What a fit found.

    Attributes:
        loop: G with the chosen head, at the chosen strength and T; at strength 0 where it is no gain.
        verdict: what to do with it; ``why``: in words.
        rows: the table.
        sweep: distance to the validation part by strength.
        history: each way's scores on the validation part.
        space: what distances are measured in.
        seconds: of the whole fit.
        chosen: the way, its step, strength and T.
        rivals: what the head was compared with, as functions of G's inputs.
        without_critic: where the verdict is "no gain" and the modules that were trained on zeros are better than G:
            they, as a loop that never asks D.
    """

    loop: FeedbackLoop
    verdict: Verdict
    why: str
    rows: list[Row]
    sweep: dict[float, float]
    history: dict[str, list[Score]]
    space: str
    seconds: float
    chosen: Chosen
    rivals: dict[str, Generator] = field(default_factory=dict)
    without_critic: FeedbackLoop | None = None

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.verdict.value}\n{self.why}"

    def table(self) -> str:
        """The rows as a Markdown table."""
        names = list(self.rows[0].beside)
        lines = [
            f"| model | distance to the test part (95 %) | over the base (95 %) | {' | '.join(names)} |",
            "| --- | --- | --- |" + " --- |" * len(names),
        ]
        for row in self.rows:
            over = "1" if row.model == "base" else str(row.over_base)
            cells = (row.model, row.distance, over, *(f"{row.beside[name]:.3g}" for name in names))
            lines.append(f"| {' | '.join(map(str, cells))} |")
        return "\n".join(lines)
