"""Where things stand in one time step: columns, rows, lanes and wires, computed once and tiled.

An unrolled network is a grid, so its coordinates are computed here and Graphviz only draws them.
Each state runs along a lane of its own, straight from step to step; what lies on the shortest way
from a state to its next value stands on that lane too. Wires run at right angles in the gutters
between the columns. Nothing here knows gradients. Coordinates are points (1/72 inch), y upwards,
from the lower left corner of the step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["ARROW", "PORT", "Item", "Layout", "Point", "arrange", "mirrored"]

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
        beside: Inside the step, those of the second and every further wire between the same two.
    """

    width: float
    height: float
    places: dict[str, Point]
    lanes: dict[str, float]
    wires: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    carried: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    beside: dict[tuple[str, str], list[list[Point]]] = field(default_factory=dict)


def mirrored(layout: Layout) -> Layout:
    """The same step for a walk from right to left: what is carried comes in at the right border."""
    def turned(way: Sequence[Point]) -> list[Point]:
        return [(layout.width - x, y) for x, y in way]

    return Layout(
        layout.width, layout.height, {key: turned([place])[0] for key, place in layout.places.items()}, layout.lanes,
        {pair: turned(way) for pair, way in layout.wires.items()},
        {pair: turned(way) for pair, way in layout.carried.items()},
        {pair: [*map(turned, ways)] for pair, ways in layout.beside.items()},
    )  # fmt: skip


def arrange(
    items: Sequence[Item],
    edges: Iterable[tuple[str, str]],
    carried: Iterable[tuple[str, str]],
    *,
    row_gap: float,
    column_gap: float,
    header: float,
    columns: Mapping[str, int] | None = None,
    port: float = PORT,
) -> Layout:
    """Lay out one step.

    Args:
        items: The boxes; states from the top lane to the bottom one, the others in the order in
            which they were computed.
        edges: (from, to) inside the step, without a cycle; as often as wires run there.
        carried: (state, to): what uses the state of the step before.
        row_gap, column_gap: The least distance of two boxes.
        header: Room for the frame's own label.
        columns: The column of each box; None: right of all that it is computed from.
        port: Between two wires side by side, where there is room for that much.
    """
    counts = Counter(edges)
    edges, carried = list(counts), list(dict.fromkeys(carried))
    by_key = {item.key: item for item in items}
    columns = _columns(items, edges) if columns is None else columns
    rows, bottom = _rows(items, edges, carried, columns)
    router = _Router(by_key, columns, rows, port)
    # Near rows first: they take the inner ports, so that the wires of one box do not cross.
    for a, b, is_carried in sorted(
        [(a, b, False) for a, b in edges] + [(a, b, True) for a, b in carried],
        key=lambda edge: abs(rows[edge[0]] - rows[edge[1]]),
    ):
        router.plan(a, b, 1 if is_carried else counts[a, b], carried=is_carried)
    # Rows become heights, from the top down, and columns x positions, each gap as wide as its wires ask for.
    tall = [max((i.height + i.above for i in items if rows[i.key] == r), default=0.0) for r in range(bottom + 1)]
    low = [max((i.height for i in items if rows[i.key] == r), default=0.0) for r in range(bottom + 1)]
    gaps = [max(row_gap, port * (len(router.channel(r)) + 1)) for r in range(bottom)] + [row_gap * 0.75]
    height = header + row_gap * 0.25 + sum(tall) + sum(gaps)
    centres, channels, top = [], [], height - header - row_gap * 0.25
    for r in range(bottom + 1):
        centres.append(top - tall[r] + low[r] / 2)
        channels.append((top - tall[r], gaps[r]))
        top -= tall[r] + gaps[r]
    last = max(columns.values(), default=0)
    widths = [max((i.width for i in items if columns[i.key] == c), default=0.0) for c in range(last + 1)]
    gutters = [
        max(column_gap / (2 if c in (-1, last) else 1), ARROW + port * (len(router.gutter(c)) + 1))
        for c in range(-1, last + 1)
    ]
    lefts = [gutters[0]]
    for c in range(last):
        lefts.append(lefts[-1] + widths[c] + gutters[c + 1])
    layout = Layout(
        width=lefts[-1] + widths[-1] + gutters[-1],
        height=height,
        places={i.key: (lefts[columns[i.key]] + widths[columns[i.key]] / 2, centres[rows[i.key]]) for i in items},
        lanes={i.key: centres[rows[i.key]] for i in items if i.kind == "state"},
    )
    starts = [0.0, *(left + width for left, width in zip(lefts, widths, strict=True))]  # of each gutter
    for way, corners in router.wires(layout.places, centres, channels, starts):
        if way.number:
            layout.beside.setdefault((way.source, way.target), []).append(corners)
        else:
            (layout.carried if way.carried else layout.wires)[way.source, way.target] = corners
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
    if not states:
        _unravel(rows, [i.key for i in free], edges, columns, range(first, first + crowd))
    return rows, bottom


def _unravel(
    rows: dict[str, int], free: Sequence[str], edges: Sequence[tuple[str, str]], columns: Mapping[str, int],
    slots: range,
) -> None:  # fmt: skip
    """Bring boxes near to what uses them, then near to what they are made of: fewer wires cross."""
    placed: dict[int, list[str]] = {}
    for key in free:
        placed.setdefault(columns[key], []).append(key)
    order = sorted(placed)
    for there, back, way in ((0, 1, order[::-1]), (1, 0, order)):
        near: dict[str, list[str]] = {}
        for edge in edges:
            near.setdefault(edge[there], []).append(edge[back])
        for column in way:
            at = {key: [rows[k] for k in near.get(key, [key])] for key in placed[column]}
            wishes = {key: sum(found) / len(found) for key, found in at.items()}
            here = sorted(at, key=lambda key: (wishes[key], rows[key]))
            rows |= dict(zip(here, _spread([wishes[key] for key in here], slots), strict=True))


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
    """A wire before gaps have a width: out to a gutter, up or down in it, along a channel to another one, in.

    Attributes:
        source, target: Its ends.
        carried: Whether it comes from the step before.
        gutters: None for a straight one, one, or two with a channel between them.
        channel: The row below whose boxes the channel runs.
        leaves, arrives: The port at either end: 1 is the first above the middle, -1 the first below it.
        backward: Whether it leaves on the left.
        number: Of several between the same two, from 0.
    """

    source: str
    target: str
    carried: bool
    gutters: tuple[int, ...] = ()
    channel: int | None = None
    leaves: int = 0
    arrives: int = 0
    backward: bool = False
    number: int = 0


class _Router:
    """Chooses gutters, channels and ports, so that wires keep apart and pass under no box."""

    def __init__(
        self, items: Mapping[str, Item], columns: Mapping[str, int], rows: Mapping[str, int], port: float
    ) -> None:
        self.items, self.columns, self.rows, self.port = items, columns, rows, port
        self.taken = {(columns[k], rows[k]) for k in items}
        self.ways: list[_Way] = []
        self.ports: dict[tuple[int, int], list[tuple[int, int]]] = {}  # (row, port): columns it runs along

    def plan(self, source: str, target: str, count: int, *, carried: bool) -> None:
        """Choose the ways of so many wires between two boxes."""
        a, b = -1 if carried else self.columns[source], self.columns[target]
        p, q = self.rows[source], self.rows[target]
        way = _Way(source, target, carried, backward=not carried and b <= a)
        near = a - way.backward  # the gutter beside the source
        if (a == b and self._clear(p, q, a)) or (p == q and b > a and self._free(p, a, b)):
            self.ways.append(way)
            for k in range(1, count):
                port = self._port(p, -1 if k % 2 else 1, 2 * a + 1, 2 * b - 1)
                self.ways.append(way._replace(leaves=port, arrives=port, number=k))
            return
        if near == b - 1 or (b > a and self._free(p, a, b)):
            way = way._replace(gutters=(b - 1,))
        elif b > a and self._free(q, a, b):
            way = way._replace(gutters=(a,))
        else:  # between two rows, on the target's side
            way = way._replace(gutters=(near, b - 1), channel=p if q >= p else p - 1)
        # Above the middle of a box for a wire that comes from above or goes up.
        up = 1 if q < p else -1
        below = -up if way.channel is None or p != q else -1
        run = sorted((2 * a + (-1 if way.backward else 1), 2 * way.gutters[0] + 1))
        leaves = [0 if carried else self._port(p, up, *run) for _ in range(count)]
        arrives = [self._port(q, below, 2 * way.gutters[-1] + 1, 2 * b - 1) for _ in range(count)]
        for k, (start, end) in enumerate(zip(leaves, reversed(arrives), strict=True)):  # so that they do not cross
            self.ways.append(way._replace(leaves=start, arrives=end, number=k))

    def _free(self, row: int, a: int, b: int) -> bool:
        return not any((c, row) in self.taken for c in range(a + 1, b))

    def _clear(self, p: int, q: int, column: int) -> bool:
        """Whether nothing stands between two rows of a column."""
        return p != q and not any((column, r) in self.taken for r in range(min(p, q) + 1, max(p, q)))

    def _port(self, row: int, side: int, first: int, last: int) -> int:
        """The innermost port of a row that no wire uses from here to there; a column c is 2c, its right gutter 2c+1."""
        port = side
        while any(first <= end and start <= last for start, end in self.ports.get((row, port), ())):
            port += side
        self.ports.setdefault((row, port), []).append((first, last))
        return port

    def gutter(self, column: int) -> list[_Way]:
        return [w for w in self.ways if column in w.gutters]

    def channel(self, row: int) -> list[_Way]:
        return [w for w in self.ways if w.channel == row]

    def wires(
        self, places: Mapping[str, Point], centres: Sequence[float], channels: Sequence[tuple[float, float]],
        starts: Sequence[float],
    ) -> Iterator[tuple[_Way, list[Point]]]:  # fmt: skip
        """The corners of every wire.

        Args:
            places: The centre of each box.
            centres: The height of each row.
            channels: The upper edge and the width of the gap below each row.
            starts: Where each gutter begins, from the one on the left of the first column.
        """
        heights: dict[tuple[int, int], float] = {}
        for row, port in {(row, 0) for row in self.rows.values()} | set(self.ports):
            count = max((abs(k) for r, k in self.ports if r == row and k * port > 0), default=1)
            reach = 0.38 * min(i.height for k, i in self.items.items() if self.rows[k] == row)
            heights[row, port] = centres[row] + port * min(self.port, reach / count)
        levels = {  # of each wire in its channel
            way: edge - gap * (k + 1) / (len(self.channel(row)) + 1)
            for row, (edge, gap) in enumerate(channels)
            for k, way in enumerate(self.channel(row))
        }
        ends = {w: (heights[self.rows[w.source], w.leaves], heights[self.rows[w.target], w.arrives]) for w in self.ways}

        def rank(way: _Way, gutter: int) -> tuple[bool, float]:
            """Order in a gutter, so that no fan crosses: falling wires, the lowest first; rising, the topmost."""
            start, end = ends[way]
            if way.channel is not None:
                start, end = (start, levels[way]) if gutter == way.gutters[0] else (levels[way], end)
            return (True, -start - end) if end > start else (False, start + end)

        tracks = {
            (way, g): start + ARROW + self.port * (k + 1) - PORT
            for g, start in enumerate(starts, -1)
            for k, way in enumerate(sorted(self.gutter(g), key=lambda way, g=g: rank(way, g)))  # type: ignore[misc]
        }
        for way in self.ways:
            source, target = self.items[way.source], self.items[way.target]
            (x, y), (far_x, far_y), (start, end) = places[way.source], places[way.target], ends[way]
            if not way.gutters and not way.carried and x == far_x:  # straight up or down
                up = 1 if far_y > y else -1
                labels = source.above if up > 0 else target.above
                first, last = (x, y + up * source.height / 2), (x, far_y - up * target.height / 2)
                yield way, [(x, first[1] + labels), last] if up > 0 else [first, (x, last[1] + labels)]
                continue
            out = (0.0 if way.carried else x + source.width / 2 * (-1 if way.backward else 1), start)
            corners = [out]
            if way.channel is not None:
                one, two, level = tracks[way, way.gutters[0]], tracks[way, way.gutters[1]], levels[way]
                corners += [(one, start), (one, level), (two, level), (two, end)]
            elif way.gutters:
                corners += [(tracks[way, way.gutters[0]], h) for h in (start, end)]
            yield way, [*corners, (far_x - target.width / 2, end)]
