"""Heads on the Hugging Face Hub: pushed in one commit, pulled with one line.

Example:
    >>> loop.push_to_hub("me/dcgan-faces-feedback", license="mit")                  # doctest: +SKIP
    >>> loop = fbwrap.from_pretrained("me/dcgan-faces-feedback", G, D)              # doctest: +SKIP

Only the three files that a head has are asked for, by name, of one commit; sizes are looked at before anything is
downloaded, hashes before anything is read.
"""

import logging
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import nn

from .card import FIELDS, card
from .errors import HeadError, HubError, SettingError
from .head import from_folder, save_pretrained
from .headfiles import CONFIG, DISCRIMINATOR, MOST_CONFIG_BYTES, config_of
from .loop import FeedbackLoop

logger = logging.getLogger("fbwrap")

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_README = "README.md"
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
MOST_BYTES = 4 << 30
_TRIES = 3
Result = TypeVar("Result")


def push_to_hub(
    loop: FeedbackLoop,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    dtype: Literal["fp16", "bf16"] | None = None,
    discriminator: Any = "auto",
    license: str | None = None,
    base_model: str | None = None,
    task: str = "image-to-image",
    tags: Sequence[str] = (),
    metrics: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Write a head to the Hub, in one commit; the repository is made if need be.

    Args:
        repo_id: ``"user/name"``.
        private, token, revision, commit_message, create_pr: as of ``huggingface_hub.HfApi.create_commit``; a branch
            that is not there is made.
        dtype, discriminator: as of ``save_pretrained``.
        license, base_model, task, tags, metrics: for the model card, which is written only if there is none; see
            :func:`fbwrap.card.card`.
        pictures: files (PNG, GIF) that go with the card.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        HubError: no such user, no right to write, no network. Nothing is half-written there.
        SettingError: an id or a metric that cannot be.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    _check_id(repo_id)
    if wrong := [row for row in metrics if not set(FIELDS) <= set(row)]:
        raise SettingError(f"metrics holds {dict(wrong[0])}: each wants {', '.join(FIELDS)}.")
    if wrong := [row for row in metrics if not math.isfinite(float(row["value"]))]:
        raise SettingError(f"metrics holds {dict(wrong[0])}: its value is no number.")
    files = [Path(picture) for picture in pictures]
    if absent := [path for path in files if not path.is_file()]:
        raise SettingError(f"There is no picture {absent[0]}.")
    if wrong_files := [path for path in files if path.suffix.lower() not in _PICTURES]:
        raise SettingError(f"{wrong_files[0]} is no picture: pass {', '.join(_PICTURES)}.")
    if len({path.name for path in files}) < len(files):
        raise SettingError("Two pictures have the same name: on the Hub they lie in one folder.")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary, _told(repo_id):
        folder = save_pretrained(loop, temporary, dtype=dtype, discriminator=discriminator)
        text = card(
            config_of(folder), repo_id, license=license, base_model=base_model, task=task, tags=tags,
            metrics=metrics, pictures=[path.name for path in files],
        )  # fmt: skip
        _again(lambda: api.create_repo(repo_id, private=private, exist_ok=True))
        if revision is not None and not create_pr and not revision.startswith("refs/"):
            _again(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
        info = _again(lambda: api.model_info(repo_id, revision=revision))
        if private and info.private is False:
            raise SettingError(f"{repo_id} is there already, and public. Make it private on the Hub, then push again.")
        there = {sibling.rfilename for sibling in info.siblings or []}
        paths = {path.name: path for path in folder.iterdir() if path.is_file()}
        paths |= {path.name: path for path in files}
        if _README not in there:
            (folder / _README).write_text(text, encoding="utf-8")
            paths[_README] = folder / _README
        operations: list[Any] = [CommitOperationAdd(name, path) for name, path in sorted(paths.items())]
        if DISCRIMINATOR in there and DISCRIMINATOR not in paths:
            operations.append(CommitOperationDelete(DISCRIMINATOR))
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message or "Upload a feedback head",
            revision=revision,
            create_pr=create_pr,
            parent_commit=info.sha,
        )
    logger.info("%s is at %s, commit %s.", repo_id, commit.commit_url, commit.oid)
    return str(commit.pr_url or commit.commit_url)


def from_pretrained(
    repo_or_dir: str | os.PathLike[str],
    generator: Any,
    discriminator: nn.Module | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    max_bytes: int = MOST_BYTES,
    **options: Any,
) -> FeedbackLoop:
    """Attach a head from a folder or from the Hub to a generator and discriminator.

    Example:
        >>> loop = fbwrap.from_pretrained("me/dcgan-faces-feedback", G, D)          # doctest: +SKIP

    Args:
        repo_or_dir: a folder that ``save_pretrained`` wrote, or ``"user/name"``.
        generator, discriminator, options: as of :func:`fbwrap.head.from_folder`.
        revision: a branch, tag or commit; its hash is logged.
        token, cache_dir, local_files_only: as of ``huggingface_hub.hf_hub_download``.
        max_bytes: larger files are not downloaded.

    Raises:
        HubError: no such repository or revision, no right to read it, no network and nothing in the cache.
        HeadError: as of :func:`fbwrap.head.from_folder`.
    """
    folder = Path(repo_or_dir)
    if not folder.is_dir() and isinstance(repo_or_dir, str) and _REPO.fullmatch(repo_or_dir):
        folder = pull(
            repo_or_dir, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only,
            max_bytes=max_bytes,
        )  # fmt: skip
    elif revision is not None:
        raise SettingError(f"revision={revision!r} is for the Hub, and {repo_or_dir} is a folder.")
    return from_folder(folder, generator, discriminator, **options)


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    max_bytes: int = MOST_BYTES,
) -> Path:
    """The folder of a head from the Hub, in huggingface_hub's cache; arguments as of :func:`from_pretrained`."""
    from huggingface_hub import hf_hub_download

    _check_id(repo_id)
    how: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}

    def fetched(name: str, at: str | None, most: int) -> Path:
        if not local_files_only:
            _check_size(repo_id, name, at, token, most)
        try:
            return Path(_again(lambda: hf_hub_download(repo_id, name, revision=at, **how)))
        except Exception as error:
            if not _unreached(error):
                raise
            return Path(hf_hub_download(repo_id, name, revision=at, **{**how, "local_files_only": True}))

    with _told(repo_id):
        folder = fetched(CONFIG, revision, MOST_CONFIG_BYTES).parent
        commit = folder.name  # of the cache's snapshot: all files are of one commit
        for name, facts in config_of(folder)["files"].items():
            if not isinstance(facts, dict) or type(facts.get("bytes")) is not int:
                raise HeadError(f"{repo_id} is damaged: {CONFIG} does not say how large {name} is.")
            if facts["bytes"] > max_bytes:
                raise HeadError(
                    f"{name} of {repo_id} has {facts['bytes']} bytes: more than max_bytes={max_bytes}. If you trust "
                    "it, pass a larger max_bytes."
                )
            fetched(name, commit, facts["bytes"])
    logger.info("%s: commit %s, in %s.", repo_id, commit, folder)
    return folder


def _check_id(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise SettingError(f"{repo_id!r} is no name of a repository: write user/name ({error}).") from error
    if not _REPO.fullmatch(repo_id):
        raise SettingError(f"{repo_id!r} is no name of a repository: write user/name.")


def _check_size(repo_id: str, name: str, revision: str | None, token: str | bool | None, most: int) -> None:
    """Refuse what is larger than it should be, before it is downloaded."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        size = _again(lambda: get_hf_file_metadata(hf_hub_url(repo_id, name, revision=revision), token=token)).size
    except HfHubHTTPError as error:
        if _status(error) < 500:
            raise
        return
    except Exception:  # noqa: BLE001 -- no network: the cache may have it, and its size is looked at when it is read
        return
    if size is not None and size > most:
        raise HeadError(f"{name} of {repo_id} has {size} bytes, and should have at most {most}: it is not downloaded.")


def _again(ask: Callable[[], Result]) -> Result:
    """What the Hub answers; asked again where the fault is the server's, or the network's."""
    import time

    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(_TRIES):
        try:
            return ask()
        except Exception as error:
            faulty = isinstance(error, HfHubHTTPError) and _status(error) >= 500
            if not (faulty or _unreached(error)) or attempt == _TRIES - 1:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _unreached(error: BaseException) -> bool:
    """Whether the network failed, as huggingface_hub's HTTP library of this or that version says it."""
    library = type(error).__module__.split(".")[0]
    return library.startswith(("httpx", "httpcore", "requests", "urllib3")) or "client has been closed" in str(error)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """The Hub's errors as one sentence that says what to do."""
    from huggingface_hub import errors as hub

    try:
        yield
    except (HubError, HeadError, SettingError):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        status = _status(error)
        if isinstance(error, hub.RevisionNotFoundError):
            raise HubError(f"{name} has no such revision ({why}). Pass a branch, a tag or a commit of it.") from error
        if isinstance(error, hub.EntryNotFoundError) and not isinstance(error, hub.LocalEntryNotFoundError):
            raise HubError(f"{name} is no head, or lacks a file: {why}") from error
        if isinstance(error, hub.LocalEntryNotFoundError):
            raise HubError(
                f"{name} is not in the cache, and the Hub is not asked or not reached. Check the network, or leave out "
                "local_files_only."
            ) from error
        if isinstance(error, hub.RepositoryNotFoundError | hub.LocalTokenNotFoundError) or status in (401, 403):
            raise HubError(
                f"There is no repository {name} on the Hub, or it is private, or you may not write there ({why}). "
                "Check the name (a folder must exist), and log in (hf auth login) or pass token=."
            ) from error
        if (isinstance(error, hub.HfHubHTTPError) and 400 <= status < 500) or isinstance(error, ValueError):
            raise HubError(f"The Hub refuses what was asked of {name}: {' '.join(str(error).split())}") from error
        if isinstance(error, hub.HfHubHTTPError | OSError) or _unreached(error):
            raise HubError(f"The Hub could not be asked about {name}: {why}. Try again later.") from error
        raise
