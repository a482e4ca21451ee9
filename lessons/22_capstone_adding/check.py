"""What the exercise should give: judged by running it, against the score of one who remembers nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, no_grad
from minigrad.course import Judge
from minigrad.data import tasks


def check(work: Any, judge: Judge) -> None:
    model = work.Adder(np.random.default_rng(22))
    size = model.layer.hidden_size
    judge.true("the layer has at most 32 units", size <= 32, f"{size} units")
    for batch in (5, 1):
        task = tasks.adding(work.STEPS, batch, rng=np.random.default_rng(batch))
        answers = model(task.inputs)
        what = f"{batch} sequences give {batch} answers, of shape ({batch},)"
        judge.true(what, isinstance(answers, Tensor) and answers.shape == (batch,),
                   getattr(answers, "shape", "nothing with a shape"))  # fmt: skip
    output, _ = model.layer(task.inputs)
    with no_grad():
        last = model.readout(output[-1]).reshape(-1)
    judge.equal("the answer is read from the state after the last step", answers, last, tolerance=1e-5)

    before = [p.numpy().copy() for p in model.parameters()]
    work.train(model, np.random.default_rng(0), updates=1)
    after = [p.numpy() for p in model.parameters()]
    moved = [bool((a != b).any()) for a, b in zip(after, before, strict=True)]
    judge.true("an update moves every parameter", all(moved), f"{moved.count(False)} of {len(moved)} have not moved")
    far = max(float(np.abs(a - b).max()) for a, b in zip(after, before, strict=True))
    judge.true("the first update of Adam moves each number by at most its rate, 0.01", far < 0.011, f"{far:.3g}")

    for seed in (0, 1):
        model = work.Adder(np.random.default_rng([seed, 1]))
        work.train(model, np.random.default_rng([seed, 2]))
        test = tasks.adding(work.STEPS, 500, rng=np.random.default_rng([seed, 3]))
        found, limit = work.error(model, test), tasks.adding_baseline() / 2
        what = f"after 300 updates the error is less than half of 1/6, that is {limit:.4f} (start {seed + 1} of 2)"
        judge.true(what, found < limit, f"{found:.4f}")
