"""A recorded graph as it is, op by op: for what has no time steps. A deep one is folded in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..bptt.record import Graph, OpNode, Reading, Record
from ..errors import RecordError
from .canvas import FOLD, GAP, HEADER, MARGIN, Canvas, folded
from .layout import ARROW, PORT, Item, Layout, arrange
from .palette import number
from .picture import Picture
from .scene import OPS, Card

__all__ = ["graph"]

_WIDTH, _HEIGHT = 66.0, 42.0
_PORT = 8.0  # between two wires side by side, where all of a graph fits the page
_PITCH = 92.0  # of two columns, at most, with the wires between them


def graph(record: Record, *, everything: bool = False, title: str | None = None) -> Picture:
    """Draw every op of a record's graph, from the leaves on the left to the loss on the right.

    Args:
        record: From `bptt.backward(loss, keep="ops")`, or from `bptt.record(loss)` before any backward.
        everything: Draw all of a deep graph, in one row. Else the middle is folded.
        title: In place of the one made from the record.
    Raises:
        RecordError: The record was made without ops.
    """
    if record.graph is None:
        raise RecordError(
            "This record was made without its ops.\n  Make it with bptt.backward(loss, keep='ops')."
        )
    nodes = record.graph.nodes
    depths = _depths(record.graph)
    deep = max(depths) + 1
    canvas = Canvas("graph")
    state = f"loss {number(record.loss)}" if record.complete else "no gradient has been computed yet"
    canvas.caption(title or f"{len(nodes):,} nodes, {deep:,} deep: the gradient of every op", state)
    fit = int((canvas.room[0] - FOLD - 3 * GAP) // _PITCH)
    parts = [range(deep)]
    if not everything and deep > fit + 1:
        parts = [range(fit // 2), range(deep - (fit - fit // 2), deep)]
    sides = [[n for n in nodes if depths[n.id] in part] for part in parts]
    layouts = [_layout(side, depths, PORT if len(sides) > 1 or everything else _PORT) for side in sides]
    height = max(layout.height for layout in layouts)
    base, x = canvas.band(height + GAP), MARGIN
    corners: list[tuple[float, float]] = []  # where each side stands
    for k, (side, layout) in enumerate(zip(sides, layouts, strict=True)):
        if k:
            x = _fold(canvas, nodes, depths, range(parts[0].stop, parts[1].start), x, base, height)
        corners.append((x, base + height - layout.height))
        _draw(canvas, side, layout, corners[k])
        x += layout.width + GAP
    if len(sides) > 1:
        _join(canvas, nodes, sides, layouts, corners)
    canvas.reach(x)
    canvas.legend("op\nmean value\ng = ‖∂L/∂op‖", _types(record))
    return canvas.picture()


def _types(record: Record) -> set[Any]:
    """Of the numbers that the gradients are made of, as far as the record tells."""
    return {p.gradient.dtype for p in record.parameters.values()} | {s.dtype for s in record.sequences.values()}


def _depths(graph: Graph) -> list[int]:
    """The column of each node: just before its first use, the loss last."""
    before_end = [0] * len(graph.nodes)
    for node in reversed(graph.nodes):
        for p in node.parents:
            before_end[p] = max(before_end[p], before_end[node.id] + 1)
    deep = max(before_end)
    return [deep - k for k in before_end]


def _layout(nodes: Sequence[OpNode], depths: Sequence[int], port: float) -> Layout:
    start = min(depths[n.id] for n in nodes)
    columns = {f"n{n.id}": depths[n.id] - start for n in nodes}
    items = [Item(key, "gate", _WIDTH, _HEIGHT) for key in columns]
    edges = [(f"n{p}", f"n{n.id}") for n in nodes for p in n.parents if f"n{p}" in columns]
    return arrange(items, edges, [], row_gap=16, column_gap=14, header=HEADER / 2, columns=columns, port=port)


def _draw(canvas: Canvas, nodes: Sequence[OpNode], layout: Layout, corner: tuple[float, float]) -> None:
    x, y = corner
    inside = {n.id for n in nodes}
    for node in nodes:
        px, py = layout.places[f"n{node.id}"]
        title = node.name or OPS.get(node.op or "", node.op or "leaf")
        about = f"{' / '.join((*node.scope, title))}: {node.shape}, mean {number(node.mean)}, {node.source or 'a leaf'}"
        card = Card("gate" if node.op else "input", title[:11], number(node.mean), node.reading, about)
        canvas.card(f"n{node.id}", card, (x + px, y + py), _WIDTH, _HEIGHT, ())
    for node in nodes:
        seen = Counter[int]()
        for parent, part in zip(node.parents, node.parts, strict=True):
            if parent in inside:
                pair, k = (f"n{parent}", f"n{node.id}"), seen[parent]
                way = layout.beside[pair][k - 1] if k else layout.wires[pair]
                canvas.wire(*pair, [(x + px, y + py) for px, py in way], part, lane=f"{k}" if k else "")
                seen[parent] += 1


def _fold(
    canvas: Canvas, nodes: Sequence[OpNode], depths: Sequence[int], hidden: range, x: float, base: float, height: float
) -> float:
    """A box for the ops of these depths; gives where it ends."""
    readings = [n.reading for n in nodes if n.op is not None and depths[n.id] in hidden]
    box = Layout(FOLD, height, {}, {"": height / 2})
    inside = {"": folded(height / 2, readings)}
    some = range(hidden.start, hidden.start + len(readings))
    canvas.fold("fold", some, inside, x, base, box, FOLD, what="op", count_from="op")
    return x + FOLD + GAP


def _join(
    canvas: Canvas, nodes: Sequence[OpNode], sides: Sequence[Sequence[OpNode]], layouts: Sequence[Layout],
    corners: Sequence[tuple[float, float]],
) -> None:  # fmt: skip
    """Wires between the folded ops and those on both sides; what goes past the fold ends at it too."""
    left, right = ({n.id for n in side} for side in sides)
    (x_left, y_left), (x_right, y_right) = corners
    edge, low = x_left + layouts[0].width + GAP, min(y_left, y_right) + 4  # below every box
    into: dict[int, Reading] = {}  # from the left: the largest part that comes back to a node
    for node in nodes:
        for parent, part in zip(node.parents, node.parts, strict=True):
            if parent in left and node.id not in left and part.norm >= into.get(parent, part).norm:
                into[parent] = part
            if node.id in right and parent not in right:
                px, py = layouts[1].places[f"n{node.id}"]
                end = (x_right + px - _WIDTH / 2, y_right + py)
                way = [(edge + FOLD, end[1]), end]
                if px > _PITCH:  # not in the first column: along the bottom
                    turn, height = end[0] - ARROW, end[1] - 8
                    way = [(edge + FOLD, low), (turn, low), (turn, height), (end[0], height)]
                canvas.wire("fold", f"n{node.id}", way, part)
    for parent, part in into.items():
        px, py = layouts[0].places[f"n{parent}"]
        start = (x_left + px + _WIDTH / 2, y_left + py)
        way = [start, (edge, start[1])]
        if px < layouts[0].width - _PITCH:
            turn = start[0] + ARROW
            way = [(start[0], start[1] - 14), (turn, start[1] - 14), (turn, low), (edge, low)]
        canvas.wire(f"n{parent}", "fold", way, part)
