"""One division for everybody: by content, in the shares asked for, equal things together."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data.split import fixed_split
from minigrad.errors import DataError


@given(st.lists(st.binary(max_size=8), min_size=5, unique=True), st.sampled_from([(0.8, 0.2), (0.6, 0.4)]))
def test_every_element_falls_into_one_part_of_the_right_size(contents: list[bytes], shares: Sequence[float]) -> None:
    parts = fixed_split(contents, shares)
    assert sorted(itertools.chain(*parts)) == [*range(len(contents))]
    assert len(parts[0]) == int(shares[0] * len(contents) + 1e-9)


@given(st.lists(st.binary(min_size=1, max_size=1), min_size=10), st.randoms(use_true_random=False))
def test_equal_contents_stay_together_and_their_order_does_not_matter(contents: list[bytes], rng: object) -> None:
    contents += [b"a", b"b"]
    try:
        parts = fixed_split(contents, (0.5, 0.5))
    except DataError:  # nearly all of them are equal
        assert max(map(contents.count, contents)) >= len(contents) // 2
        return
    left, right = ({contents[n] for n in part} for part in parts)
    assert not left & right
    turned = fixed_split(contents[::-1], (0.5, 0.5))
    assert [sorted(contents[::-1][n] for n in part) for part in turned] == [
        sorted(contents[n] for n in part) for part in parts
    ]


def test_363_elements_divide_into_217_73_73() -> None:
    parts = fixed_split([str(n).encode() for n in range(363)], (0.6, 0.2, 0.2))
    assert [*map(len, parts)] == [217, 73, 73]


def test_the_order_is_that_of_the_checksum_and_mixes_what_was_sorted() -> None:
    contents = [f"{n:05}".encode() for n in range(2000)]
    left, right = fixed_split(contents, (0.5, 0.5))
    checksums = [hashlib.sha256(content).hexdigest() for content in contents]
    assert left + right == sorted(range(2000), key=checksums.__getitem__)
    assert abs(np.mean(left) - 999.5) < 60  # 4.6 deviations of the mean of 1,000 drawn from 2,000
    assert abs(np.corrcoef(np.arange(1000), left)[0, 1]) < 0.15


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.6), (1.5, -0.5), (1.0, 0.0)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"the shares are .*\n  Give positive ones of sum 1\."):
        fixed_split([b"a", b"b"], shares)


@pytest.mark.parametrize("contents", [[], [b"a"], [b"a"] * 10])
def test_a_part_without_elements_is_refused(contents: list[bytes]) -> None:
    with pytest.raises(DataError, match="Give more elements"):
        fixed_split(contents, (0.8, 0.2))
