"""What all commands share: how they answer and how they fail.

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
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any

import typer

from fbwrap.errors import FbwrapError, SettingError


@dataclass(frozen=True)
class Answer:
    """What a command found: for people, and as plain data; and the exit code that says it.

    Attributes:
        pretty: makes what a terminal shows in place of the text, for rich.
    """

    text: str
    data: dict[str, Any]
    exit_code: int = 0
    pretty: Callable[[], Any] | None = None


class WrongUsageError(SettingError):
    """What was asked cannot be: a name that is none, options that exclude each other. Exit code 2."""


JSON = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON; errors too.")]
DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
_BY_NAME = inspection.Parameter.KEYWORD_ONLY


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., Answer]], Callable[..., None]]:
    """Make a function a command of the app, with ``--json`` and ``--debug``.

    A parameter whose type is a dataclass stands for a group of options, one a field
    (:mod:`fbwrap.app.options`); the function gets it filled.
    """

    def add(function: Callable[..., Answer]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            as_json, debug = given.pop("as_json"), given.pop("debug")
            with in_one_sentence(debug, as_json, {each.name for each in options}):
                with redirect_stdout(sys.stderr) if as_json else nullcontext():  # other people's code prints
                    filled = {
                        key: group(**{each.name: given.pop(each.name) for each in _options_of(group)})
                        for key, group in groups.items()
                    }
                    answer = function(**given, **filled)
                if as_json:
                    typer.echo(json.dumps(_finite(answer.data), default=str))
                elif answer.pretty is not None and _is_terminal():
                    from rich.console import Console

                    Console(highlight=False).print(answer.pretty())
                else:
                    typer.echo(answer.text)
                if answer.exit_code:
                    raise typer.Exit(answer.exit_code)

        parameters = inspection.signature(function).parameters.values()
        groups: dict[str, Any] = {each.name: each.annotation for each in parameters if is_dataclass(each.annotation)}
        options = [
            option
            for each in parameters
            for option in (_options_of(groups[each.name]) if each.name in groups else [each.replace(kind=_BY_NAME)])
        ]
        more = [
            inspection.Parameter("as_json", _BY_NAME, default=False, annotation=JSON),
            inspection.Parameter("debug", _BY_NAME, default=False, annotation=DEBUG),
        ]
        run.__signature__ = inspection.Signature([*options, *more])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in [*options, *more]}
        run.__doc__, run.__name__ = function.__doc__, function.__name__
        app.command(name=name)(run)
        return run

    return add


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _options_of(group: type) -> list[inspection.Parameter]:
    """The fields of a group, as parameters of a command."""
    return [each.replace(kind=_BY_NAME) for each in inspection.signature(group).parameters.values()]


def _finite(data: object) -> object:
    """Plain data that JSON can hold: numbers that are none are null."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


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
        raise failed("Stopped. Commands that train continue if you run them again.", 130) from None


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
