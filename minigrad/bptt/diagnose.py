"""The verdict on a gradient that travels back through time: vanishing, healthy, exploding, dead, not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..clip import norm_of
from ..engine import Array
from .record import Kind, Reading, Record, SequenceRecord, kind_of

__all__ = ["EXPLODES_ABOVE", "VANISHES_BELOW", "Diagnosis", "Lane", "Verdict", "diagnose"]

VANISHES_BELOW = 1e-3
"""The share of the latest gradient that has to arrive at the first step. Below it, the first step adds a
thousandth of what the last adds to a shared weight's gradient, and the pictures' colours leave
"healthy". A warning, no sentence: a plain cell that starts at 1e-5 can still learn."""

EXPLODES_ABOVE = 100.0
"""How many times the latest gradient may grow on its way back. Above it, a learning rate that suits the
last steps is a hundred times too large for the first. An LSTM with an open forget gate grows its
gradient a few times over a hundred steps and learns well, so 10 would be a false alarm soon."""

Verdict = Literal["vanishing", "healthy", "exploding", "dead", "not finite", "no path", "too short", "no backward yet"]

_RULES: dict[str, str] = {
    "vanishing": f"less than {VANISHES_BELOW:g} of the latest gradient arrives at the first step",
    "healthy": f"at least {VANISHES_BELOW:g} of the latest gradient arrives at the first step, and it nowhere grows"
    f" more than {EXPLODES_ABOVE:g} times",
    "exploding": f"on its way back the gradient grows more than {EXPLODES_ABOVE:g} times",
    "dead": "exactly 0 is handed back at some step, or less than the number type can hold",
    "not finite": "a gradient is NaN or infinite",
    "no path": "the loss depends on no state of this sequence",
    "too short": "the loss reaches one step only: no gradient travels through time",
    "no backward yet": "this record was made before any backward",
}


@dataclass(frozen=True)
class Lane:
    """How the gradient of one field of the state travels back.

    Attributes:
        state: "h", or "c".
        first, last: ‖dL/dstate‖ at the earliest and at the latest step that it travels between.
        ratio: first / last, as they stand: with what enters on the way.
        arriving: For each step, by input time, the share of the latest gradient that arrives there;
            NaN where there is nothing to measure. See `diagnose`.
        share: The same at the earliest step: what is left in the end.
        peak: The largest of them.
        decades: What one step back adds to log10 of them: the slope of the least-squares line
            through all that are positive and finite. -0.3 halves.
        tenth, thousandth: After how many steps back less than that is left; None: not within the sequence.
        lost: The latest step, by input time, at which nothing arrives; None: something always does.
        underflowed: Whether it got lost by becoming smaller than the number type can hold.
    """

    state: str
    first: Reading
    last: Reading
    ratio: float
    arriving: tuple[float, ...]
    share: float
    peak: float
    decades: float
    tenth: int | None
    thousandth: int | None
    lost: int | None
    underflowed: bool


@dataclass(frozen=True)
class Diagnosis:
    """A verdict, the rule that gave it and the numbers that it rests on. Steps count from 0, by input time.

    Attributes:
        verdict, rule: In words.
        sequence: Its name in the record.
        state: The field whose lane decides: of several, the one along which most arrives.
        lanes: Every field that the loss depends on.
        earliest, latest: The steps between which the gradient travels: latest is the one nearest to
            the loss. In a reverse direction, earliest is the larger number.
        enters: The steps at which gradient enters from outside the recurrence: from the loss, or
            from the layer above.
        bad_step: Not finite: the step nearest to the loss where that shows. Dead: the one nearest to
            the loss that nothing arrives at.
        bad_forward: The first step whose state is itself NaN or infinite.
        bad_parameters: The parameters whose gradient is NaN or infinite.
    """

    verdict: Verdict
    rule: str
    sequence: str
    state: str
    lanes: Mapping[str, Lane]
    earliest: int
    latest: int
    enters: tuple[int, ...]
    bad_step: int | None = None
    bad_forward: int | None = None
    bad_parameters: tuple[str, ...] = ()

    @property
    def lane(self) -> Lane | None:
        """The lane that decides; None where there is none."""
        return self.lanes.get(self.state)

    @property
    def ratio(self) -> float:
        """‖dL/dh‖ at the earliest step over that at the latest, of the deciding lane."""
        return self.lane.ratio if self.lane else math.nan

    @property
    def decades(self) -> float:
        """What one step back adds to log10 of the gradient that arrives, in the deciding lane."""
        return self.lane.decades if self.lane else math.nan

    @property
    def on_the_way(self) -> bool:
        """Whether gradient enters at earlier steps too, so that norms alone do not tell what arrives."""
        return any(t != self.latest for t in self.enters)


def diagnose(record: Record, *, sequence: str | None = None) -> Diagnosis:
    """Judge how much of the gradient nearest to the loss arrives at the first step of the sequence.

        carry_t = ‖the part of dL/dh_t that came back from step t+1‖ / ‖dL/dh_{t+1}‖
        arriving_t = carry_t · carry_{t+1} · … · carry_{T-1}

    With the loss on the last step alone all of dL/dh_t came back, and arriving_t is exactly
    ‖dL/dh_t‖ / ‖dL/dh_T‖. With a loss at every step, dL/dh_t also has a part fresh from its own
    step; norms then look flat although nothing travels, and only the part from step t+1 counts. The
    product is then an estimate, rather too low than too high: each factor is measured on a gradient
    that is partly fresh, and of a fresh one the directions that die soonest die in the first step.

    An LSTM's c has a lane of its own. Its part from step t+1 came along the forget gate; where
    something enters at step t, what comes to c_t through h_t is not counted, being mostly fresh.
    Of two lanes, the one along which more arrives decides, for it is the memory.

    Raises:
        RecordError: The record has no such sequence.
    """
    s = record.sequence(sequence)
    order = list(range(s.steps))
    if s.reverse:
        order.reverse()  # of two neighbours, the one with the larger input time came first
    if not s.complete:
        return _verdict("no backward yet", s, {}, order[0], order[-1], ())
    norms = {field: s.norms(field) for field in s.gradients if s.reached[field].any()}
    readings = {field: s.readings(field) for field in norms}
    from_outside = np.zeros((s.steps, len(s.lengths)), bool)
    for field in norms:
        with np.errstate(invalid="ignore"):
            from_outside |= (s.arrivals[field]["outside"] != 0) & (s.lengths > np.arange(s.steps)[:, None])
    enters = tuple(t for t in range(s.steps) if from_outside[t].any())

    live = [k for k, t in enumerate(order) if any(r[t].norm != 0 for r in readings.values())]  # NaN != 0
    if not live:
        zero = any(r.kind == "zero" for some in readings.values() for r in some)
        return _verdict("dead" if zero else "no path", s, {}, order[0], order[-1], enters,
                        bad_step=order[-1] if zero else None)  # fmt: skip
    end = live[-1]
    start = end
    while start and any(r[order[start - 1]].kind not in ("no path", "padding") for r in readings.values()):
        start -= 1
    path = order[start : end + 1]
    lanes = {}
    for field in norms:
        if readings[field][path[-1]].norm != 0:
            lanes[field] = _lane(s, field, path, norms[field], from_outside, readings[field])
    where = (path[0], path[-1], enters)

    bad = [t for t in path if any(r[t].kind == "not finite" for r in readings.values())]
    culprits = tuple(p.name for p in record.parameters.values() if not np.isfinite(p.gradient).all())
    if bad or culprits or not math.isfinite(record.loss):
        forward = [t for t in order if not all(np.isfinite(x[t][s.lengths > t]).all() for x in s.states.values())]
        return _verdict("not finite", s, lanes, *where, bad_step=bad[-1] if bad else None,
                        bad_forward=forward[0] if forward else None, bad_parameters=culprits)  # fmt: skip
    if len(path) == 1:
        return _verdict("too short", s, lanes, *where)
    if all(lane.lost is not None for lane in lanes.values()):
        found = _verdict("dead", s, lanes, *where)
        assert found.lane is not None
        return _verdict("dead", s, lanes, *where, bad_step=found.lane.lost)
    if max(lane.peak for lane in lanes.values()) > EXPLODES_ABOVE:
        return _verdict("exploding", s, lanes, *where)
    share = max(lane.share for lane in lanes.values())
    return _verdict("vanishing" if share < VANISHES_BELOW else "healthy", s, lanes, *where)


def _verdict(
    verdict: Verdict, s: SequenceRecord, lanes: Mapping[str, Lane], earliest: int, latest: int,
    enters: tuple[int, ...], **found: Any,
) -> Diagnosis:  # fmt: skip
    def weight(field: str) -> tuple[float, ...]:
        lane = lanes[field]
        if verdict == "exploding":
            return (lane.peak,)
        alive = sum(share > 0 for share in lane.arriving)  # how far back something arrives
        return (alive, 0.0 if math.isnan(lane.share) else lane.share)

    names = [field for field in s.states if field in lanes]
    names.sort(key=lambda field: field != "h")  # between equals, h
    state = max(names, key=weight) if names else ("h" if "h" in s.states else next(iter(s.states)))
    return Diagnosis(verdict, _RULES[verdict], s.name, state, lanes, earliest, latest, enters, **found)


def _lane(
    s: SequenceRecord, field: str, path: list[int], norms: Array, from_outside: Array, readings: list[Reading]
) -> Lane:
    came_back = np.where(from_outside, s.arrivals[field]["next"], norms)  # (T, N)
    arriving = np.full(s.steps, math.nan)
    arriving[path[-1]] = share = 1.0
    lags, logs = [0], [0.0]
    lost, underflowed = None, False
    exponent = 0.0  # log10 of what arrives: the product itself may leave the range of float64
    for lag, (later, t) in enumerate(zip(path[:0:-1], path[-2::-1], strict=True), start=1):
        both = s.lengths > max(later, t)
        before, part = norm_of(norms[later][both]), norm_of(came_back[t][both])
        if not (math.isfinite(before) and math.isfinite(part)):
            break
        kind: Kind = kind_of(part, s.dtype)
        if kind != "value" and lost is None and before > 0:
            limits = np.finfo(s.dtype)
            lost, underflowed = t, kind == "underflow" or before < float(limits.tiny / limits.eps)
        if part == 0 or before == 0:
            arriving[path[: len(path) - lag]] = share = 0.0
            break
        exponent += math.log10(part / before)
        arriving[t] = share = 10.0**exponent if exponent < 308 else math.inf
        if lost is None:
            lags.append(lag)
            logs.append(exponent)
    whole = math.nan if math.isnan(arriving[path[0]]) else share
    known = arriving[~np.isnan(arriving)]
    first, last = readings[path[0]], readings[path[-1]]
    with np.errstate(invalid="ignore"):
        ratio = float(np.float64(first.norm) / last.norm)

    def left(part: float) -> int | None:
        return next((lag for lag, t in enumerate(reversed(path)) if arriving[t] < part), None)

    return Lane(
        state=field, first=first, last=last, ratio=ratio, arriving=tuple(arriving.tolist()), share=float(whole),
        peak=float(known.max(initial=0)), decades=_slope(lags, logs), tenth=left(0.1), thousandth=left(0.001),
        lost=lost, underflowed=underflowed,
    )  # fmt: skip


def _slope(x: list[int], y: list[float]) -> float:
    """Of the least-squares line through the points; NaN for a single one."""
    if len(x) < 2:
        return math.nan
    a, b = np.array(x, float), np.array(y)
    a -= a.mean()
    return float(a @ (b - b.mean()) / (a @ a))
