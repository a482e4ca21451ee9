"""The file format: what is written comes back, and what was not written by it is refused."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigrad import archive
from minigrad.archive import Format
from minigrad.errors import RecordError

KIND = Format("minigrad test", 3, RecordError, "Give a file that the test wrote.")
TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


@pytest.fixture(autouse=True, scope="module")
def in_haste() -> Iterator[None]:
    """Files of these tests need not survive a power cut; tests/test_atomic.py asks for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.npz"


def there_and_back(path: Path, header: dict[str, Any], arrays: dict[str, Any] | None = None) -> Any:
    archive.write(path, KIND, header, arrays or {})
    return archive.read(path, KIND)


def small() -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(0)
    arrays = {
        "weight": rng.standard_normal((2, 3)),
        "../bias": rng.standard_normal(2).astype(np.float32),
        "seen": np.array([True, False]),
        "none": np.zeros((0, 4), np.int16),
        "one": np.array(7),
    }
    return {"loss": math.nan, "steps": [1, 2], "name": "x"}, arrays


def same(a: Any, b: Any) -> bool:
    """Equal in type, value and, for floats, in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    return bool(a == b)


def refused(path: Any, kind: Format = KIND) -> str:
    """The one error: what was attempted and found on one line, what would do on the next."""
    with pytest.raises(RecordError) as caught:
        archive.read(path, kind)
    message = str(caught.value)
    assert message.startswith(f"read {os.fspath(path)!r} as {kind.name}: ")
    assert len(message.splitlines()) == 2
    assert len(message) < 500 + 2 * len(repr(path))
    assert caught.value.__suppress_context__
    return message


def refused_or_same(path: Path, content: Any = None) -> None:
    """What is damaged is found, or it says nothing, as in a date."""
    try:
        found = archive.read(path, KIND)
    except RecordError as error:
        assert str(error).startswith(f"read {os.fspath(path)!r} as {KIND.name}: ")  # noqa: PT017
        assert len(str(error).splitlines()) == 2  # noqa: PT017
    else:
        assert same(found, content or small())


# What comes back: the header


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 1, -1, 2**53 + 1, 2**128 - 1, -(2**1024) + 1, 0.0, -0.0, 1.0, 0.1, 5e-324, 1e308, 1e-310,
        math.inf, -math.inf, math.nan, -math.nan, struct.unpack(">d", bytes.fromhex("7ff800000000beef"))[0],
        "", "~", "~~", "~7ff8000000000000", "~~7ff8000000000000", "~inf", "NaN", "\0", "\x7f\u2028", "∂L/∂h", "😀",
        "\ud83d\ude00", "\udc80", '"\\', [], {}, [[]], [{}], {"": []}, {"~": "~"}, {"float": "nan"},
        [[1, [2.0, [True, [None]]]]],
    ],
    ids=ascii,
)  # fmt: skip
def test_a_value_in_the_header_comes_back_exactly(path: Path, value: Any) -> None:
    found, _ = there_and_back(path, {"value": value, "also": [value, {"deep": value}]})
    assert same(found, {"value": value, "also": [value, {"deep": value}]})


plain = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats() | st.text(st.characters())
headers = st.dictionaries(
    st.text(),
    st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
    max_size=4,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(header=headers)
def test_any_header_comes_back_exactly(path: Path, header: dict[str, Any]) -> None:
    assert same(there_and_back(path, header), (header, {}))


def test_the_order_of_a_header_is_kept(path: Path) -> None:
    assert list(there_and_back(path, {"b": 1, "a": 2})[0]) == ["b", "a"]


def test_the_state_of_a_generator_comes_back(path: Path) -> None:
    rng = np.random.default_rng(5)
    found, _ = there_and_back(path, {"rng": rng.bit_generator.state})
    again = np.random.default_rng()
    again.bit_generator.state = found["rng"]
    np.testing.assert_array_equal(again.random(10), rng.random(10))


def nested(depth: int) -> dict[str, Any]:
    inner: Any = 1
    for _ in range(depth - 1):
        inner = [inner]
    return {"a": inner}


def test_a_header_as_deep_as_allowed_comes_back_and_a_deeper_one_is_refused(path: Path) -> None:
    assert there_and_back(path, nested(100))[0] == nested(100)
    with pytest.raises(RecordError, match="100 deep at most"):
        archive.write(path, KIND, nested(101), {})


@pytest.mark.parametrize(
    "value", [(1, 2), {1: 2}, {None: 1}, {1, 2}, b"x", 1j, np.float32(1), np.int64(1), np.True_, object(), 2**1025]
)
def test_a_header_that_would_not_come_back_is_refused_and_the_old_file_stays(path: Path, value: Any) -> None:
    path.write_bytes(b"old")
    with pytest.raises(RecordError, match=f"write .* as .*: its header cannot hold this {type(value).__name__}"):
        archive.write(path, KIND, {"a": [value]}, {})
    assert path.read_bytes() == b"old"


def test_a_list_that_holds_itself_is_refused(path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RecordError, match="100 deep at most"):
        archive.write(path, KIND, {"a": endless}, {})


# What comes back: arrays


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 3), (0, 3), (3, 0), (1, 1, 1), (2, 3, 4), (1,) * 64])
def test_an_array_comes_back_bit_for_bit(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    bits = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 256, size, np.uint8)
    array = np.frombuffer(bits.tobytes(), dtype).reshape(shape)
    _, found = there_and_back(path, {}, {"x": array})
    assert same(found["x"], array)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_arrays_are_native_in_order_and_ones_own(path: Path, dtype: str) -> None:
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    given = {"plain": array, "columns": np.asfortranarray(array), "swapped": array.astype(">" + dtype),
             "backwards": array[::-1, :, ::-1], "turned": array.T,
             "wide": np.broadcast_to(array[0, 0, 1], (5, 4))}  # fmt: skip
    _, found = there_and_back(path, {}, given)
    assert list(found) == list(given)
    for name, x in found.items():
        np.testing.assert_array_equal(x, given[name])
        assert x.dtype == np.dtype(dtype)
        assert x.dtype.isnative
        assert x.flags.c_contiguous
        assert x.flags.owndata
        assert x.flags.writeable
        assert x.flags.aligned


@pytest.mark.parametrize("array", [np.array([None]), np.array(["text"]), np.array([b"x"]), np.zeros(2, "f4,i4"),
                                   np.array(["2026-01-01"], "M8[D]"), np.zeros(2, np.longdouble)])  # fmt: skip
def test_an_array_of_something_else_is_refused_and_the_old_file_stays(path: Path, array: Any) -> None:
    path.write_bytes(b"old")
    with pytest.raises(RecordError, match=r"array 'x' has elements of type (.|\n)*Convert it to one of bool, int8"):
        archive.write(path, KIND, {}, {"x": array})
    assert path.read_bytes() == b"old"


NAMES = ["a", "A", "lstm.weight_hh_l0", "header.json", "a.npy", "../../etc/passwd", "/etc/passwd", "..", ".", "", "~",
         "C:\\x", "a/b", "a\0b", "\n", "gewicht „w“ ∂", "\udc80", "#1", "x" * 100, "x" * 101, "x" * 100_000,
         "-rf"]  # fmt: skip


def test_arrays_may_have_any_name(path: Path) -> None:
    given = {name: np.array(k) for k, name in enumerate(NAMES)}
    _, found = there_and_back(path, {}, given)
    assert same(found, given)


def test_no_name_in_the_file_leads_anywhere(path: Path) -> None:
    archive.write(path, KIND, {}, {name: np.array(k) for k, name in enumerate(NAMES)})
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        assert file.testzip() is None
    assert len(set(names)) == len(NAMES) + 1
    assert all(len(name) < 110 and name[0] not in ".-" for name in names)
    assert not set("".join(names)) & set("/\\:\0\n~")


def test_nothing_at_all_comes_back(path: Path) -> None:
    assert there_and_back(path, {}) == ({}, {})


# The layout, as others see it


def test_numpy_opens_the_file(path: Path) -> None:
    header, arrays = small()
    archive.write(path, KIND, header, arrays)
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["header.json", "weight", "#1", "seen", "none", "one"]
        for name, x in zip(file.files[1:], arrays.values(), strict=True):
            assert same(file[name], x)
        assert json.loads(file["header.json"])["header"]["steps"] == [1, 2]


def test_the_header_is_json_for_everyone(path: Path) -> None:
    archive.write(path, KIND, {"a": [math.nan, -math.inf, 1.5, "~"]}, {"x": np.zeros((2, 3), np.float32)})
    with zipfile.ZipFile(path) as file:
        text = file.read("header.json").decode()
    assert json.loads(text) == {
        "format": "minigrad test",
        "version": 3,
        "arrays": ["x"],
        "header": {"a": ["~7ff8000000000000", "~fff0000000000000", 1.5, "~~"]},
    }


def test_entries_are_stored_without_a_date_and_the_archive_is_in_order(path: Path) -> None:
    archive.write(path, KIND, *small())
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        for entry in file.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.compress_size == entry.file_size
            assert stat.S_IMODE(entry.external_attr >> 16) == 0o644


def test_numbers_before_each_array_are_those_that_numpy_writes(path: Path) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    archive.write(path, KIND, {}, {"x": array})
    with zipfile.ZipFile(path) as file:
        ours = file.read("x.npy")
    theirs = io.BytesIO()
    np.lib.format.write_array(theirs, array)
    assert ours == theirs.getvalue()


def test_the_same_content_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    archive.write(path, KIND, *small())
    header, arrays = small()
    arrays = {name: np.array(x, x.dtype.newbyteorder(">"), order="F") for name, x in arrays.items()}
    os.utime(path, (0, 0))
    archive.write(tmp_path / "b", KIND, header, arrays)
    assert path.read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("count", [65_533, 65_534, 65_535])
def test_more_entries_than_zip_counts_in_16_bits(path: Path, count: int) -> None:
    arrays = {f"k{k}": np.array(k % 2 == 1) for k in range(count)}
    _, found = there_and_back(path, {}, arrays)
    assert list(found) == list(arrays)
    with zipfile.ZipFile(path) as file:
        assert len(file.namelist()) == count + 1


def test_no_ending_is_added_to_the_path_and_text_will_do(tmp_path: Path) -> None:
    archive.write(str(tmp_path / "no ending"), KIND, *small())
    assert os.listdir(tmp_path) == ["no ending"]
    assert same(archive.read(str(tmp_path / "no ending"), KIND)[1], small()[1])


@pytest.mark.parametrize("limit", ["_LARGEST", "_LARGEST_HEADER", "_MOST", "_MOST_ARRAYS"])
def test_what_is_too_large_is_neither_written_nor_read(path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    header, arrays = {"text": "x" * 2000}, small()[1]
    archive.write(path, KIND, header, arrays)
    text = np.load(path)["header.json"]
    size = {"_LARGEST": path.stat().st_size, "_LARGEST_HEADER": len(text), "_MOST": archive._values(text),
            "_MOST_ARRAYS": len(arrays)}[limit]  # fmt: skip
    monkeypatch.setattr(archive, limit, size)
    assert same(there_and_back(path, header, arrays), (header, arrays))
    monkeypatch.setattr(archive, limit, size - 1)
    if limit != "_MOST_ARRAYS":  # of those a file may have as many as fit into the directory that is read
        assert f"{size - 1:,} are the limit" in refused(path)
    path.write_bytes(b"old")
    with pytest.raises(RecordError, match=rf"{size - 1:,}\b.* are the limit\.\n  Save less at once"):
        archive.write(path, KIND, header, arrays)
    assert path.read_bytes() == b"old"


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(header=headers)
def test_values_are_counted_before_they_are_made(header: dict[str, Any]) -> None:
    def count(x: Any) -> int:
        return 1 + sum(map(count, x.values() if isinstance(x, dict) else x)) if isinstance(x, (dict, list)) else 1

    assert archive._values(json.dumps(header).encode()) >= count(header)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(path, KIND, *small())
    old = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        archive.write(path, KIND, {}, {})
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == [path.name]


# What is refused: no such file


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no such file.\n  Give a file that the test wrote." in refused(tmp_path / "missing")
    assert "there is no such file" in refused(tmp_path / "no folder" / "missing")


def test_a_folder(tmp_path: Path) -> None:
    assert "this is a folder" in refused(tmp_path)


def test_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    refused(path)


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    refused(str(tmp_path / "a\0b"))
    refused(tmp_path / ("x" * 5000))
    assert len(refused(tmp_path / "two\nlines").splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="no pipes with a name")
def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    assert "this is no regular file" in refused(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device")
def test_a_device_that_never_ends() -> None:
    assert "this is no regular file" in refused("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(path: Path) -> None:
    archive.write(path, KIND, *small())
    path.chmod(0)
    assert "Permission denied" in refused(path)


def test_a_file_that_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(path, KIND, *small())

    def broken(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("io.FileIO", broken)
    assert "as minigrad test: Permission denied.\n" in refused(path)


def test_a_file_larger_than_any_that_is_written(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # on the disk it takes nothing
    assert "4,294,967,296 are the limit" in refused(path)


def test_what_does_not_fit_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(path, KIND, *small())

    def none_left(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(np, "empty", none_left)
    assert "it does not fit into memory" in refused(path)


# What is refused: files of others


@pytest.mark.parametrize("content", [b"x", b"PK\3\4", b"PK\5\6" + bytes(18), b"hello\n" * 20, bytes(1000),
                                     b"\xff" * 1000, b"\x93NUMPY\1\0" + bytes(100), b"{}" * 50])  # fmt: skip
def test_something_else(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "Give a file that the test wrote" in refused(path)


def test_archives_of_others(path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(path, x=np.ones(3))
        assert "minigrad did not write this file" in refused(path)


def test_pickles_are_never_opened(path: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "trapped"), "w")

    np.savez(path, x=np.array([Trap()], dtype=object))
    refused(path)
    np.save(path.with_suffix(".npy"), np.array([Trap()], dtype=object), allow_pickle=True)
    refused(path.with_suffix(".npy"))
    pickled = io.BytesIO()
    np.lib.format.write_array(pickled, np.array([Trap()], dtype=object))
    forged(path, ["x"], [pickled.getvalue()])
    assert "x.npy: no array that minigrad writes" in refused(path)
    assert not (tmp_path / "trapped").exists()


def repacked(path: Path, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], Any]) -> None:
    """Our file, unpacked and packed by Python's zipfile after a change."""
    with zipfile.ZipFile(path) as file:
        entries = [(entry, file.read(entry)) for entry in file.infolist()]
    change(entries)
    with zipfile.ZipFile(path, "w") as file:
        for entry, content in entries:
            file.writestr(entry, content, entry.compress_type)


def test_an_archive_that_only_looks_different_is_the_same_to_us(path: Path) -> None:
    """The helper of the tests below: without a change it packs what can be read."""
    archive.write(path, KIND, *small())
    old = path.read_bytes()
    repacked(path, lambda entries: None)
    assert path.read_bytes() == old


def test_a_bomb_of_compressed_entries_is_not_opened(path: Path) -> None:
    archive.write(path, KIND, {}, {"x": np.zeros(10_000_000, np.uint8)})

    def compress(entries: Any) -> None:
        for entry, _ in entries[1:]:
            entry.compress_type = zipfile.ZIP_DEFLATED

    repacked(path, compress)
    assert path.stat().st_size < 20_000
    assert "compressed or encrypted" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("change", [lambda e: e.append(e[1]), lambda e: e.pop(), lambda e: e.reverse(),
                                    lambda e: e.insert(1, e[2]), lambda e: e.append(e[0]), lambda e: e[1:3].reverse() or
                                    e.__setitem__(slice(1, 3), [e[2], e[1]])])  # fmt: skip
def test_entries_twice_missing_or_in_another_order(path: Path, change: Any) -> None:
    archive.write(path, KIND, {}, {"x": np.array([1.0]), "y": np.array([2.0])})
    repacked(path, change)
    refused(path)


def test_something_before_or_behind_the_archive(path: Path) -> None:
    archive.write(path, KIND, *small())
    content = path.read_bytes()
    for more in (b"\0" + content, content + b"\0", content + content, b"#!/bin/sh\n" + content):
        path.write_bytes(more)
        refused_or_same(path)


# What is refused: damage


def changed(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def test_a_file_cut_short_in_places(path: Path) -> None:
    archive.write(path, KIND, *small())
    for length in reversed(range(0, path.stat().st_size, 11)):
        os.truncate(path, length)
        refused(path)


@pytest.mark.slow
def test_a_file_cut_short_at_every_byte(path: Path) -> None:
    archive.write(path, KIND, *small())
    for length in reversed(range(path.stat().st_size)):
        os.truncate(path, length)
        refused(path)


def damaged_everywhere(path: Path, step: int, flip: int) -> None:
    archive.write(path, KIND, *small())
    content = path.read_bytes()
    for place in range(flip % step, len(content), step):
        changed(path, place, bytes([content[place] ^ flip]))
        refused_or_same(path)
        changed(path, place, content[place : place + 1])
    assert path.read_bytes() == content
    assert same(archive.read(path, KIND), small())


@pytest.mark.parametrize("flip", [0xFF, 0x01, 0x80])
def test_a_damaged_byte_is_refused_or_says_nothing(path: Path, flip: int) -> None:
    damaged_everywhere(path, 11, flip)


@pytest.mark.slow
@pytest.mark.parametrize("flip", [0xFF, *(1 << bit for bit in range(8))])
def test_any_damaged_byte_is_refused_or_says_nothing(path: Path, flip: int) -> None:
    damaged_everywhere(path, 1, flip)


@pytest.mark.slow
def test_two_bytes_swapped_anywhere(path: Path) -> None:
    archive.write(path, KIND, *small())
    content = path.read_bytes()
    for place in range(len(content) - 1):
        pair = content[place : place + 2]
        if pair[0] != pair[1]:
            changed(path, place, pair[::-1])
            refused_or_same(path)
            changed(path, place, pair)


def test_any_damage_in_the_content_is_refused(path: Path) -> None:
    """In header.json and in the arrays: all that is read but the archive's own bookkeeping."""
    header = {"a": list(range(1000))}
    archive.write(path, KIND, header, {f"x{k}": np.arange(10.0 * k) for k in range(1, 30)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        starts = {e.header_offset + 30 + len(e.filename): e.file_size for e in file.infolist()}
    rng = np.random.default_rng(1)
    for start, size in starts.items():
        for place in (start, start + size - 1, start + int(rng.integers(size))):
            changed(path, place, bytes([content[place] ^ (1 << int(rng.integers(8)))]))
            refused(path)
            changed(path, place, content[place : place + 1])
    assert path.read_bytes() == content
    for length in sorted(rng.integers(0, len(content), 40).tolist(), reverse=True):
        os.truncate(path, length)
        refused(path)


def test_a_message_says_where_the_damage_is(path: Path) -> None:
    arrays = {"x": np.full(100, 7, np.uint8), "y": np.full(100, 9, np.uint8)}
    archive.write(path, KIND, {"a": "needle in the header"}, arrays)
    content = path.read_bytes()
    for needle, where in ((b"needle", "header.json"), (bytes([7] * 9), "x.npy"), (bytes([9] * 9), "y.npy")):
        place = content.index(needle)
        path.write_bytes(content[:place] + b"!" + content[place + 1 :])
        message = refused(path)
        assert "it is damaged" in message
        assert where in message


@pytest.mark.parametrize("change", [lambda content: content[:-500_000], lambda content: content + b"more"])
def test_a_file_that_changes_its_length_while_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    archive.write(path, KIND, {}, {"x": np.zeros(1_000_000)})
    empty = np.empty

    def meanwhile(*shape: Any) -> Any:
        path.write_bytes(change(path.read_bytes()))
        return empty(*shape)

    monkeypatch.setattr(np, "empty", meanwhile)
    refused_or_same(path, ({}, {"x": np.zeros(1_000_000)}))


# What is refused: files made to harm


def forged(path: Path, names: Any, contents: list[bytes], text: bytes | None = None, **outer: Any) -> Path:
    """An archive whose sums and sizes are in order, whatever its header says."""
    if text is None:
        whole = {"format": KIND.name, "version": KIND.version, "arrays": names, "header": {}} | outer
        text = json.dumps(whole).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in zip(["header.json", "x.npy", "y.npy"], [text, *contents], strict=False):
            file.writestr(zipfile.ZipInfo(name), content)
    return path


def npy(about: bytes, numbers: bytes, version: bytes = b"\1\0") -> bytes:
    about = about.ljust(117) + b"\n"
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(about))
    return b"\x93NUMPY" + version + size + about + numbers


def described(descr: str, shape: str, order: str = "False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()


TWO = np.array([1.0, 2.0]).tobytes()


def test_a_file_may_be_forged(path: Path) -> None:
    """The helper of the tests below: what it makes can be read when it is in order."""
    forged(path, ["x"], [npy(described("'<f8'", "(2,)"), TWO)])
    header, arrays = archive.read(path, KIND)
    assert header == {}
    assert same(arrays, {"x": np.array([1.0, 2.0])})


@pytest.mark.parametrize(
    "shape",
    ["(1 << 40,)", f"({1 << 40},)", f"({1 << 62},)", f"({1 << 63},)", f"({1 << 64},)", f"({1 << 1000},)",
     f"(0, {1 << 62})", f"(0, {1 << 64})", f"({1 << 32}, {1 << 32})", "(-1,)", "(-1, -2)", "(2.0,)", "('2',)",
     "(None,)", "((2,),)", "2", "None", "{}", "(3,)", "(1,)", "()", "(1, 2, 2)", str((1,) * 65), str((0,) * 65), "[2]",
     "(2,", "(" * 100, "[" * 100, "-" * 400 + "2", "(2L,)", "__import__('os').abort()"],
    ids=lambda shape: shape[:20],
)  # fmt: skip
def test_an_array_whose_shape_is_wrong(path: Path, shape: str) -> None:
    refused(forged(path, ["x"], [npy(described("'<f8'", shape), TWO)]))


@pytest.mark.parametrize(
    "descr",
    ["'<f4'", "'>f8'", "'|O'", "'O'", "'object'", "'<U2'", "'|V8'", "'<M8[s]'", "'f4,f4'", "[('a', '<f8')]", "''",
     "None", "8", "['<f8']", "('<f8', (1,))", "'|S8'", "[('', '|O')]", "'<g'"],
)  # fmt: skip
def test_an_array_whose_type_is_wrong(path: Path, descr: str) -> None:
    refused(forged(path, ["x"], [npy(described(descr, "(2,)"), TWO)]))


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x93NUMPY", npy(described("'<f8'", "(2,)"), TWO, b"\2\0"),
     npy(described("'<f8'", "(2,)"), TWO, b"\3\0"),
     npy(described("'<f8'", "(2,)"), TWO, b"\4\0"), npy(described("'<f8'", "(2,)", "True"), TWO), npy(b"", TWO),
     npy(described("'<f8'", "(2,)"), TWO + b"more"), npy(described("'<f8'", "(2,)"), TWO[:-1]),
     npy(described("'<f8'", "(2,)") + b" " * 1000, TWO), npy(b"{" * 117, TWO), npy(b"\xff" * 117, TWO)],
    ids=range(13),
)  # fmt: skip
def test_an_entry_that_is_no_array_of_ours(path: Path, content: bytes) -> None:
    refused(forged(path, ["x"], [content]))


@pytest.mark.parametrize(
    "names", [["y"], ["x.npy"], ["../x"], [], ["x", "y"], ["x", "x"], [None], [["x"]], [3], {"x": 1}]
)
def test_names_that_are_not_those_of_the_entries(path: Path, names: Any) -> None:
    refused(forged(path, names, [npy(described("'<f8'", "(2,)"), TWO)]))


@pytest.mark.parametrize("rows", [None, 3, "x", {}, {"x": []}, True])
def test_a_list_of_names_that_is_none(path: Path, rows: Any) -> None:
    refused(forged(path, rows, []))


def test_a_claim_of_gigabytes_takes_no_memory(path: Path) -> None:
    """In a process that has only 100 MB more than it needs to begin."""
    pytest.importorskip("resource")
    forged(path, ["x"], [npy(described("'<f8'", f"({1 << 28},)"), TWO)])
    claim = struct.pack("<II", 128 + (1 << 31), 128 + (1 << 31))
    path.write_bytes(path.read_bytes().replace(struct.pack("<II", 144, 144), claim))
    program = (
        "import resource, sys\n"
        "from minigrad import archive\nfrom minigrad.errors import RecordError\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + 100_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n    archive.read(sys.argv[1], archive.Format('minigrad test', 3, RecordError, ''))\n"
        "except RecordError as error:\n    print(error)\n"
    )
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("no /proc")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "entries larger than the " in done.stdout


def test_a_directory_of_gigabytes_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(path, KIND, {}, {f"k{k}": np.array(k) for k in range(100)})
    monkeypatch.setattr(archive, "_LARGEST_HEADER", 5000)
    assert "bytes in its header or directory, where 5,000 are the limit" in refused(path)


@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_truths_that_are_neither(path: Path, value: int) -> None:
    forged(path, ["x"], [npy(described("'|b1'", "(2,)"), bytes([1, value]))])
    assert "neither True nor False" in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"null", b"[]", b"3", b'"text"', b"{}", b"\xff", b"\xef\xbb\xbf{}",
        '{"a": "é"}'.encode("latin-1"), b"[" * 1_000_000, b'{"a":' * 100_000, b'{"format": [' * 50_000,
        b"[" * 500 + b"]" * 500, b"[" + b"[]," * 6_000_000 + b"0]",
        b'{"format":' + b"[" * 900 + b"]" * 900 + b',"version":3,"arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":' + b"[" * 100 + b"]" * 100 + b"}}",
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":' + b"9" * 10_000_000 + b"}}",
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":' + b"9" * 2000 + b"}}",
        b'{"format":"minigrad test","version":' + b"9" * 10_000_000 + b',"arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":NaN}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":-Infinity}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":1}} x',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":"\n"}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":[]}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":null}',
        b'{"format":"minigrad test","version":3,"arrays":[]}',
        b'{"format":"minigrad test","version":3,"header":{}}',
        b'{"format":"minigrad test","version":3,"arrays":[],"header":{},"more":1}',
        b'{"format":"minigrad test","arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":3.0,"arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":true,"arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":"3","arrays":[],"header":{}}',
        b'{"format":"minigrad test","version":null,"arrays":[],"header":{}}',
        b'{"format":["minigrad test"],"version":3,"arrays":[],"header":{}}',
        b'{"format":null,"version":3,"arrays":[],"header":{}}',
    ],
    ids=range(38),
)  # fmt: skip
def test_a_header_made_to_harm(path: Path, text: bytes) -> None:
    refused(forged(path, [], [], text))


def test_a_number_that_json_allows_and_no_float_holds_is_infinite(path: Path) -> None:
    forged(path, [], [], b'{"format":"minigrad test","version":3,"arrays":[],"header":{"a":1e999}}')
    assert archive.read(path, KIND) == ({"a": math.inf}, {})


def test_a_newer_version_says_that_minigrad_is_to_be_updated(path: Path) -> None:
    forged(path, [], [], version=4, more="of what this one does not know")
    message = refused(path)
    assert "it is of version 4, and this minigrad reads version 3.\n  Update minigrad: pip install" in message
    assert len(refused(forged(path, [], [], version=10**300))) < 500


@pytest.mark.parametrize("version", [2, 0, -1])
def test_an_older_version_says_so(path: Path, version: int) -> None:
    forged(path, [], [], version=version)
    assert f"it is of version {version}, and this minigrad reads version 3.\n  Save it once more." in refused(path)


def test_a_file_of_another_kind_says_which(path: Path) -> None:
    archive.write(path, KIND._replace(name="minigrad atlas", version=9), {}, {})
    message = refused(path)
    assert "this is another kind of file, 'minigrad atlas'.\n  Give a file that the test wrote." in message
    assert "version" not in message
    assert len(refused(forged(path, [], [], format="x\n" * 1_000_000))) < 500


def test_reading_deep_in_a_program_ends_in_the_same_errors(path: Path) -> None:
    """A thread with half of the usual stack; with less, json itself ends the process of Python 3.12 and 3.13."""
    forged(path, [], [], b"[" * 1_000_000)
    found: list[str] = []
    old = threading.stack_size(4 << 20)
    try:
        thread = threading.Thread(target=lambda: found.append(refused(path)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert len(found) == 1
