"""Tables for a terminal: which way is better, the change against the base, the best in bold.

Examples:
    >>> rows = [{"step": 0, "frechet[nets.py:F]": 10.0}, {"step": 1, "frechet[nets.py:F]": 8.0}]
    >>> table = of_rows(rows, base=0)
    >>> [column.header for column in table.columns], list(table.columns[1].cells), table.title
    (['step', 'frechet ↓'], ['10', '[bold]8[/bold] (-20 %)'], 'measured with nets.py:F')

What is piped or read by a program is plain text (:class:`~fbwrap.app.command.Answer`); these are for people alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fbwrap.recipes.fitting import Result
    from fbwrap.recipes.studies import Study

LOWER = ("frechet", "kid", "rmse", "rel", "lpips", "niqe", "pi", "distance")
HIGHER = ("precision", "recall", "inception score", "accuracy", "psnr", "ssim", "pixels", "classes", "IoU", "δ1", "δ2",
          "δ3")  # fmt: skip
_MEASURED_WITH = re.compile(r"\[([^\]]*)\]")
_ENDS = (", least", ", most")
# what the base's row says, by study
_BASES: Mapping[str, Mapping[str, Any]] = {
    "eval": {"step": 0}, "steps": {"step": 0}, "strength": {"strength": 0.0}, "modules": {"modules": "none"},
    "controls": {"signals": "no feedback"}, "samplers": {"samples": "G", "sampler": "plain"},
}  # fmt: skip


def of_study(study: "Study") -> Table:
    """The rows of a study, compared with its base where it has one."""
    wanted = _BASES.get(study.name)
    found = [i for i, row in enumerate(study.rows) if wanted and wanted.items() <= row.items()]
    return of_rows(study.rows, base=found[0] if found else None)


def of_rows(rows: Sequence[Mapping[str, Any]], base: int | None = None) -> Table:
    """Rows of settings and of measured numbers.

    Args:
        base: the row that the others are compared with.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row if not key.endswith(_ENDS)))
    spaces = list(dict.fromkeys(found for key in keys for found in _MEASURED_WITH.findall(key)))
    table = _table(f"measured with {', '.join(spaces)}" if spaces else None)
    for key in keys:
        name = _MEASURED_WITH.sub("", key) if len(spaces) == 1 else key
        numbers = any(isinstance(row.get(key), float) for row in rows)
        table.add_column(f"{escape(name)}{_arrow(key)}", justify="right" if numbers else "left")
    best = {key: _best(rows, key) for key in keys}
    for row in rows:
        against = rows[base] if base is not None and row is not rows[base] else {}
        table.add_row(*(_cell(row, key, against.get(key), row.get(key) == best[key]) for key in keys))
    return table


def of_fit(result: "Result") -> Group:
    """A fit's table, its verdict and why."""
    names = list(result.rows[0].beside)
    table = _table(f"Distances: {result.space}. In brackets: 95 %.")
    for head in ("model", "distance ↓", "over the base ↓", *(f"{name}{_arrow(name)}" for name in names)):
        table.add_column(head, justify="left" if head == "model" else "right")
    least = min(row.distance.value for row in result.rows)
    for row in result.rows:
        over = "1" if row.model == "base" else str(row.over_base)
        beside = [f"{row.beside[name]:.3g}" for name in names]
        style = "bold" if row.distance.value == least else ""
        table.add_row(escape(row.model), str(row.distance), over, *beside, style=style)
    return Group(table, "", f"[bold]{escape(result.verdict.value)}[/bold]", escape(result.why))


def under(shown: RenderableType, *lines: str) -> Group:
    """What is shown, and plain lines under it."""
    return Group(shown, *(Text(f"\n{line}") for line in lines))


def _table(header: str | None) -> Table:
    return Table(title=escape(header) if header else None, title_justify="left", title_style="", box=None,
                 pad_edge=False, header_style="underline")  # fmt: skip


def _better(key: str) -> int:
    """-1: lower is better, 1: higher is, 0: neither."""
    name = _MEASURED_WITH.sub("", key).lower()
    return (name in map(str.lower, HIGHER)) - (name in LOWER)


def _arrow(key: str) -> str:
    return {-1: " ↓", 0: "", 1: " ↑"}[_better(key)]


def _best(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The best number of a column that has one."""
    values = [row[key] for row in rows if isinstance(row.get(key), float) and math.isfinite(row[key])]
    sign = _better(key)
    return (max if sign > 0 else min)(values) if values and sign else None


def _cell(row: Mapping[str, Any], key: str, base: object, best: bool) -> str:
    value = row.get(key, "")
    if not isinstance(value, float):
        return escape(str(value))
    text = f"[bold]{value:.4g}[/bold]" if best else f"{value:.4g}"
    if all(key + end in row for end in _ENDS):
        text += f" ({row[key + _ENDS[0]]:.4g} to {row[key + _ENDS[1]]:.4g})"
    if _better(key) and isinstance(base, float) and base > 0 and math.isfinite(value):
        change = value / base - 1
        text += f" ({change:+.0%})".replace("%", " %") if round(change, 2) else " (±0 %)"
    return text
