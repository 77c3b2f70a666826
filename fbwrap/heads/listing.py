"""Which heads there are on the Hub.

Examples:
    >>> for head in fbwrap.list_heads(base="them/gan"):                             # doctest: +SKIP
    ...     print(head)
    me/dcgan-faces-feedback   base them/gan   unconditional-image-generation   12 downloads   2026-01-31

Heads are found by their tag, ``fbwrap``, which every model card has that fbwrap writes. What the Hub says of them is
what their authors wrote: it is shown, and nothing of it is run or opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SettingError, short
from ..files.download import hub_errors

TAG = "fbwrap"
_BASE, _MOST = "base_model:", 1000


@dataclass(frozen=True)
class HeadInfo:
    """A head on the Hub.

    Attributes:
        repo_id: ``"user/name"``, for :func:`fbwrap.from_pretrained`.
        base: the repository of its generator, if the card names one.
        task: as the Hub names tasks; None: the card names none.
        downloads: of the last 30 days.
        updated: the day of its last change, ``"2026-01-31"``; ``""``: unknown.
        tags: all that the Hub knows.
    """

    repo_id: str
    base: str | None
    task: str | None
    downloads: int
    updated: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        parts = [self.repo_id, f"base {self.base}" if self.base else "", self.task or "", f"{self.downloads} downloads"]
        return "   ".join(short(part, 100) for part in [*parts, self.updated] if part)


def list_heads(
    search: str | None = None,
    *,
    base: str | None = None,
    task: str | None = None,
    author: str | None = None,
    limit: int = 50,
    token: str | bool | None = None,
) -> list[HeadInfo]:
    """Heads on the Hub, those that are downloaded most first.

    Args:
        search: a part of their names.
        base: of this generator, ``"user/name"``, as the cards say.
        task: as the Hub names tasks: ``"image-to-image"``, ``"unconditional-image-generation"``.
        author: a user or an organisation.
        limit: how many at most, 1 to 1000.
        token: as of ``huggingface_hub.HfApi``.

    Raises:
        HubError: the Hub is not reached.
        SettingError: a limit that cannot be.
    """
    from huggingface_hub import HfApi

    if type(limit) is not int or not 1 <= limit <= _MOST:
        raise SettingError(f"limit={limit!r}: pass how many heads at most, 1 to {_MOST}.")
    wanted = [TAG, *([f"{_BASE}{base}"] if base else [])]
    with hub_errors("The list of heads"):
        found: Sequence[Any] = list(
            HfApi(token=token).list_models(
                filter=wanted, search=search, author=author, pipeline_tag=task, sort="downloads", limit=limit
            )
        )
    return [_info(model) for model in found]


def _info(model: Any) -> HeadInfo:
    tags = tuple(str(tag) for tag in model.tags or ())
    bases = [tag.removeprefix(_BASE) for tag in tags if tag.startswith(_BASE)]
    base = next((name for name in bases if ":" not in name), None)  # base_model:finetune:… stands beside it
    changed = model.last_modified or model.created_at
    day = changed.date().isoformat() if changed is not None else ""
    return HeadInfo(str(model.id), base, model.pipeline_tag, int(model.downloads or 0), day, tags)
