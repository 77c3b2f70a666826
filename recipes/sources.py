"""Data on disk as datasets: images, pairs of images, super-resolution patches, voxels, other people's datasets.

Example:
    >>> photos = Images("photos", size=64)                                             # doctest: +SKIP
    >>> fbwrap.recipes.AFL(loop).fit(photos, latents, steps=5000)                      # doctest: +SKIP
    >>> facades = SideBySide("facades/train", inputs="right")                          # doctest: +SKIP
    >>> fbwrap.recipes.FAL(loop).fit(Pairs(facades), steps=5000)                       # doctest: +SKIP

Every dataset has a length and gives item i; recipes draw items in a seeded order that resumes exactly. Images are
float tensors (C, H, W) in ``value_range``. A file that cannot be read stops the run with its name, or is passed over
with a warning (``on_error="skip"``).
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fbwrap.errors import DataError

logger = logging.getLogger("fbwrap")

OnError = Literal["stop", "skip"]
CUBES = (".npz", ".npy", ".mat", ".binvox")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


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
                    raise DataError(f"{message}. Mend or remove it, or pass on_error='skip'.") from error
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


def _files(folder: str | Path, suffixes: Sequence[str]) -> list[Path]:
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}.")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise DataError(f"{root} holds no file of the kinds {', '.join(suffixes)}.")
    return found


def picture(path: Path, channels: int = 3) -> Tensor:
    """A picture as (C, H, W) in [0, 1]; 16-bit ones are scaled by their own range."""
    from PIL import Image

    with Image.open(path) as opened:
        return pixels_of(opened, channels)


def pixels_of(opened: Any, channels: int = 3) -> Tensor:
    """The same of a PIL image."""
    import numpy as np
    from PIL import ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = torch.from_numpy(np.asarray(image, dtype="float32"))[None]
        pixels = pixels / 65535 if image.mode != "F" else pixels
        return pixels.expand(channels, -1, -1).contiguous()
    if channels not in _MODES:
        raise DataError(f"channels={channels}: an image has {', '.join(map(str, _MODES))}.")
    array = np.asarray(image.convert(_MODES[channels]))
    tensor = torch.from_numpy(array.copy()).float() / 255
    return tensor[None] if tensor.dim() == 2 else tensor.permute(2, 0, 1).contiguous()


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
        super().__init__(_files(folder, _PICTURES), on_error)
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
        sides = [_by_name(folder, match) for folder in (inputs, targets)]
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


def _by_name(folder: str | Path, match: str | None) -> dict[str, Path]:
    """Files by what names them: their path within the folder without its ending, or what a rule finds in the name;
    files that the rule does not know are left out."""
    named: dict[str, Path] = {}
    for path in _files(folder, _PICTURES):
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
        super().__init__(_files(folder, _PICTURES), on_error)
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
            raise DataError(f"patch={patch} is no multiple of scale={scale}.")
        whole = Path(folder) / "DIV2K_train_HR"  # beside it lie the validation's, and small ones
        super().__init__(_files(whole if whole.is_dir() else folder, _PICTURES), on_error)
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
            _by_name(Path(root) / "gtFine" / split, rf"^(.+?)_gtFine_{kind}\.") for kind in ("labelIds", "color")
        )
        photos = _by_name(Path(root) / "leftImg8bit" / split, r"^(.+?)_leftImg8bit\.")
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
        sides = [_by_name(base / name, None) for name in (*conditions, "rgb")]
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
            image, unit = pixels_of(opened, 1), {"F": 1000, "I": 65535}.get(opened.mode[0])
            return (image * unit / self._deepest).clamp(0, 1) if name == "depth" and unit else image


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
                raise DataError(f"{path} is cut off: it is no whole number of rows of 3073 bytes. Get it again.")
        rows = [np.fromfile(path, dtype=np.uint8).reshape(-1, 3073)[:, 1:] for path in paths]
        self._pixels, self._flip = torch.from_numpy(np.concatenate(rows)).view(-1, 3, 32, 32), flip

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Tensor:
        image = self._pixels[index].float() / 127.5 - 1
        return image.flip(2) if self._flip and torch.rand(()) < 0.5 else image


class Voxels(Source):
    """Cubes of voxels (1, D, H, W) in [0, 1]: a ``.npz`` or ``.npy`` array (N, D, H, W), a ``.mat`` of one cube, a
    ``.binvox``, or a folder of these.

    Args:
        array: the array's name in an ``.npz`` or ``.mat``; None: the only one with three dimensions or more.
        packed: whether its last axis holds eight voxels a byte (``numpy.packbits``).
        size: the side that every cube must have; None: any.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        array: str | None = None,
        packed: bool = False,
        size: int | None = None,
        on_error: OnError = "stop",
    ):
        root = Path(path)
        paths = _files(root, CUBES) if root.is_dir() else [root]
        if not paths[0].exists():
            raise DataError(f"There is no {root}.")
        if paths[0].suffix.lower() not in CUBES:
            raise DataError(f"{paths[0]} is no file of voxels: {', '.join(CUBES)}.")
        self._array, self._packed, self._size = array, packed, size
        many: list[tuple[Path, int | None]] = []
        for path in paths:
            if path.suffix.lower() not in (".npz", ".npy"):
                many.append((path, None))
                continue
            try:
                many += [(path, row) for row in range(len(self._cubes(path)))]
            except DataError as error:
                if on_error == "stop":
                    raise
                logger.warning("%s It is left out.", error)
        super().__init__(many, on_error)

    def read(self, key: tuple[Path, int | None]) -> Tensor:
        """The cube of a file, or of a row of its array."""
        path, row = key
        if row is not None:
            cube = self._cubes(path)[row]
            if self._packed:
                import numpy as np

                cube = np.unpackbits(cube, axis=-1)
        else:
            cube = binvox(path) if path.suffix.lower() == ".binvox" else _array(path, self._array)
        if self._size is not None and cube.shape != (self._size,) * 3:
            raise ValueError(
                f"its cube is {'x'.join(map(str, cube.shape))}, and {self._size} on each side is wanted (packed=True: "
                "eight voxels a byte)"
            )
        return torch.as_tensor(cube).float()[None]

    def _cubes(self, path: Path) -> Any:
        """All cubes of an array: (N, D, H, W), or one (D, H, W)."""
        held = self.__dict__.setdefault("_held", {})
        if path not in held:
            array = _array(path, self._array)
            held[path] = array[None] if array.ndim == 3 else array
        return held[path]


def _array(path: Path, name: str | None) -> Any:
    import numpy as np

    try:
        if path.suffix.lower() == ".npy":
            return np.load(path)
        if path.suffix.lower() == ".mat":
            from scipy.io import loadmat

            arrays = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
        else:
            with np.load(path) as file:
                arrays = dict(file)
    except Exception as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error
    names = [name] if name else [key for key, value in arrays.items() if value.ndim >= 3]
    if len(names) != 1 or names[0] not in arrays:
        raise DataError(f"{path} holds the arrays {', '.join(arrays)}. Pass array=, the name of the voxels'.")
    return arrays[names[0]]


def binvox(path: Path) -> Any:
    """A ``.binvox`` cube: run-length coded, x z y order, as Patrick Min's format has it."""
    import numpy as np

    data = path.read_bytes()
    head, _, body = data.partition(b"data\n")
    dims = re.search(rb"dim (\d+) (\d+) (\d+)", head)
    if not head.startswith(b"#binvox") or dims is None:
        raise ValueError("it is no binvox file")
    runs = np.frombuffer(body, dtype=np.uint8)
    values = np.repeat(runs[::2], runs[1::2])
    side = [int(number) for number in dims.groups()]
    return values.reshape(side[0], side[2], side[1]).transpose(0, 2, 1)


class Mapped:
    """Another dataset (torchvision's, Hugging Face's) seen through a function of its items.

    Example:
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

    Example:
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
