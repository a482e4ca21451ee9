"""List the lessons of the course, or run one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from ..course.manifest import Lesson, called, lessons
from ..course.page import WIDE, wrapped
from ..course.session import tell
from ..course.workbook import Workbook
from ..errors import LessonError
from ..terminal import Output
from .arguments import whole
from .course import add_lesson

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    add_lesson(parser, "without one, all are listed")
    add = parser.add_argument
    add("--no-pause", action="store_true", help="go straight through")
    add("--seed", metavar="S", type=whole(0), help="of the random numbers; default: 0")
    add("--pictures", metavar="DIR", help="where pictures go; default: pictures/NN_slug")
    parser.epilog = (
        "In a copy of the course its own lesson.py is run: change it and see.\n\n"
        "Exit status: 0; 2 bad input, or a statement that does not hold; 130 Ctrl-C."
    )


def run(args: argparse.Namespace) -> int:
    """List the lessons, or run one; gives its status.

    Raises:
        MinigradError: There is no such lesson, or the learner's progress is damaged.
    """
    book = Workbook.found()
    course = book.course if book else lessons()
    if args.lesson is None:
        if args.no_pause or args.seed is not None or args.pictures is not None:
            raise LessonError("lesson: there is nothing to run.\n  Give the number of a lesson, too.")
        _list(book, course)
        return 0
    words = ["--no-pause"] if args.no_pause else []
    words += [f"--seed={args.seed}"] if args.seed is not None else []
    words += [f"--pictures={args.pictures}"] if args.pictures is not None else []
    if args.pictures == "" or (args.pictures and Path(args.pictures).exists() and not Path(args.pictures).is_dir()):
        raise LessonError(f"lesson: --pictures {args.pictures!r} is no folder.\n  Give one, or a name for a new one.")
    return tell(book, called(args.lesson, course), words)


def _list(book: Workbook | None, course: Sequence[Lesson]) -> None:
    solved = book.progress().solved if book else {}
    console = Output()
    for lesson in course:
        day = solved.get(lesson.folder.name)
        facts = f"  at most {lesson.seconds} s" + (f", solved {day}" if day else "")
        console.print(Text.assemble(f"{lesson.number:2d}  ", (lesson.title, "bold"), (facts, "dim")))
        for line in wrapped(Text(f"    {lesson.teaches}"), min(console.width, WIDE)):
            console.print(line)
