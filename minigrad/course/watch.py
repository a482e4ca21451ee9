"""What watch mode shows and does, without a terminal: keys, saves and outcomes go in, lines and wishes come out."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable
from itertools import chain

from rich.text import Text

from ..terminal import escaped
from .manifest import Lesson
from .page import bar, cut, relative, row, wrapped
from .practise import Outcome, told
from .workbook import Workbook

__all__ = ["Watch", "Wish"]


class Wish(enum.Enum):
    """What the watch wants done."""

    CHECK = "check the exercise now, and stop a check that is under way"
    TELL = "run the lesson"
    QUIT = "leave"


class _Page(enum.Enum):
    EXERCISE = "the exercise and what is wrong with it"
    LIST = "all lessons"
    SOLUTION = "the solution beside the learner's text"
    RESET = "shall it be reset?"
    END = "all are solved"


_MOVES = {"j": 1, "down": 1, "k": -1, "up": -1}
_SCREEN = 80  # columns where nobody says how many


class Watch:
    """The state of watch mode.

    Args:
        book: The learner's copy; what is solved and seen is remembered there.

    Attributes:
        lesson: The one whose exercise is shown and checked.
        checking: A check has been wished for, and its outcome is not there yet.
    """

    def __init__(self, book: Workbook) -> None:
        self._book = book
        self.lesson = book.current()
        if book.progress().current != self.lesson.folder.name:
            book.go(self.lesson)
        self.checking = True
        self._page, self._cursor, self._first = _Page.EXERCISE, 0, 0
        self._outcome: Outcome | None = None
        self._hint: int | None = None
        self._notice = self._typed = ""
        self._room = 1  # lines of the body in the last view: what "page down" moves by

    # What happens

    def saved(self) -> Wish:
        """The learner has saved the exercise."""
        self.checking = True
        return Wish.CHECK

    def checked(self, outcome: Outcome) -> None:
        """The check has ended."""
        self.checking, self._outcome = False, outcome
        if self._page is _Page.EXERCISE:
            self._first = 0
        if outcome.solved:
            self._hint = None
            self._book.solve(self.lesson)

    def press(self, key: str) -> Wish | None:
        """A key has been pressed; see `keys.named`."""
        self._notice = ""
        if key == "closed":
            return Wish.QUIT
        if self._page is _Page.RESET:
            return self._answer(key)
        if self._page is _Page.LIST:
            return self._choose(key)
        if self._scrolled(key):
            return None
        if self._page is not _Page.EXERCISE and key in ("q", "s", "escape", "enter"):
            self._show(_Page.EXERCISE)
            return None
        return self._command(key)

    def _command(self, key: str) -> Wish | None:
        if key == "q":
            return Wish.QUIT
        if key == "t":
            return Wish.TELL
        if key == "r":
            self._show(_Page.EXERCISE)
            return self.saved()
        if key == "n":
            return self._next()
        if key == "l":
            self._show(_Page.LIST)
            self._cursor = self._book.course.index(self.lesson)
        elif key == "h":
            self._next_hint()
        elif key == "x":
            self._show(_Page.RESET)
        elif key == "s" and self._book.is_solved(self.lesson):
            self._show(_Page.SOLUTION)
        elif key == "s":
            self._notice = "The solution is shown once the exercise is solved; h gives a hint."
        return None

    def _next(self) -> Wish | None:
        if not self._book.is_solved(self.lesson):
            self._notice = "Not yet: this exercise is not solved. l goes to any other."
            return None
        following = self._book.after(self.lesson)
        if following is None:
            self._show(_Page.END)
            return None
        return self._go(following)

    def _next_hint(self) -> None:
        """The next stronger one; behind the last comes the first again."""
        count = len(self.lesson.hints)
        if not count:
            self._notice = "This lesson has no hints."
            return
        seen = self._book.hints_seen(self.lesson)
        self._hint = min(seen, count - 1) if self._hint is None else (self._hint + 1) % count
        self._book.hint(self.lesson, self._hint + 1)
        self._show(_Page.EXERCISE)

    def _answer(self, key: str) -> Wish | None:
        self._show(_Page.EXERCISE)
        if key != "y":
            self._notice = "Nothing was reset."
            return None
        kept = self._book.reset(self.lesson)
        self._notice = f"Reset. Your text is in {kept.name}." if kept else "It is as it came."
        self._hint = None
        return self.saved()

    def _choose(self, key: str) -> Wish | None:
        last = len(self._book.course) - 1
        jumps = {"page up": -self._room, "page down": self._room, "home": -last, "end": last, "g": -last, "G": last}
        typed, self._typed = self._typed, ""
        if key.isdecimal():
            numbers = [lesson.number for lesson in self._book.course]
            self._typed = typed + key if typed + key in map(str, numbers) else key
            if self._typed in map(str, numbers):
                self._cursor = numbers.index(int(self._typed))
        elif key == "enter":
            return self._go(self._book.course[self._cursor])
        elif key in ("q", "l", "escape"):
            self._show(_Page.EXERCISE)
        else:
            self._cursor = min(max(self._cursor + (_MOVES | jumps).get(key, 0), 0), last)
        return None

    def _scrolled(self, key: str) -> bool:
        moves = _MOVES | {"page up": -self._room, "page down": self._room, "home": -(10**6), "end": 10**6}
        self._first = max(self._first + moves.get(key, 0), 0)  # the view knows the end
        return key in moves

    def _go(self, lesson: Lesson) -> Wish:
        self._book.go(lesson)
        self.lesson, self._outcome, self._hint = lesson, None, None
        self._show(_Page.EXERCISE)
        return self.saved()

    def _show(self, page: _Page) -> None:
        self._page, self._first = page, 0

    # What is seen

    def view(self, width: int = _SCREEN, height: int | None = None) -> list[Text]:
        """The screen: at most `height` lines of at most `width` columns; None: as many as there are."""
        head, body, foot = self._head(width, height), self._body(width), self._foot(width)
        if height is None:
            return [*head, Text(), *body, Text(), *foot]
        gaps = height >= 20
        room = height - len(head) - len(foot) - 2 * gaps
        if room < 3:  # a very small window: what is wrong comes first
            head, gaps = [], False
            foot = foot[-1:]
            room = height - len(foot)
        body, room = self._window(body, width, max(room, 1)), max(room, 1)
        gap = [Text()] if gaps else []
        return [*head, *gap, *body, *[Text()] * (room - len(body)), *gap, *foot][:height]

    def _window(self, body: list[Text], width: int, room: int) -> list[Text]:
        """The part of the body that is seen; its last line says how much is left."""
        self._room = max(room - 1, 1)
        if self._page is _Page.LIST:
            self._first = min(max(self._first, self._cursor - self._room + 1), self._cursor)
        if len(body) <= room:
            self._first = 0
            return body
        self._first = min(self._first, len(body) - self._room)
        left = len(body) - self._first - self._room
        more = f"▼ {left} more lines: j, k" if left > 1 else f"▼ {left} more line: j, k" if left else "▲ the end: k"
        return [*body[self._first : self._first + self._room], cut(Text(more, "dim"), width)]

    def _head(self, width: int, height: int | None) -> list[Text]:
        solved, count = self._solved(), len(self._book.course)
        title = Text(f"{self.lesson.number:02d} · {self.lesson.title}", "bold cyan")
        progress = bar(solved, count, min(width, 60))
        if height is not None and height < 16:
            return [cut(title, width), cut(progress, width)]
        file = relative(self._book.exercise(self.lesson))
        goal = wrapped(Text(self.lesson.teaches), width) if self._page is _Page.EXERCISE else []
        where = wrapped(Text.assemble(("edit ", "dim"), (escaped(file), "bold")), width) if goal else []
        return [cut(title, width), cut(progress, width), *([Text(), *goal] if goal else []), *where]

    def _foot(self, width: int) -> list[Text]:
        keys = [("h", "hint"), ("n", "next"), ("l", "list"), ("t", "tell"), ("r", "run"), ("s", "solution")]
        keys += [("x", "reset"), ("q", "quit")]
        if self._page is _Page.RESET:
            keys = [("y", "reset it"), ("any other key", "keep it")]
        elif self._page is _Page.LIST:
            keys = [("j k 7", "move"), ("Enter", "go there"), ("q", "back")]
        elif self._page is _Page.SOLUTION:
            keys = [("j k", "move"), ("n", "next"), ("q", "back")]
        elif not self._book.is_solved(self.lesson):
            keys = [key for key in keys if key[0] not in "ns"]
        lines, line = list[Text](), Text()
        for key, what in keys:
            entry = Text.assemble((key, "bold magenta"), f" {what}")
            if line and line.cell_len + 2 + entry.cell_len > width:
                lines.append(line)
                line = Text()
            line = Text("  ").join([line, entry]) if line else entry
        lines.append(cut(line, width))
        return [*wrapped(Text(self._notice, "yellow"), width), *lines] if self._notice else lines

    def _body(self, width: int) -> list[Text]:
        if self._page is _Page.LIST:
            solved = self._book.progress().solved
            rows = [
                row(lesson, solved=lesson.folder.name in solved, current=lesson == self.lesson)
                for lesson in self._book.course
            ]
            rows[self._cursor].stylize("reverse")
            return [cut(each, width) for each in rows]
        texts = {_Page.SOLUTION: self._solution, _Page.END: self._end}.get(self._page, self._verdict)()
        return [*chain.from_iterable(wrapped(text, width) for text in texts)]

    def _verdict(self) -> Iterable[Text]:
        if self._page is _Page.RESET:
            yield Text(f"Reset {escaped(relative(self._book.exercise(self.lesson)))}?", "bold yellow")
            yield Text("It becomes as it came; your text is kept beside it as exercise.py.bak.")
            return
        if self._hint is not None:
            yield Text(f"hint {self._hint + 1} of {len(self.lesson.hints)}", "bold yellow")
            yield Text(self.lesson.hints[self._hint], "yellow")
            yield Text()
        if self.checking:
            yield Text("… checking", "dim")
        if self._outcome is None:
            return
        if self._outcome.solved:
            said = "the end" if self._book.after(self.lesson) is None else "the next exercise"
            lines = [Text(f"✓ Solved. Well done! n: {said}", "bold green"), *told(self._outcome)[1:]]
        else:
            lines = told(self._outcome)
        for line in lines:
            if self.checking:  # what was found before
                line.stylize("dim")
            yield line

    def _solution(self) -> Iterable[Text]:
        mine, right = self._book.exercise(self.lesson), self.lesson.folder / "solution.py"
        old, new = (
            path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else [] for path in (mine, right)
        )
        if old == new:
            yield Text("Your text is the solution, letter by letter.")
            return
        yield Text("- yours   + the solution", "bold")
        colours = {"+": "green", "-": "red", "@": "cyan"}
        for line in list(difflib.unified_diff(old, new, lineterm=""))[2:]:
            yield Text("─────" if line.startswith("@@") else escaped(line), colours.get(line[0], ""))

    def _end(self) -> Iterable[Text]:
        count = len(self._book.course)
        yield Text(f"You have solved all {count} exercises.", "bold green")
        yield Text()
        yield Text(
            "You have written by hand what an engine does with a gradient, and have seen where one dies, where one "
            "explodes, and what helps. What is next: your own model and your own data."
        )
        yield Text()
        yield from (Text(line, "bold") for line in ("minigrad train --help", "minigrad bptt --help"))
        yield Text()
        yield Text("l goes back to any lesson, q leaves.")

    def _solved(self) -> int:
        solved = self._book.progress().solved
        return sum(lesson.folder.name in solved for lesson in self._book.course)
