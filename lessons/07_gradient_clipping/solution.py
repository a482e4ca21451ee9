"""Solution 7: clipping by norm over all parameters together, and clipping by value beside it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from minigrad.course import practise

Array = npt.NDArray[np.float64]


def total_norm(gradients: list[Array]) -> float:
    """The length of ONE vector that holds all numbers of all gradients."""
    # One vector has one length: squares are added over all arrays before the root is taken.
    length: float = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    return length


def coefficient(norm: float, threshold: float) -> float:
    """By what clipping by norm multiplies every number: min(1, C / ‖g‖). A gradient of length 0 stays as it is."""
    # Short gradients are left alone (never made longer), and a norm of 0 is never divided by.
    factor: float = 1.0 if norm <= threshold else threshold / norm
    return factor


def clip_by_norm(gradients: list[Array], threshold: float) -> list[Array]:
    """All gradients, clipped together: the direction of the one long vector stays."""
    # The same number for all: a coefficient for each array alone would turn the vector.
    factor = coefficient(total_norm(gradients), threshold)
    clipped: list[Array] = [g * factor for g in gradients]
    return clipped


def clip_by_value(gradients: list[Array], threshold: float) -> list[Array]:
    """Every single number limited to between -threshold and threshold: the direction changes."""
    # Only the largest numbers are cut, so the small ones count for more beside them: the vector turns.
    clipped: list[Array] = [np.clip(g, -threshold, threshold) for g in gradients]
    return clipped


def longest_update(lr: float, threshold: float) -> float:
    """How far gradient descent (p ← p - lr · g) can move all parameters in one update, if g is clipped by norm."""
    # No clipped gradient is longer than the threshold, and an update is lr times as long.
    limit: float = lr * threshold
    return limit


if __name__ == "__main__":
    practise(__file__)
