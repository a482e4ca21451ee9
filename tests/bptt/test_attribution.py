"""dL_t/dh_k for every pair of steps, against complex steps of the oracles, the engine and closed forms."""


import numpy as np
import pytest

from minigrad import Tensor, bptt, nn, ops
from minigrad.bptt import attribution as module
from minigrad.bptt.attribution import attribution, attribution_of_losses, entering
from minigrad.bptt.jacobian import linear_walk
from minigrad.errors import RecordError
from tests import oracles
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS, Linear


class Case:
    """A layer of one walk, and a loss at every step: sum(weights_t * h_t²)."""

    def __init__(self, kind, kernel="steps", steps=4, batch=2, hidden=3, lengths=None, dtype=np.float64, walk=0):
        layer_type, own = KINDS[kind]
        rng = np.random.default_rng(11)
        self.kind, self.lengths, self.reverse = kind, lengths, walk == 1
        self.layer = layer_type(2, hidden, kernel=kernel, rng=rng, dtype=dtype, bidirectional=self.reverse, **own)
        self.x = rng.standard_normal((steps, batch, 2)).astype(dtype)
        self.weights = rng.standard_normal((steps, batch, hidden)).astype(dtype)
        output, self.last = self.layer(self.x, lengths=lengths)
        self.output = output[:, :, hidden:] if self.reverse else output
        self.name = "l0_reverse" if self.reverse else "l0"

    @property
    def losses(self):
        return [(h * h * w).sum() for h, w in zip(self.output, self.weights, strict=True)]

    def record(self, at=None):
        loss = sum(loss for t, loss in enumerate(self.losses) if at is None or t in at)
        return bptt.backward(loss)

    def oracle(self):
        """By field, the norms [t, k, n] of the total derivatives of each step's loss; by complex steps."""
        cell = self.layer.walks[-1 if self.reverse else 0].cell
        weights = [p.data.astype(np.float64) for p in cell.parameters()]
        steps, batch, hidden = self.weights.shape
        lengths = self.lengths or [steps] * batch
        fields = cell.state_type._fields
        first = [np.zeros((batch, hidden)) for _ in fields]
        found = {f: np.zeros((steps, steps, batch)) for f in fields}
        for f, k, n, unit in np.ndindex(len(fields), steps, batch, hidden):  # one nudge moves all later losses
            nudges = [np.zeros((steps, batch, hidden), complex) for _ in fields]
            nudges[f][k, n, unit] = 1e-100j
            output, _ = oracles.run_each(
                oracles.STEPS[self.kind], self.x.astype(np.float64), first, weights, lengths, self.reverse, nudges
            )
            losses = (output**2 * self.weights).sum(axis=(1, 2))
            found[fields[f]][:, k, n] += (losses.imag / 1e-100) ** 2
        for t, k, n in np.ndindex(steps, steps, batch):
            if (k < t if self.reverse else k > t) or max(t, k) >= lengths[n]:
                for array in found.values():
                    array[t, k, n] = np.nan
        return {field: np.sqrt(array) for field, array in found.items()}


def assert_same(found, wanted, rtol=1e-10):
    assert list(found) == list(wanted)
    for field in wanted:
        np.testing.assert_allclose(found[field], wanted[field], rtol=rtol, atol=1e-14)


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("walk", [0, 1])
@pytest.mark.parametrize("lengths", [None, [2, 4]])
def test_every_pair_is_that_of_the_oracle(kind, kernel, walk, lengths):
    case = Case(kind, kernel, lengths=lengths, walk=walk)
    a = attribution(case.record(), sequence=case.name)
    assert_same(a.norms, case.oracle())
    assert (a.calls, a.sequence) == (0, case.name)
    assert a.enters.all() or kind == "rnn relu"  # whose output may be 0 at a whole step
    assert a.rounding < 1e-12


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 2), (5, 1)])
def test_one_step_and_one_sample(kind, kernel, steps, batch):
    case = Case(kind, kernel, steps, batch)
    assert_same(attribution(case.record()).norms, case.oracle())


@EACH_KIND
@pytest.mark.parametrize("walk", [0, 1])
@pytest.mark.parametrize("lengths", [None, [2, 4]])
def test_calls_of_grad_give_the_same(kind, walk, lengths):
    case = Case(kind, lengths=lengths, walk=walk)
    a = attribution_of_losses(case.losses, sequence=case.name)
    assert_same(a.norms, case.oracle())
    assert (a.calls, a.sequence) == (4, case.name)
    assert a == attribution_of_losses(case.losses, sequence=case.name)


@EACH_KIND
@EACH_KERNEL
def test_a_loss_on_some_steps_alone_has_rows_of_zeros(kind, kernel):
    case = Case(kind, kernel)
    a, wanted = attribution(case.record(at=[1, 3])), case.oracle()
    assert a.enters.tolist() == [False, True, False, True]
    for field in wanted:
        wanted[field][[0, 2]] *= 0
    assert_same(a.norms, wanted)


@EACH_KIND
@EACH_KERNEL
def test_float32_agrees_with_float64(kind, kernel):
    case = Case(kind, kernel, steps=6, dtype=np.float32)
    a = attribution(case.record())
    assert_same(a.norms, case.oracle(), rtol=2e-4)
    assert a.norms["h"].dtype == np.float64


@EACH_KERNEL
def test_many_samples_are_carried_in_several_blocks(kernel, monkeypatch):
    record = Case("lstm", kernel, steps=9, batch=5).record()
    whole = attribution(record)
    monkeypatch.setattr(module, "_ROWS", 10)
    assert_same(attribution(record).norms, whole.norms)


@EACH_KERNEL
def test_a_loss_on_the_last_states_enters_at_each_samples_end(kernel):
    case = Case("lstm", kernel, lengths=[2, 4])
    _, c = case.last
    a = attribution(bptt.backward((c * c).sum()))
    assert (a.norms["c"][1, 1, 0], a.norms["c"][3, 3, 1]) == pytest.approx(
        [2 * np.linalg.norm(c.numpy()[0, n]) for n in range(2)]
    )
    assert a.norms["h"][1, 1, 0] == 0
    assert a.norms["h"][1, 0, 0] > 0
    assert a.norms["c"][3, 2, 1] > 0
    assert np.isnan(a.norms["c"][3, :, 0]).all()


def test_the_loss_of_a_layer_above_is_what_it_hands_down():
    rng = np.random.default_rng(0)
    layer = nn.LSTM(2, 3, num_layers=2, rng=rng, dtype=np.float64)
    output, _ = layer(rng.standard_normal((5, 2, 2)))
    record = bptt.backward((output[-1] * output[-1]).sum())
    above, below = (attribution(record, sequence=name) for name in ("l1", "l0"))
    assert above.enters.tolist() == [False] * 4 + [True]
    assert below.enters.all()
    own = np.diagonal(below.norms["h"]).T
    np.testing.assert_allclose(own, record.sequences["l0"].arrivals["h"]["outside"], rtol=1e-10)


@EACH_KIND
@EACH_KERNEL
def test_what_enters_adds_up_to_the_gradients(kind, kernel):
    case = Case(kind, kernel, steps=6, lengths=[4, 6], walk=1)
    walk = linear_walk(case.record(), sequence="l0_reverse")
    starts, _ = entering(walk)
    g = tuple(np.zeros_like(s[0]) for s in starts)
    for t in range(5, -1, -1):
        g = tuple(a + b[t] for a, b in zip(g, starts, strict=True))
        real = walk.real[t][:, np.newaxis]
        wanted = walk.ordered(walk.sequence.gradients["h"])[t]
        np.testing.assert_allclose(np.where(real, g[0], 0), wanted, rtol=1e-11, atol=1e-14)
        g = walk.back(walk.at(t), g)


@pytest.mark.parametrize("w", [0.5, -1.0, 1.5])
def test_a_linear_cell_of_ones_own_has_its_closed_form(w):
    y, _ = nn.unroll(Linear(w), np.zeros((6, 2, 1)))
    a = attribution_of_losses([h.sum() for h in y])
    expected = np.array([[abs(w) ** (t - k) if k <= t else np.nan for k in range(6)] for t in range(6)])
    for n in range(2):
        np.testing.assert_allclose(a.norms["h"][:, :, n], expected, rtol=1e-13)
    np.testing.assert_allclose(a.over_batch(), expected * np.sqrt(2), rtol=1e-13)
    np.testing.assert_allclose(a.arriving(), expected, rtol=1e-13)


def test_one_tensor_of_losses_is_taken_apart():
    y, _ = nn.unroll(Linear(0.5), np.ones((3, 2, 1)))
    elements = nn.mse_loss(y, np.zeros((3, 2, 1)), reduction="none")
    assert attribution_of_losses(elements) == attribution_of_losses([(h * h).sum() for h in y])


def test_a_loss_that_depends_on_nothing_has_a_row_of_zeros():
    y, _ = nn.unroll(Linear(0.5), np.ones((3, 1, 1)))
    a = attribution_of_losses([y[0].sum(), Tensor(1.0), y[2].sum()])
    np.testing.assert_array_equal(a.norms["h"][1, :2, 0], 0)
    assert a.enters.tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight", [1e-5, 1e3])
def test_norms_far_outside_the_range_of_the_records_type(dtype, weight):
    steps = 56
    layer = nn.RNN(1, 2, nonlinearity="relu", bias=False, rng=np.random.default_rng(0), dtype=dtype)
    layer.weight_hh_l0.data = np.eye(2, dtype=dtype) * dtype(weight)
    layer.weight_ih_l0.data = np.ones((2, 1), dtype)
    x = np.zeros((steps, 1, 1), dtype)
    x[:] = 1.0
    with np.errstate(all="ignore"):
        output, _ = layer(x)
        record = bptt.backward(output.sum() if weight < 1 else output[10:11].sum())
        a = attribution(record)
    if weight < 1:
        expected = np.sqrt(2) * float(dtype(weight)) ** np.arange(steps - 1, -1, -1.0)
        np.testing.assert_allclose(a.norms["h"][-1, :, 0], expected, rtol=1e-4)
        assert a.norms["h"][-1, 0, 0] < 1e-270
    else:
        np.testing.assert_allclose(a.norms["h"][10, :11, 0], np.sqrt(2) * 1e3 ** np.arange(10, -1, -1.0), rtol=1e-4)


def test_over_the_batch_padding_does_not_count():
    case = Case("rnn tanh", lengths=[2, 4])
    a = attribution(case.record())
    assert a.over_batch()[3, 2] == pytest.approx(a.norms["h"][3, 2, 1])
    assert a.over_batch()[1, 0] == pytest.approx(np.hypot(*a.norms["h"][1, 0]))
    assert np.isnan(a.over_batch()[0, 1])
    np.testing.assert_allclose(np.diag(a.arriving()), 1)


def test_a_gradient_that_is_not_finite_is_shown_as_such():
    layer = nn.RNN(1, 2, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.ones((3, 1, 1)))
    with np.errstate(invalid="ignore"):
        record = bptt.backward((output * np.array([[[1.0]], [[np.inf]], [[1.0]]])).sum())
    a = attribution(record)
    assert np.isfinite(a.norms["h"][2, 2, 0])
    assert not np.isfinite(a.norms["h"][1, 1, 0])


def test_over_the_batch_a_sample_that_is_not_finite_is_not_lost():
    layer = nn.RNN(1, 2, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.ones((3, 2, 1)), lengths=[3, 2])
    with np.errstate(invalid="ignore"):
        record = bptt.backward((output * np.array([[1.0], [np.nan]])).sum())
    whole = attribution(record).over_batch()
    assert np.isnan(whole[1, 0])
    assert np.isfinite(whole[2]).all()  # only the first sample is that long


def test_a_loaded_record_gives_the_same(tmp_path):
    record = Case("lstm", "fused", lengths=[2, 4]).record()
    record.save(tmp_path / "a.record")
    assert attribution(bptt.Record.load(tmp_path / "a.record")) == attribution(record)


TEXT = "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows"


@pytest.mark.slow
@EACH_KIND
@EACH_KERNEL
def test_real_text_over_100_steps_agrees_with_the_complex_step(kind, kernel):
    letters = sorted(set(TEXT))
    ids = np.array([letters.index(c) for c in TEXT])[:101, np.newaxis]
    layer_type, own = KINDS[kind]
    rng = np.random.default_rng(1)
    steps, hidden, classes = 100, 4, len(letters)
    embedding = nn.Embedding(classes, 5, rng=rng, dtype=np.float64)
    layer = layer_type(5, hidden, kernel=kernel, rng=rng, dtype=np.float64, **own)
    readout = nn.Linear(hidden, classes, rng=rng, dtype=np.float64)
    x = embedding(ids[:-1])
    output, _ = layer(x)
    a = attribution(bptt.backward(nn.cross_entropy(readout(output), ids[1:])))
    cell = layer.walks[0].cell
    weights, fields = [p.data for p in cell.parameters()], cell.state_type._fields
    w, b = readout.weight.data, readout.bias.data

    def losses(nudges):
        y, _ = oracles.run(oracles.STEPS[kind], x.numpy(), [np.zeros((1, hidden))] * len(fields), weights, nudges)
        scores = y[:, 0] @ w.T + b
        return (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(steps), ids[1:, 0]]) / steps

    for k in (0, 1, 37, 98, 99):
        for f, field in enumerate(fields):
            slopes = np.zeros((hidden, steps))
            for unit in range(hidden):
                nudges = [np.zeros((steps, 1, hidden), complex) for _ in fields]
                nudges[f][k, 0, unit] = 1e-100j
                slopes[unit] = losses(nudges).imag / 1e-100
            expected = np.linalg.norm(slopes, axis=0)[k:]
            assert expected[-1] < expected[0] or k == 99
            np.testing.assert_allclose(a.norms[field][k:, k, 0], expected, rtol=1e-8)


# Errors


def test_a_record_before_backward_has_none():
    case = Case("lstm")
    with pytest.raises(RecordError, match=r"before any backward.\n  Give a record of bptt.backward\(loss\)"):
        attribution(bptt.record(sum(case.losses)))


class RNNCell(nn.RNNCell):
    """The same values, another backward."""

    def step(self, x, state):
        return nn.RNNState(ops.clip_gradient(super().step(x, state).h, limit=1e-3))


def test_a_backward_of_ones_own_is_found_out():
    cell = RNNCell(2, 3, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = nn.unroll(cell, np.random.default_rng(1).standard_normal((5, 2, 2)))
    losses = [(h * h).sum() for h in output]
    record = bptt.backward(sum(losses))
    with pytest.raises(RecordError, match=r"has a backward of its own: give the losses to attribution_of_losses"):
        attribution(record)
    assert attribution_of_losses(losses).calls == 5


def test_losses_are_one_a_step():
    case = Case("rnn tanh")
    with pytest.raises(RecordError, match=r"3 losses for the T=4 steps of l0.\n  Give one a step"):
        attribution_of_losses(case.losses[:3])


def test_a_kernels_states_are_in_no_graph():
    case = Case("rnn tanh", "fused")
    with pytest.raises(RecordError, match=r"depend on no state of any walk; found none.\n  Give losses of an unrolled"):
        attribution_of_losses(case.losses)


def test_an_unknown_walk_is_named_with_those_there_are():
    case = Case("rnn tanh")
    with pytest.raises(RecordError, match="no state of l7; found l0"):
        attribution_of_losses(case.losses, sequence="l7")


@pytest.mark.parity
def test_pytorch_gives_the_same_triangle():
    torch = pytest.importorskip("torch")
    case = Case("lstm", "fused", steps=5)
    cell = case.layer.walks[0].cell
    theirs = torch.nn.LSTMCell(2, 3, dtype=torch.float64)
    theirs.load_state_dict({n: torch.tensor(p.numpy()) for n, p in cell.named_parameters()})
    h, c = torch.zeros((2, 2, 3), dtype=torch.float64, requires_grad=True).unbind()
    states = []
    for t in range(5):
        h, c = theirs(torch.tensor(case.x[t]), (h, c))
        states.append(h)
    found = attribution(case.record()).norms["h"]
    for t in range(5):
        loss = (states[t] ** 2 * torch.tensor(case.weights[t])).sum()
        for k in range(t + 1):
            (g,) = torch.autograd.grad(loss, [states[k]], retain_graph=True)
            np.testing.assert_allclose(found[t, k], g.norm(dim=1).numpy(), rtol=1e-10)
