"""What truncated backpropagation through time loses: the gradient with cuts beside the whole one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..clip import angle, norm_of
from ..engine import Array
from ..errors import MinigradError
from .attribution import entering
from .jacobian import linear_walk
from .record import Comparable, Record

__all__ = ["Truncation", "truncation"]


@dataclass(frozen=True, eq=False)
class Truncation(Comparable):
    """The gradient of a walk's weights, cut between chunks of k steps, beside the whole gradient.

    Arrays are (K,), one entry a truncation length.

    Attributes:
        sequence: The walk's name.
        steps: T; a length of T or more makes no cut, and loses nothing.
        lengths: k, in steps.
        full: ‖g‖, of all the walk's weights and biases as one long vector, without a cut.
        norms: ‖g_k‖, with the cuts.
        angles: Between g_k and g in degrees; NaN where one of them is 0.
        lost: ‖g - g_k‖ / ‖g‖; NaN where g is 0.
        lost_by_weight: The same of each parameter, by its name.
    """

    sequence: str
    steps: int
    lengths: tuple[int, ...]
    full: float
    norms: Array
    angles: Array
    lost: Array
    lost_by_weight: Mapping[str, Array]


def truncation(record: Record, *, lengths: Sequence[int] | None = None, sequence: str | None = None) -> Truncation:
    """Compare the whole gradient of a walk of RNN, LSTM or GRU with that of truncated BPTT.

    Chunks of k steps are counted from the first input. From one to the next the state is handed on and the
    gradient is not, as between two chunks of training, but with the same weights for all of them. So for every k
    the gradient is carried back once more, in float64:

        g_t = what enters at step t + J_{t+1}^T g_{t+1}, if step t+1 is in the same chunk

    Other layers keep what they are: only this walk is cut, and what a layer above hands down is that of the record.
    For a model of one layer this is exactly what `state.detach()` between its chunks gives.

    Args:
        record: Of `bptt.backward`.
        lengths: Each at least 1; None: 1, 2, 5, 10, 20, 50, … below T, and T.
        sequence: The walk's name; None: the only or the first one.
    Raises:
        MinigradError: A length is no whole number from 1.
        RecordError: As `attribution`.

    Source: Williams & Peng 1990; Elman 1990 truncates to k=1.

    Cost: that of one backward pass in float64 a length.
    """
    walk = linear_walk(record, sequence=sequence)
    s = walk.sequence
    starts, _ = entering(walk)
    if lengths is None:
        decades = (m * 10**e for e in range(len(str(s.steps))) for m in (1, 2, 5))
        lengths = [*(k for k in decades if k < s.steps), s.steps]
    chosen = tuple(lengths)
    if not chosen or any(not isinstance(k, (int, np.integer)) or k < 1 for k in chosen):
        raise MinigradError(f"truncation: lengths={list(chosen)}.\n  Give whole numbers of steps, each at least 1.")
    every = np.array([*chosen, s.steps])  # the last one has no cut
    shape = (len(every), *starts[0].shape[1:])
    carried = tuple(np.zeros(shape) for _ in starts)
    sums: dict[str, Any] = dict.fromkeys(walk.weights, 0.0)
    with np.errstate(all="ignore"):
        for t in range(s.steps - 1, -1, -1):
            g = tuple(start[t] + part for start, part in zip(starts, carried, strict=True))
            carried, terms = walk.gradients(t, g)
            sums = {role: sums[role] + terms[role] for role in sums}
            first = s.steps - t if s.reverse else t  # the input time at which a chunk would begin here
            cut = (first % every == 0) & (every < s.steps)
            for part in carried:
                part[cut] = 0
    names = {role: p.name for role, p in walk.weights.items()}
    full = [sums[role][-1] for role in sums]
    whole = math.hypot(*map(norm_of, full))
    norms, angles, lost = np.zeros(len(chosen)), np.zeros(len(chosen)), np.zeros(len(chosen))
    apart = {name: np.zeros(len(chosen)) for name in names.values()}
    for k in range(len(chosen)):
        cut_off = [sums[role][k] for role in sums]
        missing = [norm_of(a - b) for a, b in zip(full, cut_off, strict=True)]
        norms[k] = math.hypot(*map(norm_of, cut_off))
        angles[k] = angle(full, cut_off) if whole and norms[k] else math.nan
        lost[k] = math.hypot(*missing) / whole if whole else math.nan
        for role, away, some in zip(sums, missing, full, strict=True):
            size = norm_of(some)
            apart[names[role]][k] = away / size if size else math.nan
    return Truncation(s.name, s.steps, tuple(map(int, chosen)), whole, norms, angles, lost, apart)
