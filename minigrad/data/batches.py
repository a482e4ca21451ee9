"""Sequences of unequal length in batches: those of similar length together, padded at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..engine import Array
from ..errors import DataError, ShapeError

__all__ = ["IGNORED", "Batch", "by_length", "padded"]

IGNORED = -100
"""The padding of targets: what `nn.cross_entropy` does not count."""


class Batch(NamedTuple):
    """N sequences side by side, time first.

    Attributes:
        inputs: (T, N, …), where T is the length of the longest; 0 past the end of each.
        lengths: (N,) of int64: how many steps of each are real, as the layers take it.
        targets: (N, …), one a sequence; or (T, N, …), one a step, IGNORED (of floats: 0) past the end.
        places: (N,) of int64: where each stands among the sequences that were given.
    """

    inputs: Array
    lengths: Array
    targets: Array
    places: Array


def padded(sequences: Sequence[Array], padding: float = 0) -> tuple[Array, Array]:
    """Sequences side by side, time first, with the padding past the end of each.

    >>> padded([np.array([1, 2, 3]), np.array([4])])
    (array([[1, 4],
           [2, 0],
           [3, 0]]), array([3, 1]))

    Args:
        sequences: N of them, (T_n, …), alike in what follows T_n and in type.
        padding: What stands past the end.
    Returns:
        (T, N, …) with T the longest, and the lengths, (N,) of int64.
    Raises:
        DataError: There is no sequence, or one has no step.
        ShapeError: They differ in shape or type.
    """
    if not sequences:
        raise DataError("batch: there is no sequence.\n  Give at least one.")
    kinds = {(array.shape[1:], str(array.dtype)) for array in sequences}
    if len(kinds) > 1 or not all(array.ndim for array in sequences):
        found = ", ".join(f"(T{''.join(f', {n}' for n in shape)}) {dtype}" for shape, dtype in sorted(kinds))
        raise ShapeError(f"batch: the sequences are {found}.\n  Give sequences alike in all but their length T.")
    lengths = np.array([len(array) for array in sequences], np.int64)
    if not lengths.min():
        raise DataError(f"batch: sequence {lengths.argmin()} has no step.\n  Give sequences of one step or more.")
    first = sequences[0]
    joined: Array = np.full((lengths.max(), len(sequences), *first.shape[1:]), padding, first.dtype)
    for n, array in enumerate(sequences):
        joined[: len(array), n] = array
    return joined, lengths


def by_length(
    inputs: Sequence[Array], targets: Array | Sequence[Array], size: int, *, rng: np.random.Generator | None
) -> Iterator[Batch]:
    """One walk over all sequences, each once, in batches of similar length: little of what is computed is padding.

    The sequences are sorted by length, those of equal length in random order; every `size` of them are a batch
    (the last may be smaller), and the batches come in random order.

    Args:
        inputs: Sequences, (T_n, …).
        targets: An array (number of sequences, …) with one target a sequence; or a list of sequences, (T_n, …),
            with one a step.
        size: N.
        rng: Whence the random order; None: the order of lengths, the same each time, for measuring.
    Raises:
        DataError: A sequence has no steps, or N is less than 1.
        ShapeError: Inputs and targets do not fit.
    """
    if size < 1:
        raise DataError(f"batches: N={size} sequences a batch.\n  N counts from 1.")
    if len(inputs) != len(targets):
        raise ShapeError(
            f"batches: {len(inputs)} sequences, but {len(targets)} targets.\n  Give one target, or one row of them,"
            " for each sequence."
        )
    lengths = np.array([len(array) for array in inputs], np.int64)
    stepwise = not isinstance(targets, np.ndarray)
    if stepwise and any(len(wanted) != length for wanted, length in zip(targets, lengths, strict=True)):
        n = next(n for n, wanted in enumerate(targets) if len(wanted) != lengths[n])
        raise ShapeError(
            f"batches: sequence {n} has T={lengths[n]} steps, but {len(targets[n])} targets.\n  Give one target a step."
        )
    order = np.arange(len(inputs)) if rng is None else rng.permutation(len(inputs))
    order = order[np.argsort(lengths[order], kind="stable")]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    for k in range(len(batches)) if rng is None else rng.permutation(len(batches)):
        places = batches[k]
        together, counts = padded([inputs[n] for n in places])
        if stepwise:
            rows = [targets[n] for n in places]
            wanted, _ = padded(rows, IGNORED if rows[0].dtype.kind == "i" else 0)
        else:
            wanted = np.asarray(targets)[places]
        yield Batch(together, counts, wanted, places)
