"""Show how far one has come in the course."""

from __future__ import annotations

import argparse

from ..course.page import bar, plain, row
from ..course.workbook import Workbook
from ..terminal import Output
from .course import no_copy

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.epilog = "Exit status: 0; 2 bad input."


def run(args: argparse.Namespace) -> int:
    """Show a bar and every lesson.

    Raises:
        MinigradError: There is no copy, or the learner's progress is damaged.
    """
    book = Workbook.found()
    if book is None:
        raise no_copy()
    said, current, console = book.progress(), book.current(), Output()
    solved = sum(lesson.folder.name in said.solved for lesson in book.course)
    lines = [bar(solved, len(book.course), min(console.width, 60))]
    for lesson in book.course:
        name = lesson.folder.name
        line = row(lesson, solved=name in said.solved, current=lesson == current)
        facts = [f"solved {said.solved[name]}"] if name in said.solved else []
        seen = said.seen(lesson)
        facts += [f"{seen} of {len(lesson.hints)} hints seen"] if seen else []
        if facts:
            line.append(f"  {', '.join(facts)}", "dim")
        lines.append(line)
    for line in plain(lines, ascii_only=console.options.ascii_only):
        console.print(line)
    return 0
