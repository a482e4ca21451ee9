"""Truncated against whole gradients: equal to really detaching in the engine."""

import math

import numpy as np
import pytest

from minigrad import Tensor, bptt, grad, nn
from minigrad.bptt.truncation import truncation
from minigrad.errors import MinigradError, RecordError
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS


class Case:
    """A layer of one walk, and a loss sum(weights_t * h_t²)."""

    def __init__(
        self, kind, kernel="steps", steps=7, batch=2, lengths=None, walk=0, last=False, dtype=np.float64, bias=True
    ):
        layer_type, own = KINDS[kind]
        rng = np.random.default_rng(2)
        self.reverse, self.lengths = walk == 1, lengths or [steps] * batch
        self.layer = layer_type(
            3, 4, kernel=kernel, bias=bias, rng=rng, dtype=dtype, bidirectional=self.reverse, **own
        )
        self.cell, self.name = self.layer.walks[walk].cell, self.layer.walks[walk].name
        self.x = rng.standard_normal((steps, batch, 3)).astype(dtype)
        self.weights = rng.standard_normal((steps, batch, 4)).astype(dtype)
        if last:
            self.weights[:-1] = 0
        output, _ = self.layer(self.x, lengths=lengths)
        output = output[:, :, 4:] if self.reverse else output
        self.record = bptt.backward((output * output * self.weights).sum())

    def detached(self, k):
        """The gradients of all weights with the state detached between chunks of k inputs, sample by sample."""
        total = [0.0 for _ in self.cell.parameters()]
        for n, length in enumerate(self.lengths):
            state, loss = None, Tensor(self.weights.dtype.type(0))
            chunks = [slice(a, min(a + k, length)) for a in range(0, length, k)]
            for chunk in reversed(chunks) if self.reverse else chunks:
                if state is not None:
                    state = type(state)(*(s.detach() for s in state))
                output, state = nn.unroll(self.cell, self.x[chunk, n : n + 1], state, reverse=self.reverse)
                loss = loss + (output * output * self.weights[chunk, n : n + 1]).sum()
            found = grad(loss, list(self.cell.parameters()))
            total = [a + b for a, b in zip(total, found, strict=True)]
        return [np.asarray(g, np.float64) for g in total]


def long(gradients):
    return np.concatenate([g.ravel() for g in gradients])


def assert_same(case, lengths, rtol=1e-9):
    found = truncation(case.record, lengths=lengths, sequence=case.name)
    whole = long(case.detached(10**6))
    assert found.full == pytest.approx(np.linalg.norm(whole), rel=rtol)
    names = [p.name for p in case.cell.parameters()]
    assert sorted(found.lost_by_weight) == sorted(names)
    for place, k in enumerate(lengths):
        gradients = case.detached(k)
        cut = long(gradients)
        cosine = cut @ whole / np.linalg.norm(cut) / np.linalg.norm(whole)
        assert found.norms[place] == pytest.approx(np.linalg.norm(cut), rel=rtol)
        assert found.lost[place] == pytest.approx(np.linalg.norm(whole - cut) / np.linalg.norm(whole), abs=rtol)
        assert math.cos(math.radians(found.angles[place])) == pytest.approx(cosine, abs=rtol)
        for name, part, full in zip(names, gradients, case.detached(10**6), strict=True):
            lost = np.linalg.norm(full - part) / np.linalg.norm(full)
            assert found.lost_by_weight[name][place] == pytest.approx(lost, abs=rtol)


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("last", [False, True])
def test_it_is_what_detaching_between_chunks_gives(kind, kernel, last):
    assert_same(Case(kind, kernel, last=last), [1, 2, 3, 4, 6, 7, 100])


@EACH_KIND
@pytest.mark.parametrize("walk", [0, 1])
def test_unequal_lengths_and_both_directions(kind, walk):
    assert_same(Case(kind, batch=3, lengths=[5, 7, 2], walk=walk), [1, 2, 3, 5, 7])


@EACH_KIND
@EACH_KERNEL
def test_without_biases_and_with_one_sample(kind, kernel):
    assert_same(Case(kind, kernel, batch=1, bias=False), [1, 3])


@EACH_KERNEL
def test_float32_agrees_to_its_rounding(kernel):
    assert_same(Case("lstm", kernel, dtype=np.float32), [1, 2, 5], rtol=1e-4)


@EACH_KIND
@EACH_KERNEL
def test_without_a_cut_nothing_is_lost(kind, kernel):
    case = Case(kind, kernel)
    found = truncation(case.record)
    assert found.lengths == (1, 2, 5, 7)
    assert (found.lost[-1], found.angles[-1]) == (0, 0)
    np.testing.assert_allclose(found.full, math.hypot(*(p.norm for p in case.record.parameters.values())))


def test_the_loss_falls_with_the_length_where_memory_fades():
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data, layer.weight_ih_l0.data = np.array([[0.5]]), np.array([[1.0]])
    x = np.zeros((8, 1, 1))
    x[0] = 1  # h_t = 0.5^t, and dL/dw_ih of a loss at the end is 0.5^7, all of it from the first step
    output, _ = layer(x)
    found = truncation(bptt.backward(output[-1].sum()), lengths=[4, 7, 8])
    assert found.lost_by_weight["weight_ih_l0"].tolist() == [1, 1, 0]
    terms = 7 * 0.5**6  # dL/dw_hh: 7 steps, each 0.5^6
    np.testing.assert_allclose(found.lost_by_weight["weight_hh_l0"], [3 / 7, 6 / 7, 0])
    assert found.full == pytest.approx(math.hypot(terms, 0.5**7))


def test_a_length_of_all_steps_or_more_loses_nothing():
    found = truncation(Case("lstm").record, lengths=[6, 7, 8, 1000])
    assert found.steps == 7
    assert found.lost[0] > 0
    assert found.lost[1:].tolist() == [0, 0, 0]


def test_one_step_has_nothing_to_lose():
    found = truncation(Case("lstm", steps=1).record)
    assert (found.lengths, found.lost.tolist(), found.angles.tolist()) == ((1,), [0], [0])


def test_a_gradient_of_zero_has_no_angle():
    layer = nn.RNN(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.ones((4, 1, 2)))
    found = truncation(bptt.backward((output * 0.0).sum()), lengths=[1, 4])
    assert found.full == 0
    np.testing.assert_array_equal(found.norms, 0)
    assert np.isnan(found.angles).all()
    assert np.isnan(found.lost).all()


def test_gradients_of_1e_150_have_their_angle():
    layer = nn.RNN(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((6, 1, 2))
    results = []
    for scale in (1.0, 1e-150, 1e-250):
        for p in layer.parameters():
            p.zero_grad()
        output, _ = layer(x)
        results.append(truncation(bptt.backward((output * scale).sum()), lengths=[2]))
    for found in results[1:]:
        assert found.angles[0] == pytest.approx(results[0].angles[0], rel=1e-9)
        assert found.lost[0] == pytest.approx(results[0].lost[0], rel=1e-9)


def test_what_is_not_finite_has_no_angle():
    layer = nn.RNN(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.ones((4, 1, 2)))
    with np.errstate(all="ignore"):
        found = truncation(bptt.backward((output * np.inf).sum()), lengths=[2])
    assert np.isnan(found.angles).all()


@pytest.mark.parametrize("lengths", [[0], [], [1.5], [3, -1]])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(MinigradError, match=r"truncation: lengths=.*\n  Give whole numbers of steps, each at least 1."):
        truncation(Case("rnn tanh").record, lengths=lengths)


def test_a_record_before_backward_has_no_gradient_to_cut():
    layer = nn.RNN(2, 3, rng=np.random.default_rng(0))
    output, _ = layer(np.ones((4, 1, 2), np.float32))
    with pytest.raises(RecordError, match="made before any backward"):
        truncation(bptt.record(output.sum()))


def test_equal_records_have_equal_results():
    a, b = (truncation(Case("lstm").record) for _ in range(2))
    assert a == b
    assert a != truncation(Case("lstm").record, lengths=[1])
