"""Where in the program an op runs, and whether it is recorded. Each thread has its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import CodeType
from typing import Any, NamedTuple

__all__ = ["Role", "Run", "Scope", "current", "is_recording", "named_scope", "no_grad", "time_step", "within"]


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """One walk of a cell over a sequence: what all its time steps share. Equal to nothing but itself.

    Attributes:
        name: What the record calls the sequence: `l0`, `l0_reverse`.
        cell: The cell's name in pictures: "LSTM".
        steps: T.
        scope: The path above the time steps: ("lstm",).
        number: Grows with every run.
        lengths: How many steps of each sample are real; None: all of them.
        reverse: Whether it walks from the last step to the first.
        caller: Whose code walks it, and where in it, if the cell is this package's own: its ops are that line's.
    """

    name: str
    cell: str
    steps: int
    scope: tuple[str, ...]
    number: int
    lengths: tuple[int, ...] | None = None
    reverse: bool = False
    caller: tuple[CodeType, int] | None = None


class Role(NamedTuple):
    """What a recurrent network calls a node.

    Attributes:
        kind: "input", "initial" or "state" of a run, or "loss": the elements that a loss sums.
        field: Which of them: "x", "h", "c".
        run, time: Of the step; None for a loss.
    """

    kind: str
    field: str
    run: Run | None = None
    time: int | None = None


class Scope(NamedTuple):
    """The names of the enclosing `named_scope`s: `lstm / t=3 / forget gate`.

    Attributes:
        path: The names, outermost first.
        time: The index k of the enclosing time step (its name is `t=k+1`), or None.
        run: The run that the step belongs to, or None.
        part: The name of the outermost scope inside the step ("forget gate"), or None.
        symbol: The textbook's letter for that part ("f").
    """

    path: tuple[str, ...] = ()
    time: int | None = None
    run: Run | None = None
    part: str | None = None
    symbol: str | None = None

    def __str__(self) -> str:
        return " / ".join(self.path)


class _Context(NamedTuple):
    recording: bool
    scope: Scope


current: ContextVar[_Context] = ContextVar("minigrad", default=_Context(True, Scope()))


def is_recording() -> bool:
    """Whether ops are being recorded here (False inside `no_grad`)."""
    return current.get().recording


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside this block: results carry values and no graph."""
    token = current.set(_Context(False, current.get().scope))
    try:
        yield
    finally:
        current.reset(token)


@contextmanager
def within(scope: Scope) -> Iterator[None]:
    """Record ops in this scope, whatever the enclosing one is."""
    token = current.set(_Context(True, scope))
    try:
        yield
    finally:
        current.reset(token)


_new: Any = tuple.__new__  # a named tuple in a third of the time


class named_scope:
    """Name the ops recorded inside this block: errors, pictures and reports show the path.

    Inside the `step` of a cell, each outermost scope becomes a box of the picture.

    Args:
        name: One name of the path, such as "forget gate".
        symbol: The letter for it in pictures, such as "f"; the name itself if None.
    """

    __slots__ = ("name", "symbol", "tokens")

    def __init__(self, name: str, symbol: str | None = None) -> None:
        self.name, self.symbol = name, symbol
        self.tokens: list[Token[_Context]] = []

    def _inner(self, outer: Scope) -> Scope:
        path, time, run, part, symbol = outer
        if time is not None and part is None:
            part, symbol = self.name, self.symbol or self.name
        inner: Scope = _new(Scope, ((*path, self.name), time, run, part, symbol))
        return inner

    def __enter__(self) -> None:
        recording, outer = current.get()
        self.tokens.append(current.set(_new(_Context, (recording, self._inner(outer)))))

    def __exit__(self, *_: object) -> None:
        current.reset(self.tokens.pop())


class time_step(named_scope):
    """The scope `t=k+1` of the step k of a run; `unroll` opens it."""

    __slots__ = ("run", "time")

    def __init__(self, time: int, run: Run) -> None:
        self.name, self.symbol, self.tokens = f"t={time + 1}", None, []
        self.time, self.run = time, run

    def _inner(self, outer: Scope) -> Scope:
        inner: Scope = _new(Scope, ((*outer.path, self.name), self.time, self.run, None, None))
        return inner
