"""One entry for whatever was measured: it finds the view, in the terminal and in a notebook."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt import storage
from ..bptt.attribution import Attribution
from ..bptt.diagnose import Diagnosis, Lane
from ..bptt.fault import Fault, Zero
from ..bptt.gates import Gates
from ..bptt.history import History
from ..bptt.jacobian import JacobianCurves
from ..bptt.record import Reading, Record
from ..bptt.surface import Descent, ErrorSurface
from ..bptt.terms import StepTerms
from ..bptt.thresholds import ClippingEffect, Norms
from ..bptt.truncation import Truncation
from ..clip import Clipping
from ..errors import RecordError
from . import report
from .lens_gates import gates
from .lens_history import history
from .lens_limits import clipping, over_training, quantiles, truncation
from .lens_marks import Shown, lead, logs_of, note, strip, table
from .lens_reach import attribution, jacobian
from .lens_surface import descents, surface
from .lens_terms import terms
from .palette import number, shown
from .report import safe

__all__ = ["load_ipython_extension", "show"]


def show(x: Any) -> RenderableType:
    """Whatever was measured, in its own view.

    Args:
        x: A Record; several by name, side by side; the history of a training; any measure; or a tuple of measures, as
            `step_terms` and `clipping_effects` give it. A surface and descents on it, (surface, descent, …), are
            one map; {"clipped": descent, …} are a table of descents.
    Returns:
        Something to print with rich (`rich.print`, `Console.print`), or to leave in a notebook's last line.
    Raises:
        RecordError: It is none of them.
    """
    if isinstance(x, Mapping) and x and all(isinstance(one, Record) for one in x.values()):
        return report.compare(x)
    if isinstance(x, Mapping) and x and all(isinstance(one, Descent) for one in x.values()):
        return descents(x)
    if isinstance(x, tuple) and not hasattr(x, "_fields") and x:
        return _several(x)
    view = _VIEWS.get(type(x))
    if view is not None:
        return view(x)
    if type(x) in storage.MEASURES or type(x) in storage.PARTS:
        return _fields(x)
    names = ", ".join(cls.__name__ for cls in storage.MEASURES)
    raise RecordError(
        f"lens.show: a {type(x).__name__} is no measure.\n  Give a Record, a mapping of them, a History, a tuple of"
        f" measures, or one of {names}."
    )


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext minigrad.views.lens`: from then on every measure shows itself in a notebook as `show` does it."""
    formatter = shell.display_formatter.mimebundle_formatter
    for cls in (*storage.MEASURES, Record, History):
        formatter.for_type(cls, _bundle)


def _bundle(x: Any, *_: Any) -> Any:
    try:
        view: Any = show(x)
    except RecordError:  # a record without time steps, a history without norms: shown as Python shows it
        return None
    return view._repr_mimebundle_((), ())


def _several(some: tuple[Any, ...]) -> RenderableType:
    kinds = {type(one) for one in some}
    if kinds == {StepTerms}:
        return terms(some)
    if kinds == {ClippingEffect}:
        return clipping(some)
    if isinstance(some[0], ErrorSurface) and kinds <= {ErrorSurface, Descent} and len(some) > 1:
        found, *ways = some
        if all(isinstance(way, Descent) for way in ways):
            return surface(found, _named(ways))
    views = [show(one) for one in some]
    return Shown(lambda width: Group(*(part for view in views for part in (view, ""))))


def _named(ways: Iterable[Descent]) -> dict[str, Descent]:
    """Names by what they differ in."""
    named: dict[str, Descent] = {}
    for way in ways:
        name = "without clipping" if way.clip_norm is None else f"clipped at {number(way.clip_norm)}"
        if name in named:
            name = f"{name}, {len(named) + 1}"
        named[name] = way
    return named


# What has no lens of its own


def _record(record: Record) -> RenderableType:
    """The report; of several layers the table of all of them, and the report of the one nearest to the loss."""
    if len(record.sequences) < 2:
        return report.gradients(record)
    parts = report.layers(record), "", report.gradients(record, sequence=list(record.sequences)[-1])
    return Shown(lambda width: Group(*parts))


def _diagnosis(x: Diagnosis) -> RenderableType:
    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"{x.verdict.capitalize()} in {safe(x.sequence)}", _evidence(x))]
        if x.lanes:
            parts += ["", _lanes(x.lanes.values(), width)]
            for lane in x.lanes.values():
                parts += _arriving(lane, width)
            parts.append(note(
                "First, last: ‖dL/dstate‖ at the ends. Arrives: the share of the latest gradient that is left at the"
                " first step. Decades: what one step back adds to its logarithm. 1/10, 1/1000: steps back until less"
                " is left."
            ))  # fmt: skip
        return Group(*parts)

    return Shown(build)


def _evidence(x: Diagnosis) -> Iterator[str]:
    yield f"{x.rule}."
    if x.bad_step is not None:
        yield f"It shows at step {x.bad_step + 1}."
    if x.bad_parameters:
        yield f"Not finite: the gradient of {', '.join(map(safe, x.bad_parameters))}."
    for found in (x.fault, x.zero):
        if found is not None:
            yield f"{_sentence(found)}"
    if x.on_the_way:
        yield "Gradient enters at other steps too, so that norms alone do not tell what arrives."
    if not x.exact and x.lanes:
        yield "What arrives is an estimate here, one hop after the other."


def _lanes(lanes: Iterable[Lane], width: int) -> RenderableType:
    some = list(lanes)

    def steps(back: int | None) -> str:
        return "—" if back is None else str(back)

    return table({
        "along": [lane.state for lane in some], "first": [shown(lane.first) for lane in some],
        "last": [shown(lane.last) for lane in some], "ratio": [number(lane.ratio) for lane in some],
        "arrives": [number(lane.share) for lane in some], "peak": [number(lane.peak) for lane in some],
        "decades": [number(lane.decades) for lane in some], "1/10": [steps(lane.tenth) for lane in some],
        "1/1000": [steps(lane.thousandth) for lane in some],
    }, width, left=["along"], drop=["peak", "ratio"])  # fmt: skip


def _arriving(lane: Lane, width: int) -> Iterator[Text]:
    logs = logs_of(np.array(lane.arriving))
    known = logs[np.isfinite(logs)]
    if len(known) > 1:
        high = float(known.max())
        low = min(float(known.min()), high - 1)
        yield Text(f"{lane.state}: ") + strip(logs, max(8, width - len(lane.state) - 2), low, high)


def _norms(x: Norms) -> RenderableType:
    return Shown(lambda width: Group(over_training(x), "", quantiles(x, width)))


def _clipping(x: Clipping) -> RenderableType:
    def sentences() -> Iterator[str]:
        if not x.fired:
            yield f"did not fire, ‖g‖ = {number(x.norm_before)} stays as it is."
        else:
            yield f"fired. ‖g‖ {number(x.norm_before)} → {number(x.norm_after)}, coefficient {number(x.coefficient)},"
            yield f"angle {number(x.angle)}°."

    columns = {
        "parameter": [safe(name) for name in x.before], "‖g‖": [number(size) for size in x.before.values()],
        "clipped": [number(size) for size in x.after.values()], "angle": [f"{number(a)}°" for a in x.angles.values()],
    }  # fmt: skip
    title = f"Clipping by {x.kind}, C={number(x.threshold)}"
    return Shown(lambda width: Group(lead(title, sentences()), "", table(columns, width, left=["parameter"])))


def _sentence(x: Fault | Zero) -> str:
    text = f"{x}."
    source = "" if x.source is None else f" Recorded at {safe(x.source)}."
    return f"{text[0].upper()}{text[1:]}{source}"


def _fault(x: Fault | Zero) -> RenderableType:
    return Shown(lambda width: Text(_sentence(x)))


def _fields(x: Any) -> RenderableType:
    """Every field of what has no view: numbers, texts, and of arrays their shape and range."""
    names = getattr(x, "_fields", None) or [f.name for f in dataclasses.fields(x)]
    columns = {"field": [*names], "value": [_brief(getattr(x, name)) for name in names]}

    def build(width: int) -> RenderableType:
        room = max(8, width - max(map(len, columns["field"])) - 2)
        values = [value if len(value) <= room else f"{value[: room - 1]}…" for value in columns["value"]]
        return Group(lead(type(x).__name__, ["its fields."]), "", table({**columns, "value": values}, width,
                     left=["field", "value"]))  # fmt: skip

    return Shown(build)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        known = value[np.isfinite(value)] if value.dtype.kind == "f" else value
        ends = f": {number(float(known.min()))}…{number(float(known.max()))}" if known.size else ""
        return f"{'×'.join(map(str, value.shape)) or '1'} {value.dtype}{ends}"
    if isinstance(value, Reading):
        return shown(value)
    if isinstance(value, bool) or value is None:
        return {None: "—", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return number(value) if not math.isnan(value) else "—"
    if isinstance(value, (int, str)):
        return safe(str(value))
    if isinstance(value, Mapping):
        return ", ".join(safe(str(key)) for key in value) or "none"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return ", ".join(_brief(one) for one in value[:20]) + ", …" * (len(value) > 20) or "none"
    return type(value).__name__


_VIEWS: dict[type, Callable[[Any], RenderableType]] = {
    Record: _record, History: history, StepTerms: lambda x: terms([x]), JacobianCurves: jacobian,
    Attribution: attribution, Gates: gates, Diagnosis: _diagnosis, Fault: _fault, Zero: _fault, Norms: _norms,
    ClippingEffect: lambda x: clipping([x]), Clipping: _clipping, Truncation: truncation, ErrorSurface: surface,
    Descent: lambda x: descents(_named([x])),
}  # fmt: skip
