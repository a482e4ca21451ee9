"""Clipping over training and on one gradient: how often it fires, where to set it, what each kind does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..clip import Clipping, angle, norm_of
from ..engine import Array
from ..errors import MinigradError, RecordError, ShapeError
from .attribution import entering
from .jacobian import Fields, LinearWalk, linear_walk
from .record import Comparable, Record, norms_of

__all__ = ["QUANTILES", "ClippingEffect", "Norms", "clipping_effects", "norms_over_training"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

_HALF, _TEN = 0.5, 10.0
"""Of the mean norm: between these thresholds training "can still yield convergence" (Pascanu et al. 2013, section
3.2)."""


@dataclass(frozen=True, eq=False)
class Norms(Comparable):
    """The gradient norms of many updates, and what clipping did to them.

    Attributes:
        updates: How many there are.
        not_finite: How many of them are NaN or infinite; they are in nothing below but `fired`.
        mean: Of the norms before clipping.
        quantiles: Of the same, by `QUANTILES`: smallest, 5 %, 25 %, median, 75 %, 95 %, largest.
        fired: At how many updates clipping made the norm smaller; None where that is not known.
        removed: The mean share of the norm that it took where it fired; 0 where it never did.
        lowest, suggested, highest: Thresholds for clipping by norm: 0.5, 1 and 10 times the mean norm.
        would_fire: By each of the three, the share of updates at which it would have fired.
    """

    updates: int
    not_finite: int
    mean: float
    quantiles: Mapping[float, float]
    fired: int | None
    removed: float
    lowest: float
    suggested: float
    highest: float
    would_fire: Mapping[float, float]

    @property
    def fired_share(self) -> float:
        """At which share of the updates clipping fired; NaN where that is not known."""
        return math.nan if self.fired is None else self.fired / self.updates


def norms_over_training(before: Iterable[float | Clipping], after: Iterable[float] | None = None) -> Norms:
    """Look back on the gradient norms of a training run.

    Args:
        before: Each update's norm over all parameters before clipping, as `history.columns["norm_before"]`; or
            what each clipping was, as `clip_grad_norm` gives it, which knows the norm after it too.
        after: The norms after clipping, as `history.columns["norm_after"]`; None: not known.
    Raises:
        MinigradError: There is no update, none with a finite norm, or a norm is negative.
        ShapeError: There is not one norm after clipping for each before it.

    Source of the thresholds: Pascanu, Mikolov & Bengio 2013, section 3.2: look at the average norm over a
    sufficiently large number of updates; values from half to ten times this average can still yield convergence.
    """
    some = list(before)
    known = [x for x in some if isinstance(x, Clipping)]
    norms = np.array([x.norm_before if isinstance(x, Clipping) else float(x) for x in some], np.float64)
    left = None
    if after is not None:
        left = np.array(list(after), np.float64)
    elif known and len(known) == len(some):
        left = np.array([x.norm_after for x in known], np.float64)
    if left is not None and left.shape != norms.shape:
        raise ShapeError(
            f"norms_over_training: {len(norms)} norms before clipping and {len(left)} after it.\n"
            "  Give one of each an update."
        )
    finite = np.isfinite(norms)
    if not finite.any() or np.any(norms[finite] < 0):
        found = f"the smallest is {norms[finite].min():g}" if finite.any() else f"{len(norms)}, none of them finite"
        raise MinigradError(f"norms_over_training: norms of gradients, {found}.\n  Give one norm an update, 0 or more.")
    good = norms[finite]
    scale = float(good.max()) or 1.0  # a sum of many may leave the range of float64
    mean = float((good / scale).mean() * scale)
    fired, removed = None, 0.0
    if left is not None:
        with np.errstate(invalid="ignore"):
            smaller = left < norms * (1 - 1e-6)  # a coefficient below 1, not the rounding of one that is 1
        fired = int(np.count_nonzero(smaller))
        parts = 1 - left[smaller & finite] / norms[smaller & finite]
        removed = float(parts.mean()) if len(parts) else 0.0
    limits = (_HALF * mean, mean, _TEN * mean)
    return Norms(
        updates=len(norms), not_finite=int(np.count_nonzero(~finite)), mean=mean,
        quantiles=dict(zip(QUANTILES, np.quantile(good, QUANTILES).tolist(), strict=True)), fired=fired,
        removed=removed, lowest=limits[0], suggested=limits[1], highest=limits[2],
        would_fire={limit: float(np.mean(~(norms <= limit))) for limit in limits},
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClippingEffect(Comparable):
    """What one kind of clipping does to one gradient: that of a walk's weights and biases, as one long vector.

    Attributes:
        sequence: The walk's name.
        kind: "norm", "value", or "backward": every element of every dL/dh_t (and dL/dc_t) on the way back.
        threshold: C.
        norm_before, norm_after: ‖g‖.
        removed: ‖g - clipped g‖ / ‖g‖; NaN where g is 0 or not finite.
        angle: Between g and clipped g, in degrees; NaN where it has none.
        limited: The share of elements that were limited: of g by value, of the states' gradients in backward;
            by norm 1 or 0.
        ratio_before, ratio_after: ‖dL/dh‖ at the first step over that at the last, of each sample its own. Clipping
            by norm and by value comes after backward and leaves the states' gradients as they are.
        states_before, states_after: By field of the state ‖dL/dstate_t‖ over the batch, at every step; in backward
            both are carried in float64, else they are the recorded ones.
    """

    sequence: str
    kind: str
    threshold: float
    norm_before: float
    norm_after: float
    removed: float
    angle: float
    limited: float
    ratio_before: float
    ratio_after: float
    states_before: Mapping[str, Array]
    states_after: Mapping[str, Array]


def clipping_effects(
    record: Record, *, max_norm: float | None = None, clip_value: float | None = None, limit: float | None = None,
    sequence: str | None = None,
) -> tuple[ClippingEffect, ...]:  # fmt: skip
    """What clipping would do to the recorded gradient, for every kind that a threshold is given for.

        by norm      g * min(1, C / ‖all gradients‖)        turns nothing; a ratio between steps stays
        by value     each element of g limited to [-C, C]    turns g; a ratio between steps stays
        backward     g_t = limited(what enters at step t + J_{t+1}^T g_{t+1})    acts at every step

    In backward is `ops.clip_gradient(h, limit=C)` on each state that a step hands on: it stops an explosion where
    it begins, and like the others it gives nothing to a gradient that has vanished.

    Args:
        record: Of `bptt.backward`, before any clipping.
        max_norm: C as for `clip_grad_norm`, over all parameters of the record together.
        clip_value: C as for `clip_grad_value`.
        limit: C as for `ops.clip_gradient`. The walk must be one of RNN, LSTM or GRU; see `attribution`.
        sequence: The walk's name; None: the only or the first one.
    Raises:
        MinigradError: No threshold is given, or one is not positive and finite.
        RecordError: As `jacobian.linear_walk`, or there was no backward yet.

    Source: by norm: Pascanu et al. 2013; by value: Mikolov 2012; in backward: Graves 2013, section 2.1.
    """
    given = {"norm": max_norm, "value": clip_value, "backward": limit}
    asked = {kind: c for kind, c in given.items() if c is not None}
    if not asked or not all(c > 0 and math.isfinite(c) for c in asked.values()):
        raise MinigradError(
            f"clipping_effects: max_norm={max_norm}, clip_value={clip_value}, limit={limit}.\n"
            "  Give at least one threshold, each positive and finite."
        )
    walk = linear_walk(record, sequence=sequence)
    if not walk.sequence.complete:
        raise RecordError(
            f"clipping_effects of {walk.sequence.name}: this record was made before any backward.\n"
            "  Give a record of bptt.backward(loss)."
        )
    with np.errstate(all="ignore"):
        return tuple(_effect(record, walk, kind, float(c)) for kind, c in asked.items())


def _effect(record: Record, walk: LinearWalk, kind: str, threshold: float) -> ClippingEffect:
    gradients = [np.asarray(p.gradient, np.float64) for p in walk.weights.values()]
    recorded = tuple(walk.ordered(walk.sequence.gradients[field]) for field in walk.fields)
    ratio = _ratio(walk, recorded[0])
    states = left_states = recorded
    if kind == "norm":
        total = math.hypot(*(p.norm for p in record.parameters.values()))
        coefficient = 1.0 if total <= threshold else threshold / total
        clipped, limited = [g * coefficient for g in gradients], float(coefficient != 1)
    elif kind == "value":
        clipped = [np.clip(g, -threshold, threshold) for g in gradients]
        count = sum(int(np.count_nonzero(np.abs(g) > threshold)) for g in gradients)
        limited = count / sum(g.size for g in gradients)
    else:
        whole, states, _ = _carried(walk, math.inf)
        clipped, left_states, limited = _carried(walk, threshold)
        # What the weights get from elsewhere, other walks that share them, stays as it is.
        clipped = [g - a + b for g, a, b in zip(gradients, whole, clipped, strict=True)] if limited else gradients
    before, left = (math.hypot(*map(norm_of, gs)) for gs in (gradients, clipped))
    away = math.hypot(*(norm_of(a - b) for a, b in zip(gradients, clipped, strict=True)))
    straight = kind == "norm" and math.isfinite(before)
    return ClippingEffect(
        sequence=walk.sequence.name, kind=kind, threshold=threshold, norm_before=before, norm_after=left,
        removed=away / before if before and math.isfinite(before) else math.nan,
        angle=math.nan if not before or not left else 0.0 if straight else angle(gradients, clipped),
        limited=limited, ratio_before=ratio, ratio_after=_ratio(walk, left_states[0]),
        states_before=_over_batch(walk, states), states_after=_over_batch(walk, left_states),
    )  # fmt: skip


def _carried(walk: LinearWalk, threshold: float) -> tuple[list[Array], Fields, float]:
    """Backward with every state's gradient limited: the weights' gradients, dL/dstate (T, N, H), the share limited.

    h and c are limited as two; what c gives to h is added to dL/dc afterwards, as the record has it.
    """
    starts, _ = entering(walk)
    carried: Fields = tuple(np.zeros_like(start[0]) for start in starts)
    sums: dict[str, Any] = dict.fromkeys(walk.weights, 0.0)
    states: Fields = tuple(np.zeros_like(start) for start in starts)
    count = 0
    for t in range(len(walk.real) - 1, -1, -1):
        real = walk.real[t][:, np.newaxis]
        g = tuple(np.where(real, start[t] + part, 0) for start, part in zip(starts, carried, strict=True))
        count += sum(int(np.count_nonzero(np.abs(field) > threshold)) for field in g)
        g = tuple(np.clip(field, -threshold, threshold) for field in g)
        for state, field in zip(states, g, strict=True):
            state[t] = field
        carried, terms = walk.gradients(t, g)
        sums = {role: sums[role] + terms[role] for role in sums}
    elements = int(np.count_nonzero(walk.real)) * sum(start.shape[-1] for start in starts)
    if len(states) > 1:
        states[1][:] += states[0] * walk.slopes["c"]
    return list(sums.values()), states, count / elements


def _over_batch(walk: LinearWalk, states: Fields) -> dict[str, Array]:
    """By field the norm at every input time, (T,); arrays in the order of the walk."""
    norms = {field: norms_of(norms_of(walk.ordered(g))) for field, g in zip(walk.fields, states, strict=True)}
    return {field: norms[field] for field in walk.sequence.states}


def _ratio(walk: LinearWalk, hidden: Array) -> float:
    """‖dL/dh‖ over the batch at each sample's first step, over that at its last; arrays in the order of the walk."""
    norms = norms_of(hidden)
    samples = np.flatnonzero(walk.real.any(axis=0))
    first = walk.real[:, samples].argmax(axis=0)
    last = len(norms) - 1 - walk.real[::-1, samples].argmax(axis=0)
    return float(np.divide(norm_of(norms[first, samples]), norm_of(norms[last, samples])))
