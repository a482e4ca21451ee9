"""A whole sequence as one op: what `unroll` computes, by a kernel that does all its steps at once."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..engine import Array, Node, Op, Parts
from ..errors import GradError, MinigradError
from ..kernels import gru, lstm, rnn
from ..scope import Run
from ..tensor import Tensor
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .unroll import begin, unroll

__all__ = ["KERNELS", "Fusion", "Kernel", "fused"]


class Fusion(NamedTuple):
    """A kernel, and the settings of its reference that it needs to know.

    Attributes:
        kernel: A module with `forward` and `backward` on arrays.
        settings: The names of the cell's attributes that are forward's keywords.
    """

    kernel: ModuleType
    settings: tuple[str, ...] = ()


KERNELS: dict[type[Cell], Fusion] = {
    RNNCell: Fusion(rnn, ("nonlinearity",)),
    LSTMCell: Fusion(lstm),
    GRUCell: Fusion(gru, ("reset_after",)),
}
"""By the cell whose `unroll` it is proved equal to: its reference."""

_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Kernel(Op[Any]):
    """The op of one run, made for it and used once.

    Inputs: x (T, N, C), each field of the first state (N, H), and the cell's weights and biases.
    Outputs: the outputs of all steps (T, N, H) and each field of the last state (N, H).

    Attributes:
        cell: The reference.
        run: The walk that it stands for.
        needs: Which inputs need a gradient.
        saved: What the forward pass left, for the backward pass and for a record.
    """

    accepts = "inputs (T, N, C), first states (N, H), weights and biases"
    broadcasts = False
    factors = None

    def __init__(self, cell: Cell, run: Run, needs: tuple[bool, ...]) -> None:
        self.name = f"{run.cell} kernel"
        self.cell, self.run, self.needs = cell, run, needs
        self.fusion = KERNELS[type(cell)]
        self.saved: Any = None

    def forward(self, *inputs: Array) -> tuple[Array, ...]:
        """Every step of the reference."""
        settings = {name: getattr(self.cell, name) for name in self.fusion.settings}
        lengths = None if self.run.lengths is None else np.array(self.run.lengths)
        *outputs, self.saved = self.fusion.kernel.forward(
            *inputs, **settings, lengths=lengths, reverse=self.run.reverse
        )
        return tuple(outputs)

    def rule(self, g: list[Any], y: Any, *inputs: Any) -> Parts:
        """One gradient an input, and the trace of what happened at every step.

        Raises:
            GradError: This differentiation is itself recorded.
        """
        if any(isinstance(x, Node) for x in (*g, *inputs)):
            where = f" at {' / '.join(self.run.scope)}" if self.run.scope else ""
            raise GradError(
                f"Second derivative through the {self.name}{where}: a kernel has a first derivative only.\n"
                '  Build the layer with kernel="steps", whose ops have both.'
            )
        states = len(self.cell.state_type._fields)
        x, weights = inputs[0], inputs[1 + states : 3 + states]
        gradients, trace = self.fusion.kernel.backward(self.saved, *g, x, *weights, needs=self.needs)
        parts = Parts(gradients)
        parts.trace = trace
        return parts

    def reference(self, *inputs: Any) -> tuple[Any, ...]:
        """The same outputs, computed step by step."""
        states = len(self.cell.state_type._fields)
        cell = copy.copy(self.cell)
        for name, parameter in zip(_PARAMETERS, inputs[1 + states :], strict=True):
            object.__setattr__(cell, name, parameter)
        state = self.cell.state_type(*inputs[1 : 1 + states])
        run = self.run
        output, last = unroll(cell, inputs[0], state, name=run.name, lengths=run.lengths, reverse=run.reverse)
        return output, *last


def fused(
    cell: Any, inputs: Any, state: Any = None, *, name: str = "l0", lengths: Any = None, reverse: bool = False
) -> tuple[Tensor, Any]:
    """`unroll`, by the kernel that is proved equal to it.

    Args, Returns:
        As `unroll`.
    Raises:
        MinigradError: The cell has no kernel.
        ShapeError: As `unroll` and the cell's step.
    """
    if type(cell) not in KERNELS:
        raise MinigradError(
            f"kernel='fused': {type(cell).__name__} has no kernel; {', '.join(c.__name__ for c in KERNELS)} have.\n"
            "  Use kernel='steps', which runs any cell."
        )
    x, state, run, _ = begin(cell, inputs, state, name, lengths, reverse)
    if x.shape[2:] != (cell.input_size,) or any(s.shape != (x.shape[1], cell.hidden_size) for s in state):
        cell.check(Tensor(x.numpy()[0]), state)
    given = (x, *state, *(getattr(cell, name) for name in _PARAMETERS))
    needs = tuple(p is not None and p.requires_grad for p in given)
    output, *last = Kernel(cell, run, needs)(*given)
    return output, type(state)(*last)
