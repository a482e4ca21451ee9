"""The gradient report for the terminal: a verdict, a row a time step, a row a parameter, what clipping did.

`gradients`, `layers` and `compare` return a thing that rich prints, in a notebook too; they print nothing.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.jupyter import JupyterMixin
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..bptt.diagnose import Diagnosis, Lane, diagnose
from ..bptt.record import Kind, Reading, Record, SequenceRecord, kind_of
from ..clip import Clipping, norm_of
from ..errors import RecordError
from .layers import titles
from .palette import look, number, shown
from .scene import real_samples

__all__ = ["Shown", "colour", "compare", "gradients", "layers", "safe"]

ROWS = 24
"""A longer sequence is folded to so many rows: one screen."""

_MARKS = {
    "vanishing": ("▼", Reading(1e-7, "value")), "healthy": ("●", Reading(0.1, "value")),
    "exploding": ("▲", Reading(1e3, "value")), "dead": ("×", Reading(1e-13, "value")),
    "not finite": ("!", Reading(math.nan, "not finite")),
}  # fmt: skip
"""The sign before each verdict, and the reading that has its colour."""

_WORDS: dict[Kind, str] = {
    "zero": "exactly 0", "underflow": "underflow", "not finite": "not finite", "no path": "no path",
    "padding": "padding", "no backward yet": "not yet",
}  # fmt: skip

_ASCII = str.maketrans({
    "‖": "|", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "-", "▎": "-", "▏": "-", "░": ".", "…": "~",
    "▼": "v", "●": "o", "▲": "^", "×": "x", "°": "d", "→": ">", "—": "-", "─": "-", "·": ",", "Σ": "S",
    "␣": "_", "Δ": "d", "←": "<",
})  # fmt: skip
"""For terminals and files that cannot hold more than ASCII."""


class Shown(JupyterMixin):
    """A renderable that asks how wide it may be before it builds itself.

    Args:
        build: From the width to what is shown.
        table: What stands for other letters where only ASCII can be shown.
    """

    def __init__(self, build: Callable[[int], RenderableType], table: Mapping[int, str] = _ASCII) -> None:
        self.build, self.table = build, table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.build(options.max_width), options):
            if options.ascii_only and not segment.control:
                text = segment.text.translate(self.table).encode("ascii", "replace").decode()
                segment = Segment(text, segment.style)
            yield segment


def gradients(
    record: Record, *, sequence: str | None = None, labels: Sequence[object] | None = None, everything: bool = False
) -> RenderableType:
    """The report on one sequence: where its gradient dies or explodes, and what that does to the parameters.

    Args:
        record: From `bptt.backward`; with `record.after(...)` also what clipping and the update did.
        sequence: Which layer and direction; None: the first.
        labels: What to call the input of each step, such as its character.
        everything: A row for every time step, however many there are.
    Returns:
        Something to print with rich (`rich.print`, `Console.print`), or to leave in a notebook's last line.
    Raises:
        RecordError: There is no such sequence, or not one label a step.
    """
    s = record.sequence(sequence)
    if labels is not None and len(labels) != s.steps:
        raise RecordError(
            f"report: {len(labels)} labels for a sequence of T={s.steps} steps.\n"
            "  Give one label for each step, or none."
        )
    names = None if labels is None else [safe(str(x)) for x in labels]
    found = diagnose(record, sequence=s.name)

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [_headline(record, s, found), _verdict(s, found)]
        parts += ["", *_steps(record, s, found, names, everything, width)]
        if record.parameters:
            parts += ["", _parameters(record, width)]
        if record.clipping is not None:
            parts += ["", _clipping(record.clipping)]
        return Group(*parts)

    return Shown(build)


def compare(records: Mapping[str, Record]) -> RenderableType:
    """One row for each record, or for each of its layers and directions: how far its gradient reaches, side by side.

    Args:
        records: By the name to show: cells, sizes, initialisations, or moments of one training.
    Raises:
        RecordError: One of them has no sequence.
    """
    rows = [row for name, record in records.items() for row in _rows_of(record, name, f"{record.loss:.3g}")]
    return Shown(lambda width: _comparison(rows, width))


def layers(record: Record) -> RenderableType:
    """One row for each layer and direction of a record, the one nearest to the loss first: where the gradient dies.

    Args:
        record: From `bptt.backward`.
    Raises:
        RecordError: It has no sequence.
    """
    rows = _rows_of(record)
    return Shown(lambda width: _comparison(rows, width))


class _Compared(NamedTuple):
    """One row of a comparison.

    Attributes:
        name, layer: What to call the record, and of several sequences this one; empty: as in the row before.
        found: Of the sequence.
        size, loss: The norm of its parameters' gradients, and the record's loss, as texts.
    """

    name: str
    layer: str
    found: Diagnosis
    size: str
    loss: str


def _rows_of(record: Record, name: str = "", loss: str = "") -> list[_Compared]:
    """A row for each sequence of a record, the one nearest to the loss first."""
    record.sequence()  # there has to be one
    called = titles(list(record.sequences.values())[::-1])
    users = {parameter: p.terms[0].sequence for parameter, p in record.parameters.items() if p.terms}
    rows: list[_Compared] = []
    for sequence, title in called.items():
        alone = len(called) == 1 and name
        parameters = [p for p in record.parameters if alone or users.get(p) == sequence]
        head = ("", "") if rows else (name, loss)
        rows.append(_Compared(
            head[0], "" if alone else title, diagnose(record, sequence=sequence), _size(record, parameters), head[1]
        ))  # fmt: skip
    return rows


def _size(record: Record, names: Iterable[str]) -> str:
    """The norm of these parameters' gradients."""
    return number(norm_of([record.parameters[name].norm for name in names])) if record.complete else "—"


def safe(text: str) -> str:
    """The text with everything spelled out that a terminal would not show as one visible mark.

    >>> safe("a\\x1b[31m"), safe("e\\u0301"), safe(" "), safe("[bold]x[/]")
    ('aU+001B[31m', 'eU+0301', '␣', '[bold]x[/]')
    """
    if text and not text.strip(" "):
        return "␣" * len(text)
    return "".join(
        c if c == " " or unicodedata.category(c)[0] not in "CMZ" else f"U+{ord(c):04X}" for c in text
    )


# The head

def _headline(record: Record, s: SequenceRecord, found: Diagnosis) -> Text:
    steps, batch, hidden = next(iter(s.states.values())).shape
    line = Text.assemble((f"{safe(s.cell)} {safe(s.name)}", "bold"))
    line.append(f"  T={steps} N={batch} H={hidden}  {s.dtype}  loss {record.loss:.4g}")
    if record.losses is not None and math.isfinite(record.loss) and s.name == list(record.sequences)[-1]:
        line.append(f" {_where(np.flatnonzero(~np.isnan(record.losses)), steps)}")
    if list(record.sequences) != [s.name]:
        line.append(f"  (of {', '.join(map(safe, record.sequences))})")
    return line


def _where(at: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.int_]], steps: int) -> str:
    if len(at) == steps and steps > 1:
        return "at every step"
    return f"at step {at[0] + 1} of {steps}" if len(at) == 1 else f"at {len(at)} of {steps} steps"


def _badge(found: Diagnosis) -> Text:
    mark, reading = _MARKS.get(found.verdict, ("—", None))
    style = "bold" if reading is None or reading.norm == 0.1 else f"bold {colour(reading)}"
    return Text(f"{mark} {found.verdict.upper()}", style)


def _verdict(s: SequenceRecord, found: Diagnosis) -> Text:
    text = Text.assemble(_badge(found), (": ", "bold"))
    for sentence in _evidence(s, found):
        text.append(f"{sentence} ")
    text.rstrip()
    for sentence in _places(found):
        text.append(f"\n{sentence}")
    text.append(f"\nRule: {found.verdict} means that {found.rule}.", "dim")
    return text


def _step(s: SequenceRecord, t: int) -> str:
    """A step with its scope path, as errors and pictures write it."""
    return f"step {t + 1} ({' / '.join((*s.scope, f't={t + 1}'))})"


def _places(found: Diagnosis) -> Iterable[str]:
    """Where it began, as far as the ops were recorded."""
    for what in (found.fault, found.zero):
        if what is not None:
            known = what.source is not None and not what.source.startswith("<frozen ")  # the command's own start
            line = f" ({safe(os.path.basename(what.source or ''))})" if known else ""
            text = safe(str(what))
            yield f"{text[0].upper()}{text[1:]}{line}."


def _evidence(s: SequenceRecord, found: Diagnosis) -> Iterable[str]:
    lane, first, last = found.lane, found.earliest + 1, found.latest + 1
    d = f"dL/d{found.state}"
    if found.verdict == "no backward yet":
        yield "there are values, but no gradients so far. Call bptt.backward(loss), and report what it returns."
    elif found.verdict == "no path":
        yield "no gradient comes here."
    elif found.verdict == "too short":
        yield f"the gradient stays at step {last}."
    elif found.verdict == "not finite":
        if found.bad_step is not None:
            yield f"seen from the loss, {_step(s, found.bad_step)} is the first whose gradient is NaN or infinite."
        elif found.bad_parameters:
            yield f"every step's gradient is finite, but not that of {', '.join(map(safe, found.bad_parameters))}."
        else:
            yield "the loss itself."
        if found.bad_forward is not None:
            where = _step(s, found.bad_forward)
            yield f"It began on the way forward: the state of {where} is already NaN or infinite."
    elif lane is None:
        yield "every gradient of this sequence is exactly 0."
    elif found.verdict == "dead":
        assert found.bad_step is not None
        at = found.bad_step + 1
        if lane.underflowed:
            way, limit = "gained" if lane.decades > 0 else "lost", number(float(np.finfo(s.dtype).tiny))
            yield f"what comes back to step {at} is smaller than {s.dtype} can hold ({limit});"
            yield f"up to there it {way} {number(abs(lane.decades))} decades a step."
            yield from _reach(found, lane)
        else:
            later = found.bad_step + (-1 if s.reverse else 1)
            yield f"exactly 0 comes back to step {at} from the step after it{f', {at - 1}' if s.reverse else ''}."
            if 0 <= later < s.steps and not any(h[later].any() for h in s.states.values()):
                yield f"The state of {_step(s, later)} is 0 in every unit."
        if found.on_the_way:
            yield "What stands there is fresh gradient, which enters at that step."
        before = f"from {at} up" if s.reverse else f"{at} and before"
        yield f"Nothing that steps {before} do is corrected by the loss at step {last}."
    else:
        way = "gains" if lane.decades > 0 else "loses"
        rate = f"{way} {number(abs(lane.decades))} decades a step (×{number(10.0**lane.decades)})"
        if found.on_the_way:
            about = "" if found.exact else "about "
            yield (f"what travels back {rate}: {about}{times(lane.share)} {d}_{last} arrives at step {first}"
                   f"{', along ' + found.state if len(found.lanes) > 1 else ''}.")  # fmt: skip
            hidden = "The norms hide it: " if found.verdict == "vanishing" else ""
            yield (f"{hidden}‖{d}_{first}‖ is {times(lane.ratio)} ‖{d}_{last}‖, for gradient enters"
                   f" {_where(found.enters, s.steps)}.")  # fmt: skip
        else:
            yield f"the gradient {rate}; ‖{d}_{first}‖ is {times(lane.ratio)} ‖{d}_{last}‖."
        yield from _reach(found, lane)
    if lane is not None and not found.exact:
        yield "What arrives is an estimate, one hop after the other: this cell's step is not in the record."
    others = [x for x in found.lanes.values() if x.state != found.state and not math.isnan(x.decades)]
    if others and found.verdict in ("vanishing", "healthy", "exploding", "dead"):
        yield " ".join(
            f"Along {x.state} alone: {_signed(x.decades)} decades a step, {number(x.share)} arrives." for x in others
        )


def _reach(found: Diagnosis, lane: Lane) -> Iterable[str]:
    if found.verdict == "exploding":
        yield f"At its peak it is {number(lane.peak)} times as large."
    elif lane.tenth is not None:
        more = f", a thousandth after {lane.thousandth}" if lane.thousandth is not None else ""
        if lane.underflow is not None:
            more += f", less than can be held after {lane.underflow}"
        yield f"Less than a tenth is left after {lane.tenth} step{'s' * (lane.tenth > 1)}{more}."


def times(x: float) -> str:
    return f"{number(x)} {'of' if x < 1.5 else 'times'}"


def _signed(x: float) -> str:
    return "—" if math.isnan(x) else ("+" if x > 0 else "") + number(x)


# The steps

class _Row(NamedTuple):
    """One row of the table: steps first to last, by input time, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first + 1}" if self.first == self.last else f"{self.first + 1}…{self.last + 1}"


def _rows(lanes: Sequence[Sequence[Reading]], everything: bool) -> list[_Row]:
    """All steps; of a long sequence the ends, whatever is unusual, and the rest in ranges."""
    steps = len(lanes[0])
    if everything or steps <= ROWS:
        return [_Row(t, t) for t in range(steps)]

    def uniform(a: int, b: int) -> bool:  # one row says it all
        return all(len({r.kind for r in lane[a : b + 1]}) == 1 and lane[a].kind != "value" for lane in lanes)

    wanted = [0, steps - 1]
    for lane in lanes:
        sized = [t for t, r in enumerate(lane) if r.kind == "value"]
        if sized:
            wanted.append(max(sized, key=lambda t: lane[t].norm))
        changes = [t for t in range(steps - 1) if lane[t].kind != lane[t + 1].kind]
        for t in (*changes[-2:], *changes[:1]):  # nearest to the loss first: there it went wrong
            wanted += [t, t + 1]
    wanted += [t for t in (1, steps - 2, 2, steps - 3) if not uniform(t - 1, t + 1)]
    kept = sorted(dict.fromkeys(wanted[: ROWS - 6]))
    rows = [_Row(t, t) for t in kept]
    gaps = [_Row(a + 1, b - 1) for a, b in pairwise(kept) if b - a > 1]
    alike = [gap for gap in gaps if uniform(*gap)]
    total = sum(b - a + 1 for a, b in gaps if (a, b) not in alike)
    room = ROWS - len(kept) - len(alike)
    for k, (a, b) in enumerate(gaps):
        size, parts = b - a + 1, 1
        if (a, b) not in alike:
            left = sum(gap not in alike for gap in gaps[k + 1 :])  # each of them needs a row
            parts = max(1, min(size, round(room * size / total), room - left))
            room, total = room - parts, total - size
        edges = np.linspace(a, b + 1, parts + 1).round().astype(int).tolist()
        rows += [_Row(x, y - 1) for x, y in pairwise(edges)]
    return sorted(rows)


def _steps(
    record: Record, s: SequenceRecord, found: Diagnosis, labels: list[str] | None, everything: bool, width: int
) -> list[RenderableType]:
    lanes = {f"‖dL/d{field}_t‖": s.readings(field) for field in sorted(s.gradients, key=lambda f: f != "h")}
    rows = _rows(list(lanes.values()), everything)
    if not s.complete:
        rows = [_Row(0, s.steps - 1)]
    real, batch, lane = real_samples(s), len(s.lengths), found.lane
    if found.on_the_way and lane is not None and len(lane.arriving) > 1 and lane.last.kind == "value":
        lanes[f"from step {found.latest + 1}"] = [
            Reading(x * lane.last.norm, kind_of(x * lane.last.norm, s.dtype)) if not math.isnan(x)
            else Reading(math.nan, "no path" if r else "padding") for x, r in zip(lane.arriving, real, strict=True)
        ]  # fmt: skip
    low, high = _decades(lanes.values())
    texts = {name: [_range_text(r[a : b + 1]) for a, b in rows] for name, r in lanes.items()}
    losses = record.losses if record.losses is not None and len(record.losses) == s.steps else None
    if losses is not None and np.count_nonzero(~np.isnan(losses)) < 2:
        losses = None  # the headline says it
    loss_texts = [] if losses is None else [_loss_text(losses[a : b + 1], record.loss) for a, b in rows]
    label_texts = [] if labels is None else [_label_text(labels[a : b + 1]) for a, b in rows]
    real_texts = [f"{real[b]}{'' if real[a] == real[b] else f'…{real[a]}'} of {batch}" for a, b in rows]

    axis = f"{number(10.0**low)}…{number(10.0**high)}" if low < high else ""
    fixed = max(len("t"), *(len(str(row)) for row in rows))
    label_width = min(12 if width >= 80 else 6, max((Text(x).cell_len for x in label_texts), default=0))
    real_width = max(len("samples"), *map(len, real_texts)) if 1 < batch > min(real) and width >= 60 else 0
    loss_width = max((len("loss_t"), *map(len, loss_texts))) if loss_texts else 0
    numbers = {name: max(len(name), *map(len, some)) for name, some in texts.items()}
    least = max(10, len(axis))
    bars = list(lanes) if low < high else []

    def spare() -> int:
        some = (label_width, real_width, loss_width)
        used = fixed + sum(n + 1 for n in some if n) + sum(n + 1 for n in numbers.values())
        return width - used - len(bars)

    while bars and spare() < least * len(bars):  # drop what matters least
        if len(bars) > 2:
            bars.pop(1)  # of h, c and what is left of the latest, the two ends tell the story
        elif len(bars) == 2 and not label_width + loss_width:
            bars.pop()
        elif loss_width:
            loss_width = 0
        elif len(numbers) > 2:
            numbers.pop(list(numbers)[1])
        elif label_width:
            label_width = 0
        else:
            bars.pop()
    while len(numbers) > 1 and spare() < 0:
        numbers.popitem()
    size = min(spare() // len(bars), 100) if bars else 0

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("t", justify="right", no_wrap=True, width=fixed)
    if label_width:
        table.add_column("x", no_wrap=True, width=label_width, overflow="ellipsis")
    if real_width:
        table.add_column("samples", justify="right", no_wrap=True, width=real_width)
    if loss_width:
        table.add_column("loss_t", justify="right", no_wrap=True, width=loss_width)
    for name, wide in numbers.items():
        table.add_column(name, justify="right", no_wrap=True, min_width=min(wide, width // 3))
        if name in bars:
            table.add_column(Text(axis if name == bars[0] else ""), no_wrap=True, width=size)
    for k, row in enumerate(rows):
        cells: list[Text] = [Text(str(row))]
        if label_width:
            cells.append(Text(label_texts[k]))
        if real_width:
            cells.append(Text(real_texts[k]))
        if loss_width:
            cells.append(Text(loss_texts[k]))
        for name in numbers:
            cells.append(Text(texts[name][k]))
            if name in bars:
                cells.append(_bar(lanes[name][row.first : row.last + 1], low, high, size))
        table.add_row(*cells)
    return [table, *_notes(s, found, numbers, rows, bars, axis)]


def _notes(
    s: SequenceRecord, found: Diagnosis, columns: Iterable[str], rows: Sequence[_Row], bars: Sequence[str], axis: str
) -> Iterable[Text]:
    notes = []
    if bars:
        way = "this direction runs up, and its gradient down" if s.reverse else "the gradient runs up"
        notes.append(f"Bars: logarithmic, {axis}, one scale for all. Time runs down, {way}.")
    if any(row.first != row.last for row in rows) and bars:
        notes.append("A range shows its least…largest norm: █ up to the least, ░ up to the largest.")
    extra = f"from step {found.latest + 1}"
    if extra in columns:
        estimate = "" if found.exact else "; an estimate, one hop after the other"
        notes.append(
            f"{extra.capitalize()}: how much of dL/d{found.state}_{found.latest + 1} is left here{estimate}."
            " The rest entered on the way."
        )
    return [Text(" ".join(notes), "dim")] if notes else []


def _decades(lanes: Iterable[Sequence[Reading]]) -> tuple[int, int]:
    """The whole decades that hold every number of the table."""
    sizes = [r.norm for lane in lanes for r in lane if r.kind == "value"]
    if not sizes:
        return 0, 0
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    return min(low, high - 1), high


def _ends(readings: Sequence[Reading]) -> tuple[Reading, Reading]:
    """The least and the largest; what is not finite is larger than anything."""
    ordered = sorted(readings, key=lambda r: math.inf if r.kind == "not finite" else r.norm)
    return ordered[0], ordered[-1]


def _range_text(readings: Sequence[Reading]) -> str:
    least, largest = map(shown, _ends(readings))
    return least if least == largest else f"{least}…{largest}"


def _loss_text(losses: np.ndarray[tuple[int, ...], np.dtype[np.float64]], whole: float) -> str:
    some = losses if math.isnan(whole) else losses[~np.isnan(losses)]  # else NaN says that there is none
    if not len(some):
        return ""
    return number(float(some.sum())) if len(losses) == 1 else f"Σ {number(float(some.sum()))}"


def _label_text(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    return "".join(labels) if all(len(x) == 1 for x in labels) else f"{labels[0]} … {labels[-1]}"


def _bar(readings: Sequence[Reading], low: int, high: int, size: int) -> Text:
    least, largest = _ends(readings)
    if least.kind == largest.kind and least.kind != "value":
        return Text(_WORDS[least.kind], f"italic {colour(least)}")
    if "not finite" in (least.kind, largest.kind):
        return Text(_WORDS["not finite"], f"italic {colour(largest)}")

    def eighths(r: Reading) -> int:
        if r.norm <= 0 or math.isnan(r.norm):
            return 0
        part = (math.log10(r.norm) - low) / (high - low)
        return max(1, min(size * 8, round(part * size * 8)))

    if len(readings) == 1:
        full, rest = divmod(eighths(largest), 8)
        return Text("█" * full + " ▏▎▍▌▋▊▉"[rest].strip(), colour(largest))
    solid, end = eighths(least) // 8, max(1, -(-eighths(largest) // 8))
    return Text("█" * solid, colour(least)) + Text("░" * (end - solid), colour(largest))


def colour(reading: Reading) -> str:
    """The palette's edge colour, moved as far as it takes to be seen on black and on white."""
    code = look(reading).edge.lstrip("#")
    rgb = [int(code[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    while _luminance(rgb) < 0.11:
        rgb = [x + (1 - x) * 0.05 for x in rgb]
    while _luminance(rgb) > 0.29:
        rgb = [x * 0.95 for x in rgb]
    return "#" + "".join(f"{round(x * 255):02x}" for x in rgb)


def _luminance(rgb: Sequence[float]) -> float:
    """The relative luminance of WCAG 2."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# The parameters

def _shares(record: Record, name: str) -> tuple[list[float], float]:
    """How the norms of a parameter's terms spread over the thirds of the sequence, and outside any step."""
    parts = [0.0] * 3
    parameter = record.parameters[name]
    if not np.isfinite(parameter.gradient).all():
        return [math.nan] * 3, math.nan
    for sequence, s in record.sequences.items():
        for t, norm in parameter.by_step(sequence).items():
            parts[t * 3 // s.steps] += norm
    outside = sum(term.norm() for term in parameter.terms if term.time is None)
    whole = sum(parts) + outside
    if not 0 < whole < math.inf:
        return [math.nan] * 3, math.nan
    return [x / whole for x in parts], outside / whole


def _percent(x: float) -> str:
    if math.isnan(x):
        return "—"
    if x == 0:
        return "0"
    return "<1%" if x < 0.01 else ">99%" if 0.99 < x < 1 else f"{100 * x:.0f}%"


def _parameters(record: Record, width: int) -> RenderableType:
    shares = {name: _shares(record, name) for name in record.parameters}
    lengths = {s.steps for s in record.sequences.values()}
    edges = [-(-k * max(lengths) // 3) for k in range(4)]
    thirds = [
        (str(_Row(a, b - 1)) if len(lengths) == 1 else title, k)
        for k, (title, a, b) in enumerate(zip(("early", "middle", "late"), edges, edges[1:], strict=False))
        if b > a
    ]
    clipping, update = record.clipping, record.update
    rest = any(outside > 0 for _, outside in shares.values())
    columns: list[tuple[str, Callable[[str], str]]] = [
        ("shape", lambda name: "×".join(map(str, record.parameters[name].shape)) or "1"),
        ("‖grad‖", lambda name: number(record.parameters[name].norm) if record.complete else "—"),
    ]
    if clipping is not None:
        columns.append(("clipped", lambda name: number(clipping.after[name]) if name in clipping.after else "—"))
    if update is not None:
        columns.append(("‖ΔW‖/‖W‖", lambda name: _ratio(update.sizes, update.weights, name)))
    if record.complete:
        columns += [(title, lambda name, k=k: _percent(shares[name][0][k])) for title, k in thirds]  # type: ignore[misc]
        if rest:
            columns.append(("outside", lambda name: _percent(shares[name][1])))
    cells = {title: [value(name) for name in record.parameters] for title, value in columns}
    wide = {title: max(len(title), *map(len, some)) for title, some in cells.items()}
    for dropped in ("shape", "clipped", "‖ΔW‖/‖W‖", "outside"):
        if width - sum(n + 1 for n in wide.values()) < min(20, max(map(len, record.parameters))):
            wide.pop(dropped, None)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("parameter", overflow="fold")
    for title, n in wide.items():
        table.add_column(title, justify="right", no_wrap=True, width=n)
    for k, name in enumerate(record.parameters):
        table.add_row(Text(safe(name)), *(Text(cells[title][k]) for title in wide))
    if not record.complete:
        return table
    parts = "steps " + ", ".join(title for title, _ in thirds) if len(lengths) == 1 else "each part of the sequence"
    note = f"Per cent: how much of the gradient came from {parts}, by the norms of the steps' terms."
    return Group(table, Text(note + (" Outside: used outside any step." if "outside" in wide else ""), "dim"))


def _ratio(sizes: Mapping[str, float], weights: Mapping[str, float], name: str) -> str:
    if name not in sizes:
        return "—"
    return number(sizes[name] / weights[name]) if weights[name] else "from 0"


# Clipping

def _clipping(c: Clipping) -> Text:
    text = Text.assemble((f"Clipping by {c.kind}, C={number(c.threshold)}: ", "bold"))
    if not c.fired:
        text.append(f"did not fire, ‖g‖ = {number(c.norm_before)} stays as it is.")
        return text
    text.append(
        f"fired. ‖g‖ {number(c.norm_before)} → {number(c.norm_after)}, coefficient {number(c.coefficient)},"
        f" angle {number(c.angle)}°.\n"
    )
    if c.kind == "norm":
        why = ("Every contribution was multiplied by the same coefficient, so the ratio of the first step to the last"
               " stays: this tames an explosion and does not cure vanishing.")  # fmt: skip
    else:
        why = (f"Elements beyond C were cut off and the others not, so the gradient points {number(c.angle)}° away from"
               " where it pointed: it is no longer the direction of steepest descent.")  # fmt: skip
    text.append(why)
    return text


# Side by side

def _comparison(rows: Sequence[_Compared], width: int) -> RenderableType:
    def steps_left(d: Diagnosis, lag: int | None) -> str:
        if d.lane is None or d.verdict in ("no backward yet", "not finite", "too short"):
            return "—"
        return str(lag) if lag is not None else f">{abs(d.latest - d.earliest)}"

    def of_lane(value: Callable[[Lane], str]) -> Callable[[_Compared], str]:
        return lambda row: "—" if row.found.lane is None else value(row.found.lane)

    def arrives(row: _Compared) -> str:
        share = of_lane(lambda lane: number(lane.share))(row)
        return share if row.found.exact or row.found.lane is None else f"~{share}"

    columns: dict[str, Callable[[_Compared], str]] = {
        "first": of_lane(lambda lane: shown(lane.first)),
        "last": of_lane(lambda lane: shown(lane.last)),
        "ratio": of_lane(lambda lane: number(lane.ratio)),
        "arrives": arrives,
        "dec/step": of_lane(lambda lane: _signed(lane.decades)),
        "1/10": lambda row: steps_left(row.found, x.tenth if (x := row.found.lane) else None),
        "1/1000": lambda row: steps_left(row.found, x.thousandth if (x := row.found.lane) else None),
        "‖grad‖": lambda row: row.size,
        "loss": lambda row: row.loss,
    }
    if not any(row.loss for row in rows):
        del columns["loss"]
    cells = {title: [value(row) for row in rows] for title, value in columns.items()}
    wide = {title: max((len(title), *map(len, some))) for title, some in cells.items()}
    badges = max([len("verdict"), *(_badge(row.found).cell_len for row in rows)])
    names = [Text(safe(row.name)) for row in rows]
    layers = [Text(safe(row.layer)) for row in rows]
    longest, widest = (max((text.cell_len for text in some), default=0) for some in (names, layers))
    taken = badges + 1 + (widest + 1 if widest and longest else 0)
    for dropped in ("1/1000", "‖grad‖", "ratio", "last", "first", "loss", "1/10"):
        if width - sum(n + 1 for n in wide.values()) - taken < min(width // 3, longest or widest):
            wide.pop(dropped, None)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    heads = {"cell": names} if longest or not widest else {}
    if widest:
        heads["layer"] = layers
    for title in heads:
        table.add_column(title, overflow="fold")
    table.add_column("verdict", no_wrap=True, width=badges)
    for title, n in wide.items():
        table.add_column(title, justify="right", no_wrap=True, width=n)
    for k, row in enumerate(rows):
        called = (some[k] for some in heads.values())
        table.add_row(*called, _badge(row.found), *(Text(cells[title][k]) for title in wide))
    there = "at the first and the last step of its walk" if widest else "there"
    meanings = {
        "first": f"first, last: ‖dL/dh‖ {there}, or ‖dL/dc‖ if more arrives along c",
        "arrives": "arrives: the share of the latest gradient that is left at the first step"
        + (" (~: an estimate)" if any(text.startswith("~") for text in cells["arrives"]) else ""),
        "dec/step": "dec/step: decades gained a step back",
        "1/10": f"1/10{', 1/1000' * ('1/1000' in wide)}: steps back until less is left",
    }
    return Group(table, Text("; ".join(x for title, x in meanings.items() if title in wide) + ".", "dim"))
