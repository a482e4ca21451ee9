"""What the exercise should give: the states of nn.RNN, and the sizes of its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(3)
    for steps, batch, features, hidden in ((1, 1, 2, 3), (4, 3, 2, 2)):
        rnn = nn.RNN(features, hidden, rng=rng, dtype=np.float64)
        values = rnn.state_dict()
        weights = values["weight_ih_l0"], values["weight_hh_l0"], values["bias_ih_l0"] + values["bias_hh_l0"]
        x, h = rng.standard_normal((steps, batch, features)), rng.uniform(-1, 1, (batch, hidden))
        sizes = f"T={steps}, N={batch}, C={features}, H={hidden}"

        none = np.zeros_like
        for what, one, state in (
            ("from h = 0: what x and b give", x[0], none(h)),
            ("with x = 0: what h and b give", none(x[0]), h),
            ("with large x: tanh ends at 1", 50 * x[0], h),
        ):
            right, _ = rnn(one[np.newaxis], state[np.newaxis])
            judge.equal(f"one step {what}, {sizes}", work.step(one, state, *weights), right[0])

        states = rnn(x)[0].numpy()
        found = work.read(x, *weights)
        judge.equal(f"the shape of all states, {sizes}", np.shape(found), states.shape)
        named = [{f"h_{t + 1}": s[t] for t in range(steps)} for s in (found, states)]
        judge.in_order(f"the states of a series, {sizes}", *named)

        judge.equal(f"the number of parameters, C={features}, H={hidden}", work.size(features, hidden),
                    sum(w.size for w in weights))  # fmt: skip

        w_out = rng.uniform(-1, 1, (features, hidden))
        said, state, x_t = [], h, x[0]
        for _ in range(3):
            state = np.tanh(x_t @ weights[0].T + state @ weights[1].T + weights[2])
            x_t = state @ w_out.T
            said.append(x_t)
        found = work.tell(x[0], h, *weights, w_out, 3)
        named = [{f"y_{t + 1}": y[t] for t in range(3)} for y in (found, said)]
        judge.in_order(f"one to many, 3 steps from one input, {sizes}", *named)
