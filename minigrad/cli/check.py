"""Check an exercise of the course once."""

from __future__ import annotations

import argparse

from rich.text import Text

from ..course.attempt import Attempt
from ..course.page import put
from ..course.practise import told
from ..terminal import Output
from .course import add_lesson, asked

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    add_lesson(parser, "default: the current one")
    parser.epilog = "Exit status: 0 solved; 1 not solved; 2 bad input; 130 Ctrl-C."


def run(args: argparse.Namespace) -> int:
    """Check an exercise, remember that it is solved; 1 if it is not.

    Raises:
        MinigradError: There is no copy or no such lesson, or the learner's progress is damaged.
    """
    book, lesson = asked(args.lesson)
    current = book.current()
    outcome = Attempt(lesson, book.exercise(lesson)).wait()
    console = Output()
    console.print(Text(f"{lesson.number:02d} · {lesson.title}", "bold cyan"))
    put(console, told(outcome))
    if not outcome.solved:
        if lesson.hints:
            console.print(Text(f"A hint: minigrad hint {lesson.number}", "dim"))
        return 1
    book.solve(lesson)
    following = book.after(lesson)
    if following is None:
        console.print(f"All {len(book.course)} exercises are solved.")
    else:
        if lesson == current:
            book.go(following)
        console.print(f"Next: minigrad lesson {following.number} ({following.title})")
    return 0
