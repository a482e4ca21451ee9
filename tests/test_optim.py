from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn, optim
from minigrad.errors import GradError, MinigradError, ShapeError

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p, **o: optim.SGD(p, **{"lr": 0.1, **o}),
    "momentum": lambda p, **o: optim.SGD(p, **{"lr": 0.1, "momentum": 0.9, **o}),
    "adagrad": lambda p, **o: optim.Adagrad(p, **{"lr": 0.1, **o}),
    "adagrad, eps inside": lambda p, **o: optim.Adagrad(p, **{"lr": 0.1, "eps_inside_root": True, **o}),
    "rmsprop": lambda p, **o: optim.RMSprop(p, **{"lr": 0.1, **o}),
    "rmsprop, all settings": lambda p, **o: optim.RMSprop(
        p, **{"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "centered": True, **o}
    ),
    "adam": lambda p, **o: optim.Adam(p, **{"lr": 0.1, **o}),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def parameter(values: Any, gradient: Any = None, name: str | None = None) -> nn.Parameter:
    p = nn.Parameter(np.array(values, np.float64), name=name)
    p.grad = None if gradient is None else np.array(gradient, np.float64)
    return p


def test_sgd_goes_against_the_gradient_by_the_learning_rate() -> None:
    p = parameter([1.0, 2.0], [0.5, -4.0])
    optim.SGD([p], lr=0.25).step()
    np.testing.assert_array_equal(p.numpy(), [0.875, 3.0])


def test_two_steps_of_momentum_follow_the_closed_form() -> None:
    # v1 = g1, v2 = m g1 + g2: together lr * ((1 + m) g1 + g2)
    p, g1, g2 = parameter([1.0, 2.0]), np.array([0.5, -4.0]), np.array([1.0, 3.0])
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    for g in (g1, g2):
        p.grad = g
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), np.array([1.0, 2.0]) - 0.1 * (1.9 * g1 + g2), rtol=1e-15)


def test_momentum_of_a_steady_gradient_grows_to_one_over_one_minus_momentum() -> None:
    p = parameter([0.0])
    optimizer = optim.SGD([p], lr=1.0, momentum=0.9)
    for _ in range(500):
        p.grad = np.array([1.0])
        update = optimizer.step()
    assert update.sizes["parameter 0"] == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_adams_first_step_is_the_learning_rate_whatever_the_gradients_size(scale: float) -> None:
    g = scale * np.array([1.0, -2.0, 30.0])
    p = parameter([0.0, 0.0, 0.0], g)
    optim.Adam([p], lr=0.01).step()
    np.testing.assert_allclose(p.numpy(), -0.01 * np.sign(g), rtol=2e-5)  # eps / |g| short of it
    np.testing.assert_allclose(p.numpy(), -0.01 * g / (np.abs(g) + 1e-8), rtol=1e-13)


def test_adams_first_step_of_a_parameter_is_the_learning_rate_whenever_its_first_gradient_comes() -> None:
    early, late = parameter([0.0]), parameter([0.0])
    optimizer = optim.Adam([early, late], lr=0.01)
    for k in range(7):
        early.grad, late.grad = np.array([1.0]), np.array([-3.0]) if k == 6 else None
        optimizer.step()
    assert late.item() == pytest.approx(0.01, rel=1e-8)
    assert (optimizer.steps, optimizer.updates) == (7, [7, 1])


def test_adam_leaves_a_parameter_with_zero_gradient_where_it_is() -> None:
    p = parameter([1.0], [0.0])
    optim.Adam([p]).step()
    np.testing.assert_array_equal(p.numpy(), [1.0])


# Adagrad


def test_adagrads_steps_under_a_steady_gradient_shrink_with_the_root_of_their_number() -> None:
    p = parameter([0.0, 0.0])
    optimizer = optim.Adagrad([p], lr=0.1)
    for _ in range(50):
        p.grad = np.array([4.0, -0.001])
        optimizer.step()
    wanted = 0.1 * sum(1 / math.sqrt(n) for n in range(1, 51))
    np.testing.assert_allclose(p.numpy(), [-wanted, wanted], rtol=1e-6)  # eps / 0.001 short of it


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adagrad_with_eps_inside_the_root_is_min_char_rnns(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    param, mem = rng.standard_normal((4, 3)).astype(dtype), np.zeros((4, 3), dtype)
    p = nn.Parameter(param)
    optimizer = optim.Adagrad([p], lr=1e-1, eps=1e-8, eps_inside_root=True)
    for _ in range(20):
        dparam = (rng.standard_normal((4, 3)) * 1e-4).astype(dtype)  # so small that eps and its place matter
        mem += dparam * dparam
        param += -1e-1 * dparam / np.sqrt(mem + 1e-8)
        p.grad = dparam
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), param, rtol=1e-14 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize(("inside", "wanted"), [(False, 3 / (3 + 0.16)), (True, 3 / math.sqrt(9 + 0.16))])
def test_adagrads_eps_stands_outside_or_inside_the_root(inside: bool, wanted: float) -> None:
    p = parameter([0.0], [3.0])
    optim.Adagrad([p], lr=1.0, eps=0.16, eps_inside_root=inside).step()
    assert p.item() == pytest.approx(-wanted, rel=1e-15)


# RMSprop


def steps_of(optimizer: Any, p: Any, gradients: Any) -> list[float]:
    """How far each gradient moved a parameter of one element."""
    path = [p.item()]
    for g in gradients:
        p.grad = np.array([g], p.dtype)
        optimizer.step()
        path.append(p.item())
    return list(-np.diff(path))


def test_rmsprops_steps_under_a_steady_gradient_follow_the_closed_form() -> None:
    # s = (1 - alpha^n) g²
    p = parameter([0.0])
    found = steps_of(optim.RMSprop([p], lr=0.1, alpha=0.9, eps=1e-3), p, [-2.0] * 30)
    np.testing.assert_allclose(
        found, [-0.1 * 2 / (2 * math.sqrt(1 - 0.9**n) + 1e-3) for n in range(1, 31)], rtol=1e-12
    )


def test_centered_rmsprops_steps_under_a_steady_gradient_follow_the_closed_form() -> None:
    # s - m² = (1 - alpha^n) g² - (1 - alpha^n)² g² = alpha^n (1 - alpha^n) g²
    p = parameter([0.0])
    found = steps_of(optim.RMSprop([p], lr=0.1, alpha=0.9, eps=1e-3, centered=True), p, [2.0] * 30)
    wanted = [0.1 * 2 / (2 * math.sqrt(0.9**n * (1 - 0.9**n)) + 1e-3) for n in range(1, 31)]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_rmsprops_momentum_adds_up_its_steps() -> None:
    # With alpha 0 each direction is the gradient's sign.
    p = parameter([0.0])
    found = steps_of(optim.RMSprop([p], lr=1.0, alpha=0.0, eps=1e-300, momentum=0.5), p, [5.0, -0.1, 7.0, 7.0])
    np.testing.assert_allclose(found, [1, 0.5 - 1, -0.25 + 1, 0.375 + 1], rtol=1e-15)


def test_centered_rmsprop_of_a_gradient_without_variance_stays_finite() -> None:
    p = nn.Parameter(np.zeros(1, np.float32))
    optimizer = optim.RMSprop([p], lr=1e-6, alpha=0.6, eps=1e-3, centered=True)
    found = steps_of(optimizer, p, [0.1] * 500)
    square, mean = (optimizer.state[slot][0] for slot in ("square", "mean"))
    assert (square - mean * mean).item() < 0  # of which no root can be taken
    assert np.isfinite(found).all()
    assert found[-1] == pytest.approx(1e-6 * 0.1 / 1e-3, rel=1e-3)


# All optimizers


@every_optimizer
def test_an_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    p = nn.Parameter(np.array([3.0, -2.0]))
    rate = 0.5 if "adagrad" in name else 0.05
    optimizer, schedule = OPTIMIZERS[name]([p]), optim.cosine_decay(500)
    for _ in range(500):
        optimizer.lr = rate * schedule(optimizer.steps)
        optimizer.zero_grad()
        ((p - [1.0, 1.0]) * (p - [1.0, 1.0])).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), [1.0, 1.0], atol=1e-3)


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_keep_their_type_and_stay_read_only(name: str, dtype: Any) -> None:
    p = nn.Parameter(np.ones(3, dtype))
    p.grad = np.ones(3, dtype)
    OPTIMIZERS[name]([p]).step()
    assert p.dtype == dtype
    assert not p.numpy().flags.writeable


@every_optimizer
def test_a_graph_from_before_the_update_keeps_its_gradient(name: str) -> None:
    p = parameter([1.0, 2.0], [1.0, 1.0])
    y = (p * p).sum()
    OPTIMIZERS[name]([p]).step()
    p.zero_grad()
    y.backward()
    np.testing.assert_array_equal(p.grad, [2.0, 4.0])


@every_optimizer
def test_a_step_does_not_change_the_gradient(name: str) -> None:
    p = parameter([1.0, 2.0], [3.0, 4.0])
    gradient = p.grad
    OPTIMIZERS[name]([p]).step()
    assert p.grad is gradient
    np.testing.assert_array_equal(gradient, [3.0, 4.0])


@every_optimizer
@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_a_parameter_may_have_no_axes_one_element_or_none(name: str, shape: tuple[int, ...]) -> None:
    p, whole = parameter(np.full(shape, 2.0), np.full(shape, -3.0)), parameter([2.0], [-3.0])
    for q in (p, whole):
        optimizer = OPTIMIZERS[name]([q])
        optimizer.step()
        optimizer.step()
    assert p.shape == shape
    assert isinstance(p.data, np.ndarray)
    np.testing.assert_array_equal(p.numpy(), np.full(shape, whole.item()))


@every_optimizer
def test_an_optimizer_owns_its_slots_alone(name: str) -> None:
    p = parameter([1.0, 2.0], [3.0, 4.0])
    before, gradient = p.data, p.grad
    optimizer = OPTIMIZERS[name]([p])
    optimizer.step()
    held = [a for arrays in optimizer.state.values() for a in arrays]
    for k, a in enumerate(held):
        assert not any(np.shares_memory(a, b) for b in (before, gradient, p.data, *held[:k]))


@every_optimizer
def test_a_parameter_that_is_given_twice_moves_once(name: str) -> None:
    once, twice = parameter([1.0, 2.0], [3.0, 4.0]), parameter([1.0, 2.0], [3.0, 4.0])
    OPTIMIZERS[name]([once]).step()
    optimizer = OPTIMIZERS[name]([twice, twice])
    assert list(optimizer.step().sizes) == ["parameter 0"]
    assert optimizer.updates == [1]
    np.testing.assert_array_equal(twice.numpy(), once.numpy())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("SGD", {"lr": 0.3, "momentum": 0.7}),
        ("Adagrad", {"lr": 0.3, "eps": 0.1}),
        ("Adagrad", {"lr": 0.3, "eps": 0.1, "eps_inside_root": True}),
        ("RMSprop", {"lr": 0.3, "alpha": 0.7, "eps": 0.1, "momentum": 0.7, "centered": True}),
        ("Adam", {"lr": 0.3, "betas": (0.7, 0.9), "eps": 0.1}),
    ],
)
def test_settings_that_are_numpy_scalars_do_not_widen_float32(kind: str, settings: dict[str, Any]) -> None:
    widened = {key: tuple(map(np.float64, v)) if key == "betas" else np.float64(v) for key, v in settings.items()}
    plain, scalar = (nn.Parameter(np.linspace(0, 1, 50, dtype=np.float32)) for _ in range(2))
    for p, given, number in ((plain, settings, float), (scalar, widened, np.float64)):
        optimizer = getattr(optim, kind)([p], **given)
        for rate in (0.3, 0.2, 0.1):
            optimizer.lr = number(rate)
            p.grad = np.linspace(-1, 2, 50, dtype=np.float32)
            optimizer.step()
        assert all(a.dtype == np.float32 for arrays in optimizer.state.values() for a in arrays)
    np.testing.assert_array_equal(plain.numpy(), scalar.numpy())


@every_optimizer
def test_a_parameter_without_gradient_stays_and_is_not_in_the_update(name: str) -> None:
    a, b = parameter([1.0], [1.0], "a"), parameter([2.0], None, "b")
    update = OPTIMIZERS[name]([a, b]).step()
    assert b.item() == 2.0
    assert list(update.sizes) == list(update.weights) == ["a"]


@every_optimizer
def test_the_update_has_the_norms_of_the_change_and_of_the_old_value(name: str) -> None:
    a, b = parameter([[3.0, 4.0]], [[1.0, -2.0]], "a"), parameter([0.0, 12.0], [0.5, 0.0])
    optimizer = OPTIMIZERS[name]([a, b])
    optimizer.step()
    old = {"a": a.numpy(), "parameter 1": b.numpy()}
    update = optimizer.step()
    new = {"a": a.numpy(), "parameter 1": b.numpy()}
    for key in old:
        assert update.sizes[key] == pytest.approx(np.sqrt(((new[key] - old[key]) ** 2).sum()), rel=1e-12)
        assert update.weights[key] == pytest.approx(np.sqrt((old[key] ** 2).sum()), rel=1e-12)


def test_the_size_of_a_tiny_float32_update_is_not_lost() -> None:
    p = nn.Parameter(np.full(4, 3e-30, np.float32))
    p.grad = np.full(4, 1e-30, np.float32)
    update = optim.SGD([p], lr=1.0).step()
    assert update.sizes["parameter 0"] == pytest.approx(2e-30, rel=1e-6, abs=0)
    assert update.weights["parameter 0"] == pytest.approx(6e-30, rel=1e-6, abs=0)


@every_optimizer
def test_without_measuring_the_update_is_empty_and_the_step_the_same(name: str) -> None:
    measured, not_measured = parameter([1.0, 2.0], [3.0, 4.0]), parameter([1.0, 2.0], [3.0, 4.0])
    OPTIMIZERS[name]([measured]).step()
    assert OPTIMIZERS[name]([not_measured]).step(measure=False) == ({}, {})
    np.testing.assert_array_equal(not_measured.numpy(), measured.numpy())


def test_an_update_names_parameters_as_the_finished_model_does() -> None:
    layer = nn.Linear(2, 1, rng=np.random.default_rng(0))
    optimizer = optim.SGD(layer.parameters(), lr=0.1)

    class Model(nn.Module):
        def __init__(self) -> None:
            self.head = layer

    model = Model()
    for p in model.parameters():
        p.grad = np.ones_like(p.data)
    assert list(optimizer.step().sizes) == ["head.weight", "head.bias"]


def test_two_parameters_of_one_name_both_stand_in_the_update() -> None:
    one, other = parameter([1.0], [3.0], "weight"), parameter([2.0], [4.0], "weight")
    update = optim.SGD([one, other], lr=1.0).step()
    assert sorted(update.sizes.values()) == [3.0, 4.0]
    assert sorted(update.weights.values()) == [1.0, 2.0]


@every_optimizer
def test_going_on_from_a_state_dict_is_bit_for_bit_the_same(name: str) -> None:
    gradients = np.random.default_rng(0).standard_normal((10, 3))
    whole, first = parameter([1.0, 2.0, 3.0]), parameter([1.0, 2.0, 3.0])

    def follow(optimizer: Any, p: Any, gradients: Any) -> None:
        for g in gradients:
            p.grad = g
            optimizer.step()

    follow(OPTIMIZERS[name]([whole]), whole, gradients)
    before = OPTIMIZERS[name]([first])
    follow(before, first, gradients[:4])
    second = parameter(first.numpy())
    after = OPTIMIZERS[name]([second], lr=99.0)
    after.load_state_dict(before.state_dict())
    follow(after, second, gradients[4:])
    np.testing.assert_array_equal(second.numpy(), whole.numpy())
    assert after.lr == 0.1
    assert after.steps == 10


@every_optimizer
def test_a_state_dict_is_plain_data(name: str) -> None:
    a, b = parameter([1.0], [1.0]), parameter([[2.0, 3.0]])
    optimizer = OPTIMIZERS[name]([a, b])
    optimizer.step()
    state = optimizer.state_dict()
    words = {"kind": type(optimizer).__name__, "lr": 0.1, "steps": 1, "updates": [1, 0]}
    assert {key: state.pop(key) for key in words} == words
    assert json.loads(json.dumps(words)) == words
    assert state.keys() == optimizer.state.keys()
    for arrays in state.values():
        assert [type(array) for array in arrays] == [np.ndarray, np.ndarray]
        assert [array.shape for array in arrays] == [(1,), (1, 2)]


@every_optimizer
def test_a_state_dict_is_a_copy_both_ways(name: str) -> None:
    p = parameter([1.0], [1.0])
    optimizer = OPTIMIZERS[name]([p])
    optimizer.step()
    slots = optimizer.state.keys()
    values = {slot: optimizer.state[slot][0].copy() for slot in slots}
    given = optimizer.state_dict()
    given["updates"][0] = 77
    for slot in slots:
        given[slot][0][:] = 77
        np.testing.assert_array_equal(optimizer.state[slot][0], values[slot])
    assert optimizer.updates == [1]
    loaded = {**given, "updates": [1], **{slot: [value.copy()] for slot, value in values.items()}}
    optimizer.load_state_dict(loaded)
    loaded["updates"][0] = 77
    for slot in slots:
        loaded[slot][0][:] = 77
        np.testing.assert_array_equal(optimizer.state[slot][0], values[slot])
    assert optimizer.updates == [1]
    kept = optimizer.state_dict()
    again = OPTIMIZERS[name]([parameter([1.0])])
    again.load_state_dict(kept)
    optimizer.step()  # in place, in its own arrays
    for slot in slots:
        np.testing.assert_array_equal(again.state[slot][0], values[slot])


MISFITS: dict[str, tuple[Any, str]] = {
    "no mapping": (lambda s: 3, r"found 3"),
    "no kind": (lambda s: {}, r"found None as its kind"),
    "another kind": (lambda s: {**s, "kind": "SGD"}, r"found 'SGD' as its kind"),
    "no lr": (lambda s: {k: v for k, v in s.items() if k != "lr"}, r"missing \['lr'\], unknown none"),
    "a slot too few": (lambda s: {k: v for k, v in s.items() if k != "mean"}, r"missing \['mean'\], unknown none"),
    "a slot too many": (lambda s: {**s, "velocity": [], 3: 4}, r"missing none, unknown \['3', 'velocity'\]"),
    "lr is a word": (lambda s: {**s, "lr": "0.1"}, r"lr is '0\.1'"),
    "lr is a truth": (lambda s: {**s, "lr": True}, r"lr is True"),
    "lr below 0": (lambda s: {**s, "lr": -0.1}, r"lr is -0\.1"),
    "lr not finite": (lambda s: {**s, "lr": math.nan}, r"lr is nan"),
    "steps is a word": (lambda s: {**s, "steps": "2"}, r"steps is '2'"),
    "steps is a fraction": (lambda s: {**s, "steps": 2.5}, r"steps is 2\.5"),
    "steps below 0": (lambda s: {**s, "steps": -1}, r"steps is -1"),
    "updates is a number": (lambda s: {**s, "updates": 2}, r"updates is 2, for 2 parameters and 2 steps"),
    "updates too few": (lambda s: {**s, "updates": [2]}, r"updates is \[2\], for 2 parameters and 2 steps"),
    "updates too high": (lambda s: {**s, "updates": [2, 3]}, r"updates is \[2, 3\], for 2 parameters and 2 steps"),
    "updates below 0": (lambda s: {**s, "updates": [2, -1]}, r"updates is \[2, -1\], for 2"),
    "updates of words": (lambda s: {**s, "updates": ["1", "2"]}, r"updates is \['1', '2'\], for 2"),
    "a slot is an array": (lambda s: {**s, "mean": np.zeros(2)}, r"'mean' is no list of 2 arrays, one a parameter"),
    "an array too few": (lambda s: {**s, "mean": s["mean"][:1]}, r"'mean' is no list of 2 arrays, one a parameter"),
    "no array": (lambda s: {**s, "mean": [None, None]}, r"'mean' of a is None, the parameter \(2,\) float64"),
    "numbers in a list": (
        lambda s: {**s, "mean": [[0.0, 0.0], [0.0]]}, r"'mean' of a is \[0\.0, 0\.0\], the parameter \(2,\) float64",
    ),
    "another shape": (
        lambda s: {**s, "square": [s["square"][0], np.zeros((1, 1))]},
        r"'square' of parameter 1 is \(1, 1\) float64, the parameter \(1,\) float64",
    ),
    "another type": (
        lambda s: {**s, "square": [s["square"][0].astype(np.float32), s["square"][1]]},
        r"'square' of a is \(2,\) float32, the parameter \(2,\) float64",
    ),
    "words": (
        lambda s: {**s, "mean": [np.array(["x", "y"]), s["mean"][1]]},
        r"'mean' of a is \(2,\) <U1, the parameter \(2,\) float64",
    ),
    "objects": (
        lambda s: {**s, "mean": [np.array([{}, None]), s["mean"][1]]},
        r"'mean' of a is \(2,\) object, the parameter \(2,\) float64",
    ),
    "NaN": (lambda s: {**s, "mean": [s["mean"][0], np.array([math.nan])]}, r"'mean' of parameter 1 is not finite"),
    "infinity": (lambda s: {**s, "mean": [np.array([0, -math.inf]), s["mean"][1]]}, r"'mean' of a is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(misfit: str) -> None:
    optimizer = optim.Adam([parameter([1.0, 2.0], [1.0, -1.0], "a"), parameter([1.0], [3.0])], lr=0.1)
    optimizer.step()
    optimizer.step()
    before = optimizer.state_dict()
    spoil, found = MISFITS[misfit]
    other = {**optimizer.state_dict(), "lr": 0.5}
    with pytest.raises(MinigradError, match=rf"^Adam\.load_state_dict: {found}.*\.\n  Load what state_dict\(\) gave"):
        optimizer.load_state_dict(spoil(other))
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_a_state_that_was_saved_with_other_settings_is_refused() -> None:
    p = parameter([1.0])
    with pytest.raises(MinigradError, match=r"^SGD\.load_state_dict: missing \['velocity'\], unknown none\.\n"):
        optim.SGD([p], lr=0.1, momentum=0.9).load_state_dict(optim.SGD([p], lr=0.1).state_dict())
    with pytest.raises(MinigradError, match=r"^RMSprop\.load_state_dict: missing none, unknown \['mean'\]\.\n"):
        optim.RMSprop([p]).load_state_dict(optim.RMSprop([p], centered=True).state_dict())


def test_the_state_of_a_schedules_last_update_can_be_loaded() -> None:
    p = parameter([1.0], [1.0])
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.lr = 0
    optimizer.step()
    assert p.item() == 1.0
    again = optim.SGD([p], lr=0.1)
    again.load_state_dict(optimizer.state_dict())
    assert (again.lr, again.steps) == (0.0, 1)


@every_optimizer
def test_a_step_without_any_gradient_is_an_error(name: str) -> None:
    optimizer = OPTIMIZERS[name]([parameter([1.0])])
    with pytest.raises(GradError, match=r"\w+\.step\(\): no parameter has a gradient\.\n  Call backward\(\) first"):
        optimizer.step()
    assert optimizer.steps == 0


@every_optimizer
@pytest.mark.parametrize("lr", [0.0, -0.1, float("nan"), float("inf")])
def test_a_learning_rate_is_positive_and_finite(name: str, lr: float) -> None:
    with pytest.raises(MinigradError, match=rf"\w+: lr={lr}\.\n  Give a positive, finite learning rate"):
        OPTIMIZERS[name]([parameter([1.0])], lr=lr)


@every_optimizer
def test_an_optimizer_needs_parameters(name: str) -> None:
    with pytest.raises(MinigradError, match=r"\w+: no parameters to update\.\n  Give model\.parameters\(\)"):
        OPTIMIZERS[name]([])


@every_optimizer
@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_a_learning_rate_that_is_assigned_is_finite_and_not_negative(name: str, lr: float) -> None:
    optimizer = OPTIMIZERS[name]([parameter([1.0])])
    with pytest.raises(MinigradError, match=rf"\w+\.lr = {lr}\.\n  Give a finite learning rate, at least 0\."):
        optimizer.lr = lr
    assert optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("kind", "setting", "wrong", "remedy"),
    [
        *((kind, "momentum", wrong, "Give at least 0 and less than 1") for kind in ("SGD", "RMSprop")
          for wrong in (-0.1, 1.0, math.nan)),
        *(("RMSprop", "alpha", wrong, "Give at least 0 and less than 1") for wrong in (-0.1, 1.0, math.nan)),
        *(("Adam", "betas", wrong, "Give two, at least 0 and less than 1")
          for wrong in ((-0.1, 0.9), (1.0, 0.9), (0.9, -0.1), (0.9, 1.0), (0.9, math.nan))),
        *((kind, "eps", wrong, "Give a positive, finite number") for kind in ("Adagrad", "RMSprop", "Adam")
          for wrong in (0.0, -1e-8, math.inf, math.nan)),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_an_error(kind: str, setting: str, wrong: Any, remedy: str) -> None:
    with pytest.raises(MinigradError) as caught:
        getattr(optim, kind)([parameter([1.0])], lr=0.1, **{setting: wrong})
    assert str(caught.value) == f"{kind}: {setting}={wrong}.\n  {remedy}."


@every_optimizer
def test_an_optimizer_takes_leaves_alone(name: str) -> None:
    p = parameter([1.0, 2.0])
    with pytest.raises(MinigradError, match=r"\w+: parameter 0 is no leaf, but str\.\n  Give model\.parameters\(\)\."):
        OPTIMIZERS[name]({"weight": p})
    with pytest.raises(MinigradError, match=r"\w+: parameter 1 is no leaf, but multiply\.\n  Give model\.parameters"):
        OPTIMIZERS[name]([p, p * 2.0])
    with pytest.raises(MinigradError, match=r"\w+: parameter 0 is no leaf, but pick"):
        OPTIMIZERS[name](p)  # a tensor is a sequence of its rows


@every_optimizer
@pytest.mark.parametrize("shape", [(1,), (2, 3)])
def test_a_gradient_of_another_shape_is_an_error(name: str, shape: tuple[int, ...]) -> None:
    whole, p = parameter([1.0], [1.0]), parameter([1.0, 2.0, 3.0], np.ones(shape), "weight")
    optimizer = OPTIMIZERS[name]([whole, p])
    before = optimizer.state_dict()
    with pytest.raises(ShapeError) as caught:
        optimizer.step()
    assert str(caught.value).partition(".")[2] == (
        f"step(): weight has shape (3,), its gradient {shape}.\n"
        "  Give a gradient of the parameter's own shape, as backward() leaves it."
    )
    np.testing.assert_equal(optimizer.state_dict(), before)
    assert whole.item() == 1.0


def test_an_optimizer_of_ones_own_defines_change() -> None:
    class Sign(optim.Optimizer):
        def change(self, k: int, value: Any, gradient: Any) -> Any:
            return self.lr * np.sign(gradient)

    p = parameter([1.0, 1.0], [5.0, -0.1])
    Sign([p], lr=0.5).step()
    np.testing.assert_array_equal(p.numpy(), [0.5, 1.5])
    message = r"Optimizer defines no change\(\)\.\n  Define change\(self, k, value, gradient\)"
    with pytest.raises(MinigradError, match=message):
        optim.Optimizer([p], lr=0.5).step()


def test_zero_grad_forgets_every_gradient() -> None:
    a, b = parameter([1.0], [1.0]), parameter([1.0])
    optim.SGD([a, b], lr=0.1).zero_grad()
    assert a.grad is None
    assert b.grad is None


def test_an_optimizer_learns_from_a_recurrent_layer() -> None:
    rng = np.random.default_rng(0)
    model = nn.GRU(1, 4, rng=rng)
    head = nn.Linear(4, 1, rng=rng)
    x = rng.standard_normal((6, 8, 1)).astype(np.float32)
    optimizer = optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.mse_loss(head(model(Tensor(x))[0][-1]), x[:3].sum(0))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


# Schedules

SCHEDULES: dict[str, optim.Schedule] = {
    "constant": optim.constant(),
    "constant, warm-up": optim.constant(warmup=10),
    "step": optim.step_decay(10, 0.5),
    "cosine": optim.cosine_decay(100),
    "cosine, warm-up": optim.cosine_decay(100, warmup=10, floor=0.1),
    "inverse square root": optim.inverse_square_root_decay(),
    "inverse square root, warm-up": optim.inverse_square_root_decay(warmup=10),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_a_plain_number_from_0_to_1_and_knows_no_past(name: str) -> None:
    schedule = SCHEDULES[name]
    forth = [schedule(k) for k in range(200)]
    assert {type(factor) for factor in forth} == {float}
    assert 0 <= min(forth) <= max(forth) == 1
    assert [schedule(k) for k in reversed(range(200))] == forth[::-1]


@pytest.mark.parametrize("name", [name for name in SCHEDULES if "warm-up" in name])
def test_a_warm_up_rises_by_equal_steps_and_its_last_update_has_the_whole_rate(name: str) -> None:
    schedule = SCHEDULES[name]
    np.testing.assert_allclose([schedule(k) for k in range(10)], np.arange(1, 11) / 10, rtol=1e-15)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant, warm-up"])
def test_a_schedule_falls_once_it_is_warm(name: str) -> None:
    warm = [SCHEDULES[name](k) for k in range(10 if "warm-up" in name else 0, 200)]
    assert warm == sorted(warm, reverse=True)


def test_a_constant_schedule_is_1_at_every_update() -> None:
    assert [optim.constant()(k) for k in (0, 1, 10**9)] == [1.0, 1.0, 1.0]


def test_step_decay_halves_at_every_so_many_updates() -> None:
    schedule = optim.step_decay(3, 0.5)
    assert [schedule(k) for k in range(9)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_cosine_decay_passes_the_cosines_known_points_and_stays_on_its_floor() -> None:
    schedule = optim.cosine_decay(60, floor=0.2)
    found = [schedule(k) for k in (0, 15, 20, 30, 40, 60, 61, 1000)]
    wanted = [1, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]
    np.testing.assert_allclose(found, wanted, rtol=1e-15)
    assert optim.cosine_decay(60)(60) == 0


def test_cosine_decay_starts_its_fall_when_it_is_warm() -> None:
    warm, cold = optim.cosine_decay(70, warmup=10, floor=0.1), optim.cosine_decay(60, floor=0.1)
    assert [warm(10 + k) for k in range(80)] == [cold(k) for k in range(80)]


def test_inverse_square_root_decay_halves_when_the_number_of_updates_is_fourfold() -> None:
    schedule = optim.inverse_square_root_decay(warmup=16)
    np.testing.assert_allclose([schedule(k - 1) for k in (16, 64, 144, 256)], [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-15)


def test_a_schedule_goes_on_from_a_state_dict() -> None:
    gradients = np.random.default_rng(0).standard_normal((30, 3))
    schedule = optim.cosine_decay(30, warmup=5)

    def follow(optimizer: Any, p: Any, gradients: Any) -> None:
        for p.grad in gradients:
            optimizer.lr = 0.1 * schedule(optimizer.steps)
            optimizer.step()

    whole, first = parameter([1.0, 2.0, 3.0]), parameter([1.0, 2.0, 3.0])
    follow(optim.Adam([whole]), whole, gradients)
    before = optim.Adam([first])
    follow(before, first, gradients[:11])
    second = parameter(first.numpy())
    after = optim.Adam([second])
    after.load_state_dict(before.state_dict())
    follow(after, second, gradients[11:])
    np.testing.assert_array_equal(second.numpy(), whole.numpy())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.constant(-1), "constant: warmup=-1.\n  Give a number of updates, at least 0."),
        (lambda: optim.step_decay(0), "step_decay: every=0.\n  Give a number of updates, at least 1."),
        (lambda: optim.step_decay(2, 0.0), "step_decay: factor=0.0.\n  Give more than 0 and at most 1."),
        (lambda: optim.step_decay(2, 1.5), "step_decay: factor=1.5.\n  Give more than 0 and at most 1."),
        (
            lambda: optim.cosine_decay(10, warmup=10),
            "cosine_decay: updates=10, warmup=10.\n  Give a warm-up of at least 0 and less than all updates.",
        ),
        (
            lambda: optim.cosine_decay(10, warmup=-1),
            "cosine_decay: updates=10, warmup=-1.\n  Give a warm-up of at least 0 and less than all updates.",
        ),
        (lambda: optim.cosine_decay(9, floor=-0.1), "cosine_decay: floor=-0.1.\n  Give at least 0 and at most 1."),
        (lambda: optim.cosine_decay(9, floor=1.1), "cosine_decay: floor=1.1.\n  Give at least 0 and at most 1."),
        (
            lambda: optim.inverse_square_root_decay(0),
            "inverse_square_root_decay: warmup=0.\n  Give a number of updates, at least 1.",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_an_error(make: Any, message: str) -> None:
    with pytest.raises(MinigradError) as caught:
        make()
    assert str(caught.value) == message
