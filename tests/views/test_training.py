"""How a run stands, for a terminal and for a pipe: what it says, that it fits, that nothing in it can do harm."""

from __future__ import annotations

import io
import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from minigrad import Tensor, bptt, nn
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.gates import gates
from minigrad.bptt.history import Diagnosed, History
from minigrad.bptt.record import Reading
from minigrad.bptt.terms import step_terms
from minigrad.views.palette import number
from minigrad.views.training import Standing, header, in_words, line, panel, strips, through_training
from tests.bptt.cases import Linear

YARDSTICKS = {"uniform": 4.489, "unigram": 3.539, "2-gram": 2.809, "3-gram": 1.894, "4-gram": 1.289}


def steady(steps: int = 20, norm: float = 0.5) -> list[Reading]:
    return [Reading(norm, "value")] * steps


def standing(**changes: Any) -> Standing:
    made = Standing(
        title="LSTM, H=64: update 1,200 of 5,000", update=1200, updates=5000, loss=2.345, held_out=2.5,
        yardsticks=YARDSTICKS, before=12.3, after=5.0, clips="at norm 5", fired=0.31, fired_ever=0.12, rate=1e-3,
        readings={"l0": steady()}, sample="some text\nand more",
    )  # fmt: skip
    return made._replace(**changes)


def printed(shown: Any, width: int = 80) -> str:
    file = io.StringIO()
    Console(width=width, file=file, markup=False, highlight=False).print(shown)
    return file.getvalue()


# A line


def test_a_line_has_its_numbers_under_its_head() -> None:
    assert header(standing()) == "   update  training  held-out  beats                   gradient  clipped  ever"
    assert line(standing()) == "1200/5000     2.345     2.500  2-gram, not 3-gram          12→5      31%   12%"


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        (5.0, "none yet"), (4.0, "uniform, not unigram"), (3.0, "unigram, not 2-gram"), (2.0, "2-gram, not 3-gram"),
        (1.5, "3-gram, not 4-gram"), (1.0, "all of them"), (math.nan, "none yet"), (math.inf, "none yet"),
        (1.894, "2-gram, not 3-gram"),
    ],
)  # fmt: skip
def test_what_is_beaten_is_named_and_what_comes_next(held_out: float, said: str) -> None:
    assert said in line(standing(held_out=held_out))
    assert said in printed(panel(standing(held_out=held_out), 80))


def test_yardsticks_out_of_order_are_compared_by_their_size() -> None:
    """A 5-gram of a short text may be worse than a 3-gram."""
    yardsticks = {"2-gram": 1.0, "3-gram": 3.0, "4-gram": 4.0}
    assert "3-gram, not 2-gram" in line(standing(held_out=2.0, yardsticks=yardsticks))


def test_without_held_out_text_or_clipping_their_columns_go() -> None:
    plain = standing(held_out=None, yardsticks={}, clips="", after=12.3)
    assert header(plain).split() == ["update", "training", "gradient"]
    assert line(plain).split() == ["1200/5000", "2.345", "12"]


@pytest.mark.parametrize("updates", [1, 9, 10, 99_999])
@pytest.mark.parametrize("before", [0.0, 1e-30, 0.123456, 99.5, 1.2e10])
@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, 1.0), (0.001, 0.999), (math.nan, math.nan)])
def test_every_line_fits_and_stands_under_the_head(updates: int, before: float, shares: tuple[float, float]) -> None:
    s = standing(
        update=1, updates=updates, before=before, fired=shares[0], fired_ever=shares[1], held_out=3.9,
        after=min(before, 5.0), loss=11.5,
    )  # fmt: skip
    for shown in (header(s), line(s)):
        assert cell_len(shown) <= 80
        assert shown.isprintable()
    assert line(s).index("uniform") == header(s).index("beats")
    assert len(line(s)) == len(header(s))


def test_a_share_that_is_small_is_not_nothing() -> None:
    assert line(standing(fired=0.001, fired_ever=0.0)).split()[-2:] == ["<1%", "0%"]


# The panel


def test_the_panel_says_all_of_it() -> None:
    text = printed(panel(standing(), 80))
    for said in (
        "LSTM, H=64: update 1,200 of 5,000", "training 2.345", "held-out 2.500", "beats 2-gram, not 3-gram", "12→5",
        "clipped at norm 5", "31%", "12%", "some text", "and more", "t=1 ", " t=20",
    ):  # fmt: skip
        assert said in text


def test_the_bars_stand_in_order_and_in_proportion() -> None:
    rows = [row for row in printed(panel(standing(), 80)).splitlines() if "█" in row and "t=1" not in row]
    names = [row.split()[0] for row in rows]
    assert names == ["uniform", "unigram", "2-gram", "this", "3-gram", "4-gram"]  # this model
    lengths = [row.count("█") for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    for row, count in zip(rows, lengths, strict=True):
        loss = float(row.replace("this model", "").split("█")[0].split()[-1])
        assert count == pytest.approx(lengths[0] * loss / 4.489, abs=0.51)


@pytest.mark.parametrize("held_out", [math.nan, math.inf, 0.0, 1e6])
def test_a_loss_of_any_size_has_its_bar(held_out: float) -> None:
    text = printed(panel(standing(held_out=held_out), 80))
    assert "this model" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_a_vocabulary_of_one_character_divides_by_nothing() -> None:
    printed(panel(standing(held_out=0.0, loss=0.0, yardsticks={"uniform": 0.0, "unigram": 0.0}), 80))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("steps", [1, 2, 50, 400])
def test_it_fits_any_width(width: int, steps: int) -> None:
    s = standing(readings={"l0": steady(steps), "l1": steady(steps)}, sample="가나다라마바사 " * 40)
    for shown in (panel(s, width), strips(s, width)):
        assert max(map(cell_len, printed(shown, width).splitlines())) <= width


def test_it_fits_a_terminal_of_24_lines() -> None:
    s = standing(readings={"l0": steady(), "l1": steady()}, sample="line\n" * 30)
    assert len(printed(panel(s, 80)).splitlines()) <= 22  # and the bar of progress


def trained(updates: int = 40, steps: int = 30, layers: int = 2) -> History:
    """A history with norms of each layer, falling towards the first step."""
    history = History()
    for k in range(updates):
        history.add(loss=1.0, norm_before=1.0, norm_after=1.0, fired=0.0, lr=0.1)
        lane = np.logspace(-k / updates, 0, steps).astype(np.float32)
        history.norms.add(k + 1, {f"l{n}": {"h": lane, "c": lane} for n in range(layers)}, {"w": 1.0})
        if k % 5 == 4:
            history.diagnoses += [Diagnosed(k + 1, f"l{n}", "healthy", "h", lane**3) for n in range(layers)]
    return history


WORDS = {"gates": "g" * 60, "terms": "t" * 60, "diagnosis": "d" * 100}


@pytest.mark.parametrize("height", [10, 24, 50])
@pytest.mark.parametrize("layers", [1, 2, 16])
@pytest.mark.parametrize("sample", ["", "one line", "line\n" * 30])
def test_with_everything_in_it_the_panel_fits_the_terminal(height: int, layers: int, sample: str) -> None:
    """What cannot be left out takes 22 lines at most."""
    yardsticks = {**YARDSTICKS, "5-gram": 1.2}
    s = standing(
        readings={f"l{n}": steady() for n in range(layers)}, sample=sample, words=WORDS, history=trained(layers=layers),
        yardsticks=yardsticks,
    )  # fmt: skip
    lines = printed(panel(s, 80, height)).splitlines()
    assert len(lines) <= max(22, height - 2)
    assert max(map(cell_len, lines)) <= 80
    labels = [line[:10].strip() for line in lines]
    for label in ("loss", "gradient", "‖dL/dh_t‖", "so far", "arrives", *WORDS):
        assert labels.count(label) == 1
    assert labels.count("sample") == bool(sample)


@pytest.mark.parametrize(("label", "numbers"), [("so far", ["1", "21"]), ("arrives", ["5", "20", "30"])])
def test_the_maps_show_the_first_layer_through_training(label: str, numbers: list[str]) -> None:
    lines = printed(panel(standing(history=trained(40, 30)), 80, 40)).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(label))
    shown = [line[10:].split() for line in lines[start : start + len(numbers)]]
    assert [words[0] for words in shown] == numbers
    first, last = (["▁▂▃▄▅▆▇█".index(c) for c in words[1]] for words in (shown[0], shown[-1]))
    assert len(last) == 30
    assert last == sorted(last)
    assert last[0] < first[0]
    assert last[-1] == first[-1] == 7
    assert shown[-1][2] == {"so far": "0.11…1", "arrives": "0.0012…1"}[label]
    assert label not in printed(panel(standing(history=History()), 80))


def test_a_panel_does_not_change_when_the_history_grows() -> None:
    """Another thread draws it again and again."""
    history = trained(4, 5)
    shown = panel(standing(history=history), 80)
    before = printed(shown)
    history.norms.add(5, {"l0": {"h": np.ones(5, np.float32)}}, {})
    assert printed(shown) == before


def test_through_training_is_both_maps_with_words() -> None:
    found = printed(through_training(trained(40, 30), 80)).splitlines()
    assert [k for k, line in enumerate(found) if "a line is the updates" in line] == [1, 9]
    assert [line.split()[0] for line in found[2:8]] == ["1", "8", "14", "21", "28", "34"]
    assert max(map(cell_len, found)) <= 80
    assert printed(through_training(History(), 80)).strip() == ""


# What measures say


def recorded(cell: str, layers: int = 1, steps: int = 20, zero: bool = False) -> bptt.Record:
    layer = getattr(nn, cell)(3, 4, layers, rng=np.random.default_rng(0))
    y, _ = layer(np.random.default_rng(1).standard_normal((steps, 2, 3)).astype(np.float32))
    return bptt.backward((y * (0.0 if zero else 1.0)).sum())


def said(record: bptt.Record) -> dict[str, str]:
    return in_words(record, [diagnose(record, sequence=name) for name in record.sequences])


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_the_words_have_the_measures_numbers(cell: str) -> None:
    record = recorded(cell)
    found = said(record)
    measured = gates(record)
    for symbol, x in measured.gates.items():
        if symbol == "tanh c":
            continue  # that is no gate
        assert f"{symbol} {round(100 * x.saturated)}%" in found["gates"] or x.saturated < 0.005
    if measured.half_lives is not None:
        assert found["gates"].endswith(f"half-life {number(float(np.median(measured.half_lives)))} steps")
    (weight,) = step_terms(record, parameter=next(p for p in record.parameters if "weight_hh" in p))
    share = number(100 * float(weight.shares[-2:].sum()))
    assert found["terms"] == f"{share} % of dL/dW_hh from the last 2 steps of 20"
    d = diagnose(record)
    assert d.lane is not None
    assert found["diagnosis"].startswith(f"{d.verdict}: {number(d.lane.share)} of the last loss arrives at t=1")


def test_the_words_on_layers_name_each() -> None:
    found = said(recorded("LSTM", layers=2))
    assert found["gates"].startswith("l0: ")
    assert found["terms"].startswith("l0: ")
    assert re.fullmatch(r"l0 \w+ \(\S+ arrives\); l1 \w+ \(\S+ arrives\)", found["diagnosis"])


@pytest.mark.parametrize("steps", [1, 20])
def test_the_words_on_no_gradient(steps: int) -> None:
    found = said(recorded("GRU", steps=steps, zero=True))
    assert found["terms"].startswith("nothing to share")
    assert found["diagnosis"] == "dead"


def test_one_step_is_too_short() -> None:
    assert said(recorded("RNN", steps=1))["diagnosis"].startswith("too short")


def test_a_cell_of_ones_own_has_no_gates_to_speak_of() -> None:
    _, state = nn.unroll(Linear([[0.5]]), np.ones((4, 1, 1)))
    record = bptt.backward(state.h.sum())
    found = said(record)
    assert list(found) == ["diagnosis"]
    x = Tensor(np.ones(2), requires_grad=True)
    assert in_words(bptt.backward(x.sum()), []) == {}


def test_nothing_in_a_sample_or_a_title_reaches_the_terminal_as_it_is() -> None:
    s = standing(sample="[bold]x[/] \x1b[31m\x07\u202e\r\t", title="a\x1b[2J[red]b")
    text = printed(panel(s, 80))
    assert "[bold]x[/]" in text
    assert "[red]b" in text
    assert all(c == "\n" or c.isprintable() for c in text)


def test_without_a_sample_there_is_no_row_for_it() -> None:
    assert "sample" not in printed(panel(standing(sample=""), 80))


# The strip


def tiles(readings: list[Reading], width: int = 80) -> str:
    text = printed(strips(standing(readings={"l0": readings}), width)).rstrip("\n")
    return text.split("t=1 ")[1].split(" t=")[0]


def test_a_steady_gradient_looks_steady() -> None:
    nearly = [Reading(0.5 + 0.1 * (k % 2), "value") for k in range(20)]
    assert set(tiles(nearly)) <= {"█", "▇"}
    assert tiles(steady()) == "█" * 20


def test_a_dying_gradient_falls_towards_the_first_step() -> None:
    found = tiles([Reading(10.0 ** (k - 20), "value") for k in range(20)])
    heights = ["▁▂▃▄▅▆▇█".index(c) for c in found]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0, 7)
    assert all(b - a <= 1 for a, b in itertools.pairwise(heights))


def test_the_ends_of_the_scale_are_told() -> None:
    readings = [Reading(1e-6, "value"), Reading(0.25, "value")]
    text = printed(strips(standing(readings={"l0": readings}), 80))
    assert "t=2" in text
    assert "1e-6…0.25" in text


def test_many_steps_share_a_tile_that_shows_their_largest() -> None:
    readings = steady(400, 1e-9)
    readings[200] = Reading(1.0, "value")
    found = tiles(readings)
    assert len(found) <= 70
    assert found.count("█") == 1
    assert set(found) == {"▁", "█"}


@pytest.mark.parametrize(
    ("kind", "norm", "mark"),
    [("zero", 0.0, "0"), ("underflow", 1e-40, "▁"), ("not finite", math.nan, "!"), ("no path", 0.0, " ")],
)
def test_what_is_no_number_has_a_mark(kind: str, norm: float, mark: str) -> None:
    bad = Reading(norm, kind)  # type: ignore[arg-type]
    assert tiles([*steady(3), bad, *steady(3)]) == f"███{mark}███"


def test_in_ascii_the_strip_keeps_its_heights() -> None:
    readings = [Reading(10.0**k, "value") for k in range(-7, 1)]
    for shown in (strips(standing(readings={"l0": readings}), 80), panel(standing(readings={"l0": readings}), 80)):
        raw = io.BytesIO()
        with io.TextIOWrapper(raw, encoding="ascii") as file:
            Console(width=80, file=file).print(shown)
            file.flush()
            assert "t=1 .:-=+*%# t=8  1e-7~1" in raw.getvalue().decode("ascii")


@pytest.mark.parametrize("kind", ["zero", "not finite"])
def test_without_any_number_the_kind_is_said(kind: str) -> None:
    bad = Reading(math.nan if kind == "not finite" else 0.0, kind)  # type: ignore[arg-type]
    assert printed(strips(standing(readings={"l0": [bad] * 5}), 80)).strip() == kind


def test_several_layers_are_named() -> None:
    text = printed(strips(standing(readings={"l0": steady(), "l1": steady()}), 80))
    assert [row.split()[0] for row in text.splitlines()] == ["l0", "l1"]


def test_without_a_record_there_is_no_strip() -> None:
    assert printed(strips(standing(readings={}), 80)).strip() == ""
    assert "‖dL/dh_t‖" not in printed(panel(standing(readings={}), 80))
