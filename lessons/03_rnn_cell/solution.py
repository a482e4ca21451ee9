"""Solution 3: write the recurrent cell: one step, the loop through time, its size, and a cell that reads itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def step(x: Array, h: Array, w_ih: Array, w_hh: Array, b: Array) -> Array:
    """The state after one step (N, H), from x (N, C), h (N, H), w_ih (H, C), w_hh (H, H), b (H)."""
    # Samples are rows, so W x of each becomes x @ W.T of all; b is broadcast over the rows.
    new: Array = np.tanh(x @ w_ih.T + h @ w_hh.T + b)
    return new


def read(x: Array, w_ih: Array, w_hh: Array, b: Array) -> Array:
    """All states (T, N, H) of a cell that reads x (T, N, C) and starts from zeros."""
    h = np.zeros((x.shape[1], len(w_hh)))
    states = []
    for x_t in x:
        # h is replaced: what this step leaves is what the next one remembers. The weights stay.
        h = step(x_t, h, w_ih, w_hh, b)
        states.append(h)
    return np.stack(states)


def size(features: int, hidden: int) -> int:
    """How many numbers w_ih, w_hh and b have together."""
    # W_ih (H, C), W_hh (H, H), b (H): T is not among them.
    return hidden * features + hidden * hidden + hidden


def tell(x: Array, h: Array, w_ih: Array, w_hh: Array, b: Array, w_out: Array, steps: int) -> Array:
    """One to many: outputs y (steps, N, C) of a cell that reads x (N, C) first and then its own outputs."""
    outputs = []
    for _ in range(steps):
        h = step(x, h, w_ih, w_hh, b)
        y = h @ w_out.T  # (N, C)
        outputs.append(y)
        # Nobody gives it anything more, so it goes on from what it said last.
        x = y
    return np.stack(outputs)


if __name__ == "__main__":
    practise(__file__)
