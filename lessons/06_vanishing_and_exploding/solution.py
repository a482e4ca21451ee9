"""Solution 6: the Jacobian of one step, the way back through all of them, and the two numbers of a matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def step_jacobian(W: Array, h: Array) -> Array:
    """J = dh_t/dh_{t-1} of h_t = tanh(W h_{t-1} + …): row i is h_t[i], column j is h_{t-1}[j].

    W is (H, H); h is the state AFTER the step, h_t, of shape (H,).
    """
    # tanh' = 1 - tanh² belongs to unit i of h_t, so it scales row i: diag(1 - h²) W, not W diag(1 - h²).
    jacobian: Array = (1 - h**2)[:, np.newaxis] * W
    return jacobian


def way_back(W: Array, states: Array, gradient: Array) -> Array:
    """dL/dh_1 from the gradient at the last state, dL/dh_T; states are h_1 … h_T, of shape (T, H)."""
    for h in states[:0:-1]:  # h_T, h_{T-1}, … h_2
        # h_{t-1}[j] acts on every h_t[i] by J[i, j]: its gradient is the sum over i, which is the transpose.
        gradient = step_jacobian(W, h).T @ gradient
    return gradient


def scaled(W: Array, radius: float) -> Array:
    """W times a number, such that its spectral radius (the size of its largest eigenvalue) is `radius`."""
    # Eigenvalues may be complex: their size is np.abs. They scale as the matrix does.
    result: Array = W * (radius / np.abs(np.linalg.eigvals(W)).max())
    return result


def must_vanish(W: Array, gamma: float) -> bool:
    """Whether W alone guarantees that the gradient vanishes, if no slope of the nonlinearity exceeds gamma."""
    size = float(np.linalg.norm(W, 2))  # the largest singular value: by how much one product with W stretches at most
    # Every J is at most gamma * size long, a product of k of them at most (gamma * size)^k.
    sure: bool = gamma * size < 1
    return sure


if __name__ == "__main__":
    practise(__file__)
