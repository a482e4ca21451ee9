"""Exercise 7: clipping by norm over all parameters together, and clipping by value beside it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from minigrad.course import hole, practise

Array = npt.NDArray[np.float64]


def total_norm(gradients: list[Array]) -> float:
    """The length of ONE vector that holds all numbers of all gradients."""
    length: float = hole("the square root of the sum of all squares, over all arrays; math.sqrt helps")
    return length


def coefficient(norm: float, threshold: float) -> float:
    """By what clipping by norm multiplies every number: min(1, C / ‖g‖). A gradient of length 0 stays as it is."""
    factor: float = hole("1 for a gradient that is short enough, else what brings its length to the threshold")
    return factor


def clip_by_norm(gradients: list[Array], threshold: float) -> list[Array]:
    """All gradients, clipped together: the direction of the one long vector stays."""
    clipped: list[Array] = hole("a new list: every gradient times the same coefficient")
    return clipped


def clip_by_value(gradients: list[Array], threshold: float) -> list[Array]:
    """Every single number limited to between -threshold and threshold: the direction changes."""
    clipped: list[Array] = hole("a new list, by np.clip")
    return clipped


def longest_update(lr: float, threshold: float) -> float:
    """How far gradient descent (p ← p - lr · g) can move all parameters in one update, if g is clipped by norm."""
    limit: float = hole("from lr and the threshold")
    return limit


if __name__ == "__main__":
    practise(__file__)
