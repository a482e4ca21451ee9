"""Tensor: what it is made of, its operators, and what it refuses."""

import operator

import numpy as np
import pytest

from minigrad import Tensor, grad, gradcheck, no_grad
from minigrad.errors import DTypeError, GradError, MinigradError, ShapeError

# Making one


def test_constructor_copies():
    array = np.array([1.0, 2.0])
    x = Tensor(array)
    array[:] = 9.0
    np.testing.assert_array_equal(x.numpy(), [1.0, 2.0])


def test_constructor_leaves_the_array_given_writable():
    array = np.array([1.0, 2.0])
    Tensor(array)
    assert array.flags.writeable


@pytest.mark.parametrize("data", [1, 2.5, True, [1, 2], [[1.0], [2.0]], (1.0, 2.0), []])
def test_numbers_and_lists_become_float32(data):
    x = Tensor(data)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x.numpy(), np.asarray(data, dtype=float))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])
def test_arrays_keep_their_type(dtype):
    assert Tensor(np.ones(2, dtype)).dtype == dtype
    assert Tensor(dtype(1)).dtype == dtype


def test_tensor_of_a_tensor_is_a_leaf_with_its_value():
    x = Tensor(np.array([1.0]), requires_grad=True)
    y = Tensor(x * 2.0)
    assert (y.op, y.requires_grad, y.dtype) == (None, False, np.float64)
    np.testing.assert_array_equal(y.numpy(), [2.0])


@pytest.mark.parametrize(
    "data",
    [
        np.ones(2, np.float16),
        np.ones(2, np.longdouble),
        np.ones(2, complex),
        1j,
        [1j],
        "one",
        "1.5",
        ["1.5"],
        np.array(["1.5"]),
        np.array([None]),
        None,
        [None],
        [1.0, None],
        object(),
        [[1.0], [2.0, 3.0]],
        {"a": 1.0},
        np.array(["2024-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda data: "an object" if type(data) is object else repr(data),
)
def test_what_is_no_float_or_whole_number_is_refused(data):
    with pytest.raises(DTypeError, match=r"^A tensor (holds|is made of)"):
        Tensor(data)


def test_refusal_of_float16_names_the_remedy():
    with pytest.raises(DTypeError, match=r"found float16(.|\n)*astype\(np\.float32\)"):
        Tensor(np.ones(2, np.float16))


def test_whole_numbers_have_no_gradient():
    with pytest.raises(DTypeError, match=r"int64 has no gradient(.|\n)*astype\(np\.float32\)"):
        Tensor(np.array([1, 2]), requires_grad=True)


def test_shape_ndim_size_dtype_are_those_of_the_array():
    x = Tensor(np.ones((2, 0, 3), np.float32))
    assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 0, 3), 3, 0, np.float32)


def test_requires_grad_and_name_are_kept():
    x = Tensor([1.0], requires_grad=True, name="bias")
    assert (x.requires_grad, x.name, x.grad) == (True, "bias", None)


# Operators

COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
VALUES = np.array([0.5, 1.5, 2.0])
by_operator = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)


@by_operator
@pytest.mark.parametrize(
    "other", [3, 2.5, np.array([1.0, 2.0, 4.0]), np.array(2.0), np.float64(3.0), np.array([1, 2, 3])], ids=repr
)
def test_operator_with_a_number_or_an_array_on_either_side(op, other):
    x = Tensor(VALUES, requires_grad=True)
    for y, expected in ((op(x, other), op(VALUES, other)), (op(other, x), op(other, VALUES))):
        assert type(y) is Tensor
        assert y.requires_grad
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-15)
    gradcheck(lambda x: op(x, other) + op(other, x), [VALUES])


@by_operator
def test_operator_of_two_tensors(op):
    other = np.array([1.0, 3.0, 0.7])
    np.testing.assert_allclose(op(Tensor(VALUES), Tensor(other)).numpy(), op(VALUES, other), rtol=1e-15)
    gradcheck(op, [VALUES, other])


@pytest.mark.parametrize("swap", [False, True])
def test_matmul_with_an_array_on_either_side(swap):
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    y = a @ Tensor(b, requires_grad=True) if swap else Tensor(a, requires_grad=True) @ b
    assert type(y) is Tensor
    assert y.requires_grad
    np.testing.assert_allclose(y.numpy(), a @ b, rtol=1e-15)


def test_negative_and_absolute():
    x = Tensor(np.array([-2.0, 3.0]))
    np.testing.assert_array_equal((-x).numpy(), [2.0, -3.0])
    np.testing.assert_array_equal(abs(x).numpy(), [2.0, 3.0])


def test_in_place_operator_makes_a_new_tensor():
    x = Tensor([1.0], requires_grad=True)
    y = x
    y += 1.0
    assert y is not x
    assert x.item() == 1.0


def test_array_cannot_take_a_tensor_in_place():
    array = np.ones(2)
    with pytest.raises(TypeError, match=r"np\.add on a Tensor"):
        array += Tensor(np.ones(2))


@pytest.mark.parametrize("other", ["two", None, object()])
def test_operator_with_something_else_is_a_type_error(other):
    with pytest.raises(TypeError):
        Tensor([1.0]) + other


def test_builtin_sum_adds_tensors():
    assert sum([Tensor([1.0]), Tensor([2.0])]).item() == 3.0


@pytest.mark.parametrize("compare", COMPARISONS, ids=lambda op: op.__name__)
def test_comparisons_give_arrays_of_booleans(compare):
    x = Tensor(VALUES, requires_grad=True)
    for other in (1.5, np.array([1.5, 1.5, 1.5]), Tensor(np.array([0.5, 1.0, 3.0]))):
        found = compare(x, other)
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, compare(VALUES, other.numpy() if isinstance(other, Tensor) else other))


def test_number_compared_with_a_tensor():
    np.testing.assert_array_equal(operator.lt(1.0, Tensor(VALUES)), [False, True, True])


def test_tensors_are_hashed_by_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert {x: "x", y: "y"}[x] == "x"
    assert len({x, y, x}) == 2


# Taking numbers out


def test_item_float_and_bool_of_one_element():
    x = Tensor([[2.5]])
    assert (x.item(), float(x), bool(x), bool(Tensor(0.0))) == (2.5, 2.5, True, False)
    assert type(x.item()) is float


@pytest.mark.parametrize("take", [Tensor.item, float, bool])
@pytest.mark.parametrize("shape", [(2,), (0,)])
def test_no_one_number_in_several_or_none(take, shape):
    with pytest.raises(ShapeError, match="Pick one element"):
        take(Tensor(np.ones(shape)))


def test_len_is_the_first_axis():
    assert len(Tensor(np.ones((3, 2)))) == 3


def test_len_without_axes_is_an_error():
    with pytest.raises(ShapeError, match=r"no axes(.|\n)*\.item\(\)"):
        len(Tensor(1.0))


def test_iteration_yields_rows_that_carry_gradients():
    x = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    first, second = x
    np.testing.assert_array_equal(second.numpy(), [3.0, 4.0])
    np.testing.assert_array_equal(grad((first * second).sum(), [x])[0], [[3.0, 4.0], [1.0, 2.0]])


def test_iteration_over_numbers_yields_tensors_without_axes():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for element, expected in zip(x, [1.0, 2.0], strict=True):
        assert (type(element), element.shape, element.item()) == (Tensor, (), expected)
        assert type(element.numpy()) is np.ndarray


def test_iteration_over_nothing_ends_at_once():
    assert list(Tensor(np.ones((0, 2)))) == []


def test_iteration_without_axes_is_an_error():
    with pytest.raises(ShapeError, match="no axes"):
        list(Tensor(1.0))


def test_membership_compares_values():
    with no_grad():
        assert 2.0 in Tensor([1.0, 2.0])
        assert 3.0 not in Tensor([1.0, 2.0])


# Methods


@pytest.mark.parametrize("shape", [((3, 2),), ([3, 2],), (3, 2), (-1, 2), ((3, -1),)])
def test_reshape_takes_numbers_or_one_tuple(shape):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Tensor(x).reshape(*shape).numpy(), x.reshape(3, 2))


def test_reshape_to_one_axis_or_none():
    assert Tensor(np.ones((2, 3))).reshape(6).shape == (6,)
    assert Tensor(np.ones((1, 1))).reshape(()).shape == ()
    assert Tensor(np.ones((1, 1))).reshape().shape == ()


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_are_numpys(name, axis, keepdims):
    x = np.random.default_rng(0).standard_normal((2, 3))
    found = getattr(Tensor(x), name)(axis, keepdims=keepdims)
    np.testing.assert_allclose(found.numpy(), getattr(np, name)(x, axis=axis, keepdims=keepdims), rtol=1e-14)
    assert found.shape == getattr(np, name)(x, axis=axis, keepdims=keepdims).shape


def test_norm_is_numpys():
    x = np.random.default_rng(0).standard_normal((2, 3))
    np.testing.assert_allclose(Tensor(x).norm(1).numpy(), np.linalg.norm(x, axis=1), rtol=1e-15)


def test_transpose_swapaxes_and_T():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(Tensor(x).transpose(1, 2, 0).numpy(), x.transpose(1, 2, 0))
    np.testing.assert_array_equal(Tensor(x).transpose().numpy(), x.transpose())
    np.testing.assert_array_equal(Tensor(x).swapaxes(0, 2).numpy(), x.swapaxes(0, 2))
    np.testing.assert_array_equal(Tensor(x).T.numpy(), x.T)


@pytest.mark.parametrize("index", [1, slice(None, None, -1), (0, [2, 0]), [1, 1, 0], (Ellipsis, None), [True, False]])
def test_indexing_is_numpys(index):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Tensor(x)[index].numpy(), x[index])


def test_index_may_be_a_tensor_of_whole_numbers():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(Tensor(x)[Tensor(np.array([1, 0]))].numpy(), x[[1, 0]])


def test_index_may_be_a_comparison():
    x = Tensor(VALUES, requires_grad=True)
    np.testing.assert_array_equal(grad(x[x > 1.0].sum(), [x])[0], [0.0, 1.0, 1.0])


def test_assigning_to_an_index_is_an_error_that_names_where():
    x = Tensor([1.0, 2.0])
    with pytest.raises(GradError, match=r"x\[0\] = (.|\n)*where\(condition, new, x\)(.|\n)*\.data"):
        x[0] = 5.0


def test_detach_cuts_the_graph_and_shares_the_value():
    x = Tensor(np.array(3.0), requires_grad=True)
    y = (x * x).detach()
    assert (y.op, y.requires_grad) == (None, False)
    assert grad(x * y, [x])[0] == 9.0


def test_astype_makes_a_leaf_of_another_type():
    x = Tensor([1.5], requires_grad=True)
    y = x.astype(np.float64)
    assert (y.dtype, y.op, y.requires_grad) == (np.float64, None, False)
    assert y.item() == 1.5


def test_zero_grad_forgets():
    x = Tensor(np.array(3.0), requires_grad=True)
    (x * x).backward()
    x.zero_grad()
    assert x.grad is None


# New data


def test_new_data_is_copied_and_locked():
    x, new = Tensor(np.array([1.0, 2.0])), np.array([3.0, 4.0])
    x.data = new
    new[:] = 9.0
    np.testing.assert_array_equal(x.data, [3.0, 4.0])
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 1.0


@pytest.mark.parametrize("new", [[3, 4], (3.0, 4.0), np.array([3, 4]), Tensor(np.array([3.0, 4.0]))], ids=repr)
def test_new_data_may_be_a_list_whole_numbers_or_a_tensor(new):
    x = Tensor(np.array([1.0, 2.0]))
    x.data = new
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x.data, [3.0, 4.0])


def test_new_data_of_a_computed_tensor_is_an_error():
    y = Tensor([1.0], requires_grad=True) * 2.0
    with pytest.raises(GradError, match=r"multiply was computed(.|\n)*Give a leaf a new value"):
        y.data = [3.0]


@pytest.mark.parametrize("new", [np.ones(3), np.ones((2, 1)), 1.0, np.ones(2, np.float32)], ids=repr)
def test_new_data_must_be_of_the_same_shape_and_type(new):
    x = Tensor(np.ones(2), name="bias")
    with pytest.raises(MinigradError, match=r"bias is \(2,\) float64(.|\n)*same shape and type"):
        x.data = new


def test_refused_data_leaves_the_old():
    x = Tensor(np.ones(2))
    with pytest.raises(ShapeError):
        x.data = np.ones(3)
    np.testing.assert_array_equal(x.data, [1.0, 1.0])


# NumPy's own functions


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (np.tanh, "np.tanh on a Tensor(.|\n)*minigrad.tanh"),
        (np.exp, "minigrad.exp"),
        (np.abs, "minigrad.absolute"),
        (np.sum, "np.sum on a Tensor(.|\n)*minigrad.sum"),
        (np.max, "minigrad.max"),
        (np.transpose, "minigrad.transpose"),
        (np.squeeze, "minigrad.reshape"),
        (lambda x: np.concatenate([x, x]), "minigrad.concatenate"),
        (lambda x: np.vstack([x, x]), "minigrad.concatenate"),
        (lambda x: np.dot(x, x), "minigrad.matmul"),
        (lambda x: np.where(np.ones(2), x, x), "minigrad.where"),
        (lambda x: np.add.reduce(x), "np.add on a Tensor"),
        (lambda x: np.linalg.norm(x), "minigrad.norm"),
        (np.cumsum, r"np.cumsum on a Tensor(.|\n)*tensor\.numpy\(\)"),
        (np.sort, r"tensor\.numpy\(\)"),
        (np.arctan, r"tensor\.numpy\(\)"),
        (np.asarray, r"tensor\.numpy\(\)"),
        (np.array, r"tensor\.numpy\(\)"),
    ],
)
def test_numpy_functions_refuse_a_tensor_and_name_what_would_do(call, words):
    with pytest.raises(TypeError, match=words):
        call(Tensor([1.0, 2.0]))


def test_numpy_ufunc_with_an_output_array_is_refused():
    with pytest.raises(TypeError, match=r"np\.multiply on a Tensor"):
        np.multiply(np.ones(2), Tensor(np.ones(2)), out=np.ones(2))


# How it reads


def test_repr_of_a_leaf():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5], shape=(2,), float32)"


def test_repr_of_a_leaf_that_requires_a_gradient():
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], shape=(1,), float32, requires_grad=True)"


def test_repr_of_a_computed_tensor_names_its_op():
    assert repr(Tensor(np.array(2.0), requires_grad=True) * 3.0) == "Tensor(6., shape=(), float64, op=multiply)"


def test_repr_of_a_named_tensor_shows_the_name():
    assert repr(Tensor([1], name="bias")) == "Tensor([1.], shape=(1,), float32, name='bias')"


def test_repr_of_a_large_tensor_is_short():
    assert len(repr(Tensor(np.zeros(10_000)))) < 200
