"""One number: the chain rule on a graph, in an engine of forty lines that is built here from nothing.

The package's own engine is in minigrad/engine.py; from lesson 2 on, lessons use that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad.course import Narrator, narrate
from minigrad.views import draw

Array = npt.NDArray[np.float64]


class Number:
    """A value, its parents, and the derivative with respect to each."""

    def __init__(
        self, value: npt.ArrayLike, name: str,
        parents: tuple[Number, ...] = (), local: tuple[Array, ...] = (),
    ) -> None:  # fmt: skip
        self.value = np.asarray(value, np.float64)
        self.name, self.parents = name, parents
        self.local = local  # local[k] = d self / d parents[k]

    def __add__(self, other: Number) -> Number:
        name, one = f"({self.name} + {other.name})", np.ones(())
        return Number(self.value + other.value, name, (self, other), (one, one))

    def __mul__(self, other: Number) -> Number:
        name, local = f"{self.name}·{other.name}", (other.value, self.value)
        return Number(self.value * other.value, name, (self, other), local)

    def tanh(self) -> Number:
        y = np.tanh(self.value)
        return Number(y, f"tanh({self.name})", (self,), (1 - y * y,))


def users_first(last: Number) -> list[Number]:
    """Every node after all nodes that use it."""
    waiting: dict[Number, int] = {}
    stack = [last]
    while stack:
        for parent in (node := stack.pop()).parents:
            if parent not in waiting:
                stack.append(parent)
            waiting[parent] = waiting.get(parent, 0) + 1
    order, ready = list[Number](), [last]
    while ready:
        order.append(node := ready.pop())
        for parent in node.parents:
            waiting[parent] -= 1
            if waiting[parent] == 0:
                ready.append(parent)
    return order


def as_found(last: Number) -> Iterator[Number]:
    """Every node once, when a walk from the last one first finds it: what comes to mind first, and is wrong."""
    stack, seen = [last], {last}
    while stack:
        yield (node := stack.pop(0))
        new = [p for p in dict.fromkeys(node.parents) if p not in seen]
        seen.update(new)
        stack += new


def shrunk(part: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which a value of this shape was repeated."""
    part = np.asarray(part.sum(axis=tuple(range(part.ndim - len(shape)))))
    repeated = tuple(k for k, n in enumerate(shape) if n == 1 and part.shape[k] != 1)
    return np.asarray(part.sum(axis=repeated, keepdims=True))


def backward(
    last: Number, *, adds: bool = True, waits: bool = True, shrinks: bool = True
) -> dict[Number, Array]:
    """d last / d node; each word that is False makes it wrong on purpose."""
    gradients = {last: np.ones_like(last.value)}
    for node in users_first(last) if waits else as_found(last):
        for parent, local in zip(node.parents, node.local, strict=True):
            part = gradients[node] * local  # the chain rule
            if shrinks:
                part = shrunk(part, parent.value.shape)
            if adds and parent in gradients:
                part = gradients[parent] + part
            gradients[parent] = part
    return gradients


def measured(build: Callable[..., Number], at: dict[str, Array]) -> dict[str, Array]:
    """The same by experiment: move each input a little up and down (central differences)."""
    slopes, little = {}, 1e-6
    for name, value in at.items():
        slopes[name] = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            ends = []
            for step in (little, -little):
                moved = value.copy()
                moved[place] += step
                ends.append(build(**{k: Number(moved if k == name else v, k) for k, v in at.items()}).value.sum())
            slopes[name][place] = (ends[0] - ends[1]) / (2 * little)
    return slopes


def first_wrong(build: Callable[..., Number], at: dict[str, Array], **engine: bool) -> str:
    """The name of the first node, on the way back, whose gradient is not that of the right engine."""
    last = build(**{name: Number(value, name) for name, value in at.items()})
    right, found = backward(last), backward(last, **engine)
    for node in users_first(last):
        if found[node].shape != right[node].shape or not np.allclose(found[node], right[node]):
            return node.name
    return "none"


def once_twice(a: Number, b: Number) -> Number:
    return (a * b).tanh() + a * a


def waits_for_all(a: Number, b: Number) -> Number:
    c = a * b
    return (c.tanh() * a) + c  # c is used early and late


def repeated(a: Number, b: Number) -> Number:
    return (a * b).tanh()  # a has one row, b three: a is used three times without a word


def lesson(lesson: Narrator) -> None:
    a, b = (float(x) for x in lesson.rng().uniform(0.3, 0.9, 2))
    lesson.question(
        "`y = a + a`. When a grows by 1, y grows by 2. In an engine that differentiates programs, **which line makes "
        "that a 2**, and how wrong is everything without it?"
    )

    lesson.step("1. A graph of numbers")
    lesson.say("""
        An engine of its own, from nothing: a `Number` knows its value, the numbers it was made from (its parents),
        and for each the *local* derivative: how much it moves when only that parent moves.
    """)
    lesson.source(Number)

    lesson.step("2. The chain rule: multiply along a path, add where paths meet")
    lesson.formula("dL/dparent  =  Σ over all uses of the parent   dL/dnode · dnode/dparent")
    lesson.source(backward)
    lesson.say("""
        `users_first` puts every node behind all nodes that use it. What `adds`, `waits` and `shrinks` are good for is
        seen in step 4, where each of them is left out once.
    """)
    inputs = {"a": np.array(a), "b": np.array(b)}
    y = once_twice(**{name: Number(value, name) for name, value in inputs.items()})
    gradients = {node.name: float(g) for node, g in backward(y).items()}
    by_hand = (1 - math.tanh(a * b) ** 2) * b + 2 * a
    slopes = measured(once_twice, inputs)
    table = Table("node", "gradient by the engine", "by experiment", title=f"y = {y.name} at a = {a:.3f}, b = {b:.3f}")
    for name, gradient in gradients.items():
        table.add_row(name, f"{gradient:.9f}", f"{float(slopes[name]):.9f}" if name in slopes else "")
    lesson.show(table)
    lesson.claim("dy/da has three parts: one through tanh(a·b), two through a·a, and they add up to "
                 f"(1 - tanh²(ab))·b + a + a = {by_hand:.6f}", math.isclose(gradients["a"], by_hand))  # fmt: skip
    lesson.claim("moving a and b a little in an experiment gives the same to six digits",
                 all(math.isclose(gradients[name], float(slopes[name]), rel_tol=1e-6) for name in slopes))  # fmt: skip

    lesson.step("3. minigrad does the same, and draws it")
    ta, tb = (mg.Tensor(np.array(x), requires_grad=True, name=n) for x, n in ((a, "a"), (b, "b")))
    loss = mg.tanh(ta * tb) + ta * ta
    lesson.picture("before", draw.graph(mg.bptt.record(loss)), "The graph before: grey, no gradient is known.")
    record = mg.bptt.backward(loss, keep="ops")
    lesson.picture("after", draw.graph(record), """
        The graph after `backward`: read it from the result back to the left. In each box stand the value and, as g,
        its gradient. Three arrows come back to **a**, one from a·b and two from a·a. Rest the mouse on them: their
        numbers are the three parts of its gradient.
    """)
    lesson.claim("the engine of the package gives the same gradients",
                 ta.grad is not None and math.isclose(float(ta.grad), gradients["a"]))  # fmt: skip

    lesson.step("4. Three engines that are wrong on purpose")
    lesson.say("""
        - **`=` in place of `+=`**: the last use overwrites the others.
        - **It does not wait**: a node passes its gradient on before all its users have reported.
        - **It forgets broadcasting**: one row that was used for three gets three gradients in place of their sum.

        Going back from the result, which is the first node that each gets wrong?
    """)
    rows = {"a": lesson.rng(1).uniform(0.3, 0.9, (1, 2)), "b": lesson.rng(2).uniform(0.3, 0.9, (3, 2))}
    wrong = {
        "= in place of +=": (once_twice, first_wrong(once_twice, inputs, adds=False)),
        "does not wait": (waits_for_all, first_wrong(waits_for_all, inputs, waits=False)),
        "forgets broadcasting": (repeated, first_wrong(repeated, rows, shrinks=False)),
    }
    table = Table("engine", "program", "first wrong node")
    for name, (program, node) in wrong.items():
        symbols = program(Number(rows["a"], "a"), Number(rows["b"], "b")).name
        table.add_row(name, symbols, node)
    lesson.show(table)
    lesson.claim("with = the first wrong gradient is that of a: it is the only node that is used more than once",
                 wrong["= in place of +="][1] == "a")  # fmt: skip
    y = waits_for_all(Number(a, "a"), c := Number(b, "b"))
    lesson.claim("an engine that does not wait passes a·b's gradient on before its second half is there: b, behind "
                 "it, gets too little", wrong["does not wait"][1] == "b"
                 and float(backward(y, waits=False)[c]) < float(backward(y)[c]))  # fmt: skip
    lesson.claim("an engine that forgets broadcasting gives a, one row, a gradient of three rows",
                 wrong["forgets broadcasting"][1] == "a")  # fmt: skip
    lesson.claim("the right engine gets none of the three programs wrong",
                 all(first_wrong(p, rows) == "none" for p, _ in wrong.values()))  # fmt: skip
    lesson.answer(
        "The 2 is made by **one plus sign**: a gradient is the *sum* over all uses. An RNN uses the same weight at "
        "every time step, so its gradient is a sum over time: that is all there is to backpropagation through time "
        "(lesson 4). Without the `+`, only the part found last would be left, that of the first step."
    )


if __name__ == "__main__":
    narrate(lesson, __file__)
