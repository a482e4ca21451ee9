"""Solution 18: a second direction for sequences of unequal length, its summary, and a loss without padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise


def reversed_by_length(x: Any, lengths: Any) -> Any:
    """x, (T, N, C), with the real steps of each sample in reverse order; its padding stays where it is."""
    turned = x.copy()
    for n, length in enumerate(lengths):
        # x[::-1] would bring the padding to the front: each sample is turned by itself.
        turned[:length, n] = x[:length, n][::-1]
    return turned


def both_directions(forward: Any, backward: Any, x: Any, lengths: Any) -> Any:
    """Outputs (T, N, 2H); forward and backward each go from (T, N, C) to (T, N, H), reading from step 1 on."""
    ahead = forward(x)
    # Turned before, turned back after: now output t of both directions belongs to x_t.
    behind = reversed_by_length(backward(reversed_by_length(x, lengths)), lengths)
    return np.concatenate([ahead, behind], axis=2)


def summary(outputs: Any, lengths: Any) -> Any:
    """(N, 2H): what each direction knows when it has read a whole sample; outputs are those of both_directions."""
    hidden = outputs.shape[2] // 2
    samples = np.arange(outputs.shape[1])
    # A step of its own for each sample: outputs[-1] would be padding for all but the longest.
    ahead = outputs[lengths - 1, samples, :hidden]
    behind = outputs[0, samples, hidden:]
    return np.concatenate([ahead, behind], axis=1)


def masked_mean(losses: Any, lengths: Any) -> float:
    """The mean over the real steps of losses, (T, N)."""
    real = np.arange(len(losses))[:, np.newaxis] < lengths
    # np.mean(losses * real) would divide by T N, so a batch with much padding would count for less.
    return float(losses[real].mean())


if __name__ == "__main__":
    practise(__file__)
