"""Train character models for a moment and show what the gradient does on its way back through time."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import __version__, bptt, checkpoint
from ..atomic import replacing
from ..bptt.attribution import attribution
from ..bptt.diagnose import diagnose
from ..bptt.gates import gates
from ..bptt.jacobian import jacobian_curves
from ..bptt.record import Reading, SequenceRecord, kind_of
from ..bptt.terms import step_terms
from ..bptt.thresholds import Norms, clipping_effects, norms_over_training
from ..bptt.truncation import truncation
from ..character import CELLS, CharacterModel
from ..clip import clip_grad_norm
from ..data.text import Text, read_text, visible
from ..errors import CheckpointError, DrawError, MinigradError
from ..optim import Adam
from ..tensor import Tensor
from ..terminal import Output
from ..views import draw, lens, report
from ..views.lens_limits import same_factor
from ..views.page import page
from ..views.picture import ENGINES, FORMATS, Picture
from .arguments import positive, whole
from .memory import demand, graph_bytes, score_bytes, weight_bytes

__all__ = ["add_arguments", "run"]

_STEPS = 40
_WINDOW, _BATCH, _RATE, EMBEDDING = 32, 16, 0.01, 16  # of the training
_MOMENTS = 50  # of the training, on a page
_MAP_FROM = 10  # longer sequences get a strip beside the chosen level: there the middle is folded
_DEFAULTS = {"cell": "all", "hidden": 32, "train": 120, "seed": 0}
"""What a model from a file brings along itself."""

_SHOW = ("terms", "jacobian", "attribution", "gates", "clipping", "truncation")

_NOTES = """\
FILE is read from its start: T characters are the input, and each has the next one as its target, so a
text of n characters has at most n - 1 steps. The weights are trained on windows from anywhere in it.

The gradient starts at the last character's loss only (--loss last), so that every step shows what
travelled back to it, and nothing else. With --loss all it starts at the mean of all steps' losses, as
in training: each step's own loss then covers what came from afar.

--show adds to the report, for each cell and layer:
  terms        what each step adds to the gradient of the shared weights
  jacobian     how much the products of the steps' Jacobians let through; work grows with H³
  attribution  how far back the loss of each step reaches: a triangle (most of it with --loss all)
  gates        which gates are saturated, and for how long units remember
  clipping     by norm, by value and in backward on the same gradient; how often it fired in training
  truncation   what truncated backpropagation loses, by the length of its chunks

--json prints one document, all its numbers finite (null where there is none; "kind" then says why):
  format "minigrad bptt", version 2, minigrad, text {name, characters, vocabulary}, settings {…},
  files     the picture of all cells, where there are several
  cells {rnn, lstm, gru: {
    training  {first_loss, last_loss, even_guess, clipped}: nats a character; null with --train 0
    loss      of the sequence shown
    sequences {l0, … one a layer: {verdict, rule: what the gradient does, and by which rule,
      steps   [{t from 1, character, label, target, loss, dL_dh {norm, kind}, dL_dc (LSTM),
               terms {parameter: {norm, kind}}: what this step adds to each parameter's gradient}],
      show    {…}: only with --show, see below}}
    parameters  {name: {shape, weight_norm, gradient {norm, kind}}}: before clipping
    clipping  {threshold, norm_before, norm_after, coefficient, fired}
    files     [path, …]}}
  kind is one of: value, zero, underflow, not finite, no path, padding, no backward yet.
  show has what was asked for; lists are by step from t=1, null where there is no such number:
    terms        {parameter: {total, norms, shares, cosines, from_last, from_first}}
    jacobian     {sample, fields, weight_norms, radii, gamma; lists by steps back from the last one:
                 times (null: the initial state), step_largest, step_smallest, and as log10 (null: 0)
                 largest, smallest, path_largest, path_smallest, rest, bound}
    attribution  {enters, rounding, norms {h, c: [[‖dL_t/dstate_k‖ by k] by t]}}
    gates        {low, high, keeps, still, half_lives (null: never), gates {symbol: {kind, mean, low,
                 high, slope, slope_by_step}}}
    clipping     {effects [{kind, threshold, norm_before, norm_after, removed, angle, limited,
                 ratio_before, ratio_after}], training {updates, not_finite, mean, quantiles, fired,
                 removed, lowest, suggested, highest, would_fire}: null with --train 0}
    truncation   {lengths, full, norms, angles, lost, lost_by_weight {parameter: […]}}

Exit status: 0; 2 bad input, or no engine could draw (then the .dot sources are written); 130 Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.epilog = _NOTES
    add = parser.add_argument
    add("--text", metavar="FILE", help="the text to read; default: the help texts of Python itself, in English")
    add("--encoding", metavar="NAME", help="how FILE spells its characters; default: utf-8")
    add("--model", metavar="FILE", help="look at a model that minigrad train saved, on its own text or on --text")
    add("--cell", choices=(*CELLS, "all"), help="default: all, side by side")
    add("--steps", metavar="T", type=whole(2), help=f"time steps, from 2; default: {_STEPS}, or what the text has")
    add("--hidden", metavar="H", type=whole(1, 4096), help="size of the state, 1 to 4096; default: 32")
    add("--train", metavar="N", type=whole(0), help="updates before, from 0; default: 120")
    add("--clip", metavar="C", type=positive, default=1.0, help="clip the gradient at this norm; default: 1")
    add("--loss", choices=("last", "all"), default="last", help="where the gradient starts, see below; default: last")
    add("--show", metavar="LIST", type=_list, default=(), help="measures to add, by commas, or all; see below")
    add("--level", choices=draw.LEVELS, default="gate", help="how much of a step the picture shows; default: gate")
    add("--all", action="store_true", help="every step in pictures and tables; otherwise the middle is folded")
    add("--format", choices=FORMATS, default="svg", help="of the pictures (pdf needs --engine dot); default: svg")
    add("--html", metavar="FILE", help="also write one page: the network over its training, with a slider")
    add("--engine", choices=ENGINES, help="what draws them; default: graphviz-pure, or MINIGRAD_DOT")
    add("--out", metavar="DIR", default="pictures", help="where they go; default: pictures")
    add("--seed", metavar="S", type=whole(0), help="of weights and windows; default: 0")
    add("--json", action="store_true", help="print one JSON document and nothing else")
    add("--open", action="store_true", help="open the pictures in the browser")


def _list(given: str) -> tuple[str, ...]:
    """What --show names, each once."""
    names = [name.strip() for name in given.split(",")]
    unknown = [name for name in names if name not in (*_SHOW, "all")]
    if unknown:
        raise argparse.ArgumentTypeError(f"found {unknown[0][:40]!r}; choose from {', '.join(_SHOW)}, or all")
    return _SHOW if "all" in names else tuple(dict.fromkeys(names))


def run(args: argparse.Namespace) -> int:
    """Check everything, train, look, report, draw.

    Raises:
        MinigradError: Something is wrong with the arguments; nothing has been written.
    """
    model = _loaded(args)
    text = read_text(args.text, args.encoding)
    cells = list(CELLS) if args.cell == "all" else [args.cell]
    args.steps = _steps(args.steps, text)
    _check_drawing(args)
    _check_memory(args, cells, len(text.characters), 1 if model is None else model.layer.num_layers)
    if model is not None:
        text = dataclasses.replace(text, characters=model.characters, ids=model.ids(text.text[: args.steps + 1]))
    names = ["cells"] * (len(cells) > 1)
    for cell in cells:
        walks = [""] if model is None or len(model.layer.walks) == 1 else [f"_{w.name}" for w in model.layer.walks]
        names += [f"{cell}_layers"] * (len(walks) > 1)
        names += [f"{cell}{walk}_{what}" for walk in walks for what in (*_levels(args), "clipping")]
    _check_folder("--out", args.out, [f"{name}.{args.format}" for name in names])
    if args.html is not None:
        _check_folder("--html", os.path.dirname(args.html) or "." * bool(args.html), [os.path.basename(args.html)])
    say: Callable[[str], None] = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    for line in _plan(args, cells, text, model):
        say(line)
    looks = {}
    for cell in cells:
        looks[cell] = _look(cell, args, text) if model is None else _look_at(model, None, args, text)
        if model is None:
            say(_training_line(cell, looks[cell].training, args.train))
    if not args.json:
        for renderable in _reports(looks, args):
            Output().print(renderable)
    files, failure = _draw(looks, args)
    if args.html:
        _write_page(looks, args)
    if args.json:
        print(json.dumps(_document(args, text, looks, files), indent=1, allow_nan=False))
    say("\nPictures:\n" + "\n".join(f"  {path}" for some in files.values() for path in some))
    if args.html:
        say(f"\nPage:\n  {_shown_path(Path(args.html))}")
    if args.open and failure is None:
        for path in (path for some in files.values() for path in some):
            if not webbrowser.open(Path(path).resolve().as_uri()):
                print("minigrad: no browser was found; open the pictures yourself.", file=sys.stderr)
                break
    if failure is not None:
        raise DrawError(f"{failure} The .dot sources have been written instead.")
    return 0


# The arguments


def _loaded(args: argparse.Namespace) -> CharacterModel | None:
    """The model in --model, which settles what it brings along; else the defaults are filled in."""
    if args.model is None:
        for name, default in _DEFAULTS.items():
            setattr(args, name, default if getattr(args, name) is None else getattr(args, name))
        args.updates = args.train
        args.encoding = args.encoding or "utf-8"
        return None
    for name in _DEFAULTS:
        if getattr(args, name) is not None:
            raise MinigradError(f"--model and --{name}: the model has its own.\n  Leave --{name} away.")
    state = checkpoint.load(args.model)
    model = CharacterModel.restored(state)
    history = state["training"].get("history")
    loss = history.get("loss") if isinstance(history, dict) else None
    args.updates = len(loss) if isinstance(loss, np.ndarray) and loss.ndim else 0
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
    args.cell, args.hidden, args.train, args.seed = model.settings["cell"], model.layer.hidden_size, 0, None
    return model


def _steps(wanted: int | None, text: Text) -> int:
    """T: what was wanted, or the default or as much as the text has."""
    most = len(text) - 1
    if most < 2:
        raise MinigradError(
            f"{text.name!r}: {len(text)} character{'s' * (most > 0)}, too short for 2 time steps and a last target.\n"
            "  Give a text of at least 3 characters."
        )
    if wanted is not None and wanted > most:
        raise MinigradError(
            f"--steps {wanted}: {text.name!r} has {len(text)} characters, and the last step's target is one of them.\n"
            f"  Give at most --steps {most}, or a longer text."
        )
    return wanted or min(_STEPS, most)


def _levels(args: argparse.Namespace) -> list[str]:
    """The levels to draw: the chosen one, and the strip as a map of what it folds."""
    return [args.level] + ["strip"] * (args.level != "strip" and args.steps > _MAP_FROM)


def _check_drawing(args: argparse.Namespace) -> None:
    if args.format == "pdf" and args.engine == ENGINES[0]:
        raise MinigradError("--format pdf: graphviz-pure writes no PDF.\n  Give --engine dot or --format svg.")
    if args.format == "pdf":
        args.engine = "dot"
    if args.format == "dot" and args.open:
        raise MinigradError("--open: --format dot writes sources, no pictures.\n  Give --format svg, png or pdf.")


def _check_memory(args: argparse.Namespace, cells: Sequence[str], v: int, layers: int) -> None:
    h, e = args.hidden, EMBEDDING
    window = min(args.steps, _WINDOW) if args.train else 0
    needed = layers * sum(graph_bytes(cell, args.steps, 1, h) for cell in cells)
    needed += score_bytes(v, _BATCH * window + (args.steps if args.loss == "all" else 1))
    needed += max(graph_bytes(cell, window, _BATCH, h) + weight_bytes(cell, v, e, h) for cell in cells)
    needed += max(_lens_bytes(cell, args) for cell in cells)
    demand(needed, f"--steps {args.steps} --hidden {h}, {v:,} different characters",
           "Give smaller --steps or --hidden, or one --cell.")  # fmt: skip


def _lens_bytes(cell: str, args: argparse.Namespace) -> int:
    """What the measures of one layer hold at once, beside the record."""
    h, t, blocks, fields = args.hidden, args.steps, {"rnn": 1, "lstm": 4, "gru": 3}[cell], 1 + (cell == "lstm")
    needed = {
        "terms": 8 * 4 * blocks * h * h,
        "jacobian": 2**27 + 8 * 16 * (fields * h) ** 2,  # a block of them, and the products
        "attribution": 8 * 6 * fields * t * t,
        "gates": 8 * 4 * t * h,
        "clipping": 8 * 10 * blocks * h * h + 8 * 12 * t * h,
        "truncation": 12 * (3 * len(str(t)) + 2) * blocks * h * (h + max(h, EMBEDDING)),
    }
    return max((needed[name] for name in args.show), default=0)


def _check_folder(option: str, out: str, names: Sequence[str]) -> None:
    """Refuse a folder that cannot be made or written, before any work; leaves nothing behind."""
    remedy = f"\n  Give {option} a {'folder' if option == '--out' else 'file in a folder'} that you may write."
    if not out:
        raise MinigradError(f"{option} '': the name is empty.{remedy}")
    folder = Path(out)
    try:
        for place in (folder, *folder.parents):
            try:
                os.lstat(place)
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
        if not place.is_dir():
            raise MinigradError(f"{option} {out!r}: {str(place)!r} is not a folder.{remedy}")
        with tempfile.TemporaryFile(dir=place):
            pass
        for name in names:
            if (folder / name).is_dir():
                raise MinigradError(f"{option} {out!r}: {name!r} in it is a folder, not a file.{remedy}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MinigradError(f"{option} {out!r}: it cannot be written ({reason}).{remedy}") from None


class _Training(NamedTuple):
    first_loss: float
    last_loss: float
    even_guess: float
    clipped: int


class _Look(NamedTuple):
    """What one cell gave. labels has one more than there are steps: the last target."""

    training: _Training | None
    record: bptt.Record
    labels: list[str]
    norms: Norms | None = None
    history: tuple[tuple[int, bptt.Record], ...] = ()


def _look(cell: str, args: argparse.Namespace, text: Text) -> _Look:
    """Train one model and record one backward pass, clipping and update on the start of the text."""
    rng = np.random.default_rng(args.seed)
    model = CharacterModel(text.characters, cell, hidden=args.hidden, embedding=EMBEDDING, rng=rng)
    optimizer = Adam(model.parameters(), lr=_RATE * min(1, 128 / args.hidden))  # at 512 the full rate saturates tanh
    window = min(args.steps, _WINDOW)
    losses, clippings = [], []
    moments = set(np.linspace(0, args.train, _MOMENTS).round().astype(int).tolist() if args.html else ())
    history = []
    with _progress(cell, args.train) as advance:
        for number in range(args.train):
            if number in moments:
                history.append((number, _glance(model, args, text)))
            starts = rng.integers(0, len(text) - window, _BATCH)
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
        training = _Training(losses[0], float(np.mean(losses[-10:])), math.log(len(text.characters)), clipped)
    look = _look_at(model, training, args, text)
    record = look.record.after(update=optimizer.step())
    return look._replace(record=record, norms=norms, history=(*history, *look.history))


def _start_loss(model: CharacterModel, args: argparse.Namespace, text: Text) -> Tensor:
    """The loss of the text's start."""
    ids = text.ids[: args.steps + 1, np.newaxis]
    return model.last_loss(ids[:-1], ids[-1]) if args.loss == "last" else model.loss(ids[:-1], ids[1:])[0]


def _glance(model: CharacterModel, args: argparse.Namespace, text: Text) -> bptt.Record:
    """One backward pass on the start of the text, that leaves the model as it was."""
    model.zero_grad()
    record = bptt.backward(_start_loss(model, args, text))
    model.zero_grad()
    return record


def _look_at(model: CharacterModel, training: _Training | None, args: argparse.Namespace, text: Text) -> _Look:
    """Record one backward pass and clipping on the start of the text."""
    history = ((args.updates, _glance(model, args, text)),) if args.html else ()
    model.zero_grad()
    model.layer.kernel = "steps"  # the pictures show gates and ops
    record = bptt.backward(_start_loss(model, args, text), keep="ops" if args.level in ("gate", "op") else "steps")
    record = record.after(clipping=clip_grad_norm(model.parameters(), args.clip))
    return _Look(training, record, [visible(c) for c in text.text[: args.steps + 1]], history=history)


@contextmanager
def _progress(cell: str, total: int) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing elsewhere; call what it yields after every update."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{cell.upper():4} training", total=total)
        yield lambda loss: bar.update(task, advance=1, description=f"{cell.upper():4} loss {loss:.2f}")


# What is shown


def _plan(
    args: argparse.Namespace, cells: Sequence[str], text: Text, model: CharacterModel | None
) -> Iterator[str]:
    names = " and ".join(", ".join(c.upper() for c in cells).rsplit(", ", 1))
    several = f"{len(text.characters)} different ones" if len(text.characters) > 1 else "all the same"
    if model is None:
        yield f"{names}, H={args.hidden}, seed {args.seed}"
    else:
        layers = model.layer.num_layers
        yield f"{names}, H={args.hidden}, {layers} layer{'s' * (layers > 1)}, from {args.model!r}"
    yield f"Text      {text.name!r}: {len(text):,} characters, {several}"
    window = min(args.steps, _WINDOW)
    updates = f"{args.train} update{'s' * (args.train > 1)}{' each' * (len(cells) > 1)}"
    if model is None:
        yield (
            f"Training  {updates}: Adam, {_BATCH} windows of {window} characters, clipped at norm {args.clip:g}"
            if args.train
            else "Training  none: the weights are random"
        )
    start = text.text[: args.steps]
    yield f"Reading   T={args.steps} characters: {start if len(start) <= 50 else start[:49] + '…'!r}"
    target = text.text[args.steps]
    yield (
        f"Gradient  from the last step's loss alone, target {target!r} (--loss all: every step's)"
        if args.loss == "last"
        else "Gradient  from the mean of every step's loss (--loss last: the last step's alone)"
    )


def _training_line(cell: str, training: _Training | None, updates: int) -> str:
    if training is None:
        return f"{cell.upper():9} not trained"
    return (
        f"{cell.upper():9} loss {training.first_loss:.2f} → {training.last_loss:.2f} nats a character"
        f" (log V = {training.even_guess:.2f}), clipped {training.clipped} of {updates}"
    )


def _reports(looks: Mapping[str, _Look], args: argparse.Namespace) -> Iterator[RenderableType]:
    if len(looks) > 1:
        yield ""
        yield report.compare({cell.upper(): look.record for cell, look in looks.items()})
    for look in looks.values():
        if len(look.record.sequences) > 1:
            yield ""
            yield report.layers(look.record)
        for sequence in look.record.sequences:
            yield ""
            yield report.gradients(look.record, sequence=sequence, labels=look.labels[:-1], everything=args.all)
            for name in args.show:
                yield ""
                yield _lens(name, look, sequence, args)


def _lens(name: str, look: _Look, sequence: str, args: argparse.Namespace) -> RenderableType:
    record = look.record
    if name == "terms":
        return lens.terms(record, sequence=sequence, labels=look.labels[:-1], everything=args.all)
    if name == "attribution":
        return lens.attribution(record, sequence=sequence, everything=args.all)
    if name == "clipping":
        return lens.clipping(record, sequence=sequence, max_norm=args.clip, norms=look.norms)
    if name == "jacobian":
        return lens.jacobian(record, sequence=sequence)
    return (lens.gates if name == "gates" else lens.truncation)(record, sequence=sequence)


def _draw(looks: Mapping[str, _Look], args: argparse.Namespace) -> tuple[dict[str, list[str]], str | None]:
    """Write the pictures; where the engine fails, their sources. Gives the paths by cell, and why it failed."""
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[str]] = {}
    failure = None
    for cell, what, picture in _pictures(looks, args):
        path = folder / f"{what}.{args.format}"
        try:
            picture.save(path, args.engine)
        except DrawError as error:
            failure = failure or str(error)
            path = picture.save(path.with_suffix(".dot"))
        files.setdefault(cell, []).append(_shown_path(path))
    return files, failure


def _write_page(looks: Mapping[str, _Look], args: argparse.Namespace) -> None:
    """The network of each cell over its training, in one file."""
    histories = {cell.upper(): look.history for cell, look in looks.items()}
    html = page(histories, labels=next(iter(looks.values())).labels[:-1])
    path = Path(args.html)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(html.encode())


def _pictures(looks: Mapping[str, _Look], args: argparse.Namespace) -> Iterator[tuple[str, str, Picture]]:
    """Whose picture, the file's name, the picture."""
    if len(looks) > 1:
        records = {cell.upper(): look.record for cell, look in looks.items()}
        labels = next(iter(looks.values())).labels[:-1]
        yield "cells", "cells", draw.compare(records, everything=args.all, labels=labels)
    for cell, look in looks.items():
        options: dict[str, Any] = {"everything": args.all, "labels": look.labels[:-1]}
        assert look.record.clipping is not None
        if len(look.record.sequences) > 1:
            picture = draw.unrolled(look.record, "cell", targets=look.labels[1:], **options)
            yield cell, f"{cell}_layers", picture
        for sequence in look.record.sequences:
            name = f"{cell}_{sequence}" if len(look.record.sequences) > 1 else cell
            for level in _levels(args):
                picture = draw.unrolled(look.record, level, sequence=sequence, targets=look.labels[1:], **options)
                yield cell, f"{name}_{level}", picture
            picture = draw.clipping(look.record, look.record.clipping, sequence=sequence, **options)
            yield cell, f"{name}_clipping", picture


def _shown_path(path: Path) -> str:
    """Relative to the current folder where it lies in it."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(path)


# The document


def _document(
    args: argparse.Namespace, text: Text, looks: Mapping[str, _Look], files: Mapping[str, list[str]]
) -> dict[str, Any]:
    settings = ("model", "steps", "hidden", "train", "clip", "loss", "level", "all", "seed")
    return {
        "format": "minigrad bptt",
        "version": 2,
        "minigrad": __version__,
        "text": {"name": text.name, "characters": len(text), "vocabulary": len(text.characters)},
        "settings": {name: getattr(args, name) for name in settings},
        "files": files.get("cells", []),
        "cells": {cell: {**_cell(look, text, args), "files": files[cell]} for cell, look in looks.items()},
    }


def _cell(look: _Look, text: Text, args: argparse.Namespace) -> dict[str, Any]:
    record = look.record
    clipping = record.clipping
    assert clipping is not None
    return {
        "training": None if look.training is None else {k: _finite(x) for k, x in look.training._asdict().items()},
        "loss": _finite(record.loss),
        "sequences": {name: _sequence(look, s, text, args) for name, s in record.sequences.items()},
        "parameters": {
            name: {"shape": p.shape, "weight_norm": _finite(p.weight_norm), "gradient": _norm(p.norm, p.gradient.dtype)}
            for name, p in record.parameters.items()
        },
        "clipping": {
            "threshold": clipping.threshold, "norm_before": _finite(clipping.norm_before),
            "norm_after": _finite(clipping.norm_after), "coefficient": _finite(clipping.coefficient),
            "fired": clipping.fired,
        },
    }  # fmt: skip


def _sequence(look: _Look, sequence: SequenceRecord, text: Text, args: argparse.Namespace) -> dict[str, Any]:
    record = look.record
    found = diagnose(record, sequence=sequence.name)
    by_step = {name: p.by_step(sequence.name) for name, p in record.parameters.items()}
    readings = {f"dL_d{state}": sequence.readings(state) for state in sequence.states}
    steps = []
    for t in range(sequence.steps):
        steps.append({
            "t": t + 1, "character": text.text[t], "label": look.labels[t], "target": look.labels[t + 1],
            "loss": None if record.losses is None else _finite(record.losses[t]),
            **{name: _reading(some[t]) for name, some in readings.items()},
            "terms": {name: _norm(norms[t], sequence.dtype) for name, norms in by_step.items() if t in norms},
        })  # fmt: skip
    document: dict[str, Any] = {"verdict": found.verdict, "rule": found.rule, "steps": steps}
    if args.show:
        document["show"] = {name: _plain(_measured(name, look, sequence.name, args)) for name in args.show}
    return document


def _measured(name: str, look: _Look, sequence: str, args: argparse.Namespace) -> Any:
    """What --show names, as mappings, lists and numbers."""
    record = look.record
    names: tuple[str, ...]
    if name == "terms":
        names = ("total", "norms", "shares", "cosines", "from_last", "from_first")
        return {x.parameter: _chosen(x, *names) for x in step_terms(record, sequence=sequence)}
    if name == "jacobian":
        curves = jacobian_curves(record, sequence=sequence)
        return {
            **_chosen(curves, "sample", "fields", "weight_norms", "radii", "gamma"),
            "times": [None if t is None else t + 1 for t in curves.times],
            **_chosen(curves, "step_largest", "step_smallest", "largest", "smallest", "path_largest",
                      "path_smallest", "rest", "bound"),
        }  # fmt: skip
    if name == "attribution":
        found = attribution(record, sequence=sequence)
        norms = {field: found.over_batch(field) for field in found.norms}
        return {**_chosen(found, "enters", "rounding"), "norms": norms}
    if name == "gates":
        measured = gates(record, sequence=sequence)
        names = ("kind", "mean", "low", "high", "slope", "slope_by_step")
        by_gate = {symbol: _chosen(x, *names) for symbol, x in measured.gates.items()}
        return {**_chosen(measured, "low", "high", "keeps", "still", "half_lives"), "gates": by_gate}
    if name == "clipping":
        effects = clipping_effects(record, **same_factor(record, args.clip, sequence=sequence), sequence=sequence)
        names = ("kind", "threshold", "norm_before", "norm_after", "removed", "angle", "limited", "ratio_before",
                 "ratio_after")  # fmt: skip
        training = None
        if look.norms is not None:
            training = _chosen(look.norms, "updates", "not_finite", "mean", "quantiles", "fired", "removed", "lowest",
                               "suggested", "highest", "would_fire")  # fmt: skip
        return {"effects": [_chosen(e, *names) for e in effects], "training": training}
    cut = truncation(record, sequence=sequence)
    return _chosen(cut, "lengths", "full", "norms", "angles", "lost", "lost_by_weight")


def _chosen(x: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(x, name) for name in names}


def _plain(x: Any) -> Any:
    """Mappings, lists and numbers as JSON has them."""
    if isinstance(x, np.ndarray):
        return _plain(x.tolist())
    if isinstance(x, Mapping):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return _finite(x) if isinstance(x, float) else x


def _norm(norm: float, dtype: Any) -> dict[str, Any]:
    return _reading(Reading(norm, kind_of(norm, dtype)))


def _reading(reading: Reading) -> dict[str, Any]:
    return {"norm": _finite(reading.norm), "kind": reading.kind}


def _finite(x: float) -> float | None:
    """A number as JSON has it."""
    if isinstance(x, int):
        return x
    return float(x) if math.isfinite(x) else None
