"""HIPS autograd: the LSTM in its NumPy, op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problem import Problem, Result, optional

autograd: Any = optional("autograd")
anp: Any = optional("autograd.numpy")


def lstm_ops(problem: Problem) -> Callable[[], Result]:
    """The LSTM, one op after the other."""
    inputs, zeros = problem.inputs, np.zeros((problem.size.batch, problem.size.hidden), np.float32)

    def sigmoid(a: Any) -> Any:
        return 1 / (1 + anp.exp(-a))

    def loss(weights: Any) -> Any:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        h = c = zeros
        outputs = []
        for x in inputs:
            a = anp.dot(x, weight_ih.T) + bias_ih + anp.dot(h, weight_hh.T) + bias_hh
            a_i, a_f, a_g, a_o = anp.split(a, 4, axis=-1)
            f, i, g, o = sigmoid(a_f), sigmoid(a_i), anp.tanh(a_g), sigmoid(a_o)
            c = f * c + i * g
            h = o * anp.tanh(c)
            outputs.append(h)
        output = anp.stack(outputs)
        return anp.sum(output * output)

    differentiated = autograd.value_and_grad(loss)

    def step() -> Result:
        value, gradients = differentiated(problem.weights)
        return Result(float(value), gradients)

    return step
