"""Watch mode on a real terminal: saves and keys, and the terminal given back whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigrad.course.workbook import MARK, Workbook
from tests.course.made import Terminal, environment, solve

COURSE = ["-W", "error", "-m", "minigrad", "course"]
AWAY = "\x1b[?1049l"


@pytest.fixture
def terminal(book: Workbook, course: Path) -> Terminal:
    return Terminal(COURSE, cwd=book.folder, env=environment(course))


def restored(terminal: Terminal) -> bool:
    """The first screen is back, the cursor shows, and what is typed is treated as before."""
    text = terminal.written.decode(errors="replace")
    left = text.count("\x1b[?1049h") == text.count(AWAY) > 0
    return left and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l") and terminal.modes() == terminal.before


def test_a_whole_course_with_its_keys(terminal: Terminal, book: Workbook) -> None:
    with terminal as shown:
        shown.see("the number 1")
        shown.press("h")
        shown.see("hint 1 of 2")
        solve(book.folder, 1, 5)
        assert "expected  1" in shown.see("✗ the answer")
        shown.press("n")
        shown.see("Not yet")
        solve(book.folder, 1)
        shown.see("✓ Solved.")
        shown.press("s")
        shown.see("letter by letter")
        shown.press("q")
        shown.see("✓ Solved.")
        shown.press("n")
        shown.see("the number 2")
        shown.press("l")
        shown.see("▶ 02")
        shown.press("\x1b[B\r")
        shown.see("the number 3")
        shown.press("x")
        shown.see("y reset it")
        shown.press("y")
        shown.see("It is as it came")
        shown.press("q")
        assert shown.end() == 0
        assert restored(shown)
        assert book.current().number == 3
        assert list(book.progress().solved) == ["01_n1"]


@pytest.mark.slow
def test_a_lesson_is_told_and_one_comes_back(terminal: Terminal) -> None:
    with terminal as shown:
        shown.see("the number 1")
        shown.press("t")
        shown.see("What is 1?")
        shown.see("Ctrl-C: leave")
        shown.press("\n")
        shown.see("Enter: back")
        shown.press("\n")
        shown.see_no_more("Enter: back")  # what the lesson wrote holds "the number 1" too
        shown.see("the number 1")
        shown.press("t")
        shown.see("Ctrl-C: leave")
        shown.interrupt(lambda: "Enter: back" in shown.screen())  # ends the lesson alone
        shown.see("Enter: back")
        shown.press("\n")
        shown.see_no_more("Enter: back")  # what the lesson wrote holds "the number 1" too
        shown.see("the number 1")
        shown.press("q")
        assert shown.end() == 0
        assert restored(shown)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), ("\x04", 0)])
def test_the_terminal_is_given_back(terminal: Terminal, how: str | signal.Signals, status: int) -> None:
    with terminal as shown:
        shown.see("the number 1")
        if isinstance(how, str):
            shown.press(how)
        else:
            os.kill(shown.process.pid, how)
        assert shown.end() == status
        assert restored(shown)
        assert "Traceback" not in shown.written.decode()


@pytest.mark.slow
def test_the_terminal_is_given_back_after_an_error(terminal: Terminal, book: Workbook) -> None:
    with terminal as shown:
        shown.see("the number 1")
        (book.folder / MARK).write_text("{")
        shown.press("h")
        assert shown.end() == 2
        assert restored(shown)
        assert "is damaged" in shown.written.decode()
        assert (book.folder / MARK).read_text() == "{"


@pytest.mark.slow
def test_a_pause_gives_the_terminal_back_and_takes_it_again(terminal: Terminal) -> None:
    with terminal as shown:
        shown.see("the number 1")
        os.kill(shown.process.pid, signal.SIGTSTP)
        end = time.monotonic() + 30
        while AWAY not in shown.written.decode():
            assert time.monotonic() < end, shown.screen()
            shown._read()
        time.sleep(0.5)
        os.kill(shown.process.pid, signal.SIGCONT)
        shown.see("the number 1")
        shown.press("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_a_changed_window_is_drawn_anew(terminal: Terminal) -> None:
    with terminal as shown:
        shown.see("edit 01_n1/exercise.py")
        shown.resize(40, 10)
        end = time.monotonic() + 30
        while "edit" in shown.screen() or "q quit" not in shown.screen():
            assert time.monotonic() < end, shown.screen()
            shown._read()
        assert all(len(line) <= 40 for line in shown.screen().splitlines())
        shown.press("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_nothing_is_drawn_while_nothing_changes(terminal: Terminal) -> None:
    with terminal as shown:
        shown.see("the number 1")
        time.sleep(1)
        shown._read()
        before = len(shown.written)
        for _ in range(10):
            shown._read()
        assert len(shown.written) == before
        shown.press("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_a_save_stops_a_check_that_does_not_end(terminal: Terminal, book: Workbook) -> None:
    with terminal as shown:
        shown.see("the number 1")
        book.exercise(book.course[0]).write_text("while True: pass\n")
        shown.see("… checking")
        solve(book.folder, 1)
        shown.see("✓ Solved.", 15)  # well before the time limit of a check
        shown.press("q")
        assert shown.end() == 0


@pytest.mark.slow
def test_no_colour_where_none_is_wanted(book: Workbook, course: Path) -> None:
    with Terminal(COURSE, cwd=book.folder, env=environment(course, NO_COLOR="1")) as shown:
        shown.see("the number 1")
        shown.press("q")
        assert shown.end() == 0
        assert "\x1b[31m" not in shown.written.decode()
        assert "\x1b[1;31m" not in shown.written.decode()


@pytest.mark.slow
def test_a_copy_is_offered_where_there_is_none(course: Path, tmp_path: Path) -> None:
    for answer, exists in (("n\n", False), ("\n", True)):
        with Terminal(COURSE, cwd=tmp_path, env=environment(course)) as shown:
            shown.see("[Y/n]")
            shown.press(answer)
            if exists:
                shown.see("the number 1")
                shown.press("q")
            assert shown.end() == 0
        assert (tmp_path / "minigrad-course" / MARK).exists() == exists


@pytest.mark.slow
def test_a_terminal_that_can_do_nothing_gets_lines(book: Workbook, course: Path) -> None:
    with Terminal(COURSE, cwd=book.folder, env=environment(course, TERM="dumb")) as shown:
        shown.see("the number 1")
        shown.press("h\n")
        shown.see("hint 1 of 2")
        shown.press("q\n")
        assert shown.end() == 0
        assert "\x1b[?1049h" not in shown.written.decode()


def piped(book: Workbook, course: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COURSE], cwd=book.folder, env=environment(course, COLUMNS="80"), input=text,
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def test_lines_take_the_place_of_keys_in_a_pipe(book: Workbook, course: Path) -> None:
    solve(book.folder, 1)
    done = piped(book, course, "n\nhint\nl\n3\n\nq\n")
    assert (done.returncode, done.stderr) == (0, "")
    pages = done.stdout.split("-" * 80)
    for page, part in zip(
        pages, ("✓ Solved.", "the number 2", "hint 1 of 2", "▶ 02", "· 03", "the number 3"), strict=False
    ):
        assert part in page
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert book.current().number == 3


@pytest.mark.slow
def test_the_end_of_the_lines_is_the_end(book: Workbook, course: Path) -> None:
    done = piped(book, course, "")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the number 1" in done.stdout


@pytest.mark.slow
def test_a_save_is_seen_while_lines_are_waited_for(book: Workbook, course: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, *COURSE], cwd=book.folder, env=environment(course), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    with started:
        assert started.stdout is not None
        assert started.stdin is not None
        while "the number 1" not in started.stdout.readline():
            pass
        solve(book.folder, 1)
        while "Solved." not in started.stdout.readline():
            pass
        started.stdin.write("q\n")
        started.stdin.flush()
        assert "--" in started.stdout.read()  # stdin is open still: a reader that waits there must not hold Python up
        assert started.wait(60) == 0
