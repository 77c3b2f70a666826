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
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each training.", min=1)] = 1000,
    fresh: Annotated[bool, typer.Option(help="Start anew instead of resuming.")] = False,
) -> Answer:
    """Train a small GAN on bundled digits, give it a feedback head, and report what it brings.

    Example: fbwrap quickstart --out quickstart
    """
    from .quickstart import quickstart as run

    report = run(out, seed=seed, steps=steps, fresh=fresh)
    pictures = f"Pictures in {report.folder}: report.png, samples.png, difference.png"
    text = f"{report.table}\n\n{pictures}   head: {report.folder / 'head'}"
    return Answer(text, {"rows": report.rows, "folder": str(report.folder)})


@command(app)
def inspect(
    generator: Annotated[str, typer.Argument(help="package.module:Class(args), file.py:Class(args), spandrel:FILE.")],
    discriminator: Annotated[
        str | None, typer.Option("--discriminator", "-d", help="Likewise, or timm:NAME; without: the image alone.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="G's weights: .safetensors, .pth; nested and prefixed.")] = None,
    critic_weights: Annotated[Path | None, typer.Option(help="D's weights.")] = None,
    example: Annotated[str | None, typer.Option(help="Shapes of G's inputs: 1x100x1x1 or 1x3x64x64,1x10.")] = None,
    link: Annotated[
        list[str] | None, typer.Option("--link", "-l", help="G_LAYER or G_LAYER=D_LAYER; may be repeated.")
    ] = None,
    module: Annotated[
        str | None, typer.Option(help="Kind of feedback module, such as dual or fpn; auto: fpn, as wide as the budget.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="With --module auto: the cost of a sample, in multiples of G (2.5).")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="Another placement that the adapter knows, by name.")] = None,
    value_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Of G's samples, for timm critics: -1 1.")
    ] = None,
    critic_input: Annotated[str | None, typer.Option(help="Preset: how D is called.")] = None,
    response: Annotated[str | None, typer.Option(help="Path to D's response, such as [0][-1].")] = None,
    method: Annotated[str | None, typer.Option(help="G's method, if it is not called: decode.")] = None,
    layers: Annotated[bool, typer.Option(help="List every layer with its shapes.")] = True,
    why: Annotated[bool, typer.Option(help="Say of every adapter why it did or did not match.")] = False,
) -> Answer:
    """What fbwrap sees in your networks: layers, what is recognised, links, cost.

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
