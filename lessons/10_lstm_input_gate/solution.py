"""Solution 10: what is written into the cell state, and a unit that stores one value and no other, set by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def sigmoid(a: npt.ArrayLike) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.asarray(a))))


def write(h_x: Array, W_i: Array, b_i: Array, W_g: Array, b_g: Array) -> tuple[Array, Array]:
    """The input gate i_t and the candidate g_t, both (H,); h_x is [h_{t-1}, x_t] in one vector, (H + C,)."""
    # A factor between 0 and 1 for each unit, as the forget gate is.
    i: Array = sigmoid(W_i @ h_x + b_i)
    # What is written needs a sign, so it is a tanh.
    g: Array = np.tanh(W_g @ h_x + b_g)
    return i, g


def cell_state(c: Array, f: Array, i: Array, g: Array) -> Array:
    """C_t from C_{t-1}, all (H,)."""
    # Unit by unit: two products and a sum, no matrix.
    new: Array = f * c + i * g
    return new


def latch() -> tuple[float, float, float, float]:
    """A unit that remembers the value x (1 or -1) of the step that carries the mark m (1, else 0), and no other.

        i = sigmoid(w_i m + b_i)      g = tanh(w_g x)      C_t = C_{t-1} + i g

    Returns:
        w_i, b_i, w_g and what C is after the mark, if its x is 1. It is above 0.3 then, and after 100 more
        steps it may be off by 0.01 at most.
    """
    # sigmoid(15 - 12) = 0.95 lets the marked one in; sigmoid(-12) = 6e-6 adds less than 0.001 in 100 steps.
    w_i, b_i, w_g = 15.0, -12.0, 1.0
    return w_i, b_i, w_g, float(sigmoid(w_i + b_i) * np.tanh(w_g))


if __name__ == "__main__":
    practise(__file__)
