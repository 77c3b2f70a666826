"""3-D: 3D-GAN and VoxelGAN."""

import torch
from torch import nn


def _stage(conv, inside, outside, act, stride=2, padding=1):
    return nn.Sequential(conv(inside, outside, 4, stride, padding, bias=False), nn.BatchNorm3d(outside), act)


class VoxelG(nn.Module):
    """z (N, 20) to (N, 1, c, c, c), or with the channel axis squeezed away (N, c, c, c)."""

    def __init__(self, side=32, squeeze=False, width=16, z=20):
        super().__init__()
        self.side, self.squeeze = side, squeeze
        relu, grow = nn.ReLU(squeeze), nn.ConvTranspose3d
        self.layer1 = _stage(grow, z, width, nn.ReLU(squeeze), *((1, 0) if side == 64 else (2, 1)))
        self.layer2 = _stage(grow, width, width // 2, nn.ReLU(squeeze))
        self.layer3 = _stage(grow, width // 2, width // 4, relu)
        self.layer4 = _stage(grow, width // 4, width // 8, nn.ReLU(squeeze))
        self.layer5 = nn.Sequential(grow(width // 8, 1, 4, 2, 1), nn.Sigmoid())

    def forward(self, z):
        h = z.view(z.shape[0], -1, 1, 1, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4, self.layer5):
            h = layer(h)
        return torch.squeeze(h) if self.squeeze else h


class VoxelD(nn.Module):
    """Strided convolutions; a probability per cube, or (``response``) a cube of logits, as in FAL."""

    def __init__(self, side=32, squeeze=False, response=False, width=2):
        super().__init__()
        self.side, self.squeeze, self.response = side, squeeze, response
        self.layer1 = _stage(nn.Conv3d, 1, width, nn.LeakyReLU(0.2))
        self.layer2 = _stage(nn.Conv3d, width, 2 * width, nn.LeakyReLU(0.2))
        self.layer3 = _stage(nn.Conv3d, 2 * width, 4 * width, nn.LeakyReLU(0.2))
        last = nn.Conv3d(4 * width, 1, 3, 1, 1) if response else nn.Conv3d(4 * width, 1, side // 8)
        self.layer5 = nn.Sequential(last, *([] if response else [nn.Sigmoid()]))

    def forward(self, x):
        h = self.layer5(self.layer3(self.layer2(self.layer1(x.view(-1, 1, self.side, self.side, self.side)))))
        return torch.squeeze(h) if self.squeeze else h


class FlatVoxelG(nn.Module):
    """One flat Sequential, z (N, 20, 1, 1, 1), a linear layer first in others."""

    def __init__(self, width=8, z=20):
        super().__init__()
        self.linear = nn.Linear(z, width * 64)
        self.width = width
        self.conv1 = nn.Sequential(
            nn.ConvTranspose3d(width, width // 2, 4, 2, 1), nn.BatchNorm3d(width // 2), nn.ReLU(True)
        )
        self.conv2 = nn.Sequential(
            nn.ConvTranspose3d(width // 2, width // 4, 4, 2, 1), nn.BatchNorm3d(width // 4), nn.ReLU(True)
        )
        self.conv3 = nn.ConvTranspose3d(width // 4, 1, 4, 2, 1)
        self.out = nn.Tanh()

    def forward(self, z):
        return self.out(self.conv3(self.conv2(self.conv1(self.linear(z).view(-1, self.width, 4, 4, 4)))))
