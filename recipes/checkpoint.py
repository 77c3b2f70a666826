"""Checkpoints of a run: whole or not there at all, and read without running code.

Example:
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> save({"step": 3}, folder / "checkpoint.pt")
    >>> load(folder / "checkpoint.pt")
    {'step': 3}
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from fbwrap.errors import TrainingError


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; a crash or a full disk leaves the one before as it was."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"The checkpoint could not be written to {path}: {error}. The one before it is unharmed; make "
            "room or choose another out=, and resume."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint (tensors and plain data only: nothing in it can run)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise TrainingError(
            f"{path} is not a checkpoint that can be read: {error}. Remove it to start anew."
        ) from error
    return state
