"""The GRU over a whole sequence. Reference: `unroll` of `nn.cells.GRUCell`.

Forward, for every step (x_t's part comes from one product for many steps):

    r, z = sigmoid(W_i* x_t + W_h* h_{t-1} + b_i* + b_h*)
    n = tanh(W_in x_t + b_in + r * m),  m = W_hn h_{t-1} + b_hn         reset_after=True
    n = tanh(W_in x_t + b_in + W_hn m + b_hn),  m = r * h_{t-1}         reset_after=False
    h_t = (1 - z) * n + z * h_{t-1} = n + z * (h_{t-1} - n)

Backward, from the last step to the first. dL/dh_t has come from the output and from step t+1:

    dL/da_n = dL/dh_t * (1 - z) * (1 - n**2)
    dL/da_z = dL/dh_t * (h_{t-1} - n) * z * (1 - z)
    dL/dh_{t-1} gets dL/dh_t * z, and from the products with W_hh:

    reset_after=True    dL/dm = dL/da_n * r              dL/da_r = dL/da_n * m * r * (1 - r)
                        (dL/da_r, dL/da_z, dL/dm) @ W_hh
    reset_after=False   dL/dm = dL/da_n @ W_hn           dL/da_r = dL/dm * h_{t-1} * r * (1 - r)
                        dL/dm * r + (dL/da_r, dL/da_z) @ (W_hr, W_hz)

What stands to the right of dL/dh_t and dL/dm is known from the forward pass: it is formed for many
steps at once; with reset_after that leaves one product of dL/dh_t for all gates. So is what the
weights get, a sum over t and n: dL/dW_ih = da^T x, dL/dW_hh = (dL/da_r, dL/da_z, dL/dm)^T h_{t-1};
without reset_after W_hn gets da_n^T m.

The sigmoid is 1 / (1 + e**-a); the minus stands in the weights' rows of r and z, at no cost and exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..engine import Array
from .sequence import Arrangement, Gradients, arrange, rows_of, summed, zeros_for

__all__ = ["Gradients", "Saved", "Trace", "backward", "forward"]

R, Z, M, N = range(4)
"""Where each gate stands in `Saved.blocks`."""


@dataclass(frozen=True, eq=False)
class Saved:
    """What the forward pass leaves for the backward pass and for a record, in the kernel's own order.

    Attributes:
        arrangement: The order of time and samples.
        reset_after: Whether the reset gate acts after the product with W_hn.
        hidden: h before the first step and after each, (T+1, N, H).
        blocks: r_t, z_t, m_t, n_t, (T, 4, N, H); m is W_hn h + b_hn with reset_after, r * h without.
    """

    arrangement: Arrangement
    reset_after: bool
    hidden: Array
    blocks: Array

    @property
    def states(self) -> Mapping[str, Array]:
        """h after every step, (T, N, H) by input time; 0 at padding."""
        return {"h": self.arrangement.restored(self.hidden[1:])}

    @property
    def gates(self) -> Mapping[str, Array]:
        """r, z, n and the hidden part m of every step, (T, N, H) by input time; 0 at padding."""
        blocks = {"r": R, "z": Z, "n": N, "m": M}
        return {name: self.arrangement.restored(self.blocks[:, k]) for name, k in blocks.items()}


@dataclass(frozen=True, eq=False)
class Trace:
    """What backpropagation through time did at every step, in the kernel's own order.

    Attributes:
        saved: Of the forward pass.
        hidden: dL/dh_t, the total derivative, (T, N, H).
        carried: What of dL/dh_{t-1} comes from step t, (T+1, N, H); each sample's last is dL/d(last h) instead.
        pre_activations: (T, N, 4H): dL/da of n, r, z, and dL/dm, with reset_after; (T, N, 3H): of r, z, n, without.
        reset_hidden: dL/dm without reset_after, (T, N, H); None with it.
    """

    saved: Saved
    hidden: Array
    carried: Array
    pre_activations: Array
    reset_hidden: Array | None

    @property
    def gradients(self) -> Mapping[str, Array]:
        """dL/dh_t (T, N, H); the pre-activations' gradients on the input side, "a", and on the hidden side, "a_hh".

        Both (T, N, 3H) in the weights' order r, z, n, by input time, 0 at padding. They differ in n
        with reset_after: the hidden side is dL/dm there.
        """
        restored, size = self.saved.arrangement.restored, self.hidden.shape[-1]
        d_a = restored(self.pre_activations)
        if self.saved.reset_after:
            inputs = np.concatenate((d_a[..., size : 3 * size], d_a[..., :size]), axis=-1)
            return {"h": restored(self.hidden), "a": inputs, "a_hh": d_a[..., size:]}
        return {"h": restored(self.hidden), "a": d_a, "a_hh": d_a}

    @property
    def sides(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """dL/da on the input and on the hidden side in blocks of the weights' rows, (T, N, R) by input time.

        Without reset_after the hidden side's second block, n, met r * h in place of h.
        """
        size, d_a = self.hidden.shape[-1], self.saved.arrangement.restored(self.pre_activations)
        if self.saved.reset_after:
            return (d_a[..., size : 3 * size], d_a[..., :size]), (d_a[..., size:],)
        return (d_a,), (d_a[..., : 2 * size], d_a[..., 2 * size :])

    @property
    def gate_gradients(self) -> Mapping[str, Array]:
        """dL/dr, dL/dz, dL/dn of every step, (T, N, H) by input time; 0 at padding."""
        restored, size, before = self.saved.arrangement.restored, self.hidden.shape[-1], self.saved.hidden[:-1]
        z, m, n = (self.saved.blocks[:, k] for k in (Z, M, N))
        dr = self.pre_activations[..., :size] * m if self.reset_hidden is None else self.reset_hidden * before
        dz, dn = self.hidden * (before - n), self.hidden * (1 - z)
        return {"r": restored(dr), "z": restored(dz), "n": restored(dn)}

    @property
    def arrivals(self) -> Mapping[str, Mapping[str, Array]]:
        """What of dL/dh_t comes from the next step, (T, N, H) by input time; the rest comes from outside."""
        return {"h": {"next": self.saved.arrangement.inner(self.carried)}}


def _packed(weight: Array) -> Array:
    """Gates r, z, n, (3H, …), as -r, -z, n: the signs that 1 / (1 + e**-a) asks for."""
    size, packed = len(weight) // 3, np.empty_like(weight)
    np.negative(weight[: 2 * size], packed[: 2 * size])
    packed[2 * size :] = weight[2 * size :]
    return packed


def forward(
    x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None,
    *, reset_after: bool = True, lengths: Array | None = None, reverse: bool = False,
) -> tuple[Array, Array, Saved]:  # fmt: skip
    """Run the cell over every step.

    Args:
        x: Inputs (T, N, C).
        h: The initial state (N, H).
        weight_ih, weight_hh, bias_ih, bias_hh: (3H, C), (3H, H), (3H), (3H), gates r, z, n; both biases or none.
        reset_after: Whether the reset gate acts after the product with W_hn.
        lengths: (N,), each from 1 to T; None: every sequence has T steps.
        reverse: Whether each sequence runs from its own last step to its first.
    Returns:
        The outputs (T, N, H) by input time, 0 past a sequence's end; the last h; what backward needs.
    """
    (steps, batch, _), size, dtype = x.shape, weight_hh.shape[1], x.dtype
    plan = arrange(steps, batch, lengths, reverse)
    inputs, w_x, w_h = plan.arranged(x), _packed(weight_ih).T, _packed(weight_hh).T
    # x_t's part of r, z, m, n: m has none with reset_after, and is not a sum without
    bias = np.zeros((4, 1, size), dtype)
    if bias_ih is not None and bias_hh is not None:
        b_ih, b_hh = _packed(bias_ih).reshape(3, 1, size), _packed(bias_hh).reshape(3, 1, size)
        bias[:M] = b_ih[:2] + b_hh[:2]
        bias[M], bias[N] = (b_hh[2], b_ih[2]) if reset_after else (0, b_ih[2] + b_hh[2])
    if not reset_after:
        w_h, w_n = w_h[:, : 2 * size], w_h[:, 2 * size :]
    hidden = plan.new((steps + 1, batch, size), dtype)
    blocks = plan.new((steps, 4, batch, size), dtype)
    hidden[0] = plan.arranged_rows(h)
    one, scratch = np.ones((), dtype), np.empty((batch, w_h.shape[1]), dtype)
    add, subtract, multiply, exp, tanh, reciprocal = np.add, np.subtract, np.multiply, np.exp, np.tanh, np.reciprocal
    with np.errstate(over="ignore"):  # e**-a = inf gives the sigmoid its limit, 0
        for start, stop, rows in plan.chunks(4 * size):
            product = (rows_of(inputs[start:stop, :rows]) @ w_x).reshape(-1, rows, 3, size).swapaxes(1, 2)
            a_x = np.empty((stop - start, 4, rows, size), dtype)
            add(product[:, :M], bias[:M], a_x[:, :M])
            a_x[:, M] = bias[M]
            add(product[:, M], bias[N], a_x[:, N])
            a_h, now, h_t = scratch[:rows], blocks[start:stop, :, :rows], hidden[start, :rows]
            a_blocks = a_h.reshape(rows, -1, size).swapaxes(0, 1)
            sums = len(a_blocks)  # r, z, and m with reset_after
            for x_sums, x_n, gates, sigmoids, r, z, m, n, h_next in zip(
                a_x[:, :sums], a_x[:, N], now[:, :sums], now[:, :M], now[:, R], now[:, Z], now[:, M], now[:, N],
                hidden[start + 1 : stop + 1, :rows],
            ):  # fmt: skip
                h_t.dot(w_h, a_h)
                add(a_blocks, x_sums, gates)
                exp(sigmoids, sigmoids)
                add(sigmoids, one, sigmoids)
                reciprocal(sigmoids, sigmoids)
                if reset_after:
                    multiply(r, m, n)
                else:
                    multiply(r, h_t, m)
                    m.dot(w_n, n)
                add(n, x_n, n)
                tanh(n, n)
                subtract(h_t, n, h_next)
                multiply(h_next, z, h_next)
                h_t = add(h_next, n, h_next)
    return plan.restored(hidden[1:]), plan.last(hidden), Saved(plan, reset_after, hidden, blocks)


def _slopes(blocks: Array, before: Array, reset_after: bool, out: Array) -> None:
    """For some steps at once, what dL/dh_t (for r without reset_after: dL/dm) is multiplied by for each gate.

    Args:
        blocks: As saved, (t, 4, n, H).
        before: h_{t-1}, (t, n, H).
        out: (t, 4, n, H), filled in the order of `Trace.pre_activations`.
    """
    r, m, n = (blocks[:, k] for k in (R, M, N))
    start = 1 if reset_after else 0  # (n, r, z, m) or (r, z, n)
    for_sigmoids, for_n, scratch = out[:, start : start + 2], out[:, 0 if reset_after else 2], out[:, 3]
    for_r, for_z, one = for_sigmoids[:, 0], for_sigmoids[:, 1], np.ones((), out.dtype)
    np.subtract(one, blocks[:, :M], for_sigmoids)
    np.multiply(n, n, for_n)
    np.subtract(one, for_n, for_n)
    np.multiply(for_n, for_z, for_n)  # (1 - n**2) (1 - z)
    np.multiply(for_sigmoids, blocks[:, :M], for_sigmoids)
    np.subtract(before, n, scratch)
    np.multiply(for_z, scratch, for_z)  # (h_{t-1} - n) z (1 - z)
    if reset_after:
        np.multiply(for_n, r, out[:, 3])
        np.multiply(for_r, m, for_r)
        np.multiply(for_r, for_n, for_r)  # m r (1 - r) times n's
    else:
        np.multiply(for_r, before, for_r)  # h_{t-1} r (1 - r)


def _back_after(
    outside: Array, arriving: Array, z: Array, slopes: Array, weight_hh: Array,
    d_hidden: Array, d_a: Array, leaving: Array,
) -> None:  # fmt: skip
    """The loop over some steps, all arrays from the last step to the first, with reset_after.

    Args:
        outside, arriving: What dL/dh_t gets from outside and from step t+1, each (t, n, H).
        z, slopes: (t, n, H) and (t, 4, n, H).
        d_hidden, d_a: To be filled, (t, n, H) and (t, n, 4, H).
        leaving: To be filled with what dL/dh_{t-1} gets; a view of what arrives there.
    """
    add, multiply = np.add, np.multiply
    kept, for_hidden = np.empty_like(leaving[0]), d_a[:, :, 1:].reshape(*d_a.shape[:2], -1)
    for g_t, dh_next, z_t, slope, dh, da, da_hidden, dh_before in zip(
        outside, arriving, z, slopes, d_hidden, d_a.swapaxes(1, 2), for_hidden, leaving
    ):
        add(dh_next, g_t, dh)
        multiply(dh, slope, da)
        multiply(dh, z_t, kept)
        da_hidden.dot(weight_hh, dh_before)
        add(dh_before, kept, dh_before)


def _back_before(
    outside: Array, arriving: Array, z: Array, r: Array, slopes: Array, weight_hh: Array,
    d_hidden: Array, d_m: Array, d_a: Array, leaving: Array,
) -> None:  # fmt: skip
    """The same without reset_after; r and d_m, to be filled, are (t, n, H), d_a is (t, n, 3, H)."""
    add, multiply = np.add, np.multiply
    size = z.shape[-1]
    w_rz, w_n = weight_hh[: 2 * size], weight_hh[2 * size :]
    kept, part = np.empty_like(leaving[0]), np.empty_like(leaving[0])
    gates, for_rz = d_a.swapaxes(1, 2), d_a[:, :, :2].reshape(*d_a.shape[:2], -1)
    for g_t, dh_next, z_t, r_t, slope_r, slope_zn, dh, dm, da_r, da_zn, da_n, da_rz, dh_before in zip(
        outside, arriving, z, r, slopes[:, 0], slopes[:, 1:3], d_hidden, d_m,
        gates[:, 0], gates[:, 1:], gates[:, 2], for_rz, leaving,
    ):  # fmt: skip
        add(dh_next, g_t, dh)
        multiply(dh, slope_zn, da_zn)
        multiply(dh, z_t, kept)
        da_n.dot(w_n, dm)
        multiply(dm, slope_r, da_r)
        multiply(dm, r_t, part)
        add(kept, part, kept)
        da_rz.dot(w_rz, dh_before)
        add(dh_before, kept, dh_before)


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
    plan, after, dtype = saved.arrangement, saved.reset_after, x.dtype
    steps, batch, size = shape = (len(x), *saved.hidden.shape[1:])
    outside = plan.arranged(zeros_for(shape, dtype) if grad_output is None else grad_output)
    carried, d_m = plan.with_last(grad_h, shape, dtype), None if after else plan.new(shape, dtype)
    d_hidden, d_a = plan.new(shape, dtype), plan.new((steps, batch, 4 if after else 3, size), dtype)
    chunks = list(plan.chunks(4 * size))
    scratch = np.empty(max((stop - start) * rows for start, stop, rows in chunks) * 4 * size, dtype)
    for start, stop, rows in reversed(chunks):
        slopes = scratch[: (stop - start) * rows * 4 * size].reshape(-1, 4, rows, size)
        blocks = saved.blocks[start:stop, :, :rows]
        _slopes(blocks, saved.hidden[start:stop, :rows], after, slopes)
        g, dh, da, leaving = (array[start:stop, :rows][::-1] for array in (outside, d_hidden, d_a, carried))
        arriving, z, slopes = carried[start + 1 : stop + 1, :rows][::-1], blocks[::-1, Z], slopes[::-1]
        if d_m is None:
            _back_after(g, arriving, z, slopes, weight_hh, dh, da, leaving)
        else:
            dm = d_m[start:stop, :rows][::-1]
            _back_before(g, arriving, z, blocks[::-1, R], slopes, weight_hh, dh, dm, da, leaving)
    flat, before = d_a.reshape(steps, batch, -1), rows_of(plan.before(saved.hidden))
    # with reset_after the columns are n, r, z, m: those on the input's side come first, those on the hidden side last
    d_rows, inputs = rows_of(flat), slice(3 * size)
    for_x = for_ih = for_hh = for_bias_ih = for_bias_hh = None
    if needs[0]:
        for_x = plan.restored((d_rows[:, inputs] @ (_nrz(weight_ih) if after else weight_ih)).reshape(x.shape))
    if needs[2]:
        for_ih = d_rows[:, inputs].T @ rows_of(plan.arranged(x))
        for_ih = _rzn(for_ih) if after else for_ih
    if needs[3] and after:
        for_hh = d_rows[:, size:].T @ before
    elif needs[3]:
        for_hh = np.empty_like(weight_hh)
        np.matmul(d_rows[:, : 2 * size].T, before, for_hh[: 2 * size])
        np.matmul(d_rows[:, 2 * size :].T, rows_of(saved.blocks[:, M]), for_hh[2 * size :])
    if needs[4] or needs[5]:
        total = summed(flat)
        for_bias_ih, for_bias_hh = (_rzn(total[inputs]), total[size:]) if after else (total, total)
    gradients = Gradients(
        for_x,
        plan.restored_rows(carried[0]) if needs[1] else None,
        for_ih,
        for_hh,
        for_bias_ih if needs[4] else None,
        for_bias_hh if needs[5] else None,
    )
    return gradients, Trace(saved, d_hidden, carried, flat, d_m)


def _rzn(array: Array) -> Array:
    """Blocks n, r, z along the first axis in the weights' order r, z, n."""
    size = len(array) // 3
    return np.concatenate((array[size:], array[:size]))


def _nrz(array: Array) -> Array:
    """Blocks r, z, n along the first axis in the order n, r, z."""
    size = len(array) // 3
    return np.concatenate((array[2 * size :], array[: 2 * size]))
