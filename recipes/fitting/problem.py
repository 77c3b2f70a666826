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

from fbwrap.attaching.packed import pack_of
from fbwrap.engine.fingerprint import fingerprint
from fbwrap.engine.names import unwrap
from fbwrap.engine.pytree import batch_size, map_tensors, tensors
from fbwrap.engine.trace import device_of, sample_layout, trace_forward
from fbwrap.errors import SettingError
from fbwrap.feedback.critic import critic_input_of, image_of
from fbwrap.feedback.latents import Latents
from fbwrap.files.atomic import atomic_write
from fbwrap.recognition.detect import Recognised
from fbwrap.recognition.trained_with import loss_of

from ..data.batches import Batches, Pairs
from ..metrics.distances import Space
from ..training.spectral import power_iterations
from ..training.steps import as_inputs
from .clusters import pseudo_classes
from .measure import PairedPart, Part
from .parts import Parts, split
from .space import hash_of, learned_space
from .ways import Way

_DRAWN, _PAIRS = 250, 50  # inputs at a time
_BATCH, _VALUES = (4, 32), 150_000  # samples a step: so many that they have about so many values
_FEWEST_SAMPLES = 500  # generated for a comparison, where the held-out part is smaller


@dataclass(frozen=True)
class Problem:
    """All that a fit works on.

    Attributes:
        generator, discriminator: as given; G is in eval mode.
        real: the training part's samples; of pairs the targets.
        pairs: what is trained on where the data is pairs of G's input and its target; else None.
        classes: of each of them: the user's, or pseudo-classes.
        labelled: whether they are the user's.
        latents: ``f(n)``: inputs of G for n samples; None with pairs.
        validation, test: held-out parts. Only the verdict looks at ``test``.
        space: what distances are measured in, in words.
        takes_classes: whether the D that was given is called with a class beside the sample.
        attach: arguments of :func:`fbwrap.attach` for the D that was given.
        loss: that it was trained with, if the user says.
        described: how G's inputs are distributed, in words; None: nobody knows.
        channels_last: whether samples are sequences (N, T, C), as recurrent networks make them.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    real: Tensor
    pairs: Pairs | None
    classes: Tensor
    labelled: bool
    latents: Callable[[int], object] | None
    validation: Part
    test: Part
    space: str
    takes_classes: bool
    attach: dict[str, Any]
    loss: str | None = None
    described: Latents | None = None
    channels_last: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return tuple(self.real.shape[1:])

    @property
    def batch(self) -> int:
        """Samples a step: fewer of large ones."""
        return max(_BATCH[0], min(_BATCH[1], _VALUES // self.real[0].numel()))

    def batch_for(self, way: Way) -> int:
        """The same in whole packs, where a way's D judges several samples as one."""
        G, D, pack = self.generator, self.discriminator, 1
        if D is not None and way.teaches == "published":
            said = Recognised(unwrap(G), unwrap(D), self.attach.get("adapter", "auto"))
            pack = pack_of(self.attach.get("pack"), said)
        return -(-self.batch // pack) * pack

    def inputs(self, many: int) -> Any:
        """Inputs of G for so many samples at most, always the same."""
        return map_tensors(lambda tensor: tensor[:many], self.validation.inputs[0])

    @property
    def example(self) -> Any:
        """Inputs of G for two samples."""
        return self.inputs(2)

    @property
    def critic_shape(self) -> tuple[int, ...]:
        """Of what a D that is made here sees: the sample, with the input on further channels where that has its
        size."""
        if self.channels_last:
            return (self.shape[-1], *self.shape[:-1])
        if not self.sees_input:
            return self.shape
        return (self.shape[0] + self._first_input.shape[1], *self.shape[1:])

    @property
    def sees_input(self) -> bool:
        """Whether a D that is made here sees G's input beside the sample: with pairs of one size."""
        return self.pairs is not None and self._first_input.shape[2:] == self.real.shape[2:]

    @property
    def _first_input(self) -> Tensor:
        args, kwargs = as_inputs(self.example)
        return next(tensor for _, tensor in tensors((args, kwargs)))

    def data_for(self, way: Way) -> tuple[object, object]:
        """What a way trains on: what its D is called with for real data (samples, with their classes where it needs
        them; or pairs), and G's inputs."""
        if self.pairs is not None:
            return self.pairs, None
        needs = self.takes_classes if way.teaches == "published" else way.named
        return ((self.real, self.classes) if needs else self.real), self.latents

    def call_for(self, way: Way) -> dict[str, Any]:
        """How a way's D is called and read: arguments of :func:`fbwrap.attach`."""
        if way.teaches == "published":
            return dict(self.attach)
        return {"response": "[0]"} | ({"critic_input": "condition_and_output"} if self.sees_input else {})

    def loss_for(self, way: Way) -> str:
        """What a way's D learns by: a published one goes on with its own loss. Where neither the user nor an adapter
        tells it, D's with spectral norm are taken for hinge's, as nearly all of them are, others for BCE's."""
        D = self.discriminator if way.teaches == "published" else None
        if D is None:
            return "bce"
        usual = "hinge" if any(power_iterations(unwrap(D))) else "bce"
        return self.loss or loss_of(self.generator, D) or usual

    def betas_for(self, way: Way) -> tuple[float, float]:
        """Adam's decays: of a published D those that the papers of its loss take."""
        without_momentum = way.teaches == "published" and self.loss_for(way) in ("hinge", "wasserstein_gp")
        return (0.0, 0.9) if without_momentum else (0.5, 0.999)

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
                f"{folder} holds a fit whose {differ[0]} was different. Pass another out=, or delete the "
                "folder to start again."
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
        if latents is None:
            return cls._of_pairs(generator, discriminator, parts, seed, folder, features, attach)
        real, *labels = parts.training if isinstance(parts.training, tuple) else (parts.training,)
        draw = latents if callable(latents) else Batches(latents, seed + 1, device).next
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            args, kwargs = as_inputs(draw(2))
            made = image_of(generator(*args, **kwargs))
            last = made.dim() == 3 and _channels_last(generator, args, kwargs, made)
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
        many = max(_FEWEST_SAMPLES, 2 * batch_size(parts.validation))
        classes = labels[0] if labels else pseudo_classes(real, seed=seed)
        validation, test = (
            Part(part[0] if isinstance(part, tuple) else part, _drawn(draw, many, seed + 1000 * place), space)
            for place, part in enumerate((parts.validation, parts.test), 1)
        )
        return cls(
            generator, discriminator, real, None, classes, bool(labels), draw, validation, test,
            _distance_in_words(features, space), takes_classes, attach, channels_last=last,
        )  # fmt: skip

    @classmethod
    def _of_pairs(
        cls,
        generator: nn.Module,
        discriminator: nn.Module | None,
        parts: Parts,
        seed: int,
        folder: Path | None,
        features: Callable[[Tensor], Tensor] | None,
        attach: dict[str, Any],
    ) -> "Problem":
        """G maps inputs to what the targets show."""
        inputs, real = parts.training
        args, kwargs = as_inputs(inputs[:2])
        with torch.no_grad():
            made = image_of(generator(*args, **kwargs))
        if made.shape[1:] != real.shape[1:]:
            raise SettingError(
                f"G makes {tuple(made.shape[1:])} of inputs of the shape {tuple(inputs.shape[1:])}, and the targets "
                f"are {tuple(real.shape[1:])}. Bring them to G's shape."
            )
        space = features or learned_space(real, seed, folder)
        validation, test = (
            PairedPart(targets, list(conditions.split(_PAIRS)), space, parts.repeats)
            for conditions, targets in (parts.validation, parts.test)
        )
        pairs = Pairs(*parts.stream) if isinstance(parts.stream, tuple) else Pairs(parts.stream)
        how = f"mean errors in {_named(features)}" if features else "mean errors in the stages of a learned encoder"
        none = torch.zeros(len(real), dtype=torch.long)
        return cls(generator, discriminator, real, pairs, none, False, None, validation, test, how, False, attach)


def _channels_last(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Tensor) -> bool:
    """Whether a sequence is (N, T, C), as the layers that make it tell."""
    return sample_layout(tuple(made.shape), trace_forward(net, args, kwargs), None) == "channels_last"


def is_paired(data: Any) -> bool:
    """Whether data is pairs of an input and its target, both pictures, signals or cubes: not samples and labels."""
    first = data if isinstance(data, tuple) else data[0] if hasattr(data, "__getitem__") else None
    if not isinstance(first, tuple | list) or len(first) != 2 or not all(isinstance(each, Tensor) for each in first):
        return False
    dims = 3 if isinstance(data, tuple) else 2
    return all(each.is_floating_point() and each.dim() >= dims for each in first)


def _named(features: object) -> str:
    return features.name if isinstance(features, Space) else "the features that were passed"


def _distance_in_words(features: object, space: object) -> str:
    if features:
        return f"Fréchet's in {_named(features)}"
    if not hasattr(space, "blocks"):
        return "Fréchet's in the principal components of the training part"
    return (
        "Fréchet's, the geometric mean of two: in 64 features learned on the training part without labels, and in its "
        "principal components"
    )


def _drawn(draw: Callable[[int], object], many: int, seed: int) -> list[object]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [draw(min(_DRAWN, many - begin)) for begin in range(0, many, _DRAWN)]
