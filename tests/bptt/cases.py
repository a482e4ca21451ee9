"""What the tests of a Record's measures share: every kind of layer, and the smallest cell there is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, nn

KINDS: dict[str, Any] = {
    "rnn tanh": (nn.RNN, {}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru reset after": (nn.GRU, {}),
    "gru reset before": (nn.GRU, {"reset_after": False}),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_KERNEL = pytest.mark.parametrize("kernel", ["steps", "fused"])


class State(NamedTuple):
    h: Tensor


class Linear:
    """h' = h W + x: the term of step t is dL/dh_t h_{t-1}."""

    def __init__(self, weight: Any) -> None:
        self.w = Tensor(np.atleast_2d(np.asarray(weight, np.float64)), requires_grad=True, name="w")

    def initial_state(self, batch: int) -> State:
        return State(Tensor(np.zeros((batch, len(self.w)))))

    def step(self, x: Tensor, state: State) -> State:
        return State(state.h @ self.w + x)
