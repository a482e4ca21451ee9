"""What bptt.backward writes into a Record, against plain-NumPy oracles, closed forms and hand-written sums."""

import dataclasses
import gc
import inspect
import math
import warnings
import weakref
from typing import NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, engine, named_scope, nn, no_grad, ops
from minigrad.errors import GradError, MinigradError, StaleGraphError
from tests import oracles

CELLS = {
    "rnn tanh": (nn.RNNCell, {}),
    "rnn relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, {}),
    "gru reset after": (nn.GRUCell, {"reset_after": True}),
    "gru reset before": (nn.GRUCell, {"reset_after": False}),
}
EACH_CELL = pytest.mark.parametrize("kind", CELLS)


def norm(x):
    """Over the last axis, as the Record keeps it."""
    return np.sqrt((np.abs(x) ** 2).sum(axis=-1))


def close(found, wanted, rtol=1e-10):
    """Equal to a part of the largest number in each row, so that a row of 1e-32 is compared too."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    size = np.abs(wanted).max(axis=-1, keepdims=True, initial=0) if wanted.ndim else np.abs(wanted)
    error = np.abs(found - wanted)
    assert (error <= rtol * size).all(), f"off by {(error / np.where(size, size, 1)).max():.1e} of the largest"


class Case:
    """A cell and all arrays of one run, and the same run of the oracle."""

    def __init__(self, kind, steps=5, batch=2, features=4, hidden=3, dtype=np.float64, first="zeros", seed=0):
        rng = np.random.default_rng(seed)
        cell, options = CELLS[kind]
        self.cell = cell(features, hidden, rng=rng, dtype=dtype, **options)
        self.x = rng.standard_normal((steps, batch, features)).astype(dtype)
        self.target = rng.standard_normal((steps, batch, hidden)).astype(dtype)
        self.step = oracles.STEPS[kind]
        fields = self.cell.state_type._fields
        scale = 0.0 if first == "zeros" else 1.0
        self.first = [(scale * rng.standard_normal((batch, hidden))).astype(dtype) for _ in fields]
        self.given = None
        if first != "zeros":
            self.given = self.cell.state_type(*(Tensor(s, requires_grad=first == "learnt") for s in self.first))

    @property
    def weights(self):
        return [p.data.astype(np.float64) for p in self.cell.parameters()]

    def loss(self, output, state, where="every"):
        """Squared error, of Tensors and of the oracle's arrays alike; `state` takes part in "both"."""
        if where == "last":
            difference = output[-1] - self.target[-1]
            return (difference * difference).sum()
        difference = output - self.target
        total = (difference * difference).sum()
        return total + (state[-1] * self.target[0]).sum() if where == "both" else total

    def record(self, where="every", x=None, **options):
        output, state = nn.unroll(self.cell, self.x if x is None else x, self.given)
        return bptt.backward(self.loss(output, state, where), **options)

    def oracle(self, where="every"):
        """dL/dstate_t, one array (T, N, H) a field."""
        found = oracles.state_gradients(
            self.step,
            lambda y, s: self.loss(y, s, where),
            self.x.astype(np.float64),
            [s.astype(np.float64) for s in self.first],
            self.weights,
        )
        return dict(zip(self.cell.state_type._fields, found, strict=True))

    def before(self, record, field):
        """The state that each step started from, (T, N, H)."""
        states = record.sequence().states[field]
        return np.concatenate([self.first[self.cell.state_type._fields.index(field)][None], states[:-1]])


class State(NamedTuple):
    h: Tensor


class Pair(NamedTuple):
    h: Tensor
    c: Tensor


class Own:
    """A learner's cell: any step function, no module, no scope."""

    def __init__(self, step, state, **parameters):
        self.function, self.state = step, state
        for name, value in parameters.items():
            setattr(self, name, Tensor(np.asarray(value), requires_grad=True, name=name))

    def initial_state(self, batch):
        return self.state

    def step(self, x, state):
        return self.function(self, x, state)


def zeros(*shape, dtype=np.float64):
    return Tensor(np.zeros(shape, dtype))


def chain(w, steps, dtype=np.float64, loss="last"):
    """h' = w h + x with one unit: the record of its last or of every state."""
    cell = Own(lambda own, x, s: State(s.h @ own.w + x), State(zeros(1, 1, dtype=dtype)), w=np.array([[w]], dtype))
    y, _ = nn.unroll(cell, np.zeros((steps, 1, 1), dtype))
    return bptt.backward(y[-1].sum() if loss == "last" else y.sum())


# dL/dh_t and dL/dc_t


@pytest.mark.parametrize("first", ["zeros", "given", "learnt"])
@pytest.mark.parametrize("where", ["every", "last", "both"])
@EACH_CELL
def test_state_gradients_are_total_derivatives(kind, where, first):
    case = Case(kind, first=first)
    found, wanted = case.record(where).sequence().gradients, case.oracle(where)
    assert set(found) == set(wanted)
    for field in wanted:
        close(found[field], wanted[field])


@pytest.mark.parametrize("seed", range(4))
@EACH_CELL
def test_state_gradients_at_random_sizes(kind, seed):
    steps, batch, features, hidden = np.random.default_rng(seed).permutation([2, 3, 4, 5]).tolist()
    case = Case(kind, steps, batch, features, hidden, first="given", seed=seed)
    found, wanted = case.record().sequence().gradients, case.oracle()
    for field in wanted:
        close(found[field], wanted[field])


@pytest.mark.parametrize(("steps", "batch"), [(1, 3), (4, 1), (1, 1)])
@EACH_CELL
def test_one_step_and_one_sample(kind, steps, batch):
    case = Case(kind, steps, batch, first="learnt")
    record, wanted = case.record("both"), case.oracle("both")
    for field in wanted:
        close(record.sequence().gradients[field], wanted[field])
        assert record.sequence().norms(field).shape == (steps, batch)


@EACH_CELL
def test_float32_state_gradients(kind):
    case = Case(kind, dtype=np.float32, first="given")
    found, wanted = case.record("both").sequence().gradients, case.oracle("both")
    for field in wanted:
        assert found[field].dtype == np.float32
        close(found[field], wanted[field], 3e-5)


@pytest.mark.parametrize("kind", ["rnn tanh", "lstm"])
def test_vanished_gradients_keep_their_digits(kind):
    steps, hidden = (60, 2) if kind == "rnn tanh" else (40, 1)
    case = Case(kind, steps, batch=1, features=1, hidden=hidden, seed=3)
    cell = case.cell
    cell.weight_hh.data = cell.weight_hh.data * (0.5 if kind == "rnn tanh" else 1.0)
    if kind == "rnn tanh":
        cell.weight_ih.data = cell.weight_ih.data * 4
    else:
        cell.bias_ih.data = np.array([0.0, -4.0, 0.0, 0.0])  # the forget gate lets little through
    found, wanted = case.record("last").sequence().gradients, case.oracle("last")
    for field in wanted:
        close(found[field], wanted[field])
        assert 0 < norm(wanted[field][0]).max() < 1e-30


@EACH_CELL
def test_initial_states_get_their_gradient_when_they_are_learnt(kind):
    case = Case(kind, first="learnt")
    record = case.record("both")

    def loss(*first):
        return case.loss(*oracles.run(case.step, case.x, first, case.weights), "both")

    wanted = oracles.gradients(loss, case.first)
    for k, field in enumerate(case.cell.state_type._fields):
        close(record.sequence().initial_gradients[field], wanted[k])
        close(case.given[k].grad, wanted[k])
        np.testing.assert_array_equal(record.sequence().initial[field], case.first[k])


def test_initial_states_that_are_constants_have_no_gradient():
    assert Case("lstm", first="given").record().sequence().initial_gradients == {}


@EACH_CELL
def test_norms_are_a_sample_and_a_step(kind):
    case = Case(kind)
    for field, wanted in case.oracle().items():
        np.testing.assert_allclose(case.record(accumulate=True).sequence().norms(field), norm(wanted), rtol=1e-10)


@EACH_CELL
def test_readings_are_over_the_whole_batch(kind):
    case = Case(kind)
    wanted = np.sqrt((case.oracle()["h"] ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose([r.norm for r in case.record().sequence().readings()], wanted, rtol=1e-10)


# States, gates, inputs


@EACH_CELL
def test_states_are_the_oracles(kind):
    case = Case(kind, first="given")
    outputs, _ = oracles.run(case.step, case.x, case.first, case.weights)
    np.testing.assert_allclose(case.record().sequence().states["h"], outputs, rtol=1e-13, atol=1e-15)


def gates_of(kind, case, record):
    """Every gate's value, and dL/dgate from the oracle's dL/dstate."""
    d = case.oracle("both")
    h = case.before(record, "h")
    w_i, w_h, b_i, b_h = case.weights
    from_x, from_h = case.x @ w_i.T + b_i, h @ w_h.T + b_h
    if kind.startswith("rnn"):
        a = from_x + from_h
        slope = 1 - np.tanh(a) ** 2 if kind == "rnn tanh" else a > 0
        return {"a": a}, {"a": d["h"] * slope}
    if kind == "lstm":
        c = record.sequence().states["c"]
        i, f, g, o = np.split(from_x + from_h, 4, axis=-1)
        i, f, g, o = oracles.sigmoid(i), oracles.sigmoid(f), np.tanh(g), oracles.sigmoid(o)
        slopes = {"i": d["c"] * g, "f": d["c"] * case.before(record, "c"), "g": d["c"] * i, "o": d["h"] * np.tanh(c)}
        return {"i": i, "f": f, "g": g, "o": o}, slopes
    x_r, x_z, x_n = np.split(from_x, 3, axis=-1)
    h_r, h_z, h_n = np.split(from_h, 3, axis=-1)
    r, z = oracles.sigmoid(x_r + h_r), oracles.sigmoid(x_z + h_z)
    w_n, b_n = np.split(w_h, 3)[2], np.split(b_h, 3)[2]
    after = kind == "gru reset after"
    n = np.tanh(x_n + (r * h_n if after else (r * h) @ w_n.T + b_n))
    into_n = d["h"] * (1 - z) * (1 - n * n)
    slopes = {"r": into_n * h_n if after else (into_n @ w_n) * h, "z": d["h"] * (h - n), "n": d["h"] * (1 - z)}
    return {"r": r, "z": z, "n": n}, slopes


@EACH_CELL
def test_gates_and_their_gradients(kind):
    case = Case(kind, first="given")
    record = case.record("both")
    values, slopes = gates_of(kind, case, record)
    s = record.sequence()
    assert set(values) == set(s.gates) == set(s.gate_norms)
    for symbol in values:
        np.testing.assert_allclose(s.gates[symbol], values[symbol], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(s.gate_norms[symbol], norm(slopes[symbol]), rtol=1e-10)


@EACH_CELL
def test_inputs_are_kept_as_they_were_given(kind):
    case = Case(kind)
    np.testing.assert_array_equal(case.record().sequence().inputs, case.x)


def test_input_norms_and_means():
    case = Case("lstm", first="given")

    def loss(x):
        return case.loss(*oracles.run(case.step, x, case.first, case.weights))

    s = case.record(x=Tensor(case.x, requires_grad=True)).sequence()
    np.testing.assert_allclose(s.input_norms, norm(oracles.complex_step(loss, case.x)), rtol=1e-10)
    np.testing.assert_allclose(s.input_means, case.x.mean(axis=(1, 2)), rtol=1e-12)


def test_inputs_without_a_gradient_have_no_norms():
    assert Case("lstm").record().sequence().input_norms is None


def test_every_step_of_every_sample_is_real():
    np.testing.assert_array_equal(Case("lstm", steps=4, batch=3).record().sequence().lengths, [4, 4, 4])


# Arrivals


@EACH_CELL
def test_what_arrives_from_the_loss_is_the_direct_derivative(kind):
    case = Case(kind)
    s = case.record().sequence()
    np.testing.assert_allclose(s.arrivals["h"]["outside"], norm(2 * (s.states["h"] - case.target)), rtol=1e-12)


@EACH_CELL
def test_what_arrives_at_h_from_the_next_step_is_the_rest(kind):
    case = Case(kind)
    s = case.record().sequence()
    rest = case.oracle()["h"] - 2 * (s.states["h"] - case.target)
    np.testing.assert_allclose(s.arrivals["h"]["next"][:-1], norm(rest)[:-1], rtol=1e-9)
    np.testing.assert_array_equal(s.arrivals["h"]["next"][-1], 0)
    np.testing.assert_array_equal(s.arrivals["h"]["same"], 0)


def test_what_arrives_at_c():
    case = Case("lstm")
    s, d = case.record("both").sequence(), case.oracle("both")
    same = d["h"] * s.gates["o"] * (1 - np.tanh(s.states["c"]) ** 2)
    following = (d["c"] * s.gates["f"])[1:]  # c_t+1 = f_t+1 * c_t + …
    np.testing.assert_allclose(s.arrivals["c"]["same"], norm(same), rtol=1e-10)
    np.testing.assert_allclose(s.arrivals["c"]["next"][:-1], norm(following), rtol=1e-10)
    np.testing.assert_allclose(s.arrivals["c"]["outside"][-1], norm(case.target[0]), rtol=1e-12)
    np.testing.assert_array_equal(s.arrivals["c"]["outside"][:-1], 0)
    np.testing.assert_array_equal(s.arrivals["c"]["next"][-1], 0)


@pytest.mark.parametrize("w", [0.5, -0.8, 1.5])
def test_arrivals_of_one_unit_in_closed_form(w):
    s = chain(w, 8, loss="every").sequence()
    total = np.array([sum(w**k for k in range(8 - t)) for t in range(8)])
    np.testing.assert_allclose(s.gradients["h"][:, 0, 0], total, rtol=1e-14)
    np.testing.assert_array_equal(s.arrivals["h"]["outside"], np.ones((8, 1)))
    np.testing.assert_allclose(s.arrivals["h"]["next"][:, 0], np.abs(total - 1), rtol=1e-14)


def test_a_part_that_comes_alone_is_the_whole():
    s = chain(0.5, 6).sequence()
    np.testing.assert_array_equal(s.arrivals["h"]["next"][:-1], s.norms()[:-1])
    np.testing.assert_array_equal(s.arrivals["h"]["outside"][-1], s.norms()[-1])


def test_parts_that_cancel_are_both_reported():
    y, _ = nn.unroll(Own(lambda own, x, s: State(s.h * own.w + x), State(zeros(1, 1)), w=[[-1.0]]), np.ones((2, 1, 1)))
    s = bptt.backward(y.sum()).sequence()
    assert (s.arrivals["h"]["outside"][0, 0], s.arrivals["h"]["next"][0, 0], s.norms()[0, 0]) == (1.0, 1.0, 0.0)
    assert s.readings()[0].kind == "zero"


def test_use_two_steps_later_arrives_from_a_later_step():
    def step(own, x, s):
        return Pair(s.c * own.w + x, s.h)  # c is the h of the step before

    y, _ = nn.unroll(Own(step, Pair(zeros(1, 1), zeros(1, 1)), w=[[3.0]]), np.zeros((5, 1, 1)))
    s = bptt.backward(y[-1].sum()).sequence()
    np.testing.assert_array_equal(s.gradients["h"][:, 0, 0], [9, 0, 3, 0, 1])
    np.testing.assert_array_equal(s.gradients["c"][:, 0, 0], [0, 9, 0, 3, 0])
    np.testing.assert_array_equal(s.arrivals["h"]["next"][:, 0], [9, 0, 3, 0, 0])


def test_second_layer_is_outside_of_the_first():
    rng = np.random.default_rng(5)
    low, high = nn.RNN(2, 3, rng=rng, dtype=np.float64), nn.RNN(3, 4, rng=rng, dtype=np.float64)
    h, _ = low(rng.standard_normal((4, 2, 2)))
    y, _ = high(h)
    record = bptt.backward(y.sum())
    first, second = record.sequences.values()
    into = second.gradients["h"] * (1 - second.states["h"] ** 2)  # dL/da of the second layer
    np.testing.assert_allclose(
        first.arrivals["h"]["outside"], norm(into @ high.weight_ih_l0.data), rtol=1e-12
    )


# Terms


@EACH_CELL
def test_terms_sum_to_the_gradient(kind):
    case = Case(kind, first="given")
    record = case.record("both")
    parameters = dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), case.cell.parameters(), strict=True))
    assert list(record.parameters) == list(parameters)

    def loss(*weights):
        return case.loss(*oracles.run(case.step, case.x, case.first, weights), "both")

    for (name, p), wanted in zip(parameters.items(), oracles.gradients(loss, case.weights), strict=True):
        found = record.parameters[name]
        close(np.sum([term.array() for term in found.terms], axis=0), wanted)
        close(found.gradient, wanted)
        np.testing.assert_array_equal(found.gradient, p.grad)
        np.testing.assert_allclose(found.norm, np.linalg.norm(wanted), rtol=1e-10)
        np.testing.assert_allclose(found.weight_norm, np.linalg.norm(p.data), rtol=1e-14)
        assert found.shape == p.shape
        assert [term.time for term in found.terms] == [0, 1, 2, 3, 4]
        assert {term.sequence for term in found.terms} == {"l0"}


def test_each_term_is_the_outer_product_of_its_step():
    case = Case("rnn tanh", first="given")
    record, h = case.record(), case.before
    into = case.oracle()["h"] * (1 - record.sequence().states["h"] ** 2)
    before = h(record, "h")
    for name, right in (("weight_ih", case.x), ("weight_hh", before), ("bias_ih", None)):
        for term in record.parameters[name].terms:
            g = into[term.time]
            wanted = g.sum(axis=0) if right is None else g.T @ right[term.time]
            np.testing.assert_allclose(term.array(), wanted, rtol=1e-10, atol=1e-14)
            np.testing.assert_allclose(term.norm(), np.linalg.norm(wanted), rtol=1e-10)


@EACH_CELL
def test_by_step_is_the_norm_of_each_steps_term(kind):
    record = Case(kind, first="given").record()
    for parameter in record.parameters.values():
        wanted = {term.time: np.linalg.norm(term.array()) for term in parameter.terms}
        assert parameter.by_step("l0") == pytest.approx(wanted, rel=1e-12)
        assert parameter.by_step("l1") == {}


def own_matmul():
    """h' = tanh(h @ U + x), and one more use of U outside the steps."""
    rng = np.random.default_rng(7)
    cell = Own(
        lambda own, x, s: State(ops.tanh(s.h @ own.U + x)), State(Tensor(rng.standard_normal((2, 3)))),
        U=rng.standard_normal((3, 3)),
    )  # fmt: skip
    y, _ = nn.unroll(cell, rng.standard_normal((4, 2, 3)))
    return cell, y


def test_terms_of_an_own_cell_are_kept_as_factors_and_sum_to_the_gradient():
    cell, y = own_matmul()
    terms = bptt.backward(y.sum()).parameters["U"].terms
    assert all(term.right is not None for term in terms)
    np.testing.assert_allclose(sum(t.array() for t in terms), cell.U.grad, rtol=1e-12)
    y.backward(np.ones(y.shape), accumulate=True)
    np.testing.assert_allclose(2 * sum(t.array() for t in terms), cell.U.grad, rtol=1e-12)


def test_use_outside_any_step_has_no_time():
    cell, y = own_matmul()
    found = bptt.backward(y.sum() + (cell.U * cell.U).sum()).parameters["U"]
    outside = [t for t in found.terms if t.time is None]
    assert [t.sequence for t in outside] == [None] * len(outside)
    np.testing.assert_allclose(sum(t.array() for t in outside), 2 * cell.U.data, rtol=1e-14)
    np.testing.assert_allclose(sum(t.array() for t in found.terms), cell.U.grad, rtol=1e-12)
    assert sorted(found.by_step("l0")) == [0, 1, 2, 3]


def test_uses_in_one_step_are_summed_before_their_norm():
    cell = Own(
        lambda own, x, s: State(s.h @ own.U - s.h @ own.U + x), State(Tensor(np.ones((1, 2)))), U=np.eye(2)
    )
    y, _ = nn.unroll(cell, np.ones((3, 1, 2)))
    found = bptt.backward(y.sum()).parameters["U"]
    assert len(found.terms) == 6
    assert all(term.norm() > 1 for term in found.terms)
    assert found.by_step("l0") == {0: 0.0, 1: 0.0, 2: 0.0}


def test_two_uses_of_a_weight_in_one_step_sum_to_its_gradient():
    rng = np.random.default_rng(8)
    cell = Own(
        lambda own, x, s: State(ops.tanh((s.h @ own.U + x) @ own.U)), State(Tensor(rng.standard_normal((2, 3)))),
        U=rng.standard_normal((3, 3)),
    )  # fmt: skip
    y, _ = nn.unroll(cell, rng.standard_normal((4, 2, 3)))
    found = bptt.backward(y.sum()).parameters["U"]
    assert [t.time for t in found.terms] == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(sum(t.array() for t in found.terms), cell.U.grad, rtol=1e-12)
    for t, found_norm in found.by_step("l0").items():
        both = sum(term.array() for term in found.terms if term.time == t)
        np.testing.assert_allclose(found_norm, np.linalg.norm(both), rtol=1e-12)


def test_parameters_without_a_name_are_numbered_and_shared_names_told_apart():
    x = Tensor(np.ones((2, 1, 1)))
    a, b, c = (Tensor(np.ones((1, 1)), requires_grad=True, name=name) for name in ("w", "w", None))
    y, _ = nn.unroll(Own(lambda own, x, s: State((s.h + x) @ a @ b @ c), State(zeros(1, 1))), x)
    assert list(bptt.backward(y.sum()).parameters) == ["w", "w'", "parameter 2"]


def test_weight_norm_is_of_the_weight_that_was_recorded():
    case = Case("rnn tanh")
    wanted = np.linalg.norm(case.weights[1])
    y, _ = nn.unroll(case.cell, case.x)
    case.cell.weight_hh.data = np.zeros((3, 3))
    np.testing.assert_allclose(bptt.backward(y.sum()).parameters["weight_hh"].weight_norm, wanted, rtol=1e-14)


def test_inputs_are_no_parameters_and_learnt_first_states_are():
    case = Case("rnn tanh", first="learnt")
    found = case.record(x=Tensor(case.x, requires_grad=True)).parameters
    assert list(found) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "parameter 4"]
    (term,) = found["parameter 4"].terms
    assert (term.sequence, term.time) == (None, None)
    np.testing.assert_array_equal(term.array(), case.given.h.grad)


# Several runs


def test_two_runs_of_one_layer_and_two_layers_have_names_of_their_own():
    rng = np.random.default_rng(9)
    one = nn.LSTM(2, 3, rng=rng, dtype=np.float64)
    other = nn.GRU(3, 3, rng=rng, dtype=np.float64)
    a, _ = one(rng.standard_normal((3, 2, 2)))
    b, _ = one(rng.standard_normal((5, 2, 2)))
    c, _ = other(b)
    record = bptt.backward(a.sum() + c.sum())
    assert list(record.sequences) == ["lstm/l0", "lstm/l0 #2", "gru/l0"]
    assert [s.steps for s in record.sequences.values()] == [3, 5, 5]
    assert [s.cell for s in record.sequences.values()] == ["LSTM", "LSTM", "GRU"]
    assert [s.scope for s in record.sequences.values()] == [("lstm",), ("lstm",), ("gru",)]
    assert all(name == s.name for name, s in record.sequences.items())
    uses = [(t.sequence, t.time) for t in record.parameters["weight_hh_l0"].terms]
    assert sorted(uses) == [("lstm/l0", t) for t in range(3)] + [("lstm/l0 #2", t) for t in range(5)]
    terms = sum(t.array() for t in record.parameters["weight_hh_l0"].terms)
    np.testing.assert_allclose(terms, one.weight_hh_l0.grad, rtol=1e-12)
    assert sorted(record.parameters["weight_hh_l0"].by_step("lstm/l0 #2")) == [0, 1, 2, 3, 4]


def test_names_that_look_counted_stay_unique():
    cell = nn.RNNCell(1, 1, rng=np.random.default_rng(0), dtype=np.float64)
    ys = [nn.unroll(cell, np.ones((2, 1, 1)), name=name)[0] for name in ("a #2", "a", "a", "a", "a #2")]
    assert len(bptt.backward(sum(y.sum() for y in ys)).sequences) == 5


def test_state_carried_into_a_second_run_arrives_from_outside():
    case = Case("lstm")
    _, state = nn.unroll(case.cell, case.x, name="first")
    y, _ = nn.unroll(case.cell, case.x, state, name="second")
    record = bptt.backward(y.sum())
    first, second = record.sequence("first"), record.sequence("second")
    for field in ("h", "c"):
        assert not first.arrivals[field]["next"][-1].any()
        np.testing.assert_allclose(
            first.arrivals[field]["outside"][-1], norm(second.initial_gradients[field]), rtol=1e-14
        )
        np.testing.assert_array_equal(second.initial[field], first.states[field][-1])


def test_detached_state_leaves_the_first_run_out_of_the_record():
    case = Case("lstm")
    _, state = nn.unroll(case.cell, case.x, name="first")
    y, _ = nn.unroll(case.cell, case.x, type(state)(*(s.detach() for s in state)), name="second")
    assert list(bptt.backward(y.sum()).sequences) == ["second"]


# What the loss does not reach, what is zero, what is too small or too large


def test_states_taken_one_by_one_leave_later_steps_without_a_path():
    case = Case("rnn tanh", steps=6)
    y, _ = nn.unroll(case.cell, case.x)
    first = y.parents[:3]
    s = bptt.backward(ops.stack(*first).sum()).sequence()
    assert [r.kind for r in s.readings()] == ["value"] * 3 + ["no path"] * 3
    assert s.steps == 6
    np.testing.assert_array_equal(s.reached["h"], [True] * 3 + [False] * 3)
    np.testing.assert_array_equal(s.gradients["h"][3:], 0)
    np.testing.assert_array_equal(s.states["h"][:3], y.data[:3])
    wanted = oracles.state_gradients(case.step, lambda y, _: y[:3].sum(), case.x, case.first, case.weights)[0]
    close(s.gradients["h"][:3], wanted[:3])


def test_an_index_of_the_stacked_output_reaches_every_step_with_exact_zeros():
    """The graph leads from the loss through the stack to each state: a path, along which 0 arrives."""
    case = Case("rnn tanh", steps=6)
    y, _ = nn.unroll(case.cell, case.x)
    s = bptt.backward(y[:3].sum()).sequence()
    assert [r.kind for r in s.readings()] == ["value"] * 3 + ["zero"] * 3
    np.testing.assert_array_equal(s.gradients["h"][3:], 0)
    np.testing.assert_array_equal(s.states["h"], y.data)


def test_gates_of_the_steps_that_are_reached_stay_when_others_are_not():
    case = Case("lstm", steps=6)
    y, _ = nn.unroll(case.cell, case.x)
    s = bptt.backward(y.parents[2].sum()).sequence()
    whole = case.record(accumulate=True).sequence()
    assert set(s.gates) == set(s.gate_norms) == {"i", "f", "g", "o"}
    for symbol in s.gates:
        np.testing.assert_array_equal(s.gates[symbol][:3], whole.gates[symbol][:3])
        assert np.isnan(s.gates[symbol][3:]).all()
        np.testing.assert_array_equal(s.gate_norms[symbol][3:], 0)


def test_output_gate_is_recorded_when_the_loss_is_on_c_alone():
    case = Case("lstm")
    _, state = nn.unroll(case.cell, case.x)
    s = bptt.backward(state.c.sum()).sequence()
    assert set(s.gates) == {"i", "f", "g", "o"}
    assert s.readings("h")[-1].kind == "no path"
    assert [r.kind for r in s.readings("c")] == ["value"] * 5
    np.testing.assert_array_equal(s.gate_norms["o"][-1], 0)


def test_states_of_other_widths_stand_beside_each_other():
    def step(own, x, s):
        return Pair(s.c @ own.W + x, s.h @ own.V)

    cell = Own(step, Pair(zeros(1, 3), zeros(1, 2)), W=np.ones((2, 3)), V=np.ones((3, 2)))
    y, _ = nn.unroll(cell, np.ones((4, 1, 3)))
    s = bptt.backward(y.sum()).sequence()
    assert s.gradients["h"].shape == (4, 1, 3)
    assert s.gradients["c"].shape == (4, 1, 2)
    assert s.readings("c")[-1].kind == "no path"
    np.testing.assert_array_equal(s.gradients["c"][2], [[3.0, 3.0]])


def test_a_loss_that_needs_no_state_still_has_a_record():
    heard = []

    def step(own, x, s):
        heard.append((s.h + x) @ own.w)
        return State(s.h + x)

    cell = Own(step, State(zeros(1, 2)), w=[[1.0], [2.0]])
    nn.unroll(cell, np.ones((1, 1, 2)))
    record = bptt.backward(heard[0].sum(), keep="ops")
    np.testing.assert_array_equal(record.parameters["w"].gradient, [[1.0], [1.0]])
    assert all(r.kind == "no path" for s in record.sequences.values() for r in s.readings())


def test_float32_gradient_runs_from_value_through_underflow_to_zero():
    kinds = [r.kind for r in reversed(chain(0.01, 27, np.float32).sequence().readings())]
    assert kinds == ["value"] * 19 + ["underflow"] * 4 + ["zero"] * 4  # 1e-38 is below the normal numbers, 1e-46 is 0


def test_float64_norms_do_not_underflow_when_squared():
    s = chain(1e-20, 16).sequence()
    assert [r.kind for r in s.readings()] == ["value"] * 16
    np.testing.assert_allclose(s.norms()[:, 0], 10.0 ** (-20.0 * np.arange(15, -1, -1)), rtol=1e-12)


def test_overflowed_gradient_is_not_finite():
    kinds = [r.kind for r in reversed(chain(1e20, 5, np.float32).sequence().readings())]
    assert kinds == ["value", "value", "not finite", "not finite", "not finite"]


def test_infinite_and_huge_gradients_side_by_side_raise_no_warning():
    cell = Own(lambda own, x, s: State(s.h * own.w + x), State(zeros(1, 2)), w=[[1e200, 1e100]])
    y, _ = nn.unroll(cell, np.zeros((3, 1, 2)))
    with np.errstate(all="ignore"):
        loss = y[-1].sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s = bptt.backward(loss, keep="ops").sequence()
    assert [r.kind for r in s.readings()] == ["not finite", "value", "value"]


@pytest.mark.parametrize("keep", ["steps", "ops"])
def test_infinite_values_raise_no_warning(keep):
    cell = nn.RNNCell(1, 6, rng=np.random.default_rng(0))
    cell.weight_ih.data = np.where(cell.weight_ih.data > 0, 3e38, -3e38).astype(np.float32)
    with np.errstate(all="ignore"):
        y, _ = nn.unroll(cell, np.full((3, 1, 1), 10, np.float32))
        loss = y.sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s = bptt.backward(loss, keep=keep).sequence()
    assert {*s.gates["a"].ravel()} == {-np.inf, np.inf}
    assert {r.kind for r in s.readings()} == {"value"}


def test_saturated_cell_gives_exact_zeros():
    cell = nn.RNNCell(1, 2, rng=np.random.default_rng(0), dtype=np.float64)
    y, _ = nn.unroll(cell, np.full((3, 1, 1), 1e9))
    assert [r.kind for r in bptt.backward(y[-1].sum()).sequence().readings()] == ["zero", "zero", "value"]


def test_record_before_backward_holds_values_and_no_gradients():
    case = Case("lstm", first="learnt")
    y, state = nn.unroll(case.cell, case.x, case.given)
    loss = case.loss(y, state)
    record = bptt.record(loss)
    s = record.sequence()
    assert not record.complete
    assert record.losses is None
    assert record.loss == loss.item()
    np.testing.assert_array_equal(s.states["h"], y.data)
    for field in ("h", "c"):
        assert {r.kind for r in s.readings(field)} == {"no backward yet"}
        assert np.isnan(s.gradients[field]).all()
    assert all(np.isnan(x).all() for x in s.gate_norms.values())
    assert all(np.isnan(p.gradient).all() and p.terms == () for p in record.parameters.values())
    assert {x.reading.kind for x in (*record.graph.nodes, *record.graph.boxes, *record.graph.flows)} == {
        "no backward yet"
    }
    assert all(p.grad is None for p in case.cell.parameters())


def test_record_before_backward_has_the_values_of_the_one_after():
    case = Case("gru reset after", first="given")
    y, state = nn.unroll(case.cell, case.x, case.given)
    loss = case.loss(y, state)
    before, after = bptt.record(loss), bptt.backward(loss, keep="ops")
    for symbol, values in after.sequence().gates.items():
        np.testing.assert_array_equal(before.sequence().gates[symbol], values)
    assert [n._replace(reading=None, parts=None) for n in before.graph.nodes] == [
        n._replace(reading=None, parts=None) for n in after.graph.nodes
    ]


def test_record_of_a_graph_without_sequences():
    w = Tensor([2.0, 3.0], requires_grad=True, name="w")
    record = bptt.backward((w * w).sum())
    assert record.sequences == {}
    assert record.losses is None
    np.testing.assert_array_equal(record.parameters["w"].gradient, [4.0, 6.0])


def test_state_computed_under_no_grad_is_no_step_of_the_record():
    case = Case("rnn tanh")
    with no_grad():
        frozen, _ = nn.unroll(case.cell, case.x, name="frozen")
    y, _ = nn.unroll(nn.RNNCell(3, 2, rng=np.random.default_rng(1), dtype=np.float64), frozen, name="trained")
    assert list(bptt.backward(y.sum()).sequences) == ["trained"]


# Losses


def logits_and_target(steps=5, batch=3, classes=4, seed=0):
    case = Case("rnn tanh", steps, batch, hidden=classes, seed=seed)
    y, _ = nn.unroll(case.cell, case.x)
    return y, np.random.default_rng(seed).integers(0, classes, (steps, batch))


def surprise(y, target):
    """-log softmax of the right class, in NumPy: (…)."""
    logs = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, target[..., None], -1)[..., 0]


@pytest.mark.parametrize("batch", [1, 3, 5])  # 5 = T
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_per_step(reduction, batch):
    y, target = logits_and_target(batch=batch)
    losses = bptt.backward(nn.cross_entropy(y, target, reduction=reduction)).losses
    per_step = surprise(y.data, target).sum(axis=1)
    np.testing.assert_allclose(losses, per_step / target.size if reduction == "mean" else per_step, rtol=1e-12)


def test_cross_entropy_per_step_leaves_ignored_targets_out():
    y, target = logits_and_target()
    ignored = np.zeros(target.shape, bool)
    ignored[1, 2] = ignored[4, 0] = True
    loss = nn.cross_entropy(y, np.where(ignored, -100, target))
    wanted = np.where(ignored, 0, surprise(y.data, target)).sum(axis=1) / 13
    found = bptt.backward(loss)
    np.testing.assert_allclose(found.losses, wanted, rtol=1e-12)
    np.testing.assert_allclose(found.losses.sum(), loss.item(), rtol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_squared_error_per_step(reduction):
    case = Case("lstm")
    y, _ = nn.unroll(case.cell, case.x)
    losses = bptt.backward(nn.mse_loss(y, case.target, reduction=reduction)).losses
    squares = (y.data - case.target) ** 2
    wanted = squares.sum(axis=(1, 2)) / (squares.size if reduction == "mean" else 1)
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)


def test_binary_cross_entropy_per_step():
    y, _ = logits_and_target()
    target = np.random.default_rng(1).integers(0, 2, y.shape).astype(float)
    losses = bptt.backward(nn.binary_cross_entropy_with_logits(y, target)).losses
    s = oracles.sigmoid(y.data)
    wanted = -(target * np.log(s) + (1 - target) * np.log(1 - s)).sum(axis=(1, 2)) / y.size
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_last_step_has_the_whole_loss(batch):
    y, target = logits_and_target(batch=batch)
    loss = nn.cross_entropy(y[-1], target[-1])
    losses = bptt.backward(loss).losses
    assert np.isnan(losses[:-1]).all()
    np.testing.assert_allclose(losses[-1], loss.item(), rtol=1e-14)


def test_one_step_has_the_whole_loss():
    y, target = logits_and_target(steps=1)
    loss = nn.cross_entropy(y, target)
    np.testing.assert_allclose(bptt.backward(loss).losses, [loss.item()], rtol=1e-14)


def test_weighted_loss_counts_with_its_weight():
    y, target = logits_and_target()
    losses = bptt.backward(nn.cross_entropy(y, target, reduction="sum") * 0.25).losses
    np.testing.assert_allclose(losses, 0.25 * surprise(y.data, target).sum(axis=1), rtol=1e-12)


def test_losses_of_logits_flattened_over_time_belong_to_their_steps():
    y, target = logits_and_target()
    loss = nn.cross_entropy(y.reshape(15, 4), target.reshape(15), reduction="sum")
    np.testing.assert_allclose(bptt.backward(loss).losses, surprise(y.data, target).sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("index", [slice(3), slice(None, None, 2), slice(1, 2)])
def test_losses_of_some_steps_belong_to_these_steps(index):
    y, target = logits_and_target()
    losses = bptt.backward(nn.cross_entropy(y[index], target[index], reduction="sum")).losses
    wanted = np.full(5, np.nan)
    wanted[index] = surprise(y.data, target).sum(axis=1)[index]
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)


@pytest.mark.parametrize("batch", [3, 5])
def test_losses_added_up_step_by_step_belong_to_their_steps(batch):
    y, target = logits_and_target(batch=batch)
    loss = sum(nn.cross_entropy(h, target[t], reduction="sum") for t, h in enumerate(y.parents))
    np.testing.assert_allclose(bptt.backward(loss).losses, surprise(y.data, target).sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("batch", [3, 5])
def test_loss_of_outputs_averaged_over_time_belongs_to_the_last_of_them(batch):
    y, target = logits_and_target(batch=batch)
    loss = nn.cross_entropy(y.mean(axis=0), target[0])
    losses = bptt.backward(loss).losses
    assert np.isnan(losses[:-1]).all()
    np.testing.assert_allclose(losses[-1], loss.item(), rtol=1e-13)


def test_losses_through_a_linear_layer():
    y, _ = logits_and_target()
    head = nn.Linear(4, 6, rng=np.random.default_rng(2), dtype=np.float64)
    target = np.random.default_rng(3).integers(0, 6, (5, 3))
    losses = bptt.backward(nn.cross_entropy(head(y), target, reduction="sum")).losses
    logits = y.data @ head.weight.data.T + head.bias.data
    np.testing.assert_allclose(losses, surprise(logits, target).sum(axis=1), rtol=1e-12)


def test_loss_that_is_none_of_ours_has_no_parts():
    assert Case("lstm").record().losses is None


# keep="ops"


@pytest.fixture
def lstm_graph():
    """The graph of an LSTM layer's loss, with the line it was recorded on."""
    rng = np.random.default_rng(11)
    layer = nn.LSTM(3, 4, rng=rng, dtype=np.float64)
    first = tuple(rng.standard_normal((1, 2, 4)) for _ in "hc")
    x = Tensor(rng.standard_normal((4, 2, 3)), requires_grad=True)
    line = inspect.currentframe().f_lineno + 1
    y, _ = layer(x, first)
    loss = (y * y).sum()
    return loss, bptt.backward(loss, keep="ops"), line, layer, first


def test_keep_steps_keeps_no_graph():
    assert Case("lstm").record().graph is None


def test_ids_are_places_and_parents_come_first(lstm_graph):
    nodes = lstm_graph[1].graph.nodes
    assert [n.id for n in nodes] == list(range(len(nodes)))
    assert all(parent < n.id for n in nodes for parent in n.parents)
    assert all(len(n.parents) == len(n.parts) for n in nodes if n.op)


def test_parameters_are_leaves_without_a_box(lstm_graph):
    leaves = [n for n in lstm_graph[1].graph.nodes if n.name]
    assert [n.name for n in leaves] == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert [n.shape for n in leaves] == [(16, 3), (16, 4), (16,), (16,)]
    assert {(n.op, n.box, n.parents, n.source) for n in leaves} == {(None, -1, (), None)}
    for n in leaves:
        wanted = np.linalg.norm(lstm_graph[1].parameters[n.name].gradient)
        assert n.reading.norm == pytest.approx(wanted, rel=1e-12)


def test_sources_name_the_callers_line(lstm_graph):
    _, record, line, _, _ = lstm_graph
    sources = {n.source for n in record.graph.nodes if "t=2" in n.scope}
    assert sources == {f"{__file__}:{line}"}


def test_scopes_shapes_and_ops_are_those_of_the_program(lstm_graph):
    graph = lstm_graph[1].graph
    (forget,) = (n for n in graph.nodes if " / ".join(n.scope) == "lstm / t=3 / forget gate")
    assert (forget.op, forget.shape) == ("sigmoid", (2, 4))
    assert graph.boxes[forget.box].label == "forget gate"
    assert forget.mean == pytest.approx(lstm_graph[1].sequence().gates["f"][2].mean(), rel=1e-12)
    stacks = [n for n in graph.nodes if n.op == "stack"]
    assert [n.shape for n in stacks] == [(4, 2, 4)]


def test_outputs_of_a_split_are_one_node_with_it(lstm_graph):
    graph = lstm_graph[1].graph
    assert {n.op for n in graph.nodes if n.role} == {"add", "multiply", "pick", None}
    assert not [n for n in graph.nodes if n.op == "pick" and not n.role]
    for split in (n for n in graph.nodes if n.op == "split"):
        users = [n for n in graph.nodes if split.id in n.parents]
        assert [n.op for n in users] == ["sigmoid", "sigmoid", "tanh", "sigmoid"]
        quarters = [part.norm for n in users for part in n.parts]
        assert split.reading.norm == pytest.approx(math.hypot(*quarters), rel=1e-12)
        assert split.outlet  # the gates' boxes use it


def test_node_readings_are_the_engines_gradients(lstm_graph):
    loss, record, _, _, _ = lstm_graph
    nodes = sorted((n for n in engine.topological(loss) if n.op is not engine.pick), key=lambda n: n.created)
    nodes = [n for n in nodes if isinstance(n.value, np.ndarray)]
    shown = [n for n in record.graph.nodes if n.op not in ("pick", "split", "unstack") and n.reading.kind != "no path"]
    assert [(n.op and n.op.name, n.shape) for n in nodes] == [(n.op, n.shape) for n in shown]
    for n, g in zip(shown, engine.grad(loss, nodes), strict=True):
        assert n.reading.norm == pytest.approx(np.linalg.norm(g), rel=1e-12)


def test_a_node_with_one_user_has_the_gradient_that_the_user_hands_on(lstm_graph):
    nodes = lstm_graph[1].graph.nodes
    uses = {n.id: [] for n in nodes}
    for n in nodes:
        for parent, part in zip(n.parents, n.parts, strict=True):
            uses[parent].append(part.norm)
    for n in nodes[:-1]:
        if len(uses[n.id]) == 1:
            assert n.reading.norm == pytest.approx(uses[n.id][0], rel=1e-12)
        elif n.op not in ("split", "unstack"):
            assert n.reading.norm <= sum(uses[n.id]) * (1 + 1e-12)


def test_number_used_twice_by_one_op_gets_both_parts(lstm_graph):
    square = next(n for n in lstm_graph[1].graph.nodes if n.op == "multiply" and n.scope == ())
    assert square.parents[0] == square.parents[1]
    assert square.parts[0] == square.parts[1]


def flows_of(record):
    """{(symbol, time) of the origin, of the target: norm}."""
    boxes = record.graph.boxes
    return {
        tuple((boxes[b].symbol, boxes[b].time) for b in (flow.origin, flow.to)): flow.reading
        for flow in record.graph.flows
    }


def test_lstm_flows_are_those_of_the_equations():
    case = Case("lstm", first="learnt")
    record, d = case.record("both", keep="ops"), case.oracle("both")
    gates, dgates = gates_of("lstm", case, record)
    i, f, g, o = (gates[k] for k in "ifgo")
    c, before = record.sequence().states["c"], case.before(record, "c")
    into = {
        "i": dgates["i"] * i * (1 - i), "f": dgates["f"] * f * (1 - f), "g": dgates["g"] * (1 - g * g),
        "o": dgates["o"] * o * (1 - o),
    }  # fmt: skip
    da = np.concatenate([into[k] for k in "ifgo"], axis=-1)
    found = flows_of(record)
    for t in range(5):
        wanted = {
            (("f", t), ("c", t)): d["c"] * before,
            (("i", t), ("c", t)): d["c"] * g,
            (("g", t), ("c", t)): d["c"] * i,
            (("o", t), ("h", t)): d["h"] * np.tanh(c),
            (("c", t), ("h", t)): d["h"] * o * (1 - np.tanh(c) ** 2),
            (("c", t - 1 if t else None), ("c", t)): d["c"] * f,
            (("h", t - 1 if t else None), ("a", t)): da @ case.weights[1],
            **{(("a", t), (k, t)): into[k] for k in "ifgo"},
        }
        for ends, wanted_part in wanted.items():
            assert found[ends].norm == pytest.approx(np.linalg.norm(wanted_part[t]), rel=1e-10), ends
        assert found[("x", t), ("a", t)].kind == "no path"
    assert found[("h", 4), ("outside", None)].norm > 0
    assert found[("c", 4), ("outside", None)].norm == pytest.approx(np.linalg.norm(case.target[0]), rel=1e-12)


@pytest.mark.parametrize("kind", ["gru reset after", "gru reset before"])
def test_gru_flows_are_those_of_the_equations(kind):
    case = Case(kind, first="learnt")
    record, d = case.record("both", keep="ops"), case.oracle("both")["h"]
    gates, dgates = gates_of(kind, case, record)
    found = flows_of(record)
    for t in range(5):
        assert found[("z", t), ("h", t)].norm == pytest.approx(np.linalg.norm(dgates["z"][t]), rel=1e-10)
        assert found[("n", t), ("h", t)].norm == pytest.approx(np.linalg.norm(dgates["n"][t]), rel=1e-10)
        assert found[("r", t), ("n", t)].norm == pytest.approx(np.linalg.norm(dgates["r"][t]), rel=1e-10)
        straight = (d * gates["z"])[t]
        assert found[("h", t - 1 if t else None), ("h", t)].norm == pytest.approx(np.linalg.norm(straight), rel=1e-10)


def test_gate_boxes_have_the_norm_of_the_gates_gradient():
    case = Case("lstm", first="learnt")
    record = case.record("both", keep="ops")
    _, slopes = gates_of("lstm", case, record)
    boxes = {(b.symbol, b.time): b for b in record.graph.boxes if b.kind == "gate"}
    for t in range(5):
        for symbol, name in zip("ifgo", ("input gate", "forget gate", "cell gate", "output gate"), strict=True):
            box = boxes[symbol, t]
            assert (box.label, box.sequence) == (name, "l0")
            assert box.reading.norm == pytest.approx(np.linalg.norm(slopes[symbol][t]), rel=1e-10)
            assert box.mean == pytest.approx(record.sequence().gates[symbol][t].mean(), rel=1e-12)
        assert boxes["a", t].label == "pre-activation"


def test_state_boxes_have_the_norm_of_the_states_gradient():
    case = Case("lstm", first="learnt")
    record, d = case.record("both", keep="ops"), case.oracle("both")
    states = [b for b in record.graph.boxes if b.kind == "state"]
    assert len(states) == 10
    for b in states:
        assert b.reading.norm == pytest.approx(np.linalg.norm(d[b.symbol][b.time]), rel=1e-10)
    firsts = {b.symbol: b.reading.norm for b in record.graph.boxes if b.kind == "initial"}
    for field, g in record.sequence().initial_gradients.items():
        assert firsts[field] == pytest.approx(np.linalg.norm(g), rel=1e-12)


def own_boxes(step, state=None, **parameters):
    cell = Own(step, state or State(zeros(1, 2)), **parameters)
    y, _ = nn.unroll(cell, np.ones((2, 1, 2)))
    graph = bptt.backward(y.sum(), keep="ops").graph
    return {(b.kind, b.symbol, b.label) for b in graph.boxes if b.time == 0}


def test_named_scope_of_an_own_cell_is_a_box():
    def step(own, x, s):
        with named_scope("memory", "m"):
            m = ops.tanh(s.h @ own.w)
        with named_scope("way in"):
            u = x * own.w[0]
        return State(m + u)

    assert own_boxes(step, w=np.eye(2)) == {
        ("gate", "m", "memory"), ("gate", "way in", "way in"), ("state", "h", "state"), ("input", "x", "input")
    }  # fmt: skip


def test_own_cell_without_scopes_is_all_state():
    boxes = own_boxes(lambda own, x, s: State(ops.tanh(s.h @ own.w + x)), w=np.eye(2))
    assert boxes == {("state", "h", "state"), ("input", "x", "input")}


def test_op_without_a_scope_that_two_boxes_use_is_a_box_of_its_own():
    def step(own, x, s):
        a, b = (s.h + s.c) @ own.w, x @ own.w
        return Pair(a * b, a + b)

    boxes = own_boxes(step, Pair(zeros(1, 2), zeros(1, 2)), w=np.eye(2))
    assert {b for b in boxes if b[0] == "gate"} == {("gate", "matmul", "matmul"), ("gate", "matmul 2", "matmul")}


def test_scopes_inside_a_scope_belong_to_the_outer_box():
    def step(own, x, s):
        with named_scope("outer", "u"), named_scope("inner", "v"):
            u = s.h @ own.w
        return State(u + x)

    assert ("gate", "u", "outer") in own_boxes(step, w=np.eye(2))


def test_gate_used_as_two_tensors_is_no_single_gate():
    def step(own, x, s):
        with named_scope("pair", "p"):
            a, b = s.h * own.w, x * own.w
        return State(a * b + a)

    y, _ = nn.unroll(Own(step, State(Tensor(np.ones((1, 2)))), w=[[1.0, 2.0]]), np.ones((3, 1, 2)))
    assert bptt.backward(y.sum()).sequence().gates == {}


def test_cell_that_returns_its_state_unchanged():
    first = State(Tensor(np.full((2, 3), 7.0), requires_grad=True))
    y, _ = nn.unroll(Own(lambda own, x, s: s, first), np.ones((4, 2, 1)), first)
    record = bptt.backward(y.sum(), keep="ops")
    s = record.sequence()
    assert s.inputs.shape == (4, 2, 0)
    np.testing.assert_array_equal(s.states["h"], np.full((4, 2, 3), 7.0))
    np.testing.assert_array_equal(s.gradients["h"], np.broadcast_to([[[4.0]], [[3.0]], [[2.0]], [[1.0]]], (4, 2, 3)))
    np.testing.assert_array_equal(s.initial_gradients["h"], np.full((2, 3), 4.0))


def test_cell_that_returns_its_input_as_state():
    x = Tensor(np.ones((3, 1, 2)), requires_grad=True)
    y, _ = nn.unroll(Own(lambda own, x, s: State(x), State(zeros(1, 2))), x)
    s = bptt.backward(y.sum()).sequence()
    np.testing.assert_array_equal(s.gradients["h"], np.ones((3, 1, 2)))
    np.testing.assert_allclose(s.input_norms, np.full((3, 1), math.sqrt(2)), rtol=1e-15)


def test_cell_that_returns_one_tensor_as_both_states():
    def step(own, x, s):
        h = s.h * own.w + s.c
        return Pair(h, h)

    y, _ = nn.unroll(Own(step, Pair(zeros(1, 1), zeros(1, 1)), w=[[2.0]]), np.ones((3, 1, 1)))
    s = bptt.backward(y[-1].sum()).sequence()
    np.testing.assert_array_equal(s.states["c"][:-1], s.states["h"][:-1])
    np.testing.assert_array_equal(s.gradients["h"][:, 0, 0], [9, 3, 1])  # a step multiplies by w + 1
    np.testing.assert_array_equal(s.gradients["c"][:, 0, 0], [3, 1, 0])
    np.testing.assert_array_equal(s.arrivals["h"]["same"][:, 0], [3, 1, 0])


# The pass itself


def test_keep_must_be_steps_or_ops():
    case = Case("rnn tanh")
    with pytest.raises(MinigradError, match=r"keep='x'(.|\n)*Choose 'steps' or 'ops'"):
        case.record(keep="x")
    assert case.cell.weight_hh.grad is None


@pytest.mark.parametrize("keep", ["steps", "ops"])
@EACH_CELL
def test_gradients_left_are_those_of_tensor_backward(kind, keep):
    case = Case(kind, first="learnt")
    y, state = nn.unroll(case.cell, case.x, case.given)
    loss = case.loss(y, state, "both")
    loss.backward()
    leaves = [*case.cell.parameters(), *case.given]
    wanted = [p.grad for p in leaves]
    for p in leaves:
        p.zero_grad()
    bptt.backward(loss, keep=keep)
    for p, g in zip(leaves, wanted, strict=True):
        np.testing.assert_array_equal(p.grad, g)


def test_accumulate_adds_and_the_record_holds_what_this_pass_added():
    case = Case("lstm")
    y, state = nn.unroll(case.cell, case.x)
    loss = case.loss(y, state)
    once = bptt.backward(loss)
    twice = bptt.backward(loss, accumulate=True)
    assert once == twice
    for p in case.cell.parameters():
        np.testing.assert_allclose(p.grad, 2 * twice.parameters[p.name].gradient, rtol=1e-15)


def test_second_backward_is_the_engines_error():
    case = Case("rnn tanh")
    case.record()
    with pytest.raises(GradError, match=r"zero_grad\(\)"):
        case.record()


def test_loss_must_be_a_scalar():
    y, _ = nn.unroll(Case("rnn tanh").cell, Case("rnn tanh").x)
    with pytest.raises(GradError, match="scalar"):
        bptt.backward(y)


def test_loss_must_depend_on_something():
    with pytest.raises(GradError, match="requires a gradient"):
        bptt.backward(Tensor(1.0))


def test_unlocked_value_is_the_engines_error():
    case = Case("rnn tanh")
    y, state = nn.unroll(case.cell, case.x)
    loss = case.loss(y, state)
    y.data.flags.writeable = True
    with pytest.raises(StaleGraphError):
        bptt.backward(loss)


def test_record_does_not_change_with_the_gradients_it_was_made_from():
    case = Case("lstm", first="learnt")
    record = case.record("both")
    wanted = {name: p.gradient.copy() for name, p in record.parameters.items()}
    terms = {name: np.sum([t.array() for t in p.terms], axis=0) for name, p in record.parameters.items()}
    initial = {field: g.copy() for field, g in record.sequence().initial_gradients.items()}
    for p in (*case.cell.parameters(), *case.given):
        p.grad *= 0
    for name, p in record.parameters.items():
        np.testing.assert_array_equal(p.gradient, wanted[name])
        np.testing.assert_array_equal(np.sum([t.array() for t in p.terms], axis=0), terms[name])
    for field, g in initial.items():
        np.testing.assert_array_equal(record.sequence().initial_gradients[field], g)


@pytest.mark.parametrize("keep", ["steps", "ops"])
def test_record_holds_no_graph(keep):
    case = Case("lstm", first="learnt")
    y, state = nn.unroll(case.cell, case.x, case.given)
    loss = case.loss(y, state)
    nodes = [weakref.ref(n) for n in engine.topological(loss) if n.op is not None]
    gc.disable()
    try:
        record = bptt.backward(loss, keep=keep)
        del y, state, loss
        assert [ref() for ref in nodes] == [None] * len(nodes)
    finally:
        gc.enable()
    assert record.sequence().steps == 5


# Batches of unequal length, directions, layers

ENDS = (3, 1, 5, 2)  # of T=6: nobody reaches the last step
BOTH_WAYS = pytest.mark.parametrize("reverse", [False, True])


class Padded:
    """One cell over samples of unequal length, in one batch and each alone."""

    def __init__(self, kind, reverse, steps=6, ends=ENDS, seed=13):
        self.rng = np.random.default_rng(seed)
        cell, options = CELLS[kind]
        self.cell = cell(4, 3, rng=self.rng, dtype=np.float64, **options)
        self.kind, self.reverse, self.ends = kind, reverse, ends
        fields = self.cell.state_type._fields
        self.x = self.rng.standard_normal((steps, len(ends), 4))
        self.v = self.rng.standard_normal((steps, len(ends), 3))
        self.first, self.w = self.rng.standard_normal((2, len(fields), len(ends), 3))

    def unrolled(self, sample=None):
        """Outputs and last state of the batch, or of one sample over its own steps."""
        own = slice(None) if sample is None else slice(sample, sample + 1)
        x, lengths = self.x, self.ends
        if sample is not None:
            x, lengths = x[: self.ends[sample], own], None
        first = self.cell.state_type(*(Tensor(s[own], requires_grad=True) for s in self.first))
        x = Tensor(x, requires_grad=True)
        return nn.unroll(self.cell, x, first, lengths=lengths, reverse=self.reverse)

    def record(self, sample=None, **options):
        self.cell.zero_grad()
        y, last = self.unrolled(sample)
        own = slice(None) if sample is None else slice(sample, sample + 1)
        loss = (y * self.v[: len(y), own]).sum() + sum((s * w[own]).sum() for s, w in zip(last, self.w, strict=True))
        return bptt.backward(loss, **options)

    def alone(self):
        return [self.record(sample) for sample in range(len(self.ends))]


def arrays_of(s):
    """Everything that a sequence holds for each step and sample, (T, N, …), by name."""
    several = {"states": s.states, "gates": s.gates, "gradients": s.gradients, "gate_norms": s.gate_norms}
    several |= {f"arrivals {field}": s.arrivals[field] for field in s.arrivals}
    found = {f"{name} {key}": array for name, some in several.items() for key, array in some.items()}
    return found | {"inputs": s.inputs} | ({} if s.input_norms is None else {"input_norms": s.input_norms})


def assert_of_samples(s, alone, ends):
    """A padded batch's sequence holds what its samples' own sequences hold, and 0 beyond."""
    np.testing.assert_array_equal(s.lengths, ends)
    assert s.complete
    for sample, (end, own) in enumerate(zip(ends, alone, strict=True)):
        theirs = arrays_of(own)
        assert set(arrays_of(s)) == set(theirs)
        for name, array in arrays_of(s).items():
            np.testing.assert_allclose(array[:end, sample], theirs[name][:, 0], rtol=1e-9, atol=1e-14, err_msg=name)
            np.testing.assert_array_equal(array[end:, sample], 0, err_msg=name)
        for found, wanted in ((s.initial, own.initial), (s.initial_gradients, own.initial_gradients)):
            assert set(found) == set(wanted)
            for field in found:
                np.testing.assert_allclose(found[field][sample], wanted[field][0], rtol=1e-10, atol=1e-14)


@BOTH_WAYS
@EACH_CELL
def test_state_gradients_of_a_padded_batch_are_its_samples_total_derivatives(kind, reverse):
    case = Padded(kind, reverse, steps=4, ends=(2, 4, 1))
    weights = [p.data for p in case.cell.parameters()]

    def loss(*nudges):
        y, last = oracles.run_each(oracles.STEPS[kind], case.x, case.first, weights, case.ends, reverse, nudges)
        return (y * case.v).sum() + sum((s * w).sum() for s, w in zip(last, case.w, strict=True))

    s = case.record().sequence()
    wanted = oracles.gradients(loss, [np.zeros((4, 3, 3)) for _ in case.first])
    for field, gradient in zip(case.cell.state_type._fields, wanted, strict=True):
        close(s.gradients[field], gradient)


@BOTH_WAYS
@EACH_CELL
def test_a_padded_batch_is_recorded_as_its_samples_alone(kind, reverse):
    case = Padded(kind, reverse)
    s = case.record().sequence()
    assert s.reverse == reverse
    assert_of_samples(s, [record.sequence() for record in case.alone()], ENDS)


@BOTH_WAYS
@EACH_CELL
def test_every_steps_term_of_a_padded_batch_is_the_sum_of_its_samples_terms(kind, reverse):
    case = Padded(kind, reverse)
    record, alone = case.record(), case.alone()
    for name, p in record.parameters.items():
        if name.startswith("parameter"):
            continue  # a first state
        np.testing.assert_allclose(sum(term.array() for term in p.terms), p.gradient, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(
            p.gradient, sum(own.parameters[name].gradient for own in alone), rtol=1e-11, atol=1e-14
        )
        for t in range(6):
            mine, theirs = (
                sum((u.array() for one in some for u in one.parameters[name].terms if u.time == t), 0 * p.gradient)
                for some in ([record], alone)
            )
            np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-14)
            np.testing.assert_allclose(p.by_step("l0").get(t, 0.0), np.linalg.norm(theirs), rtol=1e-9, atol=1e-14)


def test_the_loss_on_a_samples_last_state_arrives_at_its_own_last_step_from_outside():
    case = Padded("lstm", reverse=False)
    _, last = case.unrolled()
    s = bptt.backward((last.h * case.w[0]).sum()).sequence()
    for sample, end in enumerate(ENDS):
        outside = s.arrivals["h"]["outside"][:, sample]
        assert outside[end - 1] == pytest.approx(norm(case.w[0][sample]), rel=1e-14)
        assert np.count_nonzero(outside) == 1
        assert not s.arrivals["h"]["next"][end - 1 :, sample].any()


@BOTH_WAYS
def test_steps_past_every_end_are_padding(reverse):
    s = Padded("lstm", reverse).record().sequence()
    for field in ("h", "c"):
        assert [r.kind for r in s.readings(field)] == ["value"] * 5 + ["padding"]


@BOTH_WAYS
def test_mean_inputs_of_a_padded_batch_are_of_the_real_ones(reverse):
    case = Padded("rnn tanh", reverse)
    wanted = [case.x[t][np.array(ENDS) > t].mean() for t in range(5)]
    case.x[np.arange(6)[:, None] >= ENDS] = np.nan
    np.testing.assert_allclose(case.record().sequence().input_means, [*wanted, np.nan], rtol=1e-13)


@BOTH_WAYS
@EACH_CELL
def test_what_stands_past_an_end_leaves_no_trace_in_the_record(kind, reverse):
    case = Padded(kind, reverse)
    clean = case.record(keep="ops")
    case.x[np.arange(6)[:, None] >= ENDS] = np.nan
    spoilt = case.record(keep="ops")
    for part in ("boxes", "flows"):  # of the nodes, the inputs as they were given hold the padding
        assert getattr(spoilt.graph, part) == getattr(clean.graph, part)
    assert dataclasses.replace(spoilt, graph=None) == dataclasses.replace(clean, graph=None)


@BOTH_WAYS
@EACH_CELL
def test_record_with_lengths_that_are_all_t_is_that_without_lengths(kind, reverse):
    case = Padded(kind, reverse, ends=(6, 6))
    with_lengths = case.record(keep="ops")
    case.ends = None
    without = case.record(keep="ops")
    sources = [dataclasses.replace(r, graph=None) for r in (with_lengths, without)]
    assert sources[0] == sources[1]
    assert with_lengths.graph.boxes == without.graph.boxes


@BOTH_WAYS
@EACH_CELL
def test_record_of_a_padded_batch_before_backward_has_its_values(kind, reverse):
    case = Padded(kind, reverse)
    y, _ = case.unrolled()
    before, after = bptt.record(y.sum()), bptt.backward(y.sum(), keep="ops")
    s, t = before.sequence(), after.sequence()
    for name in ("states", "gates"):
        for key, array in getattr(t, name).items():
            np.testing.assert_array_equal(getattr(s, name)[key], array)
    assert {r.kind for r in s.readings()} == {"no backward yet"}


def test_boxes_of_a_padded_lstm_are_those_of_any_other():
    case = Padded("lstm", reverse=False)
    padded = case.record(keep="ops").graph
    case.ends = None
    plain = case.record(keep="ops").graph
    assert {(b.kind, b.symbol, b.time) for b in padded.boxes} == {(b.kind, b.symbol, b.time) for b in plain.boxes}
    uses = {padded.boxes[f.to].time for f in padded.flows if padded.boxes[f.origin].kind == "initial"}
    assert uses == {0}


def test_inputs_of_a_padded_batch_are_no_parameters():
    record = Padded("gru reset after", reverse=True).record()
    assert list(record.parameters) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "parameter 4"]


# The layers' records; "fused" must leave the same as "steps"

LAYERS = {
    "rnn": (nn.RNN, {}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "gru before": (nn.GRU, {"reset_after": False}),
}
EACH_LAYER = pytest.mark.parametrize("kind", LAYERS)
EACH_KERNEL = pytest.mark.parametrize("kernel", ["steps", "fused"])


def stack_of(kind, kernel="steps", layers=2, seed=14, **options):
    layer, own = LAYERS[kind]
    rng = np.random.default_rng(seed)
    return layer(4, 3, layers, bidirectional=True, rng=rng, dtype=np.float64, kernel=kernel, **own, **options)


def record_of(layer, x, v, w, **options):
    layer.zero_grad()
    lengths = options.pop("lengths", None)
    y, last = layer(Tensor(x, requires_grad=True), lengths=lengths)
    last = last if isinstance(last, tuple) else (last,)
    return bptt.backward((y * v).sum() + sum((s * u).sum() for s, u in zip(last, w, strict=False)), **options)


def stack_arrays():
    rng = np.random.default_rng(15)
    return rng.standard_normal((6, 4, 4)), rng.standard_normal((6, 4, 6)), rng.standard_normal((2, 4, 4, 3))


@EACH_KERNEL
@EACH_LAYER
def test_every_layer_and_direction_of_a_padded_batch_is_recorded_as_its_samples_alone(kind, kernel):
    layer, reference, (x, v, w) = stack_of(kind, kernel), stack_of(kind), stack_arrays()
    record = record_of(layer, x, v, w, lengths=ENDS)
    alone = [record_of(reference, x[:e, s : s + 1], v[:e, s : s + 1], w[:, :, s : s + 1]) for s, e in enumerate(ENDS)]
    assert list(record.sequences) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    for name, s in record.sequences.items():
        assert (s.name, s.reverse) == (name, name.endswith("_reverse"))
        assert s.scope == (kind.split()[0], name)
        assert_of_samples(s, [own.sequences[name] for own in alone], ENDS)
    assert list(record.parameters) == list(layer.state_dict())
    for name, p in record.parameters.items():
        wanted = sum(own.parameters[name].gradient for own in alone)
        np.testing.assert_allclose(p.gradient, wanted, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(sum(t.array() for t in p.terms), wanted, rtol=1e-10, atol=1e-13)
        (sequence,) = {t.sequence for t in p.terms}
        assert name.endswith(f"_{sequence}")


@EACH_KERNEL
def test_single_layer_has_its_name_alone_in_its_scope(kernel):
    layer = nn.LSTM(4, 3, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    x, v, w = stack_arrays()
    (s,) = record_of(layer, x, v[..., :3], w[:, :1]).sequences.values()
    assert (s.name, s.scope, s.reverse) == ("l0", ("lstm",), False)


@EACH_KERNEL
def test_two_stacks_in_one_record_have_names_of_their_own(kernel):
    one, other = stack_of("lstm", kernel), nn.GRU(6, 3, 2, kernel=kernel, dtype=np.float64)
    y, _ = other(one(stack_arrays()[0])[0])
    walks = ["lstm/l0", "l0_reverse", "lstm/l1", "l1_reverse", "gru/l0", "gru/l1"]
    assert list(bptt.backward(y.sum()).sequences) == walks


@EACH_KERNEL
@EACH_LAYER
def test_losses_of_a_padded_stack_belong_to_their_steps(kind, kernel):
    layer, (x, _, _) = stack_of(kind, kernel), stack_arrays()
    head = nn.Linear(6, 5, rng=np.random.default_rng(2), dtype=np.float64)
    target = np.random.default_rng(3).integers(0, 5, (6, 4))
    padding = np.arange(6)[:, None] >= ENDS
    logits = head(layer(x, lengths=ENDS)[0])
    losses = bptt.backward(nn.cross_entropy(logits, np.where(padding, -100, target), reduction="sum")).losses
    wanted = np.where(padding, 0, surprise(logits.data, target)).sum(axis=1)
    np.testing.assert_allclose(losses, [*wanted[:5], np.nan], rtol=1e-12)


@EACH_KERNEL
@pytest.mark.parametrize("directions", [1, 2])
@EACH_LAYER
def test_losses_on_last_states_belong_to_each_samples_last_step(kind, directions, kernel):
    layer, options = LAYERS[kind]
    layer = layer(4, 3, 2, bidirectional=directions == 2, kernel=kernel, dtype=np.float64, **options)
    head, (x, _, _) = nn.Linear(3 * directions, 5, dtype=np.float64), stack_arrays()
    _, last = layer(x, lengths=ENDS)
    last = last[0] if isinstance(last, tuple) else last
    logits = head(ops.concatenate(*(last[k] for k in range(-directions, 0)), axis=-1))
    target = np.array([0, 1, 2, 3])
    losses = bptt.backward(nn.cross_entropy(logits, target, reduction="sum")).losses
    wanted = np.full(6, np.nan)
    wanted[np.array(ENDS) - 1] = surprise(logits.data, target)
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)


@EACH_KERNEL
@EACH_LAYER
def test_dropout_between_layers_is_outside_of_both(kind, kernel):
    layer, (x, v, w) = stack_of(kind, kernel, dropout=0.5), stack_arrays()
    layer.rng = np.random.default_rng(4)
    record = record_of(layer, x, v, w)
    mask = (np.random.default_rng(4).random((6, 4, 6)) >= 0.5) / 0.5
    plain = stack_of(kind)
    below, _ = plain(x)  # h of the first layer does not depend on the mask
    np.testing.assert_allclose(record.sequences["l0"].states["h"], below_of(plain, x, "l0"), rtol=1e-12)
    assert below.shape == mask.shape
    # What the second layer hands down to h of the first is 0 where the mask is.
    dropped = mask[:, :, :3].any(axis=2) == 0
    assert dropped.any()
    outside = record.sequences["l0"].arrivals["h"]["outside"].copy()
    outside[-1] = 0  # there the last state has a loss of its own
    assert not outside[dropped].any()
    assert outside[:-1][~dropped[:-1]].all()


def below_of(layer, x, name):
    """The states h of one walk of a layer without dropout."""
    y, _ = layer(x)
    layer.zero_grad()
    return bptt.backward(y.sum()).sequences[name].states["h"]


@EACH_KERNEL
@EACH_LAYER
def test_record_of_a_padded_stack_saves_and_loads(kind, kernel, tmp_path):
    x, v, w = stack_arrays()
    record = record_of(stack_of(kind, kernel), x, v, w, lengths=ENDS, keep="ops")
    record.save(tmp_path / "stack.npz")
    assert bptt.Record.load(tmp_path / "stack.npz") == record


@EACH_KERNEL
@pytest.mark.parametrize("keep", ["steps", "ops"])
@EACH_LAYER
def test_record_of_a_padded_stack_holds_no_graph(kind, keep, kernel):
    layer, (x, v, _) = stack_of(kind, kernel, dropout=0.5), stack_arrays()
    y, last = layer(x, lengths=ENDS)
    loss = (y * v).sum() + (last[0] if isinstance(last, tuple) else last).sum()
    nodes = [weakref.ref(n) for n in engine.topological(loss) if n.op is not None]
    gc.disable()
    try:
        record = bptt.backward(loss, keep=keep)
        del y, last, loss
        assert [ref() for ref in nodes] == [None] * len(nodes)
    finally:
        gc.enable()
    assert len(record.sequences) == 4


def test_an_output_of_a_split_that_nobody_uses_leaves_the_others_reading():
    class Splitting:
        def __init__(self):
            self.weight = nn.Parameter(np.eye(3, 9) * 0.5)

        def initial_state(self, batch):
            return State(Tensor(np.zeros((batch, 3))))

        def step(self, x, state):
            a, b, _ = ops.split(x @ self.weight, sizes=(3, 3, 3), axis=-1)
            with named_scope("one", "p"):
                p = ops.tanh(a + state.h)
            with named_scope("two", "q"):
                q = ops.sigmoid(b)
            return State(p * q)

    outputs, _ = nn.unroll(Splitting(), np.random.default_rng(0).standard_normal((3, 2, 3)))
    graph = bptt.backward((outputs * outputs).sum(), keep="ops").graph
    readings = [box.reading for box in graph.boxes if box.symbol == "split"]
    assert [reading.kind for reading in readings] == ["value"] * 3
