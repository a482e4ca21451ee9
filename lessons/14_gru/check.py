"""What the exercise should give: steps whose gates stand at 0, 1/2 or 1, the package's cell, the other sign."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, nn, no_grad
from minigrad.course import Judge

H = np.array([0.5, -0.25])  # h_{t-1} of two units
SHUT, HALF, OPEN = -40.0, 0.0, 40.0  # biases of a gate whose weights are 0


def check(work: Any, judge: Judge) -> None:
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])

    def step(r: list[float], z: float, U_n: Any, b_n: float, *, reset_after: bool) -> Any:
        """h_t where only biases and U_n count."""
        W, U = (dict.fromkeys("rzn", np.zeros(shape)) for shape in ((2, 1), (2, 2)))
        b = {"r": np.array(r), "z": np.full(2, z), "n": np.full(2, b_n)}
        return work.gru_step(np.zeros(1), H, W, {**U, "n": U_n}, b, reset_after)

    n = np.tanh(1.0)
    for z, bias, mixed, right in (
        (1, OPEN, "h_{t-1}: all of it is kept", H), (0, SHUT, "n: nothing is kept", np.array([n, n])),
        ("1/2", HALF, "the mean of both", (H + n) / 2),
    ):  # fmt: skip
        judge.equal(f"gru_step: h_{{t-1}} = (0.5, -0.25), n = {n:.4f}, z = {z}: h_t is {mixed}",
                    step([HALF, HALF], bias, 0 * swap, 1, reset_after=True), right)  # fmt: skip
    for reset_after, order, seen in ((True, "after", [-0.25, 0.0]), (False, "before", [0.0, 0.5])):
        what = (f"gru_step: h_{{t-1}} = (0.5, -0.25), U_n swaps units, r = (1, 0), reset {order} the product, z = 0: "
                f"n sees {tuple(seen)}, and h_t is its tanh")  # fmt: skip
        judge.equal(what, step([OPEN, SHUT], SHUT, swap, 0, reset_after=reset_after), np.tanh(seen))

    rng = np.random.default_rng(14)
    for reset_after in (True, False):
        for features, hidden in ((3, 4), (1, 1), (5, 7)):
            cell = nn.GRUCell(features, hidden, reset_after=reset_after, dtype=np.float64, rng=rng)
            found = {name: array.copy() for name, array in cell.state_dict().items()}
            found["bias_hh"][:] = 0  # one bias is enough here
            cell.load_state_dict(found)
            parts = [dict(zip("rzn", np.split(found[name], 3), strict=True))
                     for name in ("weight_ih", "weight_hh", "bias_ih")]  # fmt: skip
            x, h = rng.normal(size=features), rng.normal(size=hidden)
            with no_grad():
                right = cell.step(Tensor(x[np.newaxis]), nn.GRUState(Tensor(h[np.newaxis]))).h.numpy()[0]
            order = "after" if reset_after else "before"
            what = f"gru_step with reset {order} the product, C={features}, H={hidden}"
            judge.equal(what, work.gru_step(x, h, *parts, reset_after), right)

    twos = [dict.fromkeys("rzn", np.full(shape, 2.0)) for shape in ((1, 1), (1, 1), (1,))]
    names = ("W_z", "U_z", "b_z")
    judge.in_order("other_sign where every weight is 2: 1 - σ(a) = σ(-a), so each part of a_z changes its sign",
                   {name: part["z"] for name, part in zip(names, work.other_sign(*twos))},
                   {name: -part["z"] for name, part in zip(names, twos)})  # fmt: skip
    parts = [{gate: rng.normal(size=size) for gate in "rzn"} for size in ((4, 3), (4, 4), (4,))]
    other = work.other_sign(*parts)
    for gate in "rn":
        judge.equal(f"other_sign leaves the weights of {gate} alone", other[1][gate], parts[1][gate])
    x, h = rng.normal(size=3), rng.normal(size=4)
    gates = [1 / (1 + np.exp(-(w["z"] @ x + u["z"] @ h + b["z"]))) for w, u, b in (parts, other)]
    judge.equal("other_sign: the new gate is 1 - z", gates[1], 1 - gates[0])
