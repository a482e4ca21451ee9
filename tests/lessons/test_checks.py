"""Answers that a lesson's check once judged wrongly."""

from __future__ import annotations

from pathlib import Path

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
