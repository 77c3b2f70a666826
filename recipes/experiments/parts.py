"""What experiments are made of: networks, data, latents and examples, each a function of the experiment.

Examples:
    >>> import torch
    >>> roll(5).shape, mlp(8, outside=1)(torch.zeros(5, 2)).shape
    (torch.Size([5, 2]), torch.Size([5, 1]))
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fbwrap.errors import SettingError

from ..data import layouts, sources, voxels
from ..data.batches import Pairs
from ..networks import dcgan, residual, voxel
from .config import Experiment, Networks


def given(folder: Path | None) -> Path:
    """The folder of an experiment's data, which has to be said."""
    if folder is None:
        raise SettingError("This experiment needs data: --data FOLDER.")
    return folder


# -- the Swiss roll -------------------------------------------------------------------------------------


def roll(n: int) -> Tensor:
    """Points of the Swiss roll of the WGAN-GP authors, (n, 2)."""
    t = 1.5 * torch.pi * (1 + 2 * torch.rand(n))
    return (torch.stack((t * t.cos(), t * t.sin()), 1) + 0.25 * torch.randn(n, 2)) / 7.5


def mlp(width: int, outside: int) -> nn.Sequential:
    """Points (N, 2) to (N, outside): four fully connected layers."""
    hidden = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, outside))


def swiss_roll(folder: Path | None, config: Experiment) -> Callable[[int], Tensor]:
    """Its data, which needs no folder."""
    return roll


def swiss_roll_networks(config: Experiment) -> Networks:
    """Two of :func:`mlp`."""
    return mlp(config.width, 2), mlp(config.width, 1)


def point_latent(config: Experiment) -> tuple[int, ...]:
    """A latent of two numbers."""
    return (2,)


# -- images of noise ------------------------------------------------------------------------------------


def map_latent(config: Experiment) -> tuple[int, ...]:
    """A latent as a map of one pixel, as DCGAN takes it."""
    return (config.z, 1, 1)


def vector_latent(config: Experiment) -> tuple[int, ...]:
    """A latent as a vector."""
    return (config.z,)


def dcgan_networks(config: Experiment) -> Networks:
    """DCGAN."""
    return dcgan.Generator(config.z, config.width, config.side), dcgan.Discriminator(config.width, config.side, "batch")


def wgan_gp_networks(config: Experiment) -> Networks:
    """DCGAN with a D without norms."""
    return dcgan.Generator(config.z, config.width, config.side), dcgan.Discriminator(config.width, config.side, "none")


def sngan_networks(config: Experiment) -> Networks:
    """SN-GAN's residual networks for CIFAR-10."""
    return residual.Generator(config.z, 4 * config.width, 32), residual.Discriminator(2 * config.width)


def half_biggan_networks(config: Experiment) -> Networks:
    """FAL's half-deep BigGAN, with instance norm and a response map of a sixteenth of the side."""
    return (
        residual.Generator(config.z, config.width, config.side, "instance", growth=True),
        residual.Discriminator(config.width, config.side, config.side // 16, growth=True),
    )


def images(folder: Path | None, config: Experiment) -> sources.Images:
    """Any folder of images, mirrored at random."""
    return sources.Images(given(folder), config.size, **{"flip": True, **config.reading})


def cifar10(folder: Path | None, config: Experiment) -> sources.Images | layouts.CIFAR10:
    """CIFAR-10 as it is handed out, or any folder of images."""
    held = next(given(folder).glob("**/data_batch_1*"), None)
    if held is None:
        return images(folder, config)
    if config.size != 32:
        raise SettingError(f"size={config.size}: CIFAR-10's own files hold images of 32x32.")
    return layouts.CIFAR10(held.parent, **config.reading)


# -- images of images -----------------------------------------------------------------------------------


def esrgan_networks(config: Experiment) -> Networks:
    """ESRGAN's G, and DCGAN's D."""
    return (
        residual.RRDBNet(config.width, config.blocks, config.width // 2),
        dcgan.Discriminator(config.width, config.side),
    )


def super_resolution(folder: Path | None, config: Experiment) -> Pairs:
    """Patches of a folder of images, and the same at a quarter of the side."""
    return Pairs(sources.SuperResolution(given(folder), 4, config.side, **config.reading))


def quarter_example(config: Experiment) -> Tensor:
    """An image at a quarter of the side."""
    return torch.rand(1, 3, config.side // 4, config.side // 4)


def translation_networks(channels: int) -> Callable[[Experiment], Networks]:
    """pix2pixHD's global G from images of so many channels, and a patch D that sees both."""

    def networks(config: Experiment) -> Networks:
        return (
            residual.TranslationGenerator(channels, 3, config.width, config.blocks),
            residual.PatchDiscriminator(channels + 3, config.width),
        )

    return networks


def pairs_of(layout: Callable[..., object]) -> Callable[[Path | None, Experiment], Pairs]:
    """A data set of pairs, by its layout on disk."""

    def pairs(folder: Path | None, config: Experiment) -> Pairs:
        return Pairs(layout(given(folder), config.size, **config.reading))

    return pairs


def image_example(channels: int) -> Callable[[Experiment], Tensor]:
    """An image of so many channels."""

    def example(config: Experiment) -> Tensor:
        size = (config.size, config.size) if isinstance(config.size, int) else config.size
        return torch.zeros(1, channels, *size)

    return example


# -- voxels ---------------------------------------------------------------------------------------------


def voxel_networks(config: Experiment) -> Networks:
    """FAL's networks for cubes."""
    return voxel.Generator(config.z, config.width, config.side), voxel.Discriminator(config.width, config.side)


def cubes(folder: Path | None, config: Experiment) -> voxels.Voxels:
    """A folder or file of cubes."""
    return voxels.Voxels(given(folder), **{"size": config.side, **config.reading})
