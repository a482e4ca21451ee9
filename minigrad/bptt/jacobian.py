"""Jacobians of a recorded walk: d state_t / d state_{t-1} of every step, and what their products do to a gradient."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import engine
from ..engine import Array
from ..errors import RecordError
from ..nn.unroll import StepCell
from ..ops import sigmoid
from ..tensor import Tensor
from .record import Comparable, ParameterRecord, Record, SequenceRecord

__all__ = ["JacobianCurves", "LinearWalk", "jacobian_curves", "linear_walk", "step_jacobians"]

Fields = tuple[Array, ...]
"""One array a field of the state: h, or h and c."""

_BLOCK = 1 << 23
"""How many numbers the Jacobians of a few steps may hold that are formed at once."""

_CHUNK = 1 << 17
"""How many numbers of a state are worked on at once: what is made of them stays in the cache."""

_TRIED = 8
"""At how many steps weights are tried on a walk of minigrad's own cells."""

_NEEDS = {
    "tanh": ("h",), "relu": ("a",), "lstm": ("i", "f", "g", "o", "c"), "reset after": ("r", "z", "n"),
    "reset before": ("r", "z", "n"),
}  # fmt: skip
"""What the slopes of each variant are made of, beside the state before."""

_GATES = {"RNN": ("a",), "LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}
_FIELDS = {"RNN": ("h",), "LSTM": ("h", "c"), "GRU": ("h",)}


@dataclass(frozen=True, eq=False)
class LinearWalk:
    """What every step of a recorded walk does to small changes of the state, and with that to gradients.

        RNN    dh' = s ∘ (W dh)                       s = 1 - h'² (tanh), or 1 where a > 0, else 0 (relu)
        LSTM   dc' = f ∘ dc + g i (1-i) ∘ (W_i dh) + c f (1-f) ∘ (W_f dh) + i (1-g²) ∘ (W_g dh)
               dh' = o (1 - tanh(c')²) ∘ dc' + tanh(c') o (1-o) ∘ (W_o dh)
        GRU    dh' = z ∘ dh + (h-n) z (1-z) ∘ (W_z dh) + (1-z) (1-n²) ∘ du
               du = r ∘ (W_n dh) + m r (1-r) ∘ (W_r dh)             reset_after=True, m = W_n h + b_n
               du = W_n (r ∘ dh + h r (1-r) ∘ (W_r dh))             reset_after=False

    Gates and states are those that were recorded, in float64. Arrays are in the order of the walk: of a reverse
    direction, from the last input to the first. Where a sample has no step, or the loss does not reach it, all
    slopes are 0: no gradient passes.

    Attributes:
        sequence: The walk's record.
        variant: "tanh" or "relu", "lstm", "reset after" or "reset before".
        weights: The parameters' records by role: weight_ih, weight_hh, bias_ih, bias_hh (as far as there are).
        weight: W_hh (G*H, H), in float64.
        real: Where a sample has a step that was recorded, (T, N).
        before: h (and c) before each step, (T, N, H) each.
        slopes: What stands left of a product above, (T, N, H) each, by gate; "path": f or z; "c": o (1 - tanh(c')²).
    """

    sequence: SequenceRecord
    variant: str
    weights: Mapping[str, ParameterRecord]
    weight: Array
    real: Array
    before: Mapping[str, Array]
    slopes: Mapping[str, Array]

    @property
    def fields(self) -> tuple[str, ...]:
        """Of the state, in the order of the cell's own: h, or h and c."""
        return _FIELDS[self.sequence.cell]

    def astype(self, dtype: Any) -> LinearWalk:
        """The same walk, its slopes and W_hh in another type."""
        slopes = {name: slope.astype(dtype) for name, slope in self.slopes.items()}
        return dataclasses.replace(self, weight=self.weight.astype(dtype), slopes=slopes)

    def ordered(self, array: Array) -> Array:
        """An array by input time in the order of the walk, and back."""
        return _walked(self.sequence, array)

    def at(self, t: Any) -> dict[str, Array]:
        """The slopes at one step, or at any index of (T, N, …)."""
        return {name: slope[t] for name, slope in self.slopes.items()}

    def back(self, slopes: Mapping[str, Array], g: Fields, *, path: bool = True) -> Fields:
        """From dL/d state to dL/d the state before: one step back.

        Args:
            slopes: As `at` gives them, of a shape that broadcasts with g.
            g: (…, N, H) a field, h and c taken as two: what c gives to h is not yet in dL/dc.
            path: Whether f dc and z dh, the direct path from one c or h to the next, count.
        """
        return self._step(slopes, g, path)[0]

    def _step(self, v: Mapping[str, Array], g: Fields, path: bool = True) -> tuple[Fields, Array, Array]:
        """What goes to the state before, to the pre-activations as W_hh sees them, and to those of r, z, n or n."""
        h, w = g[0], self.weight
        size = w.shape[1]
        if self.variant in ("tanh", "relu"):
            a = h * v["a"]
            return (a @ w,), a, a
        if self.variant == "lstm":
            c = h * v["c"]
            through_h = None if path else c * v["path"]
            c += g[1]
            a = _products((c, v["i"]), (c, v["f"]), (c, v["g"]), (h, v["o"]))
            return (a @ w, c * v["path"] if through_h is None else through_h), a, a
        u = h * v["n"]
        if self.variant == "reset after":
            a = _products((u, v["r"]), (h, v["z"]), (u, v["m"]))
            before = a @ w
        else:
            m = u @ w[2 * size :]
            a = _products((m, v["r"]), (h, v["z"]), (h, v["n"]))
            before = a[..., : 2 * size] @ w[: 2 * size] + m * v["m"]
        return (before + h * v["path"] if path else before,), a, u

    def gradients(self, t: int, g: Fields) -> tuple[Fields, dict[str, Array]]:
        """One step back, and what the step adds to the gradient of each of its weights.

        Args:
            t: The step, in the order of the walk.
            g: As for `back`, (…, N, H) a field.
        Returns:
            dL/d the state before, and by role the terms, each (…, *the parameter's shape).
        """
        before, a, u = self._step(self.at(t), g)
        size = self.weight.shape[1]
        h = self.before["h"][t]
        from_h = a.swapaxes(-1, -2) @ h
        if self.variant == "reset before":  # W_n meets r * h
            from_h[..., 2 * size :, :] = u.swapaxes(-1, -2) @ (self.slopes["m"][t] * h)
        a_x = np.concatenate((a[..., : 2 * size], u), axis=-1) if self.variant == "reset after" else a
        x = self.ordered(self.sequence.inputs)[t].astype(np.float64)
        x = np.where(self.real[t][:, np.newaxis], x, 0)
        terms = {
            "weight_ih": a_x.swapaxes(-1, -2) @ x, "weight_hh": from_h,
            "bias_ih": a_x.sum(axis=-2), "bias_hh": a.sum(axis=-2),
        }  # fmt: skip
        return before, {role: terms[role] for role in self.weights}

    def jacobians(self, steps: slice, sample: int, *, path: bool = True) -> Array:
        """d state_t / d state_{t-1} of one sample at some steps, (steps, S, S); S = H, or 2H for h and c."""
        size = self.weight.shape[1]
        v = {name: slope[steps, sample][:, np.newaxis] for name, slope in self.slopes.items()}  # (steps, 1, H)
        count, state = len(v[next(iter(v))]), size * len(self.fields)
        rows = np.broadcast_to(np.eye(state), (count, state, state))
        g = tuple(rows[..., k * size : (k + 1) * size] for k in range(len(self.fields)))
        return np.concatenate(self.back(v, g, path=path), axis=-1)


def _products(*pairs: tuple[Array, Array]) -> Array:
    """The products of all pairs, side by side."""
    g, size = pairs[0][0], pairs[0][0].shape[-1]
    shape = np.broadcast_shapes(g.shape, pairs[0][1].shape)[:-1]
    blocks = np.empty((*shape, len(pairs) * size), np.result_type(*pairs[0]))
    for k, (a, b) in enumerate(pairs):
        np.multiply(a, b, out=blocks[..., k * size : (k + 1) * size])
    return blocks


def linear_walk(record: Record, *, sequence: str | None = None) -> LinearWalk:
    """The derivative of every step of a walk of `RNNCell`, `LSTMCell` or `GRUCell`, in closed form.

    Which weights the walk used is found by computing recorded gates once more from inputs, states and weights: they
    have to come out. Of a cell of one's own with such a name that is done for all steps, and for tanh and relu,
    reset_after and not; of minigrad's own cells, whose settings the record has, for a few steps.

    Raises:
        RecordError: There is no such sequence, it is of another cell, or its gates do not come out: of a
            cell of one's own with such a name, or with weights that require no gradient and so are not recorded.
    """
    s = record.sequence(sequence)
    attempted = f"The derivative of {s.name} in closed form"
    if s.cell not in _GATES or any(f not in s.states or s.states[f].ndim != 3 for f in _FIELDS[s.cell]):
        raise RecordError(
            f"{attempted}: its cell is {s.cell}, with the state {', '.join(s.states)}.\n  RNN, LSTM and GRU have one;"
            " give a cell of your own itself: cell=…, and for attribution its losses."
        )
    real = np.less(np.arange(s.steps)[:, np.newaxis], s.lengths)
    there = real & _there(s)[:, np.newaxis]
    remedy = "Give the cell itself, cell=…, where it is one of your own, or where its weights require no gradient."
    candidates = _candidates(record, s)
    if not candidates:
        raise RecordError(f"{attempted}: the record holds no weight_ih and weight_hh of its sizes.\n  {remedy}")
    before = {field: _before(s, field) for field in _FIELDS[s.cell]}
    limit = math.sqrt(float(np.finfo(s.dtype).eps))
    tried = np.flatnonzero(there.any(axis=1))
    if s.settings is not None and len(tried) > _TRIED:
        tried = tried[np.linspace(0, len(tried) - 1, _TRIED).round().astype(int)]
    best = (math.inf, "", candidates[0])
    for weights in candidates:
        for variant, computed in _recomputed(s, weights, before, tried).items():
            best = min(best, (_error(s, computed, tried, there), variant, weights), key=lambda found: found[0])
        if best[0] <= limit:
            break
    if not best[0] <= limit:
        found = f"its gates and states differ by {best[0]:.1e} from what the recorded weights give"
        raise RecordError(f"{attempted}: {found}.\n  {remedy}")
    _, variant, weights = best
    known = _known(s, variant, weights, before, there)
    slopes: dict[str, Array] = {}
    length = max(1, _CHUNK // max(1, before["h"][0].size))
    for start in range(0, s.steps, length):
        steps = slice(start, start + length)
        some = {name: array[steps].astype(np.float64) for name, array in known.items()}
        for name, slope in _slopes(variant, some, {field: b[steps] for field, b in before.items()}).items():
            if name not in slopes:
                slopes[name] = np.empty(before["h"].shape)
            slopes[name][steps] = _masked(slope, there[steps])
    return LinearWalk(
        sequence=s, variant=variant, weights=weights, weight=weights["weight_hh"].value.astype(np.float64),
        real=_walked(s, there), slopes={name: _walked(s, slope) for name, slope in slopes.items()},
        before={field: _walked(s, _masked(b, there)) for field, b in before.items()},
    )  # fmt: skip


def _masked(array: Array, there: Array) -> Array:
    """0 where nothing is there."""
    masked: Array = array if there.all() else np.where(there[:, :, np.newaxis], array, 0)
    return masked


def _walked(s: SequenceRecord, array: Array) -> Array:
    """An array by input time in the order of the walk, and back."""
    walked: Array = array[::-1] if s.reverse else array
    return walked


def _there(s: SequenceRecord) -> Array:
    """The steps that were recorded, (T,): those that the loss does not depend on are not in a graph of steps."""
    seen = [~np.isnan(a).all(axis=tuple(range(1, a.ndim))) for a in s.states.values()]
    there: Array = np.logical_or.reduce([*seen, *s.reached.values()])
    return there


def _before(s: SequenceRecord, field: str) -> Array:
    """The state that each step started from, by input time, in float64."""
    states, first = s.states[field].astype(np.float64), s.initial[field].astype(np.float64)[np.newaxis]
    if not s.reverse:
        return np.concatenate((first, states[:-1]))
    later = np.concatenate((states[1:], first))
    starts = np.arange(s.steps)[:, np.newaxis] == s.lengths - 1
    return np.where(starts.reshape(*starts.shape, *[1] * (states.ndim - 2)), first, later)


def _candidates(record: Record, s: SequenceRecord) -> list[dict[str, ParameterRecord]]:
    """The weights, and biases if there are any, that fit the walk's sizes: by name, its own first; then by use."""
    size, features = s.states["h"].shape[-1], s.inputs.shape[-1]
    rows = len(_GATES[s.cell]) * size
    shapes = {"weight_ih": (rows, features), "weight_hh": (rows, size), "bias_ih": (rows,), "bias_hh": (rows,)}
    groups: dict[str, dict[str, ParameterRecord]] = {}
    for p in record.parameters.values():
        for role, shape in shapes.items():
            if role in p.name and p.shape == shape:
                groups.setdefault(p.name.replace(role, ""), {})[role] = p
    fitting = [(name, group) for name, group in groups.items() if {"weight_ih", "weight_hh"} <= group.keys()]
    own = f"_{s.name.rpartition('/')[2]}"
    found = [group for _, group in sorted(fitting, key=lambda pair: not pair[0].endswith(own))]
    used = [p for p in record.parameters.values() if any(term.sequence == s.name for term in p.terms[:1])]
    weights, biases = ([p for p in used if len(p.shape) == axes] for axes in (2, 1))
    for some in itertools.permutations(weights, 2):  # of parameters that somebody gave other names
        for others in itertools.permutations(biases, 2) if biases else [()]:
            group = dict(zip(shapes, (*some, *others)))  # without biases there are two roles
            if all(p.shape == shapes[role] for role, p in group.items()):
                found.append(group)
    return found


def _recomputed(
    s: SequenceRecord, weights: Mapping[str, ParameterRecord], before: Mapping[str, Array], at: Array
) -> dict[str, dict[str, Array]]:
    """By variant, the gates and states that these weights give at some input times, in float64."""
    w = {role: p.value.astype(np.float64) for role, p in weights.items()}
    x, h, size = s.inputs[at].astype(np.float64), before["h"][at], s.states["h"].shape[-1]
    settings = s.settings or {}
    with np.errstate(all="ignore"):
        from_x = x @ w["weight_ih"].T + w.get("bias_ih", 0)
        from_h = h @ w["weight_hh"].T + w.get("bias_hh", 0)
        if s.cell == "RNN":
            a = from_x + from_h
            by_variant = {"tanh": {"a": a, "h": np.tanh(a)}, "relu": {"a": a, "h": np.maximum(a, 0)}}
            return {v: x for v, x in by_variant.items() if settings.get("nonlinearity", v) == v}
        if s.cell == "LSTM":
            i, f, g, o = np.split(from_x + from_h, 4, axis=-1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            c = f * before["c"][at] + i * g
            return {"lstm": {"i": i, "f": f, "g": g, "o": o, "h": o * np.tanh(c), "c": c}}
        x_n, m = from_x[..., 2 * size :], from_h[..., 2 * size :]
        r, z = np.split(sigmoid((from_x + from_h)[..., : 2 * size]), 2, axis=-1)
        found = {}
        for after in (True, False):
            if settings.get("reset_after", after) != after:
                continue
            again = (r * h) @ w["weight_hh"][2 * size :].T
            if "bias_hh" in w:
                again = again + w["bias_hh"][2 * size :]
            n = np.tanh(x_n + (r * m if after else again))
            found["reset after" if after else "reset before"] = {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}
        return found


def _known(
    s: SequenceRecord, variant: str, weights: Mapping[str, ParameterRecord], before: Mapping[str, Array], there: Array
) -> dict[str, Array]:
    """What the slopes are made of, by input time: what backward used, and computed anew what it had no use for."""
    known = {}
    for name in _NEEDS[variant]:
        recorded = _recorded(s, name)
        missing = there.any(axis=1)
        if recorded is not None:
            missing = missing & np.isnan(recorded).any(axis=(1, 2))
        array = np.full(before["h"].shape, np.nan) if recorded is None else recorded
        if missing.any():
            at = np.flatnonzero(missing)
            array = array.astype(np.float64)
            array[at] = np.where(np.isnan(array[at]), _recomputed(s, weights, before, at)[variant][name], array[at])
        known[name] = array
    if variant == "reset after":  # m = W_n h + b_n is no gate
        size = s.states["h"].shape[-1]
        w_n = weights["weight_hh"].value[2 * size :].astype(np.float64)
        with np.errstate(all="ignore"):
            known["m"] = (before["h"].reshape(-1, size) @ w_n.T).reshape(before["h"].shape)
            if "bias_hh" in weights:
                known["m"] += weights["bias_hh"].value[2 * size :]
    return known


def _recorded(s: SequenceRecord, name: str) -> Array | None:
    """A state or a gate as the record has it; None where it has none."""
    return s.states[name] if name in s.states else s.gates.get(name)


def _error(s: SequenceRecord, computed: Mapping[str, Array], at: Array, there: Array) -> float:
    """The largest difference to what was recorded, as a part of the largest number there (at least 1)."""
    worst = 0.0
    for name, array in computed.items():
        recorded = _recorded(s, name)
        if recorded is None:
            continue
        some = there[at, :, np.newaxis] & np.isfinite(recorded[at]) & np.isfinite(array)
        scale = np.max(np.abs(recorded[at]), where=some, initial=1)
        with np.errstate(invalid="ignore"):
            worst = max(worst, float(np.max(np.abs(array - recorded[at]), where=some, initial=0) / scale))
    return worst


def _slopes(variant: str, v: Mapping[str, Array], before: Mapping[str, Array]) -> dict[str, Array]:
    """What stands left of each product in the equations of `LinearWalk`."""
    with np.errstate(all="ignore"):
        if variant == "tanh":
            return {"a": 1 - v["h"] ** 2}
        if variant == "relu":
            return {"a": np.where(np.isnan(v["a"]), np.nan, v["a"] > 0)}
        if variant == "lstm":
            i, f, g, o, tanh_c = v["i"], v["f"], v["g"], v["o"], np.tanh(v["c"])
            return {
                "i": g * i * (1 - i), "f": before["c"] * f * (1 - f), "g": i * (1 - g**2),
                "o": tanh_c * o * (1 - o), "c": o * (1 - tanh_c**2), "path": f,
            }  # fmt: skip
        r, z, n, h = v["r"], v["z"], v["n"], before["h"]
        meets = v["m"] if variant == "reset after" else h
        return {
            "r": meets * r * (1 - r), "z": (h - n) * z * (1 - z), "n": (1 - z) * (1 - n**2), "m": r, "path": z,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class JacobianCurves(Comparable):
    """How much of a change of the state, or of a gradient on its way back, is left over a number of steps.

        d state_t / d state_k = J_t J_{t-1} … J_{k+1}         J_t = d state_t / d state_{t-1}, (S, S)

    For one sample, from its latest step t back. Arrays are by lag: entry q belongs to the state q steps before t;
    the last one is the initial state. All but the singular values of single steps are log10, so that a product of
    1e-500 has its number: -500; -inf is exactly 0.

    Attributes:
        sequence, sample, cell: Whose.
        fields: Of the state: S is their sizes added up.
        times: The input time of the state at each lag; None for the initial state.
        step_largest, step_smallest: Singular values of J of the step from lag q + 1 to lag q, (lags,).
        largest, smallest: Of the product from lag q to lag 0, (lags + 1,): log10. The smallest one is the inverse
            of the largest of the product of the inverses, as exact as each J is invertible.
        path_largest, path_smallest: Of the direct path: products of LSTM's forget gates (c to c) or of GRU's z
            (h to h: minigrad's GRU is h' = (1-z) n + z h, so z is what keeps, where Chung et al. write 1 - z).
            Over units, log10; None for other cells.
        rest: Of what remains of the product without the direct path: log10 of its largest singular value.
        weight_norms: The largest singular value of each gate's block of W_hh.
        radii: The spectral radius of each.
        gamma: The largest slope of the nonlinearity: 1 for tanh and relu; NaN for other cells.
        bound: Of RNN: log10 (gamma ‖W_hh‖)^q, what no product exceeds. None for other cells.
    """

    sequence: str
    sample: int
    cell: str
    fields: tuple[str, ...]
    times: tuple[int | None, ...]
    step_largest: Array
    step_smallest: Array
    largest: Array
    smallest: Array
    path_largest: Array | None
    path_smallest: Array | None
    rest: Array | None
    weight_norms: Mapping[str, float]
    radii: Mapping[str, float]
    gamma: float
    bound: Array | None

    @property
    def lags(self) -> int:
        """The number of steps that the curves go back."""
        return len(self.step_largest)


def step_jacobians(
    record: Record, *, sequence: str | None = None, sample: int = 0, cell: StepCell | None = None
) -> Array:
    """d state_t / d state_{t-1} of one sample at every step.

    Args:
        record: Of `bptt.backward` or `bptt.record`.
        sequence: The walk's name; None: the only or the first one.
        sample: Its place in the batch.
        cell: A cell of one's own, which computes each step once more on the recorded input and state: S walks of
            the engine a step. None: RNN, LSTM and GRU in closed form.
    Returns:
        (T, S, S) by input time, S over the fields of the state one after the other (LSTM: h, c); row: the state
        after. NaN at a step that the sample does not have, or that was not recorded.
    Raises:
        RecordError: There is no such sequence or sample; the cell is none of minigrad's and not given; or the
            cell given does not give the recorded states.
    """
    s, order = _walk_of(record, sequence, sample, None)
    found = dict(_each_jacobian(record, s, sample, order, cell))
    size = len(found[order[0]][0])
    array = np.full((s.steps, size, size), np.nan)
    for t, (jacobian, _, _) in found.items():
        array[t] = jacobian
    return array


def _walk_of(record: Record, sequence: str | None, sample: int, latest: int | None) -> tuple[SequenceRecord, list[int]]:
    """The walk, and the input times of the sample's recorded steps from the latest back."""
    s = record.sequence(sequence)
    if not 0 <= sample < len(s.lengths):
        raise RecordError(
            f"Jacobians of {s.name}: sample {sample} of a batch of {len(s.lengths)}.\n"
            f"  Give a sample from 0 to {len(s.lengths) - 1}."
        )
    there = _there(s)
    order = [t for t in range(int(s.lengths[sample])) if there[t]]
    if not s.reverse:
        order.reverse()
    if latest is not None and latest not in order:
        raise RecordError(
            f"Jacobians of {s.name} from step index {latest} back: sample {sample} has no such step.\n"
            f"  Give one from {min(order, default=0)} to {max(order, default=0)}."
        )
    if not order:
        raise RecordError(f"Jacobians of {s.name}: no step was recorded.\n  Give a loss that depends on its states.")
    return s, order[order.index(latest) :] if latest is not None else order


def _each_jacobian(
    record: Record, s: SequenceRecord, sample: int, order: list[int], cell: StepCell | None
) -> Iterator[tuple[int, tuple[Array, Array, Array | None]]]:
    """For each of the input times: J, J without the direct path, and the direct path's factors (H), if it has one."""
    if cell is not None:
        own = _own_step(s, sample, cell)
        for t in order:
            jacobian = own(t)
            yield t, (jacobian, jacobian, None)
        return
    walk = linear_walk(record, sequence=s.name)
    size, state = walk.weight.shape[1], walk.weight.shape[1] * len(walk.fields)
    rows = slice(state - size, state)
    length = max(1, _BLOCK // (4 * state * state))
    places = [s.steps - 1 - t if s.reverse else t for t in order]  # in the order of the walk
    for start in range(0, len(places), length):
        some = places[start : start + length]
        block = slice(some[-1], some[0] + 1)
        jacobians = walk.jacobians(block, sample, path=False)[::-1]
        path = walk.slopes["path"][block, sample][::-1] if "path" in walk.slopes else None
        for k, t in enumerate(order[start : start + length]):
            whole = jacobians[k]
            if path is not None:
                whole = jacobians[k].copy()
                whole[rows, rows] += np.diag(path[k])
            yield t, (whole, jacobians[k], None if path is None else path[k])


def _own_step(s: SequenceRecord, sample: int, cell: StepCell) -> Callable[[int], Array]:
    kind = type(cell.initial_state(1))
    fields = kind._fields
    if set(fields) != set(s.states) or not set(fields) <= set(s.initial):
        raise RecordError(
            f"Jacobians of {s.name}: the cell's state is {', '.join(fields)}, that of the walk {', '.join(s.states)}.\n"
            "  Give the cell that was unrolled."
        )
    before = {field: _before(s, field).astype(s.dtype) for field in fields}

    def jacobian(t: int) -> Array:
        given = [Tensor(before[field][t, sample : sample + 1], requires_grad=True) for field in fields]
        after = cell.step(Tensor(s.inputs[t, sample : sample + 1]), kind(*given))
        limit = math.sqrt(float(np.finfo(s.dtype).eps))
        for field, new in zip(fields, after, strict=True):
            wanted = s.states[field][t, sample]
            scale = max(1.0, float(np.max(np.abs(wanted), initial=0, where=np.isfinite(wanted))))
            with np.errstate(invalid="ignore"):
                off = np.max(np.abs(new.numpy()[0] - wanted), initial=0, where=np.isfinite(wanted))
            if off > limit * scale:
                raise RecordError(
                    f"Jacobians of {s.name}: at step index {t} the cell gives another {field} than the record holds"
                    f" (off by {off:.1e}).\n  Give the cell that was unrolled, before its weights change; its step"
                    " must depend on nothing but the input and the state."
                )
        rows = []
        for new in after:
            blocks = [
                engine.jacobian(new, old).reshape(new.size, old.size) if new.requires_grad
                else np.zeros((new.size, old.size)) for old in given
            ]  # fmt: skip
            rows.append(np.concatenate(blocks, axis=1))
        return np.concatenate(rows).astype(np.float64)

    return jacobian


def jacobian_curves(
    record: Record, *, sequence: str | None = None, sample: int = 0, latest: int | None = None,
    cell: StepCell | None = None,
) -> JacobianCurves:  # fmt: skip
    """The singular values of every step's Jacobian and of their products back from the latest step.

    Args:
        record, sequence, sample, cell: As for `step_jacobians`.
        latest: The input time, from 0, to go back from; None: the sample's last step. The product from step k
            to step t is the entry of k in the curves of latest=t.
    Raises:
        RecordError: As `step_jacobians`; or the sample has no step `latest`.

    Source: Pascanu, Mikolov & Bengio 2013, section 2.1: products vanish if gamma ‖W_hh‖ < 1; that it exceeds 1 is
    necessary for them to explode. The spectral radius tells what a linear cell does in the long run only.
    Direct path: Hochreiter & Schmidhuber 1997 (the constant error carousel), Gers et al. 2000.

    Cost: O(S³) a step. T=100 takes about 2 s with S=128 (LSTM, H=64), 12 s with S=256.
    """
    s, order = _walk_of(record, sequence, sample, latest)
    product = _Product()
    steps: list[tuple[float, float]] = []
    curves: list[tuple[float, ...]] = []
    for _, (jacobian, rest, path) in _each_jacobian(record, s, sample, order, cell):
        if not curves:
            product.begin(len(jacobian), None if path is None else len(path))
            curves.append(product.logs())
        steps.append(_singular_values(jacobian))
        product.extend(jacobian, rest, path)
        curves.append(product.logs())
    largest, smallest, path_largest, path_smallest, rests = np.array(curves).T
    norms, radii, gamma = _weights_of(record, s) if cell is None else ({}, {}, math.nan)
    direct = cell is None and s.cell in ("LSTM", "GRU")
    bound = None
    if "a" in norms:
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.arange(len(order) + 1) * np.log10(gamma * norms["a"])
        bound[0] = 0
    return JacobianCurves(
        sequence=s.name, sample=sample, cell=s.cell,
        fields=_FIELDS[s.cell] if cell is None else cell.initial_state(1)._fields,
        times=(*order, None), step_largest=np.array([a for a, _ in steps]),
        step_smallest=np.array([b for _, b in steps]), largest=largest, smallest=smallest,
        path_largest=path_largest if direct else None, path_smallest=path_smallest if direct else None,
        rest=rests if direct else None, weight_norms=norms, radii=radii, gamma=gamma, bound=bound,
    )  # fmt: skip


def _weights_of(record: Record, s: SequenceRecord) -> tuple[dict[str, float], dict[str, float], float]:
    """Of each gate's block of W_hh: largest singular value and spectral radius; and gamma."""
    weight = linear_walk(record, sequence=s.name).weight
    blocks = dict(zip(_GATES[s.cell], np.split(weight, len(_GATES[s.cell])), strict=True))
    if not np.isfinite(weight).all():
        return dict.fromkeys(blocks, math.nan), dict.fromkeys(blocks, math.nan), math.nan
    norms = {gate: float(np.linalg.norm(block, 2)) for gate, block in blocks.items()}
    radii = {gate: float(np.abs(np.linalg.eigvals(block)).max()) for gate, block in blocks.items()}
    return norms, radii, 1.0 if s.cell == "RNN" else math.nan


def _singular_values(matrix: Array) -> tuple[float, float]:
    """The largest and the smallest."""
    if not np.isfinite(matrix).all():
        return math.nan, math.nan
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0]), float(values[-1])


class _Product:
    """A product of Jacobians, its inverse, and its two parts, each with a power of ten taken out.

        P = R + D       D: the product of the direct paths alone       P J = (R J + D (J - path)) + D path
    """

    def begin(self, size: int, path: int | None) -> None:
        self.whole, self.exponent = np.eye(size), 0.0
        self.direct = np.ones(path or 0)
        self.rest = np.zeros((size, size)) if path is None else np.diag(np.arange(size) < size - path).astype(float)
        self.inverse: Array | None = np.eye(size)
        self.inverse_exponent = 0.0
        self.path_logs = np.zeros(path or 0)

    def extend(self, jacobian: Array, rest: Array, path: Array | None) -> None:
        with np.errstate(all="ignore"):
            if path is None:
                self.whole = self.whole @ jacobian
            else:
                size, count = len(jacobian), len(path)
                carried = self.rest @ jacobian
                carried[size - count :] += self.direct[:, np.newaxis] * rest[size - count :]
                self.rest, self.direct = carried, self.direct * path
                self.whole = carried.copy()
                self.whole[range(size - count, size), range(size - count, size)] += self.direct
                self.path_logs = self.path_logs + np.log10(path)
            self._extend_inverse(jacobian)
            scale = max(float(np.max(np.abs(x), initial=0)) for x in (self.whole, self.rest, self.direct))
            if scale > 0 and math.isfinite(scale):
                self.whole, self.rest, self.direct = self.whole / scale, self.rest / scale, self.direct / scale
                self.exponent += math.log10(scale)

    def _extend_inverse(self, jacobian: Array) -> None:
        scale = float(np.max(np.abs(jacobian), initial=0))
        if self.inverse is None or scale == 0:
            self.inverse = None
            return
        if not (math.isfinite(scale) and np.isfinite(self.inverse).all()):
            self.inverse = np.full_like(self.inverse, np.nan)
            return
        try:
            new = np.linalg.solve(jacobian / scale, self.inverse)
        except np.linalg.LinAlgError:  # a direction dies here: the smallest singular value is 0 from now on
            self.inverse = None
            return
        size = float(np.max(np.abs(new), initial=0))
        if not math.isfinite(size):
            self.inverse = None
            return
        self.inverse = new / size
        self.inverse_exponent += math.log10(size) - math.log10(scale)

    def logs(self) -> tuple[float, float, float, float, float]:
        """log10: largest and smallest singular value, the direct path's largest and smallest factor, the rest."""
        smallest = -math.inf if self.inverse is None else 0 - _log_norm(self.inverse) - self.inverse_exponent
        paths = (float(self.path_logs.max()), float(self.path_logs.min())) if len(self.path_logs) else (math.nan,) * 2
        return _log_norm(self.whole) + self.exponent, smallest, *paths, _log_norm(self.rest) + self.exponent


def _log_norm(matrix: Array) -> float:
    """log10 of the largest singular value."""
    scale = float(np.max(np.abs(matrix), initial=0))
    if scale == 0 or not math.isfinite(scale):
        return -math.inf if scale == 0 else math.nan
    scaled = matrix / scale
    return math.log10(scale) + 0.5 * math.log10(float(np.linalg.eigvalsh(scaled @ scaled.T)[-1]))
