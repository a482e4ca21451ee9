"""RNN, LSTM and GRU against PyTorch: random configurations, values, every gradient, every step, whole trainings."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

from minigrad import Tensor, bptt, nn, optim
from minigrad.clip import clip_grad_norm

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
torch.set_num_threads(1)

LAYERS: dict[str, Any] = {
    "rnn tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru reset after": (nn.GRU, {"reset_after": True}),
    "gru reset before": (nn.GRU, {"reset_after": False}),
}
CASES = range(300)
IN_FLOAT32 = range(1000, 1080)
STEP_BY_STEP = range(2000, 2060)
each_kernel = pytest.mark.parametrize("kernel", ["steps", "fused"])


class Configuration(NamedTuple):
    """One drawn layer, its inputs, and what its outputs and last states are weighed with in the loss."""

    case: int
    kind: str
    layers: int
    directions: int
    bias: bool
    sizes: tuple[int, int, int, int]  # T, N, C, H
    lengths: Any  # (N,), in any order; None: all of T
    x: Any  # (T, N, C)
    first: tuple[Any, ...] | None  # one a field, (L*D, N, H); None: not given
    probability: float  # of dropping an element between layers
    masks: tuple[Any, ...]  # (T, N, D*H), one between two layers, if any is dropped
    weights: dict[str, Any]
    cotangents: tuple[Any, ...]  # of the outputs, then of each last state

    @property
    def walks(self) -> list[tuple[int, str]]:
        """The layer's number and the walk's name, in the order of the states."""
        return [(k, f"l{k}{end}") for k in range(self.layers) for end in ("", "_reverse")[: self.directions]]

    @property
    def ends(self) -> list[int]:
        """Of each sample."""
        return [self.sizes[0]] * self.sizes[1] if self.lengths is None else self.lengths.tolist()


class Found(NamedTuple):
    """What one side computed: values, and the gradients of the weighed sum, by name."""

    output: Any
    last: list[Any]
    gradients: dict[str, Any]


def drawn(case: int, dtype: Any = np.float64) -> Configuration:
    """The configuration of this number, always the same one."""
    rng = np.random.default_rng(case)
    kind = list(LAYERS)[case % len(LAYERS)]
    t, n, c, h = (int(rng.integers(1, high)) for high in (9, 6, 5, 6))
    layers, directions, bias = int(rng.integers(1, 4)), int(rng.integers(1, 3)), bool(rng.random() < 0.7)
    lengths = rng.integers(1, t + 1, n) if rng.random() < 0.6 else None
    states = [(layers * directions, n, h)] * (2 if kind == "lstm" else 1)
    start = rng.choice(["none", "zero", "random"])
    first = tuple((rng.standard_normal(shape) * (start == "random")).astype(dtype) for shape in states)
    probability = float(rng.choice([0.3, 0.5, 0.8])) if layers > 1 and rng.random() < 0.4 else 0.0
    kept = np.random.default_rng(case)  # as `ours` gives it to the layer
    masks = [(kept.random((t, n, directions * h)) >= probability) / (1 - probability) for _ in range(layers - 1)]
    weights = {
        f"{name}_l{k}{end}": rng.normal(0, 0.6, (blocks * h, *(() if columns is None else (columns,)))).astype(dtype)
        for blocks in [{"rnn": 1, "lstm": 4, "gru": 3}[kind.split()[0]]]
        for k in range(layers)
        for end in ("", "_reverse")[:directions]
        for name, columns in (
            ("weight_ih", directions * h if k else c), ("weight_hh", h), ("bias_ih", None), ("bias_hh", None)
        )[: 4 if bias else 2]
    }  # fmt: skip
    return Configuration(
        case, kind, layers, directions, bias, (t, n, c, h), lengths, rng.standard_normal((t, n, c)).astype(dtype),
        None if start == "none" else first, probability, tuple(m.astype(dtype) for m in masks) if probability else (),
        weights, tuple(rng.standard_normal(shape).astype(dtype) for shape in [(t, n, directions * h), *states]),
    )  # fmt: skip


def ours(c: Configuration, kernel: str) -> tuple[Found, Any]:
    """Minigrad's, with NaN past every sample's end, and the record of the backward pass."""
    layer, options = LAYERS[c.kind]
    layer = layer(
        c.sizes[2], c.sizes[3], c.layers, c.bias, dropout=c.probability, bidirectional=c.directions == 2,
        kernel=kernel, dtype=c.x.dtype, **options,
    )  # fmt: skip
    layer.load_state_dict(c.weights)
    layer.rng = np.random.default_rng(c.case)
    padding = np.arange(c.sizes[0])[:, np.newaxis] >= c.ends
    x = Tensor(np.where(padding[:, :, np.newaxis], c.x.dtype.type(np.nan), c.x), requires_grad=True)
    first = None if c.first is None else tuple(Tensor(s, requires_grad=True) for s in c.first)
    output, last = layer(x, first, lengths=c.lengths)
    last = last if c.kind == "lstm" else (last,)
    loss = sum((y * v).sum() for y, v in zip((output, *last), c.cotangents, strict=True))
    record = bptt.backward(loss)
    gradients = {"x": x.grad} | {f"first {k}": s.grad for k, s in enumerate(first or ())}
    gradients |= {name: p.grad for name, p in layer.named_parameters()}
    return Found(output.numpy(), [s.numpy() for s in last], gradients), record


def differentiated(c: Configuration, output: Any, last: Any, leaves: dict[str, Any]) -> Found:
    torch.autograd.backward([output, *last], [torch.tensor(v) for v in c.cotangents])
    gradients = {name: leaf.grad.numpy() for name, leaf in leaves.items()}
    return Found(output.detach().numpy(), [s.detach().numpy() for s in last], gradients)


def leaf(array: Any) -> Any:
    return torch.tensor(array, requires_grad=True)


def by_modules(c: Configuration) -> Found:
    """PyTorch's own layers over packed sequences: one for all, or one a layer with the given masks between."""
    x, first = leaf(c.x), None if c.first is None else [leaf(s) for s in c.first]
    leaves = {"x": x} | {f"first {k}": s for k, s in enumerate(first or ())}
    deep = 1 if c.masks else c.layers
    rows, lasts, y = deep * c.directions, [], x
    for k in range(c.layers // deep):
        module = getattr(torch.nn, c.kind.split()[0].upper())(
            y.shape[2], c.sizes[3], deep, bias=c.bias, bidirectional=c.directions == 2, dtype=x.dtype,
            **({"nonlinearity": c.kind.split()[1]} if c.kind.startswith("rnn") else {}),
        )  # fmt: skip
        names = {name: name.replace("_l0", f"_l{k}") if c.masks else name for name in module.state_dict()}
        module.load_state_dict({name: torch.tensor(c.weights[full]) for name, full in names.items()})
        leaves |= {names[name]: p for name, p in module.named_parameters()}
        if k:
            y = y * torch.tensor(c.masks[k - 1])
        given = None if first is None else tuple(s[k * rows : (k + 1) * rows] for s in first)
        if c.lengths is not None:
            y = torch.nn.utils.rnn.pack_padded_sequence(y, torch.tensor(c.lengths), enforce_sorted=False)
        y, last = module(y, given if given is None or c.kind == "lstm" else given[0])
        if c.lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=c.sizes[0])
        lasts.append(last if c.kind == "lstm" else (last,))
    return differentiated(c, y, [torch.cat(parts) for parts in zip(*lasts, strict=True)], leaves)


def reset_before(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """The GRU of Cho et al. 2014 in PyTorch's tensors: the reset gate acts on h itself."""
    x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, 1)
    (w_r, w_z, w_n), (b_r, b_z, b_n) = w_hh.chunk(3), b_hh.chunk(3)
    r, z = torch.sigmoid(x_r + h @ w_r.T + b_r), torch.sigmoid(x_z + h @ w_z.T + b_z)
    return (1 - z) * torch.tanh(x_n + (r * h) @ w_n.T + b_n) + z * h


CELLS: dict[str, Any] = {
    "rnn tanh": lambda x, state, *w: (torch.rnn_tanh_cell(x, *state, *w),),
    "rnn relu": lambda x, state, *w: (torch.rnn_relu_cell(x, *state, *w),),
    "lstm": lambda x, state, *w: torch.lstm_cell(x, state, *w),
    "gru reset after": lambda x, state, *w: (torch.gru_cell(x, *state, *w),),
    "gru reset before": lambda x, state, *w: (reset_before(x, *state, *w),),
}


@functools.lru_cache(maxsize=1)
def by_cells(case: int, dtype: Any = np.float64) -> tuple[Found, dict[str, list[Any]]]:
    """PyTorch's cells, each sample alone over its own steps; also every dL/dstate_t by walk, a field each (T, N, H)."""
    c = drawn(case, dtype)
    x, weights = leaf(c.x), {name: leaf(w) for name, w in c.weights.items()}
    first = [leaf(s) for s in c.first or [np.zeros(v.shape, c.x.dtype) for v in c.cotangents[1:]]]
    t, n, _, h = c.sizes
    none = torch.zeros(len(c.weights["bias_hh_l0"]) if c.bias else len(c.weights["weight_hh_l0"]), dtype=x.dtype)
    inputs = [x[:end, s : s + 1] for s, end in enumerate(c.ends)]  # (T_s, 1, C)
    lasts, states = [], {}
    for k, walks in itertools.groupby(enumerate(c.walks), key=lambda walk: walk[1][0]):
        if k and c.masks:
            inputs = [y * torch.tensor(c.masks[k - 1][: len(y), s : s + 1]) for s, y in enumerate(inputs)]
        outputs: list[list[Any]] = [[] for _ in range(n)]
        for row, (_, name) in walks:
            w = [weights.get(f"{part}_{name}", none) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            states[name] = [{} for _ in range(n)]
            for s, y in enumerate(inputs):
                state = tuple(f[row, s : s + 1] for f in first)
                for step in reversed(range(len(y))) if "reverse" in name else range(len(y)):
                    state = CELLS[c.kind](y[step], state, *w)
                    for field in state:
                        field.retain_grad()
                    states[name][s][step] = state
                outputs[s].append(torch.stack([states[name][s][step][0] for step in range(len(y))]))
                lasts.append(state)
        inputs = [torch.cat(some, -1) for some in outputs]
    output = torch.cat([torch.nn.functional.pad(y, (0, 0, 0, 0, 0, t - len(y))) for y in inputs], 1)
    last = [torch.cat(field).reshape(-1, n, h) for field in zip(*lasts, strict=True)]
    leaves = {"x": x} | ({} if c.first is None else {f"first {k}": s for k, s in enumerate(first)}) | weights
    found = differentiated(c, output, last, leaves)
    into = {name: [np.zeros((t, n, h)) for _ in first] for name in states}
    for name, samples in states.items():
        for s, steps in enumerate(samples):
            for step, state in steps.items():
                for field, whole in zip(state, into[name], strict=True):
                    whole[step, s] = field.grad[0].numpy()
    return found, into


@functools.lru_cache(maxsize=1)  # both kernels are compared with one answer
def theirs(case: int, dtype: Any = np.float64) -> Found:
    c = drawn(case, dtype)
    return by_cells(case, dtype)[0] if c.kind == "gru reset before" else by_modules(c)


def assert_equal(found: Found, wanted: Found, close: Any) -> None:
    close(found.output, wanted.output)
    for a, b in zip(found.last, wanted.last, strict=True):
        close(a, b)
    assert set(found.gradients) == set(wanted.gradients)
    for name, gradient in wanted.gradients.items():
        close(found.gradients[name], gradient)


def close(found: Any, wanted: Any) -> None:
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def close_in_float32(found: Any, wanted: Any) -> None:
    assert (found.dtype, wanted.dtype) == (np.float32, np.float32)
    size = np.abs(wanted).max(initial=1.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * size)


def test_every_sort_of_configuration_is_drawn() -> None:
    configurations = [drawn(case) for case in CASES]
    found = {(c.kind, c.layers, c.directions, c.lengths is None) for c in configurations}
    assert found == set(itertools.product(LAYERS, (1, 2, 3), (1, 2), (True, False)))
    found = {(c.kind, c.bias, bool(c.masks)) for c in configurations}
    assert found == set(itertools.product(LAYERS, (True, False), (True, False)))
    found = {(c.kind, None if c.first is None else c.first[0].any()) for c in configurations}
    assert found == set(itertools.product(LAYERS, (None, True, False)))
    for k in range(4):
        assert {1, 2, 3, 4} <= {c.sizes[k] for c in configurations}
    uneven = [c.lengths for c in configurations if c.lengths is not None]
    assert any((np.diff(some) > 0).any() and (np.diff(some) < 0).any() for some in uneven)
    assert any(max(c.ends) < c.sizes[0] for c in configurations)


@each_kernel
@pytest.mark.parametrize("case", CASES)
def test_values_and_every_gradient_are_pytorchs(case: int, kernel: str) -> None:
    assert_equal(ours(drawn(case), kernel)[0], theirs(case), close)


@each_kernel
@pytest.mark.parametrize("case", IN_FLOAT32)
def test_values_and_every_gradient_are_pytorchs_in_float32(case: int, kernel: str) -> None:
    assert_equal(ours(drawn(case, np.float32), kernel)[0], theirs(case, np.float32), close_in_float32)


@each_kernel
@pytest.mark.parametrize("case", STEP_BY_STEP)
def test_the_gradient_of_every_step_is_pytorchs(case: int, kernel: str) -> None:
    c = drawn(case)
    (found, record), (wanted, into) = ours(c, kernel), by_cells(case)
    assert_equal(found, wanted, close)
    assert list(record.sequences) == [name for _, name in c.walks]
    for name, fields in into.items():
        s = record.sequences[name]
        np.testing.assert_array_equal(s.lengths, c.ends)
        assert s.reverse == name.endswith("_reverse")
        assert len(s.gradients) == len(fields)
        for field, gradient in zip("hc", fields, strict=False):
            close(s.gradients[field], gradient)


class Ours(nn.Module):
    """A model of one's own: which character comes next."""

    def __init__(self, kind: str, layers: int, directions: int, kernel: str, rng: np.random.Generator) -> None:
        layer, options = LAYERS[kind]
        self.embedding = nn.Embedding(7, 4, rng=rng, dtype=np.float64)
        self.layer = layer(
            4, 5, layers, bidirectional=directions == 2, kernel=kernel, rng=rng, dtype=np.float64, **options
        )
        self.output = nn.Linear(5 * directions, 7, rng=rng, dtype=np.float64)

    def forward(self, ids: Any, state: Any, lengths: Any) -> Any:
        outputs, state = self.layer(self.embedding(ids), state, lengths=lengths)
        return self.output(outputs), state


class Theirs(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, kind: str, layers: int, directions: int) -> None:
        super().__init__()
        options = {"nonlinearity": kind.split()[1]} if kind.startswith("rnn") else {}
        layer = getattr(torch.nn, kind.split()[0].upper())
        self.embedding = torch.nn.Embedding(7, 4)
        self.layer = layer(4, 5, layers, bidirectional=directions == 2, **options)
        self.output = torch.nn.Linear(5 * directions, 7)
        self.double()

    def forward(self, ids: Any, state: Any, lengths: Any) -> Any:
        x = torch.nn.utils.rnn.pack_padded_sequence(self.embedding(ids), lengths, enforce_sorted=False)
        outputs, state = self.layer(x, state)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=len(ids))
        return self.output(outputs), state


OPTIMIZERS: dict[str, Any] = {"SGD": {"lr": 0.3, "momentum": 0.8}, "Adagrad": {"lr": 0.1}, "Adam": {"lr": 0.02}}


@pytest.mark.parametrize(
    ("layers", "directions", "optimizer", "kernel"),
    [(1, 1, "SGD", "steps"), (2, 1, "Adagrad", "fused"), (2, 2, "Adam", "fused")],
)
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "gru reset before"])
def test_a_model_trains_as_in_pytorch_for_100_updates(
    kind: str, layers: int, directions: int, optimizer: str, kernel: str
) -> None:
    # Batches of unequal length, the state carried on from each to the next, clipping by norm.
    rng = np.random.default_rng(3)
    mine, reference = Ours(kind, layers, directions, kernel, rng), Theirs(kind, layers, directions)
    reference.load_state_dict({name: torch.from_numpy(p) for name, p in mine.state_dict().items()})
    my_optimizer = getattr(optim, optimizer)(mine.parameters(), **OPTIMIZERS[optimizer])
    their_optimizer = getattr(torch.optim, optimizer)(reference.parameters(), **OPTIMIZERS[optimizer])
    text = np.cumsum(np.tile([[1], [3], [1], [2]], (150, 4)), axis=0) + rng.integers(7, size=4)  # (600, N)
    my_state = their_state = None
    fired = 0
    losses = []
    for update in range(100):
        chunk, lengths = text[5 * update :][:6] % 7, rng.integers(2, 6, 4)
        target = np.where(np.arange(5)[:, np.newaxis] < lengths, chunk[1:], -100)
        mine.zero_grad()
        logits, my_state = mine(chunk[:-1], my_state, lengths)
        my_state = type(my_state)(*(s.detach() for s in my_state)) if kind == "lstm" else my_state.detach()
        loss = nn.cross_entropy(logits, target)
        loss.backward()
        clipped = clip_grad_norm(mine.parameters(), 0.3)
        fired += clipped.norm_before > 0.3
        my_optimizer.step()

        their_optimizer.zero_grad()
        logits, their_state = reference(torch.tensor(chunk[:-1]), their_state, torch.tensor(lengths))
        their_state = tuple(s.detach() for s in their_state) if kind == "lstm" else their_state.detach()
        their_loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 7), torch.tensor(target.ravel()))
        their_loss.backward()
        gradients = [p.grad for p in reference.parameters()]
        # clip_grad_norm_ adds 1e-6 to the norm; minigrad's coefficient is C / norm as it is in the papers
        coefficient = min(1.0, 0.3 / float(torch.nn.utils.get_total_norm(gradients)))
        for gradient in gradients:
            gradient.mul_(coefficient)
        their_optimizer.step()
        assert loss.item() == pytest.approx(their_loss.item(), rel=1e-8)
        losses.append(loss.item())
    assert 0 < fired < 100
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    for name, p in reference.state_dict().items():
        np.testing.assert_allclose(mine.state_dict()[name], p.numpy(), rtol=1e-8, atol=1e-8)
