"""Every loss, its value and its gradients, against PyTorch on randomly drawn inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

every_case = pytest.mark.parametrize("case", range(200))
SCALES = (1e-3, 1.0, 30.0, 1e3, 1e5, 1e200)  # sigmoid and exp leave their range from the third on


def shape_of(rng: np.random.Generator, least_axes: int = 0) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(1, 6, rng.integers(least_axes, 4)))


def leaf(values: Any) -> Any:
    return torch.tensor(values, requires_grad=True)


def assert_same(ours: Any, theirs: Any, size: float = 0.0) -> None:
    """Equal to 1e-10; rounding may leave 1e-15 of numbers of this size, of which the result is a difference."""
    wanted = theirs.detach().numpy()
    assert np.isfinite(wanted).all()  # a NaN on both sides would compare equal
    np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-15 * size)


def assert_same_backward(
    rng: np.random.Generator, ours: Tensor, theirs: Any, leaves: list[tuple[Tensor, Any]], size: float = 0.0
) -> None:
    """The values, then the gradients of pairs of leaves under one random cotangent."""
    assert ours.shape == tuple(theirs.shape)
    assert_same(ours.numpy(), theirs, size)
    cotangent = rng.standard_normal(ours.shape)
    ours.backward(np.array(cotangent))
    theirs.backward(torch.tensor(cotangent))
    for x, x_theirs in leaves:
        assert_same(x.grad, x_theirs.grad, size)


@every_case
def test_cross_entropy_is_pytorchs(case: int) -> None:
    rng = np.random.default_rng(case)
    shape, classes = shape_of(rng), int(rng.integers(1, 9))
    reduction, ignored = str(rng.choice(["mean", "sum", "none"])), int(rng.choice([-100, -1, 0, 3, 255]))
    values = rng.standard_normal((*shape, classes)) * rng.choice(SCALES)
    target = rng.integers(0, classes, shape)
    if reduction == "mean":
        ignored = -100 if (target == ignored).all() else ignored
    if ignored < 0 or ignored >= classes:  # a target that is no class, among those that are
        target = np.where(rng.random(shape) < 0.3, ignored, target)
        if reduction == "mean":
            target.flat[rng.integers(target.size)] = rng.integers(classes)
    kinds = [kind for kind in (np.int8, np.int32, np.int64, np.uint8) if (target == target.astype(kind)).all()]
    x, x_theirs = Tensor(values, requires_grad=True), leaf(values)
    ours = nn.cross_entropy(
        x, target.astype(kinds[rng.integers(len(kinds))]), ignore_index=ignored, reduction=reduction
    )
    theirs = torch.nn.functional.cross_entropy(
        x_theirs.reshape(-1, classes), torch.tensor(target.ravel()), ignore_index=ignored, reduction=reduction
    )
    assert_same_backward(rng, ours, theirs.reshape(ours.shape), [(x, x_theirs)], size=1)  # softmax - 1


@every_case
def test_equal_and_lone_extreme_logits_are_treated_as_pytorch_does(case: int) -> None:
    rng = np.random.default_rng(case)
    samples, classes = (int(n) for n in rng.integers(1, 7, 2))
    values = np.full((samples, classes), rng.choice([-1e4, 0.0, 1e4]))
    values[rng.random(values.shape) < 0.3] = rng.choice([-1e300, -750.0, 36.0, 750.0, 1e300])
    target = rng.integers(0, classes, samples)
    x, x_theirs = Tensor(values, requires_grad=True), leaf(values)
    ours = nn.cross_entropy(x, target, reduction="none")
    theirs = torch.nn.functional.cross_entropy(x_theirs, torch.tensor(target), reduction="none")
    assert_same_backward(rng, ours, theirs, [(x, x_theirs)], size=1)


@every_case
def test_mse_loss_is_pytorchs_for_both_its_inputs(case: int) -> None:
    rng = np.random.default_rng(case)
    shape, scale = shape_of(rng), rng.choice([1e-100, 1e-3, 1.0, 1e3, 1e100])
    reduction = str(rng.choice(["mean", "sum", "none"]))
    values, goal = (rng.standard_normal(shape) * scale for _ in range(2))
    x, y = (Tensor(np.array(v), requires_grad=True) for v in (values, goal))
    x_theirs, y_theirs = leaf(values), leaf(goal)
    ours = nn.mse_loss(x, y, reduction=reduction)
    theirs = torch.nn.functional.mse_loss(x_theirs, y_theirs, reduction=reduction)
    assert_same_backward(rng, ours, theirs, [(x, x_theirs), (y, y_theirs)])


@every_case
def test_binary_cross_entropy_is_pytorchs_for_both_its_inputs(case: int) -> None:
    rng = np.random.default_rng(case)
    shape, reduction = shape_of(rng), str(rng.choice(["mean", "sum", "none"]))
    values = rng.standard_normal(shape) * rng.choice(SCALES)
    goal = rng.random(shape) if rng.random() < 0.5 else rng.integers(0, 2, shape).astype(float)
    x, y = (Tensor(np.array(v), requires_grad=True) for v in (values, goal))
    x_theirs, y_theirs = leaf(values), leaf(goal)
    ours = nn.binary_cross_entropy_with_logits(x, y, reduction=reduction)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(x_theirs, y_theirs, reduction=reduction)
    # The loss is softplus(x) - x y; gradients below the smallest normal number are cut to 0 by one side.
    size = max(1.0, float(np.abs(values).max()))
    assert_same_backward(rng, ours, theirs, [(x, x_theirs), (y, y_theirs)], size=size)
