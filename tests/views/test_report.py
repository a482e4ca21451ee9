"""The report in the terminal: what it says, that it fits, and that nothing in a label can harm it."""

import dataclasses
import io
import math
import re

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from minigrad import Tensor, bptt, clip_grad_norm, clip_grad_value, nn, optim
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.record import Reading
from minigrad.errors import RecordError
from minigrad.views import report
from minigrad.views.palette import BINS, SPECIAL
from tests.bptt.test_diagnose import Carousel, Linear, every, last, linear, recorded


def model(kind="RNN", steps=40, loss=every, keep="steps", dtype=np.float32, **options):
    rng = np.random.default_rng(0)
    layer = getattr(nn, kind)(5, 8, rng=rng, dtype=dtype, **options)
    x = rng.standard_normal((steps, 2, 5)).astype(dtype)
    return layer, bptt.backward(loss(layer(x)[0]), keep)


def printed(shown, width=80, **options):
    file = io.StringIO()
    Console(width=width, file=file, **options).print(shown)
    return file.getvalue()


def lines_of(shown, width=80):
    return [line.rstrip() for line in printed(shown, width).splitlines()]


def one_line(shown, width=80):
    return " ".join(printed(shown, width).split())


def steps_table(text):
    """The rows of the table of steps: first word, and the rest."""
    rows = {}
    for line in text.splitlines():
        if line.startswith("Bars:") or line.startswith("parameter"):
            break
        found = re.match(r"\s*(\d+(?:…\d+)?) (.*)", line)
        if found:
            rows[found[1]] = found[2].strip()
    return rows


CASES = {
    "vanishing": lambda: model(loss=last),
    "vanishing at every step": lambda: model(),
    "lstm": lambda: model("LSTM"),
    "lstm last": lambda: model("LSTM", loss=last),
    "gru ops": lambda: model("GRU", keep="ops"),
    "one step": lambda: model(steps=1),
    "two steps": lambda: model(steps=2),
    "long": lambda: model("LSTM", steps=150),
    "underflow": lambda: (None, linear(0.5, 200, dtype=np.float32)),
    "dead": lambda: (None, linear(0.0)),
    "exploding": lambda: (None, linear(3.0)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def complete(layer, record):
    """With all that may come after backward."""
    if layer is None:
        return record
    clipping = clip_grad_norm(layer.parameters(), 0.01)
    return record.after(clipping=clipping, update=optim.SGD(layer.parameters(), lr=0.1).step())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.slow
def test_no_line_is_wider_than_the_console(case, width, labelled):
    record = complete(*case)
    steps = record.sequence().steps
    text = printed(report.gradients(record, labels=["日本語のe\u0301"] * steps if labelled else None), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_a_wide_console_is_used():
    _, record = model("LSTM")
    assert max(map(len, lines_of(report.gradients(record), 200))) > 180


def test_a_pipe_gets_no_escape_codes(case):
    assert "\x1b" not in printed(report.gradients(complete(*case)))


def test_no_color_leaves_no_colour_in_a_terminal(case, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(report.gradients(complete(*case)), force_terminal=True, color_system="truecolor")
    assert not re.search(r"\x1b\[[\d;]*(?:3|4|9)\d", text)


def test_bars_have_colours_in_a_terminal():
    _, record = model(loss=last)
    text = printed(report.gradients(record), force_terminal=True, color_system="truecolor", no_color=False)
    assert "\x1b[38;2;" in text
    numbers = re.findall(r"\x1b\[38;2;[\d;]+m([^\x1b]*)", text)
    assert not any(re.search(r"\de-\d", x) for x in numbers)  # they keep the terminal's own colour


def test_every_colour_is_readable_on_black_and_on_white():
    kinds = [Reading(math.nan, kind) for kind in SPECIAL]
    for reading in (*kinds, *(Reading(min(bound, 1e9) * 0.5, "value") for bound, _ in BINS)):
        code = report.colour(reading)
        light = report._luminance([int(code[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        assert (light + 0.05) / 0.05 >= 3
        assert 1.05 / (light + 0.05) >= 3


def test_an_ascii_file_can_hold_the_report():
    layer, record = model("LSTM")
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as file:
        Console(width=80, file=file).print(report.gradients(complete(layer, record), labels=["é"] * 40))
        file.flush()
        text = raw.getvalue().decode("ascii")
    assert "|dL/dh_t|" in text
    assert "v VANISHING" in text
    assert "###" in text


def test_a_notebook_shows_it():
    bundle = report.gradients(linear(0.5))._repr_mimebundle_([], [])
    assert "VANISHING" in bundle["text/plain"]
    assert "text/html" in bundle


# The head and the verdict


def test_the_head_names_cell_sizes_and_loss_and_the_verdict_follows():
    _, record = model("LSTM")
    head, verdict, *_ = lines_of(report.gradients(record))
    assert head == f"LSTM l0  T=40 N=2 H=8  float32  loss {record.loss:.4g}"
    assert verdict.startswith("▼ VANISHING: ")


def test_the_head_says_where_the_loss_is():
    rng = np.random.default_rng(0)
    layer, x = nn.RNN(3, 4, rng=rng), rng.standard_normal((6, 2, 3)).astype(np.float32)

    def head(loss):
        layer.zero_grad()
        return lines_of(report.gradients(bptt.backward(loss(layer(x)[0]))))[0]

    target = np.zeros((6, 2, 4), np.float32)
    assert head(lambda y: nn.mse_loss(y, target)).endswith(" at every step")
    assert head(lambda y: nn.mse_loss(y[-1], target[-1])).endswith(" at step 6 of 6")


def test_the_evidence_has_the_closed_forms_numbers():
    text = one_line(report.gradients(linear(0.1, 11)))
    assert "the gradient loses 1 decades a step (×0.1); ‖dL/dh_1‖ is 1e-10 of ‖dL/dh_11‖." in text
    assert "less than 0.001 of the latest gradient arrives at the first step" in text


def test_with_a_loss_at_every_step_the_evidence_is_what_travels():
    text = one_line(report.gradients(linear(0.5, 21, every)))
    assert "what travels back loses 0.3 decades a step (×0.5): about 1e-6 of dL/dh_21 arrives at step 1." in text
    assert "The norms hide it: ‖dL/dh_1‖ is 2 times ‖dL/dh_21‖, for gradient enters at every step." in text
    assert "Less than a tenth is left after 4 steps, a thousandth after 10." in text


def test_each_verdict_is_said_in_words():
    assert "● HEALTHY: the gradient loses 0.0044 decades a step (×0.99)" in one_line(report.gradients(linear(0.99)))
    text = one_line(report.gradients(linear(2.0)))
    assert "▲ EXPLODING: the gradient gains 0.3 decades a step (×2); ‖dL/dh_1‖ is 5e5 times ‖dL/dh_20‖." in text
    assert "At its peak it is 5e5 times as large." in text
    text = one_line(report.gradients(linear(0.0)))
    assert "× DEAD: exactly 0 comes back to step 19 from the step after it." in text
    assert "Nothing that steps 19 and before do is corrected by the loss at step 20." in text
    text = one_line(report.gradients(linear(0.5, 200, dtype=np.float32)))
    assert "× DEAD: what comes back to step 73 is smaller than float32 can hold (1e-38);" in text
    assert "up to there it lost 0.3 decades a step." in text
    assert "— TOO SHORT: the gradient stays at step 1." in one_line(report.gradients(linear(0.5, 1)))
    text = one_line(report.gradients(linear(0.5, loss=lambda y: (y * 0.0).sum())))
    assert "× DEAD: every gradient of this sequence is exactly 0." in text


def test_a_state_without_an_active_unit_is_named_as_the_cause():
    layer = nn.RNN(3, 4, nonlinearity="relu", rng=np.random.default_rng(0))
    layer.bias_ih_l0.data = np.full(4, -100, np.float32)
    record = bptt.backward(layer(np.ones((6, 1, 3), np.float32))[0].sum())
    text = one_line(report.gradients(record))
    assert "exactly 0 comes back to step 5 from the step after it." in text
    assert "The state of step 6 (rnn / t=6) is 0 in every unit." in text
    assert "What stands there is fresh gradient" in text


def test_the_first_step_that_is_not_finite_is_named_from_both_ends():
    gains = [1.0] * 20
    gains[7] = math.nan
    with np.errstate(invalid="ignore"):
        record = linear(1.0, gains=gains)
    text = printed(report.gradients(record))
    assert "! NOT FINITE: seen from the loss, step 7 (t=7) is the first" in one_line(report.gradients(record))
    assert "the state of step 8 (t=8) is already NaN" in one_line(report.gradients(record))
    rows = steps_table(text)
    assert rows["7"].startswith("NaN not finite")
    assert rows["8"].startswith("1 █")


def test_a_loss_that_is_nan_is_not_taken_for_a_missing_one():
    rng = np.random.default_rng(0)
    layer = nn.RNN(3, 4, rng=rng, dtype=np.float64)
    y, _ = layer(rng.standard_normal((5, 1, 3)))
    with np.errstate(invalid="ignore"):
        record = bptt.backward(nn.mse_loss(y, np.array([0.0, 0, math.nan, 0, 0])[:, None, None] * np.ones((5, 1, 4))))
    head, *_ = lines_of(report.gradients(record))
    assert head.endswith("loss nan")
    assert "NaN" in steps_table(printed(report.gradients(record)))["3"].split()[0]


def test_both_lanes_of_a_lstm_are_reported():
    text = one_line(report.gradients(model("LSTM", loss=last)[1]))
    assert "‖dL/dh_t‖" in text
    assert "‖dL/dc_t‖" in text
    assert re.search(r"‖dL/dc_1‖ is \S+ of ‖dL/dc_40‖\..* Along h alone: -0\.\d+ decades a step", text)


def test_before_any_backward_it_says_so():
    y, _ = nn.RNN(3, 4, rng=np.random.default_rng(0))(np.ones((40, 2, 3), np.float32))
    text = printed(report.gradients(bptt.record(y.sum())))
    assert "— NO BACKWARD YET: there are values, but no gradients so far." in text
    assert steps_table(text) == {"1…40": "—"}
    assert "nan" not in text.lower().replace("nan or", "")


# The table of steps


def test_a_bar_is_as_long_as_the_logarithm_says():
    text = printed(report.gradients(linear(0.1, 5)))  # 1e-4, …, 0.1, 1
    assert "1e-4…1" in text
    widths = [rest.count("█") for rest in steps_table(text).values()]
    assert widths[-1] == max(widths)
    assert np.diff(widths[1:]) == pytest.approx(widths[-1] / 4, abs=1)
    assert steps_table(text)["3"].startswith("0.01 ")


def test_one_scale_serves_all_columns():
    _, record = model("LSTM", loss=last, steps=20)
    text = printed(report.gradients(record), 200)
    s = record.sequence()
    sizes = [r.norm for f in "hc" for r in s.readings(f)]
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    (axis,) = re.findall(r"‖dL/dh_t‖ (\S+…\S+)", text)
    assert [float(x) for x in axis.split("…")] == pytest.approx([10.0**low, 10.0**high])


def test_what_is_left_of_the_latest_gradient_has_a_column_where_the_norms_do_not_show_it():
    rows = steps_table(printed(report.gradients(linear(0.1, 6, every))))
    assert [float(row.split()[2]) for row in rows.values()] == pytest.approx([1e-5, 1e-4, 1e-3, 0.01, 0.1, 1])
    assert "from step 6" not in printed(report.gradients(linear(0.1, 6)))


def test_every_special_kind_looks_different_without_colour():
    record = linear(0.1, 12)
    s = record.sequence()
    gradient = s.gradients["h"].copy()
    gradient[:4, 0, 0] = [0, 1e-310, math.nan, math.inf]
    reached = {"h": np.array([True] * 12)}
    reached["h"][4] = False
    lengths = np.array([11])
    odd = dataclasses.replace(s, gradients={"h": gradient}, reached=reached, lengths=lengths)
    rows = steps_table(printed(report.gradients(dataclasses.replace(record, sequences={"l0": odd}))))
    assert rows["1"] == "0 exactly 0"
    assert rows["2"] == "1e-310 underflow"
    assert rows["3"] == "NaN not finite"
    assert rows["4"] == "inf not finite"
    assert rows["5"] == "no path no path"
    assert rows["12"] == "pad padding"
    assert "█" in rows["11"]


def test_a_long_sequence_folds_to_one_screen_and_loses_no_step():
    _, record = model("LSTM", steps=1000, loss=last)
    text = printed(report.gradients(record))
    rows = [tuple(map(int, name.split("…"))) for name in steps_table(text)]
    assert len(rows) <= report.ROWS
    covered = [t for row in rows for t in range(row[0], row[-1] + 1)]
    assert covered == list(range(1, 1001))


def test_a_range_shows_its_least_and_largest_norm_and_how_many_steps():
    rows = steps_table(printed(report.gradients(linear(0.1, 60))))
    (name, text), *_ = ((n, r) for n, r in rows.items() if "…" in n)
    first, final = map(int, name.split("…"))
    assert text.split()[0] == f"1e-{60 - first}…1e-{60 - final}"
    assert "░" in text


def test_all_that_is_zero_is_one_row():
    rows = steps_table(printed(report.gradients(linear(0.0, 300))))
    assert list(rows) == ["1", "2…298", "299", "300"]
    assert rows["2…298"] == "0 exactly 0"


def test_the_steps_where_something_happens_are_never_folded():
    rows = steps_table(printed(report.gradients(linear(0.5, 400, dtype=np.float32))))
    assert {"1", "398", "399", "400"} <= set(rows)
    assert "underflow" in rows["273"]  # 2**-127
    assert "underflow" not in rows["274"]
    gains = [1.0] * 300
    gains[150], gains[140] = 50.0, 1 / 50
    rows = steps_table(printed(report.gradients(linear(1.0, 300, gains=gains))))
    assert any(r.startswith("50 ") for r in rows.values())


def test_everything_shows_every_step():
    rows = steps_table(printed(report.gradients(linear(0.9, 100), everything=True)))
    assert list(rows) == [str(t) for t in range(1, 101)]


def test_the_losses_of_a_range_are_added():
    rng = np.random.default_rng(0)
    layer, target = nn.RNN(3, 4, rng=rng), np.zeros((60, 2, 4), np.float32)
    y, _ = layer(rng.standard_normal((60, 2, 3)).astype(np.float32))
    record = bptt.backward(nn.mse_loss(y, target, reduction="sum"))
    rows = steps_table(printed(report.gradients(record)))
    for name, text in rows.items():
        first, final = (int(name.split("…")[k]) for k in (0, -1))
        expected = float((y.numpy()[first - 1 : final] ** 2).sum())
        shown = text.split()[1] if text.startswith("Σ") else text.split()[0]
        assert float(shown) == pytest.approx(expected, rel=0.06)


# Labels


@pytest.mark.parametrize(
    ("label", "shown"),
    [("[bold red]x[/]", "[bold red]x[/]"), ("\x1b[31m", "U+001B[31m"), ("\n", "U+000A"), ("a\u0301", "aU+0301"),
     ("\u202e", "U+202E"), ("\x00", "U+0000"), ("日本", "日本"), ("  ", "␣␣"), ("", ""), (":smile:", ":smile:"),
     ("\ud800", "U+D800")],
)  # fmt: skip
def test_a_hostile_label_is_shown_as_what_it_is(label, shown):
    text = printed(report.gradients(linear(0.5, 3), labels=[label, "b", 7]), 160, force_terminal=True, no_color=True)
    row = next(re.sub(r"\x1b\[[\d;]*m", "", x) for x in text.splitlines() if re.match(r"\s*1 ", x))
    cell = row[2:].split("  ")[0] if shown == "" else row[2:]
    assert cell.startswith(shown if len(shown) <= 12 else shown[:11] + "…")
    assert "\x1b[31m" not in text
    assert not set(text) & {"\x00", "\u202e", "\u0301"}


def test_a_long_label_is_cut():
    rows = steps_table(printed(report.gradients(linear(0.5, 3), labels=["x" * 500, "b", "c"])))
    assert rows["1"].startswith("xxxxxxxxxxx… ")


def test_a_label_for_each_step_or_none():
    with pytest.raises(RecordError, match=r"2 labels for a sequence of T=3 steps\.\n  Give one label for each step"):
        report.gradients(linear(0.5, 3), labels=["a", "b"])


# Parameters, clipping, comparison


def parameter_row(text, name):
    header = next(line for line in text.splitlines() if line.startswith("parameter"))
    row = next(line for line in text.splitlines() if line.startswith(name))
    return dict(zip(header.split(), row.split(), strict=True))


def test_a_parameters_terms_are_shared_out_over_the_sequence():
    w, steps = 0.5, 9
    record = linear(w, steps)
    h = [sum(w**k for k in range(t)) for t in range(steps)]  # h_0 … h_8
    terms = np.array([w ** (steps - 1 - t) * h[t] for t in range(steps)])
    row = parameter_row(printed(report.gradients(record)), "cell.w")
    shares = terms.reshape(3, 3).sum(axis=1) / terms.sum()
    for title, share in zip(("1…3", "4…6", "7…9"), shares, strict=True):
        assert float(row[title].strip("<%")) == pytest.approx(100 * share, abs=0.6)
    assert float(row["‖grad‖"]) == pytest.approx(terms.sum(), rel=0.05)
    assert row["shape"] == "1×1"


def test_uses_outside_any_step_are_shown_as_such():
    rng = np.random.default_rng(0)
    layer, out = nn.RNN(3, 4, rng=rng), nn.Linear(4, 2, rng=rng)
    out.weight.name = "out.weight"
    text = printed(report.gradients(bptt.backward(out(layer(np.ones((6, 1, 3), np.float32))[0]).sum())))
    assert parameter_row(text, "out.weight")["outside"] == "100%"
    assert "Outside: used outside any step." in text


def test_the_update_ratio_and_the_clipped_norm_appear_once_they_are_known():
    layer, record = model(loss=every)
    assert "clipped" not in printed(report.gradients(record))
    name = next(iter(record.parameters))
    clipping = clip_grad_norm(layer.parameters(), 0.01)
    weights = {p.name: float(np.linalg.norm(p.numpy())) for p in layer.parameters()}
    update = optim.SGD(layer.parameters(), lr=0.5).step()
    row = parameter_row(printed(report.gradients(record.after(clipping=clipping, update=update))), name)
    assert float(row["clipped"]) == pytest.approx(clipping.after[name], rel=0.06)
    assert float(row["‖ΔW‖/‖W‖"]) == pytest.approx(0.5 * clipping.after[name] / weights[name], rel=0.2)


def test_clipping_by_norm_says_that_it_cures_no_vanishing():
    layer, record = model()
    text = one_line(report.gradients(record.after(clipping=clip_grad_norm(layer.parameters(), 0.01))))
    assert re.search(r"Clipping by norm, C=0.01: fired. ‖g‖ \S+ → 0.01, coefficient \S+, angle 0°\.", text)
    assert "so the ratio of the first step to the last stays" in text
    assert "does not cure vanishing" in text


def test_clipping_by_value_says_how_far_the_direction_turned():
    layer, record = model()
    clipping = clip_grad_value(layer.parameters(), 0.01)
    text = one_line(report.gradients(record.after(clipping=clipping)))
    assert "Clipping by value, C=0.01: fired." in text
    assert clipping.angle > 1
    assert f"points {report.number(clipping.angle)}° away" in text


def test_clipping_that_did_not_fire_says_so():
    layer, record = model()
    text = one_line(report.gradients(record.after(clipping=clip_grad_norm(layer.parameters(), 1e6))))
    assert "did not fire" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_cells_stand_side_by_side(width):
    records = {
        "keeps": linear(0.99), "loses [bold]": linear(0.1, 11), "grows": linear(3.0), "dead": linear(0.0),
        "two lanes": recorded(Carousel(0.9)), "one step": linear(0.5, 1),
    }  # fmt: skip
    text = printed(report.compare(records), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert "● HEALTHY" in rows["keeps"]
    assert "▼ VANISHING" in rows["loses"]
    assert "[bold]" in text
    assert "▲ EXPLODING" in rows["grows"]
    assert "× DEAD" in rows["dead"]
    assert "— TOO SHORT" in rows["one"]
    assert " -1 " in rows["loses"]


def test_the_comparison_has_the_closed_forms_numbers():
    header, row, *_ = printed(report.compare({"w=0.5": linear(0.5, 21)}), 200).splitlines()
    cells = dict(zip(header.split(), row.replace("▼ ", "").split(), strict=True))
    assert (cells["first"], cells["last"], cells["ratio"], cells["arrives"]) == ("1e-6", "1", "1e-6", "1e-6")
    assert (cells["dec/step"], cells["1/10"], cells["1/1000"]) == ("-0.3", "4", "10")


def several(kind, hidden, layers=2, **options):
    rng = np.random.default_rng(0)
    layer = getattr(nn, kind)(3, hidden, layers, rng=rng, dtype=np.float64, kernel="fused", **options)
    y, _ = layer(rng.standard_normal((30, 2, 3)))
    return bptt.backward((y * y).sum())


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_every_layer_and_direction_of_every_record_has_a_row(width, colour):
    records = {
        "RNN H=16 orthogonal": several("RNN", 16, init="orthogonal", bidirectional=True),
        "LSTM H=4": several("LSTM", 4), "one layer": linear(0.5),
    }  # fmt: skip
    options = {"force_terminal": True, "color_system": "truecolor", "no_color": False} if colour else {}
    text = printed(report.compare(records), width, **options)
    assert ("\x1b[" in text) is colour
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split()[:3] == ["cell", "layer", "verdict"]
    layers = [found[0] for line in lines if (found := re.findall(r"l\d(?:_reverse)? [→←]", line))]
    assert layers == ["l1_reverse ←", "l1 →", "l0_reverse ←", "l0 →", "l1 →", "l0 →"]
    assert sum("one layer" in line for line in lines) == 1
    if width >= 80:
        assert sum(line.startswith("RNN H=16 orthogonal ") for line in lines) == 1
        assert sum(line.startswith("LSTM H=4 ") for line in lines) == 1


def test_each_row_of_the_comparison_is_its_own_diagnosis():
    record = several("LSTM", 4, bidirectional=True)
    header, *rows = printed(report.compare({"x": record}), 200).splitlines()
    rows = [row[row.index(" l") :].replace("▼ ", "").replace("● ", "").split() for row in rows[:4]]
    titles = header.split()[1:]
    titles.insert(1, "way")
    assert len(rows[0]) == len(titles)
    for row, name in zip(rows, reversed(list(record.sequences)), strict=True):
        cells = dict(zip(titles, row, strict=False))
        found = diagnose(record, sequence=name)
        assert (cells["layer"], cells["verdict"]) == (name, found.verdict.upper())
        assert cells["arrives"] == report.number(found.lane.share)
        assert (cells["1/10"], cells["1/1000"]) == (str(found.lane.tenth), str(found.lane.thousandth))
        assert "loss" in cells or row is not rows[0]
        parameters = [p.norm for n, p in record.parameters.items() if n.endswith(f"_{name}")]
        assert cells["‖grad‖"] == report.number(math.hypot(*parameters))


def test_an_estimate_is_marked_in_the_comparison_and_said_in_the_report():
    text = printed(report.compare({"own": linear(0.5, loss=every), "LSTM": several("LSTM", 4, 1)}), 120)
    own, known = text.splitlines()[1:3]
    assert "~2e-6" in own
    assert "~" not in known
    assert "(~: an estimate)" in text
    assert "~" not in printed(report.compare({"LSTM": several("LSTM", 4, 1)}), 120)
    text = one_line(report.gradients(linear(0.5, loss=every)))
    assert "about 2e-6 of dL/dh_20 arrives" in text
    assert "What arrives is an estimate, one hop after the other: this cell's step is not in the record." in text
    assert "is left here; an estimate, one hop after the other. The rest" in text
    text = one_line(report.gradients(several("LSTM", 4, 1)))
    assert "estimate" not in text
    assert "about" not in text


def test_the_report_names_the_first_zero_and_the_first_fault_with_their_line():
    layer = nn.RNN(1, 2, nonlinearity="relu", rng=np.random.default_rng(0))
    for p in layer.parameters():
        p.data = np.full(p.shape, 0.5, np.float32)
    x = np.ones((8, 2, 1), np.float32)
    x[3] = -100.0
    loss = layer(x)[0].sum()
    text = one_line(report.gradients(bptt.backward(loss, keep="ops")), 200)
    assert "exactly 0 comes back to step 3 from the step after it." in text
    assert "The first exact 0 on the way back is what relu at rnn / t=4 hands on to add, by its rule" in text
    assert re.search(r"derivative is 0 there \(test_report\.py:\d+\)\.", text)
    assert "first exact 0" not in one_line(report.gradients(bptt.backward(layer(x)[0].sum(), accumulate=True)))
    gains = [1.0] * 20
    gains[7] = math.nan
    with np.errstate(invalid="ignore"):
        y, _ = nn.unroll(Linear([[1.0]], gains=gains), Tensor(np.ones((20, 1, 1)), requires_grad=True))
        text = one_line(report.gradients(bptt.backward(y[-1].sum(), keep="ops")), 200)
    assert "! NOT FINITE" in text
    assert re.search(r"first value that is NaN or infinite is that of multiply at t=8 \(test_diagnose\.py:\d+\)", text)


def test_an_underflow_has_its_horizon_and_its_first_zero():
    layer = nn.RNN(2, 8, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((400, 1, 2)).astype(np.float32)
    text = one_line(report.gradients(bptt.backward(layer(x)[0].sum(), keep="ops")), 200)
    assert re.search(r"a thousandth after \d+, less than can be held after \d+\.", text)
    assert "× DEAD: what comes back to step" in text
    assert "What stands there is fresh gradient" in text


def test_the_comparison_takes_a_record_before_backward_and_one_that_is_not_finite():
    y, _ = nn.RNN(3, 4, rng=np.random.default_rng(0))(np.ones((4, 2, 3), np.float32))
    with np.errstate(invalid="ignore"):
        bad = linear(math.nan)
    text = printed(report.compare({"a": bptt.record(y.sum()), "b": bad}))
    assert "— NO BACKWARD YET" in text
    assert "! NOT FINITE" in text
    assert printed(report.compare({})).strip().startswith("cell")


def test_the_sequence_is_chosen_by_name():
    x = Tensor(np.ones((5, 1, 1)), requires_grad=True)
    rng = np.random.default_rng(0)
    below, _ = nn.unroll(nn.RNNCell(1, 2, rng=rng, dtype=np.float64), x, name="l0")
    above, _ = nn.unroll(nn.GRUCell(2, 3, rng=rng, dtype=np.float64), below, name="l1")
    record = bptt.backward(above[-1].sum())
    assert lines_of(report.gradients(record))[0].startswith("RNN l0  T=5 N=1 H=2")
    assert lines_of(report.gradients(record, sequence="l1"))[0].startswith("GRU l1  T=5 N=1 H=3")
    assert "(of l0, l1)" in lines_of(report.gradients(record))[0]
    with pytest.raises(RecordError, match="no sequence 'l2'"):
        report.gradients(record, sequence="l2")
