"""A loop as one graph.

Examples:
    >>> program = loop.export(z)                               # doctest: +SKIP
    >>> y = program.module()(z)                                # doctest: +SKIP
    >>> program = loop.export(z, dynamic=True)                 # doctest: +SKIP
    >>> dynamic_axes(program)                                  # doctest: +SKIP
    {'z': (0,)}
"""

import inspect
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..engine.names import unwrap
from ..engine.pytree import map_tensors, tensors
from ..errors import FbwrapError, SettingError, UnsupportedError, short

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
STRENGTH = "strength"


def _whole(run: Callable[..., Any], head: nn.Module, generator: nn.Module, critic: nn.Module | None,
           names: Sequence[str], by_keyword: Sequence[str]) -> nn.Module:  # fmt: skip
    """G, D and the head registered in one module: what is exported must own its parameters. Its inputs have names, for
    torch.export takes no sizes of keywords that a signature does not list."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.generator, self.discriminator = head, unwrap(generator), critic

        def forward(self, *args: object, **kwargs: object) -> Any:
            return run(*args, **kwargs)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *names)]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in by_keyword]
    Whole.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Whole()


def _names_of(generator: nn.Module, method: str, count: int, taken: Container[str]) -> list[str]:
    """Names for positional inputs: those of G's own signature, where it has so many."""
    try:
        takes = list(inspect.signature(getattr(unwrap(generator), method)).parameters.values())
    except (TypeError, ValueError, AttributeError):
        takes = []
    own = [each.name for each in takes if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    own += [f"input_{place}" for place in range(len(own), count)]
    return [name if name not in taken else f"{name}_" for name in own[:count]]


def export(
    run: Callable[..., Any],
    head: nn.Module,
    generator: nn.Module,
    critic: nn.Module | None,
    example: Inputs,
    *,
    dynamic: bool = False,
    strength: bool = False,
    batch_axis: int = 0,
    method: str = "forward",
) -> ExportedProgram:
    """A ``torch.export`` program of ``run(*args, **kwargs)``.

    Args:
        example: G's inputs, positional and by keyword.
        dynamic: leave every size open that the networks leave open.
        strength: α is an input of the graph by keyword, ``strength=``, a scalar tensor.
        batch_axis: of the inputs.
        method: of G; its inputs' names are the graph's.

    Raises:
        UnsupportedError: torch.export cannot follow G or D.
    """
    args, kwargs = example
    if strength and STRENGTH in kwargs:
        raise SettingError("G has an input of that name: strength_input cannot be one, too.")
    shapes: Any = None
    if dynamic:
        args, kwargs = _two_samples((args, kwargs), batch_axis)
    names = _names_of(generator, method, len(args), {*kwargs, STRENGTH})
    if dynamic:
        shapes = {
            **dict(zip(names, map(_axes, args), strict=True)),
            **_axes(kwargs),
            **({STRENGTH: ()} if strength else {}),
        }
    if strength:
        kwargs = {**kwargs, STRENGTH: torch.ones((), device=next((t.device for _, t in tensors((args, kwargs))), None))}
    try:
        with _without_notes_of_fixed_sizes():
            whole = _whole(run, head, generator, critic, names, list(kwargs))
            program: ExportedProgram = torch.export.export(whole, args, kwargs or None, dynamic_shapes=shapes)
        return program
    except FbwrapError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"torch.export cannot make one graph of this loop: {type(error).__name__}: {short(error, 160)}. A layer "
            "that moves its tensors through .data or attributes, or branches on values, is the usual cause. Run the "
            "loop eagerly, or mend that layer (torch.nn.utils.parametrizations.spectral_norm, say)."
        ) from error


def dynamic_axes(program: ExportedProgram) -> dict[str, tuple[int, ...]]:
    """The axes of each input whose size a program leaves open."""
    wanted = set(program.graph_signature.user_inputs)
    found = {}
    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" and node.name in wanted else None
        if isinstance(value, Tensor):
            found[node.name] = tuple(axis for axis, side in enumerate(value.shape) if not str(side).isdigit())
    return found


def _two_samples(inputs: Inputs, axis: int) -> Inputs:
    """One sample becomes two, for a size of 1 would be fixed."""
    if max((tensor.shape[axis] for _, tensor in tensors(inputs) if tensor.dim() > axis), default=2) > 1:
        return inputs
    return map_tensors(lambda tensor: torch.cat([tensor] * 2, axis) if tensor.dim() > axis else tensor, inputs)


def _axes(tree: Any) -> Any:
    """Every size of an input is open, but where the networks fix it."""
    if isinstance(tree, Tensor):
        return tuple(Dim.STATIC if side == 1 else Dim.AUTO for side in tree.shape)
    if isinstance(tree, dict):
        return {key: _axes(value) for key, value in tree.items()}
    return type(tree)(map(_axes, tree)) if isinstance(tree, tuple | list) else None


@contextmanager
def _without_notes_of_fixed_sizes() -> Iterator[None]:
    """torch notes at each size that a network fixes that it is fixed."""
    names = ("torch.export.dynamic_shapes", "torch._export.non_strict_utils", "torch.fx.experimental.symbolic_shapes")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
