"""Watch the current exercise of the course: checked at every save, with hints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..course.manifest import Lesson, called
from ..course.page import relative
from ..course.session import watch
from ..course.workbook import DEFAULT, Prepared, Workbook, prepare
from ..errors import LessonError
from ..terminal import Output, word

__all__ = ["add_arguments", "add_lesson", "asked", "no_copy", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.usage = "minigrad course [DIR]\n       minigrad course init [DIR]"
    parser.add_argument(
        "words", metavar="[init] [DIR]", nargs="*",
        help=f"init makes a copy of the lessons to work in, or completes one; DIR is where (default: the copy that the "
        f"current folder lies in, else {DEFAULT})",
    )  # fmt: skip
    parser.epilog = (
        "In watch mode: h hint, n next, l list, t tell the lesson, r run the check again,\n"
        "s solution (once solved), x reset, q quit. In a pipe: the letter and Enter.\n\n"
        "Exit status: 0; 2 bad input; 130 Ctrl-C."
    )


def run(args: argparse.Namespace) -> int:
    """Make the learner's copy, or watch it.

    Raises:
        MinigradError: There is no copy, none can be made, or its progress is damaged.
    """
    words = list(args.words)
    making = words[:1] == ["init"]
    folders = words[making:]
    if len(folders) > 1:
        raise LessonError(f"course: {' '.join(words)!r:.80} is more than one folder.\n  Give one (see: course --help).")
    if "" in folders:
        raise LessonError("course: the folder's name is empty.\n  Give the name of a folder.")
    folder = Path(folders[0]) if folders else None
    book = Workbook.at(folder) if folder else Workbook.found()
    if making:
        _show(prepare(folder or (book.folder if book else DEFAULT)))
        return 0
    if book is None:
        folder = folder or DEFAULT
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise no_copy(folder)
        try:
            said = Output().input(f"There is no copy of the course here. Make one in {word(str(folder))}? [Y/n] ")
        except EOFError:
            said = "n"
        if said.strip().lower() not in ("", "y", "yes"):
            return 0
        prepare(folder)
        book = Workbook(folder.absolute())
    return watch(book)


def add_lesson(parser: argparse.ArgumentParser, without: str) -> None:
    """Let a command name a lesson, or say what it does without one."""
    parser.add_argument("lesson", metavar="N", nargs="?", help=f"7, 07 or 07_gradient_clipping; {without}")


def asked(number: str | None) -> tuple[Workbook, Lesson]:
    """The learner's copy, and the lesson in it that a command names; None: the current one.

    Raises:
        LessonError: There is no copy, or no such lesson.
    """
    book = Workbook.found()
    if book is None:
        raise no_copy()
    return book, book.current() if number is None else called(number, book.course)


def no_copy(folder: Path = DEFAULT) -> LessonError:
    """There is no learner's copy, and one is needed."""
    where = "" if folder == DEFAULT else f" {word(str(folder))}"
    return LessonError(f"course: there is no copy of the course here.\n  Make one: minigrad course init{where}.")


def _show(done: Prepared) -> None:
    folder, console = relative(done.folder), Output()
    said = f"{word(folder)}: {done.written} {'file' if done.written == 1 else 'files'} written"
    console.print(said + (f", {done.kept} kept as they were." if done.kept else "."), soft_wrap=True)
    for path in done.other:
        console.print(f"  kept, and not this version's: {word(relative(path))}", soft_wrap=True)
    go = "" if folder == "." else f"cd {word(folder)}, then "
    console.print(f"Go on: {go}minigrad course", soft_wrap=True)
