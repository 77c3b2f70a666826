"""A schedule is followed only if a pass that follows it gives what a whole pass gives.

A layer may do more than return a value (append to a list that somebody else reads, say), and then leaving
it out is noticed. One pass on given inputs tells.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .names import modules_of
from .pytree import map_tensors, tensors
from .replay import Replay, Schedule, Site
from .rng import RngState
from .state import Snapshot
from .trace import Trace, device_of

logger = logging.getLogger("fbwrap")


def verified(
    plan: Schedule,
    sites: Sequence[Site],
    trace: Trace,
    generate: Callable[..., Any],
    state: Snapshot,
    inputs: tuple[tuple[object, ...], dict[str, object]],
) -> Schedule:
    """``plan``, or an empty one where it would be noticed, in the modes that the network is in now.

    Leaves no trace, as :func:`~fbwrap.engine.trace.trace_forward`.

    Args:
        state: of the network, as it is now.
    """
    if not plan.replay:
        return plan
    rng = RngState(device_of(trace.model), inputs)
    before = rng.get()
    training = any(module.training for module in modules_of(trace.model))

    def run() -> Any:
        args, kwargs = map_tensors(Tensor.clone, inputs)
        return map_tensors(Tensor.clone, generate(*args, **kwargs))  # it may be a buffer that is put back

    replay = Replay(run, sites, plan, rng, trace.random or training, state)
    try:
        with torch.no_grad(), replay.installed():
            whole = replay.first(None)
            state.restore()
            again = replay.again(lambda index, feature: feature)
    except Exception:
        logger.debug("A replayed pass failed.", exc_info=True)
        return Schedule()
    finally:
        state.restore()
        rng.set(before)
    a, b = list(tensors(whole)), list(tensors(again))
    same = len(a) == len(b) and all(p == q and torch.equal(x, y) for (p, x), (q, y) in zip(a, b, strict=True))
    if same and replay.recorded:
        return plan
    logger.info("Layers of G do more than return values: nothing of it is replayed.")
    return Schedule()
