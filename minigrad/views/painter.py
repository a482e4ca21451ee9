"""Rows of time steps on a canvas: their boxes, the lanes that lead from one to the next, and folded steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..bptt.record import Reading
from .canvas import FOLD, GAP, MARGIN, STUB, Canvas, extent, identifier
from .fold import Band, bands
from .layout import Item, Layout
from .palette import largest
from .scene import Card, Step

__all__ = ["Plan", "Style", "paint"]

_FIRST = 0.8  # the width of a first state, in boxes
_TITLE = 11  # the size of the words before a lane


class Style(NamedTuple):
    """How every step is drawn: where its boxes stand, and how many lines of text they have (3, 2 or 1)."""

    layout: Layout
    items: Mapping[str, Item]
    lines: int


class Plan(NamedTuple):
    """What is drawn.

    Attributes:
        steps: In the order of input time.
        first: The first states of what walks forward, and of what walks from the last step to the first.
        lanes: Of every lane the gradient at each step.
        backward: The lanes that run from right to left.
        more: What stands behind the name of a step.
        titles: Words that stand at the left of lanes.
        width: Of a box.
    """

    steps: Sequence[Step]
    first: tuple[Step | None, Step | None]
    lanes: Mapping[str, list[Reading]]
    backward: frozenset[str]
    more: Sequence[str]
    titles: Mapping[str, tuple[str, ...]]
    width: float


class _Column(NamedTuple):
    """What stands in a row beside others.

    Attributes:
        ends: Of each lane that meets it: its left and right edge there, and the node's name.
        step: Where a lane ends at the boxes of a step; None: it ends at the edge.
        first, last: The steps it stands for.
        far: Whether they stand in another row.
    """

    ends: dict[str, tuple[float, float, str]]
    step: tuple[Step, float] | None = None  # and its left border
    first: int = 0
    last: int = 0
    far: bool = False


def paint(canvas: Canvas, plan: Plan, styles: Iterable[Style], everything: bool) -> Style:
    """Draw in the first style that fits the page, else the last; gives the one that was taken."""
    room = (canvas.room[0], canvas.down)
    norms = list(zip(*plan.lanes.values(), strict=True))
    first = plan.width * _FIRST + GAP
    ahead, behind = (first if step is not None and step.cards else 0.0 for step in plan.first)
    titled = max((extent(title, _TITLE) + 8 for title in plan.titles), default=0.0)
    left = titled + max(STUB, ahead)
    for style in styles:
        layout = style.layout
        rows = bands(norms, layout.width + GAP, layout.height + GAP, left, everything, room, behind,
                     len(plan.backward) == len(plan.lanes))  # fmt: skip
        if everything or len(rows) * (layout.height + GAP) <= room[1]:
            break
    canvas.plain = everything and len(plan.steps) > 250
    painter = _Painter(canvas, plan, style, left, titled)
    for row in rows:
        painter.row(row, titled > 0 or ahead > 0 or len(rows) > 1)
    return style


class _Painter:
    """Puts steps on the canvas, one row after the other."""

    def __init__(self, canvas: Canvas, plan: Plan, style: Style, left: float, titled: float) -> None:
        self.canvas, self.plan, self.left, self.titled = canvas, plan, left, titled
        self.layout, self.items, self.lines = style
        self.base = 0.0

    def row(self, columns: Band, indented: bool) -> None:
        self.base = self.canvas.band(self.layout.height + GAP)
        for title, lanes in self.plan.titles.items():
            y = self.base + sum(self.layout.lanes[lane] for lane in lanes) / len(lanes)
            name = f"title{-self.base:.0f}_{identifier(lanes[0])}"
            self.canvas.text(name, title, (MARGIN + (self.titled - 8) / 2, y), _TITLE)
        x, start, count = MARGIN, columns[0], len(self.plan.steps)
        before: _Column | None = None
        if isinstance(start, int) and start > 0:  # a row that goes on from the one above
            before = self.far(start - 1, x + self.left - STUB, x + self.left - 8, "from")
        if indented:  # the columns of all rows stand below each other
            x += self.left
        for column in columns:
            if column in (-1, count):
                first = self.plan.first[column == count]
                if first is None or not first.cards:
                    continue
                here, end = self.first(first, x if column == count else x - self.left + self.titled)
                x = max(x, end)
            elif isinstance(column, range):
                here, x = self.fold(column, x), x + FOLD + GAP
            else:
                here, x = self.step(self.plan.steps[column], x), x + self.layout.width + GAP
            if before is not None:
                self.join(before, here)
            before = here
        last = columns[-1]
        if before is not None and isinstance(last, int) and last + 1 < count:
            self.join(before, self.far(last + 1, x + 8, x + 6, "to"))
            self.canvas.reach(x + STUB)
        self.canvas.reach(x)

    def far(self, t: int, x: float, edge: float, name: str) -> _Column:
        """A step that stands in another row."""
        ends = {}
        for lane, y in self.layout.lanes.items():
            stub = self.canvas.stub(x, self.base + y, f"t={t + 1}", f"{name}{t + 1}_{identifier(lane)}")
            ends[lane] = (edge, edge, stub)
        return _Column(ends, None, t, t, far=True)

    def first(self, step: Step, x: float) -> tuple[_Column, float]:
        """First states, at x or right of it."""
        width, height = self.plan.width * _FIRST, next(iter(self.items.values())).height
        ends = {}
        for lane, card in step.cards.items():
            if lane in self.layout.lanes:
                name = f"{identifier(lane)}_0"
                center = (x + width / 2, self.base + self.layout.lanes[lane])
                self.canvas.card(name, _cut(card, self.lines), center, width, height, ())
                ends[lane] = (x, x + width, name)
        return _Column(ends), x + width

    def step(self, step: Step, x: float) -> _Column:
        layout, canvas, t, base = self.layout, self.canvas, step.time, self.base
        names = {key: f"{identifier(key)}_{t + 1}" for key in step.cards}
        with canvas.frame(t, x, base, layout.width, layout.height, more=self.plan.more[t]):
            for key, card in step.cards.items():
                px, py = layout.places[key]
                item = self.items[key]
                center = (x + px, base + py)
                canvas.card(names[key], _cut(card, self.lines), center, item.width, item.height, card.pills, t)
        for (a, b), reading in step.flows.items():
            points = [(x + px, base + py) for px, py in layout.wires[a, b]]
            canvas.wire(names[a], names[b], points, reading)
        ends = {}
        for lane in layout.lanes:
            if lane in names:
                middle, half = x + layout.places[lane][0], self.items[lane].width / 2
                ends[lane] = (middle - half, middle + half, names[lane])
        return _Column(ends, (step, x), t, t)

    def fold(self, hidden: range, x: float) -> _Column:
        name = f"fold_{hidden.start + 1}"
        readings = {s: self.plan.lanes[s][hidden.start : hidden.stop] for s in self.layout.lanes}
        self.canvas.fold(name, hidden, readings, x, self.base, self.layout, FOLD)
        return _Column(dict.fromkeys(self.layout.lanes, (x, x + FOLD, name)), None, hidden.start, hidden.stop - 1)

    def join(self, left: _Column, right: _Column) -> None:
        """The lanes between two neighbours, each in its own direction."""
        for source, target, backward in ((left, right, False), (right, left, True)):
            starts = {
                lane: (low if backward else high, name)
                for lane, (low, high, name) in source.ends.items() if (lane in self.plan.backward) == backward
            }  # fmt: skip
            if target.step is not None:
                self.into(*target.step, starts)
                continue
            for lane, (start, tail) in starts.items():
                if lane not in target.ends:
                    continue
                low, high, head = target.ends[lane]
                y = self.base + self.layout.lanes[lane]
                came = self.plan.steps[target.last if backward else target.first].carried
                # The largest of the flows, as one line stands for all.
                reading = largest(r for (a, _), r in came.items() if a == lane)
                self.canvas.wire(tail, head, [(start, y), (high if backward else low, y)], reading, dashed=target.far)

    def into(self, step: Step, x: float, starts: Mapping[str, tuple[float, str]]) -> None:
        """What is carried into a step, from where each lane starts."""
        for (a, b), reading in sorted(step.carried.items(), key=lambda item: item[1].norm):
            if a not in starts:
                continue
            edge, tail = starts[a]
            way = self.layout.carried[a, b]
            points = [(edge, self.base + way[0][1]), *((x + px, self.base + py) for px, py in way[1:])]
            self.canvas.wire(tail, f"{identifier(b)}_{step.time + 1}", points, reading)


def _cut(card: Card, lines: int) -> Card:
    """Fewer lines of text: an input keeps its letter, the others lose their mean value."""
    if lines == 3:
        return card
    if card.kind == "input":
        return card._replace(title=f"{card.title} {card.line}", line="")
    return card if card.kind in ("loss", "join") else card._replace(line="")
