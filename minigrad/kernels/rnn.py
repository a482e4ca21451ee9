"""The plain recurrent network over a whole sequence. Reference: `unroll` of `nn.cells.RNNCell`.

Forward, for every step (x_t's part comes from one product for many steps):

    a = W_ih x_t + W_hh h_{t-1} + b            h_t = tanh(a), or relu(a)

Backward, from the last step to the first. dL/dh_t has come from the output and from step t+1:

    dL/da_t = dL/dh_t * (1 - h_t**2), or dL/dh_t where h_t > 0
    dL/dh_{t-1} gets dL/da @ W_hh

What stands to the right of dL/dh_t is known from the forward pass: it is formed for many steps at once.
So is what the weights get, a sum over t and n: dL/dW_ih = da^T x, dL/dW_hh = da^T h_{t-1}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..engine import Array
from .sequence import Arrangement, Gradients, arrange, rows_of, summed, zeros_for

__all__ = ["Gradients", "Saved", "Trace", "backward", "forward"]


@dataclass(frozen=True, eq=False)
class Saved:
    """What the forward pass leaves for the backward pass and for a record, in the kernel's own order.

    Attributes:
        arrangement: The order of time and samples.
        nonlinearity: "tanh" or "relu".
        hidden: h before the first step and after each, (T+1, N, H).
        pre_activations: a_t, (T, N, H).
    """

    arrangement: Arrangement
    nonlinearity: str
    hidden: Array
    pre_activations: Array

    @property
    def states(self) -> Mapping[str, Array]:
        """h after every step, (T, N, H) by input time; 0 at padding."""
        return {"h": self.arrangement.restored(self.hidden[1:])}

    @property
    def gates(self) -> Mapping[str, Array]:
        """The pre-activation a of every step, (T, N, H) by input time; 0 at padding."""
        return {"a": self.arrangement.restored(self.pre_activations)}


@dataclass(frozen=True, eq=False)
class Trace:
    """What backpropagation through time did at every step, in the kernel's own order.

    Attributes:
        saved: Of the forward pass.
        hidden: dL/dh_t, the total derivative, (T, N, H).
        carried: What of dL/dh_{t-1} comes from step t, (T+1, N, H); each sample's last is dL/d(last h) instead.
        pre_activations: dL/da_t, (T, N, H).
    """

    saved: Saved
    hidden: Array
    carried: Array
    pre_activations: Array

    @property
    def gradients(self) -> Mapping[str, Array]:
        """dL/dh_t and dL/da_t, (T, N, H) by input time; 0 at padding."""
        restored = self.saved.arrangement.restored
        return {"h": restored(self.hidden), "a": restored(self.pre_activations)}

    @property
    def sides(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """dL/da on the input and on the hidden side in blocks of the weights' rows: here one, and the same."""
        d_a = self.saved.arrangement.restored(self.pre_activations)
        return (d_a,), (d_a,)

    @property
    def gate_gradients(self) -> Mapping[str, Array]:
        """dL/da_t, as in `gradients`."""
        return {"a": self.saved.arrangement.restored(self.pre_activations)}

    @property
    def arrivals(self) -> Mapping[str, Mapping[str, Array]]:
        """What of dL/dh_t comes from the next step, (T, N, H) by input time; the rest comes from outside."""
        return {"h": {"next": self.saved.arrangement.inner(self.carried)}}


def forward(
    x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None,
    *, nonlinearity: str = "tanh", lengths: Array | None = None, reverse: bool = False,
) -> tuple[Array, Array, Saved]:  # fmt: skip
    """Run the cell over every step.

    Args:
        x: Inputs (T, N, C).
        h: The initial state (N, H).
        weight_ih, weight_hh, bias_ih, bias_hh: (H, C), (H, H), (H), (H); both biases or none.
        nonlinearity: "tanh" or "relu".
        lengths: (N,), each from 1 to T; None: every sequence has T steps.
        reverse: Whether each sequence runs from its own last step to its first.
    Returns:
        The outputs (T, N, H) by input time, 0 past a sequence's end; the last h; what backward needs.
    """
    (steps, batch, _), size, dtype = x.shape, weight_hh.shape[1], x.dtype
    plan = arrange(steps, batch, lengths, reverse)
    inputs, w_x, w_h = plan.arranged(x), weight_ih.T, weight_hh.T
    bias = zeros_for((size,), dtype) if bias_ih is None or bias_hh is None else bias_ih + bias_hh
    hidden = plan.new((steps + 1, batch, size), dtype)
    hidden[0] = plan.arranged_rows(h)
    a = plan.new((steps, batch, size), dtype)
    scratch, zero, tanh = np.empty((batch, size), dtype), np.zeros((), dtype), nonlinearity == "tanh"
    add, activate, maximum = np.add, np.tanh, np.maximum
    for start, stop, rows in plan.chunks(size):
        a_x = (rows_of(inputs[start:stop, :rows]) @ w_x).reshape(-1, rows, size)
        add(a_x, bias, a[start:stop, :rows])
        a_h, h_t = scratch[:rows], hidden[start, :rows]
        for a_t, h_next in zip(a[start:stop, :rows], hidden[start + 1 : stop + 1, :rows]):
            h_t.dot(w_h, a_h)
            add(a_t, a_h, a_t)
            h_t = activate(a_t, h_next) if tanh else maximum(a_t, zero, out=h_next)
    return plan.restored(hidden[1:]), plan.last(hidden), Saved(plan, nonlinearity, hidden, a)


def _slopes(saved: Saved, hidden: Array, out: Array) -> None:
    """The derivative of the nonlinearity at some steps, from its values there."""
    if saved.nonlinearity == "tanh":
        np.multiply(hidden, hidden, out)
        np.subtract(np.ones((), out.dtype), out, out)
    else:
        np.greater(hidden, 0, out)


def backward(
    saved: Saved, grad_output: Array | None, grad_h: Array | None,
    x: Array, weight_ih: Array, weight_hh: Array, *, needs: tuple[bool, ...] = (True,) * 6,
) -> tuple[Gradients, Trace]:  # fmt: skip
    """Carry gradients from the last step to the first.

    Args:
        saved: From `forward`, as are x and the weights.
        grad_output: dL/d(outputs), (T, N, H), or None for zeros.
        grad_h: dL/d(last h), (N, H), or None for zeros.
        needs: Which fields of `Gradients` are wanted.
    """
    plan, dtype = saved.arrangement, x.dtype
    shape = (len(x), *saved.hidden.shape[1:])  # T, N, H
    size = shape[-1]
    outside = plan.arranged(zeros_for(shape, dtype) if grad_output is None else grad_output)
    carried = plan.with_last(grad_h, shape, dtype)
    d_hidden, d_a = plan.new(shape, dtype), plan.new(shape, dtype)
    add, multiply = np.add, np.multiply
    for start, stop, rows in reversed(list(plan.chunks(size))):
        slopes = np.empty((stop - start, rows, size), dtype)
        _slopes(saved, saved.hidden[start + 1 : stop + 1, :rows], slopes)
        now, then = slice(start, stop), slice(start + 1, stop + 1)
        for g_t, dh_next, slope, dh, da, dh_before in zip(
            outside[now, :rows][::-1], carried[then, :rows][::-1], slopes[::-1],
            d_hidden[now, :rows][::-1], d_a[now, :rows][::-1], carried[now, :rows][::-1],
        ):  # fmt: skip
            add(dh_next, g_t, dh)
            multiply(dh, slope, da)
            da.dot(weight_hh, dh_before)
    d_rows = rows_of(d_a)
    for_bias = summed(d_a) if needs[4] or needs[5] else None
    gradients = Gradients(
        plan.restored((d_rows @ weight_ih).reshape(x.shape)) if needs[0] else None,
        plan.restored_rows(carried[0]) if needs[1] else None,
        d_rows.T @ rows_of(plan.arranged(x)) if needs[2] else None,
        d_rows.T @ rows_of(plan.before(saved.hidden)) if needs[3] else None,
        for_bias if needs[4] else None,
        for_bias if needs[5] else None,
    )
    return gradients, Trace(saved, d_hidden, carried, d_a)
