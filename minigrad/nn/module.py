"""Module: a tree of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..engine import Array
from ..errors import MinigradError, ShapeError
from ..tensor import Tensor

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A tensor that requires a gradient and that a Module lists among its own."""

    __slots__ = ()

    def __new__(cls, data: Any, requires_grad: bool = True, name: str | None = None) -> Parameter:
        return super().__new__(cls, data, requires_grad, name)


class Module:
    """Parameters and other modules, kept in the order in which they were assigned.

    Assigning names a parameter: in an error, a picture or a report it is `lstm.weight_hh_l0`.
    """

    training: bool = True

    def __setattr__(self, name: str, new: Any) -> None:
        object.__setattr__(self, name, new)
        if isinstance(new, Parameter):
            new.name = name
        elif isinstance(new, Module):
            for inner, parameter in new.named_parameters():
                parameter.name = f"{name}.{inner}"

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and every module below it, with their dotted names."""
        yield prefix, self
        for name, child in vars(self).items():
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name, in the order of definition."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, p in vars(module).items():
                if isinstance(p, Parameter) and p.created not in seen:
                    seen.add(p.created)
                    yield (f"{prefix}.{name}" if prefix else name), p

    def parameters(self) -> list[Parameter]:
        """Every parameter once, in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def generators(self) -> dict[str, np.random.Generator]:
        """Every random generator of this module and of those below it, by dotted name."""
        return {
            f"{prefix}.{name}" if prefix else name: found
            for prefix, module in self.named_modules()
            for name, found in vars(module).items()
            if isinstance(found, np.random.Generator)
        }

    def zero_grad(self) -> None:
        """Forget every parameter's gradient."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, training: bool = True) -> None:
        """Switch this module and all below it to training (dropout on) or evaluation."""
        for _, module in self.named_modules():
            module.training = training

    def eval(self) -> None:
        """Switch this module and all below it to evaluation (dropout off)."""
        self.train(False)

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter's value by name, in the order of definition."""
        return {name: p.numpy().copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give every parameter the value that `state` has under its name; all or none.

        Raises:
            ShapeError: Names are missing or unknown, or a shape differs.
        """
        own = dict(self.named_parameters())
        missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
        if missing or unknown:
            raise ShapeError(
                f"load_state_dict: missing {sorted(missing) or 'none'}, unknown {sorted(unknown) or 'none'}.\n"
                f"  Give exactly these names: {list(own)}."
            )
        new = {name: np.asarray(state[name], dtype=p.dtype) for name, p in own.items()}
        for name, p in own.items():
            if new[name].shape != p.shape:
                raise ShapeError(
                    f"load_state_dict: {name} has shape {new[name].shape}, the module's is {p.shape}.\n"
                    "  Build the module with the sizes that the state was saved from."
                )
        for name, p in own.items():
            p.data = new[name]

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the module's output; a subclass defines it."""
        raise MinigradError(f"{type(self).__name__} defines no forward().\n  Define forward(self, …), call the module.")
