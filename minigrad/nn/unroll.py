"""The time loop: one cell over a whole sequence."""

from __future__ import annotations

import itertools
from typing import Any, Protocol, cast

import numpy as np

from .. import ops
from ..engine import Array, caller, value
from ..errors import ShapeError
from ..scope import Role, Run, current, time_step
from ..tensor import Tensor

__all__ = ["StepCell", "begin", "checked_lengths", "unroll"]

_runs = itertools.count()


class StepCell(Protocol):
    """What `unroll` asks of a cell, yours included.

    `initial_state(batch)` gives the first state, a NamedTuple of tensors whose first field is the
    output; `step(x, state)` gives the next one and changes nothing.
    """

    def initial_state(self, batch: int) -> Any: ...

    def step(self, x: Tensor, state: Any) -> Any: ...


def _noted(tensor: Tensor, role: Role, fresh: bool = True) -> Tensor:
    """The tensor, known to records by its role; a node of its own where it has another one already."""
    if not fresh or tensor.role is not None:
        tensor = cast(Tensor, ops.identity(tensor))
    tensor.role = role
    return tensor


def checked_lengths(lengths: Any, steps: int, batch: int) -> Array | None:
    """How many steps of each sample are real, (N,), or None where all are.

    Raises:
        ShapeError: There is not one length a sample, or one is no whole number from 1 to T.
    """
    if lengths is None:
        return None
    given = np.asarray(value(lengths))
    if given.shape != (batch,) or given.dtype.kind not in "iu" or np.any((given < 1) | (given > steps)):
        shown = str(given.tolist())
        raise ShapeError(
            f"lengths: found {shown if len(shown) < 60 else shown[:60] + ' …'} for inputs of T={steps} steps and"
            f" N={batch} samples.\n  Give N={batch} whole numbers from 1 to {steps}: how many steps of each sample are"
            " real."
        )
    return None if np.all(given == steps) else given.astype(np.int64)


def begin(
    cell: StepCell, inputs: Any, state: Any, name: str, lengths: Any, reverse: bool
) -> tuple[Tensor, Any, Run, Array | None]:
    """The inputs and the first state of a walk, checked and known to records; the walk, and its lengths.

    Args, Raises:
        As `unroll`.
    """
    x = inputs if isinstance(inputs, Tensor) else Tensor(inputs)
    if x.ndim < 2 or not x.shape[0]:
        raise ShapeError(
            f"unroll: the inputs have shape {x.shape}.\n"
            "  Give (T, N, C): time first, then the batch, then the features; T and N count from 1."
        )
    if state is None:
        state = cell.initial_state(x.shape[1])
    real = checked_lengths(lengths, *x.shape[:2])
    run = Run(
        name, type(cell).__name__.removesuffix("Cell"), len(x), current.get().scope.path, next(_runs),
        None if real is None else tuple(real.tolist()), reverse,
        caller() if type(cell).__module__.startswith("minigrad.") else None,
    )  # fmt: skip
    first = type(state)(
        *(
            _noted(s, Role("initial", field, run), fresh=not s.requires_grad)
            for field, s in zip(state._fields, state, strict=True)
        )
    )
    return x, first, run, real


def unroll(
    cell: StepCell, inputs: Any, state: Any = None, *, name: str = "l0", lengths: Any = None, reverse: bool = False
) -> tuple[Tensor, Any]:
    """Carry a state through time: state_t = cell.step(inputs[t], state_{t-1}).

    Every op of step k is recorded in the scope `t=k+1`. Truncated BPTT is one call of
    `state.detach()` a field between two chunks.

    With `lengths`, the last state of a sample is that of its own last real step, and its outputs
    beyond are 0; what its inputs hold there has no effect. Every field of the state has the batch
    on its first axis.

    Args:
        cell: Any object with `initial_state` and `step`.
        inputs: (T, N, C), time first.
        state: The first state, a NamedTuple of tensors; None asks the cell.
        name: What the record calls this sequence.
        lengths: How many steps of each sample are real, (N,), in any order; None: all.
        reverse: Walk from each sample's last real step to its first; outputs stay where their inputs are.
    Returns:
        The outputs of all steps, (T, N, H), and the state after each sample's last step.
    Raises:
        ShapeError: inputs have no time or batch axis, or no time step; lengths do not fit them.
    """
    x, first, run, real = begin(cell, inputs, state, name, lengths, reverse)
    if real is not None:  # what stands beyond an end may be anything, NaN too
        inside = np.less(np.arange(len(x))[:, np.newaxis], real)  # (T, N)
        x = _chosen(inside, x, 0.0)
    # A step that is none of a sample's computes on the first state, and nothing comes of it.
    spare = first if reverse else [s.numpy() for s in first]
    state = first
    states: dict[int, Any] = {}
    steps = list(enumerate(ops.unstack(x)))
    for k, x_k in reversed(steps) if reverse else steps:
        x_k = _noted(x_k, Role("input", "x", run, k))
        with time_step(k, run):
            if real is not None and states:
                arrived = real > k + reverse  # the samples with a real step before this one, and now too
                if not arrived.all():
                    state = type(state)(*(_chosen(arrived, *pair) for pair in zip(state, spare, strict=True)))
            after = cell.step(x_k, state)
            noted = []
            for field, s in zip(after._fields, after):
                _, time, of, _, _ = s.scope
                noted.append(_noted(s, Role("state", field, run, k), fresh=time == k and of is run))
            states[k] = state = type(after)(*noted)
    output = cast(Tensor, ops.stack(*(states[k][0] for k in range(len(x)))))
    if real is None:
        return output, state
    if not reverse:  # the last real step is each sample's own
        samples = np.arange(len(real))
        state = type(state)(*(ops.stack(*field)[real - 1, samples] for field in zip(*states.values(), strict=True)))
    return _chosen(inside, output, 0.0), state


def _chosen(choice: Array, a: Any, b: Any) -> Tensor:
    """a where it is chosen, b elsewhere; the choice covers the first axes."""
    return cast(Tensor, ops.where(choice.reshape(*choice.shape, *[1] * (a.ndim - choice.ndim)), a, b))
