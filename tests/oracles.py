"""Plain-NumPy RNN, LSTM and GRU over a whole sequence: no graph and no gradient rule.

They take complex arrays too, so one complex step gives a derivative that is exact to rounding.
Every state also takes a nudge p_t, added where the state is made and before anything uses it: the
derivative of a loss with respect to p_t is the total derivative dL/dh_t (or dL/dc_t).

Shapes: x (T, N, C), states (N, H), nudges (T, N, H) one a state. The weights are
(weight_ih, weight_hh, bias_ih, bias_hh) in PyTorch's layout, or the first two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = Callable[[Any, Any, Any, Any], tuple[Any, ...]]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def relu(x: Any) -> Any:
    return np.where(np.real(x) > 0, x, 0)


def _affine(x: Any, weight: Any, bias: Any = 0) -> Any:
    return x @ weight.T + bias


def _blocks(weights: Sequence[Any], gates: int) -> list[list[Any]]:
    """One list of blocks, a gate each, for weight_ih, weight_hh, bias_ih, bias_hh (zeros where there is none)."""
    biases = weights[2:] or (np.zeros(len(weights[0])),) * 2
    return [np.split(w, gates) for w in (*weights[:2], *biases)]


def _rnn(nonlinearity: Callable[[Any], Any]) -> Step:
    def step(x: Any, state: Any, weights: Any, nudge: Any) -> tuple[Any, ...]:
        (w_i,), (w_h,), (b_i,), (b_h,) = _blocks(weights, 1)
        return (nonlinearity(_affine(x, w_i, b_i) + _affine(state[0], w_h, b_h)) + nudge[0],)

    return step


def lstm_step(x: Any, state: Any, weights: Any, nudge: Any) -> tuple[Any, ...]:
    h, c = state
    w, u, b, d = _blocks(weights, 4)
    i, f, g, o = (_affine(x, w[k], b[k]) + _affine(h, u[k], d[k]) for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g) + nudge[1]
    return sigmoid(o) * np.tanh(c) + nudge[0], c


def _gru(reset_after: bool) -> Step:
    def step(x: Any, state: Any, weights: Any, nudge: Any) -> tuple[Any, ...]:
        (h,) = state
        w, u, b, d = _blocks(weights, 3)
        r, z = (sigmoid(_affine(x, w[k], b[k]) + _affine(h, u[k], d[k])) for k in range(2))
        recurrent = r * _affine(h, u[2], d[2]) if reset_after else _affine(r * h, u[2], d[2])
        n = np.tanh(_affine(x, w[2], b[2]) + recurrent)
        return ((1 - z) * n + z * h + nudge[0],)

    return step


STEPS: dict[str, Step] = {
    "rnn tanh": _rnn(np.tanh),
    "rnn relu": _rnn(relu),
    "lstm": lstm_step,
    "gru reset after": _gru(True),
    "gru reset before": _gru(False),
}


def run(step: Step, x: Any, state: Sequence[Any], weights: Sequence[Any], nudges: Any = None) -> tuple[Any, Any]:
    """The outputs of all steps (T, N, H), and the last state."""
    outputs = []
    for t in range(len(x)):
        nudge = (0,) * len(state) if nudges is None else [p[t] for p in nudges]
        state = step(x[t], state, weights, nudge)
        outputs.append(state[0])
    return np.stack(outputs), state


def run_each(
    step: Step, x: Any, state: Sequence[Any], weights: Sequence[Any], lengths: Sequence[int], reverse: bool = False,
    nudges: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """As `run`, each sample alone over its own length, from its end to its start in reverse; outputs beyond are 0."""
    outputs, lasts = [], []
    for s, end in enumerate(lengths):
        there = slice(end - 1, None, -1) if reverse else slice(end)
        own = None if nudges is None else [p[:end, s : s + 1][:: -1 if reverse else 1] for p in nudges]
        turned = x[:end, s : s + 1][:: -1 if reverse else 1]
        output, last = run(step, turned, [f[s : s + 1] for f in state], weights, own)
        whole = np.zeros((len(x), *output.shape[1:]), output.dtype)
        whole[there] = output
        outputs.append(whole)
        lasts.append(last)
    return np.concatenate(outputs, axis=1), [np.concatenate(field) for field in zip(*lasts, strict=True)]


def complex_step(function: Callable[[Any], Any], x: Any, step: float = 1e-100) -> Any:
    """d function / dx, element by element, of an analytic function with a scalar value: Im f(x + ie) / e."""
    slopes = np.empty(np.shape(x))
    for place in np.ndindex(slopes.shape):
        moved = np.array(x, complex)
        moved[place] += 1j * step
        slopes[place] = np.imag(function(moved)) / step
    return slopes


def gradients(function: Callable[..., Any], arrays: Sequence[Any]) -> list[Any]:
    """The derivative of `function(*arrays)`, a scalar, with respect to each array."""
    return [
        complex_step(lambda moved, k=k: function(*arrays[:k], moved, *arrays[k + 1 :]), arrays[k])
        for k in range(len(arrays))
    ]


def state_gradients(
    step: Step, loss: Callable[[Any, Any], Any], x: Any, state: Sequence[Any], weights: Sequence[Any]
) -> list[Any]:
    """The total derivatives dL/dstate_t, (T, N, H) for each field of the state, of L = loss(outputs, last state)."""
    nudges = [np.zeros((len(x), *s.shape)) for s in state]
    return gradients(lambda *moved: loss(*run(step, x, state, weights, moved)), nudges)
