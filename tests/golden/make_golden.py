"""Make golden.npz, the values that PyTorch computes for the same weights and inputs.

    python tests/golden/make_golden.py

Needs torch==2.13.0 and numpy. Only whoever makes the file anew needs them: the tests read the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

try:
    import torch
except ImportError:  # the test run imports every file and has no torch
    torch = None

# T, N, C, H, whether there are biases, whether the first state is random (else zeros), the type
SIZES = [
    (7, 3, 4, 5, True, True, "float64"),
    (7, 3, 1, 2, False, False, "float64"),
    (7, 1, 3, 1, False, True, "float64"),
    (1, 3, 2, 1, True, False, "float64"),
    (1, 1, 3, 4, True, True, "float64"),
    (7, 3, 4, 5, True, True, "float32"),
]
KINDS = {
    "RNN tanh": ("RNN", {"nonlinearity": "tanh"}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
}
OPTIMIZERS = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "Adam": ("Adam", {"lr": 0.01}),
    "Adam betas eps": ("Adam", {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3}),
}

Found = dict[str, Any]


def leaf(array: Any) -> Any:
    return torch.tensor(array, requires_grad=True)


def recurrent(rng: np.random.Generator, kind: str, options: dict[str, Any], size: Any) -> Found:
    time, batch, features, hidden, bias, state, dtype = size
    layer = getattr(torch.nn, kind)(features, hidden, bias=bias, dtype=getattr(torch, dtype), **options)
    for p in layer.parameters():
        p.data = torch.tensor(rng.normal(0, 0.7, tuple(p.shape)).astype(dtype))
    x = leaf(rng.standard_normal((time, batch, features)).astype(dtype))
    fields = ("h", "c") if kind == "LSTM" else ("h",)
    first = [leaf((rng.standard_normal((batch, hidden)) * state).astype(dtype)) for _ in fields]
    given = tuple(s[None] for s in first)
    output, last = layer(x, given if kind == "LSTM" else given[0])
    last = [s[0] for s in (last if kind == "LSTM" else (last,))]
    cotangents = [torch.tensor(rng.standard_normal(tuple(y.shape)).astype(dtype)) for y in (output, *last)]
    torch.autograd.backward([output, *last], cotangents)
    found = {"x": x, "x.grad": x.grad, "output": output, "output.cotangent": cotangents[0]}
    for field, before, after, cotangent in zip(fields, first, last, cotangents[1:], strict=True):
        found |= {f"{field}.first": before, f"{field}.first.grad": before.grad}
        found |= {f"{field}.last": after, f"{field}.last.cotangent": cotangent}
    for name, p in layer.named_parameters():
        found |= {f"weights.{name}": p, f"grads.{name}": p.grad}
    return found


def losses(rng: np.random.Generator) -> Found:
    found: Found = {}
    logits = rng.standard_normal((4, 3, 5)) * 3
    logits[0, 0] = [1e4, -1e4, 0, 1e4, 5e3]
    target = rng.integers(0, 5, (4, 3))
    target[1, 1] = target[3, 0] = -100
    scores = np.concatenate([[1e4, -1e4, 1e4, -1e4, 0, 0, 40, -40, 800], rng.standard_normal(6)])
    answers = np.concatenate([[1, 0, 0, 1, 0, 1, 1, 0, 0], rng.uniform(size=6)])
    prediction, wanted = rng.standard_normal((2, 4, 3))
    found |= {"logits": logits, "target": target, "scores": scores, "answers": answers}
    found |= {"prediction": prediction, "wanted": wanted}
    f = torch.nn.functional
    for reduction in ("mean", "sum"):
        for name, ignored in (("cross_entropy", -100), ("cross_entropy ignoring 2", 2)):
            x = leaf(logits.reshape(-1, 5))
            classes = np.where(target < 0, 2, target) if ignored == 2 else target
            y = f.cross_entropy(x, torch.tensor(classes.ravel()), ignore_index=ignored, reduction=reduction)
            y.backward()
            found |= {f"{name} {reduction}": y, f"{name} {reduction}.grad": x.grad.reshape(logits.shape)}
        for name, values, goal, loss in (
            ("mse_loss", prediction, wanted, f.mse_loss),
            ("binary_cross_entropy_with_logits", scores, answers, f.binary_cross_entropy_with_logits),
        ):
            x = leaf(values)
            y = loss(x, torch.tensor(goal), reduction=reduction)
            y.backward()
            found |= {f"{name} {reduction}": y, f"{name} {reduction}.grad": x.grad}
    return found


def optimizers(rng: np.random.Generator) -> Found:
    start = {"a": rng.standard_normal((2, 3)), "b": rng.standard_normal(4)}
    gradients = {name: rng.standard_normal((20, *value.shape)) for name, value in start.items()}
    found: Found = {f"start.{name}": value for name, value in start.items()}
    found |= {f"gradients.{name}": value for name, value in gradients.items()}
    for case, (kind, options) in OPTIMIZERS.items():
        parameters = {name: leaf(value) for name, value in start.items()}
        optimizer = getattr(torch.optim, kind)(parameters.values(), **options)
        path: dict[str, list[Any]] = {name: [] for name in start}
        for k in range(20):
            for name, p in parameters.items():
                p.grad = torch.tensor(gradients[name][k])
            optimizer.step()
            for name, p in parameters.items():
                path[name].append(p.detach().numpy().copy())
        found |= {f"{case}.{name}": np.array(values) for name, values in path.items()}
    return found


def clipping(rng: np.random.Generator) -> Found:
    before = {"a": rng.standard_normal((3, 4)) * 5, "b": rng.standard_normal(6) * 0.1}
    found: Found = {f"before.{name}": value for name, value in before.items()}
    for case, clip, threshold in (
        ("norm 2", torch.nn.utils.clip_grad_norm_, 2.0),
        ("norm 1000", torch.nn.utils.clip_grad_norm_, 1000.0),
        ("value 0.5", torch.nn.utils.clip_grad_value_, 0.5),
    ):
        parameters = {name: leaf(np.zeros_like(value)) for name, value in before.items()}
        for name, p in parameters.items():
            p.grad = torch.tensor(before[name])
        total = clip(parameters.values(), threshold)
        found |= {f"{case}.{name}": p.grad for name, p in parameters.items()}
        if total is not None:
            found[f"{case}.total"] = total
    return found


def layers(rng: np.random.Generator) -> Found:
    found: Found = {}
    for bias in (True, False):
        case = "Linear" if bias else "Linear without bias"
        linear = torch.nn.Linear(4, 5, bias=bias, dtype=torch.float64)
        for p in linear.parameters():
            p.data = torch.tensor(rng.standard_normal(tuple(p.shape)))
        x = leaf(rng.standard_normal((2, 3, 4)))
        y = linear(x)
        cotangent = torch.tensor(rng.standard_normal((2, 3, 5)))
        y.backward(cotangent)
        found |= {f"{case}.x": x, f"{case}.x.grad": x.grad, f"{case}.y": y, f"{case}.y.cotangent": cotangent}
        for name, p in linear.named_parameters():
            found |= {f"{case}.weights.{name}": p, f"{case}.grads.{name}": p.grad}
    embedding = torch.nn.Embedding(6, 3, dtype=torch.float64)
    embedding.weight.data = torch.tensor(rng.standard_normal((6, 3)))
    index = torch.tensor([[0, 5, 2, 2], [2, 0, 1, 5]])
    y = embedding(index)
    cotangent = torch.tensor(rng.standard_normal((2, 4, 3)))
    y.backward(cotangent)
    found |= {"Embedding.x": index, "Embedding.y": y, "Embedding.y.cotangent": cotangent}
    found |= {"Embedding.weights.weight": embedding.weight, "Embedding.grads.weight": embedding.weight.grad}
    return found


def main() -> None:
    if torch is None or not torch.__version__.startswith("2.13.0"):
        raise SystemExit("The golden values are those of PyTorch 2.13.0.\n  Install torch==2.13.0 and numpy.")
    rng = np.random.default_rng(2013)
    found: Found = {}
    for name, (kind, options) in KINDS.items():
        for size in SIZES:
            t, n, c, h, bias, state, dtype = size
            case = f"{name}, T={t} N={n} C={c} H={h}, {'bias' if bias else 'no bias'}"
            case += f", {'random' if state else 'zero'} state, {dtype}"
            found |= {f"recurrent/{case}/{key}": v for key, v in recurrent(rng, kind, options, size).items()}
    for group in (losses, optimizers, clipping, layers):
        found |= {f"{group.__name__}/{key}": v for key, v in group(rng).items()}
    arrays = {key: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for key, v in found.items()}
    np.savez_compressed(Path(__file__).with_name("golden.npz"), **arrays)


if __name__ == "__main__":
    main()
