from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, nn
from minigrad.engine import topological
from minigrad.errors import MinigradError, ShapeError, StaleGraphError
from tests.oracles import STEPS, gradients, run

LAYERS: dict[str, Any] = {
    "rnn tanh": (nn.RNN, {}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru reset after": (nn.GRU, {}),
    "gru reset before": (nn.GRU, {"reset_after": False}),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def make(kind: str, rng: np.random.Generator, c: int = 3, h: int = 2, bias: bool = True) -> Any:
    layer, options = LAYERS[kind]
    return layer(c, h, bias=bias, rng=rng, dtype=np.float64, **options)


def float32(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


@every_layer
@pytest.mark.parametrize(
    ("t", "n", "c", "h", "bias"), [(4, 2, 3, 2, True), (1, 1, 1, 1, True), (5, 1, 2, 1, False), (1, 3, 1, 2, False)]
)
def test_values_and_every_gradient_equal_the_oracles(kind: str, t: int, n: int, c: int, h: int, bias: bool) -> None:
    rng = np.random.default_rng(11)
    layer = make(kind, rng, c, h, bias)
    fields = 2 if kind == "lstm" else 1
    x = Tensor(rng.standard_normal((t, n, c)), requires_grad=True)
    first = [Tensor(rng.standard_normal((n, h)), requires_grad=True) for _ in range(fields)]
    v, *lasts = rng.standard_normal((t, n, h)), *rng.standard_normal((fields, n, h))

    def oracle(x: Any, *rest: Any) -> Any:
        outputs, last = run(STEPS[kind], x, rest[:fields], rest[fields:])
        return (outputs * v).sum() + sum((s * w).sum() for s, w in zip(last, lasts, strict=True))

    output, last = layer(x, tuple(first) if fields == 2 else first[0])
    loss = (output * v).sum()
    for s, w in zip(last if fields == 2 else (last,), lasts, strict=True):
        loss = loss + (s * w).sum()
    loss.backward()
    leaves = [x, *first, *layer.parameters()]
    values = [leaf.numpy() for leaf in leaves]
    assert loss.item() == pytest.approx(oracle(*values), rel=1e-12)
    for leaf, expected in zip(leaves, gradients(oracle, values), strict=True):
        np.testing.assert_allclose(leaf.grad, expected, rtol=1e-11, atol=1e-14)


@every_layer
def test_without_a_state_the_layer_starts_from_zeros(kind: str) -> None:
    layer = make(kind, np.random.default_rng(0))
    x = Tensor(np.random.default_rng(1).standard_normal((3, 2, 3)))
    zeros = Tensor(np.zeros((2, 2)))
    given = layer(x, (zeros, zeros) if kind == "lstm" else zeros)[0]
    np.testing.assert_array_equal(layer(x)[0].numpy(), given.numpy())


@every_layer
def test_shapes_and_types_are_pytorchs(kind: str) -> None:
    kind_of, options = LAYERS[kind]
    output, last = kind_of(3, 2, **options)(float32(4, 5, 3))
    assert (output.shape, output.dtype) == ((4, 5, 2), np.float32)
    assert [s.shape for s in (last if kind == "lstm" else (last,))] == [(5, 2)] * (2 if kind == "lstm" else 1)


@every_layer
def test_the_last_output_is_the_last_state(kind: str) -> None:
    output, last = make(kind, np.random.default_rng(0))(Tensor(np.ones((4, 2, 3))))
    np.testing.assert_array_equal(output.numpy()[-1], (last.h if kind == "lstm" else last).numpy())


def test_an_lstm_takes_its_state_as_a_tuple_or_a_named_tuple() -> None:
    layer, rng = make("lstm", np.random.default_rng(0)), np.random.default_rng(1)
    x, h, c = (Tensor(rng.standard_normal(shape)) for shape in ((3, 2, 3), (2, 2), (2, 2)))
    (plain, _), (named, _) = layer(x, (h, c)), layer(x, nn.LSTMState(h=h, c=c))
    np.testing.assert_array_equal(plain.numpy(), named.numpy())
    assert not np.array_equal(plain.numpy(), layer(x, (c, h))[0].numpy())


def test_an_lstm_returns_a_named_state_that_it_takes_back() -> None:
    layer, x = make("lstm", np.random.default_rng(0)), np.random.default_rng(1).standard_normal((6, 2, 3))
    first, state = layer(Tensor(x[:4]))
    assert type(state) is nn.LSTMState
    second, _ = layer(Tensor(x[4:]), state)
    np.testing.assert_array_equal(np.concatenate([first.numpy(), second.numpy()]), layer(Tensor(x))[0].numpy())


@pytest.mark.parametrize(("kind", "state_type"), [("rnn tanh", nn.RNNState), ("gru reset after", nn.GRUState)])
def test_rnn_and_gru_take_their_state_as_a_tensor_a_tuple_or_a_named_tuple(kind: str, state_type: Any) -> None:
    layer, rng = make(kind, np.random.default_rng(0)), np.random.default_rng(1)
    x, h = Tensor(rng.standard_normal((3, 2, 3))), Tensor(rng.standard_normal((2, 2)))
    expected = layer(x, h)[0].numpy()
    for state in ((h,), state_type(h)):
        np.testing.assert_array_equal(layer(x, state)[0].numpy(), expected)


def test_one_state_for_two_sequences_gets_both_gradients() -> None:
    layer, rng = make("gru reset after", np.random.default_rng(0)), np.random.default_rng(1)
    a, b = (Tensor(rng.standard_normal((3, 1, 3))) for _ in range(2))
    parts = []
    for x in (a, b):
        h = Tensor(np.full((1, 2), 0.5), requires_grad=True)
        layer(x, h)[0].sum().backward(accumulate=True)
        parts.append(h.grad)
    h = Tensor(np.full((1, 2), 0.5), requires_grad=True)
    (layer(a, h)[0].sum() + layer(b, h)[0].sum()).backward(accumulate=True)
    np.testing.assert_allclose(h.grad, parts[0] + parts[1], rtol=1e-13)


def test_parameters_carry_pytorchs_names_in_its_order() -> None:
    layer = nn.LSTM(3, 2)
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert list(layer.state_dict()) == names
    assert [p.name for p in layer.parameters()] == names
    assert [v.shape for v in layer.state_dict().values()] == [(8, 3), (8, 2), (8,), (8,)]


def test_a_layer_computes_with_the_values_it_has_loaded() -> None:
    layer, other = (make("gru reset after", np.random.default_rng(seed)) for seed in (0, 1))
    x = Tensor(np.ones((3, 2, 3)))
    layer.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(layer(x)[0].numpy(), other(x)[0].numpy())


def test_a_layer_takes_its_cells_options() -> None:
    layer = nn.LSTM(3, 2, forget_bias=1.0, init="orthogonal", rng=np.random.default_rng(0), dtype=np.float64)
    np.testing.assert_array_equal((layer.bias_ih_l0.numpy() + layer.bias_hh_l0.numpy())[2:4], 1.0)
    block = layer.weight_hh_l0.numpy()[:2]
    np.testing.assert_allclose(block.T @ block, np.eye(2), atol=1e-15)


def test_every_op_knows_the_layer_the_time_step_and_the_gate() -> None:
    output, _ = nn.LSTM(3, 2)(float32(3, 1, 3))
    paths = {str(node.scope) for node in topological(output)}
    assert {f"lstm / t={t} / {gate} gate" for t in (1, 2, 3) for gate in ("input", "forget", "cell", "output")} <= paths
    assert {"lstm / t=3", "lstm / t=3 / pre-activation"} <= paths
    assert not any("t=0" in path or "t=4" in path for path in paths)


def test_an_error_in_a_layer_names_its_step_and_gate() -> None:
    output, _ = nn.LSTM(3, 2)(float32(3, 1, 3))
    gate = next(n for n in topological(output) if str(n.scope) == "lstm / t=3 / forget gate")
    gate.value.flags.writeable = True
    with pytest.raises(StaleGraphError, match=r"the value of sigmoid at lstm / t=3 / forget gate was unlocked"):
        output.sum().backward()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_batch_first_is_refused_with_its_remedy(kind: Any) -> None:
    message = rf"{kind.__name__}: batch_first is not offered\.\n  Give .*\(T, N, C\): x\.swapaxes\(0, 1\)"
    with pytest.raises(MinigradError, match=message):
        kind(3, 2, batch_first=True)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"num_layers": 2}, "num_layers is not offered.*output of one layer to the next"),
        ({"bidirectional": True}, "bidirectional is not offered.*second layer"),
        ({"dropout": 0.5}, "dropout is not offered.*Dropout between"),
    ],
)
def test_what_one_layer_cannot_do_is_refused_with_its_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(MinigradError, match=f"(?s)LSTM: {remedy}"):
        nn.LSTM(3, 2, **options)


def test_third_position_is_the_number_of_layers_as_in_pytorch() -> None:
    with pytest.raises(MinigradError, match="num_layers"):
        nn.GRU(3, 2, 2)
    assert nn.GRU(3, 2, 1).cells[0].bias_ih is not None


def test_proj_size_is_refused_with_its_remedy() -> None:
    with pytest.raises(MinigradError, match=r"LSTM: proj_size is not offered\.\n  Put a Linear on the output"):
        nn.LSTM(3, 2, proj_size=1)


@pytest.mark.parametrize("shape", [(4, 3), (3,), (1, 1, 4, 3)])
def test_inputs_without_time_batch_and_features_are_refused(shape: tuple[int, ...]) -> None:
    message = r"(?s)GRU: the inputs have shape \(.*Give \(T, N, C=3\).*a single sequence is x\.reshape\(T, 1, C\)"
    with pytest.raises(ShapeError, match=message):
        nn.GRU(3, 2)(float32(*shape))


def test_a_wrong_number_of_features_says_found_and_wanted() -> None:
    message = r"(?s)rnn step: .*C=3 features and H=2\.\n  x \(5, 4\).*Give x of shape \(5, 3\)"
    with pytest.raises(ShapeError, match=message):
        nn.RNN(3, 2)(float32(4, 5, 4))


def test_no_time_step_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"(?s)the inputs have shape \(0, 5, 3\).*T and N count from 1"):
        nn.RNN(3, 2)(float32(0, 5, 3))


def test_an_unknown_initialiser_is_refused() -> None:
    with pytest.raises(MinigradError, match=r"There is no initialiser 'ones'\.\n  Choose one of uniform, "):
        nn.GRU(3, 2, init="ones")
