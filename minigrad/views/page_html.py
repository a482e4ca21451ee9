"""The document of a page: one file of HTML with its style, its scripts and its data, which asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from .page_codes import LOOKS
from .palette import Look, pale

__all__ = ["SCRIPTS", "document"]

_DARK = "#242a31"  # a step's frame in the dark theme
_FAINT = 3.0  # the least contrast of an arrow with it
SCRIPTS = ("page_base.js", "page_network.js", "page_training.js", "page.js")
"""Parts of one script, in the order in which they stand on each other."""


def _json(data: Any) -> str:
    """JSON that holds no letter of HTML, to stand inside a script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _on_dark(colour: str) -> str:
    """An arrow's colour on a dark frame: as much lighter as it takes to be seen."""
    lighter = (pale(colour, percent / 100) for percent in range(100, 0, -5))
    contrasts = (((_luminance(c) + 0.05) / (_luminance(_DARK) + 0.05), c) for c in lighter)
    return next((c for contrast, c in contrasts if contrast >= _FAINT), "#ffffff")


def _colours() -> str:
    """The palette as style: a class for each look."""
    return "".join(
        f".look{k}{{--fill:{x.fill};--ink:{x.text};--edge:light-dark({x.edge},{_on_dark(x.edge)})}}\n"
        for k, x in enumerate(LOOKS)
    )


def _legend(x: Look, k: int) -> str:
    words = html.escape(x.legend).replace("\n", "<br>")
    kind = x.style.rpartition(",")[2]
    return f'<li class="look{k} {kind}"><span>{words}</span></li>'


def _text(name: str) -> str:
    return (files(__package__) / name).read_text("utf8")


def document(title: str, data: Mapping[str, Any], occurring: Mapping[int, Look]) -> str:
    """
    Args:
        title: In words.
        data: For the scripts.
        occurring: The looks of the legend, by their places among all.
    """
    css = _text("page.css") + _colours()
    script = '"use strict";\n(() => {\n' + "\n".join(map(_text, SCRIPTS)) + "})();\n"
    legend = "".join(_legend(x, k) for k, x in occurring.items())
    policy = (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{html.escape(title)}</h1>
<button type="button" id="theme">Dark</button>
<p id="lead">Each column is one time step. The network reads them in the direction of the upper arrow; the gradient of
its loss travels back in the direction of the lower one. <b>Colour is how much of it arrives</b>: blue has vanished,
cream is healthy, orange explodes. Move the slider to watch it change while the network learns. The level is how much of
a step is drawn: only the strip above, its cell, its gates, or every op. Whatever you point at, tap, or reach with the
keys tab and arrows tells its number.</p>
<noscript><p>This page draws with JavaScript, and that is switched off.</p></noscript>
</header>
<section id="controls" aria-label="What is shown">
<fieldset id="cells"><legend>Cell</legend></fieldset>
<fieldset id="layers" hidden><legend>Layer</legend></fieldset>
<fieldset id="levels" aria-describedby="why"><legend>Level</legend></fieldset>
<div id="training"><label for="update">Training update</label>
<button type="button" id="play" aria-label="Play the training">▶</button>
<input type="range" id="update" min="0" step="1" value="0">
<output id="moment" for="update" aria-live="off"></output></div>
</section>
<main>
<section id="network" aria-labelledby="story">
<h2 id="story"></h2>
<div id="map" role="group"></div>
<fieldset id="highlights" hidden><legend>Highlight</legend></fieldset>
<div id="drawing">
<div id="graph" role="group"></div>
<section id="anatomy" aria-labelledby="anatomy_title" hidden><h3 id="anatomy_title"></h3>
<p id="anatomy_story"></p><ol id="equations"></ol><div id="anatomy_notes"></div></section>
</div>
<p id="note" hidden></p>
<p id="why" hidden></p>
<p id="chosen" aria-live="polite"></p>
<ul id="legend" aria-label="Colours">{legend}<li class="key"><span>name<br>mean value<br>g = ‖∂L/∂name‖</span></li>
<li class="key"><span>bold edge: state<br>square: input<br>octagon: loss</span></li>
<li class="key"><span>small, with a weight’s name:<br>what this step adds<br>to its gradient</span></li></ul>
</section>
<section id="heat" aria-labelledby="heat_title">
<h2 id="heat_title">All of the training at once</h2>
<p>One row an update, from the first at the top to the last; one column a time step; dotted: exactly 0, or no
number on the scale.
<label for="row">Gradient of</label> <select id="row"></select></p>
<div id="heats"></div>
</section>
<section id="clipping" aria-labelledby="clip_title">
<h2 id="clip_title">What clipping by norm would do</h2>
<p id="clip_control"><label for="threshold">Threshold C</label>
<input type="range" id="threshold" step="1"><input type="number" id="exact" step="any" min="0"
aria-label="Threshold C as a number"></p>
<p id="verdict"></p>
<div id="clips"><figure><figcaption id="terms_title"></figcaption><div id="terms" role="group"></div></figure>
<figure><figcaption id="norms_title"></figcaption><div id="norms" role="group"></div></figure></div>
<p id="meaning"></p>
</section>
</main>
<div id="hint" role="tooltip" hidden></div>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body>
</html>
"""
