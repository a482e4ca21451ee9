"""Watch mode in a terminal: draws what `Watch` shows when it has changed, and does what it wishes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Group
from rich.control import Control
from rich.text import Text

from ..terminal import Output
from .attempt import Attempt, surroundings
from .keys import CLOSED, Keys, Lines
from .manifest import Lesson
from .page import plain
from .watch import Watch, Wish
from .workbook import Workbook

__all__ = ["tell", "watch"]

_TURN = 0.1  # seconds from one look at keys, file, window and check to the next
_LARGEST = 1 << 22  # bytes of an exercise that are looked at


def watch(book: Workbook) -> int:
    """Watch mode until the learner leaves; gives the exit status: 0, or 128 + the signal that ended it.

    Raises:
        MinigradError: The learner's progress cannot be read.
        KeyboardInterrupt: Ctrl-C.
    """
    console = Output()
    full = sys.stdin.isatty() and console.is_terminal and not console.is_dumb_terminal
    session = _FullScreen(book, console) if full else _Plain(book, console)
    try:
        with _ends() as ended:
            session.run()
    except _Ended:
        return 128 + ended[0]
    finally:
        session.stop()
    return 0


def tell(book: Workbook | None, lesson: Lesson, words: Sequence[str] = ()) -> int:
    """Run a lesson, the learner's copy where there is one, in this terminal; gives its exit status.

    Args:
        book: The learner's copy, if there is one.
        lesson: The lesson.
        words: What its lesson.py is given.
    """
    own = book.folder / lesson.folder.name / "lesson.py" if book else lesson.folder / "lesson.py"
    file = own if own.is_file() else lesson.folder / "lesson.py"
    # Ctrl-C is for the lesson. It must not be ignored here: the lesson would inherit that.
    before = _caught(signal.SIGINT, lambda number, frame: None)
    try:
        status = subprocess.run([sys.executable, str(file), *words], env=surroundings(), check=False).returncode
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


class _Ended(BaseException):
    """A signal wants the program to end; no `except Exception` on the way holds it up."""


class _Session:
    """What both ways to watch have in common: the check under way and the file that is looked at."""

    def __init__(self, book: Workbook, console: Output) -> None:
        self.book, self.console, self.state = book, console, Watch(book)
        self._attempt: Attempt | None = None
        self._seen = _print_of(self._exercise)

    @property
    def _exercise(self) -> Path:
        return self.book.exercise(self.state.lesson)

    def stop(self) -> None:
        """Stop the check under way."""
        if self._attempt is not None:
            self._attempt.stop()
            self._attempt = None

    def do(self, wish: Wish | None) -> bool:
        """Do what the state wishes; False if that is to leave."""
        if wish is Wish.CHECK:
            self.stop()
            self._seen = _print_of(self._exercise)
            self._attempt = Attempt(self.state.lesson, self._exercise)
        elif wish is Wish.TELL:
            self.tell()
        return wish is not Wish.QUIT

    def look(self) -> bool:
        """See whether the exercise has been saved, and whether its check has ended; True if one of them has."""
        now = _print_of(self._exercise)
        if now != self._seen:
            self.do(self.state.saved())
            return True
        outcome = self._attempt.outcome() if self._attempt else None
        if outcome is None:
            return False
        self._attempt = None
        self.state.checked(outcome)
        return True

    def tell(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError


class _FullScreen(_Session):
    """On the terminal's second screen, with keys."""

    def run(self) -> None:
        self._drawn: tuple[object, ...] = ()
        with ExitStack() as self._stack:
            self._enter()
            self.do(Wish.CHECK)
            changed = True
            while True:
                self._draw(changed)
                key = self._keys.get(_TURN)
                if key is not None and not self.do(self.state.press(key)):
                    return
                changed = self.look() or key is not None
                if sys.platform != "win32" and self._pausing:  # Ctrl-Z
                    self._leave()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    self._enter()

    def _enter(self) -> None:
        self._pausing = False
        if sys.platform != "win32":
            before = _caught(signal.SIGTSTP, self._pause)
            if before is not None:
                self._stack.callback(signal.signal, signal.SIGTSTP, before)
        self._screen = self._stack.enter_context(self.console.screen(hide_cursor=True))
        self._keys = self._stack.enter_context(Keys())
        self._drawn = ()

    def _leave(self) -> None:
        self._stack.close()

    def _pause(self, number: int, frame: FrameType | None) -> None:
        self._pausing = True

    def _draw(self, changed: bool) -> None:
        width, height = self.console.size  # asked each time: this is how a change of the window is seen
        if not changed and self._drawn[:2] == (width, height):
            return
        lines = plain(self.state.view(width, height), ascii_only=self.console.options.ascii_only)
        drawn = (width, height, *((line.plain, line.spans) for line in lines))
        if drawn != self._drawn:
            self._drawn = drawn
            with self.console:  # one write: over the old text, which is not cleared first, so that nothing flickers
                self.console.control(Control.home())
                self._screen.update(Group(*lines))

    def tell(self) -> None:
        self._leave()
        tell(self.book, self.state.lesson)
        with suppress(EOFError, KeyboardInterrupt):
            self.console.input(Text("\n  Enter: back to the exercise ", "dim"))
        self._enter()


class _Plain(_Session):
    """One text after another, and lines in place of keys: for a pipe, a file, an editor's window."""

    def run(self) -> None:
        lines = Lines(sys.stdin.fileno())
        self.do(Wish.CHECK)
        while True:
            self._settle()
            self._draw()
            while (key := lines.get(_TURN)) is None:
                if self.look():
                    self._settle()
                    self._draw()
            if key == CLOSED or not self.do(self.state.press(key)):
                return

    def _settle(self) -> None:
        while self.state.checking:
            if not self.look():
                time.sleep(_TURN / 4)

    def _draw(self) -> None:
        lines = plain(self.state.view(self.console.width), ascii_only=self.console.options.ascii_only)
        self.console.print(Group(*lines))
        self.console.rule(style="dim", characters="-")
        sys.stdout.flush()

    def tell(self) -> None:
        sys.stdout.flush()
        tell(self.book, self.state.lesson, ["--no-pause"])


def _print_of(path: Path) -> tuple[object, ...]:
    """What changes when a file is saved: its time, its size, its content (some disks know no more than seconds)."""
    try:
        said = path.stat()
        with open(path, "rb") as file:
            return said.st_mtime_ns, said.st_size, hashlib.sha256(file.read(_LARGEST)).digest()
    except OSError:  # some editors take the old file away before the new one comes
        return ()


def _caught(number: signal.Signals, handler: signal._HANDLER) -> signal._HANDLER:
    """Set a handler and give the one before; None where that is not ours to do, outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(number, handler)


@contextmanager
def _ends() -> Iterator[list[int]]:
    """Signals that end the program raise _Ended in here, so that the terminal is given back; which one is listed."""
    ended = list[int]()

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        raise _Ended

    with ExitStack() as stack:
        for name in ("SIGTERM", "SIGHUP"):
            if (number := getattr(signal, name, None)) is not None:
                before = _caught(number, end)
                if before is not None:
                    stack.callback(signal.signal, number, before)
        yield ended
