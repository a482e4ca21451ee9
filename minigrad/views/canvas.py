"""The canvas: boxes, wires, tiles and words at given places, written as Graphviz's DOT."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import graphviz

from ..bptt.record import Reading
from .layout import Layout, Point
from .palette import BINS, SPECIAL, Look, brief, largest, look, number, pale, shown
from .picture import Picture
from .scene import Card, Pill

__all__ = ["FOLD", "GAP", "HEADER", "MARGIN", "PILL", "STUB", "WIDTH", "Canvas", "extent", "identifier", "shortened"]

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
        self.plain = False  # no rounded corners: they are a third of a large drawing

    @property
    def down(self) -> float:
        """The height that is left for what is drawn: less, where the caption takes more than two lines."""
        return self.room[1] + min(0.0, self.bottom + 46)

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
        return self._node(name, center, max(8.0, extent(text, size)), size * 1.3, label=_quoted(text),
            shape="plaintext", style="", fontsize=f"{size:g}", **look,
        )  # fmt: skip

    def words(self, name: str, text: str, start: Point, size: float, **look: str) -> None:
        """Plain words that start at a point, and the picture's width with them."""
        width = extent(text, size) + 4
        self._node(name, (start[0] + width / 2, start[1]), width, size * 1.3, label=_quoted(text) + "\\l",
            shape="plaintext", style="", fontsize=f"{size:g}", **{"class": "caption", "margin": "0"}, **look,
        )  # fmt: skip
        self.reach(start[0] + width)

    def _line(self, name: str, text: str, size: float, height: float) -> None:
        """Words that start at the left margin."""
        self.words(name, text, (MARGIN, self.band(height) + height / 2), size)

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
            "lp": f"{x + width / 2:.6g},{base + height - 10:.6g}", "label": f"t = {t + 1}{more}", "fontsize": "11",
            "style": "filled" if self.plain else "rounded,filled", "color": "#c8c8c8", "fillcolor": "#fafafa",
            "id": f"{prefix}_{t + 1}",
            "class": "step",
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
        lines = [shortened(text, width - 1, size) for text in (card.title, card.line, gradient)]
        if height < 24:
            lines = [shortened("  ".join(filter(None, lines)), width - 1, size)]
        attributes = _style(look(card.reading), card.kind)
        if self.plain:
            attributes["style"] = attributes["style"].replace("rounded,", "")
        if faded:
            attributes = _faded(attributes)
        if size != 10:
            attributes["fontsize"] = f"{size:g}"
        self._node(
            name, center, width, height, label="\\n".join(_quoted(x) for x in lines if x),
            tooltip=_hint(card.about), **{"class": f"{card.kind} t{t + 1}"}, **attributes,
        )  # fmt: skip
        y = center[1] + height / 2
        for k, pill in enumerate(pills):
            self.pill(f"{name}_{k}_{identifier(pill.name)}", pill, (center[0], y + PILL / 2), width, t, faded=faded)
            y += PILL

    def pill(self, name: str, pill: Pill, center: Point, width: float, t: int, *, faded: bool = False) -> None:
        """A label: the use of a weight, and the norm of its term."""
        size = brief(pill.reading)
        words = f"{shortened(pill.name, width - 1 - extent(' ' + size))} {size}".strip()
        attributes = _style(look(pill.reading), "pill")
        self._node(name, center, width, PILL, label=_quoted(words),
            tooltip=_hint(f"{pill.parameter}: this step's term of its gradient has norm {shown(pill.reading)}"),
            **{"class": f"use use-{identifier(pill.name)} t{t + 1}"}, **(_faded(attributes) if faded else attributes),
        )  # fmt: skip

    def tile(
        self, name: str, reading: Reading, center: Point, width: float, height: float, about: str, words: str = "",
        *, faded: bool = False,
    ) -> None:  # fmt: skip
        style = _style(look(reading), "tile")
        style = _faded(style) if faded else style
        self._node(name, center, width, height, label=words, tooltip=_hint(about), **{"class": "tile"}, **style)

    def panel(self, name: str, center: Point, width: float, height: float, about: str) -> None:
        """An empty frame, for words that stand out."""
        self._node(name, center, width, height, label="", fillcolor="#ffffff", color=_BLACK, penwidth="1.5",
                   style="filled", tooltip=_hint(about), **{"class": "panel"})  # fmt: skip

    def stub(self, x: float, y: float, text: str, name: str) -> str:
        """Where a lane goes on in another row."""
        return self.text(name, text, (x + 10, y + 8), 10)

    def wire(self, tail: str, head: str, points: list[Point], reading: Reading, *, dashed: bool = False,
             faded: bool = False) -> None:  # fmt: skip
        """An arrow from head back to tail, along the corners from tail to head; forward before any backward."""
        points = [p for k, p in enumerate(points) if k == 0 or math.dist(p, points[k - 1]) > 0.01]
        if len(points) < 2:
            return
        paint, waiting = look(reading), reading.kind == "no backward yet"
        size = math.log10(reading.norm) if reading.kind == "value" else 1.0 if reading.kind == "not finite" else -12.0
        pen = min(max(0.8 + 0.32 * (size + 7), 0.8), 3.2)
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
            "arrowsize": f"{arrow:.3g}", "id": f"e_{tail}_{head}",
            "style": "dashed" if dashed or reading.kind in ("no path", "zero") else "solid",
            "tooltip": f"gradient along this way: {shown(reading)}",
        }  # fmt: skip
        self.lines.append(f'\t"{tail}" -> "{head}" {_attributes(attributes)}\n')

    def fold(
        self, name: str, hidden: range, readings: dict[str, list[Reading]], x: float, base: float, layout: Layout,
        width: float, what: str = "step", count_from: str = "t",
    ) -> None:  # fmt: skip
        """A box for the steps left out, with each lane's own strip, least and largest norm."""
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
        heights = sorted(layout.lanes.values())
        narrow = min((b - a for a, b in pairwise(heights)), default=math.inf) < 42
        roomy = top - base - max(layout.lanes.values()) > 36
        self.text(f"{name}_span", span, (x + width / 2, top - 23 if roomy else base + 9), 10)
        for state, some in readings.items():
            y = layout.lanes[state] + base
            norms = [r.norm for r in some if r.kind == "value"]
            special = sorted({r.kind for r in some} - {"value"})
            words = [f"g {number(min(norms))}" + ("" if one else f" … {number(max(norms))}")] if norms else []
            if special:
                prefix = "and " if words else "" if special == ["padding"] else "g "
                words.append(prefix + ", ".join("0" if k == "zero" else k for k in special))
            if narrow:
                words = [shortened(" ".join(words), width - 4)]
            for k, word in enumerate(words):
                self.text(f"{name}_{identifier(state)}_words{k}", word, (x + width / 2, y - 15 - 12 * k), 10)
            count = min(_TILES, len(some))
            wide = (width - 8) / count
            for k in range(count):
                chunk = some[k * len(some) // count : (k + 1) * len(some) // count]
                worst = largest(chunk)
                first = hidden.start + k * len(some) // count + 1
                last = first + len(chunk) - 1
                where = f"{count_from}={first}" + ("" if first == last else f"…{last}, largest")
                center = (x + 4 + wide * (k + 0.5), y)
                self.tile(f"{name}_{identifier(state)}_{k}", worst, center, wide, 13, f"{where}: {shown(worst)}")

    def legend(self, key: str, *, padding: bool = False) -> None:
        """The colour scale, the kinds that are no numbers, and how to read a box."""
        height, wide = 34.0, 62.0
        pieces = [("bin", b) for _, b in BINS] + [("kind", SPECIAL[k]) for k in SPECIAL if k != "padding" or padding]
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
