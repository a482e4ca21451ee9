"""What a page shows as numbers: each look and each word once, and the places of those among all that are shown.

A norm is kept as what a picture shows of it. All pairs of digits (`palette.shown`) and colour
(`palette.look`) that occur on the page stand in one list, and a gradient is its place in that list, two bytes
(four, should there be more than 65,535 of them). So a page shows the digits of a picture and its colours, at no
rounding but theirs: half a unit of the last digit shown, and never another bin. What is no number on the scale
(0, underflow, NaN or infinity, no path, padding, no backward yet) is an entry of its own. Norms that clipping
multiplies are kept as they are, eight bytes each.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..bptt.record import Reading, Record, SequenceRecord
from ..engine import Array
from ..errors import DrawError
from .canvas import shortened
from .layers import above, layers_of
from .layout import Point
from .palette import BINS, SPECIAL, brief, look, shown
from .scene import Card, Pill, Scene, Step, build
from .stack import style_of_one

__all__ = ["LOOKS", "Level", "Store", "has_ops", "plain", "scene_of"]

LOOKS = [*(found for _, found in BINS), *SPECIAL.values()]
"""In the order of the list that a page has of them."""
NONE = Reading(0.0, "no path")
_INDEX = {id(x): k for k, x in enumerate(LOOKS)}


def plain(text: str) -> str:
    """Text with its unprintable letters as code points."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in text)


def has_ops(record: Record, s: SequenceRecord) -> bool:
    return record.graph is not None and not s.kernel


class Store:
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
        return self.words.setdefault(plain(text), len(self.words))

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


class _Box:
    """A box of every step, over all updates."""

    def __init__(self, card: Card, shape: tuple[int, int]) -> None:
        self.card = card
        self.titles = [""] * shape[1]
        self.lines, self.codes = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
        self.pills: dict[Pill, Array] = {}  # without their readings


class Level:
    """The scenes of all updates at some steps, as one layout and codes of what it shows.

    Attributes:
        called: The names of gates, by symbol.
        arrows: Whether any update knows what flows between the parts of a step.
    """

    def __init__(self, store: Store, updates: int, columns: Sequence[int]) -> None:
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
                    use = pill._replace(reading=NONE)
                    if use not in box.pills:
                        box.pills[use] = np.zeros(shape, np.uint32)
                    box.pills[use][u, t] = code(pill.reading)
            for ways, some in ((self.flows, step.flows), (self.carried, step.carried)):
                for way, reading in some.items():
                    if way not in ways:
                        ways[way] = np.zeros(shape, np.uint32)
                    ways[way][u, t] = code(reading)
        for key, card in scene.first.cards.items():
            empty = {"title": plain(card.title), "lines": [0] * shape[0], "codes": [0] * shape[0]}
            first = self.firsts.setdefault(key, empty)
            first["lines"][u], first["codes"][u] = word(card.line), code(card.reading)
        self.updates += 1

    def packed(self, s: SequenceRecord, level: str) -> dict[str, Any]:
        """For the script; y points down."""
        cards = {key: box.card for key, box in self.boxes.items()}
        every = Step(0, cards, dict.fromkeys(self.flows, NONE), dict.fromkeys(self.carried, NONE))
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
                "pills": [{"name": plain(use.name), "parameter": plain(use.parameter), "codes": store.keep(codes)}
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


def _name(key: str, card: Card, called: Mapping[str, str], level: str) -> str:
    """What a box is, in words."""
    states = {"h": "hidden state", "c": "cell state"}
    if card.kind == "state":
        return states.get(key, "state")
    if card.kind == "gate":
        if level != "op":
            return plain(called.get(key.rstrip("'"), ""))
        symbol, op, _ = key.rsplit(" ", 2)
        return plain(f"{called.get(symbol, states.get(symbol, 'state'))}, {op}:")
    return {"input": "input", "loss": "loss", "join": "next layer"}.get(card.kind, "")


def scene_of(record: Record, s: SequenceRecord, level: str, labels: Sequence[str] | None) -> Scene:
    try:
        reads = s.name in [x.name for x in layers_of(record)[0]]
    except DrawError:  # the names do not tell
        reads = True
    return build(record, s, level, labels if reads else None, None, above(record, s))
