"""Signals of sensors: sequences to be told apart, and a series to be forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..engine import Array
from ..errors import DataError, ShapeError
from . import store

__all__ = [
    "KINDS", "SERIES", "Part", "Series", "Signals", "available", "load", "load_series", "majority", "persistence",
    "windows",
]  # fmt: skip

KINDS = ("JapaneseVowels", "BasicMotions", "GunPoint")
"""The signals that there are to load."""

_FOLDER = "sktime/datasets/data"


class _Column(NamedTuple):
    archive: str
    member: str
    column: int
    unit: str
    source: str


_VEGA = "vega_datasets/_data"
SERIES = {
    "heart": _Column("sensors", f"{_FOLDER}/mitdb/mitdb.csv", 0, "mV", "MIT-BIH arrhythmia database"),
    "seattle": _Column("temperatures", f"{_VEGA}/seattle-weather.csv", 2, "°C", "daily high of Seattle"),
    "san francisco": _Column("temperatures", f"{_VEGA}/sf-temps.csv", 0, "°F", "hourly normals of San Francisco"),
}
"""The series that there are to load."""


class Part(NamedTuple):
    """n signals.

    Attributes:
        sequences: (T_n, C) of float32, time first.
        labels: (n,) of int64: the place of each one's class in `classes`.
    """

    sequences: tuple[Array, ...]
    labels: Array


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of C channels, each scaled to mean 0 and deviation 1 over the steps of the training part.

    Attributes:
        source: Where they come from.
        synthetic: Whether they stand in for signals that have not been fetched.
        classes: What they are to be told apart by.
        training, test: As their authors divided them.
    """

    source: str
    synthetic: bool
    classes: tuple[str, ...]
    training: Part
    test: Part


@dataclass(frozen=True, eq=False)
class Series:
    """One long signal, the test part after the training part.

    Attributes:
        source: Where it comes from.
        synthetic: Whether it stands in for a series that has not been fetched.
        training, test: (L,) of float32, scaled to mean 0 and deviation 1 over the training part: four fifths, a fifth.
        mean, deviation: Of the training part; deviation * x + mean is in `unit` again.
        unit: What the values were measured in.
    """

    source: str
    synthetic: bool
    training: Array
    test: Array
    mean: float
    deviation: float
    unit: str


def available(name: str = "sensors") -> bool:
    """Whether the "sensors" or the "temperatures" have been fetched."""
    return store.available(name)


def load(kind: str = "JapaneseVowels", *, fallback: bool = False) -> Signals:
    """Signals whose class is known.

        JapaneseVowels  270 + 370, 12 channels, 7 to 29 steps, 9 classes: who says the vowels (Kudo et al. 1999)
        BasicMotions    40 + 40, 6 channels, 100 steps, 4 classes: accelerometer and gyroscope at the wrist
        GunPoint        50 + 150, 1 channel, 150 steps, 2 classes: a hand that draws a gun, or points

    Args:
        kind: One of the three.
        fallback: Without fetched signals, make 160 + 160 instead, from a fixed seed, of 4 classes, 3 channels and 12
            to 30 steps: each class oscillates at a speed of its own, in noise.
    Raises:
        DataError: The kind is none of them; the signals have not been fetched and there is to be no fallback; or
            their file is damaged.
    """
    if kind not in KINDS:
        raise DataError(f"signals {kind!r:.60}: there are none of this name.\n  Give one of {', '.join(KINDS)}.")
    if fallback and not available("sensors"):
        rng = np.random.default_rng(0)
        return _scaled("oscillations in noise", True, *(_oscillations(160, rng) for _ in range(2)))
    archive = store.open_archive("sensors")
    texts = [archive.read(f"{_FOLDER}/{kind}/{kind}_{part}.ts").decode("utf-8") for part in ("TRAIN", "TEST")]
    try:
        parts = [_read_ts(text) for text in texts]
    except ValueError as error:
        raise DataError(f"read {kind} of {archive.file!r}: {error}.\n  {archive.remedy}") from None
    return _scaled(kind, False, *parts)


_Labelled = tuple[list[Array], list[str]]


def _read_ts(text: str) -> _Labelled:
    """The .ts format: a line a signal, the channels with ":" between, values with ",", the class at the end."""
    body = text.partition("@data")[2].split()
    sequences, labels = [], []
    for line in body:
        signal, _, label = line.rpartition(":")
        sequences.append(np.array([[float(x) for x in channel.split(",")] for channel in signal.split(":")]).T)
        labels.append(label)
    if not body:
        raise ValueError("no signal after @data")
    return sequences, labels


def _scaled(source: str, synthetic: bool, training: _Labelled, test: _Labelled) -> Signals:
    steps = np.concatenate(training[0])
    mean, deviation = steps.mean(0), steps.std(0)
    deviation[deviation == 0] = 1  # a channel that never changes
    classes = tuple(sorted({*training[1]}))

    def part(labelled: _Labelled) -> Part:
        sequences = tuple(((signal - mean) / deviation).astype(np.float32) for signal in labelled[0])
        return Part(sequences, np.array([classes.index(label) for label in labelled[1]], np.int64))

    return Signals(source, synthetic, classes, part(training), part(test))


def _oscillations(count: int, rng: np.random.Generator) -> _Labelled:
    periods = {"slow": 16.0, "steady": 9.0, "quick": 6.0, "fast": 4.0}
    sequences, labels = [], []
    for n in range(count):
        label = [*periods][n % len(periods)]
        time = np.arange(int(rng.integers(12, 31)))[:, np.newaxis]
        phases = rng.uniform(0, 2 * np.pi, 3)
        clean = np.sin(2 * np.pi * time / periods[label] + phases)
        sequences.append(clean + rng.normal(0, 0.5, clean.shape))
        labels.append(label)
    return sequences, labels


def load_series(kind: str = "heart", *, fallback: bool = False) -> Series:
    """A long series of one number a step.

        heart          7,500 steps of an electrocardiogram, in mV: a beat every 300 steps or so
        seattle        1,461 days' highest temperature, 2012 to 2015, in °C: "as yesterday" is hard to beat
        san francisco  8,759 hours of a year's normal temperature, in °F: means over 30 years, so smooth that "as a
                       day ago" leaves 0.001 of the variance

    Args:
        kind: One of the three.
        fallback: Without the fetched series, make 8,760 hours of temperature from a fixed seed: a year's wave, a
            day's wave, and weather that lasts for days.
    Raises:
        DataError: The kind is none of them; the series has not been fetched and there is to be no fallback; or its
            file is damaged.
    """
    if kind not in SERIES:
        raise DataError(f"series {kind!r:.60}: there is none of this name.\n  Give one of {', '.join(SERIES)}.")
    archive, member, column, unit, source = SERIES[kind]
    if fallback and not available(archive):
        return _series("waves of a day and a year, with weather", True, _weather(), "°F")
    lines = store.open_archive(archive).read(member).decode("utf-8").splitlines()
    values = np.array([float(line.split(",")[column]) for line in lines[1:] if line])
    return _series(source, False, values, unit)


def _weather() -> Array:
    rng = np.random.default_rng(0)
    hours = np.arange(8760)
    weather = np.zeros(hours.size)
    kicks = rng.normal(0, 0.35, hours.size)
    for t in range(1, hours.size):
        weather[t] = 0.99 * weather[t - 1] + kicks[t]
    day = 5 * np.cos(2 * np.pi * (hours - 15) / 24)
    values: Array = 57 + 5 * np.cos(2 * np.pi * (hours / 24 - 250) / 365) + day + weather
    return values


def _series(source: str, synthetic: bool, values: Array, unit: str) -> Series:
    cut = len(values) * 4 // 5
    mean, deviation = float(values[:cut].mean()), float(values[:cut].std())
    scaled = ((values - mean) / deviation).astype(np.float32)
    return Series(source, synthetic, scaled[:cut], scaled[cut:], mean, deviation, unit)


def persistence(series: Array, lag: int = 1) -> float:
    """The mean squared error of "as it was `lag` steps before".

    >>> persistence(np.array([0.0, 1.0, 3.0]))
    2.5

    Args:
        series: (L,) or (L, C).
        lag: 1 is "as it is now"; 24 is "as yesterday" of an hourly series.
    Raises:
        ShapeError: The series has no more than `lag` steps, or the lag is less than 1.
    """
    if not 1 <= lag < len(series):
        raise ShapeError(
            f"persistence: {len(series)} steps with a lag of {lag}.\n  Give a lag from 1 to below the number of steps."
        )
    change = np.asarray(series[lag:], np.float64) - series[:-lag]
    return float((change * change).mean())


def windows(series: Array, steps: int, every: int = 1) -> tuple[Array, Array]:
    """Windows on a series, and what follows each step of them: one-step forecasting.

    >>> windows(np.array([1.0, 2.0, 3.0, 4.0]), steps=2)
    (array([[1., 2.],
           [2., 3.]]), array([[2., 3.],
           [3., 4.]]))

    Args:
        series: (L,).
        steps: T.
        every: How far the next window begins after this one.
    Returns:
        Inputs and targets, (T, N) each: targets[t] is what follows inputs[t]. Both are views of the series where that
        is possible.
    Raises:
        ShapeError: The series is not one-dimensional or shorter than T + 1, or T or `every` is less than 1.
    """
    if series.ndim != 1 or steps < 1 or every < 1 or len(series) < steps + 1:
        raise ShapeError(
            f"windows: a series of shape {series.shape} in windows of T={steps} steps, every {every}.\n"
            "  Give a series (L,) with L > T, and whole numbers from 1."
        )
    both = np.lib.stride_tricks.sliding_window_view(series, steps + 1)[::every].T  # T + 1, N
    return both[:-1], both[1:]


def majority(labels: Sequence[int] | Array) -> float:
    """The share of the most frequent label: the accuracy of who has not looked."""
    counts = np.bincount(labels)
    return float(counts.max() / counts.sum())
