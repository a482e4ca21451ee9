"""What every contender computes, and the check that all of them compute the same."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GATES", "Disagreement", "Problem", "Result", "Size", "agree", "made", "optional"]

Array = npt.NDArray[Any]

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
TOLERANCE = 1e-3
"""Of float32 sums over ten thousand steps, relative to the largest element."""


class Size(NamedTuple):
    """T steps, N samples, C features, H hidden features."""

    steps: int
    batch: int
    features: int
    hidden: int


@dataclass(frozen=True, eq=False)
class Problem:
    """One training step of one layer: forward, the sum of squares of every h_t, backward to all weights.

    Attributes:
        cell: "RNN", "LSTM" or "GRU".
        size: T, N, C, H.
        inputs: (T, N, C), float32.
        weights: weight_ih (G*H, C), weight_hh (G*H, H), bias_ih and bias_hh (G*H), in PyTorch's layout.
    """

    cell: str
    size: Size
    inputs: Array
    weights: tuple[Array, ...]


class Result(NamedTuple):
    """What a training step found.

    Attributes:
        loss: Its value.
        gradients: dL/d each weight, in the order of `Problem.weights`: whatever np.asarray takes.
        norms: ‖dL/dh_t‖ a sample, (T, N), where that was asked for.
    """

    loss: float
    gradients: Sequence[Any]
    norms: Any = None


class Disagreement(Exception):
    """Contenders do not compute the same: their times say nothing."""


def made(cell: str, size: Size) -> Problem:
    """The problem of this size, the same every time; weights from U(-1/sqrt(H), 1/sqrt(H))."""
    rng = np.random.default_rng(0)
    rows, bound = GATES[cell] * size.hidden, 1 / np.sqrt(size.hidden)
    shapes: list[tuple[int, ...]] = [(rows, size.features), (rows, size.hidden), (rows,), (rows,)]
    return Problem(
        cell, size,
        rng.standard_normal((size.steps, size.batch, size.features)).astype(np.float32),
        tuple(rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes),
    )  # fmt: skip


def agree(results: Mapping[str, Result], what: str) -> None:
    """Compare all results with the first one.

    Raises:
        Disagreement: A loss, a gradient or a norm is another one.
    """
    (first, expected), *others = results.items()
    for name, result in others:
        pairs = {"the loss": (result.loss, expected.loss)}
        pairs.update(
            {f"gradient {k}": pair for k, pair in enumerate(zip(result.gradients, expected.gradients, strict=True))}
        )
        if result.norms is not None and expected.norms is not None:
            pairs["the norms of dL/dh_t"] = (result.norms, expected.norms)
        for quantity, (found, wanted) in pairs.items():
            a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
            largest = np.max(np.abs(b))
            if a.shape != b.shape or not np.max(np.abs(a - b)) <= TOLERANCE * largest:
                raise Disagreement(
                    f"{what}: {quantity} of {name} is not that of {first}:\n"
                    f"  shapes {a.shape} and {b.shape}, largest {np.max(np.abs(a)):.6g} and {largest:.6g}.\n"
                    "  Give both the same problem before measuring."
                )


def optional(name: str) -> ModuleType | None:
    """A library that may not be installed: None then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it deprecates is its own affair
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
