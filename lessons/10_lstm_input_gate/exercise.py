"""Exercise 10: what is written into the cell state, and a unit that stores one value and no other, set by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def sigmoid(a: npt.ArrayLike) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.asarray(a))))


def write(h_x: Array, W_i: Array, b_i: Array, W_g: Array, b_g: Array) -> tuple[Array, Array]:
    """The input gate i_t and the candidate g_t, both (H,); h_x is [h_{t-1}, x_t] in one vector, (H + C,)."""
    i: Array = hole("how much: a sigmoid")
    g: Array = hole("what: a tanh")
    return i, g


def cell_state(c: Array, f: Array, i: Array, g: Array) -> Array:
    """C_t from C_{t-1}, all (H,)."""
    new: Array = hole("what the forget gate leaves, and what the input gate lets in")
    return new


def latch() -> tuple[float, float, float, float]:
    """A unit that remembers the value x (1 or -1) of the step that carries the mark m (1, else 0), and no other.

        i = sigmoid(w_i m + b_i)      g = tanh(w_g x)      C_t = C_{t-1} + i g

    Returns:
        w_i, b_i, w_g and what C is after the mark, if its x is 1. It is above 0.3 then, and after 100 more
        steps it may be off by 0.01 at most.
    """
    w_i, b_i, w_g = hole("three numbers: with m = 1 the gate is open (i > 0.9), with m = 0 it is shut (i < 0.0001)")
    return w_i, b_i, w_g, float(sigmoid(w_i + b_i) * np.tanh(w_g))


if __name__ == "__main__":
    practise(__file__)
