"""The page as a file: its numbers are the record's, its words are words, and it needs nothing from outside."""

from __future__ import annotations

import base64
import configparser
import dataclasses
import hashlib
import json
import math
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, clip_grad_norm, nn
from minigrad.bptt import Record
from minigrad.bptt.record import Reading
from minigrad.errors import DrawError, RecordError
from minigrad.views import draw, page_html
from minigrad.views.canvas import identifier
from minigrad.views.equation import plain
from minigrad.views.facts import Facts, before
from minigrad.views.page import page
from minigrad.views.page_codes import Store
from minigrad.views.page_html import _on_dark
from minigrad.views.palette import BINS, SPECIAL, look, number, shown
from minigrad.views.scene import build, letter_of
from minigrad.views.textbook import textbook
from tests.views.hostile import Hostile
from tests.views.test_layout import RECORDS, Drawing, own, recorded

HOSTILE = "</script><script>alert(1)</script><!--<b>&amp;\"'`${1}\u202e\u2028\x00\ud800"
LOOKS = [*(found for _, found in BINS), *SPECIAL.values()]


class Parsed(HTMLParser):
    """The elements of a page, and what they hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[list[str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        words: list[str] = []
        self.elements.append((tag, dict(attributes), words))
        if tag not in ("meta", "input", "br"):
            self.open.append(words)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(words)) for name, attributes, words in self.elements if name == tag]


class Shown:
    """What a page holds, read back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.html = Parsed(text)
        ((_, found),) = [(a, words) for a, words in self.html.all("script") if a.get("id") == "data"]
        self.data: dict[str, Any] = json.loads(found)
        kind = "<u4" if self.data["wide"] else "<u2"
        self.codes = np.frombuffer(base64.b64decode(self.data["series"]), kind)
        self.exact = np.frombuffer(base64.b64decode(self.data["exact"]), "<f8")

    def layer(self, cell: int = 0, layer: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.data["cells"][cell]["layers"][layer]
        return found

    def reading(self, place: int, update: int = 0, t: int = 0) -> tuple[str, int] | None:
        """The digits and the look of a gradient."""
        entry = self.data["readings"][self.codes[place + update * self.data["steps"] + t]]
        return None if entry is None else (entry[0], entry[2])

    def word(self, place: int, k: int) -> str:
        found: str = self.data["words"][self.codes[place + k]]
        return found


def expected(reading: Reading) -> tuple[str, int]:
    return shown(reading), next(k for k, x in enumerate(LOOKS) if x is look(reading))


@cache
def history(
    cell: str, *, keep: str = "ops", kernel: str = "steps", steps: int = 5, updates: int = 3, batch: int = 1,
    lengths: tuple[int, ...] | None = None, layers: int = 1, both: bool = False, growth: float = 1.5,
    single: bool = False, last: bool = False,
) -> tuple[tuple[int, Record], ...]:  # fmt: skip
    """Records of a network whose weights grow from one to the next."""
    rng, dtype = np.random.default_rng(2), np.float32 if single else np.float64
    layer = getattr(nn, cell)(3, 4, layers, bidirectional=both, kernel=kernel, rng=rng, dtype=dtype)
    output = nn.Linear(8 if both else 4, 2, rng=rng, dtype=dtype)
    x = rng.standard_normal((steps, batch, 3)).astype(dtype)
    parameters = [*layer.parameters(), *output.parameters()]
    found = []
    for update in range(updates):
        for p in parameters:
            p.grad = None
        y, _ = layer(mg.Tensor(x, requires_grad=True), lengths=list(lengths) if lengths else None)
        z = output(y[-1] if last else y)
        record = bptt.backward(nn.mse_loss(z, np.full(z.shape, 2, dtype)), keep=keep)  # type: ignore[arg-type]
        clipping = clip_grad_norm(parameters, 0.1, error_if_nonfinite=False)
        found.append((10 * update, record.after(clipping=clipping)))
        for p in layer.parameters():
            p.data = (p.numpy() * growth).astype(dtype)
    return tuple(found)


HISTORIES: dict[str, dict[str, Any]] = {
    "RNN": {"cell": "RNN"},
    "LSTM": {"cell": "LSTM"},
    "GRU": {"cell": "GRU", "batch": 3},
    "kernel": {"cell": "LSTM", "kernel": "fused", "keep": "steps"},
    "steps": {"cell": "GRU", "keep": "steps"},
    "unequal lengths": {"cell": "LSTM", "batch": 3, "lengths": (2, 4, 1)},
    "two layers, both ways": {"cell": "GRU", "layers": 2, "both": True, "batch": 2, "lengths": (5, 3)},
    "one step": {"cell": "LSTM", "steps": 1, "updates": 1},
    "explodes": {"cell": "RNN", "growth": 1e30, "single": True, "kernel": "fused", "keep": "steps"},
}
each_history = pytest.mark.parametrize("name", HISTORIES)


def of(name: str) -> tuple[tuple[int, Record], ...]:
    with np.errstate(all="ignore"):
        return history(**HISTORIES[name])


@cache
def shows(name: str) -> Shown:
    return Shown(page({name: of(name)}))


# Numbers


@each_history
def test_the_strip_has_the_digits_and_the_look_of_every_norm(name: str) -> None:
    found, records = shows(name), of(name)
    for k, sequence in enumerate(records[0][1].sequences):
        rows = {row["title"]: row["codes"] for row in found.layer(0, k)["rows"]}
        for u, (_, record) in enumerate(records):
            s = record.sequence(sequence)
            norms = {letter_of(state): s.readings(state) for state in s.states}
            norms |= {gate: s.over_batch(values) for gate, values in s.gate_norms.items()}
            if s.input_norms is not None:
                norms["x"] = s.over_batch(s.input_norms)
            assert list(rows) == list(norms)
            for title, readings in norms.items():
                assert [found.reading(rows[title], u, t) for t in range(s.steps)] == [*map(expected, readings)]


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@each_history
def test_every_box_and_arrow_has_the_numbers_of_the_picture(name: str, level: str) -> None:
    found, records = shows(name), of(name)
    for k, sequence in enumerate(records[0][1].sequences):
        drawn = found.layer(0, k)["levels"][level]
        for u, (_, record) in enumerate(records):
            s = record.sequence(sequence)
            if level != "cell" and (record.graph is None or s.kernel):
                assert drawn["why"] if level == "op" else not drawn["arrows"]
                continue
            assert drawn["arrows"]
            above = None if s.name.startswith("l1") or "l1" not in record.sequences else "l1"
            scene = build(record, s, level, None, None, above)
            compared = 0
            for t, step in enumerate(scene.steps):
                boxes = {
                    box["key"]: (found.word(box["titles"], t), found.word(box["lines"], u * s.steps + t), *reading)
                    for box in drawn["boxes"] if (reading := found.reading(box["codes"], u, t)) is not None
                }  # fmt: skip
                cards = {key: (c.title, c.line, *expected(c.reading)) for key, c in step.cards.items()}
                assert {k: v[1:] for k, v in boxes.items()} == {k: v[1:] for k, v in cards.items()}
                assert all(cards[key][0].startswith(box[0].rstrip("…")) for key, box in boxes.items())
                pills = {(box["key"], p["name"]): found.reading(p["codes"], u, t)
                         for box in drawn["boxes"] for p in box["pills"]}  # fmt: skip
                for key, card in step.cards.items():
                    for pill in card.pills:
                        assert pills[key, pill.name] == expected(pill.reading)
                for kind, flows in (("flows", step.flows), ("carried", step.carried)):
                    ways = {(w["from"], w["to"]): found.reading(w["codes"], u, t) for w in drawn[kind]}
                    assert {way: r for way, r in ways.items() if r} == {way: expected(r) for way, r in flows.items()}
                    compared += len(flows)
            assert compared
            for first in drawn["firsts"]:
                card = scene.first.cards[first["key"]]
                assert found.word(first["lines"], u) == card.line
                assert found.data["readings"][found.codes[first["codes"] + u]][0] == shown(card.reading)


@each_history
def test_terms_sums_and_totals_are_the_exact_norms(name: str) -> None:
    found, records = shows(name), of(name)
    totals = found.data["cells"][0]["totals"]
    for u, (_, record) in enumerate(records):
        flat = np.concatenate([p.gradient.astype(np.float64).ravel() for p in record.parameters.values()])
        assert found.exact[totals + u] == pytest.approx(np.linalg.norm(flat), rel=1e-6, nan_ok=True)
        for k, s in enumerate(record.sequences.values()):
            clip = found.layer(0, k)["clip"]
            weight = record.parameters[clip["parameter"]]
            assert "weight_hh" in clip["parameter"]
            assert clip["tiny"] == np.finfo(s.dtype).tiny
            with np.errstate(all="ignore"):
                assert found.exact[clip["sums"] + u] == pytest.approx(
                    np.linalg.norm(weight.gradient.astype(np.float64)), nan_ok=True
                )
                sizes = {x.time: np.linalg.norm(x.array().astype(np.float64)) for x in weight.terms}
            terms = found.exact[clip["terms"] + u * s.steps :][: s.steps]
            np.testing.assert_allclose(terms, [sizes.get(t, 0.0) for t in range(s.steps)], rtol=1e-6)


def test_losses_and_updates_are_those_of_the_records() -> None:
    found, records = shows("LSTM"), of("LSTM")
    cell = found.data["cells"][0]
    assert cell["updates"] == [0, 10, 20]
    assert [found.word(cell["losses"], u) for u in range(3)] == [number(r.loss) for _, r in records]
    assert cell["threshold"] == 0.1


def test_what_comes_of_the_gradient_is_first_over_last() -> None:
    found, records = shows("LSTM"), of("LSTM")
    layer = found.layer()
    for u, (_, record) in enumerate(records):
        h = np.linalg.norm(record.sequence().gradients["h"][:, 0], axis=1)
        assert found.word(layer["ratios"], u) == number(h[0] / h[-1])
    assert layer["ends"] == [0, 4]


def test_a_reverse_walk_ends_at_the_last_step() -> None:
    found = shows("two layers, both ways")
    assert [layer["ends"] for layer in found.data["cells"][0]["layers"]] == [[0, 4], [4, 0]] * 2
    assert [layer["reverse"] for layer in found.data["cells"][0]["layers"]] == [False, True] * 2


def test_quantised_norms_keep_their_digits_and_their_bin() -> None:
    rng, store = np.random.default_rng(0), Store()
    norms = [*10.0 ** rng.uniform(-300, 300, 3000), *10.0 ** rng.uniform(-4, 5, 3000)]
    norms += [near for bound, _ in BINS[:-1] for near in (bound, math.nextafter(bound, 0), math.nextafter(bound, 9e9))]
    for norm in norms:
        reading = Reading(float(norm), "value")
        code = store.code(reading)
        text, _, index, kept = [None, *store.entries][code]  # type: ignore[misc]
        assert (text, index) == expected(reading)
        digits = 1 if "e" in text else 2  # at most so many, and 100 to 9999 in whole numbers
        last = 1.0 if 99.5 <= norm < 9999.5 else 10.0 ** (math.floor(math.log10(norm)) + 1 - digits)
        assert abs(kept - norm) <= 0.5 * last * (1 + 1e-9)
    assert len(store.entries) < 65_535


def test_each_kind_of_no_number_is_an_entry_of_its_own() -> None:
    store = Store()
    kinds = {"zero": 0.0, "underflow": 1e-40, "not finite": math.nan, "no path": 0.0, "padding": 0.0,
             "no backward yet": math.nan}  # fmt: skip
    codes = {store.code(Reading(norm, kind)) for kind, norm in kinds.items()}  # type: ignore[arg-type]
    assert len(codes) == 6
    assert {list(SPECIAL)[entry[2] - len(BINS)] for entry in store.entries} == set(kinds)  # type: ignore[index]
    assert 0 not in codes  # nothing at all


def test_more_than_65535_entries_are_kept_in_four_bytes() -> None:
    store = Store()
    codes = [store.word(str(k)) for k in range(70_000)]
    place = store.keep(codes)
    packed = store.packed()
    assert packed["wide"]
    found = np.frombuffer(base64.b64decode(packed["series"]), "<u4")
    assert [packed["words"][k] for k in found[place : place + 70_000]] == [str(k) for k in range(70_000)]


def test_the_kinds_that_occur_stand_in_the_legend() -> None:
    def kinds(name: str) -> set[int]:
        found = [str(a["class"]) for a, _ in shows(name).html.all("li")]
        return {int(words[4:].split()[0]) for words in found if words.startswith("look")}

    bins = set(range(len(BINS)))
    padding = len(BINS) + list(SPECIAL).index("padding")
    broken = len(BINS) + list(SPECIAL).index("not finite")
    assert bins <= kinds("LSTM")
    assert padding not in kinds("LSTM")
    assert padding in kinds("unequal lengths")
    assert broken in kinds("explodes")


@pytest.mark.parametrize(("single", "words"), [(True, "underflow\n< 1e-38"), (False, "underflow\n< 2e-308")])
def test_an_underflow_names_the_smallest_number_of_the_records(single: bool, words: str) -> None:
    found = Shown(page({"RNN": history("RNN", single=single, steps=120, updates=2, growth=1e-3, last=True)}))
    place = len(BINS) + list(SPECIAL).index("underflow")
    assert found.data["looks"][place]["legend"] == words
    ((_, seen),) = [(a, w) for a, w in found.html.all("li") if f"look{place} " in str(a.get("class"))]
    assert seen == ""  # the words are a span's
    assert words.replace("\n", "") in [w for _, w in found.html.all("span")]


def test_a_record_before_backward_has_no_numbers() -> None:
    found = Shown(page({"LSTM": [(0, RECORDS["LSTM before backward"])]}))
    waiting = len(BINS) + list(SPECIAL).index("no backward yet")
    assert {found.reading(found.layer()["rows"][0]["codes"], 0, t) for t in range(4)} == {("—", waiting)}
    assert found.layer()["clip"] is None


def test_where_some_records_have_ops_the_others_have_boxes_without_arrows() -> None:
    full, bare = of("GRU"), [(u, r) for u, r in history("GRU", batch=3, keep="steps")]
    mixed = [bare[0], full[1], bare[2]]
    found, whole = Shown(page({"GRU": mixed})), shows("GRU")
    drawn, same = found.layer()["levels"]["gate"], whole.layer()["levels"]["gate"]
    assert drawn["arrows"]
    inner = next(w for w in drawn["flows"] if w["to"] != "loss")
    assert [found.reading(inner["codes"], u, 2) is None for u in range(3)] == [True, False, True]
    for box in same["boxes"]:
        other = next(b for b in drawn["boxes"] if b["key"] == box["key"])
        assert (other["x"], other["y"]) == (box["x"], box["y"])
        for u in (0, 1, 2):
            if found.reading(other["codes"], u, 1) is not None:
                assert found.reading(other["codes"], u, 1) == whole.reading(box["codes"], u, 1)
                assert found.word(other["lines"], 5 * u + 1) == whole.word(box["lines"], 5 * u + 1)


@pytest.mark.parametrize("name", RECORDS)
def test_ones_own_cell_has_a_page(name: str) -> None:
    found = Shown(page({name: [(0, RECORDS[name])]}))
    assert len(found.layer()["rows"]) >= 1
    assert len(found.layer()["levels"]["cell"]["boxes"]) >= 2


# Ops


def folded(records: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Shown:
    """A page whose op level has room for few numbers."""
    monkeypatch.setattr("minigrad.views.page_ops._MOST", 1)
    return Shown(page({"cell": records}, **options))


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_a_long_training_keeps_the_ops_of_the_first_and_last_steps(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records = history(cell, steps=12, updates=2)
    found = folded(records, monkeypatch)
    drawn = found.layer()["levels"]["op"]
    assert drawn["columns"] == [0, 1, 2, 3, 8, 9, 10, 11]
    for u, (_, record) in enumerate(records):
        scene = build(record, record.sequence(), "op", None, None)
        for k, t in enumerate(drawn["columns"]):
            step, place = scene.steps[t], 8 * u + k
            codes = {box["key"]: found.codes[box["codes"] + place] for box in drawn["boxes"]}
            seen = {key: found.data["readings"][code] for key, code in codes.items() if code}
            cards = {key: expected(card.reading) for key, card in step.cards.items()}
            assert {key: (r[0], r[2]) for key, r in seen.items()} == cards
            assert {b["key"]: found.word(b["titles"], k) for b in drawn["boxes"]} == {
                key: card.title for key, card in step.cards.items()
            }
            for kind, flows in (("flows", step.flows), ("carried", step.carried)):
                codes = {(way["from"], way["to"]): found.codes[way["codes"] + place] for way in drawn[kind]}
                seen = {way: found.data["readings"][code] for way, code in codes.items() if code}
                assert {way: (r[0], r[2]) for way, r in seen.items()} == {way: expected(r) for way, r in flows.items()}


@pytest.mark.parametrize(("room", "columns"), [(53 * 12 * 2, 12), (53 * 12 * 2 - 1, 8)])
def test_the_op_level_is_folded_where_its_numbers_have_no_room(
    room: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigrad.views.page_ops._MOST", room)
    drawn = Shown(page({"LSTM": history("LSTM", steps=12, updates=2)})).layer()["levels"]["op"]
    numbers = 2 * len(drawn["boxes"]) + sum(len(box["pills"]) for box in drawn["boxes"])
    assert numbers + len(drawn["flows"]) + len(drawn["carried"]) == 53  # of a step, at two updates
    assert len(drawn["columns"]) == columns


def test_the_other_levels_keep_every_step_of_a_long_training(monkeypatch: pytest.MonkeyPatch) -> None:
    records = history("LSTM", steps=12, updates=2)
    found, whole = folded(records, monkeypatch), Shown(page({"cell": records}))
    for level in ("cell", "gate"):
        for box, same in zip(*(x.layer()["levels"][level]["boxes"] for x in (found, whole)), strict=True):
            for u in range(2):
                assert [found.reading(box["codes"], u, t) for t in range(12)] == [
                    whole.reading(same["codes"], u, t) for t in range(12)
                ]


@pytest.mark.parametrize("steps", [1, 7, 8])
def test_a_short_sequence_is_never_folded(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = folded(history("GRU", steps=steps, updates=1), monkeypatch)
    assert found.layer()["levels"]["op"]["columns"] == [*range(steps)]


def test_why_there_is_no_op_level_is_said() -> None:
    assert "ran in one op, a kernel" in shows("kernel").layer()["levels"]["op"]["why"]
    assert 'keep="steps"' in shows("steps").layer()["levels"]["op"]["why"]


def test_where_some_records_have_ops_the_others_have_states_and_inputs_at_the_op_level() -> None:
    full, bare = of("GRU"), [(u, r) for u, r in history("GRU", batch=3, keep="steps")]
    found, whole = Shown(page({"GRU": [bare[0], full[1], bare[2]]})), shows("GRU")
    drawn, same = found.layer()["levels"]["op"], whole.layer()["levels"]["op"]
    assert (drawn["known"], same["known"]) == ([False, True, False], [True] * 3)
    assert {b["key"] for b in drawn["boxes"]} == {b["key"] for b in same["boxes"]}
    for box in same["boxes"]:
        other = next(b for b in drawn["boxes"] if b["key"] == box["key"])
        assert (other["x"], other["y"]) == (box["x"], box["y"])
        assert found.word(other["titles"], 2) == whole.word(box["titles"], 2)
        for u in range(3):
            seen = found.reading(other["codes"], u, 2)
            assert seen == (whole.reading(box["codes"], u, 2) if u == 1 or box["key"] in ("h", "x", "loss") else None)


_FED = {"x", "a linear 1", "a linear 2", "a add 1"}


@pytest.mark.parametrize(
    ("cell", "symbol", "boxes", "before"),
    [
        ("RNN", "a", _FED, ["h"]),
        ("RNN", "h", {"h"}, []),
        ("LSTM", "f", {*_FED, "a split 1", "f sigmoid 1", "c multiply 1"}, ["h", "c"]),
        ("unequal lengths", "f", {*_FED, "a where 1", "a split 1", "f sigmoid 1", "c where 1", "c multiply 1"},
         ["h", "c"]),
        ("LSTM", "i", {*_FED, "a split 1", "i sigmoid 1", "g tanh 1", "c multiply 2"}, ["h"]),
        ("LSTM", "g", {*_FED, "a split 1", "i sigmoid 1", "g tanh 1", "c multiply 2"}, ["h"]),
        ("LSTM", "C", {"c", "c multiply 1", "c multiply 2"}, ["c"]),
        ("LSTM", "o", {*_FED, "a split 1", "o sigmoid 1", "h tanh 1", "h"}, ["h"]),
        ("GRU", "r", {*_FED - {"a add 1"}, "a split 1", "a split 2", "r add 1", "r sigmoid 1", "n multiply 1"}, ["h"]),
        ("GRU", "z", {*_FED - {"a add 1"}, "a split 1", "a split 2", "z add 1", "z sigmoid 1", "h subtract 1",
                      "h multiply 2"}, ["h"]),
        ("GRU", "h", {"h", "h subtract 1", "h multiply 1", "h multiply 2"}, ["h"]),
    ],
)  # fmt: skip
def test_a_highlight_has_the_ops_of_its_gate(cell: str, symbol: str, boxes: set[str], before: list[str]) -> None:
    drawn = shows(cell).layer()["levels"]["op"]
    found = next(h for h in drawn["anatomy"]["highlights"] if h["symbol"] == symbol)
    assert {drawn["boxes"][k]["key"] for k in found["boxes"]} == boxes
    assert sorted(found["before"]) == sorted(before)
    inside = boxes | {f"{state}" for state in before}
    for kind in ("flows", "carried"):
        for way in (drawn[kind][k] for k in found[kind]):
            assert way["from"] in inside or way["to"] in boxes


@pytest.mark.parametrize("name", ["two layers, both ways", "unequal lengths", "one step"])
def test_every_highlight_of_odd_walks_has_boxes_and_ways(name: str) -> None:
    for layer in shows(name).data["cells"][0]["layers"]:
        drawn = layer["levels"]["op"]
        for found in drawn["anatomy"]["highlights"]:
            assert 0 < len(found["boxes"]) < len(drawn["boxes"])
            assert 0 < len(found["flows"]) < len(drawn["flows"])
            assert any(row["part"] in found["rows"] for row in drawn["anatomy"]["rows"])


@pytest.mark.parametrize(
    ("cell", "symbols", "equations"),
    [
        ("RNN", "ah", ["a_t = W x_t + U h_{t−1} + b", "h_t = tanh(a_t)"]),
        ("LSTM", "figCoh", ["f_t = σ(W_f x_t + U_f h_{t−1} + b_f)", "i_t = σ(W_i x_t + U_i h_{t−1} + b_i)",
                            "g_t = tanh(W_g x_t + U_g h_{t−1} + b_g)", "C_t = f_t × C_{t−1} + i_t × g_t",
                            "o_t = σ(W_o x_t + U_o h_{t−1} + b_o)", "h_t = o_t × tanh(C_t)"]),
        ("GRU", "rznh", ["r_t = σ(W_r x_t + U_r h_{t−1} + b_r)", "z_t = σ(W_z x_t + U_z h_{t−1} + b_z)",
                         "n_t = tanh(W_n x_t + b_{in} + r_t × (U_n h_{t−1} + b_{hn}))",
                         "h_t = (1 − z_t) × n_t + z_t × h_{t−1}"]),
    ],
)  # fmt: skip
def test_the_anatomy_has_the_equations_of_the_textbook(cell: str, symbols: str, equations: list[str]) -> None:
    drawn = shows(cell).layer()["levels"]["op"]
    anatomy, keys = drawn["anatomy"], {box["key"] for box in drawn["boxes"]}
    assert "".join(h["symbol"] for h in anatomy["highlights"]) == symbols
    assert [plain(row["equation"]) for row in anatomy["rows"]] == equations
    assert all(row["key"] in keys for row in anatomy["rows"])


def told(found: Shown, drawn: dict[str, Any], row: dict[str, Any], u: int, t: int) -> list[str]:
    """What a row of the anatomy says of an update and a step, as the script puts it together."""
    own, box = u * len(drawn["columns"]) + drawn["columns"].index(t), next(
        b for b in drawn["boxes"] if b["key"] == row["key"]
    )
    said, straight = [found.word(place, own) for place in row["said"]], row["straight"]
    text, _, _, _ = found.data["readings"][found.codes[box["codes"] + own]]
    said.append("no path to the loss" if text == "no path" else f"‖∂L/∂{row['symbol']}‖ = {text}")
    if straight:
        codes = [found.codes[drawn[kind][k]["codes"] + own] for kind, k in straight["ways"]]
        text = next((found.data["readings"][code][0] for code in codes if code), "no path")
        said.append("" if text == "no path" else f"{plain(straight['words']).partition('_')[0]}: {text}")
    return [words for words in said if words]


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "unequal lengths", "two layers, both ways", "one step"])
def test_the_anatomy_says_the_numbers_of_the_picture(name: str) -> None:
    found, records, compared = shows(name), of(name), set()
    for k, sequence in enumerate(records[0][1].sequences):
        drawn = found.layer(0, k)["levels"]["op"]
        for u, (_, record) in enumerate(records):
            s = record.sequence(sequence)
            for t in drawn["columns"]:
                facts = Facts(record, s, t)
                pictured = textbook(facts)
                if pictured is None:  # a step of padding alone has too few ops
                    continue
                for row, same in zip(drawn["anatomy"]["rows"], pictured.rows, strict=True):
                    words = [
                        re.sub(r"(‖∂L/∂\w|straight back to \w)[₀-₉]+", r"\1", word)  # at this step
                        for word in facts.numbers(same.key, pictured.flows.get((before(same.key), "keep")))
                    ]
                    assert told(found, drawn, row, u, t) == words, (row["name"], u, t)
                    compared |= {word.split()[0] for word in words}
    assert {"mean", "‖∂L/∂h‖"} <= compared
    assert "saturated" in compared
    assert ("straight" in compared) == (name not in ("RNN", "one step"))  # the first state has no gradient


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "unequal lengths"])
def test_the_share_of_saturated_units_is_that_of_the_values(name: str) -> None:
    found, records = shows(name), of(name)
    drawn = found.layer()["levels"]["op"]
    rows = {row["part"]: row for row in drawn["anatomy"]["rows"]}
    for u, (_, record) in enumerate(records):
        s = record.sequence()
        # of the states only a plain RNN's h is what a nonlinearity gives
        for gate, values in {**s.gates, **(s.states if name == "RNN" else {})}.items():
            if gate == "a":
                continue
            low, high = (-0.8, 0.8) if gate in "gnh" else (0.1, 0.9)
            for k, t in enumerate(drawn["columns"]):
                real = values[t][s.lengths > t]
                own = u * len(drawn["columns"]) + k
                text = found.word(rows[gate]["said"][1], own)
                if not real.size:
                    assert text == ""
                    continue
                assert found.word(rows[gate]["said"][0], own) == f"mean {number(float(real.mean()))}"
                share = 100 * np.mean([v < low or v > high for v in real.ravel()])
                assert float(re.sub(r"saturated | %|<|>", "", text)) == pytest.approx(share, abs=1), (gate, t)
    saturated = [note for note in drawn["anatomy"]["notes"] if "aturated" in note]
    assert saturated == ["Saturated: a sigmoid beyond 0.1 and 0.9, a tanh beyond −0.8 and 0.8."]


def test_a_reverse_walk_reads_the_step_after() -> None:
    layers = shows("two layers, both ways").data["cells"][0]["layers"]
    last = [plain(layer["levels"]["op"]["anatomy"]["rows"][-1]["equation"]) for layer in layers]
    assert [text.rpartition(" ")[2] for text in last] == ["h_{t−1}", "h_{t+1}"] * 2


@pytest.mark.parametrize("name", RECORDS)
def test_ones_own_cell_has_ops_and_no_anatomy(name: str) -> None:
    record = RECORDS[name]
    layers = Shown(page({name: [(0, record)]})).data["cells"][0]["layers"]
    for sequence, layer in zip(record.sequences.values(), layers, strict=True):
        drawn = layer["levels"]["op"]
        if record.graph is None or sequence.kernel:
            assert drawn["why"]
            continue
        assert len(drawn["boxes"]) >= 3
        known = textbook(Facts(record, sequence, sequence.steps - 1)) is not None
        assert (drawn["anatomy"] is not None) == known


# Places and colours


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_boxes_and_wires_stand_where_the_picture_puts_them(cell: str, level: str) -> None:
    record = recorded(cell, every_step=True)
    found = Shown(page({cell: [(0, record)]}))
    drawn = found.layer()["levels"][level]
    picture = Drawing(draw.unrolled(record, level, everything=True).source)
    frame = next(f for f in picture.frames if f.name == "step_2")
    size = (frame.right - frame.left, frame.top - frame.bottom)
    assert (drawn["width"], drawn["height"]) == pytest.approx(size, abs=0.01)
    for box in drawn["boxes"]:
        other = picture.boxes[f"{identifier(box['key'])}_2"]
        sides = (box["x"] - box["width"] / 2, box["y"] - box["height"] / 2, box["x"] + box["width"] / 2)
        places = (other.left - frame.left, frame.top - other.top, other.right - frame.left)
        assert sides == pytest.approx(places, abs=0.02)
    for wire in drawn["flows"]:
        ends = tuple(f"{identifier(wire[end])}_2" for end in ("from", "to"))
        (other,) = [w for w in picture.wires if (w.tail, w.head) == ends]
        x, y = other.corners[-1]
        assert wire["points"][-2:] == pytest.approx([x - frame.left, frame.top - y], abs=0.02)
        text = other.words["tooltip"].removeprefix("gradient along this way: ")
        assert found.reading(wire["codes"], 0, 1)[0] == text  # type: ignore[index]


def test_colours_and_bounds_are_those_of_the_palette() -> None:
    found = shows("LSTM")
    assert [x["fill"] for x in found.data["looks"]] == [x.fill for x in LOOKS]
    assert found.data["bounds"] == [bound for bound, _ in BINS[:-1]]
    ((_, css),) = found.html.all("style")
    for k, x in enumerate(LOOKS):
        assert f".look{k}{{--fill:{x.fill};--ink:{x.text};--edge:light-dark({x.edge}," in css


def test_arrows_can_be_seen_on_a_dark_frame() -> None:
    def brightness(colour: str) -> float:  # WCAG 2.2
        r, g, b = ((c / 12.92) if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                   for c in (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)))  # fmt: skip
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    ((_, css),) = shows("LSTM").html.all("style")
    frame = re.search(r"--panel: light-dark\(#\w{6}, (#\w{6})\)", css)
    assert frame is not None
    for x in LOOKS:
        assert (brightness(_on_dark(x.edge)) + 0.05) / (brightness(frame[1]) + 0.05) >= 3


# The file


def test_the_page_asks_for_nothing_from_outside() -> None:
    found = shows("LSTM")
    for _, attributes, _ in found.html.elements:
        assert not {"src", "href", "srcset", "action", "onclick", "onload", "style"} & set(attributes)
    asks = r"url\(|@import|\bimport\b|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|\beval\(|new Function|innerHTML"
    for _, text in [*found.html.all("style"), *found.html.all("script")]:
        assert not re.search(asks, text)
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", found.text)


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    found = shows("LSTM")
    ((meta, _),) = [(a, w) for a, w in found.html.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(meta["content"]).split(";"))
    code = [text for a, text in found.html.all("script") if "type" not in a]
    style = [text for _, text in found.html.all("style")]

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'"
    assert (rules["script-src"], rules["style-src"]) == (hashed(*code), hashed(*style))


@pytest.mark.parametrize(("count", "words"), [(1, "cell 0:"), (4, "cell 0, cell 1, cell 2, cell 3:"), (5, "5 cells:")])
def test_the_title_names_the_cells_while_they_are_few(count: int, words: str) -> None:
    found = Shown(page({f"cell {k}": of("one step") for k in range(count)}))
    assert found.html.all("h1") == [({}, f"{words} what training does to the gradient")]


def test_the_same_records_give_the_same_page() -> None:
    assert page({"LSTM": of("LSTM")}, labels=list("abcde")) == page({"LSTM": of("LSTM")}, labels=list("abcde"))


def renamed(record: Record) -> Record:
    """A record with names that are markup."""
    sequences = {
        f"{name}{HOSTILE}": dataclasses.replace(s, name=f"{name}{HOSTILE}") for name, s in record.sequences.items()
    }
    parameters = {
        f"{name}{HOSTILE}": dataclasses.replace(
            p, name=f"{name}{HOSTILE}",
            terms=tuple(t._replace(sequence=f"{t.sequence}{HOSTILE}" if t.sequence else None) for t in p.terms),
        ) for name, p in record.parameters.items()
    }  # fmt: skip
    return dataclasses.replace(record, sequences=sequences, parameters=parameters, graph=None)


def test_markup_in_names_and_labels_is_text() -> None:
    plain = Shown(page({"GRU": of("steps")}))
    records = [(u, renamed(r)) for u, r in of("steps")]
    text = page({HOSTILE: records}, labels=[HOSTILE, "<!--", "]]>", "&lt;", "\ud800"], title=HOSTILE)
    text.encode()  # no letter that UTF-8 lacks
    found = Shown(text)
    assert [tag for tag, _, _ in found.html.elements] == [tag for tag, _, _ in plain.html.elements]
    seen = HOSTILE
    for letter in "\u202e\u2028\x00\ud800":
        seen = seen.replace(letter, f"U+{ord(letter):04X}")
    ((_, heading),) = found.html.all("h1")
    ((_, title),) = found.html.all("title")
    assert heading == title == seen
    assert found.data["cells"][0]["name"] == seen
    assert found.layer()["name"].endswith(seen)
    assert found.data["labels"] == ["</scrip…", "<!--", "]]>", "&lt;", "U+D800"]
    ((_, json_text),) = [(a, w) for a, w in found.html.all("script") if "type" in a]
    assert not set("<>&") & set(json_text)


def test_names_of_ones_own_cell_are_printable_text() -> None:
    found = Shown(page({"cell": [(0, own(Hostile))]}, labels=["'", "\u2028", "</b>", "`${1}"]))

    unseen = ("key", "from", "to", "part", "looks")  # what joins boxes and arrows; the palette
    waiting, texts = [found.data], []
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [v for k, v in value.items() if k not in unseen]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            texts.append(value)
    assert len(texts) > 50
    assert all(text.isprintable() for text in texts)
    boxes = found.layer()["levels"]["gate"]["boxes"]
    assert {'gate "1" <b> & \\N', "문 😀U+0000"} <= {box["name"] for box in boxes}
    assert any("문 😀U+0000" in text for text in found.data["words"])


def test_every_part_of_the_page_is_installed_and_used() -> None:
    folder = Path(page_html.__file__).parent
    there = {path.name for path in folder.iterdir() if path.suffix in (".js", ".css")}
    assert there == {*page_html.SCRIPTS, "page.css"}
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", "utf-8")
    installed = setup["options.package_data"]["minigrad"].split()
    assert {f"views/{name}" for name in there} == {name for name in installed if name.startswith("views/")}
    ((_, script),) = [(a, w) for a, w in shows("LSTM").html.all("script") if "type" not in a]
    for name in page_html.SCRIPTS:
        assert (folder / name).read_text("utf8") in script


def test_every_control_has_a_name() -> None:
    html = shows("LSTM").html
    labelled = {a["for"] for a, _ in html.all("label")}
    for tag in ("input", "select", "button"):
        for attributes, words in html.all(tag):
            assert attributes["id"] in labelled or attributes.get("aria-label") or words.strip(), attributes


@pytest.mark.slow
def test_a_page_of_three_cells_100_steps_and_50_updates_is_below_5_megabytes() -> None:
    histories = {}
    for cell in ("RNN", "LSTM", "GRU"):
        records = history(cell, steps=100, updates=10, growth=1.05, single=True)
        histories[cell] = [(u, records[u % 10][1]) for u in range(50)]
    found = Shown(page(histories, labels=["x"] * 100))
    assert len(found.text.encode()) < 5_000_000
    for k in range(3):
        assert found.layer(k)["levels"]["op"]["columns"] == [*range(100)]
    assert len(found.data["cells"]) == 3
    last = histories["GRU"][49][1].sequence().readings("h")
    row = found.layer(2)["rows"][0]["codes"]
    assert [found.reading(row, 49, t) for t in range(100)] == [*map(expected, last)]


# Errors


RNN, LSTM = RECORDS["RNN last step"], RECORDS["LSTM last step"]


@pytest.mark.parametrize(
    ("histories", "words"),
    [
        ({}, "there is nothing to show; found no cell"),
        ({"RNN": []}, "there is nothing to show; found none of 'RNN'"),
        ({"RNN": [(1, RNN), (1, RNN)]}, "updates of 'RNN' do not rise: [1, 1]"),
        ({"RNN": [(0, RNN), (3, LSTM)]},
         "differ: update 0 has l0 (T=4, N=1, h, a, x), update 3 has l0 (T=4, N=1, c, h, f, i, g, o, x)"),
        ({"RNN": [(0, RNN), (1, recorded(steps=2))]}, "l0 (T=4, N=1, h, a, x), update 1 has l0 (T=2, N=1, h, a, x)"),
        ({"RNN": [(0, recorded(batch=2))], "GRU": [(0, recorded("GRU", steps=2))]}, "found RNN l0 (T=4), GRU l0 (T=2)"),
        ({"RNN": [(0, RNN), (1, dataclasses.replace(RNN, sequences={
            "l0": dataclasses.replace(RNN.sequence(), input_norms=None)}))]}, "1 has l0 (T=4, N=1, h, a)."),
    ],
)  # fmt: skip
def test_histories_that_do_not_fit_are_refused(histories: Any, words: str) -> None:
    with pytest.raises(DrawError, match=re.escape(words)):
        page(histories)


def test_records_of_other_samples_are_refused() -> None:
    one = history("LSTM", batch=3, lengths=(2, 4, 1))
    other = history("LSTM", batch=3, lengths=(2, 4, 3))
    with pytest.raises(DrawError, match=r"N=3 of lengths 2, 4, 1, .* N=3 of lengths 2, 4, 3, "):
        page({"LSTM": [one[0], other[1]]})


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DrawError, match="2 labels for 3 time steps"):
        page({"RNN": [(0, recorded(steps=3))]}, labels=["a", "b"])


def test_a_record_without_a_sequence_is_refused() -> None:
    w = mg.Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(RecordError, match="no sequence"):
        page({"none": [(0, bptt.backward((w * w).sum()))]})


def test_nothing_is_said_to_be_saturated_where_no_number_of_it_stands() -> None:
    layer = nn.RNN(3, 4, nonlinearity="relu", rng=np.random.default_rng(0))
    y, _ = layer(np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32))
    found = Shown(page({"relu": [(0, bptt.backward((y * y).sum(), keep="ops"))]}))
    anatomy = found.layer()["levels"]["op"]["anatomy"]
    assert any("are 0" in found.word(words, 0) for row in anatomy["rows"] for words in row["said"])
    assert not any("aturated" in note for note in anatomy["notes"])
