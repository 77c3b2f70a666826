"""What an error proposes: lines to copy, tried out before they are shown.

Examples:
    >>> G = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> how_to_call(G, "forward")
    "G runs with example=torch.randn(1, 64). Pass it if G's inputs look like this."
    >>> presets_that_run(nn.Bilinear(3, 5, 1), torch.zeros(2, 3), ((torch.zeros(2, 4), torch.zeros(2, 5)), {}))
    ['output_and_label']
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from ..engine.names import unwrap
from ..engine.trace import Trace, device_of, trace_forward
from ..feedback.critic import CRITIC_INPUTS, call
from ..feedback.facts import Inputs

logger = logging.getLogger("fbwrap")
_SIDES: dict[type[nn.Module], tuple[tuple[int, ...], ...]] = {  # behind the batch and the channels
    nn.Linear: ((),),
    nn.ConvTranspose1d: ((8,), ()),
    nn.ConvTranspose2d: ((1, 1), ()),
    nn.ConvTranspose3d: ((1, 1, 1), ()),
    nn.Conv1d: ((32,),),
    nn.Conv2d: ((64, 64),),
    nn.Conv3d: ((16, 16, 16),),
}
_TRIED = 3  # layers of G whose width may be that of its input
_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters_of(net: nn.Module, method: str = "forward") -> list[inspect.Parameter]:
    """What a method of a network takes, by name; nothing where that cannot be told."""
    try:
        takes = inspect.signature(getattr(unwrap(net), method))
    except (TypeError, ValueError, AttributeError):
        return []
    return [each for each in takes.parameters.values() if each.kind in _NAMED]


def written(parameters: list[inspect.Parameter]) -> str:
    """Parameters as in a definition: ``z, text=None``."""
    return ", ".join(
        each.name if each.default is each.empty else f"{each.name}={each.default!r:.20}" for each in parameters
    )


def how_to_call(net: nn.Module, method: str) -> str:
    """A sentence on what G may be called with: an example that it runs on, or the width of its first layer."""
    asked = [each for each in parameters_of(net, method) if each.default is each.empty]
    layers = list(_first_layers(unwrap(net)))
    if len(asked) < 2:
        for _, width, sides in layers:
            for shape in ((1, width, *each) for each in sides):
                if _runs(net, method, shape):
                    inputs = ", ".join(map(str, shape))
                    return f"G runs with example=torch.randn({inputs}). Pass it if G's inputs look like this."
    ahead = next((name for name, module in unwrap(net).named_modules() if module._parameters), None)
    known = bool(layers) and layers[0][0] == ahead
    first = f" Its first layer, {layers[0][0]}, takes {layers[0][1]} channels or features." if known else ""
    takes = written(parameters_of(net, method))
    return f"This G's {method} takes {takes}.{first}" if takes else first.strip()


def _first_layers(net: nn.Module) -> Iterator[tuple[str, int, tuple[tuple[int, ...], ...]]]:
    """Names, widths and sides of inputs of the first layers, in the order in which they were made."""
    found = 0
    for name, module in net.named_modules():
        sides = next((sides for kind, sides in _SIDES.items() if isinstance(module, kind)), None)
        width = getattr(module, "in_features", None) or getattr(module, "in_channels", None)
        if sides is not None and isinstance(width, int) and found < _TRIED:
            found += 1
            yield name, width, sides


def _runs(net: nn.Module, method: str, shape: tuple[int, ...]) -> bool:
    dtype = next((each.dtype for each in net.parameters() if each.is_floating_point()), torch.float32)
    example = torch.zeros(shape, dtype=dtype, device=device_of(unwrap(net)))
    try:
        return bool(trace_forward(net, (example,), method=method).outputs)
    except Exception:
        logger.debug("G refuses an example of %s.", shape, exc_info=True)
        return False


def presets_that_run(critic: nn.Module, output: object, inputs: Inputs) -> list[str]:
    """Names of the ways to call D (``critic_input=``) with which it runs to its end."""
    args, kwargs = inputs

    def runs(ask: Callable[..., Any]) -> bool:
        try:
            given = ask(output, *args, **kwargs)
            call(lambda *a, **k: trace_forward(critic, a, k), given)
        except Exception:
            logger.debug("D refuses a trial.", exc_info=True)
            return False
        return True

    return [name for name, ask in CRITIC_INPUTS.items() if runs(ask)]


def how_to_ask(critic: nn.Module, output: object, inputs: Inputs) -> str:
    """A sentence on what D may be called with."""
    if found := presets_that_run(critic, output, inputs):
        listed = " or ".join(f"critic_input={name!r}" for name in found)
        return f"D runs with {listed}. Pass it if D was trained like this."
    takes = parameters_of(critic)
    asked = ", ".join(each.name for each in takes[1:] if each.default is each.empty)
    size = "" if asked else " If D is made for one size of pictures, pass an example= for which G makes that size."
    how = f"(output, {asked.upper()})" if asked else "…"
    return (
        f"D's forward takes {written(takes) or 'unknown arguments'}. Pass critic_input= (in Python): a "
        "function that makes D's input from G's output and inputs, such as lambda output, *inputs: "
        f"{how}.{size}"
    )


def unused_condition(critic: nn.Module, given: object, called: set[nn.Module]) -> str | None:
    """A sentence where D takes a label or a condition that it was not given, and layers of it did not run for that."""
    takes = parameters_of(critic)
    many = len(given) if isinstance(given, tuple) else 1
    open_ = [each for each in takes[many:] if each.default is None] if not isinstance(given, dict) else []
    idle = [
        name
        for name, module in unwrap(critic).named_modules()
        if isinstance(module, nn.Embedding | nn.Linear | nn.Conv2d) and module not in called
    ]
    if not open_ or not idle:
        return None
    return (
        f"D's forward also takes {written(open_)}, which it was not given, and its layer {idle[0]} did not run. If D "
        "is called with labels, pass critic_input='output_and_label'."
    )


def outside_of(what: str, trace: Trace) -> str:
    """A warning of layers that nobody can reach."""
    return (
        f"{what} calls layers that are not registered as submodules ({', '.join(trace.outside[:3])}; in a "
        "plain list?). Links cannot use them, eval mode does not reach them, and their state is not restored. "
        "Put them into an nn.ModuleList."
    )
