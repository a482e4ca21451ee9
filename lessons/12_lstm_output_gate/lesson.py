"""LSTM, fourth part: the output gate and the hidden state; and the way back through a whole step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, nn, no_grad, optim
from minigrad.course import Narrator, narrate
from minigrad.data.text import read_text
from minigrad.views import draw

Array = npt.NDArray[np.float64]
T, OPEN = 8, 40.0


def asked() -> tuple[Array, Array]:
    """A value at step 1; at one later step somebody asks for it: every such series.

    Inputs (T, 14, 3): value, "store", "ask". Targets (T, 14): the value when it is
    asked for, else 0.
    """
    cases = [(value, t) for value in (-1.0, 1.0) for t in range(1, T)]
    x, y = np.zeros((T, len(cases), 3)), np.zeros((T, len(cases)))
    for n, (value, t) in enumerate(cases):
        x[0, n, :2] = value, 1.0
        x[t, n, 2] = 1.0
        y[t, n] = value
    return x, y


INPUTS, TARGETS = asked()


class Teller(nn.Module):
    """An LSTM of one unit with f = 1; its output gate may see "ask", or is held at 1."""

    def __init__(self, gated: bool, rng: np.random.Generator) -> None:
        self.layer = nn.LSTM(3, 1, dtype=np.float64)
        self.readout = nn.Linear(1, 1, bias=False, dtype=np.float64, rng=rng)
        weights = {k: 0 * p for k, p in self.layer.state_dict().items()}
        weights["bias_ih_l0"][:] = -5.0, OPEN, 0.0, 0.0 if gated else OPEN  # i, f, g, o
        weights["weight_ih_l0"][0, 1] = 10.0  # i opens for "store" alone
        weights["weight_ih_l0"][2, 0] = rng.uniform(0.5, 1.5)  # g sees the value
        self.layer.load_state_dict(weights)
        self.learns: dict[str, list[tuple[int, ...]]] = {"weight_ih_l0": [(2, 0)]}
        if gated:
            self.learns = {"weight_ih_l0": [(2, 0), (3, 2)], "bias_ih_l0": [(3,)]}

    def loss(self) -> Tensor:
        output, _ = self.layer(INPUTS)
        return nn.mse_loss(self.readout(output)[:, :, 0], TARGETS)

    def trained(self, updates: int) -> bptt.Record:
        optimizer = optim.Adam(self.parameters(), lr=0.05)
        for _ in range(updates):
            optimizer.zero_grad()
            self.loss().backward()
            for name, p in self.layer.named_parameters():
                assert p.grad is not None
                gradient = np.zeros(p.shape)
                for place in self.learns.get(name, []):  # all else is held still
                    gradient[place] = p.grad[place]
                p.grad = gradient
            optimizer.step()
        self.zero_grad()
        return bptt.backward(self.loss(), keep="ops")


class OneStep:
    """One step of an LSTM with a loss that hands dL/dh and dL/dC to it."""

    def __init__(self, rng: np.random.Generator, features: int = 3, hidden: int = 5) -> None:
        self.cell = nn.LSTMCell(features, hidden, rng=rng, dtype=np.float64)
        self.x = rng.standard_normal((1, features))
        self.h, self.c, self.d_h, self.d_c = rng.standard_normal((4, 1, hidden))

    def loss(self) -> Tensor:
        h, c = self.cell.step(Tensor(self.x), nn.LSTMState(Tensor(self.h), Tensor(self.c)))
        total: Tensor = (h * self.d_h).sum() + (c * self.d_c).sum()
        return total


def difference(step: OneStep, direction: dict[str, Array], little: float = 1e-6) -> float:
    """By how much the loss moves when all weights move a little in a direction."""
    start, ends = step.cell.state_dict(), []
    with no_grad():
        for size in (little, -little):
            step.cell.load_state_dict({k: p + size * direction[k] for k, p in start.items()})
            ends.append(step.loss().item())
        step.cell.load_state_dict(start)
    return float(ends[0] - ends[1]) / (2 * little)


def gates_of(step: OneStep) -> dict[str, Any]:
    """i, f, g, o and C of a step, as arrays."""
    w = step.cell.state_dict()
    a = step.x @ w["weight_ih"].T + w["bias_ih"] + step.h @ w["weight_hh"].T + w["bias_hh"]
    i, f, g, o = np.split(a, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    return {"i": i, "f": f, "g": np.tanh(g), "o": o, "C": f * step.c + i * np.tanh(g)}


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        A cell keeps something for a hundred steps. **Must the rest of the network see it all that time?** And what does
        the whole step look like from behind, with four gates and two lanes?
    """)

    lesson.step("1. The output gate, and what is shown")
    lesson.formula(
        "o_t = σ(W_o · [h_{t-1}, x_t] + b_o)       output gate: how much is shown",
        "h_t = o_t ⊙ tanh(C_t)                     hidden state: all that is shown",
    )
    text = read_text()
    many, start = len(text.characters), int(lesson.rng(1).integers(0, len(text) - 41))
    ids = text.ids[start : start + 41]
    lstm = nn.LSTM(many, 16, forget_bias=3.0, rng=lesson.rng(2), dtype=np.float64)
    readout = nn.Linear(16, many, rng=lesson.rng(3), dtype=np.float64)
    output, _ = lstm(np.eye(many)[ids[:-1], np.newaxis])
    record = bptt.backward(nn.cross_entropy(readout(output), ids[1:, np.newaxis]), keep="ops")
    lesson.picture("output_gate", draw.anatomy(record, step=20, highlight="o"), """
        The **output gate** and what belongs to it. It is the only one that is not on the lane of C: it stands between
        C_20 and everybody else, that is the next step's four gates and the readout.
    """)

    lesson.step("2. Keep it, and say nothing until you are asked")
    lesson.say(f"""
        A task of {T} steps: a value, 1 or -1, comes at step 1; at one later step somebody asks. The output should be
        the value when it is asked for, and 0 otherwise. The unit keeps the value (f = 1 is held still). It is trained
        twice: with an output gate that sees "ask", and with o = 1.
    """)
    plain, teller = (Teller(gate, lesson.rng(4)) for gate in (False, True))
    always, gated = (model.trained(400) for model in (plain, teller))
    best = 1 / T - 1 / T**2
    lesson.say("""
        With o = 1 it can only say the same at every step, a part w of the value. Hochreiter & Schmidhuber (1997) call
        this the **output weight conflict**: at one step the weight should be 1, at all others 0.
    """)
    lesson.formula(
        "mean error = ((T - 1) w² + (1 - w)²) / T = w² - 2 w/T + 1/T",
        "least at w = 1/T:  1/T - 1/T²",
    )
    lesson.claim(f"with o = 1 the error ends at {always.loss:.4f}: 1/T - 1/T² = {best:.4f}, where silence has {1 / T}",
                 abs(always.loss - best) < 0.003)  # fmt: skip
    lesson.claim(f"with an output gate it falls to {gated.loss:.4f}", gated.loss < 0.01)
    s, n = gated.sequence(), 11  # the value 1, asked for at step 6
    scale = teller.readout.weight.item()
    table = Table("t", "value", "store", "ask", "C", "o", "h", "output", "target",
                  title="one series in the trained network")  # fmt: skip
    for t in range(T):
        c, o, h = (float(a[t, n, 0]) for a in (s.states["c"], s.gates["o"], s.states["h"]))
        table.add_row(str(t + 1), *(f"{v:.0f}" for v in INPUTS[t, n]), f"{c:.3f}", f"{o:.3f}", f"{h:.3f}",
                      f"{scale * h:.3f}", f"{TARGETS[t, n]:.0f}")  # fmt: skip
    lesson.show(table)
    silent, spoken = (float(np.abs(s.states["h"][at, n, 0]).max()) for at in ([0, 1, 2, 3, 4, 6, 7], [5]))
    told = scale * float(s.states["h"][5, n, 0])
    lesson.claim(f"the readout multiplies h by {scale:.2f}: at step 6 the output is {told:.2f}, where 1 is asked for. "
                 "So it does not matter that h stays far below 1; what counts is how much more h is than at the other "
                 "steps", abs(told - 1) < 0.1 and 10 * silent < spoken < 0.7)  # fmt: skip
    labels = ["value", *("ask" if t == 5 else "" for t in range(1, T))]
    lesson.picture("shown", draw.unrolled(gated, "cell", labels=labels, sample=n), """
        The same series: C keeps its value on the upper lane, h below it is silent but for t = 6. The blue is no
        vanishing: a trained network has little loss, so little gradient.
    """)
    ask = INPUTS[:, :, 2] == 1
    shown, hidden = (float(np.abs(s.states["h"][:, :, 0][where]).mean()) for where in (ask, ~ask))
    moved = float(np.ptp(np.abs(s.states["c"][:, :, 0]), axis=0).max() / np.abs(s.states["c"]).max())
    lesson.claim(f"|h| is {shown:.3f} when asked and {hidden:.4f} otherwise, while |C| changes by at most {moved:.2g}",
                 shown > 10 * hidden and moved < 0.2)  # fmt: skip
    through = s.arrivals["c"]["same"] / s.norms("h")  # what C gets through its own h, of dL/dh, (T, N)
    when_asked, otherwise = float(through[ask].mean()), float(through[~ask].mean())
    lesson.claim(f"on the way back it is as shut: of dL/dh C gets {when_asked:.0%} at a step that shows it, and "
                 f"{otherwise:.1%} at one that does not", when_asked > 10 * otherwise)  # fmt: skip

    lesson.step("3. Where books differ")
    lesson.say("""
        The CS230 cheat sheet writes the hidden state as a = Γ_o ⋆ c, **without tanh**, and puts a *relevance gate*
        Γ_r before the old state in the candidate. That gate is GRU's reset gate (lesson 14). PyTorch, Dive into Deep
        Learning and minigrad have the equations of this lesson.
    """)
    open_lstm = nn.LSTM(many, 16, forget_bias=5.0, rng=lesson.rng(2), dtype=np.float64)
    with no_grad():
        longer = text.ids[start : start + 300]
        _, (h_T, c_T) = open_lstm(np.eye(many)[longer, np.newaxis])
    h, c = h_T.numpy(), c_T.numpy()
    without = h / np.tanh(c) * c  # o ⋆ c
    lesson.claim(f"it matters when C is large: after 300 characters with open forget gates |C| is up to "
                 f"{np.abs(c).max():.1f}, |o ⊙ tanh(C)| up to {np.abs(h).max():.2f}, |o ⋆ C| up to "
                 f"{np.abs(without).max():.1f}", np.abs(h).max() < 1 and np.abs(without).max() > 1.5)  # fmt: skip

    lesson.step("4. The whole step from behind")
    lesson.say("""
        From step t + 1 and from the loss come dL/dh_t and a part of dL/dC_t. Everything else of the step follows in
        this order, line by line, with the rules of lessons 1 and 2:
    """)
    lesson.formula(
        "dL/do   = dL/dh ⊙ tanh(C)",
        "dL/dC  += dL/dh ⊙ o ⊙ (1 - tanh²(C))      C is used twice: it adds",
        "dL/df, dL/di, dL/dg, dL/dC_{t-1}          C = f ⊙ C_{t-1} + i ⊙ g",
        "dL/da                                     through σ, σ, tanh, σ",
        "dL/dW_ih, dL/dW_hh, dL/db, dL/dx, dL/dh_{t-1}      a = W_ih x + W_hh h + b",
    )
    lesson.say("""
        The first two lines are tried on numbers here. **The exercise is all five**: the whole backward pass of a step.
    """)
    step = OneStep(lesson.rng(5))
    v = gates_of(step)
    record = bptt.backward(step.loss())
    d_o = step.d_h * np.tanh(v["C"])
    d_c = step.d_c + step.d_h * v["o"] * (1 - np.tanh(v["C"]) ** 2)
    d_bias_o = d_o * v["o"] * (1 - v["o"])  # the slope of a sigmoid
    d_bias_f = d_c * step.c * v["f"] * (1 - v["f"])
    recorded = step.cell.bias_ih
    assert recorded is not None
    assert recorded.grad is not None
    blocks = np.split(recorded.grad, 4)
    lesson.claim("dL/do gives the recorded gradient of b_o, dL/dC that of b_f, to 1e-12",
                 np.allclose(d_bias_o[0], blocks[3], rtol=0, atol=1e-12)
                 and np.allclose(d_bias_f[0], blocks[1], rtol=0, atol=1e-12))  # fmt: skip
    rng = lesson.rng(6)
    direction = {name: rng.standard_normal(p.shape) for name, p in step.cell.named_parameters()}
    slope = sum(float((p.gradient * direction[name]).sum()) for name, p in record.parameters.items())
    moved_by = difference(step, direction)
    lesson.claim(f"all {sum(p.size for p in direction.values())} weights in one number: along a random direction the "
                 f"gradient says {slope:.8f}, an experiment {moved_by:.8f}",
                 math.isclose(slope, moved_by, rel_tol=1e-6, abs_tol=1e-7))  # fmt: skip
    lesson.answer(f"""
        **No.** The output gate shows a kept value when it is wanted: |h| was {shown:.3f} when asked and {hidden:.4f}
        otherwise, with an error of {gated.loss:.4f} in place of {always.loss:.4f}. And a step from behind is five
        lines, which you write now.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
