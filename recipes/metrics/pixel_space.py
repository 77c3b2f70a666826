"""A distance of two sets of samples that needs neither labels nor a pretrained network.

Examples:
    >>> import torch
    >>> made = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(256, 3, 16, 16, generator=made), torch.randn(256, 3, 16, 16, generator=made)
    >>> space = PixelSpace(x)
    >>> space.ratio(0.8 * y, y) > 1, space.ratio(y, y)
    (True, 1.0)

It compares two sets made from the same latents: how far is each from real samples, and what is the ratio? The distances
are Fréchet's, in two spaces, and the larger ratio counts. One space is the principal components of the samples
themselves: whole shapes. The other is the means and deviations of a fixed random convolution network's maps: textures
and edges. Such a ratio is far coarser than one in a trained network's features, and good for one question: does the
head do harm? (docs/results/defaults.md has how well it agrees with a trained network.)
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .distances import frechet_distance

COMPONENTS = 64
_MAPS, _LAYERS, _LARGEST = 32, 3, 4096  # values of a sample that components are taken of


class PixelSpace:
    """The two feature spaces, fitted to real samples.

    Args:
        real: (N, …) floating-point samples, N of 4 or more: half of them fit the spaces, the other half is what
            distances are to.
    """

    def __init__(self, real: Tensor):
        fitted, self._compared = real[::2], real[1::2]
        self._spaces: list[Callable[[Tensor], Tensor]] = [principal_components(fitted)]
        if real.dim() > 2 and min(real.shape[2:]) >= 4:
            self._spaces.append(_textures(fitted))
        self._targets = [space(self._compared) for space in self._spaces]

    @torch.no_grad()
    def parts(self, samples: Tensor) -> list[float]:
        """The distance in each space."""
        return [
            frechet_distance(space(samples), target) for space, target in zip(self._spaces, self._targets, strict=True)
        ]

    def ratio(self, samples: Tensor, base: Tensor) -> float:
        """The distance of ``samples`` over that of ``base``, the larger of the two spaces': below 1 they are nearer in
        both. Infinite where a sample is not finite."""
        if not torch.isfinite(samples).all():
            return math.inf
        pairs = list(zip(self.parts(samples), self.parts(base), strict=True))
        return max(after / max(before, 1e-12) for after, before in pairs)


@torch.no_grad()
def principal_components(real: Tensor) -> Callable[[Tensor], Tensor]:
    """Samples to their principal components' coordinates, in units of the first one's deviation."""

    def flat(samples: Tensor) -> Tensor:
        samples = samples.float()
        while samples.dim() > 2 and samples[0].numel() > _LARGEST and max(samples.shape[2:]) > 1:
            halved = [max(1, side // 2) for side in samples.shape[2:]]
            pool = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}.get(len(halved))
            if pool is None:
                break
            samples = pool(samples, halved)  # type: ignore[arg-type]
        return samples.flatten(1)

    rows = flat(real)
    mean = rows.mean(0)
    count = max(1, min(COMPONENTS, len(rows) // 4, rows.shape[1]))
    _, deviations, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    scale = deviations[0].clamp(min=1e-12) / len(rows) ** 0.5
    basis = directions[:count].T / scale
    return lambda samples: (flat(samples) - mean) @ basis


@torch.no_grad()
def _textures(real: Tensor) -> Callable[[Tensor], Tensor]:
    """Samples to the mean and deviation of each map of a random convolution network, standardised over real ones."""
    dims = real.dim() - 2
    if dims > 3:
        return principal_components(real)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    generator = torch.Generator().manual_seed(0)
    weights, channels = [], real.shape[1]
    for _ in range(min(_LAYERS, min(real.shape[2:]).bit_length() - 2)):  # the last map has a side of 2 or more
        weight = torch.randn(_MAPS, channels, *(4,) * dims, generator=generator)
        weights.append((weight / weight[0].numel() ** 0.5).to(real.device))
        channels = _MAPS

    def maps(samples: Tensor) -> Tensor:
        found = []
        for part in samples.float().split(250):
            for weight in weights:
                part = F.relu(convolve(part, weight, stride=2, padding=1))
            found.append(torch.cat([part.flatten(2).mean(2), part.flatten(2).std(2, correction=0)], 1))
        return torch.cat(found)

    rows = maps(real)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation = deviation.clamp(min=max(1e-6, 0.1 * float(deviation.mean())))  # some maps are nearly constant
    return lambda samples: (maps(samples) - mean) / deviation / rows.shape[1] ** 0.5
