"""Made-up tasks whose solution needs something that was seen long ago, and what one gets who has forgotten it.

| task | what counts | without memory | to be remembered for |
|---|---|---|---|
| adding | squared error | 1/6 | from T - T // 2 to T - 1 steps |
| copy | nats a step | S ln K / (T + 2 S) | T + S steps |
| latch | nats, share right | ln 2, 1/2 | T - 1 steps |
| temporal order | nats, share right | ln 4, 1/4 | from about 0.8 T to 0.9 T steps |
| embedded Reber | strings without a mistake | 1/2 | 5 steps, often 10 or more |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..engine import Array
from ..errors import DataError, ShapeError

__all__ = [
    "ORDER_CLASSES", "REBER_SYMBOLS", "Task", "adding", "adding_baseline", "copy", "copy_baseline", "latch",
    "latch_baseline", "one_hot", "order_baseline", "predicts_legal", "reber_ids", "reber_legal", "reber_string",
    "reber_strings", "temporal_order",
]  # fmt: skip


class Task(NamedTuple):
    """N examples side by side, time first.

    Attributes:
        inputs: (T, N, C) of float32, or (T, N) of int64: ids of symbols, for an Embedding or `one_hot`.
        targets: (N,), for the last step; or (T, N), for every step.
        steps: (N,) of int64: for how many steps the oldest thing needed is to be remembered: from the step that
            reads it to the step that uses it.
    """

    inputs: Array
    targets: Array
    steps: Array


def one_hot(ids: Array, size: int) -> Array:
    """Ids, (…), as (…, size) of float32: 1 at the id's place.

    Raises:
        ShapeError: They are no whole numbers from 0 to size - 1.
    """
    if ids.dtype.kind not in "iu" or (ids.size and not 0 <= ids.min() <= ids.max() < size):
        raise ShapeError(f"one_hot: {ids.dtype} {ids.shape} in {size} places.\n  Give whole numbers below {size}.")
    rows: Array = np.eye(size, dtype=np.float32)[ids]
    return rows


def _check(task: str, smallest: int, steps: int, batch: int) -> None:
    if steps < smallest or batch < 1:
        raise DataError(f"{task}: T={steps} steps, N={batch} examples.\n  Give T from {smallest} and N from 1.")


def adding(steps: int, batch: int, *, rng: np.random.Generator) -> Task:
    """Add the two marked numbers.

    Channel 0 holds numbers from U[0, 1), channel 1 is 1 at one step of the first half (T // 2 steps) and at one of
    the rest, else 0. The target is the sum of the two numbers, at the end.

    Horizon: T - 1 - p steps for a first mark at p. Published: with T up to 750 (Arjovsky et al.); a plain tanh RNN
    stays at the baseline from T of about 50 on.

    Args:
        steps: T, from 2.
        batch: N.
        rng: Whence the numbers and marks.
    Returns:
        inputs (T, N, 2), targets (N,), both of float32.
    Raises:
        DataError: T or N is too small.

    Source: Arjovsky, Shah & Bengio 2016, after Hochreiter & Schmidhuber 1997, experiment 4, whose numbers are from
        U[-1, 1], with the marks further to the front and the sum scaled.
    """
    _check("adding", 2, steps, batch)
    numbers = rng.random((steps, batch), np.float32)
    first, second = rng.integers(0, steps // 2, batch), rng.integers(steps // 2, steps, batch)
    each = np.arange(batch)
    marks = np.zeros((steps, batch), np.float32)
    marks[first, each] = marks[second, each] = 1
    return Task(np.stack([numbers, marks], axis=2), numbers[first, each] + numbers[second, each], steps - 1 - first)


def adding_baseline() -> float:
    """1/6: the squared error of always saying 1, the variance of a sum of two numbers from U[0, 1]."""
    return 1 / 6


def copy(delay: int, batch: int, *, rng: np.random.Generator, length: int = 10, kinds: int = 8) -> Task:
    """Say again what was said before a long silence.

        inputs   s_1 … s_S   blank x (T - 1)   go   blank x S
        targets  blank x (T + S)                    s_1 … s_S

    Blank is 0, the symbols are 1 to K, the sign to go is K + 1. There are T + 2 S steps.

    Horizon: T + S steps for each symbol. Published: at T = 200 and more LSTM and RNN stay at the baseline, also at
    T = 1000 with 16,000 weights (Bai et al. 2018: .0204 where the baseline is .0204).

    Args:
        delay: T, from 1.
        batch: N.
        rng: Whence the symbols.
        length: S.
        kinds: K.
    Returns:
        inputs, ids from 0 to K + 1, and targets, from 0 to K, both (T + 2 S, N) of int64.
    Raises:
        DataError: T, N, S or K is less than 1.

    Source: Arjovsky, Shah & Bengio 2016, section 5.1, with S = 10 and K = 8; after Hochreiter & Schmidhuber 1997.
    """
    _check("copy", 1, min(delay, length, kinds), batch)
    symbols = rng.integers(1, kinds + 1, (length, batch))
    inputs = np.zeros((delay + 2 * length, batch), np.int64)
    targets = np.zeros_like(inputs)
    inputs[:length] = symbols
    inputs[length + delay - 1] = kinds + 1
    targets[-length:] = symbols
    return Task(inputs, targets, np.full(batch, delay + length))


def copy_baseline(delay: int, *, length: int = 10, kinds: int = 8) -> float:
    """S ln K / (T + 2 S) nats a step: blanks foreseen for sure, each symbol guessed."""
    return length * math.log(kinds) / (delay + 2 * length)


def latch(steps: int, batch: int, *, rng: np.random.Generator, distractors: int = 8) -> Task:
    """Say at the end which of two symbols came first.

    The first symbol is 0 or 1, all others are drawn from 2 to D + 1 and mean nothing.

    Horizon: T - 1 steps. A plain tanh RNN learns T = 20, and fails more often than not at T = 100.

    Args:
        steps: T, from 1.
        batch: N.
        rng: Whence the symbols.
        distractors: D.
    Returns:
        inputs, ids from 0 to D + 1, (T, N); targets, 0 or 1, (N,); of int64.
    Raises:
        DataError: T, N or D is less than 1.

    Source: the idea is Bengio, Simard & Frasconi 1994; with symbols: Hochreiter & Schmidhuber 1997, experiment 2b.
    """
    _check("latch", 1, min(steps, distractors), batch)
    inputs = rng.integers(2, distractors + 2, (steps, batch))
    inputs[0] = rng.integers(0, 2, batch)
    return Task(inputs, inputs[0].copy(), np.full(batch, steps - 1))


def latch_baseline() -> float:
    """ln 2 nats: a guess between two."""
    return math.log(2)


ORDER_CLASSES = ("AA", "AB", "BA", "BB")
"""The classes of `temporal_order`, by target."""


def temporal_order(steps: int, batch: int, *, rng: np.random.Generator) -> Task:
    """Say at the end which of A and B came at two places, and in which order.

    A is 0, B is 1, the other symbols, c to f, are 2 to 5 and mean nothing. The first of the two stands at a step of
    [T // 10, T // 5), the second of [T // 2, 6 T // 10); where that is empty, at its beginning.

    Horizon: T - 1 - p steps for a first one at p. Published: 5 of 5 seeds for T from 50 to 200 with clipping and
    regulariser, after up to 5 million updates (Pascanu et al.); LSTM with T from 100 to 110 after 31,390 sequences.

    Args:
        steps: T, from 2.
        batch: N.
        rng: Whence symbols and places.
    Returns:
        inputs, ids from 0 to 5, (T, N); targets, the places in ORDER_CLASSES, (N,); of int64.
    Raises:
        DataError: T or N is too small.

    Source: Pascanu, Mikolov & Bengio 2013, section 4.1.1; Hochreiter & Schmidhuber 1997, experiment 6a.
    """
    _check("temporal order", 2, steps, batch)
    inputs = rng.integers(2, 6, (steps, batch))
    first = rng.integers(steps // 10, max(steps // 5, steps // 10 + 1), batch)
    second = rng.integers(steps // 2, max(6 * steps // 10, steps // 2 + 1), batch)
    each = np.arange(batch)
    earlier, later = rng.integers(0, 2, (2, batch))
    inputs[first, each], inputs[second, each] = earlier, later
    return Task(inputs, 2 * earlier + later, steps - 1 - first)


def order_baseline() -> float:
    """ln 4 nats: a guess among four."""
    return math.log(4)


REBER_SYMBOLS = "BTPSXVE"
"""The symbols of both Reber grammars, by id."""

# state: {symbol: next state}; from state 0 to state 7, and at a fork both ways are equally likely
_REBER: Mapping[int, Mapping[str, int]] = MappingProxyType(
    {
        0: {"B": 1},
        1: {"T": 2, "P": 3},
        2: {"S": 2, "X": 4},
        3: {"T": 3, "V": 5},
        4: {"X": 3, "S": 6},
        5: {"P": 4, "V": 6},
        6: {"E": 7},
        7: {},
    }
)


def reber_string(*, embedded: bool, rng: np.random.Generator) -> str:
    """A string of the Reber grammar, or of the embedded one: B, T or P, a Reber string, the same T or P, E.

    The second symbol of an embedded string has to be remembered while the string inside it goes by: from being read
    to the step at which it must be foreseen there are L - 4 steps for L symbols, 5 at least.

    Args:
        embedded: Which of the two grammars.
        rng: Whence the choices.

    Source: Reber 1967; embedded: Cleeremans, Servan-Schreiber & McClelland 1989; Hochreiter & Schmidhuber 1997,
        experiment 1.
    """
    state, symbols = 0, []
    while ways := _REBER[state]:
        symbol = [*ways][int(rng.integers(len(ways)))]
        symbols.append(symbol)
        state = ways[symbol]
    inner = "".join(symbols)
    if not embedded:
        return inner
    kept = "TP"[int(rng.integers(2))]
    return f"B{kept}{inner}{kept}E"


def reber_strings(count: int, *, embedded: bool, rng: np.random.Generator) -> list[str]:
    """So many different strings, as they come: halves of them make a training and a test part without overlap.

    Raises:
        DataError: The count is less than 1.
    """
    if count < 1:
        raise DataError(f"Reber strings: {count} of them.\n  The count is from 1.")
    found: dict[str, None] = {}
    while len(found) < count:
        found[reber_string(embedded=embedded, rng=rng)] = None
    return [*found]


def reber_ids(string: str) -> Array:
    """The places of a string's symbols in REBER_SYMBOLS, (L,) of int64: inputs are [:-1], targets [1:].

    Raises:
        DataError: There is another symbol.
    """
    if unknown := sorted({*string} - {*REBER_SYMBOLS}):
        raise DataError(f"Reber string {string!r:.60}: {unknown[0]!r} is none of {REBER_SYMBOLS}.\n  Give one of them.")
    return np.array([REBER_SYMBOLS.index(symbol) for symbol in string], np.int64)


def reber_legal(string: str, *, embedded: bool) -> Array:
    """Which symbols may follow each one but the last, (L - 1, 7) of bool.

    >>> for symbols in reber_legal("BTXSE", embedded=False):
    ...     print("".join(np.array([*REBER_SYMBOLS])[symbols]))
    TP
    SX
    SX
    E

    Raises:
        DataError: The string is not of this grammar.
    """
    ids = reber_ids(string)
    inner = string[2:-2] if embedded else string
    kinds = "embedded Reber" if embedded else "Reber"
    outside = embedded and (len(string) < 5 or string[0] != "B" or string[1] not in "TP" or string[-1] != "E")
    rows, state = [], 0
    for symbol in inner:
        if symbol not in _REBER[state]:
            outside = True
            break
        state = _REBER[state][symbol]
        rows.append([other in _REBER[state] for other in REBER_SYMBOLS])
    if outside or state != 7 or (embedded and string[1] != string[-2]):
        raise DataError(f"{kinds} string {string!r:.60}: this is none.\n  Give one that `reber_string` may make.")
    legal: Array = np.array(rows)
    if embedded:
        kept = [[symbol == string[1] for symbol in REBER_SYMBOLS]]
        first = [[symbol in "TP" for symbol in REBER_SYMBOLS], [symbol == "B" for symbol in REBER_SYMBOLS]]
        legal = np.concatenate([first, legal[:-1], kept, [[symbol == "E" for symbol in REBER_SYMBOLS]]])
    else:
        legal = legal[:-1]
    assert len(legal) == len(ids) - 1
    return legal


def predicts_legal(scores: Array, legal: Array) -> Array:
    """Whether the legal symbols are the most active ones: each above all others, (…) of bool.

    Hochreiter and Schmidhuber call a network successful that gets this at every step of all strings. One that does
    not remember an embedded string's second symbol is right on half of the strings at best.

    Args:
        scores: (…, V), any that a softmax could take.
        legal: (…, V) of bool, at least one in each row.
    Raises:
        ShapeError: The shapes differ, or a row has no legal symbol.
    """
    if scores.shape != legal.shape or legal.dtype != np.bool_ or not legal.any(-1).all():
        raise ShapeError(
            f"predicts_legal: scores have shape {scores.shape}, legal is {legal.dtype} {legal.shape}.\n"
            "  Give a bool for each score, and one legal symbol or more in each row."
        )
    worst = np.where(legal, scores, np.inf).min(-1)
    best = np.where(legal, -np.inf, scores).max(-1)
    above: Array = worst > best
    return above
