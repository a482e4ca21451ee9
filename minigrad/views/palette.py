"""One scale of colours and one way to write numbers, for every view.

Nine steps of log10 of a gradient norm: blue has vanished, cream is healthy, orange explodes. Smallest
distance of any two steps (CIELAB ΔE): 20 for normal sight, 18 with protanopia, 19 with deuteranopia, 18
with tritanopia; text on every fill has a contrast of at least 5.4 : 1, every edge 3 : 1 on the frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..bptt.record import Reading

__all__ = ["BINS", "PLAIN", "SPECIAL", "Look", "Mark", "Scale", "brief", "largest", "look", "number", "on", "pale",
           "power", "rescaled", "shown", "special"]  # fmt: skip


class Look(NamedTuple):
    """How a gradient of one size, or of one kind, is drawn.

    Attributes:
        legend: What the legend says, one or two lines.
        fill, text: Colours of a box and of the letters on it.
        edge: Colour of an arrow, darker than the fill where the fill is pale.
        style: Graphviz's style words for the box, "" for a plain one.
    """

    legend: str
    fill: str
    text: str
    edge: str
    style: str = ""


class Mark(NamedTuple):
    """A number of a measure as it is drawn over a step.

    Attributes:
        value: What it is compared by, where one stands for several.
        text: What stands there; lines that do not fit are left out from the last on.
        look: Its colours.
        about: The number in words.
    """

    value: float
    text: str
    look: Look
    about: str


_BLACK, _WHITE = "#000000", "#ffffff"

Scale = tuple[tuple[float, Look], ...]
"""Upper bounds and looks."""

BINS: Scale = (
    (1e-12, Look("< 1e-12\nvanished", "#2a2f6e", _WHITE, "#2a2f6e")),
    (1e-9, Look("1e-12…\n1e-9", "#3b64ad", _WHITE, "#3b64ad")),
    (1e-6, Look("1e-9…\n1e-6", "#7fa8d6", _BLACK, "#4f86c0")),
    (1e-3, Look("1e-6…\n1e-3", "#c3d9ee", _BLACK, "#5a8fc8")),
    (1.0, Look("1e-3…1\nhealthy", "#f5f3ea", _BLACK, "#6f6f6f")),
    (10.0, Look("1…10", "#fbd3a8", _BLACK, "#c17a22")),
    (100.0, Look("10…100", "#f2a05f", _BLACK, "#b8690f")),
    (1e4, Look("100…1e4", "#d0612a", _BLACK, "#d0612a")),
    (math.inf, Look("> 1e4\nexploding", "#8c2d04", _WHITE, "#8c2d04")),
)
"""Upper bounds and looks, from vanished to exploding."""

SPECIAL: dict[str, Look] = {
    "zero": Look("exactly 0", _WHITE, _BLACK, "#8a8a8a", "rounded,dashed"),
    "underflow": Look("underflow\nof its type", _WHITE, _BLACK, "#2a2f6e", "striped"),
    "not finite": Look("NaN / inf", _BLACK, "#ffe14d", "#d000d0", "heavy"),
    "no path": Look("no path\nto the loss", _WHITE, "#444444", "#b0b0b0", "rounded,dotted"),
    "padding": Look("padding", "#ffffff", "#767676", "#d0d0d0", "invisible"),
    "no backward yet": Look("no backward\nyet", "#e9e9e9", "#444444", "#8a8a8a", "rounded,dotted"),
}
"""The looks of what is no number on the scale."""


PLAIN = Look("no number here", _WHITE, _BLACK, "#8a8a8a")
"""The look of what a measure says nothing about."""


def look(reading: Reading) -> Look:
    """The look of a gradient."""
    if reading.kind != "value":
        return SPECIAL[reading.kind]
    return next(found for bound, found in BINS if reading.norm < bound or bound == math.inf)


def special(kind: str, dtypes: Iterable[Any] = ()) -> Look:
    """The look of what is no number on the scale; an underflow names the smallest normal number of its type.

    >>> special("underflow", [np.float64]).legend, special("underflow", [np.float32, np.float64]).legend
    ('underflow\\n< 2e-308', 'underflow\\nof its type')
    """
    smallest = {number(float(np.finfo(dtype).tiny)) for dtype in dtypes}
    if kind != "underflow" or len(smallest) != 1:
        return SPECIAL[kind]
    return SPECIAL[kind]._replace(legend=f"underflow\n< {smallest.pop()}")


def rescaled(*steps: tuple[float, str, int]) -> Scale:
    """The colours of `BINS` for other numbers: of each step its upper bound, its legend, and the colour's place."""
    return tuple((bound, BINS[k][1]._replace(legend=legend)) for bound, legend, k in steps)


def on(scale: Scale, value: float) -> Look:
    """The look of a number on a scale; of 0, NaN and infinity their own."""
    if not math.isfinite(value) or value == 0:
        return SPECIAL["not finite" if value else "zero"]
    return next((found for bound, found in scale if value < bound), scale[-1][1])


def pale(colours: str, strength: float) -> str:
    """The same colours, mixed with white: of what stands back behind something else.

    >>> pale("#000000", 0.2), pale("#2a2f6e;0.2:#ffffff", 0.5)
    ('#cccccc', '#9497b6;0.2:#ffffff')
    """
    def mixed(found: re.Match[str]) -> str:
        parts = (int(found[0][k : k + 2], 16) for k in (1, 3, 5))
        return "#" + "".join(f"{round(255 - strength * (255 - part)):02x}" for part in parts)

    return re.sub("#[0-9a-f]{6}", mixed, colours)


def largest(readings: Iterable[Reading]) -> Reading:
    """The reading that stands for several: one that is not finite, else the largest; of none, no path."""
    return max(readings, key=lambda r: (r.kind == "not finite", r.norm), default=Reading(0.0, "no path"))


def number(x: float) -> str:
    """Two digits, short: 3e-7, 0.012, 0.51, 1, 12, 822, 3e4.

    >>> [number(x) for x in (3.2e-7, 0.01234, 0.5, 1.0, 1.25, 822.4, 31000.0, -0.25, 0.0)]
    ['3e-7', '0.012', '0.5', '1', '1.2', '822', '3e4', '-0.25', '0']
    """
    if not math.isfinite(x):
        return "NaN" if math.isnan(x) else "inf" if x > 0 else "-inf"
    size = abs(x)
    if size == 0:
        return "0"
    if size >= 9999.5 or (size < 0.001 and float(f"{size:.0e}") < 0.001):
        digits, exponent = f"{x:.0e}".split("e")
        return f"{digits}e{int(exponent)}"
    if size >= 99.5:
        return f"{x:.0f}"
    text = f"{x:.2g}"
    return f"{float(text):.0f}" if float(text) == int(float(text)) else text


def power(exponent: float) -> str:
    """10 to this power, also where no float holds it.

    >>> power(-2.5), power(-500.3), power(float("-inf")), power(400.0)
    ('0.0032', '5e-501', '0', '1e400')
    """
    if not math.isfinite(exponent):
        return "NaN" if math.isnan(exponent) else "inf" if exponent > 0 else "0"
    if abs(exponent) < 300:
        return number(10.0**exponent)
    whole = math.floor(exponent)
    digit = round(10.0 ** (exponent - whole))
    return f"{1 if digit == 10 else digit}e{whole + (digit == 10)}"


def shown(reading: Reading) -> str:
    """A gradient in a few letters, for boxes and tables."""
    if reading.kind in ("no path", "padding", "no backward yet"):
        return {"no path": "no path", "padding": "pad", "no backward yet": "—"}[reading.kind]
    return number(reading.norm)


def brief(reading: Reading) -> str:
    """A gradient in at most five letters, "" where that is no number: 0.0012 becomes 1e-3."""
    text = shown(reading)
    if reading.kind != "value" or len(text) <= 5:
        return text if len(text) <= 5 else ""
    digits, exponent = f"{reading.norm:.0e}".split("e")
    return f"{digits}e{int(exponent)}"
