"""StyleGAN3 and the discriminator that it shares with StyleGAN2-ADA."""

import torch
import torch.nn.functional as F
from torch import nn


class Styled3(nn.Module):
    """A layer of StyleGAN3: modulated by its style, then resized."""

    def __init__(self, inside, outside, size):
        super().__init__()
        self.affine, self.weight = nn.Linear(8, inside), nn.Parameter(torch.randn(outside, inside, 3, 3) * 0.1)
        self.size = size

    def forward(self, x, w):
        x = F.conv2d(x * self.affine(w)[..., None, None], self.weight, padding=1)
        x = F.leaky_relu(x, 0.2)
        return F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine, self.weight = nn.Linear(8, 4), nn.Parameter(torch.randn(8, 8))

    def forward(self, w):
        grid = torch.linspace(-1, 1, 12)
        t = self.affine(w)
        waves = torch.sin(t[:, :1, None] * grid + t[:, 1:2, None]), torch.cos(t[:, 2:3, None] * grid + t[:, 3:, None])
        both = waves[0][:, 0, :, None] * waves[1][:, 0, None, :]
        return torch.einsum("nhw,co->nohw", both, self.weight)


class Synthesis3(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = Fourier()
        plan = ((8, 8, 12), (8, 8, 20), (8, 4, 36), (4, 3, 32))
        self.layer_names = [f"L{i}_{size}_{width}" for i, (_, width, size) in enumerate(plan)]
        for name, (inside, outside, size) in zip(self.layer_names, plan, strict=True):
            setattr(self, name, Styled3(inside, outside, size))

    def forward(self, ws):
        x = self.input(ws[:, 0])
        for i, name in enumerate(self.layer_names):
            x = getattr(self, name)(x, ws[:, i + 1])
        return x


class Mapping3(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc0, self.fc1 = nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, z, c):
        return self.fc1(F.leaky_relu(self.fc0(z), 0.2)).unsqueeze(1).repeat(1, 5, 1)


class StyleGan3G(nn.Module):
    """StyleGAN3: maps larger than their resolution, cropped in the end; called with a label or None."""

    def __init__(self):
        super().__init__()
        self.mapping, self.synthesis = Mapping3(), Synthesis3()

    def forward(self, z, c, truncation_psi=1):
        return self.synthesis(self.mapping(z, c))


class AdaBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv0, self.conv1 = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x, img):
        return F.leaky_relu(self.conv1(F.leaky_relu(self.conv0(x), 0.2)), 0.2), None


class AdaEnd(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(width, width, 3, 1, 1), nn.Linear(16 * width, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(F.leaky_relu(self.fc(F.leaky_relu(self.conv(x), 0.2).flatten(1)), 0.2))


class AdaD(nn.Module):
    """StyleGAN2-ADA's D, which StyleGAN3 has too: D(img, c), blocks that return (x, img)."""

    def __init__(self, width=4):
        super().__init__()
        self.fromrgb = nn.Conv2d(3, width, 1)
        self.b32, self.b16, self.b8, self.b4 = AdaBlock(width), AdaBlock(width), AdaBlock(width), AdaEnd(width)

    def forward(self, img, c):
        x, img = self.fromrgb(img), None
        for block in (self.b32, self.b16, self.b8):
            x, img = block(x, img)
        return self.b4(x)
