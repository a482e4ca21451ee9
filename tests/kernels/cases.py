"""Every kernel under one name, and one way to run it."""

from typing import Any, NamedTuple

import numpy as np

from minigrad import nn
from minigrad.kernels import gru, lstm, rnn

KERNELS = {
    "rnn tanh": (rnn, {}, nn.RNNCell),
    "rnn relu": (rnn, {"nonlinearity": "relu"}, nn.RNNCell),
    "lstm": (lstm, {}, nn.LSTMCell),
    "gru reset after": (gru, {"reset_after": True}, nn.GRUCell),
    "gru reset before": (gru, {"reset_after": False}, nn.GRUCell),
}
BLOCKS = {"rnn tanh": 1, "rnn relu": 1, "lstm": 4, "gru reset after": 3, "gru reset before": 3}


class Case(NamedTuple):
    """All arrays of one run, random: inputs, first states, weights, and the cotangents of outputs and last states."""

    kind: str
    x: Any
    first: list[Any]
    weights: list[Any]
    g: Any
    g_last: list[Any]

    @classmethod
    def make(cls, kind, steps=5, batch=3, features=4, hidden=2, bias=True, dtype=np.float64, seed=0, scale=1.0):
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return (scale * rng.standard_normal(shape)).astype(dtype)

        rows, states = BLOCKS[kind] * hidden, 1 + (kind == "lstm")
        weights = [normal(rows, features), normal(rows, hidden)] + [normal(rows) if bias else None for _ in range(2)]
        first, g_last = ([normal(batch, hidden) for _ in range(states)] for _ in range(2))
        return cls(kind, normal(steps, batch, features), first, weights, normal(steps, batch, hidden), g_last)

    def arrays(self):
        return [a for a in (self.x, *self.first, *self.weights, self.g, *self.g_last) if a is not None]

    def sample(self, n, steps):
        """The first steps of one sample, as a batch of one."""
        one = slice(n, n + 1)
        first, g_last = [s[one] for s in self.first], [s[one] for s in self.g_last]
        return self._replace(x=self.x[:steps, one], first=first, g=self.g[:steps, one], g_last=g_last)


class Result(NamedTuple):
    """What both passes of a kernel gave."""

    output: Any
    last: tuple[Any, ...]
    saved: Any
    gradients: Any
    trace: Any

    def steps(self):
        """Every array with a value a step, by name, (T, N, …)."""
        parts = {"state": self.saved.states, "gate": self.saved.gates, "dL/d": self.trace.gradients}
        parts["dL/dgate"] = self.trace.gate_gradients
        parts |= {f"arriving at {state} from": arrays for state, arrays in self.trace.arrivals.items()}
        return {f"{part} {name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def arrays(self):
        return {
            "output": self.output,
            **{f"last {k}": array for k, array in enumerate(self.last)},
            **{f"gradient {k}": array for k, array in self.gradients._asdict().items() if array is not None},
            **self.steps(),
        }


def run(case, lengths=None, reverse=False, **options):
    """Forward and backward of a case's kernel."""
    module, kind, _ = KERNELS[case.kind]
    output, *last, saved = module.forward(
        case.x, *case.first, *case.weights, lengths=lengths, reverse=reverse, **kind
    )
    options.setdefault("needs", (True,) * (1 + len(case.first)) + tuple(w is not None for w in case.weights))
    gradients, trace = module.backward(saved, case.g, *case.g_last, case.x, *case.weights[:2], **options)
    return Result(output, tuple(last), saved, gradients, trace)
