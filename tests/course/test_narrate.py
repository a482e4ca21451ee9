"""The narrator: what it prints reads well in a terminal, a pipe and a file, and ends well whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

import minigrad as mg
from minigrad import bptt
from minigrad.course import Narrator, narrate
from minigrad.course.manifest import lessons
from minigrad.course.workbook import Workbook
from minigrad.errors import ClaimError
from minigrad.views import draw
from tests.course.made import Terminal, environment


@pytest.fixture
def narrator(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Narrator:
    monkeypatch.setenv("COLUMNS", "60")
    return Narrator(lessons()[0], pictures=tmp_path / "pictures", seed=3)


def shown(lesson: Narrator) -> None:
    """Wide: a long line of source that does not fit sixty columns, and is wrapped like all others."""
    lesson.say("a")


def everything(lesson: Narrator) -> None:
    table = Table("a", "b", title="title")
    table.add_row("1", "2")
    lesson.question("Why? " * 20)
    lesson.step("1. A step")
    lesson.say("""
        - one `word` and another
        - two

        And a paragraph that is so long that it has to be wrapped at the end of the line, like this one.
    """)
    lesson.formula("a = b", "  + c")
    lesson.source(shown)
    lesson.show(table)
    lesson.show("a plain [text]")
    lesson.claim("a statement that is so long that it has to be wrapped at the end of the line, like this one", True)
    lesson.answer("So.")


def test_no_line_ends_in_blanks_and_no_two_lines_are_empty(
    narrator: Narrator, capsys: pytest.CaptureFixture[str]
) -> None:
    everything(narrator)
    lines = capsys.readouterr().out.split("\n")
    assert [line for line in lines if line != line.rstrip()] == []
    assert [k for k in range(1, len(lines) - 1) if lines[k - 1] == lines[k] == ""] == []
    assert all(len(line) <= 60 for line in lines)


def test_titles_and_paths_are_shown_as_they_are(
    course: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lesson = lessons()[0]._replace(title="[bold]a[/] and [b]")
    narrator = Narrator(lesson, pictures=tmp_path / "p\x1b[2J")
    narrator.question("Why?")
    narrator.picture("one", draw.graph(bptt.record(mg.Tensor([1.0], requires_grad=True).sum())), "A picture.")
    said = capsys.readouterr().out
    assert "01 · [bold]a[/] and [b]" in said
    assert "\x1b" not in said
    assert "p\\x1b[2J/one.svg" in said.replace("\n", "")


def test_what_is_told_stands_there_in_its_order(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    everything(narrator)
    out = capsys.readouterr().out
    places = [
        out.index(part)
        for part in (
            "01 · Lesson 1", "Why?", "1. A step", " • one word and another", "And a paragraph", "  a = b\n    + c",
            "def shown(lesson", "title", "a plain [text]", "  ✓ a statement", "answer", "Exercise: exercise.py",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "\n    the end of the line, like this one" in out  # below the statement, not below its mark
    assert len(narrator.claims) == 1


def test_a_statement_that_does_not_hold_ends_the_lesson(narrator: Narrator) -> None:
    with pytest.raises(ClaimError, match="does not hold with seed 3: 1 is 2"):
        narrator.claim("1 is 2", False)
    assert narrator.claims == []


def test_random_numbers_are_of_the_seed_and_the_stream(narrator: Narrator) -> None:
    assert narrator.rng().random() == narrator.rng().random()
    assert narrator.rng(1).random() == narrator.rng(1).random()
    assert len({narrator.rng(*stream).random() for stream in ((), (1,), (2,), (1, 2))}) == 4
    assert Narrator(narrator.lesson).rng().random() != narrator.rng().random()


def test_a_file_is_given_a_place_beside_the_pictures(narrator: Narrator, tmp_path: Path) -> None:
    assert not (tmp_path / "pictures").exists()
    assert narrator.file("a.mid") == tmp_path / "pictures" / "a.mid"
    assert (tmp_path / "pictures").is_dir()


def run(lesson: Path, *words: str, here: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    given = environment(lesson.parents[1], COLUMNS="80", **more)
    return subprocess.run(
        [sys.executable, "-W", "error", str(lesson), *words], cwd=here, env=given, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_a_lesson_runs_from_a_learners_copy(book: Workbook, course: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(book.folder / "02_n2" / "lesson.py")], cwd=tmp_path, env=environment(course),
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "It is 2." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_letter_that_the_output_does_not_know_ends_no_lesson(course: Path, tmp_path: Path, encoding: str) -> None:
    done = run(course / "01_n1" / "lesson.py", here=tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1 is 1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [(["--seed", "-1"], "--seed -1: a seed is not negative"), (["--pictures", "lessons/x/y"], "")],
)
def test_bad_words_end_it_in_a_line(course: Path, tmp_path: Path, words: list[str], said: str) -> None:
    done = run(course / "01_n1" / "lesson.py", *words, here=tmp_path)
    assert done.returncode == (2 if said else 0)
    assert done.stderr.decode().count("\n") == bool(said)
    assert said in done.stderr.decode()


@pytest.mark.slow
def test_pictures_that_cannot_be_written_end_it_in_a_line(course: Path, tmp_path: Path) -> None:
    program = course / "01_n1" / "lesson.py"
    program.write_text(program.read_text().replace('lesson.say("A number.")', 'lesson.file("a")'))
    (tmp_path / "file").write_text("")
    done = run(program, "--pictures", "file/below", here=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("01_n1: file")
    assert done.stderr.decode().count("\n") == 1


@pytest.mark.slow
def test_a_statement_that_does_not_hold_is_a_line_and_status_2(course: Path, tmp_path: Path) -> None:
    program = course / "01_n1" / "lesson.py"
    program.write_text(program.read_text().replace('"1 is 1", True', '"1 is 2", False'))
    done = run(program, "--seed", "7", here=tmp_path)
    assert done.returncode == 2
    assert "does not hold with seed 7: 1 is 2" in done.stderr.decode()


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it_quietly(course: Path, tmp_path: Path) -> None:
    program = course / "01_n1" / "lesson.py"
    program.write_text(program.read_text().replace('lesson.say("A number.")', 'lesson.say("long " * 1000000)'))
    started = subprocess.Popen(
        [sys.executable, str(program)], cwd=tmp_path, env=environment(course), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stderr is not None
    os.read(started.stdout.fileno(), 10)
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait(timeout=120) == 141


@pytest.mark.slow
@pytest.mark.parametrize("key", ["\n", "\x04"])
def test_a_step_waits_for_a_key(course: Path, tmp_path: Path, key: str) -> None:
    with Terminal([str(course / "01_n1" / "lesson.py")], cwd=tmp_path, env=environment(course)) as shown:
        shown.see("Ctrl-C: leave")
        assert "1. A step" not in shown.screen()
        shown.press(key)
        assert shown.end() == 0
        assert "1. A step" in shown.screen()
        assert shown.written.endswith(b"\n")
        assert b"Traceback" not in shown.written


@pytest.mark.slow
def test_ctrl_c_leaves_a_step_that_waits(course: Path, tmp_path: Path) -> None:
    with Terminal([str(course / "01_n1" / "lesson.py")], cwd=tmp_path, env=environment(course)) as shown:
        shown.see("Ctrl-C: leave")
        shown.interrupt(lambda: shown.process.poll() is not None)
        assert shown.end() == 130
        assert "1. A step" not in shown.screen()
        assert shown.written.endswith(b"\n")
        assert b"Traceback" not in shown.written


def test_a_lesson_that_is_no_file_of_the_course_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "99_\x1b[2J").mkdir()
    with pytest.raises(SystemExit) as caught:
        narrate(everything, str(tmp_path / "99_\x1b[2J" / "lesson.py"), [])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("99_\\x1b[2J: lesson 99_\\x1b[2J: the course has no lesson of this name.")
    assert "\x1b" not in said
