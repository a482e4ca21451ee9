from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.errors import MinigradError, ShapeError


def test_linear_is_x_times_the_transposed_weight_plus_bias() -> None:
    rng = np.random.default_rng(0)
    layer, x = nn.Linear(3, 2, rng=rng, dtype=np.float64), rng.standard_normal((4, 3))
    expected = np.einsum("nc,kc->nk", x, layer.weight.numpy()) + layer.bias.numpy()
    np.testing.assert_allclose(layer(Tensor(x)).numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (5, 2, 3), (0, 3)])
def test_linear_acts_on_the_last_axis(shape: tuple[int, ...]) -> None:
    layer = nn.Linear(3, 2, dtype=np.float64)
    x = Tensor(np.ones(shape), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (*shape[:-1], 2)
    rows = np.prod(shape[:-1])
    np.testing.assert_allclose(layer.weight.grad, np.full((2, 3), rows))
    np.testing.assert_allclose(layer.bias.grad, np.full(2, rows))
    np.testing.assert_allclose(x.grad, np.broadcast_to(layer.weight.numpy().sum(0), shape), rtol=1e-14)


def test_linear_without_bias_maps_zeros_to_zeros() -> None:
    layer = nn.Linear(3, 2, bias=False)
    assert list(layer.state_dict()) == ["weight"]
    assert not layer(Tensor(np.zeros((1, 3), np.float32))).numpy().any()


def test_linear_starts_within_one_over_the_root_of_its_inputs() -> None:
    layer = nn.Linear(100, 40, rng=np.random.default_rng(0))
    for p in layer.parameters():
        assert p.dtype == np.float32
        assert 0.08 < np.abs(p.numpy()).max() <= 0.1


def test_linear_says_what_does_not_fit() -> None:
    message = r"(?s)linear: the features of x, weight and bias do not match.*\(5, 4\).*\(2, 3\).*takes x \(…, C\)"
    with pytest.raises(ShapeError, match=message):
        nn.Linear(3, 2)(Tensor(np.zeros((5, 4), np.float32)))


@pytest.mark.parametrize("make", [lambda rng: nn.Linear(3, 2, rng=rng), lambda rng: nn.Embedding(3, 2, rng=rng)])
def test_one_seed_gives_one_weight_and_no_seed_a_fresh_one(make: Any) -> None:
    first, again = (make(np.random.default_rng(3)).weight.numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(make(None).weight.numpy(), make(None).weight.numpy())


def test_embedding_gives_one_row_a_number() -> None:
    layer = nn.Embedding(5, 2, rng=np.random.default_rng(0))
    index = np.array([[4, 0, 4], [1, 1, 1]])
    y = layer(index)
    assert (y.shape, y.dtype) == ((2, 3, 2), np.float32)
    for place in np.ndindex(index.shape):
        np.testing.assert_array_equal(y.numpy()[place], layer.weight.numpy()[index[place]])


def test_a_row_used_three_times_gets_three_gradients_and_an_unused_one_none() -> None:
    layer = nn.Embedding(4, 1, dtype=np.float64)
    layer([2, 0, 2, 2]).backward(np.array([[1.0], [10.0], [100.0], [1000.0]]))
    np.testing.assert_array_equal(layer.weight.grad, [[10.0], [0.0], [1101.0], [0.0]])


def test_embedding_takes_its_numbers_as_a_tensor_a_list_or_an_array() -> None:
    layer = nn.Embedding(4, 2)
    expected = layer(np.array([3, 1])).numpy()
    np.testing.assert_array_equal(layer([3, 1]).numpy(), expected)
    np.testing.assert_array_equal(layer(Tensor(np.array([3, 1]))).numpy(), expected)


def test_embedding_starts_from_standard_normal_numbers() -> None:
    values = nn.Embedding(100, 50, rng=np.random.default_rng(0)).weight.numpy()
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.03


def test_embedding_refuses_numbers_that_are_not_whole() -> None:
    with pytest.raises(ShapeError, match=r"embedding: the indices are float64, not whole numbers; index.astype"):
        nn.Embedding(4, 2)(np.array([1.0]))


@pytest.mark.parametrize(("index", "span"), [([0, 4], "0 to 4"), ([-1, 2], "-1 to 2")])
def test_embedding_refuses_rows_that_do_not_exist(index: list[int], span: str) -> None:
    with pytest.raises(ShapeError, match=rf"(?s)embedding: the indices run from {span}.*\(4, 2\).*from 0 to V - 1"):
        nn.Embedding(4, 2)(index)


def test_dropout_zeroes_or_scales_each_element() -> None:
    y = nn.dropout(Tensor(np.full((100, 100), 3.0)), 0.25, rng=np.random.default_rng(0)).numpy()
    np.testing.assert_allclose(np.unique(y), [0.0, 4.0])
    assert abs((y == 0).mean() - 0.25) < 0.02


def test_dropout_preserves_the_mean() -> None:
    for p in (0.1, 0.5, 0.9):
        y = nn.dropout(Tensor(np.ones(100_000)), p, rng=np.random.default_rng(1))
        assert y.mean().item() == pytest.approx(1, abs=0.05)


def test_dropout_gives_the_gradient_the_same_mask() -> None:
    x = Tensor(np.ones(50), requires_grad=True)
    y = nn.dropout(x, 0.5, rng=np.random.default_rng(2))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())
    assert set(x.grad) == {0.0, 2.0}


def test_dropout_keeps_float32() -> None:
    assert nn.dropout(Tensor(np.ones(5, np.float32)), 0.5).dtype == np.float32


def test_dropout_of_nothing_keeps_everything() -> None:
    np.testing.assert_array_equal(nn.dropout(Tensor([1.0, 2.0]), 0.0).numpy(), [1.0, 2.0])
    np.testing.assert_array_equal(nn.Dropout(0.0)(Tensor([1.0, 2.0])).numpy(), [1.0, 2.0])


def test_the_dropout_module_drops_in_training_and_nothing_at_evaluation() -> None:
    layer, x = nn.Dropout(0.5, rng=np.random.default_rng(3)), Tensor(np.ones(1000))
    assert 400 < (layer(x).numpy() == 0).sum() < 600
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), np.ones(1000))
    layer.train()
    assert (layer(x).numpy() == 0).any()


def test_every_call_of_dropout_draws_a_new_mask_from_the_seed() -> None:
    x = Tensor(np.ones(100))
    one, same = (nn.Dropout(rng=np.random.default_rng(4)) for _ in range(2))
    first = one(x).numpy()
    np.testing.assert_array_equal(same(x).numpy(), first)
    assert not np.array_equal(one(x).numpy(), first)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_a_probability_outside_zero_to_one_is_an_error(p: float) -> None:
    with pytest.raises(MinigradError, match=rf"dropout: p is {p}\.\n  Give the probability of dropping.*0 <= p < 1"):
        nn.dropout(Tensor([1.0]), p)
    with pytest.raises(MinigradError, match=rf"p is {p}"):
        nn.Dropout(p)(Tensor([1.0]))
