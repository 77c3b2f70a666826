"""AFL phase 2 (ICCV 2019, §3.2): G frozen, the feedback modules learn G's own loss, D keeps learning.

Examples:
    >>> recipe = fbwrap.recipes.AFL(loop, loss="bce", lr=1e-4)                          # doctest: +SKIP
    >>> recipe.fit(images, lambda n: torch.randn(n, 100, 1, 1), steps=5000, out="run")  # doctest: +SKIP
    >>> loop.save_pretrained("head")                                                    # doctest: +SKIP
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fbwrap.engine.copies import detached_copy
from fbwrap.engine.names import unwrap
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import SettingError, short
from fbwrap.feedback.critic import image_of
from fbwrap.feedback.latents import is_latents
from fbwrap.feedback.settings import is_zero
from fbwrap.files.pictures import is_picture
from fbwrap.heads.inputs import description_of, source_of
from fbwrap.loop import FeedbackLoop

from .data.batches import Batches, Pairs
from .training.ema import EMA
from .training.fit import Fit
from .training.loss_choice import options_of
from .training.pictures import save_grid
from .training.processes import Processes
from .training.steps import Auxiliary, Critic, Head, Player, as_inputs, frozen
from .training.trainer import Trainer
from .training.watch import Watch

logger = logging.getLogger("fbwrap")


class AFL:
    """Trains a loop's feedback modules.

    G is frozen and in eval mode: its weights and statistics do not move. D's learning happens in the
    loop's own copy of D, whose average over the steps gives the feedback (``loop.discriminator``
    afterwards); the user's D stays as it is. With ``critic_ema=1`` the feedback is the user's D's own from the first
    step to the last, and the copy only judges: what the head reads does not move under it, and the head fits the D
    that was published and ships none (``loop.save_pretrained(folder, discriminator="all")`` does). The loop's own
    ``steps`` and ``strength`` hold in training; with T > 1 the loss is the mean over y_1 … y_T, or y_T's alone
    (``loss_steps="last"``).

    Args:
        loop: an attached loop with a discriminator.
        auxiliary: a further loss of D on real data, ``f(D's answer, real batch)``.
        perceptual: with paired data, a distance ``f(output, target)``, such as
            :class:`~fbwrap.recipes.Perceptual`.
        generator_mode: G's mode in training, ``"eval"`` or ``"train"``: the one in which it will be used. The head
            keeps it, and a loop whose G is in the other mode says so. No statistic of G moves in either.
        trackers: where losses go: anything that accelerate's ``log_with`` takes; None: TensorBoard, where it is
            installed and ``out`` is given; ``"none"``: nowhere.
        options: fields of :class:`Options`, by name.

    Raises:
        SettingError: a loop that cannot be trained; an option that does not exist.
    """

    _critic_steps = 2  # for each of the head's, where neither user nor loss says

    def __init__(
        self,
        loop: FeedbackLoop,
        *,
        auxiliary: Auxiliary | None = None,
        perceptual: nn.Module | None = None,
        generator_mode: Literal["eval", "train"] = "eval",
        trackers: object = None,
        **options: object,
    ):
        if loop.discriminator is None:
            raise SettingError(
                f"{type(self).__name__} trains against a discriminator, and this loop has none. Attach with one "
                "(fbwrap.recipes.train_discriminator makes one for a published G)."
            )
        for name, net in (("G", loop.generator), ("D", loop.discriminator)):
            if any(parameter.is_inference() for parameter in unwrap(net).parameters()):
                raise SettingError(
                    f"{name}'s weights were made within torch.inference_mode, and no gradient passes through them. "
                    "Make it outside of that block; what it is called in does not matter."
                )
        if loop.steps < 1:
            raise SettingError("The loop has steps=0: there is no feedback to train. Set loop.steps = 1.")
        if unclear := loop.facts.unclear_response:
            raise SettingError(f"{unclear} Attach again with it.")
        if loop.facts.critic_in_part:
            raise SettingError(
                "This head was saved with only the first layers of its D, so it cannot be trained further. "
                "Pass a complete D first: loop.use_discriminator(D). To avoid this, save heads with "
                "discriminator='all'."
            )
        if generator_mode not in ("train", "eval"):
            raise SettingError(f"generator_mode={generator_mode!r}: pass 'train' or 'eval'.")
        self.loop = loop
        self.options = options_of(options, loop.generator, loop.discriminator, self._critic_steps)
        pack, part = loop.critic_call.pack, self.options.batch // self.options.accumulate
        if part % pack:
            raise SettingError(
                f"D judges {pack} samples together, so batch / accumulate = {part} must be a multiple of "
                f"{pack}. Pass "
                f"batch={pack * self.options.accumulate * max(1, round(64 / pack / self.options.accumulate))}."
            )
        self._perceptual, self._trackers = perceptual, trackers
        self._generator_mode: str | None = generator_mode
        with torch.inference_mode(False):
            net = detached_copy(unwrap(loop.discriminator))
        self._critic = Critic(net, loop.critic_input, loop.response, auxiliary)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.loop)} link(s), T = {self.loop.steps}, {self.options.changed()})"

    def fit(
        self,
        real_data: object,
        latents: object = None,
        steps: int = 1000,
        *,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> Fit:
        """Train for ``steps`` steps; afterwards the loop holds the averaged weights, in eval mode, and the strength
        at which the head does no harm on held-out data (``Options.held_out``, :mod:`fbwrap.recipes.training.watch`).

        Args:
            real_data: what D is called with for real data: a tensor of samples, a tuple or dict of
                tensors, a function of the batch size, or an iterable of batches. Or paired data,
                :class:`~fbwrap.recipes.data.Pairs` of G's inputs and targets.
            latents: G's inputs, likewise (a tuple: positional inputs; a dict: keyword inputs); or how they are
                distributed (``"uniform:-1:1"``, ``["normal", "labels:0:9"]``: :mod:`fbwrap.feedback.latents`), which
                the head then keeps. None with pairs, or as ``loop.latents`` says.
            out: a folder for checkpoints, sample grids (a row a step; FAL's are of the weights as they learn, AFL's of
                their average) and, in the end, the head. None writes nothing.
            resume: go on from the checkpoint in ``out``, to the same numbers as without the break.
            progress: show a progress bar.

        Returns:
            Losses, steps, samples, time, and how the head compares with the base.

        Raises:
            SettingError: data that D cannot take, or that is unlike what G makes; a loss that must be said
                (:mod:`fbwrap.recipes.training.loss_choice`).
            TrainingError: a loss that is not finite before the first comparison, a checkpoint of another run.
        """
        loop, options = self.loop, self.options
        if all(is_zero((loop.strength, loop[i].strength)) for i in range(len(loop))):
            raise SettingError("The loop's strength is 0: no output depends on the head. Train at strength 1.")
        self._use_learning_critic()
        latents = self._latents(real_data, latents)
        trainer = Trainer(
            *(self._player(), self._critic, options),
            perceptual=self._perceptual,
            trackers=self._trackers,
            warmup=self._warmup(steps),
            value_range=loop.facts.value_range,
        )
        folder = Path(out) if out is not None else None
        # a few inputs for the sample grids, drawn without moving the user's random numbers
        shown = self._shown(_inputs_of(real_data, latents)) if folder else None

        def preview(step: int, average: EMA | None) -> None:
            if folder and shown is not None:
                self._grid(folder / f"samples_{step:06d}.png", shown, average)

        with self._learning():
            fit = trainer.fit(
                *(real_data, latents, steps, loop),
                out=folder,
                resume=resume,
                progress=progress,
                preview=preview,
                fixed=self._fixed(),
                about=self._about(),
                watch=self._watch,
            )
            if options.recalibrate and options.ema:
                self._recalibrate(_inputs_of(real_data, latents))
            if trainer.watch is not None:
                with self._showing(None):
                    fit.held_out = trainer.watch.choose(loop.feedback)
        loop.note(generator_mode=self._generator_mode, trained_on=self._trained_on(fit))
        if folder and Processes.is_main():
            self._save(folder)
        return fit

    def _use_learning_critic(self) -> None:
        """The feedback's D is the one that learns, or its average."""
        options, critic = self.options, self._critic
        if options.train_critic and options.critic_ema < 1:
            if options.critic_ema and critic.average is None:
                with torch.inference_mode(False):
                    critic.average = EMA(critic.net, options.critic_ema)
            self.loop.use_discriminator(critic.average.module if critic.average else critic.net)

    def _about(self) -> dict[str, object]:
        """What must be the same when the run is resumed."""
        return {
            "steps of feedback": self.loop.steps,
            "links": [str(connection) for connection in self.loop.connections],
            "modules": [type(module).__name__ for module in self.loop.feedback],
            "perceptual losses": type(self._perceptual).__name__,
        }

    def _trained_on(self, fit: Fit) -> dict[str, object]:
        """What the head says about its training."""
        return {
            "recipe": type(self).__name__,
            "feedback_steps": self.loop.steps,
            "options": asdict(self.options),
            "steps": fit.steps,
            "samples": fit.samples,
            "held_out": {str(share): ratio for share, ratio in fit.held_out.items()},
        }

    def _latents(self, real_data: object, given: Any) -> Any:
        """The source of G's inputs; a description becomes the loop's own, and one that a function's numbers tell."""
        if is_latents(given):
            self.loop.latents = given
            return source_of(self.loop)
        if given is None and not isinstance(real_data, Pairs) and self.loop.latents is not None:
            return source_of(self.loop)
        if callable(given) and self.loop.latents is None:
            self.loop.latents = description_of(given, self.loop.facts.example)
        return given

    def _player(self) -> Player:
        return Head(self.loop, self.options.loss_steps)

    def _warmup(self, steps: int) -> int:
        """Steps of D alone, where nobody says: a published D has often not seen this G's samples in eval mode."""
        return min(200, steps // 5)

    def _watch(self, trainer: Trainer) -> Watch | None:
        """What compares the head with its base."""
        head = trainer.average.module if trainer.average is not None else self.loop.feedback
        kept = {"head": head, **{f"D {i}": net for i, net in enumerate(self._learning_critics())}}

        def mean(values: dict[str, float]) -> dict[str, float]:
            return trainer.mean(values)

        return Watch(self.loop, kept, lambda: self._showing(trainer.average), mean)

    def _learning_critics(self) -> list[nn.Module]:
        average = self._critic.average
        return [self._critic.net, *([average.module] if average else [])]

    def _fixed(self) -> dict[str, nn.Module]:
        """What does not learn: the frozen G, and a D that gives the feedback as it came."""
        D, average = self.loop.discriminator, self._critic.average
        learning = (self._critic.net, average.module if average else None)
        alone = {"D": unwrap(D)} if D is not None and all(unwrap(D) is not net for net in learning) else {}
        return {"G": unwrap(self.loop.generator), **alone}

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """G frozen, the head in train mode."""
        generator = unwrap(self.loop.generator)
        with training_mode(list(generator.modules()), self._training), frozen(*self._fixed().values()):
            self.loop.train()
            try:
                yield
            finally:
                self.loop.eval()

    def _save(self, folder: Path) -> None:
        # what D answers is a study's too: all of D, unless it is the one that was attached, as it came
        self.loop.save_pretrained(folder / "head", discriminator="auto" if self.options.critic_ema == 1 else "all")

    @torch.no_grad()
    def _recalibrate(self, latents: object) -> None:
        """Read the batch norms' running statistics anew: those of the averaged weights, not an average."""
        norms = [m for m in self.loop.feedback.modules() if isinstance(m, _BatchNorm)]
        if not norms or not _again(latents):
            return
        momenta = [norm.momentum for norm in norms]
        batches = Batches(latents, self.options.seed + 2, next(self._critic.net.parameters()).device)
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
            with torch.random.fork_rng():
                torch.manual_seed(self.options.seed + 2)
                for _ in range(self.options.recalibrate):
                    args, kwargs = as_inputs(batches.next(self.options.batch))
                    self.loop(*args, **kwargs)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum

    def _shown(self, latents: object) -> object:
        device = next(self._critic.net.parameters()).device
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed)
            return Batches(latents, self.options.seed, device).next(16) if _again(latents) else None

    @contextmanager
    def _showing(self, average: EMA | None) -> Iterator[None]:
        """Within the block the loop's head is its average, and in eval mode."""
        loop, learning = self.loop, self.loop.feedback
        try:
            if average is not None and isinstance(average.module, nn.ModuleList):
                loop.feedback = average.module
            loop.eval()
            with torch.random.fork_rng(), training_mode(list(unwrap(loop.generator).modules()), self._training):
                yield
        finally:
            loop.feedback = learning
            loop.train()

    @property
    def _training(self) -> bool:
        """Whether G is in train mode."""
        return self._generator_mode == "train"

    @torch.no_grad()
    def _grid(self, path: Path, inputs: object, average: EMA | None) -> None:
        args, kwargs = as_inputs(inputs)
        with self._showing(average):
            outputs = [image_of(y) for y in self.loop.rollout(*args, **kwargs).outputs]
        if not is_picture(outputs[0].shape):
            return
        try:
            save_grid(outputs, path, self.options.value_range or self.loop.facts.value_range or (-1.0, 1.0))
        except Exception as error:  # noqa: BLE001 -- whatever a full disk or a broken image library raises
            logger.warning("%s could not be written (%s): training goes on without it.", path, short(error, 200))


def _inputs_of(real_data: object, latents: object) -> object:
    """A source of G's inputs for grids and statistics."""
    if not isinstance(real_data, Pairs) or real_data.targets is not None:
        return real_data.inputs if isinstance(real_data, Pairs) else latents
    if hasattr(real_data.inputs, "__getitem__") and not isinstance(real_data.inputs, list):
        batches = Batches(real_data.inputs, 0)
        return lambda n: batches.next(n)[0]
    return real_data.inputs


def _again(latents: object) -> bool:
    """Whether drawing a few inputs costs nothing: not from an iterable that can be read once."""
    return callable(latents) or isinstance(latents, torch.Tensor | tuple | dict)
