"""Over a picture: how far a gradient gets, by the steps' Jacobians and by what arrives of one loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bptt.attribution import Attribution
from ..bptt.jacobian import JacobianCurves
from ..engine import Array
from ..errors import DrawError
from .layers import above
from .overlay import Overlay, Track
from .overlay_common import CHOSEN, FACTOR, KEEPERS, LEFT, Asked, counted, low, of_log
from .palette import PLAIN, SPECIAL, Mark, number, on, power
from .scene import letter_of, real_samples, subscript

__all__ = ["attribution", "jacobian"]


def jacobian(asked: Asked, some: Sequence[JacobianCurves]) -> Overlay:
    """What each step's Jacobian does to a gradient at most and at least, and what is left from the end."""
    (x,), s = some, asked.s
    states = tuple(s.states)
    most: list[Mark | None] = [None] * s.steps
    least, both, left = list(most), list(most), list(most)

    def name(t: int) -> str:
        """Of the whole state at an input time; outside of the walk it is the first one."""
        number_of = t + 1 if 0 <= t < s.steps else 0
        parts = ", ".join(subscript(letter_of(f), number_of) for f in states)
        return f"({parts})" if len(states) > 1 else parts

    latest = x.times[0]
    if latest is None or max(t for t in x.times if t is not None) >= s.steps:
        raise DrawError(
            f"The overlay's JacobianCurves of {x.sequence} has steps that T={s.steps} has not, or none.\n"
            "  Measure the record that is drawn."
        )
    for q, t in enumerate(x.times):
        whole = Mark(float(x.largest[q]), asked.led("left", power(float(x.largest[q]))), of_log(float(x.largest[q])),
                     f"of a gradient at {name(latest)} at most {power(float(x.largest[q]))} arrives here, at least"
                     f" {power(float(x.smallest[q]))}")  # fmt: skip
        if t is None:
            first = whole if asked.level == "cell" else whole._replace(text=power(float(x.largest[q])))
            continue
        left[t] = whole
        high, low = float(x.step_largest[q]), float(x.step_smallest[q])
        about = (f"J of the step into t={t + 1}: on its way back through it a gradient is multiplied by {number(high)}"
                 f" at most and {number(low)} at least")  # fmt: skip
        most[t] = Mark(high, number(high), on(FACTOR, high), about)
        least[t] = Mark(low, number(low), on(FACTOR, low), about)
        both[t] = Mark(high, f"max {number(high)}\nmin {number(low)}", on(FACTOR, high), about)
    if asked.level == "strip":
        tracks = [Track("left", "box", states, left), Track("σ max", "arrow", states, most),
                  Track("σ min", "arrow", states, least)]  # fmt: skip
    else:
        tracks = [Track("max", "arrow", states, both), *(Track("left", "box", (f,), left, first) for f in states)]
    found = f"From {name(latest)} back over {counted(x.lags)}"
    if x.lags:
        rate = float(x.largest[-1]) / x.lags
        found += (f" at most {power(float(x.largest[-1]))} of a gradient is left: {number(rate)} decades a step."
                  if math.isfinite(rate) else f" {power(float(x.largest[-1]))} of a gradient is left.")  # fmt: skip
    if x.path_largest is not None:
        gate = {"LSTM": "f", "GRU": "z"}[x.cell]
        found += f"  The {KEEPERS[gate]}s alone keep {power(float(x.path_largest[-1]))} in their best unit."
    if x.bound is not None and "a" in x.weight_norms:
        norm = x.gamma * x.weight_norms["a"]
        found += f"  Pascanu: γ‖W_hh‖ = {number(norm)}" + (" < 1, so it has to vanish." if norm < 1 else ".")
    one, other = ("σ max, σ min", "Left") if asked.level == "strip" else ("On the arrows", "In the boxes")
    old = name(latest + asked.before)
    return Overlay(
        title=f"what each step's Jacobian does to a gradient on its way back (sample {x.sample})", found=found,
        about=(f"{one}: the largest and the smallest singular value of a step's own J, as ∂{name(latest)}/∂{old}."
               f" {other}: the largest of the product of all J back from the latest step.",),
        scales=((f"{one}: what the step alone multiplies a gradient by, at most (max) and at least (min).", FACTOR),
                (f"{other}: the largest part of a gradient at the latest step that can be left here.", LEFT)),
        tracks=tuple(tracks),
    )  # fmt: skip


def attribution(asked: Asked, some: Sequence[Attribution]) -> Overlay:
    """How much of one loss's gradient reaches each step."""
    (x,), s = some, asked.s
    there = np.flatnonzero(x.enters)
    t = _chosen(asked, x, there)
    tracks, wires = [], {}
    for state in s.states:  # in the order of their rows in every strip
        norms = x.norms[state]
        if asked.sample is None:
            shares, whole = x.arriving(state)[t], x.over_batch(state)[t]
        else:
            whole = norms[t, :, asked.sample]
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = whole / whole[t]
        marks: list[Mark | None] = []
        real = real_samples(s)
        for k in range(len(x.enters)):
            later = k < t if x.reverse else k > t
            if later and k < len(real) and real[k]:
                about = f"the loss at t={t + 1} does not depend on it: the walk gets here later"
                marks.append(Mark(math.nan, "later", SPECIAL["no path"], about))
            elif math.isnan(shares[k]):
                marks.append(None)
            else:
                share = float(shares[k])
                norm = f"‖∂L{low(t)}/∂{subscript(letter_of(state), k + 1)}‖ = {number(float(whole[k]))}"
                about = f"{norm}: {number(share)} of what enters at t={t + 1}"
                marks.append(Mark(share, asked.led("left", number(share)), on(LEFT, share), about))
        title = letter_of(state) if asked.level == "strip" else "left"
        tracks.append(Track(title, "box", (state,), marks))
        wires[state] = tuple(PLAIN if m is None else m.look for m in marks)
    start = Mark(1.0, "starts", CHOSEN, f"the loss at t={t + 1}, whose gradient this is")
    if asked.level != "strip":
        tracks.append(Track("", "box", ("loss",), [start if k == t else None for k in range(s.steps)]))
    wires["loss"] = tuple(on(LEFT, 1.0) if k == t else PLAIN for k in range(s.steps))
    lead = "h" if "h" in x.norms else next(iter(x.norms))
    row = next(track.marks for track in tracks if track.keys == (lead,))
    lags = [abs(k - t) for k, m in enumerate(row) if m is not None and m.text != "later" and m.value < 0.1]
    far = s.steps - 1 if x.reverse else 0
    handed = above(asked.record, s)
    below = f" Below {handed} the loss of a step is what {handed} hands down at it." if handed else ""
    found = f"The loss at t={t + 1}:  of ‖∂L{low(t)}/∂{subscript(lead, t + 1)}‖"
    end = row[far]
    if end is not None:
        found += f" {number(end.value)} reaches {subscript(lead, far + 1)}"
    found += f";  below a tenth after {counted(min(lags))}." if lags else ";  nowhere below a tenth."
    return Overlay(
        title="how much of one step's loss reaches every other step", found=found,
        about=(f"One loss alone: what the losses of other steps send back is left out.{below}",),
        scales=((
            "Left: ‖∂Lₜ/∂stateₖ‖ in parts of ‖∂Lₜ/∂stateₜ‖, where the loss of step t enters: 1 is all of it.", LEFT,
        ),),
        tracks=tuple(tracks), wanted=(t,), wires=wires,
    )  # fmt: skip


def _chosen(asked: Asked, x: Attribution, there: Array) -> int:
    """The step of the loss."""
    if not len(there):
        raise DrawError(
            f"No loss enters {x.sequence} at any step, so none reaches another.\n  Draw it without an overlay."
        )
    if asked.loss is None:
        return int(there[0] if x.reverse else there[-1])
    t = asked.loss - 1
    if t not in there:
        first, last = int(there[0]) + 1, int(there[-1]) + 1
        where = str(first) if first == last else f"{len(there)} steps from {first} to {last}"
        raise DrawError(
            f"loss={asked.loss}: no loss enters {x.sequence} at step {asked.loss} of T={len(x.enters)}.\n"
            f"  Steps count from 1; losses enter at {where}."
        )
    return t
