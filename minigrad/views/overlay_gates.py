"""Over a picture: how open the gates are, how much of them is saturated, and what they keep."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bptt.gates import Activity, Gates
from ..bptt.record import SequenceRecord
from ..errors import DrawError
from .overlay import Overlay, Track
from .overlay_common import KEEPERS, OPEN, Asked, percent
from .palette import Mark, number, on
from .scene import letter_of

__all__ = ["gates"]


def gates(asked: Asked, some: Sequence[Gates]) -> Overlay:
    """Mean value and saturated share of each gate, the half-life of the lane that it keeps."""
    (x,), s = some, asked.s
    if asked.level == "op":
        raise DrawError(
            "At level='op' a gate is several ops, and the numbers are those of the whole gate.\n"
            "  Draw level='gate', 'cell' or 'strip'."
        )
    lane = {"f": "c", "z": "h"}.get(x.keeps or "", "")
    tracks = []
    for symbol, activity in x.gates.items():
        numbers = _gate_numbers(s, activity, x)
        sigmoid, letter = activity.kind == "sigmoid", symbol.replace("tanh c", "tanh C")
        value, called = (0, f"mean {symbol}") if sigmoid else (1, f"slope of {symbol}")
        main: list[Mark | None] = [
            None if n is None else Mark(
                n[value], number(n[value]), on(OPEN, n[value]),
                f"t={t + 1}: {called} {number(n[value])}, saturated {percent(n[2])}",
            ) for t, n in enumerate(numbers)
        ]  # fmt: skip
        pairs = list(zip(main, numbers, strict=True))
        if asked.level == "strip":
            flat: list[Mark | None] = [
                None if m is None or n is None
                else m._replace(value=n[2], text=percent(n[2]), look=on(OPEN, n[2])) for m, n in pairs
            ]  # fmt: skip
            tracks.append(Track(letter if sigmoid else f"{letter} slope", "box", (symbol,), main))
            tracks.append(Track(f"{letter} sat", "box", (symbol,), flat))
        elif asked.level == "gate" or (lane == "" and symbol in s.states):
            beside = [
                None if m is None or n is None
                else m._replace(text=f"sat {percent(n[2])}" if sigmoid else f"slope {number(n[1])}") for m, n in pairs
            ]  # fmt: skip
            tracks.append(Track(symbol if sigmoid else "slope", "box", (symbol,), beside))
            if symbol == x.keeps:
                tracks.append(Track(symbol, "fold", (lane,), main))
        elif symbol == x.keeps:
            chips = [
                None if m is None or n is None else m._replace(text=f"{symbol} {m.text}\nsat {percent(n[2])}")
                for m, n in pairs
            ]
            tracks.append(Track(symbol, "arrow", (lane,), chips))
    saturated = [f"{symbol} {percent(a.saturated)}" for symbol, a in x.gates.items()]
    found, sides = f"Saturated, over all steps: {', '.join(saturated)}.", {}
    if x.half_lives is not None and x.keeps is not None:
        known = np.sort(x.half_lives[~np.isnan(x.half_lives)])
        if len(known):
            typical = _life(float(known[len(known) // 2]))
            sides[lane] = f"half-life\n{typical}"
            after = "never loses" if typical == "never" else f"after {typical} has lost"
            found = (
                f"Along {letter_of(lane)} a typical unit {after} half of what it remembers"
                f" ({number(known[0])} to {number(known[-1])} steps over the units).  {found}"
            )
    low, high = number(x.low), number(x.high)
    kinds = {a.kind for a in x.gates.values()}
    parts = [f"of a sigmoid below {low} or above {high}"] * ("sigmoid" in kinds)
    parts += [f"of tanh below {number(2 * x.low - 1)} or above {number(2 * x.high - 1)}"] * ("tanh" in kinds)
    parts += ["of relu at 0"] * ("relu" in kinds)
    words = [f"Saturated (sat): the share of values {', '.join(parts)}, where it is flat and learns little."]
    if x.keeps is not None:
        kept = f"what the {KEEPERS[x.keeps]} alone keeps, in the median unit"
        words.append(f"Half-life: ln 2 / −mean(ln {x.keeps}), {kept}.")
    colour = "of a sigmoid gate its mean value, 0 closed to 1 open; of tanh and relu the mean slope, 0 flat to 1 steep"
    if asked.level == "strip":
        colour += "; sat: the saturated share, 0 (dark) to 1"
    return Overlay(
        title="how open the gates are, and what they keep", found=found, about=(" ".join(words),),
        scales=((f"Colour: {colour}.", OPEN),),
        tracks=tuple(tracks), sides=sides,
    )  # fmt: skip


def _life(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{number(steps)} step{'' if number(steps) == '1' else 's'}"


def _gate_numbers(s: SequenceRecord, a: Activity, x: Gates) -> list[tuple[float, float, float] | None]:
    """At each step mean value, mean slope and saturated share, over the samples that have not ended."""
    values = np.tanh(s.states["c"]) if a.symbol == "tanh c" else s.gates.get(a.symbol, s.states.get(a.symbol))
    assert values is not None
    low, high = (2 * x.low - 1, 2 * x.high - 1) if a.kind == "tanh" else (x.low, x.high)
    found: list[tuple[float, float, float] | None] = []
    for t, slope in enumerate(a.slope_by_step.tolist()):
        y = values[t][s.lengths > t]
        if math.isnan(slope) or not len(y):
            found.append(None)
            continue
        flat = y <= 0 if a.kind == "relu" else (y < low) | (y > high)
        found.append((float(y.mean()), slope, float(flat.mean())))
    return found
