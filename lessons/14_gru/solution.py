"""Solution 14: a GRU step in both orders, and the way from one sign of the update gate to the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise

Weights = dict[str, Any]  # "r", "z", "n" -> a matrix, or a vector for biases


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def gru_step(x: Any, h: Any, W: Weights, U: Weights, b: Weights, reset_after: bool) -> Any:
    """h_t from x_t, (C,), and h_{t-1}, (H,); W has (H, C), U has (H, H), b has (H,) for each of r, z, n."""
    r = sigmoid(W["r"] @ x + U["r"] @ h + b["r"])
    z = sigmoid(W["z"] @ x + U["z"] @ h + b["z"])
    # PyTorch and cuDNN: the product with all of U comes first, then the gate scales its rows.
    after = r * (U["n"] @ h)
    # Cho et al. 2014: each unit of the old state is shown, or not, and then mixed.
    before = U["n"] @ (r * h)
    n = np.tanh(W["n"] @ x + b["n"] + (after if reset_after else before))
    # A weighted mean: its weights add up to 1, so h stays between n and the old h.
    return (1 - z) * n + z * h


def other_sign(W: Weights, U: Weights, b: Weights) -> tuple[Weights, Weights, Weights]:
    """Weights whose update gate is 1 - z: what keeps h there is z = 0 (Chung et al. 2014)."""
    # sigmoid(-a) = 1 - sigmoid(a), and a is linear in its weights and bias.
    return tuple({**part, "z": -part["z"]} for part in (W, U, b))  # type: ignore


if __name__ == "__main__":
    practise(__file__)
