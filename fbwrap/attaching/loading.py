"""A loop from a head on disk: networks that it fits, its links made again, its weights put in.

Examples:
    >>> loop = fbwrap.from_pretrained("head", G, D)           # doctest: +SKIP

Only JSON and safetensors are read: nothing in a head can run code. Everything is checked before a
model is touched: the format's version, the hash and size of each file, the structure (and with
``strict`` the weights) of the base networks, every name and shape.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.checks import check_loaded
from ..engine.context import outside_inference_mode
from ..engine.copies import detached_copy
from ..engine.fingerprint import fingerprint, structure_of
from ..engine.names import unwrap
from ..engine.trace import device_of
from ..errors import FbwrapError, HeadError, short
from ..feedback.critic import CriticInput
from ..feedback.links import Link
from ..feedback.modules import KINDS
from ..heads.config import DISCRIMINATOR, DTYPES, FEEDBACK
from ..heads.example import example_of_spec
from ..heads.files import check_sizes, read
from ..loop import FeedbackLoop
from ..recognition.detect import Recognised, build_critic
from ..recognition.named import resolve_generator
from ..recognition.plugins import adapters
from .build import build_loop
from .request import Request

logger = logging.getLogger("fbwrap")


@outside_inference_mode()
def from_folder(
    folder: str | os.PathLike[str],
    generator: object,
    discriminator: nn.Module | None = None,
    *,
    critic_input: str | CriticInput | None = None,
    response: str | Callable[[Any], Tensor] | None = None,
    example: object = None,
    modules: Mapping[str, object] | None = None,
    method: str | None = None,
    critic_size: str | None = None,
    strict: bool = True,
) -> FeedbackLoop:
    """Attach a saved head to a generator and discriminator.

    Args:
        folder: what :meth:`FeedbackLoop.save_pretrained` wrote.
        generator: the base generator, its weights loaded.
        discriminator: a discriminator of the same architecture. If the head ships D's weights they
            go into the loop's own copy; the one given stays as it is.
        critic_input: only for a head that was made with a function of the user's.
        response: likewise.
        example: inputs of G in place of ones like those that the head was made with.
        modules: ``{name: class}`` for feedback modules of one's own.
        method: for a head whose G is a method that no adapter knows: its name.
        critic_size: likewise, for a D whose attribute of the only height that it takes no adapter knows.
        strict: refuse base networks whose weights differ from those that the head was trained for.
            Networks of another structure are always refused.

    Returns:
        The loop, in eval mode, with the head's steps and strengths.

    Raises:
        HeadError: no head there, a damaged or foreign one, one of a newer format, or one for another
            model. Nothing is changed then.
    """
    generator, base = resolve_generator(generator)
    if not isinstance(generator, nn.Module):
        raise HeadError(f"generator={generator!r} is not a torch.nn.Module.")
    check_loaded("G", generator)
    if isinstance(discriminator, nn.Module):
        check_loaded("D", discriminator)
    config, tensors = read(Path(folder))
    try:
        check_sizes(config, tensors[FEEDBACK])
        given = LoadOverrides(critic_input, response, example, modules or {}, method, critic_size)
        loop = _checked_and_attached(config, tensors, generator, discriminator, given, strict)
    except FbwrapError as error:
        if isinstance(error, HeadError):
            raise
        why = f"{type(error).__name__}: {short(error, 240)}"
        raise HeadError(f"The head's config does not fit these networks: {why}") from error
    except Exception as error:  # a config, perhaps a stranger's, can fail in any way
        why = f"{type(error).__name__}: {short(error, 240)}"
        raise HeadError(f"The head's config does not fit these networks, or is damaged: {why}") from error
    shipped, critic = tensors.get(DISCRIMINATOR), loop.discriminator
    whole = len(critic.state_dict()) if critic is not None else 0
    loop.latents = config.get("latents")
    loop.note(
        generator=config["generator"],
        discriminator=config["discriminator"],
        head_has_discriminator=bool(shipped),
        critic_in_part=shipped is not None and 0 < len(shipped) < whole,
        trained_on=config["trained_on"],
        generator_mode=config.get("generator_mode"),
        example_is_made=example is None,
        critic_spec=config.get("critic_spec"),
        adapter=config.get("adapter"),
        base=base,
    )
    loop.feedback.to(DTYPES[config["dtype"]])
    _load(loop.feedback, tensors[FEEDBACK], "feedback modules")
    return loop


@dataclass(frozen=True)
class LoadOverrides:
    """What a user gives at load beside the networks, for what a head cannot store; see :func:`from_folder`."""

    critic_input: str | CriticInput | None
    response: str | Callable[[Any], Tensor] | None
    example: object
    modules: Mapping[str, object]
    method: str | None
    critic_size: str | None


def _checked_and_attached(
    config: Mapping[str, Any],
    tensors: Mapping[str, dict[str, Tensor]],
    generator: nn.Module,
    discriminator: nn.Module | None,
    given: LoadOverrides,
    strict: bool,
) -> FeedbackLoop:
    """A loop with a config's links on networks that it is for, its D made or given the head's weights."""
    _check_base("generator", config["generator"], generator, strict, shipped=False)
    shipped = tensors.get(DISCRIMINATOR)
    if discriminator is not None and config["discriminator"] is not None:
        made = bool(config.get("critic_spec"))
        _check_base("discriminator", config["discriminator"], discriminator, strict, bool(shipped), made)
    if discriminator is None and config["discriminator"] is not None and config.get("critic_spec"):
        discriminator = _built(config, bare=bool(shipped)).to(device_of(unwrap(generator)))
        _check_base("discriminator", config["discriminator"], discriminator, strict, bool(shipped))
    if discriminator is None and config["discriminator"] is not None:
        raise HeadError(
            f"This head needs a discriminator of the class {config['discriminator']['class']}. Pass it: "
            "from_pretrained(folder, G, D), or -d on the command line."
        )
    critic = discriminator
    if shipped and critic is not None:
        critic = _with_weights(critic, shipped)
    if given.critic_input is None and config["critic_input"] is None:
        raise HeadError(
            "This head was made with a critic_input function of its author's, which a head cannot store. "
            "Pass the same function: from_pretrained(..., critic_input=...)."
        )
    if given.response is None and config["own_response"]:
        raise HeadError(
            "This head was made with a response function of its author's, which a head cannot store. "
            "Pass the same function: from_pretrained(..., response=...)."
        )
    _check_critic_size(config, given.critic_size)
    given = replace(given, method=_method_of(config, generator, given.method))
    return _attached(config, generator, critic, given, tensors[FEEDBACK])


def _check_critic_size(config: Mapping[str, object], said: str | None) -> None:
    """Refuse an attribute of D that a stranger's head would set: it is one that an adapter knows, or the user names."""
    name = config["critic_size"]
    known = {family.size for adapter in adapters() for family in adapter.critics} | {None, said}
    if name not in known:
        raise HeadError(
            f"This head sets D's attribute {short(name, 60)!r} (the image height that D accepts), but fbwrap "
            f"does not know this D. If you trust the head, pass critic_size={short(name, 60)!r} to "
            "from_pretrained."
        )


def _method_of(config: Mapping[str, object], generator: nn.Module, method: str | None) -> str:
    """The method of G that a head says generates. A stranger's head may not choose one freely: it is the one that
    an adapter knows this G by, or that the user names."""
    said = config.get("method", "forward")
    if said not in ("forward", method) and said != Recognised(generator, None, "auto").method:
        raise HeadError(
            f"This head calls G's method {said!r}, but fbwrap does not know this G. If that method generates "
            f"samples, pass from_pretrained(..., method={said!r})."
        )
    return str(said)


def _built(config: Mapping[str, Any], *, bare: bool) -> nn.Module:
    """A critic that was made by name; its layers are compared with the head's before memory is taken for them."""
    name, (low, high) = config["critic_spec"]
    span = (float(low), float(high))
    try:
        with torch.device("meta"):
            found = structure_of(build_critic(name, span, bare=True))
        if found == config["discriminator"]["structure"]:
            return build_critic(name, span, bare=bare)
    except FbwrapError:
        raise
    except Exception as error:
        raise HeadError(
            f"The head's critic {short(name, 60)!r} cannot be made: {short(error)}. Download or copy the head again."
        ) from error
    raise HeadError(
        f"The head's config is damaged: the layers of {short(name, 60)!r} are not those of the D that it was trained "
        "with. Download or copy the head again."
    )


def _attached(
    config: Mapping[str, Any],
    generator: nn.Module,
    critic: nn.Module | None,
    given: LoadOverrides,
    expected: Mapping[str, Tensor],
) -> FeedbackLoop:
    """A fresh loop with a config's links and settings; modules of other shapes than ``expected`` are not made."""
    example = given.example
    if example is None:
        args, kwargs = example_of_spec(config["example"], device_of(unwrap(generator)))
        if kwargs and args:
            raise HeadError("This head needs example=: its G takes positional and keyword inputs.")
        example = kwargs or args
    request = Request(
        generator,
        critic,
        [_link(link, given.modules) for link in config["links"]],
        expected={key: tuple(tensor.shape) for key, tensor in expected.items()},
        example=example,
        critic_input=given.critic_input or config["critic_input"],
        response=given.response or config["response"],
        steps=config["steps"],
        strength=config["strength"],
        first=config["first"],
        critic_mode=config["critic_mode"],
        detach_signals=config["detach_signals"],
        method=given.method,
        critic_size=config.get("critic_size"),
        pack=config.get("pack") or 1,
        adapter=None,  # all that it knew is in the config
    )
    return build_loop(request)


def _check_base(
    what: str, wanted: Mapping[str, Any], model: nn.Module, strict: bool, shipped: bool, made: bool = False
) -> None:
    found = fingerprint(model, wanted.get("unused"), wanted.get("moving"))
    if found["structure"] != wanted.get("structure"):
        raise HeadError(
            f"This head is for another {what}: it was made for {wanted.get('class')}, and the layers of "
            f"this {found['class']} have other names or shapes. "
            + (
                f"Its {what} is made when it is loaded: leave it out."
                if made
                else f"Pass the {what} it was trained with."
            )
        )
    if strict and not shipped and found["weights"] != wanted.get("weights"):
        raise HeadError(
            f"This {what} has the right layers, but other weights (or another dtype) than the one that "
            "the head was trained for. Load those weights; strict=False attaches all the same."
        )


def _with_weights(critic: nn.Module, shipped: Mapping[str, Tensor]) -> nn.Module:
    """A copy of D with the head's weights in it."""
    mine = detached_copy(unwrap(critic))
    state = mine.state_dict()
    wrong = [k for k, v in shipped.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise HeadError(
            f"The head's discriminator does not fit the one given: {short(wrong[0], 60)!r} is not there, or of another "
            "shape."
        )
    mine.load_state_dict(dict(shipped), strict=False)
    return mine


def _link(config: Any, own: Mapping[str, object]) -> Link:
    try:
        module = dict(config["module"])
        if config["own_module"]:
            if module["kind"] not in own:
                raise HeadError(
                    f"This head uses a feedback module of its author's, {module['kind']!r}. Pass its class: "
                    f"from_pretrained(..., modules={{{module['kind']!r}: CLASS}})."
                )
            chosen: object = own[module["kind"]]
        elif module["kind"] in KINDS:
            chosen = module
        else:
            raise HeadError(f"This head uses an unknown feedback module {short(module['kind'], 60)!r}. Upgrade fbwrap.")
        layouts = set(config["source_layouts"]) - {"reshaped"}
        return Link(
            config["target"],
            list(config["sources"]),
            module=chosen,
            strength=float(config["strength"]),
            carry=config["carry"],
            at=config["at"],
            feature=config["feature"],
            target_layout=config["target_layout"],
            source_layout=layouts.pop() if len(layouts) == 1 else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FbwrapError):
            raise
        raise HeadError(
            f"The head's config is damaged: a link lacks {short(error)}. Download or copy the head again."
        ) from error


def _load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    try:
        own = {key: value for key, value in module.state_dict().items() if not isinstance(value, Tensor)}
        module.load_state_dict({**own, **state}, strict=True)
    except RuntimeError as error:
        raise HeadError(f"The head's {what} do not fit its config: {short(error, 240)}") from error
