"""What each time step adds to the gradient of a shared weight, without a matrix a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..clip import norm_of
from ..engine import Array
from ..errors import RecordError
from .record import Comparable, ParameterRecord, Record, SequenceRecord, StackedTerms, Term

__all__ = ["StepTerms", "step_terms"]

_ROWS = 256
"""How many rows of factors are multiplied at once: enough for BLAS, and their Gram matrix stays small."""

_CANCELS = 1e-6
"""Below this part of what was added up, a sum of squares has lost too many digits; the matrix is formed instead."""


@dataclass(frozen=True, eq=False)
class StepTerms(Comparable):
    """What every step of one walk adds to the gradient of one parameter.

        dL/dW = sum_t term_t        term_t = dL/da_t^T h_{t-1}   (for W_hh; x_t for W_ih, 1 for a bias)

    Arrays are (T,), by input time.

    Attributes:
        parameter, sequence: Their names in the record.
        total: ‖dL/dW‖, of all walks and uses together.
        norms: ‖term_t‖; NaN at a step that has no term, for the loss does not reach it.
        shares: <term_t, dL/dW> / ‖dL/dW‖²: what the step adds along the gradient. With those of other walks and
            uses they add up to 1; a negative one works against the others.
        cosines: Between term_t and dL/dW.
        from_last: ‖the sum of the terms from the walk's last step back to this one‖: what backpropagation has
            gathered when it leaves the step.
        from_first: ‖the sum of the terms from the walk's first step up to this one‖.
    """

    parameter: str
    sequence: str
    total: float
    norms: Array
    shares: Array
    cosines: Array
    from_last: Array
    from_first: Array

    @property
    def elsewhere(self) -> float:
        """The share of the gradient that does not come from this walk's steps."""
        return float(1 - np.nansum(self.shares))


def step_terms(record: Record, *, parameter: str | None = None, sequence: str | None = None) -> tuple[StepTerms, ...]:
    """The terms of every parameter in every walk that uses it, measured.

    All comes from the factors that the record keeps, left_t (N, R) and right_t (N, C) with term_t =
    left_t^T right_t; beside them two matrices of the parameter's size are held, whatever T is.

        ‖term_t‖² = sum_nm (left_t left_t^T ∘ right_t right_t^T)        <term_t, M> = sum (left_t M ∘ right_t)

    A sum of terms is added up in such products for some steps at once. Where they cancel to less than 1e-6 of
    what they add up, or leave the range of squares, the matrix itself is formed.

    Args:
        record: Of `bptt.backward`.
        parameter: The name of one; None: all.
        sequence: The name of one walk; None: all.
    Returns:
        One a parameter and walk, in the record's order; none of a parameter that no step uses.
    Raises:
        RecordError: There is no parameter or sequence of this name, or no step used one.

    Cost: about 10 T N R C multiplications for a parameter (R, C), a few times those of its gradient.
    """
    if parameter is not None and parameter not in record.parameters:
        raise RecordError(f"step_terms: no parameter {parameter!r}.\n  The record has {', '.join(record.parameters)}.")
    walks = [record.sequence(sequence)] if sequence is not None else list(record.sequences.values())
    chosen = list(record.parameters.values()) if parameter is None else [record.parameters[parameter]]
    found = []
    for p in chosen:
        for walk in walks:
            times, blocks = _factors(p, walk)
            if times:
                found.append(_measured(p, walk, times, blocks))
    if not found:
        what = "a parameter" if parameter is None else repr(parameter)
        raise RecordError(
            f"step_terms: no time step of {', '.join(w.name for w in walks) or 'this record'} has a term of {what}.\n"
            "  Give a record of bptt.backward(loss), and a parameter that a cell uses at its steps."
        )
    return tuple(found)


class _Block(NamedTuple):
    """Some rows of a parameter: the factors of each step's term, (N, R) and (N, C), in the walk's order."""

    lefts: Sequence[Array]
    rights: Sequence[Array]


def _factors(p: ParameterRecord, walk: SequenceRecord) -> tuple[list[int], list[_Block]]:
    """The input times of the steps that have a term, and their factors, in the order of the walk."""
    terms, turn = p.terms, slice(None, None, -1 if walk.reverse else 1)
    if isinstance(terms, StackedTerms):
        if terms.sequence != walk.name:
            return [], []
        if terms.rights:
            pairs = list(zip(terms.lefts, terms.rights, strict=True))
        else:
            one = np.ones((len(terms), 1, 1))  # what a bias meets: its term is the sum over the samples
            pairs = [(left.sum(axis=1, dtype=np.float64, keepdims=True), one) for left in terms.lefts]
        return list(range(len(terms)))[turn], [_Block(list(a[turn]), list(b[turn])) for a, b in pairs]
    uses: dict[int, list[Term]] = {}
    for term in terms:
        if term.sequence == walk.name and term.time is not None:
            uses.setdefault(term.time, []).append(term)
    times = sorted(uses)[turn]
    if all(term.right is not None for some in uses.values() for term in some):
        lefts = [np.concatenate([u.left for u in uses[t]]) for t in times]
        rights = [np.concatenate([u.right for u in uses[t] if u.right is not None]) for t in times]
        return times, [_Block(lefts, rights)]
    whole = [np.sum([u.array() for u in uses[t]], axis=0, dtype=np.float64).reshape(1, -1) for t in times]
    return times, [_Block(whole, [np.ones((1, 1))] * len(times))]


def _measured(p: ParameterRecord, walk: SequenceRecord, times: list[int], blocks: list[_Block]) -> StepTerms:
    total = p.norm
    usable = math.isfinite(total) and total > 0
    direction = np.asarray(p.gradient, np.float64) / total if usable else np.zeros(p.shape)
    norms, along, sums, sums_back, row = [], [], [], [], 0
    for block in blocks:
        columns = block.rights[0].shape[1]
        rows = block.lefts[0].shape[1]
        part = direction.reshape(-1, columns)[row : row + rows]
        row += rows
        norm, dot, cumulated = _walked(block, part)
        _, _, back = _walked(_Block(block.lefts[::-1], block.rights[::-1]), None)
        norms.append(norm)
        along.append(dot)
        sums.append(cumulated)
        sums_back.append(back[::-1])

    def by_time(array: Array) -> Array:
        new = np.full(walk.steps, np.nan)
        new[times] = array
        return new

    def everywhere(array: Array, order: Sequence[int]) -> Array:
        """At a step without a term the sum is that of the step before it."""
        new, last = by_time(array), 0.0
        known = set(times)
        for t in order:
            new[t] = last = float(new[t]) if t in known else last
        return new

    norm = np.hypot.reduce(norms, axis=0)
    dots = np.sum(along, axis=0) if usable else np.full(len(times), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.clip(dots / norm, -1, 1)
        shares = dots / total if usable else dots
    order = range(walk.steps - 1, -1, -1) if walk.reverse else range(walk.steps)
    return StepTerms(
        parameter=p.name, sequence=walk.name, total=total, norms=by_time(norm), shares=by_time(shares),
        cosines=by_time(cosines), from_last=everywhere(np.hypot.reduce(sums_back, axis=0), order[::-1]),
        from_first=everywhere(np.hypot.reduce(sums, axis=0), order),
    )  # fmt: skip


def _chunks(lefts: Sequence[Array]) -> Iterator[slice]:
    """Steps that are taken at once: so many that their rows fill a product."""
    start = rows = 0
    for k, left in enumerate(lefts):
        if rows and rows + len(left) > _ROWS:
            yield slice(start, k)
            start, rows = k, 0
        rows += len(left)
    yield slice(start, len(lefts))


def _scaled(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """All rows below each other in float64, each step's divided by its largest element, and those elements."""
    scales = np.array([float(np.max(np.abs(a), initial=0)) for a in arrays])
    safe = np.where((scales > 0) & np.isfinite(scales), scales, 1)
    rows = np.concatenate([np.divide(a, s, dtype=np.float64) for a, s in zip(arrays, safe, strict=True)])
    return rows, scales


def _walked(block: _Block, direction: Array | None) -> tuple[Array, Array, Array]:
    """Of every step: ‖term‖, <term, direction>, and ‖the sum of all terms up to it‖."""
    count = len(block.lefts)
    norms, dots, sums = np.zeros(count), np.zeros(count), np.zeros(count)
    gathered = np.zeros((block.lefts[0].shape[1], block.rights[0].shape[1]))
    for part in _chunks(block.lefts):
        with np.errstate(invalid="ignore"):
            finite = all(np.isfinite(a).all() for side in block for a in side[part])
            if finite and np.isfinite(gathered).all():
                norms[part], dots[part], sums[part] = _together(block, part, direction, gathered)
            else:  # NaN and infinity have no products; each step as it stands
                for k in range(part.start, part.stop):
                    term = block.lefts[k].T.astype(np.float64) @ block.rights[k]
                    gathered += term
                    norms[k], sums[k] = norm_of(term), norm_of(gathered)
                    dots[k] = 0 if direction is None else np.vdot(term, direction)
    return norms, dots, sums


def _together(
    block: _Block, part: slice, direction: Array | None, gathered: Array
) -> tuple[Array, Array, Array]:
    """The same for some steps whose factors are finite; their terms are added to what was gathered."""
    lefts, rights = block.lefts[part], block.rights[part]
    left, left_scales = _scaled(lefts)
    right, right_scales = _scaled(rights)
    scales = left_scales * right_scales  # of each step's term
    starts = np.cumsum([0, *(len(a) for a in lefts[:-1])])
    products = (left @ left.T) * (right @ right.T)
    gram = np.add.reduceat(np.add.reduceat(products, starts, axis=0), starts, axis=1)  # <term_s, term_t>, scaled
    sizes = np.add.reduceat(np.add.reduceat(np.abs(products), starts, axis=0), starts, axis=1)
    squares, gross = np.diag(gram), np.diag(sizes)
    norms = scales * np.sqrt(np.maximum(squares, 0))
    for k in np.flatnonzero(squares <= _CANCELS * gross):
        norms[k] = left_scales[k] * right_scales[k] * _norm_of_term(left, right, starts, int(k))
    dots = np.zeros(len(lefts))
    if direction is not None:
        dots = scales * np.add.reduceat(((left @ direction) * right).sum(axis=1), starts)
    # ‖gathered + term_1 + … + term_k‖², in units of the largest of them
    before = norm_of(gathered)
    unit = max(before, float(scales.max(initial=0))) or 1.0
    weights, meeting = scales / unit, np.zeros(len(lefts))
    meeting_gross = meeting
    if before:
        met = (left @ (gathered / unit)) * right
        meeting = np.add.reduceat(met.sum(axis=1), starts)
        meeting_gross = np.add.reduceat(np.abs(met).sum(axis=1), starts)
    pairs, pairs_gross = (np.tril(m * np.outer(weights, weights)) for m in (gram, sizes))

    def added(pairs: Array, meeting: Array) -> Array:
        new = 2 * pairs.sum(axis=1) - np.diag(pairs) + 2 * weights * meeting
        whole: Array = (before / unit) ** 2 + np.cumsum(new)
        return whole

    square = added(pairs, meeting)
    lost = square <= np.maximum(_CANCELS * added(pairs_gross, meeting_gross), 1e-200)
    lost &= np.cumsum(weights) + before > 0
    sums = unit * np.sqrt(np.maximum(square, 0))
    ends = np.append(starts[1:], len(left))
    row = 0
    factor = np.repeat(weights, np.diff(np.append(starts, len(left))))[:, np.newaxis] * left
    for k in np.flatnonzero(lost):
        gathered += unit * (factor[row : ends[k]].T @ right[row : ends[k]])
        row = ends[k]
        sums[k] = norm_of(gathered)
    gathered += unit * (factor[row:].T @ right[row:])
    return norms, dots, sums


def _norm_of_term(left: Array, right: Array, starts: Array, k: int) -> float:
    rows = slice(starts[k], starts[k + 1] if k + 1 < len(starts) else None)
    return norm_of(left[rows].T @ right[rows])
