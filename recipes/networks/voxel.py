"""VoxelGAN as FAL has it (§5.1): 3-D transposed convolutions, and a D that does not pool: its response is a cube.

Examples:
    >>> import torch
    >>> voxels = Generator(8, 2, 32)(torch.zeros(2, 8))
    >>> voxels.shape, Discriminator(2, 32)(voxels).shape
    (torch.Size([2, 1, 32, 32, 32]), torch.Size([2, 1, 4, 4, 4]))

FAL: z 100, seven transposed convolutions to 64³, six convolutions to a response of 4³. Here the two that keep the size
are plain convolutions at 4³, where they cost nearly nothing, and the norm is instance norm: batch norm would keep the
statistics of the first of the T passes.
"""

import itertools

from torch import Tensor, nn

from .sizes import doublings


class Generator(nn.Module):
    """z (N, z) to (N, 1, size, size, size) in [0, 1]."""

    def __init__(self, z: int = 100, width: int = 32, size: int = 64):
        super().__init__()
        stages = doublings(size, 4)
        widths = [width * 2 ** (stages - 1 - i) for i in range(stages)]

        def block(conv: nn.Module, outside: int) -> nn.Sequential:
            return nn.Sequential(conv, nn.InstanceNorm3d(outside, affine=True), nn.ReLU(inplace=True))

        self.lift = block(nn.ConvTranspose3d(z, widths[0], 4), widths[0])
        self.mix = nn.Sequential(*(block(nn.Conv3d(widths[0], widths[0], 3, 1, 1), widths[0]) for _ in range(2)))
        ups = itertools.pairwise(widths)
        self.up = nn.ModuleList(block(nn.ConvTranspose3d(a, b, 4, 2, 1), b) for a, b in ups)
        self.last = nn.Sequential(nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        """Occupancies."""
        h = self.mix(self.lift(z.view(len(z), -1, 1, 1, 1)))
        for up in self.up:
            h = up(h)
        voxels: Tensor = self.last(h)
        return voxels


class Discriminator(nn.Module):
    """(N, 1, size, size, size) to a cube of logits (N, 1, 4, 4, 4); no norm, for WGAN-GP."""

    def __init__(self, width: int = 32, size: int = 64):
        super().__init__()
        layers, inside = [], 1
        for stage in range(doublings(size, 4)):
            outside = width * 2**stage
            layers.append(nn.Sequential(nn.Conv3d(inside, outside, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)))
            inside = outside
        mix = nn.Sequential(nn.Conv3d(inside, inside, 3, 1, 1), nn.LeakyReLU(0.2, inplace=True))
        self.main = nn.Sequential(*layers, mix, nn.Conv3d(inside, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The response cube."""
        logits: Tensor = self.main(x)
        return logits
