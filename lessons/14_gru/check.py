"""What the exercise should give: the package's cell, and the identity of the two signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, nn, no_grad
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
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

    parts = [{gate: rng.normal(size=size) for gate in "rzn"} for size in ((4, 3), (4, 4), (4,))]
    other = work.other_sign(*parts)
    for gate in "rn":
        judge.equal(f"other_sign leaves the weights of {gate} alone", other[1][gate], parts[1][gate])
    x, h = rng.normal(size=3), rng.normal(size=4)
    gates = [1 / (1 + np.exp(-(w["z"] @ x + u["z"] @ h + b["z"]))) for w, u, b in (parts, other)]
    judge.equal("other_sign: the new gate is 1 - z", gates[1], 1 - gates[0])
