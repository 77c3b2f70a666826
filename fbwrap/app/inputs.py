"""Inputs for a loop's G when nobody writes code: noise like its example, or a picture from a file.

Example:
    >>> import torch
    >>> latent_shape((torch.zeros(2, 100, 1, 1),))
    (100, 1, 1)
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap.errors import SettingError
from fbwrap.loop import FeedbackLoop
from fbwrap.probe import device_of
from fbwrap.trees import map_tensors, tensors

SMALLEST = 8  # an input of one or three channels and this side is a picture, a smaller one a latent


def latent_shape(args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """The shape of one latent, where G's first input is one; None where it is a picture or something else."""
    if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point() or takes_pictures(args):
        return None
    return tuple(args[0].shape[1:])


def takes_pictures(args: tuple[Any, ...]) -> bool:
    """Whether G's first input is a picture, grey or RGB."""
    first = args[0] if args else None
    if not isinstance(first, Tensor):
        return False
    return first.dim() == 4 and first.shape[1] in (1, 3) and min(first.shape[2:]) >= SMALLEST


def span_of(loop: FeedbackLoop) -> tuple[float, float]:
    """What is black and white in G's samples: what its adapter knew, else -1 and 1."""
    known = (loop.facts.get("adapter") or {}).get("value_range") or (-1.0, 1.0)
    return float(known[0]), float(known[1])


def latent_of_head(loop: FeedbackLoop) -> str:
    """The shape of one latent as the command line writes it, from the example that the head was made with."""
    args, kwargs = loop.facts["example"]
    shape = latent_shape(args)
    if shape is None or kwargs or len(args) > 1:
        raise SettingError(
            "This head's G does not take one tensor of latents alone. Pass --latent SHAPE or --pairs KIND:PATH: what "
            "its inputs are."
        )
    return "x".join(map(str, shape))


def drawn(loop: FeedbackLoop, count: int, seed: int, label: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs like the head's example, for ``count`` samples: seeded normal noise; whole numbers are the label."""
    example = loop.facts["example"]
    rows = next((len(tensor) for _, tensor in tensors(example) if tensor.dim()), 1)
    dice, device = torch.Generator().manual_seed(seed), device_of(loop.generator)

    def fresh(tensor: Tensor) -> Tensor:
        if not tensor.dim() or len(tensor) != rows:
            return tensor.to(device)
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            return torch.randn(shape, generator=dice).to(device=device, dtype=tensor.dtype)
        return torch.full(shape, label, dtype=tensor.dtype, device=device)

    args, kwargs = map_tensors(fresh, example)
    return args, kwargs


def pictures_of(where: Path) -> Iterator[Path]:
    """A picture, or those of a folder."""
    if not where.exists():
        raise SettingError(f"--input {where}: there is no such file or folder.")
    kinds = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
    found = sorted(p for p in where.iterdir() if p.suffix.lower() in kinds) if where.is_dir() else [where]
    if not found:
        raise SettingError(f"--input {where}: the folder holds no picture ({', '.join(kinds)}).")
    yield from found


def picture(path: str | os.PathLike[str], loop: FeedbackLoop, span: tuple[float, float]) -> Tensor:
    """A picture as G's input, ``(1, C, H, W)``.

    Raises:
        SettingError: it cannot be read, or G takes no pictures.
    """
    from PIL import UnidentifiedImageError

    from fbwrap.recipes import sources

    args, _ = loop.facts["example"]
    if not takes_pictures(args):
        raise SettingError("This head's G takes no pictures: leave out --input.")
    try:
        pixels = sources.picture(Path(path), args[0].shape[1])
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read as a picture: {error}") from error
    return sources.spanned(pixels, span)[None].to(device_of(loop.generator), args[0].dtype)
