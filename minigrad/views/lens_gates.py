"""What gates let through and how long units remember, shown in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.gates import Activity, Gates
from ..bptt.gates import gates as measured_gates
from ..bptt.record import Record
from .lens_marks import Shown, lead, many, note, part, part_bar, percent, strip, table
from .palette import number
from .report import safe

__all__ = ["gates"]

_NAMES = {
    "LSTM": {"f": "forget gate", "i": "input gate", "g": "candidate", "o": "output gate", "tanh c": "cell state"},
    "GRU": {"r": "reset gate", "z": "update gate", "n": "candidate"},
    "RNN": {"h": "state"},
}
_STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
_SPANS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0, math.inf)


def gates(found: Record | Gates, *, sequence: str | None = None) -> RenderableType:
    """How much of each gate is saturated, how steep it is where it works, and for how long the units remember.

    Args:
        found: A record, or what `gates` gave.
        sequence: Which layer and direction; None: the first.
    Raises:
        RecordError: As `gates`.
    """
    x = measured_gates(found, sequence=sequence) if isinstance(found, Record) else found

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"Gates of {safe(x.cell)} {safe(x.sequence)}", _findings(x))]
        parts += ["", _activities(x, width)]
        below, above = f"below {number(x.low)}", f"above {number(x.high)}"
        tanh = f"below {number(2 * x.low - 1)}", f"above {number(2 * x.high - 1)}"
        kinds = {a.kind for a in x.gates.values()}
        words = []
        if "sigmoid" in kinds:
            words.append(f"Low, high: the share of values that are saturated, of a sigmoid {below} and {above}"
                         + (f", of tanh {tanh[0]} and {tanh[1]}" if "tanh" in kinds else "") + ".")  # fmt: skip
        elif "tanh" in kinds:
            words.append(f"Low, high: the share of values {tanh[0]} and {tanh[1]}, where tanh is saturated.")
        if "relu" in kinds:
            words.append("Low of a relu: the share of values that are 0.")
        words.append(
            "Slope: the mean derivative, which multiplies every gradient on its way back through it (a sigmoid's is"
            " at most 0.25, tanh's 1); at the right step by step, from 0 to the most it can be. Stuck: units that are"
            " saturated at every step."
        )
        parts.append(note(*words))
        if x.half_lives is not None:
            parts += ["", _memory(x, x.half_lives, width)]
        return Group(*parts)

    return Shown(build)


def _findings(x: Gates) -> Iterator[str]:
    if x.half_lives is not None and x.keeps is not None:
        name = _NAMES.get(x.cell, {}).get(x.keeps, x.keeps)
        known = x.half_lives[~np.isnan(x.half_lives)]
        if len(known) == 0:
            yield f"the values of the {name} are not finite."
        else:
            typical = float(np.median(known)) if np.isfinite(known).all() else float(np.sort(known)[len(known) // 2])
            ends = f"{_steps(float(known.min()))} to {_steps(float(known.max()))}"
            if math.isinf(typical):
                yield f"left to its {name}, a typical unit never forgets ({ends} over the units)."
            else:
                yield (f"left to its {name}, a typical unit has lost half of what it remembers after"
                       f" {_steps(typical)} steps ({ends} over the units).")  # fmt: skip
    shares = {a.symbol: a.saturated for a in x.gates.values() if not math.isnan(a.saturated)}
    if shares:
        most = max(shares, key=lambda symbol: shares[symbol])
        activity = x.gates[most]
        called = safe(_NAMES.get(x.cell, {}).get(most, most))
        saturated = "0" if activity.kind == "relu" else "saturated"
        yield f"Of the {called}'s values {percent(shares[most])} are {saturated}{', the most' * (len(shares) > 1)};"
        yield f"its mean slope is {number(float(np.mean(activity.slope)))} of at most {_STEEPEST[activity.kind]:g}."
    missing = [int(np.count_nonzero(np.isnan(a.slope_by_step))) for a in x.gates.values()]
    if max(missing):
        steps = len(next(iter(x.gates.values())).slope_by_step)
        yield f"At {max(missing)} of {steps} steps there is no value: padding, not recorded, or not finite."
    stuck = sorted({unit for a in x.gates.values() for unit in a.stuck})
    units = len(next(iter(x.gates.values())).mean)
    if stuck:
        where = " in some gate" * (len(x.gates) > 1)
        yield f"{many(len(stuck), 'unit')} of {units} {'is' if len(stuck) == 1 else 'are'} stuck{where}."
    if x.still:
        yield f"{many(len(x.still), 'unit')} of {units} never move{'s' * (len(x.still) == 1)}: {_listed(x.still)}."


def _steps(x: float) -> str:
    return "never" if math.isinf(x) else number(x)


def _listed(units: Sequence[int]) -> str:
    """The units, counted from 0 as the arrays are."""
    shown = ", ".join(map(str, units[:6]))
    return f"unit {shown}" if len(units) == 1 else f"units {shown}{', …' * (len(units) > 6)}"


def _activities(x: Gates, width: int) -> RenderableType:
    some: Mapping[str, Activity] = x.gates
    names = _NAMES.get(x.cell, {})
    columns: dict[str, Sequence[str]] = {
        "gate": [safe(symbol) for symbol in some],
        "name": [names.get(symbol, "") for symbol in some],
        "mean": [number(float(np.mean(a.mean))) for a in some.values()],
        "low": [part(float(np.mean(a.low))) for a in some.values()],
        "high": ["" if a.kind == "relu" else part(float(np.mean(a.high))) for a in some.values()],
        "slope": [number(float(np.mean(a.slope))) for a in some.values()],
        "stuck": [str(len(a.stuck)) for a in some.values()],
    }
    if not any(columns["name"]):
        del columns["name"]
    steps = len(next(iter(some.values())).slope_by_step)

    def strips(size: int) -> tuple[str, list[Text]]:
        return f"slope, t=1…{steps}", [
            strip(a.slope_by_step, size, 0.0, _STEEPEST[a.kind], logs=False) for a in some.values()
        ]  # fmt: skip

    return table(columns, width, left=["gate", "name"], drop=["name", "stuck", "mean"], bar=strips, least=16)


def _memory(x: Gates, half_lives: np.ndarray[tuple[int, ...], np.dtype[np.float64]], width: int) -> RenderableType:
    """How many units have which half-life."""
    counts: dict[str, int] = {}
    for low, high in pairwise(_SPANS):
        name = f"below {high:g}" if low == 0 else f"from {low:g}" if math.isinf(high) else f"{low:g}…{high:g}"
        counts[name] = int(np.count_nonzero((half_lives >= low) & (half_lives < high)))
    counts["never"] = int(np.count_nonzero(np.isposinf(half_lives)))
    counts["not finite"] = int(np.count_nonzero(np.isnan(half_lives)))
    filled = [k for k, count in enumerate(counts.values()) if count]
    names = list(counts)[filled[0] : filled[-1] + 1]
    names = [name for name in names if counts[name] or name not in ("never", "not finite")]
    columns = {"half-life in steps": names, "units": [str(counts[name]) for name in names]}
    most = max(counts.values())

    def bars(size: int) -> tuple[str, list[Text]]:
        return "", [part_bar(counts[name] / most, size) for name in names]

    formula = "Half-life: ln 2 / -mean(ln {0}): after so many steps half of what the direct path keeps is gone."
    assert x.keeps is not None
    return Group(table(columns, min(width, 72), left=["half-life in steps"], bar=bars), note(formula.format(x.keeps)))
