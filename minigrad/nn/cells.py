"""Recurrent cells: each equation once, in primitive ops.

A cell is a pure function from an input and a state to the next state. A state is a NamedTuple of
tensors whose first field is the output. Each `named_scope` becomes a box of the picture.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..engine import boxed
from ..errors import MinigradError, ShapeError
from ..ops import linear, relu, sigmoid, split, tanh
from ..scope import named_scope
from ..tensor import Tensor
from .init import generator, initialise
from .module import Module, Parameter

__all__ = ["Cell", "GRUCell", "GRUState", "LSTMCell", "LSTMState", "RNNCell", "RNNState"]


class RNNState(NamedTuple):
    """The hidden state h (N, H)."""

    h: Tensor


class GRUState(NamedTuple):
    """The hidden state h (N, H)."""

    h: Tensor


class LSTMState(NamedTuple):
    """The hidden state h and the cell state c, each (N, H)."""

    h: Tensor
    c: Tensor


class Cell(Module):
    """What RNNCell, LSTMCell and GRUCell share: stacked weights, one block a gate.

    Parameters: weight_ih (G*H, C), weight_hh (G*H, H), bias_ih and bias_hh (G*H), G gates side by
    side in the order of `gates`, from U(-1/sqrt(H), 1/sqrt(H)) as in PyTorch.

    Args:
        input_size: C, the features of an input.
        hidden_size: H, the size of the state.
        bias: Whether there are biases.
        init: The initialiser of weight_hh, by name; see `nn.init`.
        rng: Where the initial values come from; None: a fresh generator.
        dtype: np.float32 or np.float64.
    """

    gates: ClassVar[tuple[str, ...]]
    state_type: ClassVar[Any]

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, init: str = "uniform",
        rng: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        if input_size < 1 or hidden_size < 1:
            raise MinigradError(
                f"{type(self).__name__}: input_size={input_size}, hidden_size={hidden_size}.\n  Both count from 1."
            )
        rng, blocks, h = generator(rng), len(self.gates), hidden_size
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = Parameter(
            initialise("uniform", rng, blocks=blocks, rows=h, columns=input_size).astype(dtype)
        )
        self.weight_hh = Parameter(initialise(init, rng, blocks=blocks, rows=h, columns=h).astype(dtype))
        bound = 1 / np.sqrt(h)
        self.bias_ih = Parameter(rng.uniform(-bound, bound, blocks * h).astype(dtype)) if bias else None
        self.bias_hh = Parameter(rng.uniform(-bound, bound, blocks * h).astype(dtype)) if bias else None

    def initial_state(self, batch: int) -> Any:
        """Zeros of shape (N, H) for every field of the state."""
        zeros = np.zeros((batch, self.hidden_size), self.weight_hh.dtype)
        return self.state_type(*(boxed(Tensor, zeros) for _ in self.state_type._fields))

    def step(self, x: Tensor, state: Any) -> Any:
        """Advance by one time step; each cell defines it."""
        raise MinigradError(f"{type(self).__name__} defines no step().\n  Define step(self, x, state).")

    def check(self, x: Tensor, state: Any) -> None:
        """Refuse an input or a state of another shape than (N, C) and (N, H)."""
        c, h, (given, *states) = self.input_size, self.hidden_size, [s.shape for s in (x, *state)]
        n = given[0] if given else 0
        if given == (n, c) and states == [(n, h)] * len(states):
            return
        name = type(self).__name__.removesuffix("Cell").lower()
        found = "   ".join(f"{field} {s.shape}" for field, s in zip(state._fields, state, strict=True))
        features = x.shape[-1] if x.ndim else 0
        raise ShapeError(
            f"{name} step: x and the state do not fit a cell made for C={c} features and H={h}.\n"
            f"  x {x.shape}   {found}   weight_ih ({len(self.gates)}H={len(self.gates) * h}, C={c})\n"
            f"  Give x of shape ({n or 'N'}, {c}) and states of shape ({n or 'N'}, {h}), or build"
            f" {type(self).__name__}(input_size={features}, hidden_size={state[0].shape[-1] if state[0].ndim else 0})."
        )


class RNNCell(Cell):
    """The plain recurrent cell.

        a = W_ih x + b_ih + W_hh h + b_hh        h' = tanh(a), or relu(a)

    Args:
        nonlinearity: "tanh" or "relu"; the others as `Cell`.

    Source: Elman 1990.
    """

    gates = ("a",)
    state_type = RNNState

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", **options: Any
    ) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        if nonlinearity not in ("tanh", "relu"):
            raise MinigradError(f"RNNCell: nonlinearity={nonlinearity!r}.\n  Choose 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity

    def step(self, x: Tensor, state: RNNState) -> RNNState:
        """Advance by one time step: x (N, C), state (N, H)."""
        self.check(x, state)
        with named_scope("pre-activation", "a"):
            a = linear(x, self.weight_ih, self.bias_ih) + linear(state.h, self.weight_hh, self.bias_hh)  # (N, H)
        return RNNState(tanh(a) if self.nonlinearity == "tanh" else relu(a))


class LSTMCell(Cell):
    """The long short-term memory cell, with a forget gate.

        i, f, o = sigmoid(W_i* x + W_h* h + b_i* + b_h*)      g = tanh(W_ig x + W_hg h + b_ig + b_hg)
        c' = f * c + i * g                                    h' = o * tanh(c')

    Args:
        forget_bias: What the forget gate's two biases add up to at the start; None leaves both
            random. 1 or 2 keeps memory open (Gers et al. 2000, Jozefowicz et al. 2015). The others
            as `Cell`.

    Source: Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000.
    """

    gates = ("i", "f", "g", "o")
    state_type = LSTMState

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, forget_bias: float | None = None, **options: Any
    ) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        if forget_bias is not None:
            if self.bias_ih is None or self.bias_hh is None:
                raise MinigradError("LSTMCell: forget_bias needs biases.\n  Build it with bias=True.")
            for bias_of, start in ((self.bias_ih, forget_bias), (self.bias_hh, 0.0)):
                values = bias_of.numpy().copy()
                values[hidden_size : 2 * hidden_size] = start
                bias_of.data = values

    def step(self, x: Tensor, state: LSTMState) -> LSTMState:
        """Advance by one time step: x (N, C), h and c (N, H)."""
        self.check(x, state)
        with named_scope("pre-activation", "a"):
            a = linear(x, self.weight_ih, self.bias_ih) + linear(state.h, self.weight_hh, self.bias_hh)  # (N, 4H)
            a_i, a_f, a_g, a_o = split(a, sizes=(self.hidden_size,) * 4, axis=-1)
        with named_scope("forget gate", "f"):
            f = sigmoid(a_f)
        with named_scope("input gate", "i"):
            i = sigmoid(a_i)
        with named_scope("cell gate", "g"):
            g = tanh(a_g)
        with named_scope("output gate", "o"):
            o = sigmoid(a_o)
        c = f * state.c + i * g
        return LSTMState(o * tanh(c), c)


class GRUCell(Cell):
    """The gated recurrent unit.

        r, z = sigmoid(W_i* x + W_h* h + b_i* + b_h*)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))         reset_after=True: PyTorch, cuDNN
        n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)         reset_after=False: Cho et al. 2014
        h' = (1 - z) * n + z * h

    The update gate's sign is PyTorch's: z = 1 keeps the old state. Cho et al. 2014 write it the same
    way, Chung et al. 2014 the other way round.

    Args:
        reset_after: Whether the reset gate acts after the product with W_hn; the others as `Cell`.

    Source: Cho et al. 2014.
    """

    gates = ("r", "z", "n")
    state_type = GRUState

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, reset_after: bool = True, **options: Any
    ) -> None:
        super().__init__(input_size, hidden_size, bias, **options)
        self.reset_after = reset_after

    def step(self, x: Tensor, state: GRUState) -> GRUState:
        """Advance by one time step: x (N, C), h (N, H)."""
        self.check(x, state)
        h, size = state.h, self.hidden_size
        with named_scope("pre-activation", "a"):
            x_r, x_z, x_n = split(linear(x, self.weight_ih, self.bias_ih), sizes=(size,) * 3, axis=-1)
            if self.reset_after:
                h_r, h_z, h_n = split(linear(h, self.weight_hh, self.bias_hh), sizes=(size,) * 3, axis=-1)
            else:
                w_rz, w_n = split(self.weight_hh, sizes=(2 * size, size))
                b_rz, b_n = (None, None) if self.bias_hh is None else split(self.bias_hh, sizes=(2 * size, size))
                h_r, h_z = split(linear(h, w_rz, b_rz), sizes=(size,) * 2, axis=-1)
        with named_scope("reset gate", "r"):
            r = sigmoid(x_r + h_r)
        with named_scope("update gate", "z"):
            z = sigmoid(x_z + h_z)
        with named_scope("new gate", "n"):
            n = tanh(x_n + (r * h_n if self.reset_after else linear(r * h, w_n, b_n)))
        return GRUState((1 - z) * n + z * h)
