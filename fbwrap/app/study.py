"""``fbwrap study`` and ``fbwrap eval``: a head measured, with the base and the controls beside it.

Example:
    $ fbwrap study controls head -g nets.py:G -d nets.py:D --latent 100x1x1 --real photos --features nets.py:Extractor
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import FeedbackLoop
from fbwrap.errors import SettingError
from fbwrap.recipes import studies
from fbwrap.recipes.metrics import Space
from fbwrap.recipes.sources import Images

STUDIES: dict[str, Callable[[FeedbackLoop, Tensor, studies.Measure], studies.Study]] = {
    "strength": studies.strength_sweep,
    "modules": studies.one_at_a_time,
    "controls": studies.controls,
    "switching": lambda loop, z, measure: studies.switching(loop, z, _base(loop, z).roll(1, 0), measure),
    "variance": studies.latent_variance,
    "beyond": studies.beyond,
    "fooling": lambda loop, z, measure: studies.fooling(loop, z),
}


def latents_of(text: str, samples: int, seed: int) -> Tensor:
    """Seeded normal noise: ``"100x1x1"`` for each sample."""
    try:
        shape = [int(number) for number in text.split("x")]
    except ValueError:
        raise SettingError(f"--latent {text!r}: write the shape of one latent, such as 100x1x1 or 128.") from None
    return torch.randn(samples, *shape, generator=torch.Generator().manual_seed(seed))


def measure_of(features: Any, name: str, real: Path | None, size: int, samples: int) -> studies.Measure:
    """Distances to real images in a feature space; without one, how far samples are spread."""
    if (features is None) is not (real is None):
        raise SettingError("--features and --real go together: the distance is that of samples to real images there.")
    if features is None or real is None:
        return lambda y: {"mean": float(y.mean()), "std": float(y.std())}
    images = Images(real, size)
    many = torch.stack([images[i] for i in range(min(samples, len(images)))])
    space = Space(name, features)
    return lambda y: space.distances(y, many)


def evaluated(loop: FeedbackLoop, z: Tensor, measure: studies.Measure) -> studies.Study:
    """The base and each step of the head, as it is."""
    outputs = [_base(loop, z), *studies.generated(loop, z)[1:]]
    return studies.Study("eval", "step", tuple({"step": t, **measure(y)} for t, y in enumerate(outputs)))


def _base(loop: FeedbackLoop, z: Tensor) -> Tensor:
    """G without feedback (y_0 of a FAL loop is zeros)."""
    return studies.generated(loop, z, steps=0)[0]
