"""LSTM, first part: the forget gate, a factor that the network chooses at every step."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

import minigrad as mg
from minigrad import Tensor, bptt, nn, no_grad, optim
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.gates import gates
from minigrad.character import CharacterModel
from minigrad.course import Narrator, narrate
from minigrad.data.chunks import Chunks
from minigrad.data.text import read_text, visible
from minigrad.train import Trainer
from minigrad.views import draw, lens

Array = npt.NDArray[np.float64]
STEPS, PIECE = 40, 400


def logit(f: float) -> float:
    """The b at which sigmoid(b) = f."""
    return math.log(f / (1 - f))


def carried(f: float, steps: int) -> tuple[Array, Array]:
    """An LSTM of one unit that writes nothing and only forgets."""
    lstm = nn.LSTM(1, 1, dtype=np.float64)
    weights = {name: 0 * p for name, p in lstm.state_dict().items()}
    weights["bias_ih_l0"][:2] = -40.0, logit(f)  # gates i, f, g, o: i = 0
    lstm.load_state_dict(weights)
    h_0, c_0 = (Tensor(np.full((1, 1, 1), start)) for start in (0.0, 1.0))
    _, (_, c_T) = lstm(np.zeros((steps, 1, 1)), (h_0, c_0))
    s = bptt.backward(c_T.sum()).sequence()
    return s.states["c"][:, 0, 0], s.gradients["c"][:, 0, 0]


def without_forget_gate(model: CharacterModel) -> None:
    """The LSTM of 1997: f = 1 at every step."""
    weights, size = model.state_dict(), model.layer.hidden_size
    for name in weights:
        if name.startswith("lstm"):  # rows of the gates i, f, g, o
            weights[name][size : 2 * size] = 40.0 * (name == "lstm.bias_ih_l0")
    model.load_state_dict(weights)


def after_reading(model: CharacterModel, ids: npt.NDArray[np.int64]) -> Array:
    """The cell state at the end of a text, (H,)."""
    with no_grad():
        _, (_, c) = model(ids[:, np.newaxis])
    return np.asarray(c.numpy()[0, 0], np.float64)


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        In lesson 6 every step back through time was a product with a matrix, and the gradient of a plain network was
        gone after a few characters. **What is the smallest change that lets a network choose how long it remembers?**
    """)
    text = read_text()
    cut = len(text) * 9 // 10
    start = cut + int(lesson.rng(1).integers(0, 1000))
    ids = text.ids[start : start + STEPS + 1]

    lesson.step("1. Why a gate")
    lesson.formula("RNN    dh_t/dh_{t-1} = diag(1 - h_t²) W_hh      at every step")
    plain = CharacterModel(text.characters, "rnn", hidden=32, kernel="steps", rng=lesson.rng(2))
    lane = diagnose(bptt.backward(plain.last_loss(ids[:-1, np.newaxis], ids[-1:]))).lane
    assert lane is not None
    lesson.claim(f"a plain RNN that reads {STEPS} characters of {text.name}: {lane.share:.0e} of the gradient arrives "
                 "at the first", lane.share < 1e-6)  # fmt: skip
    lesson.say("""
        Neither the slope nor the matrix can be told "keep this for now". So LSTM gives the state a second lane, the
        *cell state* C_t, and on this lane a step is no matrix: each unit is multiplied by **one number of its own**,
        between 0 and 1, which the network computes anew at every step.
    """)

    lesson.step("2. The forget gate")
    lesson.formula(
        "f_t = σ(W_f · [h_{t-1}, x_t] + b_f)      a number for each unit, 0 to 1",
        "C_t = f_t ⊙ C_{t-1} + …                  what is written: lesson 10",
        "σ: the sigmoid, 1 / (1 + e^-a)           ⊙: number by number",
    )
    model = CharacterModel(text.characters, "lstm", hidden=32, embedding=16, kernel="steps", rng=lesson.rng(3))
    record = bptt.backward(model.last_loss(ids[:-1, np.newaxis], ids[-1:]), keep="ops")
    lesson.picture("forget_gate", draw.anatomy(record, step=20, highlight="f"), """
        One live step of an LSTM with the **forget gate** and what belongs to it. Arrows carry the gradient back. Follow
        the upper lane from right to left, from C_20 to C_19: a sum and a product with f, no matrix, no tanh. At the
        right stand the equations with this step's numbers (W_f · [h, x] is written in two parts there, W_f x + U_f h).
    """)
    s, weights = record.sequence(), model.state_dict()
    w_hh, w_ih, b = (weights[f"lstm.{name}_l0"] for name in ("weight_hh", "weight_ih", "bias_ih"))
    rows = slice(32, 64)  # gates i, f, g, o of 32 units each
    side_by_side = np.concatenate([w_hh[rows], w_ih[rows]], axis=1)  # W_f
    h_x = np.concatenate([s.states["h"][18, 0], s.inputs[19, 0]])  # [h_{t-1}, x_t] at t = 20
    by_hand = mg.sigmoid(side_by_side @ h_x + (b + weights["lstm.bias_hh_l0"])[rows])
    lesson.claim("W_f · [h, x] is W_hf h + W_if x with the two matrices side by side: the recorded f_20 comes out",
                 np.allclose(by_hand, s.gates["f"][19, 0], atol=1e-5))  # fmt: skip

    lesson.step("3. What a factor does over T steps")
    lesson.say("""
        Let the gate stand still, write nothing, and start with C_0 = 1. After T steps f^T is left, and as the step is a
        product with f, the same factor stands before the gradient on its way back.
    """)
    lesson.source(carried)
    lesson.formula("f^n = 1/2      n = ln 2 / -ln f      the half-life")
    table = Table("f", "after 10 steps", "after 20", "after 50", "gradient, 50", "half-life",
                  title="What is left of C after so many steps, of the gradient after 50")  # fmt: skip
    exact = True
    for f in (0.5, 0.73, 0.9, 0.99):
        c, gradient = carried(f, 100)
        half = math.log(2) / -math.log(f)
        table.add_row(f"{f}", *(f"{c[n - 1]:.2g}" for n in (10, 20, 50)), f"{gradient[49]:.2g}", f"{half:.1f}")
        exact &= np.allclose(c, f ** np.arange(1, 101), rtol=1e-9, atol=0)
        exact &= np.allclose(gradient, f ** np.arange(99, -1, -1), rtol=1e-9, atol=0)
        exact &= int((c > 0.5 - 1e-12).sum()) == math.floor(half + 1e-9)  # for so many steps half is left, or more
    lesson.show(table)
    lesson.claim("in all rows f^T is left of C and of the gradient, and the half-life is where one half is passed",
                 exact)  # fmt: skip
    half_open = float(carried(0.5, 20)[0][-1])
    lesson.claim(f"f = 0.5, half open, forgets fast: .5^20 = {half_open:.1e}", math.isclose(half_open, 0.5**20))

    lesson.step("4. The LSTM of 1997 has no forget gate")
    lesson.say("""
        Hochreiter & Schmidhuber's cell adds and never forgets: f = 1. On a stream without an end nothing ever empties
        the lane, so Gers, Schmidhuber & Cummins added the gate in 2000. Read the text with both, before training:
    """)
    old = CharacterModel(text.characters, "lstm", hidden=32, embedding=16, kernel="steps", rng=lesson.rng(3))
    without_forget_gate(old)
    table = Table("characters read", "largest |C|, f = 1", "largest |C|, with forget gate")
    sizes = {}
    for length in (10, 100, 1000):
        sizes[length] = [np.abs(after_reading(m, text.ids[start : start + length])).max() for m in (old, model)]
        table.add_row(str(length), *(f"{size:.2f}" for size in sizes[length]))
    lesson.show(table)
    lesson.claim(f"f = 1: the largest cell has grown to {sizes[1000][0]:.0f} after 1000 characters; with the gate it "
                 f"stays at {sizes[1000][1]:.1f}", sizes[1000][0] > 8 * sizes[1000][1]
                 and sizes[1000][0] > 5 * sizes[10][0])  # fmt: skip
    slopes = [float((1 - np.tanh(after_reading(m, text.ids[start : start + 1000])) ** 2).mean()) for m in (old, model)]
    lesson.claim(f"its tanh is saturated: the mean slope is {slopes[0]:.2f}, against {slopes[1]:.2f}",
                 slopes[0] < 0.5 * slopes[1])  # fmt: skip

    lesson.step("5. What a trained network does with it")
    before = gates(record)
    assert before.half_lives is not None
    lesson.claim(f"before training every unit's half-life is about 1 step ({before.half_lives.min():.1f} to "
                 f"{before.half_lives.max():.1f}), for every f is about one half",
                 before.half_lives.min() > 0.5 and before.half_lives.max() < 2)  # fmt: skip
    model.zero_grad()
    chunks = Chunks(text.ids[:cut], steps=25, batch=16)
    Trainer(model, optim.Adam(model.parameters(), lr=1e-2), chunks, clip_norm=5.0).run(500)

    def reads(first: int, length: int = PIECE) -> bptt.Record:
        model.zero_grad()
        part = text.ids[first : first + length + 1, np.newaxis]
        return bptt.backward(model.loss(part[:-1], part[1:])[0], keep="ops" if length == STEPS else "steps")

    pieces = [reads(cut + k * 2000) for k in (0, 1)]  # one to look for a unit, one to check it
    found = gates(pieces[0])
    half_lives = found.half_lives
    assert half_lives is not None
    lesson.show(lens.gates(found))
    lesson.claim(f"after 500 updates the units differ: half-lives from {half_lives.min():.2f} to "
                 f"{half_lives.max():.0f} steps", half_lives.max() > 4 and half_lives.min() < 0.7)  # fmt: skip
    kept = [piece.sequence().gates["f"][:, 0] for piece in pieces]  # f, (400, 32)
    ends = [np.isin(list(text.text[cut + k * 2000 :][:PIECE]), [" ", "\n"]) for k in (0, 1)]
    unit = int((kept[0][ends[0]].mean(axis=0) - kept[0][~ends[0]].mean(axis=0)).argmin())
    lesson.say(f"""
        Look for a unit that forgets at the end of a word: on one piece of text, that is unit {unit}. Then read another
        piece, which neither training nor the search has seen (␣ is a space, ↵ a line end, f is given in tenths):
    """)
    shown = "".join("␣" if c == " " else "↵" if c == "\n" else c for c in text.text[cut + 2000 :][:60])
    tenths = "".join(str(min(9, int(10 * x))) for x in kept[1][:60, unit])
    lesson.show(Text(f"reads  {shown}\nf      {tenths}"))
    at_end, inside = float(kept[1][ends[1], unit].mean()), float(kept[1][~ends[1], unit].mean())
    lesson.claim(f"unit {unit}: mean f = {at_end:.2f} at spaces and line ends, {inside:.2f} inside words",
                 inside - at_end > 0.25)  # fmt: skip
    part = reads(cut + 2000, STEPS)
    letters = [visible(c) for c in text.text[cut + 2000 :][:STEPS]]
    lesson.picture("gates", draw.unrolled(part, "gate", labels=letters), """
        The trained network, gate by gate, the middle folded. Follow the lane of C at the top, from
        right to left: an arrow from C_t to C_{t-1} multiplies by f_t and by nothing else. The box f below it is where
        the gradient of the gate itself goes.
    """)
    lesson.answer(f"""
        **A factor f_t of its own for each unit**, computed from what is read. Standing still it keeps f^T: one half is
        left after ln 2 / -ln f steps. Untrained that is about 1 step; trained on text, the units of this network
        remember for {half_lives.min():.1f} to {half_lives.max():.0f} steps, and unit {unit} empties itself at the end
        of a word.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
