"""From kernels back to ops: the same computation, every step of it recorded."""

from __future__ import annotations

from typing import Any

from .. import engine
from ..engine import Node, apply, boxed, pick
from ..nn.fused import Kernel
from ..scope import within
from .collect import collected
from .record import Record

__all__ = ["expand"]


def expand(loss: Node) -> Record:
    """The op-level Record of a loss whose graph has kernels: each is replayed by its reference.

    The graph is computed once more from the values that it recorded: inputs, parameters (as they were
    then, whatever an optimizer did since), states, dropout masks. Where a kernel stood, `unroll` runs
    its cell. Then one backward pass; no `.grad` is touched.

    Args:
        loss: A scalar, as for `bptt.backward`. Without kernels in its graph this is
            `bptt.backward(loss, keep="ops")` that leaves no gradients.
    Raises:
        GradError, StaleGraphError: As `Tensor.backward`.
    """
    return collected(_replayed(loss), "ops", lambda root, observe: engine.grad(root, [], observer=observe))


def _replayed(loss: Node) -> Node:
    made: dict[int, Any] = {}
    order = engine.topological(loss)
    leaves = {  # as they were when they were used
        parent.created: value for node in order for parent, value in zip(node.parents, node.inputs)
        if parent is not None and parent.op is None
    }  # fmt: skip
    runs = {node.op.run for node in order if isinstance(node.op, Kernel)}
    for node in reversed(order):
        if node.role is not None and node.role.run in runs:  # a first state: its walk will name it anew
            made[node.created] = _given(node.parents[0], node.inputs[0], made) if node.parents else _leaf(node, leaves)
            continue
        if node.op is None:
            new: Any = _leaf(node, leaves)
        else:
            given = [_given(parent, value, made) for parent, value in zip(node.parents, node.inputs)]
            with within(node.scope):
                if node.op is pick:
                    new = made[node.parents[0].created][node.attributes["index"]]  # type: ignore[union-attr]
                elif isinstance(node.op, Kernel):
                    new = node.op.reference(*given)
                else:
                    new = apply(node.op, *given, **node.attributes)
                    for one in (*new, new[0].parents[0]) if isinstance(new, tuple) else (new,):
                        one._code, one._at = node._code, node._at
        if node.role is not None:
            new.role = node.role
        made[node.created] = new
    root: Node = made[loss.created]
    return root


def _leaf(node: Node, values: dict[int, Any]) -> Any:
    """A leaf like this one, with the value that it had when it was used."""
    leaf = boxed(node.box, values.get(node.created, node.value).copy(), node.scope)
    leaf.requires_grad, leaf.name = True, node.name
    return leaf


def _given(parent: Node | None, value: Any, made: dict[int, Any]) -> Any:
    """What stood at this place: a new node, a constant node with what records know of it, or a plain value."""
    if parent is None:
        return value
    return made[parent.created] if parent.requires_grad else parent
