"""Keys, one at a time, from a terminal of Linux, macOS or Windows; and lines, where there is none."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import select
    import termios
    import tty

__all__ = ["CLOSED", "Keys", "Lines", "named"]

CLOSED = "closed"
"""The name of the end of the input."""

_SEQUENCES = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "page up", "\x1b[6~": "page down",
    "\x1b[H": "home", "\x1b[F": "end", "\x1bOH": "home", "\x1bOF": "end", "\x1b[1~": "home", "\x1b[4~": "end",
    "\x1b": "escape", "\r": "enter", "\n": "enter", " ": "page down", "\x04": CLOSED, "\x03": CLOSED,
    "\xe0H": "up", "\xe0P": "down", "\xe0I": "page up", "\xe0Q": "page down", "\xe0G": "home", "\xe0O": "end",
}  # fmt: skip


def named(text: str) -> list[str]:
    """The names of the keys that a terminal has sent: letters as they are, others as words; unknown ones left out.

    >>> named("hj\\x1b[A\\r"), named("\\x1b[99~n"), named("\\x1b")
    (['h', 'j', 'up', 'enter'], ['n'], ['escape'])
    """
    found, at = list[str](), 0
    while at < len(text):
        end = at + 1
        if text[at] == "\x1b" and text[end : end + 1] in ("[", "O"):
            end += 1
            while end < len(text) and not "@" <= text[end] <= "~":
                end += 1
            end += 1
        elif text[at] in "\xe0\0":  # Windows: a second part follows
            end += 1
        part = text[at:end].replace("\0", "\xe0") if len(text[at:end]) == 2 else text[at:end]
        if part in _SEQUENCES or (len(part) == 1 and part.isprintable()):
            found.append(_SEQUENCES.get(part, part))
        at = end
    return found


class Keys:
    """The keys of the terminal, unseen and without Enter, as long as this block lasts; Ctrl-C stays an interrupt."""

    def __init__(self) -> None:
        self._waiting = list[str]()

    if sys.platform == "win32":

        def __enter__(self) -> Keys:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def _read(self, seconds: float) -> str:
            end = time.monotonic() + seconds
            while not msvcrt.kbhit():
                if time.monotonic() >= end:
                    return ""
                time.sleep(0.02)
            text = ""
            while msvcrt.kbhit():
                text += msvcrt.getwch()
            return text

    else:

        def __enter__(self) -> Keys:
            self._input = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSADRAIN)
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

        def _read(self, seconds: float) -> str:
            given = b""
            while select.select([self._input], [], [], 0.03 if given else seconds)[0]:
                try:
                    some = os.read(self._input, 1024)
                except OSError:  # the terminal is gone
                    some = b""
                given += some or b"\x04"
                if not some or not given.endswith(b"\x1b"):  # else perhaps the first part of an arrow
                    break
            return given.decode(errors="ignore")

    def get(self, seconds: float) -> str | None:
        """The name of the next key; None if there is none for so long."""
        if not self._waiting:
            self._waiting = named(self._read(seconds))
        return self._waiting.pop(0) if self._waiting else None


class Lines:
    """Lines of a file in place of keys: the first letter counts, a number stays whole, an empty line is Enter."""

    def __init__(self, source: int) -> None:
        self._lines = queue.Queue[str]()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def get(self, seconds: float) -> str | None:
        """The name of the next key; None if there is none for so long."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if not line:
            self._lines.put(line)  # the end stays the end
            return CLOSED
        word = line.strip()
        return word if word.isdecimal() else word[:1] or "enter"

    def _read(self, source: int) -> None:
        line = b""
        while some := os.read(source, 1024):  # sys.stdin would be locked by this thread when Python ends
            *whole, line = (line + some).split(b"\n")
            for each in whole:
                self._lines.put(each.decode(errors="ignore") + "\n")
        if line:
            self._lines.put(line.decode(errors="ignore") + "\n")
        self._lines.put("")
