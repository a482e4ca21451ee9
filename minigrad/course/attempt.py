"""One check of an exercise in a process of its own: it may loop, crash, end itself, print and fill the memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .manifest import Lesson
from .practise import Outcome

__all__ = ["SECONDS", "Attempt", "surroundings"]

SECONDS = 20.0
"""How long a check may take: those of the lessons take at most 5."""

_GRACE = 5.0  # seconds after the limit, until a process that cannot end itself is ended
_KEPT = 4000  # bytes of what is printed
_REPORT = 1 << 20  # bytes of the report


def surroundings() -> dict[str, str]:
    """The environment for another Python: it finds this very minigrad, and writes nothing beside a learner's files."""
    given = dict(os.environ)
    home = Path(__file__).parents[2]
    if home.name not in ("site-packages", "dist-packages"):  # a checkout, perhaps found by the current folder alone
        given["PYTHONPATH"] = os.pathsep.join([str(home), *filter(None, [given.get("PYTHONPATH")])])
    return {**given, "PYTHONDONTWRITEBYTECODE": "1"}


class Attempt:
    """A check under way. Ask `outcome` now and then; `stop` it when it is no longer wanted.

    Args:
        lesson: The lesson.
        exercise: The learner's file.
        seconds: How long it may take.
    """

    def __init__(self, lesson: Lesson, exercise: Path, *, seconds: float = SECONDS) -> None:
        exercise = exercise.absolute()
        self._name, self._seconds, self._end = exercise.name, seconds, time.monotonic() + seconds + _GRACE
        words = ["-m", "minigrad.course.isolated", str(lesson.folder.absolute()), str(exercise), str(seconds)]
        printing = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, *words], env={**surroundings(), **printing}, stdin=subprocess.DEVNULL,
            cwd=exercise.parent if exercise.parent.is_dir() else None, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._report, self._printed, self._stopped = bytearray(), bytearray(), False
        self._readers = [
            threading.Thread(target=_read, args=(stream, kept, most), daemon=True)
            for stream, kept, most in (
                (self._process.stdout, self._report, _REPORT), (self._process.stderr, self._printed, _KEPT),
            )
        ]  # fmt: skip
        for reader in self._readers:
            reader.start()

    def outcome(self) -> Outcome | None:
        """What was found; None while it runs."""
        late = time.monotonic() > self._end
        if self._process.poll() is None and not late:
            return None
        self.stop()
        printed = self._printed.decode(errors="backslashreplace").splitlines()
        if len(self._printed) == _KEPT:
            printed.append("… and more")
        return self._found(late)._replace(printed=tuple(printed))

    def wait(self) -> Outcome:
        """What was found, when it is through. Whatever interrupts the waiting stops the check."""
        try:
            while (outcome := self.outcome()) is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.5)
            return outcome
        finally:
            self.stop()

    def stop(self) -> None:
        """End the process and all that it has started; a second time this does nothing."""
        if self._stopped:
            return
        self._stopped = True  # its number may soon be another's
        with suppress(OSError):  # it has ended
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(1)  # what fled from the group may hold a pipe: it is left alone

    def _found(self, late: bool) -> Outcome:
        report = self._report.decode(errors="replace")
        with suppress(ValueError, TypeError):
            said = json.loads(report)
            return Outcome(said["solved"], tuple(said["passed"]), said["problem"], tuple(said["details"]))
        lines = re.findall(rf'File "[^"\n]*\b{re.escape(self._name)}", line (\d+) in (\S+)', report)
        where = f"line {lines[0][0]} of {self._name}" if lines else self._name
        if late or report.startswith("Timeout"):
            inside = f" in {lines[0][1]}" if lines and lines[0][1] != "<module>" else ""
            advice = f"It was at {where}{inside}. Is there a loop that does not end?"
            return Outcome(False, (), f"it is not through after {self._seconds:.0f} s", (advice,))
        status = self._process.returncode
        if status < 0:
            killed = -status == getattr(signal, "SIGKILL", None)
            advice = "The system ended it: is the memory full?" if killed else "What is called there breaks Python."
            return Outcome(False, (), f"{where}: Python was ended by {_signal_name(-status)}", (advice,))
        advice = "Take out what ends the program, such as exit."
        return Outcome(False, (), f"{where}: the program ended, with status {status}, before it was checked", (advice,))


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _read(stream: BinaryIO, kept: bytearray, most: int) -> None:
    """Read to the end, so that the writer need not wait; keep the first bytes."""
    with stream:
        while some := stream.read1(1 << 16):  # type: ignore[attr-defined]
            kept += some[: most - len(kept)]
