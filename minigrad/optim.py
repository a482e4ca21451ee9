"""Optimizers: from gradients to new parameter values. Each rebinds `parameter.data`, so a graph recorded
before the update keeps the values it was computed from.

A schedule is a pure function from the number of an update, from 0, to a factor of the learning rate. It holds
no state, so whoever knows the number of the update goes on where another stopped:

    schedule = optim.cosine_decay(10_000, warmup=500)
    optimizer.lr = 1e-3 * schedule(optimizer.steps)
    optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .clip import names_of, norm_of
from .engine import Array, shapes
from .errors import GradError, MinigradError, ShapeError
from .tensor import Tensor

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "RMSprop", "Schedule", "Update", "constant", "cosine_decay",
           "inverse_square_root_decay", "step_decay"]  # fmt: skip

Schedule: TypeAlias = Callable[[int], float]


def _demand(holds: bool, found: str, remedy: str) -> None:
    if not holds:
        raise MinigradError(f"{found}.\n  {remedy}")


class Update(NamedTuple):
    """What one step changed, by parameter name.

    Attributes:
        sizes: The L2 norm of what was subtracted, over all elements of the parameter.
        weights: ‖old‖. sizes / weights is the update ratio; about 1e-3 is healthy.
    """

    sizes: dict[str, float]
    weights: dict[str, float]


class Optimizer:
    """Parameters, a learning rate, and one slot a parameter for each running sum or average.

    A subclass names its slots and defines `change`, which may write to its own slots in place.

    Args:
        parameters: The leaves to update, in a fixed order.
        lr: The learning rate.
    Attributes:
        steps: How often `step` was called: the number of the next update, for a schedule.
        updates: How many of them each parameter had a gradient for.
    Raises:
        MinigradError: There is no parameter, one is no leaf, or lr is not positive and finite.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        kind, listed = type(self).__name__, list(parameters)
        for k, p in enumerate(listed):
            found = p.describe() if isinstance(p, Tensor) else type(p).__name__
            _demand(isinstance(p, Tensor) and p.op is None, f"{kind}: parameter {k} is no leaf, but {found}",
                    "Give model.parameters().")  # fmt: skip
        _demand(bool(listed), f"{kind}: no parameters to update", "Give model.parameters().")
        _demand(0 < lr < math.inf, f"{kind}: lr={lr}", "Give a positive, finite learning rate.")
        self.parameters = list({p.created: p for p in listed}.values())  # a shared one moves once
        self.lr = lr
        self.steps = 0
        self.updates = [0] * len(self.parameters)
        self.state: dict[str, list[Array]] = {
            slot: [np.zeros_like(p.data) for p in self.parameters] for slot in self.slots
        }

    @property
    def lr(self) -> float:
        """The learning rate. Assigning gives a new one; a schedule may end at 0."""
        return self._lr

    @lr.setter
    def lr(self, new: float) -> None:
        _demand(0 <= new < math.inf, f"{type(self).__name__}.lr = {new}", "Give a finite learning rate, at least 0.")
        self._lr = float(new)  # NumPy's scalar would turn float32 into float64

    @cached_property
    def names(self) -> list[str]:
        """One name a parameter, as they are at the first step."""
        return names_of(self.parameters)

    def zero_grad(self) -> None:
        """Forget every parameter's gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, *, measure: bool = True) -> Update:
        """Update every parameter that has a gradient, and say how far each moved.

        Args:
            measure: Form the norms of the Update. They take up to half the time of this step where arrays are
                small; without them the Update is empty.
        Raises:
            GradError: No parameter has a gradient.
            ShapeError: A gradient has another shape than its parameter. Then nothing has changed.
        """
        moving = [(k, p, p.grad) for k, p in enumerate(self.parameters) if p.grad is not None]
        if not moving:
            raise GradError(f"{type(self).__name__}.step(): no parameter has a gradient.\n  Call backward() first.")
        for k, parameter, gradient in moving:
            if gradient.shape != parameter.shape:
                raise ShapeError(
                    f"{type(self).__name__}.step(): {self.names[k]} has shape {parameter.shape}, its gradient"
                    f" {gradient.shape}.\n  Give a gradient of the parameter's own shape, as backward() leaves it."
                )
        self.steps += 1
        sizes: dict[str, float] = {}
        weights: dict[str, float] = {}
        for k, parameter, gradient in moving:
            self.updates[k] += 1
            value = parameter.data
            change = self.change(k, value, gradient)
            if measure:
                sizes[self.names[k]], weights[self.names[k]] = norm_of(change), norm_of(value)
            new = np.subtract(value, change, out=np.empty_like(value))
            new.setflags(write=False)
            parameter.value = new  # as `parameter.data = new`, without a copy: this array is nobody else's
        return Update(sizes, weights)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        """What to subtract from the parameter number k; each optimizer defines it."""
        raise MinigradError(f"{type(self).__name__} defines no change().\n  Define change(self, k, value, gradient).")

    def summed(self, slot: str, k: int, keep: float, new: Array) -> Array:
        """slot = keep * slot + new, for parameter k, in place."""
        total = self.state[slot][k]
        total *= keep
        total += new
        return total

    def averaged(self, slot: str, k: int, keep: float, new: Array) -> Array:
        """slot = keep * slot + (1 - keep) * new, for parameter k, in place."""
        return self.summed(slot, k, keep, (1 - keep) * new)

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step, as plain data: a word, numbers, and copies of the arrays in every slot.

        Settings such as momentum are given when an optimizer is built, and stand in no state.
        """
        return {
            "kind": type(self).__name__,
            "lr": self.lr,
            "steps": self.steps,
            "updates": list(self.updates),
            **{slot: [a.copy() for a in arrays] for slot, arrays in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same kind of optimizer on the same parameters. Arrays are copied.

        Raises:
            MinigradError: The state is of another kind, a number or array in it does not fit or is not finite.
                Then nothing has changed.
        """
        if misfit := next(self._misfits(state), None):
            raise MinigradError(
                f"{type(self).__name__}.load_state_dict: {misfit}.\n  Load what state_dict() gave, of the same kind of"
                " optimizer with the same settings on a model of the same sizes."
            )
        self.lr, self.steps, self.updates = state["lr"], state["steps"], list(state["updates"])
        self.state = {slot: [np.array(a) for a in state[slot]] for slot in self.slots}

    def _misfits(self, state: Any) -> Iterator[str]:
        """What keeps this from being a state of this optimizer; each line relies on those before it."""
        if not isinstance(state, Mapping) or state.get("kind") != type(self).__name__:
            yield f"found {state.get('kind')!r} as its kind" if isinstance(state, Mapping) else f"found {state!r:.60}"
        wanted = {"kind", "lr", "steps", "updates", *self.slots}
        if state.keys() != wanted:
            missing, unknown = (sorted(map(str, some)) for some in (wanted - state.keys(), state.keys() - wanted))
            yield f"missing {missing or 'none'}, unknown {unknown or 'none'}"
        lr, steps, updates = state["lr"], state["steps"], state["updates"]
        if type(lr) not in (int, float) or not 0 <= lr < math.inf:
            yield f"lr is {lr!r:.60}"
        if type(steps) is not int or steps < 0:
            yield f"steps is {steps!r:.60}"
        counts = updates if isinstance(updates, list) else []
        if len(counts) != len(self.parameters) or not all(type(n) is int and 0 <= n <= steps for n in counts):
            yield f"updates is {updates!r:.60}, for {len(self.parameters)} parameters and {steps} steps"
        for slot in self.slots:
            arrays = state[slot]
            if not isinstance(arrays, list) or len(arrays) != len(self.parameters):
                yield f"{slot!r} is no list of {len(self.parameters)} arrays, one a parameter"
            for name, a, p in zip(names_of(self.parameters), arrays, self.parameters, strict=True):
                if not isinstance(a, np.ndarray) or (a.shape, a.dtype) != (p.shape, p.dtype):
                    yield f"{slot!r} of {name} is {shapes([a]):.60}, the parameter {shapes([p.data])}"
                if not np.isfinite(a).all():
                    yield f"{slot!r} of {name} is not finite"


class SGD(Optimizer):
    """Gradient descent with momentum, as in PyTorch.

        v = momentum * v + g        p = p - lr * v

    Args:
        parameters, lr: See `Optimizer`.
        momentum: How much of the last direction stays, below 1; 0 is plain gradient descent.
    Raises:
        MinigradError: momentum is not from 0 to below 1; see `Optimizer`.

    Source: Sutskever et al. 2013, in PyTorch's form (the learning rate multiplies the velocity).
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0) -> None:
        _demand(0 <= momentum < 1, f"SGD: momentum={momentum}", "Give at least 0 and less than 1.")
        self.momentum = float(momentum)
        self.slots = ("velocity",) if momentum else ()
        super().__init__(parameters, lr)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        return self.lr * (self.summed("velocity", k, self.momentum, gradient) if self.momentum else gradient)


class Adagrad(Optimizer):
    """Adagrad: each element's step shrinks with all the gradients it has seen.

        s = s + g²        p = p - lr * g / (sqrt(s) + eps)

    or, with `eps_inside_root`, p = p - lr * g / sqrt(s + eps): Karpathy's min-char-rnn, with lr 0.1 and eps 1e-8.

    Args:
        parameters, lr: See `Optimizer`.
        eps: Keeps the division finite.
        eps_inside_root: Add eps to s rather than, as PyTorch does, to its root.
    Raises:
        MinigradError: eps is not positive and finite; see `Optimizer`.

    Source: Duchi, Hazan & Singer 2011.
    """

    slots = ("square",)

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, eps: float = 1e-10, *, eps_inside_root: bool = False
    ) -> None:
        _demand(0 < eps < math.inf, f"Adagrad: eps={eps}", "Give a positive, finite number.")
        self.eps, self.eps_inside_root = float(eps), eps_inside_root
        super().__init__(parameters, lr)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        square = self.state["square"][k]
        square += gradient * gradient
        root = np.sqrt(square + self.eps) if self.eps_inside_root else np.sqrt(square) + self.eps
        return self.lr * gradient / root


class RMSprop(Optimizer):
    """RMSprop: each element's step is scaled by a running average of its squared gradient, as in PyTorch.

        s = alpha s + (1 - alpha) g²        centered: m = alpha m + (1 - alpha) g, and s - m² for s below
        v = momentum v + g / (sqrt(s) + eps)        p = p - lr * v

    Args:
        parameters, lr: See `Optimizer`.
        alpha: How much of the average stays, below 1.
        eps: Keeps the division finite.
        momentum: How much of the last direction stays, below 1.
        centered: Divide by the deviation from the mean gradient rather than by the gradient's size.
    Raises:
        MinigradError: alpha or momentum is not from 0 to below 1, eps not positive and finite; see `Optimizer`.

    Source: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, who adds eps inside the root.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        momentum: float = 0.0, centered: bool = False,
    ) -> None:  # fmt: skip
        _demand(0 <= alpha < 1, f"RMSprop: alpha={alpha}", "Give at least 0 and less than 1.")
        _demand(0 < eps < math.inf, f"RMSprop: eps={eps}", "Give a positive, finite number.")
        _demand(0 <= momentum < 1, f"RMSprop: momentum={momentum}", "Give at least 0 and less than 1.")
        self.alpha, self.eps, self.momentum, self.centered = float(alpha), float(eps), float(momentum), centered
        self.slots = ("square", *(["mean"] if centered else []), *(["velocity"] if momentum else []))
        super().__init__(parameters, lr)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        square = self.averaged("square", k, self.alpha, gradient * gradient)
        if self.centered:
            mean = self.averaged("mean", k, self.alpha, gradient)
            square = np.maximum(square - mean * mean, 0)  # rounding leaves less than 0 of a steady gradient
        direction = gradient / (np.sqrt(square) + self.eps)
        return self.lr * (self.summed("velocity", k, self.momentum, direction) if self.momentum else direction)


class Adam(Optimizer):
    """Adam: each element's step is scaled by running averages of its gradient.

        m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g²
        p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    where t counts the gradients that this parameter has had.

    Args:
        parameters, lr: See `Optimizer`.
        betas: b1 and b2, each below 1.
        eps: Keeps the division finite.
    Raises:
        MinigradError: A beta is not from 0 to below 1, eps not positive and finite; see `Optimizer`.

    Source: Kingma & Ba 2014, algorithm 1.
    """

    slots = ("mean", "square")

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        b1, b2 = betas
        _demand(0 <= b1 < 1 and 0 <= b2 < 1, f"Adam: betas={betas}", "Give two, at least 0 and less than 1.")
        _demand(0 < eps < math.inf, f"Adam: eps={eps}", "Give a positive, finite number.")
        self.betas, self.eps = (float(b1), float(b2)), float(eps)
        super().__init__(parameters, lr)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        (b1, b2), t = self.betas, self.updates[k]
        mean = self.averaged("mean", k, b1, gradient)
        square = self.averaged("square", k, b2, gradient * gradient)
        change = mean * (self.lr / (1 - b1**t))
        change /= np.sqrt(square / (1 - b2**t)) + self.eps
        return change


# Schedules, for k the number of the update from 0


def _risen(k: int, warmup: int) -> float:
    return min(1.0, (k + 1) / warmup) if warmup else 1.0


def constant(warmup: int = 0) -> Schedule:
    """The learning rate itself, after the first `warmup` updates in which it rises to that.

        min(1, (k + 1) / warmup)

    Raises:
        MinigradError: warmup is negative.

    Source of the rise: Goyal et al. 2017, section 2.2.
    """
    _demand(warmup >= 0, f"constant: warmup={warmup}", "Give a number of updates, at least 0.")
    return lambda k: _risen(k, warmup)


def step_decay(every: int, factor: float = 0.1) -> Schedule:
    """Times `factor` after every so many updates; PyTorch's StepLR.

        factor ^ floor(k / every)

    Raises:
        MinigradError: every is less than 1, or factor not above 0 and at most 1.
    """
    _demand(every >= 1, f"step_decay: every={every}", "Give a number of updates, at least 1.")
    _demand(0 < factor <= 1, f"step_decay: factor={factor}", "Give more than 0 and at most 1.")
    return lambda k: float(factor ** (k // every))


def cosine_decay(updates: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Half a cosine from 1 after the warm-up down to `floor` at update number `updates`, and on from there.

        k < warmup    (k + 1) / warmup
        then          floor + (1 - floor) (1 + cos(π min(1, (k - warmup) / (updates - warmup)))) / 2

    Raises:
        MinigradError: The warm-up is negative or leaves no update, or floor is not from 0 to 1.

    Source: Loshchilov & Hutter 2017, equation 5, without restarts; PyTorch's CosineAnnealingLR, which rises again.
    """
    _demand(
        0 <= warmup < updates,
        f"cosine_decay: updates={updates}, warmup={warmup}",
        "Give a warm-up of at least 0 and less than all updates.",
    )
    _demand(0 <= floor <= 1, f"cosine_decay: floor={floor}", "Give at least 0 and at most 1.")

    def factor(k: int) -> float:
        if k < warmup:
            return _risen(k, warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, (k - warmup) / (updates - warmup)))) / 2

    return factor


def inverse_square_root_decay(warmup: int = 1) -> Schedule:
    """A rise to 1 at the last of the `warmup` updates, then a fall with the square root.

        min((k + 1) / warmup, sqrt(warmup / (k + 1)))

    Raises:
        MinigradError: warmup is less than 1.

    Source: Vaswani et al. 2017, equation 3, divided by its highest value.
    """
    _demand(warmup >= 1, f"inverse_square_root_decay: warmup={warmup}", "Give a number of updates, at least 1.")
    return lambda k: min((k + 1) / warmup, math.sqrt(warmup / (k + 1)))
