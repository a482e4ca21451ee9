"""Exercise 12: the whole backward pass of one LSTM step, by hand, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]
Named = dict[str, Array]


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def forward(x: Array, h_before: Array, c_before: Array, W_ih: Array, W_hh: Array, b: Array) -> Named:
    """One step; x is (N, C), h and c are (N, H), W_ih (4H, C), W_hh (4H, H), b (4H,). Nothing to do here."""
    a = x @ W_ih.T + h_before @ W_hh.T + b  # (N, 4H)
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * c_before + i * g
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * np.tanh(c)}


def backward(
    x: Array, h_before: Array, c_before: Array, W_ih: Array, W_hh: Array, step: Named, d_h: Array, d_c: Array
) -> Named:
    """The gradients of everything in the step.

    Args:
        step: what `forward` gave.
        d_h: dL/dh_t, all of it. d_c: the part of dL/dC_t that comes from step t + 1; what C_t does through its
            own h_t is not in it yet.
    """
    i, f, g, o, c = (step[name] for name in "ifgoc")
    d_o, d_c = hole("dL/do and all of dL/dC, from h = o ⊙ tanh(c); a tuple of two")
    d_f, d_i, d_g, d_c_before = hole("the four parts of c = f ⊙ c_before + i ⊙ g; a tuple of four")
    d_a = hole("dL/da (N, 4H): each gate's gradient times its slope, side by side in the order i, f, g, o")
    d_W_ih, d_W_hh, d_b, d_x, d_h_before = hole("a = x W_ihᵀ + h_before W_hhᵀ + b (lesson 2); a tuple of five")
    return {
        "dL/do": d_o, "dL/dC": d_c, "dL/df": d_f, "dL/di": d_i, "dL/dg": d_g, "dL/dC_before": d_c_before,
        "dL/da": d_a, "dL/dW_ih": d_W_ih, "dL/dW_hh": d_W_hh, "dL/db": d_b, "dL/dx": d_x, "dL/dh_before": d_h_before,
    }  # fmt: skip


if __name__ == "__main__":
    practise(__file__)
