"""The verdict, against chains whose decay is known in closed form."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, nn
from minigrad.bptt.diagnose import EXPLODES_ABOVE, VANISHES_BELOW, diagnose
from minigrad.errors import RecordError


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
