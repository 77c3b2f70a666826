"""1-D: HiFi-GAN and WaveGAN."""

import itertools
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import remove_weight_norm, weight_norm

warnings.filterwarnings("ignore", message=".*weight_norm.*", category=FutureWarning)


class ResBlock(nn.Module):
    def __init__(self, width, kernel):
        super().__init__()
        self.convs1 = nn.ModuleList([weight_norm(nn.Conv1d(width, width, kernel, padding=kernel // 2))])
        self.convs2 = nn.ModuleList([weight_norm(nn.Conv1d(width, width, kernel, padding=kernel // 2))])

    def forward(self, x):
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = second(F.leaky_relu(first(F.leaky_relu(x, 0.1)), 0.1)) + x
        return x


class HifiG(nn.Module):
    """mel (N, 10, T) to (N, 1, 16 T): functional activations, ``xs +=`` in place, weight norm."""

    def __init__(self, width=16):
        super().__init__()
        self.conv_pre = weight_norm(nn.Conv1d(10, width, 7, 1, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for _ in range(2):
            self.ups.append(weight_norm(nn.ConvTranspose1d(width, width // 2, 8, 4, padding=2)))
            width //= 2
            self.resblocks.extend(ResBlock(width, kernel) for kernel in (3, 7))
        self.conv_post = weight_norm(nn.Conv1d(width, 1, 7, 1, padding=3))

    def forward(self, x):
        x = self.conv_pre(x)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            xs = self.resblocks[2 * stage](x)
            xs += self.resblocks[2 * stage + 1](x)
            x = xs / 2
        return torch.tanh(self.conv_post(F.leaky_relu(x)))

    def remove_weight_norm(self):
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                remove_weight_norm(module)


class BigVganG(nn.Module):
    """mel (N, 10, T) to (N, 1, 16 T): each stage's upsampling in a list of its own."""

    def __init__(self, width=16):
        super().__init__()
        self.conv_pre = weight_norm(nn.Conv1d(10, width, 7, 1, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for _ in range(2):
            self.ups.append(nn.ModuleList([weight_norm(nn.ConvTranspose1d(width, width // 2, 8, 4, padding=2))]))
            width //= 2
            self.resblocks.extend(ResBlock(width, kernel) for kernel in (3, 7))
        self.conv_post = weight_norm(nn.Conv1d(width, 1, 7, 1, padding=3))

    def forward(self, x):
        x = self.conv_pre(x)
        for stage, ups in enumerate(self.ups):
            for up in ups:
                x = up(x)
            x = (self.resblocks[2 * stage](x) + self.resblocks[2 * stage + 1](x)) / 2
        return self.conv_post(x + torch.sin(x).square()).clamp(-1, 1)


def judged(net, x):
    """A period's or a resolution's answer, and all features."""
    features = []
    for conv in net.convs:
        x = F.leaky_relu(conv(x), 0.1)
        features.append(x)
    x = net.conv_post(x)
    return torch.flatten(x, 1, -1), [*features, x]


class PeriodD(nn.Module):
    """Audio folded to (N, C, T / p, p); returns its answer and all features."""

    def __init__(self, period, width=4):
        super().__init__()
        self.period = period
        widths = (1, width, width, width, width)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (2, 1), (2, 0))) for a, b in itertools.pairwise(widths)
        )
        self.conv_post = weight_norm(nn.Conv2d(width, 1, (3, 1), 1, (1, 0)))

    def forward(self, x):
        n, c, t = x.shape
        pad = -t % self.period
        x = F.pad(x, (0, pad), "reflect").view(n, c, (t + pad) // self.period, self.period)
        return judged(self, x)


class MultiPeriodD(nn.Module):
    """Called as D(y, ŷ): lists of answers and features for both."""

    def __init__(self, periods=(2, 3)):
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodD(period) for period in periods)

    def forward(self, y, y_hat):
        real, fake = [d(y) for d in self.discriminators], [d(y_hat) for d in self.discriminators]
        return [a for a, _ in real], [a for a, _ in fake], [f for _, f in real], [f for _, f in fake]


class ResolutionD(nn.Module):
    """The magnitude spectrogram at one resolution, (N, 1, F, T); returns its answer and all features."""

    def __init__(self, window, hop, width=4):
        super().__init__()
        self.window, self.hop = window, hop
        first = weight_norm(nn.Conv2d(1, width, (3, 9), padding=(1, 4)))
        more = (weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), (1, 4))) for _ in range(2))
        self.convs = nn.ModuleList([first, *more])
        self.conv_post = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, x):
        pad = (self.window - self.hop) // 2
        x = F.pad(x, (pad, pad), "reflect").squeeze(1)
        x = (
            torch.stft(
                x, self.window, self.hop, window=torch.ones_like(x[0, : self.window]), center=False, return_complex=True
            )
            .abs()
            .unsqueeze(1)
        )
        return judged(self, x)


class MultiResolutionD(MultiPeriodD):
    """BigVGAN's, called as D(y, ŷ)."""

    def __init__(self, resolutions=((32, 4), (64, 8))):
        super().__init__(())
        self.discriminators = nn.ModuleList(ResolutionD(*each) for each in resolutions)


class WaveG(nn.Module):
    """WaveGAN: z (N, 12) to (N, 1, 4096)."""

    class Up(nn.Module):
        def __init__(self, inside, outside):
            super().__init__()
            self.upsample_layer, self.reflection_pad = nn.Upsample(scale_factor=4), nn.ConstantPad1d(12, 0)
            self.conv1d = nn.Conv1d(inside, outside, 25)

        def forward(self, x):
            return self.conv1d(self.reflection_pad(self.upsample_layer(x)))

    def __init__(self, width=2):
        super().__init__()
        self.width = width
        self.fc1 = nn.Linear(12, 16 * 8 * width)
        self.deconv_1, self.deconv_2 = self.Up(8 * width, 4 * width), self.Up(4 * width, 2 * width)
        self.deconv_3, self.deconv_4 = self.Up(2 * width, width), self.Up(width, 1)

    def forward(self, z):
        x = F.relu(self.fc1(z).view(-1, 8 * self.width, 16))
        for layer in (self.deconv_1, self.deconv_2, self.deconv_3):
            x = F.relu(layer(x))
        return torch.tanh(self.deconv_4(x))


class PhaseShuffle(nn.Module):
    """Draws random numbers, in eval mode too."""

    def forward(self, x):
        return x.roll(int(torch.randint(-2, 3, (1,))), 2)


class WaveD(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        for i in range(5):
            inside = 1 if i == 0 else width * 2 ** (i - 1)
            setattr(self, f"conv{i + 1}", nn.Conv1d(inside, width * 2**i, 25, 4, 11))
            setattr(self, f"ps{i + 1}", PhaseShuffle())
        self.fc1 = nn.Linear(16 * width * 4, 1)

    def forward(self, x):
        for i in range(5):
            x = F.leaky_relu(getattr(self, f"conv{i + 1}")(x), 0.2)
            if i < 4:
                x = getattr(self, f"ps{i + 1}")(x)
        return self.fc1(x.flatten(1))
