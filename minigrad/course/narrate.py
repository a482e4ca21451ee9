"""How a lesson is told: step by step in the terminal, with every statement about a result checked."""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from ..errors import ClaimError, MinigradError
from ..terminal import Output, one_line
from ..views.picture import Picture
from .manifest import Lesson, lesson_in

__all__ = ["Narrator", "narrate"]

_WIDE = 96  # a line of prose is not read beyond


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

    def rng(self, *stream: int) -> np.random.Generator:
        """A fresh generator of the lesson's seed; other numbers give others that are independent of it."""
        return np.random.default_rng([self.seed, *stream])

    def question(self, text: str) -> None:
        """What the lesson begins with."""
        title = f"{self.lesson.number:02d} · {self.lesson.title}"
        asked = Markdown(inspect.cleandoc(text))
        self._console.print(Panel(asked, title=title, title_align="left", width=self._width, padding=(1, 2)))

    def step(self, title: str) -> None:
        """A new thought; the learner is waited for before it."""
        if self._pause:
            try:
                self._console.input(Text("  Enter: go on   Ctrl-C: leave ", "dim"))
            except EOFError:
                self._pause = False
        self._console.print()
        self._console.print(Text(title, "bold cyan"))

    def say(self, text: str) -> None:
        """A paragraph of Markdown; its indentation in the source does not matter."""
        self._put(Markdown(inspect.cleandoc(text)))

    def formula(self, *lines: str) -> None:
        """Equations, as they stand."""
        self._put(Padding(Text("\n".join(lines), "green"), (0, 0, 0, 2)))

    def source(self, thing: Callable[..., object]) -> None:
        """The source of a function or class of the lesson; keep its lines below 80 characters."""
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
        self._put(Syntax(code, "python", theme="ansi_dark", background_color="default", word_wrap=True))

    def show(self, thing: RenderableType) -> None:
        """A report, a lens, a table, a plain text: anything that rich prints."""
        self._console.print()
        self._console.print(thing)

    def picture(self, name: str, picture: Picture, what: str) -> Path:
        """Save a picture as SVG and say where it is and what to look at in it."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = picture.save(self._pictures / f"{name}.svg")
        self._console.print()
        self._console.print(Text.assemble(("picture ", "magenta"), (str(path), "bold")), soft_wrap=True)
        self._console.print(Padding(Markdown(inspect.cleandoc(what)), (0, 0, 0, 2)), width=self._width)
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
        self._console.print(Padding(Text.assemble(("✓ ", "bold green"), statement), (0, 0, 0, 2)), width=self._width)

    def answer(self, text: str) -> None:
        """What the lesson ends with: the answer to its question."""
        self._console.print()
        answer = Markdown(inspect.cleandoc(text))
        self._console.print(Panel(answer, title="answer", title_align="left", width=self._width, padding=(1, 2)))
        number = self.lesson.number
        self._console.print(f"Exercise: exercise.py of this lesson, then `minigrad check {number}`.", style="dim")

    @property
    def _width(self) -> int:
        return min(_WIDE, self._console.width)

    def _put(self, thing: RenderableType) -> None:
        self._console.print()
        self._console.print(thing, width=self._width)


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
    try:
        if args.seed < 0:
            raise MinigradError(f"--seed {args.seed}: a seed is not negative. Give 0 or more.")
        lesson = lesson_in(Path(file).resolve().parent)
        pictures = args.pictures or Path("pictures") / lesson.folder.name
        pause = not args.no_pause and sys.stdin.isatty() and sys.stdout.isatty()
        tell(Narrator(lesson, pictures=pictures, pause=pause, seed=args.seed))
    except MinigradError as error:
        print(f"{Path(file).parent.name}: {one_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
        sys.exit(141)
