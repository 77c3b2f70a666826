"""The papers' studies of a trained head, each one call; :mod:`~fbwrap.recipes.studies.ablation` and
:mod:`~fbwrap.recipes.studies.maps` have two more.

Examples:
    >>> study = fbwrap.recipes.studies.strength_sweep(loop, latents, measure)            # doctest: +SKIP
    >>> study.save("studies")                                                            # doctest: +SKIP
"""

import warnings

from .sweeps import (
    Inputs,
    Measure,
    Study,
    controls,
    first,
    first_step,
    fooling,
    generated,
    in_batches,
    latent_variance,
    more_steps,
    one_at_a_time,
    replaced_signals,
    strength_sweep,
    switching,
)

__all__ = [
    "Inputs",
    "Measure",
    "Study",
    "controls",
    "first",
    "first_step",
    "fooling",
    "generated",
    "in_batches",
    "latent_variance",
    "more_steps",
    "one_at_a_time",
    "replaced_signals",
    "strength_sweep",
    "switching",
]
_RENAMED = {"beyond": "more_steps", "fed": "replaced_signals"}


def __getattr__(name: str) -> object:
    """Old names, which work until 0.2."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is {_RENAMED[name]} now.", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
