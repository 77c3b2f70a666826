"""Residual networks: SN-GAN's at 32x32 (AFL §4.2), the 9-block generator of CycleGAN with a patch discriminator and
FAL's half-deep BigGAN-like pair for faces (FAL §5.1).

Examples:
    >>> import torch
    >>> TranslationGenerator(3, 3, 4, 2)(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 3, 16, 16])
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .sizes import doublings


class Block(nn.Module):
    """Pre-activation residual block: up, down or neither; batch, instance or no norm; spectral norm or not.

    Args:
        first: it sees the image, whose negative half no ReLU takes away.
    """

    def __init__(
        self, inside: int, outside: int, scale: str = "", norm: str = "none", sn: bool = False, first: bool = False
    ):
        super().__init__()
        self._first = first
        wrap = spectral_norm if sn else (lambda layer: layer)
        kinds: dict[str, Callable[[int], nn.Module]] = {
            "batch": nn.BatchNorm2d,
            "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
        }
        make = kinds.get(norm, lambda n: nn.Identity())
        self.norm1, self.norm2 = make(inside), make(outside)
        self.conv1, self.conv2 = wrap(nn.Conv2d(inside, outside, 3, 1, 1)), wrap(nn.Conv2d(outside, outside, 3, 1, 1))
        self.skip = wrap(nn.Conv2d(inside, outside, 1)) if scale or inside != outside else nn.Identity()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Both branches, scaled alike."""
        h = x if self._first else F.relu(self.norm1(x))
        if self.scale == "up":
            h, x = F.interpolate(h, scale_factor=2), F.interpolate(x, scale_factor=2)
        h = self.conv2(F.relu(self.norm2(self.conv1(h))))
        whole: Tensor = h + self.skip(x)
        return F.avg_pool2d(whole, 2) if self.scale == "down" else whole


class Generator(nn.Module):
    """z (N, z) to (N, 3, size, size) in [-1, 1]: blocks that double the size from 4x4.

    SN-GAN at 32: width 256 at every stage, batch norm. FAL at 128 (half-deep BigGAN, 64 filters, instance norm):
    ``growth`` halves the width from stage to stage, down to ``width``.
    """

    def __init__(self, z: int = 128, width: int = 256, size: int = 32, norm: str = "batch", growth: bool = False):
        super().__init__()
        stages = doublings(size, 4)
        widths = [width * 2 ** max(0, min(4, stages - 1 - i)) if growth else width for i in range(stages + 1)]
        self.lift = nn.Linear(z, widths[0] * 16)
        self.blocks = nn.ModuleList(Block(a, b, "up", norm) for a, b in itertools.pairwise(widths))
        last = nn.BatchNorm2d(widths[-1]) if norm == "batch" else nn.InstanceNorm2d(widths[-1], affine=True)
        self.paint = nn.Sequential(last, nn.ReLU(), nn.Conv2d(widths[-1], 3, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """The images."""
        h = self.lift(z).view(len(z), -1, 4, 4)
        for block in self.blocks:
            h = block(h)
        images: Tensor = self.paint(h)
        return images


class Discriminator(nn.Module):
    """(N, 3, H, W) to logits: blocks with spectral norm.

    Args:
        response: the side at which it stops halving and answers with a map, as FAL wants (8x8 at 128); None: one
            logit per image (SN-GAN).
    """

    def __init__(self, width: int = 128, size: int = 32, response: int | None = None, growth: bool = False):
        super().__init__()
        least = 8 if response is None else response
        halvings = doublings(size, least)
        blocks, inside = [], 3
        for stage in range(halvings):
            outside = width * 2 ** min(4, stage) if growth else width
            blocks.append(Block(inside, outside, "down", sn=True, first=stage == 0))
            inside = outside
        self.blocks = nn.Sequential(*blocks, *(Block(inside, inside, sn=True) for _ in range(2)))
        last: nn.Module = nn.Conv2d(inside, 1, 1) if response is not None else nn.Linear(inside, 1)
        self.last, self.map = spectral_norm(last), response is not None

    def forward(self, x: Tensor) -> Tensor:
        """A map (N, 1, h, w), or (N, 1)."""
        h = F.relu(self.blocks(x))
        logits: Tensor = self.last(h if self.map else h.sum((2, 3)))
        return logits


class ConvBlock(nn.Module):
    """CycleGAN's residual block (Johnson et al. 2016): two convolutions with instance norm, a ReLU between them, none
    behind the sum."""

    def __init__(self, width: int):
        super().__init__()

        def conv() -> nn.Conv2d:
            return nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")

        norms = [nn.InstanceNorm2d(width, affine=True) for _ in range(2)]
        self.body = nn.Sequential(conv(), norms[0], nn.ReLU(inplace=True), conv(), norms[1])

    def forward(self, x: Tensor) -> Tensor:
        """x + f(x)."""
        whole: Tensor = x + self.body(x)
        return whole


class TranslationGenerator(nn.Module):
    """Image to image: an encoder that halves twice, residual blocks, a decoder; instance norm (FAL: 9 blocks).

    Args:
        block: makes a residual block of so many channels.
    """

    def __init__(
        self,
        inside: int = 3,
        outside: int = 3,
        width: int = 64,
        blocks: int = 9,
        block: Callable[[int], nn.Module] = ConvBlock,
    ):
        super().__init__()

        def convs(a: int, b: int, layer: nn.Module) -> nn.Sequential:
            return nn.Sequential(layer, nn.InstanceNorm2d(b, affine=True), nn.ReLU(inplace=True))

        first = nn.Conv2d(inside, width, 7, padding=3, padding_mode="reflect")
        self.encoder = nn.Sequential(
            convs(inside, width, first),
            *(convs(width * f, 2 * width * f, nn.Conv2d(width * f, 2 * width * f, 3, 2, 1)) for f in (1, 2)),
        )
        self.blocks = nn.Sequential(*(block(4 * width) for _ in range(blocks)))
        ups = ((4, 2), (2, 1))
        self.decoder = nn.Sequential(
            *(convs(a * width, b * width, nn.ConvTranspose2d(a * width, b * width, 4, 2, 1)) for a, b in ups),
            nn.Sequential(nn.Conv2d(width, outside, 7, padding=3, padding_mode="reflect"), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The images; where the input's size is no multiple of four, padded and cropped."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        images: Tensor = self.decoder(self.blocks(self.encoder(x)))
        return images[:, :, :height, :width]


class PatchDiscriminator(nn.Module):
    """The condition and the image, concatenated, to a map of logits (70x70 patches with three layers)."""

    def __init__(self, inside: int = 6, width: int = 64, layers: int = 3):
        super().__init__()
        parts: list[nn.Module] = [nn.Sequential(nn.Conv2d(inside, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True))]
        for n in range(1, layers + 1):
            outside = min(2 * width, 512)
            conv = nn.Conv2d(width, outside, 4, 2 if n < layers else 1, 1)
            parts.append(nn.Sequential(conv, nn.InstanceNorm2d(outside, affine=True), nn.LeakyReLU(0.2, inplace=True)))
            width = outside
        self.main = nn.Sequential(*parts, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The map."""
        logits: Tensor = self.main(x)
        return logits


class RRDBNet(nn.Module):
    """ESRGAN's generator x4, with BasicSR's layer names (its weights load): residual-in-residual dense blocks at low
    resolution, then nearest upscaling."""

    class Dense(nn.Module):
        """Five convolutions, each of all before it."""

        conv5: nn.Module

        def __init__(self, width: int, grow: int):
            super().__init__()
            for i in range(5):
                setattr(self, f"conv{i + 1}", nn.Conv2d(width + i * grow, grow if i < 4 else width, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            """x + 0.2 · f(x)."""
            seen = [x]
            for i in range(4):
                seen.append(F.leaky_relu(getattr(self, f"conv{i + 1}")(torch.cat(seen, 1)), 0.2))
            residual: Tensor = self.conv5(torch.cat(seen, 1))
            return x + 0.2 * residual

    class Block(nn.Module):
        """Three dense blocks and a residual of a fifth."""

        def __init__(self, width: int, grow: int):
            super().__init__()
            self.rdb1, self.rdb2, self.rdb3 = (RRDBNet.Dense(width, grow) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            """x + 0.2 · f(x)."""
            residual: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
            return x + 0.2 * residual

    def __init__(self, width: int = 64, blocks: int = 23, grow: int = 32):
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*(self.Block(width, grow) for _ in range(blocks)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (
            nn.Conv2d(width, width, 3, 1, 1) for _ in range(4)
        )
        self.conv_last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 4 h, 4 w)."""
        h = self.conv_first(x)
        h = h + self.conv_body(self.body(h))
        for up in (self.conv_up1, self.conv_up2):
            h = F.leaky_relu(up(F.interpolate(h, scale_factor=2)), 0.2)
        image: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(h), 0.2))
        return image


Plain, Translator = ConvBlock, TranslationGenerator  # old names, until 0.2
