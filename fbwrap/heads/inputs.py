"""Inputs like those that a head was made with, when nobody writes code: seeded numbers in the shape of its example.

Examples:
    >>> import torch
    >>> takes_pictures((torch.zeros(2, 100, 1, 1),)), takes_pictures((torch.zeros(1, 3, 16, 16),))
    (False, True)
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..engine.pytree import map_tensors, tensors
from ..engine.rng import RngState
from ..engine.trace import device_of
from ..errors import SettingError
from ..feedback.facts import inputs_of
from ..feedback.latents import USUAL, Latents, draw
from ..feedback.loop import Loop
from ..feedback.seen_latents import MOST as VALUES
from ..feedback.seen_latents import seen_in
from ..files.pictures import is_picture

logger = logging.getLogger("fbwrap")

_FEWEST, _MOST, _LARGEST = 200, 1000, 20_000  # samples that are drawn to look at; values of one
SMALLEST = 8  # an input of one or three channels and this side is a picture, a smaller one a latent


def takes_pictures(args: tuple[object, ...]) -> bool:
    """Whether G's first input is a picture, grey or RGB."""
    first = args[0] if args else None
    if not isinstance(first, Tensor):
        return False
    return is_picture(first.shape) and min(first.shape[2:]) >= SMALLEST


def value_range_of(loop: Loop) -> tuple[float, float]:
    """What is black and white in G's samples: what its adapter knew, else -1 and 1."""
    return loop.facts.value_range or (-1.0, 1.0)


def latents_are_assumed(loop: Loop) -> bool:
    """Whether nobody has said how the loop's latents are distributed: normal numbers are then an assumption."""
    return loop.latents is None


def source_of(loop: Loop) -> Callable[[int], Any]:
    """``f(n)``: inputs for n samples as ``loop.latents`` describes them, from torch's own random numbers; a tensor, or
    a tuple or dict of them."""
    example, axis = loop.facts.example, loop.traces[0].batch.axis

    def draws(count: int) -> Any:
        args, kwargs = draw(loop.latents, example, count, torch.default_generator, None, axis)
        if kwargs and not args:
            return kwargs
        return args[0] if len(args) == 1 else args

    return draws


def description_of(draws: Callable[[int], object], example: object) -> Latents | None:
    """How a function's inputs are distributed, where what it draws tells it clearly; random numbers stay where they
    are.

    Args:
        example: inputs that G was attached with; large ones are not looked at.
    """
    held = [tensor.numel() for _, tensor in tensors(example) if tensor.is_floating_point()]
    rows = max([1, *(len(tensor) for _, tensor in tensors(example) if tensor.dim())])
    each = max(1, sum(held) // rows)
    if not held or each > _LARGEST:
        return None
    rng = RngState(torch.device("cpu"))
    before = rng.get()
    try:
        torch.manual_seed(0)
        args, kwargs = inputs_of(draws(max(_FEWEST, min(_MOST, VALUES // each))))
        return seen_in(args, kwargs)
    except Exception:
        logger.debug("The function of latents refuses a trial.", exc_info=True)
        return None
    finally:
        rng.set(before)


def draw_inputs(loop: Loop, count: int, seed: int, label: int | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs like the head's example, for ``count`` samples, as ``loop.latents`` describes them.

    Args:
        seed: of the numbers.
        label: what whole numbers are; None: as described, else 0.
    """
    example = loop.facts.example
    if any(takes_pictures((value,)) for value in example[1].values()):
        raise SettingError("This head's G takes a picture by keyword: use it in Python, loop(name=picture).")
    if latents_are_assumed(loop):
        logger.warning(
            "It is not known how this G's latents are distributed: %s numbers are assumed. Pass --latents, or set "
            "loop.latents = 'uniform:-1:1' before the head is saved.",
            USUAL,
        )
    generator = torch.Generator().manual_seed(seed)
    args, kwargs = draw(loop.latents, example, count, generator, label, loop.traces[0].batch.axis)
    device = device_of(loop.generator)
    return map_tensors(lambda tensor: tensor.to(device), (args, kwargs))
