"""The op level of a page: every op of a step, and the anatomy of a cell that the textbook knows.

It has every op of every step while all its numbers take two megabytes at most; of a longer training it has the
first and the last steps, and the script folds those between into one strip of tiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from ..bptt.gates import SATURATED_ABOVE, SATURATED_BELOW
from ..bptt.record import Graph, OpNode, Record, SequenceRecord
from .equation import low
from .facts import Facts, before
from .page_codes import Level, Store, has_ops, plain, scene_of
from .palette import number
from .scene import Card, Scene, Step, build, letter_of
from .textbook import Anatomy, Highlight, textbook

__all__ = ["columns_of", "ops"]

_ENDS = 4  # steps at each end, where the others are folded
_MOST = 750_000  # numbers on a page, two bytes each: 2 MB in base64
_SATURATED = (
    f"Saturated: a sigmoid beyond {SATURATED_BELOW} and {SATURATED_ABOVE},"
    f" a tanh beyond {2 * SATURATED_BELOW - 1:g} and {2 * SATURATED_ABOVE - 1:g}."
).replace("-", "−")


def columns_of(histories: Mapping[str, Sequence[tuple[int, Record]]], steps: int) -> list[int]:
    """The steps of the op level: all of them, or those at both ends where all would make the page too large."""
    most = 0
    for history in histories.values():
        for name in history[0][1].sequences:
            found = [r for _, r in history if has_ops(r, r.sequence(name))]
            if found:
                scene = build(found[0], found[0].sequence(name), "op", None, None)
                most += max(map(_numbers, scene.steps)) * steps * len(history)
    if most <= _MOST or steps <= 2 * _ENDS:
        return [*range(steps)]
    return [*range(_ENDS), *range(steps - _ENDS, steps)]


def _numbers(step: Step) -> int:
    """How many a step has."""
    return sum(2 + len(card.pills) for card in step.cards.values()) + len(step.flows) + len(step.carried)


def ops(
    store: Store, records: Sequence[Record], name: str, labels: Sequence[str] | None, columns: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    """Every op of the steps of some columns; why there are none, where no record has any."""
    last = [record for record in records if has_ops(record, record.sequence(name))][-1:]
    if not last:
        if records[0].sequence(name).kernel:
            return {"why": "No op level: this ran in one op, a kernel. bptt.expand(loss) has its steps."}
        return {"why": 'No op level: these records were made with keep="steps". With keep="ops" they have one.'}
    level = Level(store, len(records), columns)
    known = []
    for record in records:
        s = record.sequence(name)
        if record.graph is not None and has_ops(record, s):
            level.add(scene_of(record, s, "op", labels))
            gates = (b for b in record.graph.boxes if b.sequence == name and b.kind == "gate")
            level.called.update({b.symbol: b.label for b in gates})
        else:
            level.add(_without_ops(scene_of(record, s, "cell", labels)))
        known.append(has_ops(record, s))
    level.arrows = True
    s = last[0].sequence(name)
    found = level.packed(s, "op")
    return {
        **found, "known": known, "columns": [*columns], "titles": {k: plain(letter_of(k)) for k in s.states},
        "anatomy": _anatomy(store, records, last[0], name, level),
    }  # fmt: skip


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

    def said(self, key: str, s: SequenceRecord, steps: Sequence[int]) -> list[list[str]]:
        """What `numbers` says of a box at another update, step by step, but for its gradients, which have codes."""
        card, there, found = self.cards[key], copy(self), []
        there.s = replace(s, complete=False)
        values = (s.gates if card.kind == "gate" else s.states).get(key)
        for t in steps:
            there.t, there.samples = t, np.flatnonzero(s.lengths > t)
            there.real, line = len(there.samples), ""
            if values is not None and there.real:
                line = number(float(values[t][there.samples].mean()))
            there.cards = {key: card._replace(line=line)}
            found.append(there.numbers(key, None))
        return found


def _anatomy(
    store: Store, records: Sequence[Record], record: Record, name: str, level: Level
) -> dict[str, Any] | None:
    """What each gate and state of a known cell is made of, with its equation; None: a cell of one's own."""
    s = record.sequence(name)
    graph = record.graph
    assert graph is not None
    there = sorted({b.time for b in graph.boxes if b.sequence == s.name and b.kind == "state" and b.time is not None})
    if not there:
        return None
    facts = _General(record, s, there[0] if s.reverse else there[-1])
    drawn = textbook(facts)
    if drawn is None:
        return None
    part, keys = _parts(graph, facts, drawn, level)
    rows, saturated = [], False
    for row in drawn.rows:
        said = chain.from_iterable(facts.said(row.key, r.sequence(name), level.columns) for r in records)
        pieces = [*zip_longest(*said, fillvalue="")]
        saturated = saturated or any(words.startswith("saturated") for piece in pieces for words in piece)
        rows.append({
            "key": keys[row.key], "part": row.key, "symbol": letter_of(row.key), "name": row.name,
            "equation": row.equation, "said": [store.keep([*map(store.word, piece)]) for piece in pieces],
            "straight": _straight(facts, drawn, row.key, level, part),
        })  # fmt: skip
    return {
        "highlights": [_highlight(h, level, part) for h in drawn.highlights], "rows": rows,
        "notes": [*map(plain, drawn.notes), *([_SATURATED] if saturated else [])],
    }  # fmt: skip


def _straight(
    facts: _General, drawn: Anatomy, key: str, level: Level, part: Mapping[str, str]
) -> dict[str, Any] | None:
    """The way straight back from a state to its old value, by its places among the level's; None: it has none."""
    way = drawn.flows.get((before(key), "keep"))
    if way is None:
        return None
    found = []  # where samples have unequal lengths, not at every step the same
    for kind, ways in {"carried": level.carried, "flows": level.flows}.items():
        for k, (a, b) in enumerate(ways):
            if (before(a) if kind == "carried" else part.get(a)) == before(key) and part.get(b) == "keep":
                found.append((kind, k))
    return {"words": facts.straight(key) if facts.s.complete else "", "ways": found}


def _parts(
    graph: Graph, facts: _General, drawn: Anatomy, level: Level
) -> tuple[dict[str, str], dict[str, str]]:
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
        if node.op == "where" and facts.unequal:  # of `unroll`: the old state of the samples that go on
            state = next((a for a, b in level.carried if b == key), state)
        if box.time == facts.t or key not in part:
            part[key] = own.get(node.id, before(state) if state is not None else box.symbol)
        if node.outlet and box.time == facts.t:
            whole[box.symbol] = key
    return part, whole


def _highlight(h: Highlight, level: Level, part: Mapping[str, str]) -> dict[str, Any]:
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
