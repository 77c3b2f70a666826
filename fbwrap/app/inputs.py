"""Inputs of a loop's G as the command line and the page have them: the head's latents, pictures from files.

Examples:
    >>> list(pictures_of(Path("photos")))                                            # doctest: +SKIP
    [PosixPath('photos/a.png')]
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap.engine.trace import device_of
from fbwrap.errors import SettingError
from fbwrap.heads.inputs import draw_inputs, takes_pictures
from fbwrap.loop import FeedbackLoop


def inputs_of_head(loop: FeedbackLoop, samples: int, seed: int, label: int | None) -> Tensor | tuple[object, ...]:
    """Inputs of G like the example that the head was made with; a tensor where there is one alone.

    Raises:
        SettingError: G takes pictures, or inputs by keyword.
    """
    args, kwargs = loop.facts.example
    if takes_pictures(args) or kwargs:
        raise SettingError(
            "This head's G takes pictures or keyword inputs, which cannot be drawn. Pass --pairs KIND:PATH "
            "(pictures) or --latent SHAPE (noise). The study samplers cannot run with this head."
        )
    drawn_args, _ = draw_inputs(loop, samples, seed, label)
    return drawn_args[0] if len(drawn_args) == 1 else drawn_args


def pictures_of(where: Path) -> Iterator[Path]:
    """A picture, or those of a folder."""
    if not where.exists():
        raise SettingError(f"--input {where}: there is no such file or folder.")
    from fbwrap.files.pictures import READABLE

    listed = where.iterdir() if where.is_dir() else [where]
    found = sorted(path for path in listed if path.suffix.lower() in READABLE and not path.name.startswith("."))
    found = found if where.is_dir() else [where]
    if not found:
        raise SettingError(f"--input {where}: the folder holds no picture ({', '.join(READABLE)}).")
    yield from found


def picture(path: str | os.PathLike[str], loop: FeedbackLoop, span: tuple[float, float]) -> Tensor:
    """A picture as G's input, ``(1, C, H, W)``.

    Raises:
        SettingError: it cannot be read, or G takes no pictures.
    """
    from PIL import Image, UnidentifiedImageError

    from fbwrap.recipes.data import sources

    args, kwargs = loop.facts.example
    if not takes_pictures(args):
        raise SettingError("This head's G takes no pictures: leave out --input.")
    if len(args) > 1 or kwargs:
        raise SettingError("This head's G takes more than a picture. Use it in Python: loop(picture, …).")
    try:
        pixels = sources.picture(Path(path), args[0].shape[1])
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise SettingError(f"{path} cannot be read as a picture: {error}") from error
    return sources.spanned(pixels, span)[None].to(device_of(loop.generator), args[0].dtype)


def from_bytes(frame: Any, channels: int, span: tuple[float, float]) -> Tensor:
    """A picture (H, W, 3 or more), uint8, as G's input (1, C, H, W); grey as Pillow makes it, where C is 1."""
    pixels = torch.from_numpy(frame[..., :3].copy()).float().permute(2, 0, 1)[None] / 255
    if channels == 1:
        pixels = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return span[0] + (span[1] - span[0]) * pixels


def alpha_of(path: Path) -> object:
    """How opaque a picture's pixels are, as a grey PIL image; None where all are."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if "A" not in opened.getbands() and "transparency" not in opened.info:
            return None
        return ImageOps.exif_transpose(opened).convert("RGBA").getchannel("A")
