"""Every op: its value against plain numpy, its rule against differences, to the second order."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from minigrad import Tensor, grad, gradcheck, ops
from minigrad.errors import DTypeError, ShapeError

RNG = np.random.default_rng(20240229)


@dataclass
class Row:
    """One line of the op table: an op, what it is given, and what plain numpy makes of the same."""

    name: str
    inputs: tuple
    attributes: dict
    oracle: object

    def __call__(self, *inputs):
        return ops.OPS[self.name](*inputs, **self.attributes)

    def joined(self, *inputs):
        """The outputs as one tensor: an op with several outputs is checked through all of them."""
        y = self(*inputs)
        return ops.concatenate(*[piece.reshape(-1) for piece in y]) if isinstance(y, tuple) else y

    def __str__(self):
        given = " ".join(str(x.shape).replace(" ", "") for x in self.inputs)
        constants = " ".join(
            f"{k}={v.tolist() if isinstance(v, np.ndarray) else v}" for k, v in self.attributes.items()
        )
        return f"{self.name} {given} {constants}".strip()


TABLE = []


def row(op_name, *inputs, oracle, **attributes):
    TABLE.append(Row(op_name, tuple(inputs), attributes, oracle))


def anything(*shape):
    return np.asarray(RNG.standard_normal(shape))


def positive(*shape):
    return np.asarray(RNG.uniform(0.5, 2.0, shape))


def nonzero(*shape):
    return positive(*shape) * np.where(RNG.random(shape) < 0.5, -1.0, 1.0)


SHAPES = [(), (1,), (3,), (2, 1, 3), (0,), (2, 0)]
PAIRS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((1,), (2, 3)),
    ((2, 1, 2), (3, 1)),
    ((1, 1), (2, 2)),
    ((0, 3), (3,)),
    ((2, 0), (2, 1)),
    ((), ()),
]

for a, b in PAIRS:
    row("add", anything(*a), anything(*b), oracle=np.add)
    row("subtract", anything(*a), anything(*b), oracle=np.subtract)
    row("multiply", anything(*a), anything(*b), oracle=np.multiply)
    row("divide", anything(*a), nonzero(*b), oracle=np.divide)
    row("power", positive(*a), anything(*b), oracle=np.power)
    row("maximum", anything(*a), anything(*b), oracle=lambda a, b: np.where(a > b, a, b))
row("power", positive(3), np.zeros(3), oracle=np.power)

for name, oracle, draw in [
    ("negative", lambda x: 0 - x, anything),
    ("exp", np.exp, anything),
    ("log", np.log, positive),
    ("sqrt", np.sqrt, positive),
    ("absolute", np.abs, nonzero),
    ("tanh", np.tanh, anything),
    ("relu", lambda x: np.where(x > 0, x, 0.0), nonzero),
    ("identity", lambda x: x, anything),
    ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), anything),
    ("softplus", lambda x: np.logaddexp(0, x), anything),
]:
    for shape in SHAPES:
        row(name, draw(*shape), oracle=oracle)

for c, a, b in [
    ((2, 3), (2, 3), (2, 3)),
    ((3,), (2, 1), (1, 3)),
    ((2, 3), (), (3,)),
    ((2, 1), (1, 3), ()),
    ((), (2,), (2,)),
    ((), (), ()),
    ((0, 1), (3,), (1, 3)),
]:
    row("where", (anything(*c) > 0).astype(float), anything(*a), anything(*b),
        oracle=lambda c, a, b: a * c + b * (1 - c))  # fmt: skip

for shape in SHAPES:
    for limits in ({"low": -0.5, "high": 0.5}, {"low": 0.1}, {"high": -0.1}):
        row("clip", anything(*shape), oracle=lambda x, low=-9, high=9: np.minimum(np.maximum(x, low), high), **limits)
    row("clip_gradient", anything(*shape), oracle=lambda x, limit: x, limit=1e3)
    mask = np.asarray((RNG.random(shape) < 0.6) / 0.6)
    row("dropout", anything(*shape), oracle=lambda x, mask: x * mask, mask=mask)

for letters, a, b in [
    ("ik,km->im", (2, 3), (3, 2)),
    ("k,k->", (3,), (3,)),
    ("k,km->m", (3,), (3, 2)),
    ("ik,k->i", (2, 3), (3,)),
    ("bik,bkm->bim", (2, 2, 3), (2, 3, 1)),
    ("bik,km->bim", (2, 2, 3), (3, 2)),
    ("ik,bkm->bim", (2, 3), (2, 3, 2)),
    ("bik,k->bi", (2, 2, 3), (3,)),
    ("k,bkm->bm", (3,), (2, 3, 2)),
    ("abik,bkm->abim", (2, 1, 2, 2), (3, 2, 1)),
    ("abik,k->abi", (2, 1, 2, 2), (2,)),
    ("ik,km->im", (1, 1), (1, 1)),
    ("ik,km->im", (0, 3), (3, 2)),
    ("ik,km->im", (2, 0), (0, 2)),
    ("k,k->", (0,), (0,)),
]:
    if letters == "abik,bkm->abim":  # the batch axes (2, 1) and (3,) broadcast to (2, 3)
        oracle = lambda x, w: np.einsum("aik,bkm->abim", x[:, 0], w)  # noqa: E731
    else:
        oracle = lambda x, w, letters=letters: np.einsum(letters, x, w)  # noqa: E731
    row("matmul", anything(*a), anything(*b), oracle=oracle)

for shape in [(2, 3), (3,), (2, 2, 3), (1, 3), (0, 3)]:
    row("linear", anything(*shape), anything(2, 3), anything(2),
        oracle=lambda x, w, b: np.einsum("...c,kc->...k", x, w) + b)  # fmt: skip

for shape, axis in [
    ((), None),
    ((3,), None),
    ((3,), 0),
    ((2, 3), None),
    ((2, 3), 1),
    ((2, 3), -2),
    ((2, 1, 3), (0, 2)),
    ((2, 1, 3), (-1, 1)),
    ((2, 1, 3), 1),
    ((2, 3), ()),
    ((1, 1), None),
    ((0,), None),
    ((2, 0), 1),
    ((0, 3), -1),
]:
    for keepdims in (False, True):
        x = nonzero(*shape)
        how = {"axis": axis, "keepdims": keepdims}
        row("sum", x, oracle=np.sum, **how)
        row("norm", x, oracle=lambda x, **how: np.sqrt(np.sum(np.square(x), **how)), **how)
        if x.size:
            row("mean", x, oracle=np.mean, **how)
        if x.size or (shape, axis) == ((0, 3), -1):
            row("max", x, oracle=np.max, **how)

for before, after in [((2, 3), (3, 2)), ((2, 3), (-1,)), ((), (1, 1)), ((1,), ()), ((0, 3), (2, 0)), ((4,), (2, 1, 2))]:
    row("reshape", anything(*before), oracle=lambda x, shape: np.reshape(x, shape), shape=after)
for shape, axes in [((2, 3), None), ((2, 1, 3), (2, 0, 1)), ((2, 1, 3), (-1, 0, -2)), ((), None), ((3,), (0,)),
                    ((0, 2), (1, 0))]:  # fmt: skip
    row("transpose", anything(*shape), oracle=np.transpose, axes=axes)
for shape, first, second in [((2, 3), 0, 1), ((2, 1, 3), 0, -1), ((2, 1, 3), 1, 1), ((0, 2), -1, -2)]:
    row("swapaxes", anything(*shape), oracle=lambda x, first, second: np.swapaxes(x, first, second),
        first=first, second=second)  # fmt: skip
for before, after in [((), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (3, 2, 2)), ((2,), (2,)), ((1,), (0,)),
                      ((0, 1), (2, 0, 3))]:  # fmt: skip
    row("broadcast_to", anything(*before), oracle=lambda x, shape: np.zeros(shape) + x, shape=after)

INDICES = [
    ((3,), 1),
    ((3,), -1),
    ((4, 3), 2),
    ((4, 3), (1, -2)),
    ((4, 3), slice(1, 3)),
    ((4,), slice(None, None, -1)),
    ((4, 3), (slice(3, None, -2), slice(None, 2))),
    ((4,), slice(2, 2)),
    ((3,), None),
    ((2, 3), (slice(None), None, 1)),
    ((2, 1, 3), (Ellipsis, 0)),
    ((2, 1, 3), (1, Ellipsis, slice(None, None, 2))),
    ((2, 3), Ellipsis),
    ((), Ellipsis),
    ((), None),
    ((3,), np.array([0, 2, 0, 0])),
    ((3, 2), np.array([[1, -1], [1, 1]])),
    ((3, 2), (np.array([0, 0, 2]), np.array([1, 1, 0]))),
    ((3, 2), (slice(None), np.array([1, 1, 0]))),
    ((3, 2), np.array([], int)),
    ((3,), np.array([True, False, True])),
    ((2, 3), np.array([[True, False, True], [False, False, True]])),
    ((2, 3), (slice(None), np.array([False, True, True]))),
    ((3,), np.array([False, False, False])),
    ((0, 2), slice(None)),
    ((3, 2), (np.array([0, 0]), None, slice(None))),
]
for shape, index in INDICES:
    x = anything(*shape)
    row("getitem", x, oracle=lambda x, index: np.asarray(x[index]), index=index)


def put_by_hand(x, index, shape):
    y = np.zeros(shape)
    for place, one in zip(np.arange(y.size).reshape(shape)[index].reshape(-1), x.reshape(-1), strict=True):
        y.reshape(-1)[place] += one
    return y


for shape, index in INDICES:
    row("put", anything(*np.zeros(shape)[index].shape), oracle=put_by_hand, index=index, shape=shape)

for shapes, axis in [
    (((2, 3), (1, 3)), 0),
    (((2, 1), (2, 3), (2, 2)), 1),
    (((2, 3), (2, 2)), -1),
    (((2,),), 0),
    (((2, 0), (2, 3)), 1),
    (((0,), (0,)), 0),
]:
    row("concatenate", *[anything(*s) for s in shapes], oracle=lambda *xs, axis: np.concatenate(xs, axis), axis=axis)
for shape, count, axis in [((2, 3), 2, 0), ((2, 3), 3, 1), ((2, 3), 2, -1), ((), 3, 0), ((0,), 2, 0), ((1,), 1, -2)]:
    row("stack", *[anything(*shape) for _ in range(count)],
        oracle=lambda *xs, axis: np.stack(xs, axis), axis=axis)  # fmt: skip


def split_by_hand(x, sizes, axis):
    ends = list(itertools.accumulate(sizes))
    return tuple(np.take(x, range(end - size, end), axis=axis) for size, end in zip(sizes, ends, strict=True))


def unstack_by_hand(x, axis):
    return tuple(np.take(x, k, axis=axis) for k in range(x.shape[axis]))


for shape, sizes, axis in [
    ((4, 2), (1, 3), 0),
    ((2, 3), (1, 1, 1), 1),
    ((2, 3), (2, 1), -1),
    ((3,), (0, 2, 0, 1), 0),
    ((3,), (3,), 0),
    ((0, 2), (0, 0), 0),
    ((0, 2), (1, 1), 1),
]:
    row("split", anything(*shape), oracle=split_by_hand, sizes=sizes, axis=axis)
for shape, axis in [((3, 2), 0), ((3, 2), 1), ((2, 1, 3), -2), ((1,), 0), ((2, 0), 0)]:
    row("unstack", anything(*shape), oracle=unstack_by_hand, axis=axis)
for index in [np.array(1), np.array([2, 0, 2, 2]), np.array([[0, 1], [1, 1]]), np.array([], int)]:
    row("embedding", anything(3, 2), oracle=lambda weight, index: np.take(weight, index, axis=0), index=index)


def plain_softmax(x, axis):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


for shape, axis in [((), -1), ((3,), -1), ((2, 3), 0), ((2, 3), 1), ((2, 1, 3), -1), ((2, 1), -1), ((2, 0), -1),
                    ((0, 3), -1)]:  # fmt: skip
    row("softmax", anything(*shape), oracle=plain_softmax, axis=axis)
    row("log_softmax", anything(*shape), oracle=lambda x, axis: np.log(plain_softmax(x, axis)), axis=axis)

every_row = pytest.mark.parametrize("row", TABLE, ids=str)


def test_every_op_has_a_row_in_the_table():
    assert {row.name for row in TABLE} == set(ops.OPS)


def test_every_op_is_public_under_its_own_name():
    assert {name: getattr(ops, name) for name in ops.__all__} == ops.OPS


def test_every_op_says_what_it_computes_and_what_it_takes():
    assert [name for name, op in ops.OPS.items() if not (op.__doc__ or "").strip() or not op.accepts] == []


def test_every_op_is_named_as_it_is_listed():
    assert [name for name, op in ops.OPS.items() if op.name != name] == []


@every_row
def test_value_equals_numpy(row):
    expected = row.oracle(*row.inputs, **row.attributes)
    found = row(*map(Tensor, row.inputs))
    for y, theirs in zip(found if isinstance(found, tuple) else (found,),
                         expected if isinstance(expected, tuple) else (expected,), strict=True):  # fmt: skip
        assert y.shape == np.shape(theirs)
        np.testing.assert_allclose(y.numpy(), theirs, rtol=1e-13, atol=1e-15)


@every_row
def test_derivatives_equal_differences_to_second_order(row):
    if row.name == "where":
        condition, a, b = row.inputs
        gradcheck(lambda a, b: row(condition, a, b), (a, b))
    else:
        gradcheck(row.joined, row.inputs)


def has_a_layout(row):
    return all(x.size for x in row.inputs) and any(x.ndim and x.size > 1 for x in row.inputs)


@pytest.mark.parametrize(
    ("keep", "view"),
    [
        (lambda x: np.ascontiguousarray(x.T), lambda t: t.T),
        (lambda x: np.repeat(x, 2, axis=-1)[..., ::-1], lambda t: t[..., ::-2]),
    ],
    ids=["transposed", "strided"],
)
@pytest.mark.parametrize("row", [row for row in TABLE if has_a_layout(row)], ids=str)
@pytest.mark.slow
def test_derivatives_of_arrays_that_are_not_contiguous(row, keep, view):
    kept = [keep(x) if x.ndim else x for x in row.inputs]

    def through_the_view(*tensors):
        return row.joined(*[view(t) if t.ndim else t for t in tensors])

    np.testing.assert_allclose(
        through_the_view(*map(Tensor, kept)).numpy(), row.joined(*map(Tensor, row.inputs)).numpy(), rtol=1e-13
    )
    if row.name == "where":
        gradcheck(lambda *branches: through_the_view(Tensor(kept[0]), *branches), kept[1:])
    else:
        gradcheck(through_the_view, kept)


def gradients(row, dtype, create_graph):
    tensors = [Tensor(x.astype(dtype), requires_grad=True) for x in row.inputs]
    y = row.joined(*tensors)
    weights = np.random.default_rng(3).standard_normal(y.shape).astype(dtype)
    return y, grad((y * weights).sum(), tensors, create_graph=create_graph)


@every_row
def test_float32_stays_float32_in_value_and_gradient(row):
    y, found = gradients(row, np.float32, create_graph=False)
    _, recorded = gradients(row, np.float32, create_graph=True)
    assert y.dtype == np.float32
    assert [g.dtype for g in (*found, *recorded)] == [np.float32] * (2 * len(row.inputs))
    _, exact = gradients(row, np.float64, create_graph=False)
    for ours, again, theirs in zip(found, recorded, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(again.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    ("function", "slope"),
    [
        pytest.param(lambda x: x + 1, lambda x: 1 + 0 * x, id="x + 1"),
        pytest.param(lambda x: 1 - x, lambda x: -1 + 0 * x, id="1 - x"),
        pytest.param(lambda x: 3 * x, lambda x: 3 + 0 * x, id="3 * x"),
        pytest.param(lambda x: x * 0.5, lambda x: 0.5 + 0 * x, id="x * 0.5"),
        pytest.param(lambda x: x * np.float64(0.5), lambda x: 0.5 + 0 * x, id="x * np.float64(0.5)"),
        pytest.param(lambda x: x / 3, lambda x: 1 / 3 + 0 * x, id="x / 3"),
        pytest.param(lambda x: 2 / x, lambda x: -2 / x**2, id="2 / x"),
        pytest.param(lambda x: x**2, lambda x: 2 * x, id="x**2"),
        pytest.param(lambda x: x**3.0, lambda x: 3 * x**2, id="x**3.0"),
        pytest.param(lambda x: x**-1, lambda x: -1 / x**2, id="x**-1"),
        pytest.param(lambda x: x**0.5, lambda x: 0.5 / np.sqrt(x), id="x**0.5"),
        pytest.param(lambda x: x**0, lambda x: 0 * x, id="x**0"),
        pytest.param(lambda x: 2**x, lambda x: 2**x * np.log(2), id="2**x"),
        pytest.param(lambda x: 2.0**x, lambda x: 2**x * np.log(2), id="2.0**x"),
        pytest.param(lambda x: ops.maximum(x, 1), lambda x: (x > 1) * 1.0, id="ops.maximum(x, 1)"),
        pytest.param(lambda x: ops.maximum(1.0, x), lambda x: (x > 1) * 1.0, id="ops.maximum(1.0, x)"),
        pytest.param(
            lambda x: ops.where(np.array([True, False, True]), x, 0.0),
            lambda x: np.array([1.0, 0.0, 1.0]),
            id="ops.where(np.array([True, False, True]), x, 0.0)",
        ),
        pytest.param(
            lambda x: ops.where(np.array([True, False, True]), 0, x),
            lambda x: np.array([0.0, 1.0, 0.0]),
            id="ops.where(np.array([True, False, True]), 0, x)",
        ),
        pytest.param(
            lambda x: ops.clip(x, low=1, high=2),
            lambda x: ((x > 1) & (x < 2)) * 1.0,
            id="ops.clip(x, low=1, high=2)",
        ),
        pytest.param(
            lambda x: x * np.array([1, 2, 3]),
            lambda x: np.array([1.0, 2.0, 3.0]),
            id="x * np.array([1, 2, 3])",
        ),
        pytest.param(
            lambda x: x * np.array([True, False, True]),
            lambda x: np.array([1.0, 0.0, 1.0]),
            id="x * np.array([True, False, True])",
        ),
        pytest.param(
            lambda x: x * Tensor(np.array([1, 2, 3])),
            lambda x: np.array([1.0, 2.0, 3.0]),
            id="x * Tensor(np.array([1, 2, 3]))",
        ),
        pytest.param(
            lambda x: x / Tensor(np.array([1, 2, 3])),
            lambda x: 1 / np.array([1.0, 2.0, 3.0]),
            id="x / Tensor(np.array([1, 2, 3]))",
        ),
        pytest.param(
            lambda x: x ** Tensor(np.array([1, 2, 3])),
            lambda x: np.array([1, 2, 3]) * x ** np.arange(3),
            id="x ** Tensor(np.array([1, 2, 3]))",
        ),
        pytest.param(
            lambda x: ops.dropout(x, mask=np.array([0, 2, 0])),
            lambda x: np.array([0.0, 2.0, 0.0]),
            id="ops.dropout(x, mask=np.array([0, 2, 0]))",
        ),
    ],
)
def test_float32_stays_float32_beside_plain_numbers(function, slope, create_graph):
    values = np.array([0.5, 1.5, 2.5], np.float32)
    x = Tensor(values, requires_grad=True)
    y = function(x)
    (g,) = grad(y.sum(), [x], create_graph=create_graph)
    assert (y.dtype, g.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(g.numpy() if create_graph else g, slope(values.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("exponent", [2, 3.0, 0.5, -1])
def test_power_of_float32_has_a_float32_second_derivative(exponent):
    x = Tensor([0.5, 2.0], requires_grad=True)
    (g,) = grad((x**exponent).sum(), [x], create_graph=True)
    (second,) = grad(g.sum(), [x])
    assert second.dtype == np.float32
    expected = exponent * (exponent - 1) * np.array([0.5, 2.0]) ** (exponent - 2)
    np.testing.assert_allclose(second, expected, rtol=1e-5)


def test_op_on_plain_arrays_gives_a_plain_array():
    y = ops.tanh(np.array([0.0, 1.0]))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, np.tanh([0.0, 1.0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.sum(x, 0),
        lambda x: ops.reshape(x, (3, 2)),
        lambda x: ops.softmax(x, 0),
        lambda x: ops.getitem(x, 0),
        lambda x: ops.split(x, (1, 1)),
    ],
)
def test_attributes_are_keyword_only(call):
    """`sum(x, 0)` must not take the 0 for a second input."""
    with pytest.raises(TypeError, match="positional argument"):
        call(Tensor(np.ones((2, 3))))


# One op at a time: kinks, ties, limits


def slope(function, values, dtype=np.float64):
    x = Tensor(np.array(values, dtype), requires_grad=True)
    (g,) = grad(function(x).sum(), [x])
    return g


@pytest.mark.parametrize("op", [ops.relu, ops.absolute, ops.norm], ids=lambda op: op.name)
def test_gradient_at_the_kink_is_zero(op):
    np.testing.assert_array_equal(slope(op, [0.0, 0.0, -0.0]), [0.0, 0.0, 0.0])


def test_norm_of_a_zero_row_leaves_the_other_rows_alone():
    found = slope(lambda x: ops.norm(x, axis=1), [[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(found, [[0.0, 0.0], [0.6, 0.8]], rtol=1e-15)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (None, [[0, 1 / 3, 1 / 3], [0, 0, 1 / 3]]),
        (0, [[0, 1, 0.5], [1, 0, 0.5]]),
        (1, [[0, 0.5, 0.5], [0, 0, 1]]),
        ((0, 1), [[0, 1 / 3, 1 / 3], [0, 0, 1 / 3]]),
    ],
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_ties_in_max_share_evenly(axis, expected, keepdims):
    found = slope(lambda x: ops.max(x, axis=axis, keepdims=keepdims), [[1.0, 5.0, 5.0], [2.0, 3.0, 5.0]])
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_ties_in_maximum_give_each_half():
    a = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    b = Tensor([1.0, 3.0, 2.0], requires_grad=True)
    ga, gb = grad(ops.maximum(a, b).sum(), [a, b])
    np.testing.assert_array_equal(ga, [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(gb, [0.5, 1.0, 0.0])


def test_clip_gradient_leaves_the_value_alone():
    x = np.array([-3.0, 0.0, 1e9])
    np.testing.assert_array_equal(ops.clip_gradient(Tensor(x), limit=0.1).numpy(), x)


def test_clip_gradient_limits_each_element_on_the_way_back():
    x = Tensor(np.zeros(4), requires_grad=True)
    upstream = np.array([-5.0, -0.5, 0.5, 5.0])
    (g,) = grad((ops.clip_gradient(x, limit=1.0) * upstream).sum(), [x])
    np.testing.assert_array_equal(g, [-1.0, -0.5, 0.5, 1.0])


def test_clip_gradient_beyond_the_limit_has_no_second_derivative():
    x = Tensor(np.array([0.1, 10.0]), requires_grad=True)
    y = ops.clip_gradient(x, limit=1.0)
    (g,) = grad((y * y / 4).sum(), [x], create_graph=True)
    np.testing.assert_allclose(g.numpy(), [0.05, 1.0])
    np.testing.assert_allclose(grad(g.sum(), [x])[0], [0.5, 0.0])


def test_clip_has_no_gradient_where_it_limits():
    np.testing.assert_array_equal(slope(lambda x: ops.clip(x, low=-1, high=1), [-2.0, 0.5, 2.0]), [0.0, 1.0, 0.0])


def test_power_with_exponent_zero_is_constant_also_at_zero():
    np.testing.assert_array_equal(slope(lambda x: x**0, [0.0, 2.0]), [0.0, 0.0])
    a = Tensor(np.zeros(2), requires_grad=True)
    b = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    ga, gb = grad((a**b).sum(), [a, b])
    np.testing.assert_array_equal(ga, [0.0, 0.0])
    np.testing.assert_array_equal(gb, [0.0, 0.0])


@pytest.mark.parametrize(("exponent", "expected"), [(1, 1.0), (2, 0.0), (3.0, 0.0)])
def test_power_at_base_zero_has_the_gradient_of_the_polynomial(exponent, expected):
    np.testing.assert_array_equal(slope(lambda x: x**exponent, [0.0]), [expected])


def test_power_of_a_negative_base_to_a_whole_number():
    gradcheck(lambda x: x**3, [np.array([-1.5, -0.5, 0.5])])


def test_where_gives_its_condition_no_gradient():
    condition = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    x = Tensor(np.array([3.0, 4.0]), requires_grad=True)
    got = grad(ops.where(condition, x, -x).sum(), [condition, x])
    np.testing.assert_array_equal(got, [[0.0, 0.0], [1.0, -1.0]])


def test_where_keeps_the_gradient_of_the_branch_not_taken_finite():
    found = slope(lambda x: ops.where(x.numpy() > 0, ops.log(ops.where(x.numpy() > 0, x, 1.0)), 0.0), [0.0, 2.0])
    np.testing.assert_array_equal(found, [0.0, 0.5])


def test_linear_without_bias_is_a_product():
    x, weight = anything(2, 3), anything(4, 3)
    np.testing.assert_allclose(ops.linear(Tensor(x), Tensor(weight), None).numpy(), x @ weight.T, rtol=1e-14)
    gradcheck(lambda x, weight: ops.linear(x, weight, None), [x, weight])


@pytest.mark.parametrize("name", ["linear", "matmul"])
def test_factors_multiply_to_the_gradient_of_the_weight(name):
    op = ops.OPS[name]
    x = anything(4, 3)
    others = [anything(2, 3), anything(2)] if name == "linear" else [anything(3, 2)]
    tensors = [Tensor(v, requires_grad=True) for v in (x, *others)]
    g = anything(4, 2)
    left, right = op.factors(g, x, *others)[1]
    np.testing.assert_allclose(left.T @ right, grad(op(*tensors), tensors, g)[1], rtol=1e-13)


def test_linear_of_sequences_has_factors_over_all_rows():
    x, weight, bias, g = anything(2, 4, 3), anything(2, 3), anything(2), anything(2, 4, 2)
    w = Tensor(weight, requires_grad=True)
    left, right = ops.linear.factors(g, x, weight, bias)[1]
    np.testing.assert_allclose(left.T @ right, grad(ops.linear(Tensor(x), w, bias), [w], g)[0], rtol=1e-13)


def test_embedding_sums_the_gradients_of_a_row_used_twice():
    weight = Tensor(np.zeros((3, 2)), requires_grad=True)
    (g,) = grad(ops.embedding(weight, index=np.array([1, 1, 2])).sum(), [weight])
    np.testing.assert_array_equal(g, [[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]])


def test_getitem_sums_the_gradients_of_a_place_named_twice():
    np.testing.assert_array_equal(slope(lambda x: x[np.array([0, 2, 0, -3])], [1.0, 2.0, 3.0]), [3.0, 0.0, 1.0])
    np.testing.assert_array_equal(slope(lambda x: x[[0, 0]], [1.0, 2.0, 3.0]), [2.0, 0.0, 0.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_unused_outputs_of_split_get_zeros(create_graph):
    x = Tensor(np.arange(6.0), requires_grad=True)
    _, middle, _ = ops.split(x, sizes=(1, 2, 3))
    (g,) = grad((middle * 3.0).sum(), [x], create_graph=create_graph)
    np.testing.assert_array_equal(g.numpy() if create_graph else g, [0.0, 3.0, 3.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("create_graph", [False, True])
def test_unused_outputs_of_unstack_get_zeros(create_graph):
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    rows = ops.unstack(x, axis=1)
    (g,) = grad(rows[-1].sum(), [x], create_graph=create_graph)
    assert g.dtype == np.float32
    np.testing.assert_array_equal(g.numpy() if create_graph else g, [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_partly_used_split_has_a_second_derivative():
    def cubes_of_the_middle(x):
        _, middle, _ = ops.split(x, sizes=(1, 2, 1))
        return middle**3

    gradcheck(cubes_of_the_middle, [anything(4)])


def test_one_output_of_split_used_twice_sums_both_gradients():
    gradcheck(lambda x: ops.multiply(*[ops.split(x, sizes=(2, 2))[0]] * 2), [anything(4)])


# Where the plain formula overflows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_of_a_thousand_saturates_without_a_warning(dtype):
    x = Tensor(np.array([-1000.0, 0.0, 1000.0], dtype), requires_grad=True)
    y = ops.sigmoid(x)
    np.testing.assert_allclose(y.numpy(), [0.0, 0.5, 1.0], atol=1e-37)
    np.testing.assert_allclose(grad(y.sum(), [x])[0], [0.0, 0.25, 0.0], atol=1e-37)


@pytest.mark.parametrize("x", [-80.0, -40.0, -10.0, 10.0])
def test_sigmoid_in_float32_is_exact_to_the_last_bits(x):
    truth = 1 / (1 + np.exp(np.float64(-x)))
    # e**80 in float32 carries the rounding of its own exponent: 80 * 6e-8
    np.testing.assert_allclose(ops.sigmoid(Tensor([x])).numpy(), [truth], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softplus_of_a_thousand_is_a_line_without_a_warning(dtype):
    x = Tensor(np.array([-1000.0, 0.0, 1000.0], dtype), requires_grad=True)
    y = ops.softplus(x)
    np.testing.assert_allclose(y.numpy(), [0.0, np.log(2.0), 1000.0], rtol=1e-6)
    np.testing.assert_allclose(grad(y.sum(), [x])[0], [0.0, 0.5, 1.0], atol=1e-37)


@pytest.mark.parametrize(
    ("big", "dtype"), [(1e4, np.float32), (1e4, np.float64), (1e38, np.float32), (1e300, np.float64)]
)
def test_softmax_of_large_numbers_is_finite(big, dtype):
    x = Tensor(np.array([big, big, 0.0, -big], dtype), requires_grad=True)
    np.testing.assert_array_equal(ops.softmax(x).numpy(), [0.5, 0.5, 0.0, 0.0])
    logs = ops.log_softmax(x)
    np.testing.assert_allclose(logs.numpy(), -np.log(2.0) - np.array([0.0, 0.0, big, 2 * big]), rtol=1e-6)
    np.testing.assert_allclose(grad(logs[2], [x])[0], [-0.5, -0.5, 1.0, 0.0], atol=1e-37)


def test_log_softmax_is_exact_where_softmax_rounds_to_zero():
    x = Tensor(np.array([0.0, -800.0]))
    assert ops.softmax(x)[1].item() == 0.0
    assert ops.log_softmax(x)[1].item() == -800.0


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1e200, np.float64), (1e-200, np.float64), (1e30, np.float32), (1e-30, np.float32)],
)
@pytest.mark.parametrize("axis", [None, 0])
def test_norm_neither_overflows_nor_underflows(size, dtype, axis):
    x = Tensor(np.array([3.0, -4.0], dtype) * dtype(size), requires_grad=True)
    y = ops.norm(x, axis=axis)
    np.testing.assert_allclose(y.item(), 5 * size, rtol=1e-6)
    np.testing.assert_allclose(grad(y, [x])[0], [0.6, -0.8], rtol=1e-6)


def test_norm_of_values_that_are_not_finite_says_so():
    assert np.isnan(ops.norm(Tensor([np.nan, 1.0])).item())
    assert np.isinf(ops.norm(Tensor([np.inf, 1.0])).item())


# Misuse


def test_embedding_counts_rows_in_whole_numbers():
    with pytest.raises(ShapeError, match=r"float64.*whole numbers(.|\n)*astype\(np.int64\)"):
        ops.embedding(Tensor(np.ones((3, 2))), index=np.array([1.0]))


@pytest.mark.parametrize("index", [3, -1])
def test_embedding_row_that_is_not_there_is_named(index):
    with pytest.raises(ShapeError, match=f"the indices run from {index} to {index}"):
        ops.embedding(Tensor(np.ones((3, 2))), index=np.array([index]))


def test_mean_of_nothing_is_an_error():
    with pytest.raises(ShapeError, match="mean of no elements is undefined"):
        Tensor(np.ones((0, 2))).mean()


def test_float_types_do_not_mix_in_any_op_of_several_inputs():
    mixes = {}
    for sample in TABLE:
        if len(sample.inputs) > 1 and sample.name != "where":
            first, *rest = sample.inputs
            mixes[sample.name] = (sample, [Tensor(first.astype(np.float32)), *map(Tensor, rest)])
    for sample, inputs in mixes.values():
        with pytest.raises(DTypeError, match="float32 and float64 do not mix"):
            sample(*inputs)
    assert {"add", "matmul", "linear", "concatenate", "stack"} <= set(mixes)


def test_where_keeps_a_gradient_that_is_not_finite_from_the_branch_that_was_not_taken() -> None:
    a, b = (Tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    ops.where(np.array([True, False]), a, b).backward(np.array([1.0, np.nan]))
    np.testing.assert_array_equal(a.grad, [1.0, 0.0])
    np.testing.assert_array_equal(b.grad, [0.0, np.nan])
