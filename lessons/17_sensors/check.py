"""What the exercise should give: the package's windows and yardstick, series with a known rule, a known state."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import Judge
from minigrad.data import sensor


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(17)
    for length, steps in ((6, 2), (5, 4), (30, 7)):
        series = rng.normal(size=length)
        right = [array.T for array in sensor.windows(series, steps)]
        found = work.windows(series, steps)
        judge.equal(f"windows of {steps} on a series of {length}: the targets", found[1], right[1])
        judge.equal(f"windows of {steps} on a series of {length}: the inputs", found[0], right[0])

    for length, lag in ((3, 1), (40, 1), (40, 12)):
        series = rng.normal(size=length)
        judge.equal(f"persistence of a series of {length} with lag {lag}", work.persistence(series, lag),
                    sensor.persistence(series, lag))  # fmt: skip

    for rule in ((0.7,), (-0.5, 1.2), (0.2, -0.6, 0.9)):
        series = np.concatenate([rng.normal(size=len(rule)), np.zeros(60)])
        for t in range(len(rule), len(series)):
            series[t] = np.dot(rule, series[t - len(rule) : t])
        found = work.autoregression(series, len(rule))
        judge.equal(f"autoregression finds the rule {rule} of a series that follows it", found, np.array(rule),
                    tolerance=1e-6)  # fmt: skip

    calls = []

    def step(x: float, state: int) -> tuple[float, int]:
        calls.append((x, state))
        return 0.5 * x + state, state + 1

    said = work.free_run(step, 8.0, 1, 4)
    judge.equal("free_run: what the model is given at every step", [list(call) for call in calls],
                [[8.0, 1], [5.0, 2], [4.5, 3], [5.25, 4]])  # fmt: skip
    judge.equal("free_run: what it says", said, np.array([5.0, 4.5, 5.25, 6.625]))
    judge.equal("free_run of one step", work.free_run(step, 2.0, 0, 1), np.array([1.0]))
