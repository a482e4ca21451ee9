"""Show what the gradient of a character model does on its way back through time."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import __version__, bptt, checkpoint
from ..atomic import replacing
from ..bptt import storage
from ..bptt.attribution import attribution
from ..bptt.diagnose import Diagnosis, diagnose
from ..bptt.fault import Fault, Zero
from ..bptt.gates import gates
from ..bptt.history import History
from ..bptt.jacobian import jacobian_curves
from ..bptt.record import Reading, SequenceRecord, kind_of
from ..bptt.terms import step_terms
from ..bptt.thresholds import Norms, clipping_effects, norms_over_training
from ..bptt.truncation import truncation
from ..character import CELLS, CharacterModel
from ..clip import clip_grad_norm
from ..data.text import Text, read_text, visible
from ..errors import CheckpointError, DrawError, MinigradError
from ..nn.init import INITIALISERS, initialise
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
_CHUNKS = 4  # into which the picture of truncation cuts the steps
_DEFAULTS = {"cell": tuple(CELLS), "hidden": (32,), "init": ("uniform",), "train": 120, "seed": 0}
"""What a model from a file brings along itself."""

_MOST_COMPARED = 12
"""How many models one call trains and shows side by side."""

_MEASURES: Mapping[str, Callable[..., storage.Measure]] = {
    "terms": step_terms, "jacobian": jacobian_curves, "attribution": attribution, "gates": gates,
    "clipping": clipping_effects, "truncation": truncation,
}  # fmt: skip
"""What --show may name."""

_NOTES = """\
FILE is read from its start: T characters are the input, and each has the next
one as its target, so a text of n characters has at most n - 1 steps. The
weights are trained on windows from anywhere in it.

The gradient starts at the last character's loss only (--loss last), so that
every step shows what travelled back to it, and nothing else. With --loss all it
starts at the mean of all steps' losses, as in training: each step's own loss
then covers what came from afar.

--cell, --hidden and --init take lists, by commas: --hidden 16,64,256 --init
uniform,orthogonal. Each cell is then trained in each size from each start, at
most 12 in all, and shown side by side. --init is that of the recurrent weights
alone; the others start as always, from the same seed.

--show adds to the report, for each cell and layer, and one picture a cell:
  terms        what each step adds to the gradient of the shared weights
  jacobian     how much the products of the steps' Jacobians let through; work
               grows with H³
  attribution  how far back the loss of each step reaches: a triangle (most of
               it with --loss all; the picture is of the last loss)
  gates        which gates are saturated, and for how long units remember
  clipping     by norm, by value and in backward on the same gradient; how often
               it fired in training
  truncation   what truncated backpropagation loses, by the length of its chunks
               (the picture is of four chunks)
The pictures, lstm_terms.svg and so on, have the measure's numbers on the
unrolled graph: beyond 10 steps as a strip, one tile a step. That of clipping,
lstm_clipping_backward.svg, is of clipping in backward; lstm_clipping.svg is
always there, of clipping by norm.

--model FILE also shows what the gradient did while that model was trained, if
its run kept norms (minigrad train --norms-every).

--json prints one document, which docs/json.md describes. All its numbers are
finite: null where there is none, and "kind" then says why.
  format "minigrad bptt", version 4, minigrad
  text {name, characters, vocabulary}, settings {…}
  files     the picture of all cells, where there are several
  cells {rnn, lstm, gru; with several sizes or starts lstm_h16, lstm_orthogonal,
      lstm_h16_orthogonal: {
    cell, hidden, init (null: a model from a file)
    training  {first_loss, last_loss, even_guess, clipped}: nats a character;
              null with --train 0, and of a model from a file
    loss      of the sequence shown
    sequences {l0, … one a layer: {
      verdict, rule: what the gradient does, and by which rule
      diagnosis {state that decides, exact (false: an estimate), earliest and
              latest step, share that arrives, ratio of the norms, decades a
              step back; steps back until less is left than a tenth, a
              thousandth, the number type can hold (underflow): null where that
              never is; first_fault {what, op, scope, t, source, own},
              first_zero {op, scope, t, source, norm, to, why}: null where there
              is none, or --level keeps no ops (strip, cell)}
      steps   [{t from 1, character, label, target, loss, dL_dh {norm, kind},
              dL_dc (LSTM), terms {parameter: {norm, kind}}: what this step adds
              to each parameter's gradient}]
      show    {…}: only with --show, see below}}
    parameters {name: {shape, weight_norm, gradient {norm, kind}}}: before
              clipping
    clipping  {threshold, norm_before, norm_after, coefficient, fired}
    files     [path, …]}}
  kind is one of: value, zero, underflow, not finite, no path, padding, no
  backward yet.
  show has by name what was asked for, each a document of its own, which
  minigrad.bptt.storage.from_json reads: terms (a list, one a parameter),
  jacobian, attribution, gates, clipping (a list: by norm, by value, in
  backward, and the norms of training), truncation.

Exit status: 0; 2 bad input, or no engine could draw (then the .dot sources are
written); 130 Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.epilog = _NOTES
    add = parser.add_argument
    add("--text", metavar="FILE", help="the text to read; default: the help texts of Python itself, in English")
    add("--encoding", metavar="NAME", help="how FILE spells its characters; default: utf-8")
    add("--model", metavar="FILE", help="look at a model that minigrad train saved, on its own text or on --text")
    add("--cell", metavar="LIST", type=_names(tuple(CELLS)), help="rnn, lstm, gru; default: all, side by side")
    add("--steps", metavar="T", type=whole(2), help=f"time steps, from 2; default: {_STEPS}, or what the text has")
    add("--hidden", metavar="LIST", type=_sizes, help="sizes of the state, 1 to 4096; default: 32")
    add("--init", metavar="LIST", type=_names(tuple(INITIALISERS)),
        help=f"starts of the recurrent weights: {', '.join(INITIALISERS)}; default: uniform")
    add("--train", metavar="N", type=whole(0), help="updates before, from 0; default: 120")
    add("--clip", metavar="C", type=positive, default=1.0, help="clip the gradient at this norm; default: 1")
    add("--loss", choices=("last", "all"), default="last", help="where the gradient starts, see below; default: last")
    add("--show", metavar="LIST", type=_names(tuple(_MEASURES)), default=(),
        help="measures to add, by commas, or all; see below")
    add("--level", choices=draw.LEVELS, default="gate", help="how much of a step the picture shows; default: gate")
    add("--all", action="store_true", help="every step in pictures and tables; otherwise the middle is folded")
    add("--format", choices=FORMATS, default="svg", help="of the pictures (pdf needs --engine dot); default: svg")
    add("--html", metavar="FILE", help="also write one page: the network over its training, with a slider")
    add("--engine", choices=ENGINES, help="what draws them; default: graphviz-pure, or MINIGRAD_DOT")
    add("--out", metavar="DIR", default="pictures", help="where they go; default: pictures")
    add("--seed", metavar="S", type=whole(0), help="of weights and windows; default: 0")
    add("--json", action="store_true", help="print one JSON document and nothing else")
    add("--open", action="store_true", help="open the pictures in the browser")


def _names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Some of these names by commas, each once, or all."""

    def parse(given: str) -> tuple[str, ...]:
        names = [name.strip() for name in given.split(",")]
        unknown = [name for name in names if name not in (*known, "all")]
        if unknown:
            raise argparse.ArgumentTypeError(f"found {unknown[0][:40]!r}; choose from {', '.join(known)}, or all")
        return known if "all" in names else tuple(dict.fromkeys(names))

    return parse


def _sizes(given: str) -> tuple[int, ...]:
    """Sizes of the state by commas, each once."""
    return tuple(dict.fromkeys(whole(1, 4096)(size) for size in given.split(",")))


class _Variant(NamedTuple):
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


def _variants(args: argparse.Namespace) -> list[_Variant]:
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
                variants.append(_Variant("_".join(keys), " ".join(titles), cell, hidden, init))
    return variants


def run(args: argparse.Namespace) -> int:
    """Check everything, train, look, report, draw.

    Raises:
        MinigradError: Something is wrong with the arguments; nothing has been written.
    """
    model = _loaded(args)
    text = read_text(args.text, args.encoding)
    variants = _variants(args)
    args.steps = _steps(args.steps, text)
    _check_drawing(args)
    _check_memory(args, variants, len(text.characters), 1 if model is None else model.layer.num_layers)
    if model is not None:
        text = dataclasses.replace(text, characters=model.characters, ids=model.ids(text.text[: args.steps + 1]))
    names = ["cells"] * (len(variants) > 1)
    for key, *_ in variants:
        walks = [""] if model is None or len(model.layer.walks) == 1 else [f"_{w.name}" for w in model.layer.walks]
        names += [f"{key}_layers"] * (len(walks) > 1)
        drawn = [*_levels(args), "clipping", *["clipping_backward"] * ("clipping" in args.show)]
        names += [f"{key}{walk}_{what}" for walk in walks for what in drawn]
        names += [f"{key}_{measure}" for measure in _shown_whole(args)]
    _check_folder("--out", args.out, [f"{name}.{args.format}" for name in names])
    if args.html is not None:
        _check_folder("--html", os.path.dirname(args.html) or "." * bool(args.html), [os.path.basename(args.html)])
    say: Callable[[str], None] = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    for line in _plan(args, variants, text, model):
        say(line)
    looks = {}
    width = max(9, *(len(variant.title) for variant in variants))
    for variant in variants:
        look = _look(variant, args, text) if model is None else _look_at(variant, model, None, args, text)
        if args.past is not None and "clipping" in args.show:
            look = look._replace(norms=_norms(args.past))
        looks[variant.key] = look._replace(measured={s: _measured(look, s, args) for s in look.record.sequences})
        if model is None:
            say(_training_line(f"{variant.title:{width}}", look.training, args.train))
    if not args.json:
        for renderable in (*_reports(looks, args), *_training(args.past)):
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
        args.updates, args.past = args.train, None
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


def _check_memory(args: argparse.Namespace, variants: Sequence[_Variant], v: int, layers: int) -> None:
    e = EMBEDDING
    window = min(args.steps, _WINDOW) if args.train else 0
    sizes = [(variant.cell, variant.hidden) for variant in variants]
    needed = layers * sum(graph_bytes(cell, args.steps, 1, h) for cell, h in sizes)
    needed += score_bytes(v, _BATCH * window + (args.steps if args.loss == "all" else 1))
    needed += max(graph_bytes(cell, window, _BATCH, h) + weight_bytes(cell, v, e, h) for cell, h in sizes)
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
    """What one model gave.

    Attributes:
        labels: Of each step, and of the last target.
        norms: Of its training, where that is known.
        history: Looks at it during its training, for a page.
        measured: By sequence and name what --show asks for.
    """

    variant: _Variant
    training: _Training | None
    record: bptt.Record
    labels: list[str]
    norms: Norms | None = None
    history: tuple[tuple[int, bptt.Record], ...] = ()
    measured: Mapping[str, Mapping[str, storage.Measure]] = {}


def _look(variant: _Variant, args: argparse.Namespace, text: Text) -> _Look:
    """Train one model and record one backward pass, clipping and update on the start of the text."""
    rng = np.random.default_rng(args.seed)
    hidden = variant.hidden
    model = CharacterModel(text.characters, variant.cell, hidden=hidden, embedding=EMBEDDING, rng=rng)
    if variant.init not in (None, "uniform"):
        _start(model, variant.init, np.random.default_rng(args.seed))
    optimizer = Adam(model.parameters(), lr=_RATE * min(1, 128 / hidden))  # at 512 the full rate saturates tanh
    window = min(args.steps, _WINDOW)
    losses, clippings = [], []
    moments = set(np.linspace(0, args.train, _MOMENTS).round().astype(int).tolist() if args.html else ())
    history = []
    with _progress(variant.title, args.train) as advance:
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
    look = _look_at(variant, model, training, args, text)
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
    """One backward pass on the start of the text, that leaves the model as it was."""
    model.zero_grad()
    record = bptt.backward(_start_loss(model, args, text))
    model.zero_grad()
    return record


def _look_at(
    variant: _Variant, model: CharacterModel, training: _Training | None, args: argparse.Namespace, text: Text
) -> _Look:
    """Record one backward pass and clipping on the start of the text."""
    history = ((args.updates, _glance(model, args, text)),) if args.html else ()
    model.zero_grad()
    model.layer.kernel = "steps"  # the pictures show gates and ops
    record = bptt.backward(_start_loss(model, args, text), keep="ops" if args.level in ("gate", "op") else "steps")
    record = record.after(clipping=clip_grad_norm(model.parameters(), args.clip))
    return _Look(variant, training, record, [visible(c) for c in text.text[: args.steps + 1]], history=history)


def _norms(past: History) -> Norms | None:
    """What clipping met while the model was trained, as its file has it."""
    try:
        return norms_over_training(past.columns["norm_before"], past.columns["norm_after"])
    except MinigradError:  # not one update, or none with a finite norm
        return None


def _measured(look: _Look, sequence: str, args: argparse.Namespace) -> dict[str, storage.Measure]:
    """What --show names."""
    found = {}
    for name in args.show:
        options = same_factor(look.record, args.clip, sequence=sequence) if name == "clipping" else {}
        found[name] = _MEASURES[name](look.record, sequence=sequence, **options)
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


# What is shown


def _plan(
    args: argparse.Namespace, variants: Sequence[_Variant], text: Text, model: CharacterModel | None
) -> Iterator[str]:
    names, hidden, inits = _listed(c.upper() for c in args.cell), _listed(args.hidden), _listed(args.init)
    several = f"{len(text.characters)} different ones" if len(text.characters) > 1 else "all the same"
    if model is None:
        start = f", W_hh {inits}" if args.init != _DEFAULTS["init"] else ""
        yield f"{names}, H={hidden}{start}, seed {args.seed}"
    else:
        layers = model.layer.num_layers
        yield f"{names}, H={hidden}, {layers} layer{'s' * (layers > 1)}, from {args.model!r}"
    yield f"Text      {text.name!r}: {len(text):,} characters, {several}"
    window = min(args.steps, _WINDOW)
    updates = f"{args.train} update{'s' * (args.train > 1)}{' each' * (len(variants) > 1)}"
    if model is None:
        yield (
            f"Training  {updates}: Adam, {_BATCH} windows of {window} characters, clipped at norm {args.clip:g}"
            if args.train
            else "Training  none: the weights are random"
        )
    reading = f"Reading   T={args.steps} characters: "
    yield reading + _quoted(text.text[: args.steps], 80 - len(reading))
    target = text.text[args.steps]
    yield (
        f"Gradient  from the last step's loss alone, target {target!r} (--loss all: all)"
        if args.loss == "last"
        else "Gradient  from the mean of every step's loss (--loss last: the last alone)"
    )


def _listed(given: Iterable[object]) -> str:
    """The names in words: RNN, LSTM and GRU."""
    return " and ".join(", ".join(map(str, given)).rsplit(", ", 1))


def _quoted(text: str, width: int) -> str:
    """As much of a text as goes into so many columns, in quotes."""
    end = min(len(text), width)
    while cell_len(shown := repr(text[:end] + "…" * (end < len(text)))) > width:
        end -= 1
    return shown


def _training_line(title: str, training: _Training | None, updates: int) -> str:
    each = " a character" if len(title) < 12 else ""  # one line of 80 columns
    if training is None:
        return f"{title} not trained"
    return (
        f"{title} loss {training.first_loss:.2f} → {training.last_loss:.2f} nats{each}"
        f" (log V = {training.even_guess:.2f}), clipped {training.clipped} of {updates}"
    )


def _reports(looks: Mapping[str, _Look], args: argparse.Namespace) -> Iterator[RenderableType]:
    if len(looks) > 1:
        yield ""
        yield report.compare({look.variant.title: look.record for look in looks.values()})
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


def _training(past: History | None) -> Iterator[RenderableType]:
    """What the gradient did while the model was trained, where its file has that."""
    if past is not None and len(past.norms):
        for sequence in past.norms.states:
            yield ""
            yield lens.history(past, sequence=sequence)


def _lens(name: str, look: _Look, sequence: str, args: argparse.Namespace) -> RenderableType:
    if name == "attribution":  # with the record it says what a layer above hands down
        return lens.attribution(look.record, sequence=sequence, everything=args.all)
    if name == "clipping":  # and how the thresholds were chosen
        return lens.clipping(look.record, sequence=sequence, max_norm=args.clip, norms=look.norms)
    found = look.measured[sequence][name]
    if name == "terms":
        return lens.terms(found, labels=look.labels[:-1], everything=args.all)
    if name == "jacobian":
        return lens.jacobian(found)
    return lens.gates(found) if name == "gates" else lens.truncation(found)


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
    histories = {look.variant.title: look.history for look in looks.values()}
    html = page(histories, labels=next(iter(looks.values())).labels[:-1])
    path = Path(args.html)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(html.encode())


def _pictures(looks: Mapping[str, _Look], args: argparse.Namespace) -> Iterator[tuple[str, str, Picture]]:
    """Whose picture, the file's name, the picture."""
    if len(looks) > 1:
        records = {look.variant.title: look.record for look in looks.values()}
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
            if "clipping" in args.show:
                _, _, in_backward, *_ = look.measured[sequence]["clipping"]
                picture = draw.unrolled(look.record, _overview(args), overlay=in_backward, sequence=sequence, **options)
                yield cell, f"{name}_clipping_backward", picture
        for measure in _shown_whole(args):
            yield cell, f"{cell}_{measure}", _overlay(measure, look, args, {**options, "targets": look.labels[1:]})


def _shown_whole(args: argparse.Namespace) -> list[str]:
    """The measures that come in one picture of all layers."""
    return [name for name in args.show if name != "clipping"]


def _overview(args: argparse.Namespace) -> str:
    """The level at which the numbers of all steps are seen."""
    return "strip" if args.steps > _MAP_FROM else "cell"


def _overlay(name: str, look: _Look, args: argparse.Namespace, options: dict[str, Any]) -> Picture:
    """One measure of all layers on the unrolled graph."""
    if name == "truncation":  # a strip has no room for what each cut loses
        return draw.truncation(look.record, every=math.ceil(args.steps / _CHUNKS), **options)
    found = [measures[name] for measures in look.measured.values()]
    if name == "terms":
        found = [term for terms in found for term in terms]
    if name == "attribution":  # where none enters, the graph without it shows that its gradient is 0
        found = [x for x in found if x.enters.any()]
    return draw.unrolled(look.record, _overview(args), overlay=found or None, **options)


def _shown_path(path: Path) -> str:
    """Relative to the current folder where it lies in it."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(path)


# The document


def _document(
    args: argparse.Namespace, text: Text, looks: Mapping[str, _Look], files: Mapping[str, list[str]]
) -> dict[str, Any]:
    settings = ("model", "steps", "cell", "hidden", "init", "train", "clip", "loss", "level", "all", "seed")
    return {
        "format": "minigrad bptt",
        "version": 4,
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
        "cell": look.variant.cell, "hidden": look.variant.hidden, "init": look.variant.init,
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
    document: dict[str, Any] = {
        "verdict": found.verdict, "rule": found.rule, "diagnosis": _diagnosis(found), "steps": steps,
    }  # fmt: skip
    if args.show:
        document["show"] = {name: storage.to_json(x) for name, x in look.measured[sequence.name].items()}
    return document


def _diagnosis(found: Diagnosis) -> dict[str, Any]:
    lane = found.lane

    def place(x: Fault | Zero | None) -> dict[str, Any] | None:
        if x is None:
            return None
        named = x._asdict()
        time = named.pop("time")
        return {**_plain(named), "t": None if time is None else time + 1}

    return {
        "state": found.state, "exact": found.exact, "earliest": found.earliest + 1, "latest": found.latest + 1,
        "share": None if lane is None else _finite(lane.share), "ratio": _finite(found.ratio),
        "decades": _finite(found.decades), "tenth": lane and lane.tenth, "thousandth": lane and lane.thousandth,
        "underflow": lane and lane.underflow, "first_fault": place(found.fault), "first_zero": place(found.zero),
    }  # fmt: skip


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
