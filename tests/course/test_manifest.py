"""Lessons are found by number and name; a manifest that cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigrad.course.manifest import FILES, called, lesson_in, lessons, root
from minigrad.errors import LessonError


def test_lessons_come_in_their_order(course: Path) -> None:
    found = lessons()
    assert [lesson.number for lesson in found] == [1, 2, 3]
    assert [lesson.slug for lesson in found] == ["n1", "n2", "n3"]
    assert found[1].teaches == "What 2 is, and why."
    assert found[1].hints == ("It is a number.", "It is 2.")
    assert found[1].seeds == (0, 1, 2)
    assert found[1].seconds == 10


def test_a_hint_of_several_holes_keeps_a_line_for_each(course: Path) -> None:
    manifest = course / "02_n2" / "manifest.ini"
    manifest.write_text(manifest.read_text().partition("hints =")[0] + """hints =
    - Two of them,
      one a line:
      * `a`: it is * first -
        and long.
      * `b`: it is last.
    * c
    - One - line * with *
      marks in it.
    - * Begins
      with one.
""")  # fmt: skip
    assert lessons()[1].hints == (
        "Two of them, one a line:\n* `a`: it is * first - and long.\n* `b`: it is last.\n* c",
        "One - line * with * marks in it.", "* Begins with one.",
    )  # fmt: skip


def test_nothing_that_a_manifest_says_moves_the_cursor(course: Path) -> None:
    manifest = course / "02_n2" / "manifest.ini"
    text = manifest.read_text()
    for words, moving in (("Lesson 2", "a\x1b[2J"), ("and why", "\x9b"), ("a n", "\x07")):
        text = text.replace(words, moving)
    manifest.write_text(text, "utf-8")
    lesson = lessons()[1]
    assert (lesson.title, lesson.teaches) == ("a\\x1b[2J", "What 2 is, \\x9b.")
    assert lesson.hints[0] == "It is \\x07umber."


def test_the_lessons_of_the_checkout_are_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGRAD_LESSONS", raising=False)
    assert root() == Path(__file__).parents[2] / "lessons"
    assert all((root() / "01_one_number" / name).is_file() for name in FILES)


@pytest.mark.parametrize("word", ["2", "02", "n2", "02_n2", "0002"])
def test_a_lesson_has_several_names(course: Path, word: str) -> None:
    assert called(word, lessons()).number == 2


@pytest.mark.parametrize("word", ["", "4", "0", "-1", "n4", "1.0", "²", "1" * 5000, "x\x1b"])
def test_no_lesson_of_this_name_is_said_with_those_that_there_are(course: Path, word: str) -> None:
    with pytest.raises(LessonError, match="Give 1 to 3"):
        called(word, lessons())


def test_no_lessons_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LessonError, match="has none"):
        lessons(tmp_path)


def test_two_lessons_of_one_number_are_an_error(course: Path) -> None:
    (course / "02_n2").rename(course / "01_other")
    with pytest.raises(LessonError, match="01_n1 and 01_other"):
        lessons()


@pytest.mark.parametrize(
    "text", ["", "[lesson]\ntitle = a\n", "[other]\n", "title = a", "[lesson]\ntitle=a\nteaches=b\nseconds=x\nhints=\n"]
)
def test_a_manifest_that_cannot_be_used_is_named(course: Path, text: str) -> None:
    (course / "02_n2" / "manifest.ini").write_text(text)
    with pytest.raises(LessonError, match=r"lesson 02_n2: manifest\.ini"):
        lessons()


def test_a_folder_of_another_name_is_no_lesson(tmp_path: Path) -> None:
    with pytest.raises(LessonError, match="NN_slug"):
        lesson_in(tmp_path / "intro")
