"""What all commands share: how they answer, how they fail, and the options that they have in common.

Examples:
    >>> @command(typer.Typer())
    ... def hello(name: str) -> Answer:
    ...     return Answer(f"Hello {name}", {"name": name})

A command returns an :class:`Answer`; it gets ``--json`` and ``--debug``. Exit codes: 0 done, 2 wrong usage, 1 a failure
in one sentence, 130 stopped.
"""

import inspect as inspection
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fbwrap.errors import FbwrapError, SettingError

from .devices import device_of


@dataclass(frozen=True)
class Answer:
    """What a command found: for people, and as plain data."""

    text: str
    data: dict[str, Any]


class WrongUsageError(SettingError):
    """What was asked cannot be: a name that is none, options that exclude each other. Exit code 2."""


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
Latents = Annotated[
    str | None,
    typer.Option(
        help="How G's inputs are distributed: normal, uniform:-1:1, truncated:0.5, labels:0:9; several with commas, or "
        "by name: z=normal,y=labels:0:9. The head's own, if it has one."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda …")]
Seed = Annotated[int, typer.Option(help="Of the latents.")]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function a command of the app, with ``--json`` and ``--debug``."""

    def add(function: Callable[..., Answer]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            as_json, debug = given.pop("as_json"), given.pop("debug")
            with in_one_sentence(debug, as_json, set(signature.parameters)):
                with redirect_stdout(sys.stderr) if as_json else nullcontext():  # other people's code prints
                    answer = function(**given)
                typer.echo(json.dumps(_finite(answer.data), default=str) if as_json else answer.text)

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


def _finite(data: Any) -> Any:
    """Plain data that JSON can hold: numbers that are none are null."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


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
def in_one_sentence(debug: bool = False, as_json: bool = False, options: Collection[str] = ()) -> Iterator[None]:
    """Failures as one clear sentence and exit code 1, wrong usage as 2; Ctrl-C as 130.

    Args:
        options: of the command: what a message says of an argument in Python is said of the option.
    """

    def failed(sentence: str, code: int) -> typer.Exit:
        sentence = as_options(sentence, options)
        typer.echo(json.dumps({"error": sentence.removeprefix("Error: ")}) if as_json else sentence, err=not as_json)
        return typer.Exit(code)

    try:
        yield
    except (FbwrapError, OSError) as error:
        if debug:
            raise
        raise failed(f"Error: {error}", 2 if isinstance(error, WrongUsageError) else 1) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        raise failed(f"Error: {type(error).__name__}: {error} (--debug shows where)", 1) from None
    except KeyboardInterrupt:
        raise failed("Stopped. The same command goes on where it was.", 130) from None


_VALUE = r"""('[^']*'|"[^"]*"|\[[^\]]*\]|\([^)]*\)|[\w.:/-]*\w)?"""


def as_options(sentence: str, options: Collection[str]) -> str:
    """A message with arguments in Python's spelling, in the command line's.

    Examples:
        >>> as_options("Pass example=torch.randn(1, 100, 1, 1), or value_range=(-1, 1).", {"example", "value_range"})
        'Pass --example 1x100x1x1, or --value-range -1 1.'
    """

    def option(found: re.Match[str]) -> str:
        value = (found[2] or "").strip("'\"()[]").replace(", ", " ")
        return f"--{found[1].replace('_', '-')}{' ' * bool(value)}{value}"

    sentence = re.sub(r"\bexample=torch\.randn\(([\d, ]+)\)", lambda m: f"example={m[1].replace(', ', 'x')}", sentence)
    names = sorted((re.escape(name) for name in options), key=len, reverse=True)
    return re.sub(rf"(?<![\w.-])({'|'.join(names)})={_VALUE}", option, sentence) if names else sentence


def loop_of(head: str, given: dict[str, Any], device: str = "cpu") -> Any:
    """A head on the networks that are named; on those that it names itself, without ``--generator``."""
    from fbwrap import from_pretrained, load_pretrained
    from fbwrap.recognition.named import load_generator

    from .models import LOADED, load_model

    device = device_of(device)
    for weights, network in (("weights", "generator"), ("critic_weights", "discriminator")):
        if given[weights] is not None and given[network] is None:
            raise SettingError(f"--{weights.replace('_', '-')} wants --{network}: whose weights they are.")
    if Path(head).is_file():
        raise SettingError(f"{head} is a file: pass the folder of a head, or user/name on the Hub.")
    named = given["discriminator"]
    by_name = named is not None and named.startswith("timm:")  # the head makes it again
    critic = None if named is None or by_name else load_model(named, given["critic_weights"]).to(device)
    base = None
    if given["generator"] is None:
        loop = load_pretrained(head, critic, device=device)
    elif given["generator"].startswith(LOADED) and given["weights"] is None:
        generator, base = load_generator(given["generator"])
        loop = from_pretrained(head, generator.to(device), critic)
        loop.note(base=base)  # the head says where its generator is from
    else:
        loop = from_pretrained(head, load_model(given["generator"], given["weights"]).to(device), critic)
    if given.get("latents") is not None:
        loop.latents = given["latents"]
    return loop
