"""Samples as files: PNG with a note of how they were made, else safetensors.

Examples:
    >>> png(torch.zeros(3, 8, 8), Path("0000.png"), (-1.0, 1.0), {"seed": 0})            # doctest: +SKIP
    PosixPath('0000.png')
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fbwrap import plots
from fbwrap.files.atomic import atomic_write


@dataclass(frozen=True)
class Samples:
    """What was written: a file a sample (pictures) or one for all, and a picture of the first, step by step."""

    files: list[Path]
    overview: Path


def png(
    image: Tensor, path: Path, span: tuple[float, float], noted: Mapping[str, object], alpha: object = None
) -> Path:
    """A sample (C, H, W) as a PNG.

    Args:
        noted: written into it as text.
        alpha: a grey PIL image, how opaque each pixel is; brought to the sample's size.
    """
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in noted.items():
        info.add_text(f"fbwrap:{key}", str(value))
    pixels = plots.unit(image, span).mul(255).round().byte()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    shown = Image.fromarray(array)
    if isinstance(alpha, Image.Image):
        shown.putalpha(alpha.resize(shown.size, Image.Resampling.BICUBIC))
    with atomic_write(path) as part:
        shown.save(part, format="PNG", pnginfo=info)
    return path


def stored(made: Mapping[str, Tensor], path: Path, noted: Mapping[str, object]) -> Path:
    """Samples that are no pictures, by name."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        save_file(
            {key: value.contiguous() for key, value in made.items()},
            part,
            {key: str(value) for key, value in noted.items()},
        )
    return path
