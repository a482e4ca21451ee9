"""Exercise 18: a second direction for sequences of unequal length, its summary, and a loss without padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import hole, practise


def reversed_by_length(x: Any, lengths: Any) -> Any:
    """x, (T, N, C), with the real steps of each sample in reverse order; its padding stays where it is."""
    turned = x.copy()
    for n, length in enumerate(lengths):
        turned[:length, n] = hole("the real steps of sample n, the last one first")
    return turned


def both_directions(forward: Any, backward: Any, x: Any, lengths: Any) -> Any:
    """Outputs (T, N, 2H); forward and backward each go from (T, N, C) to (T, N, H), reading from step 1 on."""
    ahead = forward(x)
    behind = hole("what backward gives for the reversed x, with its steps put back in the order of time")
    return np.concatenate([ahead, behind], axis=2)


def summary(outputs: Any, lengths: Any) -> Any:
    """(N, 2H): what each direction knows when it has read a whole sample; outputs are those of both_directions."""
    hidden = outputs.shape[2] // 2
    samples = np.arange(outputs.shape[1])
    ahead = hole("the forward half at each sample's last real step: index steps and samples together")
    behind = outputs[0, samples, hidden:]
    return np.concatenate([ahead, behind], axis=1)


def masked_mean(losses: Any, lengths: Any) -> float:
    """The mean over the real steps of losses, (T, N)."""
    real = np.arange(len(losses))[:, np.newaxis] < lengths
    return float(hole("the mean of the losses that are real; padding counts neither above nor below the line"))


if __name__ == "__main__":
    practise(__file__)
