"""AFL phase 2 (ICCV 2019, §3.2): G frozen, the feedback modules learn G's own loss, D keeps learning.

Example:
    >>> recipe = fbwrap.recipes.AFL(loop, loss="bce", lr=1e-4)                          # doctest: +SKIP
    >>> recipe.fit(images, lambda n: torch.randn(n, 100, 1, 1), steps=5000, out="run")  # doctest: +SKIP
    >>> loop.save_pretrained("head")                                                    # doctest: +SKIP
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fbwrap.critic import image_of
from fbwrap.errors import SettingError
from fbwrap.keeping import copied, modes
from fbwrap.loop import FeedbackLoop
from fbwrap.naming import unwrap

from .data import Batches
from .ema import EMA
from .options import Options
from .pictures import is_picture, save_grid
from .trainer import Auxiliary, Critic, Fit, Trainer, as_inputs, frozen


class _Head:
    """The feedback modules as the player: y_1 … y_T are to fool D."""

    def __init__(self, loop: FeedbackLoop):
        self.loop = loop
        self.learner: nn.Module = loop.feedback

    def outputs(self, *args: Any, **kwargs: Any) -> Sequence[Any]:
        return self.loop.rollout(*args, **kwargs).outputs[1:]


class AFL:
    """Trains a loop's feedback modules.

    G is frozen and in eval mode: its weights and statistics do not move. D's learning happens in the
    loop's own copy of D, whose average over the steps gives the feedback (``loop.discriminator``
    afterwards); the user's D stays as it is. The loop's own
    ``steps`` and ``strength`` hold in training; with T > 1 the loss is the mean over y_1 … y_T.

    Args:
        loop: an attached loop with a discriminator.
        auxiliary: a further loss of D on real data, ``f(D's answer, real batch)``.
        options: fields of :class:`Options`, by name.
    """

    def __init__(self, loop: FeedbackLoop, *, auxiliary: Auxiliary | None = None, **options: Any):
        if loop.discriminator is None:
            raise SettingError(
                "AFL trains against a discriminator, and this loop has none. Attach with one "
                "(fbwrap.recipes.train_discriminator makes one for a published G)."
            )
        if loop.steps < 1:
            raise SettingError("The loop has steps=0: there is no feedback to train. Set loop.steps = 1.")
        self.loop, self.options = loop, Options(**options)
        self._critic = Critic(copied(unwrap(loop.discriminator)), loop.critic_input, loop.response, auxiliary)

    def fit(
        self,
        real_data: Any,
        latents: Any,
        steps: int,
        *,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> Fit:
        """Train for ``steps`` steps; afterwards the loop holds the averaged weights, in eval mode.

        Args:
            real_data: what D is called with for real data: a tensor of samples, a tuple or dict of
                tensors, a function of the batch size, or an iterable of batches.
            latents: G's inputs, likewise (a tuple: positional inputs; a dict: keyword inputs).
            out: a folder for checkpoints, sample grids (base above, corrected below) and, in the end,
                the head. None writes nothing.
            resume: go on from the checkpoint in ``out``, to the same numbers as without the break.
            progress: show a progress bar.

        Returns:
            Losses, steps, samples and time.

        Raises:
            TrainingError: a loss that is not finite, a checkpoint of another run.
        """
        loop, options = self.loop, self.options
        generator, critic = unwrap(loop.generator), self._critic
        if options.train_critic:
            if options.critic_ema and critic.average is None:
                critic.average = EMA(critic.net, options.critic_ema)
            loop.use_discriminator(critic.average.module if critic.average else critic.net)
        trainer = Trainer(_Head(loop), critic, options)
        folder = Path(out) if out is not None else None
        # a few inputs for the sample grids, drawn without moving the user's random numbers
        shown = self._shown(latents) if folder else None

        def preview(step: int, average: EMA | None) -> None:
            if folder and shown is not None:
                self._grid(folder / f"samples_{step:06d}.png", shown, average)

        with ExitStack() as stack:
            stack.enter_context(modes(list(generator.modules()), False))
            stack.enter_context(frozen(generator))
            loop.train()
            stack.callback(loop.eval)
            fit = trainer.fit(
                real_data,
                latents,
                steps,
                loop,
                out=folder,
                resume=resume,
                progress=progress,
                preview=preview,
            )
            if options.recalibrate and options.ema:
                self._recalibrate(latents)
        loop.facts["trained_on"] = {
            "recipe": "AFL",
            "options": asdict(options),
            "steps": fit.steps,
            "samples": fit.samples,
        }
        if folder:
            loop.save_pretrained(folder / "head")
        return fit

    @torch.no_grad()
    def _recalibrate(self, latents: Any) -> None:
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

    def _shown(self, latents: Any) -> Any:
        device = next(self._critic.net.parameters()).device
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed)
            return Batches(latents, self.options.seed, device).next(16) if _again(latents) else None

    @torch.no_grad()
    def _grid(self, path: Path, inputs: Any, average: EMA | None) -> None:
        args, kwargs = as_inputs(inputs)
        loop, learning = self.loop, self.loop.feedback
        try:
            if average is not None:
                loop.feedback = average.module  # type: ignore[assignment]
            loop.eval()
            with torch.random.fork_rng():
                outputs = [image_of(y) for y in loop.rollout(*args, **kwargs).outputs]
        finally:
            loop.feedback = learning
            loop.train()
        if is_picture(outputs[0]):
            save_grid(outputs, path, self.options.value_range)


def _again(latents: Any) -> bool:
    """Whether drawing a few inputs costs nothing: not from an iterable that can be read once."""
    return callable(latents) or isinstance(latents, torch.Tensor | tuple | dict)
