"""What each step adds to a weight's gradient, shown in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.record import Reading, Record
from ..bptt.terms import StepTerms, step_terms
from ..engine import Array
from ..errors import RecordError
from .lens_marks import Shown, lead, many, note, part, percent, power, strip, table
from .palette import number
from .report import _bar, _decades, _label_text, _range_text, _Row, _rows, safe

__all__ = ["terms"]


def terms(
    found: Record | Sequence[StepTerms], *, sequence: str | None = None, parameter: str | None = None,
    labels: Sequence[object] | None = None, everything: bool = False,
) -> RenderableType:  # fmt: skip
    """What each step adds to the gradient of the weights of one walk: all of them in a line each, one step by step.

    Args:
        found: A record, or what `step_terms` gave.
        sequence: Which layer and direction; None: the first.
        parameter: Which weight to show step by step; None: the recurrent one.
        labels: What to call the input of each step.
        everything: A row for every step, however many there are.
    Raises:
        RecordError: As `step_terms`; or not one label a step.
    """
    if isinstance(found, Record):
        found = step_terms(found, sequence=found.sequence(sequence).name)
    some = [x for x in found if sequence in (None, x.sequence)]
    some = [x for x in some if x.sequence == some[0].sequence]
    chosen = [x for x in some if parameter in (None, x.parameter)]
    if not chosen:
        raise RecordError(
            f"lens.terms: no terms of {parameter!r} in {sequence!r}.\n"
            f"  There are {', '.join(f'{x.parameter} in {x.sequence}' for x in found) or 'none'}."
        )
    one = next((x for x in chosen if "weight_hh" in x.parameter), chosen[0])
    if labels is not None and len(labels) != len(one.norms):
        raise RecordError(
            f"lens.terms: {len(labels)} labels for a sequence of T={len(one.norms)} steps.\n"
            "  Give one label for each step, or none."
        )
    names = None if labels is None else [safe(str(x)) for x in labels]
    readings = {x.parameter: _term_readings(x) for x in some}

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"Terms of {safe(one.parameter)}", _terms_found(one))]
        parts += ["", _term_steps(one, readings[one.parameter], names, everything, width)]
        parts.append(note(
            "Term: dL/da_t times what the weight met at the step (W_hh: h_{t-1}, W_ih: x_t, a bias: 1). Share: what"
            " the step adds along the sum, which is 1; below 0 it works against it. Cosine: between term and sum."
            " Gathered: the norm of the sum of this term and those of the walk's later steps, which are met before it."
        ))  # fmt: skip
        if len(some) > 1:
            parts += ["", _term_parameters(some, readings, width)]
            parts.append(note(
                f"A tile a step, or the largest of several, t=1 to {len(one.norms)}; the height is the logarithm, on a"
                " scale of its own for each row. Left: ‖sum‖ in parts of the sum of norms; the rest has cancelled."
            ))  # fmt: skip
        return Group(*parts)

    return Shown(build)


def _term_readings(x: StepTerms) -> list[Reading]:
    readings = []
    for norm, gathered in zip(x.norms.tolist(), x.from_last.tolist(), strict=True):
        if math.isfinite(norm):
            readings.append(Reading(norm, "value" if norm else "zero"))
        elif math.isnan(norm) and not math.isnan(gathered):
            readings.append(Reading(0.0, "no path"))
        else:
            readings.append(Reading(norm, "not finite"))
    return readings


def _terms_found(x: StepTerms) -> Iterator[str]:
    steps, whole = len(x.norms), float(np.nansum(x.norms))
    there = np.flatnonzero(~np.isnan(x.norms))
    if not math.isfinite(x.total) or not math.isfinite(whole):
        yield "its gradient is not finite."
        return
    if whole == 0:
        yield "no step adds anything to it: every term is exactly 0."
        return
    order = there[np.argsort(-x.norms[there], kind="stable")]
    needed = int(np.searchsorted(np.cumsum(x.norms[order]), 0.9 * whole)) + 1
    strongest = np.sort(order[:needed])
    if strongest[-1] - strongest[0] == needed - 1:
        which = str(_Row(int(strongest[0]), int(strongest[-1])))
        which = f"step{'s' * (needed > 1)} {which}"
    else:
        which = f"the strongest are {', '.join(str(t + 1) for t in order[:3])}"
    yield f"{needed} of {many(steps, 'step')} hold{'s' * (needed == 1)} 90 % of what the steps add ({which})."
    sized = [int(t) for t in there if x.norms[t] > 0]
    if len(there) - len(sized) > 1:
        yield f"{len(there) - len(sized)} steps add exactly 0."
    if len(sized) > 1:
        first, last = sized[0], sized[-1]
        ratio = float(x.norms[first] / x.norms[last])
        yield f"Step {first + 1} adds {number(ratio)} {'of' if ratio < 1.5 else 'times'} what step {last + 1} adds."
    if abs(x.elsewhere) > 1e-6:
        yield f"{percent(abs(x.elsewhere))} of the gradient comes from elsewhere."
    else:
        against = int(np.count_nonzero(x.shares < 0))
        yield f"Of all their norms {percent(x.total / whole)} is left in the sum"
        yield f"({many(against, 'step')} point{'s' * (against == 1)} against it)." if against else "(none against it)."


def _term_steps(
    x: StepTerms, readings: list[Reading], names: list[str] | None, everything: bool, width: int
) -> RenderableType:
    rows = _rows([readings], everything)
    low, high = _decades([readings])
    columns: dict[str, Sequence[str]] = {"t": [str(row) for row in rows]}
    if names is not None:
        texts = [Text(_label_text(names[a : b + 1])) for a, b in rows]
        for text in texts:
            text.truncate(12 if width >= 80 else 6, overflow="ellipsis")
        columns["x"] = [text.plain for text in texts]
    columns["‖term‖"] = [_range_text(readings[a : b + 1]) for a, b in rows]
    columns["share"] = [_cell([float(np.nansum(x.shares[a : b + 1]))], x.norms[a : b + 1]) for a, b in rows]
    columns["cosine"] = [_cell(x.cosines[a : b + 1], x.norms[a : b + 1]) for a, b in rows]
    columns["gathered"] = [_cell(x.from_last[a : b + 1], x.from_last[a : b + 1]) for a, b in rows]

    def bar(size: int) -> tuple[str, list[Text]]:
        if low == high:
            return "", [Text()] * len(rows)
        axis = f"{power(low)}…{power(high)}"
        title = f"bar: ‖term‖, {axis}"
        return title if len(title) <= size else axis, [_bar(readings[a : b + 1], low, high, size) for a, b in rows]

    return table(columns, width, left=["x"], drop=["cosine", "gathered", "x", "share"], bar=bar)


def _cell(values: Sequence[float] | Array, norms: Array) -> str:
    """The least and the largest of some numbers; "—" where there is no term."""
    known = [v for v in values if not math.isnan(v)]
    if np.isnan(norms).all() or not known:
        return "—"
    ends = [number(v) for v in (min(known), max(known))]
    return ends[0] if ends[0] == ends[1] else "…".join(ends)


def _term_parameters(some: Sequence[StepTerms], readings: Mapping[str, list[Reading]], width: int) -> RenderableType:
    sums = [float(np.nansum(x.norms)) for x in some]
    columns: dict[str, Sequence[str]] = {
        "parameter": [safe(x.parameter) for x in some],
        "‖grad‖": [number(x.total) for x in some],
        "Σ‖term‖": [number(s) for s in sums],
        "left": [
            part(x.total / s) if s > 0 and math.isfinite(s) and abs(x.elsewhere) <= 1e-6 else "—"
            for x, s in zip(some, sums, strict=True)
        ],
    }

    def bars(size: int) -> tuple[str, list[Text]]:
        return "‖term_t‖ over time", [_term_strip(readings[x.parameter], size) for x in some]

    return table(columns, width, left=["parameter"], drop=["Σ‖term‖", "left"], bar=bars, least=20)


def _term_strip(readings: Sequence[Reading], size: int) -> Text:
    kinds = {"not finite": math.inf, "zero": -math.inf, "no path": math.nan}
    logs = np.array([kinds[r.kind] if r.kind in kinds else math.log10(r.norm) for r in readings])
    known = logs[np.isfinite(logs)]
    high = float(known.max()) if len(known) else 0.0
    return strip(logs, size, min(float(known.min()) if len(known) else 0.0, high - 2), high)
