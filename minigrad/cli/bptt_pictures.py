"""What `minigrad bptt` draws: the pictures of each model, their names and files, and the page."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import replacing
from ..character import CharacterModel
from ..errors import DrawError, MinigradError
from ..views import draw
from ..views.page import page
from ..views.picture import ENGINES, Picture
from .bptt_models import Look, Variant

__all__ = ["check_drawing", "check_folder", "draw_all", "names_of", "shown_path", "write_page"]

_MAP_FROM = 10  # longer sequences get a strip beside the chosen level: there the middle is folded
_CHUNKS = 4  # into which the picture of truncation cuts the steps


# Before any work


def check_drawing(args: argparse.Namespace) -> None:
    if args.format == "pdf" and args.engine == ENGINES[0]:
        raise MinigradError("--format pdf: graphviz-pure writes no PDF.\n  Give --engine dot or --format svg.")
    if args.format == "pdf":
        args.engine = "dot"
    if args.format == "dot" and args.open:
        raise MinigradError("--open: --format dot writes sources, no pictures.\n  Give --format svg, png or pdf.")


def check_folder(option: str, out: str, names: Sequence[str]) -> None:
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


def names_of(args: argparse.Namespace, variants: Sequence[Variant], model: CharacterModel | None) -> list[str]:
    """Of all pictures that will be drawn, without their folder and format."""
    names = ["cells"] * (len(variants) > 1)
    for key, *_ in variants:
        walks = [""] if model is None or len(model.layer.walks) == 1 else [f"_{w.name}" for w in model.layer.walks]
        names += [f"{key}_layers"] * (len(walks) > 1)
        drawn = [*_levels(args), "clipping", *["clipping_backward"] * ("clipping" in args.show)]
        names += [f"{key}{walk}_{what}" for walk in walks for what in drawn]
        names += [f"{key}_{measure}" for measure in _shown_whole(args)]
    return names


# Drawing


def draw_all(looks: Mapping[str, Look], args: argparse.Namespace) -> tuple[dict[str, list[str]], str | None]:
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
        files.setdefault(cell, []).append(shown_path(path))
    return files, failure


def _pictures(looks: Mapping[str, Look], args: argparse.Namespace) -> Iterator[tuple[str, str, Picture]]:
    """Whose picture, the file's name, the picture."""
    if len(looks) > 1:
        records = {look.variant.title: look.record for look in looks.values()}
        labels = next(iter(looks.values())).labels[:-1]
        yield "cells", "cells", draw.compare(records, everything=args.all, labels=labels)
    for cell, look in looks.items():
        read: dict[str, Any] = {"everything": args.all, "labels": look.labels[:-1]}
        options = {**read, "targets": look.labels[1:]}
        assert look.record.clipping is not None
        if len(look.record.sequences) > 1:
            picture = draw.unrolled(look.record, "cell", **options)
            yield cell, f"{cell}_layers", picture
        for sequence in look.record.sequences:
            name = f"{cell}_{sequence}" if len(look.record.sequences) > 1 else cell
            for level in _levels(args):
                picture = draw.unrolled(look.record, level, sequence=sequence, **options)
                yield cell, f"{name}_{level}", picture
            picture = draw.clipping(look.record, look.record.clipping, sequence=sequence, **read)
            yield cell, f"{name}_clipping", picture
            if "clipping" in args.show:
                _, _, in_backward, *_ = look.measured[sequence]["clipping"]
                picture = draw.unrolled(look.record, _overview(args), overlay=in_backward, sequence=sequence, **options)
                yield cell, f"{name}_clipping_backward", picture
        for measure in _shown_whole(args):
            yield cell, f"{cell}_{measure}", _overlay(measure, look, args, options)


def _levels(args: argparse.Namespace) -> list[str]:
    """The levels to draw: the chosen one, and the strip as a map of what it folds."""
    return [args.level] + ["strip"] * (args.level != "strip" and args.steps > _MAP_FROM)


def _shown_whole(args: argparse.Namespace) -> list[str]:
    """The measures that come in one picture of all layers."""
    return [name for name in args.show if name != "clipping"]


def _overview(args: argparse.Namespace) -> str:
    """The level at which the numbers of all steps are seen."""
    return "strip" if args.steps > _MAP_FROM else "cell"


def _overlay(name: str, look: Look, args: argparse.Namespace, options: dict[str, Any]) -> Picture:
    """One measure of all layers on the unrolled graph."""
    if name == "truncation":  # a strip has no room for what each cut loses
        return draw.truncation(look.record, every=math.ceil(args.steps / _CHUNKS), **options)
    found = [measures[name] for measures in look.measured.values()]
    if name == "terms":
        found = [term for terms in found for term in terms]
    if name == "attribution":  # where none enters, the graph without it shows that its gradient is 0
        found = [x for x in found if x.enters.any()]
    return draw.unrolled(look.record, _overview(args), overlay=found or None, **options)


def write_page(looks: Mapping[str, Look], args: argparse.Namespace) -> None:
    """The network of each cell over its training, in one file."""
    histories = {look.variant.title: look.history for look in looks.values()}
    html = page(histories, labels=next(iter(looks.values())).labels[:-1])
    path = Path(args.html)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(html.encode())


def shown_path(path: Path) -> str:
    """Relative to the current folder where it lies in it."""
    full = path.absolute()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(path)
