"""A long sequence in chunks, for truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..engine import Array
from ..errors import DataError

__all__ = ["Chunk", "Chunks"]


class Chunk(NamedTuple):
    """T steps of N streams.

    Attributes:
        inputs, targets: (T, N); targets[t] is what follows inputs[t].
        fresh: Whether the streams start here, so that no state is carried in.
    """

    inputs: Array
    targets: Array
    fresh: bool


class Chunks:
    """N streams side by side, each a contiguous part of one sequence, read T steps at a time.

    A chunk goes on where the one before it ended, so the state at the end of one is the state at the
    start of the next. When the streams end, they start anew.

    Args:
        ids: The sequence, (L,).
        steps: T.
        batch: N; the sequence is cut into N parts of L // N.
    Raises:
        DataError: T or N is less than 1, or the parts are shorter than one chunk and its last target.
    """

    def __init__(self, ids: Array, steps: int, batch: int) -> None:
        if steps < 1 or batch < 1:
            raise DataError(f"chunks: T={steps} steps of N={batch} streams.\n  Both count from 1.")
        length = len(ids) // batch
        if length < steps + 1:
            raise DataError(
                f"chunks: {len(ids)} elements make N={batch} streams of {length}, too short for T={steps} steps and"
                f" a last target.\n  Give at least {batch * (steps + 1)} elements, a smaller T or a smaller N."
            )
        self.streams: Array = np.ascontiguousarray(ids[: length * batch].reshape(batch, length).T)  # (L // N, N)
        self.steps = steps
        self.position = 0

    @property
    def per_epoch(self) -> int:
        """How many chunks one walk over the streams has."""
        return (len(self.streams) - 1) // self.steps

    def next(self) -> Chunk:
        """The next chunk."""
        if self.position + self.steps >= len(self.streams):
            self.position = 0
        start, end = self.position, self.position + self.steps
        self.position = end
        return Chunk(self.streams[start:end], self.streams[start + 1 : end + 1], start == 0)

    def state_dict(self) -> dict[str, Any]:
        """Where in the streams the next chunk starts."""
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            DataError: The position is none of these streams'.
        """
        position = state["position"]
        if type(position) is not int or position % self.steps or not 0 <= position < len(self.streams):
            raise DataError(
                f"chunks: position {position!r} is none of {len(self.streams)} elements in steps of {self.steps}.\n"
                "  Give the text and the T that the run started with."
            )
        self.position = position
