"""The judge: what agrees passes, what differs is named, the first thing first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.course import Judge, hole
from minigrad.errors import HoleError, MismatchError

ALIKE: dict[str, tuple[Any, Any]] = {
    "numbers": (0.1 + 0.2, 0.3),
    "whole and real": (3, 3.0),
    "arrays": (np.ones((2, 1)), np.ones((2, 1))),
    "float32 and float64": (np.float32(0.5), 0.5),
    "nan": (np.nan, np.nan),
    "infinite": (np.inf, np.inf),
    "tuple and list": ((1.0, 2.0), [1.0, 2.0]),
    "texts": ("a", "a"),
    "nothing": (None, None),
    "truth": (True, True),
    "arrays in a list": ([np.ones(2), np.zeros(3)], (np.ones(2), np.zeros(3))),
    "empty": (np.zeros((0, 2)), np.zeros((0, 2))),
}
OTHER: dict[str, tuple[Any, Any, str]] = {
    "numbers": (1.0, 2.0, "off by -1"),
    "nan": (np.nan, 1.0, "it is NaN: 0/0"),
    "nan in an array": (np.array([1.0, np.nan]), np.array([1.0, 2.0]), r"first at \[1\]: nan, not 2; it is NaN: 0/0"),
    "infinite": (-np.inf, np.inf, "off by"),
    "shape": (np.ones((2, 1)), np.ones((1, 2)), r"shape is \(2, 1\), not \(1, 2\)"),
    "an element": (np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]), r"1 of 3 .*first at \[2\]: 4, not 3"),
    "nothing for a number": (None, 1.0, "is something returned"),
    "nothing for nan": (None, np.nan, "is something returned"),
    "a number for infinite": (1.0, np.inf, "off by"),
    "text for a number": ("one", 1.0, "type str"),
    "number for a text": (1, "1", "of type int, not str"),
    "1 for True": (1, True, "of type int, not bool"),
    "False for True": (False, True, "expected True, found False"),
    "complex for real": (np.array([1j]), np.array([0.0]), "complex"),
    "too few": ([np.ones(2)], [np.ones(2), np.ones(2)], "2 values are expected"),
    "in a list": ([np.ones(2), np.ones(2)], [np.ones(2), np.zeros(2)], "value 1: 2 of 2"),
    "ragged": ([[1.0], [1.0, 2.0]], [1.0, 2.0], "type list"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_alike_passes(case: str) -> None:
    judge = Judge()
    judge.equal(case, *ALIKE[case])
    assert judge.passed == [case]


@pytest.mark.parametrize("case", OTHER)
def test_what_differs_is_named(case: str) -> None:
    judge, (found, expected, said) = Judge(), OTHER[case]
    with pytest.raises(MismatchError, match=said) as caught:
        judge.equal(case, found, expected)
    assert caught.value.what == case
    assert judge.passed == []


def test_the_tolerance_is_relative_and_absolute() -> None:
    judge = Judge()
    judge.equal("large", 1e9 + 1, 1e9, tolerance=1e-8)
    judge.equal("small", 1e-9, 0.0, tolerance=1e-8)
    with pytest.raises(MismatchError):
        judge.equal("larger", 1e9 + 20, 1e9, tolerance=1e-8)


def test_tensors_are_compared_by_value() -> None:
    judge = Judge()
    judge.equal("values", mg.Tensor([1.0, 2.0]), np.array([1.0, 2.0], np.float32))
    with pytest.raises(MismatchError, match="first at"):
        judge.equal("values", np.array([1.0, 3.0]), mg.Tensor([1.0, 2.0]))


def test_in_order_names_the_first_that_differs() -> None:
    judge, right = Judge(), {"a": 1.0, "b": 2.0, "c": 3.0}
    judge.in_order("all", {"c": 3.0, "b": 2.0, "a": 1.0}, right)
    with pytest.raises(MismatchError, match="all: b is the first"):
        judge.in_order("all", {"a": 1.0, "b": 0.0, "c": 0.0}, right)
    with pytest.raises(MismatchError, match=r"all: b: expected 2, found nothing\.\n.*missing"):
        judge.in_order("all", {"a": 1.0, "c": 3.0}, right)
    assert judge.passed == ["all"]


def test_same_graph_names_the_first_node_that_differs() -> None:
    def build(scale: float) -> mg.Tensor:
        x = mg.Tensor(np.array([0.5, -1.0]), requires_grad=True)
        with mg.named_scope("cell"):
            return mg.tanh(x * scale).sum()

    judge = Judge()
    judge.same_graph("tanh", build(2.0), build(2.0))
    with pytest.raises(MismatchError, match=r"is the first node that differs"):
        judge.same_graph("tanh", build(3.0), build(2.0))
    with pytest.raises(MismatchError, match="no Tensor"):
        judge.same_graph("tanh", 1.0, build(2.0))
    assert judge.passed == ["tanh"]


def test_a_statement_holds_or_not() -> None:
    judge = Judge()
    judge.true("yes", np.bool_(True))
    with pytest.raises(MismatchError, match="found"):
        judge.true("no", False, found=3)
    assert judge.passed == ["yes"]


def test_an_error_is_raised_or_not() -> None:
    judge = Judge()
    judge.raises("division", ZeroDivisionError, lambda: 1 / 0)
    with pytest.raises(MismatchError, match="no error was raised"):
        judge.raises("none", ZeroDivisionError, lambda: 1)
    with pytest.raises(ValueError, match="other"):
        judge.raises("another", ZeroDivisionError, lambda: (_ for _ in ()).throw(ValueError("other")))
    assert judge.passed == ["division"]


def test_a_hole_says_where_it_is_and_what_it_wants() -> None:
    with pytest.raises(HoleError, match=r"test_judge\.py, line \d+: this is still a hole") as caught:
        hole("a goal")
    assert (caught.value.goal, caught.value.file) == ("a goal", "test_judge.py")
    assert caught.value.line > 100


def test_the_imaginary_parts_of_complex_numbers_count() -> None:
    Judge().equal("c", np.array([0.1, 1j]), np.array([0.1, 1j]))
    with pytest.raises(MismatchError, match=r"1 of 2 numbers differ, first at \[1\]"):
        Judge().equal("c", np.array([0.1, 2j]), np.array([0.1, 1j]))
    with pytest.raises(MismatchError, match="off by"):
        Judge().equal("c", 2j, 1j)
