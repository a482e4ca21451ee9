"""How far back a gradient reaches, in the terminal: products of Jacobians, and a triangle of losses and states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.attribution import Attribution, _pairs
from ..bptt.attribution import attribution as measured_attribution
from ..bptt.jacobian import JacobianCurves, jacobian_curves
from ..bptt.record import Record
from ..engine import Array
from . import lens_marks as marks
from .lens_marks import Curve, Shown, chart, edges, lead, log_bar, logs_of, many, note, power, strip, table
from .palette import number
from .report import _Row, safe

__all__ = ["attribution", "jacobian"]

_MAP_ROWS = 24
_CHART_ROWS = 11


# Jacobians

def jacobian(found: Record | JacobianCurves, *, sequence: str | None = None, sample: int = 0) -> RenderableType:
    """How much of a change of the state is left over more and more steps, beside what the weights alone allow.

    Args:
        found: A record, or what `jacobian_curves` gave.
        sequence: Which layer and direction; None: the first.
        sample: Of the batch.
    Raises:
        RecordError: As `jacobian_curves`.
    """
    x = jacobian_curves(found, sequence=sequence, sample=sample) if isinstance(found, Record) else found

    def build(width: int) -> RenderableType:
        title = f"Jacobians of {safe(x.sequence)}, sample {x.sample}"
        parts: list[RenderableType] = [lead(title, _jacobian_found(x))]
        curves = _curves(x)
        values = np.concatenate([c.logs[np.isfinite(c.logs)] for c in curves.values()])
        if x.lags > 1 and np.isfinite(x.largest[1:]).any():
            low, high = math.floor(values.min()), math.ceil(values.max())
            high = max(high, low + 1)
            shown = list(curves.values())
            if x.bound is not None:
                shown.append(Curve("-", x.bound))
                if np.isfinite(x.bound).all():  # as much of it as leaves room for the curves
                    most = max(2, (high - low) // 2)
                    low = max(low - most, min(low, math.floor(x.bound.min())))
                    high = min(high + most, max(high, math.ceil(x.bound.max())))
            parts += ["", *chart(shown, min(width, 100), _CHART_ROWS, low, high)]
            latest = x.times[0]
            assert latest is not None
            words = [f"{c.mark} {name}" for name, c in curves.items()]
            if x.bound is not None:
                words.append("- Pascanu's bound")
            parts.append(note(f"To the right: steps back from step {latest + 1}. {', '.join(words)}."))
        parts += ["", _jacobian_lags(x, width), *_jacobian_notes(x)]
        if x.lags > 1:
            parts += ["", _jacobian_steps(x, width)]
        if x.weight_norms:
            parts += ["", _jacobian_weights(x, width)]
        return Group(*parts)

    return Shown(build)


_PATHS = {"LSTM": ("f", "the forget gates alone"), "GRU": ("z", "the update gates alone")}


def _curves(x: JacobianCurves) -> dict[str, Curve]:
    curves = {"largest singular value of the product": Curve("●", x.largest)}
    if x.path_largest is not None:
        mark, name = _PATHS.get(x.cell, ("p", "the direct path alone"))
        curves[f"{name} (the unit that keeps most)"] = Curve(mark, x.path_largest)
    return curves


def _jacobian_found(x: JacobianCurves) -> Iterator[str]:
    latest, lags = x.times[0], x.lags
    assert latest is not None
    if not lags:
        yield "there is no step to go back."
        return
    final = float(x.largest[-1])
    back = f"over the {many(lags, 'step')} back from step {latest + 1} to the initial state"
    if math.isnan(final):
        bad = int(np.flatnonzero(np.isnan(x.largest))[0])
        yield f"the product is not finite from {many(bad, 'step')} back on."
    elif final == -math.inf:
        gone = int(np.flatnonzero(x.largest == -math.inf)[0])
        yield f"nothing at all of a change of the state is left after {many(gone, 'step')} back."
    else:
        rate = final / lags
        way = "stays as large as it is" if abs(rate) < 5e-4 else (
            f"grows at most {power(final)} times" if final > 0 else f"shrinks to at most {power(final)} of itself"
        )  # fmt: skip
        yield f"{back}, a gradient {way} ({'+' if rate > 0 else ''}{number(rate)} decades a step)."
        if x.path_largest is not None and x.rest is not None:
            _, name = _PATHS.get(x.cell, ("", "the direct path alone"))
            yield f"Of that, {name} keep {power(float(x.path_largest[-1]))} in their best unit;"
            yield f"every other way together {power(float(x.rest[-1]))}."
    if x.bound is not None and len(x.weight_norms) == 1:
        (norm,) = x.weight_norms.values()
        whole = number(x.gamma * norm)
        if x.gamma * norm < 1:
            yield f"Pascanu: gamma ‖W_hh‖ = {whole} is below 1, so it has to vanish."
        elif math.isfinite(norm):
            yield f"Pascanu: gamma ‖W_hh‖ = {whole} is not below 1, so it may explode and need not."


def _jacobian_lags(x: JacobianCurves, width: int) -> RenderableType:
    decades = (m * 10**e for e in range(len(str(x.lags))) for m in (1, 2, 5))
    lags = [*(q for q in decades if q < x.lags), x.lags] if x.lags else [0]

    def to(q: int) -> str:
        t = x.times[q]
        return "start" if t is None else str(t + 1)

    columns: dict[str, Sequence[str]] = {
        "back": [str(q) for q in lags], "to step": [to(q) for q in lags],
        "largest": [power(float(x.largest[q])) for q in lags], "smallest": [power(float(x.smallest[q])) for q in lags],
    }  # fmt: skip
    if x.path_largest is not None and x.path_smallest is not None:
        mark = _PATHS.get(x.cell, ("path", ""))[0]
        columns[f"{mark} most"] = [power(float(x.path_largest[q])) for q in lags]
        columns[f"{mark} least"] = [power(float(x.path_smallest[q])) for q in lags]
    if x.rest is not None:
        columns["rest"] = [power(float(x.rest[q])) for q in lags]
    if x.bound is not None:
        columns["bound"] = [power(float(x.bound[q])) for q in lags]
    known = x.largest[np.isfinite(x.largest)]
    low = min(float(known.min()), -1.0) if len(known) else -1.0
    high = max(float(known.max()), 0.0) if len(known) else 0.0

    def bar(size: int) -> tuple[str, list[Text]]:
        axis = f"{power(low)}…{power(high)}"
        title = f"bar: largest, {axis}"
        bars = [log_bar(float(x.largest[q]), low, high, size) for q in lags]
        return title if len(title) <= size else axis, bars

    return table(columns, width, drop=["to step"], bar=bar)


def _jacobian_notes(x: JacobianCurves) -> Iterator[Text]:
    words = [
        "Largest, smallest: singular values of the product of the steps' Jacobians: no direction of the state fares"
        " better or worse. The bar is the logarithm of the largest."
    ]
    if x.path_largest is not None:
        mark, _ = _PATHS.get(x.cell, ("the direct path", ""))
        words.append(f"{mark} most, least: the products of {mark} of single units. Rest: the product without them.")
    if x.bound is not None:
        words.append("Bound: (gamma ‖W_hh‖) to the power of the steps.")
    yield note(*words)


def _jacobian_steps(x: JacobianCurves, width: int) -> RenderableType:
    logs = logs_of(x.step_largest[::-1])
    logs[np.isnan(logs)] = math.inf  # not finite
    known = x.step_largest[np.isfinite(x.step_largest)]
    if not len(known):
        return Text("Each step alone: no Jacobian is finite.")
    finite = logs[np.isfinite(logs)]
    high = float(finite.max()) if len(finite) else 0.0
    low = min(float(finite.min()) if len(finite) else 0.0, high - 1)
    first, last = x.times[-2], x.times[0]
    assert first is not None
    assert last is not None
    ends = f"{number(float(known.min()))}…{number(float(known.max()))}"
    text = Text(f"Each step alone, its largest singular value {ends}:\n")
    text.append(f"t={first + 1} ")
    final = f" t={last + 1}"
    return text + strip(logs, width - len(final) - len(f"t={first + 1} "), low, high) + Text(final)


def _jacobian_weights(x: JacobianCurves, width: int) -> RenderableType:
    gates = list(x.weight_norms)
    columns = {
        "W_hh of": gates,
        "largest singular value": [number(x.weight_norms[gate]) for gate in gates],
        "spectral radius": [number(x.radii[gate]) for gate in gates],
    }
    words = "The singular value bounds one step, the radius tells the long run: both without the nonlinearity."
    return Group(table(columns, width), note(words))


# Attribution

def attribution(
    found: Record | Attribution, *, sequence: str | None = None, everything: bool = False
) -> RenderableType:
    """How far back the loss of each step reaches: a triangle, a row a loss, a column a state.

    Args:
        found: A record, or what `attribution` or `attribution_of_losses` gave.
        sequence: Which layer and direction; None: the first.
        everything: A row for every loss, however many there are.
    Raises:
        RecordError: As `attribution`.
    """
    layers = isinstance(found, Record) and len(found.sequences) > 1
    x = measured_attribution(found, sequence=sequence) if isinstance(found, Record) else found
    shares = {field: _shares(x, field) for field in x.norms}

    def build(width: int) -> RenderableType:
        losses = np.flatnonzero(x.enters)
        parts: list[RenderableType] = [lead(f"Attribution in {safe(x.sequence)}", _reach(x, shares))]
        if len(losses):
            parts += ["", *_maps(shares, losses, width, everything)]
            rows = len(edges(len(losses), len(losses) if everything else _MAP_ROWS))
            folded = " A tile that stands for several pairs shows the largest." if (
                rows < len(losses) or len(x.enters) > _room(width, len(shares), losses)
            ) else ""  # fmt: skip
            legend = marks.LEGEND
            if any(np.isinf(share[losses]).any() for share in shares.values()):
                legend += "  ! not finite"
            below = " Below another layer, the loss of step t is what that layer hands down at step t."
            unshown = " Steps without a row have no loss." if len(losses) < len(x.enters) else ""
            parts.append(note(
                f"{legend}\nRow: the step t of the loss; column: the step k of the state. Tile: how much of"
                " ‖dL_t/dstate_t‖, on the diagonal, is left in ‖dL_t/dstate_k‖. This is exact; what the gradient report"
                f" says arrives is an estimate.{folded}{unshown}{below * layers}"
            ))  # fmt: skip
        return Group(*parts)

    return Shown(build)


def _shares(x: Attribution, field: str) -> Array:
    """What arrives; infinite where a gradient is not finite, NaN only where there is no pair."""
    share, whole = x.arriving(field), x.over_batch(field)
    pairs = _pairs(len(x.enters), x.lengths, x.reverse).any(axis=2) & x.enters[:, np.newaxis]
    finite = np.isfinite(whole) & np.isfinite(np.diag(whole))[:, np.newaxis]
    return np.where(pairs & ~finite, np.inf, share)


def _room(width: int, fields: int, losses: Array) -> int:
    """The columns of each of the maps that stand side by side."""
    margin = 2 * len(str(int(losses[-1]) + 1)) + 2
    return max(4, (width - margin) // fields - 2)


def _maps(shares: Mapping[str, Array], losses: Array, width: int, everything: bool) -> Iterator[Text]:
    room, rows = _room(width, len(shares), losses), len(losses) if everything else _MAP_ROWS
    made = {field: marks.triangle(share, losses, room, rows) for field, share in shares.items()}
    ranges = next(iter(made.values()))[0]
    names = [str(_Row(int(losses[a]), int(losses[b - 1]))) for a, b in ranges]
    margin = max(map(len, names))
    heads = {field: Text(f"state {field}", "bold") for field in made}
    wide = {f: max(len(lines[0]), len(axis), len(heads[f])) + 2 for f, (_, lines, axis) in made.items()}

    def joined(first: str, cells: Mapping[str, Text]) -> Text:
        line = Text(f"{first:>{margin}} ")
        for field, cell in cells.items():
            line += cell
            line.append(" " * (wide[field] - len(cell)))
        line.rstrip()
        return line

    yield joined("t", heads)
    for k, name in enumerate(names):
        yield joined(name, {field: lines[k] for field, (_, lines, _) in made.items()})
    yield joined("k", {field: axis for field, (_, _, axis) in made.items()})


def _reach(x: Attribution, shares: Mapping[str, Array]) -> Iterator[str]:
    losses = np.flatnonzero(x.enters)
    if not len(losses):
        yield "no loss enters at any step, and nothing reaches any state."
        return
    if len(x.enters) == 1:
        yield "there is one step only, and no gradient travels through time."
        return
    bad = sum(1 for t in losses if any(np.isinf(share[t]).any() for share in shares.values()))
    if bad:
        yield f"of {bad} of {many(len(losses), 'loss')} the gradient is not finite somewhere on its way (!)."
    latest = int(losses[-1])
    for field, share in shares.items():
        tenth, thousandth = (np.median([_left(share, int(t), limit) for t in losses]) for limit in (0.1, 0.001))
        of = f"the loss of step {latest + 1}" if len(losses) == 1 else f"a typical loss of {len(losses)}"
        if math.isinf(tenth):
            yield f"Along {field}, the gradient of {of} stays above a tenth as far back as there are steps;"
        else:
            steps = many(f"{tenth:g}", "step")
            more = f"below a thousandth after {thousandth:g}" if thousandth < math.inf else "nowhere below a thousandth"
            yield f"Along {field}, the gradient of {of} falls below a tenth after {steps}, {more};"
        pairs = np.flatnonzero(~np.isnan(share[latest]))
        if len(pairs):
            end = int(pairs[np.argmax(np.abs(pairs - latest))])
            yield f"{number(float(share[latest, end]))} of step {latest + 1}'s loss arrives at step {end + 1}."


def _left(share: Array, t: int, part: float) -> float:
    """After how many steps less than this part of a loss's gradient is left; infinite where it never is."""
    pairs = np.flatnonzero(~np.isnan(share[t]))
    lags = [abs(int(k) - t) for k in pairs if share[t, k] < part]
    return min(lags, default=math.inf)
