"""How a training run stands: the loss beside its yardsticks, the gradient now and through training, a sample."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.diagnose import Diagnosis
from ..bptt.gates import gates
from ..bptt.history import History, late_share
from ..bptt.record import Reading, Record
from ..engine import Array
from .lens_history import arriving, heat_map
from .lens_marks import Shown, logs_of, many, part
from .lens_marks import strip as tiles
from .palette import number
from .report import safe

__all__ = ["Standing", "header", "in_words", "line", "panel", "strips", "through_training"]

_LEAST = 2.0  # decades that a strip shows at least: a steady gradient looks steady
_MOST_LINES = 4  # of a sample
_LABEL = 11  # columns


class Standing(NamedTuple):
    """Where a run stands.

    Attributes:
        title: What is trained.
        update, updates: How far it is, and how far it goes.
        loss: The mean of the last updates, nats a character.
        held_out: On text that is not trained on; None without one.
        yardsticks: What models without a network reach on the held-out text, by name.
        before, after: The gradient's norm around clipping, of the last update.
        clips: What clips it, in words; empty: nothing.
        fired, fired_ever: In which share of the last updates, and of all, clipping changed the gradient.
        rate: The learning rate.
        readings: ‖dL/dh_t‖ over the last chunk, for each sequence of the model.
        sample: What the model writes.
        words: What measures say of the last chunk; see `in_words`.
        history: Of the whole training, with its norms where they are kept.
    """

    title: str
    update: int
    updates: int
    loss: float
    held_out: float | None
    yardsticks: Mapping[str, float]
    before: float
    after: float
    clips: str
    fired: float
    fired_ever: float
    rate: float
    readings: Mapping[str, Sequence[Reading]]
    sample: str
    words: Mapping[str, str] = MappingProxyType({})
    history: History | None = None


def panel(standing: Standing, width: int, height: int = 24) -> RenderableType:
    """All of it, for a terminal of this size: where that is small, the sample, the map and the layers get fewer lines.

    It is built at once, and does not change when the history grows.
    """
    s, room = standing, width - _LABEL
    rows = _labelled("loss", _wrapped(_loss(s), room))
    rows += [("", row) for row in _bars(s, max(10, min(50, width - 30)))]
    rows += _labelled("gradient", _wrapped(_gradient(s), room))
    words = [row for name, text in s.words.items() for row in _labelled(name, _wrapped(text, room))]
    strips = [
        _strip(name if len(s.readings) > 1 else "", readings, room) for name, readings in s.readings.items()
    ]  # fmt: skip
    free = height - 3 - len(rows) - len(words)  # the title, the bar below, and where the cursor stands
    sample = [_cropped(Text(safe(x) if x.strip() else ""), room) for x in s.sample.split("\n")] if s.sample else []
    past = _past(s.history)
    wanted = {"strips": len(strips), **{label: min(most, len(m)) for label, (_, m, most) in past.items()},
              "sample": min(_MOST_LINES, len(sample))}  # fmt: skip
    given = _shared(free, wanted)
    rows += _labelled("‖dL/dh_t‖", strips[: given["strips"]])
    for label, (updates, values, _) in past.items():
        rows += _labelled(label, list(_mapped(updates, values, room, given[label])))
    rows += words
    rows += _labelled("sample", sample[: given["sample"]])
    lines = [_cropped(Text(safe(s.title), "bold"), width)]
    lines += [_cropped(Text.assemble((f"{label:<{_LABEL}}", "bold"), row), width) for label, row in rows]
    return Shown(lambda _: Group(*lines))


def _shared(free: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """How many lines each gets: at least one of those that it wants, more in turns while there is room."""
    shared = {name: min(1, most) for name, most in wanted.items()}
    while sum(shared.values()) < free and shared != wanted:
        for name, most in wanted.items():
            shared[name] += shared[name] < most and sum(shared.values()) < free
    return shared


def _labelled(label: str, lines: Sequence[Text]) -> list[tuple[str, Text]]:
    return [("" if k else label, row) for k, row in enumerate(lines)]


def _wrapped(text: str, width: int) -> list[Text]:
    return [Text(x) for x in textwrap.wrap(text, max(1, width))]


def _cropped(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def in_words(record: Record, diagnoses: Sequence[Diagnosis]) -> dict[str, str]:
    """A line each on the gates and the terms of the first sequence, and on how far the gradient of each one reaches.

    Args:
        record: Of one update.
        diagnoses: Of its sequences.
    """
    if not record.sequences:
        return {}
    name = next(iter(record.sequences))
    which = f"{safe(name)}: " if len(record.sequences) > 1 else ""
    found: dict[str, str] = {}
    if record.sequences[name].cell in ("RNN", "LSTM", "GRU"):
        measured = gates(record, sequence=name)
        shown = [x for x in measured.gates.values() if x.symbol != "tanh c"]  # which is no gate
        shares = ", ".join(f"{safe(x.symbol)} {part(x.saturated)}" for x in shown)
        half = measured.half_lives
        memory = "" if half is None else f"; half-life {_steps(float(np.median(half)))}"
        found["gates"] = f"{which}saturated {shares}{memory}"
    weights = (p for p in record.parameters.values() if "weight_hh" in p.name and p.terms[0].sequence == name)
    weight = next(weights, None)
    if weight is not None:
        steps = record.sequences[name].steps
        late = late_share(record, weight.name, name)
        share = "nothing to share" if math.isnan(late) else f"{number(100 * late)} % of dL/dW_hh"
        found["terms"] = f"{which}{share} from the last {many(max(1, round(0.1 * steps)), 'step')} of {steps}"
    found["diagnosis"] = "; ".join(_verdict(d, len(diagnoses) > 1) for d in diagnoses)
    return found


def _steps(x: float) -> str:
    return "without end" if math.isinf(x) else "unknown" if math.isnan(x) else f"{number(x)} steps"


def _verdict(d: Diagnosis, named: bool) -> str:
    """Of one sequence in many words, of several in few."""
    lane = d.lane
    share = "" if lane is None or math.isnan(lane.share) else number(lane.share)
    if named:
        return f"{safe(d.sequence)} {d.verdict}{f' ({share} arrives)' if share else ''}"
    far = "" if lane is None or lane.tenth is None else f", 0.1 after {many(lane.tenth, 'step')}"
    return f"{d.verdict}{f': {share} of the last loss arrives at t={d.earliest + 1}{far}' if share else ''}"


def through_training(history: History, width: int) -> RenderableType:
    """The first sequence by update and step: ‖dL/dh_t‖, and what arrives of the last loss; as far as there is any."""
    words = {"so far": "‖dL/dh_t‖ through training", "arrives": "What arrives of the last step's loss"}
    lines: list[RenderableType] = []
    for label, (updates, values, _) in _past(history).items():
        lines += ["", Text(f"{words[label]}; a line is the updates from its number on:")]
        lines += _mapped(updates, values, width, 6)
    return Shown(lambda _: Group(*lines))


def _past(history: History | None) -> dict[str, tuple[Sequence[int], Array, int]]:
    """What there is of the first sequence's training: by label the updates, numbers (updates, T), and its lines."""
    found: dict[str, tuple[Sequence[int], Array, int]] = {}
    if history is not None and history.norms.states:
        name, (state, *_) = next(iter(history.norms.states.items()))
        found["so far"] = (history.norms.updates, history.norms.rows(name, state), 2)
    if history is not None and history.diagnoses:
        looks = [x for x in history.diagnoses if x.sequence == history.diagnoses[0].sequence and len(x.arriving)]
        if looks:
            found["arrives"] = ([x.update for x in looks], arriving(looks), 3)
    return found


def _mapped(updates: Sequence[int], values: Array, width: int, rows: int) -> Iterator[Text]:
    """A heat map with the first update of each line before it, and the ends of its scale at the last one."""
    label = len(f"{updates[-1]:,}")
    made = heat_map(values, max(8, min(64, width - label - 1 - 16)), rows)
    for k, ((first, _), line) in enumerate(zip(made.ranges, made.lines, strict=True)):
        text = Text.assemble(f"{updates[first]:>{label},} ", line)
        if k == len(made.ranges) - 1:
            text.append(f" {made.scale}")
        yield text


def header(standing: Standing) -> str:
    """What stands above every `line`."""
    return "  ".join(_aligned(name, name, wide) for name, _, wide in _columns(standing)).rstrip()


def line(standing: Standing) -> str:
    """The numbers in one line, for a pipe or a log; at most 80 columns up to 99,999 updates."""
    return "  ".join(_aligned(name, shown, wide) for name, shown, wide in _columns(standing)).rstrip()


def strips(standing: Standing, width: int) -> RenderableType:
    """‖dL/dh_t‖ over the last chunk, one row a sequence."""
    several = len(standing.readings) > 1
    lines = [_strip(name if several else "", r, width) for name, r in standing.readings.items()]
    return Shown(lambda _: Group(*lines))


def _columns(s: Standing) -> list[tuple[str, str, int]]:
    """Name, content and width of each column of a line."""
    done = f"{s.update:>{len(str(s.updates))}}/{s.updates}"
    columns = [("update", done, max(6, 2 * len(str(s.updates)) + 1)), ("training", f"{s.loss:.3f}", 8)]
    if s.held_out is not None:
        columns += [("held-out", f"{s.held_out:.3f}", 8), ("beats", _beaten(s), 20)]
    columns.append(("gradient", _norms(s), 10))
    if s.clips:
        columns += [("clipped", _percent(s.fired), 7), ("ever", _percent(s.fired_ever), 4)]
    return columns


def _aligned(name: str, shown: str, wide: int) -> str:
    return f"{shown:<{wide}}" if name == "beats" else f"{shown:>{wide}}"


def _beaten(s: Standing) -> str:
    """Where the held-out loss stands among the yardsticks: the best one it beats, and the next one."""
    own = math.inf if s.held_out is None or math.isnan(s.held_out) else s.held_out
    ordered = sorted(s.yardsticks.items(), key=lambda item: -item[1])
    beaten = [name for name, loss in ordered if own < loss]
    ahead = [name for name, loss in ordered if own >= loss]
    if not beaten:
        return "none yet"
    return f"{beaten[-1]}, not {ahead[0]}" if ahead else "all of them"


def _loss(s: Standing) -> str:
    held_out = "" if s.held_out is None else f", held-out {s.held_out:.3f} beats {_beaten(s)}"
    return f"training {s.loss:.3f}{held_out}"


def _gradient(s: Standing) -> str:
    clipped = f"; clipped {s.clips} in {_percent(s.fired)} of late updates, {_percent(s.fired_ever)} of all"
    return f"norm {_norms(s)}{clipped * bool(s.clips)}"


def _norms(s: Standing) -> str:
    """The norm before clipping, and after it where clipping fired."""
    return number(s.before) + (f"→{number(s.after)}" if s.after != s.before else "")


def _percent(x: float) -> str:
    return "—" if math.isnan(x) else "<1%" if 0 < x < 0.005 else f"{100 * x:.0f}%"


def _bars(s: Standing, size: int) -> list[Text]:
    """The yardsticks and the model on one scale from 0, worst first."""
    own = "this model"
    entries = {**s.yardsticks, own: s.loss if s.held_out is None else s.held_out}
    longest = max((loss for loss in entries.values() if math.isfinite(loss)), default=0.0) or 1.0
    rows = []
    for name, loss in sorted(entries.items(), key=lambda item: -item[1] if item[1] == item[1] else -math.inf):
        filled = "█" * (round(size * loss / longest) if math.isfinite(loss) else size)
        styles = ("bold", "green") if name == own else ("", "dim")
        rows.append(Text.assemble((f"{name:10} {loss:6.3f} ", styles[0]), (filled, styles[1])))
    return rows


def _strip(name: str, readings: Sequence[Reading], width: int) -> Text:
    """A tile a step, or a tile for several: their largest; its height is the logarithm, over two decades at least."""
    sizes = [r.norm for r in readings if r.kind == "value"]
    if not sizes:
        return Text(f"{name} {readings[-1].kind if readings else ''}".strip())
    high = math.log10(max(sizes))
    low = min(math.log10(min(sizes)), high - _LEAST)
    ends = f"{number(min(sizes))}…{number(max(sizes))}"
    text = Text(f"{name + ' ' if name else ''}t=1 ")
    room = max(8, width - len(text) - len(ends) - len(f" t={len(readings)}  "))
    norms = [math.inf if r.kind == "not finite" else math.nan if r.kind == "no path" else r.norm for r in readings]
    return Text.assemble(text, tiles(logs_of(np.array(norms)), room, low, high), f" t={len(readings)}  {ends}")
