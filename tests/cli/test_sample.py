"""minigrad sample: reproducible, honest about what it is given, quiet when nobody reads any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import checkpoint
from minigrad.__main__ import main
from minigrad.character import CharacterModel
from tests.cli.commands import process
from tests.cli.test_train import TEXT, failed

CONTROL = TEXT + "\t\x1b[31m\x07\r\x9b\u202e"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt its text a little, with control characters among what it knows."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "a.txt").write_text(CONTROL, newline="")
    argv = ["--text", str(folder / "a.txt"), "--hidden", "8", "--steps", "10", "--batch", "4", "--updates", "30"]
    assert main(["train", *argv, "--lr", "0.02", "--sample", "0", "--save", str(folder / "m")]) == 0
    return folder / "m"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained, tmp_path / "m")
    return tmp_path


def written(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(["sample", "m", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("\n")
    return out[:-1]


def model() -> CharacterModel:
    return CharacterModel.restored(checkpoint.load("m"))


def test_the_same_seed_writes_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [written(capsys, "--length", "80", "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_without_a_seed_it_writes_another_text_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, "--length", "80") != written(capsys, "--length", "80")


def test_a_longer_text_begins_as_the_shorter_one(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (written(capsys, "--length", n, "--seed", "1") for n in ("20", "60"))
    assert long.startswith(short)


def test_the_default_length_is_500(capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.txt").write_text("ab" * 300)
    fixed = ["--hidden", "2", "--steps", "4", "--batch", "1", "--updates", "1", "--sample", "0"]
    assert main(["train", "--text", "b.txt", *fixed, "--save", "n"]) == 0
    Path("n").replace("m")
    assert len(written(capsys)) == 500


def test_the_prompt_comes_first_and_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    found = written(capsys, "--prompt", "the cat", "--length", "10", "--temperature", "0")
    assert found.startswith("the cat")
    subject = model()
    scores, _ = subject(subject.ids("the cat")[:, np.newaxis])
    likeliest = subject.characters[int(scores.numpy()[-1, 0].argmax())]
    assert found.startswith("the cat" + likeliest)


@pytest.mark.parametrize("prompt", ["", "dog"])
def test_length_0_writes_the_prompt_alone(prompt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert written(capsys, "--length", "0", "--prompt", prompt) == prompt


def test_temperature_0_takes_the_likeliest_whatever_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {written(capsys, "--temperature", "0", "--length", "40", "--seed", seed) for seed in ("1", "2")}
    texts.add(written(capsys, "--temperature", "1e-300", "--length", "40"))
    assert len(texts) == 1


def test_a_high_temperature_writes_what_is_unlikely(capsys: pytest.CaptureFixture[str]) -> None:
    cold, hot = (written(capsys, "--temperature", x, "--length", "400", "--seed", "1") for x in ("0.3", "1e9"))
    assert len(set(cold)) < len(set(hot))


def test_control_characters_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = written(capsys, "--temperature", "1e9", "--length", "800", "--seed", "1", "--prompt", "\x1b[31m\u202e")
    assert found.startswith("\\x1b[31m\\u202e")
    assert all(c in "\n\t" or c.isprintable() for c in found)
    for spelled in ("\\x07", "\\x1b", "\\x9b", "\t", "\n"):
        assert spelled in found


BAD: dict[str, tuple[list[str], str, str]] = {
    "unknown character": (["--prompt", "the Quick"], "'Q' is none of them", "Give a text"),
    "control character": (["--prompt", "\x00\x01"], "'\\x00' is none", "Give a text"),
    "temperature negative": (["--temperature", "-0.1"], "'-0.1'", "from 0"),
    "temperature nan": (["--temperature", "nan"], "'nan'", "from 0"),
    "temperature inf": (["--temperature", "inf"], "'inf'", "from 0"),
    "temperature no number": (["--temperature", "hot"], "'hot'", "from 0"),
    "length negative": (["--length", "-1"], "'-1'", "from 0"),
    "length no whole number": (["--length", "1.5"], "'1.5'", "from 0"),
    "seed negative": (["--seed", "-1"], "'-1'", "from 0"),
    "a word too many": (["n"], "n", "--help"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    argv, found, remedy = BAD[case]
    err = failed(capfd, "sample", "m", *argv)
    assert found in err
    assert remedy in err
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["none", "", ".", "b\0", "a.txt", "x" * 5000])
def test_a_file_that_is_none_is_one_line(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a.txt").write_text(TEXT)
    assert "Give a file that minigrad train saved" in failed(capfd, "sample", name)


def test_no_file_at_all_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert "FILE" in failed(capfd, "sample")


def test_weights_beyond_reason_are_one_line_and_no_warning(capfd: pytest.CaptureFixture[str]) -> None:
    state: dict[str, Any] = checkpoint.load("m")
    for w in state["training"]["weights"].values():
        w[...] = 3e38
    checkpoint.save("bad", state)
    assert "scores are not finite" in failed(capfd, "sample", "bad", "--length", "5")


def test_a_reader_that_has_seen_enough_ends_it_quietly(here: Path) -> None:
    reading, writing = os.pipe()
    started = process("sample", "m", "--length", "100000000", cwd=here, stdout=writing)
    os.close(writing)
    assert len(os.read(reading, 5)) > 0
    os.close(reading)
    assert started.stderr is not None
    assert started.stderr.read() == ""
    started.stderr.close()
    assert started.wait(timeout=60) == 141
