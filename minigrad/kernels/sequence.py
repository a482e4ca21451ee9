"""What the whole-sequence kernels share: which rows of a batch work at which step, and gates in one array.

A kernel runs over time in its own order: samples from the longest to the shortest, each from the
step where it starts. So step t works on the first rows of every array, those whose sequence is
longer than t, and steps that work on equally many rows form one run, a plain loop. Without lengths
the order is that of the input and there is one run; with `reverse` alone time is a view backwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..engine import Array

__all__ = ["Arrangement", "Chunk", "Gradients", "Padding", "arrange", "rows_of", "summed", "zeros_for"]

ELEMENTS_IN_CACHE = 1 << 17
"""How many numbers a chunk's scratch may hold: what a core's own cache takes, and several steps of most sizes."""


class Chunk(NamedTuple):
    """Steps start … stop-1 of the kernel's own time; the first `rows` samples work."""

    start: int
    stop: int
    rows: int


class Gradients(NamedTuple):
    """dL/d each input of a `forward` with one state; None where nobody needs it."""

    x: Array | None
    h: Array | None
    weight_ih: Array | None
    weight_hh: Array | None
    bias_ih: Array | None
    bias_hh: Array | None


class Padding(NamedTuple):
    """Where the kernel's rows come from when sequences have lengths of their own.

    Attributes:
        order: (N,): the sample in each row, the longest first.
        lengths: (N,): each row's length.
        places: The kernel's own time and row of every real step, as an index.
        origins: The input's time and sample of the same steps.
    """

    order: Array
    lengths: Array
    places: tuple[Array, ...]
    origins: tuple[Array, ...]


@dataclass(frozen=True)
class Arrangement:
    """The order in which a kernel works, and the ways there and back.

    Attributes:
        steps, batch: T and N.
        reverse: Whether time runs backwards.
        padding: None where every sequence has T steps.
        runs: Stretches of steps with equally many rows, in order.
    """

    steps: int
    batch: int
    reverse: bool
    padding: Padding | None
    runs: tuple[Chunk, ...]

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array to fill; zeros where padding will leave holes."""
        return np.empty(shape, dtype) if self.padding is None else np.zeros(shape, dtype)

    def arranged(self, array: Array) -> Array:
        """(T, N, …) by input time, in the kernel's order; padding becomes 0, whatever it held."""
        if self.padding is None:
            return array[::-1] if self.reverse else array
        new = np.zeros(array.shape, array.dtype)
        new[self.padding.places] = array[self.padding.origins]
        return new

    def restored(self, array: Array) -> Array:
        """(T, N, …) in the kernel's order, by input time; 0 at padding."""
        if self.padding is None:
            return array[::-1] if self.reverse else array
        new = np.zeros(array.shape, array.dtype)
        new[self.padding.origins] = array[self.padding.places]
        return new

    def arranged_rows(self, state: Array) -> Array:
        """(N, H) by sample, in the kernel's order."""
        arranged: Array = state if self.padding is None else state[self.padding.order]
        return arranged

    def restored_rows(self, state: Array) -> Array:
        """(N, H) in the kernel's order, by sample."""
        rows: Array = state.copy()
        if self.padding is not None:
            rows[self.padding.order] = state
        return rows

    def last(self, states: Array) -> Array:
        """From the states (T+1, N, H) before the first step and after each, every sample's last one, (N, H)."""
        if self.padding is None:
            return self.restored_rows(states[self.steps])
        return self.restored_rows(states[self.padding.lengths, np.arange(self.batch)])

    def before(self, states: Array) -> Array:
        """From the states (T+1, N, H), the one before each step, (T, N, H); 0 at padding, whatever the last is."""
        before = states[:-1]
        if self.padding is not None:
            before = np.zeros_like(before)
            before[self.padding.places] = states[self.padding.places]
        return before

    def inner(self, carried: Array) -> Array:
        """From what steps receive from the next one, (T+1, N, H), (T, N, H) by input time: 0 where there is none."""
        new = carried[1:].copy()
        if self.padding is None:
            new[-1] = 0
        else:
            new[self.padding.lengths - 1, np.arange(self.batch)] = 0
        return self.restored(new)

    def with_last(self, state: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array (T+1, N, H) to fill that holds a value a sample, (N, H) or None for zeros, where `last` reads."""
        steps, batch, size = shape
        new = self.new((steps + 1, batch, size), dtype)
        if self.padding is None:
            new[steps] = 0 if state is None else state
        elif state is not None:
            new[self.padding.lengths, np.arange(batch)] = state[self.padding.order]
        return new

    def chunks(self, elements: int) -> Iterator[Chunk]:
        """The runs in pieces whose scratch, so many elements a row and step, stays in the cache."""
        for start, stop, rows in self.runs:
            length = max(1, ELEMENTS_IN_CACHE // (rows * elements))
            for begin in range(start, stop, length):
                yield Chunk(begin, min(begin + length, stop), rows)


def arrange(steps: int, batch: int, lengths: Array | None, reverse: bool) -> Arrangement:
    """The order for T steps and N samples, with these lengths (N,), each from 1 to T, or None."""
    if lengths is None or np.min(lengths) == steps:
        return Arrangement(steps, batch, reverse, None, (Chunk(0, steps, batch),))
    order = np.argsort(lengths, kind="stable")[::-1]
    ordered = lengths[order]
    stops = np.unique(ordered).tolist()
    runs = tuple(
        Chunk(start, stop, int(np.count_nonzero(ordered >= stop)))
        for start, stop in zip([0, *stops[:-1]], stops, strict=True)
    )
    time, row = places = np.nonzero(np.arange(steps)[:, np.newaxis] < ordered)
    origins = (ordered[row] - 1 - time if reverse else time, order[row])
    return Arrangement(steps, batch, reverse, Padding(order, ordered, places, origins), runs)


def rows_of(array: Array) -> Array:
    """(T, N, K) as a matrix (T*N, K)."""
    return array.reshape(-1, array.shape[-1])


def summed(array: Array) -> Array:
    """The sum over time and batch of (T, N, K): a product with ones, which BLAS does in one pass."""
    rows = rows_of(array)
    total: Array = np.dot(np.ones(len(rows), rows.dtype), rows)
    return total


def zeros_for(shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros to read, whatever the shape, in the memory of one."""
    return np.broadcast_to(np.zeros((), dtype), shape)
