"""Losses. Each marks its elements, so that a Record can say what every time step contributed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .. import ops
from ..engine import value
from ..errors import MinigradError, ShapeError
from ..scope import Role, named_scope
from ..tensor import Tensor

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mse_loss"]


def _reduced(elements: Tensor, reduction: str, count: float) -> Tensor:
    elements.role = Role("loss", "loss")
    if reduction == "none":
        return elements
    if reduction not in ("mean", "sum"):
        raise MinigradError(f"reduction={reduction!r}.\n  Choose 'mean', 'sum' or 'none'.")
    if reduction == "mean" and not count:
        raise MinigradError("The mean of no elements is undefined: every target is ignored, or there is none.")
    return elements.sum() if reduction == "sum" else elements.sum() * (1 / count)


def _same_shape(attempted: str, prediction: Tensor, target: Any) -> Tensor:
    wanted = target if isinstance(target, Tensor) else Tensor(np.asarray(target, prediction.dtype))
    if wanted.shape != prediction.shape:
        raise ShapeError(
            f"{attempted}: the prediction has shape {prediction.shape}, the target {wanted.shape}.\n"
            "  Give one target for each predicted number: the shapes must be equal."
        )
    return wanted


def cross_entropy(logits: Tensor, target: Any, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[target], in nats: how surprised the model was.

    Args:
        logits: Scores of V classes on the last axis, (…, V); exact for any size of score.
        target: The right class of each, whole numbers of shape (…).
        ignore_index: A target that counts for nothing.
        reduction: 'mean' over the targets that count, 'sum', or 'none' for shape (…).
    Raises:
        ShapeError: The shapes differ, or a target is no class.
        MinigradError: Nothing counts, or the reduction is unknown.
    """
    target = np.asarray(value(target))
    if target.dtype.kind not in "iu" or target.shape != logits.shape[:-1]:
        raise ShapeError(
            f"cross_entropy: logits have shape {logits.shape}, the target is {target.dtype} {target.shape}.\n"
            f"  Give whole numbers of shape {logits.shape[:-1]}: the right class of each."
        )
    counted = target != ignore_index
    classes = logits.shape[-1]
    if target[counted].size and not 0 <= target[counted].min() <= target[counted].max() < classes:
        raise ShapeError(
            f"cross_entropy: targets run from {target[counted].min()} to {target[counted].max()}, the logits have"
            f" {classes} classes.\n  Give targets from 0 to {classes - 1}, or ignore_index={ignore_index}."
        )
    with named_scope("cross entropy"):
        chosen = (*np.indices(target.shape), np.where(counted, target, 0))
        elements = -ops.log_softmax(logits, axis=-1)[chosen]
        if not counted.all():
            elements = ops.where(counted, elements, 0.0)
        return _reduced(elements, reduction, int(counted.sum()))


def mse_loss(prediction: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """(prediction - target)**2, element by element.

    Raises:
        ShapeError: The shapes differ.
        MinigradError: There is no element to average, or the reduction is unknown.
    """
    target = _same_shape("mse_loss", prediction, target)
    with named_scope("squared error"):
        difference = prediction - target
        return _reduced(difference * difference, reduction, difference.size)


def binary_cross_entropy_with_logits(logits: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """-(y log s + (1 - y) log(1 - s)) with s = sigmoid(logits), written so that nothing overflows.

    Args:
        logits: One score a yes-or-no question, of any shape.
        target: y, 0 or 1 or a probability, of the same shape.
        reduction: 'mean', 'sum' or 'none'.
    Raises:
        ShapeError: The shapes differ.
        MinigradError: There is no element to average, or the reduction is unknown.
    """
    target = _same_shape("binary_cross_entropy_with_logits", logits, target)
    with named_scope("binary cross entropy"):
        return _reduced(cast(Tensor, ops.softplus(logits)) - logits * target, reduction, logits.size)
