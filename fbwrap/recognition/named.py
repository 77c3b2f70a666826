"""Generators by name: in a file, or on the Hugging Face Hub.

Examples:
    >>> loop = fbwrap.attach("spandrel:x4.safetensors", D)                          # doctest: +SKIP
    >>> loop = fbwrap.attach("spandrel:them/sr/x4.safetensors", D)                  # doctest: +SKIP
    >>> loop = fbwrap.attach("diffusers:them/vae", D)                               # doctest: +SKIP

``NAME:FILE`` is a file or folder here; ``NAME:user/name``, ``NAME:user/name/INSIDE`` and ``…@REVISION`` are on the Hub.
From there only safetensors and JSON come, of one commit; a head keeps the name with its commit, and
:func:`fbwrap.load_pretrained` fetches the same files again.
"""

import logging
import re
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import SettingError
from ..files.download import MOST_BYTES, MOST_CONFIG_BYTES, check_id, download, hub_errors
from .plugins import adapters

logger = logging.getLogger("fbwrap")

_ON_HUB = re.compile(r"(\w[\w.-]*/\w[\w.-]*)((?:/\w[\w.-]*)*)(?:@([\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pinned(name: object) -> bool:
    """Whether a name is that of files of one commit on the Hub."""
    found = _ON_HUB.fullmatch(name.partition(":")[2]) if isinstance(name, str) else None
    return bool(found and found[3] and _COMMIT.fullmatch(found[3]))


def repo_of(name: str) -> str:
    """The repository of a name that is :func:`pinned`."""
    return "/".join(name.partition(":")[2].split("/")[:2]).partition("@")[0]


def load_generator(name: str, *, max_bytes: int = MOST_BYTES, **how: Any) -> tuple[nn.Module, str | None]:
    """The generator of a name; and, if it came from the Hub, its name with the commit.

    Args:
        max_bytes: larger files are not downloaded.
        how: ``token``, ``cache_dir``, ``local_files_only``, as of ``huggingface_hub.hf_hub_download``.

    Raises:
        SettingError: no adapter reads such files, or they are not safetensors.
        HubError: no such repository or file, no right to read it, no network.
    """
    which, colon, where = name.partition(":")
    loaders = {adapter.name: adapter for adapter in adapters() if adapter.load}
    adapter = loaders.get(which) if colon else None
    if adapter is None or adapter.load is None:
        raise SettingError(
            f"generator={name!r}: pass a torch.nn.Module, or 'NAME:FILE' or 'NAME:user/name/FILE' with NAME one of "
            f"{', '.join(loaders) or '(no adapter reads files)'}."
        )
    found = _ON_HUB.fullmatch(where)
    if found is None or (Path(where).exists() and not pinned(name)) or adapter.files is None:
        return adapter.load(where), None
    repo, inside, revision = found[1], found[2].removeprefix("/"), found[3]
    files = adapter.files(inside)
    if not files[-1].endswith(".safetensors") or not all(map(_is_safe, files)):
        raise SettingError(
            f"{name}: there is no such file here, and {files[-1] or repo} on the Hub is not safetensors, the only "
            "weights that are fetched: others can run code when they are read. Download it, and pass its path, if you "
            "trust it."
        )
    check_id(repo)
    with hub_errors(repo):
        for file in files:
            most = max_bytes if file.endswith(".safetensors") else min(max_bytes, MOST_CONFIG_BYTES)
            path, revision = download(repo, file, revision, most, **how)
    folder = path.parents[files[-1].count("/")]
    exact = f"{which}:{repo}{found[2]}@{revision}"
    logger.info("The generator: %s.", exact)
    return adapter.load(str(folder / inside)), exact


def _is_safe(file: str) -> bool:
    return file.endswith(".safetensors") or file.rsplit("/", 1)[-1] == "config.json"


def resolve_generator(generator: object) -> tuple[Any, str | None]:
    """The generator of a name (``"spandrel:x4.pth"``), or inside an object that is no module but holds one (a
    loader's descriptor), or itself; and its name with the commit, if it came from the Hub."""
    if isinstance(generator, str):
        return load_generator(generator)
    if isinstance(generator, nn.Module) or generator is None:
        return generator, None
    kinds = {kind.__name__ for kind in type(generator).__mro__}
    for adapter in adapters():
        for kind, attribute in adapter.holders.items():
            inner = getattr(generator, attribute, None) if kind in kinds else None
            if isinstance(inner, nn.Module):
                return inner, None
    return generator, None
