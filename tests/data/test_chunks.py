"""Chunks of a sequence: contiguous streams, a target for every input, a fresh start where they begin again."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.data.chunks import Chunks
from minigrad.errors import DataError


@pytest.mark.parametrize(("length", "steps", "batch"), [(2, 1, 1), (7, 3, 1), (20, 3, 2), (101, 10, 3), (64, 1, 4)])
def test_chunks_read_each_stream_in_order_and_begin_again(length: int, steps: int, batch: int) -> None:
    ids = np.arange(length)
    chunks = Chunks(ids, steps, batch)
    size = length // batch
    expected = [ids[n * size : (n + 1) * size].tolist() for n in range(batch)]
    for _ in range(2):  # two walks are the same
        read: list[list[int]] = [[] for _ in range(batch)]
        for k in range(chunks.per_epoch):
            chunk = chunks.next()
            assert chunk.fresh is (k == 0)
            assert chunk.inputs.shape == chunk.targets.shape == (steps, batch)
            np.testing.assert_array_equal(chunk.targets, chunk.inputs + 1)  # what follows, in this text of numbers
            for n in range(batch):
                read[n] += chunk.inputs[:, n].tolist()
        used = chunks.per_epoch * steps
        assert read == [stream[:used] for stream in expected]
        assert size - used <= steps  # no whole chunk with its last target was left out


def test_what_does_not_fill_the_streams_is_left_out() -> None:
    chunks = Chunks(np.arange(11), 1, 3)
    assert chunks.streams.max() == 8


def test_the_sequence_may_be_of_any_type() -> None:
    chunk = Chunks(np.linspace(0, 1, 9), 2, 2).next()
    assert chunk.inputs.dtype == np.float64
    np.testing.assert_allclose(chunk.targets, chunk.inputs + 1 / 8)


@pytest.mark.parametrize("before", range(6))
def test_a_loaded_position_goes_on_where_it_stood(before: int) -> None:
    one, other = Chunks(np.arange(40), 3, 2), Chunks(np.arange(40), 3, 2)
    for _ in range(before):
        one.next()
    other.load_state_dict(one.state_dict())
    for _ in range(9):
        a, b = one.next(), other.next()
        np.testing.assert_array_equal(a.inputs, b.inputs)
        assert a.fresh is b.fresh


@pytest.mark.parametrize("position", [-3, 1, 2, 21, 10**30, 3.0, True, None, "3", [3]])
def test_a_position_that_is_none_is_refused(position: object) -> None:
    chunks = Chunks(np.arange(40), 3, 2)  # streams of 20
    chunks.next()
    with pytest.raises(DataError, match="position") as caught:
        chunks.load_state_dict({"position": position})
    assert "Give the text and the T" in str(caught.value)
    assert chunks.position == 3


@pytest.mark.parametrize(("length", "steps", "batch"), [(3, 3, 1), (0, 1, 1), (7, 3, 2), (5, 1, 3)])
def test_streams_shorter_than_a_chunk_are_refused(length: int, steps: int, batch: int) -> None:
    with pytest.raises(DataError) as caught:
        Chunks(np.arange(length), steps, batch)
    message = str(caught.value)
    assert f"{length} elements make N={batch} streams of {length // batch}" in message
    assert f"at least {batch * (steps + 1)} elements" in message
    Chunks(np.arange(batch * (steps + 1)), steps, batch).next()  # what it says would do


@pytest.mark.parametrize(("steps", "batch"), [(0, 1), (1, 0), (-1, 2)])
def test_no_steps_or_no_streams_are_refused(steps: int, batch: int) -> None:
    with pytest.raises(DataError, match="count from 1"):
        Chunks(np.arange(10), steps, batch)
