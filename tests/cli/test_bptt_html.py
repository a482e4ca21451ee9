"""`minigrad bptt --html`: a page over the training, beside everything else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from minigrad.__main__ import main

TEXT = "the cat sat on the mat; the dog did not.\n" * 3
SMALL = ["--text", "a.txt", "--steps", "6", "--hidden", "4", "--format", "dot", "--level", "cell"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


def data_of(page: Path) -> Any:
    """What the page's script reads."""
    found = re.search(r"<script[^>]*type=\"application/json\"[^>]*>(.*?)</script>", page.read_text("utf8"), re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_a_page_has_every_cell_from_the_first_update_to_the_last(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bptt", *SMALL, "--train", "4", "--html", "new/page.html"]) == 0
    assert "Page:\n  new/page.html" in capsys.readouterr().out
    data = data_of(here / "new" / "page.html")
    assert [cell["name"] for cell in data["cells"]] == ["RNN", "LSTM", "GRU"]
    assert [cell["updates"] for cell in data["cells"]] == [[0, 1, 2, 3, 4]] * 3


def test_a_page_changes_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for extra in ([], ["--html", "page.html"]):
        assert main(["bptt", *SMALL, "--cell", "gru", "--train", "3", "--json", *extra]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]


def test_a_trained_model_is_one_moment(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = ["--text", "a.txt", "--updates", "3", "--hidden", "4", "--steps", "5", "--batch", "2", "--save", "m"]
    assert main(["train", *trained]) == 0
    assert main(["bptt", "--model", "m", "--steps", "6", "--format", "dot", "--html", "page.html"]) == 0
    assert [cell["updates"] for cell in data_of(here / "page.html")["cells"]] == [[3]]


@pytest.mark.parametrize(("name", "found"), [("", "empty"), ("a.txt/b.html", "not a folder"), (".", "is a folder")])
def test_a_page_that_cannot_be_written_is_refused_before_any_work(
    name: str, found: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bptt", *SMALL, "--html", name]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert found in err
    assert "Give --html" in err
    assert [p.name for p in here.iterdir()] == ["a.txt"]
