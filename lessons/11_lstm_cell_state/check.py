"""What the exercise should give: numbers that can be checked in the head, and minigrad's recorded gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.bptt.jacobian import linear_walk
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    c = np.arctanh([0.0, 0.5])  # so that tanh(C) is 0 and 0.5
    found = work.from_own_h(c, np.array([0.5, 1.0]), np.array([2.0, 4.0]))
    judge.equal("through h: o = 0.5, slope 1, dL/dh = 2; and o = 1, slope 0.75, dL/dh = 4", found, np.array([1.0, 3.0]))
    zero, f = np.zeros((3, 1)), np.array([[0.5], [0.2], [0.1]])
    found = work.way_back(zero, f, zero + 1, np.array([[0.0], [0.0], [1.0]]))
    right = {"C_3": np.ones(1), "C_2": np.array([0.1]), "C_1": np.array([0.02])}
    judge.in_order("f_1, f_2, f_3 = 0.5, 0.2, 0.1 and dL/dh_3 = 1 alone", found, right)
    judge.equal("the direct path from C_3 to C_1 is f_3 f_2 = 0.02", work.direct_path(f), np.array([0.02]))
    judge.equal("with T = 1 there is no step between, so 1", work.direct_path(f[:1]), np.ones(1))

    for features, hidden, steps in ((3, 4, 6), (1, 1, 2), (2, 5, 12)):
        rng = np.random.default_rng(steps)
        lstm = nn.LSTM(features, hidden, rng=rng, dtype=np.float64)
        output, _ = lstm(rng.standard_normal((steps, 1, features)))
        record = bptt.backward((output * rng.standard_normal(output.shape)).sum())
        s = record.sequence()
        c, f, o, d_h, d_c = (a[:, 0] for a in (
            s.states["c"], s.gates["f"], s.gates["o"], s.gradients["h"], s.gradients["c"],
        ))  # fmt: skip
        where = f"an LSTM of minigrad, H={hidden}, T={steps}, a loss at every step"
        right = {f"C_{t + 1}": d_c[t] for t in reversed(range(steps))}
        judge.in_order(where, work.way_back(c, f, o, d_h), right)
        path = np.ones(hidden)
        for slope in linear_walk(record).slopes["path"][1:, 0]:
            path = path * slope
        judge.equal(f"{where}: the direct path", work.direct_path(f), path)
