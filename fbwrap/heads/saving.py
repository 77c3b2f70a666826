"""Heads are written: a folder with ``config.json``, ``feedback.safetensors``, ``discriminator.safetensors``.

Examples:
    >>> loop.save_pretrained("head")                          # doctest: +SKIP
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..engine.fingerprint import belongs, fingerprint
from ..engine.names import unwrap
from ..engine.pytree import tensors as tensors_of
from ..errors import HeadError
from ..feedback.loop import Loop
from ..version import __version__
from .config import DISCRIMINATOR, FEEDBACK, FORMAT, STORED, VERSION
from .example import spec_of_example
from .files import not_finite, write_head

logger = logging.getLogger("fbwrap")


def save_pretrained(
    loop: Loop,
    folder: str | os.PathLike[str],
    *,
    discriminator: Literal["auto", "all", "none"] = "auto",
    dtype: Literal["fp16", "bf16"] | None = None,
    trained_on: Mapping[str, object] | None = None,
) -> Path:
    """Write a head; arguments, result and errors as of :meth:`fbwrap.FeedbackLoop.save_pretrained`."""
    if discriminator not in ("auto", "all", "none"):
        raise HeadError(f"discriminator={discriminator!r}: pass 'auto', 'all' or 'none'.")
    if discriminator == "all" and loop.facts.critic_in_part:
        raise HeadError(
            "This loop was loaded from a head with only the first layers of D, so all of D cannot be saved. "
            "Save the loop that was trained."
        )
    if not loop.connections:
        raise HeadError("This loop has no links (layers=None): there is no head to save.")
    if dtype not in (None, *STORED):
        raise HeadError(f"dtype={dtype!r}: pass {' or '.join(map(repr, STORED))}, or None.")
    kept = {name: value for name, value in loop.feedback.state_dict().items() if isinstance(value, Tensor)}
    files: dict[str, dict[str, Tensor]] = {FEEDBACK: kept}  # a layer's extra state may be any object: it is not kept
    shipped = _discriminator_part(loop, discriminator)
    if shipped:
        files[DISCRIMINATOR] = shipped
    for name, tensors in files.items():
        if (wrong := not_finite(name, tensors)) is not None:
            raise HeadError(f"The weight {wrong!r} holds NaN or infinity: training has diverged. No head is written.")
    config = _config(loop, trained_on)
    try:
        json.dumps(config)
    except TypeError as error:
        raise HeadError(f"trained_on must be plain data (text, numbers, lists, dicts): {error}.") from error
    write_head(Path(folder), files, config, dtype)
    return Path(folder)


def _discriminator_part(loop: Loop, which: str) -> dict[str, Tensor]:
    critic = loop.discriminator
    if critic is None or which == "none":
        return {}
    before = loop.facts.discriminator or {}
    changed = fingerprint(critic, loop.facts.critic_unused, before.get("moving")) != before
    if loop.facts.critic_spec:  # a critic made by name is made again at load: with random weights it is another one
        changed |= not getattr(critic, "reproducible", False)
    if which == "auto" and not changed and not loop.facts.head_has_discriminator:
        return {}
    held = unwrap(critic).state_dict()
    packed = [key for key, value in held.items() for _, tensor in tensors_of(value) if tensor.is_quantized]
    if packed:
        raise HeadError(
            f"D holds quantised weights ({packed[0]}), which a head cannot store. Save without it, "
            "discriminator='none' (who loads the head passes D), or attach the D that it was made of."
        )
    state = {key: value for key, value in held.items() if isinstance(value, Tensor)}
    unused = loop.facts.critic_unused
    if which == "all" or unused is None:
        return state
    return {key: value for key, value in state.items() if not belongs(key, unused)}


def _config(loop: Loop, trained_on: Mapping[str, object] | None) -> dict[str, object]:
    facts = loop.facts
    links = []
    for index, connection in enumerate(loop.connections):
        links.append({**connection.to_config(), "strength": _number(loop[index].strength)})
    return {
        "format": FORMAT,
        "version": VERSION,
        "fbwrap": __version__,
        "links": links,
        "steps": loop.steps,
        "strength": _number(loop.strength),
        "dtype": str(next((p.dtype for p in loop.parameters()), torch.float32)).removeprefix("torch."),
        "first": loop.plan.first,
        "critic_mode": loop.critic_mode,
        "detach_signals": loop.detach_signals,
        "method": loop.method,
        "critic_size": facts.critic_size,
        **({"pack": facts.pack} if facts.pack > 1 else {}),
        "adapter": facts.adapter,
        "critic_spec": facts.critic_spec,
        "base": facts.base,
        "critic_input": facts.critic_input,
        "response": facts.response,
        "own_response": facts.own_response,
        "example": spec_of_example(facts.example),
        "latents": loop.latents,
        "generator_mode": facts.generator_mode,
        "generator": facts.generator,
        "discriminator": facts.discriminator,
        "trained_on": dict(trained_on or facts.trained_on),
    }


def _number(strength: float | Tensor) -> float:
    if isinstance(strength, float):
        return strength
    logger.warning("A strength that is a tensor belongs to one batch: the head stores 1.0 instead.")
    return 1.0
