"""Where a computation first left the finite numbers, and where its gradient first became exactly 0."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import engine
from ..engine import Array, Node
from ..errors import RecordError
from ..nn.fused import Kernel
from ..tensor import Tensor
from .collect import MOVES
from .record import Graph, OpNode, Record, SequenceRecord

__all__ = ["Fault", "Zero", "fault_in", "first_fault", "first_zero", "zero_in"]


class Fault(NamedTuple):
    """The first node that is NaN or infinite.

    Attributes:
        what: "value": found on the way forward. "gradient": every value is finite, and this was the
            first found on the way back.
        op: The op's name, or the parameter's.
        scope: The path of names it was recorded in.
        time: The index of the time step, from 0; None outside any step.
        source: The caller's line that recorded it.
        own: Whether the op itself made it from finite numbers.
    """

    what: str
    op: str
    scope: tuple[str, ...]
    time: int | None
    source: str | None
    own: bool

    def __str__(self) -> str:
        where = f" at {' / '.join(self.scope)}" if self.scope else ""
        made = "" if self.own else ", and what it was given is so already"
        what = "value" if self.what == "value" else "gradient on the way back"
        return f"the first {what} that is NaN or infinite is that of {self.op}{where}{made}"


class Zero(NamedTuple):
    """The first node on the way back that gets a gradient, and hands on exactly 0 to what gets nothing else.

    Attributes:
        op: The op's name.
        scope: The path of names it was recorded in.
        time: The index of the time step, from 0; None outside any step.
        source: The caller's line that recorded it.
        norm: The norm of the gradient that came to it.
        to: What gets exactly 0: an op's name, a parameter's, or "the state before" of a kernel's step.
        why: "rule": its derivative is 0 there: a relu that is off, a max not taken, what dropout dropped.
            "underflow": it is 0 only because its type holds no smaller number; in float64, and scaled, it is not.
            "sum": parts came back that cancel each other.
    """

    op: str
    scope: tuple[str, ...]
    time: int | None
    source: str | None
    norm: float
    to: str
    why: Literal["rule", "underflow", "sum"]

    def __str__(self) -> str:
        where = f" at {' / '.join(self.scope)}" if self.scope else ""
        why = {
            "rule": "by its rule: its derivative is 0 there", "underflow": "by underflow: the number is too small",
            "sum": "as a sum: its parts cancel each other",
        }[self.why]  # fmt: skip
        return f"the first exact 0 on the way back is what {self.op}{where} hands on to {self.to}, {why}"


def first_fault(loss: Node) -> Fault | None:
    """Walk the graph of a loss forward, then back, to the first NaN or infinity; None if there is none.

    Forward, the values are those that were recorded. Backward, an op is at fault whose gradient is
    finite and which hands on one that is not; no `.grad` is touched.

    Raises:
        GradError, StaleGraphError: As `grad`.
    """
    for node in reversed(engine.topological(loss)):
        if not _finite(node.value):
            return _fault("value", node, all(map(_finite, node.inputs)))
    found: list[Fault] = []

    def observe(node: Node, g: Any, parts: Sequence[Any]) -> None:
        if not found and not (_finite(g) and all(map(_finite, parts))):
            found.append(_fault("gradient", node, _finite(g), getattr(parts, "trace", None)))

    engine.grad(loss, [], observer=observe)
    return found[0] if found else None


def _fault(what: str, node: Node, own: bool, trace: Any = None) -> Fault:
    op = f"parameter {node.name}" if node.name else node.op.name if node.op else "an input"
    scope, time = node.scope.path, node.scope.time
    if isinstance(node.op, Kernel):  # it stands for many steps: the first that went wrong
        run, of_states = node.op.run, node.op.saved.states
        if what == "gradient":
            of_states = {} if trace is None else trace.gradients
        scope, time = _inside(scope, run.steps, run.reverse, what, of_states.values())
    return Fault(what, op, scope, time, node.source, own)


def _inside(
    scope: tuple[str, ...], steps: int, reverse: bool, what: str, arrays: Any
) -> tuple[tuple[str, ...], int | None]:
    """The scope and the first time step, in the order of the walk or on the way back, that is not finite."""
    order = range(steps - 1, -1, -1) if reverse != (what == "gradient") else range(steps)
    time = next((t for t in order if not all(_finite(a[t]) for a in arrays)), None)
    return (scope if time is None else (*scope, f"t={time + 1}")), time


def _finite(x: Any) -> bool:
    if isinstance(x, (tuple, list)):
        return all(map(_finite, x))
    return not isinstance(x, np.ndarray) or x.dtype.kind != "f" or bool(np.isfinite(x).all())


def first_zero(loss: Node) -> Zero | None:
    """Walk back from a loss to the first gradient that is exactly 0; None if there is none.

    It is that of a node none of whose users hands it anything, though one of them got a gradient itself. Left out
    are nodes that the loss does not depend on, as what indexing does not take or what lies past the end of every
    sample, and what a first state of zeros is multiplied with. No `.grad` is touched.

    Of a kernel: the first step that gets a gradient and hands on exactly 0 to the step before.

    Raises:
        GradError, StaleGraphError: As `grad`.
    """
    found: list[Zero] = []
    void = _void(loss)
    givers: dict[int, tuple[Node, Any, int]] = {}
    summed: dict[int, float] = {}  # what got parts that are not 0, and the largest one's norm

    def observe(node: Node, g: Any, parts: Sequence[Any]) -> None:
        giver = givers.pop(node.created, None)
        if found:
            return
        if not _any(g):
            if not _past(node) and giver is not None:
                found.extend(_handed(node, *giver, void, summed.get(node.created)))
            return
        trace = getattr(parts, "trace", None)
        if isinstance(node.op, Kernel) and trace is not None:
            found.extend(_handed_inside(node, trace))
        for k, (parent, part) in enumerate(zip(node.parents, parts)):
            if parent is None or part is None:
                continue
            if _any(part):
                summed[parent.created] = max(_norm(part), summed.get(parent.created, 0.0))
            if node.op is not None and node.op.name not in MOVES and parent.created not in givers:
                givers[parent.created] = (node, g, k)

    engine.grad(loss, [], observer=observe)
    return found[0] if found else None


def _void(loss: Node) -> set[int]:
    """First states of zeros, and what is 0 because it is computed from them."""
    void: set[int] = set()
    for node in reversed(engine.topological(loss)):
        for some in (*node.parents, node):
            if some is not None and some.role is not None and some.role.kind == "initial" and not _any(some.value):
                void.add(some.created)
        if any(p is not None and p.created in void for p in node.parents) and not _any(node.value):
            void.add(node.created)
    return void


def _any(x: Any) -> bool:
    """Whether anything in it is not 0; NaN is not."""
    if isinstance(x, (tuple, list)):
        return any(map(_any, x))
    return x is not None and bool(np.any(x))


def _past(node: Node) -> bool:
    """Whether it belongs to a step that is past the end of every sample."""
    run, time = node.scope.run, node.scope.time
    return run is not None and time is not None and run.lengths is not None and time >= max(run.lengths)


def _handed(node: Node, user: Node, g: Any, k: int, void: set[int], summed: float | None) -> Iterator[Zero]:
    if any(p is not None and p.created in void for j, p in enumerate(user.parents) if j != k):
        return
    assert user.op is not None
    made = node.parents[0] if node.op is engine.pick else node
    to = node.name or (made.op.name if made is not None and made.op is not None else "an input")
    small = _underflows(user, g, k) if summed is None else summed < _least(g)  # of the last digits nothing may be left
    why: Literal["rule", "underflow", "sum"] = "underflow" if small else "rule" if summed is None else "sum"
    yield Zero(user.op.name, user.scope.path, user.scope.time, user.source, _norm(g), to, why)


def _norm(g: Any) -> float:
    gs = [x for x in g if x is not None] if isinstance(g, list) else [g]
    return math.hypot(*(float(np.linalg.norm(_scaled(x)[0])) * _scaled(x)[1] for x in gs))


def _scaled(g: Any) -> tuple[Array, float]:
    """In float64, its largest number 1; and what that was."""
    array = np.asarray(g, np.float64)
    size = float(np.max(np.abs(array), initial=0))
    return (array / size, size) if 0 < size < math.inf else (array, 1.0)


def _underflows(node: Node, g: Any, k: int) -> bool:
    """Whether the part that goes to parent k is not 0 if values are computed in float64 and the gradient is scaled."""
    if isinstance(node.op, Kernel):
        return _norm(g) < _least(g)
    assert node.op is not None
    inputs = [
        Tensor(x.astype(np.float64), requires_grad=j == k) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for j, x in enumerate(node.inputs)
    ]
    y = engine.apply(node.op, *inputs, **node.attributes)
    pairs = zip(y, g, strict=True) if isinstance(y, tuple) else [(y, g)]
    return _reaches([(a, b) for a, b in pairs if b is not None], [inputs[k]])


def _reaches(pairs: Sequence[tuple[Any, Any]], inputs: Sequence[Any]) -> bool:
    """Whether gradients of these outputs, whatever their size, come to one of the inputs."""
    roots = [y for y, _ in pairs if y.requires_grad]
    seeds = [_scaled(g)[0] for y, g in pairs if y.requires_grad]
    return any(_any(engine.grad(y, inputs, g)) for y, g in zip(roots, seeds, strict=True))


def _least(x: Any) -> float:
    """A gradient of this type, or of this one's, that lies below may have parts that its type does not hold."""
    if isinstance(x, list):
        return _least(next(one for one in x if one is not None))
    limits = np.finfo(getattr(x, "dtype", x))
    return float(limits.tiny / limits.eps)


def _handed_inside(node: Node, trace: Any) -> Iterator[Zero]:
    op = node.op
    assert isinstance(op, Kernel)
    run, fields = op.run, op.cell.state_type._fields
    gradients, arrivals = trace.gradients, trace.arrivals
    alive = {t: any(_any(gradients[f][t]) for f in fields) for t in range(run.steps)}
    end = run.steps if run.lengths is None else max(run.lengths)
    later = _dies(
        list(range(end - 1, -1, -1) if not run.reverse else range(end)), alive,
        lambda t: any(_any(arrivals[f]["next"][t]) for f in fields),
    )  # fmt: skip
    if later is None:
        return
    before = later + (1 if run.reverse else -1)
    went = np.ones(node.inputs[0].shape[1], bool) if run.lengths is None else np.array(run.lengths) > max(later, before)
    states = [Tensor(op.saved.states[f][before].astype(np.float64), requires_grad=True) for f in fields]
    weights = [None if w is None else Tensor(w.astype(np.float64)) for w in node.inputs[1 + len(fields) :]]
    one = copy.copy(op)
    one.run = dataclasses.replace(run, lengths=None, reverse=False)
    _, *after = one.reference(Tensor(node.inputs[0][later : later + 1].astype(np.float64)), *states, *weights)
    came = [gradients[f][later] for f in fields]
    pairs = [(y, np.where(went[:, np.newaxis], g, 0)) for y, g in zip(after, came, strict=True)]
    yield Zero(
        op.name, (*node.scope.path, f"t={later + 1}"), later, node.source, _norm(came), _BEFORE,
        "underflow" if _reaches(pairs, states) else "rule",
    )  # fmt: skip


_BEFORE = "the state before"


def _dies(order: Sequence[int], alive: Any, handed: Any) -> int | None:
    """The first step on the way back that gets a gradient of which nothing comes to the one before."""
    return next((later for later, t in pairwise(order) if alive[later] and not handed(t)), None)


# Of a Record, which holds no graph of nodes


def fault_in(record: Record) -> Fault | None:
    """What `first_fault` finds, from the ops of a record: their means and norms tell it.

    Of what an op was given, plain arrays are not in a record: one that is not finite is held against the op.

    Raises:
        RecordError: It was made without keep="ops".
    """
    graph, kernels = _graph(record, "fault_in"), _kernels(record)
    for node in graph.nodes:
        if not math.isfinite(node.mean) and 0 not in node.shape and not _constant(node):
            own = all(math.isfinite(graph.nodes[p].mean) for p in node.parents)
            return _recorded_fault("value", record, node, own and (
                node.id not in kernels or _finite(kernels[node.id].inputs)
            ))  # fmt: skip
    if not record.complete:
        return None
    for node in reversed(graph.nodes):
        own = node.reading.kind != "not finite"
        if not own or any(part.kind == "not finite" for part in node.parts):
            return _recorded_fault("gradient", record, node, own)
    return None


def _graph(record: Record, attempted: str) -> Graph:
    if record.graph is None:
        raise RecordError(
            f'{attempted}: this record has no ops.\n  Give a record of bptt.backward(loss, keep="ops"),'
            " or the loss itself to first_fault or first_zero."
        )
    return record.graph


def _constant(node: OpNode) -> bool:
    """Whether it is an input or a first state that requires no gradient."""
    return node.op is None and node.name is None and node.reading.kind in ("no path", "no backward yet")


def _recorded_fault(what: str, record: Record, node: OpNode, own: bool) -> Fault:
    op = f"parameter {node.name}" if node.name else node.op or "an input"
    scope, time = node.scope, _time(record, node)
    s = _kernels(record).get(node.id)
    if s is not None:
        arrays = (s.states if what == "value" else s.gradients).values()
        scope, time = _inside(scope, s.steps, s.reverse, what, arrays)
    return Fault(what, op, scope, time, node.source, own)


def _kernels(record: Record) -> dict[int, SequenceRecord]:
    """The walk that each kernel's op stands for: both are in the order in which they were made."""
    assert record.graph is not None
    found = [node.id for node in record.graph.nodes if node.op is not None and node.op.endswith(" kernel")]
    return dict(zip(found, (s for s in record.sequences.values() if s.kernel)))


def _time(record: Record, node: OpNode) -> int | None:
    assert record.graph is not None
    return None if node.box < 0 else record.graph.boxes[node.box].time


def zero_in(record: Record, *, sequence: str | None = None) -> Zero | None:
    """What `first_zero` finds, from the ops of a record.

    There are no arrays: whether it underflowed is judged by how small the gradient was that came.

    Args:
        record: Of `bptt.backward(loss, keep="ops")`, or of `bptt.expand`.
        sequence: Only inside this walk, and outside of any; None: anywhere.
    Raises:
        RecordError: It was made without keep="ops".
    """
    graph, kernels = _graph(record, "zero_in"), _kernels(record)
    users: dict[int, list[tuple[OpNode, int]]] = {}
    void = set[int]()
    for node in graph.nodes:
        first = node.role and graph.boxes[node.box].kind == "initial"
        if node.mean == 0 and (first or any(p in void for p in node.parents)):
            void.add(node.id)
        for k, parent in enumerate(node.parents):
            users.setdefault(parent, []).append((node, k))
    for node in reversed(graph.nodes) if record.complete else ():
        s = kernels.get(node.id)
        if s is not None and sequence in (None, s.name) and node.reading.kind != "no path":
            found = _recorded_inside(s, node)
            if found is not None:
                return found
        if node.reading.kind != "zero" and node.op not in _SEVERAL:
            continue
        parts = users.get(node.id, ())
        for user, k in sorted(parts, key=lambda pair: -pair[0].id):
            box = None if user.box < 0 else graph.boxes[user.box]
            here = box is None or box.sequence is None or sequence in (None, box.sequence)
            if not here or user.op in MOVES or user.reading.kind in ("zero", "no path") or _recorded_past(record, node):
                continue
            if user.parts[k].kind != "zero" and node.reading.kind != "zero":
                continue  # of several outputs another one
            if any(p in void for j, p in enumerate(user.parents) if j != k):
                continue
            summed = max((u.parts[j].norm for u, j in parts if u.parts), default=0.0) * (node.op not in _SEVERAL)
            assert user.op is not None
            small = (summed or user.reading.norm) < _least(_dtype(record)) and (summed or user.op not in _CHOICES)
            return Zero(
                user.op, user.scope, _time(record, user), user.source, user.reading.norm,
                node.name or node.op or "an input", "underflow" if small else "sum" if summed else "rule",
            )  # fmt: skip
    return None


_SEVERAL = ("split", "unstack")
"""Ops whose outputs share one node in a record."""

_CHOICES = ("clip", "dropout", "embedding", "max", "maximum", "relu", "where")
"""Ops that hand on a gradient or nothing, and make it no smaller."""


def _dtype(record: Record) -> Any:
    some = [p.gradient.dtype for p in record.parameters.values()] or [s.dtype for s in record.sequences.values()]
    return some[0] if some else np.dtype(np.float32)


def _recorded_past(record: Record, node: OpNode) -> bool:
    assert record.graph is not None
    box = None if node.box < 0 else record.graph.boxes[node.box]
    if box is None or box.sequence is None or box.time is None or box.sequence not in record.sequences:
        return False
    return bool(box.time >= record.sequences[box.sequence].lengths.max())


def _recorded_inside(s: SequenceRecord, node: OpNode) -> Zero | None:
    end, fields = int(s.lengths.max()), list(s.gradients)
    norms = {f: s.norms(f) for f in fields}
    alive = {t: any(_any(norms[f][t]) for f in fields) for t in range(end)}
    order = list(range(end) if s.reverse else range(end - 1, -1, -1))
    later = _dies(order, alive, lambda t: any(_any(s.arrivals[f]["next"][t]) for f in fields))
    if later is None:
        return None
    norm = math.hypot(*(float(np.linalg.norm(norms[f][later])) for f in fields))
    small = norm < _least(s.dtype)
    assert node.op is not None
    scope = (*node.scope, f"t={later + 1}")
    return Zero(node.op, scope, later, node.source, norm, _BEFORE, "underflow" if small else "rule")
