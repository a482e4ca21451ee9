from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.errors import MinigradError, ShapeError
from tests.oracles import STEPS, complex_step, sigmoid

CELLS: dict[str, Any] = {
    "rnn tanh": (nn.RNNCell, {}),
    "rnn relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, {}),
    "gru reset after": (nn.GRUCell, {}),
    "gru reset before": (nn.GRUCell, {"reset_after": False}),
}
every_cell = pytest.mark.parametrize("kind", CELLS)


def make(kind: str, rng: np.random.Generator, c: int = 3, h: int = 4, bias: bool = True, **options: Any) -> Any:
    cell, given = CELLS[kind]
    return cell(c, h, bias, rng=rng, dtype=np.float64, **given, **options)


def weights_of(cell: Any) -> list[Any]:
    return [p.numpy() for p in cell.parameters()]


def random_state(cell: Any, rng: np.random.Generator, n: int) -> Any:
    return cell.state_type(*(Tensor(rng.standard_normal((n, cell.hidden_size))) for _ in cell.state_type._fields))


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "c", "h"), [(2, 3, 4), (1, 1, 1), (3, 2, 1)])
def test_a_step_equals_its_oracle(kind: str, bias: bool, n: int, c: int, h: int) -> None:
    rng = np.random.default_rng(1)
    cell = make(kind, rng, c, h, bias)
    x, state = Tensor(rng.standard_normal((n, c))), random_state(cell, rng, n)
    expected = STEPS[kind](x.numpy(), [s.numpy() for s in state], weights_of(cell), (0, 0))
    found = cell.step(x, state)
    assert type(found) is cell.state_type
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-13, atol=1e-15)


@every_cell
def test_a_step_from_the_initial_state_is_the_oracles_from_zeros(kind: str) -> None:
    rng = np.random.default_rng(2)
    cell = make(kind, rng)
    x, zeros = rng.standard_normal((2, 3)), [np.zeros((2, 4))] * (2 if kind == "lstm" else 1)
    (theirs, *_) = STEPS[kind](x, zeros, weights_of(cell), (0, 0))
    np.testing.assert_allclose(cell.step(Tensor(x), cell.initial_state(2)).h.numpy(), theirs, rtol=1e-13)


@every_cell
def test_a_step_gives_the_weights_the_complex_steps_gradient(kind: str) -> None:
    rng = np.random.default_rng(3)
    cell = make(kind, rng)
    x, state, v = Tensor(rng.standard_normal((2, 3))), random_state(cell, rng, 2), rng.standard_normal((2, 4))
    (cell.step(x, state).h * v).sum().backward()
    weights = weights_of(cell)
    for k, p in enumerate(cell.parameters()):
        expected = complex_step(
            lambda w, k=k: (
                v * STEPS[kind](x.numpy(), [s.numpy() for s in state], [*weights[:k], w, *weights[k + 1 :]], (0, 0))[0]
            ).sum(),
            weights[k],
        )
        np.testing.assert_allclose(p.grad, expected, rtol=1e-12, atol=1e-15)


@every_cell
def test_a_step_changes_neither_its_input_nor_its_state(kind: str) -> None:
    rng = np.random.default_rng(4)
    cell = make(kind, rng)
    x, state = Tensor(rng.standard_normal((2, 3))), random_state(cell, rng, 2)
    before = [t.numpy().copy() for t in (x, *state)]
    first, again = cell.step(x, state), cell.step(x, state)
    for t, value in zip((x, *state), before, strict=True):
        np.testing.assert_array_equal(t.numpy(), value)
    np.testing.assert_array_equal(first.h.numpy(), again.h.numpy())


@every_cell
def test_the_initial_state_is_zeros_of_the_cells_type(kind: str) -> None:
    cell = CELLS[kind][0](3, 4)
    for s in cell.initial_state(5):
        assert s.shape == (5, 4)
        assert s.dtype == np.float32
        assert not s.numpy().any()


def test_rnn_gru_and_lstm_have_parameters_as_one_to_three_to_four() -> None:
    sizes = [sum(p.size for p in make(kind, np.random.default_rng(0)).parameters()) for kind in CELLS]
    one = 4 * 3 + 4 * 4 + 2 * 4
    assert sizes == [one, one, 4 * one, 3 * one, 3 * one]


def test_without_bias_there_are_two_weights() -> None:
    assert list(nn.LSTMCell(3, 4, bias=False).state_dict()) == ["weight_ih", "weight_hh"]


def test_weights_lie_within_one_over_the_root_of_the_hidden_size() -> None:
    cell = nn.GRUCell(50, 16, rng=np.random.default_rng(0))
    for p in cell.parameters():
        assert 0.8 * 0.25 < np.abs(p.numpy()).max() <= 0.25


def test_the_forget_bias_is_what_the_two_biases_add_up_to() -> None:
    cell = nn.LSTMCell(3, 4, forget_bias=1.5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal((cell.bias_ih.numpy() + cell.bias_hh.numpy())[4:8], 1.5)


def test_the_forget_bias_leaves_the_other_gates_as_they_were() -> None:
    plain, biased = (nn.LSTMCell(3, 4, forget_bias=b, rng=np.random.default_rng(0)) for b in (None, 1.0))
    others = np.r_[0:4, 8:16]
    np.testing.assert_array_equal(biased.bias_ih.numpy()[others], plain.bias_ih.numpy()[others])
    np.testing.assert_array_equal(biased.bias_hh.numpy()[others], plain.bias_hh.numpy()[others])
    np.testing.assert_array_equal(biased.weight_hh.numpy(), plain.weight_hh.numpy())


def test_a_forget_bias_of_one_keeps_73_percent_of_the_cell() -> None:
    cell = nn.LSTMCell(3, 4, forget_bias=1.0, rng=np.random.default_rng(0), dtype=np.float64)
    x, h = Tensor(np.zeros((1, 3))), Tensor(np.zeros((1, 4)))
    kept, nothing = (cell.step(x, nn.LSTMState(h, Tensor(np.full((1, 4), c)))).c.numpy() for c in (1.0, 0.0))
    np.testing.assert_allclose(kept - nothing, 0.7310585786300049, rtol=1e-14)


def test_a_forget_bias_needs_biases() -> None:
    with pytest.raises(MinigradError, match=r"LSTMCell: forget_bias needs biases\.\n  Build it with bias=True"):
        nn.LSTMCell(3, 4, bias=False, forget_bias=1.0)


def test_an_open_forget_gate_and_a_shut_input_gate_keep_the_cell_exactly() -> None:
    cell = make("lstm", np.random.default_rng(0))
    cell.bias_ih.data = np.repeat([-1000.0, 1000.0, 0.0, 0.0], 4)
    state = random_state(cell, np.random.default_rng(1), 2)
    after = cell.step(Tensor(np.ones((2, 3))), state)
    np.testing.assert_array_equal(after.c.numpy(), state.c.numpy())


def test_an_update_gate_of_one_keeps_the_old_state() -> None:
    cell = make("gru reset after", np.random.default_rng(0))
    cell.bias_ih.data = np.repeat([0.0, 1000.0, 0.0], 4)
    state = random_state(cell, np.random.default_rng(1), 2)
    np.testing.assert_array_equal(cell.step(Tensor(np.ones((2, 3))), state).h.numpy(), state.h.numpy())


def test_both_gru_conventions_agree_for_one_unit_without_bias() -> None:
    # r is one number, so r * (W h) = W (r * h).
    x, h = Tensor(np.array([[0.3, -1.2]])), Tensor(np.array([[0.8]]))
    after, before = (make(f"gru reset {when}", np.random.default_rng(5), 2, 1, False) for when in ("after", "before"))
    np.testing.assert_allclose(
        after.step(x, nn.GRUState(h)).h.numpy(), before.step(x, nn.GRUState(h)).h.numpy(), rtol=1e-14
    )


def test_the_reset_gate_scales_the_recurrent_bias_only_when_it_acts_after() -> None:
    # All weights 0, z = 0: n = tanh(r * b_hn) with reset_after, tanh(b_hn) without; r = sigmoid(0.4).
    for when, expected in (("after", np.tanh(sigmoid(0.4) * 0.9)), ("before", np.tanh(0.9))):
        cell = make(f"gru reset {when}", np.random.default_rng(0), 1, 1)
        cell.load_state_dict({
            "weight_ih": np.zeros((3, 1)), "weight_hh": np.zeros((3, 1)),
            "bias_ih": [0.4, -1000.0, 0.0], "bias_hh": [0.0, 0.0, 0.9],
        })  # fmt: skip
        h = cell.step(Tensor(np.zeros((1, 1))), nn.GRUState(Tensor(np.ones((1, 1))))).h
        assert h.item() == pytest.approx(expected, rel=1e-14)


@every_cell
def test_one_seed_gives_one_set_of_weights(kind: str) -> None:
    first, again = (make(kind, np.random.default_rng(7)).state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])


def test_without_an_rng_every_cell_gets_weights_of_its_own() -> None:
    assert not np.array_equal(nn.RNNCell(3, 4).weight_hh.numpy(), nn.RNNCell(3, 4).weight_hh.numpy())


def test_a_cell_is_float32_unless_told_otherwise() -> None:
    assert {p.dtype for p in nn.GRUCell(3, 4).parameters()} == {np.dtype(np.float32)}
    assert {p.dtype for p in nn.GRUCell(3, 4, dtype=np.float64).parameters()} == {np.dtype(np.float64)}


def test_a_wrong_number_of_features_is_named_with_its_remedy() -> None:
    cell = nn.LSTMCell(4, 16)
    with pytest.raises(
        ShapeError,
        match=r"lstm step: x and the state do not fit a cell made for C=4 features and H=16\.\n"
        r"  x \(8, 3\)   h \(8, 16\)   c \(8, 16\)   weight_ih \(4H=64, C=4\)\n"
        r"  Give x of shape \(8, 4\).*LSTMCell\(input_size=3, hidden_size=16\)",
    ):
        cell.step(Tensor(np.zeros((8, 3), np.float32)), cell.initial_state(8))


@pytest.mark.parametrize("state", [(2, 5), (3, 4), (4,)])
def test_a_state_of_another_shape_is_an_error(state: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"(?s)gru step: .* h \(.*states of shape \(2, 4\)"):
        nn.GRUCell(3, 4).step(Tensor(np.zeros((2, 3), np.float32)), nn.GRUState(Tensor(np.zeros(state, np.float32))))


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (-1, 4)])
def test_sizes_count_from_one(sizes: tuple[int, int]) -> None:
    with pytest.raises(MinigradError, match=rf"RNNCell: input_size={sizes[0]}, hidden_size={sizes[1]}\.\n  Both count"):
        nn.RNNCell(*sizes)


def test_an_unknown_nonlinearity_is_an_error() -> None:
    with pytest.raises(MinigradError, match=r"RNNCell: nonlinearity='sin'\.\n  Choose 'tanh' or 'relu'"):
        nn.RNNCell(3, 4, nonlinearity="sin")


def test_a_cell_without_a_step_says_what_to_define() -> None:
    class Mine(nn.cells.Cell):
        gates = ("a",)
        state_type = nn.RNNState

    with pytest.raises(MinigradError, match=r"Mine defines no step\(\)\.\n  Define step\(self, x, state\)"):
        Mine(3, 4).step(Tensor(np.zeros((1, 3))), None)
