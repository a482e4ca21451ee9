"""What the exercise should give: slices counted by hand, closed forms of perplexity and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    ids = np.array([7, 3, 3, 1, 0, 4])
    inputs, targets = work.pairs(ids, 1, 3)
    judge.in_order("pairs of 7 3 3 1 0 4 from place 1, 3 steps", {"inputs": inputs, "targets": targets},
                   {"inputs": [3, 3, 1], "targets": [3, 1, 0]})  # fmt: skip
    judge.equal("pairs of the whole text: five inputs, five targets", work.pairs(ids, 0, 5)[1], [3, 3, 1, 0, 4])

    judge.equal("a model that spreads p over 10 characters has perplexity 10", work.perplexity(np.full(6, 0.1)), 10.0)
    judge.equal("p = 1, 1/4: perplexity 2, the geometric mean of 1 and 4", work.perplexity(np.array([1, 0.25])), 2.0)

    scores = np.log([0.5, 0.3, 0.2])
    judge.equal("temperature 1 gives softmax", work.tempered(scores, 1.0), [0.5, 0.3, 0.2])
    squares = np.array([0.25, 0.09, 0.04])
    judge.equal("temperature 1/2 squares the odds", work.tempered(scores, 0.5), squares / squares.sum())
    with np.errstate(all="ignore"):
        large = work.tempered(np.array([2000.0, 2000.0, 0.0]), 1.0)
    judge.equal("scores of 2000 do not overflow", large, [0.5, 0.5, 0.0])
