from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from minigrad.data import yardsticks as module
from minigrad.data.text import read_text
from minigrad.data.yardsticks import LONGEST, Yardsticks, yardsticks
from minigrad.engine import Array
from minigrad.errors import DataError, DTypeError, MinigradError, ShapeError

NLTK = {2: 0.9575074449519615, 3: 0.4642425957334383, 4: 0.36198427916006687, 5: 0.2802763772078149}


def estimates(training: list[int] | Array, held_out: list[int] | Array, vocabulary: int, longest: int) -> Array:
    """The probability of each held-out character under each model, (longest, T')."""
    return np.array(list(module._estimates(np.array(training), np.array(held_out), vocabulary, longest)))


def markov(rng: np.random.Generator, transition: Array, length: int) -> Array:
    """A sequence of a first-order Markov source."""
    steps = transition.cumsum(axis=1)
    state, found = 0, []
    for u in rng.random(length):
        state = min(int(steps[state].searchsorted(u)), len(transition) - 1)
        found.append(state)
    return np.array(found)


Gram = tuple[Any, ...]


class Counted:
    """The estimates once more, straight from the definition: tuples, dictionaries, fractions."""

    def __init__(self, training: list[int], vocabulary: int, longest: int) -> None:
        self.vocabulary = vocabulary
        text: list[Any] = ["^"] * longest + training
        self.counts = {
            n: Counter(tuple(text[t - n + 1 : t + 1]) for t in range(longest, len(text))) for n in range(1, longest + 1)
        }
        self.preceding = {
            n: Counter(gram[1:] for gram in self.counts[n + 1]) for n in range(1, longest)
        }

    def discount(self, counts: Counter[Gram], count: int) -> Fraction:
        n = {k: sum(value == k for value in counts.values()) for k in (1, 2, 3, 4)}
        if n[1] and n[2] and n[3]:
            y = Fraction(n[1], n[1] + 2 * n[2])
            found = {k: k - (k + 1) * y * Fraction(n[k + 1], n[k]) for k in (1, 2, 3)}
            if min(found.values()) > 0:
                return found[min(count, 3)]
        return Fraction(min(count, 3), 2)

    def p(self, x: int, context: Gram, counts: Counter[Gram] | None = None) -> Fraction:
        counts = self.counts[len(context) + 1] if counts is None else counts
        lower = self.p(x, context[1:], self.preceding[len(context)]) if context else Fraction(1, self.vocabulary)
        following = {gram: count for gram, count in counts.items() if gram[:-1] == context}
        if not following:
            return lower
        kept = sum(count - self.discount(counts, count) for gram, count in following.items() if gram[-1] == x)
        freed = sum(self.discount(counts, count) for count in following.values())
        return (kept + freed * lower) / sum(following.values())

    def estimates(self, held_out: list[int], n: int) -> list[float]:
        text: list[Any] = ["$"] * (n - 1) + held_out
        return [float(self.p(x, tuple(text[t : t + n - 1]))) for t, x in enumerate(held_out)]


# Values


def test_unigram_is_the_share_that_a_count_by_hand_gives() -> None:
    # counts 2, 1, 0 of 3; no count is 3, so 1 is taken from the 2 and 1/2 from the 1, and shared by all three
    found = estimates([0, 0, 1], [0, 1, 2], 3, 1)
    np.testing.assert_allclose(found, [[(1 + 1.5 / 3) / 3, (0.5 + 1.5 / 3) / 3, (1.5 / 3) / 3]], rtol=1e-14)
    assert yardsticks([0, 0, 1], [2], 3).unigram == pytest.approx(math.log(6), rel=1e-14)


def test_bigram_is_the_share_that_a_count_by_hand_gives() -> None:
    # 0 is preceded by the beginning and 1 by 0: half and half; after 0 comes 1, of whose count half is shared out
    found = yardsticks([0, 1], [0, 1], 2)
    assert found.uniform == pytest.approx(math.log(2), rel=1e-14)
    assert found.unigram == pytest.approx(math.log(2), rel=1e-14)
    assert found.ngrams[2] == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-14)


def test_discounts_are_chen_and_goodmans() -> None:
    # n_1 = 3, n_2 = 2, n_3 = n_4 = 1: Y = 3/7, D = 3/7, 2 - 3 Y / 2, 3 - 4 Y
    counts = [1, 1, 1, 2, 2, 3, 4]
    expected = [0, 3 / 7, 19 / 14, 9 / 7]
    np.testing.assert_allclose(module._discounts(np.array(counts)), expected, rtol=1e-14)
    np.testing.assert_allclose(module._discounts(np.array([*counts, 0, 0, 5, 9])), expected, rtol=1e-14)
    freed = 3 * 3 / 7 + 2 * 19 / 14 + 2 * 9 / 7
    found = estimates(np.repeat(np.arange(7), counts), list(range(10)), 10, 1)
    kept = np.array([4 / 7] * 3 + [9 / 14] * 2 + [12 / 7, 19 / 7] + [0] * 3)
    np.testing.assert_allclose(found, [(kept + freed / 10) / 14], rtol=1e-14)


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [7],
        [1, 1, 3],  # no 2
        [1, 1, 2],  # no 3
        [2, 2, 3, 4],  # no 1
        [1, 1, 2, 3, 3, 3, 3],  # D_2 = 2 - 3 · 1/2 · 4 < 0
        [1, 1, 2, 3, 4, 4],  # D_3 = 3 - 4 · 1/2 · 2 < 0
        [1, 1, 1, 1, 2, 3, 3],  # D_2 = 2 - 3 · 2/3 · 2 < 0
        [1, 2, 3, 3, 3, 4],  # D_2 = 2 - 3 · 1/3 · 3 < 0
        [1, 2, 3, 3],  # D_2 = 2 - 3 · 1/3 · 2 = 0 would leave nothing for what is unseen
    ],
)
def test_discounts_that_the_counts_do_not_give_are_fixed(counts: list[int]) -> None:
    assert module._discounts(np.array(counts, int)).tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("length", "vocabulary"), [(1, 1), (1, 3), (2, 2), (9, 2), (60, 2), (60, 5), (300, 20)])
def test_every_estimate_is_the_definition(length: int, vocabulary: int, seed: int) -> None:
    rng = np.random.default_rng([seed, length, vocabulary])
    skewed = rng.dirichlet(np.full(vocabulary, 0.5))
    training = rng.choice(vocabulary, length, p=skewed).tolist()
    held_out = rng.integers(vocabulary, size=8).tolist()
    oracle = Counted(training, vocabulary, LONGEST)
    found = estimates(training, held_out, vocabulary, LONGEST)
    for n in range(1, LONGEST + 1):
        np.testing.assert_allclose(found[n - 1], oracle.estimates(held_out, n), rtol=1e-12)


def test_with_one_discount_it_is_nltks_kneser_ney(monkeypatch: pytest.MonkeyPatch) -> None:
    """NLTK 3.10 (KneserNeyInterpolated, discount 0.6, left padding that is never predicted, no share of 1/V)."""
    training, held_out = "the cat sat on the mat and the rat sat on the cat", "the rat and the cat sat on the mat"
    characters = sorted(set(training))
    monkeypatch.setattr(
        module, "_discounts", lambda counts: np.array([0, *[0.0 if counts.size == len(characters) else 0.6] * 3])
    )
    found = estimates(
        [characters.index(c) for c in training], [characters.index(c) for c in held_out], len(characters), 5
    )
    for n, expected in NLTK.items():
        assert -np.log(found[n - 1, n - 1 :]).mean() == pytest.approx(expected, rel=1e-12)


def test_loss_is_the_mean_over_the_held_out_part() -> None:
    rng = np.random.default_rng(0)
    training, held_out = rng.integers(4, size=100), rng.integers(5, size=30)
    found = yardsticks(training, held_out, 5)
    assert list(found.named) == ["uniform", "unigram", "2-gram", "3-gram", "4-gram", "5-gram"]
    expected = [math.log(5), *(-np.log(estimates(training, held_out, 5, 5))).mean(axis=1)]
    np.testing.assert_allclose(list(found.named.values()), expected, rtol=1e-14)


# Laws


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_of_all_characters_sum_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary = int(rng.integers(2, 12))
    training = rng.choice(vocabulary, 200, p=rng.dirichlet(np.full(vocabulary, 0.5)))
    beginning = int(rng.integers(190))
    contexts = [training[beginning : beginning + 4], rng.integers(vocabulary, size=4), rng.integers(vocabulary, size=2)]
    for context in [*contexts, training[:0]]:
        each = [estimates(training, [*context, x], vocabulary, LONGEST)[:, -1] for x in range(vocabulary)]
        assert min(map(np.min, each)) > 0
        np.testing.assert_allclose(np.sum(each, axis=0), 1, rtol=1e-13)


def test_no_estimate_knows_what_comes_later() -> None:
    rng = np.random.default_rng(1)
    training, held_out = rng.integers(6, size=200), rng.integers(6, size=40)
    whole = estimates(training, held_out, 6, LONGEST)
    for length in (1, 2, 17):
        np.testing.assert_allclose(estimates(training, held_out[:length], 6, LONGEST), whole[:, :length], rtol=1e-14)


def test_held_out_part_begins_without_a_context() -> None:
    training = [0, 1] * 20 + [0]
    first = estimates(training, [1, 0], 2, 3)
    follows = estimates(training, [0, 1], 2, 3)
    assert first[1, 0] == first[2, 0] < 0.6  # although 1 always follows the 0 at the end
    assert follows[1, 1] > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_no_model_is_below_the_source(seed: int) -> None:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(8, 0.5), 8)
    text = markov(rng, transition, 30_000)
    training, held_out = text[:25_000], text[25_000:]
    source = -np.log(transition[held_out[:-1], held_out[1:]]).mean()
    found = yardsticks(training, held_out, 8)
    assert found.uniform > found.unigram > source + 0.1
    assert all(source < loss < source + 0.1 for loss in found.ngrams.values())
    name, loss = found.best
    assert name == "2-gram"
    assert loss == pytest.approx(source, abs=0.005)


def test_independent_characters_leave_nothing_to_a_context() -> None:
    rng = np.random.default_rng(2)
    shares = np.array([0.6, 0.25, 0.1, 0.05])
    found = yardsticks(rng.choice(4, 50_000, p=shares), rng.choice(4, 50_000, p=shares), 4)
    assert found.unigram == pytest.approx(-(shares * np.log(shares)).sum(), abs=0.01)
    assert found.best[0] == "unigram"
    assert max(found.ngrams.values()) < found.unigram + 0.05


def test_a_longer_context_wins_where_the_source_needs_it() -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(2, size=20_000)
    bits[::4] = bits[1::4] ^ bits[2::4] ^ bits[3::4]  # none of fewer than three others foretells it
    place = np.arange(bits.size) % 4
    text = 2 * place + bits  # the place is known, so three characters in four cost one bit, the fourth none
    moved = np.roll(text, -1)[:-1]
    found = yardsticks(moved[:16_000], moved[16_000:], 8)
    assert found.ngrams[2] == pytest.approx(math.log(2), abs=0.01)
    assert found.ngrams[3] == pytest.approx(math.log(2), abs=0.01)
    assert found.ngrams[4] == pytest.approx(0.75 * math.log(2), abs=0.01)
    assert found.best[0] == "4-gram"


def test_more_training_comes_nearer_to_the_source() -> None:
    rng = np.random.default_rng(4)
    transition = rng.dirichlet(np.full(10, 0.3), 10)
    text = markov(rng, transition, 60_000)
    found = [yardsticks(text[:length], text[50_000:], 10).ngrams for length in (50, 500, 5_000, 50_000)]
    for n in range(2, LONGEST + 1):
        losses = [ngrams[n] for ngrams in found]
        assert losses == sorted(losses, reverse=True)


def test_repetition_costs_less_the_more_often_it_was_seen() -> None:
    found = [yardsticks([0, 1, 2, 3] * times, [0, 1, 2, 3] * 50, 4).ngrams[2] for times in (5, 50, 500)]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 0.01


def test_names_of_the_characters_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    training, held_out = rng.choice(30, 3_000, p=rng.dirichlet(np.full(30, 0.4))), rng.integers(30, size=200)
    expected = list(yardsticks(training, held_out, 30).named.values())
    other = rng.permutation(30)
    np.testing.assert_allclose(list(yardsticks(other[training], other[held_out], 30).named.values()), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64"])
def test_width_of_the_ids_does_not_matter(dtype: str) -> None:
    rng = np.random.default_rng(6)
    training, held_out = rng.integers(120, size=2_000), rng.integers(120, size=300)
    expected = yardsticks(training, held_out, 120)
    assert yardsticks(training.astype(dtype), held_out.astype(dtype), 120) == expected
    assert yardsticks(training.astype(dtype), held_out, 120) == expected
    assert yardsticks(training.tolist(), held_out.tolist(), 120) == expected
    # two ids that are one number in float64, the common type of uint64 and int64
    large = 2**60 + training % 2
    assert yardsticks(large.astype("uint64"), large, 2**61) == yardsticks(training % 2, training % 2, 2**61)


def test_a_large_vocabulary_takes_no_tables() -> None:
    rng = np.random.default_rng(7)
    text = rng.choice(10_000, 20_000, p=rng.dirichlet(np.full(10_000, 0.1)))
    expected = list(yardsticks(text[:18_000], text[18_000:], 2**50).named.values())
    spread = text.astype(np.int64) * 2**36
    tracemalloc.start()
    found = list(yardsticks(spread[:18_000], spread[18_000:], 2**50).named.values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == expected
    assert peak < 200 * text.size


def test_given_arrays_are_left_as_they_were() -> None:
    training, held_out = np.array([0, 1, 1, 0]), np.array([1, 0])
    training.flags.writeable = held_out.flags.writeable = False
    yardsticks(training, held_out, 2)
    assert training.tolist() == [0, 1, 1, 0]
    assert held_out.tolist() == [1, 0]


# A real text


def test_on_english_each_n_is_better_and_all_beat_added_constants() -> None:
    text = read_text()
    ids, vocabulary = text.ids[:120_000], len(text.characters)
    training, held_out = ids[:108_000], ids[108_000:]
    found = yardsticks(training, held_out, vocabulary)
    losses = list(found.named.values())
    assert losses[:5] == sorted(losses[:5], reverse=True)
    assert found.ngrams[5] < 1.02 * found.ngrams[4]
    for n, margin in ((3, 0.0), (4, 0.05), (5, 0.1)):
        assert found.ngrams[n] < min(added(training, held_out, vocabulary, n, k) for k in (0.01, 0.05, 0.2)) - margin


def added(training: Array, held_out: Array, vocabulary: int, n: int, constant: float) -> float:
    """The loss of (c(hx) + k) / (c(h) + k V) on the places that have n - 1 characters before them."""
    grams = Counter(zip(*(training[k : training.size - n + 1 + k].tolist() for k in range(n)), strict=True))
    contexts: Counter[Gram] = Counter()
    for gram, count in grams.items():
        contexts[gram[:-1]] += count
    places = zip(*(held_out[k : held_out.size - n + 1 + k].tolist() for k in range(n)), strict=True)
    return -float(
        np.mean([
            math.log((grams[gram] + constant) / (contexts[gram[:-1]] + constant * vocabulary)) for gram in places
        ])
    )


# Ends of the range


def test_two_characters_are_enough() -> None:
    found = yardsticks([0], [1], 2)
    assert found == Yardsticks(math.log(2), math.log(4), {})  # half of the one count is shared by two
    assert found.best == ("uniform", math.log(2))


@pytest.mark.parametrize(("training", "held_out", "longest"), [(1, 9, 1), (9, 1, 1), (3, 9, 3), (9, 4, 4), (9, 9, 5)])
def test_n_goes_as_far_as_both_parts_reach(training: int, held_out: int, longest: int) -> None:
    found = yardsticks(([0, 1, 1] * 3)[:training], ([1, 0, 1] * 3)[:held_out], 2)
    assert list(found.ngrams) == list(range(2, longest + 1))


def test_one_character_alone_is_certain() -> None:
    found = yardsticks([0] * 7, [0] * 7, 1)
    assert found.named == dict.fromkeys(("uniform", "unigram", "2-gram", "3-gram", "4-gram", "5-gram"), 0)
    assert all(math.copysign(1, loss) == 1 for loss in found.named.values())
    assert found.best[0] == "uniform"


def test_what_training_lacks_is_finite() -> None:
    training = [0, 1, 2, 0, 1, 2, 0, 1]
    for held_out in ([3, 3, 3, 3, 3, 3], [0, 3, 1, 3, 2, 3], [2, 1, 0, 2, 1, 0]):
        losses = np.array(list(yardsticks(training, held_out, 1000).named.values()))
        assert np.isfinite(losses).all()
        assert (losses > 0).all()


def test_an_unseen_context_gives_the_estimate_of_the_seen_one_inside_it() -> None:
    training = [0, 1, 2, 0, 1, 2, 0, 1, 2, 1]
    found = estimates(training, [2, 2, 0, 1], 3, 5)
    assert found[3, 3] == found[4, 3]  # "2, 2, 0" and the beginning before it: never seen, "2, 0" was


# What is returned


def test_best_is_the_lowest_and_of_equals_the_simplest() -> None:
    assert Yardsticks(3.0, 2.0, {2: 1.5, 3: 1.0, 4: 1.25}).best == ("3-gram", 1.0)
    assert Yardsticks(3.0, 2.0, {2: 1.0, 3: 1.0}).best == ("2-gram", 1.0)
    assert Yardsticks(2.0, 2.0, {}).best == ("uniform", 2.0)


def test_result_cannot_be_changed() -> None:
    found = yardsticks([0, 1, 0], [1, 0], 2)
    with pytest.raises(FrozenInstanceError):
        found.uniform = 0.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.ngrams[2] = 0.0  # type: ignore[index]
    assert all(type(loss) is float for loss in found.named.values())


# Errors


@pytest.mark.parametrize("part", ["training", "held-out"])
@pytest.mark.parametrize(
    ("wrong", "vocabulary", "kind", "found", "remedy"),
    [
        ([[0, 1], [1, 0]], 2, ShapeError, "has shape (2, 2)", "Give ids in one row"),
        (1, 2, ShapeError, "has shape ()", "Give ids in one row"),
        ([], 2, DataError, "is empty", "Give at least one character"),
        ([0.0, 1.0], 2, DTypeError, "is float64", "Give whole numbers"),
        ([True, False], 2, DTypeError, "is bool", "Give whole numbers"),
        (["a", "b"], 2, DTypeError, "is <U1", "Give whole numbers"),
        ([0, 2], 2, DataError, "run from 0 to 2, the vocabulary has V=2", "Give ids from 0 to V - 1"),
        ([-1, 1], 2, DataError, "run from -1 to 1, the vocabulary has V=2", "Give ids from 0 to V - 1"),
    ],
)
def test_parts_that_are_no_ids_are_refused(
    part: str, wrong: Any, vocabulary: int, kind: type[MinigradError], found: str, remedy: str
) -> None:
    training, held_out = (wrong, [0, 1]) if part == "training" else ([0, 1], wrong)
    with pytest.raises(kind) as caught:
        yardsticks(training, held_out, vocabulary)
    message = str(caught.value)
    assert message.startswith("yardsticks: ")
    assert f"the {part} part {found}" in message
    assert f"\n  {remedy}" in message


@pytest.mark.parametrize("vocabulary", [0, -3])
def test_a_vocabulary_without_characters_is_refused(vocabulary: int) -> None:
    with pytest.raises(DataError, match=f"V={vocabulary} characters"):
        yardsticks([0], [0], vocabulary)
