"""fbwrap.recipes: training feedback heads.

Example:
    >>> import fbwrap
    >>> loop = fbwrap.attach(G, D, ["main.5"], example=z)                         # doctest: +SKIP
    >>> fbwrap.recipes.AFL(loop).fit(images, latents, steps=2000, out="run")      # doctest: +SKIP

:class:`AFL` is phase 2 of AFL: G is frozen, the feedback modules learn, D keeps learning.
:class:`GAN` is phase 1, ordinary training; :func:`train_discriminator` makes a D for a G that was
published without one.
"""

from .afl import AFL
from .gan import GAN, train_discriminator
from .losses import LOSSES
from .metrics import frechet_distance
from .options import Options
from .trainer import Fit

__all__ = ["AFL", "GAN", "LOSSES", "Fit", "Options", "frechet_distance", "train_discriminator"]
