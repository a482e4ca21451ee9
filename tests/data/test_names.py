"""First names: read from the archive, divided for good, told from their stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import names, store
from minigrad.data.yardsticks import yardsticks
from minigrad.errors import DataError

FEMALE = b"MARY           2.629  2.629      1\nANN 1.0 3.0 2\nJO 1 1 1\nEVE 1 1 1\nIDA 1 1 1\nUMA 1 1 1\n"
MALE = b"JO             3.318  3.318      1\nBOB 2 5 2\nTIM 1 1 1\nMAX 1 1 1\nLEO 1 1 1\n"


def test_each_name_comes_once_in_small_letters(fetched: Any) -> None:
    fetched("names", {"names-0.3.0/names/dist.female.first": FEMALE, "names-0.3.0/names/dist.male.first": MALE})
    found = names.load(fallback=True)
    expected = {"mary", "ann", "jo", "eve", "ida", "uma", "bob", "tim", "max", "leo"}
    assert {*found.training, *found.test} == expected
    assert (len(found.training), len(found.test)) == (9, 1)
    assert not found.synthetic
    assert "census" in found.source


def test_ids_begin_and_end_each_name_with_a_line_end(cache: Path) -> None:
    found = names.load(fallback=True)
    assert len(found.characters) == 27
    (sequence,) = found.sequences(["abz"])
    assert sequence.tolist() == [0, 1, 2, 26, 0]
    assert sequence.dtype == np.int64
    assert found.stream(["a", "bc"]).tolist() == [0, 1, 0, 2, 3, 0]
    for wrong in ("Ann", "zoë", "a b", "한"):
        with pytest.raises(DataError, match="is none of their characters"):
            found.sequences([wrong])


def test_without_names_pythons_own_words_stand_in(cache: Path) -> None:
    assert not names.available()
    found = names.load(fallback=True)
    assert found.synthetic
    assert found.source == "words of pydoc_data.topics"
    assert len(found.training) > 1000
    assert not {*found.training} & {*found.test}
    assert all(name.isascii() and name.isalpha() and name.islower() for name in found.training + found.test)
    with pytest.raises(DataError, match="minigrad data fetch names"):
        names.load()


@pytest.mark.data
def test_the_true_names_are_those_that_were_counted() -> None:
    assert store.available("names")
    found = names.load()
    assert len({*found.training, *found.test}) == 5163
    assert (len(found.training), len(found.test)) == (4646, 517)
    assert max(map(len, found.training + found.test)) == 11
    measured = yardsticks(found.stream(found.training), found.stream(found.test), 27).named
    assert measured["uniform"] == pytest.approx(3.296, abs=0.001)
    assert measured["unigram"] == pytest.approx(2.814, abs=0.03)  # another tenth was held out for these figures, …
    assert measured["2-gram"] == pytest.approx(2.339, abs=0.03)
    assert 1.85 < measured["4-gram"] < 2.018  # … and counts were smoothed by a constant
