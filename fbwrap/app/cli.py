"""The command ``fbwrap``.

Example:
    $ fbwrap quickstart --out quickstart
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fbwrap import __version__
from fbwrap.errors import FbwrapError

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """A pretrained GAN's discriminator corrects its generator at test time."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, the head and the report.")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    steps: Annotated[int, typer.Option(help="Optimizer steps of each training.", min=1)] = 1000,
    fresh: Annotated[bool, typer.Option(help="Start anew instead of resuming.")] = False,
) -> None:
    """Train a small GAN on bundled digits, give it a feedback head, and report what it brings.

    Example: fbwrap quickstart --out quickstart
    """
    from .quickstart import quickstart as run

    with _in_one_sentence():
        report = run(out, seed=seed, steps=steps, fresh=fresh)
    typer.echo(report.table)
    typer.echo(f"\nPictures: {report.folder / 'report.png'}   head: {report.folder / 'head'}")


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Failures as one clear sentence and exit code 1; Ctrl-C as 130. ``FBWRAP_DEBUG=1``: the traceback."""
    try:
        yield
    except (FbwrapError, OSError) as error:
        if os.environ.get("FBWRAP_DEBUG"):
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on where it was.", err=True)
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line: exit code 0 done, 2 wrong usage, 1 a failure in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app()
