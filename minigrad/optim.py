"""Optimizers: from gradients to new parameter values. Each rebinds `parameter.data`, so a graph recorded
before the update keeps the values it was computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .clip import names_of, norm_of
from .engine import Array
from .errors import GradError, MinigradError
from .tensor import Tensor

__all__ = ["SGD", "Adam", "Optimizer", "Update"]


class Update(NamedTuple):
    """What one step changed, by parameter name.

    Attributes:
        sizes: The L2 norm of what was subtracted, over all elements of the parameter.
        weights: ‖old‖. sizes / weights is the update ratio; about 1e-3 is healthy.
    """

    sizes: dict[str, float]
    weights: dict[str, float]


class Optimizer:
    """Parameters, a learning rate, and one slot a parameter for each running average.

    Args:
        parameters: The leaves to update, in a fixed order.
        lr: The learning rate.
    Raises:
        MinigradError: There is no parameter, or lr is not positive and finite.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list({p.created: p for p in parameters}.values())  # a shared one moves once
        if not self.parameters:
            raise MinigradError(f"{type(self).__name__}: no parameters to update.\n  Give model.parameters().")
        if not 0 < lr < np.inf:
            raise MinigradError(f"{type(self).__name__}: lr={lr}.\n  Give a positive, finite learning rate.")
        self.lr = lr
        self.steps = 0
        self.state: dict[str, list[Array]] = {
            slot: [np.zeros_like(p.data) for p in self.parameters] for slot in self.slots
        }

    def zero_grad(self) -> None:
        """Forget every parameter's gradient."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> Update:
        """Update every parameter that has a gradient, and say how far each moved.

        Raises:
            GradError: No parameter has a gradient.
        """
        if all(p.grad is None for p in self.parameters):
            raise GradError(f"{type(self).__name__}.step(): no parameter has a gradient.\n  Call backward() first.")
        self.steps += 1
        sizes, weights = {}, {}
        for k, (name, parameter) in enumerate(zip(names_of(self.parameters), self.parameters, strict=True)):
            if parameter.grad is None:
                continue
            change = self.change(k, parameter.data, parameter.grad).astype(parameter.dtype, copy=False)
            sizes[name] = norm_of(change)
            weights[name] = norm_of(parameter.data)
            parameter.data = parameter.data - change
        return Update(sizes, weights)

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        """What to subtract from the parameter number k; each optimizer defines it."""
        raise MinigradError(f"{type(self).__name__} defines no change().\n  Define change(self, k, value, gradient).")

    def state_dict(self) -> dict[str, Any]:
        """A copy of the slots, the number of steps and the learning rate."""
        return {
            "lr": self.lr,
            "steps": self.steps,
            **{slot: [a.copy() for a in arrays] for slot, arrays in self.state.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same kind of optimizer on the same parameters.

        Raises:
            MinigradError: Slots are missing, or shapes differ.
        """
        if missing := {"lr", "steps"} - state.keys():
            raise MinigradError(
                f"{type(self).__name__}.load_state_dict: {sorted(missing)} missing.\n"
                "  Load what state_dict() of the same kind of optimizer gave."
            )
        new = {slot: [np.array(a) for a in state.get(slot, ())] for slot in self.slots}
        for slot, arrays in new.items():
            if [a.shape for a in arrays] != [p.shape for p in self.parameters]:
                raise MinigradError(
                    f"{type(self).__name__}.load_state_dict: slot {slot!r} does not fit the parameters.\n"
                    "  Load the state of the same kind of optimizer on a model of the same sizes."
                )
        self.lr, self.steps, self.state = float(state["lr"]), int(state["steps"]), new


class SGD(Optimizer):
    """Gradient descent with momentum, as in PyTorch.

        v = momentum * v + g        p = p - lr * v

    Args:
        parameters, lr: See `Optimizer`.
        momentum: How much of the last direction stays; 0 is plain gradient descent.

    Source: Sutskever et al. 2013, in PyTorch's form (the learning rate multiplies the velocity).
    """

    slots = ("velocity",)

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        velocity = self.state["velocity"][k] = self.momentum * self.state["velocity"][k] + gradient
        return self.lr * velocity


class Adam(Optimizer):
    """Adam: each element's step is scaled by running averages of its gradient.

        m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g²
        p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        parameters, lr: See `Optimizer`.
        betas: b1 and b2.
        eps: Keeps the division finite.

    Source: Kingma & Ba 2014, algorithm 1.
    """

    slots = ("mean", "square")

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self.betas, self.eps = betas, eps

    def change(self, k: int, value: Array, gradient: Array) -> Array:
        b1, b2 = self.betas
        mean = self.state["mean"][k] = b1 * self.state["mean"][k] + (1 - b1) * gradient
        square = self.state["square"][k] = b2 * self.state["square"][k] + (1 - b2) * gradient * gradient
        root = np.sqrt(square / (1 - b2**self.steps))
        return self.lr * (mean / (1 - b1**self.steps)) / (root + self.eps)
