"""`fused` is `unroll`: the same arguments, results and errors. Its gradients: tests/bptt/test_kernel.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, gradcheck, nn, no_grad
from minigrad.engine import grad
from minigrad.errors import DTypeError, GradError, MinigradError, ShapeError
from minigrad.nn.fused import KERNELS, fused

CELLS: dict[str, Any] = {
    "rnn tanh": lambda **o: nn.RNNCell(3, 4, **o),
    "rnn relu": lambda **o: nn.RNNCell(3, 4, nonlinearity="relu", **o),
    "lstm": lambda **o: nn.LSTMCell(3, 4, **o),
    "gru reset after": lambda **o: nn.GRUCell(3, 4, **o),
    "gru reset before": lambda **o: nn.GRUCell(3, 4, reset_after=False, **o),
}
every_cell = pytest.mark.parametrize("kind", CELLS)


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_and_last_states_are_those_of_unroll(kind: str, dtype: Any, bias: bool, reverse: bool) -> None:
    rng = np.random.default_rng(0)
    cell = CELLS[kind](bias=bias, rng=rng, dtype=dtype)
    x = rng.standard_normal((5, 2, 3)).astype(dtype)
    zeros = cell.initial_state(2)
    state = type(zeros)(*(Tensor(rng.standard_normal((2, 4)).astype(dtype)) for _ in zeros))
    for lengths in (None, [2, 5]):
        steps, last = nn.unroll(cell, x, state, lengths=lengths, reverse=reverse)
        output, end = fused(cell, x, state, lengths=lengths, reverse=reverse)
        tolerance = 1e-12 if dtype is np.float64 else 1e-5
        np.testing.assert_allclose(output.numpy(), steps.numpy(), rtol=tolerance, atol=tolerance)
        assert type(end) is type(last)
        for a, b in zip(end, last, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


@every_cell
def test_gradients_pass_the_gradient_check(kind: str) -> None:
    rng = np.random.default_rng(1)
    cell = CELLS[kind](rng=rng, dtype=np.float64)
    gradcheck(lambda x: fused(cell, x)[0], [rng.standard_normal((3, 2, 3))], order=1)


def test_every_cell_of_the_package_has_a_kernel() -> None:
    assert set(KERNELS) == {nn.RNNCell, nn.LSTMCell, nn.GRUCell}


def test_a_cell_of_ones_own_is_refused_with_the_remedy() -> None:
    class Mine(nn.LSTMCell):
        pass

    with pytest.raises(MinigradError, match=r"Mine has no kernel.*\n  Use kernel='steps'"):
        fused(Mine(3, 4), np.ones((2, 1, 3), np.float32))


def test_a_second_derivative_names_the_remedy() -> None:
    layer = nn.GRU(3, 4, kernel="fused", rng=np.random.default_rng(0))
    x = Tensor(np.ones((2, 1, 3), np.float32), requires_grad=True)
    output, _ = layer(x)
    with pytest.raises(GradError, match=r'GRU kernel at gru: a kernel has a first .*\n  Build .*kernel="steps"'):
        grad((output * output).sum(), [x], create_graph=True)


@pytest.mark.parametrize(("shape", "state"), [((3, 2, 5), 4), ((3, 2, 3), 7)])
def test_wrong_sizes_are_refused_as_the_step_does(shape: tuple[int, ...], state: int) -> None:
    cell = nn.LSTMCell(3, 4)
    wrong = nn.LSTMState(*(Tensor(np.zeros((2, state), np.float32)) for _ in range(2)))
    with pytest.raises(ShapeError, match=r"lstm step: x and the state do not fit a cell made for C=3 features and H=4"):
        fused(cell, np.zeros(shape, np.float32), wrong)


def test_float32_and_float64_do_not_mix() -> None:
    with pytest.raises(DTypeError, match="float32 and float64 do not mix"):
        fused(nn.LSTMCell(3, 4), np.zeros((2, 1, 3)))


def test_whole_numbers_take_the_weights_type() -> None:
    output, _ = fused(nn.RNNCell(3, 4), np.ones((2, 1, 3), np.int64))
    assert output.dtype == np.float32


@every_cell
def test_nothing_is_recorded_without_gradients(kind: str) -> None:
    cell = CELLS[kind]()
    with no_grad():
        output, last = fused(cell, np.ones((2, 1, 3), np.float32))
    assert output.op is None
    assert not any(s.requires_grad for s in (output, *last))


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(MinigradError, match=r"LSTM: kernel='fast'.\n  Choose 'steps' or 'fused'"):
        nn.LSTM(3, 4, kernel="fast")


@every_cell
def test_what_is_recorded_is_read_only_and_no_input_is_written(kind: str) -> None:
    cell = CELLS[kind](rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 2, 3)).astype(np.float32)
    before = x.copy()
    output, last = fused(cell, x, lengths=[4, 2])
    output.sum().backward()
    np.testing.assert_array_equal(x, before)
    for value in (output.numpy(), *(s.numpy() for s in last)):
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 1


@every_cell
def test_two_backwards_give_the_same_gradients(kind: str) -> None:
    cell = CELLS[kind](rng=np.random.default_rng(0))
    output, _ = fused(cell, np.random.default_rng(1).standard_normal((4, 2, 3)).astype(np.float32))
    loss = (output * output).sum()
    first, second = (grad(loss, cell.parameters()) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
