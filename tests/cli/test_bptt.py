from __future__ import annotations

import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad
from minigrad.__main__ import main
from minigrad.cli import bptt
from minigrad.errors import DrawError
from minigrad.views.picture import Picture

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


def process(*argv: str, **options: Any) -> subprocess.Popen[str]:
    path = str(Path(minigrad.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "minigrad", *argv], env=environment, text=True, encoding="utf-8",
        stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """What --json prints, read strictly."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    assert main(["bptt", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=refuse)


# Without a command


def test_alone_it_prints_help_and_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "bptt" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"minigrad {minigrad.__version__}\n"
    assert main(["bptt", "--help"]) == 0
    out = capsys.readouterr().out
    options = "text encoding cell steps hidden train clip loss level all format engine out seed json open"
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


@pytest.mark.parametrize("name", list(bptt.CELLS))
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


def test_the_longest_sequence_is_one_less_than_the_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_text("abcabcab")
    assert len(document(capsys, *FIXED, "--text", "b.txt", "--steps", "7")["cells"]["rnn"]["steps"]) == 7


def test_another_encoding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_bytes("한국어 글자".encode("cp949"))
    found = document(capsys, *FIXED, "--text", "b.txt", "--encoding", "cp949", "--steps", "4")
    assert [step["character"] for step in found["cells"]["rnn"]["steps"]] == list("한국어 ")


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
    assert (found["format"], found["version"], found["minigrad"]) == ("minigrad bptt", 1, minigrad.__version__)
    assert found["text"] == {"name": "a.txt", "characters": len(TEXT), "vocabulary": len(set(TEXT))}
    assert found["settings"] == {
        "steps": 12, "hidden": 4, "train": 2, "clip": 1.0, "loss": "last", "level": "gate", "all": False, "seed": 0,
    }  # fmt: skip
    assert list(found["cells"]) == ["rnn", "lstm", "gru"]
    for name, cell in found["cells"].items():
        keys = {"training", "loss", "verdict", "rule", "steps", "parameters", "clipping", "files"}
        assert set(cell) == keys
        assert set(cell["training"]) == {"first_loss", "last_loss", "even_guess", "clipped"}
        assert [step["t"] for step in cell["steps"]] == list(range(1, 13))
        assert "".join(step["character"] for step in cell["steps"]) == TEXT[:12]
        assert [step["label"] for step in cell["steps"]][3] == "space"
        assert [step["target"] for step in cell["steps"]][2] == "space"
        for step in cell["steps"]:
            assert set(step["dL_dh"]) == {"norm", "kind"}
            assert ("dL_dc" in step) is (name == "lstm")
            assert f"{name}.weight_hh_l0" in step["terms"]
        assert [step["loss"] for step in cell["steps"][:-1]] == [None] * 11
        assert cell["steps"][-1]["loss"] == pytest.approx(cell["loss"])
        assert f"{name}.weight_ih_l0" in cell["parameters"]
        gradients = [p["gradient"]["norm"] for p in cell["parameters"].values()]
        assert cell["clipping"]["norm_before"] == pytest.approx(math.hypot(*gradients), rel=1e-6)
        assert cell["files"] == [f"pictures/{name}_{what}.dot" for what in ("gate", "strip", "clipping")]


def test_the_numbers_are_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    """The same model by hand: its norms are those of the document."""
    found = document(capsys, *FIXED, "--train", "0", "--loss", "all")["cells"]["rnn"]
    characters = sorted(set(TEXT))
    ids = np.array([characters.index(c) for c in TEXT[:7]])[:, np.newaxis]
    model = bptt.CharacterModel("rnn", len(characters), 4, rng=np.random.default_rng(0))
    record = minigrad.bptt.backward(model.loss(ids))
    assert found["loss"] == record.loss
    assert [s["dL_dh"]["norm"] for s in found["steps"]] == [r.norm for r in record.sequence().readings("h")]
    assert sum(s["loss"] for s in found["steps"]) == pytest.approx(found["loss"], rel=1e-6)
    for name, p in record.parameters.items():
        assert found["parameters"][name]["gradient"] == {"norm": p.norm, "kind": "value"}
    assert found["clipping"]["fired"] is (found["clipping"]["norm_before"] > 1)


def test_the_loss_is_of_the_last_step_or_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    last = document(capsys, *FIXED)["cells"]["rnn"]["steps"]
    every = document(capsys, *FIXED, "--loss", "all")["cells"]["rnn"]["steps"]
    assert [s["loss"] is None for s in last] == [True] * 5 + [False]
    assert not any(s["loss"] is None for s in every)
    assert last[0]["dL_dh"]["norm"] < every[0]["dL_dh"]["norm"]


def test_the_same_seed_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (document(capsys, *SMALL, "--format", "dot", "--seed", s) for s in ("3", "3", "4"))
    assert first == again
    assert first["cells"]["gru"]["loss"] != other["cells"]["gru"]["loss"]


def test_a_gradient_of_nothing_is_finite_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_text("aaaaaaaa")
    cell = document(capsys, *FIXED, "--text", "b.txt")["cells"]["rnn"]
    assert {step["dL_dh"]["kind"] for step in cell["steps"]} == {"zero"}
    assert cell["clipping"]["fired"] is False


@pytest.mark.parametrize("clip", ["1e-320", "1e300"])
def test_extreme_thresholds(clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    cell = document(capsys, *FIXED, "--clip", clip)["cells"]["rnn"]
    assert cell["clipping"]["fired"] is (clip == "1e-320")


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
    "memory": (["--text", "long", "--steps", "400000", "--hidden", "4096"], "GB", "smaller --steps"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contents = {"empty": b"", "binary": b"\x89PNG\r\n\x1a\n", "nul": b"a\0b\0c\0", "short": b"ab", "latin": b"caf\xe9"}
    contents["long"] = b"ab" * 250_000 if case == "memory" else b"abc"
    for name, content in contents.items():
        (here / name).write_bytes(content)
    (here / "dangling").symlink_to("nowhere")
    (here / "taken" / "rnn_cell.svg").mkdir(parents=True)
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

    monkeypatch.setattr(bptt, "_look", full)
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
        bptt._print("a line")


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
