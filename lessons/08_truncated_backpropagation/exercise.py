"""Exercise 8: a training loop that cuts the gradient between chunks, and how far a cut chain reaches."""

from __future__ import annotations

from typing import Any

from minigrad import nn
from minigrad.course import hole, practise


def train(rnn: Any, output: Any, optimizer: Any, inputs: Any, targets: Any, k: int) -> list[float]:
    """One pass over a series in chunks of k steps, one update a chunk; the loss of each chunk.

    inputs and targets have the shape (T, N, features), and T is a multiple of k.
    """
    losses, state = [], None
    for start in range(0, len(inputs), k):
        x, y = hole("the k steps of inputs and of targets that begin at start")
        outputs, state = rnn(x, state)
        loss = nn.mse_loss(output(outputs), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        state = hole("the state for the next chunk: its value goes on, its gradient ends here")
    return losses


def reaches(loss_step: int, input_step: int, k: int) -> bool:
    """Whether the gradient of a loss at one step gets to the input of another, if chunks begin at 0, k, 2k, …"""
    arrives: bool = hole("the loss is not before the input, and both lie in the same chunk")
    return arrives


def shortest_chunk(lag: int) -> int:
    """The smallest k with which at least one loss in a chunk reaches the input of `lag` steps before it."""
    k: int = hole("count the steps from the input to the loss")
    return k


if __name__ == "__main__":
    practise(__file__)
