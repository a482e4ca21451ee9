"""Picture: a drawn graph that can be saved, shown, and drawn by more than one engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import graphviz

from ..errors import DrawError

__all__ = ["ENGINES", "FORMATS", "Picture"]

ENGINES = ("graphviz-pure", "dot")
FORMATS = ("svg", "png", "pdf", "dot")
_PIXELS = 16_000  # beyond, viewers and browsers give up
_PNG_DPI = 96  # one CSS pixel a pixel: what fits 1,600 x 1,000 on a page fits it here


# graphviz-pure's own fonts have Latin, Greek and Cyrillic letters and a few signs; what they lack would be an empty
# box in a PNG, so its code point stands there. In an SVG the viewer's fonts supply every letter.
_UNDRAWN = (
    "[^\\x00-\u052f\u2010-\u2027\u2030-\u203a\u2070-\u208e\u2090-\u209c\u20a0-\u20bf\u2122\u2190-\u2195\u2202\u2206\u2211"
    "\u2212\u2215\u2219-\u221a\u221e\u222b\u2248\u2260\u2264\u2265\u1d62-\u1d6a\u25a0\u25a1\u25b2\u25bc\u25cf]"
)
_WORD = re.compile(f'{_UNDRAWN}(?:[^"“”\\\\\n]*{_UNDRAWN})?')  # several such letters: the first code point and …


class Picture:
    """A graph with every coordinate fixed; an engine only draws it.

    Shows itself in a notebook. The engine is `graphviz-pure`, which comes with minigrad, or an
    installed Graphviz: `engine="dot"`, or the environment variable MINIGRAD_DOT=dot.
    """

    def __init__(self, graph: graphviz.Digraph, size: tuple[float, float]) -> None:
        self.graph, self.size = graph, size  # in points

    @property
    def source(self) -> str:
        """The drawing in Graphviz's DOT language."""
        return str(self.graph.source)

    def svg(self, engine: str | None = None) -> str:
        """The drawing as SVG.

        Raises:
            DrawError: No engine is there, or it failed.
        """
        return self._draw("svg", engine).decode()

    def save(self, path: str | os.PathLike[str], engine: str | None = None) -> Path:
        """Write the drawing; the ending says how: .svg, .png, .pdf (with Graphviz's dot only) or .dot.

        An older file of this name stays whole until the new one is complete.

        Raises:
            DrawError: The ending is another one, no engine is there, or a PNG would be too large.
        """
        target = Path(path)
        kind = target.suffix.lstrip(".").lower()
        if kind not in FORMATS:
            raise DrawError(f"{target.name}: no picture format ends so.\n  Use one of .{', .'.join(FORMATS)}.")
        content = self.source.encode() if kind == "dot" else self._draw(kind, engine)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # mkstemp's file is for its owner alone
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return target

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg()}

    def _draw(self, kind: str, engine: str | None) -> bytes:
        engine = engine or os.environ.get("MINIGRAD_DOT") or ENGINES[0]
        if engine not in ENGINES:
            raise DrawError(f"There is no engine {engine!r}.\n  Choose one of {', '.join(ENGINES)}.")
        if kind == "pdf" and engine != "dot":
            raise DrawError(
                "graphviz-pure writes no PDF.\n  Save .svg, or install Graphviz and draw with the engine dot."
            )
        if kind == "png" and max(self.size) * _PNG_DPI / 72 > _PIXELS:
            width, height = (round(s * _PNG_DPI / 72) for s in self.size)
            raise DrawError(
                f"A PNG of {width:,} x {height:,} pixels is too large for viewers (limit {_PIXELS:,} on a side).\n"
                "  Save .svg, draw fewer steps, or leave the middle folded."
            )
        found = _find(engine)
        if found is None:
            raise DrawError(
                f"{engine} is not installed, so nothing can be drawn; the .dot source can still be saved.\n  "
                + ("Install it: pip install graphviz-pure." if engine == ENGINES[0]
                   else "Install Graphviz (apt install graphviz, brew install graphviz), or use graphviz-pure.")
            )  # fmt: skip
        options, source = [], self.source
        if kind == "png" and engine == ENGINES[0]:
            source = _drawable(source)
        if kind == "png":
            options = [f"-Gdpi={_PNG_DPI}"]
        done = subprocess.run([found, f"-T{kind}", *options], input=source.encode(), capture_output=True, check=False)
        if done.returncode or not done.stdout:
            raise DrawError(
                f"{engine} could not draw this picture (exit status {done.returncode}):"
                f" {done.stderr.decode(errors='replace').strip()[:300]}\n"
                "  Try the other engine, or save the .dot source."
            )
        if kind == "svg":
            # What the engine writes about itself differs by version; the picture does not.
            return re.sub(rb"<!-- Generated by .*?-->\s*", b"", done.stdout, count=1, flags=re.DOTALL)
        return done.stdout


def _drawable(source: str) -> str:
    """Code points for letters that the engine's own fonts lack; in two lines under the tiles of a strip."""
    lines = []
    for line in source.splitlines(keepends=True):
        between = "\\n" if line.startswith('\t"label_') else ""
        lines.append(_WORD.sub(lambda word, between=between: _code(word[0], between), line))  # type: ignore[misc]
    return "".join(lines)


def _code(word: str, between: str) -> str:
    return f"U+{between}{ord(word[0]):04X}" + ("…" if len(word) > 1 and not between else "")


def _find(engine: str) -> str | None:
    """The engine's program: on the PATH, or beside this Python, where pip puts it."""
    return shutil.which(engine) or (
        shutil.which(engine, path=sysconfig.get_path("scripts")) if engine == ENGINES[0] else None
    )
