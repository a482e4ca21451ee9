"""The engine: what is recorded, in which order it is walked, what is refused, what is freed."""

import gc
import inspect
import threading
import weakref

import numpy as np
import pytest

from minigrad import Tensor, engine, grad, is_recording, jacobian, named_scope, no_grad, ops
from minigrad.engine import Node, Op, apply, backward, topological
from minigrad.errors import DTypeError, GradError, MinigradError, ShapeError, StaleGraphError
from minigrad.scope import Run, time_step


def leaf(values, name=None):
    return Tensor(np.array(values, np.float64), requires_grad=True, name=name)


# Shapes of graphs


def test_value_used_twice_has_two_parents():
    x = leaf(3.0)
    assert (x * x).parents == (x, x)


def test_value_used_twice_sums_both_gradients():
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad == 6.0


def test_both_ways_of_a_diamond_count():
    x = leaf(2.0)
    y = x * 3.0
    (y * y + y).backward()
    assert x.grad == 3.0 * (2 * 6.0 + 1)


def test_long_way_and_short_way_arrive_before_a_node_hands_on():
    x = leaf(1.5)
    y = x * x
    long = y
    for _ in range(5):
        long = long * 2.0
    (long * y).backward()  # 32 x**4
    np.testing.assert_allclose(x.grad, 32 * 4 * 1.5**3, rtol=1e-15)


def test_topological_order_puts_every_node_before_its_parents():
    x = leaf([1.0, 2.0])
    a, b = ops.unstack(x)
    order = topological((a * b + a) / b)
    place = {node: k for k, node in enumerate(order)}
    assert x in place
    assert [n for n in order for p in n.parents if p is not None and place[p] <= place[n]] == []


def test_order_leaves_out_what_no_gradient_reaches():
    x, constant = leaf(1.0), Tensor(np.array(2.0))
    assert [node.op and node.op.name for node in topological(x * constant)] == ["multiply", None]


def test_plain_array_beside_a_tensor_is_no_parent():
    assert (leaf([1.0]) * np.array([2.0])).parents[1] is None


def test_gradient_shared_by_two_parents_is_not_corrupted_by_a_later_sum():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    extra = a * 10.0 + a * 100.0
    (extra + (a + b)).sum().backward()
    np.testing.assert_array_equal(a.grad, [111.0, 111.0])
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])


def test_gradient_shared_by_interior_nodes_is_not_corrupted_by_a_later_sum():
    x = leaf([1.0, 2.0])
    a, b = (x * 1.0).retain_grad(), (x * 2.0).retain_grad()
    first = a * 10.0
    second = a * 100.0
    (first + second + (a + b)).sum().backward()
    np.testing.assert_array_equal(a.grad, [111.0, 111.0])
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [113.0, 113.0])


def test_two_leaves_do_not_share_the_array_of_their_gradient():
    a, b = leaf([1.0]), leaf([2.0])
    (a + b).sum().backward()
    a.grad += 5.0
    np.testing.assert_array_equal(b.grad, [1.0])


def test_the_gradient_given_is_not_the_array_of_a_leaf():
    x, seed = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    x.backward(seed)
    x.grad += 1.0
    np.testing.assert_array_equal(seed, [3.0, 4.0])


def test_gradient_that_nobody_needs_is_not_formed():
    asked = []
    op = Op("product", lambda a, b: a * b, False, "two numbers")
    op.rule = lambda g, y, a, b: (lambda: asked.append("a") or g * b, lambda: asked.append("b") or g * a)
    apply(op, leaf(2.0), Tensor(np.array(3.0))).backward()
    assert asked == ["a"]


# backward


def test_second_backward_names_zero_grad():
    x = leaf([1.0, 2.0], name="weight")
    (x * x).sum().backward()
    with pytest.raises(GradError, match=r"weight \(2,\) still holds(.|\n)*zero_grad\(\)(.|\n)*accumulate=True"):
        (x * 3.0).sum().backward()


def test_refused_backward_changes_no_gradient():
    old, fresh = leaf(1.0), leaf(2.0)
    (old * 3.0).backward()
    with pytest.raises(GradError, match="zero_grad"):
        (fresh * old).backward()
    assert old.grad == 3.0
    assert fresh.grad is None


def test_accumulate_adds():
    x = leaf([1.0, 2.0])
    (x * 3.0).sum().backward()
    (x * x).sum().backward(accumulate=True)
    np.testing.assert_array_equal(x.grad, [5.0, 7.0])


def test_accumulate_does_not_write_into_the_gradient_it_adds_to():
    x = leaf([1.0])
    x.sum().backward()
    before = x.grad
    x.sum().backward(accumulate=True)
    np.testing.assert_array_equal(before, [1.0])


def test_accumulated_gradient_of_a_scalar_is_an_array():
    x = leaf(2.0)
    (x * 3.0).backward()
    (x * 3.0).backward(accumulate=True)
    assert isinstance(x.grad, np.ndarray)
    assert x.grad == 6.0


def test_zero_grad_makes_room_for_the_next_backward():
    x = leaf(3.0)
    loss = x * x
    loss.backward()
    x.zero_grad()
    loss.backward()
    assert x.grad == 6.0


def test_backward_of_several_numbers_names_the_remedy():
    with pytest.raises(GradError, match=r"needs a scalar(.|\n)*shape \(2,\)(.|\n)*loss\.mean\(\)"):
        (leaf([1.0, 2.0]) * 2.0).backward()


def test_backward_of_one_element_with_axes_needs_no_gradient():
    x = leaf([[3.0]])
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, [[6.0]])


def test_backward_without_a_graph_names_the_remedy():
    with pytest.raises(GradError, match=r"nothing that this tensor(.|\n)*requires_grad=True(.|\n)*no_grad\(\)"):
        Tensor([1.0]).backward()


def test_backward_of_a_leaf_gives_one():
    x = leaf(2.0)
    x.backward()
    assert x.grad == 1.0


def test_gradient_given_weights_the_outputs():
    x = leaf([1.0, 2.0])
    (x * x).backward([10.0, 100.0])
    np.testing.assert_array_equal(x.grad, [20.0, 400.0])


def test_gradient_given_may_be_a_tensor():
    x = leaf([1.0, 2.0])
    (x * x).backward(Tensor(np.array([10.0, 100.0])))
    np.testing.assert_array_equal(x.grad, [20.0, 400.0])


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((1, 2)), np.array(1.0), np.ones(2, np.float32)])
def test_gradient_given_must_be_of_the_same_shape_and_type(wrong):
    with pytest.raises(MinigradError, match=r"the gradient given is(.|\n)*own shape and type"):
        (leaf([1.0, 2.0]) * 2.0).backward(wrong)


def test_interior_gradients_are_not_kept():
    x = leaf(2.0)
    y = x * 3.0
    (y * y).backward()
    assert y.grad is None


def test_retain_grad_keeps_an_interior_gradient():
    x = leaf(2.0)
    y = (x * 3.0).retain_grad()
    (y * y).backward()
    assert y.grad == 12.0
    assert x.grad == 36.0


def test_infinite_gradient_is_a_finding_and_no_warning():
    x = leaf([0.0, 4.0])
    ops.sqrt(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [np.inf, 0.25])


def test_gradients_have_the_type_of_their_tensor():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).mean().backward()
    assert x.grad.dtype == np.float32


# grad and jacobian


def test_grad_touches_no_grad_and_may_be_repeated():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    first, second = grad(loss, [x])[0], grad(loss, [x])[0]
    np.testing.assert_array_equal(first, [2.0, 4.0])
    np.testing.assert_array_equal(second, first)
    assert x.grad is None


def test_grad_ignores_a_gradient_that_a_leaf_already_holds():
    x = leaf(3.0)
    (x * x).backward()
    assert grad(x * x, [x])[0] == 6.0
    assert x.grad == 6.0


def test_grad_of_an_interior_node():
    x = leaf(2.0)
    y = x * 3.0
    assert [float(g) for g in grad(y * y, [x, y])] == [36.0, 12.0]


def test_grad_of_the_root_itself_is_one():
    y = leaf(2.0) * 3.0
    assert grad(y, [y])[0] == 1.0


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_of_an_input_that_is_not_used_is_zero(create_graph):
    x, unused = leaf(2.0), Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    g = grad(x * x, [x, unused], create_graph=create_graph)[1]
    assert (g.shape, g.dtype) == ((2, 3), np.float32)
    np.testing.assert_array_equal(g.numpy() if create_graph else g, np.zeros((2, 3)))


def test_grad_of_scalars_gives_arrays():
    x = leaf(2.0)
    assert isinstance(grad(x * x, [x])[0], np.ndarray)
    assert isinstance(grad(x * 3.0, [x])[0], np.ndarray)


def test_results_of_grad_do_not_share_an_array():
    a, b = leaf([1.0]), leaf([2.0])
    ga, gb = grad((a + b).sum(), [a, b])
    assert not np.shares_memory(ga, gb)


def test_second_and_third_derivative_of_a_cube():
    x = leaf(2.0)
    (first,) = grad(x**3, [x], create_graph=True)
    (second,) = grad(first, [x], create_graph=True)
    (third,) = grad(second, [x])
    assert (first.item(), second.item(), float(third)) == (12.0, 12.0, 6.0)


def test_fourth_derivative_of_the_exponential_is_itself():
    x = leaf(0.5)
    y = ops.exp(x)
    for _ in range(4):
        (y,) = grad(y, [x], create_graph=True)
    np.testing.assert_allclose(y.item(), np.exp(0.5), rtol=1e-15)


def test_hessian_vector_product_equals_differences_of_the_gradient():
    rng = np.random.default_rng(1)
    weight, at, direction = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal(3)

    def slope(x, create_graph):
        return grad((ops.tanh(weight @ x) ** 2).sum(), [x], create_graph=create_graph)[0]

    x = leaf(at)
    (product,) = grad((slope(x, True) * direction).sum(), [x])
    ahead, behind = (slope(leaf(at + sign * 1e-5 * direction), False) for sign in (1, -1))
    np.testing.assert_allclose(product, (ahead - behind) / 2e-5, rtol=1e-8, atol=1e-9)


def test_gradient_given_as_a_tensor_can_itself_be_differentiated():
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = grad(x * x, [x], v, create_graph=True)  # 2 x v
    np.testing.assert_array_equal(grad(g.sum(), [v])[0], [2.0, 4.0])


def test_gradients_without_create_graph_are_arrays_without_a_graph():
    x = leaf([1.0])
    assert type(grad((x * x).sum(), [x])[0]) is np.ndarray


def test_jacobian_of_a_linear_map_is_its_matrix():
    matrix = np.random.default_rng(2).standard_normal((3, 4))
    x = leaf([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(jacobian(matrix @ x, x), matrix, rtol=1e-15)
    assert x.grad is None


def test_jacobian_has_the_axes_of_the_output_then_of_the_input():
    x = leaf(np.arange(6.0).reshape(2, 3))
    found = jacobian(x.T * 2.0, x)
    expected = 2.0 * np.einsum("il,jk->ijkl", np.eye(3), np.eye(2))
    np.testing.assert_array_equal(found, expected)


def test_jacobian_of_a_scalar_is_its_gradient():
    x = leaf([1.0, 2.0])
    np.testing.assert_array_equal(jacobian((x * x).sum(), x), [2.0, 4.0])


def test_jacobian_without_a_graph_is_an_error():
    with pytest.raises(GradError, match="requires a gradient"):
        jacobian(Tensor([1.0]), Tensor([2.0]))


# The observer


def observed(root):
    seen = []
    backward(root, observer=lambda node, g, parts: seen.append((node, g, parts)))
    return seen


def small_network():
    rng = np.random.default_rng(4)
    x, w = leaf(rng.standard_normal((2, 4))), leaf(rng.standard_normal((4, 4)))
    left, _, right = ops.split(ops.tanh(x @ w), sizes=(1, 1, 2), axis=1)
    return x, w, (left * right + right * right).sum()


def test_observer_sees_every_node_once_newest_first():
    _, _, loss = small_network()
    numbers = [node.created for node, _, _ in observed(loss)]
    assert numbers == sorted(set(numbers), reverse=True)
    assert {*numbers} <= {node.created for node in topological(loss)}


def test_observer_sees_final_gradients():
    _, _, loss = small_network()
    seen = [(node, g) for node, g, _ in observed(loss) if not isinstance(g, list)]
    assert len(seen) > 8
    for node, g in seen:
        np.testing.assert_array_equal(g, grad(loss, [node])[0])


def test_parts_sum_to_the_gradients_of_the_parents():
    x, w, loss = small_network()
    received = {}
    seen = observed(loss)
    for node, _, parts in seen:
        assert len(parts) == len(node.parents)
        for parent, part in zip(node.parents, parts, strict=True):
            if node.op.name != "pick":
                received[parent] = received.get(parent, 0) + part
    for node, g, _ in seen:
        if node in received and not isinstance(g, list):
            np.testing.assert_allclose(received[node], g, rtol=1e-14)
    assert {x, w} <= set(received)


def test_observer_of_several_outputs_sees_none_for_the_unused_one():
    _, _, loss = small_network()
    (gradients,) = [g for node, g, _ in observed(loss) if node.op and node.op.name == "split"]
    assert [g is None for g in gradients] == [False, True, False]


def test_parts_have_none_where_no_gradient_flows():
    x = leaf([1.0, 2.0])
    (parts,) = [p for node, _, p in observed((x * Tensor(np.ones(2))).sum()) if node.op and node.op.name == "multiply"]
    assert parts[1] is None


def test_a_leaf_hands_on_nothing():
    x = leaf(2.0)
    assert [len(parts) for node, _, parts in observed(x * x) if node is x] == [0]


# A value changed under the graph


@pytest.mark.parametrize("array", [lambda t: t.value, lambda t: t.numpy(), lambda t: t.data])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 2.0, lambda x: x[1:], lambda x: x.T, ops.identity,
                                  lambda x: x.sum(), lambda x: ops.unstack(x)[0], lambda x: x.detach()])  # fmt: skip
def test_writing_into_a_value_fails_on_the_writers_own_line(array, make):
    target = array(make(leaf([1.0, 2.0])))
    with pytest.raises(ValueError, match="read-only"):
        target[...] = 5.0


def test_in_place_arithmetic_on_a_value_fails_too():
    values = leaf([1.0, 2.0]).numpy()
    with pytest.raises(ValueError, match="read-only"):
        values += 1.0


def test_writing_into_an_array_after_an_op_used_it_changes_nothing():
    x, factor = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    y = x * factor
    factor[:] = 0.0
    np.testing.assert_array_equal(grad(y.sum(), [x])[0], [3.0, 4.0])


def test_writing_into_an_index_after_an_op_used_it_changes_nothing():
    x, index = leaf([1.0, 2.0, 3.0]), np.array([0, 0])
    y = x[index]
    index[:] = 2
    np.testing.assert_array_equal(grad(y.sum(), [x])[0], [2.0, 0.0, 0.0])


def test_writing_into_a_mask_after_an_op_used_it_changes_nothing():
    x, mask = leaf([1.0, 2.0]), np.array([2.0, 0.0])
    y = ops.dropout(x, mask=mask)
    mask[:] = 7.0
    np.testing.assert_array_equal(grad(y.sum(), [x])[0], [2.0, 0.0])


def test_writing_into_indices_after_an_embedding_used_them_changes_nothing():
    weight, index = leaf([[1.0], [2.0]]), np.array([0, 0])
    y = ops.embedding(weight, index=index)
    index[:] = 1
    np.testing.assert_array_equal(grad(y.sum(), [weight])[0], [[2.0], [0.0]])


def test_unlocked_value_stops_backward_naming_op_and_scope():
    x = leaf([1.0, 2.0], name="weight")
    with named_scope("lstm"), named_scope("forget gate"):
        loss = (x * x).sum()
    x.value.setflags(write=True)
    x.value[0] = 100.0
    with pytest.raises(StaleGraphError, match=r"multiply at lstm / forget gate(.|\n)*weight(.|\n)*unlocked"):
        loss.backward()


def test_unlocked_output_of_an_op_stops_backward():
    x = leaf([1.0, 2.0])
    y = ops.exp(x)
    loss = y.sum()
    y.value.setflags(write=True)
    y.value[:] = 5.0
    with pytest.raises(StaleGraphError, match="unlocked"):
        loss.backward()


def test_unlocked_root_stops_backward():
    y = ops.exp(leaf(1.0))
    y.value.setflags(write=True)
    y.value[...] = 5.0
    with pytest.raises(StaleGraphError, match="exp"):
        y.backward()


def test_unlocked_value_stops_grad_with_create_graph():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    x.value.setflags(write=True)
    with pytest.raises(StaleGraphError, match="unlocked"):
        grad(loss, [x], create_graph=True)


def test_new_data_leaves_an_older_graph_right():
    w = leaf(2.0)
    old = w * w
    w.data = np.array(5.0)
    assert old.item() == 4.0
    old.backward()
    assert w.grad == 4.0
    assert grad(w * w, [w])[0] == 10.0


def test_second_derivative_through_a_leaf_with_new_data_is_an_error():
    w = leaf(2.0, name="weight_hh")
    with named_scope("rnn"):
        old = w * w
    w.data = np.array(5.0)
    with pytest.raises(StaleGraphError, match=r"multiply at rnn(.|\n)*weight_hh(.|\n)*new value"):
        grad(old, [w], create_graph=True)


def test_stale_graph_is_a_grad_error_and_a_runtime_error():
    assert issubclass(StaleGraphError, GradError)
    assert issubclass(StaleGraphError, RuntimeError)


# What is recorded


def test_no_grad_records_nothing():
    x = leaf(2.0)
    with no_grad():
        y = x * x
        assert not is_recording()
    assert is_recording()
    assert (y.op, y.parents, y.requires_grad) == (None, (), False)
    assert y.item() == 4.0


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_recording()


def test_nested_no_grad_ends_with_the_outer_one():
    with no_grad():
        with no_grad():
            pass
        assert not is_recording()


def test_another_thread_records_while_this_one_does_not():
    seen = []
    with no_grad(), named_scope("mine"):
        thread = threading.Thread(target=lambda: seen.append((is_recording(), leaf(1.0).scope.path)))
        thread.start()
        thread.join()
    assert seen == [(True, ())]


def test_constants_alone_record_nothing():
    y = Tensor([1.0]) * Tensor([2.0])
    assert (y.op, y.requires_grad) == (None, False)


def test_node_names_the_callers_own_line():
    x = leaf([1.0, 2.0])
    by_operator, line = x * x, inspect.currentframe().f_lineno
    by_method, by_function = x.sum(), ops.tanh(x)
    for node in (by_operator, by_method, by_function):
        path, _, found = node.source.rpartition(":")
        assert path == __file__
        assert int(found) in (line, line + 1)
    assert by_operator.source.endswith(f"test_engine.py:{line}")


def test_leaf_has_no_source():
    assert leaf(1.0).source is None


def test_outputs_of_one_op_name_the_line_of_the_op():
    x = leaf([1.0, 2.0])
    (first, _), line = ops.unstack(x), inspect.currentframe().f_lineno
    assert first.source == f"{__file__}:{line}"


def test_outputs_of_an_op_are_tensors_of_the_operands_class():
    class Marked(Tensor):
        __slots__ = ()

    Marked.box = Marked
    assert type(Marked([1.0]) * 2.0) is Marked


def test_attributes_are_kept_with_the_node():
    assert leaf([[1.0]]).sum(axis=0).attributes == {"axis": 0, "keepdims": False}


def test_node_describes_itself_by_name_or_by_op():
    x = leaf(1.0, name="weight")
    with named_scope("lstm"):
        y = x * x
    assert (x.describe(), y.describe(), leaf(1.0).describe()) == ("weight", "multiply at lstm", "tensor")


def test_numbers_are_created_in_order():
    x = leaf(1.0)
    y = x * x
    assert x.created < y.created


# Types and shapes that do not fit


@pytest.mark.parametrize(
    "mix",
    [
        lambda f32, f64: f32 + f64,
        lambda f32, f64: f64 * f32,
        lambda f32, f64: f32 - f64.numpy(),
        lambda f32, f64: f32.numpy() / f64,
        lambda f32, f64: ops.concatenate(f32, f64),
        lambda f32, f64: ops.linear(f32, Tensor(np.ones((1, 2))), None),
    ],
)
def test_float32_beside_float64_names_the_remedy(mix):
    f32, f64 = Tensor([1.0, 2.0]), Tensor(np.array([1.0, 2.0]))
    with (
        named_scope("cell"),
        pytest.raises(DTypeError, match=r"at cell: float32 and float64 do not mix(.|\n)*astype\(np.float"),
    ):
        mix(f32, f64)


def test_mix_of_types_is_a_type_error():
    assert issubclass(DTypeError, TypeError)


@pytest.mark.parametrize("whole", [3, np.array([1, 2]), np.array([True, False]), Tensor(np.array([1, 2]))])
def test_whole_numbers_beside_float32_stay_float32(whole):
    x = Tensor([1.0, 2.0], requires_grad=True)
    for y in (x * whole, whole + x, x - whole):
        assert y.dtype == np.float32
        assert grad(y.sum(), [x])[0].dtype == np.float32


def test_second_derivative_beside_a_tensor_of_whole_numbers():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (g,) = grad((x * x * Tensor(np.array([3, 4]))).sum(), [x], create_graph=True)
    (second,) = grad(g.sum(), [x])
    assert second.dtype == np.float32
    np.testing.assert_array_equal(second, [6.0, 8.0])


ones = np.ones
RUN = Run(name="l0", cell="LSTM", steps=4, scope=("lstm",), number=0)
MISFITS = {
    "add": (lambda x: x + Tensor(ones(4)), ["(2, 3) float64", "(4,) float64", "broadcast: axis by axis"]),
    "multiply": (lambda x: x * ones((3, 2)), ["(2, 3)", "(3, 2)", "multiply takes shapes that broadcast"]),
    "matmul": (lambda x: x @ Tensor(ones((4, 5))), ["(2, 3)", "(4, 5)", "(…, n, k) @ (…, k, m)"]),
    "matmul of a number": (lambda x: x @ Tensor(np.array(1.0)), ["(2, 3)", "() float64", "matmul takes"]),
    "where": (lambda x: ops.where(ones(2), x, x), ["(2,)", "(2, 3)", "a condition and two branches"]),
    "linear": (lambda x: ops.linear(x, Tensor(ones((5, 4))), Tensor(ones(5))), ["(2, 3)", "(5, 4)", "weight (K, C)"]),
    "linear bias": (lambda x: ops.linear(x, Tensor(ones((5, 3))), Tensor(ones(4))), ["(5, 3)", "(4,)", "bias (K)"]),
    "reshape": (lambda x: x.reshape(4, 2), ["(2, 3)", "shape=(4, 2)", "as many elements"]),
    "transpose": (lambda x: x.transpose(0), ["(2, 3)", "axes=(0,)", "each axis of the input once"]),
    "swapaxes": (lambda x: x.swapaxes(0, 2), ["(2, 3)", "second=2", "two axes of the input"]),
    "broadcast_to": (lambda x: ops.broadcast_to(x, shape=(2, 4)), ["(2, 3)", "shape=(2, 4)", "broadcasts to"]),
    "sum": (lambda x: x.sum(axis=5), ["axis 5", "(2, 3)", "sum takes axis=None"]),
    "mean": (lambda x: x.mean(axis=(0, 2)), ["(2, 3)", "axis=(0, 2)", "mean takes"]),
    "max": (lambda x: x[:0].max(), ["(0, 3)", "at least one element"]),
    "norm": (lambda x: x.norm(axis=-3), ["axis=-3", "(2, 3)", "norm takes"]),
    "getitem": (lambda x: x[2], ["index 2 is out of bounds", "(2, 3)", "getitem takes"]),
    "getitem of too many axes": (lambda x: x[0, 0, 0], ["(2, 3)", "getitem takes"]),
    "getitem by a mask": (lambda x: x[np.array([True, False, True])], ["(2, 3)", "getitem takes"]),
    "concatenate": (lambda x: ops.concatenate(x, Tensor(ones((2, 4)))), ["(2, 3)", "(2, 4)", "but the joined one"]),
    "stack": (lambda x: ops.stack(x, Tensor(ones((2, 4)))), ["(2, 3)", "(2, 4)", "tensors of one shape"]),
    "split": (lambda x: ops.split(x, sizes=(1, 3), axis=1), ["(1, 3) do not add up to the 3", "sizes along the axis"]),
    "split backwards": (lambda x: ops.split(x, sizes=(4, -1), axis=1), ["(4, -1)", "sizes along the axis"]),
    "unstack": (lambda x: ops.unstack(x[:, :0], axis=1), ["axis 1 has no elements", "(2, 0)", "unstack takes"]),
    "softmax": (lambda x: ops.softmax(x, axis=2), ["axis=2", "(2, 3)", "an axis of the input"]),
    "log_softmax": (lambda x: ops.log_softmax(x, axis=2), ["axis=2", "(2, 3)", "an axis of the input"]),
    "embedding": (lambda x: ops.embedding(x, index=np.array([0, 2])), ["run from 0 to 2", "(2, 3)", "0 to V - 1"]),
    "dropout": (lambda x: ops.dropout(x, mask=ones(4)), ["(2, 3)", "a mask of the input's shape"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_shapes_that_do_not_fit_say_what_was_given_where_and_what_would_do(case):
    attempt, words = MISFITS[case]
    with named_scope("lstm"), time_step(2, RUN), pytest.raises(ShapeError) as caught:
        attempt(leaf(ones((2, 3))))
    message = str(caught.value)
    assert message.startswith(f"{case.split()[0]} at lstm / t=3: ")
    assert [word for word in words if word not in message] == []
    assert [word for word in ("gufunc", "operands could not", "np.", "numpy") if word in message] == []


def test_shape_error_outside_any_scope_names_the_op_alone():
    with pytest.raises(ShapeError, match=r"^add: "):
        leaf(ones(2)) + leaf(ones(3))


def test_shape_error_is_a_value_error_of_ours():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, MinigradError)


def test_mask_that_would_broadcast_the_input_is_refused():
    with pytest.raises(ShapeError, match="a mask of the input's shape"):
        ops.dropout(leaf(ones((1, 3))), mask=ones((2, 3)))


# Depth and memory


def test_chain_of_a_hundred_thousand_products_equals_the_closed_form():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.00001
    y.backward()
    np.testing.assert_allclose(x.grad, np.exp(100_000 * np.log(1.00001)), rtol=1e-9)


def test_chain_of_a_hundred_thousand_sums_of_one_leaf_counts_them():
    x = leaf(0.5)
    y = x
    for _ in range(100_000):
        y = y + x
    assert grad(y, [x])[0] == 100_001.0


class without_collector:
    """What is freed in this block is freed by reference counting alone."""

    def __enter__(self):
        gc.collect()
        self.was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_):
        if self.was_enabled:
            gc.enable()


def test_deep_graph_is_freed_with_its_loss():
    with without_collector():
        x = leaf(1.0)
        y = x * 1.0
        interior = weakref.ref(y)
        for _ in range(100_000):
            y = y * 1.00001
        assert interior() is not None
        del y
        assert interior() is None


def test_graph_is_freed_after_backward():
    with without_collector():
        x = leaf([1.0, 2.0])
        y = ops.tanh(x)
        loss = (y * y).sum()
        loss.backward()
        interior = weakref.ref(y)
        del y, loss
        assert interior() is None


def test_graph_with_several_outputs_is_freed():
    with without_collector():
        x = leaf([1.0, 2.0, 3.0])
        first, second, _ = ops.unstack(x * 2.0)
        source = weakref.ref(first.parents[0])
        loss = first * second
        loss.backward()
        one = weakref.ref(first)
        del first, second, _, loss
        assert (source(), one()) == (None, None)


def test_graph_of_a_second_derivative_is_freed():
    with without_collector():
        x = leaf([0.5, 2.0])
        a, b = ops.split(ops.norm(x) * x ** Tensor(np.array([2.0, 3.0])), sizes=(1, 1))
        loss = (a * ops.max(ops.softmax(x)) + b @ b).sum()
        (g,) = grad(loss, [x], create_graph=True)
        (second,) = grad(g.sum(), [x], create_graph=True)
        nodes = [weakref.ref(node) for root in (loss, g, second) for node in topological(root) if node is not x]
        assert len(nodes) > 50
        del a, b, loss, g, second
        assert [ref() for ref in nodes if ref() is not None] == []


# Ops with several outputs


def waves():
    """e**x and e**-x from one op, whose rule is written with its outputs."""
    op = Op("waves", lambda x: (np.exp(x), np.exp(-x)), False, "one tensor")
    op.rule = lambda g, y, x: (sum(gk * s * yk for gk, yk, s in zip(g, y, (1.0, -1.0), strict=True) if gk is not None),)
    return op


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("used", [0, 1])
def test_one_unused_output_gets_no_gradient(used, create_graph):
    x = leaf(0.5)
    y = apply(waves(), x)[used]
    (g,) = grad(y, [x], create_graph=create_graph)
    np.testing.assert_allclose(float(g), [np.exp(0.5), -np.exp(-0.5)][used], rtol=1e-15)


def test_each_output_of_one_op_is_a_node_of_its_own():
    x = leaf(0.5)
    up, down = apply(waves(), x)
    (up.retain_grad() * down.retain_grad() * 3.0).backward()
    np.testing.assert_allclose([up.grad, down.grad], [3 * np.exp(-0.5), 3 * np.exp(0.5)], rtol=1e-15)
    np.testing.assert_allclose(x.grad, 0.0, atol=1e-15)


def test_second_derivative_through_several_outputs_sums_every_use_of_an_output():
    x = leaf(0.5)
    up, _ = apply(waves(), x)
    (g,) = grad(up * up, [x], create_graph=True)  # e**2x, 2 e**2x, 4 e**2x
    np.testing.assert_allclose(g.item(), 2 * np.exp(1.0), rtol=1e-15)
    np.testing.assert_allclose(grad(g, [x])[0], 4 * np.exp(1.0), rtol=1e-15)


def test_several_outputs_without_a_graph_are_plain_tensors():
    with no_grad():
        up, down = apply(waves(), leaf(0.0))
    assert (up.op, down.op, up.requires_grad) == (None, None, False)


def test_engine_knows_a_node_without_knowing_tensor():
    assert isinstance(leaf(1.0), Node)
    assert engine.value(leaf(1.0)) == 1.0
    assert engine.value("anything else") == "anything else"
