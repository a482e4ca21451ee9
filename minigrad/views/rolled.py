"""The network rolled up: one cell and one set of weights in a loop, with what every step adds to their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..bptt.record import ParameterRecord, Reading, Record, SequenceRecord, StackedTerms
from .canvas import MARGIN, WIDTH, Canvas, extent, identifier, shortened
from .layers import above
from .palette import brief, largest, number, shown
from .picture import Picture
from .scene import Card, labelled, letter_of, real_samples, short_name, subscript

__all__ = ["rolled"]

_CELL = 124.0  # width of the cell
_HIGH = 22.0  # of a row of tiles
_HEAD = 18.0  # of the words above some rows
_TITLE = 76.0  # width of the words before a row
_SUM = 96.0  # of what stands behind a row
_ENDS = 62.0  # of the input below and the loss above the cell
_ADDS = "what each step adds to the gradient of a weight, and the norm of the sum"
_LOOP = 26.0  # between the loop and what it runs around


class _Row(NamedTuple):
    """Tiles, one a step: what they are of, and the number that they come to."""

    key: str  # of their ids
    title: str
    what: str
    readings: Sequence[Reading]
    total: Reading | None = None
    words: str = ""
    about: str = ""
    matrix: bool = False


def rolled(
    record: Record,
    *,
    sequence: str | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw the recurrent network as a cell in a loop, the same weights at every step, and all steps' numbers.

    Inside the loop: the gradient of each state, one tile a step, and of each shared weight the term that each
    step adds to its gradient, with the norm of their sum. Beside the input and the loss: what they get and give
    at each step. Where a page is too narrow a tile stands for several steps, by the largest.

    Args:
        record: From `bptt.backward`; ops are not needed.
        sequence: Which layer and direction; None: the only or the first one.
        labels: What each step reads, such as its character.
        title: In place of the one made from the record.
    Raises:
        RecordError: There is no such sequence.
        DrawError: The labels do not match the steps.

    Source: the folded graph of Goodfellow, Bengio & Courville 2016, figure 10.2.
    """
    s = record.sequence(sequence)
    given = labelled(labels, s.steps)
    weights = _weights(record, s)
    states = _states(s)
    outside = _outside(s)
    canvas = Canvas("rolled")
    canvas.caption(title or _title(record, s, weights), _story(s, weights))
    left = MARGIN + _CELL + 12 + _TITLE
    room = WIDTH - MARGIN - 14 - _SUM - left - 8
    chunk = max(1, math.ceil(s.steps * 2.0 / room))
    wide = min(40.0, room / math.ceil(s.steps / chunk))
    tiles = _Tiles(canvas, s, left, wide, chunk, given)
    tiles.axis()
    middle = MARGIN + _CELL / 2

    # From the top down: the loss, the loop with the cell at its left, the input.
    base = canvas.band(_ENDS)
    loss = _end(canvas, record, s, (middle, base + _ENDS / 2))
    source = "from above" if above(record, s) else "from the loss"
    what = f"‖∂L/∂{letter_of(outside[0])}‖ that comes from outside the steps"
    tiles.row(_Row("outside", source, what, outside[1]), base + _ENDS / 2)
    top = canvas.band(_LOOP) + 4
    canvas.band(10)
    _rows(canvas, tiles, states, "the gradient of the state after each step", left)
    if weights:
        canvas.band(6)
        _rows(canvas, tiles, weights, _ADDS, left)
    bottom = canvas.band(12)
    words = _loop(s, weights)
    long = extent(words, 11)
    end = max(tiles.end + 8 + _SUM + 14, left + 12 + long + 24, left + extent(_ADDS, 10) + 10)
    cell = _cell(canvas, s, (middle, (top + bottom) / 2), top - bottom + 16)
    edge = MARGIN + _CELL
    turn = Reading(0.5, "value") if s.complete else Reading(math.nan, "no backward yet")
    label = canvas.text("loop", words, (left + 6 + long / 2, top), 11)
    canvas.wire(cell, label, [(edge, top), (left, top)], turn)
    canvas.wire(label, cell, [(left + 12 + long, top), (end, top), (end, bottom), (edge, bottom)], turn)
    canvas.reach(end)
    canvas.band(_LOOP)
    base = canvas.band(_ENDS)
    y = base + _ENDS / 2
    inputs, height = _inputs(s), 46.0
    whole = _whole(s, inputs)
    about = "the input x at every step; its gradient over all of them"
    canvas.card("x", Card("input", "xₜ", "", whole, about), (middle, y), 80.0, height, ())
    if any(r.kind not in ("no path", "padding", "no backward yet") for r in inputs):
        tiles.row(_Row("x", "∂L/∂xₜ", "‖∂L/∂x‖", inputs), y)
    canvas.wire("x", cell, [(middle, y + height / 2), (middle, bottom - 8)], whole)
    if loss is not None:
        name, foot = loss
        canvas.wire(cell, name, [(middle, top + 8), (middle, foot)], _whole(s, outside[1]))
    tiles.words()
    canvas.legend("one tile a step:\nits norm", [s.dtype], padding=0 in real_samples(s))
    return canvas.picture()


# What there is to show


def _states(s: SequenceRecord) -> list[_Row]:
    """‖dL/dstate‖ at every step, and how much of it is left where the gradient ends."""
    rows = []
    last = int(s.lengths.max()) - 1
    ends = (last, 0) if s.reverse else (0, last)
    for name in s.states:
        readings, symbol = s.readings(name), letter_of(name)
        words = ""
        end, start = (readings[t] for t in ends)
        if ends[0] != ends[1] and {start.kind, end.kind} == {"value"}:
            words = f"t={ends[0] + 1} / t={ends[1] + 1}: {number(end.norm / start.norm)}"
        about = f"‖∂L/∂{subscript(symbol, ends[0] + 1)}‖ / ‖∂L/∂{subscript(symbol, ends[1] + 1)}‖"
        key, title, what = f"state_{identifier(name)}", f"∂L/∂{symbol}ₜ", f"‖∂L/∂{symbol}‖"
        rows.append(_Row(key, title, what, readings, None, words, about))
    return rows


def _weights(record: Record, s: SequenceRecord) -> list[_Row]:
    """The terms of every weight that the steps of this walk use, and the norm of their sum."""
    rows: list[_Row] = []
    real = real_samples(s)
    for p in record.parameters.values():
        terms = p.by_step(s.name) if record.complete else {}
        if not terms:
            continue
        none = [Reading(0.0, "no path" if some else "padding") for some in real]
        readings = [s.norm_reading(terms[t]) if t in terms else none[t] for t in range(s.steps)]
        alone, name = _alone(p, s), short_name(p.name, s.name)
        words = f"{'‖Σ‖' if alone else '‖Σ + …‖'} = {number(p.norm)}"
        of = f"the sum of {len(terms)} terms" + ("" if alone else " and of those that other uses of it add")
        about = f"‖∂L/∂{p.name}‖ = {p.norm:.3g}: {of}; their norms add up to {sum(terms.values()):.3g}"
        what, total = f"term of ∂L/∂{name}: norm", s.norm_reading(p.norm)
        key = f"weight_{len(rows)}_{identifier(name)}"
        rows.append(_Row(key, name, what, readings, total, words, about, len(p.shape) > 1))
    return rows


def _alone(p: ParameterRecord, s: SequenceRecord) -> bool:
    """Whether nothing but the steps of this walk adds to a weight's gradient."""
    if isinstance(p.terms, StackedTerms):
        return p.terms.sequence == s.name
    return all(term.sequence == s.name and term.time is not None for term in p.terms)


def _outside(s: SequenceRecord) -> tuple[str, list[Reading]]:
    """The output, which most of the gradient enters from outside the steps, and what enters it at each."""
    found = {
        name: s.over_batch(parts["outside"], s.reached[name] if s.complete else None)
        for name, parts in s.arrivals.items()
    }
    first = next(iter(s.states))
    name = max(found, key=lambda k: (math.hypot(*(r.norm for r in found[k] if r.kind == "value"), 0.0), k == first))
    return name, found[name]


def _inputs(s: SequenceRecord) -> list[Reading]:
    if s.input_norms is None:
        blank = Reading(0.0, "no path") if s.complete else Reading(math.nan, "no backward yet")
        return [blank] * s.steps
    return s.over_batch(s.input_norms)


def _whole(s: SequenceRecord, readings: Sequence[Reading]) -> Reading:
    """The norm over all steps."""
    odd = largest(readings)
    if odd.kind in ("not finite", "no path", "padding", "no backward yet"):
        return odd
    return s.norm_reading(math.hypot(*(r.norm for r in readings)))


# Words


def _title(record: Record, s: SequenceRecord, weights: Sequence[_Row]) -> str:
    name = f"{s.cell} {s.name}" if len(record.sequences) > 1 else s.cell
    used = f"one set of weights, used T = {s.steps} times" if weights else f"T = {s.steps} steps"
    way = f", from t={s.steps} to t=1" if s.reverse else ""
    return f"{name}, rolled up: {used}{way}"


def _story(s: SequenceRecord, weights: Sequence[_Row]) -> str:
    if not s.complete:
        return "no gradient has been computed yet: call bptt.backward(loss)"
    if not weights:
        return "No step uses a weight that has a gradient."
    row = next((w for w in weights if "hh" in w.title), weights[0])
    norms = [r.norm for r in row.readings if r.kind == "value"]
    if not norms:
        return "The gradient of a weight is the sum of its terms, one a step."
    spread = number(min(norms)) + (f" … {number(max(norms))}" if len(norms) > 1 else "")
    if math.isfinite(sum(norms)):
        spread += f", added up {number(sum(norms))}"
    return (
        f"∂L/∂W = Σₜ termₜ: the gradient of a weight is the sum of its terms, one a step. {row.title}: norms {spread};"
        f" {row.words}" + (", since they point in different directions." if _turns(row, norms) else ".")
    )


def _loop(s: SequenceRecord, weights: Sequence[_Row]) -> str:
    """What goes round, and through which weight."""
    letters = [letter_of(name) for name in s.states]
    carried = " and ".join([", ".join(letters[:-1])] * (len(letters) > 1) + letters[-1:])
    words = f"{carried} of each step → {'the step before' if s.reverse else 'the next step'}"
    names = [w.title for w in weights if w.matrix]
    shared = next((name for name in names if "hh" in name), " and ".join(names))
    if not shared:
        return f"{words}, T = {s.steps} times"
    return f"{words}, through {shortened(shared, 200, 11)}: the same at all T = {s.steps} steps"


def _turns(row: _Row, norms: Sequence[float]) -> bool:
    return row.words.startswith("‖Σ‖") and row.total is not None and row.total.norm < 0.95 * sum(norms)


# On the canvas


def _rows(canvas: Canvas, tiles: _Tiles, rows: Sequence[_Row], words: str, left: float) -> None:
    canvas.words(f"head{-canvas.bottom:.0f}", words, (left, canvas.band(_HEAD) + 8), 10)
    for row in rows:
        tiles.row(row, canvas.band(_HIGH) + _HIGH / 2)


def _cell(canvas: Canvas, s: SequenceRecord, center: tuple[float, float], height: float) -> str:
    """The one cell, without a colour: it stands for all steps."""
    gates = ", ".join(s.gate_norms)
    about = f"{s.cell}: the same cell at all {s.steps} steps" + (f"; its parts {gates}" if gates else "")
    canvas.panel("cell", center, _CELL, height, about)
    x, y = center
    large = 18.0 if extent(s.cell, 18) < _CELL - 10 else 11.0
    lines = [(shortened(s.cell, _CELL - 10, large), large), ("one cell for", 11.0), (f"t = 1 … {s.steps}", 11.0)]
    for k, (text, size) in enumerate(lines):
        canvas.text(f"cell_{k}", text, (x, y + 20 - 22 * k), size)
    return "cell"


def _end(
    canvas: Canvas, record: Record, s: SequenceRecord, center: tuple[float, float]
) -> tuple[str, float] | None:
    """What uses the output: the loss, or the layer above; its name and lower edge."""
    upper = above(record, s)
    if upper is not None:
        card = Card("join", "to", upper, Reading(1.0, "value"), f"what {upper} reads of every step")
    else:
        card = Card("loss", "L", number(record.loss), Reading(1.0, "value"), f"the loss: {record.loss:.4g}")
    canvas.card("loss", card, center, 80.0, 42.0, ())
    return "loss", center[1] - 21


class _Tiles:
    """Rows of tiles over the same steps."""

    def __init__(
        self, canvas: Canvas, s: SequenceRecord, left: float, wide: float, chunk: int, labels: list[str] | None
    ) -> None:
        self.canvas, self.left, self.wide, self.chunk, self.labels = canvas, left, wide, chunk, labels
        self.starts = range(0, s.steps, chunk)
        self.steps = s.steps
        self.end = left + wide * len(self.starts)

    def x(self, k: int) -> float:
        return self.left + self.wide * (k + 0.5)

    def axis(self) -> None:
        base = self.canvas.band(14)
        if self.chunk > 1:
            note = f"each tile: the largest of {self.chunk} steps"
            self.canvas.words("note", note, (MARGIN, base + 6), 10)
        else:
            self.canvas.text("axis", "t =", (self.left - 14, base + 6), 10)
        every = next(e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if e * self.wide / self.chunk >= 26)
        for k, t in enumerate(self.starts):
            last = t + self.chunk >= self.steps
            if t == 0 or last or ((t + 1) % every < self.chunk and t + self.chunk <= self.steps - every // 2):
                self.canvas.text(f"axis_{t + 1}", str(t + 1), (self.x(k), base + 6), 10)

    def row(self, row: _Row, y: float) -> None:
        canvas, name = self.canvas, row.key
        words = shortened(row.title, _TITLE - 8, 11)
        canvas.text(f"row_{name}", words, (self.left - 6 - extent(words, 11) / 2, y), 11)
        for k, t in enumerate(self.starts):
            some = row.readings[t : t + self.chunk]
            worst = largest(some)
            where = f"t={t + 1}" if self.chunk == 1 else f"t={t + 1}…{t + len(some)}"
            letter = f" “{self.labels[t]}”" if self.labels and self.labels[t] and self.chunk == 1 else ""
            canvas.tile(
                f"{name}_{t + 1}", worst, (self.x(k), y), self.wide, _HIGH - 4,
                f"{where}{letter}: {row.what} {shown(worst)}", brief(worst) if self.wide >= 27 else "",
            )  # fmt: skip
        x = self.end + 8
        if row.total is not None:
            canvas.tile(f"{name}_sum", row.total, (x + _SUM / 2, y), _SUM, _HIGH - 4, row.about, row.words)
        elif row.words:
            canvas.words(f"{name}_ratio", row.words, (x, y), 10)

    def words(self) -> None:
        """The labels below everything."""
        if self.labels and self.wide >= 8.6 and self.chunk == 1:
            base = self.canvas.band(18)
            for t, label in enumerate(self.labels):
                if len(label) * 6 <= self.wide + 3:
                    self.canvas.text(f"label_{t + 1}", label, (self.x(t), base + 10), 10)
