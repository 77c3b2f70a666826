"""Files of the Hugging Face Hub, one by one, of one commit: sizes looked at first, faults of the server tried again.

Examples:
    >>> path, commit = download("me/head", "config.json", None, 4 << 20)             # doctest: +SKIP

What goes wrong is said in one sentence: no such repository or revision, no right, no network.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from ..errors import HeadError, HubError, SettingError, short

REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
MOST_BYTES = 4 << 30
MOST_CONFIG_BYTES = 4 << 20
_TRIES = 3
Result = TypeVar("Result")


def download(
    repo_id: str,
    name: str,
    revision: str | None,
    most: int,
    *,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> tuple[Path, str]:
    """A file in huggingface_hub's cache, and the commit that it is of.

    Args:
        most: bytes; a larger file is not downloaded.
        revision, token, cache_dir, local_files_only: as of ``huggingface_hub.hf_hub_download``.
    """
    from huggingface_hub import hf_hub_download

    how: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "revision": revision}
    if not local_files_only:
        size = _announced(repo_id, name, revision, token, most)
        if "tqdm_class" in signature(hf_hub_download).parameters:  # older versions look at the size in the end
            how["tqdm_class"] = _stopping_at(most if size is None else size, f"{name} of {repo_id}")
    try:
        path = retry(lambda: hf_hub_download(repo_id, name, local_files_only=local_files_only, **how))
    except Exception as error:
        if not unreached(error):
            raise
        how.pop("tqdm_class", None)
        path = hf_hub_download(repo_id, name, local_files_only=True, **how)
    held = Path(path)
    if held.stat().st_size > most:
        raise HeadError(f"{name} of {repo_id} has {held.stat().st_size} bytes, and should have at most {most}.")
    return held, held.parents[name.count("/")].name


def check_id(repo_id: str) -> None:
    """Refuse what is no name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise SettingError(f"{repo_id!r} is not a repository name: write user/name ({error}).") from error
    if not REPO.fullmatch(repo_id):
        raise SettingError(f"{repo_id!r} is not a repository name: write user/name.")


def _stopping_at(most: int, what: str) -> type:
    """A progress bar that ends a download which brings more than was announced."""
    from huggingface_hub.utils.tqdm import tqdm

    class Stopping(tqdm):
        received = 0

        def update(self, n: float | None = 1) -> bool | None:
            """Count bytes."""
            self.received += int(n or 0)
            if self.received > most:
                raise HeadError(f"The server sends more of {what} than the {most} bytes that it should have: cut off.")
            shown: bool | None = super().update(n)
            return shown

    return Stopping


def _announced(repo_id: str, name: str, revision: str | None, token: str | bool | None, most: int) -> int | None:
    """The size of a file, as the server has it; what is larger than it should be is refused before it is downloaded."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        size = retry(lambda: get_hf_file_metadata(hf_hub_url(repo_id, name, revision=revision), token=token)).size
    except HfHubHTTPError as error:
        if _status(error) < 500:
            raise
        return None
    except Exception:  # noqa: BLE001 -- no network: the cache may have it, and its size is looked at when it is read
        return None
    if size is not None and size > most:
        raise HeadError(f"{name} of {repo_id} has {size} bytes, and should have at most {most}: it is not downloaded.")
    return size


def retry(ask: Callable[[], Result]) -> Result:
    """What the Hub answers; asked again where the fault is the server's, or the network's."""
    import time

    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(_TRIES):
        try:
            return ask()
        except Exception as error:
            faulty = isinstance(error, HfHubHTTPError) and _status(error) >= 500
            cut_off = unreached(error) and not type(error).__name__.startswith(
                ("Connect", "NewConnection", "ProxyError")
            )
            if not (faulty or cut_off) or attempt == _TRIES - 1:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def unreached(error: BaseException) -> bool:
    """Whether the network failed, as huggingface_hub's HTTP library of this or that version says it."""
    library = type(error).__module__.split(".")[0]
    return library.startswith(("httpx", "httpcore", "requests", "urllib3")) or "client has been closed" in str(error)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """The Hub's errors as one sentence that says what to do."""
    from huggingface_hub import errors as hub

    try:
        yield
    except (HubError, HeadError, SettingError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {short(str(error).strip().splitlines()[0] if str(error) else '')}"
        status = _status(error)
        if isinstance(error, hub.RevisionNotFoundError):
            raise HubError(f"{name} has no such revision ({why}). Pass a branch, a tag or a commit of it.") from error
        if isinstance(error, hub.EntryNotFoundError) and not isinstance(error, hub.LocalEntryNotFoundError):
            raise HubError(f"{name} is not a head, or lacks a file: {why}") from error
        if isinstance(error, hub.LocalEntryNotFoundError):
            raise HubError(
                f"{name} is not in the cache, and the Hub was not contacted. Check the network, and turn off "
                "local_files_only, --offline or HF_HUB_OFFLINE."
            ) from error
        if isinstance(error, hub.RepositoryNotFoundError | hub.LocalTokenNotFoundError) or status in (401, 403):
            raise HubError(
                f"The Hub has no repository {name}, or you may not use it ({why}). Check the name; if you mean "
                "a local folder, it does not exist. For private ones log in (hf auth login) or pass token=."
            ) from error
        if (isinstance(error, hub.HfHubHTTPError) and 400 <= status < 500) or isinstance(error, ValueError):
            raise HubError(f"The Hub refuses what was asked of {name}: {short(error, 240)}") from error
        if isinstance(error, hub.HfHubHTTPError | OSError) or unreached(error):
            raise HubError(f"The Hub could not be asked about {name}: {why}. Try again later.") from error
        raise
