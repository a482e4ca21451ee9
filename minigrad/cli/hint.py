"""Give the next stronger hint for an exercise of the course."""

from __future__ import annotations

import argparse

from rich.text import Text

from ..course.page import wrapped
from ..terminal import Output
from .course import add_lesson, asked

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    add_lesson(parser, "default: the current one")
    parser.epilog = "Each call gives the next one; after the last, all are shown.\n\nExit status: 0; 2 bad input."


def run(args: argparse.Namespace) -> int:
    """Show a hint, and remember that it has been seen.

    Raises:
        MinigradError: There is no copy or no such lesson, or the learner's progress is damaged.
    """
    book, lesson = asked(args.lesson)
    seen, count, console = book.hints_seen(lesson), len(lesson.hints), Output()
    if not count:
        console.print(f"{lesson.number:02d} · {lesson.title} has no hints.")
    elif seen == count:
        console.print(f"{lesson.number:02d} · {lesson.title}: you have seen all {count} hints.")
    for k in range(count) if seen == count else [seen]:
        console.print(Text(f"hint {k + 1} of {count}", "bold yellow"))
        for line in wrapped(Text(lesson.hints[k]), console.width):
            console.print(line)
        book.hint(lesson, k + 1)
    return 0
