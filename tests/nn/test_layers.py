from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, grad, nn, ops
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
    first = [Tensor(rng.standard_normal((1, n, h)), requires_grad=True) for _ in range(fields)]
    v, *lasts = rng.standard_normal((t, n, h)), *rng.standard_normal((fields, n, h))

    def oracle(x: Any, *rest: Any) -> Any:
        outputs, last = run(STEPS[kind], x, [s[0] for s in rest[:fields]], rest[fields:])
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
    zeros = Tensor(np.zeros((1, 2, 2)))
    given = layer(x, (zeros, zeros) if kind == "lstm" else zeros)[0]
    np.testing.assert_array_equal(layer(x)[0].numpy(), given.numpy())


@every_layer
def test_shapes_and_types_are_pytorchs(kind: str) -> None:
    kind_of, options = LAYERS[kind]
    output, last = kind_of(3, 2, **options)(float32(4, 5, 3))
    assert (output.shape, output.dtype) == ((4, 5, 2), np.float32)
    assert [s.shape for s in (last if kind == "lstm" else (last,))] == [(1, 5, 2)] * (2 if kind == "lstm" else 1)


@every_layer
def test_the_last_output_is_the_last_state(kind: str) -> None:
    output, last = make(kind, np.random.default_rng(0))(Tensor(np.ones((4, 2, 3))))
    np.testing.assert_array_equal(output.numpy()[-1:], (last.h if kind == "lstm" else last).numpy())


def test_an_lstm_takes_its_state_as_a_tuple_or_a_named_tuple() -> None:
    layer, rng = make("lstm", np.random.default_rng(0)), np.random.default_rng(1)
    x, h, c = (Tensor(rng.standard_normal(shape)) for shape in ((3, 2, 3), (1, 2, 2), (1, 2, 2)))
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
    x, h = Tensor(rng.standard_normal((3, 2, 3))), Tensor(rng.standard_normal((1, 2, 2)))
    expected = layer(x, h)[0].numpy()
    for state in ((h,), state_type(h)):
        np.testing.assert_array_equal(layer(x, state)[0].numpy(), expected)


def test_one_state_for_two_sequences_gets_both_gradients() -> None:
    layer, rng = make("gru reset after", np.random.default_rng(0)), np.random.default_rng(1)
    a, b = (Tensor(rng.standard_normal((3, 1, 3))) for _ in range(2))
    parts = []
    for x in (a, b):
        h = Tensor(np.full((1, 1, 2), 0.5), requires_grad=True)
        layer(x, h)[0].sum().backward(accumulate=True)
        parts.append(h.grad)
    h = Tensor(np.full((1, 1, 2), 0.5), requires_grad=True)
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


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_third_position_is_the_number_of_layers_and_the_fourth_the_bias(kind: Any) -> None:
    layer = kind(3, 2, 2, False)
    assert layer.num_layers == 2
    assert list(layer.state_dict()) == ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"]


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


# Layers, directions, lengths, dropout

every_depth = pytest.mark.parametrize(("layers", "directions"), [(1, 2), (2, 1), (2, 2), (3, 2)])
every_length = pytest.mark.parametrize("lengths", [None, (3, 1, 5, 2)])


def deep(kind: str, layers: int, directions: int, **options: Any) -> Any:
    layer, own = LAYERS[kind]
    return layer(
        3, 2, layers, bidirectional=directions == 2, rng=np.random.default_rng(21), dtype=np.float64, **own, **options
    )


def turned(x: Tensor, lengths: Any) -> Tensor:
    """Each sample from its own end to its start; what lies beyond stays where it is."""
    steps, batch = x.shape[:2]
    order = np.tile(np.arange(steps)[:, np.newaxis], batch)
    for s, end in enumerate([steps] * batch if lengths is None else lengths):
        order[:end, s] = order[:end, s][::-1]
    return x[order, np.arange(batch)]


def composed(kind: str, layer: Any, x: Tensor, state: Any, lengths: Any, masks: Any = ()) -> Any:
    """The same by hand: single layers with these weights, each reading what the one below hands up."""
    single, options = LAYERS[kind]
    parameters, lasts = dict(layer.named_parameters()), []
    directions = 1 + layer.bidirectional
    for k in range(layer.num_layers):
        if k and masks:
            x = x * masks[k - 1]
        outputs = []
        for d in range(directions):
            one = single(x.shape[2], 2, dtype=np.float64, **options)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):  # the very parameters, not their values
                object.__setattr__(one.walks[0].cell, name, parameters[f"{name}_l{k}{'_reverse' * d}"])
            row = k * directions + d
            first = tuple(s[row : row + 1] for s in state)
            output, last = one(turned(x, lengths) if d else x, first, lengths=lengths)
            outputs.append(turned(output, lengths) if d else output)
            lasts.append(last if kind == "lstm" else (last,))
        x = ops.concatenate(*outputs, axis=-1)
    return x, [ops.concatenate(*field, axis=0) for field in zip(*lasts, strict=True)]


def weighed(output: Any, last: Any) -> Any:
    rng = np.random.default_rng(22)
    return sum((y * rng.standard_normal(y.shape)).sum() for y in (output, *last))


def drawn(kind: str, layers: int, directions: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    rng = np.random.default_rng(23)
    x = Tensor(rng.standard_normal((5, 4, 3)), requires_grad=True)
    shape = (layers * directions, 4, 2)
    return x, tuple(Tensor(rng.standard_normal(shape), requires_grad=True) for _ in range(2 if kind == "lstm" else 1))


def assert_same(found: Any, expected: Any, leaves: Any) -> None:
    """Outputs, last states and every gradient of a weighed sum of them."""
    for ours, theirs in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, atol=1e-15)
    for ours, theirs in zip(grad(weighed(*found), leaves), grad(weighed(*expected), leaves), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def fields_of(kind: str, result: Any) -> Any:
    """(output, the fields of the last state)."""
    return result if kind == "lstm" else (result[0], (result[1],))


@every_length
@every_depth
@every_layer
def test_layers_and_directions_are_single_layers_composed_by_hand(
    kind: str, layers: int, directions: int, lengths: Any
) -> None:
    layer, (x, state) = deep(kind, layers, directions), drawn(kind, layers, directions)
    found = fields_of(kind, layer(x, state, lengths=lengths))
    assert found[0].shape == (5, 4, 2 * directions)
    assert_same(found, composed(kind, layer, x, state, lengths), [x, *state, *layer.parameters()])


@every_length
@every_layer
def test_dropout_acts_between_layers_with_masks_of_the_layers_own_generator(kind: str, lengths: Any) -> None:
    layer, (x, state) = deep(kind, 3, 2, dropout=0.4), drawn(kind, 3, 2)
    layer.rng = np.random.default_rng(5)
    found = fields_of(kind, layer(x, state, lengths=lengths))
    same = np.random.default_rng(5)
    masks = [(same.random((5, 4, 4)) >= 0.4) / 0.6 for _ in range(2)]
    assert_same(found, composed(kind, layer, x, state, lengths, masks), [x, *state, *layer.parameters()])


def test_every_call_drops_other_elements_and_one_seed_the_same() -> None:
    x = Tensor(np.ones((5, 4, 3)))
    one, other = deep("lstm", 2, 1, dropout=0.5), deep("lstm", 2, 1, dropout=0.5)
    first, second = one(x)[0].numpy(), one(x)[0].numpy()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(other(x)[0].numpy(), first)
    np.testing.assert_array_equal(other(x)[0].numpy(), second)


@every_layer
def test_at_evaluation_nothing_is_dropped_and_no_number_is_drawn(kind: str) -> None:
    layer, plain, x = deep(kind, 2, 2, dropout=0.5), deep(kind, 2, 2), Tensor(np.ones((3, 2, 3)))
    layer.eval()
    before = layer.rng.bit_generator.state
    np.testing.assert_array_equal(layer(x)[0].numpy(), plain(x)[0].numpy())
    assert layer.rng.bit_generator.state == before
    layer.train()
    assert not np.array_equal(layer(x)[0].numpy(), plain(x)[0].numpy())


def test_a_model_that_holds_a_layer_switches_its_dropout() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.layer = deep("gru reset after", 2, 1, dropout=0.5)

    model, x = Model(), Tensor(np.ones((3, 2, 3)))
    assert not np.array_equal(model.layer(x)[0].numpy(), model.layer(x)[0].numpy())
    model.eval()
    np.testing.assert_array_equal(model.layer(x)[0].numpy(), model.layer(x)[0].numpy())


@every_length
@every_layer
def test_last_states_stand_layer_by_layer_the_forward_direction_first(kind: str, lengths: Any) -> None:
    layer, (x, state) = deep(kind, 2, 2), drawn(kind, 2, 2)
    output, (h, *_) = fields_of(kind, layer(x, state, lengths=lengths))
    assert h.shape == (4, 4, 2)
    ends = np.array(lengths or [5] * 4) - 1
    np.testing.assert_array_equal(h.numpy()[2], output.numpy()[ends, np.arange(4), :2])
    np.testing.assert_array_equal(h.numpy()[3], output.numpy()[0, :, 2:])


@every_layer
def test_states_of_all_layers_carry_on_into_the_next_chunk(kind: str) -> None:
    layer, (x, state) = deep(kind, 3, 1), drawn(kind, 3, 1)
    first, middle = layer(x[:2], state)
    second, last = fields_of(kind, layer(x[2:], middle))
    whole, expected = fields_of(kind, layer(x, state))
    np.testing.assert_array_equal(np.concatenate([first.numpy(), second.numpy()]), whole.numpy())
    for ours, theirs in zip(last, expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@every_depth
@every_layer
def test_padding_of_any_sort_has_no_effect_on_any_layer(kind: str, layers: int, directions: int) -> None:
    layer, (x, state) = deep(kind, layers, directions), drawn(kind, layers, directions)
    past = (np.arange(5)[:, np.newaxis] >= (3, 1, 5, 2))[:, :, np.newaxis]
    results = []
    for padding in (0.0, np.nan):
        padded = Tensor(np.where(past, padding, x.numpy()), requires_grad=True)
        output, last = fields_of(kind, layer(padded, state, lengths=(3, 1, 5, 2)))
        leaves = [padded, *state, *layer.parameters()]
        results.append([output.numpy(), *(s.numpy() for s in last), *grad(weighed(output, last), leaves)])
    for clean, spoilt in zip(*results, strict=True):
        np.testing.assert_array_equal(clean, spoilt)


def test_parameters_of_layers_and_directions_carry_pytorchs_names_in_its_order() -> None:
    layer = nn.LSTM(3, 2, 2, bidirectional=True)
    names = [
        f"{name}_l{k}{suffix}"
        for k in range(2)
        for suffix in ("", "_reverse")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert list(layer.state_dict()) == names
    assert [p.name for p in layer.parameters()] == names
    assert layer.weight_ih_l0_reverse.shape == (8, 3)
    assert layer.weight_ih_l1.shape == layer.weight_ih_l1_reverse.shape == (8, 4)


def test_a_stack_computes_with_the_values_it_has_loaded() -> None:
    layer, other = deep("lstm", 2, 2), deep("lstm", 2, 2)
    for p in other.parameters():
        p.data = p.numpy() * 0.5
    x = Tensor(np.ones((3, 2, 3)))
    assert not np.array_equal(layer(x)[0].numpy(), other(x)[0].numpy())
    layer.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(layer(x)[0].numpy(), other(x)[0].numpy())


def test_every_layer_takes_the_cells_options() -> None:
    layer = nn.LSTM(3, 2, 2, bidirectional=True, forget_bias=1.0)
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        biases = getattr(layer, f"bias_ih_{name}").numpy() + getattr(layer, f"bias_hh_{name}").numpy()
        np.testing.assert_array_equal(biases[2:4], 1.0)


def test_every_op_of_a_stack_knows_its_layer_and_direction() -> None:
    output, _ = nn.LSTM(3, 2, 2, bidirectional=True)(float32(3, 1, 3))
    paths = {str(node.scope) for node in topological(output)}
    walks = ("l0", "l0_reverse", "l1", "l1_reverse")
    assert {f"lstm / {walk} / t={t} / forget gate" for walk in walks for t in (1, 2, 3)} <= paths
    assert not any(path.startswith("lstm / t=") for path in paths)


@every_layer
def test_the_graph_of_a_padded_stack_is_freed_with_its_last_user(kind: str) -> None:
    layer, (x, state) = deep(kind, 2, 2, dropout=0.5), drawn(kind, 2, 2)
    result = fields_of(kind, layer(x, state, lengths=(3, 1, 5, 2)))
    loss = weighed(*result)
    nodes = [weakref.ref(node) for node in topological(loss) if node.op is not None]
    gc.disable()
    try:
        loss.backward()
        del result, loss
        assert [node() for node in nodes] == [None] * len(nodes)
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [0, -1, 2.0])
def test_no_whole_number_of_layers_from_1_is_refused(kind: Any, layers: Any) -> None:
    with pytest.raises(MinigradError, match=rf"{kind.__name__}: num_layers={layers}\.\n  Give a whole number from 1"):
        kind(3, 2, layers)


def test_dropout_of_a_single_layer_is_refused_with_its_remedy() -> None:
    message = r"GRU: dropout=0\.5 acts between layers, and there is one\.\n  Give num_layers=2 or more, or put a"
    with pytest.raises(MinigradError, match=message):
        nn.GRU(3, 2, dropout=0.5)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_of_dropping_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(MinigradError, match=r"dropout: p is .*\n  Give the probability of dropping an element"):
        nn.LSTM(3, 2, 2, dropout=p)


def test_a_nonlinearity_in_the_place_of_the_bias_is_refused() -> None:
    # torch.nn.RNN has its nonlinearity in the fourth position
    message = r"RNN: bias='relu'\.\n  Give True or False; options of the cell go by name"
    with pytest.raises(MinigradError, match=message):
        nn.RNN(3, 2, 1, "relu")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shapes", "found"),
    [
        ("lstm", [(4, 5, 2)], r"1 part, of shape \(4, 5, 2\)"),
        ("lstm", [(4, 5, 2), (4, 5, 3)], r"2 parts, of shape \(4, 5, 2\), \(4, 5, 3\)"),
        ("lstm", [(5, 2), (5, 2)], r"2 parts, of shape \(5, 2\), \(5, 2\)"),
        ("gru reset after", [(2, 5, 2)], r"1 part, of shape \(2, 5, 2\)"),
        ("gru reset after", [(4, 5, 2), (4, 5, 2)], r"2 parts, of shape"),
    ],
)
def test_a_state_that_does_not_fit_says_found_and_wanted(kind: str, shapes: Any, found: str) -> None:
    layer = deep(kind, 2, 2)
    wanted = "h and c, each" if kind == "lstm" else "h, each"
    message = rf"the state has {found}(.|\n)*Give {wanted} of shape \(layers x directions=4, N=5, H=2\)"
    with pytest.raises(ShapeError, match=message):
        layer(Tensor(np.zeros((3, 5, 3))), tuple(Tensor(np.zeros(shape)) for shape in shapes))


def test_lengths_that_do_not_fit_a_layer_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"lengths: found \[3, 6\] for inputs of T=5 steps and N=2 samples"):
        nn.LSTM(3, 2)(float32(5, 2, 3), lengths=[3, 6])
