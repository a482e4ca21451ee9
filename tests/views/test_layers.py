"""Pictures and reports of several layers and directions, of walks from the last step to the first, of padding."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import cache
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, nn
from minigrad.bptt import Record
from minigrad.bptt.diagnose import diagnose
from minigrad.errors import DrawError, RecordError
from minigrad.views import draw, report
from minigrad.views.layers import layers_of, titles
from minigrad.views.palette import number, shown
from minigrad.views.scene import subscript
from tests.views import test_layout as layout
from tests.views.test_fold import PAGE, shown_and_hidden
from tests.views.test_layout import Drawing
from tests.views.test_report import one_line, printed
from tests.views.test_scene import flow, gradient_of, norm

CELLS = ("RNN", "LSTM", "GRU")


@cache
def made(
    cell: str = "LSTM", steps: int = 4, layers: int = 2, both: bool = True, *, batch: int = 3,
    lengths: tuple[int, ...] | None = None, loss: str = "every step", keep: str = "ops", dtype: type = np.float64,
    dropout: float = 0.0, backward: bool = True,
) -> Record:  # fmt: skip
    """A record of a layer of nn whose loss reads the outputs of every step, or the last states."""
    rng = np.random.default_rng(3)
    net = getattr(nn, cell)(3, 4, layers, bidirectional=both, dropout=dropout, rng=rng, dtype=dtype)
    x = mg.Tensor(rng.standard_normal((steps, batch, 3)).astype(dtype), requires_grad=True)
    outputs, last = net(x, lengths=lengths)
    lasts = (last if isinstance(last, mg.Tensor) else last[0])[-2 if both else -1 :]
    read = outputs if loss == "every step" else lasts
    scalar = nn.mse_loss(read, rng.standard_normal(read.shape).astype(dtype))
    return bptt.backward(scalar, keep) if backward else bptt.record(scalar, keep)  # type: ignore[arg-type]


@cache
def backwards(cell: str = "LSTM", steps: int = 4, *, lengths: tuple[int, ...] | None = None) -> Record:
    """A single walk from the last step to the first."""
    rng = np.random.default_rng(3)
    x = mg.Tensor(rng.standard_normal((steps, 3, 3)), requires_grad=True)
    step = getattr(nn, f"{cell}Cell")(3, 4, rng=rng, dtype=np.float64)
    outputs, _ = nn.unroll(step, x, name="l0_reverse", reverse=True, lengths=lengths)
    return bptt.backward(nn.mse_loss(outputs, rng.standard_normal(outputs.shape)), keep="ops")


def drawn(record: Record, level: str = "cell", **options: Any) -> Drawing:
    return Drawing(draw.unrolled(record, level, everything=True, **options).source)


NETWORKS = {
    "RNN, 3 layers": made("RNN", layers=3, both=False),
    "LSTM, 2 layers": made("LSTM", both=False),
    "LSTM, both directions": made("LSTM", layers=1),
    "LSTM, 2 layers, both directions": made("LSTM"),
    "GRU, 3 layers, both directions": made("GRU", layers=3, batch=1, dtype=np.float32),
    "GRU, unequal lengths": made("GRU", lengths=(3, 1, 2)),
    "LSTM, last states": made("LSTM", lengths=(4, 3, 1), loss="last"),
    "LSTM, dropout": made("LSTM", both=False, dropout=0.5),
    "RNN, before backward": made("RNN", backward=False),
}


# All layers at the cell level


@pytest.mark.parametrize("name", [name for name in NETWORKS if "before" not in name])
def test_every_state_of_every_layer_and_direction_shows_its_gradient(name: str) -> None:
    record = NETWORKS[name]
    drawing = drawn(record)
    count = 0
    for s in record.sequences.values():
        for state, gradients in s.gradients.items():
            for t in range(s.steps):
                real = gradients[t][s.lengths > t]
                assert gradient_of(drawing, f"{s.name}_{state}_{t + 1}") == (norm(real) if len(real) else "pad")
                count += 1
    assert count == sum(box.words["class"].startswith("state ") for box in drawing.of_steps())


@pytest.mark.parametrize("name", ["RNN, 3 layers", "LSTM, 2 layers, both directions", "GRU, 3 layers, both directions"])
def test_wires_between_layers_carry_what_the_record_has(name: str) -> None:
    record = NETWORKS[name]
    drawing, layers = drawn(record), layers_of(record)
    for k, layer in enumerate(layers):
        for s in layer:
            for t in range(s.steps):
                below = "x" if k == 0 else f"join_{k}" if len(layer) > 1 else f"l{k - 1}_h"
                assert s.input_norms is not None
                assert flow(drawing, f"{below}_{t + 1}", f"{s.name}_h_{t + 1}") == norm(s.input_norms[t])
                above = "loss" if k + 1 == len(layers) else f"join_{k + 1}" if len(layer) > 1 else None
                if above:
                    outside = s.arrivals["h"]["outside"][t]
                    assert flow(drawing, f"{s.name}_h_{t + 1}", f"{above}_{t + 1}") == norm(outside)


def test_the_story_takes_each_direction_from_its_own_end() -> None:
    record = NETWORKS["LSTM, last states"]
    story = drawn(record).boxes["story"].words["label"]
    for title, s in zip(titles(list(record.sequences.values())).values(), record.sequences.values(), strict=True):
        ends, begins = (s.readings()[t] for t in ((3, 0) if s.reverse else (0, 3)))
        assert f"{title} {shown(ends)} / {shown(begins)} = {number(ends.norm / begins.norm)}" in story


def test_in_a_plain_stack_what_a_layer_hands_down_is_what_arrives_below() -> None:
    """One wire stands for both numbers: they differ where a dropout lies between."""
    record = NETWORKS["RNN, 3 layers"]
    for lower, upper in (("l0", "l1"), ("l1", "l2")):
        arrived, handed = record.sequences[lower].arrivals["h"]["outside"], record.sequences[upper].input_norms
        np.testing.assert_allclose(arrived, handed, rtol=1e-12)
    dropped = NETWORKS["LSTM, dropout"].sequences
    assert dropped["l1"].input_norms is not None
    assert not np.allclose(dropped["l0"].arrivals["h"]["outside"], dropped["l1"].input_norms)
    about = drawn(NETWORKS["LSTM, dropout"]).boxes["l0_h_2"].words["tooltip"]
    assert about.endswith(f"; {norm(dropped['l0'].arrivals['h']['outside'][1])} from above")


@pytest.mark.parametrize("name", ["LSTM, both directions", "GRU, unequal lengths"])
def test_lanes_run_the_way_their_states_are_computed(name: str) -> None:
    record = NETWORKS[name]
    drawing = drawn(record)
    for s in record.sequences.values():
        for state in s.states:
            for t in range(1, s.steps):
                older, newer = (t + 1, t) if s.reverse else (t, t + 1)
                tail, head = (drawing.boxes[f"{s.name}_{state}_{k}"] for k in (older, newer))
                (wire,) = [w for w in drawing.wires if (w.tail, w.head) == (tail.name, head.name)]
                assert len({round(y, 2) for _, y in wire.corners}) == 1
                assert (wire.corners[0][0] > wire.corners[-1][0]) == s.reverse
                arrived = s.arrivals[state]["next"][older - 1][s.lengths > older - 1]
                assert flow(drawing, tail.name, head.name) == (norm(arrived) if len(arrived) else "pad")
            first = drawing.boxes[f"{s.name}_{state}_0"]
            assert (first.left > drawing.frames[-1].right) if s.reverse else (first.right < drawing.frames[0].left)


def test_layers_stand_above_each_other_from_the_input_to_the_loss() -> None:
    drawing = drawn(NETWORKS["LSTM, 2 layers, both directions"])
    names = ["x_1", "l0_h_1", "l0_c_1", "l0_reverse_h_1", "l0_reverse_c_1", "join_1_1", "l1_h_1", "l1_c_1",
             "l1_reverse_h_1", "l1_reverse_c_1", "loss_1"]  # fmt: skip
    assert all(drawing.boxes[a].top < drawing.boxes[b].bottom for a, b in pairwise(names))
    assert drawing.boxes["story"].words["label"].count(" = ") == 4
    titles_ = [b.words["label"] for name, b in drawing.boxes.items() if name.startswith("title")]
    assert titles_ == ["l0 →", "l0_reverse ←", "l1 →", "l1_reverse ←"]


def test_an_input_that_two_directions_read_shows_what_each_hands_back() -> None:
    record = NETWORKS["LSTM, both directions"]
    words = drawn(record, labels="abcd").boxes["x_3"].words
    assert words["label"] == "x₃\\n“c”"
    found = [f"{s.name} {norm(s.input_norms[2])}" for s in record.sequences.values() if s.input_norms is not None]
    assert words["tooltip"].endswith(f"‖dL/dx‖ by direction: {', '.join(found)}")


def test_the_loss_stands_where_it_enters() -> None:
    """It reads the last states: a sample's last real step forward, its first one in the reverse direction."""
    drawing = drawn(NETWORKS["LSTM, last states"])
    assert [t for t in range(1, 5) if f"loss_{t}" in drawing.boxes] == [1, 3, 4]
    s = NETWORKS["LSTM, last states"].sequences
    for t in (1, 3, 4):
        for name in ("l1", "l1_reverse"):
            real = s[name].lengths > t - 1
            outside = s[name].arrivals["h"]["outside"][t - 1][real]
            assert flow(drawing, f"{name}_h_{t}", f"loss_{t}") == norm(outside)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_picture_of_all_layers_is_as_tidy_as_that_of_one(name: str) -> None:
    check(drawn(NETWORKS[name]))


def check(drawing: Drawing) -> None:
    layout.test_no_two_boxes_overlap(drawing)
    layout.test_every_box_is_inside_the_frame_of_its_step(drawing)
    layout.test_everything_is_inside_the_picture(drawing)
    layout.test_time_runs_strictly_from_left_to_right(drawing)
    layout.test_no_words_are_wider_than_their_box(drawing)
    layout.test_wires_run_at_right_angles(drawing)
    layout.test_wires_end_at_the_border_of_their_boxes(drawing)
    layout.test_no_wire_passes_through_a_box(drawing)
    layout.test_wires_share_a_line_only_on_the_lane_they_come_from(drawing)


@pytest.mark.parametrize("level", ["cell", "strip"])
@pytest.mark.parametrize(("cell", "layers", "both"), [
    ("RNN", 3, False), ("LSTM", 2, True), ("LSTM", 3, True), ("GRU", 3, True), ("LSTM", 6, False),
])  # fmt: skip
@pytest.mark.parametrize("steps", [1, 2, 6, 11, 200])
@pytest.mark.slow
def test_a_network_of_any_length_fits_the_page(cell: str, layers: int, both: bool, level: str, steps: int) -> None:
    picture = draw.unrolled(made(cell, steps, layers, both, keep="steps"), level)
    assert picture.size[0] <= PAGE[0]
    assert picture.size[1] <= PAGE[1]
    assert min(float(size) for size in re.findall(r'fontsize="?([\d.]+)', picture.source)) == 10
    drawing = Drawing(picture.source)
    layout.test_everything_is_inside_the_picture(drawing)
    if level == "cell":
        visible, hidden = shown_and_hidden(drawing)
        assert sorted(visible + hidden) == list(range(1, steps + 1))
        assert all(layout.apart(a, b) for a, b in combinations(drawing.of_steps(), 2))
        words = [b for name, b in drawing.boxes.items() if re.match(r"fold_\d+_", name)]
        assert all(layout.apart(a, b) for a, b in combinations(words, 2))


def test_a_fold_has_the_least_and_the_largest_norm_of_every_lane() -> None:
    record = made("LSTM", 40, keep="steps")
    drawing = Drawing(draw.unrolled(record, "cell").source)
    (fold,) = [name for name, box in drawing.boxes.items() if box.words.get("class") == "fold"]
    _, hidden = shown_and_hidden(drawing)
    for s in record.sequences.values():
        norms = [float(np.linalg.norm(s.gradients["c"][t - 1])) for t in hidden]
        words = drawing.boxes[f"{fold}_{s.name}_c_words0"].words["label"]
        assert words == f"g {number(min(norms))} … {number(max(norms))}"


@pytest.mark.parametrize("cell", ["RNN", "LSTM"])
def test_wires_beside_a_fold_carry_the_flow_between_the_steps_there(cell: str) -> None:
    record = made(cell, 40, layers=1, keep="steps", loss="last")
    drawing = Drawing(draw.unrolled(record, "cell").source)
    (fold,) = [name for name, box in drawing.boxes.items() if box.words.get("class") == "fold"]
    _, hidden = shown_and_hidden(drawing)
    before, after = hidden[0] - 1, hidden[-1] + 1
    for s in record.sequences.values():
        for state in s.states:
            arrived = s.arrivals[state]["next"]
            near, far = f"{s.name}_{state}_{before}", f"{s.name}_{state}_{after}"
            if s.reverse:  # from the right: the flow into the older of two neighbours, the one with the larger time
                assert flow(drawing, far, fold) == norm(arrived[after - 1])
                assert flow(drawing, fold, near) == norm(arrived[before])
            else:
                assert flow(drawing, near, fold) == norm(arrived[before - 1])
                assert flow(drawing, fold, far) == norm(arrived[after - 2])


@pytest.mark.parametrize("cell", [layout.StateUnchanged, layout.TwoFeeding, layout.NoScopes])
@pytest.mark.parametrize("both", [False, True])
def test_layers_of_cells_of_your_own_are_drawn(cell: Any, both: bool) -> None:
    y = mg.Tensor(np.random.default_rng(2).standard_normal((4, 2, 3)), requires_grad=True)
    for k in range(2):
        outputs = [nn.unroll(cell(), y, name=f"l{k}")[0]]
        if both:
            outputs.append(nn.unroll(cell(), y, name=f"l{k}_reverse", reverse=True)[0])
        y = sum(outputs[1:], outputs[0])
    record = bptt.backward(nn.mse_loss(y, np.ones(y.shape)))
    check(drawn(record))
    assert list(layer_rows(record)) == [f"{s} {'←' if 'rev' in s else '→'}" for s in reversed(record.sequences)]


def test_before_backward_arrows_run_forward_in_every_lane() -> None:
    drawing = drawn(NETWORKS["RNN, before backward"])
    assert {wire.words["dir"] for wire in drawing.wires} == {"forward"}
    assert all(b.words["label"].endswith("—") for b in drawing.of_steps() if b.words["class"].startswith("state"))


# Strips of all layers


def test_a_strip_has_every_row_of_every_layer_and_direction_on_one_scale() -> None:
    record = NETWORKS["GRU, unequal lengths"]
    drawing = Drawing(draw.unrolled(record, "strip").source)
    rows = [b.words["label"] for name, b in drawing.boxes.items() if name.startswith("row_")]
    assert rows == [f"{s}  {r}" for s in ("l1_reverse", "l1", "l0_reverse", "l0") for r in "hrznx"]
    for s in record.sequences.values():
        for row, readings in {"h": s.readings(), "r": s.over_batch(s.gate_norms["r"])}.items():
            for t, reading in enumerate(readings):
                tip = drawing.boxes[f"{s.name}u20u20{row}_{t + 1}"].words["tooltip"]
                assert tip == f"t={t + 1}: ‖∂L/∂{row}‖ = {shown(reading)}"
    arrows = [(wire.words["dir"], wire.corners[0][0] < wire.corners[-1][0]) for wire in drawing.wires]
    assert arrows == [("back", True), ("back", False)]


def test_a_deep_strip_leaves_the_gates_out() -> None:
    def rows(layers: int) -> set[str]:
        drawing = Drawing(draw.unrolled(made("LSTM", 5, layers, keep="steps"), "strip").source)
        return {b.words["label"].split()[1] for name, b in drawing.boxes.items() if name.startswith("row_")}

    assert rows(2) == set("Chifgox")
    assert rows(3) == set("Chx")


@pytest.mark.parametrize("cell", CELLS)
def test_the_arrow_below_the_strip_of_a_reverse_walk_points_to_the_right(cell: str) -> None:
    (arrow,) = Drawing(draw.unrolled(backwards(cell), "strip").source).wires
    assert arrow.words["dir"] == "back"
    assert arrow.corners[0][0] > arrow.corners[-1][0] + 60


# A single walk from the last step to the first


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_reverse_walk_is_a_tidy_picture(cell: str, level: str) -> None:
    check(drawn(backwards(cell), level))


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_state_of_a_reverse_walk_comes_in_from_the_right(cell: str, level: str) -> None:
    record = backwards(cell)
    drawing = drawn(record, level)
    for state in record.sequence().states:
        assert drawing.boxes[f"{state}_0"].left > drawing.frames[-1].right
    between = [(w, int(w.tail[-1]), int(w.head[-1])) for w in drawing.wires if w.tail[-1] != w.head[-1]]
    assert {(a, b) for _, a, b in between} == {(0, 4), (4, 3), (3, 2), (2, 1)}
    for wire, _, _ in between:
        assert wire.corners[0][0] > wire.corners[-1][0]


@pytest.mark.parametrize("cell", CELLS)
def test_mirrored_in_time_a_walk_has_the_same_numbers(cell: str) -> None:
    """Reversing a sequence by hand and walking forward is the same computation; nothing here knows of the other."""
    rng = np.random.default_rng(8)
    x, step = rng.standard_normal((4, 2, 3)), getattr(nn, f"{cell}Cell")(3, 4, rng=rng, dtype=np.float64)

    def record(reverse: bool) -> Record:
        for parameter in step.parameters():
            parameter.grad = None
        inputs = mg.Tensor(x[::-1].copy() if reverse else x, requires_grad=True)
        _, last = nn.unroll(step, inputs, reverse=reverse)
        return bptt.backward((last[0] * last[0]).sum(), keep="ops")

    for level in ("cell", "gate", "op"):
        forward, reverse = drawn(record(False), level), drawn(record(True), level)
        pairs = [(b, reverse.boxes[re.sub(r"(_)([1-4])(?=_|$)", lambda m: f"_{5 - int(m[2])}", b.name, count=1)])
                 for b in forward.of_steps() if not b.words["class"].startswith("use")]  # fmt: skip
        assert len(pairs) >= 4 * 2
        for a, b in pairs:
            assert a.words["label"].split("\\n")[1:] == b.words["label"].split("\\n")[1:]
            assert a.left - forward.frames[0].left == pytest.approx(reverse.frames[-1].right - b.right, abs=0.1)


def test_the_words_of_a_reverse_walk_take_its_own_view() -> None:
    record = backwards("LSTM", 6)
    s = record.sequence()
    words = {name: box.words["label"] for name, box in drawn(record).boxes.items()}
    assert "runs from t=6 to t=1" in words["caption"]
    ends, starts = (norm(s.gradients["h"][t]) for t in (5, 0))
    assert words["story"].startswith(f"‖∂L/∂h₆‖ = {ends}   ‖∂L/∂h₁‖ = {starts}   ratio ")
    assert "t=6" in drawn(record).boxes["h_0"].words["tooltip"]


@pytest.mark.parametrize("level", draw.LEVELS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 21, 60])
def test_a_reverse_walk_fits_the_page(cell: str, level: str, steps: int) -> None:
    picture = draw.unrolled(backwards(cell, steps), level)
    assert picture.size[0] <= PAGE[0]
    assert picture.size[1] <= PAGE[1]
    drawing = Drawing(picture.source)
    layout.test_everything_is_inside_the_picture(drawing)
    if level != "strip":
        visible, hidden = shown_and_hidden(drawing)
        assert sorted(visible + hidden) == list(range(1, steps + 1))
        last = next(frame for frame in drawing.frames if frame.name == f"step_{steps}")
        for first in (drawing.boxes[f"{state}_0"] for state in backwards(cell).sequence().states):
            assert first.left > last.right
            assert last.bottom < first.bottom < last.top


def test_a_reverse_walk_in_two_rows_goes_on_where_it_says() -> None:
    drawing = Drawing(draw.unrolled(backwards("LSTM", 14), "cell").source)
    stubs = {name: box for name, box in drawing.boxes.items() if re.match("(to|from)", name)}
    assert sorted((name, box.words["label"]) for name, box in stubs.items()) == [
        ("from7_c", "t=7"), ("from7_h", "t=7"), ("to8_c", "t=8"), ("to8_h", "t=8"),
    ]  # fmt: skip
    ways = {(wire.tail, wire.head) for wire in drawing.wires}
    assert {("to8_h", "h_7"), ("to8_c", "c_7"), ("h_8", "from7_h"), ("c_8", "from7_c")} <= ways


# One layer of several


def test_the_output_of_a_lower_layer_goes_to_the_one_above() -> None:
    record = NETWORKS["LSTM, 2 layers, both directions"]
    for name in ("l0", "l0_reverse"):
        drawing = drawn(record, "gate", sequence=name)
        for t in range(1, 5):
            assert drawing.boxes[f"loss_{t}"].words["label"] == "to\\nl1"
            outside = record.sequences[name].arrivals["h"]["outside"][t - 1]
            assert flow(drawing, f"h_{t}", f"loss_{t}") == norm(outside)
    assert drawn(record, "gate", sequence="l1").boxes["loss_1"].words["class"] == "loss t1"
    assert drawn(record, "gate", sequence="l0").boxes["caption"].words["label"].startswith("LSTM l0, T = 4")


def test_some_of_the_layers_can_be_drawn() -> None:
    drawing = drawn(NETWORKS["RNN, 3 layers"], sequence=["l0", "l1"])
    assert {b.name for b in drawing.of_steps() if b.name.endswith("_2")} == {"x_2", "l0_h_2", "l1_h_2", "loss_2"}
    assert drawing.boxes["loss_2"].words["label"] == "to\\nl2"


@pytest.mark.parametrize("level", ["gate", "op"])
def test_gates_of_several_layers_at_once_are_refused(level: str) -> None:
    with pytest.raises(DrawError, match=re.compile("found l0, l1, l2.*sequence='l0'", re.DOTALL)):
        draw.unrolled(NETWORKS["RNN, 3 layers"], level)


@pytest.mark.parametrize("level", ["gate", "op"])
def test_gates_that_a_kernel_did_are_refused_and_how_to_see_them_is_said(level: str) -> None:
    rng = np.random.default_rng(0)
    net = nn.GRU(3, 4, 2, kernel="fused", rng=rng)
    outputs, _ = net(rng.standard_normal((4, 2, 3)).astype(np.float32))
    loss = nn.mse_loss(outputs, np.ones(outputs.shape, np.float32))
    record = bptt.backward(loss, keep="ops")
    with pytest.raises(RecordError, match=re.compile(r"l1 ran in one op, a kernel.*bptt\.expand\(loss\)", re.DOTALL)):
        draw.unrolled(record, level, sequence="l1")
    assert draw.unrolled(bptt.expand(loss), level, sequence="l1").source
    assert drawn(record).boxes["l1_h_4"]


def test_a_comparison_with_a_reverse_walk_points_both_ways() -> None:
    records = {"one": made("LSTM", layers=1, both=False), "other": backwards("GRU")}
    drawing = Drawing(draw.compare(records).source)
    assert len({wire.corners[0][0] < wire.corners[-1][0] for wire in drawing.wires}) == 2
    s = records["other"].sequence()
    assert f"other: ‖∂L/∂h₄‖ / ‖∂L/∂h₁‖ = {norm_ratio(s.gradients['h'], 3, 0)}" in drawing.boxes["story"].words["label"]


def norm_ratio(gradients: np.ndarray[Any, Any], first: int, last: int) -> str:
    return number(float(np.linalg.norm(gradients[first]) / np.linalg.norm(gradients[last])))


def two_networks(second: int) -> Record:
    rng = np.random.default_rng(0)
    one, other = nn.RNN(3, 4, rng=rng), nn.RNN(3, 4, rng=rng)
    a, _ = one(rng.standard_normal((4, 2, 3)).astype(np.float32))
    b, _ = other(rng.standard_normal((second, 2, 3)).astype(np.float32))
    return bptt.backward(nn.mse_loss(a[-1] + b[-1], np.ones((2, 4), np.float32)))


def test_sequences_that_are_no_layers_are_not_stacked_unless_asked() -> None:
    record = two_networks(4)
    assert list(record.sequences) == ["rnn/l0", "rnn/l0 #2"]
    with pytest.raises(DrawError, match=re.compile("rnn/l0 .*rnn/l0 #2.*list from the bottom up", re.DOTALL)):
        draw.unrolled(record)
    labels = [b.words["label"] for n, b in drawn(record, sequence=list(record.sequences)).boxes.items() if "title" in n]
    assert labels == ["rnn/l0 →", "rnn/l0 #2 →"]
    assert drawn(record, sequence="rnn/l0 #2").boxes["h_4"]


def test_layers_of_unequal_time_are_refused() -> None:
    with pytest.raises(DrawError, match=re.compile(r"rnn/l0 \(T=4\), rnn/l0 #2 \(T=3\).*sequence=", re.DOTALL)):
        draw.unrolled(two_networks(3))


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecordError, match="no sequence 'l5'"):
        draw.unrolled(NETWORKS["RNN, 3 layers"], sequence=["l0", "l5"])


# Unequal lengths


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_a_step_says_how_many_samples_have_not_ended(level: str) -> None:
    drawing = drawn(made("GRU", layers=1, both=False, lengths=(3, 1, 2)), level)
    labels = [frame.words["label"] for frame in drawing.frames]
    assert labels == ["t = 1", "t = 2   2 of 3", "t = 3   1 of 3", "t = 4   padding"]
    assert "2 of 3 samples, the others have ended" in drawing.boxes["h_2"].words["tooltip"]
    (words,) = [box.words["label"] for name, box in drawing.boxes.items() if name == "story_0"]
    assert words.startswith("2 of 3: so many samples have not ended at this step. Norms and means are over")


def test_nothing_is_said_where_no_sample_ends() -> None:
    source = draw.unrolled(made("GRU", layers=1, both=False), "cell").source
    assert " of 3" not in source
    assert "padding" not in source


def test_both_outputs_are_padding_where_all_they_join_is() -> None:
    boxes = drawn(NETWORKS["GRU, unequal lengths"]).boxes
    assert [boxes[f"join_1_{t}"].words["color"] == "#d0d0d0" for t in range(1, 5)] == [False, False, False, True]


def test_the_words_on_arrows_name_what_there_is() -> None:
    def words(name: str) -> str:
        return drawn(NETWORKS[name]).boxes["story_0"].words["label"]

    assert "Between two layers" in words("RNN, 3 layers")
    assert "Into both outputs, and into x" in words("LSTM, 2 layers, both directions")
    assert "both outputs" not in words("LSTM, both directions")


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_a_step_that_is_padding_for_all_has_no_numbers(level: str) -> None:
    drawing = drawn(made("GRU", layers=1, both=False, lengths=(3, 1, 2)), level)
    padded = [box for box in drawing.of_steps() if box.words["class"].endswith(" t4")]
    assert len(padded) >= 2
    for box in padded:
        assert box.words["label"].endswith("pad")
        assert box.words["color"] == "#d0d0d0"
        assert not re.search(r"\d\.\d", box.words["label"])
    legend = [b.words["label"] for b in drawing.boxes.values() if b.words.get("class") == "legend"]
    assert "padding" in legend


def test_a_mean_is_that_of_the_samples_that_have_not_ended() -> None:
    record = made("LSTM", layers=1, both=False, lengths=(3, 1, 2))
    s, drawing = record.sequence(), drawn(record, "gate")
    for t in range(3):
        for symbol, values in {**s.states, **s.gates}.items():
            mean, box = values[t][s.lengths > t].mean(), drawing.boxes[f"{symbol}_{t + 1}"]
            assert box.words["label"].split("\\n")[1] == number(float(mean))
            if symbol in s.gates:
                assert f"mean {number(float(mean))}," in box.words["tooltip"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("level", ["gate", "op"])
def test_the_op_that_keeps_samples_apart_is_called_by_what_it_chooses(level: str, reverse: bool) -> None:
    lengths = (4, 1, 2)
    record = backwards("GRU", lengths=lengths) if reverse else made("GRU", layers=1, both=False, lengths=lengths)
    drawing = drawn(record, level)
    check(drawing)
    boxes = [box.words for box in drawing.of_steps() if " or " in box.words["label"]]
    chosen = {words["label"].split("\\n")[0]: words["class"] for words in boxes}
    before = {1: 2, 2: 3, 3: 4} if reverse else {2: 1, 3: 2, 4: 3}
    assert chosen == {f"{subscript('h', k)} or h₀": f"gate t{t}" for t, k in before.items()}
    assert not any(b.words["label"].startswith("where") for b in drawing.of_steps())


def test_padding_is_folded_before_any_real_step() -> None:
    drawing = Drawing(draw.unrolled(made("GRU", 9, 1, False, lengths=(6, 4, 2)), "gate").source)
    visible, hidden = shown_and_hidden(drawing)
    assert (visible[0], visible[-1]) == (1, 6)
    assert {7, 8, 9} <= set(hidden)
    assert drawing.boxes["fold_7_h_words0"].words["label"] == "padding"


# One sample


@pytest.mark.parametrize("sample", [0, 1, 2])
def test_one_sample_of_a_batch_shows_its_own_norms(sample: int) -> None:
    record = made("LSTM", layers=2, lengths=(4, 3, 1))
    drawing = drawn(record, sample=sample)
    strip = Drawing(draw.unrolled(record, "strip", sample=sample).source)
    for s in record.sequences.values():
        for t in range(4):
            expected = norm(s.gradients["h"][t, sample]) if t < s.lengths[sample] else "pad"
            assert gradient_of(drawing, f"{s.name}_h_{t + 1}") == expected
            tip = strip.boxes[f"{s.name}u20u20h_{t + 1}"].words["tooltip"]
            assert tip.endswith(f"= {expected}")
    assert f"sample {sample} (of 0 to 2)" in drawing.boxes["caption"].words["label"]
    assert drawing.boxes["loss_1"].words["label"] == "loss"  # the record has the batch's alone


def test_a_sample_that_is_not_there_is_refused() -> None:
    with pytest.raises(DrawError, match=re.compile("no sample 3 in a batch of N=3.*0 to 2", re.DOTALL)):
        draw.unrolled(NETWORKS["LSTM, 2 layers"], sample=3)
    with pytest.raises(DrawError, match="single samples"):
        draw.unrolled(NETWORKS["LSTM, 2 layers"], "gate", sequence="l0", sample=0)


def test_one_sample_leaves_the_record_alone() -> None:
    record = made("GRU", both=False)
    before = dataclasses.replace(record)
    draw.unrolled(record, sample=1)
    assert record == before


# Reports


def layer_rows(record: Record, width: int = 140) -> dict[str, list[str]]:
    lines = printed(report.layers(record), width).splitlines()
    names = titles(list(record.sequences.values())).values()
    return {name: line.removeprefix(name).split() for line in lines for name in names if line.startswith(f"{name} ")}


@pytest.mark.parametrize("name", ["RNN, 3 layers", "LSTM, 2 layers, both directions", "LSTM, last states"])
def test_a_report_of_layers_has_a_row_for_each_the_top_one_first(name: str) -> None:
    record = NETWORKS[name]
    rows = layer_rows(record)
    assert list(rows) == [f"{s} {'←' if 'rev' in s else '→'}" for s in reversed(record.sequences)]
    for (title, row), s in zip(rows.items(), reversed(record.sequences.values()), strict=True):
        found = diagnose(record, sequence=s.name)
        assert found.lane is not None
        assert row[1] == found.verdict.upper(), title
        numbers = (shown(found.lane.first), shown(found.lane.last), number(found.lane.ratio), number(found.lane.share))
        assert tuple(row[2:6]) == numbers
        mine = [p for p in record.parameters.values() if p.name.endswith(f"_{s.name}")]
        assert len(mine) == 4
        assert row[-1] == number(math.hypot(*(float(np.linalg.norm(p.gradient)) for p in mine)))


def test_a_report_of_layers_shows_at_which_depth_the_gradient_dies() -> None:
    rng = np.random.default_rng(0)
    net = nn.RNN(3, 4, 3, rng=rng, dtype=np.float64)
    net.weight_hh_l1.data = np.zeros((4, 4))
    outputs, _ = net(rng.standard_normal((8, 2, 3)))
    rows = layer_rows(bptt.backward((outputs * outputs).sum()))
    assert [row[1] for row in rows.values()].index("DEAD") == 1
    assert sum(row[1] == "DEAD" for row in rows.values()) == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_report_of_layers_fits_the_console(width: int) -> None:
    text = printed(report.layers(NETWORKS["LSTM, 2 layers, both directions"]), width)
    assert max(map(len, text.splitlines())) <= width


def test_a_report_without_sequences_is_refused() -> None:
    w = nn.Parameter(np.ones(3))
    with pytest.raises(RecordError, match="no sequence"):
        report.layers(bptt.backward((w * w).sum()))


def test_a_report_of_one_layer_says_which_others_there_are() -> None:
    text = one_line(report.gradients(NETWORKS["LSTM, both directions"], sequence="l0_reverse"), 120)
    assert text.startswith("LSTM l0_reverse T=4 N=3 H=4")
    assert "(of l0, l0_reverse)" in text
    assert "Time runs down, this direction runs up, and its gradient down." in text


def test_a_report_counts_the_samples_of_each_step() -> None:
    lines = printed(report.gradients(made("GRU", layers=1, both=False, lengths=(3, 1, 2))), 100).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("t samples"))
    rows = [line.split() for line in lines[start + 1 : start + 5]]
    assert [row[1:4] for row in rows] == [["3", "of", "3"], ["2", "of", "3"], ["1", "of", "3"], ["0", "of", "3"]]
    assert rows[3][4:6] == ["pad", "padding"]
    equal = printed(report.gradients(made("GRU", layers=1, both=False)), 100)
    assert "samples" not in equal


def test_a_gradient_that_dies_on_a_reverse_walk_is_told_from_its_own_end() -> None:
    rng = np.random.default_rng(0)
    cell = nn.RNNCell(3, 4, rng=rng, dtype=np.float64)
    cell.weight_hh.data = np.zeros((4, 4))
    _, last = nn.unroll(cell, mg.Tensor(rng.standard_normal((6, 1, 3))), name="l0_reverse", reverse=True)
    text = one_line(report.gradients(bptt.backward((last.h * last.h).sum())), 120)
    assert "exactly 0 comes back to step 2 from the step after it, 1." in text
    assert "Nothing that steps from 2 up do is corrected by the loss at step 1." in text


class State(NamedTuple):
    h: mg.Tensor


class TwoOfOneName(nn.Module):
    """Two scopes of one symbol, far apart in value, and one that is called like the state."""

    def initial_state(self, batch: int) -> Any:
        return State(mg.Tensor(np.zeros((batch, 2))))

    def step(self, x: mg.Tensor, state: Any) -> Any:
        with mg.named_scope("one", "f"):
            one = mg.sigmoid(x + 4.0)
        with mg.named_scope("two", "f"):
            two = mg.sigmoid(x - 4.0)
        with mg.named_scope("candidate", "h"):
            candidate = mg.tanh(x)
        return State(one * state.h + two * candidate)


def test_of_two_scopes_with_one_symbol_none_has_the_mean_of_the_other() -> None:
    x = mg.Tensor(np.full((3, 2, 2), 0.5), requires_grad=True)
    outputs, _ = nn.unroll(TwoOfOneName(), x, lengths=[3, 1])
    drawing = drawn(bptt.backward((outputs * outputs).sum(), keep="ops"), "gate")
    texts = [box.words["label"] for box in drawing.of_steps() if "f" in box.words["label"].split("\\n")[0]]
    for t in (2, 3):
        of_step = [text for text in texts if text.startswith(subscript("f", t))]
        assert len(of_step) == 2
        assert not any(re.search(r"\\n0\.\d+\\n", text) for text in of_step)
    (candidate,) = [b for b in drawing.of_steps() if b.words["tooltip"].partition(",")[0].endswith("t=2 / candidate")]
    assert number(math.tanh(0.5)) in candidate.words["label"]
