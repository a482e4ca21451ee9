"""Pictures of a Record: the network unrolled through time, coloured by the size of its gradients.

Time runs from left to right, one column a step; the gradient runs back along the arrows. Every
coordinate is fixed here (see `layout`), so the same record always gives the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import graphviz

from ..bptt.record import Reading, Record, SequenceRecord
from ..clip import Clipping
from ..errors import DrawError
from .layout import Item, Layout, Point, arrange
from .palette import BINS, SPECIAL, Look, look, number, shown
from .picture import Picture
from .scene import Card, Pill, Step, build, short_name, subscript

__all__ = ["LEVELS", "clipping", "unrolled"]

LEVELS = ("strip", "cell", "gate", "op")
_WIDTH, _HEIGHT = 1200.0, 750.0  # points: 1,600 x 1,000 pixels at 100 %
_MARGIN, _GAP = 12.0, 10.0
_BLACK = "#000000"
_SIZES = {"cell": (92.0, 46.0), "gate": (56.0, 42.0), "op": (56.0, 42.0)}  # of a box
_PILL = 14.0
_HEADER = 18.0
_FOLD = 92.0
_ALL_TILES = 22


def unrolled(
    record: Record,
    level: str = "cell",
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    title: str | None = None,
    sequence: str | None = None,
) -> Picture:
    """Draw a record's network unrolled through time.

    Args:
        record: From `bptt.backward` (keep="ops" for the gate and op levels), or from `bptt.record`
            before any backward.
        level: "strip": one row a state and gate, one tile a step. "cell": the states of each step.
            "gate": the named parts of each step. "op": every op.
        everything: Draw every step in one row. Else the picture fits 1,600 x 1,000 pixels: the
            middle is folded, with its own least and largest norm.
        labels, targets: What each step reads and should predict, such as its character.
        title: In place of the one made from the record.
        sequence: Which sequence, by its name; None: the first.
    Raises:
        DrawError: There is no such level, or the labels do not match the steps.
        RecordError: The record has no such sequence, or was made without ops.
    """
    if level not in LEVELS:
        raise DrawError(f"There is no level {level!r}.\n  Choose one of {', '.join(LEVELS)}.")
    chosen = record.sequence(sequence)
    for name, given in (("labels", labels), ("targets", targets)):
        if given is not None and len(given) != chosen.steps:
            raise DrawError(f"{len(given)} {name} for {chosen.steps} time steps.\n  Give one a step.")
    labels, targets = _visible(labels), _visible(targets)
    canvas = _Canvas("unrolled")
    canvas.caption(title or _title(record, chosen), _story(chosen))
    if level == "strip":
        _strip(canvas, chosen, labels, everything)
        canvas.legend("one tile a step:\n‖∂L/∂name‖")
    else:
        steps, first = build(record, chosen, level, labels, targets)
        _steps(canvas, chosen, steps, first, level, everything)
    return canvas.picture()


def clipping(
    record: Record,
    clipping: Clipping,
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    sequence: str | None = None,
) -> Picture:
    """Draw what every time step adds to the recurrent weight's gradient, before and after clipping.

    The same layout and the same colours twice. By norm every contribution is multiplied by one
    coefficient, so the ratio of the first to the last stays. By value the sum over all steps is
    limited element by element: single contributions have no value after it, so the second row shows
    the parameters' gradients, each with the angle by which it turned.

    Args:
        record: From `bptt.backward`.
        clipping: What `clip_grad_norm` or `clip_grad_value` returned.
        everything, labels, title, sequence: As `unrolled`.
    Raises:
        DrawError, RecordError: As `unrolled`; also where no parameter is used inside the steps.
    """
    chosen = record.sequence(sequence)
    labels = _visible(labels)
    shared = [(p.by_step(chosen.name), p) for p in record.parameters.values()]
    shared = [(terms, p) for terms, p in shared if terms and len(p.shape) > 1]
    if not shared:
        raise DrawError(
            "Clipping is drawn on the terms of a shared weight, and no parameter is used inside the time steps.\n"
            "  Draw a record of a cell that has weights."
        )
    # The recurrent weight: the one whose first use multiplies a state (PyTorch calls it weight_hh).
    terms, weight = next(((t, p) for t, p in shared if "hh" in p.name), shared[-1])
    canvas = _Canvas("clipping")
    before, after = clipping.norm_before, clipping.norm_after
    how = "by norm" if clipping.kind == "norm" else "by value"
    did = (
        f"‖g‖ {number(before)} → {number(after)}   coefficient {number(clipping.coefficient)}   angle {number(clipping.angle)}°"
        if clipping.fired
        else f"‖g‖ = {number(before)} stays: nothing exceeded the threshold"
    )
    canvas.caption(
        title or f"{chosen.cell}: clipping {how}, threshold C = {number(clipping.threshold)}: {did}",
        _clipping_story(clipping, terms),
    )
    weight_name = short_name(weight.name)
    readings = [Reading(terms.get(t, 0.0), "value") for t in range(chosen.steps)]
    readings = [chosen.norm_reading(r.norm) for r in readings]
    canvas.row_title(f"before: what each step adds to ∂L/∂{weight_name}")
    _terms(canvas, chosen, weight_name, readings, clipping.before.get(weight.name), labels, everything, "before")
    if clipping.kind == "norm":
        canvas.row_title(f"after: every term × {number(clipping.coefficient)}")
        readings = [chosen.norm_reading(r.norm * clipping.coefficient) for r in readings]
        _terms(canvas, chosen, weight_name, readings, clipping.after.get(weight.name), labels, everything, "after")
    else:
        canvas.row_title("before: the sum over all steps, ∂L/∂parameter")
        _totals(canvas, chosen, clipping.before, None, "sum_before")
        canvas.row_title(f"after: each element limited to ±{number(clipping.threshold)}")
        _totals(canvas, chosen, clipping.after, clipping.angles, "sum_after")
    canvas.legend("g = norm of a term\nof ∂L/∂W")
    return canvas.picture()


# Words


def _visible(labels: Sequence[str] | None) -> list[str] | None:
    """Labels as they can stand in a box: unprintable characters by their code point, at most 8 letters."""
    if labels is None:
        return None
    shown_ = ["".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in str(label)) for label in labels]
    return [s if len(s) <= 8 else s[:7] + "…" for s in shown_]


def _title(record: Record, sequence: SequenceRecord) -> str:
    n = len(sequence.lengths)
    batch = f", {n} samples" if n > 1 else ""
    if not record.complete:
        return f"{sequence.cell}, T = {sequence.steps}{batch}: the graph before backward"
    return f"{sequence.cell}, T = {sequence.steps}{batch}: how much of the loss's gradient reaches each step"


def _story(sequence: SequenceRecord) -> str:
    """First and last norm of each lane: the shortest report there is."""
    if not sequence.complete:
        return "no gradient has been computed yet: call bptt.backward(loss)"
    parts = []
    for name in sequence.states:
        readings = sequence.readings(name)
        t = sequence.steps
        first, last = readings[0], readings[-1]
        symbol = {"c": "C"}.get(name, name)
        text = f"‖∂L/∂{subscript(symbol, 1)}‖ = {shown(first)}   ‖∂L/∂{subscript(symbol, t)}‖ = {shown(last)}"
        if first.kind == last.kind == "value" and t > 1:
            text += f"   ratio {number(first.norm / last.norm)}"
        parts.append(text)
    return "      ".join(reversed(parts))


def _clipping_story(clipping: Clipping, terms: dict[int, float]) -> str:
    if clipping.kind == "value":
        return "Only the parameters' gradients change, and their direction with them; inside the sequence nothing does."
    used = [t for t in sorted(terms) if terms[t] > 0]
    if len(used) < 2:
        return "One coefficient for all: clipping tames an explosion; it does not cure vanishing."
    ratio = number(terms[used[0]] / terms[used[-1]])
    return (
        f"Term at t={used[0] + 1} : term at t={used[-1] + 1} = {ratio} before and after:"
        " clipping tames an explosion; it does not cure vanishing."
    )


# The steps of the cell, gate and op levels


def _steps(
    canvas: _Canvas, sequence: SequenceRecord, steps: list[Step], first: Step, level: str, everything: bool
) -> None:
    left = _SIZES[level][0] * 0.8 + _GAP if first.cards else 0.0
    norms = list(zip(*(sequence.readings(s) for s in sequence.states), strict=True))
    for compact in (False, True):
        layout, items = _layout(sequence, steps, level, compact)
        bands = _bands(norms, layout.width + _GAP, layout.height + _GAP, left, everything, canvas.room)
        if {0, len(steps) - 1} <= {column for band in bands for column in band if isinstance(column, int)}:
            break  # else once more without the mean values, which lets two rows of steps on the page
    painter = _Painter(canvas, sequence, steps, first, layout, items, level, compact)
    for band in bands:
        painter.band(band)
    canvas.legend("name\ng = ‖∂L/∂name‖" if compact else "name\nmean value\ng = ‖∂L/∂name‖")


def _layout(
    sequence: SequenceRecord, steps: list[Step], level: str, compact: bool
) -> tuple[Layout, dict[str, Item]]:
    """One layout for all steps: of everything that any step has."""
    width, height = _SIZES[level]
    height -= 14 if compact else 0
    cards: dict[str, Card] = {}
    flows: dict[tuple[str, str], None] = {}
    carried: dict[tuple[str, str], None] = {}
    for step in steps:
        for key, card in step.cards.items():
            if key not in cards or len(card.pills) > len(cards[key].pills):
                cards[key] = card
        flows.update(dict.fromkeys(step.flows))
        carried.update(dict.fromkeys(step.carried))
    output = next((a for a, b in flows if b == "loss"), None)
    states = sorted(sequence.states, key=lambda s: s == output)  # the lane that the loss hangs on comes last
    kinds = {"state": "state", "input": "input", "loss": "output"}
    order = [*states, *(k for k in cards if k not in states)]
    items = {
        k: Item(k, kinds.get(cards[k].kind, "gate"), width, height, _PILL * len(cards[k].pills)) for k in order
    }
    if level == "cell":
        return _cell_layout(states, items), items
    layout = arrange(list(items.values()), list(flows), list(carried), row_gap=9 if compact else 16, column_gap=14, header=_HEADER)
    return layout, items


def _cell_layout(states: list[str], items: dict[str, Item]) -> Layout:
    """The states above each other, the input and the loss side by side below them."""
    width, height = _SIZES["cell"]
    small, row, frame = 50.0, height + 18, width + 16
    total = _HEADER + row * (len(states) + 1)
    centres = [total - _HEADER - row * (k + 0.5) + 4 for k in range(len(states) + 1)]
    middle = frame / 2
    places = {s: (middle, y) for s, y in zip(states, centres, strict=False)}
    layout = Layout(frame, total, places, dict(zip(states, centres, strict=False)))
    last = states[-1]
    for key, x in (("x", middle - small / 2 - 1.5), ("loss", middle + small / 2 + 1.5)):
        if key in items:
            items[key] = items[key]._replace(width=small)
            places[key] = (x, centres[-1])
            bottom, top = centres[-1] + height / 2, centres[-2] - height / 2
            layout.wires["x", last] = layout.wires.get(("x", last), [(x, bottom), (x, top)])
            if key == "loss":
                layout.wires[last, "loss"] = [(x, top), (x, bottom)]
    for upper, lower in zip(states, states[1:], strict=False):
        layout.wires[upper, lower] = [(middle, places[upper][1] - height / 2), (middle, places[lower][1] + height / 2)]
    for s in states:
        layout.carried[s, s] = [(0.0, places[s][1]), (middle - width / 2, places[s][1])]
    return layout


Band = list[int | range]
"""A row of columns: time steps, ranges of folded steps; -1 stands for the first states."""


def _bands(
    norms: Sequence[Sequence[Reading]], width: float, height: float, left: float, everything: bool,
    room: tuple[float, float],
) -> list[Band]:  # fmt: skip
    """Which steps stand in which row, so that the picture fits the page."""
    count = len(norms)
    if everything:
        return [[-1, *range(count)]]
    across = max(1, int((room[0] - left) // width))
    down = max(1, int(room[1] // height))
    if count <= across * down:
        each = math.ceil(count / math.ceil(count / across))  # rows of one length
        rows = [list(range(k, min(k + each, count))) for k in range(0, count, each)]
        return [[-1, *rows[0]], *rows[1:]]  # type: ignore[list-item]
    folded = max(0, int((room[0] - left - _FOLD - _GAP) // width))
    keep = folded if folded >= 2 else min(2, down)
    marks = _anomalies(norms)
    # A second fold takes the room of a column; one odd step in the middle is worth it.
    head = max(1, (keep - 1) // 2) if keep > 1 else 0
    kept = [*range(head), *range(count - (keep - head), count)]
    odd = [t for t in marks if t not in kept]
    spare = int((room[0] - left - 2 * (_FOLD + _GAP)) // width)
    if odd and spare >= 3:
        keep = spare - 1
        head = max(1, (keep - 1) // 2)
        kept = sorted({*range(head), odd[0], *range(count - (keep - head), count)})
    columns: Band = [-1]
    before = -1
    for t in sorted(kept):
        if t > before + 1:
            columns.append(range(before + 1, t))
        columns.append(t)
        before = t
    if folded >= 2 or down < 2:
        return [columns]
    split = next(k for k, c in enumerate(columns) if isinstance(c, range)) + 1
    return [columns[:split], columns[split:]]


def _anomalies(norms: Sequence[Sequence[Reading]]) -> list[int]:
    """Steps where something begins: seen from the loss, the first that is no plain number; then the largest norm."""
    found: list[int] = []
    for t in range(len(norms) - 2, -1, -1):
        if any(now.kind != later.kind for now, later in zip(norms[t], norms[t + 1], strict=True)):
            found.append(t if any(r.kind != "value" for r in norms[t]) else t + 1)
    sizes = [max((r.norm for r in some if r.kind == "value"), default=0.0) for some in norms]
    top = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[top] > 10 * max(sizes[0], sizes[-1]):
        found.append(top)
    return list(dict.fromkeys(found))


def _compacted(card: Card) -> Card:
    """Two lines in place of three: an input keeps its letter, the others lose their mean value."""
    if card.kind == "input":
        return card._replace(title=f"{card.title} {card.line}", line="")
    return card if card.kind == "loss" else card._replace(line="")


class _Painter:
    """Puts steps on the canvas, one band after the other."""

    def __init__(
        self, canvas: _Canvas, sequence: SequenceRecord, steps: list[Step], first: Step, layout: Layout,
        items: dict[str, Item], level: str, compact: bool,
    ) -> None:  # fmt: skip
        self.canvas, self.sequence, self.steps, self.first = canvas, sequence, steps, first
        self.layout, self.items, self.level, self.compact = layout, items, level, compact

    def band(self, columns: Band) -> None:
        layout, canvas = self.layout, self.canvas
        base = canvas.band(layout.height + _GAP)
        x = _MARGIN
        # Where the wires of the next column start: the right edge of each state, and its node's name.
        ends: dict[str, tuple[float, str]] = {}
        start = columns[0]
        if isinstance(start, int) and start > 0:  # a band that goes on from the one above
            for state, y in layout.lanes.items():
                ends[state] = (x + 26, canvas.stub(x, base + y, f"t={start}", f"from{start}_{state}"))
            x += 34
        for k, column in enumerate(columns):
            if isinstance(column, range):
                ends, x = self.fold(column, x, base, ends)
                continue
            if column < 0:
                if self.first.cards:
                    ends, x = self.initial(x, base)
                continue
            ends = self.step(self.steps[column], x, base, ends)
            x += layout.width + _GAP
            following = columns[k + 1] if k + 1 < len(columns) else None
            if following is None and column + 1 < len(self.steps):
                for state, (edge, tail) in ends.items():
                    y = base + layout.lanes[state]
                    stub = canvas.stub(x + 8, y, f"t={column + 2}", f"to{column + 2}_{state}")
                    canvas.wire(tail, stub, [(edge, y), (x + 6, y)], self._next(column + 1, state), dashed=True)
                canvas.reach(x + 34)
        canvas.reach(x)

    def _next(self, t: int, state: str) -> Reading:
        """What comes back along a lane from step t: the largest of the flows, as one line stands for all."""
        some = [r for (a, _), r in self.steps[t].carried.items() if a == state]
        return max(some, key=lambda r: (r.kind == "not finite", r.norm), default=Reading(0.0, "no path"))

    def initial(self, x: float, base: float) -> tuple[dict[str, tuple[float, str]], float]:
        width, height = _SIZES[self.level][0] * 0.8, next(iter(self.items.values())).height
        ends = {}
        for state, card in self.first.cards.items():
            if self.compact:
                card = _compacted(card)
            if state in self.layout.lanes:
                name = f"{state}_0"
                self.canvas.card(name, card, (x + width / 2, base + self.layout.lanes[state]), width, height, ())
                ends[state] = (x + width, name)
        return ends, x + width + _GAP

    def step(
        self, step: Step, x: float, base: float, ends: dict[str, tuple[float, str]]
    ) -> dict[str, tuple[float, str]]:
        layout, canvas, t = self.layout, self.canvas, step.time
        names = {key: f"{_identifier(key)}_{t + 1}" for key in step.cards}
        with canvas.frame(t, x, base, layout.width, layout.height):
            for key, card in step.cards.items():
                if self.compact:
                    card = _compacted(card)
                px, py = layout.places[key]
                item = self.items[key]
                canvas.card(names[key], card, (x + px, base + py), item.width, item.height, card.pills, t)
        for (a, b), reading in step.flows.items():
            points = [(x + px, base + py) for px, py in layout.wires[a, b]]
            canvas.wire(names[a], names[b], points, reading)
        for (a, b), reading in sorted(step.carried.items(), key=lambda item: item[1].norm):
            if a not in ends:
                continue
            edge, tail = ends[a]
            template = layout.carried[a, b]
            points = [(edge, base + template[0][1]), *((x + px, base + py) for px, py in template[1:])]
            canvas.wire(tail, names[b], points, reading)
        return {
            s: (x + layout.places[s][0] + self.items[s].width / 2, names[s]) for s in layout.lanes if s in names
        }

    def fold(
        self, hidden: range, x: float, base: float, ends: dict[str, tuple[float, str]]
    ) -> tuple[dict[str, tuple[float, str]], float]:
        layout, canvas = self.layout, self.canvas
        name = f"fold_{hidden.start + 1}"
        readings = {s: self.sequence.readings(s)[hidden.start : hidden.stop] for s in layout.lanes}
        canvas.fold(name, hidden, readings, x, base, layout, _FOLD)
        for state, (edge, tail) in ends.items():
            y = base + layout.lanes[state]
            canvas.wire(tail, name, [(edge, y), (x, y)], self._next(hidden.start, state))
        return {s: (x + _FOLD, name) for s in layout.lanes}, x + _FOLD + _GAP


# The strip level


def _strip(canvas: _Canvas, sequence: SequenceRecord, labels: list[str] | None, everything: bool) -> None:
    """One row a state and gate, one tile a step; where a page is too narrow, a tile stands for several steps."""
    rows: list[tuple[str, list[Reading]]] = [
        ({"c": "C"}.get(s, s), sequence.readings(s)) for s in sequence.states
    ]
    for symbol, norms in sequence.gate_norms.items():
        rows.append((symbol, [sequence.reading(norms, t) for t in range(sequence.steps)]))
    if sequence.input_norms is not None:
        rows.append(("x", [sequence.reading(sequence.input_norms, t) for t in range(sequence.steps)]))
    left = _MARGIN + 16 + 5.5 * max(len(symbol) for symbol, _ in rows)
    room = _WIDTH - left - 2 * _MARGIN
    wide = max(8.6 if everything else 2.0, min(26.0, room / sequence.steps))
    chunk = 1 if everything else math.ceil(sequence.steps * wide / room)
    if chunk > 1:
        wide = room / math.ceil(sequence.steps / chunk)
        canvas.note(f"each tile: the largest of {chunk} steps", left)
    starts = range(0, sequence.steps, chunk)
    base = canvas.band(16)
    every = next(e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if e * wide / chunk >= 26)
    for k, t in enumerate(starts):
        if t == 0 or (t + 1) % every < chunk and t + chunk <= sequence.steps - every // 2 or t + chunk >= sequence.steps:
            canvas.text(f"axis_{t + 1}", str(t + 1), (left + wide * (k + 0.5), base + 6), 10)
    for symbol, readings in rows:
        base = canvas.band(22)
        canvas.text(f"row_{_identifier(symbol)}", symbol, (left - 10 - 2.5 * len(symbol), base + 11), 12)
        for k, t in enumerate(starts):
            some = readings[t : t + chunk]
            worst = max(some, key=lambda r: (r.kind == "not finite", r.norm))
            where = f"t={t + 1}" if chunk == 1 else f"t={t + 1}…{t + len(some)}"
            letter = f" “{labels[t]}”" if labels and chunk == 1 else ""
            canvas.tile(
                f"{_identifier(symbol)}_{t + 1}", worst, (left + wide * (k + 0.5), base + 11), wide, 19,
                f"{where}{letter}: ‖∂L/∂{symbol}‖ = {shown(worst)}",
            )  # fmt: skip
    if labels and wide >= 8.6 and chunk == 1:
        base = canvas.band(16)
        for t, label in enumerate(labels):
            if len(label) * 6 <= wide + 3:
                canvas.text(f"label_{t + 1}", label, (left + wide * (t + 0.5), base + 9), 10)
    canvas.reach(left + wide * len(starts))
    base = canvas.band(20)
    end = left + wide * len(starts)
    tail = canvas.text("arrow_tail", "", (end, base + 10), 10)
    head = canvas.text("arrow_head", "the gradient travels this way", (max(left + 80, end - 330), base + 10), 10)
    canvas.wire(head, tail, [(max(left + 165, end - 245), base + 10), (end, base + 10)], Reading(0.5, "value"))


# The rows of the clipping picture


def _terms(
    canvas: _Canvas, sequence: SequenceRecord, name: str, readings: list[Reading], total: float | None,
    labels: list[str] | None, everything: bool, row: str,
) -> None:  # fmt: skip
    """One box a step, the middle folded, and the sum of all at the end."""
    width, height, frame, end = 66.0, 34.0, 72.0, 86.0
    layout = Layout(frame, height + _HEADER + 8, {"W": (frame / 2, height / 2 + 4)}, {"W": height / 2 + 4})
    room = (canvas.room[0] - end - 20, layout.height * 1.5)
    (columns,) = _bands([[r] for r in readings], frame + 4, layout.height, 0.0, everything, room)
    base, x = canvas.band(layout.height + 2), _MARGIN
    for column in columns[1:]:
        if isinstance(column, range):
            canvas.fold(f"{row}_fold_{column.start + 1}", column, {"W": readings[column.start : column.stop]},
                        x, base, layout, _FOLD)  # fmt: skip
            x += _FOLD + 4
            continue
        letter = f" “{labels[column]}”" if labels else ""
        about = f"t={column + 1}{letter}: this step's term of ∂L/∂{name} has norm {shown(readings[column])}"
        card = Card("gate", name, "", readings[column], about)
        with canvas.frame(column, x, base, frame, layout.height, row):
            canvas.card(f"{row}_{column + 1}", card, (x + frame / 2, base + layout.lanes["W"]), width, height, (), column)
        x += frame + 4
    if total is not None:
        y = base + layout.lanes["W"]
        canvas.text(f"{row}_equals", "Σ =", (x + 8, y), 12)
        about = f"the sum of all terms: ‖∂L/∂{name}‖ = {total:.3g}"
        card = Card("gate", f"∂L/∂{name}", "", sequence.norm_reading(total), about)
        canvas.card(f"{row}_sum", card, (x + 18 + end / 2, y), end, height, ())
        x += 18 + end
    canvas.reach(x)
    canvas.band(6)


def _totals(
    canvas: _Canvas, sequence: SequenceRecord, norms: dict[str, float], angles: dict[str, float] | None, row: str
) -> None:
    width, height = 110.0, 46.0
    base, x = canvas.band(height + 2), _MARGIN
    for name, norm in norms.items():
        if x + width > canvas.room[0]:
            base, x = canvas.band(height + _GAP), _MARGIN
        turned = "" if angles is None else f"turned by {number(angles[name])}°"
        card = Card("gate", short_name(name), turned, sequence.norm_reading(norm), f"{name}: ‖∂L/∂{name}‖ = {norm:.3g}")
        canvas.card(f"{row}_{_identifier(name)}", card, (x + width / 2, base + height / 2), width, height, ())
        x += width + 8
    canvas.reach(x)
    canvas.band(6)


# The canvas


def _identifier(text: str) -> str:
    """Letters, digits and _ for ids: anything else by its code point."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"u{ord(c):x}" for c in text)


def _quoted(text: str) -> str:
    """Text as it shall be read: no letter of it is DOT syntax, an escape or HTML."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _attributes(values: dict[str, str]) -> str:
    return "[" + " ".join(f'{k}="{v}"' for k, v in values.items()) + "]"


class _Canvas:
    """A Graphviz drawing with every coordinate given, filled from the top down."""

    room = (_WIDTH - 2 * _MARGIN, _HEIGHT - 122.0)  # beside margins, caption and legend

    def __init__(self, name: str) -> None:
        self.graph = graphviz.Digraph(
            name,
            graph_attr={"layout": "nop2", "fontname": "Helvetica", "outputorder": "nodesfirst", "id": name,
                        "bgcolor": "#ffffff", "pad": "0.08"},
            node_attr={"shape": "box", "fontname": "Helvetica", "fontsize": "10", "fixedsize": "true",
                       "style": "rounded,filled"},
            edge_attr={"fontname": "Helvetica"},
        )  # fmt: skip
        # Lines of DOT: written here, since graphviz would examine every value again, at ten times the cost.
        self.lines: list[str] = []
        self.bottom, self.right = 0.0, 0.0

    def band(self, height: float) -> float:
        """Take a band of this height; gives the y of its lower edge."""
        self.bottom -= height
        return self.bottom

    def reach(self, x: float) -> None:
        self.right = max(self.right, x)

    def _node(self, name: str, center: Point, width: float, height: float, **look: str) -> str:
        place = f'pos="{center[0]:.6g},{center[1]:.6g}" width="{width / 72:.4g}" height="{height / 72:.4g}" id="{name}"'
        self.lines.append(f'\t"{name}" [{place} {_attributes(look)[1:]}\n')
        return name

    def text(self, name: str, text: str, center: Point, size: float, **look: str) -> str:
        """Plain words around a point."""
        return self._node(name, center, max(8.0, len(text) * size * 0.56), size * 1.3, label=_quoted(text),
            shape="plaintext", style="", fontsize=f"{size:g}", **look,
        )  # fmt: skip

    def _line(self, name: str, text: str, size: float, height: float, css: str) -> None:
        """Words that start at the left margin."""
        base, width = self.band(height), max(200.0, len(text) * size * 0.62)
        self._node(name, (_MARGIN + width / 2, base + height / 2), width, size * 1.3, label=_quoted(text) + "\\l",
            shape="plaintext", style="", fontsize=f"{size:g}", **{"class": css, "margin": "0"},
        )  # fmt: skip
        self.reach(_MARGIN + len(text) * size * 0.52)

    def caption(self, title: str, story: str) -> None:
        self._line("caption", title, 14, 22, "caption")
        self._line("story", story, 11, 20, "caption")
        self.band(4)

    def row_title(self, text: str) -> None:
        self._line(f"row{-self.bottom:.0f}", text, 11, 18, "caption")

    def note(self, text: str, x: float) -> None:
        base = self.band(16)
        self.text("note", text, (x + len(text) * 2.8, base + 8), 10)

    @contextmanager
    def frame(self, t: int, x: float, base: float, width: float, height: float, prefix: str = "step") -> Iterator[None]:
        """The frame of one time step, as a cluster around what is drawn inside this block."""
        attributes = {
            "bb": f"{x:.6g},{base:.6g},{x + width:.6g},{base + height:.6g}",
            "lp": f"{x + width / 2:.6g},{base + height - 10:.6g}", "label": f"t = {t + 1}", "fontsize": "11",
            "style": "rounded,filled", "color": "#c8c8c8", "fillcolor": "#fafafa", "id": f"{prefix}_{t + 1}",
            "class": "step", "tooltip": f"t = {t + 1}",
        }  # fmt: skip
        self.lines.append(f'\tsubgraph "cluster_{prefix}_{t + 1}" {{\n\tgraph {_attributes(attributes)}\n')
        yield
        self.lines.append("\t}\n")

    def card(
        self, name: str, card: Card, center: Point, width: float, height: float, pills: Sequence[Pill],
        t: int = -1,
    ) -> None:  # fmt: skip
        look_ = look(card.reading)
        number_ = shown(card.reading)
        lines = [card.title, card.line, "" if card.kind == "loss" else number_ if number_ == "no path" else f"g {number_}"]
        attributes = _style(look_, card.kind)
        self._node(
            name, center, width, height, label="\\n".join(_quoted(x) for x in lines if x),
            tooltip=_quoted(card.about), **{"class": f"{card.kind} t{t + 1}"}, **attributes,
        )  # fmt: skip
        y = center[1] + height / 2
        for pill in pills:
            paint = look(pill.reading)
            self._node(
                f"{name}_{_identifier(pill.name)}", (center[0], y + _PILL / 2), width, _PILL,
                label=_quoted(f"{pill.name} {shown(pill.reading)}"), fontsize="9.5",
                tooltip=_quoted(f"{pill.parameter}: this step's term of its gradient has norm {shown(pill.reading)}"),
                **{"class": f"use use-{_identifier(pill.name)} t{t + 1}"}, **_style(paint, "pill"),
            )  # fmt: skip
            y += _PILL

    def tile(self, name: str, reading: Reading, center: Point, width: float, height: float, about: str) -> None:
        attributes = _style(look(reading), "tile")
        self._node(name, center, width, height, label="", tooltip=_quoted(about), **{"class": "tile"}, **attributes)

    def stub(self, x: float, y: float, text: str, name: str) -> str:
        """Where a lane goes on in another row."""
        return self.text(name, text, (x + 10, y + 8), 10)

    def wire(self, tail: str, head: str, points: list[Point], reading: Reading, *, dashed: bool = False) -> None:
        """An arrow from head back to tail, along the corners from tail to head; forward before any backward."""
        points = [p for k, p in enumerate(points) if k == 0 or math.dist(p, points[k - 1]) > 0.01]
        if len(points) < 2:
            return
        paint, waiting = look(reading), reading.kind == "no backward yet"
        size = math.log10(reading.norm) if reading.kind == "value" else -12.0
        pen = min(max(0.8 + 0.32 * (size + 7), 0.8), 3.2)
        arrow = min(max(1.5 / pen, 0.4), 0.8)
        tip, far = (points[-1], points[-2]) if waiting else (points[0], points[1])
        room = math.dist(tip, far)
        back = min(10 * arrow, 0.9 * room) / room
        rest = (tip[0] + (far[0] - tip[0]) * back, tip[1] + (far[1] - tip[1]) * back)
        if waiting:
            points[-1] = rest
        else:
            points[0] = rest
        spline = [points[0]]
        for p, q in zip(points, points[1:], strict=False):
            spline += [(p[0] + (q[0] - p[0]) * k / 3, p[1] + (q[1] - p[1]) * k / 3) for k in (1, 2)] + [q]
        way = " ".join(f"{x:.6g},{y:.6g}" for x, y in spline)
        attributes = {
            "pos": f"{'e' if waiting else 's'},{tip[0]:.6g},{tip[1]:.6g} {way}", "dir": "forward" if waiting else "back",
            "color": paint.edge, "penwidth": f"{pen:.3g}", "arrowsize": f"{arrow:.3g}", "id": f"e_{tail}_{head}",
            "style": "dashed" if dashed or reading.kind in ("no path", "zero") else "solid",
            "tooltip": f"gradient along this way: {shown(reading)}",
        }  # fmt: skip
        self.lines.append(f'\t"{tail}" -> "{head}" {_attributes(attributes)}\n')

    def fold(
        self, name: str, hidden: range, readings: dict[str, list[Reading]], x: float, base: float, layout: Layout,
        width: float,
    ) -> None:  # fmt: skip
        """A box for the steps left out, with each lane's own strip, least and largest norm."""
        self._node(name, (x + width / 2, base + layout.height / 2), width, layout.height,
            label="", fillcolor="#ffffff", color="#555555", style="rounded,dashed,filled",
            tooltip=_quoted(f"{len(hidden)} steps, t={hidden.start + 1} to {hidden.stop}"), **{"class": "fold"},
        )  # fmt: skip
        top = base + layout.height
        one = len(hidden) == 1
        self.text(f"{name}_count", f"… {len(hidden)} step{'' if one else 's'} …", (x + width / 2, top - 10), 10)
        span = f"t = {hidden.start + 1}" + ("" if one else f"…{hidden.stop}")
        roomy = top - base - max(layout.lanes.values()) > 36
        self.text(f"{name}_span", span, (x + width / 2, top - 23 if roomy else base + 9), 10)
        for state, some in readings.items():
            y = layout.lanes[state] + base
            norms = [r.norm for r in some if r.kind == "value"]
            special = sorted({r.kind for r in some} - {"value"})
            words = [f"g {number(min(norms))}" + ("" if one else f" … {number(max(norms))}")] if norms else []
            if special:
                words.append(("and " if words else "g ") + ", ".join("0" if k == "zero" else k for k in special))
            for k, word in enumerate(words):
                self.text(f"{name}_{_identifier(state)}_{'least' if k == 0 else 'kinds'}", word, (x + width / 2, y - 15 - 12 * k), 10)
            count = min(_ALL_TILES, len(some))
            wide = (width - 8) / count
            for k in range(count):
                chunk = some[k * len(some) // count : (k + 1) * len(some) // count]
                worst = max(chunk, key=lambda r: (r.kind == "not finite", r.norm))
                first = hidden.start + k * len(some) // count + 1
                last = first + len(chunk) - 1
                where = f"t={first}" if first == last else f"t={first}…{last}, largest"
                self.tile(f"{name}_{_identifier(state)}_{k}", worst, (x + 4 + wide * (k + 0.5), y), wide, 13, f"{where}: {shown(worst)}")

    def legend(self, key: str) -> None:
        """The colour scale, the kinds that are no numbers, and how to read a box."""
        height, wide = 34.0, 62.0
        pieces = [("bin", b) for _, b in BINS] + [("kind", SPECIAL[k]) for k in SPECIAL if k != "padding"]
        x, base = _MARGIN, self.band(height + 14)
        for k, (kind, paint) in enumerate(pieces):
            if kind == "kind" and pieces[k - 1][0] == "bin":
                if self.right < 880 and -self.bottom < 640:  # a narrow picture: a second row
                    x, base = _MARGIN, self.band(height + 6)
                else:
                    x += 14
            step = wide if kind == "bin" else wide + 8
            shape = "tile" if kind == "bin" else "gate"
            self._node(f"legend_{k}", (x + step / 2 - (0 if kind == "bin" else 2), base + height / 2),
                step if kind == "bin" else step - 8, height, label=_quoted(paint.legend), **{"class": "legend"},
                **_style(paint, shape),
            )  # fmt: skip
            x += step
        self._node("legend_key", (x + 56, base + height / 2), 96, height + 6, label=_quoted(key),
            fillcolor="#ffffff", color="#555555", **{"class": "legend"},
        )  # fmt: skip
        self.reach(x + 104)

    def picture(self) -> Picture:
        width, height = self.right + _MARGIN, -self.bottom + _MARGIN
        self.graph.body.extend(self.lines)
        self.graph.graph_attr["bb"] = f"0,{self.bottom - 4:g},{width:g},0"
        return Picture(self.graph, (width, height))


def _style(paint: Look, kind: str) -> dict[str, str]:
    """Graphviz's words for a look on a kind of box."""
    fill, border, pen = paint.fill, "#555555", "1"
    style = {"input": "filled", "tile": "filled", "loss": "filled"}.get(kind, "rounded,filled")
    if kind in ("state", "initial"):
        border, pen = _BLACK, "2"
    if kind == "tile":
        border, pen = "#8f8f8f", "0.5"
    if paint.style == "striped":
        style, fill = "striped", f"{paint.edge};0.08:#ffffff;0.84:{paint.edge}"
    elif paint.style == "heavy":
        border, pen = paint.edge, "1.5" if kind == "tile" else "3"
    elif "d" in paint.style:  # dashed, dotted
        style = f"filled,{paint.style}" if style.startswith("rounded") else f"filled,{paint.style.split(',')[-1]}"
    shape = {"shape": "octagon"} if kind == "loss" else {}
    if kind == "loss" and style == "striped":
        style = "filled"
    return {"fillcolor": fill, "color": border, "penwidth": pen, "fontcolor": paint.text, "style": style, **shape}
