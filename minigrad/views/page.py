"""The page: one HTML file that shows how a network's gradients change while it trains.

No server, no network: script, style and every number are inside. The boxes stand where `draw` puts them, in the
colours of `palette`; the script only draws what it is given, except for clipping, which it computes again for
every threshold. `page_codes` says how the numbers are kept, `page_cells` and `page_ops` what there is of a network,
`page_html` what stands around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..bptt.record import Record
from ..errors import DrawError
from .canvas import GAP, PILL
from .clipped import MEANINGS, ONE_TERM
from .page_cells import cell_of
from .page_codes import Store, plain
from .page_html import document
from .page_ops import columns_of
from .palette import BINS, SPECIAL, special
from .scene import labelled

__all__ = ["page"]

_NAMED = 4  # cells in the title


def page(
    histories: Mapping[str, Sequence[tuple[int, Record]]],
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> str:
    """A page of HTML with the unrolled network of each cell at some updates of its training.

    Args:
        histories: By the cell's name: (update, record), the updates rising, of one text. With keep="ops" the gate
            level has its arrows, and there is an op level; where only some records were made so, the others have
            the boxes without them.
        labels: What each step reads, such as its character.
        title: In place of the one made from the records.
    Raises:
        DrawError: There is no record, the updates do not rise, the labels do not match the steps, or the records
            differ in what a page lays out once: time steps, layers, states, gates, lengths, whether the inputs
            have a gradient.
        RecordError: A record has no sequence.
    """
    _check(histories)
    steps = next(iter(histories.values()))[0][1].sequence().steps
    labels = labelled(labels, steps)
    store = Store()
    columns = columns_of(histories, steps)
    cells = [cell_of(store, name, history, labels, columns) for name, history in histories.items()]
    names = [plain(name) for name in histories]
    called = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} cells"
    heading = plain(title) if title is not None else f"{called}: what training does to the gradient"
    dtypes = {s.dtype for history in histories.values() for _, r in history for s in r.sequences.values()}
    looks = [*(found for _, found in BINS), *(special(kind, dtypes) for kind in SPECIAL)]
    data = {
        "cells": cells, "labels": labels, "steps": steps, "gap": GAP, "pill": PILL,
        "bounds": [bound for bound, _ in BINS if math.isfinite(bound)], "kinds": list(SPECIAL),
        "meanings": [[bound if math.isfinite(bound) else None, words] for bound, words in MEANINGS],
        "oneTerm": ONE_TERM, "looks": [x._asdict() for x in looks], **store.packed(),
    }  # fmt: skip
    return document(heading, data, {k: x for k, x in enumerate(looks) if k < len(BINS) or k in store.looks})


def _check(histories: Mapping[str, Sequence[tuple[int, Record]]]) -> None:
    """
    Raises:
        DrawError, RecordError: As `page`.
    """
    empty = [name for name, history in histories.items() if not history]
    if empty or not histories:
        found = f"none of {', '.join(map(repr, empty))}" if empty else "no cell"
        raise DrawError(f"page: there is nothing to show; found {found}.\n  Give (update, record) pairs for each cell.")
    shapes = {}
    for name, history in histories.items():
        updates = [update for update, _ in history]
        if any(b <= a for a, b in pairwise(updates)):
            raise DrawError(f"page: the updates of {name!r} do not rise: {updates}.\n  Give each once, in order.")
        shapes[name] = first = _shape(history[0][1])
        for update, record in history:
            if (now := _shape(record)) != first:
                a, b = next((a, b) for a, b in zip([*first, "nothing"], [*now, "nothing"], strict=False) if a != b)
                raise DrawError(
                    f"page: the records of {name!r} differ: update {updates[0]} has {a}, update {update} has {b}.\n"
                    "  Give records of one model over the same text."
                )
    lengths = {f"{name} {walk.name}": walk.steps for name, walks in shapes.items() for walk in walks}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} (T={t})" for name, t in lengths.items())
        raise DrawError(f"page: one page has one number of time steps; found {found}.\n  Give records of equal length.")


class _Walk(NamedTuple):
    """What a page lays out once for all updates; its parts are what has a gradient beside the states."""

    name: str
    steps: int
    states: tuple[str, ...]
    parts: tuple[str, ...]
    reverse: bool
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        lengths = "" if min(self.lengths) == self.steps else f" of lengths {', '.join(map(str, self.lengths[:9]))}"
        return f"{self.name} (T={self.steps}, N={len(self.lengths)}{lengths}, {', '.join((*self.states, *self.parts))})"


def _shape(record: Record) -> list[_Walk]:
    record.sequence()  # which there has to be
    return [
        _Walk(s.name, s.steps, tuple(s.states), (*s.gate_norms, *(["x"] if s.input_norms is not None else [])),
              s.reverse, tuple(s.lengths.tolist()))
        for s in record.sequences.values()
    ]  # fmt: skip
