"""What the exercise should give: the package's cell, and numbers that can be checked in the head."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    found = work.forget_gate(np.array([1.0]), np.array([2.0]), np.array([[3.0, -6.0]]), np.zeros(1))
    judge.equal("forget_gate: h = 2, x = 1, W_f = [3, -6]: 3·2 - 6·1 = 0, so f is one half", found, np.array([0.5]))
    found = work.lane(np.ones(2), np.array([[0.5, 1.0]] * 3), np.zeros((3, 2)))
    judge.true("lane gives one state for each step", np.shape(found) == (3, 2), f"the shape {np.shape(found)}")
    right = {"C_1": np.array([0.5, 1.0]), "C_2": np.array([0.25, 1.0]), "C_3": np.array([0.125, 1.0])}
    judge.in_order("lane: nothing is written, f = 0.5 and 1: one unit halves at each step, the other keeps",
                   dict(zip(right, found)), right)  # fmt: skip

    for features, hidden, steps in ((3, 4, 6), (1, 2, 1), (5, 3, 9)):
        rng = np.random.default_rng(features)
        lstm = nn.LSTM(features, hidden, rng=rng, dtype=np.float64)
        _, (h, _) = lstm(rng.standard_normal((steps, 1, features)))
        s = bptt.record((h * h).sum()).sequence()
        rows, w = slice(hidden, 2 * hidden), {k.removesuffix("_l0"): v for k, v in lstm.state_dict().items()}
        W_f = np.concatenate([w["weight_hh"][rows], w["weight_ih"][rows]], axis=1)
        b_f = (w["bias_ih"] + w["bias_hh"])[rows]
        before = np.concatenate([np.zeros((1, hidden)), s.states["h"][:-1, 0]])
        f, where = s.gates["f"][:, 0], f"an LSTM of minigrad, C={features}, H={hidden}"
        mine = {f"f_{t + 1}": work.forget_gate(s.inputs[t, 0], before[t], W_f, b_f) for t in range(steps)}
        judge.in_order(f"forget_gate of {where}", mine, {f"f_{t + 1}": f[t] for t in range(steps)})
        states = work.lane(np.zeros(hidden), f, (s.gates["i"] * s.gates["g"])[:, 0])
        names = [f"C_{t + 1}" for t in range(steps)]
        judge.in_order(f"lane of {where}", dict(zip(names, states)), dict(zip(names, s.states["c"][:, 0])))

    judge.equal("half_life: f = 0.5 loses half in each step: 1 step", work.half_life(0.5), 1.0)
    judge.equal("half_life: f = 0.25 loses half twice a step: half a step", work.half_life(0.25), 0.5)
    judge.equal("half_life: f = 0.99, 69 steps", work.half_life(0.99), 68.967563936)
    for wanted in (2.0, 10.0, 0.5, 100.0):
        try:
            bias = work.bias_for(wanted)
        except (ValueError, ZeroDivisionError) as error:
            judge.true(f"bias_for({wanted:g}): its f lies between 0 and 1, as every gate does", False,
                       f"{error}: log(f / (1 - f)) needs such an f")  # fmt: skip
        gate = 1 / (1 + np.exp(-bias))
        what = f"bias_for({wanted:g}): the gate f = sigmoid(b_f) leaves one half after {wanted:g} steps, f^{wanted:g}"
        judge.equal(what, gate**wanted, 0.5)
    judge.equal("bias_for(1): the gate is half open at b_f = 0", work.bias_for(1.0), 0.0)
