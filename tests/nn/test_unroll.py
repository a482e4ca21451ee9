from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, grad, named_scope, nn
from minigrad.engine import topological
from minigrad.errors import ShapeError
from tests.oracles import STEPS, complex_step, gradients, run, run_each, state_gradients


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
@pytest.mark.slow
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


# Unequal lengths, and from the end to the start

LENGTHS = [(3, 1, 5), (2, 4, 1), (1, 1, 1)]  # of T=5: any order, nobody reaching T, one step each
each_cell = pytest.mark.parametrize("kind", CELLS)
both_ways = pytest.mark.parametrize("reverse", [False, True])


class Batch:
    """A cell, inputs, first states and what outputs and last states are weighed with."""

    def __init__(self, kind: str, steps: int = 5, batch: int = 3, dtype: Any = np.float64) -> None:
        rng = np.random.default_rng(12)
        self.cell = CELLS[kind](rng=rng, dtype=dtype)
        self.x = rng.standard_normal((steps, batch, 3)).astype(dtype)
        fields = len(self.cell.state_type._fields)
        self.first = list(rng.standard_normal((fields, batch, 2)).astype(dtype))
        self.v = rng.standard_normal((steps, batch, 2)).astype(dtype)
        self.lasts = list(rng.standard_normal((fields, batch, 2)).astype(dtype))

    def loss(self, outputs: Any, last: Any) -> Any:
        return (outputs * self.v).sum() + sum((s * w).sum() for s, w in zip(last, self.lasts, strict=True))

    def unrolled(self, x: Any = None, **options: Any) -> list[Any]:
        """Outputs, last states, and the gradients of x, the first states and the weights."""
        leaf = Tensor(self.x if x is None else x, requires_grad=True)
        first = self.cell.state_type(*(Tensor(s, requires_grad=True) for s in self.first))
        outputs, last = nn.unroll(self.cell, leaf, first, **options)
        leaves = [leaf, *first, *self.cell.parameters()]
        return [outputs.numpy(), *(s.numpy() for s in last), *grad(self.loss(outputs, last), leaves)]


@pytest.mark.parametrize("lengths", LENGTHS)
@both_ways
@each_cell
def test_a_padded_batch_has_the_values_and_gradients_of_its_samples_alone(
    kind: str, reverse: bool, lengths: tuple[int, ...]
) -> None:
    batch = Batch(kind)
    fields = len(batch.first)

    def oracle(x: Any, *rest: Any) -> Any:
        return run_each(STEPS[kind], x, rest[:fields], rest[fields:], lengths, reverse)

    arrays = [batch.x, *batch.first, *(p.numpy() for p in batch.cell.parameters())]
    outputs, last = oracle(*arrays)
    expected = [outputs, *last, *gradients(lambda *moved: batch.loss(*oracle(*moved)), arrays)]
    for found, theirs in zip(batch.unrolled(lengths=lengths, reverse=reverse), expected, strict=True):
        np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-14)


@both_ways
@each_cell
def test_in_float32_a_padded_batch_has_the_values_of_its_samples_alone(kind: str, reverse: bool) -> None:
    batch = Batch(kind, dtype=np.float32)
    found = batch.unrolled(lengths=[3, 1, 5], reverse=reverse)
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    weights = [p.numpy().astype(float) for p in batch.cell.parameters()]
    outputs, last = run_each(STEPS[kind], batch.x.astype(float), batch.first, weights, [3, 1, 5], reverse)
    for ours, theirs in zip(found, [outputs, *last], strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("lengths", LENGTHS)
@both_ways
@each_cell
def test_what_stands_past_a_samples_end_has_no_effect_at_all(kind: str, reverse: bool, lengths: Any) -> None:
    batch = Batch(kind)
    past = (np.arange(5)[:, np.newaxis] >= lengths)[:, :, np.newaxis]
    expected = batch.unrolled(lengths=lengths, reverse=reverse)
    for padding in (np.nan, np.inf, 1e300):
        found = batch.unrolled(np.where(past, padding, batch.x), lengths=lengths, reverse=reverse)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    outputs, x_grad = found[0], found[1 + len(batch.first)]
    assert not outputs[np.broadcast_to(past, outputs.shape)].any()
    assert not x_grad[np.broadcast_to(past, x_grad.shape)].any()


@both_ways
@each_cell
def test_the_order_of_the_samples_does_not_matter(kind: str, reverse: bool) -> None:
    batch, order, lengths = Batch(kind), np.array([2, 0, 1]), np.array([3, 1, 5])
    fields = len(batch.first)
    outputs, *rest = batch.unrolled(lengths=lengths, reverse=reverse)
    last, x_grad, first_grads, weight_grads = (
        rest[:fields], rest[fields], rest[fields + 1 : 2 * fields + 1], rest[2 * fields + 1 :]
    )  # fmt: skip
    batch.x, batch.v = batch.x[:, order], batch.v[:, order]
    batch.first, batch.lasts = ([s[order] for s in some] for some in (batch.first, batch.lasts))
    expected = [outputs[:, order], *(s[order] for s in last), x_grad[:, order], *(g[order] for g in first_grads)]
    found = batch.unrolled(lengths=lengths[order], reverse=reverse)
    for ours, theirs in zip(found, [*expected, *weight_grads], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@both_ways
@each_cell
def test_lengths_that_are_all_t_are_no_lengths(kind: str, reverse: bool) -> None:
    batch = Batch(kind)
    found, expected = batch.unrolled(lengths=[5, 5, 5], reverse=reverse), batch.unrolled(reverse=reverse)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@each_cell
def test_in_reverse_the_inputs_are_read_from_the_last_to_the_first(kind: str) -> None:
    batch = Batch(kind)
    outputs, *rest = batch.unrolled(reverse=True)
    fields = len(batch.first)
    batch.x, batch.v = batch.x[::-1], batch.v[::-1]
    expected, *others = batch.unrolled()
    np.testing.assert_array_equal(outputs, expected[::-1])
    others[fields] = others[fields][::-1]  # the inputs' gradient
    for ours, theirs in zip(rest, others, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("given", [[1, 4], (1, 4), np.array([1, 4], np.uint8), Tensor(np.array([1, 4]))])
def test_lengths_are_whole_numbers_of_any_sort(given: Any) -> None:
    outputs, _ = nn.unroll(make("rnn tanh"), np.ones((4, 2, 3)), lengths=given)
    np.testing.assert_array_equal(outputs.numpy().any(axis=2), [[True, True], *[[False, True]] * 3])


@both_ways
def test_one_sample_of_one_step_in_many(reverse: bool) -> None:
    cell, x = make("gru reset after"), np.random.default_rng(0).standard_normal((6, 1, 3))
    outputs, last = nn.unroll(cell, x, lengths=[1], reverse=reverse)
    alone, _ = nn.unroll(cell, x[:1])
    np.testing.assert_allclose(outputs.numpy(), np.concatenate([alone.numpy(), np.zeros((5, 1, 2))]), rtol=1e-14)
    np.testing.assert_allclose(last.h.numpy(), alone.numpy()[0], rtol=1e-14)


def test_a_short_sample_does_not_run_on_to_infinity_beside_a_long_one() -> None:
    # h' = 1e8 h + x: a sample that began with 1 would overflow at its 40th step; the other one stays 0.
    x = np.zeros((60, 2, 1))
    x[0, 0] = 1.0
    cell = Watched(Adder(np.array([[1e8]])))
    outputs, last = nn.unroll(cell, x, lengths=[3, 60])
    np.testing.assert_array_equal(last.total.numpy(), [[1e16], [0.0]])
    found = grad(last.total[0].sum() + outputs[:, 0].sum(), [cell.states[0].total, cell.cell.weight])
    assert found[0][0] == 1e16 + (1 + 1e8 + 1e16)
    assert found[1] == 2 * 1e8 + (1 + 2e8)  # d(w² + 1 + w + w²)/dw


@both_ways
@each_cell
def test_the_second_derivative_of_a_padded_batch_is_that_of_its_gradient(kind: str, reverse: bool) -> None:
    batch, v = Batch(kind), np.random.default_rng(1).standard_normal((5, 3, 3))

    def gradient(x: Any, **options: Any) -> Any:
        outputs, _ = nn.unroll(batch.cell, x, lengths=[3, 1, 5], reverse=reverse)
        return grad((outputs * outputs * batch.v).sum(), [x], **options)[0]

    x = Tensor(batch.x, requires_grad=True)
    (found,) = grad((gradient(x, create_graph=True) * v).sum(), [x])
    there, back = (gradient(Tensor(batch.x + e * v, requires_grad=True)) for e in (1e-5, -1e-5))
    np.testing.assert_allclose(found, (there - back) / 2e-5, rtol=1e-6, atol=1e-8)
    assert found.any()


class Fields(NamedTuple):
    h: Tensor
    matrix: Tensor
    count: Tensor


class Shapes:
    """A learner's own cell whose fields have different numbers of axes: (N, 2), (N, 2, 2), (N,)."""

    def initial_state(self, batch: int) -> Fields:
        return Fields(*(Tensor(np.zeros((batch, *shape))) for shape in ((2,), (2, 2), ())))

    def step(self, x: Tensor, state: Fields) -> Fields:
        matrix = state.matrix + x.reshape(-1, 1, 2) * x.reshape(-1, 2, 1)
        return Fields(matrix.sum(axis=2), matrix, state.count + 1.0)


@both_ways
def test_fields_of_a_learners_own_state_may_have_any_number_of_axes(reverse: bool) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    outputs, last = nn.unroll(Shapes(), x, lengths=[2, 4, 1], reverse=reverse)
    np.testing.assert_array_equal(last.count.numpy(), [2, 4, 1])
    products = x[:, :, np.newaxis] * x[:, :, :, np.newaxis]
    for s, end in enumerate([2, 4, 1]):
        np.testing.assert_allclose(last.matrix.numpy()[s], products[:end, s].sum(axis=0), rtol=1e-13)
        assert not outputs.numpy()[end:, s].any()


@both_ways
def test_a_cell_that_hands_on_its_state_does_so_at_the_real_steps_only(reverse: bool) -> None:
    h = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    outputs, last = nn.unroll(Keeper(), np.zeros((4, 2, 1)), nn.RNNState(h), lengths=[4, 2], reverse=reverse)
    np.testing.assert_array_equal(outputs.numpy()[:, 1], [[3, 4], [3, 4], [0, 0], [0, 0]])
    (outputs.sum() + 10 * last.h.sum()).backward()
    np.testing.assert_array_equal(h.grad, [[14.0, 14.0], [12.0, 12.0]])


@pytest.mark.parametrize(
    "lengths",
    [[1, 2], [1, 2, 3, 4], [0, 1, 2], [1, 2, 6], [-1, 2, 3], [1.0, 2.0, 3.0], [[1, 2, 3]], 3, [True, True, True], []],
)
def test_lengths_that_do_not_fit_are_refused(lengths: Any) -> None:
    message = r"lengths: found .* for inputs of T=5 steps and N=3 samples\.\n  Give N=3 whole numbers from 1 to 5: how"
    with pytest.raises(ShapeError, match=message):
        nn.unroll(make("rnn tanh"), np.zeros((5, 3, 3)), lengths=lengths)


def test_many_lengths_that_do_not_fit_are_shown_in_part() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.unroll(make("rnn tanh"), np.zeros((5, 100, 3)), lengths=[7] * 100)
    assert "[7, 7, 7," in str(caught.value)
    assert " … for inputs of T=5 steps and N=100 samples" in str(caught.value)


def test_inputs_of_no_samples_have_no_lengths() -> None:
    outputs, _ = nn.unroll(make("rnn tanh"), np.zeros((5, 0, 3)), lengths=np.array([], int))
    assert outputs.shape == (5, 0, 2)


@both_ways
@each_cell
def test_a_padded_graph_is_freed_with_its_last_user(kind: str, reverse: bool) -> None:
    batch = Batch(kind)
    outputs, last = nn.unroll(batch.cell, batch.x, lengths=[3, 1, 5], reverse=reverse)
    loss = batch.loss(outputs, last)
    nodes = [weakref.ref(node) for node in topological(loss) if node.op is not None]
    gc.disable()
    try:
        loss.backward()
        del outputs, last, loss
        assert [node() for node in nodes] == [None] * len(nodes)
    finally:
        gc.enable()
