"""What should be and what is, in words: of arrays number below number, and as much as a screen has room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import Array, Node

__all__ = ["apart", "beside", "shown"]

_ACROSS, _DOWN = 66, 4  # letters and rows of an array: 80 x 24 have room for two, and for what is said about them
_LONGEST = 300  # letters of anything else


def apart(a: Any, b: Any) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, from six on.

    >>> apart(1.5, 2.0), apart(1.0, 1.00000001)
    (('1.5', '2'), ('1', '1.00000001'))
    """
    digits = _digits(a, b)
    return _text(a, digits), _text(b, digits)


def shown(x: Any) -> str:
    """A value in a line or a few."""
    if isinstance(x, Node):
        x = x.value
    if isinstance(x, tuple) and all(type(part) is int for part in x):  # a shape
        return str(x)
    if _tabular(x):
        return _tables([np.asarray(x)], (0,) * np.ndim(x), 6, ", " if isinstance(x, (list, tuple)) else " ")[0]
    if isinstance(x, np.ndarray) and x.ndim == 0:
        x = x[()]
    if isinstance(x, (float, np.floating)):
        return f"{x:.10g}"
    text = x if isinstance(x, str) else repr(x)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def beside(expected: Any, found: Any, place: tuple[int, ...] | None = None) -> tuple[str, str]:
    """Two values, each as `shown`; arrays of one shape number below number, around the place where they differ."""
    expected, found = (x.value if isinstance(x, Node) else x for x in (expected, found))
    if not (_tabular(expected) and _tabular(found)) or np.shape(expected) != np.shape(found):
        return shown(expected), shown(found)
    between = ", " if isinstance(expected, (list, tuple)) else " "
    a, b = np.asarray(expected), np.asarray(found)
    place = (0,) * a.ndim if place is None else place
    first, second = _tables([a, b], place, _digits(a[place], b[place]), between)
    return first, second


def _tabular(x: Any) -> bool:
    """Whether it is an array of something, or a list of numbers."""
    if isinstance(x, (list, tuple)):
        return len(x) > 0 and all(isinstance(part, (int, float, np.number)) for part in x)
    return isinstance(x, np.ndarray) and x.ndim > 0 and x.size > 0


def _tables(arrays: Sequence[Array], place: tuple[int, ...], digits: int, between: str) -> list[str]:
    """Arrays of one shape: of the matrix that the place lies in the rows and columns around it, … for all others."""
    matrices = [np.atleast_2d(x[place[:-2]]) for x in arrays]
    (height, width), column = matrices[0].shape, place[-1]
    rows = _window([1] * height, place[-2] if len(place) > 1 else 0, _DOWN if height <= _DOWN else _DOWN - 1)
    near = range(max(0, column - _ACROSS), min(width, column + _ACROSS))
    cells = [[[_text(x[r, c], digits) for c in near] for r in rows] for x in matrices]
    sizes = [max(len(line[k]) for table in cells for line in table) for k in range(len(near))]
    some = _window([size + len(between) for size in sizes], column - near.start, _ACROSS - 8)
    left = "… " if near.start + some.start else ""
    right = " …" if near.start + some.stop < width else ""
    made = []
    for table in cells:
        lines = [f"[{left}{between.join(line[k].rjust(sizes[k]) for k in some)}{right}]" for line in table]
        if len(place) > 1:
            lines = ["…"] * (rows.start > 0) + lines + ["…"] * (rows.stop < height)
            lines = [f"{' ' if k else '['}{line}" for k, line in enumerate(lines)]
            lines[-1] += "]"
        made.append("\n".join([f"at {[*map(int, place[:-2])]}"] * (len(place) > 2) + lines))
    return made


def _window(sizes: Sequence[int], at: int, room: int) -> range:
    """What fits into the room beside one of these, first before it, then behind it."""
    start = stop = at
    while start >= 0 and sum(sizes[start : at + 1]) <= room:
        start -= 1
    start = min(start + 1, at)
    while stop < len(sizes) and sum(sizes[start : stop + 1]) <= room:
        stop += 1
    return range(start, max(stop, at + 1))


def _digits(a: Any, b: Any) -> int:
    return next((n for n in range(6, 18) if _text(a, n) != _text(b, n)), 6)  # 6: they are the same


def _text(x: Any, digits: int) -> str:
    """A number in so many digits; of anything else the beginning."""
    if isinstance(x, (float, complex, np.inexact)):
        return f"{x:.{digits}g}"
    text = str(x) if isinstance(x, (int, np.number, np.bool_)) else repr(str(x) if isinstance(x, str) else x)
    return text if len(text) <= 24 else f"{text[:23]}…"
