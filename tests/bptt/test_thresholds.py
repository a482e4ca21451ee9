"""Clipping over training and of one gradient, against hand counts, the optimizer's own clipping and the engine."""

import math

import numpy as np
import pytest

from minigrad import Tensor, bptt, clip_grad_norm, clip_grad_value, nn, ops
from minigrad.bptt.thresholds import QUANTILES, clipping_effects, norms_over_training
from minigrad.errors import MinigradError, RecordError, ShapeError
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS

# Over training


def test_counts_mean_and_quantiles_are_those_of_the_norms():
    norms = [1.0, 2.0, 3.0, 4.0, 90.0]
    found = norms_over_training(norms)
    assert (found.updates, found.not_finite, found.fired, found.removed) == (5, 0, None, 0.0)
    assert math.isnan(found.fired_share)
    assert found.mean == 20
    assert found.quantiles == dict(zip(QUANTILES, np.quantile(norms, QUANTILES), strict=True))
    assert found.quantiles[0.5] == 3


def test_pascanus_thresholds_are_half_to_ten_times_the_mean():
    found = norms_over_training([1.0, 3.0, 2.0, 14.0])
    assert (found.lowest, found.suggested, found.highest) == (2.5, 5, 50)
    assert found.would_fire == {2.5: 0.5, 5: 0.25, 50: 0}


def test_how_often_clipping_fired_and_how_much_it_took():
    before = np.array([0.5, 2.0, 4.0, 1.0])
    found = norms_over_training(before, np.minimum(before, 1.0))
    assert (found.fired, found.fired_share) == (2, 0.5)
    assert found.removed == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_clippings_say_it_themselves(clip):
    clippings = []
    for size in (0.1, 3.0, 40.0):
        p = Tensor(np.array([3.0, 4.0]), requires_grad=True)
        (p * size).sum().backward()
        clippings.append(clip([p], 1.0))
    found = norms_over_training(clippings)
    assert found == norms_over_training([c.norm_before for c in clippings], [c.norm_after for c in clippings])
    assert found.quantiles[0.5] == pytest.approx(3 * math.sqrt(2))
    assert found.fired == sum(c.fired for c in clippings) == 2


def test_what_is_not_finite_is_counted_apart():
    found = norms_over_training([1.0, np.nan, 3.0, np.inf], [1.0, np.nan, 2.0, np.nan])
    assert (found.updates, found.not_finite, found.mean, found.fired) == (4, 2, 2.0, 1)
    assert found.would_fire[1.0] == 0.75


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e308])
def test_norms_of_any_size_have_their_mean(scale):
    found = norms_over_training([scale, scale / 2, scale])
    assert found.mean == pytest.approx(scale / 6 * 5)
    assert found.quantiles[0.5] == scale


def test_norms_of_zero_alone():
    found = norms_over_training([0.0, 0.0], [0.0, 0.0])
    assert (found.mean, found.fired, found.would_fire) == (0, 0, {0.0: 0.0})


def test_one_update_is_enough():
    assert norms_over_training(iter([7.0])).quantiles == dict.fromkeys(QUANTILES, 7.0)


@pytest.mark.parametrize(
    ("norms", "found"), [([], "0, none of them finite"), ([np.nan], "1, none of"), ([1.0, -2.0], "the smallest is -2")]
)
def test_what_is_no_list_of_norms_is_refused(norms, found):
    with pytest.raises(MinigradError, match=rf"norms of gradients, {found}.*\n  Give one norm an update, 0 or more."):
        norms_over_training(norms)


def test_norms_before_and_after_are_as_many():
    with pytest.raises(ShapeError, match=r"2 norms before clipping and 1 after it.\n  Give one of each an update."):
        norms_over_training([1.0, 2.0], [1.0])


# Of one gradient


class Case:
    """A layer of one walk, a readout, and the record of a loss at every step or on the last."""

    def __init__(self, kind, kernel="steps", steps=6, batch=2, lengths=None, last=False, dtype=np.float64, scale=1.0):
        layer_type, own = KINDS[kind]
        rng = np.random.default_rng(9)
        self.layer = layer_type(3, 4, kernel=kernel, rng=rng, dtype=dtype, **own)
        self.layer.weight_hh_l0.data = self.layer.weight_hh_l0.data * dtype(3)
        self.readout = nn.Linear(4, 2, rng=rng, dtype=dtype)
        self.x = rng.standard_normal((steps, batch, 3)).astype(dtype)
        self.lengths, self.last, self.scale = lengths, last, scale
        output, _ = self.layer(self.x, lengths=lengths)
        self.record = bptt.backward(self.loss(output))

    def loss(self, output):
        y = self.readout(output[-1:] if self.last else output)
        return (y * y).sum() * self.scale

    @property
    def parameters(self):
        return [*self.layer.parameters(), *self.readout.parameters()]

    @property
    def gradient(self):
        return np.concatenate([p.grad.ravel() for p in self.layer.parameters()]).astype(np.float64)


def degrees(a, b):
    return math.degrees(math.acos(min(1, a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("clip", ["norm", "value"])
@pytest.mark.parametrize("threshold", [1e-2, 1.0, 1e4])
def test_by_norm_and_by_value_do_what_the_optimizers_clipping_does(kind, kernel, clip, threshold):
    case = Case(kind, kernel)
    (e,) = clipping_effects(case.record, **{"max_norm" if clip == "norm" else "clip_value": threshold})
    before = case.gradient
    (clip_grad_norm if clip == "norm" else clip_grad_value)(case.parameters, threshold)
    after = case.gradient
    assert (e.kind, e.threshold) == (clip, threshold)
    assert e.norm_before == pytest.approx(np.linalg.norm(before))
    assert e.norm_after == pytest.approx(np.linalg.norm(after))
    assert e.removed == pytest.approx(np.linalg.norm(before - after) / np.linalg.norm(before), abs=1e-12)
    assert e.angle == pytest.approx(degrees(before, after), abs=1e-5)
    assert e.limited == (float((before != after).mean()) if clip == "value" else float((before != after).any()))
    assert e.ratio_before == e.ratio_after
    for field, g in case.record.sequence().gradients.items():
        for seen in (e.states_before[field], e.states_after[field]):  # clipping comes after backward
            np.testing.assert_allclose(seen, np.sqrt((g**2).sum(axis=(1, 2))), rtol=1e-12)
    norms = case.record.sequence().norms()
    assert e.ratio_before == pytest.approx(np.linalg.norm(norms[0]) / np.linalg.norm(norms[-1]))


def wrapped(cell, limit, seen):
    """The same cell, with ops.clip_gradient on every field of the state that a step hands on."""

    class Limited:
        def initial_state(self, batch):
            return cell.initial_state(batch)

        def step(self, x, state):
            after = cell.step(x, state)
            for field in after:
                field.retain_grad()
            seen.append(after)
            return type(after)(*(ops.clip_gradient(field, limit=limit) for field in after))

    return Limited()


@EACH_KIND
@EACH_KERNEL
@pytest.mark.parametrize("limit", [1e-3, 0.1, 1.0, 1e9])
@pytest.mark.parametrize("last", [False, True])
def test_in_backward_is_clip_gradient_on_every_state(kind, kernel, limit, last):
    case = Case(kind, kernel, last=last)
    (e,) = clipping_effects(case.record, limit=limit)
    before, seen = case.gradient, []
    for p in case.parameters:
        p.zero_grad()
    output, _ = nn.unroll(wrapped(case.layer.walks[0].cell, limit, seen), case.x)
    case.loss(output).backward()
    after = case.gradient
    assert e.kind == "backward"
    assert e.norm_before == pytest.approx(np.linalg.norm(before))
    assert e.norm_after == pytest.approx(np.linalg.norm(after), rel=1e-9)
    assert e.removed == pytest.approx(np.linalg.norm(before - after) / np.linalg.norm(before), abs=1e-9)
    assert e.angle == pytest.approx(degrees(before, after), abs=1e-5)
    assert e.ratio_after == pytest.approx(np.linalg.norm(seen[0].h.grad) / np.linalg.norm(seen[-1].h.grad), rel=1e-9)
    for field, g in case.record.sequence().gradients.items():
        np.testing.assert_allclose(e.states_before[field], np.sqrt((g**2).sum(axis=(1, 2))), rtol=1e-9)
        norms = [np.linalg.norm(getattr(state, field).grad) for state in seen]
        np.testing.assert_allclose(e.states_after[field], norms, rtol=1e-9)
    if limit == 1e9:
        assert (e.limited, e.removed, e.angle) == (0, 0, 0)
        assert all(np.array_equal(e.states_before[f], e.states_after[f]) for f in e.states_before)


@EACH_KERNEL
def test_it_stops_an_explosion_where_it_begins(kernel):
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data, layer.weight_ih_l0.data = np.array([[2.0]]), np.array([[1.0]])
    output, _ = layer(np.ones((11, 1, 1)))
    record = bptt.backward(output[-1].sum())
    norm, value, backward = clipping_effects(record, max_norm=1.0, clip_value=1.0, limit=1.0)
    assert norm.ratio_after == value.ratio_after == norm.ratio_before == 1024
    assert backward.ratio_after == 1
    assert (norm.angle, norm.limited) == (0, 1)
    assert backward.limited == pytest.approx(10 / 11)


@EACH_KERNEL
def test_none_of_them_cures_a_gradient_that_vanishes(kernel):
    layer = nn.RNN(1, 1, nonlinearity="relu", bias=False, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
    layer.weight_hh_l0.data, layer.weight_ih_l0.data = np.array([[0.5]]), np.array([[1.0]])
    output, _ = layer(np.ones((11, 1, 1)))
    record = bptt.backward(output[-1].sum())
    for e in clipping_effects(record, max_norm=0.5, clip_value=0.5, limit=1.0):
        assert e.ratio_after == pytest.approx(2.0**-10)


@EACH_KIND
@EACH_KERNEL
def test_unequal_lengths_have_a_first_and_a_last_step_each(kind, kernel):
    case = Case(kind, kernel, batch=3, lengths=[4, 6, 1])
    norms = case.record.sequence().norms()
    expected = np.linalg.norm(norms[0]) / np.linalg.norm([norms[3, 0], norms[5, 1], norms[0, 2]])
    (e,) = clipping_effects(case.record, limit=1e9)
    assert e.ratio_before == pytest.approx(expected)
    assert e.ratio_after == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(e.states_after["h"], np.linalg.norm(norms, axis=1), rtol=1e-9)


def test_in_the_reverse_direction_the_first_step_is_the_last_input():
    layer = nn.LSTM(3, 4, bidirectional=True, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.random.default_rng(1).standard_normal((5, 2, 3)))
    record = bptt.backward((output * output).sum())
    (e,) = clipping_effects(record, limit=1e9, sequence="l0_reverse")
    norms = record.sequences["l0_reverse"].norms()
    assert e.sequence == "l0_reverse"
    assert e.ratio_after == pytest.approx(np.linalg.norm(norms[4]) / np.linalg.norm(norms[0]), rel=1e-9)
    for seen in (e.states_before["h"], e.states_after["h"]):  # by input time
        np.testing.assert_allclose(seen, np.linalg.norm(norms, axis=1), rtol=1e-9)


def test_a_weight_of_two_walks_keeps_what_comes_from_the_other():
    layer = nn.RNN(2, 2, rng=np.random.default_rng(0), dtype=np.float64)
    output, _ = layer(np.random.default_rng(1).standard_normal((4, 1, 2)))
    again, _ = layer(output)
    record = bptt.backward((again * again).sum())
    one, other = record.sequences
    (e,) = clipping_effects(record, limit=1e-300, sequence=one)
    rest = [sum(t.array() for t in p.terms if t.sequence == other) for p in record.parameters.values()]
    assert e.norm_after == pytest.approx(math.hypot(*(np.linalg.norm(g) for g in rest)), rel=1e-9)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (5, 1)])
@EACH_KIND
def test_one_step_and_one_sample(kind, steps, batch):
    effects = clipping_effects(Case(kind, steps=steps, batch=batch).record, max_norm=0.1, clip_value=0.1, limit=1e-2)
    assert [e.kind for e in effects] == ["norm", "value", "backward"]
    for e in effects:
        assert math.isfinite(e.angle)
        assert e.ratio_before == 1 or steps > 1


def test_float32_agrees_with_float64():
    one, other = (
        clipping_effects(Case("lstm", dtype=dtype).record, max_norm=1.0, clip_value=0.1, limit=0.1)
        for dtype in (np.float32, np.float64)
    )
    for a, b in zip(one, other, strict=True):
        for name in ("norm_before", "norm_after", "removed", "angle", "ratio_before", "ratio_after"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-3, abs=1e-4), name


def test_a_gradient_of_zero_has_no_angle():
    for e in clipping_effects(Case("lstm", scale=0.0).record, max_norm=1.0, clip_value=1.0, limit=1.0):
        assert (e.norm_before, e.norm_after, e.limited) == (0, 0, 0)
        assert math.isnan(e.angle)
        assert math.isnan(e.removed)


def test_what_is_not_finite_has_no_angle_either():
    with np.errstate(all="ignore"):
        record = Case("rnn tanh", scale=np.inf).record
    for e in clipping_effects(record, max_norm=1.0, clip_value=1.0):
        assert math.isnan(e.removed)
        assert math.isnan(e.angle)


@pytest.mark.parametrize("thresholds", [{}, {"max_norm": 0.0}, {"limit": -1.0}, {"clip_value": math.inf}])
def test_thresholds_that_are_none_are_refused(thresholds):
    with pytest.raises(MinigradError, match=r"Give at least one threshold, each positive and finite."):
        clipping_effects(Case("rnn tanh").record, **thresholds)


def test_a_record_before_backward_has_no_gradient_to_clip():
    layer = nn.RNN(2, 3, rng=np.random.default_rng(0))
    output, _ = layer(np.ones((4, 1, 2), np.float32))
    with pytest.raises(RecordError, match=r"clipping_effects of l0: this record was made before any backward.\n  Give"):
        clipping_effects(bptt.record(output.sum()), max_norm=1.0)
