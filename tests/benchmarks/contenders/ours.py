"""minigrad: its layers with both kernels, with and without a Record, and its training loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad import Tensor, bptt, nn, optim, tanh
from minigrad.character import CharacterModel
from minigrad.data.chunks import Chunks
from minigrad.train import Trainer

from ..problem import Array, Problem, Result


def layer(problem: Problem, kernel: str) -> nn.Recurrent:
    """The layer with the problem's weights."""
    made = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[problem.cell]
    module: nn.Recurrent = made(problem.size.features, problem.size.hidden, kernel=kernel)
    for parameter, weight in zip(module.parameters(), problem.weights, strict=True):
        parameter.data = weight
    return module


def trained(problem: Problem, kernel: str) -> Callable[[], Result]:
    """A training step without a Record."""
    module, inputs = layer(problem, kernel), Tensor(problem.inputs)
    parameters = module.parameters()

    def step() -> Result:
        module.zero_grad()
        output, _ = module(inputs)
        loss = (output * output).sum()
        loss.backward()
        return Result(loss.item(), [p.grad for p in parameters])

    return step


def recorded(problem: Problem, kernel: str = "fused", norms: bool = True) -> Callable[[], Result]:
    """A training step with the Record, and with every ‖dL/dh_t‖ or without."""
    module, inputs = layer(problem, kernel), Tensor(problem.inputs)
    parameters = module.parameters()

    def step() -> Result:
        module.zero_grad()
        output, _ = module(inputs)
        loss = (output * output).sum()
        record = bptt.backward(loss)
        return Result(
            loss.item(), [p.grad for p in parameters], record.sequences["l0"].norms("h") if norms else None
        )

    return step


def fused(problem: Problem) -> Callable[[], Result]:
    return trained(problem, "fused")


def steps(problem: Problem) -> Callable[[], Result]:
    return trained(problem, "steps")


def chain(kind: str, start: Array, length: int) -> Callable[[], Result]:
    """A chain of so many ops from one leaf, forward and backward."""
    links = LINKS[kind]

    def step() -> Result:
        x = Tensor(start, requires_grad=True)
        loss = links(x, length).sum()
        loss.backward()
        return Result(loss.item(), [x.grad])

    return step


def _tanh(x: Tensor, length: int) -> Tensor:
    h = x
    for _ in range(length):
        h = tanh(h)
    return h


def _mixed(x: Tensor, length: int) -> Tensor:
    h = x
    for _ in range(length // 4):
        h = tanh(h * 1.01 + x) + x
    return h


def _product(x: Tensor, length: int) -> Tensor:
    h = x
    for _ in range(length):
        h = h * x
    return h


def _sum(x: Tensor, length: int) -> Tensor:
    h = x
    for _ in range(length):
        h = h + 1.0
    return h


LINKS = {"tanh(h)": _tanh, "tanh(1.01 h + x) + x": _mixed, "h * x": _product, "h + 1.0": _sum}


def character_trainer(characters: int, ids: Array, steps: int, hidden: int, kernel: str) -> Trainer:
    """What `minigrad train` runs in the min-char-rnn setting."""
    model = CharacterModel(
        [chr(200 + k) for k in range(characters)], "rnn", hidden=hidden, embedding=0, scale=0.01, kernel=kernel,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    optimizer = optim.Adagrad(model.parameters(), lr=0.1, eps=1e-8, eps_inside_root=True)
    return Trainer(model, optimizer, Chunks(ids, steps, 1), clip_value=5.0, reduction="sum")


def text_trainer(
    cell: str, ids: Array, steps: int, batch: int, hidden: int, kernel: str, norms_every: int
) -> Trainer:
    """A training loop on 65 one-hot characters, that keeps the norms of every so many updates."""
    model = CharacterModel(
        [chr(200 + k) for k in range(65)], cell, hidden=hidden, embedding=0, kernel=kernel, rng=np.random.default_rng(0)
    )
    optimizer = optim.Adagrad(model.parameters(), lr=0.01)
    return Trainer(model, optimizer, Chunks(ids, steps, batch), clip_norm=5.0, norms_every=norms_every)
