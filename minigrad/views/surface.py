"""An error surface as a picture: its height in grey, its walls in orange, gradient descents as lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

import numpy as np

from ..bptt.record import Reading
from ..bptt.surface import Descent, ErrorSurface
from ..engine import Array
from .canvas import MARGIN, Canvas, extent, identifier
from .layout import Point
from .lens_marks import edges, power
from .lens_surface import check, place, scale_of
from .palette import BINS, look, number
from .picture import Picture

__all__ = ["surface"]

_WIDTH, _HEIGHT = 720.0, 440.0  # of the map, in points
_COLUMNS, _ROWS = 144, 88
_GREYS = ("#ffffff", "#e9e9e9", "#d2d2d2", "#b8b8b8", "#9c9c9c", "#7d7d7d")
_WALL = 1.0  # a gradient from which the palette's colours are orange
_LINES = (("#000000", 3.2), ("#1f6fe0", 1.6), ("#00843d", 1.3), ("#a000a0", 1.0), ("#007a87", 0.8), ("#5b3fd0", 0.6))
"""Colours and widths of the descents: on grey, orange and each other, where one lies on another."""
_NEAR = 1.2  # points of a way that are nearer to each other are one
_LONGEST = 300  # points of a line: Graphviz reads no text beyond 16,384 letters


def surface(
    found: ErrorSurface, descents: Mapping[str, Descent] | None = None, *, title: str | None = None
) -> Picture:
    """Draw the error over two parameters, and the ways that descents take on it.

    Args:
        found: What `error_surface` gave.
        descents: What `descent` gave, by the name to show, such as "without clipping".
        title: In place of the one made from the parameters' names.
    Raises:
        RecordError: A descent is over other parameters, or there are more than 6.

    Source of the picture: Pascanu, Mikolov & Bengio 2013, figure 6.
    """
    ways = check(found, descents, "surface")
    canvas = Canvas("surface")
    y, x = found.steepest
    steepest = f"largest gradient {number(float(found.gradients[y, x]))}"
    at = place(np.array([found.across[x], found.up[y]]))
    first, second = found.names
    canvas.caption(title or f"The error over {first} and {second}", f"{steepest}, at {first}, {second} = {at}")
    frame = _Frame(canvas, found)
    frame.tiles()
    frame.axes()
    for k, (way, (colour, width)) in enumerate(zip(ways.values(), _LINES, strict=False)):
        frame.way(f"way{k}", way, colour, width)
    _legend(canvas, frame, ways)
    return canvas.picture()


class _Frame:
    """The map: where it lies, and what is drawn in it."""

    def __init__(self, canvas: Canvas, found: ErrorSurface) -> None:
        self.canvas, self.found, self.scale = canvas, found, scale_of(found.errors)
        self.left = MARGIN + 52
        canvas.band(10)
        self.base = canvas.band(_HEIGHT)
        self.low = np.array([found.across[0], found.up[0]])
        high = np.array([found.across[-1], found.up[-1]])
        self.size = np.where(high > self.low, high - self.low, 1.0)
        canvas.reach(self.left + _WIDTH)

    def at(self, points: Array) -> Array:
        """Parameters (K, 2) as places on the canvas."""
        share = (points - self.low) / self.size
        places: Array = np.array([self.left, self.base]) + share * np.array([_WIDTH, _HEIGHT])
        return places

    def box(
        self, name: str, center: Point, width: float, height: float, fill: str, about: str = " ", **more: str
    ) -> None:
        """A plain rectangle without a border; the words about it hold nothing that DOT would read."""
        pairs = {"fillcolor": fill, "color": fill, "penwidth": "0", "style": "filled", "tooltip": about, **more}
        looks = " ".join(f'{key}="{value}"' for key, value in pairs.items())
        place = f'pos="{center[0]:.6g},{center[1]:.6g}" width="{width / 72:.5g}" height="{height / 72:.5g}"'
        self.canvas.lines.append(f'\t"{name}" [{place} id="{name}" label="" {looks}]\n')

    def tiles(self) -> None:
        """Runs of one colour, row by row."""
        x = self.found
        columns, rows = edges(len(x.across), _COLUMNS), edges(len(x.up), _ROWS)
        wide, high = _WIDTH / len(columns), _HEIGHT / len(rows)
        names = [identifier(name) for name in x.names]
        for r, (a, b) in enumerate(rows):
            fills = [self._fill(slice(a, b), slice(*column)) for column in columns]
            start = 0
            for fill, same in groupby(fills):
                count = len(list(same))
                across = slice(columns[start][0], columns[start + count - 1][1])
                errors, slopes = x.errors[a:b, across], x.gradients[a:b, across]
                about = f"{names[0]} {_span(x.across[across])}, {names[1]} {_span(x.up[a:b])}: E {_span(errors)}, "
                about += f"gradient {_span(slopes)}"
                center = (self.left + (start + count / 2) * wide, self.base + (r + 0.5) * high)
                self.box(f"tile_{r}_{start}", center, count * wide, high + 0.7, fill, about, **{"class": "tile"})
                start += count

    def _fill(self, rows: slice, columns: slice) -> str:
        """Grey by the largest error of some points; where one of them is on a wall, the palette's orange."""
        errors, slopes = self.found.errors[rows, columns], self.found.gradients[rows, columns]
        steepest, level = float(np.nan_to_num(slopes, nan=np.inf).max()), self.scale.level(float(errors.max()))
        if level < 0 or not math.isfinite(steepest):
            return look(Reading(math.nan, "not finite")).fill
        return look(Reading(steepest, "value")).fill if steepest >= _WALL else _GREYS[level]

    def axes(self) -> None:
        canvas, x = self.canvas, self.found
        for k, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
            text = f"{self.low[1] + share * (x.up[-1] - x.up[0]):.4g}"
            canvas.text(f"up{k}", text, (self.left - 8 - extent(text) / 2, self.base + share * _HEIGHT), 10)
        below = canvas.band(18) + 9
        for k, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
            text = f"{self.low[0] + share * (x.across[-1] - x.across[0]):.4g}"
            canvas.text(f"across{k}", text, (self.left + share * _WIDTH, below), 10)
        for k, (name, center) in enumerate(zip(x.names, (
            (self.left + 0.375 * _WIDTH, below), (MARGIN + 14, self.base + 0.625 * _HEIGHT)
        ), strict=True)):  # fmt: skip
            canvas.text(f"axis{k}", name, center, 12)

    def way(self, name: str, way: Descent, colour: str, width: float) -> None:
        """A line with its start, its end, and an arrow where it leaves the map."""
        known = way.path[np.isfinite(way.path).all(axis=1)]
        points = np.clip(self.at(known), -1e6, 1e6)  # so far off there is nothing to see of where
        low = np.array([self.left, self.base])
        high = low + np.array([_WIDTH, _HEIGHT])
        for k, (line, leaves) in enumerate(_inside(points, low, high)):
            self._line(f"{name}_{k}", line, colour, width, leaves)
            if leaves:
                x, y = line[-1]
                self._say(f"{name}_{k}_out", f"to {place(known[way.jump + 1])}", (x, y - 14), colour)
        if np.all((points[0] >= low) & (points[0] <= high)):
            self._say(f"{name}_start", "start", (points[0][0], points[0][1]), "#000000")
        if np.all((points[-1] >= low) & (points[-1] <= high)):
            self.box(f"{name}_end", (points[-1][0], points[-1][1]), 9, 9, colour, f"end: {place(known[-1])}",
                     shape="circle", fixedsize="true")  # fmt: skip

    def _say(self, name: str, text: str, beside: Point, colour: str) -> None:
        """Words to the right of a point, or to the left where the map ends."""
        half = extent(text, 11) / 2 + 8
        x = beside[0] + (half if beside[0] + 2 * half < self.left + _WIDTH else -half)
        self.canvas.text(name, text, (x, beside[1]), 11, fontcolor=colour)

    def _line(self, name: str, points: Sequence[Point], colour: str, width: float, leaves: bool) -> None:
        """Straight pieces from point to point, with an arrow where they leave the map."""
        kept = [points[0]]
        for p in points[1:]:
            if math.dist(p, kept[-1]) > _NEAR:
                kept.append(p)
        for start in range(0, len(kept) - 1, _LONGEST):
            some = kept[start : start + _LONGEST + 1]
            self._piece(f"{name}_{start}", some, colour, width, leaves and start + _LONGEST + 1 >= len(kept))

    def _piece(self, name: str, points: Sequence[Point], colour: str, width: float, leaves: bool) -> None:
        """An edge between two points that are not seen."""
        spline = [points[0]]
        for p, q in pairwise(points):
            spline += [(p[0] + (q[0] - p[0]) * k / 3, p[1] + (q[1] - p[1]) * k / 3) for k in (1, 2)] + [q]
        for end, center in (("a", points[0]), ("b", points[-1])):
            self.box(f"{name}_{end}", center, 1, 1, "#ffffff", style="invis")
        way = " ".join(f"{x:.5g},{y:.5g}" for x, y in spline)
        tip, arrow, size = "", "none", min(1.0, 2 / width)
        if leaves:
            (x, y), (u, v) = points[-1], points[-2]
            ahead = 10 * size / math.dist(points[-1], points[-2])
            tip, arrow = f"e,{x + (x - u) * ahead:.5g},{y + (y - v) * ahead:.5g} ", "normal"
        self.canvas.lines.append(
            f'\t"{name}_a" -> "{name}_b" [pos="{tip}{way}" color="{colour}" penwidth="{width:g}" arrowhead="{arrow}"'
            f' arrowsize="{size:.2g}" id="{name}" tooltip=" "]\n'
        )


def _inside(points: Array, low: Array, high: Array) -> Iterator[tuple[list[Point], bool]]:
    """The pieces of a line that lie within a rectangle, and whether each ends by leaving it."""
    piece: list[Point] = []
    for p, q in pairwise(points):
        step = q - p
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (low - p) / step, (high - p) / step
        still = step == 0
        enter = np.where(still, -np.inf, np.minimum(near, far)).max(initial=0.0)
        leave = np.where(still, np.inf, np.maximum(near, far)).min(initial=1.0)
        if enter > leave or np.any(still & ((p < low) | (p > high))):
            continue
        a, b = p + enter * step, p + leave * step
        piece = [*(piece or [(float(a[0]), float(a[1]))]), (float(b[0]), float(b[1]))]
        if leave < 1:
            yield piece, True
            piece = []
    if piece:
        yield piece, False


def _span(values: Array) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "not finite"
    least, largest = number(float(known.min())), number(float(known.max()))
    return least if least == largest else f"{least} to {largest}"


def _legend(canvas: Canvas, frame: _Frame, ways: Mapping[str, Descent]) -> None:
    """What each line and each colour is."""
    for k, ((name, way), (colour, width)) in enumerate(zip(ways.items(), _LINES, strict=False)):
        y = canvas.band(20) + 10
        frame.box(f"key{k}", (frame.left + 13, y), 26, width, colour)
        last = int(np.flatnonzero(np.isfinite(way.path).all(axis=1))[-1])
        clip = "" if way.clip_norm is None else f", clipped at {number(way.clip_norm)} ({int(way.fired.sum())} times)"
        words = (
            f"{name}: {way.updates} updates of lr {number(way.lr)}{clip}, longest move"
            f" {number(float(way.moves[way.jump]))}; ends at {place(way.path[last])} with error"
            f" {number(float(way.errors[last]))}"
        )
        canvas.words(f"key{k}_words", words, (frame.left + 34, y), 11)
    canvas.band(8)
    height, x = 16.0, frame.left
    base = canvas.band(height)
    bounds = [power(b) if frame.scale.logs else number(b) for b in np.linspace(frame.scale.low, frame.scale.high, 7)]
    canvas.words("shades", "error", (x, base + height / 2), 10)
    x += 36
    for k, grey in enumerate(_GREYS):
        frame.box(f"shade{k}", (x + 21, base + height / 2), 42, height, grey, color="#8f8f8f", penwidth="0.5")
        canvas.text(f"shade{k}_words", bounds[k + 1], (x + 42, base - 8), 10)
        x += 42
    canvas.text("shade_words", bounds[0], (frame.left + 36, base - 8), 10)
    x += 40
    canvas.words("walls", "gradient", (x, base + height / 2), 10)
    x += 52
    for k, paint in enumerate(paint for bound, paint in BINS if bound > _WALL):
        frame.box(f"wall{k}", (x + 32, base + height / 2), 64, height, paint.fill, color="#8f8f8f", penwidth="0.5")
        canvas.text(f"wall{k}_words", paint.legend.replace("\n", " "), (x + 32, base - 8), 10)
        x += 64
    canvas.band(16)
    canvas.reach(x)
