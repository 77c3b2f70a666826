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

NETWORKS, INPUTS, MEASURES, STUDIES = "Networks", "Inputs and samples", "Measures", "Options of single studies"
_LOSS = "The loss that D was trained with: bce, hinge, least_squares, wasserstein_gp or relativistic."
_ASKED = " Needed only if fbwrap asks for it."

Head = Annotated[str, typer.Argument(help="The head: a folder, or user/name on the Hugging Face Hub.")]
Range = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help=(
            "The values of black and white in G's samples. Default: in sample, ui and fit, G's range if it is "
            "known; else -1 1 (with --pairs sr: 0 1)."
        ),
        rich_help_panel=INPUTS,
    ),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, mps. auto takes a GPU if there is one.", rich_help_panel=NETWORKS)
]
Pairs = Annotated[
    str | None,
    typer.Option(
        help="Pictures for a G that takes pictures, as KIND:PATH. right:DIR and left:DIR: each file shows input and "
        "target side by side, and G takes that half as its input. sr:DIR: large pictures. "
        "folders:INPUTS,TARGETS. cityscapes:DIR. nyu:DIR.",
        rich_help_panel=INPUTS,
    ),
]
Samples = Annotated[int, typer.Option(help="Number of samples.", min=2, rich_help_panel=INPUTS)]
Seed = Annotated[int, typer.Option(help="Seed of the latents.", rich_help_panel=INPUTS)]
Label = Annotated[int | None, typer.Option(help="The class that the samples should show.", rich_help_panel=MEASURES)]
LossOfFit = Annotated[
    str | None,
    typer.Option(help=f"{_LOSS} Default: as known for this network; else hinge if D has spectral norm, else bce."),
]
Loss = Annotated[
    str | None,
    typer.Option(help=_LOSS + _ASKED),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the table (CSV) and the plot.")]
TheirWeights = Annotated[
    Path | None, typer.Option(help="File with the weights of this network.", rich_help_panel=MEASURES)
]


@dataclass(frozen=True)
class NetworkOptions:
    """The networks of a head."""

    generator: Annotated[
        str | None,
        typer.Option(
            "--generator",
            "-g",
            help="The generator: package.module:Class(args), file.py:Class(args), spandrel:FILE or diffusers:NAME. "
            "fit always needs it; other commands only if the head does not name its G.",
            rich_help_panel=NETWORKS,
        ),
    ] = None
    discriminator: Annotated[
        str | None,
        typer.Option(
            "--discriminator",
            "-d",
            help="The discriminator, written in the same way. If it is left out, fit trains a new one.",
            rich_help_panel=NETWORKS,
        ),
    ] = None
    weights: Annotated[Path | None, typer.Option(help="File with G's weights.", rich_help_panel=NETWORKS)] = None
    critic_weights: Annotated[Path | None, typer.Option(help="File with D's weights.", rich_help_panel=NETWORKS)] = None
    latents: Annotated[
        str | None,
        typer.Option(
            help="The distribution of G's inputs: normal, uniform:LOW:HIGH, truncated:0.5 or labels:0:9. Several "
            "inputs: normal,labels:0:9, or by name z=normal,y=labels:0:9. Default: as saved in the head; in "
            "fit: normal.",
            rich_help_panel=INPUTS,
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
            raise SettingError("--weights needs --generator, the network for these weights.")
        if self.critic_weights is not None and self.discriminator is None:
            raise SettingError("--critic-weights needs --discriminator, the network for these weights.")
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

    latent: Annotated[
        str | None, typer.Option(help="Shape of one latent, for a G that takes noise: 100x1x1.", rich_help_panel=INPUTS)
    ] = None
    pairs: Pairs = None
    size: Annotated[
        int,
        typer.Option(
            help="Side of the pictures of --pairs, in pixels (cityscapes: height, nyu: width).", rich_help_panel=INPUTS
        ),
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

    features: Annotated[
        str | None,
        typer.Option(
            help="Network whose output is the feature space of the distance; or inception.", rich_help_panel=MEASURES
        ),
    ] = None
    features_weights: TheirWeights = None
    real: Annotated[
        Path | None, typer.Option(help="Folder of real pictures, or a file of voxels.", rich_help_panel=MEASURES)
    ] = None
    packed: Annotated[
        bool, typer.Option(help="The file of voxels holds eight voxels in a byte.", rich_help_panel=MEASURES)
    ] = False
    classifier: Annotated[
        str | None,
        typer.Option(
            help="Classifier, for an Inception score and, with --label, an accuracy.", rich_help_panel=MEASURES
        ),
    ] = None
    classifier_weights: TheirWeights = None
    label: Label = None
    segmenter: Annotated[
        str | None,
        typer.Option(
            help="Segmentation network. Its classes are compared with the labels of Cityscapes, or else with what it "
            "finds in the true photographs.",
            rich_help_panel=MEASURES,
        ),
    ] = None
    segmenter_weights: TheirWeights = None
    depth: Annotated[
        str | None,
        typer.Option(
            help="Depth network, compared with NYU's depths, or with its output on the true photographs.",
            rich_help_panel=MEASURES,
        ),
    ] = None
    depth_weights: TheirWeights = None
    lpips: Annotated[
        bool,
        typer.Option(
            "--lpips", help="With --pairs: also LPIPS (downloads its weights once).", rich_help_panel=MEASURES
        ),
    ] = False
    niqe: Annotated[
        bool,
        typer.Option("--niqe", help="Also NIQE, for pictures of at least 96x192 pixels.", rich_help_panel=MEASURES),
    ] = False
    pi: Annotated[
        bool, typer.Option("--pi", help="Also the perceptual index PI (needs pyiqa).", rich_help_panel=MEASURES)
    ] = False


@dataclass(frozen=True)
class StudyOptions:
    """What one study or another takes."""

    steps: Annotated[
        int | None,
        typer.Option(help="steps, fooling, response: number of feedback steps.", min=1, rich_help_panel=STUDIES),
    ] = None
    reference: Annotated[
        Path | None, typer.Option(help="switching: the picture that D looks at.", rich_help_panel=STUDIES)
    ] = None
    at: Annotated[
        str | None,
        typer.Option(
            help="strength, switching: values of α, such as 0,0.5,1. variance: variances of the latents.",
            rich_help_panel=STUDIES,
        ),
    ] = None
    only: Annotated[
        str | None,
        typer.Option(help="samplers: those to compare, such as drs,dgflow. Default: all.", rich_help_panel=STUDIES),
    ] = None
    calibrate_on: Annotated[
        Path | None,
        typer.Option(
            help="samplers: folder of held-out real pictures on which D is calibrated, others than in --real.",
            rich_help_panel=STUDIES,
        ),
    ] = None
    loss: Annotated[
        str | None, typer.Option(help=f"samplers: {_LOSS[0].lower()}{_LOSS[1:]}{_ASKED}", rich_help_panel=STUDIES)
    ] = None
