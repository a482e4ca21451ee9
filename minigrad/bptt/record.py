"""Record: what one backward pass left behind, as plain arrays and values.

Views read a Record and nothing else. It can be compared, saved and loaded, and holds no graph.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .. import archive
from ..clip import Clipping, norm_of
from ..engine import Array
from ..errors import RecordError
from ..optim import Update

__all__ = ["Box", "Comparable", "Flow", "Graph", "Kind", "Lazy", "OpNode", "ParameterRecord", "Reading", "Record",
           "SequenceRecord", "Settings", "StackedTerms", "Term", "kind_of", "norms_of"]  # fmt: skip

Kind = Literal["value", "zero", "underflow", "not finite", "no path", "padding", "no backward yet"]
"""What a gradient norm is: a number, exactly 0, below the smallest normal number of its type, NaN or
infinite, of something that the loss does not depend on, past the end of a sequence, or not computed."""

Settings: TypeAlias = Mapping[str, str | bool]
"""Of a cell, by name."""


class Reading(NamedTuple):
    """A gradient's L2 norm and what kind of number it is."""

    norm: float
    kind: Kind


def kind_of(norm: float, dtype: Any) -> Kind:
    """The kind of a norm that was computed from numbers of this type."""
    if not math.isfinite(norm):
        return "not finite"
    return "zero" if norm == 0 else "underflow" if norm < _TINY[np.dtype(dtype)] else "value"


_TINY = {np.dtype(t): float(np.finfo(t).tiny) for t in (np.float32, np.float64)}


def norms_of(array: Array) -> Array:
    """L2 norms over the last axis in float64, scaled, so that 1e-200 and 1e200 have theirs."""
    if array.dtype == np.float32:  # whose squares stay inside the range of float64
        y = array.astype(np.float64)
        roots: Array = np.sqrt(np.einsum("...i,...i->...", y, y))
        return roots
    x = np.abs(array.astype(np.float64))
    scale = x.max(axis=-1, keepdims=True, initial=0)
    safe = np.where((scale > 0) & np.isfinite(scale), scale, 1)
    with np.errstate(over="ignore"):  # beside an infinity, whose norm is infinite anyway
        norms: Array = (safe * np.sqrt(((x / safe) ** 2).sum(axis=-1, keepdims=True)))[..., 0]
    return norms


class Comparable:
    """Equality of frozen dataclasses that hold arrays: equal in type, shape and every bit pattern's value."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            _equal(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)  # type: ignore[arg-type]
        )

    __hash__ = None  # type: ignore[assignment]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if type(a) is not type(b):
            return False
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, StackedTerms)) and isinstance(b, (tuple, StackedTerms)) and type(a) is not type(b):
        a, b = tuple(a), tuple(b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, Clipping) and isinstance(b, Clipping):
        return _equal(dataclasses.astuple(a), dataclasses.astuple(b))
    return bool(a == b)


@dataclass(frozen=True, eq=False)
class SequenceRecord(Comparable):
    """One layer and direction over time. Arrays are indexed by input time: step t=1 is index 0.

    Attributes:
        name: `l0`, `l0_reverse`, …; the key in `Record.sequences`.
        cell: The cell's name: "LSTM".
        settings: What settles the equations of one of minigrad's own cells: {"nonlinearity": "tanh"} of RNN,
            {"reset_after": True} of GRU, {} of LSTM. None: a cell of one's own, whatever its name.
        scope: The path above the time steps: ("lstm",).
        reverse: Whether it walked from the last step to the first.
        kernel: Whether one op did the whole walk: then `Record.graph` has none of its steps, until
            `bptt.expand` replays them.
        complete: False before any backward: every gradient is NaN.
        lengths: (N,): how many steps of each sample are real. Past its end a sample's states, gates
            and gradients are 0.
        states: h, and for LSTM c, each (T, N, H).
        initial: The states before the first step, each (N, H).
        gates: What each named scope of a step gave, by symbol, each (T, N, H).
        gradients: dL/dh, dL/dc: total derivatives with respect to the state handed on, (T, N, H).
        initial_gradients: The same for the initial states, where they required a gradient.
        reached: Whether the loss depends on the state of each step, (T,).
        passed: Whether the walk's next step handed a gradient, be it 0, back to the state of each step, (T,): not
            where it starts from the value alone, as after `detach()`.
        arrivals: The norms of dL/dstate's three parts, each (T, N): from "outside" any step (the
            loss), from the "same" step (c through h), from the "next" step.
        gate_norms: ‖dL/dgate‖ by symbol, (T, N).
        input_norms: ‖dL/dx_t‖, (T, N); None where the inputs require no gradient.
        inputs: x, (T, N, C); NaN at a step that the loss does not depend on.
    """

    name: str
    cell: str
    settings: Settings | None
    scope: tuple[str, ...]
    reverse: bool
    kernel: bool
    complete: bool
    lengths: Array
    states: Mapping[str, Array]
    initial: Mapping[str, Array]
    gates: Mapping[str, Array]
    gradients: Mapping[str, Array]
    initial_gradients: Mapping[str, Array]
    reached: Mapping[str, Array]
    passed: Mapping[str, Array]
    arrivals: Mapping[str, Mapping[str, Array]]
    gate_norms: Mapping[str, Array]
    input_norms: Array | None
    inputs: Array

    @property
    def steps(self) -> int:
        """T, the number of time steps."""
        return len(self.inputs)

    @property
    def input_means(self) -> Array:
        """The mean over features and real samples of each input, (T,); NaN at a step that is no sample's."""
        real = np.less(np.arange(self.steps)[:, np.newaxis], self.lengths)  # (T, N)
        x = self.inputs.reshape(*real.shape, -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = np.where(real, x.sum(axis=2, dtype=np.float64), 0).sum(axis=1)
            means: Array = sums / (real.sum(axis=1) * x.shape[2])
        return means

    @property
    def dtype(self) -> Any:
        return next(iter(self.states.values())).dtype

    def norms(self, state: str = "h") -> Array:
        """‖dL/dstate_t‖ a sample, (T, N), in float64."""
        return norms_of(self.gradients[state])

    def over_batch(self, norms: Array, reached: Array | None = None) -> list[Reading]:
        """For every step the norm over the whole batch, from norms a sample (T, N), and its kind."""
        if not self.complete:
            return [Reading(math.nan, "no backward yet")] * self.steps
        real: Array = np.less(np.arange(self.steps)[:, np.newaxis], self.lengths)  # (T, N)
        whole = norms_of(np.where(real, norms, 0)).tolist()
        path: Array = np.ones(self.steps, bool) if reached is None else reached
        return [
            Reading(0.0, "no path") if not ok else self.norm_reading(norm) if some else Reading(0.0, "padding")
            for norm, ok, some in zip(whole, path.tolist(), np.any(real, axis=1), strict=True)
        ]

    def norm_reading(self, norm: float) -> Reading:
        """A norm of numbers of this sequence's type, with its kind."""
        return Reading(norm, kind_of(norm, self.dtype))

    def readings(self, state: str = "h") -> list[Reading]:
        """‖dL/dstate_t‖ over the whole batch and its kind, for every step."""
        return self.over_batch(self.norms(state), self.reached[state])


class Term(NamedTuple):
    """One use of a parameter: what it adds to the parameter's gradient.

    Kept as factors where the gradient is a product: left.T @ right. Then `right` is not None.

    Attributes:
        sequence, time: Of the step that used it; None outside any step.
        left, right: (R, K) and (R, C), or the term itself and None.
    """

    sequence: str | None
    time: int | None
    left: Array
    right: Array | None

    def array(self) -> Array:
        """The term, of the parameter's shape."""
        return self.left if self.right is None else self.left.T @ self.right

    def norm(self) -> float:
        """‖left.T @ right‖ in float64: tr((left left.T)(right right.T)), or of the product where it is smaller."""
        if self.right is None:
            return norm_of(self.left)
        scales = [float(np.max(np.abs(x), initial=0)) or 1.0 for x in (self.left, self.right)]
        if not all(map(math.isfinite, scales)):
            with np.errstate(invalid="ignore"):
                return norm_of(self.array())
        left, right = (x.astype(np.float64) / s for x, s in zip((self.left, self.right), scales, strict=True))
        rows = len(left)
        if rows * rows * (left.shape[1] + right.shape[1]) < rows * left.shape[1] * right.shape[1]:
            products = (left @ left.T) * (right @ right.T)
            square = float(np.sum(products))
            if square > 1e-6 * float(np.sum(np.abs(products))):  # else they cancel; the product itself is exact
                return scales[0] * math.sqrt(square) * scales[1]
        return scales[0] * norm_of(left.T @ right) * scales[1]


@dataclass(frozen=True, eq=False)
class StackedTerms(Comparable, Sequence[Term]):
    """The terms of one walk that a kernel did at once: a `Term` is made when somebody asks for it.

    Attributes:
        sequence: The walk.
        lefts, rights: Of blocks of the parameter's rows, each (T, N, R) and (T, N, C); the term of a
            step is their products below each other. No rights: the sums over N of the lefts.
    """

    sequence: str
    lefts: tuple[Array, ...]
    rights: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.lefts[0])

    def __getitem__(self, t: Any) -> Any:
        if isinstance(t, slice):
            return tuple(self[k] for k in range(*t.indices(len(self))))
        t = range(len(self))[t]
        if len(self.rights) == 1:
            return Term(self.sequence, t, self.lefts[0][t], self.rights[0][t])
        if not self.rights:
            return Term(self.sequence, t, np.concatenate([left[t].sum(axis=0) for left in self.lefts]), None)
        products = [left[t].T @ right[t] for left, right in zip(self.lefts, self.rights, strict=True)]
        return Term(self.sequence, t, np.concatenate(products), None)


class Lazy(Mapping[str, Any]):
    """A mapping whose values are made when somebody asks for them, once."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers, self._made = dict(makers), dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True, eq=False)
class ParameterRecord(Comparable):
    """A parameter's gradient and the terms that sum to it.

    Attributes:
        name: `lstm.weight_hh_l0`.
        shape: Of the parameter.
        value: Of the parameter when the graph was recorded.
        gradient: The gradient that backward left, unclipped.
        terms: One a use, in the order of their steps.
    """

    name: str
    shape: tuple[int, ...]
    value: Array
    gradient: Array
    terms: Sequence[Term]

    @property
    def weight_norm(self) -> float:
        """‖parameter‖ when the graph was recorded."""
        return norm_of(self.value)

    @property
    def norm(self) -> float:
        """‖dL/dparameter‖, unclipped."""
        return norm_of(self.gradient)

    def by_step(self, sequence: str) -> dict[int, float]:
        """The norm of each time step's term; several uses in one step are summed first."""
        uses: dict[int, list[Term]] = {}
        for term in self.terms:
            if term.sequence == sequence and term.time is not None:
                uses.setdefault(term.time, []).append(term)
        return {
            t: some[0].norm() if len(some) == 1 else norm_of(np.sum([u.array() for u in some], axis=0))
            for t, some in sorted(uses.items())
        }


class OpNode(NamedTuple):
    """One op of the graph: no arrays.

    Attributes:
        id: Its place in `Graph.nodes`; parents have smaller ones.
        op: The op's name; None for a leaf.
        name: A parameter's name.
        scope: The path of names it was recorded in.
        box: The id of the box it belongs to; -1 for a parameter.
        role: Whether it is that box's input or state itself.
        outlet: Whether another box uses it.
        parents: The ids of what it was computed from.
        shape, mean: Of its value.
        reading: ‖dL/dnode‖.
        parts: What it hands to each parent.
        source: The caller's line that recorded it.
    """

    id: int
    op: str | None
    name: str | None
    scope: tuple[str, ...]
    box: int
    role: bool
    outlet: bool
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    mean: float
    reading: Reading
    parts: tuple[Reading, ...]
    source: str | None


class Box(NamedTuple):
    """A named part of one time step: a gate, a state, an input; or all that lies outside of steps.

    Attributes:
        id: Its place in `Graph.boxes`.
        sequence, time: The step; None outside.
        kind: "gate", "state", "input", "initial", "outside".
        symbol: The textbook's letter.
        label: The name in words: "forget gate".
        mean: The mean of what it hands on.
        reading: The norm of the gradient of all that it hands on.
    """

    id: int
    sequence: str | None
    time: int | None
    kind: str
    symbol: str
    label: str
    mean: float
    reading: Reading


class Flow(NamedTuple):
    """The part of a box's gradient that comes back from another box: `to` uses what `origin` hands on."""

    origin: int
    to: int
    reading: Reading


@dataclass(frozen=True, eq=False)
class Graph(Comparable):
    """The recorded computation: its ops, and the boxes and flows that they add up to."""

    nodes: tuple[OpNode, ...]
    boxes: tuple[Box, ...]
    flows: tuple[Flow, ...]


@dataclass(frozen=True, eq=False)
class Record(Comparable):
    """What one backward pass left behind.

    Attributes:
        loss: The loss that was differentiated.
        complete: False for a graph recorded before any backward: it has no gradients yet.
        sequences: One a layer and direction.
        losses: What each time step adds to the loss, (T,); NaN at a step that has no loss. None
            where the loss is none of `nn`'s.
        parameters: By name, in the order of definition.
        graph: With keep="ops": the recorded computation.
        clipping, update: What happened next; see `after`.
    """

    loss: float
    complete: bool
    sequences: Mapping[str, SequenceRecord]
    losses: Array | None
    parameters: Mapping[str, ParameterRecord]
    graph: Graph | None = None
    clipping: Clipping | None = None
    update: Update | None = None

    def after(self, *, clipping: Clipping | None = None, update: Update | None = None) -> Record:
        """A Record that also holds what clipping did and how far the optimizer moved."""
        return dataclasses.replace(self, clipping=clipping or self.clipping, update=update or self.update)

    def sequence(self, name: str | None = None) -> SequenceRecord:
        """The sequence of this name, or the only one (the first, where there are several).

        Raises:
            RecordError: There is none.
        """
        if not self.sequences:
            raise RecordError(
                "This record has no sequence.\n  Run a cell through nn.unroll or a layer of nn; draw.graph draws"
                " a graph without time steps."
            )
        if name is not None and name not in self.sequences:
            raise RecordError(f"This record has no sequence {name!r}.\n  It has {', '.join(self.sequences)}.")
        return self.sequences[name or next(iter(self.sequences))]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record to one file; np.load opens it too. An older one stays whole until the end; see `archive`."""
        arrays: dict[str, Array] = {}
        archive.write(path, _FORMAT, _pack(self, arrays), arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Read a record that `save` wrote.

        Raises:
            RecordError: The file is missing, cut short, damaged, or none of ours.
        """
        header, arrays = archive.read(path, _FORMAT)
        try:
            record = _unpack(header, arrays)
        except Exception:  # what others made fails in any way at all
            raise _FORMAT.refusal(path, "its header describes no record") from None
        if not isinstance(record, cls):
            raise _FORMAT.refusal(path, f"it holds a {type(record).__name__}, not a whole record")
        return record


_FORMAT = archive.Format("minigrad record", 4, RecordError, "Give a file that record.save wrote.")

_TYPES = {
    t.__name__: t
    for t in (Record, SequenceRecord, ParameterRecord, StackedTerms, Term, Graph, OpNode, Box, Flow, Reading, Clipping,
              Update)
}


def _fields(x: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(x, "_fields", None) or [f.name for f in dataclasses.fields(x)]
    return ((name, getattr(x, name)) for name in names)


def _pack(x: Any, arrays: dict[str, Array]) -> Any:
    """JSON for a record; arrays go to a table of their own and leave their name behind."""
    if isinstance(x, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = x
        return {"array": name}
    if type(x).__name__ in _TYPES:
        return {"type": type(x).__name__, "fields": [_pack(v, arrays) for _, v in _fields(x)]}
    if isinstance(x, Mapping):
        return {"map": [[k, _pack(v, arrays)] for k, v in x.items()]}
    if isinstance(x, tuple):
        return {"tuple": [_pack(v, arrays) for v in x]}
    return x


def _unpack(x: Any, arrays: Mapping[str, Array]) -> Any:
    if not isinstance(x, dict):
        return x
    if "array" in x:
        return arrays[x["array"]]
    if "type" in x:
        return _TYPES[x["type"]](*(_unpack(v, arrays) for v in x["fields"]))
    if "map" in x:
        return {k: _unpack(v, arrays) for k, v in x["map"]}
    return tuple(_unpack(v, arrays) for v in x["tuple"])
