"""Check gradients against something that knows no rule: differences and the complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .engine import Array, grad
from .errors import DTypeError, GradError
from .tensor import Tensor

__all__ = ["central_difference", "complex_step", "gradcheck"]


def central_difference(function: Callable[..., Any], inputs: Sequence[Array], k: int, step: float = 1e-6) -> Array:
    """d function / d inputs[k] of a function with a scalar value, element by element.

        (f(x + e) - f(x - e)) / 2e

    Its error is of order e² from the formula and 1e-16 / e from rounding, so it reads 0 where a
    gradient has vanished; `complex_step` does not.
    """
    slopes = np.zeros_like(inputs[k])
    for place in np.ndindex(slopes.shape):
        ends = []
        for sign in (1, -1):
            moved = [np.array(x) for x in inputs]
            moved[k][place] += sign * step
            ends.append(float(function(*moved)))
        slopes[place] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def complex_step(function: Callable[..., Any], inputs: Sequence[Array], k: int, step: float = 1e-200) -> Array:
    """d function / d inputs[k] of an analytic plain-NumPy function with a scalar value.

        Im f(x + i e) / e

    No difference is formed, so it is exact to rounding, however small the gradient.

    Source: Squire & Trapp 1998.
    """
    slopes = np.zeros(inputs[k].shape)
    for place in np.ndindex(slopes.shape):
        moved: list[Array] = [np.array(x, dtype=complex) if j == k else np.array(x) for j, x in enumerate(inputs)]
        moved[k][place] += 1j * step
        slopes[place] = complex(function(*moved)).imag / step
    return slopes


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Any],
    *,
    order: int = 2,
    tolerance: float = 1e-6,
    step: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> None:
    """Compare the engine's gradients of a function of tensors with central differences.

    The output is multiplied by random numbers and summed, so every element of it counts. For the
    second order the gradients are multiplied by random numbers, summed and checked the same way.

    Args:
        function: From tensors to a tensor.
        inputs: float64 arrays.
        order: 1 or 2: how many derivatives to check.
        tolerance: The largest difference, relative to the larger of 1 and the gradient itself.
        step: The e of the difference.
        rng: Where the random numbers come from; None: always the same ones.
    Raises:
        GradError: A gradient differs; the message says which input and where.
        DTypeError: An input is not float64.
    """
    arrays = [np.array(x) for x in inputs]
    for k, x in enumerate(arrays):
        if x.dtype != np.float64:
            raise DTypeError(
                f"gradcheck: input {k} is {x.dtype}; a difference needs float64's digits.\n  Give float64 arrays."
            )
    rng = np.random.default_rng(0) if rng is None else rng
    weights = rng.standard_normal(function(*(Tensor(x) for x in arrays)).shape)

    def projected(*tensors: Tensor) -> Tensor:
        return (function(*tensors) * weights).sum()

    _compare(projected, arrays, 1, tolerance, step)
    if order > 1:
        directions = [rng.standard_normal(x.shape) for x in arrays]

        def slope(*tensors: Tensor) -> Tensor:
            tensors = tuple(t if t.requires_grad else Tensor(t, requires_grad=True) for t in tensors)
            total = projected(*tensors)
            if not total.requires_grad:
                return total * 0.0
            gradients = grad(total, tensors, create_graph=True)
            parts = [(g * d).sum() for g, d in zip(gradients, directions, strict=True)]
            total_slope: Tensor = sum(parts[1:], parts[0])
            return total_slope

        _compare(slope, arrays, 2, tolerance, step)


def _compare(
    function: Callable[..., Tensor], arrays: list[Array], order: int, tolerance: float, step: float
) -> None:
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    output = function(*tensors)
    found = grad(output, tensors) if output.requires_grad else [np.zeros_like(x) for x in arrays]
    for k, (ours, x) in enumerate(zip(found, arrays, strict=True)):
        expected = central_difference(lambda *moved: function(*map(Tensor, moved)).item(), arrays, k, step)
        error = np.abs(ours - expected) / np.maximum(1, np.abs(expected))
        if x.size and not np.max(error) <= tolerance:
            place = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), x.shape)
            raise GradError(
                f"gradcheck: derivative {order} with respect to input {k} at {tuple(map(int, place))}: the rule"
                f" gives {ours[place]:.10g}, the difference {expected[place]:.10g}.\n"
                "  One of the two is wrong: mend the rule, or move the input away from a kink."
            )
