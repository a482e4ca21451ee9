"""The error as a surface over two parameters, and gradient descents on it, with clipping and without."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import engine
from ..clip import clip_grad_norm
from ..engine import Array
from ..errors import MinigradError, ShapeError
from ..ops import sigmoid
from ..tensor import Tensor
from .record import Comparable

__all__ = ["Descent", "ErrorSurface", "descent", "error_surface", "wall"]

_POINTS = 1 << 14
"""So many points are computed at once: enough for NumPy, and their graph stays small."""


def wall(w: Any, b: Any, *, steps: int = 50, start: float = 0.5, target: float = 0.7) -> Any:
    """The error of a network of one unit that has to end at a target: flat on both sides of a steep wall.

        x_t = w sigmoid(x_{t-1}) + b        E = (sigmoid(x_T) - target)²

    Args:
        w, b: Weight and bias: numbers, arrays of one shape, or tensors of it; every element is a network of its own.
        steps, start, target: T, x_0 and where the unit shall end.
    Returns:
        E of each network, of that shape.

    A descent that hits the wall is chaotic: its next move multiplies the last bits of a float by the gradient's
    change. Of starts that differ by 1e-9 some are thrown off for good and others are not; with clipping all arrive.

    Source: Pascanu, Mikolov & Bengio 2013, section 2.3 and figure 6.
    """
    x: Any = np.asarray(start, np.float64)
    for _ in range(steps):
        x = w * sigmoid(x) + b
    missed = sigmoid(x) - target
    return missed * missed


@dataclass(frozen=True, eq=False)
class ErrorSurface(Comparable):
    """The error and the norm of its gradient on a grid of two parameters.

    Attributes:
        names: Of the two parameters: the one to the right, the one upwards.
        across: The values of the first, (X,), ascending.
        up: Those of the second, (Y,), ascending.
        errors: E, (Y, X); NaN or infinite where it is.
        gradients: ‖(dE/d first, dE/d second)‖, (Y, X).
    """

    names: tuple[str, str]
    across: Array
    up: Array
    errors: Array
    gradients: Array

    @property
    def steepest(self) -> tuple[int, int]:
        """Where the gradient is largest: the row in `up` and the column in `across`."""
        y, x = np.unravel_index(np.argmax(np.nan_to_num(self.gradients, nan=-1.0)), self.gradients.shape)
        return int(y), int(x)


def error_surface(function: Callable[..., Any], **axes: Any) -> ErrorSurface:
    """Compute an error and its gradient at every point of a grid, many points at once.

        error_surface(wall, w=np.linspace(4, 7, 301), b=np.linspace(-3.2, -1.8, 281))

    Args:
        function: From two tensors of one shape, given by name, to the errors, a tensor of that shape; element by
            element, as `wall` does it.
        axes: The values of the two parameters by name, each ascending: to the right, and upwards.
    Raises:
        MinigradError: There are not two parameters, or an axis is no ascending list of finite numbers.
        ShapeError: The function gave no error for each point.
        GradError: As `engine.grad`.

    Computed in float64 by minigrad's engine: the sum of all errors has the gradient of each point as its parts.
    """
    if len(axes) != 2:
        raise MinigradError(
            f"error_surface over {', '.join(axes) or 'nothing'}: a surface has two parameters.\n"
            "  Give two by name: w=np.linspace(4, 7, 301), b=np.linspace(-3.2, -1.8, 281)."
        )
    first, second = axes
    across, up = (_axis(name, values) for name, values in axes.items())
    rows = max(1, _POINTS // len(across))
    errors, gradients = np.empty((len(up), len(across))), np.empty((len(up), len(across)))
    for start in range(0, len(up), rows):
        some = slice(start, start + rows)
        grid = np.meshgrid(across, up[some])
        given = {name: Tensor(values, requires_grad=True) for name, values in zip((first, second), grid, strict=True)}
        with np.errstate(all="ignore"):
            found = _errors(function, given, "error_surface")
            slopes = engine.grad(found.sum(), list(given.values()))
            errors[some], gradients[some] = found.numpy(), np.hypot(*slopes)
    return ErrorSurface(names=(first, second), across=across, up=up, errors=errors, gradients=gradients)


def _axis(name: str, values: Any) -> Array:
    axis = np.array(values, np.float64)
    if axis.ndim != 1 or not len(axis) or not np.isfinite(axis).all() or np.any(np.diff(axis) <= 0):
        found = f"shape {axis.shape}" if axis.ndim != 1 else f"{len(axis)} of them"
        raise MinigradError(
            f"error_surface over {name}: its values ({found}) are no ascending list of finite numbers.\n"
            f"  Give {name}=np.linspace(lowest, highest, count)."
        )
    return axis


def _errors(function: Callable[..., Any], given: Mapping[str, Tensor], attempted: str) -> Tensor:
    found = function(**given)
    shape = next(iter(given.values())).shape
    if not isinstance(found, Tensor) or found.shape != shape:
        what = f"a tensor of shape {found.shape}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ShapeError(
            f"{attempted}: from {' and '.join(given)}, each of shape {shape}, the function made {what}.\n"
            f"  Compute with minigrad's operations, element by element, one error for each of {shape}."
        )
    return found


@dataclass(frozen=True, eq=False)
class Descent(Comparable):
    """The way of one gradient descent over a surface.

    Attributes:
        names: Of the two parameters.
        lr: The learning rate.
        clip_norm: The threshold of clipping by norm; None: there was none.
        path: The parameters before each update and after the last, (K + 1, 2). NaN once a number was not finite.
        errors: E there, (K + 1,).
        gradients: ‖∇E‖ there, before any clipping, (K + 1,).
        fired: Whether clipping made the gradient of each update smaller, (K,).
    """

    names: tuple[str, str]
    lr: float
    clip_norm: float | None
    path: Array
    errors: Array
    gradients: Array
    fired: Array

    @property
    def updates(self) -> int:
        """K, how many there were."""
        return len(self.fired)

    @property
    def moves(self) -> Array:
        """How far each update moved, (K,)."""
        moves: Array = np.hypot(*np.diff(self.path, axis=0).T)
        return moves

    @property
    def jump(self) -> int:
        """The update that moved farthest, from 0."""
        return int(np.argmax(np.nan_to_num(self.moves, nan=-1.0)))


def descent(
    function: Callable[..., Any], start: Mapping[str, float], *, lr: float, steps: int, clip_norm: float | None = None
) -> Descent:
    """Follow the gradient of an error downhill, as training does.

        p ← p - lr ∇E(p) min(1, C / ‖∇E(p)‖)

    Each gradient comes from backward through all of the function's ops, each clipping from `clip_grad_norm`.

    Args:
        function: As for `error_surface`; here with two tensors of one number each.
        start: The two parameters by name.
        lr: The learning rate.
        steps: How many updates.
        clip_norm: C; None: the gradient is followed as it is.
    Raises:
        MinigradError: There are not two finite parameters; lr, steps or clip_norm are not positive and finite.
        ShapeError, GradError: As `error_surface`.

    Source of the experiment: Pascanu, Mikolov & Bengio 2013, figure 6: what clipping does at a wall.
    """
    values = {name: float(value) for name, value in start.items()}
    if len(values) != 2 or not all(map(math.isfinite, values.values())):
        raise MinigradError(
            f"descent from {values}: a surface has two parameters, both finite.\n  Give two: {{'w': 5.5, 'b': -2.9}}."
        )
    sizes = [lr, *([] if clip_norm is None else [clip_norm])]
    if not all(size > 0 and math.isfinite(size) for size in sizes) or steps < 1:
        raise MinigradError(
            f"descent: lr={lr}, steps={steps}, clip_norm={clip_norm}.\n"
            "  Give positive, finite numbers and at least one step; no clipping is clip_norm=None."
        )
    path, errors, gradients = np.full((steps + 1, 2), np.nan), np.full(steps + 1, np.nan), np.full(steps + 1, np.nan)
    fired = np.zeros(steps, bool)
    given = {name: Tensor(np.float64(value), requires_grad=True) for name, value in values.items()}
    parameters = list(given.values())
    with np.errstate(all="ignore"):
        for k in range(steps + 1):
            path[k] = [p.item() for p in parameters]
            error = _errors(function, given, "descent")
            for p in parameters:
                p.grad = None
            error.backward()
            errors[k], gradients[k] = error.item(), math.hypot(*(float(p.grad or 0) for p in parameters))
            if k == steps or not math.isfinite(gradients[k]):
                break
            if clip_norm is not None:
                fired[k] = clip_grad_norm(parameters, clip_norm).fired
            for p in parameters:
                if p.grad is not None:
                    p.data = p.numpy() - lr * p.grad
    names = tuple(given)
    return Descent(
        names=(names[0], names[1]), lr=float(lr), clip_norm=None if clip_norm is None else float(clip_norm),
        path=path, errors=errors, gradients=gradients, fired=fired,
    )  # fmt: skip
