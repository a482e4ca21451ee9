"""Where things stand in one time step: columns, rows, lanes and wires, computed once and tiled.

An unrolled network is a grid, so its coordinates are computed here and Graphviz only draws them.
Each state runs along a lane of its own, straight from step to step; what lies on the shortest way
from a state to its next value stands on that lane too. Wires run at right angles in the gutters
between the columns. Nothing here knows gradients. Coordinates are points (1/72 inch), y upwards,
from the lower left corner of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["ARROW", "Item", "Layout", "Point", "arrange"]

Point = tuple[float, float]
ARROW = 9.0  # room for an arrowhead before the first corner
PORT = 5.0  # between two wires side by side, and between two wires that end at one box


class Item(NamedTuple):
    """A box to place.

    Attributes:
        key: Its name, unique in the step.
        kind: "state", "input", "output" (below what they belong to), or anything else.
        width, height: Its size.
        above: The height of the labels that stand on top of it.
    """

    key: str
    kind: str
    width: float
    height: float
    above: float = 0.0


@dataclass(slots=True)
class Layout:
    """One step, laid out.

    Attributes:
        width, height: Of the frame.
        places: The centre of each box.
        lanes: The height of each state's lane.
        wires: The corners from box to box.
        carried: The same from the state of the step before; they start at x = 0, on its lane.
    """

    width: float
    height: float
    places: dict[str, Point]
    lanes: dict[str, float]
    wires: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    carried: dict[tuple[str, str], list[Point]] = field(default_factory=dict)


def arrange(
    items: Sequence[Item],
    edges: Iterable[tuple[str, str]],
    carried: Iterable[tuple[str, str]],
    *,
    row_gap: float,
    column_gap: float,
    header: float,
    columns: Mapping[str, int] | None = None,
) -> Layout:
    """Lay out one step.

    Args:
        items: The boxes; states from the top lane to the bottom one, the others in the order in
            which they were computed.
        edges: (from, to) inside the step, without a cycle.
        carried: (state, to): what uses the state of the step before.
        row_gap, column_gap: The least distance of two boxes.
        header: Room for the frame's own label.
        columns: The column of each box; None: right of all that it is computed from.
    """
    edges, carried = list(dict.fromkeys(edges)), list(dict.fromkeys(carried))
    by_key = {item.key: item for item in items}
    columns = _columns(items, edges) if columns is None else columns
    rows, bottom = _rows(items, edges, carried, columns)
    # Rows become heights, from the top down.
    tall = [max((i.height + i.above for i in items if rows[i.key] == r), default=0.0) for r in range(bottom + 1)]
    low = [max((i.height for i in items if rows[i.key] == r), default=0.0) for r in range(bottom + 1)]
    height = header + sum(tall) + row_gap * (bottom + 1)
    centres, top = [], height - header - row_gap * 0.25
    for r in range(bottom + 1):
        centres.append(top - tall[r] + low[r] / 2)
        top -= tall[r] + row_gap
    router = _Router(by_key, columns, rows, centres, row_gap)
    ways = [(a, b, router.plan(a, b, carried=False)) for a, b in edges]
    ways += [(a, b, router.plan(a, b, carried=True)) for a, b in carried]
    # Columns become x positions, each gutter as wide as its wires ask for.
    last = max(columns.values(), default=0)
    widths = [max((i.width for i in items if columns[i.key] == c), default=0.0) for c in range(last + 1)]
    gutters = [
        max(column_gap / (2 if c in (-1, last) else 1), ARROW + PORT * (router.tracks(c) + 1))
        for c in range(-1, last + 1)
    ]
    lefts = [gutters[0]]
    for c in range(last):
        lefts.append(lefts[-1] + widths[c] + gutters[c + 1])
    places = {
        i.key: (lefts[columns[i.key]] + widths[columns[i.key]] / 2, centres[rows[i.key]]) for i in items
    }
    layout = Layout(
        width=lefts[-1] + widths[-1] + gutters[-1],
        height=height,
        places=places,
        lanes={i.key: centres[rows[i.key]] for i in items if i.kind == "state"},
    )
    starts = [0.0 if c < 0 else lefts[c] + widths[c] for c in range(-1, last + 1)]  # of each gutter
    for a, b, way in ways:
        (layout.carried if way.carried else layout.wires)[a, b] = router.corners(way, places, starts)
    return layout


def _columns(items: Sequence[Item], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Each box right of all that it is computed from; inputs and outputs below what they belong to."""
    kinds = {i.key: i.kind for i in items}
    columns = {i.key: 0 for i in items}
    for _ in items:  # settles in as many rounds as the longest path has boxes
        before = dict(columns)
        for a, b in edges:
            if kinds[a] != "input" and kinds[b] != "output":
                columns[b] = max(columns[b], columns[a] + 1)
        if columns == before:
            break
    for item in items:
        if item.kind == "input":
            columns[item.key] = min((columns[b] for a, b in edges if a == item.key), default=0)
        elif item.kind == "output":
            columns[item.key] = max((columns[a] for a, b in edges if b == item.key), default=0)
    taken: set[tuple[str, int]] = set()
    for item in items:
        if item.kind in ("input", "output"):  # one place each in the bottom row
            while ("bottom", columns[item.key]) in taken:
                columns[item.key] += 1
            taken.add(("bottom", columns[item.key]))
    return columns


def _lane_of(state: str, edges: Sequence[tuple[str, str]], starts: Sequence[str]) -> list[str]:
    """The shortest way from what uses the old state to the new state, without the state itself."""
    ways: list[list[str]] = [[s] for s in starts]
    seen = set(starts)
    while ways:
        way = ways.pop(0)
        if way[-1] == state:
            return way[:-1]
        for a, b in edges:
            if a == way[-1] and b not in seen:
                seen.add(b)
                ways.append([*way, b])
    return []


def _rows(
    items: Sequence[Item],
    edges: Sequence[tuple[str, str]],
    carried: Sequence[tuple[str, str]],
    columns: Mapping[str, int],
) -> tuple[dict[str, int], int]:
    """Lanes, what lies on them, the other boxes between them (below a single lane), inputs at the bottom."""
    states = [i.key for i in items if i.kind == "state"]
    on_lane: dict[str, str] = {}
    for state in states:
        for key in _lane_of(state, edges, [b for a, b in carried if a == state]):
            if key not in states:
                on_lane.setdefault(key, state)
    free = [i for i in items if i.kind not in ("state", "input", "output") and i.key not in on_lane]
    crowd = max((sum(columns[i.key] == c for i in free) for c in set(columns.values())), default=0)
    # Several lanes: the first on top, the others below the free rows. A single lane stays on top.
    lane_rows = {s: 0 if k == 0 else crowd + k for k, s in enumerate(states)}
    bottom = max(lane_rows.values(), default=-1) + 1 + (crowd if len(states) < 2 else 0)
    rows = {key: lane_rows[state] for key, state in on_lane.items()} | lane_rows
    rows |= {i.key: bottom for i in items if i.kind in ("input", "output")}
    first = 1 if states else 0
    inputs = {i.key for i in items if i.kind == "input"}
    for column in sorted({columns[i.key] for i in free}):
        here = [i.key for i in free if columns[i.key] == column]
        wishes: dict[str, float] = {}
        for key in here:
            near = [rows[a] for a, b in edges if b == key and a in rows and a not in inputs]
            fed = any(a in inputs for a, b in edges if b == key)
            wishes[key] = sum(near) / len(near) if near else first + crowd if fed and len(states) > 1 else first
        # In the order of their wishes (then of computation), each as near to its wish as the others allow.
        here.sort(key=lambda key: wishes[key])
        rows |= dict(zip(here, _spread([wishes[key] for key in here], range(first, first + crowd)), strict=True))
    return rows, bottom


def _spread(wishes: Sequence[float], slots: range) -> list[int]:
    """Rising rows out of the slots, in sum as near to the wishes as can be."""
    # costs[i][j]: the least sum for the first i wishes with the first j slots.
    costs = [[0.0] * (len(slots) + 1)]
    for i, wish in enumerate(wishes):
        line = [math.inf] * (len(slots) + 1)
        for j, slot in enumerate(slots):
            line[j + 1] = min(line[j], costs[i][j] + abs(slot - wish))
        costs.append(line)
    rows, j = [], len(slots)
    for i in range(len(wishes), 0, -1):
        while costs[i][j - 1] == costs[i][j]:
            j -= 1
        j -= 1
        rows.append(slots[j])
    return rows[::-1]


class _Way(NamedTuple):
    """A wire before the gutters have a width: (gutter, height to go to) in turn, between two ends."""

    source: str
    target: str
    start: float  # height at which it leaves
    end: float  # height at which it arrives
    gutters: tuple[int, ...]
    middle: float | None  # height between two gutters
    carried: bool
    vertical: bool  # straight up or down, inside one column


class _Router:
    """Chooses gutters and ports, so that wires keep apart and pass under no box."""

    def __init__(
        self,
        items: Mapping[str, Item],
        columns: Mapping[str, int],
        rows: Mapping[str, int],
        centres: Sequence[float],
        row_gap: float,
    ) -> None:
        self.items, self.columns, self.rows, self.centres, self.row_gap = items, columns, rows, centres, row_gap
        self.taken = {(columns[k], rows[k]) for k in items}
        self.ways: list[_Way] = []
        self.used_ports: dict[tuple[str, str, int], int] = {}

    def plan(self, source: str, target: str, *, carried: bool) -> _Way:
        a, b = -1 if carried else self.columns[source], self.columns[target]
        p, q = self.rows[source], self.rows[target]
        if not carried and a == b and self._clear(p, q, a):
            way = _Way(source, target, self.centres[p], self.centres[q], (), None, False, True)
        elif p == q and b > a and self._free(p, a, b):
            way = _Way(source, target, self.centres[p], self.centres[q], (), None, carried, False)
        else:
            start = self.centres[p] + (0 if carried else self._port(source, "out", q - p))
            end = self.centres[q] + self._port(target, "in", p - q)
            # Into the same column a wire goes back, through the gutter on its left.
            if b <= a + 1 or self._free(p, a, b):
                way = _Way(source, target, start, end, (b - 1,), None, carried, False)
            elif self._free(q, a, b):
                way = _Way(source, target, start, end, (a,), None, carried, False)
            else:
                side = -1 if q >= p else 1  # between two rows, on the target's side
                used = sum(w.middle is not None for w in self.ways)
                edge = max((i.height / 2 for k, i in self.items.items() if self.rows[k] == p), default=0)
                middle = self.centres[p] + side * (edge + self.row_gap / 2 - PORT + PORT * (used % 3))
                way = _Way(source, target, start, end, (a, b - 1), middle, carried, False)
        self.ways.append(way)
        return way

    def _free(self, row: int, a: int, b: int) -> bool:
        return not any((c, row) in self.taken for c in range(a + 1, b))

    def _clear(self, p: int, q: int, column: int) -> bool:
        """Whether nothing stands between two rows of a column."""
        return p != q and not any((column, r) in self.taken for r in range(min(p, q) + 1, max(p, q)))

    def _port(self, key: str, side: str, direction: int) -> float:
        """The next free height beside the middle of a box's side: above it for a wire from above."""
        up = direction < 0
        count = self.used_ports[key, side, up] = self.used_ports.get((key, side, up), 0) + 1
        reach = self.items[key].height / 2 - 3
        return (1 if up else -1) * min(PORT * count, reach)

    def tracks(self, gutter: int) -> int:
        return sum(gutter in w.gutters for w in self.ways)

    def corners(self, way: _Way, places: Mapping[str, Point], starts: Sequence[float]) -> list[Point]:
        source, target = self.items[way.source], self.items[way.target]
        if way.vertical:
            (x, y), up = places[way.source], 1 if way.end > way.start else -1
            far = places[way.target][1] - up * target.height / 2
            return [(x, y + up * source.height / 2), (x, far - (target.above if up < 0 else 0))]
        first = (0.0, way.start) if way.carried else (places[way.source][0] + source.width / 2, way.start)
        last = (places[way.target][0] - target.width / 2, way.end)
        if not way.gutters:
            return [first, last]
        xs = [starts[g + 1] + ARROW + PORT * self._order(g).index(way) for g in way.gutters]
        if way.middle is None:
            if self.columns[way.target] <= self.columns[way.source] and not way.carried:
                first = (places[way.source][0] - source.width / 2, way.start)
            return [first, (xs[0], way.start), (xs[0], way.end), last]
        return [first, (xs[0], way.start), (xs[0], way.middle), (xs[1], way.middle), (xs[1], way.end), last]

    def _order(self, gutter: int) -> list[_Way]:
        """The wires of a gutter from left to right, so that those of one fan do not cross.

        Rising wires: the topmost first. Falling wires: the lowest first.
        """

        def rank(way: _Way) -> tuple[bool, float]:
            ends = [way.start, way.end] if way.middle is None else (
                [way.start, way.middle] if gutter == way.gutters[0] else [way.middle, way.end])  # fmt: skip
            rising = ends[1] > ends[0]
            return rising, -sum(ends) if rising else sum(ends)

        return sorted((w for w in self.ways if gutter in w.gutters), key=rank)
