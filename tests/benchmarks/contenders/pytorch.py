"""PyTorch on the CPU: its own layers, the same primitive ops one by one, and cells with retained gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..problem import Array, Problem, Result, optional

torch: Any = optional("torch")
if torch is not None:
    torch.set_num_threads(1)


def _weights(problem: Problem) -> list[Any]:
    return [torch.tensor(weight, requires_grad=True) for weight in problem.weights]


def layer(problem: Problem) -> Callable[[], Result]:
    """nn.RNN, nn.LSTM or nn.GRU: one compiled kernel, or a loop in C++."""
    module = getattr(torch.nn, problem.cell)(problem.size.features, problem.size.hidden)
    inputs, parameters = torch.tensor(problem.inputs), list(module.parameters())
    with torch.no_grad():
        for parameter, weight in zip(parameters, problem.weights, strict=True):
            parameter.copy_(torch.tensor(weight))

    def step() -> Result:
        module.zero_grad()
        output, _ = module(inputs)
        loss = (output * output).sum()
        loss.backward()
        return Result(loss.item(), [p.grad for p in parameters])

    return step


def lstm_ops(problem: Problem) -> Callable[[], Result]:
    """The LSTM in the ops that minigrad's cell is written in, one by one."""
    inputs, weights = torch.tensor(problem.inputs), _weights(problem)
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    linear, sigmoid, tanh = torch.nn.functional.linear, torch.sigmoid, torch.tanh
    zeros = torch.zeros(problem.size.batch, problem.size.hidden)

    def step() -> Result:
        for weight in weights:
            weight.grad = None
        h = c = zeros
        outputs = []
        for x in inputs.unbind():
            a = linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)
            a_i, a_f, a_g, a_o = a.chunk(4, -1)
            f, i, g, o = sigmoid(a_f), sigmoid(a_i), tanh(a_g), sigmoid(a_o)
            c = f * c + i * g
            h = o * tanh(c)
            outputs.append(h)
        output = torch.stack(outputs)
        loss = (output * output).sum()
        loss.backward()
        return Result(loss.item(), [weight.grad for weight in weights])

    return step


def cells_with_norms(problem: Problem) -> Callable[[], Result]:
    """nn.LSTMCell in a loop, the gradient of every h_t retained: the usual way to see ‖dL/dh_t‖."""
    cell = torch.nn.LSTMCell(problem.size.features, problem.size.hidden)
    inputs, parameters = torch.tensor(problem.inputs), list(cell.parameters())
    with torch.no_grad():
        for parameter, weight in zip(parameters, problem.weights, strict=True):
            parameter.copy_(torch.tensor(weight))
    zeros = torch.zeros(problem.size.batch, problem.size.hidden)

    def step() -> Result:
        cell.zero_grad()
        h = c = zeros
        outputs = []
        for x in inputs.unbind():
            h, c = cell(x, (h, c))
            h.retain_grad()
            outputs.append(h)
        output = torch.stack(outputs)
        loss = (output * output).sum()
        loss.backward()
        norms = torch.stack([h.grad for h in outputs]).norm(dim=-1)  # (T, N)
        return Result(loss.item(), [p.grad for p in parameters], norms)

    return step


def chain(kind: str, start: Array, length: int) -> Callable[[], Result]:
    """A chain of so many ops from one leaf, forward and backward."""
    links = LINKS[kind]

    def step() -> Result:
        x = torch.tensor(start, requires_grad=True)
        loss = links(x, length).sum()
        loss.backward()
        return Result(loss.item(), [x.grad])

    return step


def _tanh(x: Any, length: int) -> Any:
    h, tanh = x, torch.tanh
    for _ in range(length):
        h = tanh(h)
    return h


def _mixed(x: Any, length: int) -> Any:
    h, tanh = x, torch.tanh
    for _ in range(length // 4):
        h = tanh(h * 1.01 + x) + x
    return h


def _product(x: Any, length: int) -> Any:
    h = x
    for _ in range(length):
        h = h * x
    return h


def _sum(x: Any, length: int) -> Any:
    h = x
    for _ in range(length):
        h = h + 1.0
    return h


LINKS = {"tanh(h)": _tanh, "tanh(1.01 h + x) + x": _mixed, "h * x": _product, "h + 1.0": _sum}
