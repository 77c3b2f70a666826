"""Data that D cannot take, or that is nothing like what G makes: refused before anything learns.

Examples:
    >>> import torch
    >>> described(torch.zeros(4, 3, 8, 8))
    '(4, 3, 8, 8) float32 from 0 to 0'
"""

import logging
import math

import torch
from torch import Tensor

from fbwrap.engine.pytree import tensors
from fbwrap.engine.training_mode import training_mode
from fbwrap.errors import FbwrapError, SettingError, short
from fbwrap.feedback.critic import response_of
from fbwrap.recognition.trained_with import ends_in_sigmoid

from .steps import Critic

logger = logging.getLogger("fbwrap")
_BYTES = 255
_NEAR, _FAR = 1.1, 8.0  # of G's own range: beyond the first it is said, beyond the second refused


def described(given: object) -> str:
    """Shape, type and range of each tensor."""
    parts = []
    for _, tensor in tensors(given):
        span = ""
        if tensor.numel() and not tensor.is_complex():
            low, high = float(tensor.min()), float(tensor.max())
            span = f" from {low:.3g} to {high:.3g}"
        parts.append(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{span}")
    return " and ".join(parts[:3]) or "no tensor"


@torch.no_grad()
def check_data(critic: Critic, real: object, made: object, value_range: tuple[float, float] | None) -> None:
    """Refuse real data that does not fit. D draws random numbers here as in any call.

    Args:
        real: the first batch of what D is called with for real data.
        made: what D is called with for generated samples.
        value_range: of G's samples, where it is known.

    Raises:
        SettingError: D cannot take it, or it is of other dimensions, channels, type or range than what G makes.
    """
    what = f"It is {described(real)}; what G makes is {described(made)}"
    sample, wanted = _first(real), _first(made)
    if sample is None or wanted is None:
        raise SettingError(f"D cannot take the real data: a batch holds no tensor of numbers. {what}.")
    if not sample.is_floating_point():
        raise SettingError(
            f"The real data is of type {str(sample.dtype).removeprefix('torch.')}. {what}. Bring it to the type and "
            "range of G's samples: images.float() / 127.5 - 1, say."
        )
    if sample.dim() != wanted.dim():
        raise SettingError(
            f"The real data has {sample.dim()} dimensions, G's samples {wanted.dim()}. {what}. A list or a DataLoader "
            "gives whole batches; of single samples make a tensor (torch.stack), or a dataset."
        )
    if sample.dim() > 1 and sample.shape[1] != wanted.shape[1]:
        raise SettingError(f"The real data has {sample.shape[1]} channels, G's samples {wanted.shape[1]}. {what}.")
    if value_range is not None:
        _check_range(sample, value_range, what)
    elif _is_bytes(sample) and float(wanted.abs().max()) < _BYTES / 10:
        raise SettingError(
            f"The real data looks like pixels from 0 to 255. {what}. Scale it to the range of G's samples. If "
            "the data is right, pass value_range=(0, 255) to the recipe (AFL, FAL, GAN)."
        )
    try:
        with training_mode(list(critic.net.modules()), False):
            critic(made)
            critic(real)
    except FbwrapError:
        raise
    except Exception as error:
        raise SettingError(
            f"D fails on this data: {type(error).__name__}: {short(error, 120)}. {what}. The real data is D's "
            "input. If items have more parts, keep only the sample (fbwrap.recipes.data.sources.Mapped), "
            "or attach with critic_input= or response=."
        ) from error


def answers_with_a_sigmoid(critic: Critic, real: object) -> bool:
    """Whether D answers with probabilities, and not with logits."""
    with torch.enable_grad(), training_mode(list(critic.net.modules()), False):
        return ends_in_sigmoid(response_of(critic.answer(real), critic.response))


def _is_bytes(sample: Tensor) -> bool:
    """Whether values are between 0 and 255, and use that range."""
    return bool(sample.min() >= 0) and 100 < float(sample.max()) <= _BYTES


def _check_range(sample: Tensor, value_range: tuple[float, float], what: str) -> None:
    low, high = value_range
    middle, reach = (low + high) / 2, (high - low) / 2
    least, most = float(sample.min()), float(sample.max())
    far = max(most - middle, middle - least) / reach
    if math.isfinite(far) and far > _FAR:
        raise SettingError(
            f"The real data is outside the range of G's samples, {low:g} to {high:g}. {what}. Scale the data "
            "to that range. If the data is right, pass value_range=(low, high) to the recipe (AFL, FAL, GAN)."
        )
    if far > _NEAR or (low < 0 <= least and len(sample) > 1):
        logger.warning(
            (
                "The real data may not be in the range of G's samples, %g to %g. %s. Scale the data if that is not "
                "intended."
            ),
            low,
            high,
            what,
        )


def _first(given: object) -> Tensor | None:
    held = [tensor for _, tensor in tensors(given) if tensor.dim()]
    return next((tensor for tensor in held if tensor.is_floating_point()), held[0] if held else None)
