"""Tables in the terminal, and that what is piped stays plain text."""

import io

import pytest
import typer
from fbwrap.recipes.fitting.measure import Interval
from fbwrap.recipes.fitting.result import Chosen, Result, Row
from fbwrap.recipes.fitting.verdict import Verdict
from fbwrap.recipes.studies import Study
from rich.console import Console
from rich.text import Text

from fbwrap.app.command import Answer, command
from fbwrap.app.tables import of_fit, of_rows, of_study


def drawn(renderable):
    console = Console(file=io.StringIO(), width=140)
    console.print(renderable)
    return console.file.getvalue()


def cells(table, column):
    return [Text.from_markup(cell).plain for cell in table.columns[column].cells]


ROWS = (
    {"step": 0, "frechet[a.py:F]": 10.0, "precision[a.py:F]": 0.5, "mean": 0.25},
    {"step": 1, "frechet[a.py:F]": 8.0, "precision[a.py:F]": 0.4, "mean": 0.5},
)


def test_arrows_changes_and_the_space_said_once():
    table = of_study(Study("eval", "step", ROWS))
    assert [column.header for column in table.columns] == ["step", "frechet ↓", "precision ↑", "mean"]
    assert cells(table, 1) == ["10", "8 (-20 %)"]
    assert cells(table, 2) == ["0.5", "0.4 (-20 %)"]
    assert cells(table, 3) == ["0.25", "0.5"], "no better and no worse"
    assert drawn(table).count("a.py:F") == 1


def test_the_best_is_bold_whichever_way_is_better():
    table = of_rows(ROWS)
    bold = [[cell.startswith("[bold]") for cell in column.cells] for column in table.columns]
    assert bold == [[False, False], [False, True], [True, False], [False, False]]
    assert cells(table, 1) == ["10", "8"], "without a base there is no change"


def test_two_spaces_keep_their_names_and_square_brackets_are_no_markup():
    table = of_rows([{"frechet[a]": 1.0, "kid[b]": 2.0, "modules": "[red]main.1"}])
    text = drawn(table)
    assert "frechet[a] ↓" in text
    assert "kid[b] ↓" in text
    assert "[red]main.1" in text


def test_least_and_most_stand_beside_their_number():
    row = {"sampler": "drs", "cost": 4.0, "frechet": 8.0, "frechet, least": 7.5, "frechet, most": 8.5}
    table = of_rows([row])
    assert [column.header for column in table.columns] == ["sampler", "cost", "frechet ↓"]
    assert cells(table, 2) == ["8 (7.5 to 8.5)"]


def test_a_base_of_zero_and_a_missing_number():
    table = of_rows([{"frechet": 0.0}, {"frechet": 2.0, "kid": 1.0}], base=0)
    assert cells(table, 0) == ["0", "2"]
    assert cells(of_rows([{"frechet": 8.0}, {"frechet": 7.99}], base=0), 0) == ["8", "7.99 (±0 %)"]
    assert cells(table, 1) == ["", "1"]


def test_changes_are_shown_only_where_they_mean_something():
    rows = [{"kid": -0.05}, {"kid": 0.3}, {"kid": float("nan")}]
    assert cells(of_rows(rows, base=0), 0) == ["-0.05", "0.3", "nan"]
    assert of_rows(rows).columns[0]._cells[0].startswith("[bold]")
    strengths = [{"strength": 0.5, "frechet": 10.0}, {"strength": 1.0, "frechet": 8.0}]
    assert cells(of_study(Study("strength", "strength", tuple(strengths))), 1) == ["10", "8"], "G was not measured"
    whole = ({"strength": 0.0, "frechet": 20.0}, *strengths)
    assert cells(of_study(Study("strength", "strength", whole)), 1) == ["20", "10 (-50 %)", "8 (-60 %)"]
    steps = ({"step": 1, "frechet": 10.0}, {"step": 2, "frechet": 8.0})
    assert cells(of_study(Study("steps", "step", steps)), 1) == ["10", "8"]


def test_a_fit_shows_table_verdict_and_reason():
    better, base = Interval(0.8, 0.7, 0.9), Interval(1.0, 0.9, 1.1)
    rows = [Row("base", base, Interval(1, 1, 1), {"recall": 0.5}), Row("head", better, better, {"recall": 0.6})]
    result = Result(None, Verdict.PUBLISH, "It is [really] better.", rows, {}, {}, "a space", 1.0,
                    Chosen("fresh D", 200, 1.0, 1))  # fmt: skip
    text = drawn(of_fit(result))
    assert "recall ↑" in text
    assert "0.8 (0.7 to 0.9)" in text
    assert "publish" in text
    assert "It is [really] better." in text


@pytest.mark.parametrize("terminal", [False, True])
def test_only_a_terminal_gets_the_table(monkeypatch, capsys, terminal):
    app = typer.Typer()

    @command(app)
    def show() -> Answer:
        """Show."""
        return Answer("plain", {}, pretty=lambda: "[bold]for people[/bold]")

    monkeypatch.setattr("fbwrap.app.command._is_terminal", lambda: terminal)
    app([], standalone_mode=False)
    said = capsys.readouterr().out
    assert ("for people" in said, "plain" in said) == (terminal, not terminal)
    app(["--json"], standalone_mode=False)
    assert capsys.readouterr().out.strip() == "{}"
