"""Layers, both directions, dropout, and sequences of unequal length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, clip_grad_norm, grad, nn, no_grad, optim
from minigrad.course import Narrator, narrate
from minigrad.views import draw, report

Array = npt.NDArray[Any]

STEPS, AHEAD = 20, 2


def looks_ahead(batch: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """At each step: do this bit and the one two steps later differ?"""
    bits = rng.integers(0, 2, (STEPS, batch))
    targets = np.full_like(bits, -100)  # -100: no loss at this step
    targets[:-AHEAD] = bits[:-AHEAD] ^ bits[AHEAD:]
    return np.eye(2, dtype=np.float32)[bits], targets


def trained(bidirectional: bool, lesson: Narrator) -> float:
    """The loss on fresh sequences after 150 updates."""
    rng = lesson.rng(1)
    layer = nn.GRU(2, 16, bidirectional=bidirectional, kernel="fused", rng=rng)
    readout = nn.Linear(32 if bidirectional else 16, 2, rng=rng)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = optim.Adam(parameters, lr=1e-2)
    for _ in range(150):
        inputs, targets = looks_ahead(32, rng)
        optimizer.zero_grad()
        nn.cross_entropy(readout(layer(inputs)[0]), targets).backward()
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
    inputs, targets = looks_ahead(256, lesson.rng(2))
    with no_grad():
        return nn.cross_entropy(readout(layer(inputs)[0]), targets).item()


def lesson(lesson: Narrator) -> None:
    rng = lesson.rng()
    lesson.question("""
        So far a network read from left to right, in one layer. **What if the answer at step t lies in the future?**
        And what happens to the gradient when layers stand on each other and samples differ in length?
    """)

    lesson.step("1. Two layers, two directions")
    lesson.formula(
        "→h_t = cell(x_t, →h_{t-1})        ←h_t = cell'(x_t, ←h_{t+1})",
        "output_t = [→h_t, ←h_t]           the next layer's x_t",
    )
    deep = nn.GRU(3, 6, num_layers=2, bidirectional=True, rng=rng)
    output, last = deep(rng.normal(size=(6, 1, 3)).astype(np.float32))
    loss = (last * last).sum()
    record = bptt.backward(loss)
    lesson.picture("layers", draw.unrolled(record, "cell"), """
        Four walks: two layers, two directions. Arrows of the gradient: in a forward walk they run from right to
        left, in a reverse walk from left to right. Each layer's states are the next one's inputs.
    """)
    lesson.show(report.layers(record))
    each = sum(p.size for p in nn.GRU(3, 6).parameters())
    first = sum(p.size for name, p in deep.named_parameters() if "_l0" in name)
    lesson.claim(f"the two directions share no weight: the first layer has 2 · {each} of them", first == 2 * each)

    lesson.step("2. A task whose answer lies in the future")
    lesson.say("""
        At each step: does this bit differ from the one *two steps later*? Whoever has read only up to t can do no
        better than to toss a coin: ln 2 nats.
    """)
    losses = {both: trained(both, lesson) for both in (False, True)}
    table = Table("GRU, 16 units a direction", "loss after 150 updates", "a coin")
    for both, found in losses.items():
        table.add_row("both directions" if both else "forward only", f"{found:.4f}", f"{math.log(2):.4f}")
    lesson.show(table)
    lesson.claim(f"forward only stays at the coin: {losses[False]:.3f} against ln 2 = {math.log(2):.3f}",
                 abs(losses[False] - math.log(2)) < 0.01)  # fmt: skip
    lesson.claim(f"with both directions the loss is {losses[True]:.4f}", losses[True] < 0.05)
    lesson.say("""
        So a bidirectional network is no language model: asked for the next character, it would have read it
        already. It tags, classifies, translates: tasks where the whole sequence is there before the first answer.
    """)

    lesson.step("3. The last output is not the summary")
    x = Tensor(rng.normal(size=(9, 1, 3)), requires_grad=True)
    layer = nn.GRU(3, 6, bidirectional=True, dtype=np.float64, rng=rng)
    output, last = layer(x)
    behind = output[-1][:, 6:]  # the reverse half of the last output
    (of_output,) = grad((behind * behind).sum(), [x])
    (of_state,) = grad((last[1] * last[1]).sum(), [x])  # last: (L * D, N, H)
    norms = [np.linalg.norm(g[:, 0], axis=1) for g in (of_output, of_state)]
    table = Table("t", "of output[-1]", "of its last state", title="‖d/dx_t‖ of the reverse direction's half")
    for t, row in enumerate(zip(*norms, strict=True), start=1):
        table.add_row(str(t), *(f"{norm:.1g}" for norm in row))
    lesson.show(table)
    lesson.say("""
        A slip that many programs contain: `output[-1]` of a bidirectional layer taken for a summary. The reverse walk
        *begins* at the last step, so there it has read one input. Its last state belongs to step 1.
    """)
    lesson.claim("the reverse half of output[-1] depends on x_9 alone: all other gradients are exactly 0",
                 bool((norms[0][:-1] == 0).all() and norms[0][-1] > 0))  # fmt: skip
    lesson.claim("its last state depends on all nine steps", bool((norms[1] > 0).all()))

    lesson.step("4. Unequal lengths: padding is not computed with")
    lengths = np.array([9, 4, 1])
    padded = rng.normal(size=(9, 3, 3))
    parameters = layer.parameters()

    def together(values: Array) -> tuple[Tensor, list[Array]]:
        _, states = layer(values, lengths=lengths)
        return states, list(grad((states * states).sum(), parameters))

    states, gradients = together(padded)
    alone = [layer(padded[:length, n : n + 1])[1] for n, length in enumerate(lengths)]
    apart = max(float(np.abs(states.numpy()[:, n] - s.numpy()[:, 0]).max()) for n, s in enumerate(alone))
    lesson.claim(f"three samples of 9, 4 and 1 steps side by side end in the states of each alone (within {apart:.0e})",
                 apart < 1e-12)  # fmt: skip
    sums = [sum(grad((s * s).sum(), [p])[0] for s in alone) for p in parameters]
    lesson.claim("and the weights' gradients are the sums of theirs",
                 all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(gradients, sums, strict=True)))  # fmt: skip
    real = np.arange(9)[:, np.newaxis] < lengths  # (T, N)
    other = np.where(real[:, :, np.newaxis], padded, 1e6)
    lesson.claim("a million in place of the padding changes no bit",
                 bool((together(other)[0].numpy() == states.numpy()).all()))  # fmt: skip
    _, states = layer(padded, lengths=lengths)
    record = bptt.backward((states * states).sum())
    lesson.picture("lengths", draw.unrolled(record, "cell", sample=1), """
        The second sample has four steps. Past its end there is no state and no gradient, and its reverse walk starts
        at step 4.
    """)
    without, _ = layer(padded)
    wrong = float(np.abs(without.numpy()[3, 1] - layer(padded, lengths=lengths)[0].numpy()[3, 1]).max())
    lesson.claim(f"without lengths the reverse direction reads the padding first: step 4 is off by {wrong:.2f}",
                 wrong > 1e-3)  # fmt: skip

    lesson.step("5. Dropout stands between layers")
    dropping = nn.GRU(3, 64, num_layers=2, dropout=0.5, kernel="fused", rng=lesson.rng(3))
    x3 = rng.normal(size=(6, 1, 3)).astype(np.float32)
    with no_grad():
        drawn = [dropping(x3)[1].numpy() for _ in range(2)]
        dropping.eval()
        settled = [dropping(x3)[1].numpy() for _ in range(2)]
    lower, upper = (np.abs(drawn[0][k] - drawn[1][k]).max() for k in range(2))
    lesson.claim("while training, two runs agree in the lower layer and differ in the upper: what goes up is masked",
                 bool(lower == 0 and upper > 1e-2))  # fmt: skip
    lesson.claim("after eval() they agree everywhere", bool((settled[0] == settled[1]).all()))
    drop = nn.Dropout(0.5, rng=lesson.rng(4))
    ones = drop(Tensor(np.ones(100_000))).numpy()
    lesson.claim(f"what stays is divided by 1 - p, so the mean stays: {ones.mean():.3f} of 1",
                 set(np.unique(ones)) == {0.0, 2.0} and abs(ones.mean() - 1) < 0.02)  # fmt: skip
    lesson.say("""
        It is not put into the recurrence: there the same unit would have to survive T masks in a row, and the memory
        would be gone in a few steps (Zaremba et al. 2014).
    """)
    lesson.answer(f"""
        A second walk, **from the end**, sees the future: the loss went from {losses[False]:.3f}, a coin, to
        {losses[True]:.4f}. It has weights of its own, starts at each sample's own end, and its summary is its last
        *state*, which stands at step 1.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
