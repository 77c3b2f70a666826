"""Checkpoints of a run: whole or not there at all, the newest few kept, and read without running code.

Examples:
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for step in (1, 2, 3):
    ...     _ = save({"step": step}, folder, step, keep=2)
    >>> [path.name for path in found(folder)], newest(folder)
    (['checkpoint-00000002.pt', 'checkpoint-00000003.pt'], {'step': 3})
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbwrap.errors import TrainingError
from fbwrap.files.atomic import atomic_write

from .options import RENAMED, Options

logger = logging.getLogger("fbwrap")


def is_extra(name: str) -> bool:
    """Whether a name in a state_dict is a layer's extra state (``get_extra_state``): any object, seldom a tensor."""
    return name.rpartition(".")[2] == "_extra_state"


def state_of(net: nn.Module) -> dict[str, Any]:
    """A network's state without extra state that is no plain data: reading that could run code."""
    return {name: value for name, value in net.state_dict().items() if not is_extra(name) or _is_plain(value)}


def load_state(net: nn.Module, held: Mapping[str, object]) -> None:
    """Load what :func:`state_of` gave; extra state that it left out stays as it is."""
    net.load_state_dict({**{name: each for name, each in net.state_dict().items() if is_extra(name)}, **held})


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str, bytes, Tensor)


def found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("checkpoint-" + "[0-9]" * 8 + ".pt"))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within the block no other run of this machine may use the folder; the system frees it when a run is killed.

    Raises:
        TrainingError: another run is using it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if not isinstance(error, Timeout):
            raise TrainingError(f"The run cannot write to {folder}: {error}. Choose another out=.") from error
        raise TrainingError(
            f"Another run is training in {folder}. Wait for it, stop it, or choose another out=."
        ) from error
    try:
        yield
    finally:
        lock.release()


def set_aside(folder: Path) -> None:
    """Move an earlier run's checkpoints to ``previous-N``: a new run in its folder neither resumes nor prunes them."""
    if old := found(folder):
        number = next(n for n in itertools.count(1) if not (folder / f"previous-{n}").exists())
        (folder / f"previous-{number}").mkdir()
        for path in old:
            path.rename(folder / f"previous-{number}" / path.name)


def save(state: dict[str, object], folder: Path, step: int, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest ``keep``; a crash or a full disk leaves those before as
    they were."""
    path = folder / f"checkpoint-{step:08d}.pt"
    for left in folder.glob(".checkpoint-*.part.pt"):  # by a process that was killed: only one writes here
        left.unlink(missing_ok=True)
    try:
        with atomic_write(path, durable=True) as part, open(part, "wb") as file:
            torch.save(state, file)
        older = [other for other in found(folder) if other < path]
        for one in older[: max(0, len(older) - keep + 1)]:
            one.unlink()
        for one in found(folder):
            if one > path:  # the run resumed before it: it could not be read
                one.replace(one.with_suffix(".damaged"))
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"The checkpoint could not be written to {path}: {error}. Those before it are unharmed; make "
            "room or choose another out=, and resume."
        ) from error
    return path


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read (tensors and plain data only: nothing in it can run); None where
    there is none.

    Raises:
        TrainingError: there are some, and none can be read.
    """
    paths = found(folder)
    for path in reversed(paths):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except Exception as error:  # noqa: BLE001 -- a torn file fails in many ways
            logger.warning("%s cannot be read (%s); the one before it is tried.", path, type(error).__name__)
    if paths:
        raise TrainingError(f"{paths[-1]} is not a checkpoint that can be read, nor is one before it. Remove them to "
                            "start again.")  # fmt: skip
    return None


def comparable(value: object) -> Any:
    """A value with lists for tuples, as it may be compared with one that was read."""
    return [comparable(each) for each in value] if isinstance(value, tuple | list) else value


def check_fits(net: nn.Module, state: Mapping[str, object]) -> None:
    """Refuse a state whose tensors have other names or shapes than the network's, before anything is changed."""
    own, held = (
        {name: tuple(each.shape) for name, each in whole.items() if isinstance(each, Tensor)}
        for whole in (net.state_dict(), state)
    )
    if own != held:
        differ = sorted(name for name in own.keys() | held.keys() if own.get(name) != held.get(name))
        raise ValueError(f"{', '.join(differ[:3])} {'are' if len(differ) > 1 else 'is'} of another shape, or missing")


def check_same_run(state: Mapping[str, Any], options: Options, same: Mapping[str, object]) -> None:
    """Refuse a checkpoint of a run with other options, or in which something else differs: T, the links."""
    before = {RENAMED.get(name, name): value for name, value in state["options"].items()}
    was = {**asdict(Options()), **before}  # an option that is new was at rest
    differ = {name: (was.get(name), now) for name, now in asdict(options).items() if not _alike(was.get(name), now)}
    for free in ("save_every", "keep", "accumulate", "workers", "value_range"):
        differ.pop(free, None)
    if differ:
        raise TrainingError(
            f"The checkpoint is of a run with other options: {differ} (was, is). Resume with the same "
            "ones, or choose another out=."
        )
    if not isinstance(state.get("same"), dict):
        raise TrainingError(
            "The checkpoint was written by an older fbwrap. Pass another out=, or resume=False (command line: --fresh)."
        )
    for name, value in same.items():
        if not _alike(was_then := state["same"].get(name), value):
            raise TrainingError(
                f"The checkpoint belongs to another run. {name}: then {str(was_then)[:80]}, now "
                f"{str(value)[:80]}. Use the same again, or pass another out=, or resume=False (command line: "
                "--fresh)."
            )


def _alike(a: object, b: object) -> bool:
    return comparable(a) == comparable(b)
