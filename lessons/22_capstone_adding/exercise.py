"""Exercise 22: a network that adds two numbers it saw long apart: the model, and the loop that trains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, clip_grad_norm, nn, no_grad, optim
from minigrad.course import hole, practise
from minigrad.data import tasks

STEPS = 20


class Adder(nn.Module):
    """Reads (T, N, 2), number and mark at each step; answers (N,). Any recurrent layer of at most 32 units."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.layer: Any = hole('a layer of nn for 2 features, with kernel="fused", rng=rng and whatever lets it learn')
        self.readout = nn.Linear(self.layer.hidden_size, 1, rng=rng)

    def forward(self, inputs: Any) -> Tensor:
        _, state = self.layer(inputs)
        answers: Tensor = hole("the readout of the last h as (N,); h is (1, N, H), of an LSTM the state is (h, c)")
        return answers


def train(model: Adder, rng: np.random.Generator, updates: int = 300) -> None:
    """So many updates, each on 32 new sequences."""
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        task = tasks.adding(STEPS, 32, rng=rng)
        loss = hole("the mean squared error of the model's answers to task.inputs")
        hole("one update: clear the gradients, go back from the loss, clip their joint norm at 1, step")


def error(model: Adder, task: tasks.Task) -> float:
    """The squared error on other sequences; always saying 1 gives 1/6."""
    with no_grad():
        return float(np.mean((model(task.inputs).numpy() - task.targets) ** 2))


if __name__ == "__main__":
    practise(__file__)
