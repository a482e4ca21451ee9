"""What the exercise should give: the package's walk back, and rotations, which change no length."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(19)
    for steps, samples, hidden in ((6, 3, 4), (2, 1, 1)):
        layer = nn.RNN(2, hidden, dtype=np.float64, rng=rng)
        _, h = layer(rng.normal(size=(steps, samples, 2)))
        walk = bptt.backward((h * h).sum()).sequence()
        g, states, w_hh = walk.gradients["h"], walk.states["h"], layer.state_dict()["weight_hh_l0"]
        found = {f"dE/dh_{t}": work.step_back(g[t], states[t], w_hh) for t in range(steps - 1, 0, -1)}
        right = {f"dE/dh_{t}": g[t - 1] for t in range(steps - 1, 0, -1)}  # the loss is at the end alone
        judge.in_order(f"step_back, T={steps}, N={samples}, H={hidden}", found, right)
        norms = np.linalg.norm(g, axis=2)
        omega = float((((norms[:-1] / norms[1:]) - 1) ** 2).mean(axis=1).sum())
        judge.equal(f"penalty, T={steps}, N={samples}, H={hidden}", work.penalty(g, states, w_hh), omega)

    rotation = np.array([[0.0, 1.0], [-1.0, 0.0]])
    g, still = rng.normal(size=(5, 3, 2)), np.zeros((5, 3, 2))
    judge.equal("a rotation where tanh is flat: no penalty", work.penalty(g, still, rotation), 0.0)
    judge.equal("twice a rotation: 1 for each of the 4 steps", work.penalty(g, still, 2 * rotation), 4.0)
