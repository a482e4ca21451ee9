"""What the measures over a picture have in common: what they are made for, their colours, their words."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..bptt.record import Record, SequenceRecord
from .clipped import recurrent
from .palette import SPECIAL, Look, number, on, rescaled
from .scene import subscript

__all__ = [
    "CHOSEN", "FACTOR", "KEEPERS", "LEFT", "LIMIT", "OPEN", "SHARE", "Asked", "counted", "low", "of_log", "percent",
]  # fmt: skip


class Asked(NamedTuple):
    """For what an overlay is made: a walk of a record, a level, the loss of an attribution, one sample."""

    record: Record
    s: SequenceRecord
    level: str
    loss: int | None = None
    sample: int | None = None

    @property
    def main(self) -> str:
        """The weight whose terms are shown where there is room for one; "" without any."""
        weight = recurrent(self.record, self.s.name)
        return "" if weight is None else weight.name

    @property
    def before(self) -> int:
        """From a step to the one before it on its walk."""
        return 1 if self.s.reverse else -1

    def led(self, words: str, text: str) -> str:
        """A number with what it is called; alone in a strip, whose rows have titles."""
        return text if self.level == "strip" else f"{words} {text}"


LEFT = rescaled(
    (1e-12, "< 1e-12\nvanished", 0), (1e-9, "1e-12…\n1e-9", 1), (1e-6, "1e-9…\n1e-6", 2), (1e-3, "1e-6…\n1e-3", 3),
    (1.001, "1e-3…1\narrives", 4), (10, "1…10", 5), (100, "10…100", 6), (1e4, "100…1e4", 7),
    (math.inf, "> 1e4\nexploding", 8),
)  # fmt: skip
"""What is left of a gradient: 1 is all of it."""

FACTOR = rescaled(
    (0.1, "× < 0.1", 0), (0.3, "× 0.1…0.3", 1), (0.6, "× 0.3…0.6", 2), (0.9, "× 0.6…0.9\nshrinks", 3),
    (1.1, "× 0.9…1.1\nkeeps", 4), (1.6, "× 1.1…1.6\ngrows", 5), (3, "× 1.6…3", 6), (10, "× 3…10", 7),
    (math.inf, "× > 10", 8),
)  # fmt: skip
"""What a gradient is multiplied by in one step."""

SHARE = rescaled(
    (1e-6, "< 1e-4 %", 0), (1e-4, "1e-4…\n0.01 %", 1), (1e-3, "0.01…\n0.1 %", 2), (1e-2, "0.1…1 %", 3),
    (0.03, "1…3 %", 4), (0.1, "3…10 %", 5), (0.3, "10…30 %", 6), (1.001, "30…100 %", 7), (math.inf, "> 100 %", 8),
)  # fmt: skip
"""What a step adds to a sum."""

LIMIT = rescaled(
    (1e-6, "< 1e-6 C", 0), (1e-4, "1e-6…\n1e-4 C", 1), (1e-2, "1e-4…\n0.01 C", 2), (0.1, "0.01…\n0.1 C", 3),
    (1.0, "0.1…1 C\nwithin", 4), (3, "1…3 C\nbeyond", 5), (10, "3…10 C", 6), (100, "10…100 C", 7),
    (math.inf, "> 100 C", 8),
)  # fmt: skip
"""A size in parts of a limit C."""

OPEN = rescaled(
    (0.1, "0…0.1\nclosed, flat", 0), (0.3, "0.1…0.3", 1), (0.6, "0.3…0.6", 2), (0.9, "0.6…0.9", 3),
    (math.inf, "0.9…1\nopen, steep", 4),
)  # fmt: skip
"""How much a gate lets through, or the slope of a nonlinearity."""

CHOSEN = Look("", "#ffe08a", "#000000", "#000000")
"""What the numbers are counted from."""

KEEPERS = {"f": "forget gate", "z": "update gate"}
"""What a gate that keeps the state is called."""


def percent(share: float) -> str:
    """A part of 1, also a small one.

    >>> percent(0.25), percent(0.00012), percent(-0.5)
    ('25 %', '0.012 %', '−50 %')
    """
    return f"{number(100 * float(share))} %".replace("-", "−", 1 if share < 0 else 0)


def counted(count: int) -> str:
    """So many steps."""
    return f"{count} step{'' if count == 1 else 's'}"


def low(t: int) -> str:
    """The time of an input as a lowered number, which counts from 1."""
    return subscript("", t + 1)


def of_log(exponent: float) -> Look:
    """The look of 10**exponent as what is left, also where that is no number of float64."""
    if not math.isfinite(exponent):
        return SPECIAL["zero" if exponent == -math.inf else "not finite"]
    return on(LEFT, 10.0 ** min(300.0, max(-300.0, exponent)))
