"""``fbwrap.fit`` in seconds: short rounds and few samples; all that it does, it does.

Examples:
    >>> from fbwrap.recipes.fitting import head_run
    >>> with pytest.MonkeyPatch.context() as patch:
    ...     shorten_fit(patch.setattr)
    ...     head_run.WARMUP
    2
    >>> head_run.WARMUP
    600
"""

from pathlib import Path

import pytest  # noqa: F401 -- of the example

# the first lines of a program that shortens its own fits
PRELUDE = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport shortened\nshortened.shorten_fit()\n"


def shorten_fit(put=setattr, batch=8, rounds=2):
    """Put small numbers in place; ``put`` as ``monkeypatch.setattr``, or for good in a process of its own."""
    from fbwrap.recipes.fitting import controls, fitting, head_run, measure, problem, space
    from fbwrap.recipes.fitting.head_run import HeadRun

    options = HeadRun._options
    for module, name, value in (
        (measure, "_GLANCE", 40), (measure, "_BRIEF", 80), (problem, "_DRAWN", 80),
        (fitting, "ROUND", rounds), (head_run, "WARMUP", 2), (problem, "_BATCH", (batch, batch)),
        (problem, "_FEWEST_SAMPLES", 40), (measure, "RESAMPLES", 5), (space, "_STEPS", 2), (controls, "_TIMED", 1),
        (controls, "_ROUNDS", 1), (HeadRun, "_options", lambda run: {**options(run), "recalibrate": 2}),
    ):  # fmt: skip
        put(module, name, value)
