"""Initialisers by name: each fills a weight of shape (rows, columns) from a random generator.

A stacked weight, such as the LSTM's (4H, H), is filled gate by gate: every gate's block is a matrix
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..engine import Array
from ..errors import MinigradError

__all__ = ["INITIALISERS", "generator", "initialise"]

Initialiser = Callable[[np.random.Generator, int, int], Array]
INITIALISERS: dict[str, Initialiser] = {}


def _named(make: Initialiser) -> Initialiser:
    INITIALISERS[make.__name__] = make
    return make


@_named
def uniform(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """U(-1/sqrt(rows), 1/sqrt(rows)), rows = H for a gate's block. Source: PyTorch's recurrent layers."""
    return rng.uniform(-1, 1, (rows, columns)) / math.sqrt(rows)


@_named
def xavier_uniform(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """U(-a, a) with a = sqrt(6 / (rows + columns)). Source: Glorot & Bengio 2010, equation 16."""
    return rng.uniform(-1, 1, (rows, columns)) * math.sqrt(6 / (rows + columns))


@_named
def normal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """N(0, 1/columns): a linear map keeps the length of a vector on average. Source: LeCun et al. 1998."""
    return rng.standard_normal((rows, columns)) / math.sqrt(columns)


@_named
def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A random matrix with orthonormal rows or columns. Source: Saxe et al. 2013."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # uniform over all such matrices (Mezzadri 2007)
    return q if rows >= columns else q.T


@_named
def identity(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Ones on the diagonal. Source: Le et al. 2015, the IRNN (with relu)."""
    return np.eye(rows, columns)


@_named
def zeros(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Zeros."""
    return np.zeros((rows, columns))


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """The generator given, or a fresh one, seeded by the system."""
    return np.random.default_rng() if rng is None else rng


def initialise(name: str, rng: np.random.Generator, *, blocks: int, rows: int, columns: int) -> Array:
    """`blocks` matrices (rows, columns) on top of each other, each filled by the initialiser of this name.

    Raises:
        MinigradError: There is no initialiser of this name.
    """
    if name not in INITIALISERS:
        raise MinigradError(f"There is no initialiser {name!r}.\n  Choose one of {', '.join(INITIALISERS)}.")
    make = INITIALISERS[name]
    return np.concatenate([make(rng, rows, columns) for _ in range(blocks)])
