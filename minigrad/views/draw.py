"""Pictures of a Record: the network unrolled through time, coloured by the size of its gradients.

Time runs from left to right, one column a step; the gradient runs back along the arrows. Every
coordinate is fixed here (see `layout`), so the same record always gives the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..bptt.record import Reading, Record, SequenceRecord
from ..errors import DrawError
from .canvas import FOLD, GAP, HEADER, MARGIN, PILL, STUB, Canvas, extent, identifier
from .clipped import clipping as clipping
from .fold import Band, bands
from .layout import PORT, Item, Layout, arrange
from .palette import largest, number, shown
from .picture import Picture
from .scene import Card, Scene, Step, build, labelled, letter_of, subscript
from .strip import Row, strip, strip_rows
from .whole import graph as graph

__all__ = ["LEVELS", "clipping", "compare", "graph", "unrolled"]

LEVELS = ("strip", "cell", "gate", "op")
_WIDEST = 90.0  # of the words in a box
_SIZES = {"cell": (92.0, 46.0), "gate": (56.0, 42.0), "op": (56.0, 42.0)}  # of a box


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
    labels, targets = labelled(labels, chosen.steps), labelled(targets, chosen.steps, "targets")
    canvas = Canvas("unrolled")
    canvas.caption(title or _title(record, chosen), _story(chosen))
    if level == "strip":
        strip(canvas, [strip_rows(chosen)], labels, everything)
        canvas.legend("one tile a step:\n‖∂L/∂name‖")
    else:
        _steps(canvas, chosen, build(record, chosen, level, labels, targets), level, everything)
    return canvas.picture()


def compare(
    records: Mapping[str, Record],
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw the states of several cells over the same sequence, one row each, on one scale.

    Args:
        records: By the cell's name; each from `bptt.backward`.
        everything, labels, title: As `unrolled`.
    Raises:
        DrawError: There is no record, or the sequences differ in length.
        RecordError: A record has no sequence.
    """
    sequences = {name: record.sequence() for name, record in records.items()}
    lengths = {name: s.steps for name, s in sequences.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} T={t}" for name, t in lengths.items()) or "no record"
        raise DrawError(f"Cells are compared over one sequence; found {found}.\n  Give records of equal length.")
    labels = labelled(labels, next(iter(lengths.values())))
    canvas = Canvas("compare")
    canvas.caption(
        title or f"{', '.join(records)}: how much of the loss's gradient reaches each step",
        "   ".join(f"{name}: {_reach(s)}" for name, s in sequences.items()),
    )
    groups: list[list[Row]] = []
    for name, s in sequences.items():
        groups.append([Row(f"{name}  {letter_of(state)}", letter_of(state), s.readings(state)) for state in s.states])
    strip(canvas, groups, labels, everything)
    canvas.legend("one tile a step:\n‖∂L/∂name‖")
    return canvas.picture()


# Words


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
        symbol, t, readings = letter_of(name), sequence.steps, sequence.readings(name)
        first, last = (f"‖∂L/∂{subscript(symbol, k)}‖ = {shown(readings[k - 1])}" for k in (1, t))
        parts.append(f"{first}   {last}   ratio {_ratio(readings)}")
    return "      ".join(reversed(parts))


def _ratio(readings: list[Reading]) -> str:
    first, last = readings[0], readings[-1]
    return number(first.norm / last.norm) if last.kind == "value" and math.isfinite(first.norm) else "—"


def _reach(sequence: SequenceRecord) -> str:
    """First to last along each lane."""
    parts = []
    for name in sequence.states:
        first, last = (f"‖∂L/∂{subscript(letter_of(name), k)}‖" for k in (1, sequence.steps))
        parts.append(f"{first} / {last} = {_ratio(sequence.readings(name))}")
    return ", ".join(parts)


# The steps of the cell, gate and op levels


def _steps(
    canvas: Canvas, sequence: SequenceRecord, scene: Scene, level: str, everything: bool
) -> None:
    steps, first, typical = scene
    left = max(STUB, _SIZES[level][0] * 0.8 + GAP if first.cards else 0.0)
    readings = {s: sequence.readings(s) for s in sequence.states}
    norms = list(zip(*readings.values(), strict=True))
    for compact in (False, True):
        layout, items = _layout(sequence, typical, level, compact)
        rows = bands(norms, layout.width + GAP, layout.height + GAP, left, everything, canvas.room)
        if everything or len(rows) * (layout.height + GAP) <= canvas.room[1]:
            break  # else once more without the mean values, which lets two rows of steps on the page
    canvas.plain = everything and len(steps) > 250
    painter = _Painter(canvas, readings, steps, first, layout, items, level, compact, left)
    for row in rows:
        painter.band(row)
    canvas.legend("name\ng = ‖∂L/∂name‖" if compact else "name\nmean value\ng = ‖∂L/∂name‖")


def _layout(
    sequence: SequenceRecord, steps: Sequence[Step], level: str, compact: bool
) -> tuple[Layout, dict[str, Item]]:
    """One layout for all steps: of everything that these steps have."""
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
    output = next((b if a == "x" else a for a, b in flows if b == "loss" or (a == "x" and level == "cell")), None)
    states = sorted(sequence.states, key=lambda s: s == output)  # the lane that the loss hangs on comes last
    kinds = {"state": "state", "input": "input", "loss": "output"}
    order = [*states, *(k for k in cards if k not in states)]
    items = {
        k: Item(k, kinds.get(cards[k].kind, "gate"), width, height, PILL * len(cards[k].pills)) for k in order
    }
    if level == "cell":
        return _cell_layout(states, items), items
    for k, card in cards.items():  # long names make a box wider, and are cut beyond that
        words = [card.title, *(f"{pill.name} 0.012" for pill in card.pills)]
        wide = min(max(extent(text) for text in words), _WIDEST) + 1.5
        items[k] = items[k]._replace(width=max(width, wide if card.kind != "input" else width))
    row_gap = 9 if compact else 16
    layout = arrange(
        list(items.values()), list(flows), list(carried), row_gap=row_gap, column_gap=14, header=HEADER
    )
    return layout, items


def _cell_layout(states: list[str], items: dict[str, Item]) -> Layout:
    """The states above each other, the input and the loss side by side below them."""
    width, height = _SIZES["cell"]
    aside = states[:-2]  # they reach the last one past those between
    small, row, frame = 50.0, height + 18, width + 16 + PORT * len(aside)
    total = HEADER + row * (len(states) + 1)
    centres = [total - HEADER - row * (k + 0.5) + 4 for k in range(len(states) + 1)]
    middle = (width + 16) / 2
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
    for upper, lower in pairwise(states):
        layout.wires[upper, lower] = [(middle, places[upper][1] - height / 2), (middle, places[lower][1] + height / 2)]
    for k, upper in enumerate(aside):
        edge, turn, down = middle + width / 2, middle + width / 2 + 4 + PORT * (k + 1), 4 + PORT * (k + 1)
        start, end = places[upper][1] - 8, places[last][1] + down
        layout.wires[upper, last] = [(edge, start), (turn, start), (turn, end), (edge, end)]
    for s in states:
        layout.carried[s, s] = [(0.0, places[s][1]), (middle - width / 2, places[s][1])]
    return layout


def _compacted(card: Card) -> Card:
    """Two lines in place of three: an input keeps its letter, the others lose their mean value."""
    if card.kind == "input":
        return card._replace(title=f"{card.title} {card.line}", line="")
    return card if card.kind == "loss" else card._replace(line="")


class _Painter:
    """Puts steps on the canvas, one band after the other."""

    def __init__(
        self, canvas: Canvas, readings: dict[str, list[Reading]], steps: Sequence[Step], first: Step, layout: Layout,
        items: dict[str, Item], level: str, compact: bool, left: float,
    ) -> None:  # fmt: skip
        self.canvas, self.readings, self.steps, self.first = canvas, readings, steps, first
        self.layout, self.items, self.level, self.compact, self.left = layout, items, level, compact, left

    def band(self, columns: Band) -> None:
        layout, canvas = self.layout, self.canvas
        base = canvas.band(layout.height + GAP)
        x = MARGIN
        # Where the wires of the next column start: the right edge of each state, and its node's name.
        ends: dict[str, tuple[float, str]] = {}
        start = columns[0]
        if isinstance(start, int) and start > 0:  # a band that goes on from the one above
            for state, y in layout.lanes.items():
                name = f"from{start}_{identifier(state)}"
                ends[state] = (x + self.left - 8, canvas.stub(x + self.left - STUB, base + y, f"t={start}", name))
            x += self.left  # its columns stand below those of the row above
        for k, column in enumerate(columns):
            if isinstance(column, range):
                ends, x = self.fold(column, x, base, ends)
                continue
            if column < 0:
                if self.first.cards:
                    ends, x = self.initial(x, base)
                continue
            ends = self.step(self.steps[column], x, base, ends)
            x += layout.width + GAP
            following = columns[k + 1] if k + 1 < len(columns) else None
            if following is None and column + 1 < len(self.steps):
                for state, (edge, tail) in ends.items():
                    y = base + layout.lanes[state]
                    stub = canvas.stub(x + 8, y, f"t={column + 2}", f"to{column + 2}_{identifier(state)}")
                    canvas.wire(tail, stub, [(edge, y), (x + 6, y)], self._next(column + 1, state), dashed=True)
                canvas.reach(x + STUB)
        canvas.reach(x)

    def _next(self, t: int, state: str) -> Reading:
        """What comes back along a lane from step t: the largest of the flows, as one line stands for all."""
        return largest(r for (a, _), r in self.steps[t].carried.items() if a == state)

    def initial(self, x: float, base: float) -> tuple[dict[str, tuple[float, str]], float]:
        width, height = _SIZES[self.level][0] * 0.8, next(iter(self.items.values())).height
        ends = {}
        for state, card in self.first.cards.items():
            if self.compact:
                card = _compacted(card)
            if state in self.layout.lanes:
                name = f"{identifier(state)}_0"
                self.canvas.card(name, card, (x + width / 2, base + self.layout.lanes[state]), width, height, ())
                ends[state] = (x + width, name)
        return ends, x + self.left

    def step(
        self, step: Step, x: float, base: float, ends: dict[str, tuple[float, str]]
    ) -> dict[str, tuple[float, str]]:
        layout, canvas, t = self.layout, self.canvas, step.time
        names = {key: f"{identifier(key)}_{t + 1}" for key in step.cards}
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
        readings = {s: self.readings[s][hidden.start : hidden.stop] for s in layout.lanes}
        canvas.fold(name, hidden, readings, x, base, layout, FOLD)
        for state, (edge, tail) in ends.items():
            y = base + layout.lanes[state]
            canvas.wire(tail, name, [(edge, y), (x, y)], self._next(hidden.start, state))
        return dict.fromkeys(layout.lanes, (x + FOLD, name)), x + FOLD + GAP
