"""Long graphs and long sequences: nothing recurses, everything grows in proportion and is freed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import bptt, nn
from minigrad.__main__ import main
from minigrad.views import draw

pytestmark = pytest.mark.slow


def lstm_record(steps: int, keep: str) -> bptt.Record:
    rng = np.random.default_rng(0)
    lstm, readout = nn.LSTM(4, 8, rng=rng), nn.Linear(8, 5, rng=rng)
    outputs, _ = lstm(rng.standard_normal((steps, 1, 4)).astype(np.float32))
    return bptt.backward(nn.cross_entropy(readout(outputs), rng.integers(0, 5, (steps, 1))), keep)


def test_a_million_ops_run_forward_and_backward_and_are_freed_without_the_collector() -> None:
    x = mg.Tensor(np.float64(1.0), requires_grad=True)
    y = x
    for _ in range(1_000_000):
        y = y + 1e-6
    y.backward()
    assert x.grad == 1
    assert y.item() == pytest.approx(2.0, abs=1e-9)
    middle = weakref.ref(y.parents[0])
    gc.disable()
    try:
        del y
        assert middle() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("level", "steps"), [("cell", 1000), ("gate", 300), ("op", 200)])
def test_every_step_of_a_long_sequence_is_drawn(level: str, steps: int) -> None:
    svg = draw.unrolled(lstm_record(steps, "ops"), level, everything=True).svg()
    assert svg.count('id="step_') == steps


def test_a_chain_of_a_hundred_thousand_ops_is_drawn_folded() -> None:
    x = mg.Tensor(np.ones(2), requires_grad=True, name="x")
    y = x
    for _ in range(50_000):
        y = mg.tanh(y) + x
    record = bptt.backward(y.sum(), keep="ops")
    assert record.graph is not None
    assert len(record.graph.nodes) == 100_002
    picture = draw.graph(record)
    shown = picture.source.count('class="gate t0"') + picture.source.count('class="input t0"')
    assert f"… {100_002 - shown:,} ops …" in picture.source
    assert max(picture.size) <= 1200
    assert picture.svg().count('class="node') < 100


def test_fifty_thousand_steps_are_drawn_folded() -> None:
    class Decay:
        def initial_state(self, batch: int) -> nn.RNNState:
            return nn.RNNState(mg.Tensor(np.ones((batch, 1))))

        def step(self, x: mg.Tensor, state: nn.RNNState) -> nn.RNNState:
            return nn.RNNState(state.h * 0.9999 + x)

    x = mg.Tensor(np.zeros((50_000, 1, 1)), requires_grad=True)
    _, last = nn.unroll(Decay(), x)
    record = bptt.backward(last.h.sum())
    h = record.sequence().gradients["h"]
    assert h[0, 0, 0] == pytest.approx(0.9999**49_999, rel=1e-9)
    assert "t = 50000" in draw.unrolled(record, "cell").svg()


def test_the_default_command_shows_three_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bptt"]) == 0
    out = capsys.readouterr().out
    assert all(f"{cell} l0  T=40 N=1 H=32" in out for cell in ("RNN", "LSTM", "GRU"))
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == 10
