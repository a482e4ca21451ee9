"""Answers that a lesson's check once judged wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigrad.course.manifest import lesson_in
from minigrad.course.practise import examine
from tests.lessons.test_lessons import ROOT


def problem(slug: str, here: Path, old: str, new: str) -> str:
    """What is said of the solution with one place written otherwise; empty: it passes."""
    folder = ROOT / "lessons" / slug
    text = (folder / "solution.py").read_text("utf-8")
    assert text.count(old) == 1
    file = here / "exercise.py"
    file.write_text(text.replace(old, new), "utf-8")
    return examine(lesson_in(folder), file).problem


def test_tell_may_write_its_step_out(tmp_path: Path) -> None:
    own = "h = np.tanh(x @ w_ih.T + h @ w_hh.T + b)\n        y = h @ w_out.T"
    assert problem("03_rnn_cell", tmp_path, "h = step(x, h, w_ih, w_hh, b)\n        y = h @ w_out.T", own) == ""


def test_a_lane_has_as_many_states_as_steps(tmp_path: Path) -> None:
    said = problem("09_lstm_forget_gate", tmp_path, "    return states\n", "    return [*states, c_0]\n")
    assert "lane gives one state for each step" in said


@pytest.mark.parametrize(("new", "said"), [
    ("return gradients[:2]", "clip_by_norm gives a list of as many arrays as it gets: 3"),
    ("gradients[0] *= 2; return gradients", "clip_by_norm leaves the arrays that it gets as they are"),
])  # fmt: skip
def test_a_gradient_that_is_left_out_or_changed_is_told_as_that(tmp_path: Path, new: str, said: str) -> None:
    old = "def clip_by_norm("
    added = f"def clip_by_norm(gradients, threshold):\n    {new}\n\n\ndef other("
    assert problem("07_gradient_clipping", tmp_path, old, added) == said


def test_what_may_come_is_a_set(tmp_path: Path) -> None:
    old, new = "    return following\n", "    return [sorted(x) for x in following]\n"
    assert problem("20_capstone_reber", tmp_path, old, new) == "inner_next gives a list of sets"
