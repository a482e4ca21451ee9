"""Against the values of PyTorch 2.13.0 in golden/golden.npz (made by golden/make_golden.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import Tensor, clip_grad_norm, clip_grad_value, nn, optim

with np.load(Path(__file__).parent / "golden" / "golden.npz") as file:
    GOLDEN = dict(file)

RECURRENT = list(dict.fromkeys(key.split("/")[1] for key in GOLDEN if key.startswith("recurrent/")))
KINDS: dict[str, Any] = {
    "RNN tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "RNN relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "GRU": (nn.GRU, {}),
}
LOSSES = {
    "cross_entropy": lambda x, reduction: nn.cross_entropy(x, golden("losses/target"), reduction=reduction),
    "cross_entropy ignoring 2": lambda x, reduction: nn.cross_entropy(
        x, np.where(golden("losses/target") < 0, 2, golden("losses/target")), ignore_index=2, reduction=reduction
    ),
    "mse_loss": lambda x, reduction: nn.mse_loss(x, golden("losses/wanted"), reduction=reduction),
    "binary_cross_entropy_with_logits": lambda x, reduction: nn.binary_cross_entropy_with_logits(
        x, golden("losses/answers"), reduction=reduction
    ),
}
INPUTS = {"mse_loss": "prediction", "binary_cross_entropy_with_logits": "scores"}
OPTIMIZERS: dict[str, Any] = {
    "SGD": (optim.SGD, {"lr": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "Adam": (optim.Adam, {"lr": 0.01}),
    "Adam betas eps": (optim.Adam, {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3}),
}


def golden(key: str) -> Any:
    return GOLDEN[key]


def below(prefix: str) -> dict[str, Any]:
    """The arrays whose keys start with this prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_the_file_holds_six_sizes_of_every_layer() -> None:
    assert {kind: sum(case.startswith(f"{kind},") for case in RECURRENT) for kind in KINDS} == dict.fromkeys(KINDS, 6)


@pytest.mark.parametrize("case", RECURRENT)
def test_a_layer_computes_and_differentiates_what_pytorch_does(case: str) -> None:
    g = below(f"recurrent/{case}/")
    dtype = g["x"].dtype
    tolerance = 1e-10 if dtype == np.float64 else 2e-5
    kind, options = KINDS[case.split(",")[0]]
    layer = kind(g["x"].shape[2], g["output"].shape[2], bias="no bias" not in case, dtype=dtype, **options)
    layer.load_state_dict({key.removeprefix("weights."): v for key, v in g.items() if key.startswith("weights.")})
    fields = ("h", "c") if kind is nn.LSTM else ("h",)
    x = Tensor(g["x"], requires_grad=True)
    first = [Tensor(g[f"{field}.first"][np.newaxis], requires_grad=True) for field in fields]  # (1, N, H)

    output, last = layer(x, tuple(first) if kind is nn.LSTM else first[0])
    last = last if kind is nn.LSTM else (last,)
    loss = (output * g["output.cotangent"]).sum()
    for field, s in zip(fields, last, strict=True):
        loss = loss + (s * g[f"{field}.last.cotangent"]).sum()
    loss.backward()

    assert output.dtype == dtype
    assert_close(output.numpy(), g["output"], tolerance)
    assert_close(x.grad, g["x.grad"], tolerance)
    for field, before, after in zip(fields, first, last, strict=True):
        assert_close(after.numpy(), g[f"{field}.last"][np.newaxis], tolerance)
        assert_close(before.grad, g[f"{field}.first.grad"][np.newaxis], tolerance)
    for name, p in layer.named_parameters():
        assert_close(p.grad, g[f"grads.{name}"], tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient_are_pytorchs(name: str, reduction: str) -> None:
    x = Tensor(golden(f"losses/{INPUTS.get(name, 'logits')}"), requires_grad=True)
    loss = LOSSES[name](x, reduction)
    loss.backward()
    assert_close(loss.numpy(), golden(f"losses/{name} {reduction}"))
    assert_close(x.grad, golden(f"losses/{name} {reduction}.grad"))


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_twenty_updates_take_pytorchs_path(case: str) -> None:
    kind, options = OPTIMIZERS[case]
    parameters = {name: nn.Parameter(value) for name, value in below("optimizers/start.").items()}
    optimizer = kind(parameters.values(), **options)
    for k in range(20):
        for name, p in parameters.items():
            p.grad = golden(f"optimizers/gradients.{name}")[k]
        optimizer.step()
        for name, p in parameters.items():
            assert_close(p.numpy(), golden(f"optimizers/{case}.{name}")[k], 1e-12)


def unclipped() -> dict[str, Any]:
    parameters = {}
    for name, gradient in below("clipping/before.").items():
        parameters[name] = nn.Parameter(np.zeros_like(gradient), name=name)
        parameters[name].grad = gradient
    return parameters


def test_clipping_by_norm_is_pytorchs_but_for_its_millionth() -> None:
    # PyTorch multiplies by C / (norm + 1e-6), minigrad by C / norm.
    parameters = unclipped()
    done = clip_grad_norm(parameters.values(), 2.0)
    total = golden("clipping/norm 2.total")
    assert_close(done.norm_before, total, 1e-12)
    for name, p in parameters.items():
        assert_close(p.grad, golden(f"clipping/norm 2.{name}"), 1.1e-6 / total)
        assert_close(p.grad, golden(f"clipping/norm 2.{name}") * (1 + 1e-6 / total), 1e-12)


def test_clipping_by_a_large_norm_changes_nothing_as_in_pytorch() -> None:
    parameters = unclipped()
    clip_grad_norm(parameters.values(), 1000.0)
    for name, p in parameters.items():
        np.testing.assert_array_equal(p.grad, golden(f"clipping/norm 1000.{name}"))


def test_clipping_by_value_is_pytorchs() -> None:
    parameters = unclipped()
    clip_grad_value(parameters.values(), 0.5)
    for name, p in parameters.items():
        np.testing.assert_array_equal(p.grad, golden(f"clipping/value 0.5.{name}"))


@pytest.mark.parametrize("case", ["Linear", "Linear without bias", "Embedding"])
def test_a_layer_without_time_is_pytorchs(case: str) -> None:
    g = below(f"layers/{case}.")
    made: dict[str, Any] = {
        "Linear": lambda: nn.Linear(4, 5, dtype=np.float64),
        "Linear without bias": lambda: nn.Linear(4, 5, bias=False, dtype=np.float64),
        "Embedding": lambda: nn.Embedding(6, 3, dtype=np.float64),
    }
    layer = made[case]()
    layer.load_state_dict({key.removeprefix("weights."): v for key, v in g.items() if key.startswith("weights.")})
    x = g["x"] if case == "Embedding" else Tensor(g["x"], requires_grad=True)
    y = layer(x)
    y.backward(g["y.cotangent"])
    assert_close(y.numpy(), g["y"])
    for name, p in layer.named_parameters():
        assert_close(p.grad, g[f"grads.{name}"])
    if case != "Embedding":
        assert_close(x.grad, g["x.grad"])
