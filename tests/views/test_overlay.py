"""Measures over the unrolled network: each number is the measure's, stands where it belongs, and is explained."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, clip_grad_norm, clip_grad_value, nn
from minigrad.bptt import Record
from minigrad.bptt.attribution import attribution, attribution_of_losses
from minigrad.bptt.gates import gates
from minigrad.bptt.jacobian import jacobian_curves, step_jacobians
from minigrad.bptt.terms import step_terms
from minigrad.bptt.thresholds import clipping_effects, norms_over_training
from minigrad.bptt.truncation import truncation
from minigrad.errors import DrawError
from minigrad.views import draw, overlay
from minigrad.views import overlay_common as scales
from minigrad.views.palette import BINS, PLAIN, SPECIAL, Mark, number, on
from tests.views.hostile import Hostile
from tests.views.test_draw import SVG, words_in
from tests.views.test_layout import Drawing, Own, apart, inside, own

MEASURES = ("terms", "jacobian", "attribution", "gates", "by norm", "by value", "effect by norm", "effect by value",
            "effect in backward", "thresholds", "truncation")  # fmt: skip


@cache
def model(
    cell: str = "LSTM", steps: int = 7, batch: int = 2, *, layers: int = 1, both: bool = False, last: bool = False,
    lengths: tuple[int, ...] | None = None, kernel: str = "steps", dtype: Any = np.float64,
) -> tuple[Any, Any, Any, Record]:  # fmt: skip
    """A layer, its input, what it gives, and the record; the loss is a mean over the steps, or on the last one."""
    rng = np.random.default_rng(5)
    layer = getattr(nn, cell)(3, 4, num_layers=layers, bidirectional=both, kernel=kernel, rng=rng, dtype=dtype)
    x = mg.Tensor(rng.standard_normal((steps, batch, 3)).astype(dtype), requires_grad=True)
    y, _ = layer(x) if lengths is None else layer(x, lengths=list(lengths))
    target = rng.standard_normal(y.shape).astype(dtype)
    loss = nn.mse_loss(y[-1], target[-1]) if last else nn.mse_loss(y, target)
    return layer, x, y, bptt.backward(loss, keep="ops" if kernel == "steps" else "steps")


@cache
def measured(name: str, *args: Any, **options: Any) -> tuple[Record, Any]:
    """A record and a measure of all its walks."""
    layer, *_, record = model(*args, **options)
    walks = list(record.sequences)
    parameters = list(layer.parameters())
    if name in ("by norm", "by value"):
        clipping = clip_grad_norm(parameters, 0.01) if name == "by norm" else clip_grad_value(parameters, 1e-3)
        for p in parameters:  # others look at the same model
            p.grad = np.array(record.parameters[p.name].gradient)
        return record, clipping
    made: dict[str, Any] = {
        "terms": lambda: [x for walk in walks for x in step_terms(record, sequence=walk)],
        "jacobian": lambda: [jacobian_curves(record, sequence=walk) for walk in walks],
        "attribution": lambda: [attribution(record, sequence=walk) for walk in walks],
        "gates": lambda: [gates(record, sequence=walk) for walk in walks],
        "effect by norm": lambda: clipping_effects(record, max_norm=0.01, sequence=walks[0])[0],
        "effect by value": lambda: clipping_effects(record, clip_value=1e-3, sequence=walks[0])[0],
        "effect in backward": lambda: clipping_effects(record, limit=1e-3, sequence=walks[0])[0],
        "thresholds": lambda: norms_over_training([0.5, 1.0, 3.0]),
        "truncation": lambda: [truncation(record, lengths=[3], sequence=walk) for walk in walks],
    }
    return record, made[name]()


def drawn(name: str, level: str = "cell", *, options: Any = (), **made: Any) -> Drawing:
    record, measure = measured(name, **made)
    return Drawing(draw.unrolled(record, level, overlay=measure, everything=True, **dict(options)).source)


def line(drawing: Drawing, name: str, k: int = -1) -> str:
    """One line of what stands in a box."""
    return drawing.boxes[name].words["label"].split("\\n")[k]


def labels_of(drawing: Drawing, box: str) -> list[str]:
    return [b.words["label"] for name, b in drawing.boxes.items() if re.fullmatch(rf"{box}_\d+_\w+", name)]


def captions(drawing: Drawing) -> str:
    return " ".join(b.words["label"] for b in drawing.boxes.values() if b.words.get("class") == "caption")


def percent(share: float) -> str:
    return f"{'−' if share < 0 else ''}{number(100 * abs(share))} %"


def rows_of(drawing: Drawing) -> list[str]:
    return [b.words["label"] for name, b in drawing.boxes.items() if name.startswith("row_")]


# Every measure at every level


def cases(*levels: str) -> list[Any]:
    return [
        pytest.param(name, level, cell, marks=() if cell == "LSTM" else pytest.mark.slow)
        for name in MEASURES for level in levels for cell in ("RNN", "LSTM", "GRU") if (name, level) != ("gates", "op")
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "level", "cell"), cases(*draw.LEVELS))
def test_a_measure_has_numbers_tooltips_and_a_legend_at_every_level(name: str, level: str, cell: str) -> None:
    record, measure = measured(name, cell)
    plain = Drawing(draw.unrolled(record, level, everything=True).source)
    drawing = Drawing(draw.unrolled(record, level, overlay=measure, everything=True).source)
    assert captions(drawing) != captions(plain)
    boxes = [b for b in drawing.boxes.values() if b.words.get("class") not in ("legend", "caption", None)]
    assert all(b.words["tooltip"] for b in boxes)
    labels = {b.words["label"] for b in boxes} - {b.words["label"] for b in plain.boxes.values()}
    assert len({text for text in labels if re.search(r"\d", text)}) >= 2 or level == "strip"
    legend = [b for b in drawing.boxes.values() if b.words.get("class") == "legend"]
    assert len(legend) >= 5
    if cell != "LSTM":
        return
    svg = draw.unrolled(record, level, overlay=measure).svg()
    ids = [found for element in ElementTree.fromstring(svg).iter() if (found := element.get("id"))]
    assert len(set(ids)) == len(ids)
    assert len(words_in(svg)) > 10


@pytest.mark.parametrize(("name", "level", "cell"), cases("cell", "gate", "op"))
def test_nothing_overlaps(name: str, level: str, cell: str) -> None:
    drawing = drawn(name, level, cell=cell)
    chips = [b for b in drawing.boxes.values() if b.words.get("class") == "chip"]
    boxes = [*drawing.of_steps(), *chips]
    assert len(drawing.of_steps()) >= 14
    assert [(a.name, b.name) for a, b in combinations(boxes, 2) if not apart(a, b)] == []
    for chip in chips:
        assert all(apart(chip, frame) for frame in drawing.frames), chip.name
    for box in drawing.of_steps():
        time = re.search(r"\bt(\d+)$", box.words["class"])
        assert time is not None
        assert inside(box, drawing.frames[int(time[1]) - 1]), box.name


@pytest.mark.parametrize(("name", "level"), [
    (name, level) for name in MEASURES for level in draw.LEVELS if (name, level) != ("gates", "op")
])  # fmt: skip
def test_the_words_of_the_scales_do_not_run_into_each_other(name: str, level: str) -> None:
    drawing = drawn(name, level)
    words = [b for b in drawing.boxes.values() if re.fullmatch(r"scale\d", b.name)]
    assert [(a.name, b.name) for a, b in combinations(words, 2) if not apart(a, b)] == []
    assert all(b.right <= drawing.bounds[2] for b in words)


def test_a_strip_is_explained_by_its_tiles() -> None:
    for name in MEASURES:
        about = captions(drawn(name, "strip"))
        assert re.search(r"[Ll]abel|[Dd]ashed|[Oo]n the arrows|[Ii]n the boxes", about) is None, name
    assert "On the label of each use stands the share" in captions(drawn("terms"))
    assert "In each tile stands the share" in captions(drawn("terms", "strip"))


@pytest.mark.parametrize("name", ["attribution", "effect in backward"])
def test_the_states_of_a_strip_stand_in_the_order_of_the_plain_one(name: str) -> None:
    record, _ = measured(name)
    plain = rows_of(Drawing(draw.unrolled(record, "strip", everything=True).source))
    assert rows_of(drawn(name, "strip"))[:2] == plain[:2] == ["C", "h"]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(("level", "options"), [
    ("cell", {}), ("gate", {}), ("strip", {}), ("cell", {"layers": 2, "both": True}),
    ("strip", {"layers": 2, "both": True}),
])  # fmt: skip
def test_a_long_sequence_fits_a_page(name: str, level: str, options: dict[str, Any]) -> None:
    record, measure = measured(name, "LSTM", 60, 1, **options)
    width, height = draw.unrolled(record, level, overlay=measure).size
    assert width <= 1200
    assert height <= 750


@pytest.mark.parametrize("name", [m for m in MEASURES if m != "truncation"])
def test_what_has_no_number_of_the_measure_stands_back(name: str) -> None:
    drawing = drawn(name)
    beside = [box for box in drawing.of_steps() if box.words["class"].split()[0] in ("input", "loss")]
    assert len(beside) == 14
    assert {box.words["fillcolor"] for box in beside} <= {PLAIN.fill, scales.CHOSEN.fill}
    assert not any("\\ng " in box.words["label"] for box in drawing.of_steps())


@pytest.mark.parametrize("cell", ["LSTM", *(pytest.param(c, marks=pytest.mark.slow) for c in ("RNN", "GRU"))])
@pytest.mark.parametrize("name", MEASURES)
def test_a_step_and_a_sample_are_enough(name: str, cell: str) -> None:
    record, measure = measured(name, cell, 1, 1)
    for level in draw.LEVELS[: 3 if name == "gates" else 4]:
        drawing = Drawing(draw.unrolled(record, level, overlay=measure).source)
        assert len(drawing.frames) == (level != "strip")
        assert len(drawing.boxes) > 10


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("level", ["strip", "cell"])
def test_layers_directions_and_unequal_lengths_have_their_own_numbers(name: str, level: str) -> None:
    record, measure = measured(name, "LSTM", 8, 3, layers=2, both=True, lengths=(8, 5, 2))
    drawing = Drawing(draw.unrolled(record, level, overlay=measure, everything=True).source)
    chips = [b for b in drawing.boxes.values() if b.words.get("class") == "chip"]
    assert [(a.name, b.name) for a, b in combinations(chips, 2) if not apart(a, b)] == []
    if level == "cell" and name in ("jacobian", "gates"):
        assert {re.sub(r"chip_\d+_(l\d(?:_reverse)?)_.*", r"\1", b.name) for b in chips} == set(record.sequences)


@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_a_kernel_gives_the_same_overlays(kernel: str) -> None:
    for name in ("terms", "jacobian", "attribution", "gates", "truncation"):
        record, measure = measured(name, "LSTM", kernel=kernel)
        other, same = measured(name, "LSTM")
        found, wanted = (
            [b.words["label"] for b in Drawing(draw.unrolled(r, overlay=m, everything=True).source).boxes.values()]
            for r, m in ((record, measure), (other, same))
        )
        assert found == wanted


# The numbers


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_a_label_has_the_share_of_its_term(cell: str) -> None:
    drawing, record = drawn("terms", cell=cell), model(cell)[3]
    p = record.parameters[next(name for name in record.parameters if "weight_hh" in name)]
    total = float((p.gradient**2).sum())
    for u in p.terms:
        assert u.time is not None
        share = float((u.array() * p.gradient).sum()) / total
        assert f"W_hh {percent(share)}" in labels_of(drawing, f"h_{u.time + 1}")


def test_at_the_gate_level_each_weight_has_its_share() -> None:
    drawing, record = drawn("terms", "gate"), model()[3]
    for name, p in record.parameters.items():
        short = name.rpartition(".")[2].replace("weight_", "W_").replace("bias_", "b_").removesuffix("_l0")
        shares = {u.time: float((u.array() * p.gradient).sum() / (p.gradient**2).sum()) for u in p.terms}
        found = [b.words["label"] for b in drawing.boxes.values() if b.words["label"].startswith(f"{short} ")]
        assert found == [f"{short} {percent(shares[t])}" for t in range(7)]


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_an_arrow_has_the_singular_values_of_its_step_and_a_box_what_is_left(cell: str) -> None:
    drawing, record = drawn("jacobian", cell=cell), model(cell)[3]
    each, product = step_jacobians(record), None
    states = list(record.sequence().states)
    for t in range(6, -1, -1):
        values = np.linalg.svd(each[t], compute_uv=False)
        chip = drawing.boxes[f"chip_{t + 1}_{'_'.join(states)}"]
        assert chip.words["label"] == f"max {number(values[0])}\\nmin {number(values[-1])}"
        left = 1.0 if product is None else np.linalg.norm(product, 2)
        assert {line(drawing, f"{state}_{t + 1}") for state in states} == {f"left {number(left)}"}
        product = each[t] if product is None else product @ each[t]
    assert product is not None
    assert line(drawing, "h_0") == f"left {number(np.linalg.norm(product, 2))}"


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("chosen", [None, 4])
def test_a_box_has_what_is_left_of_one_loss_there(cell: str, chosen: int | None) -> None:
    drawing, t = drawn("attribution", cell=cell, options=(("loss", chosen),)), (chosen or 7) - 1
    rng = np.random.default_rng(5)  # the same model again, with the loss of that step alone
    layer = getattr(nn, cell)(3, 4, rng=rng, dtype=np.float64)
    y, _ = layer(mg.Tensor(rng.standard_normal((7, 2, 3))))
    target = rng.standard_normal(y.shape)
    norms = [r.norm for r in bptt.backward(nn.mse_loss(y[t], target[t])).sequence().readings("h")]
    for k in range(7):
        assert line(drawing, f"h_{k + 1}") == ("later" if k > t else f"left {number(norms[k] / norms[t])}")
    assert line(drawing, f"loss_{t + 1}") == "starts"


def test_one_sample_has_its_own_attribution() -> None:
    record, measure = measured("attribution")
    drawing = Drawing(draw.unrolled(record, overlay=measure, sample=1, everything=True).source)
    norms = measure[0].norms["h"][6, :, 1]
    assert [line(drawing, f"h_{k + 1}") for k in range(7)] == [f"left {number(norms[k] / norms[6])}" for k in range(7)]


def test_gates_show_their_mean_their_saturated_share_and_the_half_life() -> None:
    values = model("LSTM")[3].sequence().gates
    cell, gate = drawn("gates"), drawn("gates", "gate")
    for t in range(7):
        f = values["f"][t]
        share = float(((f < 0.1) | (f > 0.9)).mean())
        assert cell.boxes[f"chip_{t + 1}_c"].words["label"] == f"f {number(f.mean())}\\nsat {percent(share)}"
        assert line(gate, f"i_{t + 1}", 1) == number(values["i"][t].mean())
        assert line(gate, f"g_{t + 1}") == f"slope {number((1 - values['g'][t] ** 2).mean())}"
    lives = np.log(2) / -np.log(values["f"].reshape(-1, 4)).mean(axis=0)
    typical = number(float(np.sort(lives)[2]))
    assert any(f"half-life\\n{typical} step" in b.words["label"] for b in cell.boxes.values())


def test_gates_have_the_colour_of_how_open_they_are() -> None:
    assert [on(scales.OPEN, x).fill for x in (0.05, 0.2, 0.5, 0.7, 0.95)] == [look.fill for _, look in BINS[:5]]


@pytest.mark.parametrize(("name", "factor"), [("by norm", True), ("effect by norm", True), ("by value", False)])
def test_two_labels_show_a_term_before_and_after_clipping(name: str, factor: bool) -> None:
    drawing, record = drawn(name), model()[3]
    p = record.parameters[next(name for name in record.parameters if "weight_hh" in name)]
    total = math.hypot(*(q.norm for q in record.parameters.values()))
    for u in p.terms:
        assert u.time is not None
        norm = float(np.linalg.norm(u.array()))
        wanted = [f"clipped {number(norm * 0.01 / total)}"] * factor + [f"W_hh {number(norm)}"]
        assert labels_of(drawing, f"h_{u.time + 1}") == wanted
    assert number(total) in captions(drawing)


def test_a_limit_in_backward_stands_beside_the_typical_element() -> None:
    drawing, g = drawn("effect in backward"), model()[3].sequence().gradients["h"]
    for t in range(7):
        assert line(drawing, f"h_{t + 1}") == f"{number(math.sqrt(float((g[t] ** 2).mean())) / 1e-3)} C"


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_an_arrow_has_the_gradient_it_brings_back_before_and_after_a_limit(cell: str) -> None:
    drawing, (record, effect) = drawn("effect in backward", cell=cell), measured("effect in backward", cell)
    for state, g in record.sequence().gradients.items():
        for t in range(6):
            chip = drawing.boxes[f"chip_{t + 2}_{state}"]
            before, after = float(np.linalg.norm(g[t])), float(effect.states_after[state][t])
            assert after < before
            assert chip.words["label"] == f"{number(before)}\\n→ {number(after)}"
            assert chip.words["fillcolor"] == on(BINS, after).fill
        assert f"chip_1_{state}" not in drawing.boxes  # no limit acts on what reaches the first state


def test_in_a_strip_a_limit_in_backward_has_rows_before_and_after() -> None:
    drawing, (_, effect) = drawn("effect in backward", "strip"), measured("effect in backward")
    assert rows_of(drawing) == ["C", "h", "‖C‖ before", "‖C‖ after", "‖h‖ before", "‖h‖ after"]
    for when, norms in (("before", effect.states_before), ("after", effect.states_after)):
        (name,) = (name for name, b in drawing.boxes.items() if b.words["label"] == f"‖h‖ {when}")
        shades = [drawing.boxes[f"{name.removeprefix('row_')}_{t + 1}"].words["fillcolor"] for t in range(7)]
        assert shades == [on(BINS, float(norm)).fill for norm in norms["h"]]


def test_each_walk_has_its_own_limit_in_backward() -> None:
    *_, record = model("LSTM", 8, 3, layers=2, both=True, lengths=(8, 5, 2))
    effects = [clipping_effects(record, limit=1e-3, sequence=walk)[0] for walk in record.sequences]
    drawing = Drawing(draw.unrolled(record, overlay=effects, everything=True).source)
    for e in effects:
        back = -1 if e.sequence.endswith("_reverse") else 1
        for t in (1, 4):
            label = drawing.boxes[f"chip_{t + back + 1}_{e.sequence}_h"].words["label"]
            assert label == f"{number(float(e.states_before['h'][t]))}\\n→ {number(float(e.states_after['h'][t]))}"


def test_a_term_stands_beside_the_mean_norm_of_training() -> None:
    drawing, record = drawn("thresholds"), model()[3]
    p = record.parameters[next(name for name in record.parameters if "weight_hh" in name)]
    for u in p.terms:
        assert u.time is not None
        assert labels_of(drawing, f"h_{u.time + 1}") == [f"W_hh {number(float(np.linalg.norm(u.array())) / 1.5)} C"]


# Truncation


class Chunks:
    """A cell that hands the value of its state alone from chunk to chunk."""

    def __init__(self, cell: Any, every: int) -> None:
        self.cell, self.every, self.initial_state, self.time = cell, every, cell.initial_state, 0

    def step(self, x: mg.Tensor, state: Any) -> Any:
        if self.time and self.time % self.every == 0:
            state = type(state)(*(part.detach() for part in state))
        self.time += 1
        return self.cell.step(x, state)


def chunked(cell: str, every: int) -> tuple[Record, Record]:
    """The whole run of an unrolled cell, and the one that is cut between its chunks."""
    rng = np.random.default_rng(5)
    made = getattr(nn, f"{cell}Cell")(3, 4, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.standard_normal((7, 2, 3)))
    records = []
    for kind in (made, Chunks(made, every)):
        y, _ = nn.unroll(kind, x)
        for p in made.parameters():
            p.grad = None
        records.append(bptt.backward(nn.mse_loss(y, np.ones(y.shape)), keep="ops"))
    return records[0], records[1]


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_a_cut_shows_what_the_cut_run_lacks(cell: str) -> None:
    whole, cut = chunked(cell, 3)
    drawing = Drawing(draw.truncation(whole, every=3, everything=True).source)
    # Behind the last cut the two runs are the same: what differs before it is what the cut takes away.
    g, left = (r.sequence().gradients["h"][5].ravel() for r in (whole, cut))
    lost = float(np.linalg.norm(g - left))
    angle = math.degrees(math.acos(float(g @ left / np.linalg.norm(g) / np.linalg.norm(left))))
    assert drawing.boxes["chip_7_h"].words["label"].split("\\n") == [
        f"lost {number(lost)}", f"{percent(lost / float(np.linalg.norm(g)))} of g", f"turns {number(angle)}°",
    ]  # fmt: skip
    pairs = [(p.gradient, cut.parameters[name].gradient) for name, p in whole.parameters.items()]
    lost_of_all = math.hypot(*(float(np.linalg.norm(a - b)) for a, b in pairs))
    share = lost_of_all / math.hypot(*(float(np.linalg.norm(a)) for a, _ in pairs))
    assert f"differ by {percent(share)} of ‖g‖" in captions(drawing)


def test_at_a_cut_the_value_goes_on_and_the_gradient_ends() -> None:
    drawing = drawn("truncation")
    assert {b.name for b in drawing.boxes.values() if b.words.get("class") == "chip"} == {
        f"chip_{t}_{state}" for t in (4, 7) for state in ("c", "h")
    }
    for t in (4, 7):
        for state in ("c", "h"):
            name = f"chip_{t}_{state}"
            (value,) = (w for w in drawing.wires if w.head == name)
            (gradient,) = (w for w in drawing.wires if w.tail == name)
            assert (value.words["dir"], value.tail) == ("forward", f"{state}_{t - 1}")
            assert (gradient.words["dir"], gradient.words["style"], gradient.head) == ("back", "dashed", f"{state}_{t}")
    handles = [c for c in drawing.cuts if c.get("shape") == "circle"]
    assert len(handles) == 4  # two pairs of scissors


def test_a_reverse_walk_is_cut_between_the_same_inputs() -> None:
    record, measure = measured("truncation", "GRU", 8, layers=1, both=True)
    drawing = Drawing(draw.unrolled(record, overlay=measure, everything=True).source)
    chips = {b.name for b in drawing.boxes.values() if b.words.get("class") == "chip"}
    assert chips == {"chip_4_l0_h", "chip_7_l0_h", "chip_3_l0_reverse_h", "chip_6_l0_reverse_h"}
    for forward, backward in ((4, 3), (7, 6)):
        one, other = drawing.boxes[f"chip_{forward}_l0_h"], drawing.boxes[f"chip_{backward}_l0_reverse_h"]
        assert one.left == pytest.approx(other.left, abs=0.1)


def test_cuts_that_are_folded_are_counted_and_one_is_shown() -> None:
    *_, record = model("RNN", 60, 1)
    drawing = Drawing(draw.truncation(record, every=10).source)
    folds = [b.words["label"] for b in drawing.boxes.values() if b.name.endswith("_span")]
    counted = sum(int(n) for text in folds for n in re.findall(r", (\d+) cut", text))
    seen = sum(b.words.get("class") == "chip" for b in drawing.boxes.values())
    assert seen >= 1
    assert counted + seen == 5


def test_a_strip_has_a_line_at_each_cut_and_what_is_lost() -> None:
    drawing = drawn("truncation", "strip")
    words = [b.words["label"] for b in drawing.boxes.values() if b.name.startswith("lost_")]
    assert len(words) == 2
    assert all(re.fullmatch(r"lost [\de.-]+, [\de.-]+ % of g\\l", text) for text in words)
    *_, record = model("RNN", 60, 1)
    long = Drawing(draw.truncation(record, every=30, level="strip").source)
    (found,) = (b.words["label"] for b in long.boxes.values() if b.name.startswith("lost_"))
    assert re.match(r"lost [\de.-]+, [\de.-]+ % of g, turns [\d.]+°", found)


def test_a_chunk_as_long_as_the_sequence_has_no_cut() -> None:
    drawing = Drawing(draw.truncation(model()[3], every=7).source)
    assert "7 steps are no more than one chunk: there is no cut." in captions(drawing)
    assert "differ by" not in captions(drawing)
    assert drawing.cuts == []


def test_a_cell_of_ones_own_is_cut_too() -> None:
    drawing = Drawing(draw.truncation(own(Hostile, 6, every_step=True), every=2, everything=True).source)
    assert sum(b.words.get("class") == "chip" for b in drawing.boxes.values()) == 2
    assert "known of RNN, LSTM and GRU alone" in captions(drawing)


@pytest.mark.parametrize(("every", "message"), [(0, "every=0"), (True, "every=True"), (2.5, "every=2.5")])
def test_a_truncation_is_after_whole_steps(every: Any, message: str) -> None:
    with pytest.raises(DrawError, match=f"{message}(?s:.*)whole number"):
        draw.truncation(model()[3], every=every)


def test_before_backward_there_is_nothing_to_cut() -> None:
    layer, x, _, _ = model()
    record = bptt.record(nn.mse_loss(layer(x)[0], np.ones((7, 2, 4))))
    with pytest.raises(DrawError, match="no gradient has been computed"):
        draw.truncation(record, every=2)


# A state without a way back


class Detached(Own):
    """Cuts before its third step."""

    count = 0

    def step(self, x: mg.Tensor, state: Any) -> Any:
        self.count += 1
        h = state.h.detach() if self.count == 3 else state.h
        return type(state)(mg.tanh(x @ self.W + h @ self.U))


class Dead(Own):
    """At its third step a relu lets nothing through: exactly 0 comes back, along a way."""

    count = 0

    def step(self, x: mg.Tensor, state: Any) -> Any:
        self.count += 1
        h = mg.relu(state.h - 10.0) if self.count == 3 else state.h
        return type(state)(mg.tanh(x @ self.W + h @ self.U))


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_a_detached_state_is_cut_and_a_dead_one_is_not(level: str) -> None:
    cut = Drawing(draw.unrolled(own(Detached, every_step=True), level, everything=True).source)
    dead = Drawing(draw.unrolled(own(Dead, every_step=True), level, everything=True).source)
    assert sum(c.get("shape") == "circle" for c in cut.cuts) == 2
    assert [w.head for w in cut.wires if w.words["dir"] == "forward"]
    assert dead.cuts == []
    assert [w for w in dead.wires if w.words["dir"] == "forward"] == []
    assert "no way back for the gradient" in captions(cut)
    assert "no way back" not in captions(dead)


@pytest.mark.parametrize("level", ["cell", "strip"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("loss", "before"), [
    (lambda y, last: (last.h * last.h).sum(), False),  # reaches nothing before the cut
    (lambda y, last: (y[0] * y[0]).sum() + (y[-1] * y[-1]).sum(), True),  # all states, through the one array of them
    (lambda y, last: (y * y).sum(), True),
])  # fmt: skip
def test_without_the_graph_a_cut_shows_where_no_gradient_came_back(
    loss: Any, before: bool, reverse: bool, level: str
) -> None:
    x = mg.Tensor(np.random.default_rng(2).standard_normal((5, 2, 3)))
    for kind, circles in ((Detached, 2), (Dead, 0)):
        record = bptt.backward(loss(*nn.unroll(kind(), x, reverse=reverse)))  # type: ignore[arg-type, var-annotated]
        assert record.graph is None
        passed = [before or kind is Dead, kind is Dead, True, True, False]
        assert record.sequence().passed["h"].tolist() == (passed[::-1] if reverse else passed)
        found = Drawing(draw.unrolled(record, level).source).cuts
        assert sum(c.get("shape") == "circle" for c in found) == circles


# What is folded


def test_the_chosen_loss_stays_unfolded() -> None:
    *_, record = model("RNN", 60, 1)
    drawing = Drawing(draw.unrolled(record, overlay=attribution(record), loss=31).source)
    assert line(drawing, "loss_31") == "starts"


def test_a_fold_shows_the_measures_least_and_largest_number() -> None:
    *_, record = model("RNN", 60, 1)
    measure = attribution(record)
    drawing = Drawing(draw.unrolled(record, overlay=measure).source)
    (span,) = (b.words["label"] for b in drawing.boxes.values() if b.name.endswith("_span"))
    first, last = map(int, re.findall(r"\d+", span))
    norms = measure.over_batch()[59, first - 1 : last] / measure.over_batch()[59, 59]
    words = [b.words["label"] for b in drawing.boxes.values() if re.search(r"fold_\d+_h_words", b.name)]
    assert words == ["left", f"{number(norms.min())} … {number(norms.max())}"]
    tiles = [b for b in drawing.boxes.values() if re.fullmatch(r"fold_\d+_h_\d+", b.name)]
    assert len(tiles) == 22


# Looks


@pytest.mark.parametrize("scale", [scales.LEFT, scales.FACTOR, scales.SHARE, scales.LIMIT, scales.OPEN])
def test_a_scale_has_the_palettes_colours_in_their_order(scale: Any) -> None:
    fills = [look.fill for _, look in BINS]
    places = [fills.index(look.fill) for _, look in scale]
    assert places == sorted(set(places))
    assert [bound for bound, _ in scale] == sorted(bound for bound, _ in scale)
    assert scale[-1][0] == math.inf
    assert all(look.legend for _, look in scale)


def test_what_is_no_number_has_the_look_of_its_kind() -> None:
    assert on(scales.LEFT, 0.0) is SPECIAL["zero"]
    assert on(scales.LEFT, math.nan) is SPECIAL["not finite"]
    assert on(scales.LEFT, math.inf) is SPECIAL["not finite"]
    assert on(scales.LEFT, 1.0).legend.endswith("arrives")
    assert on(scales.LEFT, 1e300).legend.endswith("exploding")


def test_a_share_that_works_against_the_others_is_dashed_and_has_a_minus() -> None:
    found = [b for b in drawn("terms", cell="RNN", steps=60, batch=1).boxes.values() if "W_hh −" in b.words["label"]]
    assert found
    assert all("dashed" in b.words["style"] for b in found)


def test_a_gradient_that_is_not_finite_has_its_look() -> None:
    layer, x, _, _ = model("RNN")
    y, _ = layer(x)
    for p in (*layer.parameters(), x):
        p.grad = None
    with np.errstate(all="ignore"):
        record = bptt.backward((y[-1] * np.inf).sum())
    drawing = Drawing(draw.unrolled(record, overlay=step_terms(record), everything=True).source)
    looks = {b.words["fillcolor"] for b in drawing.boxes.values() if b.words["label"].startswith("W_hh NaN")}
    assert looks == {SPECIAL["not finite"].fill}


def test_a_tile_that_is_too_narrow_for_words_keeps_the_minus() -> None:
    record, measure = measured("terms", "RNN", 60, 1)
    drawing = Drawing(draw.unrolled(record, "strip", overlay=measure).source)
    shares = next(x.shares for x in measure if "weight_hh" in x.parameter)
    tiles = [drawing.boxes[f"W_hh_{t + 1}"].words["label"] for t in range(60)]
    assert tiles == ["−" if share < 0 else "" for share in shares]
    assert "−" in tiles


# Wrong calls


@pytest.mark.parametrize(("given", "message"), [
    ("terms", "found str"), ([], "found nothing"), (3.0, "found float"), ({"a": 1}, "found dict"),
])  # fmt: skip
def test_what_is_no_measure_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DrawError, match=f"{message}(?s:.*)StepTerms, JacobianCurves"):
        draw.unrolled(model()[3], overlay=given)


def test_measures_of_two_kinds_are_refused() -> None:
    *_, record = model()
    with pytest.raises(DrawError, match="found Gates, Attribution"):
        draw.unrolled(record, overlay=[gates(record), attribution(record)])


def test_two_measures_of_one_walk_are_refused() -> None:
    *_, record = model()
    with pytest.raises(DrawError, match="one Gates of l0; found 2"):
        draw.unrolled(record, overlay=[gates(record), gates(record)])


def test_two_ways_of_clipping_are_refused() -> None:
    *_, record = model("LSTM", 8, 3, layers=2, both=True, lengths=(8, 5, 2))
    effects = [clipping_effects(record, limit=1.0)[0], clipping_effects(record, max_norm=1.0, sequence="l1")[0]]
    with pytest.raises(DrawError, match=r"one way of clipping; found backward, norm\.\n  Give one of them"):
        draw.unrolled(record, overlay=effects)


def test_a_measure_of_another_record_is_refused() -> None:
    with pytest.raises(DrawError, match="has 9 steps, l0 has T=7"):
        draw.unrolled(model()[3], overlay=gates(model("LSTM", 9)[3]))
    for measure in (truncation(model("LSTM", 9)[3], lengths=[3]), clipping_effects(model("LSTM", 9)[3], limit=1.0)[0]):
        with pytest.raises(DrawError, match="has 9 steps, l0 has T=7"):
            draw.unrolled(model()[3], overlay=measure)
    for found in (attribution(model("GRU")[3]), clipping_effects(model("GRU")[3], limit=1.0)[0]):
        with pytest.raises(DrawError, match=r"has the states h, l0 has c, h\.\n  Measure the record that is drawn"):
            draw.unrolled(model()[3], overlay=found)
    *_, two = model("LSTM", 8, 3, layers=2, both=True, lengths=(8, 5, 2))
    with pytest.raises(DrawError, match="Gates is of l1, and the picture shows l0"):
        draw.unrolled(two, overlay=gates(two, sequence="l1"), sequence="l0")


def test_a_loss_that_is_not_there_is_refused() -> None:
    *_, record = model("LSTM", last=True)
    for loss in (0, 3, 8):
        with pytest.raises(DrawError, match=f"loss={loss}: no loss enters l0(?s:.*)losses enter at 7"):
            draw.unrolled(record, overlay=attribution(record), loss=loss)
    with pytest.raises(DrawError, match="chooses one loss of an Attribution; found Gates"):
        draw.unrolled(record, overlay=gates(record), loss=7)
    with pytest.raises(DrawError, match="there is none"):
        draw.unrolled(record, loss=7)


def test_gates_have_no_place_among_ops() -> None:
    *_, record = model()
    with pytest.raises(DrawError, match="Draw level='gate', 'cell' or 'strip'"):
        draw.unrolled(record, "op", overlay=gates(record))


def test_a_truncation_of_several_lengths_is_refused() -> None:
    *_, record = model()
    with pytest.raises(DrawError, match=r"found lengths 1, 2, 5, 7(?s:.*)draw\.truncation"):
        draw.unrolled(record, overlay=truncation(record))


# A cell of one's own, and hostile words


def test_a_cell_of_ones_own_has_overlays_where_it_has_measures() -> None:
    record = own(Hostile, 5, every_step=True)
    drawing = Drawing(draw.unrolled(record, overlay=jacobian_curves(record, cell=Hostile()), everything=True).source)
    assert sum(b.words.get("class") == "chip" for b in drawing.boxes.values()) == 5
    shares = draw.unrolled(record, "gate", overlay=step_terms(record))
    assert any(text.endswith(" %") for text in words_in(shares.svg()))
    x = mg.Tensor(np.random.default_rng(2).standard_normal((5, 2, 3)))
    y, _ = nn.unroll(Hostile(), x)  # type: ignore[arg-type, var-annotated]
    found = attribution_of_losses([(y[t] * y[t]).sum() for t in range(5)])
    assert "left 1" in draw.unrolled(record, overlay=found).source


def test_every_piece_reaches_the_svg() -> None:
    record, measure = measured("truncation")
    picture = draw.unrolled(record, "gate", overlay=measure, everything=True)
    drawing, root = Drawing(picture.source), ElementTree.fromstring(picture.svg())
    classes = [group.get("class") or "" for group in root.iter(f"{SVG}g")]
    circles = sum(c.get("shape") == "circle" for c in drawing.cuts)
    lines = sum("pos" in c and c.get("dir") == "none" for c in drawing.cuts)
    assert sum(c.startswith("node") for c in classes) == len(drawing.boxes) + circles
    assert sum(c.startswith("edge") for c in classes) == len(drawing.wires) + lines


def test_a_mark_without_a_value_is_in_no_range() -> None:
    marks = [Mark(math.nan, "later", PLAIN, ""), Mark(0.5, "left 0.5", PLAIN, ""), Mark(0.1, "left 0.1", PLAIN, "")]
    assert overlay._range("left", marks) == ["left", "0.1 … 0.5"]
    assert overlay._range("left", marks[:1]) == []
