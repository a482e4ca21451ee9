"""Rated sentences, and naive Bayes against a textbook and plain counting."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import sentiment
from minigrad.data.sentiment import naive_bayes
from minigrad.errors import DataError
from tests.data.conftest import packed

ROWS = [("2.5", f"good number {n} &amp; fine") for n in range(20)]
ROWS += [("-1.5", f"BAD thing {n}, sadly") for n in range(20)]
ROWS += [("0.9", "so so"), ("-1", "hardly"), ("1.0", "hardly either"), ("3", "tab\tinside 한글 🙂"), ("2", " ")]


@pytest.fixture
def archive(fetched: Any) -> None:
    text = "\r\n".join(f"{n}\t{rating}\t{text}" for n, (rating, text) in enumerate(ROWS, 1)) + "\r\nbroken line"
    inner = packed("a.tar.gz", {"hutto_ICWSM_2014/tweets_GroundTruth.txt": text.encode()})
    fetched("sentences", {"vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz": inner})


def check(found: sentiment.Sentences) -> None:
    """What holds of all sentences."""
    assert len({*found.words}) == len(found.words)
    for part in (found.training, found.test):
        assert len(part.texts) == len(part.sequences) == len(part.labels) == len(part.ratings)
        np.testing.assert_array_equal(part.labels, part.ratings > 0)
        for text, ids in zip(part.texts, part.sequences, strict=True):
            words = sentiment.words_of(text)
            assert ids.dtype == np.int64
            assert ids.shape == (len(words),)
            assert all(k == 0 if w not in found.words else found.words[k] == w for k, w in zip(ids, words, strict=True))
    counts = dict.fromkeys(found.words[1:], 0)
    for text in found.training.texts:
        for word in sentiment.words_of(text):
            if word in counts:
                counts[word] += 1
    assert min(counts.values()) > 1
    assert [*counts.values()] == sorted(counts.values(), reverse=True)
    left, right = ({" ".join(sentiment.words_of(t)) for t in part.texts} for part in (found.training, found.test))
    assert not left & right


def test_clearly_rated_sentences_are_read_and_divided(archive: None) -> None:
    found = sentiment.load("tweets")
    check(found)
    texts = {*found.training.texts, *found.test.texts}
    assert len(texts) == 41  # neither the lukewarm nor the wordless nor the broken line
    assert "good number 3 & fine" in texts
    assert "tab\tinside 한글 🙂" in texts
    assert (len(found.training.texts), len(found.test.texts)) == (32, 9)
    assert not found.synthetic
    assert found.sequence("GOOD zebra !").tolist() == [found.words.index("good"), 0, 0]
    with pytest.raises(DataError, match="there is no word in it"):
        found.sequence(" \n")


def test_without_sentences_patterns_stand_in(cache: Path) -> None:
    assert not sentiment.available()
    found = sentiment.load("movies", fallback=True)
    check(found)
    assert found.synthetic
    assert (len(found.training.texts), len(found.test.texts)) == (1600, 400)
    assert 0.4 < found.training.labels.mean() < 0.6
    bayes = naive_bayes(found.training.sequences, found.training.labels, len(found.words))
    assert 0.7 < bayes.accuracy(found.test.sequences, found.test.labels) < 0.9  # words alone are not enough
    with pytest.raises(DataError, match="minigrad data fetch sentences"):
        sentiment.load()
    with pytest.raises(DataError, match="Give one of tweets, movies"):
        sentiment.load("books", fallback=True)


def test_naive_bayes_is_that_of_the_textbook() -> None:
    """Manning, Raghavan & Schütze 2008, example 13.1: 3/4, 1/4, 3/7, 1/14, 1/14, 2/9; .0003 and .0001."""
    words = ["Chinese", "Beijing", "Shanghai", "Macao", "Tokyo", "Japan"]
    documents = ["Chinese Beijing Chinese", "Chinese Chinese Shanghai", "Chinese Macao", "Tokyo Japan Chinese"]
    ids = [np.array([words.index(word) for word in text.split()]) for text in documents]
    bayes = naive_bayes(ids, np.array([1, 1, 1, 0]), 6)
    np.testing.assert_allclose(np.exp(bayes.priors), [1 / 4, 3 / 4], rtol=1e-14)
    np.testing.assert_allclose(np.exp(bayes.likelihoods[1, [0, 4, 5]]), [3 / 7, 1 / 14, 1 / 14], rtol=1e-14)
    np.testing.assert_allclose(np.exp(bayes.likelihoods[0, [0, 4, 5]]), [2 / 9, 2 / 9, 2 / 9], rtol=1e-14)
    test = np.array([words.index(word) for word in ("Chinese", "Chinese", "Chinese", "Tokyo", "Japan")])
    scores = np.exp(bayes.scores(test))
    np.testing.assert_allclose(scores, [1 / 4 * (2 / 9) ** 5, 3 / 4 * (3 / 7) ** 3 * (1 / 14) ** 2], rtol=1e-12)
    assert [round(score, 4) for score in scores] == [0.0001, 0.0003]
    assert bayes.accuracy([test, test], np.array([1, 0])) == 0.5


@pytest.mark.parametrize("smoothing", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_naive_bayes_counts(smoothing: float, classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(12) % classes
    ids = [rng.integers(0, 5, rng.integers(0, 6)) for _ in labels]
    bayes = naive_bayes(ids, labels, 5, smoothing=smoothing)
    for k in range(classes):
        pooled = [word for sequence, label in zip(ids, labels, strict=True) if label == k for word in sequence.tolist()]
        assert bayes.priors[k] == pytest.approx(math.log(np.mean(labels == k)), abs=1e-15)
        for word in range(5):
            p = (pooled.count(word) + smoothing) / (len(pooled) + 5 * smoothing)
            assert bayes.likelihoods[k, word] == pytest.approx(math.log(p), rel=1e-12)


@pytest.mark.parametrize(
    ("ids", "labels", "options"),
    [([[0]], [0, 1], {}), ([], [], {}), ([[0], [1]], [0, 2], {}), ([[7]], [0], {}), ([[-1]], [0], {}),
     ([[0]], [0], {"smoothing": 0.0}), ([[0]], [0], {"smoothing": math.nan}), ([[0]], [0], {"smoothing": math.inf})],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(ids: Any, labels: Any, options: Any) -> None:
    with pytest.raises(DataError) as caught:
        naive_bayes([np.array(one) for one in ids], np.array(labels, np.int64), 5, **options)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "count", "praise", "bar"), [("tweets", 2599, 1784, 0.908), ("movies", 9023, 4539, 0.824)]
)
def test_the_true_sentences_and_what_naive_bayes_makes_of_them(kind: str, count: int, praise: int, bar: float) -> None:
    found = sentiment.load(kind)
    assert len(found.training.texts) + len(found.test.texts) == count
    assert found.training.labels.sum() + found.test.labels.sum() == praise
    bayes = naive_bayes(found.training.sequences, found.training.labels, len(found.words))
    accuracy = bayes.accuracy(found.test.sequences, found.test.labels)
    assert abs(accuracy - bar) < 2 * math.sqrt(bar * (1 - bar) / len(found.test.texts))  # another fifth was tested
