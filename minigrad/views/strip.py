"""The strip: one row a name, one tile a step. The map of where a gradient dies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..bptt.record import Reading, SequenceRecord
from .canvas import MARGIN, WIDTH, Canvas, extent, identifier
from .palette import PLAIN, Look, Mark, brief, largest, shown
from .scene import letter_of

__all__ = ["Row", "strip", "strip_rows"]


_HIGH, _LOW = 22.0, 13.0  # of a row
_BETWEEN = 6.0  # two groups


class Row(NamedTuple):
    """One row: what stands before it, what its tiles are the gradient of, and their norms; or a measure's marks."""

    title: str
    symbol: str
    readings: Sequence[Reading]
    marks: Sequence[Mark | None] = ()

    @property
    def steps(self) -> int:
        return len(self.marks) or len(self.readings)

    def tile(self, start: int, stop: int) -> tuple[Reading | Look, str, str]:
        """What stands for some steps: its look, in words, and in few letters."""
        if self.marks:
            some = [m for m in self.marks[start:stop] if m is not None]
            mark = max(some, key=lambda m: (not math.isnan(m.value), m.value), default=None)
            return (PLAIN, "no number", "") if mark is None else (mark.look, mark.about, mark.text.partition("\n")[0])
        worst = largest(self.readings[start:stop])
        return worst, f"‖∂L/∂{self.symbol}‖ = {shown(worst)}", brief(worst)


def strip_rows(sequence: SequenceRecord, name: str = "", *, gates: bool = True) -> list[Row]:
    """A row for every state, gate and the input; the name stands before each."""
    rows = [Row(name + letter_of(s), letter_of(s), sequence.readings(s)) for s in sequence.states]
    norms = dict(sequence.gate_norms) if gates else {}
    if sequence.input_norms is not None:
        norms["x"] = sequence.input_norms
    for symbol, by_step in norms.items():
        rows.append(Row(name + symbol, symbol, sequence.over_batch(by_step)))
    return rows


def fits(canvas: Canvas, groups: Sequence[list[Row]]) -> bool:
    """Whether a page has room for rows of a height that can be read."""
    return len(groups) == 1 or _pitch(canvas, groups) >= _LOW


def _pitch(canvas: Canvas, groups: Sequence[list[Row]]) -> float:
    """The height of a row, so that all of them fit the page if they can."""
    return min(_HIGH, (canvas.down - 92 - _BETWEEN * len(groups)) / sum(map(len, groups)))


def strip(
    canvas: Canvas, groups: Sequence[list[Row]], labels: list[str] | None, everything: bool,
    backward: Sequence[str] = (), cuts: Sequence[Mapping[int, str]] = (), targets: list[str] | None = None,
) -> None:  # fmt: skip
    """Draw groups of rows over the same steps; where a page is too narrow, a tile stands for several steps.

    In the sequences named in `backward`, which walk from the last step to the first, the gradient travels the other
    way. Cuts stand before these steps, for each group its own, with words. Below the tiles stands what each step reads
    and should predict.
    """
    pitch = max(_LOW, _pitch(canvas, groups)) if len(groups) > 1 else _HIGH
    steps = groups[0][0].steps
    said = {"label": ("reads" if targets else "", labels), "target": ("target", targets)}
    below = {name: (title, texts) for name, (title, texts) in said.items() if texts}
    named = [row.title for rows in groups for row in rows] + [title for title, _ in below.values()]
    left = MARGIN + 16 + 6.2 * max(map(len, named))
    room = WIDTH - left - 2 * MARGIN
    wide = max(8.6 if everything else 2.0, min(40.0, room / steps))  # 40: 0.00096 fits
    chunk = 1 if everything else math.ceil(steps * wide / room)
    if chunk > 1:
        wide = room / math.ceil(steps / chunk)
        canvas.note(f"each tile: the largest of {chunk} steps", left)
    starts = range(0, steps, chunk)
    end = left + wide * len(starts)
    base = canvas.band(16)
    every = next(e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if e * wide / chunk >= 26)
    for k, t in enumerate(starts):
        last = t + chunk >= steps
        if t == 0 or last or ((t + 1) % every < chunk and t + chunk <= steps - every // 2):
            canvas.text(f"axis_{t + 1}", str(t + 1), (left + wide * (k + 0.5), base + 6), 10)
    if any(cuts):
        canvas.band(16)  # for the scissors
    for number_of, rows in enumerate(groups):
        top = canvas.bottom
        for row in rows:
            base, name = canvas.band(pitch), identifier(row.title)
            size = 12 if pitch > 18 else 10
            middle = (left - 10 - 3.1 * len(row.title), base + pitch / 2)
            canvas.text(f"row_{name}", row.title, middle, size)
            for k, t in enumerate(starts):
                shade, about, words = row.tile(t, t + chunk)
                where = f"t={t + 1}" if chunk == 1 else f"t={t + 1}…{min(t + chunk, steps)}"
                letter = f" “{labels[t]}”" if labels and labels[t] and chunk == 1 else ""
                letter += f", target “{targets[t]}”" if targets and targets[t] and chunk == 1 else ""
                center = (left + wide * (k + 0.5), base + pitch / 2)
                canvas.tile(
                    f"{name}_{t + 1}", shade, center, wide, pitch - (3 if pitch > 18 else 1),
                    f"{where}{letter}: {about}", _short(words, wide),
                )  # fmt: skip
        here = cuts[number_of] if cuts else {}
        nearest = min((b - a for a, b in pairwise(here)), default=steps - max(here, default=0)) * wide / chunk
        for t, words in here.items():
            about = f"cut before t={t + 1}: the state's value crosses, the gradient does not; {words}"
            x = left + wide * t / chunk
            first = number_of == 0
            canvas.mark_cut(f"cut_{number_of}_{t + 1}", x, [(canvas.bottom, top + 1)], about, scissors=first)
            fitting = [text for text in (words, words.partition(",")[0]) if text and extent(text) + 20 < nearest]
            if first and fitting:
                canvas.words(f"lost_{t + 1}", fitting[0], (x + 9, top + 10), 10)
        canvas.band(_BETWEEN if len(groups) > 1 else 0)
    for name, (title, texts) in below.items() if wide >= 8.6 and chunk == 1 else ():
        if not any(text and len(text) * 6 <= wide + 3 for text in texts):
            continue
        base = canvas.band(20)
        if title:
            canvas.text(f"{name}_row", title, (left - 10 - extent(title) / 2, base + 8), 10)
        for t, text in enumerate(texts):
            if len(text) * 6 <= wide + 3:
                canvas.text(f"{name}_{t + 1}", text, (left + wide * (t + 0.5), base + 8), 10)
    canvas.reach(end)
    if len(backward) < len(groups):
        _arrow(canvas, left, end, "the gradient travels this way")
    if backward:
        where = "in the reverse directions" if len(backward) < len(groups) else "the gradient travels"
        _arrow(canvas, left, end, f"{where} this way", right=True)


def _short(words: str, wide: float) -> str:
    """What there is room for in a tile: the words, or at least a minus."""
    if wide >= 27 and extent(words) <= wide:
        return words
    return "−" if words.startswith("−") and wide >= 8 else ""


def _arrow(canvas: Canvas, left: float, end: float, words: str, *, right: bool = False) -> None:
    """The way of the gradient below the tiles: an arrow, and words at its left."""
    base, name = canvas.band(20) + 10, "arrow_right" if right else "arrow"
    start = max(left + 165, end - 245)
    end = max(end, start + 70)  # few steps: the arrow reaches past them
    tail = canvas.text(f"{name}_tail", "", (end, base), 10)
    head = canvas.text(f"{name}_head", words, (start - 85, base), 10)
    points = [(start, base), (end, base)]
    canvas.wire(head, tail, points[::-1] if right else points, Reading(0.5, "value"))
    canvas.reach(end)
