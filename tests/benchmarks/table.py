"""Tables of 80 columns that are Markdown as well, and where they stand in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .timing import Spread

__all__ = ["BEGIN", "END", "Row", "Table", "numbers", "ratio_text", "rendered", "summary", "written"]

WIDTH = 80
BEGIN, END = "<!-- measured: python -m tests.benchmarks --write -->", "<!-- end of what was measured -->"


class Row(NamedTuple):
    """One contender in one case.

    Attributes:
        case: The size, or what else is varied.
        contender: Its name.
        found: The quartiles of what was measured; None where there is nothing.
        ratio: To the contender that the measure names; None where there is none.
        goal: What the ratio may be at most; None without a goal.
        note: Why nothing was measured.
    """

    case: str
    contender: str
    found: Spread | None = None
    ratio: float | None = None
    goal: float | None = None
    note: str = ""


class Table(NamedTuple):
    """One measure.

    Attributes:
        name: For `--only`.
        title: What was measured, in a line.
        unit: Of the numbers: "ms", "MB".
        rows: Those of a case together.
    """

    name: str
    title: str
    unit: str
    rows: Sequence[Row]


def numbers(x: float) -> str:
    """Three digits, more only in front of the point, and none after the third behind it."""
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}" if x >= 1 else f"{x:.3f}"


def ratio_text(row: Row) -> str:
    """A ratio and its goal: `0.98 / 1`, and `1.62 / 1.4 ABOVE` where it is missed, to the digits shown."""
    if row.ratio is None:
        return "" if row.goal is None else f"— / {row.goal:g}"
    if row.goal is None:
        return f"{row.ratio:.2f}"
    return f"{row.ratio:.2f} / {row.goal:g}{' ABOVE' if round(row.ratio, 2) > row.goal else ''}"


def _lined(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of equal width; the first two to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    left = 2
    rule = [("-" * w) if k < left else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    lines = [
        [text.ljust(w) if k < left else text.rjust(w) for k, (text, w) in enumerate(zip(line, widths, strict=True))]
        for line in (header, rule, *body)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rendered(table: Table) -> str:
    """The measure with its title."""
    body = []
    case = None
    for row in table.rows:
        found, quartiles = "—", row.note
        if row.found is not None:
            found, quartiles = numbers(row.found.median), f"{numbers(row.found.lower)}–{numbers(row.found.upper)}"
        body.append(("" if row.case == case else row.case, row.contender, found, quartiles, ratio_text(row)))
        case = row.case
    return f"### {table.title}\n\n" + _lined(("case", "contender", table.unit, "quartiles", "ratio / goal"), body)


def summary(tables: Sequence[Table]) -> str:
    """Every ratio that has a goal."""
    body = []
    for table in tables:
        rows = [row for row in table.rows if row.goal is not None]
        body += [(table.name if k == 0 else "", row.case, ratio_text(row)) for k, row in enumerate(rows)]
    return "### Ratios that have a goal\n\n" + _lined(("measure", "case", "ratio / goal"), body)


def written(path: Path, text: str) -> None:
    """Put the text between the marks of a file, in place of what stands there."""
    before, begin, rest = path.read_text("utf8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{path}: no {BEGIN}"
    assert end, f"{path}: no {END}"
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf8")
