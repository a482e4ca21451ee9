"""Check an exercise in this process, which was started for it: `python -m minigrad.course.isolated LESSON EXERCISE S`.

What the learner's code prints goes to standard error. Standard output gets the Outcome as JSON, or, if the code runs
longer than S seconds or breaks Python itself, where it was.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from .manifest import lesson_in
from .practise import examine

if sys.platform != "win32":
    import resource

__all__ = ["main"]

_MEMORY = 8 << 30  # bytes of addresses: what asks for more gets a MemoryError, and the machine stays usable


def main(argv: list[str]) -> None:
    """Check, report, end without asking the learner's code."""
    folder, exercise, seconds = Path(argv[0]), Path(argv[1]), float(argv[2])
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
        os.dup2(2, 1)
        if sys.platform != "win32":
            spent = int(seconds) + 10  # of processor time, should nobody be left to end this process
            for limit, most in ((resource.RLIMIT_CPU, spent), (resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
                with suppress(ValueError, OSError):  # not every system has each
                    resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
        faulthandler.enable(report)
        faulthandler.dump_traceback_later(seconds, exit=True, file=report)
        outcome = examine(lesson_in(folder), exercise)
        faulthandler.cancel_dump_traceback_later()
        with suppress(Exception):  # a learner may have closed it
            sys.stdout.flush()
        json.dump(outcome._asdict(), report)
        report.flush()
        os._exit(0)  # neither his threads nor what he wants done at the end


if __name__ == "__main__":
    main(sys.argv[1:])
