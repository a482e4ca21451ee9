"""Exercise 13: the weight of a carousel, what a forget bias keeps, which one to choose, and where it stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.course import hole, practise


def carousel_weight(slope: float) -> float:
    """The w at which h_t = f(w h_{t-1}) keeps an error constant; f is linear, f(net) = slope · net."""
    w: float = hole("from f'(net) · w = 1")
    return w


def kept(bias: float, steps: int) -> float:
    """What the direct path keeps of a gradient over so many steps, if every f is sigmoid(bias)."""
    share: float = hole("the factor of one step, so many times in a row; math.exp helps")
    return share


def bias_that_keeps(share: float, steps: int) -> float:
    """The bias with which that share, between 0 and 1, is kept over so many steps."""
    f: float = hole("the f of which that share is left")
    return math.log(f / (1 - f))  # sigmoid the other way round


def with_forget_bias(weights: dict[str, Any], bias: float) -> dict[str, Any]:
    """The weights of an nn.LSTM, as state_dict gives them, with another forget bias; all else as it was.

    `bias_ih_l0` and `bias_hh_l0` have 4H numbers each, H for each gate in the order i, f, g, o. Their sum counts.
    """
    changed = {name: np.array(array) for name, array in weights.items()}  # copies
    size = len(changed["bias_ih_l0"]) // 4
    rows = hole("slice(first, end): the rows of the forget gate")
    changed["bias_ih_l0"][rows] = bias
    changed["bias_hh_l0"][rows] = 0.0
    return changed


if __name__ == "__main__":
    practise(__file__)
