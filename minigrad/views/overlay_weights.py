"""Over a picture: what each step adds to a weight's gradient, and what clipping makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bptt.terms import StepTerms
from ..bptt.thresholds import ClippingEffect, Norms
from ..clip import Clipping
from .overlay import Overlay, Track
from .overlay_common import LIMIT, SHARE, Asked, counted, percent
from .palette import BINS, Mark, look, number, on, shown
from .scene import letter_of, real_samples, short_name, subscript

__all__ = ["clipping", "effect", "terms", "thresholds"]


def terms(asked: Asked, some: Sequence[StepTerms]) -> Overlay:
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
            about = (f"t={t + 1}: this step's term of ∂L/∂{name} has norm {number(norm)}, adds {percent(share)} of it"
                     f" along it, cosine {number(cosine)}")  # fmt: skip
            paint = on(SHARE, abs(float(share)))
            if share < 0:
                paint = paint._replace(style="rounded,dashed")
            marks.append(Mark(abs(float(share)), percent(share), paint, about))
        tracks.append(Track(name, "use", (x.parameter,), marks))
    name, norms = short_name(main.parameter, s.name), np.nan_to_num(main.norms)
    order = np.argsort(-norms, kind="stable")
    needed = int(np.searchsorted(np.cumsum(norms[order]), 0.9 * norms.sum())) + 1
    strongest = int(order[0])
    found = f"‖∂L/∂{name}‖ = {number(main.total)}"
    if math.isfinite(main.total) and main.total > 0:
        found += (
            f":  {needed} of {counted(s.steps)} make{'s' * (needed == 1)} 90 % of what all of them add;"
            f" the largest term is that of t={strongest + 1}, with {percent(main.shares[strongest])}"
        )
        if abs(main.elsewhere) > 1e-3:
            found += f";  {percent(main.elsewhere)} come from other walks"
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


def clipping(asked: Asked, some: Sequence[Clipping]) -> Overlay:
    """Each step's term of the gradient, before and after."""
    (x,) = some
    how = f"by {x.kind}, threshold C = {number(x.threshold)}"
    did = f"‖g‖ {number(x.norm_before)} → {number(x.norm_after)}"
    did += f", coefficient {number(x.coefficient)}, angle {number(x.angle)}°"
    if not x.fired:
        did = f"‖g‖ = {number(x.norm_before)} stays: nothing exceeded the threshold"
    return _clipped(asked, x.kind, x.coefficient, how, did)


def effect(asked: Asked, some: Sequence[ClippingEffect]) -> Overlay:
    """What one kind of clipping would do."""
    (x,), s = some, asked.s
    how = f"by {x.kind}" if x.kind != "backward" else "in backward"
    how += f", threshold C = {number(x.threshold)}"
    did = f"‖g‖ {number(x.norm_before)} → {number(x.norm_after)}"
    did += f", {percent(x.removed)} removed, angle {number(x.angle)}°"
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
        title=f"clipping {how}", found=f"{did};  {percent(x.limited)} of all elements limited;  {ratios}",
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


def thresholds(asked: Asked, some: Sequence[Norms]) -> Overlay:
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
    fires = ", ".join(f"C = {number(c)} fires at {percent(share)}" for c, share in x.would_fire.items())
    return Overlay(
        title=f"each step's term beside a clipping threshold C = {number(x.suggested)}, the mean norm of"
              f" {x.updates:,} updates",
        found=f"Of those updates {fires}.  Here ‖g‖ = {number(total)} = {number(total / x.suggested)} C.",
        about=("Pascanu et al. 2013: thresholds from 0.5 to 10 times the mean norm work. Clipping looks at the sum over"
               " all steps; a term beyond C would make it fire alone.",),
        scales=(("Norm of a step's term of ∂L/∂W in parts of the threshold C.", LIMIT),), tracks=tuple(tracks),
    )  # fmt: skip
