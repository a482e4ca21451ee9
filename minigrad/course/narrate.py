"""How a lesson is told: step by step in the terminal, with every statement about a result checked."""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import ControlType, Segment
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from ..errors import ClaimError, MinigradError
from ..terminal import Output, escaped, one_line, quieted
from ..views.picture import Picture
from .manifest import Lesson, lesson_in
from .page import WIDE
from .practise import forgiving, lesson_of

__all__ = ["Narrator", "narrate"]

_THEME = Theme({"markdown.code": "bold cyan"})  # without rich's black box, which stands out on a light terminal


class Narrator:
    """What a lesson tells with. Texts are Markdown; what a file or the learner brings goes to `show` as it stands.

    Args:
        lesson: The lesson that is told.
        console: Where it is shown.
        pictures: The folder for its pictures; made when the first one is saved.
        pause: Wait for the learner before each step.
        seed: Of `rng`; every claim should hold for any.

    Attributes:
        claims: The statements that have been found true, in their order.
    """

    def __init__(
        self, lesson: Lesson, *, console: Output | None = None, pictures: Path = Path("pictures"), pause: bool = False,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.lesson, self.seed, self.claims = lesson, seed, list[str]()
        self._console, self._pictures, self._pause = console or Output(), pictures, pause
        self._console.push_theme(_THEME)

    def rng(self, *stream: int) -> np.random.Generator:
        """A fresh generator of the lesson's seed; other numbers give others that are independent of it."""
        return np.random.default_rng([self.seed, *stream])

    def question(self, text: str) -> None:
        """What the lesson begins with."""
        title = Text(f"{self.lesson.number:02d} · {self.lesson.title}")
        asked = _Trimmed(Markdown(inspect.cleandoc(text)))
        self._console.print(Panel(asked, title=title, title_align="left", width=self._width, padding=(1, 2)))

    def step(self, title: str) -> None:
        """A new thought; the learner is waited for before it."""
        self._console.print()
        if self._pause:
            self._wait()
        self._console.print(Text(title, "bold cyan"))

    def say(self, text: str) -> None:
        """A paragraph of Markdown; its indentation in the source does not matter."""
        self._put(Markdown(inspect.cleandoc(text)))

    def formula(self, *lines: str) -> None:
        """Equations, as they stand."""
        self._put(_inset(Text("\n".join(lines), "green")))

    def source(self, thing: Callable[..., object]) -> None:
        """The source of a function or class of the lesson; keep its lines below 80 characters."""
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        self._put(Syntax(code, "python", theme="ansi_dark", background_color="default", word_wrap=True))

    def show(self, thing: RenderableType) -> None:
        """A report, a lens, a table, a plain text: anything that rich prints."""
        self._put(thing, width=None)

    def picture(self, name: str, picture: Picture, what: str) -> Path:
        """Save a picture as SVG and say where it is and what to look at in it."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = picture.save(self._pictures / f"{name}.svg")
        self._console.print()
        self._console.print(Text.assemble(("picture ", "magenta"), (escaped(str(path)), "bold")), soft_wrap=True)
        self._console.print(_inset(_Trimmed(Markdown(inspect.cleandoc(what)))), width=self._width)
        return path

    def file(self, name: str) -> Path:
        """Where a file of this name belongs that the lesson writes itself, beside its pictures."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        return self._pictures / name

    def claim(self, statement: str, holds: bool | np.bool_) -> None:
        """A statement about a result, which was computed just now.

        Raises:
            ClaimError: It does not hold.
        """
        if not holds:
            raise ClaimError(
                f"lesson {self.lesson.number}: this does not hold with seed {self.seed}: {statement}\n"
                "  Report it: a lesson states nothing that it has not computed."
            )
        self.claims.append(statement)
        said = Table.grid(padding=(0, 1, 0, 0))  # the second line of a statement begins below the first
        said.add_row(Text("✓", "bold green"), statement)
        self._console.print(_inset(said), width=self._width)

    def answer(self, text: str) -> None:
        """What the lesson ends with: the answer to its question."""
        self._console.print()
        answer = _Trimmed(Markdown(inspect.cleandoc(text)))
        self._console.print(Panel(answer, title="answer", title_align="left", width=self._width, padding=(1, 2)))
        number = self.lesson.number
        exercise = Text(f"Exercise: exercise.py of this lesson, then `minigrad check {number}`.", "dim")
        self._console.print(_Trimmed(exercise), width=self._width)

    @property
    def _width(self) -> int:
        return min(WIDE, self._console.width)

    def _put(self, thing: RenderableType, *, width: int | None = WIDE) -> None:
        """Show a thing below an empty line; a width of None lets it be as wide as the terminal."""
        self._console.print()
        self._console.print(_Trimmed(thing), width=min(width or self._console.width, self._console.width))

    def _wait(self) -> None:
        try:
            self._console.input(Text("  Enter: go on   Ctrl-D: straight through   Ctrl-C: leave ", "dim"))
        except EOFError:
            self._pause = False
            self._console.print("\n")
        else:
            if self._console.is_terminal:  # the line that asked goes: what stays can be read as one text
                up, clear = (ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)
                self._console.control(Control(up, clear))


class _Trimmed:
    """What rich makes of a thing, without empty lines above and below it and without blanks at the ends of lines."""

    def __init__(self, thing: RenderableType) -> None:
        self._thing = thing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_without_end(line) for line in console.render_lines(self._thing, options, pad=False)]
        while lines and not lines[0]:
            lines.pop(0)
        while lines and not lines[-1]:
            lines.pop()
        for line in lines:
            yield from line
            yield Segment.line()


def _without_end(line: list[Segment]) -> list[Segment]:
    """A line without the blanks at its end; coloured ones are something."""
    line = list(line)
    while line and not line[-1].control:
        ground = line[-1].style.bgcolor if line[-1].style else None
        if ground is not None and not ground.is_default:
            break
        text = line[-1].text.rstrip()
        if text:
            line[-1] = Segment(text, line[-1].style)
            break
        line.pop()
    return line


def _inset(thing: RenderableType) -> _Trimmed:
    return _Trimmed(Padding(thing, (0, 0, 0, 2)))


def narrate(tell: Callable[[Narrator], None], file: str, argv: Sequence[str] | None = None) -> None:
    """Run a lesson from its own file; ends the process with status 0, 2 for bad arguments or 130 for Ctrl-C.

    Args:
        tell: The lesson.
        file: The `__file__` that it stands in.
        argv: The words after the file's name; None: those that the process was started with.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--no-pause", action="store_true", help="go straight through")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where pictures go (default pictures/NN_slug)")
    args = parser.parse_args(argv)
    forgiving()
    try:
        if args.seed < 0:
            raise MinigradError(f"--seed {args.seed}: a seed is not negative. Give 0 or more.")
        folder = Path(file).resolve().parent
        lesson = lesson_in(folder) if (folder / "manifest.ini").is_file() else lesson_of(folder)  # a learner's copy
        pictures = args.pictures or Path("pictures") / lesson.folder.name
        pause = not args.no_pause and sys.stdin.isatty() and sys.stdout.isatty()
        tell(Narrator(lesson, pictures=pictures, pause=pause, seed=args.seed))
        sys.stdout.flush()
    except MinigradError as error:
        _fail(file, str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\n")  # the shell goes on in a line of its own
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(quieted())
    except OSError as error:
        _fail(file, f"{error.filename or 'the output'}: {error.strerror or error}. Give --pictures a place to write.")


def _fail(file: str, text: str) -> NoReturn:
    sys.stderr.write(one_line(f"{Path(file).resolve().parent.name}: {text}") + "\n")
    sys.exit(2)
