"""What all commands share: how they answer, how they fail, and the options that they have in common.

Example:
    >>> @command(typer.Typer())
    ... def hello(name: str) -> Answer:
    ...     return Answer(f"Hello {name}", {"name": name})

A command returns an :class:`Answer`; it gets ``--json`` and ``--debug``. Exit codes: 0 done, 2 wrong usage, 1 a failure
in one sentence, 130 stopped.
"""

import inspect as inspection
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap.errors import FbwrapError


@dataclass(frozen=True)
class Answer:
    """What a command found: for people, and as plain data."""

    text: str
    data: dict[str, Any]


JSON = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON; errors too.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]

# -- options that several commands have -----------------------------------------------------------------

Head = Annotated[str, typer.Argument(help="Folder of the head, or user/name on the Hub.")]
Generator = Annotated[
    str | None,
    typer.Option(
        "--generator", "-g",
        help="package.module:Class(args), file.py:Class(args), spandrel:FILE; not needed if the head names its own.",
    ),
]  # fmt: skip
Discriminator = Annotated[str | None, typer.Option("--discriminator", "-d", help="Likewise.")]
Weights = Annotated[Path | None, typer.Option(help="G's weights.")]
CriticWeights = Annotated[Path | None, typer.Option(help="D's weights.")]
Latent = Annotated[str | None, typer.Option(help="Shape of one latent, if G makes samples of noise: 100x1x1.")]
Range = Annotated[tuple[float, float] | None, typer.Option(help="Of G's samples; -1 1, for sr: 0 1.")]
Device = Annotated[str, typer.Option(help="cpu, cuda …")]
Seed = Annotated[int, typer.Option(help="Of the latents.")]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function a command of the app, with ``--json`` and ``--debug``."""

    def add(function: Callable[..., Answer]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            as_json, debug = given.pop("as_json"), given.pop("debug")
            with in_one_sentence(debug, as_json):
                answer = function(**given)
                typer.echo(json.dumps(answer.data, default=str) if as_json else answer.text)

        signature = inspection.signature(function)
        keyword = inspection.Parameter.KEYWORD_ONLY
        more = [
            inspection.Parameter("as_json", keyword, default=False, annotation=JSON),
            inspection.Parameter("debug", keyword, default=False, annotation=DEBUG),
        ]
        taken = [each.replace(kind=keyword) for each in signature.parameters.values()]
        run.__signature__ = inspection.Signature([*taken, *more])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*taken, *more]}
        run.__doc__, run.__name__ = function.__doc__, function.__name__
        app.command(name=name)(run)
        return run

    return add


def with_options_of(command: Callable[..., Any], without: set[str]) -> Callable[[Callable[..., Answer]], Any]:
    """A function that takes what another one does, but for some."""

    def taking(function: Callable[..., Answer]) -> Any:
        signature = inspection.signature(command)
        hidden = {*without, "as_json", "debug"}
        kept = [each for name, each in signature.parameters.items() if name not in hidden]
        function.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return function

    return taking


@contextmanager
def in_one_sentence(debug: bool = False, as_json: bool = False) -> Iterator[None]:
    """Failures as one clear sentence and exit code 1; Ctrl-C as 130."""

    def failed(sentence: str, code: int) -> typer.Exit:
        typer.echo(json.dumps({"error": sentence}) if as_json else sentence, err=not as_json)
        return typer.Exit(code)

    try:
        yield
    except (FbwrapError, OSError) as error:
        if debug:
            raise
        raise failed(f"Error: {error}", 1) from None
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        if debug or isinstance(error, typer.Exit):
            raise
        raise failed(f"Error: {type(error).__name__}: {error} (--debug shows where)", 1) from None
    except KeyboardInterrupt:
        raise failed("Stopped. The same command goes on where it was.", 130) from None


def loop_of(head: str, given: dict[str, Any], device: str = "cpu") -> Any:
    """A head on the networks that are named; on those that it names itself, without ``--generator``."""
    from fbwrap import from_pretrained, load_pretrained

    from .models import generator_of, load_model

    critic = load_model(given["discriminator"], given["critic_weights"]) if given["discriminator"] else None
    if given["generator"] is None:
        return load_pretrained(head, critic)
    generator = generator_of(given["generator"], given["weights"])
    if not isinstance(generator, str):
        generator = generator.to(device)
    return from_pretrained(head, generator, critic.to(device) if critic else None)
