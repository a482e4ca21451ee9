"""What the exercise should give: derivatives written out by hand."""

from __future__ import annotations

from typing import Any

from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    a, b = work.Number(2.0), work.Number(-3.0)
    judge.equal("a = 2, b = -3, gradient 5: a * b hands 5 · b to a and 5 · a to b", work.pull_back(a * b, 5.0),
                [-15.0, 10.0])  # fmt: skip

    y = a + a
    judge.equal("y = a + a: dy/da = 2, as a is used twice", work.backward([y, a])[a], 2.0)

    square = a * a
    cubic = square * a
    y = cubic + b
    found = work.backward([y, cubic, square, a, b])
    names = {"a·a·a": cubic, "a·a": square, "b": b, "a": a}
    right = {"a·a·a": 1.0, "a·a": 2.0, "b": 1.0, "a": 12.0}  # dy/da = 3 a²
    judge.in_order("y = a·a·a + b at a = 2, b = -3", {name: found.get(n) for name, n in names.items()}, right)
