"""How the discriminator is called, and what its response is.

Examples:
    >>> import torch
    >>> CRITIC_INPUTS["condition_and_output"](torch.ones(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)).shape
    torch.Size([1, 4, 4, 4])

``critic_input(output, *args, **kwargs)`` says what D is called with, given what G returned and was
given: a tensor, a tuple of positional arguments or a dict of keyword arguments. The presets here have
names, so that a head can store them; a function of the user's must be given again at load.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..engine.names import Path, follow, indexed, parse
from ..engine.pytree import tensors
from ..errors import CriticError, SettingError

CriticInput = Callable[..., Any]
_LISTED = 6  # tensors that a message lists


def image_of(output: object) -> Tensor:
    """The sample in what G returned: the first floating-point tensor with a batch and channels; of one picture at
    several sizes the largest.

    Examples:
        >>> image_of([torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 16, 16), torch.zeros(2, 5)]).shape
        torch.Size([2, 3, 16, 16])
    """
    found = samples_in(output)
    if not found:
        raise CriticError(
            f"The generator returned {type(output).__name__} without a floating-point tensor of at least "
            "two dimensions, so there is no sample to look at. Pass critic_input=, a function of G's output."
        )
    sample = found[0]
    for tensor in found[1:]:
        same_kind = tensor.shape[:2] == sample.shape[:2] and tensor.dim() == sample.dim() > 3
        if same_kind and tensor.numel() > sample.numel():
            sample = tensor
    return sample


def samples_in(output: object) -> list[Tensor]:
    """All tensors in what G returned that may be the sample."""
    return [tensor for _, tensor in tensors(output) if tensor.is_floating_point() and tensor.dim() >= 2]


def _output(output: object, *args: object, **kwargs: object) -> object:
    return image_of(output)


def _condition_and_output(output: object, *args: object, **kwargs: object) -> object:
    return torch.cat((_condition(args, kwargs, image_of(output)), image_of(output)), 1)


def _output_and_condition(output: object, *args: object, **kwargs: object) -> object:
    return torch.cat((image_of(output), _condition(args, kwargs, image_of(output))), 1)


def _output_and_label(output: object, *args: object, **kwargs: object) -> object:
    """D(image, label): the positional inputs behind the first, or integer tensors among the inputs."""
    if len(args) > 1:
        return (image_of(output), *args[1:])
    found = [value for _, value in tensors((args, kwargs)) if not value.is_floating_point()]
    return (image_of(output), *(found or list(kwargs.values())[-1:]))


def _condition(args: tuple[object, ...], kwargs: Mapping[str, object], image: Tensor) -> Tensor:
    """The first input that has the image's number of dimensions."""
    found = [tensor for _, tensor in tensors((args, kwargs)) if tensor.dim() == image.dim()]
    if not found:
        raise CriticError("No input of G has the image's number of dimensions: there is no condition to join.")
    return found[0]


CRITIC_INPUTS: Mapping[str, CriticInput] = {
    "output": _output,
    "condition_and_output": _condition_and_output,
    "output_and_condition": _output_and_condition,
    "output_and_label": _output_and_label,
    "output_twice": lambda output, *args, **kwargs: (image_of(output), image_of(output)),
    "all_outputs": lambda output, *args, **kwargs: output,
}


def critic_input_of(choice: str | CriticInput | None) -> tuple[str | None, CriticInput]:
    """A preset by name, or the user's function. Returns its name (None for a function) and itself."""
    if choice is None:
        choice = "output"
    if isinstance(choice, str):
        if choice not in CRITIC_INPUTS:
            raise SettingError(
                f"critic_input={choice!r} is not one of {', '.join(CRITIC_INPUTS)}. Pass one of these, "
                "or a function critic_input(output, *args, **kwargs)."
            )
        return choice, CRITIC_INPUTS[choice]
    if callable(choice):
        return None, choice
    raise SettingError(f"critic_input={choice!r} is neither a preset's name nor a function.")


def call(critic: Callable[..., Any], given: object) -> Any:
    """Call D with what ``critic_input`` returned."""
    if isinstance(given, dict):
        return critic(**given)
    return critic(*given) if isinstance(given, tuple) else critic(given)


@contextmanager
def sized(critic: object, attribute: str | None, given: object) -> Iterator[None]:
    """Within the block, an attribute of D that holds the only height that it takes holds the sample's."""
    before = getattr(critic, attribute, None) if attribute else None
    if attribute is None or type(before) is not int:
        yield
        return
    own = attribute in vars(critic)
    try:
        setattr(critic, attribute, image_of(given).shape[2])
        yield
    finally:
        if own:
            setattr(critic, attribute, before)
        else:  # of the class
            delattr(critic, attribute)


def _which_response(found: list[tuple[Path, Tensor]]) -> str:
    """A message that lists the tensors of an answer, and proposes the first with one number a sample or place."""
    named = [(indexed(path), tensor) for path, tensor in found]
    listed = ", ".join(f"{path} {tuple(tensor.shape)}" for path, tensor in named[:_LISTED])
    more = f", and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    single = [path for path, tensor in named if tensor.dim() == 1 or (tensor.dim() > 1 and tensor.shape[1] == 1)]
    hint = f"Perhaps response={single[0]!r}; else another" if single else "Pass response=, a"
    return (
        f"D returns {len(found)} tensors ({(listed or 'none') + more}), so it is not clear which is its response. "
        f"{hint} path, or a function of D's answer."
    )


def response_of(answer: Any, choice: str | Callable[[Any], Tensor] | None) -> Tensor:
    """D's response r in what it returned.

    Args:
        choice: None where D returns one tensor; a path such as ``"[0][-1]"`` into its lists; or a
            function of what it returned.
    """
    if callable(choice):
        response = choice(answer)
    elif choice is not None:
        try:
            response = follow(answer, parse(choice).path)
        except (LookupError, TypeError) as error:
            raise CriticError(f"D's answer has nothing at response={choice!r}: {error}.") from error
    else:
        found = [(p, t) for p, t in tensors(answer) if t.is_floating_point()]
        if len(found) != 1:
            raise CriticError(_which_response(found))
        response = found[0][1]
    if not isinstance(response, Tensor):
        raise CriticError(f"response={choice!r} gives {type(response).__name__}, not a tensor.")
    return response.reshape(-1, 1) if response.dim() < 2 else response
