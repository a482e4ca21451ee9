"""Clipping against PyTorch's, on randomly drawn gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minigrad import clip_grad_norm, clip_grad_value, nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

every_case = pytest.mark.parametrize("case", range(300))


def drawn(rng: np.random.Generator, exponents: tuple[int, int]) -> tuple[list[nn.Parameter], list[Any], float]:
    """Parameters here and there with the same gradients, some with none, and the norm of them all."""
    ours, theirs, squares = [], [], []
    scale = 10.0 ** rng.uniform(*exponents)
    for k in range(rng.integers(1, 6)):
        shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(0, 4)))
        p, q = nn.Parameter(np.zeros(shape)), torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        if k == 0 or rng.random() < 0.8:
            g = np.array(rng.standard_normal(shape) * scale * 10.0 ** rng.uniform(-2, 2))
            p.grad, q.grad = g, torch.tensor(g)
            squares.append((g * g).sum())
        ours.append(p)
        theirs.append(q)
    return ours, theirs, math.sqrt(sum(squares))


def assert_same_gradients(ours: list[nn.Parameter], theirs: list[Any], factor: float = 1.0) -> None:
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad, q.grad.numpy() * factor, rtol=1e-10)


@every_case
def test_clipping_by_norm_is_pytorchs_but_for_its_millionth(case: int) -> None:
    # PyTorch multiplies by min(1, C / (norm + 1e-6)), minigrad by min(1, C / norm).
    rng = np.random.default_rng(case)
    ours, theirs, norm = drawn(rng, (-9, 6))
    threshold = norm * float(rng.choice([1e-3, 0.5, 0.999, 1.0, 1.001, 2.0, 1e3]))
    done = clip_grad_norm(ours, threshold)
    total = torch.nn.utils.clip_grad_norm_(theirs, threshold).item()
    assert done.norm_before == pytest.approx(norm, rel=1e-12)
    assert done.norm_before == pytest.approx(total, rel=1e-12)
    assert_same_gradients(ours, theirs, min(1, threshold / total) / min(1, threshold / (total + 1e-6)))


@every_case
def test_clipping_by_norm_is_pytorchs_once_its_millionth_is_taken_off(case: int) -> None:
    rng = np.random.default_rng(case)
    ours, theirs, norm = drawn(rng, (-3, 6))
    threshold = norm * 10.0 ** rng.uniform(-3, 1)
    done = clip_grad_norm(ours, threshold)
    total = torch.nn.utils.get_total_norm([q.grad for q in theirs if q.grad is not None])
    torch.nn.utils.clip_grads_with_norm_(theirs, threshold, total - 1e-6)
    assert_same_gradients(ours, theirs)
    after = torch.nn.utils.get_total_norm([q.grad for q in theirs if q.grad is not None]).item()
    assert done.norm_after == pytest.approx(after, rel=1e-10)


@every_case
def test_clipping_by_value_is_pytorchs_to_the_last_bit(case: int) -> None:
    rng = np.random.default_rng(case)
    ours, theirs, norm = drawn(rng, (-9, 6))
    threshold = norm * 10.0 ** rng.uniform(-3, 1)
    clip_grad_value(ours, threshold)
    torch.nn.utils.clip_grad_value_(theirs, threshold)
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, q.grad.numpy())


@pytest.mark.parametrize("kind", ["norm", "value"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("case", range(20))
def test_a_gradient_that_is_not_finite_becomes_what_it_becomes_in_pytorch(kind: str, bad: float, case: int) -> None:
    ours, theirs, _ = drawn(np.random.default_rng(case), (-3, 3))
    g = np.array(ours[0].grad)
    g.flat[0] = bad
    ours[0].grad, theirs[0].grad = g, torch.tensor(g)
    {"norm": clip_grad_norm, "value": clip_grad_value}[kind](ours, 1.0, error_if_nonfinite=False)
    {"norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_}[kind](theirs, 1.0)
    for p, q in zip(ours, theirs, strict=True):
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, q.grad.numpy())
