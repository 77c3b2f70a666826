"""A weights file, read as what its first bytes say it is, and never by running code.

Examples:
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "net.bin"
    >>> torch.save({"weight": torch.zeros(2)}, path)
    >>> read_weights(path)
    {'weight': tensor([0., 0.])}
"""

import json
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError, short

_LARGEST_HEADER = 100 << 20  # of a safetensors file


def read_weights(path: str | os.PathLike[str]) -> Any:
    """All that a weights file holds: nested dicts of tensors.

    Args:
        path: safetensors, or what ``torch.save`` wrote (read with ``weights_only=True``), under any name; or the index
            (JSON) of weights in several such files beside it.

    Raises:
        WeightsError: no such file, one that is something else, a damaged one, or one that would need code to be run.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"There is no weights file {file}.")
    try:
        with open(file, "rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {short(error)}.") from error
    _refuse_what_is_no_weights(file, head)
    try:
        if _is_safetensors(file, head):
            from safetensors.torch import load_file

            return load_file(file)
        if head.lstrip()[:1] == b"{":
            return _shards(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        wanted = re.findall(r"GLOBAL (\S+)", str(error)) or [str(error).split("\n")[-1]]
        raise WeightsError(
            f"{file} holds more than weights, and reading it would run code ({short(wanted[0], 80)}). It is not read. "
            "Where you trust it, load it yourself and save its state_dict: torch.save(model.state_dict(), FILE)."
        ) from error
    except Exception as error:
        raise WeightsError(
            f"{file} cannot be read as weights ({type(error).__name__}: {short(error)}). It is damaged, or of another "
            "format: safetensors and what torch.save writes are read."
        ) from error


def _refuse_what_is_no_weights(file: Path, head: bytes) -> None:
    start = head.lstrip()[:64].lower()
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{file} is a Git LFS pointer, not the weights, which were not downloaded: run git lfs pull there."
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError(
            f"{file} is a web page, not weights: the link led to a page about them. Download the file itself."
        )
    if head.startswith(b"\x1f\x8b"):
        raise WeightsError(f"{file} is compressed (gzip). Unpack it first: gunzip, or tar xzf.")
    if not head:
        raise WeightsError(f"{file} is empty.")


def _is_safetensors(file: Path, head: bytes) -> bool:
    if len(head) < 9:
        return file.suffix == ".safetensors"
    (size,) = struct.unpack("<Q", head[:8])
    return file.suffix == ".safetensors" or (
        head[8:9] == b"{" and 2 <= size <= min(file.stat().st_size, _LARGEST_HEADER)
    )


def _shards(file: Path) -> dict[str, object]:
    """The weights that an index names, all shards in one dict."""
    index = json.loads(file.read_text(encoding="utf-8"))
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise WeightsError(f"{file} is JSON, not weights, nor an index of weights in several files.")
    whole: dict[str, object] = {}
    for name in sorted(set(named.values())):
        if Path(name).name != name:
            raise WeightsError(f"{file} names a file outside its folder: {short(name, 60)!r}.")
        if not (file.parent / name).is_file():
            raise WeightsError(f"{file} names {name}, which is not beside it. Download all its files.")
        held = read_weights(file.parent / name)
        whole |= {key: held[key] for key, where in named.items() if where == name and key in held}
    return whole
