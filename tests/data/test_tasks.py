"""Made-up tasks against their definitions, closed forms and brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from minigrad.data import tasks
from minigrad.errors import DataError, ShapeError


def fresh() -> np.random.Generator:
    return np.random.default_rng(0)


def refused(error: type[Exception], action: Any) -> str:
    with pytest.raises(error) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


SIZES = [(2, 1), (3, 4), (10, 1), (51, 20)]


@pytest.mark.parametrize(("T", "N"), SIZES)
def test_adding_marks_one_number_in_each_half_and_sums_them(T: int, N: int) -> None:
    inputs, targets, steps = tasks.adding(T, N, rng=fresh())
    assert inputs.shape == (T, N, 2)
    assert inputs.dtype == targets.dtype == np.float32
    for n in range(N):
        (places,) = np.nonzero(inputs[:, n, 1])
        assert inputs[places, n, 1].tolist() == [1, 1]
        assert 0 <= places[0] < T // 2 <= places[1] < T
        assert targets[n] == inputs[places[0], n, 0] + inputs[places[1], n, 0]
        assert steps[n] == T - 1 - places[0]
    assert 0 <= inputs[..., 0].min() <= inputs[..., 0].max() < 1


def test_the_baseline_of_adding_is_the_variance_of_its_target() -> None:
    targets = tasks.adding(20, 200_000, rng=fresh()).targets.astype(np.float64)
    found = ((targets - 1) ** 2).mean()
    # The fourth central moment of a sum of two is 1/15, so the deviation of this mean is sqrt((1/15 - 1/36)/200,000).
    assert abs(found - tasks.adding_baseline()) < 5 * math.sqrt((1 / 15 - 1 / 36) / 200_000)


@pytest.mark.parametrize(("delay", "N", "S", "K"), [(1, 1, 1, 1), (3, 2, 4, 2), (30, 5, 10, 8)])
def test_copy_is_laid_out_as_published(delay: int, N: int, S: int, K: int) -> None:
    inputs, targets, steps = tasks.copy(delay, N, rng=fresh(), length=S, kinds=K)
    assert inputs.shape == targets.shape == (delay + 2 * S, N)
    for n in range(N):
        symbols = inputs[:S, n].tolist()
        assert set(symbols) <= set(range(1, K + 1))
        assert inputs[:, n].tolist() == symbols + [0] * (delay - 1) + [K + 1] + [0] * S
        assert targets[:, n].tolist() == [0] * (delay + S) + symbols
        assert steps[n] == delay + S  # from symbol k at step k to its target at step T + S + k


@pytest.mark.parametrize(("delay", "S", "K"), [(5, 2, 3), (4, 1, 2)])
def test_the_baseline_of_copy_is_the_best_without_memory(delay: int, S: int, K: int) -> None:
    """What the frequencies of the targets, given the place alone, are worth in nats: brute force over all strings."""
    rows = [[0] * (delay + S) + [*symbols] for symbols in itertools.product(range(1, K + 1), repeat=S)]
    frequency = np.array([np.bincount(column, minlength=K + 1) for column in np.array(rows).T]) / len(rows)
    entropy = -(frequency * np.log(np.where(frequency > 0, frequency, 1))).sum(1).mean()
    assert tasks.copy_baseline(delay, length=S, kinds=K) == pytest.approx(entropy, rel=1e-12)


def test_published_baselines_of_copy() -> None:
    assert round(tasks.copy_baseline(200), 4) == 0.0945
    assert round(tasks.copy_baseline(1000), 4) == 0.0204


@pytest.mark.parametrize(("T", "N"), [(1, 1), (1, 5), (2, 3), (100, 40)])
def test_latch_asks_for_the_first_symbol(T: int, N: int) -> None:
    inputs, targets, steps = tasks.latch(T, N, rng=fresh(), distractors=3)
    assert inputs.shape == (T, N)
    np.testing.assert_array_equal(inputs[0], targets)
    assert set(targets.tolist()) <= {0, 1}
    assert set(inputs[1:].ravel().tolist()) <= {2, 3, 4}
    assert steps.tolist() == [T - 1] * N
    targets[:] = 9
    assert inputs.max() < 9  # targets are no view


@pytest.mark.parametrize(("T", "N"), [(2, 3), (3, 1), (9, 4), (10, 8), (100, 50)])
def test_temporal_order_asks_for_two_symbols_in_order(T: int, N: int) -> None:
    inputs, targets, steps = tasks.temporal_order(T, N, rng=fresh())
    assert inputs.shape == (T, N)
    for n in range(N):
        (places,) = np.nonzero(inputs[:, n] < 2)
        first, second = places.tolist()
        assert T // 10 <= first < max(T // 5, T // 10 + 1)
        assert T // 2 <= second < max(6 * T // 10, T // 2 + 1)
        assert tasks.ORDER_CLASSES[targets[n]] == "".join("AB"[inputs[place, n]] for place in places)
        assert steps[n] == T - 1 - first
    assert inputs.max() <= 5


@pytest.mark.parametrize(
    ("make", "classes", "baseline"),
    [(tasks.latch, 2, tasks.latch_baseline()), (tasks.temporal_order, 4, tasks.order_baseline())],
)
def test_classes_are_equally_likely_so_a_guess_costs_their_logarithm(make: Any, classes: int, baseline: float) -> None:
    counts = np.bincount(make(20, 40_000, rng=fresh()).targets, minlength=classes)
    np.testing.assert_allclose(counts / 40_000, 1 / classes, atol=5 * math.sqrt(0.25 / 40_000))
    assert baseline == math.log(classes)


@pytest.mark.parametrize("make", [tasks.adding, tasks.copy, tasks.latch, tasks.temporal_order])
def test_the_generator_alone_decides(make: Any) -> None:
    one, again, other = (make(12, 6, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    for x, y in zip(one, again, strict=True):
        np.testing.assert_array_equal(x, y)
    assert (one.inputs != other.inputs).any()


@pytest.mark.parametrize(
    ("make", "T", "N", "found"),
    [
        (tasks.adding, 1, 1, "adding: T=1"), (tasks.adding, 2, 0, "N=0"), (tasks.copy, 0, 1, "copy: T=0"),
        (tasks.latch, 0, 1, "latch: T=0"), (tasks.latch, 5, 0, "N=0"), (tasks.temporal_order, 1, 1, "order: T=1"),
    ],
)  # fmt: skip
def test_tasks_too_small_are_refused(make: Any, T: int, N: int, found: str) -> None:
    assert found in refused(DataError, lambda: make(T, N, rng=fresh()))


def test_one_hot_is_a_row_of_the_identity() -> None:
    assert tasks.one_hot(np.array([[2], [0]]), 3).tolist() == [[[0, 0, 1]], [[1, 0, 0]]]
    for wrong in (np.array([3]), np.array([-1]), np.array([0.0])):
        refused(ShapeError, lambda wrong=wrong: tasks.one_hot(wrong, 3))


# The grammar once more, written down from the figure as a graph of its own: (from, symbol, to)
FIGURE = [
    ("start", "B", 1), (1, "T", 2), (1, "P", 3), (2, "S", 2), (2, "X", 4), (3, "T", 3), (3, "V", 5), (4, "X", 3),
    (4, "S", 6), (5, "P", 4), (5, "V", 6), (6, "E", "end"),
]  # fmt: skip


def language(longest: int) -> dict[str, float]:
    """Every Reber string of at most so many symbols, with its probability, by breadth first."""
    found: dict[str, float] = {}
    ends: list[tuple[str, Any, float]] = [("", "start", 1.0)]
    for _ in range(longest):
        grown = []
        for text, node, p in ends:
            ways = [(symbol, to) for origin, symbol, to in FIGURE if origin == node]
            for symbol, to in ways:
                grown.append((text + symbol, to, p / len(ways)))
        found.update({text: p for text, node, p in grown if node == "end"})
        ends = [one for one in grown if one[1] != "end"]
    return found


LANGUAGE = language(14)


def test_known_strings_are_in_the_language() -> None:
    """Of Hochreiter & Schmidhuber 1997 and of Fahlman 1991."""
    assert {"BTXSE", "BPVVE", "BTSXSE", "BPTVVE", "BTXXVVE", "BPVPSE", "BTSSXXTVVE"} <= LANGUAGE.keys()
    assert min(map(len, LANGUAGE)) == 5


def test_strings_come_as_often_as_the_grammar_says() -> None:
    rng = fresh()
    count = 20_000
    found: dict[str, int] = {}
    for _ in range(count):
        string = tasks.reber_string(embedded=False, rng=rng)
        found[string] = found.get(string, 0) + 1
    assert all(string in LANGUAGE for string in found if len(string) <= 14)
    for string, p in LANGUAGE.items():
        if p > 0.004:
            assert abs(found[string] / count - p) < 5 * math.sqrt(p / count)


def test_the_mean_length_is_that_of_the_markov_chain() -> None:
    """Steps to absorption: the sum of the fundamental matrix's first row."""
    nodes: list[Any] = ["start", 1, 2, 3, 4, 5, 6]
    Q = np.zeros((7, 7))
    for origin, _, to in FIGURE:
        if to != "end":
            Q[nodes.index(origin), nodes.index(to)] = 1 / sum(one[0] == origin for one in FIGURE)
    mean = np.linalg.inv(np.eye(7) - Q)[0].sum()
    rng = fresh()
    lengths = [len(tasks.reber_string(embedded=False, rng=rng)) for _ in range(20_000)]
    assert abs(np.mean(lengths) - mean) < 5 * np.std(lengths) / math.sqrt(20_000)


def continuations(prefix: str, strings: Any) -> set[str]:
    return {string[len(prefix)] for string in strings if string.startswith(prefix) and len(string) > len(prefix)}


def named(legal: Any) -> set[str]:
    return {symbol for symbol, may in zip(tasks.REBER_SYMBOLS, legal, strict=True) if may}


@pytest.mark.parametrize("embedded", [False, True])
def test_legal_symbols_are_those_of_the_whole_language(embedded: bool) -> None:
    """Brute force: what follows this prefix in any string, so long as the language is known far enough."""
    strings = [f"B{k}{inner}{k}E" for inner in LANGUAGE for k in "TP"] if embedded else [*LANGUAGE]
    for string in strings:
        if len(string) <= 13 - 4 * (not embedded):
            rows = tasks.reber_legal(string, embedded=embedded)
            assert rows.shape == (len(string) - 1, 7)
            assert rows.dtype == np.bool_
            for k, legal in enumerate(rows):
                assert named(legal) == continuations(string[: k + 1], strings)


def test_embedded_strings_repeat_their_second_symbol_and_say_for_how_long_it_is_needed() -> None:
    rng = fresh()
    for string in (tasks.reber_string(embedded=True, rng=rng) for _ in range(300)):
        assert (string[0], string[-1]) == ("B", "E")
        assert string[1] == string[-2] in "TP"
        assert string[2:-2] in LANGUAGE or len(string) > 18
        legal = tasks.reber_legal(string, embedded=True)
        assert named(legal[-2]) == {string[1]}  # foreseen at step L - 3, read at step 1: L - 4 steps
        assert len(string) - 4 >= 5


@pytest.mark.parametrize(
    ("string", "embedded"),
    [("", False), ("B", False), ("BTXS", False), ("BTXSEE", False), ("BTSE", False), ("TXSE", False), ("BTXSE", True),
     ("BTBTXSEPE", True), ("BTBTXSETB", True), ("BTBTXSET", True), ("BTTE", True), ("BXBTXSEXE", True),
     ("PTBTXSETE", True), ("", True), ("BTBTXSTE", True)],
)  # fmt: skip
def test_strings_outside_the_grammar_are_refused(string: str, embedded: bool) -> None:
    assert repr(string) in refused(DataError, lambda: tasks.reber_legal(string, embedded=embedded))


@pytest.mark.parametrize("embedded", [False, True])
def test_strings_drawn_together_differ_and_are_legal(embedded: bool) -> None:
    strings = tasks.reber_strings(200, embedded=embedded, rng=fresh())
    assert len({*strings}) == len(strings) == 200
    for string in strings:
        tasks.reber_legal(string, embedded=embedded)
        ids = tasks.reber_ids(string)
        assert "".join(tasks.REBER_SYMBOLS[k] for k in ids) == string
    refused(DataError, lambda: tasks.reber_strings(0, embedded=embedded, rng=fresh()))
    assert "'Z'" in refused(DataError, lambda: tasks.reber_ids("BZE"))


def test_a_prediction_is_right_if_all_legal_symbols_are_above_all_others() -> None:
    legal = np.array([[True, False, True], [True, False, False], [False, True, False], [True, True, True]])
    scores = np.array([[2.0, 1.0, 3.0], [1.0, 1.0, 0.0], [0.0, -1.0, -2.0], [0.0, 0.0, 0.0]])
    assert tasks.predicts_legal(scores, legal).tolist() == [True, False, False, True]
    refused(ShapeError, lambda: tasks.predicts_legal(scores[:2], legal))
    refused(ShapeError, lambda: tasks.predicts_legal(scores, legal.astype(int)))
    refused(ShapeError, lambda: tasks.predicts_legal(scores[:1], np.zeros((1, 3), bool)))


def test_who_forgets_the_second_symbol_is_right_on_half_of_the_strings_at_best() -> None:
    """Brute force over every order of T and P at the one step where the second symbol decides."""
    strings = [f"B{k}{inner}{k}E" for inner in LANGUAGE for k in "TP"]
    best = 0.0
    for guess in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        right = 0
        for string in strings:
            legal = tasks.reber_legal(string, embedded=True)
            scores = legal.astype(float)
            scores[-2] = 0
            scores[-2, [1, 2]] = guess
            right += bool(tasks.predicts_legal(scores, legal).all())
        best = max(best, right / len(strings))
    assert best == 0.5
