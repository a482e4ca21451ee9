"""Watch mode without a terminal: keys, saves and outcomes in, lines and wishes out."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from minigrad.course.manifest import lessons
from minigrad.course.page import bar, cut, plain, relative, wrapped
from minigrad.course.practise import Outcome, examine
from minigrad.course.watch import Watch, Wish
from minigrad.course.workbook import Workbook, prepare
from tests.course.made import solve

SIZES = [(80, 24), (40, 10), (120, 50), (20, 5), (1, 1), (200, 3)]


def shown(watch: Watch, width: int = 80, height: int | None = 24) -> str:
    return "\n".join(line.plain for line in watch.view(width, height))


def check(watch: Watch, book: Workbook) -> None:
    watch.checked(examine(watch.lesson, book.exercise(watch.lesson)))


@pytest.fixture
def watch(book: Workbook) -> Watch:
    watch = Watch(book)
    check(watch, book)
    return watch


@pytest.fixture
def solved(book: Workbook, watch: Watch) -> Watch:
    solve(book.folder, 1)
    assert watch.saved() is Wish.CHECK
    check(watch, book)
    return watch


def test_it_begins_with_a_check(book: Workbook) -> None:
    watch = Watch(book)
    assert watch.checking
    assert "… checking" in shown(watch)
    check(watch, book)
    assert not watch.checking


def test_it_shows_what_is_wrong_where_the_file_is_and_how_far_one_has_come(watch: Watch) -> None:
    text = shown(watch)
    for part in (
        "01 · Lesson 1", "0/3 solved", "What 1 is, and why.", "edit 01_n1/exercise.py",
        "✗ line 9 of exercise.py is still a hole", "  the number 1", "h hint  l list  t tell  r run  x reset  q quit",
    ):  # fmt: skip
        assert part in text


def test_a_wrong_answer_is_shown_with_what_is_right_and_what_was_printed(watch: Watch) -> None:
    details = ("expected  1", "found     [1.\n 2.]", "it is\x1b[2J off")
    watch.checked(Outcome(False, ("it answers",), "the answer", details, ("a\tb",)))
    text = shown(watch)
    for part in (
        "✗ the answer", "  expected  1", "  found     [1.", "   2.]", "  it is\\x1b[2J off", "✓ it answers",
        "your code printed", "  a b",
    ):  # fmt: skip
        assert part in text


def test_what_was_found_before_stays_while_it_is_checked_again(watch: Watch) -> None:
    watch.saved()
    assert "… checking" in shown(watch)
    assert "the number 1" in shown(watch)


def test_hints_come_one_after_another_and_are_remembered(watch: Watch, book: Workbook) -> None:
    for count, text in ((1, "It is a number."), (2, "It is 1."), (2, "It is a number.")):  # behind the last, the first
        assert watch.press("h") is None
        assert text in shown(watch)
        assert book.hints_seen(watch.lesson) == count
    later = Watch(book)
    later.press("h")
    assert "hint 2 of 2" in shown(later)


def test_a_hint_of_several_lines_keeps_them(watch: Watch) -> None:
    watch.lesson = watch.lesson._replace(hints=("Both:\n* `a` is one and " + "long " * 14 + "\n* `b` is two",))
    watch.press("h")
    lines = [line.plain for line in watch.view(60, 24)]
    at = lines.index("Both:")
    assert lines[at + 1].startswith("* `a` is one and long")
    assert lines[at + 2].startswith("  long")
    assert "* `b` is two" in lines


def test_a_wrong_array_is_seen_below_what_it_should_be(watch: Watch, book: Workbook) -> None:
    (watch.lesson.folder / "check.py").write_text("""
import numpy as np


def check(work, judge):
    right = np.random.default_rng(0).standard_normal((40, 30))
    wrong = right.copy()
    wrong[20, 10] += 1
    judge.equal("the gradient of w_hh", wrong, right)
""")
    solve(book.folder, 1)
    check(watch, book)
    lines = [line.plain for line in watch.view(80, 24)]
    assert all(len(line) <= 80 for line in lines)
    expected, found = (k for k, line in enumerate(lines) if line[2:12].strip() in ("expected", "found"))
    for k in (1, 2, 3):  # number below number
        ends = [[m.end() for m in re.finditer(r"[^ \]]+", lines[at + k])] for at in (expected, found)]
        assert ends[0] == ends[1]
    right = np.random.default_rng(0).standard_normal((40, 30))[20, 10]
    rows = [line for line in lines if f" {right:.6g} " in line or f" {right + 1:.6g} " in line]
    assert len(rows) == 2
    assert any(line.startswith("  1 of 1200 numbers differ, first at [20, 10]") for line in lines)


def test_a_folder_whose_name_moves_the_cursor_is_shown_as_text(course: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "a\x1b[2J")
    watch = Watch(Workbook(tmp_path / "a\x1b[2J"))
    for key in ("", "x"):
        watch.press(key)
        text = shown(watch, 1000)
        assert "\x1b" not in text
        assert "a\\x1b[2J" in text


def test_a_hint_goes_on_where_one_has_been_seen_before(watch: Watch, book: Workbook) -> None:
    book.hint(watch.lesson, 1)
    watch.press("h")
    assert "hint 2 of 2" in shown(watch)


def test_the_next_exercise_waits_for_the_solution(watch: Watch) -> None:
    assert watch.press("n") is None
    assert watch.lesson.number == 1
    assert "Not yet" in shown(watch)
    watch.press("j")
    assert "Not yet" not in shown(watch)


def test_the_solution_waits_for_ones_own(watch: Watch) -> None:
    watch.press("s")
    assert "once the exercise is solved" in shown(watch)
    assert "return 1" not in shown(watch)


def test_solving_congratulates_and_waits_for_n(solved: Watch, book: Workbook) -> None:
    text = shown(solved)
    assert "✓ Solved." in text
    assert "n: the next exercise" in text
    assert "1/3 solved" in text
    assert "n next" in text
    assert "s solution" in text
    assert (solved.lesson.number, book.current().number) == (1, 1)
    assert solved.press("n") is Wish.CHECK
    assert (solved.lesson.number, book.current().number) == (2, 2)
    assert "Solved" not in shown(solved)


def test_what_has_been_solved_stays_so_when_it_is_broken_later(solved: Watch, book: Workbook) -> None:
    solve(book.folder, 1, 5)
    solved.saved()
    check(solved, book)
    assert "✗ the answer" in shown(solved)
    assert "1/3 solved" in shown(solved)
    assert solved.press("n") is Wish.CHECK


def test_the_solution_is_shown_beside_ones_own(solved: Watch, book: Workbook) -> None:
    file = book.exercise(solved.lesson)
    file.write_text(file.read_text().replace("return 1", "return 2 - 1"))
    solved.press("s")
    text = shown(solved)
    assert "-    return 2 - 1" in text
    assert "+    return 1" in text
    assert "✓" not in text
    assert solved.press("q") is None
    assert "✓ Solved" in shown(solved)


def test_the_same_text_has_no_difference(solved: Watch) -> None:
    solved.press("s")
    assert "letter by letter" in shown(solved)


def test_a_solution_without_an_exercise_is_all_new(solved: Watch, book: Workbook) -> None:
    book.exercise(solved.lesson).unlink()
    solved.press("s")
    assert "+    return 1" in shown(solved)


@pytest.mark.parametrize("keys", [["j"], ["down"], ["k", "down"], ["end", "k"], ["2"], ["3", "2"], ["home", "j"]])
def test_the_list_goes_to_any_lesson(watch: Watch, keys: list[str]) -> None:
    watch.press("l")
    text = shown(watch)
    assert all(f"0{k}  Lesson {k}" in text for k in (1, 2, 3))
    assert "▶ 01" in text
    for key in keys:
        assert watch.press(key) is None
    assert watch.press("enter") is Wish.CHECK
    assert watch.lesson.number == 2


@pytest.mark.parametrize("key", ["q", "l", "escape"])
def test_the_list_is_left_without_a_change(watch: Watch, key: str) -> None:
    for pressed in ("l", "j", key):
        assert watch.press(pressed) is None
    assert watch.lesson.number == 1
    assert "the number 1" in shown(watch)


def test_the_list_shows_what_is_solved(solved: Watch) -> None:
    solved.press("l")
    assert "✓ 01" in shown(solved)
    assert "· 02" in shown(solved)


def test_reset_asks_first(watch: Watch, book: Workbook) -> None:
    solve(book.folder, 1, 5)
    watch.press("x")
    assert "Reset 01_n1/exercise.py?" in shown(watch)
    assert watch.press("n") is None
    assert "Nothing was reset" in shown(watch)
    assert "return 5" in book.exercise(watch.lesson).read_text()


def test_reset_keeps_the_text_and_checks_again(solved: Watch, book: Workbook) -> None:
    solved.press("x")
    assert solved.press("y") is Wish.CHECK
    assert "Your text is in exercise.py.bak" in shown(solved)
    assert "0/3 solved" in shown(solved)
    check(solved, book)
    assert "the number 1" in shown(solved)
    solved.press("x")
    solved.press("y")
    assert "as it came" in shown(solved)


def test_the_last_solution_leads_to_the_end(solved: Watch, book: Workbook) -> None:
    for number in (2, 3):
        assert solved.press("n") is Wish.CHECK
        solve(book.folder, number)
        check(solved, book)
    assert "n: the end" in shown(solved)
    assert solved.press("n") is None
    assert "You have solved all 3 exercises." in shown(solved)
    assert solved.press("l") is None
    assert solved.press("enter") is Wish.CHECK


def test_after_the_last_come_those_that_were_left_out(watch: Watch, book: Workbook) -> None:
    watch.press("l")
    watch.press("G")
    watch.press("enter")
    solve(book.folder, 3)
    check(watch, book)
    watch.press("n")
    assert watch.lesson.number == 1


def test_wishes(watch: Watch) -> None:
    assert watch.press("t") is Wish.TELL
    assert watch.press("r") is Wish.CHECK
    assert watch.press("q") is Wish.QUIT
    assert watch.press("closed") is Wish.QUIT
    assert all(watch.press(key) is None for key in ("z", "7", "escape", "enter", "é", "N"))


def test_a_lesson_without_hints_says_so(book: Workbook, watch: Watch) -> None:
    watch.lesson = watch.lesson._replace(hints=())
    watch.press("h")
    assert "no hints" in shown(watch)


# The screen


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("keys", ["", "h", "l", "x", "s", "n", "hjjj"])
@pytest.mark.parametrize("large", [False, True])
def test_every_page_fits_every_window(solved: Watch, width: int, height: int, keys: str, large: bool) -> None:
    if large:
        printed = ("p" * 500,) * 30
        solved.checked(Outcome(False, ("a right one " * 9,) * 20, "wrong " * 30, ("漢字 " * 40,) * 20, printed))
    for key in keys:
        solved.press(key)
    lines = solved.view(width, height)
    assert len(lines) == height
    assert all(line.cell_len <= max(width, 8) for line in lines)


def test_in_a_small_window_the_problem_comes_first(watch: Watch) -> None:
    for width, height in ((40, 10), (30, 4), (60, 3)):
        assert "is still a hole" in " ".join(shown(watch, width, height).split())


def test_what_does_not_fit_is_reached_by_moving(watch: Watch) -> None:
    watch.checked(Outcome(False, (), "problem", tuple(f"line {k}" for k in range(50))))
    assert "more lines" in shown(watch)
    seen = set[str]()
    for _ in range(60):
        seen |= set(shown(watch).split("\n"))
        watch.press("j")
    assert {f"  line {k}" for k in range(50)} <= seen
    assert "▲ the end" in shown(watch)
    watch.press("home")
    assert "✗ problem" in shown(watch)
    watch.press("page down")
    assert "✗ problem" not in shown(watch)
    watch.press("page up")
    assert "✗ problem" in shown(watch)


def test_the_cursor_of_a_long_list_stays_in_sight(watch: Watch) -> None:
    watch.press("l")
    for _ in range(3):
        assert any("reverse" in str(span.style) for line in watch.view(40, 4) for span in line.spans) or any(
            "reverse" in str(line.style) for line in watch.view(40, 4)
        )
        watch.press("j")


def test_without_a_height_everything_is_shown(watch: Watch) -> None:
    watch.checked(Outcome(False, (), "problem", tuple(f"line {k}" for k in range(500))))
    assert "line 499" in shown(watch, 80, None)


def test_every_mark_has_an_ascii_letter(solved: Watch) -> None:
    for key in ("", "l", "q", "x"):
        if key:
            solved.press(key)
        lines = plain(solved.view(60, 8), ascii_only=True)
        assert "".join(line.plain for line in lines).isascii()


def test_the_bar_is_full_when_all_is_solved_and_empty_at_the_start() -> None:
    for count, width in itertools.product((1, 22), (12, 40, 80)):
        empty, full = bar(0, count, width).plain, bar(count, count, width).plain
        assert "█" not in empty
        assert "░" not in full
        assert f"{count}/{count} solved" in full
    assert bar(0, 0, 40).plain.endswith("0/0 solved")


def test_lines_are_wrapped_cut_and_set_in(book: Workbook) -> None:
    title = wrapped(cut(bar(1, 2, 3), 5), 80)[0]
    assert title.plain == "1/2 …"
    assert relative(book.folder / "a") == "a"
    assert relative(book.folder.parent) == str(book.folder.parent)
    assert len(lessons()) == 3
