"""Vanishing and exploding: what a product of Jacobians does to a gradient on its way back through time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad import Tensor, bptt, nn
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.jacobian import JacobianCurves, jacobian_curves, step_jacobians
from minigrad.character import CharacterModel
from minigrad.course import Narrator, narrate
from minigrad.data.text import read_text, visible
from minigrad.views import draw, lens, report

Array = npt.NDArray[np.float64]
H, STEPS = 50, 50
LAGS = (1, 10, 25, 50)


def gaussian(rng: np.random.Generator, radius: float) -> Array:
    """A random W_hh whose largest |eigenvalue| is `radius`."""
    W = rng.standard_normal((H, H))
    return np.asarray(W * (radius / np.abs(np.linalg.eigvals(W)).max()))


def walk(W: Array, h_0: Array, b: Array | float = 0.0, steps: int = STEPS) -> bptt.Record:
    """A tanh RNN without inputs runs on from h_0; the loss is one direction of its last state."""
    rnn, zero = nn.RNN(1, len(W), dtype=np.float64), np.zeros(len(W))
    rnn.load_state_dict({
        "weight_ih_l0": zero[:, np.newaxis], "weight_hh_l0": W, "bias_ih_l0": zero + b, "bias_hh_l0": zero,
    })  # fmt: skip
    _, h_T = rnn(np.zeros((steps, 1, 1)), Tensor(h_0.reshape(1, 1, -1)))
    return bptt.backward((h_T * np.full(len(W), len(W) ** -0.5)).sum())


class SigmoidState(NamedTuple):
    h: Tensor


class SigmoidCell(nn.Module):
    """The recurrent network of the 1990s: h' = sigmoid(W_hh h + b)."""

    def __init__(self, W: Array, b: Array) -> None:
        self.W, self.b = nn.Parameter(W), nn.Parameter(b)

    def initial_state(self, batch: int) -> SigmoidState:
        return SigmoidState(Tensor(np.full((batch, len(self.b)), 0.5)))

    def step(self, x: Tensor, state: SigmoidState) -> SigmoidState:
        return SigmoidState(mg.sigmoid(state.h @ self.W.T + self.b + x))


def sigmoid_curves(W: Array, b: Array) -> JacobianCurves:
    """The same measure of a cell of one's own: each step is computed once more."""
    cell = SigmoidCell(W, b)
    _, last = nn.unroll(cell, np.zeros((STEPS, 1, 1)))
    return jacobian_curves(bptt.backward(last.h.sum()), cell=cell)


def left(curves: JacobianCurves, lag: int) -> float:
    """The largest factor by which anything grows, or shrinks, over so many steps."""
    return float(10 ** curves.largest[lag])


def slopes(record: bptt.Record) -> float:
    """The mean of 1 - h² over all units and steps."""
    return float((1 - record.sequence().states["h"] ** 2).mean())


def lesson(lesson: Narrator) -> None:
    lesson.question(
        "A network reads fifty steps. On the way back its gradient is multiplied by **fifty matrices in a row**. "
        "What decides whether it arrives, dies on the way, or explodes?"
    )

    lesson.step("1. One step back is one matrix")
    lesson.say("""
        How much does every number of h_t move when one of h_(t-1) moves? H times H derivatives, which stand in one
        matrix, the **Jacobian** J_t of step t: row i for h_t[i], column j for h_(t-1)[j].
    """)
    lesson.formula(
        "h_t = tanh(W_hh h_(t-1) + W_ih x_t + b)",
        "J_t = dh_t/dh_(t-1) = diag(1 - h_t²) W_hh",
        "dL/dh_k = J_(k+1)ᵀ … J_(T-1)ᵀ J_Tᵀ dL/dh_T",
        "diag(v): the matrix with v on its diagonal, 0 elsewhere",
    )
    rng = lesson.rng()
    rnn = nn.RNN(3, 8, rng=rng, dtype=np.float64)
    _, h_T = rnn(rng.standard_normal((STEPS, 1, 3)))
    record = bptt.backward((h_T * h_T).sum())
    s, W = record.sequence(), record.parameters["weight_hh_l0"].value
    J = step_jacobians(record)  # (T, H, H)
    by_hand = (1 - s.states["h"][:, 0, :, np.newaxis] ** 2) * W
    gradient = s.gradients["h"][-1, 0]
    for t in range(STEPS - 1, 0, -1):
        gradient = J[t].T @ gradient
    arrived, first = float(np.linalg.norm(gradient)), s.gradients["h"][0, 0]
    lesson.claim("each recorded step's Jacobian is diag(1 - h_t²) W_hh, to twelve digits",
                 np.allclose(J, by_hand, rtol=0, atol=1e-12))  # fmt: skip
    lesson.claim(f"their product carries dL/dh_50 to the dL/dh_1 that backward recorded: its norm is {arrived:.2e}",
                 np.allclose(gradient, first, rtol=1e-9, atol=0))  # fmt: skip
    lesson.say("The report of this network. (A *decade* is a factor of ten.)")
    lesson.show(report.gradients(record))
    lesson.picture("fifty_steps", draw.unrolled(record, "strip"), """
        One tile a step, the loss at the right. Read the row **h** from right to left: this network starts as PyTorch's
        do, and its gradient turns blue, which means: it has vanished.
    """)

    lesson.step("2. At rest: the matrix alone")
    lesson.say("""
        First without the nonlinearity. Where `h = 0`, tanh is a straight line of slope one, so a network at rest is
        linear and every `J_t` is `W_hh` itself. Fifty steps are `W_hh` to the power of fifty. Two numbers describe
        `W_hh`:

        - the **largest singular value** `σ_max`: by how much *one* step can stretch a vector at most (also
          written ‖W_hh‖);
        - the **spectral radius** `ρ`, the largest eigenvalue's size: by how much a step stretches *in the long run*.
          (An eigenvector is a direction that `W_hh` only stretches; the factor is its eigenvalue.)

        Four random (Gaussian) matrices, scaled to a spectral radius, and a random *orthogonal* one, which turns
        vectors and keeps their lengths:
    """)
    matrices = {f"ρ = {rho}": gaussian(lesson.rng(1), rho) for rho in (0.5, 0.9, 1.1, 1.5)}
    matrices["orthogonal"] = nn.init.initialise("orthogonal", lesson.rng(2), blocks=1, rows=H, columns=H)
    at_rest = {name: jacobian_curves(walk(W, np.zeros(H))) for name, W in matrices.items()}
    table = Table("W_hh (50 × 50)", "σ_max", *(f"{lag} steps" if lag > 1 else "1 step" for lag in LAGS), "ρ^50",
                  title="‖dh_T/dh_k‖ at rest: what is left of a gradient at most")  # fmt: skip
    for name, c in at_rest.items():
        (size,), (radius,) = c.weight_norms.values(), c.radii.values()
        table.add_row(name, f"{size:.2f}", *(f"{left(c, lag):.2g}" for lag in LAGS), f"{radius**STEPS:.2g}")
    lesson.show(table)
    over = [left(c, 50) / float(next(iter(c.radii.values()))) ** 50 for c in at_rest.values()]
    lesson.claim(f"after 50 steps every row is {min(over):.1f} to {max(over):.1f} times ρ^50: ρ decides the long run",
                 min(over) > 1 - 1e-9 and max(over) < 10)  # fmt: skip
    some = at_rest["ρ = 0.9"]
    lesson.claim(f"but ρ = 0.9 can first grow, by {left(some, 1):.2f} in one step, before {left(some, 50):.1g} is "
                 "left: the first step belongs to σ_max", left(some, 1) > 1.2 and left(some, 50) < 0.1)  # fmt: skip
    lesson.claim("an orthogonal matrix keeps every length: after any number of steps 1, to ten digits",
                 np.abs(at_rest["orthogonal"].largest).max() < 1e-10)  # fmt: skip

    lesson.step("3. Awake: saturation holds the explosion back")
    lesson.say("""
        Now the same matrices in a network that moves: it starts from a random state. A unit near -1 or 1 is
        *saturated*: its slope `1 - h_t²` is close to nothing. A slope is never above one for tanh and never above
        a quarter for a sigmoid; this largest slope is called `γ`. So (Pascanu et al. 2013, section 2.1):
    """)
    lesson.formula(
        "‖J_t‖ ≤ γ σ_max              γ = 1 (tanh), 1/4 (sigmoid)",
        "σ_max < 1/γ                  sufficient: it vanishes, whatever the inputs",
        "σ_max > 1/γ                  necessary: without it nothing can explode",
    )
    h_0 = 0.1 * lesson.rng(3).standard_normal(H)
    awake = {rho: walk(gaussian(lesson.rng(1), rho), h_0) for rho in (0.5, 0.9, 1.5, 4.0)}
    table = Table("ρ", "σ_max", "mean 1 - h²", *(f"{lag} steps" if lag > 1 else "1 step" for lag in LAGS), "bound",
                  title="‖dh_T/dh_k‖ awake; bound: (γ σ_max)^50")  # fmt: skip
    curves = {rho: jacobian_curves(r) for rho, r in awake.items()}
    for rho, c in curves.items():
        (size,) = c.weight_norms.values()
        assert c.bound is not None
        table.add_row(f"{rho}", f"{size:.2f}", f"{slopes(awake[rho]):.2f}", *(f"{left(c, k):.2g}" for k in LAGS),
                      f"{10 ** c.bound[50]:.1g}")  # fmt: skip
    lesson.show(table)
    rest, moved = left(at_rest["ρ = 1.5"], 50), left(curves[1.5], 50)
    lesson.claim(f"ρ = 1.5 does not explode for ever: {rest:.1g} at rest, {moved:.2g} awake, because the mean slope is "
                 f"{slopes(awake[1.5]):.2f}", moved < 1e-3 * rest and 0.5 < slopes(awake[1.5]) < 0.8)  # fmt: skip
    lesson.claim(f"at ρ = 4 the matrix wins, though the mean slope is only {slopes(awake[4.0]):.2f}: "
                 f"{left(curves[4.0], 50):.1g} after 50 steps", left(curves[4.0], 50) > 1e3
                 and slopes(awake[4.0]) < 0.4)  # fmt: skip
    lesson.claim(f"with σ_max = {next(iter(curves[0.5].weight_norms.values())):.2f} < 1 it has to vanish, and it does: "
                 f"{left(curves[0.5], 50):.1g}", next(iter(curves[0.5].weight_norms.values())) < 1
                 and left(curves[0.5], 50) < 1e-10)  # fmt: skip
    lesson.claim("no product anywhere exceeds the bound (γ σ_max)^steps",
                 all(c.bound is not None and (c.largest <= c.bound + 1e-9).all() for c in curves.values()))  # fmt: skip

    lesson.say("""
        For a **sigmoid**, `γ` is a quarter: Hochreiter & Schmidhuber (1997, section 3.1) conclude that with a single
        weight `|w| < 4` the error always dies. A larger weight beats the quarter only while the unit is held at its
        steepest point; left to itself, it saturates, and the error dies faster.
    """)
    rng = lesson.rng(4)
    best = sigmoid_curves(np.array([[3.9]]), np.array([-1.95]))  # w h + b = 0 at h = 1/2: the steepest point
    others = [sigmoid_curves(np.array([[3.9]]), rng.uniform(-6, 6, 1)) for _ in range(8)]
    strong = [sigmoid_curves(np.array([[w]]), np.zeros(1)) for w in (8.0, 16.0)]
    held = sigmoid_curves(np.array([[8.0]]), np.array([-4.0]))
    most = max(left(c, 50) for c in others)
    lesson.claim(f"w = 3.9, held at the steepest point: (3.9/4)^50 = {left(best, 50):.4f} is left; with 8 random "
                 f"biases at most {most:.1g}", math.isclose(left(best, 50), 0.975**50, rel_tol=1e-9)
                 and most <= left(best, 50))  # fmt: skip
    lesson.claim(f"w = 8 and w = 16 without bias saturate: {left(strong[0], 50):.1g} and {left(strong[1], 50):.1g} are "
                 f"left; w = 8, balanced on the steepest point by its bias: 2^50 = {left(held, 50):.3g}",
                 all(left(c, 50) < 1e-20 for c in strong)
                 and math.isclose(left(held, 50), 2.0**50, rel_tol=1e-9))  # fmt: skip

    lesson.step("4. A trap: ρ of W_hh alone says nothing once units saturate")
    lesson.say("""
        Many texts write the condition with the spectral radius. That is right for a linear network only. Take this
        `W_hh`: all its eigenvalues are 0, and at rest a gradient is gone after two steps. Now let the second unit
        saturate: its row of `J_t` becomes zero, and what stays has the eigenvalue 2.
    """)
    trap = np.array([[2.0, -2.0], [2.0, -2.0]])
    lesson.formula("W_hh = ( 2  -2 )        J_t = ( 2  -2 )   if unit 2 is saturated",
                   "       ( 2  -2 )              ( 0   0 )")  # fmt: skip
    quiet = jacobian_curves(walk(trap, np.zeros(2)))
    caught = jacobian_curves(walk(trap, np.array([0.0, 1.0]), np.array([2.0, 22.0])))
    lesson.claim("W_hh W_hh = 0, so ρ(W_hh) = 0: at rest nothing is left after two steps; with unit 2 saturated, 50 "
                 f"steps multiply by √2 · 2^50 = {left(caught, 50):.3g}",
                 not (trap @ trap).any() and left(quiet, 2) == 0
                 and math.isclose(left(caught, 50), math.sqrt(2) * 2.0**50, rel_tol=1e-9))  # fmt: skip
    lesson.say("The safe statement is the one with `σ_max`: it holds for every product `diag(1 - h_t²) W_hh`.")

    lesson.step("5. A real text: how far back does a character count?")
    text = read_text()
    start = int(lesson.rng(5).integers(0, len(text) - 61))
    ids, letters = text.ids[start : start + 61], [visible(c) for c in text.text[start : start + 60]]

    def reads(length: int, W: Array | None = None) -> bptt.Record:
        model = CharacterModel(text.characters, "rnn", hidden=H, kernel="steps", rng=lesson.rng(6))
        if W is not None:
            model.load_state_dict({**model.state_dict(), "rnn.weight_hh_l0": W})
        return bptt.backward(model.last_loss(ids[60 - length : 60, np.newaxis], ids[60:]))

    lesson.say(f"""
        A character model, untrained, reads sixty characters of `{text.name}` and is asked for the next. Three starting
        matrices: the usual uniform one, an orthogonal one, and a Gaussian one with a spectral radius of four.
    """)
    found = {
        "uniform": reads(60), "orthogonal": reads(60, matrices["orthogonal"]),
        "ρ = 4": reads(60, gaussian(lesson.rng(1), 4.0)),
    }  # fmt: skip
    lesson.show(report.compare(found))
    lesson.picture("text", draw.compare(found, labels=letters, title="60 characters, three starting matrices"), """
        The same text, the same loss at the right end. Read from right to left: the first row turns blue within a few
        words, the second fades far more slowly, the third glows.
    """)
    verdicts = {name: diagnose(r).verdict for name, r in found.items()}
    usual, kept, grown = (lane for r in found.values() if (lane := diagnose(r).lane))
    reach = usual.thousandth or 60
    lesson.claim(f"uniform: {verdicts['uniform']}; after {reach} characters less than a thousandth is left, at the "
                 f"first one {usual.share:.0e}", verdicts["uniform"] == "vanishing" and reach < 20
                 and usual.share < 1e-9)  # fmt: skip
    lesson.claim(f"orthogonal: {kept.share:.2g} arrives at the first character, more than a million times as much",
                 kept.share > 1e6 * usual.share)  # fmt: skip
    lesson.claim(f"ρ = 4: {verdicts['ρ = 4']}, the gradient grows {grown.peak:.1g} times",
                 verdicts["ρ = 4"] == "exploding")  # fmt: skip
    depths = {n: -math.log10(lane.share) for n in (15, 30, 60) if (lane := diagnose(reads(n)).lane)}
    lesson.claim("depth in time: with 15, 30 and 60 characters, " + ", ".join(f"{d:.1f}" for d in depths.values())
                 + " decades are lost: twice as far loses about twice as many decades",
                 all(1.5 < depths[2 * n] / depths[n] < 2.7 for n in (15, 30)))  # fmt: skip
    lesson.say("The whole product of the uniform one, from one step back to all sixty, beside the bound:")
    lesson.show(lens.jacobian(found["uniform"]))

    lesson.answer(
        "The product of `diag(1 - h_t²) W_hh` decides. `σ_max` below `1/γ` **guarantees** that it vanishes; to explode "
        "it needs more than that, and saturation works against it. Only a product whose factors keep lengths carries a "
        "gradient far. Lesson 7 is about living with the explosion; against the vanishing it takes another cell, "
        "lessons 9 to 13."
    )


if __name__ == "__main__":
    narrate(lesson, __file__)
