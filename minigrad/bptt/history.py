"""The gradient through training: what each update left at every time step, in a few hundred bytes an update."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from ..engine import Array, Node, Observer, Parts
from ..errors import CheckpointError, reason
from ..nn.fused import Kernel
from ..scope import Run
from .collect import unique_names
from .diagnose import Diagnosis, Verdict
from .kernel import TRACE_FIELDS
from .record import Record, norms_of

__all__ = ["Diagnosed", "History", "NormHistory", "StateNorms", "late_share"]


class StateNorms:
    """An observer of one backward walk that gives the norm of every dL/dstate_t over the batch, and no Record.

    Without a kernel dL/dstate_t is the gradient of the state's own node; a kernel's trace has those of all its steps.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Run, str], list[tuple[int, Array]]] = {}
        self._kernels: list[tuple[Kernel, Any, Any]] = []

    def observe(self, node: Node, g: Any, parts: Sequence[Any]) -> None:
        """Take in one node; see `engine.Observer`."""
        role = node.role
        if role is None:
            if type(parts) is Parts and isinstance(node.op, Kernel):
                self._kernels.append((node.op, g, parts.trace))
        elif role.kind == "state":
            assert role.run is not None
            assert role.time is not None
            self._found.setdefault((role.run, role.field), []).append((role.time, g))

    def beside(self, other: Observer) -> Observer:
        """An observer that shows each node to another one, too."""

        def both(node: Node, g: Any, parts: Sequence[Any]) -> None:
            other(node, g, parts)
            self.observe(node, g, parts)

        return both

    def norms(self) -> dict[str, dict[str, Array]]:
        """By sequence, named as in a Record, and state: (T,), by input time, of the state's own type.

        NaN where the loss does not depend on the state; infinite where the gradient is NaN or infinite.
        """
        lanes: dict[Run, dict[str, Array]] = {}
        for (run, field), some in self._found.items():
            norms = _over_batch(np.stack([g for _, g in some]))
            lane = lanes.setdefault(run, {})[field] = np.full(run.steps, np.nan, norms.dtype)
            lane[[t for t, _ in some]] = norms
        for op, g, trace in self._kernels:  # not by its `gradients`: they form dL/da_t too, as large as all gates
            run, restored, fields = op.run, op.saved.arrangement.restored, op.cell.state_type._fields
            lanes[run] = {field: _over_batch(restored(getattr(trace, TRACE_FIELDS[field]))) for field in fields}
            if g[0] is None and g[1] is None:  # the loss looks at the last c alone: its h is on no path
                lanes[run]["h"][0 if run.reverse else max(run.lengths or [run.steps]) - 1] = np.nan
        runs = sorted(lanes, key=lambda run: run.number)
        names = unique_names(runs)
        return {names[run.number]: lanes[run] for run in runs}


def _over_batch(gradients: Array) -> Array:
    """From (T, N, H) to (T,)."""
    rows = gradients.reshape(len(gradients), -1)
    with np.errstate(all="ignore"):
        squares: Array = np.einsum("ti,ti->t", rows, rows, dtype=np.float64)
        norms = np.sqrt(squares)
        lost = ~((squares > 1e-250) & (squares < 1e250))  # these need scaling, which takes ten times as long
        if lost.any():
            norms[lost] = norms_of(rows[lost])
        norms = norms.astype(gradients.dtype)
    norms[np.isnan(norms)] = np.inf
    return norms


def late_share(record: Record, parameter: str, sequence: str, *, part: float = 0.1) -> float:
    """How much of a shared parameter's gradient comes from the last steps of a walk, those nearest to its end.

        <sum of term_t over the last steps, dL/dW> / ‖dL/dW‖²

    Args:
        record: Of `bptt.backward`.
        parameter, sequence: Their names.
        part: Which part of the steps; at least one step.
    Returns:
        As `step_terms` would add its shares up; NaN where the gradient is 0 or not finite.
    """
    p, walk = record.parameters[parameter], record.sequences[sequence]
    count = max(1, round(part * walk.steps))
    late = range(count) if walk.reverse else range(walk.steps - count, walk.steps)
    scale = p.norm
    if not (0 < scale < math.inf):
        return math.nan
    direction = np.asarray(p.gradient, np.float64) / scale
    terms = (term for term in p.terms if term.sequence == sequence and term.time in late)
    return sum(float(np.vdot(np.asarray(term.array(), np.float64) / scale, direction)) for term in terms)


# What is kept of them


class _Lane:
    """One state of one sequence: its rows behind each other, and how long each is."""

    def __init__(self, code: str, steps: Sequence[int] = ()) -> None:
        self.steps, self.values = array("q", steps), array(code)

    def add(self, row: Array) -> None:
        self.steps.append(len(row))
        self.values.frombytes(row.astype(self.values.typecode, copy=False).tobytes())

    def rows(self) -> Array:
        steps, values = np.array(self.steps), np.array(self.values)
        longest = int(steps.max(initial=0))
        if np.all(steps == longest):
            return values.reshape(len(steps), longest)
        rows = np.full((len(steps), longest), np.nan, values.dtype)
        rows[np.arange(longest) < steps[:, np.newaxis]] = values
        return rows


class NormHistory:
    """The norms of some updates: of dL/dh_t and dL/dc_t over the batch at every step, and of each parameter's gradient.

    A row has a number for each step of its update's chunk, in the state's own type, so that it underflows only
    where the gradient does: an update of T=100 steps of an LSTM in float32 takes 2 * (4 * 100 + 8) bytes, and 8
    for its own number and for each parameter. Adding one copies nothing that is there.

    Attributes:
        updates: Their numbers, from 1.
        parameters: By name, ‖dL/dparameter‖ before clipping; NaN where there was none.
    """

    def __init__(self) -> None:
        self.updates = array("q")
        self.parameters: dict[str, array[float]] = {}
        self._lanes: dict[str, dict[str, _Lane]] = {}

    def __len__(self) -> int:
        return len(self.updates)

    @property
    def states(self) -> dict[str, tuple[str, ...]]:
        """The sequences, and the states of each: {"l0": ("h", "c")}."""
        return {name: tuple(lanes) for name, lanes in self._lanes.items()}

    def rows(self, sequence: str, state: str = "h") -> Array:
        """(updates, T), by input time: NaN where the loss does not depend on the state, and past a shorter chunk's
        end; infinite where the gradient was NaN or infinite, or beyond its type."""
        return self._lanes[sequence][state].rows()

    def add(self, update: int, states: Mapping[str, Mapping[str, Array]], parameters: Mapping[str, float]) -> None:
        """One update's norms.

        Args:
            update: Its number, larger than the last one.
            states: As `StateNorms.norms`.
            parameters: By name.
        """
        before = len(self.updates)
        for name, lanes in states.items():
            own = self._lanes.setdefault(name, {})
            for state, row in lanes.items():
                if state not in own:  # not seen until now
                    own[state] = _Lane("f" if row.dtype == np.float32 else "d", [0] * before)
        for name, own in self._lanes.items():
            for state, lane in own.items():
                lane.add(states.get(name, {}).get(state, _NO_ROW))
        for name in parameters:
            if name not in self.parameters:
                self.parameters[name] = array("d", [math.nan] * before)
        for name, column in self.parameters.items():
            column.append(parameters.get(name, math.nan))
        self.updates.append(update)

    def state_dict(self) -> dict[str, Any]:
        """All of it as arrays."""
        return {
            "updates": np.array(self.updates),
            "states": {
                name: {state: {"steps": np.array(x.steps), "norms": np.array(x.values)} for state, x in lanes.items()}
                for name, lanes in self._lanes.items()
            },
            "parameters": {name: np.array(column) for name, column in self.parameters.items()},
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            CheckpointError: Something in it is of another kind, the parts do not fit each other, or a norm is
                negative.
        """
        updates = _column(state["updates"], "updates", np.int64)
        if np.any(np.diff(updates, prepend=0) < 1):
            raise _refused("the numbers of its updates do not rise from 1")
        lanes: dict[str, dict[str, _Lane]] = {}
        for name, some in _named(state["states"]):
            lanes[name] = {}
            if not some:
                raise _refused("a sequence has no states")
            for field, lane in _named(some):
                steps = _column(lane["steps"], f"the steps of {name}", np.int64, len(updates))
                if np.any(steps < 0) or np.any(steps > _MOST_STEPS):
                    raise _refused(f"a row of {name} has no possible number of steps")
                values = _column(lane["norms"], f"the norms of {name}", None, int(steps.sum()))
                lanes[name][field] = made = _Lane("f" if values.dtype == np.float32 else "d", steps.tolist())
                made.values.frombytes(_checked(values).tobytes())
        parameters = {}
        for name, norms in _named(state["parameters"]):
            norms = _column(norms, f"the norms of {name}", np.float64, len(updates))
            parameters[name] = array("d", _checked(norms).tobytes())
        self.updates, self.parameters, self._lanes = array("q", updates.tobytes()), parameters, lanes


_NO_ROW = np.empty(0, np.float32)
_MOST_STEPS = 1 << 40  # so that no sum of them overflows


def _refused(found: str) -> CheckpointError:
    return CheckpointError(f"history: {found}.\n  Give what state_dict() gave.")


def _named(x: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(x, Mapping) or not all(isinstance(name, str) for name in x):
        raise _refused(f"{type(x).__name__} where norms by name belong")
    return iter(x.items())


def _column(x: Any, what: str, dtype: Any, length: int | None = None) -> Array:
    """A row of numbers of this type, or of a type that a state has."""
    wanted = (np.float32, np.float64) if dtype is None else (dtype,)
    if not isinstance(x, np.ndarray) or x.dtype not in wanted or x.ndim != 1:
        raise _refused(f"{what} are no row of numbers of the right type")
    if length is not None and len(x) != length:
        raise _refused(f"{what} are {len(x)}, where {length} belong")
    return x


def _checked(norms: Array) -> Array:
    if np.any(norms < 0):  # NaN is not
        raise _refused("a norm is negative")
    return norms


class Diagnosed(NamedTuple):
    """What was found at one update about one sequence; see `Diagnosis` and, of its deciding lane, `Lane`.

    Attributes:
        update: Its number, from 1.
        sequence, verdict, state: Whose, what, and along which field of the state.
        arriving: The share of the latest gradient that arrives at each step, (T,) by input time; empty where there
            is no lane.
    """

    update: int
    sequence: str
    verdict: str
    state: str
    arriving: Array


class History:
    """One number an update, so that ten thousand updates take a few hundred kilobytes; norms where they were asked for.

    Attributes:
        columns: By name: "loss", "norm_before" and "norm_after" clipping, "fired" (0 or 1), "lr".
        evaluations: (update, loss on held-out data), as often as there was one.
        diagnoses: As often as somebody looked, in the order of the updates.
        norms: Of the updates that norms were taken of.
    """

    NAMES = ("loss", "norm_before", "norm_after", "fired", "lr")

    def __init__(self) -> None:
        self.columns = {name: array("d") for name in self.NAMES}
        self.evaluations: list[tuple[int, float]] = []
        self.diagnoses: list[Diagnosed] = []
        self.norms = NormHistory()

    def add(self, **numbers: float) -> None:
        """One update's numbers, by column."""
        for name, column in self.columns.items():
            column.append(numbers[name])

    def diagnosed(self, update: int, found: Diagnosis) -> None:
        """Keep what `diagnose` found at an update."""
        arriving = np.array(() if found.lane is None else found.lane.arriving, np.float64)
        self.diagnoses.append(Diagnosed(update, found.sequence, found.verdict, found.state, arriving))

    def recent(self, name: str, count: int = 100) -> float:
        """The mean of a column over the last updates; NaN before the first."""
        last = self.columns[name][-count:]
        return sum(last) / len(last) if last else math.nan

    def __len__(self) -> int:
        return len(self.columns["loss"])

    def state_dict(self) -> dict[str, Any]:
        """All columns as arrays, and the norms."""
        return {"evaluations": [list(x) for x in self.evaluations], "diagnoses": [x._asdict() for x in self.diagnoses],
                "norms": self.norms.state_dict(),
                **{name: np.array(column) for name, column in self.columns.items()}}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; one of before there were norms and diagnoses has none.

        Raises:
            CheckpointError: Its columns are no rows of numbers of one length, an evaluation or a diagnosis is
                none, or the norms are not what `NormHistory` says.
        """
        found = [state[name] for name in self.NAMES]
        if not all(isinstance(x, np.ndarray) and x.dtype == np.float64 and x.ndim == 1 for x in found):
            raise _refused("its columns are no rows of numbers")
        if len(set(map(len, found))) != 1:
            raise _refused("its columns differ in length")
        for name in ("norm_before", "norm_after"):
            _checked(state[name])
        evaluations = [(update, loss) for update, loss in state["evaluations"]]
        if not all(type(update) is int and type(loss) is float for update, loss in evaluations):
            raise _refused("its evaluations are no loss of an update")
        diagnoses = [Diagnosed(**x) for x in state.get("diagnoses", [])]
        for x in diagnoses:
            if tuple(map(type, x[:-1])) != (int, str, str, str) or x.verdict not in get_args(Verdict):
                raise _refused("its diagnoses are no verdict on a sequence at an update")
            if not 1 <= x.update <= len(found[0]):
                raise _refused(f"it has a diagnosis of update {x.update}, and {len(found[0])} updates")
            _checked(_column(x.arriving, "the shares that arrive", np.float64))
        norms = NormHistory()
        if "norms" in state:
            norms.load_state_dict(state["norms"])
        if norms.updates and norms.updates[-1] > len(found[0]):
            raise _refused(f"it has norms of update {norms.updates[-1]}, and {len(found[0])} updates")
        self.columns = {name: array("d", x.tobytes()) for name, x in zip(self.NAMES, found, strict=True)}
        self.evaluations, self.diagnoses, self.norms = evaluations, diagnoses, norms

    @classmethod
    def restored(cls, checkpoint: Mapping[str, Any]) -> History:
        """The history in the checkpoint of a run.

        Raises:
            CheckpointError: There is none in it, or its parts do not fit each other.
        """
        history = cls()
        try:
            history.load_state_dict(checkpoint["training"]["history"])
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, CheckpointError) as error:
            raise CheckpointError(
                f"the history in this file does not fit together: {reason(error)}.\n"
                "  Give a file that minigrad train saved."
            ) from None
        return history
