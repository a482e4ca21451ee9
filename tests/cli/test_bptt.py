from __future__ import annotations

import html
import io
import json
import math
import os
import re
import signal
import sys
import time
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

import minigrad
from minigrad import checkpoint
from minigrad.__main__ import main
from minigrad.bptt import storage
from minigrad.bptt.attribution import Attribution, attribution
from minigrad.bptt.gates import gates
from minigrad.bptt.jacobian import jacobian_curves
from minigrad.bptt.terms import step_terms
from minigrad.bptt.thresholds import Norms, clipping_effects, norms_over_training
from minigrad.bptt.truncation import truncation
from minigrad.character import CELLS, CharacterModel
from minigrad.cli import bptt
from minigrad.errors import DrawError
from minigrad.terminal import Output
from minigrad.views.lens_limits import same_factor
from minigrad.views.picture import Picture
from tests.cli.commands import process

TEXT = "the cat sat on the mat; the dog did not.\n" * 3
SMALL = ["--text", "a.txt", "--steps", "6", "--hidden", "4", "--train", "2"]
FIXED = [*SMALL, "--cell", "rnn", "--level", "cell", "--format", "dot"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a text in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGRAD_DOT", raising=False)
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """What --json prints, read strictly."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    assert main(["bptt", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=refuse)


def steps_of(document: Any, cell: str = "rnn", sequence: str = "l0") -> Any:
    return document["cells"][cell]["sequences"][sequence]["steps"]


# Without a command


def test_alone_it_prints_help_and_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "bptt" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minigrad {minigrad.__version__}\n"
    assert main(["bptt", "--help"]) == 0
    out = capsys.readouterr().out
    options = "text encoding cell steps hidden init train clip loss level all format engine out seed json open"
    assert all(f"--{option}" in out for option in options.split())


# What it shows and writes


def test_all_three_cells_side_by_side(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main(["bptt", *SMALL, "--steps", "12"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    different = len(set(TEXT))
    assert lines[0] == "RNN, LSTM and GRU, H=4, seed 0"
    assert lines[1] == f"Text      'a.txt': {len(TEXT)} characters, {different} different ones"
    assert "T=12 characters: 'the cat sat '" in out
    assert f"log V = {math.log(different):.2f}" in out
    written = [f"pictures/{c}_{what}.svg" for c in ("rnn", "lstm", "gru") for what in ("gate", "strip", "clipping")]
    written.insert(0, "pictures/cells.svg")
    assert [line.strip() for line in lines[lines.index("Pictures:") + 1 :]] == written
    assert sorted(p.name for p in (here / "pictures").iterdir()) == sorted(Path(w).name for w in written)
    assert all((here / w).read_text().rstrip().endswith("</svg>") for w in written)
    assert "LSTM l0" in out
    assert "Clipping by norm, C=1" in out


@pytest.mark.parametrize("level", ["strip", "cell", "gate", "op"])
def test_every_level_folded_and_whole(level: str, here: Path) -> None:
    for everything in ([], ["--all"]):
        assert main(["bptt", *SMALL, "--cell", "lstm", "--level", level, "--format", "dot", *everything]) == 0
        names = {p.name for p in (here / "pictures").iterdir()}
        assert names == {f"lstm_{level}.dot", "lstm_clipping.dot"}


def test_the_map_comes_with_what_folds(here: Path) -> None:
    for steps, strip in (("10", False), ("11", True)):
        assert main(["bptt", *FIXED, "--steps", steps, "--out", steps]) == 0
        assert (here / steps / "rnn_strip.dot").exists() is strip


def test_png_and_a_folder_elsewhere(here: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("out") / "deep" / "er"
    assert main(["bptt", *FIXED, "--format", "png", "--out", str(elsewhere)]) == 0
    assert (elsewhere / "rnn_cell.png").read_bytes().startswith(b"\x89PNG")
    assert str(elsewhere / "rnn_cell.png") in capsys.readouterr().out


def test_an_older_picture_is_replaced(here: Path) -> None:
    (here / "pictures").mkdir()
    (here / "pictures" / "rnn_cell.dot").write_text("old")
    assert main(["bptt", *FIXED]) == 0
    assert "digraph" in (here / "pictures" / "rnn_cell.dot").read_text()


def test_the_default_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bptt", "--cell", "rnn", "--hidden", "2", "--train", "1", "--format", "dot"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("RNN, H=2, seed 0\nText      'pydoc_data.topics': ")
    assert "T=40" in out


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("aaaa", []),  # V=1: nothing to learn
        ("abc", ["--hidden", "1"]),  # T=2, the shortest
        ("한국어 글자를 읽는다. 한국어다.", []),
        ("🙂🙃👩‍👩‍👧👍🏽 e\u0301 \x01\x1b[31m\x7f\u2028", []),
        ("\"quotes\" <b> & \\ {x|y} [red]%s[/] $HOME\r\n\ttab", []),
    ],
)
def test_texts_of_every_kind(
    name: str, content: str, options: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "b.txt").write_bytes(content.encode())
    argv = ["bptt", "--text", "b.txt", "--hidden", "3", "--train", "1", "--cell", name, *options]
    drawn = {"rnn": ["--level", "cell", "--format", "svg"], "lstm": ["--format", "dot"], "gru": ["--format", "png"]}
    assert main([*argv, *drawn[name]]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out


@pytest.mark.parametrize("content", ["\n\t" * 40, "한국어 글자를 읽는다. " * 4, "\"it's\"\x01" * 20])
@pytest.mark.parametrize("loss", ["last", "all"])
def test_what_it_is_about_to_do_fits_eighty_columns(
    content: str, loss: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "b.txt").write_text(content, "utf-8")
    argv = ["--text", "b.txt", "--steps", "40", "--hidden", "2", "--train", "1", "--cell", "rnn", "--format", "dot"]
    assert main(["bptt", *argv, "--level", "strip", "--loss", loss]) == 0
    plan = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert max(map(cell_len, plan)) <= 80
    (reading,) = [line for line in plan if line.startswith("Reading   T=40 characters: ")]
    quoted = literal_eval(reading.partition(": ")[2])
    assert quoted.endswith("…")
    assert len(quoted) > 10
    assert content.startswith(quoted[:-1])


def test_the_help_fits_eighty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["bptt", "--help"]) == 0
    assert max(map(cell_len, capsys.readouterr().out.splitlines())) <= 80


def test_the_longest_sequence_is_one_less_than_the_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_text("abcabcab")
    assert len(steps_of(document(capsys, *FIXED, "--text", "b.txt", "--steps", "7"))) == 7


def test_another_encoding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_bytes("한국어 글자".encode("cp949"))
    found = document(capsys, *FIXED, "--text", "b.txt", "--encoding", "cp949", "--steps", "4")
    assert [step["character"] for step in steps_of(found)] == list("한국어 ")


def test_without_training_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bptt", *FIXED, "--train", "0"]) == 0
    out = capsys.readouterr().out
    assert "the weights are random" in out
    assert "not trained" in out


def test_training_lowers_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *FIXED, "--hidden", "16", "--train", "60")["cells"]["rnn"]["training"]
    assert found["last_loss"] < found["even_guess"] < found["first_loss"] + 1
    assert found["even_guess"] == math.log(len(set(TEXT)))


def test_open_shows_every_picture(
    monkeypatch: pytest.MonkeyPatch, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(bptt.webbrowser, "open", lambda uri: shown.append(uri) or True)
    assert main(["bptt", *FIXED, "--format", "svg", "--open"]) == 0
    assert shown == [(here / "pictures" / f"rnn_{what}.svg").as_uri() for what in ("cell", "clipping")]
    monkeypatch.setattr(bptt.webbrowser, "open", lambda uri: False)
    assert main(["bptt", *FIXED, "--format", "svg", "--open"]) == 0
    assert "open the pictures yourself" in capsys.readouterr().err


# The document


def test_the_document_has_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *SMALL, "--format", "dot", "--steps", "12")
    assert (found["format"], found["version"], found["minigrad"]) == ("minigrad bptt", 4, minigrad.__version__)
    assert found["text"] == {"name": "a.txt", "characters": len(TEXT), "vocabulary": len(set(TEXT))}
    assert found["settings"] == {
        "model": None, "steps": 12, "cell": ["rnn", "lstm", "gru"], "hidden": [4], "init": ["uniform"], "train": 2,
        "clip": 1.0, "loss": "last", "level": "gate", "all": False, "seed": 0,
    }  # fmt: skip
    assert list(found["cells"]) == ["rnn", "lstm", "gru"]
    for name, cell in found["cells"].items():
        assert set(cell) == {
            "cell", "hidden", "init", "training", "loss", "sequences", "parameters", "clipping", "files",
        }  # fmt: skip
        assert (cell["cell"], cell["hidden"], cell["init"]) == (name, 4, "uniform")
        assert list(cell["sequences"]) == ["l0"]
        assert set(cell["sequences"]["l0"]) == {"verdict", "rule", "diagnosis", "steps"}
        assert set(cell["sequences"]["l0"]["diagnosis"]) == {
            "state", "exact", "earliest", "latest", "share", "ratio", "decades", "tenth", "thousandth", "underflow",
            "first_fault", "first_zero",
        }  # fmt: skip
        steps = steps_of(found, name)
        assert set(cell["training"]) == {"first_loss", "last_loss", "even_guess", "clipped"}
        assert [step["t"] for step in steps] == list(range(1, 13))
        assert "".join(step["character"] for step in steps) == TEXT[:12]
        assert [step["label"] for step in steps][3] == "space"
        assert [step["target"] for step in steps][2] == "space"
        for step in steps:
            assert set(step["dL_dh"]) == {"norm", "kind"}
            assert ("dL_dc" in step) is (name == "lstm")
            assert f"{name}.weight_hh_l0" in step["terms"]
        assert [step["loss"] for step in steps[:-1]] == [None] * 11
        assert steps[-1]["loss"] == pytest.approx(cell["loss"])
        assert f"{name}.weight_ih_l0" in cell["parameters"]
        gradients = [p["gradient"]["norm"] for p in cell["parameters"].values()]
        assert cell["clipping"]["norm_before"] == pytest.approx(math.hypot(*gradients), rel=1e-6)
        assert cell["files"] == [f"pictures/{name}_{what}.dot" for what in ("gate", "strip", "clipping")]


def test_the_numbers_are_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    """The same model by hand: its norms are those of the document."""
    whole = document(capsys, *FIXED, "--train", "0", "--loss", "all")
    found, steps = whole["cells"]["rnn"], steps_of(whole)
    characters = sorted(set(TEXT))
    ids = np.array([characters.index(c) for c in TEXT[:7]])[:, np.newaxis]
    model = CharacterModel(characters, "rnn", hidden=4, embedding=16, kernel="steps", rng=np.random.default_rng(0))
    record = minigrad.bptt.backward(model.loss(ids[:-1], ids[1:])[0])
    assert found["loss"] == record.loss
    assert [s["dL_dh"]["norm"] for s in steps] == [r.norm for r in record.sequence().readings("h")]
    assert sum(s["loss"] for s in steps) == pytest.approx(found["loss"], rel=1e-6)
    for name, p in record.parameters.items():
        assert found["parameters"][name]["gradient"] == {"norm": p.norm, "kind": "value"}
    assert found["clipping"]["fired"] is (found["clipping"]["norm_before"] > 1)


def test_the_diagnosis_has_the_attributions_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SMALL, "--cell", "lstm", "--format", "dot", "--loss", "all", "--show", "attribution"]
    found = document(capsys, *given)["cells"]["lstm"]["sequences"]["l0"]
    diagnosis, shown = found["diagnosis"], storage.from_json(found["show"]["attribution"])
    assert isinstance(shown, Attribution)
    first, *_, last = shown.over_batch("c")[5]
    assert (diagnosis["state"], diagnosis["exact"], diagnosis["earliest"], diagnosis["latest"]) == ("c", True, 1, 6)
    assert diagnosis["share"] == pytest.approx(first / last, rel=1e-5)


def test_the_first_zero_is_in_the_document_where_ops_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*FIXED, "--text", "a.txt", "--steps", "100", "--train", "0", "--hidden", "2"]
    zeros = [
        document(capsys, *given, "--level", level)["cells"]["rnn"]["sequences"]["l0"]["diagnosis"]["first_zero"]
        for level in ("gate", "cell")
    ]
    assert zeros[1] is None
    assert zeros[0] is None or set(zeros[0]) == {"op", "scope", "t", "source", "norm", "to", "why"}


# Side by side


def test_cells_sizes_and_starts_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = ["--cell", "rnn,gru", "--hidden", "3, 5", "--init", "uniform,orthogonal"]
    assert main(["bptt", *SMALL, "--format", "dot", *lists]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "RNN and GRU, H=3 and 5, W_hh uniform and orthogonal, seed 0"
    titles = [f"{c} H={h} {i}" for c in ("RNN", "GRU") for h in (3, 5) for i in ("uniform", "orthogonal")]
    assert max(len(line) for line in lines if " nats " in line) <= 80
    table = lines[lines.index("") + 1 :]
    assert table[0].startswith("cell ")
    assert [line[: len(title)] for line, title in zip(table[1:9], titles, strict=True)] == titles
    assert max(map(len, out.split("\nPictures:")[0].split("\n\n", 1)[1].splitlines())) <= 80
    keys = [title.replace(" ", "_").replace("=", "").lower() for title in titles]
    names = {f"{key}_{what}.dot" for key in keys for what in ("gate", "clipping")} | {"cells.dot"}
    assert {p.name for p in (here / "pictures").iterdir()} == names


def test_only_the_recurrent_weights_start_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    starts = "uniform,orthogonal,identity,zeros"
    found = document(capsys, *FIXED, "--hidden", "8", "--train", "0", "--init", starts)
    assert found["settings"]["init"] == starts.split(",")
    cells = found["cells"]
    assert [(cell["hidden"], cell["init"]) for cell in cells.values()] == [(8, init) for init in starts.split(",")]
    norms = {key: {n: p["weight_norm"] for n, p in cell["parameters"].items()} for key, cell in cells.items()}
    hidden = {key: norm.pop("rnn.weight_hh_l0") for key, norm in norms.items()}
    assert all(norm == norms["rnn_uniform"] for norm in norms.values())
    assert hidden["rnn_orthogonal"] == pytest.approx(8**0.5, rel=1e-6)
    assert (hidden["rnn_identity"], hidden["rnn_zeros"]) == (pytest.approx(8**0.5), 0)
    alone = document(capsys, *FIXED, "--hidden", "8", "--train", "0", "--init", "orthogonal")["cells"]["rnn"]
    assert alone["loss"] == cells["rnn_orthogonal"]["loss"]


def test_one_size_and_one_start_are_named_as_always(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *FIXED, "--hidden", "4,4", "--init", "uniform,uniform", "--cell", "rnn,lstm,rnn")
    assert list(found["cells"]) == ["rnn", "lstm"]


def test_the_loss_is_of_the_last_step_or_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    last = steps_of(document(capsys, *FIXED))
    every = steps_of(document(capsys, *FIXED, "--loss", "all"))
    assert [s["loss"] is None for s in last] == [True] * 5 + [False]
    assert not any(s["loss"] is None for s in every)
    assert last[0]["dL_dh"]["norm"] < every[0]["dL_dh"]["norm"]


def test_the_same_seed_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (document(capsys, *SMALL, "--format", "dot", "--seed", s) for s in ("3", "3", "4"))
    assert first == again
    assert first["cells"]["gru"]["loss"] != other["cells"]["gru"]["loss"]


def test_a_gradient_of_nothing_is_finite_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_text("aaaaaaaa")
    found = document(capsys, *FIXED, "--text", "b.txt")
    assert {step["dL_dh"]["kind"] for step in steps_of(found)} == {"zero"}
    assert found["cells"]["rnn"]["clipping"]["fired"] is False


@pytest.mark.parametrize("clip", ["1e-320", "1e300"])
def test_extreme_thresholds(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    cell = document(capsys, *FIXED, "--clip", clip)["cells"]["rnn"]
    assert cell["clipping"]["fired"] is (clip == "1e-320")


# What --show adds

LENSES = ("terms", "jacobian", "attribution", "gates", "clipping", "truncation")
LEADS = {
    "terms": "Terms of ", "jacobian": "Jacobians of l0", "attribution": "Attribution in l0", "gates": "Gates of ",
    "clipping": "Clipping of l0", "truncation": "Truncation of l0",
}  # fmt: skip


def test_each_measure_is_shown_after_the_report_of_its_cell_in_the_order_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bptt", *SMALL, "--format", "dot", "--show", "gates, truncation,terms,gates"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rnn, lstm, gru = re.split(r"^(?:RNN|LSTM|GRU) l0 ", out, flags=re.M)[1:]
    for cell, kind in ((rnn, "RNN"), (lstm, "LSTM"), (gru, "GRU")):
        places = [cell.index(f"\n{lead}") for lead in (f"Gates of {kind} l0: ", "Truncation of l0: ", "Terms of ")]
        assert places == sorted(places)
        assert cell.index("\nClipping by norm") < places[0]
        assert cell.count("\nGates of ") == 1
        assert f"\nTerms of {kind.lower()}.weight_hh_l0: " in cell
        assert not any(f"\n{LEADS[name]}" in cell for name in ("jacobian", "attribution", "clipping"))


def test_all_of_them_for_every_layer_of_a_trained_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained(here, layers=2, cell="lstm")
    capsys.readouterr()
    assert main(["bptt", "--model", file, "--steps", "8", "--format", "dot", "--show", "all"]) == 0
    out, _ = capsys.readouterr()
    for name in LENSES:
        assert out.count(f"\n{LEADS[name].split(' ')[0]} ") == 2 + (name == "clipping") * 2  # also "Clipping by norm"
    assert "\nAttribution in l1: " in out
    report = out.split("\nLSTM l0 ")[1]
    assert max(len(line) for line in report.split("\nPictures:")[0].splitlines()) <= 80


def test_how_often_clipping_fired_in_training_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bptt", *FIXED, "--train", "7", "--clip", "1e-3", "--show", "clipping"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Over training: clipping fired at 7 of 7 updates" in out
    assert "by norm 0.001 " in out


def test_nothing_is_added_without_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bptt", *FIXED]) == 0
    plain = capsys.readouterr().out
    assert main(["bptt", *FIXED, "--show", "gates"]) == 0
    shown = capsys.readouterr().out
    lens = shown[shown.index("\nGates of ") : shown.index("\nPictures:")]
    assert shown.replace(lens, "").replace("  pictures/rnn_gates.dot\n", "") == plain
    assert "show" not in document(capsys, *FIXED)["cells"]["rnn"]["sequences"]["l0"]


def record_of(cell: str, found: Any) -> minigrad.bptt.Record:
    """What the command looked at, made by hand: an untrained model of its first seed, all losses."""
    characters = sorted(set(TEXT))
    ids = np.array([characters.index(c) for c in TEXT[:7]])[:, np.newaxis]
    model = CharacterModel(characters, cell, hidden=4, embedding=16, kernel="steps", rng=np.random.default_rng(0))
    record = minigrad.bptt.backward(model.loss(ids[:-1], ids[1:])[0])
    assert found["cells"][cell]["loss"] == record.loss
    return record


@pytest.mark.parametrize("cell", list(CELLS))
def test_the_document_has_each_measure_as_it_was_measured(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SMALL, "--cell", cell, "--format", "dot", "--train", "0", "--loss", "all", "--show", "all"]
    found = document(capsys, *given, "--clip", "0.5")
    show = found["cells"][cell]["sequences"]["l0"]["show"]
    record = record_of(cell, found)
    measured = {
        "terms": step_terms(record), "jacobian": jacobian_curves(record), "attribution": attribution(record),
        "gates": gates(record), "clipping": clipping_effects(record, **same_factor(record, 0.5)),
        "truncation": truncation(record),
    }  # fmt: skip
    assert tuple(show) == LENSES
    for name, measure in measured.items():
        assert (show[name]["format"], show[name]["version"]) == (storage.FORMAT, storage.VERSION)
        assert repr(storage.from_json(show[name])) == repr(measure), name
        assert show[name] == json.loads(json.dumps(storage.to_json(measure))), name


def test_the_document_has_the_norms_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *FIXED, "--train", "5", "--clip", "1e-3", "--show", "clipping")["cells"]["rnn"]
    show = found["sequences"]["l0"]["show"]
    assert list(show) == ["clipping"]
    *effects, norms = storage.from_json(show["clipping"])
    assert [effect.kind for effect in effects] == ["norm", "value", "backward"]
    assert isinstance(norms, Norms)
    assert (norms.updates, norms.fired) == (5, found["training"]["clipped"]) == (5, 5)
    assert norms.suggested == norms.mean == pytest.approx(2 * norms.lowest)


# What docs/json.md says of the document

READINGS = {"dL_dh", "dL_dc", "gradient"}
NAMED = {"cells": "CELL", "sequences": "SEQUENCE", "terms": "PARAMETER", "parameters": "PARAMETER", "show": "NAME"}


def paths_in(x: Any, at: str = "") -> set[str]:
    """Where something stands in a document, as docs/json.md writes it."""
    name = at.rpartition(".")[2]
    if name in READINGS or at.endswith(".terms.PARAMETER"):
        assert list(x) == ["norm", "kind"]
        return {at}
    if name in ("NAME", "first_fault", "first_zero"):  # described elsewhere
        return {at}
    if isinstance(x, dict):
        inside = [(NAMED.get(name, key), value) for key, value in x.items()]
        found = {path for key, value in inside for path in paths_in(value, f"{at}.{key}" if at else key)}
        return found | ({at} if name == "training" else set())
    if isinstance(x, list) and x and isinstance(x[0], dict):
        return {path for one in x for path in paths_in(one, f"{at}[]")}
    return {at}


def test_the_document_is_described_field_by_field(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf8")
    section = text.partition("## What `minigrad bptt --json` prints\n")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `(\S+)` \| ", section, re.MULTILINE)
    assert len(described) == len(set(described))
    file = trained(here)
    capsys.readouterr()
    two = ["--cell", "rnn,lstm", "--format", "dot"]
    some = [document(capsys, *SMALL, *two, "--show", "gates"), document(capsys, "--model", file, "--format", "dot")]
    assert set(described) == set().union(*map(paths_in, some))
    assert f"| `version` | whole number | {some[0]['version']};" in section


# What --show draws

DRAWN = ("clipping_backward", "terms", "jacobian", "attribution", "gates", "truncation")


def test_each_measure_is_drawn_on_the_unrolled_graph(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps, level in (("10", "cell"), ("11", "strip")):
        argv = [*SMALL, "--steps", steps, "--cell", "lstm", "--show", "all", "--out", steps]
        assert main(["bptt", *argv]) == 0
        listed = capsys.readouterr().out.split("\nPictures:\n")[1].split()
        wanted = [f"lstm_{what}" for what in ("gate", *["strip"] * (steps == "11"), "clipping", *DRAWN)]
        assert listed == [f"{steps}/{name}.svg" for name in wanted]
        assert {p.stem for p in (here / steps).iterdir()} == set(wanted)
        says = {
            "terms": "how much each step adds to the gradient of", "jacobian": "what each step's Jacobian does",
            "attribution": "how much of one step's loss reaches", "gates": "how open the gates are",
            "clipping_backward": "clipping in backward, threshold C = ", "truncation": "truncated after every 3 steps",
        }  # fmt: skip
        for name, title in says.items():
            drawn = html.unescape((here / steps / f"lstm_{name}.svg").read_text("utf8"))
            assert title in drawn, name
            assert ("the gradient travels this way" in drawn) is (level == "strip" and name != "truncation"), name


def test_a_picture_has_the_measures_of_all_layers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained(here, layers=2)
    assert main(["bptt", "--model", file, "--steps", "12", "--format", "dot", "--show", "all"]) == 0
    names = {p.stem for p in (here / "pictures").iterdir()}
    own = {f"gru_l{k}_{name}" for k in range(2) for name in ("gate", "strip", "clipping", "clipping_backward")}
    assert names == {"gru_layers", *own, *(f"gru_{name}" for name in DRAWN[1:])}
    for name in DRAWN[1:]:
        drawn = (here / "pictures" / f"gru_{name}.dot").read_text("utf8")
        assert "l0" in drawn, name
        assert "l1" in drawn, name


def test_the_document_lists_the_pictures_of_measures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *FIXED, "--show", "truncation,gates")["cells"]["rnn"]
    written = [f"pictures/rnn_{what}.dot" for what in ("cell", "clipping", "truncation", "gates")]
    assert found["files"] == written
    assert {str(p.relative_to(here)) for p in (here / "pictures").iterdir()} == set(written)


def test_pictures_of_measures_are_named_after_their_model(here: Path) -> None:
    assert main(["bptt", *FIXED, "--hidden", "3,4", "--show", "terms"]) == 0
    assert {"rnn_h3_terms.dot", "rnn_h4_terms.dot"} < {p.name for p in (here / "pictures").iterdir()}


@pytest.mark.parametrize("extreme", [["--clip", "1e-320"], ["--clip", "1e300"], ["--text", "b.txt"], ["--steps", "2"]])
def test_extremes_have_finite_measures_too(
    extreme: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "b.txt").write_text("aaaaaaaa")
    show = document(capsys, *SMALL, "--format", "dot", "--show", "all", *extreme)["cells"]["lstm"]["sequences"]["l0"]
    assert tuple(show["show"]) == LENSES
    assert all(storage.from_json(x) for x in show["show"].values())
    assert main(["bptt", *SMALL, "--format", "dot", "--show", "all", *extreme]) == 0


# A trained model


def trained(here: Path, *argv: str, layers: int = 1, cell: str = "gru") -> str:
    """A file that minigrad train saved."""
    name = f"{cell}{layers}.minigrad"
    given = ["--text", "a.txt", "--hidden", "5", "--embedding", "3", "--cell", cell, "--layers", str(layers)]
    fixed = ["--steps", "5", "--batch", "2", "--updates", "3", "--sample", "0"]
    assert main(["train", *given, *fixed, *argv, "--save", str(here / name)]) == 0
    return name


@pytest.mark.parametrize("cell", list(CELLS))
@pytest.mark.parametrize("layers", [1, 2])
def test_a_trained_model_is_looked_at(
    cell: str, layers: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trained(here, layers=layers, cell=cell)
    capsys.readouterr()
    assert main(["bptt", "--model", file, "--steps", "6", "--format", "dot"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"{cell.upper()}, H=5, {layers} layer{'s' * (layers > 1)}, from '{file}'"
    assert "a.txt" in lines[1]
    assert not any(line.startswith("Training  ") for line in lines)  # there is none now
    for k in range(layers):
        assert f"{cell.upper()} l{k}  T=6 N=1 H=5" in out
    stems = [cell] if layers == 1 else [f"{cell}_l{k}" for k in range(layers)]
    names = {f"{stem}_{what}.dot" for stem in stems for what in ("gate", "clipping")}
    names |= {f"{cell}_layers.dot"} if layers > 1 else set()  # all of them in one picture
    assert {p.name for p in (here / "pictures").iterdir()} == names


def test_the_numbers_of_a_trained_model_are_those_of_its_weights(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trained(here, layers=2, cell="lstm")
    capsys.readouterr()
    found = document(capsys, "--model", file, "--steps", "6", "--format", "dot", "--loss", "all", "--clip", "0.01")
    own = {"model": file, "hidden": [5], "init": [None], "train": 0, "seed": None}
    assert found["settings"] | own == found["settings"]
    model = CharacterModel.restored(checkpoint.load(here / file))
    model.layer.kernel = "steps"
    ids = model.ids(TEXT[:7])[:, np.newaxis]
    record = minigrad.bptt.backward(model.loss(ids[:-1], ids[1:])[0])
    cell = found["cells"]["lstm"]
    assert cell["loss"] == record.loss
    assert cell["training"] is None
    assert list(cell["sequences"]) == ["l0", "l1"]
    for name in ("l0", "l1"):
        norms = [r.norm for r in record.sequence(name).readings("c")]
        assert [s["dL_dc"]["norm"] for s in steps_of(found, "lstm", name)] == norms
    assert cell["clipping"]["fired"] is True
    assert cell["clipping"]["norm_after"] == pytest.approx(0.01, rel=1e-5)


def test_dropout_is_off_when_a_model_is_looked_at(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained(here, "--dropout", "0.5", layers=2)
    capsys.readouterr()
    first, again = (document(capsys, "--model", file, "--steps", "6", "--format", "dot") for _ in range(2))
    assert first == again


def test_a_trained_model_reads_another_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained(here)
    (here / "b.txt").write_bytes("on the dog".encode("utf-16"))
    capsys.readouterr()
    argv = ["--model", file, "--format", "dot", "--text", "b.txt", "--encoding", "utf-16"]
    found = document(capsys, *argv)
    assert "".join(step["character"] for step in steps_of(found, "gru")) == "on the do"
    assert found["text"]["name"] == "b.txt"


def test_a_model_looks_at_its_own_text_from_another_folder(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trained(here)
    (here / "deeper").mkdir()
    monkeypatch.chdir(here / "deeper")
    capsys.readouterr()
    found = document(capsys, "--model", f"../{file}", "--format", "dot", "--steps", "6")
    assert "".join(step["character"] for step in steps_of(found, "gru")) == TEXT[:6]


def test_what_the_gradient_did_in_training_is_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained(here, "--norms-every", "1", layers=2)
    capsys.readouterr()
    assert main(["bptt", "--model", file, "--steps", "6", "--format", "dot"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    past = out[out.index("\nTraining of l0: ") : out.index("\nPictures:")]
    assert past.startswith("\nTraining of l0: 3 updates, loss ")
    assert "\nTraining of l1: 3 updates" in past
    assert past.count("3 updates of 3.") == 2
    assert max(map(len, past.splitlines())) <= 80


def test_without_norms_in_its_file_a_model_is_shown_all_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("never", "an older file", "spoiled", "no history"):
        file = trained(here, "--norms-every", "0" if name == "never" else "1")
        state = checkpoint.load(here / file)
        history = state["training"]["history"]
        if name == "an older file":
            del history["norms"], history["diagnoses"]
        elif name == "spoiled":
            history["norm_before"] = -history["norm_before"]
        elif name == "no history":
            del state["training"]["history"]
        checkpoint.save(here / "m", state)
        capsys.readouterr()
        assert main(["bptt", "--model", "m", "--steps", "6", "--format", "dot", "--show", "clipping"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "Training of" not in out
        assert ("Over training" in out) is (name in ("never", "an older file"))
        (here / file).unlink()


def test_how_often_clipping_fired_in_a_models_training_is_shown(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = trained(here, "--clip", "1e-3")
    capsys.readouterr()
    argv = ["--model", file, "--steps", "6", "--format", "dot", "--show", "clipping"]
    assert main(["bptt", *argv]) == 0
    assert "Over training: clipping fired at 3 of 3 updates" in " ".join(capsys.readouterr().out.split())
    *_, norms = storage.from_json(document(capsys, *argv)["cells"]["gru"]["sequences"]["l0"]["show"]["clipping"])
    history = checkpoint.load(here / file)["training"]["history"]
    assert norms == norms_over_training(history["norm_before"], history["norm_after"])


MODEL_BAD: dict[str, tuple[list[str], str, str]] = {
    "cell": (["--cell", "rnn"], "--model and --cell", "Leave --cell away"),
    "hidden": (["--hidden", "4"], "--model and --hidden", "Leave --hidden away"),
    "init": (["--init", "uniform"], "--model and --init", "Leave --init away"),
    "train": (["--train", "0"], "--model and --train", "Leave --train away"),
    "seed": (["--seed", "1"], "--model and --seed", "Leave --seed away"),
    "unknown character": (["--text", "other"], "'Q' is none of them", "Give a text with the characters"),
    "no such text": (["--text", "none"], "'none'", "Give the path"),
    "missing model": (["--model", "none"], "no such file", "Give a file that minigrad train saved"),
    "a text as model": (["--model", "a.txt"], "a.txt", "Give a file that minigrad train saved"),
    "an empty name": (["--model", ""], "''", "Give a file that minigrad train saved"),
    "a folder": (["--model", "."], "folder", "Give a file that minigrad train saved"),
    "cut short": (["--model", "cut"], "cut", "Give a file that minigrad train saved"),
    "too many steps": (["--steps", str(len(TEXT))], "the last step's target", "Give at most --steps"),
}


def test_what_does_not_fit_a_model_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = trained(here)
    (here / "other").write_text("the Quick")
    (here / "cut").write_bytes((here / file).read_bytes()[:-1])
    before = sorted(here.rglob("*"))
    for argv, found, remedy in MODEL_BAD.values():
        capfd.readouterr()
        assert main(["bptt", "--model", file, "--format", "dot", *argv]) == 2, argv
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), argv
        assert found in err
        assert remedy in err
        assert sorted(here.rglob("*")) == before
    (here / "a.txt").unlink()
    assert main(["bptt", "--model", file]) == 2
    err = capfd.readouterr().err
    assert "its text is gone from" in err
    assert "Give --text FILE" in err


# Bad input


BAD = {
    "no such file": (["--text", "none.txt"], "'none.txt'", "Give the path of a text file"),
    "empty file name": (["--text", ""], "''", "Give the path"),
    "folder as text": (["--text", "."], "folder", "Give the path"),
    "empty": (["--text", "empty"], "empty", "Give a file"),
    "binary": (["--text", "binary"], "0x89", "Give a text file"),
    "NUL": (["--text", "nul"], "NUL", "Give a text file"),
    "short": (["--text", "short"], "2 characters", "at least 3"),
    "unknown encoding": (["--encoding", "klingon", "--text", "a.txt"], "'klingon'", "Give one"),
    "undecodable": (["--encoding", "ascii", "--text", "latin"], "0xe9", "encoding"),
    "newline in a name": (["--text", "a\nb\x1b[31m"], "a\\nb\\x1b", "Give the path"),
    "steps beyond": (["--steps", str(len(TEXT))], str(len(TEXT)), f"at most --steps {len(TEXT) - 1}"),
    "steps 1": (["--steps", "1"], "'1'", "give a whole number from 2"),
    "steps negative": (["--steps", "-5"], "'-5'", "give a whole number from 2"),
    "steps no number": (["--steps", "many"], "'many'", "give a whole number"),
    "steps no whole number": (["--steps", "2.5"], "'2.5'", "give a whole number"),
    "steps nan": (["--steps", "nan"], "'nan'", "give a whole number"),
    "steps endless": (["--steps", "9" * 6000], "'9999", "give a whole number"),
    "hidden 0": (["--hidden", "0"], "'0'", "from 1 to 4096"),
    "hidden, a comma too many": (["--hidden", "4,"], "''", "from 1 to 4096"),
    "hidden, one of them": (["--hidden", "4,x,5"], "'x'", "from 1 to 4096"),
    "init": (["--init", "uniform,glorot"], "'glorot'", "choose from uniform, xavier_uniform,"),
    "cells": (["--cell", "rnn,gnu"], "'gnu'", "choose from rnn, lstm, gru"),
    "too many": (["--cell", "all", "--hidden", "1,2,3,4,5"], "3 × 5 × 1 models are 15, more than 12", "shorter lists"),
    "hidden 4097": (["--hidden", "4097"], "'4097'", "from 1 to 4096"),
    "train negative": (["--train", "-1"], "'-1'", "from 0"),
    "clip 0": (["--clip", "0"], "'0'", "positive, finite"),
    "clip negative": (["--clip", "-1"], "'-1'", "positive, finite"),
    "clip nan": (["--clip", "nan"], "'nan'", "positive, finite"),
    "clip inf": (["--clip", "inf"], "'inf'", "positive, finite"),
    "clip too large": (["--clip", "1e999"], "'1e999'", "positive, finite"),
    "clip no number": (["--clip", "hard"], "'hard'", "positive, finite"),
    "seed negative": (["--seed", "-1"], "'-1'", "from 0"),
    "cell": (["--cell", "lstmm"], "'lstmm'", "choose from"),
    "level": (["--level", "atom"], "'atom'", "choose from"),
    "format": (["--format", "gif"], "'gif'", "choose from"),
    "engine": (["--engine", "neato"], "'neato'", "choose from"),
    "loss": (["--loss", "first"], "'first'", "choose from"),
    "show": (["--show", "terms,[red]\x1b"], "'[red]\\x1b'", "choose from terms, jacobian, attribution,"),
    "show nothing": (["--show", ""], "''", "truncation, or all"),
    "show, a comma too many": (["--show", "gates,"], "''", "truncation, or all"),
    "show in too little memory": (["--text", "long", "--steps", "40000", "--hidden", "32", "--cell", "lstm", "--show",
                                   "attribution"], "GB", "smaller --steps"),
    "option": (["--colour"], "--colour", "--help"),
    "abbreviation": (["--step", "5"], "--step", "--help"),
    "no value": (["--steps"], "--steps", "--help"),
    "a word too many": (["more"], "more", "--help"),
    "pdf": (["--format", "pdf", "--engine", "graphviz-pure"], "pdf", "Give --engine dot"),
    "open sources": (["--format", "dot", "--open"], "--open", "Give --format"),
    "out is a file": (["--out", "a.txt"], "'a.txt' is not a folder", "Give --out"),
    "out in a file": (["--out", "a.txt/b/c"], "'a.txt' is not a folder", "Give --out"),
    "out dangles": (["--out", "dangling"], "not a folder", "Give --out"),
    "out empty": (["--out", ""], "''", "Give --out"),
    "out too long": (["--out", "x" * 5000], "too long", "Give --out"),
    "out NUL": (["--out", "a\0b"], "null", "Give --out"),
    "out unwritable": (["--out", "/proc/self/pictures"], "'/proc/self/pictures'", "Give --out"),
    "picture is a folder": (["--out", "taken"], "rnn_cell.svg", "Give --out"),
    "picture of a measure is a folder": (["--out", "taken", "--level", "op", "--show", "gates"], "rnn_gates.svg",
                                         "Give --out"),
    "memory": (["--text", "long", "--steps", "400000", "--hidden", "4096"], "GB", "smaller --steps"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents = {"empty": b"", "binary": b"\x89PNG\r\n\x1a\n", "nul": b"a\0b\0c\0", "short": b"ab", "latin": b"caf\xe9"}
    contents["long"] = b"ab" * 250_000 if "memory" in case else b"abc"
    for name, content in contents.items():
        (here / name).write_bytes(content)
    (here / "dangling").symlink_to("nowhere")
    (here / "taken" / "rnn_cell.svg").mkdir(parents=True)
    (here / "taken" / "rnn_gates.svg").mkdir()
    before = sorted(here.rglob("*"))
    argv, found, remedy = BAD[case]
    assert main(["bptt", "--text", "a.txt", "--cell", "rnn", "--level", "cell", *argv]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("minigrad: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert found in err
    assert remedy in err
    assert sorted(here.rglob("*")) == before


def test_an_unknown_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["btpp"]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("minigrad: ")
    assert "bptt" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "locked").mkdir(mode=0o500)
    assert main(["bptt", *FIXED, "--out", "locked/pictures"]) == 2
    assert "Permission denied" in capfd.readouterr().err


def test_full_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bptt, "trained", full)
    assert main(["bptt", *FIXED]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "smaller --steps or --hidden" in err


# Engines that fail


def test_without_an_engine_the_sources_are_written(
    monkeypatch: pytest.MonkeyPatch, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def missing(self: Picture, kind: str, engine: str | None) -> bytes:
        raise DrawError(f"{engine} is not installed.\n  Install it: pip install graphviz-pure.")

    monkeypatch.setattr(Picture, "_draw", missing)
    for extra in ([], ["--json"], ["--open"]):
        assert main(["bptt", *FIXED, "--format", "svg", *extra]) == 2
        out, err = capfd.readouterr()
        assert err.count("\n") == 1
        assert "pip install graphviz-pure" in err
        assert "pictures/rnn_cell.dot" in out
        if extra == ["--json"]:
            assert json.loads(out)["cells"]["rnn"]["files"] == ["pictures/rnn_cell.dot", "pictures/rnn_clipping.dot"]
        else:
            assert "RNN l0" in out
        assert {p.name for p in (here / "pictures").iterdir()} == {"rnn_cell.dot", "rnn_clipping.dot"}


def test_pdf_asks_for_graphviz(monkeypatch: pytest.MonkeyPatch, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("minigrad.views.picture.shutil.which", lambda *_, **__: None)
    assert main(["bptt", *FIXED, "--format", "pdf"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "Install Graphviz" in err
    assert (here / "pictures" / "rnn_cell.dot").exists()


def test_a_disk_that_fills_up_is_one_line(
    monkeypatch: pytest.MonkeyPatch, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "pictures/rnn_cell.dot")

    monkeypatch.setattr("minigrad.views.picture.os.replace", full)
    assert main(["bptt", *FIXED]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "No space left" in err
    assert list((here / "pictures").iterdir()) == []


# As a process


def test_as_a_process_and_over_a_pipe(here: Path) -> None:
    started = process("bptt", *FIXED, cwd=here)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    assert out.startswith("RNN, H=4, seed 0\nText      'a.txt'")
    assert "\x1b" not in out


def test_an_ascii_terminal_gets_all_of_it(here: Path) -> None:
    (here / "글.txt").write_text("한국어 글자를 읽는다", encoding="utf-8")
    started = process("bptt", *FIXED, "--text", "글.txt", cwd=here, env={"PYTHONIOENCODING": "ascii"})
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    assert "Pictures:" in out
    assert out.isascii()


def test_a_closed_pipe_ends_quietly(here: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    started = process("bptt", *FIXED, cwd=here, stdout=writing)
    os.close(writing)
    assert started.stderr is not None
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait(timeout=60) == 141


def test_a_pipe_that_closes_during_a_report_is_mains_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        Output().print("a line")


def test_control_c_stops_in_one_line(here: Path) -> None:
    started = process("bptt", *FIXED, "--train", "1000000", cwd=here)
    assert started.stdout is not None
    begin = time.monotonic()
    assert started.stdout.readline().startswith("RNN, H=4")
    assert time.monotonic() - begin < 10  # a loaded machine; about 0.7 s on a free one
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert re.fullmatch(r"minigrad: stopped by Ctrl-C[^\n]*\n", err)
    assert not (here / "pictures").exists()
