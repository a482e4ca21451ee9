from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, grad, named_scope, nn
from minigrad.errors import ShapeError
from tests.oracles import STEPS, complex_step, gradients, run, state_gradients


class Sum(NamedTuple):
    """A learner's own state, with a field that is no output."""

    total: Tensor
    steps: Tensor


class Adder:
    """A learner's own cell: total' = W total + x, and a count of steps."""

    def __init__(self, weight: Any) -> None:
        self.weight = Tensor(weight, requires_grad=True)

    def initial_state(self, batch: int) -> Sum:
        return Sum(Tensor(np.zeros((batch, len(self.weight)))), Tensor(np.zeros((batch, 1))))

    def step(self, x: Tensor, state: Sum) -> Sum:
        return Sum(state.total @ self.weight.T + x, state.steps + 1.0)


class Keeper:
    """A cell that hands on the very state it was given."""

    def initial_state(self, batch: int) -> nn.RNNState:
        return nn.RNNState(Tensor(np.full((batch, 2), 3.0)))

    def step(self, x: Tensor, state: nn.RNNState) -> nn.RNNState:
        return state


class Watched:
    """A cell whose states are kept, to ask for their gradients."""

    def __init__(self, cell: Any) -> None:
        self.cell, self.states = cell, []

    def initial_state(self, batch: int) -> Any:
        return self.cell.initial_state(batch)

    def step(self, x: Tensor, state: Any) -> Any:
        self.states.append(self.cell.step(x, state))
        return self.states[-1]


CELLS: dict[str, Any] = {
    "rnn tanh": lambda **o: nn.RNNCell(3, 2, **o),
    "rnn relu": lambda **o: nn.RNNCell(3, 2, nonlinearity="relu", **o),
    "lstm": lambda **o: nn.LSTMCell(3, 2, **o),
    "gru reset after": lambda **o: nn.GRUCell(3, 2, **o),
    "gru reset before": lambda **o: nn.GRUCell(3, 2, reset_after=False, **o),
}


def make(kind: str, seed: int = 0) -> Any:
    return CELLS[kind](rng=np.random.default_rng(seed), dtype=np.float64)


@pytest.mark.parametrize("kind", CELLS)
def test_the_gradient_of_a_state_is_the_oracles_total_derivative(kind: str) -> None:
    rng = np.random.default_rng(1)
    cell, x, v = Watched(make(kind)), rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, 2))
    outputs, last = nn.unroll(cell, x)
    found = grad((outputs * v).sum() + (last[-1] * last[-1]).sum(), [s for state in cell.states for s in state])
    expected = state_gradients(
        STEPS[kind],
        lambda outputs, last: (outputs * v).sum() + (last[-1] * last[-1]).sum(),
        x,
        [np.zeros((2, 2))] * len(last),
        [p.numpy() for p in cell.cell.parameters()],
    )
    for field, theirs in enumerate(expected):
        np.testing.assert_allclose(found[field :: len(last)], theirs, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("kind", ["rnn tanh", "lstm", "gru reset after", "gru reset before"])
def test_a_gradient_that_has_nearly_vanished_is_still_the_oracles(kind: str) -> None:
    cell, x = Watched(make(kind, 3)), np.random.default_rng(4).standard_normal((40, 1, 3))
    for p in cell.cell.parameters():
        p.data = p.numpy() * 0.1
    outputs, last = nn.unroll(cell, x)
    (found,) = grad(outputs[-1].sum(), [cell.states[0][0]])
    (expected, *_) = state_gradients(
        STEPS[kind],
        lambda outputs, last: outputs[-1].sum(),
        x,
        [np.zeros((1, 2))] * len(last),
        [p.numpy() for p in cell.cell.parameters()],
    )
    assert 0 < np.abs(expected[0]).max() < 1e-9
    np.testing.assert_allclose(found, expected[0], rtol=1e-9)


def test_a_learners_own_cell_has_its_states_and_outputs() -> None:
    w, x = np.array([[0.5, 0.2], [-0.3, 0.9]]), np.random.default_rng(0).standard_normal((4, 3, 2))
    outputs, last = nn.unroll(Adder(w), x)
    total, expected = np.zeros((3, 2)), []
    for x_t in x:
        total = total @ w.T + x_t
        expected.append(total)
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-14)
    assert type(last) is Sum
    np.testing.assert_array_equal(last.steps.numpy(), np.full((3, 1), 4.0))


def test_linear_bptt_is_a_sum_of_powers_of_the_transposed_weight() -> None:
    # h_t = W h_{t-1} + x_t   =>   dL/dh_t = sum over i >= t of (W^T)^(i-t) dL_i/dh_i
    rng = np.random.default_rng(2)
    w, x, v = rng.standard_normal((3, 3)) * 0.7, rng.standard_normal((6, 2, 3)), rng.standard_normal((6, 2, 3))
    cell = Watched(Adder(w))
    outputs, _ = nn.unroll(cell, x)
    found = grad((outputs * v).sum(), [s.total for s in cell.states])
    for t in range(6):
        expected = sum(v[i] @ np.linalg.matrix_power(w, i - t) for i in range(t, 6))
        np.testing.assert_allclose(found[t], expected, rtol=1e-12)


def test_a_relu_cell_in_its_linear_regime_follows_the_same_sum() -> None:
    rng = np.random.default_rng(3)
    cell, v = make("rnn relu"), rng.standard_normal((5, 1, 2))
    w = rng.uniform(0.1, 0.6, (2, 2))
    cell.load_state_dict({"weight_ih": np.ones((2, 3)), "weight_hh": w, "bias_ih": np.ones(2), "bias_hh": np.zeros(2)})
    watched = Watched(cell)
    outputs, _ = nn.unroll(watched, rng.uniform(0, 1, (5, 1, 3)))
    found = grad((outputs * v).sum(), [s.h for s in watched.states])
    for t in range(5):
        expected = sum(v[i] @ np.linalg.matrix_power(w, i - t) for i in range(t, 5))
        np.testing.assert_allclose(found[t], expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_scaled_rotation_shrinks_or_grows_a_gradient_by_its_scale_a_step(scale: float) -> None:
    rotation, v = np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([[3.0, 4.0]])
    cell = Watched(Adder(scale * rotation))
    outputs, _ = nn.unroll(cell, np.zeros((50, 1, 2)))
    found = grad((outputs[-1] * v).sum(), [s.total for s in cell.states])
    np.testing.assert_allclose([np.linalg.norm(g) for g in found], 5 * scale ** np.arange(49.0, -1, -1), rtol=1e-12)


def test_a_cell_may_hand_on_the_state_it_was_given() -> None:
    h = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    outputs, last = nn.unroll(Keeper(), np.zeros((4, 1, 1)), nn.RNNState(h))
    np.testing.assert_array_equal(outputs.numpy(), [[[1.0, 2.0]]] * 4)
    (outputs.sum() + 10 * last.h.sum()).backward()
    np.testing.assert_array_equal(h.grad, [[14.0, 14.0]])


def test_such_a_cell_works_from_its_own_initial_state() -> None:
    outputs, last = nn.unroll(Keeper(), np.zeros((3, 2, 1)))
    np.testing.assert_array_equal(outputs.numpy(), np.full((3, 2, 2), 3.0))
    np.testing.assert_array_equal(last.h.numpy(), np.full((2, 2), 3.0))


@pytest.mark.parametrize("kind", CELLS)
def test_one_cell_unrolled_twice_in_one_graph_gets_both_gradients(kind: str) -> None:
    rng = np.random.default_rng(5)
    cell, x = make(kind), rng.standard_normal((3, 2, 3))
    # The first run's outputs, widened to three features, are the second run's inputs.
    widen = rng.standard_normal((2, 3))
    weights = [p.numpy() for p in cell.parameters()]
    zeros = [np.zeros((2, 2))] * len(cell.initial_state(2))

    def oracle(*weights: Any) -> Any:
        first, _ = run(STEPS[kind], x, zeros, weights)
        second, _ = run(STEPS[kind], first @ widen, zeros, weights)
        return (second * second).sum() + first.sum()

    first, _ = nn.unroll(cell, x, name="l0")
    second, _ = nn.unroll(cell, first @ widen, name="l1")
    ((second * second).sum() + first.sum()).backward()
    for p, expected in zip(cell.parameters(), gradients(oracle, weights), strict=True):
        np.testing.assert_allclose(p.grad, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kind", CELLS)
def test_after_detach_the_gradient_is_that_of_the_last_chunk_alone(kind: str) -> None:
    rng = np.random.default_rng(6)
    cell, x, v = make(kind), rng.standard_normal((7, 2, 3)), rng.standard_normal((3, 2, 2))
    _, state = nn.unroll(cell, x[:4])
    state = type(state)(*(s.detach() for s in state))
    outputs, _ = nn.unroll(cell, x[4:], state)
    (outputs * v).sum().backward()
    weights = [p.numpy() for p in cell.parameters()]
    handed_on = [s.numpy() for s in state]
    expected = gradients(lambda *w: (run(STEPS[kind], x[4:], handed_on, w)[0] * v).sum(), weights)
    whole = gradients(
        lambda *w: (run(STEPS[kind], x, [np.zeros((2, 2))] * len(state), w)[0][4:] * v).sum(), weights
    )
    for p, chunk, all_steps in zip(cell.parameters(), expected, whole, strict=True):
        np.testing.assert_allclose(p.grad, chunk, rtol=1e-11, atol=1e-14)
        assert not np.allclose(chunk, all_steps, rtol=1e-6)


def test_without_detach_the_gradient_reaches_back_across_the_chunks() -> None:
    rng = np.random.default_rng(6)
    cell, x = make("lstm"), rng.standard_normal((7, 2, 3))
    _, state = nn.unroll(cell, x[:4])
    outputs, _ = nn.unroll(cell, x[4:], state)
    outputs.sum().backward()
    weights, zeros = [p.numpy() for p in cell.parameters()], [np.zeros((2, 2))] * 2
    expected = gradients(lambda *w: run(STEPS["lstm"], x, zeros, w)[0][4:].sum(), weights)
    for p, theirs in zip(cell.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, theirs, rtol=1e-11, atol=1e-14)


def test_the_initial_state_gets_the_oracles_gradient() -> None:
    rng = np.random.default_rng(7)
    cell, x = make("lstm"), rng.standard_normal((3, 1, 3))
    h, c = (Tensor(rng.standard_normal((1, 2)), requires_grad=True) for _ in range(2))
    outputs, _ = nn.unroll(cell, x, nn.LSTMState(h, c))
    outputs.sum().backward()
    weights = [p.numpy() for p in cell.parameters()]
    for leaf, expected in (
        (h, complex_step(lambda h: run(STEPS["lstm"], x, [h, c.numpy()], weights)[0].sum(), h.numpy())),
        (c, complex_step(lambda c: run(STEPS["lstm"], x, [h.numpy(), c], weights)[0].sum(), c.numpy())),
    ):
        np.testing.assert_allclose(leaf.grad, expected, rtol=1e-12)


def test_the_caller_keeps_the_initial_state_as_it_was() -> None:
    h = Tensor(np.ones((1, 2)), requires_grad=True, name="mine")
    _, last = nn.unroll(make("rnn tanh"), np.zeros((2, 1, 3)), nn.RNNState(h))
    assert (h.name, h.op, h.role) == ("mine", None, None)
    assert last.h is not h


class Twin(Adder):
    """Hands on one tensor as both fields of its state."""

    def step(self, x: Tensor, state: Sum) -> Sum:
        total = (state.total + state.steps) @ self.weight.T + x
        return Sum(total, total)


def test_one_tensor_as_two_fields_gets_the_gradient_of_both() -> None:
    # h_t = 2 W h_{t-1} + x_t, so dL/dx_1 = (2 W^T)^2 v for L = v h_3
    w, v = np.array([[0.5, 0.2], [-0.3, 0.9]]), np.array([[1.0, -2.0]])
    x, zeros = Tensor(np.ones((3, 1, 2)), requires_grad=True), Tensor(np.zeros((1, 2)))
    outputs, _ = nn.unroll(Twin(w), x, Sum(zeros, zeros))
    (outputs[-1] * v).sum().backward()
    np.testing.assert_allclose(x.grad[0], v @ (2 * w) @ (2 * w), rtol=1e-14)


def test_a_constant_state_may_start_two_runs() -> None:
    cell, x = make("lstm"), np.random.default_rng(8).standard_normal((3, 1, 3))
    state = nn.LSTMState(*(Tensor(np.full((1, 2), value)) for value in (0.5, -1.0)))
    once, again = (nn.unroll(cell, x, state)[0].numpy() for _ in range(2))
    expected, _ = run(STEPS["lstm"], x, [s.numpy() for s in state], [p.numpy() for p in cell.parameters()])
    np.testing.assert_allclose(once, expected, rtol=1e-13)
    np.testing.assert_array_equal(once, again)
    assert [s.name for s in state] == [None, None]


def test_a_state_handed_to_a_second_run_keeps_the_role_of_the_first() -> None:
    cell = make("rnn tanh")
    _, state = nn.unroll(cell, np.zeros((2, 1, 3)))
    role = state.h.role
    assert role is not None
    nn.unroll(cell, np.zeros((2, 1, 3)), state)
    assert state.h.role == role


class Failing(Adder):
    """Asks for what does not fit, at its third step."""

    def step(self, x: Tensor, state: Sum) -> Sum:
        after = super().step(x, state)
        with named_scope("forget gate"):
            return after if state.steps.numpy()[0, 0] < 2 else Sum(after.total + np.zeros(7), after.steps)


def test_an_error_inside_a_step_names_the_whole_path() -> None:
    with (
        named_scope("lstm"),
        pytest.raises(ShapeError, match=r"(?s)add at lstm / t=3 / forget gate: .*inputs \(1, 2\) float64   \(7,\)"),
    ):
        nn.unroll(Failing(np.eye(2)), np.zeros((5, 1, 2)))


@pytest.mark.parametrize("shape", [(5,), (0, 1, 3), ()])
def test_inputs_without_a_time_step_or_a_batch_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"(?s)unroll: the inputs have shape \(.*Give \(T, N, C\): time first"):
        nn.unroll(make("rnn tanh"), np.zeros(shape))
