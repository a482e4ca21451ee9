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
            judge.equal(f"step, {what}, {sizes}", work.step(one, state, *weights), right[0])

        states = rnn(x)[0].numpy()
        found = work.read(x, *weights)
        judge.true(f"read gives states of the shape (T, N, H), {sizes}", np.shape(found) == states.shape,
                   f"the shape {np.shape(found)}")  # fmt: skip
        named = [{f"h_{t + 1}": s[t] for t in range(steps)} for s in (found, states)]
        judge.in_order(f"read, the states of a series, {sizes}", *named)

        judge.equal(f"size: all the numbers in w_ih, w_hh and b, C={features}, H={hidden}",
                    work.size(features, hidden), sum(w.size for w in weights))  # fmt: skip

        if steps == 1:
            _goes_in(work, judge)
        w_out = rng.uniform(-1, 1, (features, hidden))
        said, state, x_t = [], h, x[0]
        for _ in range(3):
            state = np.tanh(x_t @ weights[0].T + state @ weights[1].T + weights[2])
            x_t = state @ w_out.T
            said.append(x_t)
        found = work.tell(x[0], h, *weights, w_out, 3)
        named = [{f"y_{t + 1}": y[t] for t in range(3)} for y in (found, said)]
        judge.in_order(f"tell, 3 outputs from one input, {sizes}", *named)


def _goes_in(work: Any, judge: Judge) -> None:
    """What tell hands to step, which only counts here: its state is 1, then 2, then 3 everywhere."""
    given: list[Any] = []

    def counts(x: Any, h: Any, *_: Any, **__: Any) -> Any:
        given.append(x)
        return np.full((1, 3), float(len(given)))

    own, work.step = work.step, counts
    try:
        weights = (np.zeros((3, 2)), np.zeros((3, 3)), np.zeros(3))
        work.tell(np.array([[0.5, 0.25]]), np.zeros((1, 3)), *weights, np.ones((2, 3)), 3)
    finally:
        work.step = own
    if given:  # else tell has a step of its own
        counted = "(tried with a step that only counts, h_t = t, and w_out = 1, so y_t = 3 t)"
        right = [np.array([[0.5, 0.25]]), np.full((1, 2), 3.0), np.full((1, 2), 6.0)]
        for k, (found, expected) in enumerate(zip(given, right), 1):
            what = f"y_{k - 1}, which it has just said" if k > 1 else "the x that is given"
            judge.equal(f"tell: step {k} reads {what} {counted}", found, expected)
