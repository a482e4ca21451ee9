"""What is expected and what is found stand number below number, and fit a screen of 80 columns."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.course.beside import beside, shown
from minigrad.course.judge import Judge
from minigrad.errors import MismatchError

WIDE, HIGH = 68, 6  # what "  expected  " leaves of 80 columns; rows, with those that stand for others


def columns(text: str) -> list[list[int]]:
    """Where the words of each line end."""
    return [[m.end() for m in re.finditer(r"[^ \[\]]+", line)] for line in text.split("\n")]


def test_numbers_stand_below_each_other() -> None:
    a = np.array([[1.5, -2.0], [0.25, 1e-9]])
    b = np.array([[1.5, -20000.0], [0.25, 1e-9]])
    expected, found = beside(a, b, (0, 1))
    assert expected == "[[ 1.5     -2]\n [0.25  1e-09]]"
    assert found == "[[ 1.5 -20000]\n [0.25  1e-09]]"


@pytest.mark.parametrize("shape", [(1,), (7,), (200,), (1, 1), (4, 4), (5, 3), (3, 100), (100, 1), (60, 60), (2, 3, 4),
                                   (3, 1, 50, 9)])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_both_have_one_layout_that_fits_and_shows_the_place_that_differs(shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(len(shape))
    a = (1000 * rng.standard_normal(shape)).astype(dtype)
    for _ in range(10):
        place = tuple(int(rng.integers(n)) for n in shape)
        b = a.copy()
        b[place] = -3
        expected, found = beside(a, b, place)
        assert columns(expected) == columns(found)
        for text in (expected, found):
            lines = text.split("\n")
            assert max(map(len, lines)) <= WIDE
            assert len(lines) <= HIGH + (len(shape) > 2)
            assert "-3" in re.findall(r"[^ \[\]]+", found)
            assert (f"at {list(place[:-2])}" in text) == (len(shape) > 2)
            assert ("…" in text) == (shape[-1] > 9 or shape[-2:-1] > (4,))


def test_brackets_close_only_what_is_shown_to_its_end() -> None:
    a = np.arange(36.0).reshape(9, 4)
    first, middle, last = (beside(a, a, (row, 0))[0].split("\n") for row in (0, 4, 8))
    assert first == ["[[0 1  2  3]", " [4 5  6  7]", " [8 9 10 11]", " …]"]
    assert middle == ["[…", " [ 8  9 10 11]", " [12 13 14 15]", " [16 17 18 19]", " …]"]
    assert last == ["[…", " [24 25 26 27]", " [28 29 30 31]", " [32 33 34 35]]"]


def test_as_many_digits_as_tell_two_numbers_apart() -> None:
    a, b = np.array([1304508.25, 2.0]), np.array([1304508.26, 2.0])
    assert beside(a, b, (0,)) == ("[1304508.2 2]", "[1304508.3 2]")
    judge = Judge()
    with pytest.raises(MismatchError, match=r"first at \[0\]: 1304508\.3, not 1304508\.2"):
        judge.equal("a", b, a)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.1, "0.1"), (np.float64(1 / 3), "0.3333333333"), (3, "3"), ("a", "a"), (None, "None"), ([], "[]"),
        ([1, 2.5], "[1, 2.5]"), ((np.float64(0.25), True), "[0.25, 1]"), (["a", 1], "['a', 1]"),
        (np.array([True, False]), "[True False]"), (np.array([1 + 2j]), "[1+2j]"),
        (np.zeros((0, 2)), "array([], shape=(0, 2), dtype=float64)"),
        (np.array(["a\x1b", "b"]), "['a\\x1b' 'b']"), (mg.Tensor([1.0, np.nan]), "[1 nan]"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)  # fmt: skip
def test_a_value_is_said_in_a_line(x: Any, text: str) -> None:
    assert shown(x) == text


def test_of_two_lists_of_arrays_the_first_two_that_differ_are_shown() -> None:
    right = [np.ones(2), np.array([1.0, 2.0]), np.zeros(3)]
    with pytest.raises(MismatchError, match="value 1: 1 of 2") as caught:
        Judge().equal("all", [np.ones(2), mg.Tensor(np.array([1.0, 5.0])), np.ones(3)], right)
    assert (caught.value.expected, caught.value.found) == ("[1 2]", "[1 5]")


def test_what_has_another_shape_or_kind_stands_for_itself() -> None:
    assert beside(np.ones((1, 2)), np.ones(3)) == ("[[1 1]]", "[1 1 1]")
    assert beside(np.ones(2), None) == ("[1 1]", "None")
    with pytest.raises(MismatchError, match="complex") as caught:
        Judge().equal("a", np.array([1j]), np.array([1.0]))
    assert (caught.value.expected, caught.value.found) == ("[   1]", "[0+1j]")


@pytest.mark.parametrize("x", [1.5, np.float32(1.5), np.float64(1.5), np.array(1.5), np.array(1.5, np.float32)])
def test_one_number_is_shown_as_a_number(x: Any) -> None:
    assert shown(x) == "1.5"


def test_where_nothing_differs_no_more_digits_are_shown() -> None:
    a = np.array([0.1, 2.0])
    assert beside(a, a.copy()) == ("[0.1 2]", "[0.1 2]")


def test_a_shape_is_shown_as_a_shape() -> None:
    assert shown((5, 1)) == "(5, 1)"
    assert shown((0.5, 1)) == "[0.5, 1]"
