"""DCGAN and SN-GAN's plain discriminator: AFL on CelebA (§4.3, ngf = ndf = 128) and on CIFAR-10 (§4.2).

Examples:
    >>> import torch
    >>> Discriminator(4, 32)(Generator(8, 4, 32)(torch.zeros(2, 8, 1, 1))).shape
    torch.Size([2, 1, 1, 1])
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .sizes import doublings


class Generator(nn.Module):
    """z (N, z, 1, 1) to (N, 3, size, size) in [-1, 1]: transposed convolutions from 4x4, a Sequential per stage."""

    def __init__(self, z: int = 100, width: int = 128, size: int = 64, channels: int = 3):
        super().__init__()
        stages = doublings(size, 4)
        inside, layers = z, []
        for stage in range(stages):
            outside = width * 2 ** (stages - 1 - stage)
            stride, padding = (1, 0) if stage == 0 else (2, 1)
            up = nn.ConvTranspose2d(inside, outside, 4, stride, padding, bias=False)
            layers.append(nn.Sequential(up, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)))
            inside = outside
        self.main = nn.Sequential(
            *layers, nn.Sequential(nn.ConvTranspose2d(inside, channels, 4, 2, 1, bias=False), nn.Tanh())
        )

    def forward(self, z: Tensor) -> Tensor:
        """The images."""
        images: Tensor = self.main(z)
        return images


class Discriminator(nn.Module):
    """(N, 3, size, size) to logits (N, 1, 1, 1): strided convolutions to 4x4.

    Args:
        norm: ``"batch"`` (DCGAN), ``"spectral"`` (SN-GAN) or ``"none"`` (WGAN-GP).
    """

    def __init__(self, width: int = 128, size: int = 64, norm: str = "batch", channels: int = 3):
        super().__init__()
        wrap: Callable[[nn.Module], nn.Module] = spectral_norm if norm == "spectral" else (lambda layer: layer)
        layers, inside = [], channels
        for stage in range(doublings(size, 4)):
            outside = width * 2**stage
            after = [nn.BatchNorm2d(outside)] if norm == "batch" and stage else []
            down = wrap(nn.Conv2d(inside, outside, 4, 2, 1))
            layers.append(nn.Sequential(down, *after, nn.LeakyReLU(0.2, inplace=True)))
            inside = outside
        self.main = nn.Sequential(*layers, nn.Sequential(wrap(nn.Conv2d(inside, 1, 4, 1, 0))))

    def forward(self, x: Tensor) -> Tensor:
        """One logit per image."""
        logits: Tensor = self.main(x)
        return logits
