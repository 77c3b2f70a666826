"""How inputs that somebody drew are distributed, where their numbers tell it clearly.

Examples:
    >>> import torch
    >>> torch.manual_seed(0)                                                              # doctest: +ELLIPSIS
    <torch._C.Generator object at ...>
    >>> seen_in((torch.randn(1000, 64), torch.randint(0, 10, (1000,))), {})
    ['normal', 'labels:0:9']
    >>> seen_in((2 * torch.rand(1000, 100, 1, 1) - 1,), {})
    'uniform:-1:1'
    >>> seen_in((torch.nn.functional.normalize(torch.randn(1000, 64)),), {})       # on a sphere: none of these

A function draws latents while a head is trained; the head itself keeps only words (:mod:`fbwrap.feedback.latents`), so
that others can draw them. All values are compared with a distribution by Kolmogorov's and Smirnov's statistic, and the
length of each sample with that of independent numbers.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .latents import Latents

FEWEST, MOST = 2000, 50_000  # values that are looked at
_CRITICAL = 1.95  # times 1/√n: exceeded by one of a thousand true ones
_UNIFORM = ((-1.0, 1.0), (0.0, 1.0))


def seen_in(args: Sequence[object], kwargs: Mapping[str, object]) -> Latents | None:
    """The description that drawn inputs fit; None where one of them fits none.

    Args:
        args, kwargs: G's inputs for many samples, 500 or more.
    """
    found = [_seen(value) for value in (*args, *kwargs.values())]
    if not found or any(each is None for each in found):
        return None
    known = [each for each in found if each is not None]
    if not kwargs:
        return known[0] if len(known) == 1 else known
    return dict(zip(kwargs, known, strict=True)) if not args else None


def _seen(value: object) -> str | None:
    if not isinstance(value, Tensor) or value.dim() == 0:
        return None
    value = value.detach().cpu()
    return _numbers(value.double()) if value.is_floating_point() else _labels(value)


def _numbers(value: Tensor) -> str | None:
    if value.numel() < FEWEST:
        return None
    rows = value.flatten(1) if value.dim() > 1 else value[:, None]
    some = rows.flatten()[torch.randperm(rows.numel(), generator=torch.Generator().manual_seed(0))[:MOST]].sort()[0]
    steps = torch.arange(1, len(some) + 1, dtype=torch.double) / len(some)
    least = _CRITICAL / len(some) ** 0.5

    def fits(expected: Tensor, spread: float) -> bool:
        """Whether values have these chances below them, and squares as far apart between samples as if all were
        independent."""
        apart = torch.maximum((expected - steps).abs(), (expected - steps + 1 / len(some)).abs()).max()
        between = float(rows.square().mean(1).var()) * rows.shape[1] / spread
        return bool(apart <= least) and 0.7 < between < 1.4

    if fits(torch.special.ndtr(some), 2.0):
        return "normal"
    for low, high in _UNIFORM:
        inside = low <= float(some[0]) and float(some[-1]) <= high
        square = 4 / 45  # variance of the square of a number between 0 and 1, or -1 and 1
        if inside and fits((some - low) / (high - low), square):
            return f"uniform:{low:g}:{high:g}"
    return None


def _labels(value: Tensor) -> str | None:
    if value.is_complex() or value.dtype == torch.bool:
        return None
    first, last = int(value.min()), int(value.max())
    many = last - first + 1
    if many < 2 or value.numel() < 20 * many:
        return None
    counts = torch.bincount(value.long().flatten() - first, minlength=many)
    return f"labels:{first}:{last}" if int(counts.min()) * many > 0.5 * value.numel() else None
