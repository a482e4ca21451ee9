"""How the loss of each step depends on the state of each step before it: a triangle of norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import engine
from ..engine import Array, Node
from ..errors import RecordError
from ..scope import Run
from .jacobian import Fields, LinearWalk, linear_walk
from .record import Comparable, Record, norms_of

__all__ = ["Attribution", "attribution", "attribution_of_losses", "carried", "entering"]

_ROWS = 1024
"""How many rows, losses times samples, are carried back at once: enough for BLAS, and they stay near the core."""


@dataclass(frozen=True, eq=False)
class Attribution(Comparable):
    """‖dL_t/dh_k‖ for every pair of steps k <= t.

    L_t is what the loss adds at step t: of the top layer the loss of step t itself. Into a layer below, the layer
    above hands down at step t what came to it from step t and later; that is what counts as L_t there.

    Attributes:
        sequence: The walk's name.
        norms: By field of the state, (T, T, N): [t, k, n] is the norm of dL_t/dh_k (or c_k: the total derivative,
            with what it does through h_k) of sample n, by input time. NaN where there is no such pair: k comes after
            t in the walk, or one of them is no step of the sample.
        enters: Whether anything enters at step t, (T,): where not, all of row t is 0.
        calls: How many walks of the engine it took: 0 for closed form, else T.
        rounding: Of closed form: the largest relative difference between the norms of what enters, which are
            formed from the record by subtraction, and those that backward saw.
        reverse: Whether it walks from the last input to the first.
        lengths: How many steps of each sample are real, (N,); None: all.
    """

    sequence: str
    norms: Mapping[str, Array]
    enters: Array
    calls: int
    rounding: float
    reverse: bool = False
    lengths: Array | None = None

    def over_batch(self, state: str = "h") -> Array:
        """The norm over the whole batch, (T, T); NaN where no sample has the pair."""
        pairs = _pairs(len(self.enters), self.lengths, self.reverse)
        whole = norms_of(np.where(pairs, self.norms[state], 0))
        return np.where(pairs.any(axis=2), whole, np.nan)

    def arriving(self, state: str = "h") -> Array:
        """‖dL_t/dh_k‖ as a part of ‖dL_t/dh_t‖, over the batch, (T, T); NaN where nothing enters."""
        whole = self.over_batch(state)
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Array = whole / np.diag(whole)[:, np.newaxis]
        return np.where(np.diag(whole)[:, np.newaxis] == 0, np.nan, share)


def _pairs(steps: int, lengths: Array | None, reverse: bool) -> Array:
    """Which pairs there are, [t, k, n]: k is a step of the sample that comes no later than t in the walk."""
    time = np.arange(steps)
    real = np.less(time[:, np.newaxis], steps if lengths is None else lengths)  # (T, N), or (T, 1)
    before = time[:, np.newaxis] <= time if reverse else time[:, np.newaxis] >= time
    pairs: Array = before[:, :, np.newaxis] & real[:, np.newaxis] & real[np.newaxis]
    return pairs


def entering(walk: LinearWalk) -> tuple[Fields, float]:
    """dL_t/d state_t: what enters a walk at each step, (T, N, H) a field, in the order of the walk.

        entering_t = dL/dh_t - J_{t+1}^T dL/dh_{t+1}

    It is exactly 0 where backward saw nothing enter. h and c count as two: what c gives to h is not in c's.

    Returns:
        What enters, and the largest relative difference of its norms to those that backward saw.
    Raises:
        RecordError: There was no backward yet, or the difference is more than rounding explains: another cell.
    """
    s = walk.sequence
    if not s.complete:
        raise RecordError(
            f"What enters {s.name} at each step: this record was made before any backward.\n"
            "  Give a record of bptt.backward(loss)."
        )
    total = tuple(walk.ordered(s.gradients[field]).astype(np.float64) for field in walk.fields)
    with np.errstate(all="ignore"):
        apart = total if len(total) == 1 else (total[0], total[1] - total[0] * walk.slopes["c"])
        carried = walk.back(walk.at(slice(1, None)), tuple(g[1:] for g in apart))
        found, worst = [], 0.0
        for field, g, from_next, all_of_it in zip(walk.fields, apart, carried, total, strict=True):
            seen = walk.ordered(s.arrivals[field]["outside"])  # (T, N)
            new = g.copy()
            new[:-1] -= from_next
            new[seen == 0] = 0
            off = np.where(np.isfinite(seen), np.abs(norms_of(new) - seen), 0)
            parts = norms_of(all_of_it)
            parts[:-1] = np.maximum(parts[:-1], norms_of(from_next))
            limit = 1e4 * float(np.finfo(s.dtype).eps) * np.maximum(parts, seen)
            if np.any(off > limit):
                t, n = np.unravel_index(np.argmax(off - limit), off.shape)
                raise RecordError(
                    f"What enters {s.name} at each step: at step index {s.steps - 1 - t if s.reverse else t}, sample"
                    f" {n}, its norm comes out as {norms_of(new)[t, n]:.3g}, and backward saw {seen[t, n]:.3g}.\n"
                    "  The walk's cell has a backward of its own: give the losses to attribution_of_losses."
                )
            relative = off[seen > 0] / seen[seen > 0]
            worst = max(worst, float(np.max(relative, initial=0, where=np.isfinite(relative))))
            found.append(new)
    return tuple(found), worst


def attribution(record: Record, *, sequence: str | None = None) -> Attribution:
    """‖dL_t/dh_k‖ for every pair of steps of a walk of RNN, LSTM or GRU, from its record alone.

        dL_t/d state_t = what enters at step t        dL_t/d state_{k-1} = J_k^T dL_t/d state_k

    All losses' gradients are carried together, stacked into the batch, in the record's own type: of a float32
    record the norms are exact to about 1e-5 of each, however small they are.

    Raises:
        RecordError: As `jacobian.linear_walk` and `entering`. For a cell of one's own: `attribution_of_losses`.

    Source: RNNbow (Cashman et al. 2019, arXiv 1907.12545) shows the loss of a step by the steps it comes from;
    Madsen, "Visualizing memorization in RNNs" (Distill, 2019), the gradient of a logit for earlier inputs.

    Cost: T / 2 times the products with W_hh of one backward pass.
    """
    walk = linear_walk(record, sequence=sequence)
    s = walk.sequence
    starts, rounding = entering(walk)
    steps, batch = walk.real.shape
    norms = {field: np.zeros((steps, steps, batch)) for field in walk.fields}
    enters = np.logical_or.reduce([(g != 0).any(axis=(1, 2)) for g in starts])
    losses = np.flatnonzero(enters)
    length = max(1, _ROWS // batch)
    own = walk.astype(s.dtype)
    for first in range(0, len(losses), length):
        some = losses[first : first + length]
        for field, rows in carried(own, tuple(g[some] for g in starts), some).items():
            norms[field][some] = rows
    turn, pairs = slice(None, None, -1 if s.reverse else 1), _pairs(steps, s.lengths, s.reverse)
    return Attribution(
        sequence=s.name, reverse=s.reverse, lengths=s.lengths,
        norms={field: np.where(pairs, array[turn, turn], np.nan) for field, array in norms.items()},
        enters=enters[turn], calls=0, rounding=rounding,
    )  # fmt: skip


def carried(walk: LinearWalk, starts: Fields, steps: Array) -> dict[str, Array]:
    """The norms, at every step, of what enters at some steps and is carried back to the first.

    Every start and sample has a scale of its own in float64: what is carried stays near 1, in float32 too.

    Args:
        walk: In whose order time is counted, and in whose type is carried.
        starts: What enters, (L, N, H) a field; h and c count as two: what c gives to h is not in c's.
        steps: Where each of them enters, (L,), ascending.
    Returns:
        By field, (L, T, N): norms of total derivatives (c's with what it does through h), 0 after the step of entry.
    """
    waiting = steps.tolist()  # the latest joins first
    count, dtype = 0, walk.weight.dtype
    least = float(np.finfo(dtype).tiny) ** 0.4  # whose square is still well inside the type's range
    found = [np.zeros((len(steps), *walk.real.shape)) for _ in walk.fields]
    g: Fields = tuple(np.empty((0, *start.shape[1:]), dtype) for start in starts)
    scales = np.empty((0, len(starts[0][0])))
    with np.errstate(all="ignore"):
        for k in range(waiting[-1], -1, -1):
            if waiting and waiting[-1] == k:
                waiting.pop()
                joins = slice(len(waiting), len(waiting) + 1)
                count += 1
                size = np.hypot.reduce([norms_of(start[joins]) for start in starts])  # (1, N)
                size[~(np.isfinite(size) & (size > 0))] = 1
                new = ((start[joins] / size[:, :, np.newaxis]).astype(dtype) for start in starts)
                g = tuple(np.concatenate(pair) for pair in zip(g, new, strict=True))
                scales = np.concatenate((scales, size))
            seen = [g[0]]
            if len(g) > 1:  # the total derivative: with what c does through h
                seen.append(g[0] * walk.slopes["c"][k])
                seen[1] += g[1]
            sizes = [np.sqrt(np.einsum("...i,...i->...", field, field)) for field in seen]
            total = np.hypot.reduce(sizes) if len(sizes) > 1 else sizes[0]
            if not (total.min() > least and total.max() < 1 / least):
                off = ((total < least) | (total > 1 / least)) & (total > 0) & np.isfinite(total)
                scales[off] *= total[off]
                for field in g:
                    field[off] /= total[off][:, np.newaxis]
                for array in sizes:
                    array[off] /= total[off]
            for array, size in zip(found, sizes, strict=True):
                np.multiply(scales, size, out=array[:count, k])
            if k:
                g = walk.back(walk.at(k), g)
    return {field: array[::-1] for field, array in zip(walk.fields, found, strict=True)}


def attribution_of_losses(losses: Sequence[Node], *, sequence: str | None = None) -> Attribution:
    """The same for any cell, by one call of `engine.grad` for each step's loss.

    Args:
        losses: L_t of every step in the order of the inputs, T tensors (or one with T on its first axis); of
            one with several elements the sum counts.
        sequence: The walk's name; None: the only one, or the one that was unrolled last.
    Raises:
        RecordError: The losses depend on no state of such a walk (a kernel's states are in no graph), or they
            are not one a step.
        GradError, StaleGraphError: As `engine.grad`.
    """
    given = list(losses)
    found: dict[Run, dict[tuple[str, int], Node]] = {}
    for loss in given:
        for node in engine.topological(loss):
            role = node.role
            if role is not None and role.kind == "state" and role.run is not None and role.time is not None:
                found.setdefault(role.run, {})[role.field, role.time] = node
    runs = sorted((run for run in found if sequence in (None, run.name)), key=lambda run: run.number)
    if not runs:
        names = ", ".join(dict.fromkeys(run.name for run in found)) or "none"
        raise RecordError(
            f"attribution_of_losses: the losses depend on no state of {sequence or 'any walk'}; found {names}.\n"
            '  Give losses of an unrolled cell or a layer with kernel="steps".'
        )
    run = runs[-1]
    if len(given) != run.steps:
        raise RecordError(
            f"attribution_of_losses: {len(given)} losses for the T={run.steps} steps of {run.name}.\n"
            "  Give one a step, in the order of the inputs."
        )
    nodes = found[run]
    batch = len(next(iter(nodes.values())).value)
    fields = list(dict.fromkeys(field for field, _ in nodes))
    norms = {field: np.zeros((run.steps, run.steps, batch)) for field in sorted(fields, key=lambda f: f != "h")}
    lengths = np.array(run.lengths or [run.steps] * batch)
    enters = np.zeros(run.steps, bool)
    for t, loss in enumerate(given):
        if loss.requires_grad:
            gradients = engine.grad(loss, list(nodes.values()), np.ones_like(loss.value))
            for (field, k), g in zip(nodes, gradients, strict=True):
                norms[field][t, k] = norms_of(g.reshape(batch, -1))
                enters[t] |= bool(k == t and np.any(g != 0))
    pairs = _pairs(run.steps, lengths, run.reverse)
    return Attribution(
        sequence=run.name, reverse=run.reverse, lengths=lengths,
        norms={field: np.where(pairs, array, np.nan) for field, array in norms.items()}, enters=enters,
        calls=len(given), rounding=0.0,
    )  # fmt: skip
