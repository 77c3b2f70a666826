"""Distances between sets of samples, in a feature space that is named, and of images to what they should be.

Example:
    >>> import torch
    >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(x, x), 6), round(frechet_distance(x, x + 1), 3)
    (0.0, 4.0)
"""

from collections.abc import Callable

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(C_a + C_b − 2 (C_a C_b)^½): the distance of FID, in any feature space.

    Args:
        a, b: features, a row a sample. The space must be named wherever the number is.
    """
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + cov_a.trace() + cov_b.trace() - 2 * mixed)


@torch.no_grad()
def features(net: Callable[[Tensor], Tensor], samples: Tensor, batch: int = 500) -> Tensor:
    """``net`` of all samples, in batches, one row each."""
    return torch.cat([net(part).flatten(1) for part in samples.split(batch)])


class Space:
    """A feature space, named in every number that is measured in it.

    Example:
        >>> space = Space("pixels", lambda x: x)
        >>> x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
        >>> sorted(space.distances(x, x)), round(space.distances(x, x)["frechet[pixels]"], 6)
        (['frechet[pixels]', 'kid[pixels]'], 0.0)

    Args:
        name: of the extractor, as it will stand in tables.
        net: samples to features, (N, …); it is run in eval mode if it is a module.
    """

    def __init__(self, name: str, net: Callable[[Tensor], Tensor]):
        self.name, self._net = name, net
        if isinstance(net, torch.nn.Module):
            net.eval()

    def distances(self, samples: Tensor, real: Tensor) -> dict[str, float]:
        """The Fréchet distance, and the kernel distance (KID's cubic kernel, unbiased)."""
        a, b = features(self._net, samples), features(self._net, real)
        return {f"frechet[{self.name}]": frechet_distance(a, b), f"kid[{self.name}]": kernel_distance(a, b)}


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³, unbiased: KID's (Bińkowski et al. 2018), of
    all samples at once."""
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def apart(x: Tensor) -> Tensor:
        k = kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return float(apart(a) + apart(b) - 2 * kernel(a, b).mean())


def image_quality(output: Tensor, target: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> dict[str, float]:
    """RMSE (of 255 grey levels, as AFL's Table 1 has it), PSNR and SSIM of images, means over the batch."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    low, span = value_range[0], value_range[1] - value_range[0]
    made, wanted = ((image.clamp(*value_range) - low) / span for image in (output, target))
    each = (made - wanted).square().flatten(1).mean(1)
    psnr = peak_signal_noise_ratio(made, wanted, data_range=1.0, reduction="elementwise_mean", dim=(1, 2, 3))
    return {
        "rmse": float(each.sqrt().mean() * 255),
        "psnr": float(psnr),
        "ssim": float(structural_similarity_index_measure(made, wanted, data_range=1.0)),  # type: ignore[arg-type]
    }


@torch.no_grad()
def accuracy(classifier: Callable[[Tensor], Tensor], samples: Tensor, label: int) -> float:
    """Share of samples that a classifier takes for what they should be (FAL's Table 4)."""
    return float((features(classifier, samples).argmax(1) == label).double().mean())
