"""The first node that is NaN or infinite, or whose gradient is exactly 0: its op, scope, time step and line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, bptt, nn
from minigrad.bptt.fault import fault_in, first_fault, first_zero, zero_in
from minigrad.errors import RecordError
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS


@pytest.fixture(autouse=True)
def in_silence():
    with np.errstate(all="ignore"):
        yield


def leaf(value: float, name: str = "w") -> Tensor:
    return Tensor(np.array([value], np.float64), requires_grad=True, name=name)


def test_a_finite_graph_has_no_fault_and_keeps_its_gradients() -> None:
    w = leaf(2.0)
    loss = (w * w).sum()
    assert first_fault(loss) is None
    assert w.grad is None
    loss.backward()
    assert first_fault(loss) is None
    assert w.grad is not None
    assert w.grad.tolist() == [4.0]


def test_the_op_that_made_it_is_named_not_those_after_it() -> None:
    w = leaf(-1.0)
    with mg.named_scope("deep"):
        bad = mg.log(w)
    loss = (mg.tanh(bad) + 1.0).sum()
    found = first_fault(loss)
    assert found is not None
    assert (found.what, found.op, found.scope, found.time, found.own) == ("value", "log", ("deep",), None, True)
    assert found.source is not None
    assert "test_fault.py" in found.source
    assert str(found) == "the first value that is NaN or infinite is that of log at deep"


def test_a_parameter_that_is_so_already_is_named() -> None:
    loss = (leaf(np.inf, "layer.weight") * 0.5).sum()
    found = first_fault(loss)
    assert found is not None
    assert found.op == "parameter layer.weight"


def test_an_input_that_is_so_already_is_not_blamed_on_the_op() -> None:
    found = first_fault((leaf(1.0) * np.array([np.nan])).sum())
    assert found is not None
    assert (found.op, found.own) == ("multiply", False)
    assert str(found).endswith("of multiply, and what it was given is so already")


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("kernel", ["steps", "fused"])
@pytest.mark.parametrize("step", [0, 3])
def test_the_time_step_is_named(kind: str, step: int, kernel: str) -> None:
    layer = getattr(nn, kind)(2, 3, rng=np.random.default_rng(0), kernel=kernel)
    x = np.ones((5, 1, 2), np.float32)
    x[step] = np.nan
    outputs, _ = layer(x)
    found = first_fault(outputs.sum())
    assert found is not None
    assert found.time == step
    assert f"t={step + 1}" in found.scope
    assert found.scope[0] == kind.lower()


def test_on_the_way_back_the_op_whose_rule_overflows_is_named() -> None:
    # sqrt(0) = 0 is finite; its derivative is not
    w = leaf(0.0)
    with mg.named_scope("t=2"):
        y = mg.sqrt(w)
    loss = (y * 3.0).sum()
    found = first_fault(loss)
    assert found is not None
    assert (found.what, found.op, found.scope, found.own) == ("gradient", "sqrt", ("t=2",), True)
    assert str(found).startswith("the first gradient on the way back that is NaN or infinite is that of sqrt at t=2")
    assert w.grad is None


def test_the_fault_is_the_earliest_in_the_order_of_computation() -> None:
    w = leaf(-1.0)
    first = mg.sqrt(w)
    second = mg.log(w)
    found = first_fault((second + first).sum())
    assert found is not None
    assert found.op == "sqrt"


def test_an_op_with_several_outputs_is_looked_into() -> None:
    a, b = mg.split(Tensor(np.array([1.0, -1.0]), requires_grad=True), sizes=(1, 1))
    found = first_fault((a + mg.log(b)).sum())
    assert found is not None
    assert found.op == "log"


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kernel", "time"), [("steps", 4), ("fused", 3)])
def test_a_gradient_that_overflows_on_its_way_back_has_its_time_step(
    kernel: str, time: int, bidirectional: bool
) -> None:
    """h stays 0, so tanh' is 1, and from t=5 to t=4 the gradient of 1e37 grows a thousandfold, beyond float32.

    Among single ops the one at t=5 is at fault, which hands it on; of a kernel the step that has got it is named.
    """
    layer = nn.RNN(2, 1, bias=False, rng=np.random.default_rng(0), kernel=kernel, bidirectional=bidirectional)
    for name, p in layer.named_parameters():
        p.data = np.full(p.shape, 1e3 if "hh" in name and "reverse" not in name else 0.0, np.float32)
    outputs, _ = layer(np.zeros((5, 1, 2), np.float32))
    found = first_fault(outputs[4].sum() * 1e37)
    assert found is not None
    assert (found.what, found.time) == ("gradient", time)
    assert found.scope[0] == "rnn"
    assert f"t={time + 1}" in found.scope
    if bidirectional:
        assert "l0" in found.scope


# The same from a record


def ops_of(loss: Tensor) -> bptt.Record:
    return bptt.backward(loss, keep="ops")


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@EACH_KERNEL
@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_record_tells_the_same_value(kind: str, kernel: str, step: int, bidirectional: bool) -> None:
    rng = np.random.default_rng(0)
    layer = getattr(nn, kind)(2, 3, rng=rng, kernel=kernel, bidirectional=bidirectional)
    x = np.ones((5, 1, 2), np.float32)
    x[step] = np.nan
    loss = layer(x)[0].sum()
    assert fault_in(bptt.record(loss)) == fault_in(ops_of(loss)) == first_fault(loss)


@EACH_KERNEL
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_record_tells_the_same_gradient(kernel: str, bidirectional: bool) -> None:
    layer = nn.RNN(2, 1, bias=False, rng=np.random.default_rng(0), kernel=kernel, bidirectional=bidirectional)
    for name, p in layer.named_parameters():
        p.data = np.full(p.shape, 1e3 if "hh" in name and "reverse" not in name else 0.0, np.float32)
    loss = layer(np.zeros((5, 1, 2), np.float32))[0][4].sum() * 1e37
    assert fault_in(ops_of(loss)) == first_fault(loss)


def test_a_record_tells_what_was_so_already() -> None:
    for loss in ((leaf(np.inf) * 0.5).sum(), mg.log(leaf(-1.0)).sum(), mg.sqrt(leaf(0.0)).sum(), leaf(1.0).sum()):
        assert fault_in(ops_of(loss)) == first_fault(loss)


@pytest.mark.parametrize("find", [fault_in, zero_in])
def test_a_record_without_ops_is_refused(find: Any) -> None:
    record = bptt.backward((leaf(1.0) * 2.0).sum())
    remedy = r'this record has no ops.\n  Give a record of bptt.backward\(loss, keep="ops"'
    with pytest.raises(RecordError, match=remedy):
        find(record)


# The first exact 0


def both(loss: Tensor, sequence: str | None = None) -> Any:
    """What the loss and what the record tell, which has to be the same."""
    found = first_zero(loss)
    told = zero_in(ops_of(loss), sequence=sequence)
    assert (found is None) == (told is None)
    if found is not None and told is not None:
        assert told._replace(norm=0.0) == found._replace(norm=0.0)
        assert told.norm == pytest.approx(found.norm, rel=1e-5)
    return found


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lengths", [None, [2, 4, 1], [3, 3, 3]])
@pytest.mark.parametrize("last", [False, True])
def test_a_gradient_that_lives_has_no_zero(kind: str, kernel: str, bias: bool, lengths: Any, last: bool) -> None:
    layer_type, own = KINDS[kind]
    if kind == "rnn relu":
        own = {"nonlinearity": "tanh"}  # of three units all may be off
    layer = layer_type(2, 3, 2, bias=bias, bidirectional=True, rng=np.random.default_rng(0), kernel=kernel, **own)
    x = np.random.default_rng(1).standard_normal((5, 3, 2)).astype(np.float32)
    output, state = layer(x, lengths=lengths)
    state = state[0] if isinstance(state, tuple) else state
    assert both((state * state).sum() if last else (output * output).sum()) is None


def dying(kernel: str, reverse: bool = False) -> Tensor:
    """A relu layer whose units are all off at step index 3 of 8; the loss is on the last step of the walk."""
    layer = nn.RNN(1, 2, nonlinearity="relu", rng=np.random.default_rng(0), kernel=kernel, bidirectional=reverse)
    for p in layer.parameters():
        p.data = np.full(p.shape, 0.5, np.float32)
    x = np.ones((8, 2, 1), np.float32)
    x[3] = -100.0
    output, _ = layer(x)
    return output[0][:, 2:].sum() if reverse else output[7].sum()


@EACH_KERNEL
@pytest.mark.parametrize("reverse", [False, True])
def test_a_relu_layer_that_dies_is_found_at_its_step(kernel: str, reverse: bool) -> None:
    found = both(dying(kernel, reverse))
    assert (found.time, found.why) == (3, "rule")
    assert "t=4" in found.scope
    assert "test_fault.py" in found.source
    if kernel == "steps":
        assert (found.op, found.to) == ("relu", "add")
        assert "the first exact 0 on the way back is what relu at rnn /" in str(found)
        assert str(found).endswith("hands on to add, by its rule: its derivative is 0 there")
    else:
        assert (found.op, found.to) == ("RNN kernel", "the state before")


@EACH_KERNEL
@pytest.mark.parametrize("sequence", ["l0", "l1"])
def test_only_the_sequence_asked_for_is_searched(kernel: str, sequence: str) -> None:
    rng = np.random.default_rng(0)
    layer = nn.RNN(1, 2, 2, nonlinearity="relu", rng=rng, kernel=kernel)
    for p in layer.parameters():
        p.data = np.full(p.shape, 0.5, np.float32)
    x = np.ones((8, 2, 1), np.float32)
    x[3] = -100.0
    found = zero_in(ops_of(layer(x)[0].sum()), sequence=sequence)  # above, something is always on
    assert (found is None) == (sequence == "l1")


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize(
    ("dtype", "steps"), [(np.float32, 60), pytest.param(np.float64, 270, marks=pytest.mark.slow)]
)
def test_a_gradient_too_small_for_its_type_is_told_from_a_rule(kind: str, kernel: str, dtype: Any, steps: int) -> None:
    layer_type, own = KINDS[kind]
    layer = layer_type(2, 3, rng=np.random.default_rng(0), kernel=kernel, dtype=dtype, **own)
    for name, p in layer.named_parameters():
        p.data = np.full(p.shape, -2.0 if "bias" in name else 0.02, dtype)
    x = np.random.default_rng(1).uniform(0.5, 1, (steps, 1, 2)).astype(dtype) * dtype(400 if kind == "rnn relu" else 1)
    found = both(layer(x)[0][-1].sum())
    assert found.why == "underflow"
    assert 0 < found.norm < np.finfo(dtype).tiny / np.finfo(dtype).eps
    assert 0 < found.time < steps - 1
    assert "by underflow: the number is too small" in str(found)


@EACH_KERNEL
def test_an_ordinary_network_loses_its_gradient_within_400_steps(kernel: str) -> None:
    layer = nn.RNN(2, 8, rng=np.random.default_rng(0), kernel=kernel)
    found = both(layer(np.random.default_rng(1).standard_normal((400, 1, 2)).astype(np.float32))[0][-1].sum())
    assert found.why == "underflow"
    assert 200 < found.time < 399


def test_what_dropout_drops_is_by_rule() -> None:
    w = leaf(1.0)
    loss = (nn.dropout(mg.tanh(w), 0.999, rng=np.random.default_rng(0)) * 2.0).sum()
    found = both(loss)
    assert (found.op, found.to, found.why, found.norm) == ("dropout", "tanh", "rule", 2.0)


def test_a_maximum_not_taken_is_by_rule() -> None:
    a, b = leaf(1.0), leaf(2.0)
    found = both(mg.maximum(a * 3.0, mg.tanh(b)).sum())
    assert (found.op, found.to, found.why) == ("maximum", "tanh", "rule")


def test_parts_that_cancel_are_a_sum() -> None:
    y = mg.exp(leaf(1.0))
    found = both((y * 2.0 - y * 2.0).sum())
    assert (found.to, found.why) == ("exp", "sum")
    assert "as a sum: its parts cancel each other" in str(found)


def test_an_update_gate_between_two_equal_states_gets_a_sum() -> None:
    """h' = (1-z) n + z h: where n has come to equal h, z makes no difference."""
    layer = nn.GRU(2, 3, rng=np.random.default_rng(0))
    for name, p in layer.named_parameters():
        p.data = np.full(p.shape, -2.0 if "bias" in name else 0.02, np.float32)
    found = both(layer(np.ones((60, 1, 2), np.float32))[0][-1].sum())
    assert (found.op, found.to, found.time, found.why) == ("multiply", "sigmoid", 59, "sum")


def test_a_tanh_that_its_type_rounds_to_1_would_not_be_0_in_float64() -> None:
    y = mg.tanh(Tensor(np.array([12.0], np.float32), requires_grad=True, name="w"))
    assert first_zero(y.sum()) == first_zero(y.sum())
    found = first_zero(y.sum())
    assert found is not None
    assert (found.op, found.to, found.why) == ("tanh", "w", "underflow")


def test_what_is_detached_or_not_taken_has_no_path_and_is_no_zero() -> None:
    w, v = leaf(2.0), leaf(3.0)
    assert both((w * 2.0 + mg.tanh(v).detach()).sum()) is None
    w, v = leaf(2.0), leaf(3.0)
    two = mg.stack(w * 2.0, mg.tanh(v))
    assert both(two[0].sum()) is None


def test_a_loss_times_0_is_by_rule_and_touches_no_gradient() -> None:
    w = leaf(2.0)
    found = first_zero((mg.tanh(w) * 0.0).sum())
    assert found is not None
    assert (found.op, found.to, found.why, found.time) == ("multiply", "tanh", "rule", None)
    assert w.grad is None


def test_a_forget_gate_that_is_closed_to_the_last_bit_is_named() -> None:
    """f = 0 and W_hh = 0: nothing of c and h comes back."""
    for kernel in ("steps", "fused"):
        layer = nn.LSTM(1, 2, rng=np.random.default_rng(0), kernel=kernel, forget_bias=-1e4)
        layer.weight_hh_l0.data = np.zeros((8, 2), np.float32)
        found = first_zero(layer(np.ones((4, 1, 1), np.float32))[0][-1].sum())
        assert found is not None
        assert found.time == 3
        assert zero_in(ops_of(layer(np.ones((4, 1, 1), np.float32))[0][-1].sum())) is not None
