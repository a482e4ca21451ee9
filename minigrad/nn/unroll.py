"""The time loop: one cell over a whole sequence."""

from __future__ import annotations

import itertools
from typing import Any, Protocol, cast

from .. import ops
from ..errors import ShapeError
from ..scope import Role, Run, current, time_step
from ..tensor import Tensor

__all__ = ["StepCell", "unroll"]

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


def unroll(cell: StepCell, inputs: Any, state: Any = None, *, name: str = "l0") -> tuple[Tensor, Any]:
    """Carry a state through time: state_t = cell.step(inputs[t], state_{t-1}).

    Every op of step k is recorded in the scope `t=k+1`. Truncated BPTT is one call of
    `state.detach()` a field between two chunks.

    Args:
        cell: Any object with `initial_state` and `step`.
        inputs: (T, N, C), time first.
        state: The first state, a NamedTuple of tensors; None asks the cell.
        name: What the record calls this sequence.
    Returns:
        The outputs of all steps, (T, N, H), and the last state.
    Raises:
        ShapeError: inputs have no time or batch axis, or no time step.
    """
    x = inputs if isinstance(inputs, Tensor) else Tensor(inputs)
    if x.ndim < 2 or not x.shape[0]:
        raise ShapeError(
            f"unroll: the inputs have shape {x.shape}.\n"
            "  Give (T, N, C): time first, then the batch, then the features; T and N count from 1."
        )
    if state is None:
        state = cell.initial_state(x.shape[1])
    number = next(_runs)
    run = Run(name, type(cell).__name__.removesuffix("Cell"), len(x), current.get().scope.path, number)
    state = type(state)(
        *(
            _noted(s, Role("initial", field, run), fresh=not s.requires_grad)
            for field, s in zip(state._fields, state, strict=True)
        )
    )
    outputs = []
    for k, x_k in enumerate(ops.unstack(x)):
        x_k = _noted(x_k, Role("input", "x", run, k))
        with time_step(k, run):
            after = cell.step(x_k, state)
            state = type(after)(
                *(
                    _noted(s, Role("state", field, run, k), fresh=s.scope.time == k and s.scope.run is run)
                    for field, s in zip(after._fields, after, strict=True)
                )
            )
        outputs.append(state[0])
    return cast(Tensor, ops.stack(*outputs)), state
