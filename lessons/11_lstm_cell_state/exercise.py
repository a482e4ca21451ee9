"""Exercise 11: the gradient on the lane of the cell state, step by step back, and its direct path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def from_own_h(c: Array, o: Array, d_h: Array) -> Array:
    """What C_t gets through its own h_t = o_t ⊙ tanh(C_t), from dL/dh_t; all (H,)."""
    part: Array = hole("the chain rule through the product with o and through tanh")
    return part


def way_back(c: Array, f: Array, o: Array, d_h: Array) -> dict[str, Array]:
    """dL/dC_t of every step, under the names C_T, …, C_1.

    Args:
        c, f, o: C_t and the gates of the steps, (T, H); row 0 is t = 1.
        d_h: dL/dh_t, all that arrives at h_t, (T, H).
    """
    gradients = {}
    d_c = from_own_h(c[-1], o[-1], d_h[-1])  # C_T has no later step
    for t in reversed(range(len(c))):
        gradients[f"C_{t + 1}"] = d_c
        if t > 0:
            d_c = hole("dL/dC one step earlier: along the lane, C_t = f_t ⊙ C_{t-1} + …, and from its own h")
    return gradients


def direct_path(f: Array) -> Array:
    """By what the direct path multiplies a gradient from C_T back to C_1, unit by unit; f is (T, H), as above."""
    factors: Array = hole("a product of rows of f; careful: which of them stand between C_1 and C_T?")
    return factors


if __name__ == "__main__":
    practise(__file__)
