"""Tensors: one node for a whole matrix, its two rules for going back, and how far a gradient can be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

import minigrad as mg
from minigrad import nn, optim
from minigrad.course import Narrator, narrate
from minigrad.errors import GradError
from minigrad.gradcheck import central_difference, complex_step, gradcheck
from minigrad.views import draw

Array = npt.NDArray[np.float64]


def number_by_number(a: Array, b: Array, given: Array) -> tuple[Array, Array]:
    """Lesson 1 inside C = A B: every product of two numbers is a node.

    given: dL/dC, of the shape of C.
    """
    d_a, d_b = np.zeros_like(a), np.zeros_like(b)
    for n, k, m in np.ndindex(*a.shape, b.shape[1]):
        # C[n, m] += A[n, k] * B[k, m]: each use of a number adds its part
        d_a[n, k] += given[n, m] * b[k, m]
        d_b[k, m] += given[n, m] * a[n, k]
    return d_a, d_b


def gradient_of(tensor: mg.Tensor) -> Array:
    """What `backward` left in a tensor."""
    assert tensor.grad is not None
    return tensor.grad


def curved(x: Any) -> Any:
    """A number from a matrix: a Tensor, an array, complex numbers."""
    return (mg.tanh(x @ x) * x).sum()


def sixty_deep(x: Any) -> Any:
    """tanh of tanh of tanh …: much like the hidden state of an RNN."""
    for _ in range(60):
        x = mg.tanh(0.3 * x + 0.2)
    return x.sum()


class Network(nn.Module):
    """From points (N, 2) to one score each: 2 - 16 - 16 - 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.first = nn.Linear(2, 16, rng=rng, dtype=np.float64)
        self.second = nn.Linear(16, 16, rng=rng, dtype=np.float64)
        self.last = nn.Linear(16, 1, rng=rng, dtype=np.float64)
        for layer in (self.first, self.second, self.last):  # as micrograd
            for parameter, scale in zip(layer.parameters(), (1, 0), strict=True):  # the weight, the bias
                parameter.data = scale * rng.uniform(-1, 1, parameter.shape)

    def scores(self, points: Array) -> mg.Tensor:
        h = mg.relu(self.first.forward(mg.Tensor(points)))
        h = mg.relu(self.second.forward(h))
        return self.last.forward(h)[:, 0]


def train(network: Network, points: Array, sides: Array) -> float:
    """100 updates with all points; the last loss. sides: -1 or 1."""
    parameters = network.parameters()
    optimizer = optim.SGD(parameters, lr=1.0)
    for k in range(100):
        optimizer.lr = 1 - 0.9 * k / 100
        hinge = mg.relu(1 - network.scores(points) * sides).mean()
        weights = mg.concatenate(*(p.reshape(-1) for p in parameters))
        loss = hinge + 1e-4 * (weights * weights).sum()
        network.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


def two_moons(rng: np.random.Generator) -> tuple[Array, Array]:
    """100 points (N, 2) on two half circles that reach into each other, with noise of 0.1, and their sides."""
    angle = np.linspace(0, math.pi, 50)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    points = np.concatenate([upper, lower]) + rng.normal(0, 0.1, (100, 2))
    return points, np.repeat([-1.0, 1.0], 50)


def seen_from_above(network: Network, points: Array, sides: Array) -> Text:
    """The plane in letters: what the network says of each place, and the points."""
    wide, high = 66, 20
    left, right, bottom, top = -1.6, 2.6, -1.0, 1.5
    columns, rows = np.linspace(left, right, wide), np.linspace(top, bottom, high)
    places = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    letters = np.where(network.scores(places).numpy() > 0, ":", " ").reshape(high, wide)
    for (x, y), side in zip(points, sides, strict=True):
        column, row = (x - left) / (right - left) * (wide - 1), (top - y) / (top - bottom) * (high - 1)
        letters[int(np.clip(round(row), 0, high - 1)), int(np.clip(round(column), 0, wide - 1))] = "ox"[int(side > 0)]
    text = Text("\n".join("  " + "".join(row) for row in letters))
    text.highlight_regex("o", "bold cyan")
    text.highlight_regex("x", "bold yellow")
    return text


def lesson(lesson: Narrator) -> None:
    rng = lesson.rng()
    lesson.question("""
        In lesson 1 every number was a node of its own. A layer of a network multiplies thousands of numbers at once.
        **What does one node hand back when it is a whole matrix product, and how many digits of it can you trust?**
    """)

    lesson.step("1. A matrix product goes back in two matrix products")
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 2))
    given = rng.standard_normal((4, 2))
    lesson.say("A *tensor* is an array of numbers as one node. Number by number, `C = A B` goes back like this:")
    lesson.source(number_by_number)
    lesson.say("The inner lines are sums of products over one index each: they are themselves matrix products.")
    lesson.formula("C = A B       dL/dA = dL/dC Bᵀ       dL/dB = Aᵀ dL/dC")
    tensor_a, tensor_b = (mg.Tensor(x, requires_grad=True, name=name) for x, name in ((a, "A"), (b, "B")))
    loss = ((tensor_a @ tensor_b) * given).sum()  # so that dL/dC is what was given
    record = mg.bptt.backward(loss, keep="ops")
    lesson.picture("product", draw.graph(record), f"""
        L = sum(A B · given). The one node `@` stands for {a.size * b.shape[1]} products of numbers. Each arrow
        carries a whole matrix back; `g` is its norm.
    """)
    one_by_one = number_by_number(a, b, given)
    lesson.claim("the engine's gradients of A and B are those of lesson 1, number by number",
                 np.allclose(gradient_of(tensor_a), one_by_one[0], atol=1e-12)
                 and np.allclose(gradient_of(tensor_b), one_by_one[1], atol=1e-12))  # fmt: skip
    lesson.claim("dL/dA = dL/dC Bᵀ and dL/dB = Aᵀ dL/dC", np.allclose(gradient_of(tensor_a), given @ b.T, atol=1e-12)
                 and np.allclose(gradient_of(tensor_b), a.T @ given, atol=1e-12))  # fmt: skip
    lesson.say("You need not learn them by heart: a gradient has the shape of its value, and there is little choice.")
    sides = [(x, y) for pair in ((given, b), (b, given)) for x in (pair[0], pair[0].T) for y in (pair[1], pair[1].T)]
    fitting = [x @ y for x, y in sides if x.shape[1] == y.shape[0] and (x @ y).shape == a.shape]
    lesson.claim(f"of the {len(sides)} ways to multiply dL/dC and B, in either order and either way up, one gives a "
                 "matrix of A's shape: dL/dC Bᵀ",
                 len(fitting) == 1 and np.array_equal(fitting[0], given @ b.T))  # fmt: skip

    lesson.step("2. Broadcasting repeats a value, so its gradient is a sum")
    lesson.say("""
        A bias of shape (2,) is added to all rows of C. Nobody wrote that it is used so often, yet it is, and lesson 1
        says what happens to a value that is used often: its gradients add up, over the axes that were repeated.
    """)
    table = Table("added to C", "repeated along", "its gradient", "is dL/dC, summed over", title="C: (4, 2)")
    sums_fit = []
    for shape, along in (((2,), 0), ((1, 2), 0), ((4, 1), 1), ((), None)):
        small = mg.Tensor(rng.standard_normal(shape), requires_grad=True)
        ((tensor_a.detach() @ tensor_b.detach() + small) * given).sum().backward()
        gradient = gradient_of(small)
        sums_fit.append(gradient.shape == shape and np.allclose(gradient, given.sum(axis=along).reshape(shape)))
        where = "all axes" if along is None else f"axis {along}"
        table.add_row(str(shape), where, str(gradient.shape), where)
    lesson.show(table)
    lesson.claim("all four gradients have the value's own shape and are sums of dL/dC", all(sums_fit))

    lesson.step("3. How far is a gradient to be trusted?")
    lesson.say("""
        Lesson 1 moved an input by a little to see what the result does. By *how* little? Try it on a function of a
        matrix: the *central difference* for ever smaller e, and beside it the *complex step*, which moves the input
        along i, the square root of -1, and so subtracts nothing.
    """)
    lesson.source(curved)
    lesson.formula(
        "central difference   (f(x + e) - f(x - e)) / 2e    error ~ e² + rounding / e",
        "complex step         Im f(x + i e) / e             error ~ e²",
    )
    x = rng.uniform(-1, 1, (3, 3))
    tensor = mg.Tensor(x, requires_grad=True)
    curved(tensor).backward()
    exact = gradient_of(tensor)

    def error(found: Array) -> float:
        return float(np.abs(found - exact).max() / np.abs(exact).max())

    central = {k: error(central_difference(curved, [x], 0, 10.0**-k)) for k in range(1, 16)}
    analytic = {k: error(complex_step(curved, [x], 0, 10.0**-k)) for k in (*range(1, 16), 200)}
    table = Table("e", "central difference", "", "complex step", title="relative error; a bar is its logarithm")
    for k, off in analytic.items():
        bar = "#" * max(0, round(17 + math.log10(central[k]))) if k in central else ""
        table.add_row(f"1e-{k}", f"{central[k]:.0e}" if k in central else "", bar, f"{off:.0e}")
    lesson.show(table)
    best = min(central, key=lambda k: central[k])
    lesson.claim(f"an e ten times smaller makes the central difference {central[2] / central[3]:.0f} times better: its "
                 "error is of order e²", 80 < central[2] / central[3] < 125)  # fmt: skip
    lesson.claim(f"but only down to e = 1e-{best}, error {central[best]:.0e}; at 1e-13 rounding has made it "
                 f"{central[13]:.0e}",
                 4 <= best <= 7 and central[best] < 1e-8 and central[13] > 30 * central[best])  # fmt: skip
    lesson.claim(f"the complex step has no such limit: at e = 1e-200 it agrees with the engine to {analytic[200]:.0e}",
                 analytic[200] < 1e-14)  # fmt: skip
    start = mg.Tensor(rng.uniform(-1, 1, (1,)), requires_grad=True)
    sixty_deep(start).backward()
    tiny = float(gradient_of(start)[0])
    difference = float(central_difference(sixty_deep, [start.numpy()], 0)[0])
    without = float(complex_step(sixty_deep, [start.numpy()], 0)[0])
    lesson.claim(f"through sixty tanh the gradient is {tiny:.3e}: the complex step gives it to ten digits, the "
                 f"central difference gives {difference:g}",
                 0 < tiny < 1e-25 and math.isclose(tiny, without, rel_tol=1e-10) and difference == 0)  # fmt: skip
    lesson.say("""
        A gradient that vanishes cannot be checked by differences. That is why minigrad's own tests use the complex
        step. For a rule of your own, `gradcheck` does the comparison with differences. Here is a `tanh` whose rule
        forgot a square:
    """)
    forgetful: mg.Op[Any] = mg.Op("tanh", np.tanh, False, "one tensor of any shape")
    forgetful.rule = lambda g, y, x: (g * (1 - y),)  # should be 1 - y * y
    said = ""
    try:
        gradcheck(forgetful, [x], order=1)
    except GradError as found:
        said = str(found)
    lesson.show(Text(said, "red"))
    gradcheck(mg.tanh, [x])  # raises nothing
    lesson.claim("gradcheck catches the forgotten square and passes minigrad's own tanh", "the rule gives" in said)

    lesson.step("4. The last node of a classifier: p - onehot")
    lesson.say("""
        Scores of V classes become probabilities by *softmax*, and the loss is how surprised the network is by the
        right class, *cross entropy*. What comes back is as simple as it can be: the probabilities, less 1 at the right
        class (and divided by N, where the loss is a mean over N samples).
    """)
    lesson.formula("p = softmax(s) = exp(s) / Σ exp(s)    L = -log p[right]    (log: natural)",
                   "dL/ds = p - onehot(right)            onehot: 1 at the right class, 0 elsewhere")
    inputs, right = rng.standard_normal((4, 3)), np.array([0, 2, 1, 2])
    weight, bias = (mg.Tensor(rng.uniform(-1, 1, shape), requires_grad=True, name=name)
                    for shape, name in (((3, 3), "W"), ((3,), "b")))  # fmt: skip
    scores = (mg.Tensor(inputs) @ weight + bias).retain_grad()
    record = mg.bptt.backward(nn.cross_entropy(scores, right), keep="ops")
    p = np.asarray(mg.softmax(scores.numpy()))
    onehot = np.eye(3)[right]
    size = float(np.linalg.norm((p - onehot) / 4))
    lesson.picture("classifier", draw.graph(record), f"""
        scores = x W + b, then the cross entropy. Read it from the right: what comes back to `+` is (p - onehot) / N, of
        norm {size:.2g}. One arrow goes on to b, where all rows become one, and one through the product `@` to W.
    """)
    lesson.claim("the gradient of the scores is (p - onehot) / N, that of b its sum over the rows, that of W is "
                 "xᵀ (p - onehot) / N", np.allclose(gradient_of(scores), (p - onehot) / 4, atol=1e-15)
                 and np.allclose(gradient_of(bias), (p - onehot).sum(axis=0) / 4, atol=1e-15)
                 and np.allclose(gradient_of(weight), inputs.T @ (p - onehot) / 4, atol=1e-15))  # fmt: skip
    lesson.say("It also tells what the first loss of any classifier must be: one that knows nothing gives p = 1/V.")
    table = Table("classes V", "log V", "fresh layer", "its weights times 30", title="loss before any training")
    fresh, loud = {}, {}
    for classes in (2, 27, 65):
        h, targets = rng.uniform(-1, 1, (500, 100)), rng.integers(0, classes, 500)
        layer = nn.Linear(100, classes, rng=rng, dtype=np.float64)
        logits = layer.forward(mg.Tensor(h))
        fresh[classes] = nn.cross_entropy(logits, targets).item()
        loud[classes] = nn.cross_entropy(logits * 30.0, targets).item()
        log_v = math.log(classes)
        table.add_row(str(classes), f"{log_v:.4f}", f"{fresh[classes]:.4f}", f"{loud[classes]:.4f}")
    lesson.show(table)
    lesson.claim("a fresh layer begins within 0.2 of log V, and one with loud weights far above it",
                 all(abs(fresh[v] - math.log(v)) < 0.2 and loud[v] > 1.5 * math.log(v) for v in fresh))  # fmt: skip
    summed = nn.cross_entropy(mg.Tensor(np.zeros((25, 65))), rng.integers(0, 65, 25), reduction="sum").item()
    lesson.claim(f"25 characters out of 65, scores all 0: {summed:.2f}, where Karpathy's min-char-rnn, a "
                 "well-known small language model, begins",
                 abs(summed - 104.36) < 0.005)  # fmt: skip

    lesson.step("5. All of it at once: two moons")
    lesson.say("""
        micrograd, Karpathy's engine of single numbers, ends with a network that tells two half circles apart. The same
        here: three layers, relu(x) = max(x, 0) between them, 100 updates, and every gradient from the rules above. In
        the map o and x are the points of the two moons; where it has colons, the network says x.
    """)
    network, (points, moons) = Network(lesson.rng(1)), two_moons(lesson.rng(2))
    loss_at_end = train(network, points, moons)
    share = float(np.mean((network.scores(points).numpy() > 0) == (moons > 0)))
    lesson.show(seen_from_above(network, points, moons))
    count = sum(p.size for p in network.parameters())
    lesson.claim(f"{count} parameters, loss {loss_at_end:.3f}, {share:.0%} of the points on the right side (micrograd "
                 "says: 337, 0.011, 100% on its own points)",
                 count == 337 and loss_at_end < 0.1 and share > 0.96)  # fmt: skip
    by_difference, by_complex_step = (int(-math.log10(off)) for off in (central[best], analytic[200]))
    lesson.answer(f"""
        A product hands back **two products**: dL/dC Bᵀ to the left factor, Aᵀ dL/dC to the right one; what
        broadcasting repeated is **summed**. A central difference confirms {by_difference} digits at best, the complex
        step {by_complex_step}. Lesson 3 uses one product again and again, at every time step.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
