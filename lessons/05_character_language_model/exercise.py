"""Exercise 5: the three small formulas of a language model: targets, perplexity, temperature."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise


def pairs(ids: Any, start: int, steps: int) -> tuple[Any, Any]:
    """Inputs and targets of a chunk that begins at `start`: so many steps each."""
    inputs = ids[start : start + steps]
    targets = hole("for each input the character that comes after it, as a slice of ids")
    return inputs, targets


def perplexity(probabilities: Any) -> float:
    """From the probability that the model gave to each true next character."""
    loss = hole("the mean of -log p over all of them, in nats")
    return float(np.exp(loss))


def tempered(scores: Any, temperature: float) -> Any:
    """Probabilities of the next character at a temperature above 0: softmax(scores / temperature)."""
    p = hole("exp of the scores divided by the temperature; no score, however large, may overflow")
    return p / p.sum()


if __name__ == "__main__":
    practise(__file__)
