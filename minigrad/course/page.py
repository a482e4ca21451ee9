"""Lines for a screen: wrapped, cut, marked; and how far one has come, as a bar and as a list."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .manifest import Lesson

__all__ = ["WIDE", "bar", "cut", "plain", "put", "relative", "row", "wrapped"]

WIDE = 96
"""A line of prose is not read beyond."""

_SPELLED = str.maketrans("✓✗·…▶▼▲█░─", "+x-.>v^#.-")
_SHAPE = Console(width=80)  # wraps


def bar(solved: int, count: int, width: int) -> Text:
    """How far one has come.

    >>> bar(1, 4, 21).plain
    '[██░░░░░░] 1/4 solved'
    """
    said = f"{solved}/{count} solved"
    cells = width - len(said) - 3
    if cells < 4:
        return Text(said)
    full = cells * solved // max(count, 1)
    return Text.assemble("[", ("█" * full, "green"), ("░" * (cells - full), "dim"), "] ", said)


def row(lesson: Lesson, *, solved: bool, current: bool) -> Text:
    """A lesson in a line of a list."""
    mark = ("✓", "green") if solved else ("▶", "bold") if current else ("·", "dim")
    return Text.assemble(mark, f" {lesson.number:02d}  ", (lesson.title, "bold" if current else ""))


def plain(texts: Iterable[Text], *, ascii_only: bool) -> list[Text]:
    """The same where a terminal has no more than ASCII: each mark in one letter that it has."""
    lines = [text.copy() for text in texts]
    if ascii_only:
        for line in lines:
            line.plain = line.plain.translate(_SPELLED)
    return lines


def put(console: Console, texts: Iterable[Text]) -> None:
    """Print lines, wrapped, in letters that the terminal has."""
    for line in plain(texts, ascii_only=console.options.ascii_only):
        for part in wrapped(line, console.width):
            console.print(part)


def wrapped(text: Text, width: int) -> list[Text]:
    """In lines of this width; what is set in stays set in, and what follows "* " stands below itself."""
    text = text.copy()
    text.expand_tabs(4)
    made = list[Text]()
    for line in text.split("\n", allow_blank=True):
        indent = len(line.plain) - len(line.plain.lstrip())
        indent += 2 * line.plain.startswith("* ", indent)
        if 0 < indent < len(line.plain):
            parts = line[indent:].wrap(_SHAPE, max(width - indent, 8))
            made += [Text.assemble(" " * indent if k else line[:indent], part) for k, part in enumerate(parts)]
        else:
            made += line.wrap(_SHAPE, width)
    for line in made:
        line.rstrip()
    return made or [Text()]


def cut(text: Text, width: int) -> Text:
    """In one line."""
    text = text.copy()
    text.truncate(width, overflow="ellipsis")
    return text


def relative(path: Path) -> str:
    """The path from here, if it lies below; else the whole."""
    path, here = path.absolute(), Path().absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
