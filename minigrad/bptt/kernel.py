"""What a whole-sequence kernel left behind, as the records that its reference would give."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..engine import Array, Node
from ..nn.fused import Kernel
from .record import Lazy, SequenceRecord, StackedTerms, norms_of

__all__ = ["TRACE_FIELDS", "latest", "sequence_of", "terms_of"]

TRACE_FIELDS = {"h": "hidden", "c": "cell"}
"""Where a trace keeps dL/dh_t and dL/dc_t."""


def sequence_of(
    op: Kernel, inputs: tuple[Any, ...], name: str, complete: bool, g: Any, parts: Any
) -> SequenceRecord:
    """The record of the walk that this op stands for.

    Args:
        op, inputs: The op, and what it was given.
        name: What the record calls the walk.
        complete: Whether there has been a backward pass.
        g, parts: What came to it and what it handed on; None where no gradient reached it.
    """
    run, saved, x = op.run, op.saved, inputs[0]
    states, fields = dict(saved.states), op.cell.state_type._fields
    steps, batch, _ = states["h"].shape
    lengths = np.array(run.lengths or [steps] * batch)
    real = np.arange(steps)[:, np.newaxis] < lengths  # (T, N)
    trace = getattr(parts, "trace", None)
    blank = 0.0 if complete else np.nan
    nothing = {field: np.full_like(states[field], blank) for field in fields} if trace is None else {}

    @functools.cache
    def parts_of(field: str) -> Mapping[str, Array]:
        """What of dL/dfield comes from where, (T, N, H)."""
        if trace is None:
            return dict.fromkeys(("outside", "same", "next"), nothing[field])
        from_steps: Mapping[str, Array] = trace.arrivals[field]
        outside = np.zeros_like(states[field])
        if field == "h" and g[0] is not None:
            outside += np.where(real[:, :, np.newaxis], g[0], 0)
        at_last = g[1 + fields.index(field)]
        if at_last is not None:
            ends = np.zeros(batch, int) if run.reverse else lengths - 1
            outside[ends, np.arange(batch)] += at_last
        return {"outside": outside, "same": np.zeros_like(outside), **from_steps}

    def arrival(field: str, where: str) -> Array:
        return norms_of(parts_of(field)[where])

    def gate_norm(symbol: str) -> Array:
        return np.full((steps, batch), blank) if trace is None else norms_of(trace.gate_gradients[symbol])

    def reached(field: str) -> Array:
        found = np.full(steps, trace is not None)
        if trace is not None and field == "h" and g[0] is None and g[1] is None:  # the loss looks at the last c alone
            found[0 if run.reverse else lengths.max() - 1] = False
        return found

    passed = np.full(steps, trace is not None)
    passed[0 if run.reverse else -1] = False  # the last step of the walk has no next one

    gates = saved.gates
    symbols = [symbol for symbol in ("a", "f", "i", "g", "o", "r", "z", "n") if symbol in gates]
    initial = dict(zip(fields, inputs[1:], strict=False))
    needs = dict(zip(fields, op.needs[1:], strict=False))
    given = {} if parts is None else dict(zip(fields, parts[1:], strict=False))
    return SequenceRecord(
        name=name,
        cell=run.cell,
        settings={setting: getattr(op.cell, setting) for setting in op.fusion.settings},
        scope=run.scope,
        reverse=run.reverse,
        kernel=True,
        complete=complete,
        lengths=lengths,
        states=states,
        initial=initial,
        gates={symbol: gates[symbol] for symbol in symbols},
        gradients=nothing if trace is None else {
            field: saved.arrangement.restored(getattr(trace, TRACE_FIELDS[field])) for field in states
        },
        initial_gradients={
            field: given[field] if given.get(field) is not None else np.full_like(initial[field], blank)
            for field in fields
            if needs[field]
        },
        reached={field: reached(field) for field in states},
        passed=dict.fromkeys(states, passed),
        arrivals={
            field: Lazy({where: partial(arrival, field, where) for where in ("outside", "same", "next")})
            for field in states
        },
        gate_norms=Lazy({symbol: partial(gate_norm, symbol) for symbol in symbols}),
        input_norms=None if not op.needs[0] else norms_of(parts[0]) if parts is not None
        else np.full((steps, batch), blank),
        inputs=x if run.lengths is None else np.where(real[:, :, np.newaxis], x, 0),
    )  # fmt: skip


def terms_of(node: Node, name: str, parts: Any) -> dict[int, StackedTerms]:
    """Each parameter's terms, by its creation number."""
    op = node.op
    assert isinstance(op, Kernel)
    states = len(op.cell.state_type._fields)
    x, saved = node.inputs[0], op.saved
    if op.run.lengths is not None:  # what stands past an end may be NaN, and NaN * 0 is NaN
        x = np.where((np.arange(len(x))[:, np.newaxis] < np.array(op.run.lengths))[:, :, np.newaxis], x, 0)
    before = saved.arrangement.restored(saved.hidden[:-1])
    on_input, on_hidden = parts.trace.sides
    met = (before,) if len(on_hidden) == 1 else (before, saved.gates["m"])
    stacks = ((on_input, (x,) * len(on_input)), (on_hidden, met), (on_input, ()), (on_hidden, ()))
    return {
        parent.created: StackedTerms(name, *stack)
        for parent, stack in zip(node.parents[1 + states :], stacks, strict=True)
        if parent is not None and parent.requires_grad
    }


def latest(node: Node) -> list[Array]:
    """For each output of the node and each of its elements, the latest time step that it stands for."""
    op = node.op
    assert isinstance(op, Kernel)
    output, *last = node.value
    steps = np.broadcast_to(np.arange(len(output))[:, np.newaxis, np.newaxis], output.shape)
    ends = np.array(op.run.lengths or [len(output)] * output.shape[1]) - 1
    end = np.zeros_like(ends) if op.run.reverse else ends
    return [steps, *(np.broadcast_to(end[:, np.newaxis], s.shape) for s in last)]
