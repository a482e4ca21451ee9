"""Which time steps to show: what fits the page, with first, last and odd steps kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bptt.record import Reading
from .canvas import FOLD, GAP

__all__ = ["Band", "bands"]

Band = list[int | range]
"""A row of columns: time steps, ranges of folded steps; -1 stands for the first states."""


def bands(
    norms: Sequence[Sequence[Reading]], width: float, height: float, left: float, everything: bool,
    room: tuple[float, float],
) -> list[Band]:  # fmt: skip
    """Which steps stand in which row, so that the picture fits the page."""
    count = len(norms)
    if everything:
        return [[-1, *range(count)]]
    across = max(1, int((room[0] - left) // width))
    down = max(1, int(room[1] // height))
    if count <= across * down:
        each = math.ceil(count / math.ceil(count / across))  # rows of one length
        rows = [list(range(k, min(k + each, count))) for k in range(0, count, each)]
        return [[-1, *rows[0]], *rows[1:]]  # type: ignore[list-item]
    folded = max(0, int((room[0] - left - FOLD - GAP) // width))
    keep = folded if folded >= 2 else min(2, down)
    marks = _anomalies(norms)
    # A second fold takes the room of a column; one odd step in the middle is worth it.
    head = max(1, (keep - 1) // 2) if keep > 1 else 0
    kept = [*range(head), *range(count - (keep - head), count)]
    odd = [t for t in marks if t not in kept]
    spare = int((room[0] - left - 2 * (FOLD + GAP)) // width)
    if odd and spare >= 3:
        keep = spare - 1
        head = max(1, (keep - 1) // 2)
        kept = sorted({*range(head), odd[0], *range(count - (keep - head), count)})
    columns: Band = [-1]
    before = -1
    for t in sorted(kept):
        if t > before + 1:
            columns.append(range(before + 1, t))
        columns.append(t)
        before = t
    if folded >= 2 or down < 2:
        return [columns]
    split = next(k for k, c in enumerate(columns) if isinstance(c, range)) + 1
    return [columns[:split], columns[split:]]


def _anomalies(norms: Sequence[Sequence[Reading]]) -> list[int]:
    """Steps where something begins: seen from the loss, the first that is no plain number; then the largest norm."""
    found: list[int] = []
    for t in range(len(norms) - 2, -1, -1):
        if any(now.kind != later.kind for now, later in zip(norms[t], norms[t + 1], strict=True)):
            found.append(t if any(r.kind != "value" for r in norms[t]) else t + 1)
    sizes = [max((r.norm for r in some if r.kind == "value"), default=0.0) for some in norms]
    top = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[top] > 10 * max(sizes[0], sizes[-1]):
        found.append(top)
    return list(dict.fromkeys(found))
