"""From a latent vector to an image: DCGAN's family, StyleGAN2, BigGAN."""

import itertools
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm


# -- DCGAN, SN-GAN, WGAN-GP ---------------------------------------------------------------------------
def dcgan_g(z=8, width=8, size=64):
    """pytorch/examples: one flat Sequential, in-place activations."""
    layers, inside = [], z
    stages = {32: 3, 64: 4}[size]
    for stage in range(stages):
        outside = width * 2 ** (stages - 1 - stage)
        stride, padding = (1, 0) if stage == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(inside, outside, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU(True)]
        inside = outside
    return Main(nn.Sequential(*layers, nn.ConvTranspose2d(inside, 3, 4, 2, 1, bias=False), nn.Tanh()))


class Main(nn.Module):
    def __init__(self, main):
        super().__init__()
        self.main = main

    def forward(self, x):
        return self.main(x)


class DcganD(nn.Module):
    """pytorch/examples: D answers with one probability per sample."""

    def __init__(self, width=8, size=64):
        super().__init__()
        layers, inside = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)], width
        for _ in range({32: 2, 64: 3}[size]):
            layers += [nn.Conv2d(inside, 2 * inside, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * inside)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            inside *= 2
        self.main = nn.Sequential(*layers, nn.Conv2d(inside, 1, 4, 1, 0, bias=False), nn.Sigmoid())

    def forward(self, x):
        return self.main(x).view(-1, 1).squeeze(1)


class AflG(nn.Module):
    """AFL's CelebA generator: a Sequential per stage."""

    def __init__(self, z=8, width=4):
        super().__init__()
        widths = (z, 8 * width, 4 * width, 2 * width, width)
        for stage in range(4):
            conv = nn.ConvTranspose2d(widths[stage], widths[stage + 1], 4, *((1, 0) if stage == 0 else (2, 1)))
            setattr(self, f"layer{stage}", nn.Sequential(conv, nn.BatchNorm2d(widths[stage + 1]), nn.ReLU(True)))
        self.last_layer = nn.Sequential(nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        return self.last_layer(self.layer3(self.layer2(self.layer1(self.layer0(z)))))


class AflD(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.l1 = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True))
        for stage in (2, 3, 4):
            conv = nn.Conv2d(width, 2 * width, 4, 2, 1)
            block = nn.Sequential(conv, nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, inplace=True))
            setattr(self, f"l{stage}", block)
            width *= 2
        self.l5 = nn.Sequential(nn.Conv2d(width, 1, 4, 1, 0), nn.Sigmoid())

    def forward(self, x):
        self.l1out = self.l1(x)  # kept on the module, as the authors do
        return self.l5(self.l4(self.l3(self.l2(self.l1out))))


class TorchganG(nn.Module):
    """torchgan: nested Sequentials with one activation object for all stages; z is (N, encoding)."""

    def __init__(self, z=8, width=4):
        super().__init__()
        act = nn.LeakyReLU(0.2)
        widths = (z, 4 * width, 2 * width, width)
        stages = []
        for stage in range(3):
            conv = nn.ConvTranspose2d(widths[stage], widths[stage + 1], 4, *((1, 0) if stage == 0 else (2, 1)))
            stages.append(nn.Sequential(conv, nn.BatchNorm2d(widths[stage + 1]), act))
        self.model = nn.Sequential(*stages, nn.Sequential(nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh()))

    def forward(self, z):
        return self.model(z.view(-1, z.size(1), 1, 1))


class MimicryBlock(nn.Module):
    """mimicry: residual, one activation called twice."""

    def __init__(self, inside, outside, up=False, down=False, norm=True, sn=False):
        super().__init__()
        wrap = spectral_norm if sn else (lambda module: module)
        self.c1, self.c2 = wrap(nn.Conv2d(inside, outside, 3, 1, 1)), wrap(nn.Conv2d(outside, outside, 3, 1, 1))
        if norm:
            self.b1, self.b2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.activation = nn.ReLU(True)
        self.c_sc = wrap(nn.Conv2d(inside, outside, 1))
        self.norm, self.up, self.down = norm, up, down

    def forward(self, x):
        scale = (lambda h: F.interpolate(h, scale_factor=2)) if self.up else (lambda h: h)
        h = self.c1(scale(self.activation(self.b1(x) if self.norm else x.clone())))
        h = self.c2(self.activation(self.b2(h) if self.norm else h))
        h = h + self.c_sc(scale(x))
        return F.avg_pool2d(h, 2) if self.down else h


class MimicryG(nn.Module):
    """mimicry's SNGANGenerator32: z (N, nz), tanh by function, blocks after a view."""

    def __init__(self, nz=8, width=8):
        super().__init__()
        self.nz, self.width = nz, width
        self.l1 = nn.Linear(nz, 16 * width)
        self.block2, self.block3, self.block4 = (MimicryBlock(width, width, up=True) for _ in range(3))
        self.b5, self.c5 = nn.BatchNorm2d(width), nn.Conv2d(width, 3, 3, 1, 1)
        self.activation = nn.ReLU(True)

    def forward(self, z):
        h = self.block4(self.block3(self.block2(self.l1(z).view(-1, self.width, 4, 4))))
        return torch.tanh(self.c5(self.activation(self.b5(h))))

    def generate_images(self, count):
        """Calls forward, not the module."""
        return self.forward(torch.randn(count, self.nz))


class MimicryD(nn.Module):
    """Its D: spectral norm, the output of each block overwritten by the next block's activation."""

    def __init__(self, width=8):
        super().__init__()
        self.block1 = MimicryBlock(3, width, down=True, norm=False, sn=True)
        self.block2 = MimicryBlock(width, width, down=True, norm=False, sn=True)
        self.block3, self.block4 = (MimicryBlock(width, width, norm=False, sn=True) for _ in range(2))
        self.l5, self.activation = spectral_norm(nn.Linear(width, 1)), nn.ReLU(True)

    def forward(self, x):
        h = self.activation(self.block4(self.block3(self.block2(self.block1(x)))))
        return self.l5(h.sum((2, 3)))


class SpectralNorm(nn.Module):
    """christiancosgrove's wrapper: it moves its own vectors in every pass and calls ``module.forward``."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        weight = module.weight
        del module._parameters["weight"]
        module.register_parameter("weight_bar", nn.Parameter(weight.data))
        module.register_parameter("weight_u", nn.Parameter(F.normalize(torch.randn(len(weight)), dim=0), False))

    def forward(self, *args):
        m = self.module
        flat = m.weight_bar.view(len(m.weight_bar), -1)
        v = F.normalize(flat.data.t() @ m.weight_u.data, dim=0)
        m.weight_u.data = F.normalize(flat.data @ v, dim=0)
        m.weight = m.weight_bar / (m.weight_u @ (flat @ v))
        return m.forward(*args)


class CosgroveD(nn.Module):
    """SN-GAN's plain D: activations made in forward."""

    def __init__(self, width=8):
        super().__init__()
        self.conv1 = SpectralNorm(nn.Conv2d(3, width, 3, 1, 1))
        self.conv2 = SpectralNorm(nn.Conv2d(width, width, 4, 2, 1))
        self.conv3 = SpectralNorm(nn.Conv2d(width, 2 * width, 3, 1, 1))
        self.conv4 = SpectralNorm(nn.Conv2d(2 * width, 2 * width, 4, 2, 1))
        self.conv5 = SpectralNorm(nn.Conv2d(2 * width, 4 * width, 3, 1, 1))
        self.fc = SpectralNorm(nn.Linear(4 * width * 64, 1))

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = nn.LeakyReLU(0.1)(conv(x))
        return self.fc(x.flatten(1))


class WganGpG(nn.Module):
    """caogang's WGAN-GP for CIFAR-10: a linear block, a view, deconvolutions."""

    def __init__(self, z=8, width=4):
        super().__init__()
        self.width = 4 * width
        self.preprocess = nn.Sequential(nn.Linear(z, 64 * width), nn.BatchNorm1d(64 * width), nn.ReLU(True))
        self.block1 = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.BatchNorm2d(2 * width), nn.ReLU(True)
        )
        self.block2 = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 2, 2), nn.BatchNorm2d(width), nn.ReLU(True))
        self.deconv_out = nn.ConvTranspose2d(width, 3, 2, 2)
        self.tanh = nn.Tanh()

    def forward(self, z):
        h = self.preprocess(z).view(-1, self.width, 4, 4)
        return self.tanh(self.deconv_out(self.block2(self.block1(h)))).view(-1, 3, 32, 32)


class WganGpD(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        convs = [nn.Conv2d(a, b, 3, 2, padding=1) for a, b in itertools.pairwise(widths)]
        self.main = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.LeakyReLU())))
        self.linear = nn.Linear(64 * width, 1)

    def forward(self, x):
        return self.linear(self.main(x).flatten(1))


# -- StyleGAN2 ----------------------------------------------------------------------------------------
class EqualLinear(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outside, inside)), nn.Parameter(torch.zeros(outside))

    def forward(self, x):
        return F.leaky_relu(F.linear(x, self.weight / self.weight.shape[1] ** 0.5, self.bias), 0.2)


class StyledConv(nn.Module):
    """Modulated convolution, noise at test time, activation."""

    class Modulated(nn.Module):
        def __init__(self, inside, outside, style, up):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outside, inside, 3, 3) / (3 * inside**0.5))
            self.modulation, self.up = EqualLinear(style, inside), up

        def forward(self, x, style):
            x = F.interpolate(x, scale_factor=2) if self.up else x
            return F.conv2d(x * (1 + self.modulation(style))[:, :, None, None], self.weight, padding=1)

    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((1,), 0.1))

        def forward(self, x, noise=None):
            drawn = x.new_empty(len(x), 1, *x.shape[2:]).normal_() if noise is None else noise
            return x + self.weight * drawn

    def __init__(self, inside, outside, style, up=False):
        super().__init__()
        self.conv, self.noise = self.Modulated(inside, outside, style, up), self.Noise()

    def forward(self, x, style, noise=None):
        return F.leaky_relu(self.noise(self.conv(x, style), noise), 0.2)


class ToRgb(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.conv = nn.Conv2d(inside, 3, 1)

    def forward(self, x, skip=None):
        rgb = self.conv(x)
        return rgb if skip is None else rgb + F.interpolate(skip, scale_factor=2)


class Constant(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, latent):
        return self.input.repeat(len(latent), 1, 1, 1)


class StyleGan2G(nn.Module):
    """rosinality: a list of latents in, (image, None) out; with two latents, Python's random mixes styles."""

    def __init__(self, style=8, width=8):
        super().__init__()
        self.style = nn.Sequential(nn.Identity(), EqualLinear(style, style), EqualLinear(style, style))
        self.input = Constant(width)
        self.conv1, self.to_rgb1 = StyledConv(width, width, style), ToRgb(width)
        self.convs = nn.ModuleList(StyledConv(width, width, style, up=i % 2 == 0) for i in range(4))
        self.to_rgbs = nn.ModuleList(ToRgb(width) for _ in range(2))

    def forward(self, styles, inject_index=None, return_latents=False):
        styles = [self.style(s) for s in styles]
        where = inject_index or (random.randint(1, 4) if len(styles) > 1 else 5)
        latent = [styles[0] if i < where else styles[-1] for i in range(5)]
        out = self.conv1(self.input(latent[0]), latent[0])
        skip = self.to_rgb1(out)
        for place, rgb in enumerate(self.to_rgbs):
            out = self.convs[2 * place](out, latent[2 * place + 1])
            out = self.convs[2 * place + 1](out, latent[2 * place + 2])
            skip = rgb(out, skip)
        return skip, latent if return_latents else None


class StyleGan2D(nn.Module):
    """rosinality: residual blocks, then the standard deviation over the minibatch as a channel."""

    class Block(nn.Module):
        def __init__(self, inside, outside):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(inside, inside, 3, 1, 1), nn.Conv2d(inside, outside, 3, 2, 1)
            self.skip = nn.Conv2d(inside, outside, 1, 2)

        def forward(self, x):
            return (self.conv2(F.leaky_relu(self.conv1(x), 0.2)) + self.skip(x)) / 2**0.5

    def __init__(self, width=8):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, width, 1), self.Block(width, width), self.Block(width, width))
        self.final_conv = nn.Sequential(nn.Conv2d(width + 1, width, 3, 1, 1), nn.LeakyReLU(0.2))
        self.final_linear = nn.Sequential(EqualLinear(16 * width, width), EqualLinear(width, 1))

    def forward(self, x):
        h = self.convs(x)
        spread = (h.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return self.final_linear(self.final_conv(torch.cat([h, spread.expand(len(h), 1, 4, 4)], 1)).flatten(1))


# -- BigGAN -------------------------------------------------------------------------------------------
class SNConv2d(nn.Conv2d):
    """A subclass with a norm of its own in ``forward``."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / (1 + self.weight.flatten(1).norm()), self.bias)


class ConditionalNorm(nn.Module):
    def __init__(self, width, embedding):
        super().__init__()
        self.gain, self.bias = nn.Linear(embedding, width), nn.Linear(embedding, width)

    def forward(self, x, y):
        shape = (-1, x.shape[1], 1, 1)
        return F.batch_norm(x, None, None, training=True) * (1 + self.gain(y).view(shape)) + self.bias(y).view(shape)


class BigGanG(nn.Module):
    """ajbrock: G(z, G.shared(y)), z in chunks, one activation object for all layers."""

    class Block(nn.Module):
        def __init__(self, inside, outside, embedding, activation):
            super().__init__()
            self.conv1, self.conv2 = SNConv2d(inside, outside, 3, padding=1), SNConv2d(outside, outside, 3, padding=1)
            self.conv_sc, self.activation = SNConv2d(inside, outside, 1), activation
            self.bn1, self.bn2 = ConditionalNorm(inside, embedding), ConditionalNorm(outside, embedding)

        def forward(self, x, y):
            h = F.interpolate(self.activation(self.bn1(x, y)), scale_factor=2)
            h = self.conv2(self.activation(self.bn2(self.conv1(h), y)))
            return h + self.conv_sc(F.interpolate(x, scale_factor=2))

    def __init__(self, chunk=4, embedding=16, width=8, classes=5):
        super().__init__()
        self.activation = nn.ReLU(inplace=False)
        self.shared = nn.Embedding(classes, embedding)
        self.linear, self.width = nn.Linear(chunk, 16 * width), width
        block = [self.Block(width, width, embedding + chunk, self.activation) for _ in range(2)]
        self.blocks = nn.ModuleList(nn.ModuleList([each]) for each in block)
        self.output_layer = nn.Sequential(nn.BatchNorm2d(width), self.activation, SNConv2d(width, 3, 3, padding=1))

    def forward(self, z, y):
        first, *chunks = z.chunk(3, 1)
        h = self.linear(first).view(-1, self.width, 4, 4)
        for (block,), chunk in zip(self.blocks, chunks, strict=True):
            h = block(h, torch.cat([y, chunk], 1))
        return torch.tanh(self.output_layer(h))


class BigGanD(nn.Module):
    """ajbrock: D(x, y) projects on the class, which feedback does not reach."""

    class Block(nn.Module):
        def __init__(self, inside, outside, activation):
            super().__init__()
            self.conv1, self.conv2 = SNConv2d(inside, outside, 3, padding=1), SNConv2d(outside, outside, 3, padding=1)
            self.activation = activation

        def forward(self, x):
            return F.avg_pool2d(self.conv2(self.activation(self.conv1(x))), 2)

    def __init__(self, width=8, classes=5):
        super().__init__()
        self.activation = nn.ReLU(inplace=False)
        block = [self.Block(inside, width, self.activation) for inside in (3, width)]
        self.blocks = nn.ModuleList(nn.ModuleList([each]) for each in block)
        self.linear, self.embed = nn.Linear(width, 1), nn.Embedding(classes, width)

    def forward(self, x, y=None):
        for (block,) in self.blocks:
            x = block(x)
        h = self.activation(x).sum((2, 3))
        return self.linear(h) + (self.embed(y) * h).sum(1, keepdim=True)
