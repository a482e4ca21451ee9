"""Batches of similar length: everything once, nothing changed, little padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.data.batches import IGNORED, by_length, padded
from minigrad.errors import DataError, ShapeError


def sequences(lengths: list[int], *shape: int, dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng(0)
    return [(10 * rng.standard_normal((length, *shape))).astype(dtype) for length in lengths]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("lengths", [[1], [4], [3, 1, 5, 5], [1, 1]])
def test_padding_stands_past_the_end_alone(lengths: list[int], shape: tuple[int, ...], dtype: Any) -> None:
    given = sequences(lengths, *shape, dtype=dtype)
    joined, found = padded(given, 7)
    assert joined.shape == (max(lengths), len(lengths), *shape)
    assert joined.dtype == dtype
    assert found.tolist() == lengths
    assert found.dtype == np.int64
    for n, array in enumerate(given):
        np.testing.assert_array_equal(joined[: lengths[n], n], array)
        assert (joined[lengths[n] :, n] == 7).all()


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_each_sequence_comes_once_with_its_target(size: int, seed: int | None) -> None:
    lengths = np.random.default_rng(5).integers(1, 20, 50).tolist()
    given, labels = sequences(lengths, 2), np.arange(50) * 10
    places = []
    for batch in by_length(given, labels, size, rng=None if seed is None else np.random.default_rng(seed)):
        assert batch.inputs.shape[1] == len(batch.lengths) == len(batch.places) <= size
        assert len(batch.inputs) == batch.lengths.max()
        np.testing.assert_array_equal(batch.targets, batch.places * 10)
        for n, place in enumerate(batch.places):
            np.testing.assert_array_equal(batch.inputs[: batch.lengths[n], n], given[place])
        places += batch.places.tolist()
    assert sorted(places) == [*range(50)]


def test_lengths_within_a_batch_are_neighbours() -> None:
    lengths = np.random.default_rng(5).permutation(60).tolist()
    given = sequences([length + 1 for length in lengths])
    for batch in by_length(given, np.zeros(60), 10, rng=np.random.default_rng(0)):
        assert np.ptp(batch.lengths) == 9


def test_the_generator_decides_the_order_and_nothing_else_does() -> None:
    given = sequences([5] * 30)
    walks = [
        [batch.places.tolist() for batch in by_length(given, np.zeros(30), 4, rng=np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    ]
    assert walks[0] == walks[1] != walks[2]
    rng = np.random.default_rng(1)
    again = [[b.places.tolist() for b in by_length(given, np.zeros(30), 4, rng=rng)] for _ in range(2)]
    assert again[0] == walks[0] != again[1]  # the next walk goes another way
    plain = [b.places.tolist() for b in by_length(sequences([2, 1, 2, 1]), np.zeros(4), 2, rng=None)]
    assert plain == [[1, 3], [0, 2]]


@pytest.mark.parametrize(("dtype", "padding"), [(np.int64, IGNORED), (np.float32, 0)])
def test_targets_of_every_step_are_padded_alike(dtype: Any, padding: int) -> None:
    given = sequences([3, 1])
    wanted = [np.array([1, 2, 3], dtype), np.array([4], dtype)]
    (batch,) = by_length(given, wanted, 2, rng=None)
    assert batch.targets.tolist() == [[4, 1], [padding, 2], [padding, 3]]


def test_what_is_padded_counts_for_nothing() -> None:
    """The loss over a padded batch is the mean over the true steps, computed one sequence at a time."""
    rng = np.random.default_rng(0)
    lstm, readout = nn.LSTM(2, 3, rng=rng, dtype=np.float64), nn.Linear(3, 4, rng=rng, dtype=np.float64)
    given = sequences([4, 1, 6], 2, dtype=np.float64)
    wanted = [rng.integers(0, 4, len(array)) for array in given]
    (batch,) = by_length(given, wanted, 3, rng=None)
    output, _ = lstm(Tensor(batch.inputs), lengths=batch.lengths)
    together = nn.cross_entropy(readout(output), batch.targets).item()
    alone = [
        nn.cross_entropy(readout(lstm(Tensor(x[:, np.newaxis]))[0]), y[:, np.newaxis], reduction="sum").item()
        for x, y in zip(given, wanted, strict=True)
    ]
    np.testing.assert_allclose(together, sum(alone) / 11, rtol=1e-12)


def refused(error: type[Exception], action: Any) -> str:
    with pytest.raises(error) as caught:
        action()
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


def test_what_does_not_fit_is_refused() -> None:
    one = sequences([2, 3])
    assert "there is no sequence" in refused(DataError, lambda: padded([]))
    assert "sequence 1 has no step" in refused(DataError, lambda: padded(sequences([2, 0])))
    assert "(T) float32, (T, 3) float32" in refused(ShapeError, lambda: padded([*one, *sequences([2], 3)]))
    assert "(T) float32, (T) float64" in refused(ShapeError, lambda: padded([*one, np.zeros(2)]))
    assert "alike" in refused(ShapeError, lambda: padded([np.array(3.0)]))
    walk = np.random.default_rng(0)
    assert "N=0" in refused(DataError, lambda: [*by_length(one, np.zeros(2), 0, rng=walk)])
    assert "2 sequences, but 3 targets" in refused(ShapeError, lambda: [*by_length(one, np.zeros(3), 1, rng=walk)])
    assert "sequence 1 has T=3 steps, but 2 targets" in refused(
        ShapeError, lambda: [*by_length(one, [np.zeros(2), np.zeros(2)], 1, rng=walk)]
    )
    assert [*by_length([], np.zeros(0), 1, rng=walk)] == []
