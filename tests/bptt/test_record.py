"""The Record: norms of any size, terms as factors, equality, files."""

import dataclasses
import math
import os
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, archive, bptt, nn, optim
from minigrad.bptt.record import Reading, Record, Term, kind_of, norms_of
from minigrad.errors import RecordError


def recorded(keep="steps", seed=0, loss="cross entropy", dtype=np.float64, learnt=False, outside=False):
    """The record of one small LSTM, the same for the same arguments."""
    rng = np.random.default_rng(seed)
    layer = nn.LSTM(3, 4, rng=rng, dtype=dtype)
    x = Tensor(rng.standard_normal((5, 2, 3)).astype(dtype), requires_grad=learnt)
    y, _ = layer(x)
    if loss == "cross entropy":
        total = nn.cross_entropy(y, rng.integers(0, 4, (5, 2)))
    elif loss == "first three":
        total = sum(h.sum() for h in y.parents[:3])
    else:
        total = (y * y).sum()
    if outside:
        total = total + (layer.weight_hh_l0 * layer.weight_hh_l0).sum()
    return bptt.backward(total, keep=keep), layer


def record(*args, **options):
    return recorded(*args, **options)[0]


# Norms and their kinds


@pytest.mark.parametrize("scale", [1.0, 1e-170, 1e-200, 1e-300, 1e170, 1e300])
def test_norms_of_any_size(scale):
    x = np.random.default_rng(0).standard_normal((3, 2, 4))
    np.testing.assert_allclose(norms_of(x * scale), scale * np.sqrt((x * x).sum(axis=-1)), rtol=1e-14)


def test_norms_of_float32_below_the_square_root_of_its_smallest_number():
    np.testing.assert_allclose(norms_of(np.full((1, 4), 1e-30, np.float32)), [2e-30], rtol=1e-6)
    np.testing.assert_allclose(norms_of(np.full((1, 4), 1e38, np.float32)), [2e38], rtol=1e-6)


def test_norms_of_zeros_infinities_and_nan():
    x = np.array([[0.0, 0.0], [np.inf, 1.0], [-np.inf, 1e200], [np.nan, 1e200], [3.0, 4.0]])
    np.testing.assert_array_equal(norms_of(x), [0, np.inf, np.inf, np.nan, 5])


def test_norms_of_nothing_are_zero():
    np.testing.assert_array_equal(norms_of(np.zeros((2, 0))), [0, 0])


@pytest.mark.parametrize(
    ("norm", "dtype", "kind"),
    [
        (1.0, np.float32, "value"),
        (0.0, np.float32, "zero"),
        (1e-39, np.float32, "underflow"),
        (1e-39, np.float64, "value"),
        (2.0**-126, np.float32, "value"),
        (2.0**-1022, np.float64, "value"),
        (2.0**-1023, np.float64, "underflow"),
        (math.inf, np.float64, "not finite"),
        (math.nan, np.float32, "not finite"),
    ],
)
def test_kind_of_a_norm(norm, dtype, kind):
    assert kind_of(norm, dtype) == kind


def test_steps_past_the_end_are_padding():
    s = dataclasses.replace(record().sequence(), lengths=np.array([2, 4]))
    readings = s.readings()
    assert [r.kind for r in readings] == ["value"] * 4 + ["padding"]
    norms = s.norms()
    assert readings[1].norm == pytest.approx(math.hypot(*norms[1]), rel=1e-14)
    assert readings[2].norm == pytest.approx(norms[2, 1], rel=1e-14)  # the first sample has ended


def test_reading_of_an_incomplete_record_comes_before_any_other_kind():
    s = dataclasses.replace(record().sequence(), complete=False, lengths=np.array([1, 1]))
    assert {r.kind for r in s.readings()} == {"no backward yet"}
    assert {r.kind for r in s.over_batch(s.norms(), np.zeros(s.steps, bool))} == {"no backward yet"}


# Terms


def exact(left, right):
    """‖left.T @ right‖, the product formed in extended precision."""
    product = left.astype(np.longdouble).T @ right.astype(np.longdouble)
    return float(np.sqrt((product * product).sum()))


SHAPES = [(1, 5, 7), (2, 30, 40), (3, 2, 2), (40, 3, 2), (100, 1, 1), (8, 16, 1), (8, 1, 16), (16, 16, 16)]


@pytest.mark.parametrize(("rows", "height", "width"), SHAPES)
def test_norm_of_a_term_is_the_norm_of_its_array(rows, height, width):
    rng = np.random.default_rng(rows)
    left, right = rng.standard_normal((rows, height)), rng.standard_normal((rows, width))
    term = Term("l0", 0, left, right)
    assert term.array().shape == (height, width)
    assert term.norm() == pytest.approx(exact(left, right), rel=1e-12)
    assert term.norm() == pytest.approx(np.linalg.norm(term.array()), rel=1e-12)


@pytest.mark.parametrize(("rows", "height", "width"), SHAPES)
@pytest.mark.parametrize("sizes", [(1e-180, 1.0), (1.0, 1e-180), (1e-150, 1e-150), (1e180, 1.0), (1e200, 1e100)])
def test_norm_of_tiny_and_huge_terms(rows, height, width, sizes):
    rng = np.random.default_rng(rows)
    left, right = rng.standard_normal((rows, height)), rng.standard_normal((rows, width))
    found = Term("l0", 0, left * sizes[0], right * sizes[1]).norm()
    assert found == pytest.approx(exact(left, right) * sizes[0] * sizes[1], rel=1e-12)


def test_norm_of_a_float32_term_is_formed_in_float64():
    left, right = np.full((2, 20), 1e-25, np.float32), np.full((2, 30), 1e-25, np.float32)
    assert not Term(None, None, left, right).array().any()  # float32 cannot hold 1e-50
    assert Term(None, None, left, right).norm() == pytest.approx(2 * math.sqrt(600) * 1e-50, rel=1e-6)


@pytest.mark.parametrize("rest", [10.0**-k for k in range(1, 11)])
def test_norm_of_a_term_whose_samples_cancel(rest):
    """Two samples a b and -a (1 - rest) b: Gram products lose half of the digits that the product keeps."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal(60), rng.standard_normal(50)
    left, right = np.stack([a, a]), np.stack([b, -(1 - rest) * b])
    assert Term("l0", 0, left, right).norm() == pytest.approx(exact(left, right), rel=1e-6)


def test_norm_of_samples_that_cancel_exactly_is_rounding():
    a, b = np.random.default_rng(4).standard_normal((2, 50))
    found = Term("l0", 0, np.stack([a, a]), np.stack([b, -b])).norm()
    assert found < 1e-15 * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("width", [2, 50])
def test_norm_of_a_term_that_is_not_finite(bad, width):
    left, right = np.ones((2, width)), np.zeros((2, width))
    left[0, 0] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not math.isfinite(Term("l0", 0, left, right).norm())
        assert not math.isfinite(Term("l0", 0, left, None).norm())


def test_norm_of_zeros_is_zero():
    assert Term("l0", 0, np.zeros((2, 50)), np.ones((2, 50))).norm() == 0
    assert Term("l0", 0, np.zeros((2, 3)), None).norm() == 0


def test_term_without_factors_is_its_own_array():
    left = np.array([[3.0, 0.0], [0.0, 4.0]])
    term = Term(None, None, left, None)
    np.testing.assert_array_equal(term.array(), left)
    assert term.norm() == 5


def test_by_step_leaves_out_other_sequences_and_uses_outside():
    def one(x):
        return np.array([[x]])

    parameter = dataclasses.replace(
        next(iter(record().parameters.values())),
        terms=(
            Term("a", 1, one(3.0), None), Term("a", 0, one(2.0), one(5.0)), Term("b", 0, one(7.0), None),
            Term("a", 1, one(-4.0), None), Term(None, None, one(9.0), None),
        ),
    )  # fmt: skip
    assert parameter.by_step("a") == {0: 10.0, 1: 1.0}
    assert list(parameter.by_step("a")) == [0, 1]
    assert parameter.by_step("b") == {0: 7.0}


# Equality


@pytest.mark.parametrize("keep", ["steps", "ops"])
def test_identical_runs_give_equal_records(keep):
    a, b = (record(keep) for _ in range(2))
    assert a == b


def test_other_inputs_give_another_record():
    assert record(seed=0) != record(seed=1)


@pytest.mark.parametrize("keep", ["steps", "ops"])
def test_a_record_before_backward_equals_itself(keep):
    y, _ = nn.unroll(nn.RNNCell(2, 3, rng=np.random.default_rng(0)), np.ones((3, 1, 2), np.float32))
    loss = y.sum()
    assert bptt.record(loss, keep) == bptt.record(loss, keep)
    assert bptt.record(loss, keep) != bptt.backward(loss, keep)


def nudged(array):
    changed = array.copy()
    changed[(0,) * changed.ndim] = np.nextafter(changed[(0,) * changed.ndim], np.inf)
    return changed


ARRAY_FIELDS = ["states", "initial", "gates", "gradients", "gate_norms"]


@pytest.mark.parametrize("field", ARRAY_FIELDS)
def test_one_bit_of_one_number_of_a_sequence_tells_records_apart(field):
    whole = record()
    s = whole.sequence()
    name, array = next(iter(getattr(s, field).items()))
    other = dataclasses.replace(s, **{field: {**getattr(s, field), name: nudged(array)}})
    assert dataclasses.replace(whole, sequences={"l0": other}) != whole
    assert dataclasses.replace(whole, sequences={"l0": dataclasses.replace(s)}) == whole


def test_one_bit_of_a_parameter_a_loss_or_a_node_tells_records_apart():
    whole = record("ops")
    name, p = next(iter(whole.parameters.items()))
    term = p.terms[0]._replace(left=nudged(p.terms[0].left))
    for changed in (
        dataclasses.replace(p, gradient=nudged(p.gradient)),
        dataclasses.replace(p, value=nudged(p.value)),
        dataclasses.replace(p, terms=(term, *p.terms[1:])),
        dataclasses.replace(p, terms=p.terms[:-1]),
    ):
        assert dataclasses.replace(whole, parameters={**whole.parameters, name: changed}) != whole
    node = whole.graph.nodes[5]._replace(mean=1234.5)
    nodes = (*whole.graph.nodes[:5], node, *whole.graph.nodes[6:])
    assert dataclasses.replace(whole, graph=dataclasses.replace(whole.graph, nodes=nodes)) != whole
    assert dataclasses.replace(whole, losses=nudged(whole.losses)) != whole
    assert dataclasses.replace(whole, loss=math.nextafter(whole.loss, 9)) != whole


def test_types_and_shapes_of_arrays_count():
    whole = record()
    assert dataclasses.replace(whole, losses=whole.losses.astype(np.float32)) != whole
    assert dataclasses.replace(whole, losses=whole.losses[None]) != whole


def test_an_array_and_none_differ():
    whole = record()
    assert dataclasses.replace(whole, losses=None) != whole
    assert whole != dataclasses.replace(whole, losses=None)
    assert record("steps") != record("ops")
    assert record(learnt=True).sequence() != record(learnt=False).sequence()


def test_nan_equals_nan():
    whole = record()
    losses = np.array([np.nan, 1.0])
    same = [dataclasses.replace(whole, losses=losses.copy(), loss=float("nan")) for _ in range(2)]
    assert same[0] == same[1]


def test_a_record_equals_nothing_else():
    assert record() != "record"
    assert record().sequence() != record()


def test_records_are_frozen_and_not_hashable():
    whole = record()
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.loss = 1.0
    with pytest.raises(TypeError, match="unhashable"):
        hash(whole)


# sequence and after


def test_sequence_by_name_or_the_first():
    whole = record()
    s = whole.sequences["l0"]
    both = dataclasses.replace(whole, sequences={"l0": s, "l1": dataclasses.replace(s, name="l1")})
    assert both.sequence().name == "l0"
    assert both.sequence("l1").name == "l1"


def test_unknown_sequence_names_those_there_are():
    with pytest.raises(RecordError, match=r"no sequence 'l7'(.|\n)*It has l0"):
        record().sequence("l7")


@pytest.mark.parametrize("name", [None, "l0"])
def test_no_sequence_at_all_names_unroll(name):
    w = Tensor([1.0], requires_grad=True)
    with pytest.raises(RecordError, match=r"no sequence\.(.|\n)*nn\.unroll"):
        bptt.backward((w * w).sum()).sequence(name)


def trained(**options):
    before, layer = recorded(**options)
    clipping = minigrad.clip_grad_norm(layer.parameters(), 0.01)
    update = optim.SGD(layer.parameters(), lr=0.5).step()
    return before, clipping, update


def test_after_adds_what_happened_and_leaves_the_old_record_alone():
    before, clipping, update = trained()
    clipped = before.after(clipping=clipping)
    both = clipped.after(update=update)
    assert (before.clipping, before.update) == (None, None)
    assert (clipped.clipping, clipped.update) == (clipping, None)
    assert (both.clipping, both.update) == (clipping, update)
    assert before == record() != clipped != both
    assert both == before.after(clipping=clipping, update=update)


def test_the_gradients_of_the_record_stay_unclipped():
    before, clipping, _ = trained()
    assert clipping.fired
    norms = [p.norm for p in before.parameters.values()]
    assert clipping.norm_before == pytest.approx(math.hypot(*norms), rel=1e-12)
    assert list(clipping.before.values()) == pytest.approx(norms, rel=1e-12)


# Files


@pytest.mark.parametrize("keep", ["steps", "ops"])
@pytest.mark.parametrize("loss", ["cross entropy", "squares", "first three"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_record_comes_back_equal(tmp_path, keep, loss, dtype):
    whole = record(keep, loss=loss, dtype=dtype, learnt=True, outside=True)
    whole.save(tmp_path / "a.record")
    found = Record.load(tmp_path / "a.record")
    assert found == whole
    assert found.sequence().dtype == dtype
    assert found.sequence().readings() == whole.sequence().readings()
    assert all(type(r) is Reading for r in found.sequence().readings())


def test_clipping_and_update_come_back(tmp_path):
    before, clipping, update = trained()
    before.after(clipping=clipping, update=update).save(tmp_path / "a")
    found = Record.load(tmp_path / "a")
    assert found.clipping == clipping
    assert found.update == update


def test_clipping_of_a_gradient_that_is_not_finite_comes_back_equal(tmp_path):
    before, layer = recorded()
    layer.weight_hh_l0.grad = np.full((16, 4), np.nan)
    clipping = minigrad.clip_grad_value(layer.parameters(), 1.0, error_if_nonfinite=False)
    whole = before.after(clipping=clipping)
    whole.save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == whole


def test_a_record_before_backward_comes_back_equal(tmp_path):
    y, _ = nn.unroll(nn.GRUCell(2, 3, rng=np.random.default_rng(0)), np.ones((3, 1, 2), np.float32))
    whole = bptt.record(y.sum())
    whole.save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == whole


def test_infinite_gradients_come_back(tmp_path):
    whole = record("ops")
    p = whole.parameters["weight_hh_l0"]
    worse = dataclasses.replace(p, gradient=np.full_like(p.gradient, np.inf))
    whole = dataclasses.replace(whole, loss=-math.inf, parameters={"weight_hh_l0": worse})
    whole.save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == whole


class State(NamedTuple):
    h: Tensor


class Gain:
    """h' = gain h + x, with a parameter that has no axes."""

    def __init__(self, dtype):
        self.gain = Tensor(np.array(0.5, dtype), requires_grad=True, name="gain")

    def initial_state(self, batch):
        return State(Tensor(np.ones((batch, 2), self.gain.dtype)))

    def step(self, x, state):
        return State(state.h * self.gain + x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_without_axes_are_arrays_and_come_back(tmp_path, dtype):
    cell = Gain(dtype)
    y, _ = nn.unroll(cell, np.ones((3, 1, 2), dtype))
    whole = bptt.backward(y.sum() * cell.gain, keep="ops")
    (parameter,) = whole.parameters.values()
    assert all(isinstance(term.array(), np.ndarray) for term in parameter.terms)
    assert sum(float(term.array()) for term in parameter.terms) == pytest.approx(float(cell.gain.grad), rel=1e-6)
    whole.save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == whole


def test_names_are_kept_whatever_they_are_made_of(tmp_path):
    w = Tensor([1.0, 2.0], requires_grad=True, name="gewicht „w“ ∂\n{}\"'\u0000")
    whole = bptt.backward((w * w).sum(), keep="ops")
    whole.save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == whole


def test_path_may_be_text_and_keeps_its_name(tmp_path):
    record().save(str(tmp_path / "no.suffix"))
    assert os.listdir(tmp_path) == ["no.suffix"]


def test_saving_again_replaces_the_file(tmp_path):
    record(seed=0).save(tmp_path / "a")
    record(seed=1).save(tmp_path / "a")
    assert Record.load(tmp_path / "a") == record(seed=1)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    record(seed=0).save(tmp_path / "a")

    def fail(number):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        record(seed=1).save(tmp_path / "a")
    monkeypatch.undo()
    assert Record.load(tmp_path / "a") == record(seed=0)
    assert os.listdir(tmp_path) == ["a"]


def test_the_same_record_gives_the_same_file(tmp_path):
    record("ops").save(tmp_path / "a")
    Record.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_saved_record_may_be_read_by_those_who_may_read_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    record().save(tmp_path / "a")
    assert os.stat(tmp_path / "a").st_mode == os.stat(tmp_path / "plain").st_mode


def refused(path):
    """The one clear message: which file, what is wrong, what would do."""
    with pytest.raises(RecordError) as caught:
        Record.load(path)
    message = str(caught.value)
    assert message.startswith(f"read {os.fspath(path)!r} as minigrad record: ")
    assert len(message.splitlines()) == 2
    return message


def test_load_of_a_missing_file(tmp_path):
    assert "there is no such file.\n  Give a file that record.save wrote." in refused(tmp_path / "missing")


def test_load_of_arrays_of_another_program(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    assert "minigrad did not write this file" in refused(tmp_path / "a.npz")


def test_load_of_a_file_cut_short_anywhere(tmp_path):
    record().save(tmp_path / "a")
    size = os.path.getsize(tmp_path / "a")
    for length in reversed(range(0, size, size // 40)):
        os.truncate(tmp_path / "a", length)
        refused(tmp_path / "a")


def test_load_of_a_damaged_file(tmp_path):
    record().save(tmp_path / "a")
    rng = np.random.default_rng(0)
    with open(tmp_path / "a", "r+b", buffering=0) as file:
        for place in rng.integers(0, os.path.getsize(tmp_path / "a"), 60).tolist():
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << int(rng.integers(8)))]))
            try:
                found = Record.load(tmp_path / "a")
            except RecordError:
                pass
            else:
                assert found == record()  # the byte said nothing, such as one of a date
            file.seek(place)
            file.write(bytes([byte]))
    assert Record.load(tmp_path / "a") == record()


def write(path, header, version=4, **arrays):
    """A file that is in order, whatever its header describes."""
    archive.write(path, archive.Format("minigrad record", version, RecordError, ""), header, arrays)
    return path


EMPTY = {"type": "Record", "fields": [1.0, True, {"map": []}, None, {"map": []}, None, None, None]}


def test_a_record_may_be_written_by_hand(tmp_path):
    found = Record.load(write(tmp_path / "a.npz", EMPTY))
    assert found == Record(loss=1.0, complete=True, sequences={}, losses=None, parameters={})


def test_load_of_another_version_says_so(tmp_path):
    assert "version 5, and this minigrad reads version 4" in refused(write(tmp_path / "a.npz", EMPTY, version=5))
    assert "version 3, and this minigrad reads version 4" in refused(write(tmp_path / "a.npz", EMPTY, version=3))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"tuple": 3},
        {"tuple": []},
        {"map": []},
        {"map": [["a"]]},
        {"map": [[[], 1]]},
        {"array": "a7"},
        {"array": []},
        {"array": "a0"},
        {"type": "Path", "fields": ["/"]},
        {"type": "object", "fields": []},
        {"type": [], "fields": []},
        {"type": "Record"},
        {"type": "Record", "fields": []},
        {"type": "Record", "fields": 3},
        {"type": "Record", "fields": [*EMPTY["fields"], 1]},
        {"type": "Reading", "fields": [1.0]},
        {"type": "Reading", "fields": [1.0, "value", 2.0]},
        {"type": "Reading", "fields": [1.0, "value"]},  # in order, but no Record
    ],
    ids=range(19),
)
def test_load_of_a_hostile_header(tmp_path, header):
    assert "Give a file that record.save wrote" in refused(write(tmp_path / "a.npz", header, a0=np.ones(3)))
