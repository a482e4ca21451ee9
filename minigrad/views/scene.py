"""What to draw: for each level of detail, the boxes of every step and what flows between them.

Read from a Record alone. A box's number is the norm of the loss's gradient with respect to it; a
flow's number is the part of that gradient that comes back along this one way.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np

from ..bptt.record import Box, Graph, OpNode, ParameterRecord, Reading, Record, SequenceRecord
from ..clip import norm_of
from ..engine import Array
from ..errors import DrawError, RecordError
from .palette import Mark, number

__all__ = ["OPS", "Card", "Lazy", "Pill", "Scene", "Step", "build", "cuts_of", "ends", "labelled", "letter_of", "ratio",
           "real_samples", "short_name", "subscript", "visible"]  # fmt: skip

_DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
OPS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "/", "negative": "−", "sigmoid": "σ", "power": "^",
        "matmul": "@", "absolute": "| |", "identity": "=", "getitem": "[ ]", "reshape": "reshape"}  # fmt: skip


class Pill(NamedTuple):
    """A use of a shared weight: its short and its full name, and the norm of this use's term; or a measure's mark."""

    name: str
    parameter: str
    reading: Reading
    mark: Mark | None = None


class Card(NamedTuple):
    """A box: its kind ("state", "gate", "input", "initial", "loss", "join"), its lines, its gradient.

    The loss and a join have no gradient of their own to show; the loss may have an aim, what the step should predict.
    A mark stands in the gradient's place; a plain box shows neither.
    """

    kind: str
    title: str
    line: str
    reading: Reading
    about: str
    pills: tuple[Pill, ...] = ()
    mark: Mark | None = None
    plain: bool = False
    aim: str = ""


@dataclass(slots=True)
class Step:
    """One time step: its boxes, the flows inside it, and those to the states that it started from.

    From the states in `cut` comes the value alone: nothing leads back to them, as after `detach()`.
    """

    time: int
    cards: dict[str, Card] = field(default_factory=dict)
    flows: dict[tuple[str, str], Reading] = field(default_factory=dict)
    carried: dict[tuple[str, str], Reading] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()


class Scene(NamedTuple):
    """What to draw: the steps, the first states as a step of their own, steps that together have every box, the output.

    The output is the state that the loss or the layer above looks at; the cuts are the steps that start from a state
    without a way back to it.
    """

    steps: Sequence[Step]
    first: Step
    typical: Sequence[Step]
    output: str
    cuts: tuple[int, ...] = ()


def visible(labels: Sequence[str] | None) -> list[str] | None:
    """Labels as they can stand in a box: unprintable characters by their code point, at most 8 letters."""
    if labels is None:
        return None
    clean = ["".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in str(label)) for label in labels]
    return [s if len(s) <= 8 else s[:7] + "…" for s in clean]


def labelled(given: Sequence[str] | None, steps: int, name: str = "labels") -> list[str] | None:
    """`visible` labels, one a step.

    Raises:
        DrawError: There are more or fewer.
    """
    if given is not None and len(given) != steps:
        raise DrawError(f"{len(given)} {name} for {steps} time steps.\n  Give one a step.")
    return visible(given)


def real_samples(sequence: SequenceRecord) -> list[int]:
    """How many samples have not ended, for every step."""
    ends = np.sort(sequence.lengths)
    real = len(ends) - np.searchsorted(ends, np.arange(sequence.steps), side="right")
    return cast("list[int]", real.tolist())


def ends(s: SequenceRecord) -> tuple[int, int]:
    """The first and the last step of the walk that are no padding: where the gradient ends, where it begins."""
    last = int(s.lengths.max()) - 1
    return (last, 0) if s.reverse else (0, last)


def ratio(s: SequenceRecord, readings: Sequence[Reading]) -> str:
    """The norm where the gradient ends, in parts of that where it begins."""
    first, last = (readings[t] for t in ends(s))
    return number(first.norm / last.norm) if last.kind == "value" and math.isfinite(first.norm) else "—"


def cuts_of(record: Record, s: SequenceRecord) -> dict[int, frozenset[str]]:
    """By step the states that it starts from without a way back to them, though other steps have one.

    With the graph it is seen by the ways themselves, without it by the gradients that came back: exactly 0 along a way
    is no cut.
    """
    graph, back = record.graph, 1 if s.reverse else -1
    real = real_samples(s)
    steps = [t for t in range(s.steps) if 0 <= t + back < s.steps and real[t]]
    if graph is None or s.kernel:
        reached = np.logical_or.reduce(list(s.reached.values()))
        used = {name: some for name, some in s.passed.items() if some.any()}
        starts = {t: frozenset(name for name, some in used.items() if not some[t + back]) for t in steps if reached[t]}
        return {t: names for t, names in starts.items() if names}
    ways: dict[str, set[int]] = {name: set() for name in s.states}  # the steps that use it
    for a, b in ((graph.boxes[flow.origin], graph.boxes[flow.to]) for flow in graph.flows):
        own = a.sequence == b.sequence == s.name and a.kind == "state"
        if own and b.time is not None and a.time == b.time + back:
            ways[a.symbol].add(b.time)
    there = {b.time for b in graph.boxes if b.sequence == s.name and b.kind == "state"}
    found = {t: frozenset(name for name, used in ways.items() if used and t not in used) for t in steps}
    return {t: names for t, names in found.items() if names and t in there}


def subscript(symbol: str, t: int) -> str:
    """f and 12 give f₁₂; a longer name keeps a space."""
    return f"{symbol}{'' if len(symbol) <= 2 else ' '}{str(t).translate(_DIGITS)}"


def short_name(parameter: str, sequence: str = "l0") -> str:
    """lstm.weight_hh_l0 gives W_hh, lstm.bias_ih_l0 gives b_ih; another name its last part, or two."""
    above, _, name = parameter.rpartition(".")
    if name in ("weight", "bias"):
        return f"{above.rpartition('.')[2]}.{name}" if above else name
    layer = sequence.rpartition("/")[2].partition(" #")[0]  # all that is drawn belongs to it
    return name.removesuffix(f"_{layer}").replace("weight_", "W_", 1).replace("bias_", "b_", 1)


def build(
    record: Record, sequence: SequenceRecord, level: str, labels: Sequence[str] | None, targets: Sequence[str] | None,
    above: str | None = None,
) -> Scene:  # fmt: skip
    """Every step of a sequence at one level; `above` is the layer that reads its outputs, None for the loss.

    Raises:
        RecordError: The level needs the graph, and the record was made without it.
    """
    scene = _Scene(record, sequence, labels, targets, above)
    if level == "cell":
        return scene.cells()
    if sequence.kernel:
        raise RecordError(
            f"level={level!r} draws the gates and ops of a step, and {sequence.name} ran in one op, a kernel.\n"
            "  Draw bptt.expand(loss), which replays its steps, or level='cell' or 'strip'."
        )
    if record.graph is None:
        raise RecordError(
            f"level={level!r} draws the gates and ops of a step, and this record was made without them.\n"
            "  Make it with bptt.backward(loss, keep='ops'), or draw level='cell' or 'strip'."
        )
    return scene.gates(record.graph) if level == "gate" else scene.ops(record.graph)


class Lazy(Sequence[Step]):
    """Steps that are made when somebody asks for them: of 100,000, most stay folded."""

    def __init__(self, make: Callable[[int], Step], count: int) -> None:
        self.make, self.length = functools.lru_cache(maxsize=None)(make), count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, t: Any) -> Any:
        if isinstance(t, slice):
            return [self.make(k) for k in range(*t.indices(self.length))]
        return self.make(range(self.length)[t])


class _Scene:
    def __init__(
        self, record: Record, sequence: SequenceRecord, labels: Sequence[str] | None, targets: Sequence[str] | None,
        above: str | None,
    ) -> None:  # fmt: skip
        self.record, self.sequence, self.labels, self.targets = record, sequence, labels, targets
        self.above, self.where = above, " / ".join(sequence.scope)
        self.back = 1 if sequence.reverse else -1  # from a step to the one before it on its walk
        self.start = sequence.steps - 1 if sequence.reverse else 0
        self.taken: dict[str, str] = dict.fromkeys((*sequence.states, "x", "loss"), "")  # names of boxes
        boxes = record.graph.boxes if record.graph is not None else ()
        parts = {(b.symbol, b.label) for b in boxes if b.sequence == sequence.name and b.kind == "gate"}
        symbols = Counter(symbol for symbol, _ in parts)
        self.shared = {symbol for symbol, count in symbols.items() if count > 1}  # the record has one's values alone
        self.readings = {s: sequence.readings(s) for s in sequence.states}
        self.real = real_samples(sequence)
        self.means = {s: self._means(value) for s, value in sequence.states.items()}
        self.input_means = sequence.input_means
        norms = sequence.input_norms
        blank = Reading(0.0, "no path") if sequence.complete else Reading(math.nan, "no backward yet")
        self.inputs = [blank] * sequence.steps if norms is None else sequence.over_batch(norms)
        self.arrivals = {
            (s, where): sequence.over_batch(norms, sequence.reached[s] if sequence.complete else None)
            for s, parts in sequence.arrivals.items()
            for where, norms in parts.items()
        }

        # The state that the loss looks at: that which most of its gradient enters; where they tie, the first field.
        sums = {s: float(np.nansum(parts["outside"])) for s, parts in sequence.arrivals.items()}
        output = next(iter(sequence.initial), "h")
        self.output = max(sums, key=lambda s: (sums[s], s == output))
        self.cuts = cuts_of(record, sequence)

    def _means(self, value: Array) -> list[float]:
        """Over the samples that have not ended."""
        if min(self.real) == value.shape[1]:
            return cast("list[float]", value.mean(axis=(1, 2)).tolist())
        real = self.sequence.lengths > np.arange(len(value))[:, np.newaxis]
        return [float(v[r].mean()) if r.any() else math.nan for v, r in zip(value, real, strict=True)]

    def _mean_of(self, gate: str, t: int, whole: float) -> str:
        """Over the samples that have not ended; "" where the record keeps no values of them alone."""
        if self.real[t] == len(self.sequence.lengths):
            return number(whole)
        values = None if gate in self.shared else self.sequence.gates.get(gate)
        return number(float(values[t][self.sequence.lengths > t].mean())) if values is not None and self.real[t] else ""

    # Boxes that every level has

    def _at(self, t: int, what: str) -> str:
        return f"{self.where + ' / ' if self.where else ''}t={t + 1} / {what}{self._of(t)}"

    def _of(self, t: int) -> str:
        real, batch = self.real[t], len(self.sequence.lengths)
        return "" if real == batch else f"; {real} of {batch} samples, the others have ended"

    def state(self, name: str, t: int) -> Card:
        mean = self.means[name][t]
        kind = {"h": "hidden state", "c": "cell state"}.get(name, "state")
        about = self._at(t, f"{kind} {name}, mean {number(mean)}, ‖dL/d{name}‖ = {self.readings[name][t].norm:.3g}")
        unknown = math.isnan(mean) and self.readings[name][t].kind in ("no path", "padding")  # not recorded
        line = "" if unknown else number(mean)
        return Card("state", subscript(letter_of(name), t + 1), line, self.readings[name][t], about)

    def first(self) -> Step:
        step = Step(-1)
        for name, value in self.sequence.initial.items():
            g = self.sequence.initial_gradients.get(name)
            if not self.sequence.complete:
                reading = Reading(math.nan, "no backward yet")
            elif g is None:
                reading = Reading(0.0, "no path")
            else:
                reading = self.sequence.norm_reading(norm_of(g))
            mean = float(value.mean())
            of = f", t={self.start + 1}" if self.sequence.reverse else ""
            about = f"the state {name} before the first step{of}, mean {number(mean)}"
            step.cards[name] = Card("initial", subscript(letter_of(name), 0), number(mean), reading, about)
        return step

    def input(self, t: int) -> Card:
        mean = float(self.input_means[t])
        unknown = math.isnan(mean) and self.inputs[t].kind == "padding"
        label = "" if unknown else number(mean)
        if self.labels is not None:
            label = self.labels[t] and f"“{self.labels[t]}”"
        about = self._at(t, "input x" if math.isnan(mean) and not label else f"input x, mean {number(mean)}")
        return Card("input", subscript("x", t + 1), label, self.inputs[t], about)

    def loss(self, t: int) -> Card | None:
        """What uses the step's output: its part of the loss, or the layer above."""
        if self.above is not None:
            outside = self.arrivals[self.output, "outside"][t]
            if outside.kind == "padding":
                return None
            about = self._at(t, f"what {self.above} reads, and the loss where it reads this too: {outside.norm:.3g}")
            return Card("join", "to", self.above, Reading(1.0, "value"), about)
        losses = self.record.losses
        if losses is None or t >= len(losses):
            return None
        aim = "" if self.targets is None else self.targets[t] and f"“{self.targets[t]}”"
        if math.isnan(losses[t]):  # no loss here, unless the loss itself is NaN or the step's part is not known
            if self.arrivals[self.output, "outside"][t].kind not in ("value", "not finite"):
                return None
            if math.isfinite(self.record.loss):
                about = self._at(t, "the loss reads this; the record has no number for the part of this step")
                return Card("loss", "loss", "", Reading(1.0, "value"), about, aim=aim)
        about = self._at(t, f"its part of the loss{aim and f' for {aim}'}: {losses[t]:.4g}")
        return Card("loss", subscript("L", t + 1), number(float(losses[t])), Reading(1.0, "value"), about, aim=aim)

    @property
    def _unequal(self) -> bool:
        return min(self.real) < len(self.sequence.lengths)

    def _choice(self, card: Card, t: int, state: str) -> Card:
        """The op with which `unroll` gives each sample the state that it starts this step from."""
        before, first = subscript(letter_of(state), t + 1 + self.back), subscript(letter_of(state), 0)
        other = f"one whose walk starts here or later, from {first}" if self.sequence.reverse else (
            f"one that has ended computes on {first}, and nothing comes of it"
        )
        about = f"a sample goes on from {before}; {other}. {card.about}"
        return card._replace(title=f"{before} or {first}", about=about)

    def step(self, t: int) -> Step:
        """The input, the states and the loss of one step, and the flow from the loss."""
        step = Step(t, cut=self.cuts.get(t, frozenset()))
        for name in self.sequence.states:
            step.cards[name] = self.state(name, t)
        step.cards["x"] = self.input(t)
        loss = self.loss(t)
        if loss is not None:
            step.cards["loss"] = loss
            step.flows[self.output, "loss"] = self.arrivals[self.output, "outside"][t]
        return step

    def steps(self) -> list[Step]:
        return [self.step(t) for t in range(self.sequence.steps)]

    # Levels

    def cells(self) -> Scene:
        """Each step as its states: how much of the gradient arrives from the loss, from h, from the next step."""
        aside = [
            s for s in self.sequence.states if s != self.output and np.any(self.sequence.arrivals[s]["same"])
        ]
        first = self.first()

        def cell(t: int) -> Step:
            step = self.step(t)
            step.flows["x", self.output] = step.cards["x"].reading
            for name in aside:
                step.flows[name, self.output] = self.arrivals[name, "same"][t]
            for name in self.sequence.states:
                if t != self.start:
                    step.carried[name, name] = self.arrivals[name, "next"][t + self.back]
                elif name in first.cards:
                    step.carried[name, name] = first.cards[name].reading
            return step

        steps = Lazy(cell, self.sequence.steps)
        scored = 0 if self.record.losses is None else int(np.argmin(np.isnan(self.record.losses)))
        outside = (r.kind in ("value", "not finite") for r in self.arrivals[self.output, "outside"])
        entered = next((t for t, enters in enumerate(outside) if enters), 0)
        typical = dict.fromkeys((0, len(steps) - 1, min(scored, len(steps) - 1), entered))
        return Scene(steps, first, [steps[t] for t in typical], self.output, tuple(self.cuts))

    def gates(self, graph: Graph) -> Scene:
        """Each step as its named parts, with the exact part of the gradient on every way between two."""
        steps, name = self.steps(), self.sequence.name
        keys: dict[int, str] = {}
        for box in reversed(graph.boxes):
            if box.sequence != name or box.time is None:
                if box.sequence == name and box.kind == "initial":
                    keys[box.id] = box.symbol
                continue
            keys[box.id] = key = self._key(box)
            if box.kind == "gate":
                line = self._mean_of(box.symbol, box.time, box.mean)
                mean = f"mean {line}, " if line else ""
                about = self._at(box.time, f"{box.label}, {mean}gradient {box.reading.norm:.3g}")
                title = subscript(box.symbol, box.time + 1)
                steps[box.time].cards[key] = Card("gate", title, line, box.reading, about)
        for flow in graph.flows:
            a, b = graph.boxes[flow.origin], graph.boxes[flow.to]
            if b.time is None or b.sequence != name or a.id not in keys:
                continue
            if a.time == b.time:
                steps[b.time].flows[keys[a.id], keys[b.id]] = flow.reading
            elif a.time == b.time + self.back or (a.kind == "initial" and b.time == self.start):
                steps[b.time].carried[keys[a.id], keys[b.id]] = flow.reading
                if b.label == "where" and a.kind == "state" and self._unequal:
                    card = steps[b.time].cards[keys[b.id]]
                    steps[b.time].cards[keys[b.id]] = self._choice(card, b.time, a.symbol)
        leaves = self._leaves(graph)
        for parameter in self.record.parameters.values():
            self._pills(graph, steps, keys, parameter, leaves.get(parameter.name))
        return self._padded(steps)

    def _padded(self, steps: list[Step]) -> Scene:
        """Steps past the end of every sample have no numbers."""
        nothing = Reading(0.0, "padding")
        for step in (step for step in steps if not self.real[step.time] and self.sequence.complete):
            for key, card in step.cards.items():
                pills = tuple(pill._replace(reading=nothing) for pill in card.pills)
                step.cards[key] = card._replace(line="", reading=nothing, pills=pills)
            for flows in (step.flows, step.carried):
                flows.update(dict.fromkeys(flows, nothing))
        return Scene(steps, self.first(), steps, self.output, tuple(self.cuts))

    def _key(self, box: Box) -> str:
        """A name of its own for each part of a step, also where a scope is called like a state or another scope."""
        name = box.symbol
        if box.kind == "gate":
            while self.taken.setdefault(name, box.label) != box.label:
                name += "'"
        return name

    def _pills(
        self, graph: Graph, steps: list[Step], keys: dict[int, str], parameter: ParameterRecord, leaf: int | None
    ) -> None:  # fmt: skip
        """Put each use of a weight on the box that uses it (the first, where several do)."""
        norms = parameter.by_step(self.sequence.name) if self.record.complete else {}
        done: set[int] = set()
        for node in graph.nodes:
            box = graph.boxes[node.box] if node.box >= 0 else None
            if leaf not in node.parents or box is None or box.time is None or box.time in done or box.id not in keys:
                continue
            done.add(box.time)
            norm = norms.get(box.time)
            reading = Reading(math.nan, "no backward yet") if norm is None else self.sequence.norm_reading(norm)
            cards = steps[box.time].cards
            card = cards[keys[box.id]]
            pill = Pill(short_name(parameter.name, self.sequence.name), parameter.name, reading)
            cards[keys[box.id]] = card._replace(pills=(*card.pills, pill))

    def ops(self, graph: Graph) -> Scene:
        """Each step as its ops."""
        steps, name = self.steps(), self.sequence.name
        where: dict[int, tuple[int, str]] = {}  # node: (time, key)
        counts: dict[tuple[int, str], int] = {}
        names = {leaf: parameter for parameter, leaf in self._leaves(graph).items()}
        for node in graph.nodes:
            box = graph.boxes[node.box] if node.box >= 0 else None
            if box is None or box.sequence != name:
                continue
            if box.time is None:
                if box.kind == "initial":
                    where[node.id] = (self.start + self.back, box.symbol)
                continue
            t = box.time
            role = node.role
            key = box.symbol
            if not role:
                counts[t, f"{key} {node.op}"] = n = counts.get((t, f"{key} {node.op}"), 0) + 1
                key = f"{key} {node.op} {n}"
            where[node.id] = (t, key)
            symbol = OPS.get(node.op or "", node.op or "")
            if role and box.kind == "state":
                card = steps[t].cards[key]
                steps[t].cards[key] = card._replace(title=f"{card.title} = {symbol}", pills=self._uses(node, names))
            elif not role:
                gate = box.kind == "gate" and node.outlet
                title = f"{subscript(box.symbol, t + 1)} = {symbol}" if gate and len(box.symbol) <= 2 else symbol
                line = self._mean_of(box.symbol if gate else "", t, node.mean)
                mean = f"mean {line}, " if line else ""
                about = f"{' / '.join(node.scope)}: {node.op} {node.shape}, {mean}{node.source}"
                steps[t].cards[key] = Card("gate", title, line, node.reading, about, self._uses(node, names))
        for node in graph.nodes:
            if node.id not in where or not 0 <= where[node.id][0] < len(steps):
                continue
            t, key = where[node.id]
            for parent, part in zip(node.parents, node.parts, strict=True):
                if parent not in where:
                    continue
                s, origin = where[parent]
                if s == t and origin != key:
                    steps[t].flows[origin, key] = part
                elif s == t + self.back:
                    steps[t].carried[origin, key] = part
                    if node.op == "where" and origin in self.sequence.states and self._unequal:
                        steps[t].cards[key] = self._choice(steps[t].cards[key], t, origin)
        return self._padded(steps)

    def _leaves(self, graph: Graph) -> dict[str, int]:
        """The leaf of each parameter: in the order of creation, as names need not be there, nor differ."""
        fed = {p for node in graph.nodes if node.op == "unstack" for p in node.parents}  # an unrolled sequence
        leaves = [n.id for n in graph.nodes if n.op is None and n.box < 0 and n.id not in fed]
        return dict(zip(self.record.parameters, leaves, strict=False))

    def _uses(self, node: OpNode, names: dict[int, str]) -> tuple[Pill, ...]:
        return tuple(
            Pill(short_name(names[p], self.sequence.name), names[p], part)
            for p, part in zip(node.parents, node.parts, strict=True)
            if p in names
        )


def letter_of(name: str) -> str:
    return {"c": "C"}.get(name, name)  # the textbook's C_t
