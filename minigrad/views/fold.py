"""Which time steps to show: what fits the page, with first, last and odd steps kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bptt.record import Reading
from .canvas import FOLD, GAP, STUB

__all__ = ["Band", "bands"]

Band = list[int | range]
"""A row of columns: time steps and ranges of folded steps. Before the first and after the last step stand the first
states of what walks forward, -1, and of what walks back, T."""


def bands(
    norms: Sequence[Sequence[Reading]], width: float, height: float, left: float, everything: bool,
    room: tuple[float, float], right: float = 0.0, reverse: bool = False, gap: float = GAP,
    wanted: Sequence[int] = (), beside: float = 0.0,
) -> list[Band]:  # fmt: skip
    """Which steps stand in which row, so that the picture fits the page.

    Args:
        norms: Of every step, one a lane.
        width, height: Of a step, with the gap to the next.
        left, right: The width of what stands before the first step and after the last one.
        everything: All steps in one row.
        room: Of the page.
        reverse: Whether the gradient comes from the first step alone.
        gap: Between two columns.
        wanted: Steps to keep before others.
        beside: What a wanted step needs beside it.
    """
    count = len(norms)
    if everything:
        return [[-1, *range(count), count]]
    down = max(1, int(room[1] // height))
    whole = room[0] - left - beside * len(wanted)  # where all steps are shown
    across = int((whole - right) // width)
    if count > across:  # several rows: room for the stubs that lead from one to the next
        across = max(1, int((whole - max(STUB, right)) // width))
    if count <= across * down:
        each = math.ceil(count / math.ceil(count / across))  # rows of one length
        rows: list[Band] = [list(range(k, min(k + each, count))) for k in range(0, count, each)]
        rows[0].insert(0, -1)
        rows[-1].append(count)
        return rows
    # Padding past the end of every sample is folded first.
    real = next((t + 1 for t in range(count - 1, 0, -1) if any(r.kind != "padding" for r in norms[t])), 1)
    room = (room[0] - right - (FOLD + gap if real < count else 0), room[1])
    folded = max(0, int((room[0] - left - FOLD - gap) // width))

    def both_ends(keep: int) -> set[int]:
        """So many of the real steps, more of them where the gradient comes from."""
        head = max(1, (keep - 1) // 2)
        if right:  # it comes from the first step, or from both ends
            head = keep - head if reverse else keep // 2
        return {*range(min(head, real)), *range(max(0, real - (keep - head)), real)}

    kept = both_ends(max(2, folded))
    odd: list[int] = []
    found = [real - 1 - k for k in _anomalies(norms[:real][::-1])] if reverse else _anomalies(norms[:real])
    for t in (*wanted, *found):
        if t not in kept and all(abs(t - other) > 2 for other in odd):
            odd.append(t)
    # Another fold takes the room of a column; an odd step in the middle is worth it, up to three of them.
    for extra in range(min(3, len(odd)), 0, -1):
        keep = int((room[0] - left - (extra + 1) * (FOLD + gap) - beside * min(extra, len(wanted))) // width) - extra
        if keep >= 2:
            kept = both_ends(keep) | {*odd[:extra]}
            break
        if keep == extra == 1 and odd[0] in wanted:  # beside the step where the gradient begins
            kept = {0 if reverse else real - 1, odd[0]}
    columns: Band = [-1]
    before = -1
    for t in sorted(kept):
        if t > before + 1:
            columns.append(range(before + 1, t))
        columns.append(t)
        before = t
    columns += [range(real, count), count] if real < count else [count]
    if folded >= 2 or len(kept) == 1:
        return [columns]
    gaps = (k for k, c in enumerate(columns[:-2]) if isinstance(c, range))
    split = next(gaps, 1) + 1
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
