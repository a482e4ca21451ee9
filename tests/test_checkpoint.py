"""Checkpoints: what is saved comes back, bit for bit, and nothing else is taken for one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import archive, checkpoint
from minigrad.errors import CheckpointError, RecordError


def test_nested_plain_data_and_arrays_come_back(tmp_path: Path) -> None:
    state = {
        "weights": {"lstm.weight_hh_l0": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4))},
        "slots": [[np.array(1.5)], [np.array([True])]], "lr": 0.1, "lost": float("nan"), "big": 1 << 127,
        "text": "a\nb~", "none": None, "yes": True, "empty": {}, "list": [], "dict": {"dict": 1, "array": "x"},
    }  # fmt: skip
    checkpoint.save(tmp_path / "a", state)
    found = checkpoint.load(tmp_path / "a")
    assert list(found) == list(state)
    assert np.isnan(found.pop("lost"))
    for name, array in state["weights"].items():  # type: ignore[attr-defined]
        got = found["weights"][name]
        assert (got.dtype, got.shape, got.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert found["slots"][0][0].shape == ()
    assert found["slots"][1][0].tolist() == [True]
    for name in ("lr", "big", "text", "none", "yes", "empty", "list", "dict"):
        assert found[name] == state[name]
        assert type(found[name]) is type(state[name])


def test_arrays_whose_paths_read_the_same_stay_two(tmp_path: Path) -> None:
    one, two, three, four = (np.array(k) for k in range(1, 5))
    checkpoint.save(tmp_path / "a", {"a": {"b": one}, "a/b": two, "x": [three], "x/0": four})
    found = checkpoint.load(tmp_path / "a")
    assert [found["a"]["b"], found["a/b"], found["x"][0], found["x/0"]] == [1, 2, 3, 4]


leaves = st.none() | st.booleans() | st.integers(-(1 << 100), 1 << 100) | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3), max_leaves=9
)


@given(st.dictionaries(st.text(), trees, max_size=4))
def test_any_plain_data_comes_back(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    checkpoint.save(path, state)
    assert checkpoint.load(path) == state


def test_every_bit_generator_comes_back(tmp_path: Path) -> None:
    for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64):
        rng = np.random.Generator(kind(3))
        rng.random(7)
        rng.integers(9, dtype=np.uint32)  # leaves half a number over
        checkpoint.save(tmp_path / "a", {"rng": dict(rng.bit_generator.state)})
        other = np.random.Generator(kind(0))
        other.bit_generator.state = checkpoint.load(tmp_path / "a")["rng"]
        assert rng.integers(9, size=5, dtype=np.uint32).tolist() == other.integers(9, size=5, dtype=np.uint32).tolist()
        assert rng.random() == other.random()


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, {"x": np.ones(3), "y": [1, {"z": np.zeros(2)}]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", {"x": 1})
    for bad in ({"x": object()}, {"x": np.array([object()])}, {1: 2}, {"x": {1, 2}}):
        with pytest.raises(CheckpointError, match="minigrad checkpoint"):
            checkpoint.save(tmp_path / "a", bad)
    assert checkpoint.load(tmp_path / "a") == {"x": 1}


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "a", {"x": 1})

    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(tmp_path / "a", {"x": 2})
    assert checkpoint.load(tmp_path / "a") == {"x": 1}
    assert os.listdir(tmp_path) == ["a"]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a", {"x": np.arange(5), "y": "text"})
    whole = (tmp_path / "a").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(tmp_path / "b")
        assert str(caught.value).count("\n") == 1


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Dates in the zip archive, for one, mean nothing."""
    checkpoint.save(tmp_path / "a", {"x": np.arange(5), "y": "text"})
    refused = 0
    whole = (tmp_path / "a").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "b").write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = checkpoint.load(tmp_path / "b")
        except CheckpointError:
            refused += 1
            continue
        assert (found["x"].tolist(), found["y"]) == (list(range(5)), "text")
    assert refused > len(whole) / 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such file\.\n  Give a file that minigrad train saved"):
        checkpoint.load(tmp_path / "none")


def test_a_newer_version_asks_for_an_update(tmp_path: Path) -> None:
    newer = archive.Format("minigrad checkpoint", 2, CheckpointError, "")
    archive.write(tmp_path / "a", newer, {"dict": {}}, {})
    with pytest.raises(CheckpointError, match=r"version 2.*\n  Update minigrad"):
        checkpoint.load(tmp_path / "a")


def test_a_record_is_no_checkpoint(tmp_path: Path) -> None:
    archive.write(tmp_path / "a", archive.Format("minigrad record", 1, RecordError, ""), {"dict": {}}, {})
    with pytest.raises(CheckpointError, match="another kind of file, 'minigrad record'"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize(
    "header",
    [
        {}, {"dict": 3}, {"dict": []}, {"dict": None}, {"dict": {"x": {}}}, {"dict": {"x": {"array": "none"}}},
        {"dict": {"x": {"array": ["x"]}}}, {"dict": {"x": {"array": None}}}, {"dict": {"x": {"dict": 5}}},
        {"dict": {"x": {"dict": ["a"]}}}, {"dict": {"x": [{"other": 1}]}}, {"list": {}},
    ],
)  # fmt: skip
def test_a_whole_file_with_another_table_of_contents_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    kind = archive.Format("minigrad checkpoint", 1, CheckpointError, "")
    archive.write(tmp_path / "a", kind, header, {"x": np.ones(2)})
    with pytest.raises(CheckpointError, match=r"table of contents is damaged.*\n  Give a file that minigrad train"):
        checkpoint.load(tmp_path / "a")
