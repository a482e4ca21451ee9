"""What clipping and truncation do to a gradient, shown in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.diagnose import VANISHES_BELOW
from ..bptt.record import Reading, Record
from ..bptt.thresholds import ClippingEffect, Norms, clipping_effects
from ..bptt.truncation import Truncation
from ..bptt.truncation import truncation as measured_truncation
from ..clip import norm_of
from ..errors import RecordError
from .lens_marks import Shown, lead, many, note, part, part_bar, percent, table
from .palette import number
from .report import colour, safe, times

__all__ = ["clipping", "over_training", "quantiles", "same_factor", "truncation"]

_HOW = {"norm": "by norm", "value": "by value", "backward": "in backward"}


# Clipping


def same_factor(record: Record, max_norm: float, *, sequence: str | None = None) -> dict[str, float]:
    """Thresholds for `clipping_effects` that compare: each brings the largest number down by the same factor.

    By norm the factor is C / ‖all gradients‖; by value it is that of the largest element of the walk's weights'
    gradients, in backward that of the largest element of dL/dh_t and dL/dc_t.
    """
    s = record.sequence(sequence)
    total = norm_of([p.norm for p in record.parameters.values()])
    factor = max_norm / total if math.isfinite(total) and total > 0 else 1.0
    used = [p for p in record.parameters.values() if any(term.sequence == s.name for term in p.terms[:1])]
    found = {"max_norm": max_norm}
    for name, arrays in (
        ("clip_value", [p.gradient for p in used]), ("limit", [g for f, g in s.gradients.items() if s.reached[f].any()])
    ):  # fmt: skip
        largest = max((float(np.max(np.abs(a), initial=0)) for a in arrays), default=0.0)
        found[name] = factor * largest if 0 < factor * largest < math.inf else max_norm
    return found


def clipping(
    found: Record | Sequence[ClippingEffect], *, sequence: str | None = None, max_norm: float = 1.0,
    norms: Norms | None = None,
) -> RenderableType:  # fmt: skip
    """What clipping by norm, by value and in backward do to the same gradient, side by side.

    Args:
        found: A record, or what `clipping_effects` gave.
        sequence: Which layer and direction; None: the first.
        max_norm: Of a record: C for clipping by norm; the others are set by `same_factor`.
        norms: What `norms_over_training` gave: how often it fired, and where to set it.
    Raises:
        RecordError, MinigradError: As `clipping_effects`.
    """
    if isinstance(found, Record):
        found = clipping_effects(found, **same_factor(found, max_norm, sequence=sequence), sequence=sequence)
        factors = "Thresholds: each brings the largest number down by the same factor."
    else:
        factors = ""
    effects = [e for e in found if sequence in (None, e.sequence)]
    if not effects:
        of = f" of {sequence!r}; there are those of {', '.join(e.sequence for e in found)}" if found else ""
        raise RecordError(f"lens.clipping: there is no effect to show{of}.\n  Give what clipping_effects gave.")
    effects = [e for e in effects if e.sequence == effects[0].sequence]

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"Clipping of {safe(effects[0].sequence)}", _clipping_found(effects))]
        parts += ["", _effects(effects, width)]
        parts.append(note(
            "Removed: ‖g - clipped g‖ / ‖g‖ of the walk's weights. Angle: by which g turns; at 0° it still is the"
            " direction of steepest descent. Limited: the share of numbers cut off. First/last: ‖dL/dh‖ at the first"
            " step over that at the last.", *([factors] if factors else []),
        ))  # fmt: skip
        if norms is not None:
            parts += ["", over_training(norms), "", quantiles(norms, width)]
        return Group(*parts)

    return Shown(build)


def _clipping_found(effects: Sequence[ClippingEffect]) -> Iterator[str]:
    first = effects[0]
    if not math.isfinite(first.norm_before):
        yield "the gradient is not finite, and clipping cannot mend that."
        return
    if first.norm_before == 0:
        yield "the gradient is exactly 0: there is nothing to clip."
        return
    acting = [e for e in effects if e.limited]
    if acting:
        done = [
            f"{_HOW[e.kind]}, C={number(e.threshold)}, takes {percent(e.removed)} of the gradient and "
            + ("keeps its direction" if e.angle == 0 else f"turns it by {number(e.angle)}°") for e in acting
        ]  # fmt: skip
        yield f"{'; '.join(done)}."
    else:
        yield f"nothing is beyond its threshold, and ‖g‖ stays {number(first.norm_before)}; a smaller C would act."
    if math.isnan(first.ratio_before):
        return
    # A ratio of 0 may be an underflow of the recorded type; what was carried in float64 does not compare with it.
    moved = [e for e in acting if e.ratio_before > 0 and number(e.ratio_after) != number(e.ratio_before)]
    if not moved:
        yield f"‖dL/dh‖ at the first step stays {times(first.ratio_before)} that at the last"
        yield "everywhere: clipping does not cure vanishing." if first.ratio_before < VANISHES_BELOW else "everywhere."
    for e in moved:  # what comes after backward cannot
        yield f"{_HOW[e.kind].capitalize()} it also makes ‖dL/dh‖ at the first step {times(e.ratio_after)} that at"
        yield f"the last, which is {number(e.ratio_before)} otherwise."


def _effects(effects: Sequence[ClippingEffect], width: int) -> RenderableType:
    def arrow(a: float, b: float) -> str:
        return number(a) if number(a) == number(b) else f"{number(a)} → {number(b)}"

    columns: dict[str, Sequence[str]] = {
        "how": [_HOW[e.kind] for e in effects],
        "C": [number(e.threshold) for e in effects],
        "‖g‖": [arrow(e.norm_before, e.norm_after) for e in effects],
        "angle": ["—" if math.isnan(e.angle) else f"{number(e.angle)}°" for e in effects],
        "limited": [part(e.limited) for e in effects],
        "first/last": [arrow(e.ratio_before, e.ratio_after if e.ratio_before else 0.0) for e in effects],
        "removed": [part(e.removed) for e in effects],
    }

    def bars(size: int) -> tuple[str, list[Text]]:
        return "", [part_bar(0.0 if math.isnan(e.removed) else e.removed, size) for e in effects]

    return table(columns, width, left=["how"], drop=["limited", "C"], bar=bars)


def over_training(x: Norms) -> Text:
    """How often clipping fired, and where a threshold can be tried, in sentences."""
    sentences = []
    updates = many(x.updates, "update")
    if x.fired is not None:
        sentences.append(
            f"clipping fired at {x.fired} of {updates}"
            + (f" and took {percent(x.removed)} of the norm there, in the mean." if x.fired else ".")
        )
    else:
        sentences.append(f"{updates}.")
    if x.not_finite:
        sentences.append(f"{many(x.not_finite, 'norm')} not finite.")
    lowest, suggested, highest = (percent(x.would_fire[c]) for c in (x.lowest, x.suggested, x.highest))
    sentences.append(
        f"The mean norm is {number(x.mean)}; a threshold from {number(x.lowest)} to {number(x.highest)} can be tried"
        f" (half to ten times it, Pascanu et al. 2013): C={number(x.lowest)} would fire at {lowest} of the updates,"
        f" {number(x.suggested)} at {suggested}, {number(x.highest)} at {highest}."
    )
    return lead("Over training", sentences)


def quantiles(x: Norms, width: int) -> RenderableType:
    """The norms before clipping as a table of their quantiles, so many characters wide at most."""
    names = {0.0: "smallest", 0.5: "median", 1.0: "largest"}
    columns = {
        "of all updates": [names.get(q, f"{100 * q:g} %") for q in x.quantiles],
        "‖g‖ at most": [number(v) for v in x.quantiles.values()],
    }
    top = max(x.quantiles.values())

    def bars(size: int) -> tuple[str, list[Text]]:
        return "", [
            part_bar(v / top if top else 0.0, size, colour(Reading(v, "value")) if v else "")
            for v in x.quantiles.values()
        ]  # fmt: skip

    return table(columns, min(width, 72), bar=bars)


# Truncation


def truncation(found: Record | Truncation, *, sequence: str | None = None) -> RenderableType:
    """What truncated backpropagation through time loses, by the length of its chunks.

    Args:
        found: A record, or what `truncation` gave.
        sequence: Which layer and direction; None: the first.
    Raises:
        RecordError: As `truncation`.
    """
    x = measured_truncation(found, sequence=sequence) if isinstance(found, Record) else found

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"Truncation of {safe(x.sequence)}", _truncation_found(x))]
        parts += ["", _lengths(x, width)]
        parts.append(note(
            "The state crosses a cut between two chunks of k steps, its gradient does not. Lost: ‖g - g_k‖ / ‖g‖ of"
            " all the walk's weights, and of single ones. Angle: between the two gradients; beyond 90° the update"
            " goes uphill.",
        ))  # fmt: skip
        return Group(*parts)

    return Shown(build)


def _truncation_found(x: Truncation) -> Iterator[str]:
    if not math.isfinite(x.full):
        yield "the gradient is not finite."
        return
    if x.full == 0:
        yield "the gradient is exactly 0, and no cut takes anything from it."
        return
    order = [int(k) for k in np.argsort(x.lengths) if x.lengths[k] < x.steps]  # a longer chunk is no cut
    if not order:
        where = f"chunks of {many(min(x.lengths), 'step')} make no cut." if x.steps > 1 else "there is nothing to cut."
        yield f"in {many(x.steps, 'step')} {where}"
        return
    shortest = order[0]
    angle = x.angles[shortest]
    turned = "" if math.isnan(angle) else f" and turns it by {number(float(angle))}°"
    cut = f"cut after every {_count(x.lengths[shortest])}"
    yield f"{cut}, the gradient loses {percent(float(x.lost[shortest]))}{turned}."
    enough: list[tuple[str, int]] = []
    for limit, words in ((0.1, "a tenth"), (0.01, "a hundredth")):
        # From this length on, all longer ones that were tried lose less too.
        long = [k for k in order if all(x.lost[j] < limit for j in order if x.lengths[j] >= x.lengths[k])]
        if long:
            enough.append((words, x.lengths[long[0]]))
    if len(enough) == 2 and enough[0][1] == enough[1][1]:
        enough.pop(0)
    for words, k in enough:
        yield f"Less than {words} is lost from chunks of {many(k, 'step')} on."
    if not enough and len(order) > 1:
        k = order[-1]
        yield f"Chunks of {many(x.lengths[k], 'step')} still lose {percent(float(x.lost[k]))}."


def _count(k: int) -> str:
    return many(k, "step") if k > 1 else "step"


def _lengths(x: Truncation, width: int) -> RenderableType:
    rows = range(len(x.lengths))
    columns: dict[str, Sequence[str]] = {
        "k": [str(k) for k in x.lengths],
        "‖g_k‖": [number(float(v)) for v in x.norms],
        "angle": ["—" if math.isnan(v) else f"{number(float(v))}°" for v in x.angles],
    }
    short = _short(x.lost_by_weight)
    for name, lost in x.lost_by_weight.items():
        columns[short[name]] = [part(float(v)) for v in lost]
    columns["lost"] = [part(float(v)) for v in x.lost]

    def bars(size: int) -> tuple[str, list[Text]]:
        return "", [part_bar(0.0 if math.isnan(x.lost[k]) else float(x.lost[k]), size) for k in rows]

    return table(columns, width, drop=[*list(short.values())[::-1], "‖g_k‖"], bar=bars, least=20)


def _short(names: Iterable[str]) -> dict[str, str]:
    """The textbook's symbols of the parameters that have one, the names of the others."""
    symbols = {"weight_ih": "W_ih", "weight_hh": "W_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
    found = {name: next((x for role, x in symbols.items() if role in name), safe(name)) for name in names}
    return found if len(set(found.values())) == len(found) else {name: safe(name) for name in found}
