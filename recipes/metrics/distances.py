"""Sets of samples against sets of real ones, in a feature space that is named.

:mod:`fbwrap.recipes.metrics.quality` is about one sample and what it should be.

Examples:
    >>> import torch
    >>> x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    >>> round(frechet_distance(x, x), 6), round(frechet_distance(x, x + 1), 3)
    (0.0, 4.0)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fbwrap.errors import SettingError
from fbwrap.plots import unit


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(C_a + C_b − 2 (C_a C_b)^½): the distance of FID, in any feature space.

    Args:
        a, b: features, a row a sample. The space must be named wherever the number is.
    """
    a, b = a.double(), b.double()
    _enough(a, b)
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

    Examples:
        >>> space = Space("pixels", lambda x: x)
        >>> x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
        >>> sorted(space.distances(x, x)), round(space.distances(x, x)["frechet[pixels]"], 6)
        (['frechet[pixels]', 'kid[pixels]', 'precision[pixels]', 'recall[pixels]'], 0.0)

    Args:
        name: of the extractor, as it will stand in tables.
        net: samples to features, (N, …); it is run in eval mode if it is a module.
        logits: samples to a classifier's logits, for an Inception score too: mean and deviation over ten parts.
    """

    def __init__(self, name: str, net: Callable[[Tensor], Tensor], logits: Callable[[Tensor], Tensor] | None = None):
        self.name, self._net, self._logits = name, net, logits
        if isinstance(net, torch.nn.Module):
            net.eval()

    def __call__(self, samples: Tensor) -> Tensor:
        """The features, (N, D)."""
        return features(self._net, samples)

    def distances(self, samples: Tensor, real: Tensor) -> dict[str, float]:
        """The Fréchet distance, the kernel distance (KID's cubic kernel, unbiased), precision and recall."""
        a, b = features(self._net, samples), features(self._net, real)
        precision, recall = precision_and_recall(a, b)
        found = {"frechet": frechet_distance(a, b), "kid": kernel_distance(a, b)}
        found |= {"precision": precision, "recall": recall}
        if self._logits is not None:
            parts = torch.tensor([inception_score(part) for part in features(self._logits, samples).chunk(10)])
            found |= {"inception score": float(parts.mean()), "its deviation": float(parts.std(correction=0))}
        return {f"{key}[{self.name}]": value for key, value in found.items()}


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³, unbiased: KID's (Bińkowski et al. 2018), of
    all samples at once."""
    a, b = a.double(), b.double()
    _enough(a, b)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def total(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([kernel(part, y).sum() for part in x.split(1000)]).sum()

    def apart(x: Tensor) -> Tensor:
        itself = ((x.square().sum(1) / x.shape[1] + 1) ** 3).sum()
        return (total(x, x) - itself) / (len(x) * (len(x) - 1))

    return float(apart(a) + apart(b) - 2 * total(a, b) / (len(a) * len(b)))


def _enough(*sets: Tensor) -> None:
    if min(len(rows) for rows in sets) < 2:
        raise SettingError(
            "A distance of sets needs at least two samples on each side, and many more to be meaningful."
        )


def precision_and_recall(samples: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """The shares of samples within the real manifold and of real ones within the samples': the union of balls around
    each that reach to its k-th neighbour (Kynkäänniemi et al. 2019).

    Args:
        samples, real: features, a row a sample; compare only numbers of as many of each.
    """

    def within(x: Tensor, manifold: Tensor) -> float:
        radii = torch.cat([
            torch.cdist(part, manifold).topk(min(k + 1, len(manifold)), largest=False).values[:, -1]
            for part in manifold.split(1000)
        ])  # fmt: skip
        inside = [(torch.cdist(part, manifold) <= radii).any(1) for part in x.split(1000)]
        return float(torch.cat(inside).double().mean())

    a, b = samples.double(), real.double()
    return within(a, b), within(b, a)


def inception_score(logits: Tensor) -> float:
    """exp E KL(p(c|y) ‖ p(c)) (Salimans et al. 2016), of any classifier's logits, of all samples at once. With another
    classifier than Inception it is not the published score: name it wherever the number is; as published it is the mean
    over ten parts of 5000 samples each (``logits.chunk(10)``)."""
    odds = logits.double().log_softmax(1)
    mean = odds.exp().mean(0).clamp(min=1e-300).log()
    return float((odds.exp() * (odds - mean)).sum(1).mean().exp())


def inception(value_range: tuple[float, float] = (-1.0, 1.0)) -> Space:
    """The space of the published FID, KID and Inception score: Inception-v3's 2048 features and its logits, through
    torch-fidelity.

    Args:
        value_range: of the samples.

    Raises:
        SettingError: torch-fidelity is not installed, or its weights can be neither found nor downloaded.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        net = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"])
    except Exception as error:
        raise SettingError(
            f"Inception cannot be loaded: {type(error).__name__}: {error}. It needs torch-fidelity, and its weights, "
            "which are downloaded once. Or pass another network; its distance is then not called FID."
        ) from error

    def answer(samples: Tensor, place: int) -> Tensor:
        pixels = (unit(samples, value_range) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        net.to(samples.device)
        return torch.cat([net(part)[place] for part in pixels.split(50)])

    return Space("Inception-v3", lambda samples: answer(samples, 0), lambda samples: answer(samples, 1))


@torch.no_grad()
def accuracy(classifier: Callable[[Tensor], Tensor], samples: Tensor, label: int) -> float:
    """Share of samples that a classifier takes for what they should be (FAL's Table 4)."""
    return float((features(classifier, samples).argmax(1) == label).double().mean())
