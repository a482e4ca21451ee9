"""Gates: shares, slopes, dead units and half-lives, by hand and in closed form."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, named_scope, nn, ops
from minigrad.bptt.gates import gates
from minigrad.errors import MinigradError, RecordError

EACH_KERNEL = pytest.mark.parametrize("kernel", ["steps", "fused"])
LAYERS = {
    "rnn tanh": (nn.RNN, {}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}


class State(NamedTuple):
    h: Tensor


def record_of(kind, kernel="steps", steps=6, batch=3, lengths=None, dtype=np.float64, change=None, **options):
    layer_type, own = LAYERS[kind]
    rng = np.random.default_rng(4)
    layer = layer_type(2, 5, kernel=kernel, rng=rng, dtype=dtype, **own, **options)
    if change is not None:
        change(layer)
    output, _ = layer(2 * rng.standard_normal((steps, batch, 2)).astype(dtype), lengths=lengths)
    return bptt.backward((output * output).sum())


def with_gate(symbol, values, kind="lstm"):
    """A record whose gate has these values, (T, N, H)."""
    record = record_of(kind, steps=values.shape[0], batch=values.shape[1])
    s = record.sequence()
    s = dataclasses.replace(s, gates={**s.gates, symbol: values})
    return dataclasses.replace(record, sequences={"l0": s})


@pytest.mark.parametrize("kind", LAYERS)
@EACH_KERNEL
@pytest.mark.parametrize(("steps", "batch", "lengths"), [(6, 3, None), (6, 3, [4, 6, 1]), (1, 1, None), (7, 1, None)])
def test_every_number_is_counted_by_hand(kind, kernel, steps, batch, lengths):
    record = record_of(kind, kernel, steps, batch, lengths)
    s, found = record.sequence(), gates(record)
    values = {**s.gates, "h": s.states["h"], "tanh c": np.tanh(s.states.get("c", np.zeros(1)))}
    kinds = {**dict.fromkeys("fiorz", "s"), **dict.fromkeys(("g", "n", "tanh c"), "t"), "h": kind.split()[-1][0]}
    expected = {"rnn tanh": "h", "rnn relu": "h", "lstm": "f i g o tanh-c", "gru": "r z n"}[kind]
    assert list(found.gates) == [name.replace("-", " ") for name in expected.split()]
    for symbol, a in found.gates.items():
        assert a.kind[0] == kinds[symbol]
        for unit in range(5):
            some = [values[symbol][t, n, unit] for n in range(batch) for t in range(s.lengths[n])]
            slopes = [y * (1 - y) if a.kind == "sigmoid" else 1 - y * y if a.kind == "tanh" else y > 0 for y in some]
            low, high = {"sigmoid": (0.1, 0.9), "tanh": (-0.8, 0.8), "relu": (5e-324, math.inf)}[a.kind]
            assert a.mean[unit] == pytest.approx(np.mean(some), rel=1e-12)
            assert a.slope[unit] == pytest.approx(np.mean(slopes), rel=1e-12)
            assert a.low[unit] == pytest.approx(np.mean([y < low for y in some]))
            assert a.high[unit] == pytest.approx(np.mean([y > high for y in some]))
        assert a.saturated == pytest.approx(np.mean(a.low) + np.mean(a.high))
        for t in range(steps):
            some = values[symbol][t, s.lengths > t]
            slopes = some * (1 - some) if a.kind == "sigmoid" else 1 - some**2 if a.kind == "tanh" else some > 0
            assert a.slope_by_step[t] == pytest.approx(slopes.mean(), rel=1e-12)


@EACH_KERNEL
def test_the_reverse_direction_is_indexed_by_input_time(kernel):
    record = record_of("rnn tanh", kernel, lengths=[4, 6, 1], bidirectional=True)
    h = record.sequences["l0_reverse"].states["h"]
    a = gates(record, sequence="l0_reverse").gates["h"]
    np.testing.assert_allclose(a.slope_by_step[5], 1 - np.mean(h[5, 1] ** 2))


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0, 3.0, 5.0])
@EACH_KERNEL
def test_a_forget_gates_half_life_is_ln_2_over_minus_ln_f(bias, kernel):
    def change(layer):
        layer.weight_ih_l0.data = np.zeros((20, 2))
        layer.weight_hh_l0.data = np.zeros((20, 5))

    found = gates(record_of("lstm", kernel, change=change, forget_bias=bias))
    f = 1 / (1 + math.exp(-bias))
    assert found.keeps == "f"
    np.testing.assert_allclose(found.half_lives, math.log(2) / -math.log(f), rtol=1e-12)
    published = {0.0: 1.0, 1.0: 2.2, 2.0: 5.5, 3.0: 14, 5.0: 103}[bias]  # EXPERIMENTS 1.21
    np.testing.assert_allclose(found.half_lives, published, rtol=0.02)


def test_the_half_life_is_that_of_the_product_over_all_steps():
    f = np.random.default_rng(0).uniform(0.1, 0.9, (8, 1, 5))
    found = gates(with_gate("f", f))
    np.testing.assert_allclose(0.5 ** (8 / found.half_lives), f.prod(axis=0)[0], rtol=1e-12)


def test_grus_half_life_is_from_z():
    z = np.full((4, 2, 5), 0.5)
    found = gates(with_gate("z", z, "gru"))
    assert found.keeps == "z"
    np.testing.assert_allclose(found.half_lives, 1)


def test_a_gate_that_is_fully_open_or_shut_has_a_half_life_too():
    f = np.full((4, 1, 5), 0.5)
    f[:, :, 0], f[2, :, 1] = 1, 0
    np.testing.assert_allclose(gates(with_gate("f", f)).half_lives, [np.inf, 0, 1, 1, 1])


def test_tiny_gates_have_their_half_life():
    found = gates(with_gate("f", np.full((4, 1, 5), 1e-300)))
    np.testing.assert_allclose(found.half_lives, math.log(2) / (300 * math.log(10)))


def test_an_rnn_has_no_half_life():
    found = gates(record_of("rnn tanh"))
    assert found.keeps is found.half_lives is None


def test_units_that_are_always_saturated_are_stuck():
    o = np.full((4, 2, 5), 0.5)
    o[:, :, 1], o[:, :, 3] = 0.95, 0.05
    o[:2, :, 4], o[2:, :, 4] = 0.95, 0.05
    o[1:, :, 0] = 0.99
    found = gates(with_gate("o", o)).gates["o"]
    assert found.stuck == (1, 3, 4)
    np.testing.assert_allclose(found.high, [0.75, 1, 0, 0, 0.5])
    np.testing.assert_allclose(found.low, [0, 0, 0, 1, 0.5])


def test_the_limits_can_be_chosen():
    o = np.full((2, 1, 5), 0.93)
    g = np.full((2, 1, 5), 0.85)
    assert gates(with_gate("o", o)).gates["o"].saturated == 1
    assert gates(with_gate("o", o), low=0.05, high=0.95).gates["o"].saturated == 0
    assert gates(with_gate("g", g)).gates["g"].saturated == 1
    assert gates(with_gate("g", g), low=0.05, high=0.95).gates["g"].saturated == 0  # 0.9


@EACH_KERNEL
def test_relu_units_that_never_fire_are_found(kernel):
    def change(layer):
        b = layer.bias_ih_l0.data.copy()
        b[[1, 4]] = -1000
        layer.bias_ih_l0.data = b

    found = gates(record_of("rnn relu", kernel, change=change))
    assert {1, 4} <= set(found.gates["h"].stuck)
    assert {1, 4} <= set(found.still)
    assert (found.gates["h"].slope[[1, 4]] == 0).all()
    assert (found.gates["h"].high == 0).all()


@EACH_KERNEL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_that_never_move_are_found(kernel, dtype):
    def change(layer):
        for p in (layer.weight_ih_l0, layer.weight_hh_l0):
            values = p.data.copy()
            values[2] = 0
            p.data = values

    found = gates(record_of("rnn tanh", kernel, change=change, dtype=dtype))
    assert found.still == (2,)
    assert found.gates["h"].stuck == ()


def test_of_one_value_none_is_still():
    assert gates(record_of("rnn tanh", steps=1, batch=1)).still == ()


@EACH_KERNEL
def test_a_loss_on_the_last_cell_state_alone_leaves_out_what_was_not_recorded(kernel):
    layer = nn.LSTM(2, 5, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    _, (_, c) = layer(np.random.default_rng(1).standard_normal((4, 2, 2)))
    found = gates(bptt.backward((c * c).sum()))
    assert np.isnan(found.gates["o"].slope_by_step[3]) == (kernel == "steps")
    for a in found.gates.values():
        assert np.isfinite(a.mean).all()
        assert np.isfinite(a.slope_by_step[:3]).all()
    assert np.isfinite(found.half_lives).all()


def test_what_is_not_a_number_is_shown_as_such():
    f = np.full((4, 2, 5), 0.5)
    f[1, 0, 2] = np.nan
    found = gates(with_gate("f", f))
    assert np.isnan(found.half_lives).tolist() == [False, False, True, False, False]
    assert np.isnan(found.gates["f"].mean).tolist() == [False, False, True, False, False]
    assert np.isnan(found.gates["f"].slope_by_step[1])


def test_a_record_before_backward_has_its_gates():
    layer = nn.GRU(2, 5, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.ones((3, 2, 2)))
    loss = (output * output).sum()
    before = gates(bptt.record(loss))
    assert before == gates(bptt.backward(loss))


class Own:
    """h' = k h + x with k = sigmoid(w x)."""

    def __init__(self):
        self.w = Tensor(np.array([[1.0]]), requires_grad=True)

    def initial_state(self, batch):
        return State(Tensor(np.ones((batch, 1))))

    def step(self, x, state):
        with named_scope("keep", "k"):
            k = ops.sigmoid(x @ self.w)
        return State(k * state.h + x)


def test_a_cell_of_ones_own_says_what_its_scopes_are():
    output, _ = nn.unroll(Own(), np.array([[[0.0]], [[4.0]]]))
    record = bptt.backward(output.sum())
    with pytest.raises(RecordError, match=r"cell is Own, whose gates are not known.\n  Say what its scopes k give: "):
        gates(record)
    found = gates(record, kinds={"k": "sigmoid"})
    assert found.gates["k"].high == pytest.approx(0.5)
    assert found.gates["k"].mean == pytest.approx((0.5 + 1 / (1 + math.exp(-4))) / 2)
    assert found.half_lives is None
    with pytest.raises(RecordError, match=r"no scope 'q' gave one tensor \(N, H\) a step.\n  The record has k."):
        gates(record, kinds={"q": "tanh"})


def test_values_that_no_such_function_has_are_refused():
    with pytest.raises(RecordError, match=r"f has values from 1.5 to 1.5, which no sigmoid has.\n  Say what"):
        gates(with_gate("f", np.full((2, 1, 5), 1.5)))


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(RecordError, match=r"f is 'gelu'.\n  Choose sigmoid, tanh, relu."):
        gates(record_of("lstm"), kinds={"f": "gelu"})


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.1), (-0.1, 0.9), (0.1, 1.1), (0.5, 0.5)])
def test_limits_that_are_none_are_refused(low, high):
    with pytest.raises(MinigradError, match=r"low=.*, high=.*\n  Give 0 <= low < high <= 1"):
        gates(record_of("lstm"), low=low, high=high)
