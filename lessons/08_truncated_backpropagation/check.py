"""What the exercise should give: a loop written out chunk by chunk, and minigrad's own gradients through a cut."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, nn, optim
from minigrad.course import Judge


class Watched(nn.Module):
    """An RNN that remembers what it was given and what it gave."""

    def __init__(self, rnn: nn.RNN) -> None:
        self.rnn, self.inputs, self.given, self.states = rnn, list[Any](), list[Any](), list[Any]()

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        outputs, last = self.rnn(x, state)
        self.inputs.append(x)
        self.given.append(state)
        self.states.append(last)
        return outputs, last


def check(work: Any, judge: Judge) -> None:
    for k in (4, 6):
        noise = np.random.default_rng(k).uniform(-0.05, 0.05, (25, 1, 1))
        series = np.sin(np.arange(25) / 3)[:, np.newaxis, np.newaxis] + noise
        inputs, targets = series[:24], series[1:]
        watched, output, optimizer = _made(k)
        losses = work.train(watched, output, optimizer, inputs, targets, k)
        names = [f"chunk {number}" for number in range(1, 24 // k + 1)]
        read = {name: inputs[start : start + k] for name, start in zip(names, range(0, 24, k), strict=True)}
        judge.in_order(f"k = {k}: the inputs that each chunk reads", dict(zip(names, watched.inputs)), read)

        carried = dict(zip(names[1:], watched.given[1:]))
        forgets = next((name for name, state in carried.items() if state is None), None)
        judge.true(f"k = {k}: every chunk after the first is given a state", forgets is None,
                   f"None enters {forgets}: all that was read before is forgotten")  # fmt: skip
        judge.in_order(f"k = {k}: its value is that of the chunk before", carried, dict(zip(names[1:], watched.states)))
        tied = next((name for name, s in carried.items() if isinstance(s, Tensor) and s.requires_grad), None)
        judge.true(f"k = {k}: its gradient is cut", tied is None,
                   f"the state that enters {tied} is still tied to its past: backward walks on into it")  # fmt: skip
        judge.in_order(f"k = {k}: the loss of each chunk", dict(zip(names, losses)),
                       dict(zip(names, _reference(k, inputs, targets), strict=True)), tolerance=1e-7)  # fmt: skip

    cases = {(5, 0, 6): True, (5, 5, 6): True, (6, 5, 6): False, (11, 6, 6): True, (7, 9, 6): False, (5, 0, 5): False}
    found = {_words(case): bool(work.reaches(*case)) for case in cases}
    judge.in_order("which losses reach which inputs", found, {_words(case): cases[case] for case in cases})
    shortest = {f"an echo of {lag} steps": work.shortest_chunk(lag) for lag in (5, 1, 0, 30)}
    judge.in_order("the shortest chunk for", shortest, dict(zip(shortest, (6, 2, 1, 31), strict=True)))


def _words(case: tuple[int, int, int]) -> str:
    return "the loss at step {}, the input at step {}, k = {}".format(*case)


def _made(seed: int) -> tuple[Watched, nn.Linear, optim.SGD]:
    rng = np.random.default_rng(seed)
    rnn = nn.RNN(1, 5, init="orthogonal", rng=rng, dtype=np.float64)
    output = nn.Linear(5, 1, rng=rng, dtype=np.float64)
    return Watched(rnn), output, optim.SGD([*rnn.parameters(), *output.parameters()], lr=0.1)


def _reference(k: int, inputs: Any, targets: Any) -> list[float]:
    """The same training with the state handed on as an array, which has no gradient."""
    watched, output, optimizer = _made(k)
    h, losses = np.zeros((1, 1, 5)), []
    for start in range(0, len(inputs), k):
        outputs, last = watched(inputs[start : start + k], Tensor(h))
        loss = nn.mse_loss(output(outputs), targets[start : start + k])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        h = last.numpy()
    return losses
