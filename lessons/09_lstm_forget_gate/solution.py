"""Solution 9: the forget gate by hand, and the numbers that tell how long a unit remembers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def forget_gate(x: Array, h: Array, W_f: Array, b_f: Array) -> Array:
    """f_t (H,) from x_t (C,), h_{t-1} (H,), W_f (H, H + C) and b_f (H,). W_f has the columns of h first."""
    # Each unit has a row of W_f: one number of its own between 0 and 1, from all that is known.
    f: Array = sigmoid(W_f @ np.concatenate([h, x]) + b_f)
    return f


def lane(c_0: Array, f: Array, written: Array) -> list[Array]:
    """C_1 … C_T from C_0 (H,), the gates f (T, H), and what each step adds, written (T, H)."""
    c, states = c_0, []
    for f_t, new in zip(f, written, strict=True):
        # Unit by unit, no matrix: dC_t/dC_{t-1} is f_t itself.
        c = f_t * c + new
        states.append(c)
    return states


def half_life(f: float) -> float:
    """After how many steps a gate that stands at f, between 0 and 1, has left one half."""
    # n ln f = ln (1/2), and ln f is negative.
    steps: float = math.log(2) / -math.log(f)
    return steps


def bias_for(steps: float) -> float:
    """The bias b_f at which sigmoid(b_f), all else being 0, has a half-life of so many steps."""
    # f^steps = 1/2, so f is the root.
    f: float = 0.5 ** (1 / steps)
    return math.log(f / (1 - f))  # the sigmoid the other way round


if __name__ == "__main__":
    practise(__file__)
