"""Sentences that people have rated, for telling praise from blame, and the count of words to be measured against."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..engine import Array
from ..errors import DataError
from . import store
from .split import fixed_split

__all__ = ["KINDS", "NaiveBayes", "Part", "Sentences", "available", "load", "naive_bayes", "words_of"]

KINDS = {"tweets": "tweets_GroundTruth.txt", "movies": "movieReviewSnippets_GroundTruth.txt"}
"""What there is to load, and the file that holds it."""

UNKNOWN = "?unknown"
"""The word of id 0: any that the vocabulary lacks."""

_OUTER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_WORD = re.compile(r"\w+|[^\w\s]")


class Part(NamedTuple):
    """n sentences.

    Attributes:
        texts: As they were written.
        sequences: The ids of each one's words, (T_n,) of int64.
        labels: (n,) of int64: 1 for praise, 0 for blame.
        ratings: (n,) of float64: the mean of what people gave, from -4 to 4.
    """

    texts: tuple[str, ...]
    sequences: tuple[Array, ...]
    labels: Array
    ratings: Array


@dataclass(frozen=True, eq=False)
class Sentences:
    """Rated sentences, in an order as good as random.

    Attributes:
        source: Where they come from.
        synthetic: Whether they stand in for sentences that have not been fetched.
        words: The vocabulary: UNKNOWN, then every word that the training part has at least twice, the most
            frequent first. The test part had no say in it.
        training, test: Four fifths and one fifth.
    """

    source: str
    synthetic: bool
    words: tuple[str, ...]
    training: Part
    test: Part

    def sequence(self, text: str) -> Array:
        """The ids of a sentence's words, (T,) of int64.

        Raises:
            DataError: There is no word in it.
        """
        place = {word: k for k, word in enumerate(self.words)}
        found = [place.get(word, 0) for word in words_of(text)]
        if not found:
            raise DataError(f"sentence {text!r:.60}: there is no word in it.\n  Give one with words.")
        return np.array(found, np.int64)


def available() -> bool:
    """Whether the sentences have been fetched."""
    return store.available("sentences")


def words_of(text: str) -> list[str]:
    """The words and the marks of a sentence, in small letters.

    >>> words_of("Great, isn't it? :)")
    ['great', ',', 'isn', "'", 't', 'it', '?', ':', ')']
    """
    return _WORD.findall(text.lower())


def load(kind: str = "tweets", *, fallback: bool = False) -> Sentences:
    """The sentences that were rated clearly, above 1 or below -1.

        tweets  2,599 (1,784 praise), 1 to 78 words and marks (median 17), V = 1,942: a minute's work
        movies  9,023 (4,539 praise), 2 to 74 (median 22), V = 7,939, from film reviews: the harder one

    Args:
        kind: "tweets" or "movies".
        fallback: Without fetched sentences, make some from patterns instead, 2,000 different ones: far easier, though
            one in five says the opposite of what its words say one by one.
    Raises:
        DataError: The kind is neither; the sentences have not been fetched and there is to be no fallback; or
            their file is damaged.
    """
    if kind not in KINDS:
        raise DataError(f"sentences of kind {kind!r:.60}: there are none.\n  Give one of {', '.join(KINDS)}.")
    if fallback and not available():
        return _divided("sentences from patterns", True, _patterned())
    file = "hutto_ICWSM_2014/" + KINDS[kind]
    lines = store.open_archive("sentences").open(_OUTER).read(file).decode("utf-8").split("\n")
    rows = [line.rstrip("\r").split("\t", 2) for line in lines if line.count("\t") >= 2]
    rated = [(html.unescape(text), float(rating)) for _, rating, text in rows if abs(float(rating)) > 1]
    return _divided(f"{kind} of Hutto & Gilbert 2014", False, rated)


def _divided(source: str, synthetic: bool, rated: Sequence[tuple[str, float]]) -> Sentences:
    rated = [one for one in rated if _WORD.search(one[0])]
    taken = [words_of(text) for text, _ in rated]
    places = fixed_split([" ".join(found).encode() for found in taken], (0.8, 0.2))
    counts = Counter(itertools.chain.from_iterable(taken[n] for n in places[0]))
    words = (UNKNOWN, *sorted((word for word, count in counts.items() if count > 1), key=lambda w: (-counts[w], w)))
    place = {word: k for k, word in enumerate(words)}
    sequences = [np.array([place.get(word, 0) for word in found], np.int64) for found in taken]

    def part(chosen: Sequence[int]) -> Part:
        ratings = np.array([rated[n][1] for n in chosen])
        labels = (ratings > 0).astype(np.int64)
        return Part(tuple(rated[n][0] for n in chosen), tuple(sequences[n] for n in chosen), labels, ratings)

    return Sentences(source, synthetic, words, part(places[0]), part(places[1]))


def _patterned() -> list[tuple[str, float]]:
    good = ("wonderful", "moving", "funny", "clever", "brilliant", "charming", "warm", "gripping", "fresh", "superb")
    bad = ("dull", "clumsy", "boring", "awful", "tired", "silly", "cold", "hollow", "lifeless", "dreadful")
    things = ("film", "story", "plot", "cast", "music", "ending", "script", "dialogue", "hero", "idea")
    patterns = (
        "the {thing} is {word} from beginning to end",
        "a {word} {thing}, and I shall tell everybody about it",
        "I went with friends, and we found the {thing} {word} .",
        "what a {word} {thing} !",
        "{word} {thing}",
        "the {thing} is not {word}",
        "not a {word} {thing}, whatever you hear",
        "after an hour the {thing} becomes {word}, as the posters had promised",
        "some say {word} ; I say the {thing} is very {word}",
        "they gave the {thing} all they had, and it is {word}",
    )
    return [
        (pattern.format(word=word, thing=thing), 2.0 if (word in good) != (" not " in f" {pattern}") else -2.0)
        for pattern, word, thing in itertools.product(patterns, (*good, *bad), things)
    ]


class NaiveBayes(NamedTuple):
    """What naive Bayes has counted: its decision is a sum over words, whatever their order.

    Attributes:
        priors: log P(class), (K,).
        likelihoods: log P(word | class), (K, V).
    """

    priors: Array
    likelihoods: Array

    def scores(self, sequence: Array) -> Array:
        """log P(class) + the sum over words of log P(word | class), (K,)."""
        result: Array = self.priors + self.likelihoods[:, sequence].sum(1)
        return result

    def accuracy(self, sequences: Sequence[Array], labels: Array) -> float:
        """The share of sequences whose highest score is that of their label."""
        chosen = np.array([self.scores(ids).argmax() for ids in sequences])
        return float((chosen == labels).mean())


def naive_bayes(
    sequences: Sequence[Array], labels: Array, vocabulary: int, *, smoothing: float = 1.0
) -> NaiveBayes:
    """Count the words of each class: the yardstick of a network that reads sentences.

        P(word | class) = (count of the word in the class + smoothing) / (all its words + smoothing V)
        P(class) = sentences of the class / all sentences

    Args:
        sequences: Ids of words, (T_n,) each.
        labels: The classes, (n,) of whole numbers from 0; each occurs.
        vocabulary: V: ids run from 0 to V - 1.
        smoothing: What is added to each count, above 0.
    Raises:
        DataError: There is no sentence, sentences and labels differ in number, a class is empty, an id is outside
            the vocabulary, or the smoothing is not positive.

    Source: multinomial naive Bayes; Manning, Raghavan & Schütze 2008, section 13.2.
    """
    sizes = np.bincount(labels) if len(labels) else np.zeros(1)
    if len(sequences) != len(labels) or not sizes.all():
        raise DataError(
            f"naive Bayes: {len(sequences)} sequences, {len(labels)} labels, {sizes.astype(int).tolist()} of the"
            " classes.\n  Give a label for each sequence, and a sequence for each class."
        )
    ids = np.concatenate(sequences)
    if not math.inf > smoothing > 0 or (ids.size and not 0 <= ids.min() <= ids.max() < vocabulary):
        span = f"from {ids.min()} to {ids.max()}" if ids.size else "none"
        raise DataError(
            f"naive Bayes: ids {span} with V={vocabulary} and smoothing {smoothing}.\n"
            "  Give ids from 0 to V - 1 and a positive smoothing."
        )
    classes = np.repeat(labels, [len(sequence) for sequence in sequences])
    counts = np.bincount(classes * vocabulary + ids, minlength=sizes.size * vocabulary).reshape(sizes.size, vocabulary)
    smoothed = counts + smoothing
    return NaiveBayes(np.log(sizes / sizes.sum()), np.log(smoothed / smoothed.sum(1, keepdims=True)))
