"""Over a picture: where truncated backpropagation cuts, and what each cut loses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..bptt.truncation import Truncation
from ..errors import DrawError
from .overlay import Overlay, Track
from .overlay_common import Asked, counted, percent
from .palette import SPECIAL, Mark, look, number, shown
from .scene import letter_of, real_samples, subscript

__all__ = ["cut_every", "truncation"]


def truncation(asked: Asked, some: Sequence[Truncation]) -> Overlay:
    """Where truncated backpropagation cuts, and what each cut loses."""
    (x,) = some
    if len(x.lengths) != 1:
        raise DrawError(
            f"One picture shows one truncation; found lengths {', '.join(map(str, x.lengths))}.\n"
            "  Measure with truncation(record, lengths=[25]), or use draw.truncation(record, every=25)."
        )
    found = (
        f"The gradient of all weights: ‖g‖ = {number(x.full)}, with cuts {number(float(x.norms[0]))};  the two"
        f" differ by {percent(float(x.lost[0]))} of ‖g‖ and stand at {number(float(x.angles[0]))}° to each other."
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
                lines.append(f"{percent(share)} of g")
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
        found = f"{counted(s.steps)} are no more than one chunk: there is no cut."
    return Overlay(
        title=f"truncated after every {counted(every).removeprefix('1 ')}", found=found,
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
