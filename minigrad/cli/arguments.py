"""What an argument of the command line may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["number", "positive", "whole"]


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    span = f"from {low}" + (f" to {high}" if high else "")

    def parse(given: str) -> int:
        try:
            number = int(given)
        except ValueError:
            number = low - 1
        if number < low or (high and number > high):
            raise argparse.ArgumentTypeError(f"found {given[:40]!r}; give a whole number {span}")
        return number

    return parse


def positive(given: str) -> float:
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"found {given[:40]!r}; give a positive, finite number")
    return number


def number(low: float, below: float) -> Callable[[str], float]:
    """A number from `low` up to, but not including, `below`."""

    def parse(given: str) -> float:
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not low <= found < below:
            span = f"from {low:g}" + (f" to below {below:g}" if below < math.inf else "")
            raise argparse.ArgumentTypeError(f"found {given[:40]!r}; give a finite number {span}")
        return found

    return parse
