"""Voxels on disk: arrays of cubes, MATLAB's files, binvox.

Examples:
    >>> beds = Voxels("modelnet.npz", array="x_train", packed=True, size=32)           # doctest: +SKIP
"""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap.errors import DataError

from .sources import OnError, Source, files

logger = logging.getLogger("fbwrap")

CUBES = (".npz", ".npy", ".mat", ".binvox")


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
        paths = files(root, CUBES) if root.is_dir() else [root]
        if not paths[0].exists():
            raise DataError(f"There is no {root}.")
        if paths[0].suffix.lower() not in CUBES:
            raise DataError(f"{paths[0]} is not a file of voxels: {', '.join(CUBES)}.")
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
