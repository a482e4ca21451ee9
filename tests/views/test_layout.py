"""Where boxes and wires stand, measured on the numbers of the drawing itself."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, nn
from minigrad.bptt import Record
from minigrad.views import draw
from minigrad.views.layout import Item, arrange

LEVELS = ("cell", "gate", "op")


# Reading a drawing


class Box(NamedTuple):
    name: str
    left: float
    bottom: float
    right: float
    top: float
    words: dict[str, str]


class Wire(NamedTuple):
    tail: str
    head: str
    corners: list[tuple[float, float]]  # from tail to head
    words: dict[str, str]


class Drawing:
    """Boxes, wires and frames of a DOT text, with their coordinates."""

    def __init__(self, source: str) -> None:
        self.boxes: dict[str, Box] = {}
        self.wires: list[Wire] = []
        self.frames: list[Box] = []
        self.cuts: list[dict[str, str]] = []  # lines and circles where a gradient is cut
        for line in source.splitlines():
            words = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
            names = re.match(r'\t"([^"]*)"(?: -> "([^"]*)")? \[', line)
            if words.get("class") == "cut":
                self.cuts.append(words)
            elif names and names[2]:
                self.wires.append(Wire(names[1], names[2], corners(words["pos"]), words))
            elif names:
                assert names[1] not in self.boxes, f"{names[1]} stands twice"
                x, y = map(float, words["pos"].split(","))
                w, h = float(words["width"]) * 36, float(words["height"]) * 36
                self.boxes[names[1]] = Box(names[1], x - w, y - h, x + w, y + h, words)
            elif words.get("class") == "step":
                self.frames.append(Box(words["id"], *map(float, words["bb"].split(",")), words))
        bounds = re.search(r'\bbb="?(0,-[\d.]+,[\d.]+,0)"?', source)
        assert bounds is not None
        self.bounds = tuple(map(float, bounds[1].split(",")))

    def of_steps(self) -> list[Box]:
        """The boxes inside the steps, with the labels of the weights."""
        return [box for box in self.boxes.values() if re.search(r"\bt[1-9]\d*$", box.words.get("class", ""))]


def corners(pos: str) -> list[tuple[float, float]]:
    """The corners of a wire that was written as straight Bézier pieces, with its arrow's tip."""
    found = re.match(r"([es]),([-\d.]+,[-\d.]+) (.*)", pos)
    assert found is not None
    points = [tuple(map(float, p.split(","))) for p in found[3].split()]
    assert len(points) % 3 == 1
    tip = tuple(map(float, found[2].split(",")))
    ends = points[::3]
    return [*ends, tip] if found[1] == "e" else [tip, *ends]  # type: ignore[list-item]


def apart(a: Box, b: Box) -> bool:
    slack = 0.02  # numbers in the drawing have six digits
    return (
        a.right <= b.left + slack or b.right <= a.left + slack or a.top <= b.bottom + slack or b.top <= a.bottom + slack
    )


def inside(inner: Box, outer: Box) -> bool:
    slack = 0.02
    return (
        outer.left - slack <= inner.left and inner.right <= outer.right + slack
        and outer.bottom - slack <= inner.bottom and inner.top <= outer.top + slack
    )  # fmt: skip


def passes_through(piece: tuple[tuple[float, float], tuple[float, float]], box: Box) -> bool:
    (x1, y1), (x2, y2) = piece
    slack = 0.5
    return (
        min(x1, x2) < box.right - slack and max(x1, x2) > box.left + slack
        and min(y1, y2) < box.top - slack and max(y1, y2) > box.bottom + slack
    )  # fmt: skip


def shared_length(a: Wire, b: Wire) -> float:
    """How far two wires run on one line."""
    most = 0.0
    for (p, q), (r, s) in ((first, second) for first in pairwise(a.corners) for second in pairwise(b.corners)):
        for along, across in ((0, 1), (1, 0)):
            level = [point[across] for point in (p, q, r, s)]
            if max(level) - min(level) < 1.0:
                start = max(min(p[along], q[along]), min(r[along], s[along]))
                end = min(max(p[along], q[along]), max(r[along], s[along]))
                most = max(most, end - start)
    return most


# What is drawn


def recorded(
    cell: str = "RNN", steps: int = 4, *, batch: int = 1, hidden: int = 4, every_step: bool = False,
    keep: str = "ops", backward: bool = True, **options: object,
) -> Record:  # fmt: skip
    rng = np.random.default_rng(0)
    layer = getattr(nn, cell)(3, hidden, rng=rng, **options)
    x = mg.Tensor(rng.standard_normal((steps, batch, 3)).astype(np.float32), requires_grad=True)
    y, _ = layer(x)
    target = np.ones(y.shape if every_step else y.shape[1:], np.float32)
    loss = nn.mse_loss(y if every_step else y[-1], target)
    return bptt.backward(loss, keep) if backward else bptt.record(loss, keep)  # type: ignore[arg-type]


def two_layers() -> Record:
    rng = np.random.default_rng(0)
    below, above = nn.LSTMCell(3, 4, rng=rng), nn.LSTMCell(4, 4, rng=rng)
    x = mg.Tensor(rng.standard_normal((4, 2, 3)).astype(np.float32))
    y, _ = nn.unroll(below, x)
    y, _ = nn.unroll(above, y, name="l1")
    return bptt.backward(nn.mse_loss(y[-1], np.ones((2, 4), np.float32)), keep="ops")


class H(NamedTuple):
    h: mg.Tensor


class Three(NamedTuple):
    h: mg.Tensor
    slow: mg.Tensor
    kept: mg.Tensor


class Own:
    """A cell with parameters W and U; each of those below has another step."""

    fields: type = H

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.W = nn.Parameter(rng.standard_normal((3, 3)) * 0.4)
        self.U = nn.Parameter(rng.standard_normal((3, 3)) * 0.4)
        self.W.name, self.U.name = "own.W", "own.U"

    def initial_state(self, batch: int) -> NamedTuple:
        return self.fields(*(mg.Tensor(np.zeros((batch, 3))) for _ in self.fields._fields))  # type: ignore[attr-defined]


class NoScopes(Own):
    def step(self, x: mg.Tensor, state: H) -> H:
        return H(mg.tanh(x @ self.W + state.h @ self.U))


class InputEverywhere(Own):
    def step(self, x: mg.Tensor, state: H) -> H:
        total = state.h @ self.U
        for name in "abcd":
            with mg.named_scope(f"use {name}", name):
                total = total + mg.tanh(x * 0.5)
        return H(total * x + x)


class StateUnchanged(Own):
    fields = Three

    def step(self, x: mg.Tensor, state: Three) -> Three:
        with mg.named_scope("candidate", "k"):
            k = mg.tanh(x @ self.W + state.kept)
        return Three(k + state.slow, state.slow * 0.5 + k, state.kept)


class NestedScopes(Own):
    def step(self, x: mg.Tensor, state: H) -> H:
        with mg.named_scope("outer part", "u"):
            a = x @ self.W
            with mg.named_scope("inner part", "v"):
                b = mg.sigmoid(a + state.h @ self.U)
            c = a * b
        return H(mg.tanh(c + state.h))


class TwoFeeding(Own):
    def step(self, x: mg.Tensor, state: H) -> H:
        with mg.named_scope("left", "l"):
            left = mg.tanh(x @ self.W)
        with mg.named_scope("right", "r"):
            right = mg.sigmoid(state.h @ self.U)
        with mg.named_scope("mix", "m"):
            mix = left * right
        return H(mix + left - right)


class VeryWide(Own):
    def step(self, x: mg.Tensor, state: H) -> H:
        y = x @ self.W + state.h @ self.U
        for k in range(14):
            with mg.named_scope(f"layer {k}", f"k{k}"):
                y = mg.tanh(y) + state.h
        return H(y)


class TakenNames(Own):
    """Scopes called like what every step has."""

    def step(self, x: mg.Tensor, state: H) -> H:
        with mg.named_scope("hidden", "h"):
            a = mg.tanh(x @ self.W)
        with mg.named_scope("x"):
            b = mg.tanh(a + state.h @ self.U)
        with mg.named_scope("loss"):
            c = b * a
        return H(c + state.h)


class LongNames(Own):
    def __init__(self) -> None:
        super().__init__()
        self.W.name = "own.the_weights_of_the_input_at_this_step"

    def step(self, x: mg.Tensor, state: H) -> H:
        with mg.named_scope("an exceedingly long name of a gate", "an exceedingly long symbol"):
            k = mg.tanh(x @ self.W + state.h @ self.U)
        return H(k)


OWN = (NoScopes, InputEverywhere, StateUnchanged, NestedScopes, TwoFeeding, VeryWide, TakenNames, LongNames)


def own(cell: type[Own], steps: int = 4, *, every_step: bool = False, own_loss: bool = False) -> Record:
    x = mg.Tensor(np.random.default_rng(2).standard_normal((steps, 2, 3)), requires_grad=True)
    y, _ = nn.unroll(cell(), x)  # type: ignore[arg-type]
    y = y if every_step else y[-1]
    return bptt.backward((y * y).sum() if own_loss else nn.mse_loss(y, np.ones(y.shape)), keep="ops")


def records() -> dict[str, Record]:
    found = {f"{cell} {'every step' if e else 'last step'}": recorded(cell, every_step=e)
             for cell in ("RNN", "LSTM", "GRU") for e in (False, True)}  # fmt: skip
    found["GRU, reset before"] = recorded("GRU", reset_after=False)
    found["LSTM before backward"] = recorded("LSTM", backward=False)
    found["LSTM, second of two layers"] = two_layers()
    found |= {cell.__name__: own(cell, every_step=True) for cell in OWN}
    found |= {f"{cell.__name__}, a loss of its own": own(cell, own_loss=True) for cell in OWN}
    return found


RECORDS = records()
CASES = [(name, level) for name in RECORDS for level in LEVELS]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}", scope="module")
def drawing(request: pytest.FixtureRequest) -> Drawing:
    name, level = request.param
    record = RECORDS[name]
    sequence = "l1" if "second" in name else None
    return Drawing(draw.unrolled(record, level, everything=True, sequence=sequence).source)


# Boxes


def test_no_two_boxes_overlap(drawing: Drawing) -> None:
    boxes = drawing.of_steps()
    assert len(boxes) >= 8
    assert [(a.name, b.name) for a, b in combinations(boxes, 2) if not apart(a, b)] == []


def test_every_box_is_inside_the_frame_of_its_step(drawing: Drawing) -> None:
    assert len(drawing.frames) == 4
    for box in drawing.of_steps():
        time = re.search(r"\bt(\d+)$", box.words["class"])
        assert time is not None
        assert inside(box, drawing.frames[int(time[1]) - 1]), box.name


def test_everything_is_inside_the_picture(drawing: Drawing) -> None:
    bounds = Box("", *drawing.bounds, {})
    for box in [*drawing.boxes.values(), *drawing.frames]:
        assert inside(box, bounds), box.name


def test_time_runs_strictly_from_left_to_right(drawing: Drawing) -> None:
    assert all(a.right < b.left for a, b in pairwise(drawing.frames))
    assert [frame.name for frame in drawing.frames] == ["step_1", "step_2", "step_3", "step_4"]


def test_each_step_has_the_same_layout(drawing: Drawing) -> None:
    first, second, *others = drawing.frames
    pitch = second.left - first.left
    for k, frame in enumerate(others, 2):
        assert frame.left == pytest.approx(first.left + k * pitch, abs=0.02)
    for box in drawing.of_steps():
        again = drawing.boxes.get(box.name.replace("_2", "_3", 1)) if re.search(r" t2$", box.words["class"]) else None
        if again is not None:
            assert (again.left - box.left, again.bottom) == pytest.approx((pitch, box.bottom), abs=0.02)


def test_no_words_are_wider_than_their_box(drawing: Drawing) -> None:
    for box in drawing.of_steps():
        for line in box.words["label"].split("\\n"):
            assert helvetica(line) * 10 <= box.right - box.left + 0.5, line


def helvetica(text: str) -> float:
    """The width of a text as the font's metrics have it, in em."""
    narrow = {**dict.fromkeys("ijl'", 0.222), **dict.fromkeys(" tfI.,:/!;\\[]|", 0.278), **dict.fromkeys("r-()", 0.333)}
    wide = {**dict.fromkeys("ckszvxyJ", 0.5), "m": 0.833, "w": 0.722, "W": 0.944, "M": 0.833, "+": 0.584, "…": 1.0}
    wide |= dict.fromkeys("CDHNRU", 0.722) | dict.fromkeys("GOQ", 0.778) | dict.fromkeys("₀₁₂₃₄₅₆₇₈₉“”", 0.333)
    wide |= dict.fromkeys("ABEKPSVXY", 0.667) | {"—": 1.0, "×": 0.584, "−": 0.584, "σ": 0.6}
    return sum(narrow.get(c, wide.get(c, 0.556)) for c in text)


# Wires


def test_wires_run_at_right_angles(drawing: Drawing) -> None:
    assert drawing.wires
    for wire in drawing.wires:
        for (x1, y1), (x2, y2) in pairwise(wire.corners):
            assert abs(x1 - x2) < 0.02 or abs(y1 - y2) < 0.02, wire


def test_wires_end_at_the_border_of_their_boxes(drawing: Drawing) -> None:
    for wire in drawing.wires:
        for name, (x, y) in ((wire.tail, wire.corners[0]), (wire.head, wire.corners[-1])):
            box = drawing.boxes[name]
            labels = [b for b in drawing.boxes.values() if re.match(rf"{name}_\d+_", b.name)]
            top = max(b.top for b in [box, *labels])
            assert box.left - 0.02 <= x <= box.right + 0.02, wire
            assert box.bottom - 0.02 <= y <= top + 0.02, wire
            assert min(abs(x - box.left), abs(x - box.right), abs(y - box.bottom), abs(y - top)) < 0.02, wire


def test_no_wire_passes_through_a_box(drawing: Drawing) -> None:
    boxes = [*drawing.of_steps(), *(b for b in drawing.boxes.values() if b.words.get("class", "") == "initial t0")]
    for wire in drawing.wires:
        for piece in pairwise(wire.corners):
            struck = [b.name for b in boxes if passes_through(piece, b)]
            assert struck == [], wire


@pytest.mark.slow
def test_wires_share_a_line_only_on_the_lane_they_come_from(drawing: Drawing) -> None:
    for a, b in combinations(drawing.wires, 2):
        if a.tail != b.tail:
            assert shared_length(a, b) < 1, (a, b)


# Lanes


@pytest.mark.parametrize(("cell", "level", "state"), [
    ("LSTM", "cell", "c"), ("LSTM", "cell", "h"), ("LSTM", "gate", "c"), ("GRU", "cell", "h"), ("RNN", "cell", "h"),
    ("GRU", "gate", "h"),
])  # fmt: skip
def test_a_carried_state_is_one_straight_line_from_step_to_step(cell: str, level: str, state: str) -> None:
    drawing = Drawing(draw.unrolled(RECORDS[f"{cell} last step"], level, everything=True).source)
    lane = [wire for wire in drawing.wires if wire.words["id"] in {f"e_{state}_{t}_{state}_{t + 1}" for t in range(4)}]
    assert len(lane) == 4
    heights = {round(y, 2) for wire in lane for _, y in wire.corners}
    assert len(heights) == 1


@pytest.mark.parametrize(("name", "level"), CASES)
def test_every_lane_keeps_its_height_through_all_steps(name: str, level: str) -> None:
    record = RECORDS[name]
    drawing = Drawing(draw.unrolled(record, level, everything=True, sequence="l0").source)
    for state in record.sequence().states:
        heights = {round(drawing.boxes[f"{state}_{t}"].bottom, 2) for t in range(1, 5)}
        assert len(heights) == 1


# Steps as such


def grid(width: float = 50) -> list[Item]:
    return [Item("h", "state", width, 40), Item("x", "input", width, 40), Item("y", "output", width, 40)]


def test_an_input_stands_left_below_and_an_output_below_its_state() -> None:
    items = [*grid(), Item("a", "gate", 50, 40)]
    layout = arrange(items, [("x", "a"), ("a", "h"), ("h", "y")], [("h", "a")], row_gap=10, column_gap=10, header=18)
    assert layout.places["x"][0] == layout.places["a"][0] < layout.places["h"][0] == layout.places["y"][0]
    assert layout.places["x"][1] == layout.places["y"][1] < layout.places["a"][1] == layout.places["h"][1]
    assert layout.wires["x", "a"][0][0] == layout.wires["x", "a"][1][0]


def test_a_step_with_only_a_state_needs_no_wires() -> None:
    layout = arrange([Item("h", "state", 50, 40)], [], [("h", "h")], row_gap=10, column_gap=10, header=18)
    assert layout.wires == {}
    assert layout.carried["h", "h"][0] == (0.0, layout.lanes["h"])
    assert layout.width > 50


def test_a_wider_box_moves_only_what_is_right_of_it() -> None:
    def places(width: float) -> dict[str, tuple[float, float]]:
        items = [Item("h", "state", 50, 40), Item("a", "gate", 50, 40), Item("b", "gate", width, 40)]
        edges = [("a", "b"), ("b", "h")]
        return arrange(items, edges, [("h", "a")], row_gap=10, column_gap=10, header=18).places

    slim, wide = places(50), places(90)
    assert slim["a"] == wide["a"]
    assert wide["b"][0] == slim["b"][0] + 20
    assert wide["h"][0] == slim["h"][0] + 40
