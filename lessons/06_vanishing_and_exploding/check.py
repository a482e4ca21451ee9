"""What the exercise should give: minigrad's recorded gradients and Jacobians, and matrices known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.bptt.jacobian import step_jacobians
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    one = work.step_jacobian(np.array([[3.0]]), np.array([0.5]))
    judge.equal("one unit, w = 3 and h_t = 0.5: the slope is 0.75, so J is 2.25", one, np.array([[2.25]]))
    W = np.array([[1.0, 2.0], [3.0, 4.0]])
    found, right = work.step_jacobian(W, np.array([0.0, 1.0])), np.array([[1.0, 2.0], [0.0, 0.0]])
    judge.equal("unit 2 saturated (h_t = 0, 1): row 2 of J is zero, row 1 that of W", found, right)

    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        rnn = nn.RNN(2, 5, rng=rng, dtype=np.float64)
        _, h_T = rnn(rng.standard_normal((7, 1, 2)))
        record = bptt.backward((h_T * h_T).sum())
        s, W = record.sequence(), record.parameters["weight_hh_l0"].value
        states, gradients = s.states["h"][:, 0], s.gradients["h"][:, 0]
        jacobians = {f"step {t + 1}": work.step_jacobian(W, states[t]) for t in range(7)}
        recorded = dict(zip(jacobians, step_jacobians(record), strict=True))
        judge.in_order(f"RNN {seed}, the Jacobians of minigrad's record", jacobians, recorded)
        back = {f"dL/dh_{t}": work.way_back(W, states[t - 1 :], gradients[-1]) for t in range(7, 0, -1)}
        known = {f"dL/dh_{t}": gradients[t - 1] for t in range(7, 0, -1)}
        judge.in_order(f"RNN {seed}, the way back from step 7", back, known)

    turn = np.array([[0.0, -2.0], [2.0, 0.0]])  # the eigenvalues are 2i and -2i
    judge.equal("a quarter turn and twice as long, scaled to ρ = 0.5", work.scaled(turn, 0.5), turn / 4)
    W = np.random.default_rng(3).standard_normal((6, 6))
    found = np.abs(np.linalg.eigvals(work.scaled(W, 1.1))).max()
    judge.equal("a random matrix, scaled to ρ = 1.1, has that spectral radius", float(found), 1.1)

    stretch = np.array([[0.5, 3.0], [0.0, 0.5]])  # its spectral radius is 0.5, and it can triple a vector
    judge.equal("tanh, W = 0.9 on the diagonal: it must vanish", bool(work.must_vanish(0.9 * np.eye(3), 1.0)), True)
    judge.equal("tanh, ρ = 0.5 but σ_max = 3.1: nothing is sure", bool(work.must_vanish(stretch, 1.0)), False)
    judge.equal("sigmoid, the same W: 3.1 < 4, it must vanish", bool(work.must_vanish(stretch, 0.25)), True)
    judge.equal("sigmoid, w = 4.1: nothing is sure", bool(work.must_vanish(np.array([[4.1]]), 0.25)), False)
