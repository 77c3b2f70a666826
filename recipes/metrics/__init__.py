"""How good samples are: sets of them against sets of real ones, and one of them against what it should be.

Examples:
    >>> fbwrap.recipes.metrics.frechet_distance(features_of_samples, features_of_real)    # doctest: +SKIP
"""

from .distances import (
    Space,
    accuracy,
    features,
    frechet_distance,
    inception,
    inception_score,
    kernel_distance,
    precision_and_recall,
)
from .pixel_space import PixelSpace

__all__ = [
    "PixelSpace",
    "Space",
    "accuracy",
    "features",
    "frechet_distance",
    "inception",
    "inception_score",
    "kernel_distance",
    "precision_and_recall",
]
