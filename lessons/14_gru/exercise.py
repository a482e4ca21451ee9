"""Exercise 14: a GRU step in both orders, and the way from one sign of the update gate to the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise

Weights = dict[str, Any]  # "r", "z", "n" -> a matrix, or a vector for biases


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def gru_step(x: Any, h: Any, W: Weights, U: Weights, b: Weights, reset_after: bool) -> Any:
    """h_t from x_t, (C,), and h_{t-1}, (H,); W has (H, C), U has (H, H), b has (H,) for each of r, z, n."""
    r = sigmoid(W["r"] @ x + U["r"] @ h + b["r"])
    z = sigmoid(W["z"] @ x + U["z"] @ h + b["z"])
    after = hole("what n sees of h where the reset gate acts after the product with U_n")
    before = hole("what n sees of h where the reset gate acts before the product with U_n")
    n = np.tanh(W["n"] @ x + b["n"] + (after if reset_after else before))
    return hole("the mixture of n and h in which z = 1 keeps h")


def other_sign(W: Weights, U: Weights, b: Weights) -> tuple[Weights, Weights, Weights]:
    """Weights whose update gate is 1 - z: what keeps h there is z = 0 (Chung et al. 2014)."""
    return tuple({**part, "z": hole("the weights of z that turn z into 1 - z")} for part in (W, U, b))  # type: ignore


if __name__ == "__main__":
    practise(__file__)
