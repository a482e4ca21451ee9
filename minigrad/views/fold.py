"""Which time steps to show: what fits the page, with first, last and odd steps kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bptt.record import Reading
from .canvas import FOLD, GAP, STUB

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
    down = max(1, int(room[1] // height))
    across = int((room[0] - left) // width)
    if count > across:  # several rows: room for the stubs that lead from one to the next
        across = max(1, int((room[0] - left - STUB) // width))
    if count <= across * down:
        each = math.ceil(count / math.ceil(count / across))  # rows of one length
        rows = [list(range(k, min(k + each, count))) for k in range(0, count, each)]
        return [[-1, *rows[0]], *rows[1:]]  # type: ignore[list-item]
    folded = max(0, int((room[0] - left - FOLD - GAP) // width))
    keep = max(2, folded)
    head = max(1, (keep - 1) // 2)
    kept = {*range(head), *range(count - (keep - head), count)}
    odd: list[int] = []
    for t in _anomalies(norms):
        if t not in kept and all(abs(t - other) > 2 for other in odd):
            odd.append(t)
    # Another fold takes the room of a column; an odd step in the middle is worth it, up to three of them.
    for extra in range(min(3, len(odd)), 0, -1):
        keep = int((room[0] - left - (extra + 1) * (FOLD + GAP)) // width) - extra
        if keep >= 2:
            head = max(1, (keep - 1) // 2)
            kept = {*range(head), *odd[:extra], *range(count - (keep - head), count)}
            break
    columns: Band = [-1]
    before = -1
    for t in sorted(kept):
        if t > before + 1:
            columns.append(range(before + 1, t))
        columns.append(t)
        before = t
    if folded >= 2:
        return [columns]
    split = next((k for k, c in enumerate(columns) if isinstance(c, range)), 1) + 1
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
