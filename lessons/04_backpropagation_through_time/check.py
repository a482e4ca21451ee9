"""What the exercise should give: the Record of the same RNN, and by hand for one number."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    one = np.ones((1, 1, 1))
    found = work.backward(2 * one, 0.6 * one, one[0], one[0], one)
    right = {"h_1": one[0], "W_hh": 0 * one[0], "W_ih": 1.28 * one[0], "b": 0.64 * one[0, 0]}
    judge.in_order("one step, x = 2, h_1 = 0.6, dL/dh_1 = 1: the slope of tanh is 1 - 0.36", found, right)
    states = np.array([0.5, 0.8]).reshape(2, 1, 1)
    found = work.backward(0 * states, states, one[0], 3 * one[0], np.ones((2, 1, 1)))
    right = {"h_2": one[0], "h_1": (1 + 0.36 * 3) * one[0], "W_hh": 0.36 * 0.5 * one[0], "W_ih": 0 * one[0],
             "b": (0.36 + 0.75 * 2.08) * one[0, 0]}  # fmt: skip
    judge.in_order("two steps, W_hh = 3, h_1 = 0.5, h_2 = 0.8, each loss hands over 1", found, right)

    rng = np.random.default_rng(4)
    for steps, batch, features, hidden, last_only in ((3, 1, 2, 2, True), (5, 3, 2, 4, False), (8, 2, 3, 3, False)):
        rnn = nn.RNN(features, hidden, rng=rng, dtype=np.float64)
        x, from_loss = rng.standard_normal((steps, batch, features)), rng.standard_normal((steps, batch, hidden))
        if last_only:
            from_loss[:-1] = 0
        output, _ = rnn(x)
        record = bptt.backward((output * from_loss).sum())
        d_h = record.sequence().gradients["h"]
        right = {f"h_{t + 1}": d_h[t] for t in reversed(range(steps))}  # in the order of the walk
        names = {"W_hh": "weight_hh_l0", "W_ih": "weight_ih_l0", "b": "bias_ih_l0"}
        right |= {name: record.parameters[full].gradient for name, full in names.items()}
        weights = (p.numpy() for p in rnn.parameters()[:2])
        where = "the last step" if last_only else "every step"
        found = work.backward(x, output.numpy(), *weights, from_loss)
        judge.in_order(f"T={steps}, N={batch}, C={features}, H={hidden}, a loss at {where}", found, right)
