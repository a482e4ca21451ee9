from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.errors import MinigradError, ShapeError


class Model(nn.Module):
    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 3, rng=np.random.default_rng(0))
        self.lstm = nn.LSTM(3, 2, rng=np.random.default_rng(1))
        self.scale = nn.Parameter([1.0])
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2, 5, rng=np.random.default_rng(2))

    def forward(self, index: Any) -> Any:
        return self.head(self.drop(self.lstm(self.embed(index))[0]) * self.scale)


NAMES = [
    "scale", "embed.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0",
    "head.weight", "head.bias",
]  # fmt: skip


class Tied(nn.Module):
    """The output layer uses the embedding's weight."""

    def __init__(self) -> None:
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_state_dict_lists_own_parameters_and_then_the_childrens_in_order_of_definition() -> None:
    assert list(Model().state_dict()) == NAMES


def test_a_parameter_carries_its_dotted_name() -> None:
    model = Model()
    assert [p.name for p in model.parameters()] == NAMES
    assert [name for name, _ in model.named_parameters()] == NAMES


def test_names_go_as_deep_as_modules_do() -> None:
    outer = nn.Module()
    outer.inner = nn.Module()
    outer.inner.model = Model()
    holder = nn.Module()
    holder.outer = outer
    assert holder.parameters()[0].name == "outer.inner.model.scale"
    assert [name for name, _ in holder.named_modules()][:4] == ["", "outer", "outer.inner", "outer.inner.model"]


def test_a_shared_parameter_is_listed_once() -> None:
    model = Tied()
    assert list(model.state_dict()) == ["embed.weight"]
    assert len(model.parameters()) == 1


def test_a_shared_parameter_gets_the_gradient_of_both_uses() -> None:
    model = Tied()
    model.head(model.embed([1])).backward(np.array([[0, 1, 0, 0, 0]], np.float32))
    expected = np.zeros((5, 3), np.float32)
    expected[1] = 2 * model.embed.weight.numpy()[1]  # d (w_1 . w_1) / d w_1
    np.testing.assert_allclose(model.embed.weight.grad, expected, rtol=1e-6)


def test_a_plain_tensor_is_no_parameter() -> None:
    model = nn.Module()
    model.constant = Tensor([1.0], requires_grad=True)
    assert model.parameters() == []


def test_an_attribute_replaced_by_none_is_no_longer_listed() -> None:
    layer = nn.Linear(2, 3)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"]


def test_a_parameter_copies_its_value_and_requires_a_gradient() -> None:
    array = np.ones(2)
    p = nn.Parameter(array)
    array[0] = 5
    np.testing.assert_array_equal(p.numpy(), [1, 1])
    assert p.requires_grad
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad


def test_what_is_computed_from_a_parameter_is_no_parameter() -> None:
    assert type(nn.Parameter([1.0]) * 2) is Tensor


def test_state_dict_is_a_copy() -> None:
    model = Model()
    before = model.scale.item()
    model.state_dict()["scale"][:] = 9
    assert model.scale.item() == before


def test_a_model_goes_on_from_the_state_of_another() -> None:
    model, other = Model(), Model()
    other.lstm.weight_hh_l0.data = other.lstm.weight_hh_l0.numpy() * 2
    other.scale.data = [7.0]
    for m in (model, other):
        m.eval()
    index = np.array([[0, 1], [4, 2], [3, 3]])
    assert not np.array_equal(model(index).numpy(), other(index).numpy())
    model.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(model(index).numpy(), other(index).numpy())


def test_loading_copies() -> None:
    layer = nn.Linear(2, 1)
    state = {"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)}
    layer.load_state_dict(state)
    state["weight"][:] = 9
    np.testing.assert_array_equal(layer.weight.numpy(), [[1, 1]])


def test_loading_converts_to_the_modules_own_type() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": [[1, 2]], "bias": np.array([0.1])})
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bias"), r"missing \['bias'\], unknown none\.\n  Give exactly .*\['weight', 'bias'\]"),
        (lambda s: s.update(extra=np.ones(1)), r"missing none, unknown \['extra'\]\.\n  Give exactly these names"),
        (lambda s: s.update(bias=np.ones(4)), r"bias has shape \(4,\), the module's is \(3,\)\.\n  Build the module"),
        (lambda s: s.update(weight=np.ones((2, 3))), r"weight has shape \(2, 3\), the module's is \(3, 2\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change: Any, message: str) -> None:
    layer = nn.Linear(2, 3)
    before = layer.state_dict()
    state = {name: np.full_like(value, 9) for name, value in before.items()}
    change(state)
    with pytest.raises(ShapeError, match=f"load_state_dict: {message}"):
        layer.load_state_dict(state)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_train_and_eval_reach_every_module_below() -> None:
    outer = nn.Module()
    outer.model = Model()
    outer.eval()
    assert not any(module.training for _, module in outer.named_modules())
    outer.train()
    assert all(module.training for _, module in outer.named_modules())


def test_evaluation_of_one_model_leaves_another_in_training() -> None:
    one, other = Model(), Model()
    one.eval()
    assert other.drop.training


def test_zero_grad_forgets_every_gradient() -> None:
    model = Model()
    model(np.array([[0], [1]])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_module_without_forward_says_what_to_define() -> None:
    class Mine(nn.Module):
        pass

    with pytest.raises(MinigradError, match=r"Mine defines no forward\(\)\.\n  Define forward\(self, …\)"):
        Mine()(Tensor([1.0]))


def test_an_older_graph_keeps_the_values_it_was_computed_from() -> None:
    w = nn.Parameter(np.array([1.0, 2.0]))
    y = (w * w * w).sum()
    w.data = np.array([10.0, 20.0])
    y.backward()
    np.testing.assert_array_equal(w.grad, [3.0, 12.0])
    np.testing.assert_array_equal(w.numpy(), [10.0, 20.0])


def test_an_older_sequence_keeps_its_gradient_after_an_update_of_its_weights() -> None:
    found = []
    for update in (False, True):
        layer = nn.GRU(3, 2, rng=np.random.default_rng(0), dtype=np.float64)
        loss = layer(np.random.default_rng(1).standard_normal((4, 1, 3)))[0].sum()
        if update:
            for p in layer.parameters():
                p.data = p.numpy() * -3
        loss.backward()
        found.append([p.grad for p in layer.parameters()])
    for untouched, updated in zip(*found, strict=True):
        np.testing.assert_array_equal(untouched, updated)
