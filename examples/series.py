"""Feedback for a recurrent generator of time series: an LSTM that makes sine waves.

    python examples/series.py [--epochs 2000] [--steps 400]

Trains a small recurrent GAN on pairs of sine waves of random frequency and phase (24 points, two values at each), then
lets ``fbwrap.fit`` train a feedback head and say whether it is worth having. Sequences are (N, T, C), as PyTorch's
recurrent layers with ``batch_first=True`` make them. Writes series.png: real waves, and samples before and after.
"""

import argparse

import torch
from fbwrap.recipes import GAN
from matplotlib.figure import Figure
from torch import Tensor, nn

import fbwrap

POINTS, NOISE = 24, 8


class Generator(nn.Module):
    """Noise (N, T, 8) to series (N, T, 2)."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(NOISE, hidden, batch_first=True), nn.Linear(hidden, 2)

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.lstm(z)[0]).tanh()


class Discriminator(nn.Module):
    """Series to one number: its answers at all points, averaged."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(2, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0]).mean(1)


def waves(n: int) -> Tensor:
    """(n, T, 2), between -1 and 1."""
    time = torch.linspace(0, 1, POINTS)[None, :, None]
    frequency, phase = 1 + 2 * torch.rand(n, 1, 2), 6.283 * torch.rand(n, 1, 2)
    return 0.9 * torch.sin(6.283 * frequency * time + phase)


def noise(n: int) -> Tensor:
    """G's inputs: in half of the channels numbers for the whole series, in the others new ones at each point."""
    whole = torch.randn(n, 1, NOISE // 2).expand(-1, POINTS, -1)
    return torch.cat([whole, torch.randn(n, POINTS, NOISE // 2)], 2)


def drawn(real: Tensor, before: Tensor, after: Tensor) -> Figure:
    """Eight series of each."""
    figure = Figure(figsize=(8, 2.5), layout="constrained")
    for axis, name, series in zip(
        figure.subplots(1, 3, sharey=True), ("real", "G", "G with feedback"), (real, before, after), strict=True
    ):
        axis.plot(series[:8, :, 0].T, linewidth=1)
        axis.set_title(name)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2000, help="steps of the base")
    parser.add_argument("--steps", type=int, default=400, help="of the head, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    real, G, D = waves(4000), Generator(), Discriminator()
    GAN(G, D, loss="bce", lr=1e-3, critic_lr=2e-3, batch=64).fit(real, noise, options.epochs, progress=False)
    G.eval(), D.eval()
    result = fbwrap.fit(G, D, real, latents=noise, out="series", steps=options.steps)
    print(result)
    z = noise(8)
    with torch.no_grad():
        drawn(real, G(z), result.loop.rollout(z, strength=result.chosen.strength or 1.0).output).savefig("series.png")


if __name__ == "__main__":
    main()
