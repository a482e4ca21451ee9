"""Measures over a picture: what each one's numbers are called, where they stand, and in which colour.

A measure comes as an object of `minigrad.bptt`; here it becomes text, colour, legend and tooltip, and no gradient is
computed. For one more measure there is one more function here, and its row in `_MAKERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..bptt.attribution import Attribution
from ..bptt.gates import Activity, Gates
from ..bptt.jacobian import JacobianCurves
from ..bptt.record import Record, SequenceRecord
from ..bptt.terms import StepTerms
from ..bptt.thresholds import ClippingEffect, Norms
from ..bptt.truncation import Truncation
from ..clip import Clipping
from ..engine import Array
from ..errors import DrawError
from .clipped import recurrent
from .layers import above
from .overlay import Overlay, Track
from .palette import BINS, PLAIN, SPECIAL, Look, Mark, look, number, on, power, rescaled, shown
from .scene import letter_of, real_samples, short_name, subscript

__all__ = ["Asked", "cut_every", "overlays"]


class Asked(NamedTuple):
    """For what an overlay is made: a walk of a record, a level, the loss of an attribution, one sample."""

    record: Record
    s: SequenceRecord
    level: str
    loss: int | None = None
    sample: int | None = None

    @property
    def main(self) -> str:
        """The weight whose terms are shown where there is room for one; "" without any."""
        weight = recurrent(self.record, self.s.name)
        return "" if weight is None else weight.name

    @property
    def before(self) -> int:
        """From a step to the one before it on its walk."""
        return 1 if self.s.reverse else -1

    def led(self, words: str, text: str) -> str:
        """A number with what it is called; alone in a strip, whose rows have titles."""
        return text if self.level == "strip" else f"{words} {text}"


LEFT = rescaled(
    (1e-12, "< 1e-12\nvanished", 0), (1e-9, "1e-12…\n1e-9", 1), (1e-6, "1e-9…\n1e-6", 2), (1e-3, "1e-6…\n1e-3", 3),
    (1.001, "1e-3…1\narrives", 4), (10, "1…10", 5), (100, "10…100", 6), (1e4, "100…1e4", 7),
    (math.inf, "> 1e4\nexploding", 8),
)  # fmt: skip
"""What is left of a gradient: 1 is all of it."""

FACTOR = rescaled(
    (0.1, "× < 0.1", 0), (0.3, "× 0.1…0.3", 1), (0.6, "× 0.3…0.6", 2), (0.9, "× 0.6…0.9\nshrinks", 3),
    (1.1, "× 0.9…1.1\nkeeps", 4), (1.6, "× 1.1…1.6\ngrows", 5), (3, "× 1.6…3", 6), (10, "× 3…10", 7),
    (math.inf, "× > 10", 8),
)  # fmt: skip
"""What a gradient is multiplied by in one step."""

SHARE = rescaled(
    (1e-6, "< 1e-4 %", 0), (1e-4, "1e-4…\n0.01 %", 1), (1e-3, "0.01…\n0.1 %", 2), (1e-2, "0.1…1 %", 3),
    (0.03, "1…3 %", 4), (0.1, "3…10 %", 5), (0.3, "10…30 %", 6), (1.001, "30…100 %", 7), (math.inf, "> 100 %", 8),
)  # fmt: skip
"""What a step adds to a sum."""

LIMIT = rescaled(
    (1e-6, "< 1e-6 C", 0), (1e-4, "1e-6…\n1e-4 C", 1), (1e-2, "1e-4…\n0.01 C", 2), (0.1, "0.01…\n0.1 C", 3),
    (1.0, "0.1…1 C\nwithin", 4), (3, "1…3 C\nbeyond", 5), (10, "3…10 C", 6), (100, "10…100 C", 7),
    (math.inf, "> 100 C", 8),
)  # fmt: skip
"""A size in parts of a limit C."""

OPEN = rescaled(
    (0.1, "0…0.1\nclosed, flat", 0), (0.3, "0.1…0.3", 1), (0.6, "0.3…0.6", 2), (0.9, "0.6…0.9", 3),
    (math.inf, "0.9…1\nopen, steep", 4),
)  # fmt: skip
"""How much a gate lets through, or the slope of a nonlinearity."""

CHOSEN = Look("", "#ffe08a", "#000000", "#000000")
"""What the numbers are counted from."""

_KINDS = {"f": "forget gate", "z": "update gate"}


def overlays(asked: Iterable[Asked], given: Any) -> dict[str, Overlay]:
    """By the walk's name what is drawn over it.

    Args:
        asked: The walks of a picture.
        given: A measure, or several of one kind: of several walks or weights.
    Raises:
        DrawError: It is no measure, of several kinds, of none of these walks or of another length; a loss is asked
            for that there is none of, or of a measure that has no losses.
    """
    asked = list(asked)
    measures = list(given) if isinstance(given, (list, tuple)) else [given]
    kinds = list(dict.fromkeys(type(m) for m in measures))
    if len(kinds) != 1 or kinds[0] not in _MAKERS:
        names = ", ".join(kind.__name__ for kind in kinds) or "nothing"
        raise DrawError(
            f"An overlay shows one kind of measure; found {names}.\n"
            f"  Give one of {', '.join(kind.__name__ for kind in _MAKERS)}, or several of one kind in a list."
        )
    kind = kinds[0]
    if kind is ClippingEffect and len({m.kind for m in measures}) > 1:
        raise DrawError(
            f"A picture shows one way of clipping; found {', '.join(dict.fromkeys(m.kind for m in measures))}.\n"
            "  Give one of them, or of each walk one of the same kind."
        )
    if kind is not Attribution and any(a.loss is not None for a in asked):
        raise DrawError(f"loss={asked[0].loss} chooses one loss of an Attribution; found {kind.__name__}.\n  Leave it.")
    found = {}
    for a in asked:
        own = [m for m in measures if getattr(m, "sequence", a.s.name) == a.s.name]
        if len(own) > 1 and kind is not StepTerms:
            raise DrawError(
                f"One picture shows one {kind.__name__} of {a.s.name}; found {len(own)}.\n  Give one of each walk."
            )
        if own:
            steps = _steps_of(own[0])
            if steps not in (None, a.s.steps):
                raise DrawError(
                    f"The overlay's {kind.__name__} has {steps} steps, {a.s.name} has T={a.s.steps}.\n"
                    "  Measure the record that is drawn."
                )
            states = _states_of(own[0])
            if states not in (None, {*a.s.states}):
                raise DrawError(
                    f"The overlay's {kind.__name__} has the states {', '.join(sorted(states or ()))}, {a.s.name} has"
                    f" {', '.join(sorted(a.s.states))}.\n  Measure the record that is drawn."
                )
            found[a.s.name] = _MAKERS[kind](a, own)
    if not found:
        of = ", ".join(dict.fromkeys(m.sequence for m in measures))
        raise DrawError(
            f"The overlay's {kind.__name__} is of {of}, and the picture shows {', '.join(a.s.name for a in asked)}.\n"
            "  Measure with sequence=, one of these names."
        )
    return found


def _steps_of(measure: Any) -> int | None:
    """How many steps a measure has numbers of; None: it does not tell."""
    if isinstance(measure, StepTerms):
        return len(measure.norms)
    if isinstance(measure, Attribution):
        return len(measure.enters)
    if isinstance(measure, Gates):
        return len(next(iter(measure.gates.values())).slope_by_step)
    if isinstance(measure, ClippingEffect):
        return len(next(iter(measure.states_before.values())))
    return measure.steps if isinstance(measure, Truncation) else None


def _states_of(measure: Any) -> set[str] | None:
    """The fields of the state that a measure has numbers of; None: it does not tell."""
    if isinstance(measure, Attribution):
        return {*measure.norms}
    return {*measure.states_before} if isinstance(measure, ClippingEffect) else None


# One function a measure


def _terms(asked: Asked, some: Sequence[StepTerms]) -> Overlay:
    """The share of each step's term in the gradient of a shared weight."""
    s = asked.s
    main = next((x for x in some if x.parameter == asked.main), some[0])
    tracks = []
    for x in some if asked.level != "cell" else [main]:
        name = short_name(x.parameter, s.name)
        marks: list[Mark | None] = []
        rows = zip(x.shares, x.norms, x.cosines, x.from_last, strict=True)
        for t, (share, norm, cosine, gathered) in enumerate(rows):
            if math.isnan(norm) and not math.isnan(gathered):  # no term; else one that is not finite
                marks.append(None)
                continue
            about = (f"t={t + 1}: this step's term of ∂L/∂{name} has norm {number(norm)}, adds {_percent(share)} of it"
                     f" along it, cosine {number(cosine)}")  # fmt: skip
            paint = on(SHARE, abs(float(share)))
            if share < 0:
                paint = paint._replace(style="rounded,dashed")
            marks.append(Mark(abs(float(share)), _percent(share), paint, about))
        tracks.append(Track(name, "use", (x.parameter,), marks))
    name, norms = short_name(main.parameter, s.name), np.nan_to_num(main.norms)
    order = np.argsort(-norms, kind="stable")
    needed = int(np.searchsorted(np.cumsum(norms[order]), 0.9 * norms.sum())) + 1
    strongest = int(order[0])
    found = f"‖∂L/∂{name}‖ = {number(main.total)}"
    if math.isfinite(main.total) and main.total > 0:
        found += (
            f":  {needed} of {_steps(s.steps)} make{'s' * (needed == 1)} 90 % of what all of them add;"
            f" the largest term is that of t={strongest + 1}, with {_percent(main.shares[strongest])}"
        )
        if abs(main.elsewhere) > 1e-3:
            found += f";  {_percent(main.elsewhere)} come from other walks"
    where, negative = ("In each tile", "−") if asked.level == "strip" else ("On the label of each use", "dashed")
    return Overlay(
        title=f"how much each step adds to the gradient of {name if len(tracks) == 1 else 'each weight'}", found=found,
        about=(f"One weight serves all steps, so its gradient is a sum over the steps: ∂L/∂{name} = Σₜ termₜ. {where}"
               " stands the share of a step in that sum.",),
        scales=(("Share of ∂L/∂W: what a step's term adds along the whole gradient. All shares add up to 100 %; a"
                 f" negative one ({negative}) works against the others.", SHARE),),
        tracks=tuple(sorted(tracks, key=lambda track: track.keys[0] != main.parameter)),
        wanted=(strongest,),
    )  # fmt: skip


def _jacobian(asked: Asked, some: Sequence[JacobianCurves]) -> Overlay:
    """What each step's Jacobian does to a gradient at most and at least, and what is left from the end."""
    (x,), s = some, asked.s
    states = tuple(s.states)
    most: list[Mark | None] = [None] * s.steps
    least, both, left = list(most), list(most), list(most)

    def name(t: int) -> str:
        """Of the whole state at an input time; outside of the walk it is the first one."""
        number_of = t + 1 if 0 <= t < s.steps else 0
        parts = ", ".join(subscript(letter_of(f), number_of) for f in states)
        return f"({parts})" if len(states) > 1 else parts

    latest = x.times[0]
    if latest is None or max(t for t in x.times if t is not None) >= s.steps:
        raise DrawError(
            f"The overlay's JacobianCurves of {x.sequence} has steps that T={s.steps} has not, or none.\n"
            "  Measure the record that is drawn."
        )
    for q, t in enumerate(x.times):
        whole = Mark(float(x.largest[q]), asked.led("left", power(float(x.largest[q]))), _of_log(float(x.largest[q])),
                     f"of a gradient at {name(latest)} at most {power(float(x.largest[q]))} arrives here, at least"
                     f" {power(float(x.smallest[q]))}")  # fmt: skip
        if t is None:
            first = whole if asked.level == "cell" else whole._replace(text=power(float(x.largest[q])))
            continue
        left[t] = whole
        high, low = float(x.step_largest[q]), float(x.step_smallest[q])
        about = (f"J of the step into t={t + 1}: on its way back through it a gradient is multiplied by {number(high)}"
                 f" at most and {number(low)} at least")  # fmt: skip
        most[t] = Mark(high, number(high), on(FACTOR, high), about)
        least[t] = Mark(low, number(low), on(FACTOR, low), about)
        both[t] = Mark(high, f"max {number(high)}\nmin {number(low)}", on(FACTOR, high), about)
    if asked.level == "strip":
        tracks = [Track("left", "box", states, left), Track("σ max", "arrow", states, most),
                  Track("σ min", "arrow", states, least)]  # fmt: skip
    else:
        tracks = [Track("max", "arrow", states, both), *(Track("left", "box", (f,), left, first) for f in states)]
    found = f"From {name(latest)} back over {_steps(x.lags)}"
    if x.lags:
        rate = float(x.largest[-1]) / x.lags
        found += (f" at most {power(float(x.largest[-1]))} of a gradient is left: {number(rate)} decades a step."
                  if math.isfinite(rate) else f" {power(float(x.largest[-1]))} of a gradient is left.")  # fmt: skip
    if x.path_largest is not None:
        gate = {"LSTM": "f", "GRU": "z"}[x.cell]
        found += f"  The {_KINDS[gate]}s alone keep {power(float(x.path_largest[-1]))} in their best unit."
    if x.bound is not None and "a" in x.weight_norms:
        norm = x.gamma * x.weight_norms["a"]
        found += f"  Pascanu: γ‖W_hh‖ = {number(norm)}" + (" < 1, so it has to vanish." if norm < 1 else ".")
    one, other = ("σ max, σ min", "Left") if asked.level == "strip" else ("On the arrows", "In the boxes")
    old = name(latest + asked.before)
    return Overlay(
        title=f"what each step's Jacobian does to a gradient on its way back (sample {x.sample})", found=found,
        about=(f"{one}: the largest and the smallest singular value of a step's own J, as ∂{name(latest)}/∂{old}."
               f" {other}: the largest of the product of all J back from the latest step.",),
        scales=((f"{one}: what the step alone multiplies a gradient by, at most (max) and at least (min).", FACTOR),
                (f"{other}: the largest part of a gradient at the latest step that can be left here.", LEFT)),
        tracks=tuple(tracks),
    )  # fmt: skip


def _attribution(asked: Asked, some: Sequence[Attribution]) -> Overlay:
    """How much of one loss's gradient reaches each step."""
    (x,), s = some, asked.s
    there = np.flatnonzero(x.enters)
    t = _chosen(asked, x, there)
    tracks, wires = [], {}
    for state in s.states:  # in the order of their rows in every strip
        norms = x.norms[state]
        if asked.sample is None:
            shares, whole = x.arriving(state)[t], x.over_batch(state)[t]
        else:
            whole = norms[t, :, asked.sample]
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = whole / whole[t]
        marks: list[Mark | None] = []
        real = real_samples(s)
        for k in range(len(x.enters)):
            later = k < t if x.reverse else k > t
            if later and k < len(real) and real[k]:
                about = f"the loss at t={t + 1} does not depend on it: the walk gets here later"
                marks.append(Mark(math.nan, "later", SPECIAL["no path"], about))
            elif math.isnan(shares[k]):
                marks.append(None)
            else:
                share = float(shares[k])
                norm = f"‖∂L{_low(t)}/∂{subscript(letter_of(state), k + 1)}‖ = {number(float(whole[k]))}"
                about = f"{norm}: {number(share)} of what enters at t={t + 1}"
                marks.append(Mark(share, asked.led("left", number(share)), on(LEFT, share), about))
        title = letter_of(state) if asked.level == "strip" else "left"
        tracks.append(Track(title, "box", (state,), marks))
        wires[state] = tuple(PLAIN if m is None else m.look for m in marks)
    start = Mark(1.0, "starts", CHOSEN, f"the loss at t={t + 1}, whose gradient this is")
    if asked.level != "strip":
        tracks.append(Track("", "box", ("loss",), [start if k == t else None for k in range(s.steps)]))
    wires["loss"] = tuple(on(LEFT, 1.0) if k == t else PLAIN for k in range(s.steps))
    lead = "h" if "h" in x.norms else next(iter(x.norms))
    row = next(track.marks for track in tracks if track.keys == (lead,))
    lags = [abs(k - t) for k, m in enumerate(row) if m is not None and m.text != "later" and m.value < 0.1]
    far = s.steps - 1 if x.reverse else 0
    handed = above(asked.record, s)
    below = f" Below {handed} the loss of a step is what {handed} hands down at it." if handed else ""
    found = f"The loss at t={t + 1}:  of ‖∂L{_low(t)}/∂{subscript(lead, t + 1)}‖"
    end = row[far]
    if end is not None:
        found += f" {number(end.value)} reaches {subscript(lead, far + 1)}"
    found += f";  below a tenth after {_steps(min(lags))}." if lags else ";  nowhere below a tenth."
    return Overlay(
        title="how much of one step's loss reaches every other step", found=found,
        about=(f"One loss alone: what the losses of other steps send back is left out.{below}",),
        scales=((
            "Left: ‖∂Lₜ/∂stateₖ‖ in parts of ‖∂Lₜ/∂stateₜ‖, where the loss of step t enters: 1 is all of it.", LEFT,
        ),),
        tracks=tuple(tracks), wanted=(t,), wires=wires,
    )  # fmt: skip


def _chosen(asked: Asked, x: Attribution, there: Array) -> int:
    """The step of the loss."""
    if not len(there):
        raise DrawError(
            f"No loss enters {x.sequence} at any step, so none reaches another.\n  Draw it without an overlay."
        )
    if asked.loss is None:
        return int(there[0] if x.reverse else there[-1])
    t = asked.loss - 1
    if t not in there:
        first, last = int(there[0]) + 1, int(there[-1]) + 1
        where = str(first) if first == last else f"{len(there)} steps from {first} to {last}"
        raise DrawError(
            f"loss={asked.loss}: no loss enters {x.sequence} at step {asked.loss} of T={len(x.enters)}.\n"
            f"  Steps count from 1; losses enter at {where}."
        )
    return t


def _gates(asked: Asked, some: Sequence[Gates]) -> Overlay:
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
                f"t={t + 1}: {called} {number(n[value])}, saturated {_percent(n[2])}",
            ) for t, n in enumerate(numbers)
        ]  # fmt: skip
        pairs = list(zip(main, numbers, strict=True))
        if asked.level == "strip":
            flat: list[Mark | None] = [
                None if m is None or n is None
                else m._replace(value=n[2], text=_percent(n[2]), look=on(OPEN, n[2])) for m, n in pairs
            ]  # fmt: skip
            tracks.append(Track(letter if sigmoid else f"{letter} slope", "box", (symbol,), main))
            tracks.append(Track(f"{letter} sat", "box", (symbol,), flat))
        elif asked.level == "gate" or (lane == "" and symbol in s.states):
            beside = [
                None if m is None or n is None
                else m._replace(text=f"sat {_percent(n[2])}" if sigmoid else f"slope {number(n[1])}") for m, n in pairs
            ]  # fmt: skip
            tracks.append(Track(symbol if sigmoid else "slope", "box", (symbol,), beside))
            if symbol == x.keeps:
                tracks.append(Track(symbol, "fold", (lane,), main))
        elif symbol == x.keeps:
            chips = [
                None if m is None or n is None else m._replace(text=f"{symbol} {m.text}\nsat {_percent(n[2])}")
                for m, n in pairs
            ]
            tracks.append(Track(symbol, "arrow", (lane,), chips))
    saturated = [f"{symbol} {_percent(a.saturated)}" for symbol, a in x.gates.items()]
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
        kept = f"what the {_KINDS[x.keeps]} alone keeps, in the median unit"
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


def _clipping(asked: Asked, some: Sequence[Clipping]) -> Overlay:
    """Each step's term of the gradient, before and after."""
    (x,) = some
    how = f"by {x.kind}, threshold C = {number(x.threshold)}"
    did = f"‖g‖ {number(x.norm_before)} → {number(x.norm_after)}"
    did += f", coefficient {number(x.coefficient)}, angle {number(x.angle)}°"
    if not x.fired:
        did = f"‖g‖ = {number(x.norm_before)} stays: nothing exceeded the threshold"
    return _clipped(asked, x.kind, x.coefficient, how, did)


def _effect(asked: Asked, some: Sequence[ClippingEffect]) -> Overlay:
    """What one kind of clipping would do."""
    (x,), s = some, asked.s
    how = f"by {x.kind}" if x.kind != "backward" else "in backward"
    how += f", threshold C = {number(x.threshold)}"
    did = f"‖g‖ {number(x.norm_before)} → {number(x.norm_after)}"
    did += f", {_percent(x.removed)} removed, angle {number(x.angle)}°"
    if x.kind != "backward":
        return _clipped(asked, x.kind, x.norm_after / x.norm_before if x.norm_before else 1.0, how, did)
    strip, real, back = asked.level == "strip", real_samples(s), asked.before
    tracks, arrows = [], []
    for state in s.states:
        letter, size = letter_of(state), math.prod(s.states[state].shape[2:])
        boxes: list[Mark | None] = [None] * s.steps
        sizes, left = list(boxes), list(boxes)
        for t, reading in enumerate(s.readings(state)):
            if reading.kind in ("padding", "no path"):
                continue
            name = f"∂L/∂{subscript(letter, t + 1)}"
            before, after = (s.norm_reading(float(some[state][t])) for some in (x.states_before, x.states_after))
            typical = before.norm / math.sqrt(real[t] * size) / x.threshold
            about = f"t={t + 1}: the typical element of {name} is {number(typical)} C"
            boxes[t] = Mark(typical, f"{number(typical)} C", on(LIMIT, typical), about)
            about = f"‖{name}‖ = {shown(before)} without any clipping, {shown(after)} with it"
            if strip:
                sizes[t] = Mark(before.norm, shown(before), look(before), f"t={t + 1}: {about}")
                left[t] = Mark(after.norm, shown(after), look(after), f"t={t + 1}: {about}")
            elif 0 <= t - back < s.steps:  # the arrow that brings it back here
                left[t - back] = Mark(after.norm, f"{shown(before)}\n→ {shown(after)}", look(after), about)
        tracks.append(Track(letter if strip else "", "box", (state,), boxes))
        if strip:
            arrows += [Track(f"‖{letter}‖ before", "arrow", (state,), sizes)]
        arrows.append(Track(f"‖{letter}‖ after", "arrow", (state,), left))
    ratios = f"first to last step {number(x.ratio_before)} → {number(x.ratio_after)}"
    one, other = (
        ("Rows of one letter", "Rows before and after: ‖∂L/∂state‖ without any clipping and with it.") if strip else
        ("In the boxes", "On the arrows: ‖∂L/∂state‖ where they lead back to, without any clipping → with it; the"
                         " colour is that of the second.")
    )  # fmt: skip
    return Overlay(
        title=f"clipping {how}", found=f"{did};  {_percent(x.limited)} of all elements limited;  {ratios}",
        about=("On the way back every element of ∂L/∂state is limited to ±C at each step before it is handed on. The"
               " typical element is the root of the mean square.",),
        scales=((f"{one}: the typical element of ∂L/∂state without any clipping; beyond C it is cut off.", LIMIT),
                (other, BINS)),
        tracks=(*tracks, *arrows),
    )  # fmt: skip


def _clipped(asked: Asked, kind: str, coefficient: float, how: str, did: str) -> Overlay:
    s = asked.s
    tracks = []
    for name in _used(asked):
        short, norms = short_name(name, s.name), asked.record.parameters[name].by_step(s.name)
        stages = [(short, "before clipping", 1.0)] + [("clipped", "clipped", coefficient)] * (kind == "norm")
        for title, when, factor in stages:
            marks: list[Mark | None] = [None] * s.steps
            for t, norm in norms.items():
                reading = s.norm_reading(norm * factor)
                about = f"t={t + 1}: this step's term of ∂L/∂{short}, {when}, has norm {shown(reading)}"
                marks[t] = Mark(reading.norm, shown(reading), look(reading), about)
            tracks.append(Track(title, "use", (name,), marks))
    by_norm = ("Above, a step's term before; below it the same term clipped: all × one coefficient, so no ratio"
               " between two steps changes.")  # fmt: skip
    by_value = ("By value the sum over all steps is limited, element by element: one step's term has no value after"
                " it, so what stands here is before.")  # fmt: skip
    return Overlay(
        title=f"each step's term of a weight's gradient, clipped {how}", found=did,
        about=(by_norm if kind == "norm" else by_value,),
        scales=((f"Norm of a step's term of ∂L/∂W, before {'and after ' * (kind == 'norm')}clipping.", BINS),),
        tracks=tuple(tracks),
    )  # fmt: skip


def _used(asked: Asked) -> list[str]:
    """The parameters whose terms are shown."""
    if asked.level != "gate" or not asked.main:
        return [asked.main] if asked.main else []
    some = asked.record.parameters.items()
    return [name for name, p in some if any(u.sequence == asked.s.name for u in p.terms)]


def _thresholds(asked: Asked, some: Sequence[Norms]) -> Overlay:
    """Each step's term beside the threshold that the norms of training suggest."""
    (x,), s = some, asked.s
    tracks = []
    for name in _used(asked):
        short, norms = short_name(name, s.name), asked.record.parameters[name].by_step(s.name)
        marks: list[Mark | None] = []
        for t in range(s.steps):
            part = norms[t] / x.suggested if t in norms and x.suggested else math.nan
            about = f"t={t + 1}: this step's term of ∂L/∂{short} alone is {number(part)} of C = {number(x.suggested)}"
            marks.append(None if math.isnan(part) else Mark(part, f"{number(part)} C", on(LIMIT, part), about))
        tracks.append(Track(short, "use", (name,), marks))
    total = math.hypot(*(p.norm for p in asked.record.parameters.values()))
    fires = ", ".join(f"C = {number(c)} fires at {_percent(share)}" for c, share in x.would_fire.items())
    return Overlay(
        title=f"each step's term beside a clipping threshold C = {number(x.suggested)}, the mean norm of"
              f" {x.updates:,} updates",
        found=f"Of those updates {fires}.  Here ‖g‖ = {number(total)} = {number(total / x.suggested)} C.",
        about=("Pascanu et al. 2013: thresholds from 0.5 to 10 times the mean norm work. Clipping looks at the sum over"
               " all steps; a term beyond C would make it fire alone.",),
        scales=(("Norm of a step's term of ∂L/∂W in parts of the threshold C.", LIMIT),), tracks=tuple(tracks),
    )  # fmt: skip


def _truncation(asked: Asked, some: Sequence[Truncation]) -> Overlay:
    """Where truncated backpropagation cuts, and what each cut loses."""
    (x,) = some
    if len(x.lengths) != 1:
        raise DrawError(
            f"One picture shows one truncation; found lengths {', '.join(map(str, x.lengths))}.\n"
            "  Measure with truncation(record, lengths=[25]), or use draw.truncation(record, every=25)."
        )
    found = (
        f"The gradient of all weights: ‖g‖ = {number(x.full)}, with cuts {number(float(x.norms[0]))};  the two"
        f" differ by {_percent(float(x.lost[0]))} of ‖g‖ and stand at {number(float(x.angles[0]))}° to each other."
    )
    return cut_every(asked, x.lengths[0], found)


def cut_every(asked: Asked, every: int, found: str) -> Overlay:
    """The cuts of truncated backpropagation: after so many inputs the state goes on and no gradient comes back."""
    s, back = asked.s, asked.before
    # Between two inputs i and i + 1 where i + 1 is a multiple: the arrow into i + 1, or of a reverse walk into i.
    real = real_samples(s)
    cuts = [t - 1 if s.reverse else t for t in range(every, s.steps, every) if real[t]]
    tracks = []
    for state, parts in s.arrivals.items():
        crossing, total = s.over_batch(parts["next"]), s.readings(state)
        rest = s.over_batch(parts["outside"])
        only = not np.any(parts["same"])
        marks: list[Mark | None] = [None] * s.steps
        for t in cuts:
            lost, all_of_it, outside = crossing[t + back], total[t + back], rest[t + back]
            if lost.kind == "no path":
                about = f"cut before t={t + 1}: no gradient comes here"
                marks[t] = Mark(0.0, "nothing\nto cut", SPECIAL["no path"], about)
                continue
            name = subscript(letter_of(state), t + back + 1)
            share = lost.norm / all_of_it.norm if all_of_it.norm else math.nan
            lines = [f"lost {shown(lost)}"]
            about = f"cut before t={t + 1}: a gradient of norm {number(lost.norm)} would have crossed to {name}"
            if math.isfinite(share):
                lines.append(f"{_percent(share)} of g")
                about += f", beside ‖∂L/∂{name}‖ = {number(all_of_it.norm)} in all"
            turned = _angle(all_of_it.norm, outside.norm, lost.norm) if only else math.nan
            if math.isfinite(turned):
                lines.append(f"turns {number(turned)}°")
                about += f"; what is left of it points {number(turned)}° away"
            elif only and lost.norm > 0 and outside.norm == 0:
                lines[1:] = ["all of g"]
            marks[t] = Mark(lost.norm, "\n".join(lines), look(lost), about)
        tracks.append(Track(letter_of(state), "arrow", (state,), marks))
    grey, ends_here = ("", "") if asked.level == "strip" else (" (grey arrow)", " (dashed: it ends there)")
    if not cuts:
        found = f"{_steps(s.steps)} are no more than one chunk: there is no cut."
    return Overlay(
        title=f"truncated after every {_steps(every).removeprefix('1 ')}", found=found,
        about=(f"At a cut the state's value crosses{grey} and the gradient does not{ends_here}. There stands the norm"
               " that would have crossed, its part of ‖g‖, all that reaches the state before the cut, and by how much g"
               " turns without it. All else is the whole gradient, as it is without any cut.",),
        scales=(), tracks=tuple(tracks), alone=False, cuts=frozenset(cuts),
        wanted=tuple(sorted(cuts, reverse=not s.reverse)),
    )  # fmt: skip


def _angle(a: float, b: float, c: float) -> float:
    """In degrees, between sides a and b of a triangle whose third side is c (Kahan's formula); NaN without one."""
    if not (a > 0 and b > 0 and math.isfinite(a + b + c)):
        return math.nan
    a, b = max(a, b), min(a, b)
    mu = c - (a - b) if b >= c else b - (a - c)
    top, bottom = ((a - b) + c) * max(0.0, mu), (a + (b + c)) * ((a - c) + b)
    return 180.0 if bottom <= 0 else math.degrees(2 * math.atan(math.sqrt(max(0.0, top) / bottom)))


_MAKERS: Mapping[type, Callable[[Asked, Any], Overlay]] = {
    StepTerms: _terms, JacobianCurves: _jacobian, Attribution: _attribution, Gates: _gates, Clipping: _clipping,
    ClippingEffect: _effect, Norms: _thresholds, Truncation: _truncation,
}  # fmt: skip


# Words


def _percent(share: float) -> str:
    """A part of 1, also a small one.

    >>> _percent(0.25), _percent(0.00012), _percent(-0.5)
    ('25 %', '0.012 %', '−50 %')
    """
    return f"{number(100 * float(share))} %".replace("-", "−", 1 if share < 0 else 0)


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


def _low(t: int) -> str:
    return subscript("", t + 1)


def _of_log(exponent: float) -> Look:
    if not math.isfinite(exponent):
        return SPECIAL["zero" if exponent == -math.inf else "not finite"]
    return on(LEFT, 10.0 ** min(300.0, max(-300.0, exponent)))
