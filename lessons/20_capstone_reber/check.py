"""What the exercise should give: the package's judge of the same strings and scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import Judge
from minigrad.data import tasks


def letters(row: Any) -> str:
    """Which symbols, in the order of the grammar's letters, such as "TP"."""
    return "".join(s for s in tasks.REBER_SYMBOLS if s in row)


def sets(judge: Judge, name: str, given: Any) -> None:
    types = ", ".join(dict.fromkeys(type(row).__name__ for row in given))
    judge.true(f"{name} gives a list of sets", set(map(type, given)) <= {set, frozenset}, f"of type {types}")


def check(work: Any, judge: Judge) -> None:
    given = work.inner_next("BTXSE")
    sets(judge, "inner_next", given)
    inner = [letters(row) for row in given]
    may_come = {"after B": "TP", "after BT": "SX", "after BTX": "SX", "after BTXS": "E", "after BTXSE": ""}
    judge.true("the inner string BTXSE gives five sets", len(inner) == 5, len(inner))
    judge.in_order("the inner string BTXSE: which symbols may come", dict(zip(may_come, inner)), may_come)
    rng = np.random.default_rng(20)
    for embedded, call in ((False, work.inner_next), (True, work.embedded_next)):
        if embedded:
            sets(judge, "embedded_next", call("BTBTXSETE"))
        for string in tasks.reber_strings(8, embedded=embedded, rng=rng):
            legal = tasks.reber_legal(string, embedded=embedded)
            right = {f"after {string[: t + 1]}": letters(np.array([*tasks.REBER_SYMBOLS])[row])
                     for t, row in enumerate(legal)}  # fmt: skip
            rows = [letters(row) for row in call(string)]
            mine = dict(zip(right, rows))
            judge.in_order(f"what may come in the {'embedded' if embedded else 'inner'} string {string}", mine, right)

    judge.equal("B T … P E, which is no legal string: what was read second decides, not what comes",
                letters(work.embedded_next("BTBTXSEPE")[-2]), "T")  # fmt: skip

    string = "BTBTXSETE"
    legal = tasks.reber_legal(string, embedded=True)
    following = [{s for s, ok in zip(tasks.REBER_SYMBOLS, row, strict=True) if ok} for row in legal]
    scores = np.where(legal, 1.0, 0.0)
    found = bool(work.foreseen(scores, following))
    judge.equal("scores of 1 for all that may come and 0 for the rest: foreseen", found, True)
    one = scores.copy()
    one[0, tasks.REBER_SYMBOLS.index("P")] = -1
    found = bool(work.foreseen(one, following))
    judge.equal("where T or P may come, P scores lowest of all: not foreseen", found, False)
    one = scores.copy()
    one[-2, tasks.REBER_SYMBOLS.index("P")] = 2
    judge.equal("at the second T, P scores higher: not foreseen", bool(work.foreseen(one, following)), False)
    judge.equal("all scores equal: not foreseen", bool(work.foreseen(np.zeros(legal.shape), following)), False)
    judge.equal("only the order counts: scores of -3 and -5", bool(work.foreseen(2 * scores - 5, following)), True)
    noises = [scores + rng.normal(0, 0.22, legal.shape) for _ in range(20)]
    right_ones = [float(tasks.predicts_legal(noise, legal).all()) for noise in noises]
    judge.equal("20 networks with noisy scores, 1 for foreseen, else 0",
                [float(work.foreseen(noise, following)) for noise in noises], right_ones)  # fmt: skip
