from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn, optim
from minigrad.errors import GradError, MinigradError

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p, **o: optim.SGD(p, **{"lr": 0.1, **o}),
    "momentum": lambda p, **o: optim.SGD(p, **{"lr": 0.1, "momentum": 0.9, **o}),
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


def test_adam_leaves_a_parameter_with_zero_gradient_where_it_is() -> None:
    p = parameter([1.0], [0.0])
    optim.Adam([p]).step()
    np.testing.assert_array_equal(p.numpy(), [1.0])


@every_optimizer
def test_an_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    p = nn.Parameter(np.array([3.0, -2.0]))
    optimizer = OPTIMIZERS[name]([p], lr=0.05)
    for _ in range(500):
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


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_a_state_dict_is_a_copy_both_ways(name: str) -> None:
    optimizer = OPTIMIZERS[name]([parameter([1.0], [1.0])])
    optimizer.step()
    slots = optimizer.state.keys()
    values = {slot: optimizer.state[slot][0].copy() for slot in slots}
    given = optimizer.state_dict()
    for slot in slots:
        given[slot][0][:] = 77
        np.testing.assert_array_equal(optimizer.state[slot][0], values[slot])
    loaded = {**given, **{slot: [value.copy()] for slot, value in values.items()}}
    optimizer.load_state_dict(loaded)
    for slot in slots:
        loaded[slot][0][:] = 77
        np.testing.assert_array_equal(optimizer.state[slot][0], values[slot])


def test_a_state_of_another_optimizer_or_other_sizes_is_refused_and_changes_nothing() -> None:
    p = parameter([1.0, 2.0], [1.0, 1.0])
    adam = optim.Adam([p], lr=0.1)
    adam.step()
    before = adam.state_dict()
    for state in (optim.SGD([p], lr=0.5).state_dict(), optim.Adam([parameter([1.0])]).state_dict()):
        message = r"Adam\.load_state_dict: slot 'mean' does not fit the parameters\.\n  Load the state of the same"
        with pytest.raises(MinigradError, match=message):
            adam.load_state_dict(state)
    after = adam.state_dict()
    assert (after["lr"], after["steps"]) == (0.1, 1)
    np.testing.assert_array_equal(after["square"][0], before["square"][0])


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
