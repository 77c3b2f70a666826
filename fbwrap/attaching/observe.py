"""Second stage: each network runs once on the example, and what it did is recorded."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.context import usable
from ..engine.locks import locked
from ..engine.names import unwrap, without_forward
from ..engine.pytree import tensors
from ..engine.trace import Trace, device_of, trace_forward
from ..errors import CriticError, ExampleError, FbwrapError, short
from ..feedback.critic import CriticInput, call, critic_input_of, image_of, response_of, sized
from ..feedback.facts import Inputs, inputs_of
from ..feedback.packs import filled
from ..feedback.pairing import first_learned
from ..recognition.detect import Recognised, build_critic
from .networks import Networks, method_of
from .packed import check_pack, pack_of, size_by_trial
from .proposals import how_to_ask, how_to_call, outside_of, parameters_of, unused_condition, written
from .request import Request

logger = logging.getLogger("fbwrap")


@dataclass(frozen=True, eq=False)
class Observed:
    """Both networks, and what they did on the example.

    Attributes:
        generator, discriminator: the modules; D made by name among them.
        critic_spec: the name and the value range that D was made by, if it was.
        recognised: what adapters know about them.
        example: inputs of G.
        generator_trace, critic_trace: what ran; the latter None without D.
        critic_input: how D is called, and the preset's name, None for a function of the user's.
        critic_size: the attribute of D that holds the only height that it takes.
        response: where D's response is.
        pack: samples that D judges as one.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    critic_spec: tuple[str, tuple[float, float]] | None
    recognised: Recognised
    example: Inputs
    generator_trace: Trace
    critic_trace: Trace | None
    critic_input: CriticInput
    critic_preset: str | None
    critic_size: str | None
    response: str | Callable[[Any], Tensor] | None
    pack: int = 1

    @property
    def image(self) -> Tensor:
        """The sample that G made."""
        return image_of(self.generator_trace.output)

    def unclear_response(self) -> str | None:
        """Why it is not clear which of D's outputs is its response, if so."""
        if self.critic_trace is None or self.critic_trace.error is not None:
            return None
        try:
            response_of(self.critic_trace.output, self.response)
        except CriticError as error:
            return str(error)
        return None

    def forget_outputs(self) -> None:
        """Let go of the tensors that both networks returned; shapes stay."""
        for trace in (self.generator_trace, self.critic_trace):
            if trace is not None:
                trace.output = None


def observe(request: Request, networks: Networks) -> Observed:
    """Run G on the example, then D on what G made; neither is changed."""
    known, generator, critic = networks.recognised, networks.generator, networks.discriminator
    example = request.example
    method = method_of(generator, request.method or known.method)
    args, kwargs = usable(inputs_of(_fitting(known, generator, method) if example is None else example))
    generator_trace = _observe_generator(generator, (args, kwargs), method, adapted=example is None)
    spec = None
    if isinstance(request.discriminator, str):
        span = request.value_range or known.value_range(generator_trace)
        critic = build_critic(request.discriminator, span).to(device_of(unwrap(generator)))
        spec = (request.discriminator, span) if span is not None else None
        known = Recognised(generator, critic, request.adapter)
        known.check()
    size = request.critic_size or known.size
    how = known.critic_input(generator_trace) if request.critic_input is None else request.critic_input
    preset, ask = critic_input_of(how)
    response = known.response if request.response is None else request.response
    critic_trace, pack = None, pack_of(request.pack, known)
    if critic is not None:
        shown = filled((generator_trace.output, args, kwargs), len(image_of(generator_trace.output)), pack)
        critic_trace = _observe_critic(critic, ask, shown[0], shown[1:], size)
        if pack > 1:
            check_pack(critic, ask, shown, pack)
    for what, trace in (("G", generator_trace), ("D", critic_trace)):
        if trace is not None and trace.outside:
            logger.warning("%s", outside_of(what, trace))
    return Observed(
        *(generator, critic, spec, known, (args, kwargs), generator_trace, critic_trace, ask, preset, size, response),
        pack=pack,
    )


def _fitting(known: Recognised, net: nn.Module, method: str) -> object:
    """The adapter's example, where G can be called with it.

    Raises:
        ExampleError: there is none, or G takes other inputs; they are named.
    """
    made = known.example()
    try:
        takes = inspect.signature(getattr(unwrap(net), method))
    except (TypeError, ValueError, AttributeError):  # it cannot be told: G will say
        return made
    if made is not None:
        args, kwargs = inputs_of(made)
        try:
            takes.bind(*args, **kwargs)
            return made
        except TypeError:
            pass
    if lacks := without_forward(net, method):
        raise ExampleError(f"{lacks} fbwrap.attach(..., method=NAME).")
    asked = [each.name for each in parameters_of(net, method) if each.default is each.empty]
    if len(asked) < 2 and made is not None:
        return made
    why = "attach needs example=: inputs of G. It runs G on them once, to learn shapes and the order of its layers. "
    if len(asked) < 2:
        raise ExampleError(
            f"{why}{how_to_call(net, method)} Pass a tensor, a tuple of positional inputs, or a dict of keyword "
            "inputs. (fbwrap.explain(G, D) says why G is not recognised.)"
        )
    listed = ", ".join(asked)
    raise ExampleError(
        f"{why}This G's {method} takes {written(parameters_of(net, method))}: pass them as a tuple, "
        f"example=({listed}), or by name in a dict."
    )


def _observe_generator(net: nn.Module, inputs: Inputs, method: str, *, adapted: bool) -> Trace:
    try:
        trace = trace_forward(net, *inputs, method=method)
    except FbwrapError:
        raise
    except Exception as error:
        shapes = [tuple(tensor.shape) for _, tensor in tensors(inputs)]
        whose = "the adapter's example" if adapted else "the example"
        how = "" if method == "forward" else f" in its method {method!r} (method='forward' if G is to be called)"
        if lacks := without_forward(net, method):
            raise ExampleError(f"{lacks} fbwrap.attach(..., method=NAME).") from error
        raise ExampleError(
            f"G refuses {whose}{how}, shapes {shapes}: {type(error).__name__}: {error}. Pass example=, valid "
            f"inputs of G on G's device. {how_to_call(net, method)}"
        ) from error
    if not torch.isfinite(image_of(trace.output)).all():
        raise ExampleError("The generator returns NaN or infinity for the example. Check its weights.")
    return trace


def _observe_critic(critic: nn.Module, ask: CriticInput, output: object, inputs: Inputs, size: str | None) -> Trace:
    args, kwargs = inputs
    try:
        given = ask(output, *args, **kwargs)
    except Exception as error:
        raise CriticError(
            f"critic_input failed on the example: {type(error).__name__}: {error}. It is called as "
            "critic_input(G's output, *G's inputs)."
        ) from error
    with locked(unwrap(critic)), sized(unwrap(critic), size, given):
        trace: Trace = call(lambda *a, **k: trace_forward(critic, a, k, may_fail=True, activations=True), given)
    shapes = [tuple(tensor.shape) for _, tensor in tensors(given)]
    learned = first_learned(trace)  # what runs before it is the sample, moved or scaled
    if trace.error and not any(
        c.done and c.end >= learned > 0 and any(i.is_feature for i in c.outputs.values()) for c in trace.calls
    ):
        raise CriticError(
            f"D refuses G's output (shapes {shapes}): {type(trace.error).__name__}: {short(trace.error)}. "
            f"{_advice(critic, ask, output, inputs)}"
        ) from trace.error
    alone = len(shapes) == 1  # D was given the sample and nothing else
    if (
        trace.error is None
        and alone
        and (idle := unused_condition(critic, given, {each.module for each in trace.calls}))
    ):
        logger.warning("%s", idle)
    for _, tensor in tensors(trace.output):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CriticError(
                "D answers NaN or infinity to G's output for the example. Check D's weights, and that "
                "G's value range is the one D was trained on."
            )
    return trace


def _advice(critic: nn.Module, ask: CriticInput, output: object, inputs: Inputs) -> str:
    if pack := size_by_trial(critic, ask, (output, *inputs)):
        return f"It takes {pack} samples as one: pass pack={pack} (PacGAN, CTGAN)."
    return how_to_ask(critic, output, inputs)
