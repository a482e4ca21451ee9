"""What is measured: one function a measure, each giving a table. The goals stand here and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .contenders import hand_written, hips_autograd, jax_scan, mygrad_ops, ours, pytorch
from .problem import Array, Disagreement, Problem, Result, Size, agree, made
from .table import Row, Table
from .timing import CLOCK, Spread, interleaved, spread

__all__ = ["MEASURES", "SIZES", "Settings"]

SIZES = {"teach": Size(50, 1, 8, 16), "char": Size(100, 32, 64, 128), "long": Size(1000, 8, 16, 64)}


class Settings(NamedTuple):
    """How much is measured.

    Attributes:
        repeats: Samples of each contender.
        tiny: Sizes that only show that everything runs.
    """

    repeats: int = 15
    tiny: bool = False


class Contender(NamedTuple):
    """Somebody who computes a problem.

    Attributes:
        name: In the table.
        library: None where it is not installed.
        build: From the problem to the training step.
    """

    name: str
    library: Any
    build: Callable[[Problem], Callable[[], Result]]


MINIGRAD_STEPS = Contender("minigrad, steps", np, ours.steps)
MINIGRAD_FUSED = Contender("minigrad, fused", np, ours.fused)
MINIGRAD_NORMS = Contender("minigrad, fused, Record", np, ours.recorded)
TORCH_OPS = Contender("PyTorch, same ops", pytorch.torch, pytorch.lstm_ops)
TORCH_CELLS = Contender("PyTorch, LSTMCell loop", pytorch.torch, pytorch.cells_with_norms)
AUTOGRAD = Contender("autograd", hips_autograd.autograd, hips_autograd.lstm_ops)
MYGRAD = Contender("MyGrad", mygrad_ops.mygrad, mygrad_ops.lstm_ops)
JAX = Contender("JAX, jit of scan", jax_scan.jax, jax_scan.layer)
JAX_NORMS = Contender("JAX, jit of scan", jax_scan.jax, jax_scan.with_norms)


def _torch_layer(cell: str) -> Contender:
    return Contender(f"PyTorch, nn.{cell}", pytorch.torch, pytorch.layer)


def _rows(
    case: str, found: Mapping[str, Spread], *, against: str, goals: Mapping[str, float | None],
    notes: Mapping[str, str], scale: float = 1e3,
) -> list[Row]:  # fmt: skip
    """A case's rows: medians in units of 1/scale, ratios to one of the contenders."""
    rows = []
    for name in (*found, *notes):
        some = found.get(name)
        ratio = some.median / found[against].median if some is not None and against in found else None
        scaled = None if some is None else Spread(*(x * scale for x in some))
        rows.append(Row(case, name, scaled, ratio, goals.get(name), notes.get(name, "")))
    return rows


def _started(
    contenders: Sequence[Contender], problem: Problem, what: str
) -> tuple[dict[str, Callable[[], Result]], dict[str, str]]:
    """The steps of those who can, all checked to give the same; and why the others cannot."""
    steps, results, notes = {}, {}, {}
    for contender in contenders:
        if contender.library is None:
            notes[contender.name] = "missing"
            continue
        try:
            step = contender.build(problem)
            results[contender.name] = step()
        except RecursionError as error:
            notes[contender.name] = type(error).__name__
        else:
            steps[contender.name] = step
    agree(results, what)
    return steps, notes


def layers(
    name: str, title: str, cell: str, contenders: Sequence[Contender], goals: Sequence[float], settings: Settings
) -> Table:
    """The first contender, which has a goal at each size, and the second, to whom ratios are; then the others."""
    rows: list[Row] = []
    for (case, size), goal in zip(SIZES.items(), goals, strict=True):
        problem = made(cell, Size(3, 2, 3, 4) if settings.tiny else size)
        steps, notes = _started(contenders, problem, f"{name}, {case}")
        measured: dict[str, Callable[[], object]] = {**steps, "matrix products": hand_written.products(problem)}
        found = interleaved(measured, settings.repeats, **_least(settings))
        ours_, theirs = contenders[0].name, contenders[1].name
        rows += _rows(case, found, against=theirs, goals={ours_: goal}, notes=notes)
    return Table(name, title, "ms", rows)


def _least(settings: Settings) -> dict[str, float]:
    return {"least": 0.0} if settings.tiny else {}


def record(name: str, title: str, settings: Settings) -> Table:
    """What the Record costs beside `backward` alone."""
    contenders = (
        Contender("backward() alone", np, ours.fused),
        Contender("with the Record", np, partial(ours.recorded, norms=False)),
        Contender("and every ‖dL/dh_t‖", np, ours.recorded),
    )
    rows: list[Row] = []
    for cell in ("LSTM", "GRU", "RNN"):
        for case, size in SIZES.items():
            problem = made(cell, Size(3, 2, 3, 4) if settings.tiny else size)
            steps, notes = _started(contenders, problem, name)
            found = interleaved(steps, settings.repeats, **_least(settings))
            rows += _rows(
                f"{cell}, {case}", found, against=contenders[0].name, goals={contenders[1].name: 1.1}, notes=notes
            )
    return Table(name, title, "ms", rows)


def growth(name: str, title: str, settings: Settings) -> Table:
    """The time that one time step takes in a long sequence and in a short one."""
    short, long = (3, 30) if settings.tiny else (100, 10_000)
    rows: list[Row] = []
    for case, size in (("teach", SIZES["teach"]), ("long", SIZES["long"])):
        for kernel in ("fused", "steps"):
            problems = [made("LSTM", size._replace(steps=steps)) for steps in (short, long)]
            names = [f"T={p.size.steps:,}" for p in problems]
            steps = {n: ours.trained(p, kernel) for n, p in zip(names, problems, strict=True)}
            taken = interleaved(steps, settings.repeats, **_least(settings))
            found = {n: Spread(*(x / p.size.steps for x in taken[n])) for n, p in zip(names, problems, strict=True)}
            rows += _rows(
                f"{case}, {kernel}", found, against=names[0], goals={names[1]: 1.2}, notes={}, scale=1e6
            )
    return Table(name, title, "µs", rows)


def memory(name: str, title: str, settings: Settings) -> Table:
    """The peak of a step, each in fresh processes."""
    size = Size(3, 2, 3, 4) if settings.tiny else Size(1000, 32, 64, 256)
    files = {
        "minigrad, fused": ("ours", np), "PyTorch, nn.LSTM": ("pytorch", pytorch.torch),
        "JAX, jit of scan": ("jax_scan", jax_scan.jax),
    }  # fmt: skip
    samples: dict[str, list[float]] = {n: [] for n, (_, library) in files.items() if library is not None}
    for _ in range(min(settings.repeats, 5)):
        for contender, some in samples.items():
            arguments = [files[contender][0], *map(str, size)]
            some.append(float(_child("-m", "tests.benchmarks.memory", *arguments)))
    rows = _rows(
        f"T={size.steps}", {n: spread(some) for n, some in samples.items()}, against="PyTorch, nn.LSTM",
        goals={"minigrad, fused": 1.2}, notes={n: "missing" for n in files if n not in samples}, scale=1e-6,
    )  # fmt: skip
    return Table(name, title, "MB", rows)


def imports(name: str, title: str, settings: Settings) -> Table:
    """`import minigrad`, which imports NumPy, against `import numpy`, in fresh processes."""
    programs = {
        f"import {module}": f"from time import {CLOCK} as now; a = now(); import {module}; print(now() - a)"
        for module in ("numpy", "minigrad")
    }
    samples: dict[str, list[float]] = {program: [] for program in programs}
    for k in range(-1, settings.repeats):  # the first one compiles and fills the system's file cache
        for program, some in samples.items():
            taken = float(_child("-c", programs[program]))
            if k >= 0:
                some.append(taken)
    found = {program: spread(some) for program, some in samples.items()}
    rows = _rows("fresh", found, against="import numpy", goals={"import minigrad": 1.3}, notes={})
    return Table(name, title, "ms", rows)


def _child(*arguments: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def characters(name: str, title: str, settings: Settings) -> Table:
    """One update of `minigrad train` in the min-char-rnn setting against the loop by hand."""
    vocabulary, hidden, steps = (5, 4, 3) if settings.tiny else (65, 100, 25)
    ids = np.random.default_rng(0).integers(0, vocabulary, 100 * steps if settings.tiny else 100_000)
    build: Callable[[str], Any] = partial(ours.character_trainer, vocabulary, ids, steps, hidden)
    _same_update(build("fused"), hand_written.MinCharRNN(vocabulary, ids, steps, hidden, np.float64), steps)
    contenders: dict[str, Callable[[], object]] = {
        "minigrad, fused": build("fused").step,
        "minigrad, steps": build("steps").step,
        "by hand, float32": hand_written.MinCharRNN(vocabulary, ids, steps, hidden, np.float32).update,
        "by hand, float64": hand_written.MinCharRNN(vocabulary, ids, steps, hidden, np.float64).update,
    }
    found = interleaved(contenders, settings.repeats, **_least(settings))
    rows = _rows(f"T={steps}", found, against="by hand, float32", goals={"minigrad, fused": 1.3}, notes={})
    return Table(name, title, "ms", rows)


def _same_update(trainer: Any, hand: hand_written.MinCharRNN, steps: int) -> None:
    """Both take one update from the same weights to the same weights; minigrad has two biases where hand has one."""
    w_ih, w_hh, b_ih, _, w_hy, b_y = trainer.model.parameters()
    for own, value in zip(hand.parameters, (w_ih, w_hh, w_hy), strict=False):
        own[:] = value.numpy()
    loss, result = hand.update(), trainer.step()
    after: list[Array] = [p.numpy() for p in (w_ih, w_hh, w_hy, b_ih, b_y)]
    agree(
        {
            "by hand": Result(loss / steps, [p.reshape(a.shape) for p, a in zip(hand.parameters, after, strict=True)]),
            "minigrad": Result(result.loss, after),
        },
        "min-char-rnn",
    )


def history(name: str, title: str, settings: Settings) -> Table:
    """One update that also keeps the norms of dL/dh_t and dL/dc_t at every step, against one that does not."""
    rows: list[Row] = []
    for steps, batch, hidden in ((3, 2, 4),) if settings.tiny else ((25, 1, 100), (100, 32, 128)):
        ids = np.random.default_rng(0).integers(0, 65, 100 * steps * batch)
        for cell in ("lstm", "gru", "rnn"):
            for kernel in ("fused", "steps"):
                build = partial(ours.text_trainer, cell, ids, steps, batch, hidden, kernel)
                _same_losses(build(0), build(1), f"{name}, {cell}, {kernel}")
                found = interleaved(
                    {"an update": build(0).step, "with all norms": build(1).step}, settings.repeats, **_least(settings)
                )
                rows += _rows(f"{cell}, T={steps}, {kernel}", found, against="an update",
                              goals={"with all norms": 1.1}, notes={})  # fmt: skip
    return Table(name, title, "ms", rows)


def _same_losses(plain: Any, watched: Any, what: str) -> None:
    """Who looks changes nothing: both learn the same, and the norms of each update are there."""
    losses = [[trainer.step().loss for _ in range(3)] for trainer in (plain, watched)]
    if losses[0] != losses[1] or len(watched.history.norms) != 3:
        kept = len(watched.history.norms)
        raise Disagreement(f"{what}: losses {losses[0]} without norms and {losses[1]} with them; {kept} kept.")


def chain(name: str, title: str, settings: Settings) -> Table:
    """A graph as deep as it has ops."""
    length = 100 if settings.tiny else 100_000
    starts = {"h * x": np.float32(1 - 1 / length)}
    rows: list[Row] = []
    for kind in ours.LINKS:
        start = np.full(16, starts.get(kind, np.float32(0.5)), np.float32)
        steps: dict[str, Callable[[], Result]] = {"minigrad": ours.chain(kind, start, length)}
        if pytorch.torch is not None:
            steps["PyTorch"] = pytorch.chain(kind, start, length)
        agree({n: step() for n, step in steps.items()}, kind)
        found = interleaved(steps, settings.repeats, **_least(settings))
        notes = {} if pytorch.torch is not None else {"PyTorch": "missing"}
        rows += _rows(kind, found, against="PyTorch", goals={"minigrad": 1.0}, notes=notes)
    return Table(name, title, "ms", rows)


def _layers(name: str, title: str, cell: str, goals: Sequence[float], *contenders: Contender) -> _Measure:
    return _Measure(name, title, lambda _, __, settings: layers(name, title, cell, contenders, goals, settings))


class _Measure(NamedTuple):
    name: str
    title: str
    function: Callable[[str, str, Settings], Table]

    def run(self, settings: Settings) -> Table:
        return self.function(self.name, self.title, settings)


MEASURES = (
    _layers("lstm-steps", "LSTM, every op recorded, against the same ops in PyTorch", "LSTM", (1.0, 1.3, 1.0),
            MINIGRAD_STEPS, TORCH_OPS, AUTOGRAD, MYGRAD),
    _layers("lstm-fused", "LSTM, fused, against nn.LSTM", "LSTM", (1.4, 1.5, 2.5),
            MINIGRAD_FUSED, _torch_layer("LSTM"), JAX),
    _layers("gru-fused", "GRU, fused, against nn.GRU", "GRU", (0.2, 1.0, 0.5),
            MINIGRAD_FUSED, _torch_layer("GRU"), JAX),
    _layers("rnn-fused", "RNN, fused, against nn.RNN", "RNN", (0.3, 0.9, 0.5),
            MINIGRAD_FUSED, _torch_layer("RNN"), JAX),
    _layers("lstm-norms", "LSTM and every ‖dL/dh_t‖, against LSTMCell with retain_grad", "LSTM", (0.12, 0.75, 0.28),
            MINIGRAD_NORMS, TORCH_CELLS, JAX_NORMS),
    _Measure("record", "What the Record adds to a fused step", record),
    _Measure("growth", "LSTM: one time step of a long sequence against one of a short one", growth),
    _Measure("memory", "Peak memory of an LSTM step, T=1000, N=32, C=64, H=256", memory),
    _Measure("import", "import minigrad against import numpy", imports),
    _Measure("characters", "An update of minigrad train, min-char-rnn's setting, against it by hand", characters),
    _Measure("history", "What keeping all norms of dL/dh_t and dL/dc_t adds to an update of training", history),
    _Measure("chain", "A chain of 100,000 ops, forward and backward, against PyTorch", chain),
)  # fmt: skip
