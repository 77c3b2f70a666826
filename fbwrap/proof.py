"""A schedule is followed only if a pass that follows it gives what a whole pass gives.

A layer may do more than return a value (append to a list that somebody else reads, say), and then leaving
it out is noticed. One pass on the example tells.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .dice import Dice
from .keeping import kept, modes, put_back, values_of
from .locks import locked
from .probe import Trace, device_of
from .surroundings import eager
from .tape import Key, Replay, Schedule, Site
from .trees import map_tensors, tensors

logger = logging.getLogger("fbwrap")


def proven(
    plan: Schedule,
    sites: Sequence[Site],
    trace: Trace,
    generate: Callable[..., Any],
    mutated: set[Key],
    example: tuple[tuple[Any, ...], dict[str, Any]],
) -> Schedule:
    """``plan``, or an empty one where it would be noticed. Leaves no trace, as :func:`~fbwrap.probe.look`."""
    modules = list(trace.model.modules())
    dice = Dice(device_of(trace.model), example)
    before = dice.get()

    def run() -> Any:
        args, kwargs = map_tensors(Tensor.clone, example)
        return generate(*args, **kwargs)

    replay = Replay(run, sites, plan, mutated, dice, trace.random)
    start = values_of(modules, trace.restless)
    try:
        with (
            locked(trace.model),
            eager(modules),
            torch.inference_mode(False),
            torch.no_grad(),
            modes(modules, False),
            kept(modules, trace.restless),
            replay.installed(),
        ):
            whole = replay.first(None)
            put_back(start)
            again = replay.again(lambda index, feature: feature)
    except Exception:
        logger.debug("A replayed pass failed on the example.", exc_info=True)
        return Schedule()
    finally:
        dice.set(before)
    a, b = list(tensors(whole)), list(tensors(again))
    same = len(a) == len(b) and all(p == q and torch.equal(x, y) for (p, x), (q, y) in zip(a, b, strict=True))
    if same and replay.recorded:
        return plan
    if plan.replay:
        logger.info("Layers of G do more than return values: nothing of it is replayed.")
    return Schedule()
