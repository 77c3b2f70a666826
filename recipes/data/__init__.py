"""Data to train on and to measure with: what the user has as batches, and folders of pictures or cubes as datasets.

Examples:
    >>> pictures = fbwrap.recipes.data.Images("photos", size=64)                    # doctest: +SKIP
    >>> fbwrap.recipes.AFL(loop).fit(pictures, lambda n: torch.randn(n, 100))       # doctest: +SKIP
"""

from .batches import Batches, Pairs, Stream, part_of
from .layouts import CIFAR10, NYU, CityscapesClasses, cityscapes
from .sources import Images, Mapped, PairedFolders, Pictures, SideBySide, Source, SuperResolution
from .voxels import Voxels

__all__ = [
    "CIFAR10",
    "NYU",
    "Batches",
    "CityscapesClasses",
    "Images",
    "Mapped",
    "PairedFolders",
    "Pairs",
    "Pictures",
    "SideBySide",
    "Source",
    "Stream",
    "SuperResolution",
    "Voxels",
    "cityscapes",
    "part_of",
]
