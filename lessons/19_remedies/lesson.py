"""Remedies: orthogonal and identity initialisation, and Pascanu's regulariser in two versions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad import Tensor, bptt, clip_grad_norm, nn, no_grad, optim
from minigrad.bptt.jacobian import jacobian_curves
from minigrad.course import Narrator, narrate
from minigrad.data import tasks
from minigrad.views import draw, report

Array = npt.NDArray[Any]

STEPS = 50


def omega(w_hh: Tensor, h: Array, g: Array) -> Tensor:
    """Pascanu's Ω; h_t and g_t = dE/dh_t, (T, N, H), are constants."""
    samples, size = h.shape[1:]
    before = (g[1:] * (1 - h[1:] ** 2)).reshape(-1, size)  # dE/da_t
    norms = np.linalg.norm(g[1:].reshape(-1, size), axis=1, keepdims=True)
    alive = norms[:, 0] > 1e-12 * norms.max()  # of a zero there is no ratio
    back = Tensor(before[alive] / norms[alive]) @ w_hh  # dE/dh_{t-1}
    off = mg.sqrt((back * back).sum(axis=1)) - 1
    total: Tensor = (off * off).sum() / samples
    return total


def exact_omega(loss: Tensor, states: Sequence[Tensor]) -> Tensor:
    """The same number, with its whole graph; the loss is at the end alone."""
    g = mg.grad(loss, states, create_graph=True)  # with graphs of their own
    norms = [mg.sqrt((part * part).sum(axis=1)) for part in g]
    offs = [before / after - 1 for before, after in pairwise(norms)]
    total: Tensor = sum((off * off).sum() for off in offs) / len(states[0])
    return total


def walked(cell: Any, x: Array) -> list[Tensor]:
    """The states h_1 to h_T, op by op."""
    state, states = cell.initial_state(x.shape[1]), []
    for x_t in x:
        state = cell.step(Tensor(x_t), state)
        states.append(state.h)
    return states


class Order(nn.Module):
    """A plain RNN of 50 units that says which two symbols came, and in which order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rnn = nn.RNN(6, 50, kernel="fused")
        self.readout = nn.Linear(50, 4)
        for p in self.parameters():  # the paper's "basic tanh": N(0, 0.1), biases 0
            p.data = (rng.normal(0, 0.1, p.shape) * (p.ndim > 1)).astype(np.float32)

    def forward(self, ids: Array) -> Tensor:
        """Scores, (N, 4)."""
        _, h = self.rnn(tasks.one_hot(ids, 6))
        scores: Tensor = self.readout(h[-1])
        return scores


def updates_needed(how: str, lesson: Narrator, most: int, steps: int) -> tuple[int | None, bptt.Record]:
    """Updates of plain SGD with clipping until fewer than 1 % of fresh sequences go wrong; the last record.

    How: "" for the loss alone, "paper" and "exact" for 4 · Ω with the derivative of the paper, or with all of it.
    """
    model, rng = Order(lesson.rng(10)), lesson.rng(11)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    test = tasks.temporal_order(steps, 2000, rng=lesson.rng(12))
    recurrent, cell = dict(model.named_parameters())["rnn.weight_hh_l0"], model.rnn.walks[0].cell
    solved = None
    for number in range(1, most + 1):
        task = tasks.temporal_order(steps, 20, rng=rng)
        optimizer.zero_grad()
        if how == "exact":
            states = walked(cell, tasks.one_hot(task.inputs, 6))
            loss = nn.cross_entropy(model.readout(states[-1]), task.targets)
            (loss + 4 * exact_omega(loss, states)).backward()
        else:
            walk = bptt.backward(nn.cross_entropy(model(task.inputs), task.targets)).sequence()
        if how == "paper":
            (4 * omega(recurrent, walk.states["h"], walk.gradients["h"])).backward(accumulate=True)
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if number % 125 == 0:
            with no_grad():
                wrong = float((model(test.inputs).numpy().argmax(1) != test.targets).mean())
            if wrong < 0.01:
                solved = number
                break
    optimizer.zero_grad()
    return solved, bptt.backward(nn.cross_entropy(model(test.inputs[:, :20]), test.targets[:20]))


def first_to_last(record: bptt.Record) -> float:
    """‖dL/dh_1‖ over ‖dL/dh_T‖."""
    norms = np.linalg.norm(record.sequence().norms("h"), axis=1)
    return float(norms[0] / norms[-1])


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        Gates are one way to keep a gradient alive. **What can a plain RNN do without them?** It can begin with better
        weights, and it can be told, at every update, to keep its gradient's size.
    """)

    lesson.step("1. Where the weights begin")
    lesson.say("""
        The gradient is multiplied by W_hhᵀ at every step back (lesson 6). An *orthogonal* matrix turns it and keeps its
        length. Three beginnings, the same inputs, 50 steps:
    """)
    task = tasks.latch(STEPS, 32, rng=lesson.rng())
    inputs = tasks.one_hot(task.inputs, 10).astype(np.float64)
    curves, records = {}, {}
    for name, init, nonlinearity in (
        ("uniform, tanh", "uniform", "tanh"), ("orthogonal, tanh", "orthogonal", "tanh"),
        ("identity, relu", "identity", "relu"),
    ):  # fmt: skip
        layer = nn.RNN(10, 32, init=init, nonlinearity=nonlinearity, dtype=np.float64, rng=lesson.rng(1))
        for parameter in layer.parameters():
            if parameter.ndim == 1:
                parameter.data = np.zeros_like(parameter.value)
        _, h = layer(inputs)
        weights = lesson.rng(2).normal(size=32)
        records[name] = bptt.backward((h[-1] @ Tensor(weights)).sum())
        curves[name] = jacobian_curves(records[name])
    table = Table("W_hh, nonlinearity", "ρ(W_hh)", "σ_max(dh_50/dh_1)", "‖dL/dh_1‖ : ‖dL/dh_50‖")
    ratios = {name: first_to_last(record) for name, record in records.items()}
    for name, curve in curves.items():
        reach = f"10^{curve.largest[STEPS - 1]:.1f}"
        table.add_row(name, f"{curve.radii['a']:.2f}", reach, f"{ratios[name]:.2g}")
    lesson.show(table)
    lesson.picture("beginnings", draw.compare(records, title="Fifty steps, three beginnings, before training"), """
        The three beginnings on one scale of colours, the loss at the right. Where does a row pale or turn blue on its
        way to the left?
    """)
    lesson.claim(f"orthogonal weights keep more of the gradient than uniform ones, by a factor of "
                 f"{ratios['orthogonal, tanh'] / ratios['uniform, tanh']:.0e}",
                 ratios["orthogonal, tanh"] > 1e6 * ratios["uniform, tanh"])  # fmt: skip
    lesson.claim(f"identity and relu keep more still: {ratios['identity, relu']:.2f} is left (Le et al. 2015)",
                 ratios["identity, relu"] > max(0.1, ratios["orthogonal, tanh"]))  # fmt: skip
    powers = np.linalg.matrix_power(nn.init.orthogonal(lesson.rng(6), 50, 50), 49)
    linear = np.linalg.svd(powers, compute_uv=False)
    lesson.claim("without a nonlinearity an orthogonal matrix loses nothing at all: all 50 singular values of W⁴⁹ are "
                 "1, to 1e-12", bool(np.abs(linear - 1).max() < 1e-12))  # fmt: skip
    lesson.say("""
        What tanh takes away, no beginning gives back; and after the first updates the matrix is orthogonal no more.
    """)

    lesson.step("2. A regulariser that asks for the gradient's size")
    lesson.formula(
        "Ω = Σ_t ( ‖dE/dh_t · dh_t/dh_{t-1}‖ / ‖dE/dh_t‖  -  1 )²",
    )
    lesson.say("""
        One step back should leave the length of the gradient as it is (Pascanu et al. 2013, eq. 9; E is their name of
        the loss).
        Ω is a function of derivatives, so its own derivative is a **second** derivative. The paper avoids it: it takes
        h_t and dE/dh_t for constants and differentiates the W_hh that stands in dh_t/dh_{t-1} only.
    """)
    lesson.source(omega)
    lesson.source(exact_omega)
    x, readout = lesson.rng(3).normal(size=(6, 4, 3)), lesson.rng(4).normal(size=(5, 1))
    cell = nn.RNNCell(3, 5, dtype=np.float64, rng=lesson.rng(5))

    def computed() -> tuple[Tensor, Tensor, list[Tensor]]:
        states = walked(cell, x)
        score = states[-1] @ Tensor(readout)
        loss = (score * score).sum()
        return exact_omega(loss, states), loss, states

    whole, loss, states = computed()
    h = np.stack([s.numpy() for s in states])
    g = np.stack([np.asarray(part) for part in mg.grad(loss, states)])
    part = omega(cell.weight_hh, h, g)
    lesson.claim(f"both are the same number, Ω = {whole.item():.4f}", abs(whole.item() - part.item()) < 1e-9)
    (of_whole,), (of_part,) = (mg.grad(value, [cell.weight_hh]) for value in (whole, part))

    weights = cell.weight_hh.numpy().copy()

    def moved(entry: tuple[int, int], by: float, frozen: bool) -> float:
        trial = weights.copy()
        trial[entry] += by
        if frozen:
            return omega(Tensor(trial), h, g).item()
        cell.weight_hh.data = trial
        value = computed()[0].item()
        cell.weight_hh.data = weights
        return value

    little, entries = 1e-6, [(0, 0), (1, 3), (4, 2)]
    ways = ((True, of_part, "with h and dE/dh held fixed"), (False, of_whole, "with all recomputed"))
    for frozen, derivative, words in ways:
        slopes = [(moved(e, little, frozen) - moved(e, -little, frozen)) / (2 * little) for e in entries]
        right = np.allclose(slopes, [derivative[e] for e in entries], rtol=1e-5, atol=1e-8)
        lesson.claim(f"moving entries of W_hh a little, {words}, confirms "
                     f"{'the derivative of the paper' if frozen else 'the whole derivative'}", bool(right))  # fmt: skip
    cosine = float((of_whole * of_part).sum() / np.linalg.norm(of_whole) / np.linalg.norm(of_part))
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    lesson.claim(f"they are not the same: their directions are {angle:.0f}° apart, so the paper's update is not the "
                 "steepest descent of Ω", angle > 5)  # fmt: skip

    lesson.step("3. Does it help? The order of two symbols among twenty")
    lesson.say("""
        Of 20 symbols two count, A or B, and the network says which they were *and in which order*. Plain SGD with a
        learning rate of 0.01, clipping at 1, as in the paper; the only difference is 4 · Ω. Solved: fewer than 1 % of
        2,000 fresh sequences wrong. The report is of 20 of them, at the end.
    """)
    most = 2500
    table = Table("training", "solved after", "‖dL/dh_1‖ : ‖dL/dh_20‖ at the end")
    found = {}
    for words, how in (("clipping", ""), ("clipping and Ω", "paper")):
        solved, record = found[words] = updates_needed(how, lesson, most, 20)
        table.add_row(words, f"{solved:,} updates" if solved else f"not in {most:,}", f"{first_to_last(record):.2g}")
    lesson.show(table)
    lesson.show(report.compare({words: record for words, (_, record) in found.items()}))
    with_it, without = found["clipping and Ω"][0], found["clipping"][0]
    lesson.claim(f"with Ω it is solved after {with_it or 0:,} updates", with_it is not None)
    lesson.claim(f"without it, it takes {without:,}" if without else f"without it, {most:,} do not suffice",
                 without is None or (with_it is not None and without > 1.2 * with_it))  # fmt: skip
    lesson.say("""
        And with the whole derivative of Ω? It costs a graph of the backward pass at every update, so here are ten
        steps:
    """)
    table = Table("training, T = 10", "solved after")
    short = {how: updates_needed(how, lesson, 1000, 10)[0] for how in ("", "paper", "exact")}
    for how, words in (("", "clipping"), ("paper", "and Ω, as in the paper"), ("exact", "and Ω, all of it")):
        table.add_row(words, f"{short[how]:,} updates" if short[how] else "not in 1,000")
    lesson.show(table)
    lesson.claim("the whole derivative works too: at ten steps all three solve it within 1,000 updates",
                 all(short.values()))  # fmt: skip
    lesson.say("""
        In the paper, T goes up to 200 and up to five million updates were allowed; there too, success with clipping
        alone falls off first. Gates with a good bias (lessons 13 and 14) need no such patience.
    """)
    lesson.answer(f"""
        **Begin orthogonal, and ask for size.** Orthogonal weights keep {ratios['orthogonal, tanh']:.2g} of the gradient
        over 49 steps where uniform ones keep {ratios['uniform, tanh']:.2g}; Ω keeps asking during training, and
        needs no second derivative if states and gradients are taken for constants. Clipping only shortens (lesson 7).
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
