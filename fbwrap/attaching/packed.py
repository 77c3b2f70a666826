"""Discriminators that judge several samples as one: how many is asked, tried out and checked.

Examples:
    >>> import torch
    >>> from torch import nn
    >>> class D(nn.Module):
    ...     def forward(self, x):
    ...         return x.reshape(-1, 3 * 5).sum(1, keepdim=True)
    >>> shown = (torch.randn(2, 5), (), {})
    >>> size_by_trial(D(), lambda y: y, shown)
    3
    >>> check_pack(D(), lambda y: y, shown, 3)
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.locks import locked
from ..engine.names import unwrap
from ..engine.pytree import map_tensors, tensors
from ..engine.trace import trace_forward
from ..errors import CriticError, SettingError
from ..feedback.critic import CriticInput, call, image_of
from ..feedback.packs import filled
from ..heads.config import MOST_PACKED
from ..recognition.detect import Recognised

logger = logging.getLogger("fbwrap")
_TRIED, _MOST_VALUES = (*range(2, 13), 16, 20, 32), 2**24
Shown = tuple[Any, tuple[Any, ...], dict[str, Any]]  # G's output and its inputs


def pack_of(said: int | None, known: Recognised) -> int:
    """How many samples D judges as one: as the user says, else as an adapter knows."""
    pack = known.pack if said is None else said
    if type(pack) is not int or not 1 <= pack <= MOST_PACKED:
        raise SettingError(f"pack={pack!r}: pass how many samples D judges as one, 1 to {MOST_PACKED}.")
    return pack


def size_by_trial(critic: nn.Module, ask: CriticInput, shown: Shown) -> int | None:
    """How many samples a D takes as one, where it refuses other batches; None where no trial tells."""
    sample = image_of(shown[0])
    count = len(sample)
    for pack in _TRIED:
        if pack * sample[0].numel() > _MOST_VALUES:  # a refusal should not cost memory
            break
        more = filled(shown, count, pack)
        try:
            answer = _answer(critic, ask, more)
        except Exception:
            logger.debug("D refuses a trial of packs of %d.", pack, exc_info=True)
            continue
        if {len(tensor) for tensor in answer if tensor.dim()} == {len(image_of(more[0])) // pack}:
            return pack
    return None


def check_pack(critic: nn.Module, ask: CriticInput, shown: Shown, pack: int) -> None:
    """Refuse a D whose packs are of another size, or are not of neighbours: one sample is changed, and so must its
    pack's answer be, and no other."""
    whole = filled(shown, len(image_of(shown[0])), 2 * pack)
    samples = image_of(whole[0])
    count = len(samples)
    other = samples.clone()
    other[1] += samples.std()
    changed = map_tensors(lambda tensor: other if tensor is samples else tensor, whole[0])
    try:
        answers = [_answer(critic, ask, (output, *whole[1:])) for output in (whole[0], changed)]
    except Exception:  # D may refuse samples behind its last tap
        logger.debug("D gives no answer to check its packs with.", exc_info=True)
        return
    for first, second in zip(*answers, strict=True):
        if not first.dim():
            continue
        if len(first) != count // pack:
            raise CriticError(
                f"D gives {len(first)} answers to {count} samples, and with pack={pack} it should be {count // pack}. "
                f"Pass pack={count // max(len(first), 1)}."
            )
        if [row for row in range(len(first)) if not torch.equal(first[row], second[row])] not in ([], [0]):
            raise CriticError(
                "D's packs are not of neighbours in the batch: the second sample changes other answers than the first. "
                f"With critic_input= pack samples that follow each other: y.unflatten(0, (-1, {pack})).flatten(1, 2)."
            )


def _answer(critic: nn.Module, ask: CriticInput, shown: Shown) -> list[Tensor]:
    """All tensors that D returns; it is left as it was."""
    output, args, kwargs = shown
    with torch.random.fork_rng():
        torch.manual_seed(0)  # critic_input may draw numbers: the same each time
        given = ask(output, *args, **kwargs)
        with locked(unwrap(critic)):
            trace = call(lambda *a, **k: trace_forward(critic, a, k), given)
    return [tensor for _, tensor in tensors(trace.output)]
