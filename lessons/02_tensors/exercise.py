"""Exercise 2: write what a matrix product, broadcasting and cross entropy hand back, and the difference to check it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def product_back(gradient: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """dL/da and dL/db of c = a @ b, a (N, K) and b (K, M), from gradient = dL/dc (N, M)."""
    d_a, d_b = hole("dL/da of shape (N, K) and dL/db of shape (K, M): each is one product of two of the matrices")
    return d_a, d_b


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of a value of this shape that was broadcast to gradient.shape.

    For example from (4, 3) to (3,), to (1, 3), to (4, 1) or to ().
    """
    part = gradient
    for _ in range(gradient.ndim - len(shape)):  # axes that the value has not at all: always the first ones
        part = hole("part, summed over its first axis, which is gone then")
    for k, size in enumerate(shape):
        if size == 1:  # the value has this axis, and may have been repeated along it
            part = hole("part, summed over axis k, which stays with size 1 (keepdims=True)")
    return part


def scores_back(scores: Array, right: npt.NDArray[np.int64]) -> Array:
    """dL/dscores of the mean cross entropy of N samples: scores (N, V), right (N,) the right class of each."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)  # softmax: (N, V)
    gradient: Array = hole("(p - onehot) / N, where onehot (N, V) has a 1 at the right class of each row")
    return gradient


def slope(function: Callable[[float], Any], x: float, e: float = 1e-5) -> Any:
    """The central difference of a function of one number at x."""
    return hole("by how much the function changes from x - e to x + e, divided by how far these are apart")


if __name__ == "__main__":
    practise(__file__)
