"""The papers' experiments as small configs, run by ``fbwrap train NAME --data DIR``.

Examples:
    >>> config = EXPERIMENTS["cifar10_dcgan"]
    >>> config.head["lr"], config.changed({"head.lr": "1e-3", "width": "8"}).width
    (0.0002, 8)

Numbers are the papers' where known; a comment says where they are not. What a phase does not name has the default of
:class:`Options`, which is ours and not the papers': averages of what learns and of D, rates that fall to zero. AFL's
have two phases: G and D are trained (``base``), then the head with G frozen (``head``). FAL's have one, in which G, D
and the head learn together. Every one has a smoke size, which runs in seconds.
"""

import ast
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fbwrap
from fbwrap.errors import SettingError
from fbwrap.feedback.settings import check_strength
from fbwrap.heads.files import GENERATOR

from . import layouts, sources, voxels
from .afl import AFL
from .data import Pairs
from .fal import FAL
from .fit import Fit
from .gan import GAN
from .networks import dcgan, residual, voxel
from .options import Options
from .processes import Processes
from .weights import save_generator

logger = logging.getLogger("fbwrap")
Parts = tuple[nn.Module, nn.Module]
AS_PUBLISHED = {"warmup": 0, "critic_steps": 1, "held_out": 0}  # of the papers' runs, where an experiment says no other


@dataclass(frozen=True)
class Experiment:
    """One experiment of the papers.

    Args:
        about: where it is from.
        recipe: ``"AFL"`` or ``"FAL"``.
        networks: ``f(config)`` gives G and D.
        data: ``f(folder, config)`` gives real data, or :class:`~fbwrap.recipes.data.Pairs`.
        example: ``f(config)`` gives G's inputs for one sample; and, where data is not paired, its latents' shape.
        layers, module, feedback_steps: as ``layers``, ``module`` and ``steps`` of :func:`fbwrap.attach`.
        critic_input: as there.
        strength: α that the head is saved with; in training it is 1. (With ``head.held_out`` it is chosen.)
        size, z, width, blocks: of the networks.
        base_steps, steps: optimizer steps of both phases.
        reading: further arguments of the data's source: ``data.on_error=skip``, of voxels ``data.packed=True``.
        base, head: options of both phases.
        smoke: what a run in seconds changes.
    """

    about: str
    recipe: str
    networks: Callable[["Experiment"], Parts]
    data: Callable[[Path | None, "Experiment"], Any]
    latent: Callable[["Experiment"], tuple[int, ...]] | None = None
    example: Callable[["Experiment"], Tensor] | None = None
    layers: Any = "auto"
    module: Any = "dual"
    feedback_steps: int = 1
    critic_input: str | None = None
    size: int | tuple[int, int] = 32
    strength: float = 1.0
    z: int = 128
    width: int = 64
    blocks: int = 9
    base_steps: int = 0
    steps: int = 100_000
    reading: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    smoke: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, settings: Mapping[str, Any]) -> "Experiment":
        """With other settings: ``{"steps": 10, "head.lr": "1e-3"}``; text is read as a literal.

        Raises:
            SettingError: there is no such setting.
        """
        new: Experiment = self
        for key, value in settings.items():
            group, dot, name = key.partition(".")
            given = _literal(value)
            change: dict[str, Any] = {key: given}
            if dot and group in ("base", "head", "data"):
                group = "reading" if group == "data" else group
                change = {group: {**getattr(new, group), name: given}}
                new = replace(new, **change)
            elif not dot and key in ("size", "z", "width", "blocks", "base_steps", "steps", "layers", "module",
                                     "feedback_steps", "strength"):  # fmt: skip
                _check(key, given, getattr(new, key))
                new = replace(new, **change)
            else:
                raise SettingError(
                    f"There is no setting {key!r}. There are size, z, width, blocks, base_steps, steps, layers, "
                    "module, feedback_steps, strength, the options of both phases: base.lr, head.batch, …, and of "
                    "reading the data: data.on_error, …"
                )
        return new

    def small(self) -> "Experiment":
        """The smoke size."""
        return self.changed({"base_steps": min(self.base_steps, 2), "steps": 2, "head.recalibrate": 1, **self.smoke})


def _check(key: str, given: Any, before: Any) -> None:
    """Refuse a setting of another kind than what it was."""
    if key == "base_steps":
        if type(given) is not int or given < 0:
            raise SettingError(f"base_steps={given!r}: pass a whole number, 0 or more.")
    elif key == "strength":
        check_strength(given)
    elif key == "size" and isinstance(before, tuple):
        if not isinstance(given, tuple | list) or len(given) != len(before) or not all(map(_positive, given)):
            raise SettingError(f"{key}={given!r}: pass a height and a width, such as '{before}'.")
    elif isinstance(before, int) and not _positive(given):
        raise SettingError(f"{key}={given!r}: pass a whole number, 1 or more.")


def _positive(given: Any) -> bool:
    return type(given) is int and given >= 1


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value


def run(
    config: Experiment,
    data: str | Path | None,
    out: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    trackers: Any = None,
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
    G, D, example, real, latents = _plain(
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
    **shared: Any,
) -> nn.Module:
    """The same G without feedback: of an AFL experiment its phase 1 (shared with :func:`run` by ``base=out / "base"``),
    of a FAL one G trained for as many steps with the same options. The rest as :func:`run` takes it."""
    fal = config.recipe == "FAL"
    options, steps = (config.head, config.steps) if fal else (config.base, config.base_steps)
    options = {name: value for name, value in options.items() if name != "train_generator"}
    folder = Path(out) / ("no_feedback" if fal else "base")
    common = {"resume": resume, "progress": progress}
    G, *_ = _plain(config, data, folder, options, steps, device, {"seed": 0, **shared}, common)
    return G


def _plain(
    config: Experiment,
    data: str | Path | None,
    folder: Path | str,
    options: Mapping[str, Any],
    steps: int,
    device: str | torch.device,
    shared: Mapping[str, Any],
    common: Mapping[str, Any],
) -> tuple[nn.Module, nn.Module, Tensor, Any, Any]:
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


def _data_of(config: Experiment, data: str | Path | None, device: str | torch.device) -> tuple[Any, Any]:
    """Real data, and latents where it is not paired."""
    try:
        real = config.data(Path(data) if data else None, config)
    except TypeError as error:
        if not config.reading:
            raise
        raise SettingError(f"The data is not read with {', '.join(config.reading)}: {error}.") from error
    shape = config.latent(config) if config.latent else ()
    return real, None if isinstance(real, Pairs) else lambda n: torch.randn(n, *shape, device=device)


# -- the parts ----------------------------------------------------------------------------------------


def roll(n: int) -> Tensor:
    """Points of the Swiss roll of the WGAN-GP authors, (n, 2)."""
    t = 1.5 * torch.pi * (1 + 2 * torch.rand(n))
    return (torch.stack((t * t.cos(), t * t.sin()), 1) + 0.25 * torch.randn(n, 2)) / 7.5


def mlp(width: int, outside: int) -> nn.Sequential:
    """Points (N, 2) to (N, outside): four fully connected layers."""
    hidden = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outside))


def _dcgan(norm: str) -> Callable[[Experiment], Parts]:
    def networks(config: Experiment) -> Parts:
        size = config.size if isinstance(config.size, int) else config.size[0]
        return dcgan.Generator(config.z, config.width, size), dcgan.Discriminator(config.width, size, norm)

    return networks


def _translation(
    about: str, inside: int, size: tuple[int, int], layout: Callable[..., Any], smoke: tuple[int, int]
) -> Experiment:
    """pix2pix with feedback, from images of ``inside`` channels, on a data set's layout."""
    return Experiment(
        about, "FAL",
        lambda config: (residual.Translator(inside, 3, config.width, config.blocks),
                        residual.PatchDiscriminator(inside + 3, config.width)),
        lambda folder, config: Pairs(layout(_given(folder), config.size, **config.reading)),
        example=lambda config: torch.zeros(1, inside, *config.size),  # type: ignore[misc]
        layers=["encoder"], module="ast", feedback_steps=3, critic_input="condition_and_output", size=size,
        head={"loss": "least_squares", "reconstruction": 10.0, "lr": 2e-4, "critic_lr": 2e-4, "batch": 1, "r1": 0.0,
              "critic_mode": "train"},
        smoke={"width": 4, "blocks": 2, "size": smoke, "head.batch": 2},
    )  # fmt: skip


def _images(folder: Path | None, config: Experiment) -> Any:
    return sources.Images(_given(folder), config.size, **{"flip": True, **config.reading})


def _cifar(folder: Path | None, config: Experiment) -> Any:
    """CIFAR-10 as it is handed out, or any folder of images."""
    given = _given(folder)
    held = next(given.glob("**/data_batch_1*"), None)
    if held is None:
        return _images(folder, config)
    if config.size != 32:
        raise SettingError(f"size={config.size}: CIFAR-10's own files hold images of 32x32.")
    return layouts.CIFAR10(held.parent, **config.reading)


def _given(folder: Path | None) -> Path:
    if folder is None:
        raise SettingError("This experiment needs data: --data FOLDER.")
    return folder


def _side(config: Experiment) -> int:
    return config.size if isinstance(config.size, int) else config.size[0]


_CIFAR: dict[str, Any] = {
    "lr": 2e-4,
    "critic_lr": 2e-4,
    "betas": (0.0, 0.9),
    "batch": 64,
    "critic_steps": 5,
    "critic_mode": "train",
    "r1": 0.0,
    "decay": "exponential",
    "decay_to": 0.6,  # the authors' code: times .99 after each of (here) 50 epochs
}
_MAP: dict[str, Any] = {"latent": lambda config: (config.z, 1, 1), "data": _images}
_CIFAR_MAP: dict[str, Any] = {**_MAP, "data": _cifar}
_CIFAR_ABOUT = "AFL §4.2, Fig. 5: CIFAR-10, one module at 8x8"  # 50 epochs are a guess: the paper gives none

EXPERIMENTS: dict[str, Experiment] = {
    "swiss_roll": Experiment(
        "AFL §4.1, Fig. 4: four fully connected layers, a module at the last's input; WGAN-GP, 8000 + 8000 steps",
        "AFL", lambda config: (mlp(config.width, 2), mlp(config.width, 1)), lambda folder, config: roll,
        lambda config: (2,),
        layers=[("5", ["1", "3", "5"])], module={"kind": "dual", "norm": "none", "convs": 3}, width=128,
        base_steps=8000, steps=8000,
        # batch, width and rates are not given in the paper; α = .2 there, 1 is better here (docs/results)
        base={"loss": "wasserstein_gp", "gradient_penalty": 0.1, "critic_steps": 5, "r1": 0.0, "lr": 1e-4,
              "critic_lr": 1e-4, "betas": (0.5, 0.9), "batch": 256, "decay": "none", "critic_mode": "train"},
        head={"loss": "wasserstein_gp", "gradient_penalty": 0.1, "critic_steps": 5, "r1": 0.0, "lr": 1e-3,
              "critic_lr": 1e-3, "betas": (0.5, 0.9), "batch": 256, "critic_mode": "train", "critic_ema": 0.0},
        smoke={"width": 8, "base.batch": 8, "head.batch": 8},
    ),
    "cifar10_dcgan": Experiment(
        _CIFAR_ABOUT, "AFL", _dcgan("batch"), **_CIFAR_MAP, module="basic", strength=0.2, base_steps=39_000,
        steps=39_000, base={**_CIFAR, "loss": "bce"}, head={**_CIFAR, "loss": "bce"},
        smoke={"width": 4, "z": 8, "base.batch": 4, "head.batch": 4},
    ),
    "cifar10_wgangp": Experiment(
        _CIFAR_ABOUT, "AFL", _dcgan("none"), **_CIFAR_MAP, module="basic", strength=0.2, base_steps=39_000,
        steps=39_000, base={**_CIFAR, "loss": "wasserstein_gp"}, head={**_CIFAR, "loss": "wasserstein_gp"},
        smoke={"width": 4, "z": 8, "base.batch": 4, "head.batch": 4},
    ),
    "cifar10_sngan": Experiment(
        _CIFAR_ABOUT, "AFL",
        lambda config: (residual.Generator(config.z, 4 * config.width, 32), residual.Discriminator(2 * config.width)),
        _cifar, lambda config: (config.z,), layers=[("blocks.0", "blocks")], strength=0.2, base_steps=39_000,
        steps=39_000,
        base={**_CIFAR, "loss": "hinge"}, head={**_CIFAR, "loss": "hinge"},
        smoke={"width": 4, "z": 8, "base.batch": 4, "head.batch": 4},
    ),
    "celeba_dcgan": Experiment(
        "AFL §4.3, Figs. 6-8: faces of 64x64, four dual modules at 4x4 to 32x32, 20 + 20 epochs of 202 599 faces",
        "AFL", _dcgan("batch"), **_MAP, size=64, z=100, width=128, strength=0.2, base_steps=31_660, steps=31_660,
        base={"loss": "bce", "lr": 2e-4, "critic_lr": 2e-4, "batch": 128, "critic_mode": "train", "r1": 0.0},
        head={"loss": "bce", "lr": 2e-4, "critic_lr": 2e-4, "batch": 128, "critic_mode": "train", "r1": 0.0},
        smoke={"width": 4, "z": 8, "base.batch": 4, "head.batch": 4},
    ),
    "esrgan_x4": Experiment(
        "AFL §4.4, Table 1: ESRGAN x4, four dual modules of three convolutions without norm, α = 1; DIV2K",
        "AFL",
        lambda config: (residual.RRDBNet(config.width, config.blocks, config.width // 2),
                        dcgan.Discriminator(config.width, _side(config))),
        lambda folder, config: Pairs(sources.SuperResolution(_given(folder), 4, _side(config), **config.reading)),
        example=lambda config: torch.rand(1, 3, _side(config) // 4, _side(config) // 4),
        layers="auto", module={"kind": "dual", "norm": "none", "convs": 3}, size=128, width=64, blocks=23,
        base_steps=400_000, steps=100_000,
        # ESRGAN's weights: L1 1e-2, adversarial 5e-3. Its perceptual loss needs a VGG's weights: pass run(perceptual=).
        # ESRGAN learns by L1 alone first; here the base does both at once, with L1 at 1
        base={"loss": "relativistic", "adversarial": 5e-3, "reconstruction": 1.0, "lr": 1e-4, "critic_lr": 1e-4,
              "betas": (0.9, 0.999),
              "batch": 16, "r1": 0.0, "critic_mode": "train", "value_range": (0.0, 1.0)},
        head={"loss": "relativistic", "adversarial": 5e-3, "reconstruction": 1e-2, "lr": 1e-4, "critic_lr": 1e-4,
              "betas": (0.9, 0.999),
              "batch": 16, "r1": 0.0, "critic_mode": "train", "value_range": (0.0, 1.0)},
        smoke={"width": 4, "blocks": 4, "size": 32, "base.batch": 2, "head.batch": 2},
    ),
    "celeba_fal": Experiment(
        "FAL §5, Table 1: faces of 128x128, half-deep BigGAN, 64 filters, instance norm, hinge, response 8x8, T = 3",
        "FAL",
        lambda config: (residual.Generator(config.z, config.width, _side(config), "instance", growth=True),
                        residual.Discriminator(config.width, _side(config), _side(config) // 16, growth=True)),
        _images, lambda config: (config.z,), layers=["blocks.1"], module="ast", feedback_steps=3, size=128, width=64,
        # steps and rates are in an appendix that is not to be had
        head={"loss": "hinge", "lr": 1e-4, "critic_lr": 4e-4, "betas": (0.0, 0.999), "batch": 16, "r1": 0.0,
              "critic_mode": "train"},
        smoke={"width": 4, "z": 8, "size": 32, "head.batch": 2},
    ),
    "cityscapes_fal": _translation(
        "FAL §5, Table 2: label maps to photographs at 256x512, nine blocks, LSGAN, reconstruction x 10, T = 3",
        3, (256, 512), layouts.cityscapes, (32, 64),
    ),
    "nyu_fal": _translation(
        "FAL §5, Table 3: labels and depth to photographs at 240x320, as on Cityscapes",
        2, (240, 320), layouts.NYU, (30, 42),
    ),
    "shapenet_fal": Experiment(
        "FAL §5, Table 4: voxels of 64x64x64, z 100, WGAN-GP, response 4x4x4, AST at 16x16x16, T = 3",
        "FAL",
        lambda config: (voxel.Generator(config.z, config.width, _side(config)),
                        voxel.Discriminator(config.width, _side(config))),
        lambda folder, config: voxels.Voxels(_given(folder), **{"size": _side(config), **config.reading}),
        lambda config: (config.z,),
        layers=["up.1"], module={"kind": "ast", "scale": 1 / 30}, feedback_steps=3, size=64, z=100, width=32,
        # every step judged, as published; head.judged=last head.critic_ema=.995 did better (docs/results/voxels.md)
        head={"loss": "wasserstein_gp", "lr": 1e-4, "critic_lr": 1e-4, "betas": (0.5, 0.9), "batch": 16,
              "critic_steps": 5, "r1": 0.0, "critic_mode": "train", "value_range": (0.0, 1.0)},
        smoke={"width": 2, "z": 8, "size": 32, "head.batch": 2},
    ),
}  # fmt: skip
