"""How a run stands, for a terminal and for a pipe: what it says, that it fits, that nothing in it can do harm."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from minigrad.bptt.record import Reading
from minigrad.views.training import Standing, header, line, panel, strips

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


@pytest.mark.parametrize(("kind", "mark"), [("zero", "·"), ("underflow", "·"), ("not finite", "!"), ("no path", "·")])
def test_what_is_no_number_has_a_mark(kind: str, mark: str) -> None:
    bad = Reading(math.nan if kind == "not finite" else 0.0, kind)  # type: ignore[arg-type]
    assert tiles([*steady(3), bad, *steady(3)]) == f"███{mark}███"


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
