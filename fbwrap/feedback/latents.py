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

from ..engine.names import Path
from ..engine.pytree import put, tensors
from ..errors import SettingError, short

Latents = str | Sequence[str] | Mapping[str, str]
_FIGURES = {"normal": (0, 2), "uniform": (2,), "truncated": (1,), "labels": (2,), "example": (0,)}
USUAL = "normal"
LABEL = "label"  # a whole number that nothing describes


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
    drawn: Any = example
    held = dict(tensors(example))
    for path, how in distributions(latents, example, batch_axis).items():
        value = held[path]
        shape = list(value.shape)
        shape[batch_axis if value.dim() == 3 else 0] = count
        if not value.is_floating_point() and (label is not None or how == LABEL):
            drawn = put(drawn, path, torch.full(shape, label or 0, dtype=value.dtype))
        else:
            drawn = put(drawn, path, draw_one(how, tuple(shape), value.dtype, generator))
    return drawn[0], drawn[1]


def distributions(
    latents: Latents | None, example: tuple[tuple[object, ...], dict[str, object]], batch_axis: int = 0
) -> dict[Path, str]:
    """Which of an example's tensors are drawn, and from what: ``{path: description}``, each path within ``(args,
    kwargs)``. Whole numbers that nothing describes are ``LABEL``; tensors that are not here are settings.

    Examples:
        >>> distributions("uniform:-1:1", ((torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64)), {}))
        {(0, 0): 'uniform:-1:1', (0, 1): 'label'}
    """
    args, kwargs = example
    described = read_latents(latents) if latents is not None else USUAL
    hows = _of_each_input(described, args, kwargs)
    places = [(0, place, value) for place, value in enumerate(args)] + [
        (1, name, value) for name, value in kwargs.items()
    ]
    count_of = _samples([value for _, key, value in places if hows[key] != "example"], batch_axis)
    found: dict[Path, str] = {}

    def note(value: object, how: str | None, path: Path) -> None:
        for inner, tensor in tensors(value):
            axis = batch_axis if tensor.dim() == 3 else 0
            if how == "example" or tensor.dim() <= axis or tensor.shape[axis] != count_of:
                continue
            floating = tensor.is_floating_point()
            fits = how is not None and how.startswith("labels") is not floating
            found[(*path, *inner)] = str(how) if fits else USUAL if floating else LABEL

    for group, key, value in places:
        note(value, hows[key], (group, key))
    return found


def _of_each_input(described: Any, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[Any, str | None]:
    """The description of each input, by its place or its name."""
    if isinstance(described, dict):
        names = dict(enumerate(described.values()))
        if unknown := [name for name in described if kwargs and name not in kwargs]:
            raise SettingError(f"latents name {unknown[0]!r}; this G's inputs are {', '.join(kwargs)}.")
        return {place: names.get(place) for place in range(len(args))} | {name: described.get(name) for name in kwargs}
    inputs = [*range(len(args)), *kwargs]
    if isinstance(described, str):
        return dict.fromkeys(inputs, described)
    if len(described) != len(inputs):
        raise SettingError(f"latents describe {len(described)} inputs, and this G has {len(inputs)}.")
    return dict(zip(inputs, described, strict=True))


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
