"""Handwritten digits of 8x8 pixels: scikit-learn's images, a small pretrained GAN, a small classifier.

Examples:
    >>> import torch
    >>> Generator()(torch.zeros(2, 16)).shape, Discriminator()(torch.zeros(2, 1, 8, 8)).shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 1]))
    >>> G, D = pretrained()
    >>> D(G(latents(2))).shape
    torch.Size([2, 1])

``fbwrap quickstart`` trains its own networks on these images.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

LATENT = 16
FOLDER = Path(__file__).parent  # of the pretrained weights


class Generator(nn.Module):
    """z (N, 16) → (N, 1, 8, 8) in [-1, 1]; a DCGAN in small."""

    def __init__(self, width: int = 24):
        super().__init__()
        self.fc = nn.Linear(LATENT, 2 * width * 4)
        self.up1 = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(True))
        self.up2 = nn.Sequential(nn.ConvTranspose2d(width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(True))
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents."""
        h = self.fc(z).relu().unflatten(1, (-1, 2, 2))
        image: Tensor = torch.tanh(self.out(self.up2(self.up1(h))))
        return image


class Discriminator(nn.Module):
    """(N, 1, 8, 8) → one logit; no normalisation."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2))
        self.conv2 = nn.Sequential(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2))
        self.conv3 = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2))
        self.fc = nn.Linear(8 * width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits: positive for real."""
        logit: Tensor = self.fc(self.conv3(self.conv2(self.conv1(image))).flatten(1))
        return logit


class Classifier(nn.Module):
    """A digit classifier whose 32-d hidden layer is the feature space of the quickstart's distance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(256, 32), nn.ReLU()),
        )
        self.last = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.last(self.body(image))
        return logits


def pretrained() -> tuple[Generator, Discriminator]:
    """A trained G and D that come with fbwrap, in eval mode."""
    from fbwrap.weights import load_weights

    G, D = Generator(), Discriminator()
    load_weights(G, FOLDER / "generator.safetensors")
    load_weights(D, FOLDER / "discriminator.safetensors")
    return G.eval(), D.eval()


def data() -> tuple[Tensor, Tensor]:
    """1797 digits (N, 1, 8, 8) in [-1, 1] and their labels, from scikit-learn, no download."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 8 - 1
    return pixels, torch.from_numpy(labels).long()


def latents(n: int) -> Tensor:
    """Inputs of the generator."""
    return torch.randn(n, LATENT)


def train_classifier(images: Tensor, labels: Tensor, steps: int = 400) -> Classifier:
    """The feature space: seconds on one core."""
    net = Classifier()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,))
        loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return net.eval()
