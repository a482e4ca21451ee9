"""Exercise 19: Pascanu's regulariser, from the states and gradients of a walk, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise


def step_back(g: Any, h: Any, w_hh: Any) -> Any:
    """From g = dE/dh_t to dE/dh_{t-1} through h_t = tanh(W_hh h_{t-1} + …); g and h are (N, H)."""
    before = hole("dE/da_t, in front of tanh, from g and h")
    return hole("dE/dh_{t-1}, (N, H), from dE/da_t and W_hh")


def penalty(gradients: Any, states: Any, w_hh: Any) -> float:
    """Ω for one batch: gradients dE/dh_t and states h_t, each (T, N, H)."""
    total = 0.0
    for g, h in zip(gradients[1:], states[1:], strict=True):
        ratio = hole("for each sample the norm of the gradient one step back over the norm of g, (N,)")
        total += hole("the mean over samples of how far the ratio is from 1, squared")
    return total


if __name__ == "__main__":
    practise(__file__)
