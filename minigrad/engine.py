"""The engine: one door through which every op is recorded, and one walk that differentiates.

A graph is made of `Node`s that point at the nodes they were computed from. Creation numbers grow
along every edge, so "newest first" is a topological order, and nothing here recurses: a graph may
be as deep as memory allows.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CodeType
from typing import Any, ClassVar, Generic, ParamSpec, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import DTypeError, GradError, MinigradError, ShapeError, StaleGraphError, Unfit
from .scope import Role, Scope, current

__all__ = ["Array", "Node", "Observer", "Op", "Parts", "apply", "as_array", "backward", "boxed", "caller", "grad",
           "jacobian", "pick", "shapes", "topological", "value"]  # fmt: skip

Array: TypeAlias = npt.NDArray[Any]
P = ParamSpec("P")
_created = itertools.count()
_PACKAGE = os.path.join(os.path.dirname(__file__), "")
_NOTHING: dict[str, Any] = {}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Op(Generic[P]):
    """A forward on arrays and the rule that carries a gradient back through it.

    `rule(g, y, *inputs, **attributes)` gives one gradient per input: a value, None where there is
    none, or a function that forms it, called only if somebody needs it. Both are pure and use only
    what arrays and Tensors both have, so the same rule computes the gradient of arrays and, given
    Tensors, is itself recorded: the second derivative.

    Attributes:
        forward: From arrays (and constant attributes) to an array, or a tuple of arrays.
        broadcasts: The inputs broadcast; gradients are summed back to their shapes by the engine.
        accepts: What the op takes, in words, for the error when it is given something else.
        factors: Which inputs get the gradient `left.T @ right`, as {input: (left, right)} from
            (g, *inputs). The norm of one time step's term comes from these, without the matrix.
    """

    def __init__(self, name: str, forward: Callable[P, Any], broadcasts: bool, accepts: str) -> None:
        self.name, self.forward, self.broadcasts, self.accepts = name, forward, broadcasts, accepts
        self.rule: Callable[..., Sequence[Any]]
        self.factors: Callable[..., dict[int, tuple[Array, Array]]] | None = None
        self.__doc__ = forward.__doc__

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *inputs: P.args, **attributes: P.kwargs) -> Any:
        return apply(self, *inputs, **attributes)


class Node:
    """One value of the graph and how it was made. `Tensor` adds the operators.

    An op with several outputs has one node, which holds a tuple of arrays; each output is a `pick`
    node on top of it.
    """

    box: ClassVar[type[Node]]  # the class that an op's output gets
    value: Any  # the array, read-only
    grad: Array | None  # what `backward` left here
    requires_grad: bool  # whether a gradient flows to or through this node
    retains_grad: bool  # whether `backward` leaves one, though this is no leaf
    op: Op[Any] | None  # what computed it; a leaf has none
    parents: tuple[Node | None, ...]  # from what, in order, with repetition; None for a plain array
    inputs: tuple[Any, ...]  # the parents' values as they were recorded
    attributes: dict[str, Any]  # the op's constants
    scope: Scope
    role: Role | None  # what a recurrent network calls it
    name: str | None
    created: int  # grows with every node: parents have smaller ones
    _code: CodeType | None  # the caller's code, and where in it
    _at: int
    __slots__ = ("__weakref__", "_at", "_code", "attributes", "created", "grad", "inputs", "name", "op", "parents",
                 "requires_grad", "retains_grad", "role", "scope", "value")  # fmt: skip

    @property
    def source(self) -> str | None:
        """The caller's own line that recorded this op, as `file.py:12`, or None for a leaf."""
        if self._code is None:
            return None
        line = next((n for start, end, n in self._code.co_lines() if start <= self._at < end), None)
        return f"{self._code.co_filename}:{line}"

    def describe(self) -> str:
        """What this node is and where, for messages: `sigmoid at lstm / t=3 / forget gate`."""
        return _at(self.name or (self.op.name if self.op else "tensor"), self.scope)


def _at(what: str, scope: Scope) -> str:
    return f"{what} at {scope}" if scope.path else what


def boxed(box: type[Node], value: Any, scope: Scope | None = None) -> Any:
    """A new constant of class `box` around an array that nobody else will write to."""
    if type(value) is np.ndarray:
        value.setflags(False)  # type: ignore[call-arg]  # by position: half the time of flags.writeable = False
    node: Any = object.__new__(box)
    node.value = value
    node.requires_grad = node.retains_grad = False
    node.grad = node.op = node.role = node.name = node._code = None
    node.parents = node.inputs = ()
    node.attributes = _NOTHING
    node.scope = current.get().scope if scope is None else scope
    node.created = next(_created)
    return node


def value(x: Any) -> Any:
    """The plain array inside a Tensor; anything else unchanged. What comes out is a constant."""
    return x.value if isinstance(x, Node) else x


def shapes(values: Iterable[Any]) -> str:
    return "   ".join(f"{v.shape} {v.dtype}" if hasattr(v, "shape") else repr(v) for v in values)


def as_array(x: Any, like: np.dtype[Any] | None = None) -> Array:
    """A private copy of x: Python numbers, lists and integer operands take the type `like`.

    Raises:
        DTypeError: x is not made of numbers, or of numbers of another type than a tensor holds.
    """
    given = isinstance(x, (np.ndarray, np.generic))
    try:
        array = np.array(x)
        if not given and array.dtype.kind in "fiub":
            array = array.astype(like or np.float32)
    except (TypeError, ValueError):
        raise DTypeError(
            f"A tensor is made of numbers; found {type(x).__name__}: {str(x)[:60]!r}.\n"
            "  Give a number, a list of numbers with rows of equal length, or a NumPy array."
        ) from None
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and array.dtype not in _FLOATS):
        raise DTypeError(
            f"A tensor holds float32, float64, integers or booleans; found {array.dtype}.\n"
            "  Convert it first, for example array.astype(np.float32)."
        )
    return array.astype(like) if like is not None and array.dtype.kind != "f" else array


def apply(op: Op[Any], *inputs: Any, **attributes: Any) -> Any:
    """Run an op; if any input carries a graph, record it and box the result in the same class.

    Given only arrays this is `op.forward` and nothing is recorded: rules run at NumPy's speed.

    Raises:
        ShapeError: The inputs' shapes do not fit the op.
        DTypeError: float32 and float64 meet.
    """
    box = floats = None
    needed = mixed = constants = False
    values: list[Any] = []
    for x in inputs:
        if isinstance(x, Node):
            x_value = x.value
            values.append(x_value)
            box = x.box
            if x.requires_grad:
                needed = True
            if floats is None:
                floats = x_value.dtype
            elif x_value.dtype is not floats:
                mixed = True
        else:
            values.append(x)
            constants = True
            if x is not None and type(x) is not float and type(x) is not int:
                mixed = True
    if box is None:
        return op.forward(*inputs, **attributes)
    recording, scope = current.get()
    if mixed:
        floats = _settle(op, inputs, values)
    try:
        y = op.forward(*values, **attributes) if attributes else op.forward(*values)
    except MinigradError:
        raise
    except (ValueError, IndexError) as error:
        ours = isinstance(error, (Unfit, IndexError))  # NumPy's words on indices are plain, on broadcasting not
        given = "".join(f"   {k}={v!r}" for k, v in attributes.items() if not hasattr(v, "shape"))
        raise ShapeError(
            f"{_at(op.name, scope)}: {error if ours else 'these do not fit together'}.\n"
            f"  inputs {shapes(values)}{given}\n  {op.name} takes {op.accepts}."
        ) from None
    several = type(y) is tuple
    if type(y) is np.ndarray:
        if mixed and y.dtype is not floats and y.dtype.kind == "f":
            y = y.astype(floats)  # whole numbers beside float32
    else:  # NumPy hands out scalars where an array has no axes
        y = tuple([np.asarray(output) for output in y]) if several else np.array(y)
    node = boxed(box, y, scope)
    if needed and recording:
        node.requires_grad = True
        node.op = op
        if attributes:  # an array among them is kept as it was
            node.attributes = {k: np.array(v) if type(v) is np.ndarray else v for k, v in attributes.items()}
        node.parents = tuple([x if isinstance(x, Node) else None for x in inputs]) if constants else inputs
        node.inputs = tuple(values)
        run = scope.run
        node._code, node._at = caller() if run is None or run.caller is None else run.caller
    return _all_picked(node) if several else node


def caller() -> tuple[CodeType, int]:
    """The code outside this package that called it, and where in it."""
    frame = sys._getframe(2)
    while _is_ours(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


@functools.cache
def _is_ours(filename: str) -> bool:
    """Whether a file belongs to this package."""
    return filename.startswith(_PACKAGE)


Op.__call__ = apply  # type: ignore[assignment, method-assign]


def _settle(op: Op[Any], inputs: Sequence[Any], values: list[Any]) -> np.dtype[Any] | None:
    """Give plain operands the float type of the tensors beside them; two float types are an error."""
    tensors = [x.value.dtype for x in inputs if isinstance(x, Node) and x.value.dtype.kind == "f"]
    floats = tensors[0] if tensors else None
    for k, x in enumerate(inputs):
        if x is not None and not isinstance(x, Node):
            # NumPy's scalars count as numbers, or 1 / np.sqrt(n) would not go with float32.
            values[k] = as_array(x.item() if isinstance(x, np.generic) else x, floats)
            values[k].flags.writeable = False
        elif x is not None and floats is not None and x.value.dtype.kind != "f":
            values[k] = x.value.astype(floats)
            values[k].flags.writeable = False
    if any(v is not None and v.dtype.kind == "f" and v.dtype != floats for v in values) and floats is not None:
        raise DTypeError(
            f"{_at(op.name, current.get().scope)}: float32 and float64 do not mix.\n  inputs {shapes(values)}\n"
            "  Convert one of them: tensor.astype(np.float64) or array.astype(np.float32)."
        )
    return floats


pick: Op[Any] = Op("pick", lambda values, index: values[index], False, "the outputs of one op")
pick.rule = lambda g, y, values, index: (g,)  # the walk files g under its index


def _all_picked(source: Node) -> tuple[Node, ...]:
    """The outputs of an op with several, each as a node of its own."""
    nodes: list[Node] = [boxed(source.box, output, source.scope) for output in source.value]
    if source.requires_grad:
        parents, inputs, code, at = (source,), (source.value,), source._code, source._at
        for index, node in enumerate(nodes):
            node.requires_grad = True
            node.op, node.attributes = pick, {"index": index}
            node.parents, node.inputs = parents, inputs
            node._code, node._at = code, at
    return tuple(nodes)


def topological(root: Node) -> list[Node]:
    """Every node that a gradient from `root` reaches, each before its parents."""
    found = {root.created: root}
    stack = [root]
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent.requires_grad and parent.created not in found:
                found[parent.created] = parent
                stack.append(parent)
    return [found[number] for number in sorted(found, reverse=True)]


class Parts(list[Any]):
    """The gradients that a rule gives, where it has more to tell.

    Attributes:
        trace: What a kernel that stands for many time steps did at each of them.
    """

    trace: Any = None


Observer: TypeAlias = Callable[[Node, Any, Sequence[Any]], None]
"""Called once a node, newest first, with its final gradient and the parts it hands to its parents.

The gradient of an op with several outputs is a list with None for an output that got none. The
parts have one entry a parent, None where no gradient flows; a leaf hands on nothing: `()`. Those of a
kernel are `Parts`, with its trace."""


def _walk(
    order: Sequence[Node], seed: Any, observer: Observer | None, create_graph: bool, wanted: dict[int, Any] | None
) -> None:
    """Carry `seed` from the root, `order[0]`, to every node of the order.

    `wanted` maps creation numbers to the gradients asked for and is filled in; with None, leaves
    and nodes that retain their gradient get `.grad`.
    """
    gradients: dict[int, Any] = {order[0].created: seed}
    owned: set[int] = set()  # buffers that this walk allocated, and may add into
    for node in order:
        g = gradients.pop(node.created, None)
        if g is None:
            continue
        op = node.op
        if wanted is not None:
            if node.created in wanted:
                wanted[node.created] = g if create_graph else np.array(g, copy=node.created not in owned)
        elif op is None or node.retains_grad:
            # A copy, unless the buffer is ours: another leaf may hold the same array.
            node.grad = np.array(g, copy=node.created not in owned) if node.grad is None else np.asarray(node.grad + g)
        parts = [] if op is None else [g] if op is pick else _parts(node, op, g, create_graph)
        if observer is not None:
            observer(node, g, parts)
        for parent, part in zip(node.parents, parts):
            if part is None or parent is None:
                continue
            key = parent.created
            already = gradients.get(key)
            if op is pick:
                if already is None:
                    already = gradients[key] = [None] * len(parent.value)
                index = node.attributes["index"]
                already[index] = part if already[index] is None else already[index] + part
            elif already is None:
                gradients[key] = part
            elif key in owned:
                np.add(already, part, already)
            elif create_graph:
                gradients[key] = already + part
            else:  # the first array may be shared with another parent: only the sum is our own
                gradients[key] = np.asarray(already + part)
                owned.add(key)


def _parts(node: Node, op: Op[Any], g: Any, create_graph: bool) -> list[Any]:
    """What a node hands to each parent that needs a gradient; None for the others."""
    if create_graph:
        rules = op.rule(g, *_recorded(node), **node.attributes)
    elif node.attributes:
        rules = op.rule(g, node.value, *node.inputs, **node.attributes)
    else:  # the same, without the cost of passing nothing
        rules = op.rule(g, node.value, *node.inputs)
    assert len(rules) == len(node.parents), f"the rule of {op.name} gave {len(rules)} gradients"
    parts: list[Any] = []
    if type(rules) is Parts:
        parts = Parts()
        parts.trace = rules.trace
    for parent, given, part in zip(node.parents, node.inputs, rules):
        if type(given) is np.ndarray and given.flags.writeable:
            whose = "an input" if parent is None else parent.describe()
            raise StaleGraphError(
                f"backward through {node.describe()}: the value of {whose} was unlocked after it was recorded,"
                " so this gradient may no longer belong to it.\n"
                "  Recorded arrays stay read-only; give a parameter a new value with parameter.data = new."
            )
        if parent is None or not parent.requires_grad:
            part = None
        elif callable(part):
            part = part()
        if part is not None and op.broadcasts and part.shape != given.shape:
            part = _sum_to(part, given.shape)
        parts.append(part)
    return parts


def _recorded(node: Node) -> list[Any]:
    """The output and inputs of a node as nodes, so that its rule is itself recorded."""
    for parent, recorded in zip(node.parents, node.inputs, strict=True):
        if parent is not None and parent.requires_grad and parent.value is not recorded:
            raise StaleGraphError(
                f"Second derivative through {node.describe()}: {parent.describe()} has been given a new value"
                " since it was recorded.\n  Differentiate before the update."
            )
    y = _all_picked(node) if type(node.value) is tuple else node
    pairs = zip(node.parents, node.inputs, strict=True)
    return [y, *(v if p is None or not p.requires_grad else p for p, v in pairs)]


def _sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum g over the axes along which an input of this shape was repeated."""
    extra = len(g.shape) - len(shape)
    repeated = (k + extra for k, size in enumerate(shape) if size == 1 and g.shape[k + extra] != 1)
    return g.sum(axis=(*range(extra), *repeated), keepdims=True).reshape(shape)


def _seed(root: Node, gradient: Any, attempted: str) -> Array:
    if not root.requires_grad:
        raise GradError(
            f"{attempted}: nothing that this tensor {root.value.shape} was computed from requires a gradient.\n"
            "  Make the inputs with requires_grad=True, and compute outside no_grad()."
        )
    if root.value.flags.writeable:
        raise StaleGraphError(
            f"{attempted}: the value of {root.describe()} was unlocked after it was recorded.\n"
            "  Recorded arrays stay read-only; compute it again."
        )
    if gradient is None:
        if root.value.size != 1:
            raise GradError(
                f"{attempted}: needs a scalar to start from; this tensor has shape {root.value.shape}.\n"
                "  Reduce it first (loss.mean()), or pass a gradient of the same shape."
            )
        return np.ones_like(root.value)
    seed = as_array(value(gradient), root.value.dtype)
    if seed.shape != root.value.shape or seed.dtype != root.value.dtype:
        raise ShapeError(
            f"{attempted}: the gradient given is {shapes([seed])}, the tensor is {shapes([root.value])}.\n"
            "  Give a gradient of the tensor's own shape and type."
        )
    return seed


def backward(
    root: Node, gradient: Any = None, *, accumulate: bool = False, observer: Observer | None = None
) -> None:
    """Differentiate `root` with respect to every leaf it depends on, into their `.grad`.

    The graph survives and can be walked again.

    Args:
        root: The tensor to differentiate, a scalar unless `gradient` is given.
        gradient: dL/droot, of the root's shape.
        accumulate: Add to gradients that leaves already hold, instead of refusing.
        observer: See `Observer`.
    Raises:
        GradError: The root is no scalar, depends on nothing that requires a gradient, or a leaf
            still holds the gradient of an earlier backward.
        StaleGraphError: A recorded array was unlocked.
    """
    seed = _seed(root, gradient, "backward()")
    order = topological(root)
    for node in order:
        if node.grad is not None and not accumulate:
            raise GradError(
                f"backward(): {node.describe()} {node.value.shape} still holds the gradient of an earlier"
                " backward(), and adding to it in silence would give the sum.\n"
                "  Call zero_grad() first, or backward(accumulate=True) if the sum is wanted."
            )
    with np.errstate(all="ignore"):  # an infinite gradient is a finding, shown as such, no accident
        _walk(order, seed, observer, False, None)


def grad(
    root: Node, inputs: Sequence[Node], gradient: Any = None, *, create_graph: bool = False,
    observer: Observer | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients of `root` with respect to `inputs`; no `.grad` is touched.

    Args:
        root: The tensor to differentiate, a scalar unless `gradient` is given.
        inputs: Any nodes of its graph, leaves or not.
        gradient: dL/droot, of the root's shape.
        create_graph: Record the differentiation itself, so that its result can be differentiated.
        observer: See `Observer`.
    Returns:
        One gradient an input: arrays, or with `create_graph` tensors; zeros where root does not
        depend on it.
    Raises:
        GradError, StaleGraphError: As `backward`.
    """
    seed: Any = _seed(root, gradient, "grad()")
    if create_graph:
        seed = gradient if isinstance(gradient, Node) else boxed(root.box, seed)
    wanted: dict[int, Any] = {node.created: None for node in inputs}
    with np.errstate(all="ignore"):
        _walk(topological(root), seed, observer, create_graph, wanted)
    for node in inputs:
        if wanted[node.created] is None:
            zeros = np.zeros_like(node.value)
            wanted[node.created] = boxed(root.box, zeros) if create_graph else zeros
    return tuple(wanted[node.created] for node in inputs)


def jacobian(output: Node, input: Node) -> Array:
    """d output / d input, of shape `output.shape + input.shape`: one walk an output element.

    Raises:
        GradError, StaleGraphError: As `grad`.
    """
    seeds = np.eye(output.value.size, dtype=output.value.dtype).reshape(-1, *output.value.shape)
    rows: Array = np.array([grad(output, [input], seed)[0] for seed in seeds], output.value.dtype)
    return rows.reshape((*output.value.shape, *input.value.shape))
