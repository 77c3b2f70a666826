"""The adversarial training loop that every recipe shares.

Examples:
    >>> fit = fbwrap.recipes.AFL(loop).fit(images, latents, steps=1000, out="run")    # doctest: +SKIP
    >>> fit.history[-1]["critic"]                                                     # doctest: +SKIP
    1.31

One step is D's and then the player's (:mod:`fbwrap.recipes.training.steps`). Between steps a run hears Ctrl-C and
SIGTERM, writes checkpoints and sample grids, and tells trackers its losses.
"""

import importlib.util
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fbwrap.engine.fingerprint import fingerprint
from fbwrap.engine.pytree import tensors
from fbwrap.engine.rng import RngState
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import SettingError, TrainingError

from ..data.batches import Pairs, Stream
from . import checkpoint
from .checks import answers_with_a_sigmoid, check_data
from .ema import EMA
from .fit import Fit
from .interrupts import interrupt_between_steps
from .loss_choice import check_loss
from .options import Options
from .processes import Processes
from .steps import Critic, CriticArguments, NotFiniteError, Player, as_inputs, critic_step, joined, player_step
from .watch import Watch

logger = logging.getLogger("fbwrap")


class Trainer:
    """Trains a player against a critic; see :meth:`fit`.

    Args:
        player: what learns; None: D alone does.
        perceptual: a distance of output and target, with paired data.
        trackers: see :class:`~fbwrap.recipes.training.processes.Processes`; None: TensorBoard, where it is installed
            and there is a folder; ``"none"``: none.
        warmup: steps of D alone where the options do not say.
        value_range: of the samples, where it is known: real data outside it is refused.
    """

    def __init__(
        self,
        player: Player | None,
        critic: Critic,
        options: Options,
        *,
        perceptual: nn.Module | None = None,
        trackers: object = None,
        warmup: int = 0,
        value_range: tuple[float, float] | None = None,
    ):
        self.player, self.critic, self.options = player, critic, options
        self._perceptual, self._trackers = perceptual, trackers
        self.warmup = warmup if options.warmup is None else options.warmup
        self._value_range = options.value_range or value_range
        self._layout: CriticArguments | None = None  # once the first batch was looked at

    def fit(
        self,
        real_data: object,
        latents: object,
        steps: int,
        generate: object,
        *,
        out: str | os.PathLike[str] | None,
        resume: bool,
        progress: bool,
        preview: Callable[[int, EMA | None], None] | None = None,
        fixed: Mapping[str, nn.Module] | None = None,
        about: Mapping[str, object] | None = None,
        watch: Callable[["Trainer"], Watch | None] | None = None,
    ) -> Fit:
        """Train for ``steps`` steps. The recipes' own ``fit`` says what the arguments are.

        Args:
            watch: makes what compares the player with its base, when the averages are there.
            fixed: networks that do not learn, by name: they must be the same when the run is resumed.
            about: what else must be the same, plain data by name: T, the links.
        """
        self._device = next(self.critic.net.parameters()).device
        folder = Path(out) if out is not None else None
        learner = self.player.learner if self.player is not None else None
        fit = Fit()
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            self._start_processes(stack, folder, fixed or {}, about or {})
            self._open_data(stack, real_data, latents)
            self._optimizers()
            stop = stack.enter_context(interrupt_between_steps())
            self._seed(stack)
            if folder and self._processes.main:
                stack.enter_context(checkpoint.alone_in(folder))
            self._look_at_data(generate)
            begin = self._begin(folder, resume, watch, fit)
            total = self.warmup + steps  # a resumed run's warmup is what it was
            self._processes.start_tracking("fbwrap", asdict(self.options))
            fit.trained = begin < total
            if not fit.trained:
                logger.warning(
                    "The run in %s has already finished its %d steps: nothing was trained. Pass more steps, "
                    "or start again with resume=False (command line: --fresh).", folder, begin,
                )  # fmt: skip
            bar = stack.enter_context(_bar(begin, total, progress and self._processes.main))
            self._steps(range(begin, total), steps, generate, fit, bar, stop, folder, preview)
            if self._processes.agreed(stop.is_set(), self._device):  # while a run that had ended was read, say
                raise KeyboardInterrupt
        if learner is not None and self.average is not None:
            learner.load_state_dict(self.average.module.state_dict())
        self._processes.same(self.critic.net, learner)
        return fit

    def _steps(
        self,
        places: range,
        steps: int,
        generate: object,
        fit: Fit,
        bar: Any,
        stop: threading.Event,
        folder: Path | None,
        preview: Callable[[int, EMA | None], None] | None,
    ) -> None:
        """The steps of a run: each learns, is logged, compared where it is due, and saved."""
        total, started = places.stop, time.monotonic() - fit.seconds
        for step in places:
            losses = self._processes.mean(self._whole_step(step, total, generate, fit), self._device)
            fit.seconds = time.monotonic() - started
            self._log(fit, step, losses, bar)
            done, ending = step + 1, self._processes.agreed(stop.is_set(), self._device)
            if self._compares(done, steps):
                fit.stopped = self._diverged(done)
            if fit.stopped:
                return
            path = self._save(folder, fit, done, whether=done == total or ending)
            if path and preview and done < total and not ending:
                preview(done, self.average)
            if ending:
                self._interrupt(done, path)

    def _start_processes(
        self, stack: ExitStack, folder: Path | None, fixed: Mapping[str, nn.Module], about: Mapping[str, object]
    ) -> None:
        """Processes that hold the same networks; and what must be the same when the run is resumed."""
        trackers = self._trackers
        if trackers is None and folder and importlib.util.find_spec("tensorboard"):
            trackers = "tensorboard"
        trackers = None if trackers == "none" else trackers
        self._processes = Processes(self._device, self.options.mixed_precision, trackers, folder)
        stack.callback(self._processes.end)
        learner = self.player.learner if self.player is not None else None
        self._processes.same(self.critic.net, learner, *fixed.values())
        weights = {f"{name}'s weights": fingerprint(net)["weights"][:16] for name, net in fixed.items()}
        self._same = {**weights, **about}

    def _open_data(self, stack: ExitStack, real_data: object, latents: object) -> None:
        options = self.options
        if not isinstance(real_data, Pairs) and (options.reconstruction or self._perceptual is not None):
            raise SettingError("A reconstruction or perceptual loss needs targets: pass Pairs(inputs, targets).")
        self._stream = Stream(
            real_data, latents, options.seed, self._device, self._processes.share, options.workers
        )  # fmt: skip
        stack.callback(self._stream.close)

    def _seed(self, stack: ExitStack) -> None:
        """The run's own random numbers; the user's come back in the end."""
        rng = RngState(self._device)
        stack.callback(rng.set, rng.get())
        torch.manual_seed(self.options.seed)

    def _begin(
        self, folder: Path | None, resume: bool, watch: Callable[["Trainer"], Watch | None] | None, fit: Fit
    ) -> int:
        """The step to begin with: where the newest checkpoint ends, else 0. The comparison begins too."""
        if folder and self._processes.main and not resume:
            checkpoint.set_aside(folder)
        state = checkpoint.newest(folder) if folder and resume else None
        self.watch, held_out = None, None
        if watch is not None and self.options.held_out and self.player is not None:
            self.watch = watch(self)
            held_out = self._stream.hold_out(self._compared)
        begin = self._restore(state, fit) if state is not None else 0
        if self.watch is not None and held_out is not None:
            self._begin_watch(self.watch, held_out)
        return begin

    def _save(self, folder: Path | None, fit: Fit, done: int, *, whether: bool) -> Path | None:
        """A checkpoint, at intervals and when asked for; by the first process."""
        if not folder or not self._processes.main or not (whether or done % self.options.save_every == 0):
            return None
        return checkpoint.save(self._state(done, fit), folder, done, self.options.keep)

    def _interrupt(self, done: int, path: Path | None) -> None:
        self._processes.agreed(True, self._device)  # none leaves before the first one has saved
        if self._processes.main:
            logger.warning("Interrupted after step %d%s.", done, f": saved in {path}" if path else "")
        raise KeyboardInterrupt

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value's mean over the processes."""
        return self._processes.mean(values, self._device)

    def _optimizers(self) -> None:
        options, prepare = self.options, self._processes.prepare
        self.critic_optimizer = prepare(torch.optim.Adam(_learning(self.critic.net), options.critic_lr, options.betas))
        self.optimizer: torch.optim.Optimizer | None = None
        self.average: EMA | None = None
        if self.player is not None:
            learner = self.player.learner
            self.optimizer = prepare(torch.optim.Adam(learner.parameters(), options.lr, options.betas))
            self.average = EMA(learner, options.ema)

    @property
    def _compared(self) -> int:
        """Samples in a comparison: as many as about sixteen steps see, 64 at least."""
        return min(self.options.held_out, max(64, 16 * self.options.batch))

    def _compares(self, done: int, steps: int) -> bool:
        """Whether the player is compared with its base now: eight times a run, and not more often than each 100th
        step. (The end of a run is the recipe's to judge.)"""
        after, every = done - self.warmup, max(100, -(-steps // 8))
        return self.watch is not None and 0 < after < steps and after % every == 0

    def _diverged(self, done: int) -> str:
        if self.watch is None or not self.watch.check(done):
            return ""
        reason = "The head was worse than G alone in three comparisons in a row: training has diverged. Lower lr."
        self.watch.restore_best(reason)
        return reason

    def _whole_step(self, step: int, total: int, generate: object, fit: Fit) -> dict[str, float]:
        try:
            return self._step(step, total, generate, fit)
        except NotFiniteError as error:
            reason = f"A loss or gradient is not finite at step {step}: training has diverged."
            alone = self._processes.count == 1
            if alone and self.watch is not None and self.watch.restore_best(reason):
                fit.stopped = reason
                return {}
            raise NotFiniteError(
                f"A loss or gradient is not finite at step {step}: training has diverged. The last checkpoint is "
                "intact. Lower lr or critic_lr, or raise r1, and start or resume from it."
            ) from error

    def _step(self, step: int, total: int, generate: Any, fit: Fit) -> dict[str, float]:
        options, losses, processes = self.options, {}, self._processes
        self._set_rates(min(1.0, max(step - self.warmup, 0) / (options.decay_steps or max(total - self.warmup, 1))))
        inputs, target, real = self._stream.next(options.batch, self.critic.critic_input)
        if self._layout is None:  # data that can be read only once
            self._get_ready(inputs, real, generate)
        fake = None
        if self.player is not None and self.optimizer is not None and step >= self.warmup:
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
            longest = max((len(tensor) for _, tensor in tensors(inputs) if tensor.dim()), default=0)
            fit.samples += processes.count * longest
        if options.train_critic:
            for repeat in range(options.critic_steps or 1):
                if repeat:
                    inputs, _, real = self._stream.next(options.batch, self.critic.critic_input)
                if fake is None or repeat:
                    args, kwargs = as_inputs(inputs)
                    with torch.no_grad(), processes.autocast():
                        made = self.player.outputs(*args, **kwargs) if self.player else [generate(*args, **kwargs)]
                        fake = joined([self.critic.on_output(y, args, kwargs) for y in made])
                losses["critic"] = critic_step(
                    *(self.critic, real, fake, self.critic_optimizer, options, step), passes=processes
                )
            if self.critic.average is not None:
                self.critic.average.update(self.critic.net)
        return losses

    def _look_at_data(self, generate: object) -> None:
        """Before anything is moved or written, where the data can be read twice."""
        another = self._stream.hold_out(0)
        if another is not None:
            rng = RngState(self._device)
            before = rng.get()
            try:
                inputs, _, real = another.next(self.options.batch, self.critic.critic_input)
                self._get_ready(inputs, real, generate)
            finally:
                rng.set(before)

    def _get_ready(self, inputs: object, real: object, generate: Any) -> None:
        """On a first batch: refuse data that does not fit; see what D answers with."""
        args, kwargs = as_inputs(inputs)
        rng = RngState(self._device)
        before = rng.get()
        learns = [generate] if self.player is None else [self.player.learner]
        modules = [module for net in learns if isinstance(net, nn.Module) for module in net.modules()]
        try:
            with torch.no_grad(), training_mode(modules, False):  # G's statistics do not move
                made = self.player.outputs(*args, **kwargs)[-1] if self.player else generate(*args, **kwargs)
                shown = self.critic.on_output(made, args, kwargs)
                check_data(self.critic, real, shown.given, self._value_range)
            check_loss(self.options.loss)
            self.critic.probability = self.options.loss == "bce" and answers_with_a_sigmoid(self.critic, real)
            self._layout = shown.like(None)  # where the sample stands; not the batch itself
        finally:
            rng.set(before)

    def _begin_watch(self, watch: Watch, held_out: Stream) -> None:
        """Draw what the player is compared on: held-out real samples and inputs of G."""
        rng = RngState(self._device)
        before, real, batches, count = rng.get(), [], [], 0
        layout = self._layout or CriticArguments(None)
        try:
            torch.manual_seed(self.options.seed + 7919)
            while count < self._compared:
                many = min(self.options.batch, self._compared - count)
                inputs, _, given = held_out.next(many, self.critic.critic_input)
                batches.append(inputs)
                real.append(layout.like(given).sample())
                count += len(real[-1])
            watch.begin(torch.cat(real), batches)
        finally:
            rng.set(before)

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

    def _state(self, step: int, fit: Fit) -> dict[str, object]:
        state: dict[str, Any] = {
            "step": step,
            "options": asdict(self.options),
            "warmup": self.warmup,
            "data": self._stream.about(),
            "watch": self.watch.state() if self.watch is not None else None,
            "critic": checkpoint.state_of(self.critic.net),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "positions": self._stream.state(),
            "random": RngState(self._device).get(),
            "same": self._same,
            "scale": self._processes.scale(),
            "fit": vars(fit),
        }
        if self.critic.average is not None:
            state["critic_average"] = checkpoint.state_of(self.critic.average.module)
            state["critic_average_of"] = self.critic.average.count
        if self.player is not None and self.optimizer is not None and self.average is not None:
            state["learner"] = checkpoint.state_of(self.player.learner)
            state["optimizer"] = self.optimizer.state_dict()
            state["average"], state["average_of"] = checkpoint.state_of(self.average.module), self.average.count
        return state

    def _restore(self, state: dict[str, Any], fit: Fit) -> int:
        checkpoint.check_same_run(state, self.options, self._same)
        self._restore_networks(state)
        data = self._stream.about()
        if (known := state.get("data")) is not None and known != data:
            logger.warning("The run goes on with other data: it was %s, and is %s.", "; ".join(known), "; ".join(data))
        if self.options.warmup is None:
            self.warmup = int(state.get("warmup", 0))
        if self.watch is not None and state.get("watch"):
            self.watch.restore(state["watch"])
        self._processes.set_scale(state.get("scale"))
        self._stream.restore(state["positions"])
        RngState(self._device).set(state["random"])
        for name, value in state["fit"].items():
            setattr(fit, name, value)
        return int(state["step"])

    def _restore_networks(self, state: dict[str, Any]) -> None:
        """D, what learns, their averages and optimizers."""
        learner = self.player.learner if self.player is not None else None
        try:
            for net, held in ((self.critic.net, "critic"), (learner, "learner")):
                if net is not None:
                    checkpoint.check_fits(net, state[held])  # before anything is changed
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
            if self.critic.average is not None:
                checkpoint.load_state(self.critic.average.module, state["critic_average"])
                self.critic.average.count = state["critic_average_of"]
            if learner is not None and self.optimizer is not None and self.average is not None:
                self.optimizer.load_state_dict(state["optimizer"])
                checkpoint.load_state(self.average.module, state["average"])
                self.average.count = state["average_of"]
                checkpoint.load_state(learner, state["learner"])
            checkpoint.load_state(self.critic.net, state["critic"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"The checkpoint belongs to another model: {error}. Pass another out=, or resume=False "
                "(command line: --fresh)."
            ) from error


@contextmanager
def _bar(begin: int, total: int, progress: bool) -> Iterator[object]:
    from tqdm.auto import tqdm

    with tqdm(initial=begin, total=total, disable=None if progress else True, unit="step") as bar:
        yield bar


def _learning(net: nn.Module) -> list[nn.Parameter]:
    """Parameters that may learn: a frozen backbone's may not."""
    found = [p for p in net.parameters() if p.requires_grad]
    if not found:
        raise SettingError(
            "All parameters of D are frozen (requires_grad is False). Call D.requires_grad_(True) before you "
            "make the recipe."
        )
    return found
