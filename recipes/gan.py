"""Ordinary adversarial training: AFL's phase 1, "G trained on" as a control, and a D for a published G.

Examples:
    >>> fbwrap.recipes.GAN(G, D, loss="hinge", lr=2e-4).fit(images, latents, steps=5000)   # doctest: +SKIP
    >>> fbwrap.recipes.train_discriminator(G, D, images, latents, steps=1000)              # doctest: +SKIP
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import nn

from fbwrap.engine.names import unwrap
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import CriticInput, critic_input_of

from .training.fit import Fit
from .training.loss_choice import options_of
from .training.steps import Auxiliary, Critic, frozen
from .training.trainer import Trainer


class _Generator:
    """A whole generator as the player."""

    def __init__(self, net: nn.Module):
        self.learner = net

    def outputs(self, *args: object, **kwargs: object) -> Sequence[Any]:
        return [self.learner(*args, **kwargs)]


class GAN:
    """Trains G and D against each other, in place; D in the mode that ``critic_mode`` says (``"eval"``, the default,
    keeps the statistics of its batch norms: say ``"train"`` for a D that is new).

    Args:
        generator, discriminator: the two networks.
        critic_input, response: as in :func:`fbwrap.attach`; auxiliary: as in :class:`AFL`.
        perceptual, trackers: as in :class:`AFL`.
        generator_mode: ``"train"``, or ``"eval"`` to keep G's statistics as they are.
        options: fields of :class:`Options`, by name.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        critic_input: str | CriticInput | None = None,
        response: str | Callable[[Any], Any] | None = None,
        auxiliary: Auxiliary | None = None,
        generator_mode: str = "train",
        perceptual: nn.Module | None = None,
        trackers: object = None,
        **options: object,
    ):
        self.generator, self.discriminator = unwrap(generator), unwrap(discriminator)
        self.options = options_of(options, self.generator, self.discriminator, critic_steps=1)
        self._critic = Critic(self.discriminator, critic_input_of(critic_input)[1], response, auxiliary)
        if generator_mode not in ("train", "eval"):
            raise SettingError(f"generator_mode={generator_mode!r}: pass 'train' or 'eval'.")
        self._mode, self._perceptual, self._trackers = generator_mode, perceptual, trackers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options.changed()})"

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
        """Train for ``steps`` steps; afterwards G holds its averaged weights. As :meth:`AFL.fit`."""
        player = _Generator(self.generator)
        trainer = Trainer(player, self._critic, self.options, perceptual=self._perceptual, trackers=self._trackers)
        with training_mode(list(self.generator.modules()), self._mode == "train"):
            return trainer.fit(
                real_data,
                latents,
                steps,
                self.generator,
                out=out,
                resume=resume,
                progress=progress,
            )


def train_discriminator(
    generator: nn.Module,
    discriminator: nn.Module,
    real_data: object,
    latents: object,
    steps: int,
    *,
    critic_input: str | CriticInput | None = None,
    response: str | Callable[[Any], Any] | None = None,
    auxiliary: Auxiliary | None = None,
    trackers: object = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    **options: object,
) -> Fit:
    """Teach D, in place, to tell real data from what a frozen G makes.

    For generators that were published without their discriminator, and as a warm-up for one that does
    not know this G's faults. G is in eval mode and does not change.

    Args:
        real_data, latents, steps, out, resume, progress: as in :meth:`AFL.fit`.
        critic_input, response: as in :func:`fbwrap.attach`; auxiliary, trackers: as in :class:`AFL`.
        options: fields of :class:`Options`, by name.
    """
    net = unwrap(generator)
    critic = Critic(unwrap(discriminator), critic_input_of(critic_input)[1], response, auxiliary)
    asked = options_of(options, net, critic.net, critic_steps=1)
    if options.get("critic_steps") is None:
        asked = replace(asked, critic_steps=1)  # a step is D's
    with ExitStack() as stack:
        stack.enter_context(training_mode(list(net.modules()), False))
        stack.enter_context(frozen(net))
        return Trainer(None, critic, asked, trackers=trackers).fit(
            real_data,
            latents,
            steps,
            net,
            out=out,
            resume=resume,
            progress=progress,
            fixed={"G": net},
        )
