"""What the exercise should give: numbers that can be checked in the head, and minigrad's own clipping."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, clip_grad_norm, clip_grad_value
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    judge.equal("the arrays [3] and [4] together are a vector of length 5",
                work.total_norm([np.array([3.0]), np.array([4.0])]), 5.0)  # fmt: skip
    judge.equal("a matrix counts with all its numbers: [[1, 1], [1, 1]] has length 2",
                work.total_norm([np.ones((2, 2))]), 2.0)  # fmt: skip

    judge.equal("length 5, threshold 1: times 0.2", work.coefficient(5.0, 1.0), 0.2)
    judge.equal("length 0.5, threshold 1: stays (times 1)", work.coefficient(0.5, 1.0), 1.0)
    judge.equal("length 0: stays, and nothing is divided by 0", work.coefficient(0.0, 1.0), 1.0)

    rng = np.random.default_rng(0)
    for size, threshold in ((1.0, 0.5), (100.0, 5.0), (1e-3, 1.0)):
        gradients = [size * rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (4,))]
        for kind, mine, clip in (
            ("norm", work.clip_by_norm, clip_grad_norm), ("value", work.clip_by_value, clip_grad_value)
        ):  # fmt: skip
            tensors = []
            for g in gradients:
                tensor = Tensor(np.zeros_like(g), requires_grad=True)
                tensor.grad = g.copy()
                tensors.append(tensor)
            given = [g.copy() for g in gradients]
            found = mine(given, threshold)
            clip(tensors, threshold)
            judge.true(f"clip_by_{kind} gives a list of as many arrays as it gets: 3",
                       isinstance(found, list) and len(found) == 3,
                       f"{len(found)}" if isinstance(found, list) else f"of type {type(found).__name__}")  # fmt: skip
            judge.true(f"clip_by_{kind} leaves the arrays that it gets as they are",
                       all(np.array_equal(a, b) for a, b in zip(given, gradients, strict=True)),
                       "changed; make new ones")  # fmt: skip
            names = [f"gradients[{k}]" for k in range(3)]
            judge.in_order(f"gradients of size {size:g}, by {kind}, C = {threshold:g}", dict(zip(names, found)),
                           {name: t.grad for name, t in zip(names, tensors)})  # fmt: skip

    judge.equal("lr = 0.1 and C = 5: no update is longer than 0.5", work.longest_update(0.1, 5.0), 0.5)
    judge.equal("lr = 2 and C = 0.25: no update is longer than 0.5", work.longest_update(2.0, 0.25), 0.5)
