"""How the command line prints."""

from __future__ import annotations

import shlex

from rich.console import Console

__all__ = ["Output", "escaped", "word"]


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
