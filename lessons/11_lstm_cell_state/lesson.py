"""LSTM, third part: the cell state, a lane through time beside that of h, and how much gradient takes it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from rich.table import Table

from minigrad import bptt, nn
from minigrad.bptt.jacobian import jacobian_curves, linear_walk, step_jacobians
from minigrad.course import Narrator, narrate
from minigrad.data.text import Text, read_text, visible
from minigrad.views import draw, lens

Array = npt.NDArray[np.float64]
STEPS, H = 50, 32


def reads(
    text: Text, ids: npt.NDArray[np.int64], layer: nn.Recurrent, rng: np.random.Generator
) -> bptt.Record:
    """A layer reads all characters but the last; the loss asks for the last."""
    many = len(text.characters)
    readout = nn.Linear(H, many, rng=rng, dtype=np.float64)
    output, _ = layer(np.eye(many)[ids[:-1], np.newaxis])
    return bptt.backward(nn.cross_entropy(readout(output[-1]), ids[-1:]), keep="ops")


def without_path(record: bptt.Record) -> float:
    """log10 of what a gradient keeps over all steps but the first, if every f ⊙ is cut out of the Jacobians."""
    jacobians = linear_walk(record).jacobians(slice(1, None), 0, path=False)
    product, exponent = np.eye(2 * H), 0.0
    for jacobian in jacobians:
        product = jacobian @ product
        size = float(np.abs(product).max())
        product, exponent = product / size, exponent + math.log10(size)
    return exponent + math.log10(float(np.linalg.norm(product, 2)))


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        Forget gate and input gate make a lane for the cell state: C_t = f_t ⊙ C_{t-1} + i_t ⊙ g_t. But the gates
        themselves read h_{t-1}, and that was made from C_{t-1}. **How straight is the way back really, and how much of
        the gradient takes it?**
    """)
    text = read_text()
    many = len(text.characters)
    start = int(lesson.rng(1).integers(0, len(text) - STEPS - 1))
    ids = text.ids[start : start + STEPS + 1]
    letters = [visible(text.characters[k]) for k in ids[:-1]]

    lesson.step("1. Two lanes")
    lesson.formula(
        "C_t = f_t ⊙ C_{t-1} + i_t ⊙ g_t          the upper lane: kept",
        "h_t = o_t ⊙ tanh(C_t)                    the lower lane: shown (lesson 12)",
    )
    lstm = nn.LSTM(many, H, forget_bias=3.0, rng=lesson.rng(2), dtype=np.float64)
    record = reads(text, ids, lstm, lesson.rng(3))
    lesson.say(f"""
        An LSTM, not trained, reads {STEPS} characters of {text.name} and is asked for the next. Its forget gates begin
        open (their bias is 3; lesson 13 is about that number).
    """)
    lesson.picture("cell_state", draw.anatomy(record, step=STEPS // 2, highlight="C"), """
        One step, with the **cell state** and what belongs to it. Arrows carry the gradient back. From C_25 to C_24
        there is one straight line; every other way from right to left goes down through a gate and the weights.
    """)
    lesson.picture("lanes", draw.unrolled(record, "gate", labels=letters), """
        Both lanes over time, the middle folded. Compare the gradients `g` of the first C with those of the last.
    """)

    lesson.step("2. One step back on the lane: f, and nothing else")
    jacobians = step_jacobians(record)  # (T, 2H, 2H), of (h, C)
    s = record.sequence()
    f = s.gates["f"][:, 0]
    lesson.formula(
        "∂C_t/∂C_{t-1} = diag(f_t)      h_{t-1} held fixed: the direct path",
        "∂C_t/∂h_{t-1}                  through f, i, g: slopes and matrices",
    )
    of_c = np.array([np.diag(row) for row in f])
    lesson.claim("in all recorded Jacobians the block from C to C is diag(f_t), to 1e-12: no matrix, no tanh",
                 np.allclose(jacobians[:, H:, H:], of_c, rtol=0, atol=1e-12))  # fmt: skip
    lesson.say("""
        Going back, two things arrive at C_t: what comes along the lane, and what C_t does through its own h_t, which is
        the lower lane's whole gradient, dL/dh_t, through o and the slope of tanh.
    """)
    lesson.formula("dL/dC_t = f_{t+1} ⊙ dL/dC_{t+1}  +  o_t ⊙ (1 - tanh²(C_t)) ⊙ dL/dh_t")
    d_c, d_h = s.gradients["c"][:, 0], s.gradients["h"][:, 0]
    own = s.gates["o"][:, 0] * (1 - np.tanh(s.states["c"][:, 0]) ** 2) * d_h
    along = np.concatenate([f[1:] * d_c[1:], np.zeros((1, H))])
    lesson.claim("this gives the recorded dL/dC_t at every step, to 1e-12",
                 np.allclose(along + own, d_c, rtol=1e-12, atol=1e-15))  # fmt: skip
    table = Table("t", "‖dL/dC_t‖", "from C_{t+1}", "from its own h_t", "‖dL/dh_t‖")
    for t in (0, 12, 25, 37, 48, 49):
        table.add_row(str(t + 1), *(f"{np.linalg.norm(a[t]):.2g}" for a in (d_c, along, own, d_h)))
    lesson.show(table)
    share = float((np.linalg.norm(along[:-1], axis=1) / np.linalg.norm(d_c[:-1], axis=1)).min())
    lesson.claim(f"at every step but the last most of it comes along the lane: {share:.0%} or more in norm",
                 share > 0.7)  # fmt: skip

    lesson.step("3. The direct path, the rest, and what the rest would be without it")
    lesson.say("""
        Over many steps the product of the Jacobians has two parts: the **direct path**, which is the product of the
        f's, and the **rest**, every way that goes through a gate at least once. The measure, for this network:
    """)
    curves = jacobian_curves(record)
    lesson.show(lens.jacobian(curves))
    table = Table("b_f", "direct path", "rest", "all", "all, if f ⊙ is cut out",
                  title=f"log10 of what is left at most over {STEPS - 1} steps")  # fmt: skip
    found = {}
    for bias in (0.0, 1.0, 3.0, 5.0):
        layer = nn.LSTM(many, H, forget_bias=bias, rng=lesson.rng(2), dtype=np.float64)
        r = reads(text, ids, layer, lesson.rng(3))
        c = jacobian_curves(r)
        assert c.path_largest is not None
        assert c.rest is not None
        found[bias] = [float(a[STEPS - 1]) for a in (c.path_largest, c.rest, c.largest)] + [without_path(r)]
        table.add_row(f"{bias:.0f}", *(f"{x:.1f}" for x in found[bias]))
    lesson.show(table)
    product = float(np.log10(f[1:].prod(axis=0)).max())
    lesson.claim(f"the direct path's column is the product of the f's: 10^{product:.2f} with b_f = 3",
                 math.isclose(product, found[3.0][0], abs_tol=1e-9))  # fmt: skip
    lesson.claim("the rest is not small beside the path, it is larger, in all four rows: the gradient at the first "
                 "step is no clean copy of the last one", all(row[1] > row[0] for row in found.values()))  # fmt: skip
    lesson.claim(f"but it lives off the path: with f ⊙ cut out of every step all other ways together leave "
                 f"10^{found[3.0][3]:.0f} (b_f = 3) and 10^{found[0.0][3]:.0f} (b_f = 0)",
                 all(row[3] < row[2] - 4 and row[3] < -15 for row in found.values()))  # fmt: skip
    lesson.say("""
        So a gradient that gets far has ridden on the lane most of the time, and left it now and then. In 1997 the rest
        was not even followed: Hochreiter & Schmidhuber cut the gradient wherever it would leave a cell through a gate,
        and kept the path alone.
    """)

    lesson.step("4. Beside a plain network")
    rnn = nn.RNN(many, H, rng=lesson.rng(2), dtype=np.float64)
    plain = reads(text, ids, rnn, lesson.rng(3))
    lesson.picture("compare", draw.compare({"RNN": plain, "LSTM": record}, labels=letters), """
        The same text, the same question at the right end. Read each row from right to left: the plain network's h, and
        the two lanes of the LSTM.
    """)
    kept = {}
    for name, r in (("RNN", plain), ("LSTM", record)):
        for state in r.sequence().states:
            norms = r.sequence().norms(state)[:, 0]
            kept[name, state] = float(norms[0] / norms[-1])
    lesson.claim(f"the gradient's norm at step 1, in parts of that at step {STEPS}: {kept['LSTM', 'c']:.2g} on the "
                 f"lane of C, {kept['LSTM', 'h']:.2g} on that of h, and {kept['RNN', 'h']:.0e} in the plain network",
                 kept["LSTM", "c"] > 0.05 and kept["LSTM", "h"] > 1e-3 and kept["RNN", "h"] < 1e-10)  # fmt: skip
    lesson.answer(f"""
        **One step on the lane is f and nothing else**, exactly. Over {STEPS - 1} steps the direct path keeps
        10^{found[3.0][0]:.2f} of a gradient here. Other ways add to it, more than it has itself, but only because the
        lane carries them between: without it they leave 10^{found[3.0][3]:.0f}.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
