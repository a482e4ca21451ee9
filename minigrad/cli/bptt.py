"""Show what the gradient of a character model does on its way back through time."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import RenderableType

from ..bptt.history import History
from ..character import CELLS, CharacterModel
from ..data.text import Text, read_text
from ..errors import DrawError, MinigradError
from ..nn.init import INITIALISERS
from ..terminal import Output
from ..views import draw, lens, report
from ..views.picture import ENGINES, FORMATS
from .arguments import positive, whole
from .bptt_document import document_of
from .bptt_models import (
    BATCH,
    DEFAULTS,
    MEASURES,
    WINDOW,
    Look,
    Training,
    Variant,
    check_memory,
    loaded,
    look_at,
    measured,
    norms_of,
    trained,
    variants_of,
)
from .bptt_pictures import check_drawing, check_folder, draw_all, names_of, shown_path, write_page

__all__ = ["add_arguments", "run"]

_STEPS = 40

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
    add("--show", metavar="LIST", type=_names(tuple(MEASURES)), default=(),
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


def run(args: argparse.Namespace) -> int:
    """Check everything, train, look, report, draw.

    Raises:
        MinigradError: Something is wrong with the arguments; nothing has been written.
    """
    model = loaded(args)
    text = read_text(args.text, args.encoding)
    variants = variants_of(args)
    args.steps = _steps(args.steps, text)
    check_drawing(args)
    check_memory(args, variants, len(text.characters), 1 if model is None else model.layer.num_layers)
    if model is not None:
        text = dataclasses.replace(text, characters=model.characters, ids=model.ids(text.text[: args.steps + 1]))
    check_folder("--out", args.out, [f"{name}.{args.format}" for name in names_of(args, variants, model)])
    if args.html is not None:
        check_folder("--html", os.path.dirname(args.html) or "." * bool(args.html), [os.path.basename(args.html)])
    say: Callable[[str], None] = (lambda line: None) if args.json else (lambda line: print(line, flush=True))
    for line in _plan(args, variants, text, model):
        say(line)
    looks = {}
    width = max(9, *(len(variant.title) for variant in variants))
    for variant in variants:
        look = trained(variant, args, text) if model is None else look_at(variant, model, None, args, text)
        if args.past is not None and "clipping" in args.show:
            look = look._replace(norms=norms_of(args.past))
        looks[variant.key] = look._replace(measured={s: measured(look, s, args) for s in look.record.sequences})
        if model is None:
            say(_training_line(f"{variant.title:{width}}", look.training, args.train))
    if not args.json:
        for renderable in (*_reports(looks, args), *_training(args.past)):
            Output().print(renderable)
    files, failure = draw_all(looks, args)
    if args.html:
        write_page(looks, args)
    if args.json:
        print(json.dumps(document_of(args, text, looks, files), indent=1, allow_nan=False))
    say("\nPictures:\n" + "\n".join(f"  {path}" for some in files.values() for path in some))
    if args.html:
        say(f"\nPage:\n  {shown_path(Path(args.html))}")
    if args.open and failure is None:
        for path in (path for some in files.values() for path in some):
            if not webbrowser.open(Path(path).resolve().as_uri()):
                print("minigrad: no browser was found; open the pictures yourself.", file=sys.stderr)
                break
    if failure is not None:
        raise DrawError(f"{failure} The .dot sources have been written instead.")
    return 0


# The arguments


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


# What is printed


def _plan(
    args: argparse.Namespace, variants: Sequence[Variant], text: Text, model: CharacterModel | None
) -> Iterator[str]:
    names, hidden, inits = _listed(c.upper() for c in args.cell), _listed(args.hidden), _listed(args.init)
    several = f"{len(text.characters)} different ones" if len(text.characters) > 1 else "all the same"
    if model is None:
        start = f", W_hh {inits}" if args.init != DEFAULTS["init"] else ""
        yield f"{names}, H={hidden}{start}, seed {args.seed}"
    else:
        layers = model.layer.num_layers
        yield f"{names}, H={hidden}, {layers} layer{'s' * (layers > 1)}, from {args.model!r}"
    yield f"Text      {text.name!r}: {len(text):,} characters, {several}"
    window = min(args.steps, WINDOW)
    updates = f"{args.train} update{'s' * (args.train > 1)}{' each' * (len(variants) > 1)}"
    if model is None:
        yield (
            f"Training  {updates}: Adam, {BATCH} windows of {window} characters, clipped at norm {args.clip:g}"
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


def _training_line(title: str, training: Training | None, updates: int) -> str:
    each = " a character" if len(title) < 12 else ""  # one line of 80 columns
    if training is None:
        return f"{title} not trained"
    return (
        f"{title} loss {training.first_loss:.2f} → {training.last_loss:.2f} nats{each}"
        f" (log V = {training.even_guess:.2f}), clipped {training.clipped} of {updates}"
    )


def _reports(looks: Mapping[str, Look], args: argparse.Namespace) -> Iterator[RenderableType]:
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


def _lens(name: str, look: Look, sequence: str, args: argparse.Namespace) -> RenderableType:
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
