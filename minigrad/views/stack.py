"""Several layers and directions in one picture: what a step of all of them has, and where.

From the bottom up: the inputs, the layers, the loss. What goes from a layer to the next runs upwards;
each direction has lanes of its own. Where a layer has two directions, what both of them hand up is
joined, and each direction of the layer above reads all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..bptt.record import Reading, Record, SequenceRecord
from .canvas import HEADER
from .layers import Layers, above, titles, walk
from .layout import ARROW, PORT, Item, Layout, Point
from .painter import Plan, Style
from .palette import shown
from .scene import Card, Lazy, Scene, Step, build

__all__ = ["plan_of", "style_of"]

_WIDTH, _JOIN = 92.0, 16.0
_HEIGHTS = {3: (46.0, 16.0), 2: (32.0, 13.0), 1: (18.0, 13.0)}  # by lines of text: of a box, of the gap above it


class _Walked(NamedTuple):
    sequence: SequenceRecord
    scene: Scene

    def key(self, name: str) -> str:
        return f"{self.sequence.name}_{name}"

    @property
    def output(self) -> str:
        return self.key(self.scene.output)


def plan_of(
    record: Record, layers: Layers, labels: Sequence[str] | None, targets: Sequence[str] | None, more: Sequence[str]
) -> tuple[Plan, list[list[_Walked]]]:
    """What is drawn, and the scene of each direction."""
    walks = [
        [
            _Walked(s, build(record, s, "cell", None if k else labels, targets,
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
    plan = Plan(steps, (firsts[0], firsts[1]), lanes, frozenset(backward), more, rows, _WIDTH)
    return plan, walks


def _joined(walks: list[list[_Walked]], k: int) -> bool:
    """Whether a join stands below layer k: one of the two has two directions."""
    return k > 0 and max(len(walks[k]), len(walks[k - 1])) > 1


def _source(walks: list[list[_Walked]], k: int) -> str:
    """What the cells of layer k read."""
    return "x" if k == 0 else f"join_{k}" if _joined(walks, k) else walks[k - 1][0].output


def _step(walks: list[list[_Walked]], t: int) -> Step:
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
            for (a, b), reading in part.carried.items():
                made.carried[w.key(a), w.key(b)] = reading
    return made


def style_of(walks: list[list[_Walked]], lines: int) -> Style:
    """Where everything of a step stands."""
    height, gap = _HEIGHTS[lines]
    has_loss = any("loss" in step.cards for w in walks[-1] for step in w.scene.typical)
    heights: dict[str, float] = {}  # centre of each row, from the bottom up
    items: dict[str, Item] = {}
    y = gap / 2

    def place(key: str, kind: str, tall: float) -> None:
        nonlocal y
        items[key], heights[key] = Item(key, kind, _WIDTH, tall), y + tall / 2
        y += tall + gap

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
        layout.wires[a, b] = [(middle, heights[a] + items[a].height / 2), (middle, heights[b] - items[b].height / 2)]
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
        layout.wires[a, b] = [(middle, heights[a] - height / 2), (middle, heights[b] + height / 2)]
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
