"""RNN, LSTM and GRU: cells and their unrolling, in layers and directions, with PyTorch's names and layouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import ops
from ..errors import MinigradError, ShapeError
from ..scope import named_scope
from ..tensor import Tensor
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .fused import fused
from .init import generator
from .linear import dropout as drop
from .linear import probability
from .module import Module
from .unroll import unroll

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


_WALKS = {"steps": unroll, "fused": fused}


class _Walk(NamedTuple):
    """One layer and direction."""

    name: str
    cell: Cell
    reverse: bool


class Recurrent(Module):
    """Layers of one kind of cell over a sequence, each reading what the one below it hands up.

    Parameters, k counting layers from 0: weight_ih_lk, weight_hh_lk, bias_ih_lk, bias_hh_lk, and the
    same with `_reverse` for the other direction; in PyTorch's order, so its `state_dict` fits.

    Args:
        input_size: C, the features of an input.
        hidden_size: H, the size of the state.
        num_layers: L. Layers above the first read D*H features.
        bias: Whether there are biases.
        dropout: The probability with which an element that goes from one layer to the next is
            dropped, while training.
        bidirectional: Whether each layer also walks from the end to the start (D=2, else 1); its
            outputs stand behind those of the other direction.
        kernel: "steps" records every op of every step. "fused" computes the same, up to rounding, in
            one op a walk: much faster, and a Record has its states, gates and gradients all the same.
        rng: Where initial values and dropout's masks come from; None: a fresh generator.
        options: What the cell takes.
    Raises:
        MinigradError: A size, an option or a probability is not possible.
    """

    cell_type: ClassVar[type[Cell]]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, *, dropout: float = 0.0,
        bidirectional: bool = False, kernel: str = "steps", rng: np.random.Generator | None = None, **options: Any,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        for option, remedy in (
            ("batch_first", "Give inputs with time first, (T, N, C): x.swapaxes(0, 1)."),
            ("proj_size", "Put a Linear on the output."),
        ):
            if option in options:
                raise MinigradError(f"{name}: {option} is not offered.\n  {remedy}")
        if kernel not in _WALKS:
            raise MinigradError(f"{name}: kernel={kernel!r}.\n  Choose 'steps' or 'fused'.")
        if bias not in (True, False):  # PyTorch's RNN has its nonlinearity here
            raise MinigradError(f"{name}: bias={bias!r}.\n  Give True or False; options of the cell go by name.")
        if not isinstance(num_layers, int) or num_layers < 1:
            raise MinigradError(f"{name}: num_layers={num_layers}.\n  Give a whole number from 1.")
        if probability(dropout) and num_layers == 1:
            raise MinigradError(
                f"{name}: dropout={dropout} acts between layers, and there is one.\n"
                "  Give num_layers=2 or more, or put a Dropout on the output."
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout, self.bidirectional, self.kernel, self.rng = dropout, bidirectional, kernel, generator(rng)
        walks = []
        for k in range(num_layers):
            features = hidden_size * (1 + bidirectional) if k else input_size
            for reverse in (False, True)[: 1 + bidirectional]:
                cell = self.cell_type(features, hidden_size, bias, rng=self.rng, **options)
                walks.append(_Walk(f"l{k}{'_reverse' if reverse else ''}", cell, reverse))
        self.walks = tuple(walks)
        for walk in walks:
            for parameter_name, parameter in walk.cell.named_parameters():
                setattr(self, f"{parameter_name}_{walk.name}", parameter)

    def forward(self, x: Any, state: Any = None, *, lengths: Any = None) -> tuple[Tensor, Any]:
        """From inputs and first states to the top layer's outputs and the last states.

        Args:
            x: (T, N, C).
            state: h, for LSTM the pair h, c, each (L*D, N, H), layer by layer, of each layer the
                forward direction first; None: zeros.
            lengths: (N,): how many steps of each sample are real, from 1, in any order; None: all.
                Outputs past a sample's end are 0, its last state is that of its last real step, and
                the reverse direction starts there.
        Returns:
            The outputs (T, N, D*H), and the last states in the form of `state`.
        Raises:
            ShapeError: Inputs, states or lengths do not fit.
        """
        x = x if isinstance(x, Tensor) else Tensor(x)
        if x.ndim != 3:
            raise ShapeError(
                f"{type(self).__name__}: the inputs have shape {x.shape}.\n"
                f"  Give (T, N, C={self.input_size}): time, batch, features; a single sequence is x.reshape(T, 1, C)."
            )
        firsts = self._first_states(state, x.shape[1])
        lasts = []
        with named_scope(type(self).__name__.lower()):
            for layer in range(self.num_layers):
                if layer and self.training and self.dropout:
                    x = drop(x, self.dropout, rng=self.rng)
                outputs = []
                for walk in self.walks[layer * (1 + self.bidirectional) :][: 1 + self.bidirectional]:
                    with nullcontext() if len(self.walks) == 1 else named_scope(walk.name):
                        output, last = _WALKS[self.kernel](
                            walk.cell, x, next(firsts), name=walk.name, lengths=lengths, reverse=walk.reverse
                        )
                    outputs.append(output)
                    lasts.append(last)
                x = ops.concatenate(*outputs, axis=-1) if self.bidirectional else outputs[0]
        kind = self.cell_type.state_type
        stacked = kind(*(ops.stack(*fields) for fields in zip(*lasts, strict=True)))
        return x, stacked[0] if len(stacked) == 1 else stacked

    def _first_states(self, state: Any, batch: int) -> Iterator[Any]:
        """The first state of each walk; None asks the cell."""
        if state is None:
            return iter([None] * len(self.walks))
        kind = self.cell_type.state_type
        given = (state,) if isinstance(state, (Tensor, np.ndarray)) else tuple(state)
        wanted = (len(self.walks), batch, self.hidden_size)
        tensors = [s if isinstance(s, Tensor) else Tensor(s) for s in given]
        if len(given) != len(kind._fields) or any(s.shape != wanted for s in tensors):
            raise ShapeError(
                f"{type(self).__name__}: the state has {len(given)} part{'s' * (len(given) != 1)}, of shape"
                f" {', '.join(str(s.shape) for s in tensors)}.\n"
                f"  Give {' and '.join(kind._fields)}, each of shape (layers x directions={wanted[0]}, N={wanted[1]},"
                f" H={wanted[2]})."
            )
        return (kind(*fields) for fields in zip(*(ops.unstack(s) for s in tensors), strict=True))


class RNN(Recurrent):
    """`RNNCell` over a sequence; arguments as `Recurrent`, options nonlinearity, init, dtype."""

    cell_type = RNNCell


class LSTM(Recurrent):
    """`LSTMCell` over a sequence; arguments as `Recurrent`, options forget_bias, init, dtype."""

    cell_type = LSTMCell


class GRU(Recurrent):
    """`GRUCell` over a sequence; arguments as `Recurrent`, options reset_after, init, dtype."""

    cell_type = GRUCell
