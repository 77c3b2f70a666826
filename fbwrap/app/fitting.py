"""The command that makes a head: ``fit``.

Examples:
    $ fbwrap fit -g nets.py:G -d nets.py:D --weights g.pth --data photos --latents normal --example 1x100x1x1
    $ fbwrap fit -g spandrel:x4.pth --data photos
    $ fbwrap fit -g nets.py:Pix2Pix --weights g.pth --data right:facades/train --example 1x3x256x256
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from torch import nn

from fbwrap.errors import SettingError
from fbwrap.heads.inputs import takes_pictures
from fbwrap.loop import FeedbackLoop

from .command import Answer, command
from .inspect import example_of
from .options import LossOfFit, NetworkOptions, Range

if TYPE_CHECKING:
    from fbwrap.recipes.data import Source

app = typer.Typer()
_SIDE = 24  # of the inputs that a G learns to enlarge, where nobody says


@command(app)
def fit(
    networks: NetworkOptions,
    data: Annotated[
        str | None,
        typer.Option(
            help="Real data: a folder of pictures, or a folder or file of voxels. For super-resolution: a folder of "
            "large pictures. For image-to-image: right:DIR or left:DIR (each file shows input and target side by "
            "side, and G takes that half as its input), folders:INPUTS,TARGETS, cityscapes:DIR or nyu:DIR."
        ),
    ] = None,
    example: Annotated[
        str | None, typer.Option(help="Shapes of G's inputs, such as 1x100x1x1. Needed only if fbwrap asks for it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the head and the report.")] = Path("runs/fit"),
    steps: Annotated[
        int,
        typer.Option(
            help="Largest number of training steps of a head (three times as many for the published D).", min=1
        ),
    ] = 1200,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="About how many minutes the whole fit may take. At least one round of training is always done.",
            min=0.0,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the split of the data, of new networks and of the order of the data.")
    ] = 0,
    features: Annotated[
        str | None,
        typer.Option(
            help="Network whose output is the feature space of the distance; or inception. Default: one is learned."
        ),
    ] = None,
    features_weights: Annotated[Path | None, typer.Option(help="File with the weights of this network.")] = None,
    value_range: Range = None,
    ways: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            help="A way of training, such as clusters or 'published D' (docs/fit.md). Can be given several times. "
            "Default: all.",
        ),
    ] = None,
    loss: LossOfFit = None,
    controls: Annotated[
        bool, typer.Option(help="Also train the alternatives: the same modules without D, and G further.")
    ] = True,
) -> Answer:
    """Train a feedback head for a pretrained G, and judge whether it is worth using.

    Exit codes: 0 publish the head; 3 better than G, but training G further is better still; 4 no gain, keep G as it is;
    1 failed; 2 wrong usage.
    Run the same command again to continue a stopped fit.

    Example: fbwrap fit -g nets.py:G --weights g.pth --data photos --latents normal --example 1x100x1x1
    """
    import fbwrap

    from .devices import device_of
    from .models import as_trained, load_model, load_trained

    if networks.generator is None or data is None:
        raise SettingError("fit needs -g, the generator (with --weights), and --data, real samples.")
    device = device_of(networks.device)
    generator = load_trained(networks.generator, networks.weights, "--weights g.pth").to(device)
    critic: nn.Module | None = None
    if networks.discriminator is not None:
        hint = "--critic-weights d.pth, or leave out --discriminator: fbwrap then trains a new D"
        critic = load_trained(networks.discriminator, networks.critic_weights, hint).to(device)
    given = example_of(example)
    with fbwrap.attach(generator, critic, "auto", example=given) as loop:
        mapped = takes_pictures(loop.facts.example[0])
        span = value_range or loop.facts.value_range or ((0.0, 1.0) if mapped and _scale(loop) > 1 else (-1.0, 1.0))
        real = _pairs(data, loop, span, example is not None) if mapped else _samples(Path(data), loop, span)
    space: Any = "inception" if features == "inception" else None
    if features not in (None, "inception"):
        space = as_trained(load_model(features, features_weights).to(device), features, span)
    result = fbwrap.fit(
        generator, critic, real, latents=networks.latents, example=given, out=out, steps=steps, minutes=minutes,
        seed=seed, features=space, ways=ways, controls=controls, loss=loss,
    )  # fmt: skip
    from fbwrap.recipes.fitting.report import data as as_data

    where = f"The report: {out / 'report.html'}   head: {out / 'head'}"

    def pretty() -> Any:
        from .tables import of_fit, under

        return under(of_fit(result), where)

    return Answer(f"{result}\n\n{where}", as_data(result), result.verdict.exit_code, pretty)


def _scale(loop: FeedbackLoop) -> int:
    """How many times G enlarges a picture."""
    inside = loop.facts.example[0][0].shape[-1]
    return max(1, int(loop.traces[0].sample_shape[-1]) // int(inside))


def _pairs(data: str, loop: FeedbackLoop, span: tuple[float, float], said: bool) -> "Source":
    """G's inputs and targets.

    Args:
        said: whether the user said how large the inputs are.
    """
    from fbwrap.recipes.data import SuperResolution

    from .study import pair_source

    kind, colon, where = data.partition(":")
    scale, shape = _scale(loop), loop.traces[0].sample_shape
    if scale > 1 and (kind == "sr" or not colon):
        folder = Path(where or kind)
        if not folder.exists():
            raise SettingError(f"--data {data}: there is no such folder.")
        side = int(loop.facts.example[0][0].shape[-1]) if said else _SIDE
        return SuperResolution(folder, scale, scale * side, value_range=span)
    if not colon:
        raise SettingError(
            "This G turns pictures into pictures of the same size, so --data must give inputs and targets: "
            f"right:{data} or left:{data} (that half of each file is G's input), or folders:INPUTS,TARGETS."
        )
    return pair_source(data, int(shape[-1]), span)


def _samples(where: Path, loop: FeedbackLoop, span: tuple[float, float]) -> "Source":
    """Real samples of the shape that G makes."""
    from fbwrap.recipes.data import Images, Voxels
    from fbwrap.recipes.data.voxels import CUBES

    if not where.exists():
        raise SettingError(f"--data {where}: there is no such file or folder.")
    shape = loop.traces[0].sample_shape[1:]
    if any(path.suffix.lower() in CUBES for path in (where.rglob("*") if where.is_dir() else [where])):
        return Voxels(where, size=shape[-1])
    if len(shape) != 3:
        raise SettingError(
            f"G makes samples of shape {shape}, which are not pictures, but --data {where} holds pictures. Pass "
            "voxel files, or use fbwrap.fit in Python."
        )
    return Images(where, (shape[1], shape[2]), channels=shape[0], value_range=span)
