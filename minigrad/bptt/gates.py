"""What gates and activations let through: saturation, slopes, dead units, and how long a unit remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..engine import Array
from ..errors import MinigradError, RecordError
from .record import Comparable, Record, SequenceRecord

__all__ = ["SATURATED_ABOVE", "SATURATED_BELOW", "Activity", "Gates", "gates"]

SATURATED_BELOW, SATURATED_ABOVE = 0.1, 0.9
"""A sigmoid outside these is saturated: its slope y (1 - y) is below 0.09, of at most 0.25. Karpathy, Johnson &
Fei-Fei 2015 call gates left- and right-saturated there. For tanh(a) = 2 sigmoid(2a) - 1 the same points are -0.8
and 0.8, where its slope is 0.36 of at most 1."""

Kind = Literal["sigmoid", "tanh", "relu"]

_KINDS: dict[str, dict[str, Kind]] = {
    "LSTM": {"f": "sigmoid", "i": "sigmoid", "g": "tanh", "o": "sigmoid"},
    "GRU": {"r": "sigmoid", "z": "sigmoid", "n": "tanh"},
    "RNN": {},
}
_KEEPS = {"LSTM": "f", "GRU": "z"}
_RANGES: dict[str, tuple[float, float]] = {"sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf)}


@dataclass(frozen=True, eq=False)
class Activity(Comparable):
    """One gate or activation over all real steps and samples.

    Attributes:
        symbol: The gate's letter; "h" of an RNN; "tanh c" of an LSTM.
        kind: What it is the value y of: "sigmoid", "tanh", "relu".
        mean: Of its values, a unit, (H,).
        low, high: The share of its values that is saturated on this side, a unit, (H,). For relu: the share
            that is 0, and 0.
        slope: The mean derivative, a unit, (H,): y (1 - y), 1 - y², or whether y > 0.
        slope_by_step: The mean derivative over units and samples, (T,) by input time; NaN where there is none.
    """

    symbol: str
    kind: Kind
    mean: Array
    low: Array
    high: Array
    slope: Array
    slope_by_step: Array

    @property
    def saturated(self) -> float:
        """The share of all values that is saturated on either side."""
        return float(np.mean(self.low + self.high))

    @property
    def stuck(self) -> tuple[int, ...]:
        """The units that are saturated at every step of every sample; of relu: those that are always 0."""
        return tuple(np.flatnonzero(self.low + self.high == 1).tolist())


@dataclass(frozen=True, eq=False)
class Gates(Comparable):
    """All gates of one walk.

    Attributes:
        sequence, cell: Whose.
        low, high: A sigmoid beyond these counts as saturated; a tanh beyond 2 low - 1 and 2 high - 1.
        gates: By symbol.
        still: The units whose h is the same at all steps of all samples.
        keeps: The gate that keeps what is remembered: LSTM's f (c' = f c + …), GRU's z (h' = (1-z) n + z h);
            None for other cells.
        half_lives: In how many steps half of what a unit remembers is gone, (H,): ln 2 / -mean(ln f), the mean
            over all steps and samples. Infinite where nothing is lost, 0 where all is, at some step. None
            without such a gate.
    """

    sequence: str
    cell: str
    low: float
    high: float
    gates: Mapping[str, Activity]
    still: tuple[int, ...]
    keeps: str | None
    half_lives: Array | None


def gates(
    record: Record, *, sequence: str | None = None, low: float = SATURATED_BELOW, high: float = SATURATED_ABOVE,
    kinds: Mapping[str, Kind] | None = None,
) -> Gates:  # fmt: skip
    """Measure the gates of one walk. Padding and steps that were not recorded do not count.

    The half-life is that of the direct path alone: what a unit gets back through the others is not in it.

    Args:
        record: Of `bptt.backward` or `bptt.record`.
        sequence: The walk's name; None: the only or the first one.
        low, high: Where saturation begins; see `SATURATED_BELOW`.
        kinds: For a cell of one's own: which of its named scopes gives a sigmoid, a tanh, a relu.
    Raises:
        RecordError: There is no such sequence; the cell is none of minigrad's and no kinds are given; a scope
            of that name gave no single tensor, or values that no such function has.
        MinigradError: Not 0 <= low < high <= 1.

    Source: saturation: Karpathy, Johnson & Fei-Fei 2015; half-life: a forget gate f leaves f^q after q steps.
    """
    if not 0 <= low < high <= 1:
        raise MinigradError(f"gates: low={low}, high={high}.\n  Give 0 <= low < high <= 1, as 0.1 and 0.9.")
    s = record.sequence(sequence)
    real = np.less(np.arange(s.steps)[:, np.newaxis], s.lengths)  # (T, N)
    named = _values(s, kinds)
    h = _rows(next(iter(s.states.values())), real)
    still: tuple[int, ...] = ()
    if len(h) > 1:
        moves = h.max(axis=0) - h.min(axis=0)
        still = tuple(np.flatnonzero(moves <= np.finfo(s.dtype).eps * np.abs(h).max(axis=0)).tolist())
    keeps = _KEEPS.get(s.cell) if kinds is None else None
    half_lives = None
    if keeps is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = -np.log(_rows(named[keeps][1], real)).mean(axis=0)
            half_lives = np.where(lost == 0, np.inf, math.log(2) / lost)
    return Gates(
        sequence=s.name, cell=s.cell, low=low, high=high,
        gates={symbol: _activity(symbol, kind, y, real, low, high) for symbol, (kind, y) in named.items()},
        still=still, keeps=keeps, half_lives=half_lives,
    )  # fmt: skip


def _values(s: SequenceRecord, kinds: Mapping[str, Kind] | None) -> dict[str, tuple[Kind, Array]]:
    """Each gate's kind and values, (T, N, H)."""
    wanted = _KINDS.get(s.cell) if kinds is None else kinds
    if wanted is None:
        raise RecordError(
            f"gates of {s.name}: its cell is {s.cell}, whose gates are not known.\n  Say what its scopes"
            f" {', '.join(s.gates) or '(it has none)'} give: kinds={{'f': 'sigmoid', 'g': 'tanh'}}."
        )
    missing = [symbol for symbol in wanted if symbol not in s.gates]
    if missing:
        raise RecordError(
            f"gates of {s.name}: no scope {missing[0]!r} gave one tensor (N, H) a step.\n"
            f"  The record has {', '.join(s.gates) or 'none'}."
        )
    found: dict[str, tuple[Kind, Array]] = {symbol: (kind, s.gates[symbol]) for symbol, kind in wanted.items()}
    if kinds is None and s.cell == "LSTM":
        found["tanh c"] = ("tanh", np.tanh(s.states["c"]))
    if kinds is None and s.cell == "RNN":
        h = s.states["h"]
        a = s.gates.get("a", h)
        with np.errstate(invalid="ignore"):
            off = [np.abs(np.nan_to_num(y - h)).max() for y in (np.tanh(a), np.maximum(a, 0))]
        found["h"] = ("tanh" if off[0] <= off[1] else "relu", h)
    for symbol, (kind, y) in found.items():
        if kind not in _RANGES:
            raise RecordError(f"gates of {s.name}: {symbol} is {kind!r}.\n  Choose {', '.join(_RANGES)}.")
        bottom, top = _RANGES[kind]
        if np.any((y < bottom) | (y > top)):  # NaN is neither
            raise RecordError(
                f"gates of {s.name}: {symbol} has values from {np.nanmin(y):.3g} to {np.nanmax(y):.3g}, which no"
                f" {kind} has.\n  Say what the scopes of a cell of your own give: kinds={{{symbol!r}: …}}."
            )
    return found


def _rows(y: Array, real: Array) -> Array:
    """All real and recorded values, (values, H), in float64."""
    # A step that the loss does not depend on is in no graph of steps.
    missing = np.asarray(np.all(np.isnan(y.reshape(len(y), -1)), axis=1))
    rows: Array = y[real & ~missing[:, np.newaxis]].astype(np.float64)
    return rows


def _activity(symbol: str, kind: Kind, y: Array, real: Array, low: float, high: float) -> Activity:
    rows = _rows(y, real)
    if not len(rows):
        raise RecordError(f"gates: of {symbol} no step was recorded.\n  Give a loss that depends on the states.")
    if kind == "tanh":
        low, high = 2 * low - 1, 2 * high - 1
    below = rows <= 0 if kind == "relu" else rows < low
    above = np.zeros_like(below) if kind == "relu" else rows > high
    by_step = np.full(len(y), np.nan)
    for t in range(len(y)):
        some = y[t][real[t]].astype(np.float64)
        if some.size and not np.isnan(some).all():
            by_step[t] = _slope(kind, some).mean()
    return Activity(
        symbol=symbol, kind=kind, mean=rows.mean(axis=0), low=below.mean(axis=0), high=above.mean(axis=0),
        slope=_slope(kind, rows).mean(axis=0), slope_by_step=by_step,
    )  # fmt: skip


def _slope(kind: Kind, y: Array) -> Array:
    if kind == "relu":
        return np.where(np.isnan(y), np.nan, y > 0)
    slope: Array = y * (1 - y) if kind == "sigmoid" else 1 - y**2
    return slope
