"""Pictures of a Record: the network unrolled through time, coloured by the size of its gradients.

Time runs from left to right, one column a step; the gradient runs back along the arrows. Every
coordinate is fixed here (see `layout`), so the same record always gives the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ..bptt.record import Reading, Record, SequenceRecord
from ..errors import DrawError
from .anatomy import anatomy as anatomy
from .canvas import HEADER, PILL, Canvas, extent
from .clipped import clipping as clipping
from .layers import Layers, above, layers_of, one_sample, titles
from .layout import PORT, Item, Layout, arrange, mirrored
from .painter import Plan, Style, paint
from .palette import number, shown
from .picture import Picture
from .rolled import rolled as rolled
from .scene import Card, Scene, Step, build, labelled, letter_of, real_samples, subscript
from .stack import plan_of, style_of
from .strip import Row, fits, strip, strip_rows
from .whole import graph as graph

__all__ = ["LEVELS", "anatomy", "clipping", "compare", "graph", "rolled", "unrolled"]

LEVELS = ("strip", "cell", "gate", "op")
_WIDEST = 90.0  # of the words in a box
_SIZES = {"cell": (92.0, 46.0), "gate": (56.0, 42.0), "op": (56.0, 42.0)}  # of a box


def unrolled(
    record: Record,
    level: str = "cell",
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    title: str | None = None,
    sequence: str | Sequence[str] | None = None,
    sample: int | None = None,
) -> Picture:
    """Draw a record's network unrolled through time.

    One layer and direction at every level; several layers and directions at the strip and cell levels, on
    one scale: the inputs at the bottom, the layers above each other, the loss on top. A lane runs the way
    its states are computed: in a reverse direction from the last step to the first.

    Args:
        record: From `bptt.backward` (keep="ops" for the gate and op levels), or from `bptt.record`
            before any backward.
        level: "strip": one row a state and gate, one tile a step. "cell": the states of each step.
            "gate": the named parts of each step. "op": every op.
        everything: Draw every step in one row. Else the picture fits 1,600 x 1,000 pixels: the
            middle is folded, with its own least and largest norm. (What is deeper than an LSTM of seven
            layers, or of three with two directions, makes it higher.)
        labels, targets: What each step reads and should predict, such as its character.
        title: In place of the one made from the record.
        sequence: Which layer and direction, by its name; several, from the bottom up; None: all.
        sample: Which sample of the batch, from 0, at the strip and cell levels; None: norms over all.
    Raises:
        DrawError: There is no such level or sample, the labels do not match the steps, the level shows
            one sequence and there are several, or they are no layers of one network.
        RecordError: The record has no such sequence, or was made without ops.
    """
    if level not in LEVELS:
        raise DrawError(f"There is no level {level!r}.\n  Choose one of {', '.join(LEVELS)}.")
    layers = layers_of(record, [sequence] if isinstance(sequence, str) else sequence)
    names = [s.name for layer in layers for s in layer]
    if level in ("gate", "op") and len(names) > 1:
        raise DrawError(
            f"level={level!r} draws one layer and direction; found {', '.join(names)}.\n"
            f"  Give sequence={names[0]!r} or another one, or draw level='cell' or 'strip'."
        )
    if sample is not None:
        if level in ("gate", "op"):
            raise DrawError(
                f"level={level!r}: the record has no numbers of single samples for gates and ops.\n"
                "  Leave out sample, or draw level='cell' or 'strip'."
            )
        record, layers = one_sample(record, layers, sample)
        labels = [""] * layers[0][0].steps if labels is None else labels  # the inputs' means are those of the batch
    steps = layers[0][0].steps
    labels, targets = labelled(labels, steps), labelled(targets, steps, "targets")
    canvas = Canvas("unrolled")
    single = len(names) == 1
    more = [_arrows(layers)] if level == "cell" and not single else []
    unequal = [f"{real} of {batch}" for real, batch in sorted(_unequal(layers), reverse=True) if batch > 1]
    if unequal:
        many = "" if level == "strip" else f"{unequal[0]}: so many samples have not ended at this step. "
        over = {"strip": "Norms", "cell": "Norms and means"}.get(level, "Norms, and the means of inputs and states,")
        more.append(f"{many}{over} are over the samples that have not ended.")
    canvas.caption(title or _title(record, layers, sample), *_story(layers), *more)
    if level == "strip":
        found = [s for layer in reversed(layers) for s in reversed(layer)]  # the loss is on top
        groups = [strip_rows(s, "" if single else f"{s.name}  ") for s in found]
        if not fits(canvas, groups):  # without the gates
            groups = [strip_rows(s, f"{s.name}  ", gates=False) for s in found]
        strip(canvas, groups, labels, everything, [s.name for s in found if s.reverse])
        canvas.legend("one tile a step:\n‖∂L/∂name‖", padding=_padded(layers))
    elif single:
        (s,) = layers[0]
        _steps(canvas, layers, build(record, s, level, labels, targets, above(record, s)), level, everything)
    else:
        plan, walks = plan_of(record, layers, labels, targets, _more(layers))
        style = paint(canvas, plan, (style_of(walks, lines) for lines in (3, 2, 1)), everything)
        _legend(canvas, layers, style)
    return canvas.picture()


def compare(
    records: Mapping[str, Record],
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw the states of several cells over the same sequence, one row each, on one scale.

    Args:
        records: By the cell's name; each from `bptt.backward`. Of each its first sequence is drawn.
        everything, labels, title: As `unrolled`.
    Raises:
        DrawError: There is no record, or the sequences differ in length.
        RecordError: A record has no sequence.
    """
    sequences = {name: record.sequence() for name, record in records.items()}
    lengths = {name: s.steps for name, s in sequences.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} T={t}" for name, t in lengths.items()) or "no record"
        raise DrawError(f"Cells are compared over one sequence; found {found}.\n  Give records of equal length.")
    labels = labelled(labels, next(iter(lengths.values())))
    canvas = Canvas("compare")
    canvas.caption(
        title or f"{', '.join(records)}: how much of the loss's gradient reaches each step",
        "   ".join(f"{name}: {_reach(s)}" for name, s in sequences.items()),
    )
    groups: list[list[Row]] = []
    for name, s in sequences.items():
        groups.append([Row(f"{name}  {letter_of(state)}", letter_of(state), s.readings(state)) for state in s.states])
    strip(canvas, groups, labels, everything, [s.name for s in sequences.values() if s.reverse])
    canvas.legend("one tile a step:\n‖∂L/∂name‖", padding=_padded([[s] for s in sequences.values()]))
    return canvas.picture()


# Words


def _title(record: Record, layers: Layers, sample: int | None) -> str:
    s = layers[0][0]
    n = len(s.lengths)
    single = sum(map(len, layers)) == 1
    parts = [f"{s.cell} {s.name}" if single and len(record.sequences) > 1 else s.cell]
    if len(layers) > 1:
        parts.append(f"{len(layers)} layers")
    if max(map(len, layers)) > 1:
        parts.append("both directions")
    parts.append(f"T = {s.steps}")
    if s.reverse and single:
        parts.append(f"runs from t={s.steps} to t=1")
    if n > 1:
        parts.append(f"{n} samples" + (f" of {min(s.lengths)} to {max(s.lengths)} steps" if _unequal(layers) else ""))
    if sample is not None:
        parts.append(f"sample {sample} (of 0 to {len(record.sequence(s.name).lengths) - 1})")
    if not record.complete:
        return f"{', '.join(parts)}: the graph before backward"
    return f"{', '.join(parts)}: how much of the loss's gradient reaches each step"


def _story(layers: Layers) -> list[str]:
    """First and last norm of each lane: the shortest report there is."""
    s = layers[0][0]
    if not s.complete:
        return ["no gradient has been computed yet: call bptt.backward(loss)"]
    if sum(map(len, layers)) > 1:
        each = [(s, s.readings("h" if "h" in s.states else next(iter(s.states)))) for layer in layers for s in layer]
        lines = ["‖∂L/∂h‖ where the gradient ends / where it begins:"]
        called = titles([s for s, _ in each])
        for s, r in each:
            found = f"{called[s.name]} {' / '.join(shown(r[t]) for t in _ends(s))} = {_ratio(s, r)}"
            if extent(f"{lines[-1]}     {found}", 11) > Canvas.room[0] - 8:
                lines.append(found)
            else:
                lines[-1] += f"     {found}"
        return lines
    parts = []
    for name in s.states:
        symbol, readings = letter_of(name), s.readings(name)
        first, last = (f"‖∂L/∂{subscript(symbol, t + 1)}‖ = {shown(readings[t])}" for t in _ends(s))
        parts.append(f"{first}   {last}   ratio {_ratio(s, readings)}")
    return ["      ".join(reversed(parts))]


def _ends(s: SequenceRecord) -> tuple[int, int]:
    """The first and the last step of the walk that are no padding: where the gradient ends, where it begins."""
    last = int(s.lengths.max()) - 1
    return (last, 0) if s.reverse else (0, last)


def _arrows(layers: Layers) -> str:
    """What the upward arrows of a picture of several layers show."""
    words = "Arrows carry the gradient back."
    if max(map(len, layers)) == 1:
        return f"{words} Between two layers: ‖∂L/∂x‖ of the upper one; dropout may lie between."
    words += " Into an h from above: what reaches it from outside its own steps."
    if len(layers) == 1:
        return f"{words} Into x: ‖∂L/∂x‖ of each direction."
    return f"{words} Into both outputs, and into x: ‖∂L/∂x‖ of each direction above. Dropout may lie between."


def _unequal(layers: Layers) -> set[tuple[int, int]]:
    """How many samples have not ended, and of how many, where that is not all."""
    found = {(real, len(s.lengths)) for layer in layers for s in layer for real in real_samples(s)}
    return {(real, batch) for real, batch in found if real < batch}


def _padded(layers: Layers) -> bool:
    return any(0 in real_samples(s) for layer in layers for s in layer)


def _more(layers: Layers) -> list[str]:
    """How many samples have not ended, behind the name of each step."""
    s = layers[0][0]
    n = len(s.lengths)
    return ["" if real == n else f"   {real} of {n}" if real else "   padding" for real in real_samples(s)]


def _legend(canvas: Canvas, layers: Layers, style: Style) -> None:
    lines = {3: "name\nmean value\ng = ‖∂L/∂name‖", 2: "name\ng = ‖∂L/∂name‖", 1: "name\ng = ‖∂L/∂name‖"}[style.lines]
    canvas.legend(lines, padding=_padded(layers))


def _ratio(s: SequenceRecord, readings: list[Reading]) -> str:
    first, last = (readings[t] for t in _ends(s))
    return number(first.norm / last.norm) if last.kind == "value" and math.isfinite(first.norm) else "—"


def _reach(sequence: SequenceRecord) -> str:
    """First to last along each lane."""
    parts = []
    for name in sequence.states:
        first, last = (f"‖∂L/∂{subscript(letter_of(name), t + 1)}‖" for t in _ends(sequence))
        parts.append(f"{first} / {last} = {_ratio(sequence, sequence.readings(name))}")
    return ", ".join(parts)


# The steps of the cell, gate and op levels


def _steps(canvas: Canvas, layers: Layers, scene: Scene, level: str, everything: bool) -> None:
    """One layer and direction."""
    sequence = layers[0][0]
    states = frozenset(sequence.states)
    lanes = {s: sequence.readings(s) for s in sequence.states}
    firsts = (None, scene.first) if sequence.reverse else (scene.first, None)
    plan = Plan(
        scene.steps, firsts, lanes, states if sequence.reverse else frozenset(), _more(layers), {}, _SIZES[level][0]
    )
    styles = (_style(sequence, scene.typical, level, lines) for lines in (3, 2))
    _legend(canvas, layers, paint(canvas, plan, styles, everything))


def _style(sequence: SequenceRecord, steps: Sequence[Step], level: str, lines: int) -> Style:
    """One layout for all steps: of everything that these steps have."""
    width, height = _SIZES[level]
    height -= 14 if lines < 3 else 0
    cards: dict[str, Card] = {}
    flows: dict[tuple[str, str], None] = {}
    carried: dict[tuple[str, str], None] = {}
    for step in steps:
        for key, card in step.cards.items():
            if key not in cards or len(card.pills) > len(cards[key].pills):
                cards[key] = card
        flows.update(dict.fromkeys(step.flows))
        carried.update(dict.fromkeys(step.carried))
    output = next((b if a == "x" else a for a, b in flows if b == "loss" or (a == "x" and level == "cell")), None)
    states = sorted(sequence.states, key=lambda s: s == output)  # the lane that the loss hangs on comes last
    kinds = {"state": "state", "input": "input", "loss": "output", "join": "output"}
    order = [*states, *(k for k in cards if k not in states)]
    items = {
        k: Item(k, kinds.get(cards[k].kind, "gate"), width, height, PILL * len(cards[k].pills)) for k in order
    }
    if level == "cell":
        layout = _cell_layout(states, items)
        return Style(mirrored(layout) if sequence.reverse else layout, items, lines)
    for k, card in cards.items():  # long names make a box wider, and are cut beyond that
        words = [card.title, *(f"{pill.name} 0.012" for pill in card.pills)]
        wide = min(max(extent(text) for text in words), _WIDEST) + 1.5
        items[k] = items[k]._replace(width=max(width, wide if card.kind != "input" else width))
    row_gap = 9 if lines < 3 else 16
    layout = arrange(
        list(items.values()), list(flows), list(carried), row_gap=row_gap, column_gap=14, header=HEADER
    )
    return Style(mirrored(layout) if sequence.reverse else layout, items, lines)


def _cell_layout(states: list[str], items: dict[str, Item]) -> Layout:
    """The states above each other, the input and the loss side by side below them."""
    width, height = _SIZES["cell"]
    aside = states[:-2]  # they reach the last one past those between
    small, row, frame = 50.0, height + 18, width + 16 + PORT * len(aside)
    total = HEADER + row * (len(states) + 1)
    centres = [total - HEADER - row * (k + 0.5) + 4 for k in range(len(states) + 1)]
    middle = (width + 16) / 2
    places = {s: (middle, y) for s, y in zip(states, centres, strict=False)}
    layout = Layout(frame, total, places, dict(zip(states, centres, strict=False)))
    last = states[-1]
    for key, x in (("x", middle - small / 2 - 1.5), ("loss", middle + small / 2 + 1.5)):
        if key in items:
            items[key] = items[key]._replace(width=small)
            places[key] = (x, centres[-1])
            bottom, top = centres[-1] + height / 2, centres[-2] - height / 2
            layout.wires["x", last] = layout.wires.get(("x", last), [(x, bottom), (x, top)])
            if key == "loss":
                layout.wires[last, "loss"] = [(x, top), (x, bottom)]
    for upper, lower in pairwise(states):
        layout.wires[upper, lower] = [(middle, places[upper][1] - height / 2), (middle, places[lower][1] + height / 2)]
    for k, upper in enumerate(aside):
        edge, turn, down = middle + width / 2, middle + width / 2 + 4 + PORT * (k + 1), 4 + PORT * (k + 1)
        start, end = places[upper][1] - 8, places[last][1] + down
        layout.wires[upper, last] = [(edge, start), (turn, start), (turn, end), (edge, end)]
    for s in states:
        layout.carried[s, s] = [(0.0, places[s][1]), (middle - width / 2, places[s][1])]
    return layout
