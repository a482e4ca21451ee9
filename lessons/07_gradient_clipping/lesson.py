"""Gradient clipping: the wall in the error surface, three ways to limit a gradient, and what none of them cures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

import minigrad as mg
from minigrad import Tensor, bptt, clip_grad_norm, clip_grad_value, nn, optim
from minigrad.bptt.history import History
from minigrad.bptt.surface import descent, error_surface, wall
from minigrad.bptt.thresholds import clipping_effects, norms_over_training
from minigrad.character import CharacterModel
from minigrad.course import Narrator, narrate
from minigrad.data import tasks
from minigrad.data.chunks import Chunk, Chunks
from minigrad.data.text import read_text, visible
from minigrad.train import Trainer
from minigrad.views import draw, lens
from minigrad.views.surface import surface as draw_surface

Array = npt.NDArray[np.float64]
H, STEPS = 64, 40
UPDATES, OUT, LR = 300, 60, 0.3  # of the training runs; one of them is clipped for OUT updates only
PLATEAU = (1 - 0.7) ** 2  # the wall's error once sigmoid(x_T) is 1


def crowd(starts: Array, threshold: float) -> tuple[Array, Array]:
    """Many descents on the wall at once, 500 updates of lr 0.05: where they end, (n, 2), and the errors there."""
    points = starts
    with np.errstate(over="ignore"):
        for _ in range(500):
            w, b = (Tensor(column, requires_grad=True) for column in points.T)
            gradient = np.stack(mg.grad(wall(w, b).sum(), [w, b]), axis=-1)  # (n, 2)
            norms = np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), 1e-300)
            points = points - 0.05 * gradient * np.minimum(1, threshold / norms)
        return points, np.asarray(wall(*points.T))


def angle(before: dict[str, Array], after: dict[str, Array]) -> float:
    """Between two gradients of all parameters, in degrees."""
    a, b = (np.concatenate([g.ravel() for g in x.values()]) for x in (before, after))
    return math.degrees(math.acos(min(1.0, float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))))


def gradients(model: CharacterModel) -> dict[str, Array]:
    return {name: np.array(p.grad, np.float64) for name, p in model.named_parameters()}


def put(model: CharacterModel, gradient: dict[str, Array]) -> None:
    for name, p in model.named_parameters():
        p.grad = gradient[name].astype(p.dtype)


def terms(record: bptt.Record, weight: str) -> Array:
    """What every step adds to the gradient of a weight, (T, *its shape)."""
    return np.array([term.array() for term in record.parameters[weight].terms], np.float64)


class Order(nn.Module):
    """A plain RNN reads a sequence; four scores from its last state."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rnn = nn.RNN(6, 32, init="orthogonal", rng=rng)
        self.readout = nn.Linear(32, len(tasks.ORDER_CLASSES), rng=rng)

    def loss(self, inputs: Any, targets: Any, state: Any = None, *, reduction: str = "mean") -> tuple[Tensor, None]:
        _, h = self.rnn(tasks.one_hot(inputs, 6))
        return nn.cross_entropy(self.readout(h[-1]), targets, reduction=reduction), None


class Fresh:
    """New sequences for every update."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def next(self) -> Chunk:
        task = tasks.temporal_order(20, 32, rng=self.rng)
        return Chunk(task.inputs, task.targets, fresh=True)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


def trained(
    lesson: Narrator, clip_norm: float | None, until: int = UPDATES
) -> History:
    """SGD with this threshold, and after so many updates with none."""
    model = Order(lesson.rng(5))
    sgd = optim.SGD(model.parameters(), lr=LR)
    stream = Fresh(lesson.rng(6))
    trainer = Trainer(model, sgd, stream, clip_norm=clip_norm, norms_every=2)
    trainer.run(until)
    trainer.clip_norm = None
    trainer.run(UPDATES)
    return trainer.history


def lesson(lesson: Narrator) -> None:
    lesson.question(
        "One gradient thousands of times too large, one update, and a network has forgotten all it knew. **How does "
        "one limit a gradient without spoiling it?** And does that, as is often written, also help when it vanishes?"
    )

    lesson.step("1. The wall")
    lesson.say("""
        The smallest recurrent network has one unit and two parameters, so its error is a landscape one can look at.
        It runs for fifty steps and should end at 0.7 (Pascanu et al. 2013, figure 6):
    """)
    lesson.formula("x_t = w sigmoid(x_(t-1)) + b      x_0 = 0.5", "E = (sigmoid(x_50) - 0.7)²")
    surface = error_surface(wall, w=np.linspace(4, 7, 301), b=np.linspace(-3.2, -1.8, 281))
    y, x = surface.steepest
    lesson.claim(f"half of all gradients on this map are below {np.median(surface.gradients):.2g}, but between two "
                 f"plains runs a wall: the steepest gradient is {surface.gradients[y, x]:,.0f}, at w = "
                 f"{surface.across[x]:.2f}, b = {surface.up[y]:.2f}",
                 surface.gradients[y, x] > 1000 and np.median(surface.gradients) < 1)  # fmt: skip

    lesson.step("2. Thrown over the wall, and not")
    lesson.say("""
        Two descents from the same start with the same learning rate. One follows the gradient as it is, the other
        limits its length: `g` is multiplied by `min(1, C / ‖g‖)`, here with `C = 1`. That is **clipping by norm**.
    """)
    start = {"w": 4.5, "b": -2.9}
    free = descent(wall, start, lr=0.05, steps=400)
    clipped = descent(wall, start, lr=0.05, steps=400, clip_norm=1.0)
    ways = {"without clipping": free, "clipped at C = 1": clipped}
    lesson.show(lens.surface(surface, ways))
    lesson.picture("wall", draw_surface(surface, ways), """
        The error as shades, both descents on it. Both walk up to the wall; where the unclipped one leaves in a single
        straight line, it has been thrown. The clipped one zigzags along the wall's foot. (A wall thinner than a tile
        shows in some tiles only.)
    """)
    lesson.claim(f"unclipped, update {free.jump + 1} jumps {free.moves[free.jump]:.1f} far, to a plain where sigmoid "
                 "is as good as 1, and stays at E = 0.3² = 0.09; clipped, no update is longer than lr · C = 0.05",
                 free.moves[free.jump] > 1 and math.isclose(free.errors[-1], PLATEAU, rel_tol=1e-2)
                 and clipped.moves.max() < 0.05 * (1 + 1e-9))  # fmt: skip
    lesson.claim(f"clipped it gets down: E = {clipped.errors[-1]:.1g}, and clipping fired at "
                 f"{clipped.fired.mean():.0%} of the updates only",
                 clipped.errors[-1] < 2e-3 and clipped.fired.mean() < 0.3)  # fmt: skip
    starts = lesson.rng().uniform((4.2, -3.1), (5.0, -2.75), (60, 2))
    reached = {C: crowd(starts, C)[1] < 0.01 for C in (math.inf, 1.0)}
    alone, helped = (float(some.mean()) for some in reached.values())
    lesson.claim(f"from 60 random starts on the same plain, E falls below 0.01 for {alone:.0%} without clipping "
                 f"and for {helped:.0%} with it", alone < 0.6 and helped > 0.9)  # fmt: skip
    points, _ = crowd(np.array([5.5, -2.9]) + 1e-9 * lesson.rng(1).standard_normal((20, 2)), math.inf)
    lesson.claim("where an unclipped descent lands is chance: 20 starts that differ in the ninth digit end up to "
                 f"{np.ptp(points[:, 0]):.0f} apart in w", np.ptp(points[:, 0]) > 5)  # fmt: skip
    easy = descent(wall, {"w": 4.4, "b": -2.9}, lr=0.05, steps=400)
    lesson.claim(f"nor does every start need clipping: from (4.4, -2.9) E falls to {easy.errors[-1]:.0e} without it",
                 easy.errors[-1] < 5e-3)  # fmt: skip
    lesson.say("""
        E is the *training* error itself, there is no test set anywhere: clipping is a device of **optimisation**, not
        of regularisation.
    """)

    lesson.step("3. Three ways to clip the gradient of a network")
    text = read_text()
    begins = lesson.rng(2).integers(0, len(text) - STEPS - 1, 1000).tolist()
    begin = next(k for k in begins if len({*text.text[k : k + STEPS]}) >= 15)  # no row of dashes
    ids, letters = text.ids[begin : begin + STEPS + 1], [visible(c) for c in text.text[begin : begin + STEPS]]
    W = lesson.rng(3).standard_normal((H, H))
    W *= 4 / np.abs(np.linalg.eigvals(W)).max()

    def network(matrix: Array | None = None) -> CharacterModel:
        model = CharacterModel(text.characters, "rnn", hidden=H, kernel="steps", rng=lesson.rng(4))
        if matrix is not None:
            model.load_state_dict({**model.state_dict(), "rnn.weight_hh_l0": matrix})
        return model

    model = network(W)
    record = bptt.backward(model.last_loss(ids[:-1, np.newaxis], ids[-1:]))
    whole = gradients(model)
    lesson.say(f"""
        Now a character RNN whose recurrent matrix has the spectral radius four: lesson 6 says that it explodes. It
        reads {STEPS} characters of `{text.name}`; the gradient of all its parameters is one long vector `g`.

        - **by norm**: `g` times `min(1, C / ‖g‖)`, the norm over *all parameters together*;
        - **by value**: every single number of `g` limited to between -C and C;
        - **in backward**: every number of every `dL/dh_t` limited while the gradient travels (`mg.clip_gradient`).
    """)
    norm = clip_grad_norm(model.parameters(), 1.0)
    coefficients = [norm.after[name] / norm.before[name] for name in norm.before]
    lesson.claim(f"by norm: ‖g‖ {norm.norm_before:.1e} → {norm.norm_after:.2f}, one coefficient "
                 f"{norm.coefficient:.1e} for all {len(norm.before)} parameters, so the angle is "
                 f"{angle(whole, gradients(model)):.3f}°", math.isclose(norm.norm_after, 1, rel_tol=1e-3)
                 and norm.norm_before > 1e3 and angle(whole, gradients(model)) < 0.01
                 and np.ptp(coefficients) < 1e-3 * norm.coefficient)  # fmt: skip
    for name, p in model.named_parameters():
        p.grad = whole[name].astype(p.dtype)
        clip_grad_norm([p], 1.0)
    lesson.claim("every parameter clipped on its own is something else: it turns the gradient by "
                 f"{angle(whole, gradients(model)):.0f}°", angle(whole, gradients(model)) > 20)  # fmt: skip
    put(model, whole)
    value = clip_grad_value(model.parameters(), 1.0)
    lesson.claim(f"by value, C = 1: ‖g‖ of all parameters is {value.norm_after:.0f}, not 1, and the gradient "
                 f"turns by {value.angle:.0f}°",
                 value.norm_after > 10 and value.angle > 20)  # fmt: skip
    effects = clipping_effects(record, max_norm=1.0, clip_value=1.0, limit=1.0)
    in_backward = effects[2]
    lesson.claim(f"in backward: ‖dL/dh_1‖ / ‖dL/dh_{STEPS}‖ falls from {in_backward.ratio_before:.0e} to "
                 f"{in_backward.ratio_after:.1f}: it stops the explosion where it begins; the gradient turns by "
                 f"{in_backward.angle:.0f}°", in_backward.ratio_before > 10 * in_backward.ratio_after
                 and in_backward.angle > 5)  # fmt: skip
    lesson.show(lens.clipping(effects))
    lesson.picture("clipped", draw.clipping(record, norm, labels=letters), """
        What every step adds to the gradient of `W_hh`, before and after clipping by norm. All numbers shrink
        together, the pattern over time stays. (Step 1 adds exactly 0, as h_0 is 0.)
    """)
    lesson.say("""
        The CS230 cheat sheet says that clipping "caps the maximum value" of the gradient. That describes clipping by
        value; Pascanu's is by norm. PyTorch's `clip_grad_norm_` divides by `‖g‖ + 1e-6`, minigrad by `‖g‖`.
    """)

    lesson.step("4. Which threshold?")
    lesson.say("""
        Pascanu et al. (section 3.2): look at the mean norm over many updates; thresholds from half to ten times that
        mean can still converge. So train a little, without clipping, and look.
    """)
    model = network()
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.5), Chunks(text.ids, steps=20, batch=8))
    trainer.run(80)
    norms = norms_over_training(trainer.history.columns["norm_before"])
    table = Table("C", "in words", "would have fired at")
    words = ("half the mean", "the mean", "ten times the mean")
    for word, (C, share) in zip(words, norms.would_fire.items(), strict=True):
        table.add_row(f"{C:.2g}", word, f"{share:.0%} of {norms.updates} updates")
    lesson.show(table)
    low, middle, high = norms.would_fire.values()
    lesson.claim(f"half the mean norm would clip {low:.0%} of the updates, the mean {middle:.0%}, ten times the mean "
                 f"{high:.0%}: a fuse for the exception", low > 0.8 and 0.2 < middle < 0.8 and high < 0.05)  # fmt: skip

    lesson.step("5. A training run: with the fuse, without it, and with the fuse taken out")
    lesson.say(f"""
        Now a task that needs a memory, *temporal order* (Pascanu et al., section 4.1.1): of 20 symbols two count, an A
        or a B near the beginning and another one in the middle. At the end a plain RNN should say which they were: AA,
        AB, BA or BB. Guessing costs log 4 = {math.log(4):.2f} nats. `W_hh` starts orthogonal, so that the gradient
        gets that far (lesson 6). Each update is `p ← p - lr · g`, with lr = {LR}.

        Three runs from the same weights, on the same sequences: clipped by norm at C = 1; never clipped; clipped for
        {OUT} updates and then no more. (`Trainer` repeats lesson 5's training step and keeps a history.)
    """)
    lesson.source(trained)
    gone = f"clipped up to {OUT}"
    runs = {"clipped": trained(lesson, 1.0), "never clipped": trained(lesson, None), gone: trained(lesson, 1.0, OUT)}
    table = Table("run", f"loss at {OUT}", f"loss at {UPDATES}", "largest ‖g‖", "clipping fired",
                  title=f"losses: in nats, means of the 10 updates up to {OUT} and {UPDATES}")  # fmt: skip
    at_end = {}
    for name, run in runs.items():
        losses, norms_before = run.columns["loss"], run.columns["norm_before"]
        at_end[name] = float(np.mean(losses[-10:]))
        fired = norms_over_training(norms_before, run.columns["norm_after"]).fired_share
        table.add_row(name, f"{np.mean(losses[OUT - 10 : OUT]):.2f}", f"{at_end[name]:.3f}", f"{max(norms_before):.1f}",
                      f"{fired:.0%} of {UPDATES}")  # fmt: skip
    lesson.show(table)
    clipped_run, never, taken_out = (run.columns for run in runs.values())
    first = clipped_run["fired"].index(1)
    lesson.claim(f"up to update {first + 1} the first two runs are the same to the last bit; there ‖g‖ = "
                 f"{clipped_run['norm_before'][first]:.2f} is longer than C for the first time",
                 clipped_run["loss"][: first + 1] == never["loss"][: first + 1]
                 and clipped_run["norm_before"][first] > 1)  # fmt: skip
    lesson.claim(f"clipped, it learns: loss {at_end['clipped']:.3f}; never clipped, it ends at "
                 f"{at_end['never clipped']:.2f}: guessing does as well",
                 at_end["clipped"] < 0.05 and at_end["never clipped"] > 1.25)  # fmt: skip
    lesson.claim(f"the fuse was needed while it learnt, at {np.mean(clipped_run['fired'][:OUT]):.0%} of the first "
                 f"{OUT} updates, and at none of the last 50",
                 np.mean(clipped_run["fired"][:OUT]) > 0.5 and not any(clipped_run["fired"][-50:]))  # fmt: skip
    loss, g = (np.array(taken_out[column]) for column in ("loss", "norm_before"))
    lost = OUT + int(np.argmax(loss[OUT:] > math.log(4)))  # the first loss above guessing is that of update lost + 1
    lesson.claim(f"with the fuse taken out, update {lost} has ‖g‖ = {g[lost - 1]:.1f} and moves the weights by "
                 f"lr · ‖g‖ = {LR * g[lost - 1]:.1f}, where lr · C = {LR} was the most. The loss was "
                 f"{loss[lost - 1]:.2f}, is {loss[lost]:.2f} at the next update, and ends at {at_end[gone]:.2f}: all "
                 "that it knew is gone", OUT < lost < OUT + 10 and loss[lost] > math.log(4) and g[lost - 1] > 1
                 and at_end[gone] > 1.25)  # fmt: skip
    lesson.say(f"""
        That third run, {UPDATES // 10} updates a line, with a tile for each of the 20 steps. The line that begins at
        update {OUT + 1} is the first without the fuse: look at its loss. (Where tiles fade to the left, the gradient
        has vanished on the way: behind the wall that may happen too.)
    """)
    lesson.show(lens.history(runs[gone], rows=10))

    lesson.step("6. What clipping does not cure")
    lesson.say("""
        Often one reads that clipping prevents exploding *and vanishing* gradients. Take the usual starting matrix,
        with which the gradient vanishes, and clip it in every way.
    """)
    model = network()
    faint = bptt.backward(model.last_loss(ids[:-1, np.newaxis], ids[-1:]))
    weight = "rnn.weight_ih_l0"
    steps, unclipped = terms(faint, weight), gradients(model)
    small = clip_grad_norm(model.parameters(), 0.1)
    left = gradients(model)
    sizes = np.linalg.norm(steps, axis=(1, 2))
    table = Table("step", "its term of dL/dW_ih", "after clipping", "beside the last step's")
    for t in (1, 10, 20, 30, 35, 39, STEPS):
        after = small.coefficient * sizes[t - 1]
        table.add_row(f"{t}", f"{sizes[t - 1]:.1e}", f"{after:.1e}", f"{sizes[t - 1] / sizes[-1]:.1e} before, "
                      f"{after / (small.coefficient * sizes[-1]):.1e} after")  # fmt: skip
    lesson.show(table)
    lesson.picture("vanished", draw.clipping(faint, small, labels=letters), """
        Read both rows from right to left. The second is the first, made fainter: no step in the past comes closer to
        the last one.
    """)
    lesson.claim(f"the clipped gradient of W_ih is the sum of all steps' terms, each times {small.coefficient:.3f}",
                 np.allclose(left[weight], (small.coefficient * steps).sum(axis=0), rtol=1e-4, atol=1e-9))  # fmt: skip
    lesson.claim(f"so step 1 adds {sizes[0] / sizes[-1]:.0e} of what step {STEPS} adds, clipped or not: as good as "
                 "nothing", 0 < sizes[0] / sizes[-1] < 1e-7)  # fmt: skip
    effects = clipping_effects(faint, max_norm=0.1, clip_value=0.1)
    lesson.claim(f"‖dL/dh_1‖ / ‖dL/dh_{STEPS}‖ stays {effects[0].ratio_before:.0e}, by norm and by value: clipping "
                 "comes when backward is over",
                 all(e.ratio_after == e.ratio_before < 1e-7 for e in effects))  # fmt: skip
    put(model, unclipped)
    clip_grad_value(model.parameters(), 0.1)
    limited = gradients(model)
    lesson.claim("and clipping, by norm or by value, makes no number of a gradient larger, which is what a vanished "
                 "one would need", all((np.abs(g[n]) <= np.abs(unclipped[n]) * (1 + 1e-6)).all()
                                   for g in (left, limited) for n in g))  # fmt: skip

    lesson.answer(
        "Limit the **length** of the whole gradient: `g · min(1, C / ‖g‖)`. The direction stays, and no update is "
        "longer than `lr · C`: a fuse against the wall. In training it made the difference between a loss of "
        f"{at_end['clipped']:.3f} and one of {at_end['never clipped']:.2f}. **It cures nothing that vanishes**: what "
        "every step in the past has to say stays as faint beside the last one as it was. What helps there begins in "
        "lesson 9."
    )


if __name__ == "__main__":
    narrate(lesson, __file__)
