"""What the exercise should give: minigrad's own gradients, and slopes known by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(2)
    for n, k, m in ((2, 3, 4), (3, 3, 3), (1, 5, 1)):
        a, b = (mg.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((n, k), (k, m)))
        given = rng.standard_normal((n, m))
        ((a @ b) * given).sum().backward()
        d_a, d_b = work.product_back(given, a.numpy(), b.numpy())
        sizes = f"c = a @ b with N={n}, K={k}, M={m}"
        judge.in_order(sizes, {"dL/da": d_a, "dL/db": d_b}, {"dL/da": a.grad, "dL/db": b.grad})

    for shape in ((3,), (1, 3), (4, 1), (), (1, 1), (4, 3)):
        value = mg.Tensor(rng.standard_normal(shape), requires_grad=True)
        given = rng.standard_normal((4, 3))
        ((value + np.zeros((4, 3))) * given).sum().backward()
        judge.equal(f"a value of shape {shape}, broadcast to (4, 3)", work.sum_to(given, shape), value.grad)
    judge.equal("a value of shape (2, 1), broadcast to (5, 2, 3): both ways at once",
                work.sum_to(np.ones((5, 2, 3)), (2, 1)), np.array([[15.0], [15.0]]))  # fmt: skip

    for n, classes in ((1, 3), (5, 4)):
        scores = mg.Tensor(rng.standard_normal((n, classes)) * 3, requires_grad=True)
        right = rng.integers(0, classes, n)
        nn.cross_entropy(scores, right).backward()
        found = work.scores_back(scores.numpy(), right)
        judge.equal(f"cross entropy, the mean of N={n} sample{'s' * (n > 1)}, V={classes} classes", found, scores.grad)

    judge.equal("the slope of x³ at 2, by difference", work.slope(lambda x: x**3, 2.0), 12.0, tolerance=1e-8)
    found = work.slope(lambda x: x**3, 1.0, 0.5)
    judge.equal("the same at 1 with e = 0.5: 3 + e², an error of order e²", found, 3.25)
