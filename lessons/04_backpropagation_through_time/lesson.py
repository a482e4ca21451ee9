"""Backpropagation through time: the gradient of a shared weight is a sum over time, gathered in one walk back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad import bptt, nn
from minigrad.bptt.terms import step_terms
from minigrad.course import Narrator, narrate
from minigrad.views import draw, lens

Array = npt.NDArray[np.float64]


def last_state(x: Array, w_ih: Any, w_hh: Sequence[Any], b: Any) -> Any:
    """h_T of an RNN with a W_hh for each step; it may be T times the same."""
    h = mg.Tensor(np.zeros((x.shape[1], w_hh[0].shape[0])))
    for x_t, w in zip(x, w_hh, strict=True):
        h = mg.tanh(x_t @ w_ih.T + h @ w.T + b)
    return h


def walked_back(states: Array, w_hh: Array, from_loss: Array) -> Array:
    """dL/dh_t of all steps of a tanh RNN, (T, N, H): from the last to the first.

    from_loss: What the loss hands to each h_t directly; zeros where there is no loss.
    """
    gradients: Array = from_loss.copy()
    for t in range(len(states) - 2, -1, -1):
        d_a = gradients[t + 1] * (1 - states[t + 1] ** 2)  # through tanh: lesson 1
        gradients[t] += d_a @ w_hh  # through the product: lesson 2
    return gradients


class State(NamedTuple):
    """h (N, H)."""

    h: mg.Tensor


class LinearCell(nn.Module):
    """h_t = W_ih x_t + W_hh h_{t-1}: an RNN without tanh, so that there is a closed form."""

    def __init__(self, features: int, hidden: int, rng: np.random.Generator) -> None:
        self.weight_ih = nn.Parameter(rng.standard_normal((hidden, features)))
        self.weight_hh = nn.Parameter(rng.standard_normal((hidden, hidden)) / np.sqrt(hidden))

    def initial_state(self, batch: int) -> State:
        return State(mg.Tensor(np.zeros((batch, self.weight_hh.shape[0]))))

    def step(self, x: mg.Tensor, state: State) -> State:
        return State(x @ self.weight_ih.T + state.h @ self.weight_hh.T)


def closed_form(w_hh: Array, w_qh: Array, d_o: Array) -> Array:
    """dL/dh_t of all steps of a linear RNN with o_t = W_qh h_t, from dL/do_t (T, K)."""
    steps, power = len(d_o), np.linalg.matrix_power
    return np.stack([
        sum((power(w_hh.T, steps - i) @ w_qh.T @ d_o[steps + t - i - 1] for i in range(t, steps + 1)),
            start=np.zeros(len(w_hh)))
        for t in range(1, steps + 1)
    ])  # fmt: skip


def gradient_of(tensor: Any) -> Array:
    """What `backward` left in a tensor."""
    assert tensor.grad is not None
    return np.asarray(tensor.grad, np.float64)


def close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=1e-12, atol=1e-12))


def lesson(lesson: Narrator) -> None:
    steps, features, hidden, classes = 6, 3, 8, 4
    lesson.question("""
        An RNN used W_hh at every step, and only at the end somebody says how wrong it was. **How much of the blame does
        each step's use get, and how is it found in one walk back?**
    """)
    rnn = nn.RNN(features, hidden, rng=lesson.rng(), dtype=np.float64)
    readout = nn.Linear(hidden, classes, rng=lesson.rng(1), dtype=np.float64)
    x, target = lesson.rng(2).standard_normal((steps, 1, features)), np.array([2])

    lesson.step("1. Pretend that every step has a W_hh of its own")
    lesson.say("""
        Then nothing is shared and there is nothing new: each copy has its own gradient. Lesson 1 says how to get back
        to one weight: a value that is used T times has the *sum* of the T gradients.
    """)
    lesson.source(last_state)
    values = {name: np.array(value) for name, value in rnn.state_dict().items()}
    w_ih, b = values["weight_ih_l0"], values["bias_ih_l0"] + values["bias_hh_l0"]
    shared = mg.Tensor(values["weight_hh_l0"], requires_grad=True)
    nn.cross_entropy(readout.forward(last_state(x, w_ih, [shared] * steps, b)), target).backward()
    copies = [mg.Tensor(values["weight_hh_l0"], requires_grad=True) for _ in range(steps)]
    readout.zero_grad()
    nn.cross_entropy(readout.forward(last_state(x, w_ih, copies, b)), target).backward()
    own = [gradient_of(copy) for copy in copies]
    lesson.claim(f"the gradients of the {steps} copies add up to the gradient of the shared W_hh, to 1e-12",
                 close(sum(own), gradient_of(shared)))  # fmt: skip

    lesson.step("2. The terms, step by step")
    lesson.formula("dL/dW_hh = Σ_t term_t      term_t = dL/da_t h_{t-1}ᵀ      h_t = tanh(a_t)")
    lesson.say("""
        minigrad keeps these terms when it walks back. This is what each step adds. (The bars show ‖term‖ once more, as
        a logarithm: empty is the first number above them, full the second.)
    """)
    readout.zero_grad()
    states, _ = rnn(x)
    record = bptt.backward(nn.cross_entropy(readout.forward(states[-1]), target), keep="ops")
    lesson.show(lens.terms(record))
    kept = record.parameters["weight_hh_l0"]
    lesson.claim("the terms that minigrad keeps are the gradients of the copies",
                 all(close(term.array(), g) for term, g in zip(kept.terms, own, strict=True)))  # fmt: skip
    (terms,) = step_terms(record, parameter="weight_hh_l0")
    lesson.claim(f"the shares add up to 1: {' '.join(f'{s:+.3f}' for s in terms.shares)} = "
                 f"{terms.shares.sum():.3f}", close(terms.shares.sum(), 1))  # fmt: skip
    lesson.claim(f"the use at step {steps} adds {terms.norms[-1] / terms.norms[1]:.0f} times what that at step 2 adds; "
                 "the one at step 1 adds nothing, for it met h_0 = 0",
                 terms.norms[-1] > 3 * terms.norms[1] and terms.norms[0] == 0)  # fmt: skip
    lesson.picture("terms", draw.unrolled(record, "gate"), """
        Follow the arrows from the loss at the right back to the left: `g` is the gradient that arrives at each h and a,
        and the labels on top of each a are what this step adds to the weights: one weight, a label at every step.
    """)
    lesson.picture("sum", draw.rolled(record), """
        The same folded: the row W_hh holds the terms' norms, and behind it stands the norm of their sum.
    """)

    lesson.step("3. One walk back, by hand")
    lesson.say("""
        dL/dh_t has two parts: what the loss of step t hands to h_t itself, and what comes back from step t+1, through
        tanh (lesson 1) and through the product with W_hh (lesson 2). Everything after t is already in dL/dh_{t+1}.
    """)
    lesson.formula(
        "o_t = W_qh h_t + b_q                  the output of step t, and its loss",
        "dL/dh_t  = W_qhᵀ dL/do_t + W_hhᵀ dL/da_{t+1}",
        "dL/da_t  = (1 - h_t²) ⊙ dL/dh_t       ⊙: number by number",
        "dL/dW_hh = Σ_t dL/da_t h_{t-1}ᵀ       dL/dW_ih = Σ_t dL/da_t x_tᵀ",
        "dL/db    = Σ_t dL/da_t",
    )
    targets = lesson.rng(3).integers(0, classes, (steps, 1))
    for module in (rnn, readout):
        module.zero_grad()
    output, _ = rnn(x)
    scores = readout.forward(output)
    record = bptt.backward(nn.cross_entropy(scores, targets, reduction="sum"))
    d_o = np.asarray(mg.softmax(scores.numpy())) - np.eye(classes)[targets]  # p - onehot: lesson 2
    h, w_hh = output.numpy(), values["weight_hh_l0"]
    d_h = walked_back(h, w_hh, d_o @ readout.weight.numpy())
    s = record.sequence()
    table = Table("t", "from the loss of step t", "from step t+1", "together", title="‖dL/dh_t‖, a loss at every step")
    came_from = s.arrivals["h"]
    for t in reversed(range(steps)):
        parts = (came_from["outside"][t, 0], came_from["next"][t, 0], s.norms("h")[t, 0])
        table.add_row(str(t + 1), *(f"{part:.4f}" for part in parts))
    lesson.show(table)
    lesson.claim("the walk by hand gives dL/dh_t of every step as minigrad recorded it, to 1e-12",
                 close(d_h, s.gradients["h"]))  # fmt: skip
    d_a = d_h * (1 - h**2)
    before = np.concatenate([np.zeros((1, 1, hidden)), h[:-1]])  # h_{t-1}
    sums = {"weight_hh_l0": before, "weight_ih_l0": x, "bias_ih_l0": np.ones((steps, 1, 1))}
    found = {name: np.einsum("tnh,tnk->hk", d_a, met).reshape(values[name].shape) for name, met in sums.items()}
    lesson.claim("and with it the gradients of W_hh, W_ih and b",
                 all(close(g, record.parameters[name].gradient) for name, g in found.items()))  # fmt: skip

    lesson.step("4. Without tanh there is a closed form")
    lesson.say("""
        With h_t = W_ih x_t + W_hh h_{t-1} the result of the walk can be written down at once (Dive into Deep Learning,
        section 9.7):
    """)
    lesson.formula("dL/dh_t = Σ_{i=t..T} (W_hhᵀ)^{T-i} W_qhᵀ dL/do_{T+t-i}")
    long = 20
    cell = LinearCell(features, hidden, lesson.rng(4))
    w_qh = lesson.rng(5).standard_normal((classes, hidden))
    d_o = lesson.rng(6).standard_normal((long, classes))
    output, _ = nn.unroll(cell, lesson.rng(7).standard_normal((long, 1, features)))
    record = bptt.backward((output[:, 0] @ w_qh.T * d_o).sum())  # so that dL/do_t is what was drawn
    linear = record.sequence().gradients["h"][:, 0]
    by_formula = closed_form(cell.weight_hh.numpy(), w_qh, d_o)
    error = float(np.abs(linear - by_formula).max() / np.abs(by_formula).max())
    lesson.claim(f"T = {long}: the recorded dL/dh_t are those of the closed form, relative error {error:.0e}",
                 error < 1e-12)  # fmt: skip
    lesson.say("""
        Look at the power: the gradient of a loss k steps ahead was multiplied by W_hhᵀ k times. What that does to it is
        lesson 6.
    """)

    lesson.step("5. A trap in the notation")
    lesson.say("""
        The same book writes dL/dW_hh = Σ_t dL/dh_t · dh_t/dW_hh, and takes h_{t-1} for the second factor. Read it as a
        full derivative and everything is counted more than once, for the full dh_t/dW_hh holds all uses *up to* t. It
        must be the *immediate* one, with h_{t-1} held fixed: Pascanu and others write ∂⁺. The smallest RNN shows it:
        x_t = w x_{t-1}.
    """)
    count, start = 10, 0.7
    w = mg.Tensor(np.array(lesson.rng(8).uniform(0.8, 1.1)), requires_grad=True)
    xs = [mg.Tensor(np.array(start), requires_grad=True)]
    for _ in range(count):
        xs.append(w * xs[-1])
    (right,) = (float(g) for g in mg.grad(xs[-1], [w]))
    to_last = [float(g) for g in mg.grad(xs[-1], xs[1:])]  # dx_T/dx_t
    full = [float(mg.grad(x_t, [w])[0]) for x_t in xs[1:]]  # dx_t/dw, all uses up to t
    immediate = [float(x_t) for x_t in xs[:-1]]  # the same with x_{t-1} held fixed
    exact = count * start * float(w) ** (count - 1)
    terms_right = sum(a * c for a, c in zip(to_last, immediate, strict=True))
    terms_wrong = sum(a * c for a, c in zip(to_last, full, strict=True))
    lesson.formula("x_T = w^T x_0          dx_T/dw = T x_0 w^{T-1}")
    lesson.claim(f"T = {count}: the engine gives {right:.4f}, as the formula; so does the sum with immediate "
                 "derivatives",
                 np.isclose(right, exact, rtol=1e-12) and np.isclose(terms_right, exact, rtol=1e-12))  # fmt: skip
    lesson.claim(f"with full derivatives the sum is {terms_wrong:.4f}: (T+1)/2 = {terms_wrong / exact:.1f} times the "
                 "gradient", np.isclose(terms_wrong / exact, (count + 1) / 2, rtol=1e-12))  # fmt: skip

    lesson.step("6. What it costs")
    lesson.say("""
        With a loss at every step there is a term for each loss t and each step k up to it: T (T + 1) / 2 of them. One
        walk gathers them all, since dL/dh_t already holds everything that comes from later.
    """)
    nodes = {}
    table = Table("T", "terms (loss t, step k)", "nodes of the graph")
    for long in (10, 20, 40):
        output, _ = rnn(lesson.rng(9, long).standard_normal((long, 1, features)))
        graph = bptt.record(nn.cross_entropy(readout.forward(output), np.zeros((long, 1), int))).graph
        assert graph is not None
        nodes[long] = len(graph.nodes)
        table.add_row(str(long), str(long * (long + 1) // 2), str(nodes[long]))
    lesson.show(table)
    lesson.claim(f"the graph, and with it the walk, grows by {(nodes[20] - nodes[10]) // 10} nodes a step: with T, not "
                 "with T²",
                 nodes[40] - nodes[20] == 2 * (nodes[20] - nodes[10]))  # fmt: skip
    output, _ = rnn(x)
    each = [nn.cross_entropy(readout.forward(output[t]), targets[t], reduction="sum") for t in range(steps)]
    one_by_one = [mg.grad(loss, rnn.parameters()) for loss in each]  # T walks, one a loss
    in_one = mg.grad(nn.cross_entropy(readout.forward(output), targets, reduction="sum"), rnn.parameters())
    added_up = [sum(parts) for parts in zip(*one_by_one, strict=True)]
    lesson.claim(f"{steps} walks, one from each loss, add up to what one walk from the sum of the losses gives",
                 all(close(sums, g) for sums, g in zip(added_up, in_one, strict=True)))  # fmt: skip
    lesson.answer(f"""
        Each step gets **its own term**, dL/da_t h_{{t-1}}ᵀ, and the gradient is their sum. Here the last step had
        {terms.shares[-1]:.0%} of the blame, and the first half of the series {terms.shares[: steps // 2].sum():.1%}.
        One walk from the end finds all terms, because dL/dh_t holds everything that comes from later. That is
        backpropagation through time: lesson 1's plus sign, at every step.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
