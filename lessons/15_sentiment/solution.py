"""Solution 15: the last real state, naive Bayes in two lines, and a verdict attributed to its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise


def last_states(outputs: Any, lengths: Any) -> Any:
    """h of each sentence's own last word, (N, H), from (T, N, H) with padding past the ends, and lengths, (N,)."""
    # Not outputs[-1]: that is padding for all but the longest.
    return outputs[np.asarray(lengths) - 1, np.arange(len(lengths))]


def log_odds(praise: Any, blame: Any) -> Any:
    """log P(word | praise) - log P(word | blame), (V,), from the word counts of each class, (V,)."""
    smoothed = [count + 1 for count in (praise, blame)]
    # Each class is divided by its own sum: it may simply have more words.
    p_praise, p_blame = (count / count.sum() for count in smoothed)
    return np.log(p_praise) - np.log(p_blame)


def naive_margin(sequence: Any, odds: Any) -> float:
    """What the words of a sentence say together; sequence holds their ids, (T,). Both classes are equally frequent."""
    # A product of probabilities is a sum of logarithms; a word that stands twice counts twice.
    return float(odds[sequence].sum())


def word_shares(embedded: Any, gradient: Any) -> Any:
    """What each word gives to the margin to first order, (T,); embedded and its gradient are (T, D)."""
    # A dot product a word: a large gradient on a row of zeros changes nothing.
    return (embedded * gradient).sum(axis=1)


if __name__ == "__main__":
    practise(__file__)
