"""What the exercise should give: numbers for the head, the engine's gradients part by part, and minigrad's LSTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, bptt, nn
from minigrad.course import Judge

PARTS = {
    "through_h": ("dL/do", "dL/dC"),
    "through_c": ("dL/df", "dL/di", "dL/dg", "dL/dC_before"),
    "through_gates": ("dL/da",),
    "through_sum": ("dL/dW_ih", "dL/dW_hh", "dL/db", "dL/dx", "dL/dh_before"),
}


def check(work: Any, judge: Judge) -> None:
    one, column = np.ones((1, 1)), np.array([[1.0], [2.0], [3.0], [4.0]])
    step = {"i": 0.5 * one, "f": 0.25 * one, "g": -0.5 * one, "o": 0.1 * one, "c": np.arctanh(0.5 * one),
            "h": 0.05 * one}  # fmt: skip
    cases = [_case(*size) for size in ((1, 3, 2), (4, 2, 3), (3, 1, 5))]

    def part(name: str, head: str, found: Any, right: tuple[Any, ...], of: Callable[[dict[str, Any]], Any]) -> None:
        """One part of the step: an example for the head, then the engine's gradients at three sizes."""
        judge.in_order(f"{name}: {head}", dict(zip(PARTS[name], found)), dict(zip(PARTS[name], right)))
        found = {f"{key}, {c['size']}": value for c in cases for key, value in zip(PARTS[name], of(c))}
        right_ones = {f"{key}, {c['size']}": c[key] for c in cases for key in PARTS[name]}
        judge.in_order(f"{name}: beside the engine", found, right_ones, tolerance=1e-10)

    part("through_h", "o = 0.1, tanh(C) = 0.5; dL/dh = 2, and dL/dC = 1 from step t + 1: C gets 1 + 2·0.1·0.75",
         work.through_h(step, 2 * one, one), (one, 1.15 * one),
         lambda c: work.through_h(c["step"], c["d_h"], c["d_c"]))  # fmt: skip
    part("through_c", "f = 0.25, C_before = 3, i = 0.5, g = -0.5; dL/dC = 2",
         work.through_c(step, 3 * one, 2 * one), (6 * one, -one, one, 0.5 * one),
         lambda c: work.through_c(c["step"], c["c_before"], c["dL/dC"]))  # fmt: skip
    part("through_gates", "i, f, g, o = 0.5, 0.25, -0.5, 0.1, their gradients 4, 16, 4, 100: a_i gets 4·0.5·(1 - 0.5)",
         (work.through_gates(step, 4 * one, 16 * one, 4 * one, 100 * one),), (np.array([[1.0, 3, 3, 9]]),),
         lambda c: (work.through_gates(c["step"], c["dL/di"], c["dL/df"], c["dL/dg"], c["dL/do"]),))  # fmt: skip
    part("through_sum", "two samples with x = 1, 2 and h_before = 0, 1; only a_i of the first and a_o of the second "
         "have a gradient, 1", work.through_sum(np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]]), column, 10 * column,
                                                np.array([[1.0, 0, 0, 0], [0, 0, 0, 1]])),
         (column * [[1], [0], [0], [0.5]], column * [[0], [0], [0], [0.25]], np.array([1.0, 0, 0, 1]),
          np.array([[1.0], [4]]), np.array([[10.0], [40]])),
         lambda c: work.through_sum(c["x"], c["h_before"], c["W_ih"], c["W_hh"], c["dL/da"]))  # fmt: skip

    for c in cases:
        found = work.backward(*(c[k] for k in ("x", "h_before", "c_before", "W_ih", "W_hh", "step", "d_h", "d_c")))
        judge.in_order(f"all in a row, beside minigrad's nn.LSTM, {c['size']}", found, c["of_lstm"], tolerance=1e-10)


def _case(batch: int, features: int, hidden: int) -> dict[str, Any]:
    """What a step of an nn.LSTM is given, and all its gradients: by the engine's ops, and by the layer."""
    rng = np.random.default_rng(hidden)
    lstm = nn.LSTM(features, hidden, rng=rng, dtype=np.float64)
    w = {name.removesuffix("_l0"): p for name, p in lstm.state_dict().items()}
    given = {"x": rng.standard_normal((batch, features)), "W_ih": w["weight_ih"], "W_hh": w["weight_hh"],
             "b": w["bias_ih"] + w["bias_hh"]}  # fmt: skip
    given |= dict(zip(("h_before", "c_before", "d_h", "d_c"), rng.standard_normal((4, batch, hidden))))

    x, h_before, c_before, W_ih, W_hh, b = (
        Tensor(given[name], requires_grad=True) for name in ("x", "h_before", "c_before", "W_ih", "W_hh", "b")
    )  # fmt: skip
    a = x @ W_ih.T + h_before @ W_hh.T + b
    i, f, g, o = (gate(a[:, k * hidden : (k + 1) * hidden]) for k, gate in
                  enumerate((mg.sigmoid, mg.sigmoid, mg.tanh, mg.sigmoid)))  # fmt: skip
    c = f * c_before + i * g
    h = o * mg.tanh(c)
    loss = (h * given["d_h"]).sum() + (c * given["d_c"]).sum()
    nodes = {"dL/do": o, "dL/dC": c, "dL/df": f, "dL/di": i, "dL/dg": g, "dL/dC_before": c_before, "dL/da": a,
             "dL/dW_ih": W_ih, "dL/dW_hh": W_hh, "dL/db": b, "dL/dx": x, "dL/dh_before": h_before}  # fmt: skip
    gradients = dict(zip(nodes, map(np.asarray, mg.grad(loss, [*nodes.values()]))))

    inputs, *first = (Tensor(given[name][np.newaxis], requires_grad=True) for name in ("x", "h_before", "c_before"))
    _, (h_1, c_1) = lstm(inputs, first)
    record = bptt.backward((h_1 * given["d_h"]).sum() + (c_1 * given["d_c"]).sum())
    of_lstm = {f"dL/d{name}": record.parameters[f"{long}_l0"].gradient
               for name, long in (("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("b", "bias_ih"))}  # fmt: skip
    for name, leaf in zip(("dL/dx", "dL/dh_before", "dL/dC_before"), (inputs, *first)):
        assert leaf.grad is not None
        of_lstm[name] = leaf.grad[0]
    step = {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}
    return {**given, **gradients, "step": {name: gate.numpy() for name, gate in step.items()}, "of_lstm": of_lstm,
            "size": f"N={batch}, C={features}, H={hidden}"}  # fmt: skip
