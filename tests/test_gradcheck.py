"""The checks themselves: they must find what is wrong, or passing them says nothing."""

import numpy as np
import pytest

from minigrad import Tensor, gradcheck, no_grad, ops
from minigrad.engine import value
from minigrad.errors import DTypeError, GradError
from minigrad.gradcheck import central_difference, complex_step

AT = np.array([0.5, -1.5, 2.0])


@pytest.fixture
def primitive(monkeypatch):
    """Make an op as `ops` does, and forget it after the test."""
    monkeypatch.setattr(ops, "OPS", dict(ops.OPS))
    return ops.primitive


def test_right_rule_passes(primitive):
    @primitive(lambda g, y, x: (3 * g * x**2,))
    def cube(x):
        return x**3

    gradcheck(cube, [AT])


def test_wrong_rule_is_found(primitive):
    @primitive(lambda g, y, x: (2 * g * x**2,))
    def cube(x):
        return x**3

    with pytest.raises(GradError, match=r"derivative 1 with respect to input 0 at \(\d,\)(.|\n)*the difference"):
        gradcheck(cube, [AT])


def test_rule_wrong_in_one_element_is_found(primitive):
    @primitive(lambda g, y, x: (g * np.array([2.0, 2.0, 2.001]) * x,))
    def square(x):
        return x**2

    with pytest.raises(GradError, match=r"input 0 at \(2,\)"):
        gradcheck(square, [AT])


def test_rule_wrong_for_the_second_input_is_found(primitive):
    @primitive(lambda g, y, a, b: (g * b, g * b))
    def product(a, b):
        return a * b

    with pytest.raises(GradError, match="with respect to input 1"):
        gradcheck(product, [AT, AT + 1.0])


def test_rule_that_gives_nan_is_found(primitive):
    @primitive(lambda g, y, x: (g * np.array([1.0, np.nan, 1.0]),))
    def same(x):
        return x + 0.0

    with pytest.raises(GradError, match=r"at \(1,\)"):
        gradcheck(same, [AT])


def test_wrong_second_derivative_is_found(primitive):
    @primitive(lambda g, y, x: (g * value(2 * x),))  # 2 x as a constant: right once, never twice
    def square(x):
        return x**2

    gradcheck(square, [AT], order=1)
    with pytest.raises(GradError, match="derivative 2 with respect to input 0"):
        gradcheck(square, [AT])


def test_missing_gradient_is_found():
    with pytest.raises(GradError, match="derivative 1"):
        gradcheck(lambda x: x * x.detach(), [AT])


def test_function_that_records_nothing_is_found():
    def forgetful(x):
        with no_grad():
            return x * 2.0

    with pytest.raises(GradError, match="derivative 1"):
        gradcheck(forgetful, [AT])


def test_constant_function_has_gradient_zero():
    gradcheck(lambda x: Tensor(np.array([1.0, 2.0])), [AT])


def test_linear_function_has_second_derivative_zero():
    gradcheck(lambda x: 3.0 * x, [AT])


def test_function_of_a_kink_is_found():
    with pytest.raises(GradError, match="move the input away from a kink"):
        gradcheck(ops.relu, [np.array([1e-7])])


def test_every_output_element_counts(primitive):
    @primitive(lambda g, y, x: (g.sum(axis=0),))  # forgets the factors 1, 2
    def twice(x):
        return np.stack([x, 2 * x])

    with pytest.raises(GradError, match="derivative 1"):
        gradcheck(twice, [AT])


@pytest.mark.parametrize("wrong", [np.ones(2, np.float32), np.ones(2, int), 1])
def test_anything_but_float64_is_an_error(wrong):
    with pytest.raises(DTypeError, match=r"input 1 is (.|\n)*float64"):
        gradcheck(lambda a, b: a + b, [np.ones(2), wrong])


def test_inputs_are_left_as_they_were():
    x = AT.copy()
    gradcheck(ops.exp, [x])
    central_difference(lambda x: np.sum(x**2), [x], 0)
    complex_step(lambda x: np.sum(x**2), [x], 0)
    np.testing.assert_array_equal(x, AT)


def test_random_numbers_may_be_given():
    gradcheck(ops.tanh, [AT], rng=np.random.default_rng(9))


def test_checking_ops_leaves_the_list_of_ops_alone():
    assert {"cube", "square", "product", "same", "twice"} & set(ops.OPS) == set()


def test_central_difference_of_a_square():
    np.testing.assert_allclose(central_difference(lambda x: np.sum(x**2), [AT], 0), 2 * AT, rtol=1e-8)


def test_difference_moves_the_input_asked_for():
    found = [central_difference(lambda a, b: np.sum(a * b**2), [AT, AT + 3.0], k) for k in (0, 1)]
    np.testing.assert_allclose(found[0], (AT + 3.0) ** 2, rtol=1e-8)
    np.testing.assert_allclose(found[1], 2 * AT * (AT + 3.0), rtol=1e-8)


def test_complex_step_is_exact_to_rounding():
    found = complex_step(lambda x: np.sum(np.tanh(x) * np.exp(x)), [AT], 0)
    exact = np.exp(AT) * (np.tanh(AT) + 1 - np.tanh(AT) ** 2)
    np.testing.assert_allclose(found, exact, rtol=1e-14)


def test_complex_step_moves_the_input_asked_for():
    found = complex_step(lambda a, b: np.sum(a * b**3), [AT, AT + 3.0], 1)
    np.testing.assert_allclose(found, 3 * AT * (AT + 3.0) ** 2, rtol=1e-14)


def test_complex_step_sees_a_vanished_gradient_where_a_difference_reads_zero():
    def vanishing(x):
        return 1.0 + 1e-32 * np.sum(np.sin(x))

    np.testing.assert_array_equal(central_difference(vanishing, [AT], 0), [0.0, 0.0, 0.0])
    np.testing.assert_allclose(complex_step(vanishing, [AT], 0), 1e-32 * np.cos(AT), rtol=1e-14)


def test_complex_step_agrees_with_a_chain_of_small_factors():
    def chain(x):
        for _ in range(40):
            x = np.tanh(0.1 * x)
        return x.sum()

    at = np.array([0.5])
    x, product = 0.5, 1.0
    for _ in range(40):
        x = np.tanh(0.1 * x)
        product *= 0.1 * (1 - x * x)
    np.testing.assert_allclose(complex_step(chain, [at], 0), [product], rtol=1e-13)
    assert product < 1e-39
