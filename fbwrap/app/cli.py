"""The command ``fbwrap``.

Examples:
    $ fbwrap quickstart --out quickstart
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap import __version__, explain
from fbwrap.errors import FbwrapError

from . import fitting, measuring, sharing, training
from .command import Answer, command

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A pretrained GAN's discriminator corrects its generator at test time."""


@command(app)
def version() -> Answer:
    """Print the version.

    Example: fbwrap version
    """
    return Answer(__version__, {"version": __version__})


@command(app)
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the head and the report.")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each of the three trainings.", min=1)] = 1000,
    fresh: Annotated[bool, typer.Option(help="Start from the beginning instead of resuming.")] = False,
) -> Answer:
    """Train a small GAN and a feedback head on bundled digits, and write a report.

    Example: fbwrap quickstart --out quickstart
    """
    from .quickstart import quickstart as run

    report = run(out, seed=seed, steps=steps, fresh=fresh)
    pictures = f"Pictures in {report.folder}: report.png, samples.png, difference.png"
    where = f"{pictures}   head: {report.folder / 'head'}"

    def pretty() -> Any:
        from .tables import of_rows, under

        *_, first, second = report.table.splitlines()
        columns = ("model", "steps", "strength", "distance")
        return under(of_rows([{key: row.get(key, "") for key in columns} for row in report.rows], base=0),
                     f"{first} {second}", where)  # fmt: skip

    return Answer(f"{report.table}\n\n{where}", {"rows": report.rows, "folder": str(report.folder)}, pretty=pretty)


@command(app)
def inspect(
    generator: Annotated[
        str, typer.Argument(help="The generator: package.module:Class(args), file.py:Class(args) or spandrel:FILE.")
    ],
    discriminator: Annotated[
        str | None,
        typer.Option("--discriminator", "-d", help="The discriminator, written in the same way, or timm:NAME."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="File with G's weights: .safetensors or .pth.")] = None,
    critic_weights: Annotated[Path | None, typer.Option(help="File with D's weights.")] = None,
    example: Annotated[
        str | None, typer.Option(help="Shapes of G's inputs, such as 1x100x1x1, or 1x3x64x64,1x10.")
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option("--link", "-l", help="A link: G_LAYER, or G_LAYER=D_LAYER. Can be given several times."),
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="Kind of feedback module, such as dual or fpn. auto: chosen by --budget.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="With --module auto: highest cost of a sample, in calls of G. Default: 2.5.")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="Name of another set of links that the adapter offers.")] = None,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="The values of black and white in G's samples, for timm backbones: -1 1."),
    ] = None,
    critic_input: Annotated[
        str | None, typer.Option(help="How D is called: output, output_and_label, condition_and_output.")
    ] = None,
    response: Annotated[
        str | None, typer.Option(help="Where D's response is in what D returns, such as [0][-1].")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Method of G to use in place of forward, such as decode.")] = None,
    layers: Annotated[bool, typer.Option(help="List all layers with their shapes.")] = True,
    why: Annotated[bool, typer.Option(help="Say for each adapter why it matches or not.")] = False,
) -> Answer:
    """Show the layers of your networks, the links that fbwrap would make, and their cost.

    Example: fbwrap inspect "models/dcgan.py:Generator(ngpu=1)" -d "models/dcgan.py:Discriminator(ngpu=1)"
    """
    from .inspect import example_of, report
    from .models import load_model

    critic: Any = discriminator
    if discriminator is not None and not discriminator.startswith("timm:"):
        critic = load_model(discriminator, critic_weights)
    pairs = [tuple(item.split("=", 1)) if "=" in item else item for item in link or []]
    network = load_model(generator, weights)
    reasons = f"{explain(network, critic if not isinstance(critic, str) else None)}\n\n" if why else ""
    try:
        text, facts = report(
            network, critic, example=example_of(example), links=pairs or (f"auto:{placement}" if placement else "auto"),
            value_range=value_range, module=module, budget=budget, layers=layers, critic_input=critic_input,
            response=response, method=method,
        )  # fmt: skip
    except FbwrapError as error:
        raise type(error)(f"{reasons}{error}") from error  # what was recognised, also where attaching fails
    return Answer(reasons + text, facts)


for part in (fitting, training, measuring, sharing):
    app.registered_commands += part.app.registered_commands


def main() -> None:
    """Run the command line: exit code 0 done, 2 wrong usage, 1 a failure in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for library in ("httpx", "httpx2", "httpcore", "onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.WARNING)
    app()
