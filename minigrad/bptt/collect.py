"""The observer that turns one backward walk into a Record."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import engine, ops
from ..clip import norm_of
from ..engine import Array, Node, Observer, Parts
from ..errors import MinigradError
from ..nn.fused import Kernel
from ..scope import Run
from . import kernel
from .record import (
    Box,
    Flow,
    Graph,
    Lazy,
    OpNode,
    ParameterRecord,
    Reading,
    Record,
    SequenceRecord,
    Settings,
    Term,
    kind_of,
    norms_of,
)

__all__ = ["MOVES", "backward", "collected", "record"]

_NOT_YET = Reading(math.nan, "no backward yet")
_NO_PATH = Reading(0.0, "no path")
MOVES = ("broadcast_to", "concatenate", "getitem", "identity", "reshape", "split", "stack", "swapaxes", "transpose",
          "unstack")  # fmt: skip
"""Ops that compute nothing: each element of what they give is one of what they are given."""


def backward(loss: Node, keep: Literal["steps", "ops"] = "steps", *, accumulate: bool = False) -> Record:
    """Run the one backward pass from a scalar loss and keep what it leaves behind.

    Args:
        loss: A scalar.
        keep: "steps": states, gates, their gradients, and each parameter's terms. "ops": also the
            graph with the norm of every gradient in it, which the gate and op levels of a picture
            need.
        accumulate: Add to gradients that leaves already hold, instead of refusing.
    Raises:
        GradError, StaleGraphError: As `Tensor.backward`.
        MinigradError: keep is neither.
    """
    return collected(loss, keep, lambda root, see: engine.backward(root, accumulate=accumulate, observer=see))


def collected(loss: Node, keep: str, differentiate: Callable[[Node, Observer], object]) -> Record:
    """The Record of what `differentiate`, called with the loss, shows to the observer it is given."""
    collector = _Collector(loss, keep)
    differentiate(loss, collector.observe)
    return collector.record(complete=True)


def record(loss: Node, keep: Literal["steps", "ops"] = "ops") -> Record:
    """The graph as it stands, before any backward: values, and gradients marked as not computed yet."""
    return _Collector(loss, keep).record(complete=False)


class _Key(NamedTuple):
    """A box: what a node counts as in a picture."""

    run: Run | None
    time: int | None
    kind: str
    symbol: str
    label: str


_OUTSIDE = _Key(None, None, "outside", "outside", "outside the time steps")


class _Collector:
    """Knows the structure from one pass over the graph, then sees every gradient once, newest first."""

    def __init__(self, loss: Node, keep: str) -> None:
        if keep not in ("steps", "ops"):
            raise MinigradError(f"bptt.backward: keep={keep!r}.\n  Choose 'steps' or 'ops'.")
        self.loss, self.keeps_ops = loss, keep == "ops"
        self.order = engine.topological(loss)
        self.box: dict[int, _Key | None] = {}
        self.users: dict[int, set[_Key]] = {}
        self.constants: dict[int, Node] = {}  # inputs and first states that no gradient reaches
        self.values: dict[int, Array] = {}  # of leaves, as they were recorded
        for node in self.order:
            key = self.box[node.created] = self._box(node)
            for parent, value in zip(node.parents, node.inputs):
                if parent is None or key is None:
                    continue
                self.users.setdefault(parent.created, set()).add(key)
                if parent.op is None and parent.role is None:
                    self.values[parent.created] = value
                if not parent.requires_grad and parent.role is not None:
                    self.constants[parent.created] = parent
        for number, node in self.constants.items():
            self.box[number] = self._box(node)
        self.outlets: dict[_Key, list[Node]] = {}  # what a box hands on, in the order of creation
        for node in sorted((*self.constants.values(), *self.order), key=lambda n: n.created):
            key = self.box[node.created]
            if key is not None and (self.users.get(node.created, set()) - {key} or (node.role and node.role.run)):
                self.outlets.setdefault(key, []).append(node)
        self.gradients: dict[int, Any] = {}  # of outlets and loss elements
        self.pending: dict[int, dict[_Key, Any]] = {}  # parts into a node, by the box they come from
        self.arrivals: dict[int, dict[str, Any]] = {}  # parts into a state, by where they come from
        self.flows: dict[tuple[_Key, _Key], list[float]] = {}
        self.terms: dict[int, list[tuple[Node, Array, Array | None]]] = {}
        self.kernels = [(node, node.op) for node in self.order if isinstance(node.op, Kernel)]
        self.traced: dict[int, tuple[Any, Any]] = {}  # by run: what came to a kernel and what it handed on
        self.readings: dict[int, tuple[Reading, list[Reading]]] = {}
        self.handed: dict[int, tuple[Any, float]] = {}  # the last part into a node, and its norm
        self.kept = {n.created for key, some in self.outlets.items() if key is not _OUTSIDE for n in some}
        self.kept |= {n.created for n in self.order if n.role is not None}

    def _box(self, node: Node) -> _Key | None:
        """Which box a node belongs to; its users have theirs already. None for a parameter."""
        role, scope = node.role, node.scope
        if role is not None and role.run is not None:
            return _Key(role.run, role.time, role.kind, role.field, role.kind)
        if node.op is None:
            return None
        if scope.run is None:
            return _OUTSIDE
        if scope.part is not None:
            return _Key(scope.run, scope.time, "gate", scope.symbol or scope.part, scope.part)
        users = self.users.get(node.created, set())
        if len(users) == 1:
            (user,) = users
            if user.run == scope.run and user.time == scope.time:
                return user  # an op without a name, on its way to one box only, is part of that box
        return _Key(scope.run, scope.time, "op", str(node.created), node.op.name)

    def observe(self, node: Node, g: Any, parts: Sequence[Any]) -> None:
        """Take in one node's final gradient and what it hands on."""
        number, key = node.created, self.box[node.created]
        if type(parts) is Parts and isinstance(node.op, Kernel):
            self.traced[node.op.run.number] = (g, parts)
        if number in self.kept:
            self.gradients[number] = g
        elif key is None:
            self.gradients[number] = np.array(g)  # what this pass adds; the leaf's own may hold more, and change
        for origin, part in self.pending.pop(number, {}).items():
            if key is not None and self.keeps_ops:
                self.flows.setdefault((key, origin), []).append(norm_of(part))
            if node.role is not None and node.role.kind == "state":
                same = "same" if origin.time == node.role.time else "next"
                where = same if origin.run == node.role.run else "outside"
                arrived = self.arrivals.setdefault(number, {})
                arrived[where] = arrived[where] + part if where in arrived else part
        if self.keeps_ops:
            handed, norm = self.handed.pop(number, (None, 0.0))
            if handed is not g or g is None:
                norm = math.hypot(*(norm_of(x) for x in g if x is not None)) if isinstance(g, list) else norm_of(g)
            some = []
            for parent, part in zip(node.parents, parts):
                if parent is None or part is None:
                    some.append(_NO_PATH)
                    continue
                # What one op hands on is often all that its parent gets: then its norm is formed once.
                self.handed[parent.created] = (part, norm_of(part))
                some.append(_reading(self.handed[parent.created][1], node))
            self.readings[number] = (_reading(norm, node), some)
        factors = None
        for k, (parent, part) in enumerate(zip(node.parents, parts)):
            if parent is None or part is None:
                continue
            target = self.box[parent.created]
            if target is None:
                if type(parts) is Parts:
                    continue  # its terms are those of its steps
                if factors is None:
                    factors = node.op.factors(g, *node.inputs) if node.op and node.op.factors else {}
                self.terms.setdefault(parent.created, []).append((node, *factors.get(k, (np.asarray(part), None))))
            elif key is not None and target != key and (self.keeps_ops or target.kind == "state"):
                into = self.pending.setdefault(parent.created, {})
                into[key] = into[key] + part if key in into else part

    # The record

    def record(self, *, complete: bool) -> Record:
        runs = {key.run.number: key.run for key in self.outlets if key.run is not None}
        runs.update((op.run.number, op.run) for _, op in self.kernels)
        names = unique_names([runs[number] for number in sorted(runs)])
        with_states = {key.run.number for key in self.outlets if key.run is not None and key.kind == "state"}
        by_kernel = {op.run.number: (op, node.inputs) for node, op in self.kernels}
        makers: dict[str, Callable[[], SequenceRecord]] = {}
        for number, name in names.items():
            if number in by_kernel:
                op, inputs = by_kernel[number]
                seen = self.traced.get(number, (None, None))
                makers[name] = partial(kernel.sequence_of, op, inputs, name, complete, *seen)
            elif number in with_states:
                makers[name] = partial(_itself, self._sequence(runs[number], name, complete))
        return Record(
            loss=float(self.loss.value.sum()),
            complete=complete,
            sequences=Lazy(makers) if by_kernel else {name: make() for name, make in makers.items()},
            losses=self._losses(runs) if complete else None,
            parameters=self._parameters(names, complete),
            graph=self._graph(names, complete) if self.keeps_ops else None,
        )

    def _sequence(self, run: Run, name: str, complete: bool) -> SequenceRecord:
        keys = [key for key in self.outlets if key.run == run]
        fields = list(dict.fromkeys(key.symbol for key in keys if key.kind == "state"))
        found = {(key.kind, key.symbol, key.time): self.outlets[key] for key in keys}
        nothing = 0 if complete else np.nan
        batch = next(len(some[0].value) for (kind, _, _), some in found.items() if kind == "state")
        lengths = np.array(run.lengths or [run.steps] * batch)

        def over_time(kind: str, symbol: str, get: Any, missing: float = np.nan) -> Array:
            """One array a step; `missing` at a step that the loss does not depend on, 0 past a sample's end."""
            some = [next(iter(found.get((kind, symbol, t), ())), None) for t in range(run.steps)]
            like = next(node.value for node in some if node is not None)
            blank = np.full(like.shape, missing, like.dtype if like.dtype.kind == "f" else np.float64)
            array = np.stack([blank if node is None else get(node, blank) for node in some])
            if run.lengths is not None:
                array[np.arange(run.steps)[:, np.newaxis] >= lengths] = 0
            return array

        def gradient(node: Node, missing: Array) -> Array:
            g = self.gradients.get(node.created)
            return missing if g is None else g

        def arrived(where: str) -> Any:
            return lambda node, missing: self.arrivals.get(node.created, {}).get(where, missing)

        def at_states(field: str, holds: Callable[[Node], bool]) -> Array:
            """Where it holds for a state of the step, (T,)."""
            return np.array([any(map(holds, found.get(("state", field, t), ()))) for t in range(run.steps)])

        states = {f: over_time("state", f, lambda node, _: node.value) for f in fields}

        def is_gate(node: Node) -> bool:
            return bool(node.value.ndim == 2 and len(node.value) == batch)

        single = []  # the named parts that hand on one (N, …) tensor of one shape at every step that is reached
        for symbol in dict.fromkeys(key.symbol for key in keys if key.kind == "gate"):
            some = [found["gate", symbol, t] for t in range(run.steps) if ("gate", symbol, t) in found]
            if all(len(s) == 1 and is_gate(s[0]) and s[0].value.shape == some[0][0].value.shape for s in some):
                single.append(symbol)
        inputs = [next(iter(found.get(("input", "x", t), ())), None) for t in range(run.steps)]
        input_norms = None
        if any(x is not None and x.requires_grad for x in inputs):
            input_norms = norms_of(over_time("input", "x", gradient, nothing))
        initial = {key.symbol: self.outlets[key][0] for key in keys if key.kind == "initial"}
        return SequenceRecord(
            name=name,
            cell=run.cell,
            settings=_settings(run, found),
            scope=run.scope,
            reverse=run.reverse,
            kernel=False,
            complete=complete,
            lengths=lengths,
            states=states,
            initial={f: node.value for f, node in initial.items()},
            gates={s: over_time("gate", s, lambda node, _: node.value) for s in single},
            gradients={f: over_time("state", f, gradient, nothing) for f in fields},
            initial_gradients={
                f: gradient(node, np.zeros_like(node.value)) for f, node in initial.items() if node.requires_grad
            },
            reached={f: at_states(f, lambda n: n.created in self.gradients) for f in fields},
            passed={f: at_states(f, lambda n: "next" in self.arrivals.get(n.created, ())) for f in fields},
            arrivals={
                f: {w: norms_of(over_time("state", f, arrived(w), nothing)) for w in ("outside", "same", "next")}
                for f in fields
            },
            gate_norms={s: norms_of(over_time("gate", s, gradient, nothing)) for s in single},
            input_norms=input_norms,
            inputs=over_time("input", "x", lambda node, _: node.value) if any(x is not None for x in inputs)
            else np.full((run.steps, batch, 0), np.nan),  # a cell that uses no input leaves none in the graph
        )  # fmt: skip

    def _losses(self, runs: dict[int, Run]) -> Array | None:
        """What each step adds to the loss: its elements, each times what the loss makes of it.

        An element belongs to the latest step that it depends on.
        """
        losses_ = (n for n in self.order if n.role is not None and n.role.kind == "loss")
        elements = [n for n in losses_ if n.created in self.gradients]
        if not elements or not runs:
            return None
        run = runs[max(runs)]
        before = runs.get(run.number - 1, run)  # its other direction
        latest = self._latest({run, before} if run.reverse and f"{before.name}_reverse" == run.name else {run})
        losses, has_loss = np.zeros(run.steps), np.zeros(run.steps, bool)
        for node in elements:
            share = np.asarray(node.value.astype(np.float64) * self.gradients[node.created])
            steps = np.asarray(latest(node, share))
            np.add.at(losses, steps[steps >= 0], share[steps >= 0])
            has_loss[steps[steps >= 0]] = True
        return np.where(has_loss, losses, np.nan) if has_loss.any() else None

    def _latest(self, runs: set[Run]) -> Callable[[Node | None, Any], Any]:
        """What gives, for every element of a node, the latest of the runs' steps that it depends on; -1 for none."""
        latest: dict[int, Any] = {}

        def of(node: Node | None, value: Any) -> Any:
            if node is not None and node.created in latest:
                return latest[node.created]
            inside = node is not None and node.scope.run in runs
            return np.full(getattr(value, "shape", ()), node.scope.time if node is not None and inside else -1)

        for node, op in self.kernels:
            if op.run in runs:
                latest[node.created] = kernel.latest(node)
        for node in reversed(self.order):
            if node.scope.run is not None or node.op is None or node.created in latest:
                continue
            if not any(p is not None and (p.created in latest or p.scope.run in runs) for p in node.parents):
                continue
            name, attributes = node.op.name, node.attributes
            given: list[Any] = [of(p, x) for p, x in zip(node.parents, node.inputs)]
            if name == "pick" or name in MOVES:
                moved = node.op.forward(*given, **attributes)
            elif name == "where":
                moved = np.where(node.inputs[0], *given[1:])
            elif name in ("sum", "mean", "max", "norm"):
                moved = np.max(given[0], axis=attributes.get("axis"), keepdims=attributes.get("keepdims", False))
            elif name in ("linear", "softmax", "log_softmax"):  # each row for itself
                moved = np.broadcast_to(given[0].max(attributes.get("axis", -1), keepdims=True), node.value.shape)
            elif name != "matmul" and all(x.shape == () or x.shape == node.value.shape[-x.ndim:] for x in given):
                moved = np.broadcast_to(functools.reduce(np.maximum, given), node.value.shape)
            else:
                moved = np.full(node.value.shape, max(x.max(initial=-1) for x in given))
            latest[node.created] = moved
        return of

    def _parameters(self, names: dict[int, str], complete: bool) -> dict[str, ParameterRecord]:
        # A sequence that was unrolled is no parameter, though it may require a gradient.
        feeds = {node.parents[0].created for node, _ in self.kernels if node.parents[0] is not None}
        for node in self.order:
            if node.role is not None and node.role.kind == "input" and node.parents and node.parents[0] is not None:
                (sequence,) = node.parents[0].parents
                while sequence is not None and sequence.op is ops.where:  # its padding was set to 0
                    sequence = sequence.parents[1]
                if sequence is not None:
                    feeds.add(sequence.created)
        leaves = [n for n in self.order if self.box[n.created] is None and n.created not in feeds]
        found = {}
        stacked = [
            kernel.terms_of(node, names[op.run.number], self.traced[op.run.number][1])
            for node, op in reversed(self.kernels) if op.run.number in self.traced
        ]  # fmt: skip
        for k, leaf in enumerate(sorted(leaves, key=lambda n: n.created)):
            terms: Any = []
            for node, left, right in reversed(self.terms.get(leaf.created, [])):
                run = node.scope.run
                terms.append(Term(names[run.number] if run else None, node.scope.time, left, right))
            stacks = [stack[leaf.created] for stack in stacked if leaf.created in stack]
            if len(stacks) == 1 and not terms:
                (terms,) = stacks
            else:
                terms = (*terms, *(term for stack in stacks for term in stack))
            value = self.values.get(leaf.created, leaf.value)
            name = leaf.name or f"parameter {k}"
            while name in found:
                name += "'"
            gradient = self.gradients.get(leaf.created)
            if gradient is None:
                gradient = np.full_like(value, np.nan)
            found[name] = ParameterRecord(name, leaf.value.shape, value, gradient, terms)
        return found

    def _graph(self, names: dict[int, str], complete: bool) -> Graph:
        ids: dict[int, int] = {}
        nodes: list[OpNode] = []
        outlets = {n.created for some in self.outlets.values() for n in some}
        sources: dict[tuple[int, int], str | None] = {}  # a loop records the same line again and again
        outlets |= {n.parents[0].created for n in self.order if n.op is engine.pick and n.created in outlets}  # type: ignore[union-attr]
        keys = {key: k for k, key in enumerate(dict.fromkeys(k for k in self.box.values() if k is not None))}
        for node in sorted((*self.constants.values(), *self.order), key=lambda n: n.created):
            if node.op is engine.pick and node.role is None:
                ids[node.created] = ids[node.parents[0].created]  # type: ignore[union-attr]
                continue
            ids[node.created] = len(nodes)
            reading, parts = self.readings.get(node.created, (_NO_PATH if complete else _NOT_YET, []))
            line = (id(node._code), node._at if node._code else 0)
            if line not in sources:
                sources[line] = node.source
            used = [(ids[p.created], k) for k, p in enumerate(node.parents) if p is not None and p.created in ids]
            values = node.value if isinstance(node.value, tuple) else (node.value,)
            key = self.box[node.created]
            nodes.append(OpNode(
                id=len(nodes), op=node.op.name if node.op else None, name=node.name, scope=node.scope.path,
                box=-1 if key is None else keys[key], role=bool(node.role and node.role.run),
                outlet=node.created in outlets, parents=tuple(i for i, _ in used),
                shape=values[0].shape, mean=_mean(values), reading=reading,
                parts=tuple(parts[k] if parts else reading for _, k in used), source=sources[line],
            ))  # fmt: skip
        boxes = []
        counts: dict[tuple[Any, ...], int] = {}
        symbols: dict[_Key, str] = {}
        for key in reversed(keys):  # oldest first: an op without a name is called by its op and a count
            if key.kind == "op":
                counts[key.run, key.time, key.label] = n = counts.get((key.run, key.time, key.label), 0) + 1
                symbols[key] = key.label if n == 1 else f"{key.label} {n}"
        for key, k in keys.items():
            some = self.outlets.get(key, [])
            gs = [g for n in some if n.created in self.gradients for g in _outputs(self.gradients[n.created])]
            if key is _OUTSIDE or not some:
                reading = _NOT_YET if not complete else _NO_PATH
            elif not complete:
                reading = _NOT_YET
            else:
                reading = _reading(math.hypot(*map(norm_of, gs)), some[0]) if gs else _NO_PATH
            boxes.append(Box(
                k, names[key.run.number] if key.run else None, key.time, "gate" if key.kind == "op" else key.kind,
                symbols.get(key, key.symbol), key.label,
                _mean([n.value for n in some if isinstance(n.value, np.ndarray)]), reading,
            ))  # fmt: skip
        pairs = dict.fromkeys(
            (target, key) for node in self.order for parent in node.parents
            if parent is not None and (key := self.box[node.created]) is not None
            and (target := self.box.get(parent.created)) is not None and target != key
        )  # fmt: skip
        flows = tuple(
            Flow(keys[a], keys[b], _NOT_YET if not complete else _NO_PATH if (a, b) not in self.flows
                 else _reading(math.hypot(*self.flows[a, b]), self.outlets[a][0]))
            for a, b in pairs
        )  # fmt: skip
        return Graph(tuple(nodes), tuple(boxes), flows)


def _settings(run: Run, found: dict[tuple[str, str, int | None], list[Node]]) -> Settings | None:
    """What the ops of one step tell of the settings of one of minigrad's own cells."""
    made = {(kind, symbol): node for (kind, symbol, _), (node, *_) in found.items() if node.op is not None}
    if run.caller is None or ("state", "h") not in made:
        return None
    if run.cell == "RNN":
        return {"nonlinearity": made["state", "h"].op.name}  # type: ignore[union-attr]
    if run.cell == "GRU" and ("gate", "n") in made:
        (total,) = made["gate", "n"].parents
        from_h = None if total is None else total.parents[1]  # r * (W_n h + b_n), or W_n (r * h) + b_n
        return {"reset_after": from_h is None or from_h.op is not ops.linear}
    return {} if run.cell == "LSTM" else None


def _outputs(g: Any) -> list[Any]:
    """One gradient an output of an op, without those that nobody needs."""
    return [x for x in g if x is not None] if isinstance(g, list) else [g]


def _itself(sequence: SequenceRecord) -> SequenceRecord:
    return sequence


def _reading(norm: float, node: Node) -> Reading:
    value = node.value[0] if isinstance(node.value, tuple) else node.value
    return Reading(norm, kind_of(norm, value.dtype))


def _mean(values: Sequence[Array]) -> float:
    size = sum(v.size for v in values)
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        return float(sum(float(v.sum(dtype=np.float64)) for v in values) / size) if size else math.nan


def unique_names(runs: Sequence[Run]) -> dict[int, str]:
    """A name for each run: its own, with its scope where two share it, with a count where even that is shared."""
    names: dict[int, str] = {}
    for run in runs:
        name = run.name
        if sum(r.name == run.name for r in runs) > 1:
            name = "/".join((*(run.scope[:-1] if run.scope[-1:] == (run.name,) else run.scope), run.name))
        count = 1
        while name in names.values():
            count += 1
            name = f"{name.partition(' #')[0]} #{count}"
        names[run.number] = name
    return names
