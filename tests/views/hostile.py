"""Words that are DOT syntax, escapes, HTML, or no letters at all; and a cell that has them for names."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from tests.views.test_layout import Own

HOSTILE = [
    'quote "', "back\\", "two\nlines", "<b>", "\\N", "\\G\\n", "&", "&amp;", "&#65;", "😀", "한국어", "\x00", "\x1b[1m",
    "שלום", "\u202ex", "--", "]", '"];', "a very long label",
]  # fmt: skip


class Hostile(Own):
    """Its name, that of a weight, and the names and symbols of its scopes are such words."""

    def __init__(self) -> None:
        super().__init__()
        self.W.name = 'a."<b>&\\N'

    def step(self, x: mg.Tensor, state: Any) -> Any:
        with mg.named_scope('gate "1" <b> & \\N', "\\G"):
            k = mg.tanh(x @ self.W)
        with mg.named_scope("문 😀\x00"):
            k = mg.tanh(k + state.h)
        return type(state)(k * 2.0)


Hostile.__name__ = "<Cell> & \\N"
