"""Capstone: the adding problem at fifty steps, what three cells reach, and where the gradient of an answer goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import Tensor, bptt, nn, no_grad, optim
from minigrad.bptt.diagnose import diagnose
from minigrad.course import Narrator, narrate
from minigrad.data import tasks
from minigrad.data.chunks import Chunk
from minigrad.train import Step, Trainer
from minigrad.views import draw, lens, report

Array = npt.NDArray[Any]

STEPS, HIDDEN, BATCH = 50, 32, 32
LEARNT = 0.01  # of the squared error
CELLS: dict[str, dict[str, float]] = {"RNN": {}, "LSTM": {"forget_bias": 3.0}, "GRU": {}}


class Adder(nn.Module):
    """A recurrent layer, and one number read from its last state."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        options: dict[str, Any] = {"kernel": "fused", "rng": rng, **CELLS[kind]}
        self.layer = getattr(nn, kind)(2, HIDDEN, **options)
        self.readout = nn.Linear(HIDDEN, 1, rng=rng)

    def forward(self, inputs: Any) -> Tensor:
        """The answers, (N,)."""
        _, state = self.layer(inputs)
        h = state[0] if isinstance(state, tuple) else state  # LSTM: (h, c)
        answers: Tensor = self.readout(h[-1]).reshape(-1)
        return answers

    def loss(
        self, inputs: Array, targets: Array, state: Any = None, *, reduction: str = "mean"
    ) -> tuple[Tensor, None]:
        return nn.mse_loss(self(inputs), targets, reduction=reduction), None


class Fresh:
    """New examples for every update: nothing can be learnt by heart."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def next(self) -> Chunk:
        task = tasks.adding(STEPS, BATCH, rng=self.rng)
        return Chunk(task.inputs, task.targets, fresh=True)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


def error(model: Adder, task: tasks.Task) -> float:
    """The mean squared error."""
    with no_grad():
        return float(np.mean((model(task.inputs).numpy() - task.targets) ** 2))


def trained(model: Adder, rng: np.random.Generator, test: tasks.Task, most: int) -> tuple[Trainer, dict[int, float]]:
    """Train until it is learnt, or for so many updates; the errors on test sequences by update."""
    errors = {0: error(model, test)}

    def look(trainer: Trainer, step: Step) -> None:
        if step.update % 250 == 0:
            errors[step.update] = error(model, test)
            trainer.stopping = errors[step.update] < LEARNT

    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    trainer = Trainer(model, optimizer, Fresh(rng), clip_norm=1.0, norms_every=25)
    trainer.run(most, [look])
    return trainer, errors


def of_the_answers(model: Adder, task: tasks.Task) -> bptt.Record:
    """The gradient of the answers themselves: each depends on its own sequence only."""
    model.zero_grad()
    return bptt.backward(model(Tensor(task.inputs, requires_grad=True)).sum())


def of_the_numbers(model: Adder, task: tasks.Task) -> Array:
    """d answer / d number at each step, (T, N)."""
    model.zero_grad()
    inputs = Tensor(task.inputs, requires_grad=True)
    model(inputs).sum().backward()
    assert inputs.grad is not None
    return np.asarray(inputs.grad)[:, :, 0]


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        Fifty numbers go by, two of them marked, one in each half. At the end: **what is their sum?** A child can do
        it with a pencil. What does a network need that has only its state to write on?
    """)

    lesson.step("1. The task, and the score of one who has forgotten everything")
    example = tasks.adding(10, 1, rng=lesson.rng())
    table = Table("step", *map(str, range(1, 11)), title="a short example")
    table.add_row("number", *(f"{x:.2f}" for x in example.inputs[:, 0, 0]))
    table.add_row("mark", *("1" if m else "" for m in example.inputs[:, 0, 1]))
    lesson.show(table)
    first, second = np.flatnonzero(example.inputs[:, 0, 1])
    a, b = (float(example.inputs[k, 0, 0]) for k in (first, second))
    lesson.claim(f"the answer is {a:.2f} + {b:.2f} = {float(example.targets[0]):.2f}",
                 bool(np.isclose(example.targets[0], a + b)))  # fmt: skip
    lesson.say("""
        Who remembers nothing does best by always saying 1, the mean. The squared error of that is the variance of a
        sum of two numbers, each drawn evenly between 0 and 1, U[0, 1]: twice 1/12.
    """)
    sums = lesson.rng(1).random((2, 1_000_000)).sum(axis=0)
    always_one = float(np.mean((sums - 1) ** 2))
    lesson.claim(f"a million sums: always saying 1 costs {always_one:.4f}, and 1/6 = {tasks.adding_baseline():.4f}. "
                 "Le et al. (2015) print 0.1767 for it, and others copy that: it is a slip",
                 abs(always_one - 1 / 6) < 0.001 < abs(always_one - 0.1767))  # fmt: skip

    lesson.step("2. Three cells")
    test = tasks.adding(STEPS, 1000, rng=lesson.rng(2))
    own = float(np.mean((test.targets - 1) ** 2))
    lesson.say(f"""
        {STEPS} steps, a state of {HIDDEN} units each, new sequences at every update, Adam, the norm clipped at 1. One
        that gets below {LEARNT} has learnt it; else 1,500 updates are the end. On the {len(test.targets):,} test
        sequences, always saying 1 costs {own:.3f}.
    """)
    models = {kind: Adder(kind, lesson.rng(3)) for kind in CELLS}
    some = tasks.Task(*(array[..., :32] if array.ndim < 3 else array[:, :32] for array in test))
    before = {kind: of_the_answers(model, some) for kind, model in models.items()}
    found = {kind: trained(model, lesson.rng(4), test, 1500) for kind, model in models.items()}
    table = Table("cell", "parameters", "updates", "error at the end", "of the baseline")
    last = {kind: list(errors.items())[-1] for kind, (_, errors) in found.items()}
    for kind, (updates, mse) in last.items():
        size = sum(p.size for p in models[kind].parameters())
        table.add_row(kind, f"{size:,}", f"{updates:,}", f"{mse:.4f}", f"{mse / own:.0%}")
    lesson.show(table)
    lesson.claim(f"the plain RNN is where it would be without a memory: {last['RNN'][1]:.3f} after "
                 f"{last['RNN'][0]:,} updates", 0.8 * own < last["RNN"][1] < 1.3 * own)  # fmt: skip
    lesson.claim(f"the GRU gets to {last['GRU'][1]:.4f} in {last['GRU'][0]:,} updates, the LSTM with b_f = 3 to "
                 f"{last['LSTM'][1]:.4f} in {last['LSTM'][0]:,}",
                 max(last["GRU"][1], last["LSTM"][1]) < LEARNT)  # fmt: skip

    lesson.step("3. The gradient while they learn")
    lesson.say(f"""
        From here on no loss is differentiated, but the answers themselves, of {some.inputs.shape[1]} sequences: their
        sum, because an answer depends on its own sequence only. Where a report or a picture says loss or L, it is this
        sum.
    """)
    lesson.show(report.compare({f"{kind}, before": record for kind, record in before.items()}))
    after = {kind: of_the_answers(model, some) for kind, model in models.items()}
    lesson.show(report.compare({f"{kind}, after": record for kind, record in after.items()}))
    sums = {kind: record.loss for kind, record in after.items()}
    lesson.claim(f"after training that sum is {sums['LSTM']:.1f} and {sums['GRU']:.1f} in LSTM and GRU; the right "
                 f"answers add up to {some.targets.sum():.1f}",
                 max(abs(sums[kind] - some.targets.sum()) for kind in ("LSTM", "GRU")) < 3)  # fmt: skip
    lesson.say("And the GRU while it learns, here with the loss of the training, the mean squared error:")
    lesson.show(lens.history(found["GRU"][0].history, rows=8))
    opened = [float(records["GRU"].sequence().gates["z"].mean()) for records in (before, after)]
    shares = {
        (kind, when): lane.share
        for when, records in (("before", before), ("after", after))
        for kind, record in records.items() if (lane := diagnose(record).lane)
    }  # fmt: skip
    lesson.say("""
        The GRU begins no better than the RNN: its gradient dies too. But its gates can *open* the way. The second mark
        is sometimes close to the end, so there is something to learn at once; what is learnt opens the gates a little,
        and the gradient reaches a little further.
    """)
    lesson.claim(f"the mean of the GRU's update gate z, which lets the old state pass, went from {opened[0]:.2f} to "
                 f"{opened[1]:.2f}", opened[0] < 0.6 and opened[1] > opened[0] + 0.1)  # fmt: skip
    lesson.claim(f"before training, {shares['RNN', 'before']:.0e} of the gradient arrives at the first step of the RNN,"
                 f" {shares['GRU', 'before']:.0e} of the GRU", shares["RNN", "before"] < 1e-8
                 and shares["GRU", "before"] < 1e-4)  # fmt: skip
    lesson.claim(f"after it, {shares['GRU', 'after']:.2f} in the GRU, a factor of "
                 f"{shares['GRU', 'after'] / shares['GRU', 'before']:.0e} more; {shares['LSTM', 'after']:.2f} in the "
                 f"LSTM; {shares['RNN', 'after']:.0e} in the RNN", min(shares["GRU", "after"], shares["LSTM", "after"])
                 > 0.01 and shares["GRU", "after"] > 1e3 * shares["GRU", "before"]
                 and shares["RNN", "after"] < 1e-3)  # fmt: skip

    lesson.step("4. Where the gradient of an answer goes")
    lesson.say("""
        The answer is a + b. So a network that has understood must have derivatives that are easy to say: **1** with
        respect to each marked number, **0** to all others. No one has told it so.
    """)
    marked = test.inputs[:, :, 1] == 1  # (T, N)
    table = Table("cell", "at the first mark", "at the second", "elsewhere (mean size)")
    slopes, at_first = {}, np.argmax(marked, axis=0)
    each = np.arange(marked.shape[1])
    for kind, model in models.items():
        slope = of_the_numbers(model, test)
        at_second = STEPS - 1 - np.argmax(marked[::-1], axis=0)
        found_at = (slope[at_first, each].mean(), slope[at_second, each].mean(), np.abs(slope[~marked]).mean())
        slopes[kind] = tuple(map(float, found_at))
        table.add_row(kind, *(f"{x:.2g}" for x in slopes[kind]))
    lesson.show(table)
    lesson.claim("d answer / d number in the GRU: "
                 f"{slopes['GRU'][0]:.2f} and {slopes['GRU'][1]:.2f} at the marks, {slopes['GRU'][2]:.3f} elsewhere",
                 min(slopes["GRU"][:2]) > 0.75 and max(slopes["GRU"][:2]) < 1.2 and slopes["GRU"][2] < 0.1)  # fmt: skip
    lesson.claim(f"the RNN's answer hardly knows the first marked number: {slopes['RNN'][0]:.1g}",
                 abs(slopes["RNN"][0]) < 0.2)  # fmt: skip
    reads = after["GRU"].sequence().input_norms
    assert reads is not None
    most = np.argsort(reads, axis=0)[-2:]  # of each sequence, the two steps that count most
    hits = float(np.take_along_axis(marked[:, : reads.shape[1]], most, axis=0).all(axis=0).mean())
    lesson.claim(f"in {hits:.0%} of {reads.shape[1]} sequences the two steps on which the GRU's answer depends most "
                 "are the two marked ones", hits > 0.8)  # fmt: skip
    labels = ["+" if m else "·" for m in marked[:, 0]]
    for kind in ("RNN", "GRU"):
        lesson.picture(f"answer_{kind.lower()}", draw.unrolled(after[kind], "strip", sample=0, labels=labels,
                       title=f"{kind}: where the gradient of one answer goes (+ marks a number)"),
                       f"""
            One test sequence in the {kind} after training; L is its answer. Row **x**: how much the answer depends on
            what was read.
            {"Beside the two +, little counts." if kind == "GRU" else "Blue: whatever stood there, all but forgotten."}
        """)  # fmt: skip
    lesson.answer(f"""
        It needs a **way for the gradient that its own gates can open**. The plain RNN stayed at one sixth
        ({last['RNN'][1]:.3f}), the error of an empty memory; GRU and LSTM learnt to add, and their derivatives show
        that they did: {slopes['GRU'][0]:.2f} and {slopes['GRU'][1]:.2f} at the two marks, {slopes['GRU'][2]:.3f}
        elsewhere. You can now read such a derivative, say where a gradient dies, why, and what helps.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
