"""Check an exercise: load the learner's file, hand it to the lesson's check, say what came out."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

import numpy as np
from rich.text import Text

from ..engine import Node
from ..errors import HoleError, LessonError, MinigradError, MismatchError
from ..terminal import Output, escaped, one_line, quieted, word
from .judge import Judge
from .manifest import Lesson, lessons
from .page import put

__all__ = ["Outcome", "examine", "forgiving", "lesson_of", "load", "practise", "told"]

_MOST, _LINES = 2000, 12  # characters and lines of what an error says
_ADDRESS = re.compile(r"minigrad_lesson_\w+\.| at 0x[0-9A-Fa-f]+")
_MEANINGS = {
    r"ValueError: (matmul|shapes .* not aligned)": "The inner sizes of a matrix product differ.",
    r"ValueError: operands could not be broadcast": "Element by element these shapes do not fit.",
    r"ValueError: .*inhomogeneous shape": "The arrays have different shapes: take them one by one.",
    r"TypeError: only integer scalar arrays": "Perhaps one list of arrays is wanted: np.concatenate([a, b]).",
    r"TypeError: only (0-dimensional|length-1|size-1) arrays": "This is an array of several numbers, not one.",
    r"KeyError": "There is no such key yet.",
    r"EOFError": "It asks for input. Take out the call of input.",
}
"""What the errors of Python and NumPy that a beginner meets first come to."""


class Outcome(NamedTuple):
    """What checking an exercise found.

    Attributes:
        solved: Everything is right.
        passed: What is right, in its order.
        problem: What is not, in a line; "" if solved.
        details: Expected, found, where: lines below it.
        printed: What the learner's code wrote meanwhile, as far as it was kept.
    """

    solved: bool
    passed: tuple[str, ...]
    problem: str
    details: tuple[str, ...]
    printed: tuple[str, ...] = ()


class _AsItStands(SourceFileLoader):
    """Reads the source each time: two saves within a second may have one size, which is all a cache looks at."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def load(path: Path) -> ModuleType:
    """Run a file as a module of its own, under a name that no other module has. Nothing is written beside it.

    Raises:
        LessonError: There is no such file.
        Exception: Whatever the file raises.
    """
    if not path.is_file():
        raise LessonError(f"lesson: there is no file {path}.\n  Give the folder of a lesson.")
    name = f"minigrad_lesson_{path.parent.name}_{path.stem}"
    loader = _AsItStands(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None  # only a loader without a source has none
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def examine(lesson: Lesson, exercise: Path) -> Outcome:
    """Check the exercise of a lesson in this process."""
    judge = Judge()
    check = lesson.folder / "check.py"
    if not exercise.is_file():
        again = f"Get it back: minigrad course init {word(str(exercise.parents[1]))}"
        return Outcome(False, (), f"there is no {exercise.name}", (f"It should be {exercise}.", again))
    try:
        load(check).check(load(exercise), judge)
    except HoleError as error:
        return Outcome(False, tuple(judge.passed), f"line {error.line} of {error.file} is still a hole", (error.goal,))
    except MismatchError as error:
        expected = _entry("expected", error.expected) if error.expected else ""
        details = (expected, _entry("found", error.found), error.difference)
        return Outcome(False, tuple(judge.passed), error.what, tuple(filter(None, details)))
    except (Exception, SystemExit) as error:  # whatever a learner's code may raise
        return Outcome(False, tuple(judge.passed), *_failure(error, exercise, check))
    return Outcome(True, tuple(judge.passed), "", ())


def _entry(name: str, text: str) -> str:
    """A text beside its name, its further lines below its first one."""
    return f"{name:<10}{text}".replace("\n", "\n" + " " * 10)


def _failure(error: BaseException, exercise: Path, check: Path) -> tuple[str, tuple[str, ...]]:
    """The problem and its details: what was raised, at which line of the exercise, or else of the check."""
    kind, said = type(error).__name__, list[str]()
    with suppress(Exception):  # a learner's own error may not be able to say anything
        said = str(error)[:_MOST].splitlines()[:_LINES]
    if isinstance(error, SyntaxError) and error.filename == str(exercise):
        line = (error.text or "").strip()
        return f"line {error.lineno} of {exercise.name} is no Python: {error.msg}", (line,) if line else ()
    if (
        isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)  # of others, asking may fail
        and getattr(error.obj, "__file__", None) == str(exercise)
    ):  # fmt: skip
        return f"{exercise.name} has no {error.name}", ("The check calls it by this name: let it be called so.",)
    if isinstance(error, SystemExit):
        kind, said = "it ends the program", ["Take out the call of exit."]
    said = [_ADDRESS.sub("", line) for line in said]
    said += [meaning for pattern, meaning in _MEANINGS.items() if re.match(pattern, f"{kind}: {' '.join(said)}")]
    frames = traceback.extract_tb(error.__traceback__)
    for path, where, what in ((exercise, f"line {{}} of {exercise.name}", "there"), (check, exercise.name, "asked")):
        found = [frame for frame in frames if Path(frame.filename) == path]
        if found:
            code = [f"{what}:  {found[-1].line}"] if found[-1].line else []
            shapes = _shapes(error, found[-1]) if path == exercise else []
            return f"{where.format(found[-1].lineno)}: {kind}", (*said, *code, *shapes)
    return f"{exercise.name}: {kind}", tuple(said)


def _shapes(error: BaseException, where: traceback.FrameSummary) -> list[str]:
    """The shapes of the arrays that the line names, where it may be they that do not fit."""
    if not isinstance(error, (ValueError, TypeError, IndexError, MinigradError)):
        return []
    frames = (one for one, line in traceback.walk_tb(error.__traceback__)
              if (one.f_code.co_filename, line) == (where.filename, where.lineno))  # fmt: skip
    frame = next(frames, None)
    known = {**frame.f_globals, **frame.f_locals} if frame is not None else {}
    named = dict.fromkeys(re.findall(r"[^\W\d]\w*", where.line or ""))
    values = {name: x.value if isinstance(x := known.get(name), Node) else x for name in named}
    shapes = [f"{name} {x.shape}" for name, x in values.items() if isinstance(x, np.ndarray)]
    return [f"shapes: {', '.join(shapes)}"] if shapes else []


def lesson_of(folder: Path) -> Lesson:
    """The lesson that a folder, perhaps a learner's copy, belongs to.

    Raises:
        LessonError: None is called so.
    """
    found = next((lesson for lesson in lessons() if lesson.folder.name == folder.name), None)
    if found is None:
        raise LessonError(f"lesson {folder.name}: the course has no lesson of this name.\n  Keep the folder's name.")
    return found


def practise(file: str) -> None:
    """Check the exercise that stands in this file and print what was found.

    Ends with status 1 unless it is solved, 2 if its folder belongs to no lesson, 141 if nobody reads what was found.
    """
    exercise = Path(file).resolve()
    forgiving()
    try:
        lesson = lesson_of(exercise.parent)
    except LessonError as error:
        sys.stderr.write(one_line(f"{exercise.name}: {error}") + "\n")
        sys.exit(2)
    outcome = examine(lesson, exercise)
    try:
        put(Output(), told(outcome))
        sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(quieted())
    if not outcome.solved:
        sys.exit(1)


def told(outcome: Outcome) -> list[Text]:
    """An outcome in lines, the most important one first."""
    solved, problem = Text("✓ Solved.", "bold green"), Text(f"✗ {escaped(outcome.problem)}", "bold red")
    lines = [solved if outcome.solved else problem]
    lines += (Text(f"  {part}") for line in outcome.details for part in escaped(line).splitlines())
    if outcome.passed:
        lines += (Text(), *(Text(f"✓ {escaped(line)}", "green") for line in outcome.passed))
    if outcome.printed:
        lines += (Text(), Text("your code printed", "dim"), *(Text(f"  {escaped(line)}") for line in outcome.printed))
    return lines


def forgiving() -> None:
    """A letter that the terminal cannot spell must not end the program: it is shown as its number."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # what stands in its place in a notebook or a test may know no encoding
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
