"""Solution 13: the weight of a carousel, what a forget bias keeps, which one to choose, and where it stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.course import practise


def carousel_weight(slope: float) -> float:
    """The w at which h_t = f(w h_{t-1}) keeps an error constant; f is linear, f(net) = slope · net."""
    # f'(net) is the slope, everywhere: the weight has to undo it.
    w: float = 1 / slope
    return w


def kept(bias: float, steps: int) -> float:
    """What the direct path keeps of a gradient over so many steps, if every f is sigmoid(bias)."""
    # One step multiplies by f = sigmoid(bias), T steps by f^T.
    share: float = (1 / (1 + math.exp(-bias))) ** steps
    return share


def bias_that_keeps(share: float, steps: int) -> float:
    """The bias with which that share, between 0 and 1, is kept over so many steps."""
    # f^steps = share, so f is the root.
    f: float = share ** (1 / steps)
    return math.log(f / (1 - f))  # sigmoid the other way round


def with_forget_bias(weights: dict[str, Any], bias: float) -> dict[str, Any]:
    """The weights of an nn.LSTM, as state_dict gives them, with another forget bias; all else as it was.

    `bias_ih_l0` and `bias_hh_l0` have 4H numbers each, H for each gate in the order i, f, g, o. Their sum counts.
    """
    changed = {name: np.array(array) for name, array in weights.items()}  # copies
    size = len(changed["bias_ih_l0"]) // 4
    # i has the first H rows, f the next H. As the sum counts, one bias gets all of it and the other 0.
    rows = slice(size, 2 * size)
    changed["bias_ih_l0"][rows] = bias
    changed["bias_hh_l0"][rows] = 0.0
    return changed


if __name__ == "__main__":
    practise(__file__)
