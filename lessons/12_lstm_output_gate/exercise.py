"""Exercise 12: the whole backward pass of one LSTM step in four parts, by hand, in NumPy."""

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


def through_h(step: Named, d_h: Array, d_c: Array) -> tuple[Array, Array]:
    """dL/do and all of dL/dC, from h = o ⊙ tanh(c).

    Args:
        step: what `forward` gave.
        d_h: dL/dh_t, all of it. d_c: the part of dL/dC_t that comes from step t + 1; what C_t does through its
            own h_t is not in it yet.
    """
    o, c = step["o"], step["c"]
    d_o, d_c = hole("a tuple of two: what the product hands to o; what C_t gets, from its h_t and from step t + 1")
    return d_o, d_c


def through_c(step: Named, c_before: Array, d_c: Array) -> tuple[Array, Array, Array, Array]:
    """dL/df, dL/di, dL/dg and dL/dC_{t-1}, from c = f ⊙ c_before + i ⊙ g and all of dL/dC_t."""
    i, f, g = step["i"], step["f"], step["g"]
    d_f, d_i, d_g, d_c_before = hole("a tuple of four: what a sum of two products hands to the four factors")
    return d_f, d_i, d_g, d_c_before


def through_gates(step: Named, d_i: Array, d_f: Array, d_g: Array, d_o: Array) -> Array:
    """dL/da (N, 4H), from i = σ(a_i), f = σ(a_f), g = tanh(a_g), o = σ(a_o)."""
    i, f, g, o = (step[name] for name in "ifgo")
    d_a = hole("each gate's gradient times its slope, side by side in the order i, f, g, o")
    return np.asarray(d_a)


def through_sum(
    x: Array, h_before: Array, W_ih: Array, W_hh: Array, d_a: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """dL/dW_ih, dL/dW_hh, dL/db, dL/dx and dL/dh_{t-1}, from a = x W_ihᵀ + h_before W_hhᵀ + b (lesson 2)."""
    d_W_ih, d_W_hh, d_b, d_x, d_h_before = hole("a tuple of five, each of the shape of what it belongs to")
    return d_W_ih, d_W_hh, d_b, d_x, d_h_before


def backward(
    x: Array, h_before: Array, c_before: Array, W_ih: Array, W_hh: Array, step: Named, d_h: Array, d_c: Array
) -> Named:
    """The gradients of everything in the step: your four parts in a row. Nothing to do here."""
    d_o, d_c = through_h(step, d_h, d_c)
    d_f, d_i, d_g, d_c_before = through_c(step, c_before, d_c)
    d_a = through_gates(step, d_i, d_f, d_g, d_o)
    d_W_ih, d_W_hh, d_b, d_x, d_h_before = through_sum(x, h_before, W_ih, W_hh, d_a)
    return {
        "dL/do": d_o, "dL/dC": d_c, "dL/df": d_f, "dL/di": d_i, "dL/dg": d_g, "dL/dC_before": d_c_before,
        "dL/da": d_a, "dL/dW_ih": d_W_ih, "dL/dW_hh": d_W_hh, "dL/db": d_b, "dL/dx": d_x, "dL/dh_before": d_h_before,
    }  # fmt: skip


if __name__ == "__main__":
    practise(__file__)
