"""The adversarial training loop that every recipe shares.

Example:
    >>> fit = fbwrap.recipes.AFL(loop).fit(images, latents, steps=1000, out="run")    # doctest: +SKIP
    >>> fit.history[-1]["critic"]                                                     # doctest: +SKIP
    1.31

A :class:`Player` is what learns against D: a feedback head, or a whole generator. One step is D's
(:func:`critic_step`), then the player's (:func:`player_step`); both can be used in a loop of one's own.
"""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fbwrap.attach import inputs_of
from fbwrap.critic import CriticInput, call, response_of
from fbwrap.dice import Dice
from fbwrap.errors import TrainingError
from fbwrap.keeping import modes
from fbwrap.trees import map_tensors, put, tensors

from . import checkpoint
from .data import Batches
from .ema import EMA
from .losses import LOSSES, gradient_penalty, r1
from .options import Options

logger = logging.getLogger("fbwrap")


Auxiliary = Callable[[Any, Any], Tensor]


class Player(Protocol):
    """What learns against D."""

    learner: nn.Module

    def outputs(self, *args: Any, **kwargs: Any) -> Sequence[Any]:
        """The outputs that are to fool D, the last one best."""


@dataclass
class Critic:
    """D, how it is called, and what its response is.

    Args:
        auxiliary: a further loss of D on real data, ``f(D's answer, real batch)``: a classification
            loss where labels are at hand, for example.
        average: the average of D that gives the feedback, if any.
    """

    net: nn.Module
    critic_input: CriticInput
    response: Any = None
    auxiliary: Auxiliary | None = None
    average: EMA | None = None

    def __call__(self, given: Any) -> Tensor:
        """D's response."""
        return self.read(self.answer(given))

    def answer(self, given: Any) -> Any:
        """All that D returns."""
        return call(self.net, given)

    def read(self, answer: Any) -> Tensor:
        """The response in D's answer."""
        return response_of(answer, self.response)

    def on_output(self, output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What D is called with for a generated output."""
        return self.critic_input(output, *args, **kwargs)


@dataclass
class Fit:
    """What a run did.

    Attributes:
        history: one dict a logged step: step, critic and player loss, seconds.
        steps: optimizer steps of the player.
        samples: generated samples that the player learned from.
        seconds: wall time.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0


def as_inputs(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch of G's inputs as positional and keyword arguments."""
    return inputs_of(tuple(batch) if isinstance(batch, list) else batch)


@contextmanager
def frozen(*networks: nn.Module | None) -> Iterator[None]:
    """No gradient for the parameters of networks that do not learn; restored one by one."""
    changed = [p for net in networks if net is not None for p in net.parameters() if p.requires_grad]
    try:
        for parameter in changed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


def critic_step(
    critic: Critic, real: Any, fake: Any, optimizer: torch.optim.Optimizer, options: Options, step: int = 0
) -> float:
    """One step of D: real data against generated samples (what D is called with, without a graph)."""
    loss_of = LOSSES[options.loss][0]
    with modes(list(critic.net.modules()), options.critic_mode == "train"):
        answer = critic.answer(real)
        loss = loss_of(critic.read(answer), critic(fake))
        total = loss
        if critic.auxiliary is not None:
            total = total + critic.auxiliary(answer, real)
        if options.r1 and step % options.r1_every == 0:
            weight = options.r1 * options.r1_every
            total = total + weight * r1(lambda x: critic(_with_image(real, x)), _image(real))
        if options.loss == "wasserstein_gp":
            penalty = gradient_penalty(lambda x: critic(_with_image(real, x)), _image(real), _image(fake))
            total = total + options.gradient_penalty * penalty
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
    return float(loss.detach())


def player_step(
    player: Player, critic: Critic, inputs: Any, optimizer: torch.optim.Optimizer, options: Options
) -> tuple[float, Any]:
    """One step of the player: its outputs' loss under D, which does not learn; mean over outputs.

    Returns the loss, and what D is called with for these outputs (a share of each), without a graph.
    """
    loss_of = LOSSES[options.loss][1]
    args, kwargs = as_inputs(inputs)
    with frozen(critic.net):
        shown = [critic.on_output(y, args, kwargs) for y in player.outputs(*args, **kwargs)]
        with modes(list(critic.net.modules()), options.critic_mode == "train"):
            loss = torch.stack([loss_of(critic(given)) for given in shown]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return float(loss.detach()), _share(shown)


class Trainer:
    """Trains a player against a critic; see :meth:`fit`."""

    def __init__(self, player: Player | None, critic: Critic, options: Options):
        self.player, self.critic, self.options = player, critic, options

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
    ) -> Fit:
        """Train for ``steps`` steps. The recipes' own ``fit`` says what the arguments are."""
        options = self.options
        device = next(self.critic.net.parameters()).device
        real = Batches(real_data, options.seed, device)
        latent = Batches(latents, options.seed + 1, device)
        self._optimizers()
        fit, path = Fit(), Path(out) / "checkpoint.pt" if out is not None else None
        with ExitStack() as stack:
            stop = stack.enter_context(interrupt_between_steps())
            stack.enter_context(torch.random.fork_rng())
            torch.manual_seed(options.seed)
            begin = 0
            if path and resume and path.exists():
                begin = self._restore(checkpoint.load(path), real, latent, fit)
            bar = stack.enter_context(_bar(begin, options.warmup + steps, progress))
            started = time.monotonic() - fit.seconds
            total = options.warmup + steps
            for step in range(begin, total):
                losses = self._step(step, total, real, latent, generate, fit)
                fit.seconds = time.monotonic() - started
                self._log(fit, step, losses, bar)
                done = step + 1
                if path and (done % options.save_every == 0 or done == total or stop.is_set()):
                    checkpoint.save(self._state(done, real, latent, fit), path)
                    if preview and done < total and not stop.is_set():
                        preview(done, self.average)
                if stop.is_set():
                    logger.warning("Interrupted after step %d%s.", done, f": saved in {path}" if path else "")
                    raise KeyboardInterrupt
        if self.player is not None and self.average is not None:
            self.player.learner.load_state_dict(self.average.module.state_dict())
        return fit

    def _optimizers(self) -> None:
        options = self.options
        self.critic_optimizer = torch.optim.Adam(self.critic.net.parameters(), options.critic_lr, options.betas)
        self.optimizer: torch.optim.Optimizer | None = None
        self.average: EMA | None = None
        if self.player is not None:
            learner = self.player.learner
            self.optimizer = torch.optim.Adam(learner.parameters(), options.lr, options.betas)
            self.average = EMA(learner, options.ema)

    def _step(self, step: int, total: int, real: Batches, latent: Batches, generate: Any, fit: Fit) -> dict[str, float]:
        options, losses, fake = self.options, {}, None
        self._set_rates(max(step - options.warmup, 0) / max(total - options.warmup, 1))
        if self.player is not None and self.optimizer is not None and step >= options.warmup:
            inputs = latent.next(options.batch)
            losses["player"], fake = player_step(self.player, self.critic, inputs, self.optimizer, options)
            if self.average is not None:
                self.average.update(self.player.learner)
            fit.steps += 1
            fit.samples += options.batch
        if options.train_critic:
            for repeat in range(options.critic_steps):
                if fake is None or repeat:
                    args, kwargs = as_inputs(latent.next(options.batch))
                    with torch.no_grad():
                        fake = self.critic.on_output(generate(*args, **kwargs), args, kwargs)
                losses["critic"] = critic_step(
                    self.critic, real.next(len(_image(fake))), fake, self.critic_optimizer, options, step
                )
            if self.critic.average is not None:
                self.critic.average.update(self.critic.net)
        return losses

    def _set_rates(self, done: float) -> None:
        options = self.options
        factor = 0.5 * (1 + math.cos(math.pi * done)) if options.decay == "cosine" else 1.0
        for optimizer, rate in ((self.optimizer, options.lr), (self.critic_optimizer, options.critic_lr)):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rate * factor

    def _log(self, fit: Fit, step: int, losses: dict[str, float], bar: Any) -> None:
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"The loss of the {wrong[0]} is not finite at step {step}: training has diverged. The last "
                "checkpoint is intact. Lower lr or critic_lr, or raise r1, and start or resume from it."
            )
        fit.history.append({"step": step, "seconds": fit.seconds, **losses})
        bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
        bar.update()

    def _state(self, step: int, real: Batches, latent: Batches, fit: Fit) -> dict[str, Any]:
        state: dict[str, Any] = {
            "step": step,
            "options": asdict(self.options),
            "critic": self.critic.net.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "positions": [real.state(), latent.state()],
            "random": self._dice().get(),
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
        return Dice(next(self.critic.net.parameters()).device)

    def _restore(self, state: dict[str, Any], real: Batches, latent: Batches, fit: Fit) -> int:
        was, now = state["options"], asdict(self.options)
        differ = {k: (was.get(k), v) for k, v in now.items() if _plain(was.get(k)) != _plain(v)}
        differ.pop("save_every", None)
        if differ:
            raise TrainingError(
                f"The checkpoint is of a run with other options: {differ} (was, is). Resume with the same "
                "ones, or choose another out=."
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
        real.restore(state["positions"][0])
        latent.restore(state["positions"][1])
        self._dice().set(state["random"])
        for name, value in state["fit"].items():
            setattr(fit, name, value)
        return int(state["step"])


@contextmanager
def interrupt_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C is heard when a step is whole; a second one at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heard(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(begin: int, total: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(initial=begin, total=total, disable=None if progress else True, unit="step") as bar:
        yield bar


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _image(given: Any) -> Tensor:
    return next(tensor for _, tensor in tensors(given) if tensor.is_floating_point())


def _with_image(given: Any, image: Tensor) -> Any:
    """D's input with its first floating-point tensor replaced (the gradient is taken there)."""
    first = _image(given)
    return map_tensors(lambda tensor: image if tensor is first else tensor, given)


def _share(shown: list[Any]) -> Any:
    """Of what D was shown at each step, every k-th sample: one batch, without a graph."""
    many, parts = len(shown), [dict(tensors(given)) for given in shown]
    mixed = shown[0]
    for path in parts[0]:
        rows = [part[path].detach()[place::many] for place, part in enumerate(parts)]
        mixed = put(mixed, path, torch.cat(rows))
    return mixed
