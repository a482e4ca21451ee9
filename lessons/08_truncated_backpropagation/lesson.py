"""Truncated backpropagation through time: where the gradient is cut, what is lost, what cannot be learnt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, clip_grad_norm, engine, nn, optim
from minigrad.bptt.truncation import truncation
from minigrad.character import CharacterModel
from minigrad.clip import norm_of
from minigrad.course import Narrator, narrate
from minigrad.data.text import read_text
from minigrad.views import draw, lens

Symbols = npt.NDArray[np.int64]
H, LENGTH = 32, 100


class CutCell(nn.Module):
    """An RNN cell that cuts before a step if its input's last feature is 1."""

    def __init__(self, cell: nn.RNNCell) -> None:
        self.cell = cell

    def initial_state(self, batch: int) -> Any:
        return self.cell.initial_state(batch)

    def step(self, x: Tensor, state: nn.RNNState) -> nn.RNNState:
        if x.numpy()[0, -1]:
            state = nn.RNNState(state.h.detach())
        return self.cell.step(x[:, :-1], state)


def eight_steps(rng: np.random.Generator, cut_before: int | None) -> tuple[bptt.Record, npt.NDArray[np.float32]]:
    """Eight steps with the loss on the last one; the record and the last state."""
    cell, x = nn.RNNCell(3, 8, init="orthogonal", rng=rng), rng.standard_normal((8, 1, 3))
    marks = [[[float(t == cut_before)]] for t in range(1, 9)]
    _, last = nn.unroll(CutCell(cell), np.concatenate((x, marks), axis=-1).astype(np.float32))
    return bptt.backward((last.h * last.h).sum()), last.h.numpy()


def train(
    rnn: nn.RNN, output: nn.Linear, symbols: Symbols, lag: int, k: int
) -> float:
    """Learn to name the symbol of `lag` steps ago, in chunks of k steps.

    Returns the loss of the last chunks; 1 is guessing, 0 is always right.
    """
    parameters = [*rnn.parameters(), *output.parameters()]
    optimizer = optim.Adam(parameters, lr=1e-2)
    one_hot = np.eye(2, dtype=np.float32)[symbols]
    state, losses = None, []
    for start in range(lag, len(symbols) - k, k):
        outputs, state = rnn(one_hot[start : start + k], state)
        wanted = symbols[start - lag : start - lag + k]
        loss = nn.cross_entropy(output(outputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
        state = state.detach()  # its value goes on, its gradient ends here
        losses.append(loss.item())
    return float(np.mean(losses[-20:]) / math.log(2))


def lesson(lesson: Narrator) -> None:
    lesson.question(
        "A text has half a million characters. Backpropagation from the last one to the first would keep every step in "
        "memory. So the chain is **cut every k steps**. What crosses the cut, what does not, and what can a network "
        "then no longer learn?"
    )

    lesson.step("1. One cut")
    lesson.say("""
        `state.detach()` gives a tensor with the same numbers and without a past. Put between two steps, it lets the
        *state* pass on its way forward and stops the *gradient* on its way back.
    """)
    whole, h_whole = eight_steps(lesson.rng(), None)
    cut, h_cut = eight_steps(lesson.rng(), 5)
    letters = list("abcdefgh")
    lesson.picture("whole", draw.unrolled(whole, "cell", labels=letters, title="Eight steps, no cut"), """
        The loss is on h_8. Its gradient travels back to the first step.
    """)
    lesson.picture("cut", draw.unrolled(cut, "cell", labels=letters, title="The same, cut before step 5"), """
        The scissors stand where `detach()` was called. Left of them every state says *no path*: it had its part in h_8,
        but no gradient tells it so.
    """)
    norms = [r.sequence().norms()[:, 0] for r in (whole, cut)]
    lesson.claim("the state crosses: h_8 is the same with and without the cut, to the last bit",
                 np.array_equal(h_whole, h_cut))  # fmt: skip
    lesson.claim(f"the gradient does not: ‖dL/dh_4‖ is {norms[0][3]:.2g} without the cut and exactly {norms[1][3]:.0f} "
                 "with it; from step 5 on, nothing differs",
                 norms[0][3] > 1e-3 and not norms[1][:4].any() and np.allclose(norms[0][4:], norms[1][4:]))  # fmt: skip

    lesson.step("2. What the cut takes from the gradient")
    text = read_text()
    begin = int(lesson.rng(1).integers(0, len(text) - LENGTH - 1))
    ids = text.ids[begin : begin + LENGTH + 1, np.newaxis]
    orthogonal = nn.init.initialise("orthogonal", lesson.rng(2), blocks=1, rows=H, columns=H)
    lesson.say(f"""
        A character RNN reads {LENGTH} characters of `{text.name}` and predicts each next one. Take it twice: with
        the usual matrix, in which gradients vanish (lesson 6), and with an orthogonal one times 1.2, in which they live
        longer. How much of the gradient of its weights is lost if every chunk of k characters is on its own?
    """)

    def network(matrix: npt.NDArray[np.float64] | None) -> CharacterModel:
        model = CharacterModel(text.characters, "rnn", hidden=H, kernel="steps", rng=lesson.rng(3))
        if matrix is not None:
            model.load_state_dict({**model.state_dict(), "rnn.weight_hh_l0": matrix})
        return model

    models = {"usual": network(None), "orthogonal": network(1.2 * orthogonal)}
    lengths, losses = (1, 2, 5, 10, 25, 50, LENGTH), {}
    for name, model in models.items():
        record = bptt.backward(model.loss(ids[:-1], ids[1:])[0])
        losses[name] = truncation(record, lengths=lengths)
        if name == "usual":
            lesson.show(lens.truncation(losses[name]))
    table = Table("k", *(f"{name}: {what}" for name in losses for what in ("lost", "angle")))
    lesson.say("The same beside the orthogonal one, in which more of the gradient lives to be cut off:")
    for place, k in enumerate(lengths):
        table.add_row(str(k), *(x for found in losses.values()
                                for x in (f"{found.lost[place]:.1%}", f"{found.angles[place]:.0f}°")))  # fmt: skip
    lesson.show(table)
    usual, living = losses.values()
    lesson.claim(f"with k = 1 {usual.lost[0]:.0%} of the gradient is lost, with min-char-rnn's k = 25 "
                 f"{usual.lost[4]:.1%}: in the usual network there was little to lose",
                 usual.lost[0] > 0.2 and usual.lost[4] < 0.12)  # fmt: skip
    lesson.claim("the farther a network's gradient reaches, the more a cut takes: with k = 10 "
                 f"{usual.lost[3]:.0%} of the usual one's and {living.lost[3]:.0%} of the other's",
                 living.lost[3] > 1.8 * usual.lost[3])  # fmt: skip
    lesson.claim(f"k = {LENGTH} is the whole: nothing is lost, and the angle is 0",
                 usual.lost[-1] == 0 and usual.angles[-1] < 1e-4)  # fmt: skip

    model, state = models["usual"], None
    model.zero_grad()
    for start in range(0, LENGTH, 25):  # by hand: four chunks of 25 with detach between them
        chunk = slice(start, start + 25)
        loss, state = model.loss(ids[:-1][chunk], ids[1:][chunk], state, reduction="sum")
        (loss * (1 / LENGTH)).backward(accumulate=True)
        state = state.detach()
    by_hand = math.hypot(*(norm_of(p.grad) for name, p in model.named_parameters() if name.startswith("rnn.")))
    lesson.claim(f"four chunks by hand with detach() between them give the same ‖g_25‖ = {by_hand:.4f}",
                 math.isclose(by_hand, usual.norms[4], rel_tol=1e-4))  # fmt: skip

    lesson.step("3. What cannot be learnt: an echo")
    lesson.say("""
        The smallest task with a memory: read an endless row of random bits and say which bit it was **five steps ago**.
        A loss reaches back to the beginning of its own chunk. The bit of five steps ago is in the same chunk only if
        the chunk has at least six steps, and with exactly six only for the last of them.
    """)
    lesson.source(train)
    lesson.say("""
        `optim.Adam` (Kingma & Ba 2015) goes downhill as SGD does, but with a step of its own for each weight: lr times
        the running mean of its gradient, divided by the root of the running mean of its square.
    """)
    bits = lesson.rng(4).integers(0, 2, (4000, 16))
    table, left = Table("k", "losses that reach their bit", "loss at the end (1 = guessing)"), {}
    for k in (3, 5, 6, 12):
        rnn, output = nn.RNN(2, 24, rng=lesson.rng(5)), nn.Linear(24, 2, rng=lesson.rng(6))
        left[k] = train(rnn, output, bits, 5, k)
        table.add_row(str(k), f"{max(0, k - 5)} of {k}", f"{left[k]:.3f}")
    lesson.show(table)
    lesson.claim(f"k = 3 and k = 5 learn nothing ({left[3]:.2f}, {left[5]:.2f} of guessing); one step more, k = 6, "
                 f"and the echo is learnt ({left[6]:.3f}), as with k = 12 ({left[12]:.3f})",
                 min(left[3], left[5]) > 0.85 and max(left[6], left[12]) < 0.3)  # fmt: skip

    lesson.step("4. But the state crosses")
    lesson.say("""
        So is everything farther than k steps lost? No: the state crosses the cut, and what it *happens* to hold can be
        read. Here a larger RNN, of 64 units in place of 24, and no recurrent weight is ever trained: the RNN stays as
        random as it was made, k is 1, and only the output layer learns. (That idea has a name: echo state
        network; H. Jaeger, 2001.)
    """)
    kept = {}
    for lag in (1, 2, 5):
        frozen, output = nn.RNN(2, 64, rng=lesson.rng(7)), nn.Linear(64, 2, rng=lesson.rng(8))
        for p in frozen.parameters():
            p.requires_grad = False
        kept[lag] = train(frozen, output, bits[:1000], lag, 1)
    lesson.claim(f"one step back is heard ({kept[1]:.2f} of guessing), two steps too ({kept[2]:.2f}), five hardly "
                 f"({kept[5]:.2f}): untrained memory is short",
                 kept[1] < 0.3 and kept[2] < 0.5 < kept[5])  # fmt: skip
    lesson.say("""
        So a network that was trained in short chunks can still use a longer past, as far as its state happens to hold
        it. What truncation takes away is *learning to keep* more.
    """)

    lesson.step("5. Without any cut")
    sizes: dict[str, list[int]] = {"with detach": [], "without": []}
    model = models["usual"]
    for name in sizes:
        state = None
        for start in range(0, LENGTH, 25):
            loss, state = model.loss(ids[:-1][start : start + 25], ids[1:][start : start + 25], state)
            sizes[name].append(len(engine.topological(loss)))
            state = state.detach() if name == "with detach" else state
    table = Table("", *(f"chunk {k}" for k in range(1, 5)), title="Nodes behind the loss of each chunk of 25 steps")
    for name, row in sizes.items():
        table.add_row(name, *map(str, row))
    lesson.show(table)
    lesson.claim(f"with detach every chunk costs the same; without it the fourth drags {sizes['without'][3]} nodes, "
                 f"{sizes['without'][3] / sizes['with detach'][3]:.1f} times as many, and every further one more",
                 np.ptp(sizes["with detach"]) <= 2 and sizes["without"][3] > 3 * sizes["with detach"][3])  # fmt: skip
    lesson.say("""
        The library's `Trainer` cuts so after every chunk. Its length is called `bptt` or `seq_length` elsewhere:
        min-char-rnn takes 25, DeZero 30 (and calls the cut `unchain_backward`), Elman (1990) took 1.
    """)

    lesson.answer(
        "The **value** of the state crosses the cut, its **gradient** does not. What lies before the chunk "
        "still acts on the present, but no loss tells the network to *keep* it: with k = 5, an echo of five "
        "steps is not learnt, with k = 6 it is. Choose k longer than the memory that the task needs."
    )


if __name__ == "__main__":
    narrate(lesson, __file__)
