"""The learner's own copy of the course: his exercises, and the file that remembers how far he has come."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..atomic import remove_leftovers, replacing
from ..errors import LessonError
from ..terminal import word
from .manifest import Lesson, lessons, root

__all__ = ["COPIED", "DEFAULT", "MARK", "Prepared", "Progress", "Workbook", "prepare"]

MARK = ".minigrad-course.json"
"""The file that makes a folder a learner's copy, and keeps the progress."""

DEFAULT = Path("minigrad-course")
"""Where the copy goes unless another folder is given."""

COPIED = ("README.md", "lesson.py", "exercise.py")
"""What a learner gets of each lesson."""

_VERSION = 1


class Progress(NamedTuple):
    """What the file remembers, by the names of the lessons' folders.

    Attributes:
        current: The lesson that is worked at; "" for the first one.
        solved: When each was solved, as 2026-11-23.
        hints: How many have been seen of each.
    """

    current: str = ""
    solved: dict[str, str] = {}  # noqa: RUF012  (nobody changes it)
    hints: dict[str, int] = {}  # noqa: RUF012

    def seen(self, lesson: Lesson) -> int:
        """How many of a lesson's hints have been seen."""
        return min(self.hints.get(lesson.folder.name, 0), len(lesson.hints))


class Prepared(NamedTuple):
    """What `prepare` did.

    Attributes:
        folder: Of the copy.
        written: How many files are new.
        kept: How many were there and stay.
        other: Those of them that differ from this version's, exercises left out.
    """

    folder: Path
    written: int
    kept: int
    other: tuple[Path, ...]


class Workbook:
    """A learner's copy of the course. What changes is written at once; what is asked is read anew.

    Attributes:
        folder: Where it lies.
        course: All lessons, in their order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.course = folder, lessons()

    @classmethod
    def at(cls, folder: Path) -> Workbook | None:
        """The copy in this very folder; None if it is none."""
        return cls(folder.absolute()) if (folder / MARK).is_file() else None

    @classmethod
    def found(cls, start: Path | None = None) -> Workbook | None:
        """The copy that a folder (default: the current one) lies in, or the one of usual name in it; None without."""
        start = (start or Path()).absolute()
        places = (start, *start.parents, start / DEFAULT)
        return next((cls(place) for place in places if (place / MARK).is_file()), None)

    def exercise(self, lesson: Lesson) -> Path:
        """The learner's file of a lesson."""
        return self.folder / lesson.folder.name / "exercise.py"

    def progress(self) -> Progress:
        """What the file remembers.

        Raises:
            LessonError: The file is damaged, or of a newer version.
        """
        mark = self.folder / MARK
        try:
            said = json.loads(mark.read_bytes().decode())
            if not isinstance(said, dict) or said.get("format") != "minigrad course":
                raise ValueError("it is no file of the course")
            if said["version"] != _VERSION:
                raise LessonError(
                    f"course: {mark} is of version {said['version']!r:.20}, and this minigrad reads {_VERSION}.\n"
                    "  Update minigrad: pip install --upgrade minigrad-bptt."
                )
            current, solved, hints = said["current"], said["solved"], said["hints"]
            if not isinstance(current, str) or not isinstance(solved, dict) or not isinstance(hints, dict):
                raise ValueError("its fields are not as they were written")
            for day in solved.values():
                datetime.date.fromisoformat(day)
            if not all(type(seen) is int and 0 <= seen < 100 for seen in hints.values()):
                raise ValueError("its hints are not as they were written")
            return Progress(current, solved, hints)
        except FileNotFoundError:
            raise LessonError(f"course: {mark} is gone.\n  Make it anew: {self._remedy()}.") from None
        except LessonError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LessonError(
                f"course: {mark} is damaged ({str(error)[:80]}).\n"
                f"  Mend it, or move it away and run: {self._remedy()}; exercises stay as they are."
            ) from None

    def current(self) -> Lesson:
        """The lesson that is worked at; where the course no longer has it, the first one that is not solved."""
        said = self.progress()
        named = (lesson for lesson in self.course if lesson.folder.name == said.current)
        return next(named, None) or self.after(None) or self.course[-1]

    def after(self, lesson: Lesson | None) -> Lesson | None:
        """The next lesson that is not solved, from the first one on if there is none behind; None if all are solved."""
        solved = self.progress().solved
        left = [each for each in self.course if each.folder.name not in solved]
        behind = (each for each in left if lesson is not None and each.number > lesson.number)
        return next(behind, left[0] if left else None)

    def is_solved(self, lesson: Lesson) -> bool:
        """It has been solved once."""
        return lesson.folder.name in self.progress().solved

    def hints_seen(self, lesson: Lesson) -> int:
        """How many of its hints have been seen."""
        return self.progress().seen(lesson)

    def go(self, lesson: Lesson) -> None:
        """Work at this lesson from now on."""
        self._write(self.progress()._replace(current=lesson.folder.name))

    def solve(self, lesson: Lesson) -> None:
        """Remember that it is solved, and since when."""
        said = self.progress()
        if lesson.folder.name not in said.solved:
            today = datetime.date.today().isoformat()
            self._write(said._replace(solved={**said.solved, lesson.folder.name: today}))

    def hint(self, lesson: Lesson, count: int) -> None:
        """Remember that this many of its hints have been seen."""
        said = self.progress()
        if count > said.hints.get(lesson.folder.name, 0):
            self._write(said._replace(hints={**said.hints, lesson.folder.name: count}))

    def reset(self, lesson: Lesson) -> Path | None:
        """Begin a lesson anew: its exercise as it came, neither solved nor a hint seen.

        Returns:
            Where the learner's text has been kept; None if there was none, or it was as it came.
        """
        exercise, name = self.exercise(lesson), lesson.folder.name
        original = (lesson.folder / "exercise.py").read_bytes()
        kept = None
        if exercise.is_file() and exercise.read_bytes() != original:
            free = (exercise.with_name(f"exercise.py.bak{k if k > 1 else ''}") for k in itertools.count(1))
            kept = next(path for path in free if not path.exists())
            exercise.replace(kept)
        exercise.parent.mkdir(exist_ok=True)
        with replacing(exercise) as file:
            file.write(original)
        said = self.progress()
        solved, hints = ({k: v for k, v in old.items() if k != name} for old in (said.solved, said.hints))
        self._write(Progress(said.current, solved, hints))  # type: ignore[arg-type]
        return kept

    def _write(self, progress: Progress) -> None:
        _write(self.folder, progress)

    def _remedy(self) -> str:
        return f"minigrad course init {word(str(self.folder))}"


def prepare(folder: Path) -> Prepared:
    """Make a learner's copy, or complete one: every file that is there stays as it is, each new one comes whole.

    Raises:
        LessonError: The folder is a file, holds other things or the lessons themselves, its progress is damaged, or a
            lesson lacks a file; nothing has been written then.
        OSError: It cannot be written.
    """
    course = lessons()
    if folder.exists() and not folder.is_dir():
        raise LessonError(f"course init: {folder} is no folder.\n  Give a folder, or the name of a new one.")
    if folder.resolve() == root().resolve():
        raise LessonError(f"course init: {folder} holds the lessons themselves.\n  Give another folder.")
    if folder.exists() and not any((folder / name).exists() for name in (MARK, *(x.folder.name for x in course))):
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if others:
            raise LessonError(
                f"course init: {folder} holds {others[0]!r:.60} and no course.\n  Give the name of a new folder."
            )
    if (folder / MARK).exists():
        Workbook(folder).progress()  # a damaged one is told before anything is written
    written, kept, other = 0, 0, []
    for path, content in [(folder / s.parent.name / s.name, _content(s)) for s in _sources(course)]:
        if path.exists():
            kept += 1
            if path.name != "exercise.py" and path.read_bytes() != content:
                other.append(path)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with replacing(path, durable=False) as file:
            file.write(content)
        written += 1
    if not (folder / MARK).exists():
        remove_leftovers(folder / MARK)
        _write(folder, Progress())
    return Prepared(folder, written, kept, tuple(other))


def _sources(course: Sequence[Lesson]) -> Iterator[Path]:
    for lesson in course:
        yield from (lesson.folder / name for name in COPIED)


def _content(source: Path) -> bytes:
    """A file of a lesson."""
    try:
        return source.read_bytes()
    except FileNotFoundError:
        raise LessonError(f"course init: {source} is missing.\n  Install minigrad again.") from None


def _write(folder: Path, progress: Progress) -> None:
    said: dict[str, Any] = {"format": "minigrad course", "version": _VERSION, **progress._asdict()}
    with replacing(folder / MARK) as file:
        file.write((json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode())
