"""Train a character model on a text, and watch its loss and its gradient through time."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text as RichText

from .. import checkpoint, optim
from ..atomic import remove_leftovers
from ..bptt.diagnose import diagnose
from ..character import CELLS, CharacterModel
from ..data.chunks import Chunks
from ..data.text import Text, read_text
from ..data.yardsticks import Yardsticks, yardsticks
from ..errors import CheckpointError, MinigradError, NonFiniteError
from ..terminal import Output, escaped, word
from ..train import Step, Trainer, evaluate
from ..views.lens_marks import Shown
from ..views.training import Standing, header, in_words, line, panel, strips, through_training
from .arguments import number, positive, whole
from .memory import demand, graph_bytes, score_bytes, weight_bytes

__all__ = ["add_arguments", "run"]

_OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], float]] = {
    "sgd": (partial(optim.SGD, momentum=0.9), 0.1), "adagrad": (optim.Adagrad, 0.1),
    "rmsprop": (optim.RMSprop, 2e-3), "adam": (optim.Adam, 2e-3),
}  # fmt: skip
"""By name: what makes it, and its usual learning rate."""

_SCHEDULES = {
    "constant": lambda updates, warmup: optim.constant(warmup),
    "cosine": lambda updates, warmup: optim.cosine_decay(updates, warmup=warmup, floor=0.1),
}

_USUAL: dict[str, Any] = {
    "cell": "lstm", "layers": 1, "hidden": 128, "embedding": 32, "dropout": 0.0, "scale": None, "steps": 50,
    "batch": 16, "clip": 5.0, "clip_value": None, "optimizer": "adam", "lr": None, "schedule": "constant",
    "warmup": 0, "held_out": 0.1, "reduction": "mean", "kernel": "fused", "seed": 0,
}  # fmt: skip
_CHOICES: dict[str, Collection[str]] = {
    "cell": CELLS, "optimizer": _OPTIMIZERS, "schedule": _SCHEDULES, "reduction": ("mean", "sum"),
    "kernel": ("fused", "steps"),
}  # fmt: skip
_NUMBERS: dict[str, Callable[[str], float]] = {
    "layers": whole(1, 16), "hidden": whole(1, 4096), "embedding": whole(0, 4096), "dropout": number(0, 1),
    "scale": positive, "steps": whole(1), "batch": whole(1), "updates": whole(1), "schedule_updates": whole(1),
    "clip": positive, "clip_value": positive, "lr": positive, "warmup": whole(0), "held_out": number(0, 0.9),
    "seed": whole(0), "every": whole(1), "norms_every": whole(0),
}  # fmt: skip
"""What a setting may be, on the command line and in a file."""

_RECIPES: dict[str, dict[str, Any]] = {
    "min-char-rnn": {
        "cell": "rnn", "hidden": 100, "embedding": 0, "scale": 0.01, "steps": 25, "batch": 1, "clip": None,
        "clip_value": 5.0, "optimizer": "adagrad", "lr": 0.1, "reduction": "sum",
    }
}  # fmt: skip
"""Karpathy's min-char-rnn (gist.github.com/karpathy/d4dee566867f8291f086)."""

_NOTES = """\
The text is cut into --batch streams that are read side by side, --steps
characters at a time. The state is carried from chunk to chunk and the gradient
is cut between them (truncated BPTT). The end of the text is held out: there the
model is measured, beside models that only count: uniform, unigram, n-grams.

--recipe min-char-rnn sets one-hot characters, RNN, H=100, T=25, N=1, Adagrad
.1, values clipped at 5, the sum of the losses, weights from N(0, .01²); what
you give beside it counts.

The run is saved at every report and at the end, whole or not at all. Ctrl-C
finishes the update and saves; --resume FILE goes on as if there had been no
break (--text says where its text is now, if that moved). A loss or gradient
that is not finite ends the run before the update, and what was saved stays.

On a terminal the report is redrawn in place; through a pipe it is a line each
time: the mean loss of late training, the loss on held-out text and which
yardsticks it beats, the gradient's norm before→after clipping, and in which
share of the updates since the last report, and ever, clipping changed it.

The panel also says, of the last chunk:
  ‖dL/dh_t‖  the gradient at each step, its height the logarithm
  so far     the same of the first layer through training, redrawn as it goes:
             a line is some updates from its number on, a tile their largest
  arrives    how much of the last step's loss arrives at each step, by report
  gates      the share of each gate's values that is saturated; after how many
             steps half of what the median unit keeps is gone
  terms      which part of the recurrent weight's gradient the last steps give
  diagnosis  how much of the last step's loss arrives at the first, a layer each

Every --norms-every updates the norms of dL/dh_t (and dL/dc_t) at every step and
of each parameter's gradient are kept, and saved with the run: 1,000 times over
the whole run if you do not say, 0 for never. An LSTM of T=100 takes some 900
bytes each time and layer, and such an update a few percent longer. minigrad
bptt --model FILE shows them.

Then: minigrad sample FILE, and minigrad bptt --model FILE.

Exit status: 0; 2 bad input, or a number that is not finite; 130 Ctrl-C;
141 nobody reads any more; 143 terminated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    parser.epilog = _NOTES
    add = parser.add_argument
    add("--text", metavar="FILE", help="the text; default: the help texts of Python itself, in English")
    add("--encoding", metavar="NAME", help="how the text spells its characters; default: utf-8")
    add("--recipe", choices=_RECIPES, help="settings that belong together, see below")
    add("--cell", choices=CELLS, help="default: lstm")
    add("--layers", metavar="L", type=_NUMBERS["layers"], help="default: 1")
    add("--hidden", metavar="H", type=_NUMBERS["hidden"], help="size of the state; default: 128")
    add("--embedding", metavar="E", type=_NUMBERS["embedding"], help="features of a character; 0: one-hot; default: 32")
    add("--dropout", metavar="P", type=_NUMBERS["dropout"], help="between layers; default: 0")
    add("--steps", metavar="T", type=_NUMBERS["steps"], help="characters of a chunk; default: 50")
    add("--batch", metavar="N", type=_NUMBERS["batch"], help="streams side by side; default: 16")
    add("--updates", metavar="U", type=_NUMBERS["updates"], help="in all, also of a resumed run; default: 1000")
    add("--clip", metavar="C", type=_NUMBERS["clip"], help="clip the gradient at this norm; default: 5")
    add("--clip-value", metavar="C", type=_NUMBERS["clip_value"], help="clip every element at this value instead")
    add("--optimizer", choices=_OPTIMIZERS, help="default: adam")
    add("--lr", metavar="RATE", type=_NUMBERS["lr"], help="learning rate; default: the optimizer's usual one")
    add("--schedule", choices=_SCHEDULES, help="of the learning rate; default: constant")
    add("--warmup", metavar="U", type=_NUMBERS["warmup"], help="updates in which the rate rises; default: 0")
    add("--kernel", choices=("steps", "fused"), help="one op a time step's op, or one a layer; default: fused")
    add("--held-out", metavar="SHARE", type=_NUMBERS["held_out"], help="of the text, from its end; default: 0.1")
    add("--seed", metavar="S", type=_NUMBERS["seed"], help="of weights, dropout and samples; default: 0")
    add("--save", metavar="FILE", help="where the run is kept; default: model.minigrad, or what is resumed")
    add("--resume", metavar="FILE", help="go on with a saved run; its settings are in it")
    add("--every", metavar="U", type=_NUMBERS["every"],
        help="report and save every U updates; default: 20 times, 1000 at most")  # fmt: skip
    add("--norms-every", metavar="K", type=_NUMBERS["norms_every"],
        help="keep the gradient's norms every K updates, see below; default: 1000 times; 0: never")  # fmt: skip
    add("--sample", metavar="N", type=whole(0), default=160, help="characters of the samples; default: 160")


def run(args: argparse.Namespace) -> int:
    """Check everything, train, report, save.

    Raises:
        MinigradError: Something is wrong with the arguments, or a number is not finite.
    """
    settings, saved = (_settled if args.resume is None else _resumed)(args)
    text = _text(settings, args)
    model, trainer = _built(settings, text, saved)
    if trainer.updates >= settings["updates"]:
        raise MinigradError(
            f"--resume {args.resume}: it has had {trainer.updates} updates, and is to have {settings['updates']}.\n"
            f"  Give --updates {2 * trainer.updates} to go on."
        )
    _check_place(args)
    session = _Session(args, settings, text, model, trainer)
    session.save()  # tells at once whether the file can be written
    return session.train()


def _check_place(args: argparse.Namespace) -> None:
    """Refuse to replace a file that is not the run's own."""
    try:
        taken = os.path.lexists(args.save)
        if taken and args.resume is not None:
            taken = not os.path.samefile(args.save, args.resume)
        if not taken:
            remove_leftovers(Path(args.save))
    except (OSError, ValueError) as error:
        raise _unwritable(args.save, error) from None
    if taken:
        raise MinigradError(
            f"--save {args.save}: there is such a file already.\n"
            "  Go on with it: --resume FILE. Or give another name, or remove it."
        )


def _unwritable(path: str, error: OSError | ValueError, still: str = "") -> MinigradError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return MinigradError(
        f"--save {path}: it cannot be written ({reason}).{still}\n"
        "  Give a file in a folder that you may write, on a disk with room."
    )


# Settings


def _settled(args: argparse.Namespace) -> tuple[dict[str, Any], None]:
    """The settings of a new run."""
    recipe = _RECIPES.get(args.recipe, {})
    given = {name: value for name in _USUAL if (value := getattr(args, name, None)) is not None}
    if "clip" in given and "clip_value" in given:
        raise MinigradError("--clip and --clip-value are both given.\n  Give one of them.")
    if "clip_value" in given:
        given["clip"] = None
    elif "clip" in given:
        given["clip_value"] = None
    settings = {**_USUAL, **recipe, **given}
    if settings["lr"] is None:
        settings["lr"] = _OPTIMIZERS[settings["optimizer"]][1]
    if settings["dropout"] and settings["layers"] == 1:
        raise MinigradError(f"--dropout {settings['dropout']:g} acts between layers.\n  Give --layers 2 or more.")
    settings["updates"] = args.updates or 1000
    if settings["schedule"] == "cosine" and settings["warmup"] >= settings["updates"]:
        raise MinigradError(
            f"--warmup {settings['warmup']}: there are {settings['updates']} updates.\n  Give fewer than those."
        )
    settings["schedule_updates"] = settings["updates"]
    settings["every"] = args.every or max(1, min(1000, settings["updates"] // 20))
    settings["norms_every"] = args.norms_every
    if args.norms_every is None:  # whoever watches or not: the same run gives the same file
        settings["norms_every"] = max(1, settings["updates"] // 1000)
    args.save = "model.minigrad" if args.save is None else args.save
    args.encoding = args.encoding or "utf-8"
    return settings, None


def _resumed(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the run in --resume, and its state."""
    for name in (*_USUAL, "recipe"):
        if getattr(args, name, None) is not None:
            option = f"--{name.replace('_', '-')}"
            raise MinigradError(f"--resume and {option}: the run has its own.\n  Leave {option} away.")
    saved = checkpoint.load(args.resume)
    settings, source = saved.get("settings"), saved.get("text")
    names = {*_USUAL, "updates", "schedule_updates", "every", "norms_every"}
    if isinstance(settings, dict):
        settings.setdefault("norms_every", 0)  # a run of before there were norms goes on without them
    if not isinstance(settings, dict) or settings.keys() != names or not isinstance(source, dict):
        raise CheckpointError(
            f"--resume {args.resume}: no settings of a run.\n  Give a file that minigrad train saved."
        )
    wrong = next((name for name in settings if not _possible(name, settings[name])), None)
    if wrong is not None:
        raise CheckpointError(
            f"--resume {args.resume}: its setting {wrong} is {settings[wrong]!r:.40}.\n"
            "  Give a file that minigrad train saved."
        )
    settings["updates"] = args.updates or settings["updates"]
    settings["every"] = args.every or settings["every"]
    if args.norms_every is not None:
        settings["norms_every"] = args.norms_every
    args.save = args.resume if args.save is None else args.save
    path, encoding = source.get("path"), source.get("encoding")
    if not isinstance(path, str | None) or not isinstance(encoding, str):
        raise CheckpointError(f"--resume {args.resume}: it names no text.\n  Give a file that minigrad train saved.")
    args.encoding = args.encoding or encoding
    if args.text is None and path is not None:
        if not os.path.exists(path):
            raise CheckpointError(
                f"--resume {args.resume}: its text is gone from {path!r}.\n  Give --text FILE: where it is now."
            )
        args.text = path
    return settings, saved


def _possible(name: str, setting: Any) -> bool:
    """Whether a setting from a file is one that the command line could have made."""
    if name in _CHOICES:
        return isinstance(setting, str) and setting in _CHOICES[name]
    if setting is None:
        return _USUAL.get(name, 0) is None or name == "clip"
    try:
        return type(setting) in (int, float) and _NUMBERS[name](repr(setting)) == setting
    except argparse.ArgumentTypeError:
        return False


def _text(settings: Mapping[str, Any], args: argparse.Namespace) -> Text:
    text = read_text(args.text, args.encoding)
    if settings["held_out"] and len(text) * settings["held_out"] < 2:
        raise MinigradError(
            f"--held-out {settings['held_out']:g}: of {len(text)} characters that leaves fewer than 2 to measure on.\n"
            "  Give a longer text, a larger share, or --held-out 0."
        )
    return text


def _digest(text: Text) -> str:
    return hashlib.sha256(text.text.encode("utf-8", "surrogatepass")).hexdigest()


def _built(
    settings: Mapping[str, Any], text: Text, saved: Mapping[str, Any] | None
) -> tuple[CharacterModel, Trainer]:
    """The model and its trainer, new or as they were saved."""
    s, v = settings, len(text.characters)
    try:
        if saved is not None and (saved["text"].get("sha256") != _digest(text)):
            raise CheckpointError(
                f"{text.name!r}: this is not the text that the run started with, or it has changed.\n"
                "  Give --text FILE: the text as it was then."
            )
        demand(
            s["layers"] * graph_bytes(s["cell"], s["steps"], s["batch"], s["hidden"], s["kernel"])
            + score_bytes(v, s["steps"] * s["batch"])
            + weight_bytes(s["cell"], v, s["embedding"] or v, s["hidden"], s["layers"]),
            " ".join(f"--{name} {s[name]}" for name in ("steps", "batch", "layers", "hidden")) + f", {v:,} characters",
            "Give smaller ones.",
        )
        rng = np.random.default_rng(s["seed"])
        names = ("cell", "hidden", "layers", "embedding", "dropout", "kernel", "scale")
        model = CharacterModel(text.characters, **{name: s[name] for name in names}, rng=rng)
        make, _ = _OPTIMIZERS[s["optimizer"]]
        trainer = Trainer(
            model, make(model.parameters(), lr=s["lr"]), Chunks(_parts(text, s)[0], s["steps"], s["batch"]),
            clip_norm=s["clip"], clip_value=s["clip_value"], reduction=s["reduction"],
            schedule=_SCHEDULES[s["schedule"]](s["schedule_updates"], s["warmup"]), norms_every=s["norms_every"],
        )  # fmt: skip
        if saved is not None:
            trainer.load_state_dict(saved["training"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if saved is None or isinstance(error, MinigradError):
            raise
        raise CheckpointError(
            f"the saved run does not fit together ({error}).\n  Give a file that minigrad train saved."
        ) from None
    return model, trainer


def _parts(text: Text, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The ids to train on, and those held out."""
    cut = len(text) - int(len(text) * settings["held_out"])
    return text.ids[:cut], text.ids[cut:]


# The run


class _Session:
    """One run of the command: a trainer, and what is shown and saved along the way."""

    def __init__(
        self, args: argparse.Namespace, settings: Mapping[str, Any], text: Text, model: CharacterModel, trainer: Trainer
    ) -> None:
        self.args, self.settings, self.text, self.model, self.trainer = args, settings, text, model, trainer
        training, self.held_out = _parts(text, settings)
        self.yardsticks: Yardsticks | None = None
        if len(self.held_out):
            self.yardsticks = yardsticks(training, self.held_out, len(text.characters))
        self.source = {
            "path": None if args.text is None else os.path.abspath(args.text),
            "encoding": args.encoding, "sha256": _digest(text),
        }  # fmt: skip
        self.span = max(1, min(256, 60_000 // len(text.characters)))  # 64 streams' scores: 16 MB an array
        self.saved_at = -1
        self.signal: int | None = None
        self.console = Output()
        self.live = self.console.is_terminal and sys.stdout.isatty() and not self.console.is_dumb_terminal
        self.show: Callable[[Standing], None] = self.print_line
        self.tick: Callable[[], None] = lambda: None
        self.standing: Standing | None = None

    def save(self) -> None:
        """Write the whole run to --save.

        Raises:
            MinigradError: It cannot be written; what is there stays.
        """
        state = {
            "settings": dict(self.settings),
            "text": self.source,
            "model": self.model.saved(),
            "training": self.trainer.state_dict(),
        }  # fmt: skip
        try:
            checkpoint.save(self.args.save, state)
        except (OSError, ValueError) as error:
            still = f" It still has update {self.saved_at}." if self.saved_at >= 0 else ""
            raise _unwritable(self.args.save, error, still) from None
        self.saved_at = self.trainer.updates

    def train(self) -> int:
        """Train to the end, to Ctrl-C, or to a number that is not finite; give the exit status."""
        updates, args, trainer = self.settings["updates"], self.args, self.trainer
        for text in self.heading():
            print(textwrap.fill(text, 80, subsequent_indent=" " * 10, break_on_hyphens=False), flush=True)
        try:
            with _caught(self.caught):
                with self.display():
                    trainer.run(updates, [self.after], record_every=self.settings["every"])
                if trainer.updates != self.saved_at:
                    self.save()
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} {args.save} still has update {self.saved_at}.") from None
        file, status = word(args.save), 0 if self.signal is None else 128 + self.signal
        if trainer.updates < updates:
            print(
                f"\nStopped after update {trainer.updates:,} of {updates:,}, saved in {file}. Go on with:\n"
                f"  minigrad train --resume {file}"
            )
            return status
        if self.standing is not None and not self.live:
            width = self.console.width
            self.say("\n‖dL/dh_t‖ over the last chunk, its height the logarithm:")
            self.console.print(strips(self.standing, width))
            self.console.print(through_training(trainer.history, width))
            if self.standing.sample:
                print(f"\nSample:\n{escaped(self.standing.sample)}")
        print(f"\nSaved in {file}. Next:\n  minigrad sample {file}\n  minigrad bptt --model {file}")
        return status

    def heading(self) -> Iterator[str]:
        s, v = self.settings, len(self.text.characters)
        count = sum(p.size for p in self.model.parameters())
        yield f"{self.title()}: {count:,} weights, seed {s['seed']}"
        held_out = f"last {len(self.held_out):,} held out" if len(self.held_out) else "none held out"
        yield f"Text      {self.text.name!r}: {len(self.text):,} characters, {v:,} different, {held_out}"
        stream = self.trainer.stream
        epoch = f"; {stream.per_epoch:,} read the text once" if isinstance(stream, Chunks) else ""
        yield f"Chunks    T={s['steps']} characters from each of N={s['batch']} streams{epoch}"
        clips = f", gradient clipped {self.clips()}" if self.clips() else ""
        yield f"Updates   {s['updates']:,}: {s['optimizer']}, learning rate {s['lr']:g} ({s['schedule']}){clips}"
        yield "Loss      nats a character: the mean of -log p(what came next)"
        if self.yardsticks is not None and not self.live:
            numbers = ", ".join(f"{name} {loss:.3f}" for name, loss in self.yardsticks.named.items())
            yield f"To beat   Models that only count reach, on the held-out text: {numbers}"
        if self.trainer.updates:
            yield f"Resumed   after update {self.trainer.updates:,}"

    def print_line(self, standing: Standing) -> None:
        """One line a report, under a head of its own."""
        if self.standing is None:
            self.say(f"\n{header(standing)}")
        self.say(line(standing))

    def say(self, text: str) -> None:
        """A line for a pipe, in ASCII where it has to be."""
        self.console.print(Shown(lambda _: RichText(text)), soft_wrap=True)
        self.console.file.flush()

    def title(self) -> str:
        s = self.settings
        return f"{s['cell'].upper()}, H={s['hidden']}" + (f", {s['layers']} layers" if s["layers"] > 1 else "")

    def clips(self) -> str:
        s = self.settings
        return f"at norm {s['clip']:g}" if s["clip"] else f"at value {s['clip_value']:g}" if s["clip_value"] else ""

    def caught(self, number: int) -> None:
        self.signal = number
        self.trainer.stopping = True

    def after(self, trainer: Trainer, step: Step) -> None:
        """What happens after each update."""
        self.tick()
        every, last = self.settings["every"], step.update == self.settings["updates"]
        if step.update % every and not last:
            return
        held_out = None
        try:
            if len(self.held_out):
                held_out = evaluate(self.model, self.held_out, steps=self.span)
            sample = self.sample(step.update)
        except NonFiniteError as error:
            raise NonFiniteError(f"update {step.update}: {error}") from None
        if held_out is not None and step.update % every == 0:  # the last update's own depends on where this run ends
            trainer.history.evaluations.append((step.update, held_out))
        history = trainer.history
        assert step.record is not None  # the trainer keeps one whenever there is a report
        diagnoses = [diagnose(step.record, sequence=name) for name in step.record.sequences]
        if step.update % every == 0:
            for found in diagnoses:
                history.diagnosed(step.update, found)
        standing = Standing(
            title=f"{self.title()}: update {step.update:,} of {self.settings['updates']:,}",
            update=step.update, updates=self.settings["updates"], loss=history.recent("loss", max(every, 100)),
            held_out=held_out, yardsticks={} if self.yardsticks is None else self.yardsticks.named,
            before=history.columns["norm_before"][-1], after=history.columns["norm_after"][-1], clips=self.clips(),
            fired=history.recent("fired", every), fired_ever=history.recent("fired", step.update),
            rate=history.columns["lr"][-1], sample=sample, history=history,
            readings={name: s.readings() for name, s in step.record.sequences.items()},
            words=in_words(step.record, diagnoses) if self.live else {},
        )  # fmt: skip
        self.show(standing)
        self.standing = standing
        if not last:
            self.save()

    def sample(self, update: int) -> str:
        """What the model writes now; the same for the same update, whatever was drawn before."""
        rng = np.random.default_rng([self.settings["seed"], update])
        return "".join(itertools.islice(self.model.sample(rng=rng), self.args.sample))

    @contextmanager
    def display(self) -> Iterator[None]:
        """On a terminal a bar and a panel that are redrawn in place."""
        if not self.live:
            yield
            return
        columns = (TextColumn("update"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=self.console)
        task = bar.add_task("", total=self.settings["updates"], completed=self.trainer.updates)
        next_tick = next_map = 0.0

        def tick() -> None:
            nonlocal next_tick, next_map
            now = time.monotonic()
            if now >= next_tick or self.trainer.updates == self.settings["updates"]:
                next_tick = now + 0.1
                bar.update(task, completed=self.trainer.updates)
            if now >= next_map and self.standing is not None and self.settings["norms_every"]:
                self.show(self.standing)  # whose map has grown since
                next_map = now + max(1.0, 30 * (time.monotonic() - now))

        self.console.print()
        with Live(bar, console=self.console, refresh_per_second=4) as live:
            self.tick = tick
            self.show = lambda standing: live.update(Group(panel(standing, *self.console.size), bar))
            yield


@contextmanager
def _caught(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` at the first Ctrl-C or request to end; a second one ends at once."""
    before: dict[int, Any] = {}

    def handler(received: int, frame: Any) -> None:
        act(received)
        restore()

    def restore() -> None:
        for each, old in before.items():
            signal.signal(each, old)

    for caught in (signal.SIGINT, signal.SIGTERM):
        try:
            before[caught] = signal.signal(caught, handler)
        except ValueError:  # not in the main thread: whoever runs this one handles its signals
            break
    try:
        yield
    finally:
        restore()
