"""What a run of training did: losses, steps, time, and how the head compares with its base.

Examples:
    >>> Fit(steps=2, samples=8, seconds=0.5)
    Fit(2 steps, 8 samples, 0.5 s)
"""

from dataclasses import dataclass, field


@dataclass
class Fit:
    """What a run did.

    Attributes:
        history: one dict a step: step, critic and player loss, seconds.
        steps: optimizer steps of the player.
        samples: generated samples that the player learned from.
        seconds: wall time.
        held_out: (AFL) distance to held-out data over the base's, by share of the strength
            (:mod:`fbwrap.recipes.training.watch`); empty where nothing was compared.
        stopped: why the run ended early; empty where it did not.
        trained: whether this call trained at all: a run that had ended is only read.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    held_out: dict[float, float] = field(default_factory=dict)
    stopped: str = ""
    trained: bool = True

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.3g}" for k, v in (self.history or [{}])[-1].items() if k not in ("step", "seconds"))
        none = "" if self.trained else ", nothing trained in this call"
        none += f", stopped: {self.stopped}" if self.stopped else ""
        return (
            f"Fit({self.steps} steps, {self.samples} samples, {self.seconds:.1f} s{f'; {last}' if last else ''}{none})"
        )
