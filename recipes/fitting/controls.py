"""What the head has to beat: G trained on, a low-rank update of G, the same modules without D's information.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> G = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> tuned = low_rank(G, parameters=80)
    >>> torch.equal(tuned(torch.ones(1, 8)), G(torch.ones(1, 8)))          # it starts as G
    True
    >>> sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    88
"""

import copy
import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fbwrap.engine.copies import detached_copy
from fbwrap.engine.names import unwrap
from fbwrap.files.atomic import atomic_write

from ..gan import GAN
from ..training.steps import NotFiniteError
from .head_run import HeadRun
from .problem import Problem
from .rounds import Rounds, Score
from .ways import Way

_TIMED, _ROUNDS = 10, 5  # steps; rounds


class LowRank(nn.Module):
    """W + B A: an update of a weight by two thin matrices, of which one starts at zero (Hu et al. 2022)."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        self.a = nn.Parameter(torch.randn(rank, columns, dtype=weight.dtype, device=weight.device) / columns**0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight."""
        return weight + (self.b @ self.a).view_as(weight)


def low_rank(generator: nn.Module, parameters: int) -> nn.Module:
    """A copy of G whose weights only learn low-rank updates, with about so many parameters in all."""
    tuned = detached_copy(unwrap(generator)).requires_grad_(False)
    layers = list(_weights(tuned))
    each_rank = sum(weight.shape[0] + weight[0].numel() for _, weight in layers)
    rank = max(1, round(parameters / max(each_rank, 1)))
    for module, weight in layers:
        fits = min(rank, weight.shape[0], weight[0].numel())
        parametrize.register_parametrization(module, "weight", LowRank(weight, fits))
    for module in tuned.modules():
        if isinstance(module, LowRank):
            module.requires_grad_(True)
    return tuned


def _weights(net: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() >= 2 and not parametrize.is_parametrized(module):
            yield module, weight


class TrainedOn(Rounds):
    """G itself (or its low-rank update) trained on by a D, in rounds, its best state kept.

    Args:
        way, critic: how D is taught, and D, warmed up; a copy of it learns.
        planned: steps over which the rates fall.
        parameters: of a low-rank update; None: all of G learns.
    """

    def __init__(
        self, problem: Problem, way: Way, critic: nn.Module, folder: Path, seed: int, lr: float, planned: int,
        parameters: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder)
        self._planned = planned
        self.problem, self.way, self.seed, self.lr = problem, way, seed, lr
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            G = problem.generator
            self.net = low_rank(G, parameters) if parameters else detached_copy(unwrap(G))
        if not parameters:
            self.net.requires_grad_(True)
        self.critic = copy.deepcopy(unwrap(critic))
        if not self.scores:
            self._keep(Score(0, 0.0, problem.validation.brief(self.net.eval()), 1.0))

    def train(self, steps: int) -> Score:
        """Train on until ``steps`` in all, and compare."""
        if self.steps >= steps:
            return self.scores[-1]
        try:
            seconds = self._trained(steps)
            return self._keep(Score(steps, seconds, self.problem.validation.brief(self.net.eval()), 1.0))
        except NotFiniteError:  # too high a rate: another one is tried
            return self._keep(Score(steps, self.seconds, math.inf, 1.0))

    def _trained(self, steps: int) -> float:
        """Train until ``steps`` in all; seconds so far."""
        return self._fit(self.net, self.critic, steps, out=self.folder, resume=True)

    def timed(self, steps: int) -> float:
        """Seconds that so many steps take, of copies that are thrown away."""
        return self._fit(copy.deepcopy(self.net), copy.deepcopy(self.critic), steps)

    def _fit(self, net: nn.Module, critic: nn.Module, steps: int, **where: Any) -> float:
        problem, way = self.problem, self.way
        how = problem.call_for(way)
        fit = GAN(
            net, critic, generator_mode="eval", auxiliary=way.auxiliary(), trackers="none",
            loss=problem.loss_for(way), lr=self.lr, critic_lr=way.critic_lr, batch=problem.batch_for(way),
            decay_steps=self._planned, seed=self.seed, keep=1, betas=problem.betas_for(way), **way.losses,
            **{key: value for key, value in how.items() if key in ("critic_input", "response")},
        ).fit(*problem.data_for(way), steps, progress=False, **where)  # fmt: skip
        return float(fit.seconds)

    def _keep(self, score: Score) -> Score:
        """Put a score down, and the weights where they are the best so far."""
        if not self.scores or score.distance < self.best.distance:
            with atomic_write(self.folder / "best.pt") as part:
                torch.save(self.net.state_dict(), part)
        self.note(score)
        return score

    def within(self, steps: int) -> float:
        """The least distance within so many steps, once it was trained: that of G as it was does not count."""
        return min(score.distance for score in self.scores[1:] if score.step <= steps)

    def best_network(self) -> nn.Module:
        """The network as it was when it was best."""
        self.net.load_state_dict(torch.load(self.folder / "best.pt", weights_only=True))
        return self.net.eval()


def around_lowest(value: Callable[[int], float], count: int) -> dict[int, float]:
    """Values of a row by their places, looked at from the middle: on to the better neighbour, until both are worse.

    Examples:
        >>> around_lowest([5.0, 2.0, 3.0, 4.0, 1.0].__getitem__, 5)
        {1: 2.0, 2: 3.0, 3: 4.0, 0: 5.0}
    """
    found: dict[int, float] = {}
    at, before = count // 2, -1
    while at != before:
        for place in range(max(at - 1, 0), min(at + 2, count)):
            if place not in found:
                found[place] = value(place)
        before, at = at, min(found, key=lambda place: found[place])
    return found


def step_ratio(head: HeadRun, rival: TrainedOn, folder: Path) -> float:
    """How many steps of a rival take the time of one of the head's: timed in turn, for a machine may be busy; the
    median of a few rounds. Kept in the folder, so that a fit that goes on has the same."""
    path = folder / "step_ratio.json"
    if not path.is_file():
        for run in (head, rival):  # first calls are slow
            run.timed(_TIMED)
        found = statistics.median(head.timed(_TIMED) / max(rival.timed(_TIMED), 1e-9) for _ in range(_ROUNDS))
        with atomic_write(path) as part:
            part.write_text(json.dumps(found))
    return float(json.loads(path.read_text()))
