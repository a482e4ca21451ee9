"""Exercise 15: the last real state, naive Bayes in two lines, and a verdict attributed to its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise


def last_states(outputs: Any, lengths: Any) -> Any:
    """h of each sentence's own last word, (N, H), from (T, N, H) with padding past the ends, and lengths, (N,)."""
    return hole("of every sentence n, the output at its last real step")


def log_odds(praise: Any, blame: Any) -> Any:
    """log P(word | praise) - log P(word | blame), (V,), from the word counts of each class, (V,)."""
    smoothed = [count + 1 for count in (praise, blame)]
    p_praise, p_blame = hole("of each class, the share that every word has in the smoothed counts")
    return np.log(p_praise) - np.log(p_blame)


def naive_margin(sequence: Any, odds: Any) -> float:
    """What the words of a sentence say together; sequence holds their ids, (T,). Both classes are equally frequent."""
    return float(hole("the sum that needs no order"))


def word_shares(embedded: Any, gradient: Any) -> Any:
    """What each word gives to the margin to first order, (T,); embedded and its gradient are (T, D)."""
    return hole("x_t · ∂margin/∂x_t of every word")


if __name__ == "__main__":
    practise(__file__)
