"""fbwrap.recipes: training feedback heads.

Examples:
    >>> import fbwrap
    >>> loop = fbwrap.attach(G, D, ["main.5"], example=z)                         # doctest: +SKIP
    >>> fbwrap.recipes.AFL(loop).fit(images, latents, steps=2000, out="run")      # doctest: +SKIP

:class:`AFL` is phase 2 of AFL: G is frozen, the feedback modules learn, D keeps learning. :class:`FAL` trains G, D
and the head together. :class:`GAN` is phase 1, ordinary training; :func:`train_discriminator` makes a D for a G that
was published without one. :func:`afl_step` and :func:`fal_step` are for training loops of one's own.
"""

from importlib import import_module
from typing import Any

from .afl import AFL
from .data.batches import Pairs
from .fal import FAL
from .gan import GAN, train_discriminator
from .metrics.distances import frechet_distance
from .training.fit import Fit
from .training.losses import LOSSES, Perceptual
from .training.options import Options
from .training.steps import Critic, afl_step, fal_step

__all__ = [
    "AFL",
    "FAL",
    "GAN",
    "LOSSES",
    "Critic",
    "Fit",
    "Options",
    "Pairs",
    "Perceptual",
    "afl_step",
    "fal_step",
    "frechet_distance",
    "train_discriminator",
]


def __getattr__(name: str) -> Any:
    """Subpackages that training does not need are imported when first asked for: ``fbwrap.recipes.studies``."""
    if name in ("experiments", "fitting", "networks", "studies"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
