"""Tensor: a node of the graph with the operators and methods of an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

from . import engine, ops
from .engine import Array, Node, Op, apply
from .errors import DTypeError, GradError, ShapeError
from .ops import Axis

__all__ = ["Tensor"]

T = TypeVar("T", bound="Tensor")

# NumPy's names for what is called otherwise here.
_NAMES = {"abs": "absolute", "amax": "max", "expand_dims": "reshape", "squeeze": "reshape", "moveaxis": "transpose",
          "dot": "matmul", "vstack": "concatenate", "hstack": "concatenate", "array_split": "split"}  # fmt: skip


def _operators(op: Op[Any]) -> tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]:
    """An operator and its reflection, for `tensor + x` and `x + tensor`."""
    return lambda self, other: apply(op, self, other), lambda self, other: apply(op, other, self)


def _comparison(compare: np.ufunc) -> Callable[[Any, Any], Array]:
    return lambda self, other: cast(Array, compare(self.value, engine.value(other)))


class Tensor(Node):
    """An array that remembers how it was computed.

    `Tensor(data)` copies: lists and Python numbers become float32, arrays keep their type. The
    value is read-only; `tensor.data = new` gives a leaf a new one, and graphs recorded before keep
    the value they were computed from.

        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([2., 4.], dtype=float32)

    Args:
        data: A number, nested lists of numbers, or an array (float32, float64, integers, booleans).
        requires_grad: Whether `backward` should leave a gradient here.
        name: What errors, pictures and reports call it.
    Raises:
        DTypeError: data is not made of numbers, or requires_grad is asked of whole numbers.
    """

    __slots__ = ()

    def __new__(cls: type[T], data: Any, requires_grad: bool = False, name: str | None = None) -> T:
        array = engine.as_array(engine.value(data))
        if requires_grad and array.dtype.kind != "f":
            raise DTypeError(
                f"Tensor(requires_grad=True): {array.dtype} has no gradient.\n"
                "  Give float32 or float64, for example array.astype(np.float32)."
            )
        new = engine.boxed(cls, array)
        new.requires_grad, new.name = requires_grad, name
        return cast(T, new)

    # The value

    @property
    def data(self) -> Array:
        """The array itself, read-only. Assigning gives a leaf a new value of the same shape and type."""
        return cast(Array, self.value)

    @data.setter
    def data(self, new: Any) -> None:
        if self.op is not None:
            raise GradError(
                f"data = …: {self.describe()} was computed from other tensors, so its value is theirs to give.\n"
                "  Give a leaf a new value, or make a new Tensor."
            )
        array = engine.as_array(engine.value(new), self.value.dtype)
        if array.shape != self.value.shape or array.dtype != self.value.dtype:
            raise ShapeError(
                f"data = …: {self.name or 'this tensor'} is {engine.shapes([self.value])}, the new value is"
                f" {engine.shapes([array])}.\n  Give a value of the same shape and type."
            )
        array.flags.writeable = False
        self.value = array

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return cast("np.dtype[Any]", self.value.dtype)

    def numpy(self) -> Array:
        """The value as a read-only array, without a graph."""
        return cast(Array, self.value)

    def item(self) -> float:
        """The one element of this tensor as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item(): this tensor has shape {self.shape}.\n  Pick one element first, as x[0].item().")
        return cast(float, self.value.item())

    def astype(self, dtype: Any) -> Tensor:
        """A leaf with this value in another type; no gradient flows from it."""
        return Tensor(self.value.astype(dtype))

    def detach(self) -> Tensor:
        """The same value without its history: no gradient flows past this point."""
        return cast(Tensor, engine.boxed(Tensor, self.value))

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len(): this tensor has no axes.\n  Use .item() for its value.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if len(self):
            yield from ops.unstack(self)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __repr__(self) -> str:
        made = f", op={self.op.name}" if self.op else ", requires_grad=True" if self.requires_grad else ""
        text = np.array2string(self.value, precision=4, threshold=50, separator=", ", prefix="Tensor(")
        return f"Tensor({text}, shape={self.shape}, {self.dtype}{made}{f', name={self.name!r}' if self.name else ''})"

    # The gradient

    def backward(self, gradient: Any = None, *, accumulate: bool = False) -> None:
        """Leave d self / d leaf in the `.grad` of every leaf. See `engine.backward`."""
        engine.backward(self, gradient, accumulate=accumulate)

    def zero_grad(self) -> None:
        """Forget the gradient, so that the next `backward` may leave a new one."""
        self.grad = None

    def retain_grad(self) -> Tensor:
        """Let `backward` leave a gradient here too, though this is no leaf. Returns self."""
        self.retains_grad = True
        return self

    # Arithmetic: a plain number or array beside a Tensor is a constant.

    __add__, __radd__ = _operators(ops.add)
    __sub__, __rsub__ = _operators(ops.subtract)
    __mul__, __rmul__ = _operators(ops.multiply)
    __truediv__, __rtruediv__ = _operators(ops.divide)
    __pow__, __rpow__ = _operators(ops.power)
    __matmul__, __rmatmul__ = _operators(ops.matmul)

    def __neg__(self) -> Tensor:
        return cast(Tensor, ops.negative(self))

    def __abs__(self) -> Tensor:
        return cast(Tensor, ops.absolute(self))

    # Comparisons give plain arrays of booleans: they have no gradient.

    __hash__ = object.__hash__
    __lt__ = _comparison(np.less)
    __le__ = _comparison(np.less_equal)
    __gt__ = _comparison(np.greater)
    __ge__ = _comparison(np.greater_equal)
    __eq__ = _comparison(np.equal)  # type: ignore[assignment]  # an array, as in NumPy
    __ne__ = _comparison(np.not_equal)  # type: ignore[assignment]

    # Reductions and shapes; axis is None, an axis, or a tuple of axes.

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return cast(Tensor, ops.sum(self, axis=axis, keepdims=keepdims))

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return cast(Tensor, ops.mean(self, axis=axis, keepdims=keepdims))

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return cast(Tensor, ops.max(self, axis=axis, keepdims=keepdims))

    def norm(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return cast(Tensor, ops.norm(self, axis=axis, keepdims=keepdims))

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape, given as numbers or as one tuple; one may be -1."""
        return cast(Tensor, ops.reshape(self, shape=tuple(shape[0]) if len(shape) == 1 and isinstance(
            shape[0], (tuple, list)) else shape))  # fmt: skip

    def transpose(self, *axes: int) -> Tensor:
        """The axes in a new order; without one, reversed."""
        return cast(Tensor, ops.transpose(self, axes=axes or None))

    @property
    def T(self) -> Tensor:
        return cast(Tensor, ops.transpose(self, axes=None))

    def swapaxes(self, first: int, second: int) -> Tensor:
        return cast(Tensor, ops.swapaxes(self, first=first, second=second))

    def __getitem__(self, index: Any) -> Tensor:
        """self[index]: integers, slices, None, ..., integer and boolean arrays."""
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(np.array(engine.value(k)) if isinstance(k, (Node, list, np.ndarray)) else k for k in parts)
        return cast(Tensor, ops.getitem(self, index=parts if isinstance(index, tuple) else parts[0]))

    def __setitem__(self, index: Any, new: Any) -> None:
        raise GradError(
            f"x[{index!r}] = …: a recorded value may not change, or the gradient would belong to another.\n"
            "  Build a new tensor with where(condition, new, x) or concatenate, or give a leaf new .data."
        )

    # NumPy's functions would drop the graph in silence.

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("A Tensor is no NumPy array.\n  Use tensor.numpy() for its value, without a graph.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        ours = ops.OPS.get(_NAMES.get(ufunc.__name__, ufunc.__name__))
        if ours is not None and ufunc in _OPERATORS and method == "__call__" and not options:
            return ours(*inputs)  # array + tensor, array @ tensor, …
        return _refuse_numpy(ufunc.__name__)

    def __array_function__(self, function: Callable[..., Any], *_: Any) -> Any:
        return _refuse_numpy(function.__name__)


_OPERATORS = {np.add, np.subtract, np.multiply, np.divide, np.power, np.matmul}


def _refuse_numpy(name: str) -> Any:
    ours = _NAMES.get(name, name)
    known = f"minigrad.{ours}" if ours in ops.OPS else "tensor.numpy()"
    raise TypeError(
        f"np.{name} on a Tensor: NumPy would drop the graph.\n  Use {known}"
        + (", or tensor.numpy() where no gradient is needed." if ours in ops.OPS else ": no gradient flows from it.")
    )


Tensor.box = Tensor
