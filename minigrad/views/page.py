"""The page: one HTML file that shows how a network's gradients change while it trains.

No server, no network: script, style and every number are inside. The boxes stand where `draw` puts them, in the
colours of `palette`; the script only draws what it is given, except for clipping, which it computes again for
every threshold.

A norm is kept as what a picture shows of it. All pairs of digits (`palette.shown`) and colour
(`palette.look`) that occur on the page stand in one list, and a gradient is its place in that list, two bytes
(four, should there be more than 65,535 of them). So a page shows the digits of a picture and its colours, at no
rounding but theirs: half a unit of the last digit shown, and never another bin. What is no number on the scale
(0, underflow, NaN or infinity, no path, padding, no backward yet) is an entry of its own. Norms that clipping
multiplies are kept as they are, eight bytes each.

The op level has every op of every step while all its numbers take two megabytes at most; of a longer training it
has the first and the last steps, and the script folds those between into one strip of tiles.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..bptt.record import Graph, OpNode, Reading, Record, SequenceRecord
from ..engine import Array
from ..errors import DrawError
from .canvas import GAP, PILL, shortened
from .clipped import recurrent
from .equation import low
from .facts import Facts, before
from .layers import above, layers_of
from .layout import Point
from .palette import BINS, SPECIAL, Look, brief, look, number, pale, shown
from .scene import (
    Card,
    Pill,
    Scene,
    Step,
    build,
    ends,
    labelled,
    letter_of,
    ratio,
    real_samples,
    short_name,
    subscript,
)
from .stack import style_of_one
from .strip import strip_rows
from .textbook import Anatomy, Highlight, textbook

__all__ = ["page"]

_DARK = "#242a31"  # a step's frame in the dark theme
_FAINT = 3.0  # the least contrast of an arrow with it
_ENDS = 4  # steps of the op level at each end, where the others are folded
_MOST = 750_000  # numbers of the op level on a page, two bytes each: 2 MB in base64
_LOOKS = [*(found for _, found in BINS), *SPECIAL.values()]


def page(
    histories: Mapping[str, Sequence[tuple[int, Record]]],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> str:
    """A page of HTML with the unrolled network of each cell at some updates of its training.

    Args:
        histories: By the cell's name: (update, record), the updates rising, of one text. With keep="ops" the gate
            level has its arrows, and there is an op level; where only some records were made so, the others have
            the boxes without them.
        labels: What each step reads, such as its character.
        title: In place of the one made from the records.
    Raises:
        DrawError: There is no record, the updates do not rise, the labels do not match the steps, or the records
            differ in what a page lays out once: time steps, layers, states, gates, lengths, whether the inputs
            have a gradient.
        RecordError: A record has no sequence.
    """
    _check(histories)
    steps = next(iter(histories.values()))[0][1].sequence().steps
    labels = labelled(labels, steps)
    store = _Store()
    columns = _columns(histories, steps)
    cells = [_cell(store, name, history, labels, columns) for name, history in histories.items()]
    names = [_plain(name) for name in histories]
    heading = _plain(title) if title is not None else f"{', '.join(names)}: what training does to the gradient"
    data = {
        "cells": cells, "labels": labels, "steps": steps, "gap": GAP, "pill": PILL,
        "bounds": [bound for bound, _ in BINS if math.isfinite(bound)], "kinds": list(SPECIAL),
        "looks": [x._asdict() for x in _LOOKS], **store.packed(),
    }  # fmt: skip
    return _html(heading, data, [k for k in range(len(_LOOKS)) if k < len(BINS) or k in store.looks])


def _check(histories: Mapping[str, Sequence[tuple[int, Record]]]) -> None:
    """
    Raises:
        DrawError, RecordError: As `page`.
    """
    empty = [name for name, history in histories.items() if not history]
    if empty or not histories:
        found = f"none of {', '.join(map(repr, empty))}" if empty else "no cell"
        raise DrawError(f"page: there is nothing to show; found {found}.\n  Give (update, record) pairs for each cell.")
    shapes = {}
    for name, history in histories.items():
        updates = [update for update, _ in history]
        if any(b <= a for a, b in pairwise(updates)):
            raise DrawError(f"page: the updates of {name!r} do not rise: {updates}.\n  Give each once, in order.")
        shapes[name] = first = _shape(history[0][1])
        for update, record in history:
            if (now := _shape(record)) != first:
                a, b = next((a, b) for a, b in zip([*first, "nothing"], [*now, "nothing"], strict=False) if a != b)
                raise DrawError(
                    f"page: the records of {name!r} differ: update {updates[0]} has {a}, update {update} has {b}.\n"
                    "  Give records of one model over the same text."
                )
    lengths = {f"{name} {walk.name}": walk.steps for name, walks in shapes.items() for walk in walks}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} (T={t})" for name, t in lengths.items())
        raise DrawError(f"page: one page has one number of time steps; found {found}.\n  Give records of equal length.")


class _Walk(NamedTuple):
    """What a page lays out once for all updates; its parts are what has a gradient beside the states."""

    name: str
    steps: int
    states: tuple[str, ...]
    parts: tuple[str, ...]
    reverse: bool
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        lengths = "" if min(self.lengths) == self.steps else f" of lengths {', '.join(map(str, self.lengths[:9]))}"
        return f"{self.name} (T={self.steps}, N={len(self.lengths)}{lengths}, {', '.join((*self.states, *self.parts))})"


def _shape(record: Record) -> list[_Walk]:
    record.sequence()  # which there has to be
    return [
        _Walk(s.name, s.steps, tuple(s.states), (*s.gate_norms, *(["x"] if s.input_norms is not None else [])),
              s.reverse, tuple(s.lengths.tolist()))
        for s in record.sequences.values()
    ]  # fmt: skip


def _has_ops(record: Record, s: SequenceRecord) -> bool:
    return record.graph is not None and not s.kernel


def _columns(histories: Mapping[str, Sequence[tuple[int, Record]]], steps: int) -> list[int]:
    """The steps of the op level: all of them, or those at both ends where all would make the page too large."""
    most = 0
    for history in histories.values():
        for name in history[0][1].sequences:
            found = [r for _, r in history if _has_ops(r, r.sequence(name))]
            if found:
                scene = build(found[0], found[0].sequence(name), "op", None, None)
                most += max(map(_numbers, scene.steps)) * steps * len(history)
    if most <= _MOST or steps <= 2 * _ENDS:
        return [*range(steps)]
    return [*range(_ENDS), *range(steps - _ENDS, steps)]


def _numbers(step: Step) -> int:
    """How many a step has."""
    return sum(2 + len(card.pills) for card in step.cards.values()) + len(step.flows) + len(step.carried)


# Numbers as codes


class _Store:
    """The lists of what is shown, and the codes that point into them."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {"": 0}
        self.entries: dict[Hashable, int] = {}
        self.known: dict[Reading, int] = {}
        self.places: dict[bytes, int] = {}
        self.series: list[Array] = []
        self.exact: list[Array] = []
        self.looks: set[int] = set()
        self.size = 0

    def word(self, text: str) -> int:
        return self.words.setdefault(text, len(self.words))

    def code(self, reading: Reading) -> int:
        """The place of a gradient among all that look alike, from 1; 0 stands for no gradient at all."""
        code = self.known.get(reading)
        if code is None:
            text = shown(reading)
            norm = None
            if reading.kind in ("value", "underflow", "zero"):
                norm = float(text)
            entry = (text, brief(reading), _INDEX[id(look(reading))], norm)
            self.looks.add(entry[2])
            self.known[reading] = code = self.entries.setdefault(entry, len(self.entries) + 1)
        return code

    def codes(self, readings: Iterable[Reading]) -> list[int]:
        return [self.code(r) for r in readings]

    def keep(self, codes: Any) -> int:
        """Store codes; gives where they start. What is the same stands once."""
        array = np.asarray(codes, np.uint32).ravel()
        place = self.places.setdefault(array.tobytes(), self.size)
        if place == self.size:
            self.series.append(array)
            self.size += array.size
        return place

    def floats(self, values: Any) -> int:
        """Store numbers as they are; gives where they start."""
        start = sum(map(len, self.exact))
        self.exact.append(np.asarray(values, np.float64).ravel())
        return start

    def packed(self) -> dict[str, Any]:
        wide = max(len(self.words), len(self.entries) + 1) > 1 << 16
        series = np.concatenate([*self.series, np.zeros(0, np.uint32)]).astype("<u4" if wide else "<u2")
        exact = np.concatenate([*self.exact, np.zeros(0)]).astype("<f8")
        return {
            "words": list(self.words), "readings": [None, *self.entries], "wide": wide,
            "series": base64.b64encode(series.tobytes()).decode(), "exact": base64.b64encode(exact.tobytes()).decode(),
        }  # fmt: skip


_INDEX = {id(x): k for k, x in enumerate(_LOOKS)}


# Cells, layers, levels


def _cell(
    store: _Store, name: str, history: Sequence[tuple[int, Record]], labels: Sequence[str] | None,
    columns: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    records = [record for _, record in history]
    totals = [
        math.hypot(*(p.norm for p in r.parameters.values())) if r.clipping is None else r.clipping.norm_before
        for r in records
    ]
    used = next((r.clipping.threshold for r in records if r.clipping is not None and r.clipping.kind == "norm"), None)
    return {
        "name": _plain(name),
        "updates": [int(update) for update, _ in history],
        "losses": store.keep([store.word(number(r.loss)) for r in records]),
        "totals": store.floats(totals),
        "threshold": used,
        "layers": [_layer(store, records, sequence, labels, columns) for sequence in records[0].sequences],
    }


def _layer(
    store: _Store, records: Sequence[Record], name: str, labels: Sequence[str] | None, columns: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    """One layer and direction at every update."""
    s = records[0].sequence(name)
    sequences = [r.sequence(name) for r in records]
    rows: dict[str, dict[str, Any]] = {}
    found = [strip_rows(x) for x in sequences]
    for k, row in enumerate(found[0]):
        codes = [store.codes(some[k].readings) for some in found]
        rows[row.title] = {"title": row.title, "symbol": row.symbol, "codes": store.keep(codes)}
    lead = next(iter(s.initial), "h")
    return {
        "name": _plain(name), "cell": s.cell, "reverse": s.reverse, "rows": list(rows.values()),
        "states": [letter_of(state) for state in s.states], "batch": len(s.lengths), "real": real_samples(s),
        "ends": ends(s), "lead": letter_of(lead),
        "ratios": store.keep([store.word(ratio(x, x.readings(lead))) for x in sequences]),
        "levels": {**_levels(store, records, name, labels), "op": _ops(store, records, name, labels, columns)},
        "clip": _clip(store, records, s),
    }  # fmt: skip


def _levels(
    store: _Store, records: Sequence[Record], name: str, labels: Sequence[str] | None
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Where everything of a step stands, and what it shows at each update and step."""
    s = records[0].sequence(name)
    cell, gate = (_Level(store, len(records), range(s.steps)) for _ in range(2))
    for record in records:
        s = record.sequence(name)
        cells = _scene(record, s, "cell", labels)
        cell.add(cells)
        if record.graph is not None and _has_ops(record, s):
            gate.add(_scene(record, s, "gate", labels))
            gate.called.update({b.symbol: b.label for b in record.graph.boxes if b.sequence == name})
            gate.arrows = True
        else:
            gate.add(_without_arrows(s, cells))
    cell.arrows = True
    return {"cell": cell.packed(s, "cell"), "gate": gate.packed(s, "gate")}


class _Box:
    """A box of every step, over all updates."""

    def __init__(self, card: Card, shape: tuple[int, int]) -> None:
        self.card = card
        self.titles = [""] * shape[1]
        self.lines, self.codes = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self.pills: dict[Pill, Array] = {}  # without their readings


class _Level:
    """The scenes of all updates at some steps, as one layout and codes of what it shows.

    Attributes:
        called: The names of gates, by symbol.
        arrows: Whether any update knows what flows between the parts of a step.
    """

    def __init__(self, store: _Store, updates: int, columns: Sequence[int]) -> None:
        self.store, self.columns, self.shape, self.updates = store, columns, (updates, len(columns)), 0
        self.boxes: dict[str, _Box] = {}
        self.flows: dict[tuple[str, str], Array] = {}
        self.carried: dict[tuple[str, str], Array] = {}
        self.firsts: dict[str, dict[str, Any]] = {}
        self.called: dict[str, str] = {}
        self.arrows = False

    def add(self, scene: Scene) -> None:
        """The next update."""
        u, shape, word, code = self.updates, self.shape, self.store.word, self.store.code
        for t, step in enumerate(scene.steps[k] for k in self.columns):
            for key, card in step.cards.items():
                if key not in self.boxes:
                    self.boxes[key] = _Box(card, shape)
                box = self.boxes[key]
                if len(card.pills) > len(box.card.pills):
                    box.card = card
                box.titles[t] = max(box.titles[t], card.title, key=len)  # a state's with its op, where known
                box.lines[u, t], box.codes[u, t] = word(card.line), code(card.reading)
                for pill in card.pills:
                    use = pill._replace(reading=_NONE)
                    if use not in box.pills:
                        box.pills[use] = np.zeros(shape, np.uint32)
                    box.pills[use][u, t] = code(pill.reading)
            for ways, some in ((self.flows, step.flows), (self.carried, step.carried)):
                for way, reading in some.items():
                    if way not in ways:
                        ways[way] = np.zeros(shape, np.uint32)
                    ways[way][u, t] = code(reading)
        for key, card in scene.first.cards.items():
            first = self.firsts.setdefault(key, {"title": card.title, "lines": [0] * shape[0], "codes": [0] * shape[0]})
            first["lines"][u], first["codes"][u] = word(card.line), code(card.reading)
        self.updates += 1

    def packed(self, s: SequenceRecord, level: str) -> dict[str, Any]:
        """For the script; y points down."""
        cards = {key: box.card for key, box in self.boxes.items()}
        every = Step(0, cards, dict.fromkeys(self.flows, _NONE), dict.fromkeys(self.carried, _NONE))
        layout, items, _ = style_of_one(s, [every], level, 3)
        top, store = layout.height, self.store

        def ways(some: Mapping[tuple[str, str], Array], wires: Mapping[tuple[str, str], list[Point]]) -> list[Any]:
            return [
                {"from": a, "to": b, "points": [round(c, 2) for x, y in wires[a, b] for c in (x, top - y)],
                 "codes": store.keep(codes)}
                for (a, b), codes in some.items()
            ]  # fmt: skip

        boxes = []
        for key, box in self.boxes.items():
            (x, y), item = layout.places[key], items[key]
            titles = [store.word(shortened(title, item.width - 6)) for title in box.titles]
            boxes.append({
                "key": key, "kind": box.card.kind, "name": _name(key, box.card, self.called, level),
                "x": round(x, 2), "y": round(top - y, 2), "width": item.width, "height": item.height,
                "titles": store.keep(titles), "lines": store.keep(box.lines), "codes": store.keep(box.codes),
                "pills": [{"name": use.name, "parameter": _plain(use.parameter), "codes": store.keep(codes)}
                          for use, codes in box.pills.items()],
            })  # fmt: skip
        return {
            "width": layout.width, "height": top, "arrows": self.arrows, "boxes": boxes,
            "lanes": {key: top - y for key, y in layout.lanes.items()},
            "flows": ways(self.flows, layout.wires), "carried": ways(self.carried, layout.carried),
            "firsts": [
                {"key": key, **first, "lines": store.keep(first["lines"]), "codes": store.keep(first["codes"])}
                for key, first in self.firsts.items()
            ],
        }  # fmt: skip


_NONE = Reading(0.0, "no path")


def _name(key: str, card: Card, called: Mapping[str, str], level: str) -> str:
    """What a box is, in words."""
    states = {"h": "hidden state", "c": "cell state"}
    if card.kind == "state":
        return states.get(key, "state")
    if card.kind == "gate":
        if level != "op":
            return called.get(key.rstrip("'"), "")
        symbol, op, _ = key.rsplit(" ", 2)
        return _plain(f"{called.get(symbol, states.get(symbol, 'state'))}, {op}:")
    return {"input": "input", "loss": "loss", "join": "next layer"}.get(card.kind, "")


def _scene(record: Record, s: SequenceRecord, level: str, labels: Sequence[str] | None) -> Scene:
    try:
        reads = s.name in [x.name for x in layers_of(record)[0]]
    except DrawError:  # the names do not tell
        reads = True
    return build(record, s, level, labels if reads else None, None, above(record, s))


def _without_arrows(s: SequenceRecord, cells: Scene) -> Scene:
    """The parts of each step where the record does not know what flows between them."""
    real = np.arange(s.steps)[:, np.newaxis] < s.lengths
    readings = {symbol: s.over_batch(norms) for symbol, norms in s.gate_norms.items()}
    steps = []
    for t, cell in enumerate(cells.steps):
        step = Step(t, dict(cell.cards), {way: r for way, r in cell.flows.items() if way[1] == "loss"})
        for symbol, values in s.gates.items():
            key = symbol
            while key in step.cards:
                key += "'"
            mean = number(float(values[t][real[t]].mean())) if real[t].any() else ""
            step.cards[key] = Card("gate", subscript(symbol, t + 1), mean, readings[symbol][t], "")
        steps.append(step)
    return Scene(steps, cells.first, steps, cells.output)


# Ops


def _ops(
    store: _Store, records: Sequence[Record], name: str, labels: Sequence[str] | None, columns: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    """Every op of the steps of some columns; why there are none, where no record has any."""
    last = [record for record in records if _has_ops(record, record.sequence(name))][-1:]
    if not last:
        if records[0].sequence(name).kernel:
            return {"why": "No op level: this ran in one op, a kernel. bptt.expand(loss) has its steps."}
        return {"why": 'No op level: these records were made with keep="steps". With keep="ops" they have one.'}
    level = _Level(store, len(records), columns)
    known = []
    for record in records:
        s = record.sequence(name)
        if record.graph is not None and _has_ops(record, s):
            level.add(_scene(record, s, "op", labels))
            gates = (b for b in record.graph.boxes if b.sequence == name and b.kind == "gate")
            level.called.update({b.symbol: b.label for b in gates})
        else:
            level.add(_without_ops(_scene(record, s, "cell", labels)))
        known.append(_has_ops(record, s))
    level.arrows = True
    s = last[0].sequence(name)
    found = level.packed(s, "op")
    return {**found, "known": known, "columns": [*columns], "titles": {state: letter_of(state) for state in s.states},
            "anatomy": _anatomy(last[0], s, level)}  # fmt: skip


def _without_ops(cells: Scene) -> Scene:
    """What the op level has of a record that does not know its ops."""
    steps = [
        Step(step.time, step.cards, {way: r for way, r in step.flows.items() if way[1] == "loss"})
        for step in cells.steps
    ]
    return Scene(steps, cells.first, steps, cells.output)


class _General(Facts):
    """The facts of one step in the textbook's words for any step, and the op behind each box that is made of one."""

    def __init__(self, record: Record, s: SequenceRecord, t: int) -> None:
        super().__init__(record, s, t)
        self.made: dict[int, OpNode] = {}  # by the card's id

    def called(self, symbol: str, t: int = 0) -> str:
        return f"{letter_of(symbol)}{low('t' if not t else f't{t:+d}'.replace('-', '−'))}"

    def before(self, state: str) -> str:
        return self.called(state, self.back)

    def op(self, node: OpNode, title: str = "") -> Card:
        card = super().op(node, title)
        self.made[id(card)] = node
        return card


def _anatomy(record: Record, s: SequenceRecord, level: _Level) -> dict[str, Any] | None:
    """What each gate and state of a known cell is made of, with its equation; None: a cell of one's own."""
    graph = record.graph
    assert graph is not None
    there = sorted({b.time for b in graph.boxes if b.sequence == s.name and b.kind == "state" and b.time is not None})
    if not there:
        return None
    facts = _General(record, s, there[0] if s.reverse else there[-1])
    drawn = textbook(facts)
    if drawn is None:
        return None
    part, keys = _parts(graph, facts, drawn)
    return {
        "highlights": [_highlight(h, level, part) for h in drawn.highlights],
        "rows": [
            {"key": keys[row.key], "part": row.key, "symbol": letter_of(row.key), "name": row.name,
             "equation": row.equation}
            for row in drawn.rows
        ],
        "notes": [*map(_plain, drawn.notes)],
    }  # fmt: skip


def _parts(graph: Graph, facts: _General, drawn: Anatomy) -> tuple[dict[str, str], dict[str, str]]:
    """By the op level's keys the box of the textbook's drawing, and by that the op that hands its value on."""
    part = {key: key for key in (*facts.s.states, "x", "loss")}
    whole = {key: key for key in facts.s.states}
    own = {facts.made[id(card)].id: key for key, card in drawn.cards.items() if id(card) in facts.made}
    counts: dict[tuple[int | None, str, str | None], int] = {}
    for node in graph.nodes:
        box = graph.boxes[node.box] if node.box >= 0 else None
        if box is None or box.sequence != facts.s.name or box.time is None or node.role:
            continue
        count = counts[box.time, box.symbol, node.op] = counts.get((box.time, box.symbol, node.op), 0) + 1
        key = f"{box.symbol} {node.op} {count}"
        state = next((a for a, b in facts.stands_for.items() if b == box.symbol), None)
        if box.time == facts.t or key not in part:
            part[key] = own.get(node.id, before(state) if state is not None else box.symbol)
        if node.outlet and box.time == facts.t:
            whole[box.symbol] = key
    return part, whole


def _highlight(h: Highlight, level: _Level, part: Mapping[str, str]) -> dict[str, Any]:
    """The boxes and the ways that stand out, by their places among those of the level."""
    near = h.boxes | h.touched

    def out(a: str, b: str) -> bool:
        if (a, b) in h.apart:
            return False
        return (a in h.boxes and b in near) or (b in h.boxes and a in near)

    return {
        "symbol": h.names[0], "name": h.names[1], "title": h.title, "story": h.story, "rows": sorted(h.rows),
        "boxes": [k for k, key in enumerate(level.boxes) if part.get(key, key) in h.boxes],
        "flows": [k for k, (a, b) in enumerate(level.flows) if out(part.get(a, a), part.get(b, b))],
        "carried": [k for k, (a, b) in enumerate(level.carried) if out(before(a), part.get(b, b))],
        "before": [a for a in dict.fromkeys(a for a, _ in level.carried) if before(a) in h.boxes],
    }  # fmt: skip


# Clipping


def _clip(store: _Store, records: Sequence[Record], s: SequenceRecord) -> dict[str, Any] | None:
    """Each step's term of the recurrent weight's gradient, as exact numbers."""
    name = next((w.name for r in records if (w := recurrent(r, s.name)) is not None), None)
    if name is None:
        return None
    terms = np.full((len(records), s.steps), np.nan)
    for u, record in enumerate(records):
        if record.complete:
            found = record.parameters[name].by_step(s.name)
            terms[u] = [found.get(t, 0.0) for t in range(s.steps)]
    sums = [r.parameters[name].norm if r.complete else math.nan for r in records]
    return {
        "weight": short_name(name, s.name), "parameter": name, "terms": store.floats(terms),
        "sums": store.floats(sums), "tiny": float(np.finfo(s.dtype).tiny),
    }  # fmt: skip


# HTML


def _plain(text: str) -> str:
    """Text with its unprintable letters as code points."""
    return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in str(text))


def _json(data: Any) -> str:
    """JSON that holds no letter of HTML, to stand inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _on_dark(colour: str) -> str:
    """An arrow's colour on a dark frame: as much lighter as it takes to be seen."""
    lighter = (pale(colour, percent / 100) for percent in range(100, 0, -5))
    contrasts = (((_luminance(c) + 0.05) / (_luminance(_DARK) + 0.05), c) for c in lighter)
    return next((c for contrast, c in contrasts if contrast >= _FAINT), "#ffffff")


def _colours() -> str:
    """The palette as style: a class for each look."""
    return "".join(
        f".look{k}{{--fill:{x.fill};--ink:{x.text};--edge:light-dark({x.edge},{_on_dark(x.edge)})}}\n"
        for k, x in enumerate(_LOOKS)
    )


def _legend(x: Look, k: int) -> str:
    words = html.escape(x.legend).replace("\n", "<br>")
    kind = x.style.rpartition(",")[2]
    return f'<li class="look{k} {kind}"><span>{words}</span></li>'


def _html(title: str, data: Mapping[str, Any], occurring: Sequence[int]) -> str:
    css = (files(__package__) / "page.css").read_text("utf8") + _colours()
    script = (files(__package__) / "page.js").read_text("utf8")
    legend = "".join(_legend(x, k) for k, x in enumerate(_LOOKS) if k in occurring)
    policy = (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<button type="button" id="theme">Dark</button>
</header>
<noscript><p>This page draws with JavaScript, and that is switched off.</p></noscript>
<p id="lead">Each column is one time step. The network reads them in the direction of the upper arrow; the gradient of
its loss travels back in the direction of the lower one. <b>Colour is how much of it arrives</b>: blue has vanished,
cream is healthy, orange explodes. Move the slider to watch it change while the network learns. Whatever you point at,
tap, or reach with the keys tab and arrows tells its number.</p>
<section id="controls" aria-label="What is shown">
<fieldset id="cells"><legend>Cell</legend></fieldset>
<fieldset id="layers" hidden><legend>Layer</legend></fieldset>
<fieldset id="levels" aria-describedby="why"><legend>Level</legend></fieldset>
<div id="training"><label for="update">Training update</label>
<button type="button" id="play" aria-label="Play the training">▶</button>
<input type="range" id="update" min="0" step="1" value="0"><output id="moment" for="update"></output></div>
</section>
<main>
<section id="network" aria-labelledby="story">
<h2 id="story"></h2>
<div id="map" role="group"></div>
<fieldset id="highlights" hidden><legend>Highlight</legend></fieldset>
<div id="drawing">
<div id="graph" role="group"></div>
<section id="anatomy" aria-labelledby="anatomy_title" hidden><h3 id="anatomy_title"></h3>
<p id="anatomy_story"></p><ol id="equations"></ol><div id="anatomy_notes"></div></section>
</div>
<p id="note" hidden></p>
<p id="why" hidden></p>
<p id="chosen" aria-live="polite"></p>
<ul id="legend" aria-label="Colours">{legend}<li class="key"><span>name<br>mean value<br>g = ‖∂L/∂name‖</span></li></ul>
</section>
<section id="heat" aria-labelledby="heat_title">
<h2 id="heat_title">All of the training at once</h2>
<p>One row an update, from the first at the top to the last; one column a time step.
<label for="row">Gradient of</label> <select id="row"></select></p>
<div id="heats"></div>
</section>
<section id="clipping" aria-labelledby="clip_title">
<h2 id="clip_title">What clipping by norm would do</h2>
<p id="clip_control"><label for="threshold">Threshold C</label>
<input type="range" id="threshold" step="1"><input type="number" id="exact" step="any" min="0"
aria-label="Threshold C as a number"></p>
<p id="verdict"></p>
<div id="clips"><figure><figcaption id="terms_title"></figcaption><div id="terms" role="group"></div></figure>
<figure><figcaption id="norms_title"></figcaption><div id="norms" role="group"></div></figure></div>
<p id="moral"></p>
</section>
</main>
<div id="hint" role="tooltip" hidden></div>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""
