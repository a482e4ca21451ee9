"""Checking an exercise in this process: what is wrong is told in the learner's terms, and nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.course.manifest import LESSONS, lessons
from minigrad.course.practise import Outcome, examine, lesson_of, load, practise, told
from minigrad.course.workbook import Workbook
from minigrad.errors import LessonError
from tests.course.made import EXERCISE, environment, solve

WRONG: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "no Python": ("def f(:\n", "line 1 of exercise.py is no Python: invalid syntax", ("def f(:",)),
    "raises": ("def answer():\n    return 1 / 0\n", "line 2 of exercise.py: ZeroDivisionError",
               ("division by zero", "there:  return 1 / 0")),
    "at its beginning": ("import nothing\n", "line 1 of exercise.py: ModuleNotFoundError",
                         ("No module named 'nothing'", "there:  import nothing")),
    "lacks a name": ("x = 1\n", "exercise.py has no answer",
                     ("The check calls it by this name: let it be called so.",)),
    "another signature": ("def answer(x):\n    return x\n", "exercise.py: TypeError",
                          ("answer() missing 1 required positional argument: 'x'",
                           'asked:  judge.true("it answers", work.answer() is not None)')),
    "exits": ("def answer():\n    exit(3)\n", "line 2 of exercise.py: it ends the program",
              ("Take out the call of exit.", "there:  exit(3)")),
    "a long story": ("raise ValueError('x\\n' * 5000)\n", "line 1 of exercise.py: ValueError",
                     ("x",) * 12 + ("there:  raise ValueError('x\\n' * 5000)",)),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_a_learners_code_raises_is_told_with_its_line(book: Workbook, case: str) -> None:
    text, problem, details = WRONG[case]
    file = book.exercise(book.course[0])
    file.write_text(text)
    assert examine(book.course[0], file) == Outcome(False, (), problem, details)


def test_a_hole_is_told_with_its_goal(book: Workbook) -> None:
    found = examine(book.course[1], book.exercise(book.course[1]))
    assert found == Outcome(False, (), "line 9 of exercise.py is still a hole", ("the number 2",))


def test_a_wrong_answer_is_told_with_expected_and_found_after_what_is_right(book: Workbook) -> None:
    solve(book.folder, 2, 5)
    found = examine(book.course[1], book.exercise(book.course[1]))
    assert found == Outcome(
        False, ("it answers",), "the answer", ("expected  2", "found     5", "it is off by 3"),
    )  # fmt: skip


def test_the_solution_passes(book: Workbook) -> None:
    solve(book.folder, 2)
    assert examine(book.course[1], book.exercise(book.course[1])) == Outcome(True, ("it answers", "the answer"), "", ())


def test_a_missing_exercise_is_told(book: Workbook) -> None:
    file = book.exercise(book.course[0])
    file.unlink()
    found = examine(book.course[0], file)
    assert found.problem == "there is no exercise.py"
    assert found.details[-1] == f"Get it back: minigrad course init {book.folder}"


def test_two_saves_of_one_size_in_one_second_are_both_seen(book: Workbook) -> None:
    """Python's cache of compiled files compares the size and the whole seconds alone."""
    file = book.exercise(book.course[0])
    found = []
    for answer in (5, 1):
        solve(book.folder, 1, answer)
        os.utime(file, (1e9, 1e9))
        found.append(examine(book.course[0], file).solved)
    assert found == [False, True]


def test_nothing_is_written_beside_the_files(book: Workbook, course: Path) -> None:
    before = sorted(p for folder in (book.folder, course) for p in folder.rglob("*"))
    examine(book.course[0], book.exercise(book.course[0]))
    assert sorted(p for folder in (book.folder, course) for p in folder.rglob("*")) == before


def test_a_file_that_is_none_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(LessonError, match="there is no file"):
        load(tmp_path / "none.py")


def test_a_folder_belongs_to_the_lesson_of_its_name(course: Path, tmp_path: Path) -> None:
    assert lesson_of(tmp_path / "02_n2") == lessons()[1]
    with pytest.raises(LessonError, match="no lesson of this name"):
        lesson_of(tmp_path / "09_other")


def test_an_exercise_that_is_run_says_what_is_wrong(book: Workbook, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        practise(str(book.exercise(book.course[0])))
    assert caught.value.code == 1
    assert capsys.readouterr().out == "✗ line 9 of exercise.py is still a hole\n  the number 1\n"
    solve(book.folder, 1)
    practise(str(book.exercise(book.course[0])))
    assert capsys.readouterr().out == "✓ Solved.\n\n✓ it answers\n✓ the answer\n"


def test_an_exercise_in_a_folder_of_another_name_says_so_in_a_line(
    book: Workbook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        practise(str(tmp_path / "09_\x1b[2J" / "exercise.py"))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("exercise.py: lesson 09_\\x1b[2J: the course has no lesson of this name. ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "code",
    [
        "class Mute(Exception):\n    def __str__(self):\n        return 1\n\n\nraise Mute",
        "class Odd:\n    def __getattr__(self, name):\n        if name == '__file__':\n            raise ValueError\n"
        "        raise AttributeError(obj=self)\n\n\nOdd().a",
        "import sys\nsys.nothing",
    ],
)
def test_an_error_that_cannot_be_asked_is_told_all_the_same(book: Workbook, code: str) -> None:
    file = book.exercise(book.course[0])
    file.write_text(code)
    assert re.match(r"line \d of exercise\.py: (Mute|AttributeError)", examine(book.course[0], file).problem)


def test_the_lines_of_what_is_expected_stand_below_each_other(book: Workbook) -> None:
    (book.course[0].folder / "check.py").write_text(
        "import numpy as np\n\n\ndef check(work, judge):\n    judge.equal('a', np.zeros((2, 2)), np.ones((2, 2)))\n"
    )
    solve(book.folder, 1)
    text = "\n".join(line.plain for line in told(examine(book.course[0], book.exercise(book.course[0]))))
    assert "  expected  [[1 1]\n             [1 1]]\n  found     [[0 0]\n             [0 0]]\n" in text


def test_nothing_that_an_outcome_says_moves_the_cursor() -> None:
    lines = told(Outcome(False, ("a\x1b[2J",), "b\r", ("c\x07\nd",), ("e\x9b",)))
    assert [line.plain for line in lines] == [
        "✗ b\\r", "  c\\x07", "  d", "", "✓ a\\x1b[2J", "", "your code printed", "  e\\x9b",
    ]  # fmt: skip


def test_the_exercise_of_the_small_course_has_a_hole() -> None:
    assert "hole(" in EXERCISE


def test_a_reader_that_has_seen_enough_ends_an_exercise_quietly(book: Workbook) -> None:
    file = book.exercise(book.course[0])
    started = subprocess.Popen(
        [sys.executable, str(file)], env=environment(Path(os.environ[LESSONS])), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait(timeout=120) == 141


SHAPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a matrix product": ("x @ x", ("The inner sizes of a matrix product differ.", "shapes: x (2, 3)")),
    "element by element": ("x + y", ("Element by element these shapes do not fit.", "shapes: x (2, 3), y (4,)")),
    "one list of arrays": ("np.concatenate(y, y)", ("Perhaps one list of arrays is wanted: np.concatenate([a, b]).",)),
    "a ragged list": ("np.array([y, x])", ("The arrays have different shapes: take them one by one.",)),
    "one number of many": ("float(x)", ("This is an array of several numbers, not one.", "shapes: x (2, 3)")),
    "tensors": ("mg.Tensor(x) + t", ("shapes: x (2, 3), t (4,)",)),
    "a key": ("{}[Key()]", ("<Key object>", "There is no such key yet.")),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_numpy_and_python_say_is_told_with_shapes_and_what_it_comes_to(book: Workbook, case: str) -> None:
    code, said = SHAPES[case]
    file = book.exercise(book.course[0])
    file.write_text(
        "import numpy as np\nimport minigrad as mg\n\nclass Key:\n    pass\n\n\ndef answer():\n"
        f"    x, y, t = np.ones((2, 3)), np.ones(4), mg.Tensor(np.ones(4))\n    return {code}\n"
    )
    details = examine(book.course[0], file).details
    assert set(said) <= set(details), details
