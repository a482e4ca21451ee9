"""minigrad train as its users meet it: what it says, keeps, refuses; how it stops and goes on."""

from __future__ import annotations

import errno
import itertools
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad
from minigrad import checkpoint
from minigrad.__main__ import main
from minigrad.cli import train
from tests.cli.commands import process
from tests.test_train import JUNK, places, replaced

TEXT = "the cat sat on the mat; the dog did not.\n" * 8
SMALL = ["--text", "a.txt", "--hidden", "4", "--embedding", "3", "--steps", "5", "--batch", "2", "--sample", "12"]
FULL = [*SMALL, "--layers", "2", "--dropout", "0.2", "--schedule", "cosine", "--warmup", "5", "--clip", "0.3"]
FEW = [*SMALL, "--updates", "4", "--every", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a text in it; what is saved here need not survive a power cut."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda number: None)
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


def failed(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line of a command that ends with status 2."""
    capfd.readouterr()
    assert main(list(argv)) == 2, argv
    err = capfd.readouterr().err
    assert err.startswith("minigrad: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    return err


def saved(name: str = "m", *argv: str) -> dict[str, Any]:
    """A small run, and what its file holds."""
    assert main(["train", *FEW, *argv, "--save", name]) == 0
    return checkpoint.load(name)


# What it shows


def test_piped_it_prints_plain_lines_of_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *FULL, "--updates", "20", "--save", "m"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("LSTM, H=4, 2 layers: ")
    assert lines[1] == f"Text      'a.txt': {len(TEXT)} characters, 16 different, last 32 held out"
    assert lines[2] == "Chunks    T=5 characters from each of N=2 streams; 29 read the text once"
    assert lines[3] == "Updates   20: adam, learning rate 0.002 (cosine), gradient clipped at norm 0.3"
    assert "To beat   Models that only count reach" in out
    assert "uniform 2.773" in out
    head = next(k for k, line in enumerate(lines) if line.split()[:2] == ["update", "training"])
    reports = lines[head + 1 : head + 21]
    assert [line.split()[0] for line in reports if "/" in line.split()[0]][-1] == "20/20"
    assert len([line for line in reports if re.search(r"\d+/20 ", line)]) == 20
    assert all(re.search(r"\d+%  +\d+%$", line) for line in reports)
    assert "l0 t=1 " in out
    assert "l1 t=1 " in out
    assert lines[-3:] == ["Saved in m. Next:", "  minigrad sample m", "  minigrad bptt --model m"]
    assert max(map(len, lines)) <= 80
    assert out.replace("\n", "").isprintable()


def test_it_learns_and_says_what_it_beats(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--text", "a.txt", "--hidden", "24", "--steps", "10", "--batch", "4", "--lr", "0.02", "--updates", "120"]
    assert main(["train", *argv, "--every", "40", "--save", "m"]) == 0
    out = capsys.readouterr().out
    found = checkpoint.load("m")["training"]["history"]
    (first, _), *_, (last, loss) = found["evaluations"]
    assert (first, last) == (40, 120)
    assert loss < 1.5 < found["loss"][0]
    assert f"{loss:.3f}" in out
    assert re.search(r"120/120 .*(unigram|[2-5]-gram), not [2-5]-gram|120/120 .*all of them", out)


def test_on_a_terminal_it_redraws_in_place(here: Path) -> None:
    """A terminal of 24 lines and 80 columns: nothing raises, and the last state stays on it."""
    control, terminal = pty.openpty()
    environment = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    started = process("train", *FULL, "--updates", "40", "--every", "10", stdout=terminal, env=environment, cwd=here)
    os.close(terminal)
    shown = b""
    while True:
        ready, _, _ = select.select([control], [], [], 120)
        assert ready
        try:
            part = os.read(control, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(control)
    assert started.stderr is not None
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait(timeout=60) == 0
    text = shown.decode()
    assert "\x1b[" in text
    last = text[text.rindex("update 40 of 40") :]
    for part_of_it in (
        "this model", "unigram", "beats", "‖dL/dh_t‖", "so far", "arrives", "gates", "saturated f", "of dL/dW_hh",
        "diagnosis", "l1 ", "sample", "40/40", "Saved in model.minigrad",
    ):  # fmt: skip
        assert part_of_it in last
    assert "To beat" not in text  # the bars say it


@pytest.mark.parametrize("environment", [{"FORCE_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_pipe_is_no_terminal_whatever_the_environment_says(here: Path, environment: dict[str, str]) -> None:
    started = process("train", *FEW, "--save", "m", env=environment, cwd=here)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    assert "\x1b[?25l" not in out  # no hidden cursor
    assert "2/4 " in out


def test_an_ascii_terminal_gets_all_of_it(here: Path) -> None:
    (here / "글.txt").write_text("한국어 글자를 읽는다. " * 20, encoding="utf-8")
    argv = [*FEW, "--text", "글.txt", "--save", "m"]
    started = process("train", *argv, cwd=here, env={"PYTHONIOENCODING": "ascii"})
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    assert out.isascii()
    assert "Saved in m" in out


@pytest.mark.parametrize(
    "content",
    [
        "a" * 60,  # V=1: nothing to learn
        "ab" * 30,
        "[bold]x[/] [red]%s {y} \\ " * 5,
        "\x1b[31mred\x07\x9b\u202e \x00".replace("\x00", "") * 8,
        "한국어 글자를 읽는다. 全角！" * 5,
        "🙂🙃👩‍👩‍👧👍🏽 e\u0301\u2028\r\n\t" * 5,
    ],
)
def test_texts_of_every_kind(content: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "b.txt").write_bytes(content.encode())
    assert main(["train", *FEW, "--text", "b.txt", "--save", "m", "--sample", "60"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(c in "\n\t" or c.isprintable() for c in out)
    assert main(["sample", "m", "--length", "60", "--seed", "1"]) == 0
    assert all(c in "\n\t" or c.isprintable() for c in capsys.readouterr().out)


def test_a_name_with_blanks_is_quoted_in_what_to_type_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *FEW, "--save", "my model\x1b[31m"]) == 0
    out = capsys.readouterr().out
    assert "  minigrad sample 'my model\\x1b[31m'\n" in out
    assert "\x1b" not in out


def test_without_held_out_text_there_is_nothing_to_beat(capsys: pytest.CaptureFixture[str]) -> None:
    found = saved("m", "--held-out", "0")
    out = capsys.readouterr().out
    assert "To beat" not in out
    assert "held-out" not in out
    assert "none held out" in out
    assert found["training"]["history"]["evaluations"] == []


def test_the_default_text_and_the_default_file(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main(["train", "--hidden", "2", "--updates", "1", "--batch", "1", "--steps", "2", "--held-out", "0.01"]) == 0
    assert "'pydoc_data.topics'" in capsys.readouterr().out
    assert checkpoint.load("model.minigrad")["text"]["path"] is None
    assert main(["train", "--resume", "model.minigrad", "--updates", "2"]) == 0


# Every option has an effect


def test_the_settings_are_kept_and_used() -> None:
    argv = ["--text", "a.txt", "--cell", "gru", "--layers", "2", "--hidden", "5", "--embedding", "0"]
    argv += ["--dropout", "0.1"]
    argv += ["--steps", "4", "--batch", "3", "--updates", "6", "--clip-value", "0.01", "--optimizer", "rmsprop"]
    argv += ["--lr", "0.005", "--schedule", "cosine", "--warmup", "2", "--held-out", "0.2", "--seed", "9"]
    assert main(["train", *argv, "--every", "3", "--sample", "5", "--save", "m", "--kernel", "steps"]) == 0
    found = checkpoint.load("m")
    assert found["settings"] == {
        "cell": "gru", "layers": 2, "hidden": 5, "embedding": 0, "dropout": 0.1, "scale": None, "steps": 4, "batch": 3,
        "clip": None, "clip_value": 0.01, "optimizer": "rmsprop", "lr": 0.005, "schedule": "cosine", "warmup": 2,
        "held_out": 0.2, "reduction": "mean", "kernel": "steps", "seed": 9, "updates": 6, "schedule_updates": 6,
        "every": 3, "norms_every": 1,
    }  # fmt: skip
    training = found["training"]
    assert training["weights"]["gru.weight_hh_l1"].shape == (15, 5)
    assert training["weights"]["gru.weight_ih_l0"].shape == (15, 16)
    assert training["optimizer"]["kind"] == "RMSprop"
    assert [x.shape for x in training["state"]] == [(3, 5), (3, 5)] or training["state"].shape == (2, 3, 5)
    assert training["stream"]["position"] == 24
    rates = training["history"]["lr"]
    assert rates[0] == 0.0025
    assert rates[1] == 0.005
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert [update for update, _ in training["history"]["evaluations"]] == [3, 6]
    assert [(x["update"], x["sequence"]) for x in training["history"]["diagnoses"]] == [
        (3, "l0"), (3, "l1"), (6, "l0"), (6, "l1"),
    ]  # fmt: skip
    assert training["history"]["norms"]["states"]["l1"]["h"]["norms"].shape == (24,)
    assert training["history"]["fired"].any()
    assert found["text"]["path"] == os.path.abspath("a.txt")


@pytest.mark.parametrize(
    "option",
    [
        ["--cell", "rnn"], ["--layers", "2"], ["--hidden", "5"], ["--embedding", "0"], ["--steps", "4"],
        ["--batch", "3"], ["--updates", "5"], ["--clip", "1e-6"], ["--clip-value", "1e-6"], ["--optimizer", "sgd"],
        ["--lr", "0.5"], ["--schedule", "cosine"], ["--warmup", "3"], ["--held-out", "0.3"], ["--seed", "4"],
        ["--text", "b.txt"], ["--recipe", "min-char-rnn"], ["--every", "1"], ["--encoding", "utf-16"],
        ["--norms-every", "3"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_option_changes_what_is_saved(option: list[str], here: Path) -> None:
    (here / "b.txt").write_text(TEXT[::-1])
    if option[0] == "--encoding":
        (here / "a.txt").write_bytes(TEXT.encode("utf-16"))
    else:
        saved("plain")
    saved("other", *option)
    a, b = (checkpoint.load(name)["training"] if os.path.exists(name) else None for name in ("plain", "other"))
    if a is not None:
        if option[0] == "--every":
            assert len(b["history"]["evaluations"]) > len(a["history"]["evaluations"])
        elif option[0] == "--norms-every":
            assert len(b["history"]["norms"]["updates"]) < len(a["history"]["norms"]["updates"])
        else:
            same = a["weights"].keys() == b["weights"].keys() and all(
                np.array_equal(a["weights"][name], b["weights"][name]) for name in a["weights"]
            )
            assert not same


def test_the_recipe_is_min_char_rnns() -> None:
    found = saved("m", "--recipe", "min-char-rnn", "--hidden", "7")["settings"]
    wanted = {"cell": "rnn", "hidden": 7, "scale": 0.01, "clip": None, "clip_value": 5.0, "optimizer": "adagrad"}
    assert found == {**found, **wanted, "lr": 0.1, "reduction": "sum"}
    assert saved("n", "--recipe", "min-char-rnn", "--clip", "2")["settings"]["clip_value"] is None


@pytest.mark.parametrize("length", [0, 7])
def test_the_sample_has_the_length_asked_for(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    saved("m", "--sample", str(length))
    out = capsys.readouterr().out
    if length:
        assert len(out.partition("Sample:\n")[2].partition("\n\nSaved in")[0]) == length
    else:
        assert "Sample:" not in out


BAD = {
    "no such text": (["--text", "none"], "'none'", "Give the path"),
    "empty text name": (["--text", ""], "''", "Give the path"),
    "empty": (["--text", "empty"], "empty", "Give a file"),
    "too short to hold out": (["--text", "short"], "--held-out 0.1", "Give a longer text"),
    "held out too little": (["--held-out", "0.001"], "fewer than 2", "--held-out 0"),
    "too short for chunks": (["--steps", "400"], "T=400", "Give at least 802"),
    "too many streams": (["--batch", "200"], "N=200", "smaller N"),
    "cell": (["--cell", "elman"], "'elman'", "choose from"),
    "recipe": (["--recipe", "x"], "'x'", "choose from"),
    "layers 0": (["--layers", "0"], "'0'", "from 1 to 16"),
    "layers 17": (["--layers", "17"], "'17'", "from 1 to 16"),
    "hidden": (["--hidden", "4097"], "'4097'", "from 1 to 4096"),
    "embedding": (["--embedding", "-1"], "'-1'", "from 0 to 4096"),
    "dropout 1": (["--dropout", "1"], "'1'", "from 0 to below 1"),
    "dropout nan": (["--dropout", "nan"], "'nan'", "from 0 to below 1"),
    "dropout in one layer": (["--dropout", "0.5"], "between layers", "--layers 2"),
    "steps": (["--steps", "0"], "'0'", "from 1"),
    "steps endless": (["--steps", "9" * 400], "GB of memory", "Give smaller ones"),
    "batch": (["--batch", "1.5"], "'1.5'", "from 1"),
    "updates": (["--updates", "0"], "'0'", "from 1"),
    "clip": (["--clip", "0"], "'0'", "positive, finite"),
    "both clips": (["--clip", "1", "--clip-value", "1"], "both given", "Give one"),
    "optimizer": (["--optimizer", "adamw"], "'adamw'", "choose from"),
    "lr": (["--lr", "-1"], "'-1'", "positive, finite"),
    "schedule": (["--schedule", "linear"], "'linear'", "choose from"),
    "warmup": (["--schedule", "cosine", "--warmup", "4"], "--warmup 4", "Give fewer"),
    "held out all": (["--held-out", "0.9"], "'0.9'", "below 0.9"),
    "seed": (["--seed", "-1"], "'-1'", "from 0"),
    "seed endless": (["--seed", "9" * 400], "header cannot hold", "int"),
    "every": (["--every", "0"], "'0'", "from 1"),
    "norms every": (["--norms-every", "-1"], "'-1'", "from 0"),
    "sample": (["--sample", "-1"], "'-1'", "from 0"),
    "save empty": (["--save", ""], "--save", "Give a file"),
    "save folder": (["--save", "."], "--save .", "already"),
    "save in no folder": (["--save", "no/such/m"], "No such file", "Give a file in a folder"),
    "save in a file": (["--save", "a.txt/m"], "--save", "Give a file in a folder"),
    "save NUL": (["--save", "a\0b"], "--save", "Give a file"),
    "save too long": (["--save", "x" * 300], "too long", "Give a file"),
    "save existing": (["--save", "a.txt"], "--save a.txt", "--resume FILE"),
    "save dangling": (["--save", "dangling"], "--save dangling", "--resume FILE"),
    "memory": (["--hidden", "4096", "--layers", "16", "--steps", "60"], "GB of memory", "Give smaller ones"),
    "resume nothing": (["--resume", ""], "''", "Give a file that minigrad train saved"),
    "abbreviation": (["--update", "5"], "--update", "--help"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "empty").write_bytes(b"")
    (here / "short").write_bytes(b"abcdefg")
    (here / "dangling").symlink_to("nowhere")
    argv, found, remedy = BAD[case]
    before = {path: path.lstat().st_mtime_ns for path in here.rglob("*")}
    resumed = argv[0] == "--resume"
    err = failed(capfd, "train", *([] if resumed else FEW), *argv)
    assert found in err
    assert remedy in err
    assert {path: path.lstat().st_mtime_ns for path in here.rglob("*")} == before


def test_a_file_is_never_replaced_by_another_run(capfd: pytest.CaptureFixture[str]) -> None:
    saved("m")
    saved("n", "--seed", "1")
    before = Path("n").read_bytes()
    assert "already" in failed(capfd, "train", *FEW, "--save", "n")
    assert "already" in failed(capfd, "train", "--resume", "m", "--updates", "8", "--save", "n")
    assert Path("n").read_bytes() == before
    assert main(["train", "--resume", "m", "--updates", "8", "--save", "o"]) == 0
    assert len(checkpoint.load("m")["training"]["history"]["loss"]) == 4
    assert main(["train", "--resume", "m", "--updates", "8", "--save", "./m"]) == 0
    assert Path("m").read_bytes() == Path("o").read_bytes()


# The norms of the gradient


def updates_of(name: str) -> list[int]:
    return list(checkpoint.load(name)["training"]["history"]["norms"]["updates"])


@pytest.mark.parametrize(("given", "updates"), [([], [1, 2, 3, 4]), (["3"], [1, 4]), (["0"], []), (["9"], [1])])
def test_norms_are_kept_as_often_as_asked_for(
    given: list[str], updates: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    saved("m", *(["--norms-every", *given] if given else []))
    out = capsys.readouterr().out
    assert updates_of("m") == updates
    assert ("‖dL/dh_t‖ through training; a line is the updates" in out) is bool(updates)
    assert "What arrives of the last step's loss; a line is the updates from its number on:\n" in out


@pytest.mark.slow
def test_a_long_run_keeps_norms_a_thousand_times() -> None:
    saved("m", "--updates", "4000", "--every", "4000", "--hidden", "1", "--steps", "1", "--held-out", "0")
    assert checkpoint.load("m")["settings"]["norms_every"] == 4
    assert updates_of("m") == list(range(1, 4001, 4))


def test_a_run_of_before_there_were_norms_goes_on_without_them() -> None:
    state = saved("m", "--norms-every", "0")
    del state["settings"]["norms_every"], state["training"]["history"]["norms"]
    del state["training"]["history"]["diagnoses"]
    os.remove("m")
    checkpoint.save("m", state)
    assert main(["train", "--resume", "m", "--updates", "6"]) == 0
    assert checkpoint.load("m")["settings"]["norms_every"] == 0
    assert updates_of("m") == []
    assert main(["train", "--resume", "m", "--updates", "8", "--norms-every", "1"]) == 0  # from now on
    assert updates_of("m") == [7, 8]
    assert main(["sample", "m", "--length", "2"]) == 0


def test_a_resumed_run_keeps_norms_as_often_as_before() -> None:
    saved("m", "--norms-every", "3")
    assert main(["train", "--resume", "m", "--updates", "8"]) == 0
    assert updates_of("m") == [1, 4, 7]


# What is not finite


@pytest.mark.parametrize(
    "option",
    [["--lr", "1e30"], ["--lr", "1e38", "--clip", "1e30"], ["--optimizer", "sgd", "--lr", "1e38"]],
    ids=" ".join,
)
@pytest.mark.parametrize("kernel", ["fused", pytest.param("steps", marks=pytest.mark.slow)])
def test_a_run_that_explodes_stops_in_one_line(option: list[str], kernel: str, here: Path) -> None:
    started = process("train", *FEW, "--every", "1", "--kernel", kernel, *option, "--save", "m", cwd=here)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 2
    assert re.fullmatch(r"minigrad: update \d: [^\n]*finite[^\n]* m still has update \d\.\n", err)  # and no warning
    kept = checkpoint.load(here / "m")
    assert all(np.isfinite(w).all() for w in kept["training"]["weights"].values())
    at = re.search(r"m still has update (\d)", err)
    assert at is not None
    assert len(kept["training"]["history"]["loss"]) == int(at[1])


def test_the_message_names_op_scope_and_step(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    err = failed(capfd, "train", *FEW, "--lr", "1e30", "--optimizer", "sgd", "--kernel", "steps", "--save", "m")
    assert re.search(r"the loss is not finite; the first value .* is that of \w+ at lstm / t=\d+ / ", err)


# Going on


def run_to_the_end(name: str, *argv: str) -> bytes:
    assert main(["train", *argv, "--save", name]) == 0
    return Path(name).read_bytes()


def test_a_stopped_run_goes_on_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every single update, in one process."""
    whole = run_to_the_end("whole", *FULL, "--updates", "12", "--every", "3")
    original = train._Session.after

    def stopping(session: Any, trainer: Any, step: Any) -> None:
        original(session, trainer, step)
        session.caught(signal.SIGINT)

    monkeypatch.setattr(train._Session, "after", stopping)
    argv = [*FULL, "--updates", "12", "--every", "3", "--save", "part"]
    for update in range(1, 13):
        assert main(["train", *argv]) == 130
        assert len(checkpoint.load("part")["training"]["history"]["loss"]) == update
        argv = ["--resume", "part"]
    assert Path("part").read_bytes() == whole


def test_more_updates_can_be_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    whole = run_to_the_end("whole", *SMALL, "--updates", "8", "--every", "2")
    run_to_the_end("part", *FEW)
    err = failed(capfd, "train", "--resume", "part")
    assert "it has had 4 updates" in err
    assert "Give --updates 8" in err
    assert main(["train", "--resume", "part", "--updates", "8"]) == 0
    assert "Resumed   after update 4" in capfd.readouterr().out
    a, b = checkpoint.load("whole"), checkpoint.load("part")
    assert whole
    assert a["training"]["weights"].keys() == b["training"]["weights"].keys()
    assert all(np.array_equal(w, b["training"]["weights"][name]) for name, w in a["training"]["weights"].items())


@pytest.mark.parametrize(
    "option",
    [["--hidden", "5"], ["--seed", "1"], ["--clip", "1"], ["--recipe", "min-char-rnn"], ["--held-out", "0.2"],
     ["--kernel", "steps"], ["--lr", "0.1"]],
    ids=" ".join,
)  # fmt: skip
def test_a_resumed_run_has_its_own_settings(option: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    saved()
    err = failed(capfd, "train", "--resume", "m", "--updates", "8", *option)
    assert f"--resume and {option[0]}" in err
    assert f"Leave {option[0]} away" in err


def test_a_run_resumes_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved()
    (here / "deeper").mkdir()
    (here / "deeper" / "a.txt").write_text("another text of this name")
    monkeypatch.chdir(here / "deeper")
    assert main(["train", "--resume", "../m", "--updates", "8"]) == 0
    assert len(checkpoint.load("../m")["training"]["history"]["loss"]) == 8


def test_a_text_that_moved_is_given_anew(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "a.txt").write_bytes(TEXT.encode("utf-16"))
    saved("m", "--encoding", "utf-16")
    (here / "a.txt").rename(here / "b.txt")
    err = failed(capfd, "train", "--resume", "m", "--updates", "8")
    assert "its text is gone from" in err
    assert "Give --text FILE" in err
    assert main(["train", "--resume", "m", "--updates", "8", "--text", "b.txt"]) == 0  # its encoding is known
    assert checkpoint.load("m")["text"]["path"] == str(here / "b.txt")


def test_a_text_that_changed_is_refused(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved()
    before = Path("m").read_bytes()
    (here / "a.txt").write_text(TEXT.replace("dog", "god"))  # the same characters, as often
    err = failed(capfd, "train", "--resume", "m", "--updates", "8")
    assert "this is not the text that the run started with, or it has changed" in err
    assert Path("m").read_bytes() == before


# Signals and kills


def until(started: subprocess.Popen[str], update: int) -> None:
    """Read its lines up to the report of this update, or its end."""
    assert started.stdout is not None
    for line in started.stdout:
        found = re.match(r" *(\d+)/", line)
        if found and int(found[1]) >= update:
            return


def ended(started: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = started.communicate(timeout=120)
    return out, err


LONG = [*FULL, "--updates", "100000", "--every", "1"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_update_saves_and_says_how_to_go_on(
    number: signal.Signals, status: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = process("train", *LONG, "--save", "m", cwd=here)
    until(started, 3)
    started.send_signal(number)
    out, err = ended(started)
    assert (started.returncode, err) == (status, "")
    told = re.search(r"Stopped after update ([\d,]+) of 100,000, saved in m. Go on with:\n  (.*)\n", out)
    assert told is not None
    assert told[2] == "minigrad train --resume m"
    update = int(told[1].replace(",", ""))
    kept = checkpoint.load(here / "m")
    assert len(kept["training"]["history"]["loss"]) == update
    assert [p.name for p in here.iterdir() if p.name.endswith(".part")] == []


def test_a_second_control_c_ends_at_once(here: Path) -> None:
    """The first one waits for an update that takes long."""
    program = (
        "import sys, time; from minigrad import train; from minigrad.__main__ import main\n"
        "step = train.Trainer.step\n"
        "def slow(self, record=False):\n"
        "    if self.updates == 2:\n"
        "        print('waiting', flush=True)\n"
        "        for _ in range(600): time.sleep(0.1)  # a signal just before one sleep is seen after it\n"
        "    return step(self, record)\n"
        "train.Trainer.step = slow\n"
        f"sys.exit(main(['train', *{LONG!r}, '--save', 'm']))\n"
    )
    path = str(Path(minigrad.__file__).parent.parent)
    started = subprocess.Popen(
        [sys.executable, "-c", program], cwd=here, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert started.stdout is not None
    assert any(line == "waiting\n" for line in started.stdout)
    started.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert started.poll() is None
    begin = time.monotonic()
    started.send_signal(signal.SIGINT)
    _, err = ended(started)
    assert time.monotonic() - begin < 50
    assert started.returncode == 130
    assert re.fullmatch(r"minigrad: stopped by Ctrl-C[^\n]*\n", err)
    assert len(checkpoint.load(here / "m")["training"]["history"]["loss"]) == 2


def test_control_c_in_the_last_update_is_a_finished_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = train._Session.after

    def stopping(session: Any, trainer: Any, step: Any) -> None:
        original(session, trainer, step)
        if step.update == 4:
            session.caught(signal.SIGINT)

    monkeypatch.setattr(train._Session, "after", stopping)
    assert main(["train", *FEW, "--save", "m"]) == 130
    out = capsys.readouterr().out
    assert "Stopped" not in out
    assert "Saved in m. Next:" in out


def test_control_c_before_the_first_update_leaves_a_whole_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], here: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for target, name in ((train, "_built"), (train, "yardsticks"), (train.checkpoint, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, interrupted)
            assert main(["train", *FEW, "--save", "m"]) == 130
        assert [p.name for p in here.iterdir()] == ["a.txt"]
        assert "no file is half written" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)  # while it is written
        assert main(["train", *FEW, "--save", "m"]) == 130
    assert [p.name for p in here.iterdir()] == ["a.txt"]


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    saved()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.slow
def test_a_run_killed_fifty_times_ends_in_the_same_bytes(here: Path) -> None:
    rng = np.random.default_rng(1)
    kills, updates = 50, 400
    argv = [*FULL, "--updates", str(updates), "--every", "2"]
    whole = run_to_the_end("whole", *argv)
    done, times, command = 0, 0, ["train", *argv, "--save", "part"]
    while times < kills:
        started = process(*command, cwd=here)
        if rng.random() < 0.8 or not (here / "part").exists():
            until(started, done + 1)  # it has got further, and saves just now
            time.sleep(rng.random() ** 3 * 0.03)
        else:
            time.sleep(rng.random() * 1.5)  # while it starts, or reads
        started.kill()
        ended(started)
        times += 1
        if not (here / "part").exists():
            continue
        kept = checkpoint.load(here / "part")  # whole after every kill
        assert len(kept["training"]["history"]["loss"]) >= done  # and never behind
        done = len(kept["training"]["history"]["loss"])
        command = ["train", "--resume", "part"]
    if done < updates:
        assert main(command) == 0
    assert (here / "part").read_bytes() == whole
    assert [p.name for p in here.iterdir() if p.name.endswith(".part")] == []


def test_a_full_disk_leaves_the_older_file(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    calls = itertools.count()

    def full(number: int) -> None:
        if next(calls) >= 4:  # a file and its folder, twice
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    err = failed(capfd, "train", *SMALL, "--updates", "9", "--every", "2", "--save", "m")
    assert "--save m: it cannot be written (No space left on device). It still has update 2." in err
    assert "on a disk with room" in err
    assert len(checkpoint.load("m")["training"]["history"]["loss"]) == 2


def test_a_closed_pipe_ends_quietly_with_a_whole_file(here: Path) -> None:
    started = process("train", *LONG, "--save", "m", cwd=here)
    until(started, 2)
    assert started.stdout is not None
    started.stdout.close()
    assert started.stderr is not None
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait(timeout=60) == 141
    assert len(checkpoint.load(here / "m")["training"]["history"]["loss"]) >= 1


# Files that are no runs


COMMANDS: dict[str, list[str]] = {
    "train": ["train", "--updates", "6", "--every", "6", "--resume"],
    "sample": ["sample", "--length", "2"],
    "bptt": ["bptt", "--steps", "3", "--format", "dot", "--level", "strip", "--model"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_none_are_one_line(command: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved()
    whole = Path("m").read_bytes()
    middle = len(whole) // 2
    ends = [0, 1, 30, 100, middle, len(whole) - 1]
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (*(whole[:n] for n in ends), flipped, b"\0" * 1000, TEXT.encode(), whole[:-9] + b"\xff" * 9):
        Path("bad").write_bytes(content)
        err = failed(capfd, *COMMANDS[command], "bad")
        assert "bad" in err
        assert "Give a file that minigrad train saved" in err


def newer(here: Path) -> Path:
    """A file of the version after this one."""
    format_of = checkpoint._KIND
    path = here / "newer"
    checkpoint.archive.write(path, format_of._replace(version=format_of.version + 1), {"dict": {}}, {})
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_file_asks_for_an_update(command: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "Update minigrad" in failed(capfd, *COMMANDS[command], str(newer(here)))


def spoiled(capfd: pytest.CaptureFixture[str], command: str, state: dict[str, Any], path: Any, new: Any) -> bool:
    """Whether a command refuses a file with this in that place, in one line; if not, it must work."""
    try:
        checkpoint.save("bad", replaced(state, path, new))
    except minigrad.errors.CheckpointError:
        return True
    capfd.readouterr()
    status = main([*COMMANDS[command], "bad"])
    err = capfd.readouterr().err
    assert (status, err.count("\n")) in ((0, 0), (2, 1)), (path, new, err)
    return status == 2


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_junk_in_the_settings_of_a_file_is_refused_or_harmless(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    state = saved("m", "--layers", "2", "--dropout", "0.2")
    junk = itertools.cycle(JUNK)  # 19 kinds, and everything meets another one
    some = [path for path in places(state) if path[0] != "training"]
    refused = sum(spoiled(capfd, command, state, path, next(junk)) for path in some)
    assert len(some) > 30
    assert refused >= {"train": 25, "sample": 8, "bptt": 10}[command]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_junk_anywhere_in_a_file_is_refused_or_harmless(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    state = saved("m", "--layers", "2", "--dropout", "0.2")
    rng = np.random.default_rng(0)
    refused = 0
    for path in places(state):
        for k in range(len(JUNK)) if path[0] != "training" else rng.integers(len(JUNK), size=2):
            new = JUNK[k]
            refused += spoiled(capfd, command, state, path, new)
    assert refused > 50
