"""The terms of a shared weight's gradient, against matrices that are really formed and against closed forms."""

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest

from minigrad import bptt, nn
from minigrad.bptt.record import ParameterRecord, Record, StackedTerms, Term
from minigrad.bptt.terms import step_terms
from minigrad.errors import RecordError
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS, Linear


def record_of(kind, kernel="steps", steps=6, batch=3, hidden=4, use="every", dtype=np.float64, **options):
    layer_type, own = KINDS[kind]
    lengths = options.pop("lengths", None)
    rng = np.random.default_rng(3)
    layer = layer_type(5, hidden, kernel=kernel, rng=rng, dtype=dtype, **own, **options)
    x = rng.standard_normal((steps, batch, 5)).astype(dtype)
    output, _ = layer(x, lengths=lengths)
    weights = rng.standard_normal(output.shape).astype(dtype)
    if use == "last":
        weights[:-1] = 0
        return bptt.backward((output[-1] * weights[-1]).sum())
    return bptt.backward((output * weights).sum())


def formed(record, parameter, sequence):
    """Every step's term as a matrix in float64, by input time."""
    p, s = record.parameters[parameter], record.sequences[sequence]
    terms = np.zeros((s.steps, *p.shape))
    for term in p.terms:
        if term.sequence == sequence:
            left, right = term.left.astype(np.float64), term.right
            terms[term.time] += left if right is None else left.T @ right.astype(np.float64)
    return terms[::-1] if s.reverse else terms


def norms(matrices):
    return [np.linalg.norm(m) for m in matrices]


def assert_measured(record, rtol=1e-10):
    found = step_terms(record)
    assert found
    for measured in found:
        p, s = record.parameters[measured.parameter], record.sequences[measured.sequence]
        terms = formed(record, p.name, s.name)
        turn = slice(None, None, -1 if s.reverse else 1)
        total = p.gradient.astype(np.float64)
        size = np.linalg.norm(total)
        close = {"rtol": rtol, "atol": rtol * max(size, 1e-300)}
        np.testing.assert_allclose(measured.total, size, rtol=1e-6)
        np.testing.assert_allclose(measured.norms[turn], norms(terms), **close)
        if not size:  # of W_hh at the first step, which starts from zeros
            assert s.steps == 1
            assert np.isnan(measured.shares).all()
            continue
        along = np.array([(m * total).sum() for m in terms])
        np.testing.assert_allclose(measured.shares[turn], along / size**2, rtol=rtol, atol=max(rtol, 1e-12))
        some = np.array(norms(terms)) > 0
        expected = along[some] / np.array(norms(terms))[some] / size
        np.testing.assert_allclose(measured.cosines[turn][some], expected, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(measured.from_first[turn], norms(np.cumsum(terms, axis=0)), **close)
        np.testing.assert_allclose(measured.from_last[turn], norms(np.cumsum(terms[::-1], axis=0)[::-1]), **close)


@EACH_KIND
@EACH_KERNEL
def test_every_number_is_that_of_the_matrices(kind, kernel):
    assert_measured(record_of(kind, kernel))


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (7, 1), (40, 20)])
def test_any_number_of_steps_and_samples(kind, kernel, steps, batch):
    assert_measured(record_of(kind, kernel, steps, batch))


@EACH_KIND
@EACH_KERNEL
def test_both_directions_two_layers_and_unequal_lengths(kind, kernel):
    record = record_of(kind, kernel, num_layers=2, bidirectional=True, lengths=[4, 6, 1])
    assert len({m.sequence for m in step_terms(record)}) == 4
    assert_measured(record)


@EACH_KERNEL
def test_float32_is_measured_in_float64(kernel):
    assert_measured(record_of("lstm", kernel, dtype=np.float32), rtol=2e-6)


@EACH_KIND
@EACH_KERNEL
def test_shares_add_up_to_one(kind, kernel):
    for measured in step_terms(record_of(kind, kernel, steps=30)):
        assert np.nansum(measured.shares) == pytest.approx(1, abs=1e-12)
        assert measured.elsewhere == pytest.approx(0, abs=1e-12)
        assert (np.abs(measured.cosines[~np.isnan(measured.cosines)]) <= 1).all()


def test_the_two_directions_of_adding_up_end_at_the_same_gradient():
    for m in step_terms(record_of("lstm", steps=50)):
        assert m.from_last[0] == pytest.approx(m.total, rel=1e-12)
        assert m.from_first[-1] == pytest.approx(m.total, rel=1e-12)


@pytest.mark.parametrize("w", [0.5, -0.9, 1.0, 1.2])
def test_a_linear_chain_has_its_closed_form(w):
    steps = 12
    y, _ = nn.unroll(Linear(w), np.ones((steps, 1, 1)))
    (m,) = step_terms(bptt.backward(y[-1].sum()))
    h = np.array([sum(w**k for k in range(t)) for t in range(steps)])  # h_{t-1}
    terms = w ** np.arange(steps - 1, -1, -1.0) * h
    np.testing.assert_allclose(m.norms, np.abs(terms), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(m.shares, terms / terms.sum(), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(m.from_first, np.abs(np.cumsum(terms)), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(m.from_last, np.abs(np.cumsum(terms[::-1])[::-1]), rtol=1e-11, atol=1e-14)


def made(terms, gradient, steps, template=None):
    """A record whose one parameter has these terms."""
    record = record_of("rnn tanh", steps=steps, batch=1) if template is None else template
    p = ParameterRecord(name="w", shape=gradient.shape, value=gradient, gradient=gradient, terms=terms)
    return dataclasses.replace(record, parameters={"w": p})


def outer(t, left, right):
    return Term("l0", t, np.array([left]), np.array([right]))


def test_terms_of_1e_300_have_their_norms_and_sums():
    scales = [1e-300, 1e-280, 1e-200, 1e-100, 1.0]
    terms = tuple(outer(t, [a, 2 * a], [3.0, 4.0]) for t, a in enumerate(scales))
    gradient = sum(t.array() for t in terms)
    (m,) = step_terms(made(terms, gradient, 5))
    expected = np.array(scales) * math.sqrt(5) * 5
    np.testing.assert_allclose(m.norms, expected, rtol=1e-14)
    np.testing.assert_allclose(m.from_first, expected, rtol=1e-14)
    np.testing.assert_allclose(m.cosines, 1)
    np.testing.assert_allclose(m.shares, np.array(scales), rtol=1e-14)
    np.testing.assert_allclose(m.from_last, expected[-1])


def test_terms_of_1e_minus_300_and_nothing_else():
    terms = tuple(outer(t, [1e-300], [1.0]) for t in range(3))
    (m,) = step_terms(made(terms, np.array([[3e-300]]), 3))
    np.testing.assert_allclose(m.from_last, [3e-300, 2e-300, 1e-300])
    np.testing.assert_allclose(m.shares, 1 / 3)


def test_terms_that_cancel_keep_what_is_left():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(4), rng.standard_normal(5)
    terms = (outer(0, a, b), outer(1, -a, b), outer(2, a * 1e-9, b))
    (m,) = step_terms(made(terms, sum(t.array() for t in terms), 3))
    size = np.linalg.norm(a) * np.linalg.norm(b)
    np.testing.assert_allclose(m.from_first, [size, 0, size * 1e-9], atol=size * 1e-15)
    np.testing.assert_allclose(m.from_last[1:], [size * (1 - 1e-9), size * 1e-9], rtol=1e-12)


def test_samples_that_cancel_within_a_step_keep_what_is_left():
    left = np.array([[1.0, 2.0], [-1.0, -2.0 + 1e-9]])
    right = np.array([[3.0, 1.0], [3.0, 1.0]])
    term = Term("l0", 0, left, right)
    (m,) = step_terms(made((term,), term.array(), 1))
    assert m.norms[0] == pytest.approx(np.linalg.norm(left.T @ right), rel=1e-14)


def test_a_gradient_of_zero_has_terms_and_no_shares():
    terms = (outer(0, [1.0], [1.0]), outer(1, [-1.0], [1.0]))
    (m,) = step_terms(made(terms, np.zeros((1, 1)), 2))
    np.testing.assert_array_equal(m.norms, [1, 1])
    assert np.isnan(m.shares).all()
    assert np.isnan(m.cosines).all()
    np.testing.assert_array_equal(m.from_last, [0, 1])


def test_zero_terms_are_zero():
    terms = tuple(outer(t, [0.0, 0.0], [1.0, 2.0]) for t in range(4))
    (m,) = step_terms(made(terms, np.zeros((2, 2)), 4))
    for array in (m.norms, m.from_first, m.from_last):
        np.testing.assert_array_equal(array, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_is(bad):
    terms = tuple(outer(t, [bad if t == 2 else 1.0], [1.0]) for t in range(5))
    (m,) = step_terms(made(terms, np.array([[bad]]), 5))
    np.testing.assert_array_equal(m.norms, [1, 1, abs(bad), 1, 1])
    np.testing.assert_array_equal(m.from_first[:2], [1, 2])
    np.testing.assert_array_equal(m.from_last[3:], [2, 1])
    assert not np.isfinite(m.from_first[2:]).any()
    assert not np.isfinite(m.from_last[:3]).any()
    assert np.isnan(m.shares).all()


def test_a_step_without_a_term_has_none_and_adds_nothing():
    terms = tuple(outer(t, [1.0], [1.0]) for t in (1, 2))
    (m,) = step_terms(made(terms, np.array([[2.0]]), 5))
    np.testing.assert_array_equal(m.norms, [np.nan, 1, 1, np.nan, np.nan])
    np.testing.assert_array_equal(m.shares, [np.nan, 0.5, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(m.from_first, [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(m.from_last, [2, 2, 1, 0, 0])


def test_several_uses_in_one_step_are_one_term():
    terms = (outer(0, [1.0, 0.0], [1.0, 0.0]), outer(0, [0.0, 1.0], [0.0, 1.0]), Term("l0", 1, np.eye(2), None))
    for some in (terms[:2], terms):
        (m,) = step_terms(made(some, sum(t.array() for t in some), 2))
        assert m.norms[0] == pytest.approx(math.sqrt(2))
    np.testing.assert_allclose(m.norms, math.sqrt(2))
    np.testing.assert_allclose(m.shares, 0.5)


def test_what_a_weight_gets_elsewhere_is_told():
    terms = (outer(0, [1.0], [3.0]), Term(None, None, np.array([[1.0]]), None))
    (m,) = step_terms(made(terms, np.array([[4.0]]), 1))
    assert m.shares[0] == pytest.approx(0.75)
    assert m.elsewhere == pytest.approx(0.25)


def test_a_weight_of_two_walks_has_two_results():
    layer = nn.GRU(2, 2, kernel="fused", rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.random.default_rng(1).standard_normal((3, 1, 2)))
    again, _ = layer(output)
    record = bptt.backward((again * again).sum())
    both = step_terms(record, parameter="weight_hh_l0")
    assert [m.sequence for m in both] == list(record.sequences)
    assert sum(np.nansum(m.shares) for m in both) == pytest.approx(1, abs=1e-12)
    assert_measured(record)


def test_memory_is_far_below_a_matrix_a_step():
    steps, hidden = 1000, 256
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, steps, 1, hidden))
    terms = StackedTerms("l0", (left,), (right,))
    gradient = np.einsum("tnr,tnc->rc", left, right)
    template = record_of("rnn tanh", steps=1, batch=1)
    s = template.sequences["l0"]
    s = dataclasses.replace(s, inputs=np.zeros((steps, 1, 1)))
    record = dataclasses.replace(made(terms, gradient, 1, template), sequences={"l0": s})
    tracemalloc.start()
    (m,) = step_terms(record)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert m.from_last[0] == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    assert peak < steps * hidden * hidden * 8 / 50


def test_an_unknown_parameter_is_named_with_those_there_are():
    with pytest.raises(RecordError, match=r"no parameter 'w'.\n  The record has weight_ih_l0, "):
        step_terms(record_of("lstm"), parameter="w")


def test_a_parameter_that_no_step_uses_says_so():
    layer, readout = (f(3, 3, rng=np.random.default_rng(0)) for f in (nn.RNN, nn.Linear))
    output, _ = layer(np.ones((2, 1, 3), np.float32))
    record = bptt.backward(readout(output).sum())
    with pytest.raises(RecordError, match=r"no time step of l0 has a term of 'weight'.\n  Give a record of"):
        step_terms(record, parameter="weight")
    assert "weight" not in {m.parameter for m in step_terms(record)}


def test_a_record_before_backward_has_no_terms():
    layer = nn.RNN(3, 3, rng=np.random.default_rng(0))
    output, _ = layer(np.ones((2, 1, 3), np.float32))
    with pytest.raises(RecordError, match="no time step of l0 has a term of a parameter"):
        step_terms(bptt.record(output.sum()))


def test_record_is_equal_to_itself_and_to_no_other():
    a, b = (step_terms(record_of("lstm", steps=t)) for t in (3, 4))
    assert a == step_terms(record_of("lstm", steps=3))
    assert a != b
    assert isinstance(record_of("lstm"), Record)
