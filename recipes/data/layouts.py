"""Data sets as they are handed out: Cityscapes, NYU depth, CIFAR-10.

Examples:
    >>> pairs = Pairs(cityscapes("cityscapes", (256, 512)))                            # doctest: +SKIP
    >>> rooms = NYU("nyu", conditions=("labels", "depth", "edges"))                    # doctest: +SKIP
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap.errors import DataError

from .sources import OnError, PairedFolders, Source, by_name, numbers_of, picture, pixels_of, resized, spanned


def cityscapes(
    root: str | Path, size: tuple[int, int] = (256, 512), split: str = "train", **options: Any
) -> PairedFolders:
    """Cityscapes' folders: colour label maps (inputs) and photographs, by the frame's name."""
    rule = r"^(.+?)_(?:gtFine_color|leftImg8bit)\."
    return PairedFolders(Path(root) / "gtFine" / split, Path(root) / "leftImg8bit" / split, size, match=rule, **options)


class CityscapesClasses(Source):
    """What :func:`cityscapes`' photographs show, in the same order: class numbers (H, W) of the 19 that are scored, 255
    elsewhere, from ``gtFine``'s ``labelIds``; empty where there are none.

    Raises:
        DataError: some frames have none.
    """

    _SCORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

    def __init__(self, root: str | Path, size: tuple[int, int] = (256, 512), split: str = "val"):
        labels, colours = (
            by_name(Path(root) / "gtFine" / split, rf"^(.+?)_gtFine_{kind}\.") for kind in ("labelIds", "color")
        )
        photos = by_name(Path(root) / "leftImg8bit" / split, r"^(.+?)_leftImg8bit\.")
        frames = sorted(colours.keys() & photos.keys())
        if labels and (absent := [frame for frame in frames if frame not in labels]):
            raise DataError(f"{absent[0]} has no gtFine_labelIds, and other frames of {root} do.")
        super().__init__([labels[frame] for frame in frames] if labels else [])
        self._size = size
        self._class_of = torch.full((256,), 255)
        self._class_of[list(self._SCORED)] = torch.arange(len(self._SCORED))

    def read(self, key: Path) -> Tensor:
        """The classes in a file."""
        import numpy as np
        from PIL import Image

        with Image.open(key) as opened:
            numbers = torch.from_numpy(np.asarray(opened).astype("int64"))
        return resized(self._class_of[numbers][None].float(), self._size, nearest=True)[0].long()


class NYU(Source):
    """NYU depth as FAL has it (§5.2): ``root/split/rgb``, and grey conditions beside it, one channel each:
    ``labels`` (the class's number, equidistant; FAL: the 37 most frequent), ``depth``, ``edges`` …

    Args:
        conditions: folders, in the order of channels.
        classes: so many label numbers, 0 upwards, fill the range.
        deepest: the millimetres of depth that fill the range. Depths are 16-bit millimetres or floats in metres; those
            of eight bits are taken as they are.
    """

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (240, 320),
        split: str = "train",
        *,
        conditions: Sequence[str] = ("labels", "depth"),
        classes: int = 37,
        deepest: float = 10_000.0,
        value_range: tuple[float, float] = (-1.0, 1.0),
        on_error: OnError = "stop",
    ):
        base = Path(root) / split
        if absent := [name for name in conditions if not (base / name).is_dir()]:
            raise DataError(
                f"There is no folder {base / absent[0]}. The conditions are {', '.join(conditions)}; others are "
                "chosen by conditions=."
            )
        sides = [by_name(base / name, None) for name in (*conditions, "rgb")]
        both = sorted(set.intersection(*(set(side) for side in sides)))
        if not both:
            raise DataError(f"No file of {base / conditions[0]} has one of the same name in {base / 'rgb'}.")
        super().__init__([tuple(side[key] for side in sides) for key in both], on_error)
        self._size, self._conditions, self._range = size, tuple(conditions), value_range
        self._classes, self._deepest = classes, deepest

    def read(self, key: tuple[Path, ...]) -> tuple[Tensor, Tensor]:
        """The conditions, stacked, and the photograph."""
        *paths, photo = key
        images = [self._condition(name, path) for name, path in zip(self._conditions, paths, strict=True)]
        sizes = [
            resized(image, self._size, nearest=name == "labels")
            for name, image in zip(self._conditions, images, strict=True)
        ]
        return spanned(torch.cat(sizes), self._range), spanned(resized(picture(photo), self._size), self._range)

    def metres(self, index: int) -> Tensor:
        """The depth (H, W) of an item, zero where it is not known: of 16-bit millimetres, or floats in metres."""
        import numpy as np
        from PIL import Image

        path = self.keys[index][self._conditions.index("depth")]
        with Image.open(path) as opened:
            if not opened.mode.startswith(("I", "F")):
                raise DataError(f"{path} has eight bits: depths are 16-bit millimetres, or floats in metres.")
            far = torch.from_numpy(np.asarray(opened, dtype="float32").copy()) / (1 if opened.mode == "F" else 1000)
        return resized(far[None], self._size, nearest=True)[0]

    def _condition(self, name: str, path: Path) -> Tensor:
        """One channel in [0, 1]."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as opened:
            if name == "labels":  # of a palette's too the number, not the colour
                numbers = torch.from_numpy(np.asarray(opened, dtype="float32").copy())
                if numbers.dim() != 2:
                    raise ValueError(f"labels are numbers, one channel, and this is {opened.mode}")
                return (numbers[None] / (self._classes - 1)).clamp(0, 1)
            if name == "depth" and opened.mode[0] in "IF":
                return (numbers_of(opened) * (1000 if opened.mode == "F" else 1) / self._deepest).clamp(0, 1)
            return pixels_of(opened, 1)


class CIFAR10:
    """CIFAR-10's images (3, 32, 32) in [-1, 1], from the binary version's ``data_batch_*.bin``, in the folder or in
    ``cifar-10-batches-bin`` there. (The Python version is pickled, and reading it would run code.)

    Args:
        flip: whether half of them are mirrored at random.
        split: ``"train"`` or ``"test"``.
    """

    def __init__(self, folder: str | Path, *, flip: bool = True, split: str = "train"):
        import numpy as np

        root = Path(folder)
        root = root / "cifar-10-batches-bin" if (root / "cifar-10-batches-bin").is_dir() else root
        paths = sorted(root.glob("data_batch_*.bin" if split == "train" else "test_batch.bin"))
        if not paths:
            raise DataError(f"{root} holds no data_batch_*.bin: get the binary version of CIFAR-10.")
        for path in paths:
            if path.stat().st_size % 3073:
                raise DataError(
                    f"{path} is cut off: it is not a whole number of rows of 3073 bytes. Download it again."
                )
        rows = [np.fromfile(path, dtype=np.uint8).reshape(-1, 3073)[:, 1:] for path in paths]
        self._pixels, self._flip = torch.from_numpy(np.concatenate(rows)).view(-1, 3, 32, 32), flip

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Tensor:
        image = self._pixels[index].float() / 127.5 - 1
        return image.flip(2) if self._flip and torch.rand(()) < 0.5 else image
