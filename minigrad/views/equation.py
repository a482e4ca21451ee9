"""Equations in the textbook's symbols: written down, read off recorded ops, set with indices below the line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from ..bptt.record import OpNode
from .canvas import Canvas
from .layout import Point

__all__ = ["clean", "expression", "low", "plain", "typeset"]

_LETTERS, _INDEX = 14.0, 10.0  # sizes in an equation
_DOWN, _UP = "\1", "\2"  # around an index in an equation
_LONGEST = 160  # letters of an equation that is read off ops


def low(text: str) -> str:
    """An index in an equation."""
    return f"{_DOWN}{text}{_UP}"


def plain(equation: str) -> str:
    """An equation in one line of plain letters: f_t = σ(W_f x_t + U_f h_{t−1} + b_f)."""
    pieces = re.split(f"{_DOWN}(.*?){_UP}", equation)
    indices = (f"_{k}" if len(k) == 1 else f"_{{{k}}}" for k in pieces[1::2])
    return "".join(itertools.chain.from_iterable(itertools.zip_longest(pieces[::2], indices, fillvalue="")))


def typeset(
    canvas: Canvas, name: str, equation: str, start: Point, room: float, letters: Mapping[str, str]
) -> None:
    """An equation with its indices below the line: one piece of text each, where Helvetica's widths put it."""
    x, y = start
    for k, text in enumerate(re.split(f"{_DOWN}(.*?){_UP}", equation)):
        size, drop = (_INDEX, 3.5) if k % 2 else (_LETTERS, 0.0)
        cut = text
        while cut and x + _advance(cut, size) > start[0] + room:
            cut = cut[:-1]
        cut += "" if cut == text else "…"
        width = _advance(cut, size)
        if cut.strip():
            lead = _advance(cut[: len(cut) - len(cut.lstrip())], size)
            inner = _advance(cut.strip(), size)
            canvas.text(f"{name}_{k}", cut.strip(), (x + lead + inner / 2, y - drop), size, **letters)
        x += width
        if cut != text:
            return


def _advance(text: str, size: float) -> float:
    """The width of a text in Helvetica by the font's own metrics, as far as equations have its letters."""
    return sum(_METRICS.get(c, 0.6 if c.isascii() else 1.0) for c in text) * size


_METRICS = {
    c: width for letters, width in (
        ("ijl'", 0.222), (" .,:;ftI/\\!|[]", 0.278), ("r-()‖₀₁₂₃₄₅₆₇₈₉", 0.333), ("cksvxyzJ", 0.5),
        ("abdeghnopquL0123456789_?", 0.556), ("+=−×<>~", 0.584), ("FTZσ", 0.611), ("ABEKPSVXY&", 0.667),
        ("CDHNRUw", 0.722), ("GOQ", 0.778), ("mM", 0.833), ("W", 0.944),
    ) for c in letters
}  # fmt: skip


_INFIX = {"add": (" + ", 1), "subtract": (" − ", 1), "multiply": (" × ", 2), "divide": (" / ", 2), "matmul": (" ", 2)}
_PASSES = ("getitem", "identity", "pick", "reshape", "split", "broadcast_to")


def expression(node: OpNode, operands: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """An op on its operands, as text, and how tightly it holds together. Constants are in no graph of ops."""
    op = node.op or ""

    def held(k: int, least: int) -> str:
        text, tight = operands[k]
        return text if tight >= least else f"({text})"

    if not operands:
        return "const", 3
    if op in _PASSES:
        return operands[0]
    if op == "linear" and len(operands) > 1:
        text = f"{held(1, 2)} {held(0, 2)}"
        found = (f"{text} + {held(2, 1)}", 1) if len(operands) > 2 else (text, 2)
    elif op in _INFIX and len(operands) == 2:
        sign, tight = _INFIX[op]
        found = (f"{held(0, tight)}{sign}{held(1, tight + (op in ('subtract', 'divide')))}", tight)
    elif op in ("add", "multiply") and len(operands) == 1:
        sign, tight = _INFIX[op]
        found = (f"{held(0, tight)}{sign}const", tight)
    elif op == "negative":
        found = (f"−{held(0, 2)}", 1)
    else:
        inside = [text for text, _ in operands]
        if op in ("subtract", "divide", "power") and len(inside) == 1:
            inside.append("const")
        found = (f"{'σ' if op == 'sigmoid' else op}({', '.join(inside)})", 3)
    text, tight = found
    return (text, tight) if len(text) <= _LONGEST else (text[: text.rfind(" ", 0, _LONGEST)] + " …", 3)


def clean(name: str) -> str:
    return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in name)
