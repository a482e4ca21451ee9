"""One division of a data set into parts, the same on every machine."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence

from ..errors import DataError

__all__ = ["fixed_split"]


def fixed_split(contents: Sequence[bytes], shares: Sequence[float]) -> list[list[int]]:
    """Divide n elements by what they are, not by where they stand: no seed, no order, no library decides.

    They are put in the order of their SHA-256 (equal ones as they came), which is as good as shuffled, and cut.
    Equal contents always fall into one part, so nothing that was trained on is tested.

    >>> fixed_split([b"ann", b"bob", b"eve", b"ann", b"joe"], [0.6, 0.4])
    [[0, 3, 4], [1, 2]]

    Args:
        contents: What each element consists of.
        shares: Of the n elements in each part, of sum 1; n times the sum so far is rounded down.
    Returns:
        The places of each part's elements in `contents`.
    Raises:
        DataError: The shares do not sum to 1, one is not positive, or a part would be empty.
    """
    if min(shares, default=0) <= 0 or not math.isclose(sum(shares), 1):
        raise DataError(f"split: the shares are {[*shares]}.\n  Give positive ones of sum 1.")
    checksums = [hashlib.sha256(content).digest() for content in contents]
    order = sorted(range(len(contents)), key=checksums.__getitem__)
    cuts = [0]
    for share in itertools.accumulate(shares):
        cut = len(order) if math.isclose(share, 1) else math.floor(share * len(order) + 1e-9)
        while 0 < cut < len(order) and checksums[order[cut]] == checksums[order[cut - 1]]:
            cut += 1
        cuts.append(cut)
    parts = [order[start:end] for start, end in itertools.pairwise(cuts)]
    if not all(parts):
        found = [len(part) for part in parts]
        raise DataError(f"split: {len(contents)} elements make parts of {found}.\n  Give more elements.")
    return parts
