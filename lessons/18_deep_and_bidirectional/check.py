"""What the exercise should give: orders written by hand, and the package's bidirectional layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import nn, no_grad
from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    steps = np.arange(1.0, 9.0).reshape(4, 2, 1)  # sample 0: 1 3 5 7, sample 1: 2 4 6 8
    turned = work.reversed_by_length(steps, np.array([4, 2]))
    judge.in_order("reversed_by_length of 1 3 5 7 and, with two real steps, 2 4 6 8",
                   {"4 steps of 4": turned[:, 0, 0], "2 steps of 4": turned[:, 1, 0]},
                   {"4 steps of 4": [7.0, 5, 3, 1], "2 steps of 4": [4.0, 2, 6, 8]})  # fmt: skip

    rng = np.random.default_rng(18)
    for lengths in map(np.array, ([5, 5], [5, 2, 1], [3])):
        longest, batch = max(lengths), len(lengths)
        layer = nn.GRU(3, 4, bidirectional=True, dtype=np.float64, rng=rng)
        halves = []
        for ending in ("", "_reverse"):
            half = nn.GRU(3, 4, dtype=np.float64)
            half.load_state_dict({name: layer.state_dict()[name + ending] for name in half.state_dict()})
            halves.append(half)
        x = rng.normal(size=(longest, batch, 3))
        with no_grad():
            right, state = layer(x, lengths=lengths)
            walks = [lambda v, half=half: half(v)[0].numpy().copy() for half in halves]
            found = work.both_directions(*walks, x, lengths)
        real = np.arange(longest)[:, np.newaxis] < np.array(lengths)
        what = f"both_directions with lengths {lengths}, at the real steps"
        judge.equal(what, found[real], right.numpy()[real])
        ends = np.concatenate(list(state.numpy()), axis=1)
        judge.equal(f"summary with lengths {lengths}: the two last states", work.summary(found, lengths), ends)

    losses = np.array([[2.0, 4.0], [6.0, 100.0]])
    judge.equal("masked_mean of 2, 4, 6 and a padding of 100", work.masked_mean(losses, np.array([2, 1])), 4.0)
    judge.equal("masked_mean without padding", work.masked_mean(losses, np.array([2, 2])), 28.0)
