"""What the exercise should give: the package's own norms and verdicts, and each remedy tried on the patient."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.bptt.diagnose import diagnose
from minigrad.course import Judge


def treated(layer: nn.Recurrent, remedy: str) -> nn.Recurrent:
    """The patient with this remedy."""
    weights = {name: array.copy() for name, array in layer.state_dict().items()}
    if remedy == "gates":
        return nn.LSTM(layer.input_size, layer.hidden_size, forget_bias=4.0, rng=np.random.default_rng(2))
    if remedy == "smaller":
        weights["weight_hh_l0"] /= np.abs(np.linalg.eigvals(weights["weight_hh_l0"][: layer.hidden_size])).max()
    if remedy == "biases":
        for name in ("bias_ih_l0", "bias_hh_l0"):
            weights[name][:] = 0
    layer.load_state_dict(weights)
    return layer


def check(work: Any, judge: Judge) -> None:
    layers = work.patients()
    records: dict[str, bptt.Record] = {name: work.record_of(layer) for name, layer in layers.items()}
    for name, record in records.items():
        for state in record.sequence().states:
            expected = np.array([reading.norm for reading in record.sequence().readings(state)])
            judge.equal(f"{name}: the norms of dL/d{state}_t, one a step", work.norms(record, state), expected,
                        tolerance=1e-6)  # fmt: skip

    for norm, right, why in (
        ([1e-5, 0.1, 1.0], "vanishing", "little arrives at step 1"),
        ([1.0, 1.0, 1e4], "vanishing", "1 is little if the last is 10,000"),
        ([0.5, 2.0, 1.0], "healthy", "half arrives"),
        ([1e-6, 1e-6, 1e-6], "healthy", "small, but nothing is lost on the way"),
        ([1e-9, 5e3, 1.0], "exploding", "it grows 5,000 times before it dies"),
        ([2e4, 1e2, 1.0], "exploding", "it grows all the way back"),
        ([0.0, 0.0, 0.0], "dead", "nothing at all"),
    ):
        judge.equal(f"norms {norm}: {right}, as {why}", work.verdict(np.array(norm)), right)
    for name, record in records.items():
        found = diagnose(record)
        right_one = "dead" if found.verdict in ("dead", "no path") else found.verdict
        judge.equal(f"{name} is {right_one}", work.verdict(work.norms(record, found.state)), right_one)

    for name, layer in layers.items():
        found = diagnose(records[name])
        chosen = work.remedy(work.verdict(work.norms(records[name], found.state)))
        judge.true(f"{name}: the remedy is one of {', '.join(work.REMEDIES)}", chosen in work.REMEDIES, chosen)
        fits = (chosen == "nothing") == (found.verdict == "healthy")
        judge.true(f"{name}: who is well needs nothing, who is not needs something", fits, f"the remedy {chosen}")
        after = diagnose(work.record_of(treated(layer, chosen)))
        ill = {"vanishing", "exploding", "dead", "no path"} & {found.verdict}
        judge.true(f"{name}, with the remedy {chosen}: no longer {found.verdict}" if ill else f"{name} stays healthy",
                   after.verdict not in ill, f"still {after.verdict}")  # fmt: skip
