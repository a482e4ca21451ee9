"""The LSTM over a whole sequence. Reference: `unroll` of `nn.cells.LSTMCell`.

Forward, for every step (x_t's part of the pre-activations comes from one product for many steps):

    a = W_ih x_t + W_hh h_{t-1} + b            i, f, o = sigmoid(a_i, a_f, a_o)      g = tanh(a_g)
    c_t = f * c_{t-1} + i * g                  h_t = o * tanh(c_t)

Backward, from the last step to the first. dL/dh_t has come from the output and from step t+1:

    dL/dc_t  = dL/dh_t * o * (1 - tanh(c_t)**2) + dL/dc_{t+1} * f_{t+1}
    dL/da_o  = dL/dh_t * tanh(c_t) * o * (1 - o)
    dL/da_i  = dL/dc_t * g       * i * (1 - i)
    dL/da_f  = dL/dc_t * c_{t-1} * f * (1 - f)
    dL/da_g  = dL/dc_t * i * (1 - g**2)
    dL/dh_{t-1} gets dL/da @ W_hh

What stands to the right of dL/dh_t and dL/dc_t is known from the forward pass: it is formed for many
steps at once. So is what the weights get, a sum over t and n: dL/dW_ih = da^T x, dL/dW_hh = da^T h_{t-1}.

The sigmoid is 1 / (1 + e**-a); the minus stands in the weights' rows of i, f and o, at no cost and exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..engine import Array
from .sequence import Arrangement, arrange, rows_of, summed, zeros_for

__all__ = ["Gradients", "Saved", "Trace", "backward", "forward"]

I, F, O, G, C, TANH_C = range(6)
"""Where each gate stands in `Saved.blocks`: sigmoids side by side, and (i, f) * (g, c_{t-1}) is one product."""


@dataclass(frozen=True, eq=False)
class Saved:
    """What the forward pass leaves for the backward pass and for a record, in the kernel's own order.

    Attributes:
        arrangement: The order of time and samples.
        hidden: h before the first step and after each, (T+1, N, H).
        blocks: i_t, f_t, o_t, g_t, c_{t-1} and tanh(c_t), (T+1, 6, N, H); of the last one only c is filled.
    """

    arrangement: Arrangement
    hidden: Array
    blocks: Array

    @property
    def states(self) -> Mapping[str, Array]:
        """h and c after every step, (T, N, H) by input time; 0 at padding."""
        restored = self.arrangement.restored
        return {"c": restored(self.blocks[1:, C]), "h": restored(self.hidden[1:])}

    @property
    def gates(self) -> Mapping[str, Array]:
        """f, i, g, o of every step, (T, N, H) by input time; 0 at padding."""
        blocks = {"f": F, "i": I, "g": G, "o": O}
        return {name: self.arrangement.restored(self.blocks[:-1, k]) for name, k in blocks.items()}


class Gradients(NamedTuple):
    """dL/d each input of `forward`; None where nobody needs it."""

    x: Array | None
    h: Array | None
    c: Array | None
    weight_ih: Array | None
    weight_hh: Array | None
    bias_ih: Array | None
    bias_hh: Array | None


@dataclass(frozen=True, eq=False)
class Trace:
    """What backpropagation through time did at every step, in the kernel's own order.

    Attributes:
        saved: Of the forward pass.
        hidden, cell: dL/dh_t and dL/dc_t, total derivatives, (T, N, H).
        carried: What of dL/dh_{t-1} comes from step t, (T+1, N, H); each sample's last is dL/d(last h) instead.
        pre_activations: dL/da_t, (T, N, 4H) in the weights' order i, f, g, o.
    """

    saved: Saved
    hidden: Array
    cell: Array
    carried: Array
    pre_activations: Array

    @property
    def gradients(self) -> Mapping[str, Array]:
        """dL/dh_t, dL/dc_t, (T, N, H), and dL/da_t, (T, N, 4H), by input time; 0 at padding."""
        restored = self.saved.arrangement.restored
        return {"c": restored(self.cell), "h": restored(self.hidden), "a": restored(self.pre_activations)}

    @property
    def sides(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """dL/da on the input and on the hidden side in blocks of the weights' rows: here one, and the same."""
        d_a = self.saved.arrangement.restored(self.pre_activations)
        return (d_a,), (d_a,)

    @property
    def gate_gradients(self) -> Mapping[str, Array]:
        """dL/df, dL/di, dL/dg, dL/do of every step, (T, N, H) by input time; 0 at padding."""
        restored, blocks, dc = self.saved.arrangement.restored, self.saved.blocks[:-1], self.cell
        return {
            "f": restored(dc * blocks[:, C]),
            "i": restored(dc * blocks[:, G]),
            "g": restored(dc * blocks[:, I]),
            "o": restored(self.hidden * blocks[:, TANH_C]),
        }

    @property
    def arrivals(self) -> Mapping[str, Mapping[str, Array]]:
        """What of dL/dc_t and dL/dh_t comes from the same and the next step, (T, N, H) by input time.

        The rest comes from outside.
        """
        plan, blocks = self.saved.arrangement, self.saved.blocks[:-1]
        from_next = np.zeros_like(self.carried)
        np.multiply(self.cell, blocks[:, F], from_next[:-1])
        same = self.hidden * blocks[:, O] * (1 - blocks[:, TANH_C] ** 2)
        return {
            "c": {"same": plan.restored(same), "next": plan.inner(from_next)},
            "h": {"next": plan.inner(self.carried)},
        }


def _packed(weight: Array) -> Array:
    """Gates i, f, g, o, (4H, …), as -i, -f, -o, g: the signs that 1 / (1 + e**-a) asks for."""
    size, packed = len(weight) // 4, np.empty_like(weight)
    np.negative(weight[: 2 * size], packed[: 2 * size])
    np.negative(weight[3 * size :], packed[2 * size : 3 * size])
    packed[3 * size :] = weight[2 * size : 3 * size]
    return packed


def forward(
    x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None,
    *, lengths: Array | None = None, reverse: bool = False,
) -> tuple[Array, Array, Array, Saved]:  # fmt: skip
    """Run the cell over every step.

    Args:
        x: Inputs (T, N, C).
        h, c: The initial states, each (N, H).
        weight_ih, weight_hh, bias_ih, bias_hh: (4H, C), (4H, H), (4H), (4H), gates i, f, g, o; both biases or none.
        lengths: (N,), each from 1 to T; None: every sequence has T steps.
        reverse: Whether each sequence runs from its own last step to its first.
    Returns:
        The outputs (T, N, H) by input time, 0 past a sequence's end; the last h and c; what backward needs.
    """
    (steps, batch, _), size, dtype = x.shape, weight_hh.shape[1], x.dtype
    plan = arrange(steps, batch, lengths, reverse)
    inputs, w_x, w_h = plan.arranged(x), _packed(weight_ih).T, _packed(weight_hh).T
    bias = None if bias_ih is None or bias_hh is None else _packed(bias_ih + bias_hh)
    hidden = plan.new((steps + 1, batch, size), dtype)
    blocks = plan.new((steps + 1, 6, batch, size), dtype)
    hidden[0], blocks[0, C] = plan.arranged_rows(h), plan.arranged_rows(c)
    one, both = np.ones((), dtype), np.empty((2, batch, size), dtype)
    a_h = np.empty((batch, 4 * size), dtype)
    add, multiply, exp, tanh, reciprocal = np.add, np.multiply, np.exp, np.tanh, np.reciprocal
    with np.errstate(over="ignore"):  # e**-a = inf gives the sigmoid its limit, 0
        for start, stop, rows in plan.chunks(4 * size):
            a_x = rows_of(inputs[start:stop, :rows]) @ w_x
            if bias is not None:
                add(a_x, bias, a_x)
            a_x = a_x.reshape(-1, rows, 4, size).swapaxes(1, 2)  # (t, 4, n, H)
            a, products = a_h[:rows], both[:, :rows]
            a_blocks, (i_g, f_c) = a.reshape(rows, 4, size).swapaxes(0, 1), products
            now, then = blocks[start:stop, :, :rows], slice(start + 1, stop + 1)
            h_t = hidden[start, :rows]
            for x_t, gates, sigmoids, g, i_f, g_c, c_t, tanh_c, o, h_next in zip(
                a_x, now[:, :C], now[:, :G], now[:, G], now[:, :O], now[:, G:TANH_C], blocks[then, C, :rows],
                now[:, TANH_C], now[:, O], hidden[then, :rows],
            ):  # fmt: skip
                h_t.dot(w_h, a)
                add(a_blocks, x_t, gates)
                exp(sigmoids, sigmoids)
                add(sigmoids, one, sigmoids)
                reciprocal(sigmoids, sigmoids)
                tanh(g, g)
                multiply(i_f, g_c, products)
                add(i_g, f_c, c_t)
                tanh(c_t, tanh_c)
                h_t = multiply(o, tanh_c, h_next)
    saved = Saved(plan, hidden, blocks)
    return plan.restored(hidden[1:]), plan.last(hidden), plan.last(blocks[:, C]), saved


def _slopes(blocks: Array, out: Array) -> None:
    """For some steps at once, what dL/dc_t is multiplied by for a_i, a_f, a_g, and dL/dh_t for a_o and c_t.

    Args:
        blocks: As saved, (t, 6, n, H).
        out: (t, 5, n, H), filled in the order i, f, g, o, c.
    """
    one = np.ones((), out.dtype)
    sigmoids, i_f, g_c, tanhs = blocks[:, :G], out[:, :2], blocks[:, G:TANH_C], blocks[:, G::2]
    s_1_s, for_tanhs = out[:, 2:], out[:, 2::2]  # of i, f, o: where g, o, c will be; of g and tanh(c)
    np.subtract(one, sigmoids, s_1_s)
    np.multiply(s_1_s, sigmoids, s_1_s)
    np.multiply(s_1_s[:, :2], g_c, i_f)
    np.multiply(s_1_s[:, 2], blocks[:, TANH_C], out[:, 3])
    np.multiply(tanhs, tanhs, for_tanhs)
    np.subtract(one, for_tanhs, for_tanhs)
    np.multiply(for_tanhs, blocks[:, : O + 1 : 2], for_tanhs)


def backward(
    saved: Saved, grad_output: Array | None, grad_h: Array | None, grad_c: Array | None,
    x: Array, weight_ih: Array, weight_hh: Array, *, needs: tuple[bool, ...] = (True,) * 7,
) -> tuple[Gradients, Trace]:  # fmt: skip
    """Carry gradients from the last step to the first.

    Args:
        saved: From `forward`, as are x and the weights.
        grad_output: dL/d(outputs), (T, N, H), or None for zeros.
        grad_h, grad_c: dL/d(last states), each (N, H), or None for zeros.
        needs: Which fields of `Gradients` are wanted.
    """
    plan, dtype = saved.arrangement, x.dtype
    steps, batch, size = shape = (len(x), *saved.hidden.shape[1:])
    outside = plan.arranged(zeros_for(shape, dtype) if grad_output is None else grad_output)
    d_hidden, d_cell, carried = plan.new(shape, dtype), plan.new(shape, dtype), plan.with_last(grad_h, shape, dtype)
    d_a = plan.new((steps, batch, 4, size), dtype)
    carry_c = np.zeros(shape[1:], dtype) if grad_c is None else plan.arranged_rows(grad_c).copy()
    chunks = list(plan.chunks(5 * size))
    scratch = np.empty(max((stop - start) * rows for start, stop, rows in chunks) * 5 * size, dtype)
    add, multiply = np.add, np.multiply
    for start, stop, rows in reversed(chunks):
        slopes = scratch[: (stop - start) * rows * 5 * size].reshape(-1, 5, rows, size)
        blocks = saved.blocks[start:stop, :, :rows]
        _slopes(blocks, slopes)
        flat, gates = d_a.reshape(steps, batch, -1)[start:stop, :rows], d_a[start:stop, :rows].swapaxes(1, 2)
        now, then, dc_next = slice(start, stop), slice(start + 1, stop + 1), carry_c[:rows]
        for g_t, dh_next, slope_c, slope_o, slope_ifg, f, dh, dc, da, da_ifg, da_o, dh_before in zip(
            outside[now, :rows][::-1], carried[then, :rows][::-1],
            slopes[::-1, 4], slopes[::-1, 3], slopes[::-1, :3], blocks[::-1, F],
            d_hidden[now, :rows][::-1], d_cell[now, :rows][::-1], flat[::-1], gates[::-1, :3], gates[::-1, 3],
            carried[now, :rows][::-1],
        ):  # fmt: skip
            add(dh_next, g_t, dh)
            multiply(dh, slope_c, dc)
            add(dc, dc_next, dc)
            multiply(dh, slope_o, da_o)
            multiply(dc, slope_ifg, da_ifg)
            multiply(dc, f, dc_next)
            da.dot(weight_hh, dh_before)
    flat = d_a.reshape(steps, batch, 4 * size)
    d_rows = rows_of(flat)
    for_bias = summed(flat) if needs[5] or needs[6] else None
    gradients = Gradients(
        plan.restored((d_rows @ weight_ih).reshape(x.shape)) if needs[0] else None,
        plan.restored_rows(carried[0]) if needs[1] else None,
        plan.restored_rows(carry_c) if needs[2] else None,
        d_rows.T @ rows_of(plan.arranged(x)) if needs[3] else None,
        d_rows.T @ rows_of(plan.before(saved.hidden)) if needs[4] else None,
        for_bias if needs[5] else None,
        for_bias if needs[6] else None,
    )
    return gradients, Trace(saved, d_hidden, d_cell, carried, flat)
