"""Where everything of a step stands: of one layer and direction, or of several in one picture.

From the bottom up: the inputs, the layers, the loss. What goes from a layer to the next runs upwards;
each direction has lanes of its own. Where a layer has two directions, what both of them hand up is
joined, and each direction of the layer above reads all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..bptt.record import Reading, Record, SequenceRecord
from .canvas import HEADER, PILL, extent
from .layers import Layers, above, titles, walk
from .layout import ARROW, PORT, Item, Layout, Point, arrange, mirrored
from .painter import Plan, Style
from .palette import shown
from .scene import Card, Lazy, Scene, Step, build

__all__ = ["SIZES", "Walked", "plan_of", "style_of", "style_of_one"]

_WIDTH, _JOIN = 92.0, 16.0
_WIDEST = 90.0  # of the words in a box
SIZES = {"cell": (_WIDTH, 46.0), "gate": (56.0, 42.0), "op": (56.0, 42.0)}  # of a box, where one layer is drawn
_HEIGHTS = {3: (46.0, 16.0), 2: (32.0, 13.0), 1: (18.0, 13.0)}  # by lines of text: of a box, of the gap above it


class Walked(NamedTuple):
    """A walk in a picture of several."""

    sequence: SequenceRecord
    scene: Scene

    def key(self, name: str) -> str:
        return f"{self.sequence.name}_{name}"

    @property
    def output(self) -> str:
        return self.key(self.scene.output)


def plan_of(
    record: Record, layers: Layers, labels: Sequence[str] | None, targets: Sequence[str] | None, more: Sequence[str]
) -> tuple[Plan, list[list[Walked]]]:
    """What is drawn, and the scene of each direction."""
    walks = [
        [
            Walked(s, build(record, s, "cell", None if k else labels, targets,
                             walk(layers[k + 1][0]) if k + 1 < len(layers) else above(record, s)))
            for s in layer
        ] for k, layer in enumerate(layers)
    ]  # fmt: skip
    firsts = []
    for reverse in (False, True):
        first = Step(-1)
        for w in (w for layer in walks for w in layer if w.sequence.reverse == reverse):
            first.cards.update({w.key(state): card for state, card in w.scene.first.cards.items()})
        firsts.append(first)
    lanes = {w.key(s): w.sequence.readings(s) for layer in walks for w in layer for s in w.sequence.states}
    backward = {w.key(s) for layer in walks for w in layer for s in w.sequence.states if w.sequence.reverse}
    called = titles([s for layer in layers for s in layer])
    rows = {called[w.sequence.name]: tuple(w.key(s) for s in w.sequence.states) for layer in walks for w in layer}
    steps = Lazy(lambda t: _step(walks, t), layers[0][0].steps)
    cuts = tuple(dict.fromkeys(t for layer in walks for w in layer for t in w.scene.cuts))
    plan = Plan(steps, (firsts[0], firsts[1]), lanes, frozenset(backward), more, rows, _WIDTH, cuts=cuts)
    return plan, walks


def _joined(walks: list[list[Walked]], k: int) -> bool:
    """Whether a join stands below layer k: one of the two has two directions."""
    return k > 0 and max(len(walks[k]), len(walks[k - 1])) > 1


def _source(walks: list[list[Walked]], k: int) -> str:
    """What the cells of layer k read."""
    return "x" if k == 0 else f"join_{k}" if _joined(walks, k) else walks[k - 1][0].output


def _step(walks: list[list[Walked]], t: int) -> Step:
    """One step of all layers."""
    made = Step(t)
    for k, layer in enumerate(walks):
        parts = [w.scene.steps[t] for w in layer]
        if k == 0:
            x = parts[0].cards["x"]
            if len(layer) > 1:  # the norm of the sum over both directions is not in the record
                handed = ", ".join(f"{walk(w.sequence)} {shown(p.cards['x'].reading)}" for w, p in zip(layer, parts))
                x = x._replace(kind="join", about=f"{x.about}; ‖dL/dx‖ by direction: {handed}")
            made.cards["x"] = x
        elif _joined(walks, k):
            about = f"t={t + 1}: what {', '.join(walk(w.sequence) for w in walks[k - 1])} hand up together"
            padded = parts[0].cards["x"].reading.kind == "padding"
            reading = Reading(0.0, "padding") if padded else Reading(1.0, "value")
            name = "both outputs" if len(walks[k - 1]) > 1 else "output"
            made.cards[f"join_{k}"] = Card("join", name, "", reading, about)
        for w, part in zip(layer, parts, strict=True):
            top, output = k + 1 == len(walks), w.scene.output
            for (a, b), reading in part.flows.items():
                if a == "x":
                    made.flows[_source(walks, k), w.output] = reading
                elif b != "loss":
                    made.flows[w.key(a), w.key(b)] = reading
                elif top:
                    made.flows[w.output, "loss"] = reading
                    made.cards["loss"] = part.cards["loss"]
                elif _joined(walks, k + 1):
                    made.flows[w.output, f"join_{k + 1}"] = reading
            for state in w.sequence.states:
                card = part.cards[state]
                if state == output and not top and (output, "loss") in part.flows:
                    card = card._replace(about=f"{card.about}; {shown(part.flows[output, 'loss'])} from above")
                made.cards[w.key(state)] = card
            made.cut |= {w.key(state) for state in part.cut}
            for (a, b), reading in part.carried.items():
                made.carried[w.key(a), w.key(b)] = reading
    return made


def style_of(walks: list[list[Walked]], lines: int, labels: Mapping[str, int]) -> Style:
    """Where everything of a step stands; on some boxes so many labels."""
    height, gap = _HEIGHTS[lines]
    has_loss = any("loss" in step.cards for w in walks[-1] for step in w.scene.typical)
    heights: dict[str, float] = {}  # centre of each row, from the bottom up
    items: dict[str, Item] = {}
    y = gap / 2

    def place(key: str, kind: str, tall: float) -> None:
        nonlocal y
        labelled = PILL * labels.get(key, 0)
        items[key], heights[key] = Item(key, kind, _WIDTH, tall, labelled), y + tall / 2
        y += tall + labelled + gap

    place("x", "input", height)
    for k, layer in enumerate(walks):
        y += gap / 2 if k else 0
        if _joined(walks, k):
            place(f"join_{k}", "gate", _JOIN)
        for w in layer:
            for state in sorted(w.sequence.states, key=lambda s: s != w.scene.output):
                place(w.key(state), "state", height)
    if has_loss:
        place("loss", "output", height)
    order, port = list(heights), 0.28 * height

    def next_to(a: str, b: str) -> bool:
        return order.index(b) == order.index(a) + 1

    # Inputs rise left of the boxes, outputs right of them, if something stands between.
    left: list[tuple[str, str]] = []
    right: list[tuple[str, str]] = []
    upwards: list[tuple[str, str]] = []
    aside: list[tuple[str, str]] = []
    for k, layer in enumerate(walks):
        source = _source(walks, k)
        goal = "loss" if k + 1 == len(walks) else f"join_{k + 1}"
        for w in layer:
            pair = (source, w.output)
            (upwards if next_to(*pair) else right if source not in ("x", f"join_{k}") else left).append(pair)
            if goal in items:
                (upwards if next_to(w.output, goal) else right).append((w.output, goal))
            others = [w.key(s) for s in w.sequence.states if s != w.scene.output]
            aside += [(key, w.output) for key in others]
    tracks = 1 + max((sum(b == goal for _, b in right) for _, goal in right), default=0)
    far = [(a, b) for a, b in aside if not next_to(b, a)]
    rounds = [sum(other == b for _, other in far[:k]) + 1 for k, (_, b) in enumerate(far)]  # tracks beside inputs
    start = ARROW + PORT * (1 + max(rounds, default=0)) if left or far else ARROW
    end = start + _WIDTH
    middle = start + _WIDTH / 2
    layout = Layout(
        width=end + ARROW + PORT * tracks,
        height=y + HEADER - gap / 2,
        places={key: (middle, h) for key, h in heights.items()},
        lanes={key: h for key, h in heights.items() if items[key].kind == "state"},
    )
    for a, b in upwards:
        top = heights[a] + items[a].height / 2 + items[a].above
        layout.wires[a, b] = [(middle, top), (middle, heights[b] - items[b].height / 2)]
    for a, b in left:
        layout.wires[a, b] = _round(start, start - ARROW, heights[a], heights[b] - port)
    for a, b in right:
        same = [pair for pair in right if pair[1] == b]
        low, track = heights[a] + port, end + ARROW + PORT * (len(same) - 1 - same.index((a, b)))
        if items[b].kind == "state":  # a single direction: from below into the middle
            turn = heights[b] - items[b].height / 2 - gap / 2
            layout.wires[a, b] = [(end, low), (track, low), (track, turn), (middle, turn), (middle, turn + gap / 2)]
        else:
            offset = 0.28 * items[b].height * (len(same) - 1 - 2 * same.index((a, b))) if len(same) > 1 else 0.0
            layout.wires[a, b] = _round(end, track, low, heights[b] + offset)
    for a, b in (pair for pair in aside if pair not in far):
        layout.wires[a, b] = [(middle, heights[a] - height / 2), (middle, heights[b] + height / 2 + items[b].above)]
    for (a, b), k in zip(far, rounds, strict=True):
        layout.wires[a, b] = _round(start, start - ARROW - PORT * k, heights[a] - port, heights[b] + port + 2 * (k - 1))
    for layer in walks:
        for w in layer:
            for key in map(w.key, w.sequence.states):
                h = heights[key]
                layout.carried[key, key] = [(0.0, h), (start, h)]
                if w.sequence.reverse:
                    layout.carried[key, key] = [(layout.width, h), (end, h)]
    return Style(layout, items, lines)


def _round(edge: float, track: float, start: float, end: float) -> list[Point]:
    return [(edge, start), (track, start), (track, end), (edge, end)]


# One layer and direction


def style_of_one(sequence: SequenceRecord, steps: Sequence[Step], level: str, lines: int) -> Style:
    """Where everything of a step of one layer stands: of all that these steps have."""
    width, height = SIZES[level]
    height -= 14 if lines < 3 else 0
    cards: dict[str, Card] = {}
    flows: dict[tuple[str, str], None] = {}
    carried: dict[tuple[str, str], None] = {}
    for step in steps:
        for key, card in step.cards.items():
            if key not in cards or len(card.pills) > len(cards[key].pills):
                cards[key] = card
            pills = zip(cards[key].pills, card.pills, strict=False)
            widest = (max(pair, key=lambda pill: len(pill.mark.text) if pill.mark else 0) for pair in pills)
            cards[key] = cards[key]._replace(pills=(*widest, *cards[key].pills[len(card.pills) :]))
        flows.update(dict.fromkeys(step.flows))
        carried.update(dict.fromkeys(step.carried))
    output = next((b if a == "x" else a for a, b in flows if b == "loss" or (a == "x" and level == "cell")), None)
    states = sorted(sequence.states, key=lambda s: s == output)  # the lane that the loss hangs on comes last
    kinds = {"state": "state", "input": "input", "loss": "output", "join": "output"}
    order = [*states, *(k for k in cards if k not in states)]
    items = {
        k: Item(k, kinds.get(cards[k].kind, "gate"), width, height, PILL * len(cards[k].pills)) for k in order
    }
    if level == "cell":
        layout = _cell_layout(states, items)
        return Style(mirrored(layout) if sequence.reverse else layout, items, lines)
    for k, card in cards.items():  # long names make a box wider, and are cut beyond that
        sizes = ((pill.name, "0.012" if pill.mark is None else pill.mark.text) for pill in card.pills)
        words = [card.title, *map(" ".join, sizes)]
        wide = min(max(extent(text) for text in words), _WIDEST) + 1.5
        items[k] = items[k]._replace(width=max(width, wide if card.kind != "input" else width))
    row_gap = 9 if lines < 3 else 16
    layout = arrange(
        list(items.values()), list(flows), list(carried), row_gap=row_gap, column_gap=14, header=HEADER
    )
    return Style(mirrored(layout) if sequence.reverse else layout, items, lines)


def _cell_layout(states: list[str], items: dict[str, Item]) -> Layout:
    """The states above each other, the input and the loss side by side below them."""
    width, height = SIZES["cell"]
    aside = states[:-2]  # they reach the last one past those between
    small, row, frame = 50.0, height + 18, width + 16 + PORT * len(aside)
    labels = items[states[-1]].above
    total = HEADER + row * (len(states) + 1) + labels
    centres = [total - HEADER - row * (k + 0.5) + 4 for k in range(len(states) + 1)]
    middle = (width + 16) / 2
    centres[-2:] = [y - labels for y in centres[-2:]]
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
        top = places[lower][1] + height / 2 + (labels if lower == last else 0)
        layout.wires[upper, lower] = [(middle, places[upper][1] - height / 2), (middle, top)]
    for k, upper in enumerate(aside):
        edge, turn, down = middle + width / 2, middle + width / 2 + 4 + PORT * (k + 1), 4 + PORT * (k + 1)
        start, end = places[upper][1] - 8, places[last][1] + down
        layout.wires[upper, last] = [(edge, start), (turn, start), (turn, end), (edge, end)]
    for s in states:
        layout.carried[s, s] = [(0.0, places[s][1]), (middle - width / 2, places[s][1])]
    return layout
