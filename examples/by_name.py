"""Links by name where no adapter helps: a list of latents, a shared activation, a discriminator of two arguments.

    python examples/by_name.py

Three small networks with the traits of StyleGAN2, BigGAN and HiFi-GAN (for those themselves there are adapters), and
the one call each that attaches feedback. A fresh head changes nothing; here its weights are stirred, to show that it
is heard.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fbwrap


class Styled(nn.Module):
    """G([z]) returns (image, latents), and draws noise at test time."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Linear(8, 8)
        self.start = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, styles: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        w = [self.style(z) for z in styles]
        h = self.conv1(self.start * (1 + w[0][:, :, None, None]))
        h = F.leaky_relu(h + 0.1 * torch.randn_like(h[:, :1]), 0.2)
        h = F.leaky_relu(self.conv2(F.interpolate(h, scale_factor=2)), 0.2)
        return torch.tanh(self.to_rgb(h)), w


class BatchDependent(nn.Module):
    """D sees how much the samples of a batch differ, behind the layer that is linked."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(9, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv1(x), 0.2)
        return self.last(torch.cat([h.mean((2, 3)), h.std(0).mean().expand(len(h), 1)], 1))


class Shared(nn.Module):
    """One activation for all layers; G(z, label)."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.embed, self.fc = nn.Embedding(4, 8), nn.Linear(16, 8 * 16)
        self.up1, self.up2 = nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.activation(self.fc(torch.cat([z, self.embed(y)], 1)).view(-1, 8, 4, 4))
        return torch.tanh(self.up2(self.activation(self.up1(h))))


class Labelled(nn.Module):
    """D(x, label)."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 8, 4, 2, 1)
        self.embed = nn.Embedding(4, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.activation(self.conv2(self.activation(self.conv1(x)))).sum((2, 3))
        return (h * self.embed(y)).sum(1, keepdim=True)


class Vocoder(nn.Module):
    """G(mel): (N, 10, T) to audio (N, 1, 4 T)."""

    def __init__(self) -> None:
        super().__init__()
        self.pre, self.up = nn.Conv1d(10, 16, 7, padding=3), nn.ConvTranspose1d(16, 8, 8, 4, 2)
        self.post = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        return torch.tanh(self.post(F.leaky_relu(self.up(F.leaky_relu(self.pre(mel), 0.1)), 0.1)))


class Folded(nn.Module):
    """D(y, ŷ) folds audio to 4-D, and returns nested lists: answers, and the features behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 8, (5, 1), (2, 1), (2, 0)), nn.Conv2d(8, 8, (5, 1), 1, (2, 0))])

    def one(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        h, seen = y.unflatten(2, (-1, 2)), []
        for conv in self.convs:
            h = F.leaky_relu(conv(h), 0.1)
            seen.append(h)
        return h.mean((1, 2, 3)), seen

    def forward(self, y: Tensor, y_hat: Tensor) -> list[list[Tensor]]:
        (real, _), (fake, seen) = self.one(y), self.one(y_hat)
        return [[real], [fake], seen]


def styled() -> fbwrap.FeedbackLoop:
    """Inputs as G takes them: here one list. What D looks at is the first tensor that G returns."""
    return fbwrap.attach(Styled(), BatchDependent(), [("conv1", "conv1")], example=([torch.randn(2, 8)],))


def shared() -> fbwrap.FeedbackLoop:
    """ "activation#1" is the second call of a shared module; D gets the label as G did."""
    example = (torch.randn(2, 8), torch.tensor([0, 3]))
    links = [("activation#1", "activation#0")]
    return fbwrap.attach(Shared(), Labelled(), links, example=example, critic_input="output_and_label")


def vocoder() -> fbwrap.FeedbackLoop:
    """D is called with the sample twice; "#1" is its second look, "[1][0]" its answer about it."""
    return fbwrap.attach(
        *(Vocoder(), Folded(), [("up", "convs.0#1"), ("pre", "response")]),
        example=torch.randn(2, 10, 16),
        critic_input="output_twice",
        response="[1][0]",
    )


def main() -> None:
    torch.manual_seed(0)
    for make in (styled, shared, vocoder):
        loop = make()
        args, _ = loop.facts.example
        with torch.no_grad():
            for parameter in loop.parameters():
                parameter.normal_(std=0.1)
            torch.manual_seed(1)
            base, *_, fed = loop.rollout(*args, steps=2).outputs
        before, after = (y[0] if isinstance(y, tuple) else y for y in (base, fed))
        print(f"{make.__name__}: {', '.join(map(str, loop.connections))}")
        print(f"  output {tuple(after.shape)}, moved by {float((after - before).abs().mean()):.3f}")


if __name__ == "__main__":
    main()
