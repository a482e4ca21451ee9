"""Measures over a picture: which of the modules beside this one draws which.

A measure comes as an object of `minigrad.bptt`; there it becomes text, colour, legend and tooltip, and no gradient is
computed. For one more measure there is one more function, and its row in `_MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..bptt.attribution import Attribution
from ..bptt.gates import Gates
from ..bptt.jacobian import JacobianCurves
from ..bptt.terms import StepTerms
from ..bptt.thresholds import ClippingEffect, Norms
from ..bptt.truncation import Truncation
from ..clip import Clipping
from ..errors import DrawError
from .overlay import Overlay
from .overlay_common import Asked
from .overlay_cuts import truncation
from .overlay_gates import gates
from .overlay_reach import attribution, jacobian
from .overlay_weights import clipping, effect, terms, thresholds

__all__ = ["overlays"]


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


_MAKERS: Mapping[type, Callable[[Asked, Any], Overlay]] = {
    StepTerms: terms, JacobianCurves: jacobian, Attribution: attribution, Gates: gates, Clipping: clipping,
    ClippingEffect: effect, Norms: thresholds, Truncation: truncation,
}  # fmt: skip
