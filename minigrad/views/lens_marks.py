"""What the lenses are made of: folded steps, tiles, strips, bars, curves and tables of characters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..bptt.record import Reading
from ..engine import Array
from . import report
from .palette import power
from .report import colour

__all__ = ["LEGEND", "Curve", "Shown", "chart", "edges", "lead", "log_bar", "logs_of", "many", "note", "part",
           "part_bar", "percent", "power", "strip", "table", "tile", "triangle"]  # fmt: skip

_HEIGHTS = "▁▂▃▄▅▆▇█"

_ASCII = report._ASCII | str.maketrans({
    **dict(zip(_HEIGHTS, ".:-=+*%#", strict=True)), "▓": "%", "▒": "+", "░": "-", "·": ".", "│": "|", "└": "+",
    "≥": ">",
})  # fmt: skip
"""For terminals and files that cannot hold more than ASCII: what is denser stays denser."""

_TILES = ((10.0, "▲"), (0.3, "█"), (0.1, "▓"), (0.01, "▒"), (1e-3, "░"), (1e-6, ":"), (0.0, "·"))
"""Above each number its tile; exactly 0 is a tile of its own."""

LEGEND = "▲ >10  █ >0.3  ▓ >0.1  ▒ >0.01  ░ >0.001  : >1e-6  · less  0 exactly 0"


class Shown(report.Shown):
    """The same, with tiles that differ in ASCII too."""

    def __init__(self, build: Callable[[int], RenderableType]) -> None:
        super().__init__(build, _ASCII)


# Words and numbers


def lead(title: str, sentences: Iterable[str]) -> Text:
    """What a lens begins with: the finding in words."""
    return Text.assemble((f"{title}: ", "bold"), " ".join(sentences))


def note(*sentences: str) -> Text:
    """What the evidence above it means."""
    return Text(" ".join(sentences), "dim")


def logs_of(values: Array) -> Array:
    """log10; -inf of 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Array = np.log10(values)
    return logs


def percent(x: float) -> str:
    """A share in words.

    >>> percent(0.25), percent(0.001), percent(0.9999), percent(0.0)
    ('25 %', 'less than 1 %', 'more than 99 %', '0 %')
    """
    if math.isnan(x):
        return "—"
    if 0 < x < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= x < 1 else f"{100 * x:.0f} %"


def part(x: float) -> str:
    """A share in a table.

    >>> part(0.25), part(0.001), part(0.9999)
    ('25%', '<1%', '>99%')
    """
    return percent(x).replace(" ", "").replace("lessthan", "<").replace("morethan", ">")


def many(count: int | str, what: str) -> str:
    """A number of things.

    >>> many(1, "step"), many(3, "step")
    ('1 step', '3 steps')
    """
    plural = f"{what}{'es' if what.endswith('s') else 's'}"
    return f"{count} {what if str(count) == '1' else plural}"


# Steps


def edges(count: int, most: int) -> list[tuple[int, int]]:
    """So many steps in at most so many parts of about the same size: (first, one past the last).

    >>> edges(5, 3), edges(2, 9)
    ([(0, 2), (2, 3), (3, 5)], [(0, 1), (1, 2)])
    """
    bounds = np.linspace(0, count, max(1, min(count, most)) + 1).round().astype(int).tolist()
    return list(pairwise(bounds))


# Marks


def tile(share: float) -> tuple[str, str]:
    """The character of a share and its colour; a space for NaN, which is no pair at all."""
    if math.isnan(share):
        return " ", ""
    if math.isinf(share):
        return "!", colour(Reading(math.nan, "not finite"))
    if share == 0:
        return "0", colour(Reading(0.0, "zero"))
    return next(mark for bound, mark in _TILES if share > bound), colour(_reading(math.log10(share)))


def strip(values: Array, width: int, low: float, high: float, *, logs: bool = True) -> Text:
    """A tile a step, or for several their largest: its height lies between low and high.

    Of log10 values the colour is that of 10 to their power. NaN leaves a gap, -inf is a 0, inf a "!".
    """
    text = Text()
    for a, b in edges(len(values), width):
        some = values[a:b][~np.isnan(values[a:b])]
        largest = float(some.max()) if len(some) else math.nan
        if math.isfinite(largest):
            share = (largest - low) / (high - low) if high > low else 1.0
            text.append(_HEIGHTS[round(min(1.0, max(0.0, share)) * 7)], colour(_reading(largest)) if logs else "")
        else:
            text.append(*tile(10.0**largest))
    return text


def log_bar(exponent: float, low: float, high: float, size: int) -> Text:
    """A bar from low to this power of ten, at most so many characters; "" where there is none."""
    if not math.isfinite(exponent):
        return Text({math.inf: "not finite", -math.inf: "exactly 0"}.get(exponent, ""), "italic")
    return _bar((exponent - low) / (high - low) if high > low else 1.0, size, colour(_reading(exponent)))


def part_bar(share: float, size: int, style: str = "") -> Text:
    """A bar for a part of 1."""
    return _bar(min(1.0, share), size, style) if share > 0 else Text()


def _bar(share: float, size: int, style: str) -> Text:
    full, rest = divmod(max(1, min(size * 8, round(share * size * 8))), 8)
    return Text("█" * full + " ▏▎▍▌▋▊▉"[rest].strip(), style)


def _reading(exponent: float) -> Reading:
    """10 to this power, for its colour: all that is left, 1, is healthy and no beginning of an explosion."""
    if abs(exponent) < 1e-3:
        exponent = -1e-3
    return Reading(10.0 ** min(300.0, max(-300.0, exponent)), "value")


# Heat map


def triangle(shares: Array, losses: Array, width: int, rows: int) -> tuple[list[tuple[int, int]], list[Text], Text]:
    """A heat map of (T, T) shares: a row a loss, a column a state; where tiles are too many, the largest of several.

    Args:
        shares: [t, k]; NaN where there is no pair.
        losses: The rows to show.
        width: In characters.
        rows: How many rows at most.
    Returns:
        The rows as ranges of `losses`, a line a row, and the axis below.
    """
    columns = edges(shares.shape[1], width)
    wide = 2 if 2 * len(columns) <= width else 1
    ranges = edges(len(losses), rows)
    lines = []
    for a, b in ranges:
        with np.errstate(all="ignore"):
            most = np.fmax.reduce(shares[losses[a:b]], axis=0)  # NaN only where all are
        largest = [float(np.fmax.reduce(most[c:d])) for c, d in columns]
        line = Text()
        for (mark, style), same in groupby(map(tile, largest)):
            line.append(mark * wide * len(list(same)), style)
        lines.append(line)
    return ranges, lines, Text(_ticks(columns, wide, 1))


def _ticks(columns: Sequence[tuple[int, int]], wide: int, start: int) -> str:
    """Round numbers of steps, each where its column begins; the first step has the number `start`, the last its own."""
    count, final = columns[-1][1], str(columns[-1][1] - 1 + start)
    place = min((len(columns) - 1) * wide, len(columns) * wide - len(final))  # of the last one
    every = next(e for e in _EVERY if e * len(columns) * wide >= 6 * count)
    text = str(start)
    for k, (a, b) in enumerate(columns):
        names = [str(x) for x in range(a + start, b + start) if x % every == 0 and x > start]
        if names and len(text) + 2 <= k * wide and k * wide + len(names[0]) < place:
            text = text.ljust(k * wide) + names[0]
    return text if count == 1 else text.ljust(max(len(text) + 1, place)) + final


_EVERY = [m * 10**e for e in range(12) for m in (1, 2, 5)]


# Curves


class Curve(NamedTuple):
    """What is drawn over the steps: log10 of values, each at its place."""

    mark: str
    logs: Array


def chart(curves: Sequence[Curve], width: int, height: int, low: float, high: float) -> Iterator[Text]:
    """Lines of characters: to the right the places, upwards log10 from low to high; of two curves the first is seen.

    Values outside of low and high, and those that are not finite, are left out. A dotted line stands at 1.
    """
    names = {0: power(high), height - 1: power(low)}
    level = _level(0.0, low, high, height)
    if 0 < level < height - 1:
        names[level] = "1"
    margin = max(map(len, names.values())) + 1
    count = len(curves[0].logs)
    columns = edges(count, width - margin - 1)
    wide = max(1, min(4, (width - margin - 1) // count))
    grid = [[(" ", "")] * (len(columns) * wide) for _ in range(height)]
    if level in names:
        grid[level] = [("·", "dim")] * len(grid[level])
    for curve in reversed(curves):
        for k, (a, b) in enumerate(columns):
            some = curve.logs[a:b][np.isfinite(curve.logs[a:b])]
            if len(some) and low - 1e-9 <= some.max() <= high + 1e-9:
                x = float(some.max())
                grid[_level(x, low, high, height)][k * wide] = (curve.mark, colour(_reading(x)))
    for row, cells in enumerate(grid):
        line = Text(f"{names.get(row, ''):>{margin}}│")
        for (mark, style), same in groupby(cells):
            line.append(mark * len(list(same)), style)
        yield line
    yield Text(" " * margin + "└" + "─" * (len(columns) * wide))
    yield Text(" " * (margin + 1) + _ticks(columns, wide, 0))


def _level(log: float, low: float, high: float, height: int) -> int:
    return round((high - log) / (high - low) * (height - 1)) if high > low else 0


# Tables


def table(
    columns: Mapping[str, Sequence[str]], width: int, *, left: Sequence[str] = (), drop: Sequence[str] = (),
    bar: Callable[[int], tuple[str, Sequence[Text]]] | None = None, least: int = 10,
) -> Table:  # fmt: skip
    """A table that fits: of its columns some are dropped, in this order, until the last one, a bar, has its room.

    Args:
        columns: The cells by title; the first column folds where it is too wide.
        width: Of the terminal.
        left: The columns whose text starts at the left; others end at the right.
        drop: What may go.
        bar: From the room that is left, the title and the cells of the last column.
        least: The room that it needs.
    """
    wide = {title: max(Text(x).cell_len for x in (title, *cells)) for title, cells in columns.items()}
    first = next(iter(columns))
    wanted = least if bar else 0

    def room() -> int:
        return width - sum(n + 1 for n in wide.values()) - wanted

    for title in drop:
        if room() < 0:
            wide.pop(title, None)
    wide[first] = max(6, min(wide[first], wide[first] + room()))
    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for title, n in wide.items():
        options: dict[str, Any] = {"overflow": "fold"} if title == first else {"no_wrap": True}
        made.add_column(Text(title), justify="left" if title in left else "right", width=n, **options)
    extra: Sequence[Text] = ()
    if bar:
        size = min(100, max(4, room() + wanted))
        title, extra = bar(size)
        made.add_column(Text(title), no_wrap=True, width=size)
    for k in range(len(columns[first])):
        made.add_row(*(Text(columns[title][k]) for title in wide), *([extra[k]] if bar else []))
    return made
