"""The verdict on a gradient that travels back through time: vanishing, healthy, exploding, dead, not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ..clip import norm_of
from ..engine import Array
from ..errors import RecordError
from .attribution import carried
from .fault import Fault, Zero, fault_in, zero_in
from .jacobian import LinearWalk, linear_walk
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
        arriving: For each step, by input time, the share of the latest gradient that arrives there, of the
            samples that have that step; NaN where there is nothing to measure. See `diagnose`.
        share: The same at the earliest step: what is left in the end.
        peak: The largest of them.
        decades: What one step back adds to log10 of them: the slope of the least-squares line
            through all that are positive and finite. -0.3 halves.
        tenth, thousandth: After how many steps back less than that is left; None: not within the sequence.
        underflow: After how many steps back what is left is smaller than the number type can hold; None: not
            within the sequence, or exactly 0 before.
        lost: The step nearest to the loss, by input time, at which nothing arrives; None: something always does.
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
    underflow: int | None
    lost: int | None

    @property
    def underflowed(self) -> bool:
        """Whether it got lost by becoming smaller than the number type can hold."""
        return self.underflow is not None


@dataclass(frozen=True)
class Diagnosis:
    """A verdict, the rule that gave it and the numbers that it rests on. Steps count from 0, by input time.

    Attributes:
        verdict, rule: In words.
        sequence: Its name in the record.
        state: The field whose lane decides: of several, the one along which most arrives.
        lanes: Every field that the loss depends on.
        exact: Whether the lanes hold what the latest gradient itself becomes. False: they are an estimate, one
            hop after the other; see `diagnose`.
        earliest, latest: The steps between which the gradient travels: latest is the one nearest to
            the loss. In a reverse direction, earliest is the larger number.
        enters: The steps at which gradient enters from outside the recurrence: from the loss, or
            from the layer above.
        bad_step: Not finite: the step nearest to the loss where that shows. Dead: the one nearest to
            the loss that nothing arrives at.
        bad_forward: The first step whose state is itself NaN or infinite.
        bad_parameters: The parameters whose gradient is NaN or infinite.
        fault: The first node of the whole graph that is NaN or infinite, with its line. None: there is none, or
            the record has no ops (keep="ops" keeps them).
        zero: The first one on the way back, in this sequence or outside of any, that hands on exactly 0; None likewise.
    """

    verdict: Verdict
    rule: str
    sequence: str
    state: str
    lanes: Mapping[str, Lane]
    earliest: int
    latest: int
    enters: tuple[int, ...]
    exact: bool
    bad_step: int | None = None
    bad_forward: int | None = None
    bad_parameters: tuple[str, ...] = ()
    fault: Fault | None = None
    zero: Zero | None = None

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

        g_T = what enters at the latest step T        g_{t-1} = J_t^T g_t        arriving_t = ‖g_t‖ / ‖g_T‖

    With a loss at every step, dL/dh_t also has a part fresh from its own step, and norms look flat although nothing
    travels. So what the loss of the latest step gives is carried back alone, through the recurrence of this layer
    and direction: exactly, in float64, from the recorded gates, for RNN, LSTM and GRU. With the loss on the last
    step alone the recorded gradients are this already, for any cell.

    For one's own cell with gradient that enters on the way (and where weights require no gradient, and so are not
    in the record) it is an estimate, and `Diagnosis.exact` says so:

        arriving_t = carry_t · carry_{t+1} · … · carry_{T-1}
        carry_t = ‖the part of dL/dh_t that came back from step t+1‖ / ‖dL/dh_{t+1}‖

    Each factor is measured on a gradient that is partly fresh, and may be too low or too high: the directions that
    die soonest die in the first step, and what goes from c to h and back is not counted.

    An LSTM's c has a lane of its own: its total derivative, with what it does through h. Of two lanes, the one along
    which more arrives decides, for it is the memory. Of unequal lengths, the samples count that have the latest step.

    Raises:
        RecordError: The record has no such sequence.

    Cost: where gradient enters on the way, one walk back in float64: two to four times a kernel's backward in float32.
    """
    s = record.sequence(sequence)
    order = list(range(s.steps))
    if s.reverse:
        order.reverse()  # of two neighbours, the one with the larger input time came first
    culprits: dict[str, Any] = {}
    if record.graph is not None:
        culprits = {"fault": fault_in(record), "zero": zero_in(record, sequence=s.name)}
    if not s.complete:
        return _verdict("no backward yet", s, _Lanes({}), order[0], order[-1], (), **culprits)
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
        return _verdict("dead" if zero else "no path", s, _Lanes({}), order[0], order[-1], enters,
                        bad_step=order[-1] if zero else None, **culprits)  # fmt: skip
    end = live[-1]
    start = end
    while start and any(r[order[start - 1]].kind not in ("no path", "padding") for r in readings.values()):
        start -= 1
    path = order[start : end + 1]
    lanes = _lanes(record, s, path, norms, from_outside, readings)
    where = (path[0], path[-1], enters)

    bad = [t for t in path if any(r[t].kind == "not finite" for r in readings.values())]
    parameters = tuple(p.name for p in record.parameters.values() if not np.isfinite(p.gradient).all())
    if bad or parameters or not math.isfinite(record.loss):
        forward = [t for t in order if not all(np.isfinite(x[t][s.lengths > t]).all() for x in s.states.values())]
        return _verdict("not finite", s, lanes, *where, bad_step=bad[-1] if bad else None,
                        bad_forward=forward[0] if forward else None, bad_parameters=parameters, **culprits)  # fmt: skip
    if len(path) == 1:
        return _verdict("too short", s, lanes, *where, **culprits)
    if all(lane.lost is not None for lane in lanes.by_state.values()):
        found = _verdict("dead", s, lanes, *where)
        assert found.lane is not None
        return _verdict("dead", s, lanes, *where, bad_step=found.lane.lost, **culprits)
    if max(lane.peak for lane in lanes.by_state.values()) > EXPLODES_ABOVE:
        return _verdict("exploding", s, lanes, *where, **culprits)
    share = max(lane.share for lane in lanes.by_state.values())
    return _verdict("vanishing" if share < VANISHES_BELOW else "healthy", s, lanes, *where, **culprits)


class _Lanes(NamedTuple):
    by_state: Mapping[str, Lane]
    exact: bool = True


def _verdict(
    verdict: Verdict, s: SequenceRecord, lanes: _Lanes, earliest: int, latest: int, enters: tuple[int, ...],
    **found: Any,
) -> Diagnosis:  # fmt: skip
    def weight(field: str) -> tuple[float, ...]:
        lane = lanes.by_state[field]
        if verdict == "exploding":
            return (lane.peak,)
        alive = sum(share > 0 for share in lane.arriving)  # how far back something arrives
        return (alive, 0.0 if math.isnan(lane.share) else lane.share)

    names = [field for field in s.states if field in lanes.by_state]
    names.sort(key=lambda field: field != "h")  # between equals, h
    state = max(names, key=weight) if names else ("h" if "h" in s.states else next(iter(s.states)))
    return Diagnosis(verdict, _RULES[verdict], s.name, state, lanes.by_state, earliest, latest, enters, lanes.exact,
                     **found)  # fmt: skip


def _lanes(
    record: Record, s: SequenceRecord, path: list[int], norms: Mapping[str, Array], from_outside: Array,
    readings: Mapping[str, list[Reading]],
) -> _Lanes:  # fmt: skip
    """The lane of every field that has a gradient at the latest step."""
    latest = path[-1]
    last: Mapping[str, Array] | None = norms
    if from_outside[path[:-1]][:, s.lengths > latest].any():
        last = _carried(record, s, latest)
    lanes = {}
    for field in norms:
        if readings[field][latest].norm == 0:
            continue
        if last is not None:
            hops = list(_exact(s, path, last[field]))
        else:
            came_back = np.where(from_outside, s.arrivals[field]["next"], norms[field])  # (T, N)
            hops = list(_estimated(s, path, norms[field], came_back))
        lanes[field] = _lane(s, field, path, hops, readings[field])
    return _Lanes(lanes, last is not None)


def _carried(record: Record, s: SequenceRecord, latest: int) -> dict[str, Array] | None:
    """The norms of what the latest step's gradient becomes, by field, (T, N); None: only an estimate can be had."""
    if s.settings is None:
        return None
    try:
        walk = linear_walk(record, sequence=s.name)
    except RecordError:  # its weights are not in the record
        return None
    place = s.steps - 1 - latest if s.reverse else latest  # in the order of the walk
    found = carried(walk, _entered(walk, latest, place), np.array([place]))
    return {field: walk.ordered(rows[0]) for field, rows in found.items()}


def _entered(walk: LinearWalk, latest: int, place: int) -> tuple[Array, ...]:
    """dL/dh, and dL/dc without what c gives to h, of the latest step, (1, N, H): all of it has entered there."""
    s = walk.sequence
    h, *c = (s.gradients[field][latest].astype(np.float64) for field in walk.fields)
    if not c:
        return (h[np.newaxis],)
    with np.errstate(invalid="ignore"):
        own = c[0] - h * walk.slopes["c"][place]
    own[s.arrivals["c"]["outside"][latest] == 0] = 0
    return h[np.newaxis], own[np.newaxis]


class _Hop(NamedTuple):
    """One step back: from the step before the norm `before` to the one of `part`; log10 of what has arrived so far."""

    time: int
    before: float
    part: float
    exponent: float


def _exact(s: SequenceRecord, path: list[int], last: Array) -> Iterator[_Hop]:
    latest = path[-1]
    for later, t in zip(path[:0:-1], path[-2::-1], strict=True):
        both = s.lengths > max(latest, t)
        before, part, whole = (norm_of(last[k][both]) for k in (later, t, latest))
        exponent = math.log10(part) - math.log10(whole) if 0 < part < math.inf and 0 < whole < math.inf else math.nan
        yield _Hop(t, before if whole else 0.0, part, exponent)


def _estimated(s: SequenceRecord, path: list[int], norms: Array, came_back: Array) -> Iterator[_Hop]:
    exponent = 0.0  # the product itself may leave the range of float64
    for later, t in zip(path[:0:-1], path[-2::-1], strict=True):
        both = s.lengths > max(later, t)
        before, part = norm_of(norms[later][both]), norm_of(came_back[t][both])
        exponent += math.log10(part / before) if 0 < part < math.inf and 0 < before < math.inf else math.nan
        yield _Hop(t, before, part, exponent)


def _lane(s: SequenceRecord, field: str, path: list[int], hops: list[_Hop], readings: list[Reading]) -> Lane:
    arriving = np.full(s.steps, math.nan)
    arriving[path[-1]] = share = 1.0
    lags, logs = [0], [0.0]
    lost = underflow = None
    limits = np.finfo(s.dtype)
    for lag, (t, before, part, exponent) in enumerate(hops, start=1):
        if not (math.isfinite(before) and math.isfinite(part)):
            break
        kind: Kind = kind_of(part, s.dtype)
        if kind != "value" and lost is None and before > 0:
            lost = t
            if kind == "underflow" or before < float(limits.tiny / limits.eps):
                underflow = lag
        if part == 0 or before == 0:
            arriving[path[: len(path) - lag]] = share = 0.0
            break
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
        underflow=underflow, lost=lost,
    )  # fmt: skip


def _slope(x: list[int], y: list[float]) -> float:
    """Of the least-squares line through the points; NaN for a single one."""
    if len(x) < 2:
        return math.nan
    a, b = np.array(x, float), np.array(y)
    a -= a.mean()
    return float(a @ (b - b.mean()) / (a @ a))
