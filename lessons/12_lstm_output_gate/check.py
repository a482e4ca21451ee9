"""What the exercise should give: the engine's gradient of every intermediate, and those of minigrad's LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, bptt, nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    # One unit in the head: a = 0, so i = f = o = 1/2 and g = 0; C = 0 and tanh(C) = 0.
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    weights = (np.zeros((4, 1)), np.zeros((4, 1)))
    step = work.forward(one, zero, zero, *weights, np.zeros(4))
    found = work.backward(one, zero, zero, *weights, step, one, one)
    right = {"dL/do": zero, "dL/dC": 1.5 * one, "dL/df": zero, "dL/di": zero, "dL/dg": 0.75 * one,
             "dL/dC_before": 0.75 * one, "dL/da": np.array([[0.0, 0.0, 0.75, 0.0]])}  # fmt: skip
    judge.in_order("all weights 0, dL/dh = 1 and 1 from step t + 1: C gets 1 + 1·0.5", found, right)

    for batch, features, hidden in ((1, 3, 2), (4, 2, 3), (3, 1, 5)):
        rng = np.random.default_rng(hidden)
        lstm = nn.LSTM(features, hidden, rng=rng, dtype=np.float64)
        w = {name.removesuffix("_l0"): p for name, p in lstm.state_dict().items()}
        x = rng.standard_normal((batch, features))
        h_before, c_before, d_h, d_c = rng.standard_normal((4, batch, hidden))
        b = w["bias_ih"] + w["bias_hh"]
        step = work.forward(x, h_before, c_before, w["weight_ih"], w["weight_hh"], b)
        found = work.backward(x, h_before, c_before, w["weight_ih"], w["weight_hh"], step, d_h, d_c)
        where = f"N={batch}, C={features}, H={hidden}"
        right = _recorded(x, h_before, c_before, w["weight_ih"], w["weight_hh"], b, d_h, d_c)
        judge.in_order(f"{where}, every intermediate", found, right, tolerance=1e-10)

        first = [Tensor(a[np.newaxis], requires_grad=True) for a in (h_before, c_before)]
        inputs = Tensor(x[np.newaxis], requires_grad=True)
        _, (h, c) = lstm(inputs, first)
        record = bptt.backward((h * d_h).sum() + (c * d_c).sum())
        gradients = {name: record.parameters[f"{name}_l0"].gradient for name in ("weight_ih", "weight_hh", "bias_ih")}
        right = dict(zip(("dL/dW_ih", "dL/dW_hh", "dL/db"), gradients.values()))
        given = ("dL/dx", "dL/dh_before", "dL/dC_before")
        right |= {name: t.grad[0] for name, t in zip(given, (inputs, *first)) if t.grad is not None}
        judge.in_order(f"{where}, minigrad's nn.LSTM", found, right, tolerance=1e-10)


def _recorded(*given: Any) -> dict[str, Any]:
    """The same by the engine, from a graph of one step."""
    x, h_before, c_before, W_ih, W_hh, b = (Tensor(a, requires_grad=True) for a in given[:6])
    d_h, d_c = given[6:]
    size = d_h.shape[1]
    a = x @ W_ih.T + h_before @ W_hh.T + b
    i, f, g, o = (gate(a[:, k * size : (k + 1) * size]) for k, gate in
                  enumerate((mg.sigmoid, mg.sigmoid, mg.tanh, mg.sigmoid)))  # fmt: skip
    c = f * c_before + i * g
    loss = (o * mg.tanh(c) * d_h).sum() + (c * d_c).sum()
    names = {"dL/do": o, "dL/dC": c, "dL/df": f, "dL/di": i, "dL/dg": g, "dL/dC_before": c_before, "dL/da": a,
             "dL/dW_ih": W_ih, "dL/dW_hh": W_hh, "dL/db": b, "dL/dx": x, "dL/dh_before": h_before}  # fmt: skip
    return dict(zip(names, (np.asarray(gradient) for gradient in mg.grad(loss, [*names.values()]))))
