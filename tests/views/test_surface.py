"""The picture of an error surface: tiles where the points are, lines where the descents went, words that say it."""

from __future__ import annotations

import dataclasses
import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad.bptt.surface import Descent, descent, error_surface
from minigrad.errors import RecordError
from minigrad.views import draw
from minigrad.views.picture import Picture
from minigrad.views.surface import _inside, surface
from tests.views.test_lens_surface import SURFACES, bowl, walled, ways

EVERY_SURFACE = pytest.mark.parametrize("name", SURFACES)


class Node(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    fill: str
    about: str


def nodes(picture: Picture, kind: str) -> dict[str, Node]:
    """The rectangles whose names begin so."""
    found = {}
    pattern = (
        r'^\t"(\w+)" \[pos="([^,]+),([^"]+)" width="([^"]+)" height="([^"]+)".*fillcolor="([^"]+)".*tooltip="([^"]*)"'
    )
    for name, x, y, width, height, fill, about in re.findall(pattern, picture.source, re.MULTILINE):
        if name.startswith(kind):
            found[name] = Node(float(x), float(y), 72 * float(width), 72 * float(height), fill, about)
    return found


def lines(picture: Picture) -> dict[str, tuple[np.ndarray[Any, Any], bool]]:
    """The corners of every line, and whether it ends in an arrow."""
    found = {}
    for way, name in re.findall(r'-> "\w+" \[pos="([^"]+)".* id="(\w+)"', picture.source):
        points = [tuple(map(float, p.split(","))) for p in way.split() if not p.startswith("e,")]
        found[name] = (np.array(points[::3]), way.startswith("e,"))
    return found


def words(picture: Picture) -> list[str]:
    root = ElementTree.fromstring(picture.svg())
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def free() -> Descent:
    return dict(ways())["free"]


@EVERY_SURFACE
def test_every_surface_is_drawn_by_the_engine(name: str) -> None:
    found = SURFACES[name]()
    some = dict(ways()) if found.names == ("w", "b") else {}
    picture = surface(found, some)
    assert ElementTree.fromstring(picture.svg()).tag.endswith("svg")
    assert max(picture.size) < 1000


def test_it_is_drawn_as_the_other_pictures_are() -> None:
    assert draw.surface is surface


@pytest.mark.parametrize("points", [2, 61, 301])
def test_the_tiles_cover_the_map_once(points: int) -> None:
    tiles = nodes(surface(walled(points)), "tile_")
    rows: dict[float, list[Node]] = {}
    for tile in tiles.values():
        rows.setdefault(round(tile.y, 2), []).append(tile)
    for row in rows.values():
        row.sort()
        assert row[0].x - row[0].width / 2 == pytest.approx(64, abs=0.1)
        assert row[-1].x + row[-1].width / 2 == pytest.approx(64 + 720, abs=0.1)
        for a, b in pairwise(row):
            assert a.x + a.width / 2 == pytest.approx(b.x - b.width / 2, abs=0.1)
            assert a.fill != b.fill
    heights = sorted(rows)
    assert len(heights) == min(points, 88)
    assert np.ptp(heights) == pytest.approx(440 * (1 - 1 / len(heights)), abs=0.2)


def test_a_tile_is_grey_by_its_error_and_orange_where_the_gradient_is_large() -> None:
    found = error_surface(bowl, u=[0.0, 0.1, 0.2, 0.3], v=[0.0])
    tiles = [tile.fill for tile in sorted(nodes(surface(found), "tile_").values())]
    assert tiles[0] == "#ffffff"
    assert tiles[-1] == "#7d7d7d"
    steep = dataclasses.replace(found, gradients=np.array([[0.1, 5.0, 50.0, 5e5]]))
    tiles = [tile.fill for tile in sorted(nodes(surface(steep), "tile_").values())]
    assert tiles == ["#ffffff", "#fbd3a8", "#f2a05f", "#8c2d04"]


def test_a_tile_tells_what_lies_below_it() -> None:
    found = error_surface(bowl, u=[0.0, 0.3], v=[0.0])
    first, second = sorted(nodes(surface(found), "tile_").values())
    assert first.about == "u 0, v 0: E 0, gradient 0"
    assert second.about == "u 0.3, v 0: E 0.09, gradient 0.6"
    (both,) = nodes(surface(error_surface(bowl, u=[1.0, 2.0], v=[3.0])), "tile_").values()
    assert both.about == "u 1 to 2, v 3: E 37 to 40, gradient 24"


def test_a_line_goes_where_its_descent_went_and_leaves_by_an_arrow() -> None:
    picture = surface(walled(), {"free": free()})
    found = lines(picture)
    assert [arrow for _, arrow in found.values()] == [True]
    ((points, _),) = found.values()
    bottom = min(tile.y - tile.height / 2 for tile in nodes(picture, "tile_").values()) + 0.35
    path = np.stack([64 + (points[:, 0] - 64), points[:, 1] - bottom], axis=1)
    w, b = 4 + (path[:, 0] - 64) / 720 * 3, -3.2 + path[:, 1] / 440 * 1.4
    inside = free().path[: free().jump + 1]
    for point in zip(w, b, strict=True):
        near = np.abs(inside - point).max(axis=1).min()
        assert near < 0.01 or point == (w[-1], b[-1])
    # the last point lies on the border, on the way to where the jump ends
    start, end = free().path[free().jump], free().path[free().jump + 1]
    share = (np.array([w[-1], b[-1]]) - start) / (end - start)
    assert share[0] == pytest.approx(share[1], abs=0.01)
    assert min(abs(w[-1] - 7), abs(w[-1] - 4), abs(b[-1] + 1.8), abs(b[-1] + 3.2)) < 0.01


def test_the_words_are_the_numbers_of_the_descents() -> None:
    some = dict(ways())
    text = words(surface(walled(), some))
    assert "The error over w and b" in text
    assert any(line.startswith("free: 120 updates of lr 0.2, longest move 7.3; ends at") for line in text)
    fired = int(some["clipped"].fired.sum())
    assert any(f"clipped: 120 updates of lr 0.2, clipped at 1 ({fired} times), longest move 0.2;" in x for x in text)
    assert text.count("start") == 2
    assert any(line.startswith("to ") for line in text)
    assert words(surface(walled(), title="E"))[0] == "E"


def test_a_long_way_is_cut_for_graphviz_which_reads_no_text_beyond_16384_letters() -> None:
    turns = np.linspace(0, 300, 4000)
    path = np.stack([5.5 + np.cos(turns) * turns / 300, -2.5 + 0.4 * np.sin(turns) * turns / 300], axis=1)
    k = np.zeros(4000)
    way = Descent(("w", "b"), 0.1, None, path, k, k, np.zeros(3999, bool))
    picture = surface(walled(3), {"spiral": way})
    assert len(lines(picture)) > 1
    assert max(map(len, re.findall(r'"[^"]*"', picture.source))) < 16_000
    ends = [points for points, _ in lines(picture).values()]
    for a, b in pairwise(ends):
        np.testing.assert_array_equal(a[-1], b[0])


def test_what_is_off_the_map_or_not_finite_is_not_drawn() -> None:
    exploded = descent(lambda w, b: w * w * w * w + b, {"w": 10.0, "b": 0.0}, lr=1.0, steps=50)
    still = descent(bowl, {"u": 5.0, "v": 0.0}, lr=1e-9, steps=3)
    picture = surface(walled(3), {"far": exploded, "near": dataclasses.replace(still, names=("w", "b"))})
    assert "start" not in words(picture)
    for points, _ in lines(picture).values():
        assert np.isfinite(points).all()


@pytest.mark.parametrize(
    ("points", "pieces"),
    [
        ([(1, 1), (2, 2)], [([(1, 1), (2, 2)], False)]),
        ([(1, 1), (6, 1)], [([(1, 1), (4, 1)], True)]),
        ([(-2, 1), (1, 1)], [([(0, 1), (1, 1)], False)]),
        ([(-1, 2), (5, 2)], [([(0, 2), (4, 2)], True)]),
        ([(-1, 5), (5, 5)], []),
        ([(-3, 2), (2, -3)], []),
        ([(1, 1), (6, 1), (6, 3), (1, 3)], [([(1, 1), (4, 1)], True), ([(4, 3), (1, 3)], False)]),
        ([(1, 1), (1, 1), (2, 1)], [([(1, 1), (1, 1), (2, 1)], False)]),
        ([(1, 1)], []),
    ],
)
def test_a_line_is_cut_at_the_border(points: Any, pieces: Any) -> None:
    low, high = np.zeros(2), np.full(2, 4.0)
    assert list(_inside(np.array(points, float), low, high)) == pieces


@pytest.mark.parametrize("name", ['"', "\\N", "<b>", "[red]", "a\nb", "&amp;"])
def test_hostile_names_are_shown_as_they_are(name: str) -> None:
    found = error_surface(lambda **given: given[name] * given["v"], **{name: [1.0, 2.0], "v": [1.0, 2.0]})
    way = dataclasses.replace(free(), names=(name, "v"))
    text = " ".join(words(surface(found, {name: way})))
    assert " ".join(name.split()) in " ".join(text.split())


def test_a_descent_over_other_parameters_is_refused() -> None:
    with pytest.raises(RecordError, match=r"^surface: the descent 'x' is over w and b, the surface over u and v\."):
        surface(error_surface(bowl, u=[1.0], v=[1.0]), {"x": free()})


def test_it_shows_itself_in_a_notebook() -> None:
    assert surface(walled(3))._repr_mimebundle_()["image/svg+xml"].count("<svg") == 1
    assert math.isfinite(sum(surface(walled(3)).size))
