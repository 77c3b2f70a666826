"""Small pairs that many tests share, and a loop on the first of them."""

import torch
from helpers import stir
from torch import nn
from zoo import Residual, patch

import fbwrap

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def pair(seed=0):
    torch.manual_seed(seed)
    return Residual(), patch()


def attach(G, D, layers=(("body.1", "1"),), **options):
    return stir(fbwrap.attach(G, D, list(layers), example=X, **options))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.grow, self.paint = nn.ConvTranspose2d(4, 8, 4), nn.ConvTranspose2d(8, 3, 2, 2)

    def forward(self, z):
        return self.paint(torch.relu(self.grow(z)))


def tiny_critic():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 1, 3))


class Codec(nn.Module):
    """A model whose generator is a method."""

    def __init__(self):
        super().__init__()
        self.encoder, self.mid, self.out = (
            nn.Conv2d(3, 4, 4, 4),
            nn.Conv2d(4, 8, 3, 1, 1),
            nn.ConvTranspose2d(8, 3, 4, 4),
        )

    def decode(self, z, slices=1):
        return {"sample": torch.cat([self.out(torch.relu(self.mid(part))) for part in z.chunk(slices)])}

    def forward(self, x):
        return self.decode(self.encoder(x))["sample"]
