"""Heads on the Hugging Face Hub: pushed in one commit, pulled with one line.

Examples:
    >>> loop.push_to_hub("me/dcgan-faces-feedback", license="mit")                  # doctest: +SKIP
    >>> loop = fbwrap.from_pretrained("me/dcgan-faces-feedback", G, D)              # doctest: +SKIP

Only the three files that a head has are asked for, by name, of one commit; sizes are looked at before anything is
downloaded, hashes before anything is read.
"""

import logging
import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from .. import plots
from ..errors import HeadError, SettingError
from ..feedback.loop import Loop
from ..files.download import MOST_BYTES, MOST_CONFIG_BYTES, check_id, download, hub_errors, retry
from ..files.pictures import IN_BROWSERS, is_picture
from ..recognition.named import repo_of
from .card import FIELDS, CardDetails, card
from .config import DISCRIMINATOR
from .files import CONFIG, GENERATOR, config_of, stored
from .inputs import draw_inputs, takes_pictures, value_range_of
from .saving import save_pretrained

logger = logging.getLogger("fbwrap")

_README = "README.md"


@dataclass(frozen=True)
class Upload:
    """How a commit is made: as of ``huggingface_hub.HfApi.create_commit``; a branch that is not there is made."""

    private: bool | None = None
    token: str | bool | None = None
    revision: str | None = None
    commit_message: str | None = None
    create_pr: bool = False

    @property
    def branch(self) -> str | None:
        """The branch that has to be there before."""
        named = None if self.create_pr else self.revision
        return None if named is None or named.startswith("refs/") else named


def push_loop(
    loop: Loop,
    repo_id: str,
    upload: Upload,
    details: CardDetails,
    *,
    discriminator: Literal["auto", "all", "none"],
    dtype: Literal["fp16", "bf16"] | None,
    pictures: Sequence[str | os.PathLike[str]] | Literal["auto"],
) -> str:
    """Write a loop's head to the Hub: :meth:`fbwrap.FeedbackLoop.push_to_hub`."""
    check_id(repo_id)
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_pretrained(loop, Path(temporary) / "head", discriminator=discriminator)
        files = _pictures(loop, Path(temporary)) if pictures == "auto" else pictures
        return _push(folder, repo_id, upload, details, dtype, files)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


@torch.no_grad()
def _pictures(loop: Loop, folder: Path) -> list[Path]:
    """What the head does to four samples of noise, or to the example's pictures; nothing where that cannot be shown."""
    inputs, named = loop.facts.example
    output = loop.traces[0].sample_shape
    if not is_picture(output) or find_spec("matplotlib") is None:
        return []
    if any(takes_pictures((each,)) for each in (*inputs, *named.values())):
        if loop.facts.example_is_made:
            return []  # noise, where a picture should be
    else:
        inputs, named = draw_inputs(loop, 4, seed=0)
    span = value_range_of(loop)
    before, after = loop.rollout(*inputs, steps=0, **named).output, loop(*inputs, **named)
    return [
        plots.save(plots.difference(before, after, span), folder / "difference.png", loop, seed=0),
        plots.save(plots.strengths(loop, *inputs, value_range=span, **named), folder / "strengths.png", seed=0),
    ]


def push_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    dtype: Literal["fp16", "bf16"] | None = None,
    license: str | None = None,
    base_model: str | None = None,
    task: str = "image-to-image",
    tags: Sequence[str] = (),
    metrics: Sequence[Mapping[str, object]] = (),
    pictures: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Write a head that lies in a folder to the Hub, in one commit; its networks are not needed. The weights of a G
    that learned with it (``generator.safetensors``, as the recipes write it) go with it.

    Args:
        repo_id: ``"user/name"``; the repository is made if need be.
        private, token, revision, commit_message, create_pr: as of ``huggingface_hub.HfApi.create_commit``; a branch
            that is not there is made.
        dtype: as of ``save_pretrained``.
        license, base_model, task, tags, metrics: for the model card, which is written only if there is none; see
            :class:`~fbwrap.heads.card.CardDetails`. ``base_model`` is the generator's own, if it came from the Hub.
        pictures: files (PNG, GIF) that go with the card.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        HubError: no such user, no right to write, no network. Nothing is half-written there.
        SettingError: an id or a metric that cannot be.
    """
    upload = Upload(private, token, revision, commit_message, create_pr)
    return _push(folder, repo_id, upload, CardDetails(license, base_model, task, tags, metrics), dtype, pictures)


def _push(
    folder: str | os.PathLike[str],
    repo_id: str,
    upload: Upload,
    details: CardDetails,
    dtype: Literal["fp16", "bf16"] | None,
    pictures: Sequence[str | os.PathLike[str]],
) -> str:
    from huggingface_hub import HfApi

    check_id(repo_id)
    _check_metrics(details.metrics)
    files = _checked_pictures(pictures)
    api = HfApi(token=upload.token)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            held = stored(Path(folder), Path(temporary), dtype)
        except OSError as error:
            raise HeadError(f"The head in {folder} cannot be copied for the upload: {error}") from error
        config = config_of(held)
        if config["base"] and not details.base_model:
            details = replace(details, base_model=repo_of(config["base"]))
        text = card(config, repo_id, details, pictures=[path.name for path in files])
        with hub_errors(repo_id):
            info = _repository(api, repo_id, upload)
            there = {sibling.rfilename for sibling in info.siblings or []}
            paths = {path.name: path for path in [*held.iterdir(), *files] if path.is_file()}
            if config["trained_on"].get("generator") == GENERATOR:
                paths |= _generators_weights(Path(folder), there)
            if _README in there:
                logger.info("%s has a README.md: it stays as it is, without what was said for the card.", repo_id)
            else:
                (held / _README).write_text(text, encoding="utf-8")
                paths[_README] = held / _README
            commit = api.create_commit(
                repo_id,
                _operations(paths, there),
                commit_message=upload.commit_message or "Upload a feedback head",
                revision=upload.revision,
                create_pr=upload.create_pr,
                parent_commit=info.sha,
            )
    logger.info("%s is at %s, commit %s.", repo_id, commit.commit_url, commit.oid)
    return str(commit.pr_url or commit.commit_url)


def _operations(paths: Mapping[str, Path], there: Collection[str]) -> list[Any]:
    """The files of a commit; an earlier head's D, which this one has not, goes."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationAdd(name, path) for name, path in sorted(paths.items())]
    if DISCRIMINATOR in there and DISCRIMINATOR not in paths:
        operations.append(CommitOperationDelete(DISCRIMINATOR))
    return operations


def _check_metrics(metrics: Sequence[Mapping[str, object]]) -> None:
    if wrong := [row for row in metrics if not set(FIELDS) <= set(row)]:
        raise SettingError(f"metrics holds {dict(wrong[0])}: each needs {', '.join(FIELDS)}.")
    if wrong := [row for row in metrics if not _finite(row["value"])]:
        raise SettingError(f"metrics holds {dict(wrong[0])}: its value is not a number.")


def _checked_pictures(pictures: Sequence[str | os.PathLike[str]]) -> list[Path]:
    files = [Path(picture) for picture in pictures]
    if absent := [path for path in files if not path.is_file()]:
        raise SettingError(f"There is no picture {absent[0]}.")
    if wrong := [path for path in files if path.suffix.lower() not in IN_BROWSERS]:
        raise SettingError(f"{wrong[0]} is not a picture: pass {', '.join(IN_BROWSERS)}.")
    if len({path.name for path in files}) < len(files):
        raise SettingError("Two pictures have the same name: on the Hub they lie in one folder.")
    return files


def _repository(api: Any, repo_id: str, upload: Upload) -> Any:
    """What the repository holds at the revision; it, and the branch, are made if need be."""
    retry(lambda: api.create_repo(repo_id, private=upload.private, exist_ok=True))
    if branch := upload.branch:
        retry(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True))
    info = retry(lambda: api.model_info(repo_id, revision=upload.revision))
    if upload.private and info.private is False:
        raise SettingError(f"{repo_id} is there already, and public. Make it private on the Hub, then push again.")
    return info


def _generators_weights(folder: Path, there: set[str]) -> dict[str, Path]:
    """The weights of a G that learned with the head, for nobody else has that G."""
    if (folder / GENERATOR).is_file():
        return {GENERATOR: folder / GENERATOR}
    if GENERATOR not in there:
        logger.warning(
            "G was trained together with this head, and the head needs its weights. Push the training "
            "folder's head, which holds %s (fbwrap push), or upload G's weights yourself.", GENERATOR,
        )  # fmt: skip
    return {}


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    max_bytes: int = MOST_BYTES,
) -> Path:
    """The folder of a head from the Hub, in huggingface_hub's cache; arguments as of :func:`fbwrap.from_pretrained`."""
    check_id(repo_id)
    how: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
    with hub_errors(repo_id):
        path, commit = download(repo_id, CONFIG, revision, MOST_CONFIG_BYTES, **how)
        folder = path.parent
        for name, facts in config_of(folder)["files"].items():
            if not isinstance(facts, dict) or type(facts.get("bytes")) is not int:
                raise HeadError(f"{repo_id} is damaged: {CONFIG} does not say how large {name} is.")
            if facts["bytes"] > max_bytes:
                raise HeadError(
                    f"{name} of {repo_id} has {facts['bytes']} bytes: more than max_bytes={max_bytes}. If you trust "
                    "it, pass a larger max_bytes."
                )
            download(repo_id, name, commit, facts["bytes"], **how)
    logger.info("%s: commit %s, in %s.", repo_id, commit, folder)
    return folder
