"""A kernel's Record is that of its reference; `expand` gives the ops back."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, bptt, clip_grad_norm, nn
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.fault import first_fault
from minigrad.bptt.record import Lazy, Record, StackedTerms
from minigrad.errors import RecordError
from minigrad.views import draw, report
from tests.bptt.cases import EACH_KIND, KINDS


class Network(nn.Module):
    """Layers and a readout; the same numbers for either kernel."""

    def __init__(self, kind: str, kernel: str, dtype: Any = np.float64, **options: Any) -> None:
        layer, own = KINDS[kind]
        rng = np.random.default_rng(5)
        self.layer = layer(3, 4, **{"num_layers": 2, "bidirectional": True, "kernel": kernel, **own, **options},
                           rng=rng, dtype=dtype)  # fmt: skip
        self.readout = nn.Linear(4 * (1 + self.layer.bidirectional), 5, rng=rng, dtype=dtype)


def loss_of(network: Network, use: str, lengths: list[int] | None, t: int = 6, n: int = 3) -> Tensor:
    """A loss that looks at all outputs, at the last states, at both, or at one output."""
    rng = np.random.default_rng(6)
    layer = network.layer
    walks, dtype = len(layer.walks), network.readout.weight.dtype
    x = Tensor(rng.standard_normal((t, n, 3)).astype(dtype), requires_grad=True)
    h, c = (Tensor(rng.standard_normal((walks, n, 4)).astype(dtype), requires_grad=True) for _ in range(2))
    output, last = layer(x, (h, c) if isinstance(layer, nn.LSTM) else h, lengths=lengths)
    target = rng.integers(0, 5, (t, n))
    if lengths is not None:
        target = np.where(np.arange(t)[:, np.newaxis] < np.array(lengths), target, -100)
    loss = nn.cross_entropy(network.readout(output), target) if use in ("outputs", "both") else Tensor(dtype.type(0))
    if use in ("last", "both"):
        for s in last if isinstance(last, tuple) else (last,):
            loss = loss + (s * rng.standard_normal(s.shape).astype(dtype)).sum()
    return (output[t // 3] * output[t // 3]).sum() if use == "one" else loss


def record_of(kind: str, kernel: str, use: str, lengths: list[int] | None = None, **sizes: Any) -> Record:
    return bptt.backward(loss_of(Network(kind, kernel), use, lengths, **sizes))


def assert_same(steps: Record, fused: Record, rtol: float = 1e-10) -> None:
    """Everything that a record says, but which way it was computed."""

    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1e-300, np.max(np.abs(b), initial=0)))

    assert list(steps.sequences) == list(fused.sequences)
    for name, s in steps.sequences.items():
        f = fused.sequences[name]
        assert (f.kernel, s.kernel) == (True, False)
        assert (s.name, s.cell, s.scope, s.reverse, s.complete) == (f.name, f.cell, f.scope, f.reverse, f.complete)
        assert s.settings == f.settings is not None
        np.testing.assert_array_equal(s.lengths, f.lengths)
        for field in ("states", "initial", "gates", "gradients", "initial_gradients", "gate_norms"):
            a, b = getattr(s, field), getattr(f, field)
            assert list(a) == list(b), field
            for key in a:  # a value that no loss depends on is not in the steps' graph: NaN stands for it
                hidden = np.isnan(a[key]) if field in ("states", "gates") else False
                close(np.where(hidden, np.nan, b[key]), a[key])
        for state in s.states:
            np.testing.assert_array_equal(s.reached[state], f.reached[state])
            np.testing.assert_array_equal(s.passed[state], f.passed[state])
            assert [r.kind for r in s.readings(state)] == [r.kind for r in f.readings(state)]
            for where, norms in s.arrivals[state].items():
                close(f.arrivals[state][where], norms)
        close(f.input_means, s.input_means)
        close(f.input_norms, s.input_norms)
        assert diagnose(steps, sequence=name).verdict == diagnose(fused, sequence=name).verdict
    assert list(steps.parameters) == list(fused.parameters)
    for name, p in steps.parameters.items():
        close(fused.parameters[name].gradient, p.gradient)
        for sequence in steps.sequences:
            a, b = p.by_step(sequence), fused.parameters[name].by_step(sequence)
            assert list(a) == list(b)
            close(list(b.values()), list(a.values()))
        if len(p.terms):
            close(np.sum([term.array() for term in fused.parameters[name].terms], axis=0), p.gradient)
    np.testing.assert_allclose(
        fused.losses if fused.losses is not None else np.nan, steps.losses if steps.losses is not None else np.nan
    )


@EACH_KIND
@pytest.mark.parametrize("use", ["outputs", "last", "both", "one"])
@pytest.mark.parametrize("lengths", [None, [3, 6, 1]])
def test_a_kernels_record_is_the_steps_record(kind: str, use: str, lengths: list[int] | None) -> None:
    assert_same(record_of(kind, "steps", use, lengths), record_of(kind, "fused", use, lengths))


@EACH_KIND
@pytest.mark.parametrize(("t", "n"), [(1, 1), (1, 2), (5, 1)])
def test_one_step_and_one_sample_too(kind: str, t: int, n: int) -> None:
    assert_same(record_of(kind, "steps", "both", t=t, n=n), record_of(kind, "fused", "both", t=t, n=n))


def test_a_loss_on_the_last_cell_state_alone_does_not_reach_the_last_h() -> None:
    def record(kernel: str) -> Record:
        layer = nn.LSTM(3, 4, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
        x = Tensor(np.random.default_rng(1).standard_normal((4, 2, 3)), requires_grad=True)
        _, (_, c) = layer(x, tuple(Tensor(np.ones((1, 2, 4)), requires_grad=True) for _ in range(2)))
        return bptt.backward((c * c).sum())

    steps, fused = record("steps"), record("fused")
    assert_same(steps, fused)
    assert fused.sequence().reached["h"].tolist() == [True, True, True, False]


@EACH_KIND
def test_a_record_before_backward_has_values_and_no_gradients(kind: str) -> None:
    s = bptt.record(loss_of(Network(kind, "fused"), "both", [3, 6, 1])).sequence("l0_reverse")
    assert not s.complete
    assert all(np.isnan(g).all() for g in (*s.gradients.values(), *s.gate_norms.values()))
    assert all(r.kind == "no backward yet" for r in s.readings())


def test_a_walk_that_the_loss_does_not_depend_on_is_told_apart() -> None:
    network = Network("lstm", "fused", num_layers=1)
    output, _ = network.layer(np.ones((3, 1, 3)))
    record = bptt.backward((output[:, :, :4] * 1.0).sum())  # the forward direction alone
    assert diagnose(record, sequence="l0").verdict != "no path"
    assert not record.sequences["l0_reverse"].norms().any()


@EACH_KIND
def test_it_saves_and_loads(kind: str, tmp_path: Path) -> None:
    record = record_of(kind, "fused", "both", [3, 6, 1])
    record.save(tmp_path / "a.record")
    assert Record.load(tmp_path / "a.record") == record


def test_terms_are_made_when_asked_for() -> None:
    terms = record_of("lstm", "fused", "both").parameters["layer.weight_hh_l0"].terms
    assert isinstance(terms, StackedTerms)
    assert len(terms) == 6
    assert [term.time for term in terms] == [0, 1, 2, 3, 4, 5]
    assert terms[-1].time == 5
    assert [term.time for term in terms[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        terms[6]


def test_a_lazy_value_is_made_once() -> None:
    made = []
    lazy = Lazy({"a": lambda: made.append(1) or 7, "b": lambda: made.append(2)})
    assert (lazy["a"], lazy["a"], list(lazy), len(lazy), made) == (7, 7, ["a", "b"], 2, [1])


def test_a_shared_weight_has_the_terms_of_both_walks() -> None:
    def record(kernel: str) -> Record:
        layer = nn.GRU(2, 2, kernel=kernel, rng=np.random.default_rng(0), dtype=np.float64)
        output, _ = layer(np.random.default_rng(1).standard_normal((3, 1, 2)))
        again, _ = layer(output)
        return bptt.backward((again * again).sum())

    steps, fused = record("steps"), record("fused")
    assert list(steps.sequences) == list(fused.sequences)
    for name, p in steps.parameters.items():
        assert [(t.sequence, t.time) for t in p.terms] == [(t.sequence, t.time) for t in fused.parameters[name].terms]
        np.testing.assert_allclose(sum(t.array() for t in fused.parameters[name].terms), p.gradient, rtol=1e-10)


# Views


def test_strip_cell_report_and_clipping_show_a_kernel_as_they_show_steps() -> None:
    sources = []
    for kernel in ("steps", "fused"):
        network = Network("lstm", kernel, np.float64, num_layers=1, bidirectional=False)
        record = bptt.backward(loss_of(network, "outputs", None))
        clipping = clip_grad_norm(network.parameters(), 0.1)
        sources.append([
            draw.unrolled(record, "strip").source, draw.unrolled(record, "cell").source,
            draw.clipping(record, clipping).source,
        ])  # fmt: skip
        report.gradients(record.after(clipping=clipping))
    assert sources[0] == sources[1]


@pytest.mark.parametrize("level", ["gate", "op"])
def test_gates_and_ops_of_a_kernel_ask_for_expand(level: str) -> None:
    record = bptt.backward(loss_of(Network("gru reset after", "fused"), "outputs", None), keep="ops")
    with pytest.raises(RecordError, match=r"ran in one op, a kernel.\n  Draw bptt.expand\(loss\)"):
        draw.unrolled(record, level, sequence="l0")


def test_the_whole_graph_shows_a_kernel_as_one_marked_node() -> None:
    network = Network("lstm", "fused", num_layers=1, bidirectional=False)
    record = bptt.backward(loss_of(network, "outputs", None), keep="ops")
    assert record.graph is not None
    assert [node.op for node in record.graph.nodes].count("LSTM kernel") == 1
    assert "LSTM kernel" in draw.graph(record).source


# Expand


@EACH_KIND
@pytest.mark.parametrize("lengths", [None, [3, 6, 1]])
def test_expand_gives_the_op_level_record_of_the_steps(kind: str, lengths: list[int] | None) -> None:
    steps = bptt.backward(loss_of(Network(kind, "steps"), "both", lengths), keep="ops")
    expanded = bptt.expand(loss_of(Network(kind, "fused"), "both", lengths))
    assert steps.graph is not None
    assert expanded.graph is not None
    for a, b in zip(steps.graph.nodes, expanded.graph.nodes, strict=True):
        assert (a.op, a.name, a.scope, a.parents, a.shape) == (b.op, b.name, b.scope, b.parents, b.shape)
        assert b.reading.norm == pytest.approx(a.reading.norm, rel=1e-9, abs=1e-15)
    assert [b[:6] for b in steps.graph.boxes] == [b[:6] for b in expanded.graph.boxes]
    np.testing.assert_allclose(
        expanded.losses if expanded.losses is not None else 0, steps.losses if steps.losses is not None else 0
    )
    for name, s in steps.sequences.items():
        for state in s.states:
            given = expanded.sequences[name].gradients[state]
            np.testing.assert_allclose(given, s.gradients[state], rtol=1e-9, atol=1e-15)


def test_expand_replays_the_same_dropout_masks() -> None:
    network = Network("lstm", "fused", dropout=0.5)
    loss = loss_of(network, "both", None)
    expanded, fused = bptt.expand(loss), bptt.backward(loss)
    assert expanded.loss == pytest.approx(fused.loss, rel=1e-12)
    for name, p in fused.parameters.items():
        np.testing.assert_allclose(expanded.parameters[name].gradient, p.gradient, rtol=1e-9, atol=1e-14)


def test_expand_leaves_no_gradient_and_uses_the_weights_as_they_were() -> None:
    network = Network("gru reset after", "fused")
    loss = loss_of(network, "outputs", None)
    records = []
    for _ in range(2):
        records.append(bptt.expand(loss))  # from one line, which is in the record
        for p in network.parameters():
            assert p.grad is None
            p.data = np.zeros_like(p.data)
    assert records[0] == records[1]


def test_expand_of_a_graph_without_kernels_is_its_record() -> None:
    loss = loss_of(Network("rnn tanh", "steps"), "both", [3, 6, 1])
    expanded = bptt.expand(loss)
    assert expanded == bptt.backward(loss, keep="ops")


# Faults and memory


def test_a_kernel_at_fault_is_named_with_its_time_step() -> None:
    layer = nn.RNN(3, 4, nonlinearity="relu", kernel="fused", rng=np.random.default_rng(0))
    layer.weight_hh_l0.data = np.eye(4, dtype=np.float32) * np.float32(1e10)
    with np.errstate(all="ignore"):
        output, _ = layer(np.ones((8, 2, 3), np.float32))
        fault = first_fault(output.sum())
    assert fault is not None
    assert (fault.op, fault.scope, fault.time) == ("RNN kernel", ("rnn", "t=5"), 4)


@EACH_KIND
def test_a_kernels_graph_is_freed_without_the_collector(kind: str) -> None:
    gc.disable()
    try:
        loss = loss_of(Network(kind, "fused"), "both", [3, 6, 1])
        record = bptt.backward(loss)
        assert loss.parents[0] is not None
        watched = [weakref.ref(node) for node in (loss, loss.parents[0])]
        del loss
        assert [w() for w in watched] == [None, None]
        assert record.sequence().norms().any()
    finally:
        gc.enable()
