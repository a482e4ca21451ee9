"""Exercise 9: the forget gate by hand, and the numbers that tell how long a unit remembers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def forget_gate(x: Array, h: Array, W_f: Array, b_f: Array) -> Array:
    """f_t (H,) from x_t (C,), h_{t-1} (H,), W_f (H, H + C) and b_f (H,). W_f has the columns of h first."""
    f: Array = hole("the sigmoid of W_f times [h, x] plus b_f; np.concatenate joins h and x")
    return f


def lane(c_0: Array, f: Array, written: Array) -> list[Array]:
    """C_1 … C_T from C_0 (H,), the gates f (T, H), and what each step adds, written (T, H)."""
    c, states = c_0, []
    for f_t, new in zip(f, written, strict=True):
        c = hole("C_t: what the gate leaves of c, and what is new")
        states.append(c)
    return states


def half_life(f: float) -> float:
    """After how many steps a gate that stands at f, between 0 and 1, has left one half."""
    steps: float = hole("n from f^n = 1/2")
    return steps


def bias_for(steps: float) -> float:
    """The bias b_f at which sigmoid(b_f), all else being 0, has a half-life of so many steps."""
    f: float = hole("the f whose half-life this is: half_life the other way round")
    return math.log(f / (1 - f))  # the sigmoid the other way round


if __name__ == "__main__":
    practise(__file__)
