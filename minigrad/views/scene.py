"""What to draw: for each level of detail, the boxes of every step and what flows between them.

Read from a Record alone. A box's number is the norm of the loss's gradient with respect to it; a
flow's number is the part of that gradient that comes back along this one way.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..bptt.record import Box, Graph, OpNode, ParameterRecord, Reading, Record, SequenceRecord
from ..clip import norm_of
from ..errors import DrawError, RecordError
from .palette import number

__all__ = ["OPS", "Card", "Pill", "Scene", "Step", "build", "labelled", "letter_of",
           "short_name", "subscript", "visible"]  # fmt: skip

_DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
OPS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "/", "negative": "−", "sigmoid": "σ", "power": "^",
        "matmul": "@", "absolute": "| |", "identity": "=", "getitem": "[ ]", "reshape": "reshape"}  # fmt: skip


class Pill(NamedTuple):
    """A use of a shared weight: its short and its full name, and the norm of this use's term."""

    name: str
    parameter: str
    reading: Reading


class Card(NamedTuple):
    """A box: its kind ("state", "gate", "input", "initial", "loss"), its lines, its gradient."""

    kind: str
    title: str
    line: str
    reading: Reading
    about: str
    pills: tuple[Pill, ...] = ()


@dataclass(slots=True)
class Step:
    """One time step: its boxes, the flows inside it, and those to the states of the step before."""

    time: int
    cards: dict[str, Card] = field(default_factory=dict)
    flows: dict[tuple[str, str], Reading] = field(default_factory=dict)
    carried: dict[tuple[str, str], Reading] = field(default_factory=dict)


class Scene(NamedTuple):
    """What to draw: the steps, the first states as a step of their own, and steps that together have every box."""

    steps: Sequence[Step]
    first: Step
    typical: Sequence[Step]


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
    record: Record, sequence: SequenceRecord, level: str, labels: Sequence[str] | None, targets: Sequence[str] | None
) -> Scene:
    """Every step of a sequence at one level.

    Raises:
        RecordError: The level needs the graph, and the record was made without it.
    """
    scene = _Scene(record, sequence, labels, targets)
    if level == "cell":
        return scene.cells()
    if record.graph is None:
        raise RecordError(
            f"level={level!r} draws the gates and ops of a step, and this record was made without them.\n"
            "  Make it with bptt.backward(loss, keep='ops'), or draw level='cell' or 'strip'."
        )
    return scene.gates(record.graph) if level == "gate" else scene.ops(record.graph)


class _Lazy(Sequence[Step]):
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
        self, record: Record, sequence: SequenceRecord, labels: Sequence[str] | None, targets: Sequence[str] | None
    ) -> None:
        self.record, self.sequence, self.labels, self.targets = record, sequence, labels, targets
        self.where = " / ".join(sequence.scope)
        self.taken: dict[str, str] = dict.fromkeys((*sequence.states, "x", "loss"), "")  # names of boxes
        self.readings = {s: sequence.readings(s) for s in sequence.states}
        self.means = {s: value.mean(axis=(1, 2)).tolist() for s, value in sequence.states.items()}
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

    # Boxes that every level has

    def _at(self, t: int, what: str) -> str:
        return f"{self.where + ' / ' if self.where else ''}t={t + 1} / {what}"

    def state(self, name: str, t: int) -> Card:
        mean = self.means[name][t]
        kind = {"h": "hidden state", "c": "cell state"}.get(name, "state")
        about = self._at(t, f"{kind} {name}, mean {number(mean)}, ‖dL/d{name}‖ = {self.readings[name][t].norm:.3g}")
        line = "" if math.isnan(mean) and self.readings[name][t].kind == "no path" else number(mean)  # not recorded
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
            about = f"the state {name} before the first step, mean {number(mean)}"
            step.cards[name] = Card("initial", subscript(letter_of(name), 0), number(mean), reading, about)
        return step

    def input(self, t: int) -> Card:
        mean = float(self.sequence.input_means[t])
        label = f"“{self.labels[t]}”" if self.labels is not None else number(mean)
        return Card("input", subscript("x", t + 1), label, self.inputs[t], self._at(t, f"input x, mean {number(mean)}"))

    def loss(self, t: int) -> Card | None:
        losses = self.record.losses
        if losses is None or t >= len(losses):
            return None
        if math.isnan(losses[t]):  # no loss here, unless the loss itself is NaN and something comes from it
            enters = self.arrivals[self.output, "outside"][t].kind in ("value", "not finite")
            if math.isfinite(self.record.loss) or not enters:
                return None
        aim = f" for “{self.targets[t]}”" if self.targets is not None else ""
        about = self._at(t, f"its part of the loss{aim}: {losses[t]:.4g}")
        return Card("loss", subscript("L", t + 1), number(float(losses[t])), Reading(1.0, "value"), about)

    def step(self, t: int) -> Step:
        """The input, the states and the loss of one step, and the flow from the loss."""
        step = Step(t)
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
                if t:
                    step.carried[name, name] = self.arrivals[name, "next"][t - 1]
                elif name in first.cards:
                    step.carried[name, name] = first.cards[name].reading
            return step

        steps = _Lazy(cell, self.sequence.steps)
        losses = np.atleast_1d(self.record.losses if self.record.losses is not None else np.nan)
        return Scene(steps, first, [steps[t] for t in {0, len(steps) - 1, int(np.argmin(np.isnan(losses)))}])

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
                about = self._at(box.time, f"{box.label}, mean {number(box.mean)}, gradient {box.reading.norm:.3g}")
                title = subscript(box.symbol, box.time + 1)
                steps[box.time].cards[key] = Card("gate", title, number(box.mean), box.reading, about)
        for flow in graph.flows:
            a, b = graph.boxes[flow.origin], graph.boxes[flow.to]
            if b.time is None or b.sequence != name or a.id not in keys:
                continue
            if a.time == b.time:
                steps[b.time].flows[keys[a.id], keys[b.id]] = flow.reading
            elif a.time == b.time - 1 or (a.kind == "initial" and b.time == 0):
                steps[b.time].carried[keys[a.id], keys[b.id]] = flow.reading
        leaves = self._leaves(graph)
        for parameter in self.record.parameters.values():
            self._pills(graph, steps, keys, parameter, leaves.get(parameter.name))
        return Scene(steps, self.first(), steps)

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
                    where[node.id] = (-1, box.symbol)
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
                about = f"{' / '.join(node.scope)}: {node.op} {node.shape}, mean {number(node.mean)}, {node.source}"
                steps[t].cards[key] = Card(
                    "gate", title, number(node.mean), node.reading, about, self._uses(node, names)
                )
        for node in graph.nodes:
            if node.id not in where or where[node.id][0] < 0:
                continue
            t, key = where[node.id]
            for parent, part in zip(node.parents, node.parts, strict=True):
                if parent not in where:
                    continue
                s, origin = where[parent]
                if s == t and origin != key:
                    steps[t].flows[origin, key] = part
                elif s == t - 1:
                    steps[t].carried[origin, key] = part
        return Scene(steps, self.first(), steps)

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
