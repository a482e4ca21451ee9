"""Solution 5: the three small formulas of a language model: targets, perplexity, temperature."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise


def pairs(ids: Any, start: int, steps: int) -> tuple[Any, Any]:
    """Inputs and targets of a chunk that begins at `start`: so many steps each."""
    inputs = ids[start : start + steps]
    # One place further on: the text is its own answer, so nobody has to label anything.
    targets = ids[start + 1 : start + steps + 1]
    return inputs, targets


def perplexity(probabilities: Any) -> float:
    """From the probability that the model gave to each true next character."""
    # Logarithms first, then the mean: the exp of it is the geometric mean of 1 / p.
    loss = np.mean(-np.log(probabilities))
    return float(np.exp(loss))


def tempered(scores: Any, temperature: float) -> Any:
    """Probabilities of the next character at a temperature above 0: softmax(scores / temperature)."""
    # Less the largest, every exponent is 0 or below; the division by the sum takes that factor out again.
    p = np.exp((scores - np.max(scores)) / temperature)
    return p / p.sum()


if __name__ == "__main__":
    practise(__file__)
