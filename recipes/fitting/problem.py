"""What is to be improved, and by what it is told: G, its inputs, the three parts of the data, the space.

Examples:
    >>> problem = Problem.of(G, D, images, latents, example=None, seed=0, folder=None, features=None)  # doctest: +SKIP
    >>> problem.validation.distance(G)                                                                # doctest: +SKIP
    97.7
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fbwrap.engine.fingerprint import fingerprint
from fbwrap.engine.trace import device_of
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import critic_input_of, image_of
from fbwrap.files.atomic import atomic_write

from ..data.batches import Batches
from ..training.loss_choice import chosen_loss
from ..training.steps import as_inputs
from .clusters import pseudo_classes
from .measure import Part
from .parts import split
from .space import hash_of, learned_space
from .ways import Way

_BATCH = 250
_FEWEST_SAMPLES = 500  # generated for a comparison, where the held-out part is smaller


@dataclass(frozen=True)
class Problem:
    """All that a fit works on.

    Attributes:
        generator, discriminator: as given; G is in eval mode.
        real: the training part's samples.
        classes: of each of them: the user's, or pseudo-classes.
        labelled: whether they are the user's.
        latents: ``f(n)``: inputs of G for n samples.
        validation, test: held-out parts. Only the verdict looks at ``test``.
        space: what distances are measured in, in words.
        takes_classes: whether the D that was given is called with a class beside the sample.
        attach: arguments of :func:`fbwrap.attach` for the D that was given.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    real: Tensor
    classes: Tensor
    labelled: bool
    latents: Callable[[int], object]
    validation: Part
    test: Part
    space: str
    takes_classes: bool
    attach: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return tuple(self.real.shape[1:])

    @property
    def example(self) -> Any:
        """Inputs of G for two samples."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self.latents(2)

    def real_for(self, way: Way) -> Tensor | tuple[Tensor, Tensor]:
        """What a way's D is called with for real data: the samples, with their classes where it needs them."""
        needs = self.takes_classes if way.teaches == "published" else way.named
        return (self.real, self.classes) if needs else self.real

    def call_for(self, way: Way) -> dict[str, Any]:
        """How a way's D is called and read: arguments of :func:`fbwrap.attach`."""
        return dict(self.attach) if way.teaches == "published" else {"response": "[0]"}

    def loss_for(self, way: Way) -> str:
        """What a way's D learns by: a published one goes on with its own loss, where anything tells it."""
        D = self.discriminator if way.teaches == "published" else None
        return (D is not None and chosen_loss(self.generator, D)) or "bce"

    def check_folder(self, folder: Path, seed: int, steps: int) -> None:
        """Note in the folder what is fitted there; refuse one in which it was something else.

        Raises:
            SettingError: it holds a fit of other data, of another G or D, of another seed or number of steps.
        """
        D = self.discriminator
        now = {
            "data": hash_of(self.real, seed), "G": fingerprint(self.generator)["weights"],
            "D": fingerprint(D)["weights"] if D is not None else None, "seed": seed, "steps": steps,
        }  # fmt: skip
        path = folder / "fit.json"
        before = json.loads(path.read_text()) if path.is_file() else now
        if differ := [name for name, value in now.items() if before.get(name) != value]:
            raise SettingError(
                f"{folder} holds a fit with another {differ[0]}. Choose another out=, or remove it to start anew."
            )
        with atomic_write(path) as part:
            part.write_text(json.dumps(now))

    @classmethod
    def of(
        cls,
        generator: nn.Module,
        discriminator: nn.Module | None,
        data: Any,
        latents: Any,
        *,
        seed: int,
        folder: Path | None,
        features: Callable[[Tensor], Tensor] | None,
        attach: dict[str, Any],
    ) -> "Problem":
        """Split the data, learn a space, find pseudo-classes; look whether G makes what the data holds.

        Raises:
            SettingError: too little data, or samples of another shape than G's.
        """
        device = device_of(generator)
        parts = split(data, seed)
        real, *labels = parts.training if isinstance(parts.training, tuple) else (parts.training,)
        draw = latents if callable(latents) else Batches(latents, seed + 1, device).next
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            args, kwargs = as_inputs(draw(2))
            made = image_of(generator(*args, **kwargs))
        if made.shape[1:] != real.shape[1:]:
            raise SettingError(
                f"G makes samples of the shape {tuple(made.shape[1:])}, and the data's are {tuple(real.shape[1:])}. "
                "Bring the data to G's shape (of pictures: size=, value_range=)."
            )
        shown = critic_input_of(attach.get("critic_input"))[1](made, *args, **kwargs) if discriminator else made
        takes_classes = isinstance(shown, tuple) and len(shown) > 1
        if takes_classes and not labels:
            raise SettingError(
                "D is called with a class beside each sample, and the data has none. Pass data=(samples, labels); or "
                "leave D out: one that needs no class is made."
            )
        space = features or learned_space(real, seed, folder)
        held = [part[0] if isinstance(part, tuple) else part for part in (parts.validation, parts.test)]
        many = max(_FEWEST_SAMPLES, len(held[0]))
        inputs = [_drawn(draw, many, seed + 1000 * (place + 1)) for place in range(2)]
        return cls(
            generator, discriminator, real, labels[0] if labels else pseudo_classes(real, seed=seed), bool(labels),
            draw, Part(held[0], inputs[0], space), Part(held[1], inputs[1], space),
            "the features that were passed" if features else "64 features learned on the training part without labels",
            takes_classes,
            attach,
        )  # fmt: skip


def _drawn(draw: Callable[[int], object], many: int, seed: int) -> list[object]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [draw(min(_BATCH, many - begin)) for begin in range(0, many, _BATCH)]
