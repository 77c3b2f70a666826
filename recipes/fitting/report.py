"""The report of a fit: a table, what was chosen and why, pictures; as Markdown and as one HTML file.

Examples:
    >>> write(result, problem, Path("run"))                                         # doctest: +SKIP
"""

import base64
import html
import json
import math
from dataclasses import asdict
from pathlib import Path

import torch

from fbwrap import plots
from fbwrap.errors import FbwrapError
from fbwrap.files.atomic import atomic_write

from ..studies import Study
from ..training.steps import as_inputs
from .problem import Problem
from .result import Result
from .rounds import Score


def write(result: Result, problem: Problem, folder: Path) -> None:
    """``report.md``, ``report.html``, ``report.json`` and their pictures."""
    pictures = _pictures(result, problem, folder)
    chosen, plan = result.chosen, result.loop.plan
    cost = plan.flops(chosen.feedback_steps) / max(plan.generator_flops, 1)
    saved = " It is saved at strength 0, which changes nothing." if chosen.strength and not result.loop.strength else ""
    critic = f" G was trained further by the D of “{chosen.critic_of_rivals}”." if chosen.critic_of_rivals else ""
    parts = [
        f"# {result.verdict.value[:1].upper()}{result.verdict.value[1:]}",
        result.why,
        "## Table",
        result.table(),
        f"Distances are {result.space}; intervals by bootstrap. Test samples were looked at once, for this table.",
        "## What was chosen",
        f"Way: {chosen.way}; the head of step {chosen.step}, at strength {chosen.strength:g}, T = "
        f"{chosen.feedback_steps}.{saved} A call costs {cost:.1f} of G's floating-point operations.{critic} All of it "
        "was chosen by the distance to the validation part:",
        _ways(result),
        *(f"![{path.stem}]({path.name})" for path in pictures),
        f"The whole fit took {result.seconds / 60:.1f} minutes.",
    ]
    text = "\n\n".join(parts) + "\n"
    _put(folder / "report.md", text)
    _put(folder / "report.html", _html(parts, pictures))
    _put(folder / "report.json", json.dumps(data(result), indent=2) + "\n")


def data(result: Result) -> dict[str, object]:
    """The report as plain data."""
    rows = [asdict(row) for row in result.rows]
    return {"verdict": result.verdict.value, "why": result.why, "rows": rows, "chosen": asdict(result.chosen),
            "sweep": {str(at): value for at, value in result.sweep.items()}, "space": result.space,
            "history": {name: [_plain(score) for score in scores] for name, scores in result.history.items()},
            "seconds": result.seconds}  # fmt: skip


def _plain(score: Score) -> dict[str, float | None]:
    """A comparison; JSON knows no infinity."""
    return {key: value if math.isfinite(value) else None for key, value in asdict(score).items()}


def _ways(result: Result) -> str:
    lines = ["| way | steps | seconds | best distance | at step | strength |", "| --- | --- | --- | --- | --- | --- |"]
    for name, scores in result.history.items():
        best, last = min(scores, key=lambda score: score.distance), scores[-1]
        lines.append(
            f"| {name} | {last.step} | {last.seconds:.0f} | {best.distance:.4g} | {best.step} | {best.strength:g} |"
        )
    return "\n".join(lines)


def _pictures(result: Result, problem: Problem, folder: Path) -> list[Path]:
    """Samples without and with the head at equal latents, and the strength sweep; what cannot be drawn is left out."""
    sweep = tuple({"strength": at, "distance": value} for at, value in result.sweep.items())
    found = []
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            args, kwargs = as_inputs(problem.inputs(16))
            strength = result.chosen.strength or 1.0
            rollout = result.loop.rollout(*args, strength=strength, **kwargs)
        figure = plots.difference(rollout.outputs[0], rollout.output)
        found.append(plots.save(figure, folder / "samples.png", result.loop, seed=0))
        found.append(Study("strength", "strength", sweep).save(folder).with_suffix(".png"))
    except (ImportError, FbwrapError):
        return found
    return found


def _html(parts: list[str], pictures: list[Path]) -> str:
    body = []
    for part in parts:
        if part.startswith("#"):
            level = len(part) - len(part.lstrip("#"))
            body.append(f"<h{level}>{html.escape(part.lstrip('# '))}</h{level}>")
        elif part.startswith("|"):
            rows = [line.strip("|").split("|") for line in part.splitlines() if not line.startswith("| ---")]
            cells = ["".join(f"<td>{html.escape(cell.strip())}</td>" for cell in row) for row in rows]
            body.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        elif part.startswith("!["):
            path = next(path for path in pictures if f"({path.name})" in part)
            body.append(f'<img alt="{path.stem}" src="data:image/png;base64,{_encoded(path)}">')
        else:
            body.append(f"<p>{html.escape(part)}</p>")
    style = "body{font-family:sans-serif;max-width:60em;margin:2em auto}td{border:1px solid #ccc;padding:.3em}"
    style += "table{border-collapse:collapse}img{max-width:100%}"
    head = f"<head><meta charset='utf-8'><title>fbwrap fit</title><style>{style}</style></head>"
    return f"<!doctype html><html lang='en'>{head}<body>{''.join(body)}</body></html>\n"


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _put(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
