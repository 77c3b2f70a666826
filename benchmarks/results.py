"""What a benchmark measured, one small file per row and seed, and the table of it.

Example:
    >>> results = Results(Path("runs/images"))                                       # doctest: +SKIP
    >>> results.once("AFL", 0, lambda: {"frechet": train_and_measure()})             # doctest: +SKIP
    >>> print(results.table(["frechet"]))                                            # doctest: +SKIP

A row that is there is not measured again: the same command goes on where it was, and several processes may work on one
folder.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Results:
    """The rows of one benchmark in ``folder/rows``."""

    def __init__(self, folder: Path):
        self.folder = folder / "rows"
        self.folder.mkdir(parents=True, exist_ok=True)

    def once(self, row: str, seed: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The numbers of a row, measured if they are not there; ``seconds`` is added."""
        path = self.folder / f"{row.replace('/', '_')}@{seed}.json"
        if path.exists():
            return json.loads(path.read_text())["numbers"]
        started = time.monotonic()
        numbers = measure()
        numbers = {"seconds": time.monotonic() - started, **numbers}
        part = path.with_suffix(f".part{os.getpid()}")
        part.write_text(json.dumps({"row": row, "seed": seed, "numbers": numbers}, indent=1))
        part.replace(path)
        shown = {key: round(value, 4) for key, value in numbers.items() if isinstance(value, float)}
        print(f"seed {seed} {row}: {shown}", flush=True)
        return numbers

    def rows(self) -> dict[str, dict[int, dict[str, Any]]]:
        """All rows, each with its seeds."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for path in sorted(self.folder.glob("*.json")):
            held = json.loads(path.read_text())
            found.setdefault(held["row"], {})[held["seed"]] = held["numbers"]
        return {row: dict(sorted(seeds.items())) for row, seeds in found.items()}

    def table(self, columns: list[str], order: list[str], digits: int = 3) -> str:
        """Means over seeds, and each seed's, as Markdown; rows in ``order``, those not there are left out."""
        rows = self.rows()
        lines = ["| | " + " | ".join(columns) + " | seconds |", "|" + " --- |" * (len(columns) + 2)]
        for row in order:
            if row not in rows:
                continue
            seeds = list(rows[row].values())
            cells = [_cell([numbers[column] for numbers in seeds if column in numbers], digits) for column in columns]
            seconds = sum(numbers["seconds"] for numbers in seeds) / len(seeds)
            lines.append(f"| {row} | {' | '.join(cells)} | {seconds:.0f} |")
        return "\n".join(lines)


def _cell(values: list[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"**{sum(values) / len(values):.{digits}f}**"
    return f"{mean} ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else mean
