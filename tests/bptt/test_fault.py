"""The first node that is NaN or infinite: its op, scope and time step, on the way forward and on the way back."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, nn
from minigrad.bptt.fault import first_fault


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
