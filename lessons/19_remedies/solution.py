"""Solution 19: Pascanu's regulariser, from the states and gradients of a walk, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise


def step_back(g: Any, h: Any, w_hh: Any) -> Any:
    """From g = dE/dh_t to dE/dh_{t-1} through h_t = tanh(W_hh h_{t-1} + …); g and h are (N, H)."""
    # The slope of tanh, written with its own result.
    before = g * (1 - h * h)
    # h_{t-1} was multiplied by W_hhᵀ from the right, so the gradient is multiplied by W_hh.
    return before @ w_hh


def penalty(gradients: Any, states: Any, w_hh: Any) -> float:
    """Ω for one batch: gradients dE/dh_t and states h_t, each (T, N, H)."""
    total = 0.0
    for g, h in zip(gradients[1:], states[1:], strict=True):
        # A ratio for each sample: a long gradient must not hide a short one.
        ratio = np.linalg.norm(step_back(g, h, w_hh), axis=1) / np.linalg.norm(g, axis=1)
        # 1 means: this step neither stretches nor shrinks it. Both sides are punished alike.
        total += float(np.mean((ratio - 1) ** 2))
    return total


if __name__ == "__main__":
    practise(__file__)
