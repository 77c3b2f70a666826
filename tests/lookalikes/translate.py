"""From image to image: pix2pix, CycleGAN, pix2pixHD."""

import torch
import torch.nn.functional as F
from torch import nn


class UnetBlock(nn.Module):
    """pix2pix: nested; the skip is activated in place before it is joined."""

    def __init__(self, outer, inner, inside=None, sub=None, outermost=False, dropout=False):
        super().__init__()
        self.outermost = outermost
        down = nn.Conv2d(inside or outer, inner, 4, 2, 1, bias=False)
        relu, act = nn.ReLU(True), nn.LeakyReLU(0.2, True)
        if outermost:
            layers = [down, sub, relu, nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1), nn.Tanh()]
        elif sub is None:
            layers = [act, down, relu, nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer)]
        else:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1, bias=False)
            layers = [act, down, nn.BatchNorm2d(inner), sub, relu, up, nn.BatchNorm2d(outer)]
            layers += [nn.Dropout(0.5)] * dropout
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    """pix2pix at 2**downs pixels."""

    def __init__(self, inside=3, outside=3, downs=5, width=4, dropout=True):
        super().__init__()
        block = UnetBlock(8 * width, 8 * width)
        for _ in range(downs - 5):
            block = UnetBlock(8 * width, 8 * width, sub=block, dropout=dropout)
        for factor in (4, 2, 1):
            block = UnetBlock(factor * width, 2 * factor * width, sub=block)
        self.model = UnetBlock(outside, width, inside=inside, sub=block, outermost=True)

    def forward(self, x):
        return self.model(x)


class ResnetBlock(nn.Module):
    def __init__(self, width, activation):
        super().__init__()
        halves = [
            [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)],
            [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)],
        ]
        self.conv_block = nn.Sequential(*halves[0], activation(), *halves[1])

    def forward(self, x):
        return x + self.conv_block(x)


def resnet_layers(inside, outside, width, downs, blocks, activation):
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(inside, width, 7), nn.InstanceNorm2d(width), activation()]
    for _ in range(downs):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), activation()]
        width *= 2
    layers += [ResnetBlock(width, activation) for _ in range(blocks)]
    for _ in range(downs):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), activation()]
        width //= 2
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outside, 7), nn.Tanh()]


class ResnetGenerator(nn.Module):
    """CycleGAN: an encoder, 6 or 9 residual blocks, a decoder."""

    def __init__(self, inside=3, outside=3, width=4, blocks=9):
        super().__init__()
        self.model = nn.Sequential(*resnet_layers(inside, outside, width, 2, blocks, lambda: nn.ReLU(True)))

    def forward(self, x):
        return self.model(x)


class NLayerDiscriminator(nn.Module):
    """PatchGAN; ``name`` is "model" in pix2pix and "main" in taming-transformers."""

    def __init__(self, inside=3, width=4, layers=3, name="model"):
        super().__init__()
        self.name = name
        modules = [nn.Conv2d(inside, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for n in range(1, layers + 1):
            outside, stride = min(2 * width, 32), 2 if n < layers else 1
            modules += [nn.Conv2d(width, outside, 4, stride, 1, bias=False), nn.BatchNorm2d(outside)]
            modules += [nn.LeakyReLU(0.2, True)]
            width = outside
        setattr(self, name, nn.Sequential(*modules, nn.Conv2d(width, 1, 4, 1, 1)))

    def forward(self, x):
        return getattr(self, self.name)(x)


class Downsample(nn.Module):
    """CUT's blur with stride 2."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("filt", torch.ones(width, 1, 3, 3) / 9)

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=len(self.filt))


class Upsample(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class CutG(nn.Module):
    """CUT: CycleGAN's generator with blurs in place of strides."""

    def __init__(self, width=4, blocks=4):
        super().__init__()

        def conv(i, o, kernel=3, padding=1):
            return [nn.Conv2d(i, o, kernel, 1, padding), nn.InstanceNorm2d(o), nn.ReLU(True)]

        layers = [nn.ReflectionPad2d(3), *conv(3, width, 7, 0)]
        layers += [*conv(width, 2 * width), Downsample(2 * width), *conv(2 * width, 4 * width), Downsample(4 * width)]
        layers += [ResnetBlock(4 * width, lambda: nn.ReLU(True)) for _ in range(blocks)]
        layers += [Upsample(), *conv(4 * width, 2 * width), Upsample(), *conv(2 * width, width)]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x):
        return self.model(x)


class CutD(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        layers = [nn.Conv2d(3, width, 4, 1, 1), nn.LeakyReLU(0.2, True), Downsample(width)]
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 4, 1, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2, True)]
            layers.append(Downsample(2 * width))
            width *= 2
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


class PixelDiscriminator(nn.Module):
    """1x1 PatchGAN."""

    def __init__(self, inside=3, width=8):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(inside, width, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(width, 2 * width, 1, bias=False)),
            *(nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True), nn.Conv2d(2 * width, 1, 1, bias=False)),
        )

    def forward(self, x):
        return self.net(x)


class GlobalGenerator(nn.Module):
    """pix2pixHD: one ReLU object for the whole network."""

    def __init__(self, inside=5, outside=3, width=2, downs=4, blocks=9):
        super().__init__()
        activation = nn.ReLU(True)
        self.model = nn.Sequential(*resnet_layers(inside, outside, width, downs, blocks, lambda: activation))

    def forward(self, x):
        return self.model(x)


class LocalEnhancer(nn.Module):
    """pix2pixHD: a coarse and a fine branch, added by function."""

    def __init__(self, inside=5, outside=3, width=2):
        super().__init__()
        self.model = nn.Sequential(*list(GlobalGenerator(inside, outside, 2 * width).model)[:-3])
        self.model1_1 = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(inside, width, 7), nn.InstanceNorm2d(width), nn.ReLU(True)),
            *(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU(True)),
        )
        self.model1_2 = nn.Sequential(
            *(ResnetBlock(2 * width, lambda: nn.ReLU(True)) for _ in range(3)),
            *(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1), nn.InstanceNorm2d(width), nn.ReLU(True)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(width, outside, 7), nn.Tanh()),
        )
        self.downsample = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x):
        return self.model1_2(self.model(self.downsample(x)) + self.model1_1(x))


class MultiscaleDiscriminator(nn.Module):
    """pix2pixHD: a list per scale, with features or without; the convolutions pad by two."""

    def __init__(self, inside=8, width=4, scales=2, features=True):
        super().__init__()
        self.scales, self.features = scales, features
        for scale in range(scales):
            parts = [[nn.Conv2d(inside, width, 4, 2, 2), nn.LeakyReLU(0.2, True)]]
            for i, stride in enumerate((2, 2, 1)):
                a, b = width * 2**i, width * 2 ** (i + 1)
                parts.append([nn.Conv2d(a, b, 4, stride, 2), nn.InstanceNorm2d(b), nn.LeakyReLU(0.2, True)])
            parts.append([nn.Conv2d(8 * width, 1, 4, 1, 2)])
            if features:
                for i, part in enumerate(parts):
                    setattr(self, f"scale{scale}_layer{i}", nn.Sequential(*part))
            else:
                setattr(self, f"layer{scale}", nn.Sequential(*(layer for part in parts for layer in part)))
        self.downsample = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x):
        answers = []
        for scale in reversed(range(self.scales)):
            if self.features:
                seen = [x]
                for i in range(5):
                    seen.append(getattr(self, f"scale{scale}_layer{i}")(seen[-1]))
                answers.append(seen[1:])
            else:
                answers.append([getattr(self, f"layer{scale}")(x)])
            x = self.downsample(x)
        return answers


class Decoder(nn.Module):
    """taming-transformers and latent diffusion: ``mid`` and ``up.N`` hold layers and are never called."""

    class Block(nn.Module):
        def __init__(self, inside, outside):
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(2, inside), nn.Conv2d(inside, outside, 3, 1, 1)
            self.conv2, self.nin_shortcut = nn.Conv2d(outside, outside, 3, 1, 1), nn.Conv2d(inside, outside, 1)

        def forward(self, x, temb=None):
            return self.nin_shortcut(x) + self.conv2(F.silu(self.conv1(F.silu(self.norm1(x)))))

    def __init__(self, z=4, width=8, levels=3):
        super().__init__()
        self.conv_in = nn.Conv2d(z, width, 3, 1, 1)
        self.mid = nn.Module()
        self.mid.block_1, self.mid.block_2 = self.Block(width, width), self.Block(width, width)
        self.up = nn.ModuleList()
        for level in range(levels):
            up = nn.Module()
            up.block = nn.ModuleList([self.Block(width, width)])
            if level:
                up.upsample = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, 1, 1))
            self.up.append(up)
        self.norm_out, self.conv_out = nn.GroupNorm(2, width), nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, z):
        h = self.mid.block_2(self.mid.block_1(self.conv_in(z)))
        for level in reversed(range(len(self.up))):
            h = self.up[level].block[0](h)
            if level:
                h = self.up[level].upsample(h)
        return self.conv_out(F.silu(self.norm_out(h)))
