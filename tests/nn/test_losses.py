from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.errors import MinigradError, ShapeError
from tests.oracles import complex_step, sigmoid

LOSSES: dict[str, Any] = {
    "cross_entropy": (nn.cross_entropy, (2, 3), np.array([0, 2])),
    "mse_loss": (nn.mse_loss, (2, 3), np.arange(6.0).reshape(2, 3)),
    "binary_cross_entropy_with_logits": (
        nn.binary_cross_entropy_with_logits, (2, 3), np.array([[1.0, 0.0, 1.0], [0.0, 0.3, 1.0]])
    ),
}  # fmt: skip
every_loss = pytest.mark.parametrize("name", LOSSES)


def logits_of(values: Any) -> Tensor:
    return Tensor(np.array(values, np.float64), requires_grad=True)


# All losses


@every_loss
def test_sum_and_mean_are_those_of_the_elements(name: str) -> None:
    loss, shape, target = LOSSES[name]
    x = Tensor(np.random.default_rng(0).standard_normal(shape))
    elements = loss(x, target, reduction="none").numpy()
    assert elements.shape == target.shape
    assert loss(x, target, reduction="sum").item() == pytest.approx(elements.sum(), rel=1e-14)
    assert loss(x, target).item() == pytest.approx(elements.mean(), rel=1e-14)


@every_loss
def test_a_loss_of_float32_is_float32(name: str) -> None:
    loss, shape, target = LOSSES[name]
    x = Tensor(np.ones(shape, np.float32), requires_grad=True)
    y = loss(x, target)
    y.backward()
    assert (y.dtype, x.grad.dtype, y.shape) == (np.float32, np.float32, ())


@every_loss
def test_an_unknown_reduction_is_an_error(name: str) -> None:
    loss, shape, target = LOSSES[name]
    with pytest.raises(MinigradError, match=r"reduction='average'\.\n  Choose 'mean', 'sum' or 'none'"):
        loss(Tensor(np.zeros(shape)), target, reduction="average")


@every_loss
def test_the_mean_of_no_elements_is_an_error_and_their_sum_is_zero(name: str) -> None:
    loss, shape, target = LOSSES[name]
    empty = Tensor(np.zeros((0, *shape[1:])))
    with pytest.raises(MinigradError, match="The mean of no elements is undefined: every target is ignored, or there"):
        loss(empty, target[:0])
    assert loss(empty, target[:0], reduction="sum").item() == 0


# Cross-entropy


@pytest.mark.parametrize("classes", [1, 2, 27, 1000])
def test_equal_logits_cost_the_log_of_the_number_of_classes(classes: int) -> None:
    loss = nn.cross_entropy(Tensor(np.zeros((4, 5, classes))), np.zeros((4, 5), int))
    assert loss.item() == pytest.approx(np.log(classes), abs=1e-13)


def test_cross_entropy_and_its_gradient_follow_the_complex_step() -> None:
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal((3, 2, 5)) * 2, rng.integers(0, 5, (3, 2))

    def direct(x: Any) -> Any:
        chosen = np.take_along_axis(x, target[..., None], -1)[..., 0]
        return (np.log(np.exp(x).sum(-1)) - chosen).mean()

    leaf = logits_of(x)
    loss = nn.cross_entropy(leaf, target)
    loss.backward()
    assert loss.item() == pytest.approx(direct(x), rel=1e-13)
    np.testing.assert_allclose(leaf.grad, complex_step(direct, x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("target", "cost", "slope"), [(0, 0.0, [0, 0, 0]), (1, 2e4, [1, -1, 0]), (2, 1e4, [1, 0, -1])])
def test_cross_entropy_is_exact_for_huge_logits(target: int, cost: float, slope: list[int]) -> None:
    for dtype in (np.float32, np.float64):
        x = Tensor(np.array([[1e4, -1e4, 0.0]], dtype), requires_grad=True)
        loss = nn.cross_entropy(x, np.array([target]))
        loss.backward()
        assert loss.item() == cost
        np.testing.assert_array_equal(x.grad, [slope])


def test_adding_a_number_to_all_logits_changes_nothing() -> None:
    x, target = np.random.default_rng(2).integers(-4, 4, (3, 5)).astype(float), np.array([0, 3, 4])
    assert nn.cross_entropy(Tensor(x + 2.0**20), target).item() == nn.cross_entropy(Tensor(x), target).item()


def test_one_sequence_element_may_be_a_single_row_of_logits() -> None:
    assert nn.cross_entropy(Tensor(np.array([0.0, np.log(3.0)])), 1).item() == pytest.approx(np.log(4 / 3))


@pytest.mark.parametrize("ignored", [-100, 0, 7])
def test_an_ignored_target_counts_neither_in_the_mean_nor_in_the_gradient(ignored: int) -> None:
    x = np.random.default_rng(3).standard_normal((4, 5))
    counted, short = logits_of(x), logits_of(x[[0, 2]])
    nn.cross_entropy(counted, np.array([1, ignored, 4, ignored]), ignore_index=ignored).backward()
    nn.cross_entropy(short, np.array([1, 4])).backward()
    np.testing.assert_allclose(counted.grad[[0, 2]], short.grad, rtol=1e-14)
    np.testing.assert_array_equal(counted.grad[[1, 3]], 0)


def test_an_ignored_target_has_a_loss_of_zero_among_the_elements() -> None:
    elements = nn.cross_entropy(Tensor(np.zeros((2, 3))), np.array([-100, 1]), reduction="none").numpy()
    np.testing.assert_allclose(elements, [0, np.log(3)])


def test_when_every_target_is_ignored_the_mean_is_an_error() -> None:
    x, target = Tensor(np.zeros((2, 3))), np.array([-100, -100])
    with pytest.raises(MinigradError, match="every target is ignored"):
        nn.cross_entropy(x, target)
    assert nn.cross_entropy(x, target, reduction="sum").item() == 0


def test_targets_that_are_not_whole_numbers_are_an_error() -> None:
    with pytest.raises(
        ShapeError,
        match=r"cross_entropy: logits have shape \(2, 3\), the target is float64 \(2,\)\.\n  Give whole .*shape \(2,\)",
    ):
        nn.cross_entropy(Tensor(np.zeros((2, 3))), np.array([0.0, 1.0]))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1), ()])
def test_targets_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    message = r"(?s)logits have shape \(2, 3\), the target is int64 .*Give whole numbers of shape \(2,\)"
    with pytest.raises(ShapeError, match=message):
        nn.cross_entropy(Tensor(np.zeros((2, 3))), np.zeros(shape, np.int64))


@pytest.mark.parametrize(("target", "span"), [([0, 3], "0 to 3"), ([-1, 2], "-1 to 2")])
def test_targets_that_are_no_class_are_an_error(target: list[int], span: str) -> None:
    message = rf"targets run from {span}, the logits have 3 classes\.\n  Give targets from 0 to 2, or ignore_index=-100"
    with pytest.raises(ShapeError, match=message):
        nn.cross_entropy(Tensor(np.zeros((2, 3))), np.array(target))


# Squared error


def test_mse_is_the_mean_square_and_its_slope_is_twice_the_difference() -> None:
    x = logits_of([[1.0, 2.0], [3.0, 5.0]])
    loss = nn.mse_loss(x, [[1.0, 0.0], [0.0, 1.0]])
    loss.backward()
    assert loss.item() == (0 + 4 + 9 + 16) / 4
    np.testing.assert_array_equal(x.grad, [[0, 1], [1.5, 2]])


def test_a_target_that_requires_a_gradient_gets_the_opposite_one() -> None:
    x, target = logits_of([1.0, 4.0]), logits_of([3.0, 3.0])
    nn.mse_loss(x, target, reduction="sum").backward()
    np.testing.assert_array_equal(x.grad, [-4, 2])
    np.testing.assert_array_equal(target.grad, [4, -2])


@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits"])
def test_a_target_that_would_broadcast_is_an_error(name: str) -> None:
    message = rf"{name}: the prediction has shape \(4, 1\), the target \(4,\)\.\n  Give one target for each predicted"
    with pytest.raises(ShapeError, match=message):
        LOSSES[name][0](Tensor(np.zeros((4, 1))), np.zeros(4))


# Binary cross-entropy


def test_binary_cross_entropy_is_the_formula_where_that_does_not_overflow() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal(8) * 3, rng.uniform(size=8)

    def direct(x: Any) -> Any:
        return -(y * np.log(sigmoid(x)) + (1 - y) * np.log(1 - sigmoid(x))).mean()

    leaf = logits_of(x)
    loss = nn.binary_cross_entropy_with_logits(leaf, y)
    loss.backward()
    assert loss.item() == pytest.approx(direct(x), rel=1e-13)
    np.testing.assert_allclose(leaf.grad, complex_step(direct, x), rtol=1e-11)


def test_binary_cross_entropy_is_exact_for_huge_logits() -> None:
    for dtype in (np.float32, np.float64):
        x = Tensor(np.array([1e4, -1e4, 1e4, -1e4], dtype), requires_grad=True)
        y = np.array([1.0, 0.0, 0.0, 1.0])
        elements = nn.binary_cross_entropy_with_logits(x, y, reduction="none")
        elements.sum().backward()
        np.testing.assert_array_equal(elements.numpy(), [0, 0, 1e4, 1e4])
        np.testing.assert_allclose(x.grad, [0, 0, 1, -1], atol=1e-37)


def test_at_logit_zero_the_loss_is_log_two_and_its_slope_one_half_minus_y() -> None:
    x = logits_of([0.0, 0.0, 0.0])
    elements = nn.binary_cross_entropy_with_logits(x, [0.0, 1.0, 0.3], reduction="none")
    elements.sum().backward()
    np.testing.assert_allclose(elements.numpy(), np.log(2), rtol=1e-15)
    np.testing.assert_allclose(x.grad, [0.5, -0.5, 0.2], rtol=1e-15)
