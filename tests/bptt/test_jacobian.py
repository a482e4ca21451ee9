"""Jacobians of recorded walks, against complex steps of the oracles, the engine, closed forms and PyTorch."""

import dataclasses
import math

import numpy as np
import pytest

from minigrad import Tensor, bptt, clip_grad_norm, nn
from minigrad.bptt.jacobian import jacobian_curves, linear_walk, step_jacobians
from minigrad.errors import RecordError
from tests import oracles
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS, Linear


class Case:
    """A layer, its inputs and first states, and its record; a loss at every step or on the last one."""

    def __init__(
        self, kind, kernel="steps", steps=5, batch=3, hidden=4, features=3, last=False, lengths=None,
        dtype=np.float64, **options,
    ):  # fmt: skip
        layer_type, own = KINDS[kind]
        rng = np.random.default_rng(7)
        self.kind, self.lengths = kind, lengths
        self.layer = layer_type(features, hidden, kernel=kernel, rng=rng, dtype=dtype, **own, **options)
        self.x = rng.standard_normal((steps, batch, features)).astype(dtype)
        walks = len(self.layer.walks)
        fields = self.layer.cell_type.state_type._fields
        self.first = [rng.standard_normal((walks, batch, hidden)).astype(dtype) for _ in fields]
        output, _ = self.layer(self.x, self.first if len(fields) > 1 else self.first[0], lengths=lengths)
        self.output = output
        self.record = bptt.backward((output[-1] * output[-1]).sum() if last else (output * output).sum())

    def oracle(self, walk=0, sample=0):
        """d state_t / d state_{t-1} of the walk, by complex steps."""
        cell, s = self.layer.walks[walk].cell, self.record.sequences[self.layer.walks[walk].name]
        weights = [p.data.astype(np.float64) for p in cell.parameters()]
        fields, step = s.initial, oracles.STEPS[self.kind]
        fields = cell.state_type._fields
        length = int(s.lengths[sample])
        order = range(length - 1, -1, -1) if s.reverse else range(length)
        state = [s.initial[f][sample].astype(np.float64) for f in fields]
        size = sum(len(f) for f in state)
        found = np.full((s.steps, size, size), np.nan)
        for t in order:
            x = s.inputs[t, sample : sample + 1].astype(np.float64)

            def after(flat, x=x):
                parts = np.split(flat, len(fields))
                new = step(x, [p[np.newaxis] for p in parts], weights, (0,) * len(fields))
                return np.concatenate([n[0] for n in new])

            flat = np.concatenate(state)
            for k in range(size):
                nudged = flat.astype(complex)
                nudged[k] += 1e-100j
                found[t, :, k] = after(nudged).imag / 1e-100
            state = np.split(after(flat), len(fields))
        return found


def svd(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def products(jacobians, order):
    """Of the steps at these times, the latest first: the product back from the latest after 0, 1, … steps."""
    found = [np.eye(jacobians.shape[1])]
    for t in order:
        found.append(found[-1] @ jacobians[t])
    return found


# Step by step


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("last", [False, True])
def test_every_steps_jacobian_is_that_of_the_oracle(kind, kernel, last):
    case = Case(kind, kernel, last=last)
    for sample in range(3):
        found = step_jacobians(case.record, sample=sample)
        np.testing.assert_allclose(found, case.oracle(sample=sample), rtol=1e-11, atol=1e-13)


@EACH_KIND
@EACH_KERNEL
def test_both_directions_two_layers_and_unequal_lengths(kind, kernel):
    case = Case(kind, kernel, num_layers=2, bidirectional=True, lengths=[3, 5, 1])
    for k, walk in enumerate(case.layer.walks):
        for sample in range(3):
            found = step_jacobians(case.record, sequence=walk.name, sample=sample)
            np.testing.assert_allclose(found, case.oracle(k, sample), rtol=1e-11, atol=1e-13)
            assert np.isnan(found[[3, 5, 1][sample] :]).all()


@EACH_KIND
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 2), (4, 1)])
@pytest.mark.parametrize("features", [3, 4])  # 4 = H: both weights have one shape
def test_one_step_one_sample_and_square_input_weights(kind, steps, batch, features):
    case = Case(kind, steps=steps, batch=batch, features=features)
    np.testing.assert_allclose(step_jacobians(case.record), case.oracle(), rtol=1e-11, atol=1e-13)


@EACH_KIND
@EACH_KERNEL
def test_without_biases(kind, kernel):
    layer_type, own = KINDS[kind]
    rng = np.random.default_rng(0)
    layer = layer_type(3, 4, bias=False, kernel=kernel, rng=rng, dtype=np.float64, **own)
    output, _ = layer(rng.standard_normal((5, 2, 3)))
    record, cell = bptt.backward(output.sum()), layer.walks[0].cell
    np.testing.assert_allclose(step_jacobians(record), step_jacobians(record, cell=cell), rtol=1e-11, atol=1e-14)


@EACH_KIND
def test_closed_form_and_engine_agree(kind):
    case = Case(kind, num_layers=2, lengths=[3, 5, 1])
    for walk in case.layer.walks:
        for sample in range(3):
            options = {"sequence": walk.name, "sample": sample}
            closed, own = (step_jacobians(case.record, cell=cell, **options) for cell in (None, walk.cell))
            np.testing.assert_allclose(closed, own, rtol=1e-11, atol=1e-14)
            a, b = (jacobian_curves(case.record, cell=cell, **options) for cell in (None, walk.cell))
            np.testing.assert_allclose(a.largest, b.largest, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(a.smallest, b.smallest, rtol=1e-6, atol=1e-6)
            assert (a.times, a.lags, a.fields) == (b.times, b.lags, b.fields)
            assert a.fields == walk.cell.state_type._fields
            assert b.path_largest is b.rest is b.bound is None


@EACH_KIND
@EACH_KERNEL
def test_float32_records_agree_with_the_oracle_to_their_rounding(kind, kernel):
    case = Case(kind, kernel, dtype=np.float32)
    found = step_jacobians(case.record)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, case.oracle(), rtol=1e-4, atol=1e-5)


@EACH_KERNEL
def test_a_loss_on_the_last_cell_state_alone_has_every_jacobian(kernel):
    layer = nn.LSTM(3, 4, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    _, (_, c) = layer(np.random.default_rng(1).standard_normal((4, 2, 3)))
    record = bptt.backward((c * c).sum())
    expected = step_jacobians(record, cell=layer.walks[0].cell)
    np.testing.assert_allclose(step_jacobians(record), expected, rtol=1e-11, atol=1e-14)


def test_a_record_before_backward_has_its_jacobians():
    case = Case("gru reset after")
    before = bptt.record((case.output * case.output).sum())
    np.testing.assert_array_equal(step_jacobians(before), step_jacobians(case.record))


@EACH_KIND
def test_a_step_back_is_the_transposed_jacobian(kind):
    case = Case(kind, lengths=[3, 5, 1])
    walk = linear_walk(case.record)
    rng = np.random.default_rng(0)
    for t in range(5):
        g = tuple(rng.standard_normal((3, 4)) for _ in walk.fields)
        back = np.concatenate(walk.back(walk.at(t), g), axis=-1)
        for sample in range(3):
            expected = np.zeros(4 * len(g))
            if t < [3, 5, 1][sample]:
                expected = np.concatenate([field[sample] for field in g]) @ case.oracle(sample=sample)[t]
            np.testing.assert_allclose(back[sample], expected, rtol=1e-10, atol=1e-13)


@EACH_KIND
@EACH_KERNEL
def test_what_steps_add_to_the_weights_adds_up_to_their_gradients(kind, kernel):
    case = Case(kind, kernel, lengths=[3, 5, 1], bidirectional=True)
    for name in ("l0", "l0_reverse"):
        walk = linear_walk(case.record, sequence=name)
        s = walk.sequence
        sums = dict.fromkeys(walk.weights, 0.0)
        for t in range(s.steps):
            h = walk.ordered(s.gradients["h"])[t]
            g = (h,)
            if "c" in s.states:  # the record's dL/dc has what comes through h already
                g = (h, walk.ordered(s.gradients["c"])[t] - h * walk.slopes["c"][t])
            for role, term in walk.gradients(t, g)[1].items():
                sums[role] = sums[role] + term
        assert set(sums) == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
        for role, p in walk.weights.items():
            assert p.name == f"{role}_{name}"
            np.testing.assert_allclose(sums[role], p.gradient, rtol=1e-10, atol=1e-12)


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("bias", [False, True])
def test_parameters_may_have_any_names(kind, kernel, bias):
    layer_type, own = KINDS[kind]
    layer = layer_type(4, 4, bias=bias, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64, **own)
    for p, name in zip(layer.parameters(), ("U", "W", "b", "d")[: 4 if bias else 2], strict=True):
        p.name = name
    output, _ = layer(np.random.default_rng(1).standard_normal((4, 2, 4)))
    record = bptt.backward((output * output).sum())
    walk = linear_walk(record)
    assert [p.name for p in walk.weights.values()][:2] == ["U", "W"]
    expected = step_jacobians(record, cell=layer.walks[0].cell)
    np.testing.assert_allclose(step_jacobians(record), expected, rtol=1e-11, atol=1e-14)


# Products


@EACH_KIND
@pytest.mark.parametrize("reverse", [False, True])
def test_curves_are_the_singular_values_of_the_products(kind, reverse):
    case = Case(kind, steps=8, bidirectional=reverse, lengths=[6, 8, 1])
    name = "l0_reverse" if reverse else "l0"
    for sample, length in enumerate([6, 8, 1]):
        c = jacobian_curves(case.record, sequence=name, sample=sample)
        order = list(range(length)) if reverse else list(range(length - 1, -1, -1))
        assert c.times == (*order, None)
        jacobians = case.oracle(int(reverse), sample)
        values = np.array([svd(p) for p in products(jacobians, order)])
        np.testing.assert_allclose(10.0**c.largest, values[:, 0], rtol=1e-10)
        if kind != "rnn relu":
            np.testing.assert_allclose(10.0**c.smallest, values[:, -1], rtol=1e-4, atol=1e-14)
        steps = np.array([svd(jacobians[t]) for t in order])
        np.testing.assert_allclose(c.step_largest, steps[:, 0], rtol=1e-10)
        np.testing.assert_allclose(c.step_smallest, steps[:, -1], rtol=1e-8, atol=1e-13)


def test_the_product_from_one_step_to_another():
    case = Case("lstm", steps=8)
    jacobians = case.oracle()
    c = jacobian_curves(case.record, latest=5)
    k = c.times.index(2)
    expected = svd(jacobians[5] @ jacobians[4] @ jacobians[3])
    assert 10 ** c.largest[k] == pytest.approx(expected[0], rel=1e-10)
    assert 10 ** c.smallest[k] == pytest.approx(expected[-1], rel=1e-8)


def test_lstms_cell_path_is_the_product_of_its_forget_gates():
    case = Case("lstm", steps=6)
    c, f = jacobian_curves(case.record), case.record.sequence().gates["f"][:, 0]
    kept = np.array([np.prod(f[6 - q :], axis=0) for q in range(7)])
    np.testing.assert_allclose(10.0**c.path_largest, kept.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(10.0**c.path_smallest, kept.min(axis=1), rtol=1e-12)
    for q, whole in enumerate(products(case.oracle(), range(5, -1, -1))):
        rest = whole.copy()
        rest[4:, 4:] -= np.diag(kept[q])
        assert 10 ** c.rest[q] == pytest.approx(svd(rest)[0], rel=1e-9)


@pytest.mark.parametrize("kind", ["gru reset after", "gru reset before"])
def test_grus_direct_path_is_the_product_of_z(kind):
    case = Case(kind, steps=6)
    c, z = jacobian_curves(case.record), case.record.sequence().gates["z"][:, 0]
    kept = np.array([np.prod(z[6 - q :], axis=0) for q in range(7)])
    np.testing.assert_allclose(10.0**c.path_largest, kept.max(axis=1), rtol=1e-12)
    for q, whole in enumerate(products(case.oracle(), range(5, -1, -1))):
        assert 10 ** c.rest[q] == pytest.approx(svd(whole - np.diag(kept[q]))[0], rel=1e-9, abs=1e-14)


def test_without_recurrent_weights_only_the_cell_path_is_left():
    layer = nn.LSTM(2, 3, forget_bias=1.0, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data = np.zeros((12, 3))
    layer.weight_ih_l0.data = np.zeros((12, 2))
    output, _ = layer(np.ones((10, 1, 2)))
    c = jacobian_curves(bptt.backward(output.sum()))
    log_f = math.log10(1 / (1 + math.exp(-1)))
    np.testing.assert_allclose(c.path_largest, np.arange(11) * log_f, rtol=1e-12)
    np.testing.assert_allclose(c.path_smallest, np.arange(11) * log_f, rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.5, 1.0, 3.0])
def test_pascanus_bound_holds_and_is_met_by_a_linear_range(weight):
    layer = nn.RNN(1, 3, bias=False, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data = np.eye(3)[[1, 2, 0]] * weight
    output, _ = layer(np.zeros((20, 1, 1)))  # tanh' = 1 at 0
    c = jacobian_curves(bptt.backward(output.sum()))
    assert (c.gamma, c.weight_norms["a"], c.radii["a"]) == (1.0, pytest.approx(weight), pytest.approx(weight))
    np.testing.assert_allclose(c.largest, c.bound, atol=1e-12)
    assert c.bound[0] == 0


def test_no_product_exceeds_pascanus_bound():
    case = Case("rnn tanh", steps=20, init="orthogonal")
    c = jacobian_curves(case.record)
    assert (c.largest <= c.bound + 1e-12).all()
    assert c.radii["a"] <= c.weight_norms["a"] + 1e-12
    assert c.weight_norms["a"] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["lstm", "gru reset after"])
def test_gated_cells_have_a_norm_a_gate_and_no_bound(kind):
    case = Case(kind)
    c = jacobian_curves(case.record)
    blocks = np.split(case.layer.weight_hh_l0.data, len(c.weight_norms))
    np.testing.assert_allclose(list(c.weight_norms.values()), [svd(b)[0] for b in blocks])
    np.testing.assert_allclose(list(c.radii.values()), [np.abs(np.linalg.eigvals(b)).max() for b in blocks])
    assert list(c.radii) == list(case.layer.walks[0].cell.gates)
    assert c.bound is None
    assert math.isnan(c.gamma)


def linear_curves(weight, steps, **options):
    cell = Linear(weight)
    output, _ = nn.unroll(cell, np.zeros((steps, 1, len(cell.w))))
    return jacobian_curves(bptt.backward(output[-1].sum()), cell=cell, **options)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_products_of_1e_300_and_far_beyond_have_their_numbers(factor):
    c = linear_curves(np.diag([factor, factor / 2]), 120)
    lags = np.arange(121)
    np.testing.assert_allclose(c.largest, lags * math.log10(factor), atol=1e-9)
    np.testing.assert_allclose(c.smallest, lags * math.log10(factor / 2), atol=1e-9)
    assert abs(c.largest[-1]) >= 300


def test_the_smallest_singular_value_is_right_where_the_product_has_long_lost_it():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    c = linear_curves(q @ np.diag([2.0, 1.0, 0.1]) @ q.T, 60)
    np.testing.assert_allclose(c.largest, np.arange(61) * math.log10(2), atol=1e-10)
    np.testing.assert_allclose(c.smallest, -np.arange(61.0), atol=1e-9)


def test_a_direction_that_dies_is_exactly_zero():
    c = linear_curves(np.diag([1.0, 0.0]), 3)
    np.testing.assert_array_equal(c.smallest, [0, -np.inf, -np.inf, -np.inf])
    np.testing.assert_allclose(c.largest, 0, atol=1e-14)
    c = linear_curves(np.zeros((2, 2)), 3)
    np.testing.assert_array_equal(c.largest, [0, -np.inf, -np.inf, -np.inf])


def large_steps(weight):
    layer = nn.RNN(1, 2, nonlinearity="relu", rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data = np.full((2, 2), weight)
    layer.weight_ih_l0.data = np.ones((2, 1))
    with np.errstate(all="ignore"):
        output, _ = layer(np.ones((4, 1, 1)))
        return jacobian_curves(bptt.backward(output.sum()))


def test_states_that_overflow_have_finite_jacobians():
    np.testing.assert_allclose(large_steps(1e200).largest, np.arange(5) * (200 + math.log10(2)), rtol=1e-12)


def test_what_is_not_finite_has_no_singular_value():
    c = large_steps(np.nan)
    assert np.isnan(c.largest[1:]).all()
    assert np.isnan(c.smallest[1:]).all()
    assert np.isnan(c.step_largest).all()
    assert math.isnan(c.radii["a"])


# EXPERIMENTS E2: ‖dh_t/dh_0‖ at t = 1, 10, 25, 50 for n = 50 Gaussian weights scaled to a spectral radius

E2 = {
    0.5: (0.90, 2.9e-3, 6.6e-8, 1.8e-15),
    0.9: (1.5, 0.59, 0.12, 8.4e-3),
    1.1: (2.0, 4.5, 18, 1.9e2),
    1.5: (2.9, 2.1e2, 6.0e4, 1.7e9),
}


def gaussian(radius, seed):
    w = np.random.default_rng(seed).standard_normal((50, 50))
    return w * (radius / np.abs(np.linalg.eigvals(w)).max())


@pytest.mark.parametrize("radius", E2)
@pytest.mark.slow
def test_linear_networks_have_the_published_jacobians(radius):
    found = [linear_curves(gaussian(radius, seed), 50).largest[[1, 10, 25, 50]] for seed in range(5)]
    ratios = 10.0 ** np.median(found, axis=0) / E2[radius]
    assert ((ratios > 0.5) & (ratios < 2)).all(), ratios


def test_an_orthogonal_linear_network_keeps_every_norm():
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 50)))
    c = linear_curves(q, 50)
    np.testing.assert_allclose(c.largest, 0, atol=1e-12)
    np.testing.assert_allclose(c.smallest, 0, atol=1e-12)


@pytest.mark.parametrize(("radius", "explodes"), [(0.5, False), (4.0, True)])
def test_a_tanh_network_has_the_published_sign(radius, explodes):
    layer = nn.RNN(1, 50, bias=False, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data = gaussian(radius, 0)
    first = 0.1 * np.random.default_rng(1).standard_normal((1, 1, 50))
    output, _ = layer(np.zeros((50, 1, 1)), first)
    c = jacobian_curves(bptt.backward(output.sum()))
    assert (c.largest[50] > 0) == explodes


# Errors


def test_another_cell_asks_for_itself():
    cell = Linear(np.eye(2))
    output, _ = nn.unroll(cell, np.zeros((2, 1, 2)))
    record = bptt.backward(output.sum())
    with pytest.raises(RecordError, match=r"in closed form: its cell is Linear, with the state h.\n  RNN, LSTM and"):
        jacobian_curves(record)
    np.testing.assert_array_equal(step_jacobians(record, cell=cell), np.stack([np.eye(2)] * 2))


class LSTMCell(nn.LSTMCell):
    """It bears the name, but its forget gate is its own."""

    def step(self, x, state):
        h, c = super().step(x, state)
        return nn.LSTMState(h, c * 0.5)


def test_a_cell_that_only_bears_the_name_is_found_out():
    cell = LSTMCell(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = nn.unroll(cell, np.ones((3, 1, 2)))
    record = bptt.backward(output.sum())
    with pytest.raises(RecordError, match=r"its gates and states differ by .* from what the recorded weights give"):
        jacobian_curves(record)
    case = step_jacobians(record, cell=cell)
    np.testing.assert_allclose(case[:, 3:, 3:], [np.diag(0.5 * f[0]) for f in record.sequence().gates["f"]])


def test_weights_that_require_no_gradient_are_asked_for():
    cell = nn.GRUCell(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    for p in cell.parameters():
        p.requires_grad = False
    x = Tensor(np.ones((3, 1, 2)), requires_grad=True)
    output, _ = nn.unroll(cell, x)
    record = bptt.backward(output.sum())
    with pytest.raises(RecordError, match="the record holds no weight_ih and weight_hh of its sizes"):
        step_jacobians(record)
    assert step_jacobians(record, cell=cell).shape == (3, 3, 3)


def test_a_cell_whose_weights_changed_is_refused():
    case = Case("rnn tanh")
    cell = case.layer.walks[0].cell
    clip_grad_norm(case.layer.parameters(), 1.0)
    cell.weight_hh.data = cell.weight_hh.data * 2
    step_jacobians(case.record)  # the record holds the weights as they were
    with pytest.raises(RecordError, match=r"at step index 4 the cell gives another h than the record holds"):
        step_jacobians(case.record, cell=cell)


def test_a_cell_of_another_state_is_refused():
    case = Case("rnn tanh")
    with pytest.raises(RecordError, match="the cell's state is h, c, that of the walk h"):
        step_jacobians(case.record, cell=nn.LSTMCell(3, 4))


@pytest.mark.parametrize("sample", [-1, 3])
def test_a_sample_that_is_not_there(sample):
    with pytest.raises(RecordError, match=rf"sample {sample} of a batch of 3.\n  Give a sample from 0 to 2"):
        step_jacobians(Case("rnn tanh").record, sample=sample)


def test_a_step_that_is_not_the_samples():
    record = Case("rnn tanh", lengths=[3, 5, 1]).record
    with pytest.raises(RecordError, match=r"from step index 3 back: sample 0 has no such step.\n  Give one from 0 to"):
        jacobian_curves(record, latest=3)


@EACH_KIND
def test_steps_that_the_loss_does_not_reach_are_left_out(kind):
    layer_type, own = KINDS[kind]
    cell = layer_type.cell_type(2, 3, rng=np.random.default_rng(0), dtype=np.float64, **own)
    states, initial_state, step = [], cell.initial_state, cell.step
    watching = type(f"{type(cell).__name__}", (), {
        "initial_state": lambda self, batch: initial_state(batch),
        "step": lambda self, x, state: states.append(step(x, state)) or states[-1],
    })  # fmt: skip
    nn.unroll(watching(), np.random.default_rng(1).standard_normal((5, 1, 2)))
    record = bptt.backward((states[2].h * 2.0).sum())
    found = step_jacobians(record)
    np.testing.assert_allclose(found[:3], step_jacobians(record, cell=cell)[:3], rtol=1e-11, atol=1e-14)
    assert np.isnan(found[3:]).all()
    assert jacobian_curves(record).times == (2, 1, 0, None)


def test_equal_records_have_equal_curves():
    a, b = (jacobian_curves(Case("lstm").record) for _ in range(2))
    assert a == b
    assert a != dataclasses.replace(a, sample=1)


@pytest.mark.parity
@EACH_KIND
def test_pytorch_gives_the_same_jacobians(kind):
    torch = pytest.importorskip("torch")
    if kind == "gru reset before":
        return
    case = Case(kind, steps=3)
    cell, s = case.layer.walks[0].cell, case.record.sequence()
    name = {"rnn tanh": "RNNCell", "rnn relu": "RNNCell", "lstm": "LSTMCell", "gru reset after": "GRUCell"}[kind]
    options = {"nonlinearity": kind.split()[1]} if name == "RNNCell" else {}
    theirs = getattr(torch.nn, name)(3, 4, dtype=torch.float64, **options)
    theirs.load_state_dict({n: torch.tensor(p.numpy()) for n, p in cell.named_parameters()})
    found = step_jacobians(case.record)
    for t in range(3):
        x = torch.tensor(s.inputs[t, :1])
        first = [torch.tensor((s.states[f][t - 1] if t else s.initial[f])[:1]) for f in cell.state_type._fields]

        def step(*state, x=x):
            return theirs(x, state if len(state) > 1 else state[0])

        blocks = torch.autograd.functional.jacobian(step, tuple(first))
        if len(first) == 1:
            blocks = (blocks,) if isinstance(blocks[0], torch.Tensor) else blocks
        rows = [np.concatenate([b.numpy().reshape(4, 4) for b in row], axis=1) for row in blocks]
        np.testing.assert_allclose(found[t], np.concatenate(rows), rtol=1e-11, atol=1e-13)


def test_a_gradient_back_through_the_product_is_the_records():
    case = Case("lstm", steps=12, last=True)
    s = case.record.sequence()
    walk = linear_walk(case.record)
    g = (s.gradients["h"][-1], np.zeros_like(s.gradients["h"][-1]))
    for t in range(11, 0, -1):
        g = walk.back(walk.at(t), g)
        np.testing.assert_allclose(g[0], s.gradients["h"][t - 1], rtol=1e-9, atol=1e-15)


def test_relu_and_tanh_are_told_apart_where_relu_is_linear():
    layer = nn.RNN(1, 2, nonlinearity="relu", rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_ih_l0.data = np.full((2, 1), 1e-3)
    layer.bias_ih_l0.data = np.zeros(2)
    layer.bias_hh_l0.data = np.zeros(2)
    output, _ = layer(np.ones((3, 1, 1)))
    assert linear_walk(bptt.backward(output.sum())).variant == "relu"


@EACH_KERNEL
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_settings_tell_what_states_of_0_cannot(nonlinearity, kernel):
    layer = nn.RNN(1, 2, nonlinearity=nonlinearity, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    for p in layer.parameters():
        p.data = np.zeros(p.shape)
    layer.weight_hh_l0.data = np.eye(2)
    output, _ = layer(np.zeros((3, 1, 1)))
    record = bptt.backward(output.sum())
    assert record.sequence().settings == {"nonlinearity": nonlinearity}
    assert linear_walk(record).variant == nonlinearity
    np.testing.assert_array_equal(step_jacobians(record)[1], np.eye(2) * (nonlinearity == "tanh"))


@EACH_KERNEL
@pytest.mark.parametrize("reset_after", [True, False])
def test_one_step_from_a_state_of_0_has_the_right_reset(reset_after, kernel):
    options = {"reset_after": reset_after, "bias": False, "kernel": kernel}
    layer = nn.GRU(2, 3, rng=np.random.default_rng(0), dtype=np.float64, **options)
    output, _ = layer(np.ones((1, 1, 2)))
    record = bptt.backward(output.sum())
    assert record.sequence().settings == {"reset_after": reset_after}
    expected = step_jacobians(record, cell=layer.walks[0].cell)
    np.testing.assert_allclose(step_jacobians(record), expected, rtol=1e-12, atol=1e-15)


def test_a_cell_of_ones_own_has_no_settings_whatever_its_name():
    class GRUCell(nn.GRUCell):
        pass

    for cell in (Linear(np.eye(2)), GRUCell(2, 2, rng=np.random.default_rng(0), dtype=np.float64)):
        record = bptt.backward(nn.unroll(cell, np.ones((2, 1, 2)))[0].sum())
        assert record.sequence().settings is None
    assert linear_walk(record).variant == "reset after"  # it is found out


@EACH_KIND
def test_a_walk_is_the_same_whether_few_steps_or_all_are_tried(kind):
    record = Case(kind, "fused", steps=40, lengths=[30, 40, 1]).record
    s = record.sequence()
    unknown = dataclasses.replace(record, sequences={"l0": dataclasses.replace(s, settings=None)})
    a, b = linear_walk(record), linear_walk(unknown)
    assert (a.variant, list(a.weights)) == (b.variant, list(b.weights))
    for name, slope in a.slopes.items():
        np.testing.assert_array_equal(slope, b.slopes[name])


def test_another_walks_weights_of_the_same_shape_are_not_taken():
    rng = np.random.default_rng(0)
    walks = [nn.LSTM(3, 3, rng=rng, dtype=np.float64, kernel="fused") for _ in range(2)]
    x = rng.standard_normal((30, 1, 3))
    a, b = (layer(x)[0] for layer in walks)
    record = bptt.backward((a * a).sum() + (b * b).sum())
    for name, layer in zip(record.sequences, walks, strict=True):
        expected = step_jacobians(record, sequence=name, cell=layer.walks[0].cell)
        np.testing.assert_allclose(step_jacobians(record, sequence=name), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
@EACH_KIND
@EACH_KERNEL
def test_over_100_steps_the_product_is_the_complex_steps_derivative(kind, kernel):
    case = Case(kind, kernel, steps=100, batch=1)
    cell = case.layer.walks[0].cell
    weights, fields = [p.data for p in cell.parameters()], cell.state_type._fields
    first = [case.record.sequence().initial[f].astype(complex) for f in fields]
    columns = []
    for f in range(len(fields)):
        for unit in range(4):
            nudged = [array.copy() for array in first]
            nudged[f][0, unit] += 1e-100j
            _, last = oracles.run(oracles.STEPS[kind], case.x, nudged, weights)
            columns.append(np.concatenate([field[0] for field in last]).imag / 1e-100)
    expected = svd(np.array(columns))[0]
    found = jacobian_curves(case.record).largest[-1]
    assert expected < 1e-8
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found, np.log10(expected), rtol=1e-9)  # of relu 0: every unit dies somewhere
