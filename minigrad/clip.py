"""Gradient clipping, and what it did: norms before and after, coefficient, angle."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .engine import Array
from .errors import GradError, MinigradError, NonFiniteError
from .tensor import Tensor

__all__ = ["Clipping", "angle", "clip_grad_norm", "clip_grad_value", "names_of", "norm_of"]


@dataclass(frozen=True, slots=True)
class Clipping:
    """What one clipping did to the gradient of all parameters taken as one long vector.

    Attributes:
        kind: "norm" or "value".
        threshold: C.
        norm_before, norm_after: L2 norms over all elements of all parameters.
        coefficient: What every element was multiplied by (by norm), or norm_after / norm_before.
        angle: Between the two vectors, in degrees; clipping by norm leaves it 0.
        fired: Whether anything changed.
        before, after: The same norms, one a parameter.
        angles: The angle, one a parameter.
    """

    kind: str
    threshold: float
    norm_before: float
    norm_after: float
    coefficient: float
    angle: float
    fired: bool
    before: dict[str, float]
    after: dict[str, float]
    angles: dict[str, float]


def norm_of(array: Any) -> float:
    """The L2 norm of all elements, in float64 and scaled: exact where squares would over- or underflow."""
    x = np.asarray(array, np.float64).ravel()
    square = float(np.vdot(x, x))  # which, unlike x @ x, does not warn when it overflows
    if 1e-250 < square < 1e250:  # no square left the range of float64
        return math.sqrt(square)
    scale = float(np.max(np.abs(x), initial=0.0))
    if scale == 0 or not math.isfinite(scale):
        return scale
    x = x / scale
    return scale * math.sqrt(float(x @ x))


def angle(before: list[Array], after: list[Array]) -> float:
    """The angle between two long vectors, in degrees, exact for small ones too (Kahan's formula)."""
    a = np.concatenate([np.asarray(x, np.float64).ravel() for x in before])
    b = np.concatenate([np.asarray(x, np.float64).ravel() for x in after])
    size_a, size_b = norm_of(a), norm_of(b)
    if not (size_a and size_b and math.isfinite(size_a) and math.isfinite(size_b)):
        return 0.0 if size_a == size_b == 0 else math.nan
    a, b = a / size_a, b / size_b
    return math.degrees(2 * math.atan2(norm_of(a - b), norm_of(a + b)))


def names_of(parameters: Iterable[Tensor]) -> list[str]:
    """One name a parameter; those without one, or with one that is taken, are numbered."""
    names: list[str] = []
    for k, p in enumerate(parameters):
        names.append(f"parameter {k}" if not p.name else f"{p.name} (parameter {k})" if p.name in names else p.name)
    return names


def _gradients(parameters: Iterable[Tensor], threshold: float, attempted: str) -> dict[str, Tensor]:
    if not (threshold > 0 and math.isfinite(threshold)):
        raise MinigradError(f"{attempted}: the threshold is {threshold}.\n  Give a positive, finite number.")
    listed = list({p.created: p for p in parameters}.values())  # a shared one counts once
    found = {name: p for name, p in zip(names_of(listed), listed, strict=True) if p.grad is not None}
    if not found:
        raise GradError(f"{attempted}: no parameter has a gradient.\n  Call backward() first.")
    return found


def _clip(kind: str, parameters: Iterable[Tensor], threshold: float, error_if_nonfinite: bool) -> Clipping:
    attempted = f"clip_grad_{kind}"
    by_name = _gradients(parameters, threshold, attempted)
    old: dict[str, Array] = {name: p.grad for name, p in by_name.items() if p.grad is not None}
    before = {name: norm_of(g) for name, g in old.items()}
    total = math.hypot(*before.values())
    if error_if_nonfinite and not math.isfinite(total):
        culprit = next((name for name, norm in before.items() if not math.isfinite(norm)), "all parameters together")
        raise NonFiniteError(
            f"{attempted}: the gradient of {culprit} is not finite, and clipping cannot mend that.\n"
            "  Lower the learning rate or the initial weights, or pass error_if_nonfinite=False."
        )
    if kind == "norm":
        coefficient = 1.0 if total <= threshold else threshold / total  # NaN where the total is
        with np.errstate(invalid="ignore"):  # 0 * inf, where that was asked for
            new = {name: g * g.dtype.type(coefficient) if coefficient != 1 else g for name, g in old.items()}
    else:
        new = {
            name: g if np.max(np.abs(g), initial=0) <= threshold else np.clip(g, -threshold, threshold)
            for name, g in old.items()
        }
    fired = any(not np.array_equal(new[name], old[name], equal_nan=True) for name in old)
    for name, parameter in by_name.items():
        parameter.grad = new[name]
    after = {name: norm_of(g) for name, g in new.items()}
    norm_after = math.hypot(*after.values())
    if kind == "value":
        coefficient = norm_after / total if total else 1.0
    exact = kind == "norm" or not fired  # one factor for all elements turns nothing
    return Clipping(
        kind=kind, threshold=threshold, norm_before=total, norm_after=norm_after, coefficient=coefficient,
        angle=0.0 if exact else angle(list(old.values()), list(new.values())), fired=fired, before=before,
        after=after, angles={name: 0.0 if exact else angle([old[name]], [new[name]]) for name in old},
    )  # fmt: skip


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float, *, error_if_nonfinite: bool = True) -> Clipping:
    """Multiply all gradients by min(1, C / ‖g‖), ‖g‖ over all parameters together.

    The direction stays, so it tames an explosion; a ratio between two gradients stays too, so it
    does not cure vanishing.

    Args:
        parameters: Leaves with gradients; those without are left alone.
        max_norm: C.
        error_if_nonfinite: Refuse a gradient with NaN or infinity.
    Raises:
        NonFiniteError: A gradient is not finite.
        GradError, MinigradError: There is no gradient; C is not positive and finite.

    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    """
    return _clip("norm", parameters, max_norm, error_if_nonfinite)


def clip_grad_value(parameters: Iterable[Tensor], clip_value: float, *, error_if_nonfinite: bool = True) -> Clipping:
    """Limit every element of every gradient to [-C, C]; the direction changes.

    Args:
        parameters: Leaves with gradients; those without are left alone.
        clip_value: C.
        error_if_nonfinite: Refuse a gradient with NaN or infinity.
    Raises:
        NonFiniteError: A gradient is not finite.
        GradError, MinigradError: There is no gradient; C is not positive and finite.

    Source: Mikolov 2012; Karpathy's min-char-rnn clips so, at 5.
    """
    return _clip("value", parameters, clip_value, error_if_nonfinite)
