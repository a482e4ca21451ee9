"""How the command line and the lessons print."""

from __future__ import annotations

import os
import shlex
import sys

from rich.console import Console

__all__ = ["Output", "escaped", "one_line", "quieted", "word"]


class Output(Console):
    """A console that shows text as it stands, and ends as `print` does when nobody reads any more."""

    def __init__(self) -> None:
        super().__init__(markup=False, highlight=False)

    def on_broken_pipe(self) -> None:
        raise  # the error under way: main ends quietly


def escaped(text: str) -> str:
    """The text with its lines, and with nothing else that moves the cursor.

    >>> escaped("a\\n\\tb\\x1b[31m\\u202e")
    'a\\n\\tb\\\\x1b[31m\\\\u202e'
    """
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def word(path: str) -> str:
    """A path as one word of a command line.

    >>> word("my model"), word("a.minigrad")
    ("'my model'", 'a.minigrad')
    """
    return escaped(shlex.quote(path)).replace("\n", "\\n")


def one_line(text: str) -> str:
    """A message of several lines as one, with nothing in it that moves the cursor.

    >>> one_line("read 'a': it is empty.\\n  Give a text.\\x1b")
    "read 'a': it is empty. Give a text.\\\\x1b"
    """
    line = " ".join(part.strip() for part in text.split("\n") if part.strip())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def quieted() -> int:
    """Send nowhere what is yet to be written, after a BrokenPipeError: the reader has seen enough; gives the status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
