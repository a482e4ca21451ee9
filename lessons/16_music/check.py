"""What the exercise should give: the package's loss, a mean by hand, and chances that come out."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import Tensor, nn
from minigrad.course import Judge
from minigrad.data import music


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(16)
    for steps in (1, 2, 6):
        roll = (rng.random((steps, music.KEYS)) < 0.2).astype(np.float32)
        found = np.asarray(work.inputs_of(roll))
        judge.equal(f"inputs_of {steps} steps: as many steps", list(found.shape), [steps, music.KEYS])
        judge.equal(f"inputs_of {steps} steps: nothing sounds before the first", found[0], np.zeros(music.KEYS))
        judge.equal(f"inputs_of {steps} steps: then what sounded a step before", found[1:], roll[:-1])

    for shape in ((music.KEYS,), (4, music.KEYS), (3, 2, music.KEYS)):
        s, y = rng.normal(0, 3, shape), (rng.random(shape) < 0.3).astype(np.float64)
        right = nn.binary_cross_entropy_with_logits(Tensor(s), y, reduction="none").numpy().sum(-1)
        judge.equal(f"surprise of scores {shape}", work.surprise(s, y), right)
    s, y = np.array([1000.0, -1000.0, 0.0]), np.array([0.0, 1.0, 1.0])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = work.surprise(s, y)
    judge.equal("surprise of the scores 1000, -1000, 0 where 0, 1, 1 came", found, 2000 + np.log(2))

    for lengths in ((3, 3), (5, 2), (1, 4, 2)):
        nats = rng.random((max(lengths), len(lengths)))
        right = float(np.mean(np.concatenate([nats[:length, n] for n, length in enumerate(lengths)])))
        judge.equal(f"mean_nats for lengths {lengths}", work.mean_nats(nats, np.array(lengths)), right)

    s = np.linspace(-4, 4, music.KEYS)
    chords = np.array([work.drawn(s, rng) for _ in range(2000)], float)
    judge.true("drawn: a key sounds or it does not", bool(np.isin(chords, (0, 1)).all()), chords.ravel()[:3])
    off = float(np.abs(chords.mean(0) - 1 / (1 + np.exp(-s))).max())
    judge.true("drawn: in 2,000 chords each key sounds as often as its chance says", off < 0.06,
               f"a key is off by {off:.2f}")  # fmt: skip
    together = float(np.corrcoef(chords[:, 40], chords[:, 47])[0, 1])
    judge.true("drawn: keys are drawn for themselves, not all by one number", abs(together) < 0.15,
               f"two keys go together: correlation {together:.2f}")  # fmt: skip
