"""The clipping picture: each time step's term of the gradient, before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..bptt.diagnose import EXPLODES_ABOVE, VANISHES_BELOW
from ..bptt.record import ParameterRecord, Reading, Record, SequenceRecord
from ..clip import Clipping
from ..errors import DrawError
from .canvas import FOLD, GAP, HEADER, MARGIN, Canvas, extent, folded, identifier, shortened
from .fold import bands
from .layout import Layout
from .palette import number, shown
from .picture import Picture
from .scene import Card, labelled, short_name

__all__ = ["MEANINGS", "ONE_TERM", "clipping", "recurrent"]


MEANINGS = (
    (VANISHES_BELOW, "clipping does not cure vanishing."),
    (EXPLODES_ABOVE, "one factor for all steps, so each keeps its share."),
    (math.inf, "clipping makes the sum small enough; t={end} outweighs t={start} as much as it did."),
)
"""What clipping by norm comes to, by the term where the gradient ends over that where it begins: below the bound."""

ONE_TERM = "One coefficient for all of the gradient: its length changes, its direction does not."
"""The same, where there are no two terms."""


def clipping(
    record: Record,
    clipping: Clipping,
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    sequence: str | None = None,
) -> Picture:
    """Draw what every time step adds to the recurrent weight's gradient, before and after clipping.

    The same layout and the same colours twice. By norm every contribution is multiplied by one
    coefficient, so the ratio of the first to the last stays. By value the sum over all steps is
    limited element by element: single contributions have no value after it, so the second row shows
    the parameters' gradients, each with the angle by which it turned.

    Args:
        record: From `bptt.backward`.
        clipping: What `clip_grad_norm` or `clip_grad_value` returned.
        labels: What each step reads, such as its character: beside its number.
        everything, title, sequence: As `unrolled`.
    Raises:
        DrawError, RecordError: As `unrolled`; also where no parameter is used inside the steps.
    """
    chosen = record.sequence(sequence)
    labels = labelled(labels, chosen.steps)
    weight = recurrent(record, chosen.name)
    if weight is None:
        raise DrawError(
            "Clipping is drawn on the terms of a shared weight, and no parameter is used inside the time steps.\n"
            "  Draw a record of a cell that has weights."
        )
    terms = weight.by_step(chosen.name)
    canvas = Canvas("clipping")
    before, after = clipping.norm_before, clipping.norm_after
    how = "by norm" if clipping.kind == "norm" else "by value"
    did = f"‖g‖ = {number(before)}" + (" stays: nothing exceeded the threshold" if math.isfinite(before) else "")
    if clipping.fired:
        did = f"‖g‖ {number(before)} → {number(after)}   coefficient {number(clipping.coefficient)}"
        did += f"   angle {number(clipping.angle)}°"
    canvas.caption(
        title or f"{chosen.cell}: clipping {how}, threshold C = {number(clipping.threshold)}: {did}",
        _clipping_story(clipping, chosen, terms),
    )
    weight_name = short_name(weight.name, chosen.name)
    readings = [chosen.norm_reading(terms.get(t, 0.0)) for t in range(chosen.steps)]
    canvas.row_title(f"before: what each step adds to ∂L/∂{weight_name}")
    _terms(canvas, chosen, weight_name, readings, clipping.before.get(weight.name), labels, everything, "before")
    if clipping.kind == "norm":
        canvas.row_title(f"after: every term × {number(clipping.coefficient)}")
        readings = [chosen.norm_reading(r.norm * clipping.coefficient) for r in readings]
        _terms(canvas, chosen, weight_name, readings, clipping.after.get(weight.name), labels, everything, "after")
    else:
        canvas.row_title("before: the sum over all steps, ∂L/∂parameter")
        _totals(canvas, chosen, clipping.before, None, "sum_before")
        canvas.row_title(f"after: each element limited to ±{number(clipping.threshold)}")
        _totals(canvas, chosen, clipping.after, clipping.angles, "sum_after")
    canvas.legend("g = norm of a term\nof ∂L/∂W", [chosen.dtype])
    return canvas.picture()


def recurrent(record: Record, sequence: str) -> ParameterRecord | None:
    """The weight that multiplies a state (PyTorch calls it weight_hh), else the last that steps use; None: none is."""
    shared = [
        p for p in record.parameters.values() if len(p.shape) > 1 and any(u.sequence == sequence for u in p.terms)
    ]
    return next((p for p in shared if "hh" in p.name), shared[-1] if shared else None)


def _clipping_story(clipping: Clipping, sequence: SequenceRecord, terms: dict[int, float]) -> str:
    """What clipping does to this gradient, whose terms where it ends and begins differ as `diagnose` judges, or not."""
    if not all(map(math.isfinite, terms.values())):
        return "Some terms are not finite, and no coefficient mends that."
    if not clipping.fired:
        return "Below its threshold, clipping changes nothing."
    if clipping.kind == "value":
        return "Only the parameters' gradients change, and their direction with them; inside the sequence nothing does."
    used = [t for t in sorted(terms, reverse=sequence.reverse) if terms[t] > 0]
    if len(used) < 2:
        return ONE_TERM
    end, start = used[0], used[-1]
    ratio = terms[end] / terms[start]
    means = next(words for bound, words in MEANINGS if ratio < bound or bound == math.inf)  # the ratio may be inf
    where = {"end": end + 1, "start": start + 1}
    return f"Term at t={end + 1} : term at t={start + 1} = {number(ratio)} before and after: {means.format(**where)}"


def _terms(
    canvas: Canvas, sequence: SequenceRecord, name: str, readings: list[Reading], total: float | None,
    labels: list[str] | None, everything: bool, row: str,
) -> None:  # fmt: skip
    """One box a step, the middle folded, and the sum of all at the end."""
    width, height, frame, end = 66.0, 34.0, 72.0, 86.0
    middle = height / 2 + 6
    layout = Layout(frame, height + HEADER + 10, {"W": (frame / 2, middle)}, {"W": middle})
    room = (canvas.room[0] - end - 22, layout.height * 1.5)
    (columns,) = bands([[r] for r in readings], frame + 4, layout.height, 0.0, everything, room)
    base, x = canvas.band(layout.height + 2), MARGIN
    for column in columns[1:-1]:
        if isinstance(column, range):
            hidden = {"W": folded(middle, readings[column.start : column.stop])}
            canvas.fold(f"{row}_fold_{column.start + 1}", column, hidden, x, base, layout, FOLD)
            x += FOLD + 4
            continue
        label = f"“{labels[column]}”" if labels and labels[column] else ""
        where = f"t={column + 1}" + (f" {label}" if label else "")
        about = f"{where}: this step's term of ∂L/∂{name} has norm {shown(readings[column])}"
        beside = label and shortened(f"  {label}", frame - 6 - extent(f"t = {column + 1}", 11), 11)
        card = Card("gate", name, "", readings[column], about)
        with canvas.frame(column, x, base, frame, layout.height, row, beside):
            center = (x + frame / 2, base + layout.lanes["W"])
            canvas.card(f"{row}_{column + 1}", card, center, width, height, (), column)
        x += frame + 4
    if total is not None:
        y = base + layout.lanes["W"]
        canvas.text(f"{row}_equals", "Σ =", (x + 9, y), 12)
        about = f"the sum of all terms: ‖∂L/∂{name}‖ = {total:.3g}"
        card = Card("gate", f"∂L/∂{name}", "", sequence.norm_reading(total), about)
        canvas.card(f"{row}_sum", card, (x + 22 + end / 2, y), end, height, ())
        x += 22 + end
    canvas.reach(x)
    canvas.band(6)


def _totals(
    canvas: Canvas, sequence: SequenceRecord, norms: dict[str, float], angles: dict[str, float] | None, row: str
) -> None:
    width, height = 110.0, 46.0
    base, x = canvas.band(height + 2), MARGIN
    for name, norm in norms.items():
        if x + width > canvas.room[0]:
            base, x = canvas.band(height + GAP), MARGIN
        turned = "" if angles is None else f"turned by {number(angles[name])}°"
        about = f"{name}: ‖∂L/∂{name}‖ = {norm:.3g}"
        card = Card("gate", short_name(name, sequence.name), turned, sequence.norm_reading(norm), about)
        canvas.card(f"{row}_{identifier(name)}", card, (x + width / 2, base + height / 2), width, height, ())
        x += width + 8
    canvas.reach(x)
    canvas.band(6)
