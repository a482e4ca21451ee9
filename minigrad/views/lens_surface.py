"""An error surface in the terminal: a heat map of two parameters with the ways of gradient descents on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.record import Reading
from ..bptt.surface import Descent, ErrorSurface
from ..engine import Array
from ..errors import RecordError
from .lens_marks import Shown, edges, lead, many, note, power, table
from .palette import number
from .report import colour, safe

__all__ = ["Scale", "check", "descents", "place", "scale_of", "surface", "where"]

_ROWS = 22
_WIDEST = 100
_TILES = " ·░▒▓█"
_MARKS = "xovzqs"
_SEVERAL, _START, _BAD = "*", "S", "!"
_STYLES = ("bold #000000 on #f0e442", "bold #000000 on #56b4e9", "bold #000000 on #009e73",
           "bold #000000 on #cc79a7", "bold #000000 on #e5e5e5", "bold #000000 on #d55e00")  # fmt: skip
"""Of the descents, told apart with any colour vision (Okabe & Ito 2008); of what several share, black on white."""
_SHARED = "bold #000000 on #ffffff"


class Scale(NamedTuple):
    """Six shades of an error, from its least to its largest: evenly, or evenly in logarithms."""

    low: float
    high: float
    logs: bool

    def level(self, error: float) -> int:
        """0 to 5; -1 of what is not finite."""
        if not math.isfinite(error):
            return -1
        x = (math.log10(error) if error > 0 else -math.inf) if self.logs else error
        share = (x - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return min(len(_TILES) - 1, max(0, math.floor(share * len(_TILES)) if math.isfinite(share) else 0))

    def bounds(self) -> list[str]:
        """What each shade stays below; of the last one, the largest error."""
        at = np.linspace(self.low, self.high, len(_TILES) + 1)[1:].tolist()
        return [power(x) if self.logs else number(x) for x in at]


def scale_of(errors: Array) -> Scale:
    """Logarithms where the largest error is more than a hundred times the median."""
    known = errors[np.isfinite(errors)]
    if not known.size:
        return Scale(0.0, 0.0, False)
    positive = known[known > 0]
    if known.min() >= 0 and len(positive) and known.max() > 100 * np.median(positive):
        return Scale(float(np.log10(positive.min())), float(np.log10(positive.max())), True)
    return Scale(float(known.min()), float(known.max()), False)


def check(found: ErrorSurface | None, descents: Mapping[str, Descent] | None, attempted: str) -> dict[str, Descent]:
    """The descents, which have to be over the surface's own parameters, if there is one.

    Raises:
        RecordError: One is over others, or there are too many to tell apart.
    """
    listed = dict(descents or {})
    if len(listed) > len(_MARKS):
        raise RecordError(f"{attempted}: {len(listed)} descents.\n  Give at most {len(_MARKS)}, to tell them apart.")
    for name, way in listed.items():
        if found is not None and way.names != found.names:
            raise RecordError(
                f"{attempted}: the descent {name!r} is over {' and '.join(way.names)}, the surface over"
                f" {' and '.join(found.names)}.\n  Give both the same names in the same order."
            )
    return listed


def place(point: Array) -> str:
    """A point in numbers.

    >>> place(np.array([4.41, -2.25]))
    '4.41, -2.25'
    """
    return ", ".join("—" if math.isnan(x) else f"{x:.4g}" for x in point.tolist())


def where(found: ErrorSurface, point: Array) -> bool:
    """Whether a point lies on the map."""
    across, up = found.across, found.up
    return bool(across[0] <= point[0] <= across[-1] and up[0] <= point[1] <= up[-1])


def surface(found: ErrorSurface, descents: Mapping[str, Descent] | None = None) -> RenderableType:
    """The error over two parameters as a map: its height as a shade, its gradient as a colour, descents as letters.

    Args:
        found: What `error_surface` gave.
        descents: What `descent` gave, by the name to show, such as "without clipping".
    Raises:
        RecordError: A descent is over other parameters, or there are more than 6.
    """
    ways = check(found, descents, "lens.surface")
    marks = dict(zip(ways, _MARKS, strict=False))

    def build(width: int) -> RenderableType:
        first, second = map(safe, found.names)
        parts: list[RenderableType] = [lead(f"Error over {first} and {second}", _found(found))]
        parts += [_story(name, way, found) for name, way in ways.items()]
        scale = scale_of(found.errors)
        parts += ["", *_map(found, ways, marks, scale, width), _legend(found, ways, marks, scale)]
        if ways:
            parts += ["", _table(ways, marks, width)]
        return Group(*parts)

    return Shown(build)


def descents(ways: Mapping[str, Descent]) -> RenderableType:
    """What became of some descents, without a map.

    Args:
        ways: What `descent` gave, by the name to show.
    Raises:
        RecordError: There are more than 6.
    """
    listed = check(None, ways, "lens.descents")
    marks = dict.fromkeys(listed, "")

    def build(width: int) -> RenderableType:
        return Group(*(_story(name, way, None) for name, way in listed.items()), "", _table(listed, marks, width))

    return Shown(build)


# Words


def _found(x: ErrorSurface) -> Iterator[str]:
    known = x.errors[np.isfinite(x.errors)]
    if not known.size:
        yield "nowhere is it finite."
        return
    y, k = np.unravel_index(np.argmin(np.where(np.isfinite(x.errors), x.errors, np.inf)), x.errors.shape)
    lowest = place(np.array([x.across[k], x.up[y]]))
    yield f"from {number(float(known.min()))} (at {lowest}) to {number(float(known.max()))}."
    row, column = x.steepest
    most = float(x.gradients[row, column])
    slopes = x.gradients[np.isfinite(x.gradients)]
    if not slopes.size:
        yield "Its gradient is nowhere finite."
        return
    median = float(np.median(slopes))
    times = f", {number(most / median)} times the median ({number(median)})" if 0 < median < most else ""
    yield f"Its gradient is largest, {number(most)}, at {place(np.array([x.across[column], x.up[row]]))}{times}."


def _story(name: str, way: Descent, found: ErrorSurface | None) -> Text:
    return lead(safe(name).capitalize() if name.islower() else safe(name), _way(way, found))


def _way(way: Descent, found: ErrorSurface | None) -> Iterator[str]:
    moves = way.moves
    jump = way.jump
    longest, gradient = float(moves[jump]), float(way.gradients[jump])
    if way.clip_norm is not None:
        fired = int(way.fired.sum())
        yield f"C={number(way.clip_norm)} fires at {fired} of {many(way.updates, 'update')}, where the gradient is"
        yield f"up to {number(float(np.nanmax(way.gradients[:-1])))}; no move is longer than {number(longest)}."
    known = np.flatnonzero(np.isfinite(way.errors))
    if not math.isfinite(longest) or not len(known):
        yield f"a gradient that is not finite ends it at update {jump + 1}."
        return
    median = float(np.median(moves[:jump])) if jump else 0.0  # after it there may be nothing but rest
    if way.clip_norm is None:
        far = f", {number(longest / median)} times the median before" if longest > 10 * median > 0 else ""
        yield f"its longest move, {number(longest)}{far}, is update {jump + 1}, at a gradient of {number(gradient)}:"
        off = "" if found is None or where(found, way.path[jump + 1]) else ", off the map"
        yield f"from {place(way.path[jump])} to {place(way.path[jump + 1])}{off}."
    last = int(known[-1])
    ends = f"it ends at {place(way.path[last])} with E={number(float(way.errors[last]))}"
    yield f"{ends[0].upper()}{ends[1:]}." if last == way.updates else f"After update {last} nothing is finite."


# Map


def _map(
    found: ErrorSurface, ways: Mapping[str, Descent], marks: Mapping[str, str], scale: Scale, width: int
) -> Iterator[Text]:
    names = [f"{value:.4g}" for value in (found.up[-1], found.up[len(found.up) // 2], found.up[0])]
    margin = max(map(len, [*names, safe(found.names[1])]))
    room = max(8, min(_WIDEST, width - margin - 2))
    columns, rows = edges(len(found.across), room), edges(len(found.up), _ROWS)[::-1]
    wide = max(1, min(2, room // len(columns)))
    grid = [[_tile(found, row, column, scale) for column in columns for _ in range(wide)] for row in rows]
    for (down, right), letter in _letters(found, ways, marks, len(rows), len(columns) * wide).items():
        grid[down][right] = letter
    labels = {0: names[0], len(rows) - 1: names[2]} | ({len(rows) // 2: names[1]} if len(rows) > 2 else {})
    yield Text(f"{safe(found.names[1]):>{margin}}")
    for k, cells in enumerate(grid):
        line = Text(f"{labels.get(k, ''):>{margin}} │")
        for (tile, style), same in groupby(cells):
            line.append(tile * len(list(same)), style)
        yield line
    yield Text(" " * (margin + 1) + "└" + "─" * len(grid[0]))
    ends = [f"{value:.4g}" for value in (found.across[0], found.across[len(found.across) // 2], found.across[-1])]
    axis, space = safe(found.names[0]), len(grid[0])
    between = space - sum(map(len, ends))
    if between > 8:
        left = max(1, space // 2 - len(ends[0]) - len(ends[1]) // 2)
        text = ends[0] + " " * left + ends[1] + " " * max(1, space - left - sum(map(len, ends))) + ends[2]
    else:
        text = f"{ends[0]} … {ends[2]}"
    yield Text(f"{axis:>{margin}}  {text}")


def _tile(found: ErrorSurface, row: tuple[int, int], column: tuple[int, int], scale: Scale) -> tuple[str, str]:
    """The largest error of some points in the colour of their largest gradient, so that no wall is lost."""
    errors, slopes = (array[slice(*row), slice(*column)] for array in (found.errors, found.gradients))
    level = scale.level(float(errors.max()))
    largest = float(np.nan_to_num(slopes, nan=np.inf).max())
    style = colour(Reading(largest, "value" if 0 < largest < math.inf else "zero" if largest == 0 else "not finite"))
    return (_BAD if level < 0 else _TILES[level]), style


def _letters(
    found: ErrorSurface, ways: Mapping[str, Descent], marks: Mapping[str, str], rows: int, columns: int
) -> dict[tuple[int, int], tuple[str, str]]:
    """By row and column, what stands on the map and how: ways, the longest move as a line, start and end."""
    styles = dict(zip(ways, _STYLES, strict=False))
    corners = np.array([found.across[0], found.up[0]]), np.array([found.across[-1], found.up[-1]])
    extent = np.where(corners[1] > corners[0], corners[1] - corners[0], 1.0)

    def spots(points: Array) -> list[tuple[int, int]]:
        share = (points - corners[0]) / extent
        inside = share[np.isfinite(share).all(axis=1) & (share >= 0).all(axis=1) & (share <= 1).all(axis=1)]
        across = np.minimum((inside[:, 0] * columns).astype(int), columns - 1)
        down = rows - 1 - np.minimum((inside[:, 1] * rows).astype(int), rows - 1)
        return [*zip(down.tolist(), across.tolist(), strict=True)]

    letters: dict[tuple[int, int], tuple[str, str]] = {}
    for name, way in ways.items():
        start, end = way.path[way.jump], way.path[way.jump + 1]
        step = (end - start) / extent * np.array([columns, rows])  # in cells: the line's slope as it is seen
        if np.hypot(*step) > 3 and np.isfinite(step).all():
            along = np.linspace(0, 1, 4 * (rows + columns))[:, np.newaxis]
            reach = min(1.0, 4.0 * (rows + columns) / float(np.hypot(*step)))  # no farther than over the map
            slope = abs(step[1]) / max(abs(step[0]), 1e-9)
            line = "-" if slope < 0.3 else "|" if slope > 3 else "/" if step[0] * step[1] > 0 else "\\"
            letters |= dict.fromkeys(spots(start + (end - start) * along * reach), (line, styles[name]))
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for name, way in ways.items():
        for spot in dict.fromkeys(spots(way.path)):
            seen[spot] = (_SEVERAL, _SHARED) if spot in seen else (marks[name], styles[name])
    letters |= seen
    for name, way in ways.items():
        last = way.path[np.isfinite(way.path).all(axis=1)][-1:]
        letters |= dict.fromkeys(spots(last), (marks[name].upper(), styles[name]))
    for way in ways.values():
        letters |= dict.fromkeys(spots(way.path[:1]), (_START, _SHARED))
    return letters


def _legend(found: ErrorSurface, ways: Mapping[str, Descent], marks: Mapping[str, str], scale: Scale) -> Text:
    tiles = ["blank" if tile == " " else tile for tile in _TILES]
    shades = [f"{tile} <{bound}" for tile, bound in zip(tiles, scale.bounds(), strict=True)]
    shades[-1] = shades[-1].replace("<", "to ")
    words = f"Error: {'  '.join(shades)}."
    if not np.isfinite(found.errors).all():
        words += f" {_BAD} not finite."
    words += " Colour: ‖g‖ of the gradient, orange from 1, dark from 100 on."
    if ways:
        several = f", {_SEVERAL} several" if len(ways) > 1 else ""
        each = ", ".join(f"{marks[name]} {safe(name)}" for name in ways)
        words += f"\n{_START} start, {each}{several}; a capital where it ends; a line of - / | \\ is its longest move."
    return note(words)


def _table(ways: Mapping[str, Descent], marks: Mapping[str, str], width: int) -> RenderableType:
    def ends(way: Descent) -> int:
        return int(np.flatnonzero(np.isfinite(way.path).all(axis=1))[-1])

    some = list(ways.values())
    columns = {
        "descent": [f"{marks[name]} {safe(name)}".strip() for name in ways],
        "lr": [number(way.lr) for way in some],
        "C": ["—" if way.clip_norm is None else number(way.clip_norm) for way in some],
        "updates": [str(way.updates) for way in some],
        "fired": ["—" if way.clip_norm is None else str(int(way.fired.sum())) for way in some],
        "max ‖g‖": [number(float(np.nanmax(way.gradients))) for way in some],
        "longest move": [number(float(way.moves[way.jump])) for way in some],
        "ends at": [place(way.path[ends(way)]) for way in some],
        "E": [number(float(way.errors[ends(way)])) for way in some],
    }
    return table(columns, width, left=["descent"], drop=["updates", "lr", "max ‖g‖", "fired", "C", "longest move"])
