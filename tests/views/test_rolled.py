"""The rolled view: one cell in a loop, and what every step adds to the gradients of its weights."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, nn
from minigrad.bptt import Record
from minigrad.errors import DrawError, RecordError
from minigrad.views import draw
from minigrad.views.palette import number, shown
from minigrad.views.picture import _UNDRAWN, ENGINES
from tests.views.hostile import HOSTILE, Hostile
from tests.views.test_draw import GOLDEN, SVG, XLINK, fixed, literal, words_in
from tests.views.test_layout import OWN, RECORDS, Box, Drawing, Own, apart, inside, own, passes_through, recorded

WEIGHTS = {"weight_ih_l0": "W_ih", "weight_hh_l0": "W_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}


def made(
    cell: str, *, steps: int = 6, batch: int = 3, every: bool = False, dtype: Any = np.float64, lengths: Any = None,
    layers: int = 1, **options: Any,
) -> Record:  # fmt: skip
    rng = np.random.default_rng(5)
    layer = getattr(nn, cell)(3, 4, layers, rng=rng, dtype=dtype, **options)
    x = mg.Tensor(rng.standard_normal((steps, batch, 3)).astype(dtype), requires_grad=True)
    y, _ = layer(x, lengths=lengths)
    return bptt.backward(nn.mse_loss(y if every else y[-1], np.ones(y.shape if every else y.shape[1:], dtype)))


KNOWN: dict[str, tuple[Record, str]] = {
    "RNN": (made("RNN"), "l0"), "LSTM": (made("LSTM"), "l0"), "GRU": (made("GRU"), "l0"),
    "GRU, reset before": (made("GRU", reset_after=False, every=True), "l0"),
    "LSTM float32": (made("LSTM", dtype=np.float32, every=True), "l0"), "LSTM, T = 1": (made("LSTM", steps=1), "l0"),
    "LSTM, fused": (made("LSTM", kernel="fused"), "l0"), "GRU, fused": (made("GRU", kernel="fused"), "l0"),
    "RNN, N = 1": (made("RNN", batch=1, steps=2), "l0"), "LSTM, T = 100": (made("LSTM", steps=100), "l0"),
    "RNN, T = 1000": (made("RNN", steps=1000, kernel="fused"), "l0"),
    "LSTM, first of two": (made("LSTM", layers=2), "l0"),
    "GRU, reverse": (made("GRU", bidirectional=True, every=True), "l0_reverse"),
    "LSTM, unequal": (made("LSTM", lengths=[6, 2, 4], every=True, bidirectional=True), "l0_reverse"),
    "LSTM without bias": (made("LSTM", bias=False), "l0"),
    "LSTM before backward": (recorded("LSTM", backward=False), "l0"),
} | {cell.__name__: (RECORDS[cell.__name__], "l0") for cell in OWN}  # fmt: skip


def drawn(name: str, **options: Any) -> Drawing:
    record, sequence = KNOWN[name]
    return Drawing(draw.rolled(record, sequence=sequence, **options).source)


def row(drawing: Drawing, name: str) -> list[Box]:
    """The tiles of a row, in the order of their steps."""
    tiles = {int(found[1]): b for n, b in drawing.boxes.items() if (found := re.fullmatch(rf"{name}_(\d+)", n))}
    return [tiles[t] for t in sorted(tiles)]


def sizes(drawing: Drawing, name: str) -> list[str]:
    return [box.words["tooltip"].rpartition(" ")[2] for box in row(drawing, name)]


def total_of(drawing: Drawing, weight: str) -> dict[str, str]:
    (found,) = [b.words for n, b in drawing.boxes.items() if re.fullmatch(rf"weight_\d_{weight}_sum", n)]
    return found


# Numbers


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "GRU, reset before", "LSTM float32", "LSTM, fused",
                                  "GRU, fused", "LSTM, T = 1", "LSTM, T = 100"])  # fmt: skip
def test_the_tiles_hold_the_norms_of_terms_and_states(name: str) -> None:
    record, _ = KNOWN[name]
    s, drawing = record.sequence(), drawn(name)
    for full, short in WEIGHTS.items():
        p = record.parameters[full]
        terms = [sum(u.array() for u in p.terms if u.time == t) for t in range(s.steps)]
        expected = [number(float(np.linalg.norm(np.asarray(term, np.float64)))) for term in terms]
        assert sizes(drawing, rf"weight_\d_{short}") == expected, short
        # The sum of the terms is the gradient, and its norm stands behind them.
        total = np.sum(terms, axis=0)
        assert np.allclose(total, p.gradient, rtol=1e-5 if s.dtype == np.float32 else 1e-12)
        words = total_of(drawing, short)
        assert words["label"] == f"‖Σ‖ = {number(float(np.linalg.norm(total)))}"
        assert f"the sum of {s.steps} terms;" in words["tooltip"]
    for state, values in s.gradients.items():
        expected = [number(float(np.linalg.norm(g))) for g in values]
        assert sizes(drawing, f"state_{state}") == expected
    assert sizes(drawing, "x") == [number(float(np.linalg.norm(g))) for g in s.input_norms]


def test_what_comes_from_the_loss_enters_at_the_last_step_alone() -> None:
    s, drawing = KNOWN["LSTM"][0].sequence(), drawn("LSTM")
    assert sizes(drawing, "outside") == ["0"] * 5 + [shown(s.readings("h")[-1])]
    assert drawing.boxes["loss"].words["label"] == f"L\\n{number(KNOWN['LSTM'][0].loss)}"


def test_the_ratio_of_the_ends_stands_behind_a_state() -> None:
    s = KNOWN["GRU"][0].sequence()
    norms = [float(np.linalg.norm(g)) for g in s.gradients["h"]]
    label = drawn("GRU").boxes["state_h_ratio"].words["label"]
    assert label == f"t=1 / t=6: {number(norms[0] / norms[-1])}\\l"
    reverse = KNOWN["GRU, reverse"][0].sequence("l0_reverse")
    norms = [float(np.linalg.norm(g)) for g in reverse.gradients["h"]]
    label = drawn("GRU, reverse").boxes["state_h_ratio"].words["label"]
    assert label == f"t=6 / t=1: {number(norms[-1] / norms[0])}\\l"


def test_the_story_tells_the_recurrent_weights_terms() -> None:
    record, _ = KNOWN["RNN"]
    story = drawn("RNN").boxes["story"].words["label"]
    norms = [u.norm() for u in record.parameters["weight_hh_l0"].terms]
    positive = [x for x in norms if x > 0]
    assert len(positive) == 5  # the first state is zero
    assert f"norms {number(min(positive))} … {number(max(positive))}, added up {number(sum(norms))}" in story
    assert f"‖Σ‖ = {number(record.parameters['weight_hh_l0'].norm)}" in story


def test_a_weight_that_is_also_used_elsewhere_says_so() -> None:
    rng = np.random.default_rng(0)
    cell = nn.RNNCell(3, 3, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.standard_normal((4, 2, 3)))
    y, _ = nn.unroll(cell, x)
    record = bptt.backward((y[-1] * y[-1]).sum() + (cell.weight_hh * cell.weight_hh).sum())
    drawing = Drawing(draw.rolled(record).source)
    recurrent = cell.weight_hh.numpy()
    (p,) = [p for p in record.parameters.values() if np.array_equal(p.value, recurrent)]
    (box,) = [b for b in drawing.boxes.values() if "…‖" in b.words["label"] and b.words["class"] == "tile"]
    assert box.words["label"] == f"‖Σ + …‖ = {number(p.norm)}"
    assert "other uses of it" in box.words["tooltip"]


def test_only_the_walks_own_weights_have_a_row() -> None:
    drawing = drawn("LSTM, first of two")
    rows = [b.words["label"] for n, b in drawing.boxes.items() if n.startswith("row_")]
    assert rows == ["from above", "∂L/∂Cₜ", "∂L/∂hₜ", "W_ih", "W_hh", "b_ih", "b_hh", "∂L/∂xₜ"]
    assert drawing.boxes["loss"].words["label"] == "to\\nl1"
    record, _ = KNOWN["LSTM, first of two"]
    assert total_of(drawing, "W_hh")["label"] == f"‖Σ‖ = {number(record.parameters['weight_hh_l0'].norm)}"


def test_steps_past_every_end_are_padding() -> None:
    record, _ = KNOWN["LSTM"]
    s = dataclasses.replace(record.sequence(), lengths=np.array([4, 2, 1]))
    drawing = Drawing(draw.rolled(dataclasses.replace(record, sequences={"l0": s})).source)
    assert sizes(drawing, "state_h")[4:] == ["pad", "pad"]
    assert any(b.words["label"] == "padding" for b in drawing.boxes.values())


def test_before_backward_the_loop_runs_forward_and_there_are_no_terms() -> None:
    drawing = drawn("LSTM before backward")
    assert all(wire.words["dir"] == "forward" for wire in drawing.wires)
    assert not [n for n in drawing.boxes if n.endswith("_sum")]
    assert set(sizes(drawing, "state_h")) == {"—"}
    assert "no gradient has been computed yet" in drawing.boxes["story"].words["label"]


def test_a_cell_without_weights_is_drawn() -> None:
    class Weightless(Own):
        def step(self, x: mg.Tensor, state: Any) -> Any:
            return type(state)(mg.tanh(x + state.h))

    drawing = Drawing(draw.rolled(own(Weightless)).source)
    assert "No step uses a weight" in drawing.boxes["story"].words["label"]
    assert drawing.boxes["loop"].words["label"] == "h of each step → the next step, T = 4 times"


def test_gradients_that_are_not_finite_are_drawn() -> None:
    record, _ = KNOWN["RNN"]
    p = record.parameters["weight_hh_l0"]
    terms = (*p.terms[:-1], p.terms[-1]._replace(left=p.terms[-1].left * np.inf))
    bad = dataclasses.replace(p, terms=terms, gradient=p.gradient * np.inf)
    with np.errstate(invalid="ignore"):
        drawing = Drawing(draw.rolled(dataclasses.replace(record, parameters={"weight_hh_l0": bad})).source)
    assert sizes(drawing, r"weight_\d_W_hh")[-1] in ("inf", "NaN")
    assert total_of(drawing, "W_hh")["label"] in ("‖Σ‖ = inf", "‖Σ‖ = NaN")


# Words


def test_the_loop_names_the_shared_weight_and_the_way_of_the_walk() -> None:
    assert drawn("LSTM").boxes["loop"].words["label"] == (
        "C and h of each step → the next step, through W_hh: the same at all T = 6 steps"
    )
    assert "→ the step before, through W_hh" in drawn("GRU, reverse").boxes["loop"].words["label"]
    assert "from t=6 to t=1" in drawn("GRU, reverse").boxes["caption"].words["label"]
    assert drawn("StateUnchanged").boxes["loop"].words["label"].startswith("h, slow and kept of each step")


def test_labels_stand_below_their_steps() -> None:
    drawing = drawn("LSTM", labels="abcdef")
    for t, (letter, tile) in enumerate(zip("abcdef", row(drawing, "state_h"), strict=True), 1):
        box = drawing.boxes[f"label_{t}"]
        assert box.words["label"] == letter
        assert box.left + box.right == pytest.approx(tile.left + tile.right, abs=0.1)
        assert tile.words["tooltip"].startswith(f"t={t} “{letter}”: ")
    with pytest.raises(DrawError, match="2 labels for 6 time steps"):
        drawn("LSTM", labels="ab")


def test_a_sequence_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecordError, match="no sequence 'l7'"):
        draw.rolled(KNOWN["LSTM"][0], sequence="l7")


def test_hostile_words_are_shown_as_they_are() -> None:
    svg = draw.rolled(own(Hostile, len(HOSTILE)), labels=HOSTILE, title='a "title" <b> \\N').svg()
    found = words_in(svg)
    assert {'a "title" <b> \\N', "<Cell> & \\N"} <= set(found)
    assert any(text.startswith('"<b>&\\N') for text in found)
    titles = [link.get(f"{XLINK}title") or "" for link in ElementTree.fromstring(svg).iter(f"{SVG}a")]
    for label in map(literal, HOSTILE):
        assert any(f"“{label}”" in title for title in titles)


# Geometry


@pytest.mark.parametrize("name", KNOWN)
def test_everything_fits_a_page_and_stands_apart(name: str) -> None:
    drawing = drawn(name)
    _, bottom, right, _ = drawing.bounds
    assert right <= 1200
    assert -bottom <= 750
    bounds = Box("", *drawing.bounds, {})
    boxes = [b for b in drawing.boxes.values() if not re.match("cell_", b.name)]
    assert [b.name for b in boxes if not inside(b, bounds)] == []
    solid = [b for b in boxes if b.words.get("class") in ("tile", "panel", "loss t0", "input t0", "join t0")]
    for group in (
        [b for b in solid if not re.search(r"_\d+$", b.name)],
        *([b for b in solid if b.name.endswith(f"_{t}")] for t in (1, 2)),
    ):
        assert [(a.name, b.name) for a, b in combinations(group, 2) if not apart(a, b)] == []
    for box in drawing.boxes.values():
        assert float(box.words.get("fontsize", 10)) >= 10


@pytest.mark.parametrize("name", KNOWN)
def test_the_loop_runs_around_the_tiles_of_states_and_weights(name: str) -> None:
    drawing = drawn(name)
    first, second = (w for w in drawing.wires if "loop" in (w.tail, w.head))
    assert (first.tail, second.head) == ("cell", "cell")
    xs, ys = zip(*first.corners, *second.corners, strict=True)
    loop = Box("loop", min(xs), min(ys), max(xs), max(ys), {})
    assert loop.left == pytest.approx(drawing.boxes["cell"].right, abs=0.1)
    outside = ("outside", "x_", "label", "legend")
    tiles = [b for n, b in drawing.boxes.items() if b.words.get("class") == "tile" and not n.startswith(outside)]
    assert len(tiles) >= 2
    assert [b.name for b in tiles if not inside(b, loop)] == []
    for wire in drawing.wires:
        for (x1, y1), (x2, y2) in pairwise(wire.corners):
            assert abs(x1 - x2) < 0.02 or abs(y1 - y2) < 0.02
            words = [b for n, b in drawing.boxes.items() if re.match("row_|head|loop|.*_(sum|ratio)$", n)]
            struck = [b.name for b in (*tiles, *words) if passes_through(((x1, y1), (x2, y2)), b)]
            assert struck == [], wire


def test_rows_share_their_columns() -> None:
    drawing = drawn("LSTM, T = 100")
    first, *others = (row(drawing, n) for n in (r"weight_\d_W_hh", r"weight_\d_b_hh", "state_h", "x", "outside"))
    assert len(first) == 100
    for other in others:
        assert [b.left for b in other] == [b.left for b in first]


def test_a_long_sequence_takes_the_largest_of_several_steps() -> None:
    record, _ = KNOWN["RNN, T = 1000"]
    drawing = drawn("RNN, T = 1000")
    tiles = row(drawing, "state_h")
    assert len(tiles) < 500
    largest = [float(np.abs(g).max()) or 1.0 for g in record.sequence().gradients["h"]]  # squares would underflow
    norms = [
        scale * float(np.linalg.norm(g / scale))
        for g, scale in zip(record.sequence().gradients["h"], largest, strict=True)
    ]
    end = 0
    for tile in tiles:
        start, last, size = re.match(r"t=(\d+)…(\d+): .* (\S+)$", tile.words["tooltip"]).groups()  # type: ignore[union-attr]
        assert int(start) == end + 1
        end = int(last)
        assert size == number(max(norms[int(start) - 1 : end]))
    assert end == 1000
    assert "largest of" in drawing.boxes["note"].words["label"]


def test_the_picture_says_the_same_for_steps_and_for_a_kernel() -> None:
    sources = [draw.rolled(made("LSTM", kernel=kernel)).source for kernel in ("steps", "fused")]
    one, other = (re.sub(r"-?\d+\.?\d*(e-?\d+)?", "", source) for source in sources)  # but for rounding
    assert one == other


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU, reverse", "LSTM, first of two", "LSTM before backward"])
def test_every_letter_can_be_drawn_by_both_engines(name: str) -> None:
    record, sequence = KNOWN[name]
    assert re.findall(_UNDRAWN, draw.rolled(record, sequence=sequence).source) == []


def test_ids_are_ascii_and_unique_in_the_svg() -> None:
    svg = draw.rolled(KNOWN["LSTM"][0]).svg()
    ids = [found for element in ElementTree.fromstring(svg).iter() if (found := element.get("id"))]
    assert len(ids) > 60
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z_]\w*", found, re.ASCII) for found in ids)


def test_both_engines_draw_the_same_words() -> None:
    if shutil.which("dot") is None:
        pytest.skip("no installed Graphviz to compare with")
    picture = draw.rolled(KNOWN["LSTM"][0])
    assert sorted(words_in(picture.svg(ENGINES[0]))) == sorted(words_in(picture.svg(ENGINES[1])))


def test_the_rolled_lstm_stays_as_it_was() -> None:
    source = draw.rolled(fixed("LSTM", 4)[1], labels="abcd").source
    path = GOLDEN / "lstm_rolled.dot"
    if os.environ.get("MINIGRAD_GOLDEN") == "renew":
        path.write_text(source, "utf8")
    assert source == path.read_text("utf8")
