"""A feature space that is learned on the training part without labels or weights from the net.

Examples:
    >>> space = learned_space(real, seed=0, folder="run")                          # doctest: +SKIP
    >>> frechet_distance(space(samples), space(held_out))                          # doctest: +SKIP
    >>> paired_errors(space, outputs, targets).mean()                              # doctest: +SKIP

The encoder is a small convolution network that learns to name pseudo-classes (:mod:`~fbwrap.recipes.fitting.clusters`,
100 of them) of samples that are shifted, dimmed, cut and noised. Its features are those before the names, standardised
over real samples. Beside them stand the samples' principal components: the learned features see what kind of thing a
sample is, the components its shape as a whole, and neither is right on every pair (docs/design.md). The distance is the
geometric mean of the two (:func:`distance`). Where a sample is no map (a vector, tokens), there are the components
alone.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbwrap.files.atomic import atomic_write

from ..metrics.distances import frechet_distance
from ..metrics.pixel_space import principal_components
from .clusters import pseudo_classes

logger = logging.getLogger("fbwrap")
FEATURES = 64
CLASSES = 100
_STEPS, _RATE = 400, 1e-3
_BATCH, _VALUES = (32, 256), 800_000  # samples a step: so many that they have about so many values
_FITTED, _TINY = 10_000, 1e-12  # samples that components are fitted to; the least distance
_SMALLEST, _PART = 4, 500  # the side at which stages end; samples at a time


class Encoder(nn.Module):
    """Maps (N, C, …) to features (N, 64): stages that halve the sides, and their last feature's mean and places."""

    def __init__(self, dims: int, channels: int, side: int, width: int = 32) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
        stages: list[nn.Module] = []
        while side > _SMALLEST:
            wider = width * 2 ** min(len(stages), 2)
            stages.append(nn.Sequential(conv(channels, wider, 4, 2, 1, bias=False), norm(wider), nn.ReLU()))
            channels, side = wider, side // 2
        self.stages = nn.Sequential(*stages)
        self.features = nn.LazyLinear(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        features: Tensor = self.features(self.stages(x).flatten(1)).relu()
        return features


def distance(space: Callable[[Tensor], Tensor], seen: Tensor, real: Tensor) -> float:
    """Fréchet's distance of two sets of features; where a space has several blocks of them, the geometric mean of the
    blocks' distances, so that no block's units count."""
    blocks = getattr(space, "blocks", None) or (seen.shape[1],)
    pairs = zip(seen.split(blocks, 1), real.split(blocks, 1), strict=True)
    found = [max(frechet_distance(*pair), _TINY) for pair in pairs]
    return math.exp(math.fsum(map(math.log, found)) / len(found))


class LearnedSpace:
    """Samples (N, C, …) to features (N, D), on the CPU: 64 learned ones, standardised over real samples, and the
    samples' principal components; and how far an output is from its target, in the encoder's stages.

    Attributes:
        blocks: how many features each of the two has.
    """

    def __init__(self, net: Encoder, real: Tensor) -> None:
        self.net, self._like = net.eval(), real[:0]
        chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:_FITTED]
        self._components = principal_components(real[chosen.to(real.device)])
        self.blocks = (FEATURES, self._components(real[:2]).shape[1])
        with torch.no_grad():
            rows = torch.cat([net(part) for part in real[:5000].split(_PART)])
        self._mean, deviation = rows.mean(0), rows.std(0)
        # some are nearly always zero
        self._deviation = deviation.clamp(min=max(1e-6, 0.1 * float(deviation.mean())))

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> Tensor:
        """The features."""
        found = []
        for part in samples.split(_PART):
            part = part.to(self._like)
            found.append(torch.cat([(self.net(part) - self._mean) / self._deviation, self._components(part)], 1).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As LPIPS (Zhang et al. 2018) without learned weights: at each place of each stage the squared distance of the
        two features, each of length 1 over channels; means over places, summed over stages. (N,), any size."""
        total = torch.zeros(len(outputs))
        for begin in range(0, len(outputs), _PART):
            rows = slice(begin, begin + _PART)
            a, b = outputs[rows].to(self._like), targets[rows].to(self._like)
            for stage in self.net.stages:
                a, b = stage(a), stage(b)
                total[rows] += (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).flatten(1).mean(1).cpu()
        return total


def paired_errors(space: Callable[[Tensor], Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
    """How far each output is from its target, (N,): in the stages of a learned space, else the mean squared distance of
    the features."""
    if isinstance(space, LearnedSpace):
        return space.errors(outputs, targets)
    return (space(outputs) - space(targets)).flatten(1).square().mean(1).cpu()


def learned_space(real: Tensor, seed: int = 0, folder: Path | None = None) -> Callable[[Tensor], Tensor]:
    """A function of samples (N, C, …) to features (N, D), on the CPU.

    Args:
        real: the training part.
        folder: where the encoder is kept, under a name that the data and the seed decide; None: nowhere.
    """
    if real.dim() < 3 or min(real.shape[2:]) < 2 * _SMALLEST or real.dim() > 5:
        return principal_components(real)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Encoder(real.dim() - 2, real.shape[1], min(real.shape[2:])).to(real.device)
        with torch.no_grad():
            net(real[:2])  # the lazy layer's size
        kept = folder / f"space-{hash_of(real, seed)}.pt" if folder else None
        if kept is not None and kept.is_file():
            net.load_state_dict(torch.load(kept, map_location=real.device, weights_only=True))
        else:
            logger.info("A feature space is learned on %d samples.", len(real))
            _train(net, real, seed)
            if kept is not None:
                with atomic_write(kept) as part:
                    torch.save(net.state_dict(), part)
    return LearnedSpace(net, real)


def _train(net: Encoder, real: Tensor, seed: int) -> None:
    classes = pseudo_classes(real, CLASSES, seed + 1)  # others than those that a D may be taught
    names = nn.Linear(FEATURES, int(classes.max()) + 1).to(real.device)
    net.train()
    optimizer = torch.optim.Adam([*net.parameters(), *names.parameters()], _RATE)
    batch = min(max(_BATCH[0], min(_BATCH[1], _VALUES // real[0].numel())), len(real))
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * step / _STEPS))
        rows = torch.randint(len(real), (batch,), device=real.device)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(names(net(_augmented(real[rows]))), classes[rows]).backward()
        optimizer.step()


def _augmented(rows: Tensor) -> Tensor:
    """Each sample shifted by up to an eighth of its sides, dimmed, cut and noised in its own way."""
    sides, dims = rows.shape[2:], rows.dim() - 2
    moved = rows
    for axis, side in enumerate(sides, 2):
        most = max(1, side // 8)
        by = torch.randint(-most, most + 1, (len(rows),), device=rows.device)
        places = (torch.arange(side, device=rows.device)[None] + by[:, None]).clamp(0, side - 1)
        shape = [len(rows), *(side if place == axis else 1 for place in range(1, rows.dim()))]
        moved = moved.gather(axis, places.view(shape).expand_as(moved))
    each = [len(rows), *(1,) * (dims + 1)]
    gain = 0.7 + 0.6 * torch.rand(each, device=rows.device)
    centre = moved.flatten(1).mean(1).view(each)
    moved = centre + gain * (moved - centre) + 0.1 * moved.std() * torch.randn(each, device=rows.device)
    cut = torch.ones_like(moved[:, :1])
    for axis, side in enumerate(sides, 2):
        begin = torch.randint(0, side, (len(rows),), device=rows.device)[:, None]
        place = torch.arange(side, device=rows.device)[None]
        shape = [len(rows), *(side if at == axis else 1 for at in range(1, rows.dim()))]
        cut = cut * ((place >= begin) & (place < begin + side // 4)).view(shape)
    moved = torch.where(cut.bool(), centre, moved)
    return moved + 0.05 * moved.std() * torch.randn_like(moved)


def hash_of(real: Tensor, seed: int) -> str:
    """Of the data: its shape, its sum, and some of its samples."""
    stride = max(1, len(real) // 256)
    some = real[::stride].detach().float().cpu().contiguous()
    text = f"{tuple(real.shape)} {float(real.double().sum()):.17g} {seed} {_STEPS}"
    return hashlib.sha256(text.encode() + some.numpy().tobytes()).hexdigest()[:16]
