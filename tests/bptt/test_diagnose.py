"""The verdict, against chains whose decay is known in closed form."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, nn
from minigrad.bptt.attribution import attribution
from minigrad.bptt.diagnose import EXPLODES_ABOVE, VANISHES_BELOW, diagnose
from minigrad.bptt.fault import first_zero, zero_in
from minigrad.errors import RecordError
from tests import oracles
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS


class State(NamedTuple):
    h: Tensor


class TwoStates(NamedTuple):
    h: Tensor
    c: Tensor


class Linear:
    """h' = gain_t * (h @ W) + x: dL/dh_t = gain_t+1 * dL/dh_t+1 @ W.T, to the last digit."""

    def __init__(self, weight, gains=None, cut=None):
        self.weight = Tensor(np.atleast_2d(weight), requires_grad=True, name="cell.w")
        self.gains, self.cut, self.t = gains, cut, 0

    def initial_state(self, batch):
        return State(Tensor(np.zeros((batch, len(self.weight)), self.weight.dtype)))

    def step(self, x, state):
        h = state.h.detach() if self.t == self.cut else state.h
        h = h @ self.weight
        if self.gains is not None:
            h = h * self.gains[self.t]
        self.t += 1
        return State(h + x)


class Carousel:
    """c' = f c + x, h' = 2 c': only c is carried from step to step."""

    def __init__(self, f):
        self.f = f

    def initial_state(self, batch):
        return TwoStates(Tensor(np.zeros((batch, 1))), Tensor(np.zeros((batch, 1))))

    def step(self, x, state):
        c = state.c * self.f + x
        return TwoStates(c * 2.0, c)


def last(y):
    return y[-1].sum()


def every(y):
    return y.sum()


def recorded(cell, steps=20, loss=last, batch=1, size=1, dtype=np.float64, name="l0"):
    y, _ = nn.unroll(cell, Tensor(np.ones((steps, batch, size), dtype), requires_grad=True), name=name)
    return bptt.backward(loss(y))


def linear(w, steps=20, loss=last, **options):
    dtype = options.pop("dtype", np.float64)
    return recorded(Linear(np.array([[w]], dtype), **options), steps, loss, dtype=dtype)


@pytest.mark.parametrize("loss", [last, every])
@pytest.mark.parametrize("w", [0.3, -0.5, 0.9, 1.0, 1.1])
def test_a_linear_unit_loses_log10_of_its_weight_at_each_step(w, loss):
    found = diagnose(linear(w, loss=loss))
    assert found.decades == pytest.approx(math.log10(abs(w)), abs=1e-13)
    assert found.lane.share == pytest.approx(abs(w) ** 19, rel=1e-12)
    assert found.lane.arriving == pytest.approx([abs(w) ** (19 - t) for t in range(20)], rel=1e-12)


@pytest.mark.parametrize("w", [0.3, 0.9, 1.1])
def test_the_ratio_is_that_of_the_norms_as_they_stand(w):
    assert diagnose(linear(w)).ratio == pytest.approx(w**19, rel=1e-12)
    summed = sum(w**k for k in range(20))  # with a loss at every step, dL/dh_1 = 1 + w + w² + …
    assert diagnose(linear(w, loss=every)).ratio == pytest.approx(summed, rel=1e-12)


@pytest.mark.parametrize(
    ("w", "steps", "verdict"),
    [(0.5, 40, "vanishing"), (0.99, 40, "healthy"), (1.0, 40, "healthy"), (1.3, 40, "exploding"), (0.0, 40, "dead"),
     (0.5, 1, "too short"), (0.5, 2, "healthy")],
)  # fmt: skip
@pytest.mark.parametrize("loss", [last, every])
def test_the_verdict_is_the_same_with_a_loss_on_the_last_step_and_on_every_step(w, steps, verdict, loss):
    found = diagnose(linear(w, steps, loss))
    assert found.verdict == verdict
    assert found.rule
    assert found.on_the_way == (loss is every and steps > 1)


def test_flat_norms_do_not_hide_what_vanishes():
    found = diagnose(linear(0.1, 40, every))
    assert found.ratio == pytest.approx(1 / 0.9)
    assert found.verdict == "vanishing"
    assert (found.lane.tenth, found.lane.thousandth) in {(1, 3), (2, 4), (1, 4), (2, 3)}  # 0.1 ± rounding


def test_the_thresholds_are_where_they_are_said_to_be():
    below, above = (diagnose(linear(x, 2)).verdict for x in (VANISHES_BELOW * 0.99, VANISHES_BELOW * 1.01))
    assert (below, above) == ("vanishing", "healthy")
    below, above = (diagnose(linear(x, 2)).verdict for x in (EXPLODES_ABOVE * 0.99, EXPLODES_ABOVE * 1.01))
    assert (below, above) == ("healthy", "exploding")


def test_the_horizon_counts_steps_back_until_less_is_left():
    lane = diagnose(linear(0.5)).lane
    assert (lane.tenth, lane.thousandth) == (4, 10)  # 0.5⁴ = 0.06, 0.5¹⁰ = 0.00098
    lane = diagnose(linear(0.99)).lane
    assert (lane.tenth, lane.thousandth) == (None, None)


def test_a_bump_on_the_way_is_an_explosion_even_if_nothing_of_it_is_left():
    gains = [0.01] * 10 + [10.0] * 10
    found = diagnose(linear(1.0, gains=gains))
    assert found.verdict == "exploding"
    assert found.lane.peak == pytest.approx(1e10)
    assert found.lane.share < 1e-6


def test_a_matrix_is_judged_by_the_norms_of_its_powers():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 4)) * 0.3
    expected = [np.linalg.norm(np.linalg.matrix_power(w, k) @ np.ones(4)) / 2 for k in range(15)]
    found = diagnose(recorded(Linear(w), 15, size=4))
    assert found.lane.arriving == pytest.approx(expected[::-1], rel=1e-12)
    assert found.decades == pytest.approx(np.polyfit(range(15), np.log10(expected), 1)[0], rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_from_a_loss_at_every_step_is_never_too_high_for_a_symmetric_matrix(seed):
    a = np.random.default_rng(seed).standard_normal((5, 5))
    w = a @ a.T / 12  # no negative eigenvalue either
    exact, estimate = (diagnose(recorded(Linear(w), 15, loss, size=5)).lane for loss in (last, every))
    assert all(x <= y * (1 + 1e-12) for x, y in zip(estimate.arriving, exact.arriving, strict=True))


def test_nothing_that_arrives_is_dead_and_the_step_nearest_to_the_loss_is_named():
    gains = [1.0] * 20
    gains[12] = 0.0  # h_13 does not use h_12
    for loss in (last, every):
        found = diagnose(linear(1.0, loss=loss, gains=gains))
        assert (found.verdict, found.bad_step, found.lane.underflowed) == ("dead", 11, False)
        assert found.lane.share == 0
        assert found.lane.arriving[11:13] == (0, 1)
    assert found.lane.first.norm > 0  # with a loss at every step the norms are alive


def test_a_gradient_below_the_smallest_float32_is_dead_by_underflow():
    found = diagnose(linear(0.5, 200, dtype=np.float32))
    assert (found.verdict, found.lane.underflowed) == ("dead", True)
    assert found.bad_step == 199 - 127  # 2**-126 is the smallest normal number
    assert found.decades == pytest.approx(math.log10(0.5))
    assert diagnose(linear(0.5, 200)).verdict == "vanishing"  # float64 holds it


def test_a_gradient_that_jumps_below_the_smallest_number_has_underflowed_too():
    found = diagnose(linear(1e-35, 5, dtype=np.float32))
    assert (found.verdict, found.bad_step, found.lane.underflowed) == ("dead", 2, True)


def test_an_estimate_may_leave_the_range_of_float64():
    small = diagnose(linear(1e-4, 200, every))
    assert (small.verdict, small.lane.share, small.lane.lost) == ("vanishing", 0.0, None)
    large = diagnose(linear(1e4, 60, every))
    assert large.verdict == "exploding"
    assert large.decades == pytest.approx(4)


def test_what_is_not_finite_is_named_from_the_loss_and_from_the_start():
    gains = [1.0] * 20
    gains[7] = math.nan
    with np.errstate(invalid="ignore"):
        found = diagnose(linear(1.0, gains=gains))
    assert (found.verdict, found.bad_step, found.bad_forward) == ("not finite", 6, 7)
    assert "cell.w" in found.bad_parameters


def test_a_parameters_gradient_alone_can_be_not_finite():
    record = linear(0.9)
    (p,) = record.parameters.values()
    bad = dataclasses.replace(p, gradient=np.full_like(p.gradient, np.inf))
    found = diagnose(dataclasses.replace(record, parameters={"cell.w": bad}))
    assert (found.verdict, found.bad_step, found.bad_parameters) == ("not finite", None, ("cell.w",))


@pytest.mark.parametrize("loss", [last, every])
def test_of_two_lanes_the_one_along_which_more_arrives_decides(loss):
    found = diagnose(recorded(Carousel(0.9), loss=loss))
    assert set(found.lanes) == {"h", "c"}
    assert (found.verdict, found.state) == ("healthy", "c")
    assert found.decades == pytest.approx(math.log10(0.9))
    assert found.lanes["h"].lost == 18  # no step uses the h of the one before


def test_an_lstm_with_an_open_forget_gate_keeps_what_a_closed_one_loses():
    verdicts = []
    for forget_bias in (5.0, -5.0):
        lstm = nn.LSTM(3, 8, forget_bias=forget_bias, rng=np.random.default_rng(0))
        x = np.random.default_rng(1).standard_normal((30, 2, 3)).astype(np.float32)
        for loss in (last, every):
            lstm.zero_grad()
            verdicts.append(diagnose(bptt.backward(loss(lstm(x)[0]))).verdict)
    assert verdicts == ["healthy", "healthy", "vanishing", "vanishing"]


def test_the_gradient_starts_at_the_last_step_that_has_a_loss():
    found = diagnose(linear(0.5, loss=lambda y: y[9].sum()))
    assert (found.earliest, found.latest, found.enters) == (0, 9, (9,))
    assert found.ratio == pytest.approx(0.5**9)
    assert math.isnan(found.lane.arriving[10])


def test_a_cut_ends_the_measure_where_no_path_leads_on():
    _, state = nn.unroll(Linear([[0.5]], cut=8), Tensor(np.ones((20, 1, 1)), requires_grad=True))
    found = diagnose(bptt.backward(state.h.sum()))
    assert (found.earliest, found.latest) == (8, 19)
    assert found.decades == pytest.approx(math.log10(0.5))


def test_a_cut_between_steps_that_the_loss_sees_anyway_hands_back_exactly_0():
    found = diagnose(linear(0.5, loss=every, cut=8))
    assert (found.verdict, found.bad_step) == ("dead", 7)


def test_a_loss_that_is_flat_everywhere_leaves_everything_dead():
    found = diagnose(linear(0.5, loss=lambda y: (y * 0.0).sum()))
    assert (found.verdict, found.bad_step, found.lane) == ("dead", 19, None)
    assert math.isnan(found.ratio)
    assert math.isnan(found.decades)


def test_a_sequence_that_the_loss_does_not_use_has_no_path():
    record = linear(0.5)
    s = record.sequence()
    unused = dataclasses.replace(
        s, reached={"h": np.zeros(20, bool)}, gradients={"h": np.zeros_like(s.gradients["h"])}
    )
    assert diagnose(dataclasses.replace(record, sequences={"l0": unused})).verdict == "no path"


def test_before_any_backward_there_is_no_verdict_on_the_gradient():
    y, _ = nn.unroll(Linear([[0.5]]), Tensor(np.ones((5, 1, 1)), requires_grad=True))
    found = diagnose(bptt.record(y.sum()))
    assert (found.verdict, found.lane, found.on_the_way) == ("no backward yet", None, False)


def flipped(s):
    """The same sequence as a reverse direction would record it: step 1 came last."""
    def flip(x):
        if isinstance(x, np.ndarray):
            return x[::-1].copy()
        return {k: flip(v) for k, v in x.items()} if isinstance(x, dict) else x

    names = ("states", "gates", "gradients", "reached", "arrivals", "gate_norms", "inputs", "input_norms")
    return dataclasses.replace(s, name="l0_reverse", reverse=True, **{name: flip(getattr(s, name)) for name in names})


@pytest.mark.parametrize("loss", [last, every])
def test_a_reverse_direction_is_judged_from_its_own_end(loss):
    record = linear(0.7, loss=loss)
    there = diagnose(record)
    back = diagnose(dataclasses.replace(record, sequences={"l0_reverse": flipped(record.sequence())}))
    assert (back.earliest, back.latest) == (19, 0)
    assert (back.verdict, back.ratio, back.decades) == (there.verdict, there.ratio, there.decades)
    assert back.lane.arriving == there.lane.arriving[::-1]


def test_each_sample_counts_as_far_as_it_is_real():
    record = recorded(Linear([[0.5]]), 6, every, batch=2)
    s = record.sequence()
    spoilt = {"h": s.gradients["h"].copy()}
    spoilt["h"][3:, 1] = 1e9  # past the end of the second sample: must not count
    arrivals = {"h": {k: v.copy() for k, v in s.arrivals["h"].items()}}
    arrivals["h"]["next"][2:, 1] = 0
    short = dataclasses.replace(s, lengths=np.array([6, 3]), gradients=spoilt, arrivals=arrivals)
    found = diagnose(dataclasses.replace(record, sequences={"l0": short}))
    assert found.decades == pytest.approx(math.log10(0.5))
    assert found.lane.share == pytest.approx(0.5**5)


def test_an_unknown_sequence_is_refused_by_name():
    with pytest.raises(RecordError, match="no sequence 'l7'"):
        diagnose(linear(0.5), sequence="l7")


# Real directions and lengths

ENDS = (4, 20, 11)  # of T=24


def padded(w, loss, reverse=False):
    y, state = nn.unroll(Linear([[w]]), Tensor(np.ones((24, 3, 1)), requires_grad=True), lengths=ENDS, reverse=reverse)
    return bptt.backward(state.h.sum() if loss == "last" else y.sum())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loss", ["last", "every"])
@pytest.mark.parametrize("w", [0.3, -0.5, 0.9, 1.0, 1.1, 1.4])
def test_unequal_lengths_have_the_verdict_of_their_longest_sample_alone(w, loss, reverse):
    found = diagnose(padded(w, loss, reverse))
    alone = diagnose(linear(w, loss=last if loss == "last" else every))
    assert found.verdict == alone.verdict
    assert found.lane.share == pytest.approx(alone.lane.share, rel=1e-12)
    assert found.decades == pytest.approx(alone.decades, abs=1e-12)
    assert (found.lane.tenth, found.lane.thousandth) == (alone.lane.tenth, alone.lane.thousandth)
    assert (found.earliest, found.latest) == ((19, 0) if reverse else (0, 19))
    there = found.lane.arriving[:20][:: -1 if reverse else 1]
    assert there == pytest.approx(alone.lane.arriving, rel=1e-12)
    assert all(math.isnan(x) for x in found.lane.arriving[20:])


@pytest.mark.parametrize("reverse", [False, True])
def test_gradient_enters_at_every_samples_own_last_step(reverse):
    assert diagnose(padded(0.9, "last", reverse)).enters == ((0,) if reverse else (3, 10, 19))
    assert diagnose(padded(0.9, "every", reverse)).enters == tuple(range(20))


@pytest.mark.parametrize("w", [0.5, 1.4])
@pytest.mark.parametrize("loss", [last, every])
def test_a_walk_from_the_end_is_judged_as_the_walk_from_the_start(w, loss):
    there = diagnose(linear(w, loss=loss))
    y, _ = nn.unroll(Linear([[w]]), Tensor(np.ones((20, 1, 1)), requires_grad=True), reverse=True)
    back = diagnose(bptt.backward(y[0].sum() if loss is last else y.sum()))
    assert (back.earliest, back.latest) == (19, 0)
    assert back.verdict == there.verdict
    assert (back.ratio, back.decades) == pytest.approx((there.ratio, there.decades), rel=1e-12)
    assert back.lane.arriving == pytest.approx(there.lane.arriving[::-1], rel=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loss", ["last", "every"])
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_steps_that_are_padding_for_all_change_nothing_of_a_diagnosis(kind, loss, reverse):
    x = np.random.default_rng(0).standard_normal((12, 3, 4))
    found = []
    for steps, lengths in ((12, (9, 9, 9)), (9, None)):
        cell = kind(4, 5, rng=np.random.default_rng(1), dtype=np.float64)
        y, state = nn.unroll(cell, x[:steps], lengths=lengths, reverse=reverse)
        found.append(diagnose(bptt.backward(state.h.sum() if loss == "last" else y.sum())))
    padded, plain = found
    assert (padded.verdict, padded.state, padded.earliest, padded.latest, padded.enters) == (
        plain.verdict, plain.state, plain.earliest, plain.latest, plain.enters
    )  # fmt: skip
    for field, lane in plain.lanes.items():
        assert padded.lanes[field].arriving[:9] == pytest.approx(lane.arriving, rel=1e-9)
        assert padded.lanes[field].ratio == pytest.approx(lane.ratio, rel=1e-9)
        assert padded.lanes[field].first.kind == lane.first.kind


def test_nan_in_the_padding_is_nobodys_fault():
    x = np.where(np.arange(24)[:, None, None] >= np.array(ENDS)[:, None], np.nan, 1.0)
    y, _ = nn.unroll(Linear([[0.9]]), Tensor(x, requires_grad=True), lengths=ENDS)
    found = diagnose(bptt.backward(y.sum()))
    assert (found.verdict, found.bad_step, found.bad_forward, found.bad_parameters) == ("healthy", None, None, ())


@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_every_layer_and_direction_has_a_diagnosis_of_its_own(kernel):
    layer = nn.LSTM(3, 4, 2, bidirectional=True, kernel=kernel, rng=np.random.default_rng(2), dtype=np.float64)
    y, _ = layer(np.random.default_rng(3).standard_normal((24, 3, 3)), lengths=ENDS)
    record = bptt.backward(y.sum())
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        found = diagnose(record, sequence=name)
        assert found.sequence == name
        assert (found.earliest, found.latest) == ((19, 0) if name.endswith("_reverse") else (0, 19))
        assert found.enters == tuple(range(20))
        assert found.verdict in ("vanishing", "healthy")


# Exactly: the latest gradient alone, judged by complex steps of the oracles, attribution and closed forms

TEXT = "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows"


class Reader:
    """A character model of one layer on real text, with the loss at every step or at the last."""

    def __init__(self, kind, kernel, steps, every_step, hidden=4, dtype=np.float64):
        letters = sorted(set(TEXT))
        self.kind, self.steps, self.hidden = kind, steps, hidden
        self.targets = np.array([letters.index(c) for c in TEXT])[1 : steps + 1]
        layer_type, own = KINDS[kind]
        rng = np.random.default_rng(1)
        embedding = nn.Embedding(len(letters), 5, rng=rng, dtype=dtype)
        self.layer = layer_type(5, hidden, kernel=kernel, rng=rng, dtype=dtype, **own)
        self.readout = nn.Linear(hidden, len(letters), rng=rng, dtype=dtype)
        self.x = embedding(np.array([letters.index(c) for c in TEXT])[:steps, np.newaxis])
        scores = self.readout(self.layer(self.x)[0])[:, 0]
        kept = slice(None) if every_step else slice(-1, None)
        self.record = bptt.backward(nn.cross_entropy(scores[kept], self.targets[kept]))

    def oracle(self, field, k):
        """‖d(the last step's loss)/d state_k‖ by complex steps."""
        cell = self.layer.walks[0].cell
        weights, fields = [p.data for p in cell.parameters()], cell.state_type._fields
        w, b = self.readout.weight.data, self.readout.bias.data
        slopes = []
        for unit in range(self.hidden):
            nudges = [np.zeros((self.steps, 1, self.hidden), complex) for _ in fields]
            nudges[fields.index(field)][k, 0, unit] = 1e-100j
            first = [np.zeros((1, self.hidden))] * len(fields)
            _, (h, *_) = oracles.run(oracles.STEPS[self.kind], self.x.numpy(), first, weights, nudges)
            scores = h[0] @ w.T + b
            slopes.append((np.log(np.exp(scores).sum()) - scores[self.targets[-1]]).imag / 1e-100)
        return np.linalg.norm(slopes)


def agrees_with_the_oracle(reader, times):
    found = diagnose(reader.record)
    assert found.exact
    assert (found.earliest, found.latest) == (0, reader.steps - 1)
    assert set(found.lanes) == set(reader.layer.cell_type.state_type._fields)
    for field, lane in found.lanes.items():
        last = reader.oracle(field, reader.steps - 1)
        for k in times:
            assert lane.arriving[k] == pytest.approx(reader.oracle(field, k) / last, rel=1e-8)
        assert lane.share == lane.arriving[0]
    return found


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_what_arrives_of_the_last_loss_is_the_complex_steps(kind, kernel, every_step, steps):
    agrees_with_the_oracle(Reader(kind, kernel, steps, every_step), range(steps))


@pytest.mark.slow
@EACH_KIND
@EACH_KERNEL
def test_on_real_text_over_100_steps_too_with_the_loss_last_or_at_every_step(kind, kernel):
    found = [agrees_with_the_oracle(Reader(kind, kernel, 100, x), (0, 1, 37, 98, 99)) for x in (False, True)]
    last, every_step = found
    assert last.verdict == every_step.verdict
    assert last.decades == pytest.approx(every_step.decades, rel=1e-9)
    for field, lane in last.lanes.items():
        other = every_step.lanes[field]
        assert lane.arriving == pytest.approx(other.arriving, rel=1e-8)
        assert (lane.tenth, lane.thousandth, lane.underflow) == (other.tenth, other.thousandth, other.underflow)
    assert every_step.on_the_way
    assert not last.on_the_way


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("lengths", [None, (7, 12, 12), ENDS])
@pytest.mark.parametrize("at_ends", [False, True])
def test_layers_directions_and_lengths_have_attributions_own_row(kind, kernel, lengths, at_ends):
    layer_type, own = KINDS[kind]
    steps = max(lengths or (12,))
    rng = np.random.default_rng(4)
    layer = layer_type(3, 6, 2, bidirectional=True, kernel=kernel, rng=rng, dtype=np.float64, **own)
    y, state = layer(rng.standard_normal((steps, 3, 3)), lengths=lengths)
    state = state[0] if isinstance(state, tuple) else state
    record = bptt.backward((state * state).sum() if at_ends else (y * y).sum())
    ends = np.array(lengths or (12,) * 3)
    for name, s in record.sequences.items():
        found = diagnose(record, sequence=name)
        assert found.exact
        assert found.latest == (0 if s.reverse else steps - 1)
        for field, lane in found.lanes.items():
            row = attribution(record, sequence=name).norms[field][found.latest]  # (T, N)
            for t in range(steps):
                there = ends > max(t, found.latest)
                expected = np.linalg.norm(row[t, there]) / np.linalg.norm(row[found.latest, there])
                assert lane.arriving[t] == pytest.approx(expected, rel=1e-9, abs=1e-300)


@EACH_KERNEL
def test_a_layer_that_is_linear_has_its_closed_form_with_a_loss_at_every_step(kernel):
    w = np.random.default_rng(0).uniform(0.05, 0.3, (4, 4))
    layer = nn.RNN(1, 4, nonlinearity="relu", bias=False, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data, layer.weight_ih_l0.data = w, np.ones((4, 1))  # everything stays positive
    y, _ = layer(np.ones((100, 2, 1)))
    found = diagnose(bptt.backward(y.sum()))
    powers = [np.linalg.norm(np.linalg.matrix_power(w.T, k) @ np.ones(4)) / 2 for k in range(100)]
    assert found.exact
    assert found.lane.arriving == pytest.approx(powers[::-1], rel=1e-11)
    assert found.decades == pytest.approx(np.polyfit(range(100), np.log10(powers), 1)[0], rel=1e-9)
    assert found.lane.tenth == next(k for k, x in enumerate(powers) if x < 0.1)
    assert found.lane.thousandth == next(k for k, x in enumerate(powers) if x < 0.001)


def guessed(record):
    """The same record, of a cell that nobody knows."""
    sequences = {name: dataclasses.replace(s, settings=None) for name, s in record.sequences.items()}
    return dataclasses.replace(record, sequences=sequences)


def test_the_estimate_can_be_wrong_by_decades_and_says_that_it_is_one():
    record = Reader("lstm", "fused", 24, True, hidden=16).record
    exact, estimate = diagnose(record), diagnose(guessed(record))
    assert (exact.exact, estimate.exact) == (True, False)
    assert estimate.lane.share < exact.lane.share / 100


def test_with_the_loss_on_the_last_step_any_cell_is_exact():
    assert diagnose(linear(0.5)).exact
    assert not diagnose(linear(0.5, loss=every)).exact
    record = Reader("gru reset after", "steps", 24, False).record
    assert diagnose(guessed(record)) == diagnose(record)


def test_weights_that_require_no_gradient_leave_an_estimate():
    cell = nn.LSTMCell(3, 4, rng=np.random.default_rng(0), dtype=np.float64)
    for p in cell.parameters():
        p.requires_grad = False
    x = Tensor(np.random.default_rng(1).standard_normal((9, 2, 3)), requires_grad=True)
    found = diagnose(bptt.backward(nn.unroll(cell, x)[0].sum()))
    assert not found.exact
    assert found.verdict in ("vanishing", "healthy")


@EACH_KIND
def test_both_kernels_have_the_same_diagnosis(kind):
    steps, fused = (diagnose(Reader(kind, kernel, 40, True).record) for kernel in ("steps", "fused"))
    assert (steps.verdict, steps.state, steps.enters) == (fused.verdict, fused.state, fused.enters)
    for field, lane in steps.lanes.items():
        assert lane.arriving == pytest.approx(fused.lanes[field].arriving, rel=1e-9)


@pytest.mark.parametrize("kind", ["rnn tanh", "lstm"])
def test_a_float32_record_is_exact_to_its_rounding_and_underflows_where_float64_says(kind):
    def recorded_as(dtype):
        layer_type, own = KINDS[kind]
        layer = layer_type(2, 6, rng=np.random.default_rng(0), dtype=dtype, kernel="fused", **own)
        y, _ = layer(np.random.default_rng(1).standard_normal((400, 1, 2)).astype(dtype))
        return bptt.backward(y.sum())

    single, double = (diagnose(recorded_as(dtype)) for dtype in (np.float32, np.float64))
    assert double.verdict == "vanishing"
    assert (single.verdict, single.lane.underflowed) == ("dead", True)
    for field, lane in single.lanes.items():
        exact = double.lanes[field]
        assert lane.arriving == pytest.approx(exact.arriving, rel=1e-2)
        size = exact.last.norm * np.array(exact.arriving)
        lag = next(lag for lag, x in enumerate(size[::-1]) if x < np.finfo(np.float32).tiny)
        assert abs(lane.underflow - lag) <= 1
        assert lane.lost == 399 - lane.underflow


def test_a_relu_layer_that_dies_is_dead_though_every_step_has_a_loss():
    for kernel in ("steps", "fused"):
        layer = nn.RNN(1, 2, nonlinearity="relu", rng=np.random.default_rng(0), kernel=kernel)
        for p in layer.parameters():
            p.data = np.full(p.shape, 0.5, np.float32)
        x = np.ones((8, 2, 1), np.float32)
        x[3] = -100.0
        loss = layer(x)[0].sum()
        record = bptt.backward(loss, keep="ops")
        found = diagnose(record)
        assert (found.verdict, found.bad_step, found.lane.underflow, found.exact) == ("dead", 2, None, True)
        assert found.lane.arriving[:3] == (0, 0, 0)
        assert found.zero == zero_in(record) == first_zero(loss)
        assert (found.zero.time, found.zero.why, found.fault) == (3, "rule", None)


def test_where_it_began_is_known_if_ops_were_kept():
    gains = [1.0] * 20
    gains[7] = math.nan
    with np.errstate(invalid="ignore"):
        loss = nn.unroll(Linear([[1.0]], gains=gains), Tensor(np.ones((20, 1, 1)), requires_grad=True))[0][-1].sum()
        found = diagnose(bptt.backward(loss, keep="ops"))
    assert (found.fault.op, found.fault.time, found.fault.own) == ("multiply", 7, True)
    assert "test_diagnose.py" in found.fault.source
    assert diagnose(linear(0.0)).zero is None  # no ops
    assert diagnose(bptt.record(loss)).fault == found.fault


def test_a_loaded_record_has_the_same_diagnosis(tmp_path):
    record = Reader("gru reset before", "fused", 20, True).record
    record.save(tmp_path / "a.record")
    assert diagnose(bptt.Record.load(tmp_path / "a.record")) == diagnose(record)
