"""Held-out real pictures on which D is calibrated; with their classes, where D is asked with them.

Examples:
    >>> real, inputs = held_out(loop, Path("held_out"), (-1.0, 1.0))                     # doctest: +SKIP
    >>> fbwrap.calibrate(loop, real, inputs=inputs)                                      # doctest: +SKIP
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fbwrap import FeedbackLoop
from fbwrap.engine.pytree import map_tensors, tensors
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import image_of
from fbwrap.heads.inputs import draw_inputs
from fbwrap.recipes.data import sources
from fbwrap.samplers.source import Source

MOST = 5000  # pictures, at most


def held_out(loop: FeedbackLoop, folder: Path, span: tuple[float, float]) -> tuple[Tensor, Any]:
    """Pictures of a folder at the size of the head's samples, and G's inputs that belong to them: None where D looks
    at the sample alone.

    Raises:
        SettingError: there is no such folder; G makes no pictures; D is asked with a class that the folder does not
            tell.
    """
    if not folder.is_dir():
        raise SettingError(f"--real {folder}: there is no such folder.")
    source = Source(loop, feedback=False)
    made = image_of(source.made(source.example()))
    if made.dim() != 4:
        raise SettingError(f"G makes samples of the shape {tuple(made.shape[1:])}, and --real is a folder of images.")
    channels, height, width = made.shape[1:]
    images = sources.Images(folder, (height, width), channels=channels, value_range=span)
    chosen = some_of(len(images), MOST)
    return torch.stack([images[at] for at in chosen]), _with_classes(loop, folder, images.keys, chosen)


def some_of(count: int, most: int) -> list[int]:
    """So many places at random, always the same: the first files of a folder may be all of one class."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].tolist()


def _with_classes(loop: FeedbackLoop, folder: Path, paths: Sequence[Path], chosen: Sequence[int]) -> Any:
    """Inputs of G whose classes are those of the pictures' subfolders."""
    if loop.facts.critic_input == "output" or not any(map(_is_label, _tensors(loop.facts.example))):
        return None
    parts = [path.relative_to(folder).parts for path in paths]
    if any(len(part) < 2 for part in parts):
        raise SettingError(
            f"D is asked with a class beside each sample. Put the pictures of each class into a subfolder of {folder}: "
            "named by the class's number, or in the order of the numbers."
        )
    names = sorted({part[0] for part in parts})
    numbers = {name: int(name) if all(map(str.isdigit, names)) else at for at, name in enumerate(names)}
    classes = torch.tensor([numbers[parts[at][0]] for at in chosen])
    args, kwargs = map_tensors(
        lambda tensor: classes.to(tensor) if _is_label(tensor) else tensor, draw_inputs(loop, len(chosen), 0, 0)
    )
    if args and kwargs:
        raise SettingError("D is asked with a class, and this G takes positional and keyword inputs: use Python.")
    return kwargs or args


def _tensors(example: Any) -> list[Tensor]:
    return [tensor for _, tensor in tensors(example)]


def _is_label(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and tensor.dim() == 1
