"""The RNN cell: a state that is carried along, and the same weights at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad import bptt, nn
from minigrad.course import Narrator, narrate
from minigrad.errors import ShapeError
from minigrad.views import draw

Array = npt.NDArray[np.float64]

WORDS = ("listen", "silent", "enlist", "tinsel", "inlets")
"""Five words of the same six letters."""

LETTERS = "eilnst"


def one_hot(words: tuple[str, ...]) -> Array:
    """Words of one length as a series (T, N, C): which of the C letters word n has at place t."""
    return np.stack([np.eye(len(LETTERS))[[LETTERS.index(word[t]) for word in words]] for t in range(len(words[0]))])


def read(x: Array, w_ih: Array, w_hh: Array, b: Array) -> Array:
    """All states (T, N, H) of an RNN that reads x (T, N, C)."""
    h = np.zeros((x.shape[1], len(w_hh)))  # (N, H): nothing is known yet
    states = []
    for x_t in x:  # one step: (N, C)
        h = np.tanh(x_t @ w_ih.T + h @ w_hh.T + b)  # the same three weights
        states.append(h)
    return np.stack(states)


def tell(cell: Any, readout: nn.Linear, x: Any, h: Any, steps: int) -> Any:
    """One to many: read x (N, C), then one's own outputs."""
    state, outputs = nn.RNNState(h), []
    for _ in range(steps):
        state = cell.step(x, state)
        x = readout.forward(state.h)  # the output is the next input
        outputs.append(x)
    return mg.stack(*outputs)  # (steps, N, C)


def arrays(rnn: nn.RNN) -> dict[str, Array]:
    """The parameters of an RNN without the name of its only layer."""
    return {name.removesuffix("_l0"): value for name, value in rnn.state_dict().items()}


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        *silent* and *listen* have the same letters. A series may have 6 steps or 6,000, a network has a fixed number of
        weights. **How do a few weights read a series of any length, and know in which order it came?**
    """)
    x = one_hot(WORDS)
    steps, batch, features = x.shape
    hidden = 8

    lesson.step("1. A series is an array with a time axis")
    lesson.say(f"""
        `x[t, n, c]`: time first, then the samples of the batch, then the features of one step. Here are {batch} words:
        {', '.join(WORDS)}. T = {steps} letters, N = {batch} words, C = {features} features: a 1 at the letter that
        stands there, 0 elsewhere (*one-hot*).
    """)
    bags = x.sum(axis=0)  # (N, C): how often each letter occurs
    lesson.claim(f"a sum over time, a bag of letters, cannot tell the {batch} words apart: all sums are equal",
                 np.all(bags == bags[0]))  # fmt: skip

    lesson.step("2. The cell: a state that is carried from step to step")
    lesson.say("""
        A recurrent network keeps a *hidden state* h_t of H numbers: its memory. At each step it mixes what it reads
        with what it remembers, and bends the result by tanh, so that it stays between -1 and 1. That is all of it:
    """)
    lesson.formula("h_t = tanh(W_ih x_t + W_hh h_{t-1} + b)          h_0 = 0")
    lesson.source(read)
    rnn = nn.RNN(features, hidden, rng=lesson.rng(), dtype=np.float64)
    weights = arrays(rnn)
    w_ih, w_hh, b = weights["weight_ih"], weights["weight_hh"], weights["bias_ih"] + weights["bias_hh"]
    states = read(x, w_ih, w_hh, b)
    output, last = rnn(x)
    table = Table("t", "x", "h_t (first 3 of 8)", "x", "h_t (first 3 of 8)", title=f"{WORDS[0]}, {WORDS[1]}")
    for t in range(steps):
        row = [cell for n in (0, 1) for cell in (WORDS[n][t], " ".join(f"{v:+.3f}" for v in states[t, n, :3]))]
        table.add_row(str(t + 1), *row)
    lesson.show(table)
    lesson.claim("nn.RNN gives the same states, to 1e-12", np.allclose(output.numpy(), states, rtol=0, atol=1e-12)
                 and np.allclose(last.numpy()[0], states[-1], rtol=0, atol=1e-12))  # fmt: skip
    pairs = [(m, n) for m in range(batch) for n in range(m)]
    nearest = min(float(np.linalg.norm(states[-1, m] - states[-1, n])) for m, n in pairs)
    lesson.claim(f"after the last letter the {batch} states are all different, though the letters are the same: the "
                 f"two nearest are {nearest:.2f} apart", nearest > 0.02)  # fmt: skip

    lesson.step("3. What the state remembers")
    swapped = read(one_hot(("listne",)), w_ih, w_hh, b)[:, 0]
    lesson.claim("listen and listne: the first four states are the same numbers, the last two are not: h_t knows what "
                 "was read up to t, and nothing of what comes",
                 np.array_equal(swapped[:4], read(x[:, :1], w_ih, w_hh, b)[:4, 0])
                 and not np.allclose(swapped[4:], states[4:, 0], atol=1e-3))  # fmt: skip
    forgetful = read(x, w_ih, 0 * w_hh, b)[-1]
    lesson.claim("with W_hh = 0 silent and enlist end in one and the same state: only their last letter, t, is left. "
                 "The memory is in W_hh", np.allclose(forgetful[1], forgetful[2], rtol=0, atol=1e-15)
                 and not np.allclose(states[-1, 1], states[-1, 2], atol=1e-2))  # fmt: skip

    lesson.step("4. One set of weights, T uses")
    count = sum(p.size for p in rnn.parameters())
    table = Table("T", "RNN", "a layer that reads all T steps at once", title="how many numbers are learnt")
    for long in (6, 60, 600):
        table.add_row(str(long), f"{count:,}", f"{long * features * hidden + hidden:,}")
        rnn(lesson.rng(long).standard_normal((long, 1, features)))
    lesson.show(table)
    lesson.claim(f"H C + H H + 2 H = {count} numbers, whatever T is: the same object has just read 6, 60 and 600 steps",
                 count == hidden * features + hidden * hidden + 2 * hidden)  # fmt: skip
    try:
        nn.Linear(steps * features, hidden, rng=lesson.rng(2)).forward(mg.Tensor(np.zeros(7 * features, np.float32)))
        refused = False
    except ShapeError:
        refused = True
    lesson.claim("a layer made for 6 letters refuses a word of 7", refused)
    readout = nn.Linear(hidden, features, rng=lesson.rng(3), dtype=np.float64)
    word = WORDS[0]
    output, _ = rnn(x[:-1, :1])  # all letters of it but the last
    targets = x[1:, :1].argmax(axis=2)  # at each step: which letter comes next
    loss = nn.cross_entropy(readout.forward(output), targets, reduction="sum")
    record = bptt.backward(loss, keep="ops")
    lesson.say("Every recurrent network can be drawn in two ways. Folded: one cell, and a loop.")
    lesson.picture("folded", draw.rolled(record, labels=word[:-1]), f"""
        The network reads *{word[:-1]}* and should say the next letter each time. Inside the loop stands a row for each
        weight: one box a step, and one sum behind them.
    """)
    lesson.say("Unrolled: the loop laid out in time. Values go from left to right, the arrows carry the gradient back.")
    lesson.picture("unrolled", draw.unrolled(record, "gate", labels=word[:-1], targets=word[1:]), """
        W_ih, W_hh and both biases stand at *every* step. They are not copies: it is one parameter that is used again
        and again, as `a` was in lesson 1. (Inputs and h_0 say *no path*: nothing is learnt there, no gradient is sent.)
    """)
    used = record.parameters["weight_hh_l0"]
    times = [term.time for term in used.terms if term.time is not None]
    lesson.claim(f"one parameter W_hh, one gradient of shape {used.gradient.shape}, but {len(times)} uses, at the "
                 f"steps {', '.join(str(t + 1) for t in times)}",
                 times == list(range(steps - 1)) and used.gradient.shape == (hidden, hidden))  # fmt: skip
    lesson.claim("step 1 adds exactly 0 to the gradient of W_hh: it met h_0 = 0", used.terms[0].norm() == 0)

    lesson.step("5. One to many, many to one, many to many")
    lesson.say("""
        Which inputs are given and which outputs are used makes the kind of task. One to many is the new one: the cell
        reads what it has just said.
    """)
    lesson.source(tell)
    lesson.say("All five, run with the one cell and the one output layer from above:")
    cell = rnn.walks[0].cell
    first, nothing = mg.Tensor(x[0]), mg.Tensor(np.zeros((batch, hidden)))
    output, last = rnn(x)
    kinds = {
        "one to one": ((1, *x.shape[1:]), readout.forward(rnn(x[:1])[0]), "no series at all"),
        "one to many": ((1, *x.shape[1:]), tell(cell, readout, first, nothing, 4), "a tune from its first note"),
        "many to one": (x.shape, readout.forward(output[-1]), "is this sentence positive?"),
        "many to many, same T": (x.shape, readout.forward(output), "the next letter, at each"),
        "many to many, other T": (x.shape, tell(cell, readout, first, last[0], 9), "translation"),
    }
    table = Table("kind", "in", "out", "for example", title="shapes (T, N, C); without T: only the last state is used")
    for name, (given, y, example) in kinds.items():
        table.add_row(name, str(given), str(y.shape), example)
    lesson.show(table)
    lesson.say("(For translation one would train two cells, one that reads and one that writes.)")
    shapes = [y.shape for _, y, _ in kinds.values()]
    lesson.claim("the same cell gives outputs of 1, 4, 6 and 9 steps, and one without a time axis: as the task asks",
                 shapes == [(1, batch, features), (4, batch, features), (batch, features), x.shape,
                            (9, batch, features)])  # fmt: skip
    assert record.losses is not None
    lesson.claim(f"with an output at every step the loss is a sum, L = Σ_t L_t: "
                 f"{' + '.join(f'{v:.2f}' for v in record.losses)} = {record.loss:.2f}",
                 np.isclose(record.losses.sum(), record.loss, rtol=1e-12))  # fmt: skip

    lesson.step("6. The same cell in other books")
    lesson.formula(
        "PyTorch, here   h_t = tanh(x_t W_ihᵀ + b_ih + h_{t-1} W_hhᵀ + b_hh)",
        "Dive into DL    H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h)",
        "CS230           a<t> = g(W_aa a<t-1> + W_ax x<t> + b_a)",
        "also            a<t> = g(W_a [a<t-1>, x<t>] + b_a)",
    )
    gradients = [p.gradient for name, p in record.parameters.items() if "bias_" in name]
    lesson.claim("two biases or one is the same network: only their sum counts, and both get the same gradient, number "
                 "by number", len(gradients) == 2 and np.array_equal(gradients[0], gradients[1]))  # fmt: skip
    h, x_6 = states[-2], x[-1]  # rows are samples; CS230 has them as columns
    as_columns = np.tanh(w_hh @ h.T + w_ih @ x_6.T + b[:, np.newaxis]).T
    in_one = np.tanh(np.concatenate([h, x_6], axis=1) @ np.concatenate([w_hh, w_ih], axis=1).T + b)
    lesson.claim("samples as columns, or both weights side by side in one: the same h_6 to 1e-12",
                 np.allclose(as_columns, states[-1], rtol=0, atol=1e-12)
                 and np.allclose(in_one, states[-1], rtol=0, atol=1e-12))  # fmt: skip
    lesson.say("""
        So when a formula looks foreign, compare shapes: W_ih is (H, C) here and in CS230, W_xh in Dive into Deep
        Learning is its transpose (C, H).
    """)
    lesson.answer(f"""
        By **a state and a loop**: the same {count} numbers are used at every step, so T may be anything, and h_t
        depends on what was read *and* on its order. For the gradient that means: one parameter, T uses, so T parts to
        add (lesson 1). Lesson 4 writes them down one by one.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
