"""Networks of the overhead benchmark, with the layers and sizes of the repositories they are named after.

``suffix(net, h)`` is what each computes from its first corrected feature on, written out by hand.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualDense(nn.Module):
    """BasicSR's ResidualDenseBlock: five convolutions, in-place activations, dense concatenation."""

    def __init__(self, width: int = 64, grow: int = 32):
        super().__init__()
        self.conv1 = nn.Conv2d(width, grow, 3, 1, 1)
        self.conv2 = nn.Conv2d(width + grow, grow, 3, 1, 1)
        self.conv3 = nn.Conv2d(width + 2 * grow, grow, 3, 1, 1)
        self.conv4 = nn.Conv2d(width + 3 * grow, grow, 3, 1, 1)
        self.conv5 = nn.Conv2d(width + 4 * grow, width, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(self.lrelu(conv(torch.cat(seen, 1))))
        return self.conv5(torch.cat(seen, 1)) * 0.2 + x


class RRDB(nn.Module):
    def __init__(self):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = ResidualDense(), ResidualDense(), ResidualDense()

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Module):
    """ESRGAN's generator, 23 blocks, ×4."""

    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 64, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB() for _ in range(23)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (nn.Conv2d(64, 64, 3, 1, 1) for _ in range(4))
        self.conv_last = nn.Conv2d(64, 3, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_first(x)
        return self.rest(first, self.body(first))

    def rest(self, first: Tensor, deep: Tensor) -> Tensor:
        h = first + self.conv_body(deep)
        h = self.lrelu(self.conv_up1(F.interpolate(h, scale_factor=2, mode="nearest")))
        h = self.lrelu(self.conv_up2(F.interpolate(h, scale_factor=2, mode="nearest")))
        return self.conv_last(self.lrelu(self.conv_hr(h)))


class VGG128(nn.Module):
    """ESRGAN's discriminator for 128×128, with its fixed-size linear head."""

    def __init__(self):
        super().__init__()
        layers, inside = [nn.Conv2d(3, 64, 3, 1, 1), nn.LeakyReLU(0.2, True)], 64
        for place, width in enumerate((64, 128, 128, 256, 256, 512, 512, 512, 512)):
            kernel, stride = (4, 2) if place % 2 == 0 else (3, 1)
            layers += [nn.Conv2d(inside, width, kernel, stride, 1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.LeakyReLU(0.2, True)]
            inside = width
        self.features = nn.Sequential(*layers)
        self.linear = nn.Sequential(nn.Linear(512 * 4 * 4, 100), nn.LeakyReLU(0.2, True), nn.Linear(100, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))


def dcgan_g(n: int = 64) -> nn.Sequential:
    """pytorch/examples' DCGAN, 64×64."""
    layers: list[nn.Module] = []
    for inside, outside, stride in ((100, 8 * n, 1), (8 * n, 4 * n, 2), (4 * n, 2 * n, 2), (2 * n, n, 2)):
        layers += [nn.ConvTranspose2d(inside, outside, 4, stride, int(stride > 1), bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(n, 3, 4, 2, 1, bias=False), nn.Tanh())


def dcgan_d(n: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, n, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for inside, outside in ((n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n)):
        layers += [nn.Conv2d(inside, outside, 4, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * n, 1, 4, 1, 0, bias=False))


class ResnetBlock(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), nn.InstanceNorm2d(n)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(n, n, 3), nn.InstanceNorm2d(n)]
        self.conv_block = nn.Sequential(*half, nn.ReLU(True), *other)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def resnet9(n: int = 64) -> nn.Sequential:
    """pix2pix/CycleGAN's ResnetGenerator with 9 blocks."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, n, 7), nn.InstanceNorm2d(n), nn.ReLU(True)]
    for inside in (n, 2 * n):
        layers += [nn.Conv2d(inside, 2 * inside, 3, 2, 1), nn.InstanceNorm2d(2 * inside), nn.ReLU(True)]
    layers += [ResnetBlock(4 * n) for _ in range(9)]
    for inside in (4 * n, 2 * n):
        up = nn.ConvTranspose2d(inside, inside // 2, 3, 2, 1, output_padding=1)
        layers += [up, nn.InstanceNorm2d(inside // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(n, 3, 7), nn.Tanh())


def patchgan(inside: int, n: int = 64) -> nn.Sequential:
    """pix2pix's NLayerDiscriminator (70×70)."""
    layers: list[nn.Module] = [nn.Conv2d(inside, n, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for i, o, stride in ((n, 2 * n, 2), (2 * n, 4 * n, 2), (4 * n, 8 * n, 1)):
        layers += [nn.Conv2d(i, o, 4, stride, 1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * n, 1, 4, 1, 1))


def voxel_g(n: int = 32) -> nn.Sequential:
    """3D-GAN to 32³."""
    layers: list[nn.Module] = []
    for inside, outside, stride in ((100, 4 * n, 1), (4 * n, 2 * n, 2), (2 * n, n, 2)):
        layers += [nn.ConvTranspose3d(inside, outside, 4, stride, int(stride > 1), bias=False)]
        layers += [nn.BatchNorm3d(outside), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose3d(n, 1, 4, 2, 1), nn.Sigmoid())


def voxel_d(n: int = 32) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in ((1, n), (n, 2 * n), (2 * n, 4 * n)):
        layers += [nn.Conv3d(inside, outside, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv3d(4 * n, 1, 4))
