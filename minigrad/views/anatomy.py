"""Cell anatomy: the recorded ops of one time step where the textbook puts them, with live numbers.

RNN, LSTM and GRU are recognised by their ops, not by their names; any other cell is laid out like a step
of the gate level, and its equations are read off its ops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ..bptt.record import Record, SequenceRecord
from ..errors import DrawError, RecordError
from .canvas import HEADER, MARGIN, PILL, WIDTH, Canvas, extent, identifier, shortened
from .equation import plain, typeset
from .facts import Facts, before, incoming
from .layout import Item, Point, arrange
from .picture import Picture
from .scene import Card, letter_of
from .textbook import BEFORE, HIGH, WIDE, Anatomy, Highlight, Row, textbook

__all__ = ["anatomy"]

_PANEL = 392.0  # width of the equations
_ROW = 58.0  # height of an equation, its name and its numbers
_SIZE = 11.0  # of the letters in a box


def anatomy(
    record: Record,
    *,
    step: int | None = None,
    sequence: str | None = None,
    highlight: str | None = None,
    title: str | None = None,
) -> Picture:
    """Draw the ops of one time step as the textbook draws the cell, with their values and gradients.

    What comes from the step before stands on the left, what goes to the next one leaves on the right; the
    gradient runs back along the arrows. Beside it stand the equations, each with the mean of its value, the
    saturated share of it (a sigmoid beyond 0.1 and 0.9, a tanh beyond -0.8 and 0.8) and the norm of its gradient.

    Args:
        record: Of `bptt.backward(loss, keep="ops")`, or of `bptt.expand(loss)` where a kernel ran.
        step: Which one, counted from 1 as in all pictures; None: the one where the gradient of its walk enters.
        sequence: Which layer and direction; None: the only or the first one.
        highlight: A gate or a state, by its letter or its name ("f", "forget gate"): it stands out, with what
            belongs to it, and everything else stands back. None: nothing stands back.
        title: In place of the one made from the record.
    Raises:
        DrawError: There is no such step, or nothing of this name to highlight.
        RecordError: There is no such sequence; it ran in a kernel; the record was made without ops; the loss
            does not depend on this step, so none of its ops are in the graph.

    Source: the drawings follow Olah 2015, Understanding LSTM Networks.
    """
    s = record.sequence(sequence)
    t = _chosen(record, s, step)
    facts = Facts(record, s, t)
    drawn = textbook(facts) or _own(facts)
    chosen = None if highlight is None else _highlighted(s, drawn.highlights, highlight)
    canvas = Canvas("anatomy")
    _caption(canvas, facts, drawn, chosen, title)
    _draw(canvas, facts, drawn, chosen)
    canvas.legend("name\nmean value\ng = ‖∂L/∂name‖", [s.dtype], padding=not facts.real)
    return canvas.picture()


def _chosen(record: Record, s: SequenceRecord, step: int | None) -> int:
    """The step's index, where it can be drawn."""
    if s.kernel:
        raise RecordError(
            f"draw.anatomy shows the ops of a step, and {s.name} ran in one op, a kernel.\n"
            "  Draw bptt.expand(loss), which replays its steps."
        )
    if record.graph is None:
        raise RecordError(
            "draw.anatomy shows the ops of a step, and this record was made without them.\n"
            "  Make it with bptt.backward(loss, keep='ops')."
        )
    states = (b for b in record.graph.boxes if b.sequence == s.name and b.kind == "state")
    there = sorted({b.time for b in states if b.time is not None})
    if step is None:
        step = (there[0] if s.reverse else there[-1]) + 1
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or not 1 <= step <= s.steps:
        raise DrawError(f"draw.anatomy: step={step!r} of {s.name}.\n  Steps count from 1; give one up to T={s.steps}.")
    if step - 1 not in there:
        first, last = there[0] + 1, there[-1] + 1
        others = f"step {first}" if first == last else f"one of the steps {first} to {last}"
        raise RecordError(
            f"draw.anatomy: the loss does not depend on step {step} of {s.name}, so its ops were not recorded.\n"
            f"  Choose {others}."
        )
    return int(step) - 1


def _highlighted(s: SequenceRecord, highlights: Sequence[Highlight], name: str) -> Highlight:
    for found in sorted(highlights, key=lambda h: h.names[0] != name):  # letters first
        if name in found.names:
            return found
    choices = ", ".join(h.names[0] + "".join(f" ({n})" for n in h.names[1:2]) for h in highlights)
    raise DrawError(f"draw.anatomy: {s.cell} has nothing called {name!r} to highlight.\n  Choose one of {choices}.")


# Any other cell


def _own(facts: Facts) -> Anatomy:
    """Laid out like a step of the gate level, with the equations that its ops make."""
    drawn = _arranged(facts, WIDE, HIGH, 18)
    if drawn.layout.width > WIDTH - 2 * (WIDE + BEFORE) - MARGIN:  # many parts in a row
        drawn = _arranged(facts, 58.0, 46.0, 8)
    return drawn


def _arranged(facts: Facts, width: float, height: float, gap: float) -> Anatomy:
    cards = facts.cards
    states = sorted(facts.s.states, key=lambda name: name == facts.scene.output)
    kinds = {"state": "state", "input": "input", "loss": "output", "join": "output"}
    items = []
    for key in [*states, *(k for k in cards if k not in states)]:
        words = [cards[key].title, *(f"{pill.name} 0.012" for pill in cards[key].pills)]
        wide = min(max(width, *(extent(text, _SIZE) + 4 for text in words)), 1.5 * width)
        items.append(Item(key, kinds.get(cards[key].kind, "gate"), wide, height, PILL * len(cards[key].pills)))
    layout = arrange(items, list(facts.flows), list(facts.carried), row_gap=24, column_gap=gap, header=HEADER)
    sizes = {i.key: (i.width, i.height) for i in items}
    flows = dict(facts.flows)
    drawn = dict(cards)
    for state, card in facts.incoming().items():
        drawn[before(state)], sizes[before(state)] = card, (WIDE, HIGH)
        layout.places[before(state)] = (-BEFORE - WIDE / 2, layout.lanes[state])
    for (state, key), way in layout.carried.items():
        if before(state) in drawn:
            layout.wires[before(state), key] = [(-BEFORE, way[0][1]), *way[1:]]
            flows[before(state), key] = facts.carried[state, key]
    named = facts.named()
    names = {box.id: letter_of(key) if box.kind == "state" else key for key, box in named.items()}
    rows, highlights = [], []
    for key, box in named.items():
        if key not in cards:
            continue
        label = {"h": "hidden state", "c": "cell state"}.get(box.symbol, "state") if box.kind == "state" else box.label
        rows.append(Row(key, label, facts.equation(key, box, names)))
        near = {b for pair in flows for b in pair if key in pair} | {f"next {key}"}
        called = tuple(dict.fromkeys((names[box.id], label, key)))
        highlights.append(Highlight(called, frozenset({key}), frozenset(near - {key}), frozenset({key}), label))
    return Anatomy(layout, sizes, drawn, flows, rows, highlights, ["× is element by element; read off the ops."])


# On the canvas


def _caption(
    canvas: Canvas, facts: Facts, drawn: Anatomy, chosen: Highlight | None, title: str | None
) -> None:
    s, t = facts.s, facts.t
    what = "one step" if chosen is None else chosen.title
    name = f"{s.cell} {s.name}" if len(facts.record.sequences) > 1 else s.cell
    story = "The old state comes in on the left, the new one goes out on the right; the gradient runs back."
    if chosen is not None and chosen.story:
        story = chosen.story
    elif not s.complete:
        story = "no gradient has been computed yet: call bptt.backward(loss, keep='ops')"
    more = []
    if s.reverse:
        source = "the first state" if facts.first else f"from t={t + 2}"
        more.append(f"This direction runs from t={s.steps} to t=1: what comes in is {source}.")
    if facts.real < len(s.lengths):
        more.append(f"{facts.real} of {len(s.lengths)} samples have not ended at this step; the others do not count.")
    canvas.caption(title or f"{name}, t = {t + 1} of {s.steps}: {what}", story, *more)


def _draw(canvas: Canvas, facts: Facts, drawn: Anatomy, chosen: Highlight | None) -> None:
    layout, t = drawn.layout, facts.t
    left = MARGIN + (WIDE + BEFORE if facts.incoming() else 0)
    base = canvas.band(layout.height)
    names = {key: f"{identifier(key)}_{t + 1}" for key in drawn.cards}
    names |= {before(state): f"before_{identifier(state)}" for state in facts.incoming()}

    def back(*keys: str) -> bool:
        return chosen is not None and not all(key in chosen.boxes for key in keys)

    def away(a: str, b: str) -> bool:
        """Whether a way stands back: one end must stand out, the other be touched at least."""
        if chosen is None or (a, b) in chosen.apart:
            return chosen is not None
        near = chosen.boxes | chosen.touched
        return not ((a in chosen.boxes and b in near) or (b in chosen.boxes and a in near))

    def box(key: str) -> None:
        x, y = layout.places[key]
        width, height = drawn.sizes[key]
        card = drawn.cards[key]
        pills = () if drawn.bar else card.pills
        canvas.card(names[key], card, (left + x, base + y), width, height, pills, t, size=_SIZE, faded=back(key))
        if drawn.bar and card.pills:
            _uses(canvas, facts, card, (left + x, base + y - height / 2 - PILL / 2), width, back(key))

    # A box's wires are drawn in the order in which those that they lead to were: what stands out comes last.
    keys = sorted(drawn.cards, key=lambda key: not back(key))
    with canvas.frame(t, left, base, layout.width, layout.height):
        for key in keys:
            if incoming(key) is None:
                box(key)
    for key in keys:
        if incoming(key) is not None:
            box(key)
    for (a, b), reading in sorted(drawn.flows.items(), key=lambda item: not away(*item[0])):
        points = [(left + x, base + y) for x, y in layout.wires[a, b]]
        canvas.wire(names[a], names[b], points, reading, faded=away(a, b))
    end = left + layout.width
    after = t - facts.back
    for state in facts.s.states:
        if not 0 <= after < facts.s.steps or state not in drawn.cards:
            continue
        x, y = layout.places[state]
        faded = away(state, f"next {state}")
        reading = facts.s.over_batch(facts.s.arrivals[state]["next"], facts.s.reached[state])[t]
        stub = f"next_{identifier(state)}"
        canvas.text(stub, f"to t = {after + 1}", (end + 40, base + y), 10, fontcolor="#6b6b6b" if faded else "#000000")
        start = left + x + drawn.sizes[state][0] / 2
        canvas.wire(names[state], stub, [(start, base + y), (end + 16, base + y)], reading, faded=faded)
    canvas.reach(end + 70)
    _equations(canvas, facts, drawn, chosen, end + 80, base, base + layout.height)


def _uses(canvas: Canvas, facts: Facts, card: Card, middle: Point, width: float, faded: bool) -> None:
    """The weights' uses, side by side below the pre-activation; the input comes in at their left."""
    room = width - WIDE - 4
    wide = min(room / len(card.pills), 96.0)
    x = middle[0] + width / 2 - wide * len(card.pills) + wide / 2
    for k, pill in enumerate(card.pills):
        canvas.pill(f"a_{k}_{identifier(pill.name)}", pill, (x + k * wide, middle[1]), wide - 2, facts.t, faded=faded)


def _equations(
    canvas: Canvas, facts: Facts, drawn: Anatomy, chosen: Highlight | None, x: float, base: float, top: float
) -> None:
    """Beside the cell if there is room, else below it: each equation with its numbers."""
    rows, columns = drawn.rows, 1
    if x + _PANEL > WIDTH - MARGIN:
        columns = max(1, int((WIDTH - 2 * MARGIN) // (_PANEL + 4)))
        x, top = MARGIN, base - 10
    room = int((canvas.room[1] + 46 + top - 16 * len(drawn.notes)) // _ROW) * columns
    if len(rows) > max(room, columns):
        keep = max(room, columns)
        first = [row for row in rows if chosen is not None and row.key in chosen.rows]
        rows = [*first, *(row for row in rows if row not in first)][:keep]
    for k, row in enumerate(rows):
        strong = chosen is None or row.key in chosen.rows
        corner = (x + (k % columns) * (_PANEL + 4), top - (k // columns) * _ROW)
        _row(canvas, facts, drawn, row, corner, strong, chosen is not None)
    y = top - math.ceil(len(rows) / columns) * _ROW - 4
    notes = [*drawn.notes]
    if len(rows) < len(drawn.rows):
        notes.insert(0, f"{len(drawn.rows) - len(rows)} more are in the picture.")
    for k, line in enumerate(line for note in notes for line in _wrapped(note, _PANEL - 8)):
        canvas.words(f"note_{k}", line, (x, y - 7), 10, fontcolor="#4d4d4d")
        y -= 14
    canvas.reach(x + columns * (_PANEL + 4) - 4)
    canvas.band(max(0.0, canvas.bottom - y))


def _row(
    canvas: Canvas, facts: Facts, drawn: Anatomy, row: Row, corner: Point, strong: bool, framed: bool
) -> None:
    (x, y), card = corner, drawn.cards[row.key]
    name, letters = f"equation_{identifier(row.key)}", {"fontcolor": "#000000" if strong else "#6b6b6b"}
    high, about = _ROW - 5, f"{row.name}: {plain(row.equation)}"
    if strong and framed:
        canvas.panel(f"{name}_panel", (x + _PANEL / 2, y - high / 2), _PANEL, high, about)
    canvas.tile(f"{name}_tile", card.reading, (x + 10, y - high / 2), 8, high - 10, about, faded=not strong)
    room = _PANEL - 26
    straight = drawn.flows.get((before(row.key), "keep")) if drawn.bar else None
    numbers = "    ".join(facts.numbers(row.key, straight))
    canvas.words(f"{name}_name", shortened(row.name, room), (x + 20, y - 10), 10, **letters)
    typeset(canvas, name, row.equation, (x + 20, y - 26), room, letters)
    canvas.words(f"{name}_numbers", shortened(numbers, room, 10), (x + 20, y - 43), 10, **letters)


def _wrapped(text: str, width: float) -> Iterable[str]:
    line = ""
    for word in text.split(" "):
        if line and extent(f"{line} {word}") > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
