"""Solution 2: write what a matrix product, broadcasting and cross entropy hand back, and the difference to check it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def product_back(gradient: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """dL/da and dL/db of c = a @ b, a (N, K) and b (K, M), from gradient = dL/dc (N, M)."""
    # a[n, k] is used once for every m, with b[k, m]; its parts gradient[n, m] b[k, m] add up: a product over m.
    d_a, d_b = gradient @ b.T, a.T @ gradient
    return d_a, d_b


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of a value of this shape that was broadcast to gradient.shape.

    For example from (4, 3) to (3,), to (1, 3), to (4, 1) or to ().
    """
    part = gradient
    for _ in range(gradient.ndim - len(shape)):  # axes that the value has not at all: always the first ones
        # The value was used once for every index of this axis: its gradients add up.
        part = part.sum(axis=0)
    for k, size in enumerate(shape):
        if size == 1:  # the value has this axis, and may have been repeated along it
            # The same; keepdims gives the gradient the value's own shape.
            part = part.sum(axis=k, keepdims=True)
    return part


def scores_back(scores: Array, right: npt.NDArray[np.int64]) -> Array:
    """dL/dscores of the mean cross entropy of N samples: scores (N, V), right (N,) the right class of each."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)  # softmax: (N, V)
    # -log p[right] = -scores[right] + log sum e^scores: the first part gives -onehot, the second p; / N for the mean.
    gradient: Array = (p - np.eye(scores.shape[1])[right]) / len(scores)
    return gradient


def slope(function: Callable[[float], Any], x: float, e: float = 1e-5) -> Any:
    """The central difference of a function of one number at x."""
    # Both sides, so that the error is of order e², not e.
    return (function(x + e) - function(x - e)) / (2 * e)


if __name__ == "__main__":
    practise(__file__)
