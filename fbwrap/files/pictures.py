"""What counts as a picture: a tensor's shape, and a file's name.

Examples:
    >>> import torch
    >>> is_picture(torch.zeros(8, 3, 32, 32).shape), is_picture(torch.zeros(8, 1, 32, 32, 32).shape)
    (True, False)
"""

from collections.abc import Sequence

_COMMON = (".png", ".jpg", ".jpeg", ".webp")
READABLE = (*_COMMON, ".bmp", ".tif", ".tiff")  # Pillow reads them
IN_BROWSERS = (*_COMMON, ".gif")  # a model card shows them
FIGURES = (*_COMMON, ".pdf", ".svg")  # matplotlib writes them


def is_picture(shape: Sequence[int]) -> bool:
    """Whether a batch of this shape can be shown as images, grey or RGB: ``(N, 1 or 3, H, W)``."""
    return len(shape) == 4 and shape[1] in (1, 3)
