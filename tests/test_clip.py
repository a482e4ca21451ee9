from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minigrad import clip_grad_norm, clip_grad_value, nn
from minigrad.clip import norm_of
from minigrad.errors import GradError, MinigradError, NonFiniteError

CLIPS: dict[str, Any] = {"norm": clip_grad_norm, "value": clip_grad_value}
every_clip = pytest.mark.parametrize("kind", CLIPS)


def with_gradients(dtype: Any = np.float64, **gradients: Any) -> list[nn.Parameter]:
    """One parameter of zeros for every gradient; None stands for no gradient."""
    parameters = []
    for name, gradient in gradients.items():
        p = nn.Parameter(np.zeros(np.shape(gradient), dtype), name=name)
        p.grad = None if gradient is None else np.array(gradient, dtype)
        parameters.append(p)
    return parameters


def angle(a: Any, b: Any) -> float:
    """In degrees, by the arc cosine."""
    return math.degrees(math.acos(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b))))


# By norm


def test_clipping_by_norm_scales_all_gradients_by_one_coefficient() -> None:
    a, b = with_gradients(a=[3.0, 0.0], b=[[4.0]])
    done = clip_grad_norm([a, b], 2.0)
    np.testing.assert_allclose(a.grad, [1.2, 0.0], rtol=1e-15)
    np.testing.assert_allclose(b.grad, [[1.6]], rtol=1e-15)
    assert (done.kind, done.threshold, done.fired, done.angle) == ("norm", 2.0, True, 0.0)
    assert done.norm_before == pytest.approx(5, rel=1e-15)
    assert done.norm_after == pytest.approx(2, rel=1e-15)
    assert done.coefficient == pytest.approx(0.4, rel=1e-15)
    assert done.before == {"a": 3.0, "b": 4.0}
    assert done.after == pytest.approx({"a": 1.2, "b": 1.6}, rel=1e-15)
    assert done.angles == {"a": 0.0, "b": 0.0}


def test_clipping_by_norm_keeps_the_direction() -> None:
    g = np.random.default_rng(0).standard_normal(1000)
    (p,) = with_gradients(a=g)
    clip_grad_norm([p], 0.1)
    assert np.linalg.norm(p.grad) == pytest.approx(0.1, rel=1e-12)
    np.testing.assert_allclose(p.grad / 0.1, g / np.linalg.norm(g), rtol=1e-12)


@pytest.mark.parametrize("threshold", [5.0, 5.1, 1e300])
def test_a_norm_that_is_not_above_the_threshold_stays(threshold: float) -> None:
    a, b = with_gradients(a=[3.0, 0.0], b=[4.0])
    gradients = a.grad, b.grad
    done = clip_grad_norm([a, b], threshold)
    assert a.grad is gradients[0]
    assert b.grad is gradients[1]
    assert (done.fired, done.coefficient, done.norm_after) == (False, 1.0, 5.0)
    assert done.before == done.after == {"a": 3.0, "b": 4.0}


def test_float32_gradients_stay_float32() -> None:
    for clip in CLIPS.values():
        (p,) = with_gradients(np.float32, a=[3.0, 4.0])
        clip([p], 0.5)
        assert p.grad.dtype == np.float32


# By value


def test_clipping_by_value_limits_every_element() -> None:
    a, b = with_gradients(a=[3.0, -0.2], b=[-4.0, 0.5])
    done = clip_grad_value([a, b], 0.5)
    np.testing.assert_array_equal(a.grad, [0.5, -0.2])
    np.testing.assert_array_equal(b.grad, [-0.5, 0.5])
    assert (done.kind, done.threshold, done.fired) == ("value", 0.5, True)
    assert done.norm_before == pytest.approx(math.sqrt(9 + 0.04 + 16 + 0.25), rel=1e-15)
    assert done.norm_after == pytest.approx(math.sqrt(0.25 + 0.04 + 0.25 + 0.25), rel=1e-15)
    assert done.coefficient == pytest.approx(done.norm_after / done.norm_before, rel=1e-15)


def test_the_angle_of_clipping_by_value_is_the_arc_cosine() -> None:
    g = {"a": np.array([3.0, -0.2]), "b": np.array([-4.0, 0.5, 0.1])}
    parameters = with_gradients(**g)
    done = clip_grad_value(parameters, 0.5)
    clipped = {name: np.clip(v, -0.5, 0.5) for name, v in g.items()}
    both = angle(np.concatenate([*g.values()]), np.concatenate([*clipped.values()]))
    assert done.angle == pytest.approx(both, rel=1e-10)
    for name, v in g.items():
        assert done.angles[name] == pytest.approx(angle(v, clipped[name]), rel=1e-10)


def test_a_small_angle_is_exact_too() -> None:
    # From (1, 1 + d) to (1, 1): the angle is about d / 2, far below what an arc cosine resolves.
    d = 1e-9
    (p,) = with_gradients(a=[1.0, 1.0 + d])
    assert math.radians(clip_grad_value([p], 1.0).angle) == pytest.approx(d / 2, rel=1e-6, abs=0)


def test_a_gradient_clipped_in_every_element_alike_does_not_turn() -> None:
    (p,) = with_gradients(a=[7.0, 7.0, 7.0])
    done = clip_grad_value([p], 1.0)
    assert done.fired
    assert done.angle == pytest.approx(0, abs=1e-12)
    assert done.coefficient == pytest.approx(1 / 7, rel=1e-15)


def test_values_within_the_threshold_stay() -> None:
    (p,) = with_gradients(a=[0.5, -0.5, 0.0])
    done = clip_grad_value([p], 0.5)
    np.testing.assert_array_equal(p.grad, [0.5, -0.5, 0.0])
    assert (done.fired, done.coefficient, done.angle) == (False, 1.0, 0.0)
    assert done.norm_before == done.norm_after


# Both


@every_clip
def test_when_nothing_is_clipped_the_gradient_is_the_same_object(kind: str) -> None:
    (p,) = with_gradients(a=[0.1, -0.2])
    gradient = p.grad
    CLIPS[kind]([p], 1.0)
    assert p.grad is gradient


@every_clip
def test_the_array_that_held_the_gradient_is_not_written_to(kind: str) -> None:
    (p,) = with_gradients(a=[3.0, 4.0])
    gradient = p.grad
    CLIPS[kind]([p], 1.0)
    np.testing.assert_array_equal(gradient, [3.0, 4.0])


@every_clip
def test_a_zero_gradient_stays_zero(kind: str) -> None:
    (p,) = with_gradients(a=[0.0, 0.0])
    done = CLIPS[kind]([p], 1.0)
    assert (done.fired, done.coefficient, done.angle) == (False, 1.0, 0.0)
    assert done.norm_before == done.norm_after == 0
    np.testing.assert_array_equal(p.grad, [0.0, 0.0])


@every_clip
def test_parameters_without_gradient_are_left_alone(kind: str) -> None:
    a, b = with_gradients(a=[3.0], b=None)
    done = CLIPS[kind]([a, b], 1.0)
    assert b.grad is None
    assert list(done.before) == list(done.after) == list(done.angles) == ["a"]


@every_clip
def test_parameters_may_come_as_an_iterator_and_without_names(kind: str) -> None:
    p = nn.Parameter(np.zeros(2))
    p.grad = np.array([3.0, 4.0])
    done = CLIPS[kind](iter([nn.Parameter([0.0]), p]), 1.0)
    assert list(done.before) == ["parameter 1"]


@every_clip
def test_two_parameters_of_one_name_are_both_clipped(kind: str) -> None:
    one, other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for layer, slope in ((one, 3.0), (other, 4.0)):
        layer.weight.grad = np.array([[slope]], np.float32)
    done = CLIPS[kind]([*one.parameters(), *other.parameters()], 2.0)
    assert done.norm_before == pytest.approx(5)
    np.testing.assert_allclose(one.weight.grad, [[1.2 if kind == "norm" else 2.0]], rtol=1e-6)
    np.testing.assert_allclose(other.weight.grad, [[1.6 if kind == "norm" else 2.0]], rtol=1e-6)


@every_clip
def test_a_parameter_listed_twice_counts_once(kind: str) -> None:
    (p,) = with_gradients(a=[3.0, 4.0])
    done = CLIPS[kind]([p, p], 2.5)
    assert done.norm_before == pytest.approx(5, rel=1e-15)
    np.testing.assert_allclose(p.grad, [1.5, 2.0] if kind == "norm" else [2.5, 2.5], rtol=1e-15)


@every_clip
@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float64, 1e-200), (np.float64, 1e200), (np.float32, 1e-30), (np.float32, 1e30)]
)
def test_norms_are_exact_where_squares_leave_the_range(kind: str, dtype: Any, size: float) -> None:
    a, b = with_gradients(dtype, a=[3 * size, 0.0], b=[4 * size])
    done = CLIPS[kind]([a, b], size)
    rel = 1e-15 if dtype is np.float64 else 1e-6
    assert done.norm_before == pytest.approx(5 * size, rel=rel, abs=0)
    assert done.norm_after == pytest.approx(size * (1 if kind == "norm" else math.sqrt(2)), rel=rel, abs=0)
    assert done.before["a"] == pytest.approx(3 * size, rel=rel, abs=0)
    assert done.angle == (0 if kind == "norm" else pytest.approx(angle([3, 0, 4], [1, 0, 1]), rel=1e-6))
    expected = [0.6, 0, 0.8] if kind == "norm" else [1, 0, 1]
    np.testing.assert_allclose(np.array([*a.grad, *b.grad], float) / size, expected, rtol=rel)


@every_clip
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_by_name_and_nothing_is_clipped(kind: str, bad: float) -> None:
    good, spoilt = with_gradients(**{"lstm.weight_hh_l0": [30.0], "head.bias": [1.0, bad]})
    message = rf"clip_grad_{kind}: the gradient of head\.bias is not finite.*\n  Lower .*error_if_nonfinite=False"
    with pytest.raises(NonFiniteError, match=message):
        CLIPS[kind]([good, spoilt], 1.0)
    np.testing.assert_array_equal(good.grad, [30.0])


@every_clip
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_passes_when_asked_to(kind: str, bad: float) -> None:
    (p,) = with_gradients(a=[1.0, bad])
    done = CLIPS[kind]([p], 2.0, error_if_nonfinite=False)
    assert done.norm_before == pytest.approx(bad, nan_ok=True)
    assert np.isfinite(p.grad[1]) == (kind == "value" and bad == math.inf)  # no norm mends it, a limit does


def test_clipping_by_value_mends_an_infinite_element_when_asked_to() -> None:
    (p,) = with_gradients(a=[1.0, -math.inf])
    done = clip_grad_value([p], 2.0, error_if_nonfinite=False)
    np.testing.assert_array_equal(p.grad, [1.0, -2.0])
    assert done.fired
    assert math.isnan(done.angle)


@every_clip
@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_the_threshold_is_positive_and_finite(kind: str, threshold: float) -> None:
    (p,) = with_gradients(a=[1.0])
    message = rf"clip_grad_{kind}: the threshold is {threshold}\.\n  Give a positive, finite number"
    with pytest.raises(MinigradError, match=message):
        CLIPS[kind]([p], threshold)


@every_clip
@pytest.mark.parametrize("parameters", [[], [nn.Parameter([1.0])]])
def test_without_any_gradient_there_is_nothing_to_clip(kind: str, parameters: Any) -> None:
    with pytest.raises(GradError, match=rf"clip_grad_{kind}: no parameter has a gradient\.\n  Call backward\(\) first"):
        CLIPS[kind](parameters, 1.0)


# The norm itself


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-150, 1e-126, 1.0, 1e124, 1e126, 1e150, 1e200, 4e307])
def test_the_norm_of_any_size_is_exact(size: float) -> None:
    x = np.array([size * 0.6, size * 0.8])
    assert norm_of(x) == pytest.approx(math.hypot(*x), rel=1e-15, abs=1e-323)


def test_large_elements_beside_small_ones_count_alone() -> None:
    assert norm_of([3e200, 4e200, 1e-200]) == pytest.approx(5e200, rel=1e-15)


def test_the_norm_of_nothing_is_zero_and_of_infinity_infinite() -> None:
    assert norm_of(np.zeros((0, 3))) == 0
    assert norm_of(np.zeros(3)) == 0
    assert norm_of([1.0, -math.inf]) == math.inf
    assert math.isnan(norm_of([1.0, math.nan]))


def test_a_large_float32_array_is_summed_in_float64() -> None:
    x = np.full(1_000_000, 0.1, np.float32)
    assert norm_of(x) == pytest.approx(float(np.float32(0.1)) * 1000, rel=1e-11)
