"""The error surface in the terminal: its tiles are the surface, its letters are where the descents went."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from minigrad.bptt.surface import Descent, ErrorSurface, descent, error_surface, wall
from minigrad.errors import RecordError
from minigrad.views import lens
from minigrad.views.lens_surface import scale_of
from tests.views.test_lens import ascii_of, one_line, printed


@functools.cache
def walled(points: int = 61) -> ErrorSurface:
    return error_surface(wall, w=np.linspace(4, 7, points), b=np.linspace(-3.2, -1.8, points))


@functools.cache
def ways() -> tuple[tuple[str, Descent], ...]:
    """At this rate the wall throws the first one off, whatever the last bits are."""
    start = {"w": 4.2, "b": -2.9}
    return (
        ("free", descent(wall, start, lr=0.2, steps=120)),
        ("clipped", descent(wall, start, lr=0.2, steps=120, clip_norm=1.0)),
    )


def bowl(u: Any, v: Any) -> Any:
    return u * u + 4 * (v * v)


SURFACES: dict[str, Any] = {
    "wall": walled,
    "few points": lambda: walled(3),
    "one point": lambda: error_surface(bowl, u=[1.0], v=[1.0]),
    "one row": lambda: error_surface(bowl, u=np.linspace(-1, 1, 200), v=[1.0]),
    "one column": lambda: error_surface(bowl, u=[1.0], v=np.linspace(-1, 1, 200)),
    "flat": lambda: error_surface(lambda u, v: u * 0 + v * 0 + 3, u=[0.0, 1.0], v=[0.0, 1.0]),
    "zero": lambda: error_surface(lambda u, v: u * v * 0, u=[0.0, 1.0], v=[0.0, 1.0]),
    "wide range": lambda: error_surface(lambda u, v: u * u * u * u * v, u=np.linspace(0.1, 30, 30), v=[1.0, 2.0]),
    "negative": lambda: error_surface(lambda u, v: -u * u * v, u=[1.0, 2.0, 30.0], v=[1.0, 2.0]),
}  # fmt: skip


def broken() -> ErrorSurface:
    errors = np.array([[math.nan, 1.0], [math.inf, 2.0]])
    return dataclasses.replace(walled(2), errors=errors, gradients=np.array([[math.nan, 1.0], [math.inf, 0.0]]))


def hopeless() -> ErrorSurface:
    return dataclasses.replace(walled(2), errors=np.full((2, 2), math.nan), gradients=np.full((2, 2), math.nan))


SURFACES |= {"broken": broken, "nothing finite": hopeless}
EVERY_SURFACE = pytest.mark.parametrize("name", SURFACES)


def grid_of(text: str) -> list[str]:
    """The lines of the map, without their margin."""
    return [line.split("│", 1)[1] for line in text.splitlines() if "│" in line]


# The map


@EVERY_SURFACE
@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_console(name: str, width: int) -> None:
    found = SURFACES[name]()
    some = dict(ways()) if found.names == ("w", "b") else {}
    assert max(cell_len(line) for line in printed(lens.surface(found, some), width).splitlines()) <= width


@EVERY_SURFACE
def test_it_reads_in_ascii_and_without_colour(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lens.surface(SURFACES[name]())
    assert "?" not in ascii_of(shown)
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(shown, force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[\d;]*(?:3|4|9)\d", text)
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == printed(shown)


def test_a_tile_is_the_error_of_its_point() -> None:
    found = error_surface(bowl, u=np.arange(6.0), v=[0.0, 1.0])
    # errors 0, 1, 4, 9, 16, 25 and 4, 5, 8, 13, 20, 29; six even shades up to 29
    assert grid_of(printed(lens.surface(found))) == ["  ····░░▓▓██", "      ··▒▒██"]


def test_the_second_parameter_runs_upwards_and_the_first_to_the_right() -> None:
    lines = printed(lens.surface(walled())).splitlines()
    (top,) = (line for line in lines if line.startswith("-1.8"))
    (bottom,) = (line for line in lines if line.startswith("-3.2"))
    assert lines.index(top) < lines.index(bottom)
    assert bottom.split("│")[1][0] == "█"  # high at w=4, b=-3.2
    assert top.split("│")[1][0] == " "  # low at w=4, b=-1.8
    (axis,) = (line for line in lines if line.split()[:1] == ["w"])
    assert axis.split() == ["w", "4", "5.5", "7"]


def test_the_colour_is_that_of_the_gradient_and_a_wall_is_not_lost_between_tiles() -> None:
    found = error_surface(lambda u, v: u * v, u=np.arange(500.0), v=[1.0])
    narrow = dataclasses.replace(found, gradients=np.where(found.across == 250, 1e6, 1e-3)[np.newaxis])
    text = printed(lens.surface(narrow), force_terminal=True, color_system="truecolor", no_color=False)
    (line,) = (line for line in text.splitlines() if "│" in line)
    assert len({*re.findall(r"38;2;\d+;\d+;\d+", line)}) == 2


def test_even_shades_unless_the_range_is_wide() -> None:
    assert not scale_of(np.array([0.0, 1.0, 2.0])).logs
    assert scale_of(np.array([0.0, 1.0, 1.0, 1.0, 1000.0])).logs
    assert not scale_of(np.array([-1.0, 1.0, 1.0, 1.0, 1000.0])).logs  # which has no logarithm
    scale = scale_of(np.array([0.0, 1e-3, 1e-3, 1e-3, 1e3]))
    assert [scale.level(x) for x in (0.0, 1e-3, 1e-2 * 1.1, 1e3, math.nan, math.inf)] == [0, 0, 1, 5, -1, -1]
    assert scale.bounds()[-1] == "1000"


def test_what_is_not_finite_has_a_tile_of_its_own() -> None:
    text = printed(lens.surface(broken()))
    assert [line[:1] for line in grid_of(text)] == ["!", "!"]
    assert "! not finite" in text
    assert "nowhere is it finite" in one_line(lens.surface(hopeless()))


# The descents


def test_letters_stand_where_the_descents_went() -> None:
    found, some = walled(), dict(ways())
    bare, lines = grid_of(printed(lens.surface(found))), grid_of(printed(lens.surface(found, some)))
    rows, columns = len(lines), len(lines[0])
    expected: dict[tuple[int, int], set[str]] = {}
    for mark, way in zip("xo", some.values(), strict=True):
        for w, b in way.path.tolist():
            if 4 <= w <= 7 and -3.2 <= b <= -1.8:
                right = min(columns - 1, int((w - 4) / 3 * columns))
                down = rows - 1 - min(rows - 1, int((b + 3.2) / 1.4 * rows))
                expected.setdefault((down, right), set()).add(mark)
    for (down, right), marks in expected.items():
        letter = lines[down][right]
        assert letter.lower() in ("s", "*" if len(marks) > 1 else next(iter(marks))) or letter in "XO", (down, right)
    changed = {(r, c) for r in range(rows) for c in range(columns) if lines[r][c] != bare[r][c]}
    assert {spot for spot in changed - expected.keys() if lines[spot[0]][spot[1]] not in "-/|\\"} == set()


def test_start_and_ends_are_marked_and_the_jump_is_a_line() -> None:
    text = "".join(grid_of(printed(lens.surface(walled(), dict(ways())))))
    assert text.count("S") == 1
    assert text.count("O") == 1  # where the clipped one ends
    assert "X" not in text  # that end is off the map
    assert re.search(r"[-/|\\]", text)


def test_the_words_are_the_numbers_of_the_descents() -> None:
    some = dict(ways())
    text = one_line(lens.surface(walled(), some))
    free, clipped = some["free"], some["clipped"]
    assert f"is update {free.jump + 1}, at a gradient of {free.gradients[free.jump]:.0f}" in text
    assert f"off the map. It ends at {free.path[-1, 0]:.4g}, {free.path[-1, 1]:.4g} with E=0.09." in text
    assert f"C=1 fires at {clipped.fired.sum()} of 120 updates" in text
    assert "no move is longer than 0.2." in text


def test_the_surface_names_its_lowest_and_its_steepest_point() -> None:
    text = one_line(lens.surface(error_surface(bowl, u=[-1.0, 0.0, 2.0], v=[0.5, 1.0])))
    assert text.startswith("Error over u and v: from 1 (at 0, 0.5) to 8. Its gradient is largest, 8.9, at 2, 1")


def test_the_table_has_every_descent() -> None:
    lines = printed(lens.surface(walled(), dict(ways())), 120).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("descent"))
    rows = [line.split() for line in lines[start + 1 : start + 3]]
    assert [row[:2] for row in rows] == [["x", "free"], ["o", "clipped"]]
    assert [row[-1] for row in rows] == ["0.09", rows[1][-1]]
    assert rows[0][2:6] == ["0.2", "—", "120", "—"]


def test_a_descent_that_explodes_is_shown_up_to_its_end() -> None:
    way = descent(lambda u, v: u * u * u * u + v, {"u": 10.0, "v": 0.0}, lr=1.0, steps=50)
    found = error_surface(bowl, u=[0.0, 10.0], v=[0.0, 10.0])
    text = one_line(lens.surface(found, {"far": way}))
    assert "nothing is finite" in text or "a gradient that is not finite ends it" in text
    assert printed(lens.surface(found, {"far": way})).count("S") >= 1


def test_descents_without_a_map() -> None:
    text = one_line(lens.descents(dict(ways())))
    assert text.startswith("Free: its longest move, 7.3")
    assert "off the map" not in text
    assert max(cell_len(line) for line in printed(lens.descents(dict(ways())), 40).splitlines()) <= 40


def test_a_hostile_name_is_shown_as_what_it_is() -> None:
    text = printed(lens.surface(walled(), {"[red]\x1b[31m": ways()[0][1]}))
    assert "\x1b" not in text
    assert "[red]U+001B[31m" in text


def test_a_descent_over_other_parameters_is_refused() -> None:
    way = descent(bowl, {"u": 1.0, "v": 1.0}, lr=0.1, steps=1)
    with pytest.raises(RecordError, match=r"the descent 'x' is over u and v, the surface over w and b\.\n  Give both"):
        lens.surface(walled(), {"x": way})


def test_more_descents_than_letters_are_refused() -> None:
    with pytest.raises(RecordError, match=r"7 descents\.\n  Give at most 6"):
        lens.surface(walled(), dict.fromkeys("abcdefg", ways()[0][1]))


def test_it_shows_itself_in_a_notebook() -> None:
    shown: Any = lens.surface(walled(), dict(ways()))
    assert "Error over w and b" in shown._repr_mimebundle_([], [])["text/html"]
