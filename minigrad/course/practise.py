"""Check an exercise: load the learner's file, hand it to the lesson's check, say what came out."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import HoleError, LessonError, MismatchError
from ..terminal import Output
from .judge import Judge
from .manifest import Lesson, lessons

__all__ = ["Outcome", "examine", "lesson_of", "load", "practise"]


class Outcome(NamedTuple):
    """What checking an exercise found.

    Attributes:
        solved: Everything is right.
        passed: What is right, in its order.
        problem: What is not, in a line; "" if solved.
        details: Expected, found, where: lines below it.
    """

    solved: bool
    passed: tuple[str, ...]
    problem: str
    details: tuple[str, ...]


def load(path: Path) -> ModuleType:
    """Run a file as a module of its own, under a name that no other module has.

    Raises:
        LessonError: There is no such file.
        Exception: Whatever the file raises.
    """
    name = f"minigrad_lesson_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LessonError(f"lesson: there is no file {path}.\n  Give the folder of a lesson.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def examine(lesson: Lesson, exercise: Path) -> Outcome:
    """Check the exercise of a lesson in this process."""
    judge = Judge()
    try:
        load(lesson.folder / "check.py").check(load(exercise), judge)
    except HoleError as error:
        return Outcome(False, tuple(judge.passed), f"line {error.line} of {error.file} is still a hole", (error.goal,))
    except MismatchError as error:
        details = (f"expected  {error.expected}", f"found     {error.found}", error.difference)
        return Outcome(False, tuple(judge.passed), error.what, details)
    except Exception as error:  # whatever a learner's code may raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == exercise]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        where = f"line {line} of {exercise.name}" if line else exercise.name
        return Outcome(False, tuple(judge.passed), f"{where}: {type(error).__name__}", tuple(str(error).splitlines()))
    return Outcome(True, tuple(judge.passed), "", ())


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
    """Check the exercise that stands in this file and print what was found; ends with status 1 unless it is solved."""
    exercise = Path(file).resolve()
    outcome = examine(lesson_of(exercise.parent), exercise)
    console = Output()
    for line in outcome.passed:
        console.print(f"✓ {line}", style="green")
    if outcome.solved:
        console.print("Solved.", style="bold green")
        return
    console.print(f"✗ {outcome.problem}", style="bold red")
    for line in outcome.details:
        console.print(f"  {line}")
    sys.exit(1)
