"""NumPy by hand: the matrix products alone, below which no layer can get, and min-char-rnn's update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..problem import GATES, Array, Problem


def products(problem: Problem) -> Callable[[], object]:
    """The matrix products of a training step, and nothing else.

    Forward W_ih x for all steps at once and W_hh h step by step; backward dL/dh step by step, and
    both weights' gradients as one product each over (T*N).
    """
    steps, batch, features, hidden = problem.size
    columns = GATES[problem.cell] * hidden
    weight_ih, weight_hh = problem.weights[:2]
    rng = np.random.default_rng(0)
    inputs = problem.inputs.reshape(steps * batch, features)
    states = rng.standard_normal((steps, batch, hidden)).astype(np.float32)
    gradients = rng.standard_normal((steps, batch, columns)).astype(np.float32)
    forward = np.empty((batch, columns), np.float32)
    backward = np.empty((batch, hidden), np.float32)

    def step() -> object:
        from_inputs = inputs @ weight_ih.T
        transposed = weight_hh.T
        for h in states:
            h.dot(transposed, forward)
        for da in gradients:
            da.dot(weight_hh, backward)
        flat = gradients.reshape(steps * batch, columns).T
        return from_inputs, flat @ inputs, flat @ states.reshape(steps * batch, hidden)

    return step


class MinCharRNN:
    """One update after the other, as in the hundred lines of min-char-rnn.

    Args:
        characters: V.
        ids: The text, (L,).
        steps, hidden: T and H.
        dtype: Of everything.

    Source: Karpathy 2015, min-char-rnn.py.
    """

    def __init__(self, characters: int, ids: Array, steps: int, hidden: int, dtype: Any) -> None:
        rng = np.random.default_rng(0)
        self.characters, self.ids, self.steps, self.dtype = characters, ids, steps, dtype
        self.w_xh = (rng.standard_normal((hidden, characters)) * 0.01).astype(dtype)
        self.w_hh = (rng.standard_normal((hidden, hidden)) * 0.01).astype(dtype)
        self.w_hy = (rng.standard_normal((characters, hidden)) * 0.01).astype(dtype)
        self.b_h, self.b_y = np.zeros((hidden, 1), dtype), np.zeros((characters, 1), dtype)
        self.memory = [np.zeros_like(p) for p in self.parameters]
        self.position, self.first = 0, np.zeros((hidden, 1), dtype)
        self.h = self.first

    @property
    def parameters(self) -> tuple[Array, ...]:
        return self.w_xh, self.w_hh, self.w_hy, self.b_h, self.b_y

    def update(self) -> float:
        """Forward and backward over T characters, clipping, Adagrad. Returns the loss."""
        if self.position + self.steps + 1 >= len(self.ids):
            self.position, self.h = 0, self.first
        inputs = self.ids[self.position : self.position + self.steps]
        targets = self.ids[self.position + 1 : self.position + self.steps + 1]
        xs, hs, ps = {}, {-1: self.h}, {}
        loss = 0.0
        for t in range(self.steps):
            xs[t] = np.zeros((self.characters, 1), self.dtype)
            xs[t][inputs[t]] = 1
            hs[t] = np.tanh(np.dot(self.w_xh, xs[t]) + np.dot(self.w_hh, hs[t - 1]) + self.b_h)
            y = np.dot(self.w_hy, hs[t]) + self.b_y
            ps[t] = np.exp(y) / np.sum(np.exp(y))
            loss += -np.log(ps[t][targets[t], 0])
        d_xh, d_hh, d_hy, d_h, d_y = gradients = [np.zeros_like(p) for p in self.parameters]
        d_next = np.zeros_like(self.h)
        for t in reversed(range(self.steps)):
            dy = np.copy(ps[t])
            dy[targets[t]] -= 1
            d_hy += np.dot(dy, hs[t].T)
            d_y += dy
            dh = np.dot(self.w_hy.T, dy) + d_next
            da = (1 - hs[t] * hs[t]) * dh
            d_h += da
            d_xh += np.dot(da, xs[t].T)
            d_hh += np.dot(da, hs[t - 1].T)
            d_next = np.dot(self.w_hh.T, da)
        for gradient in gradients:
            np.clip(gradient, -5, 5, out=gradient)
        self.h = hs[self.steps - 1]
        self.position += self.steps
        for parameter, gradient, memory in zip(self.parameters, gradients, self.memory, strict=True):
            memory += gradient * gradient
            parameter += -0.1 * gradient / np.sqrt(memory + 1e-8)
        return float(loss)
