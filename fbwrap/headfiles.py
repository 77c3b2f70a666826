"""The files of a head: ``config.json``, ``feedback.safetensors``, ``discriminator.safetensors``.

Example:
    >>> from pathlib import Path
    >>> config_of(Path("nowhere"))
    Traceback (most recent call last):
    ...
    fbwrap.errors.HeadError: There is no head at nowhere: no such folder. Pass a folder that holds config.json.

Only JSON and safetensors are read. The format's version, the size and hash of each file and its name are checked before
anything else is done with it; files are put in their places together or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import HeadError
from .fetching import MOST_CONFIG_BYTES

FORMAT = "fbwrap-head"
VERSION = 1
CONFIG, FEEDBACK, DISCRIMINATOR = "config.json", "feedback.safetensors", "discriminator.safetensors"
GENERATOR = "generator.safetensors"  # of a G that learned with its head: beside it, read by nobody unless asked
_MOST_SPEC = 1000
STORED = {"fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}


def write(path: Path, tensors: Mapping[str, Tensor], dtype: str | None) -> dict[str, Any]:
    """Write tensors, to the disk itself; their file's size and hash."""
    from safetensors.torch import save_file

    def stored(tensor: Tensor) -> Tensor:
        if not dtype or not tensor.is_floating_point():
            return tensor.detach().to("cpu", copy=True).contiguous()
        small = tensor.detach().to("cpu", STORED[dtype], copy=True).contiguous()
        if not torch.equal(small.isfinite(), tensor.detach().cpu().isfinite()):
            raise HeadError(f"A weight of {path.stem} is too large for dtype={dtype!r}. Pass 'bf16', or None.")
        return small

    save_file({name: stored(tensor) for name, tensor in tensors.items()}, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def put(new: Path, target: Path, names: tuple[str, ...]) -> None:
    """Put new files in the place of old ones; if one cannot be put, the old ones come back."""
    done: list[str] = []
    try:
        for name in names:
            shutil.copymode(new / CONFIG, new / name)  # safetensors makes them private
            if (target / name).exists():
                os.replace(target / name, new / f"old-{name}")
            done.append(name)
            os.replace(new / name, target / name)
    except OSError:
        for name in done:
            if (new / f"old-{name}").exists():
                os.replace(new / f"old-{name}", target / name)
            else:
                (target / name).unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """The hash of a file, as a config names it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored(folder: Path, target: Path, dtype: str | None) -> Path:
    """A head's files, checked, once more in another folder; with ``dtype`` rounded to it."""
    config, tensors = read(folder)
    if dtype not in (None, *STORED):
        raise HeadError(f"dtype={dtype!r}: pass {' or '.join(map(repr, STORED))}, or None.")
    for name, held in tensors.items():
        if dtype is None:
            shutil.copyfile(folder / name, target / name)
        else:
            config["files"][name] = write(target / name, held, dtype)
    (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return target


def read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """A head's config and tensors, checked."""
    config = config_of(folder)
    return config, {name: _tensors(folder / name, facts) for name, facts in config["files"].items()}


def config_of(folder: Path) -> dict[str, Any]:
    """A head's config, checked."""
    if not folder.is_dir():
        raise HeadError(f"There is no head at {folder}: no such folder. Pass a folder that holds {CONFIG}.")
    path = folder / CONFIG
    if not path.is_file():
        raise HeadError(f"{folder} is not a head: it holds no {CONFIG}.")
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise HeadError(f"{path} is larger than any head's config ({MOST_CONFIG_BYTES} bytes).")
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HeadError(f"{path} cannot be read: {error}. The head is damaged; get it again.") from error
    _check_config(path, config)
    return config


def _check_config(path: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise HeadError(f"{path} is not the config of an fbwrap head.")
    version = config.get("version")
    if not isinstance(version, int) or version > VERSION or version < 1:
        raise HeadError(f"{path} has format version {version}; this fbwrap reads up to {VERSION}. Upgrade fbwrap.")
    wanted: dict[str, type | tuple[type, ...]] = {
        "links": list, "steps": int, "strength": float, "first": str, "critic_mode": str,
        "example": list, "dtype": str, "generator": dict, "files": dict, "trained_on": dict, "own_response": bool,
        "detach_signals": bool,
        "critic_input": (str, type(None)), "response": (str, type(None)), "adapter": dict, "method": str,
        "critic_size": (str, type(None)), "critic_spec": (list, type(None)), "base": (str, type(None)),
        "discriminator": (dict, type(None)),
    }  # fmt: skip
    for key, kind in wanted.items():
        if key not in config or not isinstance(config[key], kind):
            raise HeadError(f"{path} is damaged: {key!r} is missing or of the wrong kind. Get it again.")
    if len(json.dumps(config["critic_spec"])) > _MOST_SPEC:
        raise HeadError(f"{path} is damaged: its critic_spec is longer than any critic's. Get it again.")
    span = config["adapter"].get("value_range")
    if span is not None and not _is_range(span):
        raise HeadError(f"{path} is damaged: its value_range is {str(span)[:60]!r}. Get it again.")
    if config["dtype"] not in DTYPES:
        raise HeadError(f"{path} is damaged: dtype {config['dtype']!r} is none that a head has. Get it again.")
    if not {FEEDBACK} <= set(config["files"]) <= {FEEDBACK, DISCRIMINATOR}:
        raise HeadError(f"{path} names files that no head has: {sorted(config['files'])}.")


def _is_range(span: Any) -> bool:
    numbers = isinstance(span, list) and len(span) == 2 and all(type(side) in (int, float) for side in span)
    return numbers and -1e9 < span[0] < span[1] < 1e9


def check_sizes(config: Mapping[str, Any], feedback: Mapping[str, Tensor]) -> None:
    """Refuse modules that would be larger than what the file of their weights holds, before they are made."""
    largest = max([64, len(feedback), *(side for tensor in feedback.values() for side in tensor.shape)])
    if len(config["links"]) > max(1, len(feedback)) + 64:
        raise HeadError(f"The head's config is damaged: {len(config['links'])} links, more than its weights are for.")
    for link in config["links"]:
        module = link.get("module") if isinstance(link, dict) else None
        if not isinstance(module, dict):
            raise HeadError("The head's config is damaged: a link without a module. Get it again.")
        for key, value in module.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not abs(number) <= largest:
                    raise HeadError(f"The head's config is damaged: {key}={number} fits none of its weights.")


def _tensors(path: Path, facts: Any) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise HeadError(f"The head is incomplete: {path} is missing. Get it again.")
    if not isinstance(facts, dict) or path.stat().st_size != facts.get("bytes") or sha256(path) != facts.get("sha256"):
        raise HeadError(
            f"{path} is damaged or belongs to another head: its size or hash is not the one that "
            f"{CONFIG} names. Get the head again."
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadError(f"{path} cannot be read: {error}. Get the head again.") from error
