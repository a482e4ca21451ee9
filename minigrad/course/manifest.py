"""Where the lessons are, and what each one's manifest says.

In `manifest.ini` a hint begins with "- ", and its lines are read as one, until a line begins with "* ": what stands
from there to the next one is shown as a line of its own. So a hint that speaks of several holes gives each its line:

    hints =
        - What each function needs:
          * `lane`: what stays is f * c, and what is new
            is added to it.
          * `half_life`: the logarithm of a half.

A line must not begin with # or ;, which make it a comment.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..errors import LessonError
from ..terminal import escaped

__all__ = ["FILES", "LESSONS", "Lesson", "called", "lesson_in", "lessons", "root"]

FILES = ("README.md", "lesson.py", "exercise.py", "solution.py", "check.py", "manifest.ini")
"""What every lesson consists of."""

LESSONS = "MINIGRAD_LESSONS"
"""The environment variable that names another folder of lessons: a course of one's own."""

_FOLDER = re.compile(r"(\d\d)_([a-z0-9_]+)")


class Lesson(NamedTuple):
    """A folder `NN_slug` and its `manifest.ini`.

    Attributes:
        folder: Where its files lie.
        number: NN; the order of the course.
        slug: The rest of the folder's name.
        title: In a few words.
        teaches: What one can do after it, in a sentence.
        seconds: How much processor time lesson.py may take.
        seeds: The seeds that its claims have been shown to hold for.
        data: The data sets that it reads where they have been fetched.
        hints: For the exercise, in growing strength; each of one or several lines.
    """

    folder: Path
    number: int
    slug: str
    title: str
    teaches: str
    seconds: int
    seeds: tuple[int, ...]
    data: tuple[str, ...]
    hints: tuple[str, ...]


def root() -> Path:
    """The folder of all lessons: what MINIGRAD_LESSONS names, or in the package, or beside it in a checkout."""
    if os.environ.get(LESSONS):
        return Path(os.environ[LESSONS])
    package = Path(__file__).parent.parent
    return next((p for p in (package / "lessons", package.parent / "lessons") if p.is_dir()), package / "lessons")


def lessons(folder: Path | None = None) -> list[Lesson]:
    """All lessons in their order.

    Raises:
        LessonError: There is none, two have one number, or a manifest is not what it should be.
    """
    folder = root() if folder is None else folder
    found = [lesson_in(p) for p in sorted(folder.glob("[0-9][0-9]_*")) if (p / "manifest.ini").is_file()]
    if not found:
        raise LessonError(f"lessons: {folder} has none.\n  Install minigrad again, or give the folder of its lessons.")
    for before, lesson in pairwise(found):
        if before.number == lesson.number:
            raise LessonError(
                f"lessons: {before.folder.name} and {lesson.folder.name} have one number.\n  Rename one of the folders."
            )
    return found


def called(word: str, course: Sequence[Lesson]) -> Lesson:
    """The lesson that a word means: 7, 07, gradient_clipping or 07_gradient_clipping.

    Raises:
        LessonError: It means none.
    """
    for lesson in course:
        number = word.isascii() and word.isdigit() and len(word) < 9 and int(word) == lesson.number
        if number or word in (lesson.slug, lesson.folder.name):
            return lesson
    raise LessonError(
        f"lesson {word[:40]!r}: the course has none of this number or name.\n"
        f"  Give {course[0].number} to {course[-1].number} (see: minigrad lesson)."
    )


def lesson_in(folder: Path) -> Lesson:
    """One lesson, from the folder of its manifest.

    Raises:
        LessonError: The folder's name or its manifest is not what it should be.
    """
    named = _FOLDER.fullmatch(folder.name)
    if named is None:
        raise LessonError(f"lesson {folder.name}: the folder is not called NN_slug.\n  Call it 07_gradient_clipping.")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string((folder / "manifest.ini").read_text("utf-8"))
        said = parser["lesson"]
        hints = tuple(_lines(hint) for hint in re.split(r"\n\s*- ", "\n" + said["hints"]) if hint.strip())
        title, teaches = (escaped(" ".join(said[name].split())) for name in ("title", "teaches"))
        return Lesson(
            folder, int(named[1]), named[2], title, teaches, int(said["seconds"]),
            tuple(map(int, said.get("seeds", "0").split())), tuple(said.get("data", "").split()), hints,
        )  # fmt: skip
    except (configparser.Error, KeyError, ValueError, OSError) as error:
        raise LessonError(
            f"lesson {folder.name}: manifest.ini cannot be used: {str(error).partition(chr(10))[0]}.\n"
            "  Give [lesson] with title, teaches, seconds and hints, as the other lessons do."
        ) from None


def _lines(text: str) -> str:
    """One line, and one more from each line on that begins with "* "."""
    items = re.split(r"\n\s*(?=\* )", text)
    return "\n".join(escaped(" ".join(item.split())) for item in items if item.strip())
