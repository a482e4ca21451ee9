"""Solution 8: a training loop that cuts the gradient between chunks, and how far a cut chain reaches."""

from __future__ import annotations

from typing import Any

from minigrad import nn
from minigrad.course import practise


def train(rnn: Any, output: Any, optimizer: Any, inputs: Any, targets: Any, k: int) -> list[float]:
    """One pass over a series in chunks of k steps, one update a chunk; the loss of each chunk.

    inputs and targets have the shape (T, N, features), and T is a multiple of k.
    """
    losses, state = [], None
    for start in range(0, len(inputs), k):
        # The next chunk begins where this one ends, so the state at its end is the one to carry on.
        x, y = inputs[start : start + k], targets[start : start + k]
        outputs, state = rnn(x, state)
        loss = nn.mse_loss(output(outputs), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        # The same numbers without a past: None would forget them, the state itself would drag all chunks along.
        state = state.detach()
    return losses


def reaches(loss_step: int, input_step: int, k: int) -> bool:
    """Whether the gradient of a loss at one step gets to the input of another, if chunks begin at 0, k, 2k, …"""
    # t // k is the number of the chunk; the gradient goes back in time, never forward.
    arrives: bool = input_step <= loss_step and input_step // k == loss_step // k
    return arrives


def shortest_chunk(lag: int) -> int:
    """The smallest k with which at least one loss in a chunk reaches the input of `lag` steps before it."""
    # The input and the loss have to fit into one chunk, with the lag - 1 steps between them.
    k: int = lag + 1
    return k


if __name__ == "__main__":
    practise(__file__)
