"""Norms through training: those of one backward walk, the table that they grow into, and what is saved of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, engine, nn
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.history import History, NormHistory, StateNorms, late_share
from minigrad.bptt.terms import step_terms
from minigrad.errors import CheckpointError
from tests.bptt.cases import EACH_KERNEL, EACH_KIND, KINDS, Linear

SHAPES = {
    "plain": (7, 3, {}, None),
    "one sample": (7, 1, {}, None),
    "one step": (1, 2, {}, None),
    "layers": (5, 2, {"num_layers": 2}, None),
    "directions": (6, 2, {"num_layers": 2, "bidirectional": True}, None),
    "lengths": (6, 4, {"bidirectional": True}, [2, 6, 1, 4]),
    "all shorter": (6, 2, {}, [3, 4]),
}


def loss_of(kind: str, kernel: str, shape: str = "plain", dtype: Any = np.float64, last: bool = False) -> Any:
    """A weighted sum of a layer's outputs, of all or of the last states, the same every time."""
    steps, batch, options, lengths = SHAPES[shape]
    cell, more = KINDS[kind]
    rng = np.random.default_rng(5)
    layer = cell(3, 4, kernel=kernel, rng=rng, dtype=dtype, **options, **more)
    y, state = layer(rng.standard_normal((steps, batch, 3)).astype(dtype), lengths=lengths)
    fields = state if isinstance(state, tuple) else (state,)
    cotangents = [rng.standard_normal(x.shape).astype(dtype) for x in (y, *fields)]
    if last:
        return sum(((x * g).sum() for x, g in zip(fields, cotangents[1:])), 0.0 * fields[0].sum())
    return (y * cotangents[0]).sum()


def norms_of_backward(loss: Any) -> dict[str, dict[str, Any]]:
    seen = StateNorms()
    engine.grad(loss, [], observer=seen.observe)
    return seen.norms()


# One backward walk


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@EACH_KERNEL
@EACH_KIND
def test_norms_are_those_of_the_record(kind: str, kernel: str, shape: str, last: bool, dtype: Any) -> None:
    found = norms_of_backward(loss_of(kind, kernel, shape, dtype, last))
    record = bptt.backward(loss_of(kind, kernel, shape, dtype, last))
    assert list(found) == list(record.sequences)
    for name, sequence in record.sequences.items():
        assert found[name].keys() == sequence.states.keys()
        for state, lane in found[name].items():
            readings = sequence.readings(state)
            assert lane.shape == (sequence.steps,)
            assert lane.dtype == dtype
            wanted = [math.nan if r.kind == "no path" else r.norm for r in readings]
            np.testing.assert_allclose(lane, wanted, rtol=1e-6 if dtype == np.float32 else 1e-13)


def test_norms_of_a_linear_chain_are_powers() -> None:
    """h' = h W + x and the loss on the last state alone: dL/dh_t = g W'^(T-t)."""
    w = np.array([[0.5, 0.3], [-0.2, 0.4]])
    cell, steps, g = Linear(w), 9, np.array([[1.0, -2.0], [0.5, 3.0]])
    _, state = nn.unroll(cell, np.random.default_rng(0).standard_normal((steps, 2, 2)))
    lane = norms_of_backward((state.h * g).sum())["l0"]["h"]
    wanted = [np.linalg.norm(g @ np.linalg.matrix_power(w.T, steps - 1 - t)) for t in range(steps)]
    np.testing.assert_allclose(lane, wanted, rtol=1e-14)


def test_a_norm_survives_where_its_square_does_not() -> None:
    _, state = nn.unroll(Linear([[1e-25]]), np.ones((13, 1, 1)))
    lane = norms_of_backward(state.h.sum())["l0"]["h"]
    np.testing.assert_allclose(lane, [10.0 ** (-25 * (12 - t)) for t in range(13)], rtol=1e-12)


def test_what_is_not_finite_is_infinite_and_what_is_zero_is_zero() -> None:
    x = np.ones((4, 1, 1))
    with np.errstate(all="ignore"):
        _, state = nn.unroll(Linear([[1e200]]), x)
        assert norms_of_backward(state.h.sum())["l0"]["h"].tolist() == [math.inf, math.inf, 1e200, 1.0]
        _, state = nn.unroll(Linear([[0.0]]), x)
        assert norms_of_backward(state.h.sum())["l0"]["h"].tolist() == [0.0, 0.0, 0.0, 1.0]
        assert norms_of_backward((state.h * np.nan).sum())["l0"]["h"].tolist() == [math.inf] * 4


@EACH_KERNEL
def test_a_state_that_the_loss_does_not_reach_has_no_norm(kernel: str) -> None:
    layer = nn.LSTM(2, 3, kernel=kernel, rng=np.random.default_rng(0))
    _, (_, c) = layer(np.ones((4, 2, 2), np.float32))
    norms = norms_of_backward(c.sum())["l0"]
    assert np.isnan(norms["h"]).tolist() == [False, False, False, True]
    assert not np.isnan(norms["c"]).any()


def test_two_walks_of_one_name_are_told_apart_as_in_a_record() -> None:
    rng = np.random.default_rng(0)
    reader, writer = nn.RNN(2, 3, rng=rng), nn.GRU(3, 3, rng=rng)

    def loss() -> Any:
        y, _ = reader(np.ones((3, 1, 2), np.float32))
        return writer(y)[0].sum()

    assert list(norms_of_backward(loss())) == list(bptt.backward(loss()).sequences) == ["rnn/l0", "gru/l0"]


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


def test_a_cell_of_ones_own_is_seen_without_further_code() -> None:
    class Fibonacci:
        def initial_state(self, batch: int) -> Pair:
            return Pair(Tensor(np.zeros((batch, 1))), Tensor(np.ones((batch, 1)), requires_grad=True))

        def step(self, x: Tensor, state: Pair) -> Pair:
            return Pair(state.b, state.a + state.b)

    _, state = nn.unroll(Fibonacci(), np.zeros((6, 1, 1)))
    assert norms_of_backward(state.b.sum())["l0"]["b"].tolist() == [8, 5, 3, 2, 1, 1]


@EACH_KERNEL
def test_beside_another_observer_both_see_every_node(kernel: str) -> None:
    alone = norms_of_backward(loss_of("lstm", kernel))
    seen, others = StateNorms(), []
    engine.grad(loss_of("lstm", kernel), [], observer=seen.beside(lambda *node: others.append(node)))
    plain: list[Any] = []
    engine.grad(loss_of("lstm", kernel), [], observer=lambda *node: plain.append(node))
    assert len(others) == len(plain)
    for state, lane in seen.norms()["l0"].items():
        assert lane.tobytes() == alone["l0"][state].tobytes()


@pytest.mark.parity
@EACH_KERNEL
def test_norms_are_those_that_pytorch_retains(kernel: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    layer = nn.LSTM(3, 5, kernel=kernel, dtype=np.float64, rng=rng)
    x, g = rng.standard_normal((8, 4, 3)), rng.standard_normal((8, 4, 5))
    y, _ = layer(x)
    found = norms_of_backward((y * g).sum())["l0"]
    cell = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            getattr(cell, name.removesuffix("_l0")).copy_(torch.from_numpy(p.numpy().copy()))
    h, c = (torch.zeros(4, 5, dtype=torch.float64) for _ in range(2))
    states, loss = [], 0.0
    for x_t, g_t in zip(torch.from_numpy(x), torch.from_numpy(g)):
        h, c = cell(x_t, (h, c))
        h.retain_grad()
        c.retain_grad()
        states.append((h, c))
        loss = loss + (h * g_t).sum()
    loss.backward()  # type: ignore[attr-defined]
    for k, state in enumerate(("h", "c")):
        np.testing.assert_allclose(found[state], [float(s[k].grad.norm()) for s in states], rtol=1e-12)


# The share of the last steps


@pytest.mark.parametrize("part", [0.1, 0.5, 1.0, 0.01])
@pytest.mark.parametrize("shape", ["plain", "one step", "directions", "lengths"])
@EACH_KERNEL
@EACH_KIND
def test_the_share_of_the_last_steps_is_the_sum_of_their_shares(
    kind: str, kernel: str, shape: str, part: float
) -> None:
    record = bptt.backward(loss_of(kind, kernel, shape))
    for name, walk in record.sequences.items():
        parameter = next(p for p in record.parameters if p.endswith(f"weight_hh_{name}"))
        if record.parameters[parameter].norm == 0:  # one step from a state of zeros
            assert math.isnan(late_share(record, parameter, name, part=part))
            continue
        (terms,) = step_terms(record, parameter=parameter, sequence=name)
        count = max(1, round(part * walk.steps))
        shares = terms.shares[:count] if walk.reverse else terms.shares[-count:]
        found = late_share(record, parameter, name, part=part)
        assert found == pytest.approx(float(np.nansum(shares)), rel=1e-10, abs=1e-12)
        if part == 1.0 and np.isfinite(terms.shares).all():
            assert found == pytest.approx(1, rel=1e-12)


# The table


def row(*norms: float, dtype: Any = np.float32) -> Any:
    return np.array(norms, dtype)


def test_rows_come_back_as_they_were() -> None:
    table = NormHistory()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 2, 4)).astype(np.float32) ** 2
    for k, (h, c) in enumerate(rows):
        table.add(3 * k + 1, {"l0": {"h": h, "c": c}}, {"w": k / 2})
    assert (len(table), list(table.updates)) == (5, [1, 4, 7, 10, 13])
    assert table.states == {"l0": ("h", "c")}
    assert table.rows("l0").dtype == np.float32
    assert table.rows("l0").tobytes() == rows[:, 0].tobytes()
    assert table.rows("l0", "c").tobytes() == rows[:, 1].tobytes()
    assert list(table.parameters["w"]) == [0, 0.5, 1, 1.5, 2]


def test_chunks_of_unequal_length_leave_gaps() -> None:
    table = NormHistory()
    for update, norms in ((1, (1.0, 2.0)), (2, (3.0,)), (5, (4.0, 5.0, 6.0))):
        table.add(update, {"l0": {"h": row(*norms)}}, {})
    nan = math.nan
    np.testing.assert_array_equal(table.rows("l0"), [[1, 2, nan], [3, nan, nan], [4, 5, 6]])


def test_a_sequence_or_parameter_that_comes_late_or_goes_has_gaps() -> None:
    table, nan = NormHistory(), math.nan
    table.add(1, {"a": {"h": row(1, 2)}}, {"v": 1.0})
    table.add(2, {"b": {"h": row(3, 4, dtype=np.float64)}}, {"w": 2.0})
    np.testing.assert_array_equal(table.rows("a"), [[1, 2], [nan, nan]])
    np.testing.assert_array_equal(table.rows("b"), [[nan, nan], [3, 4]])
    assert table.rows("b").dtype == np.float64
    np.testing.assert_array_equal(list(table.parameters["v"]), [1, nan])
    np.testing.assert_array_equal(list(table.parameters["w"]), [nan, 2])


def test_an_update_takes_the_bytes_that_are_promised() -> None:
    """Of an LSTM of T=100 in float32: 2 * (4 * 100 + 8), and 8 for its number and each parameter."""
    table = NormHistory()
    for update in range(1, 51):
        table.add(update, {"l0": {s: np.ones(100, np.float32) for s in "hc"}}, dict.fromkeys("abcd", 1.0))

    def size(x: Any) -> int:
        return sum(map(size, x.values())) if isinstance(x, dict) else int(x.nbytes)

    assert size(table.state_dict()) == 50 * (2 * (4 * 100 + 8) + 8 + 4 * 8)


def filled() -> History:
    history = History()
    for k in range(6):
        history.add(loss=k, norm_before=2 * k, norm_after=k, fired=k % 2, lr=0.1)
        if k % 2 == 0:
            lanes = {"h": np.arange(3 + k, dtype=np.float32), "c": row(1e-300, math.nan, math.inf, dtype=np.float64)}
            history.norms.add(k + 1, {"l0": lanes}, {"w": k, "v": math.nan})
    history.evaluations.append((4, 1.5))
    history.diagnosed(4, diagnose(bptt.backward(loss_of("lstm", "steps"))))
    return history


def same(a: Any, b: Any) -> bool:
    """Whether two states of dicts, lists and arrays are equal bit for bit."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return bool(a == b)


def test_a_history_comes_back_and_goes_on() -> None:
    one, other = filled(), History()
    other.load_state_dict(one.state_dict())
    assert same(other.state_dict(), one.state_dict())
    for history in (one, other):
        history.add(loss=0.5, norm_before=1, norm_after=1, fired=0, lr=0.1)
        history.norms.add(7, {"l0": {"h": row(9.0)}}, {"w": 3.0, "u": 1.0})
        history.diagnosed(7, diagnose(bptt.backward(loss_of("rnn relu", "steps", "one step"))))
    assert same(other.state_dict(), one.state_dict())
    assert [(x.update, x.sequence, len(x.arriving)) for x in other.diagnoses] == [(4, "l0", 7), (7, "l0", 1)]


def test_nothing_of_the_state_is_shared_with_the_history() -> None:
    history = filled()
    state = history.state_dict()
    history.norms.add(7, {"l0": {"h": row(1.0)}}, {})  # a column that is exported could not grow
    assert len(state["norms"]["updates"]) == 3


def test_a_history_of_before_there_were_norms_has_none() -> None:
    state = filled().state_dict()
    del state["norms"], state["diagnoses"]
    history = History()
    history.load_state_dict(state)
    assert (len(history), len(history.norms), history.diagnoses) == (6, 0, [])


WRONG = {
    "updates not rising": (("updates",), np.array([1, 1, 5]), "do not rise"),
    "update 0": (("updates",), np.array([0, 1, 5]), "do not rise"),
    "updates beyond the last": (("updates",), np.array([1, 3, 7]), "norms of update 7, and 6 updates"),
    "updates as floats": (("updates",), np.ones(3), "no row of numbers"),
    "too few updates": (("updates",), np.array([1, 3]), "3, where 2 belong"),
    "states no mapping": (("states",), [1], "list where"),
    "sequence no mapping": (("states", "l0"), 3, "int where"),
    "sequence without states": (("states", "l0"), {}, "no states"),
    "steps too few": (("states", "l0", "h", "steps"), np.array([3, 5]), "2, where 3 belong"),
    "steps negative": (("states", "l0", "h", "steps"), np.array([-1, 8, 8]), "no possible number of steps"),
    "steps endless": (("states", "l0", "h", "steps"), np.array([1 << 62, 1 << 62, 15]), "no possible number of steps"),
    "steps of another sum": (("states", "l0", "h", "steps"), np.array([3, 3, 3]), "15, where 9 belong"),
    "norms of another type": (("states", "l0", "h", "norms"), np.zeros(15, np.int32), "right type"),
    "norms in two axes": (("states", "l0", "h", "norms"), np.zeros((3, 5)), "no row of numbers"),
    "norms negative": (("states", "l0", "h", "norms"), -np.ones(15), "negative"),
    "parameters no mapping": (("parameters",), np.ones(3), "ndarray where"),
    "parameter too long": (("parameters", "w"), np.ones(4), "4, where 3 belong"),
    "parameter of another type": (("parameters", "w"), np.ones(3, np.float32), "right type"),
    "parameter negative": (("parameters", "w"), np.array([1.0, -1, 1]), "negative"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_norms_that_are_none_are_refused_and_change_nothing(case: str) -> None:
    path, new, found = WRONG[case]
    history, state = filled(), filled().state_dict()
    place: Any = state["norms"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    before = history.state_dict()
    with pytest.raises(CheckpointError, match=found) as caught:
        history.load_state_dict(state)
    assert str(caught.value).startswith("history: ")
    assert str(caught.value).endswith("\n  Give what state_dict() gave.")
    assert same(history.state_dict(), before)


@pytest.mark.parametrize(
    ("name", "new", "found"),
    [
        ("update", 1.5, "no verdict"), ("sequence", None, "no verdict"), ("verdict", 3, "no verdict"),
        ("verdict", "fine\x1b[2J", "no verdict"), ("update", 7, "diagnosis of update 7, and 6 updates"),
        ("update", 0, "diagnosis of update 0, and 6 updates"),
        ("state", b"h", "no verdict"), ("arriving", np.zeros((2, 2)), "shares that arrive"),
        ("arriving", [1.0], "shares that arrive"), ("arriving", -np.ones(3), "negative"),
    ],
)  # fmt: skip
def test_diagnoses_that_are_none_are_refused(name: str, new: Any, found: str) -> None:
    state = filled().state_dict()
    state["diagnoses"][0][name] = new
    with pytest.raises(CheckpointError, match=found):
        History().load_state_dict(state)


def test_the_history_of_a_checkpoint_is_found_or_the_error_says_what_is_missing() -> None:
    state = filled().state_dict()
    assert same(History.restored({"training": {"history": state}}).state_dict(), state)
    for wrong in ({}, {"training": None}, {"training": {"history": {**state, "loss": None}}},
                  {"training": {"history": {**state, "diagnoses": [{"x": 1}]}}}):  # fmt: skip
        with pytest.raises(CheckpointError, match=r"^the history in this file does not fit together: .*\n  Give a f"):
            History.restored(wrong)
