"""GRU: reset and update gate, two conventions, a fair comparison, and the update gate's bias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table

from minigrad import Tensor, bptt, clip_grad_norm, nn, no_grad, optim
from minigrad.bptt.jacobian import jacobian_curves
from minigrad.course import Narrator, narrate
from minigrad.data import batches, sensor, tasks
from minigrad.data.text import read_text, visible
from minigrad.views import draw, lens

STEPS, HIDDEN = 50, 16


def one_step(cell: nn.GRUCell, x: Any, h: Any) -> Any:
    """h_t of one step, as an array."""
    with no_grad():
        return cell.step(Tensor(x), nn.GRUState(Tensor(h))).h.numpy()


def with_bias(cell: nn.GRUCell, gate: str, value: float) -> nn.GRUCell:
    """The same cell, but for the two biases of a gate, which add up to the value."""
    changed = nn.GRUCell(cell.input_size, cell.hidden_size, reset_after=cell.reset_after, dtype=np.float64)
    weights = {name: array.copy() for name, array in cell.state_dict().items()}
    start = cell.gates.index(gate) * cell.hidden_size
    for name, of_gate in (("bias_ih", value), ("bias_hh", 0.0)):
        weights[name][start : start + cell.hidden_size] = of_gate
    changed.load_state_dict(weights)
    return changed


class Classifier(nn.Module):
    """A layer that reads a sequence, and a readout of its last state."""

    def __init__(
        self, kind: str, features: int, hidden: int, classes: int,
        rng: np.random.Generator, update_bias: float | None = None,
    ) -> None:  # fmt: skip
        self.layer = getattr(nn, kind)(features, hidden, kernel="fused", rng=rng)
        self.readout = nn.Linear(hidden, classes, rng=rng)
        if update_bias is not None:  # gates r, z, n: z is the second block
            weights = self.layer.state_dict()
            for name, value in (("bias_ih_l0", update_bias), ("bias_hh_l0", 0)):
                weights[name][hidden : 2 * hidden] = value
            self.layer.load_state_dict(weights)

    def forward(self, inputs: Any, lengths: Any = None) -> Tensor:
        """Scores, (N, classes)."""
        _, state = self.layer(inputs, lengths=lengths)
        last = state[0] if isinstance(state, tuple) else state  # LSTM: (h, c)
        scores: Tensor = self.readout(last[-1])
        return scores

    def share_right(self, examples: Iterator[batches.Batch]) -> float:
        with no_grad():
            right = [self(b.inputs, b.lengths).numpy().argmax(1) == b.targets for b in examples]
        return float(np.concatenate(right).mean())


def update(model: Classifier, optimizer: optim.Optimizer, scores: Tensor, targets: Any) -> None:
    optimizer.zero_grad()
    nn.cross_entropy(scores, targets).backward()
    clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()


def latched(bias: float, lesson: Narrator) -> tuple[float, float, bptt.Record, int | None]:
    """The latch task of lesson 13: share of the gradient that arrives, the path's decades, a record, updates."""
    model = Classifier("GRU", 10, HIDDEN, 2, lesson.rng(1), update_bias=bias)
    test = tasks.latch(STEPS, 256, rng=lesson.rng(2))
    inputs = tasks.one_hot(test.inputs, 10)
    record = bptt.backward(nn.cross_entropy(model(inputs), test.targets))
    norms = np.linalg.norm(record.sequence().norms("h"), axis=1)
    path = jacobian_curves(record).path_largest
    assert path is not None  # a GRU has one
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    rng, solved = lesson.rng(3), None
    for number in range(1, 401):
        task = tasks.latch(STEPS, 32, rng=rng)
        update(model, optimizer, model(tasks.one_hot(task.inputs, 10)), task.targets)
        if number % 25 == 0:
            with no_grad():
                right = model(inputs).numpy().argmax(1) == test.targets
            if right.all():
                solved = number
                break
    return float(norms[0] / norms[-1]), float(path[STEPS - 1]), record, solved


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        LSTM has four gates and two states. **Can one do with less**, and does it matter in which of the four ways
        that papers and libraries write GRU down?
    """)

    lesson.step("1. Two gates, one state")
    lesson.formula(
        "r_t = σ(W_r x_t + U_r h_{t-1} + b_r)               reset: what n sees of h",
        "z_t = σ(W_z x_t + U_z h_{t-1} + b_z)               update: what stays of h",
        "n_t = tanh(W_n x_t + r_t ⊙ (U_n h_{t-1}) + b_n)    the new value, or candidate",
        "h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}",
    )
    lesson.say("In PyTorch and minigrad n has a second bias, inside r: r_t ⊙ (U_n h_{t-1} + b_hn), as in the pictures.")
    text = read_text()
    piece = text.ids[:12]
    layer = nn.GRU(len(text.characters), 8, rng=lesson.rng())
    readout = nn.Linear(8, len(text.characters), rng=lesson.rng(4))
    _, h = layer(np.eye(len(text.characters), dtype=np.float32)[piece[:-1], np.newaxis])
    record = bptt.backward(nn.cross_entropy(readout(h[-1]), piece[-1:]), keep="ops")
    lesson.picture("reset_gate", draw.anatomy(record, step=6, highlight="r"), """
        One step of a GRU on real text: the **reset gate** and what belongs to it. It stands between the old state
        and the new value only.
    """)
    lesson.picture("update_gate", draw.anatomy(record, step=6, highlight="z"), """
        The **update gate**: it mixes. The way from h_{t-1} to h_t past it is straight: no matrix, no tanh.
    """)
    labels = [visible(text.characters[k]) for k in piece[:-1]]
    lesson.picture("unrolled", draw.unrolled(record, "gate", labels=labels), """
        Eleven characters, gate by gate, the middle folded. Follow the lane of h from right to left.
    """)

    cell = nn.GRUCell(5, HIDDEN, rng=lesson.rng(5), dtype=np.float64)
    x, h0 = lesson.rng(6).normal(size=(1, 5)), lesson.rng(7).normal(size=(1, HIDDEN))
    kept = float(np.abs(one_step(with_bias(cell, "z", 30.0), x, h0) - h0).max())
    lesson.claim(f"z = 1 keeps the state as it is (it moves by {kept:.0e})", kept < 1e-9)
    shut = with_bias(with_bias(cell, "z", -30.0), "r", -30.0)
    moved = float(np.abs(one_step(shut, x, h0) - one_step(shut, x, -h0)).max())
    lesson.claim(f"z = 0 and r = 0 forget it: from h and from -h the step goes to the same place (within {moved:.0e})",
                 moved < 1e-9)  # fmt: skip

    lesson.step("2. The conventions")
    lesson.say("""
        **Whose part is z?** PyTorch, Cho et al. 2014 and *Dive into Deep Learning* write h' = (1 - z) n + z h, as here.
        Chung et al. 2014 and the CS230 sheet write h' = (1 - z) h + z n. As σ(-a) = 1 - σ(a), negating all that
        a_z is made of goes from one to the other.

        **Reset before or after the matrix?** Cho et al. 2014: U_n (r ⊙ h). PyTorch and cuDNN: r ⊙ (U_n h), which needs
        one product with all of U, so it is faster.
    """)
    before = nn.GRUCell(5, HIDDEN, reset_after=False, dtype=np.float64)
    before.load_state_dict(cell.state_dict())
    apart = float(np.abs(one_step(before, x, h0) - one_step(cell, x, h0)).max())
    lesson.claim(f"the same weights give other numbers in the other order: states up to {apart:.2f} apart",
                 apart > 1e-2)  # fmt: skip
    opened = [one_step(with_bias(c, "r", 30.0), x, h0) for c in (before, cell)]
    lesson.claim("with the reset gate open (r = 1) both are the same",
                 bool(np.allclose(opened[0], opened[1], atol=1e-9)))  # fmt: skip

    lesson.step("3. What it costs, and a fair comparison")
    sizes = {kind: sum(p.size for p in getattr(nn, kind)(12, 32).parameters()) for kind in ("RNN", "GRU", "LSTM")}
    lesson.claim(f"parameters RNN : GRU : LSTM = {sizes['RNN']:,} : {sizes['GRU']:,} : {sizes['LSTM']:,} = 1 : 3 : 4",
                 sizes["GRU"] == 3 * sizes["RNN"] and sizes["LSTM"] == 4 * sizes["RNN"])  # fmt: skip
    signals = sensor.load(fallback=True)
    where = "a stand-in; `minigrad data fetch sensors` gets real voices" if signals.synthetic else "real voices"
    lesson.say(f"""
        So cells of one hidden size are no fair match. With about equal numbers of *parameters*, on {signals.source}
        ({where}): {len(signals.classes)} classes, sequences of unequal length.
    """)
    training, features = signals.training, signals.training.sequences[0].shape[1]
    table = Table("cell", "H", "parameters of the layer", "test sequences right")
    right = {}
    for kind, hidden in (("RNN", 64), ("GRU", 34), ("LSTM", 29)):
        rng = lesson.rng(8)
        model = Classifier(kind, features, hidden, len(signals.classes), rng)
        optimizer = optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(30):
            for batch in batches.by_length(training.sequences, training.labels, 16, rng=rng):
                update(model, optimizer, model(batch.inputs, batch.lengths), batch.targets)
        test = batches.by_length(signals.test.sequences, signals.test.labels, 64, rng=None)
        right[kind] = model.share_right(test)
        table.add_row(kind, str(hidden), f"{sum(p.size for p in model.layer.parameters()):,}", f"{right[kind]:.1%}")
    lesson.show(table)
    if signals.synthetic:
        lesson.claim("both gated cells are right far more often than by chance",
                     min(right["GRU"], right["LSTM"]) > 0.5)  # fmt: skip
    else:
        lesson.claim(f"on sequences of 7 to 29 steps all three are right in 92 % or more, and the plain RNN, at "
                     f"{right['RNN']:.1%}, is not behind the gated ones by more than 2 points: gates are no magic",
                     min(right.values()) > 0.92 and right["RNN"] > max(right.values()) - 0.02)  # fmt: skip

    lesson.step("4. Fifty steps: where gates begin to matter, if their bias lets them")
    lesson.say("""
        The latch task again: the first of 50 symbols decides, the others mean nothing. Before training, the update
        gate's bias b_z sets what z begins with, and z is the straight path's factor at every step. The table says
        what arrives of the gradient, before training: on all ways together, and on the **straight path** alone, the
        product of z over 49 steps in the one unit, of one sample, that keeps most.
    """)
    table = Table("b_z", "σ(b_z)", "‖dL/dh_1‖ : ‖dL/dh_50‖", "straight path", "solved after")
    found = {}
    for bias in (0.0, 1.0, 3.0):
        ratio, path, record, solved = found[bias] = latched(bias, lesson)
        begins = 1 / (1 + np.exp(-bias))
        updates = f"{solved} updates" if solved else "not in 400"
        table.add_row(f"{bias:.0f}", f"{begins:.2f}", f"{ratio:.2g}", f"{10**path:.2g}", updates)
    lesson.show(table)
    lesson.say("The last row's network step by step back, again before training:")
    lesson.show(lens.jacobian(jacobian_curves(found[3.0][2])))
    lost = -np.log10(found[0.0][0])
    lesson.claim(f"with b_z = 0 the gradient loses {lost:.0f} decades over 49 steps, with b_z = 3 less than two",
                 found[0.0][0] < 1e-7 and found[3.0][0] > 1e-2)  # fmt: skip
    lesson.claim("with b_z = 0 the GRU does not solve it in 400 updates; with b_z = 3 it does",
                 found[0.0][3] is None and found[3.0][3] is not None)  # fmt: skip
    lesson.answer(f"""
        **Yes**: two gates and one state do what counts, a straight path from h_{{t-1}} to h_t with a factor z that is
        learnt. Which way it is written changes signs and numbers, not what it can do; but weights of one convention
        are wrong in another. And like the forget gate's, its **bias** decides: 0 lost the gradient
        ({found[0.0][0]:.0e}), 3 kept it ({found[3.0][0]:.2f}).
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
