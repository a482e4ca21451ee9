"""RNN, LSTM and GRU: a cell and its unrolling, with PyTorch's names and layouts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import MinigradError, ShapeError
from ..scope import named_scope
from ..tensor import Tensor
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .module import Module
from .unroll import unroll

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(Module):
    """One cell over a sequence; parameters as PyTorch's: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0."""

    cell_type: ClassVar[type[Cell]]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, **options: Any
    ) -> None:
        if num_layers != 1:
            options["num_layers"] = num_layers
        for name, remedy in (
            ("batch_first", "Give inputs with time first, (T, N, C): x.swapaxes(0, 1)."),
            ("proj_size", "Put a Linear on the output."),
            ("num_layers", "A layer has one cell; give the output of one layer to the next."),
            ("bidirectional", "Give x[::-1] to a second layer, and concatenate its output, reversed, with this one's."),
            ("dropout", "Put a Dropout between two layers."),
        ):
            if name in options:
                raise MinigradError(f"{type(self).__name__}: {name} is not offered.\n  {remedy}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.cells = (self.cell_type(input_size, hidden_size, bias, **options),)
        for k, cell in enumerate(self.cells):
            for name, parameter in cell.named_parameters():
                setattr(self, f"{name}_l{k}", parameter)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """From inputs (T, N, C) and a first state (None: zeros) to outputs (T, N, H) and the last state.

        The state is h (N, H); for LSTM the pair h, c.
        """
        x = x if isinstance(x, Tensor) else Tensor(x)
        if x.ndim != 3:
            raise ShapeError(
                f"{type(self).__name__}: the inputs have shape {x.shape}.\n"
                f"  Give (T, N, C={self.input_size}): time, batch, features; a single sequence is x.reshape(T, 1, C)."
            )
        (cell,) = self.cells
        kind = cell.state_type
        if state is not None:
            given = (state,) if isinstance(state, (Tensor, np.ndarray)) else tuple(state)
            if len(given) != len(kind._fields):
                raise ShapeError(
                    f"{type(self).__name__}: the state has {len(given)} parts.\n"
                    f"  Give {' and '.join(kind._fields)}, each of shape (N={x.shape[1]}, H={self.hidden_size})."
                )
            state = kind(*(s if isinstance(s, Tensor) else Tensor(s) for s in given))
        with named_scope(type(self).__name__.lower()):
            output, last = unroll(cell, x, state)
        return output, last.h if len(last) == 1 else last


class RNN(_Recurrent):
    """`RNNCell` over a sequence; takes what it takes (nonlinearity, init, rng, dtype)."""

    cell_type = RNNCell


class LSTM(_Recurrent):
    """`LSTMCell` over a sequence; takes what it takes (forget_bias, init, rng, dtype)."""

    cell_type = LSTMCell


class GRU(_Recurrent):
    """`GRUCell` over a sequence; takes what it takes (reset_after, init, rng, dtype)."""

    cell_type = GRUCell
