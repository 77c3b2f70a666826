"""Running an experiment: phase 1 where there is one, then the head.

Examples:
    >>> loop, fit = run(EXPERIMENTS["swiss_roll"].small(), None, "runs/roll")          # doctest: +SKIP
"""

import logging
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fbwrap
from fbwrap.errors import SettingError
from fbwrap.heads.files import GENERATOR

from ..afl import AFL
from ..data.batches import Pairs
from ..fal import FAL
from ..gan import GAN
from ..training.fit import Fit
from ..training.options import Options
from ..training.processes import Processes
from ..training.weights import save_generator
from .config import Experiment

logger = logging.getLogger("fbwrap")
AS_PUBLISHED = {"warmup": 0, "critic_steps": 1, "held_out": 0}  # of the papers' runs, where an experiment says no other


def run(
    config: Experiment,
    data: str | Path | None,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    trackers: object = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    perceptual: nn.Module | None = None,
    base: str | Path | None = None,
) -> tuple[fbwrap.FeedbackLoop, Fit]:
    """Run an experiment: phase 1 where there is one, then the head; checkpoints, pictures and the head go to ``out``.

    Args:
        data: the folder or file of its data; the Swiss roll needs none.
        resume: go on from what is in ``out``.
        perceptual: see :class:`AFL`; ESRGAN's wants a VGG.
        base: where phase 1 is kept; None: in ``out``.
    """
    checked(config)
    shared: dict[str, Any] = {"trackers": trackers, "perceptual": perceptual, "seed": seed}
    common = {"resume": resume, "progress": progress}
    G, D, example, real, latents = _without_feedback(
        config, data, base or Path(out) / "base", config.base, config.base_steps, device, shared, common
    )
    torch.manual_seed(seed)
    loop = fbwrap.attach(
        *(G, D, config.layers),
        module=config.module,
        example=example,
        critic_input=config.critic_input,
        steps=config.feedback_steps,
    )
    recipe = {"AFL": AFL, "FAL": FAL}[config.recipe](loop, **{**shared, **AS_PUBLISHED, **config.head})
    if perceptual is None and recipe.options.loss == "relativistic":
        logger.warning("ESRGAN has a perceptual loss, and none was given: this is not the paper's experiment.")
    fit = recipe.fit(real, latents, config.steps, out=out, **common)
    if not recipe.options.held_out:
        loop.strength = config.strength
    if Processes.is_main():
        save_generator(G, Path(out) / "head")
        loop.note(trained_on={**loop.facts.trained_on, "generator": GENERATOR})
        loop.save_pretrained(Path(out) / "head", discriminator="all")  # nobody else has the D of phase 1
    return loop, fit


def checked(config: Experiment) -> None:
    """Refuse at once what would be refused after phase 1: an option, a layer, a module that do not exist."""
    arguments = {name for recipe in (GAN, AFL, FAL) for name in signature(recipe).parameters}
    for options in (config.base, config.head):
        Options.of({name: value for name, value in options.items() if name not in arguments})
    with torch.random.fork_rng(devices=[]):
        G, D, example = networks_of(config)
        fbwrap.attach(
            *(G, D, config.layers), module=config.module, example=example, critic_input=config.critic_input
        ).detach()


def train_without(
    config: Experiment,
    data: str | Path | None,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    device: str | torch.device = "cpu",
    **shared: object,
) -> nn.Module:
    """The same G without feedback: of an AFL experiment its phase 1 (shared with :func:`run` by ``base=out / "base"``),
    of a FAL one G trained for as many steps with the same options. The rest as :func:`run` takes it."""
    fal = config.recipe == "FAL"
    options, steps = (config.head, config.steps) if fal else (config.base, config.base_steps)
    options = {name: value for name, value in options.items() if name != "train_generator"}
    folder = Path(out) / ("no_feedback" if fal else "base")
    common = {"resume": resume, "progress": progress}
    G, *_ = _without_feedback(config, data, folder, options, steps, device, {"seed": 0, **shared}, common)
    return G


def _without_feedback(
    config: Experiment,
    data: str | Path | None,
    folder: Path | str,
    options: Mapping[str, Any],
    steps: int,
    device: str | torch.device,
    shared: Mapping[str, Any],
    common: Mapping[str, Any],
) -> tuple[nn.Module, nn.Module, Tensor, object, object]:
    """G and D after ordinary training (none of it with no steps), an example, real data and latents."""
    torch.manual_seed(shared["seed"])
    G, D, example = networks_of(config, device)
    real, latents = _data_of(config, data, device)
    if steps:
        recipe = GAN(G, D, critic_input=config.critic_input, **{**shared, **options})
        recipe.fit(real, latents, steps, out=folder, **common)
    return G.eval(), D.eval(), example, real, latents


def networks_of(config: Experiment, device: str | torch.device = "cpu") -> tuple[nn.Module, nn.Module, Tensor]:
    """G, D, and an example of G's inputs."""
    G, D = (net.to(device) for net in config.networks(config))
    if config.example:
        return G, D, config.example(config).to(device)
    return G, D, torch.randn(2, *(config.latent(config) if config.latent else ()), device=device)


def _data_of(config: Experiment, data: str | Path | None, device: str | torch.device) -> tuple[object, object]:
    """Real data, and latents where it is not paired."""
    try:
        real = config.data(Path(data) if data else None, config)
    except TypeError as error:
        if not config.reading:
            raise
        raise SettingError(f"The data is not read with {', '.join(config.reading)}: {error}.") from error
    shape = config.latent(config) if config.latent else ()
    return real, None if isinstance(real, Pairs) else lambda n: torch.randn(n, *shape, device=device)
