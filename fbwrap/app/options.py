"""Groups of options that several commands have: each field of a dataclass is an option.

Examples:
    >>> InputOptions(pairs="sr:photos").resolved_range, InputOptions(latent="100x1x1").resolved_range
    ((0.0, 1.0), (-1.0, 1.0))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fbwrap.errors import SettingError
from fbwrap.loop import FeedbackLoop

Head = Annotated[str, typer.Argument(help="Folder of the head, or user/name on the Hub.")]
Range = Annotated[tuple[float, float] | None, typer.Option(help="Of G's samples; -1 1, for sr: 0 1.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda …")]
Pairs = Annotated[
    str | None,
    typer.Option(
        help="KIND:PATH, if G maps images: right:facades/val, sr:photos, left:, folders:IN,OUT, cityscapes:, nyu:."
    ),
]
Samples = Annotated[int, typer.Option(help="How many.", min=2)]
Seed = Annotated[int, typer.Option(help="Of the latents.")]
Label = Annotated[int | None, typer.Option(help="The class that samples should be of.")]
Loss = Annotated[
    str | None,
    typer.Option(help="The loss that D was trained with, if nothing tells: bce, hinge, least_squares, wasserstein_gp."),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the CSV and the plot.")]
TheirWeights = Annotated[Path | None, typer.Option(help="Its weights.")]


@dataclass(frozen=True)
class NetworkOptions:
    """The networks of a head."""

    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            help="package.module:Class(args), file.py:Class(args), spandrel:FILE; not needed if the head names its "
            "own.",
        ),
    ] = None
    discriminator: Annotated[str | None, typer.Option("--discriminator", "-d", help="Likewise.")] = None
    weights: Annotated[Path | None, typer.Option(help="G's weights.")] = None
    critic_weights: Annotated[Path | None, typer.Option(help="D's weights.")] = None
    latents: Annotated[
        str | None,
        typer.Option(
            help="How G's inputs are distributed: normal, uniform:-1:1, truncated:0.5, labels:0:9; several with "
            "commas, or by name: z=normal,y=labels:0:9. The head's own, if it has one."
        ),
    ] = None
    device: Device = "auto"

    def loop_of(self, head: str) -> FeedbackLoop:
        """A head on these networks; without a generator on those that it names itself."""
        from fbwrap import from_pretrained, load_pretrained
        from fbwrap.recognition.named import load_generator

        from .devices import device_of
        from .models import LOADED, load_model

        device = device_of(self.device)
        if self.weights is not None and self.generator is None:
            raise SettingError("--weights wants --generator: whose weights they are.")
        if self.critic_weights is not None and self.discriminator is None:
            raise SettingError("--critic-weights wants --discriminator: whose weights they are.")
        if Path(head).is_file():
            raise SettingError(f"{head} is a file: pass the folder of a head, or user/name on the Hub.")
        named = self.discriminator
        by_name = named is not None and named.startswith("timm:")  # the head makes it again
        critic = None if named is None or by_name else load_model(named, self.critic_weights).to(device)
        if self.generator is None:
            loop = load_pretrained(head, critic, device=device)
        elif self.generator.startswith(LOADED) and self.weights is None:
            generator, base = load_generator(self.generator)
            loop = from_pretrained(head, generator.to(device), critic)
            loop.note(base=base)  # the head says where its generator is from
        else:
            loop = from_pretrained(head, load_model(self.generator, self.weights).to(device), critic)
        if self.latents is not None:
            loop.latents = self.latents
        return loop


@dataclass(frozen=True)
class InputOptions:
    """What G is given, and the range of what it makes of that."""

    latent: Annotated[str | None, typer.Option(help="Shape of one latent, if G makes samples of noise: 100x1x1.")] = (
        None
    )
    pairs: Pairs = None
    size: Annotated[
        int, typer.Option(help="Side of the images of --pairs: of cityscapes the height, of nyu the width.")
    ] = 64
    samples: Samples = 1000
    seed: Seed = 0
    value_range: Range = None

    @property
    def resolved_range(self) -> tuple[float, float]:
        """Of G's samples: what was said, else [0, 1] for super-resolution and [-1, 1] for all else."""
        if self.value_range:
            low, high = self.value_range
            return low, high
        return (0.0, 1.0) if (self.pairs or "").startswith("sr:") else (-1.0, 1.0)


@dataclass(frozen=True)
class MeasureOptions:
    """What samples are measured by."""

    features: Annotated[str | None, typer.Option(help="A model whose output is the feature space, or inception.")] = (
        None
    )
    features_weights: TheirWeights = None
    real: Annotated[Path | None, typer.Option(help="Folder of real images, or a file of voxels.")] = None
    packed: Annotated[bool, typer.Option(help="Voxels hold eight to a byte.")] = False
    classifier: Annotated[
        str | None, typer.Option(help="A model whose classes give an Inception score, and with --label an accuracy.")
    ] = None
    classifier_weights: TheirWeights = None
    label: Label = None
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="A model of classes (N, C, H, W), against Cityscapes' labels (its 19 classes); of other pairs "
            "against what it reads in the true photographs."
        ),
    ] = None
    segmenter_weights: TheirWeights = None
    depth: Annotated[str | None, typer.Option(help="A model of depths, against NYU's in metres; else likewise.")] = None
    depth_weights: TheirWeights = None
    lpips: Annotated[bool, typer.Option("--lpips", help="With pairs: LPIPS too (its weights are downloaded once).")] = (
        False
    )
    niqe: Annotated[bool, typer.Option("--niqe", help="NIQE too, of images with room for two blocks of 96x96.")] = False
    pi: Annotated[bool, typer.Option("--pi", help="PI too, if pyiqa is installed.")] = False


@dataclass(frozen=True)
class StudyOptions:
    """What one study or another takes."""

    steps: Annotated[int | None, typer.Option(help="For steps, fooling and response: how many.", min=1)] = None
    reference: Annotated[Path | None, typer.Option(help="For switching: the picture that D looks at.")] = None
    at: Annotated[str | None, typer.Option(help="For strength, switching, variance: values, 0,0.5,1.")] = None
    only: Annotated[str | None, typer.Option(help="For samplers: some of them, drs,dgflow; else all.")] = None
    calibrate_on: Annotated[
        Path | None,
        typer.Option(
            help="For samplers: a folder of real images that nobody trained on, other ones than --real: D's answer "
            "becomes a density ratio."
        ),
    ] = None
    loss: Loss = None
