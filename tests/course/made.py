"""A small course of its own: what the course does must not depend on the lessons that there are."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import minigrad
from minigrad.course.manifest import LESSONS

MANIFEST = """[lesson]
title = Lesson {number}
teaches = What {number} is,
    and why.
seconds = 10
seeds = 0 1 2
hints =
    - It is a number.
    - It is {number}.
"""
EXERCISE = '''"""Exercise {number}: say the number."""

from __future__ import annotations

from minigrad.course import hole, practise


def answer() -> int:
    return hole("the number {number}")


if __name__ == "__main__":
    practise(__file__)
'''
SOLUTION = (
    EXERCISE.replace("Exercise", "Solution").replace("hole, ", "").replace('hole("the number {number}")', "{number}")
)
CHECK = """from typing import Any

from minigrad.course import Judge


def check(work: Any, judge: Judge) -> None:
    judge.true("it answers", work.answer() is not None)
    judge.equal("the answer", work.answer(), {number})
"""
LESSON = '''"""Lesson {number}."""

from minigrad.course import Narrator, narrate


def lesson(lesson: Narrator) -> None:
    lesson.question("What is {number}?")
    lesson.step("1. A step")
    lesson.say("A number.")
    lesson.claim("{number} is {number}", True)
    lesson.answer("It is {number}.")


if __name__ == "__main__":
    narrate(lesson, __file__)
'''
FILES = {
    "README.md": "# {number}. Lesson {number}\n", "manifest.ini": MANIFEST, "exercise.py": EXERCISE,
    "solution.py": SOLUTION, "check.py": CHECK, "lesson.py": LESSON,
}  # fmt: skip


def made(folder: Path, count: int = 3) -> Path:
    """A folder of lessons 01_n1, 02_n2, …"""
    for number in range(1, count + 1):
        lesson = folder / f"{number:02d}_n{number}"
        lesson.mkdir(parents=True)
        for name, text in FILES.items():
            (lesson / name).write_text(text.replace("{number}", str(number)), "utf-8")
    return folder


def solve(copy: Path, number: int, answer: int | None = None) -> None:
    """Save an answer, by default the right one, as an editor would."""
    text = SOLUTION.replace("{number}", str(number))
    text = text if answer is None else text.replace(f"return {number}", f"return {answer}")
    (copy / f"{number:02d}_n{number}" / "exercise.py").write_text(text, "utf-8")


def environment(course: Path, **more: str) -> dict[str, str]:
    """For a process: this minigrad, that course, no colour or size taken from whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    home = str(Path(minigrad.__file__).parents[1])
    return {**kept, LESSONS: str(course), "PYTHONPATH": home, "TERM": "xterm-256color", **more}


class Terminal:
    """A process on a terminal of its own; what it shows is the text since the screen was last drawn anew."""

    def __init__(self, words: list[str], *, cwd: Path, env: dict[str, str], columns: int = 80, lines: int = 24) -> None:
        self._fd, inside = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=env, stdin=inside, stdout=inside, stderr=inside,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C reaches it
        )  # fmt: skip
        self._inside = inside  # kept open: else there is no terminal left to look at, once the process has ended
        self.before = self.modes()
        self.written = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def modes(self) -> list[object]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self._inside)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def interrupt(self, done: Callable[[], bool], seconds: float = 60) -> None:
        """Press Ctrl-C, after 5 s again: one that arrives between a prompt and its read leaves the read waiting."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self.press("\x03")
            again = time.monotonic() + 5
            while not done() and time.monotonic() < again:
                self._read()

    def see(self, text: str, seconds: float = 60) -> str:
        """Wait until the text is on the screen; gives the screen."""
        end = time.monotonic() + seconds
        while text not in self.screen():
            assert time.monotonic() < end, f"{text!r} is not shown, but:\n{self.screen()}"
            assert self._read() or self.process.poll() is None, f"it ended without {text!r}:\n{self.screen()}"
        return self.screen()

    def see_no_more(self, text: str, seconds: float = 60) -> None:
        """Wait until a new frame without the text stands on the screen."""
        end = time.monotonic() + seconds
        while text in self.screen():
            assert time.monotonic() < end, f"{text!r} is still shown:\n{self.screen()}"
            self._read()

    def screen(self) -> str:
        """The last whole frame, without its colours."""
        frame = self.written.decode(errors="replace").rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame)

    def end(self, seconds: float = 60) -> int:
        """Read to the end; gives the exit status."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end:\n{self.screen()}"
            self._read()
        while select.select([self._fd], [], [], 0.05)[0]:
            self._read()
        return self.process.returncode

    def _read(self) -> bool:
        """Take what has been written in the meantime, if anything has."""
        if not select.select([self._fd], [], [], 0.2)[0]:
            return False
        self.written += os.read(self._fd, 1 << 16)
        return True

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self._inside)
