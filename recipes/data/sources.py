"""Data on disk as datasets: images, pairs of images, super-resolution patches, other people's datasets.

Examples:
    >>> photos = Images("photos", size=64)                                             # doctest: +SKIP
    >>> fbwrap.recipes.AFL(loop).fit(photos, latents, steps=5000)                      # doctest: +SKIP
    >>> facades = SideBySide("facades/train", inputs="right")                          # doctest: +SKIP
    >>> fbwrap.recipes.FAL(loop).fit(Pairs(facades), steps=5000)                       # doctest: +SKIP

Every dataset has a length and gives item i; recipes draw items in a seeded order that resumes exactly. Images are
float tensors (C, H, W) in ``value_range``. A file that cannot be read stops the run with its name, or is passed over
with a warning (``on_error="skip"``).
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fbwrap.errors import DataError
from fbwrap.files.pictures import READABLE

logger = logging.getLogger("fbwrap")

OnError = Literal["stop", "skip"]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Source:
    """Base: a list of keys, and how an item is read; what happens when it cannot be."""

    def __init__(self, keys: Sequence[Any], on_error: OnError = "stop"):
        if on_error not in ("stop", "skip"):
            raise DataError(f"on_error={on_error!r}: pass 'stop' or 'skip'.")
        self.keys, self._on_error = list(keys), on_error
        self._bad: set[int] = set()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Any:
        if not -len(self.keys) <= index < len(self.keys):
            raise IndexError(f"There is no item {index}: the data has {len(self.keys)}.")
        for place in range(len(self.keys)):
            at = (index + place) % len(self.keys)
            if at in self._bad:
                continue
            try:
                return self.read(self.keys[at])
            except Exception as error:
                message = f"{_named(self.keys[at])} cannot be read: {type(error).__name__}: {error}"
                if self._on_error == "stop":
                    raise DataError(f"{message}. Repair or remove the file, or pass on_error='skip'.") from error
                logger.warning("%s; the next one takes its place.", message)
                self._bad.add(at)
        raise DataError("None of the data can be read.")

    def read(self, key: Any) -> Any:
        """The item of a key."""
        raise NotImplementedError


def _named(key: Any) -> str:
    """A key in words: a path, several, or a path and the row of its array."""
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join(f"row {part}" if isinstance(part, int) else str(part) for part in parts if part is not None)


def files(folder: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of some kinds in a folder and below, by name; hidden ones left out, linked folders once."""
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}.")
    found = sorted(path for path in _walked(root) if path.suffix.lower() in suffixes)
    if not found:
        raise DataError(f"{root} holds no file of the kinds {', '.join(suffixes)}.")
    return found


def _walked(root: Path) -> Iterator[Path]:
    """Every file below a folder. Links to folders are followed, each folder is read once; hidden files and folders, and
    what macOS leaves in archives, are passed over."""
    seen: set[str] = set()
    for here, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (path for name in names if not _is_hidden(name) and (path := Path(here) / name).is_file())


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def picture(path: Path, channels: int = 3) -> Tensor:
    """A picture as (C, H, W) in [0, 1]; see :func:`pixels_of`."""
    from PIL import Image

    with Image.open(path) as opened:
        return pixels_of(opened, channels)


def pixels_of(opened: Any, channels: int = 3) -> Tensor:
    """The same of a PIL image: 8-bit pixels by 255, 16-bit ones by 65535, floats as they are if they are in [0, 1].

    Raises:
        ValueError: floats outside [0, 1], or 32-bit integers: their scale is not known.
    """
    import numpy as np
    from PIL import ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = numbers_of(image)
        low, high = float(pixels.min()), float(pixels.max())
        if image.mode == "F" and not (low >= 0 and high <= 1):
            raise ValueError(f"its pixels are floats from {low:.4g} to {high:.4g}, and floats are read in 0 to 1")
        if image.mode == "I" and getattr(opened, "format", None) != "PNG":  # Pillow reads 16-bit PNGs so
            raise ValueError(f"its pixels are 32-bit integers from {low:.0f} to {high:.0f}, of no known scale")
        return (pixels / (1 if image.mode == "F" else 65535)).expand(channels, -1, -1).contiguous()
    if channels not in _MODES:
        raise DataError(f"channels={channels}: an image has {', '.join(map(str, _MODES))}.")
    array = np.asarray(image.convert(_MODES[channels]))
    tensor = torch.from_numpy(array.copy()).float() / 255
    return tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1).contiguous()


def numbers_of(image: Any) -> Tensor:
    """The values of a PIL image of one channel as they are, (1, H, W)."""
    import numpy as np

    return torch.from_numpy(np.asarray(image, dtype="float32").copy())[None]


def resized(image: Tensor, size: int | tuple[int, int] | None, nearest: bool = False) -> Tensor:
    """The middle of an image, as large as its shorter side lets it be, at a size; bicubic with antialiasing, or the
    nearest pixel's value (classes do not mix)."""
    if size is None:
        return image
    height, width = (size, size) if isinstance(size, int) else size
    scale = max(height / image.shape[1], width / image.shape[2])
    if scale != 1:
        target = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
        image = F.interpolate(image[None], target)[0] if nearest else bicubic(image, target)
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def bicubic(image: Tensor, size: tuple[int, int]) -> Tensor:
    """MATLAB's imresize: bicubic with antialiasing, within [0, 1]."""
    return F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def spanned(image: Tensor, value_range: tuple[float, float]) -> Tensor:
    """[0, 1] brought to a range."""
    low, high = value_range
    return low + (high - low) * image


class Images(Source):
    """A folder of images, its subfolders too.

    Args:
        size: each is scaled and cropped in the middle to it; None: as it is (all must be of one size).
        flip: whether half of them are mirrored at random.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int | tuple[int, int] | None = None,
        *,
        channels: int = 3,
        value_range: tuple[float, float] = (-1.0, 1.0),
        flip: bool = False,
        on_error: OnError = "stop",
    ):
        super().__init__(files(folder, READABLE), on_error)
        self._size, self._channels, self._range, self._flip = size, channels, value_range, flip

    def read(self, key: Path) -> Tensor:
        """The image at a path."""
        image = spanned(resized(picture(key, self._channels), self._size), self._range)
        return image.flip(2) if self._flip and torch.rand(()) < 0.5 else image


class PairedFolders(Source):
    """Two folders whose files go together by name: ``inputs/a.png`` and ``targets/a.jpg``; items (input, target).

    Args:
        match: what of a file's name counts: a regular expression with one group; None: its stem.
        channels: of the input and of the target.
    """

    def __init__(
        self,
        inputs: str | Path,
        targets: str | Path,
        size: int | tuple[int, int] | None = None,
        *,
        match: str | None = None,
        channels: tuple[int, int] = (3, 3),
        value_range: tuple[float, float] = (-1.0, 1.0),
        on_error: OnError = "stop",
    ):
        sides = [by_name(folder, match) for folder in (inputs, targets)]
        both = sorted(sides[0].keys() & sides[1].keys())
        if not both:
            raise DataError(f"No file of {inputs} has one of the same name in {targets}.")
        if alone := len(sides[0].keys() ^ sides[1].keys()):
            logger.warning("%d files of %s and %s have no partner and are left out.", alone, inputs, targets)
        super().__init__([(sides[0][key], sides[1][key]) for key in both], on_error)
        self._size, self._channels, self._range = size, channels, value_range

    def read(self, key: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
        """The pair at two paths."""
        first, second = (
            spanned(resized(picture(path, channels), self._size), self._range)
            for path, channels in zip(key, self._channels, strict=True)
        )
        return first, second


def by_name(folder: str | Path, match: str | None) -> dict[str, Path]:
    """Files by what names them: their path within the folder without its ending, or what a rule finds in the name;
    files that the rule does not know are left out."""
    named: dict[str, Path] = {}
    for path in files(folder, READABLE):
        found = re.search(match, path.name) if match else None
        if match and found is None:
            continue
        key = found.group(1) if found else path.relative_to(folder).with_suffix("").as_posix()
        if key in named:
            raise DataError(f"{named[key]} and {path} go by one name, {key!r}: which is meant?")
        named[key] = path
    return named


class SideBySide(Source):
    """pix2pix's layout: one file holds both images, left and right; items (input, target).

    Args:
        inputs: which half is the input: ``"left"`` or ``"right"``.
        jitter: pix2pix's augmentation: scaled up by an eighth, cropped at random, mirrored at random.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int | tuple[int, int] | None = None,
        *,
        inputs: Literal["left", "right"] = "right",
        jitter: bool = False,
        value_range: tuple[float, float] = (-1.0, 1.0),
        on_error: OnError = "stop",
    ):
        if inputs not in ("left", "right"):
            raise DataError(f"inputs={inputs!r}: pass 'left' or 'right'.")
        super().__init__(files(folder, READABLE), on_error)
        self._size, self._right, self._jitter, self._range = size, inputs == "right", jitter, value_range

    def read(self, key: Path) -> tuple[Tensor, Tensor]:
        """The halves of the image at a path."""
        image = picture(key)
        half = image.shape[2] // 2
        pair = torch.stack((image[:, :, half : 2 * half], image[:, :, :half])[:: 1 if self._right else -1])
        pair = torch.stack([resized(side, self._size) for side in pair])
        if self._jitter:
            pair = _jittered(pair)
        first, second = spanned(pair, self._range)
        return first, second


def _jittered(pair: Tensor) -> Tensor:
    height, width = pair.shape[2:]
    larger = torch.stack([bicubic(side, (height * 9 // 8, width * 9 // 8)) for side in pair])
    top = int(torch.randint(larger.shape[2] - height + 1, ()))
    left = int(torch.randint(larger.shape[3] - width + 1, ()))
    pair = larger[:, :, top : top + height, left : left + width]
    return pair.flip(3) if torch.rand(()) < 0.5 else pair


class SuperResolution(Source):
    """DIV2K's layout, a folder of high-resolution images (or the one that holds ``DIV2K_train_HR``): items (low
    resolution, high resolution), the low one made by bicubic downscaling.

    Args:
        patch: side of the random crop of the high-resolution image, a multiple of ``scale``; None: all of it.
    """

    def __init__(
        self,
        folder: str | Path,
        scale: int = 4,
        patch: int | None = 128,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        flip: bool = True,
        on_error: OnError = "stop",
    ):
        if patch is not None and patch % scale:
            raise DataError(f"patch={patch} is not a multiple of scale={scale}.")
        whole = Path(folder) / "DIV2K_train_HR"  # beside it lie the validation's, and small ones
        super().__init__(files(whole if whole.is_dir() else folder, READABLE), on_error)
        self._scale, self._patch, self._range, self._flip = scale, patch, value_range, flip

    def read(self, key: Path) -> tuple[Tensor, Tensor]:
        """A patch of the image at a path, small and large."""
        image = picture(key)
        height, width = (side // self._scale * self._scale for side in image.shape[1:])
        if self._patch is not None:
            if min(height, width) < self._patch:
                raise ValueError(f"it is {width}x{height}, smaller than the patch of {self._patch}")
            top = int(torch.randint(height - self._patch + 1, ()))
            left = int(torch.randint(width - self._patch + 1, ()))
            image = image[:, top : top + self._patch, left : left + self._patch]
            if self._flip:
                image = image.flip(2) if torch.rand(()) < 0.5 else image
                image = image.transpose(1, 2) if torch.rand(()) < 0.5 else image
        else:
            image = image[:, :height, :width]
        small = bicubic(image, (image.shape[1] // self._scale, image.shape[2] // self._scale))
        return spanned(small, self._range), spanned(image, self._range)


class Mapped:
    """Another dataset (torchvision's, Hugging Face's) seen through a function of its items.

    Examples:
        >>> digits = Mapped([{"image": 1.0}, {"image": 2.0}], lambda item: item["image"] * 2)
        >>> digits[1]
        4.0
    """

    def __init__(self, dataset: Any, function: Callable[[Any], Any]):
        self._dataset, self._function = dataset, function

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._function(self._dataset[index])


class Pictures(Source):
    """The images of a torchvision or Hugging Face dataset, whose items are PIL images or hold one.

    Examples:
        >>> faces = Pictures(torchvision.datasets.CIFAR10("data"), 0, size=32)                       # doctest: +SKIP
        >>> faces = Pictures(datasets.load_dataset("user/faces", split="train"), "image", size=64)   # doctest: +SKIP

    Args:
        dataset: anything with a length and items.
        image: where in an item the image is: a place in a tuple, a key of a dict; None: the item is the image.
        size, channels, value_range, flip: as of :class:`Images`.
    """

    def __init__(
        self,
        dataset: Any,
        image: int | str | None = None,
        size: int | tuple[int, int] | None = None,
        *,
        channels: int = 3,
        value_range: tuple[float, float] = (-1.0, 1.0),
        flip: bool = False,
        on_error: OnError = "stop",
    ):
        super().__init__(range(len(dataset)), on_error)
        self._dataset, self._image = dataset, image
        self._size, self._channels, self._range, self._flip = size, channels, value_range, flip

    def read(self, key: int) -> Tensor:
        """The image of an item."""
        item = self._dataset[key]
        held = item if self._image is None else item[self._image]
        image = spanned(resized(pixels_of(held, self._channels), self._size), self._range)
        return image.flip(2) if self._flip and torch.rand(()) < 0.5 else image
