"""Every primitive op: its forward, and beside it the rule that carries a gradient back.

In a rule, g is the gradient of the loss with respect to the op's output y, and one gradient comes
back for each input: as it stands, or as a function where only some inputs may need theirs. Rules
use only what arrays and Tensors both have, so one rule serves first derivatives (on arrays) and
second ones (on Tensors). What goes through `value` is a constant to the second derivative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from .engine import Array, Op, value
from .errors import Unfit

__all__ = ["absolute", "add", "broadcast_to", "clip", "clip_gradient", "concatenate", "divide", "dropout",
           "embedding", "exp", "getitem", "identity", "linear", "log", "log_softmax", "matmul", "max", "maximum",
           "mean", "multiply", "negative", "norm", "power", "put", "relu", "reshape", "sigmoid", "softmax",
           "softplus", "split", "sqrt", "stack", "subtract", "sum", "swapaxes", "tanh", "transpose", "unstack",
           "where"]  # fmt: skip

P = ParamSpec("P")
Axis = int | tuple[int, ...] | None
Shape = tuple[int, ...]

OPS: dict[str, Op[Any]] = {}
"""Every op by name; the tests demand a gradient check for each."""

_ALIKE = "shapes that broadcast: axis by axis from the right, sizes are equal or one of them is 1"
_AXES = "axis=None, an axis of the input, or a tuple of them"


def primitive(
    rule: Callable[..., Sequence[Any]], accepts: str = "one tensor of any shape", broadcasts: bool = False
) -> Callable[[Callable[P, Any]], Op[P]]:
    """Make the decorated forward an op with this rule."""

    def register(forward: Callable[P, Any]) -> Op[P]:
        op = OPS[forward.__name__] = Op(forward.__name__, forward, broadcasts, accepts)
        op.rule = rule
        return op

    return register


def _elementwise(name: str, forward: Callable[..., Any], rule: Callable[..., Sequence[Any]], doc: str) -> Op[...]:
    """An op of one input, or of two that broadcast."""
    two = rule.__code__.co_argcount == 4
    op = OPS[name] = Op(name, forward, two, _ALIKE if two else "one tensor of any shape")
    op.rule, op.__doc__ = rule, doc
    return op


# Elementwise


def _power_rule(g: Any, y: Any, a: Any, b: Any) -> Any:
    def for_base() -> Any:  # b = 0 gives the constant 1, also at a = 0, where a ** (b - 1) is infinite
        return g * b * (a + ((value(a) == 0) & (value(b) == 0))) ** (b - 1)

    return for_base, lambda: g * y * log(where(value(a) > 0, a, g.dtype.type(1)))


def _maximum_rule(g: Any, y: Any, a: Any, b: Any) -> Any:
    a, b = value(a), value(b)
    half = (a == b) * g.dtype.type(0.5)
    return lambda: g * ((a > b) + half), lambda: g * ((b > a) + half)


add = _elementwise("add", np.add, lambda g, y, a, b: (g, g), "a + b.")
subtract = _elementwise("subtract", np.subtract, lambda g, y, a, b: (g, lambda: -g), "a - b.")
multiply = _elementwise("multiply", np.multiply, lambda g, y, a, b: (lambda: g * b, lambda: g * a), "a * b.")
divide = _elementwise("divide", np.divide, lambda g, y, a, b: (lambda: g / b, lambda: -g * y / b), "a / b.")
power = _elementwise("power", np.power, _power_rule, "a ** b; for the exponent a >= 0, gradient 0 at a = 0.")
maximum = _elementwise("maximum", np.maximum, _maximum_rule, "The larger of a and b; a tie gives each half.")

negative = _elementwise("negative", np.negative, lambda g, y, x: (-g,), "-x.")
exp = _elementwise("exp", np.exp, lambda g, y, x: (g * y,), "e ** x.")
log = _elementwise("log", np.log, lambda g, y, x: (g / x,), "The natural logarithm.")
sqrt = _elementwise("sqrt", np.sqrt, lambda g, y, x: (g / (2 * y),), "The square root.")
absolute = _elementwise("absolute", np.abs, lambda g, y, x: (g * np.sign(value(x)),), "|x|; gradient 0 at 0.")
tanh = _elementwise("tanh", np.tanh, lambda g, y, x: (g - g * (y * y),), "tanh(x); its derivative is 1 - tanh(x)**2.")
relu = _elementwise("relu", lambda x: np.maximum(x, 0), lambda g, y, x: (g * (value(x) > 0),), "max(x, 0); 0 at 0.")
identity = _elementwise("identity", lambda x: x[...], lambda g, y, x: (g,), "x itself, as a node of its own.")


_SIGMOID = {np.dtype(t): (np.array(largest, t), np.array(1, t)) for t, largest in ((np.float32, 88), (np.float64, 709))}
"""By type, the largest number whose e**x is one, and 1: an array is half the cost of a number at small sizes."""


def _sigmoid_rule(g: Any, y: Any, x: Any) -> Any:
    return (g * (y * (_SIGMOID[y.dtype][1] - y)),)


@primitive(_sigmoid_rule)
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), exact to the last bits on both sides; its derivative is y (1 - y)."""
    y = np.negative(x) if x.ndim else np.array(-x)
    largest, one = _SIGMOID[y.dtype]
    np.minimum(y, largest, out=y)  # beyond, e**-x overflows
    np.exp(y, y)
    np.add(y, one, y)
    return np.divide(one, y, y)


@primitive(lambda g, y, x: (g * sigmoid(x),))
def softplus(x: Any) -> Any:
    """log(1 + e**x) without overflow; its derivative is the sigmoid."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _where_rule(g: Any, y: Any, condition: Any, a: Any, b: Any) -> Any:
    holds = value(condition).astype(bool)
    return None, lambda: where(holds, g, 0.0), lambda: where(holds, 0.0, g)  # by choice: 0 * NaN would be NaN


@primitive(_where_rule, "a condition and two branches; " + _ALIKE, broadcasts=True)
def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, b elsewhere. The condition gets no gradient."""
    return np.where(condition, a, b)


@primitive(lambda g, y, x, low=None, high=None: (g * (value(y) == value(x)),))
def clip(x: Any, *, low: float | None = None, high: float | None = None) -> Any:
    """x limited to [low, high]; the gradient is 0 where it was limited."""
    return np.clip(x, low, high)


@primitive(lambda g, y, x, limit: (clip(g, low=-limit, high=limit),))
def clip_gradient(x: Any, *, limit: float) -> Any:
    """x itself; on the way back every element of its gradient is limited to [-limit, limit].

    Source: Graves 2013, Generating Sequences With Recurrent Neural Networks, section 2.1.
    """
    return x[...]


@primitive(lambda g, y, x, mask: (g * mask.astype(g.dtype),), "a mask of the input's shape")
def dropout(x: Any, *, mask: Array) -> Any:
    """x * mask, which holds 0 for what is dropped and 1 / (1 - p) for what stays.

    Source: Srivastava et al. 2014, in the inverted form that changes nothing at evaluation.
    """
    if mask.shape != x.shape:
        raise Unfit(f"the mask has shape {mask.shape}")
    return x * mask.astype(x.dtype)


# Products


def _matmul_rule(g: Any, y: Any, a: Any, b: Any) -> Any:
    # A vector is a matrix with one row (left) or one column (right) that the product leaves out.
    row, column = len(a.shape) == 1, len(b.shape) == 1
    matrix_a = a.reshape((1, *a.shape)) if row else a
    matrix_b = b.reshape((*b.shape, 1)) if column else b
    g = g.reshape((*g.shape, 1)) if column else g
    g = g.reshape((*g.shape[:-1], 1, g.shape[-1])) if row else g

    def for_a() -> Any:
        part = g @ matrix_b.swapaxes(-1, -2)
        return part.reshape((*part.shape[:-2], part.shape[-1])) if row else part

    def for_b() -> Any:
        part = matrix_a.swapaxes(-1, -2) @ g
        return part.reshape(part.shape[:-1]) if column else part

    return for_a, for_b


@primitive(_matmul_rule, "(…, n, k) @ (…, k, m); a vector (k) stands for one row or one column", broadcasts=True)
def matmul(a: Any, b: Any) -> Any:
    """a @ b over the last two axes; the axes before them broadcast."""
    return np.matmul(a, b)


matmul.factors = lambda g, a, b: {1: (a, g)} if a.ndim == b.ndim == 2 else {}


def _rows(x: Any) -> Any:
    return x if len(x.shape) == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _product(a: Any, b: Any) -> Any:
    """a @ b of arrays or tensors; `dot` takes half the time where matrices are small."""
    return a.dot(b) if type(a) is type(b) is np.ndarray and a.ndim == 2 else a @ b


def _linear_rule(g: Any, y: Any, x: Any, weight: Any, bias: Any) -> Any:
    return (
        lambda: _product(g, weight),
        lambda: _product(_rows(g).swapaxes(0, 1), _rows(x)),
        lambda: _rows(g).sum(axis=0),
    )


@primitive(_linear_rule, "x (…, C), weight (K, C) and bias (K) or None")
def linear(x: Any, weight: Any, bias: Any) -> Any:
    """x @ weight.T + bias over the last axis of x; a bias of None adds nothing."""
    if x.shape[-1:] != weight.shape[1:] or (bias is not None and bias.shape != weight.shape[:1]):
        raise Unfit("the features of x, weight and bias do not match")
    y = _product(x, weight.T)
    return y if bias is None else np.add(y, bias, out=y) if y.ndim else y + bias


linear.factors = lambda g, x, weight, bias: {1: (_rows(g), _rows(x))}


# Reductions


def _kept(shape: Shape, axis: Axis) -> Shape:
    """The shape that a reduction has with keepdims=True."""
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return tuple(1 if k in axes or k - len(shape) in axes else size for k, size in enumerate(shape))


def _repeated(g: Any, shape: Shape, axis: Axis) -> Any:
    """What a reduction summed away, repeated over those axes again."""
    return broadcast_to(g.reshape(_kept(shape, axis)), shape=shape)


def _max_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    ties = value(x) == value(y).reshape(_kept(x.shape, axis))
    share = ties / ties.sum(axis=axis, keepdims=True).astype(g.dtype)
    return (_repeated(g, x.shape, axis) * share,)


def _norm_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    safe = where(value(y) == 0, 1, y)
    return (_repeated(g / safe, x.shape, axis) * x,)


@primitive(lambda g, y, x, axis=None, keepdims=False: (_repeated(g, x.shape, axis),), _AXES)
def sum(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over some or all axes."""
    return np.sum(x, axis=axis, keepdims=keepdims)


def _mean_rule(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return (_repeated(g * (math.prod(g.shape) / math.prod(x.shape)), x.shape, axis),)


@primitive(_mean_rule, _AXES)
def mean(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The mean over some or all axes; of no elements it is an error."""
    if x.size == 0:
        raise Unfit("the mean of no elements is undefined")
    return np.mean(x, axis=axis, keepdims=keepdims)


@primitive(_max_rule, _AXES + ", with at least one element to choose from")
def max(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over some or all axes; ties share the gradient evenly."""
    return np.max(x, axis=axis, keepdims=keepdims)


@primitive(_norm_rule, _AXES)
def norm(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """The L2 norm over some or all axes, scaled so that no square overflows or underflows.

    Its gradient at the zero vector is 0.
    """
    scale = np.max(np.abs(x), axis=axis, keepdims=True, initial=0)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1).astype(x.dtype)
    y = scale * np.sqrt(np.sum((x / scale) ** 2, axis=axis, keepdims=True))
    return y if keepdims else y.reshape(np.sum(x, axis=axis).shape)


# Shapes


def _transpose_rule(g: Any, y: Any, x: Any, axes: tuple[int, ...] | None = None) -> Any:
    return (transpose(g, axes=axes and tuple(np.argsort([k % len(axes) for k in axes]).tolist())),)


@primitive(lambda g, y, x, shape: (g.reshape(x.shape),), "a shape of as many elements; one size may be -1")
def reshape(x: Any, *, shape: Shape) -> Any:
    """The same elements in another shape."""
    return x.reshape(shape)


@primitive(_transpose_rule, "each axis of the input once, in their new order; None reverses them")
def transpose(x: Any, *, axes: tuple[int, ...] | None = None) -> Any:
    """The axes in another order."""
    return x.transpose(axes)


@primitive(lambda g, y, x, first, second: (g.swapaxes(first, second),), "two axes of the input")
def swapaxes(x: Any, *, first: int, second: int) -> Any:
    """Two axes exchanged."""
    return x.swapaxes(first, second)


# The engine sums the gradient of what was broadcast back to the input's shape.
@primitive(lambda g, y, x, shape: (g,), "a shape that the input's shape broadcasts to", broadcasts=True)
def broadcast_to(x: Any, *, shape: Shape) -> Any:
    """x repeated along new axes and along axes of size 1."""
    return np.broadcast_to(x, shape)


# Taking apart and putting together


def _getitem_rule(g: Any, y: Any, x: Any, index: Any) -> Any:
    return (put(g, index=index, shape=x.shape),)


def _concatenate_rule(g: Any, y: Any, *xs: Any, axis: int = 0) -> Any:
    return split(g, sizes=tuple(x.shape[axis] for x in xs), axis=axis)


def _stack_rule(g: Any, y: Any, *xs: Any, axis: int = 0) -> Any:
    return unstack(g, axis=axis)


@primitive(_getitem_rule, "integers, slices, None, ..., integer and boolean arrays, within the sizes of the axes")
def getitem(x: Any, *, index: Any) -> Any:
    """x[index], as NumPy means it."""
    return x[index]


@primitive(lambda g, y, x, index, shape: (getitem(g, index=index),), "the shape that x[index] has")
def put(x: Any, *, index: Any, shape: Shape) -> Any:
    """Zeros with x added at an index: getitem undone. A place named twice gets both."""
    y = np.zeros(shape, x.dtype)
    if any(isinstance(k, (np.ndarray, list)) for k in (index if isinstance(index, tuple) else (index,))):
        np.add.at(y, index, x)
    else:
        y[index] = x
    return y


def _filled(gs: Sequence[Any], ys: Sequence[Any]) -> list[Any]:
    """Zeros for the outputs that nobody used."""
    return [np.zeros(y.shape, y.dtype) if g is None else g for g, y in zip(gs, ys, strict=True)]


@primitive(_concatenate_rule, "tensors alike in every axis but the joined one")
def concatenate(*xs: Any, axis: int = 0) -> Any:
    """The inputs joined along an axis they have."""
    return np.concatenate(xs, axis=axis)


@primitive(_stack_rule, "tensors of one shape")
def stack(*xs: Any, axis: int = 0) -> Any:
    """The inputs joined along a new axis."""
    return np.stack(xs, axis=axis)


def _split_rule(g: Any, y: Any, x: Any, sizes: Sequence[int], axis: int = 0) -> Any:
    return (concatenate(*_filled(g, y), axis=axis),)


@primitive(_split_rule, "sizes along the axis that add up to its length")
def split(x: Any, *, sizes: Sequence[int], axis: int = 0) -> Any:
    """x cut along an axis into pieces of the given sizes: several outputs of one op."""
    ends = [*itertools.accumulate(sizes)]
    if not ends or ends[-1] != x.shape[axis] or min(sizes) < 0:
        raise Unfit(f"the sizes {tuple(sizes)} do not add up to the {x.shape[axis]} of the axis")
    before = (slice(None),) * (axis % x.ndim)
    pieces = [(*before, slice(end - size, end)) for size, end in zip(sizes, ends)]
    return tuple([x[piece] for piece in pieces])


@primitive(lambda g, y, x, axis=0: (stack(*_filled(g, y), axis=axis),), "an axis with at least one element")
def unstack(x: Any, *, axis: int = 0) -> Any:
    """x taken apart along an axis, which goes: several outputs of one op."""
    if not x.shape[axis]:
        raise Unfit(f"axis {axis} has no elements to take apart")
    return tuple(np.moveaxis(x, axis, 0))


def _embedding_rule(g: Any, y: Any, weight: Any, index: Array) -> Any:
    return (put(g, index=index, shape=weight.shape),)


@primitive(_embedding_rule, "a weight (V, D) and whole numbers from 0 to V - 1")
def embedding(weight: Any, *, index: Array) -> Any:
    """Row `index` of the weight for every index: shape index.shape + (D,)."""
    if index.dtype.kind not in "iu":
        raise Unfit(f"the indices are {index.dtype}, not whole numbers; index.astype(np.int64) makes them so")
    if index.size and not 0 <= index.min() <= index.max() < weight.shape[0]:
        raise Unfit(f"the indices run from {index.min()} to {index.max()}")
    return weight[index]


# Probabilities


@primitive(lambda g, y, x, axis=-1: (y * (g - (g * y).sum(axis=axis, keepdims=True)),), "an axis of the input")
def softmax(x: Any, *, axis: int = -1) -> Any:
    """e**x / sum(e**x) along an axis, shifted by the maximum so that nothing overflows."""
    y = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return y / np.sum(y, axis=axis, keepdims=True)


@primitive(lambda g, y, x, axis=-1: (g - exp(y) * g.sum(axis=axis, keepdims=True),), "an axis of the input")
def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """log(softmax(x)) along an axis, exact where the softmax itself would round to 0."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    # the largest element adds e**0, so the sum is at least 1, except along an empty axis
    return shifted - np.log(np.maximum(np.sum(np.exp(shifted), axis=axis, keepdims=True), 1))

