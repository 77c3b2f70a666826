"""Last stage: the loop, and what a head will say about it. :func:`build_loop` is all five stages."""

import logging

from ..engine.context import outside_inference_mode
from ..engine.fingerprint import fingerprint, names_of_places
from ..feedback.critic_runner import CriticCall
from ..feedback.facts import Facts
from ..feedback.plan import ExecutionPlan
from ..loop import FeedbackLoop
from .networks import Networks, unwrap_networks
from .observe import Observed, observe
from .planning import make_plan
from .request import Request
from .resolve import Resolved, resolve

logger = logging.getLogger("fbwrap")


@outside_inference_mode()
def build_loop(request: Request) -> FeedbackLoop:
    """A loop, as :func:`fbwrap.attach` describes it."""
    networks = unwrap_networks(request)
    observed = observe(request, networks)
    resolved = resolve(request, observed)
    plan = make_plan(request, observed, resolved)
    return _build(request, networks, observed, resolved, plan)


def _build(
    request: Request, networks: Networks, observed: Observed, resolved: Resolved, plan: ExecutionPlan
) -> FeedbackLoop:
    steps = request.steps
    if steps is None:
        steps = observed.recognised.steps if request.auto and request.module is None else 1
    loop = FeedbackLoop(
        observed.generator,
        observed.discriminator,
        plan.connections,
        plan,
        (observed.generator_trace, observed.critic_trace),
        CriticCall(
            observed.critic_input,
            observed.response,
            observed.critic_size,
            request.critic_mode,
            request.detach_signals,
            observed.pack,
        ),
        _facts(networks, observed, plan),
        steps=steps,
        strength=request.strength,
        replay=request.replay,
    )
    observed.forget_outputs()
    return loop


def _facts(networks: Networks, observed: Observed, plan: ExecutionPlan) -> Facts:
    generator_trace, critic_trace, response = observed.generator_trace, observed.critic_trace, observed.response
    unclear = observed.unclear_response()
    if said := getattr(observed.discriminator, "no_response", None):
        unclear = str(said)
    elif unclear:
        logger.warning("%s Feedback works without response=, but training and rollout.responses need it.", unclear)
    critic = None
    if observed.discriminator is not None and critic_trace is not None:
        moving = names_of_places(critic_trace.model, critic_trace.moving)
        critic = fingerprint(observed.discriminator, plan.critic_unused, moving)
    return Facts(
        example=observed.example,
        critic_input=observed.critic_preset,
        response=response if isinstance(response, str) else None,
        own_response=callable(response),
        unclear_response=unclear,
        generator=fingerprint(
            observed.generator, moving=names_of_places(generator_trace.model, generator_trace.moving)
        ),
        discriminator=critic,
        adapter=observed.recognised.facts(generator_trace),
        base=networks.base,
        critic_spec=observed.critic_spec,
        critic_size=observed.critic_size,
        critic_unused=plan.critic_unused,
        pack=observed.pack,
    )
