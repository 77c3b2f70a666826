"""Modules that were trained on zeros, as a loop that has no D and needs none.

Examples:
    >>> alone = without_critic(run.loop)                                                # doctest: +SKIP
    >>> torch.equal(alone(z), run.loop(z))                                              # doctest: +SKIP
    True
"""

from typing import Any

from fbwrap.adapters.zero_critic import ZeroCritic

import fbwrap
from fbwrap.feedback.links import Connection
from fbwrap.loop import FeedbackLoop


def without_critic(loop: FeedbackLoop) -> FeedbackLoop:
    """The modules of a loop with ``first="zeros"``, their features from a
    :class:`~fbwrap.adapters.zero_critic.ZeroCritic`. What it returns after one step is equal bit for bit."""
    sources = (source for connection in loop.connections for source in connection.sources)
    shapes = {source.name: (source.form.channels, *source.form.spatial) for source in sources}
    D = ZeroCritic(*shapes.values())
    named = dict(zip(shapes, D.sources, strict=True))
    args, kwargs = loop.facts.example
    alone = fbwrap.attach(
        loop.generator, D, [_link(connection, named) for connection in loop.connections], example=kwargs or args,
        first="zeros", steps=1, method=loop.method, critic_input="output", adapter=None,
    )  # fmt: skip
    alone.feedback.load_state_dict(loop.feedback.state_dict())
    alone.strength, alone.latents = loop.strength, loop.latents
    facts = loop.facts
    alone.note(
        critic_spec=(D.spec, facts.value_range or (-1.0, 1.0)), adapter=facts.adapter, base=facts.base,
        generator_mode=facts.generator_mode, trained_on=facts.trained_on, example_is_made=facts.example_is_made,
    )  # fmt: skip
    return alone


def _link(connection: Connection, named: dict[str, str]) -> fbwrap.Link:
    told: Any = connection.to_config()
    return fbwrap.Link(
        told["target"], [named[source] for source in told["sources"]], module=dict(told["module"]),
        strength=connection.strength, carry=told["carry"], at=told["at"], feature=told["feature"],
        target_layout=told["target_layout"], source_layout="channels_first",
    )  # fmt: skip
