"""What is known about a loop besides its modules: what it was made from, and what its head was trained on.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> G, D = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    >>> loop = fbwrap.attach(G, D, [("0", "0")], example=torch.zeros(1, 2))
    >>> loop.facts.critic_input, loop.facts.trained_on
    ('output', {})
    >>> from dataclasses import replace
    >>> loop.facts = replace(loop.facts, trained_on={"data": "noise"})
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ExampleError

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword inputs of G."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What a head says about a loop, and what it needs to be made again.

    Attributes:
        example: the inputs of G that shapes and call order were learned from.
        example_is_made: whether they are made of shapes, and show nothing.
        critic_input: the preset with which D is called; None: a function of the user's.
        response: the path of D's response; None: the only tensor, or a function of the user's.
        own_response: whether the response is read by a function of the user's.
        unclear_response: why it is not clear what D's response is; None: it is.
        generator, discriminator: fingerprints (:mod:`fbwrap.engine.fingerprint`).
        adapter: what an adapter knew of the networks; None: none did.
        base: where G can be fetched, ``"spandrel:them/sr/x4.safetensors@commit"``; None: nobody said.
        critic_spec: the name and the value range that D was made by; None: it was given.
        critic_size: the attribute of D that holds the only height that it takes.
        pack: samples that D judges as one.
        critic_unused: layers of D that the loop does not run; None: all are run.
        critic_in_part: whether D's weights are those of a head in its beginning alone.
        head_has_discriminator: whether the head that this loop is from brought D's weights.
        generator_mode: the mode of G that the head was trained in, "train" or "eval"; None: nobody said.
        trained_on: plain data about the training.
    """

    example: Inputs
    critic_input: str | None
    response: str | None
    own_response: bool
    unclear_response: str | None
    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any] | None
    adapter: Mapping[str, Any] | None
    base: str | None
    critic_spec: tuple[str, tuple[float, float]] | None
    critic_size: str | None
    critic_unused: tuple[str, ...] | None
    pack: int = 1
    example_is_made: bool = False
    critic_in_part: bool = False
    head_has_discriminator: bool = False
    generator_mode: str | None = None
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Of G's samples, as an adapter knew it."""
        known = (self.adapter or {}).get("value_range")
        return (float(known[0]), float(known[1])) if known else None


def inputs_of(example: object) -> Inputs:
    """An example as positional and keyword inputs."""
    if example is None:
        raise ExampleError(
            "attach needs example=: inputs of G. It runs G on them once, to learn shapes and the order of its layers. "
            "Pass a tensor, a tuple of positional inputs, or a dict of keyword inputs."
        )
    if isinstance(example, dict):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple) else ((example,), {})
