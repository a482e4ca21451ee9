"""How an exercise is checked: what a learner's work gives, beside what it should give."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import engine
from ..engine import Array, Node
from ..errors import HoleError, MismatchError
from .beside import apart, beside, shown

__all__ = ["Judge", "hole"]

_NAN = "it is NaN: 0/0, inf - inf, or the log or root of a negative number?"


def hole(goal: str) -> Any:
    """A place in an exercise that the learner fills: replace the whole call by code that reaches the goal.

    Raises:
        HoleError: Always: it is still open.
    """
    frame = sys._getframe(1)
    raise HoleError(goal, Path(frame.f_code.co_filename).name, frame.f_lineno)


class Judge:
    """Compares; the first thing that is not as it should be ends the check.

    Attributes:
        passed: What has been found right, in its order.
    """

    def __init__(self) -> None:
        self.passed = list[str]()

    def equal(self, what: str, found: Any, expected: Any, *, tolerance: float = 1e-9) -> None:
        """Numbers, arrays, tensors, texts or lists of these agree: |found - expected| <= tolerance (1 + |expected|).

        Raises:
            MismatchError: They are not.
        """
        difference = _difference(found, expected, tolerance)
        if difference is not None:
            raise MismatchError(what, *_beside(expected, found, tolerance), difference)
        self.passed.append(what)

    def in_order(
        self, what: str, found: Mapping[str, Any], expected: Mapping[str, Any], *, tolerance: float = 1e-9
    ) -> None:
        """Named values, in the order in which they are computed: the first one that differs is named.

        Raises:
            MismatchError: One differs or is missing.
        """
        for name, value in expected.items():
            if name not in found:
                raise MismatchError(f"{what}: {name}", shown(value), "nothing", "it is missing")
            difference = _difference(found[name], value, tolerance)
            if difference is not None:
                where = f"{what}: {name} is the first that differs"
                raise MismatchError(where, *_beside(value, found[name], tolerance), difference)
        self.passed.append(what)

    def same_graph(self, what: str, found: Any, expected: Node, *, tolerance: float = 1e-9) -> None:
        """Two recorded computations give the same; else the first node that differs is named.

        Only the results must be alike: how they are reached is the learner's. Where they are not, nodes are
        compared in the order of computation as far as their ops agree.

        Raises:
            MismatchError: The results differ.
        """
        if isinstance(found, Node) and _difference(found, expected, tolerance) is None:
            self.passed.append(what)
            return
        if not isinstance(found, Node):
            raise MismatchError(what, shown(expected), shown(found), "it is no Tensor that records")
        pairs = zip(reversed(engine.topological(found)), reversed(engine.topological(expected)))
        for mine, right in pairs:
            ops = [node.op.name if node.op else "a leaf" for node in (mine, right)]
            where = f"{what}: {ops[1]}{_at(right)} is the first node that differs"
            if ops[0] != ops[1]:
                raise MismatchError(where, f"{ops[1]}{_at(right)}", f"{ops[0]}{_at(mine)}", "another op")
            difference = _difference(mine, right, tolerance)
            if difference is not None:
                raise MismatchError(where, *_beside(right, mine, tolerance), difference)
        raise MismatchError(what, *_beside(expected, found, tolerance), "the result differs")

    def true(self, what: str, holds: bool | np.bool_, found: Any = "not so") -> None:
        """A statement about the learner's work.

        Raises:
            MismatchError: It does not hold.
        """
        if not holds:
            raise MismatchError(what, "", shown(found), "")
        self.passed.append(what)

    def raises(self, what: str, error: type[Exception], call: Callable[[], Any]) -> None:
        """The call ends in this error.

        Raises:
            MismatchError: It does not.
        """
        try:
            given = call()
        except error:
            self.passed.append(what)
        else:
            raise MismatchError(what, error.__name__, shown(given), "no error was raised")


def _at(node: Node) -> str:
    return f" at {' / '.join(node.scope.path)}" if node.scope.path else ""


def _difference(found: Any, expected: Any, tolerance: float) -> str | None:
    """In which way they differ; None if they are alike."""
    if isinstance(expected, Node):
        expected = expected.value
    if isinstance(found, Node):
        found = found.value
    if isinstance(expected, (str, bool, type(None))):
        if type(found) is not type(expected):
            return f"it is of type {type(found).__name__}, not {type(expected).__name__}"
        return None if found == expected else ""
    if isinstance(found, np.ndarray) and isinstance(expected, (list, tuple)):
        expected = np.asarray(expected)
    if isinstance(expected, (list, tuple)) and not all(isinstance(x, (int, float)) for x in expected):
        if not isinstance(found, (list, tuple)) or len(found) != len(expected):
            return f"{len(expected)} values are expected"
        parts = ((k, _difference(a, b, tolerance)) for k, (a, b) in enumerate(zip(found, expected)))
        return next((f"value {k}: {part or 'another one'}" for k, part in parts if part is not None), None)
    if found is None:
        return "it is None: is something returned?"
    try:
        if np.iscomplexobj(found) and not np.iscomplexobj(expected):
            return "it is complex, not real"
        kind = np.complex128 if np.iscomplexobj(expected) else np.float64
        a, b = np.asarray(found, kind), np.asarray(expected, kind)
    except (TypeError, ValueError):
        return f"it is of type {type(found).__name__}, not a number or an array"
    if a.shape != b.shape:
        return f"its shape is {a.shape}, not {b.shape}"
    wrong = _wrong(a, b, tolerance)
    if not wrong.any():
        return None
    if b.ndim == 0:
        with np.errstate(all="ignore"):
            return f"it is off by {a[()] - b[()]:.3g}" if not np.isnan(a) else _NAN
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    mine, right = apart(a[place], b[place])
    return f"{int(wrong.sum())} of {b.size} numbers differ, first at {list(place)}: {mine}, not {right}" + (
        f"; {_NAN}" if np.isnan(a[place]) else ""
    )


def _wrong(a: Array, b: Array, tolerance: float) -> Array:
    """Which numbers of two arrays of one shape do not agree."""
    with np.errstate(all="ignore"):
        near = np.isfinite(b) & (np.abs(a - b) <= tolerance * (1 + np.abs(b)))  # everything is near infinity
        wrong: Array = ~near & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    return wrong


def _beside(expected: Any, found: Any, tolerance: float) -> tuple[str, str]:
    """Both in words; of two lists of arrays the first two that differ, of arrays what is around the first number."""
    expected, found = (x.value if isinstance(x, Node) else x for x in (expected, found))
    if isinstance(expected, (list, tuple)) and isinstance(found, (list, tuple)) and len(expected) == len(found):
        differ = ((a, b) for a, b in zip(expected, found) if _difference(b, a, tolerance) is not None)
        a, b = next(differ, (expected, found))
        if isinstance(a, (Node, np.ndarray)):
            return _beside(a, b, tolerance)
    try:
        if np.iscomplexobj(expected) or np.iscomplexobj(found):
            return beside(expected, found)
        a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    except (TypeError, ValueError):
        return beside(expected, found)
    wrong = _wrong(a, b, tolerance) if a.shape == b.shape else np.zeros(0)
    return beside(expected, found, tuple(int(k) for k in np.argwhere(wrong)[0]) if wrong.any() else None)
