"""LSTM, second part: the input gate, which decides what is written and what is kept out."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, clip_grad_norm, nn, no_grad, optim
from minigrad.course import Narrator, narrate
from minigrad.views import draw

Array = npt.NDArray[np.float64]
T = 8
OPEN, SHUT = 40.0, -40.0
SIGNS = np.array([*itertools.product((-1.0, 1.0), repeat=T)]).T  # (8, 256): every series of 8 signs
MARKED = np.stack([SIGNS, np.zeros_like(SIGNS)], axis=2)  # the value and a mark, (8, 256, 2)
MARKED[0, :, 1] = 1.0  # the first value is the one to remember
FIRST = SIGNS[0]


class State(NamedTuple):
    c: Tensor


class UngatedUnit(nn.Module):
    """c_t = c_{t-1} + w x_t: one weight has to store and to ignore."""

    def __init__(self, w: float) -> None:
        self.w = nn.Parameter(np.array([[w]]))

    def initial_state(self, batch: int) -> State:
        return State(Tensor(np.zeros((batch, 1))))

    def step(self, x: Tensor, state: State) -> State:
        return State(state.c + x @ self.w)


def pulls(w: float) -> tuple[Array, float]:
    """What every step adds to dL/dw, and the loss (c_T - x_1)² / 2."""
    _, last = nn.unroll(UngatedUnit(w), SIGNS[:, :, np.newaxis])
    off = last.c[:, 0] - FIRST
    record = bptt.backward((off * off).mean() / 2)
    (weight,) = record.parameters.values()
    return np.array([float(t.array().item()) for t in weight.terms]), record.loss


class Keeper(nn.Module):
    """An LSTM of one unit, of which only what writes may learn."""

    def __init__(self, gated: bool, rng: np.random.Generator) -> None:
        self.layer = nn.LSTM(2, 1, dtype=np.float64)
        self.readout = nn.Linear(1, 1, dtype=np.float64, rng=rng)
        weights = {k: 0 * p for k, p in self.layer.state_dict().items()}
        i = rng.normal(0, 0.3) if gated else OPEN
        weights["bias_ih_l0"][:] = i, OPEN, 0.0, OPEN  # gates i, f, g, o
        weights["weight_ih_l0"][2, 0] = rng.uniform(0.3, 0.7)  # g sees x
        self.layer.load_state_dict(weights)
        self.learns: dict[str, list[tuple[int, ...]]] = {  # i sees the mark, g x
            "weight_ih_l0": [(0, 1), (2, 0)] if gated else [(2, 0)],
            "bias_ih_l0": [(0,), (2,)] if gated else [(2,)],
        }

    def loss(self) -> Tensor:
        _, (h, _) = self.layer(MARKED)
        return nn.mse_loss(self.readout(h[-1])[:, 0], FIRST)

    def hold_still(self) -> None:
        """Everything else gets no gradient, so it stays as it is."""
        for name, p in self.layer.named_parameters():
            assert p.grad is not None
            gradient = np.zeros(p.shape)
            for place in self.learns.get(name, []):
                gradient[place] = p.grad[place]
            p.grad = gradient


def trained(model: Keeper, updates: int) -> bptt.Record:
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(updates):
        optimizer.zero_grad()
        model.loss().backward()
        model.hold_still()
        optimizer.step()
    model.zero_grad()
    return bptt.backward(model.loss(), keep="ops")


def free(rng: np.random.Generator, updates: int) -> tuple[float, Array]:
    """An ordinary LSTM, in which everything learns: its loss, and the input gates of each step."""
    lstm = nn.LSTM(2, 8, forget_bias=3.0, rng=rng, dtype=np.float64)
    readout = nn.Linear(8, 1, rng=rng, dtype=np.float64)
    parameters = [*lstm.parameters(), *readout.parameters()]
    optimizer = optim.Adam(parameters, lr=0.02)

    def loss() -> Tensor:
        _, (h, _) = lstm(MARKED)
        return nn.mse_loss(readout(h[-1])[:, 0], FIRST)

    for _ in range(updates):
        optimizer.zero_grad()
        loss().backward()
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
    record = bptt.record(loss())
    return record.loss, np.asarray(record.sequence().gates["i"].mean(axis=(1, 2)), np.float64)


def corner(i: float, f: float) -> float:
    """C_t from C_{t-1} = 0.8 and g = 0.5, with both gates quite open or quite shut."""
    cell = nn.LSTMCell(1, 1, dtype=np.float64)
    weights = {name: 0 * p for name, p in cell.state_dict().items()}
    weights["bias_ih"][:3] = i, f, math.atanh(0.5)
    cell.load_state_dict(weights)
    with no_grad():
        state = nn.LSTMState(Tensor(np.zeros((1, 1))), Tensor(np.full((1, 1), 0.8)))
        return float(cell.step(Tensor(np.zeros((1, 1))), state).c.item())


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        The forget gate lets a unit keep what it has (lesson 9). But every step also *writes*. **What keeps the next
        hundred inputs from writing over the one that counts?**
    """)

    lesson.step("1. Two numbers write: a candidate and a gate")
    lesson.formula(
        "i_t = σ(W_i · [h_{t-1}, x_t] + b_i)       input gate: how much, 0 to 1",
        "g_t = tanh(W_g · [h_{t-1}, x_t] + b_g)    candidate: what, -1 to 1",
        "C_t = f_t ⊙ C_{t-1} + i_t ⊙ g_t",
    )
    lesson.say("(The candidate is also written C̃_t.) With both gates quite open or shut there are four corners:")
    table = Table("i", "f", "C_t", "what it does", title="from C_{t-1} = 0.8 and g = 0.5")
    corners = {(i, f): corner(i, f) for f in (OPEN, SHUT) for i in (SHUT, OPEN)}
    words = ("protects: the old value, as it was", "adds", "clears", "replaces: the new value alone")
    for ((i, f), c), word in zip(corners.items(), words, strict=True):
        table.add_row(f"{int(i > 0)}", f"{int(f > 0)}", f"{c:.3f}", word)
    lesson.show(table)
    lesson.claim("keep 0.8, add to 1.3, clear to 0, replace by 0.5: to 1e-12",
                 np.allclose([*corners.values()], [0.8, 1.3, 0.0, 0.5], rtol=0, atol=1e-12))  # fmt: skip

    lesson.step("2. Without the gate: one weight, two wishes")
    lesson.say(f"""
        A task: {T} values, each 1 or -1. Say at the end what the *first* was. A unit that only adds has one weight for
        all steps. Hochreiter & Schmidhuber (1997) call what follows the **input weight conflict**.
    """)
    lesson.source(UngatedUnit)
    table = Table("w", "step 1", "each later step", "sum", "mean (c_T - x_1)²", title="What the steps add to dL/dw")
    exact = True
    for w in (0.0, 1 / T, 0.5, 1.0):
        terms, loss = pulls(w)
        table.add_row(f"{w:.3f}", f"{terms[0]:+.3f}", f"{terms[1]:+.3f}", f"{terms.sum():+.3f}", f"{2 * loss:.3f}")
        exact &= np.allclose(terms, [w - 1, *[w] * (T - 1)], rtol=0, atol=1e-12)
    lesson.show(table)
    lesson.claim("over all 256 series step 1 pulls with w - 1 and each later step with w: for every w between 0 and 1 "
                 "the one wants it larger, the others want it smaller", exact)  # fmt: skip
    terms, loss = pulls(1 / T)
    lesson.claim(f"they settle at w = 1/T = {1 / T}, where the error is still 1 - 1/T = {2 * loss:.3f}: nearly that of "
                 "knowing nothing, 1", abs(terms.sum()) < 1e-12 and math.isclose(2 * loss, 1 - 1 / T))  # fmt: skip

    lesson.step("3. With the gate: open once, then shut")
    lesson.say("""
        Now the first value carries a mark, in a second input. The unit is an LSTM's, with f = 1 and o = 1 held still,
        so that only what writes can learn, and the linear layer that reads the answer from h_8 = tanh(C_8): C may keep
        x_1 at a scale of its own. It is trained twice: with an input gate that sees the mark, and with i = 1.
    """)
    ungated, gated = (trained(Keeper(g, lesson.rng(1)), 400) for g in (False, True))
    lesson.claim(f"i = 1: the error is {ungated.loss:.2f} after 400 updates", ungated.loss > 0.8)
    lesson.claim(f"with an input gate: {gated.loss:.4f}", gated.loss < 0.02)
    s = gated.sequence()
    one = 90  # any of the 256 series
    table = Table("t", "x", "mark", "i", "g", "i · g", "C", title=f"series {one} in the trained network")
    for t in range(T):
        x, mark = MARKED[t, one]
        i, g, c = (float(a[t, one, 0]) for a in (s.gates["i"], s.gates["g"], s.states["c"]))
        table.add_row(str(t + 1), f"{x:+.0f}", f"{mark:.0f}", f"{i:.3f}", f"{g:+.3f}", f"{i * g:+.3f}", f"{c:+.3f}")
    lesson.show(table)
    opened, closed = float(s.gates["i"][0].mean()), float(s.gates["i"][1:].max())
    lesson.claim(f"nobody told it: the gate is at {opened:.2f} at the mark and at most {closed:.3f} afterwards",
                 opened > 0.2 and closed < opened / 8)  # fmt: skip
    candidate = float(np.abs(s.gates["g"][1:]).min())
    lesson.claim(f"the candidates g go on all the time (never below {candidate:.2f} in size): it is the gate that "
                 "keeps them out", candidate > 0.3)  # fmt: skip
    into = s.gate_norms["g"]
    share = float(np.linalg.norm(into[1:].max(axis=0)) / np.linalg.norm(into[0]))
    lesson.claim(f"it protects on the way back too: dL/dg = i ⊙ dL/dC, so the later steps get at most {share:.1%} of "
                 "what the first gets: they hardly pull any more", share < 0.15)  # fmt: skip
    lesson.picture("writes", draw.anatomy(gated, step=1, highlight="i"), """
        The **input gate** at the first step, with what belongs to it: it is far more open than later, and the gradient
        goes through it and through the candidate. (The middle numbers are means over all 256 series: x_1 is 1 in half
        of them and -1 in the others, so g is nearly 0.)
    """)
    lesson.picture("protects", draw.anatomy(gated, step=5, highlight="i"), """
        The same cell four steps later: i is nearly 0, so is the product, and the gradient `g` of the candidate is a
        small part of that in the other picture. The lane of C above is untouched.
    """)

    lesson.step("4. What a trained gate does not tell")
    lesson.say("""
        It is tempting to read a network's gates as if each did its textbook duty. Here an ordinary LSTM of 8 units,
        nothing held still, learns the same task.
    """)
    loss, gates = free(lesson.rng(2), 300)
    lesson.claim(f"it solves it too, error {loss:.0e}, and yet its input gates are {gates[0]:.2f} open on average at "
                 f"the mark and {gates[1:].mean():.2f} afterwards: they did not have to shut",
                 loss < 0.02 and gates[1:].mean() > 0.25)  # fmt: skip
    lesson.say("""
        Candidate, forget gate, output gate and the state that they all see share the work. A gate's name says what it
        *can* do.
    """)
    lesson.answer(f"""
        **The input gate**, a factor before everything that is written. One weight alone cannot both store and ignore:
        its error stays at 1 - 1/T. With a gate the error fell from {ungated.loss:.2f} to {gated.loss:.4f}: half
        open ({opened:.2f}) for the one that counts, shut (at most {closed:.3f}) for the rest.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
