"""The errors minigrad raises: each says what was attempted, what was found, what would do."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ClaimError",
    "DTypeError",
    "DataError",
    "DrawError",
    "GradError",
    "HoleError",
    "LessonError",
    "MinigradError",
    "MismatchError",
    "NonFiniteError",
    "RecordError",
    "ShapeError",
    "StaleGraphError",
    "reason",
]


def reason(error: Exception) -> str:
    """Why reading something failed, as the end of a sentence: what is missing, or the error's first line.

    >>> reason(KeyError("loss")), reason(ValueError("it is empty.\\n  Give a text."))
    ("it has no 'loss'", 'it is empty')
    """
    found = f"it has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
    return found.rstrip(".")


class MinigradError(Exception):
    """The base of every error that minigrad raises on purpose."""


class ShapeError(MinigradError, ValueError):
    """Shapes, axes or indices do not fit together."""


class Unfit(ValueError):
    """Raised by an op's forward: why the inputs do not fit. The engine adds which op, where, with what."""


class DTypeError(MinigradError, TypeError):
    """Element types do not fit together, or a type cannot carry a gradient."""


class GradError(MinigradError, RuntimeError):
    """A gradient was asked for in a way that has no one answer."""


class StaleGraphError(GradError):
    """A value changed after the graph that uses it was recorded."""


class NonFiniteError(MinigradError, ArithmeticError):
    """A norm or a loss is NaN or infinite where a finite number is needed."""


class RecordError(MinigradError, ValueError):
    """A Record does not hold what was asked of it."""


class CheckpointError(MinigradError, ValueError):
    """A file does not hold a training run that can go on."""


class DrawError(MinigradError, RuntimeError):
    """A picture could not be laid out or written."""


class DataError(MinigradError, ValueError):
    """A text or a file cannot be used as data."""


class LessonError(MinigradError, ValueError):
    """A lesson, or what belongs to it, is not what it should be."""


class ClaimError(MinigradError, AssertionError):
    """A statement of a lesson does not hold."""


class HoleError(MinigradError, NotImplementedError):
    """A hole of an exercise is still open.

    Attributes:
        goal: What the code there should do.
        file, line: Where it stands.
    """

    def __init__(self, goal: str, file: str, line: int) -> None:
        super().__init__(f"{file}, line {line}: this is still a hole.\n  {goal}")
        self.goal, self.file, self.line = goal, file, line


class MismatchError(MinigradError, AssertionError):
    """What an exercise gives is not what it should give.

    Attributes:
        what: What was compared.
        expected, found: In words; expected is empty where `what` says it.
        difference: In which way they differ.
    """

    def __init__(self, what: str, expected: str, found: str, difference: str) -> None:
        wanted = f"expected {expected}, " if expected else ""
        super().__init__(f"{what}: {wanted}found {found}.\n  {difference}")
        self.what, self.expected, self.found, self.difference = what, expected, found, difference
