"""Solution 17: windows, two yardsticks of forecasting, and a forecast that lives on its own forecasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.course import practise


def windows(series: Any, steps: int) -> tuple[Any, Any]:
    """Every window on a series, (L,): inputs and targets, (L - steps, steps) each; the target is what comes next."""
    starts = range(len(series) - steps)
    inputs = np.array([series[k : k + steps] for k in starts])
    # One place further on: what is asked at step t is the input of step t + 1.
    targets = np.array([series[k + 1 : k + steps + 1] for k in starts])
    return inputs, targets


def persistence(series: Any, lag: int) -> float:
    """The mean squared error of "as it was lag steps before"."""
    # series[:-lag] is what was known lag steps before series[lag:].
    return float(((series[lag:] - series[:-lag]) ** 2).mean())


def autoregression(series: Any, lags: int) -> Any:
    """The weights, (lags,), with which the last steps, the oldest first, best sum up to the next one."""
    known, following = windows(series, lags)
    # The other targets lie inside the window, among what is known.
    wanted = following[:, -1]
    return np.linalg.lstsq(known, wanted, rcond=None)[0]


def free_run(step: Callable[[Any, Any], tuple[Any, Any]], x: Any, state: Any, count: int) -> Any:
    """count forecasts, each made from the one before; step(x, state) gives the forecast and the next state."""
    said = []
    for _ in range(count):
        # No true value comes in any more: an error made once is read again.
        x, state = step(x, state)
        said.append(x)
    return np.array(said)


if __name__ == "__main__":
    practise(__file__)
