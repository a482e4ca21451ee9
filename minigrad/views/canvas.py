"""The canvas: boxes, wires, tiles and words at given places, written as Graphviz's DOT."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import graphviz

from ..bptt.record import Reading
from .layout import Layout, Point
from .palette import BINS, PLAIN, SPECIAL, Look, Mark, Scale, brief, largest, look, number, pale, shown, special
from .picture import Picture
from .scene import Card, Pill

__all__ = ["FOLD", "GAP", "HEADER", "MARGIN", "PILL", "STUB", "WIDTH", "Canvas", "Folded", "extent",
           "folded", "identifier", "shortened"]  # fmt: skip

WIDTH, HEIGHT = 1200.0, 750.0  # points: 1,600 x 1,000 pixels at 100 %
MARGIN, GAP = 12.0, 10.0
HEADER = 18.0  # of a step's frame
FOLD = 92.0  # width of a folded box
PILL = 14.0  # height of a weight's use
STUB = 34.0  # where a lane goes on in another row
_TILES = 22  # at most, in a folded box
_BLACK = "#000000"
_BACK = "#4d4d4d"  # letters of what stands back: 4.5 : 1 on every paled fill
_NARROW = frozenset(" .,:;!|'()[]ijltfrI-/\\“”")
_CONTROL = re.compile("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff]")  # no XML can hold these
_LOW = frozenset("₀₁₂₃₄₅₆₇₈₉")


def identifier(text: str) -> str:
    """Letters, digits and _ for ids: anything else by its code point."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"u{ord(c):x}" for c in text)


def extent(text: str, size: float = 10.0) -> float:
    """The width of a text in Helvetica, near enough."""
    return sum(_width(c) for c in text) * size


def _width(letter: str) -> float:
    if letter in _NARROW:
        return 0.3
    if letter.isascii() or letter in "“”…":
        return 0.95 if letter in "mwMW@%…" else 0.7 if letter.isupper() else 0.556
    return 0.36 if letter in _LOW else 0.6 if letter < "\u1100" else 1.05


def shortened(text: str, width: float, size: float = 10.0) -> str:
    """As much of a text as fits, with … for the rest."""
    if 1.05 * size * len(text) <= width or extent(text, size) <= width:  # 1.05: the widest letter
        return text
    while text and extent(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def _quoted(text: str) -> str:
    """Text as it shall be read: no letter of it is DOT syntax, an escape or HTML."""
    text = _CONTROL.sub(lambda letter: f"U+{ord(letter[0]):04X}", text)
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _hint(text: str) -> str:
    """The same for a tooltip, where Graphviz takes escapes out twice."""
    return _quoted(text.replace("\\", "\\\\"))


def _attributes(values: dict[str, str]) -> str:
    return "[" + " ".join(f'{k}="{v}"' for k, v in values.items()) + "]"


class Folded(NamedTuple):
    """What a folded box shows of one lane: at its height a strip, and below it words.

    Attributes:
        height: Of the strip.
        words: The least and the largest number.
        tile: From the first of the folded steps to one past the last: what stands for them all, and in words.
    """

    height: float
    words: list[str]
    tile: Callable[[int, int], tuple[Reading | Look, str]]


def folded(height: float, readings: Sequence[Reading]) -> Folded:
    """The gradients of a lane."""
    norms = [r.norm for r in readings if r.kind == "value"]
    special = sorted({r.kind for r in readings} - {"value"})
    words = [f"g {number(min(norms))}" + ("" if len(readings) == 1 else f" … {number(max(norms))}")] if norms else []
    if special:
        prefix = "and " if words else "" if special == ["padding"] else "g "
        words.append(prefix + ", ".join("0" if k == "zero" else k for k in special))

    def tile(start: int, stop: int) -> tuple[Reading | Look, str]:
        worst = largest(readings[start:stop])
        return worst, shown(worst)

    return Folded(height, words, tile)


class Canvas:
    """A Graphviz drawing with every coordinate given, filled from the top down."""

    room = (WIDTH - 2 * MARGIN, HEIGHT - 122.0)  # beside margins, caption and legend

    def __init__(self, name: str) -> None:
        self.graph = graphviz.Digraph(
            name,
            graph_attr={"layout": "nop2", "fontname": "Helvetica", "outputorder": "nodesfirst", "id": name,
                        "bgcolor": "#ffffff", "pad": "0.08"},
            node_attr={"shape": "box", "fontname": "Helvetica", "fontsize": "10", "fixedsize": "true",
                       "style": "rounded,filled"},
            edge_attr={"fontname": "Helvetica"},
        )  # fmt: skip
        # Lines of DOT: written here, since graphviz would examine every value again, at ten times the cost.
        self.lines: list[str] = []
        self.bottom, self.right = 0.0, 0.0
        self.below = 0.0  # what the legend takes beyond one row
        self.plain = False  # no rounded corners: they are a third of a large drawing

    @property
    def down(self) -> float:
        """The height that is left for what is drawn: less, where the caption takes more than two lines."""
        return self.room[1] + min(0.0, self.bottom + 46) - self.below

    def band(self, height: float) -> float:
        """Take a band of this height; gives the y of its lower edge."""
        self.bottom -= height
        return self.bottom

    def reach(self, x: float) -> None:
        self.right = max(self.right, x)

    def _node(self, name: str, center: Point, width: float, height: float, **look: str) -> str:
        place = f'pos="{center[0]:.6g},{center[1]:.6g}" width="{width / 72:.4g}" height="{height / 72:.4g}" id="{name}"'
        self.lines.append(f'\t"{name}" [{place} {_attributes(look)[1:]}\n')
        return name

    def text(self, name: str, text: str, center: Point, size: float, **look: str) -> str:
        """Plain words around a point."""
        wide = max(extent(line, size) for line in text.split("\n"))
        return self._node(name, center, max(8.0, wide), size * 1.3, label=_quoted(text),
            shape="plaintext", style="", fontsize=f"{size:g}", **look,
        )  # fmt: skip

    def words(self, name: str, text: str, start: Point, size: float, **look: str) -> None:
        """Plain words that start at a point, and the picture's width with them."""
        width = extent(text, size) + 4
        # An engine that counts bytes takes such letters for several, and would start the line further left.
        more = 0.12 * size * (len(text.encode(errors="replace")) - len(text))
        room = width + min(more, MARGIN - 1)
        self._node(name, (start[0] + room / 2, start[1]), room, size * 1.3, label=_quoted(text) + "\\l",
            shape="plaintext", style="", fontsize=f"{size:g}", **{"class": "caption", "margin": "0"}, **look,
        )  # fmt: skip
        self.reach(start[0] + width)

    def _line(self, name: str, text: str, size: float, height: float) -> None:
        """Words that start at the left margin."""
        self.words(name, text, (MARGIN, self.band(height) + height / 2), size)

    def wrapped(self, text: str, size: float) -> list[str]:
        """Lines of this text that the page has room for."""
        lines: list[str] = []
        for word in text.split(" "):
            if lines and extent(f"{lines[-1]} {word}", size) < self.room[0] - 8:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

    def caption(self, title: str, story: str, *more: str) -> None:
        """What is drawn, what it comes to, and what more there is to say."""
        self._line("caption", title, 14, 22)
        self._line("story", story, 11, 20)
        for k, line in enumerate(more):
            self._line(f"story_{k}", line, 10, 16)
        self.band(4)

    def row_title(self, text: str) -> None:
        self._line(f"row{-self.bottom:.0f}", text, 11, 18)

    def note(self, text: str, x: float) -> None:
        base = self.band(16)
        self.text("note", text, (x + extent(text) / 2, base + 8), 10)

    @contextmanager
    def frame(
        self, t: int, x: float, base: float, width: float, height: float, prefix: str = "step", more: str = ""
    ) -> Iterator[None]:
        """The frame of one time step, as a cluster around what is drawn inside this block."""
        attributes = {
            "bb": f"{x:.6g},{base:.6g},{x + width:.6g},{base + height:.6g}",
            "lp": f"{x + width / 2:.6g},{base + height - 10:.6g}", "label": _quoted(f"t = {t + 1}{more}"),
            "fontsize": "11", "style": "filled" if self.plain else "rounded,filled", "color": "#c8c8c8",
            "fillcolor": "#fafafa", "id": f"{prefix}_{t + 1}", "class": "step",
        }  # fmt: skip
        self.lines.append(f'\tsubgraph "cluster_{prefix}_{t + 1}" {{\n\tgraph {_attributes(attributes)}\n')
        yield
        self.lines.append("\t}\n")

    def card(
        self, name: str, card: Card, center: Point, width: float, height: float, pills: Sequence[Pill],
        t: int = -1, *, size: float = 10.0, faded: bool = False,
    ) -> None:  # fmt: skip
        """A box of at most three lines, and its labels on top; a faded one stands back behind others."""
        gradient = shown(card.reading)
        gradient = "" if card.kind in ("loss", "join") else gradient if gradient == "no path" else f"g {gradient}"
        paint = look(card.reading)
        if card.mark is not None or card.plain:
            gradient, paint = (card.mark.text, card.mark.look) if card.mark is not None else ("", PLAIN)
        lines = [shortened(text, width - 1, size) for text in (card.title, card.aim, card.line, gradient)]
        if height < 24:
            lines = [shortened("  ".join(filter(None, lines)), width - 1, size)]
        attributes = _style(paint, card.kind)
        if self.plain:
            attributes["style"] = attributes["style"].replace("rounded,", "")
        if faded:
            attributes = _faded(attributes)
        if size != 10:
            attributes["fontsize"] = f"{size:g}"
        self._node(
            name, center, width, height, label="\\n".join(_quoted(x) for x in lines if x),
            tooltip=_hint(card.about if card.mark is None else f"{card.mark.about}; {card.about}"),
            **{"class": f"{card.kind} t{t + 1}"}, **attributes,
        )  # fmt: skip
        y = center[1] + height / 2
        for k, pill in enumerate(pills):
            self.pill(f"{name}_{k}_{identifier(pill.name)}", pill, (center[0], y + PILL / 2), width, t, faded=faded)
            y += PILL

    def pill(self, name: str, pill: Pill, center: Point, width: float, t: int, *, faded: bool = False) -> None:
        """A label: the use of a weight, and the norm of its term."""
        size = brief(pill.reading) if pill.mark is None else pill.mark.text
        words = f"{shortened(pill.name, width - 1 - extent(' ' + size))} {size}".strip()
        attributes = _style(look(pill.reading) if pill.mark is None else pill.mark.look, "pill")
        about = f"{pill.parameter}: this step's term of its gradient has norm {shown(pill.reading)}"
        self._node(name, center, width, PILL, label=_quoted(words),
            tooltip=_hint(about if pill.mark is None else pill.mark.about),
            **{"class": f"use use-{identifier(pill.name)} t{t + 1}"}, **(_faded(attributes) if faded else attributes),
        )  # fmt: skip

    def tile(
        self, name: str, shade: Reading | Look, center: Point, width: float, height: float, about: str,
        words: str = "", *, faded: bool = False,
    ) -> None:  # fmt: skip
        style = _style(shade if isinstance(shade, Look) else look(shade), "tile")
        style = _faded(style) if faded else style
        self._node(name, center, width, height, label=words, tooltip=_hint(about), **{"class": "tile"}, **style)

    def panel(self, name: str, center: Point, width: float, height: float, about: str) -> None:
        """An empty frame, for words that stand out."""
        self._node(name, center, width, height, label="", fillcolor="#ffffff", color=_BLACK, penwidth="1.5",
                   style="filled", tooltip=_hint(about), **{"class": "panel"})  # fmt: skip

    def stub(self, x: float, y: float, text: str, name: str) -> str:
        """Where a lane goes on in another row."""
        return self.text(name, text, (x + 10, y + 8), 10)

    def chip(self, name: str, mark: Mark, center: Point, width: float, height: float) -> None:
        """A number on an arrow between two steps."""
        self._node(
            name, center, width, height, label="\\n".join(map(_quoted, mark.text.split("\n")[: int(height // 12)])),
            tooltip=_hint(mark.about), **{"class": "chip"}, **_style(mark.look, "chip"),
        )  # fmt: skip

    def mark_cut(
        self, name: str, x: float, gaps: Sequence[tuple[float, float]], about: str, *, scissors: bool = True
    ) -> None:
        """A dashed line down these gaps, with scissors at its upper end: here the gradient is cut."""
        for k, (low, high) in enumerate(gaps):
            self._segment(f"{name}_{k}", (x, low), (x, high), "dashed", 1.4)
        y = gaps[0][1]
        for side in (-1, 1) if scissors else ():
            self._node(f"{name}_handle{side + 1}", (x + 3.2 * side, y + 11), 5.2, 5.2, label="", shape="circle",
                       style="filled", fillcolor="#ffffff", color=_BLACK, penwidth="1.4", tooltip=_hint(about),
                       **{"class": "cut"})  # fmt: skip
            self._segment(f"{name}_blade{side + 1}", (x + 2.2 * side, y + 8.6), (x - 3.0 * side, y - 2), "solid", 1.5)

    def _segment(self, name: str, start: Point, end: Point, style: str, pen: float) -> None:
        """A line without ends."""
        ids = []
        for k, place in enumerate((start, end)):
            ids.append(self._node(f"{name}_{k}", place, 0.72, 0.72, label="", shape="point", style="invis",
                                  **{"class": "cut"}))  # fmt: skip
        way = " ".join(
            f"{start[0] + (end[0] - start[0]) * k / 3:.6g},{start[1] + (end[1] - start[1]) * k / 3:.6g}"
            for k in range(4)
        )
        attributes = {"pos": way, "dir": "none", "color": _BLACK, "penwidth": f"{pen:g}", "style": style,
                      "id": f"e_{name}", "class": "cut"}  # fmt: skip
        self.lines.append(f'\t"{ids[0]}" -> "{ids[1]}" {_attributes(attributes)}\n')

    def wire(self, tail: str, head: str, points: list[Point], reading: Reading, *, dashed: bool = False,
             faded: bool = False, paint: Look | None = None, value: bool = False, lane: str = "") -> None:  # fmt: skip
        """An arrow from head back to tail, along the corners from tail to head; forward before any backward.

        Of a measure it has the paint; where the value alone goes on, it runs forward. The lane is part of its id,
        where two of them lead from the same place to the same.
        """
        points = [p for k, p in enumerate(points) if k == 0 or math.dist(p, points[k - 1]) > 0.01]
        if len(points) < 2:
            return
        given, waiting = paint, reading.kind == "no backward yet" or value
        paint = PLAIN if value else given or look(reading)
        size = math.log10(reading.norm) if reading.kind == "value" else 1.0 if reading.kind == "not finite" else -12.0
        pen = 1.2 if value or given else min(max(0.8 + 0.32 * (size + 7), 0.8), 3.2)
        arrow = min(max(1.5 / pen, 0.4), 0.8)
        tip, far = (points[-1], points[-2]) if waiting else (points[0], points[1])
        room = math.dist(tip, far)
        back = min(10 * arrow, 0.9 * room) / room
        rest = (tip[0] + (far[0] - tip[0]) * back, tip[1] + (far[1] - tip[1]) * back)
        if waiting:
            points[-1] = rest
        else:
            points[0] = rest
        spline = [points[0]]
        for p, q in pairwise(points):
            spline += [(p[0] + (q[0] - p[0]) * k / 3, p[1] + (q[1] - p[1]) * k / 3) for k in (1, 2)] + [q]
        way = " ".join(f"{x:.6g},{y:.6g}" for x, y in spline)
        attributes = {
            "pos": f"{'e' if waiting else 's'},{tip[0]:.6g},{tip[1]:.6g} {way}",
            "dir": "forward" if waiting else "back",
            "color": pale(paint.edge, 0.3) if faded else paint.edge, "penwidth": f"{pen:.3g}",
            "arrowsize": f"{arrow:.3g}", "id": f"e_{tail}_{head}" + (f"_{identifier(lane)}" if lane else ""),
            "style": "dashed" if dashed or (reading.kind in ("no path", "zero") and not value) else "solid",
            "tooltip": "the value goes on, the gradient does not come back" if value
            else f"gradient along this way: {shown(reading)}",
        }  # fmt: skip
        self.lines.append(f'\t"{tail}" -> "{head}" {_attributes(attributes)}\n')

    def fold(
        self, name: str, hidden: range, lanes: Mapping[str, Folded], x: float, base: float, layout: Layout,
        width: float, what: str = "step", count_from: str = "t", cuts: int = 0,
    ) -> None:  # fmt: skip
        """A box for the steps left out, with each lane's own strip, least and largest number."""
        self._node(
            name, (x + width / 2, base + layout.height / 2), width, layout.height, label="", fillcolor="#ffffff",
            color="#555555", style="rounded,dashed,filled",
            tooltip=_hint(f"{len(hidden)} {what}s, {count_from}={hidden.start + 1} to {hidden.stop}"),
            **{"class": "fold"},
        )  # fmt: skip
        top = base + layout.height
        one = len(hidden) == 1
        self.text(f"{name}_count", f"… {len(hidden):,} {what}{'' if one else 's'} …", (x + width / 2, top - 10), 10)
        span = f"{count_from} = {hidden.start + 1}" + ("" if one else f"…{hidden.stop}")
        if cuts:
            more = f", {cuts} cut{'' if cuts == 1 else 's'}"
            span = span + more if extent(span + more) <= width else span.removeprefix(f"{count_from} = ") + more
        heights = sorted(layout.lanes.values())
        narrow = min((b - a for a, b in pairwise(heights)), default=math.inf) < 42
        roomy = top - base - max(layout.lanes.values()) > 36
        self.text(f"{name}_span", span, (x + width / 2, top - 23 if roomy else base + 9), 10)
        for lane, folded in lanes.items():
            y = folded.height + base
            words = folded.words
            if narrow:  # in one line, without the first words where there is no room for them
                line = " ".join(words)
                words = [shortened(line if extent(line) <= width - 4 else words[-1], width - 4)] if words else []
            for k, word in enumerate(words):
                self.text(f"{name}_{identifier(lane)}_words{k}", word, (x + width / 2, y - 15 - 12 * k), 10)
            count = min(_TILES, len(hidden))
            wide = (width - 8) / count
            for k in range(count):
                start, stop = k * len(hidden) // count, (k + 1) * len(hidden) // count
                shade, worst = folded.tile(start, stop)
                first, last = hidden.start + start + 1, hidden.start + stop
                where = f"{count_from}={first}" + ("" if first == last else f"…{last}, largest")
                center = (x + 4 + wide * (k + 0.5), y)
                self.tile(f"{name}_{identifier(lane)}_{k}", shade, center, wide, 13, f"{where}: {worst}")

    def legend(self, key: str, dtypes: Collection[Any] = (), *, padding: bool = False) -> None:
        """The colour scale, the kinds that are no numbers (of gradients of these types), and how to read a box."""
        height, wide = 34.0, 62.0
        kinds = [special(kind, dtypes) for kind in SPECIAL if kind != "padding" or padding]
        pieces = [("bin", b) for _, b in BINS] + [("kind", k) for k in kinds]
        x, base = MARGIN, self.band(height + 14)
        for k, (kind, paint) in enumerate(pieces):
            if kind == "kind" and pieces[k - 1][0] == "bin":
                if self.right < 880 and -self.bottom < 640:  # a narrow picture: a second row
                    x, base = MARGIN, self.band(height + 6)
                else:
                    x += 14
            step = wide if kind == "bin" else wide + 14
            shape = "tile" if kind == "bin" else "gate"
            self._node(f"legend_{k}", (x + step / 2 - (0 if kind == "bin" else 2), base + height / 2),
                step if kind == "bin" else step - 8, height, label=_quoted(paint.legend), **{"class": "legend"},
                **_style(paint, shape),
            )  # fmt: skip
            x += step
            self.reach(x)
        self._node("legend_key", (x + 56, base + height / 2), 96, height + 6, label=_quoted(key),
            fillcolor="#ffffff", color="#555555", **{"class": "legend"},
        )  # fmt: skip
        self.reach(x + 104)

    def scales(
        self, some: Sequence[tuple[str, Scale]], kinds: Sequence[str], dtypes: Collection[Any] = ()
    ) -> None:
        """The colours of a measure's numbers, each row with what the number is, and the kinds that are no numbers."""
        beside = len(some) == 2 and self.right > 900  # in a narrow picture below each other
        left, base = MARGIN, 0.0
        for row, (words, scale) in enumerate(some):
            if row == 0 or not beside:
                left, base = MARGIN, self.band(51)
            self.words(f"scale{row}", words, (left, base + 38), 10)
            last = kinds if row == len(some) - 1 else ()
            pieces = [*(found for _, found in scale), *(special(kind, dtypes) for kind in last)]
            x = left
            for k, paint in enumerate(pieces):
                if k == len(scale) and x + 66 * len(kinds) > WIDTH - MARGIN:  # the kinds in a line of their own
                    x, base = MARGIN, self.band(34)
                x += 12 if k == len(scale) else 0
                wide = 8 + max(50.0, *(extent(line) for line in paint.legend.split("\n")))
                self._node(f"scale{row}_{k}", (x + wide / 2, base + 15), wide, 28, label=_quoted(paint.legend),
                           **{"class": "legend"}, **_style(paint, "tile" if k < len(scale) else "gate"))  # fmt: skip
                x += wide + (0 if k < len(scale) else 6)
                self.reach(x)
            left = x + 16

    def picture(self) -> Picture:
        width, height = self.right + MARGIN, -self.bottom + MARGIN
        self.graph.body.extend(self.lines)
        self.graph.graph_attr["bb"] = f"0,{self.bottom - 4:g},{width:g},0"
        return Picture(self.graph, (width, height))


def _style(paint: Look, kind: str) -> dict[str, str]:
    """Graphviz's words for a look on a kind of box."""
    fill, border, pen = paint.fill, "#555555", "1"
    style = {"input": "filled", "tile": "filled", "loss": "filled", "join": "filled"}.get(kind, "rounded,filled")
    if kind == "join":  # it shows no gradient of its own
        fill = "#ffffff"
    if kind in ("state", "initial"):
        border, pen = _BLACK, "2"
    if kind == "chip":
        border, pen = _BLACK, "1"
    if kind == "tile":
        border, pen = "#8f8f8f", "0.5"
    if paint.style == "striped":
        bar = 0.2 if kind == "tile" else 0.08
        style, fill = "striped", f"{paint.edge};{bar}:#ffffff;{1 - 2 * bar:.2g}:{paint.edge}"
    elif paint.style == "heavy":
        border, pen = paint.edge, "1.5" if kind in ("tile", "pill") else "3"
    elif paint.style == "invisible":
        border, pen = paint.edge, "0.5"
    elif "d" in paint.style:  # dashed, dotted
        style = f"filled,{paint.style}" if style.startswith("rounded") else f"filled,{paint.style.split(',')[-1]}"
    shape = {"shape": "octagon"} if kind == "loss" else {}
    if kind == "op" and paint.style != "striped":
        shape = {"shape": "ellipse"}
    if kind == "loss" and style == "striped":
        style = "filled"
    return {"fillcolor": fill, "color": border, "penwidth": pen, "fontcolor": paint.text, "style": style, **shape}


def _faded(attributes: dict[str, str]) -> dict[str, str]:
    fill, border = pale(attributes["fillcolor"], 0.25), pale(attributes["color"], 0.35)
    return {**attributes, "fillcolor": fill, "color": border, "fontcolor": _BACK}
