"""``fbwrap.from_pretrained`` and ``fbwrap.load_pretrained``: a loop from a head in a folder or on the Hub.

Examples:
    >>> loop = fbwrap.from_pretrained("me/dcgan-faces-feedback", G, D)              # doctest: +SKIP
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .attaching.loading import from_folder
from .errors import HeadError, SettingError
from .files.download import MOST_BYTES, REPO
from .heads.files import config_of
from .heads.hub import pull
from .loop import FeedbackLoop
from .recognition.named import load_generator, pinned


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

    Examples:
        >>> loop = fbwrap.from_pretrained("me/dcgan-faces-feedback", G, D)          # doctest: +SKIP

    Args:
        repo_or_dir: a folder that ``save_pretrained`` wrote, or ``"user/name"``.
        generator, discriminator, options: as of :func:`fbwrap.attaching.loading.from_folder`.
        revision: a branch, tag or commit; its hash is logged.
        token, cache_dir, local_files_only: as of ``huggingface_hub.hf_hub_download``.
        max_bytes: larger files are not downloaded.

    Raises:
        HubError: no such repository or revision, no right to read it, no network and nothing in the cache.
        HeadError: as of :func:`fbwrap.attaching.loading.from_folder`.
    """
    folder = _folder(
        repo_or_dir, revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only, max_bytes=max_bytes
    )  # fmt: skip
    return from_folder(folder, generator, discriminator, **options)


def load_pretrained(
    repo_or_dir: str | os.PathLike[str],
    discriminator: nn.Module | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    max_bytes: int = MOST_BYTES,
    device: str | torch.device = "cpu",
    **options: Any,
) -> FeedbackLoop:
    """A head and the generator that it is for, which it names.

    Examples:
        >>> loop = fbwrap.load_pretrained("me/x4-feedback")                         # doctest: +SKIP
        >>> image = loop(low_resolution)                                            # doctest: +SKIP

    For heads of a generator that was attached by its name on the Hub, ``"spandrel:them/sr/x4.safetensors"`` or
    ``"diffusers:them/vae"``. The same files of the same commit are fetched, safetensors and JSON alone; the
    network's class is one of those that the adapter lists. A critic made by name is made again; any other D must be
    passed.

    Args:
        discriminator, options, revision, token, cache_dir, local_files_only, max_bytes: as of :func:`from_pretrained`;
            the last four are for both repositories.
        device: where the generator goes.

    Raises:
        HeadError: the head does not say where its generator is: pass it, to :func:`from_pretrained`.
        HubError, HeadError: as of :func:`from_pretrained`.
    """
    how: dict[str, Any] = {
        "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only, "max_bytes": max_bytes,
    }  # fmt: skip
    folder = _folder(str(repo_or_dir), revision, **how)
    name = config_of(folder)["base"]
    if not pinned(name):
        raise HeadError(
            f"{repo_or_dir} does not say where to download its generator. Load the generator and pass it: "
            "fbwrap.from_pretrained(..., G), or -g and --weights on the command line."
        )
    generator, _ = load_generator(name, **how)
    loop = from_folder(folder, generator.to(device), discriminator, **options)
    loop.note(base=name)
    return loop


def _folder(repo_or_dir: str | os.PathLike[str], revision: str | None, **how: Any) -> Path:
    """The folder of a head: the one that is named, or, where there is none, that of a repository of this name."""
    folder = Path(repo_or_dir)
    if not folder.exists() and isinstance(repo_or_dir, str) and REPO.fullmatch(repo_or_dir):
        return pull(repo_or_dir, revision=revision, **how)
    if revision is not None:
        raise SettingError(f"revision={revision!r} is for the Hub, and {repo_or_dir} is a folder.")
    return folder
