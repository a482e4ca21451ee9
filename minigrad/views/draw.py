"""Pictures of a Record: the network unrolled through time, coloured by the size of its gradients.

Time runs from left to right, one column a step; the gradient runs back along the arrows. Every
coordinate is fixed here (see `layout`), so the same record always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..bptt.record import Record, SequenceRecord
from ..bptt.truncation import truncation as measured_truncation
from ..errors import DrawError, RecordError
from .anatomy import anatomy as anatomy
from .canvas import Canvas, extent
from .clipped import clipping as clipping
from .layers import Layers, above, layers_of, one_sample, titles
from .overlay import Overlay, Site, legend_of, marked, over
from .overlay_common import Asked
from .overlay_cuts import cut_every
from .overlay_measures import overlays
from .painter import Plan, Style, paint
from .palette import shown
from .picture import Picture
from .rolled import rolled as rolled
from .scene import Lazy, Scene, Step, build, cuts_of, ends, labelled, letter_of, ratio, real_samples, subscript
from .stack import SIZES, Walked, plan_of, style_of, style_of_one
from .strip import Row, fits, strip, strip_rows
from .surface import surface as surface
from .whole import graph as graph

__all__ = ["LEVELS", "anatomy", "clipping", "compare", "graph", "rolled", "surface", "truncation", "unrolled"]

LEVELS = ("strip", "cell", "gate", "op")


def unrolled(
    record: Record,
    level: str = "cell",
    *,
    overlay: object = None,
    loss: int | None = None,
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
        overlay: A measure of the record, whose numbers and colours take the place of the gradients: what
            `bptt.terms.step_terms`, `jacobian.jacobian_curves`, `attribution.attribution`, `gates.gates`,
            `thresholds.clipping_effects` (one of them), `thresholds.norms_over_training`, `truncation.truncation`
            (one length), `clip_grad_norm` or `clip_grad_value` gave. A list: of several layers or weights.
        loss: Of an attribution, the step whose loss is followed, counted from 1; None: the last of the walk.
        everything: Draw every step in one row. Else the picture fits 1,600 x 1,000 pixels: the
            middle is folded, with its own least and largest norm. (What is deeper than an LSTM of seven
            layers, or of three with two directions, makes it higher.)
        labels, targets: What each step reads and should predict, such as its character: in the boxes of its input
            and its loss, and below the tiles of a strip where each step has its own.
        title: In place of the one made from the record.
        sequence: Which layer and direction, by its name; several, from the bottom up; None: all.
        sample: Which sample of the batch, from 0, at the strip and cell levels; None: norms over all.
    Raises:
        DrawError: There is no such level or sample, the labels do not match the steps, the level shows
            one sequence and there are several, or they are no layers of one network. The overlay is no measure,
            none of what is drawn, or has no place at this level.
        RecordError: The record has no such sequence, or was made without ops.
    """
    if overlay is None and loss is not None:
        raise DrawError(
            f"loss={loss} chooses one loss of an overlay, and there is none.\n  Give overlay=attribution(record)."
        )

    def make(asked: Sequence[Asked]) -> dict[str, Overlay]:
        return {} if overlay is None else overlays(asked, overlay)

    return _drawn(record, level, make, loss, everything, labels, targets, title, sequence, sample)


def truncation(
    record: Record,
    *,
    every: int,
    level: str = "cell",
    everything: bool = False,
    labels: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    title: str | None = None,
    sequence: str | Sequence[str] | None = None,
) -> Picture:
    """Draw where truncated backpropagation through time cuts, and what is lost there.

    Chunks are counted from the first input. At a cut the state's value crosses, its gradient does not; there stands
    the norm that would have crossed. How far the weights' gradient changes is measured for RNN, LSTM and GRU.

    Args:
        record: Of `bptt.backward` over the whole sequence, without a cut.
        every: After how many steps.
        level, everything, labels, targets, title, sequence: As `unrolled`.
    Raises:
        DrawError: `every` is no whole number from 1; there was no backward yet; else as `unrolled`.
        RecordError: As `unrolled`.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise DrawError(f"draw.truncation: every={every!r}.\n  Give a whole number of steps, at least 1.")
    if not record.complete:
        raise DrawError("draw.truncation: no gradient has been computed yet.\n  Call bptt.backward(loss).")

    def make(asked: Sequence[Asked]) -> dict[str, Overlay]:
        found: dict[str, Overlay] = {}
        for a in asked:
            try:
                measured = measured_truncation(record, lengths=[every], sequence=a.s.name)
            except RecordError:  # a cell of one's own: its states' gradients are known, those of its weights are not
                known = "What the weights' gradient loses is known of RNN, LSTM and GRU alone."
                found[a.s.name] = cut_every(a, every, known)
            else:
                found |= overlays([a], measured)
        return found

    return _drawn(record, level, make, None, everything, labels, targets, title, sequence, None)


def _drawn(
    record: Record, level: str, make: Callable[[Sequence[Asked]], dict[str, Overlay]], loss: int | None,
    everything: bool, labels: Sequence[str] | None, targets: Sequence[str] | None, title: str | None,
    sequence: str | Sequence[str] | None, sample: int | None,
) -> Picture:  # fmt: skip
    """The unrolled network with what is made for each of its walks over it."""
    if level not in LEVELS:
        raise DrawError(f"There is no level {level!r}.\n  Choose one of {', '.join(LEVELS)}.")
    layers = layers_of(record, [sequence] if isinstance(sequence, str) else sequence)
    names = [s.name for layer in layers for s in layer]
    if level in ("gate", "op") and len(names) > 1:
        raise DrawError(
            f"level={level!r} draws one layer and direction; found {', '.join(names)}.\n"
            f"  Give sequence={names[0]!r} or another one, or draw level='cell' or 'strip'."
        )
    found = make([Asked(record, s, level, loss, sample) for layer in layers for s in layer])
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
    alone = any(o.alone for o in found.values())
    more = [_arrows(layers)] if level == "cell" and not single and not alone else []
    unequal = [f"{real} of {batch}" for real, batch in sorted(_unequal(layers), reverse=True) if batch > 1]
    if unequal:
        many = "" if level == "strip" else f"{unequal[0]}: so many samples have not ended at this step. "
        more.append(f"{many}Norms{'' if level == 'strip' else ' and means'} are over the samples that have not ended.")
    if level != "strip" and any(cuts_of(record, s) for layer in layers for s in layer):
        more.append("Scissors: the state's value goes on (grey arrow), and there is no way back for the gradient.")
    story = _story(layers)
    if found:
        first = next(iter(found.values()))
        story = _findings(canvas, layers, found)
        more = [line for words in first.about for line in canvas.wrapped(words, 10)] + more
        canvas.below = 12.0 if alone else 0.0
    canvas.caption(title or _title(record, layers, sample, found), *story, *more)
    if level == "strip":
        canvas.below += 20.0 if targets else 0.0  # the row of them
        walks = [s for layer in reversed(layers) for s in reversed(layer)]  # the loss is on top
        called = {s.name: "" if single else f"{s.name}  " for s in walks}
        groups = [_measured_rows(s, called[s.name], found) or strip_rows(s, called[s.name]) for s in walks]
        if not fits(canvas, groups):  # without the gates
            groups = [
                _measured_rows(s, called[s.name], found)[:2] or strip_rows(s, f"{s.name}  ", gates=False)
                for s in walks
            ]
        cuts = [
            {**{t + s.reverse: "no way back" for t in cuts_of(record, s)}, **_lost(s, found.get(s.name))}
            for s in walks
        ]
        strip(canvas, groups, labels, everything, [s.name for s in walks if s.reverse], cuts, targets)
        key = "one tile a step:\n‖∂L/∂name‖"
    elif single:
        (s,) = layers[0]
        scene = build(record, s, level, labels, targets, above(record, s))
        key = _steps(canvas, layers, scene, level, everything, found)
    else:
        plan, walked = plan_of(record, layers, labels, targets, _more(layers))
        flat = [w for layer in walked for w in layer]
        some = [(found[w.sequence.name], _site(w, walked[-1])) for w in flat if w.sequence.name in found]
        if some:
            plan = _over(plan, some, plan.titles)
        counts = {site.output: _labels(overlay) for overlay, site in some}
        key = _key(paint(canvas, plan, (style_of(walked, lines, counts) for lines in (3, 2, 1)), everything))
    if alone:
        canvas.scales(first.scales, legend_of(found.values()), _types(layers))
    else:
        canvas.legend(key, _types(layers), padding=_padded(layers))
    return canvas.picture()


def compare(
    records: Mapping[str, Record],
    *,
    everything: bool = False,
    labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Picture:
    """Draw the states of several cells over the same time steps, one row each, on one scale.

    Args:
        records: By the cell's name; each from `bptt.backward`. Of each all layers and directions are drawn.
        everything, labels, title: As `unrolled`.
    Raises:
        DrawError: There is no record, or the sequences differ in length.
        RecordError: A record has no sequence.
    """
    walks = [(name, s) for name, record in records.items() for s in (record.sequences.values() or [record.sequence()])]
    lengths = {name: s.steps for name, s in walks}
    if len({s.steps for _, s in walks}) != 1:
        found = ", ".join(f"{name} T={t}" for name, t in lengths.items()) or "no record"
        raise DrawError(f"Cells are compared over one sequence; found {found}.\n  Give records of equal length.")
    labels = labelled(labels, next(iter(lengths.values())))
    called = {
        (name, s.name): name if len(record.sequences) == 1 else f"{name} {s.name}"
        for name, record in records.items() for s in record.sequences.values()
    }  # fmt: skip
    canvas = Canvas("compare")
    story = [""]
    for name, s in walks:
        words = f"{called[name, s.name]}: {_reach(s)}"
        if story[-1] and extent(f"{story[-1]}   {words}", 11) > Canvas.room[0] - 8:
            story.append(words)
        else:
            story[-1] += ("   " if story[-1] else "") + words
    canvas.caption(title or f"{', '.join(records)}: how much of the loss's gradient reaches each step", *story)
    groups = [
        [Row(f"{called[name, s.name]}  {letter_of(x)}", letter_of(x), s.readings(x)) for x in s.states]
        for name, s in walks
    ]  # fmt: skip
    strip(canvas, groups, labels, everything, [s.name for _, s in walks if s.reverse])
    drawn = [[s] for _, s in walks]
    canvas.legend("one tile a step:\n‖∂L/∂name‖", _types(drawn), padding=_padded(drawn))
    return canvas.picture()


# Words


def _title(record: Record, layers: Layers, sample: int | None, found: Mapping[str, Overlay]) -> str:
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
    if found:
        return f"{', '.join(parts)}: {next(iter(found.values())).title}"
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
            found = f"{called[s.name]} {' / '.join(shown(r[t]) for t in ends(s))} = {ratio(s, r)}"
            if extent(f"{lines[-1]}     {found}", 11) > Canvas.room[0] - 8:
                lines.append(found)
            else:
                lines[-1] += f"     {found}"
        return lines
    parts = []
    for name in s.states:
        symbol, readings = letter_of(name), s.readings(name)
        first, last = (f"‖∂L/∂{subscript(symbol, t + 1)}‖ = {shown(readings[t])}" for t in ends(s))
        parts.append(f"{first}   {last}   ratio {ratio(s, readings)}")
    return ["      ".join(reversed(parts))]


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


def _types(layers: Layers) -> set[Any]:
    """Of the numbers that the gradients are made of."""
    return {s.dtype for layer in layers for s in layer}


def _more(layers: Layers) -> list[str]:
    """How many samples have not ended, behind the name of each step."""
    s = layers[0][0]
    n = len(s.lengths)
    return ["" if real == n else f"   {real} of {n}" if real else "   padding" for real in real_samples(s)]


def _key(style: Style) -> str:
    """How to read a box."""
    return {3: "name\nmean value\ng = ‖∂L/∂name‖", 2: "name\ng = ‖∂L/∂name‖", 1: "name\ng = ‖∂L/∂name‖"}[style.lines]


def _reach(sequence: SequenceRecord) -> str:
    """First to last along each lane."""
    parts = []
    for name in sequence.states:
        first, last = (f"‖∂L/∂{subscript(letter_of(name), t + 1)}‖" for t in ends(sequence))
        parts.append(f"{first} / {last} = {ratio(sequence, sequence.readings(name))}")
    return ", ".join(parts)


# The steps of the cell, gate and op levels


def _steps(
    canvas: Canvas, layers: Layers, scene: Scene, level: str, everything: bool, found: Mapping[str, Overlay]
) -> str:
    """One layer and direction; gives how to read a box."""
    sequence = layers[0][0]
    states = frozenset(sequence.states)
    lanes = {s: sequence.readings(s) for s in sequence.states}
    firsts = (None, scene.first) if sequence.reverse else (scene.first, None)
    plan = Plan(
        scene.steps, firsts, lanes, states if sequence.reverse else frozenset(), _more(layers), {}, SIZES[level][0],
        cuts=scene.cuts,
    )  # fmt: skip
    typical = scene.typical
    if sequence.name in found:
        overlay = found[sequence.name]
        site = Site(str, tuple(sequence.states), scene.output)
        plan = _over(plan, [(overlay, site)], {words: (lane,) for lane, words in overlay.sides.items()}, level)
        typical = [plan.steps[step.time] for step in typical]
    return _key(paint(canvas, plan, (style_of_one(sequence, typical, level, lines) for lines in (3, 2)), everything))


# A measure over them


def _site(w: Walked, top: Sequence[Walked]) -> Site:
    """Where a walk stands among several: the loss hangs on the walks of the top layer."""
    def key_of(key: str) -> str:
        return key if key == "loss" and w in top else w.key(key)

    return Site(key_of, tuple(map(w.key, w.sequence.states)), w.output)


def _over(
    plan: Plan, some: Sequence[tuple[Overlay, Site]], titles: Mapping[str, tuple[str, ...]], level: str = "cell"
) -> Plan:
    """The same with measures."""
    uses = {track.keys[0]: site.output for o, site in some for track in o.tracks if track.place == "use"}
    if level != "cell":  # there each use has its label already
        uses = {}

    def with_marks(step: Step | None) -> Step | None:
        return None if step is None else marked(step, some, uses)

    steps = plan.steps
    firsts = (with_marks(plan.first[0]), with_marks(plan.first[1]))
    return plan._replace(
        steps=Lazy(lambda t: marked(steps[t], some, uses), len(steps)), first=firsts, over=over(some), titles=titles
    )


def _labels(overlay: Overlay) -> int:
    """How many labels stand on a box at the cell level."""
    return sum(track.place == "use" for track in overlay.tracks)


def _measured_rows(s: SequenceRecord, name: str, found: Mapping[str, Overlay]) -> list[Row]:
    """The rows of a measure in a strip; none where it stands beside the gradients."""
    if s.name not in found or not found[s.name].alone:
        return []
    return [Row(f"{name}{track.title}", "", (), track.marks) for track in found[s.name].tracks]


def _lost(s: SequenceRecord, overlay: Overlay | None) -> dict[int, str]:
    """By the step that a cut stands before, what is lost there of the lane that loses most."""
    if overlay is None:
        return {}
    some = {
        t: max((track.marks[t] for track in overlay.tracks), key=lambda m: -1.0 if m is None else m.value)
        for t in sorted(overlay.cuts)
    }
    return {t + s.reverse: "" if mark is None else mark.text.replace("\n", ", ") for t, mark in some.items()}


def _findings(canvas: Canvas, layers: Layers, found: Mapping[str, Overlay]) -> list[str]:
    """What the measures come to, in lines that fit."""
    called = titles([s for layer in layers for s in layer])
    single = len(called) == 1
    return [
        line for name, overlay in found.items()
        for line in canvas.wrapped(overlay.found if single else f"{called[name]}  {overlay.found}", 11)
    ]  # fmt: skip
