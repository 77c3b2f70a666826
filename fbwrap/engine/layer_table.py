"""``fbwrap.layers``: every layer of a model, with the shape of what it returns.

Examples:
    >>> import torch, fbwrap
    >>> from torch import nn
    >>> print(fbwrap.layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8)))
    layer  type    output
    0      Conv2d  (1, 8, 6, 6)
    1      ReLU    (1, 8, 6, 6)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ..errors import ExampleError, FbwrapError
from .names import names, unwrap, without_forward
from .trace import Trace, trace_forward


@dataclass(frozen=True)
class LayerRow:
    """One layer: its name, type, and the shapes of its outputs (one per call and tensor)."""

    name: str
    kind: str
    shapes: tuple[str, ...]


@dataclass(frozen=True)
class LayerTable:
    """Every layer of a model; prints as a table."""

    rows: tuple[LayerRow, ...]

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        lines = [("layer", "type", "output")]
        for row in self.rows:
            shapes = row.shapes or ("",)
            lines += [(row.name if i == 0 else "", row.kind if i == 0 else "", s) for i, s in enumerate(shapes)]
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        return "\n".join(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape}".rstrip() for name, kind, shape in lines)


def layers(model: nn.Module, *example: object, method: str = "forward", **named: object) -> LayerTable:
    """Every layer of ``model`` with its name, type and output shape.

    Args:
        model: any module; wrappers (DDP, torch.compile) are looked through.
        example: inputs of one forward pass, run in eval mode without a trace; with none, only names
            and types are listed.
        method: what is run, if not ``forward``: a VAE's ``"decode"``.

    Returns:
        The layers in the order of their names in the model; a layer that is not called has no shape,
        one that is called several times a line per call: ``NAME#0``, ``NAME#1``, …

    Raises:
        ExampleError: the model refuses the example.
    """
    if not (example or named):
        return table_of(model, None)
    try:
        return table_of(model, trace_forward(model, example, named, method=method))
    except FbwrapError:
        raise
    except Exception as error:
        if lacks := without_forward(unwrap(model), method):
            raise ExampleError(f"{lacks} fbwrap.layers(..., method=NAME).") from error
        raise ExampleError(f"{type(model).__name__} refuses the example: {type(error).__name__}: {error}") from error


def table_of(model: nn.Module, trace: Trace | None) -> LayerTable:
    """The same, of a network that was looked at."""
    listed = names(model)
    shapes: dict[nn.Module, list[str]] = {module: [] for module in listed.values()}
    if trace is not None:
        for module, lines in shapes.items():
            calls = trace.calls_of(module)
            for call in calls:
                which = f"#{call.index} " if len(calls) > 1 else ""
                for path, info in call.outputs.items():
                    where = "".join(f"[{key}]" for key in path) + " " * bool(path)
                    lines.append(f"{which}{where}{tuple(info.shape)}")
            if not calls:
                lines.append("(not called)")
    return LayerTable(tuple(LayerRow(name, type(m).__name__, tuple(shapes[m])) for name, m in listed.items()))
