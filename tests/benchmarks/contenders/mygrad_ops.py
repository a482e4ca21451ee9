"""MyGrad: the LSTM op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problem import Problem, Result, optional

mygrad: Any = optional("mygrad")
activations: Any = optional("mygrad.nnet.activations")


def lstm_ops(problem: Problem) -> Callable[[], Result]:
    """The LSTM, one op after the other."""
    inputs, zeros = problem.inputs, np.zeros((problem.size.batch, problem.size.hidden), np.float32)
    hidden, weights = problem.size.hidden, [mygrad.tensor(w) for w in problem.weights]
    weight_ih, weight_hh, bias_ih, bias_hh = weights

    def step() -> Result:
        for weight in weights:
            weight.null_grad()
        h = c = mygrad.tensor(zeros, constant=True)
        outputs = []
        for x in inputs:
            a = mygrad.matmul(x, weight_ih.T) + bias_ih + mygrad.matmul(h, weight_hh.T) + bias_hh
            a_i, a_f, a_g, a_o = (a[:, k * hidden : (k + 1) * hidden] for k in range(4))
            f, i, o = (activations.sigmoid(gate) for gate in (a_f, a_i, a_o))
            c = f * c + i * mygrad.tanh(a_g)
            h = o * mygrad.tanh(c)
            outputs.append(h)
        output = mygrad.stack(outputs)
        loss = (output * output).sum()
        loss.backward()
        return Result(float(loss.data), [weight.grad for weight in weights])

    return step
