"""Sample grids as PNG files.

Examples:
    >>> import tempfile, torch
    >>> path = save_grid([torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)], tempfile.mkdtemp() + "/grid.png")
    >>> path.exists()
    True
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fbwrap.files.atomic import atomic_write
from fbwrap.plots import unit


def save_grid(
    rows: Sequence[Tensor],
    path: str | os.PathLike[str],
    value_range: tuple[float, float] = (-1.0, 1.0),
    scale: int = 2,
) -> Path:
    """Write rows of images (each ``(N, 1 or 3, H, W)``) to one PNG, atomically.

    Args:
        value_range: the values shown as black and white.
        scale: pixels of the picture per pixel of a sample.
    """
    from PIL import Image

    lines = []
    for row in rows:
        shown = unit(row.detach().float().cpu(), value_range)
        shown = torch.nn.functional.pad(shown.expand(-1, 3, -1, -1), (1, 1, 1, 1), value=0.5)
        lines.append(torch.cat(list(shown), 2))
    picture = torch.cat(lines, 1).mul(255).round().byte().permute(1, 2, 0).contiguous()
    image = Image.fromarray(picture.numpy())
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    target = Path(path)
    with atomic_write(target) as part:
        image.save(part, format="PNG")
    return target
