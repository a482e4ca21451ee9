"""The clipping picture: what is after is what was before, times one coefficient."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, clip_grad_norm, clip_grad_value, nn
from minigrad.bptt import Record
from minigrad.clip import Clipping
from minigrad.errors import DrawError, RecordError
from minigrad.views import draw
from minigrad.views.clipped import _clipping_story
from minigrad.views.palette import number
from tests.views.test_layout import Drawing, apart, helvetica, inside


def clipped(kind: str, threshold: float, cell: str = "RNN", steps: int = 5) -> tuple[Record, Clipping]:
    rng = np.random.default_rng(3)
    layer = getattr(nn, cell)(3, 4, rng=rng, dtype=np.float64)
    output = nn.Linear(4, 2, rng=rng, dtype=np.float64)
    x = mg.Tensor(rng.standard_normal((steps, 2, 3)), requires_grad=True)
    y, _ = layer(x)
    record = bptt.backward(nn.mse_loss(output(y[-1]), np.full((2, 2), 2.0)))
    clip = clip_grad_norm if kind == "norm" else clip_grad_value
    return record, clip([*layer.parameters(), *output.parameters()], threshold)


def pictured(record: Record, clipping: Clipping, **options: Any) -> Drawing:
    return Drawing(draw.clipping(record, clipping, **options).source)


def gradient_of(drawing: Drawing, name: str) -> str:
    return drawing.boxes[name].words["label"].rpartition("\\ng ")[2]


def terms(record: Record, weight: str = "weight_hh_l0") -> dict[int, float]:
    (name,) = [name for name in record.parameters if name.endswith(weight)]
    return {u.time: float(np.linalg.norm(u.array())) for u in record.parameters[name].terms if u.time is not None}


# By norm


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_every_box_after_is_the_box_before_times_the_coefficient(cell: str) -> None:
    record, clipping = clipped("norm", 0.05, cell)
    drawing = pictured(record, clipping)
    assert clipping.fired
    for t, size in terms(record).items():
        assert gradient_of(drawing, f"before_{t + 1}") == number(size)
        assert gradient_of(drawing, f"after_{t + 1}") == number(size * clipping.coefficient)


def test_the_sums_are_those_of_the_clipping() -> None:
    record, clipping = clipped("norm", 0.05)
    drawing = pictured(record, clipping)
    (name,) = [name for name in clipping.before if "weight_hh" in name]
    assert gradient_of(drawing, "before_sum") == number(clipping.before[name])
    assert gradient_of(drawing, "after_sum") == number(clipping.after[name])
    assert clipping.after[name] == pytest.approx(clipping.before[name] * clipping.coefficient)


def test_the_caption_holds_threshold_norms_coefficient_and_angle() -> None:
    _, clipping = made = clipped("norm", 0.05)
    words = pictured(*made).boxes["caption"].words["label"]
    assert "clipping by norm, threshold C = 0.05" in words
    assert f"‖g‖ {number(clipping.norm_before)} → {number(clipping.norm_after)}" in words
    assert f"coefficient {number(clipping.coefficient)}" in words
    assert "angle 0°" in words


def test_the_ratio_of_first_to_last_term_stays() -> None:
    record, clipping = clipped("norm", 0.05)
    used = {t: size for t, size in terms(record).items() if size > 0}
    first, last = min(used), max(used)
    assert (first, last) == (1, 4)  # the very first step multiplies a state of zeros
    story = pictured(record, clipping).boxes["story"].words["label"]
    assert f"Term at t=2 : term at t=5 = {number(used[first] / used[last])} before and after" in story


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("growth", "said"),
    [
        (0.2, "before and after: clipping does not cure vanishing."),
        (1.0, "before and after: one factor for all steps, so each keeps its share."),
        (4.0, "before and after: clipping makes the sum small enough; t={} outweighs t={} as much as it did."),
    ],
)
def test_the_story_says_what_clipping_does_to_this_gradient(growth: float, said: str, reverse: bool) -> None:
    steps = 8
    record, clipping = growing(growth, steps, reverse=reverse)
    sequence = "l0_reverse" if reverse else "l0"
    sizes = terms(record, f"weight_hh_{sequence}")
    end, start = (steps - 2, 0) if reverse else (1, steps - 1)  # where the gradient ends: h_0 is 0
    assert sizes[end] / sizes[start] == pytest.approx(growth ** (steps - 2), rel=1e-2)
    assert clipping.fired
    story = pictured(record, clipping, sequence=sequence).boxes["story"].words["label"]
    ratio = number(sizes[end] / sizes[start])
    assert story == f"Term at t={end + 1} : term at t={start + 1} = {ratio} {said.format(end + 1, start + 1)}\\l"


def growing(factor: float, steps: int, *, reverse: bool) -> tuple[Record, Clipping]:
    """A gradient that grows by this factor with every step back, while the states stay of one size."""
    layer = nn.RNN(1, 1, bidirectional=reverse, rng=np.random.default_rng(0), dtype=np.float64)
    for name, value in layer.state_dict().items():
        value[...] = factor if "weight_hh" in name else 1.0 if "weight_ih" in name else 0.0
        dict(layer.named_parameters())[name].data = value
    x = np.full((steps, 1, 1), 1e-6 * (1 - factor))
    x[-1 if reverse else 0] = 1e-6
    y, _ = layer(mg.Tensor(x))
    out = y[0, :, 1:] if reverse else y[-1]
    record = bptt.backward((out * 1e9).sum())
    clipping = clip_grad_norm(layer.parameters(), 1e-3)
    return record, clipping


def test_both_rows_stand_one_below_the_other_in_one_layout() -> None:
    drawing = pictured(*clipped("norm", 0.05))
    for t in range(1, 6):
        before, after = drawing.boxes[f"before_{t}"], drawing.boxes[f"after_{t}"]
        assert (before.left, before.right) == (after.left, after.right)
        assert before.bottom > after.top
    assert len(drawing.frames) == 10


def test_a_threshold_above_the_norm_changes_nothing_and_says_so() -> None:
    record, clipping = clipped("norm", 1e6)
    drawing = pictured(record, clipping)
    assert f"‖g‖ = {number(clipping.norm_before)} stays" in drawing.boxes["caption"].words["label"]
    for t in range(1, 6):
        assert drawing.boxes[f"before_{t}"].words["label"] == drawing.boxes[f"after_{t}"].words["label"]
        assert drawing.boxes[f"before_{t}"].words["fillcolor"] == drawing.boxes[f"after_{t}"].words["fillcolor"]


def test_the_colours_change_with_the_numbers() -> None:
    drawing = pictured(*clipped("norm", 1e-9))
    assert {drawing.boxes[f"after_{t}"].words["fillcolor"] for t in range(2, 6)}.isdisjoint(
        drawing.boxes[f"before_{t}"].words["fillcolor"] for t in range(2, 6)
    )


# By value


def test_by_value_each_parameter_shows_its_norm_and_its_angle() -> None:
    record, clipping = clipped("value", 0.02)
    drawing = pictured(record, clipping)
    assert clipping.fired
    assert max(clipping.angles.values()) > 1
    for name in clipping.after:
        name_id = re.sub(r"\W", lambda c: f"u{ord(c[0]):x}", name)
        assert gradient_of(drawing, f"sum_before_{name_id}") == number(clipping.before[name])
        assert gradient_of(drawing, f"sum_after_{name_id}") == number(clipping.after[name])
        assert f"turned by {number(clipping.angles[name])}°" in drawing.boxes[f"sum_after_{name_id}"].words["label"]
    words = drawing.boxes["caption"].words["label"]
    assert f"angle {number(clipping.angle)}°" in words
    assert "clipping by value, threshold C = 0.02" in words


def test_by_value_no_single_term_is_shown_after_it() -> None:
    drawing = pictured(*clipped("value", 0.02))
    assert [name for name in drawing.boxes if name.startswith("after_")] == []
    assert len([name for name in drawing.boxes if re.fullmatch(r"before_\d+", name)]) == 5


# The page


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 14, 15, 16, 40, 200])
@pytest.mark.parametrize("kind", ["norm", "value"])
def test_the_picture_fits_the_page_and_its_boxes_keep_apart(kind: str, steps: int) -> None:
    made = clipped(kind, 0.05, steps=steps)
    picture = draw.clipping(*made)
    drawing = Drawing(picture.source)
    assert picture.size[0] <= 1200
    assert picture.size[1] <= 750
    boxes = [b for name, b in drawing.boxes.items() if "fold" not in name]
    assert [(a.name, b.name) for k, a in enumerate(boxes) for b in boxes[:k] if not apart(a, b)] == []
    bounds = type(boxes[0])("", *drawing.bounds, {})
    assert all(inside(box, bounds) for box in boxes)
    for box in boxes:
        if box.words.get("class", "").startswith("gate"):
            assert all(helvetica(w) * 10 <= box.right - box.left for w in box.words["label"].split("\\n"))


def test_everything_shows_every_step() -> None:
    drawing = pictured(*clipped("norm", 0.05, steps=40), everything=True)
    assert {f"{row}_{t}" for row in ("before", "after") for t in range(1, 41)} <= set(drawing.boxes)


def test_labels_stand_beside_the_steps_names_and_in_the_tooltips() -> None:
    drawing = pictured(*clipped("norm", 0.05), labels=["a", "<b>", '"', "한", "\n"])
    tips = [drawing.boxes[f"before_{t}"].words["tooltip"] for t in range(1, 6)]
    for tip, label in zip(tips, ("“a”", "“<b>”", '“\\"”', "“한”", "“U+000A”"), strict=True):
        assert label in tip
    frames = re.findall(r'label="(t = .*?)" fontsize', draw.clipping(*clipped("norm", 0.05), labels=HOSTILE).source)
    assert frames == [f"t = {t}  {label}".rstrip() for _ in "ab" for t, label in enumerate(QUOTED, start=1)]


HOSTILE = ["a", "<b>", '"', "\\N", ""]
QUOTED = ["“a”", "“<b>”", '“\\"”', "“\\\\N”", ""]


def test_long_labels_are_cut_where_the_frame_ends() -> None:
    source = draw.clipping(*clipped("norm", 0.05, steps=12), labels=["wonderful"] * 12).source
    for text in re.findall(r'label="(t = .*?)" fontsize', source):
        assert text.endswith("…")
        assert helvetica(text) * 11 <= 72


# Wrong calls


def test_a_record_whose_steps_use_no_weight_is_refused() -> None:
    class Sum:
        def initial_state(self, batch: int) -> Any:
            return nn.cells.RNNState(mg.Tensor(np.zeros((batch, 3))))

        def step(self, x: mg.Tensor, state: Any) -> Any:
            return nn.cells.RNNState(state.h + x)

    x = mg.Tensor(np.ones((3, 1, 3)), requires_grad=True)
    y, _ = nn.unroll(Sum(), x)
    record = bptt.backward(nn.mse_loss(y[-1], np.zeros((1, 3))))
    with pytest.raises(DrawError, match="no parameter is used inside the time steps"):
        draw.clipping(record, clipped("norm", 1.0)[1])


def test_wrong_labels_and_sequences_are_refused() -> None:
    made = clipped("norm", 0.05)
    with pytest.raises(DrawError, match="2 labels for 5 time steps"):
        draw.clipping(*made, labels="ab")
    with pytest.raises(RecordError, match="no sequence 'l9'"):
        draw.clipping(*made, sequence="l9")


def test_a_ratio_beyond_all_numbers_is_an_explosion() -> None:
    record, clipping = growing(4.0, 8, reverse=False)
    said = _clipping_story(clipping, record.sequence(), {1: 3e168, 7: 9e-160})
    assert said.startswith("Term at t=2 : term at t=8 = inf before and after: clipping makes the sum small enough")


def test_nothing_stays_where_the_norm_is_not_finite() -> None:
    record, clipping = growing(4.0, 8, reverse=False)
    broken = dataclasses.replace(clipping, norm_before=math.nan, norm_after=math.nan, fired=False)
    caption = pictured(record, broken).boxes["caption"].words["label"]
    assert "‖g‖ = NaN" in caption
    assert "stays" not in caption
