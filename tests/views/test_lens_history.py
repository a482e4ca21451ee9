"""Training in the terminal: that the maps show the norms, the words the spells, and that all fits and reads."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from minigrad.bptt.history import Diagnosed, History
from minigrad.errors import RecordError
from minigrad.views import lens
from minigrad.views.lens_history import heat_map

HEIGHTS = "▁▂▃▄▅▆▇█"


def printed(shown: Any, width: int = 80, **options: Any) -> str:
    file = io.StringIO()
    Console(width=width, file=file, **options).print(shown)
    return file.getvalue()


def ascii_of(shown: Any, width: int = 80) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        Console(width=width, file=file).print(shown)
        file.flush()
        return raw.getvalue().decode("ascii")


def one_line(shown: Any, width: int = 80) -> str:
    return " ".join(printed(shown, width).split())


def training(
    rows: Any, *, fired: Any = None, verdicts: Any = (), name: str = "l0", every: int = 1, state: str = "h"
) -> History:
    """A history with these norms, one row an update; verdicts by update."""
    history = History()
    table = np.asarray(rows, np.float64)
    for k in range(every * len(table)):
        some = 0.0 if fired is None else float(fired[k])
        history.add(loss=4.0 - k / len(table), norm_before=2.0, norm_after=1.0, fired=some, lr=0.1)
        if k % every == 0:
            row = table[k // every]
            history.norms.add(k + 1, {name: {state: row[~np.isnan(row)]}}, {"w": float(k + 1), "b": 0.5})
    for update, verdict in verdicts:
        history.diagnoses.append(Diagnosed(update, name, verdict, state, np.linspace(0.1, 1.0, table.shape[1])))
    return history


def falling(updates: int = 30, steps: int = 20, decades: float = 4.0) -> Any:
    """Norms that fall towards the first step, the more the later the update."""
    return 10.0 ** -(np.linspace(0, 1, updates)[:, np.newaxis] * np.linspace(decades, 0, steps))


# The map


def test_a_map_has_a_tile_a_number_by_its_logarithm() -> None:
    found = heat_map(np.array([[1.0, 1e-7], [1e-3, 1e-4]]), 2, 2)
    assert [line.plain for line in found.lines] == ["█▁", "▅▄"]
    assert (found.ranges, found.scale, found.axis) == ([(0, 1), (1, 2)], "1e-7…1", "t=1…2")


def test_a_steady_gradient_looks_steady() -> None:
    assert {line.plain for line in heat_map(np.full((3, 5), 0.3), 5, 3).lines} == {"█████"}


def test_few_steps_get_wide_tiles_and_many_share_one() -> None:
    wide = heat_map(np.array([[1.0, 1e-9, 1.0]]), 40, 4)
    assert wide.lines[0].plain == "████▁▁▁▁████"
    assert wide.axis == "t=1      t=3"
    norms = np.full((100, 200), 1e-9)
    norms[57, 123] = 1.0
    shared = heat_map(norms, 50, 10)
    assert [len(line.plain) for line in shared.lines] == [50] * 10
    marked = [(k, line.plain.index("█")) for k, line in enumerate(shared.lines) if "█" in line.plain]
    assert marked == [(5, 123 * 50 // 200)]


@pytest.mark.parametrize(("value", "mark"), [(0.0, "0"), (math.inf, "!"), (math.nan, " ")])
def test_what_is_no_number_has_a_mark(value: float, mark: str) -> None:
    assert heat_map(np.array([[1.0, value, 1.0]]), 3, 1).lines[0].plain == f"█{mark}█"
    alone = heat_map(np.array([[value, value]]), 2, 1)
    assert alone.lines[0].plain == 2 * mark
    assert alone.scale == "no norm"


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (4, 7)])
@pytest.mark.parametrize("width", [1, 8, 60])
@pytest.mark.parametrize("rows", [1, 12])
def test_a_map_has_the_size_asked_for(shape: tuple[int, int], width: int, rows: int) -> None:
    found = heat_map(np.random.default_rng(0).random(shape), width, rows)
    assert len(found.lines) == min(rows, shape[0])
    assert all(0 < line.cell_len <= width for line in found.lines)


# The words


def test_vanishing_is_told_from_when_to_when() -> None:
    verdicts = [(k, "vanishing" if 10 <= k <= 30 or k >= 80 else "healthy") for k in range(10, 101, 10)]
    text = one_line(lens.history(training(falling(100), verdicts=verdicts)))
    assert "Vanishing (less than 0.001 of the last loss's gradient arrives at the first step):" in text
    assert "from update 10 to 30, from update 80 on, of 10 looks." in text
    assert "Exploding" not in text


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ((), "at none of 4 looks."), ((2,), "at update 2, of 4 looks."), ((4,), "at update 4, of 4 looks."),
        ((1, 2, 3, 4), "from update 1 on, of 4 looks."), ((1, 3), "at update 1, at update 3, of 4 looks."),
    ],
)  # fmt: skip
def test_spells_of_every_kind(bad: tuple[int, ...], said: str) -> None:
    verdicts = [(k, "dead" if k in bad else "healthy") for k in (1, 2, 3, 4)]
    assert said in one_line(lens.history(training(falling(4, decades=1), verdicts=verdicts)))


def test_of_many_spells_the_longest_are_named() -> None:
    verdicts = [(k, "exploding" if k % 3 else "healthy") for k in range(1, 21)]
    text = one_line(lens.history(training(falling(20), verdicts=verdicts)))
    assert "Exploding (it grows more than 100 times on its way back): from update 1 to 2, from update 4 to 5," in text
    assert "and 4 times more, of 20 looks." in text


def test_without_diagnoses_the_norms_tell_what_they_can() -> None:
    text = one_line(lens.history(training(falling(30))))
    assert "‖dL/dh‖ at the walk's first step, in parts of that at its last: 1 at update 1, 1e-4 at update 30." in text
    assert "Vanishing norms (less than 0.001 of it): from update 23 on, of 30 looks." in text
    assert "Vanishing" not in one_line(lens.history(training(falling(30, decades=1.0))))


def test_a_reverse_direction_begins_at_the_end() -> None:
    text = one_line(lens.history(training(falling(3)[:, ::-1], name="l0_reverse")))
    assert "1 at update 1, 1e-4 at update 3." in text


def test_it_says_how_the_clip_fired() -> None:
    fired = np.zeros(100)
    fired[[1, 2, 3, 40, 95]] = 1
    text = one_line(lens.history(training(falling(100), fired=fired)))
    assert "Clipping fired at 5 % of the updates: 30 % of the first tenth, 10 % of the last; first at update 2," in text
    assert "last at 96." in text
    assert "Clipping changed no gradient." in one_line(lens.history(training(falling(9))))


def test_the_lines_beside_a_map_have_the_loss_and_the_clipping_of_their_updates() -> None:
    fired = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    lines = printed(lens.history(training(np.ones((4, 3)), fired=fired, every=2), rows=2)).splitlines()
    start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["update"])
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["1", "5"]
    assert [line.split()[-2:] for line in lines[start + 1 : start + 3]] == [["3.625", "50%"], ["2.625", "25%"]]


def test_the_maps_stand_below_each_other_and_what_arrives_comes_first() -> None:
    history = training(np.ones((3, 4)), verdicts=[(2, "healthy"), (3, "vanishing")])
    text = printed(lens.history(history))
    assert text.index("share of the last loss's gradient that arrives, 0.1…1") < text.index("‖dL/dh_t‖, 1…1")
    looks = [line for line in text.splitlines() if line.endswith(("healthy", "vanishing"))]
    assert [line.split()[0] for line in looks] == ["2", "3"]


def test_each_parameter_has_its_norms() -> None:
    text = printed(lens.history(training(np.ones((30, 4)))))
    (row,) = [line for line in text.splitlines() if line.startswith("w ")]
    assert row.split()[:4] == ["w", "1", "30", "30"]
    strip = row.split()[4]
    assert [HEIGHTS.index(c) for c in strip] == sorted(HEIGHTS.index(c) for c in strip)
    assert len(set(strip)) > 3


# That all of it can be shown


CASES = {
    "one update": lambda: training(np.ones((1, 5))),
    "one step": lambda: training(np.ones((9, 1))),
    "one number": lambda: training(np.ones((1, 1))),
    "long": lambda: training(falling(300, 400), every=3, verdicts=[(k, "not finite") for k in range(1, 900, 50)]),
    "zeros": lambda: training(np.zeros((5, 6))),
    "not finite": lambda: training(np.full((5, 6), math.inf)),
    "unequal lengths": lambda: training([[1.0, 2.0, math.nan], [1.0, 2.0, 3.0]]),
    "nothing reached": lambda: training(np.full((3, 2), math.nan)),
    "no path": lambda: training([[1.0, 2.0]], verdicts=[(1, "no path")]),
    "strange name": lambda: training(np.ones((3, 4)), name="[bold]x\x1b[31m\n", state="e\u0301[/]"),
    "tiny and huge": lambda: training([[1e-300, 1.0, 1e300]] * 3),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits_and_reads_without_colour_and_in_ascii(case: str, width: int) -> None:
    shown = lens.history(CASES[case]())
    plain = printed(shown, width)
    assert max(map(cell_len, plain.splitlines())) <= width
    assert all(c == "\n" or c.isprintable() for c in plain)
    coloured = printed(shown, width, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    found = ascii_of(shown, width)
    assert len(found.splitlines()) == len(plain.splitlines())
    assert "?" not in found


def test_in_ascii_what_is_higher_stays_denser() -> None:
    norms = 10.0 ** -np.arange(7.0, -1.0, -1.0)
    line = next(x for x in ascii_of(lens.history(training(norms[np.newaxis]))).splitlines() if x.startswith("     1 "))
    assert line.split()[1] == "".join(4 * c for c in ".:-=+*%#")


def test_a_notebook_shows_it() -> None:
    shown: Any = lens.history(training(falling()))
    bundle = shown._repr_mimebundle_(include=(), exclude=())
    assert "‖dL/dh_t‖" in bundle["text/plain"]
    assert "<pre" in bundle["text/html"]


def test_without_norms_it_says_how_to_get_some() -> None:
    history = History()
    history.add(loss=1, norm_before=1, norm_after=1, fired=0, lr=1)
    with pytest.raises(RecordError, match=r"kept no norms.*\n  Give Trainer\(..., norms_every=10\)"):
        lens.history(history)
    history.norms.add(1, {}, {"w": 1.0})  # a model without time steps
    with pytest.raises(RecordError, match="kept no norms"):
        lens.history(history)


def test_an_unknown_sequence_is_named() -> None:
    with pytest.raises(RecordError, match=r"no sequence 'l7'.\n  There are l0."):
        lens.history(training(falling()), sequence="l7")
