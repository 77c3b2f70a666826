"""The training of one head in rounds: after each the distance to the validation part, and the best state kept.

Examples:
    >>> run = HeadRun(problem, way, Path("run/clusters"), seed=0)                        # doctest: +SKIP
    >>> run.train(200)                                                                   # doctest: +SKIP
    >>> run.best.distance, run.best.strength                                             # doctest: +SKIP
    (57.1, 1.0)
"""

import copy
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fbwrap.adapters.fresh_critic import FreshCritic
from torch import nn

import fbwrap
from fbwrap.engine.trace import device_of
from fbwrap.feedback.pairing import targets_of
from fbwrap.files.atomic import atomic_write
from fbwrap.loop import FeedbackLoop

from ..afl import AFL
from ..gan import train_discriminator
from ..studies import replaced_signals
from ..training.steps import NotFiniteError
from .measure import Generator
from .problem import Problem
from .rounds import Rounds, Score
from .ways import Way

logger = logging.getLogger("fbwrap")
STRENGTHS = (0.25, 0.5, 1.0)  # compared while it trains
WARMUP = 600
_WORSE = 1.5  # of the best distance: then the rate is halved


@dataclass(frozen=True)
class Attempt:
    """Training with one rate, from a step and after so many seconds."""

    lr: float
    begun: int = 0
    seconds: float = 0.0

    def folder_in(self, folder: Path) -> Path:
        """Where its checkpoints are."""
        return folder / f"from-{self.begun}" if self.begun else folder

    @staticmethod
    def newest(folder: Path) -> "Attempt | None":
        """The one that is under way in a folder."""
        path = folder / "attempt.json"
        return Attempt(**json.loads(path.read_text())) if path.is_file() else None

    def note(self, folder: Path) -> None:
        """Put it down."""
        with atomic_write(folder / "attempt.json") as part:
            part.write_text(json.dumps(asdict(self)))


class HeadRun(Rounds):
    """One way's head.

    Args:
        planned: steps over which the rates fall.
        folder: for its checkpoints and its best head; a run that was broken off goes on from there.
        control_of: makes the control of another run: the same modules that never see what D sees, but zeros. It is a
            loop with ``first="zeros"`` and one step, which does not ask D.
    """

    def __init__(
        self, problem: Problem, way: Way, folder: Path, seed: int, planned: int, control_of: "HeadRun | None" = None
    ) -> None:
        super().__init__(folder)
        self.problem, self.way, self.seed, self.without_critic = problem, way, seed, control_of is not None
        self.planned = planned
        self.warmup_seconds = 0.0
        self.warmed_critic: nn.Module = control_of.warmed_critic if control_of else self._critic()
        self.loop = self._attached(copy.deepcopy(self.warmed_critic))
        self._fresh = copy.deepcopy(self.loop.feedback.state_dict())
        self._attempt = Attempt.newest(folder) or Attempt(way.lr)
        if self._attempt.begun:
            self.restore_best()

    @property
    def lr(self) -> float:
        """The rate that the head learns with now, before it falls over the steps."""
        return self._attempt.lr

    def train(self, steps: int) -> Score:
        """Train on until ``steps`` in all, and compare. Where it diverges or gets much worse, the best state so far
        comes back, and the rate is halved."""
        if self.steps >= steps:
            return self.scores[-1]
        if self._went_wrong:
            self._back_off(self.scores[-1])
        attempt, seconds, strength, distance = self._attempt, self.seconds, 0.0, math.inf
        try:
            fit = AFL(self.loop, lr=attempt.lr, **self._options()).fit(
                *self.problem.data_for(self.way), steps - attempt.begun, out=attempt.folder_in(self.folder),
                resume=True, progress=False,
            )  # fmt: skip
            seconds = attempt.seconds + fit.seconds + self.warmup_seconds
            strength, distance = self.compare()
        except NotFiniteError as error:
            logger.warning("%s", error)
        score = Score(steps, seconds, distance, strength)
        # the head first: a score that stands in the file has its head beside it
        if math.isfinite(score.distance) and (not self.scores or score.distance < self.best.distance):
            self.loop.save_pretrained(self.folder / "best", discriminator="all")
        self.note(score)
        return score

    @property
    def _went_wrong(self) -> bool:
        """Whether the last comparison says so, and no other attempt has begun since."""
        if not self.scores or self._attempt.begun == self.steps:
            return False
        last = self.scores[-1].distance
        return not math.isfinite(last) or last > _WORSE * self.best.distance

    def _back_off(self, score: Score) -> None:
        """From the best state so far, with half the rate."""
        self._attempt = Attempt(self.lr / 2, score.step, score.seconds - self.warmup_seconds)
        if math.isfinite(self.best.distance):
            self.restore_best()
        else:
            self.loop.feedback.load_state_dict(self._fresh)
            self.loop.use_discriminator(copy.deepcopy(self.warmed_critic))
        self._attempt.note(self.folder)
        logger.info("%s: it got worse; back to step %d, with half the rate.", self.way.name, self._kept_step)

    @property
    def _kept_step(self) -> int:
        return self.best.step if math.isfinite(self.best.distance) else 0

    def timed(self, steps: int) -> float:
        """Seconds that so many steps take, of a loop that is thrown away."""
        loop = self._attached(copy.deepcopy(self.warmed_critic))
        try:
            fit = AFL(loop, lr=self.lr, **self._options()).fit(*self.problem.data_for(self.way), steps, progress=False)
        finally:
            loop.detach()
        return float(fit.seconds)

    def compare(self) -> tuple[float, float]:
        """The best of a few strengths on the validation part, and the distance there, of fewer samples than the final
        sweep's."""
        return self.problem.validation.best_of({at: self.at(at) for at in STRENGTHS})

    def at(self, strength: float, steps: int | None = None) -> Generator:
        """The loop as a generator, at one strength."""

        def generate(*args: object, **kwargs: object) -> object:
            return self.loop.rollout(*args, strength=strength, steps=steps, **kwargs).output

        return generate

    def mixed_up(self, *args: object, **kwargs: object) -> object:
        """The loop as it is, its modules given what D sees in another sample."""
        with replaced_signals(self.loop, "another sample"):
            return self.loop(*args, **kwargs)

    def restore_best(self) -> None:
        """The loop as it was when it was best."""
        D = self.loop.discriminator
        best = fbwrap.from_pretrained(self.folder / "best", self.problem.generator, copy.deepcopy(D))
        self.loop.feedback.load_state_dict(best.feedback.state_dict())
        self.loop.use_discriminator(best.discriminator)
        best.detach()
        self.loop.eval()

    # -- parts ------------------------------------------------------------------------------------

    def _critic(self) -> nn.Module:
        """The way's D, warmed up on this G's samples."""
        problem, way = self.problem, self.way
        if way.teaches == "published" and problem.discriminator is not None:
            return problem.discriminator
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            D = way.critic(problem.critic_shape, int(problem.classes.max()) + 1, problem.channels_last)
            D = D.to(device_of(problem.generator))
        real, inputs = problem.data_for(way)
        if not self.scores:
            logger.info("%s: D learns alone first.", way.name)
        fit = train_discriminator(
            problem.generator, D, real, inputs, WARMUP, out=self.folder / "critic", resume=True,
            progress=False, auxiliary=way.auxiliary(), trackers="none", decay="none", **problem.call_for(way),
            **self._common(),
        )  # fmt: skip
        self.warmup_seconds = fit.seconds
        return D.eval()

    def _attached(self, D: nn.Module) -> FeedbackLoop:
        """The loop with the way's links."""
        problem = self.problem
        example, how = problem.example, problem.call_for(self.way)
        with fbwrap.attach(problem.generator, D, "auto", example=example, **how) as auto:
            links = _at_each_resolution(auto) if self.way.links == "each" else [_at_the_last_layer(auto, D)]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            loop = fbwrap.attach(
                problem.generator, D, links, module=self.way.module, example=example,
                first="zeros" if self.without_critic else "base", steps=1, **how,
            )  # fmt: skip
        loop.latents = problem.described
        if isinstance(D, FreshCritic):  # the head can be loaded without it
            loop.note(critic_spec=(D.spec, loop.facts.value_range or (-1.0, 1.0)))
        return loop

    def _common(self) -> dict[str, Any]:
        loss, batch = self.problem.loss_for(self.way), self.problem.batch_for(self.way)
        return {
            "loss": loss, "batch": batch, "critic_lr": self.way.critic_lr, "critic_steps": 1, "seed": self.seed,
            "betas": self.problem.betas_for(self.way),
        }  # fmt: skip

    def _options(self) -> dict[str, Any]:
        return {
            **self._common(), **self.way.losses, "auxiliary": self.way.auxiliary(), "trackers": "none", "held_out": 0,
            "critic_ema": self.way.critic_ema, "warmup": 0, "keep": 1,
            "decay_steps": max(1, self.planned - self._attempt.begun),
        }  # fmt: skip


def _at_the_last_layer(auto: FeedbackLoop, D: nn.Module) -> fbwrap.Link:
    """One link, at the last layer that ``layers="auto"`` finds, from all of D's stages."""
    sources = dict.fromkeys(source.name for link in auto.connections for source in link.sources)
    return fbwrap.Link(str(auto.connections[-1].target), D.sources if isinstance(D, FreshCritic) else list(sources))


def _at_each_resolution(auto: FeedbackLoop) -> list[fbwrap.Link]:
    """One at the last layer of each of G's resolutions; those of ``layers="auto"`` where these are more."""
    targets = targets_of(auto.traces[0])
    own = list(dict.fromkeys(str(link.target) for link in auto.connections))
    return [fbwrap.Link(target) for target in (targets if len(targets) > len(own) else own)]
