"""Solution 11: the gradient on the lane of the cell state, step by step back, and its direct path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def from_own_h(c: Array, o: Array, d_h: Array) -> Array:
    """What C_t gets through its own h_t = o_t ⊙ tanh(C_t), from dL/dh_t; all (H,)."""
    # h = o ⊙ tanh(C): the product hands o to tanh(C), whose slope is 1 - tanh².
    part: Array = d_h * o * (1 - np.tanh(c) ** 2)
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
            # C_{t-1} is used twice: by C_t, where it is multiplied by f_t, and by its own h. Both add.
            d_c = f[t] * d_c + from_own_h(c[t - 1], o[t - 1], d_h[t - 1])
    return gradients


def direct_path(f: Array) -> Array:
    """By what the direct path multiplies a gradient from C_T back to C_1, unit by unit; f is (T, H), as above."""
    # f_1 stands before C_0: from C_1 to C_T there are T - 1 steps, those of f_2 to f_T.
    factors: Array = np.prod(f[1:], axis=0)
    return factors


if __name__ == "__main__":
    practise(__file__)
