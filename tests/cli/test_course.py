"""minigrad course, lesson, check, hint, progress: without a terminal, from any folder, every mistake in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.__main__ import main
from minigrad.course.manifest import LESSONS
from minigrad.course.workbook import DEFAULT, MARK, Workbook, prepare
from tests.course.made import environment, made, solve


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LESSONS, str(made(tmp_path / "lessons")))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def book(here: Path) -> Workbook:
    prepare(DEFAULT)
    found = Workbook.found()
    assert found is not None
    return found


def said(capfd: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    capfd.readouterr()
    assert main(argv) == status
    out, err = capfd.readouterr()
    assert err == ""
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    return out


def failed(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    capfd.readouterr()
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("minigrad: ")
    assert err.count("\n") == 1
    return err


# init


def test_init_names_what_it_did_and_how_to_go_on(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "course", "init") == (
        "minigrad-course: 9 files written.\nGo on: cd minigrad-course, then minigrad course\n"
    )
    assert (here / DEFAULT / MARK).is_file()
    solve(here / DEFAULT, 1, 5)
    (here / DEFAULT / "02_n2" / "README.md").write_text("old")
    out = said(capfd, "course", "init")
    assert "0 files written, 9 kept as they were" in out
    assert "02_n2/README.md" in out
    assert "return 5" in (here / DEFAULT / "01_n1" / "exercise.py").read_text()


def test_init_takes_a_folder_of_any_name(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said(capfd, "course", "init", "a folder/below")
    assert (here / "a folder" / "below" / MARK).is_file()
    assert "cd 'my course'" in said(capfd, "course", "init", "my course")


def test_init_inside_a_copy_completes_that_one(
    book: Workbook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(book.folder)
    (book.folder / "01_n1" / "README.md").unlink()
    assert said(capfd, "course", "init") == ".: 1 file written, 8 kept as they were.\nGo on: minigrad course\n"
    monkeypatch.chdir(book.folder / "01_n1")
    assert main(["course", "init"]) == 0
    assert not (book.folder / "01_n1" / DEFAULT).exists()


def test_without_a_copy_and_a_terminal_every_command_says_how_to_make_one(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for argv in (["course"], ["check"], ["check", "1"], ["hint", "1"], ["progress"]):
        assert "Make one: minigrad course init." in failed(capfd, *argv)
    assert "minigrad course init elsewhere" in failed(capfd, "course", "elsewhere")
    assert list(here.iterdir()) == []


BAD: dict[str, tuple[list[str], str]] = {
    "two folders": (["course", "a", "b"], "more than one folder"),
    "two new folders": (["course", "init", "a", "b"], "more than one folder"),
    "no name": (["course", "init", ""], "name is empty"),
    "a file": (["course", "init", "file"], "is no folder"),
    "below a file": (["course", "init", "file/below"], "file"),
    "the lessons": (["course", "init", "../lessons"], "lessons themselves"),
    "a strange option": (["course", "--full"], "--full"),
    "no lesson": (["lesson", "4"], "Give 1 to 3"),
    "no check": (["check", "n"], "Give 1 to 3"),
    "no hint": (["hint", "\x1b[31m"], "Give 1 to 3"),
    "a word too many": (["progress", "1"], "unrecognized"),
    "a seed": (["lesson", "1", "--seed", "-1"], "whole number from 0"),
    "nothing to run": (["lesson", "--seed", "1"], "number of a lesson"),
    "pictures": (["lesson", "1", "--pictures", "file"], "is no folder"),
    "no pictures": (["lesson", "1", "--pictures", ""], "is no folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(book: Workbook, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    argv, found = BAD[case]
    assert found in failed(capfd, *argv)


@pytest.mark.parametrize("argv", [["course"], ["check"], ["hint"], ["progress"], ["lesson"], ["course", "init"]])
def test_a_damaged_progress_is_one_line_and_kept(
    book: Workbook, argv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (book.folder / MARK).write_text("{")
    assert "is damaged" in failed(capfd, *argv)
    assert (book.folder / MARK).read_text() == "{"


def test_a_manifest_that_cannot_be_used_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here.parent / "lessons" / "02_n2" / "manifest.ini").write_text("")
    assert "lesson 02_n2" in failed(capfd, "lesson")


# lesson


def test_lessons_are_listed_with_and_without_a_copy(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "lesson")
    for part in (" 1  Lesson 1  at most 10 s", " 2  Lesson 2", "    What 3 is, and why."):
        assert part in out
    assert "solved" not in out
    prepare(DEFAULT)
    book = Workbook.at(DEFAULT)
    assert book is not None
    book.solve(book.course[1])
    out = said(capfd, "lesson")
    assert "solved" in out
    assert book.progress().solved["02_n2"] in out


def test_a_lesson_is_run_with_its_words(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lesson = here.parent / "lessons" / "02_n2" / "lesson.py"
    text = lesson.read_text()
    lesson.write_text(text.replace('say("A number.")', 'say(f"seed {lesson.seed} {lesson.file(\'a\')}")'))
    assert "seed 7 p/a" in said(capfd, "lesson", "n2", "--no-pause", "--seed", "7", "--pictures", "p")
    assert "seed 0 pictures/02_n2/a" in said(capfd, "lesson", "02")
    lesson.write_text(text.replace("True", "False"))
    assert main(["lesson", "2"]) == 2


def test_in_a_copy_its_own_lesson_is_run(book: Workbook, capfd: pytest.CaptureFixture[str]) -> None:
    own = book.folder / "01_n1" / "lesson.py"
    own.write_text(own.read_text().replace("A number.", "My own number."))
    assert "My own number." in said(capfd, "lesson", "1")
    own.unlink()
    assert "A number." in said(capfd, "lesson", "1")


# check, hint, progress


def test_check_goes_from_lesson_to_lesson(book: Workbook, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "check", status=1)
    for part in ("01 · Lesson 1", "✗ line 9 of exercise.py is still a hole", "  the number 1", "minigrad hint 1"):
        assert part in out
    solve(book.folder, 1)
    out = said(capfd, "check")
    assert "✓ Solved." in out
    assert "Next: minigrad lesson 2" in out
    assert "02 · Lesson 2" in said(capfd, "check", status=1)
    solve(book.folder, 3)
    assert "Next: minigrad lesson 2" in said(capfd, "check", "3")
    solve(book.folder, 2)
    assert "All 3 exercises are solved." in said(capfd, "check", "2")
    assert "✓ Solved." in said(capfd, "check")


def test_check_shows_what_was_printed_and_nothing_that_moves_the_cursor(
    book: Workbook, capfd: pytest.CaptureFixture[str]
) -> None:
    book.exercise(book.course[0]).write_text("print('\\x1b[2J' + 'x' * 200)\ndef answer(): return 1\n")
    out = said(capfd, "check", "1")
    assert "your code printed" in out
    assert "\\x1b[2J" in out


def test_hints_grow_stronger_and_are_remembered(book: Workbook, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "hint", "2") == "hint 1 of 2\nIt is a number.\n"
    assert said(capfd, "hint", "2") == "hint 2 of 2\nIt is 2.\n"
    for _ in range(2):
        out = said(capfd, "hint", "2")
        assert "you have seen all 2 hints" in out
        assert "It is a number." in out
        assert "It is 2." in out
    assert said(capfd, "hint") == "hint 1 of 2\nIt is a number.\n"  # of the current one
    assert "2 of 2 hints seen" in said(capfd, "progress")


def test_progress_shows_a_bar_and_every_lesson(book: Workbook, capfd: pytest.CaptureFixture[str]) -> None:
    assert "0/3 solved" in said(capfd, "progress")
    book.solve(book.course[0])
    out = said(capfd, "progress")
    assert "1/3 solved" in out
    assert f"✓ 01  Lesson 1  solved {book.progress().solved['01_n1']}" in out
    assert "▶ 02  Lesson 2" in out
    assert "· 03  Lesson 3" in out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_of_few_letters_gets_those(book: Workbook, here: Path, encoding: str) -> None:
    given = environment(here.parent / "lessons", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    for argv in (["progress"], ["check"], ["hint"], ["lesson"]):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "minigrad", *argv], cwd=here, env=given, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == (argv == ["check"])
        assert done.stderr == b""
        assert b"\\u" not in done.stdout


def test_every_command_of_the_course_is_listed(capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "--help")
    for name in ("course", "lesson", "check", "hint", "progress"):
        assert f"\n    {name} " in out
        assert said(capfd, name, "--help").startswith(f"usage: minigrad {name}")
    assert os.environ["COLUMNS"] == "80"
