"""Pictures as a whole: names, looks, hostile words, growth, and five that are kept to the letter.

After a wanted change, `MINIGRAD_GOLDEN=renew python -m pytest tests/views/test_draw.py` writes tests/views/golden
anew; look at the difference, and at the pictures, before you keep it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, clip_grad_norm, nn
from minigrad.bptt import Record
from minigrad.bptt.record import Reading
from minigrad.errors import DrawError, RecordError
from minigrad.views import draw
from minigrad.views.canvas import Canvas, extent, identifier, shortened
from minigrad.views.palette import SPECIAL, shown
from minigrad.views.picture import ENGINES, Picture
from minigrad.views.scene import Card
from tests.views.hostile import HOSTILE, Hostile
from tests.views.test_layout import RECORDS, Drawing, own, recorded

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"
LEVELS = [(name, level) for name in ("RNN every step", "LSTM last step", "GRU last step", "StateUnchanged", "LongNames")
          for level in draw.LEVELS]  # fmt: skip


def words_in(svg: str) -> list[str]:
    """Every line of text that the SVG shows."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# Ids, classes, tooltips


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_box_of_a_step_has_an_id_a_class_and_a_tooltip(name: str, level: str) -> None:
    drawing = Drawing(draw.unrolled(RECORDS[name], level).source)
    boxes = [box for box in drawing.boxes.values() if box.words.get("class") not in ("legend", "caption", None)]
    assert len(boxes) >= 8
    for box in boxes:
        assert box.words["id"] == box.name
        assert box.words["class"]
        assert box.words["tooltip"]
    assert all(wire.words["tooltip"] for wire in drawing.wires)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_ids_are_ascii_and_unique_in_the_svg(name: str, level: str) -> None:
    svg = draw.unrolled(RECORDS[name], level).svg()
    ids = [found for element in ElementTree.fromstring(svg).iter() if (found := element.get("id"))]
    assert len(ids) > 20
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z_]\w*", found, re.ASCII) for found in ids)


def test_every_piece_of_the_drawing_reaches_the_svg() -> None:
    picture = draw.unrolled(RECORDS["LSTM last step"], "gate", everything=True)
    drawing, svg = Drawing(picture.source), picture.svg()
    root = ElementTree.fromstring(svg)
    kinds = [(group.get("class") or "").split()[0] for group in root.iter(f"{SVG}g") if group.get("class")]
    assert kinds.count("node") == len(drawing.boxes)
    assert kinds.count("edge") == len(drawing.wires)
    assert kinds.count("cluster") == len(drawing.frames) == 4
    titles = [link.get(f"{XLINK}title") for link in root.iter(f"{SVG}a")]
    assert all(box.words["tooltip"] in titles for box in drawing.of_steps())


def test_identifiers_keep_letters_and_spell_out_the_rest() -> None:
    assert identifier("W_hh") == "W_hh"
    assert identifier("a.b c") == "au2ebu20c"
    assert identifier("한é") == "ud55cue9"


@pytest.mark.parametrize("level", draw.LEVELS)
def test_two_runs_give_the_same_text(level: str) -> None:
    first, second = (draw.unrolled(recorded("LSTM"), level).source for _ in range(2))
    assert first == second


def test_drawing_changes_nothing_in_the_record() -> None:
    record, same = recorded("LSTM"), recorded("LSTM")
    sources = [draw.unrolled(record, level).source for level in (*draw.LEVELS, *draw.LEVELS)]
    assert sources[:4] == sources[4:]
    assert dataclasses.replace(record, graph=None) == dataclasses.replace(same, graph=None)


# Looks


def attributes(kind: str, reading: Reading) -> tuple[str, ...]:
    canvas = Canvas("looks")
    if kind == "tile":
        canvas.tile("n", reading, (0, 0), 20, 20, "about")
    else:
        canvas.card("n", Card(kind, "n", "", reading, "about"), (0, 0), 60, 40, ())
    (line,) = canvas.lines
    return tuple(re.findall(rf'\b{name}="([^"]*)"', line)[0] for name in ("fillcolor", "style", "color", "penwidth"))


@pytest.mark.parametrize("kind", ["gate", "state", "input", "initial", "tile"])
def test_each_kind_of_gradient_has_a_look_of_its_own(kind: str) -> None:
    readings = [Reading(0.0, special) for special in SPECIAL]  # type: ignore[arg-type]
    readings += [Reading(10.0**k, "value") for k in (-13, -10, -7, -4, -1, 0, 1, 3, 5)]
    looks = [attributes(kind, reading) for reading in readings]
    assert len(set(looks)) == len(looks) == 15


@pytest.mark.parametrize(("kind", "has"), [
    ("zero", "dashed"), ("no path", "dotted"), ("no backward yet", "dotted"), ("underflow", "striped"),
])  # fmt: skip
def test_the_styles_of_what_is_no_number(kind: Any, has: str) -> None:
    assert has in attributes("gate", Reading(0.0, kind))[1]
    assert has not in attributes("gate", Reading(0.5, "value"))[1]


@pytest.mark.parametrize("kind", ["zero", "no path"])
def test_wires_without_a_gradient_are_dashed(kind: Any) -> None:
    canvas = Canvas("wires")
    canvas.wire("a", "b", [(0, 0), (50, 0)], Reading(0.0, kind))
    canvas.wire("a", "b", [(0, 0), (50, 0)], Reading(0.5, "value"))
    assert [re.findall('style="(.*?)"', line)[0] for line in canvas.lines] == ["dashed", "solid"]


def test_a_wire_is_the_thicker_the_larger_its_gradient() -> None:
    canvas = Canvas("wires")
    for exponent in (-30, -6, -3, 0, 9):
        canvas.wire("a", "b", [(0, 0), (50, 0)], Reading(10.0**exponent, "value"))
    widths = [float(re.findall('penwidth="(.*?)"', line)[0]) for line in canvas.lines]
    assert widths == sorted(widths)
    assert widths[1] < widths[2] < widths[3]
    assert (widths[0], widths[-1]) == (0.8, 3.2)


def test_a_padded_step_is_drawn_as_padding() -> None:
    record = RECORDS["LSTM last step"]
    padded = dataclasses.replace(record.sequence(), lengths=np.array([2]))
    drawing = Drawing(draw.unrolled(dataclasses.replace(record, sequences={"l0": padded}), "cell").source)
    assert [drawing.boxes[f"h_{t}"].words["label"].endswith("g pad") for t in range(1, 5)] == [False, False, True, True]
    assert drawing.boxes["h_3"].words["color"] != drawing.boxes["h_2"].words["color"]


def test_the_legend_shows_every_look_that_can_occur() -> None:
    drawing = Drawing(draw.unrolled(RECORDS["GRU last step"], "gate").source)
    labels = [box.words["label"] for box in drawing.boxes.values() if box.words.get("class") == "legend"]
    assert len(labels) == 9 + 5 + 1
    assert all(any(word in label for label in labels) for word in ("vanished", "healthy", "exploding", "exactly 0"))


# Words


def test_a_text_that_is_too_wide_is_cut() -> None:
    assert shortened("hello", 40) == "hello"
    assert shortened("hello hello", 40) == "hello …"
    assert extent(shortened("WWWWWWWWWWW", 40)) <= 40
    assert shortened("anything", 0) == "…"


@cache
def long_record() -> Record:
    return recorded("RNN", len(HOSTILE))


def literal(label: str) -> str:
    clean = "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in label)
    return clean if len(clean) <= 8 else clean[:7] + "…"


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_hostile_labels_are_shown_as_they_are(level: str) -> None:
    picture = draw.unrolled(long_record(), level, everything=True, labels=HOSTILE, targets=HOSTILE)
    shown = words_in(picture.svg())
    for label in map(literal, HOSTILE):
        if extent(f"“{label}”") < 49:
            assert f"“{label}”" in shown
        else:
            assert any(text.startswith(f"“{label[:4]}") for text in shown)


def test_hostile_labels_in_a_strip() -> None:
    svg = draw.unrolled(long_record(), "strip", labels=HOSTILE).svg()
    titles = [link.get(f"{XLINK}title") or "" for link in ElementTree.fromstring(svg).iter(f"{SVG}a")]
    for label in map(literal, HOSTILE):
        assert any(f"“{label}”" in title for title in titles)
    assert {"<b>", "\\N", "&", "😀"} <= set(words_in(svg))


@pytest.mark.parametrize("title", [
    'a "title" with <b>, \\N, & and &lt;', "제목 😀", "bell \x07 and escape \x1b", "\ud800 alone", "x" * 300,
])  # fmt: skip
def test_hostile_titles(title: str) -> None:
    expected = re.sub("[\x00-\x1f\ud800]", lambda letter: f"U+{ord(letter[0]):04X}", title)
    record = RECORDS["RNN every step"]
    assert expected in words_in(draw.unrolled(record, "gate", title=title).svg())
    assert expected in words_in(draw.compare({"one": record}, title=title).svg())


def test_hostile_names_of_scopes_weights_and_cells() -> None:
    for level in draw.LEVELS:
        root = ElementTree.fromstring(draw.unrolled(own(Hostile), level).svg())
        assert any(text.startswith("<Cell> & \\N") for text in words_in(ElementTree.tostring(root, "unicode")))
    gate = words_in(draw.unrolled(own(Hostile), "gate").svg())
    assert {"\\G₂", "문 😀U+0000 ₂"} <= set(gate)
    assert any(text.startswith('"<b>&\\N') for text in gate)


def test_letters_of_every_script_survive_in_the_text_of_a_png(tmp_path: Path) -> None:
    picture = draw.unrolled(long_record(), "strip", labels=HOSTILE)
    assert picture.save(tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


# Wrong calls


@pytest.mark.parametrize(("options", "message"), [
    ({"level": "gates"}, "no level 'gates'.*strip, cell, gate, op"), ({"level": ""}, "no level ''"),
    ({"labels": "ab"}, "2 labels for 4 time steps"), ({"labels": ["a"] * 5}, "5 labels for 4 time steps"),
    ({"targets": []}, "0 targets for 4 time steps"),
])  # fmt: skip
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DrawError, match=re.compile(message, re.DOTALL)):
        draw.unrolled(RECORDS["LSTM last step"], **options)


def test_a_sequence_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecordError, match="no sequence 'l7'"):
        draw.unrolled(RECORDS["LSTM last step"], sequence="l7")


def test_all_layers_and_directions_of_each_record_are_compared() -> None:
    records = {"GRU": fixed("GRU", 4, 2, both=True)[1], "RNN": fixed("RNN", 4)[1]}
    drawing = Drawing(draw.compare(records).source)
    rows = [b.words["label"] for name, b in drawing.boxes.items() if name.startswith("row_")]
    assert rows == [f"GRU {name}  h" for name in records["GRU"].sequences] + ["RNN  h"]
    for name, s in records["GRU"].sequences.items():
        tile = drawing.boxes[identifier(f"GRU {name}  h") + "_2"]
        assert tile.words["tooltip"].endswith(f"= {shown(s.readings('h')[1])}")
    words = " ".join(b.words["label"] for b in drawing.boxes.values() if b.words.get("class") == "caption")
    assert all(f"GRU {name}: " in words for name in records["GRU"].sequences)


def test_records_of_unequal_length_are_not_compared() -> None:
    with pytest.raises(DrawError, match="a T=4, b T=3"):
        draw.compare({"a": RECORDS["LSTM last step"], "b": recorded("RNN", 3)})
    with pytest.raises(DrawError, match="no record"):
        draw.compare({})
    with pytest.raises(DrawError, match="3 labels for 4 time steps"):
        draw.compare({"a": RECORDS["LSTM last step"]}, labels="abc")


# Comparison and strip


def test_a_comparison_has_a_row_for_every_state_of_every_cell() -> None:
    records = {cell: RECORDS[f"{cell} last step"] for cell in ("RNN", "LSTM", "GRU")}
    drawing = Drawing(draw.compare(records, labels="abcd").source)
    rows = [box.words["label"] for name, box in drawing.boxes.items() if name.startswith("row_")]
    assert rows == ["RNN  h", "LSTM  C", "LSTM  h", "GRU  h"]
    for cell, record in records.items():
        for t, reading in enumerate(record.sequence().readings("h")):
            tile = drawing.boxes[f"{cell}u20u20h_{t + 1}"].words
            assert tile["tooltip"].startswith(f"t={t + 1} “{'abcd'[t]}”: ")
            assert float(tile["tooltip"].rpartition(" ")[2]) == pytest.approx(reading.norm, rel=0.1)


def test_equal_gradients_have_equal_colours_in_every_row() -> None:
    record = RECORDS["GRU last step"]
    drawing = Drawing(draw.compare({"one": record, "other": record}).source)
    for t in range(1, 5):
        one, other = (drawing.boxes[f"{name}u20u20h_{t}"] for name in ("one", "other"))
        assert one.words["fillcolor"] == other.words["fillcolor"]
        assert (one.left, one.right) == (other.left, other.right)


def test_a_strip_has_a_tile_for_every_state_gate_and_step() -> None:
    drawing = Drawing(draw.unrolled(RECORDS["LSTM last step"], "strip").source)
    tiles = [name for name, box in drawing.boxes.items() if box.words.get("class") == "tile"]
    assert sorted(tiles) == sorted(f"{row}_{t}" for row in "Chfigoax" for t in range(1, 5) if f"{row}_{t}" in tiles)
    assert {tile[0] for tile in tiles} >= set("Chfigox")
    assert len(tiles) % 4 == 0


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 30])
def test_the_arrow_below_a_strip_points_to_the_left_and_crosses_no_words(steps: int) -> None:
    drawing = Drawing(draw.unrolled(recorded("RNN", steps), "strip").source)
    (arrow,) = drawing.wires
    assert arrow.words["dir"] == "back"
    assert drawing.boxes["arrow_head"].right <= arrow.corners[0][0] < arrow.corners[-1][0] - 60
    assert arrow.corners[-1][0] <= drawing.bounds[2]


def test_a_long_strip_takes_the_largest_of_several_steps() -> None:
    record = recorded("RNN", 1500, hidden=2, keep="steps", every_step=True)
    picture = draw.unrolled(record, "strip")
    drawing = Drawing(picture.source)
    assert picture.size[0] <= 1200
    tiles = [box.words["tooltip"] for name, box in drawing.boxes.items() if re.fullmatch(r"h_\d+", name)]
    assert len(tiles) < 600
    spans = [re.match(r"t=(\d+)…(\d+): .* = (.*)", tile) for tile in tiles]
    norms = record.sequence().norms()[:, 0]
    for span in spans:
        assert span is not None
        assert float(span[3]) == pytest.approx(norms[int(span[1]) - 1 : int(span[2])].max(), rel=0.1)
    assert sum(int(span[2]) - int(span[1]) + 1 for span in spans if span) == 1500


def test_a_strip_of_everything_has_a_tile_a_step() -> None:
    drawing = Drawing(draw.unrolled(recorded("RNN", 300, hidden=2), "strip", everything=True).source)
    assert sum(re.fullmatch(r"h_\d+", name) is not None for name in drawing.boxes) == 300


# Growth


@pytest.mark.parametrize(("cell", "level"), [("LSTM", "gate"), ("GRU", "op"), ("RNN", "cell"), ("RNN", "strip")])
def test_the_drawing_grows_no_faster_than_the_sequence(cell: str, level: str) -> None:
    long, short = (
        len(draw.unrolled(recorded(cell, steps, hidden=2), level, everything=True).source) for steps in (120, 60)
    )
    assert 1.5 < long / short < 2.2


# Engines


@pytest.mark.skipif(shutil.which("dot") is None, reason="no installed Graphviz to compare with")
@pytest.mark.parametrize(("name", "level"), [("LSTM last step", "gate"), ("GRU last step", "op"), ("NoScopes", "cell")])
def test_both_engines_draw_the_same_pieces(name: str, level: str) -> None:
    picture = draw.unrolled(RECORDS[name], level)
    counts = []
    for engine in ENGINES:
        svg = picture.svg(engine)
        counts.append([svg.count(f'class="{kind}') for kind in ("node", "edge", "cluster")])
        assert sorted(words_in(svg)) == sorted(words_in(picture.svg()))
    assert counts[0] == counts[1]
    assert min(counts[0]) >= 2


# Kept to the letter


def fixed(cell: str, steps: int, layers: int = 1, *, both: bool = False) -> tuple[Any, Record]:
    """A record of simple, fixed numbers: float64, two features, weights from a sine; no sum is near a rounding tie."""
    layer = getattr(nn, cell)(2, 2, layers, bidirectional=both, rng=np.random.default_rng(0), dtype=np.float64)
    for k, parameter in enumerate(layer.parameters()):
        parameter.data = 0.8 * np.sin(1.3 * np.arange(parameter.size) + k + 1).reshape(parameter.shape)
    x = mg.Tensor(np.cos(2.1 * np.arange(steps * 2)).reshape(steps, 1, 2), requires_grad=True)
    y, _ = layer(x)
    target = np.array([[0.3, -0.4, 0.1, 0.6][: y.shape[-1]]])
    record = bptt.backward(nn.mse_loss(y[-1], target), keep="ops")
    assert record.graph is not None
    nodes = tuple(node._replace(source=node.source and "cells.py:1") for node in record.graph.nodes)
    return layer, dataclasses.replace(record, graph=dataclasses.replace(record.graph, nodes=nodes))


def golden_clipping() -> Picture:
    layer, record = fixed("RNN", 3)
    return draw.clipping(record, clip_grad_norm(layer.parameters(), 0.1), labels="abc")


PICTURES = {
    "rnn_gate": lambda: draw.unrolled(fixed("RNN", 3)[1], "gate", labels="abc"),
    "lstm_gate": lambda: draw.unrolled(fixed("LSTM", 2)[1], "gate"),
    "gru_op": lambda: draw.unrolled(fixed("GRU", 2)[1], "op"),
    "clipping": golden_clipping,
    "lstm_layers": lambda: draw.unrolled(fixed("LSTM", 3, 2, both=True)[1], labels="abc"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_stay_as_they_were(name: str) -> None:
    source, path = PICTURES[name]().source, GOLDEN / f"{name}.dot"
    if os.environ.get("MINIGRAD_GOLDEN") == "renew":
        path.write_text(source, "utf8")
    assert source == path.read_text("utf8")


def test_a_strip_has_no_row_in_which_nothing_fits() -> None:
    def rows(**options: Any) -> set[str]:
        boxes = Drawing(draw.unrolled(RECORDS["LSTM last step"], "strip", **options).source).boxes
        return {"label_row", "target_row"} & boxes.keys()

    assert rows(labels="abcd", targets="bcde") == {"label_row", "target_row"}
    assert rows(labels=["wonderful"] * 4, targets="bcde") == {"target_row"}
    assert rows(labels="abcd", targets=["terrible"] * 4) == {"label_row"}
