"""What the exercise should give: the package's LSTM, and a unit of it with the learner's weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, nn, no_grad
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    zero = np.zeros(1)
    i, g = work.write(np.array([1.0, 2.0]), np.array([[2.0, -1.0]]), zero, np.array([[1.0, 0.0]]), zero)
    judge.equal("W_i · [h, x] = 0: the input gate is half open", i, np.array([0.5]))
    judge.equal("W_g · [h, x] = 1: the candidate is tanh(1)", g, np.tanh([1.0]))
    c = work.cell_state(*(np.array(a) for a in ([2.0, 2.0], [1.0, 0.5], [0.0, 1.0], [0.9, -0.25])))
    judge.equal("C = 2: one unit keeps it (f = 1, i = 0), one halves it and adds -0.25", c, np.array([2.0, 0.75]))
    for features, hidden in ((3, 4), (1, 1), (2, 6)):
        rng = np.random.default_rng(hidden)
        cell = nn.LSTMCell(features, hidden, rng=rng, dtype=np.float64)
        w = cell.state_dict()
        W = np.split(np.concatenate([w["weight_hh"], w["weight_ih"]], axis=1), 4)  # gates i, f, g, o
        b = np.split(w["bias_ih"] + w["bias_hh"], 4)
        x, h, c = rng.standard_normal(features), rng.standard_normal(hidden), rng.standard_normal(hidden)
        with no_grad():
            state = nn.LSTMState(Tensor(h[np.newaxis]), Tensor(c[np.newaxis]))
            right = cell.step(Tensor(x[np.newaxis]), state).c.numpy()[0]
        h_x = np.concatenate([h, x])
        found = dict(zip("ig", work.write(h_x, W[0], b[0], W[2], b[2])))
        known = {"i": 1 / (1 + np.exp(-(W[0] @ h_x + b[0]))), "g": np.tanh(W[2] @ h_x + b[2])}
        f = 1 / (1 + np.exp(-(W[1] @ h_x + b[1])))
        found["C_t"], known["C_t"] = work.cell_state(c, f, *found.values()), right
        judge.in_order(f"a step of minigrad's LSTM, C={features}, H={hidden}", found, known)

    w_i, b_i, w_g, said = work.latch()
    gate = {m: float(1 / (1 + np.exp(-np.clip(w_i * m + b_i, -700, 700)))) for m in (0, 1)}
    judge.true("with the mark the gate is open: sigmoid(w_i + b_i) > 0.9", gate[1] > 0.9, f"{gate[1]:.4g}")
    judge.true("without it the gate is shut: sigmoid(b_i) < 0.0001", gate[0] < 1e-4, f"{gate[0]:.4g}")
    judge.true("what is stored can be told from nothing: C is above 0.3 after x = 1", said > 0.3, f"{said:.4g}")
    lstm = nn.LSTM(2, 1, dtype=np.float64)
    weights = {name: 0 * p for name, p in lstm.state_dict().items()}
    weights["weight_ih_l0"][0, 1], weights["weight_ih_l0"][2, 0] = w_i, w_g
    weights["bias_ih_l0"][:] = b_i, 40.0, 0.0, 0.0
    lstm.load_state_dict(weights)
    rng = np.random.default_rng(0)
    for place in (0, 7):
        x = np.stack([rng.choice([-1.0, 1.0], (place + 101, 8)), np.zeros((place + 101, 8))], axis=2)
        x[place, :, 1] = 1
        x[-100:, :4, 0], x[-100:, 4:, 0] = 1.0, -1.0  # all to one side: what leaks adds up
        with no_grad():
            _, (_, c_T) = lstm(x)
        what = f"8 series, the mark at step {place + 1}, then 100 others: C is what was stored, within 0.01"
        judge.equal(what, c_T.numpy()[0, :, 0], x[place, :, 0] * said, tolerance=0.01 / (1 + said))
