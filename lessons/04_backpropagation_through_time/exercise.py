"""Exercise 4: backpropagation through time by hand: the walk back through a tanh RNN, in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def forward(x: Array, w_ih: Array, w_hh: Array, b: Array) -> Array:
    """All states (T, N, H): h_t = tanh(a_t), a_t = W_ih x_t + W_hh h_{t-1} + b, h_0 = 0. Nothing to do here."""
    h = np.zeros((x.shape[1], len(w_hh)))
    states = []
    for x_t in x:
        h = np.tanh(x_t @ w_ih.T + h @ w_hh.T + b)
        states.append(h)
    return np.stack(states)


def backward(x: Array, states: Array, w_ih: Array, w_hh: Array, from_loss: Array) -> dict[str, Array]:
    """The gradients of the three weights, and dL/dh_t of every step under the names h_1, h_2, …

    Args:
        x: (T, N, C). states: what `forward` gave, (T, N, H).
        from_loss: what the loss of each step hands to h_t directly, (T, N, H); zeros at a step without a loss.
    """
    d_w_ih, d_w_hh, d_b = np.zeros_like(w_ih), np.zeros_like(w_hh), np.zeros(len(w_hh))
    gradients = {}
    d_h = from_loss[-1]  # the last state has no later step
    for t in reversed(range(len(x))):
        gradients[f"h_{t + 1}"] = d_h
        before = states[t - 1] if t > 0 else np.zeros_like(d_h)  # h_{t-1}
        d_a = hole("dL/da_t (N, H): d_h, taken back through tanh")
        d_w_hh = hole("d_w_hh so far and this step's term, from d_a and before: a product of shape (H, H)")
        d_w_ih = d_w_ih + d_a.T @ x[t]
        d_b = d_b + d_a.sum(axis=0)
        if t > 0:
            d_h = hole("dL/dh_{t-1}: what the loss hands to it, from_loss[t - 1], and what comes back from a_t")
    return {**gradients, "W_hh": d_w_hh, "W_ih": d_w_ih, "b": d_b}


if __name__ == "__main__":
    practise(__file__)
