"""Rows of time steps on a canvas: their boxes, the lanes that lead from one to the next, and folded steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..bptt.record import Reading
from .canvas import FOLD, GAP, MARGIN, STUB, Canvas, Folded, extent, folded, identifier
from .fold import Band, bands
from .layout import Item, Layout
from .palette import PLAIN, Look, Mark, largest
from .scene import Card, Step

__all__ = ["Chips", "Hidden", "Over", "Plan", "Style", "paint"]

_FIRST = 0.8  # the width of a first state, in boxes
_TITLE = 11  # the size of the words before a lane
_BESIDE = 4.0  # a chip, on either side: the arrows
_CHIP = "chip_"  # what the names of chips begin with
_VALUE = Reading(1.0, "value")


class Style(NamedTuple):
    """How every step is drawn: where its boxes stand, and how many lines of text they have (3, 2 or 1)."""

    layout: Layout
    items: Mapping[str, Item]
    lines: int


Marks = Sequence["Mark | None"]
"""By input time; None: there is nothing to say."""


class Chips(NamedTuple):
    """A measure's numbers on the arrows into the steps.

    Attributes:
        lanes: Those that they stand on.
        marks: Of each step.
        cuts: The steps into which the value alone goes.
    """

    lanes: tuple[str, ...]
    marks: Marks
    cuts: frozenset[int] = frozenset()


class Hidden(NamedTuple):
    """What a fold shows of a measure: the lanes at whose height it stands, its numbers, and what they are called."""

    lanes: tuple[str, ...]
    marks: Marks
    words: Callable[[Sequence[Mark]], list[str]]


class Over(NamedTuple):
    """A measure over a picture.

    Attributes:
        chips, hidden: On the arrows, and in folds.
        wires: By lane the looks of the arrows that bring a gradient back to each step; "loss": from its loss.
        alone: Whether what has no number of the measure stands back.
        wanted: Steps to keep unfolded.
    """

    chips: tuple[Chips, ...]
    hidden: tuple[Hidden, ...]
    wires: Mapping[str, Sequence[Look]]
    alone: bool
    wanted: tuple[int, ...]

    @property
    def room(self) -> float:
        """The width of a chip; 0 without any."""
        texts = {line for c in self.chips for m in c.marks if m is not None for line in m.text.split("\n")}
        return max((extent(line) + 8 for line in texts), default=0.0)


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
        over: A measure.
        cuts: The steps that start from a state without a way back to it.
    """

    steps: Sequence[Step]
    first: tuple[Step | None, Step | None]
    lanes: Mapping[str, list[Reading]]
    backward: frozenset[str]
    more: Sequence[str]
    titles: Mapping[str, tuple[str, ...]]
    width: float
    over: Over | None = None
    cuts: tuple[int, ...] = ()


class _Cut(NamedTuple):
    """What is cut between two columns: the step before which, the lanes, and the heights that numbers cover."""

    time: int
    lanes: set[str]
    covered: list[tuple[float, float]]


class _Column(NamedTuple):
    """What stands in a row beside others.

    Attributes:
        ends: Of each lane that meets it: its left and right edge there, and the node's name.
        step: Where a lane ends at the boxes of a step; None: it ends at the edge.
        first, last: The steps it stands for.
        far: Whether they stand in another row.
        box: Where the arrows into it have their numbers: its left and its right border.
    """

    ends: dict[str, tuple[float, float, str]]
    step: tuple[Step, float] | None = None  # and its left border
    first: int = 0
    last: int = 0
    far: bool = False
    box: tuple[float, float] | None = None


def paint(canvas: Canvas, plan: Plan, styles: Iterable[Style], everything: bool) -> Style:
    """Draw in the first style that fits the page, else the last; gives the one that was taken."""
    room = (canvas.room[0], canvas.down)
    norms = list(zip(*plan.lanes.values(), strict=True))
    space = plan.over.room + 2 * _BESIDE if plan.over is not None and plan.over.room else 0.0  # for chips
    everywhere = plan.over is None or not any(c.cuts for c in plan.over.chips)
    gap, wanted = GAP + space * everywhere, (*plan.cuts, *(() if plan.over is None else plan.over.wanted))
    first = plan.width * _FIRST + gap
    ahead, behind = (first if step is not None and step.cards else 0.0 for step in plan.first)
    titled = max((extent(line, _TITLE) + 8 for title in plan.titles for line in title.split("\n")), default=0.0)
    left = titled + max(STUB + gap - GAP, ahead)
    for style in styles:
        layout = style.layout
        rows = bands(norms, layout.width + gap, layout.height + GAP, left, everything, room, behind,
                     len(plan.backward) == len(plan.lanes), gap, wanted, space * (not everywhere))  # fmt: skip
        if everything or len(rows) * (layout.height + GAP) <= room[1]:
            break
    canvas.plain = everything and len(plan.steps) > 250
    painter = _Painter(canvas, plan, style, left, titled, space, gap)
    for row in rows:
        painter.row(row, titled > 0 or ahead > 0 or len(rows) > 1)
    return style


class _Painter:
    """Puts steps on the canvas, one row after the other."""

    def __init__(
        self, canvas: Canvas, plan: Plan, style: Style, left: float, titled: float, space: float, gap: float
    ) -> None:
        self.canvas, self.plan, self.left, self.titled = canvas, plan, left, titled
        self.space, self.gap, self.over = space, gap, plan.over
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
            edge = x + self.left - (self.gap - GAP)
            before = self.far(start - 1, edge - STUB, edge - 8, "from")
        if indented:  # the columns of all rows stand below each other
            x += self.left
        for k, column in enumerate(columns):
            x += self.beside(columns[k - 1] if k else -1, column)
            if column in (-1, count):
                first = self.plan.first[column == count]
                if first is None or not first.cards:
                    continue
                here, end = self.first(first, x if column == count else x - self.left + self.titled)
                x = max(x, end)
            elif isinstance(column, range):
                here, x = self.fold(column, x), x + FOLD + self.gap
            else:
                here, x = self.step(self.plan.steps[column], x), x + self.layout.width + self.gap
            if before is not None:
                self.join(before, here)
            before = here
        last = columns[-1]
        x += self.beside(last, count)
        if before is not None and isinstance(last, int) and last + 1 < count:
            self.join(before, self.far(last + 1, x + 8, x + 6, "to"))
            self.canvas.reach(x + STUB)
        self.canvas.reach(x)

    def beside(self, left: int | range, right: int | range) -> float:
        """What the numbers between two columns need, where not every gap has room for them."""
        if self.over is None or self.gap > GAP:
            return 0.0
        for chips in self.over.chips:
            t = left if self.back(chips.lanes[0]) > 0 else right
            if isinstance(t, int) and 0 <= t < len(chips.marks) and chips.marks[t] is not None:
                return self.space
        return 0.0

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
            canvas.wire(names[a], names[b], points, reading, paint=self.paint("loss" if b == "loss" else "", t))
        ends = {}
        for lane in layout.lanes:
            if lane in names:
                middle, half = x + layout.places[lane][0], self.items[lane].width / 2
                ends[lane] = (middle - half, middle + half, names[lane])
        return _Column(ends, (step, x), t, t, box=(x, x + layout.width))

    def paint(self, lane: str, t: int) -> Look | None:
        """The look of the arrow that brings the gradient of a lane back to a step; None: that of the gradient."""
        if self.over is None or not self.over.alone:
            return None
        looks = self.over.wires.get(lane, ())
        return looks[t] if 0 <= t < len(looks) else PLAIN

    def back(self, lane: str) -> int:
        """From a step to the one before it on its walk."""
        return 1 if lane in self.plan.backward else -1

    def fold(self, hidden: range, x: float) -> _Column:
        name, some = f"fold_{hidden.start + 1}", slice(hidden.start, hidden.stop)
        heights = self.layout.lanes
        inside = {} if self.over is not None and self.over.alone else {
            lane: folded(y, self.plan.lanes[lane][some]) for lane, y in heights.items()
        }
        for row in () if self.over is None else self.over.hidden:
            y = sum(heights[lane] for lane in row.lanes) / len(row.lanes)
            inside["_".join(row.lanes)] = _folded(y, row, row.marks[some])
        chips = () if self.over is None else self.over.chips
        cuts = {t for t in self.plan.cuts if t in hidden}
        for c in chips:  # those on the arrow into it are seen
            cuts |= {t for t in c.cuts & {*hidden} if t != (hidden[-1] if self.back(c.lanes[0]) > 0 else hidden[0])}
        self.canvas.fold(name, hidden, inside, x, self.base, self.layout, FOLD, cuts=len(cuts))
        ends = dict.fromkeys(heights, (x, x + FOLD, name))
        return _Column(ends, None, hidden.start, hidden.stop - 1, box=(x, x + FOLD))

    def join(self, left: _Column, right: _Column) -> None:
        """The lanes between two neighbours, each in its own direction."""
        places: dict[float, _Cut] = {}
        for source, target, backward in ((left, right, False), (right, left, True)):
            starts = {
                lane: (low if backward else high, name)
                for lane, (low, high, name) in source.ends.items() if (lane in self.plan.backward) == backward
            }  # fmt: skip
            arrived = self.plan.steps[target.last if backward else target.first]
            cut = set() if target.box is None else self.chips(arrived, target, starts, places)
            if target.step is not None:
                self.into(*target.step, starts, cut)
                continue
            for lane, (start, tail) in starts.items():
                if lane not in target.ends:
                    continue
                low, high, head = target.ends[lane]
                y = self.base + self.layout.lanes[lane]
                # The largest of the flows, as one line stands for all.
                reading = largest(r for (a, _), r in arrived.carried.items() if a == lane)
                points = [(start, y), (high if backward else low, y)]
                paint = self.paint(lane, source.first if backward else source.last)
                ended, own = target.far or lane in cut, lane if tail.startswith(_CHIP) else ""
                self.canvas.wire(tail, head, points, reading, dashed=ended, paint=paint, lane=own)
        for x, cut_here in places.items():
            self.scissors(x, cut_here)

    def chips(
        self, step: Step, target: _Column, starts: dict[str, tuple[float, str]], places: dict[float, _Cut]
    ) -> set[str]:
        """The numbers before a step, on arrows that go on from there; gives the lanes that are cut, and notes where."""
        assert target.box is not None
        left, right = target.box
        cut = {lane for lane in step.cut if lane in starts and target.step is not None}
        half, covered = self.gap / 2, list[tuple[float, float]]()
        for chips in () if self.over is None else self.over.chips:
            mark = chips.marks[step.time]
            if mark is None or chips.lanes[0] not in starts:
                continue
            heights = [self.base + self.layout.lanes[lane] for lane in chips.lanes]
            count = min(len(mark.text.split("\n")), self.lines)
            height = max(12.0 * count + 4, max(heights) - min(heights) + 16)
            y, half = sum(heights) / len(heights), (GAP + self.space) / 2
            ended = step.time in chips.cuts
            if ended:
                cut |= {*chips.lanes}
                y += height / 2 - 3  # the value goes on below it
            side = self.back(chips.lanes[0])
            width, center, border = self.space - 2 * _BESIDE, right + half if side > 0 else left - half, (
                right if side > 0 else left
            )
            name = f"{_CHIP}{step.time + 1}_{'_'.join(map(identifier, chips.lanes))}"
            self.canvas.chip(name, mark, (center, y), width, height)
            covered.append((y - height / 2, y + height / 2))
            for lane in chips.lanes:
                edge, tail = starts[lane]
                level = self.base + self.layout.lanes[lane]
                if ended:
                    points = [(edge, level - 7), (border, level - 7)]
                    self.canvas.wire(tail, name, points, _VALUE, value=True, lane=lane)
                else:
                    came = [r for (a, _), r in step.carried.items() if a == lane]
                    points = [(edge, level), (center + side * width / 2, level)]
                    paint = self.paint(lane, step.time + side)
                    self.canvas.wire(tail, name, points, largest(came), paint=paint, lane=lane)
                starts[lane] = (center - side * width / 2, name)
        for lane in cut:
            x = right + half if self.back(lane) > 0 else left - half
            here = places.setdefault(round(x, 3), _Cut(step.time, set(), []))
            here.lanes.add(lane)
            here.covered.extend(c for c in covered if c not in here.covered)
        return cut

    def scissors(self, x: float, cut: _Cut) -> None:
        """A line across the lanes that are cut, between the numbers that stand there."""
        heights = [self.base + self.layout.lanes[lane] for lane in cut.lanes]
        whole = len(cut.lanes) == len(self.layout.lanes)
        low = self.base + 6 if whole else min([y - 16 for y in heights] + [low - 4 for low, _ in cut.covered])
        high = self.base + self.layout.height - 6 if whole else max(
            [y + 16 for y in heights] + [high + 8 for _, high in cut.covered]
        )
        gaps, top = [], high
        for start, end in sorted(cut.covered, reverse=True):
            if top - end < 60 or whole:  # else lanes that are not cut lie between
                gaps.append((end, top))
            top = start
        gaps.append((low, top))
        about = f"cut before t={cut.time + 1}: the state's value crosses, the gradient does not"
        self.canvas.mark_cut(f"cut_{cut.time + 1}_{-self.base:.0f}", x, gaps, about)

    def into(self, step: Step, x: float, starts: Mapping[str, tuple[float, str]], cut: set[str]) -> None:
        """What is carried into a step, from where each lane starts."""
        for (a, b), reading in sorted(step.carried.items(), key=lambda item: item[1].norm):
            if a not in starts or a in step.cut:
                continue
            edge, tail = starts[a]
            points = self.way(a, b, x, edge)
            paint = self.paint(a, step.time + self.back(a))
            head = f"{identifier(b)}_{step.time + 1}"
            own = a if tail.startswith(_CHIP) else ""
            self.canvas.wire(tail, head, points, reading, dashed=a in cut, paint=paint, lane=own)
        for a, b in self.layout.carried if step.cut else ():  # the value alone
            if a in step.cut and a in starts and b in step.cards:
                edge, tail = starts[a]
                head = f"{identifier(b)}_{step.time + 1}"
                self.canvas.wire(tail, head, self.way(a, b, x, edge), _VALUE, value=True)

    def way(self, a: str, b: str, x: float, edge: float) -> list[tuple[float, float]]:
        """From where a lane starts to a box of a step."""
        corners = self.layout.carried[a, b]
        return [(edge, self.base + corners[0][1]), *((x + px, self.base + py) for px, py in corners[1:])]


def _folded(height: float, row: Hidden, marks: Marks) -> Folded:
    """The numbers of a measure."""
    def tile(start: int, stop: int) -> tuple[Look, str]:
        some = [m for m in marks[start:stop] if m is not None]
        worst = max(some, key=lambda m: (not math.isnan(m.value), m.value), default=None)
        return (PLAIN, "no number") if worst is None else (worst.look, worst.about)

    return Folded(height, row.words([m for m in marks if m is not None]), tile)


def _cut(card: Card, lines: int) -> Card:
    """Fewer lines of text: an input keeps its letter and a loss its aim, the others lose their mean value."""
    if card.aim and card.mark is not None:
        card = card._replace(line="")
    if card.aim and lines < 3:
        card = card._replace(title=f"{card.title} {card.aim}", aim="")
    if lines == 3:
        return card
    if card.kind == "input":
        return card._replace(title=f"{card.title} {card.line}", line="")
    if card.kind == "loss" and card.mark is not None:
        return card._replace(line="")
    return card if card.kind in ("loss", "join") or card.plain else card._replace(line="")
