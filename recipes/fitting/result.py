"""What a fit found: the loop, the verdict, the numbers behind it.

Examples:
    >>> result = fbwrap.fit(G, D, images, latents="normal", example=z)                   # doctest: +SKIP
    >>> result.verdict, result.loop(z)                                                   # doctest: +SKIP
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fbwrap.loop import FeedbackLoop

from .head_run import Score
from .verdict import Verdict

Generator = Callable[..., Any]


@dataclass
class Result:
    """What a fit found.

    Attributes:
        loop: G with the chosen head, at the chosen strength and T; at strength 0 where it is no gain.
        verdict: what to do with it; ``why``: in words.
        rows: the table: a dict a row, distances to the test part with their intervals.
        sweep: distance to the validation part by strength.
        history: each way's scores on the validation part.
        space: what distances are measured in.
        seconds: of the whole fit.
        chosen: the way, its step, strength and T.
        rivals: what the head was compared with, as functions of G's inputs.
    """

    loop: FeedbackLoop
    verdict: Verdict
    why: str
    rows: list[dict[str, Any]]
    sweep: dict[float, float]
    history: dict[str, list[Score]]
    space: str
    seconds: float
    chosen: dict[str, Any] = field(default_factory=dict)
    rivals: dict[str, Generator] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.table()}\n\n{self.verdict.value}\n{self.why}"

    def table(self) -> str:
        """The rows as a Markdown table."""
        lines = [
            "| model | distance to the test part (95 %) | over the base (95 %) | precision | recall |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            over = "1" if row["model"] == "base" else str(row["over the base"])
            lines.append(
                f"| {row['model']} | {row['distance']} | {over} | {row['precision']:.2f} | {row['recall']:.2f} |"
            )
        return "\n".join(lines)
