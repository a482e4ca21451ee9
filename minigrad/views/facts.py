"""One time step of a record: its boxes and flows as at the gate level, its ops, and what can be said of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..bptt.gates import SATURATED_ABOVE, SATURATED_BELOW
from ..bptt.record import Box, OpNode, Reading, Record, SequenceRecord
from ..engine import Array
from .equation import clean, expression, low
from .layers import above
from .palette import number, shown
from .scene import OPS, Card, build, letter_of, short_name, subscript

__all__ = ["Facts", "before", "incoming", "times"]


_INCOMING = "\0before the step: "  # as no scope is called


def before(state: str) -> str:
    """The key of a state that comes in."""
    return f"{_INCOMING}{state}"


def incoming(key: str) -> str | None:
    """Which state comes in by this key; None: another box."""
    return key.removeprefix(_INCOMING) if key.startswith(_INCOMING) else None


def times(facts: Facts) -> tuple[str, str]:
    """The textbook's indices: of this step, and of the one before it on its walk."""
    return low("t"), low("t+1" if facts.s.reverse else "t−1")


class Facts:
    """One step of a record: its boxes and flows as at the gate level, and its ops."""

    def __init__(self, record: Record, s: SequenceRecord, t: int) -> None:
        assert record.graph is not None
        self.record, self.s, self.t = record, s, t
        self.back = 1 if s.reverse else -1
        self.first = t == (s.steps - 1 if s.reverse else 0)
        self.scene = build(record, s, "gate", None, None, above(record, s))
        here = self.scene.steps[t]
        self.flows, self.carried = here.flows, here.carried
        self.samples = np.flatnonzero(s.lengths > t)
        self.real = len(self.samples)
        self.cards = here.cards
        self.nodes, self.boxes = record.graph.nodes, record.graph.boxes
        self.here = [n for n in self.nodes if n.box >= 0 and self.at(n) == (s.name, t)]
        # `unroll` chooses what each sample starts this step from, where their lengths differ.
        labels = {b.symbol: b.label for b in self.boxes if (b.sequence, b.time) == (s.name, t)}
        self.unequal = bool(s.lengths.min() < s.steps)
        self.stands_for = {a: b for a, b in self.carried if labels.get(b) == "where" and self.unequal}

    def at(self, node: OpNode) -> tuple[str | None, int | None]:
        return self.boxes[node.box].sequence, self.boxes[node.box].time

    def called(self, symbol: str, t: int = 0) -> str:
        """The letter with the number of this step, or of one so many later."""
        return subscript(letter_of(symbol), self.t + 1 + t)

    def before(self, state: str) -> str:
        """The name of a state before this step."""
        return subscript(letter_of(state), 0) if self.first else self.called(state, self.back)

    # Boxes

    def incoming(self) -> dict[str, Card]:
        """The states before this step, as far as anything in it uses them."""
        found = {}
        earlier = self.scene.first.cards if self.first else self.scene.steps[self.t + self.back].cards
        for state in dict.fromkeys(a for a, _ in self.carried):
            card = self.cards[self.stands_for[state]] if state in self.stands_for else earlier.get(state)
            if card is not None:
                found[state] = card._replace(kind="initial", pills=())
        return found

    def comes(self, state: str, key: str) -> Reading:
        """What goes back from a box of this step to a state before it."""
        stand_in = self.stands_for.get(state)
        way = self.carried.get((state, key)) if stand_in is None else self.flows.get((stand_in, key))
        return Reading(0.0, "no path") if way is None else way

    def op(self, node: OpNode, title: str = "") -> Card:
        """A box for a single op."""
        title = title or OPS.get(node.op or "", node.op or "")
        about = f"{' / '.join(node.scope)}: {node.op} {node.shape}, mean {number(node.mean)}, {node.source}"
        whole = self.real == len(self.s.lengths)  # else the mean is also over samples that have ended
        return Card("op", title, number(node.mean) if whole else "", self.padded(node.reading), about)

    def padded(self, reading: Reading) -> Reading:
        return reading if self.real or not self.s.complete else Reading(0.0, "padding")

    def part(self, child: OpNode, parent: OpNode) -> Reading:
        """What an op hands to one of those that it was computed from."""
        return self.padded(child.parts[child.parents.index(parent.id)])

    # Ops

    def inside(self, symbol: str, kind: str = "gate") -> list[OpNode]:
        return [n for n in self.here if (self.boxes[n.box].symbol, self.boxes[n.box].kind) == (symbol, kind)]

    def outlet(self, symbol: str, *ops: str) -> OpNode | None:
        """The one op that a named part hands on, if it is one of these."""
        out = [n for n in self.inside(symbol) if n.outlet]
        return out[0] if len(out) == 1 and out[0].op in ops else None

    def state(self, name: str, *ops: str) -> OpNode | None:
        found = [n for n in self.inside(name, "state") if n.role and n.op in ops]
        return found[0] if found else None

    def old(self, state: str) -> OpNode | None:
        """What this step starts from."""
        want = (self.s.name, None, "initial", state) if self.first else (
            self.s.name, self.t + self.back, "state", state
        )
        for n in self.nodes:
            if n.role and n.box >= 0:
                b = self.boxes[n.box]
                if (b.sequence, b.time, b.kind, b.symbol) == want:
                    choice = (m for m in self.here if m.op == "where" and n.id in m.parents and self.unequal)
                    return next(choice, n)
        return None

    def find(self, op: str, *operands: OpNode | None) -> OpNode | None:
        """The op of this step on exactly these operands."""
        if any(n is None for n in operands):
            return None
        wanted = sorted(n.id for n in operands if n is not None)
        return next((n for n in self.here if n.op == op and sorted(n.parents) == wanted), None)

    def user(self, op: str, operand: OpNode | None, box: str) -> OpNode | None:
        """The op inside a named part that uses this."""
        return next((n for n in self.inside(box) if n.op == op and operand and operand.id in n.parents), None)

    @property
    def biased(self) -> bool:
        """Whether the pre-activations have biases."""
        linear = (n for n in self.inside("a") if n.op == "linear")
        return any(len(self.nodes[p].shape) == 1 for n in linear for p in n.parents)

    def named(self) -> dict[str, Box]:
        """The named parts and states of this step by their keys at the gate level, oldest first."""
        taken = dict.fromkeys((*self.s.states, "x", "loss"), "")
        found = {}
        for box in reversed(self.boxes):
            if box.sequence != self.s.name or box.time is None or box.kind not in ("gate", "state"):
                continue
            key = box.symbol
            while box.kind == "gate" and taken.setdefault(key, box.label) != box.label:
                key += "'"
            if box.time == self.t:
                found[key] = box
        return found

    def equation(self, key: str, box: Box, names: Mapping[int, str]) -> str:
        """What the ops of a box come to, written as one expression of what stands in the others."""
        texts: dict[int, tuple[str, int]] = {}  # and how tightly it holds together
        now, old = times(self)

        def of(p: int) -> tuple[str, int]:
            if p in texts:
                return texts[p]
            node = self.nodes[p]
            if node.box < 0:
                return clean(short_name(node.name, self.s.name) if node.name else "W"), 3
            other = self.boxes[node.box]
            here = (other.sequence, other.time) == (self.s.name, self.t)
            name = clean(names.get(other.id, letter_of(other.symbol)))
            return f"{name}{now if here else old}", 3

        last = ""
        for node in self.here:
            if node.op == "where" and self.unequal and node.parents:  # of `unroll`: the state itself
                texts[node.id] = of(node.parents[0])
            elif node.box == box.id:
                texts[node.id] = text, _ = expression(node, [of(p) for p in node.parents])
                last = text if node.role or node.outlet else last
        return f"{clean(names[box.id])}{now} = {last}" if last else ""

    # Numbers

    def numbers(self, key: str, straight: Reading | None) -> list[str]:
        """Mean, saturated share and gradient of what a box hands on, and what of it goes straight to its old value."""
        card = self.cards[key]
        words = [f"mean {card.line}"] if card.line else []
        gate = card.kind == "gate"
        values = (self.s.gates if gate else self.s.states).get(key)
        node = (self.outlet if gate else self.state)(key, "sigmoid", "tanh", "relu")
        if values is not None and node is not None and self.real:
            words.append(_saturated(node.op or "", values[self.t][self.samples]))
        if self.s.complete:
            norm = shown(card.reading)
            words.append("no path to the loss" if norm == "no path" else f"‖∂L/∂{self.called(key)}‖ = {norm}")
            if straight is not None and straight.kind != "no path":
                words.append(f"{self.straight(key)}: {shown(straight)}")
        return words

    def straight(self, key: str) -> str:
        """What the way of a gradient from a state straight to its old value is called."""
        return f"straight back to {self.before(key)}"


def _saturated(op: str, values: Array) -> str:
    if op == "relu":
        return f"{_percent(float(np.mean(values <= 0)))} are 0"
    bottom, top = SATURATED_BELOW, SATURATED_ABOVE
    if op == "tanh":
        bottom, top = 2 * bottom - 1, 2 * top - 1
    return f"saturated {_percent(float(np.mean((values < bottom) | (values > top))))}"


def _percent(share: float) -> str:
    text = f"{100 * share:.0f} %"
    return "< 1 %" if text == "0 %" and share > 0 else "> 99 %" if text == "100 %" and share < 1 else text
