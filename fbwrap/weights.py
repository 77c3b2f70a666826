"""Weights files of other people: read without running code, found inside whatever they are nested in.

Example:
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from torch import nn
    >>> net = nn.Linear(2, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "net.pth"
    ...     torch.save({"epoch": 3, "params_ema": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)
    ...     load_weights(nn.Linear(2, 3), path)
    "params_ema", prefix "module."
"""

import logging
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import WeightsError
from .naming import unwrap

logger = logging.getLogger("fbwrap")

_AVERAGES = ("params_ema", "params-ema", "g_ema", "ema", "ema_state_dict", "netG_ema", "average")


class Found(NamedTuple):
    """Where in a file a model's weights were: the keys to the dict, and the prefix of its names."""

    keys: tuple[str, ...]
    prefix: str

    def __repr__(self) -> str:
        where = "/".join(self.keys) or "top level"
        return f'"{where}"' + (f', prefix "{self.prefix}"' if self.prefix else "")


def read_weights(path: str | os.PathLike[str]) -> Any:
    """All that a weights file holds: nested dicts of tensors.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote (``.pth``, ``.pt``, ``.ckpt``, ``.bin``), which is
            read with ``weights_only=True``.

    Raises:
        WeightsError: no such file, a damaged one, or one that would need code to be run.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"There is no weights file {file}.")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.findall(r"GLOBAL (\S+)", str(error)) or [str(error).split("\n")[-1]]
        raise WeightsError(
            f"{file} holds more than weights, and reading it would run code ({wanted[0]}). It is not read. Where you "
            "trust it, load it yourself and save its state_dict: torch.save(model.state_dict(), FILE)."
        ) from error
    except Exception as error:
        raise WeightsError(
            f"{file} cannot be read as weights ({type(error).__name__}: {error}). It is damaged, or of another "
            "format: .safetensors and what torch.save writes are read."
        ) from error


def load_weights(model: nn.Module, path: str | os.PathLike[str], key: str | None = None) -> Found:
    """Load a file's weights into ``model``, wherever in the file they are.

    Example:
        >>> load_weights(netG, "checkpoint.pth")                     # doctest: +SKIP
        "netG", prefix "module."

    Args:
        model: any module; wrappers (DDP, torch.compile) are looked through.
        path: see :func:`read_weights`.
        key: the key of the dict in the file, where several fit; None: the one whose names and shapes are the
            model's (an average of the weights before the weights themselves).

    Returns:
        Where they were.

    Raises:
        WeightsError: nothing in the file fits; the model is as it was.
    """
    net = unwrap(model)
    wanted = net.state_dict()
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]  # old files lack these counters
    candidates = [(keys, state) for keys, state in _dicts(read_weights(path)) if key is None or key in keys]
    if not candidates:
        what = f"under {key!r}" if key else "in it"
        raise WeightsError(f"{path} holds no weights {what}.")
    best: tuple[tuple[int, bool], Found, dict[str, Tensor]] | None = None
    for keys, state in candidates:
        for prefix in _prefixes(state, wanted):
            mine = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            fits = sum(name in mine and mine[name].shape == wanted[name].shape for name in needed)
            rank = (fits, any(each in _AVERAGES for each in keys))
            if best is None or rank > best[0]:
                best = (rank, Found(keys, prefix), mine)
    if best is None or best[0][0] < len(needed):
        raise WeightsError(_unfit(net, path, wanted, best))
    fitting = {name: value for name, value in best[2].items() if name in wanted and value.shape == wanted[name].shape}
    net.load_state_dict(fitting, strict=False)
    return best[1]


def _dicts(tree: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dict in a file that holds tensors by name."""
    if not isinstance(tree, Mapping) or len(keys) > 3:
        return
    state = {name: value for name, value in tree.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if state:
        yield keys, state
    for name, value in tree.items():
        if isinstance(name, str):
            yield from _dicts(value, (*keys, name))


def _prefixes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> set[str]:
    """What may stand before the model's names in a file's: "", "module.", "netG." …"""
    first = next(iter(wanted), "")
    ends = {name.removesuffix(first) for name in state if first and name.endswith(first)}
    return {"", *(prefix for prefix in ends if prefix.endswith("."))}


def _unfit(
    net: nn.Module,
    path: str | os.PathLike[str],
    wanted: Mapping[str, Tensor],
    best: tuple[tuple[int, bool], Found, dict[str, Tensor]] | None,
) -> str:
    mine = best[2] if best else {}
    lacking = [name for name in wanted if name not in mine]
    other = [
        f"{name} {tuple(mine[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in mine and mine[name].shape != value.shape
    ]
    extra = [name for name in mine if name not in wanted]
    parts = [("it lacks", lacking), ("has other shapes for", other), ("and holds", extra)]
    told = ", ".join(f"{what} {', '.join(names[:3])}{' …' * (len(names) > 3)}" for what, names in parts if names)
    where = f" (nearest: {best[1]})" if best else ""
    return (
        f"{path} does not hold the weights of this {type(net).__name__}{where}: {told}. Check the arguments with "
        "which the network is made."
    )
