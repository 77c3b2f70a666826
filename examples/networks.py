"""Third-party networks whose weights the examples load, rebuilt from their layer names.

They stand in for the code that a user already has: fbwrap itself needs nothing of this.
"""

import itertools
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


def _up(inside: int, outside: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inside, outside, kernel, stride), nn.BatchNorm2d(outside), nn.ReLU())


class WganMnistG(nn.Module):
    """github.com/Ryhan9834/Digit-Generation-WGAN-GP (MIT): z (N, 64, 1, 1) → (N, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        last = nn.Sequential(nn.ConvTranspose2d(64, 1, 4, 2), nn.Tanh())
        self.gen = nn.Sequential(_up(64, 256, 3, 2), _up(256, 128, 4, 1), _up(128, 64, 3, 2), last)

    def forward(self, z: Tensor) -> Tensor:
        return self.gen(z)


class WganMnistD(nn.Module):
    """Its critic."""

    def __init__(self) -> None:
        super().__init__()
        self.crit = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 64, 4, 2), nn.BatchNorm2d(64), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.Conv2d(64, 128, 4, 2), nn.BatchNorm2d(128), nn.LeakyReLU(0.2)),
            nn.Sequential(nn.Conv2d(128, 1, 4, 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.crit(x)


class CvaeGanG(nn.Module):
    """github.com/nadirg2/MNIST-CVAE-GAN (MIT): G(z (N, 64), y (N,)) → (N, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(10, 10)
        self.fc = nn.Linear(74, 1024)
        self.conv_layers = nn.Sequential(
            *(nn.ConvTranspose2d(256, 128, 4, 2, 1), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 32, 4, 2, 2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.fc(torch.cat([z, self.label_embedding(y)], 1))
        return self.conv_layers(h.view(-1, 256, 2, 2))


class CvaeGanD(nn.Module):
    """Its D(x, y), with a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(10, 10)
        widths, layers = (1, 32, 64, 128, 256), []
        for inside, outside in itertools.pairwise(widths):
            layers += [nn.Conv2d(inside, outside, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.conv_layers = nn.Sequential(*layers)
        self.fc = nn.Sequential(nn.Linear(266, 1), nn.Sigmoid())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.fc(torch.cat([self.conv_layers(x).flatten(1), self.label_embedding(y)], 1))


class FacesG(nn.Module):
    """github.com/fletchersarip93/face-generator (Apache-2.0): z (N, 100, 1, 1) → (N, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()

        def act(outside: int) -> tuple[nn.Module, nn.Module]:
            return nn.BatchNorm2d(outside), nn.LeakyReLU(0.2)

        self.generator_deconv = nn.Sequential(
            nn.Sequential(nn.ConvTranspose2d(100, 256, 4, 1, 0, bias=False), nn.BatchNorm2d(256)),
            nn.Sequential(nn.Conv2d(256, 128, 3, 1, 1, bias=False), *act(128)),
            nn.Sequential(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), *act(64)),
            nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False), *act(32)),
            nn.Sequential(nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.generator_deconv(z)


class FacesD(nn.Module):
    """Its D."""

    def __init__(self) -> None:
        super().__init__()

        def down(inside: int, outside: int) -> nn.Sequential:
            conv = nn.Conv2d(inside, outside, 4, 2, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.LeakyReLU(0.2))

        first = nn.Sequential(nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2))
        self.discriminator = nn.Sequential(
            first, down(32, 64), down(64, 128), down(128, 256), nn.Flatten(), nn.Linear(1024, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.discriminator(x)


class LeNet(nn.Module):
    """github.com/csinva/gan-vae-pretrained-pytorch: the 84-d hidden layer of a digit classifier.

    Takes (N, 1, 28, 28) in [-1, 1].
    """

    num_features = 84

    def __init__(self) -> None:
        super().__init__()
        layers = [("c1", nn.Conv2d(1, 6, 5)), ("c3", nn.Conv2d(6, 16, 5)), ("c5", nn.Conv2d(16, 120, 5))]
        self.convnet = nn.ModuleDict(dict(layers))
        self.fc = nn.ModuleDict({"f6": nn.Linear(120, 84), "f7": nn.Linear(84, 10)})

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate((x + 1) / 2, (32, 32), mode="bilinear", align_corners=False)
        x = F.max_pool2d(F.relu(self.convnet["c1"](x)), 2)
        x = F.max_pool2d(F.relu(self.convnet["c3"](x)), 2)
        return F.relu(self.fc["f6"](F.relu(self.convnet["c5"](x)).flatten(1)))


class DigitCritic(nn.Module):
    """A fresh D without normalisation that also names the digit (semi-supervised GAN, Salimans 2016).

    Returns 10 class logits l; :func:`realness` of them, log Σ exp l − log 10, is the GAN's logit.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()

        def down(inside: int, outside: int, kernel: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inside, outside, kernel, 2, 1), nn.LeakyReLU(0.2))

        self.stages = nn.Sequential(down(1, width, 4), down(width, 2 * width, 4), down(2 * width, 4 * width, 3))
        self.fc = nn.Linear(64 * width, 10)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.fc(self.stages(x).flatten(1))


def realness(logits: Tensor) -> Tensor:
    """The GAN's logit of a :class:`DigitCritic`'s answer."""
    return logits.logsumexp(1, keepdim=True) - math.log(logits.shape[1])


def naming_loss(logits: Tensor, real: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of the digit's name, on real data."""
    return F.cross_entropy(logits, real[1])


def load(net: nn.Module, path: Path) -> nn.Module:
    """Put published weights into a rebuilt network."""
    net.load_state_dict(load_file(path))
    return net.eval()
