"""The cells of a page: every layer at every level and update, and the norms that clipping multiplies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bptt.record import Record, SequenceRecord
from .clipped import recurrent
from .page_codes import Level, Store, has_ops, plain, scene_of
from .page_ops import ops
from .palette import number
from .scene import Card, Scene, Step, ends, letter_of, ratio, real_samples, short_name, subscript
from .strip import strip_rows

__all__ = ["cell_of"]


def cell_of(
    store: Store, name: str, history: Sequence[tuple[int, Record]], labels: Sequence[str] | None,
    columns: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    records = [record for _, record in history]
    totals = [
        math.hypot(*(p.norm for p in r.parameters.values())) if r.clipping is None else r.clipping.norm_before
        for r in records
    ]
    used = next((r.clipping.threshold for r in records if r.clipping is not None and r.clipping.kind == "norm"), None)
    return {
        "name": plain(name),
        "updates": [int(update) for update, _ in history],
        "losses": store.keep([store.word(number(r.loss)) for r in records]),
        "totals": store.floats(totals),
        "threshold": used,
        "layers": [_layer(store, records, sequence, labels, columns) for sequence in records[0].sequences],
    }


def _layer(
    store: Store, records: Sequence[Record], name: str, labels: Sequence[str] | None, columns: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    """One layer and direction at every update."""
    s = records[0].sequence(name)
    sequences = [r.sequence(name) for r in records]
    rows: dict[str, dict[str, Any]] = {}
    found = [strip_rows(x) for x in sequences]
    for k, row in enumerate(found[0]):
        codes = [store.codes(some[k].readings) for some in found]
        rows[row.title] = {"title": plain(row.title), "symbol": plain(row.symbol), "codes": store.keep(codes)}
    lead = next(iter(s.initial), "h")
    return {
        "name": plain(name), "cell": plain(s.cell), "reverse": s.reverse, "rows": list(rows.values()),
        "states": [plain(letter_of(state)) for state in s.states], "batch": len(s.lengths), "real": real_samples(s),
        "ends": ends(s), "lead": plain(letter_of(lead)),
        "ratios": store.keep([store.word(ratio(x, x.readings(lead))) for x in sequences]),
        "levels": {**_levels(store, records, name, labels), "op": ops(store, records, name, labels, columns)},
        "clip": _clip(store, records, s),
    }  # fmt: skip


def _levels(
    store: Store, records: Sequence[Record], name: str, labels: Sequence[str] | None
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Where everything of a step stands, and what it shows at each update and step."""
    s = records[0].sequence(name)
    cell, gate = (Level(store, len(records), range(s.steps)) for _ in range(2))
    for record in records:
        s = record.sequence(name)
        cells = scene_of(record, s, "cell", labels)
        cell.add(cells)
        if record.graph is not None and has_ops(record, s):
            gate.add(scene_of(record, s, "gate", labels))
            gate.called.update({b.symbol: b.label for b in record.graph.boxes if b.sequence == name})
            gate.arrows = True
        else:
            gate.add(_without_arrows(s, cells))
    cell.arrows = True
    return {"cell": cell.packed(s, "cell"), "gate": gate.packed(s, "gate")}


def _without_arrows(s: SequenceRecord, cells: Scene) -> Scene:
    """The parts of each step where the record does not know what flows between them."""
    real = np.arange(s.steps)[:, np.newaxis] < s.lengths
    readings = {symbol: s.over_batch(norms) for symbol, norms in s.gate_norms.items()}
    steps = []
    for t, cell in enumerate(cells.steps):
        step = Step(t, dict(cell.cards), {way: r for way, r in cell.flows.items() if way[1] == "loss"})
        for symbol, values in s.gates.items():
            key = symbol
            while key in step.cards:
                key += "'"
            mean = number(float(values[t][real[t]].mean())) if real[t].any() else ""
            step.cards[key] = Card("gate", subscript(symbol, t + 1), mean, readings[symbol][t], "")
        steps.append(step)
    return Scene(steps, cells.first, steps, cells.output)


def _clip(store: Store, records: Sequence[Record], s: SequenceRecord) -> dict[str, Any] | None:
    """Each step's term of the recurrent weight's gradient, as exact numbers."""
    name = next((w.name for r in records if (w := recurrent(r, s.name)) is not None), None)
    if name is None:
        return None
    terms = np.full((len(records), s.steps), np.nan)
    for u, record in enumerate(records):
        if record.complete:
            found = record.parameters[name].by_step(s.name)
            terms[u] = [found.get(t, 0.0) for t in range(s.steps)]
    sums = [r.parameters[name].norm if r.complete else math.nan for r in records]
    return {
        "weight": plain(short_name(name, s.name)), "parameter": plain(name), "terms": store.floats(terms),
        "sums": store.floats(sums), "tiny": float(np.finfo(s.dtype).tiny),
    }  # fmt: skip
