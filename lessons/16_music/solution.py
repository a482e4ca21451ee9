"""Solution 16: what a network that plays reads, how surprised it is, and how it draws a chord."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise


def inputs_of(roll: Any) -> Any:
    """What the network reads while it predicts a roll, (T, 88): nothing at first, then what sounded a step before."""
    # Were it the roll itself, the network would only have to copy what it is asked for.
    return np.concatenate([np.zeros_like(roll[:1]), roll[:-1]])


def surprise(s: Any, y: Any) -> Any:
    """Nats a step, from scores and from what sounded, (…, 88); a score of 1000 is no reason for an infinity."""
    # -log σ(s) = softplus(-s) = softplus(s) - s, so y takes s away from softplus(s).
    return (np.logaddexp(0, s) - y * s).sum(axis=-1)


def mean_nats(nats: Any, lengths: Any) -> float:
    """The mean over real steps of nats, (T, N), where chorale n ends after lengths[n] steps and then is padding."""
    # (T, 1) against (N,): a yes or no for each step of each chorale.
    real = np.arange(len(nats))[:, np.newaxis] < np.asarray(lengths)
    return float((nats * real).sum() / real.sum())


def drawn(s: Any, rng: np.random.Generator) -> Any:
    """Which keys sound, True or False, drawn from their scores, (88,)."""
    # A uniform number is below p with probability p; each key has a number of its own.
    return rng.random(s.shape) < 1 / (1 + np.exp(-s))


if __name__ == "__main__":
    practise(__file__)
