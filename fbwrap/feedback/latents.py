"""Latents as data: from which distribution a generator's inputs are drawn.

Examples:
    >>> import torch
    >>> z = draw_one("uniform:-1:1", (4, 100, 1, 1), torch.float32, torch.Generator().manual_seed(0))
    >>> z.shape, bool(z.min() >= -1), bool(z.max() <= 1)
    (torch.Size([4, 100, 1, 1]), True, True)

One input is described by a word and numbers:

==================== ===================================================================================
``normal``           standard normal numbers; ``normal:MEAN:DEVIATION``: others
``uniform:LOW:HIGH`` equally likely numbers of a range
``truncated:PSI``    normal numbers within two deviations, times PSI (BigGAN's truncation trick)
``labels:FIRST:LAST`` whole numbers of a range, both ends included: class labels
``example``          as in the example that the loop was attached with (a setting, not a sample's own)
==================== ===================================================================================

Several inputs: a list, one description for each positional input, or a dict by name. As text, for the command line:
``"normal,labels:0:9"`` and ``"z=normal,y=labels:0:9"``. A head keeps its description.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..engine.pytree import tensors
from ..errors import SettingError, short

Latents = str | Sequence[str] | Mapping[str, str]
_FIGURES = {"normal": (0, 2), "uniform": (2,), "truncated": (1,), "labels": (2,), "example": (0,)}
USUAL = "normal"


def read_latents(value: object) -> str | list[str] | dict[str, str]:
    """A description in its own form: text with commas is several inputs.

    Raises:
        SettingError: it is none; what can be said is listed.
    """
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if any("=" in part for part in parts):
            pairs = [part.partition("=") for part in parts]
            if not all(name.strip().isidentifier() and sign for name, sign, _ in pairs):
                raise SettingError(f"latents={short(value, 60)!r}: name every input, as in z=normal,y=labels:0:9.")
            value = {name.strip(): text.strip() for name, _, text in pairs}
        else:
            value = parts[0] if len(parts) == 1 else parts
    if isinstance(value, str):
        _check(value)
        return value
    if isinstance(value, Mapping) and value and all(isinstance(key, str) for key in value):
        for each in value.values():
            _check(each)
        return dict(value)
    if isinstance(value, Sequence) and value:
        for each in value:
            _check(each)
        return list(value)
    raise SettingError(_what(value))


def is_latents(value: Any) -> bool:
    """Whether something is a description, and not tensors or a function that draws."""
    if isinstance(value, str):
        return True
    inner: Sequence[object] = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(inner, list | tuple) and bool(inner) and all(isinstance(each, str) for each in inner)


def in_words(latents: Latents) -> str:
    """A description as text that :func:`read_latents` reads."""
    if isinstance(latents, str):
        return latents
    if isinstance(latents, Mapping):
        return ",".join(f"{name}={text}" for name, text in latents.items())
    return ",".join(latents)


def draw(
    latents: Latents | None,
    example: tuple[tuple[object, ...], dict[str, object]],
    count: int,
    generator: torch.Generator,
    label: int | None = None,
    batch_axis: int = 0,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs like an example's, for ``count`` samples.

    Args:
        latents: a description; None: ``normal``. Inputs that it does not describe are normal numbers, whole numbers
            labels.
        example: positional and keyword inputs.
        generator: the source of random numbers, on the CPU.
        label: what whole numbers are; None: of the range described, else 0.
        batch_axis: where samples stand in a sequence of three dimensions.
    """
    args, kwargs = example
    described = read_latents(latents) if latents is not None else USUAL
    count_of = _samples(example, batch_axis)
    axis_of = {3: batch_axis}

    def drawn(value: object, how: str | None) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(drawn(item, how) for item in value)
        if isinstance(value, Mapping):
            return {key: drawn(item, how) for key, item in value.items()}
        if not isinstance(value, Tensor) or how == "example":
            return value
        axis = axis_of.get(value.dim(), 0)
        if value.dim() <= axis or value.shape[axis] != count_of:
            return value  # a setting of all samples
        shape = list(value.shape)
        shape[axis] = count
        floating = value.is_floating_point()
        fitting = how if how is not None and (how.startswith("labels") is not floating) else None
        if not floating and (label is not None or fitting is None):
            return torch.full(shape, label or 0, dtype=value.dtype)
        return draw_one(fitting or USUAL, tuple(shape), value.dtype, generator)

    if isinstance(described, dict):
        names = dict(enumerate(described.values()))
        if unknown := [name for name in described if kwargs and name not in kwargs]:
            raise SettingError(f"latents name {unknown[0]!r}; this G's inputs are {', '.join(kwargs)}.")
        return (
            tuple(drawn(value, names.get(place)) for place, value in enumerate(args)),
            {name: drawn(value, described.get(name)) for name, value in kwargs.items()},
        )
    places = described if isinstance(described, list) else None
    if places is not None and len(places) != len(args) + len(kwargs):
        raise SettingError(f"latents describe {len(places)} inputs, and this G has {len(args) + len(kwargs)}.")
    each = iter(places or ())
    every = described if isinstance(described, str) else None
    made = tuple(drawn(value, next(each, every)) for value in args)
    return made, {name: drawn(value, next(each, every)) for name, value in kwargs.items()}


def draw_one(how: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """One input of a description."""
    kind, figures = _check(how)
    if kind == "labels":
        return torch.randint(int(figures[0]), int(figures[1]) + 1, shape, generator=generator).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if kind == "uniform":
        low, high = figures
        return (low + (high - low) * torch.rand(shape, generator=generator, dtype=wide)).to(dtype)
    if kind == "truncated":
        edge = math.erf(2 / math.sqrt(2))
        inner = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * edge
        return (figures[0] * math.sqrt(2) * torch.erfinv(inner)).to(dtype)
    mean, deviation = figures or (0.0, 1.0)
    return (mean + deviation * torch.randn(shape, generator=generator, dtype=wide)).to(dtype)


def code_of(how: str, sizes: str, kind: str, rng: str) -> str:
    """One input of a description as Python code."""
    name, figures = _check(how)
    seeded = f", generator={rng}" if rng else ""
    if name == "uniform":
        low, high = figures
        return f"{low:g} + {high - low:g} * torch.rand({sizes}{seeded}{kind})"
    if name == "truncated":
        return f"{figures[0]:g} * torch.nn.init.trunc_normal_(torch.empty({sizes}{kind}))"
    if name == "labels":
        return f"torch.randint({int(figures[0])}, {int(figures[1]) + 1}, ({sizes},){seeded}{kind})"
    noise = f"torch.randn({sizes}{seeded}{kind})"
    return noise if not figures else f"{figures[0]:g} + {figures[1]:g} * {noise}"


def _samples(example: object, batch_axis: int) -> int:
    held = [tensor for _, tensor in tensors(example) if tensor.dim()]
    first = next((tensor for tensor in held if tensor.is_floating_point()), held[0] if held else None)
    if first is None:
        return 1
    return first.shape[batch_axis if first.dim() == 3 else 0]


def _check(text: object) -> tuple[str, tuple[float, ...]]:
    """A description of one input: its word and its numbers."""
    if not isinstance(text, str):
        raise SettingError(_what(text))
    kind, *rest = text.split(":")
    try:
        figures = tuple(float(number) for number in rest)
    except ValueError:
        raise SettingError(_what(text)) from None
    fine = kind in _FIGURES and len(figures) in _FIGURES[kind] and all(map(math.isfinite, figures))
    if fine and kind == "labels":
        fine = all(number == int(number) for number in figures) and 0 <= figures[0] <= figures[1] < 1 << 31
    if fine and kind == "uniform":
        fine = figures[0] < figures[1]
    if fine and (kind == "truncated" or (figures and kind == "normal")):
        fine = figures[-1] > 0
    if not fine:
        raise SettingError(_what(text))
    return kind, figures


def _what(value: object) -> str:
    return (
        f"latents={short(repr(value), 60)} describes nothing. Write normal, uniform:-1:1, truncated:0.5 or labels:0:9; "
        "for several inputs normal,labels:0:9 or z=normal,y=labels:0:9."
    )
