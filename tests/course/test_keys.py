"""Keys are named alike on every system; lines stand in for them where there is no terminal."""

from __future__ import annotations

import os

import pytest

from minigrad.course.keys import CLOSED, Lines, named

SENT = {
    "hnlq": ["h", "n", "l", "q"],
    "\x1b[A\x1b[B": ["up", "down"],
    "\x1bOA\x1bOB": ["up", "down"],
    "\x1b[5~\x1b[6~ ": ["page up", "page down", "page down"],
    "\x1b[1;5C": [],  # unknown: no part of it is taken for a letter
    "\x1b[200~": [],
    "\x1b": ["escape"],
    "\x1bq": ["escape", "q"],
    "\r\n": ["enter", "enter"],
    "\x04": [CLOSED],
    "\x01\x02\t\x7f": [],
    "é": ["é"],
    "\xe0H\xe0P\0I": ["up", "down", "page up"],  # Windows
    "\x1b[": [],
    "": [],
}


@pytest.mark.parametrize("sent", SENT)
def test_what_a_terminal_sends_has_a_name(sent: str) -> None:
    assert named(sent) == SENT[sent]


def test_lines_stand_for_keys_and_their_end_stays() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"h\nNext\n  l \n\n12\nq")
    os.close(writing)
    lines = Lines(reading)
    assert [lines.get(10) for _ in range(8)] == ["h", "N", "l", "enter", "12", "q", CLOSED, CLOSED]
    os.close(reading)


def test_no_line_is_no_key() -> None:
    reading, writing = os.pipe()
    lines = Lines(reading)
    assert lines.get(0.01) is None
    os.write(writing, b"h")
    assert lines.get(0.05) is None  # not yet a line
    os.write(writing, b"int\n")
    assert lines.get(10) == "h"
    os.close(writing)
    assert lines.get(10) == CLOSED
    os.close(reading)
