"""Exercise 16: what a network that plays reads, how surprised it is, and how it draws a chord."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise


def inputs_of(roll: Any) -> Any:
    """What the network reads while it predicts a roll, (T, 88): nothing at first, then what sounded a step before."""
    return hole("the roll, one step later, as many steps long")


def surprise(s: Any, y: Any) -> Any:
    """Nats a step, from scores and from what sounded, (…, 88); a score of 1000 is no reason for an infinity."""
    return hole("the sum over the keys of -[y log σ(s) + (1 - y) log(1 - σ(s))], so written that nothing overflows")


def mean_nats(nats: Any, lengths: Any) -> float:
    """The mean over real steps of nats, (T, N), where chorale n ends after lengths[n] steps and then is padding."""
    real = hole("which of the (T, N) steps are real, as True and False")
    return float((nats * real).sum() / real.sum())


def drawn(s: Any, rng: np.random.Generator) -> Any:
    """Which keys sound, True or False, drawn from their scores, (88,)."""
    return hole("each key by its own chance σ(s)")


if __name__ == "__main__":
    practise(__file__)
