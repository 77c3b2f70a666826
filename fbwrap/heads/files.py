"""The files of a head: ``config.json``, ``feedback.safetensors``, ``discriminator.safetensors``.

Examples:
    >>> from pathlib import Path
    >>> config_of(Path("nowhere"))
    Traceback (most recent call last):
    ...
    fbwrap.errors.HeadError: There is no head at nowhere: no such folder. Pass a folder that holds config.json.

Only JSON and safetensors are read. The config, the size and hash of each file and its name are checked before anything
else is done with it.

Files are put in their places all together. New ones are written to a folder beside them, which is renamed to
``.fbwrap-ready`` when all are whole: from then on the head is the new one, whatever happens. They are then moved, the
config last; what a killed process left there is read from there, and moved by the next who writes.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import HeadError, short
from ..files.download import MOST_CONFIG_BYTES
from .config import DISCRIMINATOR, FEEDBACK, STORED, check_config

CONFIG = "config.json"
GENERATOR = "generator.safetensors"  # of a G that learned with its head: beside it, read by nobody unless asked
FILES = (FEEDBACK, DISCRIMINATOR, CONFIG)  # in the order in which they are put in place
_READY, _PART = ".fbwrap-ready", ".fbwrap-new-"


def write(path: Path, tensors: Mapping[str, Tensor], dtype: str | None) -> dict[str, Any]:
    """Write tensors, to the disk itself; their file's size and hash."""
    import torch
    from safetensors.torch import save_file

    def stored(tensor: Tensor) -> Tensor:
        if not dtype or not tensor.is_floating_point():
            return tensor.detach().to("cpu", copy=True).contiguous()
        small = tensor.detach().to("cpu", STORED[dtype], copy=True).contiguous()
        if not torch.equal(small.isfinite(), tensor.detach().cpu().isfinite()):
            raise HeadError(f"A weight of {path.stem} is too large for dtype={dtype!r}. Pass 'bf16', or None.")
        return small

    save_file({name: stored(tensor) for name, tensor in tensors.items()}, path)
    _to_disk(path)
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def write_head(
    target: Path, tensors: Mapping[str, Mapping[str, Tensor]], config: dict[str, object], dtype: str | None
) -> None:
    """Write a head's files, all together or not at all; the config gets their sizes and hashes.

    Raises:
        HeadError: they cannot be written; what was there before is unharmed.
    """
    from safetensors import SafetensorError

    try:
        with _new_files(target) as folder:
            files = {name: write(folder / name, held, dtype) for name, held in tensors.items()}
            write_config(folder, {**config, "files": files})
    except (OSError, SafetensorError) as error:
        raise HeadError(
            f"The head could not be written to {target}: {short(error)}. Make room, or choose a folder that can be "
            "written; nothing that was there is damaged."
        ) from error


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    """Write a config, checked as it will be when it is read."""
    text = json.dumps(config, indent=2) + "\n"
    check_config(json.loads(text), CONFIG)
    path = folder / CONFIG
    path.write_text(text, encoding="utf-8")
    _to_disk(path)


@contextmanager
def _new_files(target: Path) -> Iterator[Path]:
    """A folder for new files, which take the place of a head's when the block ends well."""
    target.mkdir(parents=True, exist_ok=True)
    _recover(target)
    _remove_leftovers(target)
    folder = Path(tempfile.mkdtemp(dir=target, prefix=f"{_PART}{os.getpid()}-"))
    try:
        yield folder
        for name in FILES:
            if (folder / name).exists():
                shutil.copymode(folder / CONFIG, folder / name)  # safetensors makes them private
        folder.chmod(0o755)
        _make_ready(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with suppress(OSError):  # what is ready counts, wherever it lies
        _recover(target)


def _recover(target: Path) -> None:
    """Put files that are ready in their places."""
    ready = target / _READY
    if not ready.is_dir():
        return
    if (ready / CONFIG).exists() and not (ready / DISCRIMINATOR).exists():
        named = json.loads((ready / CONFIG).read_text(encoding="utf-8"))["files"]
        if DISCRIMINATOR not in named:
            (target / DISCRIMINATOR).unlink(missing_ok=True)
    for name in FILES:
        with suppress(FileNotFoundError):
            os.replace(ready / name, target / name)
    with suppress(OSError):
        ready.rmdir()  # another process may have put its own there by now


def _make_ready(folder: Path, target: Path) -> None:
    for _ in range(20):
        try:
            os.replace(folder, target / _READY)
            return
        except OSError:
            if not (target / _READY).is_dir():
                raise
        _recover(target)  # another process's
    raise OSError(f"{target} is being written by other processes")


def _remove_leftovers(target: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in target.glob(f"{_PART}*"):
        number = path.name.removeprefix(_PART).partition("-")[0]
        if number.isdigit() and not _runs(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """The hash of a file, as a config names it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_of(folder: Path, name: str) -> Path:
    """Where a head's file is: in its folder, or still where the process that wrote it was killed."""
    ready = folder / _READY / name
    return ready if ready.is_file() else folder / name


def stored(folder: Path, target: Path, dtype: str | None) -> Path:
    """A head's files, checked, once more in another folder; with ``dtype`` rounded to it."""
    config, tensors = read(folder)
    if dtype not in (None, *STORED):
        raise HeadError(f"dtype={dtype!r}: pass {' or '.join(map(repr, STORED))}, or None.")
    for name, held in tensors.items():
        if dtype is None:
            shutil.copyfile(path_of(folder, name), target / name)
        else:
            config["files"][name] = write(target / name, held, dtype)
    write_config(target, config)
    return target


def read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """A head's config and tensors, checked."""
    for _ in range(20):
        config, before = config_of(folder), folder.stat().st_mtime_ns
        try:
            return config, {name: _tensors(folder, name, facts) for name, facts in config["files"].items()}
        except HeadError:
            if folder.stat().st_mtime_ns == before and config_of(folder) == config:
                raise  # no other process writes here
    raise HeadError(f"{folder} is being written by another process. Try again when it is done.")


def config_of(folder: Path) -> dict[str, Any]:
    """A head's config, checked."""
    if not folder.is_dir():
        raise HeadError(f"There is no head at {folder}: no such folder. Pass a folder that holds {CONFIG}.")
    for _ in range(20):
        path = path_of(folder, CONFIG)
        try:
            if path.stat().st_size > MOST_CONFIG_BYTES:
                raise HeadError(f"{path} is larger than any head's config ({MOST_CONFIG_BYTES} bytes).")
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if path_of(folder, CONFIG).is_file():
                continue  # another process has put it in its place
            break
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise HeadError(f"{path} cannot be read: {short(error)}. The head is damaged; get it again.") from error
        check_config(config, str(path))
        return config
    raise HeadError(f"{folder} is not a head: it holds no {CONFIG}.")


def check_sizes(config: Mapping[str, Any], feedback: Mapping[str, Tensor]) -> None:
    """Refuse modules that would be larger than what the file of their weights holds, before they are made."""
    largest = max([64, len(feedback), *(side for tensor in feedback.values() for side in tensor.shape)])
    for link in config["links"]:
        for key, value in link["module"].items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not abs(number) <= largest:
                    raise HeadError(f"The head's config is damaged: {key}={number} fits none of its weights.")


def _tensors(folder: Path, name: str, facts: Mapping[str, object]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = path_of(folder, name)
    if not path.is_file():
        raise HeadError(f"The head is incomplete: {path} is missing. Download or copy the head again.")
    held = None
    try:
        if path.stat().st_size == facts["bytes"] and sha256(path) == facts["sha256"]:
            held = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise HeadError(f"{path} cannot be read: {short(error)}. Download or copy the head again.") from error
    if held is None:
        raise HeadError(
            f"{path} is damaged or belongs to another head: its size or hash is not the one that {CONFIG} names. Get "
            "the head again."
        )
    if (wrong := not_finite(name, held)) is not None:
        raise HeadError(
            f"{path} is damaged: its weight {wrong[:100]!r} holds NaN or infinity. Download or copy the head again."
        )
    return held


def not_finite(file: str, tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a weight that holds NaN; of the modules' weights infinity counts too (D may keep masks of it)."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point():
            fine = tensor.isfinite() if file == FEEDBACK else ~tensor.isnan()
            if not bool(fine.all()):
                return key
    return None
