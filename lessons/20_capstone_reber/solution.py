"""Solution 20: the judge of the Reber test: which symbols may come next, and whether a network foresees them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.course import practise

SYMBOLS = "BTPSXVE"

# The inner grammar: in each state, the symbols that may come and the state that each leads to.
INNER: dict[int, dict[str, int]] = {
    0: {"B": 1}, 1: {"T": 2, "P": 3}, 2: {"S": 2, "X": 4}, 3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6}, 5: {"P": 4, "V": 6}, 6: {"E": 7}, 7: {},
}  # fmt: skip


def inner_next(string: str) -> list[set[str]]:
    """What may come after each symbol of an inner string, such as BTXSE; after the last, nothing: set()."""
    state, following = 0, list[set[str]]()
    for symbol in string:
        # A walk on the graph: the table of a state says where each symbol leads.
        state = INNER[state][symbol]
        # What may come next depends on where one is, and on nothing else: no memory is needed here.
        following.append(set(INNER[state]))
    return following


def embedded_next(string: str) -> list[set[str]]:
    """The same for an embedded string B, T or P, inner string, the same T or P, E; for all symbols but the last."""
    inner = inner_next(string[2:-2])
    # The only place that needs a memory: the second symbol, however long the inner string was.
    remembered = {string[1]}
    return [{"T", "P"}, {"B"}, *inner[:-1], remembered, {"E"}]


def foreseen(scores: Any, following: list[set[str]]) -> bool:
    """Whether at every step every symbol that may come scores higher than every other one; scores are (T, 7)."""
    for row, may_come in zip(scores, following, strict=True):
        legal = np.array([symbol in may_come for symbol in SYMBOLS])
        # Two symbols may come: both must beat the others, so the weaker of them decides.
        if not row[legal].min() > row[~legal].max():
            return False
    return True


if __name__ == "__main__":
    practise(__file__)
