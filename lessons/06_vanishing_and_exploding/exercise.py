"""Exercise 6: the Jacobian of one step, the way back through all of them, and the two numbers of a matrix."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def step_jacobian(W: Array, h: Array) -> Array:
    """J = dh_t/dh_{t-1} of h_t = tanh(W h_{t-1} + …): row i is h_t[i], column j is h_{t-1}[j].

    W is (H, H); h is the state AFTER the step, h_t, of shape (H,).
    """
    jacobian: Array = hole("the slope 1 - h_t² of each unit, times that unit's row of W")
    return jacobian


def way_back(W: Array, states: Array, gradient: Array) -> Array:
    """dL/dh_1 from the gradient at the last state, dL/dh_T; states are h_1 … h_T, of shape (T, H)."""
    for h in states[:0:-1]:  # h_T, h_{T-1}, … h_2
        gradient = hole("dL/dh one step earlier, from step_jacobian(W, h) and gradient")
    return gradient


def scaled(W: Array, radius: float) -> Array:
    """W times a number, such that its spectral radius (the size of its largest eigenvalue) is `radius`."""
    result: Array = hole("W, scaled; np.linalg.eigvals(W) gives the eigenvalues")
    return result


def must_vanish(W: Array, gamma: float) -> bool:
    """Whether W alone guarantees that the gradient vanishes, if no slope of the nonlinearity exceeds gamma."""
    size = float(np.linalg.norm(W, 2))  # the largest singular value: by how much one product with W stretches at most
    sure: bool = hole("the sufficient condition, from size and gamma")
    return sure


if __name__ == "__main__":
    practise(__file__)
