"""The adversarial training loop that every recipe shares.

Example:
    >>> fit = fbwrap.recipes.AFL(loop).fit(images, latents, steps=1000, out="run")    # doctest: +SKIP
    >>> fit.history[-1]["critic"]                                                     # doctest: +SKIP
    1.31

One step is D's and then the player's (:mod:`fbwrap.recipes.steps`). Between steps a run hears Ctrl-C and SIGTERM,
writes checkpoints and sample grids, and tells trackers its losses.
"""

import importlib.util
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbwrap.dice import Dice
from fbwrap.errors import SettingError, TrainingError
from fbwrap.fingerprint import fingerprint

from . import checkpoint
from .data import Stream
from .ema import EMA
from .options import Options
from .processes import Processes
from .steps import Critic, NotFiniteError, Player, all_of, as_inputs, critic_step, player_step

logger = logging.getLogger("fbwrap")


@dataclass
class Fit:
    """What a run did.

    Attributes:
        history: one dict a step: step, critic and player loss, seconds.
        steps: optimizer steps of the player.
        samples: generated samples that the player learned from.
        seconds: wall time.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains a player against a critic; see :meth:`fit`.

    Args:
        player: what learns; None: D alone does.
        perceptual: a distance of output and target, with paired data.
        trackers: see :class:`~fbwrap.recipes.processes.Processes`; None: TensorBoard, where it is installed and there
            is a folder; ``"none"``: none.
    """

    def __init__(
        self,
        player: Player | None,
        critic: Critic,
        options: Options,
        *,
        perceptual: nn.Module | None = None,
        trackers: Any = None,
    ):
        self.player, self.critic, self.options = player, critic, options
        self._perceptual, self._trackers = perceptual, trackers

    def fit(
        self,
        real_data: Any,
        latents: Any,
        steps: int,
        generate: Any,
        *,
        out: str | os.PathLike[str] | None,
        resume: bool,
        progress: bool,
        preview: Callable[[int, EMA | None], None] | None = None,
        base: nn.Module | None = None,
        steps_of_feedback: int | None = None,
    ) -> Fit:
        """Train for ``steps`` steps. The recipes' own ``fit`` says what the arguments are.

        Args:
            base: a network that does not learn and must be the same when the run is resumed.
            steps_of_feedback: T, which must be the same too.
        """
        options = self.options
        self._device = next(self.critic.net.parameters()).device
        folder = Path(out) if out is not None else None
        trackers = self._trackers
        if trackers is None and folder and importlib.util.find_spec("tensorboard"):
            trackers = "tensorboard"
        trackers = None if trackers == "none" else trackers
        self._processes = Processes(self._device, options.mixed_precision, trackers, folder)
        self._stream = Stream(real_data, latents, options.seed, self._device, self._processes.share)
        self._base = fingerprint(base)["weights"] if base is not None else None
        self._feedback = steps_of_feedback
        learner = self.player.learner if self.player is not None else None
        self._processes.same(self.critic.net, learner, base)
        self._optimizers()
        fit, main, path = Fit(), self._processes.main, None
        with ExitStack() as stack:
            stop = stack.enter_context(interrupt_between_steps())
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(options.seed)
            total, begin = options.warmup + steps, 0
            if folder and main:
                stack.enter_context(checkpoint.alone_in(folder))
                if not resume:
                    checkpoint.set_aside(folder)
            state = checkpoint.newest(folder) if folder and resume else None
            if state is not None:
                begin = self._restore(state, fit)
            self._processes.start_tracking("fbwrap", asdict(options))
            stack.callback(self._processes.end)
            bar = stack.enter_context(_bar(begin, total, progress and main))
            started = time.monotonic() - fit.seconds
            for step in range(begin, total):
                losses = self._processes.mean(self._whole_step(step, total, generate, fit), self._device)
                fit.seconds = time.monotonic() - started
                self._log(fit, step, losses, bar)
                done, ending = step + 1, self._processes.agreed(stop.is_set(), self._device)
                if folder and main and (done % options.save_every == 0 or done == total or ending):
                    path = checkpoint.save(self._state(done, fit), folder, done, options.keep)
                    if preview and done < total and not ending:
                        preview(done, self.average)
                if ending:
                    if main:
                        logger.warning("Interrupted after step %d%s.", done, f": saved in {path}" if path else "")
                    raise KeyboardInterrupt
        if self.player is not None and self.average is not None:
            self.player.learner.load_state_dict(self.average.module.state_dict())
        self._processes.same(self.critic.net, learner)
        return fit

    def _optimizers(self) -> None:
        options, prepare = self.options, self._processes.prepare
        self.critic_optimizer = prepare(torch.optim.Adam(_learning(self.critic.net), options.critic_lr, options.betas))
        self.optimizer: torch.optim.Optimizer | None = None
        self.average: EMA | None = None
        if self.player is not None:
            learner = self.player.learner
            self.optimizer = prepare(torch.optim.Adam(learner.parameters(), options.lr, options.betas))
            self.average = EMA(learner, options.ema)

    def _whole_step(self, step: int, total: int, generate: Any, fit: Fit) -> dict[str, float]:
        try:
            return self._step(step, total, generate, fit)
        except NotFiniteError as error:
            raise TrainingError(
                f"A loss or gradient is not finite at step {step}: training has diverged. The last checkpoint is "
                "intact. Lower lr or critic_lr, or raise r1, and start or resume from it."
            ) from error

    def _step(self, step: int, total: int, generate: Any, fit: Fit) -> dict[str, float]:
        options, losses, processes = self.options, {}, self._processes
        self._set_rates(max(step - options.warmup, 0) / max(total - options.warmup, 1))
        inputs, target, real = self._stream.next(options.batch, self.critic.critic_input)
        fake = None
        if self.player is not None and self.optimizer is not None and step >= options.warmup:
            losses["player"], fake = player_step(
                *(self.player, self.critic, inputs, self.optimizer, options),
                real=real,
                target=target,
                perceptual=self._perceptual,
                passes=processes,
            )
            if self.average is not None:
                self.average.update(self.player.learner)
            fit.steps += 1
            fit.samples += options.batch
        if options.train_critic:
            for repeat in range(options.critic_steps):
                if repeat:
                    inputs, _, real = self._stream.next(options.batch, self.critic.critic_input)
                if fake is None or repeat:
                    args, kwargs = as_inputs(inputs)
                    with torch.no_grad(), processes.autocast():
                        made = self.player.outputs(*args, **kwargs) if self.player else [generate(*args, **kwargs)]
                        fake = all_of([self.critic.on_output(y, args, kwargs) for y in made])
                losses["critic"] = critic_step(
                    *(self.critic, real, fake, self.critic_optimizer, options, step), passes=processes
                )
            if self.critic.average is not None:
                self.critic.average.update(self.critic.net)
        return losses

    def _set_rates(self, done: float) -> None:
        options = self.options
        if options.decay == "exponential":
            share = options.decay_to**done
        else:
            falling = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "none": 1.0}
            share = options.decay_to + (1 - options.decay_to) * falling[options.decay]
        for optimizer, rate in ((self.optimizer, options.lr), (self.critic_optimizer, options.critic_lr)):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rate * share

    def _log(self, fit: Fit, step: int, losses: dict[str, float], bar: Any) -> None:
        fit.history.append({"step": step, "seconds": fit.seconds, **losses})
        self._processes.log(losses, step)
        bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
        bar.update()

    def _state(self, step: int, fit: Fit) -> dict[str, Any]:
        state: dict[str, Any] = {
            "step": step,
            "options": asdict(self.options),
            "critic": self.critic.net.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "positions": self._stream.state(),
            "random": self._dice().get(),
            "base": self._base,
            "feedback_steps": self._feedback,
            "scale": self._processes.scale(),
            "fit": asdict(fit),
        }
        if self.critic.average is not None:
            state["critic_average"] = [self.critic.average.module.state_dict(), self.critic.average.count]
        if self.player is not None and self.optimizer is not None and self.average is not None:
            state["learner"] = self.player.learner.state_dict()
            state["optimizer"] = self.optimizer.state_dict()
            state["average"] = [self.average.module.state_dict(), self.average.count]
        return state

    def _dice(self) -> Dice:
        return Dice(self._device)

    def _restore(self, state: dict[str, Any], fit: Fit) -> int:
        was, now = {**asdict(Options()), **state["options"]}, asdict(self.options)  # an option that is new was at rest
        differ = {k: (was.get(k), v) for k, v in now.items() if _plain(was.get(k)) != _plain(v)}
        for free in ("save_every", "keep", "accumulate"):
            differ.pop(free, None)
        if differ:
            raise TrainingError(
                f"The checkpoint is of a run with other options: {differ} (was, is). Resume with the same "
                "ones, or choose another out=."
            )
        if (before := state.get("feedback_steps", self._feedback)) != self._feedback:
            raise TrainingError(
                f"The checkpoint is of a run with {before} steps of feedback, this loop has {self._feedback}. Set "
                "loop.steps, or choose another out=."
            )
        if state.get("base") != self._base:
            raise TrainingError(
                "The checkpoint's run began with a G of other weights: its head would not fit this one. Choose another "
                "out=, or resume=False."
            )
        try:
            self.critic.net.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
            if self.critic.average is not None:
                self.critic.average.module.load_state_dict(state["critic_average"][0])
                self.critic.average.count = state["critic_average"][1]
            if self.player is not None and self.optimizer is not None and self.average is not None:
                self.player.learner.load_state_dict(state["learner"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.average.module.load_state_dict(state["average"][0])
                self.average.count = state["average"][1]
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"The checkpoint is of another model: {error}. Choose another out=, or resume=False."
            ) from error
        self._processes.set_scale(state.get("scale"))
        self._stream.restore(state["positions"])
        self._dice().set(state["random"])
        for name, value in state["fit"].items():
            setattr(fit, name, value)
        return int(state["step"])


@contextmanager
def interrupt_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM are heard when a step is whole; a second Ctrl-C at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(begin: int, total: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(initial=begin, total=total, disable=None if progress else True, unit="step") as bar:
        yield bar


def _learning(net: nn.Module) -> list[nn.Parameter]:
    """Parameters that may learn: a frozen backbone's may not."""
    found = [p for p in net.parameters() if p.requires_grad]
    if not found:
        raise SettingError(
            "None of D's parameters may learn (requires_grad is False). Let them: D is a copy, yours does not change."
        )
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
