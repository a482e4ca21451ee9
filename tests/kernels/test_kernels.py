"""The kernels against the unrolled cell they are named after, and against the complex step of a plain oracle."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minigrad import Tensor, bptt, grad, nn
from minigrad.bptt.record import norms_of
from minigrad.kernels import gru, lstm, sequence
from tests import oracles
from tests.kernels.cases import BLOCKS, KERNELS, Case, run

EACH_KERNEL = pytest.mark.parametrize("kind", KERNELS)
EACH_DIRECTION = pytest.mark.parametrize("reverse", [False, True])
ALL_ONE = {"steps": 1, "batch": 1, "features": 1, "hidden": 1}
SIZES = [{}, {"steps": 1}, {"batch": 1}, {"hidden": 1}, {"features": 1}, ALL_ONE]


def close(found, wanted, rtol=1e-10):
    """Equal to a part of the largest number in each row, so that a row of 1e-100 is compared too."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    size = np.abs(wanted).max(axis=-1, keepdims=True, initial=0)
    error = np.abs(found - wanted)
    assert (error <= rtol * size).all(), f"off by {np.nanmax(error / np.where(size, size, 1)):.1e} of the largest"


def reference(case):
    """The cell unrolled: outputs, last states, the gradients in the kernel's order, and the sequence of the record."""
    _, options, cell_type = KERNELS[case.kind]
    blocks = BLOCKS[case.kind]
    cell = cell_type(
        case.x.shape[-1], len(case.weights[0]) // blocks, case.weights[2] is not None, dtype=case.x.dtype, **options
    )
    parameters = list(cell.parameters())
    for parameter, value in zip(parameters, case.weights):
        parameter.data = value
    x, *first = (Tensor(a, requires_grad=True) for a in (case.x, *case.first))
    output, last = nn.unroll(cell, x, cell.state_type(*first))
    loss = (output * case.g).sum()
    for state, g in zip(last, case.g_last, strict=True):
        loss = loss + (state * g).sum()
    gradients = grad(loss, [x, *first, *parameters])
    return output.numpy(), [s.numpy() for s in last], list(gradients), bptt.backward(loss).sequences["l0"]


@EACH_KERNEL
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_kernel_is_the_unrolled_cell(kind, sizes, bias):
    case = Case.make(kind, bias=bias, **sizes)
    output, last, gradients, steps = reference(case)
    found = run(case)
    close(found.output, output)
    for k, state in enumerate(last):
        close(found.last[k], state)
    assert [g is None for g in found.gradients] == [False] * (len(found.gradients) - 2) + [not bias] * 2
    for mine, theirs in zip([g for g in found.gradients if g is not None], gradients, strict=True):
        close(mine, theirs)
    for name, values in steps.states.items():
        close(found.saved.states[name], values)
        close(found.trace.gradients[name], steps.gradients[name])
    for name in found.saved.gates.keys() & steps.gates.keys():
        close(found.saved.gates[name], steps.gates[name])
    for name, values in found.trace.gate_gradients.items():
        close(norms_of(values), steps.gate_norms[name])
    for state, parts in found.trace.arrivals.items():
        assert parts.keys() == steps.arrivals[state].keys() - {"outside"} - ({"same"} if state == "h" else set())
        for name, values in parts.items():
            close(norms_of(values), steps.arrivals[state][name])


@pytest.mark.parametrize(
    ("kind", "names"),
    [("rnn tanh", "a"), ("rnn relu", "a"), ("lstm", "figo"), ("gru reset after", "rznm"), ("gru reset before", "rznm")],
)
def test_every_gate_is_handed_out(kind, names):
    found = run(Case.make(kind))
    assert list(found.saved.gates) == list(names)
    assert list(found.trace.gate_gradients) == list(names.removesuffix("m"))


# Lengths and direction, each sample alone in the oracle


def alone(case, n, length, reverse):
    """One sample through the oracle: outputs, last states, and the gradients of x, states, weights and every step."""
    blocks, hidden = BLOCKS[case.kind], case.g.shape[-1]
    mine = case.sample(n, length)
    turn = slice(None, None, -1 if reverse else 1)
    # features of value 0 and weight 1: what they get is the gradient of the pre-activations
    x = np.concatenate((mine.x, np.zeros((length, 1, blocks * hidden))), axis=-1)[turn]
    wide = [np.concatenate((case.weights[0], np.eye(blocks * hidden)), axis=1), *case.weights[1:]]
    weights = [w for w in wide if w is not None]
    step, states = oracles.STEPS[case.kind], len(mine.first)

    def loss_of(outputs, last):
        return (outputs * mine.g[turn]).sum() + sum((s * g).sum() for s, g in zip(last, mine.g_last))

    def loss(x, *rest):
        return loss_of(*oracles.run(step, x, rest[:states], rest[states:]))

    outputs, last = oracles.run(step, x, mine.first, weights)
    d_x, *d_rest = oracles.gradients(loss, [x, *mine.first, *weights])
    features = case.x.shape[-1]
    d_states = oracles.state_gradients(step, loss_of, x, mine.first, weights)
    d_weights = [d_rest[states][:, :features], *d_rest[states + 1 :]]
    per_step = {"a": d_x[turn][..., features:], **{name: d[turn] for name, d in zip("hc", d_states)}}
    return outputs[turn], last, d_x[turn][..., :features], d_rest[:states], d_weights, per_step


@EACH_KERNEL
@EACH_DIRECTION
@pytest.mark.parametrize(
    ("lengths", "bias"),
    [(None, True), (None, False), ([2, 4, 1], True), ([2, 4, 1], False), ([1, 1, 1], True), ([3, 2, 3], True)],
)
@pytest.mark.slow
def test_each_sample_runs_over_its_own_length_as_if_alone(kind, reverse, lengths, bias):
    case = Case.make(kind, steps=4, features=2, bias=bias, seed=1)
    found = run(case, None if lengths is None else np.array(lengths), reverse)
    total = [np.zeros_like(w) for w in case.weights if w is not None]
    for n, length in enumerate(lengths or [4] * 3):
        outputs, last, d_x, d_first, d_weights, per_step = alone(case, n, length, reverse)
        one = slice(n, n + 1)
        close(found.output[:length, one], outputs)
        close(found.gradients.x[:length, one], d_x)
        for k, state in enumerate(last):
            close(found.last[k][one], state)
            close(found.gradients[1 + k][one], d_first[k])
        for name, values in per_step.items():
            close(found.trace.gradients[name][:length, one], values)
        total = [t + d for t, d in zip(total, d_weights, strict=True)]
        for array in (found.output, found.gradients.x, *found.steps().values()):
            assert not array[length:, n].any()
    for mine, theirs in zip([g for g in found.gradients[-4:] if g is not None], total, strict=True):
        close(mine, theirs, 1e-9)


@EACH_KERNEL
@EACH_DIRECTION
def test_lengths_give_every_step_what_the_kernel_gives_the_sample_alone(kind, reverse):
    case, lengths = Case.make(kind, steps=6, batch=4, seed=2), np.array([3, 6, 1, 3])
    found = run(case, lengths, reverse).steps()
    for n, length in enumerate(lengths.tolist()):
        for name, values in run(case.sample(n, length), reverse=reverse).steps().items():
            close(found[name][:length, n : n + 1], values)


@EACH_KERNEL
def test_hidden_side_of_the_pre_activations_makes_the_gradient_of_the_recurrent_weights(kind):
    case = Case.make(kind, seed=3)
    found = run(case)
    before = np.concatenate((case.first[0][np.newaxis], found.output[:-1]))
    d_a = found.trace.gradients["a_hh" if "gru" in kind else "a"]
    product = np.einsum("tnk,tnh->kh", d_a, before)
    if kind == "gru reset before":  # W_hn acts on r * h
        hidden = case.g.shape[-1]
        product[-hidden:] = np.einsum("tnk,tnh->kh", d_a[..., -hidden:], found.saved.gates["m"])
    close(product, found.gradients.weight_hh)


@EACH_KERNEL
@EACH_DIRECTION
def test_what_padding_holds_reaches_nothing(kind, reverse):
    case, lengths = Case.make(kind), np.array([2, 5, 3])
    padding = np.arange(5)[:, np.newaxis] >= lengths
    expected = run(case, lengths, reverse).arrays()
    x, g = case.x.copy(), case.g.copy()
    x[padding], g[padding] = np.nan, np.inf
    for name, values in run(case._replace(x=x, g=g), lengths, reverse).arrays().items():
        np.testing.assert_array_equal(values, expected[name])


@EACH_KERNEL
@EACH_DIRECTION
@pytest.mark.parametrize("lengths", [None, [4, 5, 2]])
def test_pieces_of_any_size_give_the_same(kind, reverse, lengths, monkeypatch):
    case = Case.make(kind)
    lengths = lengths and np.array(lengths)
    whole = run(case, lengths, reverse).arrays()
    for elements in (1, 2 * 3 * 4 * 2):
        monkeypatch.setattr(sequence, "ELEMENTS_IN_CACHE", elements)
        for name, values in run(case, lengths, reverse).arrays().items():
            close(values, whole[name], 1e-13)


# Types and numbers


@EACH_KERNEL
@pytest.mark.parametrize("lengths", [None, [4, 5, 2]])
def test_float32_stays_float32_throughout(kind, lengths):
    case = Case.make(kind, dtype=np.float32)
    lengths = lengths and np.array(lengths)
    wide = case._replace(
        x=case.x.astype(float), first=[s.astype(float) for s in case.first], g=case.g.astype(float),
        weights=[w.astype(float) for w in case.weights], g_last=[s.astype(float) for s in case.g_last],
    )  # fmt: skip
    expected = run(wide, lengths).arrays()
    for name, values in run(case, lengths).arrays().items():
        assert values.dtype == np.float32, name
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=2e-4)


@EACH_KERNEL
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturation_neither_warns_nor_overflows(kind, dtype):
    case = Case.make(kind, dtype=dtype, scale=40.0)
    case = case._replace(weights=[case.weights[0], case.weights[1] / 1000, *case.weights[2:]])
    for array in run(case).arrays().values():
        assert np.isfinite(array).all()


@pytest.mark.parametrize("kind", ["lstm", "gru reset after", "gru reset before"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nearly_closed_gate_keeps_all_its_digits(kind, dtype):
    """0.5 * tanh(a / 2) + 0.5 would be 0 here in float32."""
    case = Case.make(kind, dtype=dtype, steps=1)
    case = case._replace(weights=[w * 0 for w in case.weights[:2]] + [w * 0 - 15 for w in case.weights[2:]])
    gates = run(case).saved.gates
    for name in "if" if kind == "lstm" else "rz":
        np.testing.assert_allclose(gates[name], np.exp(-30.0), rtol=1e-5 if dtype is np.float32 else 1e-12)


def test_open_update_gate_keeps_the_state_to_the_last_bit_of_zero_inputs():
    case = Case.make("gru reset after", steps=50, dtype=np.float32)
    size = case.g.shape[-1]
    b = np.zeros(3 * size, np.float32)
    b[size : 2 * size] = 500
    case = case._replace(weights=[case.weights[0] * 0, case.weights[1] * 0, b, b])
    np.testing.assert_array_equal(run(case).output, np.broadcast_to(case.first[0], case.g.shape))


@EACH_KERNEL
def test_vanished_gradient_is_exact(kind):
    """Through weights of 1e-3 every step takes three digits or more, down to below 1e-60."""
    case = Case.make(kind, steps=30, batch=1, features=1, seed=4)
    biases = [abs(b) if "rnn" in kind else b - 5 for b in case.weights[2:]]
    case = case._replace(
        weights=[case.weights[0], case.weights[1] * 1e-3, *biases],
        g=np.where(np.arange(30)[:, np.newaxis, np.newaxis] < 29, 0, case.g),
    )
    step = oracles.STEPS[case.kind]

    def loss(outputs, last):
        return (outputs * case.g).sum() + sum((s * g).sum() for s, g in zip(last, case.g_last))

    expected = oracles.state_gradients(step, loss, case.x, case.first, case.weights)
    found = run(case).trace.gradients
    assert 0 < np.abs(expected[0][0]).max() < 1e-30
    for name, values in zip("hc", expected):
        close(found[name], values)


@EACH_KERNEL
def test_nan_stays_in_its_sample_and_after_its_step(kind):
    case = Case.make(kind)
    x = case.x.copy()
    x[2, 1] = np.nan
    with np.errstate(all="ignore"):
        output = run(case._replace(x=x)).output
    bad = np.isnan(output).any(axis=-1)
    np.testing.assert_array_equal(np.argwhere(bad), [[2, 1], [3, 1], [4, 1]])


def test_infinite_last_state_of_a_short_sequence_spoils_no_gradient():
    """It is in the rows of the next step, where padding begins, and 0 * inf is NaN."""
    case = Case.make("rnn relu", steps=3, batch=2, features=1, hidden=1)
    x = np.abs(case.x)
    x[1, 0] = np.inf
    weights = [np.ones_like(w) for w in case.weights]
    with np.errstate(all="ignore"):
        found = run(case._replace(x=x, weights=weights, first=[np.abs(case.first[0])]), np.array([2, 3]))
    assert np.isinf(found.last[0][0])
    assert np.isfinite(found.gradients.weight_hh).all()


# What a caller may rely on


@EACH_KERNEL
@pytest.mark.parametrize("lengths", [None, [4, 5, 2]])
@EACH_DIRECTION
def test_inputs_are_read_only_and_stay_as_they_are(kind, lengths, reverse):
    case = Case.make(kind)
    before = [a.copy() for a in case.arrays()]
    for array in case.arrays():
        array.flags.writeable = False
    run(case, lengths and np.array(lengths), reverse)
    for array, value in zip(case.arrays(), before, strict=True):
        np.testing.assert_array_equal(array, value)


@EACH_KERNEL
@pytest.mark.parametrize("lengths", [None, [4, 5, 2]])
def test_what_was_returned_survives_the_next_call(kind, lengths):
    lengths = lengths and np.array(lengths)
    found = run(Case.make(kind), lengths).arrays()
    before = {name: array.copy() for name, array in found.items()}
    run(Case.make(kind, seed=5), lengths)
    for name, array in found.items():
        np.testing.assert_array_equal(array, before[name])


@EACH_KERNEL
def test_backward_may_run_again(kind):
    case = Case.make(kind)
    module, options, _ = KERNELS[kind]
    *_, saved = module.forward(case.x, *case.first, *case.weights, **options)
    once, again = (module.backward(saved, case.g, *case.g_last, case.x, *case.weights[:2])[0] for _ in range(2))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)


@EACH_KERNEL
def test_threads_do_not_meet(kind):
    cases = [Case.make(kind, steps=40, batch=8, hidden=16, seed=s) for s in range(8)]
    alone = [run(case).arrays() for case in cases]
    with ThreadPoolExecutor(8) as pool:
        for found, expected in zip(pool.map(run, cases), alone, strict=True):
            for name, values in found.arrays().items():
                np.testing.assert_array_equal(values, expected[name])


@EACH_KERNEL
def test_only_what_is_needed_is_computed(kind):
    case = Case.make(kind)
    whole = run(case).gradients
    for k, name in enumerate(whole._fields):
        needs = tuple(j == k for j in range(len(whole)))
        found = run(case, needs=needs).gradients
        assert [j for j, g in enumerate(found) if g is not None] == [k], name
        np.testing.assert_array_equal(found[k], whole[k])


@EACH_KERNEL
@EACH_DIRECTION
@pytest.mark.parametrize("lengths", [None, [4, 5, 2]])
def test_a_cotangent_of_none_is_zeros(kind, reverse, lengths):
    case = Case.make(kind)
    lengths = lengths and np.array(lengths)
    empty = case._replace(g=None, g_last=[None] * len(case.g_last))
    zeros = case._replace(g=case.g * 0, g_last=[g * 0 for g in case.g_last])
    for parts in ({"g"}, {"g_last"}):
        mixed = [c._replace(**{p: getattr(case, p) for p in parts}) for c in (empty, zeros)]
        found, expected = (run(c, lengths, reverse).arrays() for c in mixed)
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("module", [lstm, gru])
def test_no_warning_filter_is_needed(module):
    case = Case.make("lstm" if module is lstm else "gru reset after", scale=1e3, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(case._replace(g=case.g * 0))


# The order of work


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_steps_with_equally_many_rows_form_a_run(dtype):
    plan = sequence.arrange(6, 4, np.array([3, 6, 1, 3], dtype), False)
    assert plan.runs == ((0, 1, 4), (1, 3, 3), (3, 6, 1))
    assert plan.padding.lengths.tolist() == [6, 3, 3, 1]


@EACH_DIRECTION
def test_full_lengths_are_no_lengths(reverse):
    assert sequence.arrange(3, 2, np.array([3, 3]), reverse) == sequence.arrange(3, 2, None, reverse)


def test_steps_past_every_length_are_in_no_run():
    assert sequence.arrange(9, 2, np.array([2, 3]), False).runs == ((0, 2, 2), (2, 3, 1))


@EACH_DIRECTION
@pytest.mark.parametrize("lengths", [None, [2, 4, 1]])
def test_restoring_undoes_arranging(reverse, lengths):
    rng = np.random.default_rng(0)
    plan = sequence.arrange(4, 3, lengths and np.array(lengths), reverse)
    array, rows = rng.standard_normal((4, 3, 2)), rng.standard_normal((3, 2))
    real = np.arange(4)[:, np.newaxis] < np.array(lengths or [4] * 3)
    np.testing.assert_array_equal(plan.restored(plan.arranged(array)), np.where(real[..., np.newaxis], array, 0))
    np.testing.assert_array_equal(plan.restored_rows(plan.arranged_rows(rows)), rows)


def test_arranging_puts_zeros_where_padding_was():
    plan, array = sequence.arrange(4, 3, np.array([2, 4, 1]), False), np.ones((4, 3, 2))
    np.full(array.shape, np.nan)  # dropped at once: the memory that an array left empty would get
    assert plan.arranged(array).sum(axis=(1, 2)).tolist() == [6, 4, 2, 2]


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_chunks_cover_the_steps_once(steps):
    plan = sequence.arrange(steps, 3, None, False)
    chunks = list(plan.chunks(10_000))
    assert [t for c in chunks for t in range(c.start, c.stop)] == list(range(steps))
