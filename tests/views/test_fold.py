"""Which steps are shown: the picture fits the page, nothing is lost, odd steps stay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from minigrad.bptt import Record
from minigrad.bptt.record import Reading
from minigrad.views import draw
from minigrad.views.fold import bands
from tests.views.test_layout import Drawing, TwoFeeding, own, recorded

CELLS = ("RNN", "LSTM", "GRU", "own")
PAGE = (1200, 750)
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 21, 40, 200)
PLENTY = (1176.0, 628.0)


@cache
def record(cell: str, steps: int) -> Record:
    return own(TwoFeeding, steps) if cell == "own" else recorded(cell, steps, hidden=2)


def shown_and_hidden(drawing: Drawing) -> tuple[list[int], list[int]]:
    """The steps with a frame, and those that a folded box stands for, from 1."""
    shown = [int(frame.name.removeprefix("step_")) for frame in drawing.frames]
    hidden: list[int] = []
    for name, box in drawing.boxes.items():
        if box.words.get("class") == "fold":
            span = re.fullmatch(r"t = (\d+)(?:…(\d+))?", drawing.boxes[f"{name}_span"].words["label"])
            assert span is not None
            steps = range(int(span[1]), int(span[2] or span[1]) + 1)
            assert re.match(rf"… {len(steps)} steps? …$", drawing.boxes[f"{name}_count"].words["label"])
            hidden += steps
    return shown, hidden


# The page


@pytest.mark.parametrize("level", draw.LEVELS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.slow
def test_every_picture_fits_the_page_and_counts_each_step_once(cell: str, level: str, steps: int) -> None:
    picture = draw.unrolled(record(cell, steps), level)
    assert picture.size[0] <= PAGE[0]
    assert picture.size[1] <= PAGE[1]
    if level != "strip":
        shown, hidden = shown_and_hidden(Drawing(picture.source))
        assert sorted(shown + hidden) == list(range(1, steps + 1))
        assert shown[0] == 1
        assert shown[-1] == steps


@pytest.mark.parametrize("level", draw.LEVELS)
@pytest.mark.parametrize("cell", CELLS)
def test_no_letter_is_smaller_than_ten_points(cell: str, level: str) -> None:
    source = draw.unrolled(record(cell, 40), level).source
    sizes = {float(size) for size in re.findall(r'fontsize="?([\d.]+)', source)}
    assert min(sizes) == 10


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_everything_draws_every_step_in_one_row(level: str) -> None:
    drawing = Drawing(draw.unrolled(record("LSTM", 23), level, everything=True).source)
    assert shown_and_hidden(drawing) == (list(range(1, 24)), [])
    assert len({frame.bottom for frame in drawing.frames}) == 1


def test_rows_of_steps_stand_one_below_the_other_with_one_pitch() -> None:
    drawing = Drawing(draw.unrolled(record("RNN", 20), "cell").source)
    heights = sorted({frame.top for frame in drawing.frames}, reverse=True)
    rows = [[frame for frame in drawing.frames if frame.top == height] for height in heights]
    assert [len(row) for row in rows] == [7, 7, 6]
    for row in rows[1:]:
        assert [f.left for f in row] == pytest.approx([f.left for f in rows[0][: len(row)]], abs=0.02)


def test_a_row_says_where_it_goes_on() -> None:
    drawing = Drawing(draw.unrolled(record("LSTM", 14), "cell").source)
    words = [box.words["label"] for name, box in drawing.boxes.items() if re.match("(to|from)", name)]
    assert sorted(words) == ["t=7", "t=7", "t=8", "t=8"]


# The choice of steps


def values(count: int) -> list[list[Reading]]:
    return [[Reading(0.5, "value")] for _ in range(count)]


def columns(norms: list[list[Reading]], room: tuple[float, float] = (1176.0, 300.0)) -> list[int]:
    rows = bands(norms, 118, 200, 84, False, room)
    return [c for row in rows for c in row if isinstance(c, int) and 0 <= c < len(norms)]


def cover(rows: list[list[int | range]]) -> Iterator[int]:
    assert rows[0][0] == -1
    last = rows[-1][-1]
    assert isinstance(last, int)
    for row in rows:
        for column in row:
            yield from column if isinstance(column, range) else [column] if 0 <= column < last else []


@pytest.mark.parametrize("width", [60, 118, 340, 800, 2000])
@pytest.mark.parametrize("height", [90, 300, 900])
def test_shown_and_hidden_steps_are_all_steps_in_order(width: int, height: int) -> None:
    for count in (*range(1, 30), 50, 200):
        rows = bands(values(count), width, height, 50, False, PLENTY)
        assert list(cover(rows)) == list(range(count))
        kept = [c for row in rows for c in row if isinstance(c, int) and 0 <= c < count]
        assert kept[0] == 0
        assert kept[-1] == count - 1


def test_more_steps_are_kept_where_the_gradient_comes_from() -> None:
    room = (1176.0, 300.0)
    for right, reverse, kept in ((0, False, (3, 5)), (84, True, (4, 3)), (84, False, (3, 4))):
        (row,) = bands(values(100), 118, 200, 84, False, room, right, reverse)
        shown = [c for c in row if isinstance(c, int) and 0 <= c < 100]
        assert (sum(c < 50 for c in shown), sum(c >= 50 for c in shown)) == kept


def test_seen_from_a_loss_at_the_first_step_the_first_odd_one_is_kept() -> None:
    norms = values(100)
    for t in range(39, 100):
        norms[t] = [Reading(1e-40, "underflow") if t < 70 else Reading(0.0, "zero")]
    (row,) = bands(norms, 118, 200, 84, False, (1176.0, 300.0), 84, True)
    assert {0, 39, 70, 99} <= {c for c in row if isinstance(c, int)}


def test_padding_is_folded_first_and_any_real_step_may_stay() -> None:
    norms = values(6) + [[Reading(0.0, "padding")]] * 94
    (row,) = bands(norms, 118, 200, 84, False, (1176.0, 300.0))
    assert row == [-1, 0, 1, 2, 3, 4, 5, range(6, 100), 100]
    rows = bands(norms, 700, 200, 84, False, (1176.0, 600.0), 84)
    assert rows == [[-1, 0, range(1, 5)], [5, range(6, 100), 100]]


@pytest.mark.parametrize("kind", ["not finite", "zero", "underflow", "no path"])
def test_the_first_step_of_another_kind_is_kept(kind: str) -> None:
    """Seen from the loss: from step 60 back to the first one there is no plain number."""
    norms = values(100)
    for t in range(61):
        norms[t] = [Reading(0.0, kind)]  # type: ignore[arg-type]
    assert 60 in columns(norms)


def test_both_the_first_underflow_and_the_first_zero_are_kept() -> None:
    norms = values(100)
    for t in range(61):
        norms[t] = [Reading(1e-40, "underflow") if t > 30 else Reading(0.0, "zero")]
    assert {0, 30, 60, 99} <= set(columns(norms))


def test_a_single_step_that_is_not_finite_is_kept() -> None:
    norms = values(100)
    norms[47] = [Reading(float("nan"), "not finite")]
    assert 47 in columns(norms)


def test_a_spike_is_kept_and_a_small_one_is_not() -> None:
    norms = values(100)
    norms[47] = [Reading(4.0, "value")]
    assert 47 not in columns(norms)
    norms[47] = [Reading(6.0, "value")]
    assert 47 in columns(norms)


def test_an_odd_step_of_any_lane_is_kept() -> None:
    norms = [[Reading(0.5, "value"), Reading(0.5, "value")] for _ in range(100)]
    norms[20] = [Reading(0.5, "value"), Reading(0.0, "zero")]
    assert 20 in columns(norms)


def test_a_gradient_that_dies_far_from_the_loss_shows_where() -> None:
    made = recorded("RNN", 60, hidden=2)
    sequence = made.sequence()
    gradients = sequence.gradients["h"].copy()
    gradients[:25] = 0
    dead = dataclasses.replace(sequence, gradients={"h": gradients})
    drawing = Drawing(draw.unrolled(dataclasses.replace(made, sequences={"l0": dead}), "cell").source)
    shown, hidden = shown_and_hidden(drawing)
    assert {1, 25, 60} <= set(shown)
    assert sorted(shown + hidden) == list(range(1, 61))


@pytest.mark.parametrize("wanted", [(50,), (50, 20), (20, 50, 70, 33)])
def test_wanted_steps_are_kept_as_far_as_there_is_room(wanted: tuple[int, ...]) -> None:
    rows = bands(values(100), 118, 200, 84, False, (1176.0, 300.0), wanted=wanted, beside=60.0)
    kept = [t for row in rows for t in row if isinstance(t, int)]
    assert wanted[0] in kept
    assert {0, 99} <= set(kept)
    folds = sum(isinstance(t, range) for row in rows for t in row)
    beside = 60.0 * len({*kept} & {*wanted})
    assert 84 + 118 * len([t for t in kept if 0 <= t < 100]) + 102 * folds + beside <= 1176
    (narrow,) = bands(values(100), 300, 200, 84, False, (1176.0, 300.0), wanted=wanted, beside=60.0)
    assert wanted[0] in narrow  # though no odd step would be


# The folded box


def test_a_folded_box_names_the_least_and_the_largest_norm_of_its_steps() -> None:
    made = record("LSTM", 60)
    drawing = Drawing(draw.unrolled(made, "cell").source)
    (fold,) = [name for name, box in drawing.boxes.items() if box.words.get("class") == "fold"]
    _, hidden = shown_and_hidden(drawing)
    for state in ("h", "c"):
        words = drawing.boxes[f"{fold}_{state}_words0"].words["label"]
        low, high = (float(x) for x in re.findall(r"\d[\d.e-]*", words))
        norms = [np.linalg.norm(made.sequence().gradients[state][t - 1].astype(np.float64)) for t in hidden]
        assert low == pytest.approx(min(norms), rel=0.1)
        assert high == pytest.approx(max(norms), rel=0.1)
        tiles = [box for name, box in drawing.boxes.items() if re.fullmatch(rf"{fold}_{state}_\d+", name)]
        assert len(tiles) == 22
        assert max(tile.right for tile in tiles) <= drawing.boxes[fold].right
