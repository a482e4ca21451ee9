"""The learner's copy: nothing of his is ever overwritten, and what he has reached is kept."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest

from minigrad.course import workbook
from minigrad.course.workbook import COPIED, DEFAULT, MARK, Workbook, prepare
from minigrad.errors import LessonError
from tests.course.made import EXERCISE, solve


def test_a_copy_has_what_a_learner_needs_and_no_solution(course: Path, tmp_path: Path) -> None:
    done = prepare(tmp_path / "copy")
    assert (done.written, done.kept, done.other) == (9, 0, ())
    files = sorted(str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*") if p.is_file())
    names = [str(Path(f"0{k}_n{k}") / name) for k in (1, 2, 3) for name in sorted(COPIED)]
    assert files == [MARK, *names]
    for name in names:
        assert (tmp_path / "copy" / name).read_bytes() == (course / name).read_bytes()


def test_a_second_time_completes_and_overwrites_nothing(book: Workbook) -> None:
    solve(book.folder, 1, 5)
    (book.folder / "01_n1" / "lesson.py").write_text("mine")
    (book.folder / "02_n2" / "README.md").unlink()
    book.solve(book.course[2])
    mine = book.exercise(book.course[0]).read_text()
    done = prepare(book.folder)
    assert (done.written, done.kept) == (1, 8)
    assert done.other == (book.folder / "01_n1" / "lesson.py",)  # the exercise is meant to differ
    assert book.exercise(book.course[0]).read_text() == mine
    assert (book.folder / "01_n1" / "lesson.py").read_text() == "mine"
    assert (book.folder / "02_n2" / "README.md").exists()
    assert book.is_solved(book.course[2])


def test_a_lesson_that_lacks_a_file_writes_nothing(course: Path, tmp_path: Path) -> None:
    (course / "03_n3" / "exercise.py").unlink()
    with pytest.raises(LessonError, match=r"exercise\.py is missing"):
        prepare(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_what_was_interrupted_is_no_copy_and_can_be_completed(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            prepare(tmp_path / "copy")
    assert [p for p in (tmp_path / "copy").rglob("*") if p.is_file()] == []
    assert Workbook.at(tmp_path / "copy") is None
    assert prepare(tmp_path / "copy").written == 9


def test_a_file_or_the_lessons_themselves_are_no_place_for_a_copy(course: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LessonError, match="is no folder"):
        prepare(tmp_path / "file")
    with pytest.raises(LessonError, match="lessons themselves"):
        prepare(course)


def test_it_is_found_from_inside_and_from_the_folder_above(course: Path, tmp_path: Path) -> None:
    assert Workbook.found(tmp_path) is None
    prepare(tmp_path / DEFAULT)
    for start in (tmp_path, tmp_path / DEFAULT, tmp_path / DEFAULT / "01_n1"):
        found = Workbook.found(start)
        assert found is not None
        assert found.folder == tmp_path / DEFAULT
    assert Workbook.found(course) is None


def test_progress_comes_back_as_it_was(book: Workbook) -> None:
    one, two, three = book.course
    assert book.current() == one
    book.go(two)
    book.solve(one)
    book.hint(three, 2)
    book.hint(three, 1)  # fewer than before
    again = Workbook(book.folder)
    assert again.current() == two
    assert again.progress().solved == {"01_n1": datetime.date.today().isoformat()}
    assert (again.is_solved(one), again.is_solved(two)) == (True, False)
    assert [again.hints_seen(lesson) for lesson in again.course] == [0, 0, 2]


def test_the_day_of_solving_stays(book: Workbook) -> None:
    said = json.loads((book.folder / MARK).read_text())
    (book.folder / MARK).write_text(json.dumps({**said, "solved": {"01_n1": "2025-01-02"}}))
    book.solve(book.course[0])
    assert book.progress().solved == {"01_n1": "2025-01-02"}


def test_the_next_is_the_next_unsolved_then_the_first_then_none(book: Workbook) -> None:
    one, two, three = book.course
    assert [book.after(lesson) for lesson in (None, one, two, three)] == [one, two, three, one]
    book.solve(two)
    assert [book.after(lesson) for lesson in (None, one, two, three)] == [one, three, three, one]
    book.solve(one)
    book.solve(three)
    assert book.after(one) is None


def test_a_lesson_that_the_course_no_longer_has_is_passed_over_and_kept(book: Workbook) -> None:
    said = json.loads((book.folder / MARK).read_text())
    solved = {"09_old": "2025-01-02", "01_n1": "2025-01-02"}
    old = {**said, "current": "09_old", "solved": solved, "hints": {"09_old": 3}}
    (book.folder / MARK).write_text(json.dumps(old))
    assert book.current() == book.course[1]
    book.solve(book.course[1])
    assert "09_old" in book.progress().solved
    assert book.progress().hints == {"09_old": 3}


DAMAGED = {
    "empty": b"",
    "cut short": b'{"format": "minigrad course", "vers',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "another file": b'{"format": "package"}',
    "a field missing": b'{"format": "minigrad course", "version": 1, "current": "", "solved": {}}',
    "another type": b'{"format": "minigrad course", "version": 1, "current": 1, "solved": {}, "hints": {}}',
    "no day": b'{"format": "minigrad course", "version": 1, "current": "", "solved": {"a": "soon"}, "hints": {}}',
    "no text as day": b'{"format": "minigrad course", "version": 1, "current": "", "solved": {"a": 1}, "hints": {}}',
    "no count": b'{"format": "minigrad course", "version": 1, "current": "", "solved": {}, "hints": {"a": "x"}}',
    "a huge count": b'{"format": "minigrad course", "version": 1, "current": "", "solved": {}, "hints": {"a": 1e9}}',
    "deep": b"[" * 100_000,
}


def test_the_remedy_names_a_folder_as_one_word(course: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "my copy")
    book = Workbook(tmp_path / "my copy")
    (book.folder / MARK).unlink()
    with pytest.raises(LessonError, match=r"minigrad course init '.*my copy'"):
        book.progress()


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_with_the_remedy_and_kept(book: Workbook, case: str) -> None:
    (book.folder / MARK).write_bytes(DAMAGED[case])
    for call in (book.progress, book.current, lambda: book.solve(book.course[0]), lambda: prepare(book.folder)):
        with pytest.raises(LessonError, match=r"is damaged .*\n.*minigrad course init") as caught:
            call()
        assert str(book.folder / MARK) in str(caught.value)
    assert (book.folder / MARK).read_bytes() == DAMAGED[case]


def test_a_newer_version_asks_for_an_update(book: Workbook) -> None:
    said = json.loads((book.folder / MARK).read_text())
    (book.folder / MARK).write_text(json.dumps({**said, "version": 2}))
    with pytest.raises(LessonError, match=r"version 2, .*\n.*pip install --upgrade"):
        book.current()


def test_a_file_that_is_gone_says_how_to_make_it(book: Workbook) -> None:
    (book.folder / MARK).unlink()
    with pytest.raises(LessonError, match="is gone"):
        book.current()


def test_reset_keeps_every_text_there_ever_was(book: Workbook) -> None:
    one = book.course[0]
    original = book.exercise(one).read_bytes()
    book.solve(one)
    book.hint(one, 2)
    assert book.reset(one) is None  # it was as it came
    for answer, name in ((5, "exercise.py.bak"), (6, "exercise.py.bak2")):
        solve(book.folder, 1, answer)
        assert book.reset(one) == book.exercise(one).with_name(name)
        assert book.exercise(one).read_bytes() == original
    for answer, name in ((5, "exercise.py.bak"), (6, "exercise.py.bak2")):
        assert f"return {answer}" in book.exercise(one).with_name(name).read_text()
    assert not book.is_solved(one)
    assert book.hints_seen(one) == 0


def test_reset_brings_a_lost_exercise_back(book: Workbook) -> None:
    book.exercise(book.course[1]).unlink()
    assert book.reset(book.course[1]) is None
    assert book.exercise(book.course[1]).read_text() == EXERCISE.replace("{number}", "2")


def test_progress_is_written_whole_or_not_at_all(book: Workbook, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (book.folder / MARK).read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            book.solve(book.course[0])
    assert (book.folder / MARK).read_bytes() == before
    assert sorted(p.name for p in book.folder.iterdir()) == [MARK, "01_n1", "02_n2", "03_n3"]
    assert workbook.DEFAULT.name == "minigrad-course"


def test_a_folder_of_other_things_is_no_course(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / ".git").mkdir()
    (folder / "notes.txt").touch()
    with pytest.raises(LessonError, match=r"holds 'notes.txt' and no course.*\n  Give the name of a new folder"):
        prepare(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".git", "notes.txt"]
    (folder / "notes.txt").unlink()
    assert prepare(folder).written > 0
