"""Solution 22: a network that adds two numbers it saw long apart: the model, and the loop that trains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, clip_grad_norm, nn, no_grad, optim
from minigrad.course import practise
from minigrad.data import tasks

STEPS = 20


class Adder(nn.Module):
    """Reads (T, N, 2), number and mark at each step; answers (N,). Any recurrent layer of at most 32 units."""

    def __init__(self, rng: np.random.Generator) -> None:
        # A GRU opens its own gates soon enough; an LSTM needs forget_bias=1.0 or more to be as fast.
        self.layer: Any = nn.GRU(2, 32, kernel="fused", rng=rng)
        self.readout = nn.Linear(self.layer.hidden_size, 1, rng=rng)

    def forward(self, inputs: Any) -> Tensor:
        _, state = self.layer(inputs)
        # Many to one: the last state knows everything that is known. state[-1] is the top layer's.
        answers: Tensor = self.readout(state[-1]).reshape(-1)
        return answers


def train(model: Adder, rng: np.random.Generator, updates: int = 300) -> None:
    """So many updates, each on 32 new sequences."""
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        task = tasks.adding(STEPS, 32, rng=rng)
        # A number is asked for, so its distance counts, not a class.
        loss = nn.mse_loss(model(task.inputs), task.targets)
        # Gradients add up, so they are cleared first; clipping stands between backward and step.
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()


def error(model: Adder, task: tasks.Task) -> float:
    """The squared error on other sequences; always saying 1 gives 1/6."""
    with no_grad():
        return float(np.mean((model(task.inputs).numpy() - task.targets) ** 2))


if __name__ == "__main__":
    practise(__file__)
