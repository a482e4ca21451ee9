"""Layers without time: Linear, Embedding, Dropout."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .. import ops
from ..engine import value
from ..errors import MinigradError
from ..tensor import Tensor
from .init import generator
from .module import Module, Parameter

__all__ = ["Dropout", "Embedding", "Linear", "dropout"]


class Linear(Module):
    """y = x @ weight.T + bias, over the last axis.

    Parameters: weight (K, C), bias (K), both from U(-1/sqrt(C), 1/sqrt(C)) as in PyTorch.

    Args:
        in_features: C.
        out_features: K.
        bias: Whether there is a bias.
        rng: Where the initial values come from; None: a fresh generator.
        dtype: np.float32 or np.float64.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *,
        rng: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        if in_features < 1 or out_features < 1:
            raise MinigradError(f"Linear: {in_features} to {out_features} features.\n  Both count from 1.")
        rng = generator(rng)
        bound = 1 / np.sqrt(in_features)
        self.weight = Parameter(rng.uniform(-bound, bound, (out_features, in_features)).astype(dtype))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype(dtype)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """From (…, C) to (…, K)."""
        return cast(Tensor, ops.linear(x, self.weight, self.bias))


class Embedding(Module):
    """One row of the weight (V, D) for every whole number; values from N(0, 1) as in PyTorch.

    Args:
        num_embeddings: V.
        embedding_dim: D.
        rng: Where the initial values come from; None: a fresh generator.
        dtype: np.float32 or np.float64.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, rng: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.weight = Parameter(generator(rng).standard_normal((num_embeddings, embedding_dim)).astype(dtype))

    def forward(self, index: Any) -> Tensor:
        """From whole numbers of any shape to that shape + (D,)."""
        return cast(Tensor, ops.embedding(self.weight, index=np.asarray(value(index))))


def probability(p: float) -> float:
    if not 0 <= p < 1:
        raise MinigradError(f"dropout: p is {p}.\n  Give the probability of dropping an element, 0 <= p < 1.")
    return p


def dropout(x: Tensor, p: float, *, rng: np.random.Generator | None = None) -> Tensor:
    """Set each element to 0 with probability p and scale the others by 1 / (1 - p).

    Raises:
        MinigradError: p is not in [0, 1).
    """
    mask = (generator(rng).random(x.shape) >= probability(p)) / (1 - p)
    return cast(Tensor, ops.dropout(x, mask=mask.astype(x.dtype)))


class Dropout(Module):
    """`dropout` while training, nothing at evaluation.

    Args:
        p: The probability of dropping an element.
        rng: Where the masks come from; None: a fresh generator.
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | None = None) -> None:
        self.p, self.rng = probability(p), generator(rng)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, rng=self.rng) if self.training and self.p else x
