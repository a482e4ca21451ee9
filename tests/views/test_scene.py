"""The numbers in boxes, on wires and on weight labels are the record's, formed again here from its arrays."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, clip_grad_norm, nn
from minigrad.bptt import Record
from minigrad.bptt.attribution import attribution
from minigrad.bptt.record import Reading
from minigrad.errors import RecordError
from minigrad.views import draw
from minigrad.views.palette import brief, number
from minigrad.views.scene import short_name, subscript, visible
from tests.views.test_layout import RECORDS, Drawing, Own, TakenNames, own, recorded

STEPS = 5


def layer_and_record(cell: str, batch: int = 3) -> tuple[Any, Record]:
    rng = np.random.default_rng(4)
    layer = getattr(nn, cell)(3, 4, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.standard_normal((STEPS, batch, 3)), requires_grad=True)
    y, _ = layer(x)
    return layer, bptt.backward(nn.mse_loss(y, np.full(y.shape, 0.7)), keep="ops")


MADE = {cell: layer_and_record(cell) for cell in ("RNN", "LSTM", "GRU")}


def drawn(record: Record, level: str, **options: Any) -> Drawing:
    return Drawing(draw.unrolled(record, level, everything=True, **options).source)


def gradient_of(drawing: Drawing, name: str) -> str:
    return drawing.boxes[name].words["label"].rpartition("\\ng ")[2]


def flow(drawing: Drawing, tail: str, head: str) -> str:
    (wire,) = [w for w in drawing.wires if (w.tail, w.head) == (tail, head)]
    return wire.words["tooltip"].rpartition(": ")[2]


def norm(array: Any) -> str:
    return number(float(np.linalg.norm(np.asarray(array, np.float64))))


# Boxes


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("cell", MADE)
def test_a_state_shows_its_mean_and_the_norm_of_its_gradient(cell: str, level: str) -> None:
    sequence = MADE[cell][1].sequence()
    drawing = drawn(MADE[cell][1], level)
    for state, values in sequence.states.items():
        for t in range(STEPS):
            assert gradient_of(drawing, f"{state}_{t + 1}") == norm(sequence.gradients[state][t])
            assert drawing.boxes[f"{state}_{t + 1}"].words["label"].split("\\n")[1] == number(values[t].mean())


@pytest.mark.parametrize(("cell", "gates"), [("RNN", "a"), ("LSTM", "figo"), ("GRU", "rzn")])
def test_a_gate_shows_its_mean_and_the_norm_of_its_gradient(cell: str, gates: str) -> None:
    sequence = MADE[cell][1].sequence()
    drawing = drawn(MADE[cell][1], "gate")
    for gate in gates:
        for t in range(STEPS):
            assert gradient_of(drawing, f"{gate}_{t + 1}") == norm(sequence.gate_norms[gate][t])
            mean = number(sequence.gates[gate][t].mean())
            assert drawing.boxes[f"{gate}_{t + 1}"].words["label"] == (
                f"{subscript(gate, t + 1)}\\n{mean}\\ng {norm(sequence.gate_norms[gate][t])}"
            )


def test_an_input_shows_its_mean_or_its_label_and_its_gradient() -> None:
    sequence = MADE["LSTM"][1].sequence()
    plain, labelled = drawn(MADE["LSTM"][1], "gate"), drawn(MADE["LSTM"][1], "gate", labels="hello")
    assert sequence.input_norms is not None
    for t in range(STEPS):
        g = norm(sequence.input_norms[t])
        mean = number(sequence.input_means[t])
        assert plain.boxes[f"x_{t + 1}"].words["label"] == f"{subscript('x', t + 1)}\\n{mean}\\ng {g}"
        assert labelled.boxes[f"x_{t + 1}"].words["label"] == f"{subscript('x', t + 1)}\\n“{'hello'[t]}”\\ng {g}"


def test_a_loss_shows_what_the_step_adds_and_the_parts_sum_to_the_loss() -> None:
    record = MADE["GRU"][1]
    drawing = drawn(record, "cell", targets="abcde")
    assert record.losses is not None
    for t in range(STEPS):
        box = drawing.boxes[f"loss_{t + 1}"].words
        assert box["label"] == f"{subscript('L', t + 1)}\\n“{'abcde'[t]}”\\n{number(record.losses[t])}"
        assert f"for “{'abcde'[t]}”" in box["tooltip"]
    assert record.losses.sum() == pytest.approx(record.loss)


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_a_loss_shows_what_the_step_should_predict(level: str) -> None:
    record = MADE["LSTM"][1]
    plain, aimed = drawn(record, level), drawn(record, level, targets=["a", "<b>", "", "한", "\\N"])
    for t, aim in enumerate(["“a”", "“<b>”", "", "“한”", "“\\\\N”"], start=1):
        before, now = (d.boxes[f"loss_{t}"].words["label"].split("\\n") for d in (plain, aimed))
        assert now == [before[0], *filter(None, [aim]), before[1]]


def test_a_target_keeps_its_place_where_lines_are_few_or_a_measure_stands_in_the_loss() -> None:
    record = MADE["LSTM"][1]
    (box,) = (b for b in drawn(record, "cell", targets="abcde", overlay=attribution(record), loss=3).boxes.values()
              if b.name == "loss_3")  # fmt: skip
    assert box.words["label"].startswith("L₃\\n“c”\\n")
    long = recorded("LSTM", 60)
    texts = "abcdefghij" * 6
    boxes = Drawing(draw.unrolled(long, "op", targets=texts, labels=texts).source).boxes
    shown = {name: box.words["label"] for name, box in boxes.items() if name.startswith("loss_")}
    assert shown
    for name, label in shown.items():
        t = int(name.removeprefix("loss_"))
        assert label.split("\\n")[0] == f"{subscript('L', t)} “{texts[t - 1]}”"


@pytest.mark.parametrize("labels", [None, "hello"])
def test_a_strip_has_rows_of_what_each_step_reads_and_should_predict(labels: str | None) -> None:
    boxes = drawn(MADE["LSTM"][1], "strip", labels=labels, targets="ello!").boxes
    for name, texts, title in (("label", labels, "reads"), ("target", "ello!", "target")):
        for t, text in enumerate(texts or "", start=1):
            box = boxes[f"{name}_{t}"]
            assert box.words["label"] == text
            assert box.left + box.right == pytest.approx(boxes[f"h_{t}"].left + boxes[f"h_{t}"].right)
        assert (f"{name}_row" in boxes) == (texts is not None)
        assert texts is None or boxes[f"{name}_row"].words["label"] == title
    for t in range(1, 6):
        read = f" “{labels[t - 1]}”" if labels else ""
        assert boxes[f"h_{t}"].words["tooltip"].startswith(f"t={t}{read}, target “{'ello!'[t - 1]}”: ")


def test_a_strip_of_several_layers_with_targets_fits_the_page() -> None:
    layer = nn.LSTM(3, 4, 4, bidirectional=True, rng=np.random.default_rng(0))
    y, _ = layer(mg.Tensor(np.ones((20, 1, 3), np.float32)))
    record = bptt.backward(nn.mse_loss(y, np.zeros(y.shape, np.float32)))
    picture = draw.unrolled(record, "strip", labels="a" * 20, targets="b" * 20)
    assert picture.size[0] <= 1200
    assert picture.size[1] <= 750


@pytest.mark.parametrize(("dtypes", "said"), [
    ((np.float32,), "underflow\\n< 1e-38"), ((np.float64,), "underflow\\n< 2e-308"),
    ((np.float32, np.float64), "underflow\\nof its type"),
])  # fmt: skip
def test_the_legend_names_the_smallest_number_of_the_records_type(dtypes: tuple[Any, ...], said: str) -> None:
    records = {}
    for dtype in dtypes:
        rng = np.random.default_rng(0)
        layer = nn.RNN(2, 2, rng=rng, dtype=dtype)
        y, _ = layer(mg.Tensor(rng.standard_normal((4, 1, 2)).astype(dtype)))
        records[np.dtype(dtype).name] = record = bptt.backward(nn.mse_loss(y, np.zeros(y.shape, dtype)), keep="ops")
    sources = [draw.compare(records).source]
    if len(dtypes) == 1:
        clipping = clip_grad_norm(layer.parameters(), 0.1)
        sources += [draw.unrolled(record, level).source for level in draw.LEVELS]
        sources += [draw.rolled(record).source, draw.graph(record).source, draw.clipping(record, clipping).source]
    for source in sources:
        assert re.findall(r'label="(underflow[^"]*)"', source) == [said]


def test_only_the_last_step_has_a_loss_where_only_it_is_scored() -> None:
    boxes = drawn(RECORDS["LSTM last step"], "cell").boxes
    assert [name for name in boxes if name.startswith("loss")] == ["loss_4"]


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_first_states_without_a_gradient_have_no_path(level: str) -> None:
    drawing = drawn(MADE["LSTM"][1], level)
    assert {drawing.boxes[name].words["label"].split("\\n")[-1] for name in ("h_0", "c_0")} == {"no path"}


def test_a_first_state_that_requires_a_gradient_shows_it() -> None:
    rng = np.random.default_rng(0)
    cell = nn.RNNCell(3, 4, rng=rng, dtype=np.float64)
    first = type(cell.initial_state(2))(mg.Tensor(rng.standard_normal((2, 4)), requires_grad=True))
    y, _ = nn.unroll(cell, mg.Tensor(rng.standard_normal((3, 2, 3))), first)
    record = bptt.backward(nn.mse_loss(y[-1], np.ones((2, 4))), keep="ops")
    assert first.h.grad is not None
    for level in ("cell", "gate", "op"):
        assert gradient_of(drawn(record, level), "h_0") == norm(first.h.grad)


def test_an_input_that_requires_no_gradient_has_no_path() -> None:
    assert drawn(RECORDS["LSTM, second of two layers"], "cell").boxes["x_1"].words["label"].endswith("no path")


# Wires


def test_the_wire_along_the_lane_carries_what_the_next_step_hands_back() -> None:
    layer, record = MADE["RNN"]
    sequence = record.sequence()
    weight = layer.weight_hh_l0.numpy()
    cell, gate = drawn(record, "cell"), drawn(record, "gate")
    for t in range(1, STEPS):
        da = sequence.gradients["h"][t] * (1 - sequence.states["h"][t] ** 2)
        assert flow(cell, f"h_{t}", f"h_{t + 1}") == norm(da @ weight)
        assert flow(gate, f"h_{t}", f"a_{t + 1}") == norm(da @ weight)
        assert flow(gate, f"x_{t + 1}", f"a_{t + 1}") == norm(da @ layer.weight_ih_l0.numpy())
        assert flow(gate, f"a_{t + 1}", f"h_{t + 1}") == norm(da)


def test_the_wires_into_a_cell_state_carry_the_exact_products() -> None:
    sequence = MADE["LSTM"][1].sequence()
    gate, cell = drawn(MADE["LSTM"][1], "gate"), drawn(MADE["LSTM"][1], "cell")
    g, c, dc, dh = sequence.gates, sequence.states["c"], sequence.gradients["c"], sequence.gradients["h"]
    for t in range(1, STEPS):
        assert flow(gate, f"c_{t}", f"c_{t + 1}") == norm(dc[t] * g["f"][t])
        assert flow(cell, f"c_{t}", f"c_{t + 1}") == norm(dc[t] * g["f"][t])
        assert flow(gate, f"f_{t + 1}", f"c_{t + 1}") == norm(dc[t] * c[t - 1])
        assert flow(gate, f"i_{t + 1}", f"c_{t + 1}") == norm(dc[t] * g["g"][t])
        assert flow(gate, f"g_{t + 1}", f"c_{t + 1}") == norm(dc[t] * g["i"][t])
        through_h = dh[t] * g["o"][t] * (1 - np.tanh(c[t]) ** 2)
        assert flow(gate, f"c_{t + 1}", f"h_{t + 1}") == norm(through_h)
        assert flow(cell, f"c_{t + 1}", f"h_{t + 1}") == norm(through_h)
        assert flow(gate, f"o_{t + 1}", f"h_{t + 1}") == norm(dh[t] * np.tanh(c[t]))


def test_the_wire_from_the_loss_carries_its_gradient() -> None:
    record = MADE["RNN"][1]
    h = record.sequence().states["h"]
    for level in ("cell", "gate", "op"):
        drawing = drawn(record, level)
        for t in range(STEPS):
            assert flow(drawing, f"h_{t + 1}", f"loss_{t + 1}") == norm(2 * (h[t] - 0.7) / h.size)


def test_the_lane_of_a_gru_carries_the_part_past_the_update_gate() -> None:
    sequence = MADE["GRU"][1].sequence()
    drawing = drawn(MADE["GRU"][1], "gate")
    for t in range(1, STEPS):
        assert flow(drawing, f"h_{t}", f"h_{t + 1}") == norm(sequence.gradients["h"][t] * sequence.gates["z"][t])


def test_ops_show_the_graphs_own_readings() -> None:
    record = MADE["LSTM"][1]
    assert record.graph is not None
    drawing = drawn(record, "op")
    for t in range(STEPS):
        nodes = [n for n in record.graph.nodes if n.box >= 0 and record.graph.boxes[n.box].time == t]
        numbers = sorted(number(n.reading.norm) for n in nodes)
        boxes = [b.words for b in drawing.of_steps() if re.search(rf"^(?!use|loss).* t{t + 1}$", b.words["class"])]
        assert sorted(box["label"].rpartition("\\ng ")[2] for box in boxes) == numbers


# Weights


@pytest.mark.parametrize("level", ["gate", "op"])
@pytest.mark.parametrize("cell", MADE)
def test_every_step_shows_its_term_of_each_weight(cell: str, level: str) -> None:
    record = MADE[cell][1]
    drawing = drawn(record, level)
    for name, parameter in record.parameters.items():
        short = {"weight_ih_l0": "W_ih", "weight_hh_l0": "W_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}[name]
        for t in range(STEPS):
            pills = [
                b.words for b in drawing.boxes.values()
                if re.fullmatch(rf"use use-{short} t{t + 1}", b.words.get("class", ""))
            ]  # fmt: skip
            assert len(pills) == 1
            (term,) = [u.array() for u in parameter.terms if u.time == t]
            size = float(np.linalg.norm(term))
            assert pills[0]["label"] == f"{short} {brief(Reading(size, 'value' if size else 'zero'))}"
            assert pills[0]["tooltip"].endswith(f"has norm {number(size)}")


def test_the_recurrent_weights_term_is_the_product_that_the_textbook_has() -> None:
    record = MADE["RNN"][1]
    s = record.sequence()
    drawing = drawn(record, "gate")
    for t in range(1, STEPS):
        da = s.gradients["h"][t] * (1 - s.states["h"][t] ** 2)
        (pill,) = [b.words for b in drawing.boxes.values() if b.words.get("class") == f"use use-W_hh t{t + 1}"]
        assert pill["tooltip"].endswith(f"has norm {norm(da.T @ s.states['h'][t - 1])}")


@pytest.mark.parametrize("level", ["gate", "op"])
def test_weights_of_one_name_or_none_are_told_apart(level: str) -> None:
    """Two cells outside of any module: the second one's weights are recorded as weight_ih', …"""
    drawing = drawn(RECORDS["LSTM, second of two layers"], level, sequence="l1")
    uses = [box.words for box in drawing.of_steps() if box.words["class"].startswith("use ")]
    assert {use["label"].split()[0] for use in uses} == {"W_ih'", "W_hh'", "b_ih'", "b_hh'"}
    assert len(uses) == 4 * 4

    class Nameless(Own):
        def __init__(self) -> None:
            super().__init__()
            self.W.name = self.U.name = None

        def step(self, x: mg.Tensor, state: Any) -> Any:
            return type(state)(x @ self.W + state.h @ self.U)

    uses = [box.words for box in drawn(own(Nameless), level).of_steps() if box.words["class"].startswith("use ")]
    assert {use["label"].rpartition(" ")[0] for use in uses} == {"parameter 0", "parameter 1"}


def test_one_weight_that_an_op_uses_twice_has_two_labels() -> None:
    class Square(Own):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            return type(state)(x @ (self.W * self.W) + state.h)

    drawing = drawn(own(Square), "op")
    assert len([b for b in drawing.boxes.values() if b.words.get("class") == "use use-W t2"]) == 2


# Names


@pytest.mark.parametrize(("parameter", "sequence", "short"), [
    ("lstm.weight_hh_l0", "l0", "W_hh"), ("lstm.bias_ih_l0", "l0", "b_ih"), ("rnn.weight_ih_l1", "l1", "W_ih"),
    ("rnn.weight_ih_l0_reverse", "l0_reverse", "W_ih"), ("rnn.weight_ih_l1", "l0", "W_ih_l1"),
    ("a.rnn.weight_hh_l0", "a/rnn/l0 #2", "W_hh"), ("output.weight", "l0", "output.weight"), ("weight", "l0", "weight"),
    ("cell.U", "l0", "U"), ("?", "l0", "?"),
])  # fmt: skip
def test_short_names(parameter: str, sequence: str, short: str) -> None:
    assert short_name(parameter, sequence) == short


def test_subscripts() -> None:
    assert [subscript("f", 12), subscript("kk", 3), subscript("mix", 405)] == ["f₁₂", "kk₃", "mix ₄₀₅"]


def test_labels_are_made_visible() -> None:
    labels = ["a", "\n", "\x00", "\u202e", "\ud800", "eightlet", "nineletter", "한국", "😀", ""]
    assert visible(labels) == ["a", "U+000A", "U+0000", "U+202E", "U+D800", "eightlet", "ninelet…", "한국", "😀", ""]
    assert visible(None) is None


def test_a_scope_called_like_a_state_keeps_a_box_of_its_own() -> None:
    drawing = drawn(own(TakenNames, every_step=True), "gate")
    kinds = sorted(b.words["class"] for b in drawing.of_steps() if b.words["class"].endswith(" t2"))
    assert kinds == sorted(["state t2", "input t2", "loss t2", *["gate t2"] * 3, "use use-W t2", "use use-U t2"])


def test_two_scopes_of_one_symbol_are_two_boxes() -> None:
    class Twins(Own):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            with mg.named_scope("one", "g"):
                a = mg.tanh(x @ self.W)
            with mg.named_scope("other", "g"):
                b = mg.sigmoid(a + state.h)
            return type(state)(a * b)

    gates = [b for b in drawn(own(Twins), "gate").of_steps() if b.words["class"] == "gate t3"]
    assert sorted(re.findall(r"one|other", b.words["tooltip"])[0] for b in gates) == ["one", "other"]


# Before any backward, and without ops


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_before_backward_no_box_has_a_number_for_its_gradient(cell: str, level: str) -> None:
    drawing = drawn(recorded(cell, backward=False), level)
    for box in drawing.of_steps():
        assert box.words["label"].endswith("—")
    assert all(wire.words["dir"] == "forward" for wire in drawing.wires)


def test_after_backward_arrows_point_back() -> None:
    assert {wire.words["dir"] for wire in drawn(MADE["LSTM"][1], "gate").wires} == {"back"}


@pytest.mark.parametrize("level", ["gate", "op"])
def test_gates_need_a_record_with_ops(level: str) -> None:
    record = recorded(keep="steps")
    with pytest.raises(RecordError, match="keep='ops'"):
        draw.unrolled(record, level)
    assert draw.unrolled(record, "cell").source
    assert draw.unrolled(record, "strip").source


def test_a_state_that_the_loss_never_sees_shows_no_mean() -> None:
    label = drawn(RECORDS["StateUnchanged"], "cell").boxes["kept_4"].words["label"]
    assert label == "kept ₄\\nno path"


def test_a_gradient_that_is_not_finite_is_shown_as_such() -> None:
    sequence = MADE["RNN"][1].sequence()
    gradients = sequence.gradients["h"].copy()
    gradients[1, 0, 0], gradients[2, 0, 0] = math.nan, math.inf
    broken = dataclasses.replace(sequence, gradients={"h": gradients})
    drawing = drawn(dataclasses.replace(MADE["RNN"][1], sequences={"l0": broken}), "cell")
    assert [gradient_of(drawing, f"h_{t}") for t in (2, 3)] == ["NaN", "inf"]


def test_a_loss_that_is_not_a_number_is_shown_at_its_step_alone() -> None:
    rng = np.random.default_rng(0)
    rnn, readout = nn.RNN(2, 3, nonlinearity="relu", rng=rng), nn.Linear(3, 4, rng=rng)
    rnn.weight_hh_l0.data = np.full((3, 3), 1e30, np.float32)
    with np.errstate(all="ignore"):
        output, _ = rnn(np.ones((5, 1, 2), np.float32))
        record = bptt.backward(nn.cross_entropy(readout(output[4:]), np.array([[1]])))
    source = draw.unrolled(record, "cell").source
    assert np.isnan(record.loss)
    assert re.findall(r'id="(loss_\d+)" label="([^"]*)"', source) == [("loss_5", r"L₅\nNaN")]
