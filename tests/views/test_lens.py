"""The lenses in the terminal: that the numbers shown are the measures', that all fits and reads without colour."""

import dataclasses
import functools
import io
import math
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from minigrad import Tensor, bptt, named_scope, nn, sigmoid, tanh
from minigrad.bptt.attribution import Attribution, attribution_of_losses
from minigrad.bptt.attribution import attribution as measured_attribution
from minigrad.bptt.gates import gates as measured_gates
from minigrad.bptt.jacobian import jacobian_curves
from minigrad.bptt.terms import step_terms
from minigrad.bptt.thresholds import clipping_effects, norms_over_training
from minigrad.bptt.truncation import truncation as measured_truncation
from minigrad.errors import RecordError
from minigrad.views import lens, lens_marks
from minigrad.views.lens_limits import same_factor
from minigrad.views.palette import number
from tests.bptt.test_diagnose import State

LENSES = ("terms", "jacobian", "attribution", "gates", "clipping", "truncation")
EVERY_LENS = pytest.mark.parametrize("name", LENSES)


def recorded(kind="RNN", steps=12, batch=1, last=False, lengths=None, scale=1.0, dtype=np.float32, size=4, **options):
    """A layer of random weights on random inputs; scale multiplies the recurrent weights."""
    rng = np.random.default_rng(3)
    layer = getattr(nn, kind)(3, size, rng=rng, dtype=dtype, **options)
    for name, p in layer.named_parameters():
        if "weight_hh" in name:
            p.data = p.numpy() * np.asarray(scale, dtype)
    y, _ = layer(rng.standard_normal((steps, batch, 3)).astype(dtype), lengths=lengths)
    weights = rng.standard_normal(y.shape).astype(dtype)
    if last:
        weights[:-1] = 0
        weights[:, :, size:] = 0
        if options.get("bidirectional"):
            weights[0, :, size:] = 1
    return bptt.backward((y * weights).sum())


CASES = {
    "rnn": lambda: recorded(),
    "rnn last": lambda: recorded(last=True),
    "relu": lambda: recorded(nonlinearity="relu"),
    "lstm batch float64": lambda: recorded("LSTM", 30, 3, dtype=np.float64),
    "gru fused": lambda: recorded("GRU", 40, kernel="fused"),
    "gru reset before": lambda: recorded("GRU", 9, reset_after=False),
    "one step": lambda: recorded("LSTM", 1),
    "two steps": lambda: recorded("GRU", 2),
    "long": lambda: recorded("LSTM", 200, last=True),
    "long, every loss": lambda: recorded("RNN", 200),
    "reverse": lambda: recorded("LSTM", 15, 2, bidirectional=True),
    "reverse last": lambda: recorded("GRU", 15, last=True, bidirectional=True),
    "unequal lengths": lambda: recorded("GRU", 8, 3, lengths=[8, 3, 5], bidirectional=True),
    "exploding": lambda: recorded("RNN", 60, scale=9.0, nonlinearity="relu", dtype=np.float64),
    "nothing comes back": lambda: recorded("RNN", 10, scale=0.0),
    "no gradient": lambda: recorded("LSTM", 6, last=True, scale=1.0) and zero(),
    "one unit": lambda: recorded("LSTM", 7, size=1),
}  # fmt: skip


def zero():
    layer = nn.LSTM(3, 4, rng=np.random.default_rng(0))
    return bptt.backward((layer(np.ones((6, 1, 3), np.float32))[0] * 0.0).sum())


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@functools.cache
def record_of(case):
    return CASES[case]()


@functools.cache
def shown_of(case, name, sequence=None):
    """Measured once, built for every width."""
    return getattr(lens, name)(record_of(case), sequence=sequence)


def printed(shown, width=80, **options):
    file = io.StringIO()
    Console(width=width, file=file, **options).print(shown)
    return file.getvalue()


def ascii_of(shown, width=80):
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        Console(width=width, file=file).print(shown)
        file.flush()
        return raw.getvalue().decode("ascii")


def one_line(shown, width=80):
    return " ".join(printed(shown, width).split())


def table_of(text, first):
    """The rows of the table whose header begins so, by their first word, each a dict by title."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.split()[:1] == [first])
    titles, rows = lines[start].split(), {}
    for line in lines[start + 1 :]:
        if not line.strip() or re.match(r"(A tile|Term:|Largest,|The state) ", line):
            break
        words = line.split()
        rows[words[0]] = dict(zip(titles, words, strict=False))
    return rows


# All of them


@EVERY_LENS
@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.slow
def test_no_line_is_wider_than_the_console(case, name, width):
    for sequence in record_of(case).sequences:
        text = printed(shown_of(case, name, sequence), width)
        assert max(cell_len(line) for line in text.splitlines()) <= width


@EVERY_LENS
def test_a_lens_begins_with_a_sentence_and_names_its_sequence(case, name):
    for sequence in record_of(case).sequences:
        lead = one_line(shown_of(case, name, sequence)) + " "
        title, finding = lead.split(": ", 1)
        assert re.fullmatch(r"(Terms|Jacobians|Attribution|Gates|Clipping|Truncation) (of|in) [\w ,]+", title)
        assert sequence in title
        assert re.match(r".{15,}?[\w)°]\. ", finding)


@EVERY_LENS
@pytest.mark.slow
def test_without_colour_it_says_the_same(case, name, monkeypatch):
    shown = shown_of(case, name)
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(shown, force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[\d;]*(?:3|4|9)\d", text)
    monkeypatch.delenv("NO_COLOR")
    coloured = printed(shown, force_terminal=True, color_system="truecolor", no_color=False)
    pipe = printed(shown)
    assert "\x1b" not in pipe
    assert [re.sub(r"\x1b\[[\d;]*m", "", x) for x in (text, coloured)] == [pipe, pipe]


@EVERY_LENS
@pytest.mark.slow
def test_ascii_holds_every_character_and_every_line(case, name):
    shown = shown_of(case, name)
    text = ascii_of(shown)
    assert "?" not in text
    assert list(map(len, text.splitlines())) == [cell_len(line) for line in printed(shown).splitlines()]


def test_what_differs_in_unicode_differs_in_ascii():
    ramp = "▲█▓▒░:·0! "
    assert len(set(ramp.translate(lens_marks._ASCII))) == len(ramp)
    heights = lens_marks._HEIGHTS.translate(lens_marks._ASCII)
    assert len(set(heights)) == len(heights) == 8
    assert "·".translate(lens_marks._ASCII) == "."


@EVERY_LENS
def test_a_notebook_shows_it(name):
    bundle = getattr(lens, name)(recorded())._repr_mimebundle_([], [])
    assert "l0" in bundle["text/plain"]
    assert "text/html" in bundle


@EVERY_LENS
def test_a_terminal_gets_colours(name):
    shown = getattr(lens, name)(recorded("LSTM", 30), **({"max_norm": 0.01} if name == "clipping" else {}))
    text = printed(shown, force_terminal=True, color_system="truecolor", no_color=False)
    assert ("\x1b[38;2;" in text) == (name not in ("gates", "clipping", "truncation"))


@EVERY_LENS
def test_the_sequence_is_chosen_by_name(name):
    record = recorded("GRU", 5, num_layers=2)
    assert "l1" in one_line(getattr(lens, name)(record, sequence="l1"))
    with pytest.raises(RecordError, match="no sequence 'l2'"):
        getattr(lens, name)(record, sequence="l2")


@EVERY_LENS
def test_a_hostile_name_is_shown_as_what_it_is(name):
    rng = np.random.default_rng(0)
    cell = nn.LSTMCell(2, 3, rng=rng)
    for p in cell.parameters():
        p.name = f"[red]{p.name}\x1b[31m"
    y, _ = nn.unroll(cell, Tensor(np.ones((4, 1, 2), np.float32)), name="[bold]x\n\x1b[2J[/]")
    text = printed(getattr(lens, name)(bptt.backward(y.sum())), 200)
    assert "\x1b" not in text
    if name == "terms":
        assert "[red]weight_ihU+001B[31m" in text
    else:
        assert "[bold]xU+000AU+001B[2J[/]" in text


@EVERY_LENS
def test_what_is_not_finite_is_said(name):
    layer = nn.LSTM(2, 3, rng=np.random.default_rng(0))
    x = np.ones((9, 1, 2), np.float32)
    x[4] = np.nan
    with np.errstate(invalid="ignore"):
        record = bptt.backward(layer(x)[0].sum())
        text = one_line(getattr(lens, name)(record))
    assert "not finite" in text


# Terms


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_terms_shown_are_the_measures(kind):
    record = recorded(kind, 20)
    one = step_terms(record, parameter="weight_hh_l0")[0]
    rows = table_of(printed(lens.terms(record)), "t")
    assert list(rows) == [str(t) for t in range(1, 21)]
    for t in range(20):
        row = rows[str(t + 1)]
        assert row["‖term‖"] == number(one.norms[t])
        assert row["share"] == number(one.shares[t])
        assert row["gathered"] == number(one.from_last[t])
        assert row["cosine"] == ("—" if math.isnan(one.cosines[t]) else number(one.cosines[t]))
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1, abs=0.05)


def test_every_parameter_has_its_line():
    record = recorded("GRU", 20)
    rows = table_of(printed(lens.terms(record)), "parameter")
    assert list(rows) == [p.parameter for p in step_terms(record)]
    for x in step_terms(record):
        assert rows[x.parameter]["‖grad‖"] == number(x.total)
        assert rows[x.parameter]["Σ‖term‖"] == number(float(x.norms.sum()))
        assert float(rows[x.parameter]["left"].strip("%<>")) == pytest.approx(100 * x.total / x.norms.sum(), abs=0.6)


def test_the_finding_counts_the_steps_that_make_the_gradient():
    record = recorded("RNN", 30, last=True)
    x = step_terms(record, parameter="weight_hh_l0")[0]
    ordered = np.sort(x.norms)[::-1]
    count = next(k for k in range(1, 31) if ordered[:k].sum() >= 0.9 * ordered.sum())
    text = one_line(lens.terms(record))
    assert f"{count} of 30 steps hold 90 % of what the steps add" in text
    assert f"(steps {31 - count}…30)" in text
    assert f"Step 2 adds {number(x.norms[1] / x.norms[29])} of what step 30 adds." in text
    assert f"Of all their norms {100 * x.total / x.norms.sum():.0f} % is left in the sum" in text


def test_the_strongest_steps_are_those_that_hold_nine_tenths():
    even = dataclasses.replace(step_terms(recorded(steps=10), parameter="bias_ih_l0")[0], norms=np.ones(10), total=5.0)
    text = one_line(lens.terms([even]))
    assert "9 of 10 steps hold 90 % of what the steps add (steps 1…9). Step 1 adds 1 of what step 10 adds." in text
    assert "Of all their norms 50 % is left in the sum" in text
    steep = dataclasses.replace(even, norms=np.array([0.0, 0, 0, 1, 0, 0, 20, 0, 0, 1]))
    text = one_line(lens.terms([steep]))
    assert "1 of 10 steps holds 90 % of what the steps add (step 7). 7 steps add exactly 0." in text
    assert "Step 4 adds 1 of what step 10 adds." in text


def test_a_long_sequence_folds_to_one_screen_and_loses_no_share():
    record = recorded("LSTM", 200)
    rows = table_of(printed(lens.terms(record)), "t")
    assert len(rows) <= 24
    covered = [t for row in rows for t in range(int(row.split("…")[0]), int(row.split("…")[-1]) + 1)]
    assert covered == list(range(1, 201))
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1, abs=0.05)
    assert len(table_of(printed(lens.terms(record, everything=True)), "t")) == 200


def test_another_weight_can_be_shown_step_by_step():
    record = recorded()
    text = printed(lens.terms(record, parameter="bias_ih_l0"))
    assert text.startswith("Terms of bias_ih_l0: ")
    assert table_of(text, "t")["3"]["‖term‖"] == number(step_terms(record, parameter="bias_ih_l0")[0].norms[2])
    with pytest.raises(RecordError, match=r"no terms of 'x' in 'l0'\.\n  There are weight_ih_l0 in l0, "):
        lens.terms(record, parameter="x", sequence="l0")


def test_what_a_measure_gave_is_shown_as_well():
    record = recorded("LSTM", 20)
    assert printed(lens.terms(step_terms(record))) == printed(lens.terms(record))
    assert printed(lens.jacobian(jacobian_curves(record))) == printed(lens.jacobian(record))
    assert printed(lens.attribution(measured_attribution(record))) == printed(lens.attribution(record))
    assert printed(lens.gates(measured_gates(record))) == printed(lens.gates(record))
    assert printed(lens.truncation(measured_truncation(record))) == printed(lens.truncation(record))
    effects = clipping_effects(record, **same_factor(record, 1.0))
    assert one_line(lens.clipping(effects)).split(": ", 1)[1].startswith(
        one_line(lens.clipping(record)).split(": ", 1)[1].split(" Thresholds")[0]
    )


@pytest.mark.parametrize(("label", "shown"), [("[bold]x[/]", "[bold]x[/]"), ("\x1b[31m", "U+001B[31m"), (" ", "␣")])
def test_a_hostile_label_is_shown_in_the_table_of_terms(label, shown):
    text = printed(lens.terms(recorded(steps=3), labels=[label, "b", "c"]))
    assert table_of(text, "t")["1"]["x"] == shown
    assert "\x1b" not in text


def test_a_label_for_each_step_or_none():
    with pytest.raises(RecordError, match=r"2 labels for a sequence of T=12 steps\.\n  Give one label for each step"):
        lens.terms(recorded(), labels=["a", "b"])


# Jacobians


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_curves_shown_are_the_measures(kind):
    record = recorded(kind, 12, 2)
    x = jacobian_curves(record)
    text = printed(lens.jacobian(record), 120)
    rows = table_of(re.sub("to step|[fz] most|[fz] least", "to", text), "back")
    assert list(rows) == ["1", "2", "5", "10", "12"]
    assert next(x.split()[1] for x in text.splitlines() if re.match(r" *12 +\w", x)) == "start"
    for q, row in rows.items():
        assert row["largest"] == number(10.0 ** x.largest[int(q)])
        assert row["smallest"] == number(10.0 ** x.smallest[int(q)])
    text = one_line(lens.jacobian(record), 120)
    for gate, norm in x.weight_norms.items():
        assert f"{gate} {number(norm)} {number(x.radii[gate])}" in text


def test_the_direct_path_and_the_rest_have_columns():
    x = jacobian_curves(recorded("LSTM", 12))
    text = printed(lens.jacobian(x), 120)
    header = next(line for line in text.splitlines() if line.lstrip().startswith("back "))
    assert "f most f least rest" in " ".join(header.split())
    row = next(line.split() for line in text.splitlines() if line.split()[:2] == ["10", "2"])
    assert header.split()[-3:] == ["bar:", "largest,", f"{number(10.0 ** x.largest.min())}…1"]  # what the bars are of
    assert row[4:7] == [number(10.0 ** y[10]) for y in (x.path_largest, x.path_smallest, x.rest)]
    assert "the update gates alone" in one_line(lens.jacobian(recorded("GRU", 12)))


def test_pascanus_bound_is_said_in_words():
    small = one_line(lens.jacobian(recorded(scale=0.1)))
    norm = next(iter(jacobian_curves(recorded(scale=0.1)).weight_norms.values()))
    assert f"gamma ‖W_hh‖ = {number(norm)} is below 1, so it has to vanish." in small
    assert "is not below 1, so it may explode and need not." in one_line(lens.jacobian(recorded(scale=5.0)))
    assert "Pascanu" not in one_line(lens.jacobian(recorded("LSTM")))


def test_a_product_beyond_the_range_of_floats_has_its_number():
    record = recorded("RNN", 200, scale=1e-3)
    x = jacobian_curves(record)
    assert x.largest[-1] < -320
    whole = math.floor(x.largest[-1])
    text = one_line(lens.jacobian(record))
    assert f"shrinks to at most {10 ** (x.largest[-1] - whole):.0f}e{whole} of itself" in text


def test_a_gradient_that_is_cut_off_is_said():
    text = one_line(lens.jacobian(recorded("RNN", 10, scale=0.0)))
    assert "nothing at all of a change of the state is left after 1 step back." in text


def test_the_chart_falls_as_the_curve_does():
    text = printed(lens.jacobian(recorded("RNN", 40, scale=0.3)))
    places = {
        m.start(): row for row, line in enumerate(text.splitlines()) if "│" in line for m in re.finditer("●", line)
    }
    heights = [places[column] for column in sorted(places)]
    assert len(heights) >= 40
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]


# Attribution


def maps_of(text):
    """The rows of the map: label and tiles."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if " state h" in line)
    end = next(k for k, line in enumerate(lines) if k > start and line.split()[:1] == ["k"])
    return [re.match(r"\s*(\S+) (.*)", line).groups() for line in lines[start + 1 : end]]


def level(share):
    bounds = ((10, "▲"), (0.3, "█"), (0.1, "▓"), (0.01, "▒"), (1e-3, "░"), (1e-6, ":"))
    return "0" if share == 0 else next((mark for bound, mark in bounds if share > bound), "·")


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_each_tile_is_its_pairs_share(kind):
    record = recorded(kind, 12, 2)
    shares = measured_attribution(record).arriving("h")
    rows = maps_of(printed(lens.attribution(record)))
    assert [name for name, _ in rows] == [str(t) for t in range(1, 13)]
    for t, (_, tiles) in enumerate(rows):
        assert tiles.rstrip() == "".join(2 * level(shares[t, k]) for k in range(t + 1))


def test_the_reverse_directions_triangle_points_the_other_way():
    record = recorded("RNN", 9, bidirectional=True)
    shares = measured_attribution(record, sequence="l0_reverse").arriving("h")
    rows = maps_of(printed(lens.attribution(record, sequence="l0_reverse")))
    for t, (_, tiles) in enumerate(rows):
        assert tiles.rstrip() == "  " * t + "".join(2 * level(shares[t, k]) for k in range(t, 9))


def test_a_triangle_wider_than_the_terminal_is_folded_by_largest():
    record = recorded("RNN", 200)
    shares = measured_attribution(record).arriving("h")
    text = printed(lens.attribution(record))
    rows = maps_of(text)
    assert len(rows) == 24
    assert "A tile that stands for several pairs shows the largest." in " ".join(text.split())
    columns = lens_marks.edges(200, len(rows[-1][1].rstrip()))
    for name, tiles in rows:
        first, last = (int(x) for x in name.split("…"))
        for mark, (a, b) in zip(tiles, columns, strict=False):
            block = shares[first - 1 : last, a:b]
            known = block[~np.isnan(block)]
            assert mark == (level(known.max()) if len(known) else " ")
    assert len(maps_of(printed(lens.attribution(record, everything=True)))) == 200


def test_both_states_of_an_lstm_stand_side_by_side():
    text = printed(lens.attribution(recorded("LSTM", 12)))
    assert re.search(r"t state h +state c", text)
    assert "Along h, " in text
    assert "Along c, " in " ".join(text.split())


def test_a_loss_at_the_last_step_is_one_row():
    record = recorded("RNN", 30, last=True)
    rows = maps_of(printed(lens.attribution(record)))
    assert [name for name, _ in rows] == ["30"]
    text = one_line(lens.attribution(record))
    assert "Steps without a row have no loss." in text
    shares = measured_attribution(record).arriving("h")[29]
    tenth = next(q for q in range(30) if shares[29 - q] < 0.1)
    assert f"the gradient of the loss of step 30 falls below a tenth after {tenth} step" in text
    assert f"{number(shares[0])} of step 30's loss arrives at step 1." in text


def test_the_finding_is_the_median_of_all_losses():
    record = recorded("RNN", 30)
    shares = measured_attribution(record).arriving("h")
    reach = [next((q for q in range(t + 1) if shares[t, t - q] < 0.1), math.inf) for t in range(30)]
    assert f"a typical loss of 30 falls below a tenth after {np.median(reach):g} step" in one_line(
        lens.attribution(record)
    )


def test_no_loss_at_all_is_said():
    assert "no loss enters at any step" in one_line(lens.attribution(zero()))


def test_every_kind_of_tile_differs_and_is_in_the_legend():
    values = np.array([100.0, 1.0, 0.2, 0.05, 5e-3, 1e-4, 1e-9, 0.0])
    norms = np.full((8, 8, 1), np.nan)
    norms[7, :, 0] = values[::-1]
    norms[7, 7] = 1.0
    norms[7, 6] = 100.0
    enters = np.arange(8) == 7
    text = printed(lens.attribution(Attribution("l0", {"h": norms}, enters, 0, 0.0)))
    (row,) = maps_of(text)
    marks = row[1].rstrip()[::2]
    assert marks == "0·:░▒▓▲█"
    assert all(mark in text.split("k 1", 1)[1] for mark in marks)


@pytest.mark.parametrize("turned", [False, True])
def test_pairs_that_are_not_finite_differ_from_no_pair(turned):
    norms = np.full((4, 4, 1), np.nan)
    norms[0, 0], norms[1, :2] = 1, [[0.5], [1]]
    norms[2, :3] = [[np.nan], [np.inf], [1]]  # on its way back it is lost
    norms[3, :4] = np.nan  # from the start
    enters = np.ones(4, bool)
    found = Attribution("l0", {"h": norms[::-1, ::-1] if turned else norms}, enters, 0, 0.0, turned)
    rows = [tiles.rstrip() for _, tiles in maps_of(printed(lens.attribution(found)))]
    assert rows == (["!!!!!!!!", "  ██!!!!", "    ████", "      ██"] if turned else
                    ["██", "████", "!!!!██", "!!!!!!!!"])  # fmt: skip
    text = one_line(lens.attribution(found))
    assert "of 2 of 4 losses the gradient is not finite somewhere on its way (!)." in text
    assert "! not finite" in text


# Gates


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_gates_shown_are_the_measures(kind):
    record = recorded(kind, 20, scale=8.0)
    x = measured_gates(record)
    lines = printed(lens.gates(record)).splitlines()
    for symbol, gate in x.gates.items():
        words = " ".join(next(line for line in lines if line.startswith(f"{symbol} "))[len(symbol) :].split())
        shares = [f"{100 * v:.0f}%" if v == 0 or v >= 0.005 else "<1%" for v in (gate.low.mean(), gate.high.mean())]
        numbers = f"{number(float(gate.mean.mean()))} {' '.join(shares)} {number(float(gate.slope.mean()))}"
        assert f" {numbers} {len(gate.stuck)} " in words


def test_the_half_lives_are_counted():
    record = recorded("LSTM", 20, size=16, forget_bias=2.0)
    half_lives = measured_gates(record).half_lives
    text = printed(lens.gates(record))
    counts = {name: int(n) for name, n in re.findall(r"^(below 1|\d+…\d+) +(\d+)", text, re.M)}
    assert sum(counts.values()) == 16
    assert counts["2…5"] == np.count_nonzero((half_lives >= 2) & (half_lives < 5))
    assert f"after {number(float(np.median(half_lives)))} steps" in " ".join(text.split())


def test_units_that_never_move_are_named():
    layer = nn.RNN(3, 4, nonlinearity="relu", rng=np.random.default_rng(0))
    bias = np.zeros(4, np.float32)
    bias[2] = -100
    layer.bias_ih_l0.data = bias
    x = np.random.default_rng(0).standard_normal((6, 1, 3)).astype(np.float32)
    text = one_line(lens.gates(bptt.backward(layer(x)[0].sum())))
    assert "Of the state's values" in text
    assert re.search(r"\d units? of 4 never moves?: units? [\d, ]*2", text)


# Clipping


def test_the_effects_shown_are_the_measures():
    record = recorded("RNN", 20, last=True)
    text = printed(lens.clipping(record, max_norm=0.5), 120)
    for e in clipping_effects(record, **same_factor(record, 0.5)):
        how = {"norm": "by norm", "value": "by value", "backward": "in backward"}[e.kind]
        row = next(line for line in text.splitlines() if line.startswith(f"{how} "))
        for shown in (number(e.threshold), f"{number(e.angle)}°", number(e.norm_after), number(e.ratio_after),
                      f"{100 * e.removed:.0f}%"):  # fmt: skip
            assert f" {shown} " in f"{row} "


def test_the_thresholds_bring_the_largest_number_down_by_one_factor():
    record = recorded("LSTM", 10, dtype=np.float64)
    total = math.sqrt(sum(float((p.gradient**2).sum()) for p in record.parameters.values()))
    found = same_factor(record, 0.25 * total)
    assert found["max_norm"] == 0.25 * total
    largest = {
        "clip_value": max(np.abs(p.gradient).max() for p in record.parameters.values()),
        "limit": max(np.abs(g).max() for g in record.sequence().gradients.values()),
    }
    for name, most in largest.items():
        assert found[name] == pytest.approx(0.25 * most, rel=1e-14)


def test_clipping_says_what_it_does_not_cure():
    text = one_line(lens.clipping(recorded("RNN", 20, last=True), max_norm=1e6))
    assert "nothing is beyond its threshold" in text
    assert "clipping does not cure vanishing." in text


def test_an_explosion_is_stopped_in_backward_alone():
    record = recorded("RNN", 40, scale=9.0, nonlinearity="relu", last=True, dtype=np.float64)
    effect = next(e for e in clipping_effects(record, **same_factor(record, 1.0)) if e.kind == "backward")
    text = one_line(lens.clipping(record))
    assert effect.ratio_after < effect.ratio_before
    assert f"In backward it also makes ‖dL/dh‖ at the first step {number(effect.ratio_after)} of that" in text
    assert f"at the last, which is {number(effect.ratio_before)} otherwise." in text


def test_an_underflow_of_the_record_is_no_cure_in_backward():
    effects = [
        dataclasses.replace(e, ratio_before=0.0, ratio_after=1e-52 if e.kind == "backward" else 0.0)
        for e in clipping_effects(recorded(last=True), **same_factor(recorded(last=True), 0.1))
    ]  # fmt: skip
    text = one_line(lens.clipping(effects))
    assert "1e-52" not in text
    assert "‖dL/dh‖ at the first step stays 0 of that at the last everywhere" in text


def test_training_has_its_norms_and_thresholds():
    norms = norms_over_training([1.0, 2.0, 3.0, 6.0], [1.0, 1.0, 1.0, 1.0])
    text = one_line(lens.clipping(recorded(), norms=norms))
    assert "Over training: clipping fired at 3 of 4 updates and took 67 % of the norm there, in the mean." in text
    assert "The mean norm is 3; a threshold from 1.5 to 30 can be tried" in text
    assert "C=1.5 would fire at 75 % of the updates, 3 at 25 %, 30 at 0 %." in text
    assert re.search(r"smallest 1 █+", text)
    assert "median 2.5 █" in text
    assert "largest 6 █" in text


def test_clipping_without_an_effect_is_refused():
    with pytest.raises(RecordError, match=r"there is no effect to show\.\n  Give what clipping_effects gave"):
        lens.clipping([])
    effects = clipping_effects(recorded(), max_norm=1.0)
    with pytest.raises(RecordError, match=r"there is no effect to show of 'l1'; there are those of l0\.\n  Give what"):
        lens.clipping(effects, sequence="l1")


def test_effects_of_several_walks_are_told_apart():
    record = recorded("LSTM", 8, num_layers=2)
    walks = {name: clipping_effects(record, max_norm=1e-3, sequence=name) for name in ("l0", "l1")}
    both = [*walks["l0"], *walks["l1"]]
    for name, sequence in (("l0", None), ("l0", "l0"), ("l1", "l1")):
        text = printed(lens.clipping(both, sequence=sequence))
        assert text == printed(lens.clipping(walks[name]))
        assert text.lstrip().startswith(f"Clipping of {name}: ")


# Truncation


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_losses_shown_are_the_measures(kind):
    record = recorded(kind, 20, dtype=np.float64)
    x = measured_truncation(record)
    rows = table_of(printed(lens.truncation(record)), "k")
    assert list(rows) == [str(k) for k in x.lengths]

    def shown(v):
        return "0%" if v == 0 else "<1%" if v < 0.005 else ">99%" if 0.995 <= v < 1 else f"{100 * v:.0f}%"

    for place, k in enumerate(x.lengths):
        assert rows[str(k)]["‖g_k‖"] == number(x.norms[place])
        assert rows[str(k)]["angle"] == f"{number(x.angles[place])}°"
        assert rows[str(k)]["lost"] == shown(x.lost[place])
        assert rows[str(k)]["W_hh"] == shown(x.lost_by_weight["weight_hh_l0"][place])


def test_the_length_that_is_enough_is_said():
    x = dataclasses.replace(
        measured_truncation(recorded("RNN", 20)), lengths=(1, 2, 5, 20), norms=np.ones(4), full=1.0,
        angles=np.array([30.0, 10, 1, 0]), lost=np.array([0.5, 0.2, 0.05, 0.0]), lost_by_weight={},
    )  # fmt: skip
    text = one_line(lens.truncation(x))
    assert "cut after every step, the gradient loses 50 % and turns it by 30°." in text
    assert "Less than a tenth is lost from chunks of 5 steps on." in text
    assert "hundredth" not in text  # 20 steps are all of them, and no cut
    once = dataclasses.replace(x, lost=np.array([0.5, 0.005, 0.002, 0.0]))
    assert "Less than a tenth" not in one_line(lens.truncation(once))
    assert "Less than a hundredth is lost from chunks of 2 steps on." in one_line(lens.truncation(once))
    worse = dataclasses.replace(x, lost=np.array([0.5, 0.05, 0.3, 0.0]))
    assert "Chunks of 5 steps still lose 30 %." in one_line(lens.truncation(worse))
    cut = dataclasses.replace(x, steps=100, lost=np.array([0.5, 0.2, 0.05, 0.001]))
    assert "Less than a hundredth is lost from chunks of 20 steps on." in one_line(lens.truncation(cut))


def test_chunks_that_are_no_cut_are_called_so():
    record = recorded("RNN", 20)
    for lengths in ([20], [60, 35, 20]):
        text = one_line(lens.truncation(measured_truncation(record, lengths=lengths)))
        assert text.startswith("Truncation of l0: in 20 steps chunks of 20 steps make no cut. ")
    assert "in 1 step there is nothing to cut." in one_line(lens.truncation(recorded("RNN", 1)))
    single = one_line(lens.truncation(measured_truncation(record, lengths=[1, 20])))
    assert "cut after every step, the gradient loses " in single
    assert "still lose" not in single


# Cells of one's own


class Leaky:
    """h' = keep * h + (1 - keep) * tanh(W h + x), keep = sigmoid(h + x): no measure has it in closed form."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.weight = Tensor(rng.standard_normal((3, 3)) * 0.3, requires_grad=True, name="leaky.w")

    def initial_state(self, batch):
        return State(Tensor(np.zeros((batch, 3))))

    def step(self, x, state):
        with named_scope("[keep]", "[k]"):
            keep = sigmoid(state.h + x)
        return State(keep * state.h + (1.0 - keep) * tanh(state.h @ self.weight + x))


@pytest.fixture
def own():
    cell = Leaky()
    y, _ = nn.unroll(cell, Tensor(np.random.default_rng(0).standard_normal((9, 1, 3))), name="own")
    return cell, y


def test_a_cell_of_ones_own_is_shown_from_its_measures(own):
    cell, y = own
    record = bptt.backward(y.sum())
    curves = jacobian_curves(record, cell=cell)
    text = printed(lens.jacobian(curves))
    assert text.startswith("Jacobians of own, sample 0: over the 9 steps back")
    assert table_of(text.replace("to step", "to"), "back")["5"]["largest"] == number(10.0 ** curves.largest[5])
    text = printed(lens.gates(measured_gates(record, kinds={"[k]": "sigmoid"})))
    assert re.search(r"^\[k\] +\d", text, re.M)
    assert "half-life" not in text
    assert "leaky.w" in printed(lens.terms(record))
    for name in ("attribution", "truncation", "clipping", "gates"):
        with pytest.raises(RecordError):
            getattr(lens, name)(record)


def test_the_losses_of_a_cell_of_ones_own_are_shown(own):
    _, y = own
    found = attribution_of_losses([y[t].sum() for t in range(9)])
    rows = maps_of(printed(lens.attribution(found)))
    shares = found.arriving("h")
    assert rows[8][1].rstrip() == "".join(2 * level(share) for share in shares[8])


def test_a_lower_layer_says_what_its_losses_are():
    text = one_line(lens.attribution(recorded("GRU", 5, num_layers=2), sequence="l0"))
    assert "the loss of step t is what that layer hands down at step t." in text
    assert "hands down" not in one_line(lens.attribution(recorded("GRU", 5)))


# Marks


def test_edges_cover_all_steps_in_parts_of_about_the_same_size():
    for count in (1, 5, 73, 200):
        for most in (1, 7, 72, 500):
            parts = lens_marks.edges(count, most)
            assert [a for a, _ in parts] == [0, *(b for _, b in parts[:-1])]
            assert parts[-1][1] == count
            sizes = {b - a for a, b in parts}
            assert max(sizes) - min(sizes) <= 1
            assert len(parts) == min(count, most)


def test_all_that_is_left_has_no_colour_of_an_explosion():
    assert lens_marks.tile(1.0)[1] == lens_marks.tile(0.5)[1] == lens_marks.tile(1 + 1e-7)[1]
    assert len({lens_marks.tile(share)[1] for share in (1e-13, 1e-7, 1e-4, 0.5, 2.0, 50.0, 1e3)}) >= 5


def test_a_strip_shows_the_largest_of_several_and_what_is_no_number():
    logs = np.array([-4.0, -2.0, 0.0, np.nan, -np.inf, np.inf])
    assert lens_marks.strip(logs, 6, -4, 0).plain == "▁▅█ 0!"
    assert lens_marks.strip(logs, 2, -4, 0).plain == "█!"


def test_a_power_of_ten_beyond_floats_is_written_as_one():
    assert lens_marks.power(-400.30103) == "5e-401"
    assert lens_marks.power(500.0) == "1e500"
    assert lens_marks.power(-0.30103) == "0.5"
    assert lens_marks.power(-300.000001) == "1e-300"
