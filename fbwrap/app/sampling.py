"""``--with``: a sampler of :mod:`fbwrap.samplers` as the command line names it.

Examples:
    >>> read_settings("drs", {"keep": 0.5}, ["burn_in=200"])
    {'keep': 0.5, 'burn_in': 200}
"""

import ast
import inspect as inspection
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import fbwrap
from fbwrap.errors import SettingError
from fbwrap.loop import FeedbackLoop
from fbwrap.samplers import SAMPLERS, Sampler

from .options import Loss


@dataclass(frozen=True)
class SamplerOptions:
    """Which sampler, and how."""

    sampler: Annotated[
        str | None,
        typer.Option("--with", help=f"Draw with a sampler that uses D: {', '.join(SAMPLERS)}."),
    ] = None
    keep: Annotated[float | None, typer.Option(help="With drs: the share of the samples to keep, between 0 and 1.")] = (
        None
    )
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the sampler, NAME=VALUE. Can be given several times."),
    ] = None
    real: Annotated[
        Path | None,
        typer.Option(help="With --with: folder of held-out real pictures, on which D is calibrated first."),
    ] = None
    loss: Loss = None

    def check(self) -> None:
        """Options that mean nothing without a sampler."""
        given = [name for name in ("keep", "settings", "real", "loss") if getattr(self, name) is not None]
        if given and self.sampler is None:
            raise SettingError(f"--{given[0].replace('settings', 'set')} needs --with, a sampler.")

    def made(self, loop: FeedbackLoop, seed: int, span: tuple[float, float]) -> Sampler | None:
        """The sampler; None where none is asked for."""
        self.check()
        if self.sampler is None:
            return None
        named = {} if self.keep is None else {"keep": self.keep}
        how = read_settings(self.sampler, named, self.settings or [])
        if self.real is not None:
            from .held_out import held_out

            real, inputs = held_out(loop, self.real, span)
            feedback = how.get("feedback", True)
            how["calibration"] = fbwrap.calibrate(loop, real, inputs=inputs, feedback=feedback, seed=seed)
        try:
            return SAMPLERS[self.sampler](loop, seed=seed, loss=self.loss, **how)
        except SettingError as error:
            reason, told, _ = str(error).partition(" Measure the ratio:")
            if not told:
                raise
            raise SettingError(f"{reason} Or pass --real, a folder of real images, to measure the ratio.") from error


def read_settings(name: str, named: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Settings of a sampler, from options and from ``NAME=VALUE``.

    Raises:
        SettingError: there is no such sampler, or it has no such setting.
    """
    if name not in SAMPLERS:
        raise SettingError(f"--with {name}: there is no such sampler. There are {', '.join(SAMPLERS)}.")
    known = [each for each in inspection.signature(SAMPLERS[name]).parameters if each not in ("loop", "options")]
    known = list(dict.fromkeys([*known, "feedback", "batch"]))
    known = [each for each in known if each not in ("loss", "calibration", "seed")]
    found = dict(named)
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            raise SettingError(f"--set {text}: write NAME=VALUE.")
        try:
            found[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key.strip()] = value.strip()
    if unknown := [key for key in found if key not in known]:
        raise SettingError(f"{name} has no setting {unknown[0]!r}. It has {', '.join(known)}.")
    return found
