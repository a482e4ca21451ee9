"""The models that `minigrad bptt` compares: trained or from a file, each with the record of one backward pass."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import bptt, checkpoint
from ..bptt import storage
from ..bptt.attribution import attribution
from ..bptt.gates import gates
from ..bptt.history import History
from ..bptt.jacobian import jacobian_curves
from ..bptt.terms import step_terms
from ..bptt.thresholds import Norms, clipping_effects, norms_over_training
from ..bptt.truncation import truncation
from ..character import CELLS, CharacterModel
from ..clip import clip_grad_norm
from ..data.text import Text, visible
from ..errors import CheckpointError, MinigradError
from ..nn.init import initialise
from ..optim import Adam
from ..tensor import Tensor
from ..views.lens_limits import same_factor
from .memory import demand, graph_bytes, score_bytes, weight_bytes

__all__ = ["BATCH", "DEFAULTS", "MEASURES", "WINDOW", "Look", "Training", "Variant", "check_memory", "loaded",
           "look_at", "measured", "norms_of", "trained", "variants_of"]  # fmt: skip

WINDOW, BATCH, _RATE, _EMBEDDING = 32, 16, 0.01, 16  # of the training
_MOMENTS = 50  # of the training, on a page

DEFAULTS = {"cell": tuple(CELLS), "hidden": (32,), "init": ("uniform",), "train": 120, "seed": 0}
"""What a model from a file brings along itself."""

_MOST_COMPARED = 12
"""How many models one call trains and shows side by side."""

MEASURES: Mapping[str, Callable[..., storage.Measure]] = {
    "terms": step_terms, "jacobian": jacobian_curves, "attribution": attribution, "gates": gates,
    "clipping": clipping_effects, "truncation": truncation,
}  # fmt: skip
"""What --show may name."""

_PAGE_OPS = 100
"""The longest sequence whose every op the page has: fifty updates of three cells take some hundred megabytes."""


class Variant(NamedTuple):
    """One of the models that are compared.

    Attributes:
        key: In the document and in names of files: "lstm", "lstm_h64_orthogonal".
        title: In reports and pictures: "LSTM", "LSTM H=64 orthogonal".
        cell, hidden: Of the model.
        init: Of its recurrent weights; None: a model from a file.
    """

    key: str
    title: str
    cell: str
    hidden: int
    init: str | None


class Training(NamedTuple):
    """What training one model came to: losses in nats a character, the guess of all alike, updates clipped."""

    first_loss: float
    last_loss: float
    even_guess: float
    clipped: int


class Look(NamedTuple):
    """What one model gave.

    Attributes:
        labels: Of each step, and of the last target.
        norms: Of its training, where that is known.
        history: Looks at it during its training, for a page.
        measured: By sequence and name what --show asks for.
    """

    variant: Variant
    training: Training | None
    record: bptt.Record
    labels: list[str]
    norms: Norms | None = None
    history: tuple[tuple[int, bptt.Record], ...] = ()
    measured: Mapping[str, Mapping[str, storage.Measure]] = {}


# Which


def variants_of(args: argparse.Namespace) -> list[Variant]:
    """Every cell in every size from every start; named by what differs.

    Raises:
        MinigradError: There are too many.
    """
    count = len(args.cell) * len(args.hidden) * len(args.init)
    if count > _MOST_COMPARED:
        raise MinigradError(
            f"--cell, --hidden, --init: {len(args.cell)} × {len(args.hidden)} × {len(args.init)} models are {count},"
            f" more than {_MOST_COMPARED}.\n  Give shorter lists."
        )
    variants = []
    for cell in args.cell:
        for hidden in args.hidden:
            for init in args.init:
                keys, titles = [cell], [cell.upper()]
                if len(args.hidden) > 1:
                    keys.append(f"h{hidden}")
                    titles.append(f"H={hidden}")
                if len(args.init) > 1:
                    keys.append(init)
                    titles.append(init)
                variants.append(Variant("_".join(keys), " ".join(titles), cell, hidden, init))
    return variants


def loaded(args: argparse.Namespace) -> CharacterModel | None:
    """The model in --model, which settles what it brings along; else the defaults are filled in."""
    if args.model is None:
        for name, default in DEFAULTS.items():
            setattr(args, name, default if getattr(args, name) is None else getattr(args, name))
        args.updates, args.past = args.train, None
        args.encoding = args.encoding or "utf-8"
        return None
    for name in DEFAULTS:
        if getattr(args, name) is not None:
            raise MinigradError(f"--model and --{name}: the model has its own.\n  Leave --{name} away.")
    state = checkpoint.load(args.model)
    model = CharacterModel.restored(state)
    history = state["training"].get("history")
    loss = history.get("loss") if isinstance(history, dict) else None
    args.updates = len(loss) if isinstance(loss, np.ndarray) and loss.ndim else 0
    try:
        args.past = History.restored(state)
    except CheckpointError:  # the model can be looked at all the same
        args.past = None
    model.eval()  # no dropout: the pictures show the model as it is
    if args.text is None:
        text = state.get("text")
        path, encoding = (text.get("path"), text.get("encoding")) if isinstance(text, dict) else (None, None)
        if not isinstance(path, str | None) or not isinstance(encoding, str):
            raise CheckpointError(f"--model {args.model}: it names no text.\n  Give --text FILE.")
        args.text, args.encoding = path, args.encoding or encoding
        if args.text is not None and not os.path.exists(args.text):
            raise CheckpointError(
                f"--model {args.model}: its text is gone from {args.text!r}.\n  Give --text FILE: that one, or another."
            )
    args.encoding = args.encoding or "utf-8"
    args.cell, args.hidden, args.init = (model.settings["cell"],), (model.layer.hidden_size,), (None,)
    args.train, args.seed = 0, None
    return model


def check_memory(args: argparse.Namespace, variants: Sequence[Variant], v: int, layers: int) -> None:
    e = _EMBEDDING
    window = min(args.steps, WINDOW) if args.train else 0
    sizes = [(variant.cell, variant.hidden) for variant in variants]
    needed = layers * sum(graph_bytes(cell, args.steps, 1, h) for cell, h in sizes)
    needed += score_bytes(v, BATCH * window + (args.steps if args.loss == "all" else 1))
    needed += max(graph_bytes(cell, window, BATCH, h) + weight_bytes(cell, v, e, h) for cell, h in sizes)
    needed += max(_lens_bytes(cell, h, args) for cell, h in sizes)
    if "attribution" in args.show:  # of the measures it alone grows with T², and is kept
        needed += layers * sum(8 * (1 + (cell == "lstm")) * args.steps**2 for cell, _ in sizes)
    hidden = ",".join(map(str, args.hidden))
    demand(needed, f"--steps {args.steps} --hidden {hidden}, {v:,} different characters",
           "Give smaller --steps or --hidden, or one --cell.")  # fmt: skip


def _lens_bytes(cell: str, h: int, args: argparse.Namespace) -> int:
    """What the measures of one layer hold at once, beside the record."""
    t, blocks, fields = args.steps, {"rnn": 1, "lstm": 4, "gru": 3}[cell], 1 + (cell == "lstm")
    needed = {
        "terms": 8 * 4 * blocks * h * h,
        "jacobian": 2**27 + 8 * 16 * (fields * h) ** 2,  # a block of them, and the products
        "attribution": 8 * 6 * fields * t * t,
        "gates": 8 * 4 * t * h,
        "clipping": 8 * 10 * blocks * h * h + 8 * 12 * t * h,
        "truncation": 12 * (3 * len(str(t)) + 2) * blocks * h * (h + max(h, _EMBEDDING)),
    }
    return max((needed[name] for name in args.show), default=0)


# Training, and what is seen of each


def trained(variant: Variant, args: argparse.Namespace, text: Text) -> Look:
    """Train one model and record one backward pass, clipping and update on the start of the text."""
    rng = np.random.default_rng(args.seed)
    hidden = variant.hidden
    model = CharacterModel(text.characters, variant.cell, hidden=hidden, embedding=_EMBEDDING, rng=rng)
    if variant.init not in (None, "uniform"):
        _start(model, variant.init, np.random.default_rng(args.seed))
    optimizer = Adam(model.parameters(), lr=_RATE * min(1, 128 / hidden))  # at 512 the full rate saturates tanh
    window = min(args.steps, WINDOW)
    losses, clippings = [], []
    moments = set(np.linspace(0, args.train, _MOMENTS).round().astype(int).tolist() if args.html else ())
    history = []
    with _progress(variant.title, args.train) as advance:
        for number in range(args.train):
            if number in moments:
                history.append((number, _glance(model, args, text)))
            starts = rng.integers(0, len(text) - window, BATCH)
            ids = text.ids[starts + np.arange(window + 1)[:, np.newaxis]]
            loss, _ = model.loss(ids[:-1], ids[1:])
            model.zero_grad()
            loss.backward()
            clippings.append(clip_grad_norm(model.parameters(), args.clip))
            optimizer.step()
            losses.append(float(loss.numpy()))
            advance(losses[-1])
    training, norms = None, None
    if losses:
        clipped, norms = sum(c.fired for c in clippings), norms_over_training(clippings)
        training = Training(losses[0], float(np.mean(losses[-10:])), math.log(len(text.characters)), clipped)
    look = look_at(variant, model, training, args, text)
    record = look.record.after(update=optimizer.step())
    return look._replace(record=record, norms=norms, history=(*history, *look.history))


def _start(model: CharacterModel, init: str, rng: np.random.Generator) -> None:
    """Let the recurrent weights start otherwise, and nothing else."""
    for walk in model.layer.walks:
        cell = walk.cell
        h, weight = cell.hidden_size, cell.weight_hh
        weight.data = initialise(init, rng, blocks=len(cell.gates), rows=h, columns=h).astype(weight.dtype)


def _start_loss(model: CharacterModel, args: argparse.Namespace, text: Text) -> Tensor:
    """The loss of the text's start."""
    ids = text.ids[: args.steps + 1, np.newaxis]
    return model.last_loss(ids[:-1], ids[-1]) if args.loss == "last" else model.loss(ids[:-1], ids[1:])[0]


def _glance(model: CharacterModel, args: argparse.Namespace, text: Text) -> bptt.Record:
    """One backward pass on the start of the text that leaves the model as it was, with the ops that the page shows."""
    model.zero_grad()
    kernel, model.layer.kernel = model.layer.kernel, "steps"
    record = bptt.backward(_start_loss(model, args, text), keep="ops" if args.steps <= _PAGE_OPS else "steps")
    model.layer.kernel = kernel
    model.zero_grad()
    return record


def look_at(
    variant: Variant, model: CharacterModel, training: Training | None, args: argparse.Namespace, text: Text
) -> Look:
    """Record one backward pass and clipping on the start of the text."""
    history = ((args.updates, _glance(model, args, text)),) if args.html else ()
    model.zero_grad()
    model.layer.kernel = "steps"  # the pictures show gates and ops
    record = bptt.backward(_start_loss(model, args, text), keep="ops" if args.level in ("gate", "op") else "steps")
    record = record.after(clipping=clip_grad_norm(model.parameters(), args.clip))
    return Look(variant, training, record, [visible(c) for c in text.text[: args.steps + 1]], history=history)


def norms_of(past: History) -> Norms | None:
    """What clipping met while the model was trained, as its file has it."""
    try:
        return norms_over_training(past.columns["norm_before"], past.columns["norm_after"])
    except MinigradError:  # not one update, or none with a finite norm
        return None


def measured(look: Look, sequence: str, args: argparse.Namespace) -> dict[str, storage.Measure]:
    """What --show names."""
    found = {}
    for name in args.show:
        options = same_factor(look.record, args.clip, sequence=sequence) if name == "clipping" else {}
        found[name] = MEASURES[name](look.record, sequence=sequence, **options)
    if "clipping" in found and look.norms is not None:
        found["clipping"] = (*found["clipping"], look.norms)
    return found


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing elsewhere; call what it yields after every update."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{title:4} training", total=total)
        yield lambda loss: bar.update(task, advance=1, description=f"{title:4} loss {loss:.2f}")
