"""Capstone: a hundred steps between a symbol and its question. A plain RNN could remember, but cannot learn to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, nn, no_grad, optim
from minigrad.bptt.diagnose import diagnose
from minigrad.course import Narrator, narrate
from minigrad.data import tasks
from minigrad.data.chunks import Chunk
from minigrad.train import Step, Trainer
from minigrad.views import draw, lens

Array = npt.NDArray[Any]

STEPS, HIDDEN, BATCH, UPDATES, SYMBOLS = 100, 16, 32, 400, 10
RATE = 3e-3


class Latch(nn.Module):
    """A recurrent layer, and two scores read from its last state."""

    def __init__(self, layer: nn.Recurrent, rng: np.random.Generator) -> None:
        self.layer, self.readout = layer, nn.Linear(layer.hidden_size, 2, rng=rng)

    def forward(self, ids: Array) -> Tensor:
        """Scores of 0 and 1, (N, 2)."""
        _, state = self.layer(tasks.one_hot(ids, SYMBOLS))
        h = state[0] if isinstance(state, tuple) else state  # LSTM: (h, c)
        scores: Tensor = self.readout(h[-1])
        return scores

    def loss(
        self, inputs: Array, targets: Array, state: Any = None, *, reduction: str = "mean"
    ) -> tuple[Tensor, None]:
        return nn.cross_entropy(self(inputs), targets, reduction=reduction), None


class Fresh:
    """New sequences for every update."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def next(self) -> Chunk:
        task = tasks.latch(STEPS, BATCH, rng=self.rng)
        return Chunk(task.inputs, task.targets, fresh=True)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


def layer(name: str, rng: np.random.Generator) -> nn.Recurrent:
    """The candidates."""
    if name.startswith("RNN"):
        return nn.RNN(SYMBOLS, HIDDEN, kernel="fused", rng=rng)
    if name.startswith("GRU"):  # r, z, n: z begins near 1, so the state stays
        gru = nn.GRU(SYMBOLS, HIDDEN, kernel="fused", rng=rng)
        biased(gru, {1: np.full(HIDDEN, 4.0)})
        return gru
    lstm = nn.LSTM(SYMBOLS, HIDDEN, kernel="fused", rng=rng, forget_bias=1.0)
    if name.endswith("1 … T"):  # i, f, g, o
        keep = np.log(rng.uniform(1, STEPS - 1, HIDDEN))
        biased(lstm, {0: -keep, 1: keep})
    return lstm


def biased(layer: nn.Recurrent, blocks: Mapping[int, Array]) -> None:
    """Set the sum of a gate's two biases, gates counted from 0 in the order of their rows."""
    weights = {name: array.copy() for name, array in layer.state_dict().items()}
    for block, value in blocks.items():
        rows = slice(block * HIDDEN, (block + 1) * HIDDEN)
        weights["bias_ih_l0"][rows], weights["bias_hh_l0"][rows] = value, 0
    layer.load_state_dict(weights)


def by_hand() -> Latch:
    """A plain RNN of one unit: its weight to itself makes it a switch."""
    model = Latch(nn.RNN(SYMBOLS, 1, kernel="fused"), np.random.default_rng())
    push = np.zeros((1, SYMBOLS))
    push[0, :2] = -3, 3  # only the two symbols that count
    weights: dict[str, Any] = {
        "layer.weight_ih_l0": push, "layer.bias_ih_l0": [0],
        "layer.weight_hh_l0": [[3]], "layer.bias_hh_l0": [0],
        "readout.weight": [[-1], [1]], "readout.bias": [0, 0],
    }  # fmt: skip
    floats = {k: np.array(v, np.float32) for k, v in weights.items()}
    model.load_state_dict(floats)
    return model


def right(model: Latch, task: tasks.Task) -> float:
    """The share of sequences that it gets right."""
    with no_grad():
        return float((model(task.inputs).numpy().argmax(axis=1) == task.targets).mean())


def recorded(model: Latch, task: tasks.Task) -> bptt.Record:
    """The gradient of the loss on these sequences."""
    model.zero_grad()
    return bptt.backward(model.loss(task.inputs, task.targets)[0])


def arrives(record: bptt.Record) -> float:
    """The share of the gradient at the last step that arrives at the first."""
    lane = diagnose(record).lane
    return lane.share if lane else 0.0


def trained(model: Latch, rng: np.random.Generator, test: tasks.Task) -> tuple[Trainer, int | None]:
    """Train until all test sequences are right; after how many updates that was."""
    solved = None

    def look(trainer: Trainer, step: Step) -> None:
        nonlocal solved
        if step.update % 25 == 0 and right(model, test) == 1:
            solved, trainer.stopping = step.update, True

    optimizer = optim.Adam(model.parameters(), lr=RATE)
    trainer = Trainer(model, optimizer, Fresh(rng), clip_norm=1.0, norms_every=10)
    trainer.run(UPDATES, [look])
    return trainer, solved


CANDIDATES = ("RNN", "LSTM, b_f = 1", "LSTM, memory 1 … T", "GRU, b_z = 4")


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        A symbol, then 99 others that mean nothing, then the question: **which was the first?** Is a plain RNN too
        weak to remember one bit for a hundred steps, or is something else in its way?
    """)
    test = tasks.latch(STEPS, 256, rng=lesson.rng())
    some = tasks.Task(test.inputs[:, :32], test.targets[:32], test.steps[:32])

    lesson.step("1. It can: a switch made by hand")
    lesson.source(by_hand)
    switch = by_hand()
    lesson.say("""
        One unit and a weight of 3 to itself: h = tanh(3 h) has two points at which it stays, one near -1, one near
        +1. The first symbol pushes it to one of them; nothing else pushes it.
    """)
    lesson.claim(f"one plain unit gets {right(switch, test):.0%} of 256 sequences right",
                 right(switch, test) == 1)  # fmt: skip
    held = recorded(switch, some)
    h = float(np.abs(held.sequence().states["h"]).min())
    slope = 3 * (1 - h * h)
    lesson.claim(f"where it stays, |h| is {h:.4f} or more, so a step's Jacobian is at most 3 (1 - h²) = {slope:.3f}",
                 slope < 0.04)  # fmt: skip
    power = (STEPS - 1) * np.log10(slope)
    lesson.claim("and that is the price: what holds a state fast lets no gradient through. The 99 factors make at most "
                 f"10^{power:.0f}, which float32 holds as 0", power < -45 and arrives(held) == 0)  # fmt: skip
    lesson.say("Bengio, Simard and Frasconi proved it in 1994: *latching* a bit robustly makes gradients vanish.")

    lesson.step("2. Can it learn to?")
    lesson.say(f"""
        Four networks of {HIDDEN} units, fresh sequences at every update, Adam, the norm clipped at 1, at most {UPDATES}
        updates. Solved: all 256 test sequences right. Two LSTMs differ in their biases only: one has b_f = 1; in the
        other, each unit draws a time from 1 to T and gets b_f = log of it and b_i = -b_f. Then its half-lives cover
        the sequence, and it is slow to write what it is slow to forget (Tallec and Ollivier 2018). The GRU has
        b_z = 4, which is about the same in one gate.

        *Arrives*: the share of the gradient at step 100 that is left at step 1, before and after training; above 1 it
        grows on its way. An LSTM has two lanes: the table takes the one along which more arrives, ‖dL/dC_1‖ :
        ‖dL/dC_100‖; along h it is less. RNN and GRU have h alone.
    """)
    models = {name: Latch(layer(name, lesson.rng(1)), lesson.rng(2)) for name in CANDIDATES}
    before = {name: recorded(model, some) for name, model in models.items()}
    runs = {name: trained(model, lesson.rng(3), test) for name, model in models.items()}
    after = {name: recorded(model, some) for name, model in models.items()}
    table = Table("network", "arrives: before", "after", "right", "solved after")
    share = {name: right(model, test) for name, model in models.items()}
    for name, (_, solved) in runs.items():
        when = f"{solved} updates" if solved else f"not in {UPDATES}"
        reach = [f"{arrives(r[name]):.2g}" for r in (before, after)]
        table.add_row(name, *reach, f"{share[name]:.0%}", when)
    lesson.show(table)
    lanes = [diagnose(before[name]).state for name in CANDIDATES]
    lesson.claim("before training more arrives along C than along h in both LSTMs, so C stands in the table",
                 lanes == ["h", "c", "c", "h"])  # fmt: skip
    lesson.claim(f"the plain RNN does not solve it: {share['RNN']:.0%} right, where guessing gets half",
                 runs["RNN"][1] is None and share["RNN"] < 0.7)  # fmt: skip
    lesson.claim(f"a gate alone is no remedy: neither does the LSTM with b_f = 1, {share['LSTM, b_f = 1']:.0%} right",
                 runs["LSTM, b_f = 1"][1] is None and share["LSTM, b_f = 1"] < 0.7)  # fmt: skip
    lesson.claim("with biases that fit the time to be bridged, both gated networks do: after "
                 f"{runs['LSTM, memory 1 … T'][1]} and {runs['GRU, b_z = 4'][1]} updates",
                 runs["LSTM, memory 1 … T"][1] is not None and runs["GRU, b_z = 4"][1] is not None)  # fmt: skip

    lesson.step("3. Why: what arrives at the symbol that counts")
    lesson.picture("before", draw.compare(before, title="before training: which gradient reaches the first symbol?"),
                   """
        One row a state, an LSTM has two; one tile a step, the loss at the right. The symbol that counts is at the far
        left. Which rows stay pale as far as there, and which turn blue on the way?
    """)  # fmt: skip
    lesson.picture("after", draw.compare(after, title="after training"), """
        The same after training. The two networks of which a row reached the left have learnt; the two others had
        nothing to learn from.
    """)
    lost = arrives(before["RNN"])
    lesson.claim(f"before training {lost:.0e} arrives in the plain RNN: in float32, beside the noise of all other "
                 "steps, that is nothing", lost < 1e-12)  # fmt: skip
    kept = arrives(before["LSTM, memory 1 … T"]), arrives(before["GRU, b_z = 4"])
    lesson.claim(f"in the two that solve it {kept[0]:.2g} and {kept[1]:.2g} arrive", min(kept) > 1e-3)

    lesson.step("4. And through training?")
    lesson.say("First the RNN:")
    lesson.show(lens.history(runs["RNN"][0].history, rows=6))
    norms = np.asarray(runs["RNN"][0].history.norms.rows("l0", "h"), np.float64)
    ratio = norms[:, 0] / norms[:, -1]
    lesson.claim(f"at none of {len(ratio)} looks did more than {ratio.max():.0e} of the RNN's gradient arrive",
                 float(ratio.max()) < 1e-6)  # fmt: skip
    lesson.say("""
        And the LSTM that learns it, with a map for each lane. The text above the maps is about h, so its share at
        update 1 is smaller than that of the table, which is about C: compare the two maps.
    """)
    lesson.show(lens.history(runs["LSTM, memory 1 … T"][0].history, rows=6))
    lesson.say("""
        Every update of the RNN moves its weights, and none of them has anything to do with the first symbol. It has
        the right answer within its reach (step 1), and no slope that leads there.
    """)
    lesson.answer(f"""
        Nothing is too weak: **one plain unit can hold the bit, but no gradient tells it to**. Of the gradient at the
        end {lost:.0e} arrives at the symbol that counts. Gates help when their biases let them: where
        {min(kept):.2g} or more arrives, it takes {runs['LSTM, memory 1 … T'][1]} and {runs['GRU, b_z = 4'][1]} updates.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
