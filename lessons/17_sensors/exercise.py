"""Exercise 17: windows, two yardsticks of forecasting, and a forecast that lives on its own forecasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.course import hole, practise


def windows(series: Any, steps: int) -> tuple[Any, Any]:
    """Every window on a series, (L,): inputs and targets, (L - steps, steps) each; the target is what comes next."""
    starts = range(len(series) - steps)
    inputs = np.array([series[k : k + steps] for k in starts])
    targets = hole("of every window what follows each of its steps")
    return inputs, targets


def persistence(series: Any, lag: int) -> float:
    """The mean squared error of "as it was lag steps before"."""
    return float(hole("the mean of the squared changes over lag steps"))


def autoregression(series: Any, lags: int) -> Any:
    """The weights, (lags,), with which the last steps, the oldest first, best sum up to the next one."""
    known, following = windows(series, lags)
    wanted = hole("of every window the one step that follows its last")
    return np.linalg.lstsq(known, wanted, rcond=None)[0]


def free_run(step: Callable[[Any, Any], tuple[Any, Any]], x: Any, state: Any, count: int) -> Any:
    """count forecasts, each made from the one before; step(x, state) gives the forecast and the next state."""
    said = []
    for _ in range(count):
        x, state = hole("the forecast, from what is known now")
        said.append(x)
    return np.array(said)


if __name__ == "__main__":
    practise(__file__)
