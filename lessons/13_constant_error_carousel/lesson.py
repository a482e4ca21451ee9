"""The constant error carousel, and the number that starts it: the forget gate's bias."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from minigrad import Tensor, bptt, clip_grad_norm, nn, no_grad, optim
from minigrad.bptt.gates import gates
from minigrad.course import Narrator, narrate
from minigrad.data import tasks
from minigrad.views import draw, report

HIDDEN, SYMBOLS = 16, 10


def carousel(w: float, steps: int, nonlinearity: str) -> float:
    """dh_T/dh_0 of one unit that feeds itself: h_t = f(w h_{t-1})."""
    rnn = nn.RNN(1, 1, nonlinearity=nonlinearity, dtype=np.float64)
    weights = {name: 0 * p for name, p in rnn.state_dict().items()}
    weights["weight_hh_l0"][:] = w
    rnn.load_state_dict(weights)
    h_0 = Tensor(np.full((1, 1, 1), 0.5), requires_grad=True)
    _, h_T = rnn(np.zeros((steps, 1, 1)), h_0)
    h_T.sum().backward()
    assert h_0.grad is not None
    return float(h_0.grad.item())


class Classifier(nn.Module):
    """Reads symbols and says at the end which of two came first."""

    def __init__(
        self, kind: str, rng: np.random.Generator, kernel: str = "fused", **options: Any
    ) -> None:
        self.layer = getattr(nn, kind)(SYMBOLS, HIDDEN, kernel=kernel, rng=rng, **options)
        self.readout = nn.Linear(HIDDEN, 2, rng=rng)

    def forward(self, ids: Any) -> Tensor:
        _, state = self.layer(tasks.one_hot(ids, SYMBOLS))
        last = state[0] if isinstance(state, tuple) else state  # LSTM: (h, c)
        scores: Tensor = self.readout(last[-1])
        return scores

    def loss(self, task: tasks.Task) -> Tensor:
        return nn.cross_entropy(self(task.inputs), task.targets)

    def right(self, task: tasks.Task) -> float:
        with no_grad():
            return float((self(task.inputs).numpy().argmax(axis=1) == task.targets).mean())


def learn(
    model: Classifier, steps: int, most: int, test: tasks.Task, rng: np.random.Generator
) -> int | None:
    """After how many updates all test sequences are right; None: not within `most`."""
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for update in range(1, most + 1):
        optimizer.zero_grad()
        model.loss(tasks.latch(steps, 32, rng=rng)).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if update % 25 == 0 and model.right(test) == 1:
            return update
    return None


def seconds(model: Classifier, task: tasks.Task) -> float:
    """Processor time of the fastest of eight forward and backward passes."""
    taken = []
    for _ in range(8):
        model.zero_grad()
        start = time.process_time()
        model.loss(task).backward()
        taken.append(time.process_time() - start)
    return min(taken)


def arrives(record: bptt.Record, state: str = "h") -> float:
    """‖dL/dh_1‖ : ‖dL/dh_T‖ over the whole batch, or the same of C."""
    norms = np.linalg.norm(record.sequence().norms(state), axis=1)
    return float(norms[0] / norms[-1])


def said(updates: int | None, most: int) -> str:
    return f"{updates} updates" if updates else f"not in {most}"


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        LSTM was made so that a gradient can stay as it is. Yet it can fail at remembering *one symbol for twenty
        steps*, where a plain network succeeds. **Which single number decides that?**
    """)

    lesson.step("1. What makes an error constant")
    lesson.say("""
        Take one unit that feeds itself, h_t = f(net_t) with net_t = w h_{t-1}. A step back multiplies the *error*, as
        dL/dh was called then, by f'(net_t) · w. It neither dies nor explodes if that is 1, at every step: so f has to
        be linear, and w = 1 over its slope.
        Hochreiter & Schmidhuber (1997) call this the **constant error carousel**. It is the heart of LSTM: the lane of
        C.
    """)
    lesson.formula("f'(net_t) · w = 1      f linear, w = 1:   C_t = 1 · C_{t-1} + …")
    table = Table("f", "w", "what is left of an error after 100 steps back")
    pairs = (("relu", 0.9), ("relu", 1.0), ("relu", 1.1), ("tanh", 1.0))
    found = {(kind, w): carousel(w, 100, kind) for kind, w in pairs}
    for (kind, w), error in found.items():
        table.add_row("linear (relu above 0)" if kind == "relu" else kind, f"{w}", f"{error:.3g}")
    lesson.show(table)
    lesson.claim(f"w = 1 keeps it to the last digit; w = 0.9 leaves 0.9^100 = {found['relu', 0.9]:.2g}, w = 1.1 makes "
                 f"it 1.1^100 = {found['relu', 1.1]:.3g}", found["relu", 1.0] == 1
                 and all(math.isclose(found["relu", w], w**100, rel_tol=1e-9) for w in (0.9, 1.1)))  # fmt: skip
    lesson.claim(f"with tanh w = 1 is not enough, its slope is below 1: {found['tanh', 1.0]:.2g} is left",
                 found["tanh", 1.0] < 0.05)  # fmt: skip
    lesson.say("The forget gate stands in the place of that 1: at f = 1 the carousel turns for ever, below it slows.")

    lesson.step("2. The bias decides where the gate begins")
    lesson.formula("f = σ(W_f · [h, x] + b_f) ≈ σ(b_f)      as W_f starts small")
    lesson.say("""
        The third column is the half-life of a gate that stands at σ(b_f); the fourth was measured in an untrained LSTM,
        the median of its units.
    """)
    table = Table("b_f", "σ(b_f)", "half-life in steps", "of an untrained LSTM", "σ(b_f)^20", "σ(b_f)^50")
    test = tasks.latch(50, 64, rng=lesson.rng(1))
    lives, close = {}, True
    for bias in (0.0, 1.0, 2.0, 3.0, 5.0):
        f = 1 / (1 + math.exp(-bias))
        lives[bias] = math.log(2) / -math.log(f)
        model = Classifier("LSTM", lesson.rng(2), forget_bias=bias)
        measured = gates(bptt.backward(model.loss(test))).half_lives
        assert measured is not None
        typical = float(np.median(measured))
        close &= abs(typical / lives[bias] - 1) < 0.35
        table.add_row(f"{bias:.0f}", f"{f:.4f}", f"{lives[bias]:.1f}", f"{typical:.1f}", f"{f**20:.1g}", f"{f**50:.1g}")
    lesson.show(table)
    lesson.claim("half-lives " + ", ".join(f"{x:.3g}" for x in lives.values()) + " steps for b_f = 0, 1, 2, 3, 5; the "
                 "typical unit of an untrained LSTM is within a third of that",
                 close and np.allclose([*lives.values()], [1.0, 2.2, 5.5, 14, 103], rtol=0.03))  # fmt: skip

    lesson.step("3. A faster way to the same numbers")
    lesson.say("""
        From here on there is more to train. So far every op of every step was recorded, so that it can be drawn.
        `kernel="fused"` computes a whole sequence in one op, with a backward pass like the one that you wrote in lesson
        12. Is it the same?
    """)
    steps, fused = (Classifier("LSTM", lesson.rng(3), kernel) for kernel in ("steps", "fused"))
    records = [bptt.backward(m.loss(test), keep="ops") for m in (steps, fused)]
    apart = max(float(np.abs(p.gradient - records[1].parameters[name].gradient).max())
                for name, p in records[0].parameters.items())  # fmt: skip
    lesson.claim(f"the loss is {records[0].loss:.6f} and {records[1].loss:.6f}, the gradients differ by at most "
                 f"{apart:.0e}: rounding", math.isclose(records[0].loss, records[1].loss, rel_tol=1e-5)
                 and apart < 1e-6)  # fmt: skip
    of_h = [r.sequence().gradients["h"] for r in records]
    lesson.claim("and every step's dL/dh_t is in both records", np.allclose(of_h[0], of_h[1], rtol=1e-3, atol=1e-8))
    nodes = [len(r.graph.nodes) for r in records if r.graph is not None]
    small = tasks.latch(50, 4, rng=lesson.rng(1))
    slow, fast = (seconds(model, small) for model in (steps, fused))
    lesson.claim(f"{nodes[0]:,} ops become {nodes[1]}", nodes[0] > 20 * nodes[1])
    lesson.show(Text(f"Here and now, a pass over 50 steps of 4 samples: {1000 * fast:.1f} ms in place of "
                     f"{1000 * slow:.0f}, {slow / fast:.1f} times as fast."))  # fmt: skip

    lesson.step("4. The latch task, twenty steps")
    lesson.say("""
        The first symbol is x or y; then come distractors, eight kinds, at random. At the end: which was the first?
        Batch 32, H = 16, Adam at 0.01, clipping by norm at 1 (lesson 7); solved when 256 fixed sequences are all right.
    """)
    test = tasks.latch(20, 256, rng=lesson.rng(4))
    example = "".join("xyabcdefgh"[k] for k in test.inputs[:, 0])
    lesson.say(f"One of them: `{example}`")
    table = Table("cell", "‖dL/dh_1‖ : ‖dL/dh_20‖ before training", "solved after")
    twenty: dict[str, int | None] = {}
    for name, forget_bias in (("tanh RNN", None), ("LSTM, b_f = 0", 0.0), ("LSTM, b_f = 1", 1.0)):
        options = {} if forget_bias is None else {"forget_bias": forget_bias}
        model = Classifier("LSTM" if options else "RNN", lesson.rng(5), "fused", **options)
        ratio = arrives(bptt.backward(model.loss(test)))
        model.zero_grad()
        twenty[name] = learn(model, 20, 1000, test, lesson.rng(6))
        table.add_row(name, f"{ratio:.0e}", said(twenty[name], 1000))
    lesson.show(table)
    lesson.claim("LSTM with b_f = 0 does not solve it in 1000 updates: half-open gates forget by a factor 2 a step",
                 twenty["LSTM, b_f = 0"] is None)  # fmt: skip
    lesson.claim(f"the same LSTM with b_f = 1 does, after {twenty['LSTM, b_f = 1']}",
                 twenty["LSTM, b_f = 1"] is not None)  # fmt: skip
    lesson.claim(f"and the plain RNN, with no gate at all, does too, after {twenty['tanh RNN']}. A gate does not help "
                 "by itself, its bias does", twenty["tanh RNN"] is not None)  # fmt: skip

    lesson.step("5. Fifty steps")
    lesson.say("""
        Each bias from three starts, 200 updates at most. An LSTM has two lanes, so there are two figures for what
        arrives before training. **Along h** is ‖dL/dh_1‖ : ‖dL/dh_50‖, **along C** ‖dL/dC_1‖ : ‖dL/dC_50‖. C is
        the lane that the bias rules, so look there first. Its share may even be above 1, for what goes through the
        gates comes on top. Along h less arrives: h_1 is reached only through the gates of step 2.
    """)
    test = tasks.latch(50, 256, rng=lesson.rng(7))
    table = Table("b_f", "half-life", "along h", "along C", "solved after … updates")
    fifty, ratios, along, beginnings = {}, {}, {}, {}
    for bias in (0.0, 1.0, 3.0, 5.0):
        fifty[bias] = list[int | None]()
        for start in range(3):
            model = Classifier("LSTM", lesson.rng(8, start), forget_bias=bias)
            record = bptt.backward(model.loss(test))
            if start == 0:
                beginnings[f"b_f = {bias:.0f}"] = record
                ratios[bias], along[bias] = arrives(record), arrives(record, "c")
            model.zero_grad()
            fifty[bias].append(learn(model, 50, 200, test, lesson.rng(9, start)))
        table.add_row(f"{bias:.0f}", f"{lives[bias]:.1f}", f"{ratios[bias]:.2g}", f"{along[bias]:.2g}",
                      ", ".join(str(updates or "not") for updates in fifty[bias]))  # fmt: skip
    lesson.show(table)
    lesson.show(report.compare(beginnings))
    lesson.say("This report follows the lane on which more arrives, here C.")
    lesson.picture("biases", draw.compare(beginnings, title="Fifty steps, four forget biases, before training"), """
        Each pair of rows is an untrained LSTM, C and h; the loss hangs on h at the right end. From top to bottom only
        b_f changes. Of what hangs on h_50 a part gets into C_50; from there follow a pair's upper row to the left.
    """)
    solved = {bias: sum(updates is not None for updates in some) for bias, some in fifty.items()}
    lesson.claim("along C more arrives than along h, whatever the bias",
                 all(along[bias] > ratios[bias] for bias in along))  # fmt: skip
    lesson.claim(f"b_f = 0: {along[0.0]:.0e} arrives along C, and {solved[0.0]} of 3 starts solve it",
                 along[0.0] < 1e-7 and solved[0.0] == 0)  # fmt: skip
    lesson.claim(f"b_f = 3: {along[3.0]:.2g} arrives, and {solved[3.0]} of 3 solve it; b_f = 5: {along[5.0]:.2g} and "
                 f"{solved[5.0]} of 3", min(along[3.0], along[5.0]) > 0.1 and ratios[3.0] > 1e-3
                 and solved[3.0] >= 1 and solved[3.0] + solved[5.0] >= 3)  # fmt: skip
    lesson.say("""
        Jozefowicz, Zaremba & Sutskever (2015) compared ten thousand cells and *"recommend adding a bias of 1 to the
        forget gate of every LSTM"*. For fifty steps 1 is little: better a half-life of about what is to be remembered.
        It is a beginning, no guarantee: run this lesson with other seeds and count again. (`forget_bias` of `nn.LSTM`
        sets the sum of PyTorch's two biases; without it that sum is random around 0.)
    """)
    lesson.answer(f"""
        **b_f**. The carousel keeps an error constant at f = 1; with b_f = 0 an untrained gate stands at one half, and
        after 49 steps along C {along[0.0]:.0e} of the gradient was left; with b_f = 3 it was {along[3.0]:.2g}. At
        twenty steps LSTM failed with b_f = 0 and solved the task with b_f = 1, in {twenty["LSTM, b_f = 1"]} updates.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
