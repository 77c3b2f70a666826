"""Pictures that are too large for memory, in overlapping tiles.

Examples:
    >>> import torch
    >>> twice = lambda x: torch.nn.functional.interpolate(x, scale_factor=2)
    >>> picture = torch.rand(1, 3, 50, 70)
    >>> torch.allclose(in_tiles(twice, picture, Tiles(32, 8)), twice(picture))
    True

Each tile is run by itself, and tiles are blended where they overlap. Of an inner border of a tile the outer quarter of
the overlap is thrown away, and the rest fades in. So the result is that of the whole picture as far as an output pixel
depends on no more than a quarter of the overlap around it. Memory is that of one tile, and of the whole output once in
32-bit floats, on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fbwrap.errors import SettingError


@dataclass(frozen=True)
class Tiles:
    """How a picture is cut.

    Args:
        side: of a tile, in pixels of G's input.
        overlap: of neighbours, likewise.
    """

    side: int
    overlap: int = 32

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.overlap <= self.side:
            raise SettingError(
                f"tile={self.side}, overlap={self.overlap}: neighbours may share half of a tile at most. Pass "
                f"overlap={self.side // 4}."
            )

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along an axis; the last one ends with it."""
        if length <= self.side:
            return [0]
        stride = self.side - self.overlap
        return [*range(0, length - self.side, stride), length - self.side]


def in_tiles(run: Callable[[Tensor], Tensor], picture: Tensor, tiles: Tiles) -> Tensor:
    """What ``run`` makes of a picture (1, C, H, W), tile by tile: (1, C', s H, s W), on the CPU.

    Args:
        run: from pictures to pictures that are larger by a whole factor s, or as large.

    Raises:
        SettingError: it makes something else.
    """
    height, width = picture.shape[2:]
    if height <= tiles.side and width <= tiles.side:
        return run(picture).float().cpu()
    total = weights = torch.zeros(0)
    for top in tiles.starts(height):
        for left in tiles.starts(width):
            given = picture[:, :, top : top + tiles.side, left : left + tiles.side]
            made = run(given).float().cpu()
            scale = _scale(given, made)
            if not total.numel():
                total = torch.zeros(1, made.shape[1], scale * height, scale * width)
                weights = torch.zeros(1, 1, scale * height, scale * width)
            rows, columns = (
                _fade(begin, side, length, tiles.overlap, scale)
                for begin, side, length in ((top, given.shape[2], height), (left, given.shape[3], width))
            )
            weight = rows[:, None] * columns[None]
            place = (
                *(slice(None), slice(None)),
                slice(scale * top, scale * (top + given.shape[2])),
                slice(scale * left, scale * (left + given.shape[3])),
            )
            total[place] += weight * made
            weights[place] += weight
    return total.div_(weights)


def _scale(given: Tensor, made: Tensor) -> int:
    """How many times as large the output is."""
    scale = made.shape[2] // given.shape[2] if made.dim() == 4 else 0
    if not scale or tuple(made.shape[2:]) != tuple(scale * side for side in given.shape[2:]):
        raise SettingError(
            f"G makes {tuple(made.shape)} from a tile {tuple(given.shape)}. Tiles need a G whose output is 1, "
            "2, 3 … times as large as its input. Leave out --tile, or pass another one, such as a multiple of "
            "16."
        )
    return scale


def _fade(begin: int, side: int, length: int, overlap: int, scale: int) -> Tensor:
    """Weights along one axis of a tile: 1, and towards inner borders down to 0."""
    thrown, ramp = scale * (overlap // 4), max(1, scale * (overlap - 2 * (overlap // 4)))
    place = torch.arange(scale * side) + 0.5
    weight = torch.ones(scale * side)
    if begin > 0:
        weight = torch.minimum(weight, (place - thrown) / ramp)
    if begin + side < length:
        weight = torch.minimum(weight, (scale * side - place - thrown) / ramp)
    return weight.clamp(1e-6, 1)  # never nothing at all: the sum is divided by
