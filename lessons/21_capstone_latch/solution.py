"""Solution 21: four sick or healthy networks. Read their records, name what they have, choose what helps."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import bptt, nn
from minigrad.course import practise

STEPS, HIDDEN = 60, 16


def record_of(layer: nn.Recurrent) -> bptt.Record:
    """The gradient of a loss at the end of 60 random inputs."""
    layer.zero_grad()
    x = np.random.default_rng(0).normal(size=(STEPS, 8, 4)).astype(np.float32)
    outputs, _ = layer(x)
    return bptt.backward((outputs[-1] * outputs[-1]).sum())


def patients() -> dict[str, nn.Recurrent]:
    """Four layers; run `record_of` on each and look (`minigrad.views.report.gradients` prints a record)."""
    rng = np.random.default_rng(1)
    layers: dict[str, nn.Recurrent] = {
        "Ada": nn.RNN(4, HIDDEN, rng=rng), "Ben": nn.RNN(4, HIDDEN, rng=rng),
        "Cleo": nn.RNN(4, HIDDEN, nonlinearity="relu", rng=rng), "Dan": nn.LSTM(4, HIDDEN, forget_bias=4.0, rng=rng),
    }  # fmt: skip
    weights = {name: layer.state_dict() for name, layer in layers.items()}
    layers["Ben"].load_state_dict({**weights["Ben"], "weight_hh_l0": 7 * weights["Ben"]["weight_hh_l0"]})
    layers["Cleo"].load_state_dict({**weights["Cleo"], "bias_ih_l0": weights["Cleo"]["bias_ih_l0"] - 9})
    return layers


def norms(record: bptt.Record, state: str = "h") -> Any:
    """‖dL/dstate_t‖ over the whole batch, (T,); the record's gradients are (T, N, H)."""
    gradients = record.sequence().gradients[state].astype(np.float64)
    # One number a step: samples and units are summed away, time stays.
    return np.sqrt((gradients**2).sum(axis=(1, 2)))


def verdict(norm: Any) -> str:
    """From norms (T,) with the loss at the end: "dead", "exploding", "vanishing" or "healthy"."""
    if norm[-1] == 0:
        return "dead"
    # Absolute sizes depend on the loss; what counts is what becomes of it on its way back.
    arrives = norm / norm[-1]
    # Anywhere: it may grow first and die later, and the weights get all of it.
    if arrives.max() > 1000:
        return "exploding"
    # At the first step: there stands what is hardest to learn.
    return "vanishing" if arrives[0] < 1e-3 else "healthy"


REMEDIES = {
    "gates": "An LSTM with a large forget bias in its place.",
    "smaller": "W_hh scaled down until its spectral radius is 1, or clipping while it trains.",
    "biases": "Biases back to 0, so that the units are on again.",
    "nothing": "It is well.",
}


def remedy(found: str) -> str:
    """The key in REMEDIES of what helps against a verdict."""
    # Vanishing needs a lane whose factor is near 1; clipping would only make what is large smaller.
    helps: dict[str, str] = {"vanishing": "gates", "exploding": "smaller", "dead": "biases", "healthy": "nothing"}
    return helps[found]


if __name__ == "__main__":
    practise(__file__)
