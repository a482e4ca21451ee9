"""What the exercise should give: numbers that can be checked in the head, and minigrad's own forget_bias."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, bptt, nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    judge.equal("f(net) = net: the carousel's weight is 1", work.carousel_weight(1.0), 1.0)
    judge.equal("f(net) = net / 4: the weight is 4", work.carousel_weight(0.25), 4.0)

    judge.equal("b_f = 0, 2 steps: .5 · .5", work.kept(0.0, 2), 0.25)
    judge.equal("b_f = 0, 20 steps", work.kept(0.0, 20), 0.5**20)
    judge.equal("b_f = 3, no step at all: everything is kept", work.kept(3.0, 0), 1.0)
    for bias, steps in ((1.0, 7), (5.0, 50)):
        lstm = nn.LSTM(1, 1, dtype=np.float64)
        weights = {name: 0 * p for name, p in lstm.state_dict().items()}
        weights["bias_ih_l0"][1] = bias
        lstm.load_state_dict(weights)
        c_0 = Tensor(np.ones((1, 1, 1)), requires_grad=True)
        _, (_, c_T) = lstm(np.zeros((steps, 1, 1)), (Tensor(np.zeros((1, 1, 1))), c_0))
        bptt.backward(c_T.sum())
        assert c_0.grad is not None
        what = f"b_f = {bias:g}, {steps} steps of minigrad's LSTM: dC_T/dC_0"
        judge.equal(what, work.kept(bias, steps), float(c_0.grad.item()))

    judge.equal("to keep a half over 1 step takes b_f = 0", work.bias_that_keeps(0.5, 1), 0.0)
    for share, steps in ((0.5, 50), (0.1, 20), (0.9, 100)):
        f = 1 / (1 + np.exp(-work.bias_that_keeps(share, steps)))
        judge.equal(f"the bias that keeps {share:g} over {steps} steps keeps it", f**steps, share)

    for size, bias in ((3, 1.0), (5, -2.0)):
        plain = nn.LSTM(2, size, rng=np.random.default_rng(size)).state_dict()
        right = nn.LSTM(2, size, forget_bias=bias, rng=np.random.default_rng(size)).state_dict()
        found = work.with_forget_bias({name: array.copy() for name, array in plain.items()}, bias)
        judge.in_order(f"nn.LSTM(2, {size}) with b_f = {bias:g}, as forget_bias={bias:g} makes it", found, right)
