"""First names, for models that write new ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..engine import Array
from ..errors import DataError
from . import store
from .split import fixed_split
from .text import read_text

__all__ = ["Names", "available", "load"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Names:
    """Different words of the letters a to z, each at most once.

    Attributes:
        source: Where they come from.
        synthetic: Whether they stand in for names that have not been fetched.
        training, test: Nine tenths and one tenth of them, in an order as good as random.
        characters: The vocabulary: the line end, which begins and ends each name, and the 26 letters; V = 27.
    """

    source: str
    synthetic: bool
    training: tuple[str, ...]
    test: tuple[str, ...]
    characters: tuple[str, ...] = ("\n", *_LETTERS)

    def sequences(self, names: Sequence[str]) -> tuple[Array, ...]:
        """Each name as ids between two line ends, (L + 2,) of int64: what follows the k-th is the k+1-th.

        Raises:
            DataError: A name has other characters.
        """
        return tuple(self._ids(f"\n{name}\n") for name in names)

    def stream(self, names: Sequence[str]) -> Array:
        """The names as one sequence of ids with a line end before, between and after them, (L,) of int64.

        Raises:
            DataError: A name has other characters.
        """
        return self._ids("\n" + "".join(f"{name}\n" for name in names))

    def _ids(self, text: str) -> Array:
        place = {character: k for k, character in enumerate(self.characters)}
        if unknown := sorted({*text} - place.keys()):
            raise DataError(f"names: {unknown[0]!r} is none of their characters.\n  Give names of the letters a to z.")
        return np.array([place[character] for character in text], np.int64)


def available() -> bool:
    """Whether the names have been fetched."""
    return store.available("names")


def load(*, fallback: bool = False) -> Names:
    """The 5,163 different first names that the United States counted in 1990, in small letters.

    Args:
        fallback: Without fetched names, take the words of Python's help texts instead (some thousands, a little
            different in every Python).
    Raises:
        DataError: The names have not been fetched and there is to be no fallback, or their file is damaged.
    """
    if fallback and not available():
        words = re.findall(r"\b[a-z]{3,11}\b", read_text().text)
        return _divided("words of pydoc_data.topics", True, sorted({*words}))
    archive = store.open_archive("names")
    lines = [
        line
        for part in ("female", "male")
        for line in archive.read(f"names-0.3.0/names/dist.{part}.first").decode("ascii").splitlines()
    ]
    return _divided("1990 United States census", False, sorted({line.split()[0].lower() for line in lines}))


def _divided(source: str, synthetic: bool, names: Sequence[str]) -> Names:
    training, test = fixed_split([name.encode() for name in names], (0.9, 0.1))
    return Names(source, synthetic, tuple(names[n] for n in training), tuple(names[n] for n in test))
