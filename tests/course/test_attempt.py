"""A check in a process of its own survives whatever a learner's code does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from minigrad.course.attempt import Attempt
from minigrad.course.practise import Outcome
from minigrad.course.workbook import Workbook
from tests.course.made import solve


def attempt(book: Workbook, text: str, seconds: float = 20.0) -> Outcome:
    book.exercise(book.course[0]).write_text(text, "utf-8")
    return Attempt(book.course[0], book.exercise(book.course[0]), seconds=seconds).wait()


def test_the_solution_passes_and_a_wrong_answer_does_not(book: Workbook) -> None:
    solve(book.folder, 1)
    assert Attempt(book.course[0], book.exercise(book.course[0])).wait() == Outcome(
        True, ("it answers", "the answer"), "", (), ()
    )
    solve(book.folder, 1, 5)
    found = Attempt(book.course[0], book.exercise(book.course[0])).wait()
    assert (found.solved, found.problem, found.passed) == (False, "the answer", ("it answers",))


def test_what_is_printed_is_kept_apart_from_what_is_found(book: Workbook) -> None:
    printing = "import sys\nprint('{\"solved\": false}')\nsys.stderr.write('b é\\n')\n"
    found = attempt(book, f"{printing}def answer(): return 1\n")
    assert found == Outcome(True, ("it answers", "the answer"), "", (), ('{"solved": false}', "b é"))


LOOPS = {
    "at its beginning": ("while True:\n    pass\n", "of exercise.py. Is there a loop"),
    "in a function": ("def answer():\n    while True:\n        print('x' * 999)\n", "line 3 of exercise.py in answer."),
    "asleep": ("import time\ntime.sleep(1000)\n", "line 2 of exercise.py."),
    "without interrupt": ("def answer():\n    while True:\n        try:\n            while True: pass\n"
                          "        except BaseException: pass\n", "line 4 of exercise.py in answer."),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", LOOPS)
def test_a_loop_that_does_not_end_is_ended_and_its_line_told(book: Workbook, case: str) -> None:
    text, where = LOOPS[case]
    found = attempt(book, text, seconds=1)
    assert found.problem == "it is not through after 1 s"
    assert where in found.details[0]
    assert len(found.printed) < 10
    assert all(len(line) <= 4000 for line in found.printed)
    assert (found.printed[-1:] == ("… and more",)) == ("print" in text)


ENDS = {
    "exits": ("exit(0)\n", "line 1 of exercise.py: it ends the program"),
    "leaves at once": ("import os\nos._exit(0)\n", "exercise.py: the program ended, with status 0"),
    "closes its output": ("import os, sys\nos.close(1)\nsys.stdout.close()\ndef answer(): return 2\n", "the answer"),
    "recurses": ("def answer(): return answer()\n", "line 1 of exercise.py: RecursionError"),
    "leaves a thread": ("import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()\n"
                        "def answer(): return 2\n", "the answer"),
    "asks": ("input()\n", "line 1 of exercise.py: EOFError"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", ENDS)
def test_an_end_that_comes_too_early_is_told(book: Workbook, case: str) -> None:
    text, problem = ENDS[case]
    found = attempt(book, text)
    assert not found.solved
    assert problem in found.problem


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a signal")
def test_a_crash_of_python_itself_is_told_with_its_line(book: Workbook) -> None:
    found = attempt(book, "import os, signal\ndef answer():\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    assert "line 3 of exercise.py: Python was ended by SIGSEGV" in found.problem
    killed = attempt(book, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert "SIGKILL" in killed.problem
    assert "memory" in killed.details[0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the addresses")
def test_memory_without_end_is_an_error_of_the_learner(book: Workbook) -> None:
    found = attempt(book, "import numpy\ndef answer():\n    return numpy.ones(10**10)\n")
    assert found.problem.startswith("line 3 of exercise.py: ")
    assert "Memory" in found.problem


@pytest.mark.slow
def test_a_stopped_check_leaves_no_process(book: Workbook, tmp_path: Path) -> None:
    """Not even those that the learner's code has started."""
    note = tmp_path / "numbers"
    book.exercise(book.course[0]).write_text(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"open({str(note) + '.new'!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(note) + '.new'!r}, {str(note)!r})\n"
        "while True: pass\n"
    )
    running = Attempt(book.course[0], book.exercise(book.course[0]))
    end = time.monotonic() + 60
    while not note.exists():
        assert time.monotonic() < end
        assert running.outcome() is None
        time.sleep(0.05)
    running.stop()
    running.stop()  # a second time does nothing
    for number in map(int, note.read_text().split()):
        while time.monotonic() < end and alive(number):
            time.sleep(0.05)
        assert not alive(number)


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"  # ended, not yet waited for


@pytest.mark.slow
def test_nothing_is_written_beside_the_exercise(book: Workbook) -> None:
    (book.folder / "01_n1" / "helper.py").write_text("ANSWER = 1\n")
    before = sorted(book.folder.rglob("*"))
    assert attempt(book, "import helper\ndef answer(): return helper.ANSWER\n").solved
    assert sorted(book.folder.rglob("*")) == before


@pytest.mark.slow
def test_a_missing_folder_is_told(book: Workbook) -> None:
    book.exercise(book.course[0]).unlink()
    for path in (book.folder / "01_n1").iterdir():
        path.unlink()
    (book.folder / "01_n1").rmdir()
    found = Attempt(book.course[0], book.exercise(book.course[0])).wait()
    assert found.problem == "there is no exercise.py"
