"""The feedback loop as users have it: it runs (:mod:`fbwrap.feedback.loop`), and it is saved.

Examples:
    >>> loop = fbwrap.attach(G, D, example=z)                 # doctest: +SKIP
    >>> loop.save_pretrained("head")                          # doctest: +SKIP
    >>> loop.push_to_hub("me/dcgan-faces-feedback")           # doctest: +SKIP
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from .feedback.loop import Loop
from .heads import hub, saving
from .heads.card import CardDetails


class FeedbackLoop(Loop):
    """G and D with feedback modules between them. Made by :func:`fbwrap.attach`.

    Calling it takes and returns what G takes and returns. ``parameters()``, ``state_dict()``,
    ``train()`` and ``to()`` are those of the feedback modules alone: G and D are never registered
    inside it. It starts in eval mode.
    """

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        discriminator: Literal["auto", "all", "none"] = "auto",
        dtype: Literal["fp16", "bf16"] | None = None,
        trained_on: Mapping[str, object] | None = None,
    ) -> Path:
        """Write a head: the modules, their settings, and D where it differs from the one it came from.

        Args:
            folder: made if need be; other files in it stay.
            discriminator: ``"auto"``: D's weights if they differ from those at attach, and of them only
                the part that the loop runs; ``"all"``: all of D; ``"none"``: nothing of D.
            dtype: ``"fp16"`` or ``"bf16"``: floating-point weights are stored so, at half the size, and rounded; at
                load they get the dtype back that they have now. None: as they are.
            trained_on: plain data about the training, stored as it is.

        Returns:
            The folder.

        Raises:
            HeadError: the folder cannot be written; what was in it before is unharmed.
        """
        return saving.save_pretrained(self, folder, discriminator=discriminator, dtype=dtype, trained_on=trained_on)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        discriminator: Literal["auto", "all", "none"] = "auto",
        pictures: Sequence[str | os.PathLike[str]] | Literal["auto"] = "auto",
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
    ) -> str:
        """Write the head to the Hugging Face Hub, in one commit; the repository is made if need be.

        Args:
            repo_id: ``"user/name"``.
            discriminator, dtype: as of :meth:`save_pretrained`.
            pictures: files for the card; ``"auto"``: four samples without feedback, with, and over strengths, if G
                makes pictures of noise and matplotlib is there.
            private, token, revision, commit_message, create_pr: as of ``huggingface_hub.HfApi.create_commit``; a
                branch that is not there is made.
            license, base_model, task, tags, metrics: for the model card, which is written only if there is none; see
                :class:`~fbwrap.heads.card.CardDetails`. ``base_model`` is the generator's own, if it came from the Hub.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            HubError: no such user, no right to write, no network. Nothing is half-written there.
            SettingError: an id or a metric that cannot be.
        """
        upload = hub.Upload(private, token, revision, commit_message, create_pr)
        details = CardDetails(license, base_model, task, tags, metrics)
        return hub.push_loop(
            self, repo_id, upload, details, discriminator=discriminator, dtype=dtype, pictures=pictures
        )
