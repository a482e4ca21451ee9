"""The textbook's cells: RNN, LSTM and GRU recognised by their recorded ops, and put where their drawings have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..bptt.record import Reading
from .canvas import HEADER
from .equation import low
from .facts import Facts, before, times
from .layout import Layout, Point
from .scene import Card

__all__ = ["BEFORE", "HIGH", "WIDE", "Anatomy", "Highlight", "Row", "textbook"]

WIDE, HIGH = 80.0, 50.0  # of a gate or a state
BEFORE = 20.0  # between a state that comes in and the frame
_OP = (74.0, 48.0)  # of an op between them
_PITCH = 104.0  # of two columns


class Highlight(NamedTuple):
    """What one highlight shows.

    Attributes:
        names: What it may be called.
        boxes: What stands out.
        touched: Boxes that stand back, while the ways between them and `boxes` stand out.
        rows: The equations that stand out, by the box that they compute.
        title, story: What it does, in words.
        apart: Ways that stand back all the same.
    """

    names: tuple[str, ...]
    boxes: frozenset[str]
    touched: frozenset[str]
    rows: frozenset[str]
    title: str = ""
    story: str = ""
    apart: frozenset[tuple[str, str]] = frozenset()


class Row(NamedTuple):
    """An equation: the box that it computes, what that is called, and the equation."""

    key: str
    name: str
    equation: str


@dataclass(slots=True)
class Anatomy:
    """One step: what is drawn, where, and what can be highlighted."""

    layout: Layout
    sizes: dict[str, tuple[float, float]]
    cards: dict[str, Card]
    flows: dict[tuple[str, str], Reading]
    rows: list[Row]
    highlights: list[Highlight]
    notes: list[str] = field(default_factory=list)
    bar: bool = False  # whether the uses of weights stand in a row below the pre-activation


def textbook(facts: Facts) -> Anatomy | None:
    """One of minigrad's cells, or whatever computes the same with the same ops; None: something else."""
    return _lstm(facts) or _gru(facts) or _rnn(facts)


class _Textbook:
    """A grid of columns and rows, filled box by box and way by way."""

    def __init__(self, facts: Facts, columns: int, rows: Sequence[float]) -> None:
        self.facts = facts
        heights = [sum(rows[k:]) for k in range(len(rows))]
        self.layout = Layout(
            34 + _PITCH * columns, heights[0] + HEADER + 8, {}, dict.fromkeys(facts.s.states, 0.0)
        )
        self.rows = [h - r / 2 + 4 for h, r in zip(heights, rows, strict=True)]
        self.sizes: dict[str, tuple[float, float]] = {}
        self.cards: dict[str, Card] = {}
        self.flows: dict[tuple[str, str], Reading] = {}

    def x(self, column: float) -> float:
        return 34 + _PITCH * (column + 0.5)

    def put(self, key: str, card: Card, column: float, row: int, size: tuple[float, float] = (WIDE, HIGH)) -> None:
        self.cards[key], self.sizes[key] = card, size
        self.layout.places[key] = (self.x(column), self.rows[row])

    def states(self, **rows: int) -> None:
        """What comes in on the left, each in its row."""
        for state, card in self.facts.incoming().items():
            self.put(before(state), card, 0, rows[state])
            self.layout.places[before(state)] = (-BEFORE - WIDE / 2, self.rows[rows[state]])

    def edge(self, key: str, side: str) -> Point:
        (x, y), (w, h) = self.layout.places[key], self.sizes[key]
        dx, dy = {"left": (-1, 0), "right": (1, 0), "top": (0, 1), "bottom": (0, -1)}[side]
        return x + dx * w / 2, y + dy * h / 2

    def way(
        self, a: str, b: str, reading: Reading | None, leave: str, arrive: str, *corners: Point, port: float = 0.0
    ) -> None:
        """An arrow from a side of a, so far above its middle, to one of b; up and down in the smaller's column."""
        if a not in self.cards or b not in self.cards or reading is None:
            return
        start, end = self.edge(a, leave), self.edge(b, arrive)
        start = (start[0], start[1] + port)
        if not corners and leave in ("top", "bottom"):
            x = end[0] if self.sizes[a][0] > self.sizes[b][0] else start[0]
            start, end = (x, start[1]), (x, end[1])
        self.layout.wires[a, b] = [start, *corners, end]
        self.flows[a, b] = reading

    def bar(self, title: str, row: int, first: float, last: float) -> None:
        """The pre-activation: one wide box below the gates, the uses of the weights below it."""
        card = self.facts.cards["a"]._replace(title=title)
        width = self.x(last) - self.x(first) + WIDE
        self.put("a", card, (first + last) / 2, row, (width, 44.0))

    def flow(self, a: str, b: str) -> Reading | None:
        return self.facts.flows.get((a, b))

    def made(self, rows: list[Row], highlights: list[Highlight], notes: list[str]) -> Anatomy:
        return Anatomy(self.layout, self.sizes, self.cards, self.flows, rows, highlights, notes, True)


_FEED = frozenset({"x", before("h"), "a"})  # what every gate is computed from


def _parameters(facts: Facts) -> dict[str, str]:
    """What the textbook's W and U are called here: by the weight's kind, its short name."""
    names = [pill.name for pill in facts.cards["a"].pills]
    return {kind: name for kind in ("W_ih", "W_hh", "b_ih", "b_hh") for name in names if kind in name}


def _weights(facts: Facts, gates: Sequence[str]) -> str:
    """Where W and U of a gate stand."""
    names = _parameters(facts)
    w, u = names.get("W_ih", "W_ih"), names.get("W_hh", "W_hh")
    if len(gates) == 1:
        return f"W is {w}, U is {u}."
    return f"× is element by element. {w} holds W, {u} holds U of all gates, in the order {', '.join(gates)}."


def _lstm(facts: Facts) -> Anatomy | None:
    f, i, o = (facts.outlet(k, "sigmoid") for k in "fio")
    g, c, h = facts.outlet("g", "tanh"), facts.state("c", "add"), facts.state("h", "multiply")
    keep, new = facts.find("multiply", f, facts.old("c")), facts.find("multiply", i, g)
    squash = facts.find("tanh", c)
    if not (c and h and keep and new and squash and facts.find("add", keep, new) == c
            and facts.find("multiply", o, squash) == h and "a" in facts.cards):  # fmt: skip
        return None
    now, old = times(facts)
    cards, before_h, before_c = facts.cards, before("h"), before("c")
    book = _Textbook(facts, 5, (82, 82, 92, 84, 62))
    book.states(c=0, h=3)
    book.put("keep", facts.op(keep), 0, 0, _OP)
    book.put("c", cards["c"]._replace(title=f"{facts.called('c')} = +", pills=()), 1.5, 0)
    book.put("new", facts.op(new), 1.5, 1, _OP)
    book.put("squash", facts.op(squash), 4, 1, _OP)
    for k, (gate, how) in enumerate((("f", "σ"), ("i", "σ"), ("g", "tanh"), ("o", "σ"))):
        book.put(gate, cards[gate]._replace(title=f"{facts.called(gate)} = {how}"), k, 2)
    bias = " + b" if facts.biased else ""
    book.bar(f"a = W {facts.called('x')} + U {facts.before('h')}{bias}", 3, 0, 3)
    book.put("h", cards["h"]._replace(title=f"{facts.called('h')} = ×", pills=()), 4, 3)
    _ends(book, 4)
    left, right = book.rows[1], book.x(3.5)
    book.way(before_c, "keep", facts.comes("c", "c"), "right", "left")
    book.way("keep", "c", facts.part(c, keep), "right", "left")
    book.way("c", "squash", book.flow("c", "h"), "right", "top", (book.x(4), book.rows[0] - 9), port=-9)
    book.way("f", "keep", book.flow("f", "c"), "top", "bottom")
    book.way("i", "new", book.flow("i", "c"), "top", "left", (book.x(1), left))
    book.way("g", "new", book.flow("g", "c"), "top", "right", (book.x(2), left))
    book.way("new", "c", facts.part(c, new), "top", "bottom")
    book.way("squash", "h", facts.part(h, squash), "bottom", "top")
    book.way("o", "h", book.flow("o", "h"), "right", "left", (right, book.rows[2]), (right, book.rows[3]))
    book.way(before_h, "a", facts.comes("h", "a"), "right", "left")
    for gate in "figo":
        book.way("a", gate, book.flow("a", gate), "top", "bottom")
    rows = [
        *(_gate(facts, k, name, k == "g") for k, name in (
            ("f", "forget gate"), ("i", "input gate"), ("g", "candidate"))),
        Row("c", "cell state", f"C{now} = f{now} × C{old} + i{now} × g{now}"),
        _gate(facts, "o", "output gate", False),
        Row("h", "hidden state", f"h{now} = o{now} × tanh(C{now})"),
    ]  # fmt: skip
    c_old, c_new = facts.before("c"), facts.called("c")
    entering = ({"i", "g", "new"}, {"c"}, "ig", "input gate and candidate: what is new in the cell",
                f"g proposes new contents, between -1 and 1; i decides, unit by unit, how much of them enters {c_new}.")
    leaving = ({"o", "squash", "h"}, {"c", "loss", "next h"}, "oh", "output gate and hidden state: what the cell shows",
               f"o decides, unit by unit, how much of tanh({c_new}) is shown as {facts.called('h')}.")
    highlights = [
        _made(("f", "forget gate"), {"f", "keep", before_c}, {"c"}, "f", f"the forget gate: how much of {c_old} stays",
              f"f decides, unit by unit, how much of {c_old} stays: 1 keeps it, 0 forgets it. On its way back along the"
              f" C lane the gradient is multiplied by the same f."),
        _made(("i", "input gate"), *entering), _made(("g", "candidate", "cell gate"), *entering),
        _made(("C", "cell state", "c"), {before_c, "keep", "new", "c"}, {"f", "i", "g", "squash", "next c"}, "c",
              "the cell state: what is kept plus what is new",
              f"{c_new} is what f keeps of {c_old}, plus what i lets in of g. The way back along C passes one + and"
              " one ×, no weight matrix and no tanh.", feed=False),
        _made(("o", "output gate"), *leaving), _made(("h", "hidden state"), *leaving),
    ]  # fmt: skip
    return book.made(rows, highlights, [_weights(facts, "ifgo")])


def _gru(facts: Facts) -> Anatomy | None:
    r, z, n = facts.outlet("r", "sigmoid"), facts.outlet("z", "sigmoid"), facts.outlet("n", "tanh")
    h, old_h = facts.state("h", "add"), facts.old("h")
    rest = facts.find("subtract", z)
    new, keep = facts.find("multiply", rest, n), facts.find("multiply", z, old_h)
    reset = facts.user("multiply", r, "n")
    if not (r and z and n and h and old_h and rest and new and keep and reset and "a" in facts.cards
            and facts.find("add", new, keep) == h):  # fmt: skip
        return None
    inner = facts.nodes[n.parents[0]]  # what tanh is taken of
    after = reset.id in inner.parents  # the reset gate acts after the product with U
    joint = inner if after else next((m for m in facts.inside("n") if m.op == "linear" and reset.id in m.parents), None)
    if joint is None:
        return None
    now, old = times(facts)
    cards, before_h = facts.cards, before("h")
    book = _Textbook(facts, 5, (82, 82, 92, 84, 62))
    book.states(h=0)
    book.put("keep", facts.op(keep), 0, 0, _OP)
    book.put("rest", facts.op(rest, "1 − z"), 1, 1, _OP)
    book.put("new", facts.op(new), 3, 1, _OP)
    book.put("h", cards["h"]._replace(title=f"{facts.called('h')} = +", pills=()), 3, 0)
    for gate, column, how in (("z", 0, "σ"), ("r", 1, "σ"), ("n", 3, "tanh")):
        book.put(gate, cards[gate]._replace(title=f"{facts.called(gate)} = {how}", pills=()), column, 2)
    book.put("reset", facts.op(reset), 2, 2, _OP)
    x, h_old = facts.called("x"), facts.before("h")
    bias = " + b" if facts.biased else ""
    book.bar(f"W {x}{bias}   and   U {h_old}{bias}" + ("" if after else " for r and z"), 3, 0, 3)
    _ends(book, 4, loss_row=1)
    level = (book.rows[2] - HIGH / 2 + book.rows[3] + 22) / 2 + 6  # between the gates and the bar
    gutter = 14.0
    book.way(before_h, "keep", facts.comes("h", "h"), "right", "left")
    book.way("keep", "h", facts.part(h, keep), "right", "left")
    book.way("z", "keep", facts.part(keep, z), "top", "bottom")
    side = book.x(0.5)
    book.way("z", "rest", facts.part(rest, z), "right", "left", (side, book.rows[2]), (side, book.rows[1]))
    book.way("rest", "new", facts.part(new, rest), "right", "left")
    book.way("n", "new", book.flow("n", "h"), "top", "bottom")
    book.way("new", "h", facts.part(h, new), "top", "bottom")
    book.way("r", "reset", book.flow("r", "n"), "right", "left")
    book.way("reset", "n", facts.part(joint, reset), "right", "left")
    if after:
        source = next((facts.nodes[p] for p in reset.parents if p != r.id), r)
        book.way("a", "reset", facts.part(reset, source), "top", "bottom")
    else:
        book.way(before_h, "reset", facts.comes("h", "n"), "right", "bottom",
                 (gutter - 7, book.rows[0] - 18), (gutter - 7, level), (book.x(2), level), port=-18)  # fmt: skip
    book.way(before_h, "a", facts.comes("h", "a"), "right", "left",
             (gutter, book.rows[0] - 9), (gutter, book.rows[3]), port=-9)  # fmt: skip
    for gate in "zr":
        book.way("a", gate, book.flow("a", gate), "top", "bottom")
    outer = inner if after else facts.nodes[n.parents[0]]
    from_x = next((facts.nodes[p] for p in outer.parents if p not in (reset.id, joint.id)), None)
    book.way("a", "n", None if from_x is None else facts.part(outer, from_x), "top", "bottom")
    b_in, b_hn, u = f" + b{low('in')}", f" + b{low('hn')}", f"U{low('n')}"
    if not facts.biased:
        b_in = b_hn = ""
    hidden = f"r{now} × ({u} h{old}{b_hn})" if after else f"{u} (r{now} × h{old}){b_hn}"
    rows = [
        _gate(facts, "r", "reset gate", False), _gate(facts, "z", "update gate", False),
        Row("n", "candidate", f"n{now} = tanh(W{low('n')} x{now}{b_in} + {hidden})"),
        Row("h", "hidden state", f"h{now} = (1 − z{now}) × n{now} + z{now} × h{old}"),
    ]
    highlights = [
        _made(("r", "reset gate"), {"r", "reset"}, {"n"}, "r",
              f"the reset gate: how much of {h_old} the candidate sees",
              f"r decides, unit by unit, how much of {h_old} goes into the candidate: 0 starts afresh.",
              apart=[("a", "n")]),
        _made(("z", "update gate"), {"z", "keep", "rest"}, {"h", "new"}, "z",
              "the update gate: the old state or the new",
              f"z decides, unit by unit, between {h_old} (z = 1 keeps it) and the candidate (z = 0 takes it)."),
        _made(("n", "candidate", "new gate"), {"reset", "n"}, {"r", "new"}, "n",
              "the candidate: the new contents",
              f"n is what the state could become, between -1 and 1: from {x} and as much of {h_old} as r lets in.",
              apart=[("a", "r")]),
        _made(("h", "hidden state"), {before_h, "keep", "rest", "new", "h"}, {"z", "n", "loss", "next h"}, "h",
              "the hidden state: a mean of old and new, weighted by z",
              f"Along the lane the way back from {facts.called('h')} to {h_old} passes one + and one × with z: no"
              " weight matrix and no tanh.", feed=False),
    ]  # fmt: skip
    other = "U (r × h)" if after else "r × (U h + b)"
    return book.made(rows, highlights, [
        _weights(facts, "rzn"),
        f"Here r acts {'after' if after else 'before'} the product with U, as in "
        + ("PyTorch and cuDNN" if after else "Cho et al. 2014")
        + f"; in {'Cho et al. 2014' if after else 'PyTorch and cuDNN'}: {other}.",
        "z = 1 keeps the old state, as in PyTorch and Cho et al. 2014; Chung et al. 2014 swap z and 1 − z.",
    ])  # fmt: skip


def _rnn(facts: Facts) -> Anatomy | None:
    a, h = facts.outlet("a", "add"), facts.state("h", "tanh", "relu")
    states, parts = set(facts.s.states), {k for k, card in facts.cards.items() if card.kind == "gate"}
    uses = {n.op for n in facts.inside("a")}
    if not (a and h and h.parents == (a.id,) and uses - {"where"} == {"linear", "add"} and states == {"h"}
            and parts - set(facts.stands_for.values()) == {"a"}):  # fmt: skip
        return None
    now, old = times(facts)
    cards, how = facts.cards, h.op or ""
    book = _Textbook(facts, 5, (92, 92))
    book.states(h=0)
    bias = " + b" if facts.biased else ""
    book.bar(f"a = W {facts.called('x')} + U {facts.before('h')}{bias}", 0, 0, 3)
    book.put("h", cards["h"]._replace(title=f"{facts.called('h')} = {how}", pills=()), 4, 0)
    _ends(book, 4, x_row=1, loss_row=1)
    book.way(before("h"), "a", facts.comes("h", "a"), "right", "left")
    book.way("a", "h", book.flow("a", "h"), "right", "left")
    rows = [
        Row("a", "pre-activation", f"a{now} = W x{now} + U h{old}{bias}"),
        Row("h", "hidden state", f"h{now} = {how}(a{now})"),
    ]
    highlights = [
        _made(("a", "pre-activation"), set(), {"h"}, "a",
              "the pre-activation: the input and the old state, weighted",
              f"Every step of the way back from {facts.called('h')} to {facts.before('h')} is a product with U: the"
              " same U at every step."),
        _made(("h", "hidden state"), {"h"}, {"a", "loss", "next h"}, "h", "the hidden state",
              f"The gradient passes {how} here: it is multiplied by its slope, at most 1; then by U.", feed=False),
    ]  # fmt: skip
    return book.made(rows, highlights, [_weights(facts, "a")])


def _gate(facts: Facts, key: str, name: str, tanh: bool) -> Row:
    now, old = times(facts)
    gate = low(key)
    bias = f" + b{gate}" if facts.biased else ""
    return Row(key, name, f"{key}{now} = {'tanh' if tanh else 'σ'}(W{gate} x{now} + U{gate} h{old}{bias})")


def _made(
    names: tuple[str, ...], boxes: set[str], touched: set[str], rows: str, title: str, story: str, *, feed: bool = True,
    apart: Iterable[tuple[str, str]] = (),
) -> Highlight:  # fmt: skip
    strong = frozenset(boxes) | (_FEED if feed else frozenset())
    return Highlight(names, strong, frozenset(touched), frozenset(rows), title, story, frozenset(apart))


def _ends(book: _Textbook, column: int, *, x_row: int = 4, loss_row: int = 4) -> None:
    """The input below the first column, and what uses the output."""
    facts, output = book.facts, book.facts.scene.output
    if "x" in facts.cards:
        book.put("x", facts.cards["x"], 0, x_row, (WIDE, 46.0))
        book.way("x", "a", book.flow("x", "a"), "top", "bottom")
    loss = facts.cards.get("loss")
    if loss is None or output != "h":
        return
    book.put("loss", loss, column, loss_row, (WIDE, 40.0))
    if book.layout.places["h"][0] == book.layout.places["loss"][0]:
        book.way("h", "loss", book.flow("h", "loss"), "bottom", "top")
    else:
        corner = (book.layout.places["loss"][0], book.layout.places["h"][1] - 9)
        book.way("h", "loss", book.flow("h", "loss"), "right", "top", corner, port=-9)
