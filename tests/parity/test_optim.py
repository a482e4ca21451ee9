"""Optimizers and schedules against PyTorch's, with randomly drawn settings, gradients and clipping."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from minigrad import clip_grad_norm, clip_grad_value, nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

UPDATES = 100
KINDS = ("SGD", "Adagrad", "RMSprop", "Adam")


def settings_of(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    momentum = float(rng.choice([0.0, rng.uniform(0.1, 0.99)]))
    eps = 10.0 ** rng.uniform(-12, -2)
    drawn: dict[str, dict[str, Any]] = {
        "SGD": {"momentum": momentum},
        "Adagrad": {"eps": eps},
        "RMSprop": {
            "alpha": rng.uniform(0.5, 0.999), "eps": eps, "momentum": momentum, "centered": bool(rng.integers(2))
        },
        "Adam": {"betas": (rng.uniform(0, 0.99), rng.uniform(0.5, 0.9999)), "eps": eps},
    }  # fmt: skip
    return {"lr": 10.0 ** rng.uniform(-4, 0), **drawn[kind]}


def schedule_of(rng: np.random.Generator) -> tuple[optim.Schedule, Any]:
    """A schedule, and what makes PyTorch's of an optimizer."""
    length, gamma = int(rng.integers(2, 40)), float(rng.uniform(0.3, 1.0))
    floor, lr_scheduler = float(rng.uniform(0, 0.5)), torch.optim.lr_scheduler
    return [
        (optim.constant(), lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        (
            optim.constant(warmup=length),
            lambda o: lr_scheduler.LinearLR(o, start_factor=1 / length, total_iters=length - 1),
        ),
        (optim.step_decay(length, gamma), lambda o: lr_scheduler.StepLR(o, length, gamma)),
        (
            optim.cosine_decay(UPDATES, floor=floor),
            lambda o: lr_scheduler.CosineAnnealingLR(o, UPDATES, eta_min=floor * o.param_groups[0]["lr"]),
        ),
        (
            optim.inverse_square_root_decay(length),  # Vaswani et al. 2017, equation 3, for a model of size `length`
            lambda o: lr_scheduler.LambdaLR(o, lambda k: length**0.5 * min((k + 1) ** -0.5, (k + 1) * length**-1.5)),
        ),
    ][rng.integers(5)]


def gradients_of(rng: np.random.Generator, shapes: list[tuple[int, ...]], scales: list[float]) -> list[Any]:
    """One a parameter, some of it exactly 0, None for some parameters; never None for all."""
    sure = rng.integers(len(shapes))
    return [
        np.array(rng.standard_normal(shape) * scale * (rng.random(shape) < 0.8))
        if k == sure or rng.random() < 0.7
        else None
        for k, (shape, scale) in enumerate(zip(shapes, scales, strict=True))
    ]


def clip(how: str, threshold: float, ours: list[nn.Parameter], theirs: list[Any]) -> None:
    if how == "value":
        clip_grad_value(ours, threshold)
        torch.nn.utils.clip_grad_value_(theirs, threshold)
    elif how == "norm":  # PyTorch divides by norm + 1e-6, minigrad by the norm
        clip_grad_norm(ours, threshold)
        total = torch.nn.utils.get_total_norm([q.grad for q in theirs if q.grad is not None])
        torch.nn.utils.clip_grads_with_norm_(theirs, threshold, total - 1e-6)


def after_a_checkpoint(optimizer: Any, kind: str, settings: dict[str, Any]) -> Any:
    """A new optimizer that goes on from the state of this one, which has been through JSON."""
    state = optimizer.state_dict()
    arrays = {slot: state.pop(slot) for slot in optimizer.state}
    new = getattr(optim, kind)(optimizer.parameters, **settings)
    new.load_state_dict({**json.loads(json.dumps(state)), **arrays})
    return new


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", range(75))
def test_a_hundred_updates_take_pytorchs_path(kind: str, case: int) -> None:
    rng = np.random.default_rng([KINDS.index(kind), case])
    settings = settings_of(kind, rng)
    shapes = [tuple(int(n) for n in rng.integers(1, 5, rng.integers(0, 4))) for _ in range(rng.integers(1, 5))]
    scales = [10.0 ** rng.uniform(-4, 3) for _ in shapes]
    ours = [nn.Parameter(np.zeros(shape)) for shape in shapes]
    theirs = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    optimizer, optimizer_theirs = getattr(optim, kind)(ours, **settings), getattr(torch.optim, kind)(theirs, **settings)
    schedule, scheduler_of = schedule_of(rng)
    scheduler = scheduler_of(optimizer_theirs)
    how, threshold = str(rng.choice(["none", "norm", "value"])), 10.0 ** rng.uniform(-2, 2)
    checkpoint = rng.integers(UPDATES)
    paths: list[tuple[list[Any], list[Any]]] = [([], []) for _ in shapes]
    for k in range(UPDATES):
        for p, q, g in zip(ours, theirs, gradients_of(rng, shapes, scales), strict=True):
            p.grad, q.grad = (None, None) if g is None else (g, torch.tensor(g))
        clip(how, threshold, ours, theirs)
        if k == checkpoint:
            optimizer = after_a_checkpoint(optimizer, kind, settings)
        optimizer.lr = settings["lr"] * schedule(optimizer.steps)
        optimizer.step()
        optimizer_theirs.step()
        scheduler.step()
        for (path, path_theirs), p, q in zip(paths, ours, theirs, strict=True):
            path.append(p.numpy())
            path_theirs.append(q.detach().numpy().copy())
    for path, path_theirs in paths:
        np.testing.assert_allclose(path, path_theirs, rtol=1e-10, atol=1e-10 * np.max(np.abs(path_theirs)))


def learning_rates(lr: float, scheduler_of: Any, updates: int) -> list[float]:
    """The rate of each of so many updates under a schedule of PyTorch's."""
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=lr)
    scheduler, found = scheduler_of(optimizer), []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        p.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("case", range(200))
def test_a_schedule_gives_pytorchs_learning_rates(case: int) -> None:
    rng = np.random.default_rng(case)
    lr = 10.0 ** rng.uniform(-4, 0)
    schedule, scheduler_of = schedule_of(rng)
    ours = [lr * schedule(k) for k in range(UPDATES)]
    # PyTorch computes a rate from the one before it: rounding gathers where the rate falls to 0.
    np.testing.assert_allclose(ours, learning_rates(lr, scheduler_of, UPDATES), rtol=1e-10, atol=1e-10 * lr)


@pytest.mark.parametrize("case", range(100))
def test_warm_up_and_cosine_are_pytorchs_one_after_the_other(case: int) -> None:
    rng = np.random.default_rng(case)
    warmup, fall, lr = int(rng.integers(1, 40)), int(rng.integers(1, 80)), 10.0 ** rng.uniform(-4, 0)
    floor, lr_scheduler = float(rng.uniform(0, 0.5)), torch.optim.lr_scheduler
    schedule = optim.cosine_decay(warmup + fall, warmup=warmup, floor=floor)
    rise = learning_rates(lr, lambda o: lr_scheduler.LinearLR(o, 1 / warmup, total_iters=max(1, warmup - 1)), warmup)
    rest = learning_rates(lr, lambda o: lr_scheduler.CosineAnnealingLR(o, fall, eta_min=floor * lr), fall + 1)
    ours = [lr * schedule(k) for k in range(warmup + fall + 1)]
    np.testing.assert_allclose(ours, rise + rest, rtol=1e-10, atol=1e-10 * lr)
