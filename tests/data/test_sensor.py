"""Signals and series: read as their authors wrote them, scaled by the training part alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import sensor
from minigrad.errors import DataError, ShapeError

TRAIN = (
    "#A comment with : and ,\n@problemName X\n@classLabel true b a\n@data\n"
    "1,2,3:10,20,30:b\n4.5:-40:a\n5e0,6:50,60:a\n"
)
TEST = "@data\n7:70:b\r\n8,9:80,90:a"
FOLDER = "sktime/datasets/data/JapaneseVowels/JapaneseVowels_"


def test_signals_of_unequal_length_are_read_time_first(fetched: Any) -> None:
    fetched("sensors", {f"{FOLDER}TRAIN.ts": TRAIN.encode(), f"{FOLDER}TEST.ts": TEST.encode()})
    found = sensor.load("JapaneseVowels", fallback=True)
    assert found.classes == ("a", "b")
    assert (found.source, found.synthetic) == ("JapaneseVowels", False)
    assert found.training.labels.tolist() == [1, 0, 0]
    assert found.test.labels.tolist() == [1, 0]
    shapes = [[x.shape for x in part.sequences] for part in (found.training, found.test)]
    assert shapes == [[(3, 2), (1, 2), (2, 2)], [(1, 2), (2, 2)]]
    steps = np.array([[1, 10], [2, 20], [3, 30], [4.5, -40], [5, 50], [6, 60]])
    mean, deviation = steps.mean(0), steps.std(0)
    np.testing.assert_allclose(np.concatenate(found.training.sequences), (steps - mean) / deviation, rtol=1e-6)
    expected = (np.array([[8, 80], [9, 90]]) - mean) / deviation  # not by the test part's own mean
    np.testing.assert_allclose(found.test.sequences[1], expected, rtol=1e-6)
    assert {x.dtype for x in found.training.sequences} == {np.dtype(np.float32)}


def test_a_channel_that_never_changes_becomes_zeros(fetched: Any) -> None:
    fetched("sensors", {f"{FOLDER}{part}.ts": b"@data\n1,2:5,5:a\n3:5:b" for part in ("TRAIN", "TEST")})
    assert np.concatenate(sensor.load().test.sequences)[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("text", ["", "@data\n", "1,2:a", "@data\n1,x:a", "@data\n1,2:3:a", "@data\nabc"])
def test_a_file_that_holds_no_signals_is_refused(fetched: Any, text: str) -> None:
    fetched("sensors", {f"{FOLDER}TRAIN.ts": text.encode(), f"{FOLDER}TEST.ts": TEST.encode()})
    with pytest.raises(DataError, match=r"JapaneseVowels.*\n  Fetch it again: minigrad data fetch sensors"):
        sensor.load()


@pytest.mark.parametrize("kind", sensor.KINDS)
def test_without_signals_oscillations_stand_in(cache: Path, kind: str) -> None:
    found = sensor.load(kind, fallback=True)
    assert found.synthetic
    assert len(found.classes) == 4
    lengths = {len(x) for x in found.training.sequences}
    assert len(lengths) > 10
    for part in (found.training, found.test):
        assert np.bincount(part.labels).tolist() == [40] * 4
        assert {x.shape[1] for x in part.sequences} == {3}
    joined = np.concatenate(found.training.sequences)
    np.testing.assert_allclose(joined.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(joined.std(0), 1, rtol=1e-5)
    assert not np.array_equal(found.training.sequences[0], found.test.sequences[0])
    with pytest.raises(DataError, match="minigrad data fetch sensors"):
        sensor.load(kind)


def test_names_that_are_none_list_the_known_ones(cache: Path) -> None:
    with pytest.raises(DataError, match="Give one of JapaneseVowels, BasicMotions, GunPoint"):
        sensor.load("Vowels", fallback=True)
    with pytest.raises(DataError, match="Give one of heart, seattle, san francisco"):
        sensor.load_series("london", fallback=True)


def test_a_series_is_scaled_by_its_first_four_fifths(fetched: Any) -> None:
    values = [3.0, -1.5, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 100.0]
    rows = "".join(f"2012/01/0{k},0.0,{value},1.0,2.0,rain\r\n" for k, value in enumerate(values))
    fetched("temperatures", {"vega_datasets/_data/seattle-weather.csv": f"date,a,b,c,d,e\r\n{rows}\r\n".encode()})
    found = sensor.load_series("seattle", fallback=True)
    assert [found.mean, found.deviation] == pytest.approx([np.mean(values[:8]), np.std(values[:8])], rel=1e-14)
    assert found.unit == "°C"
    assert not found.synthetic
    assert found.training.dtype == np.float32
    both = np.concatenate([found.training, found.test])
    np.testing.assert_allclose(found.deviation * both + found.mean, values, rtol=1e-6)
    assert len(found.test) == 2


@pytest.mark.parametrize("kind", sensor.SERIES)
def test_without_a_series_made_weather_stands_in(cache: Path, kind: str) -> None:
    found = sensor.load_series(kind, fallback=True)
    assert found.synthetic
    assert (len(found.training), len(found.test)) == (7008, 1752)
    np.testing.assert_allclose([found.training.mean(), found.training.std()], [0, 1], atol=1e-5)
    assert sensor.persistence(found.test, 24) < sensor.persistence(found.test, 12)  # there is a day in it
    with pytest.raises(DataError, match="minigrad data fetch"):
        sensor.load_series(kind)


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_persistence_of_a_line_is_its_slope_squared(lag: int, dtype: Any) -> None:
    assert sensor.persistence(np.arange(6).astype(dtype) * 3, lag) == (3 * lag) ** 2
    assert sensor.persistence(np.stack([np.arange(6), np.zeros(6)], 1), lag) == lag**2 / 2


def test_persistence_of_white_noise_is_twice_its_variance() -> None:
    noise = np.random.default_rng(0).standard_normal(100_000)
    assert sensor.persistence(noise, 3) == pytest.approx(2, abs=5 * np.sqrt(12 / 100_000))


@pytest.mark.parametrize(("L", "T", "every"), [(2, 1, 1), (10, 3, 1), (10, 3, 4), (10, 9, 5)])
def test_windows_hold_each_step_and_what_follows_it(L: int, T: int, every: int) -> None:
    series = np.arange(L) * 1.5
    inputs, targets = sensor.windows(series, T, every)
    starts = [*range(0, L - T, every)]
    assert inputs.shape == targets.shape == (T, len(starts))
    for n, start in enumerate(starts):
        np.testing.assert_array_equal(inputs[:, n], series[start : start + T])
        np.testing.assert_array_equal(targets[:, n], series[start + 1 : start + T + 1])


def test_what_does_not_fit_is_refused() -> None:
    series = np.zeros(5)
    actions: list[Any] = [lambda lag=lag: sensor.persistence(series, lag) for lag in (0, -1, 5, 6)]
    actions += [lambda T=T: sensor.windows(series, T) for T in (0, 5)]
    actions += [lambda: sensor.windows(np.zeros((5, 2)), 1), lambda: sensor.windows(series, 2, 0)]
    for action in actions:
        with pytest.raises(ShapeError) as caught:
            action()
        assert str(caught.value).count("\n  Give ") == 1


def test_the_majority_is_the_share_of_the_commonest() -> None:
    assert sensor.majority(np.array([0, 2, 2, 1])) == 0.5
    assert sensor.majority([3]) == 1


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "counts", "channels", "lengths", "classes"),
    [
        ("JapaneseVowels", (270, 370), 12, (7, 29), 9),
        ("BasicMotions", (40, 40), 6, (100, 100), 4),
        ("GunPoint", (50, 150), 1, (150, 150), 2),
    ],
)
def test_the_true_signals_have_their_published_sizes(
    kind: str, counts: tuple[int, int], channels: int, lengths: tuple[int, int], classes: int
) -> None:
    found = sensor.load(kind)
    assert (len(found.training.sequences), len(found.test.sequences)) == counts
    every = [*found.training.sequences, *found.test.sequences]
    assert {x.shape[1] for x in every} == {channels}
    assert (min(map(len, every)), max(map(len, every))) == lengths
    assert len(found.classes) == classes
    assert {*found.training.labels.tolist()} == {*found.test.labels.tolist()} == {*range(classes)}
    assert all(np.isfinite(x).all() for x in every)


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "steps", "tomorrow"), [("heart", 7500, 0.0955), ("seattle", 1461, 0.180), ("san francisco", 8759, 0.0265)]
)
def test_the_true_series_and_what_persistence_makes_of_them(kind: str, steps: int, tomorrow: float) -> None:
    found = sensor.load_series(kind)
    assert len(found.training) + len(found.test) == steps
    assert sensor.persistence(found.test) == pytest.approx(tomorrow, rel=0.01)
